//! What a queue is asked, role by role. Whoever uses it takes the roles it needs and sees no other.
//!
//! Invariant: one contract test (`tests/it/queue_contract.rs`) holds for every backend. What is promised to one role is
//! kept whatever the others do meanwhile. Must not know: how a backend stores, where, and who else uses it.

use super::body::{Body, Draft};
use super::clock::Clock;
use super::error::{Done, QueueError};
use super::lease::{Lease, Next, Settlement};
use super::ledger::{Change, ChangeStep, Filter, Finished, Page, Total};
use super::message::{NewMessage, Notice, Stored};
use super::owner::Owned;
use crate::mail::{AccountId, Attempt, QueueId, QueuedMessage, RelayTime, State};
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify;

/// An open queue: each role of it, and the clock by which its messages are due and expire.
#[derive(Clone)]
pub struct Queue {
    /// The relay's steady clock.
    pub clock: Clock,
    /// New mail.
    pub intake: Arc<dyn Intake>,
    /// Mail on its way out.
    pub outbox: Arc<dyn Outbox>,
    /// What an admin asks and does.
    pub ledger: Arc<dyn Ledger>,
    /// Whose mail this host hands out.
    pub ownership: Arc<dyn Ownership>,
    /// What others remember.
    pub notes: Arc<dyn Notes>,
    /// How the storage fares, and its end.
    pub health: Arc<dyn Health>,
}

impl Queue {
    /// The roles of one backend that has them all.
    pub(in crate::queue) fn of<B>(backend: &Arc<B>, clock: Clock) -> Self
    where
        B: Intake + Outbox + Ownership + Ledger + Notes + Health,
    {
        Self {
            clock,
            intake: Arc::clone(backend) as _,
            outbox: Arc::clone(backend) as _,
            ownership: Arc::clone(backend) as _,
            ledger: Arc::clone(backend) as _,
            notes: Arc::clone(backend) as _,
            health: Arc::clone(backend) as _,
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// Names for messages.
pub trait Ids: Send + Sync + 'static {
    /// A fresh id, above every id before.
    fn next_id(&self) -> QueueId;
}

/// New mail from outside: from the first byte until it is durable.
pub trait Intake: Ids {
    /// Begins a message. `expected_bytes` (the SIZE parameter, or 0) is checked against the space left, so that a
    /// device hears 452 before it sends 30 MB.
    ///
    /// # Errors
    /// `Full`, `Closed`.
    fn draft(&self, expected_bytes: u64) -> Result<Draft, QueueError>;

    /// Stores the draft as each of these messages; at least one. Resolves when all of it is durable; shares its syncs
    /// with whoever commits at the same moment.
    ///
    /// # Errors
    /// Any; then nothing is stored and the draft's content is removed.
    fn commit(&self, draft: Draft, messages: Vec<NewMessage>) -> Done<Vec<Stored>>;
}

/// Mail on its way out: whose turn it is, and what became of it.
pub trait Outbox: Ids {
    /// Hands out the message of the account whose turn it is among those due at `now`, passing over `except`.
    ///
    /// # Errors
    /// `Broken`, `Disowned`, `Closed`. A message whose content is missing is not an error of the lease: its `Body` says so
    /// when read.
    fn lease(&self, owned: &Owned, now: RelayTime, except: Vec<QueueId>) -> Done<Next>;

    /// Records what became of a leased message, durably, with its notices.
    ///
    /// # Errors
    /// Any, with the lease given back for another try: the message stays leased, so it cannot be sent twice. After
    /// `Disowned` there is none: another host hands it out.
    fn settle(
        &self,
        lease: Box<Lease>,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), (Box<Lease>, QueueError)>>;

    /// Stores notices that belong to no settlement.
    ///
    /// # Errors
    /// Any; then nothing is stored.
    fn post(&self, notices: Vec<Notice>) -> Done<Vec<Stored>>;

    /// Rings whenever a message of the account may have become due by something else than time.
    fn arrivals(&self, account: &AccountId) -> Arc<Notify>;
}

/// Whose mail this host hands out. A single host owns every account.
pub trait Ownership: Send + Sync + 'static {
    /// Resolves when this host owns the account; on a single host, at once.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn own(&self, account: &AccountId) -> Done<Owned>;
}

/// What is in the queue and what was in it, for admins: asked in pages, changed in steps.
pub trait Ledger: Ids {
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
}

/// Small things that other rooms remember, by name: a breaker's state, a pause.
pub trait Notes: Send + Sync + 'static {
    /// What was noted, or none.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    fn note(&self, name: &str) -> Done<Option<String>>;

    /// Writes or removes a note, durably; notes of one name keep the order of the calls, awaited or not.
    ///
    /// # Errors
    /// Any.
    fn set_note(&self, name: &str, value: Option<String>) -> Done<()>;
}

/// Room where the queue is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Bytes free.
    pub free_bytes: u64,
    /// Below this no mail is taken.
    pub min_free_bytes: u64,
    /// Where that is, for people.
    pub place: PathBuf,
}

/// How the storage fares, and its end.
pub trait Health: Send + Sync + 'static {
    /// Where damaged mail, and mail that nobody claims, waits for a person to look at it, as that person finds it.
    fn left_behind(&self) -> Vec<String>;

    /// Why new mail is refused at this moment; none: it is taken.
    fn refusal(&self) -> Option<QueueError>;

    /// How much room there is; none where nobody can say.
    fn room(&self) -> Option<Room>;

    /// Leaves so much free from now on, as `Settings::min_free_space_bytes`.
    fn set_min_free_space(&self, bytes: u64);

    /// Resolves when the storage has failed so often that going on would be a lie: the service must stop loudly.
    fn failed(&self) -> BoxFuture<'static, String>;

    /// Finishes what was begun and closes, for every role; later calls get `Closed`.
    fn close(&self) -> BoxFuture<'static, ()>;
}
