//! A head read line by line, whatever a sender put before, between or inside its fields.
//!
//! Invariant: every line becomes part of a field or is content; none is dropped but empty ones before the first field.
//! Must not know: how lines end, or what a field means.
//!
//! Postfix and Exim end the head at the first line that is no field. So it is here, unless what follows proves that the
//! head goes on: then such a line is kept in a field of its own, since a scan whose Content-Type became text is lost.

use crate::letter::date;
use crate::letter::head::{Head, begins_field};

/// Beyond these, undecided lines are content.
const MAX_ODD_LINES: usize = 8;
const MAX_HELD_BYTES: usize = 16 * 1024;

/// What a line was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Part of the head, or not known yet.
    More,
    /// The empty line at its end.
    Ended,
    /// The head had ended before these bytes.
    Content(Vec<u8>),
}

/// Reads one head.
#[derive(Debug, Default)]
pub(super) struct Reader {
    head: Vec<u8>,
    /// Lines from the first that is no field; what follows decides about them.
    held: Vec<u8>,
    odd_lines: usize,
}

impl Reader {
    /// So many bytes are kept.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.held.len()
    }

    /// Takes a line, without its end.
    pub(super) fn line(&mut self, text: &[u8]) -> Next {
        let is_first = self.len() == 0;
        let text = if is_first { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
        if self.held.is_empty() { self.settled(text) } else { self.undecided(text) }
    }

    fn settled(&mut self, text: &[u8]) -> Next {
        let is_first = self.head.is_empty();
        if text.is_empty() && !is_first {
            return Next::Ended;
        }
        if begins_field(text) || !is_first && is_continuation(text) {
            self.push(b"", text);
        } else if is_first && is_mailbox_line(text) {
            self.push(b"X-Mailbox-Line: ", text);
        } else if self.is_open(text) {
            self.push(b" ", text);
        } else if text.starts_with(b"--") {
            // The first boundary, of somebody who forgot the empty line.
            return Next::Content(ended(text));
        } else {
            return self.hold(text, true);
        }
        Next::More
    }

    fn undecided(&mut self, text: &[u8]) -> Next {
        let only_blank = self.head.is_empty() && self.held.trim_ascii().is_empty();
        if text.is_empty() && !only_blank || text.starts_with(b"--") {
            return if self.settle() {
                if text.is_empty() { Next::Ended } else { Next::Content(ended(text)) }
            } else {
                Next::Content(self.given_up(&ended(text)))
            };
        }
        self.hold(text, !begins_field(text) && !is_continuation(text))
    }

    fn hold(&mut self, text: &[u8], is_odd: bool) -> Next {
        self.held.extend(ended(text));
        self.odd_lines += usize::from(is_odd);
        if self.odd_lines > MAX_ODD_LINES || self.held.len() > MAX_HELD_BYTES {
            return Next::Content(self.given_up(b""));
        }
        Next::More
    }

    /// What is held was content, with what follows it.
    fn given_up(&mut self, more: &[u8]) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        // An empty line before everything is the end of an empty head.
        let content = held.strip_prefix(b"\r\n").filter(|_| self.head.is_empty()).unwrap_or(&held);
        [content, more].concat()
    }

    /// Something that is no line of a head follows.
    pub(super) fn content(&mut self, more: &[u8]) -> Vec<u8> {
        if self.settle() { more.to_vec() } else { self.given_up(more) }
    }

    /// The head with its empty line.
    pub(super) fn into_head(mut self) -> Vec<u8> {
        self.head.extend_from_slice(b"\r\n");
        self.head
    }

    fn push(&mut self, before: &[u8], text: &[u8]) {
        for piece in [before, text, b"\r\n"] {
            self.head.extend_from_slice(piece);
        }
    }

    /// Whether the last field waits for more, and this may be it: a continuation that was not indented.
    fn is_open(&self, text: &[u8]) -> bool {
        let is_parameter = || {
            let name = text.split(|b| *b == b'=').next().unwrap_or_default();
            text.contains(&b'=') && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_*".contains(b))
        };
        match self.head.trim_ascii_end().last() {
            Some(b';') => is_parameter(),
            Some(b',') => text.contains(&b'@') && !text.trim_ascii().contains(&b' '),
            Some(_) => text.starts_with(b";") && text.contains(&b'='),
            None => false,
        }
    }

    /// Takes what is held into the head, if it is proved to be of it.
    fn settle(&mut self) -> bool {
        if !self.is_proved() {
            return false;
        }
        let held = std::mem::take(&mut self.held);
        for line in held.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\r\n").unwrap_or(line);
            let is_first = self.head.is_empty();
            if is_first && text.trim_ascii().is_empty() {
                continue;
            }
            let text = if is_first { text.trim_ascii_start() } else { text };
            let before: &[u8] = match () {
                () if begins_field(text) || is_continuation(text) => b"",
                () if self.is_open(text) => b" ",
                () if is_mailbox_line(text) => b"X-Mailbox-Line: ",
                () => b"X-Unparsed-Line: ",
            };
            self.push(before, text);
        }
        self.odd_lines = 0;
        true
    }

    /// Whether among the held lines are fields that only the head of a message has. A text may have a line `Date: today`
    /// or `Status: ok`, too; one weak sign is enough only behind other fields.
    fn is_proved(&self) -> bool {
        let first = self.held.trim_ascii_start();
        let lines = first.split(|b| *b == b'\n').filter(|line| begins_field(line));
        let mut weak: Vec<&str> = vec![];
        for line in lines {
            match sign(line) {
                Some(Sign::Strong) => return true,
                Some(Sign::Weak(name)) if !weak.contains(&name) && !Head::of(&self.head).has(name) => {
                    weak.push(name);
                }
                _ => {}
            }
        }
        weak.len() >= if self.head.is_empty() { 2 } else { 1 }
    }
}

