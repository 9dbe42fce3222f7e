//! What one transaction makes of its message: pure.
//!
//! Invariant: a recipient the server took is never tried again, a recipient it has not answered for is never
//! dropped; a message ends only as delivered or as a dead letter that is kept whole.
//! Must not know: the account's breaker; whoever calls has judged the account's faults already.

use crate::mail::{Attempt, Failure, Progress, QueuedMessage, RelayTime, WallTime};
use crate::policy::advice::Advice;
use crate::policy::schedule::{self, Retry};
use crate::policy::verdict::{Action, judge};
use crate::queue::{Destination, Settlement};
use crate::submit::Outcome;
use std::time::Duration;

/// What a notice has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notify {
    /// Nobody.
    Nobody,
    /// The sender and the admin: given up.
    Failed,
    /// The sender and the admin: still waiting.
    Delayed,
}

/// A settlement with what is to be said about it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) settlement: Settlement,
    pub(crate) notify: Notify,
    pub(crate) advice: Option<Advice>,
    /// Recipients served by this transaction.
    pub(crate) served: u32,
    /// The words that decided, escaped.
    pub(crate) said: String,
}

/// The moment an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: RelayTime,
    pub(crate) wall: WallTime,
    pub(crate) jitter: f64,
    pub(crate) retry: &'a Retry,
    pub(crate) host: &'a str,
}

/// Settles a message whose transaction went through for some recipients, or failed by its own fault (`failure`).
pub(crate) fn settle(
    message: &QueuedMessage,
    outcomes: &[Outcome],
    failure: Option<&Failure>,
    at: Moment<'_>,
) -> Settled {
    let mut recipients = message.recipients.clone();
    let mut outcomes = outcomes.iter();
    let (mut served, mut again) = (0_u32, false);
    let mut not_before = Duration::ZERO;
    let mut advice = None;
    let mut deciding: Option<Failure> = failure.cloned();
    let mut last_reply = String::new();
    for recipient in recipients.iter_mut().filter(|r| r.progress == Progress::Pending) {
        let failed = match outcomes.next() {
            Some(Outcome::Taken(reply)) => {
                served += 1;
                last_reply = reply.to_string();
                recipient.progress = Progress::Delivered(reply.kept());
                continue;
            }
            Some(Outcome::Refused(failed)) => failed,
            Some(Outcome::Untried) | None => match failure {
                Some(failed) => failed,
                None => continue,
            },
        };
        let verdict = judge(failed);
        advice = advice.or(verdict.advice);
        if deciding.is_none() {
            deciding = Some(failed.clone());
        }
        if verdict.action == Action::Bounce {
            recipient.progress = Progress::Failed(failed.kept());
        } else {
            again = true;
            not_before = not_before.max(verdict.not_before);
        }
    }
    let attempts = message.attempts + u32::from(again);
    let age = at.now.since(message.queued_since);
    if again && age >= at.retry.expire_after {
        let reason = deciding.clone().expect("a recipient to be tried again has failed");
        for recipient in recipients.iter_mut().filter(|r| r.progress == Progress::Pending) {
            recipient.progress = Progress::Failed(reason.kept());
        }
    }
    let is = |p: fn(&Progress) -> bool| recipients.iter().any(|r| p(&r.progress));
    let mut notify = Notify::Nobody;
    let to = if is(|p| *p == Progress::Pending) {
        let wait = if again {
            schedule::delay(&at.retry.delays, attempts, at.jitter).max(not_before)
        } else {
            Duration::ZERO
        };
        if again && warns(message, at, wait) {
            notify = Notify::Delayed;
        }
        Destination::Queued(at.now + wait)
    } else if is(|p| matches!(p, Progress::Failed(_))) {
        notify = Notify::Failed;
        Destination::Dead
    } else {
        Destination::Delivered
    };
    let said = deciding.as_ref().map_or(last_reply, ToString::to_string);
    Settled {
        settlement: Settlement {
            attempt: Some(Attempt {
                at: at.wall,
                stage: deciding.as_ref().map_or(crate::mail::Stage::FinalDot, |f| f.stage),
                said: said.clone(),
                host: at.host.to_owned(),
            }),
            recipients,
            attempts,
            to,
            outcome_unknown: deciding.as_ref().is_some_and(Failure::outcome_is_unknown),
            notices: vec![],
            now: at.now,
        },
        notify,
        advice,
        served,
        said,
    }
}

