//! A message made fit to leave: parts with lines over 998 bytes, or with 8-bit where it may not leave, are encoded
//! again; raw part heads are encoded; labels say what the bytes are. Two walks: the first decides part by part, the
//! second writes.
//!
//! Invariant: a part for which nothing is necessary leaves byte for byte (but for lone CR, LF and NUL); what
//! leaves in its place decodes to the same content. Must not know: dot-stuffing, chunks, the connection.

use crate::letter::charset::{Charsets, Probe};
use crate::letter::field::{downgraded, encode_head, is_clean};
use crate::letter::head::{Head, NewHead};
use crate::letter::mime::{Charset, Leaf, Part, Transfer, Visitor};
use crate::letter::parameters;
use crate::letter::transfer::{Coder, Coding};
use crate::letter::words::MAX_LINE_BYTES;
use encoding_rs::{Encoding, WINDOWS_1252};

/// Parts whose decision is remembered; those behind are encoded as if it were necessary.
const MAX_PARTS: usize = 10_000;
/// By so much of a part it is judged whether it is base64.
const SAMPLE_BYTES: u64 = 64 * 1024;

/// What the server announces.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// 8BITMIME.
    pub eight_bit: bool,
    /// SMTPUTF8.
    pub utf8: bool,
}

/// What is done to one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    coding: Coding,
    /// The new Content-Transfer-Encoding.
    label: Option<&'static str>,
    /// The old one is kept under another name: nobody here knows it.
    keeps_label: bool,
    /// The charset, where the text says none or a wrong one.
    charset: Option<&'static Encoding>,
}

impl Decision {
    const fn nothing(coding: Coding) -> Self {
        Self { coding, label: None, keeps_label: false, charset: None }
    }
}

/// What a leaf is like.
#[derive(Debug, Clone, Copy, Default)]
struct Looks {
    too_long: bool,
    has_8bit: bool,
    /// In base64, so many bytes that are none of it, and all. A text gives itself away by its blanks.
    strange: u64,
    bytes: u64,
}

fn decide(transfer: Transfer, leaf: Leaf, signed: bool, looks: Looks, to_8bit: bool) -> Decision {
    let relabel = |coding, label| Decision { label: Some(label), ..Decision::nothing(coding) };
    if !looks.too_long && (to_8bit || !looks.has_8bit) {
        return match transfer {
            Transfer::Identity { labelled_8bit: false } if looks.has_8bit && !signed => {
                relabel(Coding::Copy, "8bit")
            }
            _ => Decision::nothing(Coding::Copy),
        };
    }
    let is_base64 = looks.strange * 10 <= looks.bytes;
    match transfer {
        Transfer::Base64 if is_base64 => Decision::nothing(Coding::Rewrap),
        Transfer::QuotedPrintable => Decision::nothing(Coding::SoftBreak),
        _ => {
            let keeps_label = !matches!(transfer, Transfer::Identity { .. });
            let (coding, label) = if leaf.is_text {
                (Coding::QuotedPrintable, "quoted-printable")
            } else {
                (Coding::Base64, "base64")
            };
            Decision { keeps_label, ..relabel(coding, label) }
        }
    }
}

/// A part with parts, as far as the walk has come.
#[derive(Debug)]
struct Container {
    decision: usize,
    depth: usize,
    transfer: Transfer,
    is_signed: bool,
    has_parts: bool,
    leaves_8bit: bool,
    recoded: bool,
}

impl Container {
    /// RFC 2045 section 6.4: a label that covers its parts, and none that encodes them again.
    fn label(&self) -> Option<&'static str> {
        let fit = if self.leaves_8bit { "8bit" } else { "7bit" };
        let wrong = match self.transfer {
            Transfer::Identity { labelled_8bit } => {
                self.leaves_8bit && !labelled_8bit || self.recoded && !self.leaves_8bit && labelled_8bit
            }
            _ => self.has_parts,
        };
        (wrong && !self.is_signed).then_some(fit)
    }
}

/// The first walk.
#[derive(Debug)]
pub(crate) struct Survey {
    to_8bit: bool,
    charsets: Charsets,
    /// By DKIM: a label that the standards allow stays.
    is_signed: bool,
    declared: Option<&'static Encoding>,
    current: Option<(Part, Leaf)>,
    column: usize,
    looks: Looks,
    probe: Probe,
    open: Vec<Container>,
    decisions: Vec<Decision>,
}

