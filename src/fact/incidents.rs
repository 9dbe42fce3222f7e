//! The observer that keeps the list of what is wrong and lasts.
//!
//! Invariant: the list is changed by what is seen and by nothing else; whoever shows it, tells of it or keeps it over a
//! restart takes it from here. What ends an incident costs a message nothing while there is none. Must not know: what
//! opens and ends an incident (`policy::incident` does), where the list is kept, who is told.

use super::{At, Fact, Observer, daemon, dispatch, notify, queue, receive, submit, token};
use crate::mail::WallTime;
use crate::policy::incident::{Change, Incident, Incidents as List, Kind, NotTaken, Observation, Trouble};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A channel that fails for shorter than this is retried, and nobody need know.
const CHANNEL_FAILS: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 86_400_000;

/// The open incidents of one relay.
pub struct Incidents {
    state: Mutex<State>,
    /// A bit for each kind that has an open incident.
    kinds: AtomicU32,
    open: watch::Sender<Arc<[Incident]>>,
}

#[derive(Default)]
struct State {
    list: List,
    /// What was seen before the list of the last run was there.
    early: Option<Vec<(WallTime, Observation)>>,
    /// The queue's.
    directory: PathBuf,
}

impl Default for Incidents {
    fn default() -> Self {
        Self::new()
    }
}

impl Incidents {
    /// None is open. What is seen waits for `resume`.
    pub fn new() -> Self {
        let state = State { early: Some(vec![]), ..State::default() };
        Self { state: Mutex::new(state), kinds: AtomicU32::new(0), open: watch::Sender::new(Arc::default()) }
    }

    /// Goes on with the list of the last run, as `kept` gave it; none: there was none, or nobody can read it.
    pub fn resume(&self, kept: Option<&str>) {
        let mut state = self.lock();
        let list: Option<List> = kept.and_then(|json| serde_json::from_str(json).ok());
        state.list = list.unwrap_or_default();
        let early = state.early.take().unwrap_or_default();
        for (at, observation) in &early {
            state.list.see(*at, observation);
        }
        self.publish(&state);
    }

    /// The list, for the next run.
    pub fn kept(&self) -> String {
        serde_json::to_string(&self.lock().list).expect("a list of text and numbers")
    }

    /// Takes what somebody saw who looks at how things stand.
    pub fn see(&self, now: WallTime, observations: impl IntoIterator<Item = Observation>) {
        let mut state = self.lock();
        let mut changes: Vec<Change> = vec![];
        for observation in observations {
            match &mut state.early {
                Some(early) => early.push((now, observation)),
                None => changes.extend(state.list.see(now, &observation)),
            }
        }
        if !changes.is_empty() {
            self.publish(&state);
        }
    }

    /// Ends what has not been repeated for long, and what is about something that is there no more.
    pub fn tidy(&self, now: WallTime, is_gone: impl Fn(Kind, &str) -> bool) {
        let mut state = self.lock();
        let mut changes = state.list.tick(now);
        changes.extend(state.list.forget(now, is_gone));
        if !changes.is_empty() {
            self.publish(&state);
        }
    }

    /// A person has seen it, and it is not told again before it comes back.
    pub fn mark_as_seen(&self, now: WallTime, kind: Kind, subject: &str) {
        let mut state = self.lock();
        let id =
            state.list.open().iter().find(|i| i.kind == kind && i.subject == subject).map(|i| i.id.clone());
        if id.is_some_and(|id| state.list.mark_as_seen(now, &id).is_some()) {
            self.publish(&state);
        }
    }

    /// The open ones, worst first.
    pub fn open(&self) -> Vec<Incident> {
        self.lock().list.open().to_vec()
    }

    /// The same whenever one has opened, changed or ended.
    pub fn changes(&self) -> watch::Receiver<Arc<[Incident]>> {
        self.open.subscribe()
    }

    fn publish(&self, state: &State) {
        let open = state.list.open();
        self.kinds.store(open.iter().fold(0, |bits, i| bits | bit(i.kind)), Ordering::Relaxed);
        self.open.send_replace(open.into());
    }

