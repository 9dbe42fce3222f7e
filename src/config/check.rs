//! From a tree of values to settings: what each key means, its default, and what cannot go together.
//!
//! Invariant: everything is read, whatever was wrong before it, so that one run finds all problems.

use super::account::{account, accounts_go_together};
use super::file::Tree;
use super::oauth::{self, Secrets};
use super::secret::{certificates, key_fits, private_key, secret};
use super::section::{Field, Findings, Section};
use super::{
    Account, Env, Listen, ListenAuth, ListenTls, LogFormat, Place, Problem, Queue, Receive, Settings,
    Severity, SignIn, User,
};
use crate::mail::{AccountId, AddressPattern, ClientName, Mailbox};
use crate::policy::admission::{Client, LineEndings};
use crate::policy::schedule::Retry;
use encoding_rs::Encoding;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const ONE_FILLS_ALL: &str = "one device can take every connection there is";
const SEVERAL_TIMES: &str = "make max_connections in [receive] several times what one may have";

/// A thing and where it was configured.
pub(super) struct At<T>(pub(super) T, pub(super) Place);

/// The settings, or all problems; and every key that was asked for.
pub(super) fn check(
    tree: &Tree,
    env: &Env,
    is_rehearsal: bool,
) -> (Result<Settings, Vec<Problem>>, BTreeSet<String>) {
    let mut findings = Findings::new(tree);
    findings.is_rehearsal = is_rehearsal;
    let settings = read(&findings, env);
    let (known, given_at_start) = (findings.known(), findings.all_given_at_start());
    let problems = findings.finish();
    match settings {
        Some(settings) if problems.iter().all(|p| p.severity == Severity::Warning) => {
            (Ok(Settings { warnings: problems, given_at_start, ..settings }), known)
        }
        _ => (Err(problems), known),
    }
}

/// `[queue]` and the control socket alone, whatever is wrong elsewhere: what an admin's command needs, who may not
/// be allowed to read the secrets.
pub(super) fn check_queue_and_socket(tree: &Tree) -> Result<(Queue, PathBuf), Vec<Problem>> {
    let findings = Findings::new(tree);
    let mut root = findings.root();
    let queue = queue(root.section("queue"));
    let socket = control_socket(root.section("control"));
    drop(root);
    let mut problems = findings.finish();
    problems.retain(|p| p.key.starts_with("queue.") || p.key.starts_with("control."));
    problems.retain(|p| p.severity == Severity::Error);
    if problems.is_empty() { Ok((queue, socket)) } else { Err(problems) }
}

/// How each account logs in, and where the control socket is. No secret is read: an admin who signs in for a mailbox
/// need not be able to.
pub(super) fn check_sign_ins(tree: &Tree) -> Result<(Vec<SignIn>, PathBuf), Vec<Problem>> {
    let findings = Findings::new(tree);
    let mut root = findings.root();
    let queue = queue(root.section("queue"));
    let socket = control_socket(root.section("control"));
    let accounts = root.sections("account").into_iter().filter_map(|mut section| {
        let mailbox: Option<Mailbox> = section.field("mailbox").parse("\"scanner@contoso.com\"", str::parse);
        let has_password = section.has("password");
        let oauth = oauth::read(&mut section, Secrets::Leave, mailbox.as_ref(), &queue.directory);
        let method = oauth.method.unwrap_or(if has_password { "password" } else { "no login" });
        Some(SignIn { mailbox: mailbox?, method, device_code: oauth.settings })
    });
    let accounts = accounts.collect();
    drop(root);
    let mut problems = findings.finish();
    let ours = ["queue.", "control.", "account.mailbox", "account.oauth"];
    problems.retain(|p| p.severity == Severity::Error && ours.iter().any(|o| p.key.starts_with(o)));
    if problems.is_empty() { Ok((accounts, socket)) } else { Err(problems) }
}

