//! What an answer means for the account: it works, or it failed, or it is none of its business.
//!
//! Invariant: every failure was judged once, before; a fault of the account spends nothing of the message that met
//! it; a failure on a connection that began before the present outage proves nothing new.
//! Must not know: what a settlement looks like.

use super::pool::Begun;
use super::{Action, At, ConnId, Leased, Memory, Plan, Todo};
use crate::dispatch::settle::{self, Heard, Moment, Settled};
use crate::fact::dispatch::Fact;
use crate::mail::{Failure, Progress, QueueId, QueuedMessage};
use crate::policy::breaker::{Kind, Known, Lasting};
use crate::policy::schedule;
use crate::policy::verdict::{Action as Do, Blame, Judged};
use crate::queue::Destination;
use crate::submit::Sent;

/// Lost answers in a row after which the account backs off.
const MAX_UNKNOWN: u32 = 2;

/// Where an answer came over.
#[derive(Clone, Copy)]
struct Over {
    conn: ConnId,
    /// None: it was gone already.
    begun: Option<Begun>,
    beside_others: bool,
}

impl<L: Leased, C: Clone> Plan<L, C> {
    pub(super) fn sent(
        &mut self,
        conn: ConnId,
        lease: L,
        sent: Sent,
        host: &str,
        at: At,
        todo: &mut Todo<L, C>,
    ) {
        let message = lease.message();
        let id = message.id;
        let recipients = self.in_flight.remove(&id).unwrap_or_default();
        self.throttle.end(recipients);
        let others = self.pool.len() > 1;
        let begun = self.pool.sent(conn, id, sent.usable);
        let over = Over { conn, begun, beside_others: others || begun.is_some_and(|b| b.beside_others) };
        let theirs = self.hearsay.hears(message, &sent, self.limits.has_login);
        let retry = self.limits.retry.clone();
        let moment = Moment { now: at.now, wall: at.wall, jitter: at.jitter, retry: &retry, host, theirs };
        let heard = Heard::new(sent, self.standing());
        // The connection ended in the middle, and what was said of recipients before that stands.
        let fault = heard.account_fault();
        let cut_short = heard.whole.is_some()
            && heard.any_refused()
            && fault.is_some_and(|f| f.verdict.blame == Blame::Session);
        let lease = match fault {
            Some(fault) => match self.leave_to_message(lease, fault, cut_short, over, moment, at, todo) {
                Some(lease) => lease,
                None => return,
            },
            None => lease,
        };
        let unknown = heard.whole.as_ref().filter(|w| w.failure.outcome_is_unknown());
        if unknown.is_some() {
            self.unknown_in_a_row += 1;
            // It may have counted them.
            self.throttle.served(at.now, recipients);
        } else if !cut_short {
            self.unknown_in_a_row = 0;
            self.account_works(id, heard.any_taken(), at, todo);
        }
        let settled = settle::settle(lease.message(), &heard, cut_short, moment);
        self.settle(lease, settled, at, todo);
        if let (true, Some(lost)) = (self.unknown_in_a_row >= MAX_UNKNOWN, unknown) {
            // Going on would make a duplicate of every message in the queue.
            self.account_failed(lost, at, todo);
        }
    }

    /// Does what a failure means for connection and account. The lease comes back when the message is to bear it.
    #[expect(clippy::too_many_arguments, reason = "one failure, where it came from, and when")]
    fn leave_to_message(
        &mut self,
        lease: L,
        fault: &Judged,
        cut_short: bool,
        over: Over,
        moment: Moment<'_>,
        at: At,
        todo: &mut Todo<L, C>,
    ) -> Option<L> {
        let mut blame = fault.verdict.blame;
        if blame == Blame::Session {
            // One that is out of step stays so.
            todo.extend(self.pool.close(over.conn).into_iter().map(Action::Close));
            if !cut_short && (over.begun.is_none_or(|b| !b.fresh) || self.draining) {
                // An old connection was dropped under us; a fresh one will do. At a stop we cut it ourselves.
                self.give_back(lease, todo);
                return None;
            }
            blame = if cut_short { Blame::Recipient } else { Blame::Account };
        }
        if fault.verdict.is_too_many_connections() && over.beside_others {
            self.spare(lease, &fault.failure, moment, todo);
            todo.extend(self.pool.close(over.conn).into_iter().map(Action::Close));
            self.one_less(&fault.failure, at, todo);
            return None;
        }
        if !matches!(blame, Blame::Account | Blame::Tenant) || self.is_its_own(lease.message(), fault) {
            return Some(lease);
        }
        self.suspects.add(lease.message().id);
        self.spare(lease, &fault.failure, moment, todo);
        if over.begun.is_none_or(|b| b.outage == self.outages) {
            self.account_failed(fault, at, todo);
        }
        if blame == Blame::Tenant {
            todo.push(Action::HoldTenant(Box::new(fault.clone())));
        }
        None
    }

