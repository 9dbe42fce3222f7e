//! What the endpoint's answers say.
//!
//! Invariant: an answer is a token that is safe to put into an AUTH command, or a problem; whatever else
//! comes (a login page of the hotel's Wi-Fi, half a JSON, a redirect) is a passing fault. Nothing of an
//! answer that is not understood is kept: it may hold what we sent. Must not know: sockets, clocks, what is
//! done about it.

use super::refusal::{Class, Refusal};
use crate::mail::{Escaped, WallTime};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// Microsoft's longest is 28 h (continuous access evaluation); more is a mistake.
const MAX_LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// A `Retry-After` beyond this would be an outage of our own making.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Longer descriptions are cut; Microsoft's are about 400.
const MAX_DESCRIPTION_CHARS: usize = 1000;
const WITHHELD: &str = "[withheld]";
/// Longer tokens are not put into a command line.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token as it came.
#[derive(Debug)]
pub struct Granted {
    /// The access token: ASCII without space or control.
    pub access: SecretString,
    /// From the moment the server made it.
    pub lifetime: Duration,
    /// In place of the one that was sent.
    pub refresh: Option<SecretString>,
}

/// The kind of fault, for the hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Name not found, refused, reset, closed.
    Network,
    /// Too slow.
    Timeout,
    /// The certificate is not believed: nothing was sent.
    Certificate,
    /// An answer that is not a token endpoint's.
    Garbage,
    /// 429 or 5yz.
    Busy,
    /// Our own refresh token could not be read or stored.
    Store,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No answer that says anything.
    Unavailable {
        /// Which kind.
        fault: Fault,
        /// What happened. Peer text or the system's.
        said: String,
        /// Not before, as the server asked.
        retry_after: Option<Duration>,
    },
    /// The endpoint said no.
    Refused {
        /// Its words and what they mean.
        refusal: Refusal,
        /// Not before, as the server asked.
        retry_after: Option<Duration>,
    },
}

impl Problem {
    pub(super) fn unavailable(fault: Fault, said: impl Into<String>) -> Self {
        Self::Unavailable { fault, said: said.into(), retry_after: None }
    }

    pub(super) fn refused(error: &str, description: &str) -> Self {
        Self::Refused { refusal: Refusal::new(error, None, description), retry_after: None }
    }

    /// Without what we sent, should the endpoint quote it.
    pub(super) fn without(self, secret: &str) -> Self {
        if secret.is_empty() || !self.raw().contains(secret) {
            return self;
        }
        match self {
            Self::Unavailable { fault, said, retry_after } => {
                Self::Unavailable { fault, said: said.replace(secret, WITHHELD), retry_after }
            }
            Self::Refused { refusal, retry_after } => Self::Refused {
                refusal: Refusal::new(
                    &refusal.error.replace(secret, WITHHELD),
                    refusal.number,
                    &refusal.description.replace(secret, WITHHELD),
                ),
                retry_after,
            },
        }
    }

    /// What the server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Refused { retry_after, .. } => *retry_after,
        }
    }

    /// Who can end it.
    pub fn class(&self) -> Class {
        match self {
            Self::Unavailable { fault: Fault::Certificate, .. } => Class::AppConfiguration,
            Self::Unavailable { .. } => Class::Retry,
            Self::Refused { refusal, .. } => refusal.class(),
        }
    }

    /// Whether it stays until a person does something.
    pub fn needs_a_person(&self) -> bool {
        !matches!(self.class(), Class::Retry | Class::SlowDown | Class::KeepPolling)
    }

    /// The words as they came. Peer text.
    pub fn raw(&self) -> String {
        match self {
            Self::Unavailable { said, .. } => said.clone(),
            Self::Refused { refusal, .. } => refusal.raw(),
        }
    }
}

impl fmt::Display for Problem {
    /// One escaped line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(self.raw().as_bytes()))
    }
}

#[derive(Deserialize)]
struct RawToken {
    access_token: SecretString,
    token_type: String,
    expires_in: Seconds,
    refresh_token: Option<SecretString>,
}

