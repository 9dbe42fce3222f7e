//! What is said about the relay, as JSON between server and client: one set of types for both ends.
//!
//! Invariant: moments are RFC 3339 in UTC, other quantities name their unit; every text of a peer is escaped.
//! `sentence` is the one line that says whether a human is needed. Must not know: sockets, terminals.

use super::{AccountLive, ClientLive};
use crate::mail::{
    AccountId, Attempt, Escaped, Progress, QueueId, QueuedMessage, RelayTime, ReversePath, Stage, State,
    WallTime,
};
use crate::queue::{Change, Filter, Total};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A moment; RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct At(pub WallTime);

impl From<At> for String {
    fn from(at: At) -> Self {
        at.0.to_string()
    }
}

impl TryFrom<String> for At {
    type Error = jiff::Error;
    fn try_from(s: String) -> Result<Self, jiff::Error> {
        Ok(Self(WallTime::from_ms(s.parse::<jiff::Timestamp>()?.as_millisecond())))
    }
}

/// The whole relay at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Whether the daemon answered; false when the queue was read from its directory.
    pub running: bool,
    /// The version of who answered.
    pub version: String,
    /// When the daemon started.
    pub started_at: Option<At>,
    /// All of it in one line.
    pub sentence: String,
    /// What only a human can put right.
    pub needs_human: Vec<Need>,
    /// Every account.
    pub accounts: Vec<AccountStatus>,
    /// Every client and address seen.
    pub clients: Vec<ClientStatus>,
    /// Every account's messages together.
    pub queue: QueueStatus,
    /// Counts since the start.
    pub counters: BTreeMap<String, u64>,
}

/// Something only a human can put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What is wrong, one line.
    pub what: String,
    /// What to do, one line.
    pub hint: String,
}

/// Whether mail flows through an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It does.
    Open,
    /// It will again by itself.
    BackingOff,
    /// Somebody must do something; it is tried now and then.
    Held,
    /// The admin stopped it.
    Paused,
}

/// One account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountStatus {
    /// Its mailbox.
    pub mailbox: String,
    /// `host:port`.
    pub smart_host: String,
    /// Whether mail flows.
    pub state: AccountState,
    /// Why not; empty when it does.
    pub reason: String,
    /// Since when.
    pub since: Option<At>,
    /// When it is tried next.
    pub next_probe_at: Option<At>,
    /// Open connections.
    pub connections: usize,
    /// Messages.
    pub sent_last_minute: u32,
    /// Recipients delivered in the last hour.
    pub recipients_last_hour: u64,
    /// Recipients delivered in the last 24 hours.
    pub recipients_today: u64,
    /// Messages waiting.
    pub queued: u64,
    /// Dead letters.
    pub dead: u64,
    /// Messages held by the admin.
    pub held: u64,
    /// The arrival of the oldest message waiting.
    pub oldest: Option<At>,
}

/// One address of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The `[[client]]`.
    pub name: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// When it was last connected.
    pub last_seen_at: Option<At>,
    /// Since the start.
    pub messages_total: u64,
    /// What went wrong last; empty: nothing.
    pub last_problem: String,
    /// Silent longer than its `silent_after`.
    pub is_silent: bool,
}

/// Messages by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Waiting.
    pub queued: u64,
    /// Set aside by the admin.
    pub held: u64,
    /// Given up.
    pub dead: u64,
    /// Delivered, as far as history goes.
    pub delivered: u64,
    /// Size of what waits, is held or dead.
    pub size_bytes: u64,
    /// The arrival of the oldest message waiting.
    pub oldest: Option<At>,
}

impl QueueStatus {
    /// Adds up what the queue counted.
    pub fn of(totals: &[Total]) -> Self {
        let mut sum = Self::default();
        for t in totals {
            match t.state {
                State::Queued => sum.queued += t.messages,
                State::Held => sum.held += t.messages,
                State::Dead => sum.dead += t.messages,
                State::Delivered => sum.delivered += t.messages,
            }
            if t.state != State::Delivered {
                sum.size_bytes += t.size_bytes;
            }
            if t.state == State::Queued {
                sum.oldest = [sum.oldest, t.oldest.map(At)].into_iter().flatten().min();
            }
        }
        sum
    }
}

