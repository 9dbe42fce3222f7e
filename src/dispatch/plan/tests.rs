//! The plan against a simulated queue, smart host and clock: hours pass in milliseconds.

use super::*;
use crate::dispatch::settle::tests::{message, refusal};
use crate::mail::{Cause, Failure, NoToken, Progress, Reply, Stage};
use crate::policy::breaker::{Kind, Why};
use crate::queue::{Destination, Settlement};
use crate::submit::Outcome;

/// A message is its own lease, and a connection's number its handle.
pub(super) type Plan = super::Plan<QueuedMessage, ConnId>;
pub(super) type Event = super::Event<QueuedMessage, ConnId>;
pub(super) type Action = super::Action<QueuedMessage, ConnId>;

impl Leased for QueuedMessage {
    fn message(&self) -> &QueuedMessage {
        self
    }
}

/// The plan of an account without a past.
pub(super) fn plan(limits: Limits) -> Plan {
    let throttle = Throttle::new(limits.messages_per_minute, limits.recipients_per_day, vec![]);
    let past = Past { breaker: Breaker::default(), throttle, paused: false, has_worked: false };
    Plan::new(limits, past)
}

pub(super) fn at(now_ms: i64, jitter: f64) -> At {
    let (now, wall) = (RelayTime::from_ms(now_ms), WallTime::from_ms(0));
    At { now, wall, jitter, another_works: false }
}

pub(super) fn open_failed(conn: ConnId, failure: Failure) -> Event {
    Event::OpenFailed(conn, Box::new(Judged::early(failure)))
}

/// A smart host as the plan sees it.
trait Host {
    fn login(&mut self, _now_s: f64, _nth_address: usize) -> Result<(), Failure> {
        Ok(())
    }
    fn send(&mut self, _now_s: f64, _id: i64) -> Result<(), Failure> {
        Ok(())
    }
    /// The same with the connections that are open at the server, and the transactions it is at work on.
    fn send_beside(&mut self, now_s: f64, id: i64, _open: usize, _serving: usize) -> Result<(), Failure> {
        self.send(now_s, id)
    }
    /// Until a connection that we closed is closed at the server.
    fn closes_after_ms(&self) -> i64 {
        5
    }
}

struct Sim<H> {
    plan: Plan,
    another_works: bool,
    host: H,
    now: i64,
    events: Vec<(i64, u64, Event)>,
    seq: u64,
    queue: Vec<QueuedMessage>,
    leased: Vec<QueueId>,
    conns: usize,
    closing: usize,
    max_conns: usize,
    busy: usize,
    serving: usize,
    max_busy: usize,
    sends: usize,
    logins: Vec<f64>,
    failed_logins: usize,
    addresses: Vec<usize>,
    delivered: Vec<(f64, i64)>,
    /// When recipients were taken, and how many.
    served: Vec<(f64, usize)>,
    dead: Vec<i64>,
    facts: Vec<Fact>,
    in_flight: BTreeMap<ConnId, QueueId>,
}

const LOGIN_MS: i64 = 100;
const SEND_MS: i64 = 50;

fn limits() -> Limits {
    Limits {
        max_connections: 2,
        messages_per_minute: 0,
        recipients_per_day: 0,
        has_login: true,
        way_in: String::new(),
        retry: Retry::default(),
    }
}

impl<H: Host> Sim<H> {
    fn new(limits: Limits, host: H, messages: i64) -> Self {
        Self {
            plan: plan(limits),
            another_works: false,
            host,
            now: 0,
            events: vec![(0, 0, Event::Rung)],
            seq: 1,
            queue: (1..=messages).map(|n| message(n, &["a@contoso.com"])).collect(),
            leased: vec![],
            conns: 0,
            closing: 0,
            max_conns: 0,
            busy: 0,
            serving: 0,
            max_busy: 0,
            sends: 0,
            logins: vec![],
            failed_logins: 0,
            addresses: vec![],
            delivered: vec![],
            served: vec![],
            dead: vec![],
            facts: vec![],
            in_flight: BTreeMap::new(),
        }
    }

    fn later(&mut self, ms: i64, event: Event) {
        self.events.push((self.now + ms, self.seq, event));
        self.seq += 1;
    }

    fn secs(&self) -> f64 {
        f64::from(i32::try_from(self.now).unwrap()) / 1000.0
    }

