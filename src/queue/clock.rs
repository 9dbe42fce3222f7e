//! The relay's steady clock, which comes with the queue: messages are due and expire by it.
//!
//! Invariant: `now` never goes back and never jumps: it follows the monotonic clock from where the backend began it.
//! Must not know: what a backend remembers of the time before.

use crate::mail::RelayTime;
use std::time::{Duration, Instant};

/// Read by everyone who needs `now`; written by nobody.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: RelayTime,
    started: Instant,
}

impl Clock {
    /// As a backend begins it: it was `base` at `started`.
    pub fn new(base: RelayTime, started: Instant) -> Self {
        Self { base, started }
    }

    /// The moment, at `instant`.
    pub fn at(&self, instant: Instant) -> RelayTime {
        self.base + instant.saturating_duration_since(self.started)
    }

    /// The moment now.
    pub fn now(&self) -> RelayTime {
        self.at(Instant::now())
    }

    /// How long from now until `then`; zero when it is past.
    pub fn until(&self, then: RelayTime) -> Duration {
        then.since(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_clock_follows_the_monotonic_clock() {
        let started = Instant::now();
        let clock = Clock::new(RelayTime::from_ms(7), started);
        assert_eq!(clock.at(started + Duration::from_millis(250)).as_ms(), 257);
    }
}
