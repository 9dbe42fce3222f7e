//! `mailferry serve`: the process around the relay: runtime, signals, the supervisor.
//!
//! Invariant: READY is said only when mail is accepted; SIGTERM and SIGINT drain, SIGHUP reloads, and a disk that
//! lies ends the process with an exit code instead of a promise. Must not know: rooms.

use super::signals::{Asked, Signals};
use super::stand_in::{MailFor, StandIn};
use super::{Handed, Observers, Opened, Relay, StartError, sockets};
use crate::config::{Problem, Settings, Severity};
use crate::fact::daemon::Fact;
use crate::logs::{self, Format};
use crate::queue::OpenError;
use std::sync::Arc;
use std::time::Duration;

/// Transactions in flight at a stop get this long, and their answers as long again; the unit's TimeoutStopSec is
/// more than both.
const DRAIN: Duration = Duration::from_secs(20);

/// A queue that cannot be written is left at once: whatever is still handed over could not be recorded.
const LEAVE: Duration = Duration::from_millis(250);

/// How the process ends when it does not end well.
#[derive(Debug, thiserror::Error)]
pub enum Exit {
    /// The configuration is wrong, or what it names cannot be read.
    #[error("the configuration cannot be used; nothing was opened")]
    Configuration(Vec<Problem>),
    /// Could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The sandbox could not start.
    #[error("cannot start the sandbox: {0}")]
    Sandbox(String),
    /// The queue's disk failed.
    #[error("the queue cannot write any more: {0}")]
    Disk(String),
    /// An account's task ended by a defect; the log has it.
    #[error("an account stopped by a defect of mailferry, ending so that a fresh start takes over")]
    Defect,
    /// The system refused a runtime, a signal handler or the journal.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl Exit {
    /// Its code of sysexits.h. With 78 a service manager leaves the relay down, so it stands only for what starting
    /// again cannot mend.
    pub fn code(&self) -> u8 {
        match self {
            Self::Configuration(problems) => Problem::exit_code(problems),
            Self::Start(error) if !error.may_pass() => 78,
            Self::Start(
                StartError::Queue(OpenError::InUse { .. })
                | StartError::OAuth { .. }
                | StartError::Certificate { .. },
            ) => 75,
            Self::Start(_) => 69,
            Self::Defect => 70,
            Self::Disk(_) => 74,
            Self::Sandbox(_) | Self::System(_) => 71,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Start(error) => error.hint(),
            Self::Disk(_) => {
                Some("check the disk and the system log; what got a 250 before is on the disk".to_owned())
            }
            Self::Defect => Some("please report the lines above; what is queued is on the disk".to_owned()),
            Self::Configuration(_) | Self::Sandbox(_) | Self::System(_) => None,
        }
    }
}

/// Reads the configuration, at the start and for every SIGHUP.
type Read = dyn Fn() -> Result<Settings, Vec<Problem>> + Send + Sync;

/// Runs until a signal ends it. `told` hears what the configuration read first warns of.
///
/// # Errors
/// See `Exit`.
pub fn serve(
    sandbox: bool,
    read: impl Fn() -> Result<Settings, Vec<Problem>> + Send + Sync + 'static,
    told: impl Fn(&[Problem]),
) -> Result<(), Exit> {
    // Before any thread exists, as the environment is read and cleared here.
    let handed = sockets::handed()?;
    let runtime = runtime()?;
    let read: Arc<Read> = Arc::new(read);
    let ended = runtime.block_on(async {
        // Before anything that takes time: whoever knows our process may send a signal.
        let mut signals = Signals::install()?;
        process(sandbox, &read, told, handed, &mut signals).await
    });
    // Whatever is done off the runtime's threads is a look at a file or a name that nobody waits for any more.
    runtime.shutdown_background();
    ended
}

