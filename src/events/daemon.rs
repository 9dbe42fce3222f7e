//! Facts of the process.

use std::net::SocketAddr;
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

/// New settings apply.
pub fn reloaded() {
    info!(event = "reloaded", "configuration reloaded");
}

/// New settings were not taken; the old ones go on.
pub fn reload_refused(problem: &str) {
    error!(event = "reload_refused", "configuration not reloaded, the old one goes on: {problem}");
}

/// A changed setting only counts after a restart.
pub fn restart_needed() {
    warn!(
        event = "restart_needed",
        "listeners, queue directory and control socket only change with a restart"
    );
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
pub fn sandboxed(address: SocketAddr) {
    warn!(event = "sandboxed", %address, "sandbox: nothing leaves this machine, mail goes to a stand-in at {address}");
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
