//! What the accounts know of each other: who works at which smart host, and what a whole tenant suffers.
//!
//! Must not know: plans. It passes facts on.

use super::connection::Event;
use super::message::Message;
use crate::mail::{AccountId, Place, RelayTime};
use crate::policy::verdict::Judged;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A success this long ago still says that the smart host works.
const RECENT: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Board(Mutex<BTreeMap<AccountId, Entry>>);

struct Entry {
    tell: mpsc::UnboundedSender<Message>,
    place: Option<Place>,
    worked_at: Option<RelayTime>,
}

impl Board {
    pub(super) fn join(&self, account: &AccountId, tell: mpsc::UnboundedSender<Message>) {
        let entry = Entry { tell, place: None, worked_at: None };
        self.lock().insert(account.clone(), entry);
    }

    pub(super) fn works(&self, account: &AccountId, place: &Place, now: RelayTime) {
        if let Some(e) = self.lock().get_mut(account) {
            if e.place.as_ref() != Some(place) {
                e.place = Some(place.clone());
            }
            e.worked_at = Some(now);
        }
    }

    /// Another account has lately been served at the same smart host.
    pub(super) fn another_works(&self, account: &AccountId, place: &Place, now: RelayTime) -> bool {
        self.lock().iter().any(|(id, e)| {
            id != account
                && e.place.as_ref() == Some(place)
                && e.worked_at.is_some_and(|t| now.since(t) < RECENT)
        })
    }

    /// Tells the other accounts of the same mail domain.
    pub(super) fn hold_tenant(&self, account: &AccountId, failed: &Judged) {
        let domain = |id: &AccountId| id.as_str().rsplit_once('@').map(|(_, d)| d.to_owned());
        for (id, e) in self.lock().iter() {
            if id != account && domain(id) == domain(account) {
                let _ = e.tell.send(Message::Event(Event::TenantHeld(Box::new(failed.clone()))));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
