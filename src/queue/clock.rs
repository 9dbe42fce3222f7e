//! The relay's steady clock, carried over restarts.
//!
//! Invariant: `now` never goes back and never jumps. While running it follows the monotonic clock. A restart
//! continues where the last run left off, plus the time switched off as far as the wall clock can be believed:
//! never negative, and at most `MAX_CREDIT`. So a dead CMOS battery or a wrong NTP server cannot expire a message
//! early; a relay that was off for a weekend keeps its mail a weekend longer.

use crate::mail::{RelayTime, WallTime};
use std::time::{Duration, Instant};

/// Long enough that everything deferred by the usual delays is due after a night switched off, short enough that
/// a wild wall clock cannot eat `expire_after`.
const MAX_CREDIT: Duration = Duration::from_secs(3600);

/// Read by everyone who needs `now`; written by nobody.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: RelayTime,
    started: Instant,
}

impl Clock {
    /// Continues from what the queue remembered, or begins at zero.
    pub fn resume(last: Option<(RelayTime, WallTime)>, wall: WallTime, started: Instant) -> Self {
        let base = last.map_or(RelayTime::default(), |(relay, at)| {
            let off = u64::try_from(wall.as_ms().saturating_sub(at.as_ms())).unwrap_or(0);
            relay + Duration::from_millis(off).min(MAX_CREDIT)
        });
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

    fn resumed(wall_then: i64, wall_now: i64) -> i64 {
        let started = Instant::now();
        let last = Some((RelayTime::from_ms(1000), WallTime::from_ms(wall_then)));
        Clock::resume(last, WallTime::from_ms(wall_now), started).at(started).as_ms()
    }

    #[test]
    fn a_restart_continues_whatever_the_wall_clock_did_meanwhile() {
        assert_eq!(resumed(50_000, 53_000), 4_000, "three seconds off");
        assert_eq!(resumed(50_000, 0), 1_000, "the wall clock fell back to 1970");
        assert_eq!(resumed(0, 1_795_435_200_000), 3_601_000, "it jumped ahead by decades");
    }

    #[test]
    fn a_running_clock_follows_the_monotonic_clock() {
        let started = Instant::now();
        let clock = Clock::resume(None, WallTime::from_ms(7), started);
        assert_eq!(clock.at(started + Duration::from_millis(250)).as_ms(), 250);
    }
}
