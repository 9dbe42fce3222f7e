//! Whole families of letters, each as a table: what is read as what, what stays, what is split, what is said once.

use crate::encoding::{Sample, Sent, carry};
use mailferry::letter::head::Head;
use mailferry::letter::words::read_text;

const DATE: &str = "Date: Mon, 23 Nov 2026 11:59:00 +0100 (MEZ)\r\nMessage-ID: <1@hp>\r\n";

fn devices_own() -> Sample<'static> {
    Sample { send_as: &["*@contoso.com"], ..Sample::default() }
}

/// Without the fields that every message gets.
fn sent_with(head: &[u8], content: &[u8], sample: &Sample<'_>) -> Sent {
    let from: &[u8] = if Head::of(head).has("From") { b"" } else { b"From: a@contoso.com\r\n" };
    carry(&[head, from, DATE.as_bytes(), b"\r\n", content].concat(), sample)
}

fn content_of(sent: &Sent) -> &[u8] {
    let at = sent.bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    &sent.bytes[at..]
}

fn sjis(text: &str) -> Vec<u8> {
    encoding_rs::SHIFT_JIS.encode(text).0.into_owned()
}

#[test]
fn a_raw_field_is_read_in_the_order_most_likely_right() {
    let report = sjis("レポート");
    let plain = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=";
    let parts = |charset: &str| {
        format!(
            "--b\r\nContent-Type: text/plain; charset={charset}\r\n\r\nx\r\n--b\r\nContent-Type: application/pdf\r\n\r\ny\r\n--b--\r\n"
        )
    };
    let mixed = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    for (subject, head, content, client, read) in [
        ("Müller".as_bytes(), "", String::new(), Some("shift_jis"), "Müller"),
        ("Müller".as_bytes(), "", String::new(), Some("windows-1252"), "Müller"),
        ("Müller".as_bytes(), &format!("{plain}iso-8859-1\r\n"), String::new(), None, "Müller"),
        (b"M\xfcller", &format!("{plain}utf-8\r\n"), String::new(), None, "Müller"),
        (&report, "", String::new(), Some("shift_jis"), "レポート"),
        (&report, &format!("{plain}Shift_JIS\r\n"), String::new(), None, "レポート"),
        (&report, &format!("{plain}\"shift_jis\"\r\n"), String::new(), Some("gb2312"), "レポート"),
        (&report, &format!("{plain}us-ascii\r\n"), String::new(), Some("shift_jis"), "レポート"),
        (&report, mixed, parts("shift_jis"), None, "レポート"),
        (&report, mixed, parts("us-ascii"), Some("shift_jis"), "レポート"),
        (&report, "Comments: =?shift_jis?B?g4yDfA==?=\r\n", String::new(), None, "レポート"),
        (b"\xb1\xa8\xb8\xe6", mixed, parts("GB2312"), Some("windows-1252"), "报告"),
        (b"\xb1\xa8\xb8\xe6", mixed, parts("gb18030"), None, "报告"),
        (b"\xef\xf2\xf7\xb8\xf2", &format!("{plain}windows-1251\r\n"), String::new(), None, "птчёт"),
        (b"\xcf\xd4\xde\xc5\xd4", &format!("{plain}koi8-r\r\n"), String::new(), None, "отчет"),
        (b"f\xc3\xbcr M\xc3", "", String::new(), Some("windows-1252"), "für M"),
        (b"f\xc3\xbcr M\xc3...", "", String::new(), None, "für M..."),
        (b"\xe3\x83\xac\xe3\x83", "", String::new(), Some("shift_jis"), "レ"),
        (&report[..report.len() - 1], "", String::new(), Some("shift_jis"), "レポー"),
        (b"\x1b$B%l%]!<%H\x1b(B", "", String::new(), Some("windows-1252"), "レポート"),
    ] {
        for to_8bit in [true, false] {
            let sample = Sample { charset: client, to_8bit, utf8: to_8bit, ..devices_own() };
            let sent = sent_with(
                &[b"Subject: ", subject, b"\r\n", head.as_bytes()].concat(),
                content.as_bytes(),
                &sample,
            );
            assert_eq!(
                read_text(&sent.field("Subject")),
                read,
                "{} {head} {client:?}",
                subject.escape_ascii()
            );
        }
    }
}

