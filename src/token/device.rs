//! Signing in once by device code (RFC 8628): `mailferry account login`.
//!
//! Invariant: the sign-in counts only once its refresh token is on disk. The endpoint is asked no more often
//! than it said, and more rarely after each `slow_down`. Must not know: how code and address are shown, who
//! waits.

use super::endpoint::Endpoint;
use super::response::{self, Fault, Granted, Problem, Seconds};
use super::settings::https;
use super::source::save;
use super::{Grant, RefreshStore, Settings, SettingsError, claims::Claims, form};
use crate::fact::{Witness, token::Fact};
use crate::http::Limits;
use crate::mail::AccountId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// RFC 8628 section 3.2, where the endpoint names none.
const INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8628 section 3.5: on `slow_down`, and when a poll gets no answer.
const SLOWER_BY: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// Why a sign-in cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The settings cannot work, or are not for a device code.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The endpoint gave no code.
    #[error("no sign-in code: {0}")]
    Endpoint(Problem),
}

/// A sign-in that waits for a person.
#[derive(Debug)]
pub struct SignIn {
    /// To be typed in by the person. Graphic ASCII.
    pub user_code: String,
    /// Where to type it: an `https` address in graphic ASCII.
    pub verification_uri: String,
    /// How long the code lives.
    pub expires_in: Duration,
    /// To be slept before each `poll`; `slow_down` makes it longer.
    pub interval: Duration,
    device_code: SecretString,
    deadline: Instant,
    settings: Settings,
    url: hyper::Uri,
    endpoint: Endpoint,
    store: RefreshStore,
    witness: Witness,
}

/// How a sign-in stands.
#[derive(Debug)]
pub enum Poll {
    /// The person has not finished. Sleep `interval`, then poll again.
    Pending,
    /// Done; the refresh token is on disk. What the token says about itself: its `user` may be another than
    /// the mailbox, which the person should be told.
    SignedIn(Option<Claims>),
}

#[derive(Deserialize)]
struct RawCode {
    user_code: String,
    device_code: SecretString,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    expires_in: Seconds,
    interval: Option<Seconds>,
}

/// Asks for a code.
///
/// # Errors
/// When the settings cannot work or the endpoint gives none.
pub async fn begin(settings: Settings, limits: Limits, witness: Witness) -> Result<SignIn, BeginError> {
    settings.check()?;
    let Grant::DeviceCode { store } = &settings.grant else {
        return Err(SettingsError::new(
            "device_code",
            "this account does not sign in by device code",
            "remove secret, certificate and key from the account's oauth",
        )
        .into());
    };
    let store = RefreshStore::new(store, &settings.mailbox);
    let endpoint = Endpoint::new(settings.ca_file.as_deref(), settings.proxy.clone(), limits)?;
    let url = https("token_url", &settings.token_url())?;
    let device_url = https("token_url", &settings.device_url())?;
    let fields = [("client_id", settings.client_id.as_str()), ("scope", settings.scope())];
    let answer = endpoint.post(&device_url, form::encode(&fields)).await.map_err(BeginError::Endpoint)?;
    let code = match answer.status {
        200 => read_code(&answer.body),
        status => Err(response::problem(status, answer.retry_after, &answer.body)),
    }
    .map_err(BeginError::Endpoint)?;
    let expires_in = code.expires_in.get().unwrap_or_default().min(LONGEST_LIFE);
    Ok(SignIn {
        interval: code.interval.and_then(|s| s.get()).unwrap_or(INTERVAL).min(LONGEST_INTERVAL),
        deadline: Instant::now() + expires_in,
        user_code: code.user_code,
        verification_uri: code.verification_uri,
        expires_in,
        device_code: code.device_code,
        settings,
        url,
        endpoint,
        store,
        witness,
    })
}

fn read_code(body: &[u8]) -> Result<RawCode, Problem> {
    let garbage = || Problem::unavailable(Fault::Garbage, "the device code endpoint's answer is not a code");
    let code: RawCode = serde_json::from_slice(body).map_err(|_| garbage())?;
    // Both are printed on a terminal and followed by a person.
    let is_printable = |s: &str| !s.is_empty() && s.len() <= 256 && s.bytes().all(|b| b.is_ascii_graphic());
    let is_good = is_printable(&code.user_code)
        && is_printable(&code.verification_uri)
        && https("verification_uri", &code.verification_uri).is_ok();
    if is_good { Ok(code) } else { Err(garbage()) }
}

