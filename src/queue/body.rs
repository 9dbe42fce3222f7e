//! The content of one message: written once while it arrives, read any number of times while it leaves.
//!
//! Invariant: small contents live in memory (and in the row), larger ones in a file of their own; nobody outside
//! `queue` can tell which. Memory for one message stays below `SMALL_BYTES` plus one chunk, whatever its size.
//! Must not know: what the bytes mean.

use crate::mail::QueueId;
use crate::queue::QueueError;
use bytes::Bytes;

/// Up to this size a content is kept in memory and stored in its row.
pub const SMALL_BYTES: usize = 64 * 1024;

/// A content on its way in. Dropping it removes whatever was written.
#[derive(Debug)]
pub struct Draft {
    id: QueueId,
    memory: Vec<u8>,
}

impl Draft {
    /// For a backend outside this crate: a draft that stays in memory.
    #[doc(hidden)]
    pub fn by_backend(id: QueueId) -> Self {
        Self { id, memory: Vec::new() }
    }

    /// For a backend outside this crate: the content of such a draft.
    #[doc(hidden)]
    pub fn into_memory(self) -> Vec<u8> {
        self.memory
    }

    /// The id the message will have.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// `Full`, `Broken`; the draft is then useless.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), QueueError> {
        self.memory.extend_from_slice(chunk);
        Ok(())
    }
}

/// Head and content of a stored message.
#[derive(Debug, Clone)]
pub struct Body {
    head: Vec<u8>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
}

impl Body {
    /// A body held in memory.
    pub fn in_memory(head: Vec<u8>, content: impl Into<Bytes>) -> Self {
        Self { head, content: Content::Memory(content.into()) }
    }

    /// The head with its final empty line, CRLF line ends.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes behind the head.
    pub fn content_len(&self) -> u64 {
        match &self.content {
            Content::Memory(b) => b.len() as u64,
        }
    }

    /// Starts reading the content from its beginning; may be done any number of times.
    ///
    /// # Errors
    /// The file is gone or unreadable: an alarm.
    pub async fn open(&self) -> std::io::Result<BodyReader> {
        match &self.content {
            Content::Memory(b) => Ok(BodyReader { left: b.clone() }),
        }
    }
}

/// Reads a content in chunks.
#[derive(Debug)]
pub struct BodyReader {
    left: Bytes,
}

impl BodyReader {
    /// The next chunk, at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// The disk's.
    pub async fn chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let n = self.left.len().min(SMALL_BYTES);
        Ok(Some(self.left.split_to(n)))
    }
}