    /// Whether one of these is open, or may be.
    fn has_any(&self, kinds: &[Kind]) -> bool {
        let wanted = kinds.iter().fold(0, |bits, kind| bits | bit(*kind));
        self.kinds.load(Ordering::Relaxed) & wanted != 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

impl Observer for Incidents {
    fn saw(&self, at: At, fact: &Fact) {
        let ends: &[Kind] = match fact {
            Fact::Receive(receive::Fact::Queued { .. }) => &[Kind::QueueRefuses, Kind::DeviceRefused],
            Fact::Dispatch(told) if works(told) => &[Kind::AccountHeld, Kind::AccountWaiting],
            Fact::Submit(submit::Fact::TokenAccepted { .. }) => &[Kind::PasswordStandsIn],
            Fact::Notify(notify::Fact::Sent { .. }) => &[Kind::NoticeFailed],
            _ => &[],
        };
        if !ends.is_empty() && !self.has_any(ends) {
            return;
        }
        let seen = match fact {
            Fact::Queue(queue::Fact::Opened { directory }) => {
                self.lock().directory.clone_from(directory);
                return;
            }
            Fact::Dispatch(dispatch::Told {
                fact: dispatch::Fact::SettlementRefused { why, is_full, .. },
                ..
            }) => {
                let directory = self.lock().directory.clone();
                vec![Observation::QueueRefused { is_full: *is_full, said: why.clone(), directory }]
            }
            Fact::Receive(receive::Fact::QueueRefused { why, unable, .. }) => {
                let directory = self.lock().directory.clone();
                let is_full = match unable {
                    receive::Unable::NoSpace => true,
                    receive::Unable::Failed => false,
                    receive::Unable::Stopping => return,
                };
                vec![Observation::QueueRefused { is_full, said: why.clone(), directory }]
            }
            fact => observations(at.wall, fact),
        };
        if !seen.is_empty() {
            self.see(at.wall, seen);
        }
    }
}

fn works(told: &dispatch::Told) -> bool {
    use dispatch::Fact::{Delivered, Recovered, TakenInPart};
    matches!(told.fact, Delivered { .. } | TakenInPart { .. } | Recovered { .. })
}

/// What a fact says of incidents; most say nothing.
fn observations(now: WallTime, fact: &Fact) -> Vec<Observation> {
    match fact {
        Fact::Receive(fact) => of_device(fact),
        Fact::Dispatch(told) => of_account(told),
        Fact::Token(token::Fact::CredentialExpires { account, client_id, expiry, now }) => {
            vec![Observation::Credential {
                subject: format!("{account} {}", expiry.what),
                what: expiry.words(account, *now),
                steps: vec![
                    format!(
                        "add the next one in the entra admin center > App registrations > {client_id} > Certificates & \
                         secrets"
                    ),
                    expiry.hint().to_owned(),
                ],
                days_left: expiry.days_left(*now),
            }]
        }
        Fact::Submit(submit::Fact::PasswordStandsIn { account, why, until }) => {
            // That day counts to its end, in UTC.
            let end = until.in_tz("UTC").map_or(i64::MAX, |day| day.timestamp().as_millisecond());
            vec![Observation::PasswordStandsIn {
                account: account.clone(),
                said: why.clone(),
                until: until.to_string(),
                days_left: end.saturating_add(DAY_MS).saturating_sub(now.as_ms()).div_euclid(DAY_MS),
            }]
        }
        Fact::Submit(submit::Fact::TokenAccepted { account }) => {
            vec![Observation::OAuthWorks(account.clone())]
        }
        Fact::Notify(notify::Fact::Failed { channel, said, lasting }) if *lasting >= CHANNEL_FAILS => {
            vec![Observation::NoticeFailed { channel: channel.clone(), said: said.clone() }]
        }
        Fact::Notify(notify::Fact::Sent { channel, .. }) => {
            vec![Observation::NoticeDelivered { channel: channel.clone() }]
        }
        Fact::Daemon(fact) => of_configuration(fact),
        Fact::Queue(_) | Fact::Token(_) | Fact::Submit(_) | Fact::Notify(_) => vec![],
    }
}

fn of_device(fact: &receive::Fact) -> Vec<Observation> {
    use receive::Fact::{EndOfDataMissing, MessageRefused, Queued, RelayRefused, TlsOnPlainPort};
    let refused = |address: IpAddr, did: &str, step: &str| {
        vec![Observation::DeviceRefused { address, did: did.to_owned(), steps: vec![step.to_owned()] }]
    };
    match fact {
        RelayRefused { peer, .. } => {
            let step = format!(
                "if it is yours: mailferry allow {peer} --as CLIENT; if not: mailferry devices seen {peer}"
            );
            refused(*peer, "tried to relay and is in no client's network", &step)
        }
        TlsOnPlainPort { peer, .. } => {
            refused(*peer, "speaks tls on a plain port", "turn tls off at the device")
        }
        MessageRefused { peer, reply, .. } => {
            let did = format!("sent a message that was refused: {}", reply.trim_end());
            refused(*peer, &did, "see what it sent and what is allowed: mailferry status")
        }
        EndOfDataMissing { peer, lf_dot_lf: true, .. } => refused(
            *peer,
            "never ended a message as the standard says: it ends lines in lf alone",
            "set line_endings = \"lf\" for its [[client]], then: systemctl reload mailferry",
        ),
        EndOfDataMissing { peer, .. } => {
            refused(*peer, "fell silent inside a message", "look for a firmware update of the device")
        }
        Queued { peer, .. } => vec![Observation::QueueTook, Observation::DeviceWelcome(*peer)],
        _ => vec![],
    }
}

fn of_account(told: &dispatch::Told) -> Vec<Observation> {
    use dispatch::Fact::{Held, Persistent, StillOut};
    let account = &told.account;
    if works(told) {
        return vec![Observation::AccountWorks(account.clone())];
    }
    let (Held { said, advice, remedy, .. }
    | Persistent { said, advice, remedy, .. }
    | StillOut { said, advice, remedy, .. }) = &told.fact
    else {
        return vec![];
    };
    let Some(smart_host) = told.place.clone() else { return vec![] };
    let trouble = Trouble {
        account: account.clone(),
        smart_host,
        said: said.clone(),
        advice: *advice,
        remedy: remedy.clone(),
    };
    vec![match told.fact {
        Held { .. } => Observation::AccountHeld(trouble),
        Persistent { .. } => Observation::AccountWaits { trouble, is_setting: true },
        _ => Observation::AccountWaits { trouble, is_setting: false },
    }]
}

fn of_configuration(fact: &daemon::Fact) -> Vec<Observation> {
    use daemon::Fact::{
        CertificateEnds, ConfigurationChanged, ReloadRefused, Reloaded, RestartNeeded, Sandboxed, Started,
    };
    let not = |why, what: String, step: &str| Observation::ConfigurationNotTaken {
        why,
        what,
        step: step.to_owned(),
    };
    let taken = Observation::ConfigurationTaken;
    let and_reload = "mailferry check, then: systemctl reload mailferry";
    match fact {
        Started { .. } | Reloaded => {
            vec![taken(NotTaken::Changed), taken(NotTaken::Refused), taken(NotTaken::Restart)]
        }
        RestartNeeded { keys } => vec![
            taken(NotTaken::Changed),
            taken(NotTaken::Refused),
            not(
                NotTaken::Restart,
                format!("new values count only after a restart: {}", keys.join(", ")),
                "systemctl restart mailferry",
            ),
        ],
        ReloadRefused { problem } => {
            let what = format!("the configuration was not reloaded: {problem}");
            vec![not(NotTaken::Refused, what, and_reload)]
        }
        ConfigurationChanged { path } => {
            let what = format!("{} was changed and is not loaded", path.display());
            vec![not(NotTaken::Changed, what, and_reload)]
        }
        Sandboxed { .. } => vec![Observation::Sandbox],
        CertificateEnds { listener, expiry, now } => vec![Observation::Credential {
            subject: format!("listener {listener}"),
            what: expiry.words(&format_args!("listener {listener}"), *now),
            steps: vec![expiry.hint().to_owned()],
            days_left: expiry.days_left(*now),
        }],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Witness, tests::samples};
    use crate::policy::incident::Severity;

    /// A list that has begun, and who tells it.
    fn list() -> (Arc<Incidents>, Witness) {
        let incidents = Arc::new(Incidents::new());
        incidents.resume(None);
        let witness = Witness::new([Arc::clone(&incidents) as Arc<dyn Observer>]);
        (incidents, witness)
    }

    fn fact(event: &str) -> Fact {
        samples::all().into_iter().find(|f| f.event() == event).expect(event)
    }

    fn kinds(incidents: &Incidents) -> Vec<Kind> {
        incidents.open().iter().map(|i| i.kind).collect()
    }

    #[test]
    fn each_fact_opens_its_incident_and_another_ends_it() {
        for (opens, kind, severity, ends) in [
            ("account_held", Kind::AccountHeld, Severity::NeedsYou, Some("delivered")),
            ("account_misconfigured", Kind::AccountWaiting, Severity::NeedsYou, Some("account_recovered")),
            ("account_waiting", Kind::AccountWaiting, Severity::Waiting, Some("taken_in_part")),
            ("password_stands_in", Kind::PasswordStandsIn, Severity::NeedsYou, Some("token_accepted")),
            ("credential_expires", Kind::CredentialEnds, Severity::NeedsYou, None),
            ("queue_refused", Kind::QueueRefuses, Severity::NeedsYou, Some("queued")),
            ("relay_refused", Kind::DeviceRefused, Severity::Warning, Some("queued")),
            ("tls_on_plain_port", Kind::DeviceRefused, Severity::Warning, Some("queued")),
            ("message_refused", Kind::DeviceRefused, Severity::Warning, Some("queued")),
            ("end_of_data_missing", Kind::DeviceRefused, Severity::Warning, Some("queued")),
            ("reload_refused", Kind::ConfigurationNotTaken, Severity::NeedsYou, Some("reloaded")),
            ("restart_needed", Kind::ConfigurationNotTaken, Severity::NeedsYou, Some("started")),
            (
                "configuration_changed",
                Kind::ConfigurationNotTaken,
                Severity::NeedsYou,
                Some("restart_needed"),
            ),
            ("sandboxed", Kind::Sandbox, Severity::Warning, None),
            ("notice_failed", Kind::NoticeFailed, Severity::Warning, Some("notice_sent")),
        ] {
            let (incidents, witness) = list();
            witness.tell(fact(opens));
            witness.tell(fact(opens));
            let open = incidents.open();
            assert_eq!(
                open.iter().map(|i| (i.kind, i.severity)).collect::<Vec<_>>(),
                [(kind, severity)],
                "{opens}"
            );
            assert_eq!(open[0].count, 2, "{opens}: one cause is one incident");
            if let Some(ends) = ends {
                witness.tell(fact(ends));
                assert!(!incidents.open().iter().any(|i| i.id == open[0].id), "{ends} ends {opens}");
            }
        }
    }

    #[test]
    fn most_facts_open_nothing() {
        let quiet =
            ["queued", "delivered", "deferred", "account_backing_off", "connected", "queue_committed"];
        let (incidents, witness) = list();
        quiet.into_iter().for_each(|event| witness.tell(fact(event)));
        assert_eq!(incidents.open(), []);
    }

    #[test]
    fn what_was_seen_before_the_list_of_the_last_run_was_read_counts_too() {
        let (before, witness) = list();
        witness.tell(fact("account_held"));
        let (incidents, kept) = (Arc::new(Incidents::new()), before.kept());
        let witness = Witness::new([Arc::clone(&incidents) as Arc<dyn Observer>]);
        witness.tell(fact("sandboxed"));
        assert_eq!(incidents.open(), [], "not yet");
        incidents.resume(Some(&kept));
        assert_eq!(kinds(&incidents), [Kind::Sandbox, Kind::AccountHeld]);
        assert_eq!(incidents.open()[1], before.open()[0], "the same one");
        witness.tell(fact("delivered"));
        assert_eq!(kinds(&incidents), [Kind::Sandbox]);
        incidents.resume(Some("no list"));
        assert_eq!(incidents.open(), []);
    }

    #[test]
    fn whoever_tells_of_them_hears_of_each_change_and_of_nothing_else() {
        let (incidents, witness) = list();
        let mut changes = incidents.changes();
        changes.borrow_and_update();
        witness.tell(fact("queued"));
        assert!(!changes.has_changed().unwrap());
        witness.tell(fact("account_waiting"));
        assert_eq!(changes.borrow_and_update().len(), 1);
        witness.tell(fact("account_waiting"));
        assert!(!changes.has_changed().unwrap(), "the same again is no news");
        witness.tell(fact("account_misconfigured"));
        assert_eq!(changes.borrow_and_update()[0].severity, Severity::NeedsYou);
        witness.tell(fact("account_recovered"));
        assert!(changes.borrow_and_update().is_empty());
    }

    #[test]
    fn who_is_marked_as_seen_is_not_told_again_before_coming_back() {
        let (incidents, witness) = list();
        witness.tell(fact("relay_refused"));
        let subject = incidents.open()[0].subject.clone();
        incidents.mark_as_seen(WallTime::from_ms(0), Kind::DeviceRefused, &subject);
        assert_eq!(incidents.open(), []);
        witness.tell(fact("relay_refused"));
        assert_eq!(kinds(&incidents), [Kind::DeviceRefused]);
    }

    #[test]
    fn a_stop_is_no_incident_and_neither_is_a_channel_that_fails_for_a_moment() {
        let (incidents, witness) = list();
        let Fact::Receive(receive::Fact::QueueRefused { peer, client, why, .. }) = fact("queue_refused")
        else {
            unreachable!()
        };
        let unable = receive::Unable::Stopping;
        witness.tell(receive::Fact::QueueRefused { peer, client, why, unable });
        let lasting = Duration::from_secs(59 * 60);
        witness.tell(notify::Fact::Failed { channel: "mail".into(), said: "busy".into(), lasting });
        assert_eq!(incidents.open(), []);
    }
}
