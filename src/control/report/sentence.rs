//! The relay in one line, what only a human can put right, and how bad it is.
//!
//! Invariant: all is well only while nobody is needed and no incident is open that is worse than information; the worst
//! is spoken of, and nothing is said twice. What is live wins over the incident that tells the same. Must not know:
//! where any of it comes from.

use super::{AccountState, AccountStatus, Ending, IncidentStatus, QueueStatus, Status, count};
use crate::control::{AccountLive, ClientLive};
use crate::mail::without_tag;
use crate::policy::incident::{Kind, Severity};
use serde::{Deserialize, Serialize};

/// Something only a human can put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What is wrong, one line.
    pub what: String,
    /// What to do, one line.
    pub hint: String,
    /// The account that cannot send, where it is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The kind of the incident that tells the same, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
}

impl Need {
    /// Whether it says what the incident says. Who may see little does not see what an incident is about.
    pub fn tells(&self, incident: &IncidentStatus) -> bool {
        let is_of_an_account = |kind| matches!(kind, Kind::AccountHeld | Kind::AccountWaiting);
        let is_same = match self.kind {
            Some(kind) if is_of_an_account(kind) => {
                is_of_an_account(incident.kind)
                    && (incident.subject.is_empty() || self.account.as_ref() == Some(&incident.subject))
            }
            Some(kind @ (Kind::CredentialEnds | Kind::DeviceSilent | Kind::ConfigurationNotTaken)) => {
                kind == incident.kind
            }
            _ => false,
        };
        is_same || (self.kind == Some(incident.kind) && self.what == incident.what)
    }

    fn severity(&self, incidents: &[IncidentStatus]) -> Severity {
        let own = match self.kind {
            Some(Kind::CredentialEnds | Kind::DeviceSilent | Kind::MessagesGivenUp) => Severity::Warning,
            _ => Severity::NeedsYou,
        };
        incidents.iter().filter(|i| self.tells(i)).map(|i| i.severity).fold(own, Severity::min)
    }
}

/// Damage is over once it was mended, and what it left is not: nobody else looks into these places.
pub fn to_look_at(left_behind: &[String]) -> Vec<Need> {
    let need = |place: &String| Need {
        what: format!("mail that was damaged or that nobody claims is in {place}"),
        hint: format!(
            "check the disk's health; see journalctl -u mailferry -g queue_ for what it is; look into {place}, then remove what is in it"
        ),
        account: None,
        kind: None,
    };
    left_behind.iter().map(need).collect()
}

/// Dead letters of which no open incident says why: those that just died, or were marked as seen.
pub fn given_up(queue: &QueueStatus, incidents: &[IncidentStatus]) -> u64 {
    let known = incidents.iter().filter(|i| i.kind == Kind::MessagesGivenUp).map(|i| i.count).sum();
    queue.dead.saturating_sub(known)
}

/// What only a human can put right, most urgent first. `given_up`: dead letters of which nothing else is said.
pub fn needs(
    accounts: &[AccountLive],
    clients: &[ClientLive],
    given_up: u64,
    stranded: Vec<Need>,
    ending: Option<Ending>,
) -> Vec<Need> {
    let mut needs = vec![];
    for a in accounts.iter().filter(|a| a.state == AccountState::Held) {
        needs.push(Need {
            what: format!("{} cannot send: {}", a.account, without_tag(&a.reason)),
            hint: a.hint.clone().unwrap_or_else(|| "see the log".to_owned()),
            account: Some(a.account.to_string()),
            kind: Some(Kind::AccountHeld),
        });
    }
    for a in accounts.iter().filter(|a| a.state == AccountState::BackingOff) {
        if let Some(hint) = a.hint.clone() {
            let what =
                format!("{} cannot send, probably by a setting: {}", a.account, without_tag(&a.reason));
            let (account, kind) = (Some(a.account.to_string()), Some(Kind::AccountWaiting));
            needs.push(Need { what, hint, account, kind });
        }
    }
    needs.extend(stranded);
    if given_up > 0 {
        needs.push(Need {
            what: format!("{} given up", count(given_up, "message")),
            hint: "see why with: mailferry queue list --state dead".to_owned(),
            account: None,
            kind: Some(Kind::MessagesGivenUp),
        });
    }
    needs.extend(ending.map(Ending::need));
    for a in accounts.iter().filter(|a| a.state == AccountState::Paused) {
        needs.push(Need {
            what: format!("{} is paused", a.account),
            hint: format!("send again with: mailferry account resume {}", a.account),
            account: None,
            kind: None,
        });
    }
    needs.extend(accounts.iter().flat_map(|a| a.warnings.clone()));
    for c in clients.iter().filter(|c| c.is_silent) {
        let address = c.address.map_or(String::new(), |a| format!(" ({a})"));
        needs.push(Need {
            what: format!("{}{address} has been silent for long", c.name),
            hint: "see whether the device is on and its SMTP server setting is this relay".to_owned(),
            account: None,
            kind: Some(Kind::DeviceSilent),
        });
    }
    needs
}

