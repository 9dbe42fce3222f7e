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
/// Messages that an earlier run was handing over when it ended.
pub static HAND_OVERS_INTERRUPTED: Counter = Counter::new();
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

/// A message is there and its content is not what was written.
pub fn content_damaged(id: QueueId) {
    CONTENTS_MISSING.add(1);
    tracing::error!(event = "queue_content_damaged", %id, "the content of a message is damaged on the disk");
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

/// The tables are of this version now.
pub fn upgraded(from: usize, to: usize) {
    tracing::warn!(
        event = "queue_upgraded",
        from,
        to,
        "the queue was upgraded from version {from} to {to}: an earlier mailferry cannot read it any more"
    );
}

/// What a crash left could not be looked for.
pub fn tidying_failed(error: &dyn Display) {
    tracing::warn!(event = "queue_tidying_failed", %error, "what a crash may have left was not looked for");
}

/// A whole content that no message names.
pub fn unclaimed(id: QueueId, directory: &Path) {
    tracing::error!(event = "queue_content_unclaimed", %id, directory = %directory.display(),
        "the content of {id} has no message and was moved to {}; hint: it is mail that a crash cut off or a disk lost, and its head says for whom it was; remove it when you have looked",
        directory.display());
}

/// Somebody else's reading keeps the log from beginning anew.
pub fn log_kept(size_bytes: u64) {
    tracing::error!(
        event = "queue_log_kept",
        size_bytes,
        "new mail is refused: another program has queue.db open, so the queue's log cannot be emptied; hint: see which with: fuser -v queue.db"
    );
}

/// The smart host's word is known and its row could not be written: it is kept in a file beside.
pub fn settled_beside(id: QueueId, error: &dyn Display) {
    tracing::error!(event = "queue_settled_beside", %id, %error,
        "what became of {id} could not be written into its row and is kept in settled/; it is not sent again");
}

/// The same, once the row could be written.
pub fn settled_after_all(id: QueueId) {
    tracing::info!(event = "queue_settled_after_all", %id, "what became of {id} is in its row now");
}

/// An outcome for a message that is not in the queue any more.
pub fn settled_without_row(id: QueueId) {
    tracing::error!(event = "queue_settled_without_row", %id,
        "{id} was sent and is not in the queue any more; hint: another program changed queue.db, or the disk did");
}

/// The database is damaged and will be replaced by what can be read of it.
pub fn damage_found(kept: &Path) {
    tracing::error!(event = "queue_damaged", kept = %kept.display(),
        "the queue's database is damaged: a new one is made of what can be read, the old one is kept in {}",
        kept.display());
}

/// A message of the damaged database is not in the new one.
pub fn message_lost(id: QueueId, kept: &Path) {
    ROWS_UNREADABLE.add(1);
    tracing::error!(event = "queue_message_lost", %id, kept = %kept.display(),
        "the message {id} cannot be read any more; hint: what is left of it is in {} and in unclaimed/, and the \
         log of its day says from which device it came", kept.display());
}

/// The new database is in place.
pub fn rebuilt(messages: u64, lost: usize, unreadable_pages: usize, kept: &Path) {
    tracing::error!(event = "queue_rebuilt", messages, lost, unreadable_pages, kept = %kept.display(),
        "the queue goes on with a new database: {messages} messages kept, {lost} lost; hint: check the disk's health, \
         and remove {} when you have looked", kept.display());
}

/// The indexes were made again from their tables.
pub fn reindexed() {
    tracing::error!(
        event = "queue_reindexed",
        "the queue's database is damaged, and there is no room for a new one: its indexes were made again; hint: free \
         space, and check the disk's health"
    );
}

/// No new database could be made; what works goes on.
pub fn rebuild_failed(error: &dyn Display) {
    tracing::error!(event = "queue_rebuild_failed", %error,
        "no new database could be made of the damaged one; what can be read goes on");
}

/// The run before ended between the smart host's answer, or the wait for it, and its record.
pub fn hand_over_interrupted(id: QueueId) {
    HAND_OVERS_INTERRUPTED.add(1);
    tracing::warn!(event = "hand_over_interrupted", %id,
        "{id} was being handed over when mailferry ended: the smart host may have it, and it may arrive twice");
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
