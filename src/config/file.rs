//! The two layers, file and environment, as one tree whose every value knows where it was set.
//!
//! Invariant: a value from the environment stays a text until somebody asks it for a number, so a password of
//! digits is never mangled. Must not know: which keys there are.

use super::Env;
use super::problem::{About, Place, Problem, Severity};
use crate::mail::Escaped;
use config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const PREFIX: &str = "MAILFERRY__";
/// `MAILFERRY__ACCOUNT__63__MAILBOX`: a larger index is a typing error, and would allocate every one below it.
const MAX_INDEX: usize = 63;

/// The layering crate reads these in a key as a path, and would allocate `account[999999999999]`.
const NOT_IN_KEYS: [char; 3] = ['[', ']', '.'];

/// Both layers merged.
pub(super) struct Tree {
    /// The file.
    pub(super) path: PathBuf,
    /// Every value.
    pub(super) root: Value,
    /// Where each table was opened: merging keeps the origin of values, not that of tables.
    tables: BTreeMap<String, Place>,
}

impl Tree {
    /// Reads the text of the file and puts the environment on top of it.
    pub(super) fn new(path: &Path, text: &str, env: &Env) -> Result<Self, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines { text };
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|e| {
                let (line, column) = lines.position(e.span().map_or(0, |s| s.start));
                let what = format!("not TOML: {}", e.message().replace('\n', ", "));
                let hint = if what.contains("duplicate") {
                    "a key and a [section] stand once; only [[sections]] in two brackets repeat"
                } else {
                    "a text stands in quotes: key = \"value\""
                };
                let hint = Some(hint.to_owned());
                Problem { hint, ..error(Place::Line(path.to_owned(), line, column), "", what) }
            })
            .collect();
        let mut reader = Reader { path, lines, tables: BTreeMap::new(), problems: vec![] };
        let file = reader.table(table.get_ref(), "");
        problems.append(&mut reader.problems);
        let environment = environment(env, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let merged = Config::builder()
            .add_source(Layer(file))
            .add_source(Layer(environment))
            .build()
            .map_err(|e| vec![error(Place::File(path.to_owned()), "", format!("cannot be read: {e}"))])?;
        Ok(Self { path: path.to_owned(), root: merged.cache, tables: reader.tables })
    }

    /// Where this value of this key was set.
    pub(super) fn place(&self, key: &str, value: Option<&Value>) -> Place {
        let origin = value.and_then(Value::origin);
        origin
            .and_then(|o| self.read_origin(o))
            .or_else(|| self.tables.get(key).cloned())
            .unwrap_or_else(|| Place::File(self.path.clone()))
    }

    fn read_origin(&self, origin: &str) -> Option<Place> {
        if origin.starts_with(PREFIX) {
            return Some(Place::Environment(origin.to_owned()));
        }
        let (line, column) = origin.split_once(':')?;
        Some(Place::Line(self.path.clone(), line.parse().ok()?, column.parse().ok()?))
    }
}

/// Whether the value was set in the environment.
pub(super) fn is_from_environment(value: &Value) -> bool {
    value.origin().is_some_and(|o| o.starts_with(PREFIX))
}

fn error(place: Place, key: &str, what: impl Into<String>) -> Problem {
    Problem {
        place,
        key: key.to_owned(),
        what: what.into(),
        hint: None,
        severity: Severity::Error,
        about: About::Settings,
    }
}

#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The variables `MAILFERRY__SECTION__KEY` as paths `section.key`, and `MAILFERRY__ACCOUNT__0__MAILBOX` as
/// `account[0].mailbox`.
fn environment(env: &Env, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut ours = HashMap::new();
    for (name, value) in env.iter().filter(|(name, _)| name.to_uppercase().starts_with(PREFIX)) {
        match value.to_str() {
            Some(value) => _ = ours.insert(name.clone(), value.to_owned()),
            None => problems.push(error(Place::Environment(name.to_uppercase()), "", "is not valid UTF-8")),
        }
    }
    let source =
        Environment::with_prefix("MAILFERRY").prefix_separator("__").separator("__").source(Some(ours));
    let mut layer = Map::new();
    for (key, value) in source.collect().unwrap_or_default() {
        let name = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
        let mut path = String::new();
        for part in key.split('.') {
            match part.parse::<usize>() {
                Ok(index) if index > MAX_INDEX => problems.push(error(
                    Place::Environment(name.clone()),
                    "",
                    format!("there can be no entry {index}; they count from 0"),
                )),
                Ok(index) => path.push_str(&format!("[{index}]")),
                Err(_) if part.contains(NOT_IN_KEYS) => {
                    problems.push(error(Place::Environment(name.clone()), "", "no key is named like that"));
                }
                Err(_) if path.is_empty() => path.push_str(part),
                Err(_) => path.push_str(&format!(".{part}")),
            }
        }
        layer.insert(path, Value::new(Some(&name), value.kind));
    }
    layer
}

struct Lines<'t> {
    text: &'t str,
}

impl Lines<'_> {
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

struct Reader<'t> {
    path: &'t Path,
    lines: Lines<'t>,
    tables: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, above: &str) -> Map<String, Value> {
        let mut map = Map::new();
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
                self.problems.push(error(place, &shown, "no key is named like that"));
                continue;
            }
            // A value is reported where its key stands; that is where the eye looks.
            let value = self.value(value, name.span(), &key);
            map.insert(name.get_ref().to_string(), value);
        }
        map
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, at: Range<usize>, key: &str) -> Value {
        let (line, column) = self.lines.position(at.start);
        let place = Place::Line(self.path.to_owned(), line, column);
        let kind = match value.get_ref() {
            DeValue::String(s) => ValueKind::String(s.to_string()),
            DeValue::Boolean(b) => ValueKind::Boolean(*b),
            DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
                Ok(i) => ValueKind::I64(i),
                Err(_) => {
                    self.problems.push(error(place.clone(), key, "is too large a number"));
                    ValueKind::Nil
                }
            },
            DeValue::Float(f) => ValueKind::Float(f.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Datetime(date) => {
                let hint = Some(format!("write it as a text: \"{date}\""));
                self.problems.push(Problem { hint, ..error(place.clone(), key, "is a date without quotes") });
                ValueKind::Nil
            }
            DeValue::Array(items) => {
                ValueKind::Array(items.iter().map(|item| self.value(item, item.span(), key)).collect())
            }
            DeValue::Table(table) => {
                self.tables.entry(key.to_owned()).or_insert_with(|| place.clone());
                ValueKind::Table(self.table(table, key))
            }
        };
        Value::new(Some(&format!("{line}:{column}")), kind)
    }
}
