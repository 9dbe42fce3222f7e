//! The admin's part: pages are read beside everything else, a step of a change is one small operation of the writer.
//!
//! Invariant: what is looked at in one go is bounded, whatever the filter; a page has a connection of its own, so
//! leases never wait for it, and keeps no snapshot between two pages. What a step is to change is chosen before and
//! judged again by the writer. One message that cannot be read hides no other.

use super::ops::{Ops, blocking, mending};
use super::row::{self, HELD, QUEUED, state_code, to_json};
use super::schema::DATABASE;
use super::schema::{self, Use};
use super::shared::Shared;
use super::transaction::{Op, Transaction};
use crate::fact::queue::Fact;
use crate::mail::{AccountId, Progress, QueueId, QueuedMessage, Recipient, RelayTime, State};
use crate::queue::body::SMALL_BYTES;
use crate::queue::error::QueueError;
use crate::queue::ledger::{Change, ChangeStep, Filter, Finished, Page};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::{Arc, PoisonError};

/// Rows looked at for a page, and ids fetched at once.
const LOOKED_AT: usize = 2000;
const IDS: u16 = 250;
/// Finished messages named, and rows forgotten, at once.
const FINISHED_AT_ONCE: u16 = 500;

/// Where a page ends although there is more.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    messages: usize,
    /// Of all its messages: each may have a thousand.
    recipients: usize,
    /// Of contents that are in rows.
    content_bytes: u64,
}

/// What is held in memory and sent at once.
const PAGE: Bounds = Bounds { messages: 250, recipients: 2000, content_bytes: u64::MAX };
/// What commits wait for, some milliseconds: removing a row frees every page of its content.
const STEP: Bounds = Bounds { messages: 128, recipients: 2000, content_bytes: 1 << 20 };

/// Messages of one account and state at most, oldest first, behind one id and up to another.
const OF_ACCOUNT_AND_STATE: &str = "SELECT id FROM message INDEXED BY message_state
     WHERE account = ?1 AND state = ?2 AND id > ?3 AND id <= ?4 ORDER BY id LIMIT ?5";
/// The next state of an account that has messages, and the next account. One query for both would compare rows, and
/// walk all of those before.
const NEXT_STATE: &str = "SELECT state FROM message INDEXED BY message_state
     WHERE account = ?1 AND state > ?2 ORDER BY state LIMIT 1";
const NEXT_ACCOUNT: &str = "SELECT account FROM message INDEXED BY message_state
     WHERE account > ?1 ORDER BY account LIMIT 1";
/// Those that finished at one moment, behind an id, and those that finished later. Everything of version 1 finished
/// at one moment.
const FINISHED_THEN: &str = "SELECT finished, id FROM message INDEXED BY finished
     WHERE state >= 2 AND state = ?1 AND finished = ?2 AND id > ?3 ORDER BY id LIMIT ?4";
const FINISHED_LATER: &str = "SELECT finished, id FROM message INDEXED BY finished
     WHERE state >= 2 AND state = ?1 AND finished > ?2 AND finished < ?3 ORDER BY finished, id LIMIT ?4";

/// The next page of what the filter names.
pub(super) fn list(
    shared: &Shared,
    filter: &Filter,
    after: Option<QueueId>,
    is_mended: bool,
) -> Result<Page, QueueError> {
    look(shared, |conn| page(shared, conn, filter, after, PAGE, None, is_mended))
}

/// The next step of a change.
pub(super) async fn change(
    shared: Arc<Shared>,
    ops: Arc<Ops>,
    filter: Filter,
    change: Change,
    now: RelayTime,
    after: Option<QueueId>,
) -> Result<ChangeStep, QueueError> {
    let choose = |is_mended| {
        let (shared, filter, change) = (Arc::clone(&shared), filter.clone(), change.clone());
        blocking(move || {
            look(&shared, |conn| page(&shared, conn, &filter, after, STEP, Some(&change), is_mended))
        })
    };
    let Page { messages, unreadable, next } = mending(&ops, choose).await?;
    let ids: Vec<QueueId> = messages.iter().map(|m| m.id).collect();
    let filter = Filter { ids: vec![], ..filter };
    let done = match ids.as_slice() {
        [] => ChangeStep::default(),
        _ => ops.ask(|reply| Op::Change { ids, filter, change, now, reply }).await?,
    };
    Ok(ChangeStep { unreadable, next, ..done })
}

