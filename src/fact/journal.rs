//! The observer that writes the log.
//!
//! Invariant: a fact has one line, with a field `event` (its name) and, where a message is meant, `id`; what it means and
//! what to do follow as lines of `hint`. Must not know: where the lines go.

use super::{At, Fact, Observer};

/// Writes a line a fact.
#[derive(Debug, Default)]
pub struct Journal;

impl Journal {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self
    }
}

impl Observer for Journal {
    fn saw(&self, _: At, fact: &Fact) {
        match fact {
            Fact::Queue(fact) => fact.log(),
            Fact::Token(fact) => fact.log(),
            Fact::Submit(fact) => fact.log(),
        }
    }
}