impl AccountStatus {
    /// Puts together what the dispatcher and the queue know of an account. `delivered` is what the queue counted
    /// in the last 24 hours, `hour_ago` the moment from which the last hour counts.
    pub fn of(
        live: AccountLive,
        totals: &[Total],
        delivered: &[(RelayTime, u32)],
        hour_ago: RelayTime,
    ) -> Self {
        let mine: Vec<Total> = totals.iter().filter(|t| t.account == live.account).cloned().collect();
        let queue = QueueStatus::of(&mine);
        let sum = |from: Option<RelayTime>| {
            delivered.iter().filter(|(at, _)| from.is_none_or(|f| *at >= f)).map(|(_, n)| u64::from(*n)).sum()
        };
        Self {
            mailbox: live.account.to_string(),
            smart_host: live.smart_host,
            state: live.state,
            reason: live.reason,
            since: live.since.map(At),
            next_probe_at: live.next_probe_at.map(At),
            connections: live.connections,
            sent_last_minute: live.sent_last_minute,
            recipients_last_hour: sum(Some(hour_ago)),
            recipients_today: sum(None),
            queued: queue.queued,
            dead: queue.dead,
            held: queue.held,
            oldest: queue.oldest,
        }
    }
}

impl From<ClientLive> for ClientStatus {
    fn from(c: ClientLive) -> Self {
        Self {
            name: c.name,
            address: c.address,
            last_seen_at: c.last_seen_at.map(At),
            messages_total: c.messages_total,
            last_problem: c.last_problem,
            is_silent: c.is_silent,
        }
    }
}

/// What only a human can put right, most urgent first.
pub fn needs(accounts: &[AccountLive], clients: &[ClientLive], queue: &QueueStatus) -> Vec<Need> {
    let mut needs = vec![];
    for a in accounts.iter().filter(|a| a.state == AccountState::Held) {
        needs.push(Need {
            what: format!("{} cannot send: {}", a.account, a.reason),
            hint: a.hint.clone().unwrap_or_else(|| "see the log".to_owned()),
        });
    }
    if queue.dead > 0 {
        needs.push(Need {
            what: format!("{} given up", count(queue.dead, "message")),
            hint: "see why with: mailferry queue list --state dead".to_owned(),
        });
    }
    for a in accounts.iter().filter(|a| a.state == AccountState::Paused) {
        needs.push(Need {
            what: format!("{} is paused", a.account),
            hint: format!("send again with: mailferry account resume {}", a.account),
        });
    }
    for c in clients.iter().filter(|c| c.is_silent) {
        let address = c.address.map_or(String::new(), |a| format!(" ({a})"));
        needs.push(Need {
            what: format!("{}{address} has been silent for long", c.name),
            hint: "see whether the device is on and its SMTP server setting is this relay".to_owned(),
        });
    }
    needs
}

/// The relay in one line: all is well, what passes by itself, or what a human must do.
pub fn sentence(needs: &[Need], accounts: &[AccountStatus], queue: &QueueStatus) -> String {
    let waiting = format!("{} waiting", count(queue.queued, "message"));
    if let Some(first) = needs.first() {
        let more = match needs.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        return format!("needs a human: {}; {waiting}{more}; {}", first.what, first.hint);
    }
    let troubled: Vec<_> = accounts.iter().filter(|a| a.state == AccountState::BackingOff).collect();
    if let Some(first) = troubled.first() {
        let which =
            if troubled.len() == 1 { first.mailbox.clone() } else { format!("{} accounts", troubled.len()) };
        return format!("{which}: waiting for the smart host, nothing to do: {}; {waiting}", first.reason);
    }
    let delivered: u64 = accounts.iter().map(|a| a.recipients_last_hour).sum();
    format!("all is well: mail for {} delivered in the last hour, {waiting}", count(delivered, "recipient"))
}

/// The same when the daemon does not run.
pub fn sentence_when_stopped(queue: &QueueStatus) -> String {
    format!("mailferry is not running: {} waiting, {} given up", count(queue.queued, "message"), queue.dead)
}

/// `1 message`, `2 messages`.
pub fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// One message, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub id: QueueId,
    /// Where it stands.
    pub state: State,
    /// The account it leaves through.
    pub account: String,
    /// The client it came from.
    pub client: String,
    /// The device's address.
    pub peer: Option<IpAddr>,
    /// Reverse-path without brackets; empty for the null one.
    pub from: String,
    /// Every recipient.
    pub to: Vec<To>,
    /// Head and content.
    pub size_bytes: u64,
    /// When it got its 250.
    pub received_at: At,
    /// When it is due; none when it is not waiting, or when nobody runs who could say.
    pub next_attempt_at: Option<At>,
    /// Attempts the message itself spent.
    pub attempts: u32,
    /// When it was delivered or given up.
    pub finished_at: Option<At>,
    /// The latest word on it, one escaped line.
    pub last_said: String,
    /// An attempt ended after the end of data without an answer.
    pub outcome_unknown: bool,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct To {
    /// The address.
    pub address: String,
    /// What became of it.
    pub progress: ToProgress,
    /// The smart host's words or the reason, one escaped line.
    pub said: String,
}

