//! What goes on the wire between 354 and the final dot.
//!
//! Invariant: whatever is stored, what leaves has CRLF line ends only, no NUL, no line over 998 bytes, no 8-bit
//! content unless the smart host takes it, and is dot-stuffed last; so nothing in it can end the data (RFC 5321
//! section 4.5.2, RFC 5322 section 2.1.1). The same message gives the same bytes at every attempt. Memory is a
//! few chunks, whatever the size.
//! Must not know: the connection, the reply, the schedule.

mod stuffing;

use crate::letter::charset::Charsets;
use crate::letter::field::downgraded;
use crate::letter::head::Head;
use crate::letter::mime::{Walker, is_encoded_multipart};
pub use crate::letter::recode::Taken;
use crate::letter::recode::{Rewriter, Survey};
use crate::letter::rewrite::rewrite_head;
use crate::letter::scan::Scan;
use crate::mail::Sender;
use crate::submit::{Content, Letter};
use bytes::Bytes;
use stuffing::Stuffing;

/// Small pieces are joined up to this size, so that a small message is one write.
const CHUNK_BYTES: usize = 64 * 1024;

/// One message on its way out.
#[derive(Debug)]
pub struct Wire<'a> {
    letter: &'a dyn Letter,
    reader: Box<dyn Content>,
    how: How,
    stuffing: Stuffing,
    /// Stuffed and ready.
    ready: Vec<u8>,
    /// Behind `ready`, and needs nothing.
    held: Option<Bytes>,
    ended: bool,
    size_bytes: u64,
    needs_8bit: bool,
    needs_utf8: bool,
}

#[derive(Debug)]
enum How {
    /// The content is clean. Without dots to stuff, chunks pass as they are.
    Clean { has_dots: bool, lacks_line_end: bool },
    /// It has to be walked.
    Recode(Box<(Option<Walker>, Rewriter)>),
}

impl<'a> Wire<'a> {
    /// Rewrites the head and looks through the content once, to know what has to be done to it and how long it
    /// will be.
    ///
    /// # Errors
    /// The disk's: the content is gone or unreadable.
    pub async fn prepare(
        letter: &'a dyn Letter,
        charset: Option<&str>,
        sender: &Sender,
        taken: Taken,
    ) -> std::io::Result<Self> {
        let root = letter.head();
        let mut charsets = Charsets::of_client(charset).declared_in(Head::of(root));
        if !charsets.is_declared() && std::str::from_utf8(root).is_err() {
            // A part may say what the head was written in.
            let head = rewrite_head(root, sender, charsets);
            charsets = charsets.or_declared(survey(letter, &head, charsets, taken).await?.declared());
        }
        let mut head = rewrite_head(root, sender, charsets);
        if !taken.utf8 {
            head = downgraded(head);
        }
        let mut scan = Scan::default();
        let mut reader = letter.open().await?;
        while let Some(chunk) = reader.chunk().await? {
            scan.push(&chunk);
        }
        let mut wire = Self {
            letter,
            reader: letter.open().await?,
            how: How::Clean { has_dots: scan.dots, lacks_line_end: !scan.at_line_start },
            stuffing: Stuffing::default(),
            ready: Vec::with_capacity(head.len() + 16),
            held: None,
            ended: false,
            size_bytes: head.len() as u64 + scan.bytes + if scan.at_line_start { 0 } else { 2 },
            needs_8bit: scan.has_8bit || !head.is_ascii(),
            needs_utf8: !head.is_ascii(),
        };
        if scan.is_clean() && !scan.has_8bit && !is_encoded_multipart(&head) {
            wire.stuffing.push(&head, &mut wire.ready);
        } else {
            wire.recode(&head, charsets, taken).await?;
        }
        Ok(wire)
    }

