//! How much one peer, one client and all together may ask for.
//!
//! Invariant: who may not relay takes no connection from who may. What is kept is bounded by the connections and clients
//! there are. Pure: `now` is an argument.
//! Must not know: sockets, settings; the caps come with each question.

use crate::mail::ClientName;
use crate::policy::admission::Standing;
use crate::policy::peer::Peer;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// Connections of peers that may not relay: enough to tell a device that is set up wrong what is wrong.
const STRANGERS: Caps = Caps { total: 32, per_address: 4, per_peer: 4 };

/// Connections at once.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// All together.
    pub total: usize,
    /// From one address.
    pub per_address: usize,
    /// From one peer: for IPv6, from all addresses of a /64.
    pub per_peer: usize,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All together.
    Total(Standing),
    /// One address.
    Address(usize),
    /// A /64.
    Network(usize),
}

impl Full {
    /// The words for the peer.
    pub fn reply(self) -> String {
        match self {
            Self::Total(Standing::Device) => "421 4.7.0 too many connections, try again later\r\n".into(),
            Self::Total(Standing::Stranger) => {
                "421 4.7.0 too many connections from addresses that may not relay here\r\n".into()
            }
            Self::Address(n) => format!("421 4.7.0 more than {n} connections from your address\r\n"),
            Self::Network(n) => format!("421 4.7.0 more than {n} connections from your network\r\n"),
        }
    }
}

#[derive(Debug, Default)]
struct Pool {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    by_peer: HashMap<Peer, usize>,
}

impl Pool {
    fn room(&self, address: IpAddr, standing: Standing, caps: Caps) -> Result<(), Full> {
        if self.by_address.get(&address).copied().unwrap_or(0) >= caps.per_address {
            Err(Full::Address(caps.per_address))
        } else if self.by_peer.get(&Peer::of(address)).copied().unwrap_or(0) >= caps.per_peer {
            Err(Full::Network(caps.per_peer))
        } else if self.total >= caps.total {
            Err(Full::Total(standing))
        } else {
            Ok(())
        }
    }

    fn add(&mut self, address: IpAddr) {
        self.total += 1;
        *self.by_address.entry(address).or_default() += 1;
        *self.by_peer.entry(Peer::of(address)).or_default() += 1;
    }

