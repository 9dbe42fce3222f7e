//! The plan against chance: a smart host of many moods, a queue and connections that answer late and in any order,
//! an admin who pauses, probes, reloads and holds. Whatever happens, what the plan promises holds at every step, and
//! when the world is well again every message leaves.

use super::tests::{Action, Event, Plan, at, open_failed, plan};
use super::*;
use crate::dispatch::settle::Heard;
use crate::dispatch::settle::tests::{message, refusal};
use crate::mail::{Cause, Failure, Reply, Stage};
use crate::policy::verdict::{Blame, judge};
use crate::queue::{Destination, Settlement};
use crate::submit::Outcome;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECOND: i64 = 1000;
/// Moods end here; then all is well.
const WELL_AT: i64 = 6 * 3600 * SECOND;
/// Longer than the slowest limits need for what is queued.
const END: i64 = 20 * 86_400 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Fails so many of a hundred logins or transactions, at any stage.
    Flaky(u32),
    Unreachable,
    Proxy(Stage),
    LoginRefused,
    TenantBlocked,
    TooManyConnections,
    /// Takes the message and loses the answer.
    Mute,
    /// Drops connections in the middle.
    Dropping,
}

enum Step {
    Tell(Event),
    /// The queue looks for a message.
    Look {
        except: Vec<QueueId>,
        now: RelayTime,
    },
    /// A settlement reaches the disk.
    Durable(QueueId, Box<Settlement>),
    Ring,
    /// The peer closes a connection, if it is idle then.
    PeerCloses(ConnId),
    Answer(ConnId, QueuedMessage),
    Arrive(i64),
    Hold(i64),
    Release,
    Mood(Mood),
}

struct Peer {
    idle: bool,
    /// Its task takes no further orders.
    ended: bool,
}

struct World {
    plan: Plan,
    rng: fastrand::Rng,
    now: i64,
    seq: u64,
    /// What was begun and will be answered.
    steps: BTreeMap<(i64, u64), Step>,
    /// What comes from outside.
    script: BTreeMap<(i64, u64), Step>,
    max_connections: usize,
    mood: Mood,
    poison: BTreeSet<i64>,
    refused: BTreeSet<i64>,
    queue: Vec<QueuedMessage>,
    held: Vec<QueuedMessage>,
    leased: BTreeSet<QueueId>,
    rung: bool,
    peers: BTreeMap<ConnId, Peer>,
    /// The connection, and to which of the pending recipients.
    in_flight: BTreeMap<QueueId, (ConnId, Vec<usize>)>,
    /// Taken with an answer: never to be sent to again.
    taken: BTreeSet<(QueueId, String)>,
    recipients_per_day: u32,
    /// When recipients were taken with an answer.
    served: VecDeque<i64>,
    delivered: BTreeSet<QueueId>,
    dead: BTreeSet<QueueId>,
    /// Faults of the account in the last minute, and what allows more of them.
    faults: VecDeque<i64>,
    excuses: VecDeque<i64>,
    /// Connections over which a transaction has gone.
    used: BTreeSet<ConnId>,
    told: u32,
    recent: VecDeque<String>,
}

