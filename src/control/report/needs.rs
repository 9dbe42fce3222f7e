//! What of the queue only a human can put right: mail that nobody sends, and dead letters that end soon.
//!
//! Invariant: each says what to do, as a command to copy. Must not know: how a status looks.

use super::{Need, count};
use crate::mail::{AccountId, RelayTime, State, WallTime};
use crate::queue::{KeepDead, Ledger, Notes, QueueError, Total};
use std::collections::BTreeMap;

/// Mail that nobody will send, as its account was renamed or removed.
pub fn stranded(totals: &[Total], accounts: &[AccountId]) -> Vec<Need> {
    let mut waiting: BTreeMap<&AccountId, u64> = BTreeMap::new();
    for t in totals.iter().filter(|t| matches!(t.state, State::Queued | State::Held)) {
        if !accounts.contains(&t.account) {
            *waiting.entry(&t.account).or_default() += t.messages;
        }
    }
    let need = |(account, messages): (&AccountId, u64)| Need {
        what: format!(
            "{} for {account}, which is no account: nobody will send them",
            count(messages, "message")
        ),
        hint: format!("configure {account} again, or {}", move_hint(account.as_str(), accounts)),
        account: None,
        kind: None,
    };
    waiting.into_iter().filter(|(_, messages)| *messages > 0).map(need).collect()
}

/// The command that gives the mail of an account that is gone to another; to the only one there is, where there is
/// but one.
pub fn move_hint(account: &str, accounts: &[AccountId]) -> String {
    let to = match accounts {
        [only] => only.as_str(),
        _ => "MAILBOX",
    };
    format!("give its mail to another: mailferry queue move --account {account} --to {to}")
}

/// Dead letters that come to the end of `keep_dead` soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// So many, at least.
    pub messages: u64,
    /// There are more of them.
    pub and_more: bool,
    /// When the first of them ends.
    pub first: WallTime,
}

impl Ending {
    /// Asks the queue. `wall` is the moment `now` on the wall clock.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    pub async fn look(
        ledger: &dyn Ledger,
        notes: &dyn Notes,
        now: RelayTime,
        wall: WallTime,
    ) -> Result<Option<Self>, QueueError> {
        let Some(keep) = KeepDead::remembered(notes).await? else { return Ok(None) };
        let Some(before) = keep.told(now) else { return Ok(None) };
        let dead = ledger.finished(State::Dead, before, None).await?;
        let Some(first) = dead.first() else { return Ok(None) };
        let left_ms = i64::try_from(keep.end(first.at).since(now).as_millis()).unwrap_or(i64::MAX);
        let last = dead.last().copied();
        Ok(Some(Self {
            messages: u64::try_from(dead.len()).unwrap_or(u64::MAX),
            and_more: !ledger.finished(State::Dead, before, last).await?.is_empty(),
            first: WallTime::from_ms(wall.as_ms().saturating_add(left_ms)),
        }))
    }

    /// For `needs_human`.
    pub fn need(self) -> Need {
        let more = if self.and_more { " or more" } else { "" };
        Need {
            what: format!(
                "{}{more} will be removed for good, as keep_dead says: the first at {}",
                count(self.messages, "dead letter"),
                self.first
            ),
            hint: "bring them back with: mailferry queue retry --state dead; or save them with: mailferry queue \
                   export --state dead --to DIR"
                .to_owned(),
            account: None,
            kind: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_of_an_account_that_is_gone_needs_a_human_and_the_command_is_named() {
        let of = |account: &str, state, messages| Total {
            account: AccountId::new(account),
            state,
            messages,
            size_bytes: messages,
            oldest: None,
        };
        let totals = [
            of("new@contoso.com", State::Queued, 9),
            of("old@contoso.com", State::Queued, 2),
            of("old@contoso.com", State::Held, 1),
            of("old@contoso.com", State::Dead, 4),
            of("older@contoso.com", State::Delivered, 7),
            of("oldest@contoso.com", State::Dead, 7),
        ];
        let configured = ["new@contoso.com", "other@contoso.com"].map(AccountId::new);
        assert_eq!(
            stranded(&totals, &configured[..1]),
            [Need {
                what: "3 messages for old@contoso.com, which is no account: nobody will send them".to_owned(),
                hint: "configure old@contoso.com again, or give its mail to another: mailferry queue move \
                       --account old@contoso.com --to new@contoso.com"
                    .to_owned(),
                account: None,
                kind: None,
            }]
        );
        assert!(
            stranded(&totals, &configured)[0].hint.ends_with("--to MAILBOX"),
            "which is for a human to say"
        );
    }
}
