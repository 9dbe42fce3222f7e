//! What every queue backend promises, a test a promise; run for each backend there is.

use crate::support::queue::{open as open_queue, scan};
use futures_util::FutureExt;
use mailferry::mail::{
    AccountId, Attempt, Cause, ClientName, Envelope, Failure, Progress, QueueId, QueuedMessage, Recipient,
    RelayTime, Reply, Stage, State, WallTime,
};
use mailferry::queue::{
    Change, Changing, Destination, Filter, Lease, Listing, NewMessage, Next, Notice, Owned, Queue,
    QueueError, Settlement,
};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

type Opened = Pin<Box<dyn Future<Output = Queue> + Send>>;
type Open = fn(&Path) -> Opened;
type Test = fn(Open, Box<Path>) -> Pin<Box<dyn Future<Output = ()>>>;

fn sqlite(directory: &Path) -> Opened {
    let directory = directory.to_owned();
    Box::pin(async move { open_queue(&directory).await })
}

/// A module of tests for each backend, by what opens it at a path of its own.
macro_rules! contract {
    ($backend:ident) => {
        mod $backend {
            promises! {
                $backend:
                what_was_committed_is_there_after_a_restart,
                a_content_of_any_size_reads_back_as_written,
                one_content_under_several_intakes_is_stored_for_each,
                a_dropped_draft_leaves_nothing,
                an_ownership_lasts_and_can_be_had_again,
                a_leased_message_is_not_leased_again_until_given_back,
                excepted_messages_are_passed_over,
                a_deferred_message_comes_back_in_its_time_and_turn,
                a_delivered_message_is_history_without_content,
                a_dead_message_is_kept_whole_and_retry_brings_it_back,
                a_retry_gives_up_nobody_of_a_message_that_is_still_queued,
                a_settlement_and_its_notices_are_stored_together,
                a_client_with_one_message_does_not_wait_for_two_thousand,
                turns_survive_a_restart,
                held_messages_wait_for_their_release,
                removed_messages_are_gone,
                a_message_being_sent_is_not_changed,
                a_filter_finds_what_it_names,
                mail_that_is_moved_leaves_through_the_other_account_in_order_of_arrival,
                a_limit_counts_what_is_meant_and_changed,
                what_is_finished_is_found_by_the_relays_clock,
                totals_are_right_over_a_restart,
                delivered_recipients_are_counted_by_account,
                the_first_and_last_attempts_are_kept,
                an_unknown_outcome_stays_on_record,
                notes_are_kept,
                old_history_is_pruned,
                arrivals_ring,
                a_closed_queue_refuses_and_gives_leases_back,
                ids_grow_over_restarts,
            }
        }
    };
}

macro_rules! promises {
    ($backend:ident: $($name:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let directory = tempfile::tempdir().unwrap();
            let test: super::Test = |open, path| Box::pin(async move { super::$name(open, &path).await });
            test(super::$backend, directory.path().join("queue").into()).await;
        })*
    };
}

contract!(sqlite);

/// A queue, and its first account owned.
struct Host {
    queue: Queue,
    owned: Owned,
}

