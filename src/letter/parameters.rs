//! Parameters of Content-Type and Content-Disposition: read as devices write them, coded by RFC 2231.
//!
//! Invariant: splitting never loses a byte but the semicolons. Must not know: which parameter means what.

use crate::letter::words::{Words, read_text};

/// More of them are nobody's, and comparing each with each would take long.
const MAX_PARAMETERS: usize = 100;

/// The parts of a value at semicolons outside quotes; the first is the type.
pub fn split(value: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut in_quotes, mut escaped) = (0, false, false);
    for (i, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            ';' if !in_quotes => {
                parts.push(&value[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

/// Without quotes. Only a quote or a backslash was escaped: devices put `C:\scan` there as it is.
pub fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"') else { return text.to_owned() };
    inner.strip_suffix('"').unwrap_or(inner).replace("\\\"", "\"").replace("\\\\", "\\")
}

/// The value of one parameter.
pub fn get(value: &str, name: &str) -> Option<String> {
    split(value).iter().skip(1).find_map(|part| {
        let (n, text) = part.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then(|| unquoted(text.trim()))
    })
}

/// Where the value of one parameter stands, quotes included.
pub(super) fn span(value: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for part in split(value) {
        let end = start + part.len();
        if let Some((n, text)) = part.split_once('=')
            && start > 0
            && n.trim().eq_ignore_ascii_case(name)
        {
            let blanks = text.len() - text.trim_start().len();
            let from = start + n.len() + 1 + blanks;
            return Some(from..from + text.trim().len());
        }
        start = end + 1;
    }
    None
}

/// `type/subtype; name=value; ...` with what is not ASCII coded by RFC 2231.
pub(super) fn words(value: &str) -> Words {
    let mut parts = split(value);
    parts.truncate(MAX_PARAMETERS);
    let is_coded = |name: &str| {
        parts.iter().any(|p| p.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with('*')))
    };
    let mut out: Vec<Words> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let part = part.trim();
        match part.split_once('=') {
            _ if part.is_empty() => {}
            _ if part.is_ascii() && Words::plain(part).fit() => out.push(Words::plain(part)),
            Some((name, text)) if i > 0 && is_parameter_name(name.trim()) && !is_coded(name.trim()) => {
                let text = unquoted(text.trim());
                out.push(match name.trim().strip_suffix('*') {
                    Some(name) => coded(name, &extended(&text)),
                    None => coded(name.trim(), &read_text(&text)),
                });
            }
            // Neither a type nor a parameter, or there in coded form already.
            _ => {}
        }
    }
    Words::joined(out, ";")
}

/// The text of an RFC 2231 value, in which raw characters stand, too: `UTF-8''M%C3%BCller für`.
fn extended(value: &str) -> String {
    let mut parts = value.splitn(3, '\'');
    let (Some(charset), Some(_), Some(coded)) = (parts.next(), parts.next(), parts.next()) else {
        return value.to_owned();
    };
    let encoding = encoding_rs::Encoding::for_label(charset.as_bytes()).unwrap_or(encoding_rs::UTF_8);
    let (mut text, mut bytes, mut rest) = (String::new(), vec![], coded);
    while let Some(c) = rest.chars().next() {
        let code = rest.get(1..3).filter(|_| c == '%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = &rest[if code.is_some() { 3 } else { c.len_utf8() }..];
        if let Some(byte) = code.or(u8::try_from(c).ok().filter(u8::is_ascii)) {
            bytes.push(byte);
        } else {
            text.push_str(&encoding.decode_without_bom_handling(&std::mem::take(&mut bytes)).0);
            text.push(c);
        }
    }
    text + &encoding.decode_without_bom_handling(&bytes).0
}

fn is_parameter_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 60
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_*".contains(&b))
}

/// A parameter with a value that is not ASCII, as words: `filename*=UTF-8''...`, in numbered sections where it
/// is long (RFC 2231 sections 3 and 4). Outlook and Exchange read these; the quoted encoded-word they read only
/// in part.
fn coded(name: &str, value: &str) -> Words {
    let mut sections: Vec<String> = vec![String::new()];
    for c in value.chars() {
        let mut coded = String::new();
        for b in c.encode_utf8(&mut [0; 4]).bytes() {
            if b.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&b) {
                coded.push(char::from(b));
            } else {
                coded.push_str(&format!("%{b:02X}"));
            }
        }
        match sections.last_mut() {
            Some(last) if last.len() + coded.len() <= 48 => last.push_str(&coded),
            _ => sections.push(coded),
        }
    }
    if let [one] = sections.as_slice() {
        return Words::one(format!("{name}*=UTF-8''{one}"));
    }
    let numbered = sections.iter().enumerate().map(|(i, section)| {
        let charset = if i == 0 { "UTF-8''" } else { "" };
        Words::one(format!("{name}*{i}*={charset}{section}"))
    });
    Words::joined(numbered.collect(), ";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_and_out_of_quotes() {
        let value = "multipart/mixed; x=\"a;b\"; Boundary=\"=_1 2\" ; charset = utf-8";
        assert_eq!(get(value, "boundary").as_deref(), Some("=_1 2"));
        assert_eq!(get(value, "x").as_deref(), Some("a;b"));
        assert_eq!(get(value, "CHARSET").as_deref(), Some("utf-8"));
        assert_eq!(get("text/plain", "charset"), None);
        assert_eq!(unquoted("\"C:\\scan\\1.pdf\""), "C:\\scan\\1.pdf");
    }

    #[test]
    fn parameters_are_coded_and_sectioned() {
        let field = |words: Words| String::from_utf8(words.field("X")).unwrap();
        assert_eq!(field(coded("filename", "ü 1.pdf")), "X: filename*=UTF-8''%C3%BC%201.pdf\r\n");
        let long = field(coded("name", &"レ".repeat(20)));
        assert!(long.starts_with("X: name*0*=UTF-8''%E3") && long.contains(";\r\n name*1*=%E3"), "{long}");
        assert!(!long.ends_with(";\r\n"));
    }
}
