//! Fields as they may leave: text encoded, lines folded, what is clean left as it is.
//!
//! Invariant: no line over 998 bytes, no NUL and no CR or LF but at line ends; nothing outside ASCII but addresses that
//! need SMTPUTF8, and after `downgraded` not those either. Must not know: who may send as whom.

use crate::letter::address_list;
use crate::letter::address_list::words::{Letters, address_words};
use crate::letter::charset::Charsets;
use crate::letter::head::{Field, Head, NewHead};
use crate::letter::parameters;
use crate::letter::words::{MAX_LINE_BYTES, Words};

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
pub(super) fn encode_field(field: &Field<'_>, charsets: Charsets) -> Vec<u8> {
    if is_clean(field.raw) {
        return field.raw.to_vec();
    }
    let name = name_of(field);
    let value = charsets.read(&field.unfolded());
    if value.is_ascii() {
        return Words::plain(&value).field(&name);
    }
    let words = match kind(field) {
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
        Kind::Token => Words::plain(&value.replace(|c: char| !c.is_ascii(), "?")),
        Kind::Text => Words::text(&value),
    };
    words.field(&name)
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

#[cfg(test)]
mod tests;
