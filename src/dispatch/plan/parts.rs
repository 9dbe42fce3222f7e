//! Messages for more recipients than the day has room for: they go in parts.
//!
//! Invariant: one sent in part lets others go first, and no longer than a week. Must not know: the pace itself.

use crate::mail::{Progress, QueueId, QueuedMessage, RelayTime};
use std::collections::BTreeMap;
use std::time::Duration;

/// In a week there is room for its next part.
const YIELDS: Duration = Duration::from_secs(7 * 86_400);

/// Which were sent in part for want of room in the day, and when: others go first meanwhile, so that a message for
/// thousands does not keep everybody waiting.
#[derive(Debug, Default)]
pub(super) struct Parts {
    since: BTreeMap<QueueId, RelayTime>,
    /// There are no others.
    alone: bool,
}

impl Parts {
    /// For whom of the pending recipients a transaction is, by their places: as many as there is room for.
    pub(super) fn begin(&mut self, message: &QueuedMessage, room: usize, now: RelayTime) -> Vec<usize> {
        let mut to = in_turn(message);
        if to.len() > room {
            to.truncate(room);
            self.since.insert(message.id, now);
        }
        to
    }

    /// What is passed over.
    pub(super) fn passed_over(&mut self, now: RelayTime) -> Vec<QueueId> {
        self.since.retain(|_, at| now.since(*at) < YIELDS);
        if self.alone { vec![] } else { self.since.keys().copied().collect() }
    }

    /// Nobody else is waiting. Whether that changes what may go.
    pub(super) fn are_alone(&mut self) -> bool {
        !self.since.is_empty() && !std::mem::replace(&mut self.alone, true)
    }

    /// A message was found.
    pub(super) fn found(&mut self) {
        self.alone = false;
    }

    /// It is through, or given up.
    pub(super) fn forget(&mut self, id: QueueId) {
        self.since.remove(&id);
    }
}

/// The pending recipients' places, those first who were put off least: where only some may go, each has its turn.
fn in_turn(message: &QueuedMessage) -> Vec<usize> {
    let waiting = message.recipients.iter().filter(|r| r.progress == Progress::Pending);
    let deferrals: Vec<u32> = waiting.map(|r| r.deferrals.count).collect();
    let mut places: Vec<usize> = (0..deferrals.len()).collect();
    places.sort_by_key(|i| deferrals[*i]);
    places
}
