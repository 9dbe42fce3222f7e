//! `submit` against a scripted smart host, over real TCP and TLS.

use crate::support::own_process;
use crate::support::smart_host;
use crate::support::smart_host::{Act, At, Ending, Protection, SmartHost, TestCertificate};
use futures_util::StreamExt;
use mailferry::fact::Witness;
use mailferry::mail::{Cause, Failure, Mailbox, ReversePath, Sender, Stage};
use mailferry::policy::verdict::{Action, Blame, judge};
use mailferry::submit::smtp::{self, Connection, Login, Tls};
use mailferry::submit::{InMemory, Outcome, Outgoing, Sent};
use mailferry::tls::Trust;
use std::time::{Duration, Instant};

const PRX4: &str = "451 4.7.0 Temporary server error. Please try again later. PRX4";
const PASSWORD: &str = "correct horse";

fn settings(host: &SmartHost) -> smtp::SmartHost {
    smtp::SmartHost {
        host: smart_host::NAME.to_owned(),
        port: host.address().port(),
        tls: Tls::StartTls,
        login: Some(Login::Password {
            user: "scanner@contoso.com".to_owned(),
            password: PASSWORD.to_owned().into(),
        }),
        ehlo_name: "relay.contoso.local".to_owned(),
        connect_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(5),
        data_timeout: Duration::from_secs(5),
    }
}

fn in_clear(host: &SmartHost) -> smtp::SmartHost {
    smtp::SmartHost { tls: Tls::Off, login: None, ..settings(host) }
}

async fn open_with(host: &SmartHost, settings: &smtp::SmartHost) -> Result<Connection, Failure> {
    let trust = Trust::new(Some(SmartHost::ca_file())).unwrap();
    Connection::open(settings, &trust, host.address(), &Witness::nobody()).await
}

async fn open(host: &SmartHost) -> Result<Connection, Failure> {
    open_with(host, &settings(host)).await
}

/// A host without TLS and what `with` makes of it, and a connection to it.
async fn clear_host(
    with: impl FnOnce(smart_host::Builder) -> smart_host::Builder,
) -> (SmartHost, Connection) {
    let host = with(SmartHost::builder()).protection(Protection::None).start().await;
    let connection = open_with(&host, &in_clear(&host)).await.unwrap();
    (host, connection)
}

/// From whom to whom.
struct Message {
    reverse_path: ReversePath,
    recipients: Vec<Mailbox>,
}

fn message(recipients: &[&str]) -> Message {
    Message {
        reverse_path: ReversePath::Mailbox("copier@contoso.com".parse().unwrap()),
        recipients: recipients.iter().map(|r| r.parse().unwrap()).collect(),
    }
}

fn body(content: impl Into<Vec<u8>>) -> InMemory {
    let head = b"From: scanner@contoso.com\r\nTo: a@contoso.com\r\nSubject: scan\r\n\r\n".to_vec();
    InMemory::new(head, content.into())
}

async fn post(connection: &mut Connection, message: &Message, letter: &InMemory, sender: &Sender) -> Sent {
    let (reverse_path, recipients) = (&message.reverse_path, message.recipients.iter().collect());
    connection.send(&Outgoing { reverse_path, recipients, letter, charset: None, sender }, &|| {}).await
}

fn sender() -> Sender {
    Sender { mailbox: "scanner@contoso.com".parse().unwrap(), send_as: vec![] }
}

async fn send(connection: &mut Connection, recipients: &[&str]) -> Sent {
    post(connection, &message(recipients), &body("hello\r\n"), &sender()).await
}

/// Outcomes in short: `taken`, `untried`, or the refusal.
fn outcomes(sent: &Sent) -> Vec<String> {
    sent.outcomes
        .iter()
        .map(|o| match o {
            Outcome::Taken(_) => "taken".to_owned(),
            Outcome::Untried => "untried".to_owned(),
            Outcome::Refused(failure) => failure.to_string(),
        })
        .collect()
}

fn failed(sent: &Sent) -> String {
    sent.failure.as_ref().expect("the transaction failed").to_string()
}

/// The first connection's turns, once they are as many; an answer may be here before the host has counted it.
async fn turns(host: &SmartHost, expected: usize) -> usize {
    let counted = async {
        while host.recorded().turns[0] < expected {
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), counted).await;
    host.recorded().turns[0]
}

/// MAIL's argument with the figure taken out: how large a message is on the wire is the encoder's business.
fn mail_argument(host: &SmartHost) -> String {
    let mail = host.recorded().messages[0].mail.clone();
    let words: Vec<&str> =
        mail.split(' ').map(|w| if w.starts_with("SIZE=") { "SIZE=n" } else { w }).collect();
    words.join(" ")
}

/// Everything a peer that only listens in the clear could have seen.
fn assert_no_password(host: &SmartHost) {
    for bytes in host.recorded().bytes {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("AUTH") && !text.contains("Y29ycmVjdCBob3JzZQ=="), "{text}");
    }
}

#[tokio::test]
async fn a_message_goes_out_over_verified_tls_after_login() {
    let host = SmartHost::start().await;
    let mut connection = open(&host).await.unwrap();
    assert!(connection.tls().unwrap().starts_with("TLSv1_3"), "{:?}", connection.tls());
    assert!(connection.capabilities().has_auth("XOAUTH2"));
    let sent = post(
        &mut connection,
        &message(&["a@contoso.com", "b@contoso.com"]),
        &body("one\r\n.two\r\n..\r\n"),
        &sender(),
    )
    .await;
    assert_eq!(outcomes(&sent), ["taken", "taken"]);
    assert!(sent.failure.is_none() && sent.usable);
    let Outcome::Taken(reply) = &sent.outcomes[0] else { unreachable!() };
    assert_eq!(reply.to_string(), "250 2.0.0 OK <1@x> [Hostname=SMART.HOST]");
    connection.quit().await;

    let recorded = host.recorded();
    let taken = &recorded.messages[0];
    assert!(taken.in_tls);
    assert_eq!(taken.recipients, ["a@contoso.com", "b@contoso.com"]);
    assert!(taken.data.ends_with(b"\r\n\r\none\r\n.two\r\n..\r\n"), "dots come through");
    assert!(taken.mail.starts_with("<scanner@contoso.com> SIZE="), "{}", taken.mail);
    assert_eq!((recorded.logins, recorded.connections, recorded.open), (1, 1, 0));
}

