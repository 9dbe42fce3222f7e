//! The one thread that writes: takes what waits and makes one transaction and one sync of it.
//!
//! Invariant: everyone in a failed transaction hears the error and nothing of it is kept; after an error of the
//! disk the connection is made anew, because a sync that failed once says nothing the second time.

use super::schema::{Use, connect};
use super::transaction::{Op, Outcome, Transaction};
use super::upkeep::Chore;
use super::{DATABASE, Shared};
use crate::queue::QueueError;
use crate::queue::disk::Step;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Operations in one transaction.
const BATCH: usize = 512;
/// The clock is written along with a transaction this often, and by itself when there is none for `TICK`.
const CLOCK: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(60);
/// Idle for this long, free pages go back to the file system in steps; some are kept for the next mail.
const IDLE: Duration = Duration::from_millis(200);
const PAGES_KEPT: i64 = 1024;
const PAGES_FREED: i64 = 128;
/// A checkpoint is worth its syncs when so much was written.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// What a transaction writes besides contents, roughly.
const OVERHEAD_BYTES: u64 = 16 << 10;

pub(super) struct Writer {
    shared: Arc<Shared>,
    conn: Option<Connection>,
    chores: Sender<Chore>,
    clock_saved: Instant,
    failed_in_a_row: usize,
    unchecked_bytes: u64,
    free_pages: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, conn: Connection, chores: Sender<Chore>) -> Self {
        Self {
            shared,
            conn: Some(conn),
            chores,
            clock_saved: Instant::now(),
            failed_in_a_row: 0,
            unchecked_bytes: 0,
            free_pages: true,
        }
    }

    /// Works until the last sender is gone and everything sent is done.
    pub(super) fn run(mut self, ops: &Receiver<Op>) {
        loop {
            let patience = if self.free_pages { IDLE } else { TICK };
            match ops.recv_timeout(patience) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(ops.try_iter().take(BATCH - 1));
                    self.batch(batch);
                }
                Err(RecvTimeoutError::Timeout) if self.free_pages => self.free_pages = self.vacuum(),
                Err(RecvTimeoutError::Timeout) => self.tick(),
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
        self.shared.turns.lock().expect("nobody panics with turns").pruned();
        self.shared.disk.space.keep_ballast();
        self.clock_saved = Instant::now();
    }

    fn batch(&mut self, mut batch: Vec<Op>) {
        // Names before rows: a row may only name what a crash leaves in place.
        if batch.iter().any(Op::has_files)
            && let Err(e) = self.shared.disk.sync_directory()
        {
            let error = QueueError::from(e);
            let (failed, rest) = batch.into_iter().partition::<Vec<_>, _>(Op::has_files);
            failed.into_iter().for_each(|op| op.answer(Err(error.clone())));
            batch = rest;
        }
        let result = self.attempt(&batch);
        // New mail waits outside while what is here gets its room, and the reserve if need be.
        let (batch, result) = match result {
            Err(QueueError::Full(why)) => {
                let (intake, rest) = batch.into_iter().partition::<Vec<_>, _>(Op::is_intake);
                intake.into_iter().for_each(|op| op.answer(Err(QueueError::Full(why.clone()))));
                self.shared.disk.space.release_ballast();
                let result = self.attempt(&rest);
                (rest, result)
            }
            other => (batch, other),
        };
        match result {
            Ok(outcomes) => {
                for (op, outcome) in batch.into_iter().zip(outcomes) {
                    op.answer(Ok(outcome));
                }
            }
            Err(error) => batch.into_iter().for_each(|op| op.answer(Err(error.clone()))),
        }
    }

    /// One transaction, whole or not at all.
    fn attempt(&mut self, batch: &[Op]) -> Result<Vec<Outcome>, QueueError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let saves_clock = self.clock_saved.elapsed() >= CLOCK;
        let conn = match self.conn.take() {
            Some(conn) => Ok(conn),
            None => connect(&shared.directory.join(DATABASE), Use::Write),
        };
        let result = conn.map_err(QueueError::from).and_then(|conn| {
            let mut transaction = Transaction::new(&conn, &shared, saves_clock);
            let result = Self::transact(&mut transaction, &conn, batch, &shared);
            let Transaction { arrivals, emptied, reserved, written_bytes, .. } = transaction;
            {
                let mut leased = shared.leased.lock().expect("nobody panics with leases");
                reserved.iter().for_each(|id| {
                    leased.remove(id);
                });
            }
            let outcomes = match result {
                Ok(outcomes) => outcomes,
                Err(e) => {
                    // The connection goes next, so what it says of a rollback adds nothing.
                    let _ = conn.execute_batch("ROLLBACK");
                    return Err(e);
                }
            };
            self.conn = Some(conn);
            arrivals.iter().for_each(|account| shared.ring(account));
            self.after(emptied, written_bytes + OVERHEAD_BYTES);
            Ok(outcomes)
        });
        match result {
            Ok(outcomes) => {
                self.failed_in_a_row = 0;
                crate::events::queue::committed();
                if saves_clock {
                    self.clock_saved = Instant::now();
                }
                Ok(outcomes)
            }
            Err(QueueError::Broken(why)) if self.shared.disk.space.is_exhausted() => {
                Err(QueueError::Full(why))
            }
            Err(error) => {
                if matches!(error, QueueError::Broken(_)) {
                    self.failed_in_a_row += 1;
                    self.shared.disk.transactions_failed(self.failed_in_a_row, &error);
                }
                Err(error)
            }
        }
    }

    fn transact(
        transaction: &mut Transaction<'_>,
        conn: &Connection,
        batch: &[Op],
        shared: &Shared,
    ) -> Result<Vec<Outcome>, QueueError> {
        let lazy = batch.iter().all(Op::is_bookkeeping);
        if lazy {
            // The next transaction's sync covers it.
            conn.execute_batch("PRAGMA synchronous = NORMAL")?;
        }
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let outcomes = batch.iter().map(|op| transaction.apply(op)).collect::<Result<Vec<_>, _>>()?;
        transaction.finish()?;
        shared.disk.reach(Step::Commit)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        shared.turns.lock().expect("nobody panics with turns").written();
        if lazy {
            conn.execute_batch("PRAGMA synchronous = FULL")?;
        }
        let _ = shared.disk.reach(Step::Committed);
        Ok(outcomes)
    }

    fn after(&mut self, emptied: Vec<crate::mail::QueueId>, written_bytes: u64) {
        self.free_pages = true;
        self.unchecked_bytes += written_bytes;
        if !emptied.is_empty() {
            // Fails only when the other thread is gone; the next start removes the files.
            let _ = self.chores.send(Chore::Remove(emptied));
        }
        if self.unchecked_bytes >= CHECKPOINT_BYTES {
            self.unchecked_bytes = 0;
            let _ = self.chores.send(Chore::Checkpoint);
        }
    }

    /// Gives some free pages back; whether there is more to give.
    fn vacuum(&self) -> bool {
        let Some(conn) = &self.conn else { return false };
        let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap_or(0);
        if free <= PAGES_KEPT {
            return false;
        }
        // Steps once for each page, so the rows have to be asked for.
        let free_some = || -> rusqlite::Result<()> {
            let mut statement = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES_FREED})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        free_some().is_ok()
    }
}
