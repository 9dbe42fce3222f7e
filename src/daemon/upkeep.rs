//! What ends by age: history that is forgotten, and dead letters where the admin has set an end.
//!
//! Invariant: ages go by the relay's clock. A dead letter goes only after its end was told ahead, when its content
//! could be read, and with its envelope and the digest of its content in the log. Must not know: how the queue
//! stores, how long anything is kept by default.

use crate::control::report::Ending;
use crate::fact::daemon::Fact;
use crate::fact::{Witness, queue};
use crate::mail::{QueueId, RelayTime, State, WallTime};
use crate::queue::{Body, Change, Filter, Keep, KeepDead, Ledger, Queue, QueueError};
use aws_lc_rs::digest::{Context, SHA256};
use std::time::Duration;
use tokio::sync::watch;

/// Between two rounds; a shorter `keep_dead` has shorter ones.
const EVERY: Duration = Duration::from_secs(3600);
const AT_LEAST: Duration = Duration::from_secs(1);
/// As long as dead letters are about to end, that is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(86_400);

/// Works until `stop` resolves.
pub(super) async fn run(
    queue: Queue,
    mut keep: watch::Receiver<Keep>,
    witness: Witness,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut told_at = None;
    loop {
        let kept = *keep.borrow_and_update();
        tokio::select! {
            done = round(&queue, queue.clock.now(), kept, &witness, &mut told_at) => {
                if let Err(error) = done {
                    witness.tell(Fact::PruneFailed { why: error.to_string() });
                }
            }
            () = &mut stop => return,
        }
        tokio::select! {
            () = tokio::time::sleep(kept.dead.unwrap_or(EVERY).clamp(AT_LEAST, EVERY)) => {}
            // Whoever sets them is gone only after this.
            Ok(()) = keep.changed() => {}
            () = &mut stop => return,
        }
    }
}

async fn round(
    queue: &Queue,
    now: RelayTime,
    keep: Keep,
    witness: &Witness,
    told_at: &mut Option<RelayTime>,
) -> Result<(), QueueError> {
    let dead = KeepDead::set(queue.notes.as_ref(), keep.dead, now).await?;
    let history_ms = i64::try_from(keep.history.as_millis()).unwrap_or(i64::MAX);
    let forgotten = queue.ledger.prune(RelayTime::from_ms(now.as_ms().saturating_sub(history_ms))).await?;
    if forgotten > 0 {
        witness.tell(Fact::HistoryForgotten { delivered: forgotten });
    }
    if let Some(before) = dead.and_then(|dead| dead.ended(now)) {
        end_dead_letters(queue.ledger.as_ref(), before, now, witness).await?;
    }
    let is_new = told_at.is_none_or(|at| now.since(at) >= TOLD_EVERY);
    match Ending::look(queue.ledger.as_ref(), queue.notes.as_ref(), now, WallTime::now()).await? {
        Some(ending) if is_new => {
            let Ending { messages: count, and_more, first, .. } = ending;
            witness.tell(Fact::DeadLettersEnd { count, and_more, first });
            *told_at = Some(now);
        }
        Some(_) => {}
        // The next one that comes near is told at once.
        None => *told_at = None,
    }
    Ok(())
}

async fn end_dead_letters(
    ledger: &dyn Ledger,
    before: RelayTime,
    now: RelayTime,
    witness: &Witness,
) -> Result<(), QueueError> {
    let (mut removed, mut kept, mut after) = (0, 0, None);
    loop {
        let page = ledger.finished(State::Dead, before, after).await?;
        let Some(last) = page.last().copied() else { break };
        for dead in page {
            if end(ledger, dead.id, now, witness).await? {
                removed += 1;
            } else {
                kept += 1;
            }
        }
        after = Some(last);
    }
    if removed > 0 || kept > 0 {
        witness.tell(Fact::DeadLettersEnded { removed, kept });
    }
    Ok(())
}