    /// Decides part by part, then writes once into nothing for the exact size.
    async fn recode(&mut self, head: &[u8], charsets: Charsets, taken: Taken) -> std::io::Result<()> {
        let survey = survey(self.letter, head, charsets, taken).await?;
        let charsets = charsets.or_declared(survey.declared());
        let decisions = survey.decisions();

        self.reader = self.letter.open().await?;
        let mut rewriter = Rewriter::new(decisions.clone(), charsets, taken);
        let mut walker = Walker::begin(head, &mut rewriter);
        (self.size_bytes, self.needs_8bit) = (rewriter.out.len() as u64, !rewriter.out.is_ascii());
        let mut count = |out: &mut Vec<u8>| {
            self.size_bytes += out.len() as u64;
            self.needs_8bit |= !out.is_ascii();
            out.clear();
        };
        rewriter.out.clear();
        while let Some(chunk) = self.reader.chunk().await? {
            walker.push(&chunk, &mut rewriter);
            count(&mut rewriter.out);
        }
        walker.finish(&mut rewriter);
        count(&mut rewriter.out);
        self.needs_utf8 |= rewriter.needs_utf8;

        self.reader = self.letter.open().await?;
        let mut rewriter = Rewriter::new(decisions, charsets, taken);
        let walker = Walker::begin(head, &mut rewriter);
        self.how = How::Recode(Box::new((Some(walker), rewriter)));
        Ok(())
    }

    /// The exact size for `SIZE=` (RFC 1870 section 5: without stuffed dots).
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether `BODY=8BITMIME` has to be said.
    pub fn needs_8bit(&self) -> bool {
        self.needs_8bit
    }

    /// Whether `SMTPUTF8` has to be said for the head's sake.
    pub fn needs_utf8(&self) -> bool {
        self.needs_utf8
    }

    /// The next bytes to send, about 64 KiB; `None` at the end. All of them together end in CRLF; the final
    /// `.` and CRLF are the caller's.
    ///
    /// # Errors
    /// The disk's. The end of data must not be sent then.
    pub async fn chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            if let Some(held) = self.held.take() {
                return Ok(Some(held));
            }
            if self.ready.len() >= CHUNK_BYTES || self.ended {
                return Ok((!self.ready.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.ready))));
            }
            let Some(chunk) = self.reader.chunk().await? else {
                self.finish();
                self.ended = true;
                continue;
            };
            match &mut self.how {
                How::Clean { has_dots: false, .. } if self.ready.is_empty() => return Ok(Some(chunk)),
                How::Clean { has_dots: false, .. } if self.ready.len() + chunk.len() > CHUNK_BYTES => {
                    self.held = Some(chunk);
                    return Ok(Some(Bytes::from(std::mem::take(&mut self.ready))));
                }
                How::Clean { has_dots: false, .. } => self.ready.extend_from_slice(&chunk),
                How::Clean { has_dots: true, .. } => self.stuffing.push(&chunk, &mut self.ready),
                How::Recode(recode) => {
                    let (walker, rewriter) = &mut **recode;
                    if let Some(walker) = walker {
                        walker.push(&chunk, rewriter);
                    }
                    self.stuffing.push(&rewriter.out, &mut self.ready);
                    rewriter.out.clear();
                }
            }
        }
    }

    fn finish(&mut self) {
        match &mut self.how {
            How::Clean { lacks_line_end: true, .. } => self.ready.extend_from_slice(b"\r\n"),
            How::Clean { .. } => {}
            How::Recode(recode) => {
                let (walker, rewriter) = &mut **recode;
                if let Some(walker) = walker.take() {
                    walker.finish(rewriter);
                }
                self.stuffing.push(&rewriter.out, &mut self.ready);
                rewriter.out.clear();
            }
        }
    }
}

/// The first walk through a message.
async fn survey(
    letter: &dyn Letter,
    head: &[u8],
    charsets: Charsets,
    taken: Taken,
) -> std::io::Result<Survey> {
    let mut survey = Survey::new(head, charsets, taken.eight_bit);
    let mut walker = Walker::begin(head, &mut survey);
    let mut reader = letter.open().await?;
    while let Some(chunk) = reader.chunk().await? {
        walker.push(&chunk, &mut survey);
    }
    walker.finish(&mut survey);
    Ok(survey)
}

#[cfg(test)]
mod tests;
