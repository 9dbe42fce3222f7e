//! The head of a message: its fields as bytes, found, never interpreted beyond their names.
//!
//! Invariant: joining what `fields` yields gives the head back, byte for byte. Lines end in CRLF (the receiver
//! normalised them). Must not know: what any field means; that is `letter::rewrite` and `submit::smtp::wire`.

/// One field with its continuation lines and the final CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// All of it, CRLF included.
    pub raw: &'a [u8],
    colon: usize,
}

impl<'a> Field<'a> {
    /// The name as written, without trailing space (`Subject :` is seen in the field).
    pub fn name(&self) -> &'a [u8] {
        self.raw[..self.colon].trim_ascii_end()
    }

    /// The value with its folding, without the final CRLF.
    pub fn value(&self) -> &'a [u8] {
        self.raw[self.colon + 1..].strip_suffix(b"\r\n").unwrap_or(&self.raw[self.colon + 1..])
    }

    /// The value on one line, trimmed.
    pub fn unfolded(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self.value().iter().copied().filter(|b| *b != b'\r' && *b != b'\n').collect();
        out = out.trim_ascii().to_vec();
        out
    }

    /// Whether this is the field of that name.
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Whether a line (without its end) begins a field: a name of printable ASCII and a colon (RFC 5322 section 2.2).
/// Space before the colon is tolerated.
pub fn begins_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line[..colon].trim_ascii_end();
    !name.is_empty() && name.iter().all(|b| (33..=126).contains(b))
}

/// The fields of a head, in order. Ends at the empty line, at the end, or at a line that is no field.
pub fn fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = head;
    std::iter::from_fn(move || {
        if !begins_field(&rest[..line_end(rest)]) {
            return None;
        }
        let mut end = line_end(rest);
        while matches!(rest.get(end), Some(b' ' | b'\t')) {
            end += line_end(&rest[end..]);
        }
        let (raw, after) = rest.split_at(end);
        rest = after;
        Some(Field { raw, colon: memchr::memchr(b':', raw)? })
    })
}

/// The first field of that name.
pub fn first<'a>(head: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(head).find(|f| f.is(name))
}

fn line_end(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_join_to_the_head_again() {
        let head = b"From: a@b\r\nSubject : one\r\n two\r\nX:\r\n\r\n";
        let joined: Vec<u8> = fields(head).flat_map(|f| f.raw.to_vec()).collect();
        assert_eq!(joined, &head[..head.len() - 2]);
        let subject = first(head, "subject").unwrap();
        assert_eq!(subject.unfolded(), b"one two");
        assert_eq!(subject.name(), b"Subject");
    }

    #[test]
    fn a_line_that_is_no_field_ends_the_head() {
        assert_eq!(fields(b"From: a\r\nhello world\r\nTo: b\r\n").count(), 1);
        assert_eq!(fields(b"hello: world\r\n").count(), 1);
        assert_eq!(fields(b"dear sir: hello\r\n").count(), 0);
        assert_eq!(fields(b"").count(), 0);
    }
}
