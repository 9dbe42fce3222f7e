//! Where an account's tokens come from.
//!
//! Invariant: settings that pass `check` make requests to `https` addresses only, and a tenant or client id
//! cannot change the path they go to. Must not know: how a request is made.

use super::assertion::Assertion;
use crate::http::Proxy;
use crate::mail::Mailbox;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::sync::Arc;

/// A Microsoft cloud: its sign-in service and its mail have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// Worldwide, GCC included.
    #[default]
    Global,
    /// GCC High.
    GccHigh,
    /// Operated by 21Vianet.
    China,
}

impl Cloud {
    /// The sign-in service.
    pub fn authority(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::GccHigh => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    /// The smart host that takes its tokens.
    pub fn smart_host(self) -> &'static str {
        match self {
            Self::Global => "smtp.office365.com",
            Self::GccHigh => "smtp.office365.us",
            Self::China => "smtp.partner.outlook.cn",
        }
    }

    fn application_scope(self) -> &'static str {
        match self {
            Self::Global => "https://outlook.office365.com/.default",
            Self::GccHigh => "https://outlook.office365.us/.default",
            Self::China => "https://partner.outlook.cn/.default",
        }
    }

    fn delegated_scope(self) -> &'static str {
        match self {
            Self::Global => "https://outlook.office.com/SMTP.Send offline_access",
            Self::GccHigh => "https://outlook.office365.us/SMTP.Send offline_access",
            Self::China => "https://partner.outlook.cn/SMTP.Send offline_access",
        }
    }
}

/// What is shown to the token endpoint to get a token.
#[derive(Debug, Clone)]
pub enum Grant {
    /// Client credentials with a client secret.
    Secret(SecretString),
    /// Client credentials with an assertion signed by a certificate's key.
    Certificate {
        /// PEM; the first certificate is the one registered with the application.
        certificate: String,
        /// PEM, RSA, not encrypted.
        key: SecretString,
    },
    /// A person signed in once by device code; the refresh token is kept.
    DeviceCode {
        /// The directory the refresh token is kept in.
        store: PathBuf,
    },
}

impl Grant {
    /// The method in words.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Secret(_) => "oauth with a client secret",
            Self::Certificate { .. } => "oauth with a certificate",
            Self::DeviceCode { .. } => "oauth with a device code",
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (Self::Secret(a), Self::Secret(b)) => same(a, b),
            (Self::Certificate { certificate: c, key: k }, Self::Certificate { certificate: d, key: l }) => {
                c == d && same(k, l)
            }
            (Self::DeviceCode { store: a }, Self::DeviceCode { store: b }) => a == b,
            _ => false,
        }
    }
}

/// Where an account's tokens come from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The mailbox they are for.
    pub mailbox: Mailbox,
    /// Whose sign-in service.
    pub cloud: Cloud,
    /// Directory (tenant) id or one of its domains.
    pub tenant: String,
    /// Application (client) id.
    pub client_id: String,
    /// In place of the cloud's sign-in service, `https://host`.
    pub authority: Option<String>,
    /// In place of the whole token address.
    pub token_url: Option<String>,
    /// In place of the cloud's scope.
    pub scope: Option<String>,
    /// How to get one.
    pub grant: Grant,
    /// The last day of the client secret, where the admin noted it.
    pub secret_expires: Option<jiff::civil::Date>,
    /// PEM of certificate authorities that are trusted besides the system's (a firewall that inspects TLS).
    pub ca_file: Option<PathBuf>,
    /// Through which proxy, if any.
    pub proxy: Option<Arc<Proxy>>,
}

/// Settings that cannot work, found without asking anybody. The texts name the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// The key under `oauth`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub problem: String,
    /// What to write in its place.
    pub hint: &'static str,
    /// Nothing is wrong with it: what it names cannot be read at this moment.
    pub may_pass: bool,
}

impl SettingsError {
    pub(super) fn new(key: &'static str, problem: impl Into<String>, hint: &'static str) -> Self {
        Self { key, problem: problem.into(), hint, may_pass: false }
    }
}