    fn remove(&mut self, address: IpAddr) {
        self.total = self.total.saturating_sub(1);
        one_less(&mut self.by_address, address);
        one_less(&mut self.by_peer, Peer::of(address));
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: K) {
    if let Entry::Occupied(mut count) = counts.entry(of) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The counts.
#[derive(Debug, Default)]
pub struct Limits {
    devices: Pool,
    strangers: Pool,
    messages: HashMap<ClientName, VecDeque<Instant>>,
}

impl Limits {
    /// Counts a device's connection in; each is to be counted out by `disconnected`.
    ///
    /// # Errors
    /// There are too many; it is not counted.
    pub fn device_connected(&mut self, address: IpAddr, caps: Caps) -> Result<(), Full> {
        self.devices.room(address, Standing::Device, caps)?;
        self.devices.add(address);
        Ok(())
    }

    /// Counts a stranger's connection in, likewise.
    ///
    /// # Errors
    /// There are too many of them; it is not counted.
    pub fn stranger_connected(&mut self, address: IpAddr) -> Result<(), Full> {
        self.strangers.room(address, Standing::Stranger, STRANGERS)?;
        self.strangers.add(address);
        Ok(())
    }

    /// Counts a connection out.
    pub fn disconnected(&mut self, address: IpAddr, standing: Standing) {
        self.pool(standing).remove(address);
    }

    /// A reload changed who may relay: the connection counts among the others from now on, however many they are.
    pub fn judged_anew(&mut self, address: IpAddr, before: Standing, after: Standing) {
        self.pool(before).remove(address);
        self.pool(after).add(address);
    }

    fn pool(&mut self, standing: Standing) -> &mut Pool {
        match standing {
            Standing::Device => &mut self.devices,
            Standing::Stranger => &mut self.strangers,
        }
    }

    /// Connections at this moment, strangers' included.
    pub fn connections(&self) -> usize {
        self.devices.total + self.strangers.total
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
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an `Instant` comes from nowhere else")]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn v4(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    fn in_64(network: u8, host: u8) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, network.into(), 0, 0, 0, host.into()).into()
    }

    const CAPS: Caps = Caps { total: 3, per_address: 2, per_peer: 2 };

    #[test]
    fn connections_are_capped_by_peer_and_in_total_and_given_back() {
        let (mut limits, a, b) = (Limits::default(), v4(1), v4(2));
        assert_eq!(limits.device_connected(a, CAPS), Ok(()));
        assert_eq!(limits.device_connected(a, CAPS), Ok(()));
        assert_eq!(limits.device_connected(a, CAPS), Err(Full::Address(2)));
        assert_eq!(limits.device_connected(b, CAPS), Ok(()));
        assert_eq!(limits.device_connected(b, CAPS), Err(Full::Total(Standing::Device)));
        limits.disconnected(a, Standing::Device);
        assert_eq!(limits.device_connected(b, CAPS), Ok(()));
        for peer in [a, b, b] {
            limits.disconnected(peer, Standing::Device);
        }
        assert_eq!(limits.connections(), 0);
        assert!(limits.devices.by_peer.is_empty() && limits.devices.by_address.is_empty());
        let none = Caps { per_address: 0, ..CAPS };
        assert_eq!(limits.device_connected(a, none), Err(Full::Address(0)));
        assert!(limits.devices.by_peer.is_empty());
    }

    #[test]
    fn a_host_that_has_a_network_of_its_own_gets_no_more_than_its_share() {
        let mut limits = Limits::default();
        assert_eq!(limits.device_connected(in_64(1, 1), CAPS), Ok(()));
        assert_eq!(limits.device_connected(in_64(1, 2), CAPS), Ok(()));
        assert_eq!(limits.device_connected(in_64(1, 3), CAPS), Err(Full::Network(2)));
        assert_eq!(limits.device_connected(in_64(2, 1), CAPS), Ok(()));
        let taken = (0..=255).filter(|host| limits.stranger_connected(in_64(3, *host)).is_ok()).count();
        assert_eq!(taken, STRANGERS.per_peer);
    }

    #[test]
    fn strangers_have_a_pool_of_their_own_and_take_nothing_of_the_devices() {
        let mut limits = Limits::default();
        let taken = (0..=255).filter(|n| limits.stranger_connected(v4(*n)).is_ok()).count();
        assert_eq!(taken, STRANGERS.total);
        assert_eq!(limits.stranger_connected(v4(99)), Err(Full::Total(Standing::Stranger)));
        for n in 1..=3 {
            assert_eq!(limits.device_connected(v4(n), CAPS), Ok(()), "a device among its neighbours");
        }
        assert_eq!(limits.device_connected(v4(4), CAPS), Err(Full::Total(Standing::Device)));
        limits.disconnected(v4(0), Standing::Stranger);
        assert_eq!(limits.stranger_connected(v4(99)), Ok(()));
    }

    #[test]
    fn who_is_judged_anew_counts_among_the_others() {
        let mut limits = Limits::default();
        for n in 1..=3 {
            limits.device_connected(v4(n), CAPS).unwrap();
            limits.judged_anew(v4(n), Standing::Device, Standing::Stranger);
        }
        assert_eq!((limits.devices.total, limits.strangers.total), (0, 3));
        assert_eq!(limits.device_connected(v4(4), CAPS), Ok(()));
        limits.judged_anew(v4(1), Standing::Stranger, Standing::Device);
        limits.disconnected(v4(1), Standing::Device);
        for n in [2, 3] {
            limits.disconnected(v4(n), Standing::Stranger);
        }
        limits.disconnected(v4(4), Standing::Device);
        assert_eq!(limits.connections(), 0);
        assert!(limits.devices.by_peer.is_empty() && limits.strangers.by_peer.is_empty());
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
}
