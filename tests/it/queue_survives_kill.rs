//! The promise itself: whatever was acknowledged before a SIGKILL is there after it.

use crate::support::own_process;
use crate::support::queue::{open, scan};
use mailferry::mail::QueueId;
use mailferry::queue::{Filter, Listing, Queue};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

/// Commits small and large messages from four tasks for ever, and says each id only after its `Stored`.
async fn commit_for_ever(queue: Queue) {
    let task = |n: usize| {
        let queue = queue.clone();
        async move {
            for len in (0..).map(|i| if (i + n).is_multiple_of(3) { 150_000 } else { 2_000 }) {
                let mut draft = queue.intake.draft(0).unwrap();
                draft.write(&vec![7; len]).await.unwrap();
                let scan = scan(draft.id());
                let stored = queue.intake.commit(draft, vec![scan]).await.unwrap();
                let line = format!("stored {} {len}\n", stored[0].id());
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        }
    };
    futures_util::future::join_all((0..4).map(task)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    if let Some(directory) = own_process::told() {
        return commit_for_ever(open(Path::new(&directory)).await).await;
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(QueueId, u64)> = Vec::new();
    for round in 1..=5 {
        let test = "queue_survives_kill::what_was_acknowledged_before_a_kill_is_there_after_it";
        let mut child =
            own_process::command(test, tmp.path().to_str().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let parse = |line: String| {
            let mut words = line.strip_prefix("stored ")?.split(' ');
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        acknowledged.extend(lines.by_ref().filter_map(parse).take(round * 40));
        child.kill().unwrap();
        // What it said between the last line read and the kill counts, too; a line may be cut.
        acknowledged.extend(lines.filter(|l| l.split(' ').count() == 3).filter_map(parse));
        child.wait().unwrap();

        let queue = open(tmp.path()).await;
        let mut listing = Listing::new(Arc::clone(&queue.ledger), Filter::default());
        let mut listed = vec![];
        while let Some(page) = listing.next().await {
            listed.append(&mut page.unwrap().messages);
        }
        assert!(listed.len() >= acknowledged.len());
        for (id, len) in &acknowledged {
            let body =
                queue.ledger.body(*id).await.unwrap().unwrap_or_else(|| panic!("{id} was acknowledged"));
            assert_eq!(body.content_len(), *len);
            body.open().await.unwrap();
        }
        queue.health.close().await;
        let large = listed.iter().filter(|m| m.size_bytes > 65_538).count();
        let files = std::fs::read_dir(tmp.path().join("bodies")).unwrap().count();
        assert_eq!(files, large, "interrupted drafts are removed at the start");
    }
}
