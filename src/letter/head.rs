//! The head of a message: its fields as bytes, found, never interpreted beyond their names.
//!
//! Invariant: joining what `fields` yields gives a whole head back, byte for byte. Lines end in CRLF (the receiver
//! normalised them). Must not know: what any field means; that is `letter::field`.

use crate::letter::words::Words;

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

    /// The value on one line, trimmed. A continuation of nothing but blanks adds none.
    pub fn unfolded(&self) -> Vec<u8> {
        let lines = self.value().split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut out = Vec::with_capacity(self.raw.len());
        for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
            out.extend(line.iter().filter(|b| **b != b'\r'));
        }
        out.trim_ascii().to_vec()
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

/// The head of a message or part: its fields in order, up to the empty line. A line that is no field is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    /// A head, with anything behind it.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Its fields.
    pub fn fields(self) -> impl Iterator<Item = Field<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let end = line_end(rest);
                if begins_field(&rest[..end]) {
                    return Some(take_field(&mut rest));
                }
                if rest[..end].trim_ascii().is_empty() {
                    return None;
                }
                rest = &rest[end..];
            }
        })
    }

    /// Those of that name.
    pub fn all(self, name: &str) -> impl Iterator<Item = Field<'a>> {
        self.fields().filter(move |f| f.is(name))
    }

    /// The first of that name.
    pub fn first(self, name: &str) -> Option<Field<'a>> {
        self.all(name).next()
    }

    /// Whether there is one of that name.
    pub fn has(self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Whether it is nothing but fields and one empty line.
    pub fn is_whole(self) -> bool {
        self.fields().map(|f| f.raw.len()).sum::<usize>() + 2 == self.0.len()
    }
}

/// The field at the beginning, with its continuation lines.
fn take_field<'a>(rest: &mut &'a [u8]) -> Field<'a> {
    let mut end = line_end(rest);
    while matches!(rest.get(end), Some(b' ' | b'\t')) {
        end += line_end(&rest[end..]);
    }
    let (raw, after) = rest.split_at(end);
    *rest = after;
    Field { raw, colon: memchr::memchr(b':', raw).unwrap_or(0) }
}

/// A head that is being written. Nothing gets into it but whole fields.
#[derive(Debug, Clone, Default)]
pub struct NewHead(Vec<u8>);

impl NewHead {
    /// Room for as much as there was.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A field as it stands.
    pub fn keep(&mut self, field: &Field<'_>) {
        self.written(field.raw);
        if !field.raw.ends_with(b"\r\n") {
            self.0.extend_from_slice(b"\r\n");
        }
    }

    /// A field with another name.
    pub fn rename(&mut self, field: &Field<'_>, name: &str) {
        self.0.extend_from_slice(format!("{name}:").as_bytes());
        self.0.extend_from_slice(field.value());
        self.0.extend_from_slice(b"\r\n");
    }

    /// Fields that are written already, each with its CRLF.
    pub(crate) fn written(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    /// A field on one line. The value has no line end.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }

    /// A field of words, folded.
    pub fn add_words(&mut self, name: &str, words: &Words) {
        self.0.extend(words.field(name));
    }

    /// The head with its empty line.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
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
        let joined: Vec<u8> = Head::of(head).fields().flat_map(|f| f.raw.to_vec()).collect();
        assert_eq!(joined, &head[..head.len() - 2]);
        assert!(Head::of(head).is_whole());
        let subject = Head::of(head).first("subject").unwrap();
        assert_eq!(subject.unfolded(), b"one two");
        assert_eq!(subject.name(), b"Subject");
    }

    #[test]
    fn a_line_that_is_no_field_is_passed_over() {
        for (head, count) in [
            (&b"From: a\r\nhello world\r\nTo: b\r\n"[..], 2),
            (b"hello: world\r\n", 1),
            (b"dear sir: hello\r\n", 0),
            (b"From: a\r\n\r\nTo: b\r\n", 1),
            (b"", 0),
        ] {
            assert_eq!(Head::of(head).fields().count(), count, "{}", head.escape_ascii());
        }
    }
}