impl std::ops::Deref for Host {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

async fn host(open: Open, path: &Path) -> Host {
    let queue = open(path).await;
    let owned = queue.ownership.own(&account()).await.unwrap();
    Host { queue, owned }
}

fn account() -> AccountId {
    AccountId::new("scanner@contoso.com")
}

fn at(ms: i64) -> RelayTime {
    RelayTime::from_ms(ms)
}

fn intake(id: QueueId, client: &str, to: &str) -> NewMessage {
    let scan = scan(id);
    let envelope =
        Envelope { recipients: vec![to.parse().unwrap()], client: ClientName::new(client), ..scan.envelope };
    NewMessage { envelope, charset: Some("shift_jis".into()), ..scan }
}

async fn commit(queue: &Host, client: &str, content: &[u8]) -> QueueId {
    let mut draft = queue.intake.draft(content.len() as u64).unwrap();
    for chunk in content.chunks(30_000) {
        draft.write(chunk).await.unwrap();
    }
    let intakes = vec![intake(draft.id(), client, "anna@contoso.com")];
    queue.intake.commit(draft, intakes).await.unwrap()[0].id()
}

async fn lease(queue: &Host, now: i64) -> Box<Lease> {
    match queue.outbox.lease(&queue.owned, at(now), vec![]).await.unwrap() {
        Next::Message(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn settlement(lease: &Lease, progress: &Progress, to: Destination) -> Settlement {
    let recipients = lease.message.recipients.iter();
    Settlement {
        now: at(1_000),
        recipients: recipients.map(|r| Recipient { progress: progress.clone(), ..r.clone() }).collect(),
        attempts: lease.message.attempts + 1,
        to,
        attempt: Some(attempt("said")),
        outcome_unknown: false,
        notices: vec![],
    }
}

fn attempt(said: &str) -> Attempt {
    Attempt { at: WallTime::from_ms(5), stage: Stage::Data, said: said.into(), host: "192.0.2.1".into() }
}

fn taken() -> Progress {
    Progress::Delivered(Reply::new(250, "2.0.0 OK"))
}

/// All at once, where there are few.
async fn list(queue: &Host, filter: Filter) -> Result<Vec<QueuedMessage>, QueueError> {
    let (mut listing, mut all) = (Listing::new(Arc::clone(&queue.ledger), filter), vec![]);
    while let Some(page) = listing.next().await {
        all.append(&mut page?.messages);
    }
    Ok(all)
}

async fn change(
    queue: &Host,
    filter: Filter,
    change: Change,
    now: RelayTime,
) -> Result<Vec<QueueId>, QueueError> {
    let (mut changing, mut all) = (Changing::new(Arc::clone(&queue.ledger), filter, change, now), vec![]);
    while let Some(step) = changing.next().await {
        all.extend(step?.changed.into_iter().map(|(id, _)| id));
    }
    Ok(all)
}

async fn settle(queue: &Host, lease: Box<Lease>, progress: Progress, to: Destination) {
    let settlement = settlement(&lease, &progress, to);
    queue.outbox.settle(lease, settlement).await.map_err(|(_, e)| e).unwrap();
}

async fn content(body: &mailferry::queue::Body) -> Vec<u8> {
    let mut reader = body.open().await.unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = reader.chunk().await.unwrap() {
        assert!(chunk.len() <= 64 * 1024);
        all.extend_from_slice(&chunk);
    }
    all
}

async fn reopen(open: Open, path: &Path, queue: Host) -> Host {
    queue.health.close().await;
    drop(queue);
    host(open, path).await
}

async fn what_was_committed_is_there_after_a_restart(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"hello").await;
    let queue = reopen(open, path, queue).await;
    let lease = lease(&queue, 0).await;
    let m = &lease.message;
    assert_eq!((m.id, m.state, m.attempts), (id, State::Queued, 0));
    assert_eq!((m.client.as_str(), m.peer), ("printers", Some("10.0.5.7".parse().unwrap())));
    assert_eq!(m.reverse_path.to_string(), "<printer@contoso.com>");
    assert_eq!(m.recipients[0].mailbox.to_string(), "anna@contoso.com");
    assert_eq!((m.charset.as_deref(), m.size_bytes), (Some("shift_jis"), 22));
    assert_eq!(lease.body.head(), b"Subject: scan\r\n\r\n");
    assert_eq!(content(&lease.body).await, b"hello");
}

async fn a_content_of_any_size_reads_back_as_written(open: Open, path: &Path) {
    let queue = host(open, path).await;
    for len in [0, 1, 65_536, 65_537, 196_608, 300_000, 5_000_000_usize] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect();
        let id = commit(&queue, "printers", &bytes).await;
        let body = queue.ledger.body(id).await.unwrap().unwrap();
        assert_eq!(body.content_len(), len as u64);
        assert!(content(&body).await == bytes, "{len} bytes");
    }
}

async fn one_content_under_several_intakes_is_stored_for_each(open: Open, path: &Path) {
    let queue = host(open, path).await;
    for len in [10, 100_000] {
        let mut draft = queue.intake.draft(0).unwrap();
        draft.write(&vec![7; len]).await.unwrap();
        let second = queue.intake.next_id();
        let intakes =
            vec![intake(draft.id(), "a", "anna@contoso.com"), intake(second, "a", "bert@contoso.com")];
        let stored = queue.intake.commit(draft, intakes).await.unwrap();
        assert_eq!(stored.len(), 2);
        let removed = Filter { ids: vec![stored[0].id()], ..Filter::default() };
        change(&queue, removed, Change::Remove, at(0)).await.unwrap();
        let body = queue.ledger.body(second).await.unwrap().unwrap();
        assert_eq!(content(&body).await, vec![7; len], "the other one's removal does not touch it");
    }
}

async fn a_dropped_draft_leaves_nothing(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let mut draft = queue.intake.draft(0).unwrap();
    draft.write(&vec![1; 500_000]).await.unwrap();
    drop(draft);
    assert!(list(&queue, Filter::default()).await.unwrap().is_empty());
    assert!(matches!(queue.outbox.lease(&queue.owned, at(0), vec![]).await.unwrap(), Next::Empty));
}

async fn a_leased_message_is_not_leased_again_until_given_back(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"x").await;
    let first = lease(&queue, 0).await;
    assert!(matches!(queue.outbox.lease(&queue.owned, at(0), vec![]).await.unwrap(), Next::Empty));
    drop(first);
    assert_eq!(lease(&queue, 0).await.message.id, id);
}

async fn an_ownership_lasts_and_can_be_had_again(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"x").await;
    let leased = lease(&queue, 0).await;
    assert!(!queue.owned.has_ended() && queue.owned.ended().now_or_never().is_none());
    settle(&queue, leased, Progress::Pending, Destination::Queued(at(0))).await;
    let Host { queue, owned: before } = queue;
    let fence = before.fence();
    drop(before);
    let owned = queue.ownership.own(&account()).await.unwrap();
    assert_eq!(owned.account(), &account());
    assert!(owned.fence() >= fence, "a number never comes again");
    let queue = Host { queue, owned };
    assert_eq!(lease(&queue, 0).await.message.id, id, "its mail comes with it");
    queue.health.close().await;
    assert!(matches!(queue.ownership.own(&account()).await, Err(QueueError::Closed)));
}

