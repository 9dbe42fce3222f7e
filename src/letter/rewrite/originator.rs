//! From, Sender and Reply-To of the message that leaves.
//!
//! Invariant: From has addresses only that the account may send as, and what it loses is kept in Reply-To. A field that
//! is right already stays as it is, where it is. Must not know: the rest of the head.

use super::write;
use crate::letter::address_list::{self, Entry, is_proper};
use crate::letter::charset::Charsets;
use crate::letter::head::{Field, NewHead};
use crate::letter::words::Words;
use crate::mail::{Mailbox, Sender};

/// Of the addresses in a From that may not be used, so many are kept in Reply-To.
const MAX_REPLY_TO: usize = 10;
/// Beyond these nobody reads on, and comparing each with each would take long.
const MAX_ADDRESSES: usize = 100;

type Named = (Entry, Mailbox);

/// What is written.
pub(super) struct Originator {
    from: Vec<Named>,
    from_stays: bool,
    sender: Place,
    reply_to: Vec<Named>,
}

/// Where Sender comes from.
enum Place {
    Nowhere,
    /// The field at this place; `true`: as it is.
    At(usize, Named, bool),
    /// Behind From.
    BehindFrom(Mailbox),
}

impl Originator {
    pub(super) fn decide(all: &[Field<'_>], sender: &Sender, charsets: Charsets) -> Self {
        let lists = |name: &str| -> Vec<(usize, &Field<'_>, Vec<Entry>)> {
            let of_name = all.iter().enumerate().filter(|(_, f)| f.is(name));
            of_name.map(|(i, f)| (i, f, address_list::parse(&charsets.read(&f.unfolded())))).collect()
        };
        let (from, reply_to) = (lists("From"), lists("Reply-To"));
        let listed = addressed(from.iter().flat_map(|(.., list)| list));
        let has_reply_to = !addressed(reply_to.iter().flat_map(|(.., list)| list)).is_empty();
        let usable = |(_, m): &&Named| sender.may_use(m);
        let kept: Vec<Named> = if from.len() == 1 && listed.iter().all(|l| usable(&l)) {
            listed.clone()
        } else {
            listed.iter().find(usable).cloned().into_iter().collect()
        };
        let dropped = listed.len() > kept.len();
        let from_stays = match from.as_slice() {
            [(_, field, list)] => kept.len() == list.len() && !kept.is_empty() && is_proper_field(field),
            _ => false,
        };
        let entries = from.iter().flat_map(|(.., list)| list);
        let from =
            if kept.is_empty() { vec![(renamed(entries, &listed), sender.mailbox.clone())] } else { kept };
        let reply_to = if dropped && !has_reply_to {
            // An address only SMTPUTF8 could carry would cost the whole message at a server without it.
            let answerable = listed.into_iter().filter(|(_, m)| m.has_public_domain() && m.is_ascii());
            answerable.take(MAX_REPLY_TO).collect()
        } else {
            vec![]
        };
        // RFC 5322 section 3.6.2: several authors need one Sender.
        let named = lists("Sender").into_iter().find_map(|(i, field, list)| {
            let found = addressed(list.iter());
            let stays = found.len() == 1 && list.len() == 1 && is_proper_field(field);
            Some((i, found.into_iter().find(|s| usable(&s))?, stays))
        });
        let sender = match named {
            Some((i, named, stays)) => Place::At(i, named, stays),
            None if from.len() > 1 => Place::BehindFrom(sender.mailbox.clone()),
            None => Place::Nowhere,
        };
        Self { from, from_stays, sender, reply_to }
    }

    /// Whether a Reply-To is written behind From.
    pub(super) fn has_own_reply_to(&self) -> bool {
        !self.reply_to.is_empty()
    }

    /// From, and what has to stand behind it.
    pub(super) fn write_from(&self, field: Option<&Field<'_>>, charsets: Charsets, out: &mut NewHead) {
        match field.filter(|_| self.from_stays) {
            Some(field) => write(field, charsets, out),
            None => out.add_words("From", &joined(&self.from)),
        }
        if let Place::BehindFrom(mailbox) = &self.sender {
            out.add_words("Sender", &Entry::default().words(mailbox));
        }
        if !self.reply_to.is_empty() {
            out.add_words("Reply-To", &joined(&self.reply_to));
        }
    }

    /// The Sender at this place, if it is the one.
    pub(super) fn write_sender(
        &self,
        place: usize,
        field: &Field<'_>,
        charsets: Charsets,
        out: &mut NewHead,
    ) {
        match &self.sender {
            Place::At(i, _, true) if *i == place => write(field, charsets, out),
            Place::At(i, named, false) if *i == place => {
                out.add_words("Sender", &joined(std::slice::from_ref(named)));
            }
            _ => {}
        }
    }
}

fn is_proper_field(field: &Field<'_>) -> bool {
    std::str::from_utf8(field.value()).is_ok_and(is_proper)
}

/// Those entries that are addresses, each once.
fn addressed<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    for entry in entries.take(MAX_ADDRESSES) {
        if let Some(m) = entry.mailbox().filter(|m| !found.iter().any(|(_, known)| known.is_same(m))) {
            found.push((entry.clone(), m));
        }
    }
    found
}

/// The display name that goes with the mailbox: the one given, or what stood in place of an address.
fn renamed<'e>(mut entries: impl Iterator<Item = &'e Entry>, listed: &[Named]) -> Entry {
    let first = listed.first().map(|(e, _)| e).or_else(|| entries.next());
    let Some(first) = first else { return Entry::default() };
    let mut entry = first.clone();
    if entry.display.is_empty() && listed.is_empty() {
        entry.display.clone_from(&entry.address);
    }
    let named = address_list::mailbox(&entry.display);
    if entry.mailbox().is_some_and(|m| named.is_ok_and(|d| d.is_same(&m))) {
        entry.display.clear();
    }
    entry
}

fn joined(list: &[Named]) -> Words {
    Words::joined(list.iter().map(|(entry, mailbox)| entry.words(mailbox)).collect(), ",")
}
