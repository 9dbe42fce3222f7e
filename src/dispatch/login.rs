//! With what a connection logs in: a token, a new one when that is refused, or for a while yet the password.
//!
//! Invariant: the token is there before a connection is opened, so that no message and no connection waits for one;
//! a refused token is replaced once, never twice in a row; the password stands in only until its last day, and
//! every time is logged. Must not know: breakers, when it is tried again.

use super::{Account, OAuth};
use crate::events;
use crate::mail::{Cause, Failure, WallTime};
use crate::policy::verdict::{Action, judge};
use crate::submit::{self, Connection, Login, SmartHost};
use crate::token::AccessToken;
use jiff::civil::Date;

/// Opens a connection, logged in, to the n-th address of the smart host (modulo their number).
///
/// # Errors
/// The failure that decides what follows.
pub(super) async fn open(account: &Account, nth_address: usize) -> Result<Connection, Failure> {
    let Some(oauth) = &account.oauth else { return connect(account, &account.smart_host, nth_address).await };
    let failure = match with_token(account, oauth, nth_address).await {
        Ok(connection) => return Ok(connection),
        Err(failure) => failure,
    };
    let Some(until) = oauth.fallback_until.filter(|day| has_not_passed(*day, WallTime::now())) else {
        return Err(failure);
    };
    if account.smart_host.login.is_none() || !a_password_may_help(&failure) {
        return Err(failure);
    }
    events::dispatch::password_stands_in(&account.id, &failure.to_string(), &until.to_string());
    connect(account, &account.smart_host, nth_address).await.map_err(|second| deciding(failure, second))
}

async fn with_token(account: &Account, oauth: &OAuth, nth_address: usize) -> Result<Connection, Failure> {
    let source = &oauth.source;
    let mut replaced = false;
    loop {
        let token = source.token().await.map_err(|e| e.failure(source.settings()))?;
        let smart_host = SmartHost { login: Some(login(account, &token)), ..account.smart_host.clone() };
        let mut failure = match connect(account, &smart_host, nth_address).await {
            Ok(connection) => {
                token.accepted();
                return Ok(connection);
            }
            Err(failure) => failure,
        };
        let Cause::TokenRejected { remedy, .. } = &mut failure.cause else { return Err(failure) };
        if !source.invalidate(&token) || replaced {
            *remedy = source.rejected_remedy(&token, &account.smart_host.host);
            return Err(failure);
        }
        replaced = true;
    }
}

fn login(account: &Account, token: &AccessToken) -> Login {
    Login::Token { user: account.sender.mailbox.to_string(), token: token.clone() }
}

async fn connect(
    account: &Account,
    smart_host: &SmartHost,
    nth_address: usize,
) -> Result<Connection, Failure> {
    let addresses = submit::resolve(smart_host).await?;
    let address = addresses[nth_address % addresses.len()];
    Connection::open(smart_host, &account.trust, address, &account.witness).await
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
fn deciding(token: Failure, password: Failure) -> Failure {
    let holds = |f: &Failure| judge(f).action == Action::Hold;
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
            assert_eq!(deciding(first.clone(), second.clone()).stage, told, "{first}; {second}");
        }
    }
}
