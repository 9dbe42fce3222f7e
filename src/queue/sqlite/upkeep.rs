//! What can be done beside the writer: checkpoints, removing files, looking for what a crash left.
//!
//! Invariant: nothing here is needed for a message to be safe, and a failure here loses nothing.

use super::row::DELIVERED;
use super::schema::DATABASE;
use super::schema::{Use, connect};
use super::shared::{Shared, lock_of};
use crate::fact::queue::Fact;
use crate::mail::QueueId;
use crate::queue::error::QueueError;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

/// Frames of 4 KiB in the log at which writers have to wait until it can begin anew: 64 MiB.
const MAX_FRAMES: i64 = 16 * 1024;

pub(super) enum Chore {
    Checkpoint,
    Remove(Vec<QueueId>),
}

/// Works until the writer is gone.
pub(super) fn run(shared: &Shared, chores: &Receiver<Chore>, first_id: QueueId) {
    if let Err(error) = with_connection(shared, |conn| tidy(shared, conn, first_id)) {
        shared.disk.tell(Fact::TidyingFailed { error: error.to_string() });
    }
    while let Ok(first) = chores.recv() {
        let mut gone = Vec::new();
        let mut is_due = false;
        for chore in std::iter::once(first).chain(chores.try_iter()) {
            match chore {
                Chore::Remove(mut ids) => gone.append(&mut ids),
                Chore::Checkpoint => is_due = true,
            }
        }
        shared.disk.remove(&gone);
        if is_due && let Err(error) = with_connection(shared, checkpoint) {
            shared.disk.tell(Fact::CheckpointFailed { error: error.to_string() });
            // Whatever did not reach the disk, the writer finds out before it builds upon it.
            shared.is_suspect.store(true, Ordering::Release);
        }
    }
}

/// Made when it is needed, and again after an error: a start without descriptors must not mean a log without end.
fn with_connection<T>(
    shared: &Shared,
    f: impl FnOnce(&Connection) -> Result<T, QueueError>,
) -> Result<T, QueueError> {
    let mut kept = lock_of(&shared.checkpointer);
    let conn = match kept.take() {
        Some(conn) => conn,
        None => connect(&shared.directory.join(DATABASE), Use::Checkpoint)?,
    };
    let done = f(&conn)?;
    *kept = Some(conn);
    Ok(done)
}

/// Copies the log into the database beside the writer. The log begins anew by itself when it was copied whole
/// and nobody reads it, so its file stays and commits overwrite it in place; only when that does not come about
/// for long are writers made to wait.
fn checkpoint(conn: &Connection) -> Result<(), QueueError> {
    // SQLite answers "busy" when it did not get as far as it was asked to: then it is next time's.
    let run = |mode: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(1))
    };
    let done =
        run("PASSIVE").and_then(|frames| if frames < MAX_FRAMES { Ok(frames) } else { run("RESTART") });
    match done {
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// Removes what drafts left and what was delivered, moves aside what no row names, and raises an alarm for rows
/// without their content. Looks only at ids given before this start.
fn tidy(shared: &Shared, conn: &Connection, first_id: QueueId) -> Result<(), QueueError> {
    let parts = shared.disk.remove_parts(first_id)?;
    let files: HashSet<QueueId> = shared.disk.ids()?.into_iter().filter(|id| *id < first_id).collect();
    let rows: HashSet<QueueId> = {
        let mut statement =
            conn.prepare("SELECT id FROM body INDEXED BY body_in_file WHERE content IS NULL")?;
        let ids = statement.query_map([], |row| row.get(0).map(QueueId::from_number))?;
        ids.collect::<Result<_, _>>()?
    };
    let mut delivered = Vec::new();
    for id in files.difference(&rows) {
        let state: Option<i64> = conn
            .prepare_cached("SELECT state FROM message WHERE id = ?1")?
            .query_row([id.number()], |row| row.get(0))
            .optional()?;
        match state {
            Some(DELIVERED) => delivered.push(*id),
            // Its row is damaged, and the content is all there is.
            Some(_) => {
                let error = "no row names the file".to_owned();
                shared.disk.tell(Fact::ContentMissing { id: *id, error });
            }
            // A 250 may have been given for it on a disk that lost the row since.
            None => {
                shared.disk.move_aside(*id)?;
                let directory = shared.disk.unclaimed().to_owned();
                shared.disk.tell(Fact::Unclaimed { id: *id, directory });
            }
        }
    }
    shared.disk.remove(&delivered);
    let left = (parts + delivered.len()) as u64;
    if left > 0 {
        shared.disk.tell(Fact::OrphansRemoved { count: left });
    }
    for id in rows.difference(&files).filter(|id| **id < first_id) {
        let is_there = conn.prepare_cached("SELECT 1 FROM body WHERE id = ?1")?.exists([id.number()])?;
        if is_there && !shared.disk.path(*id).exists() {
            shared.disk.tell(Fact::ContentMissing { id: *id, error: "no such file".to_owned() });
        }
    }
    Ok(())
}
