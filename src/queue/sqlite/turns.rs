//! Whose turn it is: start-time fair queueing over the clients of an account.
//!
//! Invariant: a flow (client and peer address) never gets a turn at or before an earlier one of its own, so its
//! mail stays in order; a flow that was idle starts at the virtual time, so it waits for at most one message of
//! every other flow. Rows of `turn` at or before the virtual time say nothing and are dropped.

use crate::mail::AccountId;
use rusqlite::{Connection, params};
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<AccountId, Account>);

#[derive(Debug, Default)]
struct Account {
    /// The turn of the message leased last; never goes back.
    virtual_time: i64,
    /// What the transaction under way writes, and what the disk has.
    writing: i64,
    saved: i64,
    flows: HashMap<(String, String), Flow>,
}

#[derive(Debug)]
struct Flow {
    last: i64,
    dirty: bool,
}

impl Turns {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut turns = Self::default();
        let mut served = conn.prepare("SELECT account, turn FROM served")?;
        let mut rows = served.query([])?;
        while let Some(row) = rows.next()? {
            let account = turns.0.entry(AccountId::new(row.get::<_, String>(0)?)).or_default();
            (account.virtual_time, account.saved) = (row.get(1)?, row.get(1)?);
        }
        let mut flows = conn.prepare("SELECT account, client, peer, last FROM turn")?;
        let mut rows = flows.query([])?;
        while let Some(row) = rows.next()? {
            let account = turns.0.entry(AccountId::new(row.get::<_, String>(0)?)).or_default();
            account.flows.insert((row.get(1)?, row.get(2)?), Flow { last: row.get(3)?, dirty: false });
        }
        Ok(turns)
    }

    /// The turn of a message that arrives now.
    pub(super) fn next(&mut self, account: &AccountId, client: &str, peer: &str) -> i64 {
        let account = self.0.entry(account.clone()).or_default();
        let floor = account.virtual_time;
        let flow = account
            .flows
            .entry((client.to_owned(), peer.to_owned()))
            .or_insert(Flow { last: floor, dirty: true });
        *flow = Flow { last: floor.max(flow.last) + 1, dirty: true };
        flow.last
    }

    /// A message with this turn was leased.
    pub(super) fn served(&mut self, account: &AccountId, turn: i64) {
        let account = self.0.entry(account.clone()).or_default();
        account.virtual_time = account.virtual_time.max(turn);
    }

    /// Writes what changed as a part of the transaction under way.
    pub(super) fn write(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        for (id, account) in &mut self.0 {
            for ((client, peer), flow) in account.flows.iter().filter(|(_, flow)| flow.dirty) {
                conn.prepare_cached("INSERT OR REPLACE INTO turn VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id.as_str(), client, peer, flow.last])?;
            }
            account.writing = account.virtual_time;
            if account.writing != account.saved {
                conn.prepare_cached("INSERT OR REPLACE INTO served VALUES (?1, ?2)")?
                    .execute(params![id.as_str(), account.writing])?;
            }
        }
        Ok(())
    }

    /// The transaction is durable.
    pub(super) fn written(&mut self) {
        for account in self.0.values_mut() {
            account.saved = account.writing;
            account.flows.values_mut().for_each(|flow| flow.dirty = false);
        }
    }

    /// Deletes the rows that say nothing any more.
    pub(super) fn prune(conn: &Connection) -> rusqlite::Result<()> {
        conn.execute(
            "DELETE FROM turn WHERE last <= (SELECT turn FROM served WHERE served.account = turn.account)",
            [],
        )?;
        Ok(())
    }

    /// The same in memory, once that is durable.
    pub(super) fn pruned(&mut self) {
        for account in self.0.values_mut() {
            let saved = account.saved;
            account.flows.retain(|_, flow| flow.last > saved);
        }
    }
}
