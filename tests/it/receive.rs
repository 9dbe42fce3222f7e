//! The receiver on real sockets of the loopback interface.

use crate::support::receiver::{Device, WatchedQueue, eventually, relay, relay_with, settings};
use mailferry::policy::admission::Clients;
use mailferry::receive::Tls;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_scan_is_queued_whole_and_routed_by_recipient() {
    let relay = relay().await;
    let mut device = Device::connect(&relay).await;
    device.asks("EHLO printer", "250-").await;
    device.begins(&["it@contoso.com", "x@partner.example"]).await;
    let line = "x".repeat(76);
    let content = format!("{line}\r\n").repeat(20_000);
    device.says(&format!("Subject: scan\r\n\r\n{content}.")).await;
    device.hears("250 2.0.0 queued as ").await;
    device.asks("QUIT", "221 ").await;
    device.is_closed().await;
    let intakes = relay.queue.last();
    for intake in &intakes {
        assert!(relay.queue.content(intake.id).await == content.as_bytes());
    }
    let routed: Vec<_> =
        intakes.iter().map(|i| (i.account.as_str(), i.envelope.recipients[0].to_string())).collect();
    assert_eq!(
        routed,
        [
            ("scanner@contoso.com", "it@contoso.com".into()),
            ("partner@contoso.com", "x@partner.example".into())
        ]
    );
    assert_ne!(intakes[0].id, intakes[1].id);
    for intake in &intakes {
        let head = String::from_utf8(intake.head.clone()).unwrap();
        assert!(head.contains(&intake.id.to_string()) && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("Subject: scan\r\n"), "{head}");
    }
}

#[tokio::test]
async fn no_250_before_the_queue_has_it_and_a_closed_connection_changes_nothing() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let relay = relay_with(settings(), WatchedQueue::gated(&gate), Tls::Off).await;
    let mut device = Device::connect(&relay).await;
    device.begins(&["it@contoso.com"]).await;
    device.says("Subject: x\r\n\r\nhi\r\n.").await;
    assert!(timeout(Duration::from_millis(100), device.0.read_u8()).await.is_err(), "an answer came early");
    gate.add_permits(1);
    device.hears("250 ").await;

    let mut device = Device::connect(&relay).await;
    device.begins(&["it@contoso.com"]).await;
    device.says("Subject: y\r\n\r\nhi\r\n.").await;
    drop(device);
    eventually("the second message is queued", || relay.queue.len() == 2).await;
    gate.add_permits(1);

    let mut device = Device::connect(&relay).await;
    device.begins(&["it@contoso.com"]).await;
    device.says("Subject: z\r\n\r\nhalf a").await;
    drop(device);
    eventually("everybody is gone", || relay.shared.connections() == 1).await;
    assert_eq!(relay.queue.len(), 2, "half a message is none");
}

#[tokio::test]
async fn starttls_with_a_real_handshake_drops_what_was_slipped_in_before_it() {
    let relay = relay_with(settings(), WatchedQueue::new(), Tls::StartTls).await;
    let mut device = Device::connect(&relay).await;
    assert!(device.asks("EHLO printer", "250-").await.contains("250-STARTTLS\r\n"));
    device.asks("STARTTLS\r\nMAIL FROM:<evil@x.example>", "220 ").await;
    let mut device = Device(handshake(device.0).await);
    assert!(!device.asks("EHLO printer", "250-").await.contains("STARTTLS"));
    device.asks("RCPT TO:<victim@y.example>", "503 ").await;
    device.begins(&["it@contoso.com"]).await;
    device.asks("Subject: x\r\n\r\nhi\r\n.", "250 ").await;
    let head = relay.queue.last()[0].head.clone();
    assert!(String::from_utf8(head).unwrap().contains("with ESMTPS"));
}

#[tokio::test]
async fn tls_from_the_first_byte_is_served_where_there_is_a_certificate() {
    for tls in [Tls::Implicit, Tls::StartTls] {
        let relay = relay_with(settings(), WatchedQueue::new(), tls).await;
        let mut device = Device(handshake(TcpStream::connect(relay.address).await.unwrap()).await);
        device.hears("220 ").await;
        device.begins(&["it@contoso.com"]).await;
        device.asks("Subject: x\r\n\r\nhi\r\n.", "250 ").await;
    }
}

#[tokio::test]
async fn above_the_limits_a_connection_hears_421_and_below_again_220() {
    let mut few = settings();
    few.max_connections = 3;
    few.max_connections_per_client = 2;
    let relay = relay_with(few, WatchedQueue::new(), Tls::Off).await;
    let first = Device::connect(&relay).await;
    let _second = Device::connect(&relay).await;
    let mut third = Device(TcpStream::connect(relay.address).await.unwrap());
    third.hears("421 4.7.0 more than 2").await;
    third.is_closed().await;
    drop(first);
    eventually("a place is free", || relay.shared.connections() == 1).await;
    Device::connect(&relay).await;
}

