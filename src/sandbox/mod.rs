//! The stand-in for Exchange Online: takes mail over STARTTLS and a login like the real one, and fails on request.
//!
//! Invariant: listens on loopback only, keeps no content (a digest of it), and never forgets a Message-ID while it
//! runs, so a message delivered twice is seen. Must not know: the relay, its queue or its settings.
//!
//! It stands on `mailin-embedded`, whose habits decide what it is good for: a client holds a thread; `MAIL FROM:<>`
//! and `SIZE=` get 500 (it does not announce SIZE); after RSET a session has to log in again; nothing can stop its
//! accept loop. So a dropped sandbox leaves its thread and its port behind and answers 421 until the process ends.

mod certificate;

use crate::fact::Witness;
use crate::fact::daemon::Fact;
use crate::letter::head::Head;
use crate::mail::{Reply, Stage, WallTime};
use aws_lc_rs::digest;
use certificate::Certificate;
use mailin_embedded::{AuthMechanism, Handler, Response, Server, response};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// What Exchange Online takes at most, in bytes.
const MAX_MESSAGE_BYTES: u64 = 157_286_400;
/// A head beyond this is not kept; no device writes one.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// So many messages are remembered with their details; Message-IDs are remembered all.
const MAX_RECEIVED: usize = 10_000;
/// Events a slow subscriber may fall behind.
const MAX_EVENTS: usize = 4096;

/// How to start a sandbox.
#[derive(Debug)]
pub struct SandboxSettings {
    /// Where to listen; a loopback address, port 0 for any free one.
    pub address: SocketAddr,
    /// The user name that may log in.
    pub mailbox: String,
    /// Its password.
    pub password: SecretString,
    /// Connections served at once; each holds a thread.
    pub max_connections: u32,
}

impl SandboxSettings {
    /// A sandbox on any free port of 127.0.0.1.
    pub fn new(mailbox: impl Into<String>, password: SecretString) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            mailbox: mailbox.into(),
            password,
            max_connections: 16,
        }
    }
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It takes mail for nobody, so nobody else may reach it.
    #[error("the sandbox listens on loopback only (127.0.0.1 or ::1), not on {0}")]
    NotLoopback(IpAddr),
    /// The address cannot be listened on, or a thread or file cannot be made.
    #[error("the sandbox cannot start: {0}")]
    Io(#[from] io::Error),
    /// The certificate could not be made or loaded.
    #[error("the sandbox has no certificate: {0}")]
    Certificate(String),
}

/// SHA-256 of a message's content: everything behind the empty line that ends its head, CRLF line ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Of a whole message as a device writes it: a bare LF counts as CRLF, because the relay sends it so.
    pub fn of_message(message: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut in_head = true;
        for line in message.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if in_head {
                in_head = !text.is_empty();
            } else {
                context.update(text);
                context.update(b"\r\n");
            }
        }
        Self::finish(context)
    }

    fn finish(context: digest::Context) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A message the sandbox answered 250 to. Texts are peer text: escape before printing.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its Message-ID, brackets included.
    pub message_id: Option<String>,
    /// Its Subject, unfolded, as it came.
    pub subject: String,
    /// Its From, unfolded, as it came.
    pub from: String,
    /// MAIL FROM.
    pub reverse_path: String,
    /// RCPT TO, in order.
    pub recipients: Vec<String>,
    /// Head and content, in bytes, dot-stuffing undone.
    pub size_bytes: u64,
    /// What its content was.
    pub content: ContentDigest,
    /// A message with this Message-ID was taken before.
    pub duplicate: bool,
    /// When.
    pub at: WallTime,
}

/// How long an outage lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Until `Sandbox::outage(None)`.
    UntilLifted,
    /// So long from the moment it is set.
    For(Duration),
    /// For the next so many answers.
    Times(u32),
}

/// An answer given in place of the good one.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Where: any of `Ehlo`, `Auth`, `Mail`, `Rcpt`, `Data`, `FinalDot`.
    pub at: Vec<Stage>,
    /// The answer.
    pub reply: Reply,
    /// How long.
    pub lasts: Lasts,
}