fn control_socket(mut section: Section<'_>) -> PathBuf {
    section.field("socket").path().unwrap_or_else(|| PathBuf::from("/run/mailferry/control.sock"))
}

fn read(findings: &Findings<'_>, env: &Env) -> Option<Settings> {
    let mut root = findings.root();
    let hostname = hostname(&root.field("hostname"));
    let listen: Vec<_> = root.sections("listen").into_iter().map(listener).collect();
    let (receive, has_users) = receive(root.section("receive"), env);
    let clients: Vec<_> = root.sections("client").into_iter().map(client).collect();
    let queue = queue(root.section("queue"));
    let accounts: Vec<_> = root
        .sections("account")
        .into_iter()
        .map(|s| account(s, env, hostname.as_deref(), &queue.directory))
        .collect();
    let retry = retry(root.section("retry"));
    let notify = addresses(&root.section("notify").field("to"));
    let control_socket = control_socket(root.section("control"));
    let log = root.section("log").field("format").word(&[
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ]);
    drop(root);

    for (there, key, what, hint) in [
        (!listen.is_empty(), "listen", "nothing listens", "add [[listen]] with address = \"0.0.0.0:25\""),
        (!clients.is_empty(), "client", "nobody may relay", "add [[client]] with from = [\"10.0.5.0/24\"]"),
        (!accounts.is_empty(), "account", "mail has no way out", "add [[account]] with mailbox and password"),
    ] {
        if !there {
            findings.error(findings.file(), key, what, hint);
        }
    }
    let listen: Vec<_> = listen.into_iter().flatten().collect();
    let clients: Vec<_> = clients.into_iter().flatten().collect();
    listeners_go_together(findings, &listen, has_users);
    clients_go_together(findings, &clients, &accounts, receive.max_connections);
    let default = accounts_go_together(findings, &accounts, &clients);

    Some(Settings {
        hostname: hostname?,
        listen: listen.into_iter().map(|At(l, _)| l).collect(),
        receive,
        clients: clients.into_iter().map(|(At(c, _), _)| c).collect(),
        accounts: accounts.into_iter().map(|At(a, _)| a).collect::<Option<_>>()?,
        default_account: default?,
        queue,
        retry,
        notify,
        control_socket,
        log: log.unwrap_or(LogFormat::Auto),
        warnings: vec![],
        given_at_start: BTreeSet::new(),
    })
}

fn hostname(field: &Field<'_>) -> Option<String> {
    if field.is_set() {
        return field.parse("\"relay.contoso.local\"", |s| {
            if is_host_name(s) { Ok(s.to_owned()) } else { Err("is not a host name") }
        });
    }
    let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_host_name(&system) {
        return Some(system);
    }
    field.error("the system's name is not a host name", "set hostname = \"relay.contoso.local\"");
    None
}

/// RFC 1123 section 2.1: letters, digits and hyphens between dots. An address is no name.
pub(super) fn is_host_name(s: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    s.len() <= 253 && s.split('.').all(label) && s.parse::<IpAddr>().is_err()
}

