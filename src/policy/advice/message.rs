//! Entries: a message, its sender and its recipients.

use super::{Entry, Side};

pub(super) static SEND_AS: Entry = Entry {
    slug: "send-as",
    title: "5.2.252 SendAsDenied; 5.7.60 Client does not have permissions to send as this sender",
    blame: Side::Mailbox,
    texts: &[
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        "554 5.2.252 SendAsDenied; scanner@contoso.com not allowed to send as boss@contoso.com",
        "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
    ],
    meaning: "the mailbox may not send with this sender address",
    waiting: None,
    steps: &[
        "let mailferry rewrite it: remove the address from send_as of {mailbox}",
        "or allow it: Add-RecipientPermission -Identity ADDRESS -Trustee {mailbox} -AccessRights SendAs",
        "then bring the message back: mailferry queue retry ID",
    ],
};

pub(super) static TOO_LARGE: Entry = Entry {
    slug: "too-large",
    title: "552 5.3.4 Message size exceeds fixed maximum message size",
    blame: Side::Message,
    texts: &[
        "552 5.3.4 Message size exceeds fixed maximum message size",
        "MAIL FROM: 40000000 bytes are more than the 36700160 the server takes",
    ],
    meaning: "the message is larger than the server takes",
    waiting: None,
    steps: &[
        "scan with fewer dots an inch or in fewer pages",
        "or raise the limit: Set-Mailbox {mailbox} -MaxSendSize 150MB",
    ],
};

pub(super) static SIZE_BELOW_OURS: Entry = Entry {
    slug: "size-below-ours",
    title: "The server announces a smaller SIZE than max_message_size",
    blame: Side::Host,
    texts: &["the server takes 10 MiB a message, devices may send 35 MiB (max_message_size)"],
    meaning: "a device's message between the two sizes is accepted, and then becomes a dead letter",
    waiting: None,
    steps: &[
        "lower max_message_size in [receive], so that the device is told at once",
        "or raise the mailbox's: Set-Mailbox {mailbox} -MaxSendSize 150MB",
    ],
};

pub(super) static NO_SUCH_RECIPIENT: Entry = Entry {
    slug: "no-such-recipient",
    title: "550 5.1.10 RecipientNotFound, 550 5.1.1 User unknown, 550 5.4.1 Recipient address rejected",
    blame: Side::Message,
    texts: &[
        "550 5.1.1 User unknown",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        "550 5.4.1 Recipient address rejected: Access denied",
        "501 5.1.3 Invalid address",
    ],
    meaning: "the recipient's address is refused",
    waiting: None,
    steps: &["correct the address in the device's address book"],
};

pub(super) static NO_SMTPUTF8: Entry = Entry {
    slug: "no-smtputf8",
    title: "An address needs SMTPUTF8",
    blame: Side::Message,
    texts: &["RCPT TO: an address needs SMTPUTF8, which the server does not offer"],
    meaning: "an address has letters beyond ascii, which the server cannot take",
    waiting: None,
    steps: &[
        "use an address of plain letters for this recipient; most mailboxes with another have one beside it",
        "is it the account's own mailbox? give the account one whose address is of plain letters",
    ],
};

pub(super) static REFUSED: Entry = Entry {
    slug: "message-refused",
    title: "554 5.6.0 Corrupt message content, 550 5.6.11 Invalid characters, 550 5.7.512",
    blame: Side::Message,
    texts: &[
        "554 5.6.0 Corrupt message content",
        "550 5.6.11 Invalid characters (bare LF)",
        "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant",
    ],
    meaning: "the message was refused",
    waiting: None,
    steps: &[
        "the server's words say why; 5.7.512 is about From: exactly one, with one address",
        "once that is mended: mailferry queue retry ID",
    ],
};

pub(super) static HEADER_TOO_LARGE: Entry = Entry {
    slug: "header-too-large",
    title: "552 5.3.4 Header size exceeds fixed maximum size",
    blame: Side::Message,
    texts: &["552 5.3.4 Header size exceeds fixed maximum size"],
    meaning: "the header alone is larger than the server takes; the size of the scan does not matter",
    waiting: None,
    steps: &[
        "fewer recipients in To and Cc (use a group), and fewer or shorter header fields of the program's own",
    ],
};

pub(super) static LOOP: Entry = Entry {
    slug: "mail-loop",
    title: "554 5.4.6 Hop count exceeded - possible mail loop",
    blame: Side::Host,
    texts: &["554 5.4.6 Hop count exceeded - possible mail loop"],
    meaning: "the message has been through too many servers: it goes in a circle",
    waiting: None,
    steps: &[
        "find what sends mail back to this relay: a mail flow rule, a forwarding, a connector or an mx that names it; the \
         Received fields show the circle: mailferry queue show ID",
    ],
};

pub(super) static VIRUS: Entry = Entry {
    slug: "virus",
    title: "A virus scanner refuses the message",
    blame: Side::Message,
    texts: &["554 5.7.1 Infected: PUA.Pdf.Trojan.EmbeddedJavaScript-1", "552 5.7.1 virus detected"],
    meaning: "the smart host's virus scanner takes the message for infected",
    waiting: None,
    steps: &[
        "look at what was sent and at the device that sent it; a false alarm is for the scanner's admin at the smart host",
    ],
};

