//! The SMTP envelope of one transaction.

use super::{ClientName, Mailbox, ReversePath};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Who sends what to whom, as the device said it in MAIL and RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO, in order, without repetition; at least one.
    pub recipients: Vec<Mailbox>,
    /// The `[[client]]` that admitted the peer.
    pub client: ClientName,
    /// The peer's address; `None` for the relay's own notices.
    pub peer: Option<IpAddr>,
}
