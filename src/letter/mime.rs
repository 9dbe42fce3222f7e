//! The MIME structure of a message, walked line by line (RFC 2046).
//!
//! Invariant: every line of the content reaches the visitor exactly once, in order, whatever the structure is;
//! memory stays below one part head (`MAX_HEAD_BYTES`) and `MAX_DEPTH` boundaries. What cannot be understood is
//! opaque. Must not know: what is done to a part.

use crate::letter::charset::{self, Charsets};
use crate::letter::head::Head;
use crate::letter::parameters;
use crate::letter::reader;
use encoding_rs::Encoding;

/// Multiparts and embedded messages inside each other; deeper ones are opaque.
const MAX_DEPTH: usize = 20;
/// A longer part head is opaque, with what follows it.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// RFC 2046 allows 70 characters and white space behind; devices write longer ones.
const MAX_BOUNDARY_LINE: usize = 998;
/// A longer line is handed on in pieces of about this size.
const PIECE_BYTES: usize = 8 * 1024;

/// Content-Transfer-Encoding as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// 7bit, 8bit, binary or nothing.
    Identity { labelled_8bit: bool },
    /// base64.
    Base64,
    /// quoted-printable.
    QuotedPrintable,
    /// Something else (x-uuencode): the content cannot be encoded again.
    Other,
}

/// What a text says of its charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// Nothing, or that it is ASCII.
    Unsaid,
    /// One that can be read here.
    Known(&'static Encoding),
    /// Another, or it is no text.
    Foreign,
}

/// A part without parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    /// text/* or nothing said, or a message that cannot be walked.
    pub(crate) is_text: bool,
    /// text/html.
    pub(crate) is_html: bool,
    /// Of text/*, or where nothing is said.
    pub(crate) charset: Charset,
}

/// What is known of a part when its head is complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// How it is encoded, as it says.
    pub(crate) transfer: Transfer,
    /// Nothing where it has parts.
    pub(crate) leaf: Option<Leaf>,
    /// It stands below a multipart/signed.
    pub(crate) is_signed: bool,
    /// How many parts it stands in.
    pub(crate) depth: usize,
}

/// What a walk meets, in order.
pub(crate) trait Visitor {
    /// A head, with its empty line if it has one.
    fn head(&mut self, head: &[u8], part: Part);
    /// Content of the leaf whose head came last: a line or a piece of one, without CRLF.
    fn leaf(&mut self, text: &[u8], ends_line: bool);
    /// The leaf has ended.
    fn leaf_end(&mut self);
    /// Boundaries, preambles and what is not understood, in a part at this depth.
    fn opaque(&mut self, text: &[u8], ends_line: bool, depth: usize);
}

#[derive(Debug)]
struct Open {
    boundary: Vec<u8>,
    digest: bool,
    signed: bool,
    embedded: usize,
}

#[derive(Debug)]
enum State {
    Head { bytes: Vec<u8>, digest: bool },
    Leaf,
    Opaque,
}

/// Walks one message.
#[derive(Debug)]
pub(crate) struct Walker {
    lines: Lines,
    structure: Structure,
}

impl Walker {
    /// Begins with the head of the message.
    pub(crate) fn begin(head: &[u8], visitor: &mut impl Visitor) -> Self {
        let mut structure = Structure { open: Vec::new(), embedded: 0, state: State::Opaque };
        structure.enter(head, false, visitor);
        Self { lines: Lines::default(), structure }
    }

    /// The next bytes of the content, split anywhere. NUL is dropped, a lone CR or LF ends a line.
    pub(crate) fn push(&mut self, chunk: &[u8], visitor: &mut impl Visitor) {
        let structure = &mut self.structure;
        self.lines.push(chunk, &mut |text, starts, ends| structure.line(text, starts, ends, visitor));
    }

    /// The content has ended; its last line is ended if it was not.
    pub(crate) fn finish(mut self, visitor: &mut impl Visitor) {
        let structure = &mut self.structure;
        self.lines.finish(&mut |text, starts, ends| structure.line(text, starts, ends, visitor));
        structure.leave(visitor);
    }
}

