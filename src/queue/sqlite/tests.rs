//! The table of `sqlite`, a test a row, and what a failing or full disk does.

use super::disk::Step;
use super::ground::OpenError;
use super::open::SqliteQueue;
use super::schema::{self, DATABASE};
use crate::fact::{Fact, Recorder, Witness, queue};
use crate::mail::{AccountId, Progress, QueueId, QueuedMessage, Recipient, RelayTime, Reply, State};
use crate::queue::error::QueueError;
use crate::queue::fixture::scan;
pub(super) use crate::queue::fixture::settings;
use crate::queue::lease::{Destination, Lease, Next, Settlement};
use crate::queue::ledger::{Change, Filter};
use crate::queue::message::{NewMessage, Notice, Stored};
use crate::queue::owner::Owned;
use crate::queue::role::{Health, Ids, Intake, Ledger, Outbox};
use crate::queue::settings::Settings;
use crate::queue::walk::{Changing, Listing};
use rusqlite::Connection;
use std::cell::RefCell;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(super) const LARGE: usize = 100_000;

/// All at once, where there are few.
impl SqliteQueue {
    pub(super) async fn list(self: &Arc<Self>, filter: Filter) -> Result<Vec<QueuedMessage>, QueueError> {
        let (mut listing, mut all) = (Listing::new(Arc::clone(self) as _, filter), vec![]);
        while let Some(page) = listing.next().await {
            all.append(&mut page?.messages);
        }
        Ok(all)
    }

    pub(super) async fn change(
        self: &Arc<Self>,
        filter: Filter,
        change: Change,
        now: RelayTime,
    ) -> Result<Vec<QueueId>, QueueError> {
        let mut changing = Changing::new(Arc::clone(self) as _, filter, change, now);
        let mut all = vec![];
        while let Some(step) = changing.next().await {
            all.extend(step?.changed.into_iter().map(|(id, _)| id));
        }
        Ok(all)
    }
}

pub(super) fn open(directory: &Path) -> Arc<SqliteQueue> {
    SqliteQueue::open(&settings(directory), Witness::nobody()).unwrap().0
}

/// The same, and what it tells.
pub(super) fn open_seen(directory: &Path) -> (Arc<SqliteQueue>, Arc<Recorder>) {
    let (recorder, witness) = Recorder::new();
    (SqliteQueue::open(&settings(directory), witness).unwrap().0, recorder)
}

/// Of which messages it was told that their row cannot be read, or was lost.
pub(super) fn unreadable(recorder: &Recorder) -> Vec<QueueId> {
    let seen = recorder.take();
    let of = |fact: &Fact| match fact {
        Fact::Queue(queue::Fact::RowUnreadable { id, .. } | queue::Fact::MessageLost { id, .. }) => Some(*id),
        _ => None,
    };
    seen.iter().filter_map(of).collect()
}

fn owned() -> Owned {
    Owned::for_good(account())
}

pub(super) fn account() -> AccountId {
    AccountId::new("scanner@contoso.com")
}

pub(super) fn intake(id: QueueId) -> NewMessage {
    NewMessage {
        head: b"
"
        .to_vec(),
        ..scan(id)
    }
}

pub(super) async fn commit(queue: &SqliteQueue, len: usize) -> Result<QueueId, QueueError> {
    let mut draft = queue.draft(0)?;
    draft.write(&vec![7; len]).await?;
    let intakes = vec![intake(draft.id())];
    Ok(queue.commit(draft, intakes).await?[0].id())
}

pub(super) async fn lease(queue: &SqliteQueue) -> Option<Box<Lease>> {
    match queue.lease(&owned(), RelayTime::default(), vec![]).await.unwrap() {
        Next::Message(lease) => Some(lease),
        _ => None,
    }
}

pub(super) fn delivered(lease: &Lease) -> Settlement {
    let progress = Progress::Delivered(Reply::new(250, "OK"));
    let of = |r: &Recipient| Recipient { progress: progress.clone(), ..r.clone() };
    Settlement {
        now: RelayTime::default(),
        recipients: lease.message.recipients.iter().map(of).collect(),
        attempts: 1,
        to: Destination::Delivered,
        attempt: None,
        outcome_unknown: false,
        notices: vec![],
    }
}

