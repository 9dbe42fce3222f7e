//! Raw bytes read as text: which charset they are most likely written in.
//!
//! Invariant: what `read` returns holds no control character, so nothing built from it can end a line; UTF-8 is known
//! by its bytes, whatever anybody says. Must not know: which field or part the bytes are of.

use crate::letter::head::Head;
use crate::letter::parameters;
use encoding_rs::{Decoder, DecoderResult, Encoding, ISO_2022_JP, UTF_8, WINDOWS_1252};
use std::borrow::Cow;

/// The charsets that raw text may be written in, as far as anybody said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Charsets {
    declared: Option<&'static Encoding>,
    client: Option<&'static Encoding>,
}

impl Charsets {
    /// By the client's setting (a WHATWG label), if it has one.
    pub fn of_client(label: Option<&str>) -> Self {
        Self { declared: None, client: label.and_then(|l| Encoding::for_label(l.as_bytes())) }
    }

    /// With what this head says of the message or part: the charset of its content, else that of its encoded-words.
    #[must_use]
    pub fn declared_in(self, head: Head<'_>) -> Self {
        let of_content = || charset_of(head).and_then(|label| encoding(&label));
        let of_words = || {
            head.fields().find_map(|f| {
                let at = memchr::memmem::find(f.raw, b"=?")? + 2;
                let label = f.raw[at..].split(|b| matches!(b, b'?' | b'*')).next()?;
                encoding(std::str::from_utf8(label).ok()?)
            })
        };
        self.declared_as(of_content().or_else(of_words))
    }

    /// With a charset that the message names elsewhere, if nothing nearer was named.
    #[must_use]
    pub(crate) fn or_declared(self, elsewhere: Option<&'static Encoding>) -> Self {
        Self { declared: self.declared.or(elsewhere), ..self }
    }

    fn declared_as(self, declared: Option<&'static Encoding>) -> Self {
        Self { declared: declared.or(self.declared), ..self }
    }

    /// Whether the message itself named one.
    pub(crate) fn is_declared(&self) -> bool {
        self.declared.is_some()
    }

    /// Reads raw header bytes: as UTF-8 where they are, else by the charset that the message declares, else by the
    /// client's, else as windows-1252 (a superset of Latin-1). ISO-2022-JP is known by its escape sequences. Controls,
    /// line ends and NUL are removed; a tab becomes a space.
    pub fn read(&self, raw: &[u8]) -> String {
        let fit = |c: char| match c {
            '\t' => Some(' '),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => None,
            c => Some(c),
        };
        self.decoded(raw).chars().filter_map(fit).collect()
    }

    fn decoded<'r>(&self, raw: &'r [u8]) -> Cow<'r, str> {
        // Seven-bit, so nobody has to say it.
        if memchr::memchr(0x1b, raw).is_some()
            && let Some(text) = decode(ISO_2022_JP, raw)
        {
            return text;
        }
        if let Some(text) = utf8(raw) {
            return text;
        }
        let said = [self.declared, self.client].into_iter().flatten();
        let read = said.filter(|e| e.is_ascii_compatible() && *e != UTF_8).find_map(|e| decode(e, raw));
        read.unwrap_or_else(|| WINDOWS_1252.decode_without_bom_handling(raw).0)
    }
}

/// The charset that a head names for its content, as it stands there.
pub(crate) fn charset_of(head: Head<'_>) -> Option<String> {
    let value = head.first("Content-Type")?.unfolded();
    parameters::get(&String::from_utf8_lossy(&value), "charset").map(|c| c.trim().to_owned())
}

/// What a label stands for. US-ASCII says nothing about bytes that are not ASCII.
pub(crate) fn encoding(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label(label.trim().as_bytes()).filter(|_| !says_nothing(label))
}

