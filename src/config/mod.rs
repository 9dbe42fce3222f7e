//! The configuration: `mailferry.toml` and the environment, read and checked whole before anything is opened.
//!
//! Invariant: a `Settings` has no contradiction left in it; whoever maps it to a room needs no check of its own.
//! All problems are found at once, each with its place and its key. A key that is not read here is an error, so
//! nothing is ever silently ignored. Must not know: what the rooms do with it.

mod access;
mod account;
mod address;
mod check;
mod client;
pub mod edit;
mod field;
mod file;
mod listen;
mod network;
mod notify;
mod oauth;
mod problem;
mod read;
mod secret;
mod section;
mod slip;
mod suggest;
mod text;

pub use problem::{About, Place, Problem, Severity};

use crate::dispatch::Pace;
use crate::http::Proxy;
use crate::logs::Format;
use crate::mail::{AccountId, Mailbox, Sender, WallTime};
use crate::policy::schedule::Retry;
use crate::queue::{self, Keep};
use crate::receive::{self, Listen};
use crate::submit::smtp::SmartHost;
use crate::tls::Trust;
use crate::tls::server::Pair;
use crate::token;
use jiff::civil::Date;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Where devices connect; at least one. One with TLS and without a certificate gets the relay's own.
    pub listen: Vec<Listen>,
    /// Who may relay (at least one client), through which account, within which limits.
    pub receive: receive::Settings,
    /// The mailboxes mail leaves through, in configured order; at least one.
    pub accounts: Vec<Account>,
    /// Where the mail waits.
    pub queue: queue::Settings,
    /// How long what is finished is kept.
    pub keep: Keep,
    /// When it is tried again.
    pub retry: Retry,
    /// Who is told when something is wrong; may be nobody.
    pub notify: crate::notify::Settings,
    /// Where the running relay is asked and told.
    pub sockets: Sockets,
    /// Through which proxy HTTPS goes, if any. Token requests have it in their settings, too.
    pub proxy: Option<Arc<Proxy>>,
    /// How the log is written.
    pub log: Format,
    /// What is hardly meant like that, though it works.
    pub warnings: Vec<Problem>,
    /// The keys whose values the environment, or systemd's credentials, gave the process when it was started: to give
    /// others, it must be started again.
    pub given_at_start: BTreeSet<String>,
    /// All mail goes to the sandbox; no file can say so.
    pub is_sandbox: bool,
    /// The certificates of listeners that name one.
    pub certificates: Vec<ListenerCertificate>,
    /// The file, as it was read.
    pub file: FileRead,
}

/// A listener's certificate, and the files it comes from.
#[derive(Debug, Clone)]
pub struct ListenerCertificate {
    /// Whose.
    pub listener: SocketAddr,
    /// Its file.
    pub certificate: PathBuf,
    /// Its key's.
    pub key: PathBuf,
    /// What was in them.
    pub pair: Pair,
}

/// A file of the configuration as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileRead {
    /// Which.
    pub path: PathBuf,
    digest: [u8; 32],
}

impl FileRead {
    fn of(path: &Path, text: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text).as_ref());
        Self { path: path.to_owned(), digest }
    }

    /// The file as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn again(&self) -> std::io::Result<Self> {
        std::fs::read(&self.path).map(|text| Self::of(&self.path, &text))
    }
}

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// For whoever may change things.
    pub control: PathBuf,
    /// For everybody on this host, who may ask how it goes; none: for nobody.
    pub status: Option<PathBuf>,
}

/// An `[[account]]`.
#[derive(Debug, Clone)]
pub struct Account {
    /// The mailbox in lower case.
    pub id: AccountId,
    /// The mailbox, and which other senders may stay in From.
    pub sender: Sender,
    /// Where and how it submits.
    pub smart_host: SmartHost,
    /// Logging in with a token. The login of `smart_host` is the fallback then.
    pub oauth: Option<OAuth>,
    /// Whose certificates it believes.
    pub trust: Trust,
    /// How much at once, and how fast.
    pub pace: Pace,
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

/// Reads and checks the file and what the environment puts on top of it.
///
/// # Errors
/// Everything that is wrong, errors and warnings, in the order of the file.
pub fn load(path: &Path, env: &Env) -> Result<Settings, Vec<Problem>> {
    let path = absolute(path);
    let (text, bytes) = text::read(&path).map_err(|p| vec![p])?;
    let file = FileRead::of(&path, &bytes);
    let settings = check::check(&file::Tree::new(&path, &text, env)?, env, now(), false).0?;
    Ok(Settings { file, ..settings })
}

/// As `load`, for telling an admin whether the file is right: what only the service is given (systemd's credentials)
/// is not asked for. Nothing may be sent with these settings.
///
/// # Errors
/// As of `load`.
pub fn rehearse(path: &Path, env: &Env) -> Result<Settings, Vec<Problem>> {
    let path = absolute(path);
    let (text, _) = text::read(&path).map_err(|p| vec![p])?;
    check::check(&file::Tree::new(&path, &text, env)?, env, now(), true).0
}

/// As `rehearse`, of a text that is to stand in this file.
///
/// # Errors
/// As of `load`.
pub fn rehearse_text(path: &Path, text: &str, env: &Env) -> Result<Settings, Vec<Problem>> {
    let path = absolute(path);
    check::check(&file::Tree::new(&path, text, env)?, env, now(), true).0
}

/// `[queue]` and the sockets alone. No secret is read, and nothing else in the file matters, so that
/// `status` works for who may use the socket and no more. Without a path, the default file need not be readable.
///
/// # Errors
/// What is wrong with the file as TOML or with these two sections.
pub fn load_queue_and_sockets(
    path: Option<&Path>,
    env: &Env,
) -> Result<(queue::Settings, Sockets), Vec<Problem>> {
    let (path, may_be_missing) = path.map_or((Path::new(DEFAULT_PATH), true), |p| (p, false));
    let path = absolute(path);
    let text = match text::read(&path) {
        Ok((text, _)) => text,
        Err(_) if may_be_missing => String::new(),
        Err(problem) => return Err(vec![problem]),
    };
    check::check_queue_and_sockets(&file::Tree::new(&path, &text, env)?, now())
}

/// The same where no file says anything.
///
/// # Errors
/// What is wrong with the environment.
pub fn usual_queue_and_sockets(env: &Env) -> Result<(queue::Settings, Sockets), Vec<Problem>> {
    check::check_queue_and_sockets(&file::Tree::new(Path::new(DEFAULT_PATH), "", env)?, now())
}

/// How each account logs in, and the control socket; see `load_queue_and_sockets`.
///
/// # Errors
/// What is wrong with the parts of the file that say so.
pub fn load_sign_ins(path: Option<&Path>, env: &Env) -> Result<(Vec<SignIn>, PathBuf), Vec<Problem>> {
    let path = absolute(path.unwrap_or(Path::new(DEFAULT_PATH)));
    let (text, _) = text::read(&path).map_err(|p| vec![p])?;
    check::check_sign_ins(&file::Tree::new(&path, &text, env)?, env, now())
}

#[expect(clippy::disallowed_methods, reason = "at the edge")]
fn now() -> WallTime {
    WallTime::now()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Every key there is, as `section.key`.
pub fn known_keys() -> BTreeSet<String> {
    let one_of_each =
        "[[listen]]\n[[receive.users]]\n[[client]]\n[[account]]\n[[notify.webhook]]\n[notify.heartbeat]\n";
    match file::Tree::new(Path::new("/"), one_of_each, &Env::new()) {
        Ok(tree) => check::check(&tree, &Env::new(), now(), false).1,
        Err(_) => BTreeSet::new(),
    }
}