/// What became of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToProgress {
    /// Still to be delivered.
    Pending,
    /// The smart host has it.
    Delivered,
    /// Given up.
    Failed,
}

impl Message {
    /// `clock` is the same moment on the relay's clock and on the wall's; without it, due times mean nothing.
    pub fn of(m: &QueuedMessage, clock: Option<(RelayTime, WallTime)>) -> Self {
        let due = |(now, wall): (RelayTime, WallTime)| {
            let wait = i64::try_from(m.next_attempt.since(now).as_millis()).unwrap_or(i64::MAX);
            At(WallTime::from_ms(wall.as_ms().saturating_add(wait)))
        };
        let to = |r: &crate::mail::Recipient| {
            let (progress, said) = match &r.progress {
                Progress::Pending => (ToProgress::Pending, String::new()),
                Progress::Delivered(reply) => (ToProgress::Delivered, reply.to_string()),
                Progress::Failed(failure) => (ToProgress::Failed, failure.to_string()),
            };
            To { address: escaped(&r.mailbox.to_string()), progress, said }
        };
        Self {
            id: m.id,
            state: m.state,
            account: m.account.to_string(),
            client: m.client.to_string(),
            peer: m.peer,
            from: match &m.reverse_path {
                ReversePath::Null => String::new(),
                ReversePath::Mailbox(mailbox) => escaped(&mailbox.to_string()),
                ReversePath::Unusable(said) => said.clone(),
            },
            to: m.recipients.iter().map(to).collect(),
            size_bytes: m.size_bytes,
            received_at: At(m.received_at),
            next_attempt_at: clock.filter(|_| m.state == State::Queued).map(due),
            attempts: m.attempts,
            finished_at: m.finished_at.map(At),
            last_said: m.last_said.clone(),
            outcome_unknown: m.outcome_unknown,
        }
    }
}

fn escaped(text: &str) -> String {
    Escaped(text.as_bytes()).to_string()
}

/// One message with its recorded attempts, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// The attempts.
    pub tries: Vec<Try>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// When.
    pub at: At,
    /// How far it came.
    pub stage: Stage,
    /// What was said, one escaped line.
    pub said: String,
    /// The smart host's address.
    pub host: String,
}

impl From<Attempt> for Try {
    fn from(a: Attempt) -> Self {
        Self { at: At(a.at), stage: a.stage, said: a.said, host: escaped(&a.host) }
    }
}

/// Which messages are meant; as a query and as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Ids, separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ids: String,
    /// Only in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Only of this account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Only from this client or peer address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Only with this reverse-path or recipient, or a part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Only received at or after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<At>,
    /// At most so many; 0: no limit.
    pub limit: usize,
}

impl Select {
    /// Whether it names every message there is.
    pub fn is_everything(&self) -> bool {
        Self { limit: 0, ..self.clone() } == Self::default()
    }

    /// As the queue asks.
    ///
    /// # Errors
    /// An id that is none.
    pub fn filter(&self) -> Result<Filter, String> {
        let ids = self
            .ids
            .split(',')
            .filter(|id| !id.is_empty())
            .map(|id| id.parse::<QueueId>().map_err(|e| format!("\"{}\": {e}", Escaped(id.as_bytes()))));
        Ok(Filter {
            ids: ids.collect::<Result<_, _>>()?,
            state: self.state,
            account: self.account.as_ref().map(|a| AccountId::new(a.to_lowercase())),
            client: self.client.clone(),
            address: self.address.clone(),
            since: self.since.map(|at| at.0),
            limit: self.limit,
        })
    }
}

/// What an admin does to messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Due now; dead letters are queued again.
    Retry,
    /// Set aside.
    Hold,
    /// Back from being held.
    Release,
    /// Gone for good.
    Remove,
}

impl From<Action> for Change {
    fn from(action: Action) -> Self {
        match action {
            Action::Retry => Self::Retry,
            Action::Hold => Self::Hold,
            Action::Release => Self::Release,
            Action::Remove => Self::Remove,
        }
    }
}

/// The body of `POST /queue/change`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// Which messages.
    pub select: Select,
    /// What to do.
    pub action: Action,
    /// An empty selection is refused without this: one forgotten word must not empty a queue.
    #[serde(default)]
    pub all: bool,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// These messages.
    pub ids: Vec<QueueId>,
}

