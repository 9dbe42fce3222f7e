//! How an account gets into its smart host: a token, a new one when that is refused, or for a while yet the password.
//!
//! Invariant: the token is there before a connection is opened, so that no message and no connection waits for one;
//! a refused token is replaced once, never twice in a row; the password stands in only until its last day, and
//! every time is logged. Must not know: breakers, when it is tried again.

use super::{Connection, Login, SmartHost, resolve};
use crate::fact::Witness;
use crate::fact::submit::Fact;
use crate::mail::{AccountId, Cause, Failure, Mailbox, WallTime};
use crate::policy::verdict::{Action, Judged};
use crate::tls::Trust;
use crate::token::{AccessToken, Source};
use jiff::civil::Date;

/// An account at a smart host.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its name.
    pub account: AccountId,
    /// As whom it logs in with a token.
    pub mailbox: Mailbox,
    /// Where and how it submits.
    pub smart_host: SmartHost,
    /// Whose certificates it believes.
    pub trust: Trust,
    /// Logging in with a token; the login of `smart_host` is the fallback then.
    pub oauth: Option<OAuth>,
    /// To whom its facts are told.
    pub witness: Witness,
}

/// Logging in with a token.
#[derive(Debug, Clone)]
pub struct OAuth {
    /// Where the tokens come from.
    pub source: Source,
    /// Until the end of this day (UTC) the password may stand in when OAuth fails.
    pub fallback_until: Option<Date>,
}

impl OAuth {
    /// The next settings, with the source of before where nothing about it changed: it has a token, and perhaps a
    /// request under way. A CA file may have been mended in place.
    fn after(self, before: Option<&Self>) -> Self {
        let keeps = |old: &&Self| {
            let distrusts = old.source.trouble().is_some_and(|e| e.is_distrust());
            old.source.is_same(&self.source) && !distrusts
        };
        match before.filter(keeps) {
            Some(old) => Self { source: old.source.clone(), ..self },
            None => self,
        }
    }
}

impl Submission {
    pub(in crate::submit) fn has_login(&self) -> bool {
        self.oauth.is_some() || self.smart_host.login.is_some()
    }

    pub(in crate::submit) fn way_in(&self) -> String {
        let host = &self.smart_host;
        let user = host.login.as_ref().map_or("", Login::user);
        let app = self.oauth.as_ref().map(|o| {
            let s = o.source.settings();
            format!("{} {} {}", s.tenant, s.client_id, s.token_url())
        });
        format!("{} {:?} {user} {}", host.place(), host.tls, app.unwrap_or_default())
    }

    pub(in crate::submit) fn after(self, before: &Self) -> Self {
        Self { oauth: self.oauth.map(|o| o.after(before.oauth.as_ref())), ..self }
    }

    /// Opens a connection, logged in, to the n-th address of the smart host (modulo their number).
    ///
    /// # Errors
    /// The failure that decides what follows.
    pub async fn open(&self, nth_address: usize) -> Result<Connection, Box<Judged>> {
        let Some(oauth) = &self.oauth else {
            return self.connect(&self.smart_host, nth_address).await.map_err(|f| Box::new(Judged::early(f)));
        };
        let failure = match self.with_token(oauth, nth_address).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        let until = oauth.fallback_until.filter(|day| has_not_passed(*day, WallTime::now()));
        let Some(until) = until.filter(|_| self.smart_host.login.is_some() && a_password_may_help(&failure))
        else {
            return Err(Box::new(Judged::early(failure)));
        };
        let (account, why) = (self.account.clone(), failure.to_string());
        self.witness.tell(Fact::PasswordStandsIn { account, why, until });
        self.connect(&self.smart_host, nth_address)
            .await
            .map_err(|second| Box::new(deciding(Judged::early(failure), Judged::early(second))))
    }

    async fn with_token(&self, oauth: &OAuth, nth_address: usize) -> Result<Connection, Failure> {
        let source = &oauth.source;
        let mut replaced = false;
        loop {
            let token = source.token().await.map_err(|e| e.failure(source.settings()))?;
            let smart_host = SmartHost { login: Some(self.login(&token)), ..self.smart_host.clone() };
            let mut failure = match self.connect(&smart_host, nth_address).await {
                Ok(connection) => {
                    token.accepted();
                    self.witness.tell(Fact::TokenAccepted { account: self.account.clone() });
                    return Ok(connection);
                }
                Err(failure) => failure,
            };
            let Cause::TokenRejected { remedy, .. } = &mut failure.cause else { return Err(failure) };
            if !source.invalidate(&token) || replaced {
                *remedy = source.rejected_remedy(&token, &self.smart_host.host);
                return Err(failure);
            }
            replaced = true;
        }
    }

    fn login(&self, token: &AccessToken) -> Login {
        Login::Token { user: self.mailbox.to_string(), token: token.clone() }
    }

    async fn connect(&self, smart_host: &SmartHost, nth_address: usize) -> Result<Connection, Failure> {
        let addresses = resolve(smart_host).await?;
        let address = addresses[nth_address % addresses.len()];
        Connection::open(smart_host, &self.trust, address, &self.witness).await
    }
}

/// The whole day counts, in UTC.
fn has_not_passed(day: Date, now: WallTime) -> bool {
    let end = day.tomorrow().ok().and_then(|next| next.in_tz("UTC").ok());
    // A day beyond all calendars has no end.
    end.is_none_or(|end| now.as_ms() < end.timestamp().as_millisecond())
}

/// Whether OAuth is what failed, and not the way to the smart host.
fn a_password_may_help(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Token(_) | Cause::TokenRejected { .. } | Cause::NoAuth)
}

/// Which failure is told when the password failed, too. OAuth's, if both need a person: it is what has to work in
/// the end. But a refused password is never overruled by a passing fault of OAuth's, or it would be tried every few
/// seconds until Entra locks the account.
fn deciding(token: Judged, password: Judged) -> Judged {
    let holds = |j: &Judged| j.verdict.action == Action::Hold;
    if holds(&token) && holds(&password) { token } else { password }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{NoToken, Reply, Stage};
    use std::time::Duration;

    #[test]
    fn the_password_stands_in_to_the_end_of_its_last_day() {
        let day: Date = "2026-12-31".parse().unwrap();
        let at = |s: &str| WallTime::from_ms(s.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        assert!(has_not_passed(day, at("2026-11-23T12:00:00Z")));
        assert!(has_not_passed(day, at("2026-12-31T23:59:59Z")));
        assert!(has_not_passed("9999-12-31".parse().unwrap(), at("2026-11-23T12:00:00Z")));
        assert!(!has_not_passed(day, at("2027-01-01T00:00:00Z")));
    }

    #[test]
    fn a_refused_password_is_never_hidden_by_a_passing_fault() {
        let token = |needs_a_person| {
            let none =
                NoToken { said: "token".into(), needs_a_person, retry_in: Duration::ZERO, remedy: vec![] };
            Failure::new(Stage::Token, Cause::Token(none))
        };
        let password = |code, text| Failure::new(Stage::Auth, Cause::Reply(Reply::new(code, text)));
        let refused = || password(535, "5.7.139 the user credentials were incorrect");
        let prx4 = || password(451, "4.7.0 PRX4");
        for (first, second, told) in [
            (token(true), refused(), Stage::Token),
            (token(false), refused(), Stage::Auth),
            (token(true), prx4(), Stage::Auth),
            (token(false), prx4(), Stage::Auth),
        ] {
            let judged = |f: &Failure| Judged::early(f.clone());
            let decided = deciding(judged(&first), judged(&second));
            assert_eq!(decided.failure.stage, told, "{first}; {second}");
        }
    }
}
