//! What one channel has yet to tell. Pure.
//!
//! Invariant: it looks at the list, not at its changes, so nothing is lost between a change and a restart. What was
//! not told while the channel was out of order is told when it works, even when it is over by then. Must not know:
//! what kind of channel it is.

use crate::mail::{RelayTime, WallTime};
use crate::policy::incident::{Incident, Kind, Severity};
use crate::policy::schedule;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// About one incident at most one message within this.
const HOUR: Duration = Duration::from_secs(3600);
/// What opens together is told together.
const GATHER: Duration = Duration::from_secs(3);
/// After a message, so long for the next one to gather.
const PAUSE: Duration = Duration::from_secs(60);
const DELAYS: [Duration; 6] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(900),
];
/// Remembered, open and over; the list itself is bounded by kind.
const MAX: usize = 1000;

/// What happened to an incident, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Opened,
    Changed,
    Recovered,
}

/// One to be told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) event: Event,
    pub(super) incident: Incident,
    /// So many messages waited at most while it lasted.
    pub(super) most_waiting: u64,
}

/// An incident as far as this channel knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    incident: Incident,
    /// When it was first seen here.
    seen_at: RelayTime,
    /// When it was last told, and what of it.
    told: Option<(RelayTime, Incident)>,
    most_waiting: u64,
    /// Its end has been told, or needs no telling.
    is_done: bool,
}

impl Known {
    fn is_over(&self) -> bool {
        self.incident.until.is_some()
    }

    fn is_about(&self, other: &Incident) -> bool {
        self.incident.kind == other.kind && self.incident.subject == other.subject
    }
}

/// What a channel remembers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outbox {
    known: Vec<Known>,
    last_sent: Option<RelayTime>,
    /// Since when nothing gets through, and how often it was tried.
    failing: Option<(RelayTime, u32)>,
    not_before: RelayTime,
}

impl Outbox {
    /// Looks at the list. True: something is to be remembered.
    pub(super) fn look(&mut self, now: RelayTime, wall: WallTime, open: &[Incident], waiting: u64) -> bool {
        let mut is_other = false;
        for known in self.known.iter_mut().filter(|k| !k.is_over()) {
            match open.iter().find(|i| i.id == known.incident.id) {
                Some(incident) => {
                    if known.most_waiting < waiting {
                        known.most_waiting = waiting;
                    }
                    is_other |= incident.is_news_after(&known.incident);
                    known.incident = incident.clone();
                }
                None => {
                    known.incident.until = Some(wall);
                    is_other = true;
                }
            }
        }
        for incident in open.iter().filter(|i| is_told(i)) {
            if !self.known.iter().any(|k| k.incident.id == incident.id) && self.known.len() < MAX {
                let incident = incident.clone();
                let (told, is_done) = (None, false);
                self.known.push(Known { incident, seen_at: now, told, most_waiting: waiting, is_done });
                is_other = true;
            }
        }
        self.forget(now);
        is_other
    }

    /// What was told within the hour is kept when it is over: should it come again at once, that waits.
    fn forget(&mut self, now: RelayTime) {
        for at in 0..self.known.len() {
            let this = &self.known[at];
            if this.is_over() && this.told.is_none() && self.was_told_within_the_hour(at, now) {
                self.known[at].is_done = true;
            }
        }
        let recent = |k: &Known| k.told.as_ref().is_some_and(|(at, _)| now.since(*at) < HOUR);
        self.known.retain(|k| !k.is_done || recent(k));
    }

    /// Another one about the same was told within the hour.
    fn was_told_within_the_hour(&self, at: usize, now: RelayTime) -> bool {
        self.last_told_of_another(at).is_some_and(|told| now.since(told) < HOUR)
    }

    fn last_told_of_another(&self, at: usize) -> Option<RelayTime> {
        let this = &self.known[at].incident;
        let others = self.known.iter().enumerate().filter(|(n, k)| *n != at && k.is_about(this));
        others.filter_map(|(_, k)| k.told.as_ref().map(|(at, _)| *at)).max()
    }

