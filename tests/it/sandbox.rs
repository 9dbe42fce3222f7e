//! The sandbox as a client of Exchange Online would meet it: over TCP, STARTTLS and a login.

use mail_send::smtp::AssertReply;
use mail_send::{Credentials, SmtpClient, SmtpClientBuilder};
use mailferry::fact::Witness;
use mailferry::mail::Stage;
use mailferry::sandbox::{ContentDigest, Event, Lasts, Outage, Sandbox, SandboxSettings};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::SecretString;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

const MESSAGE: &[u8] =
    b"Message-ID: <1@mfp>\r\nSubject: a\r\n scan\r\nFrom: <mfp@contoso.com>\r\n\r\none\r\n..stuffed\r\n";

fn sandbox() -> Sandbox {
    Sandbox::start(
        SandboxSettings::new("scanner@contoso.com", SecretString::from("correct horse")),
        Witness::nobody(),
    )
    .unwrap()
}

async fn connect(
    sandbox: &Sandbox,
    host: &str,
    password: &str,
) -> mail_send::Result<SmtpClient<TlsStream<TcpStream>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    SmtpClientBuilder::new_with_tls_connector(host.to_owned(), sandbox.address().port(), connector)
        .implicit_tls(false)
        .credentials(Credentials::new("scanner@contoso.com".to_owned(), password.to_owned()))
        .connect()
        .await
}

/// One transaction; the code of the last reply.
async fn send(client: &mut SmtpClient<TlsStream<TcpStream>>, message: &[u8]) -> u16 {
    client.cmd(b"MAIL FROM:<scanner@contoso.com>\r\n").await.unwrap().assert_positive_completion().unwrap();
    client.cmd(b"RCPT TO:<a@contoso.com>\r\n").await.unwrap().assert_positive_completion().unwrap();
    assert_eq!(client.cmd(b"DATA\r\n").await.unwrap().code(), 354);
    client.cmd([message, b".\r\n"].concat()).await.unwrap().code()
}

#[tokio::test]
async fn a_message_sent_after_a_login_is_recorded_whole() {
    let sandbox = sandbox();
    let mut events = sandbox.events();
    for host in ["localhost", "127.0.0.1"] {
        let mut client = connect(&sandbox, host, "correct horse").await.unwrap();
        assert_eq!(send(&mut client, MESSAGE).await, 250);
    }
    assert!(matches!(events.recv().await.unwrap(), Event::LoggedIn));
    assert!(matches!(events.recv().await.unwrap(), Event::Taken(_)));

    let received = sandbox.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].message_id.as_deref(), Some("<1@mfp>"));
    assert_eq!(received[0].subject, "a scan");
    assert_eq!(received[0].from, "<mfp@contoso.com>");
    assert_eq!(received[0].reverse_path, "scanner@contoso.com");
    assert_eq!(received[0].recipients, ["a@contoso.com"]);
    assert_eq!(received[0].size_bytes, MESSAGE.len() as u64 - 1, "the stuffed dot does not count");
    assert_eq!(received[0].content, ContentDigest::of_message(b"\r\none\r\n.stuffed\r\n"));
    assert!(!received[0].duplicate);
    assert!(received[1].duplicate, "the same Message-ID again");
}

#[tokio::test]
async fn a_wrong_password_is_answered_as_exchange_online_does() {
    let sandbox = sandbox();
    let mut events = sandbox.events();
    assert!(connect(&sandbox, "localhost", "wrong").await.is_err());
    let Event::Refused { stage, reply } = events.recv().await.unwrap() else { panic!("not refused") };
    assert_eq!(stage, Stage::Auth);
    assert!(reply.to_string().starts_with("535 5.7.139 "), "{reply}");
    assert!(sandbox.received().is_empty());
}

#[tokio::test]
async fn a_prx4_at_the_end_of_data_takes_nothing_and_leaves_the_session_usable() {
    let sandbox = sandbox();
    let mut client = connect(&sandbox, "localhost", "correct horse").await.unwrap();
    sandbox.outage(Some(Outage::prx4().only_at(&[Stage::FinalDot]).lasting(Lasts::Times(1))));
    assert_eq!(send(&mut client, MESSAGE).await, 451);
    assert!(sandbox.received().is_empty());
    assert_eq!(send(&mut client, MESSAGE).await, 250);
    assert_eq!(sandbox.received().len(), 1);
}

#[tokio::test]
async fn an_outage_refuses_logins_until_it_is_lifted() {
    let sandbox = sandbox();
    sandbox.outage(Some(Outage::prx4()));
    assert!(connect(&sandbox, "localhost", "correct horse").await.is_err());
    sandbox.outage(None);
    assert!(connect(&sandbox, "localhost", "correct horse").await.is_ok());
}

#[tokio::test]
async fn nothing_is_taken_before_starttls_or_a_login() {
    let sandbox = sandbox();
    let stream = TcpStream::connect(sandbox.address()).await.unwrap();
    let mut client = SmtpClient { stream, timeout: std::time::Duration::from_secs(10) };
    assert_eq!(client.read().await.unwrap().code(), 220);
    let ehlo = client.cmd(b"EHLO relay\r\n").await.unwrap();
    assert!(!ehlo.message().contains("AUTH"), "{}", ehlo.message());
    assert_eq!(client.cmd(b"MAIL FROM:<scanner@contoso.com>\r\n").await.unwrap().code(), 503);
    assert_eq!(client.cmd(b"AUTH PLAIN AGEAYg==\r\n").await.unwrap().code(), 503);
}

#[tokio::test]
async fn a_dropped_sandbox_serves_nobody() {
    let sandbox = sandbox();
    let address = sandbox.address();
    drop(sandbox);
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = SmtpClient { stream, timeout: std::time::Duration::from_secs(10) };
    assert_eq!(client.read().await.unwrap().code(), 220);
    assert_eq!(client.cmd(b"EHLO relay\r\n").await.unwrap().code(), 421);
}
