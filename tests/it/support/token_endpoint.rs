//! A sign-in service on loopback: real TLS, real HTTP, scripted answers.
//!
//! Invariant: one step of the script a request, in order; every request is kept as it came. A request beyond
//! the script is answered 500 and counted, so that a test sees it.

// Included by several test files, none of which uses all of it.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What is done with one request.
pub(crate) enum Step {
    /// Answers with status, further header lines, and body.
    Answer(u16, &'static str, String),
    /// The same, once `Notify` says so.
    Held(Arc<Notify>, u16, String),
    /// Never answers.
    Silence,
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
}

/// An answer with a token good for an hour.
pub(crate) fn token(access: &str) -> Step {
    Step::Answer(200, "", token_json(access, None))
}

pub(crate) fn token_json(access: &str, refresh: Option<&str>) -> String {
    let mut json = serde_json::json!({"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": access});
    if let Some(refresh) = refresh {
        json["refresh_token"] = refresh.into();
    }
    json.to_string()
}

/// A refusal as Microsoft words it.
pub(crate) fn refusal(status: u16, error: &str, number: u32) -> Step {
    let body = serde_json::json!({
        "error": error, "error_description": format!("AADSTS{number}: Refused. Trace ID: 0a1b Timestamp: 2026-11-23 12:00:00Z"),
        "error_codes": [number], "trace_id": "0a1b",
    });
    Step::Answer(status, "", body.to_string())
}

/// The certificate it shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    ForAnotherName,
    Expired,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) form: HashMap<String, String>,
}

pub(crate) struct TokenEndpoint {
    /// `https://localhost:port`.
    pub(crate) authority: String,
    /// The authority that signed its certificate.
    pub(crate) ca_file: PathBuf,
    /// For whatever the test keeps.
    pub(crate) directory: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl TokenEndpoint {
    pub(crate) async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        Self::with(Certificate::Good, script).await
    }

    pub(crate) async fn with(certificate: Certificate, script: impl IntoIterator<Item = Step>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        let (tls, ca) = tls(certificate);
        std::fs::write(&ca_file, ca).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn({
            let requests = Arc::clone(&requests);
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let (acceptor, requests, script) =
                        (acceptor.clone(), Arc::clone(&requests), Arc::clone(&script));
                    tokio::spawn(async move {
                        let _ = serve(acceptor, tcp, &requests, &script).await;
                    });
                }
            }
        });
        Self { authority, ca_file, directory, requests, task }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    requests: &Mutex<Vec<Request>>,
    script: &Mutex<VecDeque<Step>>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(tcp).await?;
    let mut raw = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut raw).await? == 0 {
            return Ok(());
        }
        if let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(raw[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .filter_map(|l| l.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, v)| v.trim().parse::<usize>().unwrap());
            break (head, end + 4 + length);
        }
    };
    while raw.len() < length {
        stream.read_buf(&mut raw).await?;
    }
    let body = raw.split_off(head.len() + 4);
    let mut line = head.split(' ');
    assert_eq!(line.next(), Some("POST"));
    let request = Request {
        path: line.next().unwrap().to_owned(),
        form: form_urlencoded::parse(&body).into_owned().collect(),
    };
    requests.lock().unwrap().push(request);
    let step = script.lock().unwrap().pop_front();
    let (status, headers, body) = match step {
        Some(Step::Answer(status, headers, body)) => (status, headers, body),
        Some(Step::Held(go, status, body)) => {
            go.notified().await;
            (status, "", body)
        }
        Some(Step::Silence) => std::future::pending().await,
        Some(Step::Raw(bytes)) => {
            stream.write_all(&bytes).await?;
            return stream.shutdown().await;
        }
        None => (500, "", "the script is over".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// A server certificate and the PEM of the authority that signed it.
fn tls(certificate: Certificate) -> (ServerConfig, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let name = if certificate == Certificate::ForAnotherName { "login.example" } else { "localhost" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if certificate == Certificate::Expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (config, pem)
}
