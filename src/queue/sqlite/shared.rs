//! What the threads and the tasks of an open queue have in common.
//!
//! Invariant: each lock is held for a moment only, but for `lists`. Must not know: what is done with it.

use super::disk::Disk;
use super::handover::HandOvers;
use super::schema::{self, DATABASE, Use};
use super::store::Frames;
use super::turns::Turns;
use crate::mail::{AccountId, QueueId, WallTime};
use crate::queue::clock::Clock;
use crate::queue::error::QueueError;
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, watch};

/// Gives ids: the wall clock's milliseconds and a counter, always above every id before.
#[derive(Debug)]
pub(super) struct IdCounter(pub(super) AtomicI64);

impl IdCounter {
    pub(super) fn next(&self) -> QueueId {
        let floor = WallTime::now().as_ms() << 21;
        let next = |last: i64| (last + 1).max(floor);
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        QueueId::from_number(next(last.expect("the closure always gives an id")))
    }

    pub(super) fn last(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the threads and the tasks have in common.
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) disk: Arc<Disk>,
    pub(super) ids: IdCounter,
    pub(super) clock: Clock,
    pub(super) turns: Mutex<Turns>,
    /// Messages out for sending or being changed. An id leaves only after the transaction that ended its lease,
    /// and a lease is chosen under this lock: whoever finds an id free also sees what became of it.
    pub(super) leased: Mutex<HashSet<QueueId>>,
    pub(super) arrivals: Mutex<HashMap<AccountId, Arc<Notify>>>,
    /// `None` after an error and after the close.
    pub(super) reader: Mutex<Option<Connection>>,
    /// What copies the log beside the writer; `None` before it was needed and after an error.
    pub(super) checkpointer: Mutex<Option<Connection>>,
    /// Held for reading by whoever reads with a connection of their own.
    pub(super) lists: RwLock<()>,
    pub(super) frames: Frames,
    pub(super) hand_overs: HandOvers,
    /// A sync failed elsewhere: the writer takes a new log before it commits.
    pub(super) is_suspect: AtomicBool,
    /// `None` once closed.
    pub(super) lock: Mutex<Option<File>>,
    pub(super) closed: watch::Sender<bool>,
}

/// A panic of another thread is told by itself. What these locks guard is whole between any two statements, and a
/// queue that takes no mail because of it would be the greater damage.
pub(super) fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn turns(&self) -> MutexGuard<'_, Turns> {
        lock_of(&self.turns)
    }

    pub(super) fn leased(&self) -> MutexGuard<'_, HashSet<QueueId>> {
        lock_of(&self.leased)
    }

    pub(super) fn arrivals(&self, account: &AccountId) -> Arc<Notify> {
        let mut arrivals = lock_of(&self.arrivals);
        Arc::clone(arrivals.entry(account.clone()).or_default())
    }

    pub(super) fn ring(&self, account: &AccountId) {
        self.arrivals(account).notify_one();
    }

    pub(super) fn read<T>(
        &self,
        f: impl FnOnce(&Connection) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let mut reader = lock_of(&self.reader);
        if *self.closed.borrow() {
            return Err(QueueError::Closed);
        }
        let conn = match reader.take() {
            Some(conn) => conn,
            None => schema::connect(&self.directory.join(DATABASE), Use::Read)?,
        };
        let found = f(&conn)?;
        *reader = Some(conn);
        Ok(found)
    }
}
