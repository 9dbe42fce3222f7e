//! The relay's own mail: delivery status notifications (RFC 3464) and plain notices to the admin.
//!
//! Invariant: a notification is never answered with another (`may_answer`, `Auto-Submitted`, and a null
//! reverse-path that the caller gives it); what peers said stands in it escaped, on lines of its own that can be
//! no boundary and no field. Content has CRLF line ends and is stored like any message.
//! Must not know: who is told and when; the queue.

use crate::letter::address_list::named;
use crate::letter::charset::Charsets;
use crate::letter::field::{downgraded, encode_head};
use crate::letter::head::{Head, NewHead};
use crate::letter::words::{Words, read_text};
use crate::mail::{
    Cause, EnhancedStatus, Escaped, Failure, Mailbox, QueueId, QueuedMessage, ReversePath, WallTime,
};
use std::fmt::Write as _;

/// Of the original head, so much is returned.
const MAX_RETURNED_BYTES: usize = 16 * 1024;
/// Of a subject, so many characters are repeated.
const MAX_SUBJECT_CHARS: usize = 120;
/// Plain text is wrapped here where a space allows.
const TEXT_WIDTH: usize = 76;

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Given up: the server or a rule said no for good.
    Failed,
    /// Not yet delivered; still tried.
    Delayed {
        /// Until when.
        until: WallTime,
    },
    /// Given up: tried for `expire_after` in vain.
    Expired,
}

/// One notification about one message.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// What happened.
    pub kind: Kind,
    /// The notification's own queue id.
    pub id: QueueId,
    /// The message it is about.
    pub message: &'a QueuedMessage,
    /// Its head as stored.
    pub original_head: &'a [u8],
    /// The recipients it is about, each with the last failure, if there was one.
    pub failures: &'a [(&'a Mailbox, Option<&'a Failure>)],
    /// What to do about it, a paragraph each.
    pub advice: &'a [String],
    /// Other recipients are still waited for.
    pub goes_on: bool,
    /// The relay's own name.
    pub hostname: &'a str,
    /// It is about mail that goes to the sandbox.
    pub is_sandbox: bool,
    /// From: the account's mailbox.
    pub from: &'a Mailbox,
    /// To: the sender of the message, or the admins.
    pub to: &'a [Mailbox],
    /// Date.
    pub now: WallTime,
}

/// A plain notice to the admin.
#[derive(Debug, Clone)]
pub struct AdminNotice<'a> {
    /// Its queue id.
    pub id: QueueId,
    /// What it is about, on one line.
    pub subject: &'a str,
    /// Its paragraphs. Peer text is escaped before it gets here; line ends are removed.
    pub paragraphs: &'a [String],
    /// The relay's own name.
    pub hostname: &'a str,
    /// It is about mail that goes to the sandbox.
    pub is_sandbox: bool,
    /// From: the account's mailbox.
    pub from: &'a Mailbox,
    /// To.
    pub to: &'a [Mailbox],
    /// Date.
    pub now: WallTime,
}

/// A head with its empty line, and a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Whole.
    pub head: Vec<u8>,
    /// CRLF line ends.
    pub content: Vec<u8>,
}

/// Whether the sender may be told. Never for a null or unusable reverse-path (RFC 5321 section 6.1), nor for what
/// a machine sent for a machine, or to a list, or for whom nobody reads (RFC 3834 section 2).
pub fn may_answer(message: &QueuedMessage, head: &[u8]) -> bool {
    let ReversePath::Mailbox(mailbox) = &message.reverse_path else { return false };
    let local = mailbox.local().to_ascii_lowercase();
    let nobody = local == "mailer-daemon" || local.starts_with("owner-") || local.ends_with("-request");
    mailbox.has_public_domain()
        && !nobody
        && !is_automatic(head)
        && !says(head, "Content-Type", &["multipart/report"])
        && !suppresses_reports(head)
}

/// Whether a machine answered with it what this relay wrote: a notice about it would be answered, too, and so on.
pub fn answers_us(head: &[u8], hostname: &str) -> bool {
    let ours = format!("@{}>", one_line(hostname)).to_ascii_lowercase();
    let names_us = |name| {
        let mut fields = Head::of(head).all(name);
        fields.any(|f| String::from_utf8_lossy(&f.unfolded()).to_ascii_lowercase().contains(&ours))
    };
    is_automatic(head) && (names_us("In-Reply-To") || names_us("References"))
}

