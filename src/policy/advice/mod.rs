//! The advice catalogue: what a refusal means and what to do about it, one entry a cause, the same words in log,
//! status, notices, doctor and docs/errors.md.
//!
//! Invariant: an entry names a remedy that a person can carry out; where a remedy weakens the tenant, the safer one
//! comes first; slugs are addresses that stay. Must not know: which reply led here (`verdict` does), how it is shown.

mod device;
mod host;
mod limits;
mod login;
mod message;
mod relay;
mod sender;
mod server;

use crate::mail::Place;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One entry. In `steps` stand `{mailbox}`, `{smart_host}`, `{tenant}` and `{client_id}` for the account's own.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its anchor in docs/errors.md, and its name in JSON.
    pub slug: &'static str,
    /// A heading.
    pub title: &'static str,
    /// Who can end it.
    pub blame: Side,
    /// What an admin has before them when they search: replies as the server words them, `...` for what differs.
    pub texts: &'static [&'static str],
    /// What it means, in one lower-case sentence.
    pub meaning: &'static str,
    /// Said before the steps where waiting may be all there is to do.
    pub waiting: Option<&'static str>,
    /// What to do, most likely (and safest) first.
    pub steps: &'static [&'static str],
}

/// Whose fault a cause is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Exchange Online or another smart host itself.
    Service,
    /// Settings of the whole tenant.
    Tenant,
    /// The mailbox's settings, rights, licence or credentials.
    Mailbox,
    /// Whatever stands between this host and the smart host.
    Network,
    /// This host, its files or its configuration.
    Host,
    /// The message, its addresses, or the device that made it.
    Message,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "the smart host's service",
            Self::Tenant => "the tenant's settings",
            Self::Mailbox => "the mailbox's settings",
            Self::Network => "the network on the way",
            Self::Host => "this host",
            Self::Message => "the message or its device",
        })
    }
}

