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
    /// What is in force at each.
    listen: Vec<watch::Sender<Arc<Listen>>>,
    stop: watch::Sender<Option<Instant>>,
    tasks: Vec<JoinHandle<std::io::Result<()>>>,
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
        Ok(Self { addresses, listen: in_force, stop, tasks })
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// New connections find these settings, each where its address was configured; an address that is new, or is
    /// not named any more, changes nothing.
    pub(super) fn reload(&self, mut new: Vec<Listen>) {
        for in_force in &self.listen {
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
