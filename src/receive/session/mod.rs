//! One SMTP session without its socket: bytes and answers in, steps out.
//!
//! Invariant: the data is answered 250 only with a `queue::Stored` in hand (see `finished`); a peer outside every
//! client network never gets past MAIL; a session keeps one line, one head and one transaction, whatever it
//! is sent. Must not know: sockets, the queue's storage, the clock (`World` brings the time), who is told.

mod auth;
mod transaction;

use crate::fact::receive::Fact;
use crate::letter::splitter::Splitter;
use crate::mail::{Mailbox, QueueId, ReversePath};
use crate::policy::admission::{Client, Standing};
use crate::receive::command::{self, Command, CommandError, Parameters};
use crate::receive::decode::Decoder;
use crate::receive::finished::{Finished, Refusal};
use crate::receive::foreign;
use crate::receive::limits::Limits;
use crate::receive::login::{self, Exchange};
use crate::receive::settings::{Auth, Settings};
use secrecy::zeroize::{Zeroize, Zeroizing};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// RFC 5321 section 4.5.3.1.4 asks for 512; devices put job names into addresses.
const LINE_LIMIT_BYTES: usize = 4 * 1024;
/// RFC 4954 section 4.
const AUTH_LINE_LIMIT_BYTES: usize = 12 * 1024;
/// A name beyond this is cut.
const HELO_LIMIT_BYTES: usize = 255;
const MAX_ERRORS: u32 = 10;
const MAX_FAILED_LOGINS: u32 = 3;
/// NOOP, RSET and the like in one second before the session is slowed down.
const CHATTER_PER_SECOND: u32 = 50;
/// Silence after LF.LF that ends the data of a client with `line_endings = "lf"`.
const LF_SILENCE: Duration = Duration::from_secs(2);

/// What a session sees of the world while it takes a step.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// In force for what begins now.
    pub settings: &'a Arc<Settings>,
    /// Shared by all sessions.
    pub limits: &'a Mutex<Limits>,
    /// The time.
    pub now: Instant,
}

