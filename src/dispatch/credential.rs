//! What a mailbox's OAuth needs once a day: a stored sign-in is used, and the end of a secret or certificate is told.
//!
//! Invariant: each warning is told once for each credential, over restarts too. Must not know: when mail is sent.

use super::Account;
use crate::fact::dispatch::Fact;
use crate::fact::token;
use crate::mail::WallTime;
use crate::policy::expiry::{Expiry, expiry_warning};
use crate::queue::Notes;
use crate::token::Grant;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What was told about which credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    expires_at_ms: i64,
    days: u16,
}

/// Looks once.
pub(super) async fn look_after(account: Arc<Account>, notes: Arc<dyn Notes>) {
    let Some(tokens) = account.way.tokens() else { return };
    if matches!(tokens.settings().grant, Grant::DeviceCode { .. }) {
        // A refresh token dies after 90 days without use: a mailbox may well rest over a long summer. What goes
        // wrong is told by the room that asks.
        let _ = tokens.token().await;
    }
    let Some(expiry) = tokens.expiry() else { return };
    let name = format!("expiry/{}", account.id);
    let told = notes.note(&name).await.ok().flatten().and_then(|json| serde_json::from_str(&json).ok());
    let wall = WallTime::now();
    let Some(due) = due(expiry, told, wall) else { return };
    let (of, client_id) = (account.id.clone(), tokens.settings().client_id.clone());
    account.witness.tell(token::Fact::CredentialExpires { account: of, client_id, expiry, now: wall });
    let json = serde_json::to_string(&due).expect("a plain struct of numbers");
    if let Err(error) = notes.set_note(&name, Some(json)).await {
        account.tell(Fact::NoteLost { name, why: error.to_string() });
    }
}

/// What is to be told now, if anything. Another credential begins anew.
fn due(expiry: Expiry, told: Option<Told>, now: WallTime) -> Option<Told> {
    let expires_at_ms = expiry.at.as_ms();
    let already = told.filter(|t| t.expires_at_ms == expires_at_ms).map(|t| t.days);
    expiry_warning(expiry.days_left(now), already).map(|days| Told { expires_at_ms, days })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_credential_is_warned_about_once_a_step() {
        let day = |d: i64| WallTime::from_ms(d * 86_400_000);
        let expiry = |d| Expiry { what: "client secret", at: day(d) };
        let first = due(expiry(100), None, day(80)).unwrap();
        assert_eq!(first.days, 30);
        assert_eq!(due(expiry(100), Some(first), day(81)), None);
        assert_eq!(due(expiry(100), Some(first), day(90)).unwrap().days, 14);
        assert_eq!(due(expiry(400), Some(first), day(90)), None);
        assert_eq!(due(expiry(110), Some(first), day(90)).unwrap().days, 30, "another secret");
    }
}