pub(super) static CONTENT: Entry = Entry {
    slug: "content-refused",
    title: "The content is refused by a policy or a spam filter",
    blame: Side::Message,
    texts: &[
        "554 Transaction failed\nReject due to policy restrictions.",
        "554 rejecting banned content",
        "550 rejecting spoofed message",
        "554 5.7.1 Message rejected as spam",
    ],
    meaning: "a filter at the smart host refuses this message: its content, an attachment, a link or its header fields",
    waiting: None,
    steps: &[
        "the server's words say which rule; look at attachment types, links, and at the header fields (From, Date and \
         Message-ID once each, a From of a domain that the account may use)",
        "ask the smart host's admin to let it pass, then: mailferry queue retry ID",
    ],
};

pub(super) static TENANT_LIST: Entry = Entry {
    slug: "tenant-allow-block-list",
    title: "550 5.7.703 blocked by your organization using Tenant Allow Block List",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.703 Your message can't be delivered because messages to a@b.example are blocked by your organization using \
         Tenant Allow Block List.",
    ],
    meaning: "the organisation's own tenant allow/block list forbids mail to this address or domain",
    waiting: None,
    steps: &[
        "microsoft defender portal > Policies & rules > Threat policies > Tenant Allow/Block Lists: remove the entry, then: \
         mailferry queue retry ID",
    ],
};

pub(super) static RECIPIENT_FULL: Entry = Entry {
    slug: "recipient-full",
    title: "552 5.2.2 The recipient's mailbox is full",
    blame: Side::Message,
    texts: &[
        "552 5.2.2 Mailbox full",
        "552 Requested mail action aborted: exceeded storage allocation Quota exceeded.",
    ],
    meaning: "the recipient's mailbox is full; address and message are right",
    waiting: None,
    steps: &["the recipient has to make room; then: mailferry queue retry ID"],
};

pub(super) static RECIPIENT_BUSY: Entry = Entry {
    slug: "recipient-busy",
    title: "554 5.2.122 The recipient has exceeded their limit of messages per hour",
    blame: Side::Message,
    texts: &[
        "554 5.2.122 The recipient has exceeded their limit for the number of messages they can receive per hour.",
    ],
    meaning: "the address is right, but it gets too many messages an hour",
    waiting: None,
    steps: &[
        "find what sends so much to it; an hour later: mailferry queue retry ID",
        "many alarms to one mailbox are better sent to a group, or as one message",
    ],
};

pub(super) static RECIPIENT_RESTRICTED: Entry = Entry {
    slug: "recipient-restricted",
    title: "550 5.7.129 RestrictedToRecipientsPermission; RESOLVER.RST.AuthRequired",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.129 RESOLVER.RST.RestrictedToRecipientsPermission; not authorized",
        "550 5.7.1 RESOLVER.RST.AuthRequired; authentication required",
    ],
    meaning: "the recipient accepts mail from listed senders only",
    waiting: None,
    steps: &[
        "let the sender in: exchange admin center > Recipients > Groups (or the mailbox) > Delivery management; \
         Set-DistributionGroup GROUP -AcceptMessagesOnlyFromSendersOrMembers takes the list of them, {mailbox} among them",
        "then: mailferry queue retry ID",
    ],
};

pub(super) static HIGH_VOLUME_RECIPIENT: Entry = Entry {
    slug: "high-volume-recipient",
    title: "550 5.5.105 High Volume Email takes internal recipients only",
    blame: Side::Mailbox,
    texts: &["550 5.5.105 External recipients are not allowed"],
    meaning: "high volume email takes recipients of the own organisation only",
    waiting: None,
    steps: &[
        "send external mail by another account: an [[account]] of its own with a licensed mailbox at smtp.office365.com",
        "then: mailferry queue retry ID",
    ],
};

pub(super) static RECIPIENT_REFUSED: Entry = Entry {
    slug: "recipient-refused",
    title: "550 at RCPT TO, in words that say no more",
    blame: Side::Message,
    texts: &["550 5.0.0 something else"],
    meaning: "the server refuses this recipient; others go through",
    waiting: None,
    steps: &[
        "the server's words say why: is the address right?",
        "if it is right, the recipient's mail admin has to say what is wrong with it; then: mailferry queue retry ID",
    ],
};

pub(super) static FOREIGN_HOST: Entry = Entry {
    slug: "foreign-host",
    title: "The recipient's own host refuses, and the smart host passes it on",
    blame: Side::Message,
    texts: &["RCPT TO: 550 5.7.1 relaying denied, while recipients of other domains are taken"],
    meaning: "the host that takes mail for this recipient refuses it; the smart host takes others of this account, so the \
              account is in order",
    waiting: None,
    steps: &[
        "is the address right, its domain above all? a domain whose mx names a host that does not know it is refused so",
        "ask the recipient's mail admin: the words are those of their host; then: mailferry queue retry ID",
    ],
};
