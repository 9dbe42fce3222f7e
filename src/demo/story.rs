//! The script.
/// x
pub trait Relay {}
/// x
pub struct Script;
/// x
pub struct Summary;
/// x
pub fn run() {}
