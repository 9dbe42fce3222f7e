//! Where the head of a message ends and its content begins.
//!
//! Invariant: the head is the fields and one empty line, at most `LIMIT_BYTES`; everything else goes through
//! untouched and is not kept. Must not know: what any field means.

use crate::letter::head::begins_field;
use crate::letter::reader::{Next, Reader};
use memchr::memchr;

/// A head beyond this is no device's.
pub const LIMIT_BYTES: usize = 128 * 1024;

/// A line as long as this without a colon is content, whatever may still come on it.
const NAME_LIMIT_BYTES: usize = 4096;

/// The head is longer than `LIMIT_BYTES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Splits decoded bytes as they come. Lines end in CRLF, which is never cut; a CR alone is one that the sender wrote
/// alone.
#[derive(Debug, Default)]
pub struct Splitter {
    reader: Reader,
    line: Vec<u8>,
    /// A line has ended in CRLF or LF.
    behind_first: bool,
    /// The first of them, of nothing but fields between CRs; the next one tells whether those end lines, too.
    first: Vec<u8>,
    done: bool,
}

impl Splitter {
    /// Whether the head has ended: a CR alone is no blank any more.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes decoded bytes. What belongs to the head is kept; `decoded` is left with the content only, where a CR alone
    /// ends a line.
    ///
    /// # Errors
    /// The head is too large.
    pub fn push(&mut self, decoded: &mut Vec<u8>) -> Result<(), TooLarge> {
        let mut taken = 0;
        while !self.done && taken < decoded.len() {
            let rest = &decoded[taken..];
            let n = memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            // So that a long line is judged at the same byte for every split of the input.
            let had = self.line.len();
            let n = if had < NAME_LIMIT_BYTES { n.min(NAME_LIMIT_BYTES - had) } else { n };
            self.line.extend_from_slice(&rest[..n]);
            taken += n;
            if self.reader.len() + self.line.len() > LIMIT_BYTES {
                return Err(TooLarge);
            }
            if let Some(mut content) = self.look() {
                self.done = true;
                content.extend_from_slice(&decoded[taken..]);
                *decoded = with_line_ends(&content);
                return Ok(());
            }
        }
        decoded.drain(..taken);
        Ok(())
    }

    /// Looks at the line so far. Given back is what was read of the content, once the head has ended.
    fn look(&mut self) -> Option<Vec<u8>> {
        if !self.behind_first
            && let Some(end) = end_of_cr_head(&self.line)
        {
            let line = std::mem::take(&mut self.line);
            self.first = line[..end].to_vec();
            self.settle_first(false);
            return Some(line[end + 2..].to_vec());
        }
        if self.line.ends_with(b"\r\n") {
            let line = std::mem::take(&mut self.line);
            let text = &line[..line.len() - 2];
            if !std::mem::replace(&mut self.behind_first, true) && is_cr_head(text) {
                self.first = text.to_vec();
                return None;
            }
            self.settle_first(may_continue(text));
            return match self.reader.line(&without_lone_cr(text)) {
                Next::More => None,
                Next::Ended => Some(vec![]),
                Next::Content(content) => Some(content),
            };
        }
        let is_content = self.line.len() == NAME_LIMIT_BYTES && !may_continue(&self.line);
        is_content.then(|| {
            self.settle_first(false);
            let line = std::mem::take(&mut self.line);
            self.reader.content(&line)
        })
    }

    fn settle_first(&mut self, goes_on: bool) {
        let first = std::mem::take(&mut self.first);
        if first.is_empty() {
            return;
        }
        if goes_on {
            self.reader.line(&without_lone_cr(&first));
        } else {
            first.split(|b| *b == b'\r').for_each(|text| drop(self.reader.line(text)));
        }
    }

    /// The data has ended, and with it the head; given back is what was held of it but is content.
    pub fn finish(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.done, true) {
            return vec![];
        }
        let line = std::mem::take(&mut self.line);
        self.settle_first(!line.is_empty() && may_continue(&line));
        if !line.is_empty()
            && let Next::Content(content) = self.reader.line(&without_lone_cr(&line))
        {
            return with_line_ends(&content);
        }
        with_line_ends(&self.reader.content(b""))
    }

    /// The head with its final empty line; whole once `finish` was called.
    pub fn into_head(self) -> Vec<u8> {
        self.reader.into_head()
    }
}

/// Whether this may be a line of a head behind another.
fn may_continue(line: &[u8]) -> bool {
    begins_field(line) || matches!(line.first(), Some(b' ' | b'\t'))
}

/// Where a head ends whose lines all end in CR: at two of them, behind nothing but fields; of which there are several,
/// lest one with two CRs in it be taken for a head.
fn end_of_cr_head(line: &[u8]) -> Option<usize> {
    let end = memchr::memmem::find(line, b"\r\r")?;
    let head = &line[..end];
    (head.contains(&b'\r') && head.split(|b| *b == b'\r').all(may_continue)).then_some(end)
}

/// Whether this looks like several lines that end in CR.
fn is_cr_head(line: &[u8]) -> bool {
    memchr::memchr_iter(b'\r', line).count() >= 2 && line.split(|b| *b == b'\r').all(begins_field)
}

/// A CR alone is white space, as Postfix and Exim have it: before a field it is nothing, else it is a blank.
fn without_lone_cr(line: &[u8]) -> Vec<u8> {
    let start = line.iter().take_while(|b| **b == b'\r').count();
    let line = if begins_field(&line[start..]) { &line[start..] } else { line };
    line.iter().map(|b| if *b == b'\r' { b' ' } else { *b }).collect()
}

/// In the content a CR alone ends a line.
fn with_line_ends(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut from = 0;
    for at in memchr::memchr_iter(b'\r', content) {
        if content.get(at + 1) != Some(&b'\n') {
            out.extend_from_slice(&content[from..=at]);
            out.push(b'\n');
            from = at + 1;
        }
    }
    out.extend_from_slice(&content[from..]);
    out
}

#[cfg(test)]
mod tests;
