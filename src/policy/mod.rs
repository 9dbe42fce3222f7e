//! Pure decisions: who may relay, which account, whose fault a failure is, when to try again.
//!
//! Invariant: nothing here reads a clock, a disk, a socket or a random source; `now` and `jitter` are arguments.
//! Must not know: how anything is stored, sent or shown.

pub mod admission;
pub mod advice;
pub mod breaker;
pub mod expiry;
pub mod incident;
pub mod peer;
pub mod route;
pub mod schedule;
pub mod throttle;
pub mod verdict;