impl SignIn {
    /// Asks once whether the person has finished. The caller sleeps `interval` before each call.
    ///
    /// # Errors
    /// When the sign-in was declined, has expired, is refused, or the refresh token cannot be stored.
    pub async fn poll(&mut self) -> Result<Poll, Problem> {
        if Instant::now() >= self.deadline {
            return Err(Problem::refused("expired_token", ""));
        }
        let fields = [
            ("client_id", self.settings.client_id.as_str()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", self.device_code.expose_secret()),
        ];
        let answer = self.endpoint.post(&self.url, form::encode(&fields)).await;
        let answer = answer.and_then(|a| response::token(a.status, a.retry_after, &a.body));
        let answer = answer.map_err(|p| p.without(self.device_code.expose_secret()));
        let Some(granted) = read_poll(answer, &mut self.interval)? else { return Ok(Poll::Pending) };
        let Some(refresh) = &granted.refresh else {
            return Err(Problem::refused(
                "invalid_scope",
                "no refresh token came: the scope lacks offline_access",
            ));
        };
        save(&self.store, refresh).await?;
        let account = AccountId::named(&self.settings.mailbox.to_string());
        self.witness.tell(Fact::SignedIn { account });
        Ok(Poll::SignedIn(Claims::read(granted.access.expose_secret())))
    }
}

/// What an answer to a poll means: a token, go on, or the end. Lengthens `interval` where asked to.
fn read_poll(answer: Result<Granted, Problem>, interval: &mut Duration) -> Result<Option<Granted>, Problem> {
    match answer {
        Ok(granted) => Ok(Some(granted)),
        Err(Problem::Refused { refusal, .. }) if refusal.error == "authorization_pending" => Ok(None),
        Err(Problem::Refused { refusal, .. }) if refusal.error == "slow_down" => {
            *interval += SLOWER_BY;
            Ok(None)
        }
        // The person is at it and the code still lives: a passing fault is no reason to begin anew.
        Err(problem) if !problem.needs_a_person() => {
            *interval =
                (*interval + SLOWER_BY).min(LONGEST_INTERVAL).max(problem.retry_after().unwrap_or_default());
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::refusal::Class;

    fn polled(status: u16, body: &str) -> (u64, Result<bool, Class>) {
        let mut interval = INTERVAL;
        let answer = response::token(status, None, body.as_bytes());
        let result = read_poll(answer, &mut interval).map(|g| g.is_some()).map_err(|p| p.class());
        (interval.as_secs(), result)
    }

    #[test]
    fn each_answer_to_a_poll_goes_on_or_ends_it() {
        let cases = [
            (400, r#"{"error":"authorization_pending","error_codes":[70016]}"#, (5, Ok(false))),
            (400, r#"{"error":"slow_down"}"#, (10, Ok(false))),
            (503, "", (10, Ok(false))),
            (200, "<html>", (10, Ok(false))),
            (400, r#"{"error":"authorization_declined"}"#, (5, Err(Class::SignInAgain))),
            (400, r#"{"error":"expired_token","error_codes":[70020]}"#, (5, Err(Class::SignInAgain))),
            (400, r#"{"error":"bad_verification_code"}"#, (5, Err(Class::SignInAgain))),
            (401, r#"{"error":"invalid_client","error_codes":[7000218]}"#, (5, Err(Class::AppConfiguration))),
            (200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a"}"#, (5, Ok(true))),
        ];
        for (status, body, expected) in cases {
            assert_eq!(polled(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_code_that_could_mislead_the_person_is_refused() {
        let code = |user: &str, uri: &str| {
            let body = serde_json::json!({"user_code": user, "device_code": "d", "verification_uri": uri, "expires_in": 900});
            read_code(body.to_string().as_bytes()).is_ok()
        };
        assert!(code("FJC3A9X4Q", "https://microsoft.com/devicelogin"));
        for (user, uri) in [
            ("A\u{1b}[2J", "https://microsoft.com/devicelogin"),
            ("", "https://microsoft.com/devicelogin"),
            ("A", "http://microsoft.com/devicelogin"),
            ("A", "javascript:alert(1)"),
            ("A", "https://microsoft.com@evil.example/"),
        ] {
            assert!(!code(user, uri), "{user} {uri}");
        }
    }
}
