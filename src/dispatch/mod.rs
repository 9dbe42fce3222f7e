//! When what is sent, over which connection, and what becomes of it.
//!
//! Invariant: one owner an account, which alone decides; a message is settled durably before its connection takes
//! the next. Must not know: SMTP's words, SQL, how anything is shown.

#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod account;
mod board;
mod connection;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod credential;
mod message;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
mod notice;
mod plan;
mod settle;
mod stored;

pub use plan::Live;

use crate::fact::Witness;
use crate::fact::dispatch::{Fact, Told};
use crate::mail::Sender;
use crate::mail::{AccountId, Mailbox, State};
use crate::policy::schedule::Retry;
use crate::queue::{Notes, Queue, QueueError};
use crate::submit::Way;
use account::Actor;
use board::Board;
use connection::Cut;
use connection::Event;
use message::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// What a cut connection and an unfinished settlement get to end by themselves.
const GOODBYE: Duration = Duration::from_secs(6);

/// An `[[account]]`, as far as sending goes.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// How its mail leaves.
    pub way: Way,
    /// As whom it may send.
    pub sender: Sender,
    /// How much at once, and how fast.
    pub pace: Pace,
    /// To whom its facts are told.
    pub witness: Witness,
}

/// How much an account sends at once, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Connections at once.
    pub max_connections: usize,
    /// Transactions a minute; 0: no limit.
    pub messages_per_minute: u32,
    /// Recipients in 24 hours; 0: no limit.
    pub recipients_per_day: u32,
}

impl Default for Pace {
    /// Somewhat less than Exchange Online allows a mailbox.
    fn default() -> Self {
        Self { max_connections: 2, messages_per_minute: 25, recipients_per_day: 10_000 }
    }
}

impl Account {
    fn tell(&self, fact: Fact) {
        let place = fact.names_place().then(|| self.way.place());
        self.witness.tell(Told { account: self.id.clone(), place, fact });
    }
}

/// What every account shares.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Delays and ages.
    pub retry: Retry,
    /// Our name in notices.
    pub hostname: String,
    /// The admins who are told of dead letters.
    pub notify: Vec<Mailbox>,
    /// All mail goes to the sandbox, which every notice says first.
    pub is_sandbox: bool,
}

/// The accounts at work.
pub struct Dispatcher {
    running: Mutex<BTreeMap<AccountId, Running>>,
    /// Taken out by a reload and still finishing: a stop waits for them, too.
    leaving: Mutex<Vec<(AccountId, Running)>>,
    queue: Queue,
    board: Arc<Board>,
    defect: watch::Sender<bool>,
    witness: Witness,
}

struct Running {
    tell: mpsc::UnboundedSender<Message>,
    /// What a stop ends of what is in flight.
    cut: watch::Sender<Cut>,
    task: JoinHandle<()>,
}

impl Dispatcher {
    /// Starts an actor for every account.
    pub async fn start(settings: &Settings, queue: Queue, witness: Witness) -> Arc<Self> {
        let board = Arc::new(Board::default());
        let this = Arc::new(Self {
            running: Mutex::default(),
            leaving: Mutex::default(),
            defect: watch::Sender::new(false),
            queue,
            board,
            witness,
        });
        this.reload(settings).await;
        this
    }

    /// Applies new settings: known accounts change, new ones start, missing ones finish and rest. Mail of a missing
    /// account stays queued.
    pub async fn reload(&self, settings: &Settings) {
        let mut gone: Vec<(AccountId, Running)> = Vec::new();
        {
            let mut running = self.lock();
            let names: Vec<AccountId> = running.keys().cloned().collect();
            for name in names {
                if !settings.accounts.iter().any(|a| a.id == name)
                    && let Some(r) = running.remove(&name)
                {
                    gone.push((name, r));
                }
            }
        }
        for (_, r) in &gone {
            let _ = r.tell.send(Message::Event(Event::Drain));
        }
        {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.retain(|(_, r)| !r.task.is_finished());
            leaving.append(&mut gone);
        }
        for account in &settings.accounts {
            let known = self.lock().get(&account.id).map(|r| r.tell.clone());
            if let Some(tell) = known {
                let _ = tell.send(Message::Reload(Box::new((account.clone(), settings.clone()))));
                continue;
            }
            let cut = watch::Sender::new(Cut::Nothing);
            let actor = Actor::new(
                account.clone(),
                settings,
                self.queue.clone(),
                Arc::clone(&self.board),
                cut.clone(),
            );
            let tell = actor.address();
            self.board.join(&account.id, tell.clone());
            let (id, actor) = (account.id.clone(), tokio::spawn(actor.run()));
            let (defect, witness) = (self.defect.clone(), self.witness.clone());
            let task = tokio::spawn(async move {
                if actor.await.is_err_and(|e| e.is_panic()) {
                    witness.tell(Told { account: id, place: None, fact: Fact::Stopped });
                    defect.send_replace(true);
                }
            });
            self.lock().insert(account.id.clone(), Running { tell, cut, task });
        }
        self.tell_stranded().await;
    }

