//! The doctor's transcript against a healthy smart host and against each thing that can be wrong, and a test message
//! through a running relay. What differs from run to run (ports, paths, times, ids) is taken out.

use crate::support::smart_host::{Act, At, SmartHost, TestCertificate};
use crate::support::token_endpoint;
use crate::support::token_endpoint::{Step, TokenEndpoint};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mailferry::config::{self, Account, Env, Settings};
use mailferry::daemon::Observers;
use mailferry::daemon::Relay;
use mailferry::doctor::december::{Passwords, rehearse};
use mailferry::doctor::report::Report;
use mailferry::doctor::send_test::{self, Fate, SendTestError};
use mailferry::doctor::{LoginKind, Order, configured_login, examine, examine_without_configuration, page};
use mailferry::fact::Witness;
use mailferry::http::Limits;
use mailferry::mail::{QueueId, RelayTime};
use mailferry::token::{Cloud, Grant, Source};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASSWORD: &str = "correct horse battery";
const PRX4: &str = "451 4.7.0 Temporary server error. Please try again later. PRX4 \
                    [AM0PR02CA0123.eurprd02.prod.outlook.com 2026-11-23T12:00:00.000Z 08DE2A]";

/// A relay's directory with a configuration that a test may change.
struct Practice {
    dir: tempfile::TempDir,
    smart_host: String,
    listen: u16,
    text: String,
}

impl Practice {
    fn new(smart_host: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = free_port();
        let text = format!(
            "hostname = \"relay.contoso.local\"\n\
             [[listen]]\naddress = \"127.0.0.1:{listen}\"\n\
             [receive]\nmax_message_size = \"35 MiB\"\n\
             [[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1\"]\n\
             [[account]]\nmailbox = \"scanner@contoso.com\"\npassword = {{ file = \"scanner.password\" }}\n\
             smarthost = \"{smart_host}\"\nsend_as = [\"invoices@contoso.com\", \"*@fabrikam.com\"]\n\
             ca_file = \"{}\"\nconnect_timeout = \"1 s\"\ncommand_timeout = \"2 s\"\n\
             [queue]\ndirectory = \"queue\"\nmin_free_space = \"1 MiB\"\n\
             [control]\nsocket = \"control.sock\"\n[notify]\nto = [\"it@contoso.com\"]\n",
            SmartHost::ca_file().display()
        );
        let practice = Self { dir, smart_host: smart_host.to_owned(), listen, text };
        let secret = practice.path("scanner.password");
        fs::write(&secret, PASSWORD).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(practice.path("queue")).unwrap();
        fs::set_permissions(practice.path("queue"), fs::Permissions::from_mode(0o700)).unwrap();
        practice
    }

    fn of(host: &SmartHost) -> Self {
        Self::new(&host.address().to_string())
    }

    fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replace(from, to);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        let path = self.path("mailferry.toml");
        fs::write(&path, &self.text).unwrap();
        path
    }

    fn settings(&self) -> Settings {
        config::load(&self.file(), &Env::new()).unwrap()
    }

    async fn transcript(&self) -> Transcript {
        self.transcript_of(&Order::default(), configured_login).await
    }

    async fn transcript_of(&self, order: &Order, login: impl Fn(&Account) -> LoginKind) -> Transcript {
        let told = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&told);
        let mut report = Report::telling(move |text| sink.lock().unwrap().push_str(text));
        match config::load(&self.file(), &Env::new()) {
            Ok(settings) => examine(&settings, order, login, &mut report).await,
            Err(problems) => {
                let rest = config::load_queue_and_sockets(Some(&self.file()), &Env::new()).ok();
                examine_without_configuration(&problems, rest, &mut report).await;
            }
        }
        let raw = told.lock().unwrap().clone() + "\n" + &report.sentence() + "\n";
        for text in [&raw, &report.json().to_string()] {
            assert!(!text.contains(PASSWORD) && !text.contains("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5"), "{text}");
        }
        Transcript { text: self.redacted(&raw), exit_code: report.exit_code() }
    }

    /// Without what differs from run to run.
    fn redacted(&self, text: &str) -> String {
        let host = self.smart_host.replace("127.0.0.1", "HOST");
        let text = text
            .replace(&self.dir.path().display().to_string(), "DIR")
            .replace(&format!("127.0.0.1:{}", self.listen), "LISTENER")
            .replace(&self.smart_host, host.split(':').next().unwrap_or_default());
        text.lines().map(|line| redacted_line(line) + "\n").collect()
    }
}

