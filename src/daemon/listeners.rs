//! The listeners as one: opened together, stopped together.
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
        for (address, socket, listen) in open {
            addresses.push(address);
            tasks.push(tokio::spawn(listener::serve(socket, listen, Arc::clone(shared), stopped.clone())));
        }
        Ok(Self { addresses, stop, tasks })
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// No new connections; sessions inside DATA may finish within `bound`.
    pub(super) async fn stop(self, bound: Duration) {
        self.stop.send_replace(Some(Instant::now() + bound));
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
