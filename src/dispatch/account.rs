//! The actor of one account: next event, apply, act.
//!
//! Invariant: it alone owns the account's plan and leases. A lease is here, at a connection, or in a settlement;
//! an unsettled one goes back to the queue when it is dropped. A settlement that the disk refuses is repeated until
//! it is taken, and its message stays leased so long: it cannot be sent twice.
//! Must not know: why the plan wants what it wants.

use super::board::Board;
use super::connection::{self, Cut, Order, Report};
use super::credential;
use super::notice;
use super::plan::{Action, ConnId, Event, Limits, Live, Plan};
use super::{Account, Settings};
use crate::events;
use crate::events::dispatch::Fact;
use crate::mail::{AccountId, Failure, QueueId, RelayTime, WallTime};
use crate::policy::breaker::{Breaker, Open};
use crate::policy::throttle::Throttle;
use crate::queue::{Lease, Next, Outbox, Queue, QueueError, Settlement};
use crate::token::Grant;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// Between tries to settle while the disk refuses.
const SETTLE_RETRY: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// What others tell the actor.
pub(super) enum Command {
    Pause(bool),
    Kick,
    TenantHeld(Failure),
    Reload(Box<(Account, Settings)>),
    Live(oneshot::Sender<Live>),
    Drain,
    /// End so much of what is in flight.
    Cut(Cut),
}

enum Inbox {
    Leased(Result<Next, QueueError>),
    Report(Report),
    Settled(QueueId),
    /// It never will be: the queue is closed, or refused it until the end of a stop.
    Unsettled(QueueId),
}

pub(super) struct Actor {
    id: AccountId,
    account: Arc<Account>,
    settings: Settings,
    place: String,
    plan: Plan,
    queue: Queue,
    board: Arc<Board>,
    leases: BTreeMap<QueueId, Box<Lease>>,
    conns: BTreeMap<ConnId, mpsc::UnboundedSender<Order>>,
    post: mpsc::UnboundedSender<Inbox>,
    inbox: mpsc::UnboundedReceiver<Inbox>,
    cut: watch::Sender<Cut>,
    notices: notice::Budget,
}

impl Actor {
    /// Reads what the account remembers of its last run.
    pub(super) async fn new(account: Account, settings: &Settings, queue: Queue, board: Arc<Board>) -> Self {
        let now = queue.clock.now();
        let day_ago = RelayTime::from_ms(now.as_ms() - i64::try_from(DAY.as_millis()).expect("a day fits"));
        let delivered = queue.ledger.delivered_since(&account.id, day_ago).await.unwrap_or_default();
        let has_delivered = !delivered.is_empty();
        let throttle = Throttle::new(account.messages_per_minute, account.recipients_per_day, delivered);
        let open: Option<Open> = queue
            .notes
            .note(&breaker_note(&account.id))
            .await
            .ok()
            .flatten()
            .and_then(|json| serde_json::from_str(&json).ok());
        let paused = queue.notes.note(&pause_note(&account.id)).await.ok().flatten().is_some();
        let worked = queue.notes.note(&worked_note(&account.id)).await.ok().flatten();
        let limits = limits(&account, settings);
        let mut plan = Plan::new(limits.clone(), Breaker::resume(open, now), throttle, paused);
        // A queue of before the note was kept knows by what it delivered.
        plan.set_has_worked(worked.map_or(has_delivered, |with| with == way_in(&account)));
        set_pace(&account, settings);
        let (post, inbox) = mpsc::unbounded_channel();
        Self {
            id: account.id.clone(),
            place: limits.smart_host,
            plan,
            account: Arc::new(account),
            settings: settings.clone(),
            queue,
            board,
            leases: BTreeMap::new(),
            conns: BTreeMap::new(),
            post,
            inbox,
            cut: watch::Sender::new(Cut::Nothing),
            notices: notice::Budget::default(),
        }
    }

