//! The command line: what an admin types, and what is said back.
//!
//! Invariant: an error is one lower-case line, then `hint: ...`; the exit code is one of sysexits; nothing that
//! changes messages runs on all of them unless `--all` says so. Must not know: how anything works.

mod account;
mod allow;
mod devices;
mod examine;
mod explain;
mod export;
mod monitor;
mod owner;
mod print;
mod queue;
mod source;

use crate::config::{self, Env, Problem, Settings, Sockets};
use crate::control::client::{Client, ClientError};
use crate::control::report::{At, Select, Status, count};
use crate::daemon;
use crate::fact::Witness;
use crate::letter::address_list;
use crate::mail::{AccountId, QueueId, State, WallTime};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use owner::Owner;
use source::Source;
use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit codes, from sysexits.h.
mod exit {
    pub(super) const USAGE: u8 = 64;
    pub(super) const NO_INPUT: u8 = 66;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const SOFTWARE: u8 = 70;
    pub(super) const CANNOT_CREATE: u8 = 73;
    pub(super) const IO: u8 = 74;
    pub(super) const TRY_LATER: u8 = 75;
    pub(super) const NO_PERMISSION: u8 = 77;
    pub(super) const CONFIG: u8 = 78;
}

/// A local SMTP relay between devices and Exchange Online.
#[derive(Debug, Parser)]
#[command(name = "mailferry", version, max_term_width = 100, disable_help_subcommand = true)]
struct CommandLine {
    /// The configuration [default: /etc/mailferry/mailferry.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay
    Serve {
        /// Send to a stand-in for the smart host on this machine: nothing leaves it
        #[arg(long)]
        sandbox: bool,
        /// End with this process, which has started it
        #[arg(long, hide = true, value_name = "PID")]
        parent: Option<u32>,
    },
    /// Show the whole job on a stand-in for Exchange Online: an outage, a kill -9, a refused login
    Demo {
        /// Exit when the story is told
        #[arg(long)]
        once: bool,
    },
    /// Say whether the configuration is right; nothing is opened
    Check,
    /// Say whether this host, the smart host and the mailbox are right, and what to do where they are not
    Doctor(examine::Doctor),
    /// Send one test message through the running relay, and follow it
    SendTest(examine::SendTest),
    /// Say what a reply, a line of the log, an AADSTS number or a name after `see:` means, and what to do; needs no network
    Explain(explain::Explain),
    /// Write docs/errors.md to stdout
    #[command(hide = true)]
    ErrorsPage,
    /// Say how the relay is: first one sentence, then accounts, queue and devices
    Status {
        /// The server's words whole, with Exchange Online's tags
        #[arg(long, conflicts_with = "json")]
        verbose: bool,
        /// For scripts
        #[arg(long)]
        json: bool,
        /// For a monitor: one line; exit code 0 well, 1 warning or waiting, 2 needs you or not running, 3 unknown
        #[arg(long, conflicts_with_all = ["json", "verbose"])]
        check: bool,
        /// Whose line
        #[arg(long, requires = "check", default_value = "nagios")]
        format: monitor::Format,
    },
    /// Say who sends, and who was refused; name a device, or mark a stranger as seen
    Devices(devices::Devices),
    /// Let a device relay: adds its address to the configuration, checks it, and has the running relay take it
    Allow(allow::Allow),
    /// Look at the messages and act on them
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Say how the mailboxes stand, stop and start sending through one, sign in for one
    #[command(subcommand)]
    Account(AccountCommand),
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// List messages, oldest first
    List {
        #[command(flatten)]
        select: Selection,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Show one message with its attempts
    Show {
        /// Its id
        id: QueueId,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Try now, also for recipients that were given up; dead letters are queued again
    Retry(Acting),
    /// Set aside until released
    Hold(Acting),
    /// Let held messages go
    Release(Acting),
    /// Delete for good
    Remove(Acting),
    /// Send through another account, as when one was renamed or removed
    Move {
        #[command(flatten)]
        acting: Acting,
        /// The mailbox of the account that is to send them
        #[arg(long, value_name = "MAILBOX")]
        to: String,
    },
    /// Write to files whatever can be read of a queue, however damaged; changes nothing in it
    Rescue {
        /// The directory; made when it is not there
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The queue's directory; else that of the configuration
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Write messages to files: one .eml and one .json each, nothing is overwritten
    Export {
        #[command(flatten)]
        select: Selection,
        /// The directory; made when it is not there
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// List the mailboxes: how each logs in, and whether mail flows
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Sign in for a mailbox whose oauth has device_code = true: shows an address and a code, and waits
    Login {
        /// The account's mailbox
        mailbox: String,
    },
    /// Stop sending through this mailbox; its mail waits
    Pause {
        /// The account's mailbox
        mailbox: String,
    },
    /// Send through it again
    Resume {
        /// The account's mailbox
        mailbox: String,
    },
}

#[derive(Debug, Args)]
struct Acting {
    #[command(flatten)]
    select: Selection,
    /// Every message
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct Selection {
    /// Only these messages
    ids: Vec<QueueId>,
    /// Only in this state
    #[arg(long)]
    state: Option<StateWord>,
    /// Only of this account
    #[arg(long, value_name = "MAILBOX")]
    account: Option<String>,
    /// Only from this client, or this address of a device
    #[arg(long, value_name = "NAME|IP")]
    client: Option<String>,
    /// Only from or to this address, or a part of it
    #[arg(long)]
    address: Option<String>,
    /// Only received since: "2 h" (ago), "2026-11-23", "2026-11-23T12:00:00Z"
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<WallTime>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<std::num::NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateWord {
    Queued,
    Held,
    Dead,
    Delivered,
}

impl Selection {
    fn select(&self) -> Result<Select, Failure> {
        let select = Select {
            ids: self.ids.iter().map(QueueId::to_string).collect::<Vec<_>>().join(","),
            state: self.state.map(|s| match s {
                StateWord::Queued => State::Queued,
                StateWord::Held => State::Held,
                StateWord::Dead => State::Dead,
                StateWord::Delivered => State::Delivered,
            }),
            account: self.account.clone(),
            client: self.client.clone(),
            // As it stands in a log or a header; what is no address is a part of one.
            address: self.address.as_ref().map(|text| {
                address_list::mailbox(text).map_or_else(|_| text.clone(), |address| address.to_string())
            }),
            since: self.since.map(At),
            limit: self.limit.map_or(0, std::num::NonZeroUsize::get),
        };
        // Said here, so that it is a mistake of this command wherever the messages are.
        match select.filter() {
            Ok(_) => Ok(select),
            Err(why) => Err(Failure::new(exit::USAGE, why, "say which, or leave the option out")),
        }
    }
}

/// A moment as people say it: so long ago, a day, or RFC 3339.
fn since(text: &str) -> Result<WallTime, String> {
    let now = WallTime::now();
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(WallTime::from_ms(
            now.as_ms().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        ));
    }
    let moment = text.parse::<jiff::Timestamp>().or_else(|_| {
        let local = text.parse::<jiff::civil::DateTime>();
        local.and_then(|t| t.to_zoned_datetime(TimeZone::system())).map(|t| t.timestamp())
    });
    moment
        .map(|t| WallTime::from_ms(t.as_millisecond()))
        .map_err(|_| "not a time; for example \"2 h\", 2026-11-23 or 2026-11-23T12:00:00Z".to_owned())
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
    hint: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        let (code, hint) = match &e {
            ClientError::NotRunning => (exit::UNAVAILABLE, "start it with: systemctl start mailferry"),
            ClientError::Denied(_) => {
                (exit::NO_PERMISSION, "run it as root, or as a member of group mailferry")
            }
            ClientError::NotFound(_) => (exit::NO_INPUT, ""),
            ClientError::Refused(_) => (exit::TRY_LATER, "see the log: journalctl -u mailferry"),
            ClientError::Broken(_) => (exit::TRY_LATER, "see whether it is still running, and try again"),
            ClientError::Write(_) => (exit::IO, "see whether the disk is full"),
        };
        Self::new(code, e.to_string(), hint)
    }
}

/// Runs the command line and says what came of it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(args) {
        Ok(line) => line,
        Err(e) => {
            // Help and version are no errors, and go to stdout. If nobody reads them, there is nobody to tell.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match execute(line) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&failure.message, &failure.hint);
            ExitCode::from(failure.code)
        }
    }
}

fn execute(line: CommandLine) -> Result<u8, Failure> {
    let env = config::environment();
    let path = line.config.as_deref();
    match line.command {
        Command::Serve { sandbox, parent } => {
            if let Some(parent) = parent {
                daemon::end_with(parent).map_err(|e| ended(&e.into()))?;
            }
            let file = path.unwrap_or(Path::new(config::DEFAULT_PATH)).to_owned();
            let served = daemon::serve(sandbox, move || config::load(&file, &env), say_all);
            served.map(|()| 0).map_err(|e| match e {
                daemon::Exit::Configuration(problems) => wrong(&problems),
                other => ended(&other),
            })
        }
        Command::Demo { once } => demo(once),
        Command::Check => {
            check(&told(config::rehearse(path.unwrap_or(Path::new(config::DEFAULT_PATH)), &env))?)
        }
        Command::Doctor(doctor) => examine::doctor(doctor, path, env),
        Command::SendTest(test) => examine::send_test(&test, &load(path, &examine::as_the_service(env))?),
        Command::Explain(args) => explain::run(&args, path, &env),
        Command::ErrorsPage => out(&crate::doctor::page::errors()).map(|()| 0),
        Command::Status { check: true, format, .. } => check_status(path, &env, format),
        Command::Status { verbose, json, .. } => show_status(path, &env, verbose, json),
        Command::Queue(QueueCommand::Rescue { to, from }) => {
            let configured = || config::load_queue_and_sockets(path, &env).map(|(queue, _)| queue.directory);
            let from = from.map_or_else(|| configured().map_err(|p| wrong(&p)), Ok)?;
            block_on(queue::rescue(&from, &to)).map(|()| 0)
        }
        Command::Queue(command) => {
            let (source, owner) = open(path, &env)?;
            block_on(async {
                let done = queue::run(&source, command, &owner).await;
                source.close().await;
                done.map(|()| 0)
            })
        }
        Command::Devices(args) => devices::run(&args, path, &env).map(|()| 0),
        Command::Allow(args) => allow::run(&args, path, &examine::as_the_service(env)).map(|()| 0),
        Command::Account(command) => account::run(command, path, &env).map(|()| 0),
    }
}

fn show_status(path: Option<&Path>, env: &Env, is_verbose: bool, is_json: bool) -> Result<u8, Failure> {
    let status = ask_status(&open_to_read(path, env)?)?;
    out(&if is_json { as_json(&status)? } else { print::status(&status, is_verbose, &TimeZone::system()) })?;
    Ok(if status.running { 0 } else { exit::UNAVAILABLE })
}

fn ask_status(source: &Source) -> Result<Status, Failure> {
    block_on(async {
        let status = source.status().await;
        source.close().await;
        status
    })
}

/// A monitor reads one line of stdout, whatever happens.
fn check_status(path: Option<&Path>, env: &Env, format: monitor::Format) -> Result<u8, Failure> {
    let (state, line) = match open_to_read(path, env).and_then(|source| ask_status(&source)) {
        Ok(status) => monitor::line(&status, format, WallTime::now()),
        Err(failure) => {
            // Whoever may not read the queue still sees that nobody answers.
            let is_stopped = config::load_queue_and_sockets(path, env).is_ok_and(|(_, sockets)| {
                let client = Client::new(&sockets.control);
                block_on(async { Ok(matches!(client.is_running().await, Ok(false))) }).unwrap_or(false)
            });
            let state = if is_stopped { monitor::State::Critical } else { monitor::State::Unknown };
            let why = if is_stopped { "mailferry is not running" } else { failure.message.as_str() };
            (state, monitor::line_without(state, why, format))
        }
    };
    out(&line)?;
    Ok(state.code())
}

fn load(path: Option<&Path>, env: &Env) -> Result<Settings, Failure> {
    told(config::load(path.unwrap_or(Path::new(config::DEFAULT_PATH)), env))
}

/// The settings, their warnings told.
fn told(loaded: Result<Settings, Vec<Problem>>) -> Result<Settings, Failure> {
    let settings = loaded.map_err(|p| wrong(&p))?;
    say_all(&settings.warnings);
    Ok(settings)
}

fn say_all(problems: &[Problem]) {
    for problem in problems {
        say(&problem.to_string(), problem.hint.as_deref().unwrap_or_default());
    }
}

/// Tells every problem, and makes the last line of it.
fn wrong(problems: &[Problem]) -> Failure {
    let errors = problems.iter().filter(|p| p.severity == config::Severity::Error).count();
    say_all(problems);
    let errors = count(u64::try_from(errors).unwrap_or(u64::MAX), "problem");
    let code = Problem::exit_code(problems);
    Failure::new(code, format!("the configuration has {errors}; nothing was opened"), "")
}

fn check(settings: &Settings) -> Result<u8, Failure> {
    let n = |n: usize, what: &str| count(u64::try_from(n).unwrap_or(u64::MAX), what);
    out(&format!(
        "the configuration is right: {}, {}, {}\n",
        n(settings.listen.len(), "listener"),
        n(settings.receive.clients.all().count(), "client"),
        n(settings.accounts.len(), "account"),
    ))?;
    Ok(0)
}

/// Where the relay is asked. A file that is wrong at this moment says nothing, and it is then that the relay must be
/// asked: it goes on at its usual place, and knows that the file was not taken.
fn queue_and_sockets(path: Option<&Path>, env: &Env) -> Result<(crate::queue::Settings, Sockets), Failure> {
    let problems = match config::load_queue_and_sockets(path, env) {
        Ok(found) => return Ok(found),
        Err(problems) => problems,
    };
    let is_usual = path.is_none_or(|p| p == Path::new(config::DEFAULT_PATH));
    let usual = config::usual_queue_and_sockets(env).ok().filter(|_| is_usual);
    let is_there = |usual: &(_, Sockets)| {
        let client = Client::new(&usual.1.control);
        block_on(async { Ok(!matches!(client.is_running().await, Ok(false))) }).unwrap_or(false)
    };
    usual.filter(is_there).ok_or_else(|| wrong(&problems))
}

/// The running relay, or its queue and whom that belongs to.
fn open(path: Option<&Path>, env: &Env) -> Result<(Source, Owner), Failure> {
    let (queue, sockets) = queue_and_sockets(path, env)?;
    let client = Client::new(&sockets.control);
    if block_on(async { Ok(client.is_running().await?) })? {
        return Ok((Source::Daemon(client), Owner::nobody_else()));
    }
    let owner = Owner::of(&queue.directory)?;
    owner.reaches(&queue.directory)?;
    if matches!(queue.directory.try_exists(), Ok(false)) {
        return Ok((Source::Nowhere(queue.directory), owner));
    }
    crate::logs::warnings();
    let queue =
        block_on(async { Ok(crate::queue::open(&queue, Witness::of_the_log()).await) })?.map_err(|e| {
            let hint = match e.hint() {
                hint if rustix::process::geteuid().is_root() => hint.to_owned(),
                hint => format!("run this as root; {hint}"),
            };
            Failure::new(
                exit::UNAVAILABLE,
                format!("mailferry is not running, and its queue cannot be read: {e}"),
                hint,
            )
        })?;
    let accounts = config::load_sign_ins(path, env).ok();
    let accounts = accounts
        .map(|(accounts, _)| accounts.iter().map(|a| AccountId::named(&a.mailbox.to_string())).collect());
    Ok((Source::Directory { queue, accounts }, owner))
}

/// The same for who only wants to know how it goes: where the control socket is not for them, the status socket is.
fn open_to_read(path: Option<&Path>, env: &Env) -> Result<Source, Failure> {
    let (_, sockets) = queue_and_sockets(path, env)?;
    let is_denied = block_on(async {
        Ok(matches!(Client::new(&sockets.control).is_running().await, Err(ClientError::Denied(_))))
    })?;
    match sockets.status {
        Some(status) if is_denied => Ok(Source::Daemon(Client::new(&status))),
        _ => open(path, env).map(|(source, _)| source),
    }
}

fn as_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|json| json + "\n")
        .map_err(|e| Failure::new(exit::SOFTWARE, format!("cannot be written as json: {e}"), ""))
}

/// Writes to stdout. A reader who has seen enough (`| head`) is no error.
fn out(text: &str) -> Result<(), Failure> {
    out_part(text).map(|_| ())
}

/// The same for a part of a long answer; breaks when nobody reads on.
fn out_part(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(e) => Err(Failure::new(exit::IO, format!("cannot write: {e}"), "")),
    }
}

/// Writes to stderr. If that fails, there is nowhere left to say so.
fn say(message: &str, hint: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{message}");
    if !hint.is_empty() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|e| {
            Failure::new(exit::SOFTWARE, format!("cannot start: {e}"), "see whether memory is left")
        })?
        .block_on(work)
}

fn demo(once: bool) -> Result<u8, Failure> {
    // Something missing at the end is what the exit code is for; the summary has said it.
    daemon::demo(once).map(|complete| if complete { 0 } else { 1 }).map_err(|e| ended(&e))
}

fn ended(exit: &daemon::Exit) -> Failure {
    Failure::new(exit.code(), exit.to_string(), exit.hint().unwrap_or_default())
}