pub(super) async fn settle(queue: &SqliteQueue, lease: Box<Lease>) -> Result<(), (Box<Lease>, QueueError)> {
    let settlement = delivered(&lease);
    queue.settle(lease, settlement).await
}

/// The n-th time a step is reached, the directory is copied as a crash would leave it.
fn crash_at(queue: &SqliteQueue, step: Step, to: &Path) {
    let (from, to) = (queue.shared.directory.clone(), to.to_owned());
    let mut is_done = false;
    *queue.shared.disk.hook.lock().unwrap() = Some(Box::new(move |reached| {
        if reached == step && !is_done {
            is_done = true;
            copy(&from, &to);
        }
        Ok(())
    }));
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("bodies")).unwrap();
    // SQLite's shared memory is the process's, and the ballast is only large.
    for name in ["queue.db", "queue.db-wal", "lock"] {
        let _ = std::fs::copy(from.join(name), to.join(name));
    }
    for file in std::fs::read_dir(from.join("bodies")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join("bodies").join(file.file_name())).unwrap();
    }
}

fn fail(queue: &SqliteQueue, step: Step, kind: io::ErrorKind, mut times: usize) {
    *queue.shared.disk.hook.lock().unwrap() = Some(Box::new(move |reached| {
        if reached != step || times == 0 {
            return Ok(());
        }
        times -= 1;
        Err(kind.into())
    }));
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("bodies")).unwrap().count()
}

