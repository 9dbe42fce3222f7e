//! Every key of the configuration, changed: what of it is handed out, and what is named.

use super::*;
use crate::config::{self, Env, known_keys};
use crate::fact::Witness;
use crate::mail::RelayTime;
use crate::submit::Way;
use crate::submit::smtp::{Login, Submission};
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Instant;

/// Every key once; where one excludes another, in an account of its own.
const BEFORE: &str = r#"
hostname = "relay.contoso.local"
[[listen]]
address = "127.0.0.1:2525"
tls = "starttls"
auth = "required"
certificate = "1.crt"
key = "1.key"
[receive]
max_message_size = "35 MiB"
max_recipients = 500
max_connections = 1000
max_connections_per_client = 50
idle_timeout = "10 min"
data_timeout = "5 min"
[[receive.users]]
name = "scanner-3"
password = { file = "1.secret" }
[[client]]
name = "printers"
from = ["10.0.5.0/24"]
account = "scanner@contoso.com"
allowed_recipients = ["*@contoso.com"]
max_message_size = "20 MiB"
max_connections = 10
messages_per_minute = 60
charset = "shift_jis"
line_endings = "crlf"
silent_after = "3 days"
[[account]]
mailbox = "scanner@contoso.com"
password = { file = "1.secret" }
login = "contoso\\scanner"
smarthost = "127.0.0.1:587"
tls = "starttls"
ca_file = "1.crt"
send_as = ["*@contoso.com"]
max_connections = 2
messages_per_minute = 25
recipients_per_day = 10000
connect_timeout = "30 s"
command_timeout = "5 min"
data_timeout = "10 min"
[[account]]
mailbox = "payroll@contoso.com"
senders = ["*@payroll.contoso.com"]
recipient_domains = ["partner.example"]
password = { file = "1.secret" }
fallback_until = "2036-12-31"
[account.oauth]
tenant = "contoso.com"
client_id = "11111111-2222-3333-4444-555555555555"
secret = { file = "1.secret" }
secret_expires = "2037-05-01"
cloud = "global"
authority = "https://login.contoso.com"
scope = "https://outlook.office365.com/.default"
ca_file = "1.crt"
[[account]]
mailbox = "certificate@contoso.com"
senders = ["certificate@contoso.com"]
[account.oauth]
tenant = "contoso.com"
client_id = "11111111-2222-3333-4444-555555555555"
token_url = "https://login.contoso.com/token"
certificate = "1.crt"
key = "1.key"
[[account]]
mailbox = "person@contoso.com"
senders = ["person@contoso.com"]
[account.oauth]
tenant = "contoso.com"
client_id = "11111111-2222-3333-4444-555555555555"
device_code = true
[queue]
directory = "queue"
min_free_space = "500 MiB"
keep_history = "30 days"
keep_dead = "30 days"
[retry]
delays = ["30 s", "1 min"]
account_delays = ["5 s", "10 s"]
hold_delays = ["1 min", "5 min"]
warn_after = "4 h"
expire_after = "5 days"
[notify]
to = ["it@contoso.com"]
[[notify.webhook]]
url = "https://hooks.contoso.com/1"
format = "json"
[notify.heartbeat]
url = "https://hc.contoso.com/1"
every = "5 min"
[control]
socket = "control.sock"
status_socket = "status.sock"
[network]
https_proxy = "http://127.0.0.1:3128"
no_proxy = ["contoso.local"]
[log]
format = "text"
"#;

/// What becomes of a new value.
#[derive(Debug, PartialEq)]
enum Then {
    /// A room is told.
    Taken,
    /// The process takes it: `tests/it/reload.rs`.
    TakenByTheProcess,
    /// It is named.
    Named,
}
use Then::{Named, Taken, TakenByTheProcess};

/// A key, the lines that change (it may need others to go with it), and what becomes of it.
type Key = (&'static str, &'static [(&'static str, &'static str)], Then);

