//! What is remembered of devices over restarts: notes of the queue, each a shard of them.
//!
//! Invariant: written seldom and never while a device waits; a note that cannot be read costs what stands in it. Must
//! not know: how the queue stores.

use super::memory::{Changed, Memory, SHARDS, shard};
use super::{Device, Devices, Refused};
use crate::policy::peer::Peer;
use crate::queue::{Notes, QueueError};
use futures_util::future::try_join_all;
use std::time::Duration;

/// Between two rounds of writing.
const EVERY: Duration = Duration::from_secs(5);
/// Strangers are written in every so manyth round only: they come as often as they like.
const ROUNDS_OF_REFUSED: u32 = 12;

const NOTE_OF_REFUSED: &str = "devices/refused";

fn note_of(shard: u8) -> String {
    format!("devices/{shard}")
}

impl Devices {
    /// Takes up what was kept.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    pub async fn take_up(&self, notes: &dyn Notes) -> Result<(), QueueError> {
        let mut shards = vec![];
        for n in 0..SHARDS {
            // One after the other: each asked at once has a thread of its own, and a start needs no sixty.
            shards.push(notes.note(&note_of(n)).await?);
        }
        let refused = notes.note(NOTE_OF_REFUSED).await?;
        let devices = shards.into_iter().flatten().flat_map(|json| read::<Device>(&json));
        let mut memory = self.lock();
        memory.devices.extend(devices.map(|d| (d.address, d)));
        let refused = refused.into_iter().flat_map(|json| read::<Refused>(&json));
        memory.refused.extend(refused.map(|r| (Peer::of(r.address), r)));
        Ok(())
    }

    /// Writes what has changed. `all`: strangers, too.
    ///
    /// # Errors
    /// Any; what was not written is written the next time.
    pub async fn keep(&self, notes: &dyn Notes, all: bool) -> Result<(), QueueError> {
        let (mut writes, taken) = (vec![], self.taken(all));
        for (name, json) in taken.1 {
            writes.push(notes.set_note(&name, json));
        }
        let done = try_join_all(writes).await;
        if done.is_err() {
            let mut memory = self.lock();
            memory.changed.shards.extend(taken.0.shards);
            memory.changed.refused |= taken.0.refused;
        }
        done.map(|_| ())
    }

    /// What is to be written, which counts as written from here on.
    fn taken(&self, all: bool) -> (Changed, Vec<(String, Option<String>)>) {
        let mut memory = self.lock();
        let shards = std::mem::take(&mut memory.changed.shards);
        let mut changed = Changed { shards, ..Changed::default() };
        if all || std::mem::take(&mut memory.changed.at_once) {
            changed.refused = std::mem::take(&mut memory.changed.refused);
        }
        let mut texts: Vec<_> = changed.shards.iter().map(|n| (note_of(*n), of_shard(&memory, *n))).collect();
        if changed.refused {
            let refused: Vec<&Refused> = memory.refused.values().collect();
            texts.push((NOTE_OF_REFUSED.to_owned(), json(&refused)));
        }
        (changed, texts)
    }

    /// Keeps them until `stop` resolves, and once more then. `failed` hears of what could not be written, once until
    /// it works again.
    pub async fn keep_until(
        &self,
        notes: &dyn Notes,
        stop: impl Future<Output = ()>,
        failed: impl Fn(String),
    ) {
        let mut stop = std::pin::pin!(stop);
        let (mut round, mut is_told) = (0_u32, false);
        loop {
            let is_over = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = &mut stop => true,
            };
            round = round.wrapping_add(1);
            match self.keep(notes, is_over || round.is_multiple_of(ROUNDS_OF_REFUSED)).await {
                Ok(()) => is_told = false,
                Err(why) if !std::mem::replace(&mut is_told, true) => failed(why.to_string()),
                Err(_) => {}
            }
            if is_over {
                return;
            }
        }
    }
}

fn of_shard(memory: &Memory, n: u8) -> Option<String> {
    json(&memory.devices.values().filter(|d| shard(d.address) == n).collect::<Vec<_>>())
}

/// Nothing is no note.
fn json<T: serde::Serialize>(entries: &[T]) -> Option<String> {
    if entries.is_empty() { None } else { serde_json::to_string(entries).ok() }
}

/// Entry by entry: one of another version costs the others nothing.
fn read<T: serde::de::DeserializeOwned>(json: &str) -> Vec<T> {
    let entries: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect()
}
