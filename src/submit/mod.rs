//! Outbound SMTP: one connection to a smart host, and one transaction after another on it.
//!
//! Invariant: credentials and mail leave only over a verified TLS connection unless the account says `tls = "off"`
//! and has no credentials; every failure names its stage. Must not know: the queue's storage, schedules, whose
//! fault a failure is.

mod capabilities;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod channel;
mod connect;
mod login;
pub mod reply;
mod transaction;
pub mod wire;

pub use capabilities::Capabilities;
pub use connect::{Connection, Seen, resolve};

use crate::mail::{Failure, Reply};
use crate::token::AccessToken;
use secrecy::SecretString;
use std::time::Duration;

/// How the connection to the smart host is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// STARTTLS, mandatory and verified.
    #[default]
    StartTls,
    /// TLS from the first byte, verified.
    Implicit,
    /// In the clear; only without credentials.
    Off,
}

/// The mailbox's login.
#[derive(Debug, Clone)]
pub enum Login {
    /// AUTH PLAIN or LOGIN.
    Password {
        /// The user name, usually the mailbox address.
        user: String,
        /// Its password.
        password: SecretString,
    },
    /// AUTH XOAUTH2.
    Token {
        /// The mailbox.
        user: String,
        /// Got before the connection is opened.
        token: AccessToken,
    },
}

impl Login {
    /// Who logs in.
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::Token { user, .. } => user,
        }
    }
}

/// Where and how an account submits.
#[derive(Debug, Clone)]
pub struct SmartHost {
    /// Host name or address; the certificate must be for it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Protection.
    pub tls: Tls,
    /// Credentials; none: no AUTH.
    pub login: Option<Login>,
    /// Our name in EHLO.
    pub ehlo_name: String,
    /// Until TCP, TLS handshake or banner make progress.
    pub connect_timeout: Duration,
    /// Until a command is answered.
    pub command_timeout: Duration,
    /// Until the body makes progress, and for the answer to the end of data.
    pub data_timeout: Duration,
}

impl SmartHost {
    /// With STARTTLS, no login, and the usual patience.
    pub fn new(host: impl Into<String>, port: u16, ehlo_name: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port,
            tls: Tls::StartTls,
            login: None,
            ehlo_name: ehlo_name.into(),
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(600),
        }
    }
}

/// What became of one recipient in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The end of data was answered 2yz with this recipient in the envelope.
    Taken(Reply),
    /// RCPT was refused, for good or for now; the reply decides.
    Refused(Failure),
    /// Left for the next transaction: 452 4.5.3, or the transaction failed as a whole.
    Untried,
}

/// What one transaction made of a message.
#[derive(Debug)]
pub struct Sent {
    /// One entry for each pending recipient of the message, in its order.
    pub outcomes: Vec<Outcome>,
    /// Why the transaction as a whole failed; then no outcome is `Taken`.
    pub failure: Option<Failure>,
    /// Whether the connection can carry another transaction.
    pub usable: bool,
}
