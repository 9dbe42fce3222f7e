//! Parameters of Content-Type and Content-Disposition: read as devices write them, coded by RFC 2231.
//!
//! Invariant: splitting never loses a byte but the semicolons. Must not know: which parameter means what.

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

/// A parameter with a value that is not ASCII, as words: `filename*=UTF-8''...`, in numbered sections where it
/// is long (RFC 2231 sections 3 and 4). Outlook and Exchange read these; the quoted encoded-word they read only
/// in part.
pub fn coded(name: &str, value: &str) -> Vec<String> {
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
        return vec![format!("{name}*=UTF-8''{one}")];
    }
    let last = sections.len() - 1;
    sections
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let charset = if i == 0 { "UTF-8''" } else { "" };
            let more = if i < last { ";" } else { "" };
            format!("{name}*{i}*={charset}{s}{more}")
        })
        .collect()
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
        assert_eq!(coded("filename", "ü 1.pdf"), ["filename*=UTF-8''%C3%BC%201.pdf"]);
        let long = coded("name", &"レ".repeat(20));
        assert!(
            long.len() > 1 && long[0].starts_with("name*0*=UTF-8''%E3") && long[0].ends_with(';'),
            "{long:?}"
        );
        assert!(!long.last().unwrap().ends_with(';'));
    }
}
