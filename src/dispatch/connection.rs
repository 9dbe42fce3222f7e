//! The task of one connection: opens it, sends what it is given, says goodbye.
//!
//! Invariant: every order is answered by exactly one report, and the last report is `Closed` or `OpenFailed`; a
//! lease that was handed over always comes back. Must not know: why it was told to.

use super::plan::ConnId;
use super::{Account, login};
use crate::mail::{Cause, Failure, Progress, QueuedMessage, Recipient, Stage};
use crate::queue::Lease;
use crate::submit::{Connection, Outcome, Sent};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};

/// What a connection is told.
pub(super) enum Order {
    /// Send this message to these of its pending recipients, by their places among them and in this order.
    Send(Box<Lease>, Vec<usize>),
    /// Say QUIT, wait for the peer to close.
    Close,
}

/// What a connection tells.
pub(super) enum Report {
    /// Logged in.
    Opened(ConnId),
    /// Could not be made; gone.
    OpenFailed(ConnId, Failure),
    /// A transaction ended; the lease comes back. The last item is the address it was tried at.
    Sent(ConnId, Box<Lease>, Sent, String),
    /// Gone, and the peer knows.
    Closed(ConnId),
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
    mut orders: mpsc::UnboundedReceiver<Order>,
    reports: impl Fn(Report) + Send,
    mut cut: watch::Receiver<Cut>,
) {
    let open = AssertUnwindSafe(login::open(&account, nth_address)).catch_unwind();
    let opened = tokio::select! {
        opened = open => opened.unwrap_or_else(|_| {
            Err(Failure::new(Stage::Connect, Cause::Network("a defect of mailferry".into())))
        }),
        _ = cut.wait_for(|c| *c > Cut::Nothing) => Err(Failure::new(Stage::Connect, Cause::Network("stopping".into()))),
    };
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(failure) => return reports(Report::OpenFailed(conn, failure)),
    };
    let host = connection.address().to_string();
    reports(Report::Opened(conn));
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            cause = connection.closed_by_peer() => {
                tracing::debug!(event = "closed_by_peer", %host, "the smart host closed an idle connection: {cause:?}");
                break;
            }
        };
        let Some(Order::Send(lease, to)) = order else {
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
            stage = cut_at(&mut cut, &dotted) => Sent {
                outcomes: lease.message.pending().map(|_| Outcome::Untried).collect(),
                failure: Some(Failure::new(stage, Cause::Network("stopping".into()))),
                usable: false,
            },
        };
        let usable = sent.usable;
        reports(Report::Sent(conn, lease, sent, host.clone()));
        if !usable {
            connection.quit().await;
            break;
        }
    }
    // An order that crossed our end in the mail: the message was not touched.
    orders.close();
    while let Some(order) = orders.recv().await {
        if let Order::Send(lease, _) = order {
            reports(untouched(conn, lease, &host));
        }
    }
    reports(Report::Closed(conn));
}

/// One transaction for some of the pending recipients; the others' outcome is `Untried`.
async fn send(
    connection: &mut Connection,
    lease: &Lease,
    to: &[usize],
    account: &Account,
    dotted: &AtomicBool,
) -> Sent {
    let pending: Vec<&Recipient> =
        lease.message.recipients.iter().filter(|r| r.progress == Progress::Pending).collect();
    let recipients = to.iter().filter_map(|i| pending.get(*i).copied().cloned()).collect();
    let part = QueuedMessage { recipients, ..lease.message.clone() };
    let dots = || {
        dotted.store(true, Ordering::SeqCst);
        lease.hands_over();
    };
    let mut sent = connection.send(&part, &lease.body, &account.sender, &dots).await;
    let mut outcomes = vec![Outcome::Untried; pending.len()];
    for (place, outcome) in to.iter().zip(std::mem::take(&mut sent.outcomes)) {
        if let Some(its) = outcomes.get_mut(*place) {
            *its = outcome;
        }
    }
    Sent { outcomes, ..sent }
}

/// A panic, told by its own line in the log, must cost neither the lease nor the account its connection: the
/// message spends an attempt or opens the breaker, so that it cannot
/// bring down one connection after the other without a pause.
fn defect(lease: &Lease, dotted: &AtomicBool) -> Sent {
    let stage = if dotted.load(Ordering::SeqCst) { Stage::FinalDot } else { Stage::Data };
    Sent {
        outcomes: lease.message.pending().map(|_| Outcome::Untried).collect(),
        failure: Some(Failure::new(stage, Cause::Network("a defect of mailferry".into()))),
        usable: false,
    }
}

/// The report on a message whose connection was gone before it began.
pub(super) fn untouched(conn: ConnId, lease: Box<Lease>, host: &str) -> Report {
    let sent = Sent {
        outcomes: lease.message.pending().map(|_| Outcome::Untried).collect(),
        failure: Some(Failure::new(
            Stage::Mail,
            Cause::Network("the connection was closed while idle".into()),
        )),
        usable: false,
    };
    Report::Sent(conn, lease, sent, host.to_owned())
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
