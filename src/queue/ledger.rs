//! What an admin asks of the queue, and what is answered.
//!
//! Invariant: which messages a filter names and a change applies to is said here, for every backend. Must not know: who
//! asks, how a backend stores and finds.

use crate::mail::{AccountId, Mailbox, QueueId, QueuedMessage, RelayTime, ReversePath, State, WallTime};
use std::net::IpAddr;

/// Which messages an admin means.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these; empty: all.
    pub ids: Vec<QueueId>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Only from this client or peer address (as text).
    pub client: Option<String>,
    /// Only with this reverse-path or recipient (a part of the address is enough).
    pub address: Option<String>,
    /// Only received at or after this.
    pub since: Option<WallTime>,
    /// Only up to this id: what was begun later is not meant.
    pub up_to: Option<QueueId>,
    /// At most this many of those that all the above names, oldest first; 0: no limit.
    pub limit: usize,
}

/// What an admin does to messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Due now, with its failed recipients pending; a dead letter is queued again, with no attempts spent, its age anew.
    Retry,
    /// Set aside until released.
    Hold,
    /// Back from being held.
    Release,
    /// Gone for good, content and row.
    Remove,
    /// Leaves through this account from now on: queued, held and dead ones, in the state they are in, in a turn of
    /// the new account. Each client's mail stays in order of arrival.
    Move(AccountId),
}

/// How many messages of an account are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// The account.
    pub account: AccountId,
    /// The state.
    pub state: State,
    /// How many.
    pub messages: u64,
    /// Their size together.
    pub size_bytes: u64,
    /// The oldest one's arrival.
    pub oldest: Option<WallTime>,
}

/// Some of the messages that were asked for.
#[derive(Debug, Default)]
pub struct Page {
    /// Oldest first.
    pub messages: Vec<QueuedMessage>,
    /// Messages that may have been meant and cannot be read. They stay where they are.
    pub unreadable: Vec<QueueId>,
    /// What to ask for next with; none: there is no more.
    pub next: Option<QueueId>,
}

/// What one step of a change came to.
#[derive(Debug, Default)]
pub struct ChangeStep {
    /// What was changed, each with the account it leaves through now (or did, when it was removed).
    pub changed: Vec<(QueueId, AccountId)>,
    /// What was meant and is being sent at this moment: not changed.
    pub being_sent: Vec<QueueId>,
    /// As of `Page`.
    pub unreadable: Vec<QueueId>,
    /// As of `Page`.
    pub next: Option<QueueId>,
}

/// A message that was delivered or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finished {
    /// When, on the relay's clock.
    pub at: RelayTime,
    /// Which.
    pub id: QueueId,
}

impl Filter {
    /// Whether the message is meant, whatever the limit.
    pub fn names(&self, m: &QueuedMessage) -> bool {
        (self.ids.is_empty() || self.ids.contains(&m.id))
            && self.up_to.is_none_or(|last| m.id <= last)
            && self.state.is_none_or(|state| m.state == state)
            && self.account.as_ref().is_none_or(|account| m.account == *account)
            && self.client.as_ref().is_none_or(|client| is_from(m, client))
            && self.since.is_none_or(|since| m.received_at >= since)
            && self.address.as_ref().is_none_or(|part| has_address(m, &part.to_lowercase()))
    }
}

/// The client's name, or the peer's address however it is written.
fn is_from(m: &QueuedMessage, client: &str) -> bool {
    let address = client.parse::<IpAddr>().map(|ip| ip.to_canonical());
    m.client.as_str() == client || m.peer.is_some_and(|peer| address == Ok(peer.to_canonical()))
}

/// Only addresses: what is stored of a recipient holds replies too, and those quote addresses.
fn has_address(m: &QueuedMessage, part: &str) -> bool {
    let is_in = |mailbox: &Mailbox| mailbox.to_string().to_lowercase().contains(part);
    let is_sender = match &m.reverse_path {
        ReversePath::Null => false,
        ReversePath::Mailbox(mailbox) => is_in(mailbox),
        ReversePath::Unusable(said) => said.to_lowercase().contains(part),
    };
    is_sender || m.recipients.iter().any(|r| is_in(&r.mailbox))
}

