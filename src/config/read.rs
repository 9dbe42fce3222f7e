//! What several sections are read with: small values, and what was found where.
//!
//! Must not know: what any key means.

use super::field::Field;
use super::{Account, Place};
use crate::mail::{AccountId, AddressPattern, Mailbox};
use crate::policy::admission::Client;
use crate::policy::route::Route;
use ipnet::IpNet;

/// What is said where one device can take all there is.
pub(super) const ONE_FILLS_ALL: &str = "one device can take every connection there is";
pub(super) const SEVERAL_TIMES: &str = "make max_connections in [receive] several times what one may have";

/// A thing and where it was configured.
pub(super) struct At<T>(pub(super) T, pub(super) Place);

/// A client, the places of its networks, and the account it asks for.
pub(super) type Found = (At<Client>, Wants);

pub(super) struct Wants {
    pub(super) networks: Vec<At<IpNet>>,
    pub(super) account: Option<At<AccountId>>,
}

/// An account, and what it is used for.
pub(super) struct Sending {
    pub(super) account: Account,
    pub(super) route: Route,
}

/// What is configured takes the default's place.
pub(super) fn set<T>(value: &mut T, configured: Option<T>) {
    if let Some(configured) = configured {
        *value = configured;
    }
}

pub(super) fn addresses(field: &Field<'_>) -> Vec<Mailbox> {
    field.items().iter().filter_map(|item| item.parse("\"it@contoso.com\"", str::parse)).collect()
}

pub(super) fn patterns(field: &Field<'_>) -> Vec<AddressPattern> {
    let example = "\"scanner@contoso.com\" or \"*@contoso.com\"";
    field.items().iter().filter_map(|item| item.parse(example, str::parse)).collect()
}

pub(super) fn small(field: &Field<'_>) -> Option<u32> {
    field.number(1..=1_000_000).and_then(|n| u32::try_from(n).ok())
}