fn is_automatic(head: &[u8]) -> bool {
    Head::of(head).has("Auto-Submitted") && !says(head, "Auto-Submitted", &["no"])
        || says(head, "Precedence", &["bulk", "junk", "list", "auto_reply"])
        || Head::of(head).has("List-Id")
}

/// As Exchange and Outlook ask for it (MS-OXCMAIL, the field of this name).
fn suppresses_reports(head: &[u8]) -> bool {
    let mut fields = Head::of(head).all("X-Auto-Response-Suppress");
    fields.any(|f| words_of(&f.unfolded()).iter().any(|w| matches!(w.as_str(), "all" | "ndr" | "autoreply")))
}

/// Whether a field of this name begins with one of these words.
fn says(head: &[u8], name: &str, words: &[&str]) -> bool {
    Head::of(head).all(name).any(|f| words.contains(&words_of(&f.unfolded())[0].as_str()))
}

fn words_of(value: &[u8]) -> Vec<String> {
    let value = Charsets::default().read(value).to_ascii_lowercase();
    value.split([';', ',', ' ']).map(str::to_owned).collect()
}

impl Report<'_> {
    /// As a multipart/report: words for people, fields for programs, the head of the message.
    pub fn write(&self) -> Written {
        let subject = self.subject();
        let boundary = format!("=_{}_report", self.id);
        let title = match self.kind {
            Kind::Failed | Kind::Expired => "Not delivered: ",
            Kind::Delayed { .. } => "Delayed: ",
        };
        let mut head = self.common_head(&format!("{title}{subject}"));
        let id = Head::of(self.original_head).first("Message-ID").map(|f| f.unfolded());
        if let Some(id) = id.filter(|id| is_id(id)) {
            let id = Words::plain(&String::from_utf8_lossy(&id));
            head.add_words("In-Reply-To", &id);
            head.add_words("References", &id);
        }
        head.add("Auto-Submitted", "auto-replied");
        head.add("X-Auto-Response-Suppress", "All");
        let kind = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
        head.add_words("Content-Type", &Words::plain(&kind));

        let text = self.text(&subject);
        let mut content = Vec::new();
        let mut part = |heading: &str, bytes: &[u8]| {
            content.extend_from_slice(format!("--{boundary}\r\n{heading}\r\n\r\n").as_bytes());
            content.extend_from_slice(bytes);
            content.extend_from_slice(b"\r\n");
        };
        let transfer = if text.is_ascii() { "7bit" } else { "8bit" };
        part(
            &format!("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {transfer}"),
            text.as_bytes(),
        );
        part("Content-Type: message/delivery-status", self.status_fields().as_bytes());
        part("Content-Type: text/rfc822-headers", &self.returned_head());
        content.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Written { head: head.finish(), content }
    }

    fn subject(&self) -> String {
        let field = Head::of(self.original_head).first("Subject");
        let text = field.map(|f| read_text(&self.charsets().read(&f.unfolded()))).unwrap_or_default();
        let cut: String = text.trim().chars().take(MAX_SUBJECT_CHARS).collect();
        if cut.is_empty() { "(no subject)".to_owned() } else { cut }
    }

    fn charsets(&self) -> Charsets {
        Charsets::of_client(self.message.charset.as_deref()).declared_in(Head::of(self.original_head))
    }

    fn common_head(&self, subject: &str) -> NewHead {
        let subject = marked(self.is_sandbox, subject);
        common_head(self.id, self.hostname, self.from, self.to, self.now, &subject)
    }

    fn text(&self, subject: &str) -> String {
        let mut out = String::new();
        let message = self.message;
        let origin =
            message.peer.map_or_else(|| message.client.to_string(), |p| format!("{} ({p})", message.client));
        let opening = match self.kind {
            Kind::Failed => "This message could not be delivered, and it will not be tried again by itself:".to_owned(),
            Kind::Expired => {
                "This message could not be delivered in the time allowed, and it will not be tried again by itself:"
                    .to_owned()
            }
            Kind::Delayed { until } => format!(
                "This message has not been delivered yet. It is tried again until {}; nothing has to be done unless it \
                 is urgent:",
                until.rfc5322()
            ),
        };
        if self.is_sandbox {
            paragraph(&mut out, "", IN_SANDBOX);
        }
        paragraph(&mut out, "", &opening);
        for (name, value) in [
            ("Subject", Escaped(subject.as_bytes()).to_string()),
            ("Received", message.received_at.rfc5322()),
            ("From", format!("{} at {}", message.reverse_path, Escaped(origin.as_bytes()))),
            ("Queue id", message.id.to_string()),
        ] {
            // Folded by hand: a value keeps to its line so that it can be copied.
            let _ = write!(out, "    {name}: {}\r\n", one_line(&value));
        }
        out.push_str("\r\n");
        paragraph(
            &mut out,
            "",
            match self.kind {
                Kind::Delayed { .. } => "Who is still waiting for it, and what was said last:",
                _ => "Who did not get it, and why:",
            },
        );
        for (recipient, failure) in self.failures {
            let _ = write!(out, "    {recipient}\r\n");
            let why = failure.map_or_else(|| "no attempt has been made yet".to_owned(), ToString::to_string);
            paragraph(&mut out, "        ", &why);
        }
        if !self.advice.is_empty() {
            paragraph(&mut out, "", "What to do:");
            for advice in self.advice {
                paragraph(&mut out, "    ", advice);
            }
        }
        if !matches!(self.kind, Kind::Delayed { .. }) {
            let keeps = if self.goes_on {
                "The relay keeps the message and still tries other recipients. Once it has ended with them, an \
                 administrator can have it sent again there, with:"
            } else {
                "The relay keeps the message. An administrator can have it sent again there, with:"
            };
            paragraph(&mut out, "", keeps);
            let _ = write!(out, "    mailferry queue retry {}\r\n", self.message.id);
        }
        out
    }

    /// RFC 3464 section 2.2 and 2.3.
    fn status_fields(&self) -> String {
        let mut out = String::new();
        let _ = write!(out, "Reporting-MTA: dns; {}\r\n", one_line(self.hostname));
        let _ = write!(out, "Arrival-Date: {}\r\n", self.message.received_at.rfc5322());
        for (recipient, failure) in self.failures {
            let _ = write!(out, "\r\nFinal-Recipient: {}\r\n", typed(recipient));
            let action = if matches!(self.kind, Kind::Delayed { .. }) { "delayed" } else { "failed" };
            let _ = write!(out, "Action: {action}\r\nStatus: {}\r\n", self.status(*failure));
            if let Some(reply) = failure.and_then(Failure::reply) {
                let value = Words::text(&format!("smtp; {reply}"));
                out.push_str(&String::from_utf8_lossy(&value.field("Diagnostic-Code")));
            }
            match self.kind {
                Kind::Delayed { until } => {
                    let _ = write!(out, "Will-Retry-Until: {}\r\n", until.rfc5322());
                }
                Kind::Failed | Kind::Expired => {
                    let _ = write!(out, "Last-Attempt-Date: {}\r\n", self.now.rfc5322());
                }
            }
        }
        out
    }

    /// RFC 3463. The server's own code, else what comes nearest to the cause.
    fn status(&self, failure: Option<&Failure>) -> EnhancedStatus {
        let class = if matches!(self.kind, Kind::Failed) { 5 } else { 4 };
        let Some(failure) = failure else { return EnhancedStatus::new(4, 4, 7) };
        match &failure.cause {
            Cause::Reply(reply) | Cause::TokenRejected { reply, .. } => reply
                .status
                .unwrap_or_else(|| EnhancedStatus::new(if reply.is_permanent() { 5 } else { class }, 0, 0)),
            _ if self.kind == Kind::Expired => EnhancedStatus::new(4, 4, 7),
            Cause::Network(_) => EnhancedStatus::new(class, 4, 1),
            Cause::Timeout => EnhancedStatus::new(class, 4, 2),
            Cause::Unparsable(_) => EnhancedStatus::new(class, 5, 0),
            Cause::Certificate(_)
            | Cause::Handshake { .. }
            | Cause::NoStartTls
            | Cause::NoAuth
            | Cause::Token(_) => EnhancedStatus::new(class, 7, 0),
            Cause::TooLarge { .. } => EnhancedStatus::new(5, 3, 4),
            Cause::NoSmtpUtf8 => EnhancedStatus::new(5, 6, 7),
            Cause::Body(_) | Cause::BodyForNow(_) => EnhancedStatus::new(class, 3, 0),
        }
    }

    /// Clean and cut at a field.
    fn returned_head(&self) -> Vec<u8> {
        let whole = downgraded(encode_head(self.original_head, self.charsets()));
        let mut out: Vec<u8> = Vec::new();
        for field in Head::of(&whole).fields() {
            if out.len() + field.raw.len() > MAX_RETURNED_BYTES {
                break;
            }
            if !field.is("Bcc") {
                out.extend_from_slice(field.raw);
            }
        }
        out
    }
}

