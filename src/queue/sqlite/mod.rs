//! The queue in a directory: rows in SQLite, large contents in files beside it.
//!
//! Invariant: the order of events below. Everything is made durable by one writer thread, many operations a
//! sync; leases are kept in memory only, so a crash ends them all. Must not know: what `Queue` must not know.
//!
//! | step | a crash after it leaves | the next start |
//! |---|---|---|
//! | 1. the content is written to `bodies/ID.part` | a part, no 250 given | removes the part |
//! | 2. it is synced, renamed to `bodies/ID`, further ids linked | a file without a row, no 250 given | moves it to `unclaimed/` and tells |
//! | 3. the directory is synced, once a batch | the same | the same |
//! | 4. rows are written, not committed | the same; SQLite drops the tail of its log | the same |
//! | 5. the transaction is committed and synced | the message whole, perhaps without a 250 | offers it for delivery |
//! | 6. a settlement is written, not committed | the message as before the attempt | offers it again: a duplicate is possible, a loss is not |
//! | 7. the settlement is committed | the outcome with its notices; perhaps a file without a content row | removes the file |
//! | 8. the file is removed, the directory synced | history | nothing |
//!
//! Removal by the admin or by age goes like a settlement. A row whose file is missing can only come from outside
//! or from a lying disk: it is an alarm, and the message stays.
//!
//! Every commit is synced. After a write or sync that failed, nothing is acknowledged before the log was written
//! anew (`store`); what is damaged is replaced by what can be read of it (`rebuild`); an outcome whose row cannot be
//! written is kept beside the database (`held_over`).
//!
//! The log is emptied whenever the writer rests, and begins anew every few MiB under load. Free pages go back to the
//! file system while the writer is idle, or at once when room is short (`auto_vacuum = INCREMENTAL`).

#[cfg(test)]
mod damage;
mod handover;
mod held_over;
mod lease;
mod ledger;
mod open;
mod rebuild;
mod row;
mod salvage;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod transaction;
mod turns;
mod upkeep;
mod writer;

use crate::fact::Witness;
use crate::fact::queue::Fact;
use crate::files;
use crate::mail::{AccountId, Attempt, QueueId, QueuedMessage, RelayTime, State, WallTime};
use crate::queue;
use crate::queue::body::Sealed;
use crate::queue::body::{Body, Draft, SMALL_BYTES};
use crate::queue::clock::Clock;
use crate::queue::disk::Disk;
use crate::queue::error::{Done, QueueError};
use crate::queue::lease::{Lease, Next, Settlement};
use crate::queue::ledger::{Change, ChangeStep, Filter, Finished, Page, Total};
use crate::queue::message::{NewMessage, Notice, Stored};
use crate::queue::role::{Health, Ids, Intake, Ledger, Notes, Outbox, Queue};
use crate::queue::settings::Settings;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use handover::HandOvers;
use lease::Pick;
use open::{Ground, OpenError, refuse_gone, start_on_sound_ground};
use rebuild::Damage;
pub use rebuild::{Rescued, rescue};
use row::Entry;
use rusqlite::{Connection, OptionalExtension, params};
use schema::Use;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use store::Frames;
use tokio::sync::{Notify, oneshot, watch};
use transaction::Op;
use turns::Turns;

const DATABASE: &str = "queue.db";

/// Gives ids: the wall clock's milliseconds and a counter, always above every id before.
#[derive(Debug)]
struct IdCounter(AtomicI64);

impl IdCounter {
    fn next(&self) -> QueueId {
        let floor = WallTime::now().as_ms() << 21;
        let next = |last: i64| (last + 1).max(floor);
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        QueueId::from_number(next(last.expect("the closure always gives an id")))
    }

    fn last(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the threads and the tasks have in common.
struct Shared {
    directory: PathBuf,
    disk: Arc<Disk>,
    ids: IdCounter,
    clock: Clock,
    turns: Mutex<Turns>,
    /// Messages out for sending or being changed. An id leaves only after the transaction that ended its lease,
    /// and a lease is chosen under this lock: whoever finds an id free also sees what became of it.
    leased: Mutex<HashSet<QueueId>>,
    arrivals: Mutex<HashMap<AccountId, Arc<Notify>>>,
    /// `None` after an error and after the close.
    reader: Mutex<Option<Connection>>,
    /// What copies the log beside the writer; `None` before it was needed and after an error.
    checkpointer: Mutex<Option<Connection>>,
    /// Held for reading by whoever reads with a connection of their own.
    lists: RwLock<()>,
    frames: Frames,
    hand_overs: HandOvers,
    /// A sync failed elsewhere: the writer takes a new log before it commits.
    is_suspect: AtomicBool,
    /// `None` once closed.
    lock: Mutex<Option<File>>,
    closed: watch::Sender<bool>,
}

/// A panic of another thread is told by itself. What these locks guard is whole between any two statements, and a
/// queue that takes no mail because of it would be the greater damage.
fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        lock_of(&self.turns)
    }

