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

#[cfg(test)]
mod tests {
    use super::*;

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
