//! One SMTP session without its socket: bytes and answers in, steps out.
//!
//! Invariant: the positive reply to the end of data is made from a `queue::Stored` and nowhere else; a peer outside
//! every client network never gets past MAIL; a session keeps one line, one head and one transaction, whatever it
//! is sent. Must not know: sockets, the queue's storage, the clock (`World` brings the time).

use crate::events::receive as events;
use crate::mail::{AddressError, Envelope, Mailbox, QueueId, RelayTime, ReversePath, WallTime};
use crate::policy::admission::{Client, LineEndings};
use crate::queue::{Intake, QueueError, Stored};
use crate::receive::command::{self, Command, CommandError, Parameters};
use crate::receive::decode::Decoder;
use crate::receive::head::Splitter;
use crate::receive::limits::{Limits, Topic};
use crate::receive::login::{self, Credentials, Exchange, Turn};
use crate::receive::settings::{Auth, Settings};
use crate::receive::stamp::{self, Stamp, StampError};
use secrecy::zeroize::{Zeroize, Zeroizing};
use std::collections::VecDeque;
use std::fmt::Write as _;
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
/// A refused message is swallowed up to this many times the limit; then the session is closed.
const SWALLOW_FACTOR: u64 = 10;

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

/// A transaction whose data is complete.
#[derive(Debug)]
pub struct Finished {
    /// The draft's id.
    pub id: QueueId,
    /// The client that admitted the peer.
    pub client: Arc<Client>,
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO.
    pub recipients: Vec<Mailbox>,
    /// The head as it came, CRLF line ends, with its final empty line.
    pub head: Vec<u8>,
    /// Bytes the device sent.
    pub size_bytes: u64,
    /// The content or head has bytes above 127.
    pub eight_bit: bool,
    settings: Arc<Settings>,
    helo: Vec<u8>,
    peer: IpAddr,
    protocol: String,
    tls: Option<String>,
}

impl Finished {
    /// One intake for each account the recipients are routed to, heads completed.
    ///
    /// # Errors
    /// The message goes round in a loop.
    pub fn intakes(
        &self,
        mut next_id: impl FnMut() -> QueueId,
        received_at: WallTime,
        now: RelayTime,
    ) -> Result<Vec<Intake>, StampError> {
        let groups = self.settings.routes.split(&self.client, &self.reverse_path, &self.recipients);
        let mut intakes = Vec::with_capacity(groups.len());
        for (i, (account, recipients)) in groups.into_iter().enumerate() {
            let id = if i == 0 { self.id } else { next_id() };
            let head = stamp::complete(
                &self.head,
                &Stamp {
                    id,
                    hostname: &self.settings.hostname,
                    helo: &self.helo,
                    peer: self.peer,
                    protocol: &self.protocol,
                    tls: self.tls.as_deref(),
                    reverse_path: &self.reverse_path,
                    recipients: &recipients,
                    mailbox: self.settings.mailbox(&account),
                    body_is_8bit: self.eight_bit,
                    now: received_at,
                },
            )?;
            intakes.push(Intake {
                id,
                account,
                envelope: Envelope {
                    reverse_path: self.reverse_path.clone(),
                    recipients,
                    client: self.client.name.clone(),
                    peer: Some(self.peer),
                },
                head,
                charset: self.client.charset.clone(),
                received_at,
                now,
            });
        }
        Ok(intakes)
    }
}

/// Why a message whose data came is not taken.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// Over the size limit, in bytes.
    TooLarge(u64),
    /// The head alone is too large.
    HeadTooLarge,
    /// Too many Received fields.
    Loop,
    /// The queue's reason.
    Queue(QueueError),
}

impl Refusal {
    /// For people, in one line: the reply, or what is wrong with the queue.
    pub fn words(&self) -> String {
        match self {
            Self::Queue(error) => error.to_string(),
            other => other.reply().trim_end().to_owned(),
        }
    }