    /// When this one may be told, if there is anything to tell.
    fn due_at(&self, at: usize) -> Option<(RelayTime, Event)> {
        let known = &self.known[at];
        if known.is_done {
            return None;
        }
        match &known.told {
            _ if known.is_over() => Some((known.seen_at, Event::Recovered)),
            None => {
                let again = self.last_told_of_another(at).map(|told| told + HOUR);
                Some((again.unwrap_or_default().max(known.seen_at + GATHER), Event::Opened))
            }
            Some((told_at, told)) if known.incident.is_news_after(told) => {
                Some((*told_at + HOUR, Event::Changed))
            }
            Some(_) => None,
        }
    }

    /// What may be told now, worst first; empty: nothing.
    pub(super) fn due(&self, now: RelayTime) -> Vec<Item> {
        if now < self.open_at() {
            return vec![];
        }
        let due = |at: usize| self.due_at(at).filter(|(t, _)| *t <= now).map(|(_, event)| (at, event));
        let mut items: Vec<Item> = (0..self.known.len())
            .filter_map(due)
            .map(|(at, event)| {
                let known = &self.known[at];
                Item { event, incident: known.incident.clone(), most_waiting: known.most_waiting }
            })
            .collect();
        items.sort_by_key(|i| (i.incident.severity, i.incident.since));
        items
    }

    /// When to look again, if only time changes anything.
    pub(super) fn wake_at(&self) -> Option<RelayTime> {
        let next = (0..self.known.len()).filter_map(|at| self.due_at(at)).map(|(t, _)| t).min()?;
        Some(next.max(self.open_at()))
    }

    fn open_at(&self) -> RelayTime {
        self.last_sent.map_or(self.not_before, |t| (t + PAUSE).max(self.not_before))
    }

    /// They were told.
    pub(super) fn sent(&mut self, now: RelayTime, items: &[Item]) {
        (self.last_sent, self.failing, self.not_before) = (Some(now), None, now);
        for item in items {
            if let Some(known) = self.known.iter_mut().find(|k| k.incident.id == item.incident.id) {
                known.told = Some((now, item.incident.clone()));
                known.is_done = item.event == Event::Recovered;
            }
        }
    }

    /// They could not be told. How long that has been so.
    pub(super) fn failed(&mut self, now: RelayTime, jitter: f64) -> Duration {
        let (since, times) = self.failing.unwrap_or((now, 0));
        self.failing = Some((since, times + 1));
        self.not_before = now + schedule::delay(&DELAYS, times + 1, jitter);
        now.since(since)
    }
}