macro_rules! advice {
    ($($(#[$doc:meta])* $name:ident = $entry:path;)*) => {
        /// A cause with a known remedy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Advice { $($(#[$doc])* $name,)* }

        impl Advice {
            /// Every cause, in the order of the page.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its entry.
            pub fn entry(self) -> &'static Entry {
                match self { $(Self::$name => &$entry,)* }
            }
        }
    };
}

advice! {
    /// PRX1-9 and CPRX: temporary on its own, a misconfiguration when it stays.
    Proxy = login::PROXY;
    /// 535 5.7.139 ... disabled for the Mailbox.
    SmtpAuthDisabledForMailbox = login::DISABLED_FOR_MAILBOX;
    /// 535 5.7.139 ... disabled for the Tenant.
    SmtpAuthDisabledForTenant = login::DISABLED_FOR_TENANT;
    /// The password is wrong.
    WrongPassword = login::WRONG_PASSWORD;
    /// The account is locked.
    AccountLocked = login::LOCKED;
    /// The password has expired.
    PasswordExpired = login::PASSWORD_EXPIRED;
    /// Security defaults forbid basic authentication.
    SecurityDefaults = login::SECURITY_DEFAULTS;
    /// Conditional Access refuses the login.
    ConditionalAccess = login::CONDITIONAL_ACCESS;
    /// Basic authentication is switched off.
    BasicAuthDisabled = login::BASIC_AUTH_DISABLED;
    /// The login was refused without a better reason.
    LoginRefused = login::REFUSED;
    /// A good access token was refused at AUTH: the mailbox does not know the application.
    TokenRefused = login::TOKEN_REFUSED;
    /// The access token does not hold the permission to submit.
    TokenWithoutPermission = login::TOKEN_WITHOUT_PERMISSION;
    /// The sign-in service gives no token until somebody does something; its own words have the remedy.
    NoToken = login::NO_TOKEN;
    /// The token endpoint cannot be reached or is busy.
    TokenEndpoint = login::TOKEN_ENDPOINT;
    /// The server wants a login that was not made.
    NotAuthenticated = login::NOT_AUTHENTICATED;
    /// The mailbox cannot be opened: rights or licence.
    MailboxLogon = login::MAILBOX_LOGON;
    /// The server cannot be reached.
    Unreachable = server::UNREACHABLE;
    /// No AUTH mechanism we speak is offered.
    NoAuthOffered = server::NO_AUTH;
    /// STARTTLS is not offered, or the server insists on it.
    NoStartTls = server::NO_STARTTLS;
    /// The handshake was broken off, for another reason than the certificate.
    TlsHandshake = server::TLS_HANDSHAKE;
    /// The server's certificate cannot be verified.
    Certificate = server::CERTIFICATE;
    /// The server's certificate can be verified, and not for long.
    CertificateEnds = server::CERTIFICATE_ENDS;
    /// The server wants a newer TLS.
    TlsVersion = server::TLS_VERSION;
    /// The server is busy or throttles this address.
    ServerBusy = server::BUSY;
    /// The server lost patience with our commands.
    TooManyErrors = server::TOO_MANY_ERRORS;
    /// The password belongs to a federated sign-in that does not answer.
    Federation = login::FEDERATION;
    /// The access token ended before it was used.
    TokenExpired = login::TOKEN_EXPIRED;
    /// The login's own form is not accepted.
    LoginArgument = login::ARGUMENT;
    /// The provider wants a password made for programs.
    AppPassword = login::APP_PASSWORD;
    /// The provider wants a person to sign in once.
    BrowserLogin = login::BROWSER;
    /// SMTP is switched off for the mailbox, at another provider than Microsoft.
    SmtpOff = login::SMTP_OFF;
    /// The account is suspended or disabled.
    AccountSuspended = login::SUSPENDED;
    /// The smart host does not relay for this account or address.
    RelayDenied = relay::DENIED;
    /// A connector does not know this host.
    Connector = relay::CONNECTOR;
    /// Direct send is off.
    DirectSend = relay::DIRECT_SEND;
    /// This site's address is on a list.
    AddressBlocked = relay::ADDRESS_BLOCKED;
    /// The organisation of the recipients blocks this site's address.
    BlockedByRecipient = relay::BLOCKED_BY_RECIPIENT;
    /// This site's address has no name.
    ReverseDns = relay::REVERSE_DNS;
    /// The name this host gives itself is not accepted.
    HostName = relay::HOST_NAME;
    /// The server refuses before any message.
    ServerRefuses = relay::SERVER_REFUSES;
    /// Unknown words, and nothing ever went through.
    UnknownRefusal = relay::UNKNOWN;
    /// What answers is no SMTP server, or is masked.
    NotSmtp = server::NOT_SMTP;
    /// The server lost count of the dialogue.
    OutOfStep = server::OUT_OF_STEP;
    /// Too many connections for one mailbox.
    TooManyConnections = limits::CONNECTIONS;
    /// Too many messages a minute.
    SubmissionRate = limits::RATE;
    /// The mailbox has used up its recipients for 24 hours.
    DailyLimit = limits::DAILY;
    /// The sending mailbox is full.
    MailboxFull = limits::MAILBOX_FULL;
    /// Microsoft throttles the sender because of repeated refusals.
    SenderThrottled = limits::SENDER_THROTTLED;
    /// The mailbox is blocked for sending.
    SendingBlocked = limits::BLOCKED;
    /// The whole tenant may not send.
    TenantBlocked = limits::TENANT_BLOCKED;
    /// The mailbox may not send as this sender.
    SendAs = message::SEND_AS;
    /// The provider's own limit is reached.
    ProviderLimit = limits::PROVIDER;
    /// An onmicrosoft.com sender has reached its limit.
    OnmicrosoftSender = limits::ONMICROSOFT;
    /// More recipients than one message may have.
    TooManyRecipients = limits::RECIPIENTS;
    /// Another smart host does not let the account send as this sender.
    SenderNotOurs = sender::NOT_OURS;
    /// The sender or its domain was never verified at the provider.
    SenderNotVerified = sender::NOT_VERIFIED;
    /// The sender's address is refused.
    SenderRefused = sender::REFUSED;
    /// SPF, DKIM or DMARC of the sender's domain.
    SenderAuthentication = sender::AUTHENTICATION;
    /// High Volume Email wants its own address as sender.
    HighVolumeSender = sender::HIGH_VOLUME;
    /// The message is larger than the server takes.
    TooLarge = message::TOO_LARGE;
    /// The server takes less than devices may send.
    SizeBelowOurs = message::SIZE_BELOW_OURS;
    /// The address does not exist.
    NoSuchRecipient = message::NO_SUCH_RECIPIENT;
    /// The header alone is larger than the server takes.
    HeaderTooLarge = message::HEADER_TOO_LARGE;
    /// It goes in circles.
    MailLoop = message::LOOP;
    /// A virus scanner refuses it.
    Virus = message::VIRUS;
    /// A filter refuses its content.
    ContentRefused = message::CONTENT;
    /// The tenant's own list blocks it.
    TenantAllowBlockList = message::TENANT_LIST;
    /// The recipient's mailbox is full.
    RecipientFull = message::RECIPIENT_FULL;
    /// The recipient gets too much mail at this time.
    RecipientBusy = message::RECIPIENT_BUSY;
    /// The recipient takes mail of some senders only.
    RecipientRestricted = message::RECIPIENT_RESTRICTED;
    /// High Volume Email takes internal recipients only.
    HighVolumeRecipient = message::HIGH_VOLUME_RECIPIENT;
    /// A recipient is refused, and the words do not say why.
    RecipientRefused = message::RECIPIENT_REFUSED;
    /// The recipient's own host refuses, and the server passes it on.
    ForeignHost = message::FOREIGN_HOST;
    /// An address needs SMTPUTF8, which the server does not offer.
    NoSmtpUtf8 = message::NO_SMTPUTF8;
    /// The message as such was refused.
    MessageRefused = message::REFUSED;
    /// The stored content could not be read.
    BodyUnreadable = host::BODY_UNREADABLE;
    /// The configuration is wrong.
    Configuration = host::CONFIGURATION;
    /// The configuration works, and is hardly meant like that.
    DoubtfulConfiguration = host::DOUBTFUL_CONFIGURATION;
    /// What tokens are asked for with ends soon.
    CredentialEnds = host::CREDENTIAL_ENDS;
    /// A secret can be read by others.
    FilesOpen = host::FILES_OPEN;
    /// The queue's directory cannot be used as it is.
    QueueDirectory = host::QUEUE_DIRECTORY;
    /// The relay does not run.
    NotRunning = host::NOT_RUNNING;
    /// A listener's address is not ours.
    ListenerTaken = host::LISTENER_TAKEN;
    /// This host's clock is wrong.
    Clock = host::CLOCK;
    /// An address outside every client wants to relay.
    DeviceRefused = device::REFUSED;
    /// A device speaks TLS on a plain port.
    DeviceTls = device::TLS;
    /// A device wants to log in where it cannot.
    DeviceLogin = device::LOGIN;
    /// A device sends more than `max_message_size`.
    DeviceTooLarge = device::TOO_LARGE;
    /// A device never sends the end of data.
    DeviceNoEnd = device::NO_END;
    /// A client sends more messages a minute than it may, or holds more connections.
    DeviceTooMuch = device::TOO_MUCH;
    /// A client may not write to this recipient.
    DeviceRecipient = device::RECIPIENT;
    /// What a device speaks is not SMTP.
    DeviceNotSmtp = device::NOT_SMTP;
}

/// Whom and what an entry is filled in with.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The account's mailbox.
    pub mailbox: &'a str,
    /// `host:port`.
    pub smart_host: &'a Place,
}

