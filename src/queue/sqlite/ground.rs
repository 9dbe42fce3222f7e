//! Whether a directory has a database that may be gone on with, and what a start reads of it.
//!
//! Invariant: nothing is begun on a log that may not be on the disk, on damage that is seen, beside what a lost queue
//! left, or on another program's file. Must not know: what the queue does once it is open.

use super::disk::Disk;
use super::handover;
use super::rebuild::{self, Damage, Look};
use super::schema::DATABASE;
use super::schema::{self, Use};
use super::store::{self, Frames};
use super::turns::Turns;
use crate::fact::queue::Fact;
use crate::mail::{RelayTime, WallTime};
use crate::queue;
use crate::queue::clock::Clock;
use crate::queue::error::QueueError;
use rusqlite::{Connection, OptionalExtension};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long enough that everything deferred by the usual delays is due after a night switched off, short enough that
/// a wild wall clock cannot eat `expire_after`.
const MAX_CREDIT: Duration = Duration::from_secs(3600);

/// Why a queue does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// Another process has it.
    #[error("the queue in {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Written by a later mailferry.
    #[error("the queue has schema version {found}, this mailferry knows up to {known}")]
    Newer {
        /// What the file says.
        found: i64,
        /// What this program can read.
        known: i64,
    },
    /// The directory cannot be made, read or written.
    #[error("cannot use the queue directory {}: {error}", .directory.display())]
    Directory {
        /// The one in the settings.
        directory: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// There was a queue, and its database is gone or somebody else's: nothing is made in its place.
    #[error("{} {what}, in a directory that was used before", .file.display())]
    NotOurs {
        /// The database.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// SQLite does not take the file.
    #[error("cannot open the queue database {}: {error}", .file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// SQLite's words.
        error: String,
    },
}

impl OpenError {
    pub(super) fn hint(&self) -> String {
        let hint = match self {
            Self::Locked(_) => "stop the running mailferry first, or ask it through its control socket",
            Self::Newer { .. } => "install the mailferry that wrote it, or a later one",
            Self::Directory { .. } => "it and all in it must belong to the user mailferry runs as, mode 0700",
            Self::NotOurs { file, .. } => {
                let directory = file.parent().unwrap_or(Path::new(".")).display();
                return format!(
                    "put the right queue.db back; or, to begin anew, move {directory} away: mail in it is not in the new queue"
                );
            }
            Self::Database { .. } => {
                "mailferry queue rescue --to DIR writes what can be read of it, whatever is wrong with it"
            }
        };
        hint.to_owned()
    }
}

impl From<OpenError> for queue::OpenError {
    fn from(e: OpenError) -> Self {
        let (said, hint) = (e.to_string(), e.hint());
        match e {
            OpenError::Locked(_) => Self::InUse { said, hint },
            OpenError::Newer { .. }
            | OpenError::Directory { .. }
            | OpenError::NotOurs { .. }
            | OpenError::Database { .. } => Self::Unusable { said, hint },
        }
    }
}

/// A database that is empty beside what a queue leaves, or that another program wrote, is not begun anew: whatever was
/// acknowledged is elsewhere, and somebody must hear of it.
pub(super) fn refuse_gone(directory: &Path, file: &Path) -> Result<(), OpenError> {
    let len = |file: &Path| std::fs::metadata(file).map_or(0, |m| m.len());
    if len(file) == 0 && (was_used(directory) || len(&store::log_file(directory)) > 0) {
        return Err(OpenError::NotOurs { file: file.to_owned(), what: "is missing or empty" });
    }
    Ok(())
}

fn refuse_foreign(directory: &Path, file: &Path) -> Result<(), OpenError> {
    let is_another = || -> rusqlite::Result<bool> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(file, flags)?;
        let has = |what: &str| {
            conn.query_row(&format!("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE {what})"), [], |r| {
                r.get(0)
            })
        };
        let ours = has("name = 'message'")? && has("name = 'body'")?;
        Ok(!ours && (has("type = 'table'")? || was_used(directory)))
    };
    // One that cannot be read is damaged, which is another matter.
    if is_another().unwrap_or(false) {
        return Err(OpenError::NotOurs { file: file.to_owned(), what: "is another program's" });
    }
    Ok(())
}

/// Whether a queue has been opened here, whole.
fn was_used(directory: &Path) -> bool {
    let has_contents = || std::fs::read_dir(directory.join("bodies")).is_ok_and(|mut d| d.next().is_some());
    directory.join(handover::NAME).exists() || has_contents()
}