    fn leased(&self) -> MutexGuard<'_, HashSet<QueueId>> {
        lock_of(&self.leased)
    }

    fn arrivals(&self, account: &AccountId) -> Arc<Notify> {
        let mut arrivals = lock_of(&self.arrivals);
        Arc::clone(arrivals.entry(account.clone()).or_default())
    }

    fn ring(&self, account: &AccountId) {
        self.arrivals(account).notify_one();
    }

    fn read<T>(&self, f: impl FnOnce(&Connection) -> Result<T, QueueError>) -> Result<T, QueueError> {
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

/// The way to the writer; `None` once closed.
struct Ops(Mutex<Option<mpsc::Sender<Op>>>);

impl Ops {
    /// Gives the operation back when the queue is closed.
    #[expect(clippy::result_large_err, reason = "a settlement comes back whole")]
    fn send(&self, op: Op) -> Result<(), Op> {
        match lock_of(&self.0).as_ref() {
            Some(ops) => ops.send(op).map_err(|e| e.0),
            None => Err(op),
        }
    }

    async fn ask<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Op,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.send(op(reply)).map_err(|_| QueueError::Closed)?;
        answer.await.unwrap_or(Err(QueueError::Closed))
    }
}

/// Opens the queue off the runtime's threads.
///
/// # Errors
/// See `OpenError`.
pub(super) async fn open(settings: &Settings, witness: Witness) -> Result<Queue, queue::OpenError> {
    let of = settings.clone();
    let opened = tokio::task::spawn_blocking(move || SqliteQueue::open(&of, witness)).await;
    let unusable =
        |e| OpenError::Directory { directory: settings.directory.clone(), error: io::Error::other(e) };
    let (queue, clock) = opened.map_err(unusable)??;
    Ok(Queue::of(&queue, clock))
}

/// The queue of one directory; nobody else has it open.
struct SqliteQueue {
    shared: Arc<Shared>,
    ops: Arc<Ops>,
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
    fn open(settings: &Settings, witness: Witness) -> Result<(Arc<Self>, Clock), OpenError> {
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

    fn read<T: Send + 'static>(
        &self,
        f: impl Fn(&Connection, &Shared) -> Result<T, QueueError> + Send + Sync + 'static,
    ) -> Done<T> {
        let (shared, ops, f) = (Arc::clone(&self.shared), Arc::clone(&self.ops), Arc::new(f));
        Box::pin(async move {
            let attempt = |_| {
                let (shared, f) = (Arc::clone(&shared), Arc::clone(&f));
                blocking(move || shared.read(|conn| f(conn, &shared)))
            };
            mending(&ops, attempt).await
        })
    }
}

/// Reads, and once more after damage that was met has been mended; then `attempt` is told so, and passes over what
/// still cannot be read.
async fn mending<T, F: Future<Output = Result<T, QueueError>>>(
    ops: &Ops,
    attempt: impl Fn(bool) -> F,
) -> Result<T, QueueError> {
    let first = attempt(false).await;
    let Some(damage) = first.as_ref().err().and_then(Damage::of) else { return first };
    ops.ask(|reply| Op::Mend { damage, reply }).await?;
    attempt(true).await
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, QueueError> + Send + 'static,
) -> Result<T, QueueError> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(QueueError::Broken(e.to_string())))
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

fn entries(notices: Vec<Notice>) -> Vec<(Entry, Bytes)> {
    let entry = |n: Notice| {
        let digest = crate::queue::body::digest(&n.message.head, &n.content);
        (Entry::new(n.message, n.content.len() as u64, digest), n.content.into())
    };
    notices.into_iter().map(entry).collect()
}

impl Ids for SqliteQueue {
    fn next_id(&self) -> QueueId {
        self.shared.ids.next()
    }
}

