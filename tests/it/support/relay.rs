//! A site for tests of the whole relay: its directory and configuration, devices that speak to it, and one way to
//! wait.
//!
//! A `Site` is a configuration file as an admin writes it, in a directory of its own that outlives the relay, so
//! that a test can start another one on it. Nothing here sleeps for a fixed time: `until` looks again until what is
//! awaited is there, or fails by name.

// Included by several test files, none of which uses all of it.

use crate::support::smart_host::SmartHost;
use mailferry::config::{self, Settings};
use mailferry::control::client::Client;
use mailferry::control::report::{
    AccountState, AccountStatus, Action, ChangeRequest, Message, Select, Shown,
};
use mailferry::daemon::Observers;
use mailferry::daemon::{Relay, StartError};
use mailferry::mail::{QueueId, State};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

pub const MAILBOX: &str = "scanner@contoso.com";
pub const PASSWORD: &str = "correct horse battery staple";
pub const PRX4: &str = "451 4.7.0 Temporary server error. Please try again later. PRX4";

/// What takes longer does not happen; a debug build on a loaded machine needs a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks until there is something to see. Where an event exists, await that instead.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let given_up = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < given_up, "waited in vain for: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Looks until the smart host has taken so many messages.
pub async fn taken(host: &SmartHost, messages: usize) {
    until(&format!("{messages} messages at the smart host"), async || {
        (host.recorded().messages.len() >= messages).then_some(())
    })
    .await;
}

/// An `[[account]]` that submits to this host, with further lines of its own.
pub fn account(mailbox: &str, host: &SmartHost, more: &str) -> String {
    format!(
        "[[account]]\nmailbox = \"{mailbox}\"\npassword = {{ file = \"password\" }}\nsmarthost = \"{}\"\n\
         ca_file = \"{}\"\nmessages_per_minute = 100000\n{more}\n",
        host.address(),
        SmartHost::ca_file().display(),
    )
}

/// A configuration and the directory it lives in.
pub struct Site {
    directory: tempfile::TempDir,
    /// `[[client]]` sections.
    pub clients: String,
    /// `[[account]]` sections.
    pub accounts: String,
    /// The lines of `[retry]`.
    pub retry: String,
    /// Further lines of `[queue]`.
    pub queue_more: String,
    /// Further sections.
    pub more: String,
    /// Where devices connect.
    pub listen: SocketAddr,
    /// Further lines of `[[listen]]`.
    pub listen_more: String,
}

impl Site {
    /// Devices all over the loopback, one account at this host, and delays that tests can wait for.
    pub fn before(host: &SmartHost) -> Self {
        Self::with(account(MAILBOX, host, ""))
    }

    /// The same with these accounts.
    pub fn with(accounts: String) -> Self {
        let site = Self {
            directory: tempfile::tempdir().unwrap(),
            clients: "[[client]]\nname = \"printers\"\nfrom = [\"127.0.0.0/8\"]\n".to_owned(),
            accounts,
            retry: "delays = [\"50 ms\", \"100 ms\"]\naccount_delays = [\"20 ms\", \"40 ms\"]\n\
                    hold_delays = [\"1 h\"]\n"
                .to_owned(),
            queue_more: String::new(),
            more: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen_more: String::new(),
        };
        site.set_password(PASSWORD);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn set_password(&self, password: &str) {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.path("password")).unwrap().write_all(password.as_bytes()).unwrap();
    }

    /// Writes the configuration; returns its path.
    pub fn write(&self) -> PathBuf {
        let file = self.path("mailferry.toml");
        let Self { clients, accounts, retry, queue_more, more, listen, listen_more, .. } = self;
        let text = format!(
            "hostname = \"relay.contoso.local\"\n[[listen]]\naddress = \"{listen}\"\n{listen_more}{clients}{accounts}\
             [retry]\n{retry}[queue]\ndirectory = \"queue\"\nmin_free_space = \"1 MiB\"\n{queue_more}\
             [control]\nsocket = \"control.sock\"\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    pub fn settings(&self) -> Settings {
        config::load(&self.write(), &config::Env::new()).unwrap()
    }

    pub async fn try_start(&self) -> Result<Running, StartError> {
        let relay = Relay::start(&self.settings(), vec![], Observers::default()).await?;
        let address = relay.addresses()[0];
        Ok(Running { relay, address, admin: self.admin() })
    }

    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    /// The way of `mailferry status` and `mailferry queue`.
    pub fn admin(&self) -> Admin {
        Admin(Client::new(&self.path("control.sock")))
    }

    /// Files of large contents on the disk.
    pub fn bodies(&self) -> usize {
        fn files(directory: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
            entries.map(|e| e.unwrap().path()).map(|p| if p.is_dir() { files(&p) } else { 1 }).sum()
        }
        files(&self.path("queue").join("bodies"))
    }
}

/// A relay at work.
pub struct Running {
    pub relay: Relay,
    pub address: SocketAddr,
    pub admin: Admin,
}

impl Running {
    /// Hands over a message as a device does; the answer to the end of data.
    pub async fn send(&self, to: &[&str], content: &str) -> String {
        let mut device = Device::connect(self.address).await;
        let answer = device.send("copier@contoso.com", to, content).await;
        device.quit().await;
        answer
    }

