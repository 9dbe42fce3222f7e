//! The listening sockets: who is taken, and who is turned away.
//!
//! Invariant: an error of `accept` never ends the listener and never spins; beyond the limits nothing is spawned;
//! who may not relay takes no place of those who may. Must not know: what is said on a connection.

use crate::fact::Witness;
use crate::fact::receive::Fact;
use crate::mail::ClientName;
use crate::policy::admission::Standing;
use crate::receive::connection;
use crate::receive::limits::Full;
use crate::receive::settings::Listen;
use crate::receive::shared::Slot;
pub use crate::receive::shared::{Shared, Stop};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

const BACKLOG: i32 = 4096;
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Opens a listening socket; an IPv6 wildcard takes IPv4, too, unless `only_v6`.
///
/// # Errors
/// The system's: in use, not permitted, no such address.
pub fn bind(address: SocketAddr, only_v6: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves a listening socket, opened by `bind` or handed in by the service manager, until told to stop; returns
/// when its last session is over. A connection keeps to the `Listen` it found.
///
/// # Errors
/// The socket is no listening TCP socket.
pub async fn serve(
    listener: std::net::TcpListener,
    listen: watch::Receiver<Arc<Listen>>,
    shared: Arc<Shared>,
    mut stop: Stop,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    shared.witness.tell(Fact::Listening { address });
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let witness = shared.witness.clone();
    let mut trouble = Trouble { address, backoff: None, witness };
    while stop.borrow().is_none() {
        let accepted = tokio::select! {
            changed = stop.changed() => if changed.is_ok() { continue } else { break },
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                trouble.is_over();
                let address = peer.ip().to_canonical();
                if let Some(mut slot) = take_slot(&shared, address, &stream) {
                    let listen = Arc::clone(&listen.borrow());
                    let (stop, alive) = (stop.clone(), alive.clone());
                    tokio::spawn(async move {
                        connection::serve(stream, &mut slot, &listen, stop).await;
                        drop((slot, alive));
                    });
                }
            }
            Err(e) => {
                if let Some(wait) = trouble.with(&e) {
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
    drop((listener, alive));
    all_gone.recv().await;
    Ok(())
}

/// Errors of `accept`.
struct Trouble {
    address: SocketAddr,
    backoff: Option<Duration>,
    witness: Witness,
}

impl Trouble {
    /// How long to wait before the next connection is asked for, if at all.
    fn with(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        // One peer's, gone before it was taken.
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return None;
        }
        self.witness.tell(Fact::AcceptFailed { address: self.address, why: error.to_string() });
        let wait = self.backoff.map_or(ACCEPT_BACKOFF.0, |d| (d * 2).min(ACCEPT_BACKOFF.1));
        self.backoff = Some(wait);
        Some(wait)
    }

    fn is_over(&mut self) {
        if self.backoff.take().is_some() {
            self.witness.tell(Fact::AcceptRecovered { address: self.address });
        }
    }
}

fn take_slot(shared: &Arc<Shared>, address: IpAddr, stream: &TcpStream) -> Option<Slot> {
    let admitted = {
        let settings = shared.settings.borrow();
        settings
            .clients
            .admit(address)
            .map(|client| (client.name.clone(), settings.caps(client.max_connections)))
    };
    let (client, caps) = admitted.unzip();
    let (standing, taken) = match caps {
        Some(caps) => (Standing::Device, shared.limits().device_connected(address, caps)),
        None => (Standing::Stranger, shared.limits().stranger_connected(address)),
    };
    match taken {
        Ok(()) => {
            shared.witness.tell(Fact::Connected { peer: address, client });
            Some(Slot { shared: Arc::clone(shared), address, standing, since: Instant::now() })
        }
        Err(full) => {
            turn_away(shared, address, client, stream, full);
            None
        }
    }
}

/// Says 421 without waiting for anything: an empty send buffer takes it.
fn turn_away(shared: &Shared, peer: IpAddr, client: Option<ClientName>, stream: &TcpStream, full: Full) {
    let reply = full.reply();
    let hint = match (&client, full) {
        (None, _) => ". hint: it may not relay; if it is yours: mailferry allow ADDRESS --as CLIENT",
        (_, Full::Address(_)) => ". hint: raise max_connections in its [[client]] if it needs more",
        (_, Full::Network(_)) => {
            ". hint: half of max_connections in [receive] is what a /64 of IPv6 gets; raise it"
        }
        (_, Full::Total(_)) => {
            ". hint: `mailferry status` says who is there; raise max_connections in [receive]"
        }
    };
    let socket = SockRef::from(stream);
    let _ = socket.send(reply.as_bytes());
    let _ = socket.shutdown(std::net::Shutdown::Write);
    shared.witness.tell(Fact::TurnedAway { peer, client, reply, hint });
}
