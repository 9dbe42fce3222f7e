//! What several tests share: the parties around the relay, and builders for what they are given.

pub mod daemon;
pub mod log;
pub mod own_process;
pub mod queue;
pub mod receiver;
pub mod relay;
pub mod smart_host;
pub mod token_endpoint;
pub mod watched_queue;
