//! One test message through the running relay, as a device would send it, followed until its fate is known.
//!
//! Invariant: it goes through a listener and the admission like any device's; nothing is said of it that the relay
//! did not say. Must not know: terminals, exit codes.

use super::explain;
use super::host::reachable;
use crate::config::Settings;
use crate::control::client::{Client, ClientError};
use crate::control::report::{AccountState, Message, Status, ToProgress};
use crate::fact::Witness;
use crate::mail::{Failure, Mailbox, QueueId, ReversePath, Sender, State, WallTime};
use crate::policy::advice::command;
use crate::receive::{self, Auth, Listen};
use crate::submit::smtp::{Connection, SmartHost, Tls};
use crate::submit::{InMemory, Outcome, Outgoing};
use crate::tls::Trust;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Between two looks at the message.
const LOOK: Duration = Duration::from_millis(250);
/// The relay answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whom to.
    pub to: Mailbox,
    /// Whom from; none: the default account's mailbox.
    pub from: Option<Mailbox>,
    /// It is not followed for longer.
    pub patience: Duration,
}

/// What became of it in that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The smart host has it.
    Delivered,
    /// It waits in the queue.
    Waiting,
    /// It is a dead letter.
    Dead,
}

/// Why it was not even accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendTestError {
    /// Every listener wants TLS or a login.
    #[error("no listener takes mail without TLS and login")]
    NoPlainListener,
    /// We are no client of our own.
    #[error("this host's address {0} is in no [[client]], so the relay would refuse its mail")]
    NotAClient(IpAddr),
    /// The daemon.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// The listener's answer.
    #[error("the relay at {address} did not take it: {failure}")]
    Refused {
        /// Which listener.
        address: SocketAddr,
        /// Its words.
        failure: Failure,
    },
    /// A 250 without a queue id in it.
    #[error("the relay's answer names no message: {0}")]
    NoId(String),
}

/// Takes one line, and what to do about it.
pub type Tell<'t> = &'t mut (dyn FnMut(&str, Option<&str>) + Send);

/// Sends it and says each thing that happens, one line each.
///
/// # Errors
/// It was not accepted, or the daemon went away.
pub async fn send_test(settings: &Settings, order: &Order, tell: Tell<'_>) -> Result<Fate, SendTestError> {
    let client = Client::new(&settings.sockets.control);
    if client.status().await?.is_sandbox {
        tell(
            "SANDBOX: whatever becomes of it, nobody gets it",
            Some("for a real test start the relay without --sandbox"),
        );
    }
    let listen =
        settings.listen.iter().find(|l| takes_plain_mail(l)).ok_or(SendTestError::NoPlainListener)?;
    let address = reachable(listen.address);
    // A connection to one of our own addresses comes from that address.
    let client_name = settings
        .receive
        .clients
        .admit(address.ip())
        .ok_or(SendTestError::NotAClient(address.ip()))?
        .name
        .to_string();
    let from = order.from.clone().unwrap_or_else(|| default_mailbox(settings));
    tell(
        &format!("sending from {from} to {} through {address}, as a device of {client_name}", order.to),
        None,
    );
    let said = submit(settings, address, &from, &order.to)
        .await
        .map_err(|failure| SendTestError::Refused { address, failure })?;
    tell(&format!("accepted: {said}"), None);
    let id = said
        .rsplit(' ')
        .find_map(|word| word.parse::<QueueId>().ok())
        .ok_or_else(|| SendTestError::NoId(said.clone()))?;
    follow(&client, id, order.patience, tell).await
}

fn takes_plain_mail(listen: &Listen) -> bool {
    listen.tls != receive::Tls::Implicit && listen.auth != Auth::Required
}

fn default_mailbox(settings: &Settings) -> Mailbox {
    let default = settings.accounts.iter().find(|a| a.id == settings.receive.routes.default);
    default.unwrap_or(&settings.accounts[0]).sender.mailbox.clone()
}

