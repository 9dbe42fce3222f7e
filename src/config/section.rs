//! Reading a tree key by key: every key that is asked for is known, and every other key in the tree is a problem.
//!
//! Invariant: a value that cannot be read leaves a problem and nothing else; reading goes on to the end.
//! Must not know: what the keys mean.

use super::file::{Kind, Table, Tree, Value};
use super::problem::{About, Place, Problem, Severity};
use crate::mail::Escaped;
use bytesize::ByteSize;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What has been found so far.
pub(super) struct Findings<'t> {
    tree: &'t Tree,
    /// Read for an admin, not by the service: systemd's credentials are not there.
    pub(super) is_rehearsal: bool,
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<(String, Place)>>,
    given_at_start: RefCell<BTreeSet<String>>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(tree: &'t Tree) -> Self {
        Self {
            tree,
            is_rehearsal: false,
            problems: RefCell::default(),
            known: RefCell::default(),
            unknown: RefCell::default(),
            given_at_start: RefCell::default(),
        }
    }

    /// The whole tree as a section.
    pub(super) fn root(&self) -> Section<'_> {
        Section::new(self, String::new(), self.file(), self.tree.root.clone())
    }

    /// The file as a whole.
    pub(super) fn file(&self) -> Place {
        Place::File(self.tree.path.clone())
    }

    pub(super) fn error(&self, place: Place, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.push(Problem::error(place, key, what).with_hint(hint));
    }

    pub(super) fn warn(&self, place: Place, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.push(Problem {
            severity: Severity::Warning,
            ..Problem::error(place, key, what).with_hint(hint)
        });
    }

    fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The value of this key was given when the process was started.
    fn given_at_start(&self, key: &str) {
        self.given_at_start.borrow_mut().insert(key.to_owned());
    }

    /// The keys whose values were given when the process was started.
    pub(super) fn all_given_at_start(&self) -> BTreeSet<String> {
        self.given_at_start.borrow().clone()
    }

    /// Every key that was asked for.
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// Everything found, in reading order. Unknown keys are judged last, when all known ones are known.
    pub(super) fn finish(self) -> Vec<Problem> {
        let known = self.known.take();
        for (key, place) in self.unknown.take() {
            let hint = suggest(&key, &known);
            self.error(place, &Escaped(key.as_bytes()).to_string(), "unknown key", hint);
        }
        let mut problems = self.problems.take();
        problems.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
        problems
    }
}

fn suggest(key: &str, known: &BTreeSet<String>) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
    let here: BTreeSet<&str> =
        known.iter().filter_map(|k| k.strip_prefix(&prefix)).filter_map(|k| k.split('.').next()).collect();
    let near = here
        .iter()
        .map(|n| (strsim::osa_distance(name, n), *n))
        .min()
        .filter(|(d, n)| *d <= n.len().min(name.len()).div_ceil(2).min(3));
    if let Some((_, near)) = near {
        return format!("did you mean `{near}`?");
    }
    let elsewhere: Vec<String> = known
        .iter()
        .filter_map(|k| match k.rsplit_once('.') {
            Some((section, n)) if n == name => Some(format!("[{section}]")),
            None if k == name => Some("the top of the file, before the first section".to_owned()),
            _ => None,
        })
        .collect();
    if elsewhere.is_empty() && here.is_empty() {
        return String::new();
    }
    if elsewhere.is_empty() {
        let here: Vec<&str> = here.into_iter().collect();
        return format!("keys that may stand here: {}", here.join(", "));
    }
    format!("`{name}` belongs in {}", elsewhere.join(" or "))
}

/// One table. Dropping it reports the keys nobody asked for.
pub(super) struct Section<'f> {
    findings: &'f Findings<'f>,
    name: String,
    place: Place,
    left: Table,
    /// A secret's keys are not settings of their own: they are the ways to write one.
    pub(super) is_value: bool,
}

impl<'f> Section<'f> {
    fn new(findings: &'f Findings<'f>, name: String, place: Place, values: Table) -> Self {
        Self { findings, name, place, left: values, is_value: false }
    }

