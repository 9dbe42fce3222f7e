//! The two layers, file and environment, as one tree whose every value knows where it was set.
//!
//! Invariant: a value from the environment stays a text until somebody asks it for a number, so a password of
//! digits is never mangled. Must not know: which keys there are.

use super::Env;
use super::problem::{Place, Problem};
use super::slip::{Complaint, slips};
use crate::mail::Escaped;
use config::{Environment, Source};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const PREFIX: &str = "MAILFERRY__";
/// `MAILFERRY__ACCOUNT__63__MAILBOX`: a larger index is a typing error, and would allocate every one below it.
const MAX_INDEX: usize = 63;

/// Each would be read as a path by whoever reads the message.
const NOT_IN_KEYS: [char; 3] = ['[', ']', '.'];

/// Values by key.
pub(super) type Table = BTreeMap<String, Value>;

/// A value and where it was set.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) origin: Origin,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Text(String),
    Integer(i64),
    Float,
    Boolean(bool),
    List(Vec<Value>),
    Table(Table),
    /// An entry of a list that only a later one implies, or a value whose problem was told already.
    Nothing,
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the file, where its key stands: that is where the eye looks.
    Line { line: usize, column: usize },
    /// By this variable.
    Environment(String),
}

impl Value {
    /// Whether it was set in the environment.
    pub(super) fn is_from_environment(&self) -> bool {
        matches!(self.origin, Origin::Environment(_))
    }
}

/// Both layers merged.
pub(super) struct Tree {
    /// The file.
    pub(super) path: PathBuf,
    /// Every value.
    pub(super) root: Table,
}

impl Tree {
    /// Reads the text of the file and puts the environment on top of it.
    pub(super) fn new(path: &Path, text: &str, env: &Env) -> Result<Self, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let complaint = |e: &toml::de::Error| (e.span().map_or(0, |s| s.start), e.message().to_owned());
        let complaints: Vec<Complaint> = errors.iter().map(complaint).collect();
        let slips = slips(text, &complaints).into_iter();
        let mut problems: Vec<Problem> = slips
            .map(|s| Problem::error(Place::Line(path.to_owned(), s.line, 1), "", s.what).with_hint(s.hint))
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let lines = Lines { text };
        let mut reader = Reader { path, lines, problems: vec![] };
        let mut root = reader.table(table.get_ref(), "");
        problems.append(&mut reader.problems);
        overlay(&mut root, env, &mut problems);
        if problems.is_empty() { Ok(Self { path: path.to_owned(), root }) } else { Err(problems) }
    }

    /// For people.
    pub(super) fn place(&self, value: &Value) -> Place {
        match &value.origin {
            Origin::Line { line, column } => Place::Line(self.path.clone(), *line, *column),
            Origin::Environment(name) => Place::Environment(name.clone()),
        }
    }
}

/// Puts the variables `MAILFERRY__SECTION__KEY` in place of `section.key`, and `MAILFERRY__ACCOUNT__0__MAILBOX` in
/// that of the first account's mailbox.
fn overlay(root: &mut Table, env: &Env, problems: &mut Vec<Problem>) {
    let mut ours = HashMap::new();
    for (name, value) in env.iter().map(|(name, value)| (name.to_uppercase(), value)) {
        let mut wrong =
            |what: &str| problems.push(Problem::error(Place::Environment(name.clone()), "", what.to_owned()));
        match (name.strip_prefix(PREFIX), value.to_str()) {
            (None, _) => {}
            (Some(_), None) => wrong("is not valid UTF-8"),
            (Some(key), Some(_)) if key.contains(NOT_IN_KEYS) => wrong("no key is named like that"),
            (Some(_), Some(text)) => _ = ours.insert(name, text.to_owned()),
        }
    }
    let source =
        Environment::with_prefix("MAILFERRY").prefix_separator("__").separator("__").source(Some(ours));
    // In an order that does not change from run to run.
    let layer: BTreeMap<String, config::Value> = source.collect().unwrap_or_default().into_iter().collect();
    for (key, value) in layer {
        let name = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
        let mut wrong =
            |what: String| problems.push(Problem::error(Place::Environment(name.clone()), "", what));
        let Ok(text) = value.into_string() else { continue };
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let (_, entries): (Vec<_>, Vec<_>) = path.iter().partition(|p| p.parse::<usize>().is_err());
        if let Some(entry) = entries.iter().find(|e| e.parse::<usize>().is_ok_and(|i| i > MAX_INDEX)) {
            wrong(format!("there can be no entry {entry}; they count from 0"));
        } else if path[0].parse::<usize>().is_ok() || path.iter().any(String::is_empty) {
            wrong("no key is named like that".to_owned());
        } else {
            let origin = Origin::Environment(name);
            let value = Value { kind: Kind::Text(text), origin };
            put(root.entry(path[0].clone()).or_insert_with(|| nothing(&value.origin)), &path[1..], value);
        }
    }
}

