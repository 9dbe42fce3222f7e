//! The demo against small relays of known character: it must praise the honest one and catch the others.

use mail_send::smtp::AssertReply;
use mail_send::{Credentials, SmtpClientBuilder};
use mailferry::demo::screen::Paper;
use mailferry::demo::{Condition, Relay, Script, Summary, Trouble, run};
use mailferry::fact::Witness;
use mailferry::sandbox::{Sandbox, SandboxSettings};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::SecretString;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

#[derive(Clone, Copy, PartialEq)]
enum Character {
    Honest,
    /// Drops what is refused once.
    Forgetful,
    /// Sends everything twice.
    Nervous,
    /// Changes what it carries.
    Meddling,
    /// Keeps what it has taken in memory alone.
    Volatile,
}

/// What a relay keeps through its own end.
#[derive(Default)]
struct Kept {
    mails: Mutex<VecDeque<Vec<u8>>>,
    password: Mutex<&'static str>,
    trouble: Mutex<Option<Trouble>>,
}

impl Kept {
    fn waiting(&self) -> u64 {
        self.mails.lock().unwrap().len() as u64
    }
}

/// Takes mail at once, and delivers it one by one with a short wait after a refusal.
struct SmallRelay {
    character: Character,
    address: SocketAddr,
    kept: Arc<Kept>,
    conditions: watch::Receiver<Option<Condition>>,
}