#[tokio::test]
async fn a_reload_applies_to_the_next_transaction_of_an_open_connection() {
    let relay = relay().await;
    let mut device = Device::connect(&relay).await;
    device.begins(&["it@contoso.com"]).await;
    let mut smaller = settings();
    smaller.max_message_size_bytes = 10;
    relay.settings.send(Arc::new(smaller)).unwrap();
    device.asks("Subject: x\r\n\r\nlonger than ten bytes\r\n.", "250 ").await;
    device.asks("MAIL FROM:<a@b.example> SIZE=11", "552 5.3.4").await;
    let mut nobody = settings();
    nobody.clients = Clients::default();
    relay.settings.send(Arc::new(nobody)).unwrap();
    device.asks("MAIL FROM:<a@b.example>", "550 5.7.1").await;
}

#[tokio::test]
async fn a_shutdown_lets_a_message_finish_and_closes_the_rest() {
    let relay = relay().await;
    let mut idle = Device::connect(&relay).await;
    let mut busy = Device::connect(&relay).await;
    busy.begins(&["it@contoso.com"]).await;
    relay.stop.send(Some(Instant::now() + Duration::from_secs(30))).unwrap();
    idle.hears("421 4.3.2").await;
    idle.is_closed().await;
    busy.says("Subject: x\r\n\r\nhi\r\n.").await;
    let mut rest = String::new();
    busy.0.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("250 2.0.0") && rest.contains("\r\n421 4.3.2"), "{rest}");
    drop((idle, busy));
    timeout(Duration::from_secs(10), relay.served).await.expect("the listener ends").unwrap().unwrap();
    assert!(TcpStream::connect(relay.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_message_beyond_its_bound() {
    let relay = relay().await;
    let mut busy = Device::connect(&relay).await;
    busy.begins(&["it@contoso.com"]).await;
    relay.stop.send(Some(Instant::now() + Duration::from_millis(50))).unwrap();
    busy.hears("421 4.3.2").await;
    timeout(Duration::from_secs(10), relay.served).await.expect("the listener ends").unwrap().unwrap();
    assert_eq!(relay.queue.len(), 0);
}

#[tokio::test]
async fn the_status_of_a_device_says_what_went_wrong_before_there_was_a_message() {
    let mut short = settings();
    short.data_timeout = Duration::from_millis(50);
    short.max_message_size_bytes = 1000;
    let relay = relay_with(short, WatchedQueue::new(), Tls::Off).await;
    let problem = || {
        let now = mailferry::mail::WallTime::now();
        relay.devices.seen(relay.settings.borrow().clients.all(), now)[0].last_problem.clone()
    };
    let mut device = Device::connect(&relay).await;
    device.asks("MAIL FROM:<scanner@contoso.com> SIZE=2000", "552 ").await;
    assert!(problem().contains("message exceeds 1000 bytes"), "{}", problem());
    device.begins(&["it@contoso.com"]).await;
    device.says("Subject: x\n\nhi\n.\n").await;
    device.hears("451 ").await;
    assert!(problem().contains("no end of data"), "{}", problem());
    let mut device = Device::connect(&relay).await;
    device.begins(&["it@contoso.com"]).await;
    device.says(&format!("{}\r\n.", "x\r\n".repeat(500))).await;
    device.hears("552 ").await;
    assert!(problem().contains("message exceeds 1000 bytes"), "{}", problem());
}

#[tokio::test]
async fn silence_is_ended_by_421_between_commands_and_451_inside_data() {
    let mut hasty = settings();
    (hasty.idle_timeout, hasty.data_timeout) = (Duration::from_millis(150), Duration::from_millis(50));
    let relay = relay_with(hasty, WatchedQueue::new(), Tls::Off).await;
    let mut idle = Device::connect(&relay).await;
    let mut stuck = Device::connect(&relay).await;
    stuck.begins(&["it@contoso.com"]).await;
    stuck.says("Subject: x\r\n\r\ntext.").await;
    stuck.hears("451 4.4.2").await;
    idle.hears("421 4.4.2").await;
    assert_eq!(relay.queue.len(), 0);
}

async fn handshake(tcp: TcpStream) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(LikeADevice(provider)))
        .with_no_client_auth();
    let name = "relay.contoso.local".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// Takes any certificate, as printers do.
#[derive(Debug)]
struct LikeADevice(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for LikeADevice {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
