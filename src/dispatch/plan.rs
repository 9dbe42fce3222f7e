//! One account's plan: events and `now` in, actions out. No I/O, no clock, no randomness.
//!
//! Invariant: never more than `max_connections` connections exist, closing ones included, and none is opened beyond
//! the number the server last took; while the breaker is open nothing moves but one probe; a leased message is always waiting, being sent or being settled, and its
//! connection takes no other before the settlement is durable.
//! Must not know: how a message is stored or sent.

use super::settle::{self, Moment, Notify, Settled};
use crate::events::dispatch::Fact;
use crate::mail::{Failure, Progress, QueueId, QueuedMessage, RelayTime, WallTime};
use crate::policy::breaker::{Breaker, Kind, Known, Lasting, Open};
use crate::policy::expiry::Expiry;
use crate::policy::schedule::{self, Retry};
use crate::policy::throttle::Throttle;
use crate::policy::verdict::{Action as Do, Blame, Standing, Verdict, judge, judge_for};
use crate::queue::{Destination, Settlement};
use crate::submit::{Outcome, Sent};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// An idle connection is closed after this: Exchange Online drops it at about five minutes.
const IDLE: Duration = Duration::from_secs(60);
/// A connection is not used for longer than this: Exchange Online ends sessions at about twenty minutes.
const AGE: Duration = Duration::from_secs(15 * 60);
/// After a server found them too many, one connection is added again this long after the last.
const RAISE: Duration = Duration::from_secs(600);
/// How long after a failed read of the queue it is asked again.
const QUEUE_RETRY: Duration = Duration::from_secs(1);
/// A message sent in part lets others go first for no longer than this: in a week there is room for its next part.
const YIELDS: Duration = Duration::from_secs(7 * 86_400);
/// Lost answers in a row after which the account backs off.
const MAX_UNKNOWN: u32 = 2;
/// Messages remembered as having met the account's fault after the login.
const MAX_SUSPECTS: usize = 32;

/// What a plan needs to know of its account.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) smart_host: String,
    pub(crate) max_connections: usize,
    pub(crate) messages_per_minute: u32,
    pub(crate) recipients_per_day: u32,
    /// It logs in: the server knows it by more than this site's address.
    pub(crate) has_login: bool,
    pub(crate) retry: Retry,
}

/// A connection of this account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnId(pub(crate) u64);

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Time passed, or something arrived.
    Woken,
    /// Something may have become due.
    Rung,
    /// The queue handed out a message.
    Leased(QueuedMessage),
    /// The queue has nothing due; the next moment something is, if any.
    NothingDue(Option<RelayTime>),
    /// The queue could not be read.
    LeaseFailed,
    /// A connection is logged in.
    Opened(ConnId),
    /// A connection could not be made; it is gone.
    OpenFailed(ConnId, Failure),
    /// A transaction ended.
    Sent(ConnId, QueueId, Sent, String),
    /// A settlement is durable.
    Settled(QueueId),
    /// A connection is gone, and the peer knows.
    Closed(ConnId),
    /// The admin stops or restarts the account.
    Paused(bool),
    /// The admin says it is mended.
    Kick,
    /// Another account met a fault of the whole tenant.
    TenantHeld(Failure),
    /// New settings.
    Limits(Box<Limits>),
    /// The service stops: finish what is in flight, begin nothing.
    Drain,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Ask the queue for one message, passing over these.
    Lease { except: Vec<QueueId> },
    /// Connect and log in, at the n-th address of the smart host (modulo their number).
    Open { conn: ConnId, nth_address: usize },
    /// Send to these of the pending recipients, by their places among them and in this order.
    Send { conn: ConnId, id: QueueId, to: Vec<usize> },
    /// Say QUIT and wait for the peer to close.
    Close { conn: ConnId },
    /// Settle durably, with notices.
    Settle {
        id: QueueId,
        settlement: Box<Settlement>,
        notify: Notify,
        advice: Option<crate::policy::advice::Advice>,
        failure: Option<Failure>,
    },
    /// Hand a message back unchanged.
    Return { id: QueueId },
    /// Keep the breaker's state over a restart.
    Persist(Option<Open>),
    /// Log and count.
    Tell(Fact),
    /// Other accounts of the tenant are held, too.
    HoldTenant(Failure),
    /// Remember that it works with these settings.
    Works,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Opening,
    Idle { since: RelayTime },
    Busy(QueueId),
    Settling(QueueId),
    Closing,
}

