//! Facts of `token`: access tokens, and the credentials they are got with.

use super::Counter;
use crate::mail::{AccountId, WallTime};
use crate::policy::expiry::Expiry;
use std::time::Duration;
use tracing::{error, info, warn};

/// Requests to a token endpoint.
pub static REQUESTS_TOTAL: Counter = Counter::new();
/// Requests that brought no token.
pub static FAILURES_TOTAL: Counter = Counter::new();
/// Tokens that the smart host refused.
pub static REJECTED_TOTAL: Counter = Counter::new();

/// A new access token.
pub fn fetched(account: &AccountId, good_for: Duration) {
    info!(event = "token_fetched", %account, good_for_ms = ms(good_for),
        "{account} has a new access token, good for {}", words(good_for));
}

/// No token for now; it passes by itself. `said` is escaped.
pub fn unavailable(account: &AccountId, said: &str, retry_in: Duration, meaning: &str) {
    FAILURES_TOTAL.add(1);
    warn!(event = "token_unavailable", %account, retry_in_ms = ms(retry_in),
        "{account} got no access token, next request in {}: {said} ({meaning})", words(retry_in));
}

/// No token until a person does something. `said` is escaped.
pub fn refused(account: &AccountId, said: &str, retry_in: Duration, meaning: &str, remedy: &[String]) {
    FAILURES_TOTAL.add(1);
    error!(event = "token_refused", %account, retry_in_ms = ms(retry_in),
        "{account} is refused an access token, next request in {}: {said}", words(retry_in));
    warn!(event = "hint", %account, "meaning: {meaning}");
    for line in remedy {
        warn!(event = "hint", %account, "hint: {line}");
    }
}

/// The smart host does not take a token.
pub fn rejected(account: &AccountId, again: bool) {
    REJECTED_TOTAL.add(1);
    let then = if again { "a new one is tried once" } else { "a new one was refused just before" };
    warn!(event = "token_rejected", %account, "{account}: the smart host refused the access token; {then}");
}

/// A person has signed in; the refresh token is on disk.
pub fn signed_in(account: &AccountId) {
    info!(event = "signed_in", %account, "{account} is signed in; the refresh token is stored");
}

/// A client secret or certificate ends soon, or has ended.
pub fn credential_expires(account: &AccountId, expiry: Expiry, now: WallTime) {
    let (said, hint, days_left) = (expiry.words(account, now), expiry.hint(), expiry.days_left(now));
    if days_left < 0 {
        error!(event = "credential_expired", %account, days_left, "{said}; hint: {hint}");
    } else {
        warn!(event = "credential_expires", %account, days_left, "{said}; hint: {hint}");
    }
}

fn words(d: Duration) -> String {
    humantime::format_duration(Duration::from_secs(d.as_secs())).to_string()
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
