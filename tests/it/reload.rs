//! SIGHUP on the real binary: what can be taken is taken, what cannot is named, and a part is never taken for the whole.

use crate::support::daemon::{Daemon, serve, submit, told};
use crate::support::relay;
use crate::support::relay::{Device, Site, mail, taken};
use crate::support::smart_host::SmartHost;
use mailferry::control::report::AccountState;
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;

const TAKEN: &str = "configuration reloaded";
/// The same with nothing left over; a line of text ends with its fields.
const WHOLE: &str = "configuration reloaded event=";
const REFUSED: &str = "configuration not reloaded, the old one goes on: ";

/// Changes the file.
fn edit(site: &Site, from: &str, to: &str) {
    let path = site.path("mailferry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// Sends a SIGHUP; the line that says what came of it.
async fn reload(daemon: &Daemon) -> String {
    let before = daemon.said().lines().count();
    daemon.signal(Signal::HUP);
    relay::until("what came of the reload", async || {
        let said = daemon.said();
        let mut new = said.lines().skip(before);
        new.find(|l| l.contains(TAKEN) || l.contains(REFUSED)).map(str::to_owned)
    })
    .await
}

/// A self-signed pair for the listener, under these names; the certificate.
fn pair(site: &Site, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["relay.contoso.local".to_owned()]).unwrap();
    std::fs::write(site.path(&format!("{name}.crt")), made.cert.pem()).unwrap();
    std::fs::write(site.path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// The certificate a listener with implicit TLS shows.
async fn shown(address: SocketAddr) -> CertificateDer<'static> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = "relay.contoso.local".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Believes everybody, as devices do.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_once_and_a_broken_one_leaves_everything_as_it_was() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    let first = pair(&site, "relay");
    site.listen_more = "tls = \"implicit\"\ncertificate = \"relay.crt\"\nkey = \"relay.key\"\n".to_owned();
    let (daemon, address) = Daemon::start(&site).await;
    assert_eq!(shown(address).await, first);

    // Renewed in place: the file of the configuration is the same.
    let second = pair(&site, "relay");
    assert!(reload(&daemon).await.contains(WHOLE));
    assert_eq!(shown(address).await, second);

    // Half-renewed, or no certificate: nothing is taken, neither this nor what came with it.
    edit(&site, "min_free_space = \"1 MiB\"", "min_free_space = \"1000000 TiB\"");
    let whole = std::fs::read(site.path("relay.crt")).unwrap();
    let another = {
        pair(&site, "other");
        std::fs::read(site.path("other.crt")).unwrap()
    };
    for broken in [Some(b"not a certificate".to_vec()), Some(vec![]), Some(another), None] {
        match &broken {
            Some(content) => std::fs::write(site.path("relay.crt"), content).unwrap(),
            None => std::fs::remove_file(site.path("relay.crt")).unwrap(),
        }
        let said = reload(&daemon).await;
        assert!(said.contains(REFUSED) && said.contains("listen."), "{said}");
        assert_eq!(shown(address).await, second, "{broken:?}");
    }
    std::fs::write(site.path("relay.crt"), whole).unwrap();

    // A path of its own, and the relay's own pair in its place.
    let third = pair(&site, "new");
    edit(&site, "relay.crt", "new.crt");
    edit(&site, "relay.key", "new.key");
    assert!(reload(&daemon).await.contains(WHOLE));
    assert_eq!(shown(address).await, third);
    edit(&site, "certificate = \"new.crt\"\nkey = \"new.key\"\n", "");
    assert!(reload(&daemon).await.contains(WHOLE));
    let own = CertificateDer::from_pem_file(site.path("queue/tls/certificate.pem")).unwrap();
    assert_eq!(shown(address).await, own);
    daemon.terminate().await;
}

#[tokio::test]
async fn tls_and_logins_of_a_listener_change_for_who_connects_next() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.more = "[[receive.users]]\nname = \"copier\"\npassword = { file = \"password\" }\n".to_owned();
    let (daemon, address) = Daemon::start(&site).await;
    let mut before = Device::connect(address).await;
    edit(&site, "[[client]]", "auth = \"required\"\n[[client]]");
    assert!(reload(&daemon).await.contains(WHOLE));
    assert!(before.send("a@contoso.com", &["maria@contoso.com"], &mail("old")).await.starts_with("250 "));
    let mut after = Device::connect(address).await;
    assert!(after.say("MAIL FROM:<a@contoso.com>").await.starts_with("530 "));
    edit(&site, "auth = \"required\"", "tls = \"implicit\"");
    assert!(reload(&daemon).await.contains(WHOLE));
    shown(address).await;
    daemon.terminate().await;
}

#[tokio::test]
async fn min_free_space_counts_at_once_in_both_directions() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let (daemon, address) = Daemon::start(&site).await;
    submit(address, "one").await;
    edit(&site, "min_free_space = \"1 MiB\"", "min_free_space = \"1000000 TiB\"");
    assert!(reload(&daemon).await.contains(WHOLE));
    let mut device = Device::connect(address).await;
    device.say("MAIL FROM:<a@contoso.com>").await;
    device.say("RCPT TO:<maria@contoso.com>").await;
    let refused = device.say("DATA").await;
    assert!(refused.starts_with("452 4.3.1"), "{refused}");
    relay::until("status says so", async || {
        let sentence = site.admin().sentence().await;
        sentence.starts_with("needs a human: the queue takes no mail").then_some(())
    })
    .await;
    edit(&site, "min_free_space = \"1000000 TiB\"", "min_free_space = \"1 MiB\"");
    assert!(reload(&daemon).await.contains(WHOLE));
    submit(address, "three").await;
    let sentence = site.admin().sentence().await;
    assert!(!sentence.contains("takes no mail"), "{sentence}");
    daemon.terminate().await;
}