/// The application an account logs in with, where it uses OAuth.
#[derive(Debug, Clone, Copy)]
pub struct App<'a> {
    /// Directory (tenant) id or a domain.
    pub tenant: &'a str,
    /// Application (client) id.
    pub client_id: &'a str,
}

impl Advice {
    /// What it means, in one lower-case sentence.
    pub fn meaning(self) -> &'static str {
        self.entry().meaning
    }

    /// What to do, one step a line, most likely (and safest) first.
    pub fn remedy(self, about: About<'_>) -> Vec<String> {
        self.remedy_with(about, None)
    }

    /// The same with the application's ids filled in; unknown ones stay in capitals.
    pub fn remedy_with(self, about: About<'_>, app: Option<App<'_>>) -> Vec<String> {
        let entry = self.entry();
        entry.waiting.iter().chain(entry.steps).map(|step| fill(step, about, app)).collect()
    }

    /// What a person does first, where waiting was not enough.
    pub fn first_step(self, about: About<'_>) -> Option<String> {
        let entry = self.entry();
        entry.steps.first().or(entry.waiting.as_ref()).map(|step| fill(step, about, None))
    }

    /// Whether a fault that calls itself temporary can be a setting all the same: something answers, and it may be
    /// this account alone that it does not like. A network or a service out of order is none.
    pub fn may_be_a_setting(self) -> bool {
        matches!(self, Self::Proxy | Self::MailboxLogon | Self::TlsHandshake)
    }

    /// The command that prints it.
    pub fn command(self) -> String {
        command(self.entry().slug)
    }
}

