//! The demo against small relays of known character: it must praise the honest one and catch the others.

use mail_send::smtp::AssertReply;
use mail_send::{Credentials, SmtpClientBuilder};
use mailferry::demo::{Relay, Script, Summary, run};
use mailferry::fact::Witness;
use mailferry::sandbox::{Sandbox, SandboxSettings};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
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
}

/// Takes mail into memory at once, and delivers it one by one with a short wait after a refusal.
struct SmallRelay {
    address: SocketAddr,
    waiting: Arc<AtomicU64>,
    lines: Option<mpsc::UnboundedReceiver<String>>,
}

impl SmallRelay {
    async fn start(sandbox: &Sandbox, character: Character) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = Arc::new(AtomicU64::new(0));
        let (queue, mut mails) = mpsc::unbounded_channel::<Vec<u8>>();
        let (tell, lines) = mpsc::unbounded_channel();
        let counter = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (queue, counter) = (queue.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    let mail = take(stream, &counter).await;
                    queue.send(mail).unwrap();
                });
            }
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client = SmtpClientBuilder::new_with_tls_connector(
            "localhost".to_owned(),
            sandbox.address().port(),
            TlsConnector::from(Arc::new(config)),
        )
        .implicit_tls(false)
        .credentials(Credentials::new("scanner@contoso.com".to_owned(), "secret".to_owned()));
        let left = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(mut mail) = mails.recv().await {
                if character == Character::Meddling {
                    mail.extend_from_slice(b"-- \r\nscanned for viruses\r\n");
                }
                let times = if character == Character::Nervous { 2 } else { 1 };
                for _ in 0..times {
                    while let Err(error) = deliver(&client, &mail).await {
                        tell.send(format!("waits: {error}")).ok();
                        if character == Character::Forgetful {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                left.fetch_sub(1, Ordering::SeqCst);
            }
        });
        Self { address, waiting, lines: Some(lines) }
    }
}

/// The server's side of one transaction; counts the message before it says 250.
async fn take(stream: TcpStream, waiting: &AtomicU64) -> Vec<u8> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 relay\r\n").await.unwrap();
    let (mut mail, mut in_data) = (Vec::new(), false);
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.unwrap();
        if in_data && line == b".\r\n" {
            waiting.fetch_add(1, Ordering::SeqCst);
            stream.write_all(b"250 ok\r\n").await.unwrap();
            return mail;
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

    fn lines(&mut self) -> mpsc::UnboundedReceiver<String> {
        self.lines.take().unwrap()
    }

    async fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }
}

async fn play(character: Character) -> (Summary, String) {
    let password = SecretString::from("secret");
    let sandbox =
        Sandbox::start(SandboxSettings::new("scanner@contoso.com", password), Witness::nobody()).unwrap();
    let mut relay = SmallRelay::start(&sandbox, character).await;
    let script = Script {
        once: true,
        pause: Duration::from_millis(20),
        // Long enough that a slow machine tries to deliver within it.
        outage: Duration::from_secs(1),
        // Only the forgetful relay never finishes.
        finish_within: Duration::from_secs(if character == Character::Forgetful { 1 } else { 30 }),
        colour: false,
    };
    let mut told = Vec::new();
    let summary = run(&mut relay, &sandbox, &script, &mut told, std::future::pending()).await.unwrap();
    (summary, String::from_utf8(told).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_relay_brings_everything_through_the_outage() {
    let (summary, told) = play(Character::Honest).await;
    assert!(summary.is_complete(), "{told}");
    for expected in [
        "printer   250 in ",
        "exchange  answers AUTH with 451 4.7.0 Temporary server error. Please try again later. PRX4",
        "exchange  takes UPS rack 2: mains power is back (event 3)",
        "sent 8, delivered 8, lost 0, duplicates 0, changed 0, still waiting 0",
    ] {
        assert!(told.contains(expected), "{expected} is missing in:\n{told}");
    }
    assert!(!told.contains('\x1b'), "no colours unless asked for");
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
