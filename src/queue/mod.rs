//! Durable state: every message that got a 250, until the smart host has it and for as long as history is kept.
//!
//! Invariant: a `Stored` exists only after everything it names is on the disk for good (content, directory,
//! row), and nothing but a settlement or the admin takes it away again. The order of events and what a crash
//! between any two of them leaves stands in `sqlite`, a test a row.
//! Must not know: SMTP, replies, whose fault anything is, when to retry. It stores; `dispatch` decides. Nobody above
//! knows how: a backend is named here and nowhere else.

mod body;
mod clock;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod keep;
mod lease;
mod ledger;
mod message;
mod owner;
mod role;
mod settings;
mod sqlite;
mod walk;

pub use body::{Body, BodyReader, Draft};
pub use clock::Clock;
pub use error::{Done, QueueError};
pub use keep::{Keep, KeepDead};
pub use lease::{Destination, Lease, Next, Settlement};
pub use ledger::{Change, ChangeStep, Filter, Finished, Page, Total};
pub use message::{NewMessage, Notice, Stored};
pub use owner::{Fence, Owned};
pub use role::{Health, Ids, Intake, Ledger, Notes, Outbox, Ownership, Queue, Room};
pub use settings::{OpenError, Settings};
pub use sqlite::{Rescued, rescue};
pub use walk::{Changing, Listing};

use crate::fact::Witness;

/// Opens the queue of these settings, making what is missing, and continues its clock; its facts are told to
/// `witness`. A large one takes its time, and is not waited for when whoever waits here goes away.
///
/// # Errors
/// See `OpenError`.
pub async fn open(settings: &Settings, witness: Witness) -> Result<Queue, OpenError> {
    sqlite::open(settings, witness).await
}
