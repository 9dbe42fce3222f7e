//! Where answers come from: the running daemon, or the queue directory when there is none.
//!
//! Invariant: both give the same answers in the same types. Must not know: how they are printed.

use super::{Failure, exit};
use crate::control::client::{Client, ClientError, Parts};
use crate::control::report::{
    AccountState, ChangeRequest, Changed, DeviceList, Ending, Listed, Message, Need, QueueStatus, Select,
    Shown, Status, Try, needs, sentence_when_stopped, stranded, to_look_at,
};
use crate::control::{RequestError, Run, Standing};
use crate::daemon::device_list;
use crate::dispatch::Dispatcher;
use crate::mail::{AccountId, QueueId, WallTime};
use crate::queue::{self, Queue, QueueError};
use crate::receive::devices::Devices;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};

pub(super) enum Source {
    Daemon(Client),
    Directory {
        queue: Queue,
        /// Those in the configuration; none: it cannot be read.
        accounts: Option<Vec<AccountId>>,
    },
    /// The relay has not been started yet, or its queue is elsewhere. It is made by the relay, as the relay's user.
    Nowhere(PathBuf),
}

impl From<QueueError> for Failure {
    fn from(e: QueueError) -> Self {
        Self::new(
            exit::TRY_LATER,
            e.to_string(),
            "see whether the disk is full, or the directory another user's",
        )
    }
}

fn no_such_message(id: QueueId) -> Failure {
    let hint = "it may have been delivered and forgotten; see: mailferry queue list";
    Failure::new(exit::NO_INPUT, format!("no such message: {id}"), hint)
}

/// Whether it failed because there is no such message, or its content is gone.
pub(super) fn is_gone(failure: &Failure) -> bool {
    failure.code == exit::NO_INPUT
}

fn write_failed(e: &io::Error) -> Failure {
    Failure::new(exit::IO, format!("cannot write: {e}"), "see whether the disk is full")
}

async fn remembered(queue: &Queue) -> Result<Devices, Failure> {
    let devices = Devices::new(WallTime::now(), TimeZone::system());
    devices.take_up(queue.notes.as_ref()).await?;
    Ok(devices)
}

async fn changed(queue: &Queue, change: impl FnOnce(&Devices) -> bool) -> Result<bool, Failure> {
    let devices = remembered(queue).await?;
    let is_known = change(&devices);
    devices.keep(queue.notes.as_ref(), true).await?;
    Ok(is_known)
}

