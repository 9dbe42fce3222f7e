//! The task of one connection: opens it, sends what it is given, says goodbye.
//!
//! Invariant: every errand is answered by exactly one `Sent`, with the lease that came with it, and the last event is
//! `Closed` or `OpenFailed`. Must not know: why it was told to.

use super::Account;
use super::plan::{self, ConnId, Leased};
use crate::fact::submit::Fact;
use crate::mail::{Cause, Failure, Mailbox, QueuedMessage, Stage};
use crate::policy::verdict::Judged;
use crate::queue::Lease;
use crate::submit::{Connection, Outcome, Outgoing, Sent};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};

/// What happens to an account whose messages are leased from the queue.
pub(super) type Event = plan::Event<Box<Lease>, Line>;

impl Leased for Box<Lease> {
    fn message(&self) -> &QueuedMessage {
        &self.message
    }
}

/// The handle of a connection. When the last one is dropped, it says QUIT and waits for the peer to close.
#[derive(Debug, Clone)]
pub(super) struct Line {
    conn: ConnId,
    errands: mpsc::UnboundedSender<Errand>,
}

/// A message, and to which of its pending recipients it goes, by their places among them and in this order.
#[derive(Debug)]
struct Errand(Box<Lease>, Vec<usize>);

impl Line {
    /// Sends over it; the lease comes back by an event.
    ///
    /// # Errors
    /// The lease, where the connection is gone.
    pub(super) fn send(&self, lease: Box<Lease>, to: Vec<usize>) -> Result<(), Box<Lease>> {
        self.errands.send(Errand(lease, to)).map_err(|e| e.0.0)
    }

    /// What came of a message whose connection was gone before it began.
    pub(super) fn untouched(&self, lease: Box<Lease>, host: String) -> Event {
        untouched(self.conn, lease, host)
    }
}

/// What a stop ends of what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    Nothing,
    /// What has not reached its final dot: no doubt about its outcome is left.
    BeforeDot,
    /// What waits for the answer to its final dot, too: its outcome is unknown, and recorded as such. A supervisor
    /// that runs out of patience would leave the same doubt without the record.
    Everything,
}

/// Runs one connection to its end, or until `cut`.
pub(super) async fn run(
    conn: ConnId,
    account: Arc<Account>,
    nth_address: usize,
    tell: impl Fn(Event) + Send,
    mut cut: watch::Receiver<Cut>,
) {
    let open = AssertUnwindSafe(account.way.open(nth_address)).catch_unwind();
    let gone =
        |said: &str| Box::new(Judged::early(Failure::new(Stage::Connect, Cause::Network(said.into()))));
    let opened = tokio::select! {
        opened = open => opened.unwrap_or_else(|_| Err(gone("a defect of mailferry"))),
        _ = cut.wait_for(|c| *c > Cut::Nothing) => Err(gone("stopping")),
    };
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(failed) => return tell(Event::OpenFailed(conn, failed)),
    };
    let host = connection.peer();
    let (line, mut errands) = mpsc::unbounded_channel();
    tell(Event::Opened(conn, Line { conn, errands: line }));
    loop {
        let errand = tokio::select! {
            errand = errands.recv() => errand,
            cause = connection.closed_by_peer() => {
                account.witness.tell(Fact::ClosedByPeer { host: host.clone(), cause });
                break;
            }
        };
        let Some(Errand(lease, to)) = errand else {
            tokio::select! {
                () = connection.quit() => {}
                _ = cut.wait_for(|c| *c > Cut::Nothing) => {}
            }
            break;
        };
        let dotted = Arc::new(AtomicBool::new(false));
        let sent = tokio::select! {
            sent = AssertUnwindSafe(send(&mut connection, &lease, &to, &account, &dotted))
                .catch_unwind() => sent.unwrap_or_else(|_| defect(&lease, &dotted)),
            stage = cut_at(&mut cut, &dotted) => failed(&lease, stage, "stopping"),
        };
        let usable = sent.usable;
        tell(Event::Sent(conn, lease, sent, host.clone()));
        if !usable {
            connection.quit().await;
            break;
        }
    }
    // An errand that crossed our end in the mail: the message was not touched.
    errands.close();
    while let Some(Errand(lease, _)) = errands.recv().await {
        tell(untouched(conn, lease, host.clone()));
    }
    tell(Event::Closed(conn));
}

/// One transaction for some of the pending recipients; the others' outcome is `Untried`.
async fn send(
    connection: &mut Connection,
    lease: &Lease,
    to: &[usize],
    account: &Account,
    dotted: &AtomicBool,
) -> Sent {
    let message = &lease.message;
    let pending: Vec<&Mailbox> = message.pending().collect();
    let outgoing = Outgoing {
        reverse_path: &message.reverse_path,
        recipients: to.iter().filter_map(|i| pending.get(*i).copied()).collect(),
        letter: &lease.body,
        charset: message.charset.as_deref(),
        sender: &account.sender,
    };
    let hands_over = || {
        dotted.store(true, Ordering::SeqCst);
        lease.hands_over();
    };
    let mut sent = connection.send(&outgoing, &hands_over).await;
    match (&sent.failure, sent.taken()) {
        (Some(failure), _) => {
            account.witness.tell(Fact::TransactionFailed { id: message.id, failure: failure.clone() });
        }
        (None, 0) => {}
        (None, recipients) => {
            let (id, size_bytes) = (message.id, message.size_bytes);
            account.witness.tell(Fact::TransactionTaken { id, recipients, size_bytes });
        }
    }
    let mut outcomes = vec![Outcome::Untried; pending.len()];
    for (place, outcome) in to.iter().zip(std::mem::take(&mut sent.outcomes)) {
        if let Some(its) = outcomes.get_mut(*place) {
            *its = outcome;
        }
    }
    Sent { outcomes, ..sent }
}

/// A panic, told by its own line in the log, must cost neither the lease nor the account its connection: the
/// message spends an attempt or opens the breaker, so that it cannot bring down one connection after the other
/// without a pause.
fn defect(lease: &Lease, dotted: &AtomicBool) -> Sent {
    let stage = if dotted.load(Ordering::SeqCst) { Stage::FinalDot } else { Stage::Data };
    failed(lease, stage, "a defect of mailferry")
}

fn untouched(conn: ConnId, lease: Box<Lease>, host: String) -> Event {
    let sent = failed(&lease, Stage::Mail, "the connection was closed while idle");
    Event::Sent(conn, lease, sent, host)
}

fn failed(lease: &Lease, stage: Stage, said: &str) -> Sent {
    Sent::lost(lease.message.pending().count(), Failure::new(stage, Cause::Network(said.to_owned())))
}

/// Resolves when the transaction is to be cut, with the stage it had come to.
async fn cut_at(cut: &mut watch::Receiver<Cut>, dotted: &AtomicBool) -> Stage {
    if cut.wait_for(|c| *c > Cut::Nothing).await.is_ok() {
        if !dotted.load(Ordering::SeqCst) {
            return Stage::Data;
        }
        if cut.wait_for(|c| *c == Cut::Everything).await.is_ok() {
            return Stage::FinalDot;
        }
    }
    std::future::pending().await
}