#[derive(Debug)]
struct Conn {
    state: Use,
    opened: RelayTime,
    sent: u32,
    /// Opened with settings that hold no more: takes no further message.
    stale: bool,
    /// The outages that had begun when its login or latest transaction began: what began before the present one
    /// proves nothing new.
    outage: u64,
    /// Others existed then.
    beside_others: bool,
}

/// What the queue is believed to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Unknown,
    Nothing,
    NotBefore(RelayTime),
}

/// A refusal that may be the words of the recipient's own host: it stays with the message until another domain is
/// refused so, too, and nothing was taken in between.
#[derive(Debug)]
struct Doubt {
    domain: String,
    /// Recipients beyond the account's own domain were taken since: it was that host's.
    disproved: bool,
}

/// What `status` shows of an account.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Connections that exist.
    pub connections: usize,
    /// Transactions begun within the last minute.
    pub messages_last_minute: usize,
    /// Recipients served within a day.
    pub recipients_today: u32,
    /// The breaker, while open.
    pub open: Option<Open>,
    /// Stopped by the admin.
    pub paused: bool,
    /// When the account's pace allows the next message, if it has to wait.
    pub throttled_until: Option<RelayTime>,
    /// When the credential for access tokens ends, where that is known.
    pub expiry: Option<Expiry>,
}

/// The plan of one account.
#[derive(Debug)]
pub(crate) struct Plan {
    limits: Limits,
    breaker: Breaker,
    throttle: Throttle,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    leased: BTreeMap<QueueId, QueuedMessage>,
    /// For how many recipients each transaction in flight is.
    in_flight: BTreeMap<QueueId, u32>,
    /// Being settled; whether it is to be tried again. The queue may hand it out anew before we hear of its end.
    settling: BTreeMap<QueueId, bool>,
    outages: u64,
    waiting: VecDeque<QueueId>,
    leasing: bool,
    rung_while_leasing: bool,
    due: Due,
    handled_at: RelayTime,
    /// Met the account's fault after the login, in this outage: probes pass them over while there are others.
    suspects: VecDeque<QueueId>,
    /// Suspects of a past outage that another message's success ended: the next such fault is their own.
    marked: VecDeque<QueueId>,
    pass_over_suspects: bool,
    /// Sent in part for want of room in the day, and when: others go first meanwhile, so that a message for thousands
    /// does not keep everybody waiting.
    in_part: BTreeMap<QueueId, RelayTime>,
    pass_over_parts: bool,
    allowed: usize,
    raise_at: RelayTime,
    grow_after: RelayTime,
    grow_failures: u32,
    unknown_in_a_row: u32,
    doubt: Option<Doubt>,
    known: Known,
    nth_address: usize,
    paused: bool,
    draining: bool,
}

impl Plan {
    pub(crate) fn new(limits: Limits, breaker: Breaker, throttle: Throttle, paused: bool) -> Self {
        Self {
            allowed: limits.max_connections,
            limits,
            breaker,
            throttle,
            conns: BTreeMap::new(),
            next_conn: 0,
            leased: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            settling: BTreeMap::new(),
            outages: 0,
            waiting: VecDeque::new(),
            leasing: false,
            rung_while_leasing: false,
            due: Due::Unknown,
            handled_at: RelayTime::default(),
            suspects: VecDeque::new(),
            marked: VecDeque::new(),
            pass_over_suspects: true,
            in_part: BTreeMap::new(),
            pass_over_parts: true,
            raise_at: RelayTime::default(),
            grow_after: RelayTime::default(),
            grow_failures: 0,
            unknown_in_a_row: 0,
            doubt: None,
            known: Known::default(),
            nth_address: 0,
            paused,
            draining: false,
        }
    }

    /// Whether another mailbox works at the same smart host: then a fault here is this mailbox's own.
    pub(crate) fn set_another_works(&mut self, works: bool) {
        self.known.another_works = works;
    }