#[test]
fn what_was_encoded_already_is_not_encoded_again() {
    for (subject, read) in [
        ("=?UTF-8?Q?M=C3=BCller?= für", "Müller für"),
        ("für =?UTF-8?Q?M=C3=BCller?=", "für Müller"),
        ("Re:=?UTF-8?Q?M=C3=BCller?= für", "Re:Müller für"),
        ("=?UTF-8?Q?M=C3=BC?==?UTF-8?Q?ller?= für", "Müller für"),
        ("=?UTF-8?Q?Mü?= ller", "Mü ller"),
        ("=?UTF-8?Q?Mü ller?=", "Mü ller"),
        ("=?ISO-8859-1?Q?M=FCller für?=", "Müller für"),
        ("=?UTF-8?B?TcO8bGxlcg==?= ü", "Müller ü"),
        ("=?UTF-8*de?Q?M=C3=BCller?= ü", "Müller ü"),
        ("ü =?utf-8?Q?open", "ü =?utf-8?Q?open"),
        ("ü  two  blanks", "ü  two  blanks"),
        ("two  blanks ü  ü", "two  blanks ü  ü"),
    ] {
        let sent = sent_with(format!("Subject: {subject}\r\n").as_bytes(), b"", &devices_own());
        assert!(sent.bytes.is_ascii());
        assert_eq!(read_text(&sent.field("Subject")), read, "{subject}");
    }
    let name = "attachment; filename*=iso-8859-1''M%FCller für.pdf";
    let sent = sent_with(format!("Content-Disposition: {name}\r\n").as_bytes(), b"", &devices_own());
    assert_eq!(sent.field("Content-Disposition"), "attachment; filename*=UTF-8''M%C3%BCller%20f%C3%BCr.pdf");
    let name = "attachment; x=\"ü\"; filename=\"=?UTF-8?Q?M=C3=BCller?= ü.pdf\"";
    let sent = sent_with(format!("Content-Disposition: {name}\r\n").as_bytes(), b"", &devices_own());
    assert_eq!(
        sent.field("Content-Disposition"),
        "attachment; x*=UTF-8''%C3%BC; filename*=UTF-8''M%C3%BCller%20%C3%BC.pdf"
    );
}

#[test]
fn a_file_name_is_read_like_a_field() {
    let name = sjis("レポート");
    for (raw, charset, client, coded) in [
        (&name[..], "shift_jis", None, "%E3%83%AC%E3%83%9D%E3%83%BC%E3%83%88"),
        (&name, "us-ascii", Some("shift_jis"), "%E3%83%AC%E3%83%9D%E3%83%BC%E3%83%88"),
        ("ü".as_bytes(), "us-ascii", Some("shift_jis"), "%C3%BC"),
        (b"\xfc", "us-ascii", None, "%C3%BC"),
        (b"f\xc3\xbcr M\xc3", "us-ascii", Some("windows-1252"), "f%C3%BCr%20M"),
    ] {
        let content = [
            format!("--b\r\nContent-Type: text/plain; charset={charset}\r\n\r\nx\r\n--b\r\nContent-Type: application/pdf; name=\"").as_bytes(),
            raw,
            b".pdf\"\r\nContent-Disposition: attachment; filename=\"",
            raw,
            b".pdf\"\r\n\r\ny\r\n--b--\r\n",
        ]
        .concat();
        let sent = sent_with(
            b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
            &content,
            &Sample { charset: client, ..devices_own() },
        );
        let text = sent.text().replace("\r\n ", " ");
        for parameter in ["name", "filename"] {
            assert!(text.contains(&format!("; {parameter}*=UTF-8''{coded}.pdf\r\n")), "{text}");
        }
    }
}

