//! One transaction: the operations that waited together, applied to the database.
//!
//! Invariant: nothing here is visible or answered before `COMMIT` returned; the counters of `total` and the turns
//! change in the same transaction as the rows they speak of.

use super::content::Sealed;
use super::rebuild::Damage;
use super::row::{DEAD, DELIVERED, Entry, QUEUED, digest_of, load, state_code, to_json};
use super::shared::Shared;
use super::turns::Turns;
use crate::fact::queue::Fact;
use crate::mail::{AccountId, Attempt, Progress, QueueId, QueuedMessage, RelayTime, Stage, State, WallTime};
use crate::queue::error::QueueError;
use crate::queue::lease::{Destination, Lease, Settlement};
use crate::queue::ledger::{Change, ChangeStep, Filter};
use crate::queue::message::Stored;
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::collections::{HashMap, HashSet};
use tokio::sync::oneshot;

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// Recipients delivered are counted in steps of this.
const BUCKET_MS: i64 = 600_000;
/// Kept longer than any limit looks back.
const BUCKETS_KEPT_MS: i64 = 48 * 3_600_000;
/// Deferred messages made ready at once: a lease waits for it.
const PROMOTED_AT_ONCE: i64 = 16;
/// Of many attempts, the first and the last are kept.
const FIRST_ATTEMPTS: i64 = 10;
const LAST_ATTEMPTS: i64 = 40;

/// What the writer is asked to do.
pub(super) enum Op {
    /// `sealed` is the content of every entry.
    Store {
        entries: Vec<Entry>,
        sealed: Sealed,
        reply: Reply<Vec<Stored>>,
    },
    /// Each entry with its own content.
    Post {
        notices: Vec<(Entry, Bytes)>,
        reply: Reply<Vec<Stored>>,
    },
    Settle {
        lease: Box<Lease>,
        settlement: Box<Settlement>,
        notices: Vec<(Entry, Bytes)>,
        reply: oneshot::Sender<Result<(), (Box<Lease>, QueueError)>>,
    },
    /// A step: those of these few that the filter still names.
    Change {
        ids: Vec<QueueId>,
        filter: Filter,
        change: Change,
        now: RelayTime,
        reply: Reply<ChangeStep>,
    },
    Note {
        name: String,
        value: Option<String>,
        reply: Reply<()>,
    },
    Promote {
        account: AccountId,
        now: RelayTime,
        reply: Reply<()>,
    },
    /// Damage was met while reading.
    Mend {
        damage: Damage,
        reply: Reply<()>,
    },
    Tick,
}

/// What one operation came to.
pub(super) enum Outcome {
    Done,
    /// What it concerns is not there any more.
    Gone,
    Ids(Vec<QueueId>),
    Changed(ChangeStep),
}

impl Op {
    /// New mail: refused first when the disk is full.
    pub(super) fn is_intake(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Post { .. })
    }

    pub(super) fn has_files(&self) -> bool {
        matches!(self, Self::Store { sealed, .. } if sealed.has_files())
    }

    /// Tells whoever waits. A lease that was settled ends here, after the commit.
    pub(super) fn answer(self, result: Result<Outcome, QueueError>) {
        let ids = |result: Result<Outcome, QueueError>| {
            result.map(|o| if let Outcome::Ids(ids) = o { ids } else { Vec::new() })
        };
        let stored = |ids: Vec<QueueId>| ids.into_iter().map(Stored::new).collect();
        // Whoever stopped waiting gets no answer.
        match self {
            Self::Store { mut sealed, reply, .. } => {
                let result = ids(result);
                if let Ok(named) = &result {
                    sealed.keep(named);
                }
                drop(sealed);
                drop(reply.send(result.map(stored)));
            }
            Self::Post { reply, .. } => drop(reply.send(ids(result).map(stored))),
            Self::Settle { lease, reply, .. } => match result {
                // An index may still name it: it must not be handed out again.
                Ok(Outcome::Gone) => {
                    lease.set_aside();
                    drop(reply.send(Ok(())));
                }
                Ok(_) => {
                    drop(lease);
                    drop(reply.send(Ok(())));
                }
                Err(e) => drop(reply.send(Err((lease, e)))),
            },
            Self::Change { reply, .. } => {
                let step = |o| if let Outcome::Changed(step) = o { step } else { ChangeStep::default() };
                drop(reply.send(result.map(step)));
            }
            Self::Note { reply, .. } | Self::Promote { reply, .. } | Self::Mend { reply, .. } => {
                drop(reply.send(result.map(|_| ())));
            }
            Self::Tick => {}
        }
    }
}