fn listener(mut section: Section<'_>) -> Option<At<Listen>> {
    let address = section.field("address");
    let tls = section.field("tls");
    let (certificate, key) = (section.field("certificate"), section.field("key"));
    let auth = section.field("auth");

    let example = "\"0.0.0.0:25\"";
    if !address.is_set() {
        address.error("is missing", format!("for example {example}"));
    }
    let parsed: Option<SocketAddr> =
        address.parse(example, |s| s.parse().map_err(|_| "is not an IP address with a port"));
    let mode = tls.word(&[
        ("off", ListenTls::Off),
        ("starttls", ListenTls::StartTls),
        ("implicit", ListenTls::Implicit),
    ]);
    let mode = if tls.is_set() { mode? } else { ListenTls::Off };
    let files = (certificates(&certificate), private_key(&key));
    for field in [&certificate, &key] {
        if mode == ListenTls::Off && field.is_set() {
            field.error("is of no use with tls = \"off\"", "set tls = \"starttls\", or remove it");
        }
    }
    // Neither: the relay makes a pair of its own.
    for (field, other) in [(&certificate, &key), (&key, &certificate)] {
        if mode != ListenTls::Off && !field.is_set() && other.is_set() {
            field.error(
                "is missing",
                "certificate and key go together, both PEM files; without either, the relay makes its own",
            );
        }
    }
    let logins =
        auth.word(&[("off", ListenAuth::Off), ("any", ListenAuth::Any), ("required", ListenAuth::Required)]);
    let logins = if auth.is_set() { logins? } else { ListenAuth::Off };
    if logins == ListenAuth::Required && mode == ListenTls::Off {
        auth.warn(
            "passwords cross the network in the clear",
            "set tls = \"starttls\", if the devices can do it",
        );
    }
    if logins == ListenAuth::Any && mode == ListenTls::StartTls {
        auth.warn(
            "a login is taken inside TLS only, so devices that log in without it are refused",
            "give devices that cannot do TLS a [[listen]] of their own with tls = \"off\"",
        );
    }
    let is_given = mode != ListenTls::Off && (certificate.is_set() || key.is_set());
    let certificate = if is_given { Some((files.0?, files.1?)) } else { None };
    if certificate.as_ref().is_some_and(|(c, k)| !key_fits(c, k)) {
        key.error(
            "is not the key of the certificate",
            "they must be made together; the chain begins with our own",
        );
    }
    Some(At(Listen { address: parsed?, tls: mode, certificate, auth: logins }, address.place()))
}

fn listeners_go_together(findings: &Findings<'_>, listen: &[At<Listen>], has_users: bool) {
    for (i, At(one, place)) in listen.iter().enumerate() {
        let taken = listen[..i].iter().any(|At(other, _)| {
            let (a, b) = (one.address.ip().to_canonical(), other.address.ip().to_canonical());
            let everywhere = a.is_unspecified() || b.is_unspecified();
            one.address.port() != 0
                && one.address.port() == other.address.port()
                && (a == b || (everywhere && a.is_ipv4() == b.is_ipv4()))
        });
        if taken {
            let what = format!("{} is already taken by another listener", one.address);
            findings.error(place.clone(), "listen.address", what, "remove one of them");
        }
        if one.auth == ListenAuth::Required && !has_users {
            let hint = "add [[receive.users]] with name and password, or set auth = \"any\"";
            findings.error(place.clone(), "listen.auth", "a login is required, and there are no users", hint);
        }
    }
}

/// Also whether there are users, which may be more than could be read.
fn receive(mut section: Section<'_>, env: &Env) -> (Receive, bool) {
    let users = section.sections("users");
    let has_users = !users.is_empty();
    let mut names = BTreeSet::new();
    let users = users.into_iter().filter_map(|mut user| {
        let (name, password) = (user.field("name"), user.field("password"));
        for field in [&name, &password] {
            if !field.is_set() {
                field.error("is missing", "a user has a name and a password");
            }
        }
        let password = secret(&password, env);
        let text = name.text("\"scanner-3\"")?;
        if text.is_empty() || !names.insert(text.clone()) {
            name.error("must be a name that no other user has", "");
        }
        Some(User { name: text, password: password? })
    });
    let users = users.collect();
    let (all, of_one) = (section.field("max_connections"), section.field("max_connections_per_client"));
    let max_connections = all.count().unwrap_or(1000);
    let max_connections_per_client = of_one.count().unwrap_or(50);
    if max_connections_per_client >= max_connections {
        let field = if of_one.is_set() { &of_one } else { &all };
        field.warn(ONE_FILLS_ALL, SEVERAL_TIMES);
    }
    let receive = Receive {
        users,
        max_message_size_bytes: section.field("max_message_size").size().unwrap_or(35 * 1024 * 1024),
        max_recipients: section.field("max_recipients").count().unwrap_or(500),
        max_connections,
        max_connections_per_client,
        idle_timeout: duration(&mut section, "idle_timeout", 10 * MINUTE),
        data_timeout: duration(&mut section, "data_timeout", 5 * MINUTE),
    };
    (receive, has_users)
}

