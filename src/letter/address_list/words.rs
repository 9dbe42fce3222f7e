//! An address list as it may leave: only display names are encoded.
//!
//! Invariant: no address is lost, and what is no address stands where none is read. Must not know: which field it is.

use super::Entry;
use crate::letter::words::Words;

/// Which addresses of a list may stand as addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::letter) enum Letters {
    /// Those of RFC 6531, too: the server offers SMTPUTF8.
    Any,
    /// Those without letters beyond ASCII; others are no addresses but mistakes.
    Ascii,
    /// Those whose local part has none; others can be read but not answered (RFC 6857).
    Downgraded,
}

/// The words of a list. Only display names are encoded. What is no address at all (a company's name in To) becomes the
/// name of an empty group, the one form in which RFC 5322 lets a name stand alone; a group cannot hold another, so
/// what stood in one goes behind it.
pub(in crate::letter) fn address_words(list: &[Entry], letters: Letters) -> Words {
    let mut elements: Vec<Words> = vec![];
    let mut group: Option<Group> = None;
    for entry in list {
        if let Some(name) = &entry.group {
            elements.extend(group.take().map(Group::close).unwrap_or_default());
            group = Some(Group { name: Words::phrase(name, false), ..Group::default() });
        }
        let member = entry.mailbox().filter(|m| letters != Letters::Ascii || m.is_ascii());
        let member = member
            .map(|m| entry.words(&m))
            .filter(|words| letters != Letters::Downgraded || words.is_ascii());
        let stands_for_itself = member.is_some();
        let words = member.unwrap_or_else(|| nobody(&shown(entry, letters)));
        match &mut group {
            _ if words.is_empty() => {}
            Some(group) if stands_for_itself => group.members.push(words),
            Some(group) => group.behind.push(words),
            None => elements.push(words),
        }
        if entry.ends_group {
            elements.extend(group.take().map(Group::close).unwrap_or_default());
        }
    }
    elements.extend(group.map(Group::close).unwrap_or_default());
    Words::joined(elements, ",")
}

/// A group that is being read.
#[derive(Default)]
struct Group {
    name: Words,
    members: Vec<Words>,
    behind: Vec<Words>,
}

impl Group {
    fn close(self) -> Vec<Words> {
        let mut words = self.name.ended(":");
        words.extend(Words::joined(self.members, ","));
        let mut elements = vec![words.ended(";")];
        elements.extend(self.behind);
        elements
    }
}

/// An empty group of this name; nothing for no name.
fn nobody(name: &str) -> Words {
    Words::phrase(name, true).ended(":;")
}

/// What is to be read where no address can stand.
fn shown(entry: &Entry, letters: Letters) -> String {
    match (entry.display.as_str(), entry.address.as_str()) {
        ("", address) => address.to_owned(),
        (display, address) if letters == Letters::Downgraded && entry.mailbox().is_some() => {
            format!("{display} {address}")
        }
        (display, _) => display.to_owned(),
    }
}
