//! The way out: what is to be sent, by which way, and what came of it.
//!
//! Invariant: nobody above knows how a message leaves; a way logs in by itself, chooses with what, and names the
//! stage of whatever goes wrong. Must not know: the queue, schedules, breakers.

mod letter;
pub mod smtp;

pub use letter::{Content, InMemory, Letter};

use crate::mail::{Cause, Failure, Mailbox, Place, Reply, ReversePath, Sender};
use crate::policy::verdict::Judged;
use crate::token::Source;

/// What is to be sent, to whom.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The sender as the device named it; the way puts in its place whom the account may send as.
    pub reverse_path: &'a ReversePath,
    /// To these and nobody else.
    pub recipients: Vec<&'a Mailbox>,
    /// Head and content, as stored.
    pub letter: &'a dyn Letter,
    /// In what the device writes raw 8-bit text (a WHATWG label), where that is known.
    pub charset: Option<&'a str>,
    /// As whom the account may send.
    pub sender: &'a Sender,
}

/// What became of one recipient in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server took the whole message for this recipient, in these words.
    Taken(Reply),
    /// This recipient was refused, for good or for now; the reply decides.
    Refused(Failure),
    /// Left for the next transaction: the server had no room for more recipients, or it failed as a whole.
    Untried,
}

/// What one transaction made of a message.
#[derive(Debug, Clone)]
pub struct Sent {
    /// One entry for each recipient, in their order.
    pub outcomes: Vec<Outcome>,
    /// Why the transaction as a whole failed; then no outcome is `Taken`.
    pub failure: Option<Failure>,
    /// Whether the connection can carry another transaction.
    pub usable: bool,
}

impl Sent {
    /// One that came to nothing, and its connection with it.
    pub fn lost(recipients: usize, failure: Failure) -> Self {
        Self { outcomes: vec![Outcome::Untried; recipients], failure: Some(failure), usable: false }
    }

    /// How many recipients were served.
    pub fn taken(&self) -> usize {
        self.outcomes.iter().filter(|o| matches!(o, Outcome::Taken(_))).count()
    }
}

/// How the mail of an account leaves.
#[derive(Debug, Clone)]
pub enum Way {
    /// SMTP submission to a smart host.
    Smtp(smtp::Submission),
}

impl Way {
    /// Where it leads.
    pub fn place(&self) -> Place {
        match self {
            Self::Smtp(submission) => submission.smart_host.place(),
        }
    }

    /// Whether the server knows the account by more than this site's address.
    pub fn has_login(&self) -> bool {
        match self {
            Self::Smtp(submission) => submission.has_login(),
        }
    }

    /// The settings by which it gets in, but for what is secret.
    pub fn way_in(&self) -> String {
        match self {
            Self::Smtp(submission) => submission.way_in(),
        }
    }

    /// Where its access tokens come from, if it uses any.
    pub fn tokens(&self) -> Option<&Source> {
        match self {
            Self::Smtp(submission) => submission.oauth.as_ref().map(|o| &o.source),
        }
    }

    /// These settings, with what of the ones before is still good: a token, a request under way.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        match (self, before) {
            (Self::Smtp(now), Self::Smtp(before)) => Self::Smtp(now.after(before)),
        }
    }

    /// Connects and logs in, at the n-th address of the server (modulo their number).
    ///
    /// # Errors
    /// The failure that decides what follows.
    pub async fn open(&self, nth_address: usize) -> Result<Connection, Box<Judged>> {
        match self {
            Self::Smtp(submission) => {
                submission.open(nth_address).await.map(|c| Connection::Smtp(Box::new(c)))
            }
        }
    }
}

/// A way that is open.
#[derive(Debug)]
pub enum Connection {
    /// To a smart host.
    Smtp(Box<smtp::Connection>),
}

impl Connection {
    /// The address it goes to, for people.
    pub fn peer(&self) -> String {
        match self {
            Self::Smtp(connection) => connection.address().to_string(),
        }
    }

    /// Sends a message, in one transaction.
    ///
    /// Failures are in the answer. Dropping the future leaves the connection good for nothing but `quit`.
    /// `hands_over` is called just before the server may take it: from then on only its answer, or its timeout, tells
    /// the outcome, and whoever drops the future earns a duplicate.
    pub async fn send(&mut self, outgoing: &Outgoing<'_>, hands_over: &(dyn Fn() + Sync)) -> Sent {
        match self {
            Self::Smtp(connection) => connection.send(outgoing, hands_over).await,
        }
    }

    /// Resolves when the idle connection is of no more use. May be dropped and called again; nothing is lost by that.
    pub async fn closed_by_peer(&mut self) -> Cause {
        match self {
            Self::Smtp(connection) => connection.closed_by_peer().await,
        }
    }

    /// Says goodbye, and resolves when the server has stopped counting this connection, or after some seconds.
    pub async fn quit(self) {
        match self {
            Self::Smtp(connection) => connection.quit().await,
        }
    }
}