async fn excepted_messages_are_passed_over(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let first = commit(&queue, "printers", b"1").await;
    let second = commit(&queue, "printers", b"2").await;
    let next = queue.outbox.lease(&queue.owned, at(0), vec![first]).await.unwrap();
    assert!(matches!(next, Next::Message(l) if l.message.id == second));
}

async fn a_deferred_message_comes_back_in_its_time_and_turn(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let first = commit(&queue, "printers", b"1").await;
    let leased = lease(&queue, 0).await;
    settle(&queue, leased, Progress::Pending, Destination::Queued(at(60_000))).await;
    assert!(matches!(
        queue.outbox.lease(&queue.owned, at(59_999), vec![]).await.unwrap(),
        Next::NotBefore(then) if then == at(60_000)
    ));
    commit(&queue, "printers", b"2").await;
    let again = lease(&queue, 60_000).await;
    assert_eq!(again.message.id, first, "it keeps its turn");
    assert_eq!((again.message.attempts, again.message.last_said.as_str()), (1, "said"));
}

async fn a_delivered_message_is_history_without_content(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", &vec![1; 100_000]).await;
    let leased = lease(&queue, 0).await;
    settle(&queue, leased, taken(), Destination::Delivered).await;
    let queue = reopen(open, path, queue).await;
    let (message, attempts) = queue.ledger.show(id).await.unwrap().unwrap();
    assert_eq!((message.state, attempts.len()), (State::Delivered, 1));
    assert!(message.finished_at.is_some());
    assert_eq!(message.recipients[0].progress, taken());
    assert!(queue.ledger.body(id).await.unwrap().is_none());
    assert!(matches!(queue.outbox.lease(&queue.owned, at(0), vec![]).await.unwrap(), Next::Empty));
}

