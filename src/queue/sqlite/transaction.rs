//! One transaction: the operations that waited together, applied to the database.
//!
//! Invariant: nothing here is visible or answered before `COMMIT` returned; the counters of `total` and the turns
//! change in the same transaction as the rows they speak of.

use super::row::{DEAD, DELIVERED, Entry, HELD, QUEUED, digest, load, read, select, state_code, to_json};
use super::{Shared, turns::Turns};
use crate::mail::{AccountId, Attempt, Progress, QueueId, QueuedMessage, RelayTime, Stage, State, WallTime};
use crate::queue::body::Sealed;
use crate::queue::{Change, Destination, Filter, Lease, QueueError, Settlement, Stored};
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
/// Rows pruned at once: commits wait for it.
pub(super) const PRUNED_AT_ONCE: u32 = 500;
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
    Change {
        filter: Filter,
        change: Change,
        now: RelayTime,
        reply: Reply<Vec<QueueId>>,
    },
    Note {
        name: String,
        value: Option<String>,
        reply: Reply<()>,
    },
    Prune {
        state: i64,
        before: WallTime,
        reply: Reply<u64>,
    },
    Promote {
        account: AccountId,
        now: RelayTime,
        reply: Reply<()>,
    },
    /// Damage was met while reading.
    Mend {
        reply: Reply<()>,
    },
    Tick,
}

/// What one operation came to.
pub(super) enum Outcome {
    Done,
    Ids(Vec<QueueId>),
    Count(u64),
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
        let stored = |ids: Vec<QueueId>| ids.into_iter().map(|id| Stored { id }).collect();
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
                Ok(_) => {
                    drop(lease);
                    drop(reply.send(Ok(())));
                }
                Err(e) => drop(reply.send(Err((lease, e)))),
            },
            Self::Change { reply, .. } => drop(reply.send(ids(result))),
            Self::Prune { reply, .. } => {
                drop(reply.send(result.map(|o| if let Outcome::Count(n) = o { n } else { 0 })));
            }
            Self::Note { reply, .. } | Self::Promote { reply, .. } | Self::Mend { reply } => {
                drop(reply.send(result.map(|_| ())));
            }
            Self::Tick => {}
        }
    }
}

