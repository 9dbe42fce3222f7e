//! Access tokens, against a sign-in service with real TLS on loopback. The relay's clock is the test's.

use crate::support::log::Log;
use crate::support::own_process;
use crate::support::token_endpoint::{Certificate, Step, TokenEndpoint, refusal, token, token_json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mailferry::fact::Witness;
use mailferry::http::{Limits, Proxy};
use mailferry::mail::RelayTime;
use mailferry::token::claims::Permission;
use mailferry::token::device::{self, BeginError, Poll};
use mailferry::token::refusal::Class;
use mailferry::token::response::{Fault, Problem};
use mailferry::token::{AccessToken, Cloud, Grant, RefreshStore, Settings, Source, TokenError};
use secrecy::ExposeSecret;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "hunter2+/=&";
const SHORT: Limits = Limits { connect: Duration::from_millis(500), whole: Duration::from_millis(500) };

/// The relay's clock, set by hand, in seconds.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn set(&self, s: i64) {
        self.0.store(s, Ordering::SeqCst);
    }

    fn source(&self, settings: Settings) -> Source {
        self.source_within(settings, Limits::default())
    }

    fn source_within(&self, settings: Settings, limits: Limits) -> Source {
        self.told(settings, limits, Witness::nobody())
    }

    fn logged(&self, settings: Settings) -> Source {
        self.told(settings, Limits::default(), Witness::of_the_log())
    }

    fn told(&self, settings: Settings, limits: Limits, witness: Witness) -> Source {
        let ms = Arc::clone(&self.0);
        let now = move || RelayTime::from_ms(ms.load(Ordering::SeqCst) * 1000);
        Source::new(settings, limits, now, witness).unwrap()
    }
}

fn settings(endpoint: &TokenEndpoint, grant: Grant) -> Settings {
    Settings {
        mailbox: "scanner@contoso.com".parse().unwrap(),
        cloud: Cloud::Global,
        tenant: "contoso.com".into(),
        client_id: CLIENT_ID.into(),
        authority: Some(endpoint.authority.clone()),
        token_url: None,
        scope: None,
        grant,
        secret_expires: None,
        ca_file: Some(endpoint.ca_file.clone()),
        proxy: None,
    }
}

fn secret() -> Grant {
    Grant::Secret(SECRET.into())
}

fn device_code(endpoint: &TokenEndpoint) -> Grant {
    Grant::DeviceCode { store: endpoint.directory.path().to_owned() }
}

fn store(endpoint: &TokenEndpoint) -> RefreshStore {
    RefreshStore::new(endpoint.directory.path(), &"scanner@contoso.com".parse().unwrap())
}

fn stored(endpoint: &TokenEndpoint) -> Option<String> {
    store(endpoint).load().unwrap().map(|t| t.expose_secret().to_owned())
}

fn fault(error: &TokenError) -> Fault {
    match &error.problem {
        Problem::Unavailable { fault, .. } => *fault,
        other => panic!("{other:?}"),
    }
}