/// The transaction under way, and what is to be done once it is durable.
pub(super) struct Transaction<'a> {
    pub(super) conn: &'a Connection,
    pub(super) shared: &'a Shared,
    totals: HashMap<(AccountId, i64), (i64, i64)>,
    /// Accounts with mail that may be due now.
    pub(super) arrivals: HashSet<AccountId>,
    /// Messages whose files are to be removed.
    pub(super) emptied: Vec<QueueId>,
    /// Messages kept from being leased meanwhile.
    pub(super) reserved: Vec<QueueId>,
    /// The ids given so far must not be forgotten with the rows.
    pub(super) saves_clock: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(conn: &'a Connection, shared: &'a Shared, saves_clock: bool) -> Self {
        Self {
            conn,
            shared,
            totals: HashMap::new(),
            arrivals: HashSet::new(),
            emptied: Vec::new(),
            reserved: Vec::new(),
            saves_clock,
        }
    }

    pub(super) fn apply(&mut self, op: &Op) -> Result<Outcome, QueueError> {
        match op {
            Op::Store { entries, sealed, .. } => {
                for entry in entries {
                    self.insert(entry, sealed.memory.as_deref())?;
                }
                Ok(Outcome::Ids(entries.iter().map(|e| e.id).collect()))
            }
            Op::Post { notices, .. } => {
                self.insert_all(notices)?;
                Ok(Outcome::Ids(notices.iter().map(|(e, _)| e.id).collect()))
            }
            Op::Settle { lease, settlement, notices, .. } => {
                let is_there = self.settle(&lease.message, settlement)?;
                self.insert_all(notices)?;
                Ok(if is_there { Outcome::Done } else { Outcome::Gone })
            }
            Op::Change { ids, filter, change, now, .. } => {
                self.change(ids, filter, change, *now).map(Outcome::Changed)
            }
            Op::Note { name, value: Some(value), .. } => {
                self.run("INSERT OR REPLACE INTO note VALUES (?1, ?2)", params![name, value])
            }
            Op::Note { name, value: None, .. } => self.run("DELETE FROM note WHERE name = ?1", params![name]),
            Op::Promote { account, now, .. } => self.run(
                "UPDATE message SET due = 1 WHERE id IN (
                    SELECT id FROM message INDEXED BY deferred WHERE state = 0 AND due = 0 AND account = ?1
                    AND next_attempt <= ?2 ORDER BY next_attempt, id LIMIT ?3)",
                params![account.as_str(), now.as_ms(), PROMOTED_AT_ONCE],
            ),
            Op::Mend { .. } => Ok(Outcome::Done),
            Op::Tick => {
                self.saves_clock = true;
                Turns::prune(self.conn)?;
                let horizon = self.shared.clock.now().as_ms() - BUCKETS_KEPT_MS;
                self.run("DELETE FROM delivered WHERE last_ms < ?1", [horizon])?;
                Ok(Outcome::Done)
            }
        }
    }

    /// The rows that go along with every transaction.
    pub(super) fn finish(&mut self) -> Result<(), QueueError> {
        self.shared.turns().write(self.conn)?;
        for ((account, state), (messages, size)) in &self.totals {
            self.conn
                .prepare_cached(
                    "INSERT INTO total VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
                     SET messages = messages + ?3, size_bytes = size_bytes + ?4",
                )?
                .execute(params![account.as_str(), state, messages, size])?;
        }
        if self.saves_clock {
            self.conn.prepare_cached("INSERT OR REPLACE INTO clock VALUES (1, ?1, ?2, ?3)")?.execute(
                params![self.shared.clock.now().as_ms(), WallTime::now().as_ms(), self.shared.ids.last()],
            )?;
        }
        Ok(())
    }

    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<Outcome, QueueError> {
        self.conn.prepare_cached(sql)?.execute(params)?;
        Ok(Outcome::Done)
    }

    pub(super) fn count(&mut self, account: &AccountId, state: i64, messages: i64, size: i64) {
        let total = self.totals.entry((account.clone(), state)).or_default();
        total.0 += messages;
        total.1 += size;
    }

    pub(super) fn moved(&mut self, message: &QueuedMessage, to: i64) {
        let size = i64::try_from(message.size_bytes).unwrap_or(i64::MAX);
        self.count(&message.account, state_code(message.state), -1, -size);
        self.count(&message.account, to, 1, size);
    }

    fn insert_all(&mut self, notices: &[(Entry, Bytes)]) -> Result<(), QueueError> {
        notices.iter().try_for_each(|(entry, content)| self.insert(entry, Some(content)))
    }

    fn insert(&mut self, e: &Entry, content: Option<&[u8]>) -> Result<(), QueueError> {
        let turn = self.shared.turns().next(&e.account, &e.client, &e.peer);
        let inserted = self
            .conn
            .prepare_cached(
                "INSERT INTO message (id, account, state, due, turn, next_attempt, attempts, queued_since, received_at,
                    size_bytes, outcome_unknown, client, peer, reverse_path, recipients, last_said, charset, finished, digest)
                 VALUES (?1, ?2, 0, 1, ?3, ?4, 0, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, '', ?11, NULL, ?12)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                e.id.number(),
                e.account.as_str(),
                turn,
                e.now,
                e.received_at,
                e.size,
                e.client,
                e.peer,
                e.reverse_path,
                e.recipients,
                e.charset,
                e.digest
            ])?;
        if inserted == 0 {
            // Ids are never given twice: a transaction that was said to have failed had come to the disk.
            return Ok(());
        }
        self.conn.prepare_cached("INSERT INTO body VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            e.id.number(),
            e.head,
            content,
            e.body_digest
        ])?;
        self.count(&e.account, QUEUED, 1, e.size);
        self.arrivals.insert(e.account.clone());
        Ok(())
    }

    /// `false`: there is no such row any more.
    fn settle(&mut self, message: &QueuedMessage, s: &Settlement) -> Result<bool, QueueError> {
        let (to, next_attempt) = match s.to {
            Destination::Queued(at) => (QUEUED, at),
            Destination::Dead => (DEAD, message.next_attempt),
            Destination::Delivered => (DELIVERED, message.next_attempt),
        };
        // For people, and for deciding when its time is over.
        let (finished_at, finished) = match to {
            QUEUED => (None, None),
            _ => (Some(WallTime::now().as_ms()), Some(s.now.as_ms())),
        };
        let recipients = to_json(&s.recipients);
        let changed = self
            .conn
            .prepare_cached(
                "UPDATE message SET recipients = ?2, attempts = ?3, state = ?4, due = ?5, next_attempt = ?6,
                 finished_at = ?7, last_said = coalesce(?8, last_said),
                 outcome_unknown = max(outcome_unknown, ?9), finished = ?10, digest = ?11
                 WHERE id = ?1 AND state = 0",
            )?
            .execute(params![
                message.id.number(),
                recipients,
                s.attempts,
                to,
                next_attempt <= s.now,
                next_attempt.as_ms(),
                finished_at,
                s.attempt.as_ref().map(|a| &a.said),
                s.outcome_unknown,
                finished,
                digest_of(message, &message.account, to, &recipients)
            ])?;
        if changed != 1 {
            // Lost to damage, or taken away by another program: there is nothing to record it in, and nothing that
            // could be sent again. It must not keep the others of its batch from theirs.
            self.shared.disk.tell(Fact::SettledWithoutRow { id: message.id });
            return Ok(false);
        }
        if let Some(attempt) = &s.attempt {
            self.record(message.id, attempt)?;
        }
        if to != QUEUED {
            self.moved(message, to);
        }
        if to == DELIVERED {
            self.empty(message.id)?;
        }
        let delivered = delivered(&s.recipients).saturating_sub(delivered(&message.recipients));
        if delivered > 0 {
            let now = s.now.as_ms();
            self.conn
                .prepare_cached(
                    "INSERT INTO delivered VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
                     SET last_ms = max(last_ms, ?3), recipients = recipients + ?4",
                )?
                .execute(params![
                    message.account.as_str(),
                    now - now.rem_euclid(BUCKET_MS),
                    now,
                    delivered
                ])?;
        }
        Ok(true)
    }

    fn record(&self, id: QueueId, attempt: &Attempt) -> Result<(), QueueError> {
        let id = id.number();
        let seq: i64 = self
            .conn
            .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM attempt WHERE id = ?1")?
            .query_row([id], |row| row.get(0))?;
        self.run("INSERT INTO attempt VALUES (?1, ?2, ?3)", params![id, seq, to_json(attempt)])?;
        if seq > FIRST_ATTEMPTS + LAST_ATTEMPTS {
            self.run(
                "DELETE FROM attempt WHERE id = ?1 AND seq > ?2 AND seq <= ?3",
                params![id, FIRST_ATTEMPTS, seq - LAST_ATTEMPTS],
            )?;
        }
        Ok(())
    }

    /// The content goes; its file, once this is durable.
    pub(super) fn empty(&mut self, id: QueueId) -> Result<(), QueueError> {
        let mut in_file = self
            .conn
            .prepare_cached("SELECT 1 FROM body INDEXED BY body_in_file WHERE id = ?1 AND content IS NULL")?;
        if in_file.exists([id.number()])? {
            self.emptied.push(id);
        }
        self.run("DELETE FROM body WHERE id = ?1", [id.number()])?;
        Ok(())
    }
}

