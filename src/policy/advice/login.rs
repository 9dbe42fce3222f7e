//! Entries: the login, and what stands behind it in the tenant.

use super::{ENABLE, EXCLUDE, Entry, KICK, OAUTH, Side};

pub(super) static PROXY: Entry = Entry {
    slug: "prx4",
    title: "451 4.7.0 Temporary server error ... PRX4",
    blame: Side::Service,
    texts: &[
        "451 4.7.0 Temporary server error. Please try again later. PRX4",
        "451 4.7.0 Temporary server error. Please try again later. PRX1",
        "451 4.7.0 Temporary server error. Please try again later. PRX2",
        "451 4.7.0 Temporary server error. Please try again later. PRX3",
        "451 4.7.0 Temporary server error. Please try again later. PRX5",
        "451 4.7.0 Temporary server error. Please try again later. PRX6",
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit PRX7",
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit PRX8",
        "451 4.7.0 Temporary server error. Please try again later. PRX9",
        "451 4.7.0 Temporary server error. Please try again later. CPRX1",
        "451 4.7.0 Temporary server error. Please try again later. CPRX2",
    ],
    meaning: "exchange online could not set up the mailbox's session; usually it passes by itself, and when it stays it \
              is a setting of the mailbox",
    waiting: Some("nothing, if it ends within minutes: every message is kept and sent then"),
    steps: &[
        "{mailbox} must be a licensed user mailbox, not a shared mailbox (one of these is reported to work with rbac for \
         applications only): Get-Mailbox {mailbox} | Format-List RecipientTypeDetails,SkuAssigned",
        ENABLE,
        "leave it off for the organisation (Set-TransportConfig -SmtpClientAuthenticationDisabled $true; $false would \
         enable it for everybody) and on for the mailboxes that need it: the mailbox's setting wins, only an empty one \
         inherits",
        "if security defaults or mfa stand in the way of the password: log in with oauth, docs/microsoft-365.md",
        EXCLUDE,
        "last resort, it weakens the whole tenant: security defaults off (entra admin center > Properties > Manage \
         security defaults), or mfa off for the mailbox",
    ],
};

pub(super) static DISABLED_FOR_MAILBOX: Entry = Entry {
    slug: "smtp-auth-disabled-for-the-mailbox",
    title: "535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox",
    blame: Side::Mailbox,
    texts: &[
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit \
         https://aka.ms/smtp_auth_disabled for more information.",
        "550 5.7.57 Client was not authenticated to send anonymous mail during MAIL FROM. Error: 535 5.7.139 \
         Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
    ],
    meaning: "authenticated smtp is switched off for this mailbox",
    waiting: None,
    steps: &[ENABLE, "to see it: Get-CASMailbox {mailbox} | Format-List SmtpClientAuthenticationDisabled"],
};

pub(super) static DISABLED_FOR_TENANT: Entry = Entry {
    slug: "smtp-auth-disabled-for-the-tenant",
    title: "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant",
    blame: Side::Tenant,
    texts: &[
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit \
         https://aka.ms/smtp_auth_disabled for more information.",
    ],
    meaning: "authenticated smtp is switched off for the whole organisation, and the mailbox inherits it",
    waiting: None,
    steps: &[
        ENABLE,
        "leave the organisation's switch as it is: the mailbox's own setting wins over it",
        "to see both: Get-TransportConfig | Format-List SmtpClientAuthenticationDisabled; Get-CASMailbox {mailbox} | \
         Format-List SmtpClientAuthenticationDisabled",
    ],
};

pub(super) static WRONG_PASSWORD: Entry = Entry {
    slug: "wrong-password",
    title: "535 5.7.139 the user credentials were incorrect",
    blame: Side::Mailbox,
    texts: &["535 5.7.139 Authentication unsuccessful, the user credentials were incorrect."],
    meaning: "the user name or password is wrong",
    waiting: None,
    steps: &[
        "put the right password for {mailbox} in its password file, then: systemctl reload mailferry \
         (restart, where it is a systemd credential)",
        "does the user name differ from the mailbox's address? then set login in its [[account]]: Get-Mailbox {mailbox} \
         | Format-List UserPrincipalName",
        "the login is tried rarely meanwhile, so that the account is not locked",
    ],
};

