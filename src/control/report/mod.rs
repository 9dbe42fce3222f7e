//! What is said about the relay, as JSON between server and client: one set of types for both ends.
//!
//! Invariant: moments are RFC 3339 in UTC, other quantities name their unit; every text of a peer is escaped.
//! `sentence` is the one line that says whether a human is needed. Must not know: sockets, terminals.

mod devices;
mod incident;
mod message;
mod needs;
mod sentence;

pub use devices::{DeviceList, DeviceStatus, Naming, RefusedStatus};
pub use incident::{IncidentStatus, severity};
pub use message::{
    Action, ChangeRequest, Changed, Line, Listed, Message, Prospect, Refusal, Select, Shown, To, ToProgress,
    Try,
};

pub use needs::{Ending, move_hint, stranded};
pub use sentence::{Need, given_up, level, needs, sentence, to_look_at, with_incidents};

use super::{AccountLive, ClientLive};
use crate::mail::{Place, RelayTime, State, WallTime};
use crate::queue::Total;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A moment; RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct At(pub WallTime);

impl From<At> for String {
    fn from(at: At) -> Self {
        at.0.to_string()
    }
}

impl TryFrom<String> for At {
    type Error = jiff::Error;
    fn try_from(s: String) -> Result<Self, jiff::Error> {
        Ok(Self(WallTime::from_ms(s.parse::<jiff::Timestamp>()?.as_millisecond())))
    }
}

/// The whole relay at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Whether the daemon answered; false when the queue was read from its directory.
    pub running: bool,
    /// The version of who answered.
    pub version: String,
    /// When the daemon started.
    pub started_at: Option<At>,
    /// Mail goes to the sandbox: nobody gets it.
    #[serde(default)]
    pub is_sandbox: bool,
    /// So much as anybody may see: without the smart host's words and the devices' addresses.
    #[serde(default)]
    pub is_abridged: bool,
    /// All of it in one line.
    pub sentence: String,
    /// What is wrong and lasts, worst first; of a relay that does not run, nobody knows.
    #[serde(default)]
    pub incidents: Vec<IncidentStatus>,
    /// What only a human can put right.
    pub needs_human: Vec<Need>,
    /// Every account.
    pub accounts: Vec<AccountStatus>,
    /// Every client and address seen.
    pub clients: Vec<ClientStatus>,
    /// Who may not relay, tried to, and was not marked as seen; latest first.
    #[serde(default)]
    pub refused: Vec<RefusedStatus>,
    /// Every account's messages together.
    pub queue: QueueStatus,
    /// Counts since the start.
    pub counters: BTreeMap<String, u64>,
}

/// Whether mail flows through an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It does.
    Open,
    /// It will again by itself.
    BackingOff,
    /// Somebody must do something; it is tried now and then.
    Held,
    /// The admin stopped it.
    Paused,
}

/// One account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountStatus {
    /// Its mailbox.
    pub mailbox: String,
    /// `host:port`.
    pub smart_host: Place,
    /// Whether mail flows.
    pub state: AccountState,
    /// Why not; empty when it does.
    pub reason: String,
    /// Since when.
    pub since: Option<At>,
    /// When it is tried next.
    pub next_probe_at: Option<At>,
    /// Open connections.
    pub connections: usize,
    /// Messages.
    pub sent_last_minute: u32,
    /// Recipients delivered in the last hour.
    pub recipients_last_hour: u64,
    /// Recipients delivered in the last 24 hours.
    pub recipients_today: u64,
    /// Messages waiting.
    pub queued: u64,
    /// Dead letters.
    pub dead: u64,
    /// Messages held by the admin.
    pub held: u64,
    /// The arrival of the oldest message waiting.
    pub oldest: Option<At>,
}

/// One address of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The `[[client]]`.
    pub name: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// When it was last connected.
    pub last_seen_at: Option<At>,
    /// Since the start.
    pub messages_total: u64,
    /// What went wrong last; empty: nothing.
    pub last_problem: String,
    /// Silent longer than its `silent_after`.
    pub is_silent: bool,
}