fn found(answer: Result<(), ClientError>) -> Result<bool, Failure> {
    match answer {
        Ok(()) => Ok(true),
        Err(ClientError::NotFound(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn no_queue(directory: &Path) -> Failure {
    let what = format!("mailferry is not running, and there is no queue in {}", directory.display());
    Failure::new(exit::UNAVAILABLE, what, "start it with: systemctl start mailferry")
}

impl Source {
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.status().await?),
            Self::Directory { queue, accounts } => {
                let totals = queue.ledger.totals().await?;
                let stranded = accounts.as_ref().map_or(vec![], |accounts| stranded(&totals, accounts));
                let ending = Ending::look(
                    queue.ledger.as_ref(),
                    queue.notes.as_ref(),
                    queue.clock.now(),
                    WallTime::now(),
                )
                .await?;
                let left_behind = queue.health.left_behind();
                let queue = QueueStatus::of(&totals);
                let mut needs_human = needs(&[], &[], queue.dead, stranded, ending);
                needs_human.extend(to_look_at(&left_behind));
                Ok(Self::stopped(sentence_when_stopped(&queue), needs_human, queue))
            }
            Self::Nowhere(directory) => {
                Ok(Self::stopped(no_queue(directory).message, vec![], QueueStatus::default()))
            }
        }
    }

    fn stopped(sentence: String, needs_human: Vec<Need>, queue: QueueStatus) -> Status {
        Status {
            running: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: None,
            is_sandbox: false,
            is_abridged: false,
            sentence,
            incidents: vec![],
            needs_human,
            accounts: vec![],
            clients: vec![],
            refused: vec![],
            queue,
            counters: BTreeMap::new(),
        }
    }

    /// Everything that is remembered of devices.
    pub(super) async fn devices(&self) -> Result<DeviceList, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.devices().await?),
            Self::Directory { queue, .. } => Ok(device_list(&remembered(queue).await?, WallTime::now())),
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    /// False: nobody of this address was refused.
    pub(super) async fn device_seen(&self, address: IpAddr) -> Result<bool, Failure> {
        match self {
            Self::Daemon(client) => found(client.device_seen(address).await),
            Self::Directory { queue, .. } => changed(queue, |devices| devices.mark_seen(address)).await,
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    /// False: it never came.
    pub(super) async fn name_device(&self, address: IpAddr, name: &str) -> Result<bool, Failure> {
        match self {
            Self::Daemon(client) => found(client.name_device(address, name).await),
            Self::Directory { queue, .. } => changed(queue, |devices| devices.name(address, name)).await,
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    /// Whether somebody is there who sends.
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Daemon(_))
    }

    /// The configured accounts; none when nobody can say which these are.
    pub(super) async fn accounts(&self) -> Result<Vec<AccountId>, Failure> {
        Ok(match self {
            Self::Daemon(client) => {
                client.status().await?.accounts.iter().map(|a| AccountId::new(&a.mailbox)).collect()
            }
            Self::Directory { accounts, .. } => accounts.clone().unwrap_or_default(),
            Self::Nowhere(_) => vec![],
        })
    }

    /// The configured clients; none when nobody can say which these are.
    pub(super) async fn clients(&self) -> Result<Vec<String>, Failure> {
        match self {
            Self::Daemon(client) => {
                let mut names: Vec<String> =
                    client.status().await?.clients.into_iter().map(|c| c.name).collect();
                names.sort();
                names.dedup();
                Ok(names)
            }
            Self::Directory { .. } | Self::Nowhere(_) => Ok(vec![]),
        }
    }

    pub(super) async fn listing(&self, select: &Select) -> Result<Listing, Failure> {
        match self {
            Self::Daemon(client) => Ok(Listing::Daemon(client.listing(select).await?)),
            Self::Directory { queue, .. } => {
                let filter = select.filter().map_err(|e| Failure::new(exit::USAGE, e, ""))?;
                Ok(Listing::Directory(queue::Listing::new(Arc::clone(&queue.ledger), filter)))
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    pub(super) async fn show(&self, id: QueueId) -> Result<Shown, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.show(id).await?),
            Self::Directory { queue, .. } => {
                let (message, attempts) = queue.ledger.show(id).await?.ok_or_else(|| no_such_message(id))?;
                let tries = attempts.into_iter().map(Try::from).collect();
                Ok(Shown { message: Message::of(&message, None), tries })
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    pub(super) async fn changing(&self, request: &ChangeRequest) -> Result<Changing, Failure> {
        match self {
            Self::Daemon(client) => Ok(Changing::Daemon(client.changing(request).await?)),
            Self::Directory { queue, accounts } => {
                let mut standings = vec![];
                for account in accounts.iter().flatten() {
                    let is_paused = Dispatcher::is_paused(queue.notes.as_ref(), account).await?;
                    let state = if is_paused { AccountState::Paused } else { AccountState::Open };
                    standings.push(Standing { account: account.clone(), state, reason: String::new() });
                }
                let standings = accounts.as_ref().map(|_| standings);
                let run = Run::new(Arc::clone(&queue.ledger), request, standings, queue.clock.now());
                Ok(Changing::Directory(Box::new(run.map_err(|e| {
                    let (code, hint) = match e {
                        RequestError::Unclear(_) => (exit::USAGE, ""),
                        RequestError::Unreadable => (exit::CONFIG, "see what is wrong with: mailferry check"),
                        RequestError::NoAccount { .. } => (exit::NO_INPUT, ""),
                    };
                    Failure::new(code, e.to_string(), hint)
                })?)))
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    /// Writes head and content.
    pub(super) async fn body(&self, id: QueueId, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => Ok(client.body(id, to).await?),
            Self::Directory { queue, .. } => {
                let body = queue.ledger.body(id).await?.ok_or_else(|| no_such_message(id))?;
                let unreadable = |e: io::Error| {
                    Failure::new(
                        exit::IO,
                        format!("the content of {id} is unreadable: {e}"),
                        "see the disk's health",
                    )
                };
                to.write_all(body.head()).await.map_err(|e| write_failed(&e))?;
                let mut reader = body.open().await.map_err(unreadable)?;
                while let Some(chunk) = reader.chunk().await.map_err(unreadable)? {
                    to.write_all(&chunk).await.map_err(|e| write_failed(&e))?;
                }
                to.flush().await.map_err(|e| write_failed(&e))
            }
            Self::Nowhere(directory) => Err(no_queue(directory)),
        }
    }

    pub(super) async fn close(&self) {
        if let Self::Directory { queue, .. } = self {
            queue.health.close().await;
        }
    }
}

/// Messages, in parts.
pub(super) enum Listing {
    Daemon(Parts<Listed>),
    Directory(queue::Listing),
}

impl Listing {
    /// The next part; `None` at the end. An error is the end.
    pub(super) async fn next(&mut self) -> Option<Result<Listed, Failure>> {
        match self {
            Self::Daemon(parts) => Some(parts.next().await?.map_err(Failure::from)),
            Self::Directory(listing) => {
                Some(listing.next().await?.map(|page| Listed::of(&page, None)).map_err(Failure::from))
            }
        }
    }
}

/// A change, in parts. It goes on only as long as the next part is asked for.
pub(super) enum Changing {
    Daemon(Parts<Changed>),
    Directory(Box<Run>),
}

impl Changing {
    /// What the next step came to; `None` at the end. An error is the end, and says nothing against what was done.
    pub(super) async fn next(&mut self) -> Option<Result<Changed, Failure>> {
        match self {
            Self::Daemon(parts) => Some(parts.next().await?.map_err(Failure::from)),
            Self::Directory(run) => Some(run.next().await?.map_err(Failure::from)),
        }
    }
}
