//! When a client secret or certificate ends, when to say so, and in which words.
//!
//! Invariant: each warning is given once, the nearest one first after a long silence; whoever tells of it uses these
//! words. Must not know: clocks, logs.

use crate::mail::WallTime;
use std::fmt;

/// Days ahead on which the admin is told.
pub const WARN_DAYS: [u16; 4] = [30, 14, 7, 1];

/// A credential that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// `client secret` or `certificate`.
    pub what: &'static str,
    /// From then on the token endpoint refuses it.
    pub at: WallTime,
}

impl Expiry {
    /// Whole days left, rounded down; negative once it has ended.
    pub fn days_left(self, now: WallTime) -> i64 {
        self.at.as_ms().saturating_sub(now.as_ms()).div_euclid(86_400_000)
    }

    /// One line without a capital: `the client secret of scanner@contoso.com expires in 5 days, on ...`.
    pub fn words(self, whose: &impl fmt::Display, now: WallTime) -> String {
        let (what, at) = (self.what, self.at);
        match self.days_left(now) {
            d if d < 0 => format!("the {what} of {whose} has expired on {at}"),
            0 => format!("the {what} of {whose} expires within a day, on {at}"),
            1 => format!("the {what} of {whose} expires in 1 day, on {at}"),
            d => format!("the {what} of {whose} expires in {d} days, on {at}"),
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        "add the next one to the application now, both may stand side by side; put it in its file, then: systemctl \
         reload mailferry (restart, where it is a systemd credential)"
    }
}

/// Which of `WARN_DAYS` is due with this many days left, when the last one told was `already_told`.
pub fn expiry_warning(days_left: i64, already_told: Option<u16>) -> Option<u16> {
    let due = WARN_DAYS.into_iter().filter(|d| days_left <= i64::from(*d)).min()?;
    already_told.is_none_or(|told| due < told).then_some(due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::AccountId;

    #[test]
    fn each_warning_is_given_once() {
        let mut told = None;
        let mut said = Vec::new();
        for days_left in (-3..=60).rev() {
            if let Some(due) = expiry_warning(days_left, told) {
                said.push((days_left, due));
                told = Some(due);
            }
        }
        assert_eq!(said, [(30, 30), (14, 14), (7, 7), (1, 1)]);
    }

    #[test]
    fn after_a_long_silence_only_the_nearest_warning_is_given() {
        let cases = [
            (31, None, None),
            (10, None, Some(14)),
            (-100, None, Some(1)),
            (5, Some(30), Some(7)),
            (5, Some(7), None),
            (0, Some(1), None),
        ];
        for (left, told, due) in cases {
            assert_eq!(expiry_warning(left, told), due, "{left} days left, told {told:?}");
        }
    }

    #[test]
    fn the_end_is_told_in_days_that_are_left() {
        let e = Expiry { what: "client secret", at: WallTime::from_ms(10 * 86_400_000) };
        let id = AccountId::new("scanner@contoso.com");
        for (day, said) in [
            (5, "expires in 5 days, on"),
            (9, "expires in 1 day, on"),
            (10, "expires within a day, on"),
            (11, "has expired on"),
        ] {
            let words = e.words(&id, WallTime::from_ms(day * 86_400_000));
            let whole = format!("the client secret of scanner@contoso.com {said} 1970-01-11");
            assert!(words.starts_with(&whole), "{words}");
        }
    }

    #[test]
    fn the_days_left_are_rounded_down() {
        let e = Expiry { what: "certificate", at: WallTime::from_ms(10 * 86_400_000) };
        assert_eq!(e.days_left(WallTime::from_ms(1)), 9);
        assert_eq!(e.days_left(WallTime::from_ms(10 * 86_400_000)), 0);
        assert_eq!(e.days_left(WallTime::from_ms(10 * 86_400_000 + 1)), -1);
    }
}