#[tokio::test]
async fn the_logs_format_changes_and_a_journal_that_is_not_there_refuses_the_whole() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.more = "[log]\nformat = \"text\"\n".to_owned();
    let (daemon, address) = Daemon::start(&site).await;
    edit(&site, "format = \"text\"", "format = \"json\"");
    let said = reload(&daemon).await;
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["message"], &json["event"]), (&TAKEN.into(), &"reloaded".into()), "{said}");
    edit(&site, "format = \"json\"", "format = \"text\"");
    assert!(reload(&daemon).await.contains(WHOLE));
    assert!(serde_json::from_str::<serde_json::Value>(daemon.said().lines().last().unwrap()).is_err());
    if !Path::new("/run/systemd/journal/socket").exists() {
        edit(&site, "format = \"text\"", "format = \"journald\"");
        edit(&site, "min_free_space = \"1 MiB\"", "min_free_space = \"1000000 TiB\"");
        let said = reload(&daemon).await;
        assert!(said.contains(REFUSED) && said.contains("log.format"), "{said}");
        submit(address, "scan").await;
    }
    daemon.terminate().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_until_it_is_as_it_was() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.listen_more = "tls = \"starttls\"\n".to_owned();
    let (daemon, address) = Daemon::start(&site).await;
    // Each change on top of those before.
    for (from, to, named) in [
        ("directory = \"queue\"", "directory = \"another\"", "queue.directory"),
        ("socket = \"control.sock\"", "socket = \"another.sock\"", "queue.directory, control.socket"),
        ("127.0.0.1:0", "127.0.0.1:1", "listen.address, queue.directory, control.socket"),
        ("hostname = \"relay.", "hostname = \"mail.", "listen.address, queue.directory, control.socket"),
    ] {
        edit(&site, from, to);
        for _ in 0..2 {
            let said = reload(&daemon).await;
            assert!(said.contains(TAKEN) && said.contains(&format!(": {named} event=")), "{said}");
        }
    }
    // What can be taken was.
    let mut device = Device::connect(address).await;
    assert!(device.say("HELO copier").await.contains("mail.contoso.local"));
    assert!(!site.path("another").exists() && site.path("queue/tls/key.pem").exists());
    submit(address, "scan").await;
    taken(&host, 1).await;

    site.write();
    assert!(reload(&daemon).await.contains(WHOLE));
    daemon.terminate().await;
}

#[tokio::test]
async fn values_given_at_the_start_are_named_as_such() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.accounts = site.accounts.replace("{ file = \"password\" }", "{ env = \"PW\" }");
    let mut command = serve(&site.write());
    command.env("PW", relay::PASSWORD).env("MAILFERRY__RECEIVE__MAX_RECIPIENTS", "7");
    let daemon = Daemon::spawn(command);
    daemon.listening().await;
    assert!(reload(&daemon).await.contains(WHOLE));
    let line = daemon.line("a new value needs a restart").await;
    assert!(line.contains(": account.password, receive.max_recipients event="), "{line}");
    daemon.terminate().await;
}

#[tokio::test]
async fn an_authority_renewed_in_place_is_believed_from_the_next_connection_on() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    let authority = SmartHost::ca_file().display().to_string();
    site.accounts = site.accounts.replace(&authority, "ca.pem");
    pair(&site, "wrong");
    std::fs::copy(site.path("wrong.crt"), site.path("ca.pem")).unwrap();
    let (daemon, address) = Daemon::start(&site).await;
    submit(address, "one").await;
    relay::until("distrust", async || {
        let account = site.admin().account().await;
        (account.state != AccountState::Open).then_some(())
    })
    .await;
    std::fs::copy(authority, site.path("ca.pem")).unwrap();
    assert!(reload(&daemon).await.contains(WHOLE));
    taken(&host, 1).await;
    assert!(told(&site, &["status"]).await.starts_with("all is well"));
    daemon.terminate().await;
}

#[tokio::test]
async fn status_knows_a_file_that_is_not_in_force_and_why() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let (daemon, _) = Daemon::start(&site).await;
    let client = mailferry::control::client::Client::new(&site.path("control.sock"));
    let needs = async || {
        let status = client.status().await.unwrap();
        assert_eq!(status.sentence.starts_with("needs a human: "), !status.needs_human.is_empty());
        status.needs_human.into_iter().map(|n| format!("{} > {}", n.what, n.hint)).collect::<Vec<_>>()
    };
    assert_eq!(needs().await, [""; 0]);
    edit(&site, "min_free_space = \"1 MiB\"", "min_free_space = \"lots\"");
    let changed = relay::until("the change is seen", async || needs().await.pop()).await;
    assert!(
        changed
            .ends_with("was changed and is not loaded > mailferry check, then: systemctl reload mailferry")
    );
    assert!(reload(&daemon).await.contains(REFUSED));
    let refused = relay::until("the refusal", async || needs().await.pop().filter(|n| *n != changed)).await;
    assert!(
        refused.contains("the last reload was refused") && refused.contains("min_free_space"),
        "{refused}"
    );
    edit(&site, "min_free_space = \"lots\"", "min_free_space = \"2 MiB\"");
    assert!(reload(&daemon).await.contains(WHOLE));
    relay::until("all is well", async || needs().await.is_empty().then_some(())).await;
}
