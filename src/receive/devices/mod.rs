//! The observer that remembers who came, how much they sent, what went wrong last, and who was refused: what `status`
//! and `devices` say of devices.
//!
//! Invariant: what is remembered has a bound (`memory`), and is kept over restarts (`kept`) without any device waiting
//! for it. Must not know: sessions, who asks.

mod kept;
mod memory;

pub use memory::{Device, Refused};

use crate::fact::receive::Fact;
use crate::fact::{self, At, Observer};
use crate::mail::{ClientName, WallTime};
use crate::policy::admission::{Client, Standing};
use jiff::tz::TimeZone;
use memory::Memory;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One address of a client, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The client.
    pub client: ClientName,
    /// The address; none: of a client that never came.
    pub address: Option<IpAddr>,
    /// When it was last connected.
    pub last_seen_at: Option<WallTime>,
    /// Messages that got a 250 since the start.
    pub messages_total: u64,
    /// What went wrong last; empty: nothing.
    pub last_problem: String,
    /// Silent for longer than the client's `silent_after`.
    pub is_silent: bool,
}

/// Remembers devices.
#[derive(Debug)]
pub struct Devices {
    since: WallTime,
    /// Whose midnight ends a day.
    zone: TimeZone,
    memory: Mutex<Memory>,
}

impl Devices {
    /// Nobody came yet.
    pub fn new(since: WallTime, zone: TimeZone) -> Self {
        Self { since, zone, memory: Mutex::default() }
    }

    /// Every device, by address, and which day it is for `Device::messages_on`.
    pub fn all(&self, now: WallTime) -> (Vec<Device>, i64) {
        (self.lock().devices.values().cloned().collect(), self.day(now))
    }

    /// Everyone who was refused and is not allowed since, latest first.
    pub fn refused(&self) -> Vec<Refused> {
        let mut refused: Vec<Refused> = self.lock().refused.values().cloned().collect();
        refused.sort_by_key(|r| std::cmp::Reverse(r.last_seen_at));
        refused
    }

    /// The admin gives a device a name, or with an empty one takes it away; false: it never came.
    pub fn name(&self, address: IpAddr, name: &str) -> bool {
        self.lock().name(address, name)
    }

    /// The admin has seen who was refused; false: nobody of this address was.
    pub fn mark_seen(&self, address: IpAddr) -> bool {
        self.lock().seen(address)
    }

    /// Everyone seen, and every configured client that was not.
    pub fn seen<'a>(&self, clients: impl Iterator<Item = &'a Client>, now: WallTime) -> Vec<Visitor> {
        let memory = self.lock();
        let mut all = Vec::with_capacity(memory.devices.len());
        for client in clients {
            let silent = |last: WallTime| {
                let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
                client
                    .silent_after
                    .is_some_and(|after| now.as_ms() - last.max(self.since).as_ms() > ms(after))
            };
            let before = all.len();
            for device in memory.devices.values().filter(|d| d.client == client.name) {
                all.push(Visitor {
                    client: device.client.clone(),
                    address: Some(device.address),
                    last_seen_at: Some(device.last_seen_at),
                    messages_total: device.messages_total,
                    last_problem: device.problem.clone(),
                    is_silent: silent(device.last_seen_at),
                });
            }
            if all.len() == before {
                all.push(Visitor {
                    client: client.name.clone(),
                    address: None,
                    last_seen_at: None,
                    messages_total: 0,
                    last_problem: String::new(),
                    is_silent: silent(self.since),
                });
            }
        }
        all
    }

    fn day(&self, now: WallTime) -> i64 {
        let offset_ms = i64::from(self.zone.to_offset(now.timestamp()).seconds()) * 1000;
        (now.as_ms() + offset_ms).div_euclid(86_400_000)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Devices {
    fn saw(&self, at: At, fact: &fact::Fact) {
        let fact::Fact::Receive(fact) = fact else { return };
        let failed = |client, peer, problem| self.lock().visit(client, peer, at.wall).failed(problem);
        match fact {
            Fact::Connected { peer, client: Some(client) }
            | Fact::TurnedAway { peer, client: Some(client), .. } => {
                self.lock().visit(client, *peer, at.wall);
            }
            Fact::RelayRefused { peer, helo } => {
                self.lock().refuse(*peer, helo, "wanted to send", at.wall);
            }
            Fact::TlsOnPlainPort { peer, standing: Standing::Stranger } => {
                self.lock().refuse(*peer, b"", "spoke TLS to a plain port", at.wall);
            }
            // Whatever was wrong before is over.
            Fact::Queued { peer, client, helo, .. } => {
                let day = self.day(at.wall);
                self.lock().visit(client, *peer, at.wall).sent(helo, day);
            }
            Fact::MessageRefused { peer, client, reply } => {
                failed(client, *peer, reply.trim_end().to_owned());
            }
            Fact::QueueRefused { peer, client, why, .. } => failed(client, *peer, why.clone()),
            Fact::EndOfDataMissing { peer, client, lf_dot_lf, .. } => {
                let hint = if *lf_dot_lf {
                    "set line_endings = \"lf\" for this client"
                } else {
                    "look for a firmware update"
                };
                let words = format!("no end of data (a line with only a dot) came in time. hint: {hint}");
                failed(client, *peer, words);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an `Instant` comes from nowhere else")]
mod tests {
    use super::*;
    use crate::mail::{QueueId, ReversePath};
    use std::time::Instant;

    fn tell(visitors: &Devices, ms: i64, fact: Fact) {
        let at = At { wall: WallTime::from_ms(ms), instant: Instant::now() };
        visitors.saw(at, &fact.into());
    }

    fn client(name: &str, silent_after: Option<Duration>) -> Client {
        Client { silent_after, ..Client::new(ClientName::new(name), vec![]) }
    }

    #[test]
    fn a_device_that_falls_silent_is_noticed_and_one_that_never_came_too() {
        let at = WallTime::from_ms;
        let visitors = Devices::new(at(0), TimeZone::UTC);
        let clients = [client("printers", Some(Duration::from_secs(60))), client("ups", None)];
        let printer: IpAddr = "10.0.5.7".parse().unwrap();
        let client = clients[0].name.clone();
        let reply = "552 too large\r\n".to_owned();
        tell(&visitors, 500, Fact::MessageRefused { peer: printer, client: client.clone(), reply });
        assert_eq!(visitors.seen(clients.iter(), at(500))[0].last_problem, "552 too large");
        let id = QueueId::from_number(1);
        let (from, to) = (ReversePath::Null, vec![]);
        tell(
            &visitors,
            1000,
            Fact::Queued { id, peer: printer, client, from, to, size_bytes: 1, helo: vec![] },
        );
        let seen = visitors.seen(clients.iter(), at(61_000));
        assert_eq!((seen[0].messages_total, seen[0].is_silent), (1, false));
        assert_eq!(seen[0].last_problem, "", "a success ends the problem");
        assert_eq!((seen[1].address, seen[1].is_silent), (None, false));
        assert!(visitors.seen(clients.iter(), at(61_001))[0].is_silent);
    }
}
