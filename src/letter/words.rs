//! Header text in ASCII: raw bytes of any charset decoded, RFC 2047 encoded-words made,
//! lines folded.
//!
//! Invariant: what `decode` returns holds no control character, so nothing built from it can end a line; what
//! `fold` returns has no line over 998 bytes and none that is only white space. Must not know: which field wants
//! what; that is `letter::rewrite`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// RFC 2047 section 2 allows an encoded-word 75 characters; with 60 the first fits behind `Subject: `, and no line
/// is folded right behind the colon, which some readers take for a leading space. `=?UTF-8?B?` and `?=` take twelve.
const ENCODED_TEXT: usize = 60 - 12;
/// RFC 2047 section 2: a line with an encoded-word is at most 76 characters.
const LINE: usize = 76;
/// RFC 5322 section 2.1.1, without CRLF.
pub const MAX_LINE_BYTES: usize = 998;

/// Reads raw header bytes: by the device's charset, else as UTF-8 where valid, else as windows-1252 (a superset
/// of Latin-1). ISO-2022-JP is known by its escape sequences. Controls, line ends and NUL are removed; a tab
/// becomes a space.
pub fn decode(raw: &[u8], charset: Option<&str>) -> String {
    let text = decoded(raw, charset);
    text.chars()
        .filter_map(|c| match c {
            '\t' => Some(' '),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => None,
            c => Some(c),
        })
        .collect()
}

fn decoded<'a>(raw: &'a [u8], charset: Option<&str>) -> Cow<'a, str> {
    // Seven-bit, so no charset setting is needed to see it.
    if memchr::memchr(0x1b, raw).is_some() {
        let (text, failed) = encoding_rs::ISO_2022_JP.decode_without_bom_handling(raw);
        if !failed {
            return text;
        }
    }
    if raw.is_ascii() {
        return String::from_utf8_lossy(raw);
    }
    let configured = charset
        .and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()))
        .filter(|e| e.is_ascii_compatible());
    if let Some(encoding) = configured {
        let (text, failed) = encoding.decode_without_bom_handling(raw);
        if !failed {
            return text;
        }
    }
    match std::str::from_utf8(raw) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => configured.unwrap_or(encoding_rs::WINDOWS_1252).decode_without_bom_handling(raw).0,
    }
}

/// Whether a word is one whole encoded-word: `=?charset?B or Q?text?=`.
pub fn is_encoded_word(word: &str) -> bool {
    encoded_word_len(word) == Some(word.len())
}

/// The length of the encoded-word at the start of `text`, if there is one.
pub fn encoded_word_len(text: &str) -> Option<usize> {
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

/// RFC 5322 section 3.2.3.
pub fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

/// A text as words for `fold`: plain words stay, all others become encoded-words with the spaces between them. In
/// a phrase a plain word has only `atext`.
pub fn words(text: &str, phrase: bool) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut run = String::new();
    for word in text.split_ascii_whitespace() {
        let encoded = is_encoded_word(word);
        let plain =
            encoded || word.is_ascii() && !word.contains("=?") && (!phrase || word.bytes().all(is_atext));
        if plain {
            if !run.is_empty() {
                // Space between two encoded-words is dropped by every reader, so it goes inside.
                if encoded {
                    run.push(' ');
                }
                out.extend(encoded_words(&std::mem::take(&mut run)));
            }
            out.push(word.to_owned());
        } else {
            if !run.is_empty() || out.last().is_some_and(|w| is_encoded_word(w)) {
                run.push(' ');
            }
            run.push_str(word);
        }
    }
    if !run.is_empty() {
        out.extend(encoded_words(&run));
    }
    out
}