/// Waits for what a background request brings.
async fn eventually(mut is_there: impl FnMut() -> bool) {
    let wait = async {
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it never happened");
}

async fn names(source: &Source) -> String {
    source.token().await.unwrap().expose().to_owned()
}

#[tokio::test]
async fn a_client_secret_brings_a_token_which_is_used_again() {
    let endpoint = TokenEndpoint::start([token("first")]).await;
    let source = Clock::default().source(settings(&endpoint, secret()));
    for _ in 0..3 {
        assert_eq!(names(&source).await, "first");
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/contoso.com/oauth2/v2.0/token");
    let form = &requests[0].form;
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["client_id"], CLIENT_ID);
    assert_eq!(form["client_secret"], SECRET);
    assert_eq!(form["scope"], "https://outlook.office365.com/.default");
    assert!(source.clock_ahead_ms().is_some(), "the endpoint's Date was read");
}

#[tokio::test]
async fn a_token_is_replaced_ahead_of_its_end_while_nobody_waits() {
    let go = Arc::new(Notify::new());
    let held = Step::Held(Arc::clone(&go), 200, token_json("second", None));
    let endpoint = TokenEndpoint::start([token("first"), held, token("third")]).await;
    let clock = Clock::default();
    let source = clock.source(settings(&endpoint, secret()));
    assert_eq!(names(&source).await, "first");
    clock.set(3100);
    for _ in 0..10 {
        assert_eq!(names(&source).await, "first", "the answer is still held back");
    }
    eventually(|| endpoint.requests().len() == 2).await;
    go.notify_one();
    clock.set(3200);
    while names(&source).await == "first" {
        tokio::task::yield_now().await;
    }
    assert_eq!(names(&source).await, "second");
    // Its life began when it was asked for, at 3100.
    clock.set(6700);
    assert_eq!(names(&source).await, "third");
    assert_eq!(endpoint.requests().len(), 3);
}

#[tokio::test]
async fn fifty_callers_at_once_cost_one_request() {
    let go = Arc::new(Notify::new());
    let endpoint = TokenEndpoint::start([Step::Held(Arc::clone(&go), 200, token_json("first", None))]).await;
    let source = Clock::default().source(settings(&endpoint, secret()));
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.unwrap() })
        })
        .collect();
    eventually(|| endpoint.requests().len() == 1).await;
    go.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap().expose(), "first");
    }
    assert_eq!(endpoint.requests().len(), 1);
}

#[tokio::test]
async fn a_request_outlives_the_caller_who_began_it() {
    let go = Arc::new(Notify::new());
    let held = Step::Held(Arc::clone(&go), 200, token_json("first", Some("refresh-2")));
    let endpoint = TokenEndpoint::start([held]).await;
    store(&endpoint).save(&"refresh-1".into()).unwrap();
    let source = Clock::default().source(settings(&endpoint, device_code(&endpoint)));
    let caller = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    eventually(|| endpoint.requests().len() == 1).await;
    caller.abort();
    go.notify_one();
    eventually(|| stored(&endpoint).as_deref() == Some("refresh-2")).await;
    assert_eq!(names(&source).await, "first");
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn a_stop_of_the_runtime_in_mid_request_blocks_nothing() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (outside, relay) = (runtime(), runtime());
    let endpoint = outside.block_on(TokenEndpoint::start([Step::Silence, token("second")]));
    let source = Clock::default().source(settings(&endpoint, secret()));
    relay.spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    outside.block_on(eventually(|| endpoint.requests().len() == 1));
    relay.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(fault(&source.trouble().unwrap()), Fault::Network);
    source.probe();
    assert_eq!(outside.block_on(names(&source)), "second");
}

#[tokio::test]
async fn a_stop_can_wait_for_the_request_under_way() {
    let go = Arc::new(Notify::new());
    let held = Step::Held(Arc::clone(&go), 200, token_json("second", None));
    let endpoint = TokenEndpoint::start([token("first"), held]).await;
    let clock = Clock::default();
    let source = clock.source(settings(&endpoint, secret()));
    source.finish().await;
    assert_eq!(names(&source).await, "first");
    source.finish().await;
    clock.set(3100);
    assert_eq!(names(&source).await, "first");
    eventually(|| endpoint.requests().len() == 2).await;
    go.notify_one();
    source.finish().await;
    assert_eq!(names(&source).await, "second");
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let busy = Step::Answer(429, "Retry-After: 120\r\n", "{}".into());
    let endpoint = TokenEndpoint::start([busy, token("first")]).await;
    let clock = Clock::default();
    let source = clock.source(settings(&endpoint, secret()));
    let error = source.token().await.unwrap_err();
    assert_eq!((fault(&error), error.retry_in.as_secs()), (Fault::Busy, 120));
    assert!(!error.needs_a_person());
    clock.set(119);
    assert_eq!(source.token().await.unwrap_err().retry_in.as_secs(), 1);
    assert_eq!(endpoint.requests().len(), 1, "nobody asked in between");
    clock.set(120);
    assert_eq!(names(&source).await, "first");
}

