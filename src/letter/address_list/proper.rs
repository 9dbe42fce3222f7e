//! Whether an address list is written by the book (RFC 5322 section 3.4), so that nobody has to write it again.
//!
//! Invariant: what is proper here is read as the same addresses by every reader. Must not know: what devices write.

use super::token::quoted_len;
use crate::letter::words::is_atext;

/// Whether this is a list of mailboxes, without groups: `a@b`, `<a@b>`, `Name <a@b>`, with comments anywhere.
pub(crate) fn is_proper(text: &str) -> bool {
    let mut rest = Rest(text);
    loop {
        if !rest.mailbox() {
            return false;
        }
        if rest.0.is_empty() {
            return true;
        }
        if !rest.take(',') {
            return false;
        }
    }
}

struct Rest<'t>(&'t str);

impl Rest<'_> {
    /// Blanks and comments.
    fn blanks(&mut self) {
        loop {
            self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
            match comment_len(self.0) {
                Some(end) => self.0 = &self.0[end..],
                None => return,
            }
        }
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A quoted string, or atoms and dots.
    fn word(&mut self) -> bool {
        let end = if self.0.starts_with('"') {
            quoted_len(self.0).unwrap_or(0)
        } else {
            self.0.bytes().take_while(|b| is_atext(*b) || *b == b'.').count()
        };
        self.0 = &self.0[end..];
        end > 0
    }

    fn mailbox(&mut self) -> bool {
        self.blanks();
        let begin = self.0;
        if self.address() {
            self.blanks();
            if self.0.is_empty() || self.0.starts_with(',') {
                return true;
            }
        }
        self.0 = begin;
        while self.word() {
            self.blanks();
        }
        if !self.take('<') {
            return false;
        }
        self.blanks();
        let is_address = self.address();
        self.blanks();
        let is_closed = self.take('>');
        self.blanks();
        is_address && is_closed
    }

    fn address(&mut self) -> bool {
        let local = self.0;
        if !self.word() || !self.take('@') {
            return false;
        }
        let is_dotted = |text: &str| text.split('.').all(|part| !part.is_empty());
        let local = &local[..local.len() - self.0.len() - 1];
        if !local.starts_with('"') && !is_dotted(local) {
            return false;
        }
        if self.0.starts_with('[') {
            let end = self.0.find(']').map_or(0, |i| i + 1);
            self.0 = &self.0[end..];
            return end > 0;
        }
        let domain = self.0;
        self.word() && !domain.starts_with('"') && is_dotted(&domain[..domain.len() - self.0.len()])
    }
}

fn comment_len(text: &str) -> Option<usize> {
    let (mut depth, mut escaped) = (0_u32, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            _ if depth == 0 => return None,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_by_the_book_needs_no_change() {
        for text in [
            "a@b.example",
            " <a@b.example> ",
            "A B <a@B.Example>",
            "\"A, B\" <a@b.example>",
            "\"A  \\\"B\\\"\" <a@b.example> (the one)",
            "John Q. Public <a@b.example>",
            "=?utf-8?Q?M=C3=BCller?= <a@b.example>",
            "a@b.example (Scanner)",
            "(x (y)) a@b.example, C <c@d.example>,\r\n e@f.example",
            "\"a b\"@c.example",
            "\"a@b.example\" <a@b.example>",
            "a@[192.0.2.1]",
            "A\r\n <a@b.example>",
        ] {
            assert!(is_proper(text), "{text}");
        }
        for text in [
            "",
            "scanner",
            "Doe, Jane <a@b.example>",
            "a@b.example <a@b.example>",
            "smtp:a@b.example",
            "a@b.example.",
            "'a@b.example' <x>",
            "a b@c.example",
            "<a@b.example> c@d.example",
            "a@b.example;c@d.example",
            "a@b.example,",
            "Team: a@b.example;",
            "a@b.example, <>",
            "\"open <a@b.example>",
            "A (open <a@b.example>",
            "a..b@c.example",
            "a@b@c.example",
            "Müller <a@b.example>",
        ] {
            assert!(!is_proper(text), "{text}");
        }
    }
}
