//! `mailferry account`: how the mailboxes stand, stopping and starting them, and signing in for one.
//!
//! Invariant: no secret is read and none is printed; a sign-in counts when its refresh token is on disk, and the
//! running relay hears of it. Must not know: how a token is asked for.

use super::owner::Owner;
use super::{AccountCommand, Failure, as_json, block_on, exit, out, print, say, wrong};
use crate::config::{self, Env, SignIn};
use crate::control::client::{Client, ClientError};
use crate::control::report::AccountState;
use crate::fact::Witness;
use crate::http::Limits;
use crate::token::device::{self, BeginError, Poll};
use crate::token::response::Problem;
use crate::token::{Grant, Settings, TokenError};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

pub(super) fn run(command: AccountCommand, path: Option<&Path>, env: &Env) -> Result<(), Failure> {
    match command {
        AccountCommand::List { json } => block_on(list(path, env, json)),
        AccountCommand::Login { mailbox } => {
            let (accounts, socket) = config::load_sign_ins(path, env).map_err(|p| wrong(&p))?;
            let settings = device_code(accounts, &mailbox)?;
            if let Grant::DeviceCode { store } = &settings.grant {
                Owner::of(store)?;
            }
            block_on(login(settings, &socket))
        }
        AccountCommand::Pause { mailbox } => block_on(pause(path, env, &mailbox, true)),
        AccountCommand::Resume { mailbox } => block_on(pause(path, env, &mailbox, false)),
    }
}

async fn pause(path: Option<&Path>, env: &Env, mailbox: &str, paused: bool) -> Result<(), Failure> {
    let (_, sockets) = config::load_queue_and_sockets(path, env).map_err(|p| wrong(&p))?;
    Client::new(&sockets.control).set_paused(mailbox, paused).await?;
    out(&format!("{mailbox}: {}\n", if paused { "paused; its mail waits" } else { "sending again" }))
}

/// An account in `account list`.
#[derive(Serialize)]
struct Listed {
    mailbox: String,
    method: &'static str,
    /// None: the relay does not run, or does not know the account before a reload.
    state: Option<AccountState>,
}

async fn list(path: Option<&Path>, env: &Env, json: bool) -> Result<(), Failure> {
    let (accounts, socket) = config::load_sign_ins(path, env).map_err(|p| wrong(&p))?;
    let status = match Client::new(&socket).status().await {
        Ok(status) => status.accounts,
        Err(ClientError::NotRunning) => vec![],
        Err(e) => return Err(e.into()),
    };
    let listed: Vec<Listed> = accounts
        .into_iter()
        .map(|a| {
            let mailbox = a.mailbox.to_string();
            let state = status.iter().find(|s| s.mailbox.eq_ignore_ascii_case(&mailbox)).map(|s| s.state);
            Listed { mailbox, method: a.method, state }
        })
        .collect();
    if json {
        return out(&as_json(&listed)?);
    }
    let lines: String = listed
        .iter()
        .map(|a| {
            format!("{}  {}  {}\n", a.mailbox, a.method, a.state.map_or("not running", print::account_state))
        })
        .collect();
    out(&lines)
}

async fn login(settings: Settings, socket: &Path) -> Result<(), Failure> {
    let mailbox = settings.mailbox.to_string();
    let mut sign_in = device::begin(settings.clone(), Limits::default(), Witness::of_the_log())
        .await
        .map_err(|e| match e {
            BeginError::Settings(e) => Failure::new(exit::CONFIG, format!("oauth: {}", e.problem), e.hint),
            BeginError::Endpoint(problem) => refused(problem, &settings),
        })?;
    out(&format!(
        "open {}\nenter {}\nand sign in as {mailbox}; the code lives {}\n",
        sign_in.verification_uri,
        sign_in.user_code,
        humantime::format_duration(sign_in.expires_in)
    ))?;
    let claims = loop {
        tokio::time::sleep(sign_in.interval).await;
        match sign_in.poll().await {
            Ok(Poll::Pending) => {}
            Ok(Poll::SignedIn(claims)) => break claims,
            Err(problem) => return Err(refused(problem, &settings)),
        }
    };
    out(&format!("{mailbox} is signed in\n"))?;
    let user = claims.and_then(|c| c.user).filter(|u| !u.eq_ignore_ascii_case(&mailbox));
    if let Some(user) = user {
        let user = crate::mail::Escaped(user.as_bytes());
        say(
            &format!("warning: {user} signed in, not {mailbox}"),
            &format!("unless {user} may open {mailbox}, sign in again: mailferry account login {mailbox}"),
        );
    }
    match Client::new(socket).probe(&mailbox).await {
        Ok(()) => out("the running relay tries it now\n"),
        Err(ClientError::NotRunning) => Ok(()),
        Err(e) => {
            // The sign-in itself is done and stored.
            say(
                &format!("warning: the relay could not be told: {e}"),
                "it tries by itself within half an hour",
            );
            Ok(())
        }
    }
}

fn device_code(accounts: Vec<SignIn>, mailbox: &str) -> Result<Settings, Failure> {
    let known = accounts.iter().map(|a| a.mailbox.to_string()).collect::<Vec<_>>().join(", ");
    let found = accounts.into_iter().find(|a| a.mailbox.to_string().eq_ignore_ascii_case(mailbox));
    let Some(account) = found else {
        let hint = format!("accounts go by their mailbox: {known}");
        return Err(Failure::new(exit::NO_INPUT, format!("no such account: {mailbox}"), hint));
    };
    let Some(settings) = account.device_code else {
        let what = format!("{mailbox} logs in with {}, not with a device code", account.method);
        let hint = "set device_code = true in its [account.oauth], in place of secret and certificate";
        return Err(Failure::new(exit::CONFIG, what, hint));
    };
    if let Grant::DeviceCode { store } = &settings.grant
        && !store.is_dir()
    {
        let what = format!("there is no queue directory {}", store.display());
        return Err(Failure::new(
            exit::CANNOT_CREATE,
            what,
            "start mailferry once: systemctl start mailferry",
        ));
    }
    Ok(settings)
}

fn refused(problem: Problem, settings: &Settings) -> Failure {
    let error = TokenError { problem, retry_in: Duration::ZERO };
    let code = if error.needs_a_person() { exit::NO_PERMISSION } else { exit::TRY_LATER };
    let hint = error.remedy(settings).into_iter().next().unwrap_or_default();
    Failure::new(code, format!("{} ({})", error.meaning(settings), error.problem), hint)
}
