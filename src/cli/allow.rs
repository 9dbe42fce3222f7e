//! `mailferry allow`: a device may relay from now on, and the last time can be taken back.
//!
//! Invariant: the file is checked whole before it is replaced; it is the old one or the new one, with the same owner and
//! rights, whatever crashes; the one before is kept beside it. Must not know: how a file is edited, what a reload is.

use super::{Failure, block_on, exit, out, say, wrong};
use crate::config::edit::{self, Edited};
use crate::config::{self, Env, Settings};
use crate::control::client::{Client, ClientError};
use crate::files;
use clap::Args;
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Allow {
    /// The device's address, or a network: 10.0.5.7, 10.0.5.0/24
    #[arg(required_unless_present = "undo", value_parser = network)]
    network: Option<IpNet>,
    /// The name of its [[client]]; one that is not there is made
    #[arg(long = "as", value_name = "CLIENT", required_unless_present = "undo")]
    client: Option<String>,
    /// Even a network as wide as the world; with --undo, even where the file was changed since
    #[arg(long)]
    yes: bool,
    /// Take the last one back: the file as it was before it
    #[arg(long, conflicts_with_all = ["network", "client"])]
    undo: bool,
}

fn network(text: &str) -> Result<IpNet, String> {
    let network =
        edit::network(text).ok_or("neither an address nor a network, as 10.0.5.7 or 10.0.5.0/24")?;
    let is_host = network.prefix_len() == network.max_prefix_len();
    let address = network.addr();
    if address.is_multicast() || (is_host && address.is_unspecified()) || address == IpAddr::from([255; 4]) {
        return Err("no device has this address".to_owned());
    }
    if network.trunc() != network {
        return Err(format!(
            "a network ends in zeros: did you mean {}, or the address {address}?",
            network.trunc()
        ));
    }
    Ok(network)
}

pub(super) fn run(args: &Allow, path: Option<&Path>, env: &Env) -> Result<(), Failure> {
    let path = path.unwrap_or(Path::new(config::DEFAULT_PATH));
    // A link is the admin's own; what it leads to is the file.
    let file = path.canonicalize().map_err(|e| io_failed("read", path, &e))?;
    let old = std::fs::read_to_string(&file).map_err(|e| io_failed("read", &file, &e))?;
    let new = match (&args.network, &args.client) {
        (Some(network), Some(client)) => match added(&old, &file, env, (*network, client), args.yes)? {
            Some(new) => new,
            None => return Ok(()),
        },
        _ => before(&file, args.yes)?,
    };
    config::rehearse_text(&file, &new, env).map_err(|p| wrong(&p))?;
    out(&difference(&old, &new))?;
    put(&file, &old, &new, args.undo)?;
    let other = beside(&file, if args.undo { UNDONE } else { BEFORE });
    out(&format!("{} is changed; as it was before: {}\n", file.display(), other.display()))?;
    reload(path, env)
}

/// The text with the network in it; none: it is allowed already.
fn added(
    old: &str,
    file: &Path,
    env: &Env,
    (network, client): (IpNet, &str),
    is_sure: bool,
) -> Result<Option<String>, Failure> {
    let settings = config::rehearse_text(file, old, env).map_err(|p| wrong(&p))?;
    let widest = if network.addr().is_ipv4() { 8 } else { 16 };
    if network.prefix_len() < widest && !is_sure {
        return Err(Failure::new(
            exit::USAGE,
            format!("{network} lets whole countries relay through your mailbox"),
            "name the network of the devices only; if you mean it: --yes",
        ));
    }
    if overlaps(&settings, network, client)? {
        return Ok(None);
    }
    let Edited { text, is_new_client } = edit::allow(old, network, client).map_err(|e| {
        Failure::new(exit::CONFIG, e.to_string(), "add it by hand, then: systemctl reload mailferry")
    })?;
    if is_new_client {
        let known: Vec<String> = settings.receive.clients.all().map(|c| c.name.to_string()).collect();
        out(&format!("there was no client {client}, so it is made (there are: {})\n", known.join(", ")))?;
    }
    let new = config::rehearse_text(file, &text, env).map_err(|p| wrong(&p))?;
    let admitted = new.receive.clients.admit(network.addr());
    if admitted.is_none_or(|c| c.name.as_str() != client) {
        return Err(Failure::new(
            exit::CONFIG,
            format!("the file would say so, and yet {network} would not be {client}'s"),
            "does MAILFERRY__CLIENT__... in the environment set it otherwise?",
        ));
    }
    Ok(Some(text))
}

