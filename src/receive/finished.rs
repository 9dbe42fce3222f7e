//! A message whose data is complete, and what is said about it.
//!
//! Invariant: the positive reply to the end of data is made here from a `queue::Stored`, and nowhere else.
//! Must not know: the session's state, how the queue stores.

use crate::letter::stamp::{self, Stamp, StampError};
use crate::mail::{Envelope, Mailbox, QueueId, RelayTime, ReversePath, WallTime};
use crate::policy::admission::Client;
use crate::queue::{NewMessage, QueueError, Stored};
use crate::receive::settings::Settings;
use std::net::IpAddr;
use std::sync::Arc;

/// A transaction whose data is complete.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The draft's id.
    pub id: QueueId,
    /// The client that admitted the peer.
    pub client: Arc<Client>,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO.
    pub recipients: Vec<Mailbox>,
    /// The head as it came, CRLF line ends, with its final empty line.
    pub head: Vec<u8>,
    /// Bytes the device sent.
    pub size_bytes: u64,
    /// The content or head has bytes above 127.
    pub eight_bit: bool,
    pub(super) settings: Arc<Settings>,
    pub(super) helo: Vec<u8>,
    pub(super) peer: IpAddr,
    pub(super) protocol: String,
    pub(super) tls: Option<String>,
}

impl Finished {
    /// One intake for each account the recipients are routed to, heads completed.
    ///
    /// # Errors
    /// The message goes round in a loop.
    pub fn intakes(
        &self,
        mut next_id: impl FnMut() -> QueueId,
        received_at: WallTime,
        now: RelayTime,
    ) -> Result<Vec<NewMessage>, StampError> {
        let groups = self.settings.routes.split(&self.client, &self.reverse_path, &self.recipients);
        let mut intakes = Vec::with_capacity(groups.len());
        for (i, (account, recipients)) in groups.into_iter().enumerate() {
            let id = if i == 0 { self.id } else { next_id() };
            let head = stamp::complete(
                &self.head,
                &Stamp {
                    id,
                    hostname: &self.settings.hostname,
                    helo: &self.helo,
                    peer: self.peer,
                    protocol: &self.protocol,
                    tls: self.tls.as_deref(),
                    reverse_path: &self.reverse_path,
                    recipients: &recipients,
                    mailbox: self.settings.mailbox(&account),
                    body_is_8bit: self.eight_bit,
                    now: received_at,
                },
            )?;
            intakes.push(NewMessage {
                id,
                account,
                envelope: Envelope {
                    reverse_path: self.reverse_path.clone(),
                    recipients,
                    client: self.client.name.clone(),
                    peer: Some(self.peer),
                },
                head,
                charset: self.client.charset.clone(),
                received_at,
                now,
            });
        }
        Ok(intakes)
    }
}

/// Why a message whose data came is not taken.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// Over the size limit, in bytes.
    TooLarge(u64),
    /// The head alone is too large.
    HeadTooLarge,
    /// Too many Received fields.
    Loop,
    /// The queue's reason.
    Queue(QueueError),
}

impl Refusal {
    /// For people, in one line: the reply, or what is wrong with the queue.
    pub fn words(&self) -> String {
        match self {
            Self::Queue(error) => error.to_string(),
            other => other.reply().trim_end().to_owned(),
        }
    }

    /// The words for the peer.
    pub(super) fn reply(&self) -> String {
        match self {
            Self::TooLarge(limit) => format!("552 5.3.4 message exceeds {limit} bytes\r\n"),
            Self::HeadTooLarge => "552 5.3.4 message header too large\r\n".into(),
            Self::Loop => {
                "554 5.4.6 too many Received fields, the message is going round in a loop\r\n".into()
            }
            // What exactly is wrong with the disk is the admin's to know.
            Self::Queue(QueueError::Full(_)) => {
                "452 4.3.1 not enough space in the queue, try again later\r\n".into()
            }
            Self::Queue(
                QueueError::Broken(_)
                | QueueError::Damaged(_)
                | QueueError::Unreadable(_)
                | QueueError::Disowned,
            ) => "451 4.3.0 the queue cannot write, try again later\r\n".into(),
            Self::Queue(QueueError::Closed) => "421 4.3.2 shutting down, try again later\r\n".into(),
        }
    }
}

/// The one place that makes the positive reply to the end of data.
pub(super) fn accepted(stored: &Stored) -> String {
    format!("250 2.0.0 queued as {}\r\n", stored.id())
}