const KEYS: &[Key] = &[
    ("hostname", &[("hostname", r#""mail.contoso.local""#)], Taken),
    ("listen.address", &[("listen.address", r#""127.0.0.1:2526""#)], Named),
    ("listen.tls", &[("listen.tls", r#""implicit""#)], Taken),
    ("listen.auth", &[("listen.auth", r#""any""#)], Taken),
    ("listen.certificate", &[("listen.certificate", r#""2.crt""#), ("listen.key", r#""2.key""#)], Taken),
    ("listen.key", &[("listen.certificate", r#""2.crt""#), ("listen.key", r#""2.key""#)], Taken),
    ("receive.max_message_size", &[("receive.max_message_size", r#""1 MiB""#)], Taken),
    ("receive.max_recipients", &[("receive.max_recipients", "7")], Taken),
    ("receive.max_connections", &[("receive.max_connections", "7")], Taken),
    ("receive.max_connections_per_client", &[("receive.max_connections_per_client", "7")], Taken),
    ("receive.idle_timeout", &[("receive.idle_timeout", r#""7 s""#)], Taken),
    ("receive.data_timeout", &[("receive.data_timeout", r#""7 s""#)], Taken),
    ("receive.users.name", &[("receive.users.name", r#""scanner-4""#)], Taken),
    ("receive.users.password", &[("receive.users.password", r#"{ file = "2.secret" }"#)], Taken),
    ("client.name", &[("client.name", r#""scanners""#)], Taken),
    ("client.from", &[("client.from", r#"["10.0.6.0/24"]"#)], Taken),
    ("client.account", &[("client.account", r#""person@contoso.com""#)], Taken),
    ("client.allowed_recipients", &[("client.allowed_recipients", r#"["*@a.example"]"#)], Taken),
    ("client.max_message_size", &[("client.max_message_size", r#""7 MiB""#)], Taken),
    ("client.max_connections", &[("client.max_connections", "7")], Taken),
    ("client.messages_per_minute", &[("client.messages_per_minute", "7")], Taken),
    ("client.charset", &[("client.charset", r#""koi8-r""#)], Taken),
    ("client.line_endings", &[("client.line_endings", r#""lf""#)], Taken),
    ("client.silent_after", &[("client.silent_after", r#""7 days""#)], Taken),
    (
        "account.mailbox",
        &[("account.mailbox", r#""copier@contoso.com""#), ("client.account", r#""person@contoso.com""#)],
        Taken,
    ),
    ("account.password", &[("account.password", r#"{ file = "2.secret" }"#)], Taken),
    ("account.login", &[("account.login", r#""someone""#)], Taken),
    ("account.smarthost", &[("account.smarthost", r#""127.0.0.2:465""#)], Taken),
    ("account.tls", &[("account.tls", r#""implicit""#)], Taken),
    ("account.ca_file", &[("account.ca_file", r#""both.crt""#)], Taken),
    ("account.send_as", &[("account.send_as", r#"["*@b.example"]"#)], Taken),
    ("account.senders", &[("account.senders", r#"["*@c.example"]"#)], Taken),
    ("account.recipient_domains", &[("account.recipient_domains", r#"["d.example"]"#)], Taken),
    ("account.max_connections", &[("account.max_connections", "1")], Taken),
    ("account.messages_per_minute", &[("account.messages_per_minute", "7")], Taken),
    ("account.recipients_per_day", &[("account.recipients_per_day", "7")], Taken),
    ("account.connect_timeout", &[("account.connect_timeout", r#""7 s""#)], Taken),
    ("account.command_timeout", &[("account.command_timeout", r#""7 s""#)], Taken),
    ("account.data_timeout", &[("account.data_timeout", r#""7 s""#)], Taken),
    ("account.fallback_until", &[("account.fallback_until", r#""2036-11-30""#)], Taken),
    ("account.oauth.tenant", &[("account.oauth.tenant", r#""fabrikam.com""#)], Taken),
    (
        "account.oauth.client_id",
        &[("account.oauth.client_id", r#""21111111-2222-3333-4444-555555555555""#)],
        Taken,
    ),
    ("account.oauth.secret", &[("account.oauth.secret", r#"{ file = "2.secret" }"#)], Taken),
    ("account.oauth.secret_expires", &[("account.oauth.secret_expires", r#""2037-06-01""#)], Taken),
    ("account.oauth.cloud", &[("account.oauth.cloud", r#""china""#)], Taken),
    ("account.oauth.authority", &[("account.oauth.authority", r#""https://sign-in.contoso.com""#)], Taken),
    ("account.oauth.token_url", &[("account.oauth.token_url", r#""https://sign-in.contoso.com/t""#)], Taken),
    ("account.oauth.scope", &[("account.oauth.scope", r#""https://partner.outlook.cn/.default""#)], Taken),
    ("account.oauth.ca_file", &[("account.oauth.ca_file", r#""2.crt""#)], Taken),
    (
        "account.oauth.certificate",
        &[("account.oauth.certificate", r#""2.crt""#), ("account.oauth.key", r#""2.key""#)],
        Taken,
    ),
    (
        "account.oauth.key",
        &[("account.oauth.certificate", r#""2.crt""#), ("account.oauth.key", r#""2.key""#)],
        Taken,
    ),
    (
        "account.oauth.device_code",
        &[("account.oauth.device_code", "false\nsecret = { file = \"1.secret\" }")],
        Taken,
    ),
    ("queue.directory", &[("queue.directory", r#""another""#)], Named),
    ("queue.min_free_space", &[("queue.min_free_space", r#""7 MiB""#)], Taken),
    ("queue.keep_history", &[("queue.keep_history", r#""7 days""#)], Taken),
    ("queue.keep_dead", &[("queue.keep_dead", r#""7 days""#)], Taken),
    ("retry.delays", &[("retry.delays", r#"["7 s"]"#)], Taken),
    ("retry.account_delays", &[("retry.account_delays", r#"["7 s"]"#)], Taken),
    ("retry.hold_delays", &[("retry.hold_delays", r#"["7 s"]"#)], Taken),
    ("retry.warn_after", &[("retry.warn_after", r#""7 h""#)], Taken),
    ("retry.expire_after", &[("retry.expire_after", r#""7 days""#)], Taken),
    ("notify.to", &[("notify.to", r#"["admin@contoso.com"]"#)], Taken),
    ("notify.webhook.url", &[("notify.webhook.url", r#""https://hooks.contoso.com/2""#)], Taken),
    ("notify.webhook.format", &[("notify.webhook.format", r#""teams""#)], Taken),
    ("notify.heartbeat.url", &[("notify.heartbeat.url", r#""https://hc.contoso.com/2""#)], Taken),
    ("notify.heartbeat.every", &[("notify.heartbeat.every", r#""7 min""#)], Taken),
    ("control.socket", &[("control.socket", r#""another.sock""#)], Named),
    ("control.status_socket", &[("control.status_socket", r#""other.sock""#)], Named),
    ("network.https_proxy", &[("network.https_proxy", r#""http://127.0.0.2:3128""#)], Taken),
    ("network.no_proxy", &[("network.no_proxy", r#"["fabrikam.local"]"#)], Taken),
    ("log.format", &[("log.format", r#""json""#)], TakenByTheProcess),
];

/// The files that a configuration here names.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        crate::files::replace(&directory.path().join(name), text.as_bytes()).unwrap();
    };
    let mut both = String::new();
    for n in ["1", "2"] {
        let (certificate, key) = pair();
        write(&format!("{n}.crt"), &certificate);
        write(&format!("{n}.key"), &key);
        write(&format!("{n}.secret"), n);
        both += &certificate;
    }
    write("both.crt", &both);
    directory
}

fn pair() -> (String, String) {
    // An assertion is signed with RSA.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["relay.contoso.local".to_owned()]).unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The text with another value for this key, where it first stands.
fn with(text: &str, key: &str, value: &str) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let (mut here, mut done) = (String::new(), false);
    let lines = text.lines().map(|line| {
        if line.starts_with('[') {
            here = line.trim_matches(['[', ']']).to_owned();
        }
        if !done && here == section && line.split(" = ").next() == Some(name) {
            done = true;
            return format!("{name} = {value}");
        }
        line.to_owned()
    });
    let text: Vec<String> = lines.collect();
    assert!(done, "{key} stands nowhere");
    text.join("\n")
}

fn try_settings(directory: &Path, text: &str) -> Result<Settings, Vec<config::Problem>> {
    let file = directory.join("mailferry.toml");
    std::fs::write(&file, text).unwrap();
    config::load(&file, &Env::new())
}

fn settings(directory: &Path, text: &str) -> Settings {
    try_settings(directory, text).unwrap_or_else(|p| panic!("{}\n{text}", p[0]))
}

fn clock() -> Clock {
    Clock::new(RelayTime::default(), Instant::now())
}

/// All that a room is told, as text; secrets and certificates by their content.
fn shown(it: &InForce) -> String {
    let InForce { listen, receive, dispatch, places, notify, keep, min_free_space_bytes } = it;
    let listen: Vec<String> = listen
        .iter()
        .map(|receive::Listen { address, tls, auth, certificate }| {
            let shown = certificate.as_ref().map(|config| config.cert_resolver.clone());
            format!("{address} {tls:?} {auth:?} {shown:?}")
        })
        .collect();
    let users: Vec<_> =
        receive.users.iter().map(|(name, password)| (name, password.expose_secret())).collect();
    let mailboxes: BTreeMap<_, _> = receive.mailboxes.iter().collect();
    let logins: Vec<_> = dispatch
        .accounts
        .iter()
        .filter_map(|a| match &submission(a).smart_host.login {
            Some(Login::Password { password, .. }) => Some(password.expose_secret()),
            _ => None,
        })
        .collect();
    let receive = receive::Settings { users: vec![], mailboxes: HashMap::new(), ..receive.clone() };
    let webhooks: Vec<_> = notify.webhooks.iter().map(|w| w.url.expose_secret()).collect();
    let heartbeat = notify.heartbeat.as_ref().map(|h| h.url.expose_secret());
    format!(
        "{notify:?} {webhooks:?} {heartbeat:?} {listen:?} {receive:?} {users:?} {mailboxes:?} {dispatch:?} {logins:?} {places:?} {keep:?} {min_free_space_bytes}"
    )
}

fn submission(account: &dispatch::Account) -> &Submission {
    let Way::Smtp(submission) = &account.way;
    submission
}

fn is_same(one: &InForce, other: &InForce) -> bool {
    let sources = |it: &InForce| -> Vec<_> {
        it.dispatch.accounts.iter().filter_map(|a| a.way.tokens().cloned()).collect()
    };
    let (a, b) = (sources(one), sources(other));
    shown(one) == shown(other) && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.is_same(b))
}

#[test]
fn every_key_is_taken_by_a_reload_or_named_as_waiting_for_a_restart() {
    let listed: BTreeSet<String> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(known_keys(), listed, "a key is new: say in KEYS what a reload makes of it");

    let directory = directory();
    std::fs::create_dir(directory.path().join("queue")).unwrap();
    let before = settings(directory.path(), BEFORE);
    let fixed = Fixed::of(&before);
    let in_force = |new: &Settings| InForce::of(&fixed.in_place(new), clock(), &Witness::nobody()).unwrap();
    let first = in_force(&before);
    assert!(is_same(&first, &in_force(&before)));
    assert!(fixed.waiting(&before).is_empty());

    for (key, changes, then) in KEYS {
        let text = changes.iter().fold(BEFORE.to_owned(), |text, (key, value)| with(&text, key, value));
        let new = settings(directory.path(), &text);
        let waiting = fixed.waiting(&new);
        assert_eq!(waiting, if *then == Named { vec![*key] } else { vec![] }, "{key}");
        let changed = !is_same(&first, &in_force(&new));
        assert!(changed || *then != Taken, "{key}: no room is told");
    }
}

#[test]
fn files_of_the_same_name_with_another_content_are_taken() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let before = settings(directory.path(), BEFORE);
    let one = InForce::of(&before, clock(), &Witness::nobody()).unwrap();
    for (names, by) in [
        (&["1.secret"] as &[&str], "2.secret"),
        (&["1.crt", "1.key"], "2"),
        // Authorities only: the pair above is the listener's and the application's, too.
        (&["1.crt"], "both.crt"),
    ] {
        let saved: Vec<Vec<u8>> = names.iter().map(|n| std::fs::read(path(n)).unwrap()).collect();
        for name in names {
            let from = if by == "2" { name.replace('1', "2") } else { by.to_owned() };
            std::fs::copy(path(&from), path(name)).unwrap();
        }
        let other = InForce::of(&settings(directory.path(), BEFORE), clock(), &Witness::nobody()).unwrap();
        for (a, b) in one.dispatch.accounts.iter().zip(&other.dispatch.accounts) {
            let same = match (a.way.tokens(), b.way.tokens()) {
                (Some(a), Some(b)) => a.is_same(b),
                _ => {
                    let trust = |a| format!("{:?}", submission(a).trust);
                    trust(a) == trust(b) && shown(&one) == shown(&other)
                }
            };
            let uses_a_file = a.id.as_str() != "person@contoso.com";
            let of_a_certificate_only = a.id.as_str() == "certificate@contoso.com" && names == ["1.secret"];
            assert_eq!(same, !uses_a_file || of_a_certificate_only, "{} {names:?}", a.id);
        }
        for (name, content) in names.iter().zip(saved) {
            std::fs::write(path(name), content).unwrap();
        }
    }
}

#[test]
fn a_new_queue_directory_leaves_what_is_in_the_old_one_in_use() {
    let directory = directory();
    let before = settings(directory.path(), BEFORE);
    let new = settings(directory.path(), &with(BEFORE, "queue.directory", r#""another""#));
    let fixed = Fixed::of(&before);
    let (one, other) = (
        InForce::of(&before, clock(), &Witness::nobody()).unwrap(),
        InForce::of(&fixed.in_place(&new), clock(), &Witness::nobody()).unwrap(),
    );
    assert!(is_same(&one, &other), "a sign-in by device code is looked for where it is");
}

#[test]
fn a_file_that_cannot_be_used_any_more_is_told_and_nothing_is_made_ready() {
    let directory = directory();
    let before = settings(directory.path(), BEFORE);
    for (name, content) in
        [("1.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ("1.key", "")]
    {
        let path = directory.path().join(name);
        let saved = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let made = try_settings(directory.path(), BEFORE).is_ok();
        assert!(!made, "{name}");
        // Certificates and keys were read with the configuration, authorities are read here.
        assert_eq!(InForce::of(&before, clock(), &Witness::nobody()).is_err(), name == "1.crt", "{name}");
        std::fs::write(&path, saved).unwrap();
    }
    InForce::of(&before, clock(), &Witness::nobody()).unwrap();
}
