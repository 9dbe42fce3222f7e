//! What the log has heard of whom: a fact that a peer can repeat at will has one line a minute, and the next line
//! says how many were held back.
//!
//! Invariant: at most `most` peers and events are remembered; what is beyond is counted, and nothing that was held
//! back stays untold for longer than two calls of `overdue`. Pure: `now` is an argument. Must not know: the words.

use crate::policy::peer::Peer;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Whether a fact gets a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It does.
    Written {
        /// Lines about the same that did not, since the last one that did.
        held_back: u64,
    },
    /// The log has had it within this minute.
    HeldBack,
}

impl Line {
    pub(super) const FIRST: Self = Self::Written { held_back: 0 };
}

/// Lines that were held back and whose minute is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeldBack {
    /// About whom and what; none: about more peers than are remembered.
    pub(super) about: Option<(Peer, &'static str)>,
    /// How many.
    pub(super) lines: u64,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    held_back: u64,
}

/// The lines of the last minute.
#[derive(Debug)]
pub(super) struct Lines {
    most: usize,
    told: HashMap<(Peer, &'static str), Told>,
    beyond: u64,
}

impl Lines {
    /// Remembers at most so many peers and events.
    pub(super) fn new(most: usize) -> Self {
        Self { most, told: HashMap::new(), beyond: 0 }
    }

    /// Whether this gets a line.
    pub(super) fn tell(&mut self, peer: Peer, event: &'static str, now: Instant) -> Line {
        if let Some(told) = self.told.get_mut(&(peer, event)) {
            if now.saturating_duration_since(told.at) < MINUTE {
                told.held_back += 1;
                return Line::HeldBack;
            }
            told.at = now;
            return Line::Written { held_back: std::mem::take(&mut told.held_back) };
        }
        if self.told.len() >= self.most {
            self.beyond += 1;
            return Line::HeldBack;
        }
        self.told.insert((peer, event), Told { at: now, held_back: 0 });
        Line::Written { held_back: 0 }
    }

    /// Forgets what is older than a minute, and gives back what was held back in it: of a peer that fell silent no
    /// further line would say so.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<HeldBack> {
        let is_old = |told: &mut Told| now.saturating_duration_since(told.at) >= MINUTE;
        let old = self.told.extract_if(|_, told| is_old(told));
        let mut due: Vec<HeldBack> = old
            .filter(|(_, told)| told.held_back > 0)
            .map(|(about, told)| HeldBack { about: Some(about), lines: told.held_back })
            .collect();
        if self.beyond > 0 {
            due.push(HeldBack { about: None, lines: std::mem::take(&mut self.beyond) });
        }
        due
    }

    /// Whatever is still held back, at the end.
    pub(super) fn rest(&mut self) -> Vec<HeldBack> {
        let held = self.told.iter_mut().filter(|(_, told)| told.held_back > 0);
        held.map(|(about, told)| HeldBack { about: Some(*about), lines: std::mem::take(&mut told.held_back) })
            .chain(
                (self.beyond > 0)
                    .then_some(HeldBack { about: None, lines: std::mem::take(&mut self.beyond) }),
            )
            .collect()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an `Instant` comes from nowhere else")]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv6Addr};

    const REFUSED: &str = "relay_refused";
    const FULL: &str = "too_many_connections";

    fn peer(n: u32) -> Peer {
        Peer::of(IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64)))
    }

    #[test]
    fn a_peer_has_one_line_a_minute_and_event_and_the_next_one_counts_what_was_held_back() {
        let (mut lines, start) = (Lines::new(10), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(lines.tell(peer(1), REFUSED, at(0)), Line::FIRST);
        for _ in 0..11_000 {
            assert_eq!(lines.tell(peer(1), REFUSED, at(1)), Line::HeldBack);
        }
        assert_eq!(lines.tell(peer(1), FULL, at(1)), Line::FIRST);
        assert_eq!(lines.tell(peer(2), REFUSED, at(1)), Line::FIRST);
        assert_eq!(lines.tell(peer(1), REFUSED, at(60)), Line::Written { held_back: 11_000 });
        assert_eq!(lines.tell(peer(1), REFUSED, at(61)), Line::HeldBack);
        assert_eq!(lines.tell(peer(1), REFUSED, at(120)), Line::Written { held_back: 1 });
    }

    #[test]
    fn what_was_held_back_is_told_though_nothing_follows() {
        let (mut lines, start) = (Lines::new(10), Instant::now());
        for _ in 0..5 {
            lines.tell(peer(1), REFUSED, start);
        }
        lines.tell(peer(2), REFUSED, start);
        assert_eq!(lines.overdue(start + Duration::from_secs(59)), []);
        let told = HeldBack { about: Some((peer(1), REFUSED)), lines: 4 };
        assert_eq!(lines.overdue(start + MINUTE), [told]);
        assert!(lines.told.is_empty(), "and forgotten");
        lines.tell(peer(1), REFUSED, start);
        lines.tell(peer(1), REFUSED, start);
        let told = HeldBack { about: Some((peer(1), REFUSED)), lines: 1 };
        assert_eq!(lines.rest(), [told]);
        assert_eq!(lines.rest(), []);
    }

    #[test]
    fn a_flood_of_networks_needs_bounded_memory_and_is_counted() {
        let (mut lines, start) = (Lines::new(1000), Instant::now());
        let written = (0..100_000).filter(|n| lines.tell(peer(*n), REFUSED, start) == Line::FIRST).count();
        assert_eq!((written, lines.told.len()), (1000, 1000));
        assert_eq!(lines.overdue(start), [HeldBack { about: None, lines: 99_000 }]);
        lines.overdue(start + MINUTE);
        assert_eq!(lines.tell(peer(5000), REFUSED, start + MINUTE), Line::FIRST, "old ones make room");
    }
}