    /// Whether it has worked before, with the settings it has now.
    pub(crate) fn set_has_worked(&mut self, worked: bool) {
        self.known.has_worked = worked;
    }

    /// For `status`.
    pub(crate) fn live(&mut self, now: RelayTime) -> Live {
        let opens = self.throttle.opens_at(now);
        Live {
            connections: self.conns.len(),
            messages_last_minute: self.throttle.messages_last_minute(),
            recipients_today: self.throttle.recipients_today(),
            open: self.breaker.open().cloned(),
            paused: self.paused,
            throttled_until: (opens > now).then_some(opens),
            expiry: None,
        }
    }

    /// Nothing is in flight and no connection is left: a drained account may be dropped.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.conns.is_empty() && self.leased.is_empty() && self.settling.is_empty() && !self.leasing
    }

    /// The next moment after the last event at which time alone changes something; `None`: only an event does.
    /// It may have passed by the time this is asked: then it is due, not forgotten.
    pub(crate) fn wake_at(&mut self) -> Option<RelayTime> {
        let now = self.handled_at;
        let mut times: Vec<RelayTime> = Vec::new();
        for c in self.conns.values() {
            if let Use::Idle { since } = c.state {
                times.push((since + IDLE).min(c.opened + AGE));
            }
        }
        if self.draining || self.paused {
            return times.into_iter().min();
        }
        let work = self.due != Due::Nothing || !self.waiting.is_empty();
        if let Due::NotBefore(t) = self.due {
            times.push(t);
        }
        if work {
            if let Some(open) = self.breaker.open() {
                times.push(open.next_probe);
            }
            let opens = self.throttle.opens_at(now);
            if opens > now {
                times.push(opens);
            }
            if self.grow_after > now {
                times.push(self.grow_after);
            }
        }
        if self.allowed < self.limits.max_connections {
            times.push(self.raise_at);
        }
        times.into_iter().filter(|t| *t > now).min()
    }

    /// Takes one event; returns what to do, in order.
    pub(crate) fn handle(
        &mut self,
        event: Event,
        now: RelayTime,
        wall: WallTime,
        jitter: f64,
    ) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Woken => {}
            Event::Rung => {
                self.due = Due::Unknown;
                self.rung_while_leasing = self.leasing;
            }
            Event::Leased(message) => {
                self.leasing = false;
                self.rung_while_leasing = false;
                self.pass_over_parts = true;
                self.waiting.push_back(message.id);
                self.leased.insert(message.id, message);
            }
            Event::NothingDue(next) => {
                self.leasing = false;
                if std::mem::take(&mut self.rung_while_leasing) {
                    self.due = Due::Unknown;
                } else if self.passing_over() {
                    self.pass_over_suspects = false;
                } else if self.breaker.is_closed() && self.pass_over_parts && !self.in_part.is_empty() {
                    self.pass_over_parts = false;
                } else {
                    self.due = next.map_or(Due::Nothing, Due::NotBefore);
                }
            }
            Event::LeaseFailed => {
                self.leasing = false;
                self.due = Due::NotBefore(now + QUEUE_RETRY);
            }
            Event::Opened(conn) => {
                self.grow_failures = 0;
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.state = Use::Idle { since: now };
                    c.opened = now;
                }
            }
            Event::OpenFailed(conn, failure) => self.open_failed(conn, &failure, now, jitter, &mut todo),
            Event::Sent(conn, id, sent, host) => {
                let at = Moment {
                    now,
                    wall,
                    jitter,
                    retry: &self.limits.retry.clone(),
                    host: &host,
                    theirs: false,
                };
                self.sent(conn, id, &sent, at, &mut todo);
            }
            Event::Settled(id) => self.settled(id, now),
            Event::Closed(conn) => {
                self.conns.remove(&conn);
            }
            Event::Paused(paused) => self.paused = paused,
            Event::Kick => {
                self.breaker.kick(now);
                self.due = Due::Unknown;
            }
            Event::TenantHeld(failure) => {
                self.account_failed(&judge(&failure), &failure, now, jitter, &mut todo);
            }
            Event::Limits(limits) => {
                self.throttle.set_limits(limits.messages_per_minute, limits.recipients_per_day);
                self.allowed = limits.max_connections;
                self.limits = *limits;
                self.conns.values_mut().for_each(|c| c.stale = true);
                self.breaker.kick(now);
            }
            Event::Drain => self.draining = true,
        }
        self.advance(now, &mut todo);
        todo
    }

    /// Begins whatever may begin now.
    fn advance(&mut self, now: RelayTime, todo: &mut Vec<Action>) {
        self.handled_at = now;
        // Whatever woke us: the moment may have passed while paused, or between the queue's answer and now.
        if matches!(self.due, Due::NotBefore(t) if t <= now) {
            self.due = Due::Unknown;
        }
        self.close_old(now, todo);
        if self.draining || self.paused {
            self.return_waiting(todo);
            self.close_idle(todo);
            return;
        }
        if self.allowed < self.limits.max_connections && now >= self.raise_at {
            self.allowed += 1;
            self.raise_at = now + RAISE;
        }
        if self.breaker.is_closed() {
            self.flow(now, todo);
        } else if self.breaker.may_probe(now) {
            self.probe(now, todo);
        } else {
            self.return_waiting(todo);
            self.close_idle(todo);
        }
    }

    /// Everything is well: as many connections as there is work for.
    fn flow(&mut self, now: RelayTime, todo: &mut Vec<Action>) {
        while let (Some(conn), false) = (self.idle(), self.waiting.is_empty()) {
            if self.throttle.slots(now) == 0 {
                break;
            }
            self.send(conn, now, todo);
        }
        let slots = self.throttle.slots(now);
        if slots == 0 {
            self.return_waiting(todo);
            return;
        }
        // The first login alone: a refused one must not be tried twice in the same breath.
        let opening = self.count(|u| u == Use::Opening);
        let may_open = if self.has_working_connection() { now >= self.grow_after } else { opening == 0 };
        if may_open && self.waiting.len() > opening && self.conns.len() < self.allowed {
            self.open(now, todo);
        }
        if self.waiting.len() < self.allowed.min(slots) {
            self.in_part.retain(|_, at| now.since(*at) < YIELDS);
            let except = if self.pass_over_parts { self.in_part.keys().copied().collect() } else { vec![] };
            self.lease(todo, except);
        }
    }

    /// The account is in doubt: one connection, one message.
    fn probe(&mut self, now: RelayTime, todo: &mut Vec<Action>) {
        let in_flight = self.conns.values().any(|c| !matches!(c.state, Use::Idle { .. }));
        if in_flight || self.throttle.slots(now) == 0 {
            return;
        }
        if self.waiting.is_empty() {
            let except = if self.passing_over() { self.suspects.iter().copied().collect() } else { vec![] };
            self.lease(todo, except);
            return;
        }
        match self.idle() {
            Some(conn) => self.send(conn, now, todo),
            None => self.open(now, todo),
        }
    }

    fn passing_over(&self) -> bool {
        !self.breaker.is_closed() && self.pass_over_suspects && !self.suspects.is_empty()
    }

    fn lease(&mut self, todo: &mut Vec<Action>, except: Vec<QueueId>) {
        if !self.leasing && self.due == Due::Unknown {
            self.leasing = true;
            todo.push(Action::Lease { except });
        }
    }

    fn open(&mut self, now: RelayTime, todo: &mut Vec<Action>) {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let (outage, beside_others) = (self.outages, !self.conns.is_empty());
        let opening = Conn { state: Use::Opening, opened: now, sent: 0, stale: false, outage, beside_others };
        self.conns.insert(conn, opening);
        todo.push(Action::Open { conn, nth_address: self.nth_address });
    }

    fn send(&mut self, conn: ConnId, now: RelayTime, todo: &mut Vec<Action>) {
        let id = self.waiting.pop_front().expect("the caller saw a waiting message");
        let beside_others = self.conns.len() > 1;
        let c = self.conns.get_mut(&conn).expect("the caller saw the connection");
        (c.state, c.outage, c.beside_others) = (Use::Busy(id), self.outages, beside_others);
        let mut to = in_turn(&self.leased[&id]);
        let room = usize::try_from(self.throttle.recipients_left(now)).unwrap_or(usize::MAX);
        if to.len() > room {
            to.truncate(room);
            self.in_part.insert(id, now);
        }
        let recipients = u32::try_from(to.len()).unwrap_or(u32::MAX);
        self.throttle.begin(now, recipients);
        self.in_flight.insert(id, recipients);
        todo.push(Action::Send { conn, id, to });
    }

    fn sent(&mut self, conn: ConnId, id: QueueId, sent: &Sent, at: Moment<'_>, todo: &mut Vec<Action>) {
        let message = self.leased.remove(&id).expect("a message is leased until it is settled");
        let recipients = self.in_flight.remove(&id).unwrap_or_default();
        self.throttle.end(recipients);
        // One that is gone already closed while idle, and the order crossed its end.
        let (mut fresh, mut outage, mut beside_others) = (false, self.outages, self.conns.len() > 1);
        if let Some(c) = self.conns.get_mut(&conn) {
            (fresh, outage, beside_others) = (c.sent == 0, c.outage, beside_others || c.beside_others);
            c.sent += 1;
            c.state = if sent.usable { Use::Settling(id) } else { Use::Closing };
        }
        let theirs = self.hears_taken(&message, sent);
        let at = Moment { theirs, ..at };
        // The connection ended in the middle, and what was said of recipients before that stands.
        let mut cut_short = false;
        let standing = self.standing();
        if let Some(failure) = account_fault(sent, standing) {
            let mut verdict = judge_for(failure, standing);
            if verdict.blame == Blame::Session {
                // One that is out of step stays so.
                if self.conns.get(&conn).is_some_and(|c| c.state != Use::Closing) {
                    self.close_where(todo, |k, _| k == conn);
                }
                cut_short =
                    sent.failure.is_some() && sent.outcomes.iter().any(|o| matches!(o, Outcome::Refused(_)));
                if !cut_short && (!fresh || self.draining) {
                    // An old connection was dropped under us; a fresh one will do. At a stop we cut it ourselves.
                    self.give_back(id, todo);
                    return;
                }
                verdict.blame = if cut_short { Blame::Recipient } else { Blame::Account };
            }
            if verdict.is_too_many_connections() && beside_others {
                self.spare(&message, failure, at, todo);
                if self.conns.get(&conn).is_some_and(|c| c.state != Use::Closing) {
                    self.close_where(todo, |k, _| k == conn);
                }
                self.one_less(failure, at.now, todo);
                return;
            }
            // In an outage even a marked message proves nothing against itself.
            let is_its_own = self.breaker.is_closed()
                && (self.marked.contains(&id) || verdict.hearsay && self.stays_with(&message, &verdict));
            if matches!(verdict.blame, Blame::Account | Blame::Tenant) && !is_its_own {
                self.suspect(id);
                self.spare(&message, failure, at, todo);
                if outage == self.outages {
                    self.account_failed(&verdict, failure, at.now, at.jitter, todo);
                }
                if verdict.blame == Blame::Tenant {
                    todo.push(Action::HoldTenant(failure.clone()));
                }
                return;
            }
        }
        let unknown = sent.failure.as_ref().filter(|f| f.outcome_is_unknown());
        if unknown.is_some() {
            self.unknown_in_a_row += 1;
            // It may have counted them.
            self.throttle.served(at.now, recipients);
        } else if !cut_short {
            self.unknown_in_a_row = 0;
            let taken = sent.outcomes.iter().any(|o| matches!(o, Outcome::Taken(_)));
            self.account_works(id, taken, at.now, todo);
        }
        let settled = if cut_short {
            settle::cut_short(&message, &sent.outcomes, at)
        } else {
            settle::settle(&message, &sent.outcomes, sent.failure.as_ref(), at)
        };
        self.settle(&message, settled, at, todo);
        if let (true, Some(failure)) = (self.unknown_in_a_row >= MAX_UNKNOWN, unknown) {
            // Going on would make a duplicate of every message in the queue.
            let verdict = Verdict { blame: Blame::Account, ..judge(failure) };
            self.account_failed(&verdict, failure, at.now, at.jitter, todo);
        }
    }

    fn standing(&self) -> Standing {
        Standing { has_login: self.limits.has_login, has_worked: self.known.has_worked }
    }

    /// Notes what was taken; whether a refusal in another host's words, if there is one here, is that host's. What the
    /// server takes for its own domain says nothing of its relaying for others.
    fn hears_taken(&mut self, message: &QueuedMessage, sent: &Sent) -> bool {
        let own = message.account.as_str().rsplit_once('@').map_or("", |(_, domain)| domain);
        let pending: Vec<_> = message.recipients.iter().filter(|r| r.progress == Progress::Pending).collect();
        let taken = pending
            .iter()
            .zip(&sent.outcomes)
            .any(|(r, o)| matches!(o, Outcome::Taken(_)) && !r.mailbox.domain().eq_ignore_ascii_case(own));
        if let (true, Some(doubt)) = (taken, &mut self.doubt) {
            doubt.disproved = true;
        }
        let is_known = |d: &Doubt| {
            d.disproved && pending.iter().all(|r| r.mailbox.domain().eq_ignore_ascii_case(&d.domain))
        };
        self.limits.has_login && (taken || self.doubt.as_ref().is_some_and(is_known))
    }

    /// Whether a refusal that may be another host's words is left to its message.
    fn stays_with(&mut self, message: &QueuedMessage, verdict: &Verdict) -> bool {
        let mut pending = message.recipients.iter().filter(|r| r.progress == Progress::Pending);
        let (true, true, Some(first)) =
            (self.known.has_worked, matches!(verdict.action, Do::Hold | Do::Retry), pending.next())
        else {
            return false;
        };
        let domain = first.mailbox.domain().to_ascii_lowercase();
        match &self.doubt {
            Some(doubt) if !doubt.disproved && doubt.domain != domain => {
                self.doubt = None;
                false
            }
            Some(doubt) if doubt.domain == domain => true,
            _ => {
                self.doubt = Some(Doubt { domain, disproved: false });
                true
            }
        }
    }

    /// The account's fault: the message stays as it is, and comes back.
    fn spare(&mut self, message: &QueuedMessage, failure: &Failure, at: Moment<'_>, todo: &mut Vec<Action>) {
        let (id, notify) = (message.id, Notify::Nobody);
        let settlement = Box::new(settle::spared(message, failure, at));
        self.settling.insert(id, true);
        todo.push(Action::Settle { id, settlement, notify, advice: None, failure: None });
    }

    /// What its own transaction made of a message.
    fn settle(&mut self, message: &QueuedMessage, settled: Settled, at: Moment<'_>, todo: &mut Vec<Action>) {
        let (id, said, to) = (message.id, settled.said, settled.settlement.to);
        self.throttle.served(at.now, settled.served);
        if settled.settlement.outcome_unknown {
            todo.push(Action::Tell(Fact::OutcomeUnknown { id, said: said.clone() }));
        }
        todo.push(Action::Tell(match to {
            Destination::Delivered => Fact::Delivered { id, said, after: at.now.since(message.queued_since) },
            Destination::Dead => Fact::Dead { id, said, advice: settled.advice },
            Destination::Queued(_) if settled.failure.is_none() => {
                let left = settled.settlement.recipients.iter();
                let left = left.filter(|r| r.progress == Progress::Pending).count();
                Fact::TakenInPart { id, said, taken: settled.served, left }
            }
            Destination::Queued(next) => {
                let attempts = settled.settlement.attempts;
                Fact::Deferred { id, said, retry_in: next.since(at.now), attempts }
            }
        }));
        let comes_back = matches!(to, Destination::Queued(_));
        if !comes_back {
            self.in_part.remove(&id);
        }
        if to != Destination::Queued(at.now) {
            self.marked.retain(|m| *m != id);
        }
        self.settling.insert(id, comes_back);
        todo.push(Action::Settle {
            id,
            settlement: Box::new(settled.settlement),
            notify: settled.notify,
            advice: settled.advice,
            failure: settled.failure,
        });
    }

    /// The settlement is durable: its connection may take the next message.
    fn settled(&mut self, id: QueueId, now: RelayTime) {
        if self.settling.remove(&id) == Some(true) {
            self.due = Due::Unknown;
        }
        let of = self.conns.iter().find(|(_, c)| c.state == Use::Settling(id)).map(|(k, _)| *k);
        if let Some(conn) = of {
            self.release(conn, now);
        }
    }

    fn release(&mut self, conn: ConnId, now: RelayTime) {
        if let Some(c) = self.conns.get_mut(&conn)
            && c.state != Use::Closing
        {
            c.state = Use::Idle { since: now };
        }
    }

    fn open_failed(
        &mut self,
        conn: ConnId,
        failure: &Failure,
        now: RelayTime,
        jitter: f64,
        todo: &mut Vec<Action>,
    ) {
        let gone = self.conns.remove(&conn);
        let (outage, beside_others) = gone.map_or((self.outages, false), |c| (c.outage, c.beside_others));
        let verdict = judge(failure);
        if self.draining || (outage < self.outages && !self.breaker.is_closed()) {
            return;
        }
        if verdict.is_too_many_connections() && (beside_others || !self.conns.is_empty()) {
            self.one_less(failure, now, todo);
            return;
        }
        if self.breaker.is_closed() && self.has_working_connection() {
            self.grow_failures += 1;
            self.nth_address += 1;
            let delays = if verdict.action == Do::Hold {
                &self.limits.retry.hold_delays
            } else {
                &self.limits.retry.account_delays
            };
            let wait = schedule::delay(delays, self.grow_failures, jitter).max(verdict.not_before);
            self.grow_after = now + wait;
            todo.push(Action::Tell(Fact::ExtraConnectionFailed {
                said: failure.to_string(),
                retry_in: wait,
            }));
            return;
        }
        self.account_failed(&verdict, failure, now, jitter, todo);
        if verdict.blame == Blame::Tenant {
            todo.push(Action::HoldTenant(failure.clone()));
        }
    }

    fn account_failed(
        &mut self,
        verdict: &Verdict,
        failure: &Failure,
        now: RelayTime,
        jitter: f64,
        todo: &mut Vec<Action>,
    ) {
        let said = failure.to_string();
        let was_held = self.breaker.open().filter(|o| o.kind == Kind::Hold).map(|o| o.reason.clone());
        self.breaker.fail(verdict, said.clone(), now, jitter, &self.limits.retry);
        self.nth_address += 1;
        self.outages += 1;
        self.pass_over_suspects = true;
        self.due = Due::Unknown;
        if verdict.is_too_many_connections() {
            self.allowed = 1;
            self.raise_at = now + RAISE;
        }
        let open = self.breaker.open().expect("it has just failed").clone();
        let (retry_in, advice, remedy) = (open.next_probe.since(now), verdict.advice, verdict.remedy.clone());
        if verdict.action == Do::Hold {
            if was_held.as_ref() != Some(&said) {
                todo.push(Action::Tell(Fact::Held { said, retry_in, advice, remedy }));
            }
            self.breaker.mark_told();
        } else {
            todo.push(Action::Tell(Fact::BackingOff { said: said.clone(), retry_in, advice }));
            let lasting = now.since(open.since);
            match self.breaker.lasts(verdict, now, self.known) {
                Some(Lasting::Setting(why)) => {
                    todo.push(Action::Tell(Fact::Persistent { said, lasting, advice, remedy, why }));
                }
                Some(Lasting::Outage) => {
                    todo.push(Action::Tell(Fact::StillOut { said, lasting, advice, remedy }));
                }
                None => {}
            }
        }
        todo.push(Action::Persist(self.breaker.open().cloned()));
        self.return_waiting(todo);
        self.close_idle(todo);
    }

    /// One connection was too many, and is gone or going: those that are left are what is allowed. Nothing stops for
    /// it: a 432 is about the number alone, and only the last one's is about the account.
    fn one_less(&mut self, failure: &Failure, now: RelayTime, todo: &mut Vec<Action>) {
        self.allowed = self.count(|u| u != Use::Closing).clamp(1, self.allowed);
        self.raise_at = now + RAISE;
        todo.push(Action::Tell(Fact::FewerConnections { said: failure.to_string(), allowed: self.allowed }));
    }

    /// A login and a transaction went through, whatever became of the message; the account has worked once anything
    /// was taken.
    fn account_works(&mut self, by: QueueId, taken: bool, now: RelayTime, todo: &mut Vec<Action>) {
        let pausing = self.breaker.open().is_some_and(|o| o.kind == Kind::Pause && now < o.next_probe);
        if taken && !std::mem::replace(&mut self.known.has_worked, true) {
            todo.push(Action::Works);
        }
        if pausing {
            return;
        }
        if let Some(open) = self.breaker.succeed() {
            todo.push(Action::Tell(Fact::Recovered { lasted: now.since(open.since) }));
            todo.push(Action::Persist(None));
            if self.suspects.contains(&by) {
                // Its own second try passed, so it was the account all along.
                self.suspects.clear();
            } else {
                self.marked.extend(self.suspects.drain(..));
                while self.marked.len() > MAX_SUSPECTS {
                    self.marked.pop_front();
                }
            }
            self.due = Due::Unknown;
        }
    }

    fn suspect(&mut self, id: QueueId) {
        if !self.suspects.contains(&id) {
            self.suspects.push_back(id);
        }
        if self.suspects.len() > MAX_SUSPECTS {
            self.suspects.pop_front();
        }
    }

    fn give_back(&mut self, id: QueueId, todo: &mut Vec<Action>) {
        self.leased.remove(&id);
        self.due = Due::Unknown;
        todo.push(Action::Return { id });
    }

    fn return_waiting(&mut self, todo: &mut Vec<Action>) {
        while let Some(id) = self.waiting.pop_back() {
            self.give_back(id, todo);
        }
    }

    fn close_old(&mut self, now: RelayTime, todo: &mut Vec<Action>) {
        self.close_where(todo, |_, c| match c.state {
            Use::Idle { since } => c.stale || now.since(since) >= IDLE || now.since(c.opened) >= AGE,
            _ => false,
        });
    }

    fn close_idle(&mut self, todo: &mut Vec<Action>) {
        self.close_where(todo, |_, c| matches!(c.state, Use::Idle { .. }));
    }

    fn close_where(&mut self, todo: &mut Vec<Action>, which: impl Fn(ConnId, &Conn) -> bool) {
        for (conn, c) in self.conns.iter_mut().filter(|(k, c)| which(**k, c)) {
            c.state = Use::Closing;
            todo.push(Action::Close { conn: *conn });
        }
    }

    /// The idle connection used last, so that the others may grow old.
    fn idle(&self) -> Option<ConnId> {
        let idle = self.conns.iter().filter_map(|(k, c)| match c.state {
            Use::Idle { since } => Some((since, *k)),
            _ => None,
        });
        idle.max().map(|(_, k)| k)
    }

    fn count(&self, which: impl Fn(Use) -> bool) -> usize {
        self.conns.values().filter(|c| which(c.state)).count()
    }

    fn has_working_connection(&self) -> bool {
        self.count(|u| matches!(u, Use::Idle { .. } | Use::Busy(_) | Use::Settling(_))) > 0
    }
}

/// The pending recipients' places, those first who were put off least: where only some may go, each has its turn.
fn in_turn(message: &QueuedMessage) -> Vec<usize> {
    let waiting = message.recipients.iter().filter(|r| r.progress == Progress::Pending);
    let deferrals: Vec<u32> = waiting.map(|r| r.deferrals.count).collect();
    let mut places: Vec<usize> = (0..deferrals.len()).collect();
    places.sort_by_key(|i| deferrals[*i]);
    places
}

/// The failure that decides for the account: the transaction's, or a refused recipient's when none was taken. An
/// account's fault that was said before the connection ended is more than its end.
fn account_fault(sent: &Sent, standing: Standing) -> Option<&Failure> {
    let whole = sent.failure.as_ref();
    if whole.is_some_and(|f| judge(f).blame != Blame::Session)
        || sent.outcomes.iter().any(|o| matches!(o, Outcome::Taken(_)))
    {
        return whole;
    }
    let of_account = sent.outcomes.iter().find_map(|o| match o {
        Outcome::Refused(f) => {
            matches!(judge_for(f, standing).blame, Blame::Account | Blame::Tenant | Blame::Session)
                .then_some(f)
        }
        _ => None,
    });
    of_account.or(whole)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
