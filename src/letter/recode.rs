//! A message made fit to leave: parts with lines over 998 bytes, or with 8-bit where it may not leave, are encoded
//! again; raw part heads are encoded. Two walks: the first decides part by part, the second writes.
//!
//! Invariant: a part for which nothing is necessary leaves byte for byte (but for lone CR, LF and NUL); what
//! leaves in its place decodes to the same content. Must not know: dot-stuffing, chunks, the connection.

use crate::letter::charset::Charsets;
use crate::letter::field::{downgraded, encode_head};
use crate::letter::head::{Head, NewHead};
use crate::letter::mime::{Leaf, Transfer, Visitor};
use crate::letter::transfer::{Coder, Coding};
use crate::letter::words::MAX_LINE_BYTES;

/// Parts whose decision is remembered; those behind are encoded as if it were necessary.
const MAX_PARTS: usize = 10_000;

/// What is done to one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    coding: Coding,
    /// The new Content-Transfer-Encoding.
    label: Option<&'static str>,
    /// Raw 8-bit text that does not say its charset: whether it is UTF-8.
    is_utf8: Option<bool>,
}

fn decide(leaf: Leaf, signed: bool, too_long: bool, has_8bit: bool, to_8bit: bool) -> Decision {
    let keep = |coding| Decision { coding, label: None, is_utf8: None };
    let relabel = |coding, label| Decision { coding, label: Some(label), is_utf8: None };
    if !too_long && (to_8bit || !has_8bit) {
        return match leaf.transfer {
            Transfer::Identity { labelled_8bit: false } if has_8bit && !signed => {
                relabel(Coding::Copy, "8bit")
            }
            _ => keep(Coding::Copy),
        };
    }
    match leaf.transfer {
        Transfer::Base64 => keep(Coding::Rewrap),
        Transfer::QuotedPrintable => keep(Coding::SoftBreak),
        Transfer::Other => keep(Coding::Cut { to_8bit }),
        Transfer::Identity { .. } if leaf.is_text => relabel(Coding::QuotedPrintable, "quoted-printable"),
        Transfer::Identity { .. } => relabel(Coding::Base64, "base64"),
    }
}

/// The first walk.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    to_8bit: bool,
    current: Option<(Leaf, bool)>,
    column: usize,
    too_long: bool,
    has_8bit: bool,
    valid_utf8: Utf8,
    decisions: Vec<Decision>,
}

impl Survey {
    pub(crate) fn new(to_8bit: bool) -> Self {
        Self { to_8bit, ..Self::default() }
    }

    /// One for each leaf, in order.
    pub(crate) fn decisions(self) -> Vec<Decision> {
        self.decisions
    }
}

impl Visitor for Survey {
    fn head(&mut self, _: &[u8], leaf: Option<Leaf>, signed: bool) {
        self.current = leaf.map(|l| (l, signed));
        (self.column, self.too_long, self.has_8bit) = (0, false, false);
        self.valid_utf8 = Utf8::default();
    }

    fn leaf(&mut self, text: &[u8], ends_line: bool) {
        self.column += text.len();
        self.too_long |= self.column > MAX_LINE_BYTES;
        if !text.is_ascii() {
            self.has_8bit = true;
        }
        self.valid_utf8.push(text);
        if ends_line {
            self.valid_utf8.push(b"\n");
            self.column = 0;
        }
    }

    fn leaf_end(&mut self) {
        let Some((leaf, signed)) = self.current.take() else { return };
        if self.decisions.len() < MAX_PARTS {
            let mut decision = decide(leaf, signed, self.too_long, self.has_8bit, self.to_8bit);
            let raw = self.has_8bit && matches!(leaf.transfer, Transfer::Identity { .. });
            decision.is_utf8 = (raw && leaf.lacks_charset && !signed).then_some(self.valid_utf8.so_far);
            self.decisions.push(decision);
        }
    }

    fn opaque(&mut self, _: &[u8], _: bool) {}
}

/// Whether text that comes in pieces is UTF-8.
#[derive(Debug)]
struct Utf8 {
    so_far: bool,
    cut: Vec<u8>,
}

impl Default for Utf8 {
    fn default() -> Self {
        Self { so_far: true, cut: Vec::new() }
    }
}

