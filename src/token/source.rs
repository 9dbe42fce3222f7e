//! The token of one account, for everybody who logs in with it.
//!
//! Invariant: a request, once begun, is carried to its end whoever stops waiting for it: a refresh token that
//! the endpoint has replaced must reach the disk. It reaches the disk before the access token that came with
//! it is used. Must not know: SMTP, when an account may be probed.

use super::cache::{AccessToken, Ask, Cache, TokenError};
use super::claims::Claims;
use super::endpoint::Endpoint;
use super::refusal::{Class, NOT_SIGNED_IN};
use super::response::{self, Fault, Granted, Problem};
use super::settings::https;
use super::{Assertion, Grant, RefreshStore, Settings, SettingsError, form};
use crate::fact::{Witness, token::Fact};
use crate::http::Limits;
use crate::mail::{AccountId, RelayTime, WallTime};
use crate::policy::expiry::Expiry;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The result of the request under way, once it is there.
type Outcome = watch::Receiver<Option<Result<AccessToken, TokenError>>>;

/// Gives access tokens. Cheap to clone; all clones share one token.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    settings: Settings,
    account: AccountId,
    expiry: Option<Expiry>,
    url: hyper::Uri,
    endpoint: Endpoint,
    key: Key,
    now: Box<dyn Fn() -> RelayTime + Send + Sync>,
    witness: Witness,
    state: Mutex<State>,
}

/// A `Grant`, ready to use.
enum Key {
    Secret(SecretString),
    Certificate(Assertion),
    Refresh(RefreshStore, Mutex<Kept>),
}

/// What is known about the refresh token beyond the disk.
#[derive(Default)]
struct Kept {
    /// Came, but could not be written yet. The endpoint may know only this one by now.
    unsaved: Option<SecretString>,
    /// Was refused; it is not sent again, so that waiting for a person costs no requests.
    refused: Option<(SecretString, Problem)>,
}

#[derive(Default)]
struct State {
    cache: Cache,
    under_way: Option<Outcome>,
    clock_ahead_ms: Option<i64>,
}