/// Whether a label says nothing about bytes above 127.
pub(crate) fn says_nothing(label: &str) -> bool {
    const NOTHING: [&str; 10] = [
        "",
        "unknown",
        "x-unknown",
        "unknown-8bit",
        "x-unknown-8bit",
        "default",
        "none",
        "ansi_x3.4-1968",
        "iso646-us",
        "cp367",
    ];
    let label = label.trim().to_ascii_lowercase();
    label.contains("ascii") || NOTHING.contains(&label.as_str())
}

/// UTF-8, of which one character may have been cut: by a device that counts bytes.
fn utf8(raw: &[u8]) -> Option<Cow<'_, str>> {
    if let Ok(text) = std::str::from_utf8(raw) {
        return Some(Cow::Borrowed(text));
    }
    let (mut text, mut cut) = (String::with_capacity(raw.len()), &[][..]);
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() && !std::mem::replace(&mut cut, chunk.invalid()).is_empty() {
            return None;
        }
    }
    let begins = matches!(cut.first(), Some(0xc2..=0xf4));
    (begins && (cut.len() > 1 || !text.is_ascii())).then_some(Cow::Owned(text))
}

/// By this charset, if the bytes fit; one character may have been cut.
fn decode<'r>(encoding: &'static Encoding, raw: &'r [u8]) -> Option<Cow<'r, str>> {
    let (text, failed) = encoding.decode_without_bom_handling(raw);
    if !failed {
        return Some(text);
    }
    let others = text.chars().filter(|c| !c.is_ascii()).count() - 1;
    let is_cut = text.matches('\u{fffd}').count() == 1 && (others > 2 || text.ends_with('\u{fffd}'));
    is_cut.then(|| Cow::Owned(text.replace('\u{fffd}', "")))
}

/// Finds the charset of a text that comes in pieces.
#[derive(Debug)]
pub(crate) struct Probe {
    is_utf8: bool,
    cut: Vec<u8>,
    has_8bit: bool,
    has_escapes: bool,
    /// So many bytes more may name a charset.
    to_sniff: usize,
    candidates: Vec<Candidate>,
}

struct Candidate {
    encoding: &'static Encoding,
    decoder: Decoder,
    fits: bool,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.encoding.name(), self.fits)
    }
}

impl Candidate {
    fn new(encoding: &'static Encoding) -> Self {
        Self { encoding, decoder: encoding.new_decoder_without_bom_handling(), fits: true }
    }

    fn push(&mut self, text: &[u8]) {
        let room = self.decoder.max_utf8_buffer_length_without_replacement(text.len());
        let mut out = vec![0; room.unwrap_or(0)];
        if self.fits {
            let (result, ..) = self.decoder.decode_to_utf8_without_replacement(text, &mut out, false);
            self.fits = matches!(result, DecoderResult::InputEmpty);
        }
    }
}

impl Probe {
    /// Begins with a text that says `label` of itself.
    pub(crate) fn new(label: Option<&'static Encoding>, charsets: Charsets) -> Self {
        let mut candidates: Vec<Candidate> = vec![];
        for said in [label, charsets.declared, charsets.client].into_iter().flatten() {
            if said.is_ascii_compatible() && said != UTF_8 && candidates.iter().all(|c| c.encoding != said) {
                candidates.push(Candidate::new(said));
            }
        }
        let to_sniff = 0;
        Self { is_utf8: true, cut: vec![], has_8bit: false, has_escapes: false, to_sniff, candidates }
    }

    /// The same for HTML, which may name its charset itself (`<meta charset=...>`) in its first KiB.
    pub(crate) fn html(self) -> Self {
        Self { to_sniff: 1024, ..self }
    }

    fn sniff(&mut self, text: &[u8]) {
        let begin = &text[..text.len().min(self.to_sniff)];
        self.to_sniff -= begin.len();
        let name = b"charset=";
        let Some(at) = begin.windows(name.len()).position(|w| w.eq_ignore_ascii_case(name)) else { return };
        let label = text[at + name.len()..].trim_ascii_start();
        let label = label.strip_prefix(b"\"").or(label.strip_prefix(b"'")).unwrap_or(label);
        let end = label.iter().position(|b| !b.is_ascii_alphanumeric() && !b"-_:".contains(b));
        let named = std::str::from_utf8(&label[..end.unwrap_or(label.len())]).ok().and_then(encoding);
        self.to_sniff = 0;
        if let Some(named) = named.filter(|e| e.is_ascii_compatible() && *e != UTF_8) {
            self.candidates.insert(0, Candidate::new(named));
        }
    }

