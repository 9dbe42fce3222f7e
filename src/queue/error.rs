//! Why the queue did not do what it was asked.
//!
//! Invariant: a variant only where whoever asked does something else. Must not know: what a backend is made of.

use futures_util::future::BoxFuture;

/// Why the queue did not do it. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// Disk, quota, inodes, or below `min_free_space`: the device is told 452 4.3.1 and intake recovers by itself.
    #[error("not enough disk space: {0}")]
    Full(String),
    /// The disk did not confirm a write: 451, and what was written is never trusted again.
    #[error("the queue cannot write: {0}")]
    Broken(String),
    /// What is stored cannot be read or is not what was written: it concerns only what it was asked for.
    #[error("the queue is damaged: {0}")]
    Damaged(String),
    /// The disk does not give back what is stored. It may yet: nothing is wrong with what stands there.
    #[error("the queue cannot be read: {0}")]
    Unreadable(String),
    /// Another host owns the account by now: what this one has of it is no longer its own.
    #[error("the account is another host's by now")]
    Disowned,
    /// Shutting down.
    #[error("the queue is closed")]
    Closed,
}

/// Every future owns what it needs, so that it can outlive the borrow of the queue.
pub type Done<T> = BoxFuture<'static, Result<T, QueueError>>;
