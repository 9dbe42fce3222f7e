//! A message on its way into the queue.
//!
//! Invariant: a `Stored` is made by a backend only, after everything it names is durable. Must not know: how a backend
//! stores, what the bytes mean.

use crate::mail::{
    AccountId, ClientName, Envelope, Mailbox, QueueId, Recipient, RelayTime, ReversePath, WallTime,
};

/// What the receiver knows of a message at the end of data. One content may be stored under several ids
/// (recipients routed to different accounts); they are committed together or not at all.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The queue id, from `Draft::id` for the first one and `next_id` for others.
    pub id: QueueId,
    /// The account it will leave through.
    pub account: AccountId,
    /// The envelope, with this account's recipients only.
    pub envelope: Envelope,
    /// The whole head, CRLF line ends, trace fields added, with its final empty line.
    pub head: Vec<u8>,
    /// The client's `charset` setting.
    pub charset: Option<String>,
    /// When it arrived, for people.
    pub received_at: WallTime,
    /// When it arrived, on the relay's clock.
    pub now: RelayTime,
}

/// Proof that a message is durable. Only a backend makes it; the 250 needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    id: QueueId,
}

impl Stored {
    pub(in crate::queue) fn new(id: QueueId) -> Self {
        Self { id }
    }

    /// The message's name.
    pub fn id(&self) -> QueueId {
        self.id
    }
}

/// A message the relay itself writes: small, in memory.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Envelope and head.
    pub message: NewMessage,
    /// The content behind the head, CRLF line ends.
    pub content: Vec<u8>,
}

/// What notices show as their client.
const RELAY: &str = "mailferry";

impl Notice {
    /// One that nobody may answer with another: it has the null reverse-path (RFC 5321 section 6.1), and no peer, by
    /// which it is known. Its client is only a name for people, which an admin may give to a device's, too.
    pub fn of_the_relay(
        id: QueueId,
        account: AccountId,
        to: Vec<Mailbox>,
        (head, content): (Vec<u8>, Vec<u8>),
        received_at: WallTime,
        now: RelayTime,
    ) -> Self {
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            recipients: to,
            client: ClientName::new(RELAY),
            peer: None,
        };
        Self { message: NewMessage { id, account, envelope, head, charset: None, received_at, now }, content }
    }
}

/// The recipients of a fresh message, all pending.
pub(crate) fn pending(recipients: &[Mailbox]) -> Vec<Recipient> {
    recipients.iter().cloned().map(Recipient::pending).collect()
}
