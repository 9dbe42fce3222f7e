//! What the queue can take: commits one at a time and fifty at once, large contents, and lease with settle.

#![allow(clippy::disallowed_methods, reason = "it measures")]
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailferry::fact::Witness;
use mailferry::mail::{
    AccountId, ClientName, Envelope, Progress, Recipient, RelayTime, Reply, ReversePath, WallTime,
};
use mailferry::queue::{self, Destination, NewMessage, Next, Owned, Queue, Settings, Settlement};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

fn account() -> AccountId {
    AccountId::new("scanner@contoso.com")
}

async fn commit(queue: &Queue, content: &[u8]) {
    let mut draft = queue.intake.draft(0).expect("room");
    for chunk in content.chunks(64 * 1024) {
        draft.write(chunk).await.expect("room");
    }
    let envelope = Envelope {
        reverse_path: ReversePath::Null,
        recipients: vec!["anna@contoso.com".parse().expect("an address")],
        client: ClientName::new("printers"),
        peer: None,
    };
    let intake = NewMessage {
        id: draft.id(),
        account: account(),
        envelope,
        head: vec![b'h'; 500],
        charset: None,
        received_at: WallTime::now(),
        now: RelayTime::default(),
    };
    queue.intake.commit(draft, vec![intake]).await.expect("room");
}

async fn deliver(queue: &Queue, owned: &Owned) {
    let Next::Message(lease) =
        queue.outbox.lease(owned, RelayTime::default(), vec![]).await.expect("readable")
    else {
        unreachable!("as many were committed");
    };
    let delivered = |r: &Recipient| Recipient {
        progress: Progress::Delivered(Reply::new(250, "2.0.0 OK")),
        ..Recipient::pending(r.mailbox.clone())
    };
    let settlement = Settlement {
        now: RelayTime::default(),
        recipients: lease.message.recipients.iter().map(delivered).collect(),
        attempts: 1,
        to: Destination::Delivered,
        attempt: None,
        outcome_unknown: false,
        notices: vec![],
    };
    queue.outbox.settle(lease, settlement).await.expect("room");
}

/// `count` commits by `tasks` tasks.
fn commits(runtime: &Runtime, queue: &Queue, count: u64, tasks: u64, content: &Arc<Vec<u8>>) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let each = |n: u64| {
            let (queue, content) = (queue.clone(), Arc::clone(content));
            async move {
                for _ in 0..n {
                    commit(&queue, &content).await;
                }
            }
        };
        let running: Vec<_> =
            (0..tasks).map(|t| tokio::spawn(each(count / tasks + u64::from(t < count % tasks)))).collect();
        for task in running {
            task.await.expect("no panic");
        }
        start.elapsed()
    })
}

fn queue(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let settings = Settings { directory: directory.path().join("queue"), min_free_space_bytes: 0 };
    let queue = runtime.block_on(queue::open(&settings, Witness::nobody())).expect("a new queue");
    let mut group = c.benchmark_group("queue");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).throughput(Throughput::Elements(1));
    let small = Arc::new(vec![b'x'; 4096]);
    for tasks in [1, 50] {
        group.bench_function(format!("commit 4 KiB, {tasks} at once"), |b| {
            b.iter_custom(|n| commits(&runtime, &queue, n, tasks, &small));
        });
    }
    group.bench_function("lease and settle", |b| {
        b.iter_custom(|n| {
            commits(&runtime, &queue, n, 50, &small);
            let start = Instant::now();
            runtime.block_on(async {
                let owned = queue.ownership.own(&account()).await.expect("open");
                for _ in 0..n {
                    deliver(&queue, &owned).await;
                }
            });
            start.elapsed()
        });
    });
    let large = Arc::new(vec![b'x'; 5 << 20]);
    group.throughput(Throughput::Bytes(5 << 20));
    for tasks in [1, 4] {
        group.bench_function(format!("commit 5 MiB, {tasks} at once"), |b| {
            b.iter_custom(|n| commits(&runtime, &queue, n, tasks, &large));
        });
    }
    group.finish();
    runtime.block_on(queue.health.close());
}

criterion_group!(benches, queue);
criterion_main!(benches);