impl Source {
    /// Reads certificate, key and CA file; asks nobody. `now` is the relay's clock.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn new(
        settings: Settings,
        limits: Limits,
        now: impl Fn() -> RelayTime + Send + Sync + 'static,
        witness: Witness,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let key = match &settings.grant {
            Grant::Secret(secret) => Key::Secret(secret.clone()),
            Grant::Certificate { certificate, key } => Key::Certificate(Assertion::new(certificate, key)?),
            Grant::DeviceCode { store } => {
                Key::Refresh(RefreshStore::new(store, &settings.mailbox), Mutex::default())
            }
        };
        Ok(Self(Arc::new(Inner {
            account: AccountId::new(settings.mailbox.to_string().to_lowercase()),
            expiry: settings.expiry()?,
            url: https("token_url", &settings.token_url())?,
            endpoint: Endpoint::new(settings.ca_file.as_deref(), settings.proxy.clone(), limits)?,
            key,
            settings,
            now: Box::new(now),
            witness,
            state: Mutex::default(),
        })))
    }

    /// A token to log in with now. Mostly there already; otherwise waits for the one request under way, at
    /// most `Limits::whole`.
    ///
    /// # Errors
    /// When there is none and the endpoint gives none, or is not to be asked yet.
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        let now = (self.0.now)();
        let (request, at_once, mut outcome) = {
            let mut state = self.0.lock();
            match state.cache.ask(now) {
                Ask::Use(token) => return Ok(token),
                Ask::Refuse(error) => return Err(error),
                Ask::Wait => {
                    (None, None, state.under_way.clone().expect("a request under way has an outcome"))
                }
                Ask::Fetch => {
                    let (request, outcome) = self.request(&mut state, now);
                    (Some(request), None, outcome)
                }
                Ask::UseAndFetch(token) => {
                    let (request, outcome) = self.request(&mut state, now);
                    (Some(request), Some(token), outcome)
                }
            }
        };
        // Not under the lock: while the runtime stops, a spawned task is dropped here and now, and tells its
        // outcome.
        if let Some(request) = request {
            request.begin();
        }
        if let Some(token) = at_once {
            return Ok(token);
        }
        let result = outcome.wait_for(Option::is_some).await.map(|r| r.clone());
        match result {
            Ok(Some(Ok(token))) => Ok(token),
            Ok(Some(Err(error))) => self.0.lock().cache.usable((self.0.now)()).ok_or(error),
            Ok(None) | Err(_) => unreachable!("a request tells its outcome even when it is dropped"),
        }
    }

    /// The server refused this token (535 to AUTH). True: a new one is worth one try at once. False: it was
    /// itself the replacement of a refused one, so the account is to be held.
    pub fn invalidate(&self, refused: &AccessToken) -> bool {
        let again = self.0.lock().cache.invalidate(refused);
        self.0.witness.tell(Fact::Rejected { account: self.0.account.clone(), again });
        again
    }

    /// What to do when this smart host goes on refusing this token; each a line.
    pub fn rejected_remedy(&self, refused: &AccessToken, smart_host: &str) -> Vec<String> {
        super::rejected::remedy(&self.0.settings, Claims::of(refused).as_ref(), smart_host)
    }

    /// The pauses after passing faults from now on; not empty.
    pub fn set_delays(&self, delays: &[Duration]) {
        self.0.lock().cache.set_delays(delays);
    }

    /// The admin says it is mended: the next caller asks at once.
    pub fn probe(&self) {
        let now = (self.0.now)();
        self.0.lock().cache.probe(now);
    }

    /// Waits for the request under way, if there is one (at most `Limits::whole`): before a stop, so that a
    /// replaced refresh token is not lost on its way.
    pub async fn finish(&self) {
        let under_way = self.0.lock().under_way.clone();
        if let Some(mut outcome) = under_way {
            // Told or dropped: it has ended either way.
            let _ = outcome.wait_for(Option::is_some).await;
        }
    }

    /// What the endpoint last said, while it is failing; also while an older token is still good.
    pub fn trouble(&self) -> Option<TokenError> {
        self.0.lock().cache.trouble((self.0.now)())
    }

    /// How far this host's clock is ahead of the endpoint's, by its latest answer. An assertion bears our
    /// time.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        self.0.lock().clock_ahead_ms
    }

    /// When the secret or certificate ends, where that is known.
    pub fn expiry(&self) -> Option<Expiry> {
        self.0.expiry
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whether it does the same as the other: made of the same settings, and of files with the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.settings.is_same(&other.0.settings) && self.0.endpoint.is_same(&other.0.endpoint)
    }

    fn request(&self, state: &mut State, asked_at: RelayTime) -> (Request, Outcome) {
        let (tell, outcome) = watch::channel(None);
        state.under_way = Some(outcome.clone());
        (Request { inner: Arc::clone(&self.0), tell, asked_at, told: false }, outcome)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.0.account)
    }
}

/// A request under way. However it ends, the cache and those who wait are told.
struct Request {
    inner: Arc<Inner>,
    tell: watch::Sender<Option<Result<AccessToken, TokenError>>>,
    asked_at: RelayTime,
    told: bool,
}

impl Request {
    /// A task of its own, so that a caller who is dropped takes nothing along.
    fn begin(mut self) {
        tokio::spawn(async move {
            let result = self.inner.fetch().await;
            self.end(result);
        });
    }

