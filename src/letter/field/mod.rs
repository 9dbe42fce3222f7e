//! Fields as they may leave: text encoded, lines folded, what is clean left as it is.
//!
//! Invariant: no line over 998 bytes, no NUL and no CR or LF but at line ends; nothing outside ASCII but addresses that
//! need SMTPUTF8, and after `downgraded` not those either. Must not know: who may send as whom.

use crate::letter::address_list;
use crate::letter::address_list::words::{Letters, address_words};
use crate::letter::charset::Charsets;
use crate::letter::head::{Field, Head, NewHead};
use crate::letter::parameters;
use crate::letter::words::{MAX_LINE_BYTES, Words, encoded_word_len};

/// A field name longer than this is no name, and could not be folded.
const MAX_NAME_BYTES: usize = 200;

/// Any head (of the message, of a part, of an embedded message) with its fields encoded and folded, and otherwise
/// as it is. Ends with the empty line.
pub fn encode_head(head: &[u8], charsets: Charsets) -> Vec<u8> {
    let mut out = NewHead::with_capacity(head.len());
    for field in Head::of(head).fields() {
        out.written(&encode_field(&field, charsets));
    }
    out.finish()
}

/// A head that `rewrite_head` or `encode_head` made, for a server that does not offer SMTPUTF8: addresses that need it
/// can be read but not answered. A field without one stays byte for byte.
pub fn downgraded(head: Vec<u8>) -> Vec<u8> {
    if head.is_ascii() {
        return head;
    }
    let mut out = NewHead::with_capacity(head.len());
    for field in Head::of(&head).fields() {
        if field.raw.is_ascii() {
            out.keep(&field);
            continue;
        }
        let list = address_list::parse(&Charsets::default().read(&field.unfolded()));
        out.add_words(&name_of(&field), &address_words(&list, Letters::Downgraded));
    }
    out.finish()
}

fn name_of(field: &Field<'_>) -> String {
    field.name().iter().take(MAX_NAME_BYTES).map(|b| char::from(*b)).collect()
}

/// How a value may be changed without changing what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Addresses,
    Parameters,
    /// No text but in comments: a byte outside ASCII has no business there.
    Token,
    Text,
}

fn kind(field: &Field<'_>) -> Kind {
    let one_of = |names: &[&str]| names.iter().any(|n| field.is(n));
    let begins = |names: &[&str]| {
        let name = field.name();
        names
            .iter()
            .any(|n| name.get(..n.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(n.as_bytes())))
    };
    if one_of(&["To", "Cc", "From", "Sender", "Reply-To", "Resent-To", "Resent-Cc", "Resent-From"])
        || one_of(&["Resent-Sender", "Disposition-Notification-To", "Return-Receipt-To", "Errors-To"])
    {
        Kind::Addresses
    } else if one_of(&["Content-Type", "Content-Disposition"]) {
        Kind::Parameters
    } else if one_of(&["Message-ID", "References", "In-Reply-To", "Received", "Date", "MIME-Version"])
        || one_of(&[
            "Content-Transfer-Encoding",
            "Content-ID",
            "DKIM-Signature",
            "Resent-Message-ID",
            "Resent-Date",
        ])
        || one_of(&[
            "Authentication-Results",
            "DomainKey-Signature",
            "Autocrypt",
            "Content-Location",
            "Content-MD5",
        ])
        || begins(&["ARC-", "List-"])
    {
        Kind::Token
    } else {
        Kind::Text
    }
}

/// The field with its CRLF, as it may leave. A clean one stays byte for byte.
pub(super) fn encode_field(field: &Field<'_>, charsets: Charsets) -> Vec<u8> {
    if is_clean(field.raw) {
        return field.raw.to_vec();
    }
    let name = name_of(field);
    let kind = kind(field);
    let value = charsets.read(&field.unfolded());
    if value.is_ascii() {
        return refolded(&value, kind).field(&name);
    }
    let words = match kind {
        Kind::Addresses => {
            // Only what came as UTF-8 is meant as an address of RFC 6531; bytes of another charset are a mistake.
            let is_utf8 = std::str::from_utf8(field.raw).is_ok();
            let letters = if is_utf8 { Letters::Any } else { Letters::Ascii };
            let words = address_words(&address_list::parse(&value), letters);
            if words.is_empty() {
                return vec![];
            }
            words
        }
        Kind::Parameters => parameters::words(&value),
        Kind::Token => token_words(&value),
        Kind::Text => Words::text(&value),
    };
    words.field(&name)
}

