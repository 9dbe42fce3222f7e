//! TLS, as a client and as a server: one provider, one pair of versions, one reader of PEM files.
//!
//! Invariant: there is no way to connect without verification; TLS 1.2 and 1.3 only; one provider (aws-lc-rs); a
//! private key this room makes is readable by its owner alone.
//! Must not know: what is spoken inside, whose fault a failure is.

mod client;
pub mod pem;
pub mod server;

pub use client::{HandshakeError, Trust, TrustError};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use std::sync::Arc;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// The one provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
