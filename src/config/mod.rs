//! The configuration: `mailferry.toml` and the environment, read and checked whole before anything is opened.
//!
//! Invariant: a `Settings` has no contradiction left in it; whoever maps it to a room needs no check of its own.
//! All problems are found at once, each with its place and its key. A key that is not read here is an error, so
//! nothing is ever silently ignored. Must not know: what the rooms do with it.

mod account;
mod check;
mod file;
mod oauth;
mod problem;
mod secret;
mod section;

pub use problem::{Place, Problem, Severity};

use crate::files;
use crate::mail::{AccountId, AddressPattern, Mailbox};
use crate::policy::admission::{Client, Clients};
use crate::policy::route::{Route, Routes};
use crate::policy::schedule::Retry;
use crate::submit::SmartHost;
use crate::token;
use jiff::civil::Date;
use secrecy::SecretString;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the file is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/mailferry/mailferry.toml";

/// Environment variables by name.
pub type Env = HashMap<String, OsString>;

/// The environment of this process. Names that are not UTF-8 are none of ours.
pub fn environment() -> Env {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name in the banner, in EHLO, in trace fields and notices.
    pub hostname: String,
    /// Where devices connect; at least one.
    pub listen: Vec<Listen>,
    /// Limits for everybody.
    pub receive: Receive,
    /// Who may relay; at least one.
    pub clients: Vec<Client>,
    /// The mailboxes mail leaves through, in configured order; at least one.
    pub accounts: Vec<Account>,
    /// The account without conditions.
    pub default_account: AccountId,
    /// Where the mail waits.
    pub queue: Queue,
    /// When it is tried again.
    pub retry: Retry,
    /// Who is told when something needs a human; may be empty.
    pub notify: Vec<Mailbox>,
    /// The socket of `status` and `queue`.
    pub control_socket: PathBuf,
    /// How the log is written.
    pub log: LogFormat,
    /// What is hardly meant like that, though it works.
    pub warnings: Vec<Problem>,
    /// The keys whose values the environment, or systemd's credentials, gave the process when it was started: to give
    /// others, it must be started again.
    pub given_at_start: BTreeSet<String>,
}

impl Settings {
    /// Who may relay, in the form admission asks.
    pub fn admission(&self) -> Clients {
        Clients::new(self.clients.clone())
    }

    /// Which account takes what.
    pub fn routes(&self) -> Routes {
        let routes = self.accounts.iter().filter(|a| a.id != self.default_account);
        Routes {
            routes: routes
                .map(|a| Route {
                    account: a.id.clone(),
                    senders: a.senders.clone(),
                    recipients: a.recipient_domains.clone(),
                })
                .collect(),
            default: self.default_account.clone(),
        }
    }
}

/// A `[[listen]]`.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// How the connection is protected.
    pub tls: ListenTls,
    /// Certificate chain and private key, PEM; none: with TLS, the relay makes its own.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// What logging in means here.
    pub auth: ListenAuth,
}

/// TLS towards the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenTls {
    /// None.
    Off,
    /// Offered.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// AUTH towards the devices. It never admits an address that no client network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAuth {
    /// Not offered.
    Off,
    /// Offered; any name and password will do, and are discarded. For devices that insist.
    Any,
    /// One of the users must log in.
    Required,
}

/// `[receive]`.
#[derive(Debug, Clone)]
pub struct Receive {
    /// Bytes a message.
    pub max_message_size_bytes: u64,
    /// Recipients a message.
    pub max_recipients: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_client: usize,
    /// Until the next command.
    pub idle_timeout: Duration,
    /// Until the body makes progress.
    pub data_timeout: Duration,
    /// Who may log in where `auth = "required"`.
    pub users: Vec<User>,
}

/// A `[[receive.users]]`.
#[derive(Debug, Clone)]
pub struct User {
    /// The name a device gives.
    pub name: String,
    /// Its password.
    pub password: SecretString,
}

/// An `[[account]]`.
#[derive(Debug, Clone)]
pub struct Account {
    /// The mailbox in lower case.
    pub id: AccountId,
    /// The mailbox.
    pub mailbox: Mailbox,
    /// Where and how it submits.
    pub smart_host: SmartHost,
    /// Logging in with a token. The login of `smart_host` is the fallback then.
    pub oauth: Option<OAuth>,
    /// Certificates to trust in place of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Senders that may stay in From; others are rewritten to the mailbox.
    pub send_as: Vec<AddressPattern>,
    /// Connections at once.
    pub max_connections: usize,
    /// Messages a minute.
    pub messages_per_minute: u32,
    /// Recipients in 24 hours.
    pub recipients_per_day: u32,
    /// Takes mail from these senders.
    pub senders: Vec<AddressPattern>,
    /// Takes mail to these domains, as patterns `*@domain`.
    pub recipient_domains: Vec<AddressPattern>,
}

