//! The bytes of a message on their way out, wherever they are kept.
//!
//! Invariant: a content is read in chunks, from its beginning and as often as it is asked for, and never stands in
//! memory as a whole unless it was given so. Must not know: what the bytes mean, where they come from.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::io;

/// Head and content of a message, as stored.
pub trait Letter: fmt::Debug + Send + Sync {
    /// The head, CRLF line ends, with its final empty line.
    fn head(&self) -> &[u8];

    /// Begins to read the content.
    ///
    /// # Errors
    /// The disk's: the content is gone or unreadable.
    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn Content>>>;
}

/// A content being read.
pub trait Content: fmt::Debug + Send {
    /// The next chunk, never empty, at most some ten KiB; `None` at the end.
    ///
    /// # Errors
    /// The disk's; in place of the end, that what was read is not what was written.
    fn chunk(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;
}

/// A letter of our own making.
#[derive(Debug, Clone)]
pub struct InMemory {
    head: Vec<u8>,
    content: Bytes,
}

impl InMemory {
    /// `head` with its final empty line.
    pub fn new(head: Vec<u8>, content: impl Into<Bytes>) -> Self {
        Self { head, content: content.into() }
    }
}

impl Letter for InMemory {
    fn head(&self) -> &[u8] {
        &self.head
    }

    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn Content>>> {
        let reader: Box<dyn Content> = Box::new(Left(self.content.clone()));
        Box::pin(std::future::ready(Ok(reader)))
    }
}

/// What of a content in memory is yet to be read.
#[derive(Debug)]
struct Left(Bytes);

const CHUNK_BYTES: usize = 64 * 1024;

impl Content for Left {
    fn chunk(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        let next = self.0.split_to(self.0.len().min(CHUNK_BYTES));
        Box::pin(std::future::ready(Ok((!next.is_empty()).then_some(next))))
    }
}
