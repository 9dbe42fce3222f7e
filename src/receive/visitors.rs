//! The observer that remembers who came, how much they sent, what went wrong last: what `status` says of devices.
//!
//! Invariant: at most `MOST` addresses are remembered; strangers are not. Forgotten at a restart: history is the
//! queue's. Must not know: sessions, who asks.

use crate::fact::receive::Fact;
use crate::fact::{self, At, Observer};
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

impl Observer for Visitors {
    fn saw(&self, at: At, fact: &fact::Fact) {
        let fact::Fact::Receive(fact) = fact else { return };
        let failed = |client, peer, problem| self.visit(client, peer, at.wall, |v| v.problem = problem);
        match fact {
            Fact::Connected { peer, client: Some(client) }
            | Fact::TurnedAway { peer, client: Some(client), .. } => {
                self.visit(client, *peer, at.wall, |_| ())
            }
            // Whatever was wrong before is over.
            Fact::Queued { peer, client, .. } => self.visit(client, *peer, at.wall, |v| {
                v.messages += 1;
                v.problem.clear();
            }),
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
mod tests {
    use super::*;
    use crate::mail::{QueueId, ReversePath};
    use std::time::Instant;

    fn tell(visitors: &Visitors, ms: i64, fact: Fact) {
        let at = At { wall: WallTime::from_ms(ms), instant: Instant::now() };
        visitors.saw(at, &fact.into());
    }

    fn client(name: &str, silent_after: Option<Duration>) -> Client {
        Client { silent_after, ..Client::new(ClientName::new(name), vec![]) }
    }

    #[test]
    fn a_device_that_falls_silent_is_noticed_and_one_that_never_came_too() {
        let at = WallTime::from_ms;
        let visitors = Visitors::new(at(0));
        let clients = [client("printers", Some(Duration::from_secs(60))), client("ups", None)];
        let printer: IpAddr = "10.0.5.7".parse().unwrap();
        let client = clients[0].name.clone();
        let reply = "552 too large\r\n".to_owned();
        tell(&visitors, 500, Fact::MessageRefused { peer: printer, client: client.clone(), reply });
        assert_eq!(visitors.seen(clients.iter(), at(500))[0].last_problem, "552 too large");
        let id = QueueId::from_number(1);
        let (from, to) = (ReversePath::Null, vec![]);
        tell(&visitors, 1000, Fact::Queued { id, peer: printer, client, from, to, size_bytes: 1 });
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
            let peer = IpAddr::from(i.to_be_bytes());
            tell(&visitors, i.into(), Fact::Connected { peer, client: Some(lan.clone()) });
        }
        assert_eq!(visitors.lock().len(), MOST);
    }
}
