//! The two clocks: the wall's, for people, and the relay's own, for decisions.
//!
//! Invariant: `RelayTime` only moves forward and never jumps, whatever NTP or a flat CMOS battery does to the
//! wall clock; so nothing is ever due or expired too early. It counts running time, plus a bounded credit for
//! time spent switched off (see `queue`). Must not know: how either clock is read.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Milliseconds of the relay's own steady clock. Meaningless to people; never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RelayTime(i64);

impl RelayTime {
    /// From stored milliseconds.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds, for storing.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for RelayTime {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Milliseconds since 1970 on the wall clock: for headers, logs and people, never for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallTime(i64);

impl WallTime {
    /// From milliseconds since 1970.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// The wall clock, now. The only place that reads it.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// As a `jiff` timestamp, for printing.
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// RFC 5322 section 3.3 date-time in UTC, as in `Mon, 23 Nov 2026 12:00:00 +0000`.
    pub fn rfc5322(self) -> String {
        self.timestamp().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }
}

impl std::fmt::Display for WallTime {
    /// RFC 3339 in UTC, to the second.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_prints_as_rfc_5322_and_rfc_3339() {
        let t = WallTime::from_ms(1_795_435_200_000);
        assert_eq!(t.rfc5322(), "Mon, 23 Nov 2026 12:00:00 +0000");
        assert_eq!(t.to_string(), "2026-11-23T12:00:00Z");
    }

    #[test]
    fn time_since_a_later_moment_is_zero() {
        assert_eq!(RelayTime::from_ms(5).since(RelayTime::from_ms(9)), Duration::ZERO);
    }
}
