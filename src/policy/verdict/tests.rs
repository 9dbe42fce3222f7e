use super::Action::{Bounce, Hold, Pause, Retry};
use super::Blame::{Account, Message, Recipient, Sender, Tenant};
use super::*;
use crate::mail::NoToken;

fn judged(stage: Stage, line: &str) -> Verdict {
    let (code, text) = line.split_once(' ').unwrap();
    judge(&Failure::new(stage, Cause::Reply(Reply::new(code.parse().unwrap(), text))))
}

/// Every row of the table, as Exchange Online words it.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
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
        (Mail, "501 5.1.7 Invalid address", Sender, Bounce, Some(Advice::SenderRefused)),
        (Rcpt, "501 5.1.3 Invalid address", Recipient, Bounce, Some(Advice::NoSuchRecipient)),
        (Rcpt, "452 4.5.3 Too many recipients", Recipient, Retry, Some(Advice::TooManyRecipients)),
        (Rcpt, "550 5.1.1 User unknown", Recipient, Bounce, Some(Advice::NoSuchRecipient)),
        (Rcpt, "550 5.1.10 RESOLVER.ADR.RecipientNotFound", Recipient, Bounce, Some(Advice::NoSuchRecipient)),
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
        (Rcpt, "550 5.1.8 Access denied, bad outbound sender", Account, Hold, Some(Advice::SendingBlocked)),
        (
            Rcpt,
            "550 5.1.8 <a@b.example>: Sender address rejected: Domain not found",
            Sender,
            Bounce,
            Some(Advice::SenderRefused),
        ),
        (Rcpt, "552 5.2.2 Mailbox full", Recipient, Bounce, Some(Advice::RecipientFull)),
        (Rcpt, "552 5.3.4 Message too big for this mailbox", Message, Bounce, Some(Advice::TooLarge)),
        (Mail, "550 5.7.501 Access denied, spam abuse detected", Account, Hold, Some(Advice::SendingBlocked)),
        (
            FinalDot,
            "552 5.3.4 Message size exceeds fixed maximum message size",
            Message,
            Bounce,
            Some(Advice::TooLarge),
        ),
        (FinalDot, "550 5.6.11 Invalid characters (bare LF)", Message, Bounce, Some(Advice::MessageRefused)),
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
        (Connect, "554 5.0.0 go away", Account, Hold, Some(Advice::ServerRefuses)),
        (Ehlo, "502 5.5.1 no EHLO here", Account, Hold, Some(Advice::ServerRefuses)),
        (Auth, "501 5.5.4 bad argument", Account, Hold, Some(Advice::LoginRefused)),
    ];
    let misses: Vec<String> = rows
        .iter()
        .map(|(stage, line, blame, action, advice)| {
            (judged(*stage, line), stage, line, (*blame, *action, *advice))
        })
        .filter(|(v, _, _, right)| (v.blame, v.action, v.advice) != *right)
        .map(|(v, stage, line, _)| format!("{stage}: {line}: {:?} {:?} {:?}", v.blame, v.action, v.advice))
        .collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
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
    for stage in [Stage::Connect, Stage::Ehlo, Stage::Tls, Stage::Token, Stage::Auth] {
        for code in [400, 421, 450, 454, 499, 500, 501, 535, 550, 552, 554, 599] {
            for text in ["x", "5.1.1 x", "5.3.4 x", "5.2.252 SendAsDenied", "4.4.2 x"] {
                let v = judged(stage, &format!("{code} {text}"));
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