async fn a_dead_message_is_kept_whole_and_retry_brings_it_back(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"keep me").await;
    let refused = Progress::Failed(Failure::new(Stage::Rcpt, Cause::Reply(Reply::new(550, "5.1.1 no"))));
    let leased = lease(&queue, 0).await;
    settle(&queue, leased, refused, Destination::Dead).await;
    assert!(matches!(queue.outbox.lease(&queue.owned, at(0), vec![]).await.unwrap(), Next::Empty));
    let dead = Filter { state: Some(State::Dead), ..Filter::default() };
    assert_eq!(list(&queue, dead.clone()).await.unwrap()[0].id, id);
    assert_eq!(change(&queue, dead, Change::Retry, at(9_000)).await.unwrap(), [id]);
    let leased = lease(&queue, 9_000).await;
    let m = &leased.message;
    assert_eq!((m.attempts, m.queued_since, m.finished_at), (0, at(9_000), None));
    assert_eq!(m.recipients[0].progress, Progress::Pending);
    assert_eq!(content(&leased.body).await, b"keep me");
}

async fn a_retry_gives_up_nobody_of_a_message_that_is_still_queued(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let draft = queue.intake.draft(0).unwrap();
    let mut message = intake(draft.id(), "printers", "anna@contoso.com");
    let others = ["bert@contoso.com", "zoe@contoso.com"].map(|to| to.parse().unwrap());
    message.envelope.recipients.extend(others);
    let id = queue.intake.commit(draft, vec![message]).await.unwrap()[0].id();
    let leased = lease(&queue, 0).await;
    let refused = Progress::Failed(Failure::new(Stage::Rcpt, Cause::Reply(Reply::new(550, "5.1.1 no"))));
    let mut partly = settlement(&leased, &Progress::Pending, Destination::Queued(at(60_000)));
    partly.recipients[0].progress = taken();
    partly.recipients[1].progress = refused;
    queue.outbox.settle(leased, partly).await.map_err(|(_, e)| e).unwrap();
    let one = Filter { ids: vec![id], ..Filter::default() };
    assert_eq!(change(&queue, one, Change::Retry, at(2_000)).await.unwrap(), [id]);
    let leased = lease(&queue, 2_000).await;
    let progress: Vec<_> = leased.message.recipients.iter().map(|r| r.progress.clone()).collect();
    assert_eq!(
        progress,
        [taken(), Progress::Pending, Progress::Pending],
        "and whoever has it does not get it again"
    );
    assert_eq!((leased.message.attempts, leased.message.queued_since), (1, at(0)), "it is as old as it is");
}

async fn a_settlement_and_its_notices_are_stored_together(open: Open, path: &Path) {
    let queue = host(open, path).await;
    commit(&queue, "printers", b"x").await;
    let leased = lease(&queue, 0).await;
    let mut dead = settlement(&leased, &Progress::Pending, Destination::Dead);
    let notice = intake(queue.intake.next_id(), "mailferry", "it@contoso.com");
    dead.notices = vec![Notice { message: notice, content: b"sorry".to_vec() }];
    queue.outbox.settle(leased, dead).await.map_err(|(_, e)| e).unwrap();
    let next = lease(&queue, 0).await;
    assert_eq!(next.message.client.as_str(), "mailferry");
    assert_eq!(content(&next.body).await, b"sorry");
}

async fn many(queue: &Host, client: &str, count: usize) -> Vec<QueueId> {
    let notices =
        |_| Notice { message: intake(queue.intake.next_id(), client, "a@b.example"), content: b"x".to_vec() };
    let stored = queue.outbox.post((0..count).map(notices).collect()).await.unwrap();
    stored.iter().map(mailferry::queue::Stored::id).collect()
}

