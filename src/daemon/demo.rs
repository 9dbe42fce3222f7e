//! `mailferry demo`: the real relay, a process of its own, between the demo's devices and the sandbox.
//!
//! Invariant: it is configured by a file as an admin would write it, and nothing leaves this machine. Everything it
//! stores is in one directory that is removed at the end, whatever ends it, and its process ends with ours. Must not
//! know: the story.

use super::signals::{Asked, Signals};
use super::{Exit, serve};
use crate::control::client::Client;
use crate::control::report::{AccountState, Status};
use crate::demo::{self, Condition, Script, Summary, Trouble};
use crate::fact::Witness;
use crate::files;
use crate::mail::WallTime;
use crate::sandbox::{Sandbox, SandboxSettings};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use secrecy::SecretString;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const MAILBOX: &str = "scanner@contoso.com";
const PASSWORD: &str = "correct horse battery staple";
/// Where a visitor's own printer is told to send.
const PORT: u16 = 2525;
/// How long the relay's process may take to come up, and to end.
const START: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Ends this process when the one that started it has ended, whatever ended it.
///
/// # Errors
/// The system's.
pub fn end_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have ended before.
    let is_there = getppid().is_some_and(|p| u32::try_from(p.as_raw_pid()).is_ok_and(|p| p == parent));
    if is_there { Ok(()) } else { Err(io::Error::other("who started this has gone")) }
}

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
    let began_at_a_terminal = io::stdout().is_terminal();
    while signals.next().await == Asked::Reload {
        if began_at_a_terminal && !io::stdout().is_terminal() {
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
    let sandbox =
        Sandbox::start(SandboxSettings::new(MAILBOX, SecretString::from(PASSWORD)), Witness::nobody())
            .map_err(|e| Exit::Sandbox(e.to_string()))?;
    let listen = free_address(once)?;
    let configuration = configuration(directory, listen, sandbox.address());
    for (name, content) in
        [("password", PASSWORD), ("ca.pem", sandbox.ca_pem()), ("mailferry.toml", &configuration)]
    {
        files::create(&directory.join(name))?.write_all(content.as_bytes())?;
    }
    let mut relay = OwnProcess::new(directory, listen);
    let mut end = ended.clone();
    let script = Script::new(once);
    let told = async {
        demo::Relay::start(&mut relay).await?;
        // After the story it ends by itself.
        demo::run(&mut relay, &sandbox, &script, io::stdout(), over(&mut end)).await
    };
    let summary = tokio::select! {
        biased;
        summary = told => summary.map(Some),
        () = over(&mut ended) => Ok(None),
    };
    relay.stop().await;
    Ok(summary?)
}

async fn over(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|e| *e).await;
}

/// A visitor's printer needs a port it can be told, on every address; a test run takes what is free. The relay takes
/// it again after a kill, so it is chosen here.
fn free_address(once: bool) -> io::Result<SocketAddr> {
    let ask = |host: [u8; 4], port: u16| TcpListener::bind(SocketAddr::from((host, port)))?.local_addr();
    if once {
        return ask([127, 0, 0, 1], 0);
    }
    ask([0, 0, 0, 0], PORT).or_else(|_| ask([0, 0, 0, 0], 0))
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

[log]
format = "text"
"#
    )
}

/// The relay as a process.
struct OwnProcess {
    directory: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
    conditions: watch::Receiver<Option<Condition>>,
    looking: JoinHandle<()>,
}

impl OwnProcess {
    fn new(directory: &Path, address: SocketAddr) -> Self {
        let (told, conditions) = watch::channel(None);
        let client = client(directory);
        let looking = tokio::spawn(async move {
            loop {
                told.send_replace(client.status().await.ok().map(|s| condition(&s)));
                sleep(LOOK).await;
            }
        });
        Self { directory: directory.to_owned(), address, child: None, conditions, looking }
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Why it did not come up, by its own last words.
    fn last_words(&self) -> io::Error {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        io::Error::other(format!("the demo's relay does not start: {}", last.join("; ")))
    }

    async fn stop(mut self) {
        self.looking.abort();
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            sleep(LOOK / 4).await;
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn client(directory: &Path) -> Client {
    Client::new(&directory.join("control.sock"))
}

impl demo::Relay for OwnProcess {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn conditions(&self) -> watch::Receiver<Option<Condition>> {
        self.conditions.clone()
    }

    async fn kill(&mut self) -> io::Result<String> {
        let Some(mut child) = self.child.take() else { return Ok("the relay has gone already".to_owned()) };
        child.kill()?;
        child.wait()?;
        Ok(format!("kill -9 {} (the relay)", child.id()))
    }

    async fn start(&mut self) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let child = Command::new(std::env::current_exe()?)
            .arg("--config")
            .arg(self.directory.join("mailferry.toml"))
            .args(["serve", "--parent", &std::process::id().to_string()])
            // What the environment says is for the relay of this machine.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C is for us, who end it in order.
            .process_group(0)
            .spawn()?;
        let (client, child) = (client(&self.directory), self.child.insert(child));
        let deadline = Instant::now() + START;
        while client.status().await.is_err() {
            if !matches!(child.try_wait(), Ok(None)) || Instant::now() > deadline {
                return Err(self.last_words());
            }
            sleep(LOOK / 4).await;
        }
        Ok(())
    }

    async fn set_password(&mut self, password: &'static str) -> io::Result<String> {
        files::replace(&self.directory.join("password"), password.as_bytes())?;
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), Signal::HUP)?;
        }
        Ok("writes the new password into its file: systemctl reload mailferry".to_owned())
    }
}

fn condition(status: &Status) -> Condition {
    let account = status.accounts.iter().find(|a| a.state != AccountState::Open);
    let now = (Instant::now(), WallTime::now());
    let trouble = account.map(|account| {
        let need = status.needs_human.iter().find(|n| n.account.as_ref() == Some(&account.mailbox));
        let left_ms = |at: WallTime| u64::try_from(at.as_ms() - now.1.as_ms()).unwrap_or(0);
        Trouble {
            next_try: account.next_probe_at.map(|at| now.0 + Duration::from_millis(left_ms(at.0))),
            remedy: need.map(|n| n.hint.clone()),
        }
    });
    Condition { waiting: status.queue.queued + status.queue.held, trouble }
}

/// A directory of our own, gone when the demo is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let name = format!("mailferry-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        files::create_directory(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
