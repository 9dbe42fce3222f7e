//! What the sign-in service's refusals mean, and what to do about each: one table.
//!
//! Invariant: `error` (RFC 6749, RFC 8628) and the AADSTS number find a row, and every row but the passing
//! ones names something a person can do. Must not know: HTTP, tokens, when it is tried again.

use super::Settings;
use crate::mail::Escaped;
use std::fmt;

/// Who or what can end a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It passes by itself.
    Retry,
    /// The service calls us a loop: much longer pauses.
    SlowDown,
    /// The person has not finished signing in.
    KeepPolling,
    /// The application's registration or our settings.
    AppConfiguration,
    /// A policy of the tenant.
    Policy,
    /// The user account.
    User,
    /// A person has to sign in again.
    SignInAgain,
}

/// A row: matched by number, otherwise by `error`. In texts `{mailbox}`, `{tenant}`, `{client_id}`,
/// `{authority}`, `{scope}` and `{number}` stand for the account's own.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    errors: &'static [&'static str],
    numbers: &'static [u32],
    class: Class,
    meaning: &'static str,
    remedy: &'static [&'static str],
}

const fn row(
    class: Class,
    errors: &'static [&'static str],
    numbers: &'static [u32],
    meaning: &'static str,
    remedy: &'static [&'static str],
) -> Row {
    Row { errors, numbers, class, meaning, remedy }
}

use Class::{AppConfiguration, KeepPolling, Policy, Retry, SignInAgain, SlowDown, User};

