//! The listeners as one: opened together, told of new settings together, stopped together.
//!
//! Invariant: either all of them listen or none does. Must not know: SMTP.

use crate::events;
use crate::receive::Listen;
use crate::receive::listener::{self, Shared};
use std::net::{SocketAddr, TcpListener};
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
    /// A handed socket serves the configured listener of its port; others are opened here.
    ///
    /// # Errors
    /// The address that cannot be listened on.
    pub(super) fn start(
        listen: Vec<Listen>,
        handed: Vec<TcpListener>,
        shared: &Arc<Shared>,
    ) -> Result<Self, (SocketAddr, std::io::Error)> {
        let mut handed: Vec<(u16, TcpListener)> =
            handed.into_iter().filter_map(|s| Some((s.local_addr().ok()?.port(), s))).collect();
        let mut open = Vec::with_capacity(listen.len());
        for listen in listen {
            let failed = |e| (listen.address, e);
            let given = handed.iter().position(|(port, _)| *port == listen.address.port());
            let socket = match given {
                Some(i) => handed.swap_remove(i).1,
                None => listener::bind(listen.address).map_err(failed)?,
            };
            let address = socket.local_addr().map_err(failed)?;
            open.push((address, socket, listen));
        }
        for (port, _) in &handed {
            events::daemon::socket_unused(*port);
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
