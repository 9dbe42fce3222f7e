//! The one thread that writes: takes what waits and makes one transaction and one sync of it.
//!
//! Invariant: everyone in a failed transaction hears the error and nothing of it is kept. What fails is tried again
//! on a log that was written anew, then one by one, so that what fails alone fails alone; a hand-over whose record
//! the database does not take is kept beside it. A disk that does not confirm even that is given up, before anything
//! more is acknowledged.

use super::disk::Step;
use super::held_over;
use super::rebuild::{self, Damage, Mended};
use super::shared::Shared;
use super::store;
use super::transaction::{Op, Outcome, Transaction};
use super::upkeep::Chore;
use crate::fact::queue::Fact;
use crate::queue::error::QueueError;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Operations in one transaction.
const BATCH: usize = 512;
/// The clock is written along with a transaction this often, and by itself when there is none for `TICK`.
const CLOCK: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(60);
/// Idle for this long, free pages go back to the file system in steps; some are kept for the next mail.
const IDLE: Duration = Duration::from_millis(200);
/// Between two such steps.
const PAUSE: Duration = Duration::from_millis(2);
/// Idle for this long, the log is emptied: what is in the database only is less to lose.
const QUIET: Duration = Duration::from_secs(1);
const PAGES_KEPT: i64 = 1024;
const PAGES_FREED: i64 = 128;
/// With so little left on the disk it goes page by page, nearly, and the log is emptied after each step.
const PAGES_FREED_IN_NEED: i64 = 16;
const LITTLE_BYTES: u64 = 16 << 20;
const PAGE_BYTES: u64 = 4096;
/// A checkpoint is worth its syncs when so much was written: 4 MiB.
const CHECKPOINT_FRAMES: i64 = 1024;
/// With this much in the log, which only a foreign reader brings about, new mail has to wait: 256 MiB.
const FULL_FRAMES: i64 = 64 * 1024;

