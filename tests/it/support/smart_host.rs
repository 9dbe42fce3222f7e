//! A smart host that does as it is told: real TCP, real TLS, a scripted answer at any point, everything recorded.
//!
//! By default it behaves like Exchange Online with a mailbox that may send: STARTTLS, `AUTH LOGIN XOAUTH2`,
//! PIPELINING, and it takes every message. `SmartHost::builder()` changes what it offers, `SmartHost::script` what
//! it does, also while it runs; `recorded()` tells what it saw.
//!
//!     let host = SmartHost::start().await;
//!     host.once(At::Auth, Act::say("451 4.7.0 Temporary server error. Please try again later. PRX4"));
//!     // ... submit something to host.address(), trusting host.ca_file() ...
//!     assert_eq!(host.recorded().messages.len(), 1);

// Included by several test files, none of which uses all of it.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The name the default certificate is for; it resolves to the loopback everywhere.
pub const NAME: &str = "localhost";

/// A point in the dialogue where something can be scripted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// In place of the 220.
    Banner,
    /// EHLO in the clear.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// In place of the server's part of the handshake, once the client has begun it.
    Handshake,
    /// EHLO inside TLS.
    EhloInTls,
    /// AUTH and each answer to a 334. A scripted 334 asks once more.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO whomever.
    Rcpt,
    /// RCPT TO this address.
    RcptTo(String),
    /// DATA.
    Data,
    /// So many bytes into the body.
    Body(usize),
    /// The end of data.
    FinalDot,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

/// What to do there in place of the usual.
#[derive(Debug, Clone)]
pub enum Act {
    /// Says this (CRLF is added) and goes on.
    Say(String),
    /// Says this, then closes.
    SayAndClose(String),
    /// Says these bytes one at a time, so far apart.
    Drip(Vec<u8>, Duration),
    /// Closes without a word.
    Close,
    /// Never answers; stays until the peer goes.
    Stall,
    /// The usual, later.
    Wait(Duration),
    /// Says this, and closes so much later.
    SayAndLinger(String, Duration),
    /// Says these bytes as they are, then ends so; what waits to be read stays unread.
    SayThen(Vec<u8>, Ending),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order, inside TLS with a close_notify.
    Close,
    /// Without a close_notify.
    Cut,
    /// With a TCP reset.
    Reset,
    /// Not at all: silence.
    Stall,
}

impl Act {
    /// `Act::Say` of a text.
    pub fn say(text: &str) -> Self {
        Self::Say(text.to_owned())
    }
}

/// Where TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// At STARTTLS.
    StartTls,
    /// At the first byte.
    Implicit,
    /// Never.
    None,
}

/// A message that was answered 250.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What stood behind `MAIL FROM:`.
    pub mail: String,
    /// What stood behind each accepted `RCPT TO:`, without the brackets.
    pub recipients: Vec<String>,
    /// The message, dots undone.
    pub data: Vec<u8>,
    /// Whether it came inside TLS.
    pub in_tls: bool,
    /// Which connection it came over, from 1.
    pub connection: usize,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Every message taken, in order.
    pub messages: Vec<Taken>,
    /// Connections accepted.
    pub connections: usize,
    /// Connections open now, up to the server's own close.
    pub open: usize,
    /// The most that were open at once.
    pub max_open: usize,
    /// AUTH commands.
    pub login_attempts: usize,
    /// AUTH answered with 235.
    pub logins: usize,
    /// What each `AUTH XOAUTH2` decoded to, in order.
    pub xoauth2: Vec<String>,
    /// Times it stalled.
    pub stalls: usize,
    /// Each connection's bytes as received, TLS taken off; AUTH included.
    pub bytes: Vec<Vec<u8>>,
    /// Each connection's turns: how often it had answered all it had and waited for the peer again.
    pub turns: Vec<usize>,
}

impl Recorded {
    /// What a connection received, as text, from 1.
    pub fn text(&self, connection: usize) -> String {
        String::from_utf8_lossy(&self.bytes[connection - 1]).into_owned()
    }
}

/// Settings before it starts.
pub struct Builder {
    protection: Protection,
    in_clear: Vec<String>,
    in_tls: Vec<String>,
    certificate: TestCertificate,
}

impl Builder {
    /// Where TLS begins; STARTTLS is announced accordingly.
    pub fn protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// Does not announce this keyword, before or after TLS.
    pub fn without(mut self, keyword: &str) -> Self {
        let keeps = |line: &String| line.split([' ', '=']).next() != Some(keyword);
        self.in_clear.retain(keeps);
        self.in_tls.retain(keeps);
        self
    }