struct Transcript {
    text: String,
    exit_code: u8,
}

fn redacted_line(line: &str) -> String {
    if let Some((status, _)) = line.split_once(" space: ") {
        return format!("{status} space: ROOM");
    }
    if let Some((before, _)) = line.split_once("cannot resolve no-such-host.invalid: ") {
        return format!("{before}cannot resolve no-such-host.invalid: WHY");
    }
    let words: Vec<&str> = line.split(' ').collect();
    let redacted: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(i, word)| {
            let next = words.get(i + 1).copied().unwrap_or_default().trim_end_matches([',', ';']);
            let last = if i > 0 { words[i - 1] } else { "" };
            if word.parse::<QueueId>().is_ok() {
                "ID".to_owned()
            } else if word.parse::<f64>().is_ok() && ["ms", "days", "min"].contains(&next) {
                "N".to_owned()
            } else if last == "user" && word.trim_end_matches(':').parse::<u32>().is_ok() {
                word.replace(word.trim_end_matches(':'), "UID")
            } else {
                (*word).to_owned()
            }
        })
        .collect();
    redacted.join(" ")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_healthy_smart_host_passes_every_step() {
    let host = SmartHost::start().await;
    let order = Order { send_to: Some("it@contoso.com".parse().unwrap()), ..Order::default() };
    let seen = Practice::of(&host).transcript_of(&order, configured_login).await;
    assert_eq!(seen.exit_code, 0);
    let recorded = host.recorded();
    assert_eq!((recorded.login_attempts, recorded.messages.len()), (1, 1), "one login, one message");
    insta::assert_snapshot!(seen.text);
}

