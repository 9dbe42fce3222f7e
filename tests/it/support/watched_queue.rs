//! The real queue in a directory of its own, with an eye on what the receiver commits to it.

use futures_util::future::{BoxFuture, FutureExt};
use mailferry::fact::Witness;
use mailferry::mail::{AccountId, Attempt, QueueId, QueuedMessage, RelayTime, State};
use mailferry::queue::sqlite::SqliteQueue;
use mailferry::queue::{
    Body, Change, ChangeStep, Clock, Done, Draft, Filter, Finished, Intake, Lease, Next, Notice, Page, Queue,
    QueueError, Settings, Settlement, Stored, Total,
};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore};

pub struct WatchedQueue {
    pub real: Arc<SqliteQueue>,
    pub clock: Clock,
    /// What was committed, intake by intake.
    pub intakes: Arc<Mutex<Vec<Vec<Intake>>>>,
    /// Each answer to a commit waits for a permit of this, when there is one.
    pub gate: Option<Arc<Semaphore>>,
    _directory: tempfile::TempDir,
}

impl Default for WatchedQueue {
    fn default() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { directory: directory.path().join("queue"), min_free_space_bytes: 0 };
        let (real, clock) = SqliteQueue::open(&settings, Witness::nobody()).unwrap();
        Self { real, clock, intakes: Arc::default(), gate: None, _directory: directory }
    }
}

impl WatchedQueue {
    pub fn gated(gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.intakes.lock().unwrap().len()
    }

    pub fn last(&self) -> Vec<Intake> {
        self.intakes.lock().unwrap().last().unwrap().clone()
    }

    /// The content as it would be sent.
    pub async fn content(&self, id: QueueId) -> Vec<u8> {
        let body = self.real.body(id).await.unwrap().expect("it is queued");
        let mut reader = body.open().await.unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = reader.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    }
}

impl Queue for WatchedQueue {
    fn commit(&self, draft: Draft, intakes: Vec<Intake>) -> Done<Vec<Stored>> {
        let (seen, gate) = (Arc::clone(&self.intakes), self.gate.clone());
        let commit = self.real.commit(draft, intakes.clone());
        async move {
            let stored = commit.await?;
            seen.lock().unwrap().push(intakes);
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            Ok(stored)
        }
        .boxed()
    }

    fn draft(&self, expected_bytes: u64) -> Result<Draft, QueueError> {
        self.real.draft(expected_bytes)
    }
    fn next_id(&self) -> QueueId {
        self.real.next_id()
    }
    fn post(&self, notices: Vec<Notice>) -> Done<Vec<Stored>> {
        self.real.post(notices)
    }
    fn lease(&self, account: &AccountId, now: RelayTime, except: Vec<QueueId>) -> Done<Next> {
        self.real.lease(account, now, except)
    }
    fn settle(
        &self,
        lease: Box<Lease>,
        s: Settlement,
    ) -> BoxFuture<'static, Result<(), (Box<Lease>, QueueError)>> {
        self.real.settle(lease, s)
    }
    fn arrivals(&self, account: &AccountId) -> Arc<Notify> {
        self.real.arrivals(account)
    }
    fn list(&self, filter: Filter, after: Option<QueueId>) -> Done<Page> {
        self.real.list(filter, after)
    }
    fn show(&self, id: QueueId) -> Done<Option<(QueuedMessage, Vec<Attempt>)>> {
        self.real.show(id)
    }
    fn body(&self, id: QueueId) -> Done<Option<Body>> {
        self.real.body(id)
    }
    fn change(
        &self,
        filter: Filter,
        change: Change,
        now: RelayTime,
        after: Option<QueueId>,
    ) -> Done<ChangeStep> {
        self.real.change(filter, change, now, after)
    }
    fn totals(&self) -> Done<Vec<Total>> {
        self.real.totals()
    }
    fn delivered_since(&self, account: &AccountId, since: RelayTime) -> Done<Vec<(RelayTime, u32)>> {
        self.real.delivered_since(account, since)
    }
    fn note(&self, name: &str) -> Done<Option<String>> {
        self.real.note(name)
    }
    fn set_note(&self, name: &str, value: Option<String>) -> Done<()> {
        self.real.set_note(name, value)
    }
    fn finished(&self, state: State, before: RelayTime, after: Option<Finished>) -> Done<Vec<Finished>> {
        self.real.finished(state, before, after)
    }
    fn prune(&self, delivered_before: RelayTime) -> Done<u64> {
        self.real.prune(delivered_before)
    }
    fn free_bytes(&self) -> u64 {
        self.real.free_bytes()
    }
    fn failed(&self) -> BoxFuture<'static, String> {
        self.real.failed()
    }
    fn close(&self) -> BoxFuture<'static, ()> {
        self.real.close()
    }
}