/// From the first look at the configuration to the end.
async fn process(
    sandbox: bool,
    read: &Arc<Read>,
    told: impl Fn(&[Problem]),
    handed: Vec<Handed>,
    signals: &mut Signals,
) -> Result<(), Exit> {
    let hardened = harden();
    let Some(first) = signals.unless_stopped(read_apart(read)).await else { return Ok(()) };
    let mut settings = first.map_err(Exit::Configuration)?;
    told(&settings.warnings);
    logs::prepare(settings.log)?.begin();
    let observers = Observers::default();
    let witness = observers.witness.clone();
    if let Err(error) = hardened {
        witness.tell(Fact::NotHardened { why: error.to_string() });
    }
    let stand_in = if sandbox { Some(StandIn::start(&settings, &witness)?) } else { None };
    let mail_for = stand_in.as_ref().map_or(MailFor::SmartHosts, |_| MailFor::Sandbox);
    if let Some(stand_in) = &stand_in {
        stand_in.redirect(&mut settings);
    }
    let Some(opened) = signals.unless_stopped(Opened::queue(&settings.queue, mail_for, observers)).await
    else {
        witness.tell(Fact::Stopped);
        return Ok(());
    };
    let relay = Relay::begin(&settings, opened?, handed).await?;
    witness.tell(Fact::Started {
        listening: relay.addresses(),
        accounts: settings.accounts.iter().map(|a| a.id.clone()).collect(),
    });
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watchdog());
    let ended = run(&relay, settings.log, stand_in.as_ref(), read, signals).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    witness.tell(Fact::Stopping);
    relay.stop(if matches!(ended, Err(Exit::Disk(_))) { LEAVE } else { DRAIN }).await;
    watchdog.abort();
    witness.tell(Fact::Stopped);
    ended
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
    mut log: Format,
    stand_in: Option<&StandIn>,
    read: &Arc<Read>,
    signals: &mut Signals,
) -> Result<(), Exit> {
    let mut failed = relay.queue().health.failed();
    loop {
        let mut answer = None;
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return Ok(()),
                Asked::Reload => {}
            },
            asked = relay.reload_asked() => answer = Some(asked),
            () = relay.defect() => return Err(Exit::Defect),
            why = &mut failed => {
                relay.witness.tell(Fact::DiskFailed { why: why.clone() });
                return Err(Exit::Disk(why));
            }
        }
        reloading();
        // A file on a disk that does not answer must not keep us from stopping.
        let Some(again) = signals.unless_stopped(read_apart(read)).await else { return Ok(()) };
        match again {
            Ok(new) => {
                let outcome;
                (log, outcome) = reload(relay, new, log, stand_in).await;
                answer.take().map(|answer| answer.send(outcome));
            }
            Err(problems) => {
                for problem in problems.iter().filter(|p| p.severity == Severity::Error) {
                    refused(relay, problem, problem.hint.as_deref());
                }
                // What comes first in the file is what the status says.
                if let Some(first) = problems.iter().find(|p| p.severity == Severity::Error) {
                    relay.on_disk.refused(&first.to_string(), first.hint.as_deref());
                    answer.take().map(|answer| answer.send(Err(first.to_string())));
                }
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }
}

/// The keys that wait for a restart, or what is wrong.
type Outcome = Result<Vec<String>, String>;

/// Takes all of a configuration, or nothing; returns the log's format in force, and what came of it.
async fn reload(
    relay: &Relay,
    mut new: Settings,
    log: Format,
    stand_in: Option<&StandIn>,
) -> (Format, Outcome) {
    if let Some(stand_in) = stand_in {
        stand_in.redirect(&mut new);
    }
    let next = if new.log == log { Ok(None) } else { logs::prepare(new.log).map(Some) };
    let next = match next {
        Ok(next) => next,
        Err(error) => {
            let why = format!("log.format: no journal: {error}");
            refused(relay, &why, None);
            return (log, Err(why));
        }
    };
    match relay.reload(&new).await {
        Err(error) => {
            refused(relay, &error, error.hint().as_deref());
            (log, Err(error.to_string()))
        }
        Ok(waiting) => {
            if let Some(next) = next {
                next.begin();
            }
            if !new.given_at_start.is_empty() {
                relay.witness.tell(Fact::GivenAtStart { keys: new.given_at_start.into_iter().collect() });
            }
            let keys = waiting.iter().map(|key| (*key).to_owned()).collect();
            relay.witness.tell(match waiting.as_slice() {
                [] => Fact::Reloaded,
                _ => Fact::RestartNeeded { keys: waiting },
            });
            (new.log, Ok(keys))
        }
    }
}

fn refused(relay: &Relay, said: impl std::fmt::Display, hint: Option<&str>) {
    relay.on_disk.refused(&said.to_string(), hint);
    let hint = hint.map_or(String::new(), |hint| format!("; hint: {hint}"));
    relay.witness.tell(Fact::ReloadRefused { problem: format!("{said}{hint}") });
}

/// Off the runtime's threads.
async fn read_apart(read: &Arc<Read>) -> Result<Settings, Vec<Problem>> {
    let read = Arc::clone(read);
    let done = tokio::task::spawn_blocking(move || read()).await;
    done.expect("reading a configuration does not panic, and nobody aborts it")
}

/// What systemd wants to hear of a reload: with `Type=notify-reload` also when it began.
fn reloading() {
    let mut states = vec![sd_notify::NotifyState::Reloading];
    states.extend(sd_notify::NotifyState::monotonic_usec_now());
    let _ = sd_notify::notify(&states);
}

/// A core dump would hold the mailbox's password; ptrace by the same user would show it.
fn harden() -> rustix::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
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