/// States after the crash, and the files left once the start has tidied up (which the close waits for).
async fn after_crash(directory: &Path) -> (Vec<State>, usize) {
    let queue = open(directory);
    let states = queue.list(Filter::default()).await.unwrap().iter().map(|m| m.state).collect();
    queue.close().await;
    (states, files(directory))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_during_intake_leaves_the_whole_message_or_nothing() {
    let expected = [
        (Step::BodySync, false),
        (Step::BodySynced, false),
        (Step::DirectorySynced, false),
        (Step::Commit, false),
        (Step::Committed, true),
    ];
    for (step, is_there) in expected {
        let tmp = tempfile::tempdir().unwrap();
        let (live, crashed) = (tmp.path().join("live"), tmp.path().join("crashed"));
        let queue = open(&live);
        crash_at(&queue, step, &crashed);
        commit(&queue, LARGE).await.unwrap();
        assert_eq!(files(&crashed), 1, "{step:?}: the content is written");
        let states = if is_there { vec![State::Queued] } else { vec![] };
        assert_eq!(after_crash(&crashed).await, (states, usize::from(is_there)), "{step:?}");
        if is_there {
            let queue = open(&crashed);
            let lease = lease(&queue).await.unwrap();
            assert!(lease.body.open().await.is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_during_settlement_repeats_the_attempt_or_leaves_history() {
    let expected = [
        (Step::Commit, State::Queued, 1, 1),
        (Step::Committed, State::Delivered, 1, 0),
        (Step::Removed, State::Delivered, 0, 0),
    ];
    for (step, state, files_left, files_after_start) in expected {
        let tmp = tempfile::tempdir().unwrap();
        let (live, crashed) = (tmp.path().join("live"), tmp.path().join("crashed"));
        let queue = open(&live);
        commit(&queue, LARGE).await.unwrap();
        let lease = lease(&queue).await.unwrap();
        crash_at(&queue, step, &crashed);
        settle(&queue, lease).await.map_err(|(_, e)| e).unwrap();
        queue.close().await;
        assert_eq!(files(&crashed), files_left, "{step:?}");
        assert_eq!(after_crash(&crashed).await, (vec![state], files_after_start), "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_is_left_of_what_was_dropped_delivered_or_removed() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let mut draft = queue.draft(0).unwrap();
    draft.write(&vec![1; 5 * LARGE]).await.unwrap();
    drop(draft);
    assert_eq!(files(tmp.path()), 0);
    commit(&queue, LARGE).await.unwrap();
    let leased = lease(&queue).await.unwrap();
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    let removed = commit(&queue, LARGE).await.unwrap();
    let filter = Filter { ids: vec![removed], ..Filter::default() };
    queue.change(filter, Change::Remove, RelayTime::default()).await.unwrap();
    queue.close().await;
    assert_eq!(files(tmp.path()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_was_not_synced_is_refused_and_removed() {
    for step in [Step::BodySync, Step::DirectorySync] {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path());
        fail(&queue, step, io::ErrorKind::Other, 1);
        assert!(matches!(commit(&queue, LARGE).await, Err(QueueError::Broken(_))), "{step:?}");
        assert_eq!(files(tmp.path()), 0);
        assert!(commit(&queue, LARGE).await.is_ok());
        assert_eq!(queue.list(Filter::default()).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_fails_once_is_made_again_on_a_log_without_a_hole() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    fail(&queue, Step::Commit, io::ErrorKind::Other, 1);
    let id = commit(&queue, LARGE).await.unwrap();
    let leased = lease(&queue).await.unwrap();
    fail(&queue, Step::Commit, io::ErrorKind::Other, 1);
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    let totals = queue.totals().await.unwrap();
    assert_eq!((totals.len(), totals[0].state, totals[0].messages), (1, State::Delivered, 1));
    assert_eq!(queue.show(id).await.unwrap().unwrap().0.state, State::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_a_failed_transaction_is_refused_and_nothing_of_it_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    fail(&queue, Step::Commit, io::ErrorKind::Other, 2);
    assert!(matches!(commit(&queue, LARGE).await, Err(QueueError::Broken(_))));
    assert_eq!(files(tmp.path()), 0);
    assert!(queue.totals().await.unwrap().is_empty());
    assert!(commit(&queue, LARGE).await.is_ok());
}

/// The smart host has it: whatever the database does, it is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_whose_row_cannot_be_written_is_kept_beside_and_goes_in_later() {
    let tmp = tempfile::tempdir().unwrap();
    let (live, crashed) = (tmp.path().join("live"), tmp.path().join("crashed"));
    let queue = open(&live);
    let id = commit(&queue, LARGE).await.unwrap();
    let leased = lease(&queue).await.unwrap();
    fail(&queue, Step::Commit, io::ErrorKind::Other, 2);
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    copy(&live, &crashed);
    std::fs::create_dir(crashed.join("settled")).unwrap();
    let name = format!("settled/{id}");
    std::fs::copy(live.join(&name), crashed.join(&name)).unwrap();
    // A crash before it goes in.
    assert_eq!(after_crash(&crashed).await, (vec![State::Delivered], 0));
    assert!(!crashed.join(&name).exists());
    // Any later transaction takes it along.
    assert!(lease(&queue).await.is_none());
    commit(&queue, 1).await.unwrap();
    until(|| !live.join(&name).exists()).await;
    assert_eq!(queue.show(id).await.unwrap().unwrap().0.state, State::Delivered);
    assert_ne!(lease(&queue).await.unwrap().message.id, id);
}

pub(super) async fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 20, "it never became so");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The smart host took it, and the process ended before that was recorded: the second copy is known to be one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_a_crash_interrupts_is_of_unknown_outcome_at_the_next_start() {
    let tmp = tempfile::tempdir().unwrap();
    let (live, crashed) = (tmp.path().join("live"), tmp.path().join("crashed"));
    let queue = open(&live);
    for _ in 0..4 {
        commit(&queue, 1).await.unwrap();
    }
    let leases = [lease(&queue).await.unwrap(), lease(&queue).await.unwrap(), lease(&queue).await.unwrap()];
    leases.iter().for_each(|l| l.hands_over());
    let [interrupted, settled, returned] = leases;
    settle(&queue, settled).await.map_err(|(_, e)| e).unwrap();
    drop(returned);
    copy(&live, &crashed);
    std::fs::copy(live.join("handovers"), crashed.join("handovers")).unwrap();
    for start in 1..=2 {
        let queue = open(&crashed);
        let all = queue.list(Filter::default()).await.unwrap();
        let unknown: Vec<QueueId> = all.iter().filter(|m| m.outcome_unknown).map(|m| m.id).collect();
        assert_eq!(unknown, [interrupted.message.id]);
        let (_, attempts) = queue.show(unknown[0]).await.unwrap().unwrap();
        assert_eq!(attempts.len(), 1, "noted once, also after start {start}");
        assert!(attempts[0].said.contains("ended before the answer was recorded"), "{attempts:?}");
        queue.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_of_a_message_that_is_gone_fails_nobody() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let id = commit(&queue, 1).await.unwrap();
    let leased = lease(&queue).await.unwrap();
    Connection::open(tmp.path().join(DATABASE))
        .unwrap()
        .execute("DELETE FROM message WHERE id = ?1", [id.number()])
        .unwrap();
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_three_times_is_given_up() {
    for (step, refused) in [(Step::Commit, 2), (Step::BodySync, 3)] {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path());
        fail(&queue, step, io::ErrorKind::Other, 3);
        for n in 0..refused {
            assert!(queue.shared.disk.failed().borrow().is_none(), "{n} may be an accident");
            assert!(commit(&queue, LARGE).await.is_err());
        }
        assert!(queue.failed().await.contains('3'));
        assert!(
            commit(&queue, 1).await.is_err() || step == Step::BodySync,
            "nothing is acknowledged any more"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_queue_has_no_log_and_gives_back_what_it_does_not_need() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let size = |name: &str| std::fs::metadata(tmp.path().join(name)).map_or(0, |m| m.len());
    for _ in 0..400 {
        commit(&queue, 60_000).await.unwrap();
    }
    assert!(size("queue.db-wal") < 64 << 20, "the log stays short under load");
    until(|| size("queue.db-wal") == 0).await;
    assert!(size("queue.db") > 20 << 20);
    queue.change(Filter::default(), Change::Remove, RelayTime::default()).await.unwrap();
    until(|| size("queue.db") < 6 << 20 && size("queue.db-wal") == 0).await;
}

/// A backup or a curious admin: the log cannot begin anew so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stays_open_bounds_mail_and_not_the_disk() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    commit(&queue, 1).await.unwrap();
    let reader = Connection::open(tmp.path().join(DATABASE)).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM message").unwrap();
    let size = || std::fs::metadata(tmp.path().join("queue.db-wal")).unwrap().len();
    let notices = || (0..64).map(|_| Notice { message: intake(queue.next_id()), content: vec![7; 60_000] });
    let mut stored = 0;
    let refused = loop {
        if let Err(refused) = queue.draft(0) {
            break refused;
        }
        stored += queue.post(notices().collect()).await.unwrap().len();
        assert!(size() < 300 << 20, "{stored}");
    };
    assert!(matches!(&refused, QueueError::Full(why) if why.contains("queue.db open")), "{refused}");
    let leased = lease(&queue).await.unwrap();
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    drop(reader);
    until(|| queue.draft(0).is_ok()).await;
    until(|| size() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_mail_and_still_records_deliveries() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    commit(&queue, 1).await.unwrap();
    let leased = lease(&queue).await.unwrap();
    let ballast = tmp.path().join("ballast");
    assert_eq!(std::fs::metadata(&ballast).unwrap().len(), 8 << 20);
    fail(&queue, Step::Commit, io::ErrorKind::StorageFull, 1);
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    assert!(!ballast.exists(), "the reserve was given up for it");
    fail(&queue, Step::Commit, io::ErrorKind::StorageFull, 1);
    assert!(matches!(commit(&queue, 1).await, Err(QueueError::Full(_))));
    assert!(commit(&queue, 1).await.is_ok(), "and mail is taken again by itself");
    queue.shared.disk.space.keep_ballast();
    assert!(ballast.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_free_space_mail_is_refused_and_leases_are_settled() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let id = commit(&queue, 1).await.unwrap();
    queue.close().await;
    let full = Settings { min_free_space_bytes: u64::MAX, ..settings(tmp.path()) };
    let (queue, _) = SqliteQueue::open(&full, Witness::nobody()).unwrap();
    assert!(matches!(queue.draft(0), Err(QueueError::Full(_))));
    assert!(matches!(queue.refusal(), Some(QueueError::Full(_))));
    let leased = lease(&queue).await.unwrap();
    settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    assert_eq!(queue.show(id).await.unwrap().unwrap().0.state, State::Delivered);
    queue.close().await;
    assert!(commit(&open(tmp.path()), 1).await.is_ok(), "with room again");
}

#[tokio::test]
async fn one_directory_has_one_queue() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    assert!(matches!(SqliteQueue::open(&settings(tmp.path()), Witness::nobody()), Err(OpenError::Locked(_))));
    queue.close().await;
    open(tmp.path()).close().await;
}

#[tokio::test]
async fn a_queue_of_a_later_version_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path()).close().await;
    let conn = Connection::open(tmp.path().join(DATABASE)).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    let refused = SqliteQueue::open(&settings(tmp.path()), Witness::nobody()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, known: schema::VERSION }));
    assert!(refused.hint().contains("later one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_can_read_the_queue() {
    let tmp = tempfile::tempdir().unwrap();
    let directory = tmp.path().join("queue");
    let queue = open(&directory);
    let id = commit(&queue, LARGE).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for name in ["queue.db", "queue.db-wal", "queue.db-shm", "lock", &format!("bodies/{id}")] {
        assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
    }
}

/// Tells nothing when it is not root who tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_root_makes_in_the_directory_of_another_user_is_that_users() {
    let tmp = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(tmp.path(), Some(4711), Some(4712)).unwrap();
    }
    let owner = |path: &Path| std::fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
    let queue = open(tmp.path());
    let id = commit(&queue, LARGE).await.unwrap();
    for name in
        ["queue.db", "queue.db-wal", "queue.db-shm", "lock", "ballast", "bodies", &format!("bodies/{id}")]
    {
        assert_eq!(owner(&tmp.path().join(name)), owner(tmp.path()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_file_is_gone_is_leased_and_its_body_says_so() {
    let tmp = tempfile::tempdir().unwrap();
    let (queue, recorder) = open_seen(tmp.path());
    let id = commit(&queue, LARGE).await.unwrap();
    std::fs::remove_file(queue.shared.disk.path(id)).unwrap();
    recorder.take();
    let leased = lease(&queue).await.unwrap();
    assert!(leased.body.open().await.is_err());
    let error = "No such file or directory (os error 2)".to_owned();
    assert_eq!(recorder.take(), [queue::Fact::ContentMissing { id, error }.into()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_stay_unique_when_the_newest_row_is_removed_and_the_clock_falls_back() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    queue.shared.ids.0.store(i64::MAX / 2 + (1 << 61), Ordering::Relaxed);
    let id = commit(&queue, 1).await.unwrap();
    queue.change(Filter::default(), Change::Remove, RelayTime::default()).await.unwrap();
    queue.close().await;
    assert!(open(tmp.path()).next_id() > id);
}

/// Leases and totals go by these indexes; a scan would show in the plan.
#[tokio::test]
async fn what_runs_often_does_not_scan() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path()).close().await;
    let conn = Connection::open(tmp.path().join(DATABASE)).unwrap();
    let plans = [
        (
            "SELECT id, turn FROM message INDEXED BY ready WHERE state = 0 AND due = 1 AND account = 'a' ORDER BY turn, id",
            "COVERING INDEX ready",
        ),
        (
            "SELECT next_attempt FROM message INDEXED BY deferred WHERE state = 0 AND due = 0 AND account = 'a' ORDER BY next_attempt LIMIT 1",
            "COVERING INDEX deferred",
        ),
        (
            "SELECT received_at FROM message INDEXED BY message_state WHERE account = 'a' AND state = 0 ORDER BY id LIMIT 1",
            "INDEX message_state (account=? AND state=?)",
        ),
        ("SELECT id FROM body INDEXED BY body_in_file WHERE content IS NULL", "INDEX body_in_file"),
        ("SELECT coalesce(max(id), 0) FROM message", "SEARCH message"),
    ];
    for (sql, uses) in plans {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        assert!(plan.iter().any(|line| line.contains(uses)), "{sql}: {plan:?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}: {plan:?}");
    }
}

thread_local! {
    /// Where the connections that this thread opens count their steps.
    static STEPS: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Of SQLite's virtual machine: unlike time, they are the same on a busy machine.
pub(super) fn count_steps(conn: &mut Connection) {
    let steps = STEPS.with_borrow(Clone::clone);
    if let Some(steps) = steps {
        let count = move || {
            steps.fetch_add(1, Ordering::Relaxed);
            false
        };
        conn.progress_handler(1, Some(count)).unwrap();
    }
}

/// A queue whose connections count, its steps so far, and those since the last time this was asked.
fn open_counted(directory: &Path) -> (Arc<SqliteQueue>, impl Fn() -> u64) {
    let steps = Arc::new(AtomicU64::new(0));
    STEPS.set(Some(Arc::clone(&steps)));
    let queue = open(directory);
    STEPS.set(None);
    (queue, move || steps.swap(0, Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_opens_and_leases_at_once() {
    const MESSAGES: u64 = 50_000;
    /// Whoever looks at each message takes more.
    const FEW: u64 = MESSAGES / 10;
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    for _ in 0..MESSAGES / 1_000 {
        let notices = (0..1_000).map(|_| Notice { message: intake(queue.next_id()), content: vec![7; 100] });
        queue.post(notices.collect()).await.unwrap();
    }
    queue.close().await;
    let (queue, steps) = open_counted(tmp.path());
    let opened = steps();
    let mut leased = vec![];
    for _ in 0..20 {
        drop(lease(&queue).await.unwrap());
        leased.push(steps());
    }
    queue.totals().await.unwrap();
    let totals = steps();
    eprintln!("steps: open {opened}, lease {leased:?}, totals {totals}");
    assert!(opened < FEW && totals < FEW && leased.iter().all(|n| *n < FEW));
    // What is measured does see a walk.
    queue
        .shared
        .read(|conn| Ok(conn.query_row("SELECT sum(attempts) FROM message", [], |_| Ok(()))?))
        .unwrap();
    assert!(steps() > MESSAGES);
    queue.close().await;
    // All of it deferred, and due by now: a lease makes some of it ready first.
    let conn = Connection::open(tmp.path().join(DATABASE)).unwrap();
    conn.execute("UPDATE message SET due = 0, next_attempt = 5", []).unwrap();
    drop(conn);
    let (queue, steps) = open_counted(tmp.path());
    steps();
    let (mut early, mut due) = (vec![], vec![]);
    for _ in 0..20 {
        let next = queue.lease(&owned(), RelayTime::from_ms(4), vec![]).await.unwrap();
        assert!(matches!(next, Next::NotBefore(at) if at == RelayTime::from_ms(5)));
        early.push(steps());
    }
    for _ in 0..20 {
        let next = queue.lease(&owned(), RelayTime::from_ms(5), vec![]).await.unwrap();
        assert!(matches!(next, Next::Message(_)));
        due.push(steps());
    }
    eprintln!("steps: lease with all deferred {early:?}, with all become due {due:?}");
    assert!(early.iter().chain(&due).all(|n| *n < FEW));
}

const FULL_DISK: &str = "MAILFERRY_TEST_FULL_DISK";

/// On a real file system of 24 MiB, which takes a user namespace; where there is none the test says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_really_full_disk_refuses_mail_records_deliveries_and_recovers() {
    let Some(directory) = std::env::var_os(FULL_DISK) else {
        let tmp = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            let mut unshare = std::process::Command::new("unshare");
            unshare.args(["-rm", "sh", "-c", "mount -t tmpfs -o size=24m tmpfs \"$0\" && exec \"$@\""]);
            unshare.arg(tmp.path()).args(args).env(FULL_DISK, tmp.path()).output()
        };
        if !run(&["true"]).is_ok_and(|o| o.status.success()) {
            eprintln!("not tested: no user namespaces here");
            return;
        }
        let exe = std::env::current_exe().unwrap();
        let name = "queue::sqlite::tests::a_really_full_disk_refuses_mail_records_deliveries_and_recovers";
        let ran = run(&[exe.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        return;
    };
    let directory = Path::new(&directory);
    let queue = open(directory);
    queue.shared.disk.space.keep_ballast();
    assert!(directory.join("ballast").exists());
    let mut accepted = 0;
    let refused = loop {
        match commit(&queue, if accepted % 2 == 0 { 60_000 } else { LARGE }).await {
            Ok(_) => accepted += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, QueueError::Full(_)), "{refused}");
    assert!(accepted > 10);
    for _ in 0..accepted {
        let leased = lease(&queue).await.unwrap();
        settle(&queue, leased).await.map_err(|(_, e)| e).unwrap();
    }
    assert!(lease(&queue).await.is_none());
    let again = Instant::now();
    while commit(&queue, LARGE).await.is_err() {
        assert!(again.elapsed().as_secs() < 5, "mail is taken again by itself");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_alarm_and_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, recorder) = open_seen(directory.path());
    let damaged = commit(&queue, 10).await.unwrap();
    let whole = commit(&queue, 10).await.unwrap();
    Connection::open(directory.path().join(DATABASE))
        .unwrap()
        .execute("UPDATE message SET recipients = '[{' WHERE id = ?1", [damaged.number()])
        .unwrap();
    assert_eq!(lease(&queue).await.unwrap().message.id, whole);
    assert_eq!(unreadable(&recorder), [damaged]);
    let listed = queue.list(Filter::default()).await.unwrap();
    assert_eq!(listed.iter().map(|m| m.id).collect::<Vec<_>>(), [whole]);
    assert_eq!(queue.totals().await.unwrap()[0].messages, 2, "it is still there");
}

async fn post(queue: &SqliteQueue, count: usize, len: usize) -> Vec<QueueId> {
    let notices = (0..count).map(|_| Notice { message: intake(queue.next_id()), content: vec![7; len] });
    queue.post(notices.collect()).await.unwrap().iter().map(Stored::id).collect()
}

fn changing(queue: &Arc<SqliteQueue>, change: Change) -> Changing {
    Changing::new(Arc::clone(queue) as _, Filter::default(), change, RelayTime::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_in_small_steps_and_one_that_fails_leaves_the_beginning_done() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let ids = post(&queue, 300, 10).await;
    let mut hold = changing(&queue, Change::Hold);
    let first = hold.next().await.unwrap().unwrap();
    let held: Vec<QueueId> = first.changed.iter().map(|(id, _)| *id).collect();
    assert!(held.len() < ids.len() && held == ids[..held.len()], "in order of arrival");
    fail(&queue, Step::Commit, io::ErrorKind::Other, usize::MAX);
    assert!(hold.next().await.unwrap().is_err());
    assert!(hold.next().await.is_none(), "it goes no further");
    *queue.shared.disk.hook.lock().unwrap() = None;
    let is = |state| Filter { state: Some(state), ..Filter::default() };
    assert_eq!(queue.list(is(State::Held)).await.unwrap().len(), held.len());
    let totals = queue.totals().await.unwrap();
    let of = |state| totals.iter().find(|t| t.state == state).unwrap().messages;
    let n = |ids: &[QueueId]| ids.len() as u64;
    assert_eq!((of(State::Held), of(State::Queued)), (n(&held), n(&ids[held.len()..])));
    let rest = queue.change(Filter::default(), Change::Hold, RelayTime::default()).await.unwrap();
    assert_eq!(rest, ids[held.len()..], "saying it again does the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_frees_little_at_once_however_large_the_messages_are() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    post(&queue, 100, 60_000).await;
    let mut remove = changing(&queue, Change::Remove);
    let mut removed = 0;
    while let Some(step) = remove.next().await {
        let step = step.unwrap();
        assert!(step.changed.len() <= 18, "{}", step.changed.len());
        removed += step.changed.len();
    }
    assert_eq!(removed, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_while_a_command_runs_is_not_meant_by_it() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    post(&queue, 200, 10).await;
    let mut remove = changing(&queue, Change::Remove);
    remove.next().await.unwrap().unwrap();
    let late = commit(&queue, 10).await.unwrap();
    while let Some(step) = remove.next().await {
        step.unwrap();
    }
    let left: Vec<_> = queue.list(Filter::default()).await.unwrap().iter().map(|m| m.id).collect();
    assert_eq!(left, [late]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_commands_at_once_change_each_message_once() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    post(&queue, 500, 10).await;
    let run = || async {
        let (mut remove, mut changed, mut being_sent) = (changing(&queue, Change::Remove), 0, 0);
        while let Some(step) = remove.next().await {
            let step = step.unwrap();
            changed += step.changed.len();
            being_sent += step.being_sent.len();
        }
        (changed, being_sent)
    };
    let ((a, a_sent), (b, b_sent)) = tokio::join!(run(), run());
    assert_eq!((a + b, a_sent + b_sent), (500, 0), "and neither takes the other's for being sent");
    assert!(queue.totals().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cannot_be_read_do_not_stop_pruning() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let mut ids = vec![];
    for _ in 0..3 {
        ids.append(&mut post(&queue, 400, 10).await);
    }
    let conn = Connection::open(tmp.path().join(DATABASE)).unwrap();
    // A thousand and more that cannot be read, at the front, in the middle and at the same moment; two that can.
    conn.execute_batch("UPDATE message SET state = 3, due = 0, recipients = '[{', finished = id / 500")
        .unwrap();
    for whole in [ids[1], ids[1_199]] {
        conn.execute("UPDATE message SET recipients = '[]', digest = NULL WHERE id = ?1", [whole.number()])
            .unwrap();
    }
    assert_eq!(queue.prune(RelayTime::from_ms(i64::MAX)).await.unwrap(), 2);
    let left: i64 = conn.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1_198, "what cannot be read is not thrown away unread");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_of_one_moment_is_pruned_whole() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    for _ in 0..3 {
        post(&queue, 400, 10).await;
    }
    let conn = Connection::open(tmp.path().join(DATABASE)).unwrap();
    conn.execute_batch("UPDATE message SET state = 3, due = 0, finished = 7, digest = NULL").unwrap();
    assert_eq!(queue.prune(RelayTime::from_ms(7)).await.unwrap(), 0);
    assert_eq!(queue.prune(RelayTime::from_ms(8)).await.unwrap(), 1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_without_its_index_and_past_what_cannot_be_read() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    let ids = post(&queue, 600, 10).await;
    let conn = Connection::open(tmp.path().join(DATABASE)).unwrap();
    conn.execute("UPDATE message SET recipients = '[{' WHERE id = ?1", [ids[3].number()]).unwrap();
    for is_damaged in [false, true] {
        if is_damaged {
            conn.execute_batch("DROP INDEX message_state").unwrap();
        }
        let mut listing = Listing::new(Arc::clone(&queue) as _, Filter::default());
        let (mut listed, mut unreadable) = (vec![], vec![]);
        while let Some(page) = listing.next().await {
            let mut page = page.unwrap();
            listed.extend(page.messages.iter().map(|m| m.id));
            unreadable.append(&mut page.unreadable);
        }
        assert_eq!((listed.len(), unreadable), (599, vec![ids[3]]));
        assert!(listed.is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_with_many_recipients_makes_a_page_of_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    let queue = open(tmp.path());
    for _ in 0..5 {
        let mut intake = intake(queue.next_id());
        intake.envelope.recipients =
            (0..1_500).map(|n| format!("r{n}@contoso.com").parse().unwrap()).collect();
        queue.post(vec![Notice { message: intake, content: vec![] }]).await.unwrap();
    }
    let (mut pages, mut after) = (0, None);
    loop {
        let page = Ledger::list(queue.as_ref(), Filter::default(), after).await.unwrap();
        assert!(page.messages.len() <= 2, "{}", page.messages.len());
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
}