impl SmallRelay {
    async fn begin(sandbox: &Sandbox, character: Character) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::new(Kept { password: Mutex::new("secret"), ..Kept::default() });
        let taking = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&taking)));
            }
        });
        let (told, conditions) = watch::channel(None);
        let saying = Arc::clone(&kept);
        tokio::spawn(async move {
            loop {
                let trouble = saying.trouble.lock().unwrap().clone();
                told.send_replace(Some(Condition { waiting: saying.waiting(), trouble }));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let (port, tls) = (sandbox.address().port(), TlsConnector::from(Arc::new(config)));
        let sending = Arc::clone(&kept);
        tokio::spawn(async move {
            loop {
                let next = sending.mails.lock().unwrap().front().cloned();
                match next {
                    Some(mail) => send(&sending, mail, character, port, &tls).await,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        Self { character, address, kept, conditions }
    }
}

/// Sends the first of what is kept, and then keeps it no longer.
async fn send(kept: &Kept, mut mail: Vec<u8>, character: Character, port: u16, tls: &TlsConnector) {
    if character == Character::Meddling {
        mail.extend_from_slice(b"-- \r\nscanned for viruses\r\n");
    }
    let times = if character == Character::Nervous { 2 } else { 1 };
    for _ in 0..times {
        loop {
            let password = *kept.password.lock().unwrap();
            let client = SmtpClientBuilder::new_with_tls_connector("localhost".to_owned(), port, tls.clone())
                .implicit_tls(false)
                .credentials(Credentials::new("scanner@contoso.com".to_owned(), password.to_owned()));
            let Err(error) = deliver(&client, &mail).await else { break };
            let wait = Duration::from_millis(50);
            *kept.trouble.lock().unwrap() = Some(Trouble {
                next_try: Some(Instant::now() + wait),
                remedy: error.to_string().contains("535").then(|| "set the password".to_owned()),
            });
            if character == Character::Forgetful || kept.waiting() == 0 {
                break;
            }
            tokio::time::sleep(wait).await;
        }
    }
    *kept.trouble.lock().unwrap() = None;
    kept.mails.lock().unwrap().pop_front();
}

/// The server's side of one transaction; keeps the message before it says 250.
async fn take(stream: TcpStream, kept: Arc<Kept>) {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 relay\r\n").await.unwrap();
    let (mut mail, mut in_data) = (Vec::new(), false);
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.unwrap();
        if in_data && line == b".\r\n" {
            kept.mails.lock().unwrap().push_back(mail);
            stream.write_all(b"250 ok\r\n").await.unwrap();
            return;
        } else if in_data {
            let text = line.strip_suffix(b"\n").unwrap();
            mail.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
            mail.extend_from_slice(b"\r\n");
        } else if line.starts_with(b"DATA") {
            in_data = true;
            stream.write_all(b"354 go\r\n").await.unwrap();
        } else {
            stream.write_all(b"250-relay\r\n250 fine\r\n").await.unwrap();
        }
    }
}

async fn deliver(client: &SmtpClientBuilder<String>, mail: &[u8]) -> mail_send::Result<()> {
    let mut client = client.connect().await?;
    client.cmd(b"MAIL FROM:<scanner@contoso.com>\r\n").await?.assert_positive_completion()?;
    client.cmd(b"RCPT TO:<office@contoso.com>\r\n").await?.assert_positive_completion()?;
    client.cmd(b"DATA\r\n").await?;
    client.cmd([mail, b".\r\n"].concat()).await?.assert_positive_completion()
}

impl Relay for SmallRelay {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn conditions(&self) -> watch::Receiver<Option<Condition>> {
        self.conditions.clone()
    }

    async fn kill(&mut self) -> io::Result<String> {
        if self.character == Character::Volatile {
            self.kept.mails.lock().unwrap().clear();
        }
        Ok("pulls the plug".to_owned())
    }

    async fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn set_password(&mut self, password: &'static str) -> io::Result<String> {
        *self.kept.password.lock().unwrap() = password;
        Ok("sets the password".to_owned())
    }
}

async fn play(character: Character) -> (Summary, String) {
    let password = SecretString::from("secret");
    let sandbox =
        Sandbox::start(SandboxSettings::new("scanner@contoso.com", password), Witness::nobody()).unwrap();
    let mut relay = SmallRelay::begin(&sandbox, character).await;
    let script = Script {
        once: true,
        pause: Duration::from_millis(20),
        // Long enough that a slow machine tries to deliver within it.
        outage: Duration::from_secs(1),
        reading: Duration::from_millis(20),
        // Only these two never finish.
        finish_within: match character {
            Character::Forgetful | Character::Volatile => Duration::from_secs(2),
            _ => Duration::from_secs(30),
        },
        paper: Paper { is_live: false, has_colour: false },
    };
    let mut told = Vec::new();
    let summary = run(&mut relay, &sandbox, &script, &mut told, std::future::pending()).await.unwrap();
    (summary, String::from_utf8(told).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_relay_brings_everything_through_the_outage() {
    let (summary, told) = play(Character::Honest).await;
    assert!(summary.is_complete(), "{told}");
    // A line that is long goes on below, behind the names.
    let in_one_line = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "printer 250 in ",
        "exchange answers AUTH with 451 4.7.0 Temporary server error. Please try again later. PRX4",
        "admin pulls the plug: ",
        "none is lost",
        "exchange takes UPS event 3: mains power is back",
        "relay needs a human: set the password",
        "admin sets the password",
        "sent 9, delivered 9, lost 0, duplicates 0, changed 0, still waiting 0",
    ] {
        assert!(in_one_line.contains(expected), "{expected} is missing in:\n{told}");
    }
    assert!(!told.contains('\x1b'), "no colours unless asked for");
    assert!(told.lines().all(|l| l.chars().count() <= 80), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_keeps_mail_in_memory_alone_is_caught() {
    let (summary, told) = play(Character::Volatile).await;
    assert!(!summary.is_complete(), "{told}");
    assert!(told.contains("0 messages are waiting, NOT all"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_forgets_is_caught() {
    let (summary, told) = play(Character::Forgetful).await;
    assert!(!summary.is_complete(), "{told}");
    assert!(summary.rows.iter().any(|r| r.lost > 0), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_repeats_itself_is_caught() {
    let (summary, told) = play(Character::Nervous).await;
    assert!(!summary.is_complete(), "{told}");
    assert!(summary.rows.iter().all(|r| r.duplicates > 0 && r.lost == 0), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_changes_mail_is_caught() {
    let (summary, told) = play(Character::Meddling).await;
    assert!(!summary.is_complete(), "{told}");
    assert!(summary.rows.iter().all(|r| r.changed == r.sent), "{told}");
}
