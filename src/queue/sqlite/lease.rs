//! Which message is handed out next.
//!
//! Invariant: whoever finds a message not leased also sees what became of it; a message that cannot be read is set
//! aside and named, and those behind it get their turn. Must not know: who sends it, and what comes of it.

use super::content::Stored;
use super::row;
use super::shared::Shared;
use crate::fact::queue::Fact;
use crate::mail::{AccountId, QueueId, QueuedMessage, RelayTime, State};
use crate::queue::body::Body;
use crate::queue::error::QueueError;
use crate::queue::lease::{Lease, LeaseGuard, Next};
use crate::queue::owner::Fence;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

impl Shared {
    pub(super) fn pick(
        self: &Arc<Self>,
        (account, fence): (&AccountId, Fence),
        now: RelayTime,
        except: &[QueueId],
        may_promote: bool,
        is_mended: bool,
    ) -> Result<Pick, QueueError> {
        self.read(|conn| {
            let next_deferred: Option<i64> = conn
                .prepare_cached(
                    "SELECT next_attempt FROM message INDEXED BY deferred
                     WHERE state = 0 AND due = 0 AND account = ?1 ORDER BY next_attempt LIMIT 1",
                )?
                .query_row([account.as_str()], |row| row.get(0))
                .optional()?;
            if may_promote && next_deferred.is_some_and(|at| at <= now.as_ms()) {
                return Ok(Pick::Promote);
            }
            loop {
                let Some((id, turn)) = self.choose(conn, account, except)? else {
                    let later = next_deferred.map(|at| Next::NotBefore(RelayTime::from_ms(at)));
                    return Ok(Pick::Next(later.unwrap_or(Next::Empty)));
                };
                // From here on, every way out but one gives the message back.
                let (shared, of) = (Arc::clone(self), account.clone());
                let guard = LeaseGuard::new(move || {
                    shared.hand_overs.end(id);
                    shared.leased().remove(&id);
                    shared.ring(&of);
                });
                let Some(message) = self.message_of(conn, id, is_mended)? else {
                    // It stays where it is until the next start, and those behind it get their turn.
                    guard.set_aside();
                    continue;
                };
                let body = self.body_of(conn, &message, is_mended)?;
                self.turns().served(account, turn);
                return {
                    let shared = Arc::clone(self);
                    let hand_over = Box::new(move || shared.hand_overs.begin(id));
                    Ok(Pick::Next(Next::Message(Box::new(Lease { message, body, hand_over, fence, guard }))))
                };
            }
        })
    }

    /// The message that an index names; none: it cannot be read, and is named.
    fn message_of(
        &self,
        conn: &Connection,
        id: QueueId,
        is_mended: bool,
    ) -> Result<Option<QueuedMessage>, QueueError> {
        let error = match row::read(conn, id) {
            Ok(Ok(message)) if message.state == State::Queued => return Ok(Some(message)),
            Ok(Ok(_)) if !is_mended => {
                return Err(QueueError::Damaged(format!("{id} is in an index of another state")));
            }
            Err(why) if !is_mended => return Err(why),
            Ok(Ok(message)) => format!("an index has it, and it is {:?}", message.state),
            Ok(Err(why)) | Err(why) => why.to_string(),
        };
        self.disk.tell(Fact::RowUnreadable { id, error });
        Ok(None)
    }

    /// Its content, or one that says why there is none.
    fn body_of(
        &self,
        conn: &Connection,
        message: &QueuedMessage,
        is_mended: bool,
    ) -> Result<Body, QueueError> {
        let id = message.id;
        match row::body(conn, &self.disk, message) {
            Ok(Some(body)) => Ok(body),
            Ok(None) => {
                self.disk.tell(Fact::ContentMissing { id, error: "no row".to_owned() });
                Ok(Body::kept(Vec::new(), Stored { path: self.disk.path(id), len: message.size_bytes }))
            }
            Err(why) if !is_mended => Err(why),
            Err(why) => {
                self.disk.tell(Fact::ContentMissing { id, error: why.to_string() });
                Ok(Body::lost(why.to_string()))
            }
        }
    }

    /// The first in turn that is neither leased nor excepted; it is leased when this returns.
    fn choose(
        &self,
        conn: &Connection,
        account: &AccountId,
        except: &[QueueId],
    ) -> Result<Option<(QueueId, i64)>, QueueError> {
        let mut leased = self.leased();
        let mut statement = conn.prepare_cached(
            "SELECT id, turn FROM message INDEXED BY ready
             WHERE state = 0 AND due = 1 AND account = ?1 ORDER BY turn, id",
        )?;
        let mut rows = statement.query([account.as_str()])?;
        while let Some(row) = rows.next()? {
            let id = QueueId::from_number(row.get(0)?);
            if !leased.contains(&id) && !except.contains(&id) {
                leased.insert(id);
                return Ok(Some((id, row.get(1)?)));
            }
        }
        Ok(None)
    }
}

pub(super) enum Pick {
    Next(Next),
    /// Deferred messages have become due.
    Promote,
}