async fn a_client_with_one_message_does_not_wait_for_two_thousand(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let payslips = many(&queue, "payroll", 2_000).await;
    let mut leased = Vec::new();
    for expected in &payslips[..3] {
        leased.push(lease(&queue, 0).await);
        assert_eq!(leased.last().unwrap().message.id, *expected, "in order of arrival");
    }
    let scan = commit(&queue, "scanner", b"scan").await;
    let next = [lease(&queue, 0).await, lease(&queue, 0).await];
    assert!(next.iter().any(|l| l.message.id == scan), "within the next two");
    let rest = [lease(&queue, 0).await, lease(&queue, 0).await];
    assert!(rest[0].message.id < rest[1].message.id);
}

async fn turns_survive_a_restart(open: Open, path: &Path) {
    let queue = host(open, path).await;
    many(&queue, "payroll", 50).await;
    for _ in 0..10 {
        let leased = lease(&queue, 0).await;
        settle(&queue, leased, taken(), Destination::Delivered).await;
    }
    let queue = reopen(open, path, queue).await;
    let more = many(&queue, "payroll", 1).await[0];
    let scan = commit(&queue, "scanner", b"scan").await;
    let next = [lease(&queue, 0).await, lease(&queue, 0).await];
    assert!(next.iter().any(|l| l.message.id == scan), "the new client does not wait for the backlog");
    let mut ids = Vec::new();
    while let Next::Message(l) = queue.outbox.lease(&queue.owned, at(0), ids.clone()).await.unwrap() {
        ids.push(l.message.id);
    }
    assert_eq!(ids.last(), Some(&more), "and the old client's own mail stays in order");
}

async fn held_messages_wait_for_their_release(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"x").await;
    let one = Filter { ids: vec![id], ..Filter::default() };
    assert_eq!(change(&queue, one.clone(), Change::Hold, at(0)).await.unwrap(), [id]);
    assert!(matches!(queue.outbox.lease(&queue.owned, at(0), vec![]).await.unwrap(), Next::Empty));
    assert!(
        change(&queue, one.clone(), Change::Retry, at(0)).await.unwrap().is_empty(),
        "retry is not release"
    );
    assert_eq!(change(&queue, one, Change::Release, at(0)).await.unwrap(), [id]);
    assert_eq!(lease(&queue, 0).await.message.id, id);
}

async fn removed_messages_are_gone(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", &vec![1; 100_000]).await;
    change(&queue, Filter::default(), Change::Remove, at(0)).await.unwrap();
    let queue = reopen(open, path, queue).await;
    assert!(queue.ledger.show(id).await.unwrap().is_none());
    assert!(queue.ledger.totals().await.unwrap().is_empty());
}

async fn a_message_being_sent_is_not_changed(open: Open, path: &Path) {
    let queue = host(open, path).await;
    commit(&queue, "printers", b"x").await;
    let leased = lease(&queue, 0).await;
    for what in [Change::Retry, Change::Hold, Change::Remove, Change::Move(AccountId::new("other"))] {
        let step = queue.ledger.change(Filter::default(), what, at(0), None).await.unwrap();
        assert_eq!((step.changed, step.being_sent), (vec![], vec![leased.message.id]));
    }
    settle(&queue, leased, taken(), Destination::Delivered).await;
}

async fn a_filter_finds_what_it_names(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let (a, b) = (commit(&queue, "printers", b"1").await, commit(&queue, "nas", b"2").await);
    let cases = [
        (Filter::default(), vec![a, b]),
        (Filter { ids: vec![b], ..Filter::default() }, vec![b]),
        (Filter { state: Some(State::Held), ..Filter::default() }, vec![]),
        (Filter { account: Some(AccountId::new("other@contoso.com")), ..Filter::default() }, vec![]),
        (Filter { client: Some("nas".into()), ..Filter::default() }, vec![b]),
        (Filter { client: Some("10.0.5.7".into()), ..Filter::default() }, vec![a, b]),
        (Filter { address: Some("ANNA@".into()), limit: 1, ..Filter::default() }, vec![a]),
        (Filter { address: Some("printer@contoso".into()), ..Filter::default() }, vec![a, b]),
        (Filter { address: Some("nobody".into()), ..Filter::default() }, vec![]),
        (Filter { since: Some(WallTime::from_ms(i64::MAX)), ..Filter::default() }, vec![]),
        (Filter { limit: 1, ..Filter::default() }, vec![a]),
    ];
    for (filter, expected) in cases {
        let said = format!("{filter:?}");
        let found: Vec<_> = list(&queue, filter).await.unwrap().iter().map(|m| m.id).collect();
        assert_eq!(found, expected, "{said}");
    }
}

