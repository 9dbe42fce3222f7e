//! The account's connections: how many there may be, which carries what, which are too old.
//!
//! Invariant: never more than `allowed` are open, and a connection counts until its peer knows of its end; the
//! handle of one that closes is handed out exactly once. Must not know: messages but for their ids, breakers, pace.

use crate::mail::{QueueId, RelayTime};
use std::collections::BTreeMap;
use std::time::Duration;

/// An idle connection is closed after this: Exchange Online drops it at about five minutes.
const IDLE: Duration = Duration::from_secs(60);
/// A connection is not used for longer than this: Exchange Online ends sessions at about twenty minutes.
const AGE: Duration = Duration::from_secs(15 * 60);
/// After a server found them too many, one connection is added again this long after the last.
const RAISE: Duration = Duration::from_secs(600);

/// A connection of this account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnId(pub(crate) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Opening,
    Idle { since: RelayTime },
    Busy,
    Settling(QueueId),
    Closing,
}

/// What is known of a connection's latest login or transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    /// The outages that had begun by then: what began before the present one proves nothing new.
    pub(super) outage: u64,
    /// Others existed then.
    pub(super) beside_others: bool,
    /// Nothing had been sent over it.
    pub(super) fresh: bool,
}

#[derive(Debug)]
struct Conn<C> {
    /// From the login until it is to close.
    line: Option<C>,
    state: Use,
    opened: RelayTime,
    /// Opened with settings that hold no more: takes no further message.
    stale: bool,
    begun: Begun,
}

/// All of them; `C` is the handle by which one is used, and dropping it closes it.
#[derive(Debug)]
pub(super) struct Pool<C> {
    conns: BTreeMap<ConnId, Conn<C>>,
    next: u64,
    max: usize,
    allowed: usize,
    raise_at: RelayTime,
    grow_after: RelayTime,
    grow_failures: u32,
    nth_address: usize,
}

