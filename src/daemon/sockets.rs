//! Sockets that the service manager opened for us, and which listener each of them is for.
//!
//! Invariant: a socket serves a listener of exactly its address, or the relay does not start: by another listener's
//! rules somebody might get in who should not. Must not know: what a listener does.

use super::StartError;
use socket2::SockRef;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// A listening socket and what its unit calls it.
#[derive(Debug)]
pub struct Handed {
    /// The socket.
    pub socket: TcpListener,
    /// `mailferry.socket`, or what FileDescriptorName= says; may be empty.
    pub name: String,
}

const NO_LISTENER: &str = "is no listening TCP socket";
const SAME_ADDRESS: &str = "make ListenStream= of the .socket unit and address of a [[listen]] the same, then: systemctl daemon-reload && systemctl restart mailferry.socket";

/// Takes every socket that the environment tells of (sd_listen_fds(3)). To be called before there are threads.
///
/// # Errors
/// One of them is no listening TCP socket.
pub(super) fn handed() -> Result<Vec<Handed>, StartError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut descriptors = listenfd::ListenFd::from_env();
    let mut all = Vec::with_capacity(descriptors.len());
    for i in 0..descriptors.len() {
        let name = names.next().unwrap_or_default().escape_debug().to_string();
        let socket = descriptors.take_tcp_listener(i).ok().flatten();
        match socket.filter(|s| SockRef::from(s).is_listener().unwrap_or(false)) {
            Some(socket) => all.push(Handed { socket, name }),
            None => {
                let hint = "the .socket unit may hold ListenStream= with IP addresses and ports only, and no Accept=yes";
                return Err(refused(&format!("number {}", i + 1), &name, NO_LISTENER.to_owned(), hint));
            }
        }
    }
    Ok(all)
}

/// For each listener, by its address, the sockets that are for it. More than one has SO_REUSEPORT; one with none is
/// opened by us.
///
/// # Errors
/// A socket is for no listener, or for more than one.
pub(super) fn assign(
    listen: &[SocketAddr],
    handed: Vec<Handed>,
) -> Result<Vec<Vec<TcpListener>>, StartError> {
    let mut sockets: Vec<Vec<TcpListener>> = listen.iter().map(|_| vec![]).collect();
    for Handed { socket, name } in handed {
        let address = socket
            .local_addr()
            .map_err(|e| refused("of the service manager", &name, e.to_string(), SAME_ADDRESS))?;
        let takes_ipv4 = address.is_ipv6() && !SockRef::from(&socket).only_v6().unwrap_or(false);
        match find(listen, address, takes_ipv4) {
            Ok(i) => sockets[i].push(socket),
            Err(why) => {
                let (what, hint) = why.words(listen);
                return Err(refused(&address.to_string(), &name, what, hint));
            }
        }
    }
    Ok(sockets)
}

fn refused(socket: &str, name: &str, what: String, hint: &'static str) -> StartError {
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    StartError::Socket { socket: format!("{socket}{name}"), what, hint }
}

#[derive(Debug, PartialEq, Eq)]
enum Misfit {
    /// No listener has its address.
    Nobodys,
    /// It takes IPv4 and IPv6, and there are listeners for each.
    Ambiguous,
}

impl Misfit {
    fn words(&self, listen: &[SocketAddr]) -> (String, &'static str) {
        match self {
            Self::Nobodys => {
                let all: Vec<_> = listen.iter().map(ToString::to_string).collect();
                (format!("is for no [[listen]]; there are {}", all.join(", ")), SAME_ADDRESS)
            }
            Self::Ambiguous => (
                "takes IPv4, too, for which another [[listen]] has this port".to_owned(),
                "set BindIPv6Only=ipv6-only in the .socket unit, and give it a ListenStream= for each [[listen]]",
            ),
        }
    }
}

/// Which of the listeners a socket is for. `takes_ipv4`: an IPv6 socket that is not confined to IPv6, which is what
/// systemd makes of `ListenStream=25`: `[::]:25`. Such a one is for `0.0.0.0:25`, too, where that is all there is.
fn find(listen: &[SocketAddr], socket: SocketAddr, takes_ipv4: bool) -> Result<usize, Misfit> {
    let same = |l: &SocketAddr| canonical(*l) == canonical(socket);
    let everywhere = takes_ipv4 && socket.ip().is_unspecified();
    let ipv4_here = || listen.iter().any(|l| l.port() == socket.port() && canonical(*l).0.is_ipv4());
    match listen.iter().position(same) {
        Some(_) if everywhere && ipv4_here() => Err(Misfit::Ambiguous),
        Some(i) => Ok(i),
        None if everywhere => {
            let any = |l: &SocketAddr| {
                let (ip, port, _) = canonical(*l);
                port == socket.port() && ip.is_ipv4() && ip.is_unspecified()
            };
            listen.iter().position(any).ok_or(Misfit::Nobodys)
        }
        None => Err(Misfit::Nobodys),
    }
}

