//! `mailferry demo`: the real relay between the demo's devices and the sandbox.
//!
//! Invariant: it is configured by a file as an admin would write it, and nothing leaves this machine. Everything it
//! stores is in one directory that is removed at the end, whatever ends it. Must not know: the story.

use super::signals::{Asked, Signals};
use super::{Exit, Observers, Relay, serve};
use crate::config;
use crate::demo::{self, Script, Summary};
use crate::fact::{At, Fact, Observer};
use crate::files;
use crate::sandbox::{Sandbox, SandboxSettings};
use secrecy::SecretString;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const MAILBOX: &str = "scanner@contoso.com";
const PASSWORD: &str = "correct horse battery staple";
/// Where a visitor's own printer is told to send.
const PORT: u16 = 2525;
const STOP: Duration = Duration::from_secs(5);

/// Plays the demo; true when every message arrived once and whole.
///
/// # Errors
/// See `Exit`.
pub fn demo(once: bool) -> Result<bool, Exit> {
    let runtime = serve::runtime()?;
    let told = runtime.block_on(async {
        let mut signals = Signals::install()?;
        let end = watch::Sender::new(false);
        let ended = end.subscribe();
        let watch = tokio::spawn(async move {
            until_ended(&mut signals).await;
            end.send_replace(true);
        });
        let directory = Scratch::new()?;
        let told = play(&directory.0, once, ended).await;
        watch.abort();
        told
    });
    runtime.shutdown_background();
    Ok(told?.is_some_and(|summary| summary.is_complete()))
}

/// A hangup ends it only when it was the terminal that has gone: there is nothing to read anew, and nobody left to
/// tell.
async fn until_ended(signals: &mut Signals) {
    let began_at_a_terminal = std::io::stdout().is_terminal();
    while signals.next().await == Asked::Reload {
        if began_at_a_terminal && !std::io::stdout().is_terminal() {
            return;
        }
    }
}

/// Nothing when it was ended before the story was.
async fn play(
    directory: &Path,
    once: bool,
    mut ended: watch::Receiver<bool>,
) -> Result<Option<Summary>, Exit> {
    let (story, lines) = mpsc::unbounded_channel();
    let observers = Observers::and([Arc::new(Story(story)) as Arc<dyn Observer>]);
    let sandbox = Sandbox::start(
        SandboxSettings::new(MAILBOX, SecretString::from(PASSWORD)),
        observers.witness.clone(),
    )
    .map_err(|e| Exit::Sandbox(e.to_string()))?;
    // A visitor's printer needs a port it can be told, on every address; a test run takes what is free.
    let listen = match (once, TcpListener::bind(("0.0.0.0", PORT))) {
        (false, Ok(probe)) => probe.local_addr()?,
        _ => SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let file = directory.join("mailferry.toml");
    let configuration = configuration(directory, listen, sandbox.address());
    for (name, content) in
        [("password", PASSWORD), ("ca.pem", sandbox.ca_pem()), ("mailferry.toml", &configuration)]
    {
        files::create(&directory.join(name))?.write_all(content.as_bytes())?;
    }
    let settings = config::load(&file, &config::Env::new()).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Exit::Sandbox(all.join("; "))
    })?;
    let relay = Relay::start(&settings, vec![], observers).await?;
    let address = relay.addresses().first().copied().unwrap_or(listen);
    let mut shown = Shown { relay: &relay, address, lines: Some(lines) };
    let mut end = ended.clone();
    let script = Script::new(once);
    let summary = tokio::select! {
        biased;
        // After the story it ends by itself.
        summary = demo::run(&mut shown, &sandbox, &script, std::io::stdout(), over(&mut end)) => {
            summary.map(Some)
        }
        () = over(&mut ended) => Ok(None),
    };
    relay.stop(STOP).await;
    Ok(summary?)
}

async fn over(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|e| *e).await;
}

fn configuration(directory: &Path, listen: SocketAddr, smart_host: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        r#"hostname = "relay.contoso.local"

[[listen]]
address = "{listen}"

[[client]]
name = "devices"
from = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7", "fe80::/10"]

[[account]]
mailbox = "{MAILBOX}"
password = {{ file = "password" }}
smarthost = "{smart_host}"
ca_file = "ca.pem"

[queue]
directory = "{directory}/queue"
min_free_space = "10 MiB"

[control]
socket = "{directory}/control.sock"
"#
    )
}

/// Gives the demo the words of the log.
struct Story(mpsc::UnboundedSender<String>);

impl Observer for Story {
    fn saw(&self, _: At, fact: &Fact) {
        if fact.is_detail() {
            return;
        }
        for line in std::iter::once(fact.to_string()).chain(fact.hints()) {
            // Nobody listens any more once the story is over.
            let _ = self.0.send(line);
        }
    }
}

struct Shown<'a> {
    relay: &'a Relay,
    address: SocketAddr,
    lines: Option<mpsc::UnboundedReceiver<String>>,
}

impl demo::Relay for Shown<'_> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn lines(&mut self) -> mpsc::UnboundedReceiver<String> {
        self.lines.take().unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    async fn waiting(&self) -> u64 {
        use crate::mail::State;
        let totals = self.relay.queue().ledger.totals().await.unwrap_or_default();
        totals.iter().filter(|t| matches!(t.state, State::Queued | State::Held)).map(|t| t.messages).sum()
    }
}

/// A directory of our own, gone when the demo is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("mailferry-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
