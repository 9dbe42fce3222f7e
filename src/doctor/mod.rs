//! Whether everything is right: this host, the smart host, the mailbox; step by step, each with its remedy.
//!
//! Invariant: it changes nothing (one probe file comes and goes, one message is sent only when asked for), logs in
//! once an account, goes on as far as it can, and says no secret. Must not know: how a report is shown.

mod certificate;
pub mod december;
pub mod explain;
mod host;
pub mod page;
pub mod report;
pub mod send_test;
mod smart_host;
mod token;

use crate::config::{Account, Problem, Settings, Sockets};
use crate::fact::Witness;
use crate::http::Limits;
use crate::mail::{AccountId, Mailbox, RelayTime};
use crate::queue;
use crate::token::Source;
use report::Report;
use std::time::Instant;

/// What is asked of the doctor.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Only this account.
    pub account: Option<AccountId>,
    /// One message to this address through each account looked at.
    pub send_to: Option<Mailbox>,
}

/// How an account logs in, as far as the doctor needs to know.
#[derive(Debug, Clone)]
pub enum LoginKind {
    /// It does not.
    None,
    /// With a password, by PLAIN or LOGIN.
    Password,
    /// With access tokens, by XOAUTH2.
    Token(Source),
}

/// How the configuration says that an account logs in: the one place that knows where OAuth stands in it.
pub fn configured_login(account: &Account) -> LoginKind {
    let source = account.oauth.as_ref().and_then(|oauth| {
        // A clock of its own: nothing of the doctor's is scheduled or remembered.
        let started = Instant::now();
        // What is wrong with it the configuration's check has told.
        Source::new(
            oauth.token.clone(),
            Limits::default(),
            move || RelayTime::default() + started.elapsed(),
            Witness::nobody(),
        )
        .ok()
    });
    match (source, &account.smart_host.login) {
        (Some(source), _) => LoginKind::Token(source),
        (None, Some(_)) => LoginKind::Password,
        (None, None) => LoginKind::None,
    }
}

/// Looks at everything. `login` is `configured_login`, unless a test knows better.
pub async fn examine(
    settings: &Settings,
    order: &Order,
    login: impl Fn(&Account) -> LoginKind,
    report: &mut Report,
) {
    host::sandbox(&settings.sockets.control, report).await;
    host::configuration(settings, report);
    host::files(settings, report);
    host::queue(&settings.queue, report).await;
    let running = host::relay(&settings.sockets.control, report).await;
    for listen in &settings.listen {
        host::listener(listen, running, report).await;
    }
    let accounts: Vec<(&Account, LoginKind)> = settings
        .accounts
        .iter()
        .filter(|a| order.account.as_ref().is_none_or(|wanted| a.id == *wanted))
        .map(|a| (a, login(a)))
        .collect();
    token::clock(accounts.iter().map(|(_, login)| login), report).await;
    for (account, login) in accounts {
        smart_host::examine(settings, account, login, order, report).await;
    }
}

/// Looks at what is left to look at when the configuration is wrong.
pub async fn examine_without_configuration(
    problems: &[Problem],
    queue_and_sockets: Option<(queue::Settings, Sockets)>,
    report: &mut Report,
) {
    if let Some((_, sockets)) = &queue_and_sockets {
        host::sandbox(&sockets.control, report).await;
    }
    host::misconfiguration(problems, report);
    if let Some((queue, sockets)) = queue_and_sockets {
        host::queue(&queue, report).await;
        host::relay(&sockets.control, report).await;
    }
}
