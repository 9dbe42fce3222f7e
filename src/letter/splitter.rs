//! Where the head of a message ends and its content begins.
//!
//! Invariant: the head is the fields and one empty line, at most `LIMIT_BYTES`; everything else goes through
//! untouched and is not kept. Must not know: what any field means.

use crate::letter::head::begins_field;
use memchr::memchr;

/// A head beyond this is no device's.
pub const LIMIT_BYTES: usize = 128 * 1024;

/// A line as long as this without a colon is content, whatever may still come on it.
const NAME_LIMIT_BYTES: usize = 4096;

/// The head is longer than `LIMIT_BYTES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Splits decoded bytes as they come.
#[derive(Debug, Default)]
pub struct Splitter {
    head: Vec<u8>,
    line_start: usize,
    done: bool,
}

impl Splitter {
    /// Takes decoded bytes. What belongs to the head is kept; `decoded` is left with the content only.
    ///
    /// # Errors
    /// The head is too large.
    pub fn push(&mut self, decoded: &mut Vec<u8>) -> Result<(), TooLarge> {
        let mut taken = 0;
        while !self.done && taken < decoded.len() {
            let rest = &decoded[taken..];
            let n = memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            // So that a long line is judged at the same byte for every split of the input.
            let had = self.head.len() - self.line_start;
            let n = if had < NAME_LIMIT_BYTES { n.min(NAME_LIMIT_BYTES - had) } else { n };
            self.head.extend_from_slice(&rest[..n]);
            taken += n;
            if self.head.len() > LIMIT_BYTES {
                return Err(TooLarge);
            }
            let line = &self.head[self.line_start..];
            match line.strip_suffix(b"\r\n") {
                Some(b"") => self.done = true,
                Some(text) if self.continues(text) => self.line_start = self.head.len(),
                None if line.len() != NAME_LIMIT_BYTES || self.continues(line) => {}
                _ => {
                    // No field: the head ended before this line, and this line is content.
                    let line = self.head.split_off(self.line_start);
                    self.finish();
                    decoded.splice(..taken, line);
                    return Ok(());
                }
            }
        }
        decoded.drain(..taken);
        Ok(())
    }

    fn continues(&self, line: &[u8]) -> bool {
        begins_field(line) || (self.line_start > 0 && matches!(line.first(), Some(b' ' | b'\t')))
    }

    /// The head with its final empty line, at the end of data, and what was begun as a line of it but is none.
    pub fn finish(&mut self) {
        if !self.done {
            self.head.extend_from_slice(b"\r\n");
            self.done = true;
        }
    }

    /// The head; whole once `finish` was called.
    pub fn into_head(self) -> Vec<u8> {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(message: &[u8], piece: usize) -> Result<(String, String), TooLarge> {
        let mut splitter = Splitter::default();
        let mut content = vec![];
        for part in message.chunks(piece) {
            let mut part = part.to_vec();
            splitter.push(&mut part)?;
            content.extend(part);
        }
        splitter.finish();
        Ok((splitter.into_head().escape_ascii().to_string(), content.escape_ascii().to_string()))
    }

    #[test]
    fn the_head_ends_at_the_empty_line_or_before_the_first_line_that_is_no_field() {
        for (message, head, content) in [
            ("A: 1\r\nB: 2\r\n 3\r\n\r\nhi\r\n", "A: 1\\r\\nB: 2\\r\\n 3\\r\\n\\r\\n", "hi\\r\\n"),
            ("A: 1\r\nhello world\r\nC: 3\r\n", "A: 1\\r\\n\\r\\n", "hello world\\r\\nC: 3\\r\\n"),
            ("hello\r\n\r\nA: 1\r\n", "\\r\\n", "hello\\r\\n\\r\\nA: 1\\r\\n"),
            (" folded first\r\n", "\\r\\n", " folded first\\r\\n"),
            ("\r\nhi\r\n", "\\r\\n", "hi\\r\\n"),
            ("A: 1\r\n", "A: 1\\r\\n\\r\\n", ""),
            ("", "\\r\\n", ""),
        ] {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(
                    split(message.as_bytes(), piece),
                    Ok((head.into(), content.into())),
                    "{message:?}"
                );
            }
        }
    }

    #[test]
    fn a_head_is_bounded_and_a_long_first_line_of_content_is_not_taken_for_one() {
        let long = [b"X: ".as_slice(), &vec![b'x'; LIMIT_BYTES]].concat();
        assert_eq!(split(&long, 4096), Err(TooLarge));
        let content = vec![b'x'; 4 * LIMIT_BYTES];
        for piece in [1000, 4096, 1 << 20] {
            let (head, passed) = split(&content, piece).unwrap();
            assert_eq!((head.as_str(), passed.len()), ("\\r\\n", content.len()));
        }
    }
}