    /// Runs until nothing more happens or the time is over.
    fn run(&mut self, until_s: i64) {
        loop {
            let next = self.events.iter().map(|(t, s, _)| (*t, *s)).min();
            let wake = self.plan.wake_at().map(|t| t.as_ms().max(self.now));
            let (event, t) = match (next, wake) {
                (Some((t, s)), w) if w.is_none_or(|w| t <= w) => {
                    let i = self.events.iter().position(|e| e.1 == s).unwrap();
                    (self.events.remove(i).2, t)
                }
                (_, Some(w)) => (Event::Woken, w),
                _ => return,
            };
            if t > until_s * 1000 {
                self.later(t - self.now, event);
                self.now = until_s * 1000;
                return;
            }
            self.now = t;
            match &event {
                Event::Sent(_, _, sent, _) => {
                    self.busy -= 1;
                    self.serving -= usize::from(sent.failure.is_none());
                }
                Event::Closed(_) => self.closing -= 1,
                _ => {}
            }
            let at = At { another_works: self.another_works, ..at(self.now, 0.5) };
            let actions = self.plan.handle(event, at);
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = RelayTime::from_ms(self.now);
        match action {
            Action::Lease { except } => {
                let free = |m: &&QueuedMessage| !self.leased.contains(&m.id) && !except.contains(&m.id);
                let found = self.queue.iter().filter(free).find(|m| m.next_attempt <= now).cloned();
                let next = self.queue.iter().filter(free).map(|m| m.next_attempt).min();
                let event = match found {
                    Some(m) => {
                        self.leased.push(m.id);
                        Event::Leased(m)
                    }
                    None => Event::NothingDue(next),
                };
                self.later(0, event);
            }
            Action::Open { conn, nth_address } => {
                self.conns += 1;
                self.max_conns = self.max_conns.max(self.conns);
                self.logins.push(self.secs());
                self.addresses.push(nth_address);
                match self.host.login(self.secs(), nth_address) {
                    Ok(()) => self.later(LOGIN_MS, Event::Opened(conn, conn)),
                    Err(f) => {
                        self.conns -= 1;
                        self.failed_logins += 1;
                        self.later(LOGIN_MS, open_failed(conn, f));
                    }
                }
            }
            Action::Send { over, lease, to } => self.transact(over, lease, &to),
            Action::Close(conn) => {
                self.conns -= 1;
                self.closing += 1;
                self.in_flight.remove(&conn);
                self.later(self.host.closes_after_ms(), Event::Closed(conn));
            }
            Action::Settle(lease, settled) => self.settle(lease.id, settled.settlement),
            Action::Return(lease) => {
                self.leased.retain(|l| *l != lease.id);
                self.in_flight.retain(|_, v| *v != lease.id);
            }
            Action::Tell(fact) => self.facts.push(fact),
            Action::Remember(_) | Action::HoldTenant(_) => {}
        }
    }

    fn transact(&mut self, conn: ConnId, lease: QueuedMessage, to: &[usize]) {
        let id = lease.id;
        self.busy += 1;
        self.sends += 1;
        self.max_busy = self.max_busy.max(self.busy);
        assert!(self.in_flight.insert(conn, id).is_none(), "a connection sends one message at a time");
        let open = self.conns + self.closing;
        let result = self.host.send_beside(self.secs(), id.number(), open, self.serving);
        self.serving += usize::from(result.is_ok());
        let usable = !matches!(&result, Err(f) if f.reply().is_none_or(|r| r.code == 421));
        let pending = self.queue.iter().find(|m| m.id == id).unwrap().pending().count();
        let mut outcomes = vec![Outcome::Untried; pending];
        let sent = match result {
            Ok(()) => {
                for place in to {
                    outcomes[*place] = Outcome::Taken(Reply::new(250, "2.0.0 OK"));
                }
                self.served.push((self.secs(), to.len()));
                Sent { outcomes, failure: None, usable }
            }
            Err(f) => Sent { outcomes, failure: Some(f), usable },
        };
        self.later(SEND_MS, Event::Sent(conn, lease, sent, "192.0.2.1:587".into()));
        if !usable {
            self.in_flight.remove(&conn);
            self.conns -= 1;
            self.closing += 1;
            self.later(SEND_MS + 1, Event::Closed(conn));
        }
    }

    fn settle(&mut self, id: QueueId, settlement: Settlement) {
        let m = self.queue.iter_mut().find(|m| m.id == id).unwrap();
        m.recipients = settlement.recipients;
        m.attempts = settlement.attempts;
        match settlement.to {
            Destination::Queued(t) => m.next_attempt = t,
            Destination::Dead => self.dead.push(id.number()),
            Destination::Delivered => self.delivered.push((self.secs(), id.number())),
        }
        if !matches!(settlement.to, Destination::Queued(_)) {
            self.queue.retain(|m| m.id != id);
        }
        self.leased.retain(|l| *l != id);
        self.in_flight.retain(|_, v| *v != id);
        self.later(1, Event::Settled(id));
    }

    fn order(&self) -> Vec<i64> {
        self.delivered.iter().map(|(_, id)| *id).collect()
    }
}

struct Well;
impl Host for Well {}

fn prx4(stage: Stage) -> Failure {
    refusal(stage, "451 4.7.0 Temporary server error. Please try again later. PRX4")
}

#[test]
fn mail_flows_in_order_over_no_more_connections_than_allowed() {
    let mut sim = Sim::new(limits(), Well, 200);
    sim.run(600);
    assert_eq!(sim.delivered.len(), 200);
    assert_eq!((sim.max_conns, sim.logins.len()), (2, 2));
    assert!(sim.order().is_sorted_by(|a, b| a <= &(b + 1)), "at most neighbours swap on two connections");
    assert!(sim.plan.is_at_rest(), "idle connections are closed after a minute");
}

#[test]
fn a_prx4_outage_of_a_minute_is_over_within_a_minute_of_its_end_and_spends_nothing() {
    for stage in [Stage::Connect, Stage::Ehlo, Stage::Tls, Stage::Auth] {
        struct Outage(Stage);
        impl Host for Outage {
            fn login(&mut self, now_s: f64, _: usize) -> Result<(), Failure> {
                if now_s < 60.0 { Err(prx4(self.0)) } else { Ok(()) }
            }
        }
        let mut sim = Sim::new(limits(), Outage(stage), 100);
        sim.run(600);
        assert_eq!(
            sim.order(),
            (1..=100).collect::<Vec<_>>().as_slice().to_vec(),
            "{stage}: in order of arrival"
        );
        assert!(sim.delivered.last().unwrap().0 < 120.0, "{stage}");
        assert!(sim.failed_logins <= 5, "{stage}: one probe at a time");
        assert!(sim.facts.iter().any(|f| matches!(f, Fact::Recovered { .. })));
        assert!(!sim.facts.iter().any(|f| matches!(f, Fact::Deferred { .. } | Fact::Dead { .. })));
    }
}

#[test]
fn a_prx4_outage_after_the_login_spends_nothing_either() {
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot] {
        struct Outage(Stage);
        impl Host for Outage {
            fn send(&mut self, now_s: f64, _: i64) -> Result<(), Failure> {
                if now_s < 60.0 { Err(prx4(self.0)) } else { Ok(()) }
            }
        }
        let mut sim = Sim::new(limits(), Outage(stage), 100);
        sim.run(600);
        assert_eq!(sim.delivered.len(), 100, "{stage}");
        assert!(sim.delivered.last().unwrap().0 < 120.0, "{stage}");
        assert!(sim.dead.is_empty());
        assert!(!sim.facts.iter().any(|f| matches!(f, Fact::Deferred { .. })), "{stage}: nobody is put off");
    }
}