/// Says what is allowed of it already; true: there is nothing to do.
fn overlaps(settings: &Settings, network: IpNet, client: &str) -> Result<bool, Failure> {
    let new = edit::written(network);
    for other in settings.receive.clients.all() {
        for net in &other.networks {
            let (name, theirs) = (&other.name, edit::written(*net));
            let is_same = name.as_str() == client;
            if net.contains(&network) && (is_same || *net == network) {
                out(&format!("{new} is allowed already, as {name} ({theirs}); nothing was changed\n"))?;
                return Ok(true);
            }
            if net.contains(&network) {
                out(&format!(
                    "{new} was of {name} ({theirs}); it is of {client} now, as the longer prefix wins\n"
                ))?;
            } else if network.contains(net) && !is_same {
                out(&format!("{theirs} stays with {name}, as the longer prefix wins\n"))?;
            }
        }
    }
    Ok(false)
}

/// What `allow` and `allow --undo` put aside.
const BEFORE: &str = ".before";
const UNDONE: &str = ".undone";
/// The old one and the new one are written one after the other.
const TOGETHER: Duration = Duration::from_secs(2);

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The file as it was before the last `allow`. What was changed by hand since would be undone with it.
fn before(file: &Path, is_sure: bool) -> Result<String, Failure> {
    let kept = beside(file, BEFORE);
    let written = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified());
    let since = match (written(file), written(&kept)) {
        (Ok(now), Ok(then)) => now.duration_since(then).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    if since > TOGETHER && !is_sure {
        return Err(Failure::new(
            exit::USAGE,
            format!("{} was changed since, and that would be undone, too", file.display()),
            "take the address out by hand, then: systemctl reload mailferry; or have all of it as it was: mailferry \
             allow --undo --yes",
        ));
    }
    std::fs::read_to_string(&kept).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            let what = format!("there is nothing to take back: no {}", kept.display());
            Failure::new(
                exit::NO_INPUT,
                what,
                "take the line out of the file by hand, then: systemctl reload mailferry",
            )
        }
        _ => io_failed("read", &kept, &e),
    })
}

/// First the old one is kept, then the new one takes its place.
fn put(file: &Path, old: &str, new: &str, is_undo: bool) -> Result<(), Failure> {
    let failed = |e: io::Error| io_failed("change", file, &e);
    if std::fs::read_to_string(file).map_err(failed)? != old {
        let what = format!("{} was changed by somebody else at this moment", file.display());
        return Err(Failure::new(exit::TRY_LATER, what, "say it again"));
    }
    let aside = beside(file, if is_undo { UNDONE } else { BEFORE });
    files::put_like(file, &aside, old.as_bytes()).map_err(failed)?;
    files::put_like(file, file, new.as_bytes()).map_err(failed)?;
    if is_undo {
        std::fs::remove_file(beside(file, BEFORE)).map_err(failed)?;
    }
    Ok(())
}

fn io_failed(what: &str, file: &Path, e: &io::Error) -> Failure {
    let code = if e.kind() == io::ErrorKind::PermissionDenied { exit::NO_PERMISSION } else { exit::IO };
    Failure::new(
        code,
        format!("cannot {what} {}: {e}", file.display()),
        "run it as root, or name another file with --config",
    )
}

/// Has the running relay take it, and says what came of it.
fn reload(path: &Path, env: &Env) -> Result<(), Failure> {
    let (_, sockets) = config::load_queue_and_sockets(Some(path), env).map_err(|p| wrong(&p))?;
    match block_on(async { Ok(Client::new(&sockets.control).reload().await) })? {
        Ok(waiting) if waiting.is_empty() => out("the running relay has taken it\n"),
        Ok(waiting) => out(&format!(
            "the running relay has taken it; these only count after a restart: {}\n",
            waiting.join(", ")
        )),
        Err(ClientError::NotRunning) => {
            say(
                "mailferry is not running, so it counts from its start on",
                "start it with: systemctl start mailferry",
            );
            Ok(())
        }
        Err(ClientError::Refused(why)) => Err(Failure::new(
            exit::CONFIG,
            format!("the file is changed, and the running relay did not take it: {why}"),
            "mend it, or take it back with: mailferry allow --undo",
        )),
        Err(e) => Err(Failure::new(
            exit::TRY_LATER,
            format!("the file is changed, and the running relay could not be told: {e}"),
            "systemctl reload mailferry",
        )),
    }
}

/// The lines that differ, which stand together.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - begin;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = format!("line {}:\n", begin + 1);
    for line in &old[begin..old.len() - end] {
        text += &format!("- {line}\n");
    }
    for line in &new[begin..new.len() - end] {
        text += &format!("+ {line}\n");
    }
    text
}
