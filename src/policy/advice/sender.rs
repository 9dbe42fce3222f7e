//! Entries: the sender's address, and what its domain says of itself.

use super::{Entry, Side};

const RELEASE: &str = "then bring the message back: mailferry queue retry ID";

pub(super) static NOT_OURS: Entry = Entry {
    slug: "sender-not-ours",
    title: "Sender address rejected: not owned by user; must be same as authorization user",
    blame: Side::Mailbox,
    texts: &[
        "553 5.7.1 <a@contoso.com>: Sender address rejected: not owned by user b@contoso.com",
        "501 mail from address must be same as authorization user",
        "553 Local user only",
    ],
    meaning: "the account that is logged in may not send with this sender's address",
    waiting: None,
    steps: &[
        "let mailferry rewrite the sender to {mailbox}: remove the address from send_as of the account",
        "or allow the login to send as it, at the smart host (an alias or a sender's identity of that mailbox)",
        RELEASE,
    ],
};

pub(super) static NOT_VERIFIED: Entry = Entry {
    slug: "sender-not-verified",
    title: "The sender or its domain is not verified at the provider",
    blame: Side::Mailbox,
    texts: &[
        "550 From header sender domain not verified",
        "554 Message rejected: Email address is not verified. The following identities failed the check",
        "550 The from address does not match a verified Sender Identity",
    ],
    meaning: "the provider takes mail of verified senders only, and this sender or its domain is none",
    waiting: None,
    steps: &[
        "verify the domain of the sender (or the address) in the provider's portal: sender identities, domains",
        "or let mailferry rewrite the sender to {mailbox}, if that one is verified: remove the address from send_as",
        "an account that is still in a sandbox may write to verified recipients only: ask the provider to lift it",
        RELEASE,
    ],
};

pub(super) static REFUSED: Entry = Entry {
    slug: "sender-refused",
    title: "550 5.1.0 Sender denied; 501 5.1.7 Invalid address",
    blame: Side::Message,
    texts: &[
        "550 5.1.0 Sender denied",
        "501 5.1.7 Invalid address",
        "550 5.1.8 <a@b.example>: Sender address rejected: Domain not found",
    ],
    meaning: "the sender's address is refused",
    waiting: None,
    steps: &[
        "correct the sender address at the device; its domain must exist and take mail",
        "or let mailferry rewrite it to {mailbox}: remove the address from send_as",
        RELEASE,
    ],
};

pub(super) static AUTHENTICATION: Entry = Entry {
    slug: "spf-dkim-dmarc",
    title: "5.7.509 does not pass DMARC verification; 5.7.515 required authentication level; SPF, DKIM",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.509 Access denied, sending domain [CONTOSO.COM] does not pass DMARC verification and has a DMARC policy of \
         reject.",
        "550 5.7.515 Access denied, sending domain CONTOSO.COM doesn't meet the required authentication level.",
        "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
        "550 5.7.26 Unauthenticated email from contoso.com is not accepted due to domain's DMARC policy",
    ],
    meaning: "what the sender's domain says of itself (spf, dkim, dmarc) does not fit the way this mail takes",
    waiting: None,
    steps: &[
        "submit with smtp auth through the provider that sends for this domain: then its spf and dkim fit",
        "without a login, the domain's spf record must name this site's public address (v=spf1 ip4:ADDRESS ...)",
        "for outlook.com and gmail the domain needs spf, dkim and dmarc, all three: dkim is switched on at the provider \
         (defender portal > Email authentication settings)",
        RELEASE,
    ],
};

pub(super) static HIGH_VOLUME: Entry = Entry {
    slug: "high-volume-sender",
    title: "5.7.62, 5.6.241: High Volume Email takes its own address as sender only",
    blame: Side::Mailbox,
    texts: &["550 5.7.62 The sender is not the account", "550 5.6.241 The header From is not the account"],
    meaning: "high volume email takes mail only when the sender, in the envelope and in From, is the account itself",
    waiting: None,
    steps: &[
        "let mailferry rewrite the sender: send_as of {mailbox} must be empty",
        "mail of other senders belongs to another account, with a mailbox of its own",
        RELEASE,
    ],
};