/// The same with the incidents that need somebody and of which nothing is said yet; worst first.
pub fn with_incidents(mut needs: Vec<Need>, incidents: &[IncidentStatus]) -> Vec<Need> {
    let untold: Vec<Need> = incidents
        .iter()
        .filter(|i| i.severity == Severity::NeedsYou && !needs.iter().any(|n| n.tells(i)))
        .map(|i| Need { what: without_tag(&i.what), hint: step(i), account: account(i), kind: Some(i.kind) })
        .collect();
    needs.extend(untold);
    needs.sort_by_key(|n| n.severity(incidents));
    needs
}

fn account(incident: &IncidentStatus) -> Option<String> {
    let is_of_one = matches!(incident.kind, Kind::AccountHeld | Kind::AccountWaiting);
    Some(incident.subject.clone()).filter(|subject| is_of_one && !subject.is_empty())
}

fn step(incident: &IncidentStatus) -> String {
    incident.steps.first().cloned().unwrap_or_else(|| match incident.more.as_str() {
        "" => "mailferry status, as root or a member of group mailferry, says more".to_owned(),
        slug => format!("see: mailferry explain {slug}"),
    })
}

/// One thing that is not well.
struct Point {
    severity: Severity,
    what: String,
    step: Option<String>,
}

/// Everything worse than information, worst first.
fn points(needs: &[Need], incidents: &[IncidentStatus], accounts: &[AccountStatus]) -> Vec<Point> {
    let need = |n: &Need| Point {
        severity: n.severity(incidents),
        what: format!("needs a human: {}", n.what),
        step: Some(n.hint.clone()),
    };
    let mut points: Vec<Point> = needs.iter().map(need).collect();
    // The sandbox stands before every sentence.
    let is_new = |i: &&IncidentStatus| {
        i.severity != Severity::Information
            && i.kind != Kind::Sandbox
            && !needs.iter().any(|n| n.tells(i) || n.what == without_tag(&i.what))
    };
    for i in incidents.iter().filter(is_new) {
        let word = super::severity(i.severity);
        let what = format!("{word}: {}", without_tag(&i.what));
        points.push(Point { severity: i.severity, what, step: Some(step(i)) });
    }
    let is_told = |a: &AccountStatus| {
        needs.iter().any(|n| n.account.as_ref() == Some(&a.mailbox))
            || incidents
                .iter()
                .any(|i| i.kind == Kind::AccountWaiting && (i.subject.is_empty() || i.subject == a.mailbox))
    };
    let troubled: Vec<_> =
        accounts.iter().filter(|a| a.state == AccountState::BackingOff && !is_told(a)).collect();
    if let Some(first) = troubled.first() {
        let which =
            if troubled.len() == 1 { first.mailbox.clone() } else { format!("{} accounts", troubled.len()) };
        let what =
            format!("{which}: waiting for the smart host, nothing to do: {}", without_tag(&first.reason));
        points.push(Point { severity: Severity::Waiting, what, step: None });
    }
    points.sort_by_key(|p| p.severity);
    points
}

/// The relay in one line: all is well, what passes by itself, or what a human must do.
pub fn sentence(
    needs: &[Need],
    incidents: &[IncidentStatus],
    accounts: &[AccountStatus],
    queue: &QueueStatus,
) -> String {
    let waiting = format!("{} waiting", count(queue.queued, "message"));
    let points = points(needs, incidents, accounts);
    let Some(worst) = points.first() else {
        let delivered: u64 = accounts.iter().map(|a| a.recipients_last_hour).sum();
        let served = count(delivered, "recipient");
        return format!("all is well: mail for {served} delivered in the last hour, {waiting}");
    };
    let more = match points.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let step = worst.step.as_ref().map_or(String::new(), |step| format!("; {step}"));
    format!("{}; {waiting}{more}{step}", worst.what)
}

