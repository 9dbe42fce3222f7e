//! One key and what stands there: the grammar of texts, words, numbers, times, sizes, paths and lists.
//!
//! Invariant: a value that cannot be read leaves a problem and nothing else. Must not know: what the keys mean.

use super::file::{Kind, Value};
use super::problem::{About, Place, Problem, Severity};
use super::section::{Findings, Section};
use crate::mail::{Escaped, WallTime};
use bytesize::ByteSize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of whatever is counted in bytes here: less is a mistake.
const SMALLEST: u64 = 64 * 1024;
/// A hundred years: no sum of moments and times overflows.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);
const MONTH: Duration = Duration::from_secs(28 * 86_400);

/// One key, there or not. A reader returns `None` when it is not there, or when it is wrong and that was noted.
#[derive(Clone)]
pub(super) struct Field<'f> {
    pub(super) findings: &'f Findings<'f>,
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Option<Value>,
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

    pub(super) fn now(&self) -> WallTime {
        self.findings.now
    }

    /// Whether the service may read this file, as far as it shows from here; if not, that is a problem.
    pub(super) fn is_the_services(&self, path: &Path) -> bool {
        let obstacle = self.findings.service.as_ref().and_then(|user| user.obstacle(path));
        obstacle.map(|(what, hint)| self.error(what, hint)).is_none()
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

    /// A text, if it is one.
    pub(super) fn plain_text(&self) -> Option<&str> {
        match &self.value.as_ref()?.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
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

    /// A text read by `read`, whose error also says how to write it.
    pub(super) fn read<T>(
        &self,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, (&'static str, String)>,
    ) -> Option<T> {
        let text = self.text(example)?;
        match read(text.trim()) {
            Ok(value) => Some(value),
            Err((what, hint)) => {
                self.error(format!("\"{}\": {what}", Escaped(text.as_bytes())), hint);
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
            let lower = text.trim().to_lowercase();
            let near = words.iter().min_by_key(|(w, _)| strsim::osa_distance(w, &lower));
            let near = near.filter(|(w, _)| strsim::osa_distance(w, &lower) <= w.len() / 3);
            let hint = near.map_or(String::new(), |(w, _)| format!("write \"{w}\""));
            let text = Escaped(text.as_bytes()).to_string();
            self.error(format!("\"{text}\" is not one of {all}"), hint);
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
            let name = self.key.rsplit('.').next().unwrap_or_default();
            let meant = match &value.kind {
                Kind::Text(s) if s.trim().eq_ignore_ascii_case("false") => "false",
                _ => "true",
            };
            self.error("must be true or false", format!("without quotes: {name} = {meant}"));
        }
        read
    }

    /// A number within a range; from the environment also written as text.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value.as_ref()?;
        let number = match &value.kind {
            Kind::Integer(n) => u64::try_from(*n).ok(),
            Kind::Text(s) if value.is_from_environment() => s.trim().parse().ok(),
            Kind::Text(s) if s.trim().parse::<u64>().is_ok() => {
                let name = self.key.rsplit('.').next().unwrap_or_default();
                self.error("is a number in quotes", format!("write {name} = {}", s.trim()));
                return None;
            }
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
            let why = if s.bytes().all(|b| b.is_ascii_digit()) { "has no unit" } else { "is not a time" };
            humantime::parse_duration(s).map_err(|_| why)
        })?;
        if time.is_zero() {
            self.error("must be longer than nothing", "");
            return None;
        }
        if time > LONGEST {
            self.error("is too long", "at most \"36500 days\"");
            return None;
        }
        let said = self.plain_text().unwrap_or_default();
        let number = said.trim().trim_end_matches('M');
        if number.len() < said.trim().len() && time >= MONTH {
            let number = number.trim();
            self.warn(
                format!("M is months: {}", humantime::format_duration(time)),
                format!("for minutes, write \"{number} min\""),
            );
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
        if bytes < SMALLEST && self.has_no_unit() {
            let what = format!("has no unit, so it is {bytes} bytes");
            self.error(what, format!("write \"{bytes} MiB\""));
            return None;
        }
        if bytes < SMALLEST {
            self.warn(
                format!("{bytes} bytes are less than any mail with a scan has"),
                "for example \"35 MiB\"",
            );
        }
        Some(bytes)
    }

    fn has_no_unit(&self) -> bool {
        match self.value.as_ref().map(|v| &v.kind) {
            Some(Kind::Text(s)) => s.trim().bytes().all(|b| b.is_ascii_digit()),
            Some(Kind::Integer(_)) => true,
            _ => false,
        }
    }

    /// A path; a relative one starts at the directory of the file, not where the process happens to run.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text("\"/etc/mailferry/file\"")?;
        if text.is_empty() {
            self.error("is empty", "");
            return None;
        }
        if text.contains(char::is_control) {
            let hint = "a backslash between double quotes begins an escape (\\t is a tab); paths of this machine have /";
            self.error("has a control character in it", hint);
            return None;
        }
        if text.as_bytes().get(1..3) == Some(b":\\") {
            self.error("is a path of Windows", "name one of this machine, such as /etc/mailferry/file");
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
            Kind::Text(_) => {
                self.error("must be a list", "write [ ] around it, even if there is only one");
                vec![item(value.clone())]
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
