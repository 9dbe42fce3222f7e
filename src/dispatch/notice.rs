//! Who is told when a message is given up or late, and that a flood of failures does not become a flood of mail.
//!
//! Invariant: a notice has the null reverse-path and no peer, by which it is known, and is never answered by another;
//! its client is only a name for people, which an admin may give to a device's, too; at most `AN_HOUR` leave an
//! account an hour, what is beyond stands in the log and in `queue list --state dead`.
//! Must not know: the words of a notice (`letter::report` has them).

use super::settle::{Notify, Settled};
use super::{Account, Settings};
use crate::fact::dispatch::Fact;
use crate::letter::report::{self, AdminNotice, Kind, Report, Written};
use crate::mail::{Failure, Mailbox, Place, Progress, QueueId, RelayTime, WallTime};
use crate::policy::advice::About;
use crate::queue::{Destination, Ids, Lease, Notice, Settlement};
use std::collections::VecDeque;
use std::time::Duration;

const AN_HOUR: usize = 30;
const HOUR: Duration = Duration::from_secs(3600);

/// When notices left.
#[derive(Debug, Default)]
pub(super) struct Budget(VecDeque<RelayTime>);

impl Budget {
    fn take(&mut self, now: RelayTime) -> bool {
        while self.0.front().is_some_and(|t| now.since(*t) >= HOUR) {
            self.0.pop_front();
        }
        let free = self.0.len() < AN_HOUR;
        if free {
            self.0.push_back(now);
        }
        free
    }
}

/// What a notice is made with.
pub(super) struct Writer<'a> {
    pub(super) account: &'a Account,
    pub(super) settings: &'a Settings,
    pub(super) place: &'a Place,
    pub(super) ids: &'a dyn Ids,
    pub(super) now: RelayTime,
}

impl Writer<'_> {
    /// The notices about a message: one to its sender, where it may be answered, and one to the admins.
    pub(super) fn compose(&self, lease: &Lease, settled: &Settled, budget: &mut Budget) -> Vec<Notice> {
        let (message, notify, settlement) = (&lease.message, settled.notify, &settled.settlement);
        if notify == Notify::Nobody || message.is_notice() {
            return vec![];
        }
        let failures: Vec<(&Mailbox, Option<&Failure>)> = settlement
            .recipients
            .iter()
            .zip(&message.recipients)
            .filter(|(_, before)| before.progress == Progress::Pending)
            .filter_map(|(after, _)| match (&after.progress, notify) {
                (Progress::Failed(f), Notify::Refused | Notify::Expired) => Some((&after.mailbox, Some(f))),
                (Progress::Pending, Notify::Delayed) => {
                    Some((&after.mailbox, settled.failure.as_ref().filter(|_| after.deferrals.count > 0)))
                }
                _ => None,
            })
            .collect();
        let kind = match notify {
            Notify::Delayed => Kind::Delayed { until: self.tried_until(settlement) },
            Notify::Expired => Kind::Expired,
            Notify::Refused | Notify::Nobody => Kind::Failed,
        };
        let about = About { mailbox: self.account.id.as_str(), smart_host: self.place };
        let advice = settled.advice.map(|a| a.remedy(about)).unwrap_or_default();
        let sender =
            message.reverse_path.mailbox().filter(|_| report::may_answer(message, lease.body.head()));
        let mut readers: Vec<Vec<Mailbox>> = sender.map(|s| vec![s.clone()]).into_iter().collect();
        let admins: Vec<Mailbox> =
            self.settings.notify.iter().filter(|a| sender.is_none_or(|s| !s.is_same(a))).cloned().collect();
        if !admins.is_empty() {
            readers.push(admins);
        }
        let mut notices = Vec::with_capacity(readers.len());
        for to in readers {
            if !budget.take(self.now) {
                self.account.tell(Fact::NoticeWithheld { id: message.id });
                break;
            }
            let id = self.ids.next_id();
            let now = WallTime::now();
            let written = Report {
                kind,
                id,
                message,
                original_head: lease.body.head(),
                failures: &failures,
                advice: &advice,
                goes_on: matches!(settlement.to, Destination::Queued(_)),
                hostname: &self.settings.hostname,
                is_sandbox: self.settings.is_sandbox,
                from: &self.account.sender.mailbox,
                to: &to,
                now,
            }
            .write();
            notices.push(notice(self.account, id, to, written, now, self.now));
        }
        notices
    }

    /// No recipient that waits is given up before this.
    fn tried_until(&self, settlement: &Settlement) -> WallTime {
        let waiting = settlement.recipients.iter().filter(|r| r.deferrals.count > 0);
        let tried_for = waiting.map(|r| self.now.since(r.deferrals.since)).max().unwrap_or_default();
        later(WallTime::now(), self.settings.retry.expire_after.saturating_sub(tried_for))
    }
}

/// A plain notice to the admins, sent through the account it is about.
pub(super) fn to_admins(
    account: &Account,
    settings: &Settings,
    ids: &dyn Ids,
    now: RelayTime,
    subject: &str,
    paragraphs: &[String],
) -> Notice {
    let (id, wall) = (ids.next_id(), WallTime::now());
    let written = AdminNotice {
        id,
        subject,
        paragraphs,
        hostname: &settings.hostname,
        is_sandbox: settings.is_sandbox,
        from: &account.sender.mailbox,
        to: &settings.notify,
        now: wall,
    }
    .write();
    notice(account, id, settings.notify.clone(), written, wall, now)
}

fn notice(
    account: &Account,
    id: QueueId,
    to: Vec<Mailbox>,
    written: Written,
    received_at: WallTime,
    now: RelayTime,
) -> Notice {
    Notice::of_the_relay(id, account.id.clone(), to, (written.head, written.content), received_at, now)
}

fn later(t: WallTime, d: Duration) -> WallTime {
    WallTime::from_ms(t.as_ms().saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_does_not_become_a_flood_of_mail() {
        let mut budget = Budget::default();
        let at = |s: i64| RelayTime::from_ms(s * 1000);
        assert_eq!((0..2000).filter(|_| budget.take(at(0))).count(), AN_HOUR);
        assert!(!budget.take(at(3599)));
        assert!(budget.take(at(3600)));
    }
}