#[tokio::test]
async fn whatever_comes_in_place_of_a_token_the_old_one_is_used_to_its_end() {
    // Good but for its length.
    let oversized = Step::Answer(200, "", token_json("second", None) + &" ".repeat(70_000));
    let endless_head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 100_000]].concat();
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"access_token\":".to_vec();
    let redirect = Step::Answer(307, "Location: /elsewhere\r\n", String::new());
    let cases = [
        ("500", Step::Answer(500, "", "<html>".into()), Fault::Busy),
        ("503 with json", refusal(503, "temporarily_unavailable", 90033), Fault::Busy),
        ("silence", Step::Silence, Fault::Timeout),
        ("a login page", Step::Answer(200, "", "<html>welcome</html>".into()), Fault::Garbage),
        ("no http", Step::Raw(b"220 mail.contoso.com ESMTP\r\n".to_vec()), Fault::Garbage),
        ("closed at once", Step::Raw(Vec::new()), Fault::Network),
        ("cut short", Step::Raw(cut), Fault::Network),
        ("too long", oversized, Fault::Garbage),
        ("an endless head", Step::Raw(endless_head), Fault::Garbage),
        ("a redirect", redirect, Fault::Garbage),
    ];
    for (name, step, expected) in cases {
        let endpoint = TokenEndpoint::start([token("first"), step]).await;
        let clock = Clock::default();
        let source = clock.source_within(settings(&endpoint, secret()), SHORT);
        assert_eq!(names(&source).await, "first");
        clock.set(3598);
        assert_eq!(names(&source).await, "first", "{name}: waited, failed, used the old one");
        let trouble = source.trouble().unwrap();
        assert_eq!(fault(&trouble), expected, "{name}: {trouble}");
        clock.set(3599);
        assert_eq!(names(&source).await, "first", "{name}");
        clock.set(3600);
        let error = source.token().await.unwrap_err();
        assert_eq!(fault(&error), expected, "{name}: {error}");
        assert!(error.retry_in > Duration::ZERO && !error.needs_a_person());
        assert_eq!(endpoint.requests().len(), 2, "{name}: neither a redirect followed nor a pause cut short");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_an_endpoint_that_cannot_prove_its_name() {
    let stranger = TokenEndpoint::start([]).await;
    for (name, certificate, trusted) in [
        ("another name", Certificate::ForAnotherName, true),
        ("expired", Certificate::Expired, true),
        ("unknown authority", Certificate::Good, false),
    ] {
        let endpoint = TokenEndpoint::with(certificate, [token("first")]).await;
        let mut settings = settings(&endpoint, secret());
        if !trusted {
            settings.ca_file = Some(stranger.ca_file.clone());
        }
        let error = Clock::default().source(settings.clone()).token().await.unwrap_err();
        assert_eq!(fault(&error), Fault::Certificate, "{name}: {error}");
        assert!(error.remedy(&settings).join(" ").contains("ca_file"));
        assert!(endpoint.requests().is_empty(), "{name}");
    }
}

/// A proxy that answers every request for a tunnel so, and tunnels to the endpoint when that was a yes.
async fn proxy(endpoint: &TokenEndpoint, answer: &'static str) -> (Arc<Proxy>, Arc<Mutex<Vec<String>>>) {
    let port: u16 = endpoint.authority.rsplit_once(':').unwrap().1.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://relay:p%40ss@{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(near.read_u8().await.unwrap());
            }
            heads.lock().unwrap().push(String::from_utf8(head).unwrap());
            near.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains(" 200 ") {
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        }
    });
    (Arc::new(Proxy::new(&address.into(), &[]).unwrap()), asked)
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_and_sees_no_more_than_the_name() {
    // The proxy alone knows where login.example is.
    for (answer, comes) in [
        ("HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n", Ok("first")),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("does not take this login (407)")),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", Err("does not let us through to login.example (403)")),
        ("220 smtp.example ESMTP\r\n\r\n", Err("does not speak HTTP")),
    ] {
        let endpoint = TokenEndpoint::with(Certificate::ForAnotherName, [token("first")]).await;
        let (proxy, asked) = proxy(&endpoint, answer).await;
        let authority = Some(endpoint.authority.replace("localhost", "login.example"));
        let settings = Settings { authority, proxy: Some(proxy), ..settings(&endpoint, secret()) };
        let got = Clock::default().source(settings).token().await;
        match comes {
            Ok(access) => assert_eq!(got.unwrap().expose(), access),
            Err(said) => {
                let error = got.unwrap_err();
                assert!(error.to_string().contains(said), "{error}");
                assert!(!error.to_string().contains("p@ss"), "{error}");
                assert!(endpoint.requests().is_empty());
            }
        }
        let asked = asked.lock().unwrap().clone();
        assert!(asked[0].starts_with("CONNECT login.example:"), "{asked:?}");
        assert!(asked[0].contains("Proxy-Authorization: Basic "), "{asked:?}");
        assert!(!asked[0].contains(SECRET), "{asked:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_a_network_fault() {
    let endpoint = TokenEndpoint::start([]).await;
    let settings = settings(&endpoint, secret());
    drop(endpoint);
    // The CA file went with the endpoint's directory.
    assert_eq!(
        Source::new(settings.clone(), SHORT, RelayTime::default, Witness::nobody()).unwrap_err().key,
        "ca_file"
    );
    let settings = Settings { ca_file: None, ..settings };
    // Its listener is closed once its task has been dropped.
    tokio::task::yield_now().await;
    let error = Source::new(settings, SHORT, RelayTime::default, Witness::nobody())
        .unwrap()
        .token()
        .await
        .unwrap_err();
    assert_eq!(fault(&error), Fault::Network, "{error}");
}

#[tokio::test]
async fn a_wrong_or_expired_secret_is_for_a_person_and_says_what_to_do() {
    for (number, words) in [
        (7_000_215, "copy the column Value (not Secret ID)"),
        (7_000_222, "az ad app credential reset --id 11111111"),
    ] {
        let endpoint = TokenEndpoint::start([refusal(401, "invalid_client", number), token("first")]).await;
        let clock = Clock::default();
        let settings = settings(&endpoint, secret());
        let source = clock.source(settings.clone());
        let error = source.token().await.unwrap_err();
        assert!(error.needs_a_person());
        assert_eq!(error.problem.class(), Class::AppConfiguration);
        assert!(error.remedy(&settings).join("\n").contains(words), "{:?}", error.remedy(&settings));
        assert!(
            error.failure(source.settings()).to_string().contains(&format!("AADSTS{number}")),
            "{}",
            error.failure(source.settings())
        );
        assert!((54..=66).contains(&error.retry_in.as_secs()), "{error:?}");
        clock.set(50);
        assert!(source.token().await.is_err());
        assert_eq!(endpoint.requests().len(), 1, "asked once, not once a message");
        source.probe();
        assert_eq!(names(&source).await, "first");
    }
}

#[tokio::test]
async fn after_a_535_one_new_token_is_got_and_then_no_more() {
    let endpoint = TokenEndpoint::start([token("first"), token("second")]).await;
    let source = Clock::default().source(settings(&endpoint, secret()));
    let first = source.token().await.unwrap();
    assert!(source.invalidate(&first));
    assert!(source.invalidate(&first), "the account's other connection had the same token");
    let second = source.token().await.unwrap();
    assert_eq!(second.expose(), "second");
    assert!(!source.invalidate(&second), "now the account is held");
    assert_eq!(endpoint.requests().len(), 2);
}

const CODE: &str = r#"{"user_code":"FJC3A9X4Q","device_code":"device-1","verification_uri":"https://microsoft.com/devicelogin",
    "expires_in":900,"interval":5,"message":"To sign in, use a web browser"}"#;

