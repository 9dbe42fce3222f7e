//! What all connections share, a place among them, and the word to stop.
//!
//! Invariant: it is counted out when it is dropped, whatever ended the connection. Must not know: who waits for one.

use crate::fact::Witness;
use crate::policy::admission::Standing;
use crate::queue::{Clock, Intake};
use crate::receive::limits::Limits;
use crate::receive::settings::Settings;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Tells listeners to stop: no new connections, 421 for idle sessions, and sessions inside DATA may go on until
/// that moment. `None`: go on.
pub type Stop = watch::Receiver<Option<Instant>>;

/// What all listeners share.
pub struct Shared {
    /// In force for new transactions; a reload sends new ones.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where messages go.
    pub intake: Arc<dyn Intake>,
    /// The relay's clock.
    pub clock: Clock,
    /// To whom it is told what happens.
    pub witness: Witness,
    pub(super) limits: Mutex<Limits>,
}

impl Shared {
    /// Puts them together, with nobody connected.
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        intake: Arc<dyn Intake>,
        clock: Clock,
        witness: Witness,
    ) -> Self {
        Self { settings, intake, clock, witness, limits: Mutex::default() }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.limits().connections()
    }

    pub(super) fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted connection; counted out on drop.
pub(super) struct Slot {
    pub(super) shared: Arc<Shared>,
    pub(super) address: IpAddr,
    pub(super) standing: Standing,
    /// When it got this standing.
    pub(super) since: Instant,
}

impl Slot {
    /// Settings may have changed who may relay.
    pub(super) fn judge(&mut self, settings: &Settings) {
        let standing = settings.standing(self.address);
        if standing != self.standing {
            self.shared.limits().judged_anew(self.address, self.standing, standing);
            (self.standing, self.since) = (standing, Instant::now());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.limits().disconnected(self.address, self.standing);
    }
}