/// The transaction under way, and what is to be done once it is durable.
pub(super) struct Transaction<'a> {
    conn: &'a Connection,
    shared: &'a Shared,
    totals: HashMap<(AccountId, i64), (i64, i64)>,
    /// Accounts with mail that may be due now.
    pub(super) arrivals: HashSet<AccountId>,
    /// Messages whose files are to be removed.
    pub(super) emptied: Vec<QueueId>,
    /// Messages kept from being leased meanwhile.
    pub(super) reserved: Vec<QueueId>,
    /// The ids given so far must not be forgotten with the rows.
    saves_clock: bool,
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
                self.settle(&lease.message, settlement)?;
                self.insert_all(notices)?;
                Ok(Outcome::Done)
            }
            Op::Change { filter, change, now, .. } => self.change(filter, *change, *now).map(Outcome::Ids),
            Op::Note { name, value: Some(value), .. } => {
                self.run("INSERT OR REPLACE INTO note VALUES (?1, ?2)", params![name, value])
            }
            Op::Note { name, value: None, .. } => self.run("DELETE FROM note WHERE name = ?1", params![name]),
            Op::Prune { state, before, .. } => self.prune(*state, *before).map(Outcome::Count),
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

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<Outcome, QueueError> {
        self.conn.prepare_cached(sql)?.execute(params)?;
        Ok(Outcome::Done)
    }

    fn count(&mut self, account: &AccountId, state: i64, messages: i64, size: i64) {
        let total = self.totals.entry((account.clone(), state)).or_default();
        total.0 += messages;
        total.1 += size;
    }

    fn moved(&mut self, message: &QueuedMessage, to: i64) {
        let size = i64::try_from(message.size_bytes).unwrap_or(i64::MAX);
        self.count(&message.account, state_code(message.state), -1, -size);
        self.count(&message.account, to, 1, size);
    }

    fn insert_all(&mut self, notices: &[(Entry, Bytes)]) -> Result<(), QueueError> {
        notices.iter().try_for_each(|(entry, content)| self.insert(entry, Some(content)))
    }

    fn insert(&mut self, e: &Entry, content: Option<&[u8]>) -> Result<(), QueueError> {
        let turn = self.shared.turns().next(&e.account, &e.client, &e.peer);
        self.conn
            .prepare_cached(
                "INSERT INTO message VALUES (?1, ?2, 0, 1, ?3, ?4, 0, ?4, ?5, NULL, ?6, 0, ?7, ?8, ?9, ?10, '', ?11, ?12)",
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

    fn settle(&mut self, message: &QueuedMessage, s: &Settlement) -> Result<(), QueueError> {
        let (to, next_attempt, finished_at) = match s.to {
            Destination::Queued(at) => (QUEUED, at, None),
            Destination::Dead => (DEAD, message.next_attempt, Some(WallTime::now().as_ms())),
            Destination::Delivered => (DELIVERED, message.next_attempt, Some(WallTime::now().as_ms())),
        };
        let recipients = to_json(&s.recipients);
        let changed = self
            .conn
            .prepare_cached(
                "UPDATE message SET recipients = ?2, attempts = ?3, state = ?4, due = ?5, next_attempt = ?6,
                 finished_at = ?7, last_said = coalesce(?8, last_said),
                 outcome_unknown = max(outcome_unknown, ?9), digest = ?10
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
                digest(message.id, &to_json(&message.reverse_path), &recipients)
            ])?;
        if changed != 1 {
            // Lost to damage, or taken away by another program: there is nothing to record it in, and nothing that
            // could be sent again. It must not keep the others of its batch from theirs.
            crate::events::queue::settled_without_row(message.id);
            return Ok(());
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
        Ok(())
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
    fn empty(&mut self, id: QueueId) -> Result<(), QueueError> {
        let mut in_file = self
            .conn
            .prepare_cached("SELECT 1 FROM body INDEXED BY body_in_file WHERE id = ?1 AND content IS NULL")?;
        if in_file.exists([id.number()])? {
            self.emptied.push(id);
        }
        self.run("DELETE FROM body WHERE id = ?1", [id.number()])?;
        Ok(())
    }

    fn change(
        &mut self,
        filter: &Filter,
        change: Change,
        now: RelayTime,
    ) -> Result<Vec<QueueId>, QueueError> {
        let states: &[i64] = match change {
            Change::Retry => &[QUEUED, DEAD],
            Change::Hold => &[QUEUED],
            Change::Release => &[HELD],
            // History is not what somebody means who empties a queue, unless they say so.
            Change::Remove if filter.state == Some(State::Delivered) => &[DELIVERED],
            Change::Remove => &[QUEUED, HELD, DEAD],
        };
        let mut changed = Vec::new();
        for message in select(self.conn, filter, states)? {
            let id = message.id;
            if !self.shared.leased().insert(id) {
                continue;
            }
            self.reserved.push(id);
            match change {
                Change::Retry if message.state == State::Dead => self.revive(&message, now)?,
                Change::Retry => {
                    self.conn
                        .prepare_cached(
                            "UPDATE message SET due = 1, next_attempt = min(next_attempt, ?2) WHERE id = ?1",
                        )?
                        .execute([id.number(), now.as_ms()])?;
                }
                Change::Hold => self.set_state(&message, HELD, false)?,
                Change::Release => self.set_state(&message, QUEUED, message.next_attempt <= now)?,
                Change::Remove => self.remove(&message)?,
            }
            if matches!(change, Change::Retry | Change::Release) {
                self.arrivals.insert(message.account.clone());
            }
            changed.push(id);
        }
        Ok(changed)
    }

    fn set_state(&mut self, message: &QueuedMessage, to: i64, due: bool) -> Result<(), QueueError> {
        self.conn
            .prepare_cached("UPDATE message SET state = ?2, due = ?3 WHERE id = ?1")?
            .execute(params![message.id.number(), to, due])?;
        self.moved(message, to);
        Ok(())
    }

    fn revive(&mut self, message: &QueuedMessage, now: RelayTime) -> Result<(), QueueError> {
        let mut recipients = message.recipients.clone();
        for recipient in &mut recipients {
            if matches!(recipient.progress, Progress::Failed(_)) {
                recipient.progress = Progress::Pending;
            }
        }
        let peer = message.peer.map(|p| p.to_string()).unwrap_or_default();
        let turn = self.shared.turns().next(&message.account, message.client.as_str(), &peer);
        let recipients = to_json(&recipients);
        let digest = digest(message.id, &to_json(&message.reverse_path), &recipients);
        self.conn
            .prepare_cached(
                "UPDATE message SET state = 0, due = 1, turn = ?2, next_attempt = ?3, queued_since = ?3, attempts = 0,
                 finished_at = NULL, recipients = ?4, digest = ?5 WHERE id = ?1",
            )?
            .execute(params![message.id.number(), turn, now.as_ms(), recipients, digest])?;
        self.moved(message, QUEUED);
        Ok(())
    }

    fn remove(&mut self, message: &QueuedMessage) -> Result<(), QueueError> {
        let id = message.id.number();
        self.empty(message.id)?;
        self.run("DELETE FROM attempt WHERE id = ?1", [id])?;
        self.run("DELETE FROM message WHERE id = ?1", [id])?;
        let size = i64::try_from(message.size_bytes).unwrap_or(i64::MAX);
        self.count(&message.account, state_code(message.state), -1, -size);
        self.saves_clock = true;
        Ok(())
    }

    fn prune(&mut self, state: i64, before: WallTime) -> Result<u64, QueueError> {
        let ids: Vec<i64> = self
            .conn
            .prepare_cached(
                "SELECT id FROM message INDEXED BY finished
                 WHERE finished_at IS NOT NULL AND state = ?1 AND finished_at < ?2 LIMIT ?3",
            )?
            .query_map(params![state, before.as_ms(), PRUNED_AT_ONCE], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut removed = 0;
        for id in ids {
            // What cannot be read is not thrown away unread.
            if let Ok(message) = read(self.conn, QueueId::from_number(id))? {
                self.remove(&message)?;
                removed += 1;
            }
        }
        let horizon = self.shared.clock.now().as_ms() - BUCKETS_KEPT_MS;
        self.run("DELETE FROM delivered WHERE last_ms < ?1", [horizon])?;
        Ok(removed)
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
        Ok(Some(message)) if message.state == State::Queued => transaction.settle(&message, settlement),
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
        Ok(()) => interrupted.into_iter().for_each(crate::events::queue::hand_over_interrupted),
        Err(_) => drop(conn.execute_batch("ROLLBACK")),
    }
    done
}

fn delivered(recipients: &[crate::mail::Recipient]) -> u32 {
    let count = recipients.iter().filter(|r| matches!(r.progress, Progress::Delivered(_))).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
