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
    /// Older than this and still waiting: the sender is told once.
    pub warn_after: Duration,
    /// Older than this when an attempt fails: given up.
    pub expire_after: Duration,
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
    fn jitter_moves_a_delay_by_a_tenth_at_most() {
        let one = [Duration::from_secs(100)];
        assert_eq!(delay(&one, 1, 0.0).as_secs(), 90);
        assert_eq!(delay(&one, 1, 1.0).as_secs(), 110);
    }
}