#[test]
fn a_label_says_what_the_bytes_are() {
    let report = sjis("レポート");
    for (content_type, content, client, charset) in [
        ("", "Grüße".as_bytes(), None, "text/plain; charset=utf-8"),
        ("", "Grüße".as_bytes(), Some("windows-1252"), "text/plain; charset=utf-8"),
        ("", b"Gr\xfc\xdfe", None, "text/plain; charset=windows-1252"),
        ("", b"Gr\xfc\xdfe", Some("shift_jis"), "text/plain; charset=windows-1252"),
        ("", &report, Some("shift_jis"), "text/plain; charset=shift_jis"),
        ("", b"\x1b$B%l%]!<%H\x1b(B", None, "text/plain; charset=iso-2022-jp"),
        ("text/html", "Grüße".as_bytes(), None, "text/html; charset=utf-8"),
        ("text/plain; charset=us-ascii", "Grüße".as_bytes(), None, "text/plain; charset=utf-8"),
        (
            "text/plain; charset=US-ASCII; format=flowed",
            b"Gr\xfc\xdfe",
            None,
            "text/plain; charset=windows-1252; format=flowed",
        ),
        ("text/plain; charset=\"unknown-8bit\"", b"Gr\xfc\xdfe", None, "text/plain; charset=windows-1252"),
        ("text/plain; charset=utf-8", b"Gr\xfc\xdfe", None, "text/plain; charset=windows-1252"),
        ("text/plain; charset=utf-8", &report, Some("shift_jis"), "text/plain; charset=shift_jis"),
        ("text/plain; charset=shift_jis", b"Gr\xfc\xfce", None, "text/plain; charset=windows-1252"),
        ("text/plain; charset=iso-8859-1", "Grüße".as_bytes(), None, "text/plain; charset=utf-8"),
        ("text/html", b"<meta charset='shift_jis'>\r\n\x83\x8c\x83|", None, "text/html; charset=shift_jis"),
        (
            "text/html",
            b"<META http-equiv=x content=\"text/html; charset=gb2312\">\xb1\xa8",
            None,
            "text/html; charset=gbk",
        ),
        ("text/html", "<meta charset=shift_jis>\r\nGrüße".as_bytes(), None, "text/html; charset=utf-8"),
        // Right already, or nobody can tell.
        ("text/plain; charset=UTF-8", "Grüße".as_bytes(), None, "text/plain; charset=UTF-8"),
        (
            "text/plain; charset=ISO-8859-1",
            b"Gr\xfc\xdfe",
            Some("shift_jis"),
            "text/plain; charset=ISO-8859-1",
        ),
        ("text/plain; charset=gb2312", b"\xb1\xa8\xb8\xe6", None, "text/plain; charset=gb2312"),
        ("text/plain; charset=ibm850", b"Gr\x81\xe1e", None, "text/plain; charset=ibm850"),
        ("text/plain; charset=us-ascii", b"plain", None, "text/plain; charset=us-ascii"),
        ("application/octet-stream", b"Gr\xfc\xdfe", None, "application/octet-stream"),
    ] {
        let head = match content_type {
            "" => "MIME-Version: 1.0\r\n".to_owned(),
            kind => format!("MIME-Version: 1.0\r\nContent-Type: {kind}\r\n"),
        };
        for to_8bit in [true, false] {
            let sample = Sample { charset: client, to_8bit, ..devices_own() };
            let sent = sent_with(head.as_bytes(), &[content, b"\r\n"].concat(), &sample);
            assert_eq!(sent.field("Content-Type"), charset, "{content_type} {}", content.escape_ascii());
            assert!(to_8bit || sent.bytes.is_ascii());
        }
    }
}