pub(super) struct Writer {
    shared: Arc<Shared>,
    conn: Option<Connection>,
    chores: Sender<Chore>,
    clock_saved: Instant,
    written_at: Instant,
    failed_in_a_row: usize,
    /// Frames in the log when a checkpoint was last asked for.
    asked_at: i64,
    /// Whether there may be free pages to give back.
    free_pages: bool,
    mended: Mended,
    /// Something is kept beside the database that it may take now.
    is_behind: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, conn: Connection, chores: Sender<Chore>) -> Self {
        Self {
            shared,
            conn: Some(conn),
            chores,
            clock_saved: Instant::now(),
            written_at: Instant::now(),
            failed_in_a_row: 0,
            asked_at: 0,
            free_pages: true,
            mended: Mended::default(),
            is_behind: false,
        }
    }

    /// Works until the last sender is gone and everything sent is done.
    pub(super) fn run(mut self, ops: &Receiver<Op>) {
        let mut patience = IDLE;
        loop {
            match ops.recv_timeout(patience) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(ops.try_iter().take(BATCH - 1));
                    self.batch(batch);
                    patience = IDLE;
                }
                Err(RecvTimeoutError::Timeout) => patience = self.rest(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.clock_saved.elapsed() >= TICK {
                self.tick();
            }
        }
        self.tick();
    }

    fn tick(&mut self) {
        self.batch(vec![Op::Tick]);
        self.shared.turns().pruned();
        self.shared.disk.space.keep_ballast();
        self.clock_saved = Instant::now();
        self.replay();
    }

    fn batch(&mut self, mut batch: Vec<Op>) {
        let mends = |op: &Op| matches!(op, Op::Mend { .. });
        if batch.iter().any(mends) {
            self.mend(damage(&batch).unwrap_or(Damage::Wrong));
            let (asked, rest) = batch.into_iter().partition::<Vec<_>, _>(mends);
            asked.into_iter().for_each(|op| op.answer(Ok(Outcome::Done)));
            batch = rest;
        }
        // Names before rows: a row may only name what a crash leaves in place.
        if batch.iter().any(Op::has_files)
            && let Err(e) = self.shared.disk.sync_directory()
        {
            let error = QueueError::from(e);
            let (failed, rest) = batch.into_iter().partition::<Vec<_>, _>(Op::has_files);
            failed.into_iter().for_each(|op| op.answer(Err(error.clone())));
            batch = rest;
        }
        match self.attempt(&batch) {
            Ok(outcomes) => {
                answer(batch, outcomes);
                if std::mem::take(&mut self.is_behind) {
                    self.replay();
                }
            }
            Err(QueueError::Full(why)) => self.make_room(batch, &why),
            Err(error) => self.again(batch, &error),
        }
    }

    /// New mail waits outside while what is here gets its room, and the reserve if need be.
    fn make_room(&mut self, batch: Vec<Op>, why: &str) {
        let (intake, rest) = batch.into_iter().partition::<Vec<_>, _>(Op::is_intake);
        intake.into_iter().for_each(|op| op.answer(Err(QueueError::Full(why.to_owned()))));
        self.shared.disk.release_ballast();
        match self.attempt(&rest) {
            Ok(outcomes) => answer(rest, outcomes),
            Err(error) => rest.into_iter().for_each(|op| self.settle_beside(op, &error)),
        }
    }

    /// What failed together is tried once more on a log without a hole, then each by itself.
    fn again(&mut self, batch: Vec<Op>, error: &QueueError) {
        if let Some(damage) = Damage::of(error) {
            self.mend(damage);
        }
        match self.attempt(&batch) {
            Ok(outcomes) => return answer(batch, outcomes),
            Err(error) if batch.len() == 1 => {
                return batch.into_iter().for_each(|op| self.settle_beside(op, &error));
            }
            Err(_) => {}
        }
        for op in batch {
            match self.attempt(std::slice::from_ref(&op)) {
                Ok(outcomes) => answer(vec![op], outcomes),
                Err(error) => self.settle_beside(op, &error),
            }
        }
    }

    /// The last word on an operation that fails by itself. A hand-over that is known must not be made again because
    /// its row cannot be written, so its record goes beside the database and the message is set aside.
    fn settle_beside(&mut self, op: Op, error: &QueueError) {
        match op {
            Op::Settle { lease, settlement, notices, reply } => {
                match held_over::keep(&self.shared.directory, &lease.message, &settlement) {
                    Ok(()) => {
                        let (id, error) = (lease.message.id, error.to_string());
                        self.shared.disk.tell(Fact::SettledBeside { id, error });
                        self.shared.hand_overs.end(lease.message.id);
                        lease.set_aside();
                        self.is_behind = true;
                        drop(reply.send(Ok(())));
                        if !notices.is_empty() {
                            // Their own rows may well be written.
                            let (reply, _) = tokio::sync::oneshot::channel();
                            let post = Op::Post { notices, reply };
                            let posted = self.attempt(std::slice::from_ref(&post));
                            post.answer(posted.map(|_| Outcome::Done));
                        }
                    }
                    Err(_) => drop(reply.send(Err((lease, error.clone())))),
                }
            }
            op => op.answer(Err(error.clone())),
        }
    }

    /// What was kept beside the database goes in once the database takes it.
    fn replay(&mut self) {
        for (id, record) in held_over::all(&self.shared.directory) {
            let Ok(conn) = self.connected() else { return };
            match held_over::replay(&conn, &self.shared, id, record) {
                Ok(()) => {
                    self.conn = Some(conn);
                    self.shared.leased().remove(&id);
                    self.shared.disk.tell(Fact::SettledAfterAll { id });
                }
                Err(error) => drop(self.failed(conn, error)),
            }
        }
    }

    /// Makes a new database of what can be read of this one, where that can help.
    fn mend(&mut self, damage: Damage) {
        if !self.mended.may_try(&self.shared) {
            return self.reindex();
        }
        // Every connection of ours goes: the last one to close a file takes its log along, by name.
        self.conn = None;
        match rebuild::rebuild(&self.shared, damage) {
            Ok(()) => self.is_behind = true,
            Err(error) => {
                self.shared.disk.tell(Fact::RebuildFailed { error: error.to_string() });
                // It has been waited for already.
                if let QueueError::Unreadable(why) = error {
                    self.shared.disk.give_up(&format!("the queue cannot be read: {why}"));
                }
            }
        }
    }

    /// What needs no second database: an index is made again from its table.
    fn reindex(&mut self) {
        let Some(conn) = &self.conn else { return };
        match conn.execute_batch("REINDEX") {
            Ok(()) => self.shared.disk.tell(Fact::Reindexed),
            Err(error) => self.shared.disk.tell(Fact::RebuildFailed { error: error.to_string() }),
        }
    }

    /// The connection, on a log that is written anew after anything failed; or the disk is given up, before anything
    /// is acknowledged on a log that may have a hole.
    fn connected(&mut self) -> Result<Connection, QueueError> {
        if self.shared.disk.is_given_up() {
            return Err(QueueError::Broken("the disk has failed".into()));
        }
        let is_suspect = self.shared.is_suspect.swap(false, Ordering::Acquire);
        let old = match self.conn.take() {
            Some(conn) if !is_suspect => return Ok(conn),
            old => old,
        };
        let error = match store::renew(&self.shared.directory, &self.shared.frames, old) {
            Err(QueueError::Broken(why)) if self.shared.disk.space.is_exhausted() => QueueError::Full(why),
            Err(error) => error,
            renewed => return renewed,
        };
        self.shared.disk.tell(Fact::TransactionFailed { error: error.to_string() });
        if matches!(error, QueueError::Full(_)) {
            return Err(error);
        }
        // What SQLite wrote upon damage can fail in any way; a disk that fails lets no new database be made, either.
        self.mend(Damage::of(&error).unwrap_or(Damage::Wrong));
        let opened = store::open(&self.shared.directory, &self.shared.frames);
        if let Err(QueueError::Broken(why)) = &opened {
            self.shared.disk.give_up(&format!("the log cannot be written anew: {why}"));
        }
        opened
    }

    /// One transaction, whole or not at all.
    fn attempt(&mut self, batch: &[Op]) -> Result<Vec<Outcome>, QueueError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let saves_clock = self.clock_saved.elapsed() >= CLOCK;
        let conn = self.connected()?;
        let mut transaction = Transaction::new(&conn, &shared, saves_clock);
        let result = Self::transact(&mut transaction, &conn, batch, &shared);
        let Transaction { arrivals, emptied, reserved, .. } = transaction;
        {
            let mut leased = shared.leased();
            reserved.iter().for_each(|id| {
                leased.remove(id);
            });
        }
        match result {
            Ok(outcomes) => {
                self.conn = Some(conn);
                arrivals.iter().for_each(|account| shared.ring(account));
                self.after(emptied);
                self.failed_in_a_row = 0;
                shared.disk.tell(Fact::Committed);
                if saves_clock {
                    self.clock_saved = Instant::now();
                }
                Ok(outcomes)
            }
            Err(error) => Err(self.failed(conn, error)),
        }
    }

    /// Rolls back and judges what went wrong. The connection stays only as the one that the next is made beside, so
    /// that what it did not commit is never taken for committed.
    fn failed(&mut self, conn: Connection, error: QueueError) -> QueueError {
        // The connection goes next, so what it says of a rollback adds nothing.
        let _ = conn.execute_batch("ROLLBACK");
        self.conn = Some(conn);
        self.shared.is_suspect.store(true, Ordering::Release);
        let error = match error {
            QueueError::Broken(why) if self.shared.disk.space.is_exhausted() => QueueError::Full(why),
            other => other,
        };
        if let QueueError::Broken(_) = &error {
            self.failed_in_a_row += 1;
            self.shared.disk.transactions_failed(self.failed_in_a_row, &error);
        } else if Damage::of(&error).is_some() {
            self.shared.disk.tell(Fact::TransactionFailed { error: error.to_string() });
        }
        error
    }

    fn transact(
        transaction: &mut Transaction<'_>,
        conn: &Connection,
        batch: &[Op],
        shared: &Shared,
    ) -> Result<Vec<Outcome>, QueueError> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let outcomes = batch.iter().map(|op| transaction.apply(op)).collect::<Result<Vec<_>, _>>()?;
        transaction.finish()?;
        shared.disk.reach(Step::Commit)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        shared.turns().written();
        let _ = shared.disk.reach(Step::Committed);
        Ok(outcomes)
    }

    fn after(&mut self, emptied: Vec<crate::mail::QueueId>) {
        self.free_pages = true;
        self.written_at = Instant::now();
        if !emptied.is_empty() {
            // Fails only when the other thread is gone; the next start removes the files.
            let _ = self.chores.send(Chore::Remove(emptied));
        }
        let frames = self.shared.frames.get();
        if frames < self.asked_at {
            self.asked_at = 0;
        }
        if frames - self.asked_at >= CHECKPOINT_FRAMES {
            self.asked_at = frames;
            let _ = self.chores.send(Chore::Checkpoint);
        }
        self.watch_log(frames);
        if self.shared.disk.space.is_short() {
            self.vacuum();
        }
    }

    /// Bounds the log where somebody keeps it from beginning anew: a reader of ours is gone in a moment.
    fn watch_log(&mut self, frames: i64) {
        let is_full = frames >= FULL_FRAMES && !self.empty_log();
        if self.shared.disk.space.set_log_full(is_full) && is_full {
            let size_bytes = u64::try_from(frames).unwrap_or(0) * PAGE_BYTES;
            self.shared.disk.tell(Fact::LogKept { size_bytes });
        }
    }

    /// Nothing to write: room goes back, the log is emptied. Returns how long to wait for the next operation.
    fn rest(&mut self) -> Duration {
        self.free_pages = self.free_pages && self.vacuum();
        if self.free_pages {
            return PAUSE;
        }
        let frames = self.shared.frames.get();
        if frames == 0 {
            self.watch_log(0);
            return TICK;
        }
        let quiet = self.written_at.elapsed();
        if quiet < QUIET && !self.shared.disk.space.is_short() {
            return QUIET.saturating_sub(quiet) + PAUSE;
        }
        if self.empty_log() {
            self.watch_log(0);
            // Pages given back leave the file only now, and there may be room for giving back more.
            self.shared.disk.space.forget();
            self.free_pages = true;
            PAUSE
        } else {
            self.watch_log(frames);
            QUIET
        }
    }

    fn empty_log(&mut self) -> bool {
        let Some(conn) = &self.conn else { return false };
        match store::empty_log(conn, &self.shared.frames) {
            Ok(emptied) => {
                if emptied {
                    self.asked_at = 0;
                }
                emptied
            }
            Err(error) => {
                self.distrust(&error);
                false
            }
        }
    }

    /// A log or a database that a sync failed on is not built upon.
    fn distrust(&mut self, error: &QueueError) {
        self.shared.disk.tell(Fact::CheckpointFailed { error: error.to_string() });
        match error {
            QueueError::Damaged(_) => self.mend(Damage::Wrong),
            QueueError::Unreadable(_) => self.mend(Damage::Unreadable),
            QueueError::Full(_) | QueueError::Disowned | QueueError::Closed => {}
            QueueError::Broken(_) => {
                self.failed_in_a_row += 1;
                self.shared.disk.transactions_failed(self.failed_in_a_row, error);
                self.shared.is_suspect.store(true, Ordering::Release);
            }
        }
    }

    /// Gives some free pages back; whether there is more to give now. The log stays short meanwhile, and what is
    /// left of a disk is not touched: what is free within the file is room for new mail as well.
    fn vacuum(&mut self) -> bool {
        let Some(conn) = &self.conn else { return false };
        let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap_or(0);
        self.shared.disk.space.set_reusable(u64::try_from(free).unwrap_or(0) * PAGE_BYTES);
        if free <= PAGES_KEPT || !self.shared.disk.space.may_tidy() {
            return false;
        }
        let (step, frames) = match self.shared.disk.space.raw_free() {
            0..=LITTLE_BYTES => (PAGES_FREED_IN_NEED, PAGES_FREED_IN_NEED),
            _ => (PAGES_FREED, CHECKPOINT_FRAMES),
        };
        // Steps once for each page, so the rows have to be asked for.
        let free_some = || -> Result<(), QueueError> {
            let mut statement = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({step})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        if let Err(error) = free_some() {
            self.distrust(&error);
            return false;
        }
        self.shared.frames.get() < frames || self.empty_log()
    }
}

fn damage(batch: &[Op]) -> Option<Damage> {
    batch.iter().find_map(|op| if let Op::Mend { damage, .. } = op { Some(*damage) } else { None })
}

fn answer(batch: Vec<Op>, outcomes: Vec<Outcome>) {
    for (op, outcome) in batch.into_iter().zip(outcomes) {
        op.answer(Ok(outcome));
    }
}
