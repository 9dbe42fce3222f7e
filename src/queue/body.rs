//! The content of one message: written once while it arrives, read any number of times while it leaves.
//!
//! Invariant: small contents live in memory (and in the row), larger ones in a file of their own; nobody outside
//! `queue` can tell which. Memory for one message stays below `CHUNK_BYTES` plus one chunk, whatever its size.
//! Must not know: what the bytes mean.

use crate::files;
use crate::mail::QueueId;
use crate::queue::QueueError;
use crate::queue::disk::Disk;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Up to this size a content is kept in memory and stored in its row.
pub const SMALL_BYTES: usize = 64 * 1024;
/// A large content is written in pieces of this size, so that the hop to a blocking thread costs nothing.
const CHUNK_BYTES: usize = 192 * 1024;

/// A content on its way in. Dropping it removes whatever was written.
#[derive(Debug)]
pub struct Draft {
    id: QueueId,
    disk: Arc<Disk>,
    len: u64,
    content: Written,
}

#[derive(Debug)]
enum Written {
    Memory(Vec<u8>),
    /// The file is away while it is written to; after an error it stays away.
    File {
        file: Option<File>,
        buffer: Vec<u8>,
    },
}

impl Draft {
    pub(crate) fn new(id: QueueId, disk: Arc<Disk>) -> Self {
        Self { id, disk, len: 0, content: Written::Memory(Vec::new()) }
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
        if let Written::Memory(memory) = &mut self.content {
            if memory.len() + chunk.len() <= SMALL_BYTES {
                memory.extend_from_slice(chunk);
                return Ok(());
            }
            let mut buffer = Vec::with_capacity(CHUNK_BYTES);
            buffer.append(memory);
            self.content = Written::File { file: None, buffer };
            let (disk, id) = (Arc::clone(&self.disk), self.id);
            let created = blocking(move || disk.create(id)).await?;
            if let Written::File { file, .. } = &mut self.content {
                *file = Some(created);
            }
        }
        let mut rest = chunk;
        while let Written::File { buffer, .. } = &mut self.content
            && !rest.is_empty()
        {
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - buffer.len()));
            buffer.extend_from_slice(now);
            rest = later;
            if buffer.len() == CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), QueueError> {
        let Written::File { file, buffer } = &mut self.content else { return Ok(()) };
        self.disk.space.take(buffer.len() as u64)?;
        let Some(mut out) = file.take() else {
            return Err(QueueError::Broken("an earlier write of this message failed".into()));
        };
        let mut bytes = std::mem::take(buffer);
        let (out, bytes) = blocking(move || {
            out.write_all(&bytes)?;
            bytes.clear();
            Ok((out, bytes))
        })
        .await?;
        self.content = Written::File { file: Some(out), buffer: bytes };
        Ok(())
    }

    /// Makes the content durable under each of these ids, all but the names' directory.
    pub(crate) async fn seal(mut self, ids: Vec<QueueId>) -> Result<Sealed, QueueError> {
        let len = self.len;
        if let Written::Memory(memory) = &mut self.content {
            let memory = Bytes::from(std::mem::take(memory));
            return Ok(Sealed { len, memory: Some(memory), disk: Arc::clone(&self.disk), files: Vec::new() });
        }
        self.flush().await?;
        let Written::File { file: Some(file), .. } = &mut self.content else {
            return Err(QueueError::Broken("an earlier write of this message failed".into()));
        };
        let file = file.try_clone()?;
        // Owns the files from here on, so that whoever drops it, even this future in the middle, removes them.
        let (id, links) = (self.id, ids.iter().copied().filter(|id| *id != self.id).collect::<Vec<_>>());
        let mut files = links.clone();
        files.push(id);
        let sealed = Sealed { len, memory: None, disk: Arc::clone(&self.disk), files };
        self.content = Written::Memory(Vec::new());
        Ok(blocking(move || sealed.disk.seal(id, &file, &links).map(|()| sealed)).await?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if matches!(self.content, Written::File { .. }) {
            let _ = std::fs::remove_file(self.disk.path(self.id));
        }
    }
}

/// A content ready to be named by a row. Dropping it removes its files, unless `keep` was called.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) len: u64,
    /// `None`: in files.
    pub(crate) memory: Option<Bytes>,
    disk: Arc<Disk>,
    files: Vec<QueueId>,
}

impl Sealed {
    pub(crate) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Rows name these now; others are removed.
    pub(crate) fn keep(&mut self, named: &[QueueId]) {
        self.files.retain(|id| !named.contains(id));
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        for id in &self.files {
            let _ = std::fs::remove_file(self.disk.path(*id));
        }
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
    File { path: PathBuf, len: u64 },
}

impl Body {
    /// A body held in memory.
    pub fn in_memory(head: Vec<u8>, content: impl Into<Bytes>) -> Self {
        Self { head, content: Content::Memory(content.into()) }
    }

    pub(crate) fn in_file(head: Vec<u8>, path: PathBuf, len: u64) -> Self {
        Self { head, content: Content::File { path, len } }
    }

    /// The head with its final empty line, CRLF line ends.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes behind the head.
    pub fn content_len(&self) -> u64 {
        match &self.content {
            Content::Memory(b) => b.len() as u64,
            Content::File { len, .. } => *len,
        }
    }

    /// Starts reading the content from its beginning; may be done any number of times.
    ///
    /// # Errors
    /// The file is gone, unreadable or not as long as it was: an alarm.
    pub async fn open(&self) -> io::Result<BodyReader> {
        match &self.content {
            Content::Memory(b) => Ok(BodyReader(Source::Memory(b.clone()))),
            Content::File { path, len } => {
                let (path, len) = (path.clone(), *len);
                let file = blocking(move || {
                    let file = files::open(&path)?;
                    let found = file.metadata()?.len();
                    if found == len {
                        return Ok(file);
                    }
                    Err(io::Error::other(format!("{} has {found} bytes in place of {len}", path.display())))
                })
                .await?;
                Ok(BodyReader(Source::File(Some(file))))
            }
        }
    }
}

/// Reads a content in chunks.
#[derive(Debug)]
pub struct BodyReader(Source);

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File(Option<File>),
}

impl BodyReader {
    /// The next chunk, at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// The disk's.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.0 {
            Source::Memory(left) if left.is_empty() => Ok(None),
            Source::Memory(left) => Ok(Some(left.split_to(left.len().min(SMALL_BYTES)))),
            Source::File(file) => {
                let Some(mut open) = file.take() else { return Ok(None) };
                let (open, chunk) = blocking(move || {
                    let mut chunk = Vec::with_capacity(SMALL_BYTES);
                    (&mut open).take(SMALL_BYTES as u64).read_to_end(&mut chunk)?;
                    Ok((open, chunk))
                })
                .await?;
                if chunk.is_empty() {
                    return Ok(None);
                }
                *file = Some(open);
                Ok(Some(chunk.into()))
            }
        }
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