/// The sandbox is no news to who started it; a wrong address is told to its sender.
fn is_told(incident: &Incident) -> bool {
    incident.kind != Kind::Sandbox && incident.severity != Severity::Information
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{AccountId, Place};
    use crate::policy::advice::Advice;
    use crate::policy::incident::{Incidents, NotTaken, Observation, Trouble};

    struct Scene {
        incidents: Incidents,
        outbox: Outbox,
        works: bool,
        sent: Vec<(i64, Vec<(Event, Kind)>)>,
        now_s: i64,
    }

    impl Scene {
        fn new() -> Self {
            let (incidents, outbox) = (Incidents::default(), Outbox::default());
            Self { incidents, outbox, works: true, sent: vec![], now_s: 0 }
        }

        fn see(&mut self, observation: &Observation) {
            self.incidents.see(WallTime::from_ms(self.now_s * 1000), observation);
        }

        /// Lets so many seconds pass, looking once a second; over a restart each time.
        fn pass(&mut self, seconds: i64) {
            for _ in 0..seconds {
                let (now, wall) =
                    (RelayTime::from_ms(self.now_s * 1000), WallTime::from_ms(self.now_s * 1000));
                self.outbox.look(now, wall, self.incidents.open(), 7);
                let due = self.outbox.due(now);
                if !due.is_empty() && self.works {
                    self.outbox.sent(now, &due);
                    let told = due.iter().map(|i| (i.event, i.incident.kind)).collect();
                    self.sent.push((self.now_s, told));
                } else if !due.is_empty() {
                    self.outbox.failed(now, 0.5);
                }
                let json = serde_json::to_string(&self.outbox).unwrap();
                self.outbox = serde_json::from_str(&json).unwrap();
                self.now_s += 1;
            }
        }
    }

    fn account(n: u32) -> AccountId {
        AccountId::new(format!("a{n}@contoso.com"))
    }

    fn waits(n: u32, is_setting: bool) -> Observation {
        let trouble = Trouble {
            account: account(n),
            smart_host: Place::known("smtp.office365.com", 587),
            said: "451 PRX4".to_owned(),
            advice: Some(Advice::Proxy),
            remedy: vec![],
        };
        Observation::AccountWaits { trouble, is_setting }
    }

    fn works(n: u32) -> Observation {
        Observation::AccountWorks(account(n))
    }

    use Event::{Changed, Opened, Recovered};
    use Kind::AccountWaiting;

    #[test]
    fn an_incident_is_told_at_once_and_its_end_with_how_many_waited() {
        let mut scene = Scene::new();
        scene.see(&waits(1, false));
        scene.pass(600);
        scene.see(&works(1));
        scene.pass(600);
        assert_eq!(
            scene.sent,
            [(3, vec![(Opened, AccountWaiting)]), (600, vec![(Recovered, AccountWaiting)])]
        );
    }

    #[test]
    fn a_flood_is_one_digest() {
        let mut scene = Scene::new();
        for n in 0..40 {
            scene.see(&waits(n, true));
        }
        scene.pass(30);
        for n in 40..45 {
            scene.see(&waits(n, true));
        }
        scene.pass(300);
        let sizes: Vec<(i64, usize)> = scene.sent.iter().map(|(at, told)| (*at, told.len())).collect();
        assert_eq!(sizes, [(3, 40), (63, 5)]);
    }

    #[test]
    fn a_change_waits_for_its_hour() {
        let mut scene = Scene::new();
        scene.see(&waits(1, false));
        scene.pass(600);
        scene.see(&waits(1, true));
        scene.pass(7200);
        assert_eq!(
            scene.sent,
            [(3, vec![(Opened, AccountWaiting)]), (3603, vec![(Changed, AccountWaiting)])]
        );
    }

    #[test]
    fn what_flaps_is_told_once_an_hour() {
        let mut scene = Scene::new();
        for _ in 0..20 {
            scene.see(&waits(1, false));
            scene.pass(150);
            scene.see(&works(1));
            scene.pass(150);
        }
        assert!((3..=4).contains(&scene.sent.len()), "{:?}", scene.sent);
    }

    #[test]
    fn what_could_not_be_told_is_told_when_the_channel_works_though_it_is_over() {
        let mut scene = Scene::new();
        scene.works = false;
        scene.see(&waits(1, true));
        scene.pass(3 * 3600);
        scene.see(&works(1));
        scene.pass(60);
        scene.works = true;
        scene.pass(1000);
        let [(_, told)] = &scene.sent[..] else { panic!("{:?}", scene.sent) };
        assert_eq!(*told, [(Recovered, AccountWaiting)]);
    }

    #[test]
    fn a_channel_that_fails_is_tried_seldom() {
        let mut scene = Scene::new();
        scene.works = false;
        scene.see(&waits(1, true));
        scene.pass(4);
        let mut outbox = scene.outbox.clone();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let at = outbox.wake_at().unwrap();
            last = outbox.failed(at, 0.5);
        }
        assert!(last > Duration::from_secs(3 * 3600), "{last:?}");
    }

    #[test]
    fn a_mistyped_address_and_the_sandbox_are_no_notices() {
        let mut scene = Scene::new();
        scene.see(&Observation::Sandbox);
        scene.see(&Observation::GivenUp {
            account: account(1),
            smart_host: Place::known("smtp.office365.com", 587),
            advice: Some(Advice::NoSuchRecipient),
            messages: 3,
            example: None,
        });
        scene.pass(600);
        assert!(scene.sent.is_empty(), "{:?}", scene.sent);
        scene.see(&Observation::ConfigurationNotTaken {
            why: NotTaken::Changed,
            what: "the file changed".to_owned(),
            step: "reload".to_owned(),
        });
        scene.pass(10);
        assert_eq!(scene.sent.len(), 1);
    }
}