impl AdminNotice<'_> {
    /// As plain text.
    pub fn write(&self) -> Written {
        let mut text = String::new();
        if self.is_sandbox {
            paragraph(&mut text, "", IN_SANDBOX);
        }
        for p in self.paragraphs {
            paragraph(&mut text, "", p);
        }
        let subject = marked(self.is_sandbox, self.subject);
        let mut head = common_head(self.id, self.hostname, self.from, self.to, self.now, &subject);
        head.add("Auto-Submitted", "auto-generated");
        head.add("X-Auto-Response-Suppress", "All");
        head.add("Content-Type", "text/plain; charset=utf-8");
        head.add("Content-Transfer-Encoding", if text.is_ascii() { "7bit" } else { "8bit" });
        Written { head: head.finish(), content: text.into_bytes() }
    }
}

const IN_SANDBOX: &str = "SANDBOX: this relay delivers to a stand-in, and nobody else gets its mail.";

/// What is not to be mistaken for news of real mail says so in the first word.
fn marked(is_sandbox: bool, subject: &str) -> String {
    if is_sandbox { format!("SANDBOX: {subject}") } else { subject.to_owned() }
}

fn common_head(
    id: QueueId,
    hostname: &str,
    from: &Mailbox,
    to: &[Mailbox],
    now: WallTime,
    subject: &str,
) -> NewHead {
    let host = one_line(hostname);
    let mut out = NewHead::default();
    out.add_words("From", &named(&format!("Mail relay {host}"), true, from));
    let receivers = to.iter().map(|m| Words::one(m.to_string()));
    out.add_words("To", &Words::joined(receivers.collect(), ","));
    let subject = one_line(subject).split_whitespace().collect::<Vec<_>>().join(" ");
    let subject: String = subject.chars().take(MAX_SUBJECT_CHARS + 20).collect();
    out.add_words("Subject", &Words::text(&subject));
    out.add("Date", &now.rfc5322());
    out.add("Message-ID", &format!("<{id}@{host}>"));
    out.add("MIME-Version", "1.0");
    out
}