async fn mail_that_is_moved_leaves_through_the_other_account_in_order_of_arrival(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let other = AccountId::new("other@contoso.com");
    let ids = many(&queue, "printers", 300).await;
    let settled = |n: usize| Filter { ids: vec![ids[n]], ..Filter::default() };
    change(&queue, settled(5), Change::Hold, at(0)).await.unwrap();
    for to in [Destination::Delivered, Destination::Dead] {
        let leased = lease(&queue, 0).await;
        settle(&queue, leased, taken(), to).await;
    }
    let sent = lease(&queue, 0).await;
    assert_eq!(sent.message.id, ids[2]);
    let own = AccountId::new("scanner@contoso.com");
    let filter = Filter { account: Some(own.clone()), ..Filter::default() };
    let moved = change(&queue, filter.clone(), Change::Move(other.clone()), at(0)).await.unwrap();
    assert_eq!(moved, [&ids[1..2], &ids[3..]].concat(), "dead and held ones too, and not what is being sent");
    assert_eq!(
        change(&queue, filter, Change::Move(other.clone()), at(0)).await.unwrap(),
        [],
        "once is enough"
    );
    drop(sent);
    let late = commit(&queue, "printers", b"x").await;

    let queue = reopen(open, path, queue).await;
    let totals = queue.ledger.totals().await.unwrap();
    let count = |account: &AccountId, state| {
        let of = |t: &&mailferry::queue::Total| t.account == *account && t.state == state;
        totals.iter().find(of).map_or((0, 0), |t| (t.messages, t.size_bytes))
    };
    let size = |n: u64| (n, n * 18);
    assert_eq!(count(&own, State::Queued), size(2), "what was being sent, and what came later");
    assert_eq!(count(&own, State::Delivered), size(1), "history stays");
    assert_eq!(count(&own, State::Dead), (0, 0));
    for (state, n) in [(State::Queued, 296), (State::Held, 1), (State::Dead, 1)] {
        assert_eq!(count(&other, state), size(n), "{state:?}");
    }
    let drain = async |account: &AccountId| {
        let owned = queue.ownership.own(account).await.unwrap();
        let mut leased: Vec<QueueId> = vec![];
        while let Next::Message(l) = queue.outbox.lease(&owned, at(0), leased.clone()).await.unwrap() {
            leased.push(l.message.id);
        }
        leased
    };
    assert_eq!(drain(&own).await, [ids[2], late]);
    assert_eq!(drain(&other).await, [&ids[3..5], &ids[6..]].concat(), "in order of arrival");
    let dead = Filter { state: Some(State::Dead), ..Filter::default() };
    assert_eq!(change(&queue, dead, Change::Retry, at(5)).await.unwrap(), [ids[1]]);
    assert_eq!(drain(&other).await.len(), 297, "and a dead one comes back there");
}

async fn a_limit_counts_what_is_meant_and_changed(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let ids = many(&queue, "printers", 300).await;
    let sent = lease(&queue, 0).await;
    let filter = |limit| Filter { limit, ..Filter::default() };
    let held = change(&queue, filter(200), Change::Hold, at(0)).await.unwrap();
    assert_eq!(held, ids[1..201], "what is being sent is none of them");
    let released = Filter { state: Some(State::Held), ..filter(3) };
    assert_eq!(change(&queue, released, Change::Release, at(0)).await.unwrap(), ids[1..4]);
    let found = |limit| list(&queue, filter(limit));
    assert_eq!(found(299).await.unwrap().len(), 299);
    assert_eq!(found(301).await.unwrap().len(), 300);
    drop(sent);
}