impl Outage {
    /// The front end cannot set up its back-end session: at AUTH, and at the end of data of sessions already open.
    pub fn prx4() -> Self {
        Self {
            at: vec![Stage::Auth, Stage::FinalDot],
            reply: Reply::new(451, "4.7.0 Temporary server error. Please try again later. PRX4"),
            lasts: Lasts::UntilLifted,
        }
    }

    /// Too many submissions of the mailbox at once.
    pub fn concurrent_sending() -> Self {
        let text =
            "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded (https://aka.ms/concurrent_sending)";
        Self { at: vec![Stage::FinalDot], reply: Reply::new(432, text), lasts: Lasts::UntilLifted }
    }

    /// The password is wrong or no longer right.
    pub fn refused_login() -> Self {
        Self { at: vec![Stage::Auth], reply: wrong_password(), lasts: Lasts::UntilLifted }
    }

    /// The same at these stages only.
    #[must_use]
    pub fn only_at(mut self, stages: &[Stage]) -> Self {
        self.at = stages.to_vec();
        self
    }

    /// The same for so long.
    #[must_use]
    pub fn lasting(mut self, lasts: Lasts) -> Self {
        self.lasts = lasts;
        self
    }
}

fn wrong_password() -> Reply {
    Reply::new(535, "5.7.139 Authentication unsuccessful, the user credentials were incorrect.")
}

/// What the sandbox answered.
#[derive(Debug, Clone)]
pub enum Event {
    /// 235 to a login.
    LoggedIn,
    /// Something else than the good answer.
    Refused {
        /// To what.
        stage: Stage,
        /// The answer.
        reply: Reply,
    },
    /// 250 to the end of data.
    Taken(Received),
}

/// A running sandbox. Dropping it ends its service (see the module's words on what stays).
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
}

impl Sandbox {
    /// Listens, makes a certificate for `localhost`, `127.0.0.1` and `::1`, and serves from threads of its own.
    ///
    /// # Errors
    /// See `SandboxError`.
    pub fn start(settings: SandboxSettings, witness: Witness) -> Result<Self, SandboxError> {
        if !settings.address.ip().is_loopback() {
            return Err(SandboxError::NotLoopback(settings.address.ip()));
        }
        // mailin-embedded takes the process's default provider; when there is one already, that is the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind(settings.address)?;
        let address = listener.local_addr()?;
        let certificate = Certificate::make().map_err(|e| SandboxError::Certificate(e.to_string()))?;
        let shared = Arc::new(Shared {
            mailbox: settings.mailbox,
            state: Mutex::new(State::new(settings.password)),
            events: broadcast::Sender::new(MAX_EVENTS),
        });
        let mut server =
            Server::new(Connection { shared: Arc::clone(&shared), incoming: None, passwords: 0 });
        server
            .with_name("sandbox.localhost")
            .with_num_threads(settings.max_connections)
            .with_auth(AuthMechanism::Login)
            .with_auth(AuthMechanism::Plain)
            .with_tcp_listener(listener);
        certificate.load_into(&mut server)?;
        std::thread::Builder::new().name("sandbox".into()).spawn(move || {
            if let Err(error) = server.serve() {
                witness.tell(Fact::SandboxStopped { error: error.to_string() });
            }
        })?;
        Ok(Self { address, ca_pem: certificate.ca_pem, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its own authority, to be trusted through `ca_file`.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Begins an outage, replaces it, or ends it.
    pub fn outage(&self, outage: Option<Outage>) {
        self.shared.state().outage = outage.map(|o| (o, Instant::now()));
    }

    /// The mailbox's password from now on. Sessions that logged in with another one take no more messages: the real
    /// one ends them, too.
    pub fn set_password(&self, password: SecretString) {
        let mut state = self.shared.state();
        state.password = password;
        state.passwords += 1;
    }

    /// The messages taken so far, oldest first; the latest ten thousand.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.iter().cloned().collect()
    }

    /// Whatever is answered from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
    }
}

#[derive(Debug)]
struct Shared {
    mailbox: String,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct State {
    password: SecretString,
    /// How often it was changed.
    passwords: u32,
    received: VecDeque<Received>,
    message_ids: HashSet<String>,
    outage: Option<(Outage, Instant)>,
    stopped: bool,
}

impl State {
    fn new(password: SecretString) -> Self {
        Self {
            password,
            passwords: 0,
            received: VecDeque::new(),
            message_ids: HashSet::new(),
            outage: None,
            stopped: false,
        }
    }

