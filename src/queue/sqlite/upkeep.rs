//! What can be done beside the writer: checkpoints, removing files, looking for what a crash left.
//!
//! Invariant: nothing here is needed for a message to be safe, and a failure here loses nothing.

use super::schema::{Use, connect};
use super::{DATABASE, Shared};
use crate::mail::QueueId;
use rusqlite::Connection;
use std::collections::HashSet;
use std::sync::mpsc::Receiver;

/// Frames of 4 KiB in the log at which writers have to wait until it can begin anew: 64 MiB.
const MAX_FRAMES: i64 = 16 * 1024;

pub(super) enum Chore {
    Checkpoint,
    Remove(Vec<QueueId>),
}

/// Works until the writer is gone.
pub(super) fn run(shared: &Shared, chores: &Receiver<Chore>, first_id: QueueId) {
    let conn = connect(&shared.directory.join(DATABASE), Use::Checkpoint);
    let conn = conn.inspect_err(|e| crate::events::queue::checkpoint_failed(e)).ok();
    if let Some(conn) = &conn {
        tidy(shared, conn, first_id);
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
        if let Some(conn) = &conn
            && is_due
        {
            checkpoint(conn);
        }
    }
}

/// Copies the log into the database beside the writer. The log begins anew by itself when it was copied whole
/// and nobody reads it, so its file stays and commits overwrite it in place; only when that does not come about
/// for long are writers made to wait.
fn checkpoint(conn: &Connection) {
    // SQLite answers "busy" when it did not get as far as it was asked to: then it is next time's.
    let run = |mode: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(1))
    };
    let done =
        run("PASSIVE").and_then(|frames| if frames < MAX_FRAMES { Ok(frames) } else { run("RESTART") });
    if let Err(e) = done {
        crate::events::queue::checkpoint_failed(&e);
    }
}

/// Removes contents without a row and raises an alarm for rows without their content. Looks only at ids given
/// before this start.
fn tidy(shared: &Shared, conn: &Connection, first_id: QueueId) {
    let Ok(files) = shared.disk.ids() else { return };
    let files: HashSet<QueueId> = files.into_iter().filter(|id| *id < first_id).collect();
    let in_file = || -> rusqlite::Result<HashSet<QueueId>> {
        let mut statement =
            conn.prepare("SELECT id FROM body INDEXED BY body_in_file WHERE content IS NULL")?;
        statement.query_map([], |row| row.get(0).map(QueueId::from_number))?.collect()
    };
    let Ok(rows) = in_file() else { return };
    let orphans: Vec<QueueId> = files.difference(&rows).copied().collect();
    if !orphans.is_empty() {
        shared.disk.remove(&orphans);
        crate::events::queue::orphans_removed(orphans.len() as u64);
    }
    let still_there = |id: &QueueId| {
        conn.prepare_cached("SELECT 1 FROM body WHERE id = ?1").and_then(|mut s| s.exists([id.number()]))
    };
    for id in rows.difference(&files).filter(|id| **id < first_id) {
        if still_there(id).unwrap_or(false) && !shared.disk.path(*id).exists() {
            crate::events::queue::content_missing(*id, &"no such file");
        }
    }
}