impl Utf8 {
    fn push(&mut self, text: &[u8]) {
        if !self.so_far || self.cut.is_empty() && text.is_ascii() {
            return;
        }
        self.cut.extend_from_slice(text);
        match std::str::from_utf8(&self.cut) {
            Ok(_) => self.cut.clear(),
            Err(e) if e.error_len().is_none() => {
                self.cut.drain(..e.valid_up_to());
            }
            Err(_) => self.so_far = false,
        }
    }
}

/// The second walk.
#[derive(Debug)]
pub(crate) struct Rewriter {
    to_8bit: bool,
    charsets: Charsets,
    decisions: Vec<Decision>,
    next_leaf: usize,
    root_done: bool,
    coder: Coder,
    opaque: Coder,
    /// What leaves, before dot-stuffing.
    pub(crate) out: Vec<u8>,
}

impl Rewriter {
    pub(crate) fn new(decisions: Vec<Decision>, charsets: Charsets, to_8bit: bool) -> Self {
        Self {
            to_8bit,
            charsets,
            decisions,
            next_leaf: 0,
            root_done: false,
            coder: Coder::new(Coding::Copy),
            opaque: Coder::new(Coding::Cut { to_8bit }),
            out: Vec::new(),
        }
    }

    fn part_head(&self, head: &[u8], signed: bool) -> Vec<u8> {
        let fits = head.split(|b| *b == b'\n').all(|line| line.len() <= MAX_LINE_BYTES + 1);
        // A signature covers the heads of its parts.
        let mut head =
            if signed && self.to_8bit && fits { head.to_vec() } else { encode_head(head, self.charsets) };
        if !self.to_8bit {
            head = downgraded(head);
            head.iter_mut().filter(|b| !b.is_ascii()).for_each(|b| *b = b'?');
        }
        head
    }
}

impl Visitor for Rewriter {
    fn head(&mut self, head: &[u8], leaf: Option<Leaf>, signed: bool) {
        let is_root = !std::mem::replace(&mut self.root_done, true);
        let mut head = if is_root { head.to_vec() } else { self.part_head(head, signed) };
        if let Some(leaf) = leaf {
            let forced = || decide(leaf, signed, true, true, self.to_8bit);
            let decision = self.decisions.get(self.next_leaf).copied().unwrap_or_else(forced);
            self.next_leaf += 1;
            if let Some(is_utf8) = decision.is_utf8 {
                head = with_charset(&head, &self.charsets.label(is_utf8));
            }
            if let Some(label) = decision.label {
                head = relabelled(&head, label, is_root);
            }
            self.coder = Coder::new(decision.coding);
        }
        self.out.extend(head);
    }

    fn leaf(&mut self, text: &[u8], ends_line: bool) {
        self.coder.push(text, ends_line, &mut self.out);
    }

    fn leaf_end(&mut self) {
        self.coder.finish(&mut self.out);
    }

    fn opaque(&mut self, text: &[u8], ends_line: bool) {
        self.opaque.push(text, ends_line, &mut self.out);
    }
}

/// The head with this Content-Transfer-Encoding and no other; at the root it says that it is MIME.
fn relabelled(head: &[u8], label: &str, is_root: bool) -> Vec<u8> {
    let head = Head::of(head);
    let mut out = NewHead::default();
    for field in head.fields().filter(|f| !f.is("Content-Transfer-Encoding")) {
        out.keep(&field);
    }
    if is_root && !head.has("MIME-Version") {
        out.add("MIME-Version", "1.0");
    }
    out.add("Content-Transfer-Encoding", label);
    out.finish()
}

/// The head with a charset in its Content-Type.
fn with_charset(head: &[u8], charset: &str) -> Vec<u8> {
    let mut out = NewHead::default();
    let mut kind = b"text/plain".to_vec();
    for field in Head::of(head).fields() {
        if field.is("Content-Type") {
            let value = field.value().trim_ascii();
            let value = value.strip_suffix(b";").unwrap_or(value);
            if value.len() > MAX_LINE_BYTES / 2 {
                // Nobody's text/plain; and the line must not grow too long.
                return head.to_vec();
            }
            if !value.is_empty() {
                kind = value.to_vec();
            }
        } else {
            out.keep(&field);
        }
    }
    out.written(b"Content-Type: ");
    out.written(&kind);
    out.written(format!(";\r\n charset={charset}\r\n").as_bytes());
    out.finish()
}
