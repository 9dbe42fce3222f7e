//! A mailbox that logs in with OAuth, as a whole: device, relay, sign-in service and smart host, over real TLS.

use crate::support::log::Log;
use crate::support::own_process;
use crate::support::smart_host::{Act, At, SmartHost};
use crate::support::token_endpoint::{Step, TokenEndpoint, refusal, token, token_json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mailferry::config::{self, Env, Settings};
use mailferry::control::client::Client;
use mailferry::control::report::{AccountState, Status};
use mailferry::daemon::Observers;
use mailferry::daemon::Relay;
use mailferry::mail::{QueuedMessage, State, WallTime};
use mailferry::queue::Filter;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const MAILBOX: &str = "scanner@contoso.com";
const SECRET: &str = "secret = { env = \"SECRET\" }";

/// A relay with one account, its sign-in service and its smart host.
struct Site {
    relay: Option<Relay>,
    host: SmartHost,
    endpoint: TokenEndpoint,
    directory: tempfile::TempDir,
    oauth: String,
    account: String,
    notify: &'static str,
}

impl Site {
    async fn new(script: impl IntoIterator<Item = Step>) -> Self {
        Self::with(SmartHost::start().await, script, SECRET, "").await
    }

    /// `oauth` names the credential, `account` has further lines of the account.
    async fn with(
        host: SmartHost,
        script: impl IntoIterator<Item = Step>,
        oauth: &str,
        account: &str,
    ) -> Self {
        let endpoint = TokenEndpoint::start(script).await;
        let directory = tempfile::tempdir().unwrap();
        let (oauth, account) = (oauth.to_owned(), account.to_owned());
        let notify = "[notify]\nto = [\"it@contoso.com\"]\n";
        let mut site = Self { relay: None, host, endpoint, directory, oauth, account, notify };
        site.start().await;
        site
    }

    async fn start(&mut self) {
        let settings = self.settings("hunter2");
        self.relay = Some(Relay::start(&settings, vec![], Observers::default()).await.unwrap());
    }

    fn settings(&self, secret: &str) -> Settings {
        self.configure();
        let env: Env =
            [("SECRET", secret), ("PW", "correct horse")].map(|(k, v)| (k.to_owned(), v.into())).into();
        config::load(&self.file(), &env).unwrap_or_else(|p| panic!("{}", p[0]))
    }

    /// As on SIGHUP, with this client secret.
    async fn reload(&self, secret: &str) {
        let settings = self.settings(secret);
        self.relay().reload(&settings).await.unwrap();
    }

    fn configure(&self) {
        let text = format!(
            "hostname = \"relay.contoso.local\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1\"]\n\
             [[account]]\nmailbox = \"{MAILBOX}\"\nsmarthost = \"localhost:{}\"\nca_file = \"{}\"\n{}\n\
             [account.oauth]\ntenant = \"contoso.com\"\nclient_id = \"{CLIENT_ID}\"\nauthority = \"{}\"\nca_file = \"{}\"\n{}\n\
             [queue]\ndirectory = \"queue\"\nmin_free_space = \"1 MiB\"\n[control]\nsocket = \"control.sock\"\n\
             {}",
            self.host.address().port(),
            SmartHost::ca_file().display(),
            self.account,
            self.endpoint.authority,
            self.endpoint.ca_file.display(),
            self.oauth,
            self.notify,
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("mailferry.toml")
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap()
    }

    async fn stop(&mut self) {
        self.relay.take().unwrap().stop(Duration::from_secs(5)).await;
    }

    /// A device hands over a message and gets its 250.
    async fn send(&self) {
        let stream = TcpStream::connect(self.relay().addresses()[0]).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        for command in [
            "",
            "HELO printer\r\n",
            "MAIL FROM:<scanner@contoso.com>\r\n",
            "RCPT TO:<anna@contoso.com>\r\n",
            "DATA\r\n",
            "Subject: scan\r\n\r\nhello\r\n.\r\n",
        ] {
            stream.get_mut().write_all(command.as_bytes()).await.unwrap();
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            assert!(line.starts_with(['2', '3']), "{command}: {line}");
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.directory.path().join("control.sock"))
    }

    async fn status(&self) -> Status {
        self.client().status().await.unwrap()
    }

    /// Waits until the account is in this state.
    async fn stands(&self, state: AccountState) -> Status {
        let wait = async {
            loop {
                let status = self.status().await;
                if status.accounts[0].state == state {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it never stood like that")
    }

    /// Waits until so many messages have arrived.
    async fn arrived(&self, messages: usize) {
        let wait = async {
            while self.host.recorded().messages.len() < messages {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap_or_else(|_| panic!("it never arrived: {:?}", self.counts()));
    }

    /// The relay, too, knows that so many arrived: its connection may take the next.
    async fn delivered(&self, messages: usize) {
        let ledger = &self.relay().queue().ledger;
        let filter = || Filter { state: Some(State::Delivered), ..Filter::default() };
        let wait = async {
            while ledger.list(filter(), None).await.unwrap().messages.len() < messages {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap_or_else(|_| panic!("it was not delivered: {:?}", self.counts()));
    }

    async fn probe(&self) {
        self.client().probe(MAILBOX).await.unwrap();
    }

    async fn queued(&self) -> Vec<QueuedMessage> {
        let filter = Filter { state: Some(State::Queued), ..Filter::default() };
        self.relay().queue().ledger.list(filter, None).await.unwrap().messages
    }

    /// Token requests, AUTH commands, successful logins.
    fn counts(&self) -> (usize, usize, usize) {
        let r = self.host.recorded();
        (self.endpoint.requests().len(), r.login_attempts, r.logins)
    }

    /// Nothing was given up or put off: the account's fault is not the message's.
    async fn nothing_is_lost(&self, waiting: usize) {
        let totals = self.relay().queue().ledger.totals().await.unwrap();
        assert!(totals.iter().all(|t| t.state != State::Dead), "{totals:?}");
        let queued = self.queued().await;
        assert_eq!(queued.len(), waiting);
        assert!(queued.iter().all(|m| m.attempts == 0));
    }

    async fn mailferry(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = assert_cmd::Command::cargo_bin("mailferry").unwrap();
        command.env_clear().arg("--config").arg(self.file()).args(args);
        tokio::task::spawn_blocking(move || command.assert()).await.unwrap()
    }
}

fn said(assert: &assert_cmd::assert::Assert) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&assert.get_output().stdout), text(&assert.get_output().stderr))
}

fn short_lived(access: &str, seconds: u64) -> Step {
    let body = serde_json::json!({"token_type": "Bearer", "expires_in": seconds, "access_token": access});
    Step::Answer(200, "", body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_with_a_token_got_before_the_connection() {
    let go = Arc::new(Notify::new());
    let slow = Step::Held(Arc::clone(&go), 200, token_json("first", None));
    let mut site = Site::new([slow]).await;
    site.host.accept_tokens(&["first"]);
    site.send().await;
    while site.endpoint.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(site.host.recorded().connections, 0, "no connection waits for a token");
    go.notify_one();
    site.send().await;
    site.arrived(2).await;
    assert_eq!(site.host.recorded().xoauth2[0], format!("user={MAILBOX}\u{1}auth=Bearer first\u{1}\u{1}"));
    assert!(site.host.recorded().messages.iter().all(|m| m.in_tls));
    let form = &site.endpoint.requests()[0].form;
    assert_eq!(
        (form["grant_type"].as_str(), form["client_secret"].as_str()),
        ("client_credentials", "hunter2")
    );
    assert_eq!(site.counts().0, 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_between_two_messages_is_replaced() {
    let mut site = Site::new([short_lived("first", 1), token("second")]).await;
    site.host.accept_tokens(&["first"]);
    site.send().await;
    site.arrived(1).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    site.host.accept_tokens(&["second"]);
    // The idle connection is dropped under the second message: a fresh login.
    site.host.once(At::Mail, Act::Close);
    site.send().await;
    site.arrived(2).await;
    assert_eq!(site.counts(), (2, 2, 2));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_replaced_once_and_the_message_goes_through() {
    let mut site = Site::new([token("revoked"), token("second"), token("third")]).await;
    site.host.accept_tokens(&["second"]);
    site.host.challenge();
    site.send().await;
    site.arrived(1).await;
    assert_eq!(site.counts(), (2, 2, 1));
    // The new one has worked: when it is revoked as well, it is replaced just the same.
    site.host.accept_tokens(&["third"]);
    site.host.once(At::Mail, Act::Close);
    site.send().await;
    site.arrived(2).await;
    assert_eq!(site.counts(), (3, 4, 2));
    assert_eq!(site.status().await.accounts[0].state, AccountState::Open);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_costs_one_new_token_and_then_the_account_is_held() {
    let claims =
        serde_json::json!({"roles": ["SMTP.SendAsApp"], "oid": "99999999-8888-7777-6666-555555555555"});
    let jwt = |n: u8| format!("e30.{}.{n}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    for challenges in [false, true] {
        let mut site = Site::new([token(&jwt(1)), token(&jwt(2)), token(&jwt(3))]).await;
        site.host.accept_tokens(&[]);
        if challenges {
            site.host.challenge();
        }
        for _ in 0..3 {
            site.send().await;
        }
        let status = site.stands(AccountState::Held).await;
        assert_eq!(site.counts(), (2, 2, 0));
        assert!(status.accounts[0].reason.starts_with("AUTH: 535 5.7.3"), "{}", status.accounts[0].reason);
        let object = "99999999-8888-7777-6666-555555555555";
        assert!(
            status.needs_human[0]
                .hint
                .starts_with(&format!("New-ServicePrincipal -AppId {CLIENT_ID} -ObjectId {object}")),
            "{}",
            status.needs_human[0].hint
        );
        site.nothing_is_lost(3).await;
        site.host.accept_tokens(&[&jwt(3)]);
        site.probe().await;
        site.arrived(3).await;
        assert_eq!(site.counts().0, 3, "and mended, one more");
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_fails_is_waited_for_without_a_login() {
    let failures = || {
        [
            Step::Raw(b"220 this is no sign-in service\r\n".to_vec()),
            Step::Answer(200, "", "<html>please log in to the wifi</html>".into()),
            Step::Answer(503, "Retry-After: 7\r\n", String::new()),
            refusal(400, "temporarily_unavailable", 90_033),
        ]
    };
    let mut site = Site::new(failures().into_iter().chain([token("first")])).await;
    site.send().await;
    for n in 1..=4 {
        let status = site.stands(AccountState::BackingOff).await;
        assert!(status.accounts[0].reason.starts_with("getting a token: no access token"), "{status:?}");
        assert_eq!(site.endpoint.requests().len(), n);
        site.nothing_is_lost(1).await;
        site.probe().await;
        while site.endpoint.requests().len() == n {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if n < 4 {
            // The answer to this request must be in before the account is looked at again.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    site.arrived(1).await;
    assert_eq!(site.host.recorded().connections, 1, "nobody was troubled meanwhile");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_requests_follow_the_accounts_delays_and_their_failing_asks_for_nobody() {
    let failures = [
        Step::Answer(503, "", String::new()),
        Step::Raw(vec![]),
        Step::Answer(429, "", String::new()),
        refusal(400, "temporarily_unavailable", 90_033),
        Step::Answer(500, "", String::new()),
        Step::Raw(vec![]),
    ];
    let oauth = format!("{SECRET}\n[retry]\naccount_delays = [\"20 ms\", \"40 ms\", \"300 ms\"]");
    let script = failures.into_iter().chain([token("first")]);
    let mut site = Site::with(SmartHost::start().await, script, &oauth, "").await;
    site.send().await;
    let begun = Instant::now();
    // The usual delays would be five, ten, twenty seconds.
    while site.host.recorded().messages.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", site.counts());
        let status = site.status().await;
        assert!(status.needs_human.is_empty(), "{status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(site.counts().0, 7, "a request a probe");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_calls_itself_temporary_is_a_setting_at_once_only_where_nothing_ever_worked() {
    const PRX4: &str = "451 4.7.0 Temporary server error. Please try again later. PRX4";
    let oauth = format!("{SECRET}\n[retry]\naccount_delays = [\"20 ms\", \"40 ms\", \"1 h\"]");
    let mut site = Site::with(SmartHost::start().await, [token("first"), token("second")], &oauth, "").await;
    site.host.always(At::Mail, Act::say(PRX4));
    site.send().await;
    let status = site.stands(AccountState::BackingOff).await;
    let sentence = status.sentence;
    assert!(
        sentence.starts_with("needs a human: scanner@contoso.com cannot send, probably by a setting"),
        "{sentence}"
    );
    assert!(sentence.contains("licensed user mailbox"), "{sentence}");
    site.host.behave();
    site.probe().await;
    site.arrived(1).await;
    // It has worked: the same is an outage now, after a restart, too.
    for restarts in [false, true] {
        if restarts {
            site.stop().await;
            site.start().await;
        }
        site.host.always(At::Mail, Act::say(PRX4));
        site.send().await;
        let status = site.stands(AccountState::BackingOff).await;
        assert!(status.needs_human.is_empty(), "restarted {restarts}: {status:?}");
        site.host.behave();
        site.probe().await;
        site.arrived(if restarts { 3 } else { 2 }).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cached_token_is_used_while_the_endpoint_is_down() {
    let mut site = Site::new([token("first")]).await;
    site.host.accept_tokens(&["first"]);
    for n in 1..=4 {
        site.send().await;
        site.delivered(n).await;
        site.host.once(At::Mail, Act::Close);
    }
    assert_eq!(site.counts(), (1, 4, 4));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_holds_the_account_and_says_what_to_copy() {
    let mut site =
        Site::new([refusal(401, "invalid_client", 7_000_215), refusal(401, "invalid_client", 7_000_215)])
            .await;
    site.send().await;
    let status = site.stands(AccountState::Held).await;
    let need = &status.needs_human[0];
    assert!(need.what.contains("AADSTS7000215"), "{}", need.what);
    assert!(need.hint.contains(&format!("{CLIENT_ID} > Certificates & secrets")), "{}", need.hint);
    assert_eq!(site.counts(), (1, 0, 0));
    assert_eq!(site.host.recorded().connections, 0);
    site.nothing_is_lost(1).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_the_right_secret_mends_it_and_one_without_a_change_keeps_the_token() {
    let script = [refusal(401, "invalid_client", 7_000_215), token("first"), token("second")];
    let mut site = Site::new(script).await;
    // Each mail is counted here, and that of the end of the hold comes when it comes.
    site.notify = "";
    site.reload("hunter2").await;
    site.send().await;
    site.stands(AccountState::Held).await;
    site.reload("the right one").await;
    site.arrived(1).await;
    assert_eq!(site.endpoint.requests()[1].form["client_secret"], "the right one");
    for n in 2..=3 {
        // What was opened under the old settings is not used under the new ones, so each reload means a login.
        site.reload("the right one").await;
        site.send().await;
        site.arrived(n).await;
    }
    assert_eq!(site.counts(), (2, 3, 3));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_xoauth2_holds_the_account() {
    let host = SmartHost::builder().with("AUTH LOGIN").start().await;
    let mut site = Site::with(host, [token("first")], SECRET, "").await;
    site.send().await;
    let status = site.stands(AccountState::Held).await;
    assert!(status.accounts[0].reason.contains("offers no AUTH mechanism"), "{status:?}");
    assert_eq!(site.counts(), (1, 0, 0));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_stands_in_until_its_last_day_and_not_longer() {
    let password = |until: &str| format!("password = {{ env = \"PW\" }}\nfallback_until = \"{until}\"");
    let wrong = || [refusal(401, "invalid_client", 7_000_215)];

    let host = SmartHost::start().await;
    let mut site = Site::with(host, wrong(), SECRET, &password("9999-12-31")).await;
    site.send().await;
    site.arrived(1).await;
    assert!(site.host.recorded().xoauth2.is_empty());
    assert_eq!(site.counts(), (1, 1, 1));
    site.stop().await;

    let host = SmartHost::start().await;
    let mut site = Site::with(host, [token("a"), token("b")], SECRET, &password("9999-12-31")).await;
    site.host.accept_tokens(&[]);
    site.send().await;
    site.arrived(1).await;
    assert_eq!(site.counts(), (2, 3, 1), "two tokens are refused, then the password");
    site.stop().await;

    let host = SmartHost::start().await;
    let mut site = Site::with(host, wrong(), SECRET, &password("2020-01-01")).await;
    site.send().await;
    site.stands(AccountState::Held).await;
    assert_eq!(site.host.recorded().connections, 0);
    site.nothing_is_lost(1).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_by_device_code_while_the_relay_runs() {
    let code = serde_json::json!({
        "user_code": "FJC3A9X4Q", "device_code": "dev1ce", "verification_uri": "https://microsoft.com/devicelogin",
        "expires_in": 900, "interval": 0,
    });
    let pending = || refusal(400, "authorization_pending", 70_016);
    let jwt = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"upn":"bob@contoso.com","scp":"SMTP.Send"}"#));
    let script = [
        Step::Answer(200, "", code.to_string()),
        pending(),
        pending(),
        Step::Answer(200, "", token_json(&jwt, Some("refresh-1"))),
        Step::Answer(200, "", token_json("second", Some("refresh-2"))),
    ];
    let host = SmartHost::start().await;
    let mut site = Site::with(host, script, "device_code = true", "").await;
    site.send().await;
    let status = site.stands(AccountState::Held).await;
    assert_eq!(status.needs_human[0].hint, format!("mailferry account login {MAILBOX}"));
    assert_eq!(site.endpoint.requests().len(), 0, "nobody is asked before somebody has signed in");
    let (listed, _) = said(&site.mailferry(&["account", "list"]).await);
    assert_eq!(listed, format!("{MAILBOX}  oauth with a device code  needs a human\n"));

    let login = site.mailferry(&["account", "login", "Scanner@contoso.com"]).await.success();
    assert_eq!(
        said(&login),
        (
            format!(
                "open https://microsoft.com/devicelogin\nenter FJC3A9X4Q\nand sign in as {MAILBOX}; the code lives 15m\n\
                 {MAILBOX} is signed in\nthe running relay tries it now\n"
            ),
            format!(
                "warning: bob@contoso.com signed in, not {MAILBOX}\nhint: unless bob@contoso.com may open {MAILBOX}, sign in again: mailferry account login {MAILBOX}\n"
            )
        )
    );
    site.arrived(1).await;
    let requests = site.endpoint.requests();
    assert_eq!(requests[4].form["refresh_token"], "refresh-1");
    let stored = site.directory.path().join(format!("queue/oauth-{MAILBOX}.json"));
    assert_eq!(std::fs::read_to_string(&stored).unwrap(), r#"{"refresh_token":"refresh-2"}"#);
    assert_eq!(std::fs::metadata(&stored).unwrap().permissions().mode() & 0o777, 0o600);
    site.stop().await;

    let (listed, _) = said(&site.mailferry(&["account", "list"]).await);
    assert_eq!(listed, format!("{MAILBOX}  oauth with a device code  not running\n"));
    site.oauth = SECRET.to_owned();
    site.configure();
    let refused = site.mailferry(&["account", "login", MAILBOX]).await.code(78);
    assert_eq!(
        said(&refused).1,
        format!(
            "{MAILBOX} logs in with oauth with a client secret, not with a device code\nhint: set device_code = true in its [account.oauth], in place of secret and certificate\n"
        )
    );
    site.mailferry(&["account", "login", "nobody@contoso.com"]).await.code(66);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_secret_is_told_once_by_mail_and_stays_in_the_status() {
    let in_days = |d: i64| {
        let at = WallTime::from_ms(WallTime::now().as_ms() + d * 86_400_000);
        at.to_string()[..10].to_owned()
    };
    let secret = format!("{SECRET}\nsecret_expires = \"{}\"", in_days(6));
    let host = SmartHost::start().await;
    let mut site = Site::with(host, [token("a"), token("b")], &secret, "").await;
    site.arrived(1).await;
    let mail = &site.host.recorded().messages[0];
    assert_eq!(mail.recipients, ["it@contoso.com"]);
    let text = String::from_utf8_lossy(&mail.data).into_owned();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("the client secret of scanner@contoso.com expires in 6 days"), "{text}");
    assert!(text.contains(CLIENT_ID) && !text.contains("hunter2"));
    for _ in 0..2 {
        let status = site.status().await;
        assert!(
            status.needs_human[0]
                .what
                .starts_with(&format!("the client secret of {MAILBOX} expires in 6 days")),
            "{status:?}"
        );
        site.stop().await;
        site.start().await;
    }
    site.send().await;
    site.arrived(2).await;
    assert!(
        String::from_utf8_lossy(&site.host.recorded().messages[1].data).contains("Subject: scan"),
        "told once"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_everything_but_the_secrets() {
    if own_process::told().is_none() {
        return own_process::passes(own_process::command(
            "oauth::the_log_tells_everything_but_the_secrets",
            "alone",
        ))
        .await;
    }
    let log = Log::of_this_process();
    let host = SmartHost::start().await;
    let password = "password = { env = \"PW\" }\nfallback_until = \"9999-12-31\"";
    let mut site = Site::with(host, [token("t0ken-one"), token("t0ken-two")], SECRET, password).await;
    site.host.accept_tokens(&[]);
    site.host.challenge();
    site.send().await;
    site.arrived(1).await;
    site.stop().await;
    let log = log.text();
    for told in [
        "the smart host says about the access token: {\"status\":\"401\",\"schemes\":\"bearer\"",
        "the smart host refused the access token; a new one is tried once",
        "OAuth failed (AUTH: 535 5.7.3 Authentication unsuccessful",
        "the password stands in until 9999-12-31",
    ] {
        assert!(log.contains(told), "{told}");
    }
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let login = format!("user={MAILBOX}\u{1}auth=Bearer t0ken-one\u{1}\u{1}");
    let encoded = [base64(&login), base64("correct horse")];
    for secret in ["hunter2", "correct horse", "t0ken-"].into_iter().chain(encoded.iter().map(String::as_str))
    {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
