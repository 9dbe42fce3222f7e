//! From a tree of values to settings: what each key means, its default, and what cannot go together.
//!
//! Invariant: everything is read, whatever was wrong before it, so that one run finds all problems.

use super::access::User;
use super::account::{account, accounts_go_together};
use super::address::{host_name, is_host_name};
use super::client::{client, clients_go_together};
use super::field::Field;
use super::file::Tree;
use super::listen::{Listener, listener, listeners_go_together};
use super::network;
use super::notify;
use super::oauth::{self, Secrets};
use super::read::{At, Found, ONE_FILLS_ALL, SEVERAL_TIMES, Sending, set};
use super::secret::{reason, secret};
use super::section::{Findings, Section};
use super::{Env, FileRead, Problem, Settings, Severity, SignIn, Sockets};
use crate::logs::{self, Format};
use crate::mail::{AccountId, Mailbox, WallTime};
use crate::policy::admission::Clients;
use crate::policy::route::Routes;
use crate::policy::schedule::Retry;
use crate::queue::{self, Keep};
use crate::receive;
use crate::token;
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// The settings, or all problems; and every key that was asked for.
pub(super) fn check(
    tree: &Tree,
    env: &Env,
    now: WallTime,
    is_rehearsal: bool,
) -> (Result<Settings, Vec<Problem>>, BTreeSet<String>) {
    let mut findings = Findings::new(tree, now);
    if is_rehearsal {
        findings.is_rehearsal = true;
        findings.service = User::of_the_service();
    }
    let settings = read(&findings, env);
    if let Some((what, hint)) = findings.service.as_ref().and_then(|user| user.obstacle(&tree.path)) {
        findings.error(findings.file(), "", what, hint);
    }
    findings.stray_variables(env);
    let (known, given_at_start) = (findings.known(), findings.all_given_at_start());
    let problems = findings.finish();
    match settings {
        Some(settings) if problems.iter().all(|p| p.severity == Severity::Warning) => {
            (Ok(Settings { warnings: problems, given_at_start, ..settings }), known)
        }
        _ => (Err(problems), known),
    }
}

/// `[queue]` and the sockets alone, whatever is wrong elsewhere: what an admin's command needs, who may not
/// be allowed to read the secrets.
pub(super) fn check_queue_and_sockets(
    tree: &Tree,
    now: WallTime,
) -> Result<(queue::Settings, Sockets), Vec<Problem>> {
    let findings = Findings::new(tree, now);
    let mut root = findings.root();
    let (queue, _) = queue(root.section("queue"));
    let sockets = sockets(root.section("control"));
    drop(root);
    let mut problems = findings.finish();
    problems.retain(|p| p.key.starts_with("queue.") || p.key.starts_with("control."));
    problems.retain(|p| p.severity == Severity::Error);
    if problems.is_empty() { Ok((queue, sockets)) } else { Err(problems) }
}

/// How each account logs in, and where the control socket is. No secret is read: an admin who signs in for a mailbox
/// need not be able to.
pub(super) fn check_sign_ins(
    tree: &Tree,
    env: &Env,
    now: WallTime,
) -> Result<(Vec<SignIn>, PathBuf), Vec<Problem>> {
    let findings = Findings::new(tree, now);
    let mut root = findings.root();
    let (queue, _) = queue(root.section("queue"));
    let socket = sockets(root.section("control")).control;
    let proxy = network::proxy(root.section("network"), env);
    let accounts = root.sections("account").into_iter().filter_map(|mut section| {
        let mailbox: Option<Mailbox> = section.field("mailbox").parse("\"scanner@contoso.com\"", str::parse);
        let has_password = section.has("password");
        let oauth = oauth::read(&mut section, Secrets::Leave, mailbox.as_ref(), &queue.directory);
        let method = oauth.method.unwrap_or(if has_password { "password" } else { "no login" });
        let device_code = oauth.settings.map(|s| token::Settings { proxy: proxy.clone(), ..s });
        Some(SignIn { mailbox: mailbox?, method, device_code })
    });
    let accounts = accounts.collect();
    drop(root);
    let mut problems = findings.finish();
    let ours = ["queue.", "control.", "network.", "account.mailbox", "account.oauth"];
    problems.retain(|p| p.severity == Severity::Error && ours.iter().any(|o| p.key.starts_with(o)));
    if problems.is_empty() { Ok((accounts, socket)) } else { Err(problems) }
}