/// Opens the database on a log that is certainly on the disk, in our version; a damaged one is replaced by what can be
/// read of it.
pub(super) fn start_on_sound_ground(
    directory: &Path,
    disk: &Disk,
    frames: &Frames,
) -> Result<Connection, OpenError> {
    let file = directory.join(DATABASE);
    let damaged = |e: QueueError| OpenError::Database { file: file.clone(), error: e.to_string() };
    let open = || -> Result<Connection, QueueError> {
        let conn = store::open(directory, frames)?;
        if schema::version(&conn)? <= schema::VERSION {
            if let Some(from) = schema::migrate(&conn)? {
                disk.tell(Fact::Upgraded { from, to: schema::MIGRATIONS.len() });
            }
            // What the start needs; the rest is found out when it is asked for.
            Ground::read(&conn, &file)?;
        }
        store::empty_log(&conn, frames)?;
        Ok(conn)
    };
    let ours = |conn: Connection| match schema::version(&conn) {
        Ok(found) if found > schema::VERSION => Err(OpenError::Newer { found, known: schema::VERSION }),
        Ok(_) => Ok(conn),
        Err(e) => Err(damaged(e.into())),
    };
    let seen = rebuild::readable(directory, Look::Log).map_err(damaged)?;
    let damage = if seen.log_is_sound() {
        refuse_foreign(directory, &file)?;
        store::write_anew(&store::log_file(directory)).map_err(|e| damaged(e.into()))?;
        match open() {
            Err(error @ (QueueError::Damaged(_) | QueueError::Unreadable(_))) => Damage::of(&error),
            // What SQLite wrote upon damage can fail in any way.
            Err(QueueError::Broken(_)) if !seen.is_sound() => Some(Damage::Wrong),
            other => return ours(other.map_err(damaged)?),
        }
    } else {
        // SQLite would drop what stands behind the damage.
        Some(Damage::Wrong)
    };
    drop(seen);
    rebuild::replace(directory, disk, damage.unwrap_or(Damage::Wrong)).map_err(damaged)?;
    ours(open().map_err(damaged)?)
}

/// What a start reads.
pub(super) struct Ground {
    pub(super) clock: Clock,
    /// No message ever had a greater one.
    pub(super) last_id: i64,
    pub(super) turns: Turns,
    pub(super) reader: Connection,
}

impl Ground {
    pub(super) fn read(conn: &Connection, file: &Path) -> Result<Self, QueueError> {
        let saved = conn
            .query_row("SELECT relay_ms, wall_ms, last_id FROM clock", [], |row| {
                let last = (RelayTime::from_ms(row.get(0)?), WallTime::from_ms(row.get(1)?));
                Ok((last, row.get::<_, i64>(2)?))
            })
            .optional()?;
        let newest: i64 = conn.query_row("SELECT coalesce(max(id), 0) FROM message", [], |row| row.get(0))?;
        let base = resumed(saved.map(|(last, _)| last), WallTime::now());
        let clock = Clock::new(base, Instant::now());
        let last_id = newest.max(saved.map_or(0, |(_, id)| id));
        Ok(Self { clock, last_id, turns: Turns::load(conn)?, reader: schema::connect(file, Use::Read)? })
    }
}

/// A restart continues where the last run left off, plus the time switched off as far as the wall clock can be
/// believed: never negative, and at most `MAX_CREDIT`. So a dead CMOS battery or a wrong NTP server cannot expire a
/// message early; a relay that was off for a weekend keeps its mail a weekend longer.
fn resumed(last: Option<(RelayTime, WallTime)>, wall: WallTime) -> RelayTime {
    last.map_or(RelayTime::default(), |(relay, at)| {
        let off = u64::try_from(wall.as_ms().saturating_sub(at.as_ms())).unwrap_or(0);
        relay + Duration::from_millis(off).min(MAX_CREDIT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_continues_whatever_the_wall_clock_did_meanwhile() {
        let resumed = |wall_then, wall_now| {
            let last = Some((RelayTime::from_ms(1000), WallTime::from_ms(wall_then)));
            resumed(last, WallTime::from_ms(wall_now)).as_ms()
        };
        assert_eq!(resumed(50_000, 53_000), 4_000, "three seconds off");
        assert_eq!(resumed(50_000, 0), 1_000, "the wall clock fell back to 1970");
        assert_eq!(resumed(0, 1_795_435_200_000), 3_601_000, "it jumped ahead by decades");
    }
}
