//! Facts of `token`: access tokens, and the credentials they are got with.

use super::tally::{Add, Family, Kind, Value};
use super::{in_ms, in_words};
use crate::mail::{AccountId, WallTime};
use crate::policy::expiry::Expiry;
use std::fmt;
use std::time::Duration;
use tracing::{error, info, warn};

/// One of them; `said` is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The endpoint is asked.
    Requested {
        /// For whose token.
        account: AccountId,
    },
    /// A new access token.
    Fetched {
        /// Whose.
        account: AccountId,
        /// For how long.
        good_for: Duration,
    },
    /// No token for now; it passes by itself.
    Unavailable {
        /// Whose.
        account: AccountId,
        /// The endpoint's words, or the system's.
        said: String,
        /// Until the next request.
        retry_in: Duration,
        /// What that means.
        meaning: String,
    },
    /// No token until a person does something.
    Refused {
        /// Whose.
        account: AccountId,
        /// The endpoint's words.
        said: String,
        /// Until the next request.
        retry_in: Duration,
        /// What that means.
        meaning: String,
        /// What to do; each a line.
        remedy: Vec<String>,
    },
    /// The smart host does not take a token.
    Rejected {
        /// Whose.
        account: AccountId,
        /// Whether a new one is tried.
        again: bool,
    },
    /// A person has signed in; the refresh token is on disk.
    SignedIn {
        /// As which account.
        account: AccountId,
    },
    /// A client secret or certificate ends soon, or has ended.
    CredentialExpires {
        /// Whose.
        account: AccountId,
        /// The application it belongs to.
        client_id: String,
        /// What, and when.
        expiry: Expiry,
        /// As seen from here.
        now: WallTime,
    },
}

static REQUESTS: Family = Family {
    name: "token_requests_total",
    help: "Requests to a token endpoint.",
    labels: &["account"],
    kind: Kind::Counter,
};
static FAILURES: Family = Family {
    name: "token_failures_total",
    help: "Requests to a token endpoint that brought no token.",
    labels: &["account"],
    kind: Kind::Counter,
};
static REJECTED: Family = Family {
    name: "tokens_rejected_total",
    help: "Access tokens that the smart host refused.",
    labels: &["account"],
    kind: Kind::Counter,
};

/// Everything that is counted here.
pub(super) static FAMILIES: &[&Family] = &[&REQUESTS, &FAILURES, &REJECTED];

impl Fact {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "token_requested",
            Self::Fetched { .. } => "token_fetched",
            Self::Unavailable { .. } => "token_unavailable",
            Self::Refused { .. } => "token_refused",
            Self::Rejected { .. } => "token_rejected",
            Self::SignedIn { .. } => "signed_in",
            Self::CredentialExpires { expiry, now, .. } if expiry.days_left(*now) < 0 => "credential_expired",
            Self::CredentialExpires { .. } => "credential_expires",
        }
    }

    pub(super) fn is_detail(&self) -> bool {
        matches!(self, Self::Requested { .. })
    }

    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused { meaning, remedy, .. } => {
                let steps = remedy.iter().map(|step| format!("hint: {step}"));
                std::iter::once(format!("meaning: {meaning}")).chain(steps).collect()
            }
            _ => vec![],
        }
    }

    pub(super) fn count(&self, add: Add<'_>) {
        match self {
            Self::Requested { account } => add(&REQUESTS, &[account.as_str()], Value::More(1)),
            Self::Unavailable { account, .. } | Self::Refused { account, .. } => {
                add(&FAILURES, &[account.as_str()], Value::More(1));
            }
            Self::Rejected { account, .. } => add(&REJECTED, &[account.as_str()], Value::More(1)),
            Self::Fetched { .. } | Self::SignedIn { .. } | Self::CredentialExpires { .. } => {}
        }
    }

    pub(super) fn log(&self) {
        let event = self.event();
        match self {
            // What comes of it has a line.
            Self::Requested { .. } => {}
            Self::Fetched { account, good_for } => {
                info!(event, %account, good_for_ms = in_ms(*good_for), "{self}");
            }
            Self::Unavailable { account, retry_in, .. } => {
                warn!(event, %account, retry_in_ms = in_ms(*retry_in), "{self}");
            }
            Self::Refused { account, retry_in, .. } => {
                error!(event, %account, retry_in_ms = in_ms(*retry_in), "{self}");
                for line in self.hints() {
                    warn!(event = "hint", %account, "{line}");
                }
            }
            Self::Rejected { account, .. } => warn!(event, %account, "{self}"),
            Self::SignedIn { account } => info!(event, %account, "{self}"),
            Self::CredentialExpires { account, expiry, now, .. } => match expiry.days_left(*now) {
                days_left @ ..0 => error!(event, %account, days_left, "{self}"),
                days_left => warn!(event, %account, days_left, "{self}"),
            },
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested { account } => write!(f, "{account} asks for an access token"),
            Self::Fetched { account, good_for } => {
                write!(f, "{account} has a new access token, good for {}", in_words(*good_for))
            }
            Self::Unavailable { account, said, retry_in, meaning } => {
                let next = in_words(*retry_in);
                write!(f, "{account} got no access token, next request in {next}: {said} ({meaning})")
            }
            Self::Refused { account, said, retry_in, .. } => {
                let next = in_words(*retry_in);
                write!(f, "{account} is refused an access token, next request in {next}: {said}")
            }
            Self::Rejected { account, again } => {
                let then =
                    if *again { "a new one is tried once" } else { "a new one was refused just before" };
                write!(f, "{account}: the smart host refused the access token; {then}")
            }
            Self::SignedIn { account } => {
                write!(f, "{account} is signed in; the refresh token is stored")
            }
            Self::CredentialExpires { account, expiry, now, .. } => {
                write!(f, "{}; hint: {}", expiry.words(account, *now), expiry.hint())
            }
        }
    }
}
