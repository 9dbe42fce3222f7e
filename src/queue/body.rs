//! The content of one message: written once while it arrives, read any number of times while it leaves.
//!
//! Invariant: small contents live in memory, larger ones wherever the backend puts them, piece by piece; nobody outside
//! `queue` can tell which. Memory for one message stays below `PIECE_BYTES` plus one chunk, whatever its size. What
//! is read is what was written: a digest over head and content tells when a disk has changed a byte, before the
//! smart host has the end of it. Must not know: what the bytes mean, where a backend keeps them.

use super::error::{Done, QueueError};
use crate::mail::QueueId;
use bytes::Bytes;
use crc32fast::Hasher;
use futures_util::future::BoxFuture;
use std::any::Any;
use std::io;
use std::sync::Arc;

/// Up to this size a content is kept in memory.
pub(in crate::queue) const SMALL_BYTES: usize = 64 * 1024;
/// A large content is written in pieces of this size, so that the way to the backend costs nothing.
const PIECE_BYTES: usize = 192 * 1024;

/// Where a backend puts what is too large for memory.
pub(in crate::queue) trait Storage: std::fmt::Debug + Send + Sync {
    /// Begins a content.
    fn begin(self: Arc<Self>, id: QueueId) -> Done<Box<dyn Sink>>;
}

/// A large content on its way in. Dropping it removes what was written.
pub(in crate::queue) trait Sink: std::fmt::Debug + Send {
    /// Appends a piece, and gives its emptied buffer back. After an error nothing more can be appended.
    fn append(self: Box<Self>, piece: Vec<u8>) -> Done<(Box<dyn Sink>, Vec<u8>)>;

    /// For the backend that began it.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// A content that a backend keeps.
pub(in crate::queue) trait Source: std::fmt::Debug + Send + Sync {
    /// Bytes.
    fn len(&self) -> u64;

    /// Begins to read.
    fn open(&self) -> BoxFuture<'static, io::Result<Box<dyn Pieces>>>;
}

/// A content on its way out.
pub(in crate::queue) trait Pieces: std::fmt::Debug + Send {
    /// The next piece, at most `SMALL_BYTES`; empty at the end.
    fn next(&mut self) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// A content on its way in. Dropping it removes whatever was written.
#[derive(Debug)]
pub struct Draft {
    id: QueueId,
    storage: Arc<dyn Storage>,
    len: u64,
    content: Written,
    digest: Hasher,
}

#[derive(Debug)]
enum Written {
    Memory(Vec<u8>),
    /// The sink is away while it is written to; after an error it stays away.
    Sink {
        sink: Option<Box<dyn Sink>>,
        buffer: Vec<u8>,
    },
}

/// A draft that came to its end.
#[derive(Debug)]
pub(in crate::queue) struct Whole {
    pub(in crate::queue) len: u64,
    pub(in crate::queue) content: Kept,
    digest: Hasher,
}

/// Where the content of a whole draft is.
#[derive(Debug)]
pub(in crate::queue) enum Kept {
    Memory(Bytes),
    Sink(Box<dyn Sink>),
}

impl Whole {
    /// Over a head and this content behind it.
    pub(in crate::queue) fn digest(&self, head: &[u8]) -> u32 {
        let mut digest = hash(head);
        digest.combine(&self.digest);
        digest.finalize()
    }
}

impl Draft {
    pub(in crate::queue) fn new(id: QueueId, storage: Arc<dyn Storage>) -> Self {
        Self { id, storage, len: 0, content: Written::Memory(Vec::new()), digest: Hasher::new() }
    }

    /// The id the message will have.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// `Full`, `Broken`; the draft is then useless.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), QueueError> {
        self.len += chunk.len() as u64;
        self.digest.update(chunk);
        if let Written::Memory(memory) = &mut self.content {
            if memory.len() + chunk.len() <= SMALL_BYTES {
                memory.extend_from_slice(chunk);
                return Ok(());
            }
            let mut buffer = Vec::with_capacity(PIECE_BYTES);
            buffer.append(memory);
            self.content = Written::Sink { sink: None, buffer };
            let begun = Arc::clone(&self.storage).begin(self.id).await?;
            if let Written::Sink { sink, .. } = &mut self.content {
                *sink = Some(begun);
            }
        }
        let mut rest = chunk;
        while let Written::Sink { buffer, .. } = &mut self.content
            && !rest.is_empty()
        {
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - buffer.len()));
            buffer.extend_from_slice(now);
            rest = later;
            if buffer.len() == PIECE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), QueueError> {
        let Written::Sink { sink, buffer } = &mut self.content else { return Ok(()) };
        let Some(out) = sink.take() else { return Err(broken()) };
        let (sink, buffer) = out.append(std::mem::take(buffer)).await?;
        self.content = Written::Sink { sink: Some(sink), buffer };
        Ok(())
    }