    /// Announces this line in place of the one with the same keyword, before and after TLS.
    pub fn with(mut self, line: &str) -> Self {
        let keyword = line.split([' ', '=']).next().unwrap_or_default().to_owned();
        self = self.without(&keyword);
        self.in_clear.push(line.to_owned());
        self.in_tls.push(line.to_owned());
        self
    }

    /// Shows another certificate.
    pub fn certificate(mut self, certificate: TestCertificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// Listens on a free port of the loopback.
    pub async fn start(self) -> SmartHost {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            protection: self.protection,
            in_clear: self.in_clear,
            in_tls: self.in_tls,
            acceptor: self.certificate.acceptor(),
            script: Mutex::default(),
            tokens: Mutex::default(),
            challenges: Mutex::default(),
            recorded: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { Dialogue::begin(shared, stream).await });
            }
        });
        SmartHost { address, shared, task }
    }
}

/// A running smart host; it stops listening when dropped.
pub struct SmartHost {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl SmartHost {
    /// Settings like Exchange Online's.
    pub fn builder() -> Builder {
        let common = [
            "SIZE 157286400",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "CHUNKING",
            "SMTPUTF8",
        ];
        let lines = |more: &str| common.iter().chain([&more]).map(|l| (*l).to_owned()).collect();
        Builder {
            protection: Protection::StartTls,
            in_clear: lines("STARTTLS"),
            in_tls: lines("AUTH LOGIN XOAUTH2"),
            certificate: TestCertificate::good(),
        }
    }

    /// Starts one like Exchange Online.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority of the good certificate, as a PEM file.
    pub fn ca_file() -> &'static Path {
        TestAuthority::trusted().file()
    }

    /// Does this at that point, the next time only; several are used in order.
    pub fn once(&self, at: At, act: Act) {
        self.script(at, [act]);
    }

    /// Does these at that point, one a time, then the usual again.
    pub fn script(&self, at: At, acts: impl IntoIterator<Item = Act>) {
        self.shared
            .script
            .lock()
            .expect("no test panics holding it")
            .once
            .entry(at)
            .or_default()
            .extend(acts);
    }

    /// Does this at that point from now on.
    pub fn always(&self, at: At, act: Act) {
        self.shared.script.lock().expect("no test panics holding it").always.insert(at, act);
    }

    /// Takes these access tokens and no other.
    pub fn accept_tokens(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|t| (*t).to_owned()).collect();
        *self.shared.tokens.lock().expect("no test panics holding it") = Some(tokens);
    }

    /// Says why in a 334 before it refuses a token, as RFC 7628 has it.
    pub fn challenge(&self) {
        *self.shared.challenges.lock().expect("no test panics holding it") = true;
    }

    /// Behaves from now on.
    pub fn behave(&self) {
        *self.shared.script.lock().expect("no test panics holding it") = Script::default();
    }

    /// What it saw so far.
    pub fn recorded(&self) -> Recorded {
        self.shared.recorded.lock().expect("no test panics holding it").clone()
    }
}

impl Drop for SmartHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Script {
    once: HashMap<At, VecDeque<Act>>,
    always: HashMap<At, Act>,
}

struct Shared {
    protection: Protection,
    in_clear: Vec<String>,
    in_tls: Vec<String>,
    acceptor: TlsAcceptor,
    script: Mutex<Script>,
    /// None: any.
    tokens: Mutex<Option<Vec<String>>>,
    challenges: Mutex<bool>,
    recorded: Mutex<Recorded>,
}

impl Shared {
    fn act(&self, at: &At) -> Option<Act> {
        let mut script = self.script.lock().expect("no test panics holding it");
        let next = script.once.get_mut(at).and_then(VecDeque::pop_front);
        next.or_else(|| script.always.get(at).cloned())
    }

    /// The scripted point in the body, if any: bytes, taken off the script when it is reached.
    fn body_limit(&self) -> Option<usize> {
        let script = self.script.lock().expect("no test panics holding it");
        let once = script.once.iter().filter(|(_, acts)| !acts.is_empty()).map(|(at, _)| at);
        once.chain(script.always.keys()).find_map(|at| if let At::Body(n) = at { Some(*n) } else { None })
    }

