//! Who sends, and who was refused.

use super::At;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// All that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// Addresses of clients, in their order.
    pub devices: Vec<DeviceStatus>,
    /// Addresses that may not relay, latest first.
    pub refused: Vec<RefusedStatus>,
}

/// One address of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// It.
    pub address: IpAddr,
    /// The `[[client]]` it was of when it last came.
    pub client: String,
    /// Given by the admin; empty: none.
    pub name: String,
    /// What it calls itself; empty: it has not sent yet.
    pub helo: String,
    /// When it first came.
    pub first_seen_at: At,
    /// When it last came.
    pub last_seen_at: At,
    /// Messages taken today, in the host's zone.
    pub messages_today: u64,
    /// What went wrong last; empty: nothing since it last sent.
    pub last_problem: String,
}

/// An address that may not relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedStatus {
    /// It.
    pub address: IpAddr,
    /// What it called itself; empty: nothing.
    pub helo: String,
    /// What it did.
    pub did: String,
    /// When it first came.
    pub first_seen_at: At,
    /// When it last came.
    pub last_seen_at: At,
    /// So often.
    pub count: u64,
    /// The admin has marked it.
    pub is_seen: bool,
    /// What to do about it.
    pub hint: String,
}

/// A name for a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Naming {
    /// Empty: none any more.
    pub name: String,
}