/// Messages that came to an end before a moment, the earliest first.
pub(super) fn finished(
    shared: &Shared,
    state: State,
    before: RelayTime,
    after: Option<Finished>,
) -> Result<Vec<Finished>, QueueError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Finished { at: RelayTime::from_ms(row.get(0)?), id: QueueId::from_number(row.get(1)?) })
    };
    let code = state_code(state);
    look(shared, |conn| {
        let mut found: Vec<Finished> = match after.filter(|after| after.at < before) {
            Some(after) => conn
                .prepare(FINISHED_THEN)?
                .query_map(params![code, after.at.as_ms(), after.id.number(), FINISHED_AT_ONCE], read)?
                .collect::<Result<_, _>>()?,
            None => vec![],
        };
        let left = usize::from(FINISHED_AT_ONCE) - found.len();
        let since = after.map_or(i64::MIN, |after| after.at.as_ms());
        let mut later = conn.prepare(FINISHED_LATER)?;
        for next in later.query_map(params![code, since, before.as_ms(), FINISHED_AT_ONCE], read)?.take(left)
        {
            found.push(next?);
        }
        Ok(found)
    })
}

/// Forgets what was delivered before a moment.
pub(super) async fn prune(shared: Arc<Shared>, ops: Arc<Ops>, before: RelayTime) -> Result<u64, QueueError> {
    let (mut removed, mut passed_over, mut after) = (0, 0, None);
    loop {
        let (page, ids) = {
            let shared = Arc::clone(&shared);
            blocking(move || {
                let page = finished(&shared, State::Delivered, before, after)?;
                let ids = look(&shared, |conn| readable(conn, page.iter().map(|f| f.id)))?;
                Ok((page, ids))
            })
            .await?
        };
        // What cannot be read is not thrown away unread, and those behind it go.
        passed_over += page.len() - ids.len();
        for ids in ids.chunks(STEP.messages) {
            let (ids, now) = (ids.to_vec(), shared.clock.now());
            let filter = Filter { state: Some(State::Delivered), ..Filter::default() };
            let step =
                ops.ask(|reply| Op::Change { ids, filter, change: Change::Remove, now, reply }).await?;
            removed += step.changed.len() as u64;
        }
        if page.len() < usize::from(FINISHED_AT_ONCE) {
            break;
        }
        after = page.last().copied();
    }
    if passed_over > 0 {
        shared.disk.tell(Fact::UnreadableKept { count: passed_over as u64 });
    }
    Ok(removed)
}

fn look<T>(shared: &Shared, f: impl FnOnce(&Connection) -> Result<T, QueueError>) -> Result<T, QueueError> {
    if *shared.closed.borrow() {
        return Err(QueueError::Closed);
    }
    let _reading = shared.lists.read().unwrap_or_else(PoisonError::into_inner);
    f(&schema::connect(&shared.directory.join(DATABASE), Use::Read)?)
}

fn page(
    shared: &Shared,
    conn: &Connection,
    filter: &Filter,
    after: Option<QueueId>,
    bounds: Bounds,
    change: Option<&Change>,
    is_mended: bool,
) -> Result<Page, QueueError> {
    // One view of indexes and rows: what vanishes between them is damage, and nothing else.
    let view = conn.unchecked_transaction()?;
    let most = if filter.limit == 0 { bounds.messages } else { bounds.messages.min(filter.limit) };
    let rest = Filter { ids: vec![], ..filter.clone() };
    let mut page = Page::default();
    let (mut recipients, mut content_bytes, mut looked_at) = (0, 0, 0);
    let mut at = after;
    loop {
        let ids = candidates(&view, filter, at, change)?;
        if ids.is_empty() {
            return Ok(page);
        }
        for id in ids {
            let is_full = page.messages.len() >= most
                || recipients >= bounds.recipients
                || content_bytes >= bounds.content_bytes;
            if is_full || looked_at == LOOKED_AT {
                page.next = at;
                return Ok(page);
            }
            (at, looked_at) = (Some(id), looked_at + 1);
            match row(&view, id, is_mended)? {
                Some(Ok(message))
                    if rest.names(&message) && change.is_none_or(|c| c.applies(&message, filter)) =>
                {
                    recipients += message.recipients.len();
                    content_bytes +=
                        Some(message.size_bytes).filter(|b| *b <= SMALL_BYTES as u64).unwrap_or(0);
                    page.messages.push(message);
                }
                Some(Err(why)) => {
                    shared.disk.tell(Fact::RowUnreadable { id, error: why.to_string() });
                    page.unreadable.push(id);
                }
                // Not meant, or named by its id and not there.
                Some(Ok(_)) | None => {}
            }
        }
    }
}

