//! `[account.oauth]`: how an account gets its access tokens.
//!
//! Invariant: settings that come out of here name exactly one credential and pass `token::Settings::check`.
//! Must not know: how a token is asked for.

use super::Env;
use super::field::Field;
use super::secret::{certificates, pem, pem_key, secret};
use super::section::Section;
use crate::mail::{AccountId, Mailbox, WallTime};
use crate::policy::expiry::expiry_warning;
use crate::token::{Cloud, Grant, Settings, SettingsError};
use jiff::civil::Date;
use secrecy::ExposeSecret;
use std::path::Path;

/// What stands under `oauth`, read as far as it goes.
#[derive(Default)]
pub(super) struct Read {
    pub(super) is_set: bool,
    /// Whose smart host is the default.
    pub(super) cloud: Cloud,
    /// The method in words, where exactly one is named.
    pub(super) method: Option<&'static str>,
    pub(super) settings: Option<Settings>,
}

/// What `read` may look at.
#[derive(Clone, Copy)]
pub(super) enum Secrets<'e> {
    /// Secrets, certificates and keys are read.
    Read(&'e Env),
    /// They are left alone: only a device code leads to settings.
    Leave,
}

pub(super) fn read(
    account: &mut Section<'_>,
    secrets: Secrets<'_>,
    mailbox: Option<&Mailbox>,
    store: &Path,
) -> Read {
    let is_set = account.has("oauth");
    let mut section = account.section("oauth");
    let fields = Fields::of(&mut section);
    if !is_set {
        return Read::default();
    }
    let cloud = fields.cloud.word(&[
        ("global", Cloud::Global),
        ("gcc-high", Cloud::GccHigh),
        ("china", Cloud::China),
    ]);
    for (field, hint) in [
        (&fields.tenant, "the Directory (tenant) ID on the app's overview page"),
        (&fields.client_id, "the Application (client) ID on the app's overview page"),
    ] {
        if !field.is_set() {
            field.error("is missing", hint);
        }
    }
    let secret_expires = date(&fields.secret_expires);
    if fields.secret_expires.is_set() && !fields.secret.is_set() {
        fields
            .secret_expires
            .error("is for a secret, and there is none", "a certificate knows its own end: remove it");
    }
    let has_certificate = fields.certificate.is_set() || fields.key.is_set();
    // What is no boolean was told, and was hardly meant as false.
    let has_device_code = fields.device_code.is_set() && fields.device_code.boolean() != Some(false);
    let (method, grant) = match (fields.secret.is_set(), has_certificate, has_device_code) {
        (true, false, false) => ("oauth with a client secret", fields.secret_grant(secrets)),
        (false, true, false) => ("oauth with a certificate", fields.certificate_grant(secrets)),
        (false, false, true) => {
            ("oauth with a device code", Some(Grant::DeviceCode { store: store.to_owned() }))
        }
        _ => {
            section.error(
                "needs exactly one of secret, certificate (with key) and device_code",
                "set secret = { file = \"/etc/mailferry/scanner.secret\" }",
            );
            return Read { is_set, cloud: cloud.unwrap_or_default(), method: None, settings: None };
        }
    };
    let settings = fields.settings(cloud.unwrap_or_default(), mailbox, grant, secret_expires);
    Read { is_set, cloud: cloud.unwrap_or_default(), method: Some(method), settings }
}

/// Whether the day is over everywhere.
pub(super) fn is_past(day: Date, now: WallTime) -> bool {
    let end = day.tomorrow().ok().and_then(|next| next.in_tz("UTC").ok());
    end.is_some_and(|end| end.timestamp().as_millisecond() <= now.as_ms())
}

/// As Microsoft writes its ids.
fn is_guid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A day, as in `"2027-05-01"`.
pub(super) fn date(field: &Field<'_>) -> Option<Date> {
    field.parse("\"2027-05-01\"", |s| s.parse().map_err(|_| "is not a date"))
}

struct Fields<'f> {
    tenant: Field<'f>,
    client_id: Field<'f>,
    cloud: Field<'f>,
    authority: Field<'f>,
    token_url: Field<'f>,
    scope: Field<'f>,
    ca_file: Field<'f>,
    secret: Field<'f>,
    secret_expires: Field<'f>,
    certificate: Field<'f>,
    key: Field<'f>,
    device_code: Field<'f>,
}