impl Change {
    /// The states that messages may be in to which it applies.
    pub fn states(&self) -> &'static [State] {
        match self {
            Self::Retry => &[State::Queued, State::Dead],
            Self::Hold => &[State::Queued],
            Self::Release => &[State::Held],
            Self::Remove => &[State::Queued, State::Held, State::Dead, State::Delivered],
            Self::Move(_) => &[State::Queued, State::Held, State::Dead],
        }
    }

    /// Whether it would make a difference to a message that `filter` names.
    pub fn applies(&self, m: &QueuedMessage, filter: &Filter) -> bool {
        self.states().contains(&m.state)
            && match self {
                Self::Retry | Self::Hold | Self::Release => true,
                // History is not what somebody means who empties a queue, unless they say so.
                Self::Remove => m.state != State::Delivered || filter.state == Some(State::Delivered),
                Self::Move(to) => m.account != *to,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ClientName, Progress, Recipient, Reply, WallTime};

    fn message() -> QueuedMessage {
        let recipient =
            |to: &str, progress| Recipient { progress, ..Recipient::pending(to.parse().unwrap()) };
        QueuedMessage {
            id: QueueId::from_number(7),
            account: AccountId::new("scanner@contoso.com"),
            client: ClientName::new("printers"),
            peer: Some("2001:db8::7".parse().unwrap()),
            reverse_path: ReversePath::Mailbox("Copier@contoso.com".parse().unwrap()),
            recipients: vec![
                recipient("anna@contoso.com", Progress::Delivered(Reply::new(250, "OK for zoe@contoso.com"))),
                recipient("Bert@example.net", Progress::Pending),
            ],
            size_bytes: 100,
            received_at: WallTime::from_ms(1_000),
            queued_since: RelayTime::default(),
            next_attempt: RelayTime::default(),
            attempts: 0,
            state: State::Queued,
            finished_at: None,
            last_said: String::new(),
            outcome_unknown: false,
            charset: None,
        }
    }

    #[test]
    fn a_filter_names_what_it_says_and_nothing_else() {
        let id = QueueId::from_number;
        let account = |a: &str| Filter { account: Some(AccountId::new(a)), ..Filter::default() };
        let client = |c: &str| Filter { client: Some(c.into()), ..Filter::default() };
        let address = |a: &str| Filter { address: Some(a.into()), ..Filter::default() };
        for (filter, is_named) in [
            (Filter::default(), true),
            (Filter { limit: 1, ..Filter::default() }, true),
            (Filter { ids: vec![id(3), id(7)], ..Filter::default() }, true),
            (Filter { ids: vec![id(8)], ..Filter::default() }, false),
            (Filter { up_to: Some(id(7)), ..Filter::default() }, true),
            (Filter { up_to: Some(id(6)), ..Filter::default() }, false),
            (Filter { state: Some(State::Queued), ..Filter::default() }, true),
            (Filter { state: Some(State::Dead), ..Filter::default() }, false),
            (Filter { since: Some(WallTime::from_ms(1_000)), ..Filter::default() }, true),
            (Filter { since: Some(WallTime::from_ms(1_001)), ..Filter::default() }, false),
            (account("scanner@contoso.com"), true),
            (account("scanner@contoso"), false),
            (client("printers"), true),
            (client("printer"), false),
            (client("2001:db8::7"), true),
            (client("2001:0DB8:0:0:0:0:0:7"), true),
            (client("2001:db8::8"), false),
            (address("copier@contoso.com"), true),
            (address("COPIER@"), true),
            (address("bert@EXAMPLE.net"), true),
            (address("anna"), true),
            (address("zoe@contoso.com"), false),
            (Filter { state: Some(State::Queued), ..address("bert") }, true),
            (Filter { state: Some(State::Held), ..address("bert") }, false),
        ] {
            assert_eq!(filter.names(&message()), is_named, "{filter:?}");
        }
    }

    #[test]
    fn a_filter_finds_a_sender_that_is_no_address_and_a_mapped_peer() {
        let said = ReversePath::Unusable("ILO.@".into());
        let peer = Some("::ffff:10.0.5.7".parse().unwrap());
        let odd = QueuedMessage { reverse_path: said, peer, ..message() };
        assert!(Filter { address: Some("ilo.@".into()), ..Filter::default() }.names(&odd));
        assert!(Filter { client: Some("10.0.5.7".into()), ..Filter::default() }.names(&odd));
        let null = QueuedMessage { reverse_path: ReversePath::Null, ..message() };
        assert!(!Filter { address: Some("copier".into()), ..Filter::default() }.names(&null));
    }

    #[test]
    fn a_change_applies_to_the_states_it_is_for() {
        use State::{Dead, Delivered, Held, Queued};
        let to = |a: &str| Change::Move(AccountId::new(a));
        let cases: [(Change, &[State]); 6] = [
            (Change::Retry, &[Queued, Dead]),
            (Change::Hold, &[Queued]),
            (Change::Release, &[Held]),
            (Change::Remove, &[Queued, Held, Dead]),
            (to("archive@contoso.com"), &[Queued, Held, Dead]),
            (to("scanner@contoso.com"), &[]),
        ];
        for (change, states) in cases {
            for state in [Queued, Held, Dead, Delivered] {
                let m = QueuedMessage { state, ..message() };
                let applies = change.applies(&m, &Filter::default());
                assert_eq!(applies, states.contains(&state), "{change:?} {state:?}");
            }
        }
        let history = Filter { state: Some(Delivered), ..Filter::default() };
        assert!(Change::Remove.applies(&QueuedMessage { state: Delivered, ..message() }, &history));
    }
}
