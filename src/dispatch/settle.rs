//! What one transaction makes of its message: pure.
//!
//! Invariant: a recipient the server took is never tried again, a recipient it has not answered for is never
//! dropped, and one is given up for its age only when it was put off itself, again and again; a message ends only
//! as delivered or as a dead letter that is kept whole. What a recipient went through at an earlier account or
//! before it was a dead letter counts no more: then the message has spent no attempts.
//! Must not know: the account's breaker; whoever calls has judged the account's faults already.

use crate::mail::{
    Attempt, Deferrals, Failure, Progress, QueuedMessage, Recipient, RelayTime, Reply, Stage, WallTime,
};
use crate::policy::advice::Advice;
use crate::policy::schedule::{self, Retry};
use crate::policy::verdict::{Action, Blame, Judged, Standing, judge};
use crate::queue::{Destination, Settlement};
use crate::submit::{Outcome, Sent};
use std::time::Duration;

/// What a notice has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notify {
    /// Nobody.
    Nobody,
    /// The sender and the admin: given up, because it was refused.
    Refused,
    /// The sender and the admin: given up, because it was put off for too long.
    Expired,
    /// The sender and the admin: still waiting.
    Delayed,
}

/// A settlement with what is to be said about it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) settlement: Settlement,
    pub(crate) notify: Notify,
    pub(crate) advice: Option<Advice>,
    /// The failure that decided, if there was one.
    pub(crate) failure: Option<Failure>,
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
    /// Words that may be those of a recipient's own host are that host's: the account sends to others.
    pub(crate) theirs: bool,
}

/// What one transaction said of one recipient.
#[derive(Debug)]
pub(crate) enum Answer {
    Taken(Reply),
    Refused(Judged),
    Untried,
}

/// What one transaction said, each failure with the judgement on it.
#[derive(Debug)]
pub(crate) struct Heard {
    /// One for each pending recipient, in its order.
    each: Vec<Answer>,
    /// Why the transaction as a whole failed.
    pub(crate) whole: Option<Judged>,
}

impl Heard {
    pub(crate) fn new(sent: Sent, standing: Standing) -> Self {
        let judged = |failure| Judged::new(failure, standing);
        let each = sent.outcomes.into_iter().map(|o| match o {
            Outcome::Taken(reply) => Answer::Taken(reply),
            Outcome::Refused(failure) => Answer::Refused(judged(failure)),
            Outcome::Untried => Answer::Untried,
        });
        Self { each: each.collect(), whole: sent.failure.map(judged) }
    }

    pub(crate) fn any_taken(&self) -> bool {
        self.each.iter().any(|a| matches!(a, Answer::Taken(_)))
    }

    pub(crate) fn any_refused(&self) -> bool {
        self.each.iter().any(|a| matches!(a, Answer::Refused(_)))
    }

    /// The failure that decides for the account: the transaction's, or a refused recipient's when none was taken. An
    /// account's fault that was said before the connection ended is more than its end.
    pub(crate) fn account_fault(&self) -> Option<&Judged> {
        let whole = self.whole.as_ref();
        if whole.is_some_and(|w| w.verdict.blame != Blame::Session) || self.any_taken() {
            return whole;
        }
        let of_account = self.each.iter().find_map(|a| match a {
            Answer::Refused(judged) => {
                matches!(judged.verdict.blame, Blame::Account | Blame::Tenant | Blame::Session)
                    .then_some(judged)
            }
            _ => None,
        });
        of_account.or(whole)
    }
}

