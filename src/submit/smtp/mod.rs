//! SMTP submission: a connection to a smart host, and one transaction after another on it.
//!
//! Invariant: credentials and mail leave only over a verified TLS connection unless the account says `tls = "off"`
//! and has no credentials; every failure names its stage. Must not know: where a letter is kept, schedules.

mod capabilities;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod channel;
mod connect;
mod login;
pub mod reply;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod submission;
mod transaction;
pub mod wire;

pub use capabilities::Capabilities;
pub use connect::{Connection, Seen, resolve};
pub use submission::{OAuth, Submission};

use crate::mail::Place;
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
    /// As people know it.
    pub fn place(&self) -> Place {
        Place::new(self.host.clone(), self.port)
    }

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
