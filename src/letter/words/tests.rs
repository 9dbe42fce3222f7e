//! Words as they leave.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[test]
fn encoded_words_are_short_whole_and_joined_by_nothing() {
    assert_eq!(Words::text("Scan für Müller 7").0, ["Scan", "=?UTF-8?Q?f=C3=BCr_M=C3=BCller?=", "7"]);
    assert_eq!(Words::text("=?UTF-8?Q?a?= ü").0, ["=?UTF-8?Q?a?=", "=?UTF-8?B?IMO8?="]);
    let long = "レポート".repeat(40);
    let out = Words::text(&long).0;
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
    let one = |display: &str, quoted| Words::phrase(display, quoted).0.join(" ");
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
        let out = Words(words).field("X-Long");
        for line in String::from_utf8(out).unwrap().split_terminator("\r\n") {
            assert!(line.len() <= MAX_LINE_BYTES && !line.trim().is_empty(), "{line}");
        }
    }
}
