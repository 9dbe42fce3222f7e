//! The values everything else talks about: addresses, envelopes, replies, failures, times.
//!
//! Invariant: a value of these types is valid by construction; parsing happens here, once.
//! Must not know: sockets, clocks, disks, settings, or any other module of this crate.

mod address;
mod envelope;
mod failure;
mod ids;
mod message;
mod place;
mod reply;
mod sender;
mod text;
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
mod time;

pub use address::{AddressError, AddressPattern, Mailbox, ReversePath};
pub use envelope::Envelope;
pub use failure::{Cause, Failure, NoToken, Stage};
pub use ids::{AccountId, ClientName, QueueId};
pub use message::{Attempt, Deferrals, Progress, QueuedMessage, Recipient, State};
pub use place::Place;
pub use reply::{EnhancedStatus, Reply};
pub use sender::Sender;
pub use text::{Escaped, without_tag};
pub use time::{RelayTime, WallTime};
