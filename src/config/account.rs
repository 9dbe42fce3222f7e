//! `[[account]]`: a mailbox, its smart host, and which of several takes what nobody else does.
//!
//! Invariant: an account that comes out of here never sends a password in the clear.

use super::address;
use super::field::Field;
use super::oauth::{self, Secrets};
use super::read::{At, Found, Sending, patterns, set, small};
use super::secret::{certificates, secret};
use super::section::{Findings, Section};
use super::{Account, Env, OAuth, Place};
use crate::dispatch::Pace;
use crate::mail::{AccountId, Mailbox, Sender};
use crate::policy::route::Route;
use crate::submit::smtp::{Login, SmartHost, Tls};
use crate::tls::Trust;
use crate::token::Cloud;
use jiff::civil::Date;
use std::path::Path;

pub(super) fn account(
    mut section: Section<'_>,
    env: &Env,
    hostname: Option<&str>,
    store: &Path,
) -> At<Option<Sending>> {
    let place = section.place();
    let mailbox = section.field("mailbox");
    if !mailbox.is_set() {
        mailbox.error("is missing", "the licensed mailbox, for example \"scanner@contoso.com\"");
    }
    // As address books show it.
    let alone = mailbox.plain_text().and_then(|t| Some(t.split_once('<')?.1.split_once('>')?.0.to_owned()));
    let example = alone.filter(|a| a.parse::<Mailbox>().is_ok()).unwrap_or("scanner@contoso.com".to_owned());
    let address: Option<Mailbox> = mailbox.parse(&format!("\"{example}\""), str::parse);
    let has_password = section.has("password");
    let oauth = oauth::read(&mut section, Secrets::Read(env), address.as_ref(), store);
    let smart_host = smart_host(&mut section, env, hostname, address.as_ref(), &oauth);
    let fallback_until = fallback(&section.field("fallback_until"), has_password, &oauth);
    let is_exchange_online = smart_host.as_ref().is_some_and(|h| is_exchange_online(&h.host));
    let pace = pace(&mut section, is_exchange_online);
    let trust = trust(&section.field("ca_file"));
    let send_as = patterns(&section.field("send_as"));
    let senders = patterns(&section.field("senders"));
    let recipient_domains = section
        .field("recipient_domains")
        .items()
        .iter()
        .filter_map(|item| {
            item.parse("\"partner.example\"", |s| format!("*@{}", s.strip_prefix("*@").unwrap_or(s)).parse())
        })
        .collect();
    let is_whole = !oauth.is_set || oauth.settings.is_some();
    let oauth = oauth.settings.map(|token| OAuth { token, fallback_until });
    let whole = address.zip(smart_host).zip(trust).filter(|_| is_whole);
    let account = whole.map(|((mailbox, smart_host), trust)| {
        let id = AccountId::named(&mailbox.to_string());
        let route = Route { account: id.clone(), senders, recipients: recipient_domains };
        let sender = Sender { mailbox, send_as };
        let account = Account { id, sender, smart_host, oauth, trust, pace };
        Sending { account, route }
    });
    At(account, if mailbox.is_set() { mailbox.place() } else { place })
}

fn pace(section: &mut Section<'_>, is_exchange_online: bool) -> Pace {
    let mut pace = Pace::default();
    let mut limit = |name: &str, most: u32| {
        let field = section.field(name);
        let value = small(&field)?;
        if is_exchange_online && value > most {
            field.warn(format!("{value} is more than the {most} Exchange Online allows a mailbox"), "");
        }
        Some(value)
    };
    set(&mut pace.max_connections, limit("max_connections", 3).and_then(|n| usize::try_from(n).ok()));
    set(&mut pace.messages_per_minute, limit("messages_per_minute", 30));
    set(&mut pace.recipients_per_day, limit("recipients_per_day", 10_000));
    pace
}

/// The system's authorities, or in their place those of the file.
fn trust(ca_file: &Field<'_>) -> Option<Trust> {
    let path = if ca_file.is_set() { Some(certificates(ca_file)?) } else { None };
    Trust::new(path.as_deref())
        // It was read a moment ago.
        .map_err(|e| ca_file.unreadable(true, e.to_string(), ""))
        .ok()
}

