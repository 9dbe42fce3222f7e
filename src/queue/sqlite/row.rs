//! Between rows and values.

use super::content::Stored;
use super::disk::Disk;
use crate::fact::queue::Fact;
use crate::mail::{AccountId, Attempt, ClientName, QueueId, QueuedMessage, RelayTime, State, WallTime};
use crate::queue::body::Body;
use crate::queue::error::QueueError;
use crate::queue::message::{NewMessage, pending};
use rusqlite::ffi::{SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
use rusqlite::{Connection, OptionalExtension, Row};
use std::net::IpAddr;

/// As stored in `message.state`; the partial indexes name them.
pub(super) const QUEUED: i64 = 0;
pub(super) const HELD: i64 = 1;
pub(super) const DEAD: i64 = 2;
pub(super) const DELIVERED: i64 = 3;

pub(super) fn state_code(state: State) -> i64 {
    match state {
        State::Queued => QUEUED,
        State::Held => HELD,
        State::Dead => DEAD,
        State::Delivered => DELIVERED,
    }
}

pub(super) fn state(code: i64) -> Result<State, QueueError> {
    match code {
        QUEUED => Ok(State::Queued),
        HELD => Ok(State::Held),
        DEAD => Ok(State::Dead),
        DELIVERED => Ok(State::Delivered),
        _ => Err(QueueError::Damaged(format!("a message has the unknown state {code}"))),
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase, SystemIoFailure};
        let is_read = |extended: i32| matches!(extended, SQLITE_IOERR_READ | SQLITE_IOERR_CORRUPTFS);
        let is_damage = |extended: i32| matches!(extended, SQLITE_IOERR_SHORT_READ | SQLITE_IOERR_DATA);
        match &e {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                DiskFull => Self::Full(e.to_string()),
                DatabaseCorrupt | NotADatabase => Self::Damaged(e.to_string()),
                SystemIoFailure if is_read(failure.extended_code) => Self::Unreadable(e.to_string()),
                SystemIoFailure if is_damage(failure.extended_code) => Self::Damaged(e.to_string()),
                _ => Self::Broken(e.to_string()),
            },
            // A value of another type or out of its range: no statement of ours writes one.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Damaged(e.to_string()),
            _ => Self::Broken(e.to_string()),
        }
    }
}

pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our values are JSON")
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|e| QueueError::Damaged(format!("a stored value cannot be read: {e}")))
}

/// An intake as its rows will have it, made by the task that commits so that the writer has less to do.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: QueueId,
    pub(super) account: AccountId,
    pub(super) client: String,
    pub(super) peer: String,
    pub(super) reverse_path: String,
    pub(super) recipients: String,
    pub(super) size: i64,
    pub(super) received_at: i64,
    pub(super) now: i64,
    pub(super) charset: Option<String>,
    pub(super) head: Vec<u8>,
    /// Over head and content, and over the envelope.
    pub(super) body_digest: u32,
    pub(super) digest: u32,
}

impl Entry {
    pub(super) fn new(intake: NewMessage, content_len: u64, body_digest: u32) -> Self {
        let size = intake.head.len() as u64 + content_len;
        let reverse_path = to_json(&intake.envelope.reverse_path);
        let recipients = to_json(&pending(&intake.envelope.recipients));
        Self {
            digest: digest(intake.id, intake.account.as_str(), QUEUED, &reverse_path, &recipients),
            body_digest,
            id: intake.id,
            account: intake.account,
            client: intake.envelope.client.as_str().to_owned(),
            peer: intake.envelope.peer.map(|p| p.to_string()).unwrap_or_default(),
            reverse_path,
            recipients,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            received_at: intake.received_at.as_ms(),
            now: intake.now.as_ms(),
            charset: intake.charset,
            head: intake.head,
        }
    }
}

/// Whom a message is from and for, who sends it and whether it is to be sent. A changed byte there would be mail in
/// the wrong hands, or forgotten, so a row that does not fit is not believed; SQLite itself looks only at how pages hang
/// together.
pub(super) fn digest(id: QueueId, account: &str, state: i64, reverse_path: &str, recipients: &str) -> u32 {
    let mut digest = crc32fast::Hasher::new();
    digest.update(&id.number().to_le_bytes());
    digest.update(&state.to_le_bytes());
    digest.update(account.as_bytes());
    digest.update(reverse_path.as_bytes());
    digest.update(recipients.as_bytes());
    digest.finalize()
}

