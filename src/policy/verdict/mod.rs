//! Whose fault a failure is, and what follows: the Exchange Online table as data.
//!
//! Invariant: the first rule that fits decides, and the rules at the end fit everything, so every failure has a
//! verdict. Text decides where codes are ambiguous, because Microsoft reuses codes. A fault of the account never
//! bounces a message; a fault of a message never stops the account.
//! Must not know: breakers, schedules, the queue.

mod rules;

use super::advice::Advice;
use crate::mail::{Cause, Failure, Reply, Stage};
use rules::Heard;
use std::time::Duration;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The mailbox's session or settings, or the smart host for it: the breaker opens, messages spend nothing.
    Account,
    /// All mailboxes of the tenant.
    Tenant,
    /// This connection only (idle too long, dropped): a fresh one may do.
    Session,
    /// The sender address: never repeated, Microsoft blocks senders for that.
    Sender,
    /// This message.
    Message,
    /// One recipient.
    Recipient,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Again later.
    Retry,
    /// Stop using the account but for a rare probe, and tell the admin.
    Hold,
    /// Pause the account for a moment between these, and use fewer connections.
    Pause,
    /// To the dead letters, with a notice.
    Bounce,
}

/// The judgement on one failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whose fault.
    pub blame: Blame,
    /// What to do.
    pub action: Action,
    /// Not sooner than this from now, whatever the schedule says.
    pub not_before: Duration,
    /// What to tell the admin.
    pub advice: Option<Advice>,
    /// What to do in the words of the failure itself, in place of the advice's; mostly empty.
    pub remedy: Vec<String>,
    /// Says something at once; others only when they persist.
    pub tell_now: bool,
    /// The words may be those of a recipient's own host, which the server passes on: then they say nothing of the
    /// account.
    pub hearsay: bool,
    /// A refusal in words that nobody knows, of an account through which nothing ever went: when it is about its
    /// message after all, it ends that, with this advice.
    pub own: Option<Advice>,
}

/// A failure with the judgement on it, which is made once and handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What happened.
    pub failure: Failure,
    /// Whose fault, and what follows.
    pub verdict: Verdict,
}

impl Judged {
    /// Judges a failure of an account with this standing.
    pub fn new(failure: Failure, standing: Standing) -> Self {
        let verdict = judge_for(&failure, standing);
        Self { failure, verdict }
    }

    /// Judges a failure before the login, where no standing matters.
    pub fn early(failure: Failure) -> Self {
        Self::new(failure, Standing::GOOD)
    }
}

/// What is known of the account a failure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It logs in: the server knows it by more than this site's address.
    pub has_login: bool,
    /// A message went through with the settings it has now.
    pub has_worked: bool,
}

impl Standing {
    /// Nothing is known against it.
    pub const GOOD: Self = Self { has_login: true, has_worked: true };
}

impl Verdict {
    /// Whether so many connections at once are too many, and fewer would do.
    pub fn is_too_many_connections(&self) -> bool {
        self.action == Action::Pause && self.advice == Some(Advice::TooManyConnections)
    }

    /// What follows for the message where the failure is left to it. `theirs`: words that may be those of a
    /// recipient's own host are that host's.
    pub fn left_to_message(&self, theirs: bool) -> Self {
        let ends = |advice| Self { action: Action::Bounce, advice: Some(advice), ..self.clone() };
        match self.own {
            Some(advice) => ends(advice),
            None if theirs && self.hearsay && self.action == Action::Hold => ends(Advice::ForeignHost),
            None => self.clone(),
        }
    }
}

/// Judges a failure of an account of which nothing is known against it.
pub fn judge(failure: &Failure) -> Verdict {
    judge_for(failure, Standing::GOOD)
}

/// Judges a failure of an account with this standing.
pub fn judge_for(failure: &Failure, standing: Standing) -> Verdict {
    match &failure.cause {
        Cause::Reply(reply) => by_reply(failure.stage, reply, standing),
        Cause::TokenRejected { reply, remedy } => {
            let verdict = by_reply(failure.stage, reply, standing);
            if verdict.advice != Some(Advice::LoginRefused) {
                return verdict;
            }
            Verdict { advice: Some(Advice::TokenRefused), remedy: remedy.clone(), ..verdict }
        }
        other => without_reply(failure.stage, other),
    }
}

/// Whether the table knows such words at this stage; else the reply is judged by the class of its code alone.
pub fn knows(stage: Stage, reply: &Reply) -> bool {
    (stage.is_after_auth() && reply.says_dropped()) || rules::is_known(&Heard::new(stage, reply))
}

fn by_reply(stage: Stage, reply: &Reply, standing: Standing) -> Verdict {
    let heard = Heard::new(stage, reply);
    // About the connection, whatever it was that ran out.
    if stage.is_after_auth() && reply.says_dropped() && !heard.says("submission rate") {
        return by_class(&heard, standing);
    }
    rules::by_table(&heard, standing).unwrap_or_else(|| by_class(&heard, standing))
}