    /// Whether what looks like the account's fault is the message's. In an outage even a marked message proves
    /// nothing against itself.
    fn is_its_own(&mut self, message: &QueuedMessage, fault: &Judged) -> bool {
        self.breaker.is_closed()
            && (self.suspects.is_marked(message.id)
                || self.hearsay.stays_with(message, &fault.verdict, self.has_worked))
    }

    /// The account's fault: the message stays as it is, and comes back.
    fn spare(&mut self, lease: L, failure: &Failure, at: Moment<'_>, todo: &mut Todo<L, C>) {
        let settled = settle::spared(lease.message(), failure, at);
        self.settling.insert(lease.message().id, true);
        todo.push(Action::Settle(lease, Box::new(settled)));
    }

    /// What its own transaction made of a message.
    fn settle(&mut self, lease: L, settled: Settled, at: At, todo: &mut Todo<L, C>) {
        let message = lease.message();
        let (id, said, to) = (message.id, settled.said.clone(), settled.settlement.to);
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
            self.parts.forget(id);
        }
        if to != Destination::Queued(at.now) {
            self.suspects.acquit(id);
        }
        self.settling.insert(id, comes_back);
        todo.push(Action::Settle(lease, Box::new(settled)));
    }

    pub(super) fn open_failed(&mut self, conn: ConnId, failed: &Judged, at: At, todo: &mut Todo<L, C>) {
        let begun = self.pool.gone(conn);
        let outage = begun.map_or(self.outages, |b| b.outage);
        let beside_others = begun.is_some_and(|b| b.beside_others) || !self.pool.is_empty();
        let Judged { failure, verdict } = failed;
        if self.draining || (outage < self.outages && !self.breaker.is_closed()) {
            return;
        }
        if verdict.is_too_many_connections() && beside_others {
            return self.one_less(failure, at, todo);
        }
        if self.breaker.is_closed() && self.pool.works() {
            let delays = if verdict.action == Do::Hold {
                &self.limits.retry.hold_delays
            } else {
                &self.limits.retry.account_delays
            };
            let wait = schedule::delay(delays, self.pool.grow_failed(), at.jitter).max(verdict.not_before);
            self.pool.grow_not_before(at.now + wait);
            let said = failure.to_string();
            todo.push(Action::Tell(Fact::ExtraConnectionFailed { said, retry_in: wait }));
            return;
        }
        self.account_failed(failed, at, todo);
        if verdict.blame == Blame::Tenant {
            todo.push(Action::HoldTenant(Box::new(failed.clone())));
        }
    }

    pub(super) fn account_failed(&mut self, failed: &Judged, at: At, todo: &mut Todo<L, C>) {
        let (now, verdict, said) = (at.now, &failed.verdict, failed.failure.to_string());
        let was_held = self.breaker.open().filter(|o| o.kind == Kind::Hold).map(|o| o.reason.clone());
        self.breaker.fail(verdict, said.clone(), now, at.jitter, &self.limits.retry);
        self.pool.elsewhere();
        self.outages += 1;
        self.suspects.outage();
        self.due = super::Due::Unknown;
        if verdict.is_too_many_connections() {
            self.pool.one_alone(now);
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
            let known = Known { has_worked: self.has_worked, another_works: at.another_works };
            match self.breaker.lasts(verdict, now, known) {
                Some(Lasting::Setting(why)) => {
                    todo.push(Action::Tell(Fact::Persistent { said, lasting, advice, remedy, why }));
                }
                Some(Lasting::Outage) => {
                    todo.push(Action::Tell(Fact::StillOut { said, lasting, advice, remedy }));
                }
                None => {}
            }
        }
        todo.push(Action::Remember(Memory::Breaker(self.breaker.open().cloned())));
        self.stand_still(todo);
    }

    /// One connection was too many. Nothing stops for it: a 432 is about the number alone, and only the last one's is
    /// about the account.
    fn one_less(&mut self, failure: &Failure, at: At, todo: &mut Todo<L, C>) {
        let allowed = self.pool.one_less(at.now);
        todo.push(Action::Tell(Fact::FewerConnections { said: failure.to_string(), allowed }));
    }

    /// A login and a transaction went through, whatever became of the message; the account has worked once anything
    /// was taken.
    fn account_works(&mut self, by: QueueId, taken: bool, at: At, todo: &mut Todo<L, C>) {
        let pausing = self.breaker.open().is_some_and(|o| o.kind == Kind::Pause && at.now < o.next_probe);
        if taken && !std::mem::replace(&mut self.has_worked, true) {
            todo.push(Action::Remember(Memory::Works(self.limits.way_in.clone())));
        }
        if pausing {
            return;
        }
        if let Some(open) = self.breaker.succeed() {
            todo.push(Action::Tell(Fact::Recovered { lasted: at.now.since(open.since) }));
            todo.push(Action::Remember(Memory::Breaker(None)));
            self.suspects.recovered(by);
            self.due = super::Due::Unknown;
        }
    }
}
