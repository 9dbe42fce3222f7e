//! Whose fault a failure is, and what follows: the Exchange Online table as data.
//!
//! Invariant: the first rule that fits decides, and the rules at the end fit everything, so every failure has a
//! verdict. Text decides where codes are ambiguous, because Microsoft reuses codes. A fault of the account never
//! bounces a message; a fault of a message never stops the account.
//! Must not know: breakers, schedules, the queue.

use super::advice::Advice;
use crate::mail::{Cause, EnhancedStatus, Failure, Reply, Stage};
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
}

impl Verdict {
    /// Whether so many connections at once are too many, and fewer would do.
    pub fn is_too_many_connections(&self) -> bool {
        self.action == Action::Pause && self.advice == Some(Advice::TooManyConnections)
    }
}

/// Judges a failure.
pub fn judge(failure: &Failure) -> Verdict {
    match &failure.cause {
        Cause::Reply(reply) => by_table(failure.stage, reply),
        Cause::TokenRejected { reply, remedy } => {
            let verdict = by_table(failure.stage, reply);
            if verdict.advice != Some(Advice::LoginRefused) {
                return verdict;
            }
            Verdict { advice: Some(Advice::TokenRefused), remedy: remedy.clone(), ..verdict }
        }
        other => without_reply(failure.stage, other),
    }
}

fn by_table(stage: Stage, reply: &Reply) -> Verdict {
    RULES.iter().find(|r| r.fits(stage, reply)).map(Rule::verdict).unwrap_or_else(|| by_class(stage, reply))
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

/// RFC 5321 section 4.2.1 where no rule knows better.
fn by_class(stage: Stage, reply: &Reply) -> Verdict {
    let gave_up_waiting = || reply.text.to_ascii_lowercase().contains("timeout waiting for client input");
    match (stage, reply.code / 100) {
        // Told as such in `Failure::outcome_is_unknown`; a message that may have got through is not hurried.
        (Stage::FinalDot, 4) if reply.says_dropped() => verdict(Blame::Message, Action::Retry, None),
        (s, 4) if s.is_after_auth() && (reply.code == 421 || gave_up_waiting()) => {
            verdict(Blame::Session, Action::Retry, None)
        }
        (Stage::Rcpt, 4) => verdict(Blame::Recipient, Action::Retry, None),
        (s, 4) if s.is_after_auth() => verdict(Blame::Message, Action::Retry, None),
        (Stage::Rcpt, 5) => verdict(Blame::Recipient, Action::Bounce, Some(Advice::NoSuchRecipient)),
        (s, 5) if s.is_after_auth() => verdict(Blame::Message, Action::Bounce, Some(Advice::MessageRefused)),
        (Stage::Auth, 5) => verdict(Blame::Account, Action::Hold, Some(Advice::LoginRefused)),
        (_, 5) => verdict(Blame::Account, Action::Hold, Some(Advice::ServerBusy)),
        // 2yz or 3yz out of place: the dialogue is out of step.
        (s, _) if s.is_after_auth() => verdict(Blame::Session, Action::Retry, None),
        _ => verdict(Blame::Account, Action::Retry, Some(Advice::ServerBusy)),
    }
}

fn verdict(blame: Blame, action: Action, advice: Option<Advice>) -> Verdict {
    Verdict {
        blame,
        action,
        not_before: Duration::ZERO,
        advice,
        remedy: vec![],
        tell_now: action == Action::Hold,
    }
}

/// Which codes a rule is for.
#[derive(Clone, Copy)]
enum Code {
    Any,
    Is(u16),
    Class(u16),
}

/// Which enhanced codes: subject and a range of details, of any class.
type Status = Option<(u16, u16, u16)>;

#[derive(Clone, Copy)]
struct Rule {
    stages: &'static [Stage],
    code: Code,
    status: Status,
    /// One of these must be in the text, case ignored; empty: no matter.
    text: &'static [&'static str],
    blame: Blame,
    action: Action,
    not_before_s: u64,
    advice: Advice,
    tell_now: bool,
}

