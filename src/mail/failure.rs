//! What went wrong at the smart host, and where: the input of `policy::verdict`.
//!
//! Invariant: a failure always names its stage. The same reply means another thing at another stage.

use super::Reply;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How far a submission had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// DNS, TCP and the banner.
    Connect,
    /// EHLO, before or after TLS.
    Ehlo,
    /// STARTTLS and the handshake.
    Tls,
    /// Getting an OAuth access token.
    Token,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, until 354 came, and while the body is on its way.
    Data,
    /// The end of data has been sent: a lost reply leaves the outcome unknown.
    FinalDot,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Ehlo,
        Self::Tls,
        Self::Token,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::FinalDot,
    ];

    /// Whether the login had succeeded before this stage.
    pub fn is_after_auth(self) -> bool {
        self > Self::Auth
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Ehlo => "EHLO",
            Self::Tls => "STARTTLS",
            Self::Token => "getting a token",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::FinalDot => "end of data",
        })
    }
}

/// Why it stopped there. Texts are peer text or the system's: escape before printing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The server said so.
    Reply(Reply),
    /// Refused, reset, unreachable, closed, name not found.
    Network(String),
    /// No progress within the time of that stage.
    Timeout,
    /// The certificate is not believed: nobody was authenticated, nothing was sent.
    Certificate(String),
    /// The TLS handshake failed for another reason: nothing was sent.
    Handshake {
        /// The alert, or what is wrong.
        said: String,
        /// The two will never agree as they are.
        lasts: bool,
    },
    /// STARTTLS is required and not announced.
    NoStartTls,
    /// Credentials are set and no mechanism we speak is announced.
    NoAuth,
    /// What came back is not SMTP, or beyond the caps.
    Unparsable(String),
    /// There is no access token.
    Token(NoToken),
    /// The server refused the access token (535): a new one may do.
    TokenRejected {
        /// Its words.
        reply: Reply,
        /// What to do once a new one was refused, too; each a line.
        remedy: Vec<String>,
    },
    /// The message is larger than the smart host announces in SIZE.
    TooLarge {
        /// What is to be sent.
        size_bytes: u64,
        /// What was announced.
        limit_bytes: u64,
    },
    /// An address needs SMTPUTF8, which is not announced.
    NoSmtpUtf8,
    /// The stored body could not be read: an alarm, not the peer's fault.
    Body(String),
    /// The system could not open or read it at this moment (too many open files, no memory); it may be whole.
    BodyForNow(String),
}

/// Why there is no access token, as the room that asks for them judged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoToken {
    /// The sign-in service's words, or the system's. Peer text.
    pub said: String,
    /// Whether it stays until a person does something.
    pub needs_a_person: bool,
    /// There will be none before this has passed.
    pub retry_in: Duration,
    /// What to do; each a line.
    pub remedy: Vec<String>,
}

/// A failed connection, transaction or recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub cause: Cause,
}

impl Failure {
    /// Puts the two together.
    pub fn new(stage: Stage, cause: Cause) -> Self {
        Self { stage, cause }
    }

    /// The failure with so much of a reply as is worth keeping for every recipient.
    pub fn kept(&self) -> Self {
        match &self.cause {
            Cause::Reply(reply) => Self::new(self.stage, Cause::Reply(reply.kept())),
            _ => self.clone(),
        }
    }

    /// The server's reply, if it gave one.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            Cause::Reply(r) | Cause::TokenRejected { reply: r, .. } => Some(r),
            _ => None,
        }
    }

    /// After the end of data without an answer that can be read, or with one about the connection only: the server
    /// may or may not have taken it.
    pub fn outcome_is_unknown(&self) -> bool {
        self.stage == Stage::FinalDot
            && match &self.cause {
                Cause::Network(_) | Cause::Timeout | Cause::Unparsable(_) => true,
                Cause::Reply(reply) => reply.says_dropped(),
                _ => false,
            }
    }
}

impl fmt::Display for Failure {
    /// One escaped line: `AUTH: 451 4.7.0 Temporary server error. ... PRX4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.cause)
    }
}

impl fmt::Display for Cause {
    /// One escaped line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |f: &mut fmt::Formatter<'_>, what: &str, t: &str| {
            write!(f, "{what}{}", super::Escaped(t.as_bytes()))
        };
        match self {
            Self::Reply(r) | Self::TokenRejected { reply: r, .. } => write!(f, "{r}"),
            Self::Network(t) => text(f, "", t),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Certificate(t) => text(f, "certificate not accepted: ", t),
            Self::Handshake { said, .. } => text(f, "", said),
            Self::NoStartTls => f.write_str("the server does not offer STARTTLS"),
            Self::NoAuth => f.write_str("the server offers no AUTH mechanism we speak"),
            Self::Unparsable(t) => text(f, "not an SMTP reply: ", t),
            Self::Token(t) => text(f, "no access token: ", &t.said),
            Self::TooLarge { size_bytes, limit_bytes } => {
                write!(f, "{size_bytes} bytes are more than the {limit_bytes} the server takes")
            }
            Self::NoSmtpUtf8 => f.write_str("an address needs SMTPUTF8, which the server does not offer"),
            Self::Body(t) | Self::BodyForNow(t) => text(f, "the stored body cannot be read: ", t),
        }
    }
}