async fn what_is_finished_is_found_by_the_relays_clock(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let ids = many(&queue, "printers", 3).await;
    for (now, to) in [(100, Destination::Dead), (200, Destination::Delivered), (300, Destination::Dead)] {
        let leased = lease(&queue, 0).await;
        let s = Settlement { now: at(now), ..settlement(&leased, &taken(), to) };
        queue.outbox.settle(leased, s).await.map_err(|(_, e)| e).unwrap();
    }
    let queue = reopen(open, path, queue).await;
    let dead = async |before| {
        let found = queue.ledger.finished(State::Dead, at(before), None).await.unwrap();
        found.iter().map(|f| (f.id, f.at.as_ms())).collect::<Vec<_>>()
    };
    assert_eq!(dead(100).await, []);
    assert_eq!(dead(101).await, [(ids[0], 100)]);
    assert_eq!(dead(i64::MAX).await, [(ids[0], 100), (ids[2], 300)]);
    let first = queue.ledger.finished(State::Dead, at(i64::MAX), None).await.unwrap()[0];
    let behind = queue.ledger.finished(State::Dead, at(i64::MAX), Some(first)).await.unwrap();
    assert_eq!(behind.iter().map(|f| f.id).collect::<Vec<_>>(), [ids[2]]);
    let one = Filter { ids: vec![ids[0]], ..Filter::default() };
    change(&queue, one, Change::Retry, at(400)).await.unwrap();
    assert_eq!(dead(i64::MAX).await, [(ids[2], 300)], "what is tried again has not finished");
}

async fn totals_are_right_over_a_restart(open: Open, path: &Path) {
    let queue = host(open, path).await;
    for _ in 0..5 {
        commit(&queue, "printers", b"12345").await;
    }
    let leased = lease(&queue, 0).await;
    settle(&queue, leased, taken(), Destination::Delivered).await;
    let held =
        list(&queue, Filter { state: Some(State::Queued), limit: 1, ..Filter::default() }).await.unwrap();
    let one = Filter { ids: vec![held[0].id], ..Filter::default() };
    change(&queue, one, Change::Hold, at(0)).await.unwrap();
    let before = queue.ledger.totals().await.unwrap();
    let queue = reopen(open, path, queue).await;
    let after = queue.ledger.totals().await.unwrap();
    assert_eq!(before, after);
    let count = |state| after.iter().find(|t| t.state == state).map(|t| (t.messages, t.size_bytes));
    assert_eq!(count(State::Queued), Some((3, 66)));
    assert_eq!(count(State::Held), Some((1, 22)));
    assert_eq!(count(State::Delivered), Some((1, 22)));
    assert_eq!(after.iter().find(|t| t.state == State::Held).unwrap().oldest, Some(held[0].received_at));
}

async fn delivered_recipients_are_counted_by_account(open: Open, path: &Path) {
    let queue = host(open, path).await;
    for now in [1_000, 2_000, 700_000] {
        commit(&queue, "printers", b"x").await;
        let leased = lease(&queue, 0).await;
        let delivered = Settlement { now: at(now), ..settlement(&leased, &taken(), Destination::Delivered) };
        queue.outbox.settle(leased, delivered).await.map_err(|(_, e)| e).unwrap();
    }
    let queue = reopen(open, path, queue).await;
    let since = |ms| queue.ledger.delivered_since(&AccountId::new("scanner@contoso.com"), at(ms));
    assert_eq!(since(0).await.unwrap(), [(at(2_000), 2), (at(700_000), 1)]);
    assert_eq!(since(600_000).await.unwrap(), [(at(700_000), 1)]);
    assert!(queue.ledger.delivered_since(&AccountId::new("other"), at(0)).await.unwrap().is_empty());
}

