//! Large contents: files in `bodies/`, on their way in and out.
//!
//! Invariant: whoever holds what is here owns its files: dropping it removes them, until a row names them. Every hop to
//! the disk is off the runtime's threads. Must not know: rows.

use super::disk::Disk;
use crate::files;
use crate::mail::QueueId;
use crate::queue::body::{Kept, Pieces, SMALL_BYTES, Sink, Source, Storage, Whole};
use crate::queue::error::{Done, QueueError};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use std::any::Any;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

impl Storage for Disk {
    fn begin(self: Arc<Self>, id: QueueId) -> Done<Box<dyn Sink>> {
        async move {
            let part = blocking(move || Ok(Part { file: self.create(id)?, id, disk: self, is_whole: false }))
                .await?;
            Ok(Box::new(part) as Box<dyn Sink>)
        }
        .boxed()
    }
}

/// A content that is not whole yet.
#[derive(Debug)]
struct Part {
    file: File,
    id: QueueId,
    disk: Arc<Disk>,
    is_whole: bool,
}

impl Sink for Part {
    fn append(mut self: Box<Self>, mut piece: Vec<u8>) -> Done<(Box<dyn Sink>, Vec<u8>)> {
        async move {
            self.disk.space.take(piece.len() as u64)?;
            let (part, piece) = blocking(move || {
                self.file.write_all(&piece)?;
                piece.clear();
                Ok((self, piece))
            })
            .await?;
            Ok((part as Box<dyn Sink>, piece))
        }
        .boxed()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = std::fs::remove_file(self.disk.part(self.id));
        }
    }
}

/// A content ready to be named by a row. Dropping it removes its files, unless `keep` was called.
#[derive(Debug)]
pub(super) struct Sealed {
    /// `None`: in files.
    pub(super) memory: Option<Bytes>,
    disk: Arc<Disk>,
    files: Vec<QueueId>,
}

impl Sealed {
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Rows name these now; others are removed.
    pub(super) fn keep(&mut self, named: &[QueueId]) {
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

/// Makes the content durable under each of these ids, all but the names' directory. Asks for room first: once for the
/// whole of a small content; a large one asked while it came.
pub(super) async fn seal(disk: &Arc<Disk>, whole: Whole, ids: &[QueueId]) -> Result<Sealed, QueueError> {
    let disk = Arc::clone(disk);
    let sink = match whole.content {
        Kept::Memory(content) => {
            disk.space.take_row(whole.len)?;
            return Ok(Sealed { memory: Some(content), disk, files: Vec::new() });
        }
        Kept::Sink(sink) => sink,
    };
    disk.space.check(0)?;
    let elsewhere = |_| QueueError::Broken("a message that was begun in another queue".into());
    let mut part: Box<Part> = sink.into_any().downcast().map_err(elsewhere)?;
    let links: Vec<QueueId> = ids.iter().copied().filter(|id| *id != part.id).collect();
    // Owns the files from here on, so that whoever drops it, even this future in the middle, removes them.
    let files = links.iter().copied().chain([part.id]).collect();
    let sealed = Sealed { memory: None, disk, files };
    let sealed = blocking(move || {
        part.is_whole = true;
        sealed.disk.seal(part.id, &part.file, &links).map(|()| sealed)
    });
    Ok(sealed.await?)
}

/// A whole content.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) len: u64,
}

impl Source for Stored {
    fn len(&self) -> u64 {
        self.len
    }

    fn open(&self) -> BoxFuture<'static, io::Result<Box<dyn Pieces>>> {
        let (path, len) = (self.path.clone(), self.len);
        blocking(move || {
            let file = files::open(&path)?;
            let found = file.metadata()?.len();
            if found == len {
                return Ok(Box::new(Reading(Some(file))) as Box<dyn Pieces>);
            }
            Err(io::Error::other(format!("{} has {found} bytes in place of {len}", path.display())))
        })
        .boxed()
    }
}

/// The file is away while it is read; after an error it stays away.
#[derive(Debug)]
struct Reading(Option<File>);

impl Pieces for Reading {
    fn next(&mut self) -> BoxFuture<'_, io::Result<Bytes>> {
        async move {
            let gone = || io::Error::other("an earlier read of this content failed");
            let mut file = self.0.take().ok_or_else(gone)?;
            let (file, piece) = blocking(move || {
                let mut piece = Vec::with_capacity(SMALL_BYTES);
                (&mut file).take(SMALL_BYTES as u64).read_to_end(&mut piece)?;
                Ok((file, piece))
            })
            .await?;
            self.0 = Some(file);
            Ok(piece.into())
        }
        .boxed()
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
