//! The message as it goes over the wire behind 354, without the final dot.
//!
//! Invariant: every line ends in CRLF and a line's first dot is doubled (RFC 5321 section 4.5.2), so that nothing
//! in a message can end it. Must not know: sockets.

use crate::mail::QueuedMessage;
use crate::policy::rewrite::Sender;
use crate::queue::{Body, BodyReader};
use bytes::Bytes;
use std::io;

/// A message prepared for one transaction.
#[derive(Debug)]
pub struct Wire<'a> {
    body: &'a Body,
    reader: Option<BodyReader>,
    needs_8bit: bool,
    at_line_start: bool,
    ended: bool,
}

impl<'a> Wire<'a> {
    /// Reads the content once to learn what it needs; `to_8bit`: 8BITMIME is announced.
    ///
    /// # Errors
    /// The body's.
    pub async fn prepare(
        body: &'a Body,
        _message: &QueuedMessage,
        _sender: &Sender,
        to_8bit: bool,
    ) -> io::Result<Self> {
        let mut needs_8bit = false;
        let mut reader = body.open().await?;
        while let Some(chunk) = reader.chunk().await? {
            needs_8bit |= to_8bit && !chunk.is_ascii();
        }
        Ok(Self { body, reader: None, needs_8bit, at_line_start: true, ended: false })
    }

    /// What SIZE= says.
    pub fn size_bytes(&self) -> u64 {
        self.body.head().len() as u64 + self.body.content_len()
    }

    /// Whether BODY=8BITMIME is needed.
    pub fn needs_8bit(&self) -> bool {
        self.needs_8bit
    }

    /// Whether the header needs SMTPUTF8.
    pub fn needs_utf8(&self) -> bool {
        !self.body.head().is_ascii()
    }

    /// The next part, dots doubled; `None` at the end.
    ///
    /// # Errors
    /// The body's.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let part = match &mut self.reader {
            None => {
                self.reader = Some(self.body.open().await?);
                Some(Bytes::copy_from_slice(self.body.head()))
            }
            Some(reader) => reader.chunk().await?,
        };
        let Some(part) = part else {
            if self.ended || self.at_line_start {
                return Ok(None);
            }
            self.ended = true;
            return Ok(Some(Bytes::from_static(b"\r\n")));
        };
        let mut out = Vec::with_capacity(part.len() + 16);
        for &byte in &part {
            if self.at_line_start && byte == b'.' {
                out.push(b'.');
            }
            out.push(byte);
            self.at_line_start = byte == b'\n';
        }
        Ok(Some(Bytes::from(out)))
    }
}