/// The older endpoint puts numbers in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    pub(super) fn get(&self) -> Option<Duration> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(t) => t.parse().ok(),
        }
        .map(Duration::from_secs)
    }
}

#[derive(Deserialize)]
struct RawError {
    error: String,
    #[serde(default)]
    error_description: String,
    #[serde(default)]
    error_codes: Vec<u32>,
}

/// Reads the answer to a token request.
///
/// # Errors
/// With the reason there is no token in it.
pub fn token(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Result<Granted, Problem> {
    if status != 200 {
        return Err(problem(status, retry_after, body));
    }
    let garbage =
        |what: &str| Problem::unavailable(Fault::Garbage, format!("the token endpoint's answer {what}"));
    let raw: RawToken = serde_json::from_slice(body).map_err(|_| garbage("is not a token"))?;
    if !raw.token_type.eq_ignore_ascii_case("bearer") {
        return Err(garbage("is not a bearer token"));
    }
    // A token goes into `auth=Bearer <token>^A^A`: a control in it would end the field (RFC 7628 section
    // 3.1).
    let token = raw.access_token.expose_secret();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(garbage("holds a token with characters that do not belong there"));
    }
    let lifetime = raw.expires_in.get().filter(|l| !l.is_zero()).ok_or_else(|| garbage("has no lifetime"))?;
    let refresh = raw.refresh_token.filter(|r| !r.expose_secret().is_empty());
    Ok(Granted { access: raw.access_token, lifetime: lifetime.min(MAX_LIFETIME), refresh })
}

