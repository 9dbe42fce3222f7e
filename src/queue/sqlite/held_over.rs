//! Settlements beside the database: what became of a message whose row could not be written.
//!
//! Invariant: a message with a file here is not handed out before the file's outcome is in its row, so what the
//! smart host has is not sent again. The normal path writes nothing here. Must not know: why the row failed.

use super::row;
use super::shared::Shared;
use super::transaction::apply_settlement;
use crate::files;
use crate::mail::{Attempt, QueueId, QueuedMessage, Recipient, RelayTime};
use crate::queue::error::QueueError;
use crate::queue::lease::{Destination, Settlement};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// A settlement as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    recipients: Vec<Recipient>,
    attempts: u32,
    to: To,
    now_ms: i64,
    attempt: Option<Attempt>,
    outcome_unknown: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    Delivered,
    Dead,
    Queued { next_attempt_ms: i64 },
}

fn directory(queue: &Path) -> PathBuf {
    queue.join("settled")
}

/// Makes the outcome durable.
pub(super) fn keep(queue: &Path, message: &QueuedMessage, s: &Settlement) -> io::Result<()> {
    let record = Record {
        recipients: s.recipients.clone(),
        attempts: s.attempts,
        to: match s.to {
            Destination::Delivered => To::Delivered,
            Destination::Dead => To::Dead,
            Destination::Queued(at) => To::Queued { next_attempt_ms: at.as_ms() },
        },
        now_ms: s.now.as_ms(),
        attempt: s.attempt.clone(),
        outcome_unknown: s.outcome_unknown,
    };
    let directory = directory(queue);
    files::open_or_make_directory(&directory)?;
    files::replace(&directory.join(message.id.to_string()), row::to_json(&record).as_bytes())?;
    files::sync_directory(queue)
}

/// Every outcome that is kept.
pub(super) fn all(queue: &Path) -> Vec<(QueueId, Record)> {
    let Ok(names) = std::fs::read_dir(directory(queue)) else { return Vec::new() };
    names
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            let text = io::read_to_string(files::open(&entry.path()).ok()?).ok()?;
            Some((id, serde_json::from_str(&text).ok()?))
        })
        .collect()
}

/// Writes the outcome into the row, and drops the file once that is durable.
pub(super) fn replay(
    conn: &Connection,
    shared: &Shared,
    id: QueueId,
    record: Record,
) -> Result<(), QueueError> {
    let settlement = Settlement {
        now: RelayTime::from_ms(record.now_ms),
        recipients: record.recipients,
        attempts: record.attempts,
        to: match record.to {
            To::Delivered => Destination::Delivered,
            To::Dead => Destination::Dead,
            To::Queued { next_attempt_ms } => Destination::Queued(RelayTime::from_ms(next_attempt_ms)),
        },
        attempt: record.attempt,
        outcome_unknown: record.outcome_unknown,
        notices: Vec::new(),
    };
    apply_settlement(conn, shared, id, &settlement)?;
    let directory = directory(&shared.directory);
    std::fs::remove_file(directory.join(id.to_string()))?;
    files::sync_directory(&directory)?;
    Ok(())
}