/// The digest of a message as it will be.
pub(super) fn digest_of(message: &QueuedMessage, account: &AccountId, state: i64, recipients: &str) -> u32 {
    digest(message.id, account.as_str(), state, &to_json(&message.reverse_path), recipients)
}

const COLUMNS: &str = "id, account, client, peer, reverse_path, recipients, size_bytes, received_at, queued_since, \
     next_attempt, attempts, state, finished_at, last_said, outcome_unknown, charset, digest";

fn message(row: &Row<'_>) -> Result<QueuedMessage, QueueError> {
    let id = QueueId::from_number(row.get(0)?);
    let text = |column| row.get_ref(column).map(|v| v.as_str().unwrap_or_default());
    let (account, reverse_path, recipients) = (text(1)?, text(4)?, text(5)?);
    let now = digest(id, account, row.get(11)?, reverse_path, recipients);
    // A row of an earlier version has none.
    if row.get::<_, Option<u32>>(16)?.is_some_and(|written| written != now) {
        return Err(QueueError::Damaged(format!("the envelope of {id} is not what was written")));
    }
    Ok(QueuedMessage {
        id,
        account: AccountId::new(row.get::<_, String>(1)?),
        client: ClientName::new(row.get::<_, String>(2)?),
        peer: row.get_ref(3)?.as_str().ok().and_then(|p| p.parse::<IpAddr>().ok()),
        reverse_path: from_json(reverse_path)?,
        recipients: from_json(recipients)?,
        size_bytes: row.get::<_, i64>(6)?.unsigned_abs(),
        received_at: WallTime::from_ms(row.get(7)?),
        queued_since: RelayTime::from_ms(row.get(8)?),
        next_attempt: RelayTime::from_ms(row.get(9)?),
        attempts: row.get(10)?,
        state: state(row.get(11)?)?,
        finished_at: row.get::<_, Option<i64>>(12)?.map(WallTime::from_ms),
        last_said: row.get(13)?,
        outcome_unknown: row.get(14)?,
        charset: row.get(15)?,
    })
}

pub(super) fn load(conn: &Connection, id: QueueId) -> Result<Option<QueuedMessage>, QueueError> {
    find(conn, id)?.transpose()
}

/// The row as it is; the inner error is the row's own, and reading another may go well.
pub(super) fn read(conn: &Connection, id: QueueId) -> Result<Result<QueuedMessage, QueueError>, QueueError> {
    let gone = || QueueError::Damaged(format!("{id} is in an index and not in its table"));
    find(conn, id)?.ok_or_else(gone)
}

/// The row, if there is one; the inner error is its own.
pub(super) fn find(
    conn: &Connection,
    id: QueueId,
) -> rusqlite::Result<Option<Result<QueuedMessage, QueueError>>> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE id = ?1"))?;
    let mut rows = statement.query([id.number()])?;
    Ok(rows.next()?.map(message))
}

pub(super) fn attempts(conn: &Connection, id: QueueId) -> Result<Vec<Attempt>, QueueError> {
    let mut statement = conn.prepare_cached("SELECT json FROM attempt WHERE id = ?1 ORDER BY seq")?;
    let texts = statement.query_map([id.number()], |row| row.get::<_, String>(0))?;
    texts.map(|text| from_json(&text?)).collect()
}

/// The content; a missing or damaged one is an alarm, and reading it an error.
pub(super) fn body(
    conn: &Connection,
    disk: &Disk,
    message: &QueuedMessage,
) -> Result<Option<Body>, QueueError> {
    let id = message.id;
    let row = conn
        .prepare_cached("SELECT head, content, digest FROM body WHERE id = ?1")?
        .query_row([id.number()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?, row.get::<_, Option<u32>>(2)?))
        })
        .optional()?;
    let Some((head, content, digest)) = row else { return Ok(None) };
    if let Some(content) = content {
        let body = Body::in_memory(head, content).expecting(digest);
        if !body.is_sound() {
            disk.tell(Fact::ContentDamaged { id });
        }
        return Ok(Some(body));
    }
    let len = message.size_bytes.saturating_sub(head.len() as u64);
    let path = disk.path(id);
    if let Err(error) = std::fs::metadata(&path) {
        disk.tell(Fact::ContentMissing { id, error: error.to_string() });
    }
    Ok(Some(Body::kept(head, Stored { path, len }).expecting(digest)))
}
