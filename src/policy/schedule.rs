//! When a message or an account is tried again.
//!
//! Invariant: the delays are used in order and the last one repeats; jitter moves a delay by at most a tenth, so
//! that a hundred relays do not knock at the same second. `jitter` is in 0.0..1.0 and an argument.

use std::time::Duration;

/// The delay after `failures` failures in a row (at least one), of a non-empty list.
pub fn delay(delays: &[Duration], failures: u32, jitter: f64) -> Duration {
    let last = delays.len().saturating_sub(1);
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(last).min(last);
    let base = delays.get(step).copied().unwrap_or(Duration::from_secs(60));
    base.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

/// Settings of retries, from `[retry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// A message's delays.
    pub delays: Vec<Duration>,
    /// The breaker's, for transient faults.
    pub account_delays: Vec<Duration>,
    /// The breaker's, for refused logins and the like.
    pub hold_delays: Vec<Duration>,
    /// Older than this and put off: the sender is told once.
    pub warn_after: Duration,
    /// Put off again and again for as long as this: given up.
    pub expire_after: Duration,
}

impl Retry {
    /// Whether a recipient put off so many times, for the first time so long ago, is given up. Time alone does not
    /// do it: a message that waited for its account, for a person or for a relay that was switched off had no chance
    /// meanwhile. So half of `expire_after` must have passed between its own attempts, by their own delays.
    pub fn gives_up(&self, deferrals: u32, tried_for: Duration) -> bool {
        tried_for >= self.expire_after && self.between(deferrals) >= self.expire_after / 2
    }

    /// The delays between so many attempts, without jitter.
    fn between(&self, attempts: u32) -> Duration {
        let gaps = attempts.saturating_sub(1);
        let listed = self.delays.iter().take(usize::try_from(gaps).unwrap_or(usize::MAX)).sum();
        let beyond = gaps.saturating_sub(u32::try_from(self.delays.len()).unwrap_or(u32::MAX));
        self.delays.last().map_or(listed, |last| listed.saturating_add(last.saturating_mul(beyond)))
    }
}

impl Default for Retry {
    fn default() -> Self {
        let s = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect();
        Self {
            delays: s(&[30, 60, 120, 300, 600, 900, 1800]),
            account_delays: s(&[5, 10, 20, 40, 60, 120, 300, 600, 900]),
            hold_delays: s(&[60, 300, 900, 1800]),
            warn_after: Duration::from_secs(4 * 3600),
            expire_after: Duration::from_secs(5 * 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_go_in_order_and_the_last_repeats() {
        let delays = Retry::default().delays;
        let secs = |n| delay(&delays, n, 0.5).as_secs();
        assert_eq!([secs(1), secs(2), secs(7), secs(8), secs(900)], [30, 60, 1800, 1800, 1800]);
    }

    #[test]
    fn a_recipient_is_given_up_after_a_time_with_attempts_of_its_own_in_it() {
        let days = |d: u64| Duration::from_secs(d * 86_400);
        let usual = Retry::default();
        let hourly = Retry {
            delays: vec![Duration::from_secs(3600)],
            expire_after: Duration::from_secs(1800),
            ..Retry::default()
        };
        let at_once = Retry { expire_after: Duration::ZERO, ..Retry::default() };
        for (retry, deferrals, tried_for, gives_up) in [
            (&usual, 1, days(0), false),
            // As many attempts as five days of the usual delays hold, and as two and a half.
            (&usual, 246, days(5) - Duration::from_secs(1), false),
            (&usual, 246, days(5), true),
            (&usual, 126, days(9), true),
            (&usual, 125, days(9), false),
            (&usual, 2, days(300), false),
            (&usual, u32::MAX, days(4), false),
            // Delays longer than the whole time: the second attempt is the last.
            (&hourly, 1, Duration::ZERO, false),
            (&hourly, 2, Duration::from_secs(3600), true),
            (&at_once, 1, Duration::ZERO, true),
        ] {
            assert_eq!(retry.gives_up(deferrals, tried_for), gives_up, "{deferrals} in {tried_for:?}");
        }
    }

    #[test]
    fn jitter_moves_a_delay_by_a_tenth_at_most() {
        let one = [Duration::from_secs(100)];
        assert_eq!(delay(&one, 1, 0.0).as_secs(), 90);
        assert_eq!(delay(&one, 1, 1.0).as_secs(), 110);
    }
}