/// Address, port and interface; `::ffff:10.0.0.1` is 10.0.0.1.
fn canonical(address: SocketAddr) -> (IpAddr, u16, u32) {
    let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
    (address.ip().to_canonical(), address.port(), scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_the_listener_of_its_whole_address() {
        let (both, one) = (true, false);
        for (listen, socket, takes_ipv4, found) in [
            (&["10.0.0.1:25", "10.0.0.2:25"] as &[&str], "10.0.0.2:25", one, Ok(1)),
            (&["10.0.0.1:25", "10.0.0.2:25"], "10.0.0.3:25", one, Err(Misfit::Nobodys)),
            (&["10.0.0.1:25"], "10.0.0.1:587", one, Err(Misfit::Nobodys)),
            (&["0.0.0.0:25"], "10.0.0.1:25", one, Err(Misfit::Nobodys)),
            (&["10.0.0.1:25"], "0.0.0.0:25", one, Err(Misfit::Nobodys)),
            (&["10.0.0.1:25"], "[::]:25", both, Err(Misfit::Nobodys)),
            (&["0.0.0.0:25"], "0.0.0.0:25", one, Ok(0)),
            // ListenStream=25 in the unit.
            (&["0.0.0.0:25"], "[::]:25", both, Ok(0)),
            (&["[::]:25"], "[::]:25", both, Ok(0)),
            (&["[::]:25"], "[::]:25", one, Ok(0)),
            (&["0.0.0.0:25"], "[::]:25", one, Err(Misfit::Nobodys)),
            (&["0.0.0.0:587", "0.0.0.0:25"], "[::]:25", both, Ok(1)),
            (&["[::]:25"], "0.0.0.0:25", one, Err(Misfit::Nobodys)),
            (&["0.0.0.0:25", "[::]:25"], "0.0.0.0:25", one, Ok(0)),
            (&["0.0.0.0:25", "[::]:25"], "[::]:25", one, Ok(1)),
            (&["0.0.0.0:25", "[::]:25"], "[::]:25", both, Err(Misfit::Ambiguous)),
            (&["[::]:25", "10.0.0.1:25"], "[::]:25", both, Err(Misfit::Ambiguous)),
            (&["[::]:25", "10.0.0.1:587"], "[::]:25", both, Ok(0)),
            (&["[::1]:25", "127.0.0.1:25"], "[::1]:25", both, Ok(0)),
            (&["10.0.0.1:25"], "[::ffff:10.0.0.1]:25", both, Ok(0)),
            (&["[::ffff:10.0.0.1]:25"], "10.0.0.1:25", one, Ok(0)),
            (&["[fe80::1%2]:25"], "[fe80::1%2]:25", one, Ok(0)),
            (&["[fe80::1%2]:25"], "[fe80::1%3]:25", one, Err(Misfit::Nobodys)),
            (&["127.0.0.1:0"], "127.0.0.1:2525", one, Err(Misfit::Nobodys)),
        ] {
            let addresses: Vec<SocketAddr> = listen.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(
                find(&addresses, socket.parse().unwrap(), takes_ipv4),
                found,
                "{socket} of {listen:?}"
            );
        }
    }

    #[test]
    fn each_listener_gets_its_own_whatever_the_order() {
        let sockets: Vec<_> = ["127.0.0.1:0", "127.0.0.2:0"].map(|a| TcpListener::bind(a).unwrap()).into();
        let listen: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        let handed = sockets.into_iter().rev().map(|socket| Handed { socket, name: String::new() }).collect();
        let assigned = assign(&listen, handed).unwrap();
        for (address, sockets) in listen.iter().zip(&assigned) {
            let of: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
            assert_eq!(of, [*address]);
        }
    }

    #[test]
    fn a_socket_for_nobody_is_named_with_what_to_do() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let handed = vec![Handed { socket, name: "mailferry.socket".to_owned() }];
        let error = assign(&["127.0.0.1:25".parse().unwrap()], handed).unwrap_err();
        let hint = error.hint().unwrap();
        let error = error.to_string();
        assert!(
            error.contains(
                "(mailferry.socket) of the service manager is for no [[listen]]; there are 127.0.0.1:25"
            ),
            "{error}"
        );
        assert!(hint.starts_with("make ListenStream="), "{hint}");
    }
}