impl Survey {
    pub(crate) fn new(root: &[u8], charsets: Charsets, to_8bit: bool) -> Self {
        Self {
            to_8bit,
            charsets,
            is_signed: Head::of(root).has("DKIM-Signature"),
            declared: None,
            current: None,
            column: 0,
            looks: Looks::default(),
            probe: Probe::new(None, charsets),
            open: vec![],
            decisions: vec![],
        }
    }

    /// The first charset that the message names.
    pub(crate) fn declared(&self) -> Option<&'static Encoding> {
        self.declared
    }

    /// One for each head, in order.
    pub(crate) fn decisions(mut self) -> Vec<Decision> {
        self.close(0);
        self.decisions
    }

    /// Ends the parts that are not around what stands at this depth.
    fn close(&mut self, depth: usize) {
        while let Some(container) = self.open.pop_if(|c| c.depth >= depth) {
            if let Some(decision) = self.decisions.get_mut(container.decision) {
                decision.label = container.label();
            }
        }
    }

    fn charset(&self, part: Part, leaf: Leaf) -> Option<&'static Encoding> {
        if part.is_signed || !matches!(part.transfer, Transfer::Identity { .. } | Transfer::Other) {
            return None;
        }
        let label = match leaf.charset {
            Charset::Foreign => return None,
            Charset::Unsaid => None,
            Charset::Known(label) => Some(label),
        };
        let stays = self.is_signed && label == Some(WINDOWS_1252);
        self.probe.found(label).filter(|found| label != Some(*found) && !stays)
    }
}

impl Visitor for Survey {
    fn head(&mut self, _: &[u8], part: Part) {
        self.close(part.depth);
        if let Some(around) = self.open.last_mut() {
            around.has_parts = true;
        }
        self.current = part.leaf.map(|leaf| (part, leaf));
        (self.column, self.looks) = (0, Looks::default());
        let label = match part.leaf {
            Some(Leaf { charset: Charset::Known(label), .. }) => Some(label),
            _ => None,
        };
        self.declared = self.declared.or(label);
        let probe = Probe::new(label, self.charsets.or_declared(self.declared));
        let is_html = matches!(part.leaf, Some(Leaf { is_html: true, charset: Charset::Unsaid, .. }));
        self.probe = if is_html { probe.html() } else { probe };
        let decision = self.decisions.len();
        if decision < MAX_PARTS {
            self.decisions.push(Decision::nothing(Coding::Copy));
        }
        if part.leaf.is_none() {
            let Part { transfer, is_signed, depth, .. } = part;
            let (has_parts, leaves_8bit, recoded) = (false, false, false);
            self.open.push(Container {
                decision,
                depth,
                transfer,
                is_signed,
                has_parts,
                leaves_8bit,
                recoded,
            });
        }
    }

    fn leaf(&mut self, text: &[u8], ends_line: bool) {
        self.column += text.len();
        self.looks.too_long |= self.column > MAX_LINE_BYTES;
        self.looks.has_8bit |= !text.is_ascii();
        let transfer = self.current.map(|(part, _)| part.transfer);
        if transfer == Some(Transfer::Base64) && self.looks.bytes < SAMPLE_BYTES {
            let strange = text.iter().filter(|b| !b.is_ascii_alphanumeric() && !b"+/=".contains(b)).count();
            self.looks.strange += strange as u64;
            self.looks.bytes += text.len() as u64;
        }
        let is_raw = matches!(transfer, Some(Transfer::Identity { .. } | Transfer::Other));
        if is_raw {
            self.probe.push(text);
        }
        if ends_line {
            if is_raw {
                self.probe.push(b"\n");
            }
            self.column = 0;
        }
    }

    fn leaf_end(&mut self) {
        let Some((part, leaf)) = self.current.take() else { return };
        let mut decision = decide(part.transfer, leaf, part.is_signed, self.looks, self.to_8bit);
        decision.charset = self.charset(part, leaf);
        let leaves_8bit = self.looks.has_8bit && decision.coding == Coding::Copy;
        for container in &mut self.open {
            container.leaves_8bit |= leaves_8bit;
            container.recoded |= self.looks.has_8bit && !leaves_8bit;
        }
        if self.decisions.len() < MAX_PARTS
            && let Some(last) = self.decisions.last_mut()
        {
            *last = decision;
        }
    }

    fn opaque(&mut self, text: &[u8], _: bool, depth: usize) {
        if !text.is_ascii() && self.to_8bit {
            self.close(depth);
            self.open.iter_mut().for_each(|c| c.leaves_8bit = true);
        }
    }
}

