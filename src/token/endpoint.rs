//! One POST to the sign-in service.
//!
//! Invariant: TLS is verified by the system's roots (and the CA file, if any) before a byte is sent; no redirect is
//! followed. Must not know: what the body says.

use super::SettingsError;
use super::response::{self, Fault, Problem};
use crate::files;
use crate::http::{self, Client, HttpError, Limits, Method, Proxy, Uri};
use crate::mail::WallTime;
use crate::tls::{Trust, TrustError};
use secrecy::zeroize::Zeroizing;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A way to ask.
#[derive(Debug)]
pub(super) struct Endpoint(Client);

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// The server's clock.
    pub(super) date: Option<WallTime>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Endpoint {
    pub(super) fn new(
        ca_file: Option<&Path>,
        proxy: Option<Arc<Proxy>>,
        limits: Limits,
    ) -> Result<Self, SettingsError> {
        let trust = Trust::besides_the_system(ca_file).map_err(|e| {
            let may_pass = matches!(&e, TrustError::Unreadable { why, .. } if files::may_pass(why));
            let hint = "a PEM file with the certificates of the authorities to trust";
            SettingsError { may_pass, ..SettingsError::new("ca_file", e.to_string(), hint) }
        })?;
        Ok(Self(Client::new(trust, proxy, limits)))
    }

    /// Whether it asks the same way as the other, as far as settings say how.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }

    /// Sends a form and reads the answer, whatever its status.
    pub(super) async fn post(&self, url: &Uri, form: Zeroizing<Vec<u8>>) -> Result<Answer, Problem> {
        let method = Method::Post("application/x-www-form-urlencoded");
        let answer = self.0.ask(method, url, form).await?;
        let now = WallTime::now();
        Ok(Answer {
            status: answer.status,
            retry_after: answer.header("retry-after").and_then(|v| response::retry_after(v, now)),
            date: answer.header("date").and_then(response::http_date),
            body: answer.body,
        })
    }
}

impl From<HttpError> for Problem {
    fn from(error: HttpError) -> Self {
        let fault = match error.fault {
            http::Fault::Network => Fault::Network,
            http::Fault::Timeout => Fault::Timeout,
            http::Fault::Certificate => Fault::Certificate,
            http::Fault::Garbage => Fault::Garbage,
        };
        Self::unavailable(fault, error.said)
    }
}
