//! Where answers come from: the running daemon, or the queue directory when there is none.
//!
//! Invariant: both give the same answers in the same types. Must not know: how they are printed.

use super::{Failure, exit};
use crate::control::client::Client;
use crate::control::report::{
    ChangeRequest, Changed, Message, QueueStatus, Select, Shown, Status, Try, needs, sentence_when_stopped,
};
use crate::mail::QueueId;
use crate::queue::{Clock, Queue, QueueError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};

pub(super) enum Source {
    Daemon(Client),
    Directory {
        queue: Arc<dyn Queue>,
        clock: Clock,
    },
    /// The relay has not been started yet, or its queue is elsewhere. It is made by the relay, as the relay's user.
    Nowhere(PathBuf),
}

impl From<QueueError> for Failure {
    fn from(e: QueueError) -> Self {
        Self::new(
            exit::TRY_LATER,
            e.to_string(),
            "see whether the disk is full, or the directory another user's",
        )
    }
}

fn no_such_message(id: QueueId) -> Failure {
    let hint = "it may have been delivered and forgotten; see: mailferry queue list";
    Failure::new(exit::NO_INPUT, format!("no such message: {id}"), hint)
}

fn write_failed(e: &io::Error) -> Failure {
    Failure::new(exit::IO, format!("cannot write: {e}"), "see whether the disk is full")
}

fn no_queue(directory: &Path) -> Failure {
    let what = format!("mailferry is not running, and there is no queue in {}", directory.display());
    Failure::new(exit::UNAVAILABLE, what, "start it with: systemctl start mailferry")
}

impl Source {
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.status().await?),
            Self::Directory { queue, .. } => {
                let queue = QueueStatus::of(&queue.totals().await?);
                Ok(Self::stopped(sentence_when_stopped(&queue), queue))
            }
            Self::Nowhere(directory) => {
                Ok(Self::stopped(no_queue(directory).message, QueueStatus::default()))
            }
        }
    }

    fn stopped(sentence: String, queue: QueueStatus) -> Status {
        Status {
            running: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: None,
            is_sandbox: false,
            sentence,
            needs_human: needs(&[], &[], &queue),
            accounts: vec![],
            clients: vec![],
            queue,
            counters: BTreeMap::new(),
        }
    }

    pub(super) async fn list(&self, select: &Select) -> Result<Vec<Message>, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.list(select).await?),
            Self::Directory { queue, .. } => {
                let filter = select.filter().map_err(|e| Failure::new(exit::USAGE, e, ""))?;
                Ok(queue.list(filter).await?.iter().map(|m| Message::of(m, None)).collect())
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    pub(super) async fn show(&self, id: QueueId) -> Result<Shown, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.show(id).await?),
            Self::Directory { queue, .. } => {
                let (message, attempts) = queue.show(id).await?.ok_or_else(|| no_such_message(id))?;
                let tries = attempts.into_iter().map(Try::from).collect();
                Ok(Shown { message: Message::of(&message, None), tries })
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    pub(super) async fn change(&self, request: &ChangeRequest) -> Result<Changed, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.change(request).await?),
            Self::Directory { queue, clock } => {
                let filter = request.select.filter().map_err(|e| Failure::new(exit::USAGE, e, ""))?;
                Ok(Changed { ids: queue.change(filter, request.action.into(), clock.now()).await? })
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    /// Writes head and content.
    pub(super) async fn body(&self, id: QueueId, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => Ok(client.body(id, to).await?),
            Self::Directory { queue, .. } => {
                let body = queue.body(id).await?.ok_or_else(|| no_such_message(id))?;
                let unreadable = |e: io::Error| {
                    Failure::new(
                        exit::IO,
                        format!("the content of {id} is unreadable: {e}"),
                        "see the disk's health",
                    )
                };
                to.write_all(body.head()).await.map_err(|e| write_failed(&e))?;
                let mut reader = body.open().await.map_err(unreadable)?;
                while let Some(chunk) = reader.chunk().await.map_err(unreadable)? {
                    to.write_all(&chunk).await.map_err(|e| write_failed(&e))?;
                }
                to.flush().await.map_err(|e| write_failed(&e))
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    pub(super) async fn close(&self) {
        if let Self::Directory { queue, .. } = self {
            queue.close().await;
        }
    }
}