/// The words of the 250.
async fn submit(
    settings: &Settings,
    address: SocketAddr,
    from: &Mailbox,
    to: &Mailbox,
) -> Result<String, Failure> {
    let relay = SmartHost {
        host: address.ip().to_string(),
        port: address.port(),
        tls: Tls::Off,
        login: None,
        ehlo_name: settings.hostname.clone(),
        connect_timeout: PATIENCE,
        command_timeout: PATIENCE,
        data_timeout: PATIENCE,
    };
    let trust = Trust::new(None).expect("no file is read");
    let mut connection = Connection::open(&relay, &trust, address, &Witness::nobody()).await?;
    let sender = Sender { mailbox: from.clone(), send_as: vec![] };
    let outgoing = Outgoing {
        reverse_path: &ReversePath::Mailbox(from.clone()),
        recipients: vec![to],
        letter: &letter(from, to, &settings.hostname),
        charset: None,
        sender: &sender,
    };
    let sent = connection.send(&outgoing, &|| {}).await;
    connection.quit().await;
    match (sent.failure, sent.outcomes.into_iter().next()) {
        (Some(failure), _) | (None, Some(Outcome::Refused(failure))) => Err(failure),
        (None, Some(Outcome::Taken(reply))) => Ok(reply.to_string()),
        (None, _) => unreachable!("one recipient is taken or refused when the transaction went through"),
    }
}

async fn follow(
    client: &Client,
    id: QueueId,
    patience: Duration,
    tell: Tell<'_>,
) -> Result<Fate, SendTestError> {
    let began = Instant::now();
    let mut last = String::new();
    loop {
        let message = client.show(id).await?.message;
        let status = client.status().await?;
        let now = look(&message, &status);
        if now.said != last {
            tell(&now.said, now.hint.as_deref());
            last = now.said;
        }
        if let Some(fate) = now.fate {
            return Ok(fate);
        }
        if began.elapsed() >= patience {
            tell(
                "still in the queue; it goes on by itself",
                Some(&format!("see: mailferry queue show {id}")),
            );
            return Ok(Fate::Waiting);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Where it stands.
struct Look {
    said: String,
    hint: Option<String>,
    /// Set when nothing is worth waiting for.
    fate: Option<Fate>,
}

fn look(message: &Message, status: &Status) -> Look {
    let id = message.id;
    let to = message.to.iter().find(|t| t.progress != ToProgress::Pending);
    let reply = to.map_or(message.last_said.as_str(), |t| t.said.as_str());
    let account = status.accounts.iter().find(|a| a.mailbox.eq_ignore_ascii_case(&message.account));
    let mailbox = &message.account;
    let (said, hint, fate) = match (message.state, account.map(|a| (a.state, a.reason.as_str()))) {
        (State::Delivered, _) => (format!("delivered: {reply}"), None, Some(Fate::Delivered)),
        (State::Dead, _) => (
            format!("dead letter: {reply}"),
            Some(format!("{}send it again with: mailferry queue retry {id}", what_it_means(reply))),
            Some(Fate::Dead),
        ),
        (State::Held, _) => (
            "held by an admin".to_owned(),
            Some(format!("let it go with: mailferry queue release {id}")),
            Some(Fate::Waiting),
        ),
        (State::Queued, Some((AccountState::Held, reason))) => {
            let need = status.needs_human.iter().find(|n| n.account.as_ref() == account.map(|a| &a.mailbox));
            let said = format!("waits: {mailbox} is held: {reason}");
            (said, need.map(|n| n.hint.clone()), Some(Fate::Waiting))
        }
        (State::Queued, Some((AccountState::Paused, _))) => (
            format!("waits: {mailbox} is paused"),
            Some(format!("mailferry account resume {mailbox}")),
            Some(Fate::Waiting),
        ),
        (State::Queued, Some((AccountState::BackingOff, reason))) => {
            (format!("waits: {mailbox} backs off: {reason}"), None, None)
        }
        (State::Queued, _) if message.attempts > 0 => {
            (format!("deferred: {reply}"), None, Some(Fate::Waiting))
        }
        (State::Queued, _) => ("queued".to_owned(), None, None),
    };
    Look { said, hint, fate }
}

/// The command that prints what this means, where there is an entry for it.
fn what_it_means(said: &str) -> String {
    let found = explain::explain(said, "").entries;
    found.first().map_or_else(String::new, |entry| format!("what it means: {}; ", command(&entry.slug)))
}

/// A test message.
pub(super) fn letter(from: &Mailbox, to: &Mailbox, hostname: &str) -> InMemory {
    let now = WallTime::now();
    let date = now.rfc5322();
    let unique = format!("{}.{:08x}", now.as_ms(), fastrand::u32(..));
    let head = format!(
        "Date: {date}\r\nFrom: <{from}>\r\nTo: <{to}>\r\nSubject: test message of mailferry at {hostname}\r\n\
         Message-ID: <{unique}@{hostname}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    );
    let content = "Mail from this relay arrives. This message was asked for by an admin.\r\n";
    InMemory::new(head.into_bytes(), content.as_bytes())
}
