//! The content of one message: written once while it arrives, read any number of times while it leaves.
//!
//! Invariant: small contents live in memory (and in the row), larger ones in a file of their own; nobody outside
//! `queue` can tell which. Memory for one message stays below `CHUNK_BYTES` plus one chunk, whatever its size. What
//! is read is what was written: a digest over head and content tells when a disk has changed a byte, before the
//! smart host has the end of it. Must not know: what the bytes mean.

use crate::files;
use crate::mail::QueueId;
use crate::queue::disk::Disk;
use crate::queue::error::QueueError;
use bytes::Bytes;
use crc32fast::Hasher;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Up to this size a content is kept in memory and stored in its row.
pub(in crate::queue) const SMALL_BYTES: usize = 64 * 1024;
/// A large content is written in pieces of this size, so that the hop to a blocking thread costs nothing.
const CHUNK_BYTES: usize = 192 * 1024;

/// A content on its way in. Dropping it removes whatever was written.
#[derive(Debug)]
pub struct Draft {
    id: QueueId,
    disk: Arc<Disk>,
    len: u64,
    content: Written,
    digest: Hasher,
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
        Self { id, disk, len: 0, content: Written::Memory(Vec::new()), digest: Hasher::new() }
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

    /// Asks for room, once for the whole of a small content; a large one asked while it came.
    pub(crate) fn take_room(&self) -> Result<(), QueueError> {
        match self.content {
            Written::Memory(_) => self.disk.space.take_row(self.len),
            Written::File { .. } => self.disk.space.check(0),
        }
    }

    /// Makes the content durable under each of these ids, all but the names' directory.
    pub(crate) async fn seal(mut self, ids: Vec<QueueId>) -> Result<Sealed, QueueError> {
        let (len, digest) = (self.len, self.digest.clone());
        if let Written::Memory(memory) = &mut self.content {
            let memory = Bytes::from(std::mem::take(memory));
            let disk = Arc::clone(&self.disk);
            return Ok(Sealed { len, digest, memory: Some(memory), disk, files: Vec::new() });
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
        let sealed = Sealed { len, digest, memory: None, disk: Arc::clone(&self.disk), files };
        self.content = Written::Memory(Vec::new());
        Ok(blocking(move || sealed.disk.seal(id, &file, &links).map(|()| sealed)).await?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if matches!(self.content, Written::File { .. }) {
            let _ = std::fs::remove_file(self.disk.part(self.id));
        }
    }
}

/// A content ready to be named by a row. Dropping it removes its files, unless `keep` was called.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) len: u64,
    digest: Hasher,
    /// `None`: in files.
    pub(crate) memory: Option<Bytes>,
    disk: Arc<Disk>,
    files: Vec<QueueId>,
}

impl Sealed {
    /// Over the head and this content behind it.
    pub(crate) fn digest(&self, head: &[u8]) -> u32 {
        let mut digest = hash(head);
        digest.combine(&self.digest);
        digest.finalize()
    }

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
            let _ = std::fs::remove_file(self.disk.part(*id));
        }
    }
}

/// Over a head and the content behind it.
pub(crate) fn digest(head: &[u8], content: &[u8]) -> u32 {
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
    File {
        path: PathBuf,
        len: u64,
    },
    /// Why there is nothing to read.
    Lost(String),
}

impl Body {
    /// A body held in memory.
    pub fn in_memory(head: Vec<u8>, content: impl Into<Bytes>) -> Self {
        Self { head, content: Content::Memory(content.into()), digest: None }
    }

    pub(crate) fn in_file(head: Vec<u8>, path: PathBuf, len: u64) -> Self {
        Self { head, content: Content::File { path, len }, digest: None }
    }

    /// A body that cannot be read, and why.
    pub(crate) fn lost(why: String) -> Self {
        Self { head: Vec::new(), content: Content::Lost(why), digest: None }
    }

    /// With the digest that was written along with it.
    pub(crate) fn expecting(self, digest: Option<u32>) -> Self {
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
            Content::File { len, .. } => *len,
            Content::Lost(_) => 0,
        }
    }

    /// Whether a content in memory is what was written; one in a file is found out while it is read.
    pub(crate) fn is_sound(&self) -> bool {
        match (&self.content, self.digest) {
            (Content::Memory(content), Some(expected)) => digest(&self.head, content) == expected,
            _ => true,
        }
    }

    /// Starts reading the content from its beginning; may be done any number of times.
    ///
    /// # Errors
    /// The file is gone, unreadable or not as long as it was, or the content is damaged: an alarm.
    pub async fn open(&self) -> io::Result<BodyReader> {
        match &self.content {
            Content::Memory(_) if !self.is_sound() => Err(damaged()),
            Content::Memory(b) => Ok(BodyReader(Source::Memory(b.clone()))),
            Content::Lost(why) => Err(io::Error::other(why.clone())),
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
                let expected = self.digest.map(|digest| (hash(&self.head), digest));
                Ok(BodyReader(Source::File(Some((file, expected)))))
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
    /// With the digest so far, and what it comes to in the end.
    File(Option<(File, Option<(Hasher, u32)>)>),
}

impl BodyReader {
    /// The next chunk, at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// The disk's; in place of the end, that what was read is not what was written.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.0 {
            Source::Memory(left) if left.is_empty() => Ok(None),
            Source::Memory(left) => Ok(Some(left.split_to(left.len().min(SMALL_BYTES)))),
            Source::File(file) => {
                let Some((mut open, mut expected)) = file.take() else { return Ok(None) };
                let (open, chunk, expected) = blocking(move || {
                    let mut chunk = Vec::with_capacity(SMALL_BYTES);
                    (&mut open).take(SMALL_BYTES as u64).read_to_end(&mut chunk)?;
                    if let Some((digest, _)) = &mut expected {
                        digest.update(&chunk);
                    }
                    Ok((open, chunk, expected))
                })
                .await?;
                if chunk.is_empty() {
                    let is_sound = expected.is_none_or(|(digest, end)| digest.finalize() == end);
                    return if is_sound { Ok(None) } else { Err(damaged()) };
                }
                *file = Some((open, expected));
                Ok(Some(chunk.into()))
            }
        }
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
