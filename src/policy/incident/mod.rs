//! Incidents: what is wrong and lasts. One list, from which every surface says whether all is well.
//!
//! Invariant: an incident opens once, may change, and ends once; one cause is one incident, whatever repeats it. The
//! worst stands first. What opened it ends it, or a person who marks it as seen, or, where nothing can tell its end,
//! the time in which it was not repeated. Must not know: who is told, where the list is kept.
//!
//! | kind | severity | ends |
//! |---|---|---|
//! | `account_held` | needs you | the account works |
//! | `account_waiting` | waiting; needs you when it is probably a setting | the account works |
//! | `password_stands_in` | needs you | oauth works |
//! | `credential_ends` | warning; needs you in the last week | another credential is used |
//! | `recipients_near_limit` | warning | below 70 % |
//! | `messages_given_up` | needs you; information when only the address was wrong | none is left, or seen |
//! | `messages_late` | warning | none waits so long |
//! | `queue_refuses` | needs you | a message is taken |
//! | `disk_low` | warning | there is room |
//! | `device_refused` | warning | allowed, not repeated for a week, or seen |
//! | `device_silent` | warning | it sends |
//! | `configuration_not_taken` | needs you | taken |
//! | `sandbox` | warning, always first | - |
//! | `notice_failed` | warning | it works |

mod observation;
#[cfg(test)]
mod tests;

pub use observation::{NotTaken, Observation, Trouble};

use crate::mail::WallTime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A device that is refused and does not come again is forgotten after this.
const REFUSED_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Open incidents of one kind: a scan of the whole network must not make a list that nobody reads.
const MAX_OF_A_KIND: usize = 50;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Mail goes to the sandbox.
    Sandbox,
    /// A login is refused, or the like: only a person ends it.
    AccountHeld,
    /// An account has been backing off for long.
    AccountWaiting,
    /// OAuth fails and the password is used.
    PasswordStandsIn,
    /// Devices hear that the queue cannot take mail.
    QueueRefuses,
    /// The running relay does not have the configuration that was meant.
    ConfigurationNotTaken,
    /// Dead letters.
    MessagesGivenUp,
    /// A secret, certificate, sign-in or fallback ends.
    CredentialEnds,
    /// The day's recipients are nearly used up.
    RecipientsNearLimit,
    /// Mail waits longer than `warn_after`.
    MessagesLate,
    /// Free space comes to its limit.
    DiskLow,
    /// Somebody who may not relay tried to, or a device speaks in a way that cannot work.
    DeviceRefused,
    /// A device has fallen silent.
    DeviceSilent,
    /// A notice could not be delivered.
    NoticeFailed,
}

/// How bad it is; the worst is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing ends it but a person.
    NeedsYou,
    /// Mail waits; it may pass by itself.
    Waiting,
    /// It will be worse unless somebody looks.
    Warning,
    /// Worth knowing.
    Information,
}

/// What is said of an incident at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// What is wrong, one line, escaped.
    pub what: String,
    /// What it means, one line.
    pub meaning: String,
    /// What to do, each a line, most likely first.
    pub steps: Vec<String>,
    /// The name of its entry in the catalogue; may be empty.
    pub more: String,
}

/// One that is open, or has just ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name, never used again.
    pub id: String,
    /// What is wrong.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// The account, device, place or channel it is about.
    pub subject: String,
    /// When it began.
    pub since: WallTime,
    /// When it ended; while open, none.
    pub until: Option<WallTime>,
    /// When it was last met.
    pub last: WallTime,
    /// How often it was met, or how many it is about.
    pub count: u64,
    /// In words.
    #[serde(flatten)]
    pub words: Words,
    /// How far it had come when it was last met; further is worth telling again.
    #[serde(default)]
    news: u64,
}

impl Incident {
    /// Whether it is worth telling to who knows it as it was `before`.
    pub fn is_news_after(&self, before: &Self) -> bool {
        self.severity != before.severity || self.words.more != before.words.more || self.news > before.news
    }
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Opened(Incident),
    /// Its severity or its words are others.
    Changed(Incident),
    /// It is over.
    Recovered(Incident),
}

impl Change {
    /// The incident, as it is now.
    pub fn incident(&self) -> &Incident {
        match self {
            Self::Opened(incident) | Self::Changed(incident) | Self::Recovered(incident) => incident,
        }
    }
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidents {
    open: Vec<Incident>,
    /// Marked as seen: not opened again before its count is greater.
    #[serde(default)]
    seen: Vec<Seen>,
    next: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    kind: Kind,
    subject: String,
    count: u64,
    at: WallTime,
}

/// What an observation says of one incident.
enum Says {
    /// It is so. More `news` than before is worth telling although the severity is the same.
    Is { severity: Severity, count: Count, words: Words, news: u64 },
    /// It is not so any more.
    Over,
    /// It is so no more and worse has come in its place, which began when it did.
    GivesWay,
}

/// How an observation counts.
#[derive(Clone, Copy)]
enum Count {
    /// Once more.
    More,
    /// So many there are.
    Now(u64),
}

impl Incidents {
    /// The open ones, worst first, and of two equally bad ones the older. The sandbox stands before all.
    pub fn open(&self) -> &[Incident] {
        &self.open
    }

