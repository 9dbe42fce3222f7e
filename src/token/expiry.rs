//! When a client secret or certificate ends, and when to say so.
//!
//! Invariant: each warning is given once, the nearest one first after a long silence. Must not know: clocks,
//! logs.

use super::{Assertion, Grant, Settings, SettingsError};
use crate::mail::WallTime;

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
}

impl Settings {
    /// What ends and when: the certificate's own date, or the day noted for the secret. None where nobody
    /// knows.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn expiry(&self) -> Result<Option<Expiry>, SettingsError> {
        match &self.grant {
            Grant::Certificate { certificate, key } => {
                let at = Assertion::new(certificate, key)?.not_after();
                Ok(Some(Expiry { what: "certificate", at }))
            }
            Grant::Secret(_) => Ok(self.secret_expires.and_then(|day| {
                let at = day.in_tz("UTC").ok()?.timestamp().as_millisecond();
                Some(Expiry { what: "client secret", at: WallTime::from_ms(at) })
            })),
            Grant::DeviceCode { .. } => Ok(None),
        }
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
    fn the_days_left_are_rounded_down() {
        let e = Expiry { what: "certificate", at: WallTime::from_ms(10 * 86_400_000) };
        assert_eq!(e.days_left(WallTime::from_ms(1)), 9);
        assert_eq!(e.days_left(WallTime::from_ms(10 * 86_400_000)), 0);
        assert_eq!(e.days_left(WallTime::from_ms(10 * 86_400_000 + 1)), -1);
    }
}
