//! What of a configuration counts at once, and what from the next start on.
//!
//! Invariant: a configuration is made ready whole before any of it is handed out, so that one that cannot be taken
//! changes nothing; every key is either handed out or named, and one that is new does not compile until it is.
//! Must not know: how a room takes what it is told.

use super::{Relay, StartError, dispatch_settings, listens, places, sights};
use crate::config::{Settings, Sockets};
use crate::fact::Witness;
use crate::mail::{AccountId, Place};
use crate::notify;
use crate::queue::{self, Clock, Keep};
use crate::receive::Listen;
use crate::token::Grant;
use crate::{dispatch, receive};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A configuration as the rooms take it.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) listen: Vec<receive::Listen>,
    pub(super) receive: receive::Settings,
    pub(super) dispatch: dispatch::Settings,
    pub(super) places: Vec<(AccountId, Place)>,
    pub(super) notify: notify::Settings,
    /// History, dead letters.
    pub(super) keep: Keep,
    pub(super) min_free_space_bytes: u64,
}

impl InForce {
    /// Reads certificates, keys and CA files.
    pub(super) fn of(settings: &Settings, clock: Clock, witness: &Witness) -> Result<Self, StartError> {
        Ok(Self {
            listen: listens(settings)?,
            receive: settings.receive.clone(),
            dispatch: dispatch_settings(settings, clock, witness)?,
            places: places(settings),
            notify: settings.notify.clone(),
            keep: settings.keep,
            min_free_space_bytes: settings.queue.min_free_space_bytes,
        })
    }
}

/// What holds until the relay ends.
#[derive(Debug)]
pub(super) struct Fixed {
    listen: Vec<SocketAddr>,
    directory: PathBuf,
    sockets: Sockets,
}

impl Fixed {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            listen: addresses(&settings.listen),
            directory: settings.queue.directory.clone(),
            sockets: settings.sockets.clone(),
        }
    }

    /// The keys whose new values count only from the next start on.
    fn waiting(&self, new: &Settings) -> Vec<&'static str> {
        let Settings {
            listen,
            queue: queue::Settings { directory, min_free_space_bytes: _ },
            keep: _,
            sockets: Sockets { control, status },
            hostname: _,
            receive: _,
            accounts: _,
            retry: _,
            notify: _,
            // The process's, which takes it.
            log: _,
            warnings: _,
            proxy: _,
            given_at_start: _,
            // A relay is for the sandbox or for smart hosts, for good.
            is_sandbox: _,
            // Those who look at the files compare them.
            certificates: _,
            file: _,
        } = new;
        let mut waiting = vec![];
        if addresses(listen) != self.listen {
            waiting.push("listen.address");
        }
        if *directory != self.directory {
            waiting.push("queue.directory");
        }
        if *control != self.sockets.control {
            waiting.push("control.socket");
        }
        if *status != self.sockets.status {
            waiting.push("control.status_socket");
        }
        waiting
    }

    /// The same settings about the queue that is open: its directory has our own certificate and the sign-ins.
    fn in_place(&self, new: &Settings) -> Settings {
        let mut settings = new.clone();
        settings.queue.directory.clone_from(&self.directory);
        for oauth in settings.accounts.iter_mut().filter_map(|a| a.oauth.as_mut()) {
            if let Grant::DeviceCode { store } = &mut oauth.token.grant {
                store.clone_from(&self.directory);
            }
        }
        settings
    }
}

/// In an order of their own: which stands first in the file changes nothing.
fn addresses(listen: &[Listen]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        listen.iter().map(|Listen { address, tls: _, certificate: _, auth: _ }| *address).collect();
    addresses.sort();
    addresses
}

impl Relay {
    /// Applies new settings: to connections, transactions and attempts that begin from now on. Returns the keys
    /// whose values are others than those in force and count only from the next start on.
    ///
    /// # Errors
    /// A file of the new settings cannot be read or used; nothing is changed then.
    pub async fn reload(&self, new: &Settings) -> Result<Vec<&'static str>, StartError> {
        let InForce { listen, receive, dispatch, places, notify, keep, min_free_space_bytes } =
            InForce::of(&self.fixed.in_place(new), self.clock(), &self.witness)?;
        self.listeners.reload(listen);
        self.receive.send_replace(Arc::new(receive));
        self.queue.health.set_min_free_space(min_free_space_bytes);
        self.beside.keep.send_replace(keep);
        self.beside.sights.send_replace(sights(new));
        self.beside.notify.send_replace(Arc::new(notify));
        if let Ok(mut p) = self.rooms.places.write() {
            *p = places;
        }
        self.dispatcher.reload(&dispatch).await;
        let mut waiting = self.fixed.waiting(new);
        if self.on_disk.has_to_wait(&new.certificates) {
            waiting.push("listen.certificate");
        }
        self.on_disk.taken(new, &waiting);
        Ok(waiting)
    }
}

#[cfg(test)]
mod tests;