    /// All of it, with its last piece written.
    pub(in crate::queue) async fn finish(mut self) -> Result<Whole, QueueError> {
        self.flush().await?;
        let content = match self.content {
            Written::Memory(memory) => Kept::Memory(memory.into()),
            Written::Sink { sink, .. } => Kept::Sink(sink.ok_or_else(broken)?),
        };
        Ok(Whole { len: self.len, content, digest: self.digest })
    }
}

fn broken() -> QueueError {
    QueueError::Broken("an earlier write of this message failed".into())
}

/// Over a head and the content behind it.
pub(in crate::queue) fn digest(head: &[u8], content: &[u8]) -> u32 {
    let mut digest = hash(head);
    digest.update(content);
    digest.finalize()
}

fn hash(bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher
}

fn damaged() -> io::Error {
    io::Error::other("the stored content is damaged: it is not what was written")
}

/// Head and content of a stored message.
#[derive(Debug, Clone)]
pub struct Body {
    head: Vec<u8>,
    content: Content,
    /// `None`: stored by a version that wrote none.
    digest: Option<u32>,
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
    Kept(Arc<dyn Source>),
    /// Why there is nothing to read.
    Lost(String),
}

impl Body {
    /// A body held in memory.
    pub fn in_memory(head: Vec<u8>, content: impl Into<Bytes>) -> Self {
        Self { head, content: Content::Memory(content.into()), digest: None }
    }

    pub(in crate::queue) fn kept(head: Vec<u8>, source: impl Source + 'static) -> Self {
        Self { head, content: Content::Kept(Arc::new(source)), digest: None }
    }

    /// A body that cannot be read, and why.
    pub(in crate::queue) fn lost(why: String) -> Self {
        Self { head: Vec::new(), content: Content::Lost(why), digest: None }
    }

    /// With the digest that was written along with it.
    pub(in crate::queue) fn expecting(self, digest: Option<u32>) -> Self {
        Self { digest, ..self }
    }

    /// The head with its final empty line, CRLF line ends.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes behind the head.
    pub fn content_len(&self) -> u64 {
        match &self.content {
            Content::Memory(b) => b.len() as u64,
            Content::Kept(source) => source.len(),
            Content::Lost(_) => 0,
        }
    }

    /// Whether a content in memory is what was written; another is found out while it is read.
    pub(in crate::queue) fn is_sound(&self) -> bool {
        match (&self.content, self.digest) {
            (Content::Memory(content), Some(expected)) => digest(&self.head, content) == expected,
            _ => true,
        }
    }

    /// Starts reading the content from its beginning; may be done any number of times.
    ///
    /// # Errors
    /// It is gone, unreadable or not as long as it was, or damaged: an alarm.
    pub async fn open(&self) -> io::Result<BodyReader> {
        match &self.content {
            Content::Memory(_) if !self.is_sound() => Err(damaged()),
            Content::Memory(b) => Ok(BodyReader(Left::Memory(b.clone()))),
            Content::Lost(why) => Err(io::Error::other(why.clone())),
            Content::Kept(source) => {
                let pieces = source.open().await?;
                let expected = self.digest.map(|digest| (hash(&self.head), digest));
                Ok(BodyReader(Left::Kept(Some((pieces, expected)))))
            }
        }
    }
}

/// Reads a content in chunks.
#[derive(Debug)]
pub struct BodyReader(Left);

#[derive(Debug)]
enum Left {
    Memory(Bytes),
    /// `None` behind the end.
    Kept(Option<(Box<dyn Pieces>, Option<Check>)>),
}

/// A digest so far, and what it comes to in the end.
type Check = (Hasher, u32);

impl BodyReader {
    /// The next chunk, at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// The disk's; in place of the end, that what was read is not what was written.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.0 {
            Left::Memory(left) if left.is_empty() => Ok(None),
            Left::Memory(left) => Ok(Some(left.split_to(left.len().min(SMALL_BYTES)))),
            Left::Kept(kept) => {
                let Some((pieces, expected)) = kept else { return Ok(None) };
                let piece = pieces.next().await?;
                if !piece.is_empty() {
                    if let Some((digest, _)) = expected {
                        digest.update(&piece);
                    }
                    return Ok(Some(piece));
                }
                let is_sound = kept.take().is_none_or(|(_, expected)| {
                    expected.is_none_or(|(digest, end)| digest.finalize() == end)
                });
                if is_sound { Ok(None) } else { Err(damaged()) }
            }
        }
    }
}