/// Leaves the message as it is, with a record of the account's fault it met.
pub(crate) fn spared(message: &QueuedMessage, failure: &Failure, at: Moment<'_>) -> Settlement {
    Settlement {
        recipients: message.recipients.clone(),
        attempts: message.attempts,
        to: Destination::Queued(at.now),
        attempt: Some(Attempt {
            at: at.wall,
            stage: failure.stage,
            said: failure.to_string(),
            host: at.host.to_owned(),
        }),
        outcome_unknown: false,
        notices: vec![],
        now: at.now,
    }
}

/// Whether this is the attempt at which the sender is told that the message waits. No flag is stored: the age of
/// `warn_after` lies between this attempt's due time and the next one's exactly once in a message's life.
fn warns(message: &QueuedMessage, at: Moment<'_>, wait: Duration) -> bool {
    let age = |t: RelayTime| t.since(message.queued_since);
    let line = at.retry.warn_after;
    let (scheduled, now, next) = (age(message.next_attempt), age(at.now), age(at.now + wait));
    (scheduled < line && line <= now) || (now < line && line <= next)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mail::{AccountId, Cause, ClientName, QueueId, Recipient, Reply, ReversePath, Stage, State};

    pub(crate) fn message(n: i64, to: &[&str]) -> QueuedMessage {
        QueuedMessage {
            id: QueueId::from_number(n),
            account: AccountId::new("scanner@contoso.com"),
            client: ClientName::new("printers"),
            peer: None,
            reverse_path: ReversePath::Null,
            recipients: to
                .iter()
                .map(|m| Recipient { mailbox: m.parse().unwrap(), progress: Progress::Pending })
                .collect(),
            size_bytes: 1000,
            received_at: WallTime::from_ms(0),
            queued_since: RelayTime::from_ms(0),
            next_attempt: RelayTime::from_ms(0),
            attempts: 0,
            state: State::Queued,
            finished_at: None,
            last_said: String::new(),
            outcome_unknown: false,
            charset: None,
        }
    }

    pub(crate) fn refusal(stage: Stage, line: &str) -> Failure {
        let (code, text) = line.split_once(' ').unwrap();
        Failure::new(stage, Cause::Reply(Reply::new(code.parse().unwrap(), text)))
    }

    fn at(now_s: i64, retry: &Retry) -> Moment<'_> {
        Moment {
            now: RelayTime::from_ms(now_s * 1000),
            wall: WallTime::from_ms(0),
            jitter: 0.5,
            retry,
            host: "192.0.2.1:587",
        }
    }

    fn ok() -> Outcome {
        Outcome::Taken(Reply::new(250, "2.0.0 OK"))
    }

    fn refused(line: &str) -> Outcome {
        Outcome::Refused(refusal(Stage::Rcpt, line))
    }

    #[test]
    fn a_message_taken_for_everybody_is_delivered() {
        let s = settle(&message(1, &["a@b.c", "d@e.f"]), &[ok(), ok()], None, at(5, &Retry::default()));
        assert_eq!(s.settlement.to, Destination::Delivered);
        assert_eq!((s.served, s.settlement.attempts, s.notify), (2, 0, Notify::Nobody));
        assert_eq!(s.said, "250 2.0.0 OK");
    }

    #[test]
    fn one_unknown_recipient_does_not_keep_the_others_from_it() {
        let s = settle(
            &message(1, &["a@b.c", "no@b.c", "busy@b.c"]),
            &[ok(), refused("550 5.1.1 unknown"), refused("450 4.2.1 busy")],
            None,
            at(5, &Retry::default()),
        );
        assert_eq!(s.settlement.to, Destination::Queued(RelayTime::from_ms(35_000)));
        assert_eq!(s.settlement.attempts, 1);
        let left: Vec<_> = s
            .settlement
            .recipients
            .iter()
            .filter(|r| r.progress == Progress::Pending)
            .map(|r| r.mailbox.local())
            .collect();
        assert_eq!(left, ["busy"]);
    }

    #[test]
    fn recipients_left_over_by_the_server_go_in_the_next_transaction_at_once() {
        let s = settle(
            &message(1, &["a@b.c", "d@e.f"]),
            &[ok(), Outcome::Untried],
            None,
            at(5, &Retry::default()),
        );
        assert_eq!(s.settlement.to, Destination::Queued(RelayTime::from_ms(5_000)));
        assert_eq!(s.settlement.attempts, 0);
    }

    #[test]
    fn a_refused_message_becomes_a_dead_letter_and_the_admin_is_told() {
        let f = refusal(Stage::FinalDot, "554 5.2.252 SendAsDenied");
        let s = settle(&message(1, &["a@b.c"]), &[Outcome::Untried], Some(&f), at(5, &Retry::default()));
        assert_eq!(s.settlement.to, Destination::Dead);
        assert_eq!((s.notify, s.advice), (Notify::Failed, Some(Advice::SendAs)));
    }

    #[test]
    fn a_lost_answer_after_the_final_dot_is_recorded_and_retried() {
        let f = Failure::new(Stage::FinalDot, Cause::Network("connection reset".into()));
        let s = settle(&message(1, &["a@b.c"]), &[Outcome::Untried], Some(&f), at(5, &Retry::default()));
        assert!(s.settlement.outcome_unknown);
        assert!(matches!(s.settlement.to, Destination::Queued(_)));
    }

    #[test]
    fn only_a_failed_attempt_past_the_age_expires_a_message() {
        let retry = Retry::default();
        let days = |d: i64| d * 86_400;
        let f = refusal(Stage::Mail, "450 4.2.1 later");
        let m = message(1, &["a@b.c"]);
        let young = settle(&m, &[Outcome::Untried], Some(&f), at(days(5) - 1, &retry));
        assert!(matches!(young.settlement.to, Destination::Queued(_)));
        let old = settle(&m, &[Outcome::Untried], Some(&f), at(days(5), &retry));
        assert_eq!((old.settlement.to, old.notify), (Destination::Dead, Notify::Failed));
        let late_but_fine = settle(&m, &[ok()], None, at(days(9), &retry));
        assert_eq!(late_but_fine.settlement.to, Destination::Delivered);
    }

    #[test]
    fn the_sender_is_warned_exactly_once() {
        let retry = Retry::default();
        let f = refusal(Stage::Mail, "450 4.2.1 later");
        for late_by in [0, 1, 700, 20_000] {
            let mut m = message(1, &["a@b.c"]);
            let (mut now, mut warned) = (0, 0);
            while now < 30 * 3600 {
                let s = settle(&m, &[Outcome::Untried], Some(&f), at(now, &retry));
                warned += u32::from(s.notify == Notify::Delayed);
                let Destination::Queued(next) = s.settlement.to else { panic!() };
                m.attempts = s.settlement.attempts;
                m.next_attempt = next;
                now = next.as_ms() / 1000 + late_by;
            }
            assert_eq!(warned, 1, "attempts {late_by} s late");
        }
    }

    #[test]
    fn the_accounts_fault_spends_nothing() {
        let m = message(1, &["a@b.c"]);
        let s = spared(&m, &refusal(Stage::Mail, "451 4.7.0 PRX4"), at(7, &Retry::default()));
        assert_eq!((s.attempts, s.to), (0, Destination::Queued(RelayTime::from_ms(7000))));
    }
}
