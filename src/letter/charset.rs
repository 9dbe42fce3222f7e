//! Raw bytes read as text: which charset they are most likely written in.
//!
//! Invariant: what `read` returns holds no control character, so nothing built from it can end a line.
//! Must not know: which field or part the bytes are of.

use encoding_rs::{Encoding, ISO_2022_JP, WINDOWS_1252};
use std::borrow::Cow;

/// The charsets that raw text may be written in, as far as anybody said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Charsets {
    client: Option<&'static Encoding>,
}

impl Charsets {
    /// By the client's setting (a WHATWG label), if it has one.
    pub fn of_client(label: Option<&str>) -> Self {
        Self { client: label.and_then(|l| Encoding::for_label(l.as_bytes())) }
    }

    /// Reads raw header bytes: by the device's charset, else as UTF-8 where valid, else as windows-1252 (a superset
    /// of Latin-1). ISO-2022-JP is known by its escape sequences. Controls, line ends and NUL are removed; a tab
    /// becomes a space.
    pub fn read(&self, raw: &[u8]) -> String {
        let fit = |c: char| match c {
            '\t' => Some(' '),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => None,
            c => Some(c),
        };
        self.decoded(raw).chars().filter_map(fit).collect()
    }

    /// The name of the charset that raw 8-bit text is to be labelled with.
    pub fn label(&self, is_utf8: bool) -> String {
        match self.client {
            Some(encoding) => encoding.name().to_ascii_lowercase(),
            None if is_utf8 => "utf-8".to_owned(),
            None => "windows-1252".to_owned(),
        }
    }

    fn decoded<'r>(&self, raw: &'r [u8]) -> Cow<'r, str> {
        // Seven-bit, so no charset setting is needed to see it.
        if memchr::memchr(0x1b, raw).is_some() {
            let (text, failed) = ISO_2022_JP.decode_without_bom_handling(raw);
            if !failed {
                return text;
            }
        }
        if raw.is_ascii() {
            return String::from_utf8_lossy(raw);
        }
        let client = self.client.filter(|e| e.is_ascii_compatible());
        if let Some(encoding) = client {
            let (text, failed) = encoding.decode_without_bom_handling(raw);
            if !failed {
                return text;
            }
        }
        match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => client.unwrap_or(WINDOWS_1252).decode_without_bom_handling(raw).0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_read_by_setting_then_utf_8_then_windows_1252() {
        let cases: [(&[u8], Option<&str>, &str); 8] = [
            (b"Scan 1", None, "Scan 1"),
            (b"M\xfcller \x80", None, "Müller €"),
            ("Müller".as_bytes(), None, "Müller"),
            (b"\x83\x8c\x83|\x81[\x83g", Some("shift_jis"), "レポート"),
            ("レポート".as_bytes(), Some("shift_jis"), "レポート"),
            (b"\x1b$B%l%]!<%H\x1b(B 1", None, "レポート 1"),
            (b"a\0b\r\nc\td\x1b", None, "abc d"),
            (b"\xff\xfe", Some("utf-16"), "ÿþ"),
        ];
        for (raw, charset, text) in cases {
            assert_eq!(Charsets::of_client(charset).read(raw), text, "{raw:?}");
        }
    }
}