/// How bad the worst of it is; a relay that does not run needs somebody.
pub fn level(status: &Status) -> Severity {
    if !status.running {
        return Severity::NeedsYou;
    }
    let sandbox = status.is_sandbox.then_some(Severity::Warning);
    let points = points(&status.needs_human, &status.incidents, &status.accounts);
    points.iter().map(|p| p.severity).chain(sandbox).min().unwrap_or(Severity::Information)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::At;
    use crate::mail::{AccountId, Place, RelayTime, State, WallTime};
    use crate::queue::Total;

    fn open(kind: Kind, severity: Severity, subject: &str, what: &str) -> IncidentStatus {
        IncidentStatus {
            id: "i1".to_owned(),
            kind,
            severity,
            subject: subject.to_owned(),
            since: At(WallTime::from_ms(5)),
            until: None,
            count: 1,
            what: what.to_owned(),
            meaning: String::new(),
            steps: vec!["first".to_owned(), "second".to_owned()],
            more: String::new(),
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn the_sentence_speaks_of_the_worst_incident_and_says_each_thing_once() {
        use AccountState::{BackingOff, Held, Open};
        let full = open(Kind::QueueRefuses, Severity::NeedsYou, "queue", "the queue takes no mail: 452");
        let typo =
            open(Kind::MessagesGivenUp, Severity::Information, "a no-such", "1 message given up for a");
        let late = open(Kind::MessagesLate, Severity::Warning, "queue", "the oldest waits for 2h");
        let wait = open(Kind::AccountWaiting, Severity::Waiting, "scanner@contoso.com", "it waits");
        let held = open(Kind::AccountHeld, Severity::NeedsYou, "scanner@contoso.com", "it cannot send: 535");
        let sandbox = open(Kind::Sandbox, Severity::Warning, "sandbox", "SANDBOX");
        let unseen = IncidentStatus { subject: String::new(), ..held.clone() };
        let well = "all is well: mail for 0 recipients delivered in the last hour, 0 messages waiting";
        for (state, dead, incidents, worst, said) in [
            (Open, 0, vec![], Severity::Information, well),
            (Open, 1, vec![typo.clone()], Severity::Information, well),
            (Open, 0, vec![sandbox], Severity::Information, well),
            (
                Open,
                0,
                vec![full.clone()],
                Severity::NeedsYou,
                "needs a human: the queue takes no mail: 452; 0 messages waiting; first",
            ),
            (
                Open,
                0,
                vec![late.clone()],
                Severity::Warning,
                "warning: the oldest waits for 2h; 0 messages waiting; first",
            ),
            (
                BackingOff,
                1,
                vec![wait, late.clone(), typo.clone()],
                Severity::Waiting,
                "waiting: it waits; 0 messages waiting (and 1 more); first",
            ),
            (
                BackingOff,
                1,
                vec![typo],
                Severity::Waiting,
                "scanner@contoso.com: waiting for the smart host, nothing to do: 535; 0 messages waiting",
            ),
            (
                BackingOff,
                1,
                vec![],
                Severity::Waiting,
                "scanner@contoso.com: waiting for the smart host, nothing to do: 535; 0 messages waiting (and 1 more)",
            ),
            (
                Held,
                0,
                vec![held, full, late],
                Severity::NeedsYou,
                "needs a human: scanner@contoso.com cannot send: 535; 0 messages waiting (and 2 more); see the log",
            ),
            (
                Held,
                0,
                vec![unseen],
                Severity::NeedsYou,
                "needs a human: scanner@contoso.com cannot send: 535; 0 messages waiting; see the log",
            ),
        ] {
            let queue = QueueStatus { dead, ..QueueStatus::default() };
            let live = live(state, "535", None);
            let given_up = given_up(&queue, &incidents);
            let needs = needs(std::slice::from_ref(&live), &[], given_up, vec![], None);
            let needs = with_incidents(needs, &incidents);
            let accounts = [AccountStatus::of(live, &[], &[], RelayTime::from_ms(0))];
            assert_eq!(sentence(&needs, &incidents, &accounts, &queue), said);
            let points = points(&needs, &incidents, &accounts);
            assert_eq!(points.first().map_or(Severity::Information, |p| p.severity), worst, "{said}");
        }
    }

    fn total(state: State, messages: u64, oldest_ms: i64) -> Total {
        let account = AccountId::new("scanner@contoso.com");
        let oldest = Some(WallTime::from_ms(oldest_ms));
        Total { account, state, messages, size_bytes: messages * 10, oldest }
    }

    fn live(state: AccountState, reason: &str, hint: Option<&str>) -> AccountLive {
        AccountLive {
            account: AccountId::new("scanner@contoso.com"),
            smart_host: Place::known("smtp.office365.com", 587),
            state,
            reason: reason.to_owned(),
            hint: hint.map(str::to_owned),
            advice: None,
            warnings: vec![],
            since: None,
            next_probe_at: None,
            connections: 0,
            sent_last_minute: 0,
        }
    }

    #[test]
    fn one_sentence_says_whether_a_human_is_needed() {
        use AccountState::{BackingOff, Held, Open, Paused};
        let queued = |n| vec![total(State::Queued, n, 5)];
        for (state, reason, hint, totals, said) in [
            (
                Open,
                "",
                None,
                vec![],
                "all is well: mail for 12 recipients delivered in the last hour, 0 messages waiting",
            ),
            (
                Open,
                "",
                None,
                queued(1),
                "all is well: mail for 12 recipients delivered in the last hour, 1 message waiting",
            ),
            (
                BackingOff,
                "AUTH: 451 4.7.0 Temporary server error. PRX4",
                None,
                queued(3),
                "scanner@contoso.com: waiting for the smart host, nothing to do: AUTH: 451 4.7.0 Temporary server error. PRX4; 3 messages waiting",
            ),
            (
                BackingOff,
                "AUTH: 451 4.7.0 PRX4",
                Some("is it licensed?"),
                queued(3),
                "needs a human: scanner@contoso.com cannot send, probably by a setting: AUTH: 451 4.7.0 PRX4; 3 messages waiting; is it licensed?",
            ),
            (
                Held,
                "AUTH: 535 5.7.3 Authentication unsuccessful",
                Some("set the password again"),
                queued(3),
                "needs a human: scanner@contoso.com cannot send: AUTH: 535 5.7.3 Authentication unsuccessful; 3 messages waiting; set the password again",
            ),
            (
                Held,
                "x",
                None,
                vec![total(State::Dead, 1, 1)],
                "needs a human: scanner@contoso.com cannot send: x; 0 messages waiting (and 1 more); see the log",
            ),
            (
                Open,
                "",
                None,
                vec![total(State::Dead, 2, 1)],
                "needs a human: 2 messages given up; 0 messages waiting; see why with: mailferry queue list --state dead",
            ),
            (
                Paused,
                "",
                None,
                queued(3),
                "needs a human: scanner@contoso.com is paused; 3 messages waiting; send again with: mailferry account resume scanner@contoso.com",
            ),
        ] {
            let queue = QueueStatus::of(&totals);
            let live = live(state, reason, hint);
            let needs = needs(std::slice::from_ref(&live), &[], queue.dead, vec![], None);
            let at = RelayTime::from_ms;
            let accounts =
                [AccountStatus::of(live, &totals, &[(at(10), 9), (at(100), 5), (at(200), 7)], at(100))];
            assert_eq!(accounts[0].recipients_today, 21);
            assert_eq!(sentence(&needs, &[], &accounts, &queue), said);
        }
    }

    #[test]
    fn mail_that_nobody_sends_comes_behind_an_account_that_cannot_and_before_what_was_given_up() {
        let need = Need { what: "stranded".to_owned(), hint: String::new(), account: None, kind: None };
        let queue = QueueStatus::of(&[total(State::Dead, 1, 1)]);
        let needs = needs(&[live(AccountState::Held, "x", None)], &[], queue.dead, vec![need], None);
        let whats: Vec<&str> = needs.iter().map(|n| n.what.as_str()).collect();
        assert_eq!(whats, ["scanner@contoso.com cannot send: x", "stranded", "1 message given up"]);
    }
}