#[tokio::test]
async fn implicit_tls_is_spoken_from_the_first_byte() {
    let host = SmartHost::builder().protection(Protection::Implicit).start().await;
    let settings = smtp::SmartHost { tls: Tls::Implicit, ..settings(&host) };
    let mut connection = open_with(&host, &settings).await.unwrap();
    assert_eq!(outcomes(&send(&mut connection, &["a@contoso.com"]).await), ["taken"]);
}

#[tokio::test]
async fn implicit_tls_to_a_server_that_speaks_plainly_is_told_as_such() {
    let host = SmartHost::start().await;
    let settings = smtp::SmartHost { tls: Tls::Implicit, ..settings(&host) };
    let failure = open_with(&host, &settings).await.unwrap_err();
    assert_eq!(failure.to_string(), "STARTTLS: the server does not speak TLS here");
}

#[tokio::test]
async fn a_message_costs_two_round_trips_where_pipelining_is_announced() {
    let (host, mut connection) = clear_host(|b| b).await;
    let before = host.recorded().turns[0];
    for n in 1..=3 {
        assert_eq!(
            outcomes(&send(&mut connection, &["a@x.example", "b@x.example"]).await),
            ["taken", "taken"]
        );
        assert_eq!(turns(&host, before + 2 * n).await, before + 2 * n);
    }
}

#[tokio::test]
async fn without_pipelining_every_command_waits_for_its_answer() {
    let (host, mut connection) = clear_host(|b| b.without("PIPELINING")).await;
    let before = host.recorded().turns[0];
    assert_eq!(outcomes(&send(&mut connection, &["a@x.example", "b@x.example"]).await), ["taken", "taken"]);
    assert_eq!(turns(&host, before + 5).await, before + 5, "MAIL, RCPT, RCPT, DATA, body");
}

