//! A disk that changes what was written, page by page: what is damaged is set aside and named, everything else is
//! delivered, and nothing twice.

use super::ground::OpenError;
use super::open::SqliteQueue;
use super::rebuild::{Rescued, rescue};
use super::schema::DATABASE;
use super::tests::*;
use crate::fact::Witness;
use crate::mail::{QueueId, RelayTime, State};
use crate::queue::ledger::{Change, Filter};
use crate::queue::role::{Health, Notes, Outbox};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

const PAGE: usize = 4096;
/// With this in the environment every page and frame is tried, which takes a minute.
const EVERY_PAGE: &str = "MAILFERRY_TEST_EVERY_PAGE";
const SOME_OF_A_KIND: usize = 5;

/// Small ones, ones that overflow their page, ones in files, and some history.
async fn filled(directory: &Path) -> Vec<QueueId> {
    let queue = open(directory);
    let mut ids = Vec::new();
    for n in 0..36 {
        ids.push(commit(&queue, [300, 9_000, 30_000][n % 3]).await.unwrap());
    }
    for len in [LARGE, 2 * LARGE] {
        ids.push(commit(&queue, len).await.unwrap());
    }
    // Rows that are gone must not come back from pages that were not cleared.
    for _ in 0..6 {
        let leased = lease(&queue).await.unwrap();
        ids.retain(|id| *id != leased.message.id);
        settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    }
    queue.set_note("paused/somebody", Some("paused".into())).await.unwrap();
    queue.close().await;
    ids
}

fn clone(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    copy(from, to);
}

/// What stands on a page, told by its first bytes.
fn kind(page: &[u8]) -> &'static str {
    match page[0] {
        b'S' => "header",
        0x0d => "table leaf",
        0x05 => "table interior",
        0x0a => "index leaf",
        0x02 => "index interior",
        1 | 3 | 4 => "map",
        _ => "overflow or free",
    }
}

/// Sends everything; returns how often each left. What cannot be read becomes a dead letter, as dispatch has it.
async fn send_all(queue: &SqliteQueue) -> BTreeMap<QueueId, usize> {
    let mut sent = BTreeMap::new();
    while let Some(leased) = lease(queue).await {
        let is_whole = match leased.body.open().await {
            Ok(mut reader) => loop {
                match reader.chunk().await {
                    Ok(Some(chunk)) => assert!(chunk.iter().all(|b| *b == 7), "a damaged content was read"),
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            },
            Err(_) => false,
        };
        let mut settlement = delivered(&leased);
        if is_whole {
            *sent.entry(leased.message.id).or_default() += 1;
        } else {
            settlement.to = crate::queue::Destination::Dead;
        }
        queue.settle(leased, settlement).await.map_err(|(_, e)| e).unwrap();
    }
    sent
}

/// How many of `ids` arrived; none twice, nothing else, and whatever is missing is dead or named as lost.
async fn check(directory: &Path, ids: &[QueueId], what: &str) -> usize {
    let (queue, recorder) = open_seen(directory);
    let sent = send_all(&queue).await;
    let named = unreadable(&recorder).len();
    let dead = queue.list(Filter { state: Some(State::Dead), ..Filter::default() }).await.unwrap();
    queue.close().await;
    assert!(sent.keys().all(|id| ids.contains(id)), "{what}: something delivered long ago came back");
    assert!(sent.values().all(|n| *n == 1), "{what}: {sent:?}");
    let missing = ids.iter().filter(|id| !sent.contains_key(id)).count();
    let accounted = dead.iter().filter(|m| ids.contains(&m.id)).count() + named;
    assert!(missing <= accounted, "{what}: {missing} missing, {accounted} named");
    // A start over finds a queue in order.
    open(directory).close().await;
    sent.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_damaged_page_costs_what_stands_on_it_and_nothing_else() {
    let tmp = tempfile::tempdir().unwrap();
    let (sound, damaged) = (tmp.path().join("sound"), tmp.path().join("damaged"));
    let ids = filled(&sound).await;
    let database = std::fs::read(sound.join(DATABASE)).unwrap();
    let pages = database.len() / PAGE;
    assert!(pages > 60, "{pages}");
    let mut worst: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for page in 0..pages {
        let at = page * PAGE..(page + 1) * PAGE;
        let kind = kind(&database[at.clone()]);
        let of_its_kind = tried.entry(kind).or_default();
        *of_its_kind += 1;
        if *of_its_kind > SOME_OF_A_KIND && std::env::var_os(EVERY_PAGE).is_none() {
            continue;
        }
        let mut bytes = database.clone();
        match page % 3 {
            0 => bytes[at].fill(0),
            1 => bytes[at].iter_mut().for_each(|b| *b = !*b),
            _ => bytes[at.start + 8..at.end]
                .iter_mut()
                .enumerate()
                .for_each(|(n, b)| *b = u8::try_from(n * 131 % 256).unwrap()),
        }
        clone(&sound, &damaged);
        std::fs::write(damaged.join(DATABASE), &bytes).unwrap();
        let sent = check(&damaged, &ids, &format!("page {} ({kind})", page + 1)).await;
        let cost = worst.entry(kind).or_default();
        *cost = (*cost).max(ids.len() - sent);
    }
    eprintln!("{pages} pages, at most so many messages lost by kind: {worst:?}");
    for (kind, lost) in worst {
        let bearable = match kind {
            "table leaf" => 20,
            "overflow or free" => 1,
            _ => 0,
        };
        assert!(lost <= bearable, "a damaged {kind} page cost {lost} messages");
    }
}

/// The log of a process that was killed: SQLite would stop at the first damaged frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_frame_of_the_log_does_not_take_the_later_ones_along() {
    let tmp = tempfile::tempdir().unwrap();
    let (live, killed, damaged) =
        (tmp.path().join("live"), tmp.path().join("killed"), tmp.path().join("damaged"));
    let queue = open(&live);
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(commit(&queue, 300).await.unwrap());
    }
    copy(&live, &killed);
    queue.close().await;
    let log = std::fs::read(killed.join("queue.db-wal")).unwrap();
    let frames = (log.len() - 32) / (24 + PAGE);
    assert!(frames > 20, "{frames}");
    let mut lost = Vec::new();
    let step = if std::env::var_os(EVERY_PAGE).is_some() { 1 } else { 9 };
    for frame in (0..frames).step_by(step) {
        let mut bytes = log.clone();
        let at = 32 + frame * (24 + PAGE) + 24;
        bytes[at + 100..at + PAGE].iter_mut().for_each(|b| *b = !*b);
        clone(&killed, &damaged);
        std::fs::write(damaged.join("queue.db-wal"), &bytes).unwrap();
        let queue = open(&damaged);
        let sent = send_all(&queue).await;
        queue.close().await;
        assert!(sent.values().all(|n| *n == 1));
        lost.push(ids.len() - sent.len());
    }
    eprintln!("lost by damaged frame: {lost:?}");
    // The last transaction looks like a write that was cut short.
    assert!(lost.iter().all(|n| *n <= 2), "{lost:?}");
    assert!(lost.iter().rev().skip(8).all(|n| *n == 0) || step > 1, "{lost:?}");
}

