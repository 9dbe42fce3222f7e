//! Encoded-words (RFC 2047): found, read and made.
//!
//! Invariant: what is made here is at most 60 characters long and of whole characters. Must not know: what stands
//! beside them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// RFC 2047 section 2 allows an encoded-word 75 characters; with 60 the first fits behind `Subject: `, and no line
/// is folded right behind the colon, which some readers take for a leading space. `=?UTF-8?B?` and `?=` take twelve.
const ENCODED_TEXT: usize = 60 - 12;
/// Readers take longer ones than the 75 of RFC 2047, and some senders write the whole text as one; beyond this there
/// is none, so that many beginnings without an end take no time.
const MAX_BYTES: usize = 8 * 1024;

/// Whether a word is one whole encoded-word: `=?charset?B or Q?text?=`.
pub(super) fn is_encoded_word(word: &str) -> bool {
    encoded_word_len(word) == Some(word.len())
}

/// The length of the encoded-word at the start of `text`, if there is one.
pub(crate) fn encoded_word_len(text: &str) -> Option<usize> {
    Parsed::of(text).filter(|p| text[..p.len].bytes().all(|b| b.is_ascii_graphic())).map(|p| p.len)
}

/// An encoded-word, which may have in it what does not belong there: blanks, or raw characters.
struct Parsed<'t> {
    charset: &'t str,
    is_q: bool,
    body: &'t str,
    len: usize,
}

impl<'t> Parsed<'t> {
    fn of(text: &'t str) -> Option<Self> {
        let text = &text[..text.floor_char_boundary(text.len().min(MAX_BYTES))];
        let rest = text.strip_prefix("=?")?;
        let charset = &rest[..rest.find('?')?];
        let is_named = !charset.is_empty() && charset.bytes().all(|b| b.is_ascii_graphic());
        let is_q = match rest.get(charset.len() + 1..charset.len() + 3).filter(|_| is_named)? {
            "Q?" | "q?" => true,
            "B?" | "b?" => false,
            _ => return None,
        };
        let body = &rest[charset.len() + 3..];
        let body = &body[..body.find("?=")?];
        Some(Self { charset, is_q, body, len: charset.len() + body.len() + 7 })
    }

    /// What it says; none where its charset is not known or the bytes do not fit it.
    fn read(&self) -> Option<String> {
        let label = self.charset.split('*').next().unwrap_or_default();
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes())?;
        let decoded = |bytes: &[u8]| {
            let (text, failed) = encoding.decode_without_bom_handling(bytes);
            (!failed).then(|| text.into_owned())
        };
        if !self.is_q {
            let body: Vec<u8> =
                self.body.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=').collect();
            return decoded(&base64::engine::general_purpose::STANDARD_NO_PAD.decode(body).ok()?);
        }
        let (mut text, mut bytes, mut rest) = (String::new(), vec![], self.body);
        while let Some(c) = rest.chars().next() {
            let code = rest.get(1..3).filter(|_| c == '=').and_then(|hex| u8::from_str_radix(hex, 16).ok());
            rest = &rest[if code.is_some() { 3 } else { c.len_utf8() }..];
            match (code, c) {
                (Some(byte), _) => bytes.push(byte),
                (None, '_') => bytes.push(b' '),
                (None, c) if c.is_ascii() => bytes.push(c as u8),
                (None, c) => {
                    text.push_str(&decoded(&std::mem::take(&mut bytes))?);
                    text.push(c);
                }
            }
        }
        text.push_str(&decoded(&bytes)?);
        Some(text)
    }
}

/// What a word says: encoded-words in it read, everything else as it is. None where there is none that can be read.
pub(super) fn read_word(word: &str) -> Option<String> {
    let (text, any) = replaced(word, |_| true);
    any.then_some(text)
}

/// The text with those encoded-words read that no reader would know: with blanks or raw characters in them.
pub(super) fn without_broken_words(text: &str) -> String {
    replaced(text, |word| !word.bytes().all(|b| b.is_ascii_graphic())).0
}

/// A text as people read it: without the blanks between encoded-words, controls left out.
pub fn read_text(text: &str) -> String {
    let (read, _) = replaced(text, |_| true);
    read.chars().filter(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')).collect()
}

fn replaced(text: &str, which: impl Fn(&str) -> bool) -> (String, bool) {
    let (mut out, mut any, mut at) = (String::with_capacity(text.len()), false, 0);
    // Where a blank between two encoded-words would begin.
    let mut behind_word = None;
    while let Some(next) = text[at..].find("=?").map(|i| at + i) {
        let before = &text[at..next];
        let word = Parsed::of(&text[next..]);
        let read = word.as_ref().filter(|w| which(&text[next..next + w.len])).and_then(Parsed::read);
        let is_between = behind_word == Some(at) && before.bytes().all(|b| b == b' ');
        match (word, read) {
            (Some(word), Some(read)) => {
                if !is_between {
                    out.push_str(before);
                }
                out.push_str(&read.replace(|c: char| c.is_control(), " "));
                at = next + word.len;
                behind_word = Some(at);
                any = true;
            }
            _ => {
                out.push_str(before);
                out.push_str("=?");
                at = next + 2;
            }
        }
    }
    out.push_str(&text[at..]);
    (out, any)
}

/// One text as UTF-8 encoded-words, each of at most 60 characters and of whole characters; Q where
/// most of it stays readable so, else B.
pub(super) fn encoded_words(text: &str) -> Vec<String> {
    let q = text.chars().filter(|c| !c.is_ascii()).count() * 3 <= text.chars().count();
    let mut out = Vec::new();
    let mut piece = String::new();
    let mut cost = 0;
    for c in text.chars() {
        let (next, full) = if q {
            (cost + q_cost(c), cost + q_cost(c) > ENCODED_TEXT)
        } else {
            (cost + c.len_utf8(), cost + c.len_utf8() > ENCODED_TEXT / 4 * 3)
        };
        if full {
            out.push(encoded_word(&std::mem::take(&mut piece), q));
            cost = next - cost;
        } else {
            cost = next;
        }
        piece.push(c);
    }
    out.push(encoded_word(&piece, q));
    out
}

fn q_cost(c: char) -> usize {
    if c == ' ' || is_q_plain(c) { 1 } else { 3 * c.len_utf8() }
}

/// RFC 2047 section 5 (3): the set that is safe in a phrase, too.
fn is_q_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!*+-/".contains(c)
}

fn encoded_word(text: &str, q: bool) -> String {
    if !q {
        return format!("=?UTF-8?B?{}?=", STANDARD.encode(text));
    }
    let mut out = String::from("=?UTF-8?Q?");
    for c in text.chars() {
        match c {
            ' ' => out.push('_'),
            c if is_q_plain(c) => out.push(c),
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| {
                let _ = write!(out, "={b:02X}");
            }),
        }
    }
    out.push_str("?=");
    out
}
