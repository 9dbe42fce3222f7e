//! Reading a tree key by key: every key that is asked for is known, and every other key in the tree is a problem.
//!
//! Invariant: a value that cannot be read leaves a problem and nothing else; reading goes on to the end.
//! Must not know: what the keys mean.

use super::Env;
use super::access::User;
use super::field::Field;
use super::file::{Kind, Table, Tree, Value};
use super::problem::{Place, Problem, Severity};
use super::suggest::{suggest, variable};
use crate::mail::{Escaped, WallTime};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What has been found so far.
pub(super) struct Findings<'t> {
    pub(super) tree: &'t Tree,
    /// Read for an admin, not by the service: systemd's credentials are not there.
    pub(super) is_rehearsal: bool,
    /// Whose rights to read count besides our own.
    pub(super) service: Option<User>,
    /// For dates that have passed.
    pub(super) now: WallTime,
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<(String, Place)>>,
    given_at_start: RefCell<BTreeSet<String>>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(tree: &'t Tree, now: WallTime) -> Self {
        Self {
            tree,
            is_rehearsal: false,
            service: None,
            now,
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

    pub(super) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The value of this key was given when the process was started.
    pub(super) fn given_at_start(&self, key: &str) {
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

    /// Variables that look like ours, and are not.
    pub(super) fn stray_variables(&self, env: &Env) {
        let known = self.known();
        for name in env.keys() {
            let upper = name.to_uppercase();
            let Some(rest) = upper.strip_prefix("MAILFERRY_") else { continue };
            // The log's filter, and what Kubernetes sets for a service of our name.
            let is_fine = rest == "LOG" || ["_", "SERVICE_", "PORT"].iter().any(|p| rest.starts_with(p));
            if is_fine {
                continue;
            }
            let hint = variable(&rest.to_lowercase(), &known)
                .unwrap_or_else(|| "settings are MAILFERRY__SECTION__KEY, with two underscores".to_owned());
            self.warn(Place::Environment(name.clone()), "", "means nothing here", hint);
        }
    }

    /// Everything found, in reading order. Unknown keys are judged last, when all known ones are known.
    pub(super) fn finish(self) -> Vec<Problem> {
        let known = self.known.take();
        for (key, place) in self.unknown.take() {
            let hint = match &place {
                Place::Environment(_) => variable(&key.replace('.', "_"), &known),
                _ => None,
            };
            let hint = hint.unwrap_or_else(|| suggest(&key, &known));
            self.error(place, &Escaped(key.as_bytes()).to_string(), "unknown key", hint);
        }
        let mut problems = self.problems.take();
        problems.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
        problems
    }
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
    pub(super) fn new(findings: &'f Findings<'f>, name: String, place: Place, values: Table) -> Self {
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
            Some(Kind::List(mut entries))
                if matches!(entries.first(), Some(Value { kind: Kind::Table(_), .. })) =>
            {
                let one = format!("write [{key}], with one bracket");
                self.findings.error(place.clone(), &key, "there is only one of these", one);
                match entries.swap_remove(0).kind {
                    Kind::Table(table) => table,
                    _ => Table::new(),
                }
            }
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
        let items = match value.kind {
            Kind::List(items) => items,
            // Read all the same, so that what is wrong in it is told, too.
            Kind::Table(table) => {
                self.findings.error(place.clone(), &key, "there can be several of these", two);
                return vec![Section::new(self.findings, key, place, table)];
            }
            _ => {
                self.findings.error(place, &key, "must be a section", two);
                return vec![];
            }
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

    /// A key that nobody asked for, with all that are left: they are told by whoever asks.
    pub(super) fn take_unknown(&mut self) -> Option<String> {
        let left = std::mem::take(&mut self.left);
        left.into_keys().next().map(|name| Escaped(name.as_bytes()).to_string())
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