    /// The field of this name, there or not.
    pub(super) fn field(&mut self, name: &str) -> Field<'f> {
        let key = self.key(name);
        if !self.is_value {
            self.findings.known.borrow_mut().insert(key.clone());
        }
        let value = self.left.remove(name);
        let place = value.as_ref().map_or_else(|| self.place.clone(), |v| self.findings.tree.place(v));
        if value.as_ref().is_some_and(Value::is_from_environment) {
            self.findings.given_at_start(&key);
        }
        Field { findings: self.findings, key, place, value }
    }

    /// A table `[name]`; empty when it is not there.
    pub(super) fn section(&mut self, name: &str) -> Section<'f> {
        let key = self.key(name);
        let value = self.left.remove(name);
        let place = value.as_ref().map_or_else(|| self.findings.file(), |v| self.findings.tree.place(v));
        let values = match value.map(|v| v.kind) {
            Some(Kind::Table(table)) => table,
            None => Table::new(),
            Some(_) => {
                self.findings.error(place.clone(), &key, "must be a section", format!("write [{key}]"));
                Table::new()
            }
        };
        Section::new(self.findings, key, place, values)
    }

    /// Every table of an array `[[name]]`.
    pub(super) fn sections(&mut self, name: &str) -> Vec<Section<'f>> {
        let key = self.key(name);
        let Some(value) = self.left.remove(name) else { return vec![] };
        let place = self.findings.tree.place(&value);
        let two = format!("write [[{key}]], with two brackets, for each of them");
        let Kind::List(items) = value.kind else {
            self.findings.error(place, &key, "there can be several of these", two);
            return vec![];
        };
        let mut sections = vec![];
        for (i, item) in items.into_iter().enumerate() {
            let place = self.findings.tree.place(&item);
            match item.kind {
                Kind::Table(table) => sections.push(Section::new(self.findings, key.clone(), place, table)),
                Kind::Nothing => self.findings.error(
                    place,
                    &key,
                    format!("entry {i} is missing, though a later one is set"),
                    "entries in the environment count from 0, those of the file first",
                ),
                _ => self.findings.error(place, &key, "must be a section", two.clone()),
            }
        }
        sections
    }

    /// Whether something of this name stands here and has not been read.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    pub(super) fn error(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.error(self.place.clone(), &self.name, what, hint);
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    fn key(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for (name, value) in std::mem::take(&mut self.left) {
            let key = self.key(&name);
            let place = self.findings.tree.place(&value);
            self.findings.unknown.borrow_mut().push((key, place));
        }
    }
}

/// One key, there or not. A reader returns `None` when it is not there, or when it is wrong and that was noted.
#[derive(Clone)]
pub(super) struct Field<'f> {
    findings: &'f Findings<'f>,
    key: String,
    place: Place,
    value: Option<Value>,
}

impl<'f> Field<'f> {
    pub(super) fn is_set(&self) -> bool {
        self.value.is_some()
    }