/// The second walk.
#[derive(Debug)]
pub(crate) struct Rewriter {
    taken: Taken,
    charsets: Charsets,
    decisions: Vec<Decision>,
    next_head: usize,
    coder: Coder,
    opaque: Coder,
    /// The head of an embedded message leaves with an address beyond ASCII.
    pub(crate) needs_utf8: bool,
    /// What leaves, before dot-stuffing.
    pub(crate) out: Vec<u8>,
}

impl Rewriter {
    pub(crate) fn new(decisions: Vec<Decision>, charsets: Charsets, taken: Taken) -> Self {
        Self {
            taken,
            charsets,
            decisions,
            next_head: 0,
            coder: Coder::new(Coding::Copy),
            opaque: Coder::new(Coding::Cut { to_8bit: taken.eight_bit }),
            needs_utf8: false,
            out: Vec::new(),
        }
    }

    fn part_head(&mut self, head: &[u8], signed: bool) -> Vec<u8> {
        let fits = head.split(|b| *b == b'\n').all(|line| line.len() <= MAX_LINE_BYTES + 1);
        if signed && self.taken.eight_bit && fits {
            // A signature covers the heads of its parts.
            return head.to_vec();
        }
        if Head::of(head).fields().all(|f| is_clean(f.raw)) {
            return head.to_vec();
        }
        let head = encode_head(head, self.charsets.declared_in(Head::of(head)));
        if !self.taken.utf8 || !self.taken.eight_bit {
            return downgraded(head);
        }
        self.needs_utf8 |= !head.is_ascii();
        head
    }
}

impl Visitor for Rewriter {
    fn head(&mut self, head: &[u8], part: Part) {
        let is_root = self.next_head == 0;
        let mut head = if is_root { head.to_vec() } else { self.part_head(head, part.is_signed) };
        let forced = || match part.leaf {
            Some(leaf) => {
                let looks = Looks { too_long: true, has_8bit: true, ..Looks::default() };
                decide(part.transfer, leaf, part.is_signed, looks, self.taken.eight_bit)
            }
            None => Decision::nothing(Coding::Copy),
        };
        let decision = self.decisions.get(self.next_head).copied().unwrap_or_else(forced);
        self.next_head += 1;
        if let Some(charset) = decision.charset {
            head = with_charset(&head, &charset.name().to_ascii_lowercase());
        }
        if let Some(label) = decision.label {
            head = relabelled(&head, label, is_root, decision.keeps_label);
        }
        if part.leaf.is_some() {
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

    fn opaque(&mut self, text: &[u8], ends_line: bool, _: usize) {
        self.opaque.push(text, ends_line, &mut self.out);
    }
}

/// The head with this Content-Transfer-Encoding and no other; at the root it says that it is MIME.
fn relabelled(head: &[u8], label: &str, is_root: bool, keeps_old: bool) -> Vec<u8> {
    const NAME: &str = "Content-Transfer-Encoding";
    let head = Head::of(head);
    let mut out = NewHead::default();
    let mut said = false;
    for field in head.fields() {
        if !field.is(NAME) {
            out.keep(&field);
        } else if !std::mem::replace(&mut said, true) {
            out.add(&String::from_utf8_lossy(field.name()), label);
            if keeps_old {
                out.rename(&field, "X-Original-Content-Transfer-Encoding");
            }
        }
    }
    if is_root && !head.has("MIME-Version") {
        out.add("MIME-Version", "1.0");
    }
    if !said {
        out.add(NAME, label);
    }
    out.finish()
}

/// The head with this charset in its Content-Type.
fn with_charset(head: &[u8], charset: &str) -> Vec<u8> {
    let mut out = NewHead::default();
    let mut said = false;
    for field in Head::of(head).fields() {
        if !field.is("Content-Type") || said {
            out.keep(&field);
            continue;
        }
        said = true;
        let (name, value) = (String::from_utf8_lossy(field.name()), String::from_utf8_lossy(field.value()));
        let value = value.trim().trim_end_matches(';');
        match parameters::span(value, "charset") {
            // Nobody's text/plain; and the line must not grow too long.
            _ if value.len() > MAX_LINE_BYTES / 2 => out.keep(&field),
            Some(span) => out.add(&name, &[&value[..span.start], charset, &value[span.end..]].concat()),
            None => {
                let kind = if value.is_empty() { "text/plain" } else { value };
                out.add(&name, &format!("{kind};\r\n charset={charset}"));
            }
        }
    }
    if !said {
        out.add("Content-Type", &format!("text/plain;\r\n charset={charset}"));
    }
    out.finish()
}