/// The next ids that may be meant, oldest first; none: there are no more.
fn candidates(
    conn: &Connection,
    filter: &Filter,
    after: Option<QueueId>,
    change: Option<&Change>,
) -> Result<Vec<QueueId>, QueueError> {
    let after = after.map_or(i64::MIN, QueueId::number);
    let up_to = filter.up_to.map_or(i64::MAX, QueueId::number);
    let mut ids: Vec<i64> = if filter.ids.is_empty() {
        // A damaged index says so, and the table itself has the ids, too.
        by_index(conn, filter, after, up_to, change).or_else(|_| by_table(conn, after, up_to))?
    } else {
        filter.ids.iter().map(|id| id.number()).filter(|id| *id > after && *id <= up_to).collect()
    };
    if ids.len() > usize::from(IDS) {
        ids.select_nth_unstable(usize::from(IDS));
        ids.truncate(usize::from(IDS));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into_iter().map(QueueId::from_number).collect())
}

fn by_index(
    conn: &Connection,
    filter: &Filter,
    after: i64,
    up_to: i64,
    change: Option<&Change>,
) -> rusqlite::Result<Vec<i64>> {
    let account = filter.account.as_ref().map(AccountId::as_str);
    // None: whatever state there is, even one nobody knows.
    let states: Option<Vec<i64>> = match (filter.state, change) {
        (Some(state), _) => Some(vec![state_code(state)]),
        (None, Some(change)) => Some(change.states().iter().map(|state| state_code(*state)).collect()),
        (None, None) => None,
    };
    let mut ids = conn.prepare_cached(OF_ACCOUNT_AND_STATE)?;
    let mut found = Vec::new();
    let mut of_account = |account: &str| -> rusqlite::Result<()> {
        let mut before = i64::MIN;
        while let Some(next) = first(conn, NEXT_STATE, params![account, before])? {
            before = next;
            if states.as_ref().is_none_or(|states| states.contains(&next)) {
                for id in ids.query_map(params![account, next, after, up_to, IDS], |row| row.get(0))? {
                    found.push(id?);
                }
            }
        }
        Ok(())
    };
    match account {
        Some(account) => of_account(account)?,
        None => {
            let mut before = String::new();
            of_account(&before)?;
            while let Some(next) = first(conn, NEXT_ACCOUNT, params![before])? {
                before = next;
                of_account(&before)?;
            }
        }
    }
    Ok(found)
}

fn first<T: rusqlite::types::FromSql>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Option<T>> {
    conn.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()
}

fn by_table(conn: &Connection, after: i64, up_to: i64) -> rusqlite::Result<Vec<i64>> {
    let mut ids =
        conn.prepare("SELECT id FROM message NOT INDEXED WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3")?;
    ids.query_map(params![after, up_to, IDS], |row| row.get(0))?.collect()
}

/// The row, if there is one; the inner error is its own, a damaged page that others share included.
fn row(
    conn: &Connection,
    id: QueueId,
    is_mended: bool,
) -> Result<Option<Result<QueuedMessage, QueueError>>, QueueError> {
    use rusqlite::ErrorCode::{DatabaseCorrupt, SystemIoFailure};
    match row::find(conn, id) {
        Ok(found) => Ok(found),
        Err(e) if is_mended && matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | SystemIoFailure)) => {
            Ok(Some(Err(e.into())))
        }
        Err(e) => Err(e.into()),
    }
}

/// Those of the messages that can be read.
fn readable(conn: &Connection, ids: impl Iterator<Item = QueueId>) -> Result<Vec<QueueId>, QueueError> {
    let mut readable = Vec::new();
    for id in ids {
        if let Some(Ok(_)) = row(conn, id, true)? {
            readable.push(id);
        }
    }
    Ok(readable)
}