#[test]
fn what_needs_no_change_leaves_to_the_byte() {
    for head in [
        "From: <a@contoso.com>\r\n",
        "From: a@contoso.com (the scanner)\r\n",
        "From: (x) \"A  B\" <a@contoso.com>\r\n",
        "From: A <a@Contoso.COM>\r\n",
        "From:a@contoso.com\r\n",
        "from:  A\r\n\t<a@contoso.com>\r\n",
        "From: \"a@contoso.com\" <a@contoso.com>\r\n",
        "From: =?utf-8?Q?M=C3=BCller?= <a@contoso.com>\r\n",
        "From: \"=?utf-8?Q?M=C3=BCller?=\" <a@contoso.com>\r\n",
        "From: J. Q. Public <a@contoso.com>\r\n",
        "From: a@contoso.com\r\nSender: a@contoso.com\r\n",
        "Sender: <A@contoso.com> (x)\r\nFrom: a@contoso.com\r\n",
        "From: a@contoso.com, B <b@contoso.com>\r\nSender: b@contoso.com\r\n",
        "Reply-To: <x@old.example>\r\nFrom: a@contoso.com\r\n",
        "To: a@x.example,b@x.example ; c@x.example\r\nCc: \"x  y\" <d@x.example>\r\n",
        "To: undisclosed-recipients:;\r\n",
        "Subject:  two  blanks \r\nX-A:\r\nX-B: a\r\n\tb\r\n",
        "Subject: =?utf-8?Q?a?= =?utf-8?Q?b?=\r\n",
        "SUBJECT : x\r\n",
        "Content-Type: TEXT/PLAIN ; Charset = \"utf-8\"\r\nMIME-Version: 1.0 (x)\r\n",
        "Content-Type: text/plain; name*=utf-8''%C3%BC\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 7BIT\r\n",
        "Received: from a\r\n\tby b; Mon, 23 Nov 2026 11:58:00 +0100\r\nReceived: from c by a\r\n",
    ] {
        let sent = sent_with(head.as_bytes(), b"x  \r\n.\r\n\r\n\r\n", &devices_own());
        let from = if head.to_lowercase().contains("from:") { "" } else { "From: a@contoso.com\r\n" };
        let expected = format!("{head}{from}{DATE}\r\nx  \r\n..\r\n\r\n\r\n");
        assert!(sent.text().ends_with(&expected), "{expected}\n{}", sent.text());
    }
}

#[test]
fn a_repair_touches_one_field_or_one_part() {
    let head = "Subject: f\u{fc}r\r\nFrom: <a@contoso.com>\r\nTo:  \"x  y\" <b@x.example>  \r\nMIME-Version: 1.0\r\n\
                Content-Type: multipart/mixed;\r\n\tboundary=\"b\"\r\n";
    let neighbour = "--b\r\nContent-Type: text/plain ;  charset=utf-8\r\n\r\nas  it  is \t \r\n\r\n";
    let long = "x ".repeat(600);
    let content = format!(
        "preamble \r\n{neighbour}--b\r\nContent-type:text/html\r\nContent-ID: <1>\r\n\r\n{long}\r\n{neighbour}--b--\r\nepilogue \r\n"
    );
    let sent = sent_with(head.as_bytes(), content.as_bytes(), &devices_own());
    let text = sent.text();
    let rest = head.strip_prefix("Subject: f\u{fc}r\r\n").unwrap();
    assert!(
        text.contains(&format!(
            "\r\nSubject: =?UTF-8?Q?f=C3=BCr?=\r\n{rest}{DATE}\r\npreamble \r\n{neighbour}--b\r\n"
        )),
        "{text}"
    );
    assert!(text.contains("--b\r\nContent-type:text/html\r\nContent-ID: <1>\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"));
    assert!(text.ends_with(&format!("\r\n{neighbour}--b--\r\nepilogue \r\n")), "{text}");
}

#[test]
fn quoted_strings_keep_their_blanks() {
    for (to, expected) in [
        (
            "\"A  B, \u{fc}\" <a@x.example>, \"C   D\" <c@x.example>",
            "=?UTF-8?B?QSAgQiwgw7w=?= <a@x.example>, \"C   D\" <c@x.example>",
        ),
        (
            "\u{fc} <a@x.example>, \"C \t D\" <c@x.example>",
            "=?UTF-8?B?w7w=?= <a@x.example>, \"C   D\" <c@x.example>",
        ),
    ] {
        let sent = sent_with(format!("To: {to}\r\n").as_bytes(), b"", &devices_own());
        let read = |text: &str| read_text(text).replace('"', "");
        assert_eq!(read(&sent.field("To")), read(expected));
        assert!(sent.field("To").ends_with("\"C   D\" <c@x.example>"), "{}", sent.field("To"));
    }
    let disposition = "attachment; x=\u{fc}; filename=\"a  b   c.pdf\"";
    let sent = sent_with(format!("Content-Disposition: {disposition}\r\n").as_bytes(), b"", &devices_own());
    assert!(sent.field("Content-Disposition").ends_with("filename=\"a  b   c.pdf\""));
}