    fn note<T>(&self, note: impl FnOnce(&mut Recorded) -> T) -> T {
        note(&mut self.recorded.lock().expect("no test panics holding it"))
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The connection is over.
struct Over;

struct Dialogue {
    shared: Arc<Shared>,
    /// The socket below whatever is spoken over it.
    socket: Option<socket2::Socket>,
    stream: Box<dyn Duplex>,
    number: usize,
    in_tls: bool,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Dialogue {
    async fn begin(shared: Arc<Shared>, stream: TcpStream) {
        let number = shared.note(|r| {
            r.connections += 1;
            r.open += 1;
            r.max_open = r.max_open.max(r.open);
            r.bytes.push(vec![]);
            r.turns.push(0);
            r.connections
        });
        stream.set_nodelay(true).expect("a fresh socket takes options");
        let implicit = shared.protection == Protection::Implicit;
        let socket = std::os::fd::AsFd::as_fd(&stream).try_clone_to_owned().expect("a descriptor is free");
        let mut dialogue = Self {
            shared: Arc::clone(&shared),
            socket: Some(socket.into()),
            stream: Box::new(stream),
            number,
            in_tls: false,
            input: vec![],
            output: vec![],
        };
        let ok = !implicit || dialogue.shake_hands().await.is_ok();
        if ok {
            let _ = dialogue.run().await;
            let _ = dialogue.flush().await;
        }
        // Counted down first: a peer that sees the close may connect again at once.
        shared.note(|r| r.open -= 1);
        if let Some(socket) = dialogue.socket.take() {
            drop(socket);
            let _ = dialogue.stream.shutdown().await;
        }
    }

    async fn run(&mut self) -> Result<(), Over> {
        self.answer(&At::Banner, "220 smart.host.example ESMTP ready").await?;
        let mut mail = None;
        let mut recipients = vec![];
        loop {
            let line = self.line().await?;
            let upper = line.to_ascii_uppercase();
            if upper.starts_with("EHLO") {
                self.hello().await?;
            } else if upper == "STARTTLS" {
                if self.answer(&At::StartTls, "220 2.0.0 SMTP server ready").await? {
                    self.flush().await?;
                    self.input.clear();
                    self.shake_hands().await?;
                }
            } else if let Some(rest) = upper.strip_prefix("AUTH ") {
                self.shared.note(|r| r.login_attempts += 1);
                match rest.strip_prefix("XOAUTH2 ") {
                    Some(response) if !self.is_good_token(&line[line.len() - response.len()..]) => {
                        self.refuse_token().await?;
                    }
                    Some(_) => self.auth("XOAUTH2").await?,
                    None => self.auth(rest).await?,
                }
            } else if upper.starts_with("MAIL FROM:") {
                if self.answer(&At::Mail, "250 2.1.0 Sender OK").await? {
                    mail = Some(line["MAIL FROM:".len()..].to_owned());
                    recipients.clear();
                }
            } else if upper.starts_with("RCPT TO:") {
                let to = line["RCPT TO:".len()..].trim_matches(['<', '>']).to_owned();
                if mail.is_none() {
                    self.say("503 5.5.1 MAIL first");
                    continue;
                }
                let act = self.shared.act(&At::RcptTo(to.clone())).or_else(|| self.shared.act(&At::Rcpt));
                if self.perform(act, "250 2.1.5 Recipient OK").await? {
                    recipients.push(to);
                }
            } else if upper == "DATA" {
                let scripted = self.shared.act(&At::Data);
                if scripted.is_none() && recipients.is_empty() {
                    self.say("503 5.5.1 RCPT first");
                    continue;
                }
                let goes = self.perform(scripted, "354 Start mail input").await?;
                if goes {
                    let data = self.body().await?;
                    let taken =
                        self.answer(&At::FinalDot, "250 2.0.0 OK <1@x> [Hostname=SMART.HOST]").await?;
                    if let Some(mail) = mail.take().filter(|_| taken) {
                        let recipients = std::mem::take(&mut recipients);
                        let (in_tls, connection) = (self.in_tls, self.number);
                        let taken = Taken { mail, recipients, data, in_tls, connection };
                        self.shared.note(|r| r.messages.push(taken));
                    }
                    mail = None;
                }
            } else if upper == "RSET" {
                self.answer(&At::Reset, "250 2.0.0 Resetting").await?;
                mail = None;
            } else if upper == "QUIT" {
                self.answer(&At::Quit, "221 2.0.0 Bye").await?;
                return Err(Over);
            } else {
                self.say("500 5.3.3 Unrecognized command");
            }
        }
    }

    async fn hello(&mut self) -> Result<(), Over> {
        let lines = if self.in_tls { &self.shared.in_tls } else { &self.shared.in_clear };
        let usual = lines.iter().fold("250-smart.host.example Hello".to_owned(), |t, l| t + "\r\n250-" + l);
        let usual = usual + "\r\n250 OK";
        self.answer(if self.in_tls { &At::EhloInTls } else { &At::Ehlo }, &usual).await?;
        Ok(())
    }

    fn is_good_token(&self, response: &str) -> bool {
        let decoded = base64::engine::general_purpose::STANDARD.decode(response).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded).into_owned();
        let token = decoded.split("auth=Bearer ").nth(1).and_then(|t| t.strip_suffix("\u{1}\u{1}"));
        let tokens = self.shared.tokens.lock().expect("no test panics holding it");
        let good = tokens.as_ref().is_none_or(|all| token.is_some_and(|t| all.iter().any(|a| a == t)));
        self.shared.note(|r| r.xoauth2.push(decoded));
        good
    }

    async fn refuse_token(&mut self) -> Result<(), Over> {
        if *self.shared.challenges.lock().expect("no test panics holding it") {
            let json = r#"{"status":"401","schemes":"bearer","scope":"https://outlook.office365.com/"}"#;
            self.say(&format!("334 {}", base64::engine::general_purpose::STANDARD.encode(json)));
            assert_eq!(self.line().await?, "", "an empty line answers the challenge");
        }
        self.say("535 5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod.exchangelabs.com]");
        Ok(())
    }

    async fn auth(&mut self, mechanism: &str) -> Result<(), Over> {
        let questions: &[&str] = match mechanism.split(' ').collect::<Vec<_>>()[..] {
            ["LOGIN"] => &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
            ["PLAIN"] => &["334 "],
            _ => &[],
        };
        for question in questions {
            if !self.answer(&At::Auth, question).await? {
                return Ok(());
            }
            self.line().await?;
        }
        loop {
            let act = self.shared.act(&At::Auth);
            let asks = matches!(&act, Some(Act::Say(text)) if text.starts_with("334"));
            if !self.perform(act, "235 2.7.0 Authentication successful").await? {
                return Ok(());
            }
            if !asks {
                self.shared.note(|r| r.logins += 1);
                return Ok(());
            }
            self.line().await?;
        }
    }

    async fn body(&mut self) -> Result<Vec<u8>, Over> {
        let limit = self.shared.body_limit();
        let mut data = vec![];
        let mut seen = 0;
        loop {
            let line = self.raw_line(limit.map(|n| n.saturating_sub(seen))).await?;
            seen += line.len();
            if limit.is_some_and(|n| seen >= n) {
                let act = self.shared.act(&At::Body(limit.unwrap_or_default()));
                self.perform(act, "554 5.0.0 Enough").await?;
                self.flush().await?;
                // Goes on reading, as servers do that have lost interest.
                loop {
                    self.input.clear();
                    self.fill().await?;
                }
            }
            if line == b".\r\n" {
                return Ok(data);
            }
            data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Does what the script says at this point, or the usual. True: the answer was positive (or 334, 354).
    async fn answer(&mut self, at: &At, usual: &str) -> Result<bool, Over> {
        let act = self.shared.act(at);
        self.perform(act, usual).await
    }

    async fn perform(&mut self, act: Option<Act>, usual: &str) -> Result<bool, Over> {
        let positive = |said: &str| said.starts_with(['2', '3']);
        match act {
            None => {
                self.say(usual);
                Ok(positive(usual))
            }
            Some(Act::Say(text)) => {
                self.say(&text);
                Ok(positive(&text))
            }
            Some(Act::SayAndClose(text)) => {
                self.say(&text);
                Err(Over)
            }
            Some(Act::SayAndLinger(text, time)) => {
                self.say(&text);
                self.flush().await?;
                tokio::time::sleep(time).await;
                Err(Over)
            }
            Some(Act::Drip(bytes, gap)) => {
                self.flush().await?;
                for byte in bytes {
                    self.stream.write_all(&[byte]).await.map_err(|_| Over)?;
                    self.stream.flush().await.map_err(|_| Over)?;
                    tokio::time::sleep(gap).await;
                }
                Ok(false)
            }
            Some(Act::Close) => {
                self.output.clear();
                Err(Over)
            }
            Some(Act::Stall) => {
                self.flush().await?;
                self.shared.note(|r| r.stalls += 1);
                loop {
                    self.fill().await?;
                }
            }
            Some(Act::SayThen(bytes, ending)) => {
                self.flush().await?;
                self.stream.write_all(&bytes).await.map_err(|_| Over)?;
                self.stream.flush().await.map_err(|_| Over)?;
                if ending == Ending::Stall {
                    self.shared.note(|r| r.stalls += 1);
                    loop {
                        self.fill().await?;
                    }
                }
                self.end(ending).await;
                Err(Over)
            }
            Some(Act::Wait(time)) => {
                self.flush().await?;
                tokio::time::sleep(time).await;
                self.say(usual);
                Ok(positive(usual))
            }
        }
    }

    /// What has arrived is left unread: at a close the system itself makes a reset of it.
    async fn end(&mut self, ending: Ending) {
        let socket = self.socket.take().filter(|_| ending != Ending::Close);
        match (socket, ending) {
            (Some(socket), Ending::Reset) => {
                socket.set_linger(Some(Duration::ZERO)).expect("a socket takes options");
            }
            (Some(socket), _) => {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
            (None, _) => {
                let _ = self.stream.shutdown().await;
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let output = std::mem::take(&mut self.output);
        self.stream.write_all(&output).await.map_err(|_| Over)?;
        self.stream.flush().await.map_err(|_| Over)
    }

    async fn line(&mut self) -> Result<String, Over> {
        let line = self.raw_line(None).await?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// A line with its end, or what there is after `limit` bytes. Answers leave only when there is nothing left to
    /// read: that is one turn.
    async fn raw_line(&mut self, limit: Option<usize>) -> Result<Vec<u8>, Over> {
        loop {
            if let Some(end) = self.input.iter().position(|b| *b == b'\n') {
                return Ok(self.input.drain(..=end).collect());
            }
            if limit.is_some_and(|n| self.input.len() >= n) {
                return Ok(std::mem::take(&mut self.input));
            }
            if !self.output.is_empty() {
                self.flush().await?;
                let number = self.number;
                self.shared.note(|r| r.turns[number - 1] += 1);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Over> {
        let mut space = vec![0; 64 * 1024];
        let n = self.stream.read(&mut space).await.map_err(|_| Over)?;
        if n == 0 {
            return Err(Over);
        }
        self.input.extend_from_slice(&space[..n]);
        let number = self.number;
        self.shared.note(|r| r.bytes[number - 1].extend_from_slice(&space[..n]));
        Ok(())
    }

    async fn shake_hands(&mut self) -> Result<(), Over> {
        if let Some(act) = self.shared.act(&At::Handshake) {
            self.fill().await?;
            self.perform(Some(act), "").await?;
        }
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let stream = self.shared.acceptor.accept(stream).await.map_err(|_| Over)?;
        self.stream = Box::new(stream);
        self.in_tls = true;
        Ok(())
    }
}

/// An authority made for the tests.
pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl TestAuthority {
    /// The one whose certificates are to be believed.
    pub fn trusted() -> &'static Self {
        static ONE: OnceLock<TestAuthority> = OnceLock::new();
        ONE.get_or_init(|| Self::new("the test's authority"))
    }

    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("the parameters are whole");
        let file = tempfile::NamedTempFile::new().expect("there is room for a file");
        std::fs::write(file.path(), certificate.pem()).expect("there is room for a file");
        Self { issuer: Issuer::new(params, key), file }
    }

    fn file(&self) -> &Path {
        self.file.path()
    }
}

/// What the smart host shows in the handshake.
pub struct TestCertificate {
    config: Arc<ServerConfig>,
}

impl TestCertificate {
    /// For `NAME`, from the trusted authority.
    pub fn good() -> Self {
        Self::for_names(&[NAME, "127.0.0.1"])
    }

    /// For these names or addresses, from the trusted authority.
    pub fn for_names(names: &[&str]) -> Self {
        Self::make(names, TestAuthority::trusted(), 4096)
    }

    /// For `NAME`, ended with the year 2020.
    pub fn expired() -> Self {
        Self::make(&[NAME], TestAuthority::trusted(), 2021)
    }

    /// For `NAME`, from an authority nobody heard of.
    pub fn of_a_stranger() -> Self {
        Self::make(&[NAME], &TestAuthority::new("a stranger"), 4096)
    }

    fn make(names: &[&str], authority: &TestAuthority, until_year: i32) -> Self {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are names");
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &authority.issuer).expect("the parameters are whole");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes keys rustls reads");
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together");
        Self { config: Arc::new(config) }
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}
