//! The observer that writes the log.
//!
//! Invariant: a fact has one line, with a field `event` (its name) and, where a message is meant, `id`; what it means and
//! what to do follow as lines of `hint`. What a peer can repeat at will has one line a minute, so that no peer writes the
//! log full, and no stranger hides a line about a device; whether a line is written changes nothing for any other
//! observer. Must not know: where the lines go.

mod lines;

use super::{At, Fact, Observer, receive};
use crate::policy::admission::Standing;
use crate::policy::peer::Peer;
use lines::{HeldBack, Line, Lines};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// A scan of the network by more peers than this is logged in part, strangers and devices each for themselves.
const PEERS: usize = 1000;
/// Between two lines about a listener that gets no connections: where descriptors run out and come free in turns, each
/// turn is no news.
const ACCEPT_FAILED_AGAIN: Duration = Duration::from_secs(60);

/// Writes a line a fact.
#[derive(Debug)]
pub struct Journal(Mutex<Repeated>);

#[derive(Debug)]
struct Repeated {
    of_devices: Lines,
    of_strangers: Lines,
    listeners: HashMap<SocketAddr, Listener>,
}

/// What was last said of a listener.
#[derive(Debug)]
struct Listener {
    failed_at: Instant,
    /// And not yet that it works again.
    fails: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// Nothing was written yet.
    pub fn new() -> Self {
        let (of_devices, of_strangers) = (Lines::new(PEERS), Lines::new(PEERS));
        Self(Mutex::new(Repeated { of_devices, of_strangers, listeners: HashMap::new() }))
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

    /// Whether a fact of `receive` gets a line.
    fn line(&self, fact: &receive::Fact, now: Instant) -> Line {
        match fact {
            receive::Fact::AcceptFailed { address, .. } => self.lock().accept_failed(*address, now),
            receive::Fact::AcceptRecovered { address } => self.lock().accept_recovered(*address),
            _ => fact.repeated_by().map_or(Line::FIRST, |(peer, standing)| {
                self.lock().by(Peer::of(peer), standing, fact.event(), now)
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Repeated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repeated {
    fn by(&mut self, peer: Peer, standing: Standing, event: &'static str, now: Instant) -> Line {
        let lines = match standing {
            Standing::Device => &mut self.of_devices,
            Standing::Stranger => &mut self.of_strangers,
        };
        lines.tell(peer, event, now)
    }

    fn accept_failed(&mut self, address: SocketAddr, now: Instant) -> Line {
        let is_news = |l: &Listener| now.saturating_duration_since(l.failed_at) >= ACCEPT_FAILED_AGAIN;
        if self.listeners.get(&address).is_none_or(is_news) {
            self.listeners.insert(address, Listener { failed_at: now, fails: true });
            Line::FIRST
        } else {
            Line::HeldBack
        }
    }

    /// Said of what was said to fail.
    fn accept_recovered(&mut self, address: SocketAddr) -> Line {
        let fails = self.listeners.get_mut(&address).map(|l| std::mem::take(&mut l.fails));
        if fails == Some(true) { Line::FIRST } else { Line::HeldBack }
    }
}

impl Observer for Journal {
    fn saw(&self, at: At, fact: &Fact) {
        match fact {
            Fact::Receive(fact) => {
                if let Line::Written { held_back } = self.line(fact, at.instant) {
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
    fn a_listener_without_descriptors_has_one_line_a_minute_and_one_when_it_works_again() {
        let (journal, start) = (Journal::new(), At::now().instant);
        let address = "0.0.0.0:25".parse().unwrap();
        let at = |s| start + Duration::from_secs(s);
        let failed = |s| journal.lock().accept_failed(address, at(s)) == Line::FIRST;
        let recovered = || journal.lock().accept_recovered(address) == Line::FIRST;
        assert!(!recovered(), "what never failed");
        assert!(failed(0) && !failed(1) && recovered() && !recovered());
        assert!(!failed(59) && !recovered(), "in turns");
        assert!(failed(60) && recovered());
    }

    #[test]
    fn a_flood_of_strangers_hides_no_line_about_a_device() {
        let (journal, now) = (Journal::new(), At::now().instant);
        for n in 0..100_000_u32 {
            let stranger = Peer::of(IpAddr::V4(n.into()));
            journal.lock().by(stranger, Standing::Stranger, "relay_refused", now);
        }
        let device = Peer::of(Ipv4Addr::new(10, 0, 5, 7).into());
        let line = journal.lock().by(device, Standing::Device, "handshake_failed", now);
        assert_eq!(line, Line::FIRST);
        let untold = journal.lock().of_strangers.rest();
        assert_eq!(untold.iter().map(|h| h.lines).sum::<u64>(), 99_000);
    }
}
