//! What a refusal means and what to do about it: one entry a cause, the same words in log, status and notices.
//!
//! Invariant: an entry names a remedy that a person can carry out; where the remedy weakens the tenant, the safer
//! one comes first. Must not know: which reply led here (`verdict` does), how it is shown.

use serde::{Deserialize, Serialize};

/// A cause with a known remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// PRX1-9 and CPRX: temporary on its own, a misconfiguration when it stays.
    Proxy,
    /// 535 5.7.139 ... disabled for the Tenant.
    SmtpAuthDisabledForTenant,
    /// 535 5.7.139 ... disabled for the Mailbox.
    SmtpAuthDisabledForMailbox,
    /// The password is wrong.
    WrongPassword,
    /// The account is locked.
    AccountLocked,
    /// The password has expired.
    PasswordExpired,
    /// Security defaults forbid basic authentication.
    SecurityDefaults,
    /// Conditional Access refuses the login.
    ConditionalAccess,
    /// Basic authentication is switched off.
    BasicAuthDisabled,
    /// The login was refused without a better reason.
    LoginRefused,
    /// The server wants a login that was not made.
    NotAuthenticated,
    /// No AUTH mechanism we speak is offered.
    NoAuthOffered,
    /// STARTTLS is not offered, or the server insists on it.
    NoStartTls,
    /// The server's certificate cannot be verified.
    Certificate,
    /// The server wants a newer TLS.
    TlsVersion,
    /// The mailbox may not send as this sender.
    SendAs,
    /// Microsoft throttles the sender because of repeated refusals.
    SenderThrottled,
    /// The sending mailbox is full.
    MailboxFull,
    /// The mailbox has used up its recipients for 24 hours.
    DailyLimit,
    /// The mailbox or tenant is blocked for sending.
    SendingBlocked,
    /// The mailbox cannot be opened: rights or licence.
    MailboxLogon,
    /// Too many connections for one mailbox.
    TooManyConnections,
    /// Too many messages a minute.
    SubmissionRate,
    /// The server lost patience with our commands.
    TooManyErrors,
    /// The whole tenant may not send.
    TenantBlocked,
    /// The server is busy or throttles this address.
    ServerBusy,
    /// The message is larger than the server takes.
    TooLarge,
    /// The address does not exist.
    NoSuchRecipient,
    /// An address needs SMTPUTF8, which the server does not offer.
    NoSmtpUtf8,
    /// The message as such was refused.
    MessageRefused,
    /// The stored content could not be read.
    BodyUnreadable,
    /// The server cannot be reached.
    Unreachable,
    /// The sign-in service gives no token until somebody does something.
    TokenRefused,
    /// The sign-in service gives no token for now.
    TokenUnavailable,
    /// The smart host does not take the mailbox's token.
    TokenRejected,
}

/// Whom and what an entry is filled in with.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The account's mailbox.
    pub mailbox: &'a str,
    /// `host:port`.
    pub smart_host: &'a str,
}