impl Intake for SqliteQueue {
    fn draft(&self, expected_bytes: u64) -> Result<Draft, QueueError> {
        if *self.shared.closed.borrow() {
            return Err(QueueError::Closed);
        }
        let room = &self.shared.disk.space;
        if expected_bytes > SMALL_BYTES as u64 {
            room.check(expected_bytes)?;
        } else {
            room.check_row(expected_bytes)?;
        }
        Ok(Draft::new(self.next_id(), Arc::clone(&self.shared.disk)))
    }

    fn commit(&self, draft: Draft, messages: Vec<NewMessage>) -> Done<Vec<Stored>> {
        let ops = Arc::clone(&self.ops);
        Box::pin(async move {
            if messages.is_empty() {
                return Err(QueueError::Broken("a message without recipients".into()));
            }
            draft.take_room()?;
            let sealed: Sealed = draft.seal(messages.iter().map(|m| m.id).collect()).await?;
            let entry = |message: NewMessage| {
                let digest = sealed.digest(&message.head);
                Entry::new(message, sealed.len, digest)
            };
            let entries = messages.into_iter().map(entry).collect();
            ops.ask(|reply| Op::Store { entries, sealed, reply }).await
        })
    }
}

impl Outbox for SqliteQueue {
    fn lease(&self, account: &AccountId, now: RelayTime, except: Vec<QueueId>) -> Done<Next> {
        let (shared, ops, account) = (Arc::clone(&self.shared), Arc::clone(&self.ops), account.clone());
        Box::pin(async move {
            let pick = |may_promote, is_mended| {
                let (shared, account, except) = (Arc::clone(&shared), account.clone(), except.clone());
                blocking(move || shared.pick(&account, now, &except, may_promote, is_mended))
            };
            let mut is_mended = false;
            let mut first = pick(true, false).await;
            if let Some(damage) = first.as_ref().err().and_then(Damage::of) {
                ops.ask(|reply| Op::Mend { damage, reply }).await?;
                is_mended = true;
                first = pick(true, true).await;
            }
            if let Pick::Next(next) = first? {
                return Ok(next);
            }
            ops.ask(|reply| Op::Promote { account: account.clone(), now, reply }).await?;
            match pick(false, is_mended).await? {
                Pick::Next(next) => Ok(next),
                Pick::Promote => Ok(Next::NotBefore(now)),
            }
        })
    }

    fn settle(
        &self,
        lease: Box<Lease>,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), (Box<Lease>, QueueError)>> {
        let ops = Arc::clone(&self.ops);
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let mut settlement = Box::new(settlement);
            let notices = entries(std::mem::take(&mut settlement.notices));
            match ops.send(Op::Settle { lease, settlement, notices, reply }) {
                Ok(()) => answer.await.expect("the writer answers every settlement it was sent"),
                Err(Op::Settle { lease, .. }) => Err((lease, QueueError::Closed)),
                Err(_) => unreachable!("what comes back is what was sent"),
            }
        })
    }

    fn post(&self, notices: Vec<Notice>) -> Done<Vec<Stored>> {
        let ops = Arc::clone(&self.ops);
        Box::pin(async move {
            let notices = entries(notices);
            ops.ask(|reply| Op::Post { notices, reply }).await
        })
    }

    fn arrivals(&self, account: &AccountId) -> Arc<Notify> {
        self.shared.arrivals(account)
    }
}

impl Ledger for SqliteQueue {
    fn list(&self, filter: Filter, after: Option<QueueId>) -> Done<Page> {
        let (shared, ops, filter) = (Arc::clone(&self.shared), Arc::clone(&self.ops), Arc::new(filter));
        Box::pin(async move {
            let attempt = |is_mended| {
                let (shared, filter) = (Arc::clone(&shared), Arc::clone(&filter));
                blocking(move || ledger::list(&shared, &filter, after, is_mended))
            };
            mending(&ops, attempt).await
        })
    }

    fn show(&self, id: QueueId) -> Done<Option<(QueuedMessage, Vec<Attempt>)>> {
        self.read(move |conn, _| {
            row::load(conn, id)?.map(|message| Ok((message, row::attempts(conn, id)?))).transpose()
        })
    }

    fn body(&self, id: QueueId) -> Done<Option<Body>> {
        self.read(move |conn, shared| match row::load(conn, id)? {
            Some(message) => row::body(conn, &shared.disk, &message),
            None => Ok(None),
        })
    }

