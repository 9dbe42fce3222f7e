//! How much one peer, one client and all together may ask for.
//!
//! Invariant: what is kept is bounded by the connections and clients there are, and by `TOLD_PEERS`. Pure: `now` is
//! an argument. Must not know: sockets, settings; the caps come with each question.

use crate::mail::ClientName;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// A scan of the network from more addresses than this is logged in part.
const TOLD_PEERS: usize = 4096;

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `max_connections`.
    Total(usize),
    /// `max_connections_per_client`, or the client's own.
    Address(usize),
}

impl Full {
    /// The words for the peer.
    pub fn reply(self) -> String {
        match self {
            Self::Total(_) => "421 4.7.0 too many connections, try again later\r\n".into(),
            Self::Address(n) => format!("421 4.7.0 more than {n} connections from your address\r\n"),
        }
    }
}

/// What is logged once a minute and peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Not in any client network.
    Refused,
    /// Too many connections.
    Full,
    /// TLS on a plain port.
    TlsOnPlainPort,
    /// AUTH where none is offered.
    AuthNotOffered,
    /// Too many messages a minute.
    Rate,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Limits {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    messages: HashMap<ClientName, VecDeque<Instant>>,
    told: HashMap<(IpAddr, Topic), Instant>,
    swept: Option<Instant>,
}

impl Limits {
    /// Counts a connection in; each is to be counted out by `disconnected`.
    ///
    /// # Errors
    /// There are too many; it is not counted.
    pub fn connected(&mut self, peer: IpAddr, total: usize, per_address: usize) -> Result<(), Full> {
        if self.total >= total {
            return Err(Full::Total(total));
        }
        let count = self.by_address.entry(peer).or_default();
        if *count >= per_address {
            if *count == 0 {
                self.by_address.remove(&peer);
            }
            return Err(Full::Address(per_address));
        }
        *count += 1;
        self.total += 1;
        Ok(())
    }

    /// Counts a connection out.
    pub fn disconnected(&mut self, peer: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.by_address.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&peer);
            }
        }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.total
    }

    /// Counts a message of a client in, if it has not had `per_minute` in the minute before `now`.
    ///
    /// # Errors
    /// How long until the next one is taken.
    pub fn message(&mut self, client: &ClientName, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let taken = match self.messages.get_mut(client) {
            Some(taken) => taken,
            None => self.messages.entry(client.clone()).or_default(),
        };
        while taken.front().is_some_and(|at| now.saturating_duration_since(*at) >= MINUTE) {
            taken.pop_front();
        }
        let cap = usize::try_from(per_minute).unwrap_or(usize::MAX);
        if taken.len() >= cap {
            return Err(taken.front().map_or(MINUTE, |at| MINUTE - now.saturating_duration_since(*at)));
        }
        taken.push_back(now);
        Ok(())
    }

    /// Whether to log this about this peer: once a minute.
    pub fn tell(&mut self, peer: IpAddr, topic: Topic, now: Instant) -> bool {
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < MINUTE;
        if self.told.get(&(peer, topic)).is_some_and(fresh) {
            return false;
        }
        if self.told.len() >= TOLD_PEERS {
            // Not for every peer of a flood.
            if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1)) {
                self.swept = Some(now);
                self.told.retain(|_, at| fresh(at));
            }
            if self.told.len() >= TOLD_PEERS {
                return false;
            }
        }
        self.told.insert((peer, topic), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn connections_are_capped_by_address_and_in_total_and_given_back() {
        let mut limits = Limits::default();
        assert_eq!(limits.connected(A, 3, 2), Ok(()));
        assert_eq!(limits.connected(A, 3, 2), Ok(()));
        assert_eq!(limits.connected(A, 3, 2), Err(Full::Address(2)));
        assert_eq!(limits.connected(B, 3, 2), Ok(()));
        assert_eq!(limits.connected(B, 3, 2), Err(Full::Total(3)));
        limits.disconnected(A);
        assert_eq!(limits.connected(B, 3, 2), Ok(()));
        for peer in [A, B, B] {
            limits.disconnected(peer);
        }
        assert_eq!(limits.connections(), 0);
        assert!(limits.by_address.is_empty());
        assert_eq!(limits.connected(A, 3, 0), Err(Full::Address(0)));
        assert!(limits.by_address.is_empty());
    }

    #[test]
    fn messages_are_counted_over_the_last_minute_not_the_calendar_s() {
        let mut limits = Limits::default();
        let (lan, start) = (ClientName::new("lan"), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(limits.message(&lan, 2, at(0)), Ok(()));
        assert_eq!(limits.message(&lan, 2, at(50)), Ok(()));
        assert_eq!(limits.message(&lan, 2, at(59)), Err(Duration::from_secs(1)));
        assert_eq!(limits.message(&ClientName::new("other"), 2, at(59)), Ok(()));
        assert_eq!(limits.message(&lan, 2, at(60)), Ok(()));
        assert_eq!(limits.message(&lan, 2, at(61)), Err(Duration::from_secs(49)));
    }

    #[test]
    fn a_peer_is_logged_once_a_minute_and_a_flood_of_peers_needs_bounded_memory() {
        let mut limits = Limits::default();
        let start = Instant::now();
        assert!(limits.tell(A, Topic::Refused, start));
        assert!(!limits.tell(A, Topic::Refused, start + Duration::from_secs(59)));
        assert!(limits.tell(A, Topic::TlsOnPlainPort, start));
        assert!(limits.tell(A, Topic::Refused, start + MINUTE));
        for i in 0..100_000u32 {
            limits.tell(IpAddr::V4(i.into()), Topic::Refused, start);
        }
        assert!(limits.told.len() <= TOLD_PEERS);
        assert!(limits.tell(A, Topic::Refused, start + 3 * MINUTE), "old ones make room");
    }
}