/// `[account.oauth]`.
#[derive(Debug, Clone)]
pub struct OAuth {
    /// Where the tokens come from.
    pub token: token::Settings,
    /// The password may stand in until the end of this day (UTC).
    pub fallback_until: Option<Date>,
}

/// How an account logs in, as far as that shows without its secrets.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Whose.
    pub mailbox: Mailbox,
    /// In words.
    pub method: &'static str,
    /// What a sign-in by device code is begun with, where that is the method.
    pub device_code: Option<token::Settings>,
}

/// `[queue]`.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Where the mail waits.
    pub directory: PathBuf,
    /// Bytes left free on that disk; below, devices are asked to wait.
    pub min_free_space_bytes: u64,
    /// Delivered messages are remembered so long.
    pub keep_history: Duration,
    /// Dead letters are kept so long; none: until somebody retries or removes them.
    pub keep_dead: Option<Duration>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal when it listens, else text.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal, with fields.
    Journald,
}

/// Reads and checks the file and what the environment puts on top of it.
///
/// # Errors
/// Everything that is wrong, errors and warnings, in the order of the file.
pub fn load(path: &Path, env: &Env) -> Result<Settings, Vec<Problem>> {
    let path = absolute(path);
    let text = std::fs::read_to_string(&path).map_err(|e| vec![unreadable(&path, &e)])?;
    check::check(&file::Tree::new(&path, &text, env)?, env, false).0
}

/// As `load`, for telling an admin whether the file is right: what only the service is given (systemd's credentials)
/// is not asked for. Nothing may be sent with these settings.
///
/// # Errors
/// As of `load`.
pub fn rehearse(path: &Path, env: &Env) -> Result<Settings, Vec<Problem>> {
    let path = absolute(path);
    let text = std::fs::read_to_string(&path).map_err(|e| vec![unreadable(&path, &e)])?;
    check::check(&file::Tree::new(&path, &text, env)?, env, true).0
}

/// `[queue]` and the control socket alone. No secret is read, and nothing else in the file matters, so that
/// `status` works for who may use the socket and no more. Without a path, the default file need not be readable.
///
/// # Errors
/// What is wrong with the file as TOML or with these two sections.
pub fn load_queue_and_socket(path: Option<&Path>, env: &Env) -> Result<(Queue, PathBuf), Vec<Problem>> {
    let (path, may_be_missing) = path.map_or((Path::new(DEFAULT_PATH), true), |p| (p, false));
    let path = absolute(path);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if may_be_missing => String::new(),
        Err(e) => return Err(vec![unreadable(&path, &e)]),
    };
    check::check_queue_and_socket(&file::Tree::new(&path, &text, env)?)
}

/// How each account logs in, and the control socket; see `load_queue_and_socket`.
///
/// # Errors
/// What is wrong with the parts of the file that say so.
pub fn load_sign_ins(path: Option<&Path>, env: &Env) -> Result<(Vec<SignIn>, PathBuf), Vec<Problem>> {
    let path = absolute(path.unwrap_or(Path::new(DEFAULT_PATH)));
    let text = std::fs::read_to_string(&path).map_err(|e| vec![unreadable(&path, &e)])?;
    check::check_sign_ins(&file::Tree::new(&path, &text, env)?)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn unreadable(path: &Path, e: &std::io::Error) -> Problem {
    Problem {
        place: Place::File(path.to_owned()),
        key: String::new(),
        what: format!("cannot read the configuration: {}", secret::reason(e)),
        hint: Some("name another file with --config".to_owned()),
        severity: Severity::Error,
        // A file that is not there is a name that is wrong: nobody makes another one while the relay waits.
        may_pass: files::may_pass(e) && e.kind() != ErrorKind::NotFound,
    }
}

/// Every key there is, as `section.key`.
pub fn known_keys() -> BTreeSet<String> {
    let one_of_each = "[[listen]]\n[[receive.users]]\n[[client]]\n[[account]]\n";
    match file::Tree::new(Path::new("/"), one_of_each, &Env::new()) {
        Ok(tree) => check::check(&tree, &Env::new(), false).1,
        Err(_) => BTreeSet::new(),
    }
}