impl Settings {
    /// Whether they say the same. A CA file goes by its name here; `Source::is_same` looks at what was in it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let rest = |s: &Self| {
            let Self {
                mailbox, cloud, tenant, client_id, authority, token_url, scope, ca_file, proxy, ..
            } = s.clone();
            (mailbox, cloud, tenant, client_id, authority, token_url, scope, ca_file, proxy, s.secret_expires)
        };
        rest(self) == rest(other) && self.grant.is_same(&other.grant)
    }

    /// The sign-in service, without a slash at the end.
    pub fn authority(&self) -> &str {
        self.authority.as_deref().unwrap_or(self.cloud.authority()).trim_end_matches('/')
    }

    /// Where tokens are asked for; also the audience of an assertion.
    pub fn token_url(&self) -> String {
        match &self.token_url {
            Some(url) => url.clone(),
            None => format!("{}/{}/oauth2/v2.0/token", self.authority(), self.tenant),
        }
    }

    /// Where a sign-in by device code begins.
    pub fn device_url(&self) -> String {
        match self.token_url.as_deref().and_then(|url| url.strip_suffix("/token")) {
            Some(base) => format!("{base}/devicecode"),
            None => format!("{}/{}/oauth2/v2.0/devicecode", self.authority(), self.tenant),
        }
    }

    /// What is asked for.
    pub fn scope(&self) -> &str {
        match (&self.scope, &self.grant) {
            (Some(scope), _) => scope,
            (None, Grant::DeviceCode { .. }) => self.cloud.delegated_scope(),
            (None, _) => self.cloud.application_scope(),
        }
    }

    /// Whether these settings can work, as far as that shows offline.
    ///
    /// # Errors
    /// Names the first key that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        let is_name = |s: &str| {
            !s.is_empty()
                && s.len() <= 255
                && !s.starts_with('.')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        };
        if !is_name(&self.tenant) {
            return Err(SettingsError::new(
                "tenant",
                "not a tenant",
                "the Directory (tenant) ID on the app's overview page, or a domain such as contoso.com",
            ));
        }
        if !is_name(&self.client_id) {
            return Err(SettingsError::new(
                "client_id",
                "not a client id",
                "the Application (client) ID on the app's overview page",
            ));
        }
        for (key, url) in [("authority", self.authority().to_owned()), ("token_url", self.token_url())] {
            https(key, &url)?;
        }
        if let Grant::Certificate { certificate, key } = &self.grant {
            Assertion::new(certificate, key)?;
        }
        Ok(())
    }
}

/// Reads an address; only `https` will do, since secrets go there.
pub(super) fn https(key: &'static str, url: &str) -> Result<hyper::Uri, SettingsError> {
    let uri: hyper::Uri = url.parse().map_err(|_| {
        SettingsError::new(key, "not an address", "an address as in https://login.example.com")
    })?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err(SettingsError::new(key, "must begin with https://", "secrets are sent there: use https"));
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(SettingsError::new(key, "has a user name in it", "write the address without name@"));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cloud: Cloud, grant: Grant) -> Settings {
        Settings {
            mailbox: "scanner@contoso.com".parse().unwrap(),
            cloud,
            tenant: "contoso.com".into(),
            client_id: "11111111-2222-3333-4444-555555555555".into(),
            authority: None,
            token_url: None,
            scope: None,
            grant,
            secret_expires: None,
            ca_file: None,
            proxy: None,
        }
    }

    #[test]
    fn one_setting_moves_everything_to_a_national_cloud() {
        let app = |cloud| {
            let s = settings(cloud, Grant::Secret("x".into()));
            (s.token_url(), s.scope().to_owned())
        };
        let expect = |url: &str, scope: &str| (url.to_owned(), scope.to_owned());
        assert_eq!(
            app(Cloud::Global),
            expect(
                "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
                "https://outlook.office365.com/.default"
            )
        );
        assert_eq!(
            app(Cloud::GccHigh),
            expect(
                "https://login.microsoftonline.us/contoso.com/oauth2/v2.0/token",
                "https://outlook.office365.us/.default"
            )
        );
        assert_eq!(
            app(Cloud::China),
            expect(
                "https://login.partner.microsoftonline.cn/contoso.com/oauth2/v2.0/token",
                "https://partner.outlook.cn/.default"
            )
        );
        let device = settings(Cloud::Global, Grant::DeviceCode { store: "/x".into() });
        assert_eq!(device.scope(), "https://outlook.office.com/SMTP.Send offline_access");
        assert_eq!(
            device.device_url(),
            "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/devicecode"
        );
    }

    #[test]
    fn a_token_address_of_ones_own_moves_the_device_address_along() {
        let mut s = settings(Cloud::Global, Grant::DeviceCode { store: "/x".into() });
        s.token_url = Some("https://idp.example/t/token".into());
        assert_eq!(s.device_url(), "https://idp.example/t/devicecode");
    }

    #[test]
    fn settings_that_would_send_a_secret_astray_are_refused() {
        type Spoil = fn(&mut Settings);
        let spoils: [(&str, Spoil); 6] = [
            ("tenant", |s| s.tenant = "../evil".into()),
            ("tenant", |s| s.tenant = String::new()),
            ("client_id", |s| s.client_id = "a&client_secret=b".into()),
            ("token_url", |s| s.token_url = Some("http://login.example/token".into())),
            ("authority", |s| s.authority = Some("https://login.microsoftonline.com@evil.example".into())),
            ("authority", |s| s.authority = Some("login.example".into())),
        ];
        for (key, spoil) in spoils {
            let mut s = settings(Cloud::Global, Grant::Secret("hunter2".into()));
            assert_eq!(s.check(), Ok(()));
            spoil(&mut s);
            assert_eq!(s.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let s = settings(Cloud::Global, Grant::Secret("hunter2".into()));
        assert!(!format!("{s:?}").contains("hunter2"));
        let s =
            settings(Cloud::Global, Grant::Certificate { certificate: "c".into(), key: "hunter2".into() });
        assert!(!format!("{s:?}").contains("hunter2"));
    }
}
