//! A message in the queue, without its body.

use super::{
    AccountId, ClientName, Failure, Mailbox, QueueId, RelayTime, Reply, ReversePath, Stage, WallTime,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Still to be delivered.
    Pending,
    /// Taken by the smart host, with its words.
    Delivered(Reply),
    /// Given up, with the reason.
    Failed(Failure),
}

/// One recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub mailbox: Mailbox,
    /// What became of it.
    pub progress: Progress,
    /// How often it was put off while pending.
    #[serde(default, skip_serializing_if = "Deferrals::is_none")]
    pub deferrals: Deferrals,
}

impl Recipient {
    /// One that nothing has happened to yet.
    pub fn pending(mailbox: Mailbox) -> Self {
        Self { mailbox, progress: Progress::Pending, deferrals: Deferrals::default() }
    }
}

/// How often a recipient was put off by the server's answer about it or its message; what the account suffered, a
/// hold and a stop of the relay leave no trace here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferrals {
    /// Attempts.
    pub count: u32,
    /// The first of them.
    pub since: RelayTime,
    /// The sender has been told that it waits.
    pub told: bool,
}

impl Deferrals {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a message stands. Every message that got a 250 is in exactly one of these until history is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be sent, now or at `next_attempt`.
    Queued,
    /// Set aside by the admin until `queue release`.
    Held,
    /// Given up for at least one recipient; kept whole, `queue retry` brings it back.
    Dead,
    /// Taken by the smart host for every recipient; the body is gone.
    Delivered,
}

/// One failed or successful try, kept for `queue show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When, on the wall clock.
    pub at: WallTime,
    /// How far it came.
    pub stage: Stage,
    /// The server's words or the system's, on one escaped line.
    pub said: String,
    /// The address of the smart host it was tried at.
    pub host: String,
}

/// A message in the queue; its body is read through its `Lease`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Its name.
    pub id: QueueId,
    /// The account it leaves through.
    pub account: AccountId,
    /// The client it came from.
    pub client: ClientName,
    /// The peer's address; `None` for the relay's own notices.
    pub peer: Option<IpAddr>,
    /// MAIL FROM as the device said it.
    pub reverse_path: ReversePath,
    /// Every recipient with what became of it.
    pub recipients: Vec<Recipient>,
    /// Head and content as stored, in bytes.
    pub size_bytes: u64,
    /// When the 250 was given, for people.
    pub received_at: WallTime,
    /// The same moment on the relay's clock, for expiry.
    pub queued_since: RelayTime,
    /// Not before this.
    pub next_attempt: RelayTime,
    /// How many attempts the message itself spent; the account's faults do not count.
    pub attempts: u32,
    /// Where it stands.
    pub state: State,
    /// When it was delivered or given up.
    pub finished_at: Option<WallTime>,
    /// The latest word on it, one escaped line; empty before the first attempt.
    pub last_said: String,
    /// At least one attempt ended after the final dot without an answer: a retry may have been a duplicate.
    pub outcome_unknown: bool,
    /// The sender's `charset` setting for raw 8-bit header fields (a WHATWG label), or none.
    pub charset: Option<String>,
}

impl QueuedMessage {
    /// Whether the relay wrote it. What a device sends has the device's address, whatever its client is called.
    pub fn is_notice(&self) -> bool {
        self.peer.is_none() && self.reverse_path == ReversePath::Null
    }

    /// The recipients still to be delivered.
    pub fn pending(&self) -> impl Iterator<Item = &Mailbox> {
        self.recipients.iter().filter(|r| r.progress == Progress::Pending).map(|r| &r.mailbox)
    }
}
