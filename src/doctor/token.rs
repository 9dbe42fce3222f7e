//! The steps of an account with OAuth: the clock, the token, the credential's end.
//!
//! Invariant: of a token only its claims are shown. Must not know: SMTP.

use super::LoginKind;
use super::report::{Finding, Patient, Report, Step};
use crate::mail::{AccountId, Escaped, WallTime};
use crate::policy::advice::{Advice, command};
use crate::policy::expiry::WARN_DAYS;
use crate::token::claims::{self, Claims, Permission};
use crate::token::response::Problem;
use crate::token::{AccessToken, Grant, Source, TokenError};

/// Microsoft allows five minutes; half of that is no accident any more.
const CLOCK_WARNING_MS: u64 = 60_000;
const CLOCK_FAILURE_MS: u64 = 300_000;
/// Exchange Online by its number, as some tokens name their audience.
const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";

/// This host's clock against the sign-in service's.
pub(super) async fn clock(logins: impl Iterator<Item = &LoginKind>, report: &mut Report) {
    let mut seen = None;
    let mut asked = false;
    for login in logins {
        let LoginKind::Token(source) = login else { continue };
        asked = true;
        // Only its date is of interest here; what became of the request is told with its account.
        let _ = source.token().await;
        seen = seen.or(source.clock_ahead_ms());
    }
    report.push(match seen {
        Some(ahead_ms) => judged(ahead_ms),
        None if asked => Step::skipped("clock", "the sign-in service gave no date to compare with"),
        None => Step::skipped(
            "clock",
            "no account uses oauth, so there is no date to compare with; see timedatectl",
        ),
    });
}

fn judged(ahead_ms: i64) -> Step {
    let off = std::time::Duration::from_secs(ahead_ms.unsigned_abs() / 1000);
    let direction = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let said =
        format!("this host's clock is {} {direction} the sign-in service's", humantime::format_duration(off));
    let finding = || Patient::default().finding(Advice::Clock);
    match ahead_ms.unsigned_abs() {
        0..=CLOCK_WARNING_MS => Step::ok("clock", said),
        ms if ms <= CLOCK_FAILURE_MS => Step::warning("clock", said, finding()),
        _ => Step::failed("clock", said, finding()),
    }
}

/// The token with the claims that matter, and when what it is asked with ends.
pub(super) async fn steps(source: &Source, patient: &Patient) -> (Vec<Step>, Option<AccessToken>) {
    let now = WallTime::now();
    let mut steps = vec![];
    if let Ok(Some(expiry)) = source.settings().expiry() {
        let said = expiry.words(&AccountId::named(&patient.mailbox), now);
        if expiry.days_left(now) <= i64::from(WARN_DAYS[0]) {
            steps.push(Step::warning("credential", said, patient.finding(Advice::CredentialEnds)));
        } else {
            steps.push(Step::ok("credential", said));
        }
    }
    match source.token().await {
        Err(error) => {
            steps.push(Step::failed("token", error.to_string(), refused(&error, source)));
            (steps, None)
        }
        Ok(token) => {
            steps.push(Claims::of(&token).map_or_else(
                || Step::ok("token", "it came; its claims cannot be read"),
                |claims| {
                    let is_delegated = matches!(source.settings().grant, Grant::DeviceCode { .. });
                    said(&claims, is_delegated, now, patient)
                },
            ));
            (steps, Some(token))
        }
    }
}

fn refused(error: &TokenError, source: &Source) -> Finding {
    let settings = source.settings();
    let slug = match &error.problem {
        Problem::Refused { refusal, .. } => refusal.slug(),
        Problem::Unavailable { .. } => Advice::TokenEndpoint.entry().slug.to_owned(),
    };
    Finding {
        see: command(&slug),
        error: slug,
        meaning: error.meaning(settings),
        blame: (if error.needs_a_person() {
            "the application's registration"
        } else {
            "the sign-in service"
        })
        .to_owned(),
        remedy: error.remedy(settings),
    }
}