    /// Mail of an account that nobody runs waits for ever, so the admin hears of it.
    async fn tell_stranded(&self) {
        for t in self.queue.ledger.totals().await.unwrap_or_default() {
            if matches!(t.state, State::Queued | State::Held) && !self.lock().contains_key(&t.account) {
                let fact = Fact::Stranded { messages: t.messages };
                self.witness.tell(Told { account: t.account, place: None, fact });
            }
        }
    }

    /// Whether an admin has stopped this account, by what the queue remembers.
    ///
    /// # Errors
    /// `Broken`, `Closed`.
    pub async fn is_paused(notes: &dyn Notes, account: &AccountId) -> Result<bool, QueueError> {
        Ok(notes.note(&account::pause_note(account)).await?.is_some())
    }

    /// Resolves when an account stopped by a defect of ours: a process that goes on without it would keep its mail
    /// in silence, and a fresh one starts from what is on the disk.
    pub async fn failed(&self) {
        let _ = self.defect.subscribe().wait_for(|d| *d).await;
    }

    /// What `status` shows, by account.
    pub async fn live(&self) -> Vec<(AccountId, Live)> {
        let ask: Vec<_> = self.lock().iter().map(|(id, r)| (id.clone(), r.tell.clone())).collect();
        let mut all = Vec::with_capacity(ask.len());
        for (id, tell) in ask {
            let (answer, live) = oneshot::channel();
            if tell.send(Message::Live(answer)).is_ok()
                && let Ok(live) = live.await
            {
                all.push((id, live));
            }
        }
        all
    }

    /// Stops or restarts an account, for good (it survives restarts). `false` when there is no such account.
    pub fn pause(&self, account: &AccountId, paused: bool) -> bool {
        self.send(account, Event::Paused(paused))
    }

    /// The admin says it is mended: probe now.
    pub fn probe(&self, account: &AccountId) -> bool {
        self.send(account, Event::Probe)
    }

    /// Finishes the transactions in flight and says goodbye. What has not reached its final dot within `bound` is
    /// cut there, which leaves no doubt about its outcome; what then has no answer for as long again, too. Returns
    /// soon after that, whatever a disk or a defect does.
    #[expect(clippy::disallowed_methods, reason = "a stop is bounded in real time")]
    pub async fn drain(&self, bound: Duration) {
        let mut running: Vec<(AccountId, Running)> = std::mem::take(&mut *self.lock()).into_iter().collect();
        running.append(&mut self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, r) in &running {
            let _ = r.tell.send(Message::Event(Event::Drain));
        }
        let mut cut_at = tokio::time::Instant::now();
        for cut in [Cut::BeforeDot, Cut::Everything] {
            cut_at += bound;
            for (_, r) in running.iter_mut().filter(|(_, r)| !r.task.is_finished()) {
                if tokio::time::timeout_at(cut_at, &mut r.task).await.is_err() {
                    r.cut.send_replace(cut);
                }
            }
        }
        let over_at = tokio::time::Instant::now() + GOODBYE;
        for (id, r) in running.iter_mut().filter(|(_, r)| !r.task.is_finished()) {
            if tokio::time::timeout_at(over_at, &mut r.task).await.is_err() {
                self.witness.tell(Told { account: id.clone(), place: None, fact: Fact::DrainAbandoned });
            }
        }
    }

    fn send(&self, account: &AccountId, event: Event) -> bool {
        self.lock().get(account).is_some_and(|r| r.tell.send(Message::Event(event)).is_ok())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AccountId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
