//! Who may relay, decided by the source address alone.
//!
//! Invariant: an address outside every `[[client]]` network is admitted by nothing else: no login, no header, no
//! earlier transaction. The longest prefix wins.

use crate::mail::{AccountId, AddressPattern, ClientName, Mailbox};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What line ends a client's devices send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineEndings {
    /// CRLF, as the standard says; stray LF inside a message is content.
    #[default]
    Crlf,
    /// Only ever LF, the end of data included.
    Lf,
}

/// Whether a peer may relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In a client's network.
    Device,
    /// In none.
    Stranger,
}

/// A `[[client]]`: who may relay, and how.
#[derive(Debug, Clone)]
pub struct Client {
    /// As configured; shown in log, status and history.
    pub name: ClientName,
    /// Its networks.
    pub networks: Vec<IpNet>,
    /// Sends through this account, whatever the sender and recipients.
    pub account: Option<AccountId>,
    /// May write only to these; empty: to anybody.
    pub allowed_recipients: Vec<AddressPattern>,
    /// Bytes a message, where lower than the general limit.
    pub max_message_size_bytes: Option<u64>,
    /// Connections at once from one address, in place of `max_connections_per_client`.
    pub max_connections: Option<usize>,
    /// Messages a minute from all of the client's addresses together.
    pub messages_per_minute: Option<u32>,
    /// WHATWG label of the character set its devices use in raw header fields.
    pub charset: Option<String>,
    /// What line ends its devices send.
    pub line_endings: LineEndings,
    /// Silence longer than this is reported.
    pub silent_after: Option<Duration>,
}

impl Client {
    /// One about whom nothing else is said.
    pub fn new(name: ClientName, networks: Vec<IpNet>) -> Self {
        Self {
            name,
            networks,
            account: None,
            allowed_recipients: vec![],
            max_message_size_bytes: None,
            max_connections: None,
            messages_per_minute: None,
            charset: None,
            line_endings: LineEndings::default(),
            silent_after: None,
        }
    }

    /// Whether it may write to this recipient.
    pub fn may_write_to(&self, recipient: &Mailbox) -> bool {
        self.allowed_recipients.is_empty() || self.allowed_recipients.iter().any(|p| p.matches(recipient))
    }
}

/// Every `[[client]]`.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    all: Vec<Arc<Client>>,
    networks: Vec<(IpNet, Arc<Client>)>,
}

impl Clients {
    /// Orders the networks once, longest prefix first.
    pub fn new(clients: Vec<Client>) -> Self {
        let all: Vec<Arc<Client>> = clients.into_iter().map(Arc::new).collect();
        let mut networks: Vec<(IpNet, Arc<Client>)> =
            all.iter().flat_map(|c| c.networks.iter().map(|n| (n.trunc(), Arc::clone(c)))).collect();
        networks.sort_by_key(|(n, _)| std::cmp::Reverse(n.prefix_len()));
        Self { all, networks }
    }

    /// Every client, in configured order.
    pub fn all(&self) -> impl Iterator<Item = &Client> {
        self.all.iter().map(Arc::as_ref)
    }

    /// The client this address belongs to, or none: then it may not relay. An IPv4 address that came over an IPv6
    /// socket (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn admit(&self, peer: IpAddr) -> Option<&Arc<Client>> {
        let peer = peer.to_canonical();
        self.networks.iter().find(|(n, _)| n.contains(&peer)).map(|(_, c)| c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, networks: &[&str]) -> Client {
        Client::new(ClientName::new(name), networks.iter().map(|n| n.parse().unwrap()).collect())
    }

    #[test]
    fn the_longest_prefix_wins_and_nobody_else_may_relay() {
        let clients = Clients::new(vec![
            client("lan", &["10.0.0.0/8", "fd00::/8"]),
            client("printers", &["10.0.5.0/24"]),
            client("the old one", &["10.0.5.7/32"]),
        ]);
        let name = |ip: &str| clients.admit(ip.parse().unwrap()).map(|c| c.name.to_string());
        assert_eq!(name("10.1.1.1").as_deref(), Some("lan"));
        assert_eq!(name("10.0.5.9").as_deref(), Some("printers"));
        assert_eq!(name("10.0.5.7").as_deref(), Some("the old one"));
        assert_eq!(name("::ffff:10.0.5.7").as_deref(), Some("the old one"), "mapped addresses are IPv4");
        assert_eq!(name("fd00::1").as_deref(), Some("lan"));
        for stranger in ["192.0.2.1", "127.0.0.1", "::1", "11.0.0.1", "2001:db8::1"] {
            assert_eq!(name(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_client_may_be_confined_to_its_own_domain() {
        let mut c = client("printers", &[]);
        assert!(c.may_write_to(&"x@anywhere.example".parse().unwrap()));
        c.allowed_recipients = vec!["*@contoso.com".parse().unwrap()];
        assert!(c.may_write_to(&"x@contoso.com".parse().unwrap()));
        assert!(!c.may_write_to(&"x@anywhere.example".parse().unwrap()));
    }
}