fn without_reply(stage: Stage, cause: &Cause) -> Verdict {
    let account = |action, advice| verdict(Blame::Account, action, Some(advice));
    match cause {
        Cause::Certificate(_) => account(Action::Hold, Advice::Certificate),
        Cause::Handshake { lasts: true, .. } => account(Action::Hold, Advice::TlsVersion),
        Cause::Handshake { lasts: false, .. } => account(Action::Retry, Advice::TlsHandshake),
        Cause::NoStartTls => account(Action::Hold, Advice::NoStartTls),
        Cause::NoAuth => account(Action::Hold, Advice::NoAuthOffered),
        Cause::Token(none) => {
            let (action, advice) = if none.needs_a_person {
                (Action::Hold, Advice::NoToken)
            } else {
                (Action::Retry, Advice::TokenEndpoint)
            };
            Verdict { not_before: none.retry_in, remedy: none.remedy.clone(), ..account(action, advice) }
        }
        Cause::TooLarge { .. } => verdict(Blame::Message, Action::Bounce, Some(Advice::TooLarge)),
        // The mailbox's own address, which stands in for every sender that cannot be used.
        Cause::NoSmtpUtf8 if stage == Stage::Mail => {
            let remedy = "give the account a mailbox whose address is of plain letters, or a smart host that offers \
                          SMTPUTF8";
            Verdict { remedy: vec![remedy.to_owned()], ..account(Action::Hold, Advice::NoSmtpUtf8) }
        }
        Cause::NoSmtpUtf8 => verdict(Blame::Recipient, Action::Bounce, Some(Advice::NoSmtpUtf8)),
        Cause::Body(_) => verdict(Blame::Message, Action::Bounce, Some(Advice::BodyUnreadable)),
        Cause::BodyForNow(_) => verdict(Blame::Message, Action::Retry, Some(Advice::BodyUnreadable)),
        Cause::Unparsable(_) if !stage.is_after_auth() => account(Action::Retry, Advice::NotSmtp),
        Cause::Network(_)
        | Cause::Timeout
        | Cause::Unparsable(_)
        | Cause::Reply(_)
        | Cause::TokenRejected { .. } => match stage {
            Stage::FinalDot => verdict(Blame::Message, Action::Retry, None),
            s if s.is_after_auth() => verdict(Blame::Session, Action::Retry, None),
            _ => account(Action::Retry, Advice::Unreachable),
        },
    }
}

/// RFC 5321 section 4.2.1 where no rule knows better. A 5yz in unknown words ends a message only where it can be
/// about nothing else: on an account through which nothing ever went it may as well be about all of them.
fn by_class(heard: &Heard<'_>, standing: Standing) -> Verdict {
    let (stage, reply) = (heard.stage, heard.reply);
    let refused = if stage == Stage::Rcpt { Advice::RecipientRefused } else { Advice::MessageRefused };
    let unknown = || Verdict {
        own: Some(refused),
        ..verdict(Blame::Account, Action::Hold, Some(Advice::UnknownRefusal))
    };
    match (stage, reply.code / 100) {
        // Told as such in `Failure::outcome_is_unknown`; a message that may have got through is not hurried.
        (Stage::FinalDot, 4) if reply.says_dropped() => verdict(Blame::Message, Action::Retry, None),
        (s, 4)
            if s.is_after_auth() && (reply.code == 421 || heard.says("timeout waiting for client input")) =>
        {
            verdict(Blame::Session, Action::Retry, None)
        }
        (Stage::Rcpt, 4) => verdict(Blame::Recipient, Action::Retry, None),
        (s, 4) if s.is_after_auth() => verdict(Blame::Message, Action::Retry, None),
        (Stage::FinalDot, 5) if standing.has_worked || heard.says_any(OF_THE_MESSAGE) => {
            verdict(Blame::Message, Action::Bounce, Some(Advice::MessageRefused))
        }
        (s, 5) if s.is_after_auth() && !standing.has_worked => unknown(),
        (Stage::Rcpt, 5) => verdict(Blame::Recipient, Action::Bounce, Some(refused)),
        (s, 5) if s.is_after_auth() => verdict(Blame::Message, Action::Bounce, Some(refused)),
        (Stage::Auth, 5) => verdict(Blame::Account, Action::Hold, Some(Advice::LoginRefused)),
        (_, 5) => verdict(Blame::Account, Action::Hold, Some(Advice::ServerRefuses)),
        // 2yz or 3yz out of place: the dialogue is out of step.
        (s, _) if s.is_after_auth() => verdict(Blame::Session, Action::Retry, None),
        _ => verdict(Blame::Account, Action::Retry, Some(Advice::ServerBusy)),
    }
}

/// At the end of data, words about what was just sent.
const OF_THE_MESSAGE: &[&str] = &[
    "message",
    "mail",
    "e-mail",
    "content",
    "header",
    "subject",
    "from",
    "format",
    "syntax",
    "line",
    "mime",
    "body",
    "attachment",
    "part",
    "url",
    "link",
    "character",
    "transaction failed",
    "reject",
    "rule",
];

fn verdict(blame: Blame, action: Action, advice: Option<Advice>) -> Verdict {
    Verdict {
        blame,
        action,
        not_before: Duration::ZERO,
        advice,
        remedy: vec![],
        tell_now: action == Action::Hold,
        hearsay: false,
        own: None,
    }
}

#[cfg(test)]
mod tests;