/// ASCII that had lines too long, blank ones, or controls in it: folded anew at its own blanks, which no reader and no
/// signature (RFC 6376 section 3.4.2) sees. Only a piece without any is folded where the grammar allows a blank.
fn refolded(value: &str, kind: Kind) -> Words {
    let words = Words::plain(value);
    if words.fit() {
        return words;
    }
    match kind {
        Kind::Text => Words::text(value),
        Kind::Addresses => {
            let words = words.cut(|w| pieces_behind(w, ",;"));
            if words.fit() { words } else { address_words(&address_list::parse(value), Letters::Any) }
        }
        Kind::Parameters => {
            let words = words.cut(|w| pieces_behind(w, ";"));
            if words.fit() { words } else { parameters::words(value) }
        }
        // Ids, tags, and base64, which may have blanks anywhere.
        Kind::Token => words.cut(|w| pieces_behind(w, ">;,")),
    }
}

/// The word in pieces that end in one of these, outside quoted strings, comments, brackets and encoded-words.
fn pieces_behind(word: &str, ends: &str) -> Words {
    let mut out = Words::default();
    let (mut start, mut in_quotes, mut escaped, mut depth, mut behind) = (0, false, false, 0_u32, 0);
    // Ids end in a bracket; of an address it is none of the places to fold at.
    let opens = |c| c == '(' || !ends.contains('>');
    let closes = |c| c == ')' || !ends.contains('>');
    for (i, c) in word.char_indices() {
        match c {
            _ if i < behind => {}
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if depth == 0 => in_quotes = !in_quotes,
            '(' | '<' if !in_quotes && opens(c) => depth += 1,
            ')' | '>' if !in_quotes && closes(c) => depth = depth.saturating_sub(1),
            '=' => behind = i + encoded_word_len(&word[i..]).unwrap_or(1),
            c if !in_quotes && depth == 0 && ends.contains(c) => {
                out.push(word[start..=i].to_owned());
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(word[start..].to_owned());
    out
}

/// A value that is no text: what stands in comments is encoded (RFC 2047 section 5 (2)), any other character beyond
/// ASCII is written as the same atom each time, so that ids still match.
fn token_words(value: &str) -> Words {
    let mut out = Words::default();
    let mut rest = value;
    while let Some((token, comment, after)) = next_comment(rest) {
        out.extend(Words::plain(&atoms(token)));
        let text = Words::text(comment);
        out.extend(if text.is_empty() { Words::one("()".to_owned()) } else { text.within("(", ")") });
        rest = after;
    }
    out.extend(Words::plain(&atoms(rest)));
    out
}

/// What stands before the first comment, in it, and behind it.
fn next_comment(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find('(')?;
    let (mut depth, mut escaped) = (0_u32, false);
    for (i, c) in text.char_indices().skip_while(|(i, _)| *i < start) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return Some((&text[..start], &text[start + 1..i], &text[i + 1..])),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn atoms(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    for c in token.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out.push_str(&format!("={b:02X}")));
        }
    }
    out
}

/// ASCII, no control but the line ends and tabs, no line too long or blank.
pub(super) fn is_clean(raw: &[u8]) -> bool {
    let Some(text) = raw.strip_suffix(b"\r\n") else { return false };
    let mut lines = text.split(|b| *b == b'\n').peekable();
    let mut first = true;
    while let Some(mut line) = lines.next() {
        if lines.peek().is_some() {
            let Some(ended) = line.strip_suffix(b"\r") else { return false };
            line = ended;
        }
        let printable = line.iter().all(|b| matches!(b, b'\t' | 32..=126));
        if line.len() > MAX_LINE_BYTES || !printable || !first && line.trim_ascii().is_empty() {
            return false;
        }
        first = false;
    }
    true
}

#[cfg(test)]
mod tests;
