//! An account that fails is left alone, then probed; and a fault that calls itself temporary is called a setting when
//! everything speaks for it.
//!
//! Invariant: while open, nothing is sent before `next_probe`, and then one probe at a time; a transient fault and
//! a refusal have delays of their own, and neither count starts over before a success: a PRX4 between two
//! refusals does not make the login be tried every few seconds (Entra locks an account after about ten).
//! Must not know: connections, messages, the queue.

use super::advice::Advice;
use super::schedule::{self, Retry};
use super::verdict::{Action, Verdict};
use crate::mail::RelayTime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So long, and with so many probes in vain, no passing fault lasts.
const LASTING: Duration = Duration::from_secs(15 * 60);
const LASTING_PROBES: u32 = 5;
/// While another mailbox works, a second look is enough.
const PROBES_BESIDE_ANOTHER: u32 = 2;
/// The upper end of a pause, where the verdict names the lower.
const PAUSE_SPREAD: u32 = 4;

/// Why it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A transient fault: `account_delays`.
    Transient,
    /// A refusal that only an admin ends: `hold_delays`.
    Hold,
    /// Asked to slow down: a short pause.
    Pause,
}

/// What an open breaker knows; kept over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Why.
    pub kind: Kind,
    /// Since the first failure of this outage.
    pub since: RelayTime,
    /// No probe before this.
    pub next_probe: RelayTime,
    /// Failures that counted as transient.
    pub transient: u32,
    /// Failures that counted as refusals.
    pub refused: u32,
    /// The latest failure in words, escaped.
    pub reason: String,
    /// What to do about it.
    #[serde(default)]
    pub advice: Option<Advice>,
    /// The same in the words of the failure itself; comes before the advice's.
    #[serde(default)]
    pub remedy: Vec<String>,
    /// The admin has been told that it lasts, or that only a person ends it.
    pub told: bool,
    /// The admin has been told that it is probably a setting.
    #[serde(default)]
    pub told_setting: bool,
}

impl Open {
    /// Whether, by its latest failure, a person is to look at a setting.
    pub fn is_probably_a_setting(&self) -> bool {
        self.kind == Kind::Transient && self.told_setting && may_be_a_setting(self.advice)
    }
}

fn may_be_a_setting(advice: Option<Advice>) -> bool {
    advice.is_some_and(Advice::may_be_a_setting)
}

/// What is known of an account beyond its outage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// It has worked before, with the settings it has now.
    pub has_worked: bool,
    /// Another account works at the same smart host at this time.
    pub another_works: bool,
}

/// What is to be said of an outage that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It lasts; a network or a service that is out of order.
    Outage,
    /// It is probably a setting, and why.
    Setting(Why),
}

/// Why a fault that calls itself temporary is taken for a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The account has never worked with these settings.
    NeverWorked,
    /// Another account works at the same smart host.
    AnotherWorks,
    /// It has lasted for longer than such a fault lasts.
    TooLong,
    /// It is one that seldom passes by itself.
    Seldom,
}

/// Closed, or open with a reason.
#[derive(Debug, Default)]
pub struct Breaker(Option<Open>);

impl Breaker {
    /// Continues where the last run stopped: a restart is no reason to knock at a closed door. A transient fault is
    /// another matter: whoever restarts a relay wants to see at once whether it has passed.
    pub fn resume(open: Option<Open>, now: RelayTime) -> Self {
        let mut breaker = Self(open);
        if breaker.0.as_ref().is_some_and(|o| o.kind == Kind::Transient) {
            breaker.probe_now(now);
        }
        breaker
    }

    /// What it knows while open.
    pub fn open(&self) -> Option<&Open> {
        self.0.as_ref()
    }

