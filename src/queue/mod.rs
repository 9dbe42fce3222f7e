//! Durable state: every message that got a 250, until the smart host has it and for as long as history is kept.
//!
//! Invariant: a `Stored` exists only after everything it names is on the disk for good (content, directory,
//! row), and nothing but a settlement or the admin takes it away again. The order of events and what a crash
//! between any two of them leaves stands in `sqlite`, a test a row.
//! Must not know: SMTP, replies, whose fault anything is, when to retry. It stores; `dispatch` decides.

mod body;
mod clock;
mod disk;
mod keep;
mod ledger;
mod space;
pub mod sqlite;

pub use body::{Body, BodyReader, Draft, SMALL_BYTES};
pub use clock::Clock;
pub use keep::{Keep, KeepDead};
pub use ledger::{ChangeStep, Changing, Finished, Listing, Page};

use crate::mail::{
    AccountId, Attempt, Envelope, Mailbox, QueueId, QueuedMessage, Recipient, RelayTime, State, WallTime,
};
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify;

/// Where the queue lives and how much room it leaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything of the queue is in here; made when it is missing.
    pub directory: PathBuf,
    /// New mail is refused when less than this is free.
    pub min_free_space_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { directory: "/var/lib/mailferry".into(), min_free_space_bytes: 500 << 20 }
    }
}

/// Why a queue does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the queue in {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Written by a later mailferry.
    #[error("the queue has schema version {found}, this mailferry knows up to {known}")]
    Newer {
        /// What the file says.
        found: i64,
        /// What this program can read.
        known: i64,
    },
    /// The directory cannot be made, read or written.
    #[error("cannot use the queue directory {}: {error}", .directory.display())]
    Directory {
        /// The one in the settings.
        directory: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// There was a queue, and its database is gone or somebody else's: nothing is made in its place.
    #[error("{} {what}, in a directory that was used before", .file.display())]
    NotOurs {
        /// The database.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// SQLite does not take the file.
    #[error("cannot open the queue database {}: {error}", .file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// SQLite's words.
        error: String,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked(_) => {
                "stop the running mailferry first, or ask it through its control socket".to_owned()
            }
            Self::Newer { .. } => "install the mailferry that wrote it, or a later one".to_owned(),
            Self::Directory { .. } => {
                "it and all in it must belong to the user mailferry runs as, mode 0700".to_owned()
            }
            Self::NotOurs { file, .. } => {
                let directory = file.parent().unwrap_or(std::path::Path::new(".")).display();
                format!(
                    "put the right queue.db back; or, to begin anew, move {directory} away: mail in it is not in the new queue"
                )
            }
            Self::Database { .. } => {
                "mailferry queue rescue --to DIR writes what can be read of it, whatever is wrong with it"
                    .to_owned()
            }
        }
    }
}

/// What the receiver knows of a message at the end of data. One content may be stored under several intakes
/// (recipients routed to different accounts); they are committed together or not at all.
#[derive(Debug, Clone)]
pub struct Intake {
    /// The queue id, from `Draft::id` for the first intake and `Queue::next_id` for others.
    pub id: QueueId,
    /// The account it will leave through.
    pub account: AccountId,
    /// The envelope, with this account's recipients only.
    pub envelope: Envelope,
    /// The whole head, CRLF line ends, trace fields added, with its final empty line.
    pub head: Vec<u8>,
    /// The client's `charset` setting.
    pub charset: Option<String>,
    /// When it arrived, for people.
    pub received_at: WallTime,
    /// When it arrived, on the relay's clock.
    pub now: RelayTime,
}

/// Proof that a message is durable. Only a backend makes it; the 250 needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    id: QueueId,
}

impl Stored {
    /// The message's name.
    pub fn id(&self) -> QueueId {
        self.id
    }
}

/// A message handed out for sending: nobody else gets it until it is settled or this value is dropped, and a
/// drop leaves the message as it was.
pub struct Lease {
    /// The message as stored.
    pub message: QueuedMessage,
    /// Its head and content.
    pub body: Body,
    hand_over: Box<dyn Fn() + Send + Sync>,
    guard: LeaseGuard,
}

impl Lease {
    /// The end of data is about to be written: should this process end before the outcome is recorded, the next one
    /// knows that the message may have been taken.
    pub fn hands_over(&self) {
        (self.hand_over)();
    }

    /// Ends without giving the message back: nobody gets it from this process any more, and a hand-over that was
    /// begun stays on record.
    pub(crate) fn set_aside(self) {
        self.guard.set_aside();
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("message", &self.message).finish_non_exhaustive()
    }
}