/// Settles a message that is to bear what its transaction came to. `cut_short`: the connection ended after some
/// recipients were refused and before the others had an answer; then its end is nobody's.
pub(crate) fn settle(message: &QueuedMessage, heard: &Heard, cut_short: bool, at: Moment<'_>) -> Settled {
    let mut recipients = message.recipients.clone();
    if message.attempts == 0 {
        recipients.iter_mut().for_each(|r| r.deferrals = Deferrals::default());
    }
    let whole = heard.whole.as_ref().filter(|_| !cut_short);
    let mut tried = enter(&mut recipients, &heard.each, whole, at);
    let (to, notify) = destination(message, &mut recipients, &tried, cut_short, at);
    let mut said = tried.deciding.as_ref().map_or(std::mem::take(&mut tried.last_reply), ToString::to_string);
    let given_up_before = recipients.iter().find_map(|r| match &r.progress {
        Progress::Failed(failure) if to == Destination::Dead && tried.deciding.is_none() => {
            Some((r, failure))
        }
        _ => None,
    });
    if let Some((recipient, failure)) = given_up_before {
        // The last recipient was taken; why the message is none that was delivered stands with another, without the
        // verdict of that time.
        said = format!("{said}; but not for {}: {failure}", recipient.mailbox);
        tried.advice = judge(failure).advice;
    }
    Settled {
        settlement: Settlement {
            attempt: Some(Attempt {
                at: at.wall,
                stage: tried.deciding.as_ref().map_or(Stage::FinalDot, |f| f.stage),
                said: said.clone(),
                host: at.host.to_owned(),
            }),
            recipients,
            attempts: message.attempts + u32::from(tried.put_off > 0),
            to,
            outcome_unknown: tried.deciding.as_ref().is_some_and(Failure::outcome_is_unknown),
            notices: vec![],
            now: at.now,
        },
        notify,
        advice: tried.advice,
        failure: tried.deciding,
        served: tried.served,
        said,
    }
}

/// What the answers of one transaction come to.
#[derive(Default)]
struct Tried {
    served: u32,
    /// How often the one put off most was put off by now; 0: nobody was.
    put_off: u32,
    /// Somebody was given up, for a refusal.
    refused: bool,
    /// Somebody was given up, for being put off too long.
    expired: bool,
    not_before: Duration,
    advice: Option<Advice>,
    deciding: Option<Failure>,
    last_reply: String,
}

/// Enters each answer at its recipient.
fn enter(recipients: &mut [Recipient], answers: &[Answer], whole: Option<&Judged>, at: Moment<'_>) -> Tried {
    let mut answers = answers.iter();
    let mut tried = Tried { deciding: whole.map(|w| w.failure.clone()), ..Tried::default() };
    for recipient in recipients.iter_mut().filter(|r| r.progress == Progress::Pending) {
        let judged = match answers.next() {
            Some(Answer::Taken(reply)) => {
                tried.served += 1;
                tried.last_reply = reply.to_string();
                recipient.progress = Progress::Delivered(reply.kept());
                continue;
            }
            Some(Answer::Refused(judged)) => judged,
            Some(Answer::Untried) | None => match whole {
                Some(judged) => judged,
                None => continue,
            },
        };
        let verdict = judged.verdict.left_to_message(at.theirs);
        tried.advice = tried.advice.or(verdict.advice);
        tried.deciding.get_or_insert_with(|| judged.failure.clone());
        if verdict.action == Action::Bounce {
            tried.refused = true;
        } else {
            let is_last = defer(&mut recipient.deferrals, at);
            tried.put_off = tried.put_off.max(recipient.deferrals.count);
            if !is_last {
                tried.not_before = tried.not_before.max(verdict.not_before);
                continue;
            }
            tried.expired = true;
        }
        recipient.progress = Progress::Failed(judged.failure.kept());
    }
    tried
}

/// Where the message goes, and who is told.
fn destination(
    message: &QueuedMessage,
    recipients: &mut [Recipient],
    tried: &Tried,
    cut_short: bool,
    at: Moment<'_>,
) -> (Destination, Notify) {
    let notify = match tried {
        Tried { expired: true, .. } => Notify::Expired,
        Tried { refused: true, .. } => Notify::Refused,
        _ => Notify::Nobody,
    };
    let mut waiting = recipients.iter().filter(|r| r.progress == Progress::Pending).peekable();
    if waiting.peek().is_none() {
        let any_failed = recipients.iter().any(|r| matches!(r.progress, Progress::Failed(_)));
        return (if any_failed { Destination::Dead } else { Destination::Delivered }, notify);
    }
    // Whoever had no turn yet does not wait for others who were put off; but a server that hangs up on those would
    // do it again at once.
    let at_once = tried.put_off == 0 || !cut_short && waiting.any(|r| r.deferrals.count == 0);
    let wait = if at_once {
        Duration::ZERO
    } else {
        schedule::delay(&at.retry.delays, tried.put_off, at.jitter).max(tried.not_before)
    };
    let is_late = tried.put_off > 0 && (at.now + wait).since(message.queued_since) >= at.retry.warn_after;
    let warns = is_late && notify == Notify::Nobody && tell(recipients);
    (Destination::Queued(at.now + wait), if warns { Notify::Delayed } else { notify })
}

