//! Notices as people and programs read them.

use super::*;
use crate::mail::{AccountId, ClientName, Recipient, RelayTime, Reply, Stage, State};

const NOW: i64 = 1_795_435_200_000;

fn message(path: ReversePath) -> QueuedMessage {
    QueuedMessage {
        id: QueueId::from_number(77),
        account: AccountId::new("scanner@contoso.com"),
        client: ClientName::new("printers"),
        peer: Some("10.0.5.7".parse().unwrap()),
        reverse_path: path,
        recipients: vec![Recipient::pending("a@contoso.com".parse().unwrap())],
        size_bytes: 4711,
        received_at: WallTime::from_ms(NOW - 3_600_000),
        queued_since: RelayTime::from_ms(0),
        next_attempt: RelayTime::from_ms(0),
        attempts: 1,
        state: State::Dead,
        finished_at: None,
        last_said: String::new(),
        outcome_unknown: false,
        charset: None,
    }
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn report(kind: Kind, head: &[u8], failures: &[(&Mailbox, Option<&Failure>)]) -> (String, String) {
    report_of(false, kind, head, failures)
}

fn report_of(
    is_sandbox: bool,
    kind: Kind,
    head: &[u8],
    failures: &[(&Mailbox, Option<&Failure>)],
) -> (String, String) {
    let message = message(ReversePath::Mailbox(mailbox("hp@contoso.com")));
    let written = Report {
        kind,
        id: QueueId::from_number(78),
        message: &message,
        original_head: head,
        failures,
        advice: &["Check the address at the device.".to_owned(), "--odd".to_owned()],
        goes_on: false,
        hostname: "relay.contoso.local",
        is_sandbox,
        from: &mailbox("scanner@contoso.com"),
        to: &[mailbox("hp@contoso.com")],
        now: WallTime::from_ms(NOW),
    }
    .write();
    (String::from_utf8(written.head).unwrap(), String::from_utf8(written.content).unwrap())
}

#[test]
fn a_failure_is_told_to_people_and_programs() {
    let failure =
        Failure::new(Stage::Rcpt, Cause::Reply(Reply::new(550, "5.1.10 RESOLVER.ADR.RecipientNotFound")));
    let to = mailbox("nobody@contoso.com");
    let head = b"Message-ID: <1@hp>\r\nSubject: Lieferschein M\xfcller\r\nBcc: x@y\r\n\r\n";
    let (head, content) = report(Kind::Failed, head, &[(&to, Some(&failure))]);
    for expected in [
        "From: \"Mail relay relay.contoso.local\" <scanner@contoso.com>\r\nTo: hp@contoso.com\r\n",
        "Subject: Not delivered: Lieferschein =?UTF-8?Q?M=C3=BCller?=\r\n",
        "Message-ID: <000000000002E@relay.contoso.local>\r\n",
        "In-Reply-To: <1@hp>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "multipart/report; report-type=delivery-status;\r\n boundary=\"=_000000000002E_report\"\r\n",
    ] {
        assert!(head.contains(expected), "{expected}\n{head}");
    }
    for expected in [
        "could not be delivered",
        "    Subject: Lieferschein Müller\r\n",
        "    From: <hp@contoso.com> at printers (10.0.5.7)\r\n",
        "    nobody@contoso.com\r\n        RCPT TO: 550 5.1.10 RESOLVER.ADR.RecipientNotFound\r\n",
        "What to do:\r\n\r\n    Check the address at the device.\r\n",
        "    mailferry queue retry 000000000002D\r\n",
        "\r\nReporting-MTA: dns; relay.contoso.local\r\n",
        "\r\n\r\nFinal-Recipient: rfc822; nobody@contoso.com\r\nAction: failed\r\nStatus: 5.1.10\r\n",
        "Diagnostic-Code: smtp; 550 5.1.10 RESOLVER.ADR.RecipientNotFound\r\n",
        "Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1@hp>\r\nSubject: Lieferschein =?UTF-8?Q?M=C3=BCller?=\r\n\r\n--=_",
    ] {
        assert!(content.contains(expected), "{expected}\n{content}");
    }
    assert!(!content.contains("Bcc"));
}

#[test]
fn a_delay_says_until_when_and_asks_for_nothing() {
    let failure =
        Failure::new(Stage::Auth, Cause::Reply(Reply::new(451, "4.7.0 Temporary server error. PRX4")));
    let to = mailbox("a@contoso.com");
    let until = WallTime::from_ms(NOW + 86_400_000);
    let (head, content) = report(Kind::Delayed { until }, b"", &[(&to, Some(&failure))]);
    assert!(head.contains("Subject: Delayed: (no subject)\r\n"));
    assert!(content.contains("Action: delayed\r\nStatus: 4.7.0\r\n"));
    assert!(content.contains("Will-Retry-Until: Tue, 24 Nov 2026 12:00:00 +0000\r\n"));
    assert!(content.contains("still waiting") && !content.contains("queue retry"));
}

#[test]
fn every_cause_has_a_status() {
    let to = mailbox("jürgen@contoso.com");
    for (kind, cause, status) in [
        (Kind::Expired, Cause::Timeout, "4.4.7"),
        (Kind::Expired, Cause::Reply(Reply::new(451, "later")), "4.0.0"),
        (Kind::Failed, Cause::Reply(Reply::new(550, "no")), "5.0.0"),
        (Kind::Failed, Cause::TooLarge { size_bytes: 2, limit_bytes: 1 }, "5.3.4"),
        (Kind::Failed, Cause::NoSmtpUtf8, "5.6.7"),
    ] {
        let failure = Failure::new(Stage::Mail, cause);
        let (_, content) = report(kind, b"", &[(&to, Some(&failure))]);
        assert!(content.contains(&format!("\r\nStatus: {status}\r\n")), "{status} {content}");
        assert!(content.contains("Final-Recipient: utf-8; j\\x{FC}rgen@contoso.com\r\n"));
    }
    let (_, content) = report(Kind::Expired, b"", &[(&to, None)]);
    assert!(content.contains("no attempt has been made yet") && content.contains("Status: 4.4.7"));
}

#[test]
fn peer_text_can_begin_no_part_and_no_field() {
    let said =
        "5.0.0 no\r\n--=_000000000002E_report\r\n\r\nContent-Type: text/html\n--=_000000000002E_report--";
    let failure = Failure::new(Stage::Data, Cause::Reply(Reply::new(554, said)));
    let to = mailbox("a@contoso.com");
    let head = b"Subject: --=_000000000002E_report\r\nX:\r\n --=_000000000002E_report\r\n";
    let (head, content) = report(Kind::Failed, head, &[(&to, Some(&failure))]);
    assert_eq!(content.split("\r\n").filter(|l| l.starts_with("--")).count(), 4, "{content}");
    assert!(!content.contains("\r\nContent-Type: text/html"));
    assert!(Head::of(head.as_bytes()).is_whole());
    assert!(!content.replace("\r\n", "").contains(['\r', '\n']));
}

#[test]
fn machines_and_lists_are_not_answered() {
    let from = |head: &[u8]| may_answer(&message(ReversePath::Mailbox(mailbox("hp@contoso.com"))), head);
    assert!(from(b"Subject: x\r\n"));
    assert!(from(b"Auto-Submitted: no\r\n"));
    assert!(from(b"Precedence: first-class\r\n"));
    for head in [
        &b"Auto-Submitted: auto-replied\r\n"[..],
        b"auto-submitted: auto-generated; type=x\r\n",
        b"Precedence: Bulk\r\n",
        b"Precedence: list\r\n",
        b"Precedence:\r\n junk\r\n",
        b"List-Id: <x.contoso.com>\r\n",
    ] {
        assert!(!from(head), "{}", String::from_utf8_lossy(head));
    }
    assert!(!may_answer(&message(ReversePath::Null), b""));
    assert!(!may_answer(&message(ReversePath::Unusable("ilo.@".into())), b""));
    assert!(!may_answer(&message(ReversePath::Mailbox(mailbox("hp@printserver"))), b""));
}

#[test]
fn the_sandbox_stands_first_in_subject_and_text() {
    let to = mailbox("nobody@contoso.com");
    let (head, content) = report_of(true, Kind::Expired, b"Subject: scan\r\n\r\n", &[(&to, None)]);
    assert!(head.contains("Subject: SANDBOX: Not delivered: scan\r\n"), "{head}");
    assert!(content.contains("bit\r\n\r\nSANDBOX: "), "{content}");
}

#[test]
fn a_notice_is_plain_text() {
    let written = AdminNotice {
        id: QueueId::from_number(9),
        subject: "scanner@contoso.com is held\r\nBcc: x@y",
        paragraphs: &["Exchange Online refuses the login.".to_owned(), "Größe".to_owned()],
        hostname: "relay.contoso.local",
        is_sandbox: false,
        from: &mailbox("scanner@contoso.com"),
        to: &[mailbox("it@contoso.com"), mailbox("boss@contoso.com")],
        now: WallTime::from_ms(NOW),
    }
    .write();
    let head = String::from_utf8(written.head).unwrap();
    assert!(head.contains(
        "To: it@contoso.com, boss@contoso.com\r\nSubject: scanner@contoso.com is held Bcc: x@y\r\n"
    ));
    assert!(head.contains("Auto-Submitted: auto-generated\r\n") && head.ends_with("8bit\r\n\r\n"));
    assert_eq!(written.content, "Exchange Online refuses the login.\r\n\r\nGröße\r\n\r\n".as_bytes());
}
