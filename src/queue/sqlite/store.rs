//! The connection that writes, and the log behind it.
//!
//! Invariant: what this connection commits lies on a log that is on the disk without a hole. Every commit is synced.
//! After a failed sync the kernel may hold pages for clean that never reached the disk, and a start reads them back
//! as if they had; so a log that was left by another run, or that a sync failed on, is written anew and synced
//! before anything is built upon it. Must not know: what is written.

use super::schema::DATABASE;
use super::schema::{Use, connect};
use crate::files;
use crate::queue::error::QueueError;
use rusqlite::Connection;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How long emptying the log waits for readers: writers wait along.
const PATIENCE: Duration = Duration::from_millis(50);
const CHUNK_BYTES: usize = 1 << 20;

/// Frames in the log, each a page: set by every commit, by whoever emptied it.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames(Arc<AtomicI64>);

impl Frames {
    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, frames: i64) {
        self.0.store(frames, Ordering::Relaxed);
    }
}

/// The file of the log.
pub(super) fn log_file(directory: &Path) -> PathBuf {
    directory.join(format!("{DATABASE}-wal"))
}

/// Connects for writing and counts what goes to the log from here on.
pub(super) fn open(directory: &Path, frames: &Frames) -> Result<Connection, QueueError> {
    let mut conn = connect(&directory.join(DATABASE), Use::Write)?;
    let counted = frames.clone();
    conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        counted.set(i64::from(pages));
        Ok(())
    }))?;
    // SQLite ignores an error here when it makes the log.
    files::sync_directory(directory)?;
    Ok(conn)
}

/// A new connection on a log that is certain to be on the disk. The old one stays open until then, so that what it
/// did not commit is never taken for committed.
pub(super) fn renew(
    directory: &Path,
    frames: &Frames,
    old: Option<Connection>,
) -> Result<Connection, QueueError> {
    write_anew(&log_file(directory))?;
    let conn = open(directory, frames)?;
    drop(old);
    empty_log(&conn, frames)?;
    Ok(conn)
}

/// Copies the log into the database and cuts it to nothing; `false` when a reader keeps it, which is no error.
pub(super) fn empty_log(conn: &Connection, frames: &Frames) -> Result<bool, QueueError> {
    conn.busy_timeout(PATIENCE)?;
    let emptied = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    conn.busy_timeout(super::schema::WRITE_PATIENCE)?;
    match emptied {
        Ok(0) => {
            frames.set(0);
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Writes every byte of the log once more in its place, and syncs it.
pub(super) fn write_anew(log: &Path) -> io::Result<()> {
    let file = match files::open_to_write(log) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut chunk, at)?;
        if n == 0 {
            return file.sync_all();
        }
        file.write_all_at(&chunk[..n], at)?;
        at += n as u64;
    }
}
