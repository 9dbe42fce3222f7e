//! Encoded-words (RFC 2047).
//!
//! Invariant: what is made here is at most 60 characters long and of whole characters. Must not know: what stands
//! beside them.

use super::MAX_LINE_BYTES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// RFC 2047 section 2 allows an encoded-word 75 characters; with 60 the first fits behind `Subject: `, and no line
/// is folded right behind the colon, which some readers take for a leading space. `=?UTF-8?B?` and `?=` take twelve.
const ENCODED_TEXT: usize = 60 - 12;

/// Whether a word is one whole encoded-word: `=?charset?B or Q?text?=`.
pub(super) fn is_encoded_word(word: &str) -> bool {
    encoded_word_len(word) == Some(word.len())
}

/// The length of the encoded-word at the start of `text`, if there is one.
pub(crate) fn encoded_word_len(text: &str) -> Option<usize> {
    // No longer than a line, so that many beginnings without an end take no time.
    let text = &text[..text.floor_char_boundary(text.len().min(MAX_LINE_BYTES))];
    let rest = text.strip_prefix("=?")?;
    let charset = rest.find('?')?;
    let coding = rest.get(charset + 1..charset + 3)?;
    if charset == 0 || !matches!(coding, "B?" | "b?" | "Q?" | "q?") {
        return None;
    }
    let body = rest.get(charset + 3..)?;
    let end = body.find("?=")?;
    let whole = 2 + charset + 3 + end + 2;
    text[..whole].bytes().all(|b| b.is_ascii_graphic()).then_some(whole)
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
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out.push_str(&format!("={b:02X}"))),
        }
    }
    out.push_str("?=");
    out
}