    /// The outage's answer at this stage, if there is one now.
    fn failure(&mut self, stage: Stage, now: Instant) -> Option<Reply> {
        let (outage, since) = self.outage.as_mut()?;
        if let Lasts::For(duration) = outage.lasts
            && now.saturating_duration_since(*since) >= duration
        {
            self.outage = None;
            return None;
        }
        if !outage.at.contains(&stage) {
            return None;
        }
        let reply = outage.reply.clone();
        if let Lasts::Times(left) = &mut outage.lasts {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.outage = None;
            }
        }
        Some(reply)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // An error means that nobody listens.
        let _ = self.events.send(event);
    }

    /// The answer at a stage that has nothing else to say against it; `None`: the good one.
    fn refusal(&self, stage: Stage) -> Option<Response> {
        let mut state = self.state();
        if state.stopped {
            return Some(response::NO_SERVICE);
        }
        let reply = state.failure(stage, Instant::now())?;
        drop(state);
        Some(self.refuse(stage, reply))
    }

    fn refuse(&self, stage: Stage, reply: Reply) -> Response {
        let status = reply.status.map(|s| format!("{s} ")).unwrap_or_default();
        let response = Response::custom(reply.code, status + &reply.text.replace('\n', " "));
        self.tell(Event::Refused { stage, reply });
        response
    }

    /// The answer, and how often the password was changed before it was right.
    fn login(&self, user: &str, password: &str) -> (Response, u32) {
        if let Some(refusal) = self.refusal(Stage::Auth) {
            return (refusal, 0);
        }
        let state = self.state();
        let is_right = user.eq_ignore_ascii_case(&self.mailbox) && password == state.password.expose_secret();
        let passwords = state.passwords;
        drop(state);
        if !is_right {
            return (self.refuse(Stage::Auth, wrong_password()), 0);
        }
        self.tell(Event::LoggedIn);
        (Response::custom(235, "2.7.0 Authentication successful".into()), passwords)
    }
}

/// One client's session; mailin clones a fresh one for each.
#[derive(Debug, Clone)]
struct Connection {
    shared: Arc<Shared>,
    incoming: Option<Incoming>,
    /// How often the password had been changed when this session logged in.
    passwords: u32,
}

/// A message between DATA and its end.
#[derive(Clone)]
struct Incoming {
    reverse_path: String,
    recipients: Vec<String>,
    head: Vec<u8>,
    in_head: bool,
    content: digest::Context,
    size_bytes: u64,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Incoming {
    fn line(&mut self, line: &[u8]) {
        self.size_bytes += line.len() as u64;
        if !self.in_head {
            self.content.update(line);
        } else if line == b"\r\n" {
            self.in_head = false;
        } else if self.head.len() + line.len() <= MAX_HEAD_BYTES {
            self.head.extend_from_slice(line);
        }
    }

    fn field(&self, name: &str) -> Option<String> {
        let field = Head::of(&self.head).first(name)?;
        Some(String::from_utf8_lossy(&field.unfolded()).into_owned())
    }
}

impl Handler for Connection {
    fn helo(&mut self, peer: IpAddr, _name: &str) -> Response {
        if !peer.is_loopback() {
            return response::NO_SERVICE;
        }
        self.shared.refusal(Stage::Ehlo).unwrap_or(response::OK)
    }

    fn auth_plain(&mut self, _authorization: &str, user: &str, password: &str) -> Response {
        let (answer, passwords) = self.shared.login(user, password);
        self.passwords = passwords;
        answer
    }

    fn auth_login(&mut self, user: &str, password: &str) -> Response {
        let (answer, passwords) = self.shared.login(user, password);
        self.passwords = passwords;
        answer
    }

    fn mail(&mut self, _peer: IpAddr, _name: &str, _from: &str) -> Response {
        if self.passwords != self.shared.state().passwords {
            return Response::custom(503, "5.5.1 This session has ended, log in anew".into());
        }
        self.shared.refusal(Stage::Mail).unwrap_or_else(|| Response::custom(250, "2.1.0 Sender OK".into()))
    }

