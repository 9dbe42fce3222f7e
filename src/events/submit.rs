//! Facts of `submit`.

use super::Counter;
use crate::mail::{Escaped, Failure, QueueId};
use std::net::SocketAddr;

/// Connections that came as far as a message could be sent.
pub static CONNECTIONS: Counter = Counter::new();
/// Transactions whose end of data was answered with 2yz.
pub static TRANSACTIONS_TAKEN: Counter = Counter::new();
/// Transactions that failed as a whole, whatever for.
pub static TRANSACTIONS_FAILED: Counter = Counter::new();
/// Bytes of mail handed over in transactions that were taken.
pub static BYTES_TAKEN: Counter = Counter::new();

/// The smart host is ready for mail.
pub fn connected(host: &str, address: SocketAddr, tls: Option<&str>, signed_in: bool) {
    CONNECTIONS.add(1);
    tracing::debug!(
        event = "smart_host_connected",
        host,
        %address,
        tls = tls.unwrap_or("off"),
        signed_in,
        "connected to the smart host"
    );
}

/// The smart host says why it will not take an access token, before it refuses it: JSON, peer text.
pub fn token_challenged(host: &str, json: &[u8]) {
    tracing::warn!(
        event = "token_challenged",
        host,
        "the smart host says about the access token: {}",
        Escaped(json)
    );
}

/// The smart host took a message for some recipients.
pub fn transaction_taken(id: QueueId, recipients: usize, size_bytes: u64) {
    TRANSACTIONS_TAKEN.add(1);
    BYTES_TAKEN.add(size_bytes);
    tracing::debug!(event = "transaction_taken", %id, recipients, size_bytes, "the smart host took the message");
}

/// A transaction failed as a whole. Whose fault that is, and what follows, is told by whoever decides it.
pub fn transaction_failed(id: QueueId, failure: &Failure) {
    TRANSACTIONS_FAILED.add(1);
    tracing::debug!(
        event = "transaction_failed",
        %id,
        stage = %failure.stage,
        outcome_unknown = failure.outcome_is_unknown(),
        "the transaction failed: {failure}"
    );
}