    /// The words for the peer.
    fn reply(&self) -> String {
        match self {
            Self::TooLarge(limit) => format!("552 5.3.4 message exceeds {limit} bytes\r\n"),
            Self::HeadTooLarge => "552 5.3.4 message header too large\r\n".into(),
            Self::Loop => {
                "554 5.4.6 too many Received fields, the message is going round in a loop\r\n".into()
            }
            // What exactly is wrong with the disk is the admin's to know.
            Self::Queue(QueueError::Full(_)) => {
                "452 4.3.1 not enough space in the queue, try again later\r\n".into()
            }
            Self::Queue(QueueError::Broken(_)) => {
                "451 4.3.0 the queue cannot write, try again later\r\n".into()
            }
            Self::Queue(QueueError::Closed) => "421 4.3.2 shutting down, try again later\r\n".into(),
        }
    }
}

/// The one place that makes the positive reply to the end of data.
fn accepted(stored: &Stored) -> String {
    format!("250 2.0.0 queued as {}\r\n", stored.id())
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

impl Transaction {
    fn limit_bytes(&self) -> u64 {
        limit_bytes(&self.settings, Some(&self.client))
    }
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
            let lf = seen.all_lf() && seen.lf_dot_lf;
            events::end_of_data_missing(self.peer, &data.transaction.client.name, seen.raw_bytes, lf);
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
            events::closed_in_data(self.peer, &data.transaction.client.name, data.decoder.seen().raw_bytes);
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

    /// Answers `Step::Begin`.
    pub fn begun(&mut self, draft: Result<QueueId, QueueError>) {
        let State::Beginning(transaction) = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        match draft {
            Ok(id) => {
                let lf_only = transaction.client.line_endings == LineEndings::Lf;
                self.state = State::Data(Box::new(Data {
                    transaction,
                    id,
                    decoder: Decoder::new(lf_only),
                    splitter: Splitter::default(),
                    refusal: None,
                }));
                self.reply("354 end the message with a line that holds only a dot\r\n");
            }
            Err(why) => {
                events::queue_refused(self.peer, &transaction.client.name, &why);
                self.refuse(&Refusal::Queue(why));
            }
        }
    }

    /// Answers `Step::Content` when the draft could not be written; the rest of the message is swallowed.
    pub fn draft_failed(&mut self, why: QueueError) {
        if let State::Data(data) = &mut self.state {
            data.refusal.get_or_insert(Refusal::Queue(why));
        } else if matches!(self.state, State::Committing(_)) {
            // The last chunk of a message whose commit is the next step.
            self.steps.retain(|s| !matches!(s, Step::Commit(_)));
            self.committed(Err(Refusal::Queue(why)));
        }
    }

    /// Answers `Step::Commit`.
    pub fn committed(&mut self, outcome: Result<Stored, Refusal>) {
        let State::Committing(finished) = std::mem::replace(&mut self.state, State::Command) else { return };
        let client = &finished.client.name;
        match outcome {
            Ok(stored) => {
                let (from, to) = (&finished.reverse_path, &finished.recipients);
                events::queued(stored.id(), self.peer, client, from, to, finished.size_bytes);
                self.errors = 0;
                self.reply(accepted(&stored));
                if self.stopping {
                    self.stop();
                }
            }
            Err(refusal) => {
                match &refusal {
                    Refusal::Queue(why) => events::queue_refused(self.peer, client, why),
                    other => events::message_refused(self.peer, client, &other.reply()),
                }
                self.refuse(&refusal);
            }
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
            let told = !world.limits(|l| l.tell(self.peer, Topic::TlsOnPlainPort, world.now));
            events::tls_on_plain_port(self.peer, told);
            self.close();
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
                self.overlong = true;
                self.forget_line();
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
            return self.fail("500 5.5.2 line too long\r\n");
        }
        let line = std::mem::take(&mut self.line);
        if let State::Login(exchange) = std::mem::replace(&mut self.state, State::Command) {
            let line = Zeroizing::new(line);
            return self.login(login::next(exchange, &line), world);
        }
        let command = command::parse(&line);
        self.line = line;
        if command::is_auth(&self.line) {
            self.line.zeroize();
        }
        self.line.clear();
        self.line.shrink_to(512);
        self.command(command, input, world);
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
            Ok(Command::Data) => self.begin_data(),
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
            Ok(Command::StartTls) => self.start_tls(input),
            Ok(Command::Auth { mechanism, initial }) => self.auth(&mechanism, initial, world),
            Err(CommandError::Unknown) => self.fail("500 5.5.1 not a command\r\n"),
            Err(CommandError::NotImplemented) => self.fail("502 5.5.1 not done here\r\n"),
            Err(CommandError::Syntax(expected)) => self.fail(format!("501 5.5.4 {expected}\r\n")),
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
        if self.offer.auth != Auth::Off {
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

    fn start_tls(&mut self, input: &mut &[u8]) {
        if !self.may_start_tls() {
            return self.fail("502 5.5.1 STARTTLS is not offered here\r\n");
        }
        self.reply("220 2.0.0 ready for TLS\r\n");
        self.steps.push_back(Step::StartTls);
        self.state = State::Handshake;
        // Whatever was slipped in before the handshake is not from the peer that is authenticated by it.
        *input = &[];
    }

    /// The client of this peer at this moment; refuses when there is none.
    fn admitted(&mut self, world: World<'_>) -> Option<Arc<Client>> {
        let client = world.settings.clients.admit(self.peer).cloned();
        if client.is_none() {
            let told = !world.limits(|l| l.tell(self.peer, Topic::Refused, world.now));
            events::relay_refused(self.peer, told);
            self.transaction = None;
            self.fail(format!("550 5.7.1 {} may not relay here\r\n", self.peer));
        }
        client
    }

    fn mail(&mut self, from: ReversePath, parameters: Parameters, world: World<'_>) {
        let Some(client) = self.admitted(world) else { return };
        if self.offer.auth == Auth::Required && !self.logged_in {
            return self.fail("530 5.7.0 log in first\r\n");
        }
        if self.transaction.as_ref().is_some_and(|t| !t.recipients.is_empty()) {
            return self.fail("503 5.5.1 a transaction is under way, RSET ends it\r\n");
        }
        if !parameters.unknown.is_empty() {
            events::unknown_parameters(self.peer, &parameters.unknown);
        }
        let limit = limit_bytes(world.settings, Some(&client));
        if parameters.size_bytes > limit {
            let reply = Refusal::TooLarge(limit).reply();
            events::message_refused(self.peer, &client.name, &reply);
            return self.reply(reply);
        }
        if let Some(per_minute) = client.messages_per_minute
            && let Err(wait) = world.limits(|l| l.message(&client.name, per_minute, world.now))
        {
            let told = !world.limits(|l| l.tell(self.peer, Topic::Rate, world.now));
            events::rate_limited(self.peer, &client.name, per_minute, told);
            self.pace(world);
            let seconds = wait.as_secs() + 1;
            return self.reply(format!(
                "451 4.7.1 more than {per_minute} messages a minute, try again in {seconds} seconds\r\n"
            ));
        }
        self.transaction = Some(Transaction {
            settings: Arc::clone(world.settings),
            client,
            from,
            parameters,
            recipients: vec![],
        });
        self.reply("250 2.1.0 sender ok\r\n");
    }

    fn rcpt(&mut self, to: Result<Vec<Mailbox>, AddressError>, world: World<'_>) {
        let Some(_) = self.admitted(world) else { return };
        let Some(transaction) = &mut self.transaction else {
            return self.fail("503 5.5.1 MAIL comes first\r\n");
        };
        let name = &transaction.client.name;
        let refused = match to {
            Err(why) => {
                events::recipient_refused(self.peer, name, &why);
                let code = if why == AddressError::Routing { 550 } else { 501 };
                format!("{code} 5.1.3 {why}\r\n")
            }
            Ok(to) => {
                let new: Vec<Mailbox> =
                    to.into_iter().filter(|m| !transaction.recipients.contains(m)).collect();
                let max = transaction.settings.max_recipients;
                if let Some(forbidden) = new.iter().find(|m| !transaction.client.may_write_to(m)) {
                    events::recipient_refused(
                        self.peer,
                        name,
                        &format!("{forbidden} is not in allowed_recipients"),
                    );
                    "550 5.7.1 not a recipient you may write to\r\n".into()
                } else if transaction.recipients.len() + new.len() > max {
                    format!("452 4.5.3 more than {max} recipients\r\n")
                } else {
                    transaction.recipients.extend(new);
                    return self.reply("250 2.1.5 recipient ok\r\n");
                }
            }
        };
        // A long list with wrong addresses in it is no attack; it is only slowed down.
        self.chat(refused, world);
    }

    fn begin_data(&mut self) {
        let Some(transaction) = self.transaction.take() else {
            return self.fail("503 5.5.1 MAIL and RCPT come first\r\n");
        };
        if transaction.recipients.is_empty() {
            self.transaction = Some(transaction);
            return self.fail("554 5.5.1 no valid recipient was given\r\n");
        }
        self.steps.push_back(Step::Begin { expected_bytes: transaction.parameters.size_bytes });
        self.state = State::Beginning(transaction);
    }

    fn data(&mut self, input: &mut &[u8]) {
        let State::Data(data) = &mut self.state else { return };
        let mut decoded = Vec::with_capacity(input.len() + 8);
        let taken = data.decoder.push(input, &mut decoded);
        *input = &input[taken..];
        let limit = data.transaction.limit_bytes();
        let raw_bytes = data.decoder.seen().raw_bytes;
        if data.refusal.is_none() {
            // The end of data itself does not count.
            if raw_bytes > limit.saturating_add(3) {
                data.refusal = Some(Refusal::TooLarge(limit));
                self.steps.push_back(Step::Discard);
            } else if data.splitter.push(&mut decoded).is_err() {
                data.refusal = Some(Refusal::HeadTooLarge);
                self.steps.push_back(Step::Discard);
            } else if !decoded.is_empty() {
                self.steps.push_back(Step::Content(decoded));
            }
        }
        if data.decoder.is_finished() {
            self.behind_end = !input.is_empty();
            self.end_of_data();
        } else if let Some(refusal) = &data.refusal
            && raw_bytes > limit.saturating_mul(SWALLOW_FACTOR)
        {
            let reply = refusal.reply();
            events::message_refused(self.peer, &data.transaction.client.name, &reply);
            self.reply(reply);
            self.close();
        }
    }

    fn ended_by_silence(&mut self) -> bool {
        let State::Data(data) = &mut self.state else { return false };
        data.decoder.silence();
        let ended = data.decoder.is_finished();
        if ended {
            self.end_of_data();
        }
        ended
    }

    fn end_of_data(&mut self) {
        let State::Data(data) = std::mem::replace(&mut self.state, State::Command) else { return };
        let Data { transaction, id, decoder, mut splitter, refusal } = *data;
        if let Some(refusal) = refusal {
            match &refusal {
                Refusal::Queue(why) => events::queue_refused(self.peer, &transaction.client.name, why),
                other => events::message_refused(self.peer, &transaction.client.name, &other.reply()),
            }
            return self.refuse(&refusal);
        }
        splitter.finish();
        let finished = Arc::new(Finished {
            id,
            client: transaction.client,
            reverse_path: transaction.from,
            recipients: transaction.recipients,
            head: splitter.into_head(),
            size_bytes: decoder.seen().raw_bytes,
            eight_bit: decoder.seen().eight_bit,
            settings: transaction.settings,
            helo: self.helo.clone().unwrap_or_default(),
            peer: self.peer,
            protocol: self.protocol(transaction.parameters.smtputf8),
            tls: self.tls.clone(),
        });
        self.state = State::Committing(Arc::clone(&finished));
        self.steps.push_back(Step::Commit(finished));
    }

    /// RFC 3848 and RFC 6531 section 4.3.
    fn protocol(&self, smtputf8: bool) -> String {
        let (secure, login) = (self.tls.is_some(), self.logged_in);
        let mut name = String::from(match () {
            () if smtputf8 => "UTF8SMTP",
            () if self.extended || secure || login => "ESMTP",
            () => "SMTP",
        });
        let _ = write!(name, "{}{}", if secure { "S" } else { "" }, if login { "A" } else { "" });
        name
    }

    fn auth(&mut self, mechanism: &str, initial: Option<Zeroizing<Vec<u8>>>, world: World<'_>) {
        if self.offer.auth == Auth::Off {
            let told = !world.limits(|l| l.tell(self.peer, Topic::AuthNotOffered, world.now));
            events::auth_not_offered(self.peer, told);
            return self
                .fail("502 5.5.1 AUTH is not offered here, turn authentication off at the device\r\n");
        }
        if self.transaction.is_some() {
            return self.fail("503 5.5.1 not within a transaction\r\n");
        }
        if self.logged_in && self.offer.auth == Auth::Required {
            return self.fail("503 5.5.1 already logged in\r\n");
        }
        self.login(login::begin(mechanism, initial), world);
    }

    fn login(&mut self, turn: Turn, world: World<'_>) {
        match turn {
            Turn::Ask(prompt, exchange) => {
                self.state = State::Login(exchange);
                self.reply(prompt);
            }
            Turn::Cancelled => self.fail("501 5.7.0 login cancelled\r\n"),
            Turn::Mechanism => self.fail("504 5.5.4 only PLAIN and LOGIN are offered\r\n"),
            Turn::Credentials(credentials) => self.credentials(credentials, world),
        }
    }

    fn credentials(&mut self, credentials: Option<Credentials>, world: World<'_>) {
        let admitted = world.settings.clients.admit(self.peer).is_some();
        let accepted = match (self.offer.auth, &credentials) {
            (Auth::Any, _) if admitted => true,
            (Auth::Required, Some(c)) if admitted => match c.check(&world.settings.users) {
                Some(user) => {
                    events::logged_in(self.peer, user);
                    true
                }
                None => false,
            },
            (Auth::Required, None) => return self.fail("501 5.5.2 not a login in base64\r\n"),
            _ => false,
        };
        if accepted {
            self.logged_in = true;
            return self.reply("235 2.7.0 logged in\r\n");
        }
        events::login_failed(self.peer, credentials.as_ref().map_or(b"", |c| c.user()));
        self.failed_logins += 1;
        self.steps.push_back(Step::Pause(Duration::from_secs(1 << self.failed_logins.min(3))));
        if self.failed_logins >= MAX_FAILED_LOGINS {
            self.reply("535 5.7.8 login failed\r\n421 4.7.0 too many failed logins\r\n");
            return self.close();
        }
        self.fail("535 5.7.8 login failed\r\n");
    }

    fn reply(&mut self, text: impl Into<Vec<u8>>) {
        self.steps.push_back(Step::Reply(text.into()));
    }

    /// The reply to data that was not taken.
    fn refuse(&mut self, refusal: &Refusal) {
        self.reply(refusal.reply());
        if matches!(refusal, Refusal::Queue(QueueError::Closed)) {
            self.close();
        } else if self.stopping {
            self.stop();
        }
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

    fn fail(&mut self, text: impl Into<Vec<u8>>) {
        self.errors += 1;
        let mut text = text.into();
        if self.errors < MAX_ERRORS {
            return self.reply(text);
        }
        events::too_many_errors(self.peer);
        text.extend_from_slice(b"421 4.7.0 too many errors\r\n");
        self.reply(text);
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.steps.push_back(Step::Close);
    }
}