/// Removes one; false: it stays, as it cannot be read, or somebody is at it.
async fn end(
    ledger: &dyn Ledger,
    id: QueueId,
    now: RelayTime,
    witness: &Witness,
) -> Result<bool, QueueError> {
    let message = match ledger.show(id).await {
        Ok(Some((message, _))) if message.state == State::Dead => message,
        Ok(_) => return Ok(false),
        Err(QueueError::Closed) => return Err(QueueError::Closed),
        Err(why) => {
            witness.tell(queue::Fact::RowUnreadable { id, error: why.to_string() });
            return Ok(false);
        }
    };
    let digest = match ledger.body(id).await? {
        Some(body) => sha256(&body).await,
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    let digest = match digest {
        Ok(digest) => digest,
        Err(error) => {
            witness.tell(queue::Fact::ContentMissing { id, error: error.to_string() });
            return Ok(false);
        }
    };
    // Before it goes, so that no crash makes of it a removal that nobody was told of.
    witness.tell(Fact::DeadLetterEnds { message: Box::new(message), sha256: digest });
    let filter = Filter { ids: vec![id], state: Some(State::Dead), ..Filter::default() };
    let is_removed = !ledger.change(filter, Change::Remove, now, None).await?.changed.is_empty();
    if !is_removed {
        witness.tell(Fact::DeadLetterStays { id });
    }
    Ok(is_removed)
}

/// Of head and content, in hexadecimal: what `sha256sum` says of an exported `.eml`.
async fn sha256(body: &Body) -> std::io::Result<String> {
    let mut context = Context::new(&SHA256);
    context.update(body.head());
    let mut reader = body.open().await?;
    while let Some(chunk) = reader.chunk().await? {
        context.update(&chunk);
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{AccountId, Progress, Recipient, Reply};
    use crate::queue::fixture::{open, scan};
    use crate::queue::{Destination, Next, Notice, Settlement};

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(n: u32) -> RelayTime {
        RelayTime::default() + DAY * n
    }

    /// A message that came to an end on this day.
    async fn finish(queue: &Queue, to: Destination, on: u32) -> QueueId {
        let id = queue.intake.next_id();
        let account = AccountId::new("scanner@contoso.com");
        let message = scan(id);
        queue.outbox.post(vec![Notice { message, content: b"abc".to_vec() }]).await.unwrap();
        let owned = queue.ownership.own(&account).await.unwrap();
        let Next::Message(lease) = queue.outbox.lease(&owned, RelayTime::default(), vec![]).await.unwrap()
        else {
            unreachable!("it was stored")
        };
        let progress = Progress::Delivered(Reply::new(250, "OK"));
        let of = |r: &Recipient| Recipient { progress: progress.clone(), ..r.clone() };
        let settlement = Settlement {
            now: day(on),
            recipients: lease.message.recipients.iter().map(of).collect(),
            attempts: 1,
            to,
            attempt: None,
            outcome_unknown: false,
            notices: vec![],
        };
        queue.outbox.settle(lease, settlement).await.map_err(|(_, e)| e).unwrap();
        id
    }

    async fn left(queue: &Queue) -> Vec<QueueId> {
        queue.ledger.list(Filter::default(), None).await.unwrap().messages.iter().map(|m| m.id).collect()
    }

    /// The upkeep of a day; whether dead letters are about to end.
    async fn on(queue: &Queue, n: u32, dead: Option<Duration>) -> bool {
        let mut told_at = None;
        round(queue, day(n), Keep { history: DAY * 30, dead }, &Witness::nobody(), &mut told_at)
            .await
            .unwrap();
        told_at.is_some()
    }

    #[tokio::test]
    async fn history_is_forgotten_in_time_and_dead_letters_are_not() {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path()).await;
        let dead = finish(&queue, Destination::Dead, 0).await;
        let delivered = finish(&queue, Destination::Delivered, 0).await;
        assert!(!on(&queue, 30, None).await);
        assert_eq!(left(&queue).await, [dead, delivered]);
        assert!(!on(&queue, 10_000, None).await);
        assert_eq!(left(&queue).await, [dead]);
    }

    #[tokio::test]
    async fn a_dead_letter_ends_only_where_it_was_set_and_after_it_was_told() {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path()).await;
        let ids = [finish(&queue, Destination::Dead, 0).await, finish(&queue, Destination::Dead, 20).await];
        let keep = Some(DAY * 30);
        for (now, is_told, expected) in [
            (1, false, &ids[..]),
            (22, false, &ids[..]),
            (23, true, &ids[..]),
            (29, true, &ids[..]),
            (30, false, &ids[1..]),
            (43, true, &ids[1..]),
            (50, false, &[]),
        ] {
            assert_eq!(on(&queue, now, keep).await, is_told, "day {now}");
            assert_eq!(left(&queue).await, expected, "day {now}");
        }
    }

    #[tokio::test]
    async fn an_end_that_is_set_anew_leaves_old_dead_letters_a_week() {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path()).await;
        let dead = finish(&queue, Destination::Dead, 0).await;
        assert!(!on(&queue, 400, None).await);
        assert!(on(&queue, 401, Some(DAY * 30)).await, "told at once");
        // Shorter again, and the week begins anew; a restart does not know less.
        queue.health.close().await;
        let queue = open(tmp.path()).await;
        assert!(on(&queue, 407, Some(DAY * 20)).await);
        assert!(on(&queue, 413, Some(DAY * 20)).await);
        assert_eq!(left(&queue).await, [dead]);
        assert!(!on(&queue, 414, Some(DAY * 20)).await);
        assert_eq!(left(&queue).await, []);
    }

    #[tokio::test]
    async fn a_dead_letter_that_cannot_be_read_stays_and_holds_up_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        let queue = open(tmp.path()).await;
        let mut ids = vec![];
        for _ in 0..3 {
            ids.push(finish(&queue, Destination::Dead, 0).await);
        }
        let conn = rusqlite::Connection::open(tmp.path().join("queue.db")).unwrap();
        conn.execute("UPDATE message SET recipients = '[{' WHERE id = ?1", [ids[0].number()]).unwrap();
        conn.execute("DELETE FROM body WHERE id = ?1", [ids[1].number()]).unwrap();
        on(&queue, 1, Some(DAY)).await;
        on(&queue, 2, Some(DAY)).await;
        let dead = queue.ledger.finished(State::Dead, day(9), None).await.unwrap();
        assert_eq!(dead.iter().map(|d| d.id).collect::<Vec<_>>(), ids[..2]);
    }

    #[tokio::test]
    async fn the_digest_is_that_of_the_exported_message() {
        let body = Body::in_memory(b"Subject: scan\r\n\r\n".to_vec(), b"abc".to_vec());
        let expected = "d53d5feff1d30941bd339bf7538329199b26d181228e35ed0c563bd9480c66e7";
        assert_eq!(sha256(&body).await.unwrap(), expected);
    }
}