/// Gives the message back on drop, by whatever means the backend has.
pub(crate) struct LeaseGuard(Option<Box<dyn FnOnce() + Send + Sync>>);

impl LeaseGuard {
    /// Runs `give_back` when the lease ends without a settlement.
    pub(crate) fn new(give_back: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }

    /// Keeps what it guards from ever being handed out again by this process.
    pub(crate) fn set_aside(mut self) {
        self.0 = None;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl std::fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseGuard")
    }
}

/// What `Queue::lease` found.
#[derive(Debug)]
pub enum Next {
    /// The message whose turn it is.
    Message(Box<Lease>),
    /// Nothing is due before this moment.
    NotBefore(RelayTime),
    /// Nothing is waiting at all.
    Empty,
}

/// What one attempt made of a message.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// When, on the relay's clock.
    pub now: RelayTime,
    /// Every recipient with its new progress.
    pub recipients: Vec<Recipient>,
    /// Attempts the message itself has spent by now.
    pub attempts: u32,
    /// Where the message goes.
    pub to: Destination,
    /// The attempt to record, unless it would only repeat an outage.
    pub attempt: Option<Attempt>,
    /// Sets `QueuedMessage::outcome_unknown`; what a later attempt comes to does not take it back.
    pub outcome_unknown: bool,
    /// Notices (DSNs) stored in the same step as the settlement, so that a crash loses neither or both.
    pub notices: Vec<Notice>,
}

/// Where a settled message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Every recipient has it: the row stays as history, the content goes.
    Delivered,
    /// To be tried again, not before this.
    Queued(RelayTime),
    /// Given up, kept whole.
    Dead,
}

/// A message the relay itself writes: small, in memory.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Envelope and head.
    pub intake: Intake,
    /// The content behind the head, CRLF line ends.
    pub content: Vec<u8>,
}

/// Which messages an admin means.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these; empty: all.
    pub ids: Vec<QueueId>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Only from this client or peer address (as text).
    pub client: Option<String>,
    /// Only with this reverse-path or recipient (a part of the address is enough).
    pub address: Option<String>,
    /// Only received at or after this.
    pub since: Option<WallTime>,
    /// Only up to this id: what was begun later is not meant.
    pub up_to: Option<QueueId>,
    /// At most this many of those that all the above names, oldest first; 0: no limit.
    pub limit: usize,
}

/// What an admin does to messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Due now; a dead letter is queued again with its failed recipients pending, no attempts spent, its age anew.
    Retry,
    /// Set aside until released.
    Hold,
    /// Back from being held.
    Release,
    /// Gone for good, content and row.
    Remove,
    /// Leaves through this account from now on: queued, held and dead ones, in the state they are in, in a turn of
    /// the new account. Each client's mail stays in order of arrival.
    Move(AccountId),
}

/// How many messages of an account are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// The account.
    pub account: AccountId,
    /// The state.
    pub state: State,
    /// How many.
    pub messages: u64,
    /// Their size together.
    pub size_bytes: u64,
    /// The oldest one's arrival.
    pub oldest: Option<WallTime>,
}

/// Why the queue did not do it. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// Disk, quota, inodes, or below `min_free_space`: the device is told 452 4.3.1 and intake recovers by itself.
    #[error("not enough disk space: {0}")]
    Full(String),
    /// The disk did not confirm a write: 451, and what was written is never trusted again.
    #[error("the queue cannot write: {0}")]
    Broken(String),
    /// What is stored cannot be read or is not what was written: it concerns only what it was asked for.
    #[error("the queue is damaged: {0}")]
    Damaged(String),
    /// The disk does not give back what is stored. It may yet: nothing is wrong with what stands there.
    #[error("the queue cannot be read: {0}")]
    Unreadable(String),
    /// Shutting down.
    #[error("the queue is closed")]
    Closed,
}

/// Every future owns what it needs, so that it can outlive the borrow of the queue.
pub type Done<T> = BoxFuture<'static, Result<T, QueueError>>;