fn code() -> Step {
    Step::Answer(200, "", CODE.into())
}

#[tokio::test]
async fn a_person_signs_in_by_device_code() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"upn":"scanner@contoso.com","scp":"SMTP.Send"}"#);
    let endpoint = TokenEndpoint::start([
        code(),
        refusal(400, "authorization_pending", 70016),
        Step::Answer(400, "", r#"{"error":"slow_down"}"#.into()),
        Step::Answer(503, "", String::new()),
        Step::Answer(200, "", token_json(&format!("e30.{payload}.c2ln"), Some("refresh-1"))),
        Step::Answer(200, "", token_json("first", Some("refresh-2"))),
    ])
    .await;
    let settings = settings(&endpoint, device_code(&endpoint));
    let mut sign_in = device::begin(settings.clone(), Limits::default(), Witness::nobody()).await.unwrap();
    assert_eq!(sign_in.user_code, "FJC3A9X4Q");
    assert_eq!(sign_in.verification_uri, "https://microsoft.com/devicelogin");
    assert_eq!(sign_in.expires_in.as_secs(), 900);
    for interval in [5, 10, 15] {
        assert!(matches!(sign_in.poll().await.unwrap(), Poll::Pending));
        assert_eq!(sign_in.interval.as_secs(), interval);
        assert_eq!(stored(&endpoint), None);
    }
    let Poll::SignedIn(Some(claims)) = sign_in.poll().await.unwrap() else { panic!("not signed in") };
    assert_eq!(claims.user.as_deref(), Some("scanner@contoso.com"));
    assert_eq!(claims.permission(true, "smtp.office365.com"), Permission::Granted);
    assert_eq!(stored(&endpoint).as_deref(), Some("refresh-1"));

    assert_eq!(names(&Clock::default().source(settings)).await, "first");
    assert_eq!(stored(&endpoint).as_deref(), Some("refresh-2"));
    let requests = endpoint.requests();
    assert_eq!(requests[0].path, "/contoso.com/oauth2/v2.0/devicecode");
    assert_eq!(requests[0].form["scope"], "https://outlook.office.com/SMTP.Send offline_access");
    assert_eq!(requests[1].form["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!(requests[1].form["device_code"], "device-1");
    assert_eq!(requests[5].form["grant_type"], "refresh_token");
    assert_eq!(requests[5].form["refresh_token"], "refresh-1");
    assert!(!requests.iter().any(|r| r.form.contains_key("client_secret")));
}

#[tokio::test]
async fn a_sign_in_that_fails_stores_nothing() {
    let cases = [
        ("authorization_declined", 0, Class::SignInAgain),
        ("expired_token", 70020, Class::SignInAgain),
        ("bad_verification_code", 0, Class::SignInAgain),
        ("invalid_client", 7_000_218, Class::AppConfiguration),
    ];
    for (error, number, class) in cases {
        let endpoint = TokenEndpoint::start([code(), refusal(400, error, number)]).await;
        let mut sign_in =
            device::begin(settings(&endpoint, device_code(&endpoint)), Limits::default(), Witness::nobody())
                .await
                .unwrap();
        assert_eq!(sign_in.poll().await.unwrap_err().class(), class, "{error}");
        assert_eq!(stored(&endpoint), None);
    }
    let endpoint = TokenEndpoint::start([code(), token("first")]).await;
    let mut sign_in =
        device::begin(settings(&endpoint, device_code(&endpoint)), Limits::default(), Witness::nobody())
            .await
            .unwrap();
    assert!(sign_in.poll().await.unwrap_err().to_string().contains("offline_access"));
    let short = CODE.replace("900", "0");
    let endpoint = TokenEndpoint::start([Step::Answer(200, "", short)]).await;
    let mut sign_in =
        device::begin(settings(&endpoint, device_code(&endpoint)), Limits::default(), Witness::nobody())
            .await
            .unwrap();
    assert_eq!(sign_in.poll().await.unwrap_err().to_string(), "expired_token");
    assert_eq!(endpoint.requests().len(), 1, "a dead code is not asked about");
}

#[tokio::test]
async fn no_code_without_a_fitting_application() {
    let endpoint = TokenEndpoint::start([refusal(400, "unauthorized_client", 700_016)]).await;
    let begun =
        device::begin(settings(&endpoint, device_code(&endpoint)), Limits::default(), Witness::nobody())
            .await;
    assert!(matches!(begun, Err(BeginError::Endpoint(Problem::Refused { .. }))));
    let begun = device::begin(settings(&endpoint, secret()), Limits::default(), Witness::nobody()).await;
    assert!(matches!(begun, Err(BeginError::Settings(_))));
}

#[tokio::test]
async fn a_replaced_refresh_token_survives_a_crash_before_the_access_token_is_used() {
    let endpoint = TokenEndpoint::start([
        Step::Answer(200, "", token_json("first", Some("refresh-2"))),
        Step::Answer(200, "", token_json("second", Some("refresh-3"))),
    ])
    .await;
    store(&endpoint).save(&"refresh-1".into()).unwrap();
    let settings = settings(&endpoint, device_code(&endpoint));
    let unused: AccessToken = Clock::default().source(settings.clone()).token().await.unwrap();
    assert_eq!(stored(&endpoint).as_deref(), Some("refresh-2"), "on disk before anybody could use the token");
    drop(unused);
    assert_eq!(names(&Clock::default().source(settings)).await, "second");
    let sent: Vec<_> = endpoint.requests().iter().map(|r| r.form["refresh_token"].clone()).collect();
    assert_eq!(sent, ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_stored_is_kept_and_stored_before_anything_else() {
    let go = Arc::new(Notify::new());
    let held = Step::Held(Arc::clone(&go), 200, token_json("first", Some("refresh-2")));
    let endpoint = TokenEndpoint::start([held, token("second")]).await;
    let queue = endpoint.directory.path().join("queue");
    std::fs::create_dir(&queue).unwrap();
    let store = RefreshStore::new(&queue, &"scanner@contoso.com".parse().unwrap());
    store.save(&"refresh-1".into()).unwrap();
    let source = Clock::default().source(settings(&endpoint, Grant::DeviceCode { store: queue.clone() }));
    let caller = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    eventually(|| endpoint.requests().len() == 1).await;
    std::fs::remove_dir_all(&queue).unwrap();
    go.notify_one();
    let error = caller.await.unwrap().unwrap_err();
    assert_eq!(fault(&error), Fault::Store, "the access token is not used: {error}");
    source.probe();
    assert_eq!(fault(&source.token().await.unwrap_err()), Fault::Store);
    assert_eq!(endpoint.requests().len(), 1, "nothing is asked while the disk is away");
    std::fs::create_dir(&queue).unwrap();
    source.probe();
    assert_eq!(names(&source).await, "second");
    assert_eq!(endpoint.requests()[1].form["refresh_token"], "refresh-2");
    assert_eq!(store.load().unwrap().unwrap().expose_secret(), "refresh-2");
}

#[tokio::test]
async fn a_revoked_sign_in_is_not_tried_again_until_somebody_signed_in() {
    let endpoint = TokenEndpoint::start([refusal(400, "invalid_grant", 50173), token("first")]).await;
    let clock = Clock::default();
    let settings = settings(&endpoint, device_code(&endpoint));
    let source = clock.source(settings.clone());
    let error = source.token().await.unwrap_err();
    assert!(error.meaning(&settings).contains("nobody has signed in for scanner@contoso.com"));
    assert!(endpoint.requests().is_empty());

    store(&endpoint).save(&"revoked".into()).unwrap();
    for minute in 2..60 {
        clock.set(minute * 67);
        let error = source.token().await.unwrap_err();
        assert_eq!(error.problem.class(), Class::SignInAgain);
        assert_eq!(error.remedy(&settings), ["mailferry account login scanner@contoso.com"]);
    }
    assert_eq!(endpoint.requests().len(), 1, "the same refresh token is refused once");
    store(&endpoint).save(&"signed in again".into()).unwrap();
    clock.set(60 * 67);
    assert_eq!(names(&source).await, "first");
}

/// Runs openssl, which has nothing to do with how the assertion was made.
fn openssl(arguments: &[&str], directory: &Path) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("openssl is needed for this test: install it");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn openssl_confirms_the_assertion_made_with_a_certificate() {
    let endpoint = TokenEndpoint::start([token("first"), token("second")]).await;
    let dir = endpoint.directory.path().to_owned();
    let make = "req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=mailferry -keyout key.pem -out cert.pem";
    assert!(openssl(&make.split(' ').collect::<Vec<_>>(), &dir).0);
    assert!(openssl(&["rsa", "-in", "key.pem", "-traditional", "-out", "pkcs1.pem"], &dir).0);
    let pem = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    for key in ["key.pem", "pkcs1.pem"] {
        let grant = Grant::Certificate { certificate: pem("cert.pem"), key: pem(key).into() };
        let settings = settings(&endpoint, grant);
        let expiry = settings.expiry().unwrap().unwrap();
        assert_eq!(expiry.days_left(mailferry::mail::WallTime::now()), 89);
        Clock::default().source(settings).token().await.unwrap();
    }
    let requests = endpoint.requests();
    let form = &requests[0].form;
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert!(!form.contains_key("client_secret"));
    let audience = format!("{}/contoso.com/oauth2/v2.0/token", endpoint.authority);
    let mut ids = Vec::new();
    for request in &requests {
        let parts: Vec<&str> = request.form["client_assertion"].split('.').collect();
        let decode = |p: &str| URL_SAFE_NO_PAD.decode(p).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&decode(parts[0])).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&decode(parts[1])).unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&"PS256".into(), &"JWT".into()));
        assert_eq!((&claims["iss"], &claims["sub"]), (&CLIENT_ID.into(), &CLIENT_ID.into()));
        assert_eq!(claims["aud"], audience.as_str());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), 600);
        ids.push(claims["jti"].clone());

        let (_, fingerprint) =
            openssl(&["x509", "-in", "cert.pem", "-noout", "-fingerprint", "-sha256"], &dir);
        let hex: String =
            decode(header["x5t#S256"].as_str().unwrap()).iter().map(|b| format!("{b:02X}")).collect();
        assert_eq!(fingerprint.trim().rsplit('=').next().unwrap().replace(':', ""), hex);

        let (_, public) = openssl(&["x509", "-in", "cert.pem", "-noout", "-pubkey"], &dir);
        std::fs::write(dir.join("public.pem"), public).unwrap();
        std::fs::write(dir.join("signature"), decode(parts[2])).unwrap();
        let verify = "dgst -sha256 -verify public.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest \
                      -signature signature signed";
        let verify: Vec<&str> = verify.split_whitespace().collect();
        std::fs::write(dir.join("signed"), format!("{}.{}", parts[0], parts[1])).unwrap();
        assert!(openssl(&verify, &dir).0, "the signature is not the certificate's");
        std::fs::write(dir.join("signed"), format!("{}.{}x", parts[0], parts[1])).unwrap();
        assert!(!openssl(&verify, &dir).0, "openssl takes anything: this test proves nothing");
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    if own_process::told().is_none() {
        return own_process::passes(own_process::command("token::no_secret_reaches_the_log", "alone")).await;
    }
    let log = Log::of_this_process();
    let quoted =
        serde_json::json!({"error": "invalid_client", "error_description": format!("{SECRET} is wrong")});
    let endpoint = TokenEndpoint::start([
        Step::Answer(401, "", quoted.to_string()),
        Step::Answer(200, "", format!("<html>{SECRET}</html>")),
        token("access-token-1"),
        Step::Answer(200, "", token_json("access-token-2", Some("refresh-2"))),
        refusal(400, "invalid_grant", 700_082),
    ])
    .await;
    let of_mine =
        |grant| Settings { mailbox: "logged@contoso.com".parse().unwrap(), ..settings(&endpoint, grant) };
    let source = Clock::default().logged(of_mine(secret()));
    for _ in 0..2 {
        assert!(source.token().await.is_err());
        source.probe();
    }
    let access = source.token().await.unwrap();
    source.invalidate(&access);
    let device = of_mine(device_code(&endpoint));
    RefreshStore::new(endpoint.directory.path(), &device.mailbox).save(&"refresh-1".into()).unwrap();
    for _ in 0..2 {
        let _ = Clock::default().logged(device.clone()).token().await;
    }
    let text = log.text();
    let mine: Vec<&str> = text.lines().filter(|l| l.contains("logged@contoso.com")).collect();
    for event in ["token_refused", "token_unavailable", "token_fetched", "token_rejected", "hint"] {
        assert!(
            mine.iter().any(|l| l.contains(&format!("event=\"{event}\""))),
            "{event} is missing: {mine:#?}"
        );
    }
    for word in [SECRET, "access-token", "refresh-1", "refresh-2"] {
        assert!(!text.contains(word), "{word} is in the log: {text}");
    }
}
