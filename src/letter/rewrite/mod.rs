//! Which sender leaves the relay, and a head that every smart host takes.
//!
//! Invariant: what `rewrite_head` returns has exactly one From, of addresses the account may send as, and every other
//! field at most as often as RFC 5322 allows, without an address lost; a field in which nothing had to be changed
//! leaves byte for byte, in its place. The same input gives the same bytes, so every attempt sends the same head.
//! Must not know: the body, the wire, what the smart host announces.

mod once;
mod originator;

use crate::letter::charset::Charsets;
use crate::letter::field::encode_field;
use crate::letter::head::{Field, Head, NewHead};
use crate::mail::Sender;
use once::Once;
use originator::Originator;

/// The head as it leaves: From, Reply-To and Sender put right, Bcc and Return-Path gone, everything encoded and
/// folded. `charsets`: of raw 8-bit fields. Ends with the empty line.
pub fn rewrite_head(head: &[u8], sender: &Sender, charsets: Charsets) -> Vec<u8> {
    let all: Vec<Field<'_>> = Head::of(head).fields().collect();
    let originator = Originator::decide(&all, sender, charsets);
    let once = Once::of(&all);
    let mut out = NewHead::with_capacity(head.len() + 256);
    let mut has_from = false;
    for (i, field) in all.iter().enumerate() {
        if field.is("From") {
            if !std::mem::replace(&mut has_from, true) {
                originator.write_from(Some(field), charsets, &mut out);
            }
        } else if field.is("Sender") {
            originator.write_sender(i, field, charsets, &mut out);
        } else if field.is("Reply-To") && originator.has_own_reply_to() {
            // It has no address; those that From lost stand behind that.
        } else if !["Bcc", "Resent-Bcc", "Return-Path"].iter().any(|n| field.is(n)) {
            once.write(i, field, charsets, &mut out);
        }
    }
    if !has_from {
        originator.write_from(None, charsets, &mut out);
    }
    out.finish()
}

/// A field as it may leave.
fn write(field: &Field<'_>, charsets: Charsets, out: &mut NewHead) {
    out.written(&encode_field(field, charsets));
}

#[cfg(test)]
mod tests;
