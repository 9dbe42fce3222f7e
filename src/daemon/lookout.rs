//! Looks now and then at what no fact tells: how long mail has been waiting, who is silent, what is used of a limit, how
//! many were given up and why. And keeps the list of incidents over restarts.
//!
//! Invariant: the list is on the disk soon after it changed, and at the end; a look reads counts and one page of dead
//! letters, however long the queue is. Must not know: what opens and ends an incident.

use super::live::Rooms;
use crate::control::{ClientLive, Live};
use crate::fact::Incidents;
use crate::mail::{AccountId, Place, Progress, QueueId, QueuedMessage, RelayTime, State, WallTime};
use crate::policy::advice::Advice;
use crate::policy::incident::{Kind, Observation};
use crate::policy::verdict::judge;
use crate::queue::{Filter, Ledger, Notes, Queue, QueueError, Total};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The queue's note that has the list.
const NOTE: &str = "incidents";
/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Dead letters whose causes are looked at; of more, those counts are at least so many.
const DEAD_AT_ONCE: usize = 500;

/// What a look needs of the settings; replaced on reload.
#[derive(Debug, Clone)]
pub(super) struct Sights {
    /// From when on a message is late.
    pub(super) warn_after: Duration,
    /// Recipients in 24 hours by account; 0: no limit.
    pub(super) limits: Vec<(AccountId, Place, u32)>,
}

/// What is looked at, and where the list is kept.
pub(super) struct Lookout {
    pub(super) incidents: Arc<Incidents>,
    pub(super) rooms: Arc<Rooms>,
    pub(super) queue: Queue,
    pub(super) sights: watch::Receiver<Sights>,
}

/// Gives the list of the last run to `incidents`; what cannot be read begins anew.
pub(super) async fn resume(incidents: &Incidents, notes: &dyn Notes) {
    incidents.resume(notes.note(NOTE).await.ok().flatten().as_deref());
}

impl Lookout {
    /// Works until `stop` resolves.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.incidents.changes();
        let mut tick = tokio::time::interval(EVERY);
        let mut before = Before::default();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    // What cannot be read is read at the next look; the queue has told why.
                    let _ = self.look(&mut before).await;
                }
                Ok(()) = changes.changed() => self.keep().await,
                () = &mut stop => return self.keep().await,
            }
        }
    }

    /// A list that cannot be written is written with its next change: what opened one opens it again.
    async fn keep(&self) {
        let _ = self.queue.notes.set_note(NOTE, Some(self.incidents.kept())).await;
    }

    /// Who is silent; each is said once an hour.
    fn silence(&self, silent: &mut BTreeMap<String, WallTime>, now: WallTime) -> Vec<Observation> {
        let since: BTreeMap<String, WallTime> = self
            .rooms
            .clients()
            .into_iter()
            .filter(|c| c.is_silent)
            .filter_map(|c| Some((name(&c), c.last_seen_at?)))
            .collect();
        silent.retain(|subject, _| since.contains_key(subject));
        let is_due = |said: Option<&WallTime>| said.is_none_or(|at| now.as_ms() - at.as_ms() >= HOUR_MS);
        let mut seen = vec![];
        for (subject, since) in since {
            if is_due(silent.get(&subject)) {
                silent.insert(subject.clone(), now);
                seen.push(Observation::DeviceSilence { subject, silent_since: Some(since) });
            }
        }
        seen
    }

    /// Whether there is room, and what devices hear where there is none.
    fn room(&self) -> Vec<Observation> {
        let (health, Some(room)) = (&self.queue.health, self.queue.health.room()) else { return vec![] };
        let (free_bytes, min_free_bytes, directory) = (room.free_bytes, room.min_free_bytes, room.place);
        let refused = health.refusal().map(|why| Observation::QueueRefused {
            is_full: matches!(why, QueueError::Full(_)),
            said: why.to_string(),
            directory: directory.clone(),
        });
        let took = Observation::QueueTook;
        vec![Observation::DiskSpace { free_bytes, min_free_bytes, directory }, refused.unwrap_or(took)]
    }

    async fn look(&self, before: &mut Before) -> Result<(), QueueError> {
        let (sights, now) = (self.sights.borrow().clone(), WallTime::now());
        let totals = self.queue.ledger.totals().await?;
        let mut seen = vec![oldest(&totals, now, sights.warn_after)];
        seen.extend(self.room());
        let day_ago = RelayTime::from_ms(self.queue.clock.now().as_ms() - DAY_MS);
        for (account, _, limit) in &sights.limits {
            let served = self.queue.ledger.delivered_since(account, day_ago).await?;
            let used = served.iter().map(|(_, recipients)| u64::from(*recipients)).sum();
            seen.push(Observation::Recipients { account: account.clone(), used, limit: u64::from(*limit) });
        }
        seen.extend(self.silence(&mut before.silent, now));
        let causes = causes(self.queue.ledger.as_ref(), &totals).await?;
        // A cause that is gone says so once.
        let gone =
            before.given_up.iter().filter(|cause| !causes.contains_key(*cause)).cloned().collect::<Vec<_>>();
        let all = causes.iter().map(|(cause, found)| (cause.clone(), Some(found)));
        for ((account, advice), found) in all.chain(gone.into_iter().map(|cause| (cause, None))) {
            let smart_host = sights.limits.iter().find(|(id, ..)| *id == account);
            let Some((_, smart_host, _)) = smart_host else { continue };
            seen.push(Observation::GivenUp {
                account,
                smart_host: smart_host.clone(),
                advice,
                messages: found.map_or(0, |f| f.messages),
                example: found.map(|f| f.example.clone()),
            });
        }
        before.given_up = causes.keys().cloned().collect();
        self.incidents.see(now, seen);
        let is_known = |account: &str| sights.limits.iter().any(|(id, ..)| id.as_str() == account);
        let subjects: Vec<String> =
            causes.keys().map(|(account, advice)| subject(account, *advice)).collect();
        self.incidents.tidy(now, |kind, about| match kind {
            Kind::AccountHeld | Kind::AccountWaiting | Kind::PasswordStandsIn | Kind::RecipientsNearLimit => {
                !is_known(about)
            }
            Kind::DeviceSilent => !before.silent.contains_key(about),
            // Retried or removed while nobody looked.
            Kind::MessagesGivenUp => !subjects.iter().any(|s| s == about),
            _ => false,
        });
        Ok(())
    }
}