    fn change(
        &self,
        filter: Filter,
        change: Change,
        now: RelayTime,
        after: Option<QueueId>,
    ) -> Done<ChangeStep> {
        let (shared, ops) = (Arc::clone(&self.shared), Arc::clone(&self.ops));
        Box::pin(ledger::change(shared, ops, filter, change, now, after))
    }

    fn totals(&self) -> Done<Vec<Total>> {
        self.read(|conn, _| {
            let mut statement = conn.prepare_cached(
                "SELECT account, state, messages, size_bytes FROM total WHERE messages > 0",
            )?;
            let mut rows = statement.query([])?;
            let mut totals = Vec::new();
            while let Some(row) = rows.next()? {
                let (account, code): (String, i64) = (row.get(0)?, row.get(1)?);
                let oldest: Option<i64> = conn
                    .prepare_cached(
                        "SELECT received_at FROM message INDEXED BY message_state
                         WHERE account = ?1 AND state = ?2 ORDER BY id LIMIT 1",
                    )?
                    .query_row(params![account, code], |row| row.get(0))
                    .optional()?;
                totals.push(Total {
                    account: AccountId::new(account),
                    state: row::state(code)?,
                    messages: row.get::<_, i64>(2)?.unsigned_abs(),
                    size_bytes: row.get::<_, i64>(3)?.unsigned_abs(),
                    oldest: oldest.map(WallTime::from_ms),
                });
            }
            Ok(totals)
        })
    }

    fn delivered_since(&self, account: &AccountId, since: RelayTime) -> Done<Vec<(RelayTime, u32)>> {
        let account = account.clone();
        self.read(move |conn, _| {
            let mut statement = conn.prepare_cached(
                "SELECT last_ms, recipients FROM delivered WHERE account = ?1 AND last_ms >= ?2 ORDER BY bucket_ms",
            )?;
            let steps = statement.query_map(params![account.as_str(), since.as_ms()], |row| {
                Ok((RelayTime::from_ms(row.get(0)?), row.get(1)?))
            })?;
            Ok(steps.collect::<Result<_, _>>()?)
        })
    }

    fn finished(&self, state: State, before: RelayTime, after: Option<Finished>) -> Done<Vec<Finished>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking(move || ledger::finished(&shared, state, before, after)))
    }

    fn prune(&self, delivered_before: RelayTime) -> Done<u64> {
        let (shared, ops) = (Arc::clone(&self.shared), Arc::clone(&self.ops));
        Box::pin(ledger::prune(shared, ops, delivered_before))
    }
}

impl Notes for SqliteQueue {
    fn note(&self, name: &str) -> Done<Option<String>> {
        let name = name.to_owned();
        self.read(move |conn, _| {
            let mut statement = conn.prepare_cached("SELECT value FROM note WHERE name = ?1")?;
            Ok(statement.query_row([&name], |row| row.get(0)).optional()?)
        })
    }

    fn set_note(&self, name: &str, value: Option<String>) -> Done<()> {
        let (reply, answer) = oneshot::channel();
        // Now and not when it is awaited: notes of one name must keep the order of the calls.
        let sent =
            self.ops.send(Op::Note { name: name.to_owned(), value, reply }).map_err(|_| QueueError::Closed);
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(QueueError::Closed))
        })
    }
}

impl Health for SqliteQueue {
    fn left_behind(&self) -> Vec<PathBuf> {
        let holds = |d: &PathBuf| std::fs::read_dir(d).is_ok_and(|mut names| names.next().is_some());
        let places = ["damaged", "unclaimed"].map(|name| self.shared.directory.join(name));
        places.into_iter().filter(holds).collect()
    }

    fn free_bytes(&self) -> u64 {
        self.shared.disk.space.free()
    }

    fn set_min_free_space(&self, bytes: u64) {
        self.shared.disk.space.set_min_free(bytes);
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        let mut failed = self.shared.disk.failed();
        Box::pin(async move {
            match failed.wait_for(Option::is_some).await.map(|why| why.clone()) {
                Ok(why) => why.unwrap_or_default(),
                // The queue is gone, which is not a failure.
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        lock_of(&self.ops.0).take();
        let mut closed = self.shared.closed.subscribe();
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let is_over = |_: &bool| lock_of(&shared.lock).is_none();
            // An error says that the threads are gone, too.
            let _ = closed.wait_for(is_over).await;
        })
    }
}