    /// Works until it is drained and at rest.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let arrivals = self.queue.outbox.arrivals(&self.id);
        let mut draining = false;
        self.take(Event::Rung);
        let mut daily = tokio::time::interval(DAY);
        daily.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(draining && self.plan.is_at_rest()) {
            let now = self.queue.clock.now();
            let wake = self.plan.wake_at().map(|t| t.since(now));
            let sleep = async {
                match wake {
                    // A millisecond more: the clock counts whole ones, and waking early would only mean sleeping again.
                    Some(d) => tokio::time::sleep(d + Duration::from_millis(1)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(message) = self.inbox.recv() => self.receive(message),
                command = commands.recv() => match command {
                    Some(Command::Live(answer)) => {
                        let expiry = self.account.oauth.as_ref().and_then(|o| o.source.expiry());
                        let _ = answer.send(Live { expiry, ..self.plan.live(now) });
                    }
                    Some(Command::Cut(cut)) => {
                        self.cut.send_replace(cut);
                    }
                    Some(Command::Drain) | None => {
                        draining = true;
                        self.take(Event::Drain);
                    }
                    Some(Command::Pause(paused)) => {
                        let value = paused.then(|| "paused".to_owned());
                        self.remember(pause_note(&self.id), value);
                        self.take(Event::Paused(paused));
                    }
                    Some(Command::Kick) => {
                        if let Some(oauth) = &self.account.oauth {
                            oauth.source.kick();
                        }
                        self.take(Event::Kick);
                    }
                    Some(Command::TenantHeld(failure)) => self.take(Event::TenantHeld(failure)),
                    Some(Command::Reload(new)) => {
                        let (mut account, settings) = *new;
                        account.oauth = account.oauth.map(|o| o.after(self.account.oauth.as_ref()));
                        if let Some(oauth) = &account.oauth {
                            oauth.source.kick();
                        }
                        set_pace(&account, &settings);
                        if way_in(&account) != way_in(&self.account) {
                            self.plan.set_has_worked(false);
                        }
                        let limits = limits(&account, &settings);
                        self.place.clone_from(&limits.smart_host);
                        self.account = Arc::new(account);
                        self.settings = settings;
                        daily.reset_immediately();
                        self.take(Event::Limits(Box::new(limits)));
                    }
                },
                // A drained account that comes back by a reload has another actor, whose ring this would steal.
                () = arrivals.notified(), if !draining => self.take(Event::Rung),
                _ = daily.tick(), if !draining => {
                    let (account, queue) = (Arc::clone(&self.account), self.queue.clone());
                    tokio::spawn(credential::look_after(account, self.settings.clone(), queue, now));
                }
                () = sleep => self.take(Event::Woken),
            }
        }
        // A refresh token that was replaced must reach the disk; a lost access token costs one more request.
        if let Some(oauth) = &self.account.oauth
            && matches!(oauth.source.settings().grant, Grant::DeviceCode { .. })
        {
            oauth.source.finish().await;
        }
    }

    fn receive(&mut self, message: Inbox) {
        match message {
            Inbox::Leased(Ok(Next::Message(lease))) => {
                let message = lease.message.clone();
                self.leases.insert(message.id, lease);
                self.take(Event::Leased(message));
            }
            Inbox::Leased(Ok(Next::NotBefore(t))) => self.take(Event::NothingDue(Some(t))),
            Inbox::Leased(Ok(Next::Empty)) => self.take(Event::NothingDue(None)),
            Inbox::Leased(Err(error)) => {
                events::dispatch::lease_failed(&self.id, &error.to_string());
                self.take(Event::LeaseFailed);
            }
            Inbox::Settled(id) => self.take(Event::Settled(id)),
            Inbox::Unsettled(id) => {
                // Nothing is recorded any more, so nothing may be begun.
                self.take(Event::Drain);
                self.take(Event::Settled(id));
            }
            Inbox::Report(Report::Opened(conn)) => self.take(Event::Opened(conn)),
            Inbox::Report(Report::OpenFailed(conn, failure)) => {
                self.conns.remove(&conn);
                self.look_around();
                self.take(Event::OpenFailed(conn, failure));
            }
            Inbox::Report(Report::Closed(conn)) => {
                self.conns.remove(&conn);
                self.take(Event::Closed(conn));
            }
            Inbox::Report(Report::Sent(conn, lease, sent, host)) => {
                let id = lease.message.id;
                if sent.failure.is_some() {
                    self.look_around();
                }
                self.leases.insert(id, lease);
                self.take(Event::Sent(conn, id, sent, host));
            }
        }
    }

    fn look_around(&mut self) {
        let works = self.board.another_works(&self.id, &self.place, self.queue.clock.now());
        self.plan.set_another_works(works);
    }

    fn take(&mut self, event: Event) {
        let now = self.queue.clock.now();
        for action in self.plan.handle(event, now, WallTime::now(), fastrand::f64()) {
            self.act(action, now);
        }
    }

    fn act(&mut self, action: Action, now: RelayTime) {
        match action {
            Action::Lease { except } => {
                let (lease, post) = (self.queue.outbox.lease(&self.id, now, except), self.post.clone());
                tokio::spawn(async move {
                    let _ = post.send(Inbox::Leased(lease.await));
                });
            }
            Action::Open { conn, nth_address } => {
                let (orders, inbox) = mpsc::unbounded_channel();
                self.conns.insert(conn, orders);
                let post = self.post.clone();
                let reports = move |r| {
                    let _ = post.send(Inbox::Report(r));
                };
                let account = Arc::clone(&self.account);
                tokio::spawn(connection::run(
                    conn,
                    account,
                    nth_address,
                    inbox,
                    reports,
                    self.cut.subscribe(),
                ));
            }
            Action::Send { conn, id, to } => {
                let lease = self.leases.remove(&id).expect("the plan sends what was leased");
                let unsent = match self.conns.get(&conn) {
                    Some(orders) => orders.send(Order::Send(lease, to)).err().map(|e| e.0),
                    None => Some(Order::Send(lease, to)),
                };
                if let Some(Order::Send(lease, _)) = unsent {
                    let _ = self.post.send(Inbox::Report(connection::untouched(conn, lease, &self.place)));
                }
            }
            Action::Close { conn } => {
                if let Some(orders) = self.conns.get(&conn) {
                    let _ = orders.send(Order::Close);
                }
            }
            Action::Settle { id, mut settlement, notify, advice, failure } => {
                let lease = self.leases.remove(&id).expect("the plan settles what was leased");
                let writer = notice::Writer {
                    account: &self.account,
                    settings: &self.settings,
                    place: &self.place,
                    ids: self.queue.outbox.as_ref(),
                    now,
                };
                let what = notice::What { notify, advice, failure: failure.as_ref() };
                settlement.notices = writer.compose(&lease, &settlement, &what, &mut self.notices);
                let (outbox, post, account) =
                    (Arc::clone(&self.queue.outbox), self.post.clone(), self.id.clone());
                let cut = self.cut.subscribe();
                tokio::spawn(async move {
                    let done = settle(outbox.as_ref(), lease, *settlement, &account, cut).await;
                    let _ = post.send(if done { Inbox::Settled(id) } else { Inbox::Unsettled(id) });
                });
            }
            Action::Return { id } => drop(self.leases.remove(&id)),
            Action::Persist(open) => {
                let json =
                    open.map(|o| serde_json::to_string(&o).expect("a plain struct of numbers and text"));
                self.remember(breaker_note(&self.id), json);
            }
            Action::Tell(fact) => {
                if matches!(fact, Fact::Delivered { .. } | Fact::Recovered { .. }) {
                    self.board.works(&self.id, &self.place, now);
                }
                fact.tell(&self.id, &self.place);
            }
            Action::HoldTenant(failure) => self.board.hold_tenant(&self.id, &failure),
            Action::Works => self.remember(worked_note(&self.id), Some(way_in(&self.account))),
        }
    }

    /// A lost note costs one early probe after a restart, so its failure is only logged.
    fn remember(&self, name: String, value: Option<String>) {
        let done = self.queue.notes.set_note(&name, value);
        tokio::spawn(async move {
            if let Err(error) = done.await {
                events::dispatch::note_lost(&name, &error.to_string());
            }
        });
    }
}

/// Settles, however long the disk refuses; `false` when the queue was closed first, or the stop is over.
async fn settle(
    outbox: &dyn Outbox,
    mut lease: Box<Lease>,
    settlement: Settlement,
    account: &AccountId,
    mut cut: watch::Receiver<Cut>,
) -> bool {
    let id = lease.message.id;
    loop {
        match outbox.settle(lease, settlement.clone()).await {
            Ok(()) => return true,
            Err((lease, error @ QueueError::Closed)) => {
                events::dispatch::settlement_lost(id, account, &error.to_string());
                lease.set_aside();
                return false;
            }
            Err((again, error)) => {
                events::dispatch::settlement_refused(id, account, &error.to_string());
                if *cut.borrow() == Cut::Everything {
                    events::dispatch::settlement_lost(id, account, &error.to_string());
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
        smart_host: format!("{}:{}", account.smart_host.host, account.smart_host.port),
        max_connections: account.max_connections,
        messages_per_minute: account.messages_per_minute,
        recipients_per_day: account.recipients_per_day,
        has_login: account.oauth.is_some() || account.smart_host.login.is_some(),
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

/// The settings by which an account gets in, but for what is secret: as long as they are the same, a fault that calls
/// itself temporary is believed for a while.
fn way_in(account: &Account) -> String {
    let host = &account.smart_host;
    let user = host.login.as_ref().map_or("", |l| l.user());
    let app = account.oauth.as_ref().map(|o| {
        let s = o.source.settings();
        format!("{} {} {}", s.tenant, s.client_id, s.token_url())
    });
    format!("{}:{} {:?} {user} {}", host.host, host.port, host.tls, app.unwrap_or_default())
}

/// Token requests are repeated as whatever else of the account passes by itself.
fn set_pace(account: &Account, settings: &Settings) {
    if let Some(oauth) = &account.oauth {
        oauth.source.set_delays(&settings.retry.account_delays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ClientName, Envelope, ReversePath};
    use crate::queue::{Destination, NewMessage};

    #[tokio::test]
    async fn a_settlement_the_disk_refuses_does_not_outlast_the_stop() {
        let directory = tempfile::tempdir().unwrap();
        let settings =
            crate::queue::Settings { directory: directory.path().to_owned(), min_free_space_bytes: 0 };
        let queue = crate::queue::open(&settings).await.unwrap();
        let clock = queue.clock;
        let account = AccountId::new("scanner@contoso.com");
        let mut draft = queue.intake.draft(0).unwrap();
        draft.write(b"hello").await.unwrap();
        let message = NewMessage {
            id: draft.id(),
            account: account.clone(),
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients: vec!["anna@contoso.com".parse().unwrap()],
                client: ClientName::new("printers"),
                peer: None,
            },
            head: b"\r\n".to_vec(),
            charset: None,
            received_at: WallTime::now(),
            now: clock.now(),
        };
        queue.intake.commit(draft, vec![message]).await.unwrap();
        let Next::Message(lease) = queue.outbox.lease(&account, clock.now(), vec![]).await.unwrap() else {
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
            settle(queue.outbox.as_ref(), lease, settlement, &AccountId::new("scanner@contoso.com"), told)
                .await
        });
        cut.send_replace(Cut::Everything);
        assert!(!tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap().unwrap());
    }
}
