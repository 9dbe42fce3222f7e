//! Messages that may be the cause of what looks like a fault of the account, and hosts whose words it may be.
//!
//! Invariant: in an outage no message is blamed; a message is blamed only when another passed after the outage and
//! the fault comes back with it. A refusal that may be the words of a recipient's own host stays with its message
//! until another domain is refused so, too, and nothing was taken in between.
//! Must not know: connections, breakers.

use crate::mail::{QueueId, QueuedMessage};
use crate::policy::verdict::{Action, Verdict};
use crate::submit::{Outcome, Sent};
use std::collections::VecDeque;

/// Messages remembered as having met the account's fault after the login.
const MAX_SUSPECTS: usize = 32;

/// Who met the account's fault.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// After the login, in this outage: probes pass them over while there are others.
    here: VecDeque<QueueId>,
    /// Suspects of a past outage that another message's success ended: the next such fault is their own.
    marked: VecDeque<QueueId>,
    /// There are no others.
    alone: bool,
}

impl Suspects {
    pub(super) fn add(&mut self, id: QueueId) {
        if !self.here.contains(&id) {
            self.here.push_back(id);
        }
        if self.here.len() > MAX_SUSPECTS {
            self.here.pop_front();
        }
    }

    /// What a probe passes over.
    pub(super) fn passed_over(&self) -> Vec<QueueId> {
        if self.alone { vec![] } else { self.here.iter().copied().collect() }
    }

    /// Nobody else is waiting. Whether that changes what a probe may take.
    pub(super) fn are_alone(&mut self) -> bool {
        !self.here.is_empty() && !std::mem::replace(&mut self.alone, true)
    }

    /// The account failed (again).
    pub(super) fn outage(&mut self) {
        self.alone = false;
    }

    /// The outage ended by this message.
    pub(super) fn recovered(&mut self, by: QueueId) {
        if self.here.contains(&by) {
            // Its own second try passed, so it was the account all along.
            self.here.clear();
        } else {
            self.marked.extend(self.here.drain(..));
            while self.marked.len() > MAX_SUSPECTS {
                self.marked.pop_front();
            }
        }
    }

    pub(super) fn is_marked(&self, id: QueueId) -> bool {
        self.marked.contains(&id)
    }

    /// It took its turn.
    pub(super) fn acquit(&mut self, id: QueueId) {
        self.marked.retain(|m| *m != id);
    }
}

/// The domain whose host may have spoken.
#[derive(Debug)]
struct Doubt {
    domain: String,
    /// Recipients beyond the account's own domain were taken since: it was that host's.
    disproved: bool,
}

/// Whose words a refusal was in.
#[derive(Debug, Default)]
pub(super) struct Hearsay(Option<Doubt>);

impl Hearsay {
    /// Notes what was taken; whether a refusal in another host's words, if there is one here, is that host's. What the
    /// server takes for its own domain says nothing of its relaying for others.
    pub(super) fn hears(&mut self, message: &QueuedMessage, sent: &Sent, has_login: bool) -> bool {
        let own = message.account.as_str().rsplit_once('@').map_or("", |(_, domain)| domain);
        let pending: Vec<_> = message.pending().collect();
        let taken = pending
            .iter()
            .zip(&sent.outcomes)
            .any(|(m, o)| matches!(o, Outcome::Taken(_)) && !m.domain().eq_ignore_ascii_case(own));
        if let (true, Some(doubt)) = (taken, &mut self.0) {
            doubt.disproved = true;
        }
        let is_known =
            |d: &Doubt| d.disproved && pending.iter().all(|m| m.domain().eq_ignore_ascii_case(&d.domain));
        has_login && (taken || self.0.as_ref().is_some_and(is_known))
    }

    /// Whether a refusal that may be another host's words is left to its message.
    pub(super) fn stays_with(
        &mut self,
        message: &QueuedMessage,
        verdict: &Verdict,
        has_worked: bool,
    ) -> bool {
        if !verdict.hearsay || !has_worked || !matches!(verdict.action, Action::Hold | Action::Retry) {
            return false;
        }
        let Some(first) = message.pending().next() else { return false };
        let domain = first.domain().to_ascii_lowercase();
        match &self.0 {
            Some(doubt) if !doubt.disproved && doubt.domain != domain => {
                self.0 = None;
                false
            }
            Some(doubt) if doubt.domain == domain => true,
            _ => {
                self.0 = Some(Doubt { domain, disproved: false });
                true
            }
        }
    }
}
