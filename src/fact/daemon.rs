//! Facts of the process.

use crate::mail::{AccountId, QueueId, QueuedMessage, WallTime};
use crate::policy::expiry::Expiry;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use tracing::{error, info, warn};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Mail is accepted.
    Started {
        /// Where.
        listening: Vec<SocketAddr>,
        /// As whom it is sent.
        accounts: Vec<AccountId>,
    },
    /// Told to stop: what is in flight is finished.
    Stopping,
    /// Everything is closed.
    Stopped,
    /// These keys' values are as systemd or the environment gave them at the start.
    GivenAtStart {
        /// The keys.
        keys: Vec<String>,
    },
    /// New settings apply.
    Reloaded,
    /// New settings apply, but for those of these keys.
    RestartNeeded {
        /// The keys.
        keys: Vec<&'static str>,
    },
    /// New settings were not taken; the old ones go on.
    ReloadRefused {
        /// What is wrong with them.
        problem: String,
    },
    /// The file of the configuration is another than the one that was read.
    ConfigurationChanged {
        /// Which.
        path: PathBuf,
    },
    /// A listener shows its renewed certificate.
    CertificateTaken {
        /// Which.
        listener: SocketAddr,
    },
    /// A listener's renewed certificate is of no use; it shows the one before.
    CertificateNotTaken {
        /// Which.
        listener: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
    /// A listener's certificate ends soon.
    CertificateEnds {
        /// Which.
        listener: SocketAddr,
        /// When.
        expiry: Expiry,
        /// The moment it is told.
        now: WallTime,
    },
    /// The disk failed for good.
    DiskFailed {
        /// Why.
        why: String,
    },
    /// The control socket is gone.
    ControlFailed {
        /// Why.
        why: String,
    },
    /// Core dumps could not be switched off.
    NotHardened {
        /// Why.
        why: String,
    },
    /// Everything goes to the sandbox.
    Sandboxed {
        /// Where that is.
        address: SocketAddr,
        /// Its queue.
        queue: PathBuf,
    },
    /// The sandbox is gone.
    SandboxStopped {
        /// Why.
        error: String,
    },
    /// History was forgotten in time.
    HistoryForgotten {
        /// So many messages.
        delivered: u64,
    },
    /// Dead letters come to the end of `keep_dead`; told every day until then.
    DeadLettersEnd {
        /// So many, or more.
        count: u64,
        /// More.
        and_more: bool,
        /// When the first one is removed.
        first: WallTime,
    },
    /// A dead letter has come to the end of `keep_dead` and is removed: what remains of it is this.
    DeadLetterEnds {
        /// Which.
        message: Box<QueuedMessage>,
        /// Of its head and content, in hexadecimal.
        sha256: String,
    },
    /// It was not removed after all: somebody else changed it at that moment.
    DeadLetterStays {
        /// Which.
        id: QueueId,
    },
    /// The end of a round. What was kept could not be read, or was being changed.
    DeadLettersEnded {
        /// So many.
        removed: u64,
        /// So many stay.
        kept: u64,
    },
    /// History could not be forgotten; it is tried again.
    PruneFailed {
        /// Why.
        why: String,
    },
}

impl Fact {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::GivenAtStart { .. } => "given_at_start",
            Self::Reloaded => "reloaded",
            Self::RestartNeeded { .. } => "restart_needed",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::ConfigurationChanged { .. } => "configuration_changed",
            Self::CertificateTaken { .. } => "listener_certificate_taken",
            Self::CertificateNotTaken { .. } => "listener_certificate_not_taken",
            Self::CertificateEnds { .. } => "listener_certificate_ends",
            Self::DiskFailed { .. } => "disk_failed",
            Self::ControlFailed { .. } => "control_failed",
            Self::NotHardened { .. } => "not_hardened",
            Self::Sandboxed { .. } => "sandboxed",
            Self::SandboxStopped { .. } => "sandbox_stopped",
            Self::HistoryForgotten { .. } => "history_forgotten",
            Self::DeadLettersEnd { .. } => "dead_letters_end",
            Self::DeadLetterEnds { .. } => "dead_letter_removed",
            Self::DeadLetterStays { .. } => "dead_letter_stays",
            Self::DeadLettersEnded { .. } => "dead_letters_ended",
            Self::PruneFailed { .. } => "prune_failed",
        }
    }

    pub(super) fn log(&self) {
        let event = self.event();
        match self {
            Self::Started { .. } => info!(event, version = env!("CARGO_PKG_VERSION"), "{self}"),
            Self::Stopping | Self::Stopped | Self::GivenAtStart { .. } | Self::Reloaded => {
                info!(event, "{self}");
            }
            Self::CertificateTaken { listener } => info!(event, %listener, "{self}"),
            Self::CertificateNotTaken { listener, .. } | Self::CertificateEnds { listener, .. } => {
                warn!(event, %listener, "{self}");
            }
            Self::RestartNeeded { .. }
            | Self::ConfigurationChanged { .. }
            | Self::NotHardened { .. }
            | Self::PruneFailed { .. } => {
                warn!(event, "{self}");
            }
            Self::ReloadRefused { .. } | Self::DiskFailed { .. } | Self::ControlFailed { .. } => {
                error!(event, "{self}");
            }
            Self::Sandboxed { address, queue } => {
                warn!(event, %address, queue = %queue.display(), "{self}");
            }
            Self::SandboxStopped { error } => error!(event, %error, "{self}"),
            Self::HistoryForgotten { delivered } => info!(event, delivered, "{self}"),
            Self::DeadLettersEnd { count, first, .. } => warn!(event, count, %first, "{self}"),
            Self::DeadLetterEnds { message, sha256 } => warn!(
                event,
                id = %message.id,
                account = %message.account,
                client = %message.client,
                from = %message.reverse_path,
                to = recipients(message),
                size_bytes = message.size_bytes,
                received_at = %message.received_at,
                finished_at = finished_at(message),
                last_said = message.last_said,
                sha256,
                "{self}"
            ),
            Self::DeadLetterStays { id } => warn!(event, %id, "{self}"),
            Self::DeadLettersEnded { removed, kept } => info!(event, removed, kept, "{self}"),
        }
    }
}

