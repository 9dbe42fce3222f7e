//! Facts of `queue`.

use super::count::{Add, Family, Kind, Value};
use crate::mail::QueueId;
use std::fmt;
use std::path::PathBuf;
use tracing::{error, info, warn};

/// One of them; errors are in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The queue is open.
    Opened {
        /// Where it is.
        directory: PathBuf,
    },
    /// The queue is closed; everything is on the disk.
    Closed,
    /// A transaction is durable.
    Committed,
    /// A transaction was rolled back; everyone in it was told.
    TransactionFailed {
        /// Why.
        error: String,
    },
    /// The disk did not confirm a content; it was removed and its sender told to try again.
    SyncFailed {
        /// Why.
        error: String,
    },
    /// The log could not be copied into the database; it grows until that succeeds.
    CheckpointFailed {
        /// Why.
        error: String,
    },
    /// The disk fails so often that going on would be a lie.
    GivenUp {
        /// Why.
        why: String,
    },
    /// A message is there and its content is not.
    ContentMissing {
        /// The message.
        id: QueueId,
        /// What is known of it.
        error: String,
    },
    /// A message is there and its content is not what was written.
    ContentDamaged {
        /// The message.
        id: QueueId,
    },
    /// Contents without a message: deliveries or drafts a crash interrupted.
    OrphansRemoved {
        /// So many.
        count: u64,
    },
    /// The disk is full; the reserve for settlements was given up.
    BallastReleased {
        /// Its size.
        size_bytes: u64,
    },
    /// A row cannot be read: damage, or a later version's. The message stays in the database, and the others go on.
    RowUnreadable {
        /// The message.
        id: QueueId,
        /// What is wrong with it.
        error: String,
    },
    /// The tables are of this version now.
    Upgraded {
        /// What it was.
        from: usize,
        /// What it is.
        to: usize,
    },
    /// What a crash left could not be looked for.
    TidyingFailed {
        /// Why.
        error: String,
    },
    /// A whole content that no message names.
    Unclaimed {
        /// Its name.
        id: QueueId,
        /// Where it was moved.
        directory: PathBuf,
    },
    /// Somebody else's reading keeps the log from beginning anew.
    LogKept {
        /// So large it has grown.
        size_bytes: u64,
    },
    /// The smart host's word is known and its row could not be written: it is kept in a file beside.
    SettledBeside {
        /// The message.
        id: QueueId,
        /// Why.
        error: String,
    },
    /// The same, once the row could be written.
    SettledAfterAll {
        /// The message.
        id: QueueId,
    },
    /// An outcome for a message that is not in the queue any more.
    SettledWithoutRow {
        /// The message.
        id: QueueId,
    },
    /// The database is damaged and will be replaced by what can be read of it.
    DamageFound {
        /// Where the old one is kept.
        kept: PathBuf,
    },
    /// A message of the damaged database is not in the new one.
    MessageLost {
        /// The message.
        id: QueueId,
        /// Where the old database is kept.
        kept: PathBuf,
    },
    /// The new database is in place.
    Rebuilt {
        /// So many are in it.
        messages: u64,
        /// So many are not.
        lost: usize,
        /// So much of the old one cannot be read.
        unreadable_pages: usize,
        /// Where the old one is kept.
        kept: PathBuf,
    },
    /// The indexes were made again from their tables.
    Reindexed,
    /// No new database could be made; what works goes on.
    RebuildFailed {
        /// Why.
        error: String,
    },
    /// The run before ended between the smart host's answer, or the wait for it, and its record.
    HandOverInterrupted {
        /// The message.
        id: QueueId,
    },
    /// Rows whose time is over cannot be read, and are not thrown away unread.
    UnreadableKept {
        /// So many.
        count: u64,
    },
    /// An admin's command changed messages.
    Changed {
        /// `held`, `removed` and the like.
        how: &'static str,
        /// So many.
        count: u64,
    },
}

macro_rules! families {
    ($($family:ident = $name:literal: $help:literal;)*) => {
        $(static $family: Family = Family { name: $name, help: $help, labels: &[], kind: Kind::Counter };)*
        /// Everything that is counted here.
        pub(super) static FAMILIES: &[&Family] = &[$(&$family),*];
    };
}

families! {
    COMMITS = "queue_commits_total": "Transactions made durable.";
    COMMITS_FAILED = "queue_commits_failed_total": "Transactions that failed and were rolled back.";
    SYNCS_FAILED = "queue_syncs_failed_total": "Syncs of contents the disk did not confirm.";
    CONTENTS_MISSING = "queue_contents_missing_total":
        "Messages found without their content: each one is mail lost by the disk.";
    ROWS_UNREADABLE = "queue_rows_unreadable_total":
        "Rows that could not be read: each one is mail damaged by the disk.";
    ORPHANS_REMOVED = "queue_orphans_removed_total": "Contents without a message, removed at a start.";
    HAND_OVERS_INTERRUPTED = "hand_overs_interrupted_total":
        "Messages that an earlier run was handing over when it ended.";
}

