//! A look through a content, to know whether anything has to be done to it.
//!
//! Invariant: it does not depend on how the content was split, and costs no more than reading it. Must not know: the
//! structure of the message.

use crate::letter::words::MAX_LINE_BYTES;

/// What a look through the content tells, at the speed of memory.
#[derive(Debug)]
pub(crate) struct Scan {
    /// How long it is.
    pub(crate) bytes: u64,
    /// A line begins with a dot.
    pub(crate) dots: bool,
    /// Bytes above 127.
    pub(crate) has_8bit: bool,
    /// NUL, or an ESC, which may be ISO-2022-JP in the head of a part.
    has_odd: bool,
    too_long: bool,
    lone_lf: bool,
    crs: u64,
    crlfs: u64,
    /// The last line has its end.
    pub(crate) at_line_start: bool,
    last: u8,
    column: usize,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            bytes: 0,
            dots: false,
            has_8bit: false,
            has_odd: false,
            too_long: false,
            lone_lf: false,
            crs: 0,
            crlfs: 0,
            at_line_start: true,
            last: b'\n',
            column: 0,
        }
    }
}

impl Scan {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return };
        self.bytes += chunk.len() as u64;
        self.has_8bit |= !chunk.is_ascii();
        self.has_odd |= memchr::memchr2(0, 0x1b, chunk).is_some();
        self.crs += memchr::memchr_iter(b'\r', chunk).count() as u64;
        self.dots |= self.at_line_start && *first == b'.';
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', chunk) {
            let before = if at == 0 { self.last } else { chunk[at - 1] };
            if before == b'\r' {
                self.crlfs += 1;
            } else {
                self.lone_lf = true;
            }
            // The CR counts, too; CRLF at 999 and 1000 is the longest line.
            self.too_long |= self.column + (at - start) > MAX_LINE_BYTES + 1;
            self.column = 0;
            start = at + 1;
            self.dots |= chunk.get(start) == Some(&b'.');
        }
        self.column += chunk.len() - start;
        self.last = *last;
        self.at_line_start = *last == b'\n';
    }

    /// Whether it may leave without a walk through its structure.
    pub(crate) fn is_clean(&self) -> bool {
        // A last line without its end has no CR to count; a lone CR there shows in the totals.
        let too_long = self.too_long || self.column > MAX_LINE_BYTES;
        !(too_long || self.has_odd || self.lone_lf || self.crs != self.crlfs)
    }
}
