//! Peer text made safe to print.
//!
//! Invariant: what `Escaped` prints holds no control, no line break, no bidirectional override and at most
//! `LIMIT` characters, so a device named `\r\nroot logged in` cannot forge a log line or move a cursor.

use std::fmt;

/// At most this many characters of peer text are printed.
const LIMIT: usize = 512;

/// Prints peer bytes escaped: UTF-8 where valid, `\xNN` otherwise, controls as `\n`, `\u{..}`.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = LIMIT;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_str("...");
                }
                left -= 1;
                if c == '\\' {
                    f.write_str("\\\\")?;
                } else if c.is_control() || is_invisible(c) {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for b in chunk.invalid() {
                if left == 0 {
                    return f.write_str("...");
                }
                left -= 1;
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

/// Line and paragraph separators, zero-width and bidirectional controls: invisible, so they can mislead a reader.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A server's words without the tag that Exchange Online puts behind them: `[AM0PR02CA0123.eurprd02.prod.outlook.com
/// 2026-11-23T12:00:00.000Z 08DE2A]` says where and when, which helps Microsoft's support and nobody else.
pub fn without_tag(said: &str) -> String {
    let mut out = String::with_capacity(said.len());
    let mut rest = said;
    while let Some(at) = rest.find(" [") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let is_tag = |inner: &str| {
            let mut words = inner.split(' ');
            words.next().is_some_and(|host| host.to_ascii_lowercase().ends_with(".outlook.com"))
                && words.next().is_some_and(|time| time.ends_with('Z'))
        };
        match tag[2..].find(']') {
            Some(end) if is_tag(&tag[2..2 + end]) => rest = &tag[2 + end + 1..],
            _ => {
                out.push_str(" [");
                rest = &tag[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microsofts_tag_is_left_out_and_nothing_else_in_brackets() {
        for (said, read) in [
            (
                "451 4.7.0 Temporary server error. PRX4 [AM0PR02CA0123.eurprd02.prod.outlook.com 2026-11-23T12:00:00.000Z 08DE2A]",
                "451 4.7.0 Temporary server error. PRX4",
            ),
            (
                "550 5.7.1 no [AM0PR02CA0123.eurprd02.prod.outlook.com 2026-11-23T12:00:00.000Z 08DE2A] (to AUTH)",
                "550 5.7.1 no (to AUTH)",
            ),
            ("550 [192.0.2.1] is blocked [really", "550 [192.0.2.1] is blocked [really"),
            ("250 OK <a@b> [Hostname=AM0.prod.outlook.com]", "250 OK <a@b> [Hostname=AM0.prod.outlook.com]"),
        ] {
            assert_eq!(without_tag(said), read);
        }
    }

    #[test]
    fn peer_text_cannot_forge_a_line_or_hide() {
        let cases: [(&[u8], &str); 6] = [
            (b"NPIF65E56", "NPIF65E56"),
            (b"a\r\nroot logged in", "a\\r\\nroot logged in"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            (b"M\xfcller", "M\\xfcller"),
            ("Müller\u{202e}".as_bytes(), "Müller\\u{202e}"),
            (b"back\\slash", "back\\\\slash"),
        ];
        for (raw, printed) in cases {
            assert_eq!(Escaped(raw).to_string(), printed);
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(Escaped(&[b'x'; 9000]).to_string().len(), LIMIT + 3);
    }
}
