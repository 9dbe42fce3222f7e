//! Fields that may stand once (RFC 5322 section 3.6) and came several times.
//!
//! Invariant: of addresses and ids none is lost; of two texts the second is kept under another name.
//! Must not know: From and Sender.

use super::write;
use crate::letter::charset::Charsets;
use crate::letter::head::{Field, Head, NewHead};

/// What becomes of the second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Its elements go to the first, behind one of these.
    Join(&'static str),
    /// The first that says something is the one.
    First,
}

const RULES: [(&str, Rule); 13] = [
    ("To", Rule::Join(",")),
    ("Cc", Rule::Join(",")),
    ("Reply-To", Rule::Join(",")),
    ("Disposition-Notification-To", Rule::Join(",")),
    ("References", Rule::Join("")),
    ("In-Reply-To", Rule::Join("")),
    ("Subject", Rule::First),
    ("MIME-Version", Rule::First),
    ("Content-Type", Rule::First),
    ("Content-Transfer-Encoding", Rule::First),
    ("Content-Disposition", Rule::First),
    ("Content-ID", Rule::First),
    ("Content-Description", Rule::First),
];

/// Where those fields of a head stand that came more than once.
#[derive(Debug)]
pub(super) struct Once<'h> {
    several: Vec<(Rule, Vec<(usize, Field<'h>)>)>,
}

impl<'h> Once<'h> {
    pub(super) fn of(all: &[Field<'h>]) -> Self {
        let several = RULES.iter().filter_map(|(name, rule)| {
            let found: Vec<_> = all.iter().copied().enumerate().filter(|(_, f)| f.is(name)).collect();
            (found.len() > 1).then_some((*rule, found))
        });
        Self { several: several.collect() }
    }

    /// The field at this place as it may leave: alone, with what the others say, or under another name.
    pub(super) fn write(&self, place: usize, field: &Field<'_>, charsets: Charsets, out: &mut NewHead) {
        let own = self.several.iter().find(|(_, found)| found.iter().any(|(i, _)| *i == place));
        let Some((rule, found)) = own else { return write(field, charsets, out) };
        let says: Vec<&(usize, Field<'_>)> = found.iter().filter(|(_, f)| !f.unfolded().is_empty()).collect();
        let Some((first, chosen)) = says.first().copied().or(found.first()) else { return };
        match rule {
            _ if says.len() < 2 && place == *first => write(field, charsets, out),
            Rule::Join(between) if place == *first => {
                let joined = joined(&says, between);
                Head::of(&joined).fields().for_each(|f| write(&f, charsets, out));
            }
            Rule::First if place == *first => write(field, charsets, out),
            Rule::First if !field.unfolded().is_empty() && field.unfolded() != chosen.unfolded() => {
                let mut renamed = NewHead::default();
                renamed.rename(field, &format!("X-Original-{}", String::from_utf8_lossy(field.name())));
                let renamed = renamed.finish();
                Head::of(&renamed).fields().for_each(|f| write(&f, charsets, out));
            }
            _ => {}
        }
    }
}

/// One field with the values of all, each on lines of its own.
fn joined(fields: &[&(usize, Field<'_>)], between: &str) -> Vec<u8> {
    let mut out = vec![];
    for (i, (_, field)) in fields.iter().enumerate() {
        let value = field.value().trim_ascii();
        if i == 0 {
            out.extend_from_slice(field.name());
            out.extend_from_slice(b": ");
        } else {
            out.extend_from_slice(b"\r\n ");
        }
        let value = value.strip_suffix(between.as_bytes()).filter(|_| !between.is_empty()).unwrap_or(value);
        out.extend_from_slice(value);
        if i + 1 < fields.len() {
            out.extend_from_slice(between.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}
