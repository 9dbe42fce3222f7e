//! The relay as a whole: builds the rooms from the bottom up and takes them down from the top.
//!
//! Invariant: nothing is accepted before the queue is open, nothing is sent after it is closed; a reload with a bad
//! file changes nothing. Must not know: what any room does inside.

mod beside;
mod demo;
mod listeners;
mod live;
mod lookout;
mod observers;
mod on_disk;
mod reload;
mod serve;
mod signals;
mod site;
mod sockets;
mod stand_in;
mod upkeep;

pub use demo::{demo, end_with};
pub(crate) use live::device_list;
pub use observers::Observers;
pub use serve::{Exit, serve};
pub use sockets::Handed;

use crate::config::{self, Settings};
use crate::control::socket::{self, Access};
use crate::control::{self, anybody, api};
use crate::dispatch::{self, Dispatcher};
use crate::fact::Witness;
use crate::fact::daemon::Fact;
use crate::fact::receive as receive_fact;
use crate::files;
use crate::http::Limits;
use crate::mail::{AccountId, Place, WallTime};
use crate::queue::{self, Clock, OpenError, Queue};
use crate::receive::{self, listener};
use crate::submit::Way;
use crate::submit::smtp::{OAuth, Submission};
use crate::tls::server::{self, CertificateError};
use crate::token::{self, SettingsError};
use beside::{Begun, Beside};
use listeners::Listeners;
use live::{Answer, Rooms};
use lookout::Sights;
use on_disk::OnDisk;
use reload::{Fixed, InForce};
use stand_in::MailFor;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

/// An admin's command under way at a stop gets this long: it goes in steps, and says how far it came.
const COMMANDS: Duration = Duration::from_secs(2);

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The queue's directory.
    #[error(transparent)]
    Queue(#[from] OpenError),
    /// A directory that the relay needs.
    #[error("cannot use the queue directory {}: {error}", .directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// What is in it was never meant for anybody.
    #[error("the queue in {} is one of serve --sandbox: its mail is for no smart host", .0.display())]
    OfSandbox(PathBuf),
    /// What is in it may be meant for somebody.
    #[error("the queue in {} holds mail that serve --sandbox has not taken, which must not end there", .0.display())]
    NotOfSandbox(PathBuf),
    /// What access tokens are got with.
    #[error("account {account}: oauth: {error}")]
    OAuth {
        /// Whose.
        account: String,
        /// What is wrong with it.
        error: SettingsError,
    },
    /// A listener's certificate.
    #[error("listener {address}: {error}")]
    Certificate {
        /// Which.
        address: SocketAddr,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The system's words.
        error: std::io::Error,
    },
    /// A socket of the service manager is for no listener.
    #[error("socket {socket} of the service manager {what}")]
    Socket {
        /// Which.
        socket: String,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The control socket, or the status socket.
    #[error("cannot open the control socket {}: {error}", .path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Queue(error) => error.hint(),
            Self::Directory { .. } => "it and all in it must belong to the user mailferry runs as, mode 0700",
            Self::OfSandbox(_) => "set queue.directory to the real queue's, which is not below it",
            Self::NotOfSandbox(_) => "move that directory away; the sandbox makes a new one",
            Self::OAuth { error, .. } => error.hint,
            Self::Certificate { error, .. } => error.hint(),
            Self::Listen { .. } => {
                "see who has it with: ss -ltnp; ports below 1024 need the unit's capability or socket"
            }
            Self::Socket { hint, .. } => hint,
            Self::Control { .. } => "is another mailferry running, and may this user write there?",
        };
        Some(hint.to_owned())
    }

    /// Whether starting again may help although nobody changes the configuration.
    fn may_pass(&self) -> bool {
        match self {
            Self::Queue(_) | Self::Directory { .. } | Self::Listen { .. } | Self::Control { .. } => true,
            Self::OfSandbox(_) | Self::NotOfSandbox(_) | Self::Socket { .. } => false,
            Self::Certificate { error: CertificateError::Unreadable { why, .. }, .. } => files::may_pass(why),
            Self::Certificate { error: CertificateError::Write { .. }, .. } => true,
            Self::Certificate {
                error: CertificateError::NotPem { .. } | CertificateError::Useless(_),
                ..
            } => false,
            Self::OAuth { error, .. } => error.may_pass,
        }
    }
}

/// A queue that is open, and nothing else yet.
struct Opened {
    queue: Queue,
    mail_for: MailFor,
    observers: Observers,
}