/// The head at the beginning of these bytes, which end in an empty line, and what is content of them. The head has no
/// empty line where there was none before the content.
pub(super) fn split(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::default();
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        match reader.line(line.strip_suffix(b"\r\n").unwrap_or(line)) {
            Next::More => {}
            Next::Ended => return (reader.into_head(), bytes[at..].to_vec()),
            Next::Content(content) => return (reader.head, [&content, &bytes[at..]].concat()),
        }
    }
    let content = reader.content(b"");
    (reader.head, content)
}

/// What a line says about where it stands.
enum Sign {
    Strong,
    Weak(&'static str),
}

fn sign(line: &[u8]) -> Option<Sign> {
    const STRONG: [&str; 17] = [
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
        "Content-Disposition",
        "Content-ID",
        "Message-ID",
        "In-Reply-To",
        "References",
        "Received",
        "Return-Path",
        "DKIM-Signature",
        "User-Agent",
        "Auto-Submitted",
        "Disposition-Notification-To",
        "Thread-Index",
        "X-Mailer",
        "X-Priority",
    ];
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
    let is = |n: &&str| name.eq_ignore_ascii_case(n.as_bytes());
    if STRONG.iter().any(is) {
        return Some(Sign::Strong);
    }
    let addressed =
        ["From", "To", "Cc", "Bcc", "Sender", "Reply-To"].iter().find(|n| is(n) && value.contains(&b'@'));
    let weak = match addressed {
        Some(name) => name,
        None if is(&"Subject") => "Subject",
        None if is(&"Date") && date::is_date(value) => "Date",
        None => return None,
    };
    Some(Sign::Weak(weak))
}

fn is_continuation(text: &[u8]) -> bool {
    matches!(text.first(), Some(b' ' | b'\t'))
}

/// The separator of a mailbox file, `From root@nas Thu Nov 26 09:00:00 2026`, quoted or not. Postfix makes it the same
/// field.
fn is_mailbox_line(text: &[u8]) -> bool {
    let quotes = text.iter().take_while(|b| **b == b'>').count();
    let Some(rest) = text[quotes..].strip_prefix(b"From ") else { return false };
    rest.windows(5).any(|w| w[2] == b':' && [0, 1, 3, 4].iter().all(|i| w[*i].is_ascii_digit()))
}

fn ended(text: &[u8]) -> Vec<u8> {
    [text, b"\r\n"].concat()
}