/// Every answer that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, one line.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(state: AccountState, reason: &str, hint: Option<&str>) -> AccountLive {
        AccountLive {
            account: AccountId::new("scanner@contoso.com"),
            smart_host: "smtp.office365.com:587".to_owned(),
            state,
            reason: reason.to_owned(),
            hint: hint.map(str::to_owned),
            since: None,
            next_probe_at: None,
            connections: 0,
            sent_last_minute: 0,
        }
    }

    fn total(state: State, messages: u64, oldest_ms: i64) -> Total {
        let account = AccountId::new("scanner@contoso.com");
        Total {
            account,
            state,
            messages,
            size_bytes: messages * 10,
            oldest: Some(WallTime::from_ms(oldest_ms)),
        }
    }

    #[test]
    fn one_sentence_says_whether_a_human_is_needed() {
        use AccountState::{BackingOff, Held, Open, Paused};
        let queued = |n| vec![total(State::Queued, n, 5)];
        for (state, reason, hint, totals, said) in [
            (
                Open,
                "",
                None,
                vec![],
                "all is well: mail for 12 recipients delivered in the last hour, 0 messages waiting",
            ),
            (
                Open,
                "",
                None,
                queued(1),
                "all is well: mail for 12 recipients delivered in the last hour, 1 message waiting",
            ),
            (
                BackingOff,
                "AUTH: 451 4.7.0 Temporary server error. PRX4",
                None,
                queued(3),
                "scanner@contoso.com: waiting for the smart host, nothing to do: AUTH: 451 4.7.0 Temporary server error. PRX4; 3 messages waiting",
            ),
            (
                Held,
                "AUTH: 535 5.7.3 Authentication unsuccessful",
                Some("set the password again"),
                queued(3),
                "needs a human: scanner@contoso.com cannot send: AUTH: 535 5.7.3 Authentication unsuccessful; 3 messages waiting; set the password again",
            ),
            (
                Held,
                "x",
                None,
                vec![total(State::Dead, 1, 1)],
                "needs a human: scanner@contoso.com cannot send: x; 0 messages waiting (and 1 more); see the log",
            ),
            (
                Open,
                "",
                None,
                vec![total(State::Dead, 2, 1)],
                "needs a human: 2 messages given up; 0 messages waiting; see why with: mailferry queue list --state dead",
            ),
            (
                Paused,
                "",
                None,
                queued(3),
                "needs a human: scanner@contoso.com is paused; 3 messages waiting; send again with: mailferry account resume scanner@contoso.com",
            ),
        ] {
            let queue = QueueStatus::of(&totals);
            let live = live(state, reason, hint);
            let needs = needs(std::slice::from_ref(&live), &[], &queue);
            let at = RelayTime::from_ms;
            let accounts =
                [AccountStatus::of(live, &totals, &[(at(10), 9), (at(100), 5), (at(200), 7)], at(100))];
            assert_eq!(accounts[0].recipients_today, 21);
            assert_eq!(sentence(&needs, &accounts, &queue), said);
        }
    }

    #[test]
    fn totals_add_up_and_only_what_waits_has_an_age() {
        let totals = [
            total(State::Queued, 2, 50),
            total(State::Queued, 1, 40),
            total(State::Dead, 4, 10),
            total(State::Delivered, 9, 1),
        ];
        let sum = QueueStatus::of(&totals);
        assert_eq!((sum.queued, sum.dead, sum.delivered, sum.size_bytes), (3, 4, 9, 70));
        assert_eq!(sum.oldest, Some(At(WallTime::from_ms(40))));
        assert_eq!(sentence_when_stopped(&sum), "mailferry is not running: 3 messages waiting, 4 given up");
    }

    #[test]
    fn a_moment_is_rfc_3339_in_json() {
        let at = At(WallTime::from_ms(1_795_435_200_000));
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(json, "\"2026-11-23T12:00:00Z\"");
        assert_eq!(serde_json::from_str::<At>(&json).unwrap(), at);
    }

    #[test]
    fn an_empty_selection_is_everything_and_a_bad_id_is_told() {
        assert!(Select { limit: 5, ..Select::default() }.is_everything());
        let named = Select { ids: "01JDC2Q8X4T0G,x\u{1b}".to_owned(), ..Select::default() };
        assert!(!named.is_everything());
        assert_eq!(
            named.filter().unwrap_err(),
            "\"x\\u{1b}\": not a queue id: thirteen characters as in 01JDC2Q8X4T0G"
        );
    }
}