/// A running relay.
pub struct Relay {
    queue: Queue,
    dispatcher: Arc<Dispatcher>,
    listeners: Listeners,
    rooms: Arc<Rooms>,
    on_disk: Arc<OnDisk>,
    receive: watch::Sender<Arc<receive::Settings>>,
    stop: watch::Sender<bool>,
    control: JoinHandle<()>,
    beside: Beside,
    asked: Mutex<mpsc::Receiver<Answer>>,
    fixed: Fixed,
    witness: Witness,
}

impl Opened {
    /// Opens the queue of these settings.
    ///
    /// # Errors
    /// It cannot be opened, or is for other mail.
    async fn queue(
        settings: &queue::Settings,
        mail_for: MailFor,
        observers: Observers,
    ) -> Result<Self, StartError> {
        let queue = queue::open(settings, observers.witness.clone()).await?;
        mail_for.claim(&queue, &settings.directory).await?;
        lookout::resume(&observers.incidents, queue.notes.as_ref()).await;
        Ok(Self { queue, mail_for, observers })
    }
}

impl Relay {
    /// Starts everything; when this returns, mail is accepted. `handed` are sockets that a supervisor opened.
    ///
    /// # Errors
    /// Whatever cannot be opened; nothing is left open then.
    pub async fn start(
        settings: &Settings,
        handed: Vec<Handed>,
        observers: Observers,
    ) -> Result<Self, StartError> {
        let opened = Opened::queue(&settings.queue, MailFor::SmartHosts, observers).await?;
        Self::begin(settings, opened, handed).await
    }

    async fn begin(
        settings: &Settings,
        Opened { queue, mail_for, observers }: Opened,
        handed: Vec<Handed>,
    ) -> Result<Self, StartError> {
        let InForce { listen, receive, dispatch, places, notify, keep, min_free_space_bytes: _ } =
            InForce::of(settings, queue.clock, &observers.witness)?;
        let witness = observers.witness.clone();
        if let Err(why) = observers.devices.take_up(queue.notes.as_ref()).await {
            witness.tell(receive_fact::Fact::DevicesNotKept { why: why.to_string() });
        }
        let sockets = open_sockets(settings)?;
        let (receive, current) = watch::channel(Arc::new(receive));
        let receiver =
            Arc::new(listener::Shared::new(current, Arc::clone(&queue.intake), queue.clock, witness.clone()));
        let listeners = Listeners::start(listen, handed, &receiver)?;
        let dispatcher = Dispatcher::start(&dispatch, queue.clone(), witness.clone()).await;
        let on_disk = Arc::new(OnDisk::new(settings, listeners.in_force(), witness.clone()));
        let (reloads, asked) = mpsc::channel(1);
        let rooms = Arc::new(Rooms {
            reloads,
            on_disk: Arc::clone(&on_disk),
            dispatcher: Arc::clone(&dispatcher),
            receiver,
            clock: queue.clock,
            places: RwLock::new(places),
            observers: observers.clone(),
        });
        let stop = watch::Sender::new(false);
        let relay = api::Relay {
            ledger: Arc::clone(&queue.ledger),
            notes: Arc::clone(&queue.notes),
            health: Arc::clone(&queue.health),
            clock: queue.clock,
            live: Arc::clone(&rooms) as Arc<dyn control::Live>,
            started_at: WallTime::now(),
            is_sandbox: mail_for == MailFor::Sandbox,
            witness: witness.clone(),
        };
        let control = tokio::spawn(answer(sockets, relay, stop.subscribe()));
        let begun =
            Begun { keep, sights: sights(settings), notify, is_sandbox: mail_for == MailFor::Sandbox };
        let beside = Beside::start(begun, &rooms, &queue, &stop);
        let fixed = Fixed::of(settings);
        Ok(Self {
            beside,
            asked: Mutex::new(asked),
            queue,
            dispatcher,
            listeners,
            rooms,
            on_disk,
            receive,
            stop,
            control,
            fixed,
            witness,
        })
    }

    /// Where mail is accepted.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// The queue, for those who look after it.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Resolves when a room has stopped by a defect.
    pub async fn defect(&self) {
        self.dispatcher.failed().await;
    }