pub(super) fn duration(section: &mut Section<'_>, name: &str, default_s: u64) -> Duration {
    section.field(name).duration().unwrap_or(Duration::from_secs(default_s))
}

/// A client, the places of its networks, and the account it asks for.
pub(super) type Found = (At<Client>, Wants);

pub(super) struct Wants {
    networks: Vec<At<IpNet>>,
    pub(super) account: Option<At<AccountId>>,
}

fn client(mut section: Section<'_>) -> Option<Found> {
    let from = section.field("from");
    if !from.is_set() {
        from.error("is missing", "the networks its devices are in, for example [\"10.0.5.0/24\"]");
    }
    let items = from.items();
    let networks: Vec<At<IpNet>> =
        items.iter().filter_map(|item| Some(At(network(item)?, item.place()))).collect();
    if from.is_set() && items.is_empty() {
        from.error("names no network", "for example [\"10.0.5.0/24\"]");
    }
    let name = section.field("name");
    let place = if name.is_set() { name.place() } else { section.place() };
    let name = match name.text("\"printers\"") {
        Some(text) if text.trim().is_empty() || text.chars().any(char::is_control) => {
            name.error("must be a name", "for example \"printers\"");
            None
        }
        Some(text) => Some(text),
        None => networks.first().map(|At(n, _)| n.to_string()),
    };
    let account = section.field("account");
    let account = account.text("\"scanner@contoso.com\"").map(|a| At(AccountId::named(&a), account.place()));
    let charset = section.field("charset").parse("\"shift_jis\"", |s| {
        Encoding::for_label(s.as_bytes()).map(|e| e.name().to_lowercase()).ok_or("is not a character set")
    });
    let client = Client {
        name: ClientName::new(name.unwrap_or_default()),
        networks: networks.iter().map(|At(n, _)| *n).collect(),
        account: account.as_ref().map(|At(a, _)| a.clone()),
        allowed_recipients: patterns(&section.field("allowed_recipients")),
        max_message_size_bytes: section.field("max_message_size").size(),
        max_connections: section.field("max_connections").count(),
        messages_per_minute: small(&section.field("messages_per_minute")),
        charset,
        line_endings: section
            .field("line_endings")
            .word(&[("crlf", LineEndings::Crlf), ("lf", LineEndings::Lf)])
            .unwrap_or_default(),
        silent_after: section.field("silent_after").duration(),
    };
    Some((At(client, place), Wants { networks, account }))
}

fn network(field: &Field<'_>) -> Option<IpNet> {
    let net: IpNet = field.parse("\"10.0.5.0/24\" or \"10.0.6.7\"", |s| {
        s.parse::<IpAddr>().map(IpNet::from).or_else(|_| s.parse()).map_err(|_| "is not a network")
    })?;
    let net = canonical(net);
    if net.prefix_len() == 0 {
        field.warn(
            format!("{net} lets the whole world relay through this mailbox"),
            "name the networks of the devices only",
        );
    } else if net.trunc() != net {
        let hint =
            format!("write \"{}\" for the network, or \"{}\" for the one device", net.trunc(), net.addr());
        field.warn(format!("{net} means the whole network {}", net.trunc()), hint);
    }
    Some(net.trunc())
}

/// `::ffff:10.0.5.0/120` is 10.0.5.0/24: that is how the devices in it are seen.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok()).map_or(net, IpNet::V4)
}