pub(super) static LOCKED: Entry = Entry {
    slug: "account-locked",
    title: "535 5.7.139 your account is locked",
    blame: Side::Mailbox,
    texts: &[
        "535 5.7.139 Authentication unsuccessful, the request is blocked because the account is locked.",
        "535 5.7.139 Authentication unsuccessful, your account is locked.",
    ],
    meaning: "the account is locked",
    waiting: None,
    steps: &[
        "wait for the lockout to end, or reset {mailbox} in the entra admin center; look for another device that still \
         uses an old password (Users > {mailbox} > Sign-in logs)",
    ],
};

pub(super) static PASSWORD_EXPIRED: Entry = Entry {
    slug: "password-expired",
    title: "535 5.7.139 the password has expired",
    blame: Side::Mailbox,
    texts: &["535 5.7.139 Authentication unsuccessful, the user's password has expired."],
    meaning: "the password has expired",
    waiting: None,
    steps: &[
        "set a new password for {mailbox} (Update-MgUser -UserId {mailbox} -PasswordPolicies DisablePasswordExpiration \
         keeps it), put it in the password file, then: systemctl reload mailferry \
         (restart, where it is a systemd credential)",
    ],
};

pub(super) static SECURITY_DEFAULTS: Entry = Entry {
    slug: "security-defaults",
    title: "535 5.7.139 locked by your organization's security defaults policy",
    blame: Side::Tenant,
    texts: &[
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. \
         Contact your administrator.",
    ],
    meaning: "the tenant's security defaults forbid a login with a password",
    waiting: None,
    steps: &[
        "log in with oauth by client credentials: no user signs in, and security defaults stay on; docs/microsoft-365.md",
        "or replace security defaults by conditional access policies (Entra ID P1) and exclude {mailbox} alone, limited \
         to this site's address",
        "switching security defaults off weakens the whole tenant: the last resort",
    ],
};

pub(super) static CONDITIONAL_ACCESS: Entry = Entry {
    slug: "conditional-access",
    title: "535 5.7.139 did not meet the criteria to be authenticated successfully",
    blame: Side::Tenant,
    texts: &[
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated \
         successfully. Contact your administrator.",
    ],
    meaning: "a conditional access policy refuses this login",
    waiting: None,
    steps: &[
        "entra admin center > Users > {mailbox} > Sign-in logs: the tab Conditional Access names the policy",
        OAUTH,
        EXCLUDE,
    ],
};

pub(super) static BASIC_AUTH_DISABLED: Entry = Entry {
    slug: "basic-authentication-disabled",
    title: "550 5.7.30 Basic authentication is not supported for Client Submission",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
    ],
    meaning: "logins with a password are switched off at microsoft's side",
    waiting: None,
    steps: &[
        OAUTH,
        "or submit through a connector (smarthost = \"<tenant>.mail.protection.outlook.com:25\", no password)",
        "for a while, an admin can turn it on again: see microsoft's notice on smtp auth, and whether an authentication \
         policy blocks it: Get-User {mailbox} | Format-List AuthenticationPolicy; Get-AuthenticationPolicy | Format-List \
         Name,AllowBasicAuthSmtp",
    ],
};

pub(super) static REFUSED: Entry = Entry {
    slug: "login-refused",
    title: "535 5.7.3 Authentication unsuccessful",
    blame: Side::Mailbox,
    texts: &[
        "535 5.7.3 Authentication unsuccessful",
        "535 5.7.8 Error: authentication failed",
        "535 5.7.139 Authentication unsuccessful",
    ],
    meaning: "the login was refused",
    waiting: None,
    steps: &[
        "check user, password and licence of {mailbox} by signing in at outlook.office.com",
        "at another provider: its smtp credentials, which may be an api key, and the user name it gives with them, are often \
         not those a person signs in with; make new ones in its portal",
        ENABLE,
        "mfa cannot be asked of a relay: log in with oauth, docs/microsoft-365.md",
        EXCLUDE,
    ],
};

