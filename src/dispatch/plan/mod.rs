//! One account's plan: events and the moment in, actions out. No I/O, no clock, no randomness.
//!
//! Invariant: what it was leased waits here, is lent to a connection, or is on its way to a settlement; never more than
//! `max_connections` connections exist, closing ones included, and none is opened beyond the number the server last
//! took; while the breaker is open nothing moves but one probe; a connection takes no other message before the
//! settlement of its last is durable.
//! Must not know: how a message is stored or sent, what a lease and a connection are but for its two handles.

mod outcome;
mod parts;
mod pool;
mod suspects;

pub(crate) use pool::ConnId;

use super::settle::Settled;
use crate::fact::dispatch::Fact;
use crate::mail::{QueueId, QueuedMessage, RelayTime, WallTime};
use crate::policy::breaker::{Breaker, Open};
use crate::policy::expiry::Expiry;
use crate::policy::schedule::Retry;
use crate::policy::throttle::Throttle;
use crate::policy::verdict::{Judged, Standing};
use crate::submit::Sent;
use parts::Parts;
use pool::Pool;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use suspects::{Hearsay, Suspects};

/// How long after a failed read of the queue it is asked again.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

/// What a plan needs to know of its account.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) messages_per_minute: u32,
    pub(crate) recipients_per_day: u32,
    /// It logs in: the server knows it by more than this site's address.
    pub(crate) has_login: bool,
    /// The settings by which it gets in: as long as they are the same, a fault that calls itself temporary is
    /// believed for a while.
    pub(crate) way_in: String,
    pub(crate) retry: Retry,
}

/// What an account remembers of its last run.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) breaker: Breaker,
    pub(crate) throttle: Throttle,
    /// Stopped by the admin.
    pub(crate) paused: bool,
    /// It has worked, with the settings it has now.
    pub(crate) has_worked: bool,
}

/// The moment of an event, and what varies with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) now: RelayTime,
    pub(crate) wall: WallTime,
    /// From 0 to 1.
    pub(crate) jitter: f64,
    /// Another mailbox works at the same smart host: then a fault here is this mailbox's own.
    pub(crate) another_works: bool,
}

/// The right to send a message, lent by the queue.
pub(crate) trait Leased {
    fn message(&self) -> &QueuedMessage;
}

/// What happened. `L` is a lease; `C` is a connection's handle: dropping it closes it.
#[derive(Debug)]
pub(crate) enum Event<L, C> {
    /// Time passed, or something arrived.
    Woken,
    /// Something may have become due.
    Rung,
    /// The queue handed out a message.
    Leased(L),
    /// The queue has nothing due; the next moment something is, if any.
    NothingDue(Option<RelayTime>),
    /// The queue could not be read.
    LeaseFailed,
    /// A connection is logged in.
    Opened(ConnId, C),
    /// A connection could not be made; it is gone.
    OpenFailed(ConnId, Box<Judged>),
    /// A transaction ended, at this address.
    Sent(ConnId, L, Sent, String),
    /// A settlement is durable.
    Settled(QueueId),
    /// It never will be: the queue is closed, or refused it until the end of a stop.
    Unsettled(QueueId),
    /// A connection is gone, and the peer knows.
    Closed(ConnId),
    /// The admin stops or restarts the account.
    Paused(bool),
    /// The admin says it is mended.
    Probe,
    /// Another account met a fault of the whole tenant.
    TenantHeld(Box<Judged>),
    /// New settings.
    Limits(Box<Limits>),
    /// The service stops: finish what is in flight, begin nothing.
    Drain,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Action<L, C> {
    /// Ask the queue for one message, passing over these.
    Lease { except: Vec<QueueId> },
    /// Connect and log in, at the n-th address of the smart host (modulo their number).
    Open { conn: ConnId, nth_address: usize },
    /// Send to these of the pending recipients, by their places among them and in this order.
    Send { over: C, lease: L, to: Vec<usize> },
    /// Say goodbye and wait for the peer to close.
    Close(C),
    /// Settle durably, with notices.
    Settle(L, Box<Settled>),
    /// Hand a message back unchanged.
    Return(L),
    /// Keep it over a restart.
    Remember(Memory),
    /// Log and count.
    Tell(Fact),
    /// Other accounts of the tenant are held, too.
    HoldTenant(Box<Judged>),
}

/// What an account keeps over a restart.
#[derive(Debug)]
pub(crate) enum Memory {
    Breaker(Option<Open>),
    Paused(bool),
    /// It works with these settings.
    Works(String),
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

/// What the queue is believed to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Unknown,
    Nothing,
    NotBefore(RelayTime),
}

type Todo<L, C> = Vec<Action<L, C>>;

/// The plan of one account.
#[derive(Debug)]
pub(crate) struct Plan<L, C> {
    limits: Limits,
    breaker: Breaker,
    throttle: Throttle,
    pool: Pool<C>,
    waiting: VecDeque<L>,
    /// For how many recipients each transaction in flight is.
    in_flight: BTreeMap<QueueId, u32>,
    /// Being settled; whether it is to be tried again. The queue may hand it out anew before we hear of its end.
    settling: BTreeMap<QueueId, bool>,
    leasing: bool,
    rung_while_leasing: bool,
    due: Due,
    handled_at: RelayTime,
    suspects: Suspects,
    hearsay: Hearsay,
    parts: Parts,
    outages: u64,
    unknown_in_a_row: u32,
    has_worked: bool,
    paused: bool,
    draining: bool,
}

impl<L: Leased, C: Clone> Plan<L, C> {
    pub(crate) fn new(limits: Limits, past: Past) -> Self {
        Self {
            pool: Pool::new(limits.max_connections),
            limits,
            breaker: past.breaker,
            throttle: past.throttle,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            settling: BTreeMap::new(),
            leasing: false,
            rung_while_leasing: false,
            due: Due::Unknown,
            handled_at: RelayTime::default(),
            suspects: Suspects::default(),
            hearsay: Hearsay::default(),
            parts: Parts::default(),
            outages: 0,
            unknown_in_a_row: 0,
            has_worked: past.has_worked,
            paused: past.paused,
            draining: false,
        }
    }

