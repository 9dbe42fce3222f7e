//! Access tokens for a mailbox: what an account with OAuth logs in with.
//!
//! Invariant: a token, secret, assertion or device code never reaches a log, an error or a `Debug`; it is
//! sent only to the configured endpoint, over verified TLS, and no redirect is followed; at most one request
//! an account is under way. Must not know: SMTP, the queue, when an account may be probed.

mod assertion;
pub mod cache;
pub mod claims;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod device;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod endpoint;
mod expiry;
mod form;
pub mod refusal;
mod rejected;
pub mod response;
mod settings;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod source;
mod store;

pub use assertion::Assertion;
pub use cache::{AccessToken, TokenError};
pub use settings::{Cloud, Grant, Settings, SettingsError};
pub use source::Source;
pub use store::RefreshStore;
