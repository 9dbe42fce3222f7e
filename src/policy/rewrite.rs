//! Which sender a message leaves with.
//!
//! Invariant: nothing leaves under an address the account may not send as. Must not know: how a message is stored
//! or sent.

use crate::mail::{AddressPattern, Mailbox, ReversePath};

/// The account's own address and what else it may send as.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The signed-in mailbox.
    pub mailbox: Mailbox,
    /// Further addresses the tenant lets it use.
    pub send_as: Vec<AddressPattern>,
}

impl Sender {
    /// The address for MAIL FROM: the device's own where it is allowed, else the mailbox.
    pub fn reverse_path<'a>(&'a self, from: &'a ReversePath) -> &'a Mailbox {
        from.mailbox()
            .filter(|m| m.is_same(&self.mailbox) || self.send_as.iter().any(|p| p.matches(m)))
            .unwrap_or(&self.mailbox)
    }
}
