//! Heads as they come from devices, scripts and mail programs, cut anywhere.

use super::*;
use crate::receive::decode::Decoder;

fn split(message: &str, piece: usize) -> Result<(String, String), TooLarge> {
    let (mut splitter, mut decoder) = (Splitter::default(), Decoder::new(false));
    let stuffed = message.replace("\r\n.", "\r\n..");
    let mut content = vec![];
    for part in stuffed.as_bytes().chunks(piece) {
        let mut decoded = vec![];
        decoder.keep_bare_cr(!splitter.is_done());
        decoder.push(part, &mut decoded);
        splitter.push(&mut decoded)?;
        content.extend(decoded);
    }
    content.extend(splitter.finish());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("\r\n", "|");
    Ok((text(splitter.into_head()), text(content)))
}

/// `|` is CRLF, and the head is given without its empty line.
fn assert_splits(message: &str, head: &str, content: &str) {
    let message = message.replace('|', "\r\n");
    for piece in [1, 2, 3, 1000] {
        let expected = Ok((format!("{head}|"), content.to_owned()));
        assert_eq!(split(&message, piece), expected, "{message:?} in {piece}");
    }
}

#[test]
fn the_head_ends_at_the_empty_line_or_before_the_first_line_that_is_no_field() {
    for (message, head, content) in [
        ("A: 1|B: 2| 3||hi|", "A: 1|B: 2| 3|", "hi|"),
        ("A: 1|hello world|C: 3|", "A: 1|", "hello world|C: 3|"),
        ("hello||A: 1|", "", "hello||A: 1|"),
        (" folded first|", "", " folded first|"),
        ("|hi|", "", "hi|"),
        ("||hi|", "", "|hi|"),
        ("||", "", "|"),
        ("A: 1|", "A: 1|", ""),
        ("A: 1", "A: 1|", ""),
        ("A: 1|hello", "A: 1|", "hello|"),
        ("", "", ""),
        ("A: 1|--b|Content-Type: text/plain||x|--b--|", "A: 1|", "--b|Content-Type: text/plain||x|--b--|"),
        // Texts whose senders forgot the empty line, or any head at all.
        ("Subject: x|Dear Anna,|Note: it is done||bye|", "Subject: x|", "Dear Anna,|Note: it is done||bye|"),
        (
            "From: a@b|Date: Mon, 23 Nov 2026 11:59:00 +0000|Alert|Date: today|From: HP4250|Status: ok||",
            "From: a@b|Date: Mon, 23 Nov 2026 11:59:00 +0000|",
            "Alert|Date: today|From: HP4250|Status: ok||",
        ),
        (
            "Report|Date: Mon, 23 Nov 2026 11:59:00 +0000|Total: 7||",
            "",
            "Report|Date: Mon, 23 Nov 2026 11:59:00 +0000|Total: 7||",
        ),
        (
            "From: a@b|To: c@d|1|2|3|4|5|6|7|8|9|Subject: x||",
            "From: a@b|To: c@d|",
            "1|2|3|4|5|6|7|8|9|Subject: x||",
        ),
        (
            "From: a@b|-----Original Message-----|From: c@d|To: e@f||",
            "From: a@b|",
            "-----Original Message-----|From: c@d|To: e@f||",
        ),
    ] {
        assert_splits(message, head, content);
    }
}

