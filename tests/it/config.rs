//! The configuration from an admin's side: what the file may say, and what is said about a file that is wrong.

use mailferry::config::{self, Env, Problem, Settings};
use mailferry::logs::Format;
use mailferry::policy::admission::{Client, Clients};
use mailferry::receive;
use mailferry::submit::smtp::Login;
use mailferry::tls::Trust;
use mailferry::token::{self, Grant};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

const LISTEN: &str = "[[listen]]\naddress = \"127.0.0.1:25\"\n";
const CLIENT: &str = "[[client]]\nfrom = [\"10.0.5.0/24\"]\n";
const ACCOUNT: &str = "[[account]]\nmailbox = \"scanner@contoso.com\"\npassword = { env = \"PW\" }\n";

fn env(pairs: &[(&str, &str)]) -> Env {
    // Without anybody to tell there is a warning, which is not of interest everywhere.
    [("PW", "123456"), ("MAILFERRY__NOTIFY__TO", "it@contoso.com")]
        .iter()
        .chain(pairs)
        .map(|(k, v)| ((*k).to_owned(), (*v).into()))
        .collect()
}

/// Every problem with the place of the file cut off its front, its hint behind a bar.
fn problems(text: &str, env: &Env) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mailferry.toml");
    fs::write(&path, text).unwrap();
    let problems = match config::load(&path, env) {
        Ok(settings) => settings.warnings,
        Err(problems) => problems,
    };
    let here = format!("{}/", dir.path().display());
    problems.iter().map(|p| said(p).replace(&here, "")).collect()
}

/// The problem, its hint behind a bar.
fn said(problem: &Problem) -> String {
    problem.hint.as_ref().map_or(problem.to_string(), |hint| format!("{problem} | {hint}"))
}

fn load(text: &str, env: &Env) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mailferry.toml");
    fs::write(&path, text).unwrap();
    config::load(&path, env).unwrap_or_else(|p| panic!("{}", p[0]))
}

fn clients(s: &Settings) -> Vec<&Client> {
    s.receive.clients.all().collect()
}

