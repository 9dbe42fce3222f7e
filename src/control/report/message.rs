//! Messages as they are listed, shown, selected and changed.
//!
//! Invariant: as of `report`: RFC 3339, units in names, peer text escaped. An empty selection changes nothing
//! unless the request says that all are meant.

use super::{AccountState, At};
use crate::mail::{
    AccountId, Attempt, Escaped, Progress, QueueId, QueuedMessage, RelayTime, ReversePath, Stage, State,
    WallTime,
};
use crate::queue::{ChangeStep, Filter, Page};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

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

/// Some of the messages that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Messages that may have been meant and cannot be read.
    pub unreadable: Vec<QueueId>,
}

impl Listed {
    /// `clock` as of `Message::of`.
    pub fn of(page: &Page, clock: Option<(RelayTime, WallTime)>) -> Self {
        let messages = page.messages.iter().map(|m| Message::of(m, clock)).collect();
        Self { messages, unreadable: page.unreadable.clone() }
    }
}

/// A line of an answer that comes in parts. The last is `End` or `Failed`; an answer without either was cut short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<T> {
    /// A part.
    Part(T),
    /// That was all.
    End,
    /// There is more, and it could not be had: why, in one line. What the parts say stands.
    Failed(String),
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
    /// An id that is none; a name or an address that is empty, as an unset variable of a script is: it would name
    /// everything, or nothing.
    pub fn filter(&self) -> Result<Filter, String> {
        for (what, text) in [("account", &self.account), ("client", &self.client), ("address", &self.address)]
        {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                return Err(format!("the {what} is empty"));
            }
        }
        let id = |id: &str| id.parse::<QueueId>().map_err(|e| format!("\"{}\": {e}", Escaped(id.as_bytes())));
        let ids = if self.ids.is_empty() {
            vec![]
        } else {
            self.ids.split(',').map(id).collect::<Result<_, _>>()?
        };
        Ok(Filter {
            ids,
            state: self.state,
            account: self.account.as_deref().map(AccountId::named),
            client: self.client.clone(),
            address: self.address.clone(),
            since: self.since.map(|at| at.0),
            up_to: None,
            limit: self.limit,
        })
    }
}

/// What an admin does to messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Through this account from now on.
    Move(String),
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

/// What a part of a change came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// These messages were changed.
    pub ids: Vec<QueueId>,
    /// These were meant and are being sent at this moment: not changed.
    pub being_sent: Vec<QueueId>,
    /// These may have been meant and cannot be read.
    pub unreadable: Vec<QueueId>,
    /// What comes of all that was changed, an account each; only in the last part, and only where it matters.
    pub prospects: Vec<Prospect>,
}

impl From<ChangeStep> for Changed {
    fn from(step: ChangeStep) -> Self {
        Self {
            ids: step.changed.into_iter().map(|(id, _)| id).collect(),
            being_sent: step.being_sent,
            unreadable: step.unreadable,
            prospects: vec![],
        }
    }
}

/// Whether an account sends what was given to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prospect {
    /// Which.
    pub account: String,
    /// So many messages.
    pub messages: u64,
    /// Whether mail flows; none: there is no such account, and nobody will send them.
    pub state: Option<AccountState>,
    /// Why it does not, or slower; one escaped line, empty when it does.
    pub reason: String,
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

    #[test]
    fn an_empty_text_is_refused_for_it_would_name_everything() {
        let empty = || Some(String::new());
        for select in [
            Select { address: empty(), ..Select::default() },
            Select { client: Some("  ".to_owned()), ..Select::default() },
            Select { account: empty(), ..Select::default() },
            Select { ids: ",".to_owned(), ..Select::default() },
        ] {
            assert!(select.filter().is_err(), "{select:?}");
        }
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