impl Fact {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "queue_opened",
            Self::Closed => "queue_closed",
            Self::Committed => "queue_committed",
            Self::TransactionFailed { .. } => "queue_transaction_failed",
            Self::SyncFailed { .. } => "queue_sync_failed",
            Self::CheckpointFailed { .. } => "queue_checkpoint_failed",
            Self::GivenUp { .. } => "queue_failed",
            Self::ContentMissing { .. } => "queue_content_missing",
            Self::ContentDamaged { .. } => "queue_content_damaged",
            Self::OrphansRemoved { .. } => "queue_orphans_removed",
            Self::BallastReleased { .. } => "queue_ballast_released",
            Self::RowUnreadable { .. } => "queue_row_unreadable",
            Self::Upgraded { .. } => "queue_upgraded",
            Self::TidyingFailed { .. } => "queue_tidying_failed",
            Self::Unclaimed { .. } => "queue_content_unclaimed",
            Self::LogKept { .. } => "queue_log_kept",
            Self::SettledBeside { .. } => "queue_settled_beside",
            Self::SettledAfterAll { .. } => "queue_settled_after_all",
            Self::SettledWithoutRow { .. } => "queue_settled_without_row",
            Self::DamageFound { .. } => "queue_damaged",
            Self::MessageLost { .. } => "queue_message_lost",
            Self::Rebuilt { .. } => "queue_rebuilt",
            Self::Reindexed => "queue_reindexed",
            Self::RebuildFailed { .. } => "queue_rebuild_failed",
            Self::HandOverInterrupted { .. } => "hand_over_interrupted",
            Self::UnreadableKept { .. } => "queue_unreadable_kept",
            Self::Changed { .. } => "queue_changed",
        }
    }

    pub(super) fn is_detail(&self) -> bool {
        matches!(self, Self::Committed)
    }

    pub(super) fn count(&self, add: Add<'_>) {
        match self {
            Self::Committed => add(&COMMITS, &[], Value::More(1)),
            Self::TransactionFailed { .. } => add(&COMMITS_FAILED, &[], Value::More(1)),
            Self::SyncFailed { .. } => add(&SYNCS_FAILED, &[], Value::More(1)),
            Self::ContentMissing { .. } | Self::ContentDamaged { .. } => {
                add(&CONTENTS_MISSING, &[], Value::More(1));
            }
            Self::OrphansRemoved { count } => add(&ORPHANS_REMOVED, &[], Value::More(*count)),
            Self::RowUnreadable { .. } | Self::MessageLost { .. } => {
                add(&ROWS_UNREADABLE, &[], Value::More(1));
            }
            Self::HandOverInterrupted { .. } => add(&HAND_OVERS_INTERRUPTED, &[], Value::More(1)),
            Self::Opened { .. }
            | Self::Closed
            | Self::CheckpointFailed { .. }
            | Self::GivenUp { .. }
            | Self::BallastReleased { .. }
            | Self::Upgraded { .. }
            | Self::TidyingFailed { .. }
            | Self::Unclaimed { .. }
            | Self::LogKept { .. }
            | Self::SettledBeside { .. }
            | Self::SettledAfterAll { .. }
            | Self::SettledWithoutRow { .. }
            | Self::DamageFound { .. }
            | Self::Rebuilt { .. }
            | Self::Reindexed
            | Self::RebuildFailed { .. }
            | Self::UnreadableKept { .. }
            | Self::Changed { .. } => {}
        }
    }

    pub(super) fn log(&self) {
        let event = self.event();
        match self {
            Self::Opened { directory } => info!(event, directory = %directory.display(), "{self}"),
            Self::Closed => info!(event, "{self}"),
            // Every message makes one, and has a line of its own.
            Self::Committed => {}
            Self::TransactionFailed { error }
            | Self::SyncFailed { error }
            | Self::RebuildFailed { error } => {
                error!(event, %error, "{self}");
            }
            Self::CheckpointFailed { error } | Self::TidyingFailed { error } => {
                warn!(event, %error, "{self}");
            }
            Self::GivenUp { why } => error!(event, why, "{self}"),
            Self::ContentMissing { id, error }
            | Self::RowUnreadable { id, error }
            | Self::SettledBeside { id, error } => error!(event, %id, %error, "{self}"),
            Self::ContentDamaged { id } | Self::SettledWithoutRow { id } => error!(event, %id, "{self}"),
            Self::OrphansRemoved { count } => info!(event, count, "{self}"),
            Self::BallastReleased { size_bytes } => warn!(event, size_bytes, "{self}"),
            Self::Upgraded { from, to } => warn!(event, from, to, "{self}"),
            Self::Unclaimed { id, directory } => {
                error!(event, %id, directory = %directory.display(), "{self}");
            }
            Self::LogKept { size_bytes } => error!(event, size_bytes, "{self}"),
            Self::SettledAfterAll { id } => info!(event, %id, "{self}"),
            Self::DamageFound { kept } => error!(event, kept = %kept.display(), "{self}"),
            Self::MessageLost { id, kept } => error!(event, %id, kept = %kept.display(), "{self}"),
            Self::Rebuilt { messages, lost, unreadable_pages, kept } => {
                error!(event, messages, lost, unreadable_pages, kept = %kept.display(), "{self}");
            }
            Self::Reindexed => error!(event, "{self}"),
            Self::HandOverInterrupted { id } => warn!(event, %id, "{self}"),
            Self::UnreadableKept { count } => warn!(event, count, "{self}"),
            Self::Changed { how, count } => info!(event, how, count, "{self}"),
        }
    }
}