impl World {
    fn new(seed: u64, messages: i64, limits: Limits) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (max_connections, recipients_per_day) = (limits.max_connections, limits.recipients_per_day);
        let some = |rng: &mut fastrand::Rng| (0..rng.i64(0..3)).map(|_| rng.i64(1..=messages)).collect();
        let (poison, refused) = (some(&mut rng), some(&mut rng));
        Self {
            plan: plan(limits),
            rng,
            now: 0,
            seq: 0,
            steps: BTreeMap::new(),
            script: BTreeMap::new(),
            max_connections,
            mood: Mood::Well,
            poison,
            refused,
            queue: vec![],
            held: vec![],
            leased: BTreeSet::new(),
            rung: false,
            peers: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            taken: BTreeSet::new(),
            recipients_per_day,
            served: VecDeque::new(),
            delivered: BTreeSet::new(),
            dead: BTreeSet::new(),
            faults: VecDeque::new(),
            excuses: VecDeque::new(),
            used: BTreeSet::new(),
            told: 0,
            recent: VecDeque::new(),
        }
    }

    fn at(&mut self, t: i64, step: Step) {
        self.steps.insert((t, self.seq), step);
        self.seq += 1;
    }

    fn script(&mut self, t: i64, step: Step) {
        self.script.insert((t, self.seq), step);
        self.seq += 1;
    }

    /// Within so many milliseconds, or at once.
    fn soon(&mut self, ms: i64, step: Step) {
        let t = self.now + self.rng.i64(0..=ms);
        self.at(t, step);
    }

    fn ring(&mut self) {
        if !std::mem::replace(&mut self.rung, true) {
            self.soon(3, Step::Ring);
        }
    }

    fn chance(&mut self, of_a_hundred: u32) -> bool {
        self.rng.u32(0..100) < of_a_hundred
    }

    fn stage(&mut self) -> Stage {
        [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot][self.rng.usize(0..4)]
    }

    /// Until then, or until nothing more will ever happen.
    fn run(&mut self, until: i64) {
        while self.now < until {
            let wake = self.plan.wake_at().map(RelayTime::as_ms);
            if self.steps.is_empty() && !self.plan.paused && !self.queue.is_empty() {
                let latest = self.now + 25 * 3600 * SECOND;
                assert!(wake.is_some_and(|w| w <= latest), "mail waits and nobody wakes\n{}", self.story());
            }
            let wake = wake.map(|w| w + self.rng.i64(1..=4));
            let begun = self.steps.keys().next().copied();
            let outside = self.script.keys().next().copied();
            let next = [begun, outside].into_iter().flatten().min();
            match (next, wake) {
                (Some(key), w) if w.is_none_or(|w| key.0 <= w) => {
                    let step = self.steps.remove(&key).or_else(|| self.script.remove(&key)).unwrap();
                    self.now = key.0;
                    self.step(step);
                }
                (_, Some(w)) => {
                    self.now = self.now.max(w);
                    self.tell(Event::Woken);
                }
                _ => return,
            }
        }
    }

    fn story(&self) -> String {
        let lines: Vec<_> = self.recent.iter().cloned().collect();
        format!(
            "at {}, queue {:?}, leased {:?}\n{}\n{:#?}",
            self.now,
            self.queue.iter().map(|m| (m.id.number(), m.next_attempt)).collect::<Vec<_>>(),
            self.leased,
            lines.join("\n"),
            self.plan
        )
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Tell(event) => self.tell(event),
            Step::Ring => {
                self.rung = false;
                self.tell(Event::Rung);
            }
            Step::Look { except, now } => self.look(&except, now),
            Step::Durable(id, settlement) => self.durable(id, *settlement),
            Step::PeerCloses(conn) => {
                if let Some(p) = self.peers.get_mut(&conn)
                    && p.idle
                    && !p.ended
                {
                    p.ended = true;
                    self.soon(3, Step::Tell(Event::Closed(conn)));
                }
            }
            Step::Answer(conn, lease) => self.answer(conn, lease),
            Step::Arrive(n) => {
                let many = if self.chance(20) { self.rng.usize(2..9) } else { 1 };
                let names: Vec<String> = (0..many).map(|i| format!("r{i}@contoso.com")).collect();
                let mut m = message(n, &names.iter().map(String::as_str).collect::<Vec<_>>());
                m.queued_since = RelayTime::from_ms(self.now);
                m.next_attempt = m.queued_since;
                self.queue.push(m);
                self.ring();
            }
            Step::Hold(n) => {
                let free = |m: &QueuedMessage| m.id.number() == n && !self.leased.contains(&m.id);
                if let Some(i) = self.queue.iter().position(free) {
                    self.held.push(self.queue.remove(i));
                }
            }
            Step::Release => {
                if !self.held.is_empty() {
                    self.queue.append(&mut self.held);
                    self.queue.sort_by_key(|m| m.id);
                    self.ring();
                }
            }
            Step::Mood(mood) => self.mood = mood,
        }
    }

    fn look(&mut self, except: &[QueueId], now: RelayTime) {
        if self.chance(1) {
            return self.soon(2, Step::Tell(Event::LeaseFailed));
        }
        let free = |m: &&QueuedMessage| !self.leased.contains(&m.id) && !except.contains(&m.id);
        let found = self.queue.iter().filter(free).find(|m| m.next_attempt <= now).cloned();
        let deferred = self.queue.iter().filter(free).map(|m| m.next_attempt).min();
        let event = match found {
            Some(m) => {
                self.leased.insert(m.id);
                Event::Leased(m)
            }
            None => Event::NothingDue(deferred),
        };
        self.soon(5, Step::Tell(event));
    }

    fn durable(&mut self, id: QueueId, s: Settlement) {
        let i = self.queue.iter().position(|m| m.id == id).expect("what is leased is queued");
        match s.to {
            Destination::Queued(t) => {
                let m = &mut self.queue[i];
                (m.recipients, m.attempts, m.next_attempt) = (s.recipients, s.attempts, t);
            }
            Destination::Dead => {
                self.queue.remove(i);
                self.dead.insert(id);
            }
            Destination::Delivered => {
                self.queue.remove(i);
                self.delivered.insert(id);
            }
        }
        self.leased.remove(&id);
        self.ring();
        self.soon(2, Step::Tell(Event::Settled(id)));
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::OpenFailed(conn, _) | Event::Closed(conn) => {
                self.peers.remove(conn);
            }
            Event::Limits(l) => {
                self.max_connections = l.max_connections;
                self.recipients_per_day = l.recipients_per_day;
                self.excuses.push_back(self.now);
            }
            Event::Probe => self.excuses.push_back(self.now),
            _ => {}
        }
        let (mut is_account, mut is_session) = (false, false);
        if let Event::Sent(conn, _, sent, _) = &event {
            let sent = Sent { outcomes: sent.outcomes.clone(), failure: sent.failure.clone(), usable: true };
            let blame = Heard::new(sent, Standing::GOOD).account_fault().map(|f| f.verdict.blame);
            is_account = matches!(blame, Some(Blame::Account | Blame::Tenant));
            is_session = blame == Some(Blame::Session) && self.used.contains(conn);
            self.used.insert(*conn);
        }
        self.told += 1;
        assert!(self.told < 200_000, "it spins\n{}", self.story());
        let said = format!("{:>10} {event:?}", self.now);
        let jitter = self.rng.f64();
        let todo = self.plan.handle(event, at(self.now, jitter));
        self.recent.push_back(format!("{said} -> {todo:?}"));
        if self.recent.len() > 40 {
            self.recent.pop_front();
        }
        for action in todo {
            let recovered = matches!(action, Action::Tell(Fact::Recovered { .. }));
            assert!(!(recovered && is_account), "a fault of the account ends its outage\n{}", self.story());
            let failed = matches!(action, Action::Tell(Fact::BackingOff { .. }));
            assert!(!(failed && is_session), "an old connection's end is an outage\n{}", self.story());
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Lease { except } => {
                let now = RelayTime::from_ms(self.now);
                self.soon(5, Step::Look { except, now });
            }
            Action::Open { conn, .. } => {
                self.peers.insert(conn, Peer { idle: false, ended: false });
                assert!(self.peers.len() <= self.max_connections, "too many connections\n{}", self.story());
                self.only_probe();
                let event = match self.login() {
                    Ok(()) => Event::Opened(conn, conn),
                    Err(f) => {
                        self.fault();
                        open_failed(conn, f)
                    }
                };
                let t = self.now + self.rng.i64(20..3000);
                if matches!(event, Event::Opened(..)) {
                    self.peers.get_mut(&conn).unwrap().idle = true;
                    self.may_close(conn, t);
                }
                self.at(t, Step::Tell(event));
            }
            Action::Send { over: conn, lease, to } => {
                let id = lease.id;
                assert!(self.leased.contains(&id), "sent without a lease\n{}", self.story());
                let pending = self.pending(id);
                for place in &to {
                    let again = self.taken.contains(&(id, pending[*place].clone()));
                    assert!(!again, "sent twice\n{}", self.story());
                }
                self.within_the_day(to.len());
                let before = self.in_flight.insert(id, (conn, to));
                assert!(before.is_none(), "at two connections\n{}", self.story());
                let peer = self.peers.get_mut(&conn);
                if peer.as_ref().is_none_or(|p| p.ended) {
                    let gone = lost(Stage::Mail, "the connection was closed while idle");
                    let untouched = Sent { outcomes: vec![Outcome::Untried; pending.len()], ..gone };
                    self.in_flight.remove(&id);
                    return self.soon(3, Step::Tell(Event::Sent(conn, lease, untouched, String::new())));
                }
                assert!(std::mem::replace(&mut peer.unwrap().idle, false), "not idle\n{}", self.story());
                self.only_probe();
                let long = if self.chance(5) { 60_000 } else { 300 };
                self.soon(long, Step::Answer(conn, lease));
            }
            Action::Close(conn) => {
                if let Some(p) = self.peers.get_mut(&conn)
                    && !std::mem::replace(&mut p.ended, true)
                {
                    self.soon(300, Step::Tell(Event::Closed(conn)));
                }
            }
            Action::Settle(lease, settled) => {
                assert!(self.leased.contains(&lease.id));
                self.soon(20, Step::Durable(lease.id, Box::new(settled.settlement)));
            }
            Action::Return(lease) => {
                assert!(self.leased.remove(&lease.id));
                self.ring();
            }
            Action::Tell(_) | Action::Remember(_) | Action::HoldTenant(_) => {}
        }
    }

    fn only_probe(&self) {
        let now = RelayTime::from_ms(self.now);
        assert!(!self.plan.paused, "moves while paused\n{}", self.story());
        if let Some(open) = self.plan.breaker.open() {
            assert!(now >= open.next_probe, "a probe too early\n{}", self.story());
            let moving = self.peers.values().filter(|p| !p.idle && !p.ended).count();
            assert_eq!(moving, 1, "more than a probe\n{}", self.story());
        }
    }

    /// A fault of the account: at most one for each connection and for the growing before the next probe.
    fn fault(&mut self) {
        self.faults.push_back(self.now);
        for times in [&mut self.faults, &mut self.excuses] {
            while times.front().is_some_and(|t| *t < self.now - 60 * SECOND) {
                times.pop_front();
            }
        }
        let allowed = (15 + self.excuses.len()) * (self.max_connections + 1);
        assert!(self.faults.len() <= allowed, "the account is hammered\n{}", self.story());
    }

    fn login(&mut self) -> Result<(), Failure> {
        let mood = self.mood;
        match mood {
            Mood::Unreachable => Err(Failure::new(Stage::Connect, Cause::Timeout)),
            Mood::Proxy(stage) if !stage.is_after_auth() => Err(refusal(stage, PRX4)),
            Mood::LoginRefused => Err(refusal(Stage::Auth, "535 5.7.3 Authentication unsuccessful")),
            Mood::TenantBlocked => Err(refusal(Stage::Auth, "550 5.7.705 tenant has exceeded threshold")),
            Mood::Flaky(n) if self.chance(n / 2) => Err(refusal(Stage::Auth, PRX4)),
            _ => Ok(()),
        }
    }

    fn pending(&self, id: QueueId) -> Vec<String> {
        let m = self.queue.iter().find(|m| m.id == id).expect("what is leased is queued");
        m.pending().map(ToString::to_string).collect()
    }

    fn within_the_day(&mut self, recipients: usize) {
        while self.served.front().is_some_and(|t| *t <= self.now - 86_400 * SECOND) {
            self.served.pop_front();
        }
        let flying: usize = self.in_flight.values().map(|(_, to)| to.len()).sum();
        let limit = usize::try_from(self.recipients_per_day).unwrap();
        let fits = limit == 0 || self.served.len() + flying + recipients <= limit;
        assert!(fits && recipients > 0, "{recipients} pass the day's limit\n{}", self.story());
    }

    fn answer(&mut self, conn: ConnId, lease: QueuedMessage) {
        let id = lease.id;
        let n = id.number();
        let pending = self.pending(id);
        let (_, to) = self.in_flight.remove(&id).expect("what is answered was sent");
        let sent = self.said(n, &pending, &to);
        match &sent.failure {
            None if sent.outcomes.iter().any(|o| matches!(o, Outcome::Taken(_))) => {
                for place in &to {
                    self.taken.insert((id, pending[*place].clone()));
                    self.served.push_back(self.now);
                }
            }
            Some(f)
                if matches!(judge(f).blame, Blame::Account | Blame::Tenant) && !self.poison.contains(&n) =>
            {
                self.fault();
            }
            _ => {}
        }
        let usable = sent.usable;
        if usable {
            self.peers.get_mut(&conn).unwrap().idle = true;
            self.may_close(conn, self.now);
        } else {
            self.peers.get_mut(&conn).unwrap().ended = true;
        }
        self.at(self.now, Step::Tell(Event::Sent(conn, lease, sent, String::new())));
        if !usable {
            self.soon(3000, Step::Tell(Event::Closed(conn)));
        }
    }

    /// What the smart host says to it, by its mood.
    fn said(&mut self, n: i64, pending: &[String], to: &[usize]) -> Sent {
        let mood = self.mood;
        let mut sent = match mood {
            _ if self.poison.contains(&n) && self.now < WELL_AT => refused(Stage::FinalDot, PRX4),
            _ if self.refused.contains(&n) => refused(Stage::Rcpt, "550 5.1.1 no such user"),
            Mood::Proxy(stage) if stage.is_after_auth() => refused(stage, PRX4),
            Mood::TooManyConnections if self.peers.len() > 1 => {
                refused(Stage::FinalDot, "432 4.3.2 sender thread limit exceeded")
            }
            Mood::Mute => lost(Stage::FinalDot, "reset"),
            Mood::Dropping => {
                let stage = self.stage();
                lost(stage, "reset")
            }
            Mood::Flaky(p) if self.chance(p) => {
                let stage = self.stage();
                match self.rng.u32(0..4) {
                    0 => refused(stage, PRX4),
                    1 => refused(stage, "450 4.2.1 mailbox busy"),
                    2 => lost(stage, "421 closing"),
                    _ => refused(stage, "432 4.3.2 sender thread limit exceeded"),
                }
            }
            _ => {
                let mut outcomes = vec![Outcome::Untried; pending.len()];
                for place in to {
                    outcomes[*place] = Outcome::Taken(Reply::new(250, "2.0.0 OK"));
                }
                Sent { outcomes, failure: None, usable: true }
            }
        };
        if sent.outcomes.len() != pending.len() {
            // Said of the first that it was sent to; some servers hang up on it.
            let mut outcomes = vec![Outcome::Untried; pending.len()];
            outcomes[to[0]] = sent.outcomes.remove(0);
            let hangs_up = matches!(outcomes[to[0]], Outcome::Refused(_)) && self.chance(30);
            let gone = hangs_up && outcomes.contains(&Outcome::Untried);
            let cut = Failure::new(Stage::Data, Cause::Network("closed".into()));
            sent = Sent {
                outcomes,
                failure: if gone { Some(cut) } else { sent.failure },
                usable: sent.usable && !hangs_up,
            };
        }
        sent
    }

    /// The peer closes some connections in their idle time, most of all at the moment they are wanted.
    fn may_close(&mut self, conn: ConnId, from: i64) {
        if self.chance(15) {
            let t = from + if self.chance(50) { self.rng.i64(1..40) } else { self.rng.i64(1..60 * SECOND) };
            self.at(t, Step::PeerCloses(conn));
        }
    }
}

