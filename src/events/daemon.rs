//! Facts of the process.

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
pub fn pruned(delivered: u64, dead: u64) {
    info!(
        event = "pruned",
        delivered, dead, "forgot {delivered} delivered messages and {dead} dead letters past their time"
    );
}

/// History could not be forgotten; it is tried again.
pub fn prune_failed(why: &str) {
    warn!(event = "prune_failed", "history is not forgotten yet: {why}");
}