/// More than one row may name an `error`: numbers are looked for in all rows first.
static TABLE: &[Row] = &[
    row(
        Retry,
        &["temporarily_unavailable", "server_error"],
        &[50033, 50087, 90006, 90012, 90024, 90033, 90055],
        "microsoft's sign-in service has a passing fault",
        &["nothing: mailferry tries again by itself; https://status.cloud.microsoft tells of known outages"],
    ),
    row(
        Retry,
        &[],
        &[80002, 80005],
        "the tenant's own pass-through authentication agent does not answer",
        &[
            "entra admin center > Entra Connect > Connect Sync > Pass-through authentication: are the agents active?",
        ],
    ),
    row(
        SlowDown,
        &[],
        &[50196],
        "the sign-in service sees a loop of requests from this application",
        &[
            "is another program using client id {client_id}? mailferry asks about once an hour and waits longer now",
        ],
    ),
    row(
        KeepPolling,
        &["authorization_pending", "slow_down"],
        &[70016],
        "nobody has entered the code yet",
        &["open the address shown, enter the code and sign in as {mailbox}"],
    ),
    row(
        AppConfiguration,
        &[],
        &[7_000_215],
        "the client secret is wrong; often the secret's id was copied in place of its value",
        &[
            "entra admin center > App registrations > {client_id} > Certificates & secrets > New client secret",
            "copy the column Value (not Secret ID) into the secret's file, then: systemctl reload mailferry \
             (restart, where it is a systemd credential)",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[7_000_222],
        "the client secret has expired",
        &[
            "az ad app credential reset --id {client_id} --append --years 1",
            "put the new value in the secret's file and its last day in secret_expires, then: systemctl reload mailferry \
             (restart, where it is a systemd credential)",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[700_027],
        "the certificate's signature was not accepted: it is not registered with the application, or has expired",
        &[
            "entra admin center > App registrations > {client_id} > Certificates & secrets > Certificates > Upload \
             certificate: upload the file named in certificate (not the key)",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[700_024],
        "the signed assertion is not valid at this time: this host's clock is wrong",
        &["timedatectl set-ntp true, then look at: timedatectl status"],
    ),
    row(
        AppConfiguration,
        &[],
        &[700_016],
        "the tenant {tenant} does not know the application {client_id}",
        &[
            "compare tenant and client_id with Overview of the app in entra admin center > App registrations",
            "has an admin consented? {authority}/{tenant}/adminconsent?client_id={client_id} (the error AADSTS500113 at its end \
             does not matter)",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[7_000_229],
        "the tenant {tenant} has no enterprise application for the application {client_id}",
        &[
            "entra admin center > App registrations > {client_id} > Overview > Managed application in local directory: \
             create it; or: az ad sp create --id {client_id}",
            "then grant admin consent to what the login needs: docs/microsoft-365.md",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[50105, 501_051],
        "the application {client_id} asks for an assignment that {mailbox} does not have",
        &[
            "entra admin center > Enterprise apps > {client_id} > Users and groups: assign {mailbox}; or Properties > \
             Assignment required: No",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[700_025],
        "the application {client_id} is a public client, and a secret or certificate was sent",
        &[
            "entra admin center > App registrations > {client_id} > Authentication: a platform of the kind web, or log in by \
             device code",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[7_000_112],
        "the application {client_id} is disabled",
        &[
            "entra admin center > Enterprise apps > {client_id} > Properties > Enabled for users to sign-in: Yes",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[7_000_218],
        "the application {client_id} does not allow sign-in by device code",
        &[
            "entra admin center > App registrations > {client_id} > Authentication > Allow public client flows: Yes",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[90002],
        "there is no tenant {tenant} at {authority}",
        &[
            "compare tenant with Directory (tenant) ID on the app's overview page",
            "a tenant of a national cloud needs cloud = \"gcc-high\" or \"china\"",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[900_382, 900_432, 90038],
        "the tenant {tenant} is in another cloud than {authority}",
        &[
            "set cloud = \"gcc-high\" or cloud = \"china\" in the account's oauth, as the tenant is; without it the global \
             cloud is asked",
        ],
    ),
    row(
        AppConfiguration,
        &[],
        &[900_023],
        "the tenant {tenant} is neither an id nor a domain name",
        &["tenant is the Directory (tenant) ID on the app's overview page, or a domain of the tenant, whole"],
    ),
    row(
        AppConfiguration,
        &["invalid_resource"],
        &[500_011, 650_052, 650_057],
        "the tenant {tenant} does not know what the scope {scope} is for",
        &["remove scope from the account, and check cloud; the tenant needs exchange online"],
    ),
    row(
        AppConfiguration,
        &["consent_required"],
        &[65001],
        "no admin has consented to the application's permission",
        &[
            "open {authority}/{tenant}/adminconsent?client_id={client_id} as an admin (the error AADSTS500113 at its end does \
             not matter: the consent is given)",
            "the permission is SMTP.SendAsApp (application) of Office 365 Exchange Online; after a device code it is \
             SMTP.Send (delegated)",
        ],
    ),
    row(
        AppConfiguration,
        &["invalid_scope"],
        &[70011],
        "the scope {scope} is not accepted",
        &["remove scope from the account: the right one follows from cloud"],
    ),
    row(
        AppConfiguration,
        &["invalid_client", "unauthorized_client", "invalid_request", "unsupported_grant_type"],
        &[],
        "the sign-in service does not accept the application's request",
        &[
            "compare tenant, client_id and the secret or certificate with entra admin center > App registrations > \
             {client_id}",
            "{authority}/error?code={number} explains the number",
        ],
    ),
    row(
        Policy,
        &[],
        &[53003, 530_032],
        "a conditional access policy refuses the sign-in",
        &[
            "entra admin center > Monitoring > Sign-in logs, client id {client_id}: the tab Conditional Access \
             names the policy",
            "after a device code: exclude {mailbox} alone, limited to this site's address",
            "with client credentials no user signs in, and excluding one has no effect: the policy is one for workload \
             identities (its log is the tab Service principal sign-ins); exclude the service principal of {client_id}, or \
             add this site's public address to the allowed ones",
        ],
    ),
    row(
        Policy,
        &[],
        &[53000, 53001, 53002, 53004, 530_034],
        "a conditional access policy wants a compliant device, and a relay is none",
        &[
            "exclude the application {client_id} or {mailbox} in that policy, limited to this site's address: entra admin \
             center > Entra ID > Conditional Access > Policies",
            "or use client credentials: no user signs in, and no device is asked for",
        ],
    ),
    row(
        Policy,
        &[],
        &[530_035],
        "security defaults refuse the sign-in",
        &[
            "use client credentials with a certificate: no user signs in, so security defaults stay on",
            "switching security defaults off weakens the whole tenant: the last resort",
        ],
    ),
    row(
        Policy,
        &["interaction_required"],
        &[],
        "the tenant wants a person to do more before it lets {mailbox} sign in",
        &["mailferry account login {mailbox}"],
    ),
    row(
        User,
        &[],
        &[50034],
        "the tenant {tenant} has no user {mailbox}",
        &["check the mailbox's spelling: Get-Mailbox {mailbox} | Format-List UserPrincipalName"],
    ),
    row(
        User,
        &[],
        &[50053],
        "the user account is locked after too many failed sign-ins, or signs in from a blocked address",
        &[
            "wait, or entra admin center > Users > {mailbox} > Sign-in logs; look for a device with an old password",
        ],
    ),
    row(
        User,
        &[],
        &[50055],
        "the user's password has expired",
        &["set a new password for {mailbox}, then: mailferry account login {mailbox}"],
    ),
    row(
        User,
        &[],
        &[50057],
        "the user account is disabled",
        &["entra admin center > Users > {mailbox} > Properties > Account enabled"],
    ),
    row(
        User,
        &[],
        &[50126],
        "the user name or password was wrong",
        &["mailferry account login {mailbox}, and sign in with the right password"],
    ),
    row(
        User,
        &[],
        &[50076, 50079, 50072, 50074, 50078],
        "the user has to pass multi-factor authentication",
        &[
            "mailferry account login {mailbox}, and complete it in the browser",
            "or use client credentials: no user signs in, so it does not apply",
        ],
    ),
    row(
        SignInAgain,
        &["authorization_declined", "access_denied"],
        &[],
        "the sign-in was declined in the browser",
        &["mailferry account login {mailbox}"],
    ),
    row(
        SignInAgain,
        &["expired_token"],
        &[70020, 70019],
        "the code was not entered in time",
        &["mailferry account login {mailbox}; a code lives 15 minutes"],
    ),
    row(
        SignInAgain,
        &["bad_verification_code"],
        &[],
        "the sign-in service does not know this code",
        &["mailferry account login {mailbox}"],
    ),
    row(
        SignInAgain,
        &[NOT_SIGNED_IN],
        &[],
        "nobody has signed in for {mailbox} yet",
        &["mailferry account login {mailbox}"],
    ),
    row(
        SignInAgain,
        &["invalid_grant", "login_required"],
        &[70008, 700_082, 50173, 70043, 50132, 50133],
        "the stored sign-in has ended: unused for 90 days, revoked, or the password was changed",
        &["mailferry account login {mailbox}"],
    ),
];

/// Our own: no refresh token is stored.
pub(super) const NOT_SIGNED_IN: &str = "not_signed_in";

/// A refusal nobody has written down yet.
static UNKNOWN: Row = row(
    AppConfiguration,
    &[],
    &[],
    "the sign-in service refuses for a reason mailferry does not know",
    &[
        "entra admin center > Monitoring > Sign-in logs, client id {client_id}: the entry names the cause",
        "{authority}/error?code={number} explains the number",
    ],
);

impl Row {
    /// Its anchor in docs/errors.md.
    fn slug(&self) -> String {
        match (self.numbers, self.errors) {
            ([number, ..], _) => format!("aadsts{number}"),
            ([], [error, ..]) => error.replace('_', "-"),
            ([], []) => "aadsts".to_owned(),
        }
    }
}

/// A row of the table as it stands, with its placeholders, for the page of all errors.
#[derive(Debug)]
pub struct Known {
    /// Its anchor in docs/errors.md.
    pub slug: String,
    /// AADSTS numbers that lead here.
    pub numbers: &'static [u32],
    /// Values of `error` that lead here.
    pub errors: &'static [&'static str],
    /// Who can end it.
    pub class: Class,
    /// What it means.
    pub meaning: &'static str,
    /// What to do, in order.
    pub remedy: &'static [&'static str],
}

/// Every refusal that is known, and the one for those that are not, last.
pub fn known() -> impl Iterator<Item = Known> {
    TABLE.iter().chain([&UNKNOWN]).map(|r| Known {
        slug: r.slug(),
        numbers: r.numbers,
        errors: r.errors,
        class: r.class,
        meaning: r.meaning,
        remedy: r.remedy,
    })
}

/// A refusal of the token endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    row: &'static Row,
    /// The field `error`. Peer text.
    pub error: String,
    /// The AADSTS number, where there is one.
    pub number: Option<u32>,
    /// The field `error_description`, whole: its trace id is what Microsoft's support asks for. Peer text.
    pub description: String,
}

impl Refusal {
    /// Finds what it means. The number says more than `error`, except that a fault calling itself temporary
    /// is.
    pub fn new(error: &str, number: Option<u32>, description: &str) -> Self {
        let by_number = number.and_then(|n| TABLE.iter().find(|r| r.numbers.contains(&n)));
        let by_error = TABLE.iter().find(|r| r.errors.contains(&error));
        let row = match (by_number, by_error) {
            (_, Some(passing)) if passing.class == Retry => passing,
            (Some(row), _) | (None, Some(row)) => row,
            (None, None) => &UNKNOWN,
        };
        Self { row, error: error.to_owned(), number, description: description.to_owned() }
    }

    /// Who can end it.
    pub fn class(&self) -> Class {
        self.row.class
    }

    /// Its anchor in docs/errors.md.
    pub fn slug(&self) -> String {
        self.row.slug()
    }

    /// What it means, in one line.
    pub fn meaning(&self, settings: &Settings) -> String {
        self.fill(self.row.meaning, settings)
    }

    /// What to do, in order; each a line that can be carried out.
    pub fn remedy(&self, settings: &Settings) -> Vec<String> {
        let number_is_asked_for = |line: &&&str| self.number.is_some() || !line.contains("{number}");
        self.row.remedy.iter().filter(number_is_asked_for).map(|line| self.fill(line, settings)).collect()
    }

    fn fill(&self, text: &str, settings: &Settings) -> String {
        text.replace("{mailbox}", &settings.mailbox.to_string())
            .replace("{tenant}", &settings.tenant)
            .replace("{client_id}", &settings.client_id)
            .replace("{authority}", settings.authority())
            .replace("{scope}", settings.scope())
            .replace("{number}", &self.number.map(|n| n.to_string()).unwrap_or_default())
    }

    /// The service's words as they came, for `mail::Cause::Token`. Peer text.
    pub fn raw(&self) -> String {
        match (self.number, self.description.as_str()) {
            (_, "") => self.error.clone(),
            (Some(n), d) if !d.contains(&format!("AADSTS{n}")) => format!("{}: AADSTS{n}: {d}", self.error),
            (_, d) => format!("{}: {d}", self.error),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(self.raw().as_bytes()))
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({:?}, {self})", self.class())
    }
}

#[cfg(test)]
mod tests;
