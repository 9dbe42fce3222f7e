//! A reply of an SMTP server, whole.
//!
//! Invariant: `code` is 200..=599; every line of the text is kept (it is the admin's proof), within the caps
//! of the reader that made it. Enhanced codes are three numbers of any size: Exchange Online says `4.7.500`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnhancedStatus {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// What it is about (RFC 3463 section 3).
    pub subject: u16,
    /// Which one of these.
    pub detail: u16,
}

impl EnhancedStatus {
    /// Puts the three numbers together.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `4.7.500` at the start of `text`; `None` when there is none. Returns what follows it, too.
    pub fn split(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |s: &str| -> Option<u16> {
            if s.is_empty() || s.len() > 4 || !s.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            s.parse().ok()
        };
        if parts.next().is_some() || !matches!(class, "2" | "4" | "5") {
            return None;
        }
        let class = u8::try_from(number(class)?).ok()?;
        Some((Self { class, subject: number(subject)?, detail: number(detail)? }, rest))
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Four times what Exchange Online says at its longest.
const MAX_KEPT_BYTES: usize = 2048;

/// One reply, of one or several lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// The enhanced status of the first line, where there is one.
    pub status: Option<EnhancedStatus>,
    /// The text without codes, lines separated by `\n`. Peer text: escape before printing.
    pub text: String,
}

impl Reply {
    /// A reply from its code and text; an enhanced status at the start of the text is read off.
    pub fn new(code: u16, text: &str) -> Self {
        match EnhancedStatus::split(text) {
            Some((status, rest)) => Self { code, status: Some(status), text: rest.to_owned() },
            None => Self { code, status: None, text: text.to_owned() },
        }
    }

    /// The reply with so much of its text as is worth keeping for every recipient: a server may send 64 KiB.
    pub fn kept(&self) -> Self {
        let mut kept = self.clone();
        let end = kept.text.floor_char_boundary(MAX_KEPT_BYTES);
        kept.text.truncate(end);
        kept
    }

    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4yz: may succeed later.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// `421 4.4.1` and `421 4.4.2`: the connection broke somewhere, not that anything was refused.
    pub fn says_dropped(&self) -> bool {
        self.code == 421 && self.status.is_some_and(|s| s.subject == 4 && matches!(s.detail, 1 | 2))
    }

    /// 5yz.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl fmt::Display for Reply {
    /// On one line, escaped: `451 4.7.0 Temporary server error. Please try again later. PRX4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        let text = self.text.replace('\n', " / ");
        if text.is_empty() { Ok(()) } else { write!(f, " {}", super::Escaped(text.as_bytes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_are_read_whole() {
        assert_eq!(
            Reply::new(451, "4.7.500 Server busy"),
            Reply { code: 451, status: Some(EnhancedStatus::new(4, 7, 500)), text: "Server busy".into() }
        );
        for not_one in
            ["10.0.0.1 said no", "4.7 x", "4.7.0.1 x", "4..0 x", "3.1.1 x", "4.7.+5 x", "4.7.12345 x"]
        {
            assert_eq!(Reply::new(451, not_one).status, None, "{not_one}");
        }
    }

    #[test]
    fn a_wordy_reply_is_kept_in_part() {
        let wordy = Reply::new(250, &"ä".repeat(40_000));
        assert_eq!(wordy.kept().text.len(), MAX_KEPT_BYTES);
        assert_eq!(Reply::new(250, "OK").kept(), Reply::new(250, "OK"));
    }

    #[test]
    fn a_reply_prints_on_one_line() {
        assert_eq!(Reply::new(451, "4.7.0 one\ntwo\x1b[m").to_string(), "451 4.7.0 one / two\\u{1b}[m");
    }
}
