//! What to do when Exchange Online refuses a token that the sign-in service gave.
//!
//! Invariant: what the token itself shows to be wrong is named alone; otherwise the commands bear the
//! account's own names, the enterprise application's object id among them, which the token knows and admins
//! mistake for the app registration's. Must not know: replies, who is told.

use super::claims::Claims;
use super::{Grant, Settings};
use crate::mail::Escaped;

const MAX_CLAIM_CHARS: usize = 80;

/// The steps, most likely first.
pub(super) fn remedy(settings: &Settings, claims: Option<&Claims>) -> Vec<String> {
    let (mailbox, client_id, tenant) = (&settings.mailbox, &settings.client_id, &settings.tenant);
    let claims = claims.cloned().unwrap_or_default();
    let shown =
        |text: &str| Escaped(text.chars().take(MAX_CLAIM_CHARS).collect::<String>().as_bytes()).to_string();
    let is_delegated = matches!(settings.grant, Grant::DeviceCode { .. });
    let consent = format!(
        "then consent as an admin: {}/{tenant}/adminconsent?client_id={client_id}",
        settings.authority()
    );
    if !is_delegated && !claims.roles.is_empty() && !claims.roles.iter().any(|r| r == "SMTP.SendAsApp") {
        return vec![
            format!(
                "the token lacks the permission SMTP.SendAsApp: entra admin center > App registrations > {client_id} > \
                 API permissions > Add a permission > APIs my organization uses > Office 365 Exchange Online > \
                 Application permissions > SMTP.SendAsApp"
            ),
            consent,
        ];
    }
    if is_delegated && !claims.scopes.is_empty() && !claims.scopes.iter().any(|s| s == "SMTP.Send") {
        return vec![
            format!(
                "the token lacks the permission SMTP.Send: entra admin center > App registrations > {client_id} > API \
                 permissions > Add a permission > Microsoft Graph > Delegated permissions > SMTP.Send"
            ),
            consent,
            format!("mailferry account login {mailbox}"),
        ];
    }
    let enable = format!(
        "Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false, and {mailbox} must be a licensed \
         user mailbox; a change takes up to an hour"
    );
    if is_delegated {
        let mut lines = vec![];
        if let Some(user) = claims.user.filter(|u| !u.eq_ignore_ascii_case(&mailbox.to_string())) {
            lines.push(format!(
                "{} is signed in, not {mailbox}: mailferry account login {mailbox}",
                shown(&user)
            ));
        }
        lines.push(enable);
        return lines;
    }
    let is_guid = |id: &&String| id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let object_id = claims.object_id.as_ref().filter(is_guid).map_or("OBJECT_ID", String::as_str);
    vec![
        format!(
            "New-ServicePrincipal -AppId {client_id} -ObjectId {object_id} (the object id of the enterprise application, \
             not of the app registration)"
        ),
        format!("Add-MailboxPermission -Identity {mailbox} -User {object_id} -AccessRights FullAccess"),
        enable,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Cloud;

    fn settings(grant: Grant) -> Settings {
        Settings {
            mailbox: "scanner@contoso.com".parse().unwrap(),
            cloud: Cloud::Global,
            tenant: "contoso.com".into(),
            client_id: "11111111-2222-3333-4444-555555555555".into(),
            authority: None,
            token_url: None,
            scope: None,
            grant,
            secret_expires: None,
            ca_file: None,
        }
    }

    #[test]
    fn the_first_step_is_what_the_token_shows_to_be_wrong() {
        let app = || settings(Grant::Secret("x".into()));
        let device = || settings(Grant::DeviceCode { store: "/x".into() });
        let roles = |r: &str| Claims { roles: vec![r.into()], ..Claims::default() };
        let user =
            |u: &str| Claims { scopes: vec!["SMTP.Send".into()], user: Some(u.into()), ..Claims::default() };
        let right = Claims {
            object_id: Some("99999999-8888-7777-6666-555555555555".into()),
            ..roles("SMTP.SendAsApp")
        };
        let odd = Claims { object_id: Some("$(rm -rf /)".into()), ..right.clone() };
        for (settings, claims, step) in [
            (app(), Some(roles("Mail.Send")), "the token lacks the permission SMTP.SendAsApp"),
            (
                app(),
                Some(right),
                "New-ServicePrincipal -AppId 11111111-2222-3333-4444-555555555555 -ObjectId 99999999-8888-7777-6666-555555555555",
            ),
            (
                app(),
                Some(odd),
                "New-ServicePrincipal -AppId 11111111-2222-3333-4444-555555555555 -ObjectId OBJECT_ID",
            ),
            (
                app(),
                None,
                "New-ServicePrincipal -AppId 11111111-2222-3333-4444-555555555555 -ObjectId OBJECT_ID",
            ),
            (
                device(),
                Some(Claims { scopes: vec!["User.Read".into()], ..Claims::default() }),
                "the token lacks the permission SMTP.Send",
            ),
            (
                device(),
                Some(user("bob@contoso.com")),
                "bob@contoso.com is signed in, not scanner@contoso.com",
            ),
            (device(), Some(user("Scanner@contoso.com")), "Set-CASMailbox -Identity scanner@contoso.com"),
        ] {
            let steps = remedy(&settings, claims.as_ref());
            assert!(steps[0].starts_with(step), "{steps:?}");
        }
    }
}
