//! The admin's part: pages are read beside everything else, a step of a change is one small operation of the writer.
//!
//! Invariant: what is looked at in one go is bounded, whatever the filter; a page has a connection of its own, so
//! leases never wait for it, and keeps no snapshot between two pages. What a step is to change is chosen before and
//! judged again by the writer. One message that cannot be read hides no other.

use super::row::{self, HELD, QUEUED, state_code, to_json};
use super::schema::{self, Use};
use super::transaction::{Op, Transaction};
use super::{DATABASE, Ops, Shared, blocking};
use crate::mail::{AccountId, Progress, QueueId, QueuedMessage, RelayTime, State};
use crate::queue::{Change, ChangeStep, Filter, Finished, Page, QueueError, SMALL_BYTES};
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Rows looked at for a page.
const LOOKED_AT: u16 = 2000;
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
/// The next account and state that have messages.
const ACCOUNTS_AND_STATES: &str = "SELECT account, state FROM message INDEXED BY message_state
     WHERE (account, state) > (?1, ?2) ORDER BY account, state LIMIT 1";
const FINISHED: &str = "SELECT finished, id FROM message INDEXED BY finished
     WHERE state >= 2 AND state = ?1 AND (finished, id) > (?2, ?3) AND finished < ?4
     ORDER BY finished, id LIMIT ?5";

