//! Facts of the process.

use crate::mail::{QueueId, QueuedMessage, WallTime};
use std::net::SocketAddr;
use std::path::Path;
use tracing::{error, info, warn};

/// Mail is accepted.
pub fn started(listening: &[SocketAddr], accounts: &[String]) {
    let listening = listening.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let accounts = accounts.join(", ");
    info!(
        event = "started",
        version = env!("CARGO_PKG_VERSION"),
        "listening on {listening}, sending as {accounts}"
    );
}

/// Told to stop: what is in flight is finished.
pub fn stopping() {
    info!(event = "stopping", "stopping: no new connections, finishing what is in flight");
}

/// Everything is closed.
pub fn stopped() {
    info!(event = "stopped", "stopped");
}

/// New settings apply, but for those of these keys, if there are any.
pub fn reloaded(waiting: &[&str], given_at_start: &[&str]) {
    if !given_at_start.is_empty() {
        info!(
            event = "given_at_start",
            "as systemd or the environment gave them at the start, so that a new value needs a restart: {}",
            given_at_start.join(", ")
        );
    }
    if waiting.is_empty() {
        info!(event = "reloaded", "configuration reloaded");
    } else {
        warn!(
            event = "restart_needed",
            "configuration reloaded, but a new value of these only counts after a restart: {}",
            waiting.join(", ")
        );
    }
}

/// New settings were not taken; the old ones go on.
pub fn reload_refused(problem: &str) {
    error!(event = "reload_refused", "configuration not reloaded, the old one goes on: {problem}");
}

/// The disk failed for good.
pub fn disk_failed(why: &str) {
    error!(event = "disk_failed", "the queue cannot write any more, stopping: {why}");
}

/// The control socket is gone.
pub fn control_failed(why: &str) {
    error!(event = "control_failed", "the control socket failed: {why}");
}

/// Core dumps could not be switched off.
pub fn not_hardened(why: &str) {
    warn!(event = "not_hardened", "core dumps stay possible: {why}");
}

/// Everything goes to the sandbox.
pub fn sandboxed(address: SocketAddr, queue: &Path) {
    let queue = queue.display();
    warn!(
        event = "sandboxed",
        %address,
        %queue,
        "sandbox: nothing leaves this machine, mail goes to a stand-in at {address} through a queue of its own in {queue}"
    );
}

/// History was forgotten in time.
pub fn history_forgotten(delivered: u64) {
    info!(event = "history_forgotten", delivered, "forgot {delivered} delivered messages past keep_history");
}

/// Dead letters come to the end of `keep_dead`; told every day until then.
pub fn dead_letters_end(count: u64, and_more: bool, first: WallTime) {
    let more = if and_more { " or more" } else { "" };
    warn!(event = "dead_letters_end", count, %first,
        "{count}{more} dead letters will be removed for good, as keep_dead says: the first at {first}; hint: bring them back with: mailferry queue retry --state dead; or save them with: mailferry queue export --state dead --to DIR");
}

/// A dead letter has come to the end of `keep_dead` and is removed: what remains of it is this line.
pub fn dead_letter_ends(message: &QueuedMessage, sha256: &str) {
    let to = message.recipients.iter().map(|r| r.mailbox.to_string()).collect::<Vec<_>>().join(", ");
    let from = &message.reverse_path;
    let finished_at = message.finished_at.map(|at| at.to_string()).unwrap_or_default();
    warn!(event = "dead_letter_removed", id = %message.id, account = %message.account, client = %message.client,
        %from, to, size_bytes = message.size_bytes, received_at = %message.received_at, finished_at,
        last_said = message.last_said, sha256,
        "{}: removed for good, given up at {finished_at} and past keep_dead: from {from} to {to}, {} bytes, sha256 {sha256}",
        message.id, message.size_bytes);
}

/// It was not removed after all: somebody else changed it at that moment.
pub fn dead_letter_stays(id: QueueId) {
    warn!(event = "dead_letter_stays", %id, "{id}: not removed after all, it was changed at that moment");
}

/// The end of a round. What was kept could not be read, or was being changed.
pub fn dead_letters_ended(removed: u64, kept: u64) {
    info!(
        event = "dead_letters_ended",
        removed,
        kept,
        "{removed} dead letters past keep_dead were removed, {kept} stay, as they cannot be read or somebody is at them"
    );
}

/// History could not be forgotten; it is tried again.
pub fn prune_failed(why: &str) {
    warn!(event = "prune_failed", "history is not forgotten yet: {why}");
}
