//! Heads that come and heads that leave.

use super::*;
use crate::letter::field::downgraded;
use crate::letter::words::MAX_LINE_BYTES;

fn sender(send_as: &[&str]) -> Sender {
    Sender {
        mailbox: "scanner@contoso.com".parse().unwrap(),
        send_as: send_as.iter().map(|p| p.parse().unwrap()).collect(),
    }
}

fn rewritten(head: &str, send_as: &[&str]) -> String {
    String::from_utf8(rewrite_head(head.as_bytes(), &sender(send_as), Charsets::default())).unwrap()
}

#[test]
fn there_is_one_from_that_may_be_used_and_the_original_gets_the_answers() {
    let allowed: &[&str] = &["*@contoso.com"];
    for (head, send_as, expected) in [
        (
            "From: \"Scanner 3rd floor\" <hp@old.example>\r\n",
            allowed,
            "From: \"Scanner 3rd floor\" <scanner@contoso.com>\r\nReply-To: \"Scanner 3rd floor\" <hp@old.example>\r\n\r\n",
        ),
        ("From: hp@contoso.com\r\n", allowed, "From: hp@contoso.com\r\n\r\n"),
        ("From: Doe, Jane <jane@contoso.com>\r\n", allowed, "From: \"Doe, Jane\" <jane@contoso.com>\r\n\r\n"),
        (
            "From: Doe, Jane <jane@old.example>\r\n",
            &[],
            "From: \"Doe, Jane\" <scanner@contoso.com>\r\nReply-To: \"Doe, Jane\" <jane@old.example>\r\n\r\n",
        ),
        ("From: smtp:hp@contoso.com.\r\n", allowed, "From: hp@contoso.com\r\n\r\n"),
        ("From: HP <hp@contoso.com>\r\n\r\n", allowed, "From: HP <hp@contoso.com>\r\n\r\n"),
        ("From: hp@contoso.com\r\n", &[], "From: scanner@contoso.com\r\nReply-To: hp@contoso.com\r\n\r\n"),
        (
            "From: hp@old.example\r\nReply-To: it@contoso.com\r\n",
            &[],
            "From: scanner@contoso.com\r\nReply-To: it@contoso.com\r\n\r\n",
        ),
        (
            "From: hp@old.example\r\nReply-To: \r\n",
            &[],
            "From: scanner@contoso.com\r\nReply-To: hp@old.example\r\n\r\n",
        ),
        ("Subject: x\r\n", &[], "Subject: x\r\nFrom: scanner@contoso.com\r\n\r\n"),
        ("From:\r\n", &[], "From: scanner@contoso.com\r\n\r\n"),
        ("From: Scanner 3\r\n", &[], "From: Scanner 3 <scanner@contoso.com>\r\n\r\n"),
        ("From: \"Scanner 3\" <>\r\n", &[], "From: \"Scanner 3\" <scanner@contoso.com>\r\n\r\n"),
        ("From: hp@printserver\r\n", &[], "From: scanner@contoso.com\r\n\r\n"),
        ("From: hp@contoso.com <hp@contoso.com>\r\n", allowed, "From: hp@contoso.com\r\n\r\n"),
        (
            "From: hp@x.example <hp@x.example>\r\n",
            allowed,
            "From: scanner@contoso.com\r\nReply-To: hp@x.example\r\n\r\n",
        ),
        (
            "From: a@contoso.com\r\nTo: t@contoso.com\r\nFrom: b@contoso.com\r\n",
            allowed,
            "From: a@contoso.com\r\nReply-To: a@contoso.com, b@contoso.com\r\nTo: t@contoso.com\r\n\r\n",
        ),
        ("From: a@contoso.com\r\nFrom: a@contoso.com\r\n", allowed, "From: a@contoso.com\r\n\r\n"),
        (
            "From: a@contoso.com, b@contoso.com\r\n",
            allowed,
            "From: a@contoso.com, b@contoso.com\r\nSender: scanner@contoso.com\r\n\r\n",
        ),
        (
            "From: a@contoso.com, b@contoso.com\r\nSender: b@contoso.com\r\n",
            allowed,
            "From: a@contoso.com, b@contoso.com\r\nSender: b@contoso.com\r\n\r\n",
        ),
        (
            "From: x@y.example, b@contoso.com\r\n",
            allowed,
            "From: b@contoso.com\r\nReply-To: x@y.example, b@contoso.com\r\n\r\n",
        ),
        ("Sender: root@y.example\r\nFrom: a@contoso.com\r\n", allowed, "From: a@contoso.com\r\n\r\n"),
        (
            "Sender: b@contoso.com\r\nFrom: a@contoso.com\r\n",
            allowed,
            "Sender: b@contoso.com\r\nFrom: a@contoso.com\r\n\r\n",
        ),
        ("From: jürgen@old.example\r\n", &[], "From: scanner@contoso.com\r\n\r\n"),
    ] {
        assert_eq!(rewritten(head, send_as), expected, "{head}");
    }
}