#[test]
fn each_failed_probe_moves_to_the_next_address() {
    struct OneBadFrontEnd;
    impl Host for OneBadFrontEnd {
        fn login(&mut self, _: f64, nth_address: usize) -> Result<(), Failure> {
            if nth_address == 0 { Err(prx4(Stage::Auth)) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(limits(), OneBadFrontEnd, 3);
    sim.run(30);
    assert_eq!(sim.delivered.len(), 3);
    assert_eq!(sim.addresses[..2], [0, 1]);
}

#[test]
fn a_refused_login_is_held_not_hammered_and_nothing_bounces() {
    struct Refusing;
    impl Host for Refusing {
        fn login(&mut self, now_s: f64, _: usize) -> Result<(), Failure> {
            let text = "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.";
            if now_s < 60.0 { Err(refusal(Stage::Auth, text)) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(limits(), Refusing, 100);
    sim.run(600);
    assert!(sim.logins.iter().filter(|t| **t < 120.0).count() <= 3, "{:?}", sim.logins);
    assert_eq!((sim.delivered.len(), sim.dead.len()), (100, 0));
    assert!(matches!(sim.facts[0], Fact::Held { .. }));
}

#[test]
fn a_refused_token_costs_a_login_every_half_hour_and_nothing_is_lost() {
    struct Rejecting;
    impl Host for Rejecting {
        fn login(&mut self, _: f64, _: usize) -> Result<(), Failure> {
            let reply = Reply::new(535, "5.7.3 Authentication unsuccessful");
            let cause = Cause::TokenRejected { reply, remedy: vec!["New-ServicePrincipal".into()] };
            Err(Failure::new(Stage::Auth, cause))
        }
    }
    let mut sim = Sim::new(limits(), Rejecting, 100);
    sim.run(86_400);
    // At 0, 1, 6, 21 and 51 minutes, within the jitter; from then on every half hour.
    let within = |s: f64| sim.logins.iter().filter(|t| **t < s).count();
    assert_eq!((within(59.0 * 60.0), sim.queue.len(), sim.dead.len()), (5, 100, 0), "{:?}", sim.logins);
    assert!(within(86_400.0) <= 56, "{:?}", sim.logins);
    let told: Vec<_> = sim.facts.iter().filter(|f| matches!(f, Fact::Held { .. })).collect();
    assert!(
        matches!(told[..], [Fact::Held { remedy, .. }] if remedy[0] == "New-ServicePrincipal"),
        "{told:?}"
    );
}

#[test]
fn a_refused_sign_in_is_not_probed_before_the_token_room_asks_again() {
    struct NoSecret;
    impl Host for NoSecret {
        fn login(&mut self, _: f64, _: usize) -> Result<(), Failure> {
            let none = NoToken {
                said: "invalid_client".into(),
                needs_a_person: true,
                retry_in: Duration::from_secs(600),
                remedy: vec![],
            };
            Err(Failure::new(Stage::Token, Cause::Token(none)))
        }
    }
    let mut sim = Sim::new(limits(), NoSecret, 3);
    sim.run(3000);
    assert!(sim.logins.windows(2).all(|w| w[1] - w[0] >= 600.0), "{:?}", sim.logins);
    assert_eq!((sim.queue.len(), sim.dead.len()), (3, 0));
}

#[test]
fn prx4_on_three_of_five_logins_costs_seconds() {
    struct Flaky(u32);
    impl Host for Flaky {
        fn login(&mut self, _: f64, _: usize) -> Result<(), Failure> {
            self.0 += 1;
            if self.0 % 5 < 3 { Err(prx4(Stage::Auth)) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(limits(), Flaky(0), 100);
    sim.run(600);
    assert_eq!(sim.delivered.len(), 100);
    assert!(sim.delivered.last().unwrap().0 < 60.0);
}

#[test]
fn a_further_connection_that_fails_does_not_stop_the_one_that_works() {
    struct OneOnly(u32);
    impl Host for OneOnly {
        fn login(&mut self, _: f64, _: usize) -> Result<(), Failure> {
            self.0 += 1;
            if self.0 == 1 { Ok(()) } else { Err(prx4(Stage::Auth)) }
        }
    }
    let mut sim = Sim::new(limits(), OneOnly(0), 100);
    sim.run(59);
    assert_eq!(sim.delivered.len(), 100);
    assert!(!sim.facts.iter().any(|f| matches!(f, Fact::BackingOff { .. })));
    assert!(sim.failed_logins < 5);
}

#[test]
fn one_poisonous_message_does_not_block_the_rest() {
    struct Poisoned;
    impl Host for Poisoned {
        fn send(&mut self, _: f64, id: i64) -> Result<(), Failure> {
            if id == 1 { Err(prx4(Stage::FinalDot)) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(limits(), Poisoned, 50);
    sim.run(60);
    assert_eq!(sim.delivered.len(), 49);
    assert!(sim.delivered.last().unwrap().0 < 20.0, "{:?}", sim.delivered.last());
    assert_eq!(sim.queue[0].attempts, 1, "it takes the blame and its own schedule");
    assert!(sim.dead.is_empty());
}

/// Counts open connections, or transactions at once; says 432 to whoever is there while they are too many.
struct Takes {
    at_once: usize,
    counts_open: bool,
    closes_after_ms: i64,
    said_432: Vec<f64>,
}

impl Takes {
    fn open(at_once: usize, closes_after_ms: i64) -> Self {
        Self { at_once, counts_open: true, closes_after_ms, said_432: vec![] }
    }

    fn transactions(at_once: usize) -> Self {
        Self { counts_open: false, ..Self::open(at_once, 5) }
    }
}

impl Host for Takes {
    fn send_beside(&mut self, now_s: f64, _: i64, open: usize, serving: usize) -> Result<(), Failure> {
        if (if self.counts_open { open } else { serving + 1 }) <= self.at_once {
            return Ok(());
        }
        self.said_432.push(now_s);
        Err(refusal(Stage::FinalDot, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"))
    }
    fn closes_after_ms(&self) -> i64 {
        self.closes_after_ms
    }
}

fn backed_off<H>(sim: &Sim<H>) -> usize {
    sim.facts.iter().filter(|f| matches!(f, Fact::BackingOff { .. })).count()
}

#[test]
fn a_server_that_takes_fewer_connections_than_are_set_costs_a_connection_a_432_and_no_pause() {
    for at_once in 1..=4 {
        for (host, what) in [
            (Takes::open(at_once, 5), "open"),
            (Takes::open(at_once, 4000), "open, slow to close"),
            (Takes::transactions(at_once), "transactions"),
        ] {
            let mut sim = Sim::new(Limits { max_connections: 4, ..limits() }, host, 40);
            sim.run(60);
            let case = format!("{at_once} at once, counted by {what}");
            assert_eq!(sim.delivered.len(), 40, "{case}");
            assert!(sim.delivered.last().unwrap().0 < 20.0, "{case}: {:?}", sim.delivered.last());
            assert!(sim.host.said_432.len() <= 4, "{case}: {:?}", sim.host.said_432);
            assert_eq!((backed_off(&sim), sim.dead.len()), (0, 0), "{case}");
            assert!(
                !sim.facts.iter().any(|f| matches!(f, Fact::Deferred { .. })),
                "{case}: nothing is spent"
            );
        }
    }
}

#[test]
fn the_number_of_connections_falls_to_what_the_server_takes_and_rises_by_one_in_ten_minutes() {
    let limits = Limits { max_connections: 4, messages_per_minute: 25, ..limits() };
    let mut sim = Sim::new(limits, Takes::transactions(2), 1600);
    let mut allowed = vec![];
    for minute in 1..=60 {
        if minute == 31 {
            sim.host.at_once = 4;
        }
        sim.run(minute * 60);
        allowed.push(sim.plan.pool.allowed());
    }
    assert_eq!(allowed[0], 2);
    assert!(allowed[..30].iter().all(|n| *n <= 3), "{allowed:?}");
    assert!(sim.host.said_432.len() <= 2 + 3, "{:?}", sim.host.said_432);
    assert!(allowed.windows(2).all(|w| w[1] <= w[0] + 1), "{allowed:?}");
    let rises: Vec<usize> = (1..60).filter(|i| allowed[*i] > allowed[i - 1]).collect();
    assert!(rises.windows(2).all(|w| w[1] - w[0] >= 9) && allowed[59] == 4, "{allowed:?}");
    assert_eq!(backed_off(&sim), 0);
}

#[test]
fn the_last_connection_that_is_too_many_waits_a_moment_and_is_tried_again_alone() {
    struct Elsewhere;
    impl Host for Elsewhere {
        fn send(&mut self, now_s: f64, _: i64) -> Result<(), Failure> {
            // Another program holds them all.
            if now_s > 50.0 {
                Ok(())
            } else {
                Err(refusal(Stage::FinalDot, "432 4.3.2 Concurrent connections"))
            }
        }
    }
    let mut sim = Sim::new(Limits { max_connections: 4, ..limits() }, Elsewhere, 20);
    sim.run(300);
    assert_eq!((sim.delivered.len(), sim.dead.len()), (20, 0));
    let resumed: Vec<f64> = sim.logins.iter().copied().filter(|t| *t > 5.0).collect();
    assert!((15.0..=60.0).contains(&resumed[0]), "{resumed:?}");
    assert!(resumed.len() <= 3 && backed_off(&sim) <= 3, "one at a time from then on: {resumed:?}");
    assert!(sim.queue.iter().all(|m| m.attempts == 0));
}

#[test]
fn a_login_that_is_one_too_many_is_not_tried_again_while_the_others_work() {
    struct Two(usize);
    impl Host for Two {
        fn login(&mut self, now_s: f64, _: usize) -> Result<(), Failure> {
            self.0 += 1;
            let text = "421 4.3.2 The maximum number of concurrent connections has exceeded a limit";
            if self.0 > 2 && now_s < 500.0 { Err(refusal(Stage::Connect, text)) } else { Ok(()) }
        }
    }
    let mut sim =
        Sim::new(Limits { max_connections: 4, messages_per_minute: 1000, ..limits() }, Two(0), 8000);
    sim.run(400);
    // Two are opened at once.
    assert_eq!((sim.failed_logins, sim.plan.pool.allowed(), backed_off(&sim)), (2, 2, 0));
}

#[test]
fn a_rate_that_is_too_high_pauses_the_account_and_changes_no_number() {
    struct Slow;
    impl Host for Slow {
        fn send(&mut self, now_s: f64, id: i64) -> Result<(), Failure> {
            let text = "421 4.4.2 Message submission rate for this client has exceeded the configured limit";
            if id > 5 && now_s < 30.0 { Err(refusal(Stage::Mail, text)) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(Limits { max_connections: 4, ..limits() }, Slow, 20);
    sim.run(20);
    assert!(sim.plan.pool.allowed() == 4 && backed_off(&sim) > 0);
    sim.run(600);
    assert_eq!(sim.delivered.len(), 20);
    assert!(sim.logins.iter().all(|t| *t < 5.0 || *t >= 60.0), "{:?}", sim.logins);
}

#[test]
fn the_pace_is_kept_and_the_backlog_is_not_leased_ahead() {
    let mut sim = Sim::new(Limits { messages_per_minute: 25, ..limits() }, Well, 60);
    sim.run(59);
    assert_eq!(sim.delivered.len(), 25);
    assert!(sim.leased.is_empty());
    sim.run(119);
    assert_eq!(sim.delivered.len(), 50);
    sim.run(130);
    assert_eq!(sim.delivered.len(), 60);
}

#[test]
fn the_days_recipients_are_kept() {
    let mut sim = Sim::new(Limits { recipients_per_day: 10, ..limits() }, Well, 15);
    sim.run(80_000);
    assert!((10..=11).contains(&sim.delivered.len()), "{}", sim.delivered.len());
    sim.run(90_000);
    assert_eq!(sim.delivered.len(), 15);
}

#[test]
fn no_message_passes_the_days_recipients_and_none_waits_for_ever() {
    let many = |n: i64, recipients: usize| {
        let names: Vec<String> = (0..recipients).map(|i| format!("r{i}@x.example")).collect();
        message(n, &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (sizes, days) in [(&[25][..], 3), (&[4, 4, 4], 2), (&[1, 30, 1], 4), (&[10, 1], 2), (&[9, 3, 1], 2)] {
        for max_connections in [1, 3] {
            let limits = Limits { recipients_per_day: 10, max_connections, ..limits() };
            let mut sim = Sim::new(limits, Well, 0);
            sim.queue = (1..).zip(sizes).map(|(n, size)| many(n, *size)).collect();
            sim.run(days * 87_000);
            assert_eq!(sim.delivered.len(), sizes.len(), "{sizes:?}: all of it leaves in {days} days");
            for (from, _) in &sim.served {
                let within = sim.served.iter().filter(|(t, _)| (*from..*from + 86_400.0).contains(t));
                let sum: usize = within.map(|(_, n)| n).sum();
                assert!(sum <= 10, "{sizes:?}: {sum} within a day");
            }
        }
    }
}

#[test]
fn a_message_for_more_than_days_allow_keeps_nobody_waiting_and_is_not_kept_waiting_for_ever() {
    let names: Vec<String> = (0..45).map(|i| format!("r{i}@x.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sim = Sim::new(Limits { recipients_per_day: 10, ..limits() }, Well, 0);
    sim.queue = vec![message(1, &names)];
    // Eight others a day would fit; then ten, which is all there is.
    for n in 0..140_i64 {
        let per_day = if n < 40 { 8 } else { 10 };
        let day = if n < 40 { n / 8 } else { 5 + (n - 40) / 10 };
        let slot = if n < 40 { n % 8 } else { (n - 40) % 10 };
        let mut m = message(n + 2, &["a@x.example"]);
        m.queued_since = RelayTime::from_ms((day * 86_400 + slot * (80_000 / per_day) + 3_600) * 1000);
        m.next_attempt = m.queued_since;
        sim.queue.push(m);
    }
    sim.run(5 * 86_400);
    let late = |sim: &Sim<Well>, id: i64| {
        let begun = sim.queue.iter().find(|m| m.id.number() == id).map(|m| m.queued_since);
        begun.is_some_and(|t| sim.now - t.as_ms() > 2 * 86_400_000)
    };
    assert!((2..42).filter(|id| late(&sim, *id)).count() == 0, "nobody waits for days behind it");
    let served_big = |sim: &Sim<Well>| {
        let small = sim.delivered.iter().filter(|(_, id)| *id > 1).count();
        sim.served.iter().map(|(_, n)| n).sum::<usize>() - small
    };
    assert!(served_big(&sim) >= 10, "what the others leave is its: {}", served_big(&sim));
    sim.run(40 * 86_400);
    assert!(sim.queue.is_empty(), "{} left", sim.queue.len());
}

#[test]
fn recipients_put_off_do_not_keep_the_others_of_a_large_message_from_their_turn() {
    let mut m = message(1, &["a@x.example", "b@x.example", "c@x.example"]);
    m.recipients[0].deferrals.count = 2;
    m.recipients[1].deferrals.count = 1;
    let mut plan = plan(Limits { recipients_per_day: 2, ..limits() });
    plan.handle(Event::Rung, at(0, 0.5));
    let todo = plan.handle(Event::Leased(m), at(0, 0.5));
    let Some(Action::Open { conn, .. }) = todo.first() else { panic!("{todo:?}") };
    let todo = plan.handle(Event::Opened(*conn, *conn), at(1, 0.5));
    assert!(matches!(&todo[..], [Action::Send { to, .. }, ..] if to == &[2, 1]), "{todo:?}");
}

#[test]
fn a_message_that_comes_while_the_last_is_settled_waits_for_its_connection_and_costs_no_login() {
    let mut plan = plan(limits());
    let conn = ConnId(0);
    plan.handle(Event::Rung, at(0, 0.5));
    plan.handle(Event::Leased(message(1, &["a@x.example"])), at(0, 0.5));
    plan.handle(Event::Opened(conn, conn), at(1, 0.5));
    plan.handle(Event::NothingDue(None), at(1, 0.5));
    let taken = Outcome::Taken(Reply::new(250, "2.0.0 OK"));
    let sent = Sent { outcomes: vec![taken], failure: None, usable: true };
    plan.handle(Event::Sent(conn, message(1, &["a@x.example"]), sent, String::new()), at(2, 0.5));
    plan.handle(Event::Rung, at(2, 0.5));
    let todo = plan.handle(Event::Leased(message(2, &["a@x.example"])), at(2, 0.5));
    assert!(todo.iter().all(|a| matches!(a, Action::Lease { .. })), "{todo:?}");
    plan.handle(Event::NothingDue(None), at(2, 0.5));
    let todo = plan.handle(Event::Settled(QueueId::from_number(1)), at(3, 0.5));
    assert!(matches!(&todo[0], Action::Send { over, lease, .. } if (*over, lease.id.number()) == (conn, 2)));
}

#[test]
fn an_old_connection_dropped_by_the_server_costs_the_message_nothing() {
    struct Drops(u32);
    impl Host for Drops {
        fn send(&mut self, _: f64, _: i64) -> Result<(), Failure> {
            self.0 += 1;
            let gone = Failure::new(Stage::Mail, Cause::Network("connection reset".into()));
            if self.0.is_multiple_of(7) { Err(gone) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(limits(), Drops(0), 50);
    sim.run(60);
    assert_eq!(sim.delivered.len(), 50);
    assert!(sim.facts.iter().all(|f| matches!(f, Fact::Delivered { .. })), "{:?}", sim.facts);
}

#[test]
fn what_was_said_before_a_connection_ended_counts_and_its_end_alone_is_the_sessions() {
    let gone = |stage| Failure::new(stage, Cause::Network("the server closed the connection".into()));
    let no = |line| Outcome::Refused(refusal(Stage::Rcpt, line));
    type Row = (&'static str, Vec<Outcome>, Option<Failure>, &'static [&'static str]);
    let rows: Vec<Row> = vec![
        // What each recipient comes to, and whether the account backs off.
        ("all refused", vec![no("550 5.1.1 x"), no("550 5.1.1 y")], None, &["failed", "failed"]),
        (
            "one refused, then gone",
            vec![no("550 5.1.1 x"), Outcome::Untried],
            Some(gone(Stage::Data)),
            &["failed", "pending"],
        ),
        (
            "one put off, then gone",
            vec![no("450 4.2.1 x"), Outcome::Untried],
            Some(gone(Stage::Rcpt)),
            &["pending", "pending"],
        ),
        (
            "an account's fault, then gone",
            vec![no("451 4.7.0 PRX4"), Outcome::Untried],
            Some(gone(Stage::Data)),
            &["pending", "pending", "backs off"],
        ),
        (
            "one refused, then 421",
            vec![Outcome::Untried, no("550 5.1.1 x")],
            Some(refusal(Stage::Data, "421 4.3.2 bye")),
            &["pending", "failed"],
        ),
        (
            "only gone",
            vec![Outcome::Untried, Outcome::Untried],
            Some(gone(Stage::Mail)),
            &["pending", "pending", "backs off"],
        ),
    ];
    for (name, outcomes, failure, expected) in rows {
        let mut plan = plan(limits());
        plan.handle(Event::Rung, at(0, 0.5));
        let m = message(1, &["a@x.example", "b@x.example"]);
        plan.handle(Event::Leased(m.clone()), at(0, 0.5));
        plan.handle(Event::Opened(ConnId(0), ConnId(0)), at(1, 0.5));
        let sent = Sent { outcomes, failure, usable: false };
        let todo = plan.handle(Event::Sent(ConnId(0), m, sent, String::new()), at(2, 0.5));
        let mut said: Vec<&str> = vec![];
        for action in &todo {
            if let Action::Settle(_, settled) = action {
                said.extend(settled.settlement.recipients.iter().map(|r| match r.progress {
                    Progress::Pending => "pending",
                    Progress::Failed(_) => "failed",
                    Progress::Delivered(_) => "delivered",
                }));
            }
        }
        if todo.iter().any(|a| matches!(a, Action::Tell(Fact::BackingOff { .. }))) {
            said.push("backs off");
        }
        assert_eq!(said, expected, "{name}: {todo:?}");
    }
}

#[test]
fn answers_lost_after_the_final_dot_in_a_row_stop_the_account_before_everything_is_doubled() {
    struct Mute;
    impl Host for Mute {
        fn send(&mut self, _: f64, _: i64) -> Result<(), Failure> {
            Err(Failure::new(Stage::FinalDot, Cause::Timeout))
        }
    }
    let mut sim = Sim::new(limits(), Mute, 100);
    sim.run(4);
    let unknown = sim.facts.iter().filter(|f| matches!(f, Fact::OutcomeUnknown { .. })).count();
    assert!(unknown <= 4, "{unknown}");
    assert!(sim.facts.iter().any(|f| matches!(f, Fact::BackingOff { .. })));
}

#[test]
fn a_fault_that_stays_is_called_a_setting_once() {
    struct Stuck;
    impl Host for Stuck {
        fn login(&mut self, _: f64, _: usize) -> Result<(), Failure> {
            Err(prx4(Stage::Auth))
        }
    }
    let mut sim = Sim::new(limits(), Stuck, 5);
    sim.plan.has_worked = true;
    sim.run(900);
    assert!(
        !sim.facts.iter().any(|f| matches!(f, Fact::Persistent { .. })),
        "it worked before: an outage first"
    );
    sim.run(7200);
    let told: Vec<_> = sim.facts.iter().filter(|f| matches!(f, Fact::Persistent { .. })).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((sim.dead.len(), sim.queue.len()), (0, 5));
    assert!(sim.queue.iter().all(|m| m.attempts == 0 && m.recipients[0].progress == Progress::Pending));
    let mut sooner = Sim::new(limits(), Stuck, 5);
    sooner.plan.has_worked = true;
    sooner.another_works = true;
    sooner.run(10);
    assert!(
        sooner.facts.iter().any(|f| matches!(f, Fact::Persistent { why: Why::AnotherWorks, .. })),
        "when another mailbox works, it is said at the second probe"
    );
    let mut at_once = Sim::new(limits(), Stuck, 5);
    at_once.run(1);
    assert!(at_once.facts.iter().any(|f| matches!(f, Fact::Persistent { why: Why::NeverWorked, .. })));
}

#[test]
fn a_paused_account_sends_nothing_until_it_is_resumed() {
    let mut sim = Sim::new(limits(), Well, 10);
    sim.events.insert(0, (0, 0, Event::Paused(true)));
    sim.run(1000);
    assert_eq!((sim.delivered.len(), sim.logins.len()), (0, 0));
    sim.later(0, Event::Paused(false));
    sim.run(1100);
    assert_eq!(sim.delivered.len(), 10);
}

#[test]
fn what_became_due_during_a_pause_leaves_when_it_ends() {
    let mut sim = Sim::new(limits(), Well, 1);
    sim.queue[0].next_attempt = RelayTime::from_ms(5000);
    sim.run(1);
    sim.later(0, Event::Paused(true));
    sim.run(10);
    sim.later(0, Event::Paused(false));
    sim.run(11);
    assert_eq!(sim.delivered.len(), 1);
}

#[test]
fn a_moment_that_passed_before_anybody_asked_is_not_forgotten() {
    let mut sim = Sim::new(limits(), Well, 1);
    sim.queue[0].next_attempt = RelayTime::from_ms(5000);
    sim.run(1);
    // Whoever only looks at the plan may come at any time.
    sim.plan.live(RelayTime::from_ms(5000));
    assert_eq!(sim.plan.wake_at(), Some(RelayTime::from_ms(5000)));
}

#[test]
fn an_account_that_fails_on_a_connection_older_than_its_last_outage_is_not_hammered() {
    struct Relapse;
    impl Host for Relapse {
        fn send(&mut self, now_s: f64, id: i64) -> Result<(), Failure> {
            if id == 3 || now_s > 0.4 { Err(prx4(Stage::Mail)) } else { Ok(()) }
        }
    }
    let mut sim = Sim::new(limits(), Relapse, 100);
    sim.run(4);
    let failed = sim.facts.iter().filter(|f| matches!(f, Fact::BackingOff { .. })).count();
    assert!(failed >= 1);
    assert!(sim.sends < 20, "{} transactions in four seconds", sim.sends);
}

#[test]
fn new_settings_are_not_sent_over_connections_of_the_old() {
    let mut sim = Sim::new(limits(), Well, 100);
    sim.run(1);
    let before = sim.logins.len();
    sim.later(0, Event::Limits(Box::new(Limits { max_connections: 1, ..limits() })));
    sim.run(20);
    assert_eq!((sim.delivered.len(), sim.logins.len()), (100, before + 1));
}

#[test]
fn a_connection_cut_at_a_stop_is_no_outage() {
    let mut sim = Sim::new(limits(), Well, 1);
    sim.run(0);
    let conn = ConnId(0);
    sim.plan.handle(Event::Drain, at(1, 0.5));
    let stopping = Failure::new(Stage::Connect, Cause::Network("stopping".into()));
    let todo = sim.plan.handle(open_failed(conn, stopping), at(1, 0.5));
    assert!(todo.is_empty(), "{todo:?}");
    assert!(sim.plan.is_at_rest());
}

#[test]
fn a_draining_account_finishes_what_is_in_flight_and_rests() {
    let mut sim = Sim::new(limits(), Well, 100);
    sim.run(1);
    let before = sim.delivered.len();
    sim.later(0, Event::Drain);
    sim.run(10);
    assert!((before..=before + 2).contains(&sim.delivered.len()));
    assert!(sim.plan.is_at_rest());
    assert!(sim.leased.is_empty());
}

#[test]
fn a_long_queue_changes_its_connection_every_quarter_of_an_hour() {
    let mut sim = Sim::new(Limits { messages_per_minute: 25, ..limits() }, Well, 1000);
    sim.run(2400);
    assert_eq!(sim.delivered.len(), 1000);
    assert!((3..=45).contains(&sim.logins.len()), "{}", sim.logins.len());
}

#[test]
fn a_restart_does_not_knock_at_a_closed_door() {
    let open = Open {
        kind: Kind::Hold,
        since: RelayTime::from_ms(0),
        next_probe: RelayTime::from_ms(300_000),
        transient: 0,
        refused: 2,
        reason: "AUTH: 535".into(),
        advice: None,
        remedy: vec![],
        told: true,
        told_setting: false,
    };
    let mut sim = Sim::new(limits(), Well, 3);
    sim.plan.breaker = Breaker::resume(Some(open), RelayTime::from_ms(0));
    sim.run(299);
    assert_eq!(sim.logins.len(), 0);
    sim.run(310);
    assert_eq!(sim.delivered.len(), 3);
}

#[test]
fn a_message_that_becomes_due_while_something_else_happens_is_not_slept_over() {
    let ms = RelayTime::from_ms;
    let plan = || {
        let mut plan = plan(limits());
        let begun = plan.handle(Event::Rung, at(0, 0.5));
        assert!(matches!(begun[..], [Action::Lease { .. }]));
        plan
    };
    let leases = |plan: &mut Plan, event, now| {
        let todo = plan.handle(event, at(now, 0.5));
        matches!(todo[..], [Action::Lease { .. }])
    };
    let mut late_answer = plan();
    assert!(leases(&mut late_answer, Event::NothingDue(Some(ms(50))), 60));

    let mut other_event = plan();
    assert!(!leases(&mut other_event, Event::NothingDue(Some(ms(50))), 40));
    // Asked late, it still names the moment that nobody has seen yet.
    assert_eq!(other_event.wake_at(), Some(ms(50)));
    assert!(leases(&mut other_event, Event::Closed(ConnId(7)), 55));
}

/// Each message is to a domain of its own, but for those it says; refuses some.
struct Refuses<F>(Failure, F);
impl<F: Fn(f64, i64) -> bool> Host for Refuses<F> {
    fn send(&mut self, secs: f64, id: i64) -> Result<(), Failure> {
        if (self.1)(secs, id) { Err(self.0.clone()) } else { Ok(()) }
    }
}

fn to_many_domains<H: Host>(limits: Limits, host: H, messages: i64) -> Sim<H> {
    let mut sim = Sim::new(limits, host, messages);
    sim.queue = (1..=messages).map(|n| message(n, &[&format!("a@partner{n}.example")])).collect();
    sim
}

fn held<H: Host>(sim: &Sim<H>) -> usize {
    sim.facts.iter().filter(|f| matches!(f, Fact::Held { .. })).count()
}

const IN_ANOTHERS_WORDS: &[&str] = &[
    "550 5.7.1 Relaying denied",
    "554 5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org",
    "554 5.7.1 <a@b.example>: Relay access denied",
    "550 5.7.64 TenantAttribution; Relay Access Denied",
    "530 5.7.1 Authentication required",
];

#[test]
fn the_words_of_one_recipients_host_stop_nobody_and_end_that_message_alone() {
    for words in IN_ANOTHERS_WORDS {
        let host = Refuses(refusal(Stage::Rcpt, words), |_, id| id == 3);
        let mut sim = to_many_domains(limits(), host, 20);
        sim.plan.has_worked = true;
        sim.run(600);
        assert_eq!((sim.dead.as_slice(), sim.delivered.len()), ([3].as_slice(), 19), "{words}");
        assert_eq!(held(&sim), 0, "{words}");
        assert!(sim.delivered.last().unwrap().0 < 10.0, "{words}: {:?}", sim.delivered.last());
    }
}

#[test]
fn the_same_words_for_everybody_hold_the_account_and_kill_nothing() {
    for words in IN_ANOTHERS_WORDS {
        for (has_login, has_worked) in [(true, true), (true, false), (false, true), (false, false)] {
            let host = Refuses(refusal(Stage::Rcpt, words), |_, _| true);
            let mut sim = to_many_domains(Limits { has_login, ..limits() }, host, 20);
            sim.plan.has_worked = has_worked;
            sim.run(86_400);
            assert!(sim.dead.is_empty(), "{words} {has_login} {has_worked}: {:?}", sim.dead);
            assert!(held(&sim) >= 1, "{words} {has_login} {has_worked}");
        }
    }
}

#[test]
fn what_is_taken_for_the_own_domain_proves_no_right_to_relay() {
    let host = Refuses(refusal(Stage::Rcpt, "550 5.7.1 Relaying denied"), |_, id| id % 2 == 1);
    let mut sim = to_many_domains(limits(), host, 20);
    for m in sim.queue.iter_mut().filter(|m| m.id.number() % 2 == 0) {
        *m = message(m.id.number(), &["a@contoso.com"]);
    }
    sim.plan.has_worked = true;
    sim.run(86_400);
    assert!(sim.dead.is_empty(), "{:?}", sim.dead);
    assert_eq!(sim.delivered.len(), 10);
}

#[test]
fn unknown_words_hold_an_account_that_never_delivered_and_end_a_message_of_one_that_did() {
    for (stage, words) in
        [(Stage::Mail, "550 5.0.0 nope"), (Stage::Rcpt, "554 nope"), (Stage::Data, "550 nope")]
    {
        let mut sim = to_many_domains(limits(), Refuses(refusal(stage, words), |_, _| true), 5);
        sim.run(86_400);
        assert_eq!((sim.dead.len(), held(&sim) >= 1), (0, true), "{stage}: {words}");
        // It was that one alone.
        let mut sim = to_many_domains(limits(), Refuses(refusal(stage, words), |_, id| id == 1), 5);
        sim.run(86_400);
        assert_eq!((sim.dead.as_slice(), sim.delivered.len()), ([1].as_slice(), 4), "{stage}: {words}");
    }
}

#[test]
fn a_connection_out_of_step_is_closed_and_the_message_goes_on_another() {
    let out_of_step = refusal(Stage::Mail, "503 5.5.1 EHLO/HELO first.");
    let host = Refuses(out_of_step, |_, id| id == 4);
    let mut sim = to_many_domains(Limits { max_connections: 1, ..limits() }, host, 8);
    sim.plan.has_worked = true;
    sim.run(600);
    assert!(sim.dead.is_empty() && sim.sends < 40, "{}: {:?}", sim.sends, sim.dead);
    assert!(sim.delivered.len() >= 7, "{:?}", sim.delivered);
}
