//! `doctor` and `send-test`.
//!
//! Must not know: how anything is looked at.

use super::owner::Owner;
use super::{Failure, as_json, block_on, exit, out};
use crate::config::{self, Env, Settings};
use crate::doctor::december::{self, Passwords};
use crate::doctor::report::Report;
use crate::doctor::send_test::{self, Fate, SendTestError};
use crate::doctor::{self, configured_login};
use crate::mail::{AccountId, Mailbox};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::time::Duration;

/// Where systemd keeps the running service's credentials.
const CREDENTIALS: &str = "/run/credentials/mailferry.service";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Only this account
    #[arg(long, value_name = "MAILBOX")]
    account: Option<String>,
    /// Send one message to this address, from each mailbox looked at
    #[arg(long, value_name = "ADDRESS")]
    send_to: Option<Mailbox>,
    /// Say what becomes of each account at an event that is announced; logs in by token, never with a password
    #[arg(long, value_name = "WHAT", conflicts_with = "send_to")]
    rehearse: Option<Rehearsal>,
    /// For scripts
    #[arg(long)]
    json: bool,
}

/// What can be rehearsed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rehearsal {
    /// The end of basic authentication at Exchange Online, at the end of December 2026
    December,
}

#[derive(Debug, Args)]
pub(super) struct SendTest {
    /// Whom to
    #[arg(long, value_name = "ADDRESS")]
    to: Mailbox,
    /// Whom from [default: the default account's mailbox]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Mailbox>,
    /// Follow it for so long
    #[arg(long, value_name = "TIME", default_value = "2min", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// The service's secrets are where systemd put them for it; an admin's shell does not say where that is.
pub(super) fn as_the_service(mut env: Env) -> Env {
    if Path::new(CREDENTIALS).is_dir() {
        env.entry("CREDENTIALS_DIRECTORY".to_owned()).or_insert_with(|| CREDENTIALS.into());
    }
    env
}

pub(super) fn doctor(args: Doctor, path: Option<&Path>, env: Env) -> Result<u8, Failure> {
    let env = as_the_service(env);
    let loaded = config::load(path.unwrap_or(Path::new(config::DEFAULT_PATH)), &env);
    let account = args.account.as_deref().map(AccountId::named);
    if let (Ok(settings), Some(wanted)) = (&loaded, &account)
        && !settings.accounts.iter().any(|a| a.id == *wanted)
    {
        let known = settings.accounts.iter().map(|a| a.id.to_string()).collect::<Vec<_>>().join(", ");
        let hint = format!("there are: {known}");
        return Err(Failure::new(exit::USAGE, format!("there is no account {wanted}"), hint));
    }
    // The secrets have been read; the rest is for whom the queue belongs to.
    let directory = match &loaded {
        Ok(settings) => Some(settings.queue.directory.clone()),
        Err(_) => config::load_queue_and_sockets(path, &env).ok().map(|(queue, _)| queue.directory),
    };
    if let Some(directory) = directory {
        Owner::of(&directory)?;
    }
    let mut report = if args.json {
        Report::default()
    } else {
        // Each step as it comes: a silent server takes its time.
        Report::telling(|text| {
            let _ = out(text);
        })
    };
    block_on(async {
        match &loaded {
            Ok(settings) => {
                let order = doctor::Order { account, send_to: args.send_to };
                match args.rehearse {
                    None => doctor::examine(settings, &order, configured_login, &mut report).await,
                    Some(Rehearsal::December) => {
                        december::rehearse(settings, &order, configured_login, Passwords::at, &mut report)
                            .await;
                    }
                }
            }
            Err(problems) => {
                let rest = config::load_queue_and_sockets(path, &env).ok();
                doctor::examine_without_configuration(problems, rest, &mut report).await;
            }
        }
        Ok(())
    })?;
    out(&if args.json { as_json(&report.json())? } else { format!("\n{}\n", report.sentence()) })?;
    Ok(report.exit_code())
}

pub(super) fn send_test(args: &SendTest, settings: &Settings) -> Result<u8, Failure> {
    let order = send_test::Order { to: args.to.clone(), from: args.from.clone(), patience: args.timeout };
    let mut tell = |line: &str, hint: Option<&str>| {
        let hint = hint.map_or(String::new(), |hint| format!("hint: {hint}\n"));
        let _ = out(&format!("{line}\n{hint}"));
    };
    let fate = block_on(async {
        send_test::send_test(settings, &order, &mut tell).await.map_err(|e| match e {
            SendTestError::Control(e) => Failure::from(e),
            SendTestError::NoPlainListener => Failure::new(
                exit::CONFIG,
                e.to_string(),
                "add [[listen]] with address = \"127.0.0.1:2525\", and restart",
            ),
            SendTestError::NotAClient(address) => Failure::new(
                exit::CONFIG,
                e.to_string(),
                format!("add [[client]] with from = [\"{address}\"], and reload"),
            ),
            SendTestError::Refused { .. } | SendTestError::NoId(_) => {
                Failure::new(exit::UNAVAILABLE, e.to_string(), "see: mailferry doctor")
            }
        })
    })?;
    Ok(match fate {
        Fate::Delivered => 0,
        Fate::Waiting => exit::TRY_LATER,
        Fate::Dead => exit::UNAVAILABLE,
    })
}
