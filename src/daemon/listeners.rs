//! The listeners as one: opened together, told of new settings together, stopped together.
//!
//! Invariant: either all of them listen or none does. Must not know: SMTP.

use super::StartError;
use super::sockets::{self, Handed};
use crate::receive::Listen;
use crate::receive::listener::{self, Shared};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(super) struct Listeners {
    addresses: Vec<SocketAddr>,
    in_force: InForce,
    stop: watch::Sender<Option<Instant>>,
    tasks: Vec<JoinHandle<std::io::Result<()>>>,
}

/// What is in force at each.
#[derive(Clone)]
pub(super) struct InForce(Arc<Vec<watch::Sender<Arc<Listen>>>>);

impl InForce {
    #[cfg(test)]
    pub(super) fn of(listen: Vec<Listen>) -> Self {
        Self(Arc::new(listen.into_iter().map(|l| watch::Sender::new(Arc::new(l))).collect()))
    }

    /// What a listener shows.
    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<Option<Arc<rustls::ServerConfig>>> {
        self.0.iter().map(|in_force| in_force.borrow().certificate.clone()).collect()
    }

    /// Whether there is one that was configured with this address.
    pub(super) fn listens_on(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|in_force| in_force.borrow().address == address)
    }

    /// New connections are shown this certificate.
    pub(super) fn show(&self, address: SocketAddr, certificate: &Arc<rustls::ServerConfig>) {
        for in_force in self.0.iter().filter(|i| i.borrow().address == address) {
            in_force.send_modify(|listen| {
                *listen =
                    Arc::new(Listen { certificate: Some(Arc::clone(certificate)), ..Listen::clone(listen) });
            });
        }
    }
}

impl Listeners {
    /// A handed socket serves the configured listener of its address; where there is none, it is opened here.
    ///
    /// # Errors
    /// The address that cannot be listened on, or a handed socket that is for no listener.
    pub(super) fn start(
        listen: Vec<Listen>,
        handed: Vec<Handed>,
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        let configured: Vec<SocketAddr> = listen.iter().map(|l| l.address).collect();
        let handed = sockets::assign(&configured, handed)?;
        let mut open = Vec::with_capacity(listen.len());
        for (listen, mut sockets) in listen.into_iter().zip(handed) {
            let failed = |error| StartError::Listen { address: listen.address, error };
            if sockets.is_empty() {
                // Where IPv4 has a listener of its own on this port, the wildcard of IPv6 is IPv6 alone.
                let is_ipv4 = |a: &SocketAddr| a.ip().to_canonical().is_ipv4();
                let only_v6 = listen.address.ip().is_unspecified()
                    && configured.iter().any(|a| a.port() == listen.address.port() && is_ipv4(a));
                sockets.push(listener::bind(listen.address, only_v6).map_err(failed)?);
            }
            for socket in sockets {
                let address = socket.local_addr().map_err(failed)?;
                open.push((address, socket, listen.clone()));
            }
        }
        let (stop, stopped) = watch::channel(None);
        let mut addresses = Vec::with_capacity(open.len());
        let mut tasks = Vec::with_capacity(open.len());
        let mut in_force = Vec::with_capacity(open.len());
        for (address, socket, listen) in open {
            addresses.push(address);
            let (told, listen) = watch::channel(Arc::new(listen));
            in_force.push(told);
            tasks.push(tokio::spawn(listener::serve(socket, listen, Arc::clone(shared), stopped.clone())));
        }
        Ok(Self { addresses, in_force: InForce(Arc::new(in_force)), stop, tasks })
    }

    pub(super) fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// New connections find these settings, each where its address was configured; an address that is new, or is
    /// not named any more, changes nothing.
    pub(super) fn reload(&self, mut new: Vec<Listen>) {
        for in_force in self.in_force.0.iter() {
            let address = in_force.borrow().address;
            if let Some(i) = new.iter().position(|l| l.address == address) {
                in_force.send_replace(Arc::new(new.remove(i)));
            }
        }
    }

    /// No new connections; sessions inside DATA may finish within `bound`.
    pub(super) async fn stop(self, bound: Duration) {
        self.stop.send_replace(Some(Instant::now() + bound));
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
