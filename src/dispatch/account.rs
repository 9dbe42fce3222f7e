//! The actor of one account: next event, apply, act.
//!
//! Invariant: it alone owns the account's plan, and with it the leases and the connections; an unsettled lease goes
//! back to the queue when it is dropped. It works only while this host owns the account: when that ends, everything in
//! flight is dropped, and it begins anew, with what the account remembers by then, once the account is owned again. A settlement that the disk refuses is repeated until it is taken, and its
//! message stays leased so long: it cannot be sent twice.
//! Must not know: why the plan wants what it wants.

use super::board::Board;
use super::connection::{self, Cut, Line};
use super::credential;
use super::notice;
use super::plan::{self, Action, At, Leased, Limits, Live, Memory, Past, Plan};
use super::settle::Settled;
use super::{Account, Settings};
use crate::fact::dispatch::Fact;
use crate::mail::{AccountId, Place, QueuedMessage, RelayTime, WallTime};
use crate::policy::breaker::{Breaker, Open};
use crate::policy::throttle::Throttle;
use crate::queue::{Lease, Next, Outbox, Owned, Queue, QueueError, Settlement};
use crate::token::{Grant, Source};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// Between tries to settle while the disk refuses.
const SETTLE_RETRY: Duration = Duration::from_secs(1);
/// Between tries to own the account while the queue cannot say.
const OWN_RETRY: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) type Event = plan::Event<Box<Lease>, Line>;

impl Leased for Box<Lease> {
    fn message(&self) -> &QueuedMessage {
        &self.message
    }
}

/// What the actor is told.
pub(super) enum Message {
    Event(Event),
    Reload(Box<(Account, Settings)>),
    Live(oneshot::Sender<Live>),
}

pub(super) struct Actor {
    id: AccountId,
    account: Arc<Account>,
    settings: Settings,
    place: Place,
    /// Begins nothing before the account is owned; anew for each time it is.
    plan: Plan<Box<Lease>, Line>,
    owned: Option<Owned>,
    /// Told to end: not only until the account is owned again.
    is_leaving: bool,
    queue: Queue,
    board: Arc<Board>,
    post: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    cut: watch::Sender<Cut>,
    notices: notice::Budget,
}

impl Actor {
    /// Nothing is begun yet.
    pub(super) fn new(
        account: Account,
        settings: &Settings,
        queue: Queue,
        board: Arc<Board>,
        cut: watch::Sender<Cut>,
    ) -> Self {
        set_pace(&account, settings);
        let (post, inbox) = mpsc::unbounded_channel();
        Self {
            id: account.id.clone(),
            place: account.way.place(),
            plan: Plan::new(limits(&account, settings), Past::default()),
            owned: None,
            is_leaving: false,
            account: Arc::new(account),
            settings: settings.clone(),
            queue,
            board,
            post,
            inbox,
            cut,
            notices: notice::Budget::default(),
        }
    }

    /// Where it is told.
    pub(super) fn address(&self) -> mpsc::UnboundedSender<Message> {
        self.post.clone()
    }

    /// Works until it is drained and at rest.
    pub(super) async fn run(mut self) {
        while !self.is_leaving
            && let Some(owned) = self.own().await
        {
            self.plan =
                Plan::new(limits(&self.account, &self.settings), past(&self.account, &self.queue).await);
            let ended = owned.ended();
            self.owned = Some(owned);
            self.work(ended).await;
            // At rest, so that the next owner may begin at once.
            self.owned = None;
        }
        // A refresh token that was replaced must reach the disk; a lost access token costs one more request.
        if let Some(tokens) = self.account.way.tokens()
            && matches!(tokens.settings().grant, Grant::DeviceCode { .. })
        {
            tokens.finish().await;
        }
    }