/// One bit, and SQLite takes the whole log for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_header_of_the_log_costs_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let (live, killed, damaged) =
        (tmp.path().join("live"), tmp.path().join("killed"), tmp.path().join("damaged"));
    let queue = open(&live);
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(commit(&queue, 300).await.unwrap());
    }
    copy(&live, &killed);
    queue.close().await;
    let log = std::fs::read(killed.join("queue.db-wal")).unwrap();
    for (at, len) in [(0, 1), (5, 1), (17, 1), (25, 1), (0, 32), (0, 512), (0, PAGE)] {
        let mut bytes = log.clone();
        bytes[at..at + len].iter_mut().for_each(|b| *b = if len < 100 { *b ^ 0x10 } else { 0 });
        clone(&killed, &damaged);
        std::fs::write(damaged.join("queue.db-wal"), &bytes).unwrap();
        let queue = open(&damaged);
        let sent = send_all(&queue).await;
        queue.close().await;
        assert_eq!(sent.into_keys().collect::<Vec<_>>(), ids, "{len} bytes at {at}");
    }
}

/// A row that an index names and that is not as it was written: it is neither sent again and again, nor forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_a_row_sets_that_message_aside_and_names_it() {
    let changes = [
        "state = 1",
        "state = 2",
        "state = 3",
        "state = 7",
        "account = 'other@contoso.com'",
        "recipients = replace(recipients, 'anna', 'bnna')",
        "reverse_path = '\"x@contoso.com\"'",
    ];
    for change in changes {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path());
        let (flipped, whole) = (commit(&queue, 300).await.unwrap(), commit(&queue, 300).await.unwrap());
        queue.close().await;
        let database = Connection::open(tmp.path().join(DATABASE)).unwrap();
        // As a disk does it, past SQLite: the indexes are made again only so that they can be read.
        let indexes: Vec<(String, String)> = {
            let mut all = database
                .prepare("SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'message' AND type = 'index'")
                .unwrap();
            all.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
        };
        for (name, _) in &indexes {
            database.execute_batch(&format!("DROP INDEX {name}")).unwrap();
        }
        database.execute(&format!("UPDATE message SET {change} WHERE id = ?1"), [flipped.number()]).unwrap();
        for (_, sql) in &indexes {
            database.execute_batch(sql).unwrap();
        }
        drop(database);
        let (queue, recorder) = open_seen(tmp.path());
        let sent = send_all(&queue).await;
        let seen = queue.list(Filter::default()).await.unwrap();
        queue.close().await;
        assert_eq!(sent, BTreeMap::from([(whole, 1)]), "{change}");
        assert!(unreadable(&recorder).contains(&flipped), "{change}");
        assert!(!seen.iter().any(|m| m.id == flipped), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_names_what_is_sent_already_sends_nothing_twice() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let id = commit(&queue, 300).await.unwrap();
    let leased = lease(&queue).await.unwrap();
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    queue.close().await;
    let database = Connection::open(tmp.path().join(DATABASE)).unwrap();
    // The index as it was before.
    database
        .execute_batch(
            "DROP INDEX ready; CREATE INDEX ready ON message (account, turn) WHERE state = 3;
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, 'state = 3', 'state = 0 AND due = 1') WHERE name = 'ready';",
        )
        .unwrap();
    drop(database);
    let queue = open(tmp.path());
    assert!(lease(&queue).await.is_none(), "{id}");
}