    /// The worst that is open.
    pub fn worst(&self) -> Option<Severity> {
        self.open.iter().map(|i| i.severity).min()
    }

    /// Takes one observation; says what changed.
    pub fn see(&mut self, now: WallTime, observation: &Observation) -> Vec<Change> {
        let (mut changes, mut since) = (vec![], now);
        for (kind, subject, says) in observation.says(now) {
            let change = match says {
                Says::Over => self.end(now, kind, &subject),
                Says::GivesWay => {
                    since = self.end(now, kind, &subject).map_or(since, |c| c.incident().since);
                    None
                }
                Says::Is { severity, count, words, news } => {
                    let new = Incident {
                        id: String::new(),
                        kind,
                        severity,
                        subject,
                        since,
                        until: None,
                        last: now,
                        count: 1,
                        words,
                        news,
                    };
                    self.is(new, count)
                }
            };
            changes.extend(change);
        }
        self.sort();
        changes
    }

    /// Ends what has not been repeated for long and nothing else can end.
    pub fn tick(&mut self, now: WallTime) -> Vec<Change> {
        let old = |at: WallTime| now.as_ms() - at.as_ms() >= in_ms(REFUSED_FOR);
        self.seen.retain(|s| s.kind != Kind::DeviceRefused || !old(s.at));
        let over: Vec<String> = self
            .open
            .iter()
            .filter(|i| i.kind == Kind::DeviceRefused && old(i.last))
            .map(|i| i.subject.clone())
            .collect();
        over.iter().filter_map(|subject| self.end(now, Kind::DeviceRefused, subject)).collect()
    }

    /// A person has seen it: it ends, and comes back only when it is met again. None when there is no such incident,
    /// or none that a person can end so.
    pub fn mark_as_seen(&mut self, now: WallTime, id: &str) -> Option<Change> {
        let incident = self.open.iter().find(|i| i.id == id)?;
        if !matches!(incident.kind, Kind::MessagesGivenUp | Kind::DeviceRefused) {
            return None;
        }
        let (kind, subject, count) = (incident.kind, incident.subject.clone(), incident.count);
        let change = self.end(now, kind, &subject);
        self.seen.push(Seen { kind, subject, count, at: now });
        change
    }

    /// Ends whatever is about a subject that is there no more, such as an account that was removed.
    pub fn forget(&mut self, now: WallTime, is_gone: impl Fn(Kind, &str) -> bool) -> Vec<Change> {
        let gone: Vec<(Kind, String)> = self
            .open
            .iter()
            .filter(|i| is_gone(i.kind, &i.subject))
            .map(|i| (i.kind, i.subject.clone()))
            .collect();
        gone.iter().filter_map(|(kind, subject)| self.end(now, *kind, subject)).collect()
    }

    fn is(&mut self, mut new: Incident, count: Count) -> Option<Change> {
        if let Some(open) = self.open.iter_mut().find(|i| i.kind == new.kind && i.subject == new.subject) {
            // Numbers and a server's tags differ every time: that alone is not worth a notice.
            let is_news =
                open.severity != new.severity || open.words.more != new.words.more || new.news > open.news;
            let count = match count {
                Count::More => open.count.saturating_add(1),
                Count::Now(n) => n,
            };
            *open = Incident { id: open.id.clone(), since: open.since, count, ..new };
            return is_news.then(|| Change::Changed(open.clone()));
        }
        if let Count::Now(n) = count {
            new.count = n;
        }
        if let Some(at) = self.seen.iter().position(|s| s.kind == new.kind && s.subject == new.subject) {
            if matches!(count, Count::Now(n) if n <= self.seen[at].count) {
                self.seen[at].count = new.count;
                return None;
            }
            self.seen.remove(at);
        }
        if self.open.iter().filter(|i| i.kind == new.kind).count() >= MAX_OF_A_KIND {
            return None;
        }
        self.next += 1;
        new.id = format!("i{}", self.next);
        self.open.push(new.clone());
        Some(Change::Opened(new))
    }

    fn end(&mut self, now: WallTime, kind: Kind, subject: &str) -> Option<Change> {
        self.seen.retain(|s| s.kind == Kind::DeviceRefused || s.kind != kind || s.subject != subject);
        let at = self.open.iter().position(|i| i.kind == kind && i.subject == subject)?;
        let mut incident = self.open.remove(at);
        incident.until = Some(now);
        Some(Change::Recovered(incident))
    }

    fn sort(&mut self) {
        self.open.sort_by_key(|i| (i.kind != Kind::Sandbox, i.severity, i.since, i.kind));
    }
}

fn in_ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}
