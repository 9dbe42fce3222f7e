//! Completing the head at the end of data.

use crate::mail::{Escaped, Mailbox, QueueId, ReversePath, WallTime, header};
use std::net::IpAddr;

/// What the head is completed from.
#[derive(Debug)]
pub struct Stamp<'a> {
    /// The queue id.
    pub id: QueueId,
    /// This relay's name.
    pub hostname: &'a str,
    /// The name the device gave.
    pub helo: &'a [u8],
    /// The device's address.
    pub peer: IpAddr,
    /// The protocol (RFC 3848).
    pub protocol: &'a str,
    /// Version and cipher suite.
    pub tls: Option<&'a str>,
    /// MAIL FROM.
    pub reverse_path: &'a ReversePath,
    /// RCPT TO.
    pub recipients: &'a [Mailbox],
    /// The account's address.
    pub mailbox: &'a str,
    /// The content has bytes above 127.
    pub body_is_8bit: bool,
    /// The moment.
    pub now: WallTime,
}

/// Why a head is not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// More than 50 Received fields.
    #[error("the message is going round in a loop")]
    Loop,
}

/// Completes the head.
///
/// # Errors
/// The message has been round too often.
pub fn complete(head: &[u8], stamp: &Stamp<'_>) -> Result<Vec<u8>, StampError> {
    if header::fields(head).filter(|f| f.is("Received")).count() > 50 {
        return Err(StampError::Loop);
    }
    let trace = format!(
        "Received: from {} ([{}])\r\n\tby {} with {} id {};\r\n\t{}\r\n",
        Escaped(stamp.helo),
        stamp.peer,
        stamp.hostname,
        stamp.protocol,
        stamp.id,
        stamp.now.rfc5322()
    );
    Ok([trace.as_bytes(), head].concat())
}
