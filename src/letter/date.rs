//! Date fields (RFC 5322 section 3.3) as devices write them.
//!
//! Invariant: what is believed here, every reader reads as the same time. Must not know: what becomes of the others.

use crate::mail::WallTime;
use jiff::{SignedDuration, Timestamp};

/// A device's clock may be a day ahead (a time zone set wrong, twice) ...
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(24);
/// ... and no further back than any mail is worth: a flat battery starts at 1970, 2000, 2010 or 2015.
const MAX_BEHIND: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Whether a Date can be believed: it can be read, has a year of four digits, and is near enough to now.
pub(super) fn is_plausible(value: &[u8], now: WallTime) -> bool {
    let Some(then) = read(value) else { return false };
    let age = now.timestamp().duration_since(then);
    age >= -MAX_AHEAD && age <= MAX_BEHIND
}

/// Whether this is a date at all.
pub(super) fn is_date(value: &[u8]) -> bool {
    read(value).is_some()
}

fn read(value: &[u8]) -> Option<Timestamp> {
    static PARSER: jiff::fmt::rfc2822::DateTimeParser =
        jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let text = String::from_utf8(without_comments(value)).ok()?;
    // RFC 5322 section 4.3 guesses the century of a short year; so would every reader, each its own way.
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let time = words.iter().position(|w| w.contains(':'))?;
    if words[..time].last()?.len() != 4 {
        return None;
    }
    PARSER.parse_timestamp(words.join(" ")).ok()
}

/// A comment says what the zone is called, in any language and charset; it may hold others.
fn without_comments(value: &[u8]) -> Vec<u8> {
    let (mut out, mut depth, mut escaped) = (Vec::with_capacity(value.len()), 0_usize, false);
    for b in value {
        match b {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => depth += 1,
            b')' if depth > 0 => {
                depth -= 1;
                out.push(b' ');
            }
            _ if depth == 0 => out.push(*b),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_whatever_its_comments_say() {
        for date in [
            &b"Mon, 23 Nov 2026 11:59:00 +0000"[..],
            b"Mon, 23 Nov 2026 11:59:00 +0100 (MEZ)",
            b"Mon, 23 Nov 2026 11:59:00 +0100 (Mitteleurop\xe4ische Zeit)",
            "Mon, 23 Nov 2026 11:59:00 +0100 (Mitteleuropäische Zeit)".as_bytes(),
            b"Mon, 23 Nov 2026 11:59:00 +0100 (GMT+01:00)",
            b"Mon, 23 Nov 2026 11:59:00 +0100 (UTC+1 (W. Europe) 1:00)",
            b"Mon, 23 Nov 2026 11:59:00 +0100 (a \\) b)",
            b"Mon, 23 Nov 2026 11:59:00 (local) +0100",
            b"(x) Mon (y), 23 Nov 2026 11:59:00 +0100",
            b"23 Nov 2026 11:59:00 GMT (x",
            b"23 Nov 2026 11:59 UT",
            b"Mon, 23 Nov 2026 11:59:00 EST",
            b"Mon,23 Nov 2026 11:59:00 +0100",
            b"Mon,  3 Nov 2026  01:59:00 +0100",
            b"mon, 23 nov 2026 11:59:00 gmt",
            b"Mon, 23 Nov 2026 11:59:60 +0100",
        ] {
            assert!(is_date(date), "{}", date.escape_ascii());
        }
        for no_date in [&b"2026-11-23"[..], b"today", b"(Mon, 23 Nov 2026 11:59:00 +0100)", b"11:59", b""] {
            assert!(!is_date(no_date), "{}", no_date.escape_ascii());
        }
    }
}
