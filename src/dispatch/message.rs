//! What an account's actor is told, and by whom it may be told.
//!
//! Must not know: what the actor does with it.

use super::connection::Event;
use super::plan::Live;
use super::{Account, Settings};
use tokio::sync::oneshot;

/// What the actor is told.
pub(super) enum Message {
    Event(Event),
    Reload(Box<(Account, Settings)>),
    Live(oneshot::Sender<Live>),
}