/// Leaves the message as it is, with a record of the account's fault it met.
pub(crate) fn spared(message: &QueuedMessage, failure: &Failure, at: Moment<'_>) -> Settled {
    let said = failure.to_string();
    let settlement = Settlement {
        recipients: message.recipients.clone(),
        attempts: message.attempts,
        to: Destination::Queued(at.now),
        attempt: Some(Attempt {
            at: at.wall,
            stage: failure.stage,
            said: said.clone(),
            host: at.host.to_owned(),
        }),
        outcome_unknown: false,
        notices: vec![],
        now: at.now,
    };
    Settled { settlement, notify: Notify::Nobody, advice: None, failure: None, served: 0, said }
}

/// Counts one more attempt in vain; whether it was the last.
fn defer(deferrals: &mut Deferrals, at: Moment<'_>) -> bool {
    if deferrals.count == 0 {
        deferrals.since = at.now;
    }
    deferrals.count = deferrals.count.saturating_add(1);
    at.retry.gives_up(deferrals.count, at.now.since(deferrals.since))
}

/// Marks those who wait as told of; whether any was not yet. Stored, because no time tells it: a hold, an outage
/// and `queue retry` move every attempt.
fn tell(recipients: &mut [Recipient]) -> bool {
    let mut is_news = false;
    for recipient in recipients.iter_mut().filter(|r| r.progress == Progress::Pending) {
        is_news |= !std::mem::replace(&mut recipient.deferrals.told, true);
    }
    is_news
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mail::{AccountId, Cause, ClientName, QueueId, ReversePath, State};

    pub(crate) fn message(n: i64, to: &[&str]) -> QueuedMessage {
        QueuedMessage {
            id: QueueId::from_number(n),
            account: AccountId::new("scanner@contoso.com"),
            client: ClientName::new("printers"),
            peer: None,
            reverse_path: ReversePath::Null,
            recipients: to.iter().map(|m| Recipient::pending(m.parse().unwrap())).collect(),
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
            theirs: false,
        }
    }

    fn settle(m: &QueuedMessage, outcomes: &[Outcome], failure: Option<&Failure>, at: Moment<'_>) -> Settled {
        let sent = Sent { outcomes: outcomes.to_vec(), failure: failure.cloned(), usable: true };
        super::settle(m, &Heard::new(sent, Standing::GOOD), false, at)
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
        assert_eq!((s.notify, s.advice), (Notify::Refused, Some(Advice::SendAs)));
    }

    #[test]
    fn a_lost_answer_after_the_final_dot_is_recorded_and_retried() {
        let f = Failure::new(Stage::FinalDot, Cause::Network("connection reset".into()));
        let s = settle(&message(1, &["a@b.c"]), &[Outcome::Untried], Some(&f), at(5, &Retry::default()));
        assert!(s.settlement.outcome_unknown);
        assert!(matches!(s.settlement.to, Destination::Queued(_)));
    }

    /// What happens to one message, from its arrival on.
    #[derive(Debug, Clone, Copy)]
    enum Then {
        /// So many hours in which nobody tries: a hold, a pause, an outage of the account, a throttle.
        Rests(i64),
        /// An attempt met the account's fault.
        AccountFails,
        /// The message is tried when it is due and put off, until so many hours have passed so.
        PutOffFor(i64),
        /// One attempt that is put off, at once: `queue retry`.
        PutOffNow,
        /// As a dead letter it was brought back, or it was moved to another account.
        BroughtBack,
    }

    /// The life of a message with one recipient.
    struct Life {
        message: QueuedMessage,
        now_s: i64,
        warned: u32,
        dead: bool,
    }

    impl Life {
        fn new() -> Self {
            Self { message: message(1, &["a@b.c"]), now_s: 0, warned: 0, dead: false }
        }

        fn put_off(&mut self) {
            let retry = Retry::default();
            let f = refusal(Stage::Rcpt, "450 4.2.1 later");
            let outcomes = [Outcome::Refused(f)];
            let s = settle(&self.message, &outcomes, None, at(self.now_s, &retry));
            self.warned += u32::from(s.notify == Notify::Delayed);
            self.message.attempts = s.settlement.attempts;
            self.message.recipients = s.settlement.recipients;
            match s.settlement.to {
                Destination::Queued(next) => self.message.next_attempt = next,
                _ => {
                    assert_eq!(s.notify, Notify::Expired);
                    self.dead = true;
                }
            }
        }

        fn then(&mut self, what: Then) {
            let retry = Retry::default();
            match what {
                Then::Rests(hours) => self.now_s += hours * 3600,
                Then::AccountFails => {
                    let f = refusal(Stage::Mail, "451 4.7.0 PRX4");
                    let s = spared(&self.message, &f, at(self.now_s, &retry));
                    let Destination::Queued(next) = s.settlement.to else { panic!() };
                    (self.message.next_attempt, self.message.attempts) = (next, s.settlement.attempts);
                    self.message.recipients = s.settlement.recipients;
                }
                Then::PutOffFor(hours) => {
                    let until = self.now_s + hours * 3600;
                    while self.now_s < until && !self.dead {
                        self.put_off();
                        self.now_s = self.message.next_attempt.as_ms() / 1000;
                    }
                }
                Then::PutOffNow => self.put_off(),
                Then::BroughtBack => {
                    self.dead = false;
                    self.message.attempts = 0;
                    self.message.queued_since = RelayTime::from_ms(self.now_s * 1000);
                    self.message.next_attempt = self.message.queued_since;
                    self.message.recipients[0].progress = Progress::Pending;
                }
            }
        }
    }

    #[test]
    fn a_message_is_given_up_and_warned_of_by_its_own_history_and_not_by_its_age() {
        use Then::{AccountFails, BroughtBack, PutOffFor, PutOffNow, Rests};
        let rows: &[(&str, &[Then], bool, u32)] = &[
            ("put off for five days", &[PutOffFor(121)], true, 1),
            ("put off for less", &[PutOffFor(119)], false, 1),
            ("put off for less than the warning", &[PutOffFor(3)], false, 0),
            ("held for a week, then put off", &[Rests(168), PutOffNow], false, 1),
            ("held for a week, then put off for days", &[Rests(168), PutOffFor(119)], false, 1),
            ("held for a week, then put off for five days", &[Rests(168), PutOffFor(121)], true, 1),
            (
                "an outage of a week that it probed",
                &[AccountFails, Rests(168), AccountFails, PutOffNow],
                false,
                1,
            ),
            ("an outage of an hour within", &[PutOffFor(3), AccountFails, Rests(1), PutOffFor(2)], false, 1),
            ("put off once, then a week of outage", &[PutOffNow, Rests(168), PutOffNow], false, 1),
            ("put off for a day, then ten of outage", &[PutOffFor(24), Rests(240), PutOffNow], false, 1),
            ("put off for days, then outages", &[PutOffFor(61), Rests(240), PutOffFor(1)], true, 1),
            (
                "a day's limit that leaves an hour a day",
                &[
                    PutOffFor(1),
                    Rests(23),
                    PutOffFor(1),
                    Rests(23),
                    PutOffFor(1),
                    Rests(23),
                    PutOffFor(1),
                    Rests(23),
                    PutOffFor(1),
                    Rests(23),
                    PutOffFor(1),
                ],
                false,
                1,
            ),
            (
                "retried by hand again and again",
                &[
                    Rests(168),
                    PutOffNow,
                    PutOffNow,
                    PutOffNow,
                    PutOffNow,
                    PutOffNow,
                    PutOffNow,
                    PutOffNow,
                    PutOffNow,
                ],
                false,
                1,
            ),
            ("retried by hand around the warning", &[PutOffFor(4), PutOffNow, PutOffNow], false, 1),
            ("brought back as a dead letter", &[PutOffFor(121), BroughtBack, PutOffNow], false, 1),
            ("brought back, and put off anew", &[PutOffFor(121), BroughtBack, PutOffFor(5)], false, 2),
            ("moved to another account", &[PutOffFor(100), BroughtBack, PutOffFor(100)], false, 2),
        ];
        for (name, history, dead, warned) in rows {
            let mut life = Life::new();
            for what in *history {
                life.then(*what);
            }
            assert_eq!((life.dead, life.warned), (*dead, *warned), "{name}");
        }
    }

    #[test]
    fn an_admin_who_retries_every_minute_shortens_nothing() {
        let mut life = Life::new();
        life.then(Then::Rests(168));
        for _ in 0..300 {
            life.put_off();
            life.now_s += 60;
        }
        assert!(!life.dead, "five hours of attempts of its own");
    }

    #[test]
    fn only_a_failed_attempt_gives_a_message_up() {
        let mut life = Life::new();
        life.then(Then::PutOffFor(119));
        let retry = Retry::default();
        let s = settle(&life.message, &[ok()], None, at(86_400 * 9, &retry));
        assert_eq!(s.settlement.to, Destination::Delivered);
    }

    #[test]
    fn a_recipient_that_was_never_tried_is_not_given_up_for_another_that_was() {
        let retry = Retry::default();
        let mut m = message(1, &["busy@b.c", "left@b.c"]);
        let mut now = 0;
        // The day's limit leaves room for one, whose turn it always is.
        let outcomes = [refused("450 4.2.1 busy"), Outcome::Untried];
        let gone = loop {
            let s = settle(&m, &outcomes, None, at(now, &retry));
            (m.attempts, m.recipients) = (s.settlement.attempts, s.settlement.recipients.clone());
            if s.notify == Notify::Expired {
                break s;
            }
            now += 1800;
        };
        assert!(now >= 5 * 86_400);
        assert!(matches!(m.recipients[0].progress, Progress::Failed(_)));
        assert_eq!(m.recipients[1].progress, Progress::Pending);
        assert!(matches!(gone.settlement.to, Destination::Queued(_)), "it goes on for the other");
        let s = settle(&m, &outcomes[..1], None, at(now, &retry));
        assert!(matches!(s.settlement.to, Destination::Queued(_)), "which has a time of its own");
        let s = settle(&m, &[ok()], None, at(now, &retry));
        assert_eq!((s.settlement.to, s.notify), (Destination::Dead, Notify::Nobody), "told of already");
        assert_eq!(s.said, "250 2.0.0 OK; but not for busy@b.c: RCPT TO: 450 4.2.1 busy");
    }

    #[test]
    fn a_recipient_that_had_no_turn_does_not_wait_for_those_who_were_put_off() {
        let retry = Retry::default();
        let mut m = message(1, &["busy@b.c", "left@b.c"]);
        let s = settle(&m, &[refused("450 4.2.1 busy"), Outcome::Untried], None, at(5, &retry));
        assert_eq!(s.settlement.to, Destination::Queued(RelayTime::from_ms(5_000)));
        (m.attempts, m.recipients) = (s.settlement.attempts, s.settlement.recipients);
        let s = settle(&m, &[Outcome::Untried, refused("450 4.2.1 busy")], None, at(5, &retry));
        assert_eq!(s.settlement.to, Destination::Queued(RelayTime::from_ms(35_000)), "each had its turn");
    }

    #[test]
    fn a_server_that_hangs_up_on_one_recipient_is_not_tried_again_at_once_for_the_others() {
        let m = message(1, &["busy@b.c", "left@b.c"]);
        for (line, next_s) in [("450 4.2.1 busy", 35), ("550 5.1.1 unknown", 5)] {
            let gone = Failure::new(Stage::Data, Cause::Network("closed".into()));
            let outcomes = vec![refused(line), Outcome::Untried];
            let sent = Sent { outcomes, failure: Some(gone), usable: false };
            let s = super::settle(&m, &Heard::new(sent, Standing::GOOD), true, at(5, &Retry::default()));
            assert_eq!(s.settlement.to, Destination::Queued(RelayTime::from_ms(next_s * 1000)), "{line}");
            assert_eq!(s.settlement.recipients[1].progress, Progress::Pending);
        }
    }

    #[test]
    fn a_refused_recipient_is_told_of_while_another_is_put_off() {
        let s = settle(
            &message(1, &["no@b.c", "busy@b.c"]),
            &[refused("550 5.1.1 unknown"), refused("450 4.2.1 busy")],
            None,
            at(5, &Retry::default()),
        );
        assert!(matches!(s.settlement.to, Destination::Queued(_)));
        assert_eq!(s.notify, Notify::Refused);
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
                m.recipients = s.settlement.recipients;
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
        assert_eq!(
            (s.settlement.attempts, s.settlement.to),
            (0, Destination::Queued(RelayTime::from_ms(7000)))
        );
    }
}
