//! Between rows and values.

use crate::mail::{AccountId, Attempt, ClientName, QueueId, QueuedMessage, RelayTime, State, WallTime};
use crate::queue::{Body, Intake, QueueError, disk::Disk, pending};
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
        _ => Err(QueueError::Broken(format!("a message has the unknown state {code}"))),
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(e: rusqlite::Error) -> Self {
        if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            Self::Full(e.to_string())
        } else {
            Self::Broken(e.to_string())
        }
    }
}

pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our values are JSON")
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|e| QueueError::Broken(format!("a stored value cannot be read: {e}")))
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
}

impl Entry {
    pub(super) fn new(intake: Intake, content_len: u64) -> Self {
        let size = intake.head.len() as u64 + content_len;
        Self {
            id: intake.id,
            account: intake.account,
            client: intake.envelope.client.as_str().to_owned(),
            peer: intake.envelope.peer.map(|p| p.to_string()).unwrap_or_default(),
            reverse_path: to_json(&intake.envelope.reverse_path),
            recipients: to_json(&pending(&intake.envelope.recipients)),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            received_at: intake.received_at.as_ms(),
            now: intake.now.as_ms(),
            charset: intake.charset,
            head: intake.head,
        }
    }
}

const COLUMNS: &str = "id, account, client, peer, reverse_path, recipients, size_bytes, received_at, queued_since, \
     next_attempt, attempts, state, finished_at, last_said, outcome_unknown, charset";

fn message(row: &Row<'_>) -> Result<QueuedMessage, QueueError> {
    Ok(QueuedMessage {
        id: QueueId::from_number(row.get(0)?),
        account: AccountId::new(row.get::<_, String>(1)?),
        client: ClientName::new(row.get::<_, String>(2)?),
        peer: row.get_ref(3)?.as_str().ok().and_then(|p| p.parse::<IpAddr>().ok()),
        reverse_path: from_json(row.get_ref(4)?.as_str().unwrap_or_default())?,
        recipients: from_json(row.get_ref(5)?.as_str().unwrap_or_default())?,
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
    let gone = || QueueError::Broken(format!("{id} is in an index and not in its table"));
    Ok(find(conn, id)?.unwrap_or_else(|| Err(gone())))
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

/// The content; a missing one is an alarm, and reading it an error.
pub(super) fn body(
    conn: &Connection,
    disk: &Disk,
    message: &QueuedMessage,
) -> Result<Option<Body>, QueueError> {
    let id = message.id;
    let row = conn
        .prepare_cached("SELECT head, content FROM body WHERE id = ?1")?
        .query_row([id.number()], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?)))
        .optional()?;
    let Some((head, content)) = row else { return Ok(None) };
    if let Some(content) = content {
        return Ok(Some(Body::in_memory(head, content)));
    }
    let len = message.size_bytes.saturating_sub(head.len() as u64);
    let path = disk.path(id);
    if let Err(error) = std::fs::metadata(&path) {
        crate::events::queue::content_missing(id, &error);
    }
    Ok(Some(Body::in_file(head, path, len)))
}
