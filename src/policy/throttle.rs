//! An account's pace: messages a minute, recipients a day.
//!
//! Invariant: within any 60 seconds at most `messages_per_minute` transactions are begun, and none is begun when
//! the recipients served within 24 hours (in steps of ten minutes, rounded to the careful side) and those in flight
//! have reached `recipients_per_day`. Whoever begins one for no more than `recipients_left` never passes it.

use crate::mail::RelayTime;
use std::collections::VecDeque;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const STEP: Duration = Duration::from_secs(600);

/// Counts what was sent; says when the next may go.
#[derive(Debug, Default)]
pub struct Throttle {
    messages_per_minute: u32,
    recipients_per_day: u32,
    sent: VecDeque<RelayTime>,
    recipients: VecDeque<(RelayTime, u32)>,
    in_flight: u32,
}

impl Throttle {
    /// Starts with what was delivered within the last day; 0 lifts a limit.
    pub fn new(messages_per_minute: u32, recipients_per_day: u32, delivered: Vec<(RelayTime, u32)>) -> Self {
        let (sent, recipients) = (VecDeque::new(), delivered.into());
        Self { messages_per_minute, recipients_per_day, sent, recipients, in_flight: 0 }
    }

    /// Changes the limits, keeping the counts.
    pub fn set_limits(&mut self, messages_per_minute: u32, recipients_per_day: u32) {
        self.messages_per_minute = messages_per_minute;
        self.recipients_per_day = recipients_per_day;
    }

    /// For how many recipients a transaction that begins now may be; no limit is `u32::MAX`.
    pub fn recipients_left(&mut self, now: RelayTime) -> u32 {
        self.forget(now);
        let begun = self.recipients_today().saturating_add(self.in_flight);
        if self.recipients_per_day == 0 { u32::MAX } else { self.recipients_per_day.saturating_sub(begun) }
    }

    /// How many further transactions may begin now.
    pub fn slots(&mut self, now: RelayTime) -> usize {
        if self.recipients_left(now) == 0 {
            return 0;
        }
        if self.messages_per_minute == 0 {
            return usize::MAX;
        }
        usize::try_from(self.messages_per_minute).unwrap_or(usize::MAX).saturating_sub(self.sent.len())
    }

    /// When `slots` will say more than zero again by time alone; `now` when it does, or when only the end of what
    /// is in flight can tell.
    pub fn opens_at(&mut self, now: RelayTime) -> RelayTime {
        if self.slots(now) > 0 {
            return now;
        }
        let mut at = now;
        let limit = usize::try_from(self.messages_per_minute).unwrap_or(usize::MAX);
        if self.messages_per_minute > 0
            && let Some(first) = self.sent.len().checked_sub(limit).and_then(|i| self.sent.get(i))
        {
            at = at.max(*first + MINUTE);
        }
        if self.recipients_per_day > 0 {
            let mut left = self.recipients_today();
            for (t, n) in &self.recipients {
                if left < self.recipients_per_day {
                    break;
                }
                left = left.saturating_sub(*n);
                at = at.max(*t + DAY + STEP);
            }
        }
        at
    }

    /// A transaction for so many recipients begins.
    pub fn begin(&mut self, now: RelayTime, recipients: u32) {
        self.in_flight = self.in_flight.saturating_add(recipients);
        if self.messages_per_minute > 0 {
            self.sent.push_back(now);
        }
    }

    /// It ended, whatever came of it.
    pub fn end(&mut self, recipients: u32) {
        self.in_flight = self.in_flight.saturating_sub(recipients);
    }

    /// Recipients were served.
    pub fn served(&mut self, now: RelayTime, recipients: u32) {
        match self.recipients.back_mut() {
            Some((t, n)) if now.since(*t) < STEP => *n = n.saturating_add(recipients),
            _ => self.recipients.push_back((now, recipients)),
        }
    }

    /// Recipients served in the last 24 hours.
    pub fn recipients_today(&self) -> u32 {
        self.recipients.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }

    /// Transactions begun in the last minute.
    pub fn messages_last_minute(&self) -> usize {
        self.sent.len()
    }

    fn forget(&mut self, now: RelayTime) {
        while self.sent.front().is_some_and(|t| now.since(*t) >= MINUTE) {
            self.sent.pop_front();
        }
        while self.recipients.front().is_some_and(|(t, _)| now.since(*t) >= DAY + STEP) {
            self.recipients.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> RelayTime {
        RelayTime::from_ms(s * 1000)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_waits_for_its_minute() {
        let mut t = Throttle::new(3, 0, vec![]);
        for s in [0, 0, 10] {
            assert!(t.slots(at(s)) > 0);
            t.begin(at(s), 1);
        }
        assert_eq!(t.slots(at(10)), 0);
        assert_eq!(t.opens_at(at(10)), at(60));
        assert_eq!(t.slots(at(60)), 2);
        assert_eq!(t.slots(at(70)), 3);
    }

    #[test]
    fn the_days_recipients_are_counted_over_a_restart() {
        let mut t = Throttle::new(0, 100, vec![(at(0), 60), (at(3600), 40)]);
        assert_eq!(t.slots(at(4000)), 0);
        assert_eq!(t.opens_at(at(4000)), at(86_400 + 600));
        assert!(t.slots(at(86_400 + 600)) > 0);
        assert_eq!(t.recipients_today(), 40);
    }

    #[test]
    fn recipients_in_flight_count_until_it_is_known_what_came_of_them() {
        let mut t = Throttle::new(0, 3, vec![]);
        t.begin(at(0), 2);
        assert_eq!((t.slots(at(0)) > 0, t.recipients_left(at(0))), (true, 1));
        t.begin(at(0), 1);
        assert_eq!((t.slots(at(0)), t.opens_at(at(0))), (0, at(0)), "no time is known");
        t.end(2);
        t.served(at(1), 2);
        assert_eq!(t.slots(at(1)), 0);
        t.end(1);
        assert!(t.slots(at(1)) > 0, "the one that failed is free again");
    }

    #[test]
    fn no_limit_means_no_wait_and_no_memory() {
        let mut t = Throttle::new(0, 0, vec![]);
        for _ in 0..1000 {
            t.begin(at(0), 1);
        }
        assert_eq!(t.slots(at(0)), usize::MAX);
        assert_eq!(t.opens_at(at(0)), at(0));
        assert_eq!(t.sent.len(), 0);
    }
}