/// One text as UTF-8 encoded-words, each of at most 60 characters and of whole characters; Q where
/// most of it stays readable so, else B.
fn encoded_words(text: &str) -> Vec<String> {
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

/// A display name as words: atoms where possible, else a quoted string, else encoded-words.
pub fn phrase(display: &str, quoted: bool) -> Vec<String> {
    let all_words_fit =
        words_of(display).all(|w| is_encoded_word(w) || w.bytes().all(is_atext) && !w.contains("=?"));
    if display.is_ascii()
        && (quoted || !all_words_fit)
        && !words_of(display).any(|w| !quoted && is_encoded_word(w))
    {
        let mut text = String::from("\"");
        for c in display.trim().chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        return if display.trim().is_empty() { vec![] } else { words_of(&text).map(str::to_owned).collect() };
    }
    words(display, true)
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// `name: word word ...` folded at 76 characters between words, with its CRLF. A word too long for any line is
/// cut (at a character boundary): it will hardly be read, but the message passes.
pub fn fold(name: &str, words: &[String]) -> Vec<u8> {
    let mut out = format!("{name}:");
    let mut column = out.len();
    for word in words.iter().filter(|w| !w.is_empty()) {
        let mut rest = word.as_str();
        let mut first = true;
        while !rest.is_empty() {
            if !first || column + 1 + rest.len() > LINE && column > 1 {
                out.push_str("\r\n");
                column = 0;
            }
            let cut = rest.floor_char_boundary(rest.len().min(MAX_LINE_BYTES - 1 - column));
            out.push(' ');
            out.push_str(&rest[..cut]);
            column += 1 + cut;
            rest = &rest[cut..];
            first = false;
        }
    }
    out.push_str("\r\n");
    out.into_bytes()
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
            assert_eq!(decode(raw, charset), text, "{raw:?}");
        }
    }

    #[test]
    fn encoded_words_are_short_whole_and_joined_by_nothing() {
        assert_eq!(words("Scan für Müller 7", false), ["Scan", "=?UTF-8?Q?f=C3=BCr_M=C3=BCller?=", "7"]);
        assert_eq!(words("=?UTF-8?Q?a?= ü", false), ["=?UTF-8?Q?a?=", "=?UTF-8?B?IMO8?="]);
        let long = "レポート".repeat(40);
        let out = words(&long, false);
        assert!(out.len() > 5);
        let mut joined = String::new();
        for w in &out {
            assert!(w.len() <= 75 && is_encoded_word(w), "{w}");
            let inner = &w["=?UTF-8?B?".len()..w.len() - 2];
            joined.push_str(std::str::from_utf8(&STANDARD.decode(inner).unwrap()).unwrap());
        }
        assert_eq!(joined, long);
    }

    #[test]
    fn a_phrase_is_atoms_or_quoted_or_encoded() {
        let one = |display: &str, quoted| phrase(display, quoted).join(" ");
        assert_eq!(one("Scanner 3rd floor", true), "\"Scanner 3rd floor\"");
        assert_eq!(one("Scanner 3rd floor", false), "Scanner 3rd floor");
        assert_eq!(one("a@b", false), "\"a@b\"");
        assert_eq!(one("say \"hi\" \\", true), "\"say \\\"hi\\\" \\\\\"");
        assert_eq!(one("Müller, A.", true), "=?UTF-8?Q?M=C3=BCller=2C_A=2E?=");
        assert_eq!(one("=?iso-8859-1?Q?M=FCller?=", false), "=?iso-8859-1?Q?M=FCller?=");
        assert_eq!(one(" ", true), "");
    }

    #[test]
    fn no_folded_line_is_too_long_or_blank() {
        for words in [
            vec!["x".repeat(5000)],
            vec!["ü".repeat(3000)],
            vec![String::new(), "a".into()],
            vec!["ab".to_owned(); 900],
        ] {
            let out = fold("X-Long", &words);
            for line in String::from_utf8(out).unwrap().split_terminator("\r\n") {
                assert!(line.len() <= MAX_LINE_BYTES && !line.trim().is_empty(), "{line}");
            }
        }
    }
}
