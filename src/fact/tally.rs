//! The observer that counts.
//!
//! Invariant: a family's name, help and labels stand once, beside the facts that it counts; label values come from the
//! configuration or from a list of our own, so that no peer makes them more. Whatever a fact adds belongs to a family of
//! `FAMILIES`, and one without labels is there from the start, as zero. Must not know: what any fact means, how counts
//! are shown.

use super::count::{Family, Kind, Value};
use super::{At, Fact, Observer, dispatch, notify, queue, receive, submit, token};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By room.
pub(super) static FAMILIES: &[&[&Family]] = &[
    receive::FAMILIES,
    queue::FAMILIES,
    token::FAMILIES,
    submit::FAMILIES,
    dispatch::FAMILIES,
    notify::FAMILIES,
];

/// What `status --json` shows: its key, the family, and the one value of a label that is meant, if not all.
pub(super) static STATUS: &[(&str, &str, Option<&str>)] = &[
    ("connections_total", "connections_total", None),
    ("connections_full_total", "rejected_total", Some("too_many_connections")),
    ("messages_accepted_total", "messages_received_total", None),
    ("bytes_accepted_total", "received_bytes_total", None),
    ("relay_refused_total", "rejected_total", Some("relay_refused")),
    ("recipients_refused_total", "rejected_total", Some("recipient_refused")),
    ("messages_refused_total", "rejected_total", Some("message_refused")),
    ("queue_refused_total", "rejected_total", Some("queue_refused")),
    ("rate_limited_total", "rejected_total", Some("rate_limited")),
    ("data_unfinished_total", "data_unfinished_total", None),
    ("logins_failed_total", "logins_failed_total", None),
    ("handshakes_failed_total", "handshakes_failed_total", None),
    ("other_protocol_total", "other_protocol_total", None),
    ("messages_delivered_total", "deliveries_total", Some("delivered")),
    ("messages_deferred_total", "deliveries_total", Some("deferred")),
    ("dead_letters_total", "deliveries_total", Some("dead")),
    ("outcome_unknown_total", "unknown_outcomes_total", None),
    ("account_failures_total", "account_failures_total", None),
    ("smart_host_connections_total", "smart_host_connections_total", None),
    ("smart_host_bytes_total", "smart_host_bytes_total", None),
    ("token_requests_total", "token_requests_total", None),
    ("token_failures_total", "token_failures_total", None),
    ("tokens_rejected_total", "tokens_rejected_total", None),
    ("queue_commits_total", "queue_commits_total", None),
    ("queue_commits_failed_total", "queue_commits_failed_total", None),
    ("queue_syncs_failed_total", "queue_syncs_failed_total", None),
    ("queue_contents_missing_total", "queue_contents_missing_total", None),
    ("queue_rows_unreadable_total", "queue_rows_unreadable_total", None),
    ("hand_overs_interrupted_total", "hand_overs_interrupted_total", None),
];

/// Of the values of one series' labels, which no name in a configuration can hold.
const BETWEEN: char = '\u{1f}';

/// What one series has come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sum {
    /// How much, or how often.
    pub count: u64,
    /// How often it took no longer than each bound of a histogram, and longer than the one before.
    pub buckets: Vec<u64>,
    /// How long it took in all.
    pub seconds: f64,
}

/// One line of a page of counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What is counted.
    pub family: &'static Family,
    /// The values of its labels, in their order.
    pub labels: Vec<String>,
    /// The count.
    pub sum: Sum,
}

#[derive(Debug)]
struct Counts {
    families: HashMap<&'static str, (&'static Family, BTreeMap<String, Sum>)>,
    /// Holds the key that is looked for, so that no count costs an allocation.
    key: String,
}

/// Counts facts since it was made.
#[derive(Debug)]
pub struct Tally(Mutex<Counts>);

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// All zero.
    pub fn new() -> Self {
        let all = FAMILIES.iter().flat_map(|room| room.iter().copied());
        let zero = |family: &Family| {
            let is_one = family.labels.is_empty();
            is_one.then(|| (String::new(), Sum::of(family.kind))).into_iter().collect()
        };
        let families = all.map(|family| (family.name, (family, zero(family)))).collect();
        Self(Mutex::new(Counts { families, key: String::new() }))
    }

    /// Every series, by the names of the families and then by labels.
    pub fn series(&self) -> Vec<Series> {
        let counts = self.lock();
        let mut families: Vec<_> = counts.families.values().collect();
        families.sort_by_key(|(family, _)| family.name);
        let series = |(family, series): &(&'static Family, BTreeMap<String, Sum>)| {
            let family = *family;
            let labels = |key: &str| match family.labels {
                [] => vec![],
                _ => key.split(BETWEEN).map(str::to_owned).collect(),
            };
            let one = |(key, sum): (&String, &Sum)| Series { family, labels: labels(key), sum: sum.clone() };
            series.iter().map(one).collect::<Vec<_>>()
        };
        families.into_iter().flat_map(series).collect()
    }

    /// Every count that `status --json` shows, by its key.
    pub fn status(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.lock();
        let sum = |family: &str, only: Option<&str>| {
            let series = counts.families.get(family).into_iter().flat_map(|(_, series)| series);
            let meant = |key: &str| only.is_none_or(|value| key.split(BETWEEN).any(|v| v == value));
            series.filter(|(key, _)| meant(key)).map(|(_, sum)| sum.count).sum()
        };
        STATUS.iter().map(|(key, family, only)| (*key, sum(family, *only))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Tally {
    fn saw(&self, _: At, fact: &Fact) {
        let mut add = |family: &'static Family, labels: &[&str], value| {
            self.lock().add(family, labels, value);
        };
        match fact {
            Fact::Receive(fact) => fact.count(&mut add),
            Fact::Queue(fact) => fact.count(&mut add),
            Fact::Token(fact) => fact.count(&mut add),
            Fact::Submit(fact) => fact.count(&mut add),
            Fact::Dispatch(fact) => fact.count(&mut add),
            Fact::Notify(fact) => fact.count(&mut add),
            Fact::Daemon(_) => {}
        }
    }
}

impl Counts {
    fn add(&mut self, family: &'static Family, labels: &[&str], value: Value) {
        let Self { families, key } = self;
        key.clear();
        for (i, label) in labels.iter().enumerate() {
            if i > 0 {
                key.push(BETWEEN);
            }
            key.push_str(label);
        }
        let (_, series) = families.entry(family.name).or_insert_with(|| (family, BTreeMap::new()));
        let sum = match series.get_mut(key.as_str()) {
            Some(sum) => sum,
            None => series.entry(key.clone()).or_insert_with(|| Sum::of(family.kind)),
        };
        sum.add(family.kind, value);
    }
}

impl Sum {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::default(),
            Kind::Histogram(bounds) => Self { buckets: vec![0; bounds.len()], ..Self::default() },
        }
    }

    fn add(&mut self, kind: Kind, value: Value) {
        match (kind, value) {
            (_, Value::More(n)) => self.count += n,
            (Kind::Counter, Value::Took(_)) => self.count += 1,
            (Kind::Histogram(bounds), Value::Took(time)) => {
                let seconds = time.as_secs_f64();
                self.count += 1;
                self.seconds += seconds;
                if let Some(i) = bounds.iter().position(|bound| seconds <= *bound) {
                    self.buckets[i] += 1;
                }
            }
        }
    }
}