impl fmt::Display for Fact {
    #[expect(clippy::too_many_lines, reason = "a table: the words of each fact")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { .. } => f.write_str("queue opened"),
            Self::Closed => f.write_str("queue closed"),
            Self::Committed => f.write_str("a transaction is durable"),
            Self::TransactionFailed { .. } => f.write_str("the queue could not write"),
            Self::SyncFailed { .. } => f.write_str("the disk did not confirm a content"),
            Self::CheckpointFailed { .. } => f.write_str("the queue's log could not be checkpointed"),
            Self::GivenUp { .. } => f.write_str("the queue's disk has failed"),
            Self::ContentMissing { .. } => f.write_str("the content of a message is missing"),
            Self::ContentDamaged { .. } => f.write_str("the content of a message is damaged on the disk"),
            Self::OrphansRemoved { .. } => f.write_str("removed contents a crash had left behind"),
            Self::BallastReleased { .. } => f.write_str("disk full: the queue gave up its reserve"),
            Self::RowUnreadable { id, .. } => write!(
                f,
                "{id} cannot be read and is passed over; hint: restore the queue from a backup, or keep queue.db for \
                 an expert"
            ),
            Self::Upgraded { from, to } => write!(
                f,
                "the queue was upgraded from version {from} to {to}: an earlier mailferry cannot read it any more"
            ),
            Self::TidyingFailed { .. } => f.write_str("what a crash may have left was not looked for"),
            Self::Unclaimed { id, directory } => write!(
                f,
                "the content of {id} has no message and was moved to {}; hint: it is mail that a crash cut off or a \
                 disk lost, and its head says for whom it was; remove it when you have looked",
                directory.display()
            ),
            Self::LogKept { .. } => f.write_str(
                "new mail is refused: another program has queue.db open, so the queue's log cannot be emptied; hint: \
                 see which with: fuser -v queue.db",
            ),
            Self::SettledBeside { id, .. } => write!(
                f,
                "what became of {id} could not be written into its row and is kept in settled/; it is not sent again"
            ),
            Self::SettledAfterAll { id } => write!(f, "what became of {id} is in its row now"),
            Self::SettledWithoutRow { id } => write!(
                f,
                "{id} was sent and is not in the queue any more; hint: another program changed queue.db, or the disk \
                 did"
            ),
            Self::DamageFound { kept } => write!(
                f,
                "the queue's database is damaged: a new one is made of what can be read, the old one is kept in {}",
                kept.display()
            ),
            Self::MessageLost { id, kept } => write!(
                f,
                "the message {id} cannot be read any more; hint: what is left of it is in {} and in unclaimed/, and \
                 the log of its day says from which device it came",
                kept.display()
            ),
            Self::Rebuilt { messages, lost, kept, .. } => write!(
                f,
                "the queue goes on with a new database: {messages} messages kept, {lost} lost; hint: check the disk's \
                 health, and remove {} when you have looked",
                kept.display()
            ),
            Self::Reindexed => f.write_str(
                "the queue's database is damaged, and there is no room for a new one: its indexes were made again; \
                 hint: free space, and check the disk's health",
            ),
            Self::RebuildFailed { .. } => f.write_str(
                "no new database could be made of the damaged one; what can be read goes on",
            ),
            Self::HandOverInterrupted { id } => write!(
                f,
                "{id} was being handed over when mailferry ended: the smart host may have it, and it may arrive twice"
            ),
            Self::UnreadableKept { count } => write!(
                f,
                "{count} delivered messages past their time cannot be read and stay; those behind them went"
            ),
            Self::Changed { how, count } => write!(f, "an admin's command: {count} messages {how}"),
        }
    }
}
