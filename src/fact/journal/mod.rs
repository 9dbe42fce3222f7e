//! The observer that writes the log.
//!
//! Invariant: a fact has one line, with a field `event` (its name) and, where a message is meant, `id`; what it means and
//! what to do follow as lines of `hint`. What a peer can repeat at will has one line a minute, so that no peer writes the
//! log full, and no stranger hides a line about a device; whether a line is written changes nothing for any other
//! observer. Must not know: where the lines go.

mod lines;

use super::{At, Fact, Observer};
use crate::policy::admission::Standing;
use crate::policy::peer::Peer;
use lines::{HeldBack, Line, Lines};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tracing::{info, warn};

/// A scan of the network by more peers than this is logged in part, strangers and devices each for themselves.
const PEERS: usize = 1000;

/// Writes a line a fact.
#[derive(Debug)]
pub struct Journal(Mutex<Repeated>);

#[derive(Debug)]
struct Repeated {
    of_devices: Lines,
    of_strangers: Lines,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self(Mutex::new(Repeated { of_devices: Lines::new(PEERS), of_strangers: Lines::new(PEERS) }))
    }

    /// Says what was held back more than a minute ago; to be called now and then.
    pub fn overdue(&self, now: Instant) {
        let mut repeated = self.lock();
        let due = [repeated.of_devices.overdue(now), repeated.of_strangers.overdue(now)];
        drop(repeated);
        due.into_iter().flatten().for_each(say);
    }

    /// Says whatever is still held back, at the end.
    pub fn close(&self) {
        let mut repeated = self.lock();
        let rest = [repeated.of_devices.rest(), repeated.of_strangers.rest()];
        drop(repeated);
        rest.into_iter().flatten().for_each(say);
    }

    fn repeated(&self, by: Peer, standing: Standing, event: &'static str, now: Instant) -> Line {
        let mut repeated = self.lock();
        let lines = match standing {
            Standing::Device => &mut repeated.of_devices,
            Standing::Stranger => &mut repeated.of_strangers,
        };
        lines.tell(by, event, now)
    }

    fn lock(&self) -> MutexGuard<'_, Repeated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Journal {
    fn saw(&self, at: At, fact: &Fact) {
        match fact {
            Fact::Receive(fact) => {
                let line = fact.repeated_by().map_or(Line::FIRST, |(peer, standing)| {
                    self.repeated(Peer::of(peer), standing, fact.event(), at.instant)
                });
                if let Line::Written { held_back } = line {
                    fact.log(held_back);
                }
            }
            Fact::Queue(fact) => fact.log(),
            Fact::Token(fact) => fact.log(),
            Fact::Submit(fact) => fact.log(),
            Fact::Dispatch(fact) => fact.log(),
            Fact::Notify(fact) => fact.log(),
            Fact::Daemon(fact) => fact.log(),
        }
    }
}

/// Lines that were held back, told once their minute is over.
fn say(HeldBack { about, lines }: HeldBack) {
    match about {
        Some((peer, of)) => {
            info!(event = "held_back", of, %peer, lines, "{lines} more lines of {of} about {peer} were held back");
        }
        None => warn!(event = "held_back", lines, "{lines} more lines about other peers were held back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_flood_of_strangers_hides_no_line_about_a_device() {
        let (journal, now) = (Journal::new(), Instant::now());
        for n in 0..100_000_u32 {
            let stranger = Peer::of(IpAddr::V4(n.into()));
            journal.repeated(stranger, Standing::Stranger, "relay_refused", now);
        }
        let device = Peer::of(Ipv4Addr::new(10, 0, 5, 7).into());
        assert_eq!(journal.repeated(device, Standing::Device, "handshake_failed", now), Line::FIRST);
        let untold = journal.lock().of_strangers.rest();
        assert_eq!(untold.iter().map(|h| h.lines).sum::<u64>(), 99_000);
    }
}
