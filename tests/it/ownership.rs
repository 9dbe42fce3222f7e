//! An account that this host owns only at times, as when two hosts share a queue: sending goes on while it is owned, and
//! nothing of it stays behind when it is not. (A single host's queue owns every account for good.)

use crate::support::queue::{open, scan};
use crate::support::relay::{MAILBOX, until};
use crate::support::smart_host::{self, Act, At, Protection, SmartHost};
use futures_util::future::{BoxFuture, FutureExt};
use mailferry::dispatch::{Account, Dispatcher, Pace, Settings};
use mailferry::fact::Witness;
use mailferry::mail::{AccountId, QueueId, RelayTime, Sender, State};
use mailferry::policy::schedule::Retry;
use mailferry::queue::{
    Done, Fence, Ids, Lease, NewMessage, Next, Notice, Outbox, Owned, Ownership, Queue, QueueError,
    Settlement, Stored,
};
use mailferry::submit::Way;
use mailferry::submit::smtp::{SmartHost as Place, Submission, Tls};
use mailferry::tls::Trust;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// A shared storage, as one host sees it.
struct Shared {
    outbox: Arc<dyn Outbox>,
    /// A permit lets the account be owned once.
    grants: Arc<Semaphore>,
    ends: Arc<Mutex<Option<watch::Sender<bool>>>>,
    handed_over: Arc<AtomicUsize>,
    /// Another host owns the account.
    is_anothers: AtomicBool,
}

impl Shared {
    fn grant(&self) {
        self.is_anothers.store(false, Ordering::SeqCst);
        self.grants.add_permits(1);
    }

    fn take_away(&self) {
        self.is_anothers.store(true, Ordering::SeqCst);
        self.ends.lock().unwrap().take().expect("it is owned").send_replace(true);
    }
}

impl Ownership for Shared {
    fn own(&self, account: &AccountId) -> Done<Owned> {
        let (grants, ends, account) = (Arc::clone(&self.grants), Arc::clone(&self.ends), account.clone());
        let handed_over = Arc::clone(&self.handed_over);
        async move {
            grants.acquire().await.unwrap().forget();
            let (end, ended) = watch::channel(false);
            *ends.lock().unwrap() = Some(end);
            let hand_over = move || {
                handed_over.fetch_add(1, Ordering::SeqCst);
            };
            Ok(Owned::new(account, Fence::from_number(7), ended, hand_over))
        }
        .boxed()
    }
}

impl Ids for Shared {
    fn next_id(&self) -> QueueId {
        self.outbox.next_id()
    }
}

impl Outbox for Shared {
    fn lease(&self, owned: &Owned, now: RelayTime, except: Vec<QueueId>) -> Done<Next> {
        self.outbox.lease(owned, now, except)
    }

    fn settle(
        &self,
        lease: Box<Lease>,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), (Box<Lease>, QueueError)>> {
        if self.is_anothers.load(Ordering::SeqCst) {
            return async move { Err((lease, QueueError::Disowned)) }.boxed();
        }
        self.outbox.settle(lease, settlement)
    }

    fn post(&self, notices: Vec<Notice>) -> Done<Vec<Stored>> {
        self.outbox.post(notices)
    }

    fn arrivals(&self, account: &AccountId) -> Arc<Notify> {
        self.outbox.arrivals(account)
    }
}

