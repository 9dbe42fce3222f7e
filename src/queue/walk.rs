//! A question or a change however much there is: messages in pages, changes in steps.
//!
//! Invariant: no question and no change holds more than a page in memory or in one transaction. So a large change
//! is not atomic: what ends it in the middle leaves its beginning done, in order of arrival, and says how far it
//! came. What arrives after the question began is not meant by it.
//! Must not know: who asks, how a backend stores and finds.

use super::error::QueueError;
use super::ledger::{Change, ChangeStep, Filter, Page};
use super::role::Ledger;
use crate::mail::{QueueId, RelayTime};
use std::sync::Arc;

/// How far a question has come.
struct Cursor {
    filter: Filter,
    has_limit: bool,
    after: Option<QueueId>,
    is_over: bool,
}

impl Cursor {
    fn new(ledger: &dyn Ledger, mut filter: Filter) -> Self {
        filter.up_to = filter.up_to.or_else(|| Some(ledger.next_id()));
        Self { has_limit: filter.limit > 0, filter, after: None, is_over: false }
    }

    fn went(&mut self, found: usize, next: Option<QueueId>) {
        self.after = next;
        self.filter.limit = self.filter.limit.saturating_sub(found);
        self.is_over = next.is_none() || self.has_limit && self.filter.limit == 0;
    }
}

/// Every message that a filter names, a page at a time.
pub struct Listing {
    ledger: Arc<dyn Ledger>,
    cursor: Cursor,
}

impl Listing {
    /// Nothing is read yet.
    pub fn new(ledger: Arc<dyn Ledger>, filter: Filter) -> Self {
        let cursor = Cursor::new(ledger.as_ref(), filter);
        Self { ledger, cursor }
    }

    /// The next page, which may be empty; `None` at the end. An error is the end.
    pub async fn next(&mut self) -> Option<Result<Page, QueueError>> {
        if self.cursor.is_over {
            return None;
        }
        let page = self.ledger.list(self.cursor.filter.clone(), self.cursor.after).await;
        match &page {
            Ok(page) => self.cursor.went(page.messages.len(), page.next),
            Err(_) => self.cursor.is_over = true,
        }
        Some(page)
    }
}

/// A change to every message that a filter names, a step at a time. It goes no further than it is asked to.
pub struct Changing {
    ledger: Arc<dyn Ledger>,
    cursor: Cursor,
    change: Change,
    now: RelayTime,
}

impl Changing {
    /// Nothing is changed yet.
    pub fn new(ledger: Arc<dyn Ledger>, filter: Filter, change: Change, now: RelayTime) -> Self {
        let cursor = Cursor::new(ledger.as_ref(), filter);
        Self { ledger, cursor, change, now }
    }

    /// Takes the next step, which may change nothing; `None` at the end. An error is the end; what the steps before
    /// it changed stays so.
    pub async fn next(&mut self) -> Option<Result<ChangeStep, QueueError>> {
        if self.cursor.is_over {
            return None;
        }
        let (filter, change) = (self.cursor.filter.clone(), self.change.clone());
        let step = self.ledger.change(filter, change, self.now, self.cursor.after).await;
        match &step {
            Ok(step) => self.cursor.went(step.changed.len(), step.next),
            Err(_) => self.cursor.is_over = true,
        }
        Some(step)
    }
}