fn sockets(mut section: Section<'_>) -> Sockets {
    let control = section.field("socket").path();
    let control = control.unwrap_or_else(|| PathBuf::from("/run/mailferry/control.sock"));
    let field = section.field("status_socket");
    let is_off = field.is_set() && field.text("\"/run/mailferry/status.sock\"").is_some_and(|t| t.is_empty());
    let status = match field.is_set() {
        _ if is_off => None,
        true => field.path(),
        false => Some(control.with_file_name("status.sock")),
    };
    if status.as_ref() == Some(&control) {
        field.error("is the control socket", "it needs a name of its own; \"\" turns it off");
    }
    Sockets { control, status }
}

fn read(findings: &Findings<'_>, env: &Env) -> Option<Settings> {
    let mut root = findings.root();
    let hostname = hostname(&root.field("hostname"));
    let listen: Vec<_> = root.sections("listen").into_iter().map(listener).collect();
    let clients: Vec<_> = root.sections("client").into_iter().map(client).collect();
    let (queue, keep) = queue(root.section("queue"));
    let accounts: Vec<_> = root
        .sections("account")
        .into_iter()
        .map(|s| account(s, env, hostname.as_deref(), &queue.directory))
        .collect();
    let retry = retry(root.section("retry"));
    let sockets = sockets(root.section("control"));
    let proxy = network::proxy(root.section("network"), env);
    let ours: Vec<&Mailbox> =
        accounts.iter().filter_map(|At(a, _)| Some(&a.as_ref()?.account.sender.mailbox)).collect();
    let notify = notify::notify(root.section("notify"), env, hostname.as_deref(), proxy.clone(), &ours);
    let log = log(&root.section("log").field("format"));
    let received = root.section("receive");
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
    let (listen, certificates): (Vec<_>, Vec<_>) =
        listen.into_iter().flatten().map(|Listener { listen, certificate }| (listen, certificate)).unzip();
    let clients: Vec<_> = clients.into_iter().flatten().collect();
    let default = accounts_go_together(findings, &accounts, &clients);
    let mut receive = admission(hostname.as_deref(), &clients, &accounts, default.as_ref());
    let has_users = self::receive(received, env, &mut receive);
    listeners_go_together(findings, &listen, has_users);
    clients_go_together(findings, &clients, &accounts, receive.max_connections);

    default?;
    Some(Settings {
        hostname: hostname?,
        listen: listen.into_iter().map(|At(l, _)| l).collect(),
        receive,
        accounts: accounts
            .into_iter()
            .map(|At(a, _)| {
                let mut account = a?.account;
                if let Some(oauth) = &mut account.oauth {
                    oauth.token.proxy.clone_from(&proxy);
                }
                Some(account)
            })
            .collect::<Option<_>>()?,
        queue,
        keep,
        retry,
        notify,
        sockets,
        proxy,
        log: log.unwrap_or_default(),
        warnings: vec![],
        given_at_start: BTreeSet::new(),
        certificates: certificates.into_iter().flatten().collect(),
        file: FileRead::default(),
        is_sandbox: false,
    })
}

/// Who may relay and through which account, with the usual limits.
fn admission(
    hostname: Option<&str>,
    clients: &[Found],
    accounts: &[At<Option<Sending>>],
    default: Option<&AccountId>,
) -> receive::Settings {
    let sending = || accounts.iter().filter_map(|At(a, _)| a.as_ref());
    let routes = sending().map(|s| s.route.clone()).filter(|r| Some(&r.account) != default).collect();
    // Without a default there are no settings.
    let default = default.cloned().unwrap_or_else(|| AccountId::new(""));
    let clients = Clients::new(clients.iter().map(|(At(c, _), _)| c.clone()).collect());
    let mut receive =
        receive::Settings::new(hostname.unwrap_or_default(), clients, Routes { routes, default });
    receive.mailboxes =
        sending().map(|s| (s.account.id.clone(), s.account.sender.mailbox.to_string())).collect();
    receive
}

