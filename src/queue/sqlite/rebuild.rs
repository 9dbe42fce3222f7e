//! A new database of what can be read of a damaged one.
//!
//! Invariant: the damaged files are kept, whole, in `damaged/`; a crash at any moment leaves either them or the new
//! database in place, never none and never a mixture. Every message that is lost is named. No connection is open
//! meanwhile: the last one to close a file removes the log of whatever has its name then.
//! Must not know: what damaged it.

use super::disk::Disk;
use super::row::{DEAD, HELD, QUEUED, digest};
use super::salvage::{Row, Salvage, Soundness};
use super::schema;
use super::schema::DATABASE;
use super::shared::Shared;
use super::store::log_file;
use crate::fact::Witness;
use crate::fact::queue::Fact;
use crate::files;
use crate::mail::{QueueId, WallTime};
use crate::queue::error::QueueError;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Complete and synced under this name, it is the database, whatever else is there.
const REBUILT: &str = "queue.db.rebuilt";
const UNFINISHED: &str = "queue.db.new";
/// A disk that damages more than this in an hour is not mended by copying.
const TRIES: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);
const MARGIN_BYTES: u64 = 16 << 20;

/// A disk in trouble is waited for so long; what cannot be read then is a bad sector, if it is not more than a few.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
const BAD_SECTORS: usize = 16;

/// What was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// What stands there is not what was written.
    Wrong,
    /// It cannot be read.
    Unreadable,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Log,
    Whole,
}

impl Damage {
    pub(super) fn of(error: &QueueError) -> Option<Self> {
        match error {
            QueueError::Damaged(_) => Some(Self::Wrong),
            QueueError::Unreadable(_) => Some(Self::Unreadable),
            QueueError::Full(_) | QueueError::Broken(_) | QueueError::Disowned | QueueError::Closed => None,
        }
    }
}

/// When it was last done.
#[derive(Debug, Default)]
pub(super) struct Mended(Vec<Instant>);

impl Mended {
    /// Not when there is no room for a second database, or when it was done too often.
    pub(super) fn may_try(&mut self, shared: &Shared) -> bool {
        self.0.retain(|at| at.elapsed() < HOUR);
        let size = std::fs::metadata(shared.directory.join(DATABASE)).map_or(0, |m| m.len());
        shared.disk.space.forget();
        let has_room = shared.disk.space.raw_free() > size + MARGIN_BYTES;
        if self.0.len() >= TRIES || !has_room {
            return false;
        }
        self.0.push(Instant::now());
        true
    }
}

/// Replaces the database under a running queue. The writer's own connection is closed already.
pub(super) fn rebuild(shared: &Shared, damage: Damage) -> Result<(), QueueError> {
    let _lists = shared.lists.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut reader = super::shared::lock_of(&shared.reader);
    let mut checkpointer = super::shared::lock_of(&shared.checkpointer);
    *reader = None;
    *checkpointer = None;
    replace(&shared.directory, &shared.disk, damage)
}

/// Replaces the database that nobody has open, unless it only could not be read for a moment.
pub(super) fn replace(directory: &Path, disk: &Disk, damage: Damage) -> Result<(), QueueError> {
    let salvage = readable(directory, Look::Whole)?;
    if damage == Damage::Unreadable && salvage.rows(|_| {}) == Soundness::default() && salvage.log_is_sound()
    {
        return Ok(());
    }
    let kept = keep_damaged(directory)?;
    let replaced = replace_with(&salvage, directory, disk, &kept);
    if replaced.is_err() {
        // The damaged one is still in its place, and a disk that is tried again and again must not fill with copies.
        let _ = std::fs::remove_dir_all(&kept);
    }
    replaced
}