impl<C> Pool<C> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            conns: BTreeMap::new(),
            next: 0,
            max,
            allowed: max,
            raise_at: RelayTime::default(),
            grow_after: RelayTime::default(),
            grow_failures: 0,
            nth_address: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// So many may be open.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    pub(super) fn has_room(&self) -> bool {
        self.conns.len() < self.allowed
    }

    pub(super) fn opening(&self) -> usize {
        self.count(|u| u == Use::Opening)
    }

    /// So many take a message soon: their login, or the settlement of their last one, is on its way.
    pub(super) fn soon_idle(&self) -> usize {
        self.count(|u| matches!(u, Use::Opening | Use::Settling(_)))
    }

    pub(super) fn works(&self) -> bool {
        self.count(|u| matches!(u, Use::Idle { .. } | Use::Busy | Use::Settling(_))) > 0
    }

    /// Something is on its way: a login, a transaction, a settlement or a goodbye.
    pub(super) fn moves(&self) -> bool {
        self.count(|u| !matches!(u, Use::Idle { .. })) > 0
    }

    /// The idle connection used last, so that the others may grow old.
    pub(super) fn idle(&self) -> Option<ConnId> {
        let idle = self.conns.iter().filter_map(|(k, c)| match c.state {
            Use::Idle { since } => Some((since, *k)),
            _ => None,
        });
        idle.max().map(|(_, k)| k)
    }

    /// When time alone closes one.
    pub(super) fn old_at(&self) -> Option<RelayTime> {
        let times = self.conns.values().filter_map(|c| match c.state {
            Use::Idle { since } => Some((since + IDLE).min(c.opened + AGE)),
            _ => None,
        });
        times.min()
    }

    /// When time alone allows one more.
    pub(super) fn raises_at(&self) -> Option<RelayTime> {
        (self.allowed < self.max).then_some(self.raise_at)
    }

    /// Beside a connection that works none is opened before this.
    pub(super) fn grows_at(&self) -> RelayTime {
        self.grow_after
    }

    /// A new one is opened, at this address of the smart host.
    pub(super) fn open(&mut self, now: RelayTime, outage: u64) -> (ConnId, usize) {
        let conn = ConnId(self.next);
        self.next += 1;
        let begun = Begun { outage, beside_others: !self.conns.is_empty(), fresh: true };
        let opening = Conn { line: None, state: Use::Opening, opened: now, stale: false, begun };
        self.conns.insert(conn, opening);
        (conn, self.nth_address)
    }

    /// It is logged in.
    pub(super) fn opened(&mut self, conn: ConnId, line: C, now: RelayTime) {
        self.grow_failures = 0;
        if let Some(c) = self.conns.get_mut(&conn) {
            c.line = Some(line);
            c.state = Use::Idle { since: now };
            c.opened = now;
        }
    }

    /// It is gone.
    pub(super) fn gone(&mut self, conn: ConnId) -> Option<Begun> {
        self.conns.remove(&conn).map(|c| c.begun)
    }

    /// A transaction ended over it; its settlement is to come. What was known when that began, unless the connection
    /// was gone already: it closed while idle, and the order crossed its end.
    pub(super) fn sent(&mut self, conn: ConnId, id: QueueId, usable: bool) -> Option<Begun> {
        let c = self.conns.get_mut(&conn)?;
        let begun = Begun { fresh: c.begun.fresh, ..c.begun };
        c.begun.fresh = false;
        if usable {
            c.state = Use::Settling(id);
        } else {
            (c.state, c.line) = (Use::Closing, None);
        }
        Some(begun)
    }

    /// The settlement is durable: its connection may take the next message.
    pub(super) fn settled(&mut self, id: QueueId, now: RelayTime) {
        if let Some(c) = self.conns.values_mut().find(|c| c.state == Use::Settling(id)) {
            c.state = Use::Idle { since: now };
        }
    }

    /// A further connection failed while another works: the next is opened elsewhere. How often so far.
    pub(super) fn grow_failed(&mut self) -> u32 {
        self.grow_failures += 1;
        self.nth_address += 1;
        self.grow_failures
    }

    pub(super) fn grow_not_before(&mut self, at: RelayTime) {
        self.grow_after = at;
    }

    /// The account failed: what is opened next goes to another address.
    pub(super) fn elsewhere(&mut self) {
        self.nth_address += 1;
    }

    /// One connection was too many, and is gone or going: those that are left are what is allowed.
    pub(super) fn one_less(&mut self, now: RelayTime) -> usize {
        self.allowed = self.count(|u| u != Use::Closing).clamp(1, self.allowed);
        self.raise_at = now + RAISE;
        self.allowed
    }

    /// Even the only one was too many.
    pub(super) fn one_alone(&mut self, now: RelayTime) {
        self.allowed = 1;
        self.raise_at = now + RAISE;
    }

    /// One more, when it is time.
    pub(super) fn raise(&mut self, now: RelayTime) {
        if self.allowed < self.max && now >= self.raise_at {
            self.allowed += 1;
            self.raise_at = now + RAISE;
        }
    }

    /// New settings: none of the old ones takes a further message.
    pub(super) fn renew(&mut self, max: usize) {
        (self.max, self.allowed) = (max, max);
        self.conns.values_mut().for_each(|c| c.stale = true);
    }

    /// The handles of those that are idle for long, old, or opened with other settings; they close.
    pub(super) fn close_old(&mut self, now: RelayTime) -> Vec<C> {
        self.close_where(|_, c| match c.state {
            Use::Idle { since } => c.stale || now.since(since) >= IDLE || now.since(c.opened) >= AGE,
            _ => false,
        })
    }

    pub(super) fn close_idle(&mut self) -> Vec<C> {
        self.close_where(|_, c| matches!(c.state, Use::Idle { .. }))
    }

    /// Its handle, unless it closes already.
    pub(super) fn close(&mut self, conn: ConnId) -> Vec<C> {
        self.close_where(|k, c| k == conn && c.state != Use::Closing)
    }

    fn close_where(&mut self, which: impl Fn(ConnId, &Conn<C>) -> bool) -> Vec<C> {
        let closing = self.conns.iter_mut().filter(|(k, c)| which(**k, c)).map(|(_, c)| {
            c.state = Use::Closing;
            c.line.take()
        });
        closing.flatten().collect()
    }

    fn count(&self, which: impl Fn(Use) -> bool) -> usize {
        self.conns.values().filter(|c| which(c.state)).count()
    }
}

impl<C: Clone> Pool<C> {
    /// A transaction begins over an idle connection; its handle.
    pub(super) fn begin(&mut self, conn: ConnId, outage: u64) -> C {
        let beside_others = self.conns.len() > 1;
        let c = self.conns.get_mut(&conn).expect("the caller saw it idle");
        c.state = Use::Busy;
        c.begun = Begun { outage, beside_others, ..c.begun };
        c.line.clone().expect("it was logged in when it became idle")
    }
}