impl fmt::Display for Fact {
    #[expect(clippy::too_many_lines, reason = "a table: the words of each fact")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { listening, accounts } => {
                write!(f, "listening on {}, sending as {}", list(listening), list(accounts))
            }
            Self::Stopping => f.write_str("stopping: no new connections, finishing what is in flight"),
            Self::Stopped => f.write_str("stopped"),
            Self::GivenAtStart { keys } => write!(
                f,
                "as systemd or the environment gave them at the start, so that a new value needs a restart: {}",
                keys.join(", ")
            ),
            Self::Reloaded => f.write_str("configuration reloaded"),
            Self::RestartNeeded { keys } => write!(
                f,
                "configuration reloaded, but a new value of these only counts after a restart: {}",
                keys.join(", ")
            ),
            Self::ReloadRefused { problem } => {
                write!(f, "configuration not reloaded, the old one goes on: {problem}")
            }
            Self::ConfigurationChanged { path } => write!(
                f,
                "{} was changed and is not loaded; hint: mailferry check, then: systemctl reload mailferry",
                path.display()
            ),
            Self::CertificateTaken { listener } => {
                write!(f, "listener {listener} shows its renewed certificate")
            }
            Self::CertificateNotTaken { listener, why } => write!(
                f,
                "the renewed certificate of listener {listener} is of no use, the one before is shown: {why}"
            ),
            Self::CertificateEnds { listener, expiry, now } => {
                f.write_str(&expiry.words(&format_args!("listener {listener}"), *now))
            }
            Self::DiskFailed { why } => write!(f, "the queue cannot write any more, stopping: {why}"),
            Self::ControlFailed { why } => write!(f, "the control socket failed: {why}"),
            Self::NotHardened { why } => write!(f, "core dumps stay possible: {why}"),
            Self::Sandboxed { address, queue } => write!(
                f,
                "sandbox: nothing leaves this machine, mail goes to a stand-in at {address} through a queue of its own \
                 in {}",
                queue.display()
            ),
            Self::SandboxStopped { .. } => f.write_str("the sandbox stopped"),
            Self::HistoryForgotten { delivered } => {
                write!(f, "forgot {delivered} delivered messages past keep_history")
            }
            Self::DeadLettersEnd { count, and_more, first } => {
                let more = if *and_more { " or more" } else { "" };
                write!(
                    f,
                    "{count}{more} dead letters will be removed for good, as keep_dead says: the first at {first}; hint: \
                     bring them back with: mailferry queue retry --state dead; or save them with: mailferry queue export \
                     --state dead --to DIR"
                )
            }
            Self::DeadLetterEnds { message, sha256 } => write!(
                f,
                "{}: removed for good, given up at {} and past keep_dead: from {} to {}, {} bytes, sha256 {sha256}",
                message.id,
                finished_at(message),
                message.reverse_path,
                recipients(message),
                message.size_bytes
            ),
            Self::DeadLetterStays { id } => {
                write!(f, "{id}: not removed after all, it was changed at that moment")
            }
            Self::DeadLettersEnded { removed, kept } => write!(
                f,
                "{removed} dead letters past keep_dead were removed, {kept} stay, as they cannot be read or somebody is \
                 at them"
            ),
            Self::PruneFailed { why } => write!(f, "history is not forgotten yet: {why}"),
        }
    }
}

fn list(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn recipients(message: &QueuedMessage) -> String {
    message.recipients.iter().map(|r| r.mailbox.to_string()).collect::<Vec<_>>().join(", ")
}

fn finished_at(message: &QueuedMessage) -> String {
    message.finished_at.map(|at| at.to_string()).unwrap_or_default()
}
