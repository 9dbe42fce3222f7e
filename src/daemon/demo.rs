//! `mailferry demo`: the real relay between the demo's devices and the sandbox.
//!
//! Invariant: it is configured by a file as an admin would write it, and nothing leaves this machine. Everything it
//! stores is in one directory that is removed at the end. Must not know: the story.

use super::{Exit, Relay, serve};
use crate::config;
use crate::demo::{self, Script, Summary};
use crate::logs;
use crate::queue::Queue;
use crate::sandbox::{Sandbox, SandboxSettings};
use secrecy::SecretString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

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
    let directory = Scratch::new()?;
    let lines = logs::capture();
    let summary = serve::runtime()?.block_on(play(&directory.0, lines, once))?;
    Ok(summary.is_complete())
}

async fn play(directory: &Path, lines: mpsc::UnboundedReceiver<String>, once: bool) -> Result<Summary, Exit> {
    let sandbox = Sandbox::start(SandboxSettings::new(MAILBOX, SecretString::from(PASSWORD)))
        .map_err(|e| Exit::Sandbox(e.to_string()))?;
    // A visitor's printer needs a port it can be told, on every address; a test run takes what is free.
    let listen = match (once, TcpListener::bind(("0.0.0.0", PORT))) {
        (false, Ok(probe)) => probe.local_addr()?,
        _ => SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let file = directory.join("mailferry.toml");
    serve::write_private(&directory.join("password"), PASSWORD)?;
    serve::write_private(&directory.join("ca.pem"), sandbox.ca_pem())?;
    serve::write_private(&file, &configuration(directory, listen, sandbox.address()))?;
    let settings = config::load(&file, &config::Env::new()).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Exit::Sandbox(all.join("; "))
    })?;
    let relay = Relay::start(&settings, vec![]).await?;
    let address = relay.addresses().first().copied().unwrap_or(listen);
    let mut shown = Shown { relay: &relay, address, lines: Some(lines) };
    let summary = demo::run(&mut shown, &sandbox, &Script::new(once), std::io::stdout()).await;
    relay.stop(STOP).await;
    Ok(summary?)
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
        let totals = self.relay.queue().totals().await.unwrap_or_default();
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