fn smart_host(
    section: &mut Section<'_>,
    env: &Env,
    hostname: Option<&str>,
    mailbox: Option<&Mailbox>,
    oauth: &oauth::Read,
) -> Option<SmartHost> {
    let host_port = section.field("smarthost");
    let tls_field = section.field("tls");
    let password_field = section.field("password");
    let login = section.field("login");
    let connect_timeout = section.field("connect_timeout").duration();
    let command_timeout = section.field("command_timeout").duration();
    let data_timeout = section.field("data_timeout").duration();

    let tls = tls_field.word(&[("starttls", Tls::StartTls), ("implicit", Tls::Implicit), ("off", Tls::Off)]);
    let tls = if tls_field.is_set() { tls } else { Some(Tls::StartTls) };
    let place = if host_port.is_set() {
        host_port.read("\"smtp.office365.com:587\"", address::smart_host)
    } else {
        Some((oauth.cloud.smart_host().to_owned(), 587))
    };
    // The default is one, too.
    let is_exchange = !host_port.is_set() || place.as_ref().is_some_and(|(host, _)| is_exchange_online(host));
    let password = secret(&password_field, env);
    let user = login.text("\"user name\"");
    if password_field.is_set() && tls == Some(Tls::Off) {
        tls_field.error(
            "a password never leaves in the clear",
            "set tls = \"starttls\" or \"implicit\", or remove the password",
        );
    }
    if oauth.is_set && tls == Some(Tls::Off) {
        tls_field.error("a token never leaves in the clear", "set tls = \"starttls\" or \"implicit\"");
    }
    if login.is_set() && !password_field.is_set() {
        login.error("a login needs a password", "set password = { file = \"/path\" }");
    } else if is_exchange && !password_field.is_set() && !oauth.is_set {
        password_field.error("is missing", "Exchange Online takes mail only from a mailbox that logs in: set [account.oauth], or password = { file = \"/etc/mailferry/scanner.password\" }");
    }
    if user.as_ref().is_some_and(|u| u.trim().is_empty() || u.contains(char::is_control)) {
        login.error(
            "must be a user name",
            "a backslash between double quotes begins an escape: write it twice, or use single quotes",
        );
    }
    let (host, port) = place?;
    let tls = tls?;
    let has_login = password_field.is_set() || oauth.is_set;
    port_fits(&host_port, &tls_field, (&host, port), tls, has_login);
    let mut smart_host = SmartHost::new(host, port, hostname.unwrap_or_default());
    smart_host.tls = tls;
    set(&mut smart_host.connect_timeout, connect_timeout);
    set(&mut smart_host.command_timeout, command_timeout);
    set(&mut smart_host.data_timeout, data_timeout);
    smart_host.login = match (password, mailbox) {
        (Some(password), Some(mailbox)) => {
            Some(Login::Password { user: user.unwrap_or_else(|| mailbox.to_string()), password })
        }
        _ => None,
    };
    Some(smart_host)
}

/// Whether something that speaks like this is there.
fn port_fits(
    host_port: &Field<'_>,
    tls_field: &Field<'_>,
    (host, port): (&str, u16),
    tls: Tls,
    has_login: bool,
) {
    if is_exchange_online(host) {
        if port == 465 {
            let hint = format!("write smarthost = \"{host}:587\", without tls");
            host_port.error("Exchange Online does not listen on port 465", hint);
        } else if tls != Tls::StartTls {
            tls_field.error("Exchange Online speaks only STARTTLS", "remove tls, and use port 587");
        }
        return;
    }
    if host.ends_with(".mail.protection.outlook.com") && has_login {
        host_port.warn(
            format!("{host} takes no login: it is for connectors"),
            "to log in as the mailbox, remove smarthost; for a connector, remove the login",
        );
    }
    match (port, tls) {
        (465, Tls::StartTls) => {
            host_port
                .warn("port 465 is for TLS from the first byte", "set tls = \"implicit\", or use port 587");
        }
        (587 | 25, Tls::Implicit) => {
            let what = format!("port {port} begins in the clear and goes on with STARTTLS");
            tls_field.warn(what, "remove tls, or use port 465");
        }
        _ => {}
    }
}

/// Of whichever cloud.
fn is_exchange_online(host: &str) -> bool {
    host.ends_with(".office365.com") || host.ends_with(".office365.us") || host == Cloud::China.smart_host()
}

/// The last day on which the password stands in for OAuth.
fn fallback(until: &Field<'_>, has_password: bool, oauth: &oauth::Read) -> Option<Date> {
    match (oauth.is_set, has_password) {
        (true, true) if !until.is_set() => until.warn(
            "is missing: the password is never used beside oauth",
            "set fallback_until = \"2026-12-31\", or remove the password",
        ),
        _ if !until.is_set() => {}
        (true, true) => {
            let date = oauth::date(until)?;
            if oauth::is_past(date, until.now()) {
                until.warn(
                    format!("{date} has passed: the password is never used any more"),
                    "remove it together with the password, or set a later day",
                );
            }
            return Some(date);
        }
        (true, false) => {
            until.error("needs a password to fall back on", "set password, or remove fallback_until");
        }
        (false, _) => {
            until
                .error("is for accounts with oauth", "remove it: without oauth the password is what is used");
        }
    }
    None
}

/// The default is the account without conditions. One that a client asks for by name needs no conditions either,
/// so where there are several, it is the one that no client names.
pub(super) fn accounts_go_together(
    findings: &Findings<'_>,
    accounts: &[At<Option<Sending>>],
    clients: &[Found],
) -> Option<AccountId> {
    let read: Vec<(&Route, &Place)> =
        accounts.iter().filter_map(|At(a, p)| Some((&a.as_ref()?.route, p))).collect();
    for (i, (route, place)) in read.iter().copied().enumerate() {
        if read[..i].iter().any(|(other, _)| other.account == route.account) {
            let what = format!("there is another account {}", route.account);
            findings.error(place.clone(), "account.mailbox", what, "remove one of them");
            return None;
        }
    }
    let mut open = read.clone();
    open.retain(|(r, _)| r.senders.is_empty() && r.recipients.is_empty());
    if open.len() > 1 {
        let named: Vec<_> =
            clients.iter().filter_map(|(_, w)| w.account.as_ref()).map(|At(a, _)| a).collect();
        open.retain(|(r, _)| !named.contains(&&r.account));
    }
    match open.as_slice() {
        [(default, _)] => Some(default.account.clone()),
        [(first, _), (second, place), ..] => {
            let what = format!("{} and {} would both be the default", first.account, second.account);
            let hint = "give one of them senders = [..] or recipient_domains = [..], or name it in a client's account";
            findings.error((*place).clone(), "account", what, hint);
            None
        }
        [] if read.len() == accounts.len() && !read.is_empty() => {
            let hint = "one account must have no senders, no recipient_domains, and no client of its own";
            findings.error(findings.file(), "account", "no account takes what the others do not", hint);
            None
        }
        [] => None,
    }
}
