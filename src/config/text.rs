//! The bytes of the configuration as text.
//!
//! Invariant: what comes out of here is UTF-8 with line ends that TOML knows; each other thing a file can be is one
//! problem, with what mends it. Must not know: TOML.

use super::problem::{About, Place, Problem};
use super::secret::reason;
use crate::files;
use std::io::ErrorKind;
use std::path::Path;

const AS_UTF8: &str = "save it as UTF-8 (in Windows: Save as, Encoding: UTF-8)";

/// Reads the file: the text, and the bytes it came from.
pub(super) fn read(path: &Path) -> Result<(String, Vec<u8>), Problem> {
    let bytes = std::fs::read(path).map_err(|e| unreadable(path, &e))?;
    let text = decode(&bytes).map_err(|Wrong { line, what, hint }| {
        let place = match line {
            Some(line) => Place::Line(path.to_owned(), line, 1),
            None => Place::File(path.to_owned()),
        };
        Problem::error(place, "", what).with_hint(hint)
    })?;
    Ok((text, bytes))
}

/// Why it cannot be read, for each reason another hint.
fn unreadable(path: &Path, e: &std::io::Error) -> Problem {
    let shown = path.display();
    let hint = match e.kind() {
        ErrorKind::IsADirectory => "name the file in it: --config /etc/mailferry/mailferry.toml".to_owned(),
        ErrorKind::PermissionDenied => {
            format!(
                "run this as root, or let the service read it: chgrp mailferry {shown}; chmod 640 {shown}"
            )
        }
        _ => "name another file with --config".to_owned(),
    };
    // A file that is not there is a name that is wrong: nobody makes another one while the relay waits.
    let may_pass = files::may_pass(e) && e.kind() != ErrorKind::NotFound;
    let what = format!("cannot read the configuration: {}", reason(e));
    let problem = Problem::error(Place::File(path.to_owned()), "", what).with_hint(hint);
    Problem { about: if may_pass { About::Moment } else { About::Settings }, ..problem }
}

#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: Option<usize>,
    what: String,
    hint: String,
}

fn decode(bytes: &[u8]) -> Result<String, Wrong> {
    let wrong = |at: Option<usize>, what: &str, hint: &str| {
        let line = at.map(|at| bytes[..at].iter().filter(|b| **b == b'\n').count() + 1);
        Err(Wrong { line, what: what.to_owned(), hint: hint.to_owned() })
    };
    let zeros = bytes.iter().filter(|b| **b == 0).count();
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) || zeros > bytes.len() / 4 {
        return wrong(None, "the configuration is in UTF-16", AS_UTF8);
    }
    let bytes_without_mark = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes_without_mark) {
        Ok(text) => text,
        Err(e) => {
            let at = bytes.len() - bytes_without_mark.len() + e.valid_up_to();
            let shown = format!("the byte {:02X} is no UTF-8: the file is in another encoding", bytes[at]);
            return wrong(Some(at), &shown, AS_UTF8);
        }
    };
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        return wrong(Some(at), "a zero byte: the file is damaged, or no text", "write this line anew");
    }
    let lone = |(i, b): (usize, &u8)| *b == b'\r' && bytes.get(i + 1) != Some(&b'\n');
    if bytes.iter().enumerate().any(lone) {
        let hint = "save it with line ends of Unix or Windows (LF or CRLF)";
        return wrong(None, "a line ends with a lone carriage return (CR)", hint);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_named_and_only_utf8_is_taken() {
        for good in ["", "a = 1\n", "a = 1\r\nb = 2\r\n", "\u{feff}a = \"ü\""] {
            assert_eq!(decode(good.as_bytes()).unwrap(), good.trim_start_matches('\u{feff}'));
        }
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for (bytes, line, what) in [
            ([b"\xFF\xFE".as_slice(), &utf16("a = 1")].concat(), None, "UTF-16"),
            (utf16("hostname = 1\n"), None, "UTF-16"),
            (b"a = 1\nb = \"B\xFCro\"".to_vec(), Some(2), "FC is no UTF-8"),
            (b"\xEF\xBB\xBFb = \"\xFC\"".to_vec(), Some(1), "FC is no UTF-8"),
            (b"a = 1\n\nb = \"x\0x, and more to it\"".to_vec(), Some(3), "zero byte"),
            (b"a = 1\rb = 2\r".to_vec(), None, "carriage return"),
        ] {
            let wrong = decode(&bytes).unwrap_err();
            assert!(wrong.what.contains(what) && wrong.line == line && !wrong.hint.is_empty(), "{wrong:?}");
        }
    }
}