fn clients_go_together(
    findings: &Findings<'_>,
    clients: &[Found],
    accounts: &[At<Option<Account>>],
    max_connections: usize,
) {
    let mut names = BTreeSet::new();
    let mut networks: Vec<(IpNet, &ClientName)> = vec![];
    for (At(client, place), wants) in clients {
        if !client.name.as_str().is_empty() && !names.insert(client.name.as_str()) {
            let what = format!("there is another client named \"{}\"", client.name);
            findings.error(place.clone(), "client.name", what, "give each its own name");
        }
        if client.max_connections.is_some_and(|own| own >= max_connections) {
            findings.warn(place.clone(), "client.max_connections", ONE_FILLS_ALL, SEVERAL_TIMES);
        }
        for At(network, place) in &wants.networks {
            if let Some((_, other)) = networks.iter().find(|(n, _)| n == network) {
                let what = format!("{network} already belongs to client \"{other}\"");
                findings.error(place.clone(), "client.from", what, "remove it from one of them");
            }
            networks.push((*network, &client.name));
        }
        let Some(At(account, place)) = &wants.account else { continue };
        let known: Vec<_> =
            accounts.iter().filter_map(|At(a, _)| a.as_ref()).map(|a| a.id.as_str()).collect();
        // An account that could not be read may be the one that is meant.
        if accounts.iter().all(|At(a, _)| a.is_some()) && !known.contains(&account.as_str()) {
            let what = format!("there is no account \"{account}\"");
            let hint = format!("accounts go by their mailbox: {}", known.join(", "));
            findings.error(place.clone(), "client.account", what, hint);
        }
    }
}

fn queue(mut section: Section<'_>) -> Queue {
    Queue {
        directory: section.field("directory").path().unwrap_or_else(|| PathBuf::from("/var/lib/mailferry")),
        min_free_space_bytes: section.field("min_free_space").size().unwrap_or(500 * 1024 * 1024),
        keep_history: duration(&mut section, "keep_history", 30 * DAY),
        keep_dead: section.field("keep_dead").duration(),
    }
}

fn retry(mut section: Section<'_>) -> Retry {
    let mut delays = |name: &str, default_s: &[u64]| {
        let field = section.field(name);
        let items = field.items();
        if field.is_set() && items.is_empty() {
            field.error("is empty", "at least one delay; the last one repeats");
        }
        let read: Vec<Duration> = items.iter().filter_map(Field::duration).collect();
        if field.is_set() { read } else { default_s.iter().copied().map(Duration::from_secs).collect() }
    };
    let message =
        delays("delays", &[30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE]);
    let account =
        delays("account_delays", &[5, 10, 20, 40, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE]);
    let hold = delays("hold_delays", &[MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE]);
    let (warn, expire) = (section.field("warn_after"), section.field("expire_after"));
    let warn_after = warn.duration().unwrap_or(Duration::from_secs(4 * HOUR));
    let expire_after = expire.duration().unwrap_or(Duration::from_secs(5 * DAY));
    if warn_after > expire_after {
        let field = if warn.is_set() { &warn } else { &expire };
        field.error(
            format!(
                "the warning after {} would come later than the end after {}",
                humantime::format_duration(warn_after),
                humantime::format_duration(expire_after)
            ),
            "make warn_after shorter than expire_after",
        );
    }
    Retry { delays: message, account_delays: account, hold_delays: hold, warn_after, expire_after }
}

fn addresses(field: &Field<'_>) -> Vec<Mailbox> {
    field.items().iter().filter_map(|item| item.parse("\"it@contoso.com\"", str::parse)).collect()
}

pub(super) fn patterns(field: &Field<'_>) -> Vec<AddressPattern> {
    let example = "\"scanner@contoso.com\" or \"*@contoso.com\"";
    field.items().iter().filter_map(|item| item.parse(example, str::parse)).collect()
}

pub(super) fn small(field: &Field<'_>) -> Option<u32> {
    field.number(1..=1_000_000).and_then(|n| u32::try_from(n).ok())
}
