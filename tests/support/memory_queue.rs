//! A queue that forgets, for tests of the receiver: it takes drafts and keeps what was committed in memory.

use futures_util::future::{BoxFuture, FutureExt, ready};
use mailferry::mail::{AccountId, Attempt, QueueId, QueuedMessage, RelayTime, WallTime};
use mailferry::queue::{
    Body, Change, Done, Draft, Filter, Intake, Lease, Next, Notice, Queue, QueueError, Settlement, Stored,
    Total,
};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What was committed: every intake with the content they share.
#[derive(Default)]
pub struct MemoryQueue {
    pub ids: AtomicI64,
    pub messages: Mutex<Vec<(Vec<Intake>, Vec<u8>)>>,
    /// Each commit waits for a permit of this, when there is one.
    pub gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl MemoryQueue {
    pub fn len(&self) -> usize {
        self.messages.lock().unwrap().len()
    }
}

fn not_here<T>() -> Result<T, QueueError> {
    Err(QueueError::Broken("the receiver does not ask for this".into()))
}

impl Queue for MemoryQueue {
    fn draft(&self, _expected_bytes: u64) -> Result<Draft, QueueError> {
        Ok(Draft::by_backend(self.next_id()))
    }

    fn next_id(&self) -> QueueId {
        QueueId::from_number(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn commit(&self, draft: Draft, intakes: Vec<Intake>) -> Done<Vec<Stored>> {
        // What a real one does on its own thread: the message is in even if nobody waits for the answer.
        let stored = intakes.iter().map(|i| Stored::by_backend(i.id)).collect();
        self.messages.lock().unwrap().push((intakes, draft.into_memory()));
        let gate = self.gate.clone();
        async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            Ok(stored)
        }
        .boxed()
    }

    fn post(&self, _: Vec<Notice>) -> Done<Vec<Stored>> {
        ready(not_here()).boxed()
    }

    fn lease(&self, _: &AccountId, _: RelayTime, _: Vec<QueueId>) -> Done<Next> {
        ready(not_here()).boxed()
    }

    fn settle(
        &self,
        lease: Box<Lease>,
        _: Settlement,
    ) -> BoxFuture<'static, Result<(), (Box<Lease>, QueueError)>> {
        ready(not_here().map_err(|e| (lease, e))).boxed()
    }

    fn arrivals(&self, _: &AccountId) -> Arc<Notify> {
        Arc::default()
    }

    fn list(&self, _: Filter) -> Done<Vec<QueuedMessage>> {
        ready(not_here()).boxed()
    }

    fn show(&self, _: QueueId) -> Done<Option<(QueuedMessage, Vec<Attempt>)>> {
        ready(not_here()).boxed()
    }

    fn body(&self, _: QueueId) -> Done<Option<Body>> {
        ready(not_here()).boxed()
    }

    fn change(&self, _: Filter, _: Change, _: RelayTime) -> Done<Vec<QueueId>> {
        ready(not_here()).boxed()
    }

    fn totals(&self) -> Done<Vec<Total>> {
        ready(not_here()).boxed()
    }

    fn delivered_since(&self, _: &AccountId, _: RelayTime) -> Done<Vec<(RelayTime, u32)>> {
        ready(not_here()).boxed()
    }

    fn note(&self, _: &str) -> Done<Option<String>> {
        ready(not_here()).boxed()
    }

    fn set_note(&self, _: &str, _: Option<String>) -> Done<()> {
        ready(not_here()).boxed()
    }

    fn prune(&self, _: WallTime, _: WallTime) -> Done<(u64, u64)> {
        ready(not_here()).boxed()
    }

    fn free_bytes(&self) -> u64 {
        u64::MAX
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        std::future::pending().boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}
