//! When what is sent, over which connection, and what becomes of it.
//!
//! Invariant: one owner an account, which alone decides; a message is settled durably before its connection takes
//! the next. Must not know: SMTP's words, SQL, how anything is shown.

mod plan;
mod settle;
