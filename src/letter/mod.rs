//! The bytes of a message: its head and fields, words and charsets, address lists, dates, MIME structure, transfer
//! encodings, and the reports that the relay writes itself.
//!
//! Invariant: a thing that two sides read has one reader here; nothing here needs a clock, a disk or a socket, and the
//! same bytes give the same bytes. Must not know: SMTP, the queue, accounts and their rights beyond `mail::Sender`.

pub mod address_list;
pub mod charset;
pub(crate) mod date;
pub mod field;
pub mod head;
pub(crate) mod mime;
pub mod parameters;
mod reader;
pub(crate) mod recode;
pub mod report;
pub mod rewrite;
pub(crate) mod scan;
pub mod splitter;
pub mod stamp;
pub(crate) mod transfer;
pub mod words;
