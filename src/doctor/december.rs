//! What becomes of each account when Exchange Online no longer takes passwords: at the end of December 2026 for
//! tenants that do not turn basic authentication on again.
//!
//! Invariant: no password is sent; an account counts as safe only when it logged in by token a moment ago, or needs no
//! password there. Must not know: how anything is shown.

use super::report::{Patient, Report, Status, Step};
use super::{LoginKind, Order, smart_host};
use crate::config::{Account, Settings};
use crate::control::report::count;
use crate::policy::advice::Advice;
use jiff::civil::{Date, date};

const STEP: &str = "without passwords";
/// The last day of basic authentication that nobody has to turn on.
const LAST_DAY: Date = date(2026, 12, 31);

/// What a smart host does about passwords in December.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passwords {
    /// Exchange Online: off.
    End,
    /// High Volume Email: promised to September 2028.
    UntilSeptember2028,
    /// Somebody else's server.
    Stay,
}

impl Passwords {
    /// What is known of a smart host by its name.
    pub fn at(host: &str) -> Self {
        let host = host.to_ascii_lowercase();
        if host == "smtp.hve.mx.microsoft" || host == "smtp-hve.office365.com" {
            return Self::UntilSeptember2028;
        }
        let ends = [".office365.com", ".office365.us", ".outlook.cn", ".outlook.com"];
        if ends.iter().any(|e| host.ends_with(e)) { Self::End } else { Self::Stay }
    }
}

/// Tries it for each account; `passwords` is `Passwords::at` unless a test knows better.
pub async fn rehearse(
    settings: &Settings,
    order: &Order,
    login: impl Fn(&Account) -> LoginKind,
    passwords: impl Fn(&str) -> Passwords,
    report: &mut Report,
) {
    // It sends nothing: what is asked is who gets in.
    let looking = Order { account: None, send_to: None };
    let (mut all, mut left) = (0, vec![]);
    let wanted = |a: &&Account| order.account.as_ref().is_none_or(|wanted| a.id == *wanted);
    for account in settings.accounts.iter().filter(wanted) {
        let (login, end) = (login(account), passwords(&account.smart_host.host));
        let before = report.steps().len();
        all += 1;
        let step = if matches!(login, LoginKind::Token(_)) {
            smart_host::examine(settings, account, login, &looking, report).await;
            let signed_in = report.steps()[before..].iter().any(smart_host::is_signed_in);
            with_token(account, signed_in)
        } else {
            report.begin_account(&account.sender.mailbox.to_string(), &account.smart_host.place());
            without_token(account, matches!(login, LoginKind::Password), end)
        };
        if step.status == Status::Failed {
            left.push(account.id.to_string());
        }
        report.push(step);
    }
    report.end_account();
    let safe = all - u64::try_from(left.len()).unwrap_or(all);
    let said = format!("{safe} of {} would go on sending", count(all, "account"));
    report.push(if left.is_empty() {
        Step::ok("who is left", said)
    } else {
        let finding = Patient::default().finding(Advice::BasicAuthDisabled);
        Step::failed("who is left", format!("{said}; left behind: {}", left.join(", ")), finding).with_remedy(
            vec![
                "give each of them [account.oauth], see docs/microsoft-365.md, and rehearse again".to_owned(),
            ],
        )
    });
}

fn with_token(account: &Account, signed_in: bool) -> Step {
    if !signed_in {
        let said = "it has oauth, and did not get in with it just now; no password would stand in for it";
        return Step::failed(STEP, said, patient(account).finding(Advice::TokenRefused))
            .with_remedy(vec!["see the steps above, and rehearse again".to_owned()]);
    }
    let until = account.oauth.as_ref().and_then(|o| o.fallback_until);
    match until.filter(|until| *until > LAST_DAY) {
        None => Step::ok(STEP, "it logged in with oauth just now, without a password"),
        Some(until) => {
            let said = format!(
                "it logged in with oauth just now; its password stands in until {until}, and helps only until {LAST_DAY}"
            );
            Step::ok(STEP, said)
        }
    }
}

fn without_token(account: &Account, has_password: bool, end: Passwords) -> Step {
    match (has_password, end) {
        (false, _) => Step::ok(STEP, "it logs in with nothing, so this does not concern it"),
        (true, Passwords::Stay) => {
            Step::ok(STEP, "its password is for another provider's server, which this does not concern")
        }
        (true, Passwords::UntilSeptember2028) => {
            Step::ok(STEP, "High Volume Email takes passwords until September 2028")
        }
        (true, Passwords::End) => {
            let said = "it logs in with a password and has no oauth: its mail would wait here from then on";
            Step::failed(STEP, said, patient(account).finding(Advice::BasicAuthDisabled))
        }
    }
}

fn patient(account: &Account) -> Patient {
    Patient {
        mailbox: account.sender.mailbox.to_string(),
        smart_host: account.smart_host.place(),
        app: account.oauth.as_ref().map(|o| (o.token.tenant.clone(), o.token.client_id.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_end_where_exchange_online_is_meant() {
        for (host, passwords) in [
            ("smtp.office365.com", Passwords::End),
            ("SMTP.Office365.us", Passwords::End),
            ("smtp.partner.outlook.cn", Passwords::End),
            ("smtp.hve.mx.microsoft", Passwords::UntilSeptember2028),
            ("smtp-hve.office365.com", Passwords::UntilSeptember2028),
            ("smtp.gmail.com", Passwords::Stay),
            ("office365.com.contoso.com", Passwords::Stay),
        ] {
            assert_eq!(Passwords::at(host), passwords, "{host}");
        }
    }
}
