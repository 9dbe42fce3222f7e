//! Who sees what happens in the relay.
//!
//! Invariant: they are there before the queue is opened, so that nothing it tells is missed. Must not know: what any fact
//! means.

use crate::fact::{Journal, Observer, Tally, Witness};
use std::sync::Arc;

/// The observers of one relay.
pub struct Observers {
    /// Counts for `status`.
    pub(super) tally: Arc<Tally>,
    /// To whom the rooms tell.
    pub(super) witness: Witness,
}

impl Observers {
    /// Those that a relay always has, and more.
    pub fn and(more: impl IntoIterator<Item = Arc<dyn Observer>>) -> Self {
        let tally = Arc::new(Tally::new());
        let always: [Arc<dyn Observer>; 2] = [Arc::new(Journal::new()), Arc::clone(&tally) as _];
        Self { tally, witness: Witness::new(always.into_iter().chain(more)) }
    }
}

impl Default for Observers {
    fn default() -> Self {
        Self::and([])
    }
}
