//! Entries: what a mailbox or tenant may send, and when it was too much.

use super::{Entry, Side};

pub(super) static CONNECTIONS: Entry = Entry {
    slug: "too-many-connections",
    title: "432 4.3.2 Concurrent connections limit exceeded",
    blame: Side::Mailbox,
    texts: &[
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit",
    ],
    meaning: "the mailbox has too many connections at once",
    waiting: Some(
        "nothing: mailferry goes on with fewer. is another program sending as {mailbox}? three are allowed",
    ),
    steps: &["if it stays: max_connections = 1 in the account"],
};

pub(super) static RATE: Entry = Entry {
    slug: "submission-rate",
    title: "421 4.4.2 Message submission rate exceeded",
    blame: Side::Mailbox,
    texts: &["421 4.4.2 Message submission rate for this client has exceeded the configured limit"],
    meaning: "the mailbox sends too many messages a minute",
    waiting: Some(
        "nothing: mailferry waits. is another program sending as {mailbox}? thirty a minute are allowed",
    ),
    steps: &[],
};

pub(super) static DAILY: Entry = Entry {
    slug: "daily-limit",
    title: "550 5.1.90 daily limit for message recipients",
    blame: Side::Mailbox,
    texts: &[
        "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
    ],
    meaning: "the mailbox has reached its limit of recipients a day",
    waiting: None,
    steps: &[
        "wait: it is a rolling day, and everything is kept",
        "for more than 10,000 recipients a day use a second mailbox or high volume email",
    ],
};

pub(super) static MAILBOX_FULL: Entry = Entry {
    slug: "mailbox-full",
    title: "554 5.2.2 mailbox full (QuotaExceededException)",
    blame: Side::Mailbox,
    texts: &["554 5.2.2 mailbox full; STOREDRV.Submission QuotaExceededException"],
    meaning: "the sending mailbox is full (copies in sent items count)",
    waiting: None,
    steps: &[
        "empty Sent Items of {mailbox}",
        "and stop the copies: Set-Mailbox {mailbox} -MessageCopyForSMTPClientSubmissionEnabled $false",
    ],
};

pub(super) static SENDER_THROTTLED: Entry = Entry {
    slug: "sender-throttled",
    title: "550 5.2.251 to 5.2.255 Sender throttled",
    blame: Side::Mailbox,
    texts: &[
        "550 5.2.251 Sender throttled due to continuous mailbox full errors",
        "550 5.2.252 Sender throttled due to continuous send as denied errors",
        "550 5.2.253 Sender throttled due to continuous invalid license errors",
        "550 5.2.254 Sender throttled due to continuous too many recipients errors",
        "550 5.2.255 Sender throttled due to continuous invalid recipients errors",
    ],
    meaning: "microsoft throttles this mailbox because of many refused messages",
    waiting: None,
    steps: &[
        "find the cause among the dead letters (mailferry queue list --state dead): full mailbox, send-as, a \
         licence, too many or invalid recipients; it is lifted by itself some hours after the refusals end",
    ],
};

pub(super) static BLOCKED: Entry = Entry {
    slug: "sending-blocked",
    title: "550 5.1.8 Access denied, bad outbound sender",
    blame: Side::Mailbox,
    texts: &[
        "550 5.1.8 Access denied, bad outbound sender AS(42004)",
        "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException",
        "550 5.7.501 Access denied, spam abuse detected",
        "550 5.7.502 Access denied, banned sender",
        "550 5.7.503 Access denied, banned sender",
    ],
    meaning: "microsoft has blocked this mailbox from sending",
    waiting: None,
    steps: &[
        "microsoft defender portal > Email & collaboration > Review > Restricted entities: unblock {mailbox}, after \
         finding out what was sent",
    ],
};

pub(super) static TENANT_BLOCKED: Entry = Entry {
    slug: "tenant-blocked",
    title: "550 5.7.705 tenant has exceeded threshold",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.705 Access denied, tenant has exceeded threshold",
        "550 5.7.708 Access denied, traffic not accepted from this IP",
        "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains",
        "550 5.7.232 Your message can't be sent because your trial tenant has exceeded its daily limit",
        "550 5.7.233 Your message can't be sent because your tenant has exceeded its daily limit",
    ],
    meaning: "the whole tenant is blocked or limited in sending",
    waiting: None,
    steps: &[
        "microsoft 365 admin center > Health, and the defender portal > Restricted entities; a new or trial tenant may \
         not send much: open a case with microsoft",
    ],
};

pub(super) static PROVIDER: Entry = Entry {
    slug: "provider-limit",
    title: "Daily or hourly limit of the provider",
    blame: Side::Mailbox,
    texts: &[
        "550 5.4.5 Daily user sending limit exceeded",
        "550 5.7.1 Daily SMTP relay limit exceeded for customer",
        "554 5.7.1 <DATA>: Data command rejected: only 10 messages per day",
        "450 4.3.2 Please wait to send more emails, or contact support for a rate limit increase.",
    ],
    meaning: "the account has sent as much as its provider allows for now",
    waiting: None,
    steps: &[
        "wait: a limit a day ends within a day, one an hour within an hour; mail is kept and sent then",
        "set messages_per_minute and recipients_per_day of the account below the provider's limits, or ask it for more",
        "is another program sending as {mailbox}?",
    ],
};

pub(super) static ONMICROSOFT: Entry = Entry {
    slug: "onmicrosoft-sender",
    title: "550 5.7.236 onmicrosoft.com sender",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.236 Your organization has exceeded the limit for messages sent from onmicrosoft.com domains",
    ],
    meaning: "senders of an onmicrosoft.com domain may write to 100 external recipients in 24 hours, and did",
    waiting: None,
    steps: &[
        "give {mailbox} an address in a domain of your own as its primary one: Set-Mailbox {mailbox} -WindowsEmailAddress \
         ADDRESS, and name that one in the configuration",
        "until then wait: the 24 hours roll, and everything is kept",
    ],
};

pub(super) static RECIPIENTS: Entry = Entry {
    slug: "too-many-recipients",
    title: "452 4.5.3 Too many recipients",
    blame: Side::Service,
    texts: &[
        "452 4.5.3 Too many recipients",
        "452 #4.5.3 Too many recipients.",
        "552 5.5.3 Maximum limit of 50 recipients reached",
    ],
    meaning: "one message may not have so many recipients; the rest go in the next transaction",
    waiting: Some("nothing: mailferry sends to the rest by itself"),
    steps: &[],
};
