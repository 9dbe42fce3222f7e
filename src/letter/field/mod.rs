//! Fields as they may leave: text encoded, lines folded, what is clean left as it is.
//!
//! Invariant: no line over 998 bytes, no NUL and no CR or LF but at line ends; nothing outside ASCII but addresses that
//! need SMTPUTF8, and after `downgraded` not those either. Must not know: who may send as whom.

use crate::letter::address_list;
use crate::letter::address_list::words::{Letters, address_words};
use crate::letter::head::{Field, fields};
use crate::letter::parameters;
use crate::letter::words::{MAX_LINE_BYTES, decode, fold, words};

/// A field name longer than this is no name, and could not be folded.
const MAX_NAME_BYTES: usize = 200;
const MAX_PARAMETERS: usize = 100;

/// Any head (of the message, of a part, of an embedded message) with its fields encoded and folded, and otherwise
/// as it is. Ends with the empty line.
pub fn encode_head(head: &[u8], charset: Option<&str>) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(head.len());
    for field in lenient_fields(head) {
        out.extend(encode_field(&field, charset));
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// A head that `rewrite_head` or `encode_head` made, for a server that does not offer SMTPUTF8: addresses that need it
/// can be read but not answered. A field without one stays byte for byte.
pub fn downgraded(head: Vec<u8>) -> Vec<u8> {
    if head.is_ascii() {
        return head;
    }
    let mut out: Vec<u8> = Vec::with_capacity(head.len());
    for field in fields(&head) {
        if field.raw.is_ascii() {
            out.extend_from_slice(field.raw);
            continue;
        }
        let name: String = field.name().iter().map(|b| char::from(*b)).collect();
        let list = address_list::parse(&decode(&field.unfolded(), None));
        out.extend(fold(&name, &address_words(&list, Letters::Downgraded)));
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// As `fields`, but a line that is no field is left out and does not end the head.
pub(super) fn lenient_fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = head;
    std::iter::from_fn(move || {
        loop {
            if let Some(field) = fields(rest).next() {
                rest = &rest[field.raw.len()..];
                return Some(field);
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            if rest[..end].trim_ascii().is_empty() {
                return None;
            }
            rest = &rest[end..];
        }
    })
}

/// How a value may be changed without changing what it says.
enum Kind {
    Addresses,
    Parameters,
    /// No text: a byte outside ASCII has no business there.
    Token,
    Text,
}

fn kind(field: &Field<'_>) -> Kind {
    let one_of = |names: &[&str]| names.iter().any(|n| field.is(n));
    if one_of(&["To", "Cc", "From", "Sender", "Reply-To", "Resent-To", "Resent-Cc", "Resent-From"])
        || one_of(&["Resent-Sender", "Disposition-Notification-To", "Return-Receipt-To", "Errors-To"])
    {
        Kind::Addresses
    } else if one_of(&["Content-Type", "Content-Disposition"]) {
        Kind::Parameters
    } else if one_of(&["Message-ID", "References", "In-Reply-To", "Received", "Date", "MIME-Version"])
        || one_of(&["Content-Transfer-Encoding", "Content-ID", "DKIM-Signature", "Resent-Message-ID"])
    {
        Kind::Token
    } else {
        Kind::Text
    }
}

/// The field with its CRLF, as it may leave. A clean one stays byte for byte.
pub(super) fn encode_field(field: &Field<'_>, charset: Option<&str>) -> Vec<u8> {
    if is_clean(field.raw) {
        return field.raw.to_vec();
    }
    let name: String = field.name().iter().take(MAX_NAME_BYTES).map(|b| char::from(*b)).collect();
    let value = decode(&field.unfolded(), charset);
    if value.is_ascii() {
        let words: Vec<String> = value.split_ascii_whitespace().map(str::to_owned).collect();
        return fold(&name, &words);
    }
    match kind(field) {
        Kind::Addresses => {
            // Only what came as UTF-8 is meant as an address of RFC 6531; bytes of another charset are a mistake.
            let is_utf8 = std::str::from_utf8(field.raw).is_ok();
            let letters = if is_utf8 { Letters::Any } else { Letters::Ascii };
            let words = address_words(&address_list::parse(&value), letters);
            if words.is_empty() { vec![] } else { fold(&name, &words) }
        }
        Kind::Parameters => fold(&name, &parameter_words(&value)),
        Kind::Token => {
            let ascii: String = value.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
            fold(&name, &ascii.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
        }
        Kind::Text => fold(&name, &words(&value, false)),
    }
}

/// ASCII, no control but the line ends and tabs, no line too long or blank.
fn is_clean(raw: &[u8]) -> bool {
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

/// `type/subtype; name=value; ...` with what is not ASCII coded by RFC 2231.
fn parameter_words(value: &str) -> Vec<String> {
    let mut parts = parameters::split(value);
    parts.truncate(MAX_PARAMETERS);
    let coded = |name: &str| {
        parts.iter().any(|p| p.split('=').next().is_some_and(|n| n.trim() == format!("{name}*")))
    };
    let mut out: Vec<String> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let before = out.len();
        match part.split_once('=') {
            _ if part.is_ascii() => out.extend(part.split_ascii_whitespace().map(str::to_owned)),
            Some((name, text)) if i > 0 && is_parameter_name(name.trim()) && !coded(name.trim()) => {
                out.extend(parameters::coded(name.trim(), &parameters::unquoted(text.trim())));
            }
            // Neither a type nor a parameter, or there in coded form already.
            _ => {}
        }
        if before > 0 && out.len() > before {
            out[before - 1].push(';');
        }
    }
    out
}

fn is_parameter_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 60
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_*".contains(&b))
}

/// A value for a field of one's own: `text` (decoded, so without line ends) as folded words, at most `limit`
/// characters of it.
pub fn text_field(name: &str, text: &str, limit: usize) -> Vec<u8> {
    let cut: String = text.chars().take(limit).collect();
    fold(name, &words(&cut, false))
}

#[cfg(test)]
mod tests;
