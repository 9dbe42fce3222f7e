//! Which account a recipient of a message leaves through.
//!
//! Invariant: every recipient has exactly one account, decided at intake and never again: the client's own, else
//! the first account that names the sender, else the first that names the recipient's domain, else the default.

use crate::mail::{AccountId, AddressPattern, Mailbox, ReversePath};
use crate::policy::admission::Client;

/// What an `[[account]]` is used for.
#[derive(Debug, Clone)]
pub struct Route {
    /// The account.
    pub account: AccountId,
    /// Reverse-paths it takes.
    pub senders: Vec<AddressPattern>,
    /// Recipient domains it takes, as patterns `*@domain`.
    pub recipients: Vec<AddressPattern>,
}

/// Every account's routes, in configured order.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Accounts with conditions.
    pub routes: Vec<Route>,
    /// The account without conditions.
    pub default: AccountId,
}

impl Routes {
    /// The recipients grouped by account, in the order they were given.
    pub fn split(
        &self,
        client: &Client,
        from: &ReversePath,
        to: &[Mailbox],
    ) -> Vec<(AccountId, Vec<Mailbox>)> {
        let mut groups: Vec<(AccountId, Vec<Mailbox>)> = Vec::with_capacity(1);
        for recipient in to {
            let account = self.account(client, from, recipient);
            match groups.iter_mut().find(|(a, _)| a == account) {
                Some((_, list)) => list.push(recipient.clone()),
                None => groups.push((account.clone(), vec![recipient.clone()])),
            }
        }
        groups
    }

    fn account<'a>(&'a self, client: &'a Client, from: &ReversePath, to: &Mailbox) -> &'a AccountId {
        if let Some(account) = &client.account {
            return account;
        }
        let by_sender =
            from.mailbox().and_then(|m| self.routes.iter().find(|r| r.senders.iter().any(|p| p.matches(m))));
        by_sender
            .or_else(|| self.routes.iter().find(|r| r.recipients.iter().any(|p| p.matches(to))))
            .map_or(&self.default, |r| &r.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ClientName;

    fn anybody(account: Option<&str>) -> Client {
        let account = account.map(AccountId::new);
        Client { account, ..Client::new(ClientName::new("lan"), vec![]) }
    }

    #[test]
    fn client_then_sender_then_recipient_domain_then_default() {
        let routes = Routes {
            routes: vec![
                Route {
                    account: AccountId::new("payroll"),
                    senders: vec!["*@payroll.contoso.com".parse().unwrap()],
                    recipients: vec![],
                },
                Route {
                    account: AccountId::new("partner"),
                    senders: vec![],
                    recipients: vec!["*@partner.example".parse().unwrap()],
                },
            ],
            default: AccountId::new("scanner"),
        };
        let to =
            ["a@contoso.com", "b@partner.example", "c@contoso.com"].map(|m| m.parse::<Mailbox>().unwrap());
        let split = |client: &Client, from: &str| -> Vec<String> {
            let from = from.parse().map_or(ReversePath::Null, ReversePath::Mailbox);
            routes
                .split(client, &from, &to)
                .into_iter()
                .map(|(a, r)| format!("{a}: {}", r.iter().map(Mailbox::local).collect::<Vec<_>>().join(" ")))
                .collect()
        };
        assert_eq!(split(&anybody(None), ""), ["scanner: a c", "partner: b"]);
        assert_eq!(split(&anybody(None), "x@payroll.contoso.com"), ["payroll: a b c"]);
        assert_eq!(split(&anybody(Some("alarms")), "x@payroll.contoso.com"), ["alarms: a b c"]);
    }
}
