//! What happens, told once: a fact is a value, and whoever wants to know of it is an observer.
//!
//! Invariant: the same fact has the same words in the journal, in `status` and in the documentation; peer text is
//! escaped when it is shown; no secret ever arrives here. An observer never blocks and never fails its teller. There is
//! nothing that whoever does not hold a `Witness` could tell or count. Must not know: who is listening.
//!
//! Each room's facts have a file with all that is to be said of them, in matches without a rest: name, words, line,
//! counts. A new fact compiles once it has them.

mod count;
pub mod daemon;
pub mod dispatch;
mod incidents;
mod journal;
pub mod notify;
pub mod queue;
pub mod receive;
pub mod submit;
mod tally;
#[cfg(test)]
mod tests;
pub mod token;
#[expect(clippy::disallowed_methods, reason = "at the edge: it says when a fact was told")]
mod witness;

pub use count::{Family, Kind};
pub use incidents::Incidents;
pub use journal::Journal;
pub use tally::{Series, Sum, Tally};
#[cfg(test)]
pub(crate) use witness::Recorder;
pub use witness::{At, Observer, Witness};

use std::fmt;

/// Anything that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// On the way in.
    Receive(receive::Fact),
    /// In the queue.
    Queue(queue::Fact),
    /// With access tokens, and the credentials they are got with.
    Token(token::Fact),
    /// On a connection to a smart host.
    Submit(submit::Fact),
    /// With an account, or one of its messages on the way out.
    Dispatch(dispatch::Told),
    /// Whether admins and programs were told.
    Notify(notify::Fact),
    /// Of the process.
    Daemon(daemon::Fact),
}

macro_rules! each {
    ($self:expr, $fact:ident => $what:expr) => {
        match $self {
            Fact::Receive($fact) => $what,
            Fact::Queue($fact) => $what,
            Fact::Token($fact) => $what,
            Fact::Submit($fact) => $what,
            Fact::Dispatch($fact) => $what,
            Fact::Notify($fact) => $what,
            Fact::Daemon($fact) => $what,
        }
    };
}

impl Fact {
    /// Its name: snake_case, stable, for scripts; `event` in the journal.
    pub fn event(&self) -> &'static str {
        each!(self, fact => fact.event())
    }

    /// Whether only who asked for everything wants to hear it.
    pub fn is_detail(&self) -> bool {
        match self {
            Self::Receive(fact) => fact.is_detail(),
            Self::Queue(fact) => fact.is_detail(),
            Self::Token(fact) => fact.is_detail(),
            Self::Submit(fact) => fact.is_detail(),
            Self::Notify(fact) => fact.is_detail(),
            Self::Dispatch(_) | Self::Daemon(_) => false,
        }
    }

    /// What follows its line: what it means, what to do, where more is said; each a line.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Token(fact) => fact.hints(),
            Self::Dispatch(fact) => fact.hints(),
            Self::Receive(_) | Self::Queue(_) | Self::Submit(_) | Self::Notify(_) | Self::Daemon(_) => vec![],
        }
    }
}

/// Its words, in one line.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, fact => fact.fmt(f))
    }
}

macro_rules! from {
    ($($room:ident: $variant:ident),*) => {
        $(impl From<$room::Fact> for Fact {
            fn from(fact: $room::Fact) -> Self {
                Self::$variant(fact)
            }
        })*
    };
}

impl From<dispatch::Told> for Fact {
    fn from(told: dispatch::Told) -> Self {
        Self::Dispatch(told)
    }
}

from!(receive: Receive, queue: Queue, token: Token, submit: Submit, notify: Notify, daemon: Daemon);

fn in_ms(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Whole seconds, for people.
fn in_words(d: std::time::Duration) -> humantime::FormattedDuration {
    humantime::format_duration(std::time::Duration::from_secs(d.as_secs()))
}