const PRX4: &str = "451 4.7.0 Temporary server error. Please try again later. PRX4";

fn refused(stage: Stage, line: &str) -> Sent {
    let failure = refusal(stage, line);
    if stage == Stage::Rcpt {
        return Sent { outcomes: vec![Outcome::Refused(failure)], failure: None, usable: true };
    }
    Sent { outcomes: vec![Outcome::Untried], failure: Some(failure), usable: true }
}

fn lost(stage: Stage, why: &str) -> Sent {
    let failure = Failure::new(stage, Cause::Network(why.to_owned()));
    Sent { outcomes: vec![Outcome::Untried], failure: Some(failure), usable: false }
}

fn mood(rng: &mut fastrand::Rng) -> Mood {
    let stages =
        [Stage::Connect, Stage::Tls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot];
    match rng.u32(0..12) {
        0 => Mood::Flaky(rng.u32(1..30)),
        1 => Mood::Flaky(rng.u32(30..100)),
        2 => Mood::Unreachable,
        3 | 4 => Mood::Proxy(stages[rng.usize(0..stages.len())]),
        5 => Mood::LoginRefused,
        6 => Mood::TenantBlocked,
        7 => Mood::TooManyConnections,
        8 => Mood::Mute,
        9 => Mood::Dropping,
        _ => Mood::Well,
    }
}

