//! What the receiver is told by the configuration.
//!
//! Invariant: a value of `Settings` is one whole configuration; a transaction uses one from MAIL to its end.

use crate::mail::AccountId;
use crate::policy::admission::{Clients, Standing};
use crate::policy::route::Routes;
use crate::receive::limits::Caps;
use secrecy::SecretString;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How a listener is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// In the clear.
    #[default]
    Off,
    /// STARTTLS is announced.
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

/// What a listener does about AUTH. Admission by address holds in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// Not announced.
    #[default]
    Off,
    /// Takes any credentials from admitted addresses, for devices that insist on having some. As the next one, it is
    /// announced and taken inside TLS only where `Tls` is `StartTls`.
    Any,
    /// MAIL is refused without a login of `Settings::users`.
    Required,
}

/// One listener.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// Protection.
    pub tls: Tls,
    /// Logins.
    pub auth: Auth,
    /// Certificate and key; must be there unless `tls` is `Off`. With it, a plain listener serves TLS to a device
    /// that begins with a ClientHello.
    pub certificate: Option<Arc<rustls::ServerConfig>>,
}

/// What may change on a reload, for every listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in banner, EHLO and Received.
    pub hostname: String,
    /// The most a message may have.
    pub max_message_size_bytes: u64,
    /// Recipients of one transaction.
    pub max_recipients: usize,
    /// Connections at once, of those who may relay.
    pub max_connections: usize,
    /// Connections at once from one address, unless its client says otherwise.
    pub max_connections_per_client: usize,
    /// Silence between commands.
    pub idle_timeout: Duration,
    /// Silence inside DATA.
    pub data_timeout: Duration,
    /// Who may relay.
    pub clients: Clients,
    /// Which account a recipient leaves through.
    pub routes: Routes,
    /// Logins for `Auth::Required`.
    pub users: Vec<(String, SecretString)>,
    /// The address of each account, where it differs from the account's name.
    pub mailboxes: HashMap<AccountId, String>,
}

impl Settings {
    /// With the usual limits, and without users.
    pub fn new(hostname: impl Into<String>, clients: Clients, routes: Routes) -> Self {
        Self {
            hostname: hostname.into(),
            max_message_size_bytes: 35 << 20,
            max_recipients: 500,
            max_connections: 1000,
            max_connections_per_client: 50,
            idle_timeout: Duration::from_secs(600),
            data_timeout: Duration::from_secs(300),
            clients,
            routes,
            users: vec![],
            mailboxes: HashMap::new(),
        }
    }

    /// Whether this address may relay.
    pub fn standing(&self, address: IpAddr) -> Standing {
        if self.clients.admit(address).is_some() { Standing::Device } else { Standing::Stranger }
    }

    /// How many connections the devices of a client may have, where its own number is `own`. A host of IPv6 that
    /// makes itself an address for every connection leaves half of all to others; so does a whole /64 of devices.
    pub fn caps(&self, own: Option<usize>) -> Caps {
        let per_address = own.unwrap_or(self.max_connections_per_client);
        Caps { total: self.max_connections, per_address, per_peer: per_address.max(self.max_connections / 2) }
    }

    /// The address of an account.
    pub fn mailbox<'a>(&'a self, account: &'a AccountId) -> &'a str {
        self.mailboxes.get(account).map_or(account.as_str(), String::as_str)
    }
}
