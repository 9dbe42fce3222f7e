//! `mailferry demo`: three devices, a relay, the sandbox, an outage, a kill and a refused login, told live.
//!
//! Invariant: what it prints was measured or read back in this run; the summary compares what the devices sent with
//! what the sandbox took, by content, and knows nothing of the relay but its address and what it says of itself.
//! Must not know: how the relay is built; whoever runs the demo hands it in as a `Relay`.

pub mod device;
pub mod here;
pub mod scans;
pub mod screen;
pub mod story;
pub mod summary;
mod teller;

pub use story::{Relay, Script, run};
pub use summary::Summary;
pub use teller::{Condition, Trouble};
