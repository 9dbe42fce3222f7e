//! Whose mail this host hands out: an account has one owner at a time, and every lease bears its number.
//!
//! Invariant: while an `Owned` lives and has not ended, nobody else is handed mail of its account; what was leased under
//! an ownership that ended is settled by nobody. Must not know: how hosts agree, how long an ownership lasts.

use crate::mail::AccountId;
use tokio::sync::watch;

/// A fencing number: greater for every next owner of an account, so that the storage can tell who came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(i64);

impl Fence {
    /// From the number that a backend stores.
    pub const fn from_number(n: i64) -> Self {
        Self(n)
    }

    /// The number that a backend stores.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// This host owns an account: until it has ended, or this value is dropped, which hands the account over.
pub struct Owned {
    account: AccountId,
    fence: Fence,
    ended: watch::Receiver<bool>,
    hand_over: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Owned {
    /// As a backend has granted it. `ended` turns true when the ownership is about to end, early enough for whoever
    /// acts on it to let go first; `hand_over` runs on drop.
    pub fn new(
        account: AccountId,
        fence: Fence,
        ended: watch::Receiver<bool>,
        hand_over: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { account, fence, ended, hand_over: Some(Box::new(hand_over)) }
    }

    /// What a backend of one host grants: it never ends.
    pub(in crate::queue) fn for_good(account: AccountId) -> Self {
        let (_, ended) = watch::channel(false);
        Self { account, fence: Fence(0), ended, hand_over: None }
    }

    /// Which account.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The number of this ownership.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether it has ended: everything in flight is to be dropped.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Resolves when it has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            if ended.wait_for(|ended| *ended).await.is_err() {
                // Nobody is left who could end it.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(hand_over) = self.hand_over.take() {
            hand_over();
        }
    }
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owned")
            .field("account", &self.account)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}
