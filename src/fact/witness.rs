//! Who is told.
//!
//! Invariant: each observer sees each fact once, in the order of one teller's telling; there is no queue between them.
//! Must not know: what any fact means.

use super::{Fact, Journal};
use crate::mail::WallTime;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// When a fact was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// For people.
    pub wall: WallTime,
    /// For how long it is between two facts of this process.
    pub instant: Instant,
}

impl At {
    /// This moment.
    pub fn now() -> Self {
        Self { wall: WallTime::now(), instant: Instant::now() }
    }
}

/// Sees what happens. It is called on the thread of whoever tells: it must not wait for anything but a short lock.
pub trait Observer: Send + Sync {
    /// This happened.
    fn saw(&self, at: At, fact: &Fact);
}

/// To whom a room tells its facts. Cheap to clone; handed down like the clock.
#[derive(Clone, Default)]
pub struct Witness(Arc<[Arc<dyn Observer>]>);

impl Witness {
    /// Tells these, in this order.
    pub fn new(observers: impl IntoIterator<Item = Arc<dyn Observer>>) -> Self {
        Self(observers.into_iter().collect())
    }

    /// Nobody is told.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Tells the log alone: for a command that opens a room by itself.
    pub fn of_the_log() -> Self {
        Self::new([Arc::new(Journal::new()) as Arc<dyn Observer>])
    }

    /// Tells everyone.
    pub fn tell(&self, fact: impl Into<Fact>) {
        if self.0.is_empty() {
            return;
        }
        let (at, fact) = (At::now(), fact.into());
        for observer in self.0.iter() {
            observer.saw(at, &fact);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witness({})", self.0.len())
    }
}

/// Keeps what it saw, for tests to look at.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Recorder(std::sync::Mutex<Vec<Fact>>);

#[cfg(test)]
impl Recorder {
    /// One, and a witness that tells it.
    pub(crate) fn new() -> (Arc<Self>, Witness) {
        let recorder = Arc::new(Self::default());
        let witness = Witness::new([Arc::clone(&recorder) as Arc<dyn Observer>]);
        (recorder, witness)
    }

    /// What it saw since this was last asked.
    pub(crate) fn take(&self) -> Vec<Fact> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[cfg(test)]
impl Observer for Recorder {
    fn saw(&self, _: At, fact: &Fact) {
        self.0.lock().unwrap().push(fact.clone());
    }
}