    /// The next who asks for a reload over the control socket.
    async fn reload_asked(&self) -> Answer {
        match self.asked.lock().await.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// The relay's clock.
    pub fn clock(&self) -> Clock {
        self.queue.clock
    }

    /// Accepts nothing more, finishes or cuts what is in flight within `bound`, closes the queue.
    pub async fn stop(self, bound: Duration) {
        // Devices first, so that the last message accepted is on disk before the queue closes.
        tokio::join!(self.listeners.stop(bound), self.dispatcher.drain(bound));
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(bound.min(COMMANDS), self.control).await;
        self.beside.ended().await;
        self.queue.health.close().await;
    }
}

/// Devices are remembered over restarts.
async fn keep_devices(observers: Observers, queue: Queue, stop: impl Future<Output = ()>) {
    let failed = |why| observers.witness.tell(receive_fact::Fact::DevicesNotKept { why });
    observers.devices.keep_until(queue.notes.as_ref(), stop, failed).await;
}

/// On both sockets, until the stop.
async fn answer(
    (control, status): (UnixListener, Option<UnixListener>),
    relay: api::Relay,
    stop: watch::Receiver<bool>,
) {
    let witness = relay.witness.clone();
    let (for_control, for_status) = (stopped(stop.clone()), stopped(stop));
    let anybody = async {
        match status {
            Some(socket) => anybody::serve(socket, relay.clone(), for_status).await,
            None => Ok(()),
        }
    };
    for failed in <[_; 2]>::from(tokio::join!(api::serve(control, relay.clone(), for_control), anybody)) {
        if let Err(error) = failed {
            witness.tell(Fact::ControlFailed { why: error.to_string() });
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}

/// What the lookout needs.
fn sights(settings: &Settings) -> Sights {
    let limit = |a: &config::Account| (a.id.clone(), a.smart_host.place(), a.pace.recipients_per_day);
    let limits = settings.accounts.iter().map(limit).collect();
    Sights { warn_after: settings.retry.warn_after, limits }
}

fn places(settings: &Settings) -> Vec<(AccountId, Place)> {
    settings.accounts.iter().map(|a| (a.id.clone(), a.smart_host.place())).collect()
}

fn dispatch_settings(
    settings: &Settings,
    clock: Clock,
    witness: &Witness,
) -> Result<dispatch::Settings, StartError> {
    let account = |a: &config::Account| -> Result<dispatch::Account, StartError> {
        Ok(dispatch::Account {
            id: a.id.clone(),
            way: Way::Smtp(Submission {
                account: a.id.clone(),
                mailbox: a.sender.mailbox.clone(),
                smart_host: a.smart_host.clone(),
                trust: a.trust.clone(),
                witness: witness.clone(),
                oauth: a.oauth.as_ref().map(|o| oauth(a, o, clock, witness)).transpose()?,
            }),
            sender: a.sender.clone(),
            pace: a.pace,
            witness: witness.clone(),
        })
    };
    Ok(dispatch::Settings {
        accounts: settings.accounts.iter().map(account).collect::<Result<_, _>>()?,
        retry: settings.retry.clone(),
        hostname: settings.hostname.clone(),
        notify: settings.notify.to.clone(),
        is_sandbox: settings.is_sandbox,
    })
}

fn oauth(
    a: &config::Account,
    oauth: &config::OAuth,
    clock: Clock,
    witness: &Witness,
) -> Result<OAuth, StartError> {
    let (limits, now, witness) = (Limits::default(), move || clock.now(), witness.clone());
    let source = token::Source::new(oauth.token.clone(), limits, now, witness)
        .map_err(|error| StartError::OAuth { account: a.id.to_string(), error })?;
    Ok(OAuth { source, fallback_until: oauth.fallback_until })
}

/// The control socket and, where there is to be one, the status socket.
fn open_sockets(settings: &Settings) -> Result<(UnixListener, Option<UnixListener>), StartError> {
    let open = |path: &Path, access| {
        let failed = |error| StartError::Control { path: path.to_owned(), error };
        socket::bind(path, access).map_err(failed)
    };
    let status = settings.sockets.status.as_deref().map(|path| open(path, Access::Anybody));
    Ok((open(&settings.sockets.control, Access::Group)?, status.transpose()?))
}

/// Where there is to be TLS and no certificate is configured, the relay's own.
fn listens(settings: &Settings) -> Result<Vec<receive::Listen>, StartError> {
    let with_certificate = |mut listen: receive::Listen| {
        if listen.tls != receive::Tls::Off && listen.certificate.is_none() {
            let directory = settings.queue.directory.join("tls");
            let failed = |error| StartError::Certificate { address: listen.address, error };
            let own = server::load_or_make(&directory, &settings.hostname).map_err(failed)?;
            listen.certificate = Some(own.config);
        }
        Ok(listen)
    };
    settings.listen.iter().cloned().map(with_certificate).collect()
}