async fn the_first_and_last_attempts_are_kept(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"x").await;
    for n in 1..=60 {
        let leased = lease(&queue, 0).await;
        let mut again = settlement(&leased, &Progress::Pending, Destination::Queued(at(0)));
        again.attempt = Some(attempt(&n.to_string()));
        queue.outbox.settle(leased, again).await.map_err(|(_, e)| e).unwrap();
    }
    let (_, attempts) = queue.ledger.show(id).await.unwrap().unwrap();
    let said: Vec<i32> = attempts.iter().map(|a| a.said.parse().unwrap()).collect();
    assert_eq!(said, (1..=10).chain(21..=60).collect::<Vec<_>>());
}

async fn an_unknown_outcome_stays_on_record(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"hello").await;
    let first = lease(&queue, 0).await;
    let lost = Settlement {
        outcome_unknown: true,
        ..settlement(&first, &Progress::Pending, Destination::Queued(at(0)))
    };
    queue.outbox.settle(first, lost).await.map_err(|(_, e)| e).unwrap();
    settle(&queue, lease(&queue, 0).await, taken(), Destination::Delivered).await;
    assert!(queue.ledger.show(id).await.unwrap().unwrap().0.outcome_unknown);
}

async fn notes_are_kept(open: Open, path: &Path) {
    let queue = host(open, path).await;
    assert_eq!(queue.notes.note("paused").await.unwrap(), None);
    let early = queue.notes.set_note("paused", None);
    queue.notes.set_note("paused", Some("by admin".into())).await.unwrap();
    early.await.unwrap();
    let queue = reopen(open, path, queue).await;
    assert_eq!(queue.notes.note("paused").await.unwrap().as_deref(), Some("by admin"));
    queue.notes.set_note("paused", None).await.unwrap();
    assert_eq!(queue.notes.note("paused").await.unwrap(), None);
}

async fn old_history_is_pruned(open: Open, path: &Path) {
    let queue = host(open, path).await;
    many(&queue, "printers", 3).await;
    for to in [Destination::Delivered, Destination::Dead] {
        let leased = lease(&queue, 0).await;
        settle(&queue, leased, taken(), to).await;
    }
    assert_eq!(queue.ledger.prune(at(1_000)).await.unwrap(), 0, "it was delivered then, not before");
    assert_eq!(queue.ledger.prune(at(i64::MAX)).await.unwrap(), 1);
    let states: Vec<_> = list(&queue, Filter::default()).await.unwrap().iter().map(|m| m.state).collect();
    assert_eq!(states, [State::Dead, State::Queued], "and nothing else is ever pruned");
}

async fn arrivals_ring(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let arrivals = queue.outbox.arrivals(&account());
    let id = commit(&queue, "printers", b"x").await;
    arrivals.notified().await;
    drop(lease(&queue, 0).await);
    arrivals.notified().await;
    let one = Filter { ids: vec![id], ..Filter::default() };
    change(&queue, one, Change::Retry, at(0)).await.unwrap();
    arrivals.notified().await;
}

async fn a_closed_queue_refuses_and_gives_leases_back(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let id = commit(&queue, "printers", b"x").await;
    let draft = queue.intake.draft(0).unwrap();
    let leased = lease(&queue, 0).await;
    queue.health.close().await;
    let intakes = vec![intake(draft.id(), "a", "a@b.example")];
    assert!(matches!(queue.intake.commit(draft, intakes).await, Err(QueueError::Closed)));
    assert!(matches!(queue.intake.draft(0), Err(QueueError::Closed)));
    assert!(matches!(list(&queue, Filter::default()).await, Err(QueueError::Closed)));
    let delivered = settlement(&leased, &taken(), Destination::Delivered);
    let (leased, error) = queue.outbox.settle(leased, delivered).await.unwrap_err();
    assert!(matches!(error, QueueError::Closed));
    drop(leased);
    assert_eq!(lease(&host(open, path).await, 0).await.message.id, id);
}

async fn ids_grow_over_restarts(open: Open, path: &Path) {
    let queue = host(open, path).await;
    let mut last = commit(&queue, "printers", b"x").await;
    for _ in 0..100 {
        let next = queue.intake.next_id();
        assert!(next > last);
        last = next;
    }
    let queue = reopen(open, path, queue).await;
    assert!(queue.intake.next_id() > last);
}
