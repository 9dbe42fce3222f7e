//! `mailferry demo`: three devices, a relay, the sandbox and an outage, told live.
//!
//! Invariant: what it prints was measured or read back in this run; the summary compares what the devices sent with
//! what the sandbox took, by content, and knows nothing of the relay but its address, its words and its count.
//! Must not know: how the relay is built; whoever runs the demo hands it in as a `Relay`.

pub mod device;
pub mod scans;
pub mod story;

pub use story::{Relay, Script, Summary, run};
