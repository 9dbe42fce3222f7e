//! Every test that sees mailferry from outside, in one binary: it is linked once, and what several tests need stands
//! in `support` once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real components in real time")]
#![allow(unreachable_pub, reason = "one binary")]

mod support;

mod allow;
mod architecture;
mod cli;
mod config;
mod control;
mod corpus;
mod demo_story;
mod devices;
mod dialogues;
mod doctor;
mod encoding;
mod incidents;
mod ledger;
mod letters;
mod listening;
mod misconfigured;
mod oauth;
mod ownership;
mod process;
mod queue_contract;
mod queue_survives_kill;
mod receive;
mod receive_descriptors;
mod receive_memory;
mod relay;
mod reload;
mod replies;
mod sandbox;
mod signals;
mod start;
mod strangers;
mod submit;
mod token;