/// Messages by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Waiting.
    pub queued: u64,
    /// Set aside by the admin.
    pub held: u64,
    /// Given up.
    pub dead: u64,
    /// Delivered, as far as history goes.
    pub delivered: u64,
    /// Size of what waits, is held or dead.
    pub size_bytes: u64,
    /// The arrival of the oldest message waiting.
    pub oldest: Option<At>,
}

impl QueueStatus {
    /// Adds up what the queue counted.
    pub fn of(totals: &[Total]) -> Self {
        let mut sum = Self::default();
        for t in totals {
            match t.state {
                State::Queued => sum.queued += t.messages,
                State::Held => sum.held += t.messages,
                State::Dead => sum.dead += t.messages,
                State::Delivered => sum.delivered += t.messages,
            }
            if t.state != State::Delivered {
                sum.size_bytes += t.size_bytes;
            }
            if t.state == State::Queued {
                sum.oldest = [sum.oldest, t.oldest.map(At)].into_iter().flatten().min();
            }
        }
        sum
    }
}

impl AccountStatus {
    /// Puts together what the dispatcher and the queue know of an account. `delivered` is what the queue counted
    /// in the last 24 hours, `hour_ago` the moment from which the last hour counts.
    pub fn of(
        live: AccountLive,
        totals: &[Total],
        delivered: &[(RelayTime, u32)],
        hour_ago: RelayTime,
    ) -> Self {
        let mine: Vec<Total> = totals.iter().filter(|t| t.account == live.account).cloned().collect();
        let queue = QueueStatus::of(&mine);
        let sum = |from: Option<RelayTime>| {
            delivered.iter().filter(|(at, _)| from.is_none_or(|f| *at >= f)).map(|(_, n)| u64::from(*n)).sum()
        };
        Self {
            mailbox: live.account.to_string(),
            smart_host: live.smart_host,
            state: live.state,
            reason: live.reason,
            since: live.since.map(At),
            next_probe_at: live.next_probe_at.map(At),
            connections: live.connections,
            sent_last_minute: live.sent_last_minute,
            recipients_last_hour: sum(Some(hour_ago)),
            recipients_today: sum(None),
            queued: queue.queued,
            dead: queue.dead,
            held: queue.held,
            oldest: queue.oldest,
        }
    }
}

impl From<ClientLive> for ClientStatus {
    fn from(c: ClientLive) -> Self {
        Self {
            name: c.name,
            address: c.address,
            last_seen_at: c.last_seen_at.map(At),
            messages_total: c.messages_total,
            last_problem: c.last_problem,
            is_silent: c.is_silent,
        }
    }
}

/// The same of a relay whose mail goes to the sandbox: whatever else it says, nobody gets that mail.
pub fn in_sandbox(sentence: &str) -> String {
    format!("SANDBOX, mail goes to a stand-in and to nobody else; {sentence}")
}

/// The same when the daemon does not run.
pub fn sentence_when_stopped(queue: &QueueStatus) -> String {
    format!("mailferry is not running: {} waiting, {} given up", count(queue.queued, "message"), queue.dead)
}

/// `1 message`, `2 messages`.
pub fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::AccountId;

    fn total(state: State, messages: u64, oldest_ms: i64) -> Total {
        let account = AccountId::new("scanner@contoso.com");
        Total {
            account,
            state,
            messages,
            size_bytes: messages * 10,
            oldest: Some(WallTime::from_ms(oldest_ms)),
        }
    }

    #[test]
    fn totals_add_up_and_only_what_waits_has_an_age() {
        let totals = [
            total(State::Queued, 2, 50),
            total(State::Queued, 1, 40),
            total(State::Dead, 4, 10),
            total(State::Delivered, 9, 1),
        ];
        let sum = QueueStatus::of(&totals);
        assert_eq!((sum.queued, sum.dead, sum.delivered, sum.size_bytes), (3, 4, 9, 70));
        assert_eq!(sum.oldest, Some(At(WallTime::from_ms(40))));
        assert_eq!(sentence_when_stopped(&sum), "mailferry is not running: 3 messages waiting, 4 given up");
    }

    #[test]
    fn a_moment_is_rfc_3339_in_json() {
        let at = At(WallTime::from_ms(1_795_435_200_000));
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(json, "\"2026-11-23T12:00:00Z\"");
        assert_eq!(serde_json::from_str::<At>(&json).unwrap(), at);
    }
}
