//! Dot-stuffing (RFC 5321 section 4.5.2), the last thing that is done to a message.
//!
//! Invariant: no line that leaves is a lone dot, wherever the text was split. Must not know: what it says.

/// RFC 5321 section 4.5.2, across any split.
#[derive(Debug)]
pub(super) struct Stuffing {
    at_line_start: bool,
}

impl Default for Stuffing {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

impl Stuffing {
    pub(super) fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return };
        out.reserve(text.len() + 64);
        if self.at_line_start && *first == b'.' {
            out.push(b'.');
        }
        let mut from = 0;
        for at in memchr::memmem::find_iter(text, b"\n.") {
            out.extend_from_slice(&text[from..=at]);
            out.push(b'.');
            from = at + 1;
        }
        out.extend_from_slice(&text[from..]);
        self.at_line_start = *last == b'\n';
    }
}
