//! Who sees what happens in the relay.
//!
//! Invariant: they are there before the queue is opened, so that nothing it tells is missed. Must not know: what any fact
//! means.

use crate::fact::{Incidents, Journal, Observer, Tally, Witness};
use crate::mail::WallTime;
use crate::receive::devices::Devices;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at what was held back from the log.
const OVERDUE_EVERY: Duration = Duration::from_secs(20);

/// The observers of one relay.
#[derive(Clone)]
pub struct Observers {
    journal: Arc<Journal>,
    /// Counts for `status`.
    pub(super) tally: Arc<Tally>,
    /// What is wrong and lasts, for `status` and notices.
    pub(super) incidents: Arc<Incidents>,
    /// Devices for `status`.
    pub(super) devices: Arc<Devices>,
    /// To whom the rooms tell.
    pub(super) witness: Witness,
}

impl Observers {
    /// Those that a relay always has, and more.
    pub fn and(more: impl IntoIterator<Item = Arc<dyn Observer>>) -> Self {
        let journal = Arc::new(Journal::new());
        let tally = Arc::new(Tally::new());
        let devices = Arc::new(Devices::new(WallTime::now(), TimeZone::system()));
        let incidents = Arc::new(Incidents::new());
        let always: [Arc<dyn Observer>; 4] = [
            Arc::clone(&journal) as _,
            Arc::clone(&tally) as _,
            Arc::clone(&devices) as _,
            Arc::clone(&incidents) as _,
        ];
        let witness = Witness::new(always.into_iter().chain(more));
        Self { journal, tally, incidents, devices, witness }
    }

    /// Has the journal say in time what it held back, until `stop` resolves.
    pub(super) async fn keep_telling(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(OVERDUE_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => self.journal.overdue(Instant::now()),
                () = &mut stop => return self.journal.close(),
            }
        }
    }
}

impl Default for Observers {
    fn default() -> Self {
        Self::and([])
    }
}
