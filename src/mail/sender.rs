//! Who an account may send as.
//!
//! Invariant: no address without a public domain, and none that needs SMTPUTF8, is ever used but the account's own.
//! Must not know: heads; what is written into them is `letter`'s.

use super::{AddressPattern, Mailbox, ReversePath};

/// Who an account may send as.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The account's own mailbox.
    pub mailbox: Mailbox,
    /// What else may be used (SendAs rights in the tenant).
    pub send_as: Vec<AddressPattern>,
}

impl Sender {
    /// Whether this address may stand in MAIL FROM and From. A literal or a bare host name never may, nor an
    /// address that needs SMTPUTF8: Exchange Online has no such mailboxes.
    pub fn may_use(&self, address: &Mailbox) -> bool {
        address.is_same(&self.mailbox)
            || address.has_public_domain()
                && address.is_ascii()
                && self.send_as.iter().any(|p| p.matches(address))
    }

    /// Whether this address is of people of ours: of the mailbox's own domain, or one that may be used.
    pub fn is_ours(&self, address: &Mailbox) -> bool {
        self.may_use(address) || address.in_ascii().domain() == self.mailbox.in_ascii().domain()
    }

    /// MAIL FROM at the smart host: the device's address where it may be used, else the mailbox. `<>` becomes the
    /// mailbox, too: Exchange Online takes no null sender from a client.
    pub fn reverse_path(&self, from: &ReversePath) -> Mailbox {
        from.mailbox().filter(|m| self.may_use(m)).unwrap_or(&self.mailbox).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(send_as: &[&str]) -> Sender {
        Sender {
            mailbox: "scanner@contoso.com".parse().unwrap(),
            send_as: send_as.iter().map(|p| p.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_reverse_path_is_the_devices_only_where_it_may_be_used() {
        let path = |from: &str, send_as: &[&str]| {
            let from = match from {
                "<>" => ReversePath::Null,
                "ilo.@" => ReversePath::Unusable("ilo.@".into()),
                m => ReversePath::Mailbox(m.parse().unwrap()),
            };
            sender(send_as).reverse_path(&from).to_string()
        };
        let own = "scanner@contoso.com";
        assert_eq!(path("<>", &["*"]), own);
        assert_eq!(path("ilo.@", &["*"]), own);
        assert_eq!(path("Scanner@Contoso.com", &[]), "Scanner@contoso.com");
        assert_eq!(path("hp@contoso.com", &[]), own);
        assert_eq!(path("hp@contoso.com", &["*@contoso.com"]), "hp@contoso.com");
        assert_eq!(path("hp@printserver", &["*"]), own, "no public domain");
        assert_eq!(path("hp@[10.0.0.1]", &["*"]), own);
        assert_eq!(path("hp@10.0.0.1", &["*"]), own);
    }
}
