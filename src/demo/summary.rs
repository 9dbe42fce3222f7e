//! What the devices sent, and the account of what became of it.
//!
//! Invariant: a message counts as delivered only when the sandbox took it, as whole only when the content is the one
//! the device sent. Must not know: how any of it came about.

use crate::sandbox::{ContentDigest, Received};
use std::fmt;
use std::time::{Duration, Instant};

/// The devices of the story, as the account lists them.
pub(super) const DEVICES: [&str; 3] = ["printer", "fax", "ups"];

/// A message a device tried to send.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) device: &'static str,
    pub(super) subject: String,
    pub(super) size_bytes: u64,
    pub(super) content: ContentDigest,
    /// 250 to the end of data, after so long; `None` when there was another answer or none.
    pub(super) accepted: Option<Duration>,
    /// When the device had its answer, or gave up waiting for one.
    pub(super) answered_at: Option<Instant>,
    /// What its panel shows in place of 250.
    pub(super) trouble: String,
    /// When the sandbox took it.
    pub(super) taken_at: Option<Instant>,
}

/// What became of one device's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The device.
    pub device: &'static str,
    /// Messages it tried to send.
    pub sent: usize,
    /// Answered 250.
    pub accepted: usize,
    /// Of these, taken by the sandbox at least once.
    pub delivered: usize,
    /// Of these, not.
    pub lost: usize,
    /// Times the sandbox took a message once more.
    pub duplicates: usize,
    /// Delivered with another content than was sent.
    pub changed: usize,
    /// The longest wait from the final dot to the 250.
    pub slowest_250: Duration,
}

/// What became of every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// One row a device.
    pub rows: Vec<Row>,
    /// Messages the relay still holds.
    pub waiting: u64,
}

impl Summary {
    pub(super) fn new(sent: &[Sent], received: &[Received], waiting: u64) -> Self {
        let rows = DEVICES.map(|device| {
            let sent: Vec<&Sent> = sent.iter().filter(|s| s.device == device).collect();
            let accepted: Vec<&&Sent> = sent.iter().filter(|s| s.accepted.is_some()).collect();
            let copies = |s: &Sent| received.iter().filter(|r| is_same(s, r)).count();
            let whole = |s: &Sent| received.iter().filter(|r| is_same(s, r)).all(|r| r.content == s.content);
            Row {
                device,
                sent: sent.len(),
                accepted: accepted.len(),
                delivered: accepted.iter().filter(|s| copies(s) > 0).count(),
                lost: accepted.iter().filter(|s| copies(s) == 0).count(),
                duplicates: sent.iter().map(|s| copies(s).saturating_sub(1)).sum(),
                changed: sent.iter().filter(|s| !whole(s)).count(),
                slowest_250: sent.iter().filter_map(|s| s.accepted).max().unwrap_or_default(),
            }
        });
        Self { rows: rows.into(), waiting }
    }

    /// Every message was accepted, delivered once, whole, and nothing is left over.
    pub fn is_complete(&self) -> bool {
        let good = |r: &Row| r.delivered == r.sent && r.lost == 0 && r.duplicates == 0 && r.changed == 0;
        self.waiting == 0 && self.rows.iter().all(|r| r.sent > 0 && good(r))
    }
}

/// The Subject is the demo's own and unique; a message whose Subject did not survive is known by its content.
pub(super) fn is_same(sent: &Sent, received: &Received) -> bool {
    received.subject == sent.subject || received.content == sent.content
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device    sent   250  delivered  lost  duplicates  changed  slowest 250")?;
        for r in &self.rows {
            writeln!(
                f,
                "{:<8} {:>5} {:>5} {:>10} {:>5} {:>11} {:>8} {:>12}",
                r.device,
                r.sent,
                r.accepted,
                r.delivered,
                r.lost,
                r.duplicates,
                r.changed,
                milliseconds(r.slowest_250)
            )?;
        }
        let total = |of: fn(&Row) -> usize| -> usize { self.rows.iter().map(of).sum() };
        write!(
            f,
            "sent {}, delivered {}, lost {}, duplicates {}, changed {}, still waiting {}",
            total(|r| r.sent),
            total(|r| r.delivered),
            total(|r| r.lost),
            total(|r| r.duplicates),
            total(|r| r.changed),
            self.waiting
        )
    }
}

pub(super) fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::WallTime;

    fn sent(device: &'static str, subject: &str, content: &[u8], accepted_ms: Option<u64>) -> Sent {
        Sent {
            device,
            subject: subject.to_owned(),
            size_bytes: 1,
            content: ContentDigest::of_message(content),
            accepted: accepted_ms.map(Duration::from_millis),
            answered_at: None,
            trouble: String::new(),
            taken_at: None,
        }
    }

    fn received(subject: &str, content: &[u8]) -> Received {
        Received {
            message_id: None,
            subject: subject.to_owned(),
            from: String::new(),
            reverse_path: String::new(),
            recipients: vec![],
            size_bytes: 1,
            content: ContentDigest::of_message(content),
            duplicate: false,
            at: WallTime::from_ms(0),
        }
    }

    #[test]
    fn the_summary_is_complete_only_when_everything_arrived_once_and_whole() {
        let all = [
            sent("printer", "p", b"\n1\n", Some(3)),
            sent("fax", "f", b"\n2\n", Some(4)),
            sent("ups", "u", b"\n3\n", Some(1)),
        ];
        let (p, f, u) = (received("p", b"\n1\n"), received("f", b"\n2\n"), received("u", b"\n3\n"));
        let judge = |received: &[Received]| Summary::new(&all, received, 0);

        assert!(judge(&[p.clone(), f.clone(), u.clone()]).is_complete());
        let lost = judge(&[p.clone(), f.clone()]);
        assert_eq!((lost.is_complete(), lost.rows[2].lost), (false, 1));
        let twice = judge(&[p.clone(), f.clone(), u.clone(), f.clone()]);
        assert_eq!((twice.is_complete(), twice.rows[1].duplicates), (false, 1));
        let changed = judge(&[received("p", b"\nother\n"), f.clone(), u.clone()]);
        assert_eq!((changed.is_complete(), changed.rows[0].changed), (false, 1));
        assert!(!Summary::new(&all, &[p.clone(), f.clone(), u.clone()], 1).is_complete(), "one still waits");
        let mut refused = all.clone();
        refused[0].accepted = None;
        assert!(!Summary::new(&refused, &[f, u], 0).is_complete(), "a refused scan is a lost scan");
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!([150, 324_339, 2_648_634].map(size), ["150 B", "324 kB", "2.6 MB"]);
    }
}