    /// For `status`.
    pub(crate) fn live(&mut self, now: RelayTime) -> Live {
        let opens = self.throttle.opens_at(now);
        Live {
            connections: self.pool.len(),
            messages_last_minute: self.throttle.messages_last_minute(),
            recipients_today: self.throttle.recipients_today(),
            open: self.breaker.open().cloned(),
            paused: self.paused,
            throttled_until: (opens > now).then_some(opens),
            expiry: None,
        }
    }

    /// It was told to stop, nothing is in flight and no connection is left: it may be dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.draining && self.is_at_rest()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    fn is_at_rest(&self) -> bool {
        self.pool.is_empty()
            && self.waiting.is_empty()
            && self.in_flight.is_empty()
            && self.settling.is_empty()
            && !self.leasing
    }

    /// The next moment after the last event at which time alone changes something; `None`: only an event does.
    /// It may have passed by the time this is asked: then it is due, not forgotten.
    pub(crate) fn wake_at(&mut self) -> Option<RelayTime> {
        let now = self.handled_at;
        let old_at = self.pool.old_at();
        if self.draining || self.paused {
            return old_at;
        }
        let mut times: Vec<RelayTime> = old_at.into_iter().chain(self.pool.raises_at()).collect();
        if let Due::NotBefore(t) = self.due {
            times.push(t);
        }
        if self.due != Due::Nothing || !self.waiting.is_empty() {
            times.extend(self.breaker.open().map(|open| open.next_probe));
            times.push(self.throttle.opens_at(now));
            times.push(self.pool.grows_at());
        }
        times.into_iter().filter(|t| *t > now).min()
    }

    /// Takes one event; returns what to do, in order.
    pub(crate) fn handle(&mut self, event: Event<L, C>, at: At) -> Todo<L, C> {
        let now = at.now;
        let mut todo = Vec::new();
        match event {
            Event::Woken => {}
            Event::Rung => {
                self.due = Due::Unknown;
                self.rung_while_leasing = self.leasing;
            }
            Event::Leased(lease) => {
                self.leasing = false;
                self.rung_while_leasing = false;
                self.parts.found();
                self.waiting.push_back(lease);
            }
            Event::NothingDue(next) => self.nothing_due(next),
            Event::LeaseFailed => {
                self.leasing = false;
                self.due = Due::NotBefore(now + QUEUE_RETRY);
            }
            Event::Opened(conn, line) => self.pool.opened(conn, line, now),
            Event::OpenFailed(conn, failed) => self.open_failed(conn, &failed, at, &mut todo),
            Event::Sent(conn, lease, sent, host) => self.sent(conn, lease, sent, &host, at, &mut todo),
            Event::Settled(id) => self.settled(id, now),
            Event::Unsettled(id) => {
                // Nothing is recorded any more, so nothing may be begun.
                self.draining = true;
                self.settled(id, now);
            }
            Event::Closed(conn) => {
                self.pool.gone(conn);
            }
            Event::Paused(paused) => {
                self.paused = paused;
                todo.push(Action::Remember(Memory::Paused(paused)));
            }
            Event::Probe => {
                self.breaker.probe_now(now);
                self.due = Due::Unknown;
            }
            Event::TenantHeld(failed) => self.account_failed(&failed, at, &mut todo),
            Event::Limits(limits) => {
                self.throttle.set_limits(limits.messages_per_minute, limits.recipients_per_day);
                self.pool.renew(limits.max_connections);
                self.has_worked &= limits.way_in == self.limits.way_in;
                self.limits = *limits;
                self.breaker.probe_now(now);
            }
            Event::Drain => self.draining = true,
        }
        self.advance(now, &mut todo);
        todo
    }

