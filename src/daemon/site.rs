//! What `notify` asks of the relay: how much waits, and through which account a mail gets out now.
//!
//! Must not know: what is told.

use super::live::Rooms;
use crate::control::Live;
use crate::control::report::AccountState;
use crate::mail::{AccountId, Mailbox, State, WallTime};
use crate::notify;
use crate::queue::Ledger;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The relay, to whoever tells of it.
pub(super) struct Site {
    pub(super) rooms: Arc<Rooms>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) is_sandbox: bool,
}

impl notify::Site for Site {
    fn waiting(&self) -> BoxFuture<'_, (u64, Option<Duration>)> {
        Box::pin(async move {
            let totals = self.ledger.totals().await.unwrap_or_default();
            let queued = || totals.iter().filter(|t| t.state == State::Queued);
            let now = WallTime::now();
            let age = |t: WallTime| u64::try_from(now.as_ms() - t.as_ms()).unwrap_or(0);
            let oldest = queued().filter_map(|t| t.oldest).min().map(|t| Duration::from_millis(age(t)));
            (queued().map(|t| t.messages).sum(), oldest)
        })
    }

    fn works(&self) -> BoxFuture<'_, Option<(AccountId, Mailbox)>> {
        Box::pin(async move {
            let accounts = self.rooms.accounts().await;
            let open = accounts.into_iter().filter(|a| a.state == AccountState::Open);
            // An account goes by its mailbox.
            open.filter_map(|a| Some((a.account.clone(), a.account.as_str().parse().ok()?))).next()
        })
    }

    fn is_sandbox(&self) -> bool {
        self.is_sandbox
    }
}