    pub(super) fn is_from_environment(&self) -> bool {
        self.value.as_ref().is_some_and(Value::is_from_environment)
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    pub(super) fn is_rehearsal(&self) -> bool {
        self.findings.is_rehearsal
    }

    pub(super) fn error(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.error(self.place.clone(), &self.key, what, hint);
    }

    /// What it names cannot be read; `now`: at this moment, and perhaps later.
    pub(super) fn unreadable(&self, now: bool, what: impl Into<String>, hint: impl Into<String>) {
        let problem = Problem::error(self.place.clone(), &self.key, what).with_hint(hint);
        let about = if now { About::Moment } else { About::Settings };
        self.findings.push(Problem { about, ..problem });
    }

    pub(super) fn warn(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.warn(self.place.clone(), &self.key, what, hint);
    }

    /// The secret it names can be read by others.
    pub(super) fn is_open(&self, what: String, hint: String) {
        let problem = Problem::error(self.place.clone(), &self.key, what).with_hint(hint);
        self.findings.push(Problem { severity: Severity::Warning, about: About::OpenFile, ..problem });
    }

    /// Whoever starts the process gives the value, and gives another only with a restart.
    pub(super) fn is_given_at_start(&self) {
        self.findings.given_at_start(&self.key);
    }

    /// A text, whatever is in it. `example` is what a right one looks like.
    pub(super) fn text(&self, example: &str) -> Option<String> {
        match &self.value.as_ref()?.kind {
            Kind::Text(s) => Some(s.clone()),
            _ => {
                self.error("must be a text in quotes", format!("for example {example}"));
                None
            }
        }
    }

    /// A text read by `read`, whose error says what is wrong with it.
    pub(super) fn parse<T, E: ToString>(
        &self,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(example)?;
        match read(text.trim()) {
            Ok(value) => Some(value),
            Err(e) => {
                let text = Escaped(text.as_bytes()).to_string();
                self.error(format!("\"{text}\": {}", e.to_string()), format!("for example {example}"));
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let all = words.iter().map(|(w, _)| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        let text = self.text(&all)?;
        let found = words.iter().find(|(w, _)| *w == text).map(|(_, t)| *t);
        if found.is_none() {
            let text = Escaped(text.as_bytes()).to_string();
            self.error(format!("\"{text}\" is not one of {all}"), "");
        }
        found
    }

    /// true or false; from the environment also written as text.
    pub(super) fn boolean(&self) -> Option<bool> {
        let value = self.value.as_ref()?;
        let read = match &value.kind {
            Kind::Boolean(b) => Some(*b),
            Kind::Text(s) if value.is_from_environment() => s.trim().parse().ok(),
            _ => None,
        };
        if read.is_none() {
            self.error("must be true or false", "without quotes");
        }
        read
    }

    /// A number within a range; from the environment also written as text.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value.as_ref()?;
        let number = match &value.kind {
            Kind::Integer(n) => u64::try_from(*n).ok(),
            Kind::Text(s) if value.is_from_environment() => s.trim().parse().ok(),
            _ => {
                self.error("must be a whole number", "without quotes, for example 50");
                return None;
            }
        };
        let fits = number.filter(|n| range.contains(n));
        if fits.is_none() {
            let (least, most) = (range.start(), range.end());
            let hint = if *most == u64::MAX {
                format!("at least {least}")
            } else {
                format!("from {least} to {most}")
            };
            self.error("is out of range", hint);
        }
        fits
    }

    pub(super) fn count(&self) -> Option<usize> {
        self.number(1..=1_000_000).and_then(|n| usize::try_from(n).ok())
    }

    /// A time longer than nothing.
    pub(super) fn duration(&self) -> Option<Duration> {
        if matches!(self.value.as_ref()?.kind, Kind::Integer(_)) {
            self.error("has no unit", "for example \"30 s\", \"5 min\", \"4 h\" or \"5 days\"");
            return None;
        }
        let time = self.parse("\"30 s\", \"5 min\", \"4 h\" or \"5 days\"", |s| {
            humantime::parse_duration(s).map_err(|_| "is not a time")
        })?;
        if time.is_zero() {
            self.error("must be longer than nothing", "");
            return None;
        }
        Some(time)
    }

    /// Bytes, more than none.
    pub(super) fn size(&self) -> Option<u64> {
        let bytes = match &self.value.as_ref()?.kind {
            Kind::Integer(n) => u64::try_from(*n).unwrap_or(0),
            _ => self.parse("\"35 MiB\"", |s| s.parse::<ByteSize>().map_err(|_| "is not a size"))?.as_u64(),
        };
        if bytes == 0 {
            self.error("must be more than nothing", "for example \"35 MiB\"");
            return None;
        }
        Some(bytes)
    }

    /// A path; a relative one starts at the directory of the file, not where the process happens to run.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text("\"/etc/mailferry/file\"")?;
        if text.is_empty() {
            self.error("is empty", "");
            return None;
        }
        Some(self.findings.tree.path.parent().map_or_else(|| PathBuf::from(&text), |dir| dir.join(&text)))
    }

    /// Each item of a list; from the environment also a text with commas.
    pub(super) fn items(&self) -> Vec<Field<'f>> {
        let Some(value) = &self.value else { return vec![] };
        let item = |value: Value| Field {
            findings: self.findings,
            key: self.key.clone(),
            place: self.findings.tree.place(&value),
            value: Some(value),
        };
        match &value.kind {
            Kind::List(items) => items.iter().cloned().map(item).collect(),
            Kind::Text(s) if value.is_from_environment() => {
                let parts = s.split(',').map(str::trim).filter(|p| !p.is_empty());
                let one = |p: &str| Value { kind: Kind::Text(p.to_owned()), origin: value.origin.clone() };
                parts.map(|p| item(one(p))).collect()
            }
            _ => {
                self.error("must be a list", "write [ ] around it, even if there is only one");
                vec![]
            }
        }
    }

    /// The keys of an inline table, as a section whose keys are no settings of their own.
    pub(super) fn table(&self) -> Option<Section<'f>> {
        let Kind::Table(table) = &self.value.as_ref()?.kind else { return None };
        let mut section = Section::new(self.findings, self.key.clone(), self.place.clone(), table.clone());
        section.is_value = true;
        Some(section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_finds_the_one_that_was_meant() {
        let known: BTreeSet<String> =
            ["hostname", "client.account", "client.from", "receive.max_message_size"]
                .map(String::from)
                .into();
        for (typed, hint) in [
            ("client.acount", "did you mean `account`?"),
            ("client.form", "did you mean `from`?"),
            ("client.oauth", "keys that may stand here: account, from"),
            ("client.hostname", "`hostname` belongs in the top of the file, before the first section"),
            ("client.max_message_size", "`max_message_size` belongs in [receive]"),
            ("recieve", "did you mean `receive`?"),
            ("hostnam", "did you mean `hostname`?"),
        ] {
            assert_eq!(suggest(typed, &known), hint, "{typed}");
        }
    }
}
