//! Who is told when a message is given up or late, and that a flood of failures does not become a flood of mail.
//!
//! Invariant: a notice about a message goes to people of ours only, the admins and a sender whom the account may use;
//! it has the null reverse-path and no peer, by which it is known, and is never answered by another;
//! its client is only a name for people, which an admin may give to a device's, too; at most `AN_HOUR` leave an
//! account an hour, what is beyond stands in the log and in `queue list --state dead`.
//! Must not know: the words of a notice (`letter::report` has them).

use super::settle::{Notify, Settled};
use super::{Account, Settings};
use crate::fact::dispatch::Fact;
use crate::letter::report::{self, Kind, Report, Written};
use crate::mail::{Failure, Mailbox, Place, Progress, QueueId, QueuedMessage, RelayTime, Sender, WallTime};
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
    /// The notices about a message.
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
        let to_us = (&self.account.sender, self.settings.notify.as_slice());
        let readers = readers(message, lease.body.head(), to_us, &self.settings.hostname);
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

/// Who is told of a message, each notice its readers: its sender, where he is one of ours and may be answered, and the
/// admins. What a notice says (a subject, recipients, addresses of the inner net) is for nobody else, and a sender is
/// what a device or whoever can reach it says.
fn readers(
    message: &QueuedMessage,
    head: &[u8],
    (ours, admins): (&Sender, &[Mailbox]),
    hostname: &str,
) -> Vec<Vec<Mailbox>> {
    if report::answers_us(head, hostname) {
        return vec![];
    }
    let sender = message.reverse_path.mailbox();
    let sender = sender.filter(|s| ours.is_ours(s) && report::may_answer(message, head));
    let admins = admins.iter().filter(|a| sender.is_none_or(|s| !s.is_same(a))).cloned().collect();
    let all = [sender.cloned().into_iter().collect(), admins];
    all.into_iter().filter(|to: &Vec<Mailbox>| !to.is_empty()).collect()
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
    use crate::dispatch::settle::tests::message;
    use crate::mail::ReversePath;

    /// What `readers` says: of a message from `from` (`<>`: none), with this head.
    fn told(from: &str, send_as: &[&str], head: &str) -> Vec<Vec<String>> {
        told_at("scanner@contoso.com", &["it@contoso.com"], from, send_as, head)
    }

    fn told_at(mailbox: &str, admins: &[&str], from: &str, send_as: &[&str], head: &str) -> Vec<Vec<String>> {
        let mut m = message(1, &["gone@contoso.com"]);
        m.reverse_path = match from {
            "<>" => ReversePath::Null,
            "ilo.@" => ReversePath::Unusable(from.to_owned()),
            from => ReversePath::Mailbox(from.parse().unwrap()),
        };
        let send_as = send_as.iter().map(|p| p.parse().unwrap()).collect();
        let sender = Sender { mailbox: mailbox.parse().unwrap(), send_as };
        let admins: Vec<Mailbox> = admins.iter().map(|a| a.parse().unwrap()).collect();
        let readers = readers(&m, head.as_bytes(), (&sender, &admins), "relay.contoso.local");
        readers.iter().map(|to| to.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn a_notice_goes_to_the_admins_and_to_a_sender_of_ours_and_to_nobody_else() {
        const NO_RIGHTS: &[&str] = &[];
        for (from, send_as, is_told, why) in [
            ("copier@contoso.com", NO_RIGHTS, true, "the mailbox's domain"),
            ("copier@CONTOSO.com", NO_RIGHTS, true, "in any case"),
            ("scanner@contoso.com", NO_RIGHTS, true, "the mailbox itself"),
            ("hp@branch.example", &["*@branch.example"], true, "it may be used"),
            ("hp@branch.example", &["*"], true, "all may be used"),
            ("hp@branch.example", &["ann@branch.example"], false, "another there may be used"),
            ("copier@old.example", NO_RIGHTS, false, "a domain of others"),
            ("copier@old.example", &["*@contoso.com"], false, "the rights are for another domain"),
            ("copier@print.contoso.com", NO_RIGHTS, false, "a domain below may be anybody's"),
            ("copier@contoso.com.old.example", NO_RIGHTS, false, "it only begins so"),
            ("copier@notcontoso.com", NO_RIGHTS, false, "it only ends so"),
            ("copier@com", NO_RIGHTS, false, "the domain above"),
            ("copier@printserver", &["*"], false, "no public domain"),
            ("copier@[10.0.5.7]", &["*"], false, "a literal"),
            ("<>", &["*"], false, "nobody"),
            ("ilo.@", &["*"], false, "no address"),
        ] {
            let told = told(from, send_as, "Subject: scan\r\n\r\n");
            let admins = vec!["it@contoso.com".to_owned()];
            let expected = if is_told { vec![vec![from.to_owned()], admins] } else { vec![admins] };
            let lower = |all: Vec<Vec<String>>| format!("{all:?}").to_lowercase();
            assert_eq!(lower(told), lower(expected), "{from}: {why}");
        }
        let in_ascii = told_at("scanner@b\u{fc}ro.example", &[], "copier@xn--bro-hoa.example", &[], "");
        assert_eq!(in_ascii, [["copier@xn--bro-hoa.example"]], "the same domain, written otherwise");
        let none: [[&str; 1]; 0] = [];
        assert_eq!(told_at("scanner@contoso.com", &[], "copier@old.example", &[], ""), none);
        let admins = &["it@partner.example", "boss@contoso.com"];
        for from in ["boss@contoso.com", "it@partner.example"] {
            let told = told_at("scanner@contoso.com", admins, from, &[], "").concat();
            assert_eq!(told.len(), 2, "an admin is told once: {told:?}");
        }
    }

    #[test]
    fn a_notice_is_never_an_answer_to_a_machine_and_never_goes_round() {
        let admins = [["it@contoso.com"]];
        for head in [
            "Auto-Submitted: auto-generated\r\n",
            "Precedence: bulk\r\n",
            "List-Id: <x.contoso.com>\r\n",
            "X-Auto-Response-Suppress: DR, NDR, OOF\r\n",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
            // An answer of a machine, to somebody else's mail.
            "Auto-Submitted: auto-replied\r\nIn-Reply-To: <1@pc.contoso.com>\r\n",
        ] {
            assert_eq!(told("copier@contoso.com", &[], head), admins, "{head}");
        }
        for from in ["MAILER-DAEMON@contoso.com", "owner-news@contoso.com", "news-request@contoso.com"] {
            assert_eq!(told(from, &[], ""), admins, "{from}");
        }
        // The ticket system at the admins' address confirms our notice through this relay, and that fails.
        for head in [
            "Auto-Submitted: auto-replied\r\nIn-Reply-To: <000000000002E@relay.contoso.local>\r\n",
            "Precedence: bulk\r\nReferences: <1@x>\r\n <000000000002E@Relay.contoso.local>\r\n",
        ] {
            assert_eq!(told("tickets@contoso.com", &[], head), [[""; 0]; 0], "{head}");
        }
        // A person's answer to a notice is a message like any other.
        let by_a_person = "In-Reply-To: <000000000002E@relay.contoso.local>\r\n";
        assert_eq!(told("ann@contoso.com", &[], by_a_person).len(), 2);
    }

    #[test]
    fn a_flood_of_failures_does_not_become_a_flood_of_mail() {
        let mut budget = Budget::default();
        let at = |s: i64| RelayTime::from_ms(s * 1000);
        assert_eq!((0..2000).filter(|_| budget.take(at(0))).count(), AN_HOUR);
        assert!(!budget.take(at(3599)));
        assert!(budget.take(at(3600)));
    }
}
