//! `mailferry devices`: who sends, who was refused, and what the admin says of them.
//!
//! Invariant: the same beside the daemon and without it. Must not know: how it is remembered.

use super::source::Source;
use super::{Failure, as_json, block_on, exit, open, out, print};
use crate::config::Env;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use std::net::IpAddr;
use std::path::Path;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Devices {
    /// For scripts
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Said>,
}

#[derive(Debug, Subcommand)]
enum Said {
    /// Mark an address that was refused as seen: nothing asks about it any more
    Seen {
        /// As `mailferry devices` shows it
        address: IpAddr,
    },
    /// Give a device a name; an empty one takes it away
    Name {
        /// As `mailferry devices` shows it
        address: IpAddr,
        /// What people call it
        name: String,
    },
}

pub(super) fn run(args: &Devices, path: Option<&Path>, env: &Env) -> Result<(), Failure> {
    let (source, _) = open(path, env)?;
    block_on(async {
        let done = act(&source, args).await;
        source.close().await;
        out(&done?)
    })
}

async fn act(source: &Source, args: &Devices) -> Result<String, Failure> {
    match &args.command {
        None => {
            let list = source.devices().await?;
            if args.json { as_json(&list) } else { Ok(print::devices(&list, &TimeZone::system())) }
        }
        Some(Said::Seen { address }) => {
            source
                .device_seen(*address)
                .await?
                .then_some(())
                .ok_or_else(|| unknown("was refused", *address))?;
            Ok(format!("{address} is marked as seen\n"))
        }
        Some(Said::Name { address, name }) => {
            source
                .name_device(*address, name)
                .await?
                .then_some(())
                .ok_or_else(|| unknown("sends", *address))?;
            Ok(match name.trim() {
                "" => format!("{address} has no name any more\n"),
                _ => format!("{address} has a name\n"),
            })
        }
    }
}

fn unknown(what: &str, address: IpAddr) -> Failure {
    Failure::new(
        exit::NO_INPUT,
        format!("no device {what} from {address}"),
        "see who is known: mailferry devices",
    )
}