#[test]
fn too_long_is_split_where_the_grammar_allows() {
    let addresses: Vec<String> =
        (0..60).map(|i| format!("a-long-name-of-somebody-{i}@department.contoso.com")).collect();
    let named: Vec<String> = (0..60).map(|i| format!("\"Doe,  J. {i}\"<j{i}@contoso.com>")).collect();
    let ids: Vec<String> =
        (0..60).map(|i| format!("<{i}.a-long-id-of-a-message@department.contoso.com>")).collect();
    for (name, list, between) in
        [("To", &addresses, ","), ("Cc", &addresses, ";"), ("To", &named, ","), ("References", &ids, "")]
    {
        let sent = sent_with(format!("{name}: {}\r\n", list.join(between)).as_bytes(), b"", &devices_own());
        let value = sent.field(name);
        for element in list {
            assert!(value.contains(element), "{element} in {value}");
        }
        assert!(value.len() <= list.join(between).len() + list.len());
    }
    let word = "ü".repeat(640);
    let b = base64(word.as_bytes());
    let q = "=C3=BC".repeat(640);
    for subject in [format!("=?utf-8?B?{b}?="), format!("=?utf-8?Q?{q}?=")] {
        let sent = sent_with(format!("Subject: {subject}\r\n").as_bytes(), b"", &devices_own());
        assert_eq!(read_text(&sent.field("Subject")), word);
        let sent = sent_with(format!("From: {subject} <a@contoso.com>\r\n").as_bytes(), b"", &devices_own());
        assert_eq!(read_text(&sent.field("From")), format!("{word} <a@contoso.com>"));
        let sent = sent_with(
            format!("Content-Disposition: attachment; filename=\"{subject}\"\r\n").as_bytes(),
            b"",
            &devices_own(),
        );
        assert_eq!(sent.field("Content-Disposition").matches("%C3%BC").count(), 640);
    }
    for words in ["x".repeat(1300), "レ".repeat(600), format!("{} {}", "a".repeat(1300), "b".repeat(1300))] {
        let sent = sent_with(format!("Subject: {words}\r\n").as_bytes(), b"", &devices_own());
        assert_eq!(read_text(&sent.field("Subject")), words);
        let sent = sent_with(format!("To: \"{words}\" <b@contoso.com>\r\n").as_bytes(), b"", &devices_own());
        assert_eq!(read_text(&sent.field("To")), format!("{words} <b@contoso.com>"));
    }
    let sent = sent_with(format!("Subject: {}\r\n", "word  ".repeat(300)).as_bytes(), b"", &devices_own());
    assert_eq!(sent.field("Subject"), "word  ".repeat(300).trim(), "folding takes no blank away");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn a_body_under_an_encoding_that_nobody_knows_loses_nothing() {
    let long = "ü".repeat(700);
    for (label, kind) in [
        ("x-unknown", "text/plain; charset=utf-8"),
        ("utf-8", "text/plain; charset=utf-8"),
        ("x-foo", "application/octet-stream"),
    ] {
        let head =
            format!("MIME-Version: 1.0\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {label}\r\n");
        for to_8bit in [true, false] {
            let sample = Sample { to_8bit, ..devices_own() };
            let sent = sent_with(head.as_bytes(), format!("{long}\r\n").as_bytes(), &sample);
            let text = String::from_utf8_lossy(content_of(&sent));
            match sent.field("Content-Transfer-Encoding").as_str() {
                "quoted-printable" => {
                    assert_eq!(text.replace("=\r\n", "").trim().replace("=C3=BC", "ü"), long);
                }
                "base64" => assert_eq!(text.replace("\r\n", ""), base64(long.as_bytes())),
                other => panic!("{other}"),
            }
            assert_eq!(sent.field("X-Original-Content-Transfer-Encoding"), label);
        }
        let sent = sent_with(head.as_bytes(), "kurz, süß\r\n".as_bytes(), &devices_own());
        assert_eq!(sent.field("Content-Transfer-Encoding"), label, "nothing was necessary");
    }
    let head = "MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n";
    let text = format!("No base64: {}\r\n", "it is a text with few marks. ".repeat(60));
    let sent = sent_with(head.as_bytes(), text.as_bytes(), &devices_own());
    let read = String::from_utf8_lossy(content_of(&sent)).replace("\r\n..", "\r\n.").replace("=\r\n", "");
    assert_eq!(read.replace("=20", " ").trim_end(), text.trim_end());
}

#[test]
fn lines_are_never_cut_inside_a_character() {
    let preamble = format!("{}\r\n", "x".repeat(997) + &"ü€".repeat(400));
    let head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    let sent = sent_with(head, format!("{preamble}--b\r\n\r\ny\r\n--b--\r\n").as_bytes(), &devices_own());
    for line in content_of(&sent).split(|b| *b == b'\n') {
        assert!(std::str::from_utf8(line).is_ok());
    }
}

#[test]
fn a_field_that_may_stand_once_leaves_once() {
    for (head, expected) in [
        (
            "To: a@x.example\r\nSubject: x\r\nTo: B <b@x.example>\r\n",
            "To: a@x.example,\r\n B <b@x.example>\r\nSubject: x\r\n",
        ),
        ("To: a@x.example,\r\nTo: b@x.example\r\nTo:\r\n", "To: a@x.example,\r\n b@x.example\r\n"),
        ("Cc: a@x.example\r\ncc: b@x.example\r\n", "Cc: a@x.example,\r\n b@x.example\r\n"),
        ("Reply-To: a@x.example\r\nReply-To: b@x.example\r\n", "Reply-To: a@x.example,\r\n b@x.example\r\n"),
        ("To:\r\nTo: b@x.example\r\n", "To: b@x.example\r\n"),
        ("Subject: one\r\nSubject: two\r\n", "Subject: one\r\nX-Original-Subject: two\r\n"),
        ("Subject: one\r\nSubject: one\r\n", "Subject: one\r\n"),
        ("Subject:\r\nSubject: two\r\n", "Subject: two\r\n"),
        ("Subject:\r\nSubject:\r\n", "Subject:\r\n"),
        ("References: <1@x>\r\nReferences: <2@x>\r\n", "References: <1@x>\r\n <2@x>\r\n"),
        ("MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n", "MIME-Version: 1.0\r\n"),
        (
            "MIME-Version: 1.0\r\nContent-Type: text/html\r\nContent-Type: text/plain\r\n",
            "MIME-Version: 1.0\r\nContent-Type: text/html\r\nX-Original-Content-Type: text/plain\r\n",
        ),
        (
            "X-A: 1\r\nX-A: 2\r\nReceived: from a by b\r\nReceived: from c by a\r\n",
            "X-A: 1\r\nX-A: 2\r\nReceived: from a by b\r\nReceived: from c by a\r\n",
        ),
    ] {
        let sent = sent_with(head.as_bytes(), b"x\r\n", &devices_own());
        let expected = format!("{expected}From: a@contoso.com\r\n{DATE}\r\nx\r\n");
        assert!(sent.text().ends_with(&expected), "{expected}\n{}", sent.text());
    }
}

#[test]
fn a_label_of_a_multipart_fits_its_parts() {
    let part = |text: &str| {
        format!(
            "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
        )
    };
    let nested = format!(
        "--o\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n{}--b--\r\n--o\r\n\r\nplain\r\n--o--\r\n",
        part("ü")
    );
    let embedded = format!(
        "--o\r\nContent-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n--o--\r\n",
        part("ü")
    );
    for (label, content, to_8bit, root, labels) in [
        ("7bit", format!("{}--b--\r\n", part("ü")), true, "8bit", 2),
        ("", format!("{}--b--\r\n", part("ü")), true, "8bit", 2),
        ("8bit", format!("{}--b--\r\n", part("ü")), true, "8bit", 2),
        ("binary", format!("{}--b--\r\n", part("ü")), true, "binary", 1),
        ("7bit", format!("{}--b--\r\n", part("u")), true, "7bit", 1),
        ("7bit", format!("{}--b--\r\n", part("ü")), false, "7bit", 0),
        ("8bit", format!("{}--b--\r\n", part("ü")), false, "7bit", 0),
        ("base64", format!("{}--b--\r\n", part("u")), true, "7bit", 1),
        ("quoted-printable", format!("{}--b--\r\n", part("ü")), true, "8bit", 2),
        ("7bit", nested, true, "8bit", 3),
        ("", embedded, true, "8bit", 4),
    ] {
        let boundary = if content.starts_with("--o") { "o" } else { "b" };
        let said =
            if label.is_empty() { String::new() } else { format!("Content-Transfer-Encoding: {label}\r\n") };
        let head =
            format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n{said}");
        let sent = sent_with(head.as_bytes(), content.as_bytes(), &Sample { to_8bit, ..devices_own() });
        assert_eq!(sent.field("Content-Transfer-Encoding"), root, "{}", sent.text());
        assert_eq!(sent.text().matches("Content-Transfer-Encoding: 8bit").count(), labels, "{}", sent.text());
    }
}

#[test]
fn an_embedded_head_leaves_raw_only_where_it_may() {
    let content = "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: jörg@münchen.example\r\nSubject: für\r\n\r\nx\r\n--b--\r\n";
    let head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    for (to_8bit, utf8, is_raw) in
        [(true, true, true), (true, false, false), (false, false, false), (false, true, false)]
    {
        let sent = sent_with(head, content.as_bytes(), &Sample { to_8bit, utf8, ..devices_own() });
        assert_eq!(!sent.bytes.is_ascii(), is_raw, "{}", sent.text());
        assert_eq!((sent.needs_utf8, sent.needs_8bit), (is_raw, is_raw));
        assert!(sent.text().contains("Subject: =?UTF-8?Q?f=C3=BCr?=\r\n"));
    }
}

#[test]
fn no_character_becomes_a_question_mark() {
    for (field, expected) in [
        (&b"Message-ID: <\xe4@b>"[..], "<=C3=A4@b>"),
        (b"References: <1@b> <\xc3\xa4@b>", "<1@b> <=C3=A4@b>"),
        (
            b"Received: from M\xfcller (B\xfcro 3 (Ost)) by b",
            "from M=C3=BCller (=?UTF-8?Q?B=C3=BCro?= 3 (Ost)) by b",
        ),
        (b"MIME-Version: 1.0 (\xfc)", "1.0 (=?UTF-8?B?w7w=?=)"),
        (b"List-Id: B\xfcro <x.contoso.com>", "B=C3=BCro <x.contoso.com>"),
    ] {
        for utf8 in [true, false] {
            let name =
                field.split(|b| *b == b':').next().map(|n| String::from_utf8_lossy(n).into_owned()).unwrap();
            let raw = [b"From: a@contoso.com\r\n", field, b"\r\n\r\nx\r\n"].concat();
            let sent = carry(&raw, &Sample { utf8, to_8bit: utf8, ..devices_own() });
            let found: Vec<String> = Head::of(&sent.bytes)
                .all(&name)
                .map(|f| String::from_utf8_lossy(&f.unfolded()).into_owned())
                .collect();
            assert!(found.iter().any(|f| f == expected), "{found:?}");
        }
    }
}

#[test]
fn a_valid_date_with_a_comment_stays() {
    for date in [
        &b"Mon, 23 Nov 2026 11:59:00 +0100 (MEZ)"[..],
        b"Mon, 23 Nov 2026 11:59:00 +0100 (GMT+01:00)",
        b"Mon, 23 Nov 2026 11:59:00 +0100 (Mitteleurop\xe4ische Zeit)",
        b"Mon (today), 23 Nov 2026 11:59:00 +0100",
    ] {
        let sent =
            carry(&[b"From: a@contoso.com\r\nDate: ", date, b"\r\n\r\nx\r\n"].concat(), &devices_own());
        let text: String = date.iter().map(|b| char::from(*b)).collect();
        assert_eq!(read_text(&sent.field("Date")), text);
        assert_eq!(sent.field("X-Original-Date"), "no X-Original-Date");
    }
}