#[test]
fn one_odd_line_does_not_end_the_head() {
    const MIME: &str = "MIME-Version: 1.0|Content-Type: text/html|";
    for (before, head) in [
        // Before the first field.
        (
            "From root@nas Thu Nov 26 09:00:00 2026|",
            "X-Mailbox-Line: From root@nas Thu Nov 26 09:00:00 2026|",
        ),
        (
            ">From root@nas Thu Nov 26 09:00:00 2026|",
            "X-Mailbox-Line: >From root@nas Thu Nov 26 09:00:00 2026|",
        ),
        (
            "From a Thu Nov 26 09:00:00 2026|>From b Thu Nov 26 09:00 2026|",
            "X-Mailbox-Line: From a Thu Nov 26 09:00:00 2026|X-Mailbox-Line: >From b Thu Nov 26 09:00 2026|",
        ),
        ("\u{feff}", ""),
        ("\u{feff}Subject: x|", "Subject: x|"),
        ("\u{feff}|", ""),
        ("|", ""),
        ("|||", ""),
        ("   |", ""),
        ("\t|", ""),
        ("HTTP/1.1 200 OK|", "X-Unparsed-Line: HTTP/1.1 200 OK|"),
        ("POST /scan HTTP/1.1|Host: 10.0.0.1|", "X-Unparsed-Line: POST /scan HTTP/1.1|Host: 10.0.0.1|"),
        ("DATA|", "X-Unparsed-Line: DATA|"),
        (
            "MAIL FROM:<a@b>|RCPT TO:<c@d>|",
            "X-Unparsed-Line: MAIL FROM:<a@b>|X-Unparsed-Line: RCPT TO:<c@d>|",
        ),
        (" Subject: x|", "Subject: x|"),
        (" folded first|", "X-Unparsed-Line: folded first|"),
        ("# a comment|", "X-Unparsed-Line: # a comment|"),
        (": no name|", "X-Unparsed-Line: : no name|"),
        // Between fields.
        (
            "Subject: x|From root@nas Thu Nov 26 09:00:00 2026|",
            "Subject: x|X-Mailbox-Line: From root@nas Thu Nov 26 09:00:00 2026|",
        ),
        ("Subject: x|no colon here|", "Subject: x|X-Unparsed-Line: no colon here|"),
        ("Subject: x|one|two|", "Subject: x|X-Unparsed-Line: one|X-Unparsed-Line: two|"),
        ("Subject: x|one| more of it|", "Subject: x|X-Unparsed-Line: one| more of it|"),
        ("Subject: x|X Mailer: HP|", "Subject: x|X-Unparsed-Line: X Mailer: HP|"),
        ("Subject: x|Message ID: 7|", "Subject: x|X-Unparsed-Line: Message ID: 7|"),
        ("Subject: x|Gerät: 7|", "Subject: x|X-Unparsed-Line: Gerät: 7|"),
        ("Subject: x|:|", "Subject: x|X-Unparsed-Line: :|"),
        ("Subject: x|=====|", "Subject: x|X-Unparsed-Line: =====|"),
        ("Subject: x|   |", "Subject: x|   |"),
        ("Subject: x|\t|", "Subject: x|\t|"),
        ("Subject: x|.|", "Subject: x|X-Unparsed-Line: .|"),
        // Inside one.
        ("Subject: one\rtwo|", "Subject: one two|"),
        ("Subject: one\r|", "Subject: one|"),
        ("Subject: one\rBcc: x@y|", "Subject: one Bcc: x@y|"),
        ("Subject: one\r\rtwo|", "Subject: one  two|"),
        ("\rSubject: x|", "Subject: x|"),
        ("Subject: x|\rTo: a@b|", "Subject: x|To: a@b|"),
        (
            "Content-Disposition: attachment;|filename=\"a b.pdf\"|",
            "Content-Disposition: attachment;| filename=\"a b.pdf\"|",
        ),
        ("To: a@b,|c@d|", "To: a@b,| c@d|"),
        (
            "Content-Disposition: attachment|;filename=\"a b.pdf\"|",
            "Content-Disposition: attachment| ;filename=\"a b.pdf\"|",
        ),
    ] {
        assert_splits(&format!("{before}{MIME}|x|"), &format!("{head}{MIME}"), "x|");
    }
}

#[test]
fn a_parameter_on_a_line_of_its_own_is_one_without_any_proof() {
    assert_splits(
        "Content-Type: multipart/mixed;|boundary=\"b\"||--b|",
        "Content-Type: multipart/mixed;| boundary=\"b\"|",
        "--b|",
    );
    assert_splits("Subject: a;|b c = d||x|", "Subject: a;|", "b c = d||x|");
}

#[test]
fn an_odd_line_before_a_forgotten_empty_line_costs_nothing() {
    assert_splits(
        "Subject: x|odd|Content-Type: multipart/mixed; boundary=b|--b||x|--b--|",
        "Subject: x|X-Unparsed-Line: odd|Content-Type: multipart/mixed; boundary=b|",
        "--b||x|--b--|",
    );
}

#[test]
fn a_head_whose_lines_end_in_cr_is_read_as_one() {
    assert_splits("From: a@b\rSubject: x\r\rone\rtwo\r.|", "From: a@b|Subject: x|", "one|two|.|");
    assert_splits("From: a@b\rSubject: x\r y\r\rone|", "From: a@b|Subject: x| y|", "one|");
    assert_splits("From: a@b\rTo: c@d\rSubject: x|", "From: a@b|To: c@d|Subject: x|", "");
    assert_splits("From: a@b\rTo: c@d\rSubject: x||hi\rho|", "From: a@b|To: c@d|Subject: x|", "hi|ho|");
    assert_splits("From: a@b\rTo: c@d\rSubject: x|Date: y||", "From: a@b To: c@d Subject: x|Date: y|", "");
}

#[test]
fn a_head_is_bounded_and_a_long_first_line_of_content_is_not_taken_for_one() {
    let long = format!("X: {}", "x".repeat(LIMIT_BYTES));
    assert_eq!(split(&long, 4096), Err(TooLarge));
    let content = "x".repeat(4 * LIMIT_BYTES);
    for piece in [1000, 4096, 1 << 20] {
        let (head, passed) = split(&content, piece).unwrap();
        assert_eq!((head.as_str(), passed.len()), ("|", content.len()));
        let behind = format!("Subject: x\r\nodd\r\n{content}");
        let (head, passed) = split(&behind, piece).unwrap();
        assert_eq!((head.as_str(), passed.len()), ("Subject: x||", "odd|".len() + content.len()));
    }
}
