//! Facts of `submit`.

use super::count::{Add, Family, Kind, Value};
use crate::mail::{AccountId, Cause, Escaped, Failure, QueueId};
use jiff::civil::Date;
use std::fmt;
use std::net::SocketAddr;
use tracing::{debug, warn};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The smart host is ready for mail.
    Connected {
        /// Which.
        host: String,
        /// Where.
        address: SocketAddr,
        /// Version and cipher suite; none: in the clear.
        tls: Option<String>,
        /// Whether there was a login.
        signed_in: bool,
    },
    /// The smart host took an access token.
    TokenAccepted {
        /// Whose.
        account: AccountId,
    },
    /// The smart host says why it will not take an access token, before it refuses it.
    TokenChallenged {
        /// Which.
        host: String,
        /// JSON, peer text.
        json: Vec<u8>,
    },
    /// OAuth failed and the password was used in its place.
    PasswordStandsIn {
        /// Whose.
        account: AccountId,
        /// What is wrong with OAuth; escaped.
        why: String,
        /// Its last day.
        until: Date,
    },
    /// The smart host took a message for some recipients.
    TransactionTaken {
        /// The message.
        id: QueueId,
        /// For so many.
        recipients: usize,
        /// Its size.
        size_bytes: u64,
    },
    /// The smart host closed a connection that nothing was sent over.
    ClosedByPeer {
        /// Where.
        host: String,
        /// How.
        cause: Cause,
    },
    /// A transaction failed as a whole. Whose fault that is, and what follows, is told by whoever decides it.
    TransactionFailed {
        /// The message.
        id: QueueId,
        /// Why.
        failure: Failure,
    },
}

static CONNECTIONS: Family = Family {
    name: "smart_host_connections_total",
    help: "Connections to a smart host that came as far as a message could be sent.",
    labels: &[],
    kind: Kind::Counter,
};
static TRANSACTIONS: Family = Family {
    name: "smart_host_transactions_total",
    help: "Transactions with a smart host, by whether the end of data was answered with 2yz.",
    labels: &["outcome"],
    kind: Kind::Counter,
};
static BYTES_TAKEN: Family = Family {
    name: "smart_host_bytes_total",
    help: "Bytes of mail handed over in transactions that were taken.",
    labels: &[],
    kind: Kind::Counter,
};

/// Everything that is counted here.
pub(super) static FAMILIES: &[&Family] = &[&CONNECTIONS, &TRANSACTIONS, &BYTES_TAKEN];

impl Fact {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "smart_host_connected",
            Self::TokenAccepted { .. } => "token_accepted",
            Self::TokenChallenged { .. } => "token_challenged",
            Self::PasswordStandsIn { .. } => "password_stands_in",
            Self::TransactionTaken { .. } => "transaction_taken",
            Self::ClosedByPeer { .. } => "closed_by_peer",
            Self::TransactionFailed { .. } => "transaction_failed",
        }
    }

    pub(super) fn is_detail(&self) -> bool {
        !matches!(self, Self::TokenChallenged { .. } | Self::PasswordStandsIn { .. })
    }

    pub(super) fn count(&self, add: Add<'_>) {
        match self {
            Self::Connected { .. } => add(&CONNECTIONS, &[], Value::More(1)),
            Self::TransactionTaken { size_bytes, .. } => {
                add(&TRANSACTIONS, &["taken"], Value::More(1));
                add(&BYTES_TAKEN, &[], Value::More(*size_bytes));
            }
            Self::TransactionFailed { .. } => add(&TRANSACTIONS, &["failed"], Value::More(1)),
            Self::TokenAccepted { .. }
            | Self::TokenChallenged { .. }
            | Self::PasswordStandsIn { .. }
            | Self::ClosedByPeer { .. } => {}
        }
    }

    pub(super) fn log(&self) {
        let event = self.event();
        match self {
            Self::Connected { host, address, tls, signed_in } => {
                let tls = tls.as_deref().unwrap_or("off");
                debug!(event, host, %address, tls, signed_in, "{self}");
            }
            Self::TokenAccepted { account } => debug!(event, %account, "{self}"),
            Self::TokenChallenged { host, .. } => warn!(event, host, "{self}"),
            Self::PasswordStandsIn { account, until, .. } => {
                warn!(event, %account, until = until.to_string(), "{self}");
            }
            Self::TransactionTaken { id, recipients, size_bytes } => {
                debug!(event, %id, recipients, size_bytes, "{self}");
            }
            Self::ClosedByPeer { host, .. } => debug!(event, %host, "{self}"),
            Self::TransactionFailed { id, failure } => {
                let outcome_unknown = failure.outcome_is_unknown();
                debug!(event, %id, stage = %failure.stage, outcome_unknown, "{self}");
            }
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { .. } => f.write_str("connected to the smart host"),
            Self::TokenAccepted { account } => {
                write!(f, "{account}: the smart host took the access token")
            }
            Self::TokenChallenged { json, .. } => {
                write!(f, "the smart host says about the access token: {}", Escaped(json))
            }
            Self::PasswordStandsIn { account, why, until } => write!(
                f,
                "{account}: OAuth failed ({why}); the password stands in until {until}; hint: mend OAuth before that day"
            ),
            Self::TransactionTaken { .. } => f.write_str("the smart host took the message"),
            Self::ClosedByPeer { cause, .. } => {
                write!(f, "the smart host closed an idle connection: {cause:?}")
            }
            Self::TransactionFailed { failure, .. } => write!(f, "the transaction failed: {failure}"),
        }
    }
}
