//! The server's end for whoever may change things: HTTP/1.1 on the control socket.
//!
//! Invariant: the socket is 0660, so the file system says who may ask. Must not know: how a status looks to people.

use super::report::{
    AccountState, AccountStatus, Action, At, ChangeRequest, Changed, ClientStatus, DeviceList, Ending,
    IncidentStatus, Line, Listed, Message, Naming, Need, QueueStatus, Refusal, RefusedStatus, Select, Shown,
    Status, Try, given_up, in_sandbox, needs, sentence, stranded, to_look_at, with_incidents,
};
use super::{AccountLive, ClientLive, Live, RequestError, Run, Standing};
use crate::fact::{Witness, queue::Fact};
use crate::mail::{AccountId, QueueId, RelayTime, WallTime};
use crate::queue::{Body, Clock, Health, Ledger, Listing, Notes, QueueError};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

const HOUR: Duration = Duration::from_secs(3600);

/// What the server asks.
#[derive(Clone)]
pub struct Relay {
    /// What is in the queue.
    pub ledger: Arc<dyn Ledger>,
    /// What the rooms remember.
    pub notes: Arc<dyn Notes>,
    /// How the storage fares.
    pub health: Arc<dyn Health>,
    /// The relay's clock.
    pub clock: Clock,
    /// The dispatcher and the receiver.
    pub live: Arc<dyn Live>,
    /// When the daemon started.
    pub started_at: WallTime,
    /// Its mail goes to the sandbox.
    pub is_sandbox: bool,
    /// To whom it is told what an admin changed.
    pub witness: Witness,
}

/// Answers until `stop` resolves; requests under way are finished.
///
/// # Errors
/// The socket's.
pub async fn serve(
    listener: UnixListener,
    relay: Relay,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(relay)).with_graceful_shutdown(stop).await
}

/// The routes.
pub fn router(relay: Relay) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/queue", get(list))
        .route("/queue/change", post(change))
        .route("/queue/{id}", get(show))
        .route("/queue/{id}/body", get(body))
        .route("/reload", post(reload))
        .route("/devices", get(devices))
        .route("/devices/{address}/seen", post(device_seen))
        .route("/devices/{address}/name", post(name_device))
        .route("/accounts/{mailbox}/{action}", post(account))
        .with_state(relay)
}

pub(super) struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { error: self.1 })).into_response()
    }
}

impl From<QueueError> for Failed {
    fn from(e: QueueError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
    }
}

fn not_found() -> Failed {
    Failed(StatusCode::NOT_FOUND, "no such message".to_owned())
}

fn bad(e: &impl ToString) -> Failed {
    Failed(StatusCode::BAD_REQUEST, e.to_string())
}

async fn status(State(relay): State<Relay>) -> Result<Json<Status>, Failed> {
    report(&relay, |parts| parts).await.map(Json)
}

/// What may have the words of others in it: as it is, and as much of it as is shown.
pub(super) struct Parts {
    pub(super) accounts: Vec<AccountLive>,
    pub(super) clients: Vec<ClientLive>,
    pub(super) on_disk: Vec<Need>,
    pub(super) refused: Vec<RefusedStatus>,
    pub(super) incidents: Vec<IncidentStatus>,
}