struct Site {
    host: SmartHost,
    queue: Queue,
    shared: Arc<Shared>,
    dispatcher: Arc<Dispatcher>,
    _directory: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        let host = SmartHost::builder().protection(Protection::None).start().await;
        let directory = tempfile::tempdir().unwrap();
        let real = open(directory.path()).await;
        let shared = Arc::new(Shared {
            outbox: Arc::clone(&real.outbox),
            grants: Arc::new(Semaphore::new(0)),
            ends: Arc::default(),
            handed_over: Arc::default(),
            is_anothers: AtomicBool::new(true),
        });
        let queue = Queue { ownership: Arc::clone(&shared) as _, outbox: Arc::clone(&shared) as _, ..real };
        let settings = dispatch_settings(&host);
        let dispatcher = Dispatcher::start(&settings, queue.clone(), Witness::nobody()).await;
        Self { host, queue, shared, dispatcher, _directory: directory }
    }

    async fn accept(&self) -> QueueId {
        let mut draft = self.queue.intake.draft(0).unwrap();
        draft.write(b"The scan.\r\n").await.unwrap();
        let message = NewMessage { now: self.queue.clock.now(), ..scan(draft.id()) };
        self.queue.intake.commit(draft, vec![message]).await.unwrap()[0].id()
    }

    async fn until_taken(&self, messages: usize) {
        crate::support::relay::taken(&self.host, messages).await;
    }

    async fn state(&self, id: QueueId) -> State {
        self.queue.ledger.show(id).await.unwrap().unwrap().0.state
    }

    async fn stop(self) {
        self.dispatcher.drain(Duration::from_secs(5)).await;
        self.queue.health.close().await;
    }
}

fn dispatch_settings(host: &SmartHost) -> Settings {
    let account = AccountId::new(MAILBOX);
    let mailbox: mailferry::mail::Mailbox = MAILBOX.parse().unwrap();
    let submission = Submission {
        account: account.clone(),
        mailbox: mailbox.clone(),
        smart_host: Place {
            host: smart_host::NAME.to_owned(),
            port: host.address().port(),
            tls: Tls::Off,
            login: None,
            ehlo_name: "relay.contoso.local".to_owned(),
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(20),
            data_timeout: Duration::from_secs(20),
        },
        trust: Trust::new(Some(SmartHost::ca_file())).unwrap(),
        oauth: None,
        witness: Witness::nobody(),
    };
    let at_once = vec![Duration::from_millis(10)];
    Settings {
        accounts: vec![Account {
            id: account,
            way: Way::Smtp(submission),
            sender: Sender { mailbox, send_as: vec![] },
            pace: Pace { messages_per_minute: 0, ..Pace::default() },
            witness: Witness::nobody(),
        }],
        retry: Retry { delays: at_once.clone(), account_delays: at_once, ..Retry::default() },
        hostname: "relay.contoso.local".to_owned(),
        notify: vec![],
        is_sandbox: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_waits_until_its_account_is_owned() {
    let site = Site::start().await;
    site.accept().await;
    assert!(site.dispatcher.live().await.is_empty(), "whoever owns it answers");
    assert_eq!(site.host.recorded().connections, 0);
    site.shared.grant();
    site.until_taken(1).await;
    assert_eq!(site.dispatcher.live().await.len(), 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_dropped_when_the_account_is_lost_and_sent_when_it_is_owned_again() {
    let site = Site::start().await;
    site.host.once(At::Data, Act::Stall);
    let id = site.accept().await;
    site.shared.grant();
    until("a transaction under way", async || (site.host.recorded().stalls == 1).then_some(())).await;
    site.shared.take_away();
    let is_let_go = async || (site.shared.handed_over.load(Ordering::SeqCst) == 1).then_some(());
    until("the account is let go", is_let_go).await;
    until("no connection is left", async || (site.host.recorded().open == 0).then_some(())).await;
    assert_eq!(site.state(id).await, State::Queued, "nothing was recorded that is another's to say");
    assert!(site.dispatcher.live().await.is_empty());
    let later = site.accept().await;
    site.shared.grant();
    site.until_taken(2).await;
    for id in [id, later] {
        until("its delivery is recorded", async || (site.state(id).await == State::Delivered).then_some(()))
            .await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_an_account_that_is_anothers() {
    let site = Site::start().await;
    site.dispatcher.pause(&AccountId::new(MAILBOX), true);
    let (queue, dispatcher) = (site.queue.clone(), Arc::clone(&site.dispatcher));
    tokio::time::timeout(Duration::from_secs(10), dispatcher.drain(Duration::from_secs(60))).await.unwrap();
    let account = AccountId::new(MAILBOX);
    let is_kept = async || Dispatcher::is_paused(queue.notes.as_ref(), &account).await.unwrap().then_some(());
    until("what it was told is kept", is_kept).await;
    site.stop().await;
}