/// One settlement in a transaction of its own, of a message that nobody leases meanwhile.
pub(super) fn apply_settlement(
    conn: &Connection,
    shared: &Shared,
    id: QueueId,
    settlement: &Settlement,
) -> Result<(), QueueError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let mut transaction = Transaction::new(conn, shared, false);
    let applied = match load(conn, id) {
        Ok(Some(message)) if message.state == State::Queued => {
            transaction.settle(&message, settlement).map(drop)
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    let done = applied.and_then(|()| transaction.finish()).and_then(|()| Ok(conn.execute_batch("COMMIT")?));
    if done.is_err() {
        let _ = conn.execute_batch("ROLLBACK");
        return done;
    }
    shared.turns().written();
    shared.disk.remove(&transaction.emptied);
    Ok(())
}

/// Notes of messages that an earlier run was handing over when it ended that the smart host may have them.
pub(super) fn record_interrupted(
    conn: &Connection,
    shared: &Shared,
    ids: &[QueueId],
) -> Result<(), QueueError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let transaction = Transaction::new(conn, shared, false);
    let mut interrupted = Vec::new();
    let noted = ids.iter().try_for_each(|id| {
        let is_queued = conn
            .prepare_cached("UPDATE message SET outcome_unknown = 1 WHERE id = ?1 AND state = 0")?
            .execute([id.number()])?;
        if is_queued == 0 {
            return Ok(());
        }
        interrupted.push(*id);
        let said = "end of data: the relay ended before the answer was recorded".to_owned();
        let attempt = Attempt { at: WallTime::now(), stage: Stage::FinalDot, said, host: String::new() };
        transaction.record(*id, &attempt)
    });
    let done = noted.and_then(|()| Ok(conn.execute_batch("COMMIT")?));
    match &done {
        Ok(()) => {
            let told = |id| shared.disk.tell(Fact::HandOverInterrupted { id });
            interrupted.into_iter().for_each(told);
        }
        Err(_) => drop(conn.execute_batch("ROLLBACK")),
    }
    done
}

fn delivered(recipients: &[crate::mail::Recipient]) -> u32 {
    let count = recipients.iter().filter(|r| matches!(r.progress, Progress::Delivered(_))).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