#[test]
fn blind_copies_and_return_paths_do_not_leave() {
    assert_eq!(
        rewritten(
            "Return-Path: <a@b>\r\nBcc: boss@contoso.com\r\nbcc:\r\n x@y\r\nFrom: scanner@contoso.com\r\n",
            &[]
        ),
        "From: scanner@contoso.com\r\n\r\n"
    );
}

#[test]
fn a_display_name_cannot_begin_a_field() {
    for head in [
        &b"From: \"x\r\n Bcc: victim@y.example\" <a@old.example>\r\n"[..],
        b"From: \"x\rBcc: victim@y.example\" <a@old.example>\r\n",
        b"From: =?utf-8?Q?x=0D=0ABcc:_victim@y.example?= <a@old.example>\r\n",
        b"From: x\x0bBcc: y\x85 <a@old.example>\r\n",
        b"From: \"x\" <a@old.example>\r\nReply-To: \"\r\n\r\n",
    ] {
        let out = rewrite_head(head, &sender(&[]), Charsets::default());
        for field in Head::of(&out).fields() {
            assert!(field.is("From") || field.is("Reply-To"), "{}", String::from_utf8_lossy(&out));
        }
        let text = String::from_utf8(out).unwrap();
        assert!(text.matches("\r\n\r\n").count() == 1 && text.ends_with("\r\n\r\n"), "{text}");
    }
}

mod any_head {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leaves_with_one_from_and_clean_lines(
            lines in prop::collection::vec(
                ("(From|To|Subject|Content-Type|Sender|Reply-To|X-[a-z]{1,4}|[!-9;-~]{1,1500}): ?",
                 prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"<>@,;:\"\\( ab\r\n=?".to_vec())], 0..80),
                 0usize..40),
                0..12),
            charset in prop::option::of(prop::sample::select(vec!["shift_jis", "iso-2022-jp", "utf-8", "latin1", "nonsense"])),
        ) {
            let mut head = Vec::new();
            for (name, value, times) in lines {
                head.extend_from_slice(name.as_bytes());
                for _ in 0..times { head.extend_from_slice(&value); }
                head.extend_from_slice(b"\r\n");
            }
            let out = rewrite_head(&head, &sender(&["*@contoso.com"]), Charsets::of_client(charset));
            let below = downgraded(out.clone());
            prop_assert!(below.is_ascii());
            prop_assert_eq!(Head::of(&below).fields().map(|f| f.name().to_vec()).collect::<Vec<_>>(),
                Head::of(&out).fields().map(|f| f.name().to_vec()).collect::<Vec<_>>());
            prop_assert!(below.split(|b| *b == b'\n').all(|l| l.len() <= MAX_LINE_BYTES + 1));
            prop_assert!(out.ends_with(b"\r\n\r\n") || out == b"\r\n");
            prop_assert!(std::str::from_utf8(&out).is_ok());
            prop_assert_eq!(Head::of(&out).fields().filter(|f| f.is("From")).count(), 1);
            let body = Head::of(&out).fields().map(|f| f.raw.len()).sum::<usize>();
            prop_assert_eq!(body + 2, out.len(), "nothing but fields");
            for line in out[..out.len() - 2].split(|b| *b == b'\n') {
                if line.is_empty() { continue; }
                prop_assert!(line.ends_with(b"\r"));
                let line = &line[..line.len() - 1];
                prop_assert!(line.len() <= MAX_LINE_BYTES);
                prop_assert!(!line.iter().any(|b| matches!(b, 0 | b'\r')));
            }
        }
    }
}