pub(super) static TOKEN_REFUSED: Entry = Entry {
    slug: "token-refused",
    title: "535 5.7.3 Authentication unsuccessful, with OAuth",
    blame: Side::Mailbox,
    texts: &["535 5.7.3 Authentication unsuccessful"],
    meaning: "the sign-in service gave a token, and exchange online does not let it into the mailbox",
    waiting: None,
    steps: &[
        "is the application known to exchange? Get-ServicePrincipal | Where-Object AppId -eq {client_id}; if not: \
         New-ServicePrincipal -AppId {client_id} -ObjectId OBJECT_ID, with the object id of entra admin center > \
         Enterprise apps (not of App registrations; the claim oid has it)",
        "with rbac for applications (the token then has no roles): Test-ServicePrincipalAuthorization -Identity OBJECT_ID \
         -Resource {mailbox} must show Application SMTP.SendAsApp and InScope True; neither an api permission nor FullAccess \
         is needed then, and both are better left out",
        "with SMTP.SendAsApp as api permission: Add-MailboxPermission -Identity {mailbox} -User OBJECT_ID -AccessRights \
         FullAccess",
        "at high volume email (smtp.hve.mx.microsoft): the api permission is Mail.Send, then Add-HVEAppAccess -Identity \
         {mailbox} -AppIds OBJECT_ID",
        "after a device code no service principal is needed: was {mailbox} itself signed in (the claim upn)?",
        ENABLE,
        "wait: these take up to an hour to arrive, a role of rbac for applications 30 minutes to 2 hours",
    ],
};

pub(super) static TOKEN_WITHOUT_PERMISSION: Entry = Entry {
    slug: "token-without-permission",
    title: "The access token does not permit SMTP submission",
    blame: Side::Tenant,
    texts: &["the token has neither the role SMTP.SendAsApp nor the scope SMTP.Send"],
    meaning: "the token is good, but the permission to submit is not in it",
    waiting: None,
    steps: &[
        "with rbac for applications the token needs none, and this may be left as it is: Test-ServicePrincipalAuthorization \
         -Identity OBJECT_ID -Resource {mailbox} shows the role (InScope True)",
        "otherwise: entra admin center > App registrations > {client_id} > API permissions > Add > APIs my organization uses > \
         Office 365 Exchange Online > Application permissions > SMTP.SendAsApp (at high volume email: Mail.Send; after \
         a device code: Delegated > SMTP.Send)",
        "then Grant admin consent, by the button there",
    ],
};

pub(super) static NO_TOKEN: Entry = Entry {
    slug: "no-token",
    title: "The sign-in service refuses a token",
    blame: Side::Tenant,
    texts: &["getting a token: no access token: AADSTS..."],
    meaning: "the sign-in service gives no access token until somebody does something",
    waiting: None,
    steps: &[
        "the AADSTS number in the line says what: mailferry explain AADSTS..., with the number",
        "and the sign-in log of the application {client_id} in the entra admin center says why",
    ],
};

pub(super) static TOKEN_ENDPOINT: Entry = Entry {
    slug: "token-endpoint",
    title: "The sign-in service gives no token",
    blame: Side::Network,
    texts: &[
        "getting a token: no access token: the token endpoint answered 503",
        "getting a token: no access token: the token endpoint answered 429",
        "the token endpoint cannot be reached",
        "the token endpoint does not answer in time",
        "the token endpoint's certificate cannot be verified",
        "something that is no token endpoint answers in its place",
    ],
    meaning: "the sign-in service cannot be reached, or is busy; mail waits",
    waiting: Some(
        "nothing, if it ends within minutes; https://status.cloud.microsoft tells of known outages",
    ),
    steps: &[
        "can this host reach it? curl -sSI https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        "check dns, route and firewall (port 443 out; a proxy goes into [network] https_proxy); one that inspects tls must leave the sign-in \
         service alone",
    ],
};

pub(super) static NOT_AUTHENTICATED: Entry = Entry {
    slug: "not-authenticated",
    title: "5.7.57 Client was not authenticated to send anonymous mail",
    blame: Side::Mailbox,
    texts: &[
        "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM",
        "550 5.7.57 Client was not authenticated to send anonymous mail during MAIL FROM",
        "530 5.7.0 Authentication required",
    ],
    meaning: "the server wants a login before it takes mail",
    waiting: None,
    steps: &[
        "give the account for {mailbox} a password or oauth; without one {smart_host} takes no mail",
        ENABLE,
    ],
};

pub(super) static MAILBOX_LOGON: Entry = Entry {
    slug: "mailbox-logon",
    title: "430 4.2.0 STOREDRV ... mailbox logon failure",
    blame: Side::Mailbox,
    texts: &["430 4.2.0 STOREDRV; mailbox logon failure; ConnectionFailedTransientException"],
    meaning: "the server cannot open the mailbox; usually a right or a licence is missing",
    waiting: None,
    steps: &[
        "{mailbox} should be a licensed user mailbox: Get-Mailbox {mailbox} | Format-List RecipientTypeDetails,SkuAssigned (a \
         shared one is reported to work with rbac for applications only)",
        "with oauth and SMTP.SendAsApp as api permission: Add-MailboxPermission -Identity {mailbox} -User OBJECT_ID \
         -AccessRights FullAccess; with rbac for applications none is needed: Test-ServicePrincipalAuthorization -Identity \
         OBJECT_ID -Resource {mailbox}",
        ENABLE,
    ],
};