impl<'f> Fields<'f> {
    fn of(section: &mut Section<'f>) -> Self {
        Self {
            tenant: section.field("tenant"),
            client_id: section.field("client_id"),
            cloud: section.field("cloud"),
            authority: section.field("authority"),
            token_url: section.field("token_url"),
            scope: section.field("scope"),
            ca_file: section.field("ca_file"),
            secret: section.field("secret"),
            secret_expires: section.field("secret_expires"),
            certificate: section.field("certificate"),
            key: section.field("key"),
            device_code: section.field("device_code"),
        }
    }

    /// Whether the ids can be Microsoft's. Other services have ids of other forms.
    fn ids_fit(&self, settings: &Settings) -> bool {
        const WHERE: &str = "the Application (client) ID on the app's overview page";
        let client_id = settings.client_id.trim_matches(['{', '}']);
        if !is_guid(client_id) {
            self.client_id.error("is no client id, which is 32 hexadecimal digits and 4 hyphens", WHERE);
            return false;
        }
        if client_id != settings.client_id {
            self.client_id.error("has braces around it", format!("write client_id = \"{client_id}\""));
            return false;
        }
        if settings.client_id.eq_ignore_ascii_case(&settings.tenant) {
            self.client_id.error("is the same as tenant", WHERE);
            return false;
        }
        let tenant = settings.tenant.as_str();
        // Other characters are told by `Settings::check`.
        let is_word = tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if is_word && !is_guid(tenant) && !["common", "organizations"].contains(&tenant) {
            self.tenant.error(
                "is neither an id nor a domain",
                "the Directory (tenant) ID on the app's overview page, or a domain such as \"contoso.onmicrosoft.com\"",
            );
            return false;
        }
        if let Grant::Secret(secret) = &settings.grant
            && is_guid(secret.expose_secret())
        {
            self.secret.warn(
                "the secret looks like the column Secret ID",
                "it is the column Value, which is shown once: make a new secret",
            );
        }
        true
    }

    /// What ends within a month is told here, too.
    fn look_at_the_end(&self, settings: &Settings) {
        let now = self.tenant.now();
        let Ok(Some(expiry)) = settings.expiry() else { return };
        if expiry_warning(expiry.days_left(now), None).is_some() {
            let field = if self.secret.is_set() { &self.secret_expires } else { &self.certificate };
            field.warn(expiry.words(&AccountId::named(&settings.mailbox.to_string()), now), expiry.hint());
        }
    }

    fn secret_grant(&self, secrets: Secrets<'_>) -> Option<Grant> {
        let Secrets::Read(env) = secrets else { return None };
        secret(&self.secret, env).map(Grant::Secret)
    }

    fn certificate_grant(&self, secrets: Secrets<'_>) -> Option<Grant> {
        for (field, other) in [(&self.certificate, "key"), (&self.key, "certificate")] {
            if !field.is_set() {
                field.error("is missing", format!("{other} stands alone: name both, PEM files"));
            }
        }
        if matches!(secrets, Secrets::Leave) {
            return None;
        }
        let (certificate, key) = (pem(&self.certificate), pem_key(&self.key));
        Some(Grant::Certificate { certificate: certificate?, key: key? })
    }

    fn settings(
        &self,
        cloud: Cloud,
        mailbox: Option<&Mailbox>,
        grant: Option<Grant>,
        secret_expires: Option<Date>,
    ) -> Option<Settings> {
        let trimmed = |field: &Field<'_>, example| field.text(example).map(|t| t.trim().to_owned());
        let tenant = trimmed(&self.tenant, "\"contoso.com\"");
        let client_id = trimmed(&self.client_id, "\"11111111-2222-3333-4444-555555555555\"");
        let authority = trimmed(&self.authority, "\"https://login.microsoftonline.com\"");
        let token_url = trimmed(&self.token_url, "\"https://login.example.com/token\"");
        let scope = trimmed(&self.scope, "\"https://outlook.office365.com/.default\"");
        let ca_file = certificates(&self.ca_file);
        let settings = Settings {
            mailbox: mailbox?.clone(),
            cloud,
            tenant: tenant?,
            client_id: client_id?,
            authority,
            token_url,
            scope,
            grant: grant?,
            secret_expires,
            ca_file,
            proxy: None,
        };
        if settings.authority.is_none() && settings.token_url.is_none() && !self.ids_fit(&settings) {
            return None;
        }
        self.look_at_the_end(&settings);
        match settings.check() {
            Ok(()) => Some(settings),
            Err(SettingsError { key, problem, hint, .. }) => {
                let field = match key {
                    "tenant" => &self.tenant,
                    "client_id" => &self.client_id,
                    "authority" => &self.authority,
                    "token_url" => &self.token_url,
                    "certificate" => &self.certificate,
                    _ => &self.key,
                };
                field.error(problem, hint);
                None
            }
        }
    }
}
