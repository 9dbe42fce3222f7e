//! Date fields (RFC 5322 section 3.3) as devices write them.
//!
//! Invariant: what is believed here, every reader reads as the same time. Must not know: what becomes of the others.

use crate::mail::WallTime;
use jiff::SignedDuration;

/// A device's clock may be a day ahead (a time zone set wrong, twice) ...
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(24);
/// ... and no further back than any mail is worth: a flat battery starts at 1970, 2000, 2010 or 2015.
const MAX_BEHIND: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Whether a Date can be believed: it can be read, has a year of four digits, and is near enough to now.
pub(super) fn is_plausible(value: &[u8], now: WallTime) -> bool {
    static PARSER: jiff::fmt::rfc2822::DateTimeParser =
        jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let Ok(text) = std::str::from_utf8(value) else { return false };
    // RFC 5322 section 4.3 guesses the century of a short year; so would every reader, each its own way.
    let year = text.split_ascii_whitespace().rev().skip_while(|w| !w.contains(':')).nth(1);
    if year.is_none_or(|y| y.len() != 4) {
        return false;
    }
    let Ok(then) = PARSER.parse_timestamp(text) else { return false };
    let age = now.timestamp().duration_since(then);
    age >= -MAX_AHEAD && age <= MAX_BEHIND
}
