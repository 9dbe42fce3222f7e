//! Devices and refused strangers by address, as far as they are remembered. Pure.
//!
//! Invariant: at most `DEVICES` and `REFUSED` of them, apart from each other, so that no stranger pushes a device out;
//! a text of a peer is escaped and cut before it is kept. Must not know: where it is kept, who asks.

use crate::mail::{ClientName, Escaped, WallTime};
use crate::policy::peer::Peer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A /20 full of printers.
pub(super) const DEVICES: usize = 4096;
/// More strangers than anybody looks through.
pub(super) const REFUSED: usize = 256;
/// Of a HELO or a problem, so many characters.
const WORDS: usize = 200;
const HELO: usize = 64;

/// An address of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// It.
    pub address: IpAddr,
    /// The client it was of when it last came.
    pub client: ClientName,
    /// Given by the admin; empty: none.
    #[serde(default)]
    pub name: String,
    /// What it called itself with its last message, escaped; empty: nothing yet.
    #[serde(default)]
    pub helo: String,
    /// When it first came.
    pub first_seen_at: WallTime,
    /// When it last came.
    pub last_seen_at: WallTime,
    /// Days since 1970 in the host's zone, of `messages`.
    #[serde(default)]
    pub day: i64,
    /// Messages that got a 250 on that day.
    #[serde(default)]
    pub messages: u64,
    /// Messages since the start of this process.
    #[serde(skip)]
    pub messages_total: u64,
    /// What went wrong last, escaped; empty: nothing since it last sent.
    #[serde(default)]
    pub problem: String,
}

/// Somebody in no client's network who wanted to send, or spoke TLS to a plain port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The address it last came from.
    pub address: IpAddr,
    /// What it called itself, escaped; empty: nothing.
    #[serde(default)]
    pub helo: String,
    /// What it did.
    pub did: String,
    /// When it first came.
    pub first_seen_at: WallTime,
    /// When it last came.
    pub last_seen_at: WallTime,
    /// So often.
    pub count: u64,
    /// The admin has seen it, and wants to hear no more of it.
    #[serde(default)]
    pub is_seen: bool,
}

/// What is remembered, and which parts of it have changed since they were last kept.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) devices: BTreeMap<IpAddr, Device>,
    pub(super) refused: BTreeMap<Peer, Refused>,
    pub(super) changed: Changed,
}

/// Devices are kept in shards, so that a message of one does not write all of them anew.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) shards: std::collections::BTreeSet<u8>,
    pub(super) refused: bool,
    /// The admin did it: written in the next round.
    pub(super) at_once: bool,
}

pub(super) const SHARDS: u8 = 64;

/// Neighbours are apart: networks are small, and one of 64 devices fills no shard by itself.
pub(super) fn shard(address: IpAddr) -> u8 {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    last % SHARDS
}

impl Memory {
    /// A device is there.
    pub(super) fn visit(&mut self, client: &ClientName, address: IpAddr, now: WallTime) -> &mut Device {
        let address = address.to_canonical();
        self.changed.refused |= self.refused.remove(&Peer::of(address)).is_some();
        if self.devices.len() >= DEVICES && !self.devices.contains_key(&address) {
            let least = |d: &&Device| (!d.name.is_empty(), d.last_seen_at);
            let oldest = self.devices.values().min_by_key(least).map(|d| d.address);
            if let Some(oldest) = oldest {
                self.devices.remove(&oldest);
                self.changed.shards.insert(shard(oldest));
            }
        }
        self.changed.shards.insert(shard(address));
        let device = self.devices.entry(address).or_insert_with(|| Device {
            address,
            client: client.clone(),
            name: String::new(),
            helo: String::new(),
            first_seen_at: now,
            last_seen_at: now,
            day: 0,
            messages: 0,
            messages_total: 0,
            problem: String::new(),
        });
        if device.client != *client {
            device.client = client.clone();
        }
        device.last_seen_at = now;
        device
    }

    /// A stranger was refused. Of too many, the one that came most rarely, and of these the one longest ago, makes
    /// room; those that the admin has seen before all others.
    pub(super) fn refuse(&mut self, address: IpAddr, helo: &[u8], did: &str, now: WallTime) {
        let (address, peer) = (address.to_canonical(), Peer::of(address));
        self.changed.refused = true;
        if self.refused.len() >= REFUSED && !self.refused.contains_key(&peer) {
            let least = |(_, r): &(&Peer, &Refused)| (!r.is_seen, r.count, r.last_seen_at);
            let rarest = self.refused.iter().min_by_key(least).map(|(peer, _)| *peer);
            rarest.and_then(|peer| self.refused.remove(&peer));
        }
        let refused = self.refused.entry(peer).or_insert_with(|| Refused {
            address,
            helo: String::new(),
            did: String::new(),
            first_seen_at: now,
            last_seen_at: now,
            count: 0,
            is_seen: false,
        });
        refused.address = address;
        refused.last_seen_at = now;
        refused.count = refused.count.saturating_add(1);
        did.clone_into(&mut refused.did);
        if !helo.is_empty() {
            refused.helo = name_of_itself(helo);
        }
    }

