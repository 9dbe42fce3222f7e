//! An account that fails is left alone, then probed.
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

/// Probes or time after which a transient fault is called persistent.
const PERSISTENT_PROBES: u32 = 5;
const PERSISTENT_AFTER: Duration = Duration::from_secs(15 * 60);
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
    /// The admin has been told that this is no passing fault.
    pub told: bool,
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
            breaker.kick(now);
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

    /// The admin says it is mended: probe now. The counts stay, so a wrong guess is not punished by a lockout.
    pub fn kick(&mut self, now: RelayTime) {
        if let Some(open) = &mut self.0 {
            open.next_probe = now;
        }
    }

    /// Whether this is the moment to say that a transient fault is no passing one; true once an outage.
    /// When another mailbox works at the same smart host, two probes are enough.
    pub fn turns_persistent(&mut self, now: RelayTime, another_works: bool) -> bool {
        let probes = if another_works { 2 } else { PERSISTENT_PROBES };
        match &mut self.0 {
            Some(o) if !o.told && (o.transient >= probes || now.since(o.since) >= PERSISTENT_AFTER) => {
                o.told = true;
                true
            }
            _ => false,
        }
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

    #[test]
    fn a_fault_is_called_persistent_once_after_five_probes_or_a_quarter_of_an_hour() {
        let mut b = Breaker::default();
        let told: Vec<bool> = (0..7)
            .map(|i| {
                b.fail(&said(PRX4), String::new(), at(i), 0.5, &Retry::default());
                b.turns_persistent(at(i), false)
            })
            .collect();
        assert_eq!(told, [false, false, false, false, true, false, false]);
        let mut b = Breaker::default();
        b.fail(&said(PRX4), String::new(), at(0), 0.5, &Retry::default());
        b.fail(&said(PRX4), String::new(), at(5), 0.5, &Retry::default());
        assert!(b.turns_persistent(at(5), true), "at once when another mailbox works");
        let mut b = Breaker::default();
        b.fail(&said(PRX4), String::new(), at(0), 0.5, &Retry::default());
        assert!(!b.turns_persistent(at(899), false));
        assert!(b.turns_persistent(at(900), false));
    }
}