    /// Waits until this host owns the account; none: it is to end, or the queue has.
    async fn own(&mut self) -> Option<Owned> {
        let mut own = self.queue.ownership.own(&self.id);
        loop {
            tokio::select! {
                biased;
                owned = &mut own => match owned {
                    Ok(owned) => return Some(owned),
                    Err(QueueError::Closed) => return None,
                    Err(error) => {
                        self.account.tell(Fact::LeaseFailed { why: error.to_string() });
                        let (ownership, id) = (Arc::clone(&self.queue.ownership), self.id.clone());
                        own = Box::pin(async move {
                            tokio::time::sleep(OWN_RETRY).await;
                            ownership.own(&id).await
                        });
                    }
                },
                Some(message) = self.inbox.recv() => match message {
                    Message::Event(Event::Drain) => {
                        self.is_leaving = true;
                        return None;
                    }
                    Message::Event(Event::Paused(paused)) => self.remember(Memory::Paused(paused)),
                    Message::Reload(new) => {
                        let (account, settings) = *new;
                        self.adopt(account, settings);
                    }
                    // Whoever owns the account does, and answers.
                    Message::Event(_) | Message::Live(_) => {}
                },
            }
        }
    }

    /// Works until it is drained and at rest, be it because the account is ours no more.
    async fn work(&mut self, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        let mut is_lost = false;
        let arrivals = self.queue.outbox.arrivals(&self.id);
        self.take(Event::Rung);
        let mut daily = tokio::time::interval(DAY);
        daily.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.plan.is_over() {
            let now = self.queue.clock.now();
            let wake = self.plan.wake_at().map(|t| t.since(now));
            let draining = self.plan.is_draining();
            let sleep = async {
                match wake {
                    // A millisecond more: the clock counts whole ones, and waking early would only mean sleeping again.
                    Some(d) => tokio::time::sleep(d + Duration::from_millis(1)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(message) = self.inbox.recv() => match message {
                    Message::Event(event) => {
                        if let (Event::Probe, Some(tokens)) = (&event, self.account.way.tokens()) {
                            tokens.probe();
                        }
                        self.is_leaving |= matches!(event, Event::Drain);
                        self.take(event);
                    }
                    Message::Live(answer) => {
                        let expiry = self.account.way.tokens().and_then(Source::expiry);
                        let _ = answer.send(Live { expiry, ..self.plan.live(now) });
                    }
                    Message::Reload(new) => {
                        let (account, settings) = *new;
                        self.reload(account, settings);
                        daily.reset_immediately();
                    }
                },
                // A drained account that comes back by a reload has another actor, whose ring this would steal.
                () = arrivals.notified(), if !draining => self.take(Event::Rung),
                _ = daily.tick(), if !draining => {
                    let (account, notes) = (Arc::clone(&self.account), Arc::clone(&self.queue.notes));
                    tokio::spawn(credential::look_after(account, notes));
                }
                () = &mut ended, if !is_lost => {
                    is_lost = true;
                    // Before another host begins: what goes on here could be recorded by nobody.
                    self.cut.send_replace(Cut::Everything);
                    self.take(Event::Drain);
                }
                () = sleep => self.take(Event::Woken),
            }
        }
        if is_lost && !self.is_leaving {
            self.cut.send_replace(Cut::Nothing);
        }
    }

    fn reload(&mut self, account: Account, settings: Settings) {
        self.adopt(account, settings);
        let limits = limits(&self.account, &self.settings);
        self.take(Event::Limits(Box::new(limits)));
    }

    fn adopt(&mut self, mut account: Account, settings: Settings) {
        account.way = account.way.after(&self.account.way);
        if let Some(tokens) = account.way.tokens() {
            tokens.probe();
        }
        set_pace(&account, &settings);
        self.place = account.way.place();
        self.account = Arc::new(account);
        self.settings = settings;
    }

    fn take(&mut self, event: Event) {
        let now = self.queue.clock.now();
        let at = At {
            now,
            wall: WallTime::now(),
            jitter: fastrand::f64(),
            another_works: self.board.another_works(&self.id, &self.place, now),
        };
        for action in self.plan.handle(event, at) {
            self.act(action, now);
        }
    }

    fn act(&mut self, action: Action<Box<Lease>, Line>, now: RelayTime) {
        match action {
            Action::Lease { except } => {
                let owned = self.owned.as_ref().expect("a plan begins with an account that is owned");
                let lease = self.queue.outbox.lease(owned, now, except);
                let (tell, account) = (self.teller(), Arc::clone(&self.account));
                tokio::spawn(async move { tell(leased(&account, lease.await)) });
            }
            Action::Open { conn, nth_address } => {
                let account = Arc::clone(&self.account);
                tokio::spawn(connection::run(
                    conn,
                    account,
                    nth_address,
                    self.teller(),
                    self.cut.subscribe(),
                ));
            }
            Action::Send { over, lease, to } => {
                if let Err(lease) = over.send(lease, to) {
                    self.teller()(over.untouched(lease, self.place.to_string()));
                }
            }
            Action::Close(line) => drop(line),
            Action::Settle(lease, settled) => self.settle(lease, *settled, now),
            Action::Return(lease) => drop(lease),
            Action::Remember(memory) => self.remember(memory),
            Action::Tell(fact) => {
                if matches!(fact, Fact::Delivered { .. } | Fact::Recovered { .. }) {
                    self.board.works(&self.id, &self.place, now);
                }
                self.account.tell(fact);
            }
            Action::HoldTenant(failed) => self.board.hold_tenant(&self.id, &failed),
        }
    }

    /// Where tasks tell what came of them.
    fn teller(&self) -> impl Fn(Event) + Send + use<> {
        let post = self.post.clone();
        move |event| {
            let _ = post.send(Message::Event(event));
        }
    }

    fn settle(&mut self, lease: Box<Lease>, settled: Settled, now: RelayTime) {
        let writer = notice::Writer {
            account: &self.account,
            settings: &self.settings,
            place: &self.place,
            ids: self.queue.outbox.as_ref(),
            now,
        };
        let notices = writer.compose(&lease, &settled, &mut self.notices);
        let settlement = Settlement { notices, ..settled.settlement };
        let (outbox, tell) = (Arc::clone(&self.queue.outbox), self.teller());
        let account = Arc::clone(&self.account);
        let (id, cut) = (lease.message.id, self.cut.subscribe());
        tokio::spawn(async move {
            let done = settle(outbox.as_ref(), lease, settlement, |fact| account.tell(fact), cut).await;
            tell(if done { Event::Settled(id) } else { Event::Unsettled(id) });
        });
    }

    /// A lost note costs one early probe after a restart, so its failure is only logged.
    fn remember(&self, memory: Memory) {
        let (name, value) = match memory {
            Memory::Breaker(open) => {
                let json = |o| serde_json::to_string(&o).expect("a plain struct of numbers and text");
                (breaker_note(&self.id), open.map(json))
            }
            Memory::Paused(paused) => (pause_note(&self.id), paused.then(|| "paused".to_owned())),
            Memory::Works(way_in) => (worked_note(&self.id), Some(way_in)),
        };
        let (done, account) = (self.queue.notes.set_note(&name, value), Arc::clone(&self.account));
        tokio::spawn(async move {
            if let Err(error) = done.await {
                account.tell(Fact::NoteLost { name, why: error.to_string() });
            }
        });
    }
}

fn leased(account: &Account, answer: Result<Next, QueueError>) -> Event {
    match answer {
        Ok(Next::Message(lease)) => Event::Leased(lease),
        Ok(Next::NotBefore(t)) => Event::NothingDue(Some(t)),
        Ok(Next::Empty) => Event::NothingDue(None),
        Err(error) => {
            account.tell(Fact::LeaseFailed { why: error.to_string() });
            Event::LeaseFailed
        }
    }
}

/// What it remembers of its last run; what cannot be read costs an early probe.
async fn past(account: &Account, queue: &Queue) -> Past {
    let now = queue.clock.now();
    let day_ago = RelayTime::from_ms(now.as_ms() - i64::try_from(DAY.as_millis()).expect("a day fits"));
    let note = |name: String| async move { queue.notes.note(&name).await.ok().flatten() };
    let delivered = queue.ledger.delivered_since(&account.id, day_ago).await.unwrap_or_default();
    let has_delivered = !delivered.is_empty();
    let open: Option<Open> =
        note(breaker_note(&account.id)).await.and_then(|json| serde_json::from_str(&json).ok());
    let worked = note(worked_note(&account.id)).await;
    Past {
        breaker: Breaker::resume(open, now),
        throttle: Throttle::new(account.pace.messages_per_minute, account.pace.recipients_per_day, delivered),
        paused: note(pause_note(&account.id)).await.is_some(),
        // A queue of before the note was kept knows by what it delivered.
        has_worked: worked.map_or(has_delivered, |with| with == account.way.way_in()),
    }
}

/// Settles, however long the disk refuses; `false` when the queue was closed or the account lost first, or the stop is
/// over.
async fn settle(
    outbox: &dyn Outbox,
    mut lease: Box<Lease>,
    settlement: Settlement,
    say: impl Fn(Fact),
    mut cut: watch::Receiver<Cut>,
) -> bool {
    let id = lease.message.id;
    loop {
        match outbox.settle(lease, settlement.clone()).await {
            Ok(()) => return true,
            Err((lease, error @ QueueError::Closed)) => {
                say(Fact::SettlementLost { id, why: error.to_string() });
                lease.set_aside();
                return false;
            }
            // The next owner has it as it was.
            Err((_, error @ QueueError::Disowned)) => {
                say(Fact::SettlementLost { id, why: error.to_string() });
                return false;
            }
            Err((again, error)) => {
                let is_full = matches!(error, QueueError::Full(_));
                say(Fact::SettlementRefused { id, why: error.to_string(), is_full });
                if *cut.borrow() == Cut::Everything {
                    say(Fact::SettlementLost { id, why: error.to_string() });
                    again.set_aside();
                    return false;
                }
                lease = again;
                let _ = tokio::time::timeout(SETTLE_RETRY, cut.wait_for(|c| *c == Cut::Everything)).await;
            }
        }
    }
}

fn limits(account: &Account, settings: &Settings) -> Limits {
    Limits {
        max_connections: account.pace.max_connections,
        messages_per_minute: account.pace.messages_per_minute,
        recipients_per_day: account.pace.recipients_per_day,
        has_login: account.way.has_login(),
        way_in: account.way.way_in(),
        retry: settings.retry.clone(),
    }
}

fn breaker_note(account: &AccountId) -> String {
    format!("breaker/{account}")
}

pub(super) fn pause_note(account: &AccountId) -> String {
    format!("paused/{account}")
}

fn worked_note(account: &AccountId) -> String {
    format!("worked/{account}")
}

/// Token requests are repeated as whatever else of the account passes by itself.
fn set_pace(account: &Account, settings: &Settings) {
    if let Some(tokens) = account.way.tokens() {
        tokens.set_delays(&settings.retry.account_delays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Destination;
    use crate::queue::fixture::{open, scan};

    #[tokio::test]
    async fn a_settlement_the_disk_refuses_does_not_outlast_the_stop() {
        let directory = tempfile::tempdir().unwrap();
        let queue = open(directory.path()).await;
        let clock = queue.clock;
        let account = AccountId::new("scanner@contoso.com");
        let mut draft = queue.intake.draft(0).unwrap();
        draft.write(b"hello").await.unwrap();
        let message = scan(draft.id());
        queue.intake.commit(draft, vec![message]).await.unwrap();
        let owned = queue.ownership.own(&account).await.unwrap();
        let Next::Message(lease) = queue.outbox.lease(&owned, clock.now(), vec![]).await.unwrap() else {
            panic!()
        };
        let settlement = Settlement {
            now: clock.now(),
            recipients: lease.message.recipients.clone(),
            attempts: 1,
            to: Destination::Queued(clock.now()),
            attempt: None,
            outcome_unknown: false,
            notices: vec![],
        };
        // Neither the row can be written nor a file beside it.
        std::fs::write(directory.path().join("settled"), "").unwrap();
        rusqlite::Connection::open(directory.path().join("queue.db"))
            .unwrap()
            .execute_batch("CREATE TRIGGER no BEFORE UPDATE ON message BEGIN SELECT raise(ABORT, 'no'); END")
            .unwrap();
        let cut = watch::Sender::new(Cut::Nothing);
        let told = cut.subscribe();
        let settled = tokio::spawn(async move {
            let said = std::sync::Mutex::new(vec![]);
            let say = |fact| said.lock().unwrap().push(fact);
            let done = settle(queue.outbox.as_ref(), lease, settlement, say, told).await;
            (done, said.into_inner().unwrap())
        });
        cut.send_replace(Cut::Everything);
        let (done, said) = tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap().unwrap();
        assert!(!done);
        assert!(
            matches!(said[..], [Fact::SettlementRefused { .. }, .., Fact::SettlementLost { .. }]),
            "{said:?}"
        );
    }
}
