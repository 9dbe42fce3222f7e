//! What the queue is asked, handed to the writer or read beside it.
//!
//! Invariant: as of `queue::role`. Must not know: how a transaction is made.

use super::content;
use super::lease::Pick;
use super::ledger;
use super::open::SqliteQueue;
use super::ops::{blocking, mending};
use super::rebuild::Damage;
use super::row::{self, Entry};
use super::shared::{Shared, lock_of};
use super::transaction::Op;
use crate::mail::{AccountId, Attempt, QueueId, QueuedMessage, RelayTime, State, WallTime};
use crate::queue::body::{self, Body, Draft, SMALL_BYTES};
use crate::queue::error::{Done, QueueError};
use crate::queue::lease::{Lease, Next, Settlement};
use crate::queue::ledger::{Change, ChangeStep, Filter, Finished, Page, Total};
use crate::queue::message::{NewMessage, Notice, Stored};
use crate::queue::owner::Owned;
use crate::queue::role::{Health, Ids, Intake, Ledger, Notes, Outbox, Ownership, Room};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

impl SqliteQueue {
    /// Why a message of so many bytes would be refused now.
    fn refusal_of(&self, bytes: u64) -> Option<QueueError> {
        let room = &self.shared.disk.space;
        match bytes {
            _ if *self.shared.closed.borrow() => Some(QueueError::Closed),
            _ if bytes > SMALL_BYTES as u64 => room.check(bytes).err(),
            _ => room.check_row(bytes).err(),
        }
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

fn entries(notices: Vec<Notice>) -> Vec<(Entry, Bytes)> {
    let entry = |n: Notice| {
        let digest = body::digest(&n.message.head, &n.content);
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
        if let Some(refusal) = self.refusal_of(expected_bytes) {
            return Err(refusal);
        }
        Ok(Draft::new(self.next_id(), Arc::clone(&self.shared.disk) as _))
    }

    fn commit(&self, draft: Draft, messages: Vec<NewMessage>) -> Done<Vec<Stored>> {
        let (shared, ops) = (Arc::clone(&self.shared), Arc::clone(&self.ops));
        Box::pin(async move {
            if messages.is_empty() {
                return Err(QueueError::Broken("a message without recipients".into()));
            }
            let ids: Vec<QueueId> = messages.iter().map(|m| m.id).collect();
            let whole = draft.finish().await?;
            let entry = |message: NewMessage| {
                let digest = whole.digest(&message.head);
                Entry::new(message, whole.len, digest)
            };
            let entries = messages.into_iter().map(entry).collect();
            let sealed = content::seal(&shared.disk, whole, &ids).await?;
            ops.ask(|reply| Op::Store { entries, sealed, reply }).await
        })
    }
}

impl Outbox for SqliteQueue {
    fn lease(&self, owned: &Owned, now: RelayTime, except: Vec<QueueId>) -> Done<Next> {
        let (shared, ops) = (Arc::clone(&self.shared), Arc::clone(&self.ops));
        let (account, fence) = (owned.account().clone(), owned.fence());
        Box::pin(async move {
            let pick = |may_promote, is_mended| {
                let (shared, account, except) = (Arc::clone(&shared), account.clone(), except.clone());
                blocking(move || shared.pick((&account, fence), now, &except, may_promote, is_mended))
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

/// Nobody else has the directory open.
impl Ownership for SqliteQueue {
    fn own(&self, account: &AccountId) -> Done<Owned> {
        let closed = *self.shared.closed.borrow();
        let owned = if closed { Err(QueueError::Closed) } else { Ok(Owned::for_good(account.clone())) };
        Box::pin(std::future::ready(owned))
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
    fn left_behind(&self) -> Vec<String> {
        let holds = |d: &PathBuf| std::fs::read_dir(d).is_ok_and(|mut names| names.next().is_some());
        let places = ["damaged", "unclaimed"].map(|name| self.shared.directory.join(name));
        places.into_iter().filter(holds).map(|place| place.display().to_string()).collect()
    }

    fn refusal(&self) -> Option<QueueError> {
        self.refusal_of(0)
    }

    fn room(&self) -> Option<Room> {
        Some(self.shared.disk.space.room())
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