fn fill(step: &str, about: About<'_>, app: Option<App<'_>>) -> String {
    let app = app.unwrap_or(App { tenant: "TENANT", client_id: "CLIENT_ID" });
    step.replace("{mailbox}", about.mailbox)
        .replace("{smart_host}", &about.smart_host.to_string())
        .replace("{tenant}", app.tenant)
        .replace("{client_id}", app.client_id)
}

/// The command that prints the entry of this slug, for messages: a host may have no internet.
pub fn command(slug: &str) -> String {
    format!("mailferry explain {slug}")
}

/// Where the documentation has this slug.
pub fn link(slug: &str) -> String {
    format!("docs/errors.md#{slug}")
}

/// Shared by the entries that end with it.
const ENABLE: &str = "enable authenticated smtp for the mailbox: Set-CASMailbox -Identity {mailbox} \
                      -SmtpClientAuthenticationDisabled $false (or admin center > Active users > the user > Mail > \
                      Manage email apps > Authenticated SMTP); it takes up to an hour";
/// Ends a hold before its next probe.
const KICK: &str = "once that is mended, systemctl reload mailferry tries the account at once";
const OAUTH: &str = "log in with oauth in place of the password: docs/microsoft-365.md";
const EXCLUDE: &str = "or exclude {mailbox} alone in a conditional access policy, limited to this site's address: entra \
                       admin center > Protection > Conditional Access";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Cause, Failure, Reply, Stage};
    use crate::policy::verdict::judge;
    use std::collections::HashSet;

    const ABOUT: About<'_> =
        About { mailbox: "scanner@contoso.com", smart_host: &Place::known("smtp.office365.com", 587) };

    #[test]
    fn the_organisation_switch_is_printed_the_right_way_round() {
        let text = Advice::Proxy.remedy(ABOUT).join("\n");
        assert!(text.contains(
            "Set-CASMailbox -Identity scanner@contoso.com -SmtpClientAuthenticationDisabled $false"
        ));
        assert!(text.contains("Set-TransportConfig -SmtpClientAuthenticationDisabled $true"));
        let (safer, weaker) = (text.find("conditional access").unwrap(), text.find("weakens").unwrap());
        assert!(safer < weaker && text.find("oauth").unwrap() < weaker);
    }

    #[test]
    fn what_weakens_the_tenant_is_always_the_last_resort() {
        for advice in Advice::ALL {
            let steps = advice.remedy(ABOUT);
            let weak = steps.iter().position(|s| s.contains("weakens"));
            assert!(weak.is_none_or(|i| i + 1 == steps.len() && i > 0), "{advice:?}: {steps:?}");
        }
    }

    #[test]
    fn every_entry_is_whole_and_every_placeholder_is_filled() {
        let mut slugs = HashSet::new();
        for advice in Advice::ALL {
            let e = advice.entry();
            assert!(slugs.insert(e.slug), "{} twice", e.slug);
            assert!(
                e.slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                e.slug
            );
            assert!(
                !e.title.is_empty() && !advice.remedy(ABOUT).is_empty() && !e.texts.is_empty(),
                "{}",
                e.slug
            );
            assert!(e.meaning.starts_with(char::is_lowercase) && !e.meaning.ends_with('.'), "{}", e.meaning);
            for step in advice.remedy(ABOUT) {
                assert!(!step.contains(['{', '}']), "{step}");
            }
        }
    }

    #[test]
    fn a_reply_of_the_catalogue_leads_to_its_own_entry() {
        let stages =
            [Stage::Connect, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::FinalDot];
        // What the doctor and the dispatcher know beyond the reply: that there was a token.
        let told_apart = [Advice::TokenRefused, Advice::ForeignHost];
        for advice in Advice::ALL.iter().filter(|a| !told_apart.contains(a)) {
            for text in advice.entry().texts {
                let Some((code, rest)) = text.split_at_checked(3) else { continue };
                let Ok(code) = code.parse::<u16>() else { continue };
                let reply = Reply::new(code, rest.trim_start());
                let leads =
                    |s: &Stage| judge(&Failure::new(*s, Cause::Reply(reply.clone()))).advice == Some(*advice);
                assert!(stages.iter().any(leads), "{text:?} does not lead to {}", advice.entry().slug);
            }
        }
    }
}