/// A paragraph wrapped at spaces, with an empty line behind. No line of it begins with `--` as a boundary does.
fn paragraph(out: &mut String, indent: &str, text: &str) {
    let mut column = 0;
    for word in one_line(text).split_ascii_whitespace() {
        if column > 0 && column + 1 + word.chars().count() > TEXT_WIDTH {
            out.push_str("\r\n");
            column = 0;
        }
        let before = if column > 0 { " " } else { indent };
        out.push_str(before);
        if column == 0 && indent.is_empty() && word.starts_with("--") {
            out.push(' ');
        }
        out.push_str(word);
        column += before.len() + word.chars().count();
    }
    out.push_str("\r\n\r\n");
}

/// Without controls; a line end becomes a space.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// RFC 3464 section 2.1.2, and RFC 6533 section 3 for what is not ASCII.
fn typed(recipient: &Mailbox) -> String {
    if recipient.is_ascii() {
        return format!("rfc822; {recipient}");
    }
    let mut out = String::from("utf-8; ");
    for c in recipient.to_string().chars() {
        match c {
            '\\' | '+' | '=' => {
                let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
            }
            c if c.is_ascii_graphic() => out.push(c),
            c => {
                let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
            }
        }
    }
    out
}

fn is_id(id: &[u8]) -> bool {
    id.len() < 250 && id.starts_with(b"<") && id.ends_with(b">") && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests;
