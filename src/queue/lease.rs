//! A message on its way out: handed out to one, and what became of it.
//!
//! Invariant: whoever holds a `Lease` is the only one who may send its message; however it ends, the message is either
//! settled or as it was. Must not know: how a backend keeps others away.

use super::body::Body;
use super::message::Notice;
use super::owner::Fence;
use crate::mail::{Attempt, QueuedMessage, Recipient, RelayTime};

/// A message handed out for sending: nobody else gets it until it is settled or this value is dropped, and a
/// drop leaves the message as it was.
pub struct Lease {
    /// The message as stored.
    pub message: QueuedMessage,
    /// Its head and content.
    pub body: Body,
    pub(in crate::queue) hand_over: Box<dyn Fn() + Send + Sync>,
    /// Of the ownership under which it was handed out.
    pub(in crate::queue) fence: Fence,
    pub(in crate::queue) guard: LeaseGuard,
}

impl Lease {
    /// The end of data is about to be written: should this process end before the outcome is recorded, the next one
    /// knows that the message may have been taken.
    pub fn hands_over(&self) {
        (self.hand_over)();
    }

    /// Ends without giving the message back: nobody gets it from this process any more, and a hand-over that was
    /// begun stays on record.
    pub(crate) fn set_aside(self) {
        self.guard.set_aside();
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("message", &self.message)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

/// Gives the message back on drop, by whatever means the backend has.
pub(in crate::queue) struct LeaseGuard(Option<Box<dyn FnOnce() + Send + Sync>>);

impl LeaseGuard {
    /// Runs `give_back` when the lease ends without a settlement.
    pub(crate) fn new(give_back: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }

    /// Keeps what it guards from ever being handed out again by this process.
    pub(crate) fn set_aside(mut self) {
        self.0 = None;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl std::fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseGuard")
    }
}

/// What `Outbox::lease` found.
#[derive(Debug)]
pub enum Next {
    /// The message whose turn it is.
    Message(Box<Lease>),
    /// Nothing is due before this moment.
    NotBefore(RelayTime),
    /// Nothing is waiting at all.
    Empty,
}

/// What one attempt made of a message.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// When, on the relay's clock.
    pub now: RelayTime,
    /// Every recipient with its new progress.
    pub recipients: Vec<Recipient>,
    /// Attempts the message itself has spent by now.
    pub attempts: u32,
    /// Where the message goes.
    pub to: Destination,
    /// The attempt to record, unless it would only repeat an outage.
    pub attempt: Option<Attempt>,
    /// Sets `QueuedMessage::outcome_unknown`; what a later attempt comes to does not take it back.
    pub outcome_unknown: bool,
    /// Notices (DSNs) stored in the same step as the settlement, so that a crash loses neither or both.
    pub notices: Vec<Notice>,
}

/// Where a settled message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Every recipient has it: the row stays as history, the content goes.
    Delivered,
    /// To be tried again, not before this.
    Queued(RelayTime),
    /// Given up, kept whole.
    Dead,
}