fn limits(rng: &mut fastrand::Rng) -> Limits {
    Limits {
        max_connections: rng.usize(1..4),
        messages_per_minute: [0, 0, 1, 5, 25][rng.usize(0..5)],
        recipients_per_day: [0, 0, 10, 100][rng.usize(0..4)],
        has_login: true,
        way_in: String::new(),
        retry: Retry::default(),
    }
}

fn world(seed: u64, messages: i64, troubles: usize) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed, messages, limits(&mut rng));
    world.script(0, Step::Tell(Event::Rung));
    for n in 1..=messages {
        let t = if rng.bool() { 0 } else { rng.i64(0..WELL_AT) };
        world.script(t, Step::Arrive(n));
    }
    for _ in 0..troubles {
        // Most of it within minutes of each other.
        let span = if rng.bool() { 300 * SECOND } else { WELL_AT };
        let t = rng.i64(0..span);
        let step = match rng.u32(0..12) {
            0 => Step::Tell(Event::Paused(rng.bool())),
            1 => Step::Tell(Event::Probe),
            2 => Step::Tell(Event::Limits(Box::new(limits(&mut rng)))),
            3 => {
                let failed = Judged::early(refusal(Stage::Auth, "550 5.7.705 threshold"));
                Step::Tell(Event::TenantHeld(Box::new(failed)))
            }
            4 => Step::Hold(rng.i64(1..=messages)),
            5 => Step::Release,
            _ => Step::Mood(mood(&mut rng)),
        };
        world.script(t, step);
    }
    world.script(WELL_AT, Step::Mood(Mood::Well));
    world.script(WELL_AT, Step::Release);
    world.script(WELL_AT, Step::Tell(Event::Paused(false)));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_message_ends_and_no_promise_is_broken(
        seed in any::<u64>(), messages in 1_i64..40, troubles in 0_usize..40,
    ) {
        let mut world = world(seed, messages, troubles);
        world.run(END);
        let ended = world.delivered.len() + world.dead.len();
        prop_assert!(ended == usize::try_from(messages).unwrap(), "not all have left\n{}", world.story());
    }

    #[test]
    fn whenever_it_is_told_to_stop_it_comes_to_rest(
        seed in any::<u64>(), messages in 1_i64..40, troubles in 0_usize..40, at in 0..300 * SECOND,
    ) {
        let mut world = world(seed, messages, troubles);
        world.run(at);
        world.tell(Event::Drain);
        // What is in flight is answered; nothing is left to the clock.
        while let Some(((t, _), step)) = world.steps.pop_first() {
            world.now = t;
            world.step(step);
        }
        prop_assert!(world.plan.is_at_rest(), "{}", world.story());
    }
}