#[derive(Debug)]
struct Structure {
    open: Vec<Open>,
    embedded: usize,
    state: State,
}

impl Structure {
    fn line(&mut self, text: &[u8], starts: bool, ends: bool, visitor: &mut impl Visitor) {
        let may_be_boundary = starts && ends && text.starts_with(b"--") && text.len() <= MAX_BOUNDARY_LINE;
        if may_be_boundary && let Some((level, closes)) = self.boundary(text) {
            self.leave(visitor);
            visitor.opaque(text, true, level + 1);
            let (digest, embedded) = (self.open[level].digest, self.open[level].embedded);
            self.embedded = embedded;
            if closes {
                self.open.truncate(level);
                self.state = State::Opaque;
            } else {
                self.open.truncate(level + 1);
                self.state = State::Head { bytes: Vec::new(), digest };
            }
            return;
        }
        match &mut self.state {
            State::Leaf => visitor.leaf(text, ends),
            State::Opaque => visitor.opaque(text, ends, self.open.len() + self.embedded),
            State::Head { bytes, digest } => {
                bytes.extend_from_slice(text);
                if ends {
                    bytes.extend_from_slice(b"\r\n");
                }
                if starts && ends && text.is_empty() {
                    let (head, digest) = (std::mem::take(bytes), *digest);
                    self.enter(&head, digest, visitor);
                } else if bytes.len() > MAX_HEAD_BYTES {
                    self.leave(visitor);
                }
            }
        }
    }

    /// The level of the boundary this line is, innermost first, and whether it closes.
    fn boundary(&self, text: &[u8]) -> Option<(usize, bool)> {
        let text = text[2..].trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            match text.strip_prefix(open.boundary.as_slice())? {
                b"" => Some((level, false)),
                b"--" => Some((level, true)),
                _ => None,
            }
        })
    }

    /// Ends what is open at this level; a head that never ended is opaque.
    fn leave(&mut self, visitor: &mut impl Visitor) {
        match std::mem::replace(&mut self.state, State::Opaque) {
            State::Leaf => visitor.leaf_end(),
            State::Head { bytes, .. } => self.opaque_lines(&bytes, visitor),
            State::Opaque => {}
        }
    }

    fn enter(&mut self, head: &[u8], digest: bool, visitor: &mut impl Visitor) {
        let is_signed = self.open.iter().any(|o| o.signed);
        if Head::of(head).is_whole() {
            return self.begin(head, digest, is_signed, visitor);
        }
        if is_signed {
            self.opaque_lines(head, visitor);
            self.state = State::Opaque;
            return;
        }
        // Text in the head: a line that does not belong there, or the content of somebody who forgot the empty line.
        let (head, content) = reader::split(head);
        self.begin(&head, digest, is_signed, visitor);
        for line in content.split_inclusive(|b| *b == b'\n') {
            self.line(line.strip_suffix(b"\r\n").unwrap_or(line), true, true, visitor);
        }
    }

    fn begin(&mut self, head: &[u8], digest: bool, is_signed: bool, visitor: &mut impl Visitor) {
        let value = |name| Head::of(head).first(name).map(|f| Charsets::default().read(&f.unfolded()));
        let content_type = value("Content-Type");
        let kind = content_type.as_deref().and_then(|v| v.split([';', ' ']).next()).unwrap_or_default();
        let kind = kind.trim().to_ascii_lowercase();
        let transfer = transfer(&value("Content-Transfer-Encoding").unwrap_or_default());
        let depth = self.open.len() + self.embedded;
        let too_deep = depth >= MAX_DEPTH;
        let is_message = kind == "message/rfc822" || kind == "message/global" || kind.is_empty() && digest;
        let part = Part { transfer, leaf: None, is_signed, depth };
        if kind.starts_with("multipart/") {
            visitor.head(head, part);
            self.state = State::Opaque;
            let boundary = content_type.as_deref().and_then(|v| parameters::get(v, "boundary"));
            if let Some(boundary) = boundary.filter(|b| !b.trim_end().is_empty() && !too_deep) {
                self.open.push(Open {
                    boundary: boundary.trim_end().as_bytes().to_vec(),
                    digest: kind == "multipart/digest",
                    signed: kind == "multipart/signed",
                    embedded: self.embedded,
                });
            }
        } else if is_message && matches!(transfer, Transfer::Identity { .. }) {
            visitor.head(head, part);
            self.embedded += 1;
            self.state =
                if too_deep { State::Opaque } else { State::Head { bytes: Vec::new(), digest: false } };
        } else {
            let is_plain = kind.is_empty() || kind.starts_with("text/");
            let label = charset::charset_of(Head::of(head)).unwrap_or_default();
            let charset = match charset::encoding(&label) {
                Some(known) if is_plain => Charset::Known(known),
                None if is_plain && charset::says_nothing(&label) => Charset::Unsaid,
                _ => Charset::Foreign,
            };
            let is_html = kind == "text/html";
            let leaf = Leaf { is_text: is_plain || kind.starts_with("message/"), is_html, charset };
            visitor.head(head, Part { leaf: Some(leaf), ..part });
            self.state = State::Leaf;
        }
    }

    fn opaque_lines(&self, bytes: &[u8], visitor: &mut impl Visitor) {
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\r\n");
            visitor.opaque(text.unwrap_or(line), text.is_some(), self.open.len() + self.embedded);
        }
    }
}