/// A durable queue. One contract test (`tests/it/queue_contract.rs`) holds for every backend.
pub trait Queue: Send + Sync + 'static {
    /// Begins a message. `expected_bytes` (the SIZE parameter, or 0) is checked against the space left, so that a
    /// device hears 452 before it sends 30 MB.
    ///
    /// # Errors
    /// `Full`, `Closed`.
    fn draft(&self, expected_bytes: u64) -> Result<Draft, QueueError>;

    /// A fresh id, for a further intake or a notice.
    fn next_id(&self) -> QueueId;

    /// Stores the draft under every intake; at least one. Resolves when all of it is durable; shares its syncs
    /// with whoever commits at the same moment.
    ///
    /// # Errors
    /// Any; then nothing is stored and the draft's content is removed.
    fn commit(&self, draft: Draft, intakes: Vec<Intake>) -> Done<Vec<Stored>>;

    /// Stores notices that belong to no settlement.
    ///
    /// # Errors
    /// Any; then nothing is stored.
    fn post(&self, notices: Vec<Notice>) -> Done<Vec<Stored>>;

    /// Hands out the message of `account` whose turn it is among those due at `now`, passing over `except`.
    ///
    /// # Errors
    /// `Broken`, `Closed`. A message whose content is missing is not an error of the lease: its `Body` says so
    /// when read.
    fn lease(&self, account: &AccountId, now: RelayTime, except: Vec<QueueId>) -> Done<Next>;

    /// Records what became of a leased message, durably, with its notices.
    ///
    /// # Errors
    /// Any, with the lease given back for another try: the message stays leased, so it cannot be sent twice.
    fn settle(
        &self,
        lease: Box<Lease>,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), (Box<Lease>, QueueError)>>;

    /// Rings whenever a message of the account may have become due by something else than time.
    fn arrivals(&self, account: &AccountId) -> Arc<Notify>;

    /// The next page of the messages that the filter names, oldest first, behind `after`. Looks at a bounded number
    /// of messages, so a page may be short, or empty, and not the last; see `Listing`.
    ///
    /// # Errors
    /// `Broken`, `Closed`. A message that cannot be read is no error of the page; it is named in it.
    fn list(&self, filter: Filter, after: Option<QueueId>) -> Done<Page>;

    /// One message with its recorded attempts, oldest first.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn show(&self, id: QueueId) -> Done<Option<(QueuedMessage, Vec<Attempt>)>>;

    /// The content of a message, for export; `None` when there is no such message or its content is gone.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn body(&self, id: QueueId) -> Done<Option<Body>>;

    /// The next step of a change to every message that the filter names and whose state allows it, oldest first,
    /// behind `after`: one small transaction, between commits; see `Changing`. A message that is being sent at this
    /// moment is passed over and named.
    ///
    /// # Errors
    /// Any; then this step has changed nothing, and the steps before it stay done.
    fn change(
        &self,
        filter: Filter,
        change: Change,
        now: RelayTime,
        after: Option<QueueId>,
    ) -> Done<ChangeStep>;

    /// Counts by account and state, without walking the messages.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn totals(&self) -> Done<Vec<Total>>;

    /// Recipients delivered by the account since a moment, in steps of at most ten minutes, oldest first.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn delivered_since(&self, account: &AccountId, since: RelayTime) -> Done<Vec<(RelayTime, u32)>>;

    /// A small durable note by name (a breaker's state, a pause), or none.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn note(&self, name: &str) -> Done<Option<String>>;

    /// Writes or removes a note, durably; notes of one name keep the order of the calls, awaited or not.
    ///
    /// # Errors
    /// Any.
    fn set_note(&self, name: &str, value: Option<String>) -> Done<()>;

    /// Messages that were delivered or given up before a moment, oldest first, behind `after`; some hundred at
    /// most, and fewer than that at the end only.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn finished(&self, state: State, before: RelayTime, after: Option<Finished>) -> Done<Vec<Finished>>;

    /// Forgets messages delivered before a moment, in small steps that do not hold up commits, passing over what
    /// cannot be read. Returns how many.
    ///
    /// # Errors
    /// Any; the steps before it stay done.
    fn prune(&self, delivered_before: RelayTime) -> Done<u64>;

    /// Where damaged mail, and mail that nobody claims, waits for a person to look at it.
    fn left_behind(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Bytes free for new messages, after `min_free_space`.
    fn free_bytes(&self) -> u64;

    /// Resolves when the disk has failed so often that going on would be a lie: the service must stop loudly.
    fn failed(&self) -> BoxFuture<'static, String>;

    /// Finishes what was begun and closes; later calls get `Closed`.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// The recipients of a fresh message, all pending.
pub(crate) fn pending(recipients: &[Mailbox]) -> Vec<Recipient> {
    recipients.iter().cloned().map(Recipient::pending).collect()
}