/// The whole relay at this moment, as far as `shown` lets it be seen: before anything is said about it.
pub(super) async fn report(relay: &Relay, shown: impl FnOnce(Parts) -> Parts) -> Result<Status, Failed> {
    let totals = relay.ledger.totals().await?;
    let queue = QueueStatus::of(&totals);
    let Parts { accounts: live, clients, on_disk, refused, incidents } = shown(Parts {
        accounts: relay.live.accounts().await,
        clients: relay.live.clients(),
        on_disk: relay.live.on_disk().await,
        refused: relay.live.devices().refused.into_iter().filter(|r| !r.is_seen).collect(),
        incidents: relay.live.incidents().into_iter().map(IncidentStatus::from).collect(),
    });
    let now = relay.clock.now();
    let ending = Ending::look(relay.ledger.as_ref(), relay.notes.as_ref(), now, WallTime::now()).await?;
    let mut needs_human = needs(
        &live,
        &clients,
        given_up(&queue, &incidents),
        stranded(&totals, &relay.live.configured()),
        ending,
    );
    needs_human.extend(on_disk);
    needs_human.extend(to_look_at(&relay.health.left_behind()));
    let needs_human = with_incidents(needs_human, &incidents);
    let mut accounts = vec![];
    for account in live {
        let delivered = relay.ledger.delivered_since(&account.account, ago(now, 24 * HOUR)).await?;
        accounts.push(AccountStatus::of(account, &totals, &delivered, ago(now, HOUR)));
    }
    let plain = sentence(&needs_human, &incidents, &accounts, &queue);
    Ok(Status {
        running: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Some(At(relay.started_at)),
        is_sandbox: relay.is_sandbox,
        is_abridged: false,
        sentence: if relay.is_sandbox { in_sandbox(&plain) } else { plain },
        incidents,
        needs_human,
        accounts,
        refused,
        clients: clients.into_iter().map(ClientStatus::from).collect(),
        queue,
        counters: relay.live.counters().into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
    })
}

fn ago(now: RelayTime, time: Duration) -> RelayTime {
    RelayTime::from_ms(now.as_ms() - i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

async fn list(State(relay): State<Relay>, Query(select): Query<Select>) -> Result<Response, Failed> {
    let listing = Listing::new(Arc::clone(&relay.ledger), select.filter().map_err(|e| bad(&e))?);
    let clock = relay.clock;
    let pages = stream::unfold(listing, move |mut listing| async move {
        let page = listing.next().await?;
        let listed = page.map(|page| Listed::of(&page, Some((clock.now(), WallTime::now()))));
        Some((listed, listing))
    });
    in_parts(pages).await
}

/// An answer of one line a part, as they come about. What goes wrong before the first is an error of the request;
/// later, only a line can say so.
async fn in_parts<T: Serialize + Send + 'static>(
    parts: impl Stream<Item = Result<T, QueueError>> + Send + 'static,
) -> Result<Response, Failed> {
    let mut parts = Box::pin(parts);
    let (first, rest) = match parts.next().await {
        Some(Ok(part)) => (Line::Part(part), Some(parts)),
        Some(Err(e)) => return Err(e.into()),
        None => (Line::End, None),
    };
    let rest = stream::unfold(rest, |parts| async move {
        let mut parts = parts?;
        Some(match parts.next().await {
            Some(Ok(part)) => (Line::Part(part), Some(parts)),
            Some(Err(e)) => (Line::Failed(e.to_string()), None),
            None => (Line::End, None),
        })
    });
    let lines = stream::once(std::future::ready(first)).chain(rest).map(|line| {
        let mut json = serde_json::to_vec(&line)?;
        json.push(b'\n');
        Ok::<_, io::Error>(Bytes::from(json))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], axum::body::Body::from_stream(lines)).into_response())
}

async fn show(State(relay): State<Relay>, Path(id): Path<String>) -> Result<Json<Shown>, Failed> {
    let id: QueueId = id.parse().map_err(|e| bad(&e))?;
    let (message, attempts) = relay.ledger.show(id).await?.ok_or_else(not_found)?;
    let message = Message::of(&message, Some((relay.clock.now(), WallTime::now())));
    Ok(Json(Shown { message, tries: attempts.into_iter().map(Try::from).collect() }))
}

async fn change(State(relay): State<Relay>, Json(request): Json<ChangeRequest>) -> Result<Response, Failed> {
    let live = relay.live.accounts().await;
    let standing = |account: AccountId| {
        // One that is busy starting or stopping says nothing, and is there.
        let live = live.iter().find(|a| a.account == account);
        let (state, reason) = live.map_or((AccountState::Open, ""), |a| (a.state, &a.reason));
        Standing { account, state, reason: reason.to_owned() }
    };
    let accounts = relay.live.configured().into_iter().map(standing).collect();
    let run = Run::new(Arc::clone(&relay.ledger), &request, Some(accounts), relay.clock.now())?;
    let mut told = Told { run, action: request.action, live: relay.live, witness: relay.witness };
    // Of its own, so that a step under way is finished and counted when whoever asked goes away.
    let (parts, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(part) = told.next().await {
            if parts.send(part).await.is_err() {
                break;
            }
        }
    });
    in_parts(stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) })).await
}