/// Waits for the disk. A database is never replaced by what a disk in trouble happens to give; a start looks only at
/// what it reads itself, the log, and not at every page.
pub(super) fn readable(directory: &Path, look: Look) -> Result<Salvage, QueueError> {
    let began = Instant::now();
    loop {
        let found = Salvage::open(directory).map(|salvage| {
            let pages = if look == Look::Whole { salvage.rows(|_| {}).unreadable } else { 0 };
            (salvage.unreadable_frames() + pages, salvage)
        });
        let is_over = began.elapsed() >= PATIENCE;
        match found {
            Ok((0, salvage)) => return Ok(salvage),
            Ok((n, salvage)) if is_over && n <= BAD_SECTORS => return Ok(salvage),
            Ok((n, _)) if is_over => return Err(QueueError::Unreadable(format!("{n} pages cannot be read"))),
            Err(e) if is_over => return Err(QueueError::Unreadable(e.to_string())),
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn replace_with(salvage: &Salvage, directory: &Path, disk: &Disk, kept: &Path) -> Result<(), QueueError> {
    disk.tell(Fact::DamageFound { kept: kept.to_owned() });
    let unfinished = directory.join(UNFINISHED);
    remove_database(&unfinished)?;
    let found = copy(salvage, &unfinished, disk, kept)?;
    if found.is_nothing {
        // Another file in its place, or one of which nothing is left: a person decides.
        remove_database(&unfinished)?;
        return Err(QueueError::Damaged("nothing of a queue can be read in it".into()));
    }
    files::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, directory.join(REBUILT))?;
    files::sync_directory(directory)?;
    finish(directory)?;
    for id in &found.lost {
        disk.tell(Fact::MessageLost { id: *id, kept: kept.to_owned() });
    }
    let lost: String = found.lost.iter().map(|id| format!("{id}\n")).collect();
    files::replace(&kept.join("lost"), lost.as_bytes())?;
    disk.tell(Fact::Rebuilt {
        messages: found.messages,
        lost: found.lost.len(),
        unreadable_pages: found.pages,
        kept: kept.to_owned(),
    });
    Ok(())
}

/// Puts a complete new database in its place; also what a start does for a run that was ended in the middle.
pub(super) fn finish(directory: &Path) -> io::Result<()> {
    let rebuilt = directory.join(REBUILT);
    if !rebuilt.exists() {
        return Ok(());
    }
    // The log before the database: with the new database it would be applied to it.
    for gone in [log_file(directory), directory.join(format!("{DATABASE}-shm"))] {
        match std::fs::remove_file(gone) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    files::sync_directory(directory)?;
    std::fs::rename(rebuilt, directory.join(DATABASE))?;
    files::sync_directory(directory)
}

fn remove_database(file: &Path) -> io::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// What was rescued.
#[derive(Debug)]
pub struct Rescued {
    /// The directory of a sound queue with all that could be read.
    pub queue: PathBuf,
    /// Named somewhere, and not to be read.
    pub lost: Vec<QueueId>,
}

/// Makes a sound queue below `to` of whatever can be read of the one in `from`, which is only read: it may be damaged
/// in any way, and may even be in use. A content without its message, or a part of one, is left in `to` as `ID.eml` or
/// `ID.part.eml`.
///
/// # Errors
/// `to` cannot be written; there is no database in `from`.
pub fn rescue(from: &Path, to: &Path) -> Result<Rescued, QueueError> {
    let salvage = Salvage::open(from)?;
    files::make_directory(to)?;
    let queue = to.join("queue");
    files::open_or_make_directory(&queue)?;
    let disk = Disk::open(&queue, 0, Witness::nobody())?;
    for entry in std::fs::read_dir(from.join("bodies")).into_iter().flatten().flatten() {
        // One that cannot be read is told by its message, which has no content then.
        if let Ok(mut body) = files::open(&entry.path()) {
            let mut copy = files::create_for_owner(&queue.join("bodies").join(entry.file_name()))?;
            let _ = io::copy(&mut body, &mut copy);
        }
    }
    let found = copy(&salvage, &queue.join(DATABASE), &disk, to)?;
    Ok(Rescued { queue, lost: found.lost.into_iter().collect() })
}

/// Links the damaged files aside, so that they stay when their names are taken.
fn keep_damaged(directory: &Path) -> io::Result<PathBuf> {
    let kept = directory.join("damaged").join(WallTime::now().as_ms().to_string());
    files::open_or_make_directory(&directory.join("damaged"))?;
    files::open_or_make_directory(&kept)?;
    std::fs::hard_link(directory.join(DATABASE), kept.join(DATABASE))?;
    match std::fs::copy(log_file(directory), log_file(&kept)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        // What cannot be read of it cannot be kept either; the salvage reads around that by itself.
        Err(_) => {}
        Ok(_) => {}
    }
    files::sync_directory(&kept)?;
    files::sync_directory(&directory.join("damaged"))?;
    files::sync_directory(directory)?;
    Ok(kept)
}

/// What came of it.
#[derive(Default)]
struct Found {
    messages: u64,
    pages: usize,
    /// Not even the clock, which every queue has.
    is_nothing: bool,
    lost: BTreeSet<QueueId>,
}

fn copy(salvage: &Salvage, to: &Path, disk: &Disk, kept: &Path) -> Result<Found, QueueError> {
    files::create_for_owner(to)?;
    let conn = Connection::open(to)?;
    conn.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;",
    )?;
    schema::migrate(&conn)?;
    conn.execute_batch("BEGIN IMMEDIATE; CREATE TEMP TABLE named (id INTEGER PRIMARY KEY);")?;
    let mut found = Found::default();
    let mut failed = None;
    let soundness = salvage.rows_and_guesses(|row, is_guess| {
        if failed.is_none()
            && let Err(e) = insert(&conn, row, is_guess, kept)
        {
            failed = Some(e);
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    found.pages = soundness.unreadable + soundness.damaged;
    for id in disk.ids()? {
        conn.prepare_cached("INSERT OR IGNORE INTO named VALUES (?1)")?.execute([id.number()])?;
    }
    found.is_nothing = conn.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM clock) AND NOT EXISTS (SELECT 1 FROM message)",
        [],
        |row| row.get(0),
    )?;
    clock(&conn)?;
    let mut lost = conn.prepare("SELECT id FROM named WHERE id NOT IN (SELECT id FROM message)")?;
    let ids = lost.query_map([], |row| row.get(0).map(QueueId::from_number))?;
    found.lost = ids.collect::<Result<_, _>>()?;
    drop(lost);
    keep_contents(&conn, &found.lost, disk, kept)?;
    if !salvage.log_is_sound() {
        give_up_undone(&conn, disk)?;
    }
    count(&conn)?;
    found.messages = conn.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, u32>(0))?.into();
    conn.execute_batch("DROP TABLE named; COMMIT; PRAGMA journal_mode = WAL;")?;
    conn.close().map_err(|(_, e)| e)?;
    Ok(found)
}

/// A row goes in as it is; one that the tables do not take is damaged, and is passed over.
fn insert(conn: &Connection, row: Row, is_guess: bool, kept: &Path) -> Result<(), QueueError> {
    let (table, columns, id, mut values) = match row {
        Row::Message(id, mut values) => {
            if is_guess {
                hold(id, &mut values);
            }
            ("message", MESSAGE_COLUMNS, Some(id), values)
        }
        Row::Body(id, values) => ("body", 4, Some(id), values),
        // Its message is told that the content is gone; a person may still find a page of the scan in it.
        Row::PartOfBody(id, values) => {
            let parts =
                values.iter().filter_map(|v| if let Value::Blob(b) = v { Some(b.as_slice()) } else { None });
            write_aside(&kept.join(format!("{id}.part.eml")), parts)?;
            return named(conn, id);
        }
        Row::Named(id) => return named(conn, id),
        Row::Attempt(values) => ("attempt", 3, None, values),
        Row::Note(values) => ("note", 2, None, values),
        Row::Delivered(values) => ("delivered", 4, None, values),
        Row::Served(values) => ("served", 2, None, values),
        Row::Turn(values) => ("turn", 4, None, values),
        Row::Clock(values) => ("clock", 4, None, values),
    };
    if let Some(id) = id {
        values[0] = Value::Integer(id.number());
        named(conn, id)?;
    } else if table == "clock" {
        values[0] = Value::Integer(1);
    }
    values.resize(columns, Value::Null);
    let places = vec!["?"; columns].join(", ");
    let sql = format!("INSERT OR IGNORE INTO {table} VALUES ({places})");
    match conn.prepare_cached(&sql)?.execute(params_from_iter(values)) {
        Err(e) if e.sqlite_error_code() != Some(rusqlite::ErrorCode::ConstraintViolation) => Err(e.into()),
        _ => Ok(()),
    }
}

const MESSAGE_COLUMNS: usize = 20;

/// A message on a page of which nothing says that it is still in use: it may have been delivered long ago. A person
/// lets it go, or not.
fn hold(id: QueueId, values: &mut Vec<Value>) {
    let text = |value: Option<&Value>| match value {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let (account, path, recipients) = (text(values.get(1)), text(values.get(14)), text(values.get(15)));
    if values.get(2) != Some(&Value::Integer(QUEUED)) {
        return;
    }
    values[2] = Value::Integer(HELD);
    values[3] = Value::Integer(0);
    values[16] =
        Value::Text("found after damage: it may have been delivered; queue release lets it go".into());
    values.resize(MESSAGE_COLUMNS, Value::Null);
    values[MESSAGE_COLUMNS - 1] = Value::Integer(digest(id, &account, HELD, &path, &recipients).into());
}

fn named(conn: &Connection, id: QueueId) -> Result<(), QueueError> {
    conn.prepare_cached("INSERT OR IGNORE INTO named VALUES (?1)")?.execute([id.number()])?;
    Ok(())
}

/// A lost frame of the log can undo the half of a settlement: the row waits, and its content went with the delivery.
/// Sending nothing would tell its sender that it failed; so it is a dead letter that says what is known.
fn give_up_undone(conn: &Connection, disk: &Disk) -> Result<(), QueueError> {
    let said = "its content is gone with a damaged part of the queue's log: it was probably delivered";
    let mut bare = conn.prepare(
        "SELECT id, account, reverse_path, recipients FROM message
         WHERE state < 2 AND id NOT IN (SELECT id FROM body)",
    )?;
    let mut rows = bare.query([])?;
    while let Some(row) = rows.next()? {
        let id = QueueId::from_number(row.get(0)?);
        if disk.path(id).exists() {
            continue;
        }
        let (account, path, recipients): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        conn.prepare_cached(
            "UPDATE message SET state = 2, due = 0, last_said = ?2, digest = ?3, finished_at = ?4,
             finished = (SELECT relay_ms FROM clock) WHERE id = ?1",
        )?
        .execute(rusqlite::params![
            id.number(),
            said,
            digest(id, &account, DEAD, &path, &recipients),
            WallTime::now().as_ms()
        ])?;
        disk.tell(Fact::ContentMissing { id, error: said.to_string() });
    }
    Ok(())
}

/// The clock, which must not fall back behind the rows. Rows of an earlier version count as finished now, as at an
/// upgrade.
fn clock(conn: &Connection) -> Result<(), QueueError> {
    let has_clock: bool = conn.query_row("SELECT EXISTS (SELECT 1 FROM clock)", [], |row| row.get(0))?;
    if !has_clock {
        conn.execute(
            "INSERT INTO clock SELECT 1, coalesce(max(queued_since), 0), ?1, coalesce(max(id), 0) FROM message",
            [WallTime::now().as_ms()],
        )?;
    }
    conn.execute_batch(
        "UPDATE message SET finished = (SELECT relay_ms FROM clock) WHERE state >= 2 AND finished IS NULL",
    )?;
    Ok(())
}

/// What is derived from the rows.
fn count(conn: &Connection) -> Result<(), QueueError> {
    conn.execute_batch(
        "INSERT INTO total SELECT account, state, count(*), sum(size_bytes) FROM message GROUP BY account, state;
         DELETE FROM attempt WHERE id NOT IN (SELECT id FROM message);",
    )?;
    Ok(())
}

fn write_aside<'a>(path: &Path, parts: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    let mut file = files::create_for_owner(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Contents whose message is lost: nobody knows for whom they are but their own heads.
fn keep_contents(
    conn: &Connection,
    lost: &BTreeSet<QueueId>,
    disk: &Disk,
    kept: &Path,
) -> Result<(), QueueError> {
    for id in lost {
        let mut statement = conn.prepare_cached("SELECT head, content FROM body WHERE id = ?1")?;
        let mut rows = statement.query([id.number()])?;
        let Some(row) = rows.next()? else { continue };
        // A content in a file of its own is copied: `bodies/` is tidied by moving it aside.
        let (head, content) = (row.get_ref(0)?.as_blob().unwrap_or_default(), row.get_ref(1)?.as_blob());
        let path = kept.join(format!("{id}.eml"));
        if let Ok(content) = content {
            write_aside(&path, [head, content].into_iter())?;
        } else if let Ok(mut content) = files::open(&disk.path(*id)) {
            let mut file = files::create_for_owner(&path)?;
            file.write_all(head)?;
            io::copy(&mut content, &mut file)?;
            file.sync_all()?;
        } else {
            write_aside(&kept.join(format!("{id}.part.eml")), [head].into_iter())?;
        }
    }
    conn.execute("DELETE FROM body WHERE id NOT IN (SELECT id FROM message WHERE state <> 3)", [])?;
    Ok(())
}