fn said(claims: &Claims, is_delegated: bool, now: WallTime, patient: &Patient) -> Step {
    let text =
        |t: &Option<String>| t.as_ref().map_or("none".to_owned(), |t| Escaped(t.as_bytes()).to_string());
    let list = |l: &[String]| Escaped(l.join(" ").as_bytes()).to_string();
    let mut words = vec![format!("aud {}", text(&claims.audience))];
    if !claims.roles.is_empty() {
        words.push(format!("roles {}", list(&claims.roles)));
    }
    if !claims.scopes.is_empty() {
        words.push(format!("scp {}", list(&claims.scopes)));
    }
    words.push(format!("tid {}", text(&claims.tenant)));
    if claims.user.is_some() {
        words.push(format!("upn {}", text(&claims.user)));
    }
    if claims.object_id.is_some() {
        words.push(format!("oid {}", text(&claims.object_id)));
    }
    if let Some(end) = claims.expires {
        let left = end.as_ms().saturating_sub(now.as_ms()) / 60_000;
        words.push(format!("{left} min left"));
    }
    let words = words.join(", ");
    let for_exchange =
        claims.audience.as_ref().is_none_or(|a| a.contains("outlook") || a.starts_with(EXCHANGE));
    if !for_exchange {
        let finding = patient.finding(Advice::TokenWithoutPermission);
        let remedy = vec![
            "it is for another service: remove scope from the account's oauth, and check cloud".to_owned(),
        ];
        return Step::failed("token", words, finding).with_remedy(remedy);
    }
    match claims.permission(is_delegated, patient.smart_host.host()) {
        Permission::Granted => Step::ok("token", words),
        // AUTH, the next step, is what decides.
        Permission::LeftToExchange => {
            Step::ok("token", format!("{words}, no roles: right with rbac for applications"))
        }
        // The application may have permissions for something else, and its role in exchange beside them.
        Permission::Missing if !is_delegated && !claims::is_high_volume(patient.smart_host.host()) => {
            Step::warning("token", words, patient.finding(Advice::TokenWithoutPermission))
        }
        Permission::Missing => Step::failed("token", words, patient.finding(Advice::TokenWithoutPermission)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use crate::mail::Place;

    #[test]
    fn a_clock_that_is_off_is_told_before_it_breaks_the_sign_in() {
        for (ahead_ms, status) in [
            (0, Status::Ok),
            (-60_000, Status::Ok),
            (61_000, Status::Warning),
            (-299_000, Status::Warning),
            (720_000, Status::Failed),
            (i64::MIN, Status::Failed),
        ] {
            assert_eq!(judged(ahead_ms).status, status, "{ahead_ms}");
        }
        assert_eq!(judged(720_000).said, "this host's clock is 12m ahead of the sign-in service's");
    }

    #[test]
    fn claims_decide_whether_a_token_will_do() {
        let good = Claims {
            audience: Some("https://outlook.office365.com".into()),
            roles: vec!["SMTP.SendAsApp".into()],
            tenant: Some("t\u{1b}".into()),
            expires: Some(WallTime::from_ms(3_600_000)),
            ..Claims::default()
        };
        let step = |c: &Claims| said(c, false, WallTime::from_ms(60_000), &Patient::default());
        let ok = step(&good);
        assert_eq!(ok.status, Status::Ok);
        assert_eq!(
            ok.said,
            "aud https://outlook.office365.com, roles SMTP.SendAsApp, tid t\\u{1b}, 59 min left"
        );
        let graph = Claims { audience: Some("https://graph.microsoft.com".into()), ..good.clone() };
        assert_eq!(step(&graph).status, Status::Failed);
        let without = step(&Claims { roles: vec!["Mail.Send".into()], ..good });
        assert_eq!(
            (without.status, without.finding.unwrap().error.as_str()),
            (Status::Warning, "token-without-permission")
        );
    }

    #[test]
    fn a_token_without_roles_is_in_order_where_exchange_decides() {
        let claims = Claims { audience: Some("https://outlook.office365.com".into()), ..Claims::default() };
        let step = |smart_host: &'static str| {
            let patient = Patient { smart_host: Place::known(smart_host, 587), ..Patient::default() };
            said(&claims, false, WallTime::from_ms(0), &patient)
        };
        assert_eq!(step("smtp.office365.com").status, Status::Ok);
        assert!(step("smtp.office365.com").said.contains("rbac for applications"));
        assert_eq!(step("smtp.hve.mx.microsoft").status, Status::Failed);
    }
}