/// The next page of what the filter names.
pub(super) fn list(shared: &Shared, filter: &Filter, after: Option<QueueId>) -> Result<Page, QueueError> {
    look(shared, |conn| page(conn, filter, after, PAGE, &|_| true))
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
    let chosen = {
        let (filter, change) = (filter.clone(), change.clone());
        blocking(move || {
            look(&shared, |conn| page(conn, &filter, after, STEP, &|m| change.applies(m, &filter)))
        })
    };
    let Page { messages, unreadable, next } = chosen.await?;
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
    let after = after.map_or((i64::MIN, i64::MIN), |f| (f.at.as_ms(), f.id.number()));
    look(shared, |conn| {
        let mut statement = conn.prepare(FINISHED)?;
        let rows = statement.query_map(
            params![state_code(state), after.0, after.1, before.as_ms(), FINISHED_AT_ONCE],
            |row| Ok(Finished { at: RelayTime::from_ms(row.get(0)?), id: QueueId::from_number(row.get(1)?) }),
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
}

/// Forgets what was delivered before a moment.
pub(super) async fn prune(shared: Arc<Shared>, ops: Arc<Ops>, before: RelayTime) -> Result<u64, QueueError> {
    let (mut removed, mut passed_over, mut after) = (0, 0, None);
    loop {
        let (page, beside) = {
            let shared = Arc::clone(&shared);
            blocking(move || {
                let page = finished(&shared, State::Delivered, before, after)?;
                let (there, beside) = look(&shared, |conn| rows(conn, page.iter().map(|f| f.id)))?;
                // What cannot be read is not thrown away unread, and those behind it are.
                Ok(((page, there), beside.len()))
            })
            .await?
        };
        let (page, there) = page;
        passed_over += beside;
        let ids: Vec<QueueId> = there.iter().map(|m| m.id).collect();
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
        crate::events::queue::unreadable_kept(passed_over as u64);
    }
    Ok(removed)
}

fn look<T>(shared: &Shared, f: impl FnOnce(&Connection) -> Result<T, QueueError>) -> Result<T, QueueError> {
    if *shared.closed.borrow() {
        return Err(QueueError::Closed);
    }
    f(&schema::connect(&shared.directory.join(DATABASE), Use::Read)?)
}

fn page(
    conn: &Connection,
    filter: &Filter,
    after: Option<QueueId>,
    bounds: Bounds,
    is_meant: &dyn Fn(&QueuedMessage) -> bool,
) -> Result<Page, QueueError> {
    // One view of indexes and rows: what vanishes between them is damage, and nothing else.
    let view = conn.unchecked_transaction()?;
    let most = if filter.limit == 0 { bounds.messages } else { bounds.messages.min(filter.limit) };
    let (ids, mut is_last) = candidates(&view, filter, after)?;
    let rest = Filter { ids: vec![], ..filter.clone() };
    let mut page = Page::default();
    let (mut recipients, mut content_bytes, mut looked_at) = (0, 0, after);
    for id in ids {
        if page.messages.len() >= most
            || recipients >= bounds.recipients
            || content_bytes >= bounds.content_bytes
        {
            is_last = false;
            break;
        }
        looked_at = Some(id);
        match row(&view, id)? {
            Some(Ok(message)) => {
                if rest.names(&message) && is_meant(&message) {
                    recipients += message.recipients.len();
                    content_bytes +=
                        Some(message.size_bytes).filter(|b| *b <= SMALL_BYTES as u64).unwrap_or(0);
                    page.messages.push(message);
                }
            }
            Some(Err(why)) => {
                crate::events::queue::row_unreadable(id, &why);
                page.unreadable.push(id);
            }
            // Named by its id, and not there.
            None => {}
        }
    }
    page.next = looked_at.filter(|_| !is_last);
    Ok(page)
}

/// Ids that may be meant, oldest first, and whether these are all there are.
fn candidates(
    conn: &Connection,
    filter: &Filter,
    after: Option<QueueId>,
) -> Result<(Vec<QueueId>, bool), QueueError> {
    let after = after.map_or(i64::MIN, QueueId::number);
    let up_to = filter.up_to.map_or(i64::MAX, QueueId::number);
    let mut ids: Vec<i64> = if filter.ids.is_empty() {
        // A damaged index says so, and the table itself has the ids, too.
        by_index(conn, filter, after, up_to).or_else(|_| by_table(conn, after, up_to))?
    } else {
        filter.ids.iter().map(|id| id.number()).filter(|id| *id > after && *id <= up_to).collect()
    };
    ids.sort_unstable();
    ids.dedup();
    let is_last = ids.len() < usize::from(LOOKED_AT);
    ids.truncate(usize::from(LOOKED_AT));
    Ok((ids.into_iter().map(QueueId::from_number).collect(), is_last))
}

fn by_index(conn: &Connection, filter: &Filter, after: i64, up_to: i64) -> rusqlite::Result<Vec<i64>> {
    let mut next = conn.prepare(ACCOUNTS_AND_STATES)?;
    let mut ids = conn.prepare(OF_ACCOUNT_AND_STATE)?;
    let (account, state) = (filter.account.as_ref().map(AccountId::as_str), filter.state.map(state_code));
    let mut at = (account.unwrap_or_default().to_owned(), i64::MIN);
    let mut found = Vec::new();
    loop {
        let mut rows = next.query(params![at.0, at.1])?;
        let Some(row) = rows.next()? else { return Ok(found) };
        at = (row.get(0)?, row.get(1)?);
        if account.is_some_and(|a| a != at.0) {
            return Ok(found);
        }
        if state.is_none_or(|s| s == at.1) {
            let rows = ids.query_map(params![at.0, at.1, after, up_to, LOOKED_AT], |row| row.get(0))?;
            for id in rows {
                found.push(id?);
            }
        }
    }
}

fn by_table(conn: &Connection, after: i64, up_to: i64) -> rusqlite::Result<Vec<i64>> {
    let mut ids =
        conn.prepare("SELECT id FROM message NOT INDEXED WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3")?;
    ids.query_map(params![after, up_to, LOOKED_AT], |row| row.get(0))?.collect()
}

/// The row, if there is one; the inner error is its own, a damaged page that others share included.
fn row(conn: &Connection, id: QueueId) -> Result<Option<Result<QueuedMessage, QueueError>>, QueueError> {
    use rusqlite::ErrorCode::{DatabaseCorrupt, SystemIoFailure};
    match row::find(conn, id) {
        Ok(found) => Ok(found),
        Err(e) if matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | SystemIoFailure)) => {
            Ok(Some(Err(e.into())))
        }
        Err(e) => Err(e.into()),
    }
}

/// Those of the messages that can be read, and those that cannot.
fn rows(
    conn: &Connection,
    ids: impl Iterator<Item = QueueId>,
) -> Result<(Vec<QueuedMessage>, Vec<QueueId>), QueueError> {
    let (mut there, mut beside) = (Vec::new(), Vec::new());
    for id in ids {
        match row(conn, id)? {
            Some(Ok(message)) => there.push(message),
            Some(Err(_)) => beside.push(id),
            None => {}
        }
    }
    Ok((there, beside))
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
                Change::Retry => {
                    self.run(
                        "UPDATE message SET due = 1, next_attempt = min(next_attempt, ?2) WHERE id = ?1",
                        [id.number(), now.as_ms()],
                    )?;
                }
                Change::Hold => self.set_state(&message, HELD, false)?,
                Change::Release => self.set_state(&message, QUEUED, message.next_attempt <= now)?,
                Change::Remove => self.remove(&message)?,
                Change::Move(to) => self.hand_over(&message, to)?,
            }
            if !matches!(change, Change::Hold | Change::Remove) {
                self.arrivals.insert(account.clone());
            }
            // A row and its indexes.
            self.written_bytes += 4096;
            step.changed.push((*id, account));
        }
        Ok(step)
    }

    fn set_state(&mut self, message: &QueuedMessage, to: i64, due: bool) -> Result<(), QueueError> {
        self.run(
            "UPDATE message SET state = ?2, due = ?3 WHERE id = ?1",
            params![message.id.number(), to, due],
        )?;
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
        let turn = self.turn(&message.account, message);
        self.run(
            "UPDATE message SET state = 0, due = 1, turn = ?2, next_attempt = ?3, queued_since = ?3, attempts = 0,
             finished_at = NULL, finished = NULL, recipients = ?4 WHERE id = ?1",
            params![message.id.number(), turn, now.as_ms(), to_json(&recipients)],
        )?;
        self.moved(message, QUEUED);
        Ok(())
    }

    fn hand_over(&mut self, message: &QueuedMessage, to: &AccountId) -> Result<(), QueueError> {
        let turn = self.turn(to, message);
        self.run(
            "UPDATE message SET account = ?2, turn = ?3 WHERE id = ?1",
            params![message.id.number(), to.as_str(), turn],
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
            (ACCOUNTS_AND_STATES, "COVERING INDEX message_state ((account,state)>(?,?))"),
            (FINISHED, "COVERING INDEX finished (state=? AND "),
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
