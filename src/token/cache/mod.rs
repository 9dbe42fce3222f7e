//! Which token to use now, and whether to ask for another.
//!
//! Invariant: at most one request is under way; no request before the endpoint's or our own pause is over; a
//! token is never used after its end. `now` and jitter are arguments. Must not know: how a token is asked
//! for.
//!
//! A token's life: first it is simply used; then (`margin` before its end) it is used while another is
//! fetched; shortly before its end (`skew`) callers wait for the new one, unless the endpoint is failing:
//! then the old one is used to its end.

use super::Settings;
use super::refusal::Class;
use super::response::{Fault, Granted, Problem};
use crate::mail::{Cause, Failure, NoToken, RelayTime, Stage};
use crate::policy::schedule::{self, Retry};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SKEW: Duration = Duration::from_secs(5 * 60);
/// 50196: Microsoft blocks a looping client for minutes and longer.
const LOOP_DELAYS: [Duration; 3] = seconds([300, 900, 1800]);
/// Refusals that only a person ends; asking costs nobody a lockout, but it is noise in their sign-in log.
const REFUSED_DELAYS: [Duration; 4] = seconds([60, 300, 900, 1800]);
/// Waiting for a person to sign in: asks our own store only, since a refresh token refused once is not sent
/// again.
const SIGN_IN_DELAYS: [Duration; 1] = seconds([60]);

const fn seconds<const N: usize>(list: [u64; N]) -> [Duration; N] {
    let mut out = [Duration::ZERO; N];
    let mut i = 0;
    while i < N {
        out[i] = Duration::from_secs(list[i]);
        i += 1;
    }
    out
}

/// A token that may be used now. Cheap to clone; wiped with the last clone.
#[derive(Clone)]
pub struct AccessToken(Arc<Held>);

struct Held {
    secret: SecretString,
    asked_at: RelayTime,
    lifetime: Duration,
    /// Replaces a refused one and has not been accepted yet.
    replaces_refused: AtomicBool,
}

impl AccessToken {
    /// The token, for the AUTH command and nothing else.
    pub fn expose(&self) -> &str {
        self.0.secret.expose_secret()
    }

    /// The server took it: should it be refused later, that is a new story.
    pub fn accepted(&self) {
        self.0.replaces_refused.store(false, Ordering::Relaxed);
    }

    /// Its end, counted from before it was asked for.
    pub fn expires(&self) -> RelayTime {
        self.0.asked_at + self.0.lifetime
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn remaining(&self, now: RelayTime) -> Duration {
        self.expires().since(now)
    }

    fn skew(&self) -> Duration {
        SKEW.min(self.0.lifetime / 10)
    }

    fn margin(&self) -> Duration {
        self.skew() * 2
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(until {} ms)", self.expires().as_ms())
    }
}

/// Why there is no token now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no access token: {problem}")]
pub struct TokenError {
    /// What happened the last time the endpoint was asked.
    pub problem: Problem,
    /// It is not asked again before this has passed.
    pub retry_in: Duration,
}

impl TokenError {
    /// As a failure of the stage `Token`.
    pub fn failure(&self, settings: &Settings) -> Failure {
        let none = NoToken {
            said: self.problem.raw(),
            needs_a_person: self.needs_a_person(),
            retry_in: self.retry_in,
            remedy: self.remedy(settings),
        };
        Failure::new(Stage::Token, Cause::Token(none))
    }

    /// Whether it stays until a person does something: the account is to be held, not merely tried again.
    pub fn needs_a_person(&self) -> bool {
        self.problem.needs_a_person()
    }

    /// Whether the endpoint's certificate is what stands in the way.
    pub fn is_distrust(&self) -> bool {
        matches!(self.problem, Problem::Unavailable { fault: Fault::Certificate, .. })
    }

    /// What it means, in one line.
    pub fn meaning(&self, settings: &Settings) -> String {
        match &self.problem {
            Problem::Refused { refusal, .. } => refusal.meaning(settings),
            Problem::Unavailable { fault, .. } => match fault {
                Fault::Network => "the token endpoint cannot be reached".into(),
                Fault::Timeout => "the token endpoint does not answer in time".into(),
                Fault::Certificate => {
                    "the token endpoint's certificate cannot be verified; nothing was sent".into()
                }
                Fault::Garbage => "something that is no token endpoint answers in its place".into(),
                Fault::Busy => "the token endpoint has a passing fault or wants fewer requests".into(),
                Fault::Store => "the stored sign-in cannot be read or written".into(),
            },
        }
    }