impl From<RequestError> for Failed {
    fn from(e: RequestError) -> Self {
        let code = match e {
            RequestError::Unclear(_) | RequestError::Unreadable => StatusCode::BAD_REQUEST,
            RequestError::NoAccount { .. } => StatusCode::NOT_FOUND,
        };
        Self(code, e.to_string())
    }
}

/// A change that the running relay hears of, and the log, however it ends.
struct Told {
    run: Run,
    action: Action,
    live: Arc<dyn Live>,
    witness: Witness,
}

impl Told {
    async fn next(&mut self) -> Option<Result<Changed, QueueError>> {
        let known = self.run.prospects().len();
        let part = self.run.next().await;
        // Only "try now" means that the account is mended: sorting messages must not knock at a refused login.
        // And only the accounts of these messages, once: ten retries must not be ten refused logins.
        if self.action == Action::Retry {
            for new in &self.run.prospects()[known..] {
                self.live.probe(&AccountId::new(&new.account));
            }
        }
        part
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if self.run.changed() > 0 {
            self.witness.tell(Fact::Changed { how: word(&self.action), count: self.run.changed() });
        }
    }
}

fn word(action: &Action) -> &'static str {
    match action {
        Action::Retry => "retried",
        Action::Hold => "held",
        Action::Release => "released",
        Action::Remove => "removed",
        Action::Move(_) => "moved",
    }
}

async fn body(State(relay): State<Relay>, Path(id): Path<String>) -> Result<Response, Failed> {
    let id: QueueId = id.parse().map_err(|e| bad(&e))?;
    let body = relay.ledger.body(id).await?.ok_or_else(not_found)?;
    let gone =
        |e: io::Error| Failed(StatusCode::INTERNAL_SERVER_ERROR, format!("the content is unreadable: {e}"));
    let chunks = chunks(&body).await.map_err(gone)?;
    Ok(([(CONTENT_TYPE, "message/rfc822")], axum::body::Body::from_stream(chunks)).into_response())
}

/// Head, then content. An error on the way breaks the transfer off, so that nobody takes a part for the whole.
async fn chunks(
    body: &Body,
) -> io::Result<impl futures_util::Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let reader = body.open().await?;
    let head = Bytes::copy_from_slice(body.head());
    Ok(futures_util::stream::try_unfold((Some(head), reader), |(head, mut reader)| async move {
        if let Some(head) = head {
            return Ok(Some((head, (None, reader))));
        }
        Ok(reader.chunk().await?.map(|chunk| (chunk, (None, reader))))
    }))
}

async fn reload(State(relay): State<Relay>) -> Result<Json<Vec<String>>, Failed> {
    relay.live.reload().await.map(Json).map_err(|why| Failed(StatusCode::CONFLICT, why))
}

async fn devices(State(relay): State<Relay>) -> Json<DeviceList> {
    Json(relay.live.devices())
}

async fn device_seen(State(relay): State<Relay>, Path(address): Path<IpAddr>) -> Result<StatusCode, Failed> {
    known(relay.live.device_seen(address), "nobody of this address was refused")
}

async fn name_device(
    State(relay): State<Relay>,
    Path(address): Path<IpAddr>,
    Json(Naming { name }): Json<Naming>,
) -> Result<StatusCode, Failed> {
    known(relay.live.name_device(address, &name), "no device of this address ever came")
}

fn known(is_known: bool, else_say: &str) -> Result<StatusCode, Failed> {
    if is_known {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failed(StatusCode::NOT_FOUND, else_say.to_owned()))
    }
}

async fn account(
    State(relay): State<Relay>,
    Path((mailbox, action)): Path<(String, String)>,
) -> Result<StatusCode, Failed> {
    let account = AccountId::named(&mailbox);
    let known = match action.as_str() {
        "pause" => relay.live.pause(&account),
        "resume" => relay.live.resume(&account),
        "probe" => relay.live.probe(&account),
        _ => return Err(Failed(StatusCode::NOT_FOUND, "no such action".to_owned())),
    };
    self::known(known, "no such account")
}
