//! Who came, how much they sent, what went wrong last: what `status` says of devices.
//!
//! Invariant: at most `MOST` addresses are remembered; texts are escaped before they get here. Forgotten at a
//! restart: history is the queue's. Must not know: sessions, who asks.

use crate::mail::{ClientName, WallTime};
use crate::policy::admission::Client;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A /20 full of printers.
const MOST: usize = 4096;

/// One address of a client, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The client.
    pub client: ClientName,
    /// The address; none: of a client that never came.
    pub address: Option<IpAddr>,
    /// When it was last connected.
    pub last_seen_at: Option<WallTime>,
    /// Messages that got a 250.
    pub messages_total: u64,
    /// What went wrong last; empty: nothing.
    pub last_problem: String,
    /// Silent for longer than the client's `silent_after`.
    pub is_silent: bool,
}

#[derive(Debug)]
struct Visit {
    seen_at: WallTime,
    messages: u64,
    problem: String,
}

/// Remembers visits.
#[derive(Debug)]
pub struct Visitors {
    since: WallTime,
    visits: Mutex<BTreeMap<(ClientName, IpAddr), Visit>>,
}

impl Visitors {
    /// Nobody came yet.
    pub fn new(since: WallTime) -> Self {
        Self { since, visits: Mutex::default() }
    }

    /// An admitted address is connected.
    pub fn came(&self, client: &ClientName, address: IpAddr, now: WallTime) {
        self.visit(client, address, now, |_| ());
    }

    /// A message of it got a 250: whatever was wrong before is over.
    pub fn sent(&self, client: &ClientName, address: IpAddr, now: WallTime) {
        self.visit(client, address, now, |v| {
            v.messages += 1;
            v.problem.clear();
        });
    }

    /// Something went wrong, in one escaped line.
    pub fn failed(&self, client: &ClientName, address: IpAddr, now: WallTime, problem: String) {
        self.visit(client, address, now, |v| v.problem = problem);
    }

    /// Everyone seen, and every configured client that was not.
    pub fn seen<'a>(&self, clients: impl Iterator<Item = &'a Client>, now: WallTime) -> Vec<Visitor> {
        let visits = self.lock();
        let mut all = Vec::with_capacity(visits.len());
        for client in clients {
            let silent = |last: WallTime| {
                let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
                client
                    .silent_after
                    .is_some_and(|after| now.as_ms() - last.max(self.since).as_ms() > ms(after))
            };
            let before = all.len();
            for ((name, address), visit) in visits.iter().filter(|((name, _), _)| *name == client.name) {
                all.push(Visitor {
                    client: name.clone(),
                    address: Some(*address),
                    last_seen_at: Some(visit.seen_at),
                    messages_total: visit.messages,
                    last_problem: visit.problem.clone(),
                    is_silent: silent(visit.seen_at),
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

    fn visit(&self, client: &ClientName, address: IpAddr, now: WallTime, change: impl FnOnce(&mut Visit)) {
        let mut visits = self.lock();
        let key = (client.clone(), address);
        if visits.len() >= MOST && !visits.contains_key(&key) {
            let oldest = visits.iter().min_by_key(|(_, v)| v.seen_at).map(|(k, _)| k.clone());
            oldest.and_then(|k| visits.remove(&k));
        }
        let visit =
            visits.entry(key).or_insert_with(|| Visit { seen_at: now, messages: 0, problem: String::new() });
        visit.seen_at = now;
        change(visit);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ClientName, IpAddr), Visit>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, silent_after: Option<Duration>) -> Client {
        Client { silent_after, ..Client::new(ClientName::new(name), vec![]) }
    }

    #[test]
    fn a_device_that_falls_silent_is_noticed_and_one_that_never_came_too() {
        let at = WallTime::from_ms;
        let visitors = Visitors::new(at(0));
        let clients = [client("printers", Some(Duration::from_secs(60))), client("ups", None)];
        let printer: IpAddr = "10.0.5.7".parse().unwrap();
        visitors.failed(&clients[0].name, printer, at(500), "552 too large".into());
        assert_eq!(visitors.seen(clients.iter(), at(500))[0].last_problem, "552 too large");
        visitors.sent(&clients[0].name, printer, at(1000));
        let seen = visitors.seen(clients.iter(), at(61_000));
        assert_eq!((seen[0].messages_total, seen[0].is_silent), (1, false));
        assert_eq!(seen[0].last_problem, "", "a success ends the problem");
        assert_eq!((seen[1].address, seen[1].is_silent), (None, false));
        assert!(visitors.seen(clients.iter(), at(61_001))[0].is_silent);
    }

    #[test]
    fn a_scan_of_the_network_does_not_fill_the_memory() {
        let visitors = Visitors::new(WallTime::from_ms(0));
        let lan = ClientName::new("lan");
        for i in 0..10_000_u32 {
            visitors.came(&lan, IpAddr::from(i.to_be_bytes()), WallTime::from_ms(i.into()));
        }
        assert_eq!(visitors.lock().len(), MOST);
    }
}