#[tokio::test]
async fn hundreds_of_recipients_go_in_one_transaction() {
    let (host, mut connection) = clear_host(|b| b).await;
    let names: Vec<String> = (0..500).map(|i| format!("r{i}@x.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sent = send(&mut connection, &names).await;
    assert!(outcomes(&sent).iter().all(|o| o == "taken"));
    assert_eq!(host.recorded().messages[0].recipients, names);
}

#[tokio::test]
async fn prx4_is_told_with_the_stage_it_came_at() {
    for (at, stage) in [
        (At::Banner, Stage::Connect),
        (At::Ehlo, Stage::Ehlo),
        (At::StartTls, Stage::Tls),
        (At::EhloInTls, Stage::Ehlo),
        (At::Auth, Stage::Auth),
    ] {
        let host = SmartHost::start().await;
        host.once(at.clone(), Act::say(PRX4));
        let failure = open(&host).await.unwrap_err();
        assert_eq!((failure.stage, failure.reply().unwrap().to_string().as_str()), (stage, PRX4), "{at:?}");
    }
    for (at, stage) in [(At::Mail, Stage::Mail), (At::Data, Stage::Data), (At::FinalDot, Stage::FinalDot)] {
        let host = SmartHost::start().await;
        let mut connection = open(&host).await.unwrap();
        host.once(at.clone(), Act::say(PRX4));
        let sent = send(&mut connection, &["a@contoso.com"]).await;
        let failure = sent.failure.unwrap();
        assert_eq!((failure.stage, failure.reply().unwrap().to_string().as_str()), (stage, PRX4), "{at:?}");
        assert!(!failure.outcome_is_unknown());
        assert_eq!(sent.outcomes, [Outcome::Untried]);
        assert!(sent.usable, "the connection goes on after {at:?}");
        assert_eq!(outcomes(&send(&mut connection, &["a@contoso.com"]).await), ["taken"], "{at:?}");
    }
}

#[tokio::test]
async fn a_refused_login_is_not_tried_with_another_mechanism() {
    let host = SmartHost::builder().with("AUTH PLAIN LOGIN").start().await;
    host.always(At::Auth, Act::say("535 5.7.3 Authentication unsuccessful"));
    let failure = open(&host).await.unwrap_err();
    assert_eq!(failure.to_string(), "AUTH: 535 5.7.3 Authentication unsuccessful");
    assert_eq!(host.recorded().login_attempts, 1);
}

#[tokio::test]
async fn plain_is_preferred_and_login_is_used_where_it_is_all_there_is() {
    for (announced, said) in [
        ("AUTH LOGIN PLAIN", "AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AY29ycmVjdCBob3JzZQ==\r\n"),
        ("AUTH=LOGIN", "AUTH LOGIN\r\nc2Nhbm5lckBjb250b3NvLmNvbQ==\r\nY29ycmVjdCBob3JzZQ==\r\n"),
        ("AUTH X-ODD LOGIN", "AUTH LOGIN\r\nc2Nhbm5lckBjb250b3NvLmNvbQ==\r\nY29ycmVjdCBob3JzZQ==\r\n"),
    ] {
        let host = SmartHost::builder().with(announced).start().await;
        open(&host).await.unwrap();
        assert!(host.recorded().text(1).ends_with(said), "{announced}: {}", host.recorded().text(1));
    }
}

#[tokio::test]
async fn a_server_that_overlooks_the_initial_response_gets_it_again() {
    let host = SmartHost::builder().with("AUTH PLAIN").start().await;
    host.once(At::Auth, Act::say("334 "));
    open(&host).await.unwrap();
    let text = host.recorded().text(1);
    assert_eq!(text.matches("AHNjYW5uZXJAY29udG9zby5jb20AY29ycmVjdCBob3JzZQ==").count(), 2, "{text}");
    assert_eq!((host.recorded().login_attempts, host.recorded().logins), (1, 1));
}

#[tokio::test]
async fn a_server_that_asks_on_and_on_is_left() {
    let host = SmartHost::builder().with("AUTH PLAIN").start().await;
    host.always(At::Auth, Act::say("334 VXNlcm5hbWU6"));
    let failure = open(&host).await.unwrap_err();
    assert_eq!(failure.stage, Stage::Auth);
    assert!(matches!(failure.cause, Cause::Unparsable(_)), "{failure}");
    assert!(host.recorded().text(1).ends_with("\r\n*\r\n"), "the exchange is cancelled");
}

#[tokio::test]
async fn no_mechanism_we_speak_is_told_and_nothing_is_sent() {
    for host in [
        SmartHost::builder().with("AUTH XOAUTH2 GSSAPI").start().await,
        SmartHost::builder().without("AUTH").start().await,
    ] {
        assert_eq!(open(&host).await.unwrap_err(), Failure::new(Stage::Auth, Cause::NoAuth));
        assert_no_password(&host);
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_neither_login_nor_mail() {
    let host = SmartHost::builder().without("STARTTLS").with("AUTH PLAIN LOGIN").start().await;
    assert_eq!(open(&host).await.unwrap_err(), Failure::new(Stage::Tls, Cause::NoStartTls));
    assert_eq!(host.recorded().text(1), "EHLO relay.contoso.local\r\n");
}

#[tokio::test]
async fn a_login_in_the_clear_is_refused_before_a_packet_is_sent() {
    let host = SmartHost::builder().protection(Protection::None).with("AUTH PLAIN").start().await;
    let settings = smtp::SmartHost { tls: Tls::Off, ..settings(&host) };
    assert_eq!(open_with(&host, &settings).await.unwrap_err().stage, Stage::Tls);
    assert_eq!(host.recorded().connections, 0);
}

#[tokio::test]
async fn what_is_injected_behind_starttls_is_not_believed() {
    let host = SmartHost::start().await;
    host.once(At::StartTls, Act::say("220 go ahead\r\n250-evil\r\n250 AUTH PLAIN"));
    let failure = open(&host).await.unwrap_err();
    assert_eq!(failure.stage, Stage::Tls);
    assert!(matches!(failure.cause, Cause::Unparsable(_)), "{failure}");
    assert_no_password(&host);
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused_in_words_an_admin_understands() {
    for (certificate, why) in [
        (TestCertificate::expired(), "it expired on 2021-01-01T00:00:00Z"),
        (
            TestCertificate::for_names(&["mail.other.example", "other.example"]),
            "it is for mail.other.example, other.example, not for localhost",
        ),
        (
            TestCertificate::of_a_stranger(),
            "its issuer is not among the authorities this system trusts, nor in ca_file: CN=a stranger",
        ),
    ] {
        let host = SmartHost::builder().certificate(certificate).start().await;
        let failure = open(&host).await.unwrap_err();
        assert_eq!(failure, Failure::new(Stage::Tls, Cause::Certificate(why.to_owned())));
        assert_no_password(&host);
    }
}

/// A fatal alert (RFC 8446 section 6) of this description.
fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

#[tokio::test]
async fn a_handshake_that_is_broken_off_is_an_outage_and_a_certificate_that_is_not_believed_is_not() {
    let network = |why: &str| Cause::Network(why.to_owned());
    let handshake = |said: &str, lasts| Cause::Handshake { said: said.to_owned(), lasts };
    let alerted =
        |name: &str, lasts| handshake(&format!("the server broke the handshake off: {name}"), lasts);
    let rows: Vec<(Vec<u8>, Ending, Cause, Action)> = vec![
        (alert(80), Ending::Close, alerted("InternalError", false), Action::Retry),
        (alert(80), Ending::Cut, alerted("InternalError", false), Action::Retry),
        (alert(80), Ending::Reset, alerted("InternalError", false), Action::Retry),
        (alert(40), Ending::Close, alerted("HandshakeFailure", false), Action::Retry),
        (alert(50), Ending::Close, alerted("DecodeError", false), Action::Retry),
        (alert(49), Ending::Close, alerted("AccessDenied", false), Action::Retry),
        (alert(112), Ending::Close, alerted("UnrecognisedName", false), Action::Retry),
        (alert(70), Ending::Close, alerted("ProtocolVersion", true), Action::Hold),
        (alert(71), Ending::Close, alerted("InsufficientSecurity", true), Action::Hold),
        (vec![], Ending::Close, network("the server closed the connection"), Action::Retry),
        (vec![], Ending::Cut, network("the server closed the connection"), Action::Retry),
        (vec![], Ending::Reset, network("connection reset"), Action::Retry),
        (vec![], Ending::Stall, Cause::Timeout, Action::Retry),
        (vec![22, 3, 3], Ending::Close, network("the server closed the connection"), Action::Retry),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec(),
            Ending::Close,
            handshake("the server does not speak TLS here", false),
            Action::Retry,
        ),
    ];
    for (protection, tls) in [(Protection::StartTls, Tls::StartTls), (Protection::Implicit, Tls::Implicit)] {
        for (bytes, ending, cause, action) in &rows {
            let host = SmartHost::builder().protection(protection).start().await;
            host.once(At::Handshake, Act::SayThen(bytes.clone(), *ending));
            let wait = Duration::from_secs(if *ending == Ending::Stall { 1 } else { 20 });
            let settings = smtp::SmartHost { connect_timeout: wait, tls, ..settings(&host) };
            let failure = open_with(&host, &settings).await.unwrap_err();
            assert_eq!(failure, Failure::new(Stage::Tls, cause.clone()), "{bytes:?} {ending:?}");
            let verdict = judge(&failure);
            assert_eq!((verdict.blame, verdict.action), (Blame::Account, *action), "{failure}");
            assert_no_password(&host);
            // What passes has passed.
            open_with(&host, &settings).await.unwrap();
        }
    }
    let host = SmartHost::builder().certificate(TestCertificate::expired()).start().await;
    assert_eq!(judge(&open(&host).await.unwrap_err()).action, Action::Hold);
}

#[tokio::test]
async fn without_the_ca_file_the_authority_is_a_stranger() {
    let host = SmartHost::start().await;
    let trust = Trust::new(None).unwrap();
    let failure =
        Connection::open(&settings(&host), &trust, host.address(), &Witness::nobody()).await.unwrap_err();
    assert_eq!(failure.stage, Stage::Tls);
    assert!(matches!(failure.cause, Cause::Certificate(_)), "{failure}");
}

#[tokio::test]
async fn nobody_there_or_nobody_answering_is_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = listener.local_addr().unwrap();
    drop(listener);
    let host = SmartHost::start().await;
    let trust = Trust::new(None).unwrap();
    let failure = Connection::open(&settings(&host), &trust, nowhere, &Witness::nobody()).await.unwrap_err();
    assert_eq!(failure.stage, Stage::Connect);
    assert!(failure.to_string().contains("refused"), "{failure}");

    let short = Duration::from_millis(50);
    for (at, stage, settings) in [
        (At::Banner, Stage::Connect, smtp::SmartHost { connect_timeout: short, ..settings(&host) }),
        (At::Ehlo, Stage::Ehlo, smtp::SmartHost { command_timeout: short, ..settings(&host) }),
        (At::Auth, Stage::Auth, smtp::SmartHost { command_timeout: short, ..settings(&host) }),
    ] {
        host.once(at, Act::Stall);
        assert_eq!(open_with(&host, &settings).await.unwrap_err(), Failure::new(stage, Cause::Timeout));
    }
}

#[tokio::test]
async fn a_reply_dripped_byte_by_byte_does_not_hold_us_for_ever() {
    let host = SmartHost::builder().protection(Protection::None).start().await;
    host.once(At::Banner, Act::Drip(vec![b'2'; 1000], Duration::from_millis(10)));
    host.once(At::Banner, Act::Drip(b"220-x\r\n".repeat(100), Duration::from_millis(10)));
    let hasty = smtp::SmartHost { connect_timeout: Duration::from_millis(100), ..in_clear(&host) };
    for _ in 0..2 {
        let begun = Instant::now();
        let failure = open_with(&host, &hasty).await.unwrap_err();
        assert_eq!(failure, Failure::new(Stage::Connect, Cause::Timeout));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_is_no_smtp_is_told_as_such() {
    let host = SmartHost::start().await;
    host.once(At::Banner, Act::say("HTTP/1.1 400 Bad Request"));
    let failure = open(&host).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Unparsable(_)), "{failure}");
}

#[tokio::test]
async fn a_refused_recipient_does_not_stop_the_others() {
    for pipelining in [true, false] {
        let (host, mut connection) =
            clear_host(|b| if pipelining { b } else { b.without("PIPELINING") }).await;
        host.once(At::RcptTo("b@x.example".into()), Act::say("550 5.1.1 no such user"));
        let sent = send(&mut connection, &["a@x.example", "b@x.example", "c@x.example"]).await;
        assert_eq!(outcomes(&sent), ["taken", "RCPT TO: 550 5.1.1 no such user", "taken"]);
        assert!(sent.failure.is_none() && sent.usable);
        assert_eq!(host.recorded().messages[0].recipients, ["a@x.example", "c@x.example"]);
    }
}

#[tokio::test]
async fn too_many_recipients_leaves_the_rest_for_the_next_transaction() {
    let (host, mut connection) = clear_host(|b| b).await;
    for name in ["b", "c"] {
        host.once(At::RcptTo(format!("{name}@x.example")), Act::say("452 4.5.3 Too many recipients"));
    }
    let sent = send(&mut connection, &["a@x.example", "b@x.example", "c@x.example"]).await;
    assert_eq!(outcomes(&sent), ["taken", "untried", "untried"]);
    assert_eq!(outcomes(&send(&mut connection, &["b@x.example", "c@x.example"]).await), ["taken", "taken"]);

    host.once(At::RcptTo("d@x.example".into()), Act::say("452 4.5.3 Too many recipients"));
    let sent = send(&mut connection, &["d@x.example"]).await;
    assert_eq!(
        outcomes(&sent),
        ["RCPT TO: 452 4.5.3 Too many recipients"],
        "with nobody before it, it would loop"
    );
}

#[tokio::test]
async fn when_nobody_is_accepted_the_connection_goes_on() {
    for (data, pipelining) in [(None, true), (Some("354 go on"), true), (None, false)] {
        let (host, mut connection) =
            clear_host(|b| if pipelining { b } else { b.without("PIPELINING") }).await;
        host.once(At::Rcpt, Act::say("550 5.1.1 no such user"));
        if let Some(said) = data {
            host.once(At::Data, Act::say(said));
            host.once(At::FinalDot, Act::say("554 5.5.1 no valid recipients"));
        }
        let sent = send(&mut connection, &["a@x.example"]).await;
        assert_eq!(outcomes(&sent), ["RCPT TO: 550 5.1.1 no such user"]);
        assert!(sent.failure.is_none() && sent.usable);
        let text = host.recorded().text(1);
        assert_eq!(
            text.ends_with("DATA\r\n.\r\n"),
            data.is_some(),
            "an empty message for a 354 only: {text}"
        );
        assert_eq!(text.ends_with("RSET\r\n"), data.is_none(), "{text}");
        assert!(!text.contains("Subject"), "{text}");
        assert_eq!(outcomes(&send(&mut connection, &["a@x.example"]).await), ["taken"]);
    }
}

#[tokio::test]
async fn a_refused_sender_is_told_at_mail_and_nothing_is_left_over() {
    let (host, mut connection) = clear_host(|b| b).await;
    host.once(At::Mail, Act::say("550 5.7.60 Client does not have permissions to send as this sender"));
    let sent = send(&mut connection, &["a@x.example", "b@x.example"]).await;
    assert!(failed(&sent).starts_with("MAIL FROM: 550 5.7.60"), "{sent:?}");
    assert_eq!(outcomes(&sent), ["untried", "untried"]);
    assert!(sent.usable && !host.recorded().text(1).contains("RSET"));
    assert_eq!(outcomes(&send(&mut connection, &["a@x.example"]).await), ["taken"]);
}

#[tokio::test]
async fn a_message_beyond_the_announced_size_is_not_begun() {
    let (host, mut connection) = clear_host(|b| b.with("SIZE 1000")).await;
    let sent = post(&mut connection, &message(&["a@x.example"]), &body(vec![b'x'; 2000]), &sender()).await;
    let failure = sent.failure.unwrap();
    assert_eq!(failure.stage, Stage::Mail);
    assert!(matches!(failure.cause, Cause::TooLarge { limit_bytes: 1000, size_bytes: 2000.. }), "{failure}");
    assert!(sent.usable && !host.recorded().text(1).contains("MAIL"));
}

#[tokio::test]
async fn parameters_are_given_only_where_announced_and_needed() {
    let eight = body("Gr\u{fc}\u{df}e\r\n");
    for (without, content, mail) in [
        ("CHUNKING", &body("x\r\n"), "<scanner@contoso.com> SIZE=n"),
        ("CHUNKING", &eight, "<scanner@contoso.com> SIZE=n BODY=8BITMIME"),
        ("8BITMIME", &eight, "<scanner@contoso.com> SIZE=n"),
        ("SIZE", &eight, "<scanner@contoso.com> BODY=8BITMIME"),
    ] {
        let (host, mut connection) = clear_host(|b| b.without(without)).await;
        post(&mut connection, &message(&["a@x.example"]), content, &sender()).await;
        assert_eq!(mail_argument(&host), mail, "without {without}");
    }
}

#[tokio::test]
async fn addresses_that_need_smtputf8_are_refused_only_where_it_is_not_offered() {
    let own = Sender { mailbox: "scanner@contoso.com".parse().unwrap(), send_as: vec!["*".parse().unwrap()] };
    let mut message = message(&["a@x.example", "j\u{fc}rgen@x.example"]);
    message.reverse_path = ReversePath::Mailbox("k\u{f6}pierer@contoso.com".parse().unwrap());

    let (host, mut connection) = clear_host(|b| b).await;
    let sent = post(&mut connection, &message, &body("x\r\n"), &own).await;
    assert_eq!(outcomes(&sent), ["taken", "taken"]);
    // An international sender is never used: Exchange Online has no such mailboxes, and From could not follow.
    assert_eq!(mail_argument(&host), "<scanner@contoso.com> SIZE=n SMTPUTF8");

    let (host, mut connection) = clear_host(|b| b.without("SMTPUTF8")).await;
    let sent = post(&mut connection, &message, &body("x\r\n"), &own).await;
    assert_eq!(sent.outcomes[1], Outcome::Refused(Failure::new(Stage::Rcpt, Cause::NoSmtpUtf8)));
    assert_eq!(outcomes(&sent)[0], "taken");
    assert_eq!(mail_argument(&host), "<scanner@contoso.com> SIZE=n");
}

#[tokio::test]
async fn without_smtputf8_nothing_beyond_ascii_leaves_and_whoever_can_be_reached_is() {
    let own = Sender { mailbox: "scanner@b\u{fc}ro.example".parse().unwrap(), send_as: vec![] };
    let to = ["a@x.example", "b@m\u{fc}nchen.example", "j\u{fc}rgen@x.example", "c@\u{4f8b}\u{3048}.example"];
    let head = "From: scanner@b\u{fc}ro.example\r\nTo: B <b@m\u{fc}nchen.example>, J\u{fc}rgen <j\u{fc}rgen@x.example>\r\n\
                Reply-To: k\u{f6}nig@m\u{fc}nchen.example\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\n";
    let body = || InMemory::new(head.as_bytes().to_vec(), "Gr\u{fc}\u{df}e\r\n");
    for (without, offers_utf8) in [("SMTPUTF8", false), ("8BITMIME", true), ("CHUNKING", true)] {
        let (host, mut connection) = clear_host(|b| b.without(without)).await;
        let sent = post(&mut connection, &message(&to), &body(), &own).await;
        let no = "RCPT TO: an address needs SMTPUTF8, which the server does not offer";
        let jurgen = if offers_utf8 { "taken" } else { no };
        assert_eq!(outcomes(&sent), ["taken", "taken", jurgen, "taken"], "{without}");
        let recorded = host.recorded();
        let taken = &recorded.messages[0];
        assert!(taken.mail.starts_with("<scanner@xn--bro-hoa.example>"), "{}", taken.mail);
        assert_eq!(taken.mail.contains("SMTPUTF8"), offers_utf8, "{}", taken.mail);
        assert_eq!(taken.recipients[1], "b@xn--mnchen-3ya.example");
        assert_eq!(taken.recipients.last().unwrap(), "c@xn--r8jz45g.example");
        let text = String::from_utf8(taken.data.clone()).unwrap();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(head.contains("From: scanner@xn--bro-hoa.example\r\n"), "{head}");
        assert!(head.contains("To: B <b@xn--mnchen-3ya.example>"), "{head}");
        if offers_utf8 {
            assert!(head.contains("<j\u{fc}rgen@x.example>"), "{head}");
        } else {
            assert!(head.is_ascii(), "{head}");
            assert!(head.contains("j=C3=BCrgen=40x=2Eexample?=:;"), "it can be read: {head}");
        }
    }
    // Nobody can be reached: no transaction, and the connection goes on.
    let (host, mut connection) = clear_host(|b| b.without("SMTPUTF8")).await;
    let sent = post(&mut connection, &message(&to[2..3]), &body(), &own).await;
    assert!(sent.failure.is_none() && sent.usable && !host.recorded().text(1).contains("MAIL"), "{sent:?}");
    // The mailbox itself cannot be said: the account's fault, not the message's.
    let own = Sender { mailbox: "k\u{f6}nig@contoso.com".parse().unwrap(), send_as: vec![] };
    let sent = post(&mut connection, &message(&["a@x.example"]), &body(), &own).await;
    let verdict = judge(&sent.failure.unwrap());
    assert_eq!((verdict.blame, verdict.action), (Blame::Account, Action::Hold));
    assert!(sent.usable);
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    for tls in [true, false] {
        let content: Vec<u8> =
            (0..40_000).flat_map(|i| format!("{i:.<60}\r\n.{i}\r\n").into_bytes()).collect();
        let (host, mut connection) = if tls {
            let host = SmartHost::start().await;
            let connection = open(&host).await.unwrap();
            (host, connection)
        } else {
            clear_host(|b| b).await
        };
        let sent = post(&mut connection, &message(&["a@x.example"]), &body(content.clone()), &sender()).await;
        assert_eq!(outcomes(&sent), ["taken"]);
        assert!(host.recorded().messages[0].data.ends_with(&content));
    }
}

#[tokio::test]
async fn an_answer_during_the_body_is_heard_and_the_rest_is_not_sent() {
    for tls in [true, false] {
        let (host, mut connection) = if tls {
            let host = SmartHost::start().await;
            let connection = open(&host).await.unwrap();
            (host, connection)
        } else {
            clear_host(|b| b).await
        };
        host.once(At::Body(10_000), Act::say("552 5.3.4 Message too big"));
        let content = b"0123456789012345678901234567890123456789\r\n".repeat(1_500_000);
        let sent = post(&mut connection, &message(&["a@x.example"]), &body(content.clone()), &sender()).await;
        assert_eq!(failed(&sent), "DATA: 552 5.3.4 Message too big");
        assert!(!sent.usable);
        connection.quit().await;
        let received = host.recorded().bytes[0].len();
        assert!(received < content.len() / 2, "{received} bytes were sent all the same");
        assert!(host.recorded().messages.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_says_why_and_closes_during_the_body_is_quoted() {
    let (host, mut connection) = clear_host(|b| b).await;
    host.once(At::Body(10), Act::SayAndClose("421 4.3.2 Service shutting down".to_owned()));
    let content = b"0123456789\r\n".repeat(10);
    let sent = post(&mut connection, &message(&["a@x.example"]), &body(content), &sender()).await;
    let failure = sent.failure.unwrap();
    assert_eq!(failure.reply().map(ToString::to_string).as_deref(), Some("421 4.3.2 Service shutting down"));
    assert!(!sent.usable);
}

#[tokio::test]
async fn a_connection_lost_in_the_middle_leaves_no_doubt_and_one_lost_at_the_end_does() {
    for (at, stage, unknown) in [
        (At::Mail, Stage::Mail, false),
        (At::Data, Stage::Data, false),
        (At::FinalDot, Stage::FinalDot, true),
    ] {
        let (host, mut connection) = clear_host(|b| b.without("PIPELINING")).await;
        host.once(at, Act::Close);
        let sent = send(&mut connection, &["a@x.example"]).await;
        let failure = sent.failure.unwrap();
        assert_eq!((failure.stage, failure.outcome_is_unknown()), (stage, unknown), "{failure}");
        assert!(!sent.usable);
        assert_eq!(sent.outcomes, [Outcome::Untried]);
    }
    for act in [Act::Stall, Act::say("what?")] {
        let host = SmartHost::builder().protection(Protection::None).start().await;
        let hasty = smtp::SmartHost { data_timeout: Duration::from_millis(100), ..in_clear(&host) };
        let mut connection = open_with(&host, &hasty).await.unwrap();
        host.once(At::FinalDot, act);
        let sent = send(&mut connection, &["a@x.example"]).await;
        assert!(sent.failure.unwrap().outcome_is_unknown());
        assert!(!sent.usable);
    }
}

#[tokio::test]
async fn a_421_ends_the_connection_at_any_stage() {
    for at in [At::Mail, At::Rcpt, At::Data, At::FinalDot] {
        let (host, mut connection) = clear_host(|b| b).await;
        host.once(at, Act::SayAndClose("421 4.4.2 Connection dropped".to_owned()));
        let sent = send(&mut connection, &["a@x.example"]).await;
        assert!(failed(&sent).ends_with("421 4.4.2 Connection dropped"), "{sent:?}");
        assert!(!sent.usable);
        let again = send(&mut connection, &["a@x.example"]).await;
        assert!(again.failure.is_some() && !again.usable, "it is not used again");
    }
}

/// How the connection goes on behind a reply.
const ENDINGS: [(&str, Ending); 5] = [
    ("", Ending::Close),
    ("", Ending::Cut),
    ("", Ending::Reset),
    ("", Ending::Stall),
    ("what?\r\n", Ending::Close),
];

/// Waits no longer than a second for a server that falls silent.
fn hasty(settings: smtp::SmartHost, ending: Ending) -> smtp::SmartHost {
    let wait = Duration::from_secs(if ending == Ending::Stall { 1 } else { 20 });
    smtp::SmartHost { command_timeout: wait, data_timeout: wait, ..settings }
}

/// All of them, some at a time.
async fn run(cases: Vec<impl Future<Output = ()>>) {
    futures_util::stream::iter(cases).buffer_unordered(40).collect::<Vec<()>>().await;
}

/// A reply whole, without its line end, and begun on a first line; and each with every ending.
fn said_and_ended(reply: &str) -> Vec<(Vec<u8>, Ending)> {
    let (whole, begun) = (format!("{reply}\r\n"), format!("{}-{}\r\n", &reply[..3], &reply[4..]));
    let mut all = vec![];
    for (more, ending) in ENDINGS {
        all.extend(
            [(whole.clone() + more, ending), (begun.clone() + more, ending)]
                .map(|(t, e)| (t.into_bytes(), e)),
        );
        all.push((reply.as_bytes().to_vec(), ending));
    }
    all
}

#[tokio::test]
async fn a_reply_in_hand_wins_over_the_end_of_the_connection_while_it_is_opened() {
    let places = [
        (At::Banner, Stage::Connect),
        (At::Ehlo, Stage::Ehlo),
        (At::StartTls, Stage::Tls),
        (At::EhloInTls, Stage::Ehlo),
        (At::Auth, Stage::Auth),
    ];
    let mut cases = vec![];
    for (at, stage) in places {
        for reply in ["421 4.3.2 busy", "432 4.3.2 too many", "451 4.7.0 PRX4", "550 5.7.606 banned"] {
            for (bytes, ending) in said_and_ended(reply) {
                let at = at.clone();
                cases.push(async move {
                    let case = format!("{at:?} {} {ending:?}", String::from_utf8_lossy(&bytes));
                    let host = SmartHost::start().await;
                    host.once(at, Act::SayThen(bytes, ending));
                    let mut settings = hasty(settings(&host), ending);
                    if stage == Stage::Connect {
                        settings.connect_timeout = settings.command_timeout;
                    }
                    let failure = open_with(&host, &settings).await.unwrap_err();
                    let heard = failure.reply().map(ToString::to_string);
                    assert_eq!((failure.stage, heard.as_deref()), (stage, Some(reply)), "{case}: {failure}");
                });
            }
        }
    }
    run(cases).await;
}

/// Where, what is said there, what is known of `a` and `b` then, and of the transaction.
type Known = (fn() -> At, &'static str, [&'static str; 2], &'static str);
const IN_HAND: [Known; 12] = {
    const NOT_YET: [&str; 2] = ["untried", "untried"];
    const B: fn() -> At = || At::RcptTo(String::from("b@x.example"));
    [
        (|| At::Mail, "550 5.7.60 no permission", NOT_YET, "MAIL FROM: 550 5.7.60 no permission"),
        (|| At::Mail, "432 4.3.2 too many", NOT_YET, "MAIL FROM: 432 4.3.2 too many"),
        (|| At::Mail, "421 4.3.2 busy", NOT_YET, "MAIL FROM: 421 4.3.2 busy"),
        (B, "550 5.1.1 nobody", ["untried", "RCPT TO: 550 5.1.1 nobody"], "lost"),
        (B, "450 4.2.1 busy", ["untried", "RCPT TO: 450 4.2.1 busy"], "lost"),
        (B, "432 4.3.2 too many", ["untried", "RCPT TO: 432 4.3.2 too many"], "lost"),
        (B, "421 4.3.2 busy", NOT_YET, "RCPT TO: 421 4.3.2 busy"),
        (|| At::Data, "554 5.6.0 not this", NOT_YET, "DATA: 554 5.6.0 not this"),
        (|| At::Data, "451 4.7.0 PRX4", NOT_YET, "DATA: 451 4.7.0 PRX4"),
        (|| At::FinalDot, "554 5.6.0 not this", NOT_YET, "end of data: 554 5.6.0 not this"),
        (|| At::FinalDot, "432 4.3.2 too many", NOT_YET, "end of data: 432 4.3.2 too many"),
        (|| At::FinalDot, "250 2.0.0 OK", ["taken", "taken"], ""),
    ]
};

#[tokio::test]
async fn a_reply_in_hand_wins_over_the_end_of_the_connection_in_a_transaction() {
    let mut cases = vec![];
    for (at, reply, known, of_all) in IN_HAND {
        for (bytes, ending) in said_and_ended(reply) {
            for (pipelining, in_tls) in [(true, true), (true, false), (false, false)] {
                let bytes = bytes.clone();
                cases.push(async move {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let case = format!("{:?} {text:?} {ending:?} {pipelining} {in_tls}", at());
                    let protection = if in_tls { Protection::StartTls } else { Protection::None };
                    let host = SmartHost::builder().protection(protection);
                    let host = if pipelining { host } else { host.without("PIPELINING") }.start().await;
                    let settings = if in_tls { settings(&host) } else { in_clear(&host) };
                    let mut connection = open_with(&host, &hasty(settings, ending)).await.unwrap();
                    host.once(at(), Act::SayThen(bytes, ending));
                    let sent = send(&mut connection, &["a@x.example", "b@x.example"]).await;
                    if reply.starts_with('2') && !text.starts_with(&format!("{reply}\r\n")) {
                        assert!(sent.failure.as_ref().unwrap().outcome_is_unknown(), "{case}: {sent:?}");
                        return;
                    }
                    assert_eq!(outcomes(&sent), known, "{case}: {sent:?}");
                    match of_all {
                        "" => assert!(sent.failure.is_none(), "{case}: {sent:?}"),
                        "lost" => assert!(sent.failure.is_some() && !sent.usable, "{case}: {sent:?}"),
                        said => assert_eq!(failed(&sent), said, "{case}"),
                    }
                    let again = send(&mut connection, &["c@x.example"]).await;
                    assert!(again.failure.is_some() && !again.usable, "{case}: it is used again");
                });
            }
        }
    }
    run(cases).await;
}

#[tokio::test]
async fn a_reply_in_hand_wins_over_the_end_of_the_connection_within_a_body() {
    let reply = "432 4.3.2 too many";
    for (bytes, ending) in said_and_ended(reply).into_iter().filter(|(_, e)| *e != Ending::Stall) {
        for in_tls in [true, false] {
            let case = format!("{} {ending:?} {in_tls}", String::from_utf8_lossy(&bytes));
            let protection = if in_tls { Protection::StartTls } else { Protection::None };
            let host = SmartHost::builder().protection(protection).start().await;
            let settings = if in_tls { settings(&host) } else { in_clear(&host) };
            let mut connection = open_with(&host, &settings).await.unwrap();
            host.once(At::Body(10_000), Act::SayThen(bytes.clone(), ending));
            let content = b"0123456789012345678901234567890123456789\r\n".repeat(60_000);
            let sent = post(&mut connection, &message(&["a@x.example"]), &body(content), &sender()).await;
            // Where it was heard is a matter of how much the system's buffers took.
            assert!(failed(&sent).ends_with(reply), "{case}: {sent:?}");
            let again = send(&mut connection, &["c@x.example"]).await;
            assert!(again.failure.is_some() && !again.usable, "{case}: it is used again");
        }
    }
}

#[tokio::test]
async fn when_every_recipient_has_its_answer_the_end_of_the_connection_is_no_failure() {
    for (ending, pipelining) in ENDINGS.iter().flat_map(|(_, e)| [(*e, true), (*e, false)]) {
        let host = SmartHost::builder().protection(Protection::None);
        let host = if pipelining { host } else { host.without("PIPELINING") }.start().await;
        let mut connection = open_with(&host, &hasty(in_clear(&host), ending)).await.unwrap();
        let bytes = b"550 5.1.1 no such user\r\n".to_vec();
        host.once(At::RcptTo("b@x.example".into()), Act::SayThen(bytes, ending));
        host.once(At::RcptTo("a@x.example".into()), Act::say("450 4.2.1 busy"));
        let sent = send(&mut connection, &["a@x.example", "b@x.example"]).await;
        let known = ["RCPT TO: 450 4.2.1 busy", "RCPT TO: 550 5.1.1 no such user"];
        assert_eq!(outcomes(&sent), known, "{ending:?} {sent:?}");
        assert!(sent.failure.is_none() && !sent.usable, "{ending:?} {sent:?}");
    }
}

#[tokio::test]
async fn what_a_server_says_unasked_is_held_against_no_message() {
    for (said, kept) in [
        ("421 4.4.2 idle for too long", true),
        ("432 4.3.2 too many", true),
        ("550 5.7.1 you are blocked", false),
        ("250 2.0.0 and another", false),
    ] {
        let (host, mut connection) = clear_host(|b| b).await;
        host.once(At::FinalDot, Act::SayAndClose(format!("250 2.0.0 ok\r\n{said}")));
        assert_eq!(outcomes(&send(&mut connection, &["a@x.example"]).await), ["taken"]);
        let failure = send(&mut connection, &["b@x.example"]).await.failure.unwrap();
        assert_eq!(failure.reply().map(ToString::to_string).as_deref(), kept.then_some(said));
        assert!(failure.to_string().contains(said), "{failure}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_server_ends_is_noticed() {
    for (act, gone) in [
        (
            Act::SayAndClose("250 2.0.0 ok\r\n421 4.4.2 idle for too long".to_owned()),
            "421 4.4.2 idle for too long",
        ),
        (Act::SayAndClose("250 2.0.0 ok".to_owned()), "closed"),
    ] {
        let (host, mut connection) = clear_host(|b| b).await;
        host.once(At::FinalDot, act);
        assert_eq!(outcomes(&send(&mut connection, &["a@x.example"]).await), ["taken"]);
        let cause = connection.closed_by_peer().await;
        let said = Failure::new(Stage::Mail, cause).to_string();
        assert!(said.contains(gone), "{said}");
    }
}

#[tokio::test]
async fn watching_an_idle_connection_and_letting_go_loses_nothing() {
    let host = SmartHost::start().await;
    let mut connection = open(&host).await.unwrap();
    for _ in 0..3 {
        let watched = tokio::time::timeout(Duration::from_millis(20), connection.closed_by_peer()).await;
        assert!(watched.is_err(), "{watched:?}");
        assert_eq!(outcomes(&send(&mut connection, &["a@contoso.com"]).await), ["taken"]);
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_not_taken_for_the_next_one() {
    let (host, mut connection) = clear_host(|b| b).await;
    host.once(At::FinalDot, Act::say("250 2.0.0 ok\r\n250 2.0.0 and another"));
    assert_eq!(outcomes(&send(&mut connection, &["a@x.example"]).await), ["taken"]);
    let sent = send(&mut connection, &["b@x.example"]).await;
    assert!(sent.failure.is_some() && !sent.usable);
    assert_eq!(host.recorded().messages.len(), 1);
}

#[tokio::test]
async fn a_transaction_given_up_in_the_middle_is_followed_by_nothing() {
    let (host, mut connection) = clear_host(|b| b).await;
    host.once(At::FinalDot, Act::Wait(Duration::from_secs(1)));
    let given_up =
        tokio::time::timeout(Duration::from_millis(50), send(&mut connection, &["a@x.example"])).await;
    assert!(given_up.is_err());
    let sent = send(&mut connection, &["b@x.example"]).await;
    assert!(sent.failure.is_some() && !sent.usable);
    assert!(!host.recorded().text(1).contains("b@x.example"));
}

#[tokio::test]
async fn quit_waits_until_the_server_has_closed() {
    let host = SmartHost::start().await;
    for _ in 0..2 {
        let connection = open(&host).await.unwrap();
        host.once(At::Quit, Act::SayAndLinger("221 2.0.0 bye".to_owned(), Duration::from_millis(150)));
        let begun = Instant::now();
        connection.quit().await;
        assert!(begun.elapsed() >= Duration::from_millis(150));
        assert!(begun.elapsed() < Duration::from_secs(4));
        assert_eq!(host.recorded().open, 0);
    }
    assert_eq!(host.recorded().max_open, 1, "so no 432 is of our own making");
}

#[tokio::test]
async fn the_smart_hosts_name_is_resolved_once_each() {
    let host = SmartHost::start().await;
    let addresses = smtp::resolve(&settings(&host)).await.unwrap();
    assert!(addresses.contains(&host.address()), "{addresses:?}");
    let literal = smtp::SmartHost { host: "[::1]".to_owned(), port: 25, ..settings(&host) };
    assert_eq!(smtp::resolve(&literal).await.unwrap(), ["[::1]:25".parse().unwrap()]);
    let unknown = smtp::SmartHost { host: "no such name".to_owned(), ..settings(&host) };
    let failure = smtp::resolve(&unknown).await.unwrap_err();
    assert_eq!(failure.stage, Stage::Connect);
    assert!(failure.to_string().contains("cannot resolve no such name"), "{failure}");
}

#[test]
fn the_password_is_in_no_debug_output() {
    let login =
        Login::Password { user: "scanner@contoso.com".to_owned(), password: PASSWORD.to_owned().into() };
    assert!(!format!("{login:?}").contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_file_stands_in_place_of_the_authorities_of_the_system() {
    let Some(port) = own_process::told() else {
        // A process whose system trusts the smart host's authority.
        let host = SmartHost::start().await;
        let test = "submit::a_ca_file_stands_in_place_of_the_authorities_of_the_system";
        let mut child = own_process::command(test, &host.address().port().to_string());
        child.env("SSL_CERT_FILE", SmartHost::ca_file()).env_remove("SSL_CERT_DIR");
        return own_process::passes(child).await;
    };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    let settings = smtp::SmartHost {
        host: smart_host::NAME.to_owned(),
        port: address.port(),
        tls: Tls::StartTls,
        login: None,
        ehlo_name: "relay.contoso.local".to_owned(),
        connect_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(5),
        data_timeout: Duration::from_secs(5),
    };
    Connection::open(&settings, &Trust::new(None).unwrap(), address, &Witness::nobody()).await.unwrap();
    let another = tempfile::NamedTempFile::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["another.example".to_owned()]).unwrap();
    std::fs::write(another.path(), made.cert.pem()).unwrap();
    let trust = Trust::new(Some(another.path())).unwrap();
    let refused = Connection::open(&settings, &trust, address, &Witness::nobody()).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::Certificate(_)), "{refused}");
}
