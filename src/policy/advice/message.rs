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
    steps: &["correct the address in the device's address book"],
};

pub(super) static NO_SMTPUTF8: Entry = Entry {
    slug: "no-smtputf8",
    title: "An address needs SMTPUTF8",
    blame: Side::Message,
    texts: &["RCPT TO: an address needs SMTPUTF8, which the server does not offer"],
    meaning: "an address has letters beyond ascii, which the server cannot take",
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
        "501 5.1.7 Invalid address",
    ],
    meaning: "the message was refused",
    steps: &["the server's words say why; once that is mended: mailferry queue retry ID"],
};
