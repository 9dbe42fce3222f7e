//! Facts of `queue`.

use super::Counter;
use crate::mail::QueueId;
use std::fmt::Display;
use std::path::Path;

/// Transactions made durable.
pub static TRANSACTIONS: Counter = Counter::new();
/// Transactions that failed and were rolled back.
pub static TRANSACTIONS_FAILED: Counter = Counter::new();
/// Syncs of contents the disk did not confirm.
pub static SYNCS_FAILED: Counter = Counter::new();
/// Messages found without their content: each one is mail lost by the disk.
pub static CONTENTS_MISSING: Counter = Counter::new();
/// Rows that could not be read: each one is mail damaged by the disk.
pub static ROWS_UNREADABLE: Counter = Counter::new();
/// Contents without a message, removed at a start.
pub static ORPHANS_REMOVED: Counter = Counter::new();

/// The queue is open.
pub fn opened(directory: &Path) {
    tracing::info!(event = "queue_opened", directory = %directory.display(), "queue opened");
}

/// The queue is closed; everything is on the disk.
pub fn closed() {
    tracing::info!(event = "queue_closed", "queue closed");
}

/// A transaction is durable.
pub fn committed() {
    TRANSACTIONS.add(1);
}

/// A transaction was rolled back; everyone in it was told.
pub fn transaction_failed(error: &dyn Display) {
    TRANSACTIONS_FAILED.add(1);
    tracing::error!(event = "queue_transaction_failed", %error, "the queue could not write");
}

/// The disk did not confirm a content; it was removed and its sender told to try again.
pub fn sync_failed(error: &dyn Display) {
    SYNCS_FAILED.add(1);
    tracing::error!(event = "queue_sync_failed", %error, "the disk did not confirm a content");
}

/// The log could not be copied into the database; it grows until that succeeds.
pub fn checkpoint_failed(error: &dyn Display) {
    tracing::warn!(event = "queue_checkpoint_failed", %error, "the queue's log could not be checkpointed");
}

/// The disk fails so often that going on would be a lie.
pub fn given_up(why: &str) {
    tracing::error!(event = "queue_failed", why, "the queue's disk has failed");
}

/// A message is there and its content is not.
pub fn content_missing(id: QueueId, error: &dyn Display) {
    CONTENTS_MISSING.add(1);
    tracing::error!(event = "queue_content_missing", %id, %error, "the content of a message is missing");
}

/// Contents without a message: deliveries or drafts a crash interrupted.
pub fn orphans_removed(count: u64) {
    ORPHANS_REMOVED.add(count);
    tracing::info!(event = "queue_orphans_removed", count, "removed contents a crash had left behind");
}

/// The disk is full; the reserve for settlements was given up.
pub fn ballast_released(size_bytes: u64) {
    tracing::warn!(event = "queue_ballast_released", size_bytes, "disk full: the queue gave up its reserve");
}

/// A row cannot be read: damage, or a later version's. The message stays in the database, and the others go on.
pub fn row_unreadable(id: QueueId, error: &dyn Display) {
    ROWS_UNREADABLE.add(1);
    tracing::error!(event = "queue_row_unreadable", %id, %error,
        "{id} cannot be read and is passed over; hint: restore the queue from a backup, or keep queue.db for an expert");
}

/// Rows whose time is over cannot be read, and are not thrown away unread.
pub fn unreadable_kept(count: u64) {
    tracing::warn!(
        event = "queue_unreadable_kept",
        count,
        "{count} delivered messages past their time cannot be read and stay; those behind them went"
    );
}

/// An admin's command changed messages. `how` is `held`, `removed` and the like.
pub fn changed(how: &str, count: u64) {
    tracing::info!(event = "queue_changed", how, count, "an admin's command: {count} messages {how}");
}