impl World<'_> {
    /// Asks the limits. A panic elsewhere leaves counts that are still counts.
    pub fn limits<T>(&self, ask: impl FnOnce(&mut Limits) -> T) -> T {
        ask(&mut self.limits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Step {
    /// Write this, in one write.
    Reply(Vec<u8>),
    /// Tell whoever wants to know.
    Tell(Fact),
    /// Wait this long before the next step.
    Pause(Duration),
    /// Begin a draft; answer with `begun`.
    Begin {
        /// What the device announced, or 0.
        expected_bytes: u64,
    },
    /// Write this to the draft; answer with `draft_failed` if that fails.
    Content(Vec<u8>),
    /// Drop the draft.
    Discard,
    /// Commit the draft; answer with `committed`.
    Commit(Arc<Finished>),
    /// Do a TLS handshake; answer with `secured`. Bytes already read are to be dropped.
    StartTls,
    /// Close the connection.
    Close,
}

/// What the listener offers.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Logins.
    pub auth: Auth,
    /// Whether STARTTLS is announced.
    pub starttls: bool,
}

#[derive(Debug)]
struct Transaction {
    settings: Arc<Settings>,
    client: Arc<Client>,
    from: ReversePath,
    parameters: Parameters,
    recipients: Vec<Mailbox>,
}

fn limit_bytes(settings: &Settings, client: Option<&Client>) -> u64 {
    let general = settings.max_message_size_bytes;
    client.and_then(|c| c.max_message_size_bytes).map_or(general, |own| own.min(general))
}

#[derive(Debug)]
struct Data {
    transaction: Transaction,
    id: QueueId,
    decoder: Decoder,
    splitter: Splitter,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
enum State {
    Command,
    Login(Exchange),
    /// The shell is asked for a draft.
    Beginning(Transaction),
    Data(Box<Data>),
    /// The shell is committing.
    Committing(Arc<Finished>),
    /// The shell does a handshake.
    Handshake,
    Closed,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    peer: IpAddr,
    offer: Offer,
    tls: Option<String>,
    state: State,
    steps: VecDeque<Step>,
    line: Vec<u8>,
    overlong: bool,
    fresh: bool,
    /// It has said a command, so it speaks SMTP.
    understood: bool,
    /// Bytes were there already when the end of data was read.
    behind_end: bool,
    stopping: bool,
    helo: Option<Vec<u8>>,
    extended: bool,
    logged_in: bool,
    transaction: Option<Transaction>,
    errors: u32,
    failed_logins: u32,
    chatter: (Option<Instant>, u32),
}

impl Session {
    /// A session with a peer; `tls` tells version and cipher suite when the connection began with a handshake.
    pub fn new(peer: IpAddr, offer: Offer, tls: Option<String>) -> Self {
        Self {
            peer: peer.to_canonical(),
            offer,
            tls,
            state: State::Command,
            steps: VecDeque::new(),
            line: Vec::new(),
            overlong: false,
            fresh: true,
            understood: false,
            behind_end: false,
            stopping: false,
            helo: None,
            extended: false,
            logged_in: false,
            transaction: None,
            errors: 0,
            failed_logins: 0,
            chatter: (None, 0),
        }
    }

    /// The banner.
    pub fn greeting(settings: &Settings) -> Vec<u8> {
        format!("220 {} ESMTP mailferry\r\n", settings.hostname).into_bytes()
    }

    /// Takes from `input` what the next step needs and returns that step; `None` when more input is needed. After
    /// `Begin`, `Commit` and `StartTls` the answer must come first.
    pub fn advance(&mut self, input: &mut &[u8], world: World<'_>) -> Option<Step> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Some(step);
            }
            match self.state {
                State::Command | State::Login(_) => {
                    if !self.take_line(input, world) {
                        return self.steps.pop_front();
                    }
                    self.whole_line(input, world);
                }
                State::Data(_) if input.is_empty() => return None,
                State::Data(_) => self.data(input),
                State::Closed => {
                    *input = &[];
                    return None;
                }
                State::Beginning(_) | State::Committing(_) | State::Handshake => return None,
            }
        }
    }

    /// How long to wait for input before `timed_out`.
    pub fn patience(&self, settings: &Settings) -> Duration {
        match &self.state {
            State::Data(data) if data.decoder.awaits_silence() => LF_SILENCE,
            State::Data(_) => settings.data_timeout,
            _ => settings.idle_timeout,
        }
    }

    /// Whether a message is on its way, so that larger reads pay and a shutdown waits.
    pub fn is_in_data(&self) -> bool {
        matches!(self.state, State::Beginning(_) | State::Data(_) | State::Committing(_))
    }

    /// Nothing came for as long as `patience` said.
    pub fn timed_out(&mut self) {
        if self.ended_by_silence() {
            return;
        }
        if let State::Data(data) = &self.state {
            let seen = data.decoder.seen();
            self.tell(Fact::EndOfDataMissing {
                peer: self.peer,
                client: data.transaction.client.name.clone(),
                raw_bytes: seen.raw_bytes,
                lf_dot_lf: seen.all_lf() && seen.lf_dot_lf,
            });
            self.steps.push_back(Step::Discard);
            self.reply(
                "451 4.4.2 no end of data (a line with only a dot) came in time, nothing was queued\r\n",
            );
        } else {
            self.reply("421 4.4.2 idle for too long\r\n");
        }
        self.close();
    }

    /// The peer closed its side.
    pub fn peer_closed(&mut self) {
        if self.ended_by_silence() {
            return;
        }
        if let State::Data(data) = &self.state {
            let (client, raw_bytes) = (data.transaction.client.name.clone(), data.decoder.seen().raw_bytes);
            self.tell(Fact::ClosedInData { peer: self.peer, client, raw_bytes });
            self.steps.push_back(Step::Discard);
        }
        self.close();
    }

    /// Ends as soon as no message is on its way.
    pub fn stop(&mut self) {
        self.stopping = true;
        if !self.is_in_data() && !matches!(self.state, State::Closed) {
            self.reply("421 4.3.2 shutting down, try again later\r\n");
            self.close();
        }
    }

    /// Answers `Step::StartTls` after the handshake: everything said before is forgotten (RFC 3207 section 4.2).
    pub fn secured(&mut self, tls: String) {
        let (errors, failed_logins, chatter) = (self.errors, self.failed_logins, self.chatter);
        *self = Self { errors, failed_logins, chatter, ..Self::new(self.peer, self.offer, Some(tls)) };
    }

    /// Moves one line out of the input; false when its end has not come yet.
    fn take_line(&mut self, input: &mut &[u8], world: World<'_>) -> bool {
        let Some(first) = input.first() else { return false };
        if std::mem::take(&mut self.fresh) && *first == 0x16 && self.tls.is_none() {
            // A ClientHello (RFC 8446 section 5.1). Whatever we said in clear text would not be understood.
            self.tell(Fact::TlsOnPlainPort { peer: self.peer, standing: self.standing(world) });
            self.close();
            return false;
        }
        let begins_a_command = self.line.is_empty() && !self.overlong && matches!(self.state, State::Command);
        if begins_a_command && let Some(protocol) = foreign::by_first_byte(*first) {
            self.other_protocol(protocol, world);
            return false;
        }
        let end = memchr::memchr(b'\n', input);
        let (part, rest) = input.split_at(end.map_or(input.len(), |i| i + 1));
        *input = rest;
        if !self.overlong {
            self.line.extend_from_slice(part);
            let secret = matches!(self.state, State::Login(_)) || command::is_auth(&self.line);
            let limit = if secret { AUTH_LINE_LIMIT_BYTES } else { LINE_LIMIT_BYTES };
            if self.line.len() > limit {
                let is_command = matches!(self.state, State::Command);
                let foreign = foreign::protocol_of_start(&self.line, self.understood).filter(|_| is_command);
                self.overlong = true;
                self.forget_line();
                if let Some(protocol) = foreign {
                    self.other_protocol(protocol, world);
                    return false;
                }
            }
        }
        end.is_some()
    }

    fn forget_line(&mut self) {
        self.line.zeroize();
        self.line.shrink_to(512);
    }

    fn whole_line(&mut self, input: &mut &[u8], world: World<'_>) {
        if std::mem::take(&mut self.overlong) {
            self.state = State::Command;
            self.behind_end = false;
            return self.fail("500 5.5.2 line too long\r\n", world);
        }
        let line = std::mem::take(&mut self.line);
        if let State::Login(exchange) = std::mem::replace(&mut self.state, State::Command) {
            let line = Zeroizing::new(line);
            return self.login(login::next(exchange, &line), world);
        }
        let foreign = foreign::protocol(&line, self.understood).filter(|_| !self.behind_end);
        let command = command::parse(&line);
        self.line = line;
        if command::is_auth(&self.line) {
            self.line.zeroize();
        }
        self.line.clear();
        self.line.shrink_to(512);
        if let Some(protocol) = foreign {
            return self.other_protocol(protocol, world);
        }
        self.understood |= command.as_ref().is_ok_and(|c| *c != Command::Empty);
        self.command(command, input, world);
    }

    /// Whatever follows is not meant for us, and may be what somebody made a browser send (its headers end, and the
    /// body of its request is MAIL, RCPT and DATA).
    fn other_protocol(&mut self, protocol: &'static str, world: World<'_>) {
        self.tell(Fact::OtherProtocol { peer: self.peer, standing: self.standing(world), protocol });
        self.reply(format!("421 4.7.0 this is SMTP, not {protocol}, goodbye\r\n"));
        self.close();
    }

    fn command(&mut self, command: Result<Command, CommandError>, input: &mut &[u8], world: World<'_>) {
        if std::mem::take(&mut self.behind_end)
            && !matches!(
                command,
                Ok(Command::Quit | Command::Rset | Command::Noop | Command::Mail { .. } | Command::Empty)
            )
        {
            // Sent before our answer to the end of data could be read: no client means that, a smuggler may.
            self.reply("503 5.5.1 wait for the reply to the end of data\r\n");
            return self.close();
        }
        match command {
            Ok(Command::Helo(name)) => self.hello(name, false, world),
            Ok(Command::Ehlo(name)) => self.hello(name, true, world),
            Ok(Command::Mail { from, parameters }) => self.mail(from, parameters, world),
            Ok(Command::Rcpt(to)) => self.rcpt(Ok(to), world),
            Err(CommandError::Recipient(why)) => self.rcpt(Err(why), world),
            Ok(Command::Data) => self.begin_data(world),
            Ok(Command::Rset) => {
                self.transaction = None;
                self.chat("250 2.0.0 reset\r\n", world);
            }
            Ok(Command::Noop) => self.chat("250 2.0.0 nothing done\r\n", world),
            Ok(Command::Empty) => self.pace(world),
            Ok(Command::Help) => {
                self.chat("214 2.0.0 this relay takes mail from the devices it is set up for\r\n", world);
            }
            Ok(Command::Vrfy) => self.chat("252 2.0.0 cannot verify, send and see\r\n", world),
            Ok(Command::Expn) => self.chat("502 5.5.1 EXPN is not done here\r\n", world),
            Ok(Command::Quit) => {
                self.reply("221 2.0.0 goodbye\r\n");
                self.close();
            }
            Ok(Command::StartTls) => self.start_tls(input, world),
            Ok(Command::Auth { mechanism, initial }) => self.auth(&mechanism, initial, world),
            Err(CommandError::Unknown) => self.fail("500 5.5.1 not a command\r\n", world),
            Err(CommandError::NotImplemented) => self.fail("502 5.5.1 not done here\r\n", world),
            Err(CommandError::Syntax(expected)) => self.fail(format!("501 5.5.4 {expected}\r\n"), world),
        }
    }

    fn hello(&mut self, mut name: Vec<u8>, extended: bool, world: World<'_>) {
        name.truncate(HELO_LIMIT_BYTES);
        self.helo = Some(name);
        self.extended = extended;
        self.transaction = None;
        self.pace(world);
        let hostname = &world.settings.hostname;
        if !extended {
            return self.reply(format!("250 {hostname}\r\n"));
        }
        let client = world.settings.clients.admit(self.peer);
        let size = limit_bytes(world.settings, client.map(|c| &**c));
        let mut text = format!(
            "250-{hostname}\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
        );
        // Where a password can be said inside TLS, it is not invited in the clear (RFC 4954 section 4).
        if self.offer.auth != Auth::Off && !self.may_start_tls() {
            // The second form is what clients of the Outlook Express 4 era look for.
            text.push_str("250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r\n");
        }
        if self.may_start_tls() {
            text.push_str("250-STARTTLS\r\n");
        }
        text.push_str("250 HELP\r\n");
        self.reply(text);
    }

    fn may_start_tls(&self) -> bool {
        self.offer.starttls && self.tls.is_none()
    }

    fn start_tls(&mut self, input: &mut &[u8], world: World<'_>) {
        if !self.may_start_tls() {
            return self.fail("502 5.5.1 STARTTLS is not offered here\r\n", world);
        }
        self.reply("220 2.0.0 ready for TLS\r\n");
        self.steps.push_back(Step::StartTls);
        self.state = State::Handshake;
        // Whatever was slipped in before the handshake is not from the peer that is authenticated by it.
        *input = &[];
    }

    fn tell(&mut self, fact: Fact) {
        self.steps.push_back(Step::Tell(fact));
    }

    fn standing(&self, world: World<'_>) -> Standing {
        world.settings.standing(self.peer)
    }

    fn reply(&mut self, text: impl Into<Vec<u8>>) {
        self.steps.push_back(Step::Reply(text.into()));
    }

    /// A reply to something that is fine as such, but not at any rate.
    fn chat(&mut self, text: impl Into<Vec<u8>>, world: World<'_>) {
        self.pace(world);
        self.reply(text);
    }

    fn pace(&mut self, world: World<'_>) {
        let second = Duration::from_secs(1);
        match self.chatter {
            (Some(since), count) if world.now.saturating_duration_since(since) < second => {
                self.chatter.1 = count + 1;
                if count >= CHATTER_PER_SECOND {
                    let left = second - world.now.saturating_duration_since(since);
                    self.steps.push_back(Step::Pause(left));
                }
            }
            _ => self.chatter = (Some(world.now), 1),
        }
    }

    fn fail(&mut self, text: impl Into<Vec<u8>>, world: World<'_>) {
        self.errors += 1;
        let mut text = text.into();
        if self.errors < MAX_ERRORS {
            return self.reply(text);
        }
        self.tell(Fact::TooManyErrors { peer: self.peer, standing: self.standing(world) });
        text.extend_from_slice(b"421 4.7.0 too many errors\r\n");
        self.reply(text);
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.steps.push_back(Step::Close);
    }
}