fn name(client: &ClientLive) -> String {
    client.address.map_or_else(|| client.name.clone(), |address| format!("{} ({address})", client.name))
}

/// What the last look saw.
#[derive(Default)]
struct Before {
    given_up: HashSet<Cause>,
    /// Silent devices, and when that was last said.
    silent: BTreeMap<String, WallTime>,
}

/// Whose messages were given up, and why.
type Cause = (AccountId, Option<Advice>);

struct Found {
    messages: u64,
    example: (QueueId, String),
}

fn subject(account: &AccountId, advice: Option<Advice>) -> String {
    format!("{account} {}", advice.map_or("unknown", |a| a.entry().slug))
}

fn oldest(totals: &[Total], now: WallTime, warn_after: Duration) -> Observation {
    let queued = || totals.iter().filter(|t| t.state == State::Queued);
    let waiting = queued().filter_map(|t| t.oldest).min().map(|oldest| {
        let age_ms = u64::try_from(now.as_ms() - oldest.as_ms()).unwrap_or(0);
        (Duration::from_millis(age_ms), queued().map(|t| t.messages).sum())
    });
    Observation::Oldest { waiting, warn_after }
}

/// The dead letters by cause.
async fn causes(ledger: &dyn Ledger, totals: &[Total]) -> Result<HashMap<Cause, Found>, QueueError> {
    let mut causes: HashMap<Cause, Found> = HashMap::new();
    if !totals.iter().any(|t| t.state == State::Dead && t.messages > 0) {
        return Ok(causes);
    }
    let filter = Filter { state: Some(State::Dead), limit: DEAD_AT_ONCE, ..Filter::default() };
    for message in ledger.list(filter, None).await?.messages {
        let found = causes
            .entry((message.account.clone(), advice(&message)))
            .or_insert_with(|| Found { messages: 0, example: (message.id, message.last_said.clone()) });
        found.messages += 1;
    }
    Ok(causes)
}

/// Of the first recipient that was given up.
fn advice(message: &QueuedMessage) -> Option<Advice> {
    message.recipients.iter().find_map(|r| match &r.progress {
        Progress::Failed(failure) => judge(failure).advice,
        _ => None,
    })
}