fn nothing(origin: &Origin) -> Value {
    Value { kind: Kind::Nothing, origin: origin.clone() }
}

/// Sets what this path leads to from here, and makes the way there.
fn put(here: &mut Value, path: &[String], value: Value) {
    let Some((next, rest)) = path.split_first() else {
        *here = value;
        return;
    };
    let there = match next.parse::<usize>() {
        Ok(index) => {
            if !matches!(here.kind, Kind::List(_)) {
                *here = Value { kind: Kind::List(vec![]), origin: value.origin.clone() };
            }
            let Kind::List(entries) = &mut here.kind else { return };
            while entries.len() <= index {
                entries.push(nothing(&value.origin));
            }
            &mut entries[index]
        }
        Err(_) => {
            if !matches!(here.kind, Kind::Table(_)) {
                *here = Value { kind: Kind::Table(Table::new()), origin: value.origin.clone() };
            }
            let Kind::Table(table) = &mut here.kind else { return };
            table.entry(next.clone()).or_insert_with(|| nothing(&value.origin))
        }
    };
    put(there, rest, value);
}

struct Lines<'t> {
    text: &'t str,
}

impl Lines<'_> {
    /// Line and column, from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

struct Reader<'t> {
    path: &'t Path,
    lines: Lines<'t>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, above: &str) -> Table {
        let mut read = Table::new();
        for (name, value) in table {
            let key = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            if name.get_ref().contains(NOT_IN_KEYS) {
                let (line, column) = self.lines.position(name.span().start);
                let place = Place::Line(self.path.to_owned(), line, column);
                let shown = Escaped(key.as_bytes()).to_string();
                self.problems.push(Problem::error(place, &shown, "no key is named like that"));
                continue;
            }
            let value = self.value(value, name.span(), &key);
            read.insert(name.get_ref().to_string(), value);
        }
        read
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, at: Range<usize>, key: &str) -> Value {
        let (line, column) = self.lines.position(at.start);
        let wrong = |what: &str| {
            let place = Place::Line(self.path.to_owned(), line, column);
            Problem::error(place, &Escaped(key.as_bytes()).to_string(), what)
        };
        let kind = match value.get_ref() {
            DeValue::String(s) => Kind::Text(s.to_string()),
            DeValue::Boolean(b) => Kind::Boolean(*b),
            DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
                Ok(i) => Kind::Integer(i),
                Err(_) => {
                    self.problems.push(wrong("is too large a number"));
                    Kind::Nothing
                }
            },
            DeValue::Float(_) => Kind::Float,
            DeValue::Datetime(date) => {
                let hint = format!("write it as a text: \"{date}\"");
                self.problems.push(wrong("is a date without quotes").with_hint(hint));
                Kind::Nothing
            }
            DeValue::Array(items) => {
                Kind::List(items.iter().map(|item| self.value(item, item.span(), key)).collect())
            }
            DeValue::Table(table) => Kind::Table(self.table(table, key)),
        };
        Value { kind, origin: Origin::Line { line, column } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "hostname = \"relay.contoso.local\"\n[[client]]\nfrom = [\"10.0.5.0/24\", \"10.0.6.7\"]\n\
                        [account.oauth]\nsecret = { file = 'a\\b' }\n[queue]\nkeep_dead = \"30 days\" # a\n";

    proptest! {
        #[test]
        fn whatever_a_slip_makes_of_a_file_each_problem_has_its_line(
            edits in prop::collection::vec((0..TEXT.len(), "[\\[\\]{}\"'“\\\\=#,;:\n\r a\u{a0}\u{0}]{0,3}", 0..4usize), 1..4),
        ) {
            let mut text: Vec<char> = TEXT.chars().collect();
            for (at, put, cut) in edits {
                let at = at.min(text.len());
                let end = (at + cut).min(text.len());
                text.splice(at..end, put.chars());
            }
            let text: String = text.into_iter().collect();
            if let Err(problems) = Tree::new(Path::new("/m.toml"), &text, &Env::new()) {
                let lines = text.lines().count().max(1);
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(!problem.what.is_empty());
                    if let Place::Line(_, line, _) = problem.place {
                        prop_assert!((1..=lines).contains(&line), "{line} of {lines}: {text:?}");
                    }
                }
            }
        }

        #[test]
        fn a_variable_of_any_name_is_told_or_taken(name in "[A-Z0-9_\\[\\].]{0,30}") {
            let env: Env = [(format!("MAILFERRY__{name}"), "x".into())].into();
            if let Err(problems) = Tree::new(Path::new("/m.toml"), TEXT.replace("'a\\b'", "'a'").as_str(), &env) {
                prop_assert!(problems.iter().all(|p| matches!(p.place, Place::Environment(_))));
            }
        }
    }
}