    fn rcpt(&mut self, _to: &str) -> Response {
        self.shared.refusal(Stage::Rcpt).unwrap_or_else(|| Response::custom(250, "2.1.5 Recipient OK".into()))
    }

    fn data_start(&mut self, _name: &str, from: &str, _is8bit: bool, to: &[String]) -> Response {
        if let Some(refusal) = self.shared.refusal(Stage::Data) {
            return refusal;
        }
        self.incoming = Some(Incoming {
            reverse_path: from.to_owned(),
            recipients: to.to_vec(),
            head: Vec::new(),
            in_head: true,
            content: digest::Context::new(&digest::SHA256),
            size_bytes: 0,
        });
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(incoming) = &mut self.incoming {
            incoming.line(line);
        }
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let mut response = self.finish();
        // mailin stays inside DATA after an error here and takes the next command for content; a server does not.
        response.is_error = false;
        response
    }
}

impl Connection {
    fn finish(&mut self) -> Response {
        let Some(incoming) = self.incoming.take() else { return response::TRANSACTION_FAILED };
        if let Some(refusal) = self.shared.refusal(Stage::FinalDot) {
            return refusal;
        }
        if incoming.size_bytes > MAX_MESSAGE_BYTES {
            let reply = Reply::new(552, "5.3.4 Message size exceeds fixed maximum message size");
            return self.shared.refuse(Stage::FinalDot, reply);
        }
        let message_id = incoming.field("Message-ID");
        let mut state = self.shared.state();
        let received = Received {
            duplicate: message_id.as_ref().is_some_and(|id| !state.message_ids.insert(id.clone())),
            subject: incoming.field("Subject").unwrap_or_default(),
            from: incoming.field("From").unwrap_or_default(),
            reverse_path: incoming.reverse_path,
            recipients: incoming.recipients,
            size_bytes: incoming.size_bytes,
            content: ContentDigest::finish(incoming.content),
            at: WallTime::now(),
            message_id,
        };
        if state.received.len() == MAX_RECEIVED {
            state.received.pop_front();
        }
        state.received.push_back(received.clone());
        drop(state);
        let id = received.message_id.as_deref().unwrap_or("<none>");
        let text = format!("2.0.0 OK {} [Hostname=sandbox.localhost]", crate::mail::Escaped(id.as_bytes()));
        self.shared.tell(Event::Taken(received));
        Response::custom(250, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lasts: Lasts) -> State {
        State {
            outage: Some((Outage::prx4().lasting(lasts), Instant::now())),
            ..State::new(SecretString::from("x"))
        }
    }

    #[test]
    fn an_outage_ends_after_its_time_its_number_or_by_hand() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);

        let mut lifted = state(Lasts::UntilLifted);
        assert!(lifted.failure(Stage::Auth, later).is_some());

        let mut timed = state(Lasts::For(Duration::from_secs(60)));
        assert!(timed.failure(Stage::FinalDot, now).is_some());
        assert!(timed.failure(Stage::FinalDot, later).is_none());

        let mut counted = state(Lasts::Times(2));
        assert!(counted.failure(Stage::Mail, now).is_none(), "not at MAIL, and not counted");
        assert!(counted.failure(Stage::Auth, now).is_some());
        assert!(counted.failure(Stage::Auth, now).is_some());
        assert!(counted.failure(Stage::Auth, now).is_none());
    }

    #[test]
    fn the_digest_covers_the_content_and_forgives_line_ends() {
        let of = |m: &[u8]| ContentDigest::of_message(m);
        assert_eq!(of(b"A: 1\r\n\r\none\r\n\r\ntwo\r\n"), of(b"B: 2\nC: 3\n\none\n\ntwo\n"));
        assert_ne!(of(b"A: 1\r\n\r\none\r\n"), of(b"A: 1\r\n\r\none\r\n\r\n"));
    }

    #[test]
    fn an_address_others_can_reach_is_refused() {
        let mut settings = SandboxSettings::new("scanner@contoso.com", SecretString::from("x"));
        settings.address = "0.0.0.0:0".parse().unwrap();
        assert!(matches!(Sandbox::start(settings, Witness::nobody()), Err(SandboxError::NotLoopback(_))));
    }
}
