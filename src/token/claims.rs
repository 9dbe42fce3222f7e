//! What an access token says about itself, for people.
//!
//! Invariant: shown, never trusted: nothing is verified, since the token is not for us but for Exchange
//! Online. Must not know: where a token came from.

use super::AccessToken;
use crate::mail::WallTime;
use base64::Engine;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

/// Tokens of the size Microsoft issues are 2 to 5 KiB.
const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// The claims that decide whether Exchange Online takes a token. Peer text: escape before printing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Whom it is for, as in `https://outlook.office365.com`.
    pub audience: Option<String>,
    /// Application permissions; with client credentials `SMTP.SendAsApp` is among them, or, where exchange's own RBAC
    /// for applications gives the right, none at all.
    pub roles: Vec<String>,
    /// Delegated permissions; `SMTP.Send` must be among them after a device code.
    pub scopes: Vec<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Its end by the server's clock.
    pub expires: Option<WallTime>,
    /// Who signed in, after a device code.
    pub user: Option<String>,
    /// The service principal's object id: the `-ObjectId` of `New-ServicePrincipal`.
    pub object_id: Option<String>,
    /// The application.
    pub app_id: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    aud: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    scp: Option<String>,
    tid: Option<String>,
    exp: Option<i64>,
    upn: Option<String>,
    unique_name: Option<String>,
    oid: Option<String>,
    appid: Option<String>,
}

impl Claims {
    /// Reads them; `None` when the token is not a JWT (the format is the issuer's own business).
    pub fn of(token: &AccessToken) -> Option<Self> {
        Self::read(token.expose())
    }

    pub(super) fn read(jwt: &str) -> Option<Self> {
        let payload = jwt.split('.').nth(1).filter(|p| p.len() <= MAX_PAYLOAD_BYTES)?;
        let json = Zeroizing::new(
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?,
        );
        let raw: Raw = serde_json::from_slice(&json).ok()?;
        Some(Self {
            audience: raw.aud,
            roles: raw.roles,
            scopes: raw.scp.iter().flat_map(|s| s.split(' ')).map(str::to_owned).collect(),
            tenant: raw.tid,
            expires: raw.exp.map(|s| WallTime::from_ms(s.saturating_mul(1000))),
            user: raw.upn.or(raw.unique_name),
            object_id: raw.oid,
            app_id: raw.appid,
        })
    }

    /// What they say of submission to this smart host, for a token of a person who signed in (`is_delegated`) or of
    /// the application itself.
    pub fn permission(&self, is_delegated: bool, smart_host: &str) -> Permission {
        let has = |list: &[String], name: &str| list.iter().any(|p| p == name);
        let granted = |yes| if yes { Permission::Granted } else { Permission::Missing };
        if is_delegated {
            granted(has(&self.scopes, "SMTP.Send"))
        } else if is_high_volume(smart_host) {
            granted(has(&self.roles, "Mail.Send"))
        } else if has(&self.roles, "SMTP.SendAsApp") {
            Permission::Granted
        } else if self.roles.is_empty() && self.scopes.is_empty() {
            Permission::LeftToExchange
        } else {
            Permission::Missing
        }
    }
}

/// What a token's claims say of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// The permission is in it.
    Granted,
    /// It names none: right where Exchange Online's RBAC for applications decides, and nowhere else.
    LeftToExchange,
    /// It names others.
    Missing,
}

/// Whether this smart host is High Volume Email, which has a permission of its own.
pub fn is_high_volume(smart_host: &str) -> bool {
    let host = smart_host.to_ascii_lowercase();
    host.starts_with("smtp.hve.") || host.starts_with("smtp-hve.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        let e = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        format!("{}.{}.{}", e.encode("{}"), e.encode(payload), e.encode("sig"))
    }

    #[test]
    fn the_claims_that_decide_are_read() {
        let c = Claims::read(&jwt(
            r#"{"aud":"https://outlook.office365.com","roles":["SMTP.SendAsApp"],"tid":"t","oid":"o","appid":"a","exp":1795435200}"#,
        ))
        .unwrap();
        assert_eq!(c.permission(false, EXCHANGE), Permission::Granted);
        assert_eq!(c.audience.as_deref(), Some("https://outlook.office365.com"));
        assert_eq!(c.expires.unwrap().to_string(), "2026-11-23T12:00:00Z");
        let c = Claims::read(&jwt(r#"{"scp":"User.Read SMTP.Send","upn":"scanner@contoso.com"}"#)).unwrap();
        assert_eq!(c.permission(true, EXCHANGE), Permission::Granted);
        assert_eq!(c.user.as_deref(), Some("scanner@contoso.com"));
    }

    const EXCHANGE: &str = "smtp.office365.com";

    #[test]
    fn a_permission_is_judged_by_the_way_of_the_login_and_the_smart_host() {
        use Permission::{Granted, LeftToExchange, Missing};
        for (payload, is_delegated, host, right) in [
            (r#"{"roles":["SMTP.SendAsApp"]}"#, false, EXCHANGE, Granted),
            (r#"{"oid":"o"}"#, false, EXCHANGE, LeftToExchange),
            (r#"{"roles":[]}"#, false, EXCHANGE, LeftToExchange),
            (r#"{"roles":["Mail.Send"]}"#, false, EXCHANGE, Missing),
            (r#"{"roles":["Mail.Send"]}"#, false, "smtp.hve.mx.microsoft:587", Granted),
            (r#"{"roles":["Mail.Send"]}"#, false, "smtp-hve.office365.com", Granted),
            (r#"{"roles":["SMTP.SendAsApp"]}"#, false, "smtp.hve.mx.microsoft", Missing),
            (r#"{"oid":"o"}"#, false, "smtp.hve.mx.microsoft", Missing),
            (r#"{"scp":"User.Read SMTP.Send"}"#, true, EXCHANGE, Granted),
            (r#"{"scp":"User.Read"}"#, true, EXCHANGE, Missing),
            (r#"{"oid":"o"}"#, true, EXCHANGE, Missing),
        ] {
            let claims = Claims::read(&jwt(payload)).unwrap();
            assert_eq!(claims.permission(is_delegated, host), right, "{payload} {is_delegated} {host}");
        }
    }

    #[test]
    fn what_is_no_jwt_is_nothing() {
        for t in ["", "opaque", "a.b.c", "a.%%%.c", &jwt("[]"), &jwt(r#"{"exp":"x"}"#)] {
            assert_eq!(Claims::read(t), None, "{t}");
        }
    }
}