impl Rule {
    fn fits(&self, stage: Stage, reply: &Reply) -> bool {
        (self.stages.is_empty() || self.stages.contains(&stage))
            && match self.code {
                Code::Any => true,
                Code::Is(c) => reply.code == c,
                Code::Class(c) => reply.code / 100 == c,
            }
            && self.status.is_none_or(|(subject, from, to)| {
                reply.status.is_some_and(|EnhancedStatus { subject: s, detail: d, .. }| {
                    s == subject && (from..=to).contains(&d)
                })
            })
            && (self.text.is_empty() || {
                let text = reply.text.to_ascii_lowercase();
                self.text.iter().any(|t| text.contains(t))
            })
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            blame: self.blame,
            action: self.action,
            not_before: Duration::from_secs(self.not_before_s),
            advice: Some(self.advice),
            remedy: vec![],
            tell_now: self.tell_now || self.action == Action::Hold,
        }
    }
}

const fn rule(
    code: Code,
    status: Status,
    text: &'static [&'static str],
    blame: Blame,
    action: Action,
    advice: Advice,
) -> Rule {
    Rule { stages: &[], code, status, text, blame, action, not_before_s: 0, advice, tell_now: false }
}

const fn at(stages: &'static [Stage], rule: Rule) -> Rule {
    Rule { stages, ..rule }
}

const fn after(not_before_s: u64, rule: Rule) -> Rule {
    Rule { not_before_s, ..rule }
}

const fn told(rule: Rule) -> Rule {
    Rule { tell_now: true, ..rule }
}

const LOGIN: &[Stage] = &[Stage::Connect, Stage::Ehlo, Stage::Tls, Stage::Token, Stage::Auth];
/// Where a message is at stake.
const MESSAGE: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot];
/// Where a 4yz about resources is the server's, not the recipient's: other smart hosts greylist at RCPT.
const NOT_RCPT: &[Stage] = &[
    Stage::Connect,
    Stage::Ehlo,
    Stage::Tls,
    Stage::Token,
    Stage::Auth,
    Stage::Mail,
    Stage::Data,
    Stage::FinalDot,
];

use Action::{Bounce, Hold, Pause, Retry};
use Blame::{Account, Message, Recipient, Sender, Tenant};
use Code::{Any, Class, Is};

