//! Where a device on the network finds this computer.
//!
//! Invariant: nothing is sent to find out. Must not know: what listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The addresses this computer would use towards its networks, the one towards the world first; empty without a
/// network. Connecting a datagram socket asks the routing table and sends nothing.
pub fn addresses() -> Vec<IpAddr> {
    // One address in the world (RFC 5737, RFC 3849: nobody's), then one in each private network (RFC 1918, RFC 4193).
    let towards: [IpAddr; 6] = [
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv4Addr::new(10, 255, 255, 254).into(),
        Ipv4Addr::new(172, 31, 255, 254).into(),
        Ipv4Addr::new(192, 168, 255, 254).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        Ipv6Addr::new(0xfdff, 0xffff, 0, 0, 0, 0, 0, 1).into(),
    ];
    let mut found = vec![];
    for address in towards.into_iter().filter_map(towards_it) {
        if !address.is_loopback() && !address.is_unspecified() && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn towards_it(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(peer, 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// Where this computer's own devices reach what listens everywhere.
pub fn from_here(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback() {
        assert_eq!(from_here("0.0.0.0:2525".parse().unwrap()), "127.0.0.1:2525".parse().unwrap());
        assert_eq!(from_here("[::]:25".parse().unwrap()), "[::1]:25".parse().unwrap());
        assert_eq!(from_here("10.1.2.3:25".parse().unwrap()), "10.1.2.3:25".parse().unwrap());
    }

    #[test]
    fn no_address_is_one_that_another_device_cannot_reach() {
        assert!(addresses().iter().all(|a| !a.is_loopback() && !a.is_unspecified()));
    }
}