/// Reads an answer that is no success, of the token and of the device endpoint.
pub(super) fn problem(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Problem {
    if (300..400).contains(&status) {
        return Problem::unavailable(
            Fault::Garbage,
            format!("the token endpoint answered {status}, a redirect, which is not followed"),
        );
    }
    let busy = status == 429 || status >= 500;
    let Ok(raw) = serde_json::from_slice::<RawError>(body) else {
        let fault = if busy { Fault::Busy } else { Fault::Garbage };
        let said = format!("the token endpoint answered {status}");
        return Problem::Unavailable { fault, said, retry_after };
    };
    let cut = |s: &str| s.chars().take(MAX_DESCRIPTION_CHARS).collect::<String>();
    let number = raw.error_codes.first().copied().or_else(|| aadsts(&raw.error_description));
    let refusal = Refusal::new(&cut(&raw.error), number, cut(&raw.error_description).trim_end());
    if busy && refusal.class() != Class::SlowDown {
        let said = format!("the token endpoint answered {status}: {}", refusal.raw());
        return Problem::Unavailable { fault: Fault::Busy, said, retry_after };
    }
    Problem::Refused { refusal, retry_after }
}

/// The number in `AADSTS7000215: Invalid client secret provided.`
fn aadsts(text: &str) -> Option<u32> {
    let digits = &text[text.find("AADSTS")? + 6..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds or a date, at most an hour.
pub fn retry_after(value: &str, now: WallTime) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = http_date(value)?;
            Duration::from_millis(u64::try_from(at.as_ms().saturating_sub(now.as_ms())).unwrap_or(0))
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// An HTTP date in the one form that is still sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(value: &str) -> Option<WallTime> {
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    Some(WallTime::from_ms(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(r: Result<Granted, Problem>) -> Fault {
        match r.unwrap_err() {
            Problem::Unavailable { fault, .. } => fault,
            p => panic!("{p:?}"),
        }
    }

    #[test]
    fn a_token_is_read_with_its_lifetime_as_number_or_text() {
        for expires in ["3599", "\"3599\""] {
            let body =
                format!(r#"{{"token_type":"Bearer","expires_in":{expires},"access_token":"eyJ0.a-_b"}}"#);
            let g = token(200, None, body.as_bytes()).unwrap();
            assert_eq!((g.access.expose_secret(), g.lifetime.as_secs()), ("eyJ0.a-_b", 3599));
            assert!(g.refresh.is_none());
        }
        let body = br#"{"token_type":"bearer","expires_in":99999999,"access_token":"a","refresh_token":"r"}"#;
        let g = token(200, None, body).unwrap();
        assert_eq!((g.lifetime, g.refresh.unwrap().expose_secret()), (MAX_LIFETIME, "r"));
    }

    #[test]
    fn an_answer_that_is_no_token_is_a_passing_fault_and_nothing_of_it_is_kept() {
        let long =
            format!(r#"{{"token_type":"Bearer","expires_in":9,"access_token":"{}"}}"#, "a".repeat(20_000));
        let cases: [&str; 12] = [
            "",
            "<html>welcome to the hotel hunter2</html>",
            "[]",
            "{\"access_token\":\"hunter2\"",
            r#"{"access_token":"hunter2"}"#,
            r#"{"token_type":"mac","expires_in":9,"access_token":"hunter2"}"#,
            r#"{"token_type":"Bearer","expires_in":0,"access_token":"hunter2"}"#,
            r#"{"token_type":"Bearer","expires_in":-1,"access_token":"hunter2"}"#,
            r#"{"token_type":"Bearer","expires_in":"soon","access_token":"hunter2"}"#,
            r#"{"token_type":"Bearer","expires_in":9,"access_token":""}"#,
            r#"{"token_type":"Bearer","expires_in":9,"access_token":"hunter2\u0001\u0001auth=x"}"#,
            &long,
        ];
        for body in cases {
            let r = token(200, None, body.as_bytes());
            assert!(!format!("{r:?}").contains("hunter2"), "{body}");
            assert_eq!(fault(r), Fault::Garbage, "{body}");
        }
    }

    #[test]
    fn an_endpoint_that_quotes_our_secret_does_not_bring_it_into_the_log() {
        for status in [401, 503] {
            let body = br#"{"error":"invalid_client","error_description":"bad secret hunter2 for app"}"#;
            let p = token(status, None, body).unwrap_err().without("hunter2");
            assert!(p.to_string().ends_with("invalid_client: bad secret [withheld] for app"), "{p}");
            assert_eq!(p.needs_a_person(), status == 401);
        }
    }

    #[test]
    fn the_status_decides_where_the_body_says_nothing() {
        let cases: [(u16, &str, Fault); 7] = [
            (302, r#"{"error":"invalid_client"}"#, Fault::Garbage),
            (404, "not here", Fault::Garbage),
            (407, "", Fault::Garbage),
            (429, "", Fault::Busy),
            (500, "<html>", Fault::Busy),
            (503, r#"{"error":"invalid_client","error_codes":[7000215]}"#, Fault::Busy),
            (429, r#"{"error":"temporarily_unavailable","error_codes":[90055]}"#, Fault::Busy),
        ];
        for (status, body, expected) in cases {
            assert_eq!(fault(token(status, None, body.as_bytes())), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_number_is_found_in_the_list_or_in_the_words() {
        for body in [
            r#"{"error":"invalid_client","error_description":"AADSTS7000222: The secret expired.\r\nTrace ID: 1","error_codes":[7000222]}"#,
            r#"{"error":"invalid_client","error_description":"AADSTS7000222: The secret expired.\r\nTrace ID: 1"}"#,
        ] {
            match token(401, None, body.as_bytes()).unwrap_err() {
                Problem::Refused { refusal, .. } => {
                    assert_eq!((refusal.number, refusal.class()), (Some(7_000_222), Class::AppConfiguration));
                }
                p => panic!("{p:?}"),
            }
        }
        assert_eq!(aadsts("AADSTS: nothing"), None);
        assert_eq!(aadsts("AADSTS99999999999999: too big"), None);
    }

    #[test]
    fn a_request_loop_is_told_even_with_429() {
        let body = br#"{"error":"invalid_request","error_codes":[50196]}"#;
        assert_eq!(token(429, None, body).unwrap_err().class(), Class::SlowDown);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_an_end() {
        let now = http_date("Mon, 23 Nov 2026 12:00:00 GMT").unwrap();
        let cases = [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Mon, 23 Nov 2026 12:01:30 GMT", Some(90)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", Some(0)),
            ("99999999", Some(3600)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