    /// Where some were passed over, it is asked again for those.
    fn nothing_due(&mut self, next: Option<RelayTime>) {
        self.leasing = false;
        let closed = self.breaker.is_closed();
        if std::mem::take(&mut self.rung_while_leasing) {
            self.due = Due::Unknown;
        } else if !(if closed { self.parts.are_alone() } else { self.suspects.are_alone() }) {
            self.due = next.map_or(Due::Nothing, Due::NotBefore);
        }
    }

    /// Begins whatever may begin now.
    fn advance(&mut self, now: RelayTime, todo: &mut Todo<L, C>) {
        self.handled_at = now;
        // Whatever woke us: the moment may have passed while paused, or between the queue's answer and now.
        if matches!(self.due, Due::NotBefore(t) if t <= now) {
            self.due = Due::Unknown;
        }
        todo.extend(self.pool.close_old(now).into_iter().map(Action::Close));
        if self.draining || self.paused {
            return self.stand_still(todo);
        }
        self.pool.raise(now);
        if self.breaker.is_closed() {
            self.flow(now, todo);
        } else if self.breaker.may_probe(now) {
            self.probe(now, todo);
        } else {
            self.stand_still(todo);
        }
    }

    /// Everything is well: as many connections as there is work for.
    fn flow(&mut self, now: RelayTime, todo: &mut Todo<L, C>) {
        while let (Some(conn), false) = (self.pool.idle(), self.waiting.is_empty()) {
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
        let may_open = if self.pool.works() { now >= self.pool.grows_at() } else { self.pool.opening() == 0 };
        if may_open && self.waiting.len() > self.pool.soon_idle() && self.pool.has_room() {
            self.open(now, todo);
        }
        if self.waiting.len() < self.pool.allowed().min(slots) {
            let except = self.parts.passed_over(now);
            self.lease(todo, except);
        }
    }

    /// The account is in doubt: one connection, one message.
    fn probe(&mut self, now: RelayTime, todo: &mut Todo<L, C>) {
        if self.pool.moves() || self.throttle.slots(now) == 0 {
            return;
        }
        if self.waiting.is_empty() {
            let except = self.suspects.passed_over();
            self.lease(todo, except);
            return;
        }
        match self.pool.idle() {
            Some(conn) => self.send(conn, now, todo),
            None => self.open(now, todo),
        }
    }

    fn lease(&mut self, todo: &mut Todo<L, C>, except: Vec<QueueId>) {
        if !self.leasing && self.due == Due::Unknown {
            self.leasing = true;
            todo.push(Action::Lease { except });
        }
    }

    fn open(&mut self, now: RelayTime, todo: &mut Todo<L, C>) {
        let (conn, nth_address) = self.pool.open(now, self.outages);
        todo.push(Action::Open { conn, nth_address });
    }

    fn send(&mut self, conn: ConnId, now: RelayTime, todo: &mut Todo<L, C>) {
        let lease = self.waiting.pop_front().expect("the caller saw a waiting message");
        let over = self.pool.begin(conn, self.outages);
        let room = usize::try_from(self.throttle.recipients_left(now)).unwrap_or(usize::MAX);
        let to = self.parts.begin(lease.message(), room, now);
        let recipients = u32::try_from(to.len()).unwrap_or(u32::MAX);
        self.throttle.begin(now, recipients);
        self.in_flight.insert(lease.message().id, recipients);
        todo.push(Action::Send { over, lease, to });
    }

    /// The settlement is durable: its connection may take the next message.
    fn settled(&mut self, id: QueueId, now: RelayTime) {
        if self.settling.remove(&id) == Some(true) {
            self.due = Due::Unknown;
        }
        self.pool.settled(id, now);
    }

    fn standing(&self) -> Standing {
        Standing { has_login: self.limits.has_login, has_worked: self.has_worked }
    }

    fn give_back(&mut self, lease: L, todo: &mut Todo<L, C>) {
        self.due = Due::Unknown;
        todo.push(Action::Return(lease));
    }

    fn return_waiting(&mut self, todo: &mut Todo<L, C>) {
        while let Some(lease) = self.waiting.pop_back() {
            self.give_back(lease, todo);
        }
    }

    /// What moves ends; what waits goes back.
    fn stand_still(&mut self, todo: &mut Todo<L, C>) {
        self.return_waiting(todo);
        todo.extend(self.pool.close_idle().into_iter().map(Action::Close));
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