/// Whether a head says that its parts are encoded once more as a whole, which none may be (RFC 2045 section 6.4).
pub(crate) fn is_encoded_multipart(head: &[u8]) -> bool {
    let value = |name| {
        Head::of(head).first(name).map(|f| Charsets::default().read(&f.unfolded()).to_ascii_lowercase())
    };
    value("Content-Type").is_some_and(|v| v.starts_with("multipart/"))
        && !matches!(
            transfer(&value("Content-Transfer-Encoding").unwrap_or_default()),
            Transfer::Identity { .. }
        )
}

/// As devices write it: `"base64"`, `8-bit;`, `7bit (none)`.
fn transfer(said: &str) -> Transfer {
    let word = said.split([';', '(']).next().unwrap_or_default();
    match word.trim_matches(|c: char| c == '"' || c.is_whitespace()).to_ascii_lowercase().as_str() {
        "" | "7bit" | "7-bit" => Transfer::Identity { labelled_8bit: false },
        "8bit" | "8-bit" | "binary" => Transfer::Identity { labelled_8bit: true },
        "base64" => Transfer::Base64,
        "quoted-printable" => Transfer::QuotedPrintable,
        _ => Transfer::Other,
    }
}

/// Lines out of chunks split anywhere.
#[derive(Debug)]
struct Lines {
    line: Vec<u8>,
    starts: bool,
    after_cr: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { line: Vec::new(), starts: true, after_cr: false }
    }
}

impl Lines {
    fn push(&mut self, chunk: &[u8], each: &mut impl FnMut(&[u8], bool, bool)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let at = memchr::memchr3(0, b'\r', b'\n', rest).unwrap_or(rest.len());
            if at > 0 {
                if std::mem::take(&mut self.after_cr) {
                    self.end(each);
                }
                self.line.extend_from_slice(&rest[..at]);
            }
            match rest.get(at) {
                Some(b'\n') => {
                    self.after_cr = false;
                    self.end(each);
                }
                Some(b'\r') if std::mem::replace(&mut self.after_cr, true) => self.end(each),
                _ => {}
            }
            rest = rest.get(at + 1..).unwrap_or_default();
            if self.line.len() >= PIECE_BYTES {
                each(&self.line, self.starts, false);
                self.starts = false;
                self.line.clear();
            }
        }
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8], bool, bool)) {
        each(&self.line, self.starts, true);
        self.line.clear();
        self.starts = true;
    }

    fn finish(&mut self, each: &mut impl FnMut(&[u8], bool, bool)) {
        if self.after_cr || !self.line.is_empty() || !self.starts {
            self.end(each);
        }
    }
}
