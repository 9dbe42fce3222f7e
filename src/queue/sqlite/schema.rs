//! The tables, and how a connection to them is made.
//!
//! Invariant: migrations go forward only; a step, once released, is never edited, only followed by another.

use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// In the queue's directory.
pub(super) const DATABASE: &str = "queue.db";

/// Each step leads from the version of its index to the next.
///
/// `message` and `body` are apart so that settling a message rewrites a small row. `ready` and `deferred` hold
/// only what waits, so that leasing does not see history. `message_state` gives the oldest of a state.
/// Recipients are JSON: a message with one recipient is one row.
///
/// `finished` is `finished_at` on the relay's clock; rows of version 1 count as finished at the upgrade. They get it
/// as the column's default, so that a large history is not written anew, which would take room a full disk has not.
pub(super) const MIGRATIONS: [&str; 3] = [FIRST, FINISHED, DIGESTS];

const FIRST: &str = "
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        account TEXT NOT NULL,
        state INTEGER NOT NULL,
        due INTEGER NOT NULL,
        turn INTEGER NOT NULL,
        next_attempt INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        queued_since INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        finished_at INTEGER,
        size_bytes INTEGER NOT NULL,
        outcome_unknown INTEGER NOT NULL,
        client TEXT NOT NULL,
        peer TEXT NOT NULL,
        reverse_path TEXT NOT NULL,
        recipients TEXT NOT NULL,
        last_said TEXT NOT NULL,
        charset TEXT
    ) STRICT;
    CREATE INDEX ready ON message (account, turn) WHERE state = 0 AND due = 1;
    CREATE INDEX deferred ON message (account, next_attempt) WHERE state = 0 AND due = 0;
    CREATE INDEX message_state ON message (account, state);
    CREATE INDEX finished ON message (state, finished_at) WHERE finished_at IS NOT NULL;
    CREATE TABLE body (id INTEGER PRIMARY KEY, head BLOB NOT NULL, content BLOB) STRICT;
    CREATE INDEX body_in_file ON body (id) WHERE content IS NULL;
    CREATE TABLE attempt (id INTEGER, seq INTEGER, json TEXT NOT NULL, PRIMARY KEY (id, seq)) STRICT, WITHOUT ROWID;
    CREATE TABLE turn (account TEXT, client TEXT, peer TEXT, last INTEGER NOT NULL,
        PRIMARY KEY (account, client, peer)) STRICT, WITHOUT ROWID;
    CREATE TABLE served (account TEXT PRIMARY KEY, turn INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE total (account TEXT, state INTEGER, messages INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
        PRIMARY KEY (account, state)) STRICT, WITHOUT ROWID;
    CREATE TABLE delivered (account TEXT, bucket_ms INTEGER, last_ms INTEGER NOT NULL, recipients INTEGER NOT NULL,
        PRIMARY KEY (account, bucket_ms)) STRICT, WITHOUT ROWID;
    CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), relay_ms INTEGER NOT NULL,
        wall_ms INTEGER NOT NULL, last_id INTEGER NOT NULL) STRICT;
";

const FINISHED: &str = "
    ALTER TABLE message ADD COLUMN finished INTEGER DEFAULT :relay_ms;
    DROP INDEX finished;
    CREATE INDEX finished ON message (state, finished) WHERE state >= 2;
";

/// Over what must not change unseen on a disk; NULL where an earlier version wrote none.
const DIGESTS: &str = "
    ALTER TABLE message ADD COLUMN digest INTEGER;
    ALTER TABLE body ADD COLUMN digest INTEGER;
";

/// In a step: the relay's clock as it was when the queue was last open.
const RELAY_MS: &str = ":relay_ms";

/// The version this program writes.
#[expect(clippy::cast_possible_wrap, reason = "a handful")]
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// How long the writer waits for whoever else has the database.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// How a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    Read,
    Checkpoint,
}

