//! Inbound SMTP: what a device says becomes a message in the queue, or a refusal with a reason.
//!
//! Invariant: a peer outside every client network gets nothing accepted; a 250 at the end of data needs a
//! `queue::Stored`; whatever a peer sends, memory for it is bounded. `session` and what it is made of (`command`,
//! `decode`, `foreign`, `login`, `limits`) are pure; sockets, TLS and the clock are in
//! `listener` and `connection`.
//! Must not know: how a message leaves again.

pub mod command;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod connection;
pub mod decode;
pub mod devices;
pub mod finished;
pub mod foreign;
pub mod limits;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod listener;
pub mod login;
pub mod session;
pub mod settings;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod shared;

pub use settings::{Auth, Listen, Settings, Tls};
