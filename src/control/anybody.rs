//! What anybody on this host may ask: the status socket, so that a monitor needs no power over the queue.
//!
//! Invariant: it only reads, and no text of a peer, no address of a person or a device, no subject and no content is in
//! an answer. An answer is made once a second at most, and whoever asks holds a few connections for a few seconds: a
//! stranger who asks without end costs the relay nothing. Must not know: how to change anything.

use super::api::{self, Failed, Parts, Relay};
use super::report::{IncidentStatus, Need, Status};
use super::{AccountLive, ClientLive};
use crate::mail::RelayTime;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::net::unix::SocketAddr;
use tokio::time::Sleep;

/// Connections of all users together.
const MOST: usize = 32;
/// Connections of one user.
const MOST_OF_ONE: usize = 4;
/// A connection with its questions and answers lives so long.
const LIFE: Duration = Duration::from_secs(10);
/// A question has a line and a few fields; nobody asks more in one connection.
const MOST_BYTES: usize = 16 << 10;
/// So old may an answer be.
const FRESH: Duration = Duration::from_secs(1);

const MORE_RIGHTS: &str = "mailferry status, as root or a member of group mailferry, says more";

/// Answers until `stop` resolves.
///
/// # Errors
/// The socket's.
pub async fn serve(
    listener: UnixListener,
    relay: Relay,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let few = Few { listener, guests: Arc::default() };
    axum::serve(few, router(relay)).with_graceful_shutdown(stop).await
}

/// The routes.
pub fn router(relay: Relay) -> Router {
    Router::new().route("/status", get(status)).with_state(Reader { relay, latest: Arc::default() })
}

#[derive(Clone)]
struct Reader {
    relay: Relay,
    latest: Arc<tokio::sync::Mutex<Option<(RelayTime, Status)>>>,
}

async fn status(State(reader): State<Reader>) -> Result<Json<Status>, Failed> {
    // Held while it is made: whoever asks meanwhile gets the same.
    let mut latest = reader.latest.lock().await;
    let now = reader.relay.clock.now();
    if let Some((made, status)) = latest.as_ref()
        && now.since(*made) < FRESH
    {
        return Ok(Json(status.clone()));
    }
    let status = api::report(&reader.relay, |whole| Parts {
        accounts: whole.accounts.into_iter().map(account).collect(),
        clients: together(whole.clients),
        on_disk: whole.on_disk.iter().map(on_disk).collect(),
        refused: vec![],
        incidents: whole.incidents.into_iter().map(IncidentStatus::abridged).collect(),
    })
    .await?;
    let status = Status { is_abridged: true, ..status };
    *latest = Some((now, status.clone()));
    Ok(Json(status))
}

/// The smart host's words may quote whom a message was for; the catalogue's do not.
fn account(live: AccountLive) -> AccountLive {
    let reason = match live.advice {
        Some(advice) => advice.meaning().to_owned(),
        None if live.since.is_some() => "the smart host does not take its mail".to_owned(),
        None => live.reason,
    };
    let command = || live.advice.map_or(MORE_RIGHTS.to_owned(), |a| format!("see: {}", a.command()));
    AccountLive { reason, hint: live.hint.as_ref().map(|_| command()), ..live }
}

/// Behind the colon may stand what the file says, and there the addresses of people.
fn on_disk(need: &Need) -> Need {
    let what = need.what.split(": ").next().unwrap_or_default().to_owned();
    Need { what, hint: MORE_RIGHTS.to_owned(), account: None, kind: need.kind }
}

/// A client without its addresses.
fn together(clients: Vec<ClientLive>) -> Vec<ClientLive> {
    let mut all: Vec<ClientLive> = vec![];
    for c in clients {
        match all.iter_mut().find(|a| a.name == c.name) {
            Some(sum) => {
                sum.last_seen_at = sum.last_seen_at.max(c.last_seen_at);
                sum.messages_total += c.messages_total;
                sum.is_silent |= c.is_silent;
            }
            None => all.push(ClientLive { address: None, last_problem: String::new(), ..c }),
        }
    }
    all
}

/// Takes few connections at a time, and closes the others at once.
struct Few {
    listener: UnixListener,
    guests: Arc<Mutex<Guests>>,
}

#[derive(Debug, Default)]
struct Guests {
    total: usize,
    by_user: BTreeMap<u32, usize>,
}

impl Guests {
    /// Root always finds a place, so that strangers cannot keep the admin's monitor out.
    fn come(&mut self, user: u32) -> bool {
        let of_one = self.by_user.entry(user).or_default();
        if *of_one >= MOST_OF_ONE || (self.total >= MOST && user != 0) {
            if *of_one == 0 {
                self.by_user.remove(&user);
            }
            return false;
        }
        *of_one += 1;
        self.total += 1;
        true
    }

    fn go(&mut self, user: u32) {
        self.total -= 1;
        if let Some(of_one) = self.by_user.get_mut(&user) {
            *of_one -= 1;
            if *of_one == 0 {
                self.by_user.remove(&user);
            }
        }
    }
}

impl axum::serve::Listener for Few {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                // Too many open files: others end meanwhile.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let Ok(user) = stream.peer_cred().map(|c| c.uid()) else { continue };
            if self.guests.lock().unwrap_or_else(PoisonError::into_inner).come(user) {
                let end = Box::pin(tokio::time::sleep(LIFE));
                let guests = Arc::clone(&self.guests);
                return (Guest { stream, end, read_bytes: 0, user, guests }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection, for as long and as much as it may.
struct Guest {
    stream: UnixStream,
    end: Pin<Box<Sleep>>,
    read_bytes: usize,
    user: u32,
    guests: Arc<Mutex<Guests>>,
}

impl Guest {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.read_bytes > MOST_BYTES || self.end.as_mut().poll(cx).is_ready()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).go(self.user);
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read_bytes += buf.filled().len() - before;
        read
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_few_places_and_all_together_leave_one_for_root() {
        let mut guests = Guests::default();
        let taken = (0..100).filter(|_| guests.come(1000)).count();
        assert_eq!(taken, MOST_OF_ONE);
        for user in 1001..1100 {
            while guests.come(user) {}
        }
        assert_eq!(guests.total, MOST);
        assert!(guests.come(0) && !guests.come(5000));
        assert!(!guests.by_user.contains_key(&5000), "who was turned away is not remembered");
        guests.go(0);
        for _ in 0..MOST_OF_ONE {
            guests.go(1000);
        }
        assert!(guests.come(5000));
    }
}
