//! Which sender leaves the relay, and a head that every smart host takes.
//!
//! Invariant: what `rewrite_head` returns has exactly one From, of addresses the account may send as; no line over
//! 998 bytes, no NUL and no CR or LF but at line ends; nothing outside ASCII but addresses that need SMTPUTF8, and
//! after `downgraded` not those either. The same input gives the same bytes, so every attempt sends the same head.
//! Must not know: the body, the wire, what the smart host announces.

use crate::letter::address_list::{self, Entry};
use crate::letter::charset::Charsets;
use crate::letter::field::encode_field;
use crate::letter::head::{Field, Head, NewHead};
use crate::letter::words::Words;
use crate::mail::{Mailbox, Sender};

/// Of the addresses in a From that may not be used, so many are kept in Reply-To.
const MAX_REPLY_TO: usize = 10;
/// Beyond these nobody reads on, and comparing each with each would take long.
const MAX_ADDRESSES: usize = 100;

/// The head as it leaves: From, Reply-To and Sender put right, Bcc and Return-Path gone, everything encoded and
/// folded. `charsets`: of raw 8-bit fields. Ends with the empty line.
pub fn rewrite_head(head: &[u8], sender: &Sender, charsets: Charsets) -> Vec<u8> {
    let all: Vec<Field<'_>> = Head::of(head).fields().collect();
    let list = |name: &str| -> Vec<Vec<Entry>> {
        all.iter().filter(|f| f.is(name)).map(|f| entries(f, charsets)).collect()
    };
    let originator = Originator::decide(&list("From"), &list("Reply-To"), &list("Sender"), sender);
    let mut out = NewHead::with_capacity(head.len() + 256);
    let mut written = Written::default();
    for field in &all {
        if field.is("From") {
            if !std::mem::replace(&mut written.from, true) {
                originator.write(&mut out);
            }
        } else if field.is("Reply-To") {
            if !originator.has_reply_to || std::mem::replace(&mut written.reply_to, true) {
                continue;
            }
            out.written(&encode_field(field, charsets));
        } else if !["Sender", "Bcc", "Resent-Bcc", "Return-Path"].iter().any(|n| field.is(n)) {
            out.written(&encode_field(field, charsets));
        }
    }
    if !written.from {
        originator.write(&mut out);
    }
    out.finish()
}

#[derive(Default)]
struct Written {
    from: bool,
    reply_to: bool,
}

/// From, Sender and Reply-To of the message that leaves.
struct Originator {
    from: Vec<(Entry, Mailbox)>,
    sender: Option<(Entry, Mailbox)>,
    reply_to: Vec<(Entry, Mailbox)>,
    has_reply_to: bool,
}

impl Originator {
    fn decide(from: &[Vec<Entry>], reply_to: &[Vec<Entry>], senders: &[Vec<Entry>], sender: &Sender) -> Self {
        let addressed = |lists: &[Vec<Entry>]| -> Vec<(Entry, Mailbox)> {
            let mut found: Vec<(Entry, Mailbox)> = Vec::new();
            for entry in lists.iter().flatten().take(MAX_ADDRESSES) {
                if let Some(m) = entry.mailbox().filter(|m| !found.iter().any(|(_, known)| known.is_same(m)))
                {
                    found.push((entry.clone(), m));
                }
            }
            found
        };
        let listed = addressed(from);
        let has_reply_to = !addressed(reply_to).is_empty();
        let usable = |(_, m): &&(Entry, Mailbox)| sender.may_use(m);
        let kept: Vec<(Entry, Mailbox)> = if from.len() == 1 && listed.iter().all(|l| usable(&l)) {
            listed.clone()
        } else {
            listed.iter().find(usable).cloned().into_iter().collect()
        };
        let dropped = listed.len() > kept.len();
        let from =
            if kept.is_empty() { vec![(renamed(from, &listed), sender.mailbox.clone())] } else { kept };
        let reply_to = if dropped && !has_reply_to {
            // An address only SMTPUTF8 could carry would cost the whole message at a server without it.
            let answerable = listed.into_iter().filter(|(_, m)| m.has_public_domain() && m.is_ascii());
            answerable.take(MAX_REPLY_TO).collect()
        } else {
            vec![]
        };
        // RFC 5322 section 3.6.2: several authors need one Sender; one who is the author himself needs none.
        let named = addressed(senders).into_iter().find(|s| usable(&s));
        let sender = match from.as_slice() {
            [(_, only)] => named.filter(|(_, m)| !m.is_same(only)),
            _ => Some(named.unwrap_or_else(|| (Entry::default(), sender.mailbox.clone()))),
        };
        Self { from, sender, reply_to, has_reply_to }
    }

    fn write(&self, out: &mut NewHead) {
        out.add_words("From", &joined(&self.from));
        if let Some(sender) = &self.sender {
            out.add_words("Sender", &joined(std::slice::from_ref(sender)));
        }
        if !self.reply_to.is_empty() {
            out.add_words("Reply-To", &joined(&self.reply_to));
        }
    }
}

/// The display name that goes with the mailbox: the one given, or what stood in place of an address.
fn renamed(from: &[Vec<Entry>], listed: &[(Entry, Mailbox)]) -> Entry {
    let first = listed.first().map(|(e, _)| e).or_else(|| from.iter().flatten().next());
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

fn joined(list: &[(Entry, Mailbox)]) -> Words {
    Words::joined(list.iter().map(|(entry, mailbox)| entry.words(mailbox)).collect(), ",")
}

fn entries(field: &Field<'_>, charsets: Charsets) -> Vec<Entry> {
    address_list::parse(&charsets.read(&field.unfolded()))
}

#[cfg(test)]
mod tests;