/// Beside what a queue leaves, a database that is gone or another's is not begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_not_taken_for_a_first_start() {
    let tmp = tempfile::tempdir().unwrap();
    let directory = tmp.path().join("queue");
    for (is_large, what) in [(false, "removed"), (true, "removed"), (false, "empty"), (true, "foreign")] {
        let _ = std::fs::remove_dir_all(&directory);
        let queue = open(&directory);
        commit(&queue, if is_large { LARGE } else { 300 }).await.unwrap();
        queue.close().await;
        let file = directory.join(DATABASE);
        std::fs::remove_file(&file).unwrap();
        match what {
            "empty" => std::fs::write(&file, "").unwrap(),
            "foreign" => Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap(),
            _ => {}
        }
        let refused = SqliteQueue::open(&settings(&directory), Witness::nobody()).unwrap_err();
        assert!(matches!(refused, OpenError::NotOurs { .. }), "{what}: {refused}");
        assert!(refused.hint().contains("queue.db"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_under_a_running_queue_is_mended_under_it() {
    let tmp = tempfile::tempdir().unwrap();
    let (sound, damaged) = (tmp.path().join("sound"), tmp.path().join("damaged"));
    let ids = filled(&sound).await;
    let database = std::fs::read(sound.join(DATABASE)).unwrap();
    for page in (0..database.len() / PAGE).step_by(17) {
        clone(&sound, &damaged);
        let queue = open(&damaged);
        // Nothing of it is in a cache yet.
        let file = File::options().write(true).open(damaged.join(DATABASE)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x55; PAGE], (page * PAGE) as u64).unwrap();
        drop(file);
        let mut later = Vec::new();
        for _ in 0..3 {
            later.push(commit(&queue, 300).await.unwrap());
        }
        let sent = send_all(&queue).await;
        assert!(sent.values().all(|n| *n == 1), "page {}", page + 1);
        assert!(later.iter().all(|id| sent.contains_key(id)), "page {}", page + 1);
        assert!(sent.len() + 20 >= ids.len(), "page {}: {} of {}", page + 1, sent.len(), ids.len());
        queue.close().await;
    }
}

/// The first page and the map behind it: nothing says any more what is in use, so a person decides what is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_header_and_map_every_message_is_held_and_none_is_lost() {
    let tmp = tempfile::tempdir().unwrap();
    let damaged = tmp.path().join("damaged");
    let ids = filled(&damaged).await;
    let mut database = std::fs::read(damaged.join(DATABASE)).unwrap();
    database[..2 * PAGE].fill(0);
    std::fs::write(damaged.join(DATABASE), &database).unwrap();
    let queue = open(&damaged);
    assert_eq!(send_all(&queue).await.len(), 0, "nothing that may have been delivered is sent");
    let held = queue.list(Filter { state: Some(State::Held), ..Filter::default() }).await.unwrap();
    let held: Vec<QueueId> = held.into_iter().map(|m| m.id).collect();
    assert!(ids.iter().all(|id| held.contains(id)), "{} of {}", held.len(), ids.len());
    queue.change(Filter::default(), Change::Release, RelayTime::default()).await.unwrap();
    let sent = send_all(&queue).await;
    assert!(ids.iter().all(|id| sent.get(id) == Some(&1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescue_reads_what_can_be_read_and_changes_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let (damaged, rescued) = (tmp.path().join("damaged"), tmp.path().join("rescued"));
    let ids = filled(&damaged).await;
    let mut database = std::fs::read(damaged.join(DATABASE)).unwrap();
    let page =
        (0..database.len()).step_by(PAGE).find(|at| kind(&database[*at..]) == "table interior").unwrap();
    database[page..page + PAGE].fill(0xff);
    database[..100].fill(0);
    std::fs::write(damaged.join(DATABASE), &database).unwrap();
    let Rescued { queue, lost } = rescue(&damaged, &rescued).unwrap();
    assert_eq!(lost, []);
    assert_eq!(std::fs::read(damaged.join(DATABASE)).unwrap(), database);
    let queue = open(&queue);
    assert_eq!(send_all(&queue).await.into_keys().collect::<Vec<_>>(), ids);
}