/// In order: the first that fits decides.
#[rustfmt::skip]
static RULES: &[Rule] = &[
    // The front end's proxy faults, whatever the stage.
    rule(Class(4), None, &["prx1", "prx2", "prx3", "prx4", "prx5", "prx6", "prx7", "prx8", "prx9"], Account, Retry, Advice::Proxy),

    // A login refused: the text decides. 5.7.57 may embed the 535 of an earlier AUTH, so these hold at any stage.
    rule(Class(5), None, &["smtpclientauthentication is disabled for the tenant"], Account, Hold, Advice::SmtpAuthDisabledForTenant),
    rule(Class(5), None, &["smtpclientauthentication is disabled for the mailbox"], Account, Hold, Advice::SmtpAuthDisabledForMailbox),
    rule(Class(5), Some((7, 139, 139)), &["user credentials were incorrect"], Account, Hold, Advice::WrongPassword),
    rule(Class(5), Some((7, 139, 139)), &["account is locked"], Account, Hold, Advice::AccountLocked),
    rule(Class(5), Some((7, 139, 139)), &["security defaults"], Account, Hold, Advice::SecurityDefaults),
    rule(Class(5), Some((7, 139, 139)), &["did not meet the criteria", "conditional access"], Account, Hold, Advice::ConditionalAccess),
    rule(Class(5), Some((7, 139, 139)), &["basic authentication is disabled"], Account, Hold, Advice::BasicAuthDisabled),
    rule(Class(5), Some((7, 139, 139)), &["password has expired", "password is expired", "password expired"], Account, Hold, Advice::PasswordExpired),
    rule(Class(5), Some((7, 139, 139)), &[], Account, Hold, Advice::LoginRefused),
    rule(Class(5), Some((7, 30, 30)), &[], Account, Hold, Advice::BasicAuthDisabled),
    rule(Class(5), Some((7, 57, 57)), &[], Account, Hold, Advice::NotAuthenticated),
    rule(Is(535), None, &[], Account, Hold, Advice::LoginRefused),
    at(LOGIN, rule(Is(504), None, &[], Account, Hold, Advice::NoAuthOffered)),

    // TLS.
    rule(Any, None, &["must issue a starttls"], Account, Hold, Advice::NoStartTls),
    rule(Any, Some((7, 66, 67)), &[], Account, Hold, Advice::TlsVersion),
    rule(Is(530), None, &[], Account, Hold, Advice::NotAuthenticated),

    // Throttling.
    rule(Is(432), None, &["recipient thread limit"], Message, Retry, Advice::ServerBusy),
    after(15, rule(Is(432), None, &[], Account, Pause, Advice::TooManyConnections)),
    after(60, rule(Is(421), None, &["submission rate"], Account, Pause, Advice::SubmissionRate)),
    at(LOGIN, after(15, rule(Is(421), Some((3, 2, 2)), &["concurrent connections"], Account, Pause, Advice::TooManyConnections))),
    told(after(300, rule(Is(421), Some((7, 0, 0)), &["too many errors"], Account, Retry, Advice::TooManyErrors))),
    after(300, rule(Class(4), Some((7, 500, 699)), &[], Account, Retry, Advice::ServerBusy)),
    after(300, rule(Class(4), Some((7, 850, 899)), &[], Account, Retry, Advice::ServerBusy)),

    // Earned by looping on refusals: 5.2.252 is also the plain SendAs refusal, so the text comes first.
    after(7200, rule(Class(5), None, &["sender throttled"], Account, Hold, Advice::SenderThrottled)),
    after(7200, rule(Class(5), Some((2, 251, 251)), &[], Account, Hold, Advice::SenderThrottled)),
    after(7200, rule(Class(5), Some((2, 253, 255)), &[], Account, Hold, Advice::SenderThrottled)),

    // The sender.
    at(MESSAGE, rule(Class(5), Some((7, 60, 60)), &[], Sender, Bounce, Advice::SendAs)),
    at(MESSAGE, rule(Class(5), None, &["sendasdenied", "not allowed to send as"], Sender, Bounce, Advice::SendAs)),
    at(MESSAGE, rule(Class(5), Some((2, 252, 252)), &[], Sender, Bounce, Advice::SendAs)),

    // The mailbox's limits and blocks.
    at(&[Stage::Mail, Stage::Data, Stage::FinalDot], rule(Class(5), None, &["submissionquotaexceeded"], Account, Hold, Advice::DailyLimit)),
    after(3600, rule(Class(5), Some((1, 90, 90)), &[], Account, Hold, Advice::DailyLimit)),
    at(&[Stage::FinalDot], rule(Class(5), None, &["quotaexceededexception"], Account, Hold, Advice::MailboxFull)),
    at(&[Stage::Mail, Stage::Data, Stage::FinalDot], rule(Class(5), Some((2, 2, 2)), &[], Account, Hold, Advice::MailboxFull)),
    rule(Class(5), None, &["outboundspamexception"], Account, Hold, Advice::SendingBlocked),
    at(MESSAGE, rule(Class(5), Some((1, 8, 8)), &["bad outbound sender", "outbound spam"], Account, Hold, Advice::SendingBlocked)),
    at(&[Stage::Mail], rule(Class(5), Some((1, 8, 8)), &["access denied"], Account, Hold, Advice::SendingBlocked)),
    // Other smart hosts give it for a sender's domain too, but never as late as this.
    at(&[Stage::Data, Stage::FinalDot], rule(Class(5), Some((1, 8, 8)), &[], Account, Hold, Advice::SendingBlocked)),
    rule(Class(5), Some((7, 501, 503)), &[], Account, Hold, Advice::SendingBlocked),
    told(rule(Is(430), Some((2, 0, 0)), &[], Account, Retry, Advice::MailboxLogon)),
    rule(Class(5), Some((7, 232, 233)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 705, 705)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 708, 708)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 750, 750)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 800, 800)), &[], Tenant, Hold, Advice::TenantBlocked),

    // The server's resources.
    at(NOT_RCPT, rule(Is(452), Some((3, 1, 1)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(451), Some((3, 2, 2)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(451), Some((4, 0, 999)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(450), Some((7, 1, 1)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(430), Some((3, 1, 1)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Class(4), Some((3, 111, 111)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Class(4), None, &["temporary authentication failure"], Account, Retry, Advice::ServerBusy)),

    // Addresses and the message itself.
    at(&[Stage::Rcpt], rule(Class(5), Some((2, 0, 999)), &[], Recipient, Bounce, Advice::NoSuchRecipient)),
    at(MESSAGE, rule(Is(552), None, &[], Message, Bounce, Advice::TooLarge)),
    at(MESSAGE, rule(Class(5), Some((3, 4, 4)), &[], Message, Bounce, Advice::TooLarge)),
    at(&[Stage::Rcpt], rule(Class(5), None, &[], Recipient, Bounce, Advice::NoSuchRecipient)),

    // Any other transient answer before the login is through is the account's.
    at(LOGIN, rule(Class(4), None, &[], Account, Retry, Advice::ServerBusy)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::NoToken;

    fn judged(stage: Stage, line: &str) -> Verdict {
        let (code, text) = line.split_once(' ').unwrap();
        judge(&Failure::new(stage, Cause::Reply(Reply::new(code.parse().unwrap(), text))))
    }

    /// Every row of the table, as Exchange Online words it.
    #[test]
    fn each_reply_has_the_verdict_of_the_table() {
        use Stage::{Auth, Connect, Data, Ehlo, FinalDot, Mail, Rcpt, Tls};
        let prx4 = "451 4.7.0 Temporary server error. Please try again later. PRX4 [AM0PR02CA0123.eurprd02.prod.outlook.com]";
        let rows: &[(Stage, &str, Blame, Action, Option<Advice>)] = &[
            (Connect, prx4, Account, Retry, Some(Advice::Proxy)),
            (Ehlo, prx4, Account, Retry, Some(Advice::Proxy)),
            (Tls, prx4, Account, Retry, Some(Advice::Proxy)),
            (Auth, prx4, Account, Retry, Some(Advice::Proxy)),
            (Mail, prx4, Account, Retry, Some(Advice::Proxy)),
            (Rcpt, prx4, Account, Retry, Some(Advice::Proxy)),
            (Data, prx4, Account, Retry, Some(Advice::Proxy)),
            (FinalDot, prx4, Account, Retry, Some(Advice::Proxy)),
            (
                Auth,
                "451 4.7.0 Temporary server error. Please try again later. CPRX2",
                Account,
                Retry,
                Some(Advice::Proxy),
            ),
            (
                Connect,
                "421 4.3.2 The maximum number of concurrent connections has exceeded a limit PRX7",
                Account,
                Retry,
                Some(Advice::Proxy),
            ),
            (Connect, "421 4.3.2 Service not available", Account, Retry, Some(Advice::ServerBusy)),
            (
                Connect,
                "421 4.3.2 The maximum number of concurrent connections has exceeded a limit",
                Account,
                Pause,
                Some(Advice::TooManyConnections),
            ),
            (Mail, "421 4.4.1 Connection timed out", Blame::Session, Retry, None),
            (Mail, "421 4.4.2 Connection dropped due to SocketError", Blame::Session, Retry, None),
            (FinalDot, "421 4.4.2 Connection dropped due to SocketError", Message, Retry, None),
            (FinalDot, "421 4.3.2 Service shutting down", Blame::Session, Retry, None),
            (Mail, "451 4.7.0 Timeout waiting for client input", Blame::Session, Retry, None),
            (Data, "451 4.7.0 Timeout waiting for client input", Blame::Session, Retry, None),
            (
                Mail,
                "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
                Account,
                Pause,
                Some(Advice::SubmissionRate),
            ),
            (
                Mail,
                "421 4.7.0 Too many errors on this connection, closing transmission channel",
                Account,
                Retry,
                Some(Advice::TooManyErrors),
            ),
            (Ehlo, "421 4.7.66 TLS 1.0 and 1.1 are not supported", Account, Hold, Some(Advice::TlsVersion)),
            (Mail, "550 5.7.67 TLS version", Account, Hold, Some(Advice::TlsVersion)),
            (Tls, "454 4.7.0 Connection rate limit exceeded", Account, Retry, Some(Advice::ServerBusy)),
            (Mail, "530 5.7.0 Must issue a STARTTLS command first", Account, Hold, Some(Advice::NoStartTls)),
            (Mail, "451 5.7.3 Must issue a STARTTLS command first", Account, Hold, Some(Advice::NoStartTls)),
            (Auth, "451 4.7.3 Temporary", Account, Retry, Some(Advice::ServerBusy)),
            (Auth, "454 4.7.0 Temporary authentication failure", Account, Retry, Some(Advice::ServerBusy)),
            (Auth, "504 5.7.4 Unrecognized authentication type", Account, Hold, Some(Advice::NoAuthOffered)),
            (
                Auth,
                "535 5.7.3 Authentication unsuccessful [VI1PR0801CA0078]",
                Account,
                Hold,
                Some(Advice::LoginRefused),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled",
                Account,
                Hold,
                Some(Advice::SmtpAuthDisabledForTenant),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
                Account,
                Hold,
                Some(Advice::SmtpAuthDisabledForMailbox),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
                Account,
                Hold,
                Some(Advice::WrongPassword),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, account is locked.",
                Account,
                Hold,
                Some(Advice::AccountLocked),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
                Account,
                Hold,
                Some(Advice::SecurityDefaults),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully.",
                Account,
                Hold,
                Some(Advice::ConditionalAccess),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
                Account,
                Hold,
                Some(Advice::BasicAuthDisabled),
            ),
            (
                Auth,
                "535 5.7.139 Authentication unsuccessful, the password has expired.",
                Account,
                Hold,
                Some(Advice::PasswordExpired),
            ),
            (
                Auth,
                "550 5.7.30 Basic authentication is not supported for Client Submission.",
                Account,
                Hold,
                Some(Advice::BasicAuthDisabled),
            ),
            (
                FinalDot,
                "550 5.7.30 Basic authentication is not supported for Client Submission.",
                Account,
                Hold,
                Some(Advice::BasicAuthDisabled),
            ),
            (
                Mail,
                "530 5.7.57 Client not authenticated to send mail.",
                Account,
                Hold,
                Some(Advice::NotAuthenticated),
            ),
            (
                Mail,
                "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
                Account,
                Hold,
                Some(Advice::SmtpAuthDisabledForMailbox),
            ),
            (
                Mail,
                "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
                Sender,
                Bounce,
                Some(Advice::SendAs),
            ),
            (Mail, "501 5.1.7 Invalid address", Message, Bounce, Some(Advice::MessageRefused)),
            (Rcpt, "501 5.1.3 Invalid address", Recipient, Bounce, Some(Advice::NoSuchRecipient)),
            (Rcpt, "452 4.5.3 Too many recipients", Recipient, Retry, None),
            (Rcpt, "550 5.1.1 User unknown", Recipient, Bounce, Some(Advice::NoSuchRecipient)),
            (
                Rcpt,
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound",
                Recipient,
                Bounce,
                Some(Advice::NoSuchRecipient),
            ),
            (
                Rcpt,
                "550 5.4.1 Recipient address rejected: Access denied",
                Recipient,
                Bounce,
                Some(Advice::NoSuchRecipient),
            ),
            (Mail, "452 4.3.1 Insufficient system resources", Account, Retry, Some(Advice::ServerBusy)),
            (FinalDot, "451 4.4.3 Temporary server error", Account, Retry, Some(Advice::ServerBusy)),
            (Rcpt, "450 4.7.1 Greylisted", Recipient, Retry, None),
            (Mail, "430 4.3.111 MRH1", Account, Retry, Some(Advice::ServerBusy)),
            (
                FinalDot,
                "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
                Account,
                Pause,
                Some(Advice::TooManyConnections),
            ),
            (
                FinalDot,
                "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
                Account,
                Pause,
                Some(Advice::TooManyConnections),
            ),
            (
                FinalDot,
                "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
                Message,
                Retry,
                Some(Advice::ServerBusy),
            ),
            (
                FinalDot,
                "430 4.2.0 STOREDRV; mailbox logon failure; MapiExceptionLogonFailed ConnectionFailedTransientException",
                Account,
                Retry,
                Some(Advice::MailboxLogon),
            ),
            (
                FinalDot,
                "554 5.2.252 SendAsDenied; scanner@contoso.com not allowed to send as boss@contoso.com",
                Sender,
                Bounce,
                Some(Advice::SendAs),
            ),
            (
                FinalDot,
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
                Sender,
                Bounce,
                Some(Advice::SendAs),
            ),
            (
                FinalDot,
                "550 5.2.252 Sender throttled due to continuous send as denied errors",
                Account,
                Hold,
                Some(Advice::SenderThrottled),
            ),
            (
                FinalDot,
                "550 5.2.254 Sender throttled due to continuous invalid recipients errors",
                Account,
                Hold,
                Some(Advice::SenderThrottled),
            ),
            (
                FinalDot,
                "554 5.2.2 mailbox full; STOREDRV.Submission QuotaExceededException",
                Account,
                Hold,
                Some(Advice::MailboxFull),
            ),
            (
                FinalDot,
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
                Account,
                Hold,
                Some(Advice::DailyLimit),
            ),
            (
                FinalDot,
                "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
                Account,
                Hold,
                Some(Advice::DailyLimit),
            ),
            (
                FinalDot,
                "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException",
                Account,
                Hold,
                Some(Advice::SendingBlocked),
            ),
            (
                FinalDot,
                "550 5.1.8 Access denied, bad outbound sender AS(42004)",
                Account,
                Hold,
                Some(Advice::SendingBlocked),
            ),
            (FinalDot, "550 5.1.8 Sender blocked", Account, Hold, Some(Advice::SendingBlocked)),
            (
                Rcpt,
                "550 5.1.8 Access denied, bad outbound sender",
                Account,
                Hold,
                Some(Advice::SendingBlocked),
            ),
            (
                Rcpt,
                "550 5.1.8 <a@b.example>: Sender address rejected: Domain not found",
                Recipient,
                Bounce,
                Some(Advice::NoSuchRecipient),
            ),
            (Rcpt, "552 5.2.2 Mailbox full", Recipient, Bounce, Some(Advice::NoSuchRecipient)),
            (Rcpt, "552 5.3.4 Message too big for this mailbox", Message, Bounce, Some(Advice::TooLarge)),
            (
                Mail,
                "550 5.7.501 Access denied, spam abuse detected",
                Account,
                Hold,
                Some(Advice::SendingBlocked),
            ),
            (
                FinalDot,
                "552 5.3.4 Message size exceeds fixed maximum message size",
                Message,
                Bounce,
                Some(Advice::TooLarge),
            ),
            (
                FinalDot,
                "550 5.6.11 Invalid characters (bare LF)",
                Message,
                Bounce,
                Some(Advice::MessageRefused),
            ),
            (FinalDot, "554 5.6.0 Corrupt message content", Message, Bounce, Some(Advice::MessageRefused)),
            (
                FinalDot,
                "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant",
                Message,
                Bounce,
                Some(Advice::MessageRefused),
            ),
            (
                Mail,
                "550 5.7.705 Access denied, tenant has exceeded threshold",
                Tenant,
                Hold,
                Some(Advice::TenantBlocked),
            ),
            (
                Rcpt,
                "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains",
                Tenant,
                Hold,
                Some(Advice::TenantBlocked),
            ),
            (
                FinalDot,
                "550 5.7.232 Your message can't be sent because your trial tenant has exceeded its daily limit",
                Tenant,
                Hold,
                Some(Advice::TenantBlocked),
            ),
            (
                Connect,
                "451 4.7.500 Server busy. Please try again later",
                Account,
                Retry,
                Some(Advice::ServerBusy),
            ),
            (
                Mail,
                "451 4.7.651 The mail server has been temporarily rate limited",
                Account,
                Retry,
                Some(Advice::ServerBusy),
            ),
            (Mail, "450 4.7.851 Server busy", Account, Retry, Some(Advice::ServerBusy)),
            (Mail, "450 4.2.1 something new", Message, Retry, None),
            (Rcpt, "450 4.2.1 mailbox busy", Recipient, Retry, None),
            (FinalDot, "451 4.6.0 something new", Message, Retry, None),
            (FinalDot, "554 5.9.9 something new", Message, Bounce, Some(Advice::MessageRefused)),
            (Connect, "554 5.0.0 go away", Account, Hold, Some(Advice::ServerBusy)),
            (Ehlo, "502 5.5.1 no EHLO here", Account, Hold, Some(Advice::ServerBusy)),
            (Auth, "501 5.5.4 bad argument", Account, Hold, Some(Advice::LoginRefused)),
        ];
        for (stage, line, blame, action, advice) in rows {
            let v = judged(*stage, line);
            assert_eq!((v.blame, v.action, v.advice), (*blame, *action, *advice), "{stage}: {line}");
        }
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let least = |stage, line| judged(stage, line).not_before.as_secs();
        assert_eq!(least(Stage::FinalDot, "432 4.3.2 Concurrent connections limit exceeded"), 15);
        assert_eq!(least(Stage::Mail, "421 4.4.2 submission rate exceeded"), 60);
        assert_eq!(least(Stage::Connect, "451 4.7.500 Server busy"), 300);
        assert_eq!(
            least(Stage::FinalDot, "550 5.2.251 Sender throttled due to continuous mailbox full errors"),
            7200
        );
    }

    #[test]
    fn nothing_is_bounced_for_what_happens_before_the_login_is_through() {
        for stage in LOGIN {
            for code in [400, 421, 450, 454, 499, 500, 501, 535, 550, 552, 554, 599] {
                for text in ["x", "5.1.1 x", "5.3.4 x", "5.2.252 SendAsDenied", "4.4.2 x"] {
                    let v = judged(*stage, &format!("{code} {text}"));
                    assert_eq!(v.blame, Account, "{stage} {code} {text}");
                    assert_ne!(v.action, Bounce, "{stage} {code} {text}");
                }
            }
        }
    }

    fn token_failure(needs_a_person: bool) -> NoToken {
        let remedy = vec!["copy the column Value".to_owned()];
        NoToken { said: "x".into(), needs_a_person, retry_in: Duration::from_secs(77), remedy }
    }

    #[test]
    fn no_token_waits_as_long_as_the_endpoint_wants_and_says_what_to_do() {
        for (needs_a_person, advice) in [(true, Advice::NoToken), (false, Advice::TokenEndpoint)] {
            let v = judge(&Failure::new(Stage::Token, Cause::Token(token_failure(needs_a_person))));
            assert_eq!((v.advice, v.not_before.as_secs()), (Some(advice), 77));
            assert_eq!(v.remedy, ["copy the column Value"]);
            assert_eq!(v.tell_now, needs_a_person);
        }
    }

    #[test]
    fn a_refused_token_is_no_wrong_password_unless_the_text_names_something_else() {
        for (line, advice) in [
            ("5.7.3 Authentication unsuccessful", Advice::TokenRefused),
            ("5.7.139 Authentication unsuccessful", Advice::TokenRefused),
            (
                "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
                Advice::SmtpAuthDisabledForMailbox,
            ),
        ] {
            let cause = Cause::TokenRejected { reply: Reply::new(535, line), remedy: vec![] };
            let v = judge(&Failure::new(Stage::Auth, cause));
            assert_eq!((v.blame, v.action, v.advice), (Account, Hold, Some(advice)), "{line}");
        }
    }

    #[test]
    fn a_failure_without_a_reply_is_judged_by_its_stage() {
        let j = |stage, cause| {
            let v = judge(&Failure::new(stage, cause));
            (v.blame, v.action)
        };
        assert_eq!(j(Stage::Connect, Cause::Timeout), (Account, Retry));
        assert_eq!(j(Stage::Tls, Cause::NoStartTls), (Account, Hold));
        assert_eq!(j(Stage::Tls, Cause::Certificate("expired".into())), (Account, Hold));
        let handshake = |lasts| Cause::Handshake { said: "x".into(), lasts };
        assert_eq!(j(Stage::Tls, handshake(false)), (Account, Retry));
        assert_eq!(j(Stage::Tls, handshake(true)), (Account, Hold));
        assert_eq!(j(Stage::Auth, Cause::NoAuth), (Account, Hold));
        assert_eq!(j(Stage::Auth, Cause::Network("reset".into())), (Account, Retry));
        assert_eq!(j(Stage::Mail, Cause::Network("reset".into())), (Blame::Session, Retry));
        assert_eq!(j(Stage::FinalDot, Cause::Timeout), (Message, Retry));
        assert_eq!(j(Stage::Data, Cause::Body("gone".into())), (Message, Bounce));
        assert_eq!(j(Stage::Data, Cause::BodyForNow("too many open files".into())), (Message, Retry));
        let none = |needs_a_person| Cause::Token(token_failure(needs_a_person));
        assert_eq!(j(Stage::Token, none(false)), (Account, Retry));
        assert_eq!(j(Stage::Token, none(true)), (Account, Hold));
        assert_eq!(j(Stage::Rcpt, Cause::NoSmtpUtf8), (Recipient, Bounce));
        assert_eq!(j(Stage::Mail, Cause::NoSmtpUtf8), (Account, Hold));
        assert_eq!(j(Stage::Mail, Cause::TooLarge { size_bytes: 2, limit_bytes: 1 }), (Message, Bounce));
    }
}