    pub async fn stop(self) {
        self.relay.stop(Duration::from_secs(5)).await;
    }
}

/// Asks over the control socket.
pub struct Admin(pub Client);

impl Admin {
    pub async fn list(&self, state: State) -> Vec<Message> {
        self.0.list(&Select { state: Some(state), ..Select::default() }).await.unwrap()
    }

    pub async fn show(&self, id: QueueId) -> Shown {
        self.0.show(id).await.unwrap()
    }

    /// Head and content as they are stored; none when they are gone.
    pub async fn stored(&self, id: QueueId) -> Option<String> {
        let mut text = vec![];
        self.0.body(id, &mut text).await.ok()?;
        Some(String::from_utf8(text).unwrap())
    }

    /// As `mailferry queue retry ID` and its kin.
    pub async fn change(&self, action: Action, id: QueueId) {
        let select = Select { ids: id.to_string(), ..Select::default() };
        let changed = self.0.change(&ChangeRequest { select, action, all: false }).await.unwrap();
        assert_eq!(changed.ids, [id]);
    }

    pub async fn sentence(&self) -> String {
        self.0.status().await.unwrap().sentence
    }

    pub async fn account(&self) -> AccountStatus {
        self.0.status().await.unwrap().accounts.remove(0)
    }

    /// Waits until there are so many messages in a state.
    pub async fn until(&self, messages: usize, state: State) -> Vec<Message> {
        until(&format!("{messages} messages {state:?}"), async || {
            Some(self.list(state).await).filter(|found| found.len() == messages)
        })
        .await
    }

    pub async fn until_account_is(&self, state: AccountState) -> AccountStatus {
        until(&format!("account {state:?}"), async || Some(self.account().await).filter(|a| a.state == state))
            .await
    }
}

/// A client that says what it is told and believes what it hears.
pub struct Device(BufReader<TcpStream>);

impl Device {
    pub async fn connect(relay: SocketAddr) -> Self {
        Self::connect_from([127, 0, 0, 1], relay).await
    }

    /// From this address of the loopback; the banner is read.
    pub async fn connect_from(own: [u8; 4], relay: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(own)), 0)).unwrap();
        let stream = socket.connect(relay).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut device = Self(BufReader::new(stream));
        assert!(device.hear().await.unwrap().starts_with("220 "));
        assert!(device.say("EHLO copier").await.starts_with("250 "));
        device
    }

    /// Says a line; the last line of the answer.
    pub async fn say(&mut self, line: &str) -> String {
        self.try_say(line).await.expect("the relay answers")
    }

    /// Hands over a message of CRLF lines without leading dots; the answer to its end, or to what was refused.
    pub async fn send(&mut self, from: &str, to: &[&str], content: &str) -> String {
        self.try_send(from, to, content).await.expect("the relay answers")
    }

    /// The same with a relay that may go away.
    pub async fn try_send(&mut self, from: &str, to: &[&str], content: &str) -> io::Result<String> {
        let mut lines = vec![format!("MAIL FROM:<{from}>")];
        lines.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        for line in lines {
            let answer = self.try_say(&line).await?;
            if !answer.starts_with("250 ") {
                return Ok(answer);
            }
        }
        let answer = self.try_say("DATA").await?;
        assert!(answer.starts_with("354 "), "{answer}");
        self.write(content).await?;
        self.try_say(".").await
    }

    pub async fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes()).await
    }

    /// Goes as it should, so that nobody waits for more.
    pub async fn quit(mut self) {
        assert!(self.say("QUIT").await.starts_with("221 "));
    }

    async fn try_say(&mut self, line: &str) -> io::Result<String> {
        self.write(&format!("{line}\r\n")).await?;
        self.hear().await
    }

    async fn hear(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            let heard = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await;
            if heard.expect("the relay answers in time")? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }
}

/// A message with a subject to know it by.
pub fn mail(subject: &str) -> String {
    format!("From: copier@contoso.com\r\nTo: maria@contoso.com\r\nSubject: {subject}\r\n\r\nThe scan.\r\n")
}

/// A field of a message's head, unfolded.
pub fn field(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message).replace("\r\n ", " ").replace("\r\n\t", " ");
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(prefix.as_str()).map(str::to_owned))
}

/// The subjects the smart host took, in order.
pub fn subjects(host: &SmartHost) -> Vec<String> {
    host.recorded().messages.iter().map(|m| field(&m.data, "Subject").unwrap_or_default()).collect()
}