impl Advice {
    /// What it means, in one lower-case sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Proxy => {
                "exchange online could not set up the mailbox's session; usually it passes by itself"
            }
            Self::SmtpAuthDisabledForTenant => {
                "authenticated smtp is switched off for the whole organisation"
            }
            Self::SmtpAuthDisabledForMailbox => "authenticated smtp is switched off for this mailbox",
            Self::WrongPassword => "the user name or password is wrong",
            Self::AccountLocked => "the account is locked",
            Self::PasswordExpired => "the password has expired",
            Self::SecurityDefaults => "the tenant's security defaults forbid a login with a password",
            Self::ConditionalAccess => "a conditional access policy refuses this login",
            Self::BasicAuthDisabled => "logins with a password are switched off at microsoft's side",
            Self::LoginRefused => "the login was refused",
            Self::NotAuthenticated => "the server wants a login before it takes mail",
            Self::NoAuthOffered => "the server offers no login that mailferry can use",
            Self::NoStartTls => "the connection cannot be encrypted, so neither password nor mail was sent",
            Self::Certificate => {
                "the server's certificate cannot be trusted, so neither password nor mail was sent"
            }
            Self::TlsVersion => "the server asks for another tls version",
            Self::SendAs => "the mailbox may not send with this sender address",
            Self::SenderThrottled => "microsoft throttles this mailbox because of many refused messages",
            Self::MailboxFull => "the sending mailbox is full (copies in sent items count)",
            Self::DailyLimit => "the mailbox has reached its limit of recipients a day",
            Self::SendingBlocked => "microsoft has blocked this mailbox from sending",
            Self::MailboxLogon => {
                "the server cannot open the mailbox; usually a right or a licence is missing"
            }
            Self::TooManyConnections => "the mailbox has too many connections at once",
            Self::SubmissionRate => "the mailbox sends too many messages a minute",
            Self::TooManyErrors => "the server has seen too many errors from this address",
            Self::TenantBlocked => "the whole tenant is blocked or limited in sending",
            Self::ServerBusy => "the server is busy or throttles this address",
            Self::TooLarge => "the message is larger than the server takes",
            Self::NoSuchRecipient => "the recipient's address is refused",
            Self::NoSmtpUtf8 => "an address has letters beyond ascii, which the server cannot take",
            Self::MessageRefused => "the message was refused",
            Self::BodyUnreadable => "the stored message cannot be read from the disk",
            Self::Unreachable => "the server cannot be reached",
            Self::TokenRefused => "the sign-in service gives no access token until somebody does something",
            Self::TokenUnavailable => "the sign-in service gives no access token for now",
            Self::TokenRejected => "exchange online does not take the access token for this mailbox",
        }
    }

    /// What to do, one step a line, most likely (and safest) first.
    pub fn remedy(self, about: About<'_>) -> Vec<String> {
        let mailbox = about.mailbox;
        let host = about.smart_host;
        let enable = format!(
            "enable authenticated smtp for the mailbox: Set-CASMailbox -Identity {mailbox} \
             -SmtpClientAuthenticationDisabled $false (or admin center > Active users > the user > Mail > \
             Manage email apps > Authenticated SMTP); it takes up to an hour"
        );
        let lines: Vec<String> = match self {
            Self::Proxy => vec![
                "nothing, if it ends within minutes: every message is kept and sent then".into(),
                format!("{mailbox} must be a licensed user mailbox, not a shared mailbox"),
                enable,
                "leave it off for the organisation (Set-TransportConfig -SmtpClientAuthenticationDisabled $true) \
                 and on for the mailboxes that need it: the mailbox's setting wins"
                    .into(),
                format!(
                    "if security defaults or mfa stand in the way: exclude {mailbox} alone by a conditional access \
                     policy before you think of switching either off; switching them off weakens the whole tenant"
                ),
            ],
            Self::SmtpAuthDisabledForTenant | Self::SmtpAuthDisabledForMailbox => vec![enable],
            Self::WrongPassword => vec![
                format!("put the right password for {mailbox} in its password file, then: systemctl reload mailferry"),
                "the login is tried rarely meanwhile, so that the account is not locked".into(),
            ],
            Self::AccountLocked => vec![format!(
                "wait for the lockout to end, or reset {mailbox} in the entra admin center; look for another device \
                 that still uses an old password"
            )],
            Self::PasswordExpired => vec![format!(
                "set a new password for {mailbox} (Update-MgUser -UserId {mailbox} -PasswordPolicies \
                 DisablePasswordExpiration keeps it), put it in the password file, then: systemctl reload mailferry"
            )],
            Self::SecurityDefaults | Self::ConditionalAccess => vec![
                format!("exclude {mailbox} alone in a conditional access policy, limited to this site's address"),
                "the sign-in log of the mailbox in the entra admin center names the policy".into(),
                "switching security defaults off weakens the whole tenant: the last resort".into(),
            ],
            Self::BasicAuthDisabled => vec![
                format!("let {mailbox} log in with oauth: docs/microsoft-365.md has the way, step by step"),
                "an admin can turn basic authentication for smtp on again for a while: see microsoft's notice on \
                 smtp auth"
                    .into(),
                "or submit through a connector (smarthost = \"<tenant>.mail.protection.outlook.com:25\", no password)"
                    .into(),
            ],
            Self::LoginRefused => {
                vec![format!("check user, password and licence of {mailbox} by signing in at outlook.office.com"), enable]
            }
            Self::NotAuthenticated => {
                vec![format!("give the account for {mailbox} a password; without one {host} takes no mail"), enable]
            }
            Self::NoAuthOffered => {
                vec![format!("is {host} the right server and port (587)? a firewall may be answering in its place")]
            }
            Self::NoStartTls => {
                vec![format!("is {host} the right server and port (587)? switch off smtp inspection in the firewall")]
            }
            Self::Certificate => vec![
                format!("a firewall that inspects tls must leave {host} alone"),
                "for a smart host with a certificate of your own, name its ca in ca_file".into(),
                "check this host's date and time".into(),
            ],
            Self::TlsVersion => vec![format!("is there a proxy between this host and {host}? mailferry speaks tls 1.2 and 1.3")],
            Self::SendAs => vec![
                format!("let mailferry rewrite it: remove the address from send_as of {mailbox}"),
                format!("or allow it: Add-RecipientPermission -Identity ADDRESS -Trustee {mailbox} -AccessRights SendAs"),
                "then bring the message back: mailferry queue retry ID".into(),
            ],
            Self::SenderThrottled => vec![
                "find the cause among the dead letters (mailferry queue list --state dead): full mailbox, send-as, \
                 invalid recipients; it is lifted by itself some hours after the refusals end"
                    .into(),
            ],
            Self::MailboxFull => vec![
                format!("empty Sent Items of {mailbox}"),
                format!("and stop the copies: Set-Mailbox {mailbox} -MessageCopyForSMTPClientSubmissionEnabled $false"),
            ],
            Self::DailyLimit => vec![
                "wait: it is a rolling day, and everything is kept".into(),
                "for more than 10,000 recipients a day use a second mailbox or high volume email".into(),
            ],
            Self::SendingBlocked => vec![format!(
                "microsoft defender portal > Email & collaboration > Review > Restricted entities: unblock {mailbox}, \
                 after finding out what was sent"
            )],
            Self::MailboxLogon => vec![
                format!("{mailbox} must be a licensed user mailbox, not shared, not on litigation of its licence"),
                enable,
            ],
            Self::TooManyConnections => vec![format!(
                "nothing: mailferry goes on with fewer. is another program sending as {mailbox}? three are allowed"
            )],
            Self::SubmissionRate => vec![format!(
                "nothing: mailferry waits. is another program sending as {mailbox}? thirty a minute are allowed"
            )],
            Self::TooManyErrors => vec!["look at the replies before this one: mailferry queue show ID".into()],
            Self::TenantBlocked => vec![
                "microsoft 365 admin center > Health, and the defender portal > Restricted entities; a new or trial \
                 tenant may not send much: open a case with microsoft"
                    .into(),
            ],
            Self::ServerBusy => vec!["nothing: mailferry waits and tries again".into()],
            Self::TooLarge => vec![
                "scan with fewer dots an inch or in fewer pages".into(),
                format!("or raise the limit: Set-Mailbox {mailbox} -MaxSendSize 150MB"),
            ],
            Self::NoSuchRecipient => vec!["correct the address in the device's address book".into()],
            Self::NoSmtpUtf8 => vec!["use an address of plain letters for this recipient".into()],
            Self::MessageRefused => {
                vec!["the server's words say why; once that is mended: mailferry queue retry ID".into()]
            }
            Self::BodyUnreadable => vec![
                "the file under bodies/ is damaged or was removed: restore it from a backup, then mailferry queue \
                 retry ID; check the disk"
                    .into(),
            ],
            Self::TokenRefused => vec![
                format!("compare tenant, client_id and the credential of {mailbox} with the app's registration in the entra admin center"),
                "its words name the cause: docs/troubleshooting.md explains the numbers".into(),
            ],
            Self::TokenUnavailable => vec![
                "nothing, if it ends within minutes: every message is kept and sent then".into(),
                "can this host reach the sign-in service? check dns, route and firewall (port 443 out)".into(),
            ],
            Self::TokenRejected => vec![
                "New-ServicePrincipal -AppId CLIENT_ID -ObjectId OBJECT_ID, with the object id of the enterprise \
                 application, not the app registration's"
                    .into(),
                format!("Add-MailboxPermission -Identity {mailbox} -User OBJECT_ID -AccessRights FullAccess"),
                "has the application SMTP.SendAsApp with admin consent? a change takes up to an hour".into(),
            ],
            Self::Unreachable => vec![format!("can this host reach {host}? check dns, route and firewall (port 587 out)")],
        };
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organisation_switch_is_printed_the_right_way_round() {
        let about = About { mailbox: "scanner@contoso.com", smart_host: "smtp.office365.com:587" };
        let text = Advice::Proxy.remedy(about).join("\n");
        assert!(text.contains(
            "Set-CASMailbox -Identity scanner@contoso.com -SmtpClientAuthenticationDisabled $false"
        ));
        assert!(text.contains("Set-TransportConfig -SmtpClientAuthenticationDisabled $true"));
        let (safer, weaker) = (text.find("conditional access").unwrap(), text.find("weakens").unwrap());
        assert!(safer < weaker);
    }
}