fn hostname(field: &Field<'_>) -> Option<String> {
    if field.is_set() {
        return field.read("\"relay.contoso.local\"", host_name);
    }
    let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_host_name(&system) {
        return Some(system);
    }
    field.error("the system's name is not a host name", "set hostname = \"relay.contoso.local\"");
    None
}

/// Whether there are users, which may be more than could be read.
fn receive(mut section: Section<'_>, env: &Env, settings: &mut receive::Settings) -> bool {
    let users = section.sections("users");
    let has_users = !users.is_empty();
    let mut names = BTreeSet::new();
    settings.users = users.into_iter().filter_map(|user| self::user(user, env, &mut names)).collect();
    let (all, of_one) = (section.field("max_connections"), section.field("max_connections_per_client"));
    set(&mut settings.max_connections, all.count());
    set(&mut settings.max_connections_per_client, of_one.count());
    if settings.max_connections_per_client >= settings.max_connections {
        let field = if of_one.is_set() { &of_one } else { &all };
        field.warn(ONE_FILLS_ALL, SEVERAL_TIMES);
    }
    set(&mut settings.max_message_size_bytes, section.field("max_message_size").size());
    set(&mut settings.max_recipients, section.field("max_recipients").count());
    set(&mut settings.idle_timeout, section.field("idle_timeout").duration());
    set(&mut settings.data_timeout, section.field("data_timeout").duration());
    has_users
}

fn user(mut section: Section<'_>, env: &Env, names: &mut BTreeSet<String>) -> Option<(String, SecretString)> {
    let (name, password) = (section.field("name"), section.field("password"));
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
    Some((text, password?))
}

fn queue(mut section: Section<'_>) -> (queue::Settings, Keep) {
    let (mut settings, mut keep) = (queue::Settings::default(), Keep::default());
    set(&mut settings.directory, section.field("directory").path());
    set(&mut settings.min_free_space_bytes, section.field("min_free_space").size());
    set(&mut keep.history, section.field("keep_history").duration());
    keep.dead = section.field("keep_dead").duration();
    (settings, keep)
}

fn retry(mut section: Section<'_>) -> Retry {
    let mut retry = Retry::default();
    for (name, delays) in [
        ("delays", &mut retry.delays),
        ("account_delays", &mut retry.account_delays),
        ("hold_delays", &mut retry.hold_delays),
    ] {
        let field = section.field(name);
        let items = field.items();
        if field.is_set() && items.is_empty() {
            field.error("is empty", "at least one delay; the last one repeats");
        }
        let read: Vec<Duration> = items.iter().filter_map(Field::duration).collect();
        set(delays, field.is_set().then_some(read));
    }
    let (warn, expire) = (section.field("warn_after"), section.field("expire_after"));
    set(&mut retry.warn_after, warn.duration());
    set(&mut retry.expire_after, expire.duration());
    if retry.warn_after > retry.expire_after {
        let field = if warn.is_set() { &warn } else { &expire };
        field.error(
            format!(
                "the warning after {} would come later than the end after {}",
                humantime::format_duration(retry.warn_after),
                humantime::format_duration(retry.expire_after)
            ),
            "make warn_after shorter than expire_after",
        );
    }
    retry
}

/// The journal is looked for: without one, the relay would not start with it.
fn log(field: &Field<'_>) -> Option<Format> {
    let format = field.word(&[
        ("auto", Format::Auto),
        ("text", Format::Text),
        ("json", Format::Json),
        ("journald", Format::Journald),
    ])?;
    if let Err(e) = logs::prepare(format) {
        let what = format!("there is no journal: {}", reason(&e));
        field.unreadable(true, what, "\"auto\" takes the journal where there is one");
    }
    Some(format)
}
