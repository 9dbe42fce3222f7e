//! The way to the writer, and reading beside it.
//!
//! Invariant: nothing here waits on the runtime's threads. Must not know: what is asked.

use super::rebuild::Damage;
use super::shared::lock_of;
use super::transaction::Op;
use crate::queue::error::QueueError;
use std::sync::{Mutex, mpsc};
use tokio::sync::oneshot;

/// The way to the writer; `None` once closed.
pub(super) struct Ops(pub(super) Mutex<Option<mpsc::Sender<Op>>>);

impl Ops {
    /// Gives the operation back when the queue is closed.
    #[expect(clippy::result_large_err, reason = "a settlement comes back whole")]
    pub(super) fn send(&self, op: Op) -> Result<(), Op> {
        match lock_of(&self.0).as_ref() {
            Some(ops) => ops.send(op).map_err(|e| e.0),
            None => Err(op),
        }
    }

    pub(super) async fn ask<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> Op,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.send(op(reply)).map_err(|_| QueueError::Closed)?;
        answer.await.unwrap_or(Err(QueueError::Closed))
    }
}

/// Reads, and once more after damage that was met has been mended; then `attempt` is told so, and passes over what
/// still cannot be read.
pub(super) async fn mending<T, F: Future<Output = Result<T, QueueError>>>(
    ops: &Ops,
    attempt: impl Fn(bool) -> F,
) -> Result<T, QueueError> {
    let first = attempt(false).await;
    let Some(damage) = first.as_ref().err().and_then(Damage::of) else { return first };
    ops.ask(|reply| Op::Mend { damage, reply }).await?;
    attempt(true).await
}

pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, QueueError> + Send + 'static,
) -> Result<T, QueueError> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(QueueError::Broken(e.to_string())))
}
