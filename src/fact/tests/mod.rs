//! What every fact has: a line, counts, words.

pub(super) mod samples;

use super::count::{Family, Kind};
use super::tally::{FAMILIES, STATUS};
use super::{At, Fact, Journal, Observer, Tally, Witness};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Each room's facts, as they are written.
const SOURCES: [&str; 7] = [
    include_str!("../receive.rs"),
    include_str!("../queue.rs"),
    include_str!("../token.rs"),
    include_str!("../submit.rs"),
    include_str!("../dispatch.rs"),
    include_str!("../notify.rs"),
    include_str!("../daemon.rs"),
];

/// Lines as the journal wrote them: level, fields, words.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { pairs, words } = fields;
        self.0.lock().unwrap().push(format!(
            "{} {}\n    {words}",
            event.metadata().level(),
            pairs.trim_end()
        ));
    }
}

#[derive(Default)]
struct Fields {
    pairs: String,
    words: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.words = format!("{value:?}"),
            "version" => self.pairs.push_str("version=... "),
            name => write!(self.pairs, "{name}={value:?} ").unwrap(),
        }
    }
}

/// What the journal writes about this.
fn written(journal: &Journal, fact: &Fact) -> Vec<String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    tracing::subscriber::with_default(subscriber, || journal.saw(At::now(), fact));
    let written = lines.0.lock().unwrap();
    written.clone()
}

fn is_hint(line: &str) -> bool {
    line.contains("event=\"hint\"")
}

/// `event` of every fact in the sources: what stands in a match of `fn event`.
fn events() -> BTreeSet<&'static str> {
    let of_room = |source: &'static str| {
        let (_, rest) = source.split_once("pub fn event(&self)").unwrap();
        let (body, _) = rest.split_once("\n    }\n").unwrap();
        body.split('"').skip(1).step_by(2)
    };
    SOURCES.into_iter().flat_map(of_room).collect()
}

#[test]
fn there_is_a_sample_of_every_fact() {
    let samples: BTreeSet<&str> = samples::all().iter().map(Fact::event).collect();
    assert_eq!(samples, events());
}

#[test]
fn every_fact_has_exactly_one_line_with_its_name_and_hints_behind_it() {
    // Whoever counts them has a line of its own.
    let silent = ["queue_committed", "token_requested"];
    let journal = Journal::new();
    for fact in samples::all() {
        let written = written(&journal, &fact);
        let (hints, lines): (Vec<_>, Vec<_>) = written.iter().partition(|l| is_hint(l));
        let name = format!("event=\"{}\"", fact.event());
        assert_eq!(lines.len(), usize::from(!silent.contains(&fact.event())), "{fact:?}: {written:#?}");
        assert!(lines.iter().all(|l| l.contains(&name) && l.ends_with(&fact.to_string())), "{written:#?}");
        assert_eq!(hints.len(), fact.hints().len(), "{written:#?}");
        assert!(lines.iter().all(|l| l.starts_with("DEBUG") == fact.is_detail()), "{written:#?}");
    }
}

#[test]
fn the_lines_of_the_journal_stay_as_scripts_know_them() {
    let journal = Journal::new();
    let mut all = String::new();
    for fact in samples::all() {
        let lines = written(&journal, &fact);
        let hints = lines.iter().filter(|l| is_hint(l)).count();
        // What they say is the catalogue's.
        lines.iter().filter(|l| !is_hint(l)).for_each(|line| writeln!(all, "{line}").unwrap());
        if hints > 0 {
            all.push_str("    and hints\n");
        }
    }
    insta::assert_snapshot!(all);
}

fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().flat_map(|room| room.iter().copied())
}

#[test]
fn every_count_has_a_name_of_its_own_help_and_the_labels_that_are_given() {
    let mut names = BTreeSet::new();
    for family in families() {
        let Family { name, help, labels: _, kind } = family;
        assert!(names.insert(*name), "{name} stands twice");
        assert!(help.ends_with('.') && help.starts_with(|c: char| c.is_ascii_uppercase()), "{name}: {help}");
        let unit = if *kind == Kind::Counter { "_total" } else { "_seconds" };
        assert!(name.ends_with(unit), "{name}");
    }
    let tally = Tally::new();
    for fact in samples::all() {
        tally.saw(At::now(), &fact);
    }
    for series in tally.series() {
        assert!(names.contains(series.family.name), "{} is not declared", series.family.name);
        assert_eq!(series.labels.len(), series.family.labels.len(), "{}", series.family.name);
    }
    let counted: BTreeSet<&str> =
        tally.series().iter().filter(|s| s.sum.count > 0).map(|s| s.family.name).collect();
    assert_eq!(counted, names, "what no fact counts");
}

#[test]
fn status_shows_sums_of_what_is_declared_and_zeros_from_the_start() {
    let zeros = Tally::new().status();
    assert_eq!((zeros.len(), zeros.values().sum::<u64>()), (STATUS.len(), 0));
    for (key, family, only) in STATUS {
        let family = families().find(|f| f.name == *family).expect(key);
        assert!(only.is_none() || !family.labels.is_empty(), "{key}");
    }
    let tally = Tally::new();
    for fact in samples::all() {
        tally.saw(At::now(), &fact);
    }
    let dumb: Vec<_> = tally.status().into_iter().filter(|(_, n)| *n == 0).collect();
    assert_eq!(dumb, [], "keys that no fact moves");
    insta::assert_snapshot!(format!("{:#?}", tally.status()));
}

#[test]
fn a_histogram_counts_each_observation_in_one_bucket() {
    let tally = Tally::new();
    let delivered = samples::all().into_iter().find(|f| f.event() == "delivered").unwrap();
    tally.saw(At::now(), &delivered);
    tally.saw(At::now(), &delivered);
    let series = tally.series();
    let of = series.iter().find(|s| s.family.name == "time_to_delivery_seconds").unwrap();
    assert_eq!(of.labels, ["scanner@contoso.com"]);
    assert_eq!((of.sum.count, of.sum.seconds, of.sum.buckets.iter().sum::<u64>()), (2, 3.0, 2));
    assert_eq!(of.sum.buckets[1], 2, "over a second, under two");
}

#[test]
fn what_is_told_reaches_every_observer_and_nobody_is_an_observer_too() {
    let (one, two) = (Arc::new(Tally::new()), Arc::new(Tally::new()));
    let witness = Witness::new([Arc::clone(&one) as Arc<dyn Observer>, Arc::clone(&two) as _]);
    witness.tell(super::queue::Fact::Committed);
    Witness::nobody().tell(super::queue::Fact::Committed);
    for tally in [one, two] {
        assert_eq!(tally.status()["queue_commits_total"], 1);
    }
}
