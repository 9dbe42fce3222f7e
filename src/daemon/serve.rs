//! `mailferry serve`: the process around the relay: runtime, signals, the supervisor.
//!
//! Invariant: READY is said only when mail is accepted; SIGTERM and SIGINT drain, SIGHUP reloads, and a disk that
//! lies ends the process with an exit code instead of a promise. Must not know: rooms.

use super::{Relay, StartError, sockets};
use crate::config::{LogFormat, Problem, Settings};
use crate::events;
use crate::logs::{self, Format};
use crate::queue::{OpenError, Queue};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::submit::{Login, Tls};
use secrecy::SecretString;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Transactions in flight at a stop get this long, and their answers as long again; the unit's TimeoutStopSec is
/// more than both.
const DRAIN: Duration = Duration::from_secs(20);

/// How the process ends when it does not end well.
#[derive(Debug, thiserror::Error)]
pub enum Exit {
    /// Could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The sandbox could not start.
    #[error("cannot start the sandbox: {0}")]
    Sandbox(String),
    /// The queue's disk failed.
    #[error(
        "the queue cannot write any more: {0}\nhint: check the disk and the system log; what got a 250 before is on the disk"
    )]
    Disk(String),
    /// An account's task ended by a defect; the log has it.
    #[error(
        "an account stopped by a defect of mailferry, ending so that a fresh start takes over\nhint: please report the lines above; what is queued is on the disk"
    )]
    Defect,
    /// The system refused a runtime, a signal handler or the journal.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl Exit {
    /// Its code of sysexits.h.
    pub fn code(&self) -> u8 {
        match self {
            Self::Start(StartError::Queue(OpenError::Locked(_))) => 75,
            Self::Start(
                StartError::Trust { .. }
                | StartError::OAuth { .. }
                | StartError::Certificate { .. }
                | StartError::Socket { .. },
            ) => 78,
            Self::Start(_) => 69,
            Self::Defect => 70,
            Self::Disk(_) => 74,
            Self::Sandbox(_) | Self::System(_) => 71,
        }
    }
}

/// Runs until a signal ends it. `again` reads the configuration once more, for SIGHUP.
///
/// # Errors
/// See `Exit`.
pub fn serve(
    mut settings: Settings,
    sandbox: bool,
    again: impl Fn() -> Result<Settings, Vec<Problem>>,
) -> Result<(), Exit> {
    logs::init(match settings.log {
        LogFormat::Auto => Format::Auto,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Journald => Format::Journald,
    })?;
    harden();
    // Before any thread exists, as the environment is read and cleared here.
    let handed = sockets::handed()?;
    let stand_in = if sandbox { Some(stand_in(&mut settings)?) } else { None };
    runtime()?.block_on(async {
        let relay = Relay::start(&settings, handed).await?;
        events::daemon::started(
            &relay.addresses(),
            &settings.accounts.iter().map(|a| a.id.to_string()).collect::<Vec<_>>(),
        );
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let watchdog = tokio::spawn(watchdog());
        let ended = run(&relay, &mut settings, stand_in.as_ref(), again).await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        events::daemon::stopping();
        relay.stop(DRAIN).await;
        watchdog.abort();
        events::daemon::stopped();
        ended
    })
}

/// One worker a core is enough: the disk and the smart host are what is waited for.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(4)))
        .max_blocking_threads(64)
        .thread_name("mailferry")
        .enable_all()
        .build()
}

async fn run(
    relay: &Relay,
    settings: &mut Settings,
    stand_in: Option<&StandIn>,
    again: impl Fn() -> Result<Settings, Vec<Problem>>,
) -> Result<(), Exit> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    let mut failed = relay.queue().failed();
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            () = relay.defect() => return Err(Exit::Defect),
            why = &mut failed => {
                events::daemon::disk_failed(&why);
                return Err(Exit::Disk(why));
            }
            _ = hup.recv() => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading]);
                match again() {
                    Err(problems) => {
                        for problem in problems {
                            events::daemon::reload_refused(&problem.to_string());
                        }
                    }
                    Ok(mut new) => {
                        if let Some(stand_in) = stand_in {
                            stand_in.redirect(&mut new);
                        }
                        match relay.reload(&new, settings).await {
                            Ok(()) => {
                                *settings = new;
                                events::daemon::reloaded();
                            }
                            Err(error) => events::daemon::reload_refused(&error.to_string()),
                        }
                    }
                }
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        }
    }
}

/// A core dump would hold the mailbox's password; ptrace by the same user would show it.
fn harden() {
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        events::daemon::not_hardened(&error.to_string());
    }
}

/// Pets systemd's watchdog twice as often as it asks, from the runtime that does the work: a stuck one is silent.
async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beat = tokio::time::interval(limit / 2);
    loop {
        beat.tick().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

/// The sandbox in place of every smart host.
struct StandIn {
    _sandbox: Sandbox,
    address: std::net::SocketAddr,
    ca_file: std::path::PathBuf,
}

const MAILBOX: &str = "sandbox@contoso.com";

fn stand_in(settings: &mut Settings) -> Result<StandIn, Exit> {
    let password = SecretString::from("sandbox");
    let sandbox =
        Sandbox::start(SandboxSettings::new(MAILBOX, password)).map_err(|e| Exit::Sandbox(e.to_string()))?;
    let directory = &settings.queue.directory;
    let ca_file = directory.join("sandbox-ca.pem");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    write_private(&ca_file, sandbox.ca_pem())?;
    let stand_in = StandIn { address: sandbox.address(), _sandbox: sandbox, ca_file };
    stand_in.redirect(settings);
    events::daemon::sandboxed(stand_in.address);
    Ok(stand_in)
}

impl StandIn {
    fn redirect(&self, settings: &mut Settings) {
        for account in &mut settings.accounts {
            account.smart_host.host = "localhost".to_owned();
            if self.address.ip().is_ipv4() {
                account.smart_host.host = self.address.ip().to_string();
            }
            account.smart_host.port = self.address.port();
            account.smart_host.tls = Tls::StartTls;
            account.oauth = None;
            account.smart_host.login =
                Some(Login::Password { user: MAILBOX.to_owned(), password: SecretString::from("sandbox") });
            account.ca_file = Some(self.ca_file.clone());
        }
    }
}

pub(super) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