    /// What to do, each a line that can be carried out.
    pub fn remedy(&self, settings: &Settings) -> Vec<String> {
        let url = settings.token_url();
        match &self.problem {
            Problem::Refused { refusal, .. } => refusal.remedy(settings),
            Problem::Unavailable { fault, .. } => match fault {
                Fault::Network | Fault::Timeout => vec![
                    format!("can this host reach it? curl -sS -o /dev/null -w '%{{http_code}}\\n' {url}"),
                    "check dns, route and firewall (port 443 out; a proxy goes into [network] https_proxy)".into(),
                ],
                Fault::Certificate => vec![
                    format!("a firewall that inspects tls must leave {url} alone"),
                    "or name its certificate authority in ca_file".into(),
                    "check this host's date and time: timedatectl status".into(),
                ],
                Fault::Garbage => vec![
                    format!("look at what answers: curl -sS -D - -o /dev/null {url}"),
                    "a proxy or a captive portal must let this host through".into(),
                ],
                Fault::Busy => vec![
                    "nothing: mailferry tries again by itself; https://status.cloud.microsoft tells of known outages"
                        .into(),
                ],
                Fault::Store => vec![
                    "check free space, owner and mode (0700) of the queue directory".into(),
                    format!("if the file is lost: mailferry account login {}", settings.mailbox),
                ],
            },
        }
    }
}

/// What a caller is to do.
#[derive(Debug)]
pub enum Ask {
    /// Use it.
    Use(AccessToken),
    /// Use it, and begin a request that nobody waits for.
    UseAndFetch(AccessToken),
    /// Begin a request and wait for it.
    Fetch,
    /// Wait for the request under way.
    Wait,
    /// There is none.
    Refuse(TokenError),
}

/// One account's token.
#[derive(Debug)]
pub struct Cache {
    token: Option<AccessToken>,
    fetching: bool,
    /// The latest token was refused: the next one replaces it.
    replacing: bool,
    trouble: Option<Trouble>,
    /// After passing faults: the breaker's, so that each of its probes is a request and each request a probe.
    delays: Vec<Duration>,
}

impl Default for Cache {
    fn default() -> Self {
        let delays = Retry::default().account_delays;
        Self { token: None, fetching: false, replacing: false, trouble: None, delays }
    }
}

/// The endpoint is failing.
#[derive(Debug)]
struct Trouble {
    problem: Problem,
    not_before: RelayTime,
    class: Class,
    in_a_row: u32,
}

impl Cache {
    /// A caller wants a token. After `Fetch` and `UseAndFetch` a request is under way: `fetched` or `failed`
    /// must follow.
    pub fn ask(&mut self, now: RelayTime) -> Ask {
        let rested = self.trouble.as_ref().is_none_or(|t| now >= t.not_before);
        if let Some(token) = self.usable(now) {
            let left = token.remaining(now);
            if left > token.skew() || self.trouble.is_some() {
                if left > token.margin() || self.fetching || !rested {
                    return Ask::Use(token);
                }
                self.fetching = true;
                return Ask::UseAndFetch(token);
            }
        }
        if self.fetching {
            return Ask::Wait;
        }
        match &self.trouble {
            Some(t) if !rested => Ask::Refuse(t.error(now)),
            _ => {
                self.fetching = true;
                Ask::Fetch
            }
        }
    }

    /// The token while it lives, whatever the endpoint is doing.
    pub fn usable(&self, now: RelayTime) -> Option<AccessToken> {
        self.token.clone().filter(|t| !t.remaining(now).is_zero())
    }

    /// The request begun at `asked_at` brought one.
    pub fn fetched(&mut self, granted: Granted, asked_at: RelayTime) -> AccessToken {
        let token = AccessToken(Arc::new(Held {
            secret: granted.access,
            asked_at,
            lifetime: granted.lifetime,
            replaces_refused: AtomicBool::new(std::mem::take(&mut self.replacing)),
        }));
        self.fetching = false;
        self.trouble = None;
        self.token = Some(token.clone());
        token
    }

    /// The request failed. `jitter` is in 0.0..1.0.
    pub fn failed(&mut self, problem: Problem, now: RelayTime, jitter: f64) -> TokenError {
        let class = problem.class();
        let delays: &[Duration] = match class {
            Class::Retry | Class::KeepPolling => &self.delays,
            Class::SlowDown => &LOOP_DELAYS,
            Class::AppConfiguration | Class::Policy | Class::User => &REFUSED_DELAYS,
            Class::SignInAgain => &SIGN_IN_DELAYS,
        };
        let before = self.trouble.as_ref().filter(|t| t.class == class).map_or(0, |t| t.in_a_row);
        let in_a_row = before.saturating_add(1);
        let asked = problem.retry_after().unwrap_or_default();
        let not_before = now + schedule::delay(delays, in_a_row, jitter).max(asked);
        let trouble = Trouble { problem, not_before, class, in_a_row };
        let error = trouble.error(now);
        self.fetching = false;
        self.trouble = Some(trouble);
        error
    }

    /// The server refused this token (535). Returns whether a new one is worth a try at once: not when the
    /// refused one was itself the replacement of a refused one; then the account is to be held.
    pub fn invalidate(&mut self, refused: &AccessToken) -> bool {
        if self.token.as_ref().is_some_and(|t| t.is(refused)) {
            self.token = None;
            self.replacing = true;
        }
        !refused.0.replaces_refused.load(Ordering::Relaxed)
    }

    /// The pauses after passing faults from now on; not empty.
    pub fn set_delays(&mut self, delays: &[Duration]) {
        self.delays = delays.to_vec();
    }

    /// The admin says it is mended: the next caller asks at once.
    pub fn probe(&mut self, now: RelayTime) {
        if let Some(t) = &mut self.trouble {
            t.not_before = now;
        }
    }

    /// What the endpoint last said, while it is failing.
    pub fn trouble(&self, now: RelayTime) -> Option<TokenError> {
        self.trouble.as_ref().map(|t| t.error(now))
    }
}

impl Trouble {
    fn error(&self, now: RelayTime) -> TokenError {
        TokenError { problem: self.problem.clone(), retry_in: self.not_before.since(now) }
    }
}

#[cfg(test)]
mod tests;