#[tokio::test]
async fn a_running_relay_is_seen_at_its_socket_and_its_listener() {
    let host = SmartHost::start().await;
    let practice = Practice::of(&host);
    let relay = Relay::start(&practice.settings(), vec![], Observers::default()).await.unwrap();
    let seen = practice.transcript().await;
    relay.stop(Duration::from_secs(5)).await;
    assert_eq!(seen.exit_code, 0);
    let here: String = seen.text.lines().take_while(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    insta::assert_snapshot!(here);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_ends_at_dns() {
    let seen = Practice::new("no-such-host.invalid:587").transcript().await;
    assert_eq!(seen.exit_code, 69);
    insta::assert_snapshot!(account_part(&seen));
}

#[tokio::test]
async fn a_refused_connection_ends_at_tcp() {
    let seen = Practice::new(&format!("127.0.0.1:{}", free_port())).transcript().await;
    assert_eq!(seen.exit_code, 69);
    insta::assert_snapshot!(account_part(&seen));
}

/// The account's lines; what is above them is the same in every test.
fn account_part(seen: &Transcript) -> String {
    seen.text.split_once("\n\n").map_or_else(String::new, |(_, account)| account.to_owned())
}

async fn sick(prepare: impl FnOnce(&SmartHost)) -> (SmartHost, String) {
    sick_host(SmartHost::start().await, prepare).await
}

async fn sick_host(host: SmartHost, prepare: impl FnOnce(&SmartHost)) -> (SmartHost, String) {
    prepare(&host);
    let seen = Practice::of(&host).transcript().await;
    assert_eq!(seen.exit_code, 69, "{}", seen.text);
    let text = account_part(&seen);
    (host, text)
}

#[tokio::test]
async fn a_silent_server_is_waited_for_no_longer_than_configured() {
    let (_host, text) = sick(|h| h.always(At::Banner, Act::Stall)).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn prx4_in_place_of_the_banner_prints_the_checklist() {
    let (_host, text) = sick(|h| h.always(At::Banner, Act::SayAndClose(PRX4.to_owned()))).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_password() {
    let host = SmartHost::builder().without("STARTTLS").start().await;
    let (host, text) = sick_host(host, |_| {}).await;
    assert_eq!(host.recorded().login_attempts, 0);
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn an_expired_certificate_says_when_it_expired() {
    let host = SmartHost::builder().certificate(TestCertificate::expired()).start().await;
    let (host, text) = sick_host(host, |_| {}).await;
    assert_eq!(host.recorded().login_attempts, 0);
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_certificate_for_another_name_says_which() {
    let host =
        SmartHost::builder().certificate(TestCertificate::for_names(&["firewall.example"])).start().await;
    let (_host, text) = sick_host(host, |_| {}).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_certificate_of_a_stranger_names_the_stranger() {
    let host = SmartHost::builder().certificate(TestCertificate::of_a_stranger()).start().await;
    let (_host, text) = sick_host(host, |_| {}).await;
    let said = "failed   STARTTLS: certificate not accepted: its issuer is not among the authorities this system trusts, \
                nor in ca_file: CN=a stranger\n";
    assert!(text.contains(said), "{text}");
}

#[tokio::test]
async fn a_server_without_auth_is_not_logged_in_to() {
    let (_host, text) = sick_host(SmartHost::builder().without("AUTH").start().await, |_| {}).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let said = "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect. [X 2026 Y]";
    let (host, text) = sick(|h| h.always(At::Auth, Act::say(said))).await;
    assert_eq!(host.recorded().login_attempts, 1);
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn smtp_auth_disabled_for_the_mailbox_names_the_command() {
    let said = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit \
                https://aka.ms/smtp_auth_disabled for more information. [X 2026 Y]";
    let (_host, text) = sick(|h| h.always(At::Auth, Act::say(said))).await;
    assert!(
        text.contains(
            "Set-CASMailbox -Identity scanner@contoso.com -SmtpClientAuthenticationDisabled $false"
        )
    );
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_sender_that_is_refused_does_not_hide_the_others() {
    let refused = "550 5.7.60 SMTP; Client does not have permissions to send as this sender";
    let (_host, text) = sick(|h| h.once(At::Mail, Act::say(refused))).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_connection_that_breaks_at_the_first_sender_is_used_no_more() {
    let (host, text) =
        sick(|h| h.always(At::Mail, Act::SayAndClose("421 4.4.2 Connection dropped".to_owned()))).await;
    assert!(
        text.contains("failed   MAIL FROM scanner@contoso.com: 421 4.4.2 Connection dropped\n"),
        "{text}"
    );
    assert!(
        text.contains("skipped  MAIL FROM invoices@contoso.com: the connection came no further\n"),
        "{text}"
    );
    assert_eq!(host.recorded().connections, 2, "one for TCP, one for the dialogue");
}

#[tokio::test]
async fn a_smaller_size_is_a_warning() {
    let host = SmartHost::builder().with("SIZE 10485760").start().await;
    let seen = Practice::of(&host).transcript().await;
    assert_eq!(seen.exit_code, 0);
    insta::assert_snapshot!(account_part(&seen));
}

#[tokio::test]
async fn what_a_server_says_cannot_move_the_cursor() {
    let (_host, text) = sick(|h| h.always(At::Auth, Act::say("535 5.7.3 \x1b[2Jroot logged in"))).await;
    assert!(text.contains("535 5.7.3 \\u{1b}[2Jroot logged in") && !text.contains('\x1b'), "{text}");
}

#[tokio::test]
async fn files_that_others_can_read_and_a_queue_that_is_none_are_found() {
    let host = SmartHost::start().await;
    let practice = Practice::of(&host);
    fs::set_permissions(practice.path("scanner.password"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(practice.path("queue"), fs::Permissions::from_mode(0o755)).unwrap();
    let taken = TcpListener::bind(format!("127.0.0.1:{}", practice.listen)).unwrap();
    let open = practice.transcript().await;
    drop(taken);
    assert_eq!(open.exit_code, 69, "another program has the listener's port");

    fs::remove_dir(practice.path("queue")).unwrap();
    fs::write(practice.path("queue"), "").unwrap();
    let none = practice.transcript().await;
    assert_eq!(none.exit_code, 69);
    let here = |t: &Transcript| t.text.split("\n\n").next().unwrap_or_default().to_owned();
    insta::assert_snapshot!(here(&open) + "\n-- and then --\n" + &here(&none));
}

#[tokio::test]
async fn a_queue_that_cannot_be_written_is_found() {
    let host = SmartHost::start().await;
    let nowhere = "directory = \"/proc/self\"";
    let seen = Practice::of(&host).with("directory = \"queue\"", nowhere).transcript().await;
    assert_eq!(seen.exit_code, 69);
    let failed: Vec<&str> = seen.text.lines().filter(|l| l.starts_with("failed ")).collect();
    assert!(
        failed.iter().any(|l| l.starts_with("failed   queue directory: cannot write in /proc/self: ")),
        "{failed:?}"
    );
    assert!(
        seen.text.contains("AUTH: signed in as scanner@contoso.com"),
        "the rest is looked at: {}",
        seen.text
    );
}

#[tokio::test]
async fn a_wrong_configuration_does_not_keep_it_from_the_queue() {
    let host = SmartHost::start().await;
    let practice = Practice::of(&host).with("[receive]\n", "[receive]\nmax_size = 3\n");
    fs::remove_file(practice.path("scanner.password")).unwrap();
    let seen = practice.transcript().await;
    assert_eq!(seen.exit_code, 78);
    insta::assert_snapshot!(seen.text);
}

fn jwt(claims: &serde_json::Value) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", encode("{}".into()), encode(claims.to_string()), encode("signature".into()))
}

async fn with_token(step: Step) -> (SmartHost, Transcript) {
    let host = SmartHost::start().await;
    let endpoint = TokenEndpoint::start([step]).await;
    let settings = token_settings(&endpoint);
    let source = Source::new(settings, Limits::default(), RelayTime::default, Witness::nobody()).unwrap();
    let login = |_: &Account| LoginKind::Token(source.clone());
    let mut seen = Practice::of(&host).transcript_of(&Order::default(), login).await;
    assert!(!seen.text.contains("hunter2") && !seen.text.contains("signature"));
    seen.text = seen.text.replace(&endpoint.authority, "https://AUTHORITY");
    (host, seen)
}

fn token_settings(endpoint: &TokenEndpoint) -> mailferry::token::Settings {
    mailferry::token::Settings {
        mailbox: "scanner@contoso.com".parse().unwrap(),
        cloud: Cloud::Global,
        tenant: "contoso.com".into(),
        client_id: "11111111-2222-3333-4444-555555555555".into(),
        authority: Some(endpoint.authority.clone()),
        token_url: None,
        scope: None,
        grant: Grant::Secret("hunter2".into()),
        secret_expires: None,
        ca_file: Some(endpoint.ca_file.clone()),
        proxy: None,
    }
}

#[tokio::test]
async fn a_token_shows_the_claims_that_matter() {
    let claims = serde_json::json!({
        "aud": "https://outlook.office365.com", "roles": ["SMTP.SendAsApp"], "tid": "contoso-tenant", "oid": "object-1",
        "exp": 4_102_444_800_i64,
    });
    let (_host, seen) = with_token(token_endpoint::token(&jwt(&claims))).await;
    // The stand-in's clock has stopped on the 23rd of November 2026.
    assert!(seen.text.contains(" clock: this host's clock is "), "{}", seen.text);
    assert!(!account_part(&seen).contains("\nfailed "), "{}", seen.text);
    let lines: Vec<&str> =
        seen.text.lines().filter(|l| l.contains(" token: ") || l.contains(" announced AUTH: ")).collect();
    assert_eq!(
        lines,
        [
            "ok       announced AUTH: LOGIN XOAUTH2; a token needs XOAUTH2",
            "ok       token: aud https://outlook.office365.com, roles SMTP.SendAsApp, tid contoso-tenant, oid object-1, N min left",
        ]
    );
}

#[tokio::test]
async fn a_refused_token_request_names_the_secret_and_the_rest_goes_on() {
    let (host, seen) = with_token(token_endpoint::refusal(401, "invalid_client", 7_000_215)).await;
    assert_eq!(seen.exit_code, 69);
    assert_eq!(host.recorded().login_attempts, 0, "there is nothing to log in with");
    let until_the_sentence = account_part(&seen);
    insta::assert_snapshot!(until_the_sentence.split("\n\n").next().unwrap_or_default());
}

/// What a rehearsal of December says of one account, its last step but one and the last, and the exit code.
async fn december(token: Option<Step>, refused: bool, passwords: Passwords) -> (Vec<String>, u8, usize) {
    let host = SmartHost::start().await;
    if refused {
        host.always(At::Auth, Act::say("535 5.7.3 Authentication unsuccessful"));
    }
    let has_oauth = token.is_some();
    let endpoint = TokenEndpoint::start(token).await;
    let settings = token_settings(&endpoint);
    let source = Source::new(settings, Limits::default(), RelayTime::default, Witness::nobody()).unwrap();
    let login = |account: &Account| {
        if has_oauth { LoginKind::Token(source.clone()) } else { configured_login(account) }
    };
    let practice = Practice::of(&host);
    let mut report = Report::default();
    rehearse(&practice.settings(), &Order::default(), login, |_| passwords, &mut report).await;
    let last = report.steps().iter().rev().take(2).map(|s| format!("{}: {}", s.name, s.said));
    let recorded = host.recorded();
    assert!(recorded.xoauth2.len() == recorded.login_attempts, "no password was sent");
    (last.collect(), report.exit_code(), recorded.login_attempts)
}

#[tokio::test]
async fn december_is_rehearsed_for_each_kind_of_login() {
    let good = || Some(token_endpoint::token("opaque"));
    let bad = || Some(token_endpoint::refusal(401, "invalid_client", 7_000_222));
    let (one, none) = ("1 of 1 account would go on sending", "0 of 1 account would go on sending");
    for (token, refused, passwords, said, sum, code, logins) in [
        (None, false, Passwords::End, "has no oauth", none, 69, 0),
        (None, false, Passwords::Stay, "another provider's server", one, 0, 0),
        (None, false, Passwords::UntilSeptember2028, "until September 2028", one, 0, 0),
        (good(), false, Passwords::End, "it logged in with oauth just now", one, 0, 1),
        (good(), true, Passwords::End, "did not get in with it just now", none, 69, 1),
        (bad(), false, Passwords::End, "did not get in with it just now", none, 69, 0),
    ] {
        let (last, exit, attempts) = december(token, refused, passwords).await;
        assert!(last[0].starts_with(&format!("who is left: {sum}")), "{last:?}");
        assert!(last[1].contains(said), "{last:?}");
        assert_eq!((exit, attempts), (code, logins), "{last:?}");
    }
}

async fn tested(practice: &Practice) -> (Result<Fate, SendTestError>, String) {
    let settings = practice.settings();
    let order = send_test::Order {
        to: "it@contoso.com".parse().unwrap(),
        from: None,
        patience: Duration::from_secs(20),
    };
    let mut told = String::new();
    let fate = send_test::send_test(&settings, &order, &mut |line, hint| {
        told += &hint.map_or(format!("{line}\n"), |hint| format!("{line}\nhint: {hint}\n"));
    })
    .await;
    (fate, practice.redacted(&told))
}

async fn tested_through_a_relay(prepare: impl FnOnce(&SmartHost)) -> (Fate, String) {
    let host = SmartHost::start().await;
    prepare(&host);
    let practice = Practice::of(&host);
    let relay = Relay::start(&practice.settings(), vec![], Observers::default()).await.unwrap();
    let (fate, told) = tested(&practice).await;
    relay.stop(Duration::from_secs(5)).await;
    (fate.unwrap(), told)
}

#[tokio::test]
async fn a_test_message_is_followed_until_the_smart_host_has_it() {
    let (fate, told) = tested_through_a_relay(|_| {}).await;
    assert_eq!(fate, Fate::Delivered);
    let lines: Vec<&str> = told.lines().filter(|l| *l != "queued").collect();
    assert_eq!(
        lines,
        [
            "sending from scanner@contoso.com to it@contoso.com through LISTENER, as a device of printers",
            "accepted: 250 2.0.0 queued as ID",
            "delivered: 250 2.0.0 OK <1@x> [Hostname=SMART.HOST]",
        ]
    );
}

#[tokio::test]
async fn a_deferred_a_dead_and_a_held_test_message_say_why() {
    let (fate, told) =
        tested_through_a_relay(|h| h.always(At::FinalDot, Act::say("450 4.2.1 mailbox busy"))).await;
    assert_eq!(fate, Fate::Waiting);
    assert!(told.contains("\ndeferred: ") && told.contains("450 4.2.1 mailbox busy"), "{told}");

    let (fate, told) =
        tested_through_a_relay(|h| h.always(At::Rcpt, Act::say("550 5.1.10 no such recipient"))).await;
    assert_eq!(fate, Fate::Dead);
    assert!(told.contains("\ndead letter: RCPT TO: 550 5.1.10 no such recipient\nhint: "), "{told}");

    let refused =
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.";
    let (fate, told) = tested_through_a_relay(|h| h.always(At::Auth, Act::say(refused))).await;
    assert_eq!(fate, Fate::Waiting);
    assert!(
        told.contains("\nwaits: scanner@contoso.com is held: ") && told.contains("hint: enable "),
        "{told}"
    );
}

#[tokio::test]
async fn a_test_message_that_nobody_would_take_is_not_sent() {
    let host = SmartHost::start().await;
    let practice = Practice::of(&host);
    assert!(matches!(tested(&practice).await.0, Err(SendTestError::Control(_))), "nothing runs");

    let practice = practice.with("from = [\"127.0.0.1\"]", "from = [\"10.0.5.0/24\"]");
    let relay = Relay::start(&practice.settings(), vec![], Observers::default()).await.unwrap();
    let (fate, _) = tested(&practice).await;
    relay.stop(Duration::from_secs(5)).await;
    assert_eq!(
        fate.unwrap_err().to_string(),
        "this host's address 127.0.0.1 is in no [[client]], so the relay would refuse its mail"
    );
}

fn mailferry(practice: &Practice, args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = assert_cmd::Command::cargo_bin("mailferry").unwrap();
    command.env_clear().arg("--config").arg(practice.file()).args(args).assert()
}

#[test]
fn the_command_line_ends_with_the_code_of_what_was_found() {
    let practice = Practice::new(&format!("127.0.0.1:{}", free_port()));
    let done = mailferry(&practice, &["doctor", "--json"]).code(69);
    let report: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let failed: Vec<_> =
        report["steps"].as_array().unwrap().iter().filter(|s| s["status"] == "failed").collect();
    assert_eq!(report["exit_code"], 69);
    assert_eq!((failed.len(), &failed[0]["error"]), (1, &"unreachable".into()));
    assert_eq!(failed[0]["account"], "scanner@contoso.com");

    mailferry(&practice, &["doctor", "--account", "Scanner@Contoso.com"]).code(69);
    mailferry(&practice, &["doctor", "--account", "nobody@contoso.com"])
        .code(64)
        .stderr("there is no account nobody@contoso.com\nhint: there are: scanner@contoso.com\n");
    mailferry(&practice, &["send-test", "--to", "it@contoso.com"])
        .code(69)
        .stderr("mailferry is not running\nhint: start it with: systemctl start mailferry\n");
    let practice = practice.with("[control]", "[contorl]");
    mailferry(&practice, &["doctor"]).code(78);
}

#[test]
fn the_page_of_errors_is_the_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == page::errors(),
        "docs/errors.md is not what the catalogue says; write it anew with: cargo run -- errors-page > docs/errors.md"
    );
}
