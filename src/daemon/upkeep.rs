//! What ends by age: history that is forgotten, and dead letters where the admin has set an end.
//!
//! Invariant: ages go by the relay's clock. A dead letter goes only after its end was told ahead, when its content
//! could be read, and with its envelope and the digest of its content in the log. Must not know: how the queue
//! stores, how long anything is kept by default.

use crate::control::report::Ending;
use crate::events;
use crate::mail::{QueueId, RelayTime, State, WallTime};
use crate::queue::{Body, Change, Clock, Filter, KeepDead, Queue, QueueError};
use aws_lc_rs::digest::{Context, SHA256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two rounds; a shorter `keep_dead` has shorter ones.
const EVERY: Duration = Duration::from_secs(3600);
const AT_LEAST: Duration = Duration::from_secs(1);
/// As long as dead letters are about to end, that is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(86_400);

/// How long what is finished is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) history: Duration,
    /// None: for ever.
    pub(super) dead: Option<Duration>,
}

/// Works until `stop` resolves.
pub(super) async fn run(
    queue: Arc<dyn Queue>,
    clock: Clock,
    mut keep: watch::Receiver<Keep>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut told_at = None;
    loop {
        let kept = *keep.borrow_and_update();
        tokio::select! {
            done = round(queue.as_ref(), clock.now(), kept, &mut told_at) => {
                if let Err(error) = done {
                    events::daemon::prune_failed(&error.to_string());
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
    queue: &dyn Queue,
    now: RelayTime,
    keep: Keep,
    told_at: &mut Option<RelayTime>,
) -> Result<(), QueueError> {
    let dead = KeepDead::set(queue, keep.dead, now).await?;
    let history_ms = i64::try_from(keep.history.as_millis()).unwrap_or(i64::MAX);
    let forgotten = queue.prune(RelayTime::from_ms(now.as_ms().saturating_sub(history_ms))).await?;
    if forgotten > 0 {
        events::daemon::history_forgotten(forgotten);
    }
    if let Some(before) = dead.and_then(|dead| dead.ended(now)) {
        end_dead_letters(queue, before, now).await?;
    }
    let is_new = told_at.is_none_or(|at| now.since(at) >= TOLD_EVERY);
    match Ending::look(queue, now, WallTime::now()).await? {
        Some(ending) if is_new => {
            events::daemon::dead_letters_end(ending.messages, ending.and_more, ending.first);
            *told_at = Some(now);
        }
        Some(_) => {}
        // The next one that comes near is told at once.
        None => *told_at = None,
    }
    Ok(())
}

async fn end_dead_letters(queue: &dyn Queue, before: RelayTime, now: RelayTime) -> Result<(), QueueError> {
    let (mut removed, mut kept, mut after) = (0, 0, None);
    loop {
        let page = queue.finished(State::Dead, before, after).await?;
        let Some(last) = page.last().copied() else { break };
        for dead in page {
            if end(queue, dead.id, now).await? {
                removed += 1;
            } else {
                kept += 1;
            }
        }
        after = Some(last);
    }
    if removed > 0 || kept > 0 {
        events::daemon::dead_letters_ended(removed, kept);
    }
    Ok(())
}

/// Removes one; false: it stays, as it cannot be read, or somebody is at it.
async fn end(queue: &dyn Queue, id: QueueId, now: RelayTime) -> Result<bool, QueueError> {
    let message = match queue.show(id).await {
        Ok(Some((message, _))) if message.state == State::Dead => message,
        Ok(_) => return Ok(false),
        Err(QueueError::Closed) => return Err(QueueError::Closed),
        Err(why) => {
            events::queue::row_unreadable(id, &why);
            return Ok(false);
        }
    };
    let digest = match queue.body(id).await? {
        Some(body) => sha256(&body).await,
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    let digest = match digest {
        Ok(digest) => digest,
        Err(error) => {
            events::queue::content_missing(id, &error);
            return Ok(false);
        }
    };
    // Before it goes, so that no crash makes of it a removal that nobody was told of.
    events::daemon::dead_letter_ends(&message, &digest);
    let filter = Filter { ids: vec![id], state: Some(State::Dead), ..Filter::default() };
    let is_removed = !queue.change(filter, Change::Remove, now, None).await?.changed.is_empty();
    if !is_removed {
        events::daemon::dead_letter_stays(id);
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
