//! The real queue in a directory of its own, with an eye on what the receiver commits to it.

use futures_util::future::FutureExt;
use mailferry::mail::QueueId;
use mailferry::queue::{Done, Draft, Ids, Intake, NewMessage, Queue, QueueError, Stored};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

pub struct WatchedQueue {
    /// As it is handed to the receiver.
    pub watched: Queue,
    /// What was committed, message by message.
    pub intakes: Arc<Mutex<Vec<Vec<NewMessage>>>>,
    _directory: tempfile::TempDir,
}

impl WatchedQueue {
    pub async fn new() -> Self {
        Self::watching(None).await
    }

    /// Each answer to a commit waits for a permit of this.
    pub async fn gated(gate: &Arc<Semaphore>) -> Self {
        Self::watching(Some(Arc::clone(gate))).await
    }

    async fn watching(gate: Option<Arc<Semaphore>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let real = super::queue::open(directory.path()).await;
        let intakes = Arc::default();
        let eye = Eye { intake: Arc::clone(&real.intake), intakes: Arc::clone(&intakes), gate };
        Self { watched: Queue { intake: Arc::new(eye), ..real }, intakes, _directory: directory }
    }

    pub fn len(&self) -> usize {
        self.intakes.lock().unwrap().len()
    }

    pub fn last(&self) -> Vec<NewMessage> {
        self.intakes.lock().unwrap().last().unwrap().clone()
    }

    /// The content as it would be sent.
    pub async fn content(&self, id: QueueId) -> Vec<u8> {
        let body = self.watched.ledger.body(id).await.unwrap().expect("it is queued");
        let mut reader = body.open().await.unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = reader.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    }
}

struct Eye {
    intake: Arc<dyn Intake>,
    intakes: Arc<Mutex<Vec<Vec<NewMessage>>>>,
    gate: Option<Arc<Semaphore>>,
}

impl Ids for Eye {
    fn next_id(&self) -> QueueId {
        self.intake.next_id()
    }
}

impl Intake for Eye {
    fn draft(&self, expected_bytes: u64) -> Result<Draft, QueueError> {
        self.intake.draft(expected_bytes)
    }

    fn commit(&self, draft: Draft, messages: Vec<NewMessage>) -> Done<Vec<Stored>> {
        let (seen, gate) = (Arc::clone(&self.intakes), self.gate.clone());
        let commit = self.intake.commit(draft, messages.clone());
        async move {
            let stored = commit.await?;
            seen.lock().unwrap().push(messages);
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            Ok(stored)
        }
        .boxed()
    }
}