    /// The admin gives a device a name, or takes it away; false: it never came.
    pub(super) fn name(&mut self, address: IpAddr, name: &str) -> bool {
        let address = address.to_canonical();
        let Some(device) = self.devices.get_mut(&address) else { return false };
        device.name = cut(Escaped(name.trim().as_bytes()).to_string(), HELO);
        self.changed.shards.insert(shard(address));
        true
    }

    /// The admin has seen who was refused; false: nobody was.
    pub(super) fn seen(&mut self, address: IpAddr) -> bool {
        let Some(refused) = self.refused.get_mut(&Peer::of(address)) else { return false };
        refused.is_seen = true;
        self.changed.refused = true;
        self.changed.at_once = true;
        true
    }
}

impl Device {
    /// Its messages on this day.
    pub fn messages_on(&self, day: i64) -> u64 {
        if self.day == day { self.messages } else { 0 }
    }

    /// A message of it got a 250: whatever was wrong before is over.
    pub(super) fn sent(&mut self, helo: &[u8], day: i64) {
        self.messages = self.messages_on(day) + 1;
        self.day = day;
        self.messages_total += 1;
        self.problem.clear();
        if !helo.is_empty() {
            self.helo = name_of_itself(helo);
        }
    }

    /// Something went wrong: escaped words.
    pub(super) fn failed(&mut self, problem: String) {
        self.problem = cut(problem, WORDS);
    }
}

fn name_of_itself(helo: &[u8]) -> String {
    // What it says behind that is for nobody, and a byte becomes ten characters at most.
    cut(Escaped(&helo[..helo.len().min(4 * HELO)]).to_string(), HELO)
}

fn cut(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text += "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> WallTime {
        WallTime::from_ms(ms)
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_scan_of_the_network_fills_no_memory_and_keeps_who_has_a_name() {
        let (mut memory, lan) = (Memory::default(), ClientName::new("lan"));
        memory.visit(&lan, v4(7), at(0));
        assert!(memory.name(v4(7), "front desk") && !memory.name(v4(8), "nobody"));
        for n in 100..10_000 {
            memory.visit(&lan, v4(n), at(n.into()));
        }
        assert_eq!(memory.devices.len(), DEVICES);
        assert_eq!(memory.devices[&v4(7)].name, "front desk", "though it came first of all");
        assert!(memory.devices.contains_key(&v4(9_999)) && !memory.devices.contains_key(&v4(100)));
    }

    #[test]
    fn strangers_by_the_thousand_push_out_no_device_and_not_the_one_that_keeps_coming() {
        let (mut memory, lan) = (Memory::default(), ClientName::new("lan"));
        memory.visit(&lan, v4(1), at(0));
        for n in 0..3 {
            memory.refuse(v4(2), b"PRINTER", "wanted to send", at(n));
        }
        for n in 1000..9000 {
            memory.refuse(v4(n), &[0xff; 5000], "wanted to send", at(i64::from(n)));
        }
        assert_eq!((memory.devices.len(), memory.refused.len()), (1, REFUSED));
        let printer = &memory.refused[&Peer::of(v4(2))];
        assert_eq!((printer.count, printer.helo.as_str()), (3, "PRINTER"));
        assert!(memory.refused.values().all(|r| r.helo.len() <= HELO + 3));
        // A host with a network of its own is one stranger.
        let before = memory.refused.len();
        for n in 0..50_u128 {
            memory.refuse(IpAddr::V6(std::net::Ipv6Addr::from_bits(0xfd00 << 112 | n)), b"", "x", at(10_000));
        }
        assert_eq!(memory.refused.len(), before);
        // Allowed, it is a stranger no more.
        memory.visit(&lan, v4(2), at(20_000));
        assert!(!memory.refused.contains_key(&Peer::of(v4(2))));
    }

    #[test]
    fn a_day_ends_at_midnight_and_a_success_ends_a_problem() {
        let (mut memory, lan) = (Memory::default(), ClientName::new("lan"));
        let device = memory.visit(&lan, v4(1), at(0));
        device.failed("552 5.3.4 too large".to_owned());
        device.sent(b"NPI65E56\x1b[2J", 10);
        device.sent(b"", 10);
        assert_eq!((device.messages_on(10), device.messages_on(11)), (2, 0));
        assert_eq!((device.helo.as_str(), device.problem.as_str()), ("NPI65E56\\u{1b}[2J", ""));
        device.sent(b"", 11);
        assert_eq!((device.messages_on(11), device.messages_total), (1, 3));
    }

    #[test]
    fn who_was_seen_makes_room_first_and_a_return_does_not_undo_it() {
        let mut memory = Memory::default();
        memory.refuse(v4(1), b"", "x", at(1));
        assert!(memory.seen(v4(1)) && !memory.seen(v4(2)));
        memory.refuse(v4(1), b"", "x", at(2));
        assert!(memory.refused[&Peer::of(v4(1))].is_seen);
        for n in 10..10 + u32::try_from(REFUSED).unwrap() {
            memory.refuse(v4(n), b"", "x", at(3));
        }
        assert!(!memory.refused.contains_key(&Peer::of(v4(1))));
    }
}
