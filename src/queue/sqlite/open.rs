//! The start of a queue, and its two threads.
//!
//! Invariant: when `open` returns, everything that an earlier run began is finished or known, and nobody else has the
//! directory. Must not know: what the queue is asked.

use super::disk::Disk;
use super::ground::{Ground, OpenError, refuse_gone, start_on_sound_ground};
use super::handover::HandOvers;
use super::ops::Ops;
use super::schema::DATABASE;
use super::shared::{IdCounter, Shared, lock_of};
use super::store::Frames;
use super::transaction::{self, Op};
use super::{held_over, rebuild, upkeep, writer};
use crate::fact::Witness;
use crate::fact::queue::Fact;
use crate::files;
use crate::queue;
use crate::queue::clock::Clock;
use crate::queue::error::QueueError;
use crate::queue::role::Queue;
use crate::queue::settings::Settings;
use rusqlite::Connection;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex, RwLock, mpsc};
use tokio::sync::watch;

/// Opens the queue off the runtime's threads.
///
/// # Errors
/// See `OpenError`.
pub(in crate::queue) async fn open(settings: &Settings, witness: Witness) -> Result<Queue, queue::OpenError> {
    let of = settings.clone();
    let opened = tokio::task::spawn_blocking(move || SqliteQueue::open(&of, witness)).await;
    let unusable =
        |e| OpenError::Directory { directory: settings.directory.clone(), error: io::Error::other(e) };
    let (queue, clock) = opened.map_err(unusable)??;
    Ok(Queue::of(&queue, clock))
}

/// The queue of one directory; nobody else has it open.
pub(super) struct SqliteQueue {
    pub(super) shared: Arc<Shared>,
    pub(super) ops: Arc<Ops>,
}

impl std::fmt::Debug for SqliteQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteQueue").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl SqliteQueue {
    /// Opens the queue, making what is missing, and continues the relay's clock. Its facts are told to `witness`.
    ///
    /// # Errors
    /// See `OpenError`.
    pub(super) fn open(settings: &Settings, witness: Witness) -> Result<(Arc<Self>, Clock), OpenError> {
        let directory = &settings.directory;
        let file = directory.join(DATABASE);
        let unusable = |error| OpenError::Directory { directory: directory.clone(), error };
        let damaged = |e: QueueError| OpenError::Database { file: file.clone(), error: e.to_string() };
        files::make_directory(directory).map_err(unusable)?;
        let lock = lock(directory)?;
        let disk = Arc::new(Disk::open(directory, settings.min_free_space_bytes, witness).map_err(unusable)?);
        rebuild::finish(directory).map_err(unusable)?;
        refuse_gone(directory, &file)?;
        // SQLite would make it readable for everybody, and its log with it.
        files::open_or_create(&file).map_err(unusable)?;
        let frames = Frames::default();
        let conn = start_on_sound_ground(directory, &disk, &frames)?;

        let ground = Ground::read(&conn, &file).map_err(damaged)?;
        let (hand_overs, interrupted) = HandOvers::open(directory).map_err(unusable)?;
        let shared = Arc::new(Shared {
            directory: directory.clone(),
            disk,
            ids: IdCounter(AtomicI64::new(ground.last_id)),
            clock: ground.clock,
            turns: Mutex::new(ground.turns),
            leased: Mutex::default(),
            arrivals: Mutex::default(),
            reader: Mutex::new(Some(ground.reader)),
            checkpointer: Mutex::new(None),
            lists: RwLock::default(),
            frames,
            hand_overs,
            is_suspect: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            closed: watch::channel(false).0,
        });
        for (id, record) in held_over::all(directory) {
            match held_over::replay(&conn, &shared, id, record) {
                Ok(()) => shared.disk.tell(Fact::SettledAfterAll { id }),
                Err(_) => drop(shared.leased().insert(id)),
            }
        }
        if !interrupted.is_empty() && transaction::record_interrupted(&conn, &shared, &interrupted).is_ok() {
            shared.hand_overs.forget().map_err(unusable)?;
        }
        shared.disk.space.keep_ballast();
        let clock = shared.clock;
        let ops = start(&shared, conn).map_err(unusable)?;
        shared.disk.tell(Fact::Opened { directory: directory.clone() });
        Ok((Arc::new(Self { shared, ops: Arc::new(Ops(Mutex::new(Some(ops)))) }), clock))
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |error| OpenError::Directory { directory: directory.to_owned(), error };
    let lock = files::open_or_create(&directory.join("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(std::fs::TryLockError::Error(e)) => Err(unusable(e)),
    }
}

/// Starts the two threads. The writer ends when the sender is dropped, and everything else with it.
fn start(shared: &Arc<Shared>, conn: Connection) -> std::io::Result<mpsc::Sender<Op>> {
    let (ops, waiting) = mpsc::channel();
    let (chores, to_do) = mpsc::channel();
    let first_id = shared.ids.next();
    let beside = Arc::clone(shared);
    let upkeep = std::thread::Builder::new()
        .name("queue-upkeep".into())
        .spawn(move || upkeep::run(&beside, &to_do, first_id))?;
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("queue-writer".into()).spawn(move || {
        let writer = writer::Writer::new(Arc::clone(&shared), conn, chores);
        // Without a writer nothing is ever stored again: that must be loud, and must not keep the close waiting.
        let run = std::panic::AssertUnwindSafe(|| writer.run(&waiting));
        if std::panic::catch_unwind(run).is_err() {
            shared.disk.give_up("the queue's writer stopped by a defect");
        }
        // A panic there has been reported by its own thread.
        let _ = upkeep.join();
        shared.closed.send_replace(true);
        *lock_of(&shared.checkpointer) = None;
        let mut reader = lock_of(&shared.reader);
        // The last connection to go copies the log into the database and removes it.
        *reader = None;
        drop(reader);
        shared.disk.tell(Fact::Closed);
        lock_of(&shared.lock).take();
        shared.closed.send_modify(|_| {});
    })?;
    Ok(ops)
}