impl Transaction<'_> {
    /// A step: the messages were chosen a moment ago, and are judged again as they are now.
    pub(super) fn change(
        &mut self,
        ids: &[QueueId],
        filter: &Filter,
        change: &Change,
        now: RelayTime,
    ) -> Result<ChangeStep, QueueError> {
        let mut step = ChangeStep::default();
        for id in ids {
            let Some(Ok(message)) = row::find(self.conn, *id)? else { continue };
            if !filter.names(&message) || !change.applies(&message, filter) {
                continue;
            }
            let is_free = self.shared.leased.lock().expect("nobody panics with leases").insert(*id);
            if is_free {
                self.reserved.push(*id);
            } else if !self.reserved.contains(id) {
                step.being_sent.push(*id);
                continue;
            }
            let account = match change {
                Change::Move(to) => to.clone(),
                _ => message.account.clone(),
            };
            match change {
                Change::Retry if message.state == State::Dead => self.revive(&message, now)?,
                Change::Retry => self.hurry(&message, now)?,
                Change::Hold => self.set_state(&message, HELD, false)?,
                Change::Release => self.set_state(&message, QUEUED, message.next_attempt <= now)?,
                Change::Remove => self.remove(&message)?,
                Change::Move(to) => self.hand_over(&message, to)?,
            }
            if !matches!(change, Change::Hold | Change::Remove) {
                self.arrivals.insert(account.clone());
            }
            step.changed.push((*id, account));
        }
        Ok(step)
    }

    fn set_state(&mut self, message: &QueuedMessage, to: i64, due: bool) -> Result<(), QueueError> {
        let digest = row::digest_of(message, &message.account, to, &to_json(&message.recipients));
        self.run(
            "UPDATE message SET state = ?2, due = ?3, digest = ?4 WHERE id = ?1",
            params![message.id.number(), to, due, digest],
        )?;
        self.moved(message, to);
        Ok(())
    }

    /// A queued one is due now, and nobody of it is given up: what it was put off and how old it is stays as it is.
    fn hurry(&mut self, message: &QueuedMessage, now: RelayTime) -> Result<(), QueueError> {
        let mut recipients = message.recipients.clone();
        for recipient in recipients.iter_mut().filter(|r| matches!(r.progress, Progress::Failed(_))) {
            *recipient = Recipient::pending(recipient.mailbox.clone());
        }
        let recipients = to_json(&recipients);
        let digest = row::digest_of(message, &message.account, QUEUED, &recipients);
        self.run(
            "UPDATE message SET due = 1, next_attempt = min(next_attempt, ?2), recipients = ?3, digest = ?4 WHERE id = ?1",
            params![message.id.number(), now.as_ms(), recipients, digest],
        )?;
        Ok(())
    }

    fn revive(&mut self, message: &QueuedMessage, now: RelayTime) -> Result<(), QueueError> {
        let mut recipients = message.recipients.clone();
        // Its age begins anew, and so does what it was put off.
        for recipient in recipients.iter_mut().filter(|r| !matches!(r.progress, Progress::Delivered(_))) {
            *recipient = Recipient::pending(recipient.mailbox.clone());
        }
        let turn = self.turn(&message.account, message);
        let recipients = to_json(&recipients);
        let digest = row::digest_of(message, &message.account, QUEUED, &recipients);
        self.run(
            "UPDATE message SET state = 0, due = 1, turn = ?2, next_attempt = ?3, queued_since = ?3, attempts = 0,
             finished_at = NULL, finished = NULL, recipients = ?4, digest = ?5 WHERE id = ?1",
            params![message.id.number(), turn, now.as_ms(), recipients, digest],
        )?;
        self.moved(message, QUEUED);
        Ok(())
    }

    fn hand_over(&mut self, message: &QueuedMessage, to: &AccountId) -> Result<(), QueueError> {
        let turn = self.turn(to, message);
        let digest = row::digest_of(message, to, state_code(message.state), &to_json(&message.recipients));
        self.run(
            "UPDATE message SET account = ?2, turn = ?3, digest = ?4, attempts = 0 WHERE id = ?1",
            params![message.id.number(), to.as_str(), turn, digest],
        )?;
        let (state, size) =
            (state_code(message.state), i64::try_from(message.size_bytes).unwrap_or(i64::MAX));
        self.count(&message.account, state, -1, -size);
        self.count(to, state, 1, size);
        Ok(())
    }

    fn turn(&self, account: &AccountId, message: &QueuedMessage) -> i64 {
        let peer = message.peer.map(|p| p.to_string()).unwrap_or_default();
        let mut turns = self.shared.turns.lock().expect("nobody panics with turns");
        turns.next(account, message.client.as_str(), &peer)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sqlite::schema;

    /// A scan of the table or a sort would show in the plan.
    #[test]
    fn what_is_asked_of_a_large_queue_goes_by_an_index() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join(DATABASE);
        std::fs::write(&file, "").unwrap();
        let conn = schema::connect(&file, Use::Write).unwrap();
        schema::migrate(&conn).unwrap();
        for (sql, uses) in [
            (
                OF_ACCOUNT_AND_STATE,
                "COVERING INDEX message_state (account=? AND state=? AND rowid>? AND rowid<?)",
            ),
            (NEXT_STATE, "COVERING INDEX message_state (account=? AND state>?)"),
            (NEXT_ACCOUNT, "COVERING INDEX message_state (account>?)"),
            (FINISHED_THEN, "COVERING INDEX finished (state=? AND finished=? AND rowid>?)"),
            (FINISHED_LATER, "COVERING INDEX finished (state=? AND finished>? AND finished<?)"),
        ] {
            let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let none = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan = statement.query_map(rusqlite::params_from_iter(none), |row| row.get(3)).unwrap();
            let plan: Vec<String> = plan.map(Result::unwrap).collect();
            assert!(plan.iter().any(|line| line.contains(uses)), "{sql}: {plan:?}");
            assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}: {plan:?}");
        }
    }
}
