//! The queue in a directory: rows in SQLite, large contents in files beside it.
//!
//! Invariant: the order of events below. Everything is made durable by one writer thread, many operations a
//! sync; leases are kept in memory only, so a crash ends them all. Must not know: what `Queue` must not know.
//!
//! | step | a crash after it leaves | the next start |
//! |---|---|---|
//! | 1. the content is written to `bodies/ID.part` | a part, no 250 given | removes the part |
//! | 2. it is synced, renamed to `bodies/ID`, further ids linked | a file without a row, no 250 given | moves it to `unclaimed/` and tells |
//! | 3. the directory is synced, once a batch | the same | the same |
//! | 4. rows are written, not committed | the same; SQLite drops the tail of its log | the same |
//! | 5. the transaction is committed and synced | the message whole, perhaps without a 250 | offers it for delivery |
//! | 6. a settlement is written, not committed | the message as before the attempt | offers it again: a duplicate is possible, a loss is not |
//! | 7. the settlement is committed | the outcome with its notices; perhaps a file without a content row | removes the file |
//! | 8. the file is removed, the directory synced | history | nothing |
//!
//! Removal by the admin or by age goes like a settlement. A row whose file is missing can only come from outside
//! or from a lying disk: it is an alarm, and the message stays.
//!
//! Every commit is synced. After a write or sync that failed, nothing is acknowledged before the log was written
//! anew (`store`); what is damaged is replaced by what can be read of it (`rebuild`); an outcome whose row cannot be
//! written is kept beside the database (`held_over`).
//!
//! The log is emptied whenever the writer rests, and begins anew every few MiB under load. Free pages go back to the
//! file system while the writer is idle, or at once when room is short (`auto_vacuum = INCREMENTAL`).

mod content;
#[cfg(test)]
mod damage;
mod disk;
mod ground;
mod handover;
mod held_over;
mod lease;
mod ledger;
mod open;
mod ops;
mod rebuild;
mod roles;
mod row;
mod salvage;
mod schema;
mod shared;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod transaction;
mod turns;
mod upkeep;
mod writer;

pub(super) use open::open;
pub use rebuild::{Rescued, rescue};