pub(super) static FEDERATION: Entry = Entry {
    slug: "federated-sign-in",
    title: "535 5.7.139 the federated STS URL does not support HTTPS",
    blame: Side::Tenant,
    texts: &["535 5.7.139 Authentication unsuccessful, the federated STS URL does not support HTTPS."],
    meaning: "the mailbox signs in through a federation service (adfs), which microsoft cannot reach as it should be",
    waiting: None,
    steps: &[
        "the federation service must speak https with tls 1.2 and a valid certificate: mend adfs",
        "or use a cloud-only account for {mailbox}, in a domain that is not federated (onmicrosoft.com will do for the login)",
        OAUTH,
    ],
};

pub(super) static TOKEN_EXPIRED: Entry = Entry {
    slug: "token-expired",
    title: "535 5.7.143 Expired token",
    blame: Side::Service,
    texts: &["535 5.7.143 Expired token", "535 5.7.142 Token is about to expire"],
    meaning: "the access token had ended when it arrived; a new token is fetched by itself",
    waiting: Some("nothing, if it ends with the next attempt"),
    steps: &["if it stays, this host's clock is wrong: timedatectl status"],
};

pub(super) static ARGUMENT: Entry = Entry {
    slug: "login-argument",
    title: "501 5.5.121 Invalid XOAUTH2 argument",
    blame: Side::Mailbox,
    texts: &["501 5.5.121 Invalid XOAUTH2 argument"],
    meaning: "the server does not accept the address in the login, or the form of the token",
    waiting: None,
    steps: &[
        "is {mailbox} the whole address of an existing mailbox, spelled as the server knows it? it is sent with the token as \
         the login's user",
        "is {smart_host} the right server for this mailbox? a high volume account logs in at smtp.hve.mx.microsoft:587",
    ],
};

pub(super) static APP_PASSWORD: Entry = Entry {
    slug: "app-password",
    title: "534 5.7.9 Application-specific password required",
    blame: Side::Mailbox,
    texts: &["534 5.7.9 Application-specific password required. Learn more at"],
    meaning: "the provider wants a password made for programs in place of the one a person signs in with",
    waiting: None,
    steps: &[
        "make an app password for {mailbox} in the security settings of its account at the provider (it asks for two-step \
         verification first), put it in the password file, then: systemctl reload mailferry \
         (restart, where it is a systemd credential)",
    ],
};

pub(super) static BROWSER: Entry = Entry {
    slug: "browser-login",
    title: "534 5.7.14 Please log in via your web browser",
    blame: Side::Mailbox,
    texts: &["534 5.7.14 Please log in via your web browser and then try again."],
    meaning: "the provider wants a person to sign in with a browser before it lets a program in",
    waiting: None,
    steps: &[
        "sign in as {mailbox} with a browser, from this site's network, and confirm what it asks",
        "better for good: an app password, or the provider's relay for programs",
    ],
};

pub(super) static SMTP_OFF: Entry = Entry {
    slug: "smtp-off",
    title: "550 User has no permission: SMTP is off for the mailbox",
    blame: Side::Mailbox,
    texts: &["550 User has no permission", "535 SMTP access is disabled for this mailbox"],
    meaning: "smtp is off for the mailbox at its provider",
    waiting: None,
    steps: &[
        "switch on smtp (often together with pop3 and imap) in the settings of {mailbox} at the provider; some then give a \
         password of their own for it",
    ],
};

pub(super) static SUSPENDED: Entry = Entry {
    slug: "account-suspended",
    title: "The account is suspended or disabled",
    blame: Side::Mailbox,
    texts: &[
        "552 Your account has been suspended. Please contact us to reactivate",
        "550 5.7.0 Mail Sending denied. This error occurs if the sender account is disabled",
    ],
    meaning: "the smart host has suspended or disabled the account, and takes no mail of it",
    waiting: None,
    steps: &[
        "sign in at the provider: it says why (too much mail, complaints, an unpaid bill, an account that was disabled or \
         never registered), and how it is reactivated; mail waits here meanwhile",
        KICK,
    ],
};
