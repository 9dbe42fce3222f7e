//! A change that an admin asked for, from its request to what came of it; the same beside the daemon and without it.
//!
//! Invariant: what is said to be sent has an account that exists. Must not know: who asks, over what.

use super::report::{AccountState, Action, ChangeRequest, Changed, Prospect};
use crate::mail::{AccountId, Escaped, RelayTime};
use crate::queue::{Change, Changing, Ledger, QueueError};
use std::sync::Arc;

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It does not say what it has to.
    #[error("{0}")]
    Unclear(String),
    /// Nobody can say which accounts there are.
    #[error("the accounts in the configuration cannot be read")]
    Unreadable,
    /// The account to move mail to is none of ours.
    #[error("there is no account {to}; accounts go by their mailbox: {known}")]
    NoAccount {
        /// The one that was named, escaped.
        to: String,
        /// Those that there are.
        known: String,
    },
}

/// An account that is configured, and how it stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Which.
    pub account: AccountId,
    /// Whether mail flows.
    pub state: AccountState,
    /// Why it does not; empty when it does.
    pub reason: String,
}

/// A change under way.
pub struct Run {
    changing: Changing,
    action: Action,
    /// None: nobody can say which accounts there are.
    accounts: Option<Vec<Standing>>,
    changed: u64,
    prospects: Vec<Prospect>,
    is_over: bool,
}

impl Run {
    /// Nothing is changed yet.
    ///
    /// # Errors
    /// See `RequestError`.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        request: &ChangeRequest,
        accounts: Option<Vec<Standing>>,
        now: RelayTime,
    ) -> Result<Self, RequestError> {
        if request.select.is_everything() && !request.all {
            return Err(RequestError::Unclear("no message is named".to_owned()));
        }
        let change = change(request, accounts.as_deref())?;
        let filter = request.select.filter().map_err(RequestError::Unclear)?;
        let changing = Changing::new(ledger, filter, change, now);
        Ok(Self {
            changing,
            action: request.action.clone(),
            accounts,
            changed: 0,
            prospects: vec![],
            is_over: false,
        })
    }

    /// The next step; after the last one, what comes of them all. An error is the end.
    pub async fn next(&mut self) -> Option<Result<Changed, QueueError>> {
        match self.changing.next().await {
            Some(Ok(step)) => {
                self.changed += u64::try_from(step.changed.len()).unwrap_or(u64::MAX);
                step.changed.iter().for_each(|(_, account)| self.expect(account));
                Some(Ok(step.into()))
            }
            Some(Err(e)) => {
                self.is_over = true;
                Some(Err(e))
            }
            None if self.is_over => None,
            None => {
                self.is_over = true;
                Some(Ok(Changed { prospects: self.prospects.clone(), ..Changed::default() }))
            }
        }
    }

    /// Messages changed so far.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Whose mail was made to be sent so far, in the order it came.
    pub fn prospects(&self) -> &[Prospect] {
        &self.prospects
    }

    /// What becomes of one more message.
    fn expect(&mut self, account: &AccountId) {
        let (Some(accounts), Action::Retry | Action::Release | Action::Move(_)) =
            (&self.accounts, &self.action)
        else {
            return;
        };
        if let Some(known) = self.prospects.iter_mut().find(|p| p.account == account.as_str()) {
            known.messages += 1;
            return;
        }
        let standing = accounts.iter().find(|s| s.account == *account);
        self.prospects.push(Prospect {
            account: account.to_string(),
            messages: 1,
            state: standing.map(|s| s.state),
            reason: standing.map_or(String::new(), |s| s.reason.clone()),
        });
    }
}

fn change(request: &ChangeRequest, accounts: Option<&[Standing]>) -> Result<Change, RequestError> {
    let to = match &request.action {
        Action::Retry => return Ok(Change::Retry),
        Action::Hold => return Ok(Change::Hold),
        Action::Release => return Ok(Change::Release),
        Action::Remove => return Ok(Change::Remove),
        Action::Move(to) => AccountId::named(to),
    };
    let accounts = accounts.ok_or(RequestError::Unreadable)?;
    if accounts.iter().any(|s| s.account == to) {
        return Ok(Change::Move(to));
    }
    let known = accounts.iter().map(|s| s.account.as_str()).collect::<Vec<_>>().join(", ");
    Err(RequestError::NoAccount { to: Escaped(to.as_str().as_bytes()).to_string(), known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::Select;

    #[test]
    fn mail_is_moved_to_a_configured_account_only_however_it_is_spelled() {
        let accounts = ["new@contoso.com", "old@contoso.com"].map(|a| Standing {
            account: AccountId::new(a),
            state: AccountState::Open,
            reason: String::new(),
        });
        let to = |to: &str, accounts| {
            let action = Action::Move(to.to_owned());
            change(&ChangeRequest { select: Select::default(), action, all: true }, accounts)
        };
        let moved = to(" New@CONTOSO.com", Some(&accounts));
        assert_eq!(moved, Ok(Change::Move(AccountId::new("new@contoso.com"))));
        assert_eq!(
            to("newt@contoso.com", Some(&accounts)).unwrap_err().to_string(),
            "there is no account newt@contoso.com; accounts go by their mailbox: new@contoso.com, old@contoso.com"
        );
        assert_eq!(to("new@contoso.com", None), Err(RequestError::Unreadable));
    }
}