    fn end(&mut self, result: Result<Granted, Problem>) {
        self.told = true;
        let now = (self.inner.now)();
        let (account, settings) = (self.inner.account.clone(), &self.inner.settings);
        let result = {
            let mut state = self.inner.lock();
            match result {
                Ok(granted) => Ok(state.cache.fetched(granted, self.asked_at)),
                Err(problem) => Err(state.cache.failed(problem, now, fastrand::f64())),
            }
        };
        self.inner.witness.tell(match &result {
            Ok(token) => Fact::Fetched { account, good_for: token.expires().since(now) },
            Err(e) => {
                let (said, retry_in, meaning) = (e.problem.to_string(), e.retry_in, e.meaning(settings));
                if e.needs_a_person() {
                    let remedy = e.remedy(settings);
                    Fact::Refused { account, said, retry_in, meaning, remedy }
                } else {
                    Fact::Unavailable { account, said, retry_in, meaning }
                }
            }
        });
        self.tell.send_replace(Some(result));
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.told {
            self.end(Err(Problem::unavailable(
                Fault::Network,
                "the request was broken off by a stop of the relay",
            )));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Granted, Problem> {
        let (id, scope) = (self.settings.client_id.as_str(), self.settings.scope());
        let app = [("client_id", id), ("scope", scope), ("grant_type", "client_credentials")];
        match &self.key {
            Key::Secret(secret) => {
                let secret = ("client_secret", secret.expose_secret());
                self.ask(&[app[0], app[1], app[2], secret], secret.1).await
            }
            Key::Certificate(assertion) => {
                let signed =
                    assertion.sign(id, &self.settings.token_url(), unique(), WallTime::now()).map_err(
                        |e| Problem::unavailable(Fault::Store, format!("cannot sign the assertion: {e}")),
                    )?;
                let kind =
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                let assertion = ("client_assertion", signed.as_str());
                self.ask(&[app[0], app[1], app[2], kind, assertion], &signed).await
            }
            Key::Refresh(store, kept) => self.refresh(store, kept).await,
        }
    }

    async fn refresh(&self, store: &RefreshStore, kept: &Mutex<Kept>) -> Result<Granted, Problem> {
        let kept = || kept.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaved = kept().unsaved.clone();
        let current = match unsaved {
            Some(token) => {
                save(store, &token).await?;
                kept().unsaved = None;
                token
            }
            None => load(store).await?.ok_or_else(|| Problem::refused(NOT_SIGNED_IN, ""))?,
        };
        let was_refused = kept().refused.clone();
        if let Some((refused, problem)) = was_refused
            && refused.expose_secret() == current.expose_secret()
        {
            return Err(problem);
        }
        let form = [
            ("client_id", self.settings.client_id.as_str()),
            ("scope", self.settings.scope()),
            ("grant_type", "refresh_token"),
            ("refresh_token", current.expose_secret()),
        ];
        let granted = match self.ask(&form, current.expose_secret()).await {
            Err(problem) if problem.class() == Class::SignInAgain => {
                kept().refused = Some((current, problem.clone()));
                return Err(problem);
            }
            result => result?,
        };
        if let Some(new) = &granted.refresh {
            kept().unsaved = Some(new.clone());
            save(store, new).await?;
            kept().unsaved = None;
        }
        Ok(granted)
    }

    async fn ask(&self, fields: &[(&str, &str)], secret: &str) -> Result<Granted, Problem> {
        self.witness.tell(Fact::Requested { account: self.account.clone() });
        let answer = self.endpoint.post(&self.url, form::encode(fields)).await?;
        self.lock().clock_ahead_ms = answer.date.map(|d| WallTime::now().as_ms().saturating_sub(d.as_ms()));
        response::token(answer.status, answer.retry_after, &answer.body).map_err(|p| p.without(secret))
    }
}

/// Sixteen bytes that never came before.
fn unique() -> [u8; 16] {
    let mut id = [0; 16];
    // Uniqueness is all `jti` needs (RFC 7519 section 4.1.7), but the good generator is at hand.
    if aws_lc_rs::rand::fill(&mut id).is_err() {
        fastrand::fill(&mut id);
    }
    id
}

async fn load(store: &RefreshStore) -> Result<Option<SecretString>, Problem> {
    let store = store.clone();
    on_disk(store.path().display().to_string(), move || store.load()).await
}

pub(super) async fn save(store: &RefreshStore, token: &SecretString) -> Result<(), Problem> {
    let (store, token) = (store.clone(), token.clone());
    on_disk(store.path().display().to_string(), move || store.save(&token)).await
}

async fn on_disk<T: Send + 'static>(
    path: String,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let failed = |e: std::io::Error| Problem::unavailable(Fault::Store, format!("{path}: {e}"));
    tokio::task::spawn_blocking(work).await.map_err(|e| failed(e.into()))?.map_err(failed)
}
