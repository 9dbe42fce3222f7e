//! What is wrong with a configuration, where, and how to put it right.
//!
//! Invariant: no problem ever quotes a secret; what it quotes of the file is escaped.

use std::fmt;
use std::path::PathBuf;

/// Where a value was set. Sorts in the order an admin reads: the file from top to bottom, then the environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole: something is not in it.
    File(PathBuf),
    /// A position in the file, both numbers from 1; the column counts characters.
    Line(PathBuf, usize, usize),
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Line(path, line, column) => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

/// Whether the relay can run like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but it is hardly what was meant.
    Warning,
}

/// One thing that is wrong. Prints as `file:line:column: key: what`.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key with its section, as in `account.smarthost`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong, one line.
    pub what: String,
    /// What to do about it, one line.
    pub hint: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub about: About,
}

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The configuration itself.
    Settings,
    /// Nothing is wrong with the configuration: what it names could not be read at this moment, and may be there
    /// later.
    Moment,
    /// A file with a secret can be read by others.
    OpenFile,
}

impl Problem {
    pub(super) fn error(place: Place, key: &str, what: impl Into<String>) -> Self {
        let (key, what) = (key.to_owned(), what.into());
        Self { place, key, what, hint: None, severity: Severity::Error, about: About::Settings }
    }

    /// Without one where it is empty.
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()).filter(|hint| !hint.is_empty()), ..self }
    }

    /// The code of sysexits.h for these: 78 where somebody must change the configuration, 75 where it is enough to
    /// try again.
    pub fn exit_code(problems: &[Self]) -> u8 {
        let mut errors = problems.iter().filter(|p| p.severity == Severity::Error);
        if errors.all(|p| p.about == About::Moment) { 75 } else { 78 }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}