/// User name and password of the first account.
fn first_login(s: &Settings) -> (String, String) {
    match s.accounts[0].smart_host.login.as_ref() {
        Some(Login::Password { user, password }) => (user.clone(), password.expose_secret().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_listener_one_network_and_one_account_are_enough() {
    let s = load(&format!("{LISTEN}{CLIENT}{ACCOUNT}"), &env(&[]));
    assert_eq!(s.listen[0].address.to_string(), "127.0.0.1:25");
    assert_eq!(clients(&s)[0].name.as_str(), "10.0.5.0/24");
    assert_eq!(s.accounts[0].smart_host.host, "smtp.office365.com");
    assert_eq!(s.accounts[0].smart_host.port, 587);
    assert_eq!(s.accounts[0].smart_host.ehlo_name, s.hostname);
    assert_eq!(first_login(&s), ("scanner@contoso.com".to_owned(), "123456".to_owned()));
    assert_eq!(s.receive.routes.default.as_str(), "scanner@contoso.com");
    assert_eq!(s.receive.max_message_size_bytes, 35 << 20);
    assert_eq!((s.accounts[0].pace.max_connections, s.accounts[0].pace.messages_per_minute), (2, 25));
    assert_eq!(s.retry.delays.len(), 7);
    assert_eq!(s.retry.expire_after, Duration::from_secs(5 * 86_400));
    assert_eq!(s.sockets.control, Path::new("/run/mailferry/control.sock"));
    assert_eq!(s.log, Format::Auto);
    assert!(s.warnings.is_empty());
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let text = "\
hostnme = \"x\"
[[listen]]
address = \"25\"
tls = \"on\"
[receive]
max_message_size = 0
idle_timeout = 10
max_recipients = \"many\"
[[client]]
acount = \"a@b.example\"
from = [\"10.0.5.0/24\",
        \"10.0.5.0/33\"]
[[account]]
mailbox = \"scanner\"
password = \"hunter2\"
messages_per_minute = 0
[retry]
delays = []
warn_after = \"6 days\"
[control]
page = \"127.0.0.1:8025\"
[quue]
";
    assert_eq!(
        problems(text, &env(&[])),
        [
            "mailferry.toml:1:1: hostnme: unknown key | did you mean `hostname`?",
            "mailferry.toml:3:1: listen.address: \"25\": is a port without an address | write \"0.0.0.0:25\" for every address",
            "mailferry.toml:4:1: listen.tls: \"on\" is not one of \"off\", \"starttls\", \"implicit\"",
            "mailferry.toml:6:1: receive.max_message_size: must be more than nothing | for example \"35 MiB\"",
            "mailferry.toml:7:1: receive.idle_timeout: has no unit | for example \"30 s\", \"5 min\", \"4 h\" or \"5 days\"",
            "mailferry.toml:8:1: receive.max_recipients: must be a whole number | without quotes, for example 50",
            "mailferry.toml:10:1: client.acount: unknown key | did you mean `account`?",
            "mailferry.toml:12:9: client.from: \"10.0.5.0/33\": is not a network | behind the slash stands how many bits are fixed: 24 in \"10.0.5.0/24\"",
            "mailferry.toml:14:1: account.mailbox: \"scanner\": not an address: expected name@domain | for example \"scanner@contoso.com\"",
            "mailferry.toml:15:1: account.password: a secret does not belong into this file | write { file = \"/path\" }, { credential = \"name\" } (systemd) or { env = \"NAME\" }",
            "mailferry.toml:16:1: account.messages_per_minute: is out of range | from 1 to 1000000",
            "mailferry.toml:18:1: retry.delays: is empty | at least one delay; the last one repeats",
            "mailferry.toml:19:1: retry.warn_after: the warning after 6days would come later than the end after 5days | make warn_after shorter than expire_after",
            "mailferry.toml:21:1: control.page: unknown key | keys that may stand here: socket, status_socket",
            "mailferry.toml:22:2: quue: unknown key | did you mean `queue`?",
        ]
    );
}

#[test]
fn a_file_that_is_not_toml_or_not_there_says_so() {
    assert_eq!(
        problems("[[listen]]\naddress = 127.0.0.1:25\n", &env(&[])).first().map(String::as_str),
        Some(
            "mailferry.toml:2:1: the value stands without quotes | a text stands in quotes: address = \"...\""
        )
    );
    let missing = config::load(Path::new("/nonexistent/m.toml"), &env(&[])).unwrap_err();
    assert_eq!(
        said(&missing[0]),
        "/nonexistent/m.toml: cannot read the configuration: no such file | name another file with --config"
    );
    for text in ["\"queue.directory\" = \"/x\"", "\"account[999999999999]\" = 1"] {
        assert_eq!(problems(text, &env(&[])).len(), 1, "{text}: a quoted key is no path");
    }
    let variable = problems("", &env(&[("MAILFERRY__ACCOUNT[999999999999]__LOGIN", "x")]));
    assert_eq!(variable, ["environment MAILFERRY__ACCOUNT[999999999999]__LOGIN: no key is named like that"]);
    assert_eq!(
        problems("", &env(&[])),
        [
            "mailferry.toml: account: mail has no way out | add [[account]] with mailbox and password",
            "mailferry.toml: client: nobody may relay | add [[client]] with from = [\"10.0.5.0/24\"]",
            "mailferry.toml: listen: nothing listens | add [[listen]] with address = \"0.0.0.0:25\"",
        ]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_cannot_go_together_is_refused_and_what_is_hardly_meant_is_pointed_out() {
    let second = ACCOUNT.replace("scanner", "payroll");
    // What is added to a working file of seven lines, and what is said about it.
    for (added, said) in [
        (
            "[[listen]]\naddress = \"0.0.0.0:25\"\n".to_owned(),
            "mailferry.toml:9:1: listen.address: 0.0.0.0:25 is already taken by another listener | remove one of them",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:26\"\nauth = \"required\"\ntls = \"starttls\"\n".to_owned(),
            "mailferry.toml:9:1: listen.auth: a login is required, and there are no users | add [[receive.users]] with name and password, or set auth = \"any\"",
        ),
        (
            "[[client]]\nname = \"b\"\nfrom = [\"10.0.5.0/24\"]\n".to_owned(),
            "mailferry.toml:10:9: client.from: 10.0.5.0/24 already belongs to client \"10.0.5.0/24\" | remove it from one of them",
        ),
        (
            "[[client]]\nname = \"b\"\nfrom = [\"::ffff:10.0.5.0/120\"]\n".to_owned(),
            "mailferry.toml:10:9: client.from: 10.0.5.0/24 already belongs to client \"10.0.5.0/24\" | remove it from one of them",
        ),
        (
            "[[listen]]\naddress = \"[::ffff:127.0.0.1]:25\"\n".to_owned(),
            "mailferry.toml:9:1: listen.address: [::ffff:127.0.0.1]:25 is already taken by another listener | remove one of them",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:26\"\nauth = \"any\"\ntls = \"starttls\"\n".to_owned(),
            "mailferry.toml:10:1: warning: listen.auth: a login is taken inside TLS only, so devices that log in without it are refused | give devices that cannot do TLS a [[listen]] of their own with tls = \"off\"",
        ),
        (
            "[receive]\nmax_connections = 50\n".to_owned(),
            "mailferry.toml:9:1: warning: receive.max_connections: one device can take every connection there is | make max_connections in [receive] several times what one may have",
        ),
        (
            "[receive]\nmax_connections_per_client = 1000\n".to_owned(),
            "mailferry.toml:9:1: warning: receive.max_connections_per_client: one device can take every connection there is | make max_connections in [receive] several times what one may have",
        ),
        (
            "[[client]]\nname = \"b\"\nfrom = [\"10.9.0.1\"]\nmax_connections = 1000\n".to_owned(),
            "mailferry.toml:9:1: warning: client.max_connections: one device can take every connection there is | make max_connections in [receive] several times what one may have",
        ),
        (
            "[[client]]\nfrom = [\"0.0.0.0/0\"]\n".to_owned(),
            "mailferry.toml:9:9: warning: client.from: 0.0.0.0/0 lets the whole world relay through this mailbox | name the networks of the devices only",
        ),
        (
            "[[client]]\nfrom = [\"10.0.6.7/24\"]\n".to_owned(),
            "mailferry.toml:9:9: warning: client.from: 10.0.6.7/24 means the whole network 10.0.6.0/24 | write \"10.0.6.0/24\" for the network, or \"10.0.6.7\" for the one device",
        ),
        (
            "[[client]]\nfrom = [\"10.9.0.1\"]\naccount = \"nobody@contoso.com\"\n".to_owned(),
            "mailferry.toml:10:1: client.account: there is no account \"nobody@contoso.com\" | accounts go by their mailbox: scanner@contoso.com",
        ),
        (
            second.clone(),
            "mailferry.toml:9:1: account: scanner@contoso.com and payroll@contoso.com would both be the default | give one of them senders = [..] or recipient_domains = [..], or name it in a client's account",
        ),
        (
            ACCOUNT.to_owned(),
            "mailferry.toml:9:1: account.mailbox: there is another account scanner@contoso.com | remove one of them",
        ),
        (
            format!("{second}senders = [\"a@b.example\"]\nsmarthost = \"mail.example.net:25\"\ntls = \"off\"\n"),
            "mailferry.toml:13:1: account.tls: a password never leaves in the clear | set tls = \"starttls\" or \"implicit\", or remove the password",
        ),
        (
            "[[account]]\nmailbox = \"b@contoso.com\"\nsenders = [\"b@contoso.com\"]\n".to_owned(),
            "mailferry.toml:8:1: account.password: is missing | Exchange Online takes mail only from a mailbox that logs in: set [account.oauth], or password = { file = \"/etc/mailferry/scanner.password\" }",
        ),
        (
            "[[account]]\nmailbox = \"b@contoso.com\"\nsenders = [\"*@b.example\"]\nsmarthost = \"mail.example.net\"\n".to_owned(),
            "mailferry.toml:11:1: account.smarthost: \"mail.example.net\": has no port | write \"mail.example.net:587\"",
        ),
        (
            "[queue]\nmax_message_size = \"1 MiB\"\n".to_owned(),
            "mailferry.toml:9:1: queue.max_message_size: unknown key | `max_message_size` belongs in [client] or [receive]",
        ),
        (
            "hostname = \"under_account\"\n".to_owned(),
            "mailferry.toml:8:1: account.hostname: unknown key | `hostname` belongs in the top of the file, before the first section",
        ),
        (
            "ca_file = \"/nonexistent/ca.crt\"\n".to_owned(),
            "mailferry.toml:8:1: account.ca_file: cannot use /nonexistent/ca.crt: no such file | a PEM file with -----BEGIN CERTIFICATE-----",
        ),
        (
            "login = \"someone\"\nmessages_per_minute = 120\n".to_owned(),
            "mailferry.toml:9:1: warning: account.messages_per_minute: 120 is more than the 30 Exchange Online allows a mailbox",
        ),
        (
            "tls = \"implicit\"\n".to_owned(),
            "mailferry.toml:8:1: account.tls: Exchange Online speaks only STARTTLS | remove tls, and use port 587",
        ),
        (
            "[account]\nmailbox = \"x@y.example\"\n".to_owned(),
            "mailferry.toml:8:1: [account] stands twice, first in line 5 | there can be several of these: write [[account]], with two brackets, for each of them",
        ),
        ("[log]\nformat = \"syslog\"\n".to_owned(),
            "mailferry.toml:9:1: log.format: \"syslog\" is not one of \"auto\", \"text\", \"json\", \"journald\""),
        (
            "[[notify.webhook]]\nformat = \"slack\"\n".to_owned(),
            "mailferry.toml:8:1: notify.webhook.url: is missing | for example url = \"https://hooks.contoso.com/mailferry\"",
        ),
        (
            "[[notify.webhook]]\nurl = \"hooks.contoso.com\"\n".to_owned(),
            "mailferry.toml:9:1: notify.webhook.url: is not the address of a web service | for example \"https://hooks.contoso.com/mailferry\"",
        ),
        (
            "[[notify.webhook]]\nurl = \"http://hooks.contoso.com/s3cret\"\n".to_owned(),
            "mailferry.toml:9:1: warning: notify.webhook.url: goes in the clear: whoever listens can tell lies there | use https://",
        ),
        (
            "[notify.heartbeat]\nurl = \"https://hc.example/1\"\nevery = \"1 s\"\n".to_owned(),
            "mailferry.toml:10:1: notify.heartbeat.every: is too often | at least \"10 s\"",
        ),
        (
            "[network]\nhttps_proxy = \"http://me:s3cret@proxy:3128\"\n".to_owned(),
            "mailferry.toml:9:1: network.https_proxy: a login does not belong into this file | put the whole address into a file: https_proxy = { file = \"/etc/mailferry/proxy\" }",
        ),
        (
            "[network]\nhttps_proxy = \"proxy:3128\"\n".to_owned(),
            "mailferry.toml:9:1: network.https_proxy: not the address of a proxy: expected http://host:port | https_proxy = \"http://proxy.contoso.local:3128\"",
        ),
        ("[notify]\nto = \"it@contoso.com\"\n".to_owned(),
            "mailferry.toml:9:1: notify.to: must be a list | write [ ] around it, even if there is only one"),
    ] {
        let mut env = env(&[]);
        if added.contains("[notify]") {
            env.remove("MAILFERRY__NOTIFY__TO");
        }
        let said_of = problems(&format!("{LISTEN}{CLIENT}{ACCOUNT}{added}"), &env);
        assert_eq!(said_of.first().map(String::as_str), Some(said), "{added}\n{said_of:#?}");
    }
}

#[test]
fn an_account_that_a_client_names_needs_no_conditions() {
    let second = ACCOUNT.replace("scanner", "payroll");
    let client = "[[client]]\nfrom = [\"10.0.9.1\"]\naccount = \"Payroll@contoso.com\"\n";
    let s = load(&format!("{LISTEN}{CLIENT}{client}{second}{ACCOUNT}"), &env(&[]));
    assert_eq!(s.receive.routes.default.as_str(), "scanner@contoso.com");
    assert_eq!(s.receive.routes.routes.len(), 1);
}

#[test]
fn logins_need_users() {
    let listen = "[[listen]]\naddress = \"127.0.0.1:25\"\nauth = \"required\"\n";
    assert_eq!(
        problems(&format!("{listen}{CLIENT}{ACCOUNT}"), &env(&[])),
        [
            "mailferry.toml:2:1: listen.auth: a login is required, and there are no users | add [[receive.users]] with name and password, or set auth = \"any\"",
            "mailferry.toml:3:1: warning: listen.auth: passwords cross the network in the clear | set tls = \"starttls\", if the devices can do it",
        ]
    );
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_the_same_way() {
    let text = format!("{LISTEN}{CLIENT}{ACCOUNT}");
    let s = load(
        &text,
        &env(&[
            ("MAILFERRY__HOSTNAME", "relay.contoso.local"),
            ("MAILFERRY__RECEIVE__MAX_RECIPIENTS", "7"),
            ("MAILFERRY__RETRY__DELAYS", "1 s, 2 s"),
            ("MAILFERRY__ACCOUNT__0__MAILBOX", "other@contoso.com"),
            ("MAILFERRY__ACCOUNT__0__PASSWORD", "0012"),
            ("MAILFERRY__CLIENT__1__FROM", "10.0.6.0/24,10.0.7.0/24"),
            ("MAILFERRY_UNRELATED", "x"),
        ]),
    );
    assert_eq!((s.hostname.as_str(), s.receive.max_recipients), ("relay.contoso.local", 7));
    assert_eq!(s.retry.delays, [Duration::from_secs(1), Duration::from_secs(2)]);
    assert_eq!(s.accounts[0].id.as_str(), "other@contoso.com");
    assert_eq!(clients(&s)[1].networks.len(), 2);
    let password = first_login(&s).1;
    assert_eq!(password, "0012", "never guessed into a number");

    assert_eq!(
        problems(
            &text,
            &env(&[
                ("MAILFERRY__QUEUE__DIRECTRY", "/x"),
                ("MAILFERRY__RECEIVE__MAX_RECIPIENTS", "many"),
                ("MAILFERRY__CLIENT__3__NAME", "x"),
                ("MAILFERRY__CLIENT__999__NAME", "x"),
            ])
        ),
        ["environment MAILFERRY__CLIENT__999__NAME: there can be no entry 999; they count from 0"]
    );
    assert_eq!(
        problems(
            &text,
            &env(&[("MAILFERRY__QUEUE__DIRECTRY", "/x"), ("MAILFERRY__RECEIVE__MAX_RECIPIENTS", "many")])
        ),
        [
            "environment MAILFERRY__QUEUE__DIRECTRY: queue.directry: unknown key | did you mean `directory`?",
            "environment MAILFERRY__RECEIVE__MAX_RECIPIENTS: receive.max_recipients: is out of range | from 1 to 1000000",
        ]
    );
}

#[test]
fn secrets_come_from_files_credentials_and_variables_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("good", "topsecret\n", 0o600);
    write("group", "topsecret\r\n", 0o640);
    write("open", "topsecret", 0o644);
    write("empty", "\n", 0o600);
    write("lines", "topsecret\nmore\n", 0o600);
    let at = dir.path().display().to_string();
    let env = env(&[("CREDENTIALS_DIRECTORY", &at), ("EMPTY", "")]);
    for (password, said) in [
        (format!("{{ file = \"{at}/good\" }}"), None),
        (format!("{{ file = \"{at}/group\" }}"), None),
        ("{ credential = \"good\" }".to_owned(), None),
        (
            format!("{{ file = \"{at}/open\" }}"),
            Some(format!("mailferry.toml:7:1: warning: account.password: {at}/open is open to others (mode 644) | chmod 600 {at}/open")),
        ),
        (format!("{{ file = \"{at}/empty\" }}"), Some("mailferry.toml:7:1: account.password: the secret is empty".to_owned())),
        (
            format!("{{ file = \"{at}/lines\" }}"),
            Some("mailferry.toml:7:1: account.password: the secret has several lines | one line, nothing else".to_owned()),
        ),
        (
            format!("{{ file = \"{at}/none\" }}"),
            Some(format!("mailferry.toml:7:1: account.password: cannot read {at}/none: no such file | the file must be there, and the service's user must be able to read it")),
        ),
        (
            "{ credential = \"../good\" }".to_owned(),
            Some("mailferry.toml:7:14: account.password.credential: is not the name of a credential | the name in LoadCredential=name:/path".to_owned()),
        ),
        (
            "{ env = \"NOT_SET\" }".to_owned(),
            Some("mailferry.toml:7:1: account.password: environment variable NOT_SET is not set | set it for the service".to_owned()),
        ),
        ("{ env = \"EMPTY\" }".to_owned(), Some("mailferry.toml:7:1: account.password: the secret is empty".to_owned())),
        (
            "{ env = \"PW\", file = \"x\" }".to_owned(),
            Some("mailferry.toml:7:1: account.password: needs exactly one of file, credential and env | write { file = \"/path\" }, { credential = \"name\" } (systemd) or { env = \"NAME\" }".to_owned()),
        ),
    ] {
        let account = format!("[[account]]\nmailbox = \"scanner@contoso.com\"\npassword = {password}\n");
        let text = format!("{LISTEN}{CLIENT}{account}");
        assert_eq!(problems(&text, &env), said.clone().into_iter().collect::<Vec<_>>(), "{password}");
        if said.is_none() {
            let settings = load(&text, &env);
            assert_eq!(first_login(&settings).1, "topsecret");
            assert!(!format!("{settings:?}").contains("topsecret"));
        }
    }
}

/// What `oauth = { .. }` and the account's other lines bring.
fn oauth_problems(there: &Path, oauth: &str, more: &str) -> Vec<String> {
    let there = format!("{}/", there.display());
    let account = format!("[[account]]\nmailbox = \"scanner@contoso.com\"\noauth = {{ {oauth} }}\n{more}");
    let text = format!("{LISTEN}{CLIENT}{account}").replace("/etc/mailferry/", &there);
    problems(&text, &env(&[])).iter().map(|p| p.replace(&there, "/etc/mailferry/")).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn oauth_has_one_credential_and_every_mistake_in_it_names_its_key() {
    const APP: &str = "tenant = \"contoso.com\", client_id = \"11111111-2222-3333-4444-555555555555\"";
    let dir = secrets();
    let check = |oauth: &str, more: &str| oauth_problems(dir.path(), oauth, more);
    for oauth in [
        "secret = { env = \"PW\" }, secret_expires = \"2027-05-01\"",
        "certificate = \"/etc/mailferry/scanner.crt\", key = \"/etc/mailferry/scanner.key\"",
        "device_code = true",
        "device_code = true, cloud = \"gcc-high\"",
    ] {
        assert_eq!(check(&format!("{APP}, {oauth}"), ""), [""; 0], "{oauth}");
    }
    let one = "mailferry.toml:7:1: account.oauth: needs exactly one of secret, certificate (with key) and device_code | set secret = { file = \"/etc/mailferry/scanner.secret\" }";
    for (oauth, said) in [
        (APP.to_owned(), one),
        (format!("{APP}, device_code = false"), one),
        (format!("{APP}, device_code = true, secret = {{ env = \"PW\" }}"), one),
        (
            "client_id = \"11111111-2222-3333-4444-555555555555\", device_code = true".to_owned(),
            "mailferry.toml:7:1: account.oauth.tenant: is missing | the Directory (tenant) ID on the app's overview page",
        ),
        (
            "tenant = \"a/b\", client_id = \"11111111-2222-3333-4444-555555555555\", device_code = true"
                .to_owned(),
            "mailferry.toml:7:11: account.oauth.tenant: not a tenant | the Directory (tenant) ID on the app's overview page, or a domain such as contoso.com",
        ),
        (
            format!("{APP}, secret = \"hunter2\""),
            "mailferry.toml:7:87: account.oauth.secret: a secret does not belong into this file | write { file = \"/path\" }, { credential = \"name\" } (systemd) or { env = \"NAME\" }",
        ),
        (
            format!("{APP}, certificate = \"/etc/mailferry/scanner.crt\""),
            "mailferry.toml:7:1: account.oauth.key: is missing | certificate stands alone: name both, PEM files",
        ),
        (
            format!("{APP}, certificate = \"/etc/mailferry/relay.crt\", key = \"/etc/mailferry/relay.key\""),
            "not an RSA key",
        ),
        (
            format!("{APP}, device_code = true, secret_expires = \"2027-05-01\""),
            "is for a secret, and there is none",
        ),
        (
            format!("{APP}, secret = {{ env = \"PW\" }}, secret_expires = \"May 2027\""),
            "account.oauth.secret_expires: \"May 2027\": is not a date | for example \"2027-05-01\"",
        ),
        (
            format!("{APP}, device_code = true, authority = \"http://login.example\""),
            "account.oauth.authority: must begin with https:// | secrets are sent there: use https",
        ),
        (
            format!("{APP}, device_code = \"yes\""),
            "account.oauth.device_code: must be true or false | without quotes: device_code = true",
        ),
        (
            format!("{APP}, device_code = true, cloud = \"mars\""),
            "account.oauth.cloud: \"mars\" is not one of \"global\", \"gcc-high\", \"china\"",
        ),
        (
            format!("{APP}, devicecode = true"),
            "account.oauth.devicecode: unknown key | did you mean `device_code`?",
        ),
    ] {
        let found = check(&oauth, "");
        assert!(found.iter().any(|p| p.contains(said)), "{oauth}\n{found:#?}");
        assert!(!found.iter().any(|p| p.contains("hunter2")), "{found:?}");
    }
    assert_eq!(
        problems(&format!("{LISTEN}{CLIENT}{ACCOUNT}fallback_until = 2026-12-31\n"), &env(&[])),
        [
            "mailferry.toml:8:1: account.fallback_until: is a date without quotes | write it as a text: \"2026-12-31\""
        ]
    );
}

#[test]
fn a_password_beside_oauth_is_for_a_time_only() {
    const APP: &str =
        "tenant = \"contoso.com\", client_id = \"11111111-2222-3333-4444-555555555555\", device_code = true";
    let dir = secrets();
    let check = |more: &str| oauth_problems(dir.path(), APP, more);
    let password = "password = { env = \"PW\" }\n";
    assert_eq!(check(&format!("{password}fallback_until = \"2026-12-31\"\n")), [""; 0]);
    assert_eq!(
        check(password),
        [
            "mailferry.toml:5:1: warning: account.fallback_until: is missing: the password is never used beside oauth | set fallback_until = \"2026-12-31\", or remove the password"
        ]
    );
    assert_eq!(
        check("fallback_until = \"2026-12-31\"\n"),
        [
            "mailferry.toml:8:1: account.fallback_until: needs a password to fall back on | set password, or remove fallback_until"
        ]
    );
    assert_eq!(
        problems(&format!("{LISTEN}{CLIENT}{ACCOUNT}fallback_until = \"2026-12-31\"\n"), &env(&[])),
        [
            "mailferry.toml:8:1: account.fallback_until: is for accounts with oauth | remove it: without oauth the password is what is used"
        ]
    );
    assert!(
        check("tls = \"off\"\nsmarthost = \"127.0.0.1:25\"\n")[0]
            .contains("a token never leaves in the clear")
    );
}

#[test]
fn the_cloud_names_the_smart_host() {
    for (cloud, host) in [
        ("global", "smtp.office365.com"),
        ("gcc-high", "smtp.office365.us"),
        ("china", "smtp.partner.outlook.cn"),
    ] {
        let account = format!(
            "[[account]]\nmailbox = \"scanner@contoso.com\"\n[account.oauth]\ntenant = \"contoso.com\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\ncloud = \"{cloud}\"\nsecret = {{ env = \"PW\" }}\n"
        );
        let s = load(&format!("{LISTEN}{CLIENT}{account}"), &env(&[]));
        assert_eq!((s.accounts[0].smart_host.host.as_str(), s.accounts[0].smart_host.port), (host, 587));
        let oauth = s.accounts[0].oauth.as_ref().unwrap();
        assert!(matches!(oauth.token.grant, Grant::Secret(_)) && s.accounts[0].smart_host.login.is_none());
    }
}

#[test]
fn one_bracket_where_two_belong_is_explained() {
    let text = format!("{LISTEN}{}{ACCOUNT}", CLIENT.replace("[[", "[").replace("]]", "]"));
    assert_eq!(
        problems(&text, &env(&[])),
        [
            "mailferry.toml:3:2: client: there can be several of these | write [[client]], with two brackets, for each of them",
        ]
    );
}

#[test]
fn a_host_name_is_checked_wherever_it_comes_from() {
    for (name, what, example) in [
        ("10.0.0.1", "is an address, and not a host name", "relay.contoso.local"),
        ("under_score", "has an underscore in it, so it is not a host name", "under-score"),
        ("-x", "is not a host name", "relay.contoso.local"),
        ("a..b", "is not a host name", "relay.contoso.local"),
        ("relay.contoso.local.", "is not a host name", "relay.contoso.local"),
        ("", "is not a host name", "relay.contoso.local"),
    ] {
        let text = format!("hostname = \"{name}\"\n{LISTEN}{CLIENT}{ACCOUNT}");
        assert_eq!(
            problems(&text, &env(&[])),
            [format!("mailferry.toml:1:1: hostname: \"{name}\": {what} | for example \"{example}\"")]
        );
    }
}

#[test]
fn tls_without_a_certificate_is_left_to_the_relay_and_half_a_pair_is_a_mistake() {
    let ours = secrets();
    let listener = |more: &str| {
        format!("[[listen]]\naddress = \"127.0.0.1:465\"\ntls = \"implicit\"\n{more}{CLIENT}{ACCOUNT}")
    };
    assert!(load(&listener(""), &env(&[])).listen[0].certificate.is_none());
    let half = format!("certificate = \"{}\"\n", ours.path().join("relay.crt").display());
    assert_eq!(
        problems(&listener(&half), &env(&[])),
        [
            "mailferry.toml:1:1: listen.key: is missing | certificate and key go together, both PEM files; without either, the relay makes its own"
        ]
    );
}

#[test]
fn a_certificate_needs_its_own_key() {
    let (ours, theirs) = (secrets(), secrets());
    let listener = |key: &Path| {
        let crt = ours.path().join("relay.crt");
        format!(
            "[[listen]]\naddress = \"127.0.0.1:465\"\ntls = \"implicit\"\ncertificate = \"{}\"\nkey = \"{}\"\n{CLIENT}{ACCOUNT}",
            crt.display(),
            key.join("relay.key").display()
        )
    };
    assert_eq!(problems(&listener(ours.path()), &env(&[])), [""; 0]);
    assert_eq!(
        problems(&listener(theirs.path()), &env(&[])),
        [
            "mailferry.toml:5:1: listen.key: is not the key of the certificate | they must be made together; the chain begins with our own"
        ]
    );
}

/// A certificate with an RSA key, as an app registration takes it, both PEM. Made once: that takes a moment.
static RSA: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let params = rcgen::CertificateParams::new(vec!["relay.contoso.local".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
});

/// A directory with everything the samples name.
fn secrets() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["relay.contoso.local".to_owned()]).unwrap();
    let rsa = &*RSA;
    for (name, text) in [
        ("scanner.password", "secret\n".to_owned()),
        ("payroll.password", "secret\n".to_owned()),
        ("scanner.secret", "secret\n".to_owned()),
        ("scanner.crt", rsa.0.clone()),
        ("scanner.key", rsa.1.clone()),
        ("scanner-3.password", "secret\n".to_owned()),
        ("smarthost.password", "secret\n".to_owned()),
        ("relay.crt", signed.cert.pem()),
        ("ca.crt", signed.cert.pem()),
        ("relay.key", signed.signing_key.serialize_pem()),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    fs::read_to_string(path).unwrap()
}

#[test]
fn every_sample_is_a_working_configuration() {
    let dir = secrets();
    let there = format!("{}/", dir.path().display());
    for name in [
        "mailferry.toml",
        "examples/one-printer-network.toml",
        "examples/two-mailboxes.toml",
        "examples/another-smart-host.toml",
        "examples/oauth.toml",
    ] {
        let text = sample(name).replace("/etc/mailferry/", &there);
        let env = env(&[("CREDENTIALS_DIRECTORY", &there)]);
        assert_eq!(problems(&text, &env), [""; 0], "{name}");
        load(&text, &env);
    }
}

/// `config/mailferry.toml` with everything that is commented out set.
fn every_key() -> String {
    let is_setting = |l: &str| l.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    sample("mailferry.toml")
        .lines()
        .map(|l| l.strip_prefix('#').filter(|l| is_setting(l)).unwrap_or(l))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_known() {
    fn walk(value: &toml::Value, above: &str, keys: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(_) if above.ends_with("password") || above.ends_with(".secret") => {
                _ = keys.insert(above.to_owned());
            }
            toml::Value::Table(t) => {
                for (k, v) in t {
                    let key = if above.is_empty() { k.clone() } else { format!("{above}.{k}") };
                    walk(v, &key, keys);
                }
            }
            toml::Value::Array(a) if a.iter().any(toml::Value::is_table) => {
                a.iter().for_each(|v| walk(v, above, keys));
            }
            _ => _ = keys.insert(above.to_owned()),
        }
    }
    let mut documented = BTreeSet::new();
    walk(&toml::Value::Table(every_key().parse().unwrap()), "", &mut documented);
    assert_eq!(documented, config::known_keys());
}

#[test]
fn the_defaults_in_the_documentation_are_the_defaults() {
    let dir = secrets();
    let there = format!("{}/", dir.path().display());
    let credentials = env(&[("CREDENTIALS_DIRECTORY", &there)]);
    let defaults = load(&sample("mailferry.toml").replace("/etc/mailferry/", &there), &credentials);
    // These have no default to show, or contradict one another when all are set.
    let no_default = [
        "certificate",
        "key",
        "senders",
        "recipient_domains",
        "secret",
        "secret_expires",
        "fallback_until",
        "keep_dead",
    ];
    let text: Vec<String> = every_key()
        .lines()
        .filter(|l| !no_default.contains(&l.split(' ').next().unwrap_or("")))
        .map(|l| l.replace("/etc/mailferry/", &there))
        .collect();
    let shown = load(&text.join("\n"), &credentials);
    assert_eq!(format!("{:?}", shown.listen), format!("{:?}", defaults.listen));
    assert_eq!(format!("{:?}", shown.queue), format!("{:?}", defaults.queue));
    assert_eq!(format!("{:?}", shown.retry), format!("{:?}", defaults.retry));
    assert_eq!(shown.keep, defaults.keep);
    let limits = |s: &Settings| {
        let r = &s.receive;
        let empty = receive::Settings::new("", Clients::default(), r.routes.clone());
        let receive::Settings { clients, routes, users, mailboxes, hostname, .. } = empty;
        format!("{:?}", receive::Settings { clients, routes, users, mailboxes, hostname, ..r.clone() })
    };
    assert_eq!(limits(&shown), limits(&defaults));
    let host = |s: &Settings| {
        let mut a = s.accounts[0].clone();
        a.trust = Trust::new(None).unwrap();
        a.oauth = None;
        a.sender.send_as = vec![];
        a.smart_host.ehlo_name = String::new();
        format!("{a:?}")
    };
    assert_eq!(host(&shown), host(&defaults));
    let token = &shown.accounts[0].oauth.as_ref().unwrap().token;
    let by_cloud = token::Settings { authority: None, token_url: None, ..token.clone() };
    assert_eq!((token.authority(), token.token_url()), (by_cloud.authority(), by_cloud.token_url()));
    assert_eq!(clients(&shown)[0].line_endings, clients(&defaults)[0].line_endings);
    assert_eq!((shown.sockets, shown.log), (defaults.sockets, defaults.log));
}