    /// Whether messages flow freely.
    pub fn is_closed(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a probe may begin.
    pub fn may_probe(&self, now: RelayTime) -> bool {
        self.0.as_ref().is_some_and(|o| now >= o.next_probe)
    }

    /// The account failed.
    pub fn fail(&mut self, verdict: &Verdict, reason: String, now: RelayTime, jitter: f64, retry: &Retry) {
        let open = self.0.get_or_insert_with(|| Open {
            kind: Kind::Transient,
            since: now,
            next_probe: now,
            transient: 0,
            refused: 0,
            reason: String::new(),
            advice: None,
            remedy: vec![],
            told: false,
            told_setting: false,
        });
        open.reason = reason;
        open.advice = verdict.advice;
        open.remedy.clone_from(&verdict.remedy);
        let wait = match verdict.action {
            Action::Hold => {
                open.kind = Kind::Hold;
                open.refused += 1;
                schedule::delay(&retry.hold_delays, open.refused, jitter)
            }
            Action::Pause => {
                open.kind = Kind::Pause;
                let least = verdict.not_before.max(Duration::from_secs(1));
                least + least.mul_f64(f64::from(PAUSE_SPREAD - 1) * jitter)
            }
            Action::Retry | Action::Bounce => {
                open.kind = Kind::Transient;
                open.transient += 1;
                schedule::delay(&retry.account_delays, open.transient, jitter)
            }
        };
        open.next_probe = now + wait.max(verdict.not_before);
    }

    /// A login and a message went through: closed. Returns what it knew.
    pub fn succeed(&mut self) -> Option<Open> {
        self.0.take()
    }

    /// The admin says it is mended: probe now. The counts of refused logins stay, so a wrong guess is not punished by a
    /// lockout; and a probe ahead of its time lengthens no wait, so who mends, reloads and tries again does not wait
    /// longer than who sits still.
    pub fn probe_now(&mut self, now: RelayTime) {
        if let Some(open) = &mut self.0 {
            if now < open.next_probe {
                open.transient = open.transient.saturating_sub(1);
            }
            open.next_probe = now;
        }
    }

    /// What is to be said now, after a failure that calls itself temporary: each once an outage. An account that
    /// worked a minute ago has an outage first, and a network or a service that cannot be reached is never called
    /// a setting.
    pub fn lasts(&mut self, verdict: &Verdict, now: RelayTime, known: Known) -> Option<Lasting> {
        let open = self.0.as_mut()?;
        let long = now.since(open.since) >= LASTING;
        let setting = if !may_be_a_setting(verdict.advice) {
            None
        } else if !known.has_worked {
            Some(Why::NeverWorked)
        } else if known.another_works && open.transient >= PROBES_BESIDE_ANOTHER {
            Some(Why::AnotherWorks)
        } else if verdict.tell_now {
            Some(Why::Seldom)
        } else {
            (long && open.transient >= LASTING_PROBES).then_some(Why::TooLong)
        };
        let said = match setting {
            Some(why) if !open.told_setting => Lasting::Setting(why),
            None if (long || verdict.tell_now) && !open.told => Lasting::Outage,
            _ => return None,
        };
        open.told = true;
        open.told_setting |= setting.is_some();
        Some(said)
    }

    /// The admin has been told by another way.
    pub fn mark_told(&mut self) {
        if let Some(o) = &mut self.0 {
            o.told = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Cause, Failure, Reply, Stage};
    use crate::policy::verdict::judge;

    fn at(s: i64) -> RelayTime {
        RelayTime::from_ms(s * 1000)
    }

    fn said(line: &str) -> Verdict {
        let (code, text) = line.split_once(' ').unwrap();
        judge(&Failure::new(Stage::Auth, Cause::Reply(Reply::new(code.parse().unwrap(), text))))
    }

    fn probes(verdicts: &[&str]) -> Vec<i64> {
        let mut b = Breaker::default();
        let mut now = at(0);
        verdicts
            .iter()
            .map(|v| {
                b.fail(&said(v), String::new(), now, 0.5, &Retry::default());
                let next = b.open().unwrap().next_probe;
                let waited = next.since(now).as_secs();
                now = next;
                i64::try_from(waited).unwrap()
            })
            .collect()
    }

    const PRX4: &str = "451 4.7.0 PRX4";
    const REFUSED: &str = "535 5.7.3 no";

    #[test]
    fn a_transient_fault_is_probed_soon_and_then_ever_more_rarely() {
        assert_eq!(probes(&[PRX4; 10]), [5, 10, 20, 40, 60, 120, 300, 600, 900, 900]);
    }

    #[test]
    fn a_refused_login_is_never_hammered_even_with_transient_faults_between() {
        assert_eq!(probes(&[REFUSED; 5]), [60, 300, 900, 1800, 1800]);
        assert_eq!(probes(&[REFUSED, PRX4, REFUSED, PRX4, REFUSED]), [60, 5, 300, 10, 900]);
    }

    #[test]
    fn who_mends_and_tries_again_does_not_wait_longer_for_it() {
        let retry = Retry::default();
        let mut b = Breaker::default();
        let mut waits = vec![];
        for second in 0..6 {
            b.fail(&said(PRX4), String::new(), at(second), 0.5, &retry);
            waits.push(b.open().unwrap().next_probe.since(at(second)).as_secs());
            // Twice, as an impatient hand does.
            b.probe_now(at(second + 1));
            b.probe_now(at(second + 1));
        }
        assert_eq!(waits, [5; 6]);
    }

    #[test]
    fn a_server_that_asks_for_time_is_not_probed_before() {
        assert_eq!(probes(&["451 4.7.500 busy"]), [300]);
    }

    #[test]
    fn a_restart_probes_a_transient_fault_at_once_and_a_refusal_when_its_time_has_come() {
        for (said_before, at_once) in [(PRX4, true), (REFUSED, false), ("432 4.3.2 too many", false)] {
            let mut b = Breaker::default();
            b.fail(&said(said_before), String::new(), at(0), 0.5, &Retry::default());
            assert_eq!(Breaker::resume(b.open().cloned(), at(1)).may_probe(at(1)), at_once, "{said_before}");
        }
    }

    #[test]
    fn a_success_closes_and_the_next_outage_starts_anew() {
        let mut b = Breaker::default();
        b.fail(&said(PRX4), "x".into(), at(0), 0.5, &Retry::default());
        assert!(!b.may_probe(at(4)) && b.may_probe(at(5)));
        assert_eq!(b.succeed().unwrap().reason, "x");
        assert!(b.is_closed());
        b.fail(&said(PRX4), "y".into(), at(100), 0.5, &Retry::default());
        assert_eq!(b.open().unwrap().next_probe, at(105));
    }

    /// What is said after each of these failures, each so many seconds after the start.
    fn said_of(failures: &[(i64, Failure)], known: Known) -> Vec<(i64, Lasting)> {
        let mut b = Breaker::default();
        let mut told = vec![];
        for (s, failure) in failures {
            let verdict = judge(failure);
            b.fail(&verdict, String::new(), at(*s), 0.5, &Retry::default());
            told.extend(b.lasts(&verdict, at(*s), known).map(|l| (*s, l)));
        }
        told
    }

    #[test]
    fn a_fault_that_calls_itself_temporary_is_called_a_setting_when_everything_speaks_for_it() {
        let (new, worked) = (Known::default(), Known { has_worked: true, another_works: false });
        let beside = Known { another_works: true, ..worked };
        let reply = |line: &str| {
            let (code, text) = line.split_once(' ').unwrap();
            Failure::new(Stage::Auth, Cause::Reply(Reply::new(code.parse().unwrap(), text)))
        };
        let (prx4, busy) = (reply(PRX4), reply("451 4.7.500 Server busy"));
        let unreachable = Failure::new(Stage::Connect, Cause::Network("refused".into()));
        let handshake = Failure::new(Stage::Tls, Cause::Handshake { said: "alert".into(), lasts: false });
        let no_token = Failure::new(
            Stage::Token,
            Cause::Token(crate::mail::NoToken {
                said: "cannot be reached".into(),
                needs_a_person: false,
                retry_in: Duration::ZERO,
                remedy: vec![],
            }),
        );
        let logon = reply("430 4.2.0 STOREDRV; mailbox logon failure");
        // At the times of the shipped delays, without jitter, and beyond.
        let probes = [0, 5, 15, 35, 75, 135, 255, 555, 1155, 2055];
        let all = |f: &Failure| probes.map(|s| (s, f.clone())).to_vec();
        let setting = |s, why| vec![(s, Lasting::Setting(why))];
        type Row = (&'static str, Vec<(i64, Failure)>, Known, Vec<(i64, Lasting)>);
        let rows: Vec<Row> = vec![
            ("it has never worked", all(&prx4), new, setting(0, Why::NeverWorked)),
            ("it worked a minute ago", all(&prx4), worked, setting(1155, Why::TooLong)),
            ("another works", all(&prx4), beside, setting(5, Why::AnotherWorks)),
            (
                "long, and few probes",
                vec![(0, prx4.clone()), (900, prx4.clone()), (1800, prx4.clone())],
                worked,
                vec![(900, Lasting::Outage)],
            ),
            ("it seldom passes", all(&logon), worked, setting(0, Why::Seldom)),
            ("unreachable, never worked", all(&unreachable), new, vec![(1155, Lasting::Outage)]),
            ("unreachable", all(&unreachable), beside, vec![(1155, Lasting::Outage)]),
            ("busy", all(&busy), new, vec![(1155, Lasting::Outage)]),
            ("no token, never worked", all(&no_token), new, vec![(1155, Lasting::Outage)]),
            ("no token", all(&no_token), beside, vec![(1155, Lasting::Outage)]),
            ("no handshake", all(&handshake), worked, setting(1155, Why::TooLong)),
            (
                "unreachable, then a PRX4 that stays",
                [&all(&unreachable)[..9], &[(1200, prx4.clone())]].concat(),
                worked,
                vec![(1155, Lasting::Outage), (1200, Lasting::Setting(Why::TooLong))],
            ),
        ];
        for (name, failures, known, said) in rows {
            assert_eq!(said_of(&failures, known), said, "{name}");
        }
    }

    #[test]
    fn a_setting_is_not_blamed_for_what_came_after_it() {
        let mut b = Breaker::default();
        let unreachable = judge(&Failure::new(Stage::Connect, Cause::Timeout));
        for (verdict, setting) in [(&said(PRX4), true), (&unreachable, false), (&said(PRX4), true)] {
            b.fail(verdict, String::new(), at(0), 0.5, &Retry::default());
            b.lasts(verdict, at(0), Known::default());
            assert_eq!(b.open().unwrap().is_probably_a_setting(), setting);
        }
    }
}