/// Opens a connection; each has its own page cache, so they are small.
pub(super) fn connect(file: &Path, purpose: Use) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[cfg_attr(not(test), expect(unused_mut, reason = "a test counts its steps"))]
    let mut conn = Connection::open_with_flags(file, flags)?;
    conn.set_prepared_statement_cache_capacity(48);
    // Incremental vacuum must be chosen before the first table is made; it does nothing afterwards.
    conn.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON;",
    )?;
    // A damaged pointer must not make a file of terabytes: 64 GiB of rows are far more than a queue is.
    conn.pragma_update(None, "max_page_count", 16 << 20)?;
    // The checkpointer keeps the writer out while it waits for readers, so it does not wait long.
    let (patience, cache_kib, query_only) = match purpose {
        Use::Write => (WRITE_PATIENCE, 1024, false),
        Use::Read => (Duration::from_secs(30), 512, true),
        Use::Checkpoint => (Duration::from_millis(20), 64, false),
    };
    conn.busy_timeout(patience)?;
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    conn.pragma_update(None, "query_only", query_only)?;
    #[cfg(test)]
    super::tests::count_steps(&mut conn);
    Ok(conn)
}

/// The version of the file.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the file up to `VERSION`, a transaction a step.
pub(super) fn migrate(conn: &Connection) -> rusqlite::Result<Option<usize>> {
    let from = usize::try_from(version(conn)?).unwrap_or(0);
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(from) {
        let relay_ms: i64 = match step {
            0 => 0,
            _ => conn.query_row("SELECT coalesce(max(relay_ms), 0) FROM clock", [], |row| row.get(0))?,
        };
        let sql = sql.replace(RELAY_MS, &relay_ms.to_string());
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {sql} PRAGMA user_version = {}; COMMIT;", step + 1))?;
    }
    Ok(Some(from).filter(|from| (1..MIGRATIONS.len()).contains(from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Witness;
    use crate::mail::{RelayTime, State};
    use crate::queue::role::{Health, Ledger};
    use crate::queue::settings::Settings;
    use crate::queue::sqlite::open::SqliteQueue;

    /// A queue as version 0.1 left it: its clock at `relay_ms`, and a message in every state.
    fn of_version_1(directory: &Path, relay_ms: i64) {
        let conn = Connection::open(directory.join("queue.db")).unwrap();
        conn.execute_batch(&format!("BEGIN; {} PRAGMA user_version = 1; COMMIT;", MIGRATIONS[0])).unwrap();
        conn.execute("INSERT INTO clock VALUES (1, ?1, 0, 9)", [relay_ms]).unwrap();
        for (state, finished_at) in [(0, None), (1, None), (2, Some(5)), (3, Some(5))] {
            conn.execute(
                "INSERT INTO message VALUES (?1, 'scanner@contoso.com', ?1, 0, 1, 0, 0, 0, 1, ?2, 10, 0, 'printers', '',
                    '\"null\"', '[]', '', NULL)",
                rusqlite::params![state, finished_at],
            )
            .unwrap();
            conn.execute("INSERT INTO total VALUES ('scanner@contoso.com', ?1, 1, 10)", [state]).unwrap();
        }
    }

    #[tokio::test]
    async fn what_version_1_had_finished_counts_as_finished_at_the_upgrade() {
        let tmp = tempfile::tempdir().unwrap();
        of_version_1(tmp.path(), 1_000_000);
        let settings = Settings { directory: tmp.path().to_owned(), min_free_space_bytes: 0 };
        let (queue, clock) = SqliteQueue::open(&settings, Witness::nobody()).unwrap();
        assert!(clock.now() >= RelayTime::from_ms(1_000_000));
        let finished = async |state, before| {
            let found = queue.finished(state, RelayTime::from_ms(before), None).await.unwrap();
            found.iter().map(|f| (f.id.number(), f.at.as_ms())).collect::<Vec<_>>()
        };
        for (state, id) in [(State::Dead, 2), (State::Delivered, 3)] {
            assert_eq!(finished(state, 1_000_000).await, []);
            assert_eq!(finished(state, 1_000_001).await, [(id, 1_000_000)]);
        }
        assert_eq!(queue.prune(RelayTime::from_ms(1_000_000)).await.unwrap(), 0);
        assert_eq!(queue.prune(RelayTime::from_ms(1_000_001)).await.unwrap(), 1);
        queue.close().await;
        let (queue, _) = SqliteQueue::open(&settings, Witness::nobody()).unwrap();
        assert_eq!(queue.totals().await.unwrap().len(), 3, "and the next start changes nothing more");
    }
}
