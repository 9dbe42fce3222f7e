//! How long dead letters are kept where the admin has set an end.
//!
//! Invariant: pure; ages go by the relay's clock. A `keep_dead` that is new ends nothing at once: what is older
//! already gets the time that telling ahead takes. Must not know: where the setting stands, who is told.

use super::error::QueueError;
use super::role::Notes;
use crate::mail::RelayTime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A dead letter's end is told so long ahead.
const TOLD_AHEAD: Duration = Duration::from_secs(7 * 86_400);
const NOTE: &str = "keep_dead";

/// How long what is finished is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Delivered messages are remembered so long.
    pub history: Duration,
    /// Dead letters are kept so long; none: until somebody retries or removes them.
    pub dead: Option<Duration>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { history: Duration::from_secs(30 * 86_400), dead: None }
    }
}

/// A `keep_dead` in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepDead {
    keep: Duration,
    /// When it was first seen, on the relay's clock.
    since: RelayTime,
}

impl KeepDead {
    /// What is in effect by the queue's memory; none: dead letters are kept for ever.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    pub async fn remembered(notes: &dyn Notes) -> Result<Option<Self>, QueueError> {
        Ok(notes.note(NOTE).await?.and_then(|json| serde_json::from_str(&json).ok()))
    }

    /// Takes what the admin has set, and remembers since when it has been so.
    ///
    /// # Errors
    /// Any.
    pub async fn set(
        notes: &dyn Notes,
        keep: Option<Duration>,
        now: RelayTime,
    ) -> Result<Option<Self>, QueueError> {
        let before = Self::remembered(notes).await?;
        let is_the_same = before.map(|b| b.keep) == keep;
        // A clock that begins anew makes of every moment before it one in the future.
        if is_the_same && before.is_none_or(|b| b.since <= now) {
            return Ok(before);
        }
        let after = keep.map(|keep| Self { keep, since: now });
        let json = after.map(|a| serde_json::to_string(&a).expect("a duration and a moment are JSON"));
        notes.set_note(NOTE, json).await?;
        Ok(after)
    }

    /// When a dead letter ends that was given up at `finished`.
    pub fn end(&self, finished: RelayTime) -> RelayTime {
        (finished + self.keep).max(self.since + self.keep.min(TOLD_AHEAD))
    }

    /// What was given up before this has ended at `now`; none: nothing has.
    pub fn ended(&self, now: RelayTime) -> Option<RelayTime> {
        let first_end = self.end(RelayTime::from_ms(i64::MIN));
        let keep_ms = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        (first_end <= now).then(|| RelayTime::from_ms(now.as_ms().saturating_sub(keep_ms).saturating_add(1)))
    }

    /// What was given up before this ends within the time it is told ahead; none: nothing does.
    pub fn told(&self, now: RelayTime) -> Option<RelayTime> {
        self.ended(now + TOLD_AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn day(n: u64) -> RelayTime {
        RelayTime::default() + Duration::from_secs(n * DAY)
    }

    fn keep(days: u64, since: u64) -> KeepDead {
        KeepDead { keep: Duration::from_secs(days * DAY), since: day(since) }
    }

    #[test]
    fn a_dead_letter_ends_in_time_but_a_new_setting_leaves_a_week() {
        for (keep, finished, end) in [
            (keep(30, 0), 10, 40),
            (keep(30, 100), 10, 107),
            (keep(30, 100), 80, 110),
            (keep(2, 100), 10, 102),
            (keep(2, 100), 101, 103),
        ] {
            assert_eq!(keep.end(day(finished)), day(end), "{keep:?} {finished}");
        }
    }

    #[test]
    fn what_has_ended_is_what_was_given_up_early_enough() {
        let k = keep(30, 100);
        assert_eq!(k.ended(day(106)), None, "old dead letters too get their week");
        for (now, finished) in [(107, 77), (150, 120)] {
            let before = k.ended(day(now)).unwrap();
            assert!(day(finished) < before, "its end is this moment");
            assert!(before <= RelayTime::from_ms(day(finished).as_ms() + 1), "and no later one's is");
        }
        assert_eq!(k.told(day(99)), None);
        assert!(k.told(day(100)).is_some_and(|before| before > day(77)), "told as soon as it is set");
    }
}
