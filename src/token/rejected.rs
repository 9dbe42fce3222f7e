//! What to do when Exchange Online refuses a token that the sign-in service gave.
//!
//! Invariant: what the token itself shows to be wrong is named alone; otherwise the commands bear the
//! account's own names, the enterprise application's object id among them, which the token knows and admins
//! mistake for the app registration's. Must not know: replies, who is told.

use super::claims::{Claims, Permission, is_high_volume};
use super::{Grant, Settings};
use crate::mail::Escaped;

const MAX_CLAIM_CHARS: usize = 80;

/// The steps, most likely first, for a token that this smart host refused.
pub(super) fn remedy(settings: &Settings, claims: Option<&Claims>, smart_host: &str) -> Vec<String> {
    let (mailbox, client_id) = (&settings.mailbox, &settings.client_id);
    let is_delegated = matches!(settings.grant, Grant::DeviceCode { .. });
    let has_none = claims.is_some_and(|c| c.permission(is_delegated, smart_host) == Permission::Missing);
    let known = claims.cloned().unwrap_or_default();
    let is_guid = |id: &&String| id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let object_id = known.object_id.as_ref().filter(is_guid).map_or("OBJECT_ID", String::as_str);
    if is_delegated {
        return if has_none && !known.scopes.is_empty() {
            let permission = lacks(client_id, "SMTP.Send", "Microsoft Graph > Delegated permissions");
            vec![permission, consent(settings), format!("mailferry account login {mailbox}")]
        } else {
            delegated(settings, known.user.as_deref())
        };
    }
    let known_to_exchange = format!(
        "New-ServicePrincipal -AppId {client_id} -ObjectId {object_id} (the object id of the enterprise application, \
         not of the app registration)"
    );
    let enable = format!("Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false");
    if is_high_volume(smart_host) {
        let mut lines = vec![];
        if has_none {
            let place = "APIs my organization uses > Office 365 Exchange Online > Application permissions";
            lines = vec![lacks(client_id, "Mail.Send", place), consent(settings)];
        }
        lines.push(format!(
            "Add-HVEAppAccess -Identity {mailbox} -AppIds {object_id}; neither a service principal nor a mailbox permission \
             is needed"
        ));
        return lines;
    }
    // Which of the two ways it is, the token shows: one must never be undone by the steps of the other.
    if claims.is_some() && !known.roles.iter().any(|r| r == "SMTP.SendAsApp") {
        return vec![
            format!(
                "with rbac for applications the token is right as it is. Test-ServicePrincipalAuthorization -Identity \
                 {object_id} -Resource {mailbox} must show Application SMTP.SendAsApp and InScope True; if not: \
                 New-ManagementRoleAssignment -App {object_id} -Role \"Application SMTP.SendAsApp\" (docs/microsoft-365.md)"
            ),
            known_to_exchange,
            enable,
            "wait: a role arrives after 30 minutes to 2 hours, also when the test shows it at once"
                .to_owned(),
            format!(
                "only without rbac for applications: App registrations > {client_id} > API permissions > Office 365 Exchange \
                 Online > Application permissions > SMTP.SendAsApp with admin consent, and Add-MailboxPermission -Identity \
                 {mailbox} -User {object_id} -AccessRights FullAccess; never both ways at once"
            ),
        ];
    }
    vec![
        known_to_exchange,
        format!(
            "Add-MailboxPermission -Identity {mailbox} -User {object_id} -AccessRights FullAccess; the permission \
             SMTP.SendAsApp in the token makes exchange ask for it. With rbac for applications take that permission away \
             instead: a role is enough"
        ),
        format!("{enable}; {mailbox} should be a licensed user mailbox; a change takes up to an hour"),
    ]
}

fn lacks(client_id: &str, permission: &str, place: &str) -> String {
    format!(
        "the token lacks the permission {permission}: entra admin center > App registrations > {client_id} > API \
         permissions > Add a permission > {place} > {permission}"
    )
}

fn consent(settings: &Settings) -> String {
    let (tenant, client_id) = (&settings.tenant, &settings.client_id);
    format!(
        "then Grant admin consent there, or open {}/{tenant}/adminconsent?client_id={client_id} as an admin: the error \
         AADSTS500113 at its end does not matter, the consent is given",
        settings.authority()
    )
}

fn delegated(settings: &Settings, user: Option<&str>) -> Vec<String> {
    let mailbox = &settings.mailbox;
    let mut lines = vec![];
    if let Some(user) = user.filter(|u| !u.eq_ignore_ascii_case(&mailbox.to_string())) {
        let user: String = user.chars().take(MAX_CLAIM_CHARS).collect();
        let user = Escaped(user.as_bytes()).to_string();
        lines.push(format!("{user} is signed in, not {mailbox}: mailferry account login {mailbox}"));
    }
    lines.push(format!(
        "Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false, and {mailbox} must be a licensed user \
         mailbox; a change takes up to an hour"
    ));
    lines
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
            proxy: None,
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
            (app(), Some(roles("Mail.Send")), "with rbac for applications the token is right"),
            (app(), Some(Claims::default()), "with rbac for applications the token is right"),
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
            let steps = remedy(&settings, claims.as_ref(), "smtp.office365.com");
            assert!(steps[0].starts_with(step), "{steps:?}");
        }
    }
    #[test]
    fn what_works_by_rbac_is_not_undone() {
        let app = settings(Grant::Secret("x".into()));
        let steps = remedy(&app, Some(&Claims::default()), "smtp.office365.com");
        let (last, before) = steps.split_last().unwrap();
        for undoes in ["FullAccess", "API permissions"] {
            assert!(before.iter().all(|s| !s.contains(undoes)) && last.contains(undoes), "{steps:?}");
        }
        assert!(last.starts_with("only without rbac"));
    }

    #[test]
    fn high_volume_email_has_a_permission_and_a_command_of_its_own() {
        let app = settings(Grant::Secret("x".into()));
        let with = |role: &str| Claims { roles: vec![role.into()], ..Claims::default() };
        let hve = |c: &Claims| remedy(&app, Some(c), "smtp.hve.mx.microsoft").join("\n");
        assert!(hve(&with("SMTP.SendAsApp")).starts_with("the token lacks the permission Mail.Send"));
        assert!(hve(&with("Mail.Send")).starts_with("Add-HVEAppAccess -Identity scanner@contoso.com"));
        assert!(!hve(&with("Mail.Send")).contains("New-ServicePrincipal"));
    }
}