    /// Takes the next piece; a line end is one, too.
    pub(crate) fn push(&mut self, text: &[u8]) {
        if !self.has_escapes
            && let Some(at) = memchr::memchr(0x1b, text)
            && memchr::memmem::find(&text[at..], b"\x1b$").is_some()
        {
            self.has_escapes = true;
            self.candidates.insert(0, Candidate::new(ISO_2022_JP));
        }
        if self.to_sniff > 0 {
            self.sniff(text);
        }
        if !self.has_8bit && text.is_ascii() && !self.has_escapes {
            return;
        }
        self.has_8bit |= !text.is_ascii();
        self.candidates.iter_mut().for_each(|c| c.push(text));
        self.utf8(text);
    }

    fn utf8(&mut self, text: &[u8]) {
        if !self.is_utf8 || self.cut.is_empty() && text.is_ascii() {
            return;
        }
        self.cut.extend_from_slice(text);
        match std::str::from_utf8(&self.cut) {
            Ok(_) => self.cut.clear(),
            Err(e) if e.error_len().is_none() => {
                self.cut.drain(..e.valid_up_to());
            }
            Err(_) => self.is_utf8 = false,
        }
    }

    /// The charset that the text is most likely written in; none for ASCII. `label` is what it says of itself.
    pub(crate) fn found(&self, label: Option<&'static Encoding>) -> Option<&'static Encoding> {
        let fits = |e: &'static Encoding| self.candidates.iter().any(|c| c.encoding == e && c.fits);
        if !self.has_8bit {
            return (self.has_escapes && fits(ISO_2022_JP)).then_some(ISO_2022_JP);
        }
        // By itself every text fits a charset of one byte a character; that it is UTF-8 by chance is next to impossible.
        let label_holds = label.is_some_and(|l| fits(l) && l != WINDOWS_1252);
        if self.is_utf8 && !label_holds {
            return Some(UTF_8);
        }
        let by_order = self.candidates.iter().find(|c| c.fits && c.encoding != ISO_2022_JP);
        Some(by_order.map_or(WINDOWS_1252, |c| c.encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_read_as_utf_8_then_as_declared_then_by_setting_then_as_windows_1252() {
        const SJIS: &[u8] = b"\x83\x8c\x83|\x81[\x83g";
        for (raw, declared, client, text) in [
            (&b"Scan 1"[..], None, None, "Scan 1"),
            (b"M\xfcller \x80", None, None, "Müller €"),
            ("Müller".as_bytes(), None, None, "Müller"),
            ("Müller".as_bytes(), None, Some("windows-1252"), "Müller"),
            ("Müller".as_bytes(), Some("iso-8859-15"), Some("shift_jis"), "Müller"),
            ("レポート".as_bytes(), None, Some("shift_jis"), "レポート"),
            (SJIS, None, Some("shift_jis"), "レポート"),
            (SJIS, Some("shift_jis"), None, "レポート"),
            (SJIS, Some("shift_jis"), Some("gb2312"), "レポート"),
            (SJIS, Some("us-ascii"), Some("shift_jis"), "レポート"),
            (SJIS, Some("utf-8"), Some("shift_jis"), "レポート"),
            (b"\xb1\xa8\xb8\xe6", Some("gb2312"), Some("windows-1252"), "报告"),
            (b"\xb1\xa8\xb8\xe6", Some("big5"), None, "惆豢"),
            (b"\xef\xf2\xf7\xe5\xf2", Some("windows-1251"), None, "птчет"),
            (b"M\xfcller", Some("shift_jis"), None, "Müller"),
            (b"\x1b$B%l%]!<%H\x1b(B 1", None, None, "レポート 1"),
            (b"\x1b$B%l%]!<%", None, None, "レポー"),
            (b"a\0b\r\nc\td\x1b", None, None, "abc d"),
            (b"\xff\xfe", None, Some("utf-16"), "ÿþ"),
            // Cut inside a character.
            ("Scan für M\u{fc}".as_bytes().split_last().unwrap().1, None, Some("windows-1252"), "Scan für M"),
            ("レポート".as_bytes().split_last().unwrap().1, None, None, "レポー"),
            ("レ".as_bytes().split_last().unwrap().1, None, None, ""),
            (b"\"M\xc3\xbcller & S\xc3\" <a@b>", None, None, "\"Müller & S\" <a@b>"),
            (b"\x83\x8c\x83|\x81[\x83", None, Some("shift_jis"), "レポー"),
            (b"\"\x83\x8c\x83|\x81[\x83\" <a@b>", None, Some("shift_jis"), "\"レポー\" <a@b>"),
            // No UTF-8, cut or not.
            (b"MANH\xc3", None, None, "MANHÃ"),
            (b"\xfc\xfc", None, None, "üü"),
        ] {
            let head =
                declared.map(|d| format!("Content-Type: text/plain; charset={d}\r\n")).unwrap_or_default();
            let charsets = Charsets::of_client(client).declared_in(Head::of(head.as_bytes()));
            assert_eq!(charsets.read(raw), text, "{} {declared:?} {client:?}", raw.escape_ascii());
        }
    }

    #[test]
    fn encoded_words_declare_a_charset_where_the_content_does_not() {
        let head = b"From: =?Shift_JIS?B?g4yDfA==?= <a@b>\r\nSubject: \x83\x8c\x83|\r\n";
        let charsets = Charsets::default().declared_in(Head::of(head));
        assert_eq!(charsets.read(b"\x83\x8c\x83|"), "レポ");
    }

    #[test]
    fn a_text_that_comes_in_pieces_is_known_by_its_bytes() {
        let sjis = b"\x83\x8c\x83|\x81[\x83g".as_slice();
        for (label, client, text, found) in [
            (None, None, &b"plain"[..], None),
            (None, None, "Grüße".as_bytes(), Some("UTF-8")),
            (None, Some("windows-1252"), "Grüße".as_bytes(), Some("UTF-8")),
            (None, None, b"Gr\xfc\xdfe", Some("windows-1252")),
            (None, Some("shift_jis"), sjis, Some("Shift_JIS")),
            (None, Some("shift_jis"), b"Gr\xfc\xfce", Some("windows-1252")),
            (Some("utf-8"), None, b"Gr\xfc\xdfe", Some("windows-1252")),
            (Some("utf-8"), Some("shift_jis"), sjis, Some("Shift_JIS")),
            (Some("iso-8859-1"), None, "Grüße".as_bytes(), Some("UTF-8")),
            (Some("iso-8859-1"), None, b"Gr\xfc\xdfe", Some("windows-1252")),
            (Some("gbk"), None, b"\xb1\xa8\xb8\xe6", Some("GBK")),
            (Some("gbk"), None, "ä".as_bytes(), Some("GBK")),
            (Some("shift_jis"), None, b"Gr\xfc\xdfe", Some("windows-1252")),
            (None, None, b"\x1b$B%l%]\x1b(B", Some("ISO-2022-JP")),
            (None, None, b"\x1b[1mbold", None),
        ] {
            let label = label.and_then(encoding);
            for piece in [1, 2, 100] {
                let mut probe = Probe::new(label, Charsets::of_client(client));
                // An escape is not cut: a line is.
                let piece = if text.contains(&0x1b) { 100 } else { piece };
                text.chunks(piece).for_each(|t| probe.push(t));
                assert_eq!(probe.found(label).map(Encoding::name), found, "{}", text.escape_ascii());
            }
        }
    }
}
