//! How a running relay is asked and told: HTTP on two unix sockets, spoken by `mailferry status` and `mailferry queue`.
//!
//! Invariant: only who may open the control socket changes anything; on the status socket anybody may ask how it goes;
//! every text of a peer leaves escaped; nothing here decides, it reports and passes on. Must not know: SMTP, schedules,
//! how the queue stores.

pub mod anybody;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod api;
pub mod client;
pub mod report;
mod run;
pub mod socket;

pub use run::{RequestError, Run, Standing};

use crate::mail::{AccountId, Place, WallTime};
use crate::policy::advice::Advice;
use crate::policy::incident::Incident;
use futures_util::future::BoxFuture;
use report::DeviceList;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The parts of a status that only the running daemon has. The dispatcher and the receiver provide them.
pub trait Live: Send + Sync + 'static {
    /// The names of every account there is, in configured order.
    fn configured(&self) -> Vec<AccountId>;

    /// Every account, in configured order.
    fn accounts(&self) -> BoxFuture<'_, Vec<AccountLive>>;

    /// Every client and address seen so far; a client that never came has one entry without address.
    fn clients(&self) -> Vec<ClientLive>;

    /// Reads the configuration again, as at a SIGHUP; the keys whose new values count only after a restart, or what is
    /// wrong with it.
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;

    /// Everything that is remembered of devices.
    fn devices(&self) -> DeviceList;

    /// Gives a device a name, or with an empty one takes it away; false: it never came.
    fn name_device(&self, address: IpAddr, name: &str) -> bool;

    /// Marks who was refused as seen; false: nobody of this address was.
    fn device_seen(&self, address: IpAddr) -> bool;

    /// What a human has to do because the relay runs with other files than lie there now, or with such that end.
    fn on_disk(&self) -> BoxFuture<'_, Vec<report::Need>> {
        Box::pin(std::future::ready(vec![]))
    }

    /// What is wrong and lasts, worst first.
    fn incidents(&self) -> Vec<Incident> {
        vec![]
    }

    /// Counts since the start, by their stable names (`.._total`).
    fn counters(&self) -> BTreeMap<&'static str, u64>;

    /// Stops sending through the account until `resume`; false: there is no such account.
    fn pause(&self, account: &AccountId) -> bool;

    /// Sends again; false: there is no such account.
    fn resume(&self, account: &AccountId) -> bool;

    /// Tries the account now, as somebody has mended it; false: there is no such account.
    fn probe(&self, account: &AccountId) -> bool;
}

/// An account at this moment.
#[derive(Debug, Clone)]
pub struct AccountLive {
    /// Which.
    pub account: AccountId,
    /// `host:port`.
    pub smart_host: Place,
    /// Whether mail flows.
    pub state: report::AccountState,
    /// Why it does not, in one escaped line; empty when it does.
    pub reason: String,
    /// What the catalogue has on it; none when mail flows, or nobody knows.
    pub advice: Option<Advice>,
    /// What a human can do about it, if only a human can.
    pub hint: Option<String>,
    /// Since when it has been so.
    pub since: Option<WallTime>,
    /// What a human should do although mail flows, such as an end that comes near.
    pub warnings: Vec<report::Need>,
    /// When it is tried next.
    pub next_probe_at: Option<WallTime>,
    /// Open connections.
    pub connections: usize,
    /// Messages sent in the last minute.
    pub sent_last_minute: u32,
}

/// One address of a client.
#[derive(Debug, Clone)]
pub struct ClientLive {
    /// The `[[client]]`.
    pub name: String,
    /// Its address; none when nothing ever came.
    pub address: Option<IpAddr>,
    /// When it was last connected.
    pub last_seen_at: Option<WallTime>,
    /// Messages taken since the start.
    pub messages_total: u64,
    /// What went wrong last, one escaped line; empty: nothing.
    pub last_problem: String,
    /// It has been silent longer than its `silent_after`.
    pub is_silent: bool,
}
