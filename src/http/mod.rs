//! One request over HTTP, to whoever is asked once in a while: the sign-in service, a webhook, a heartbeat.
//!
//! Invariant: over TLS nothing is sent before the certificate is believed; no redirect is followed, so what a request
//! carries goes to its address and nowhere else; an answer is read up to its limits of size and time; neither the
//! path of an address nor what was sent is in an error. One connection a request: there are a few an hour.
//! Must not know: what a body says.

mod connect;
mod proxy;

pub use proxy::{Proxy, ProxyError};

use crate::tls::Trust;
use bytes::{Buf, Bytes};
use connect::Stream;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, USER_AGENT};
use hyper_util::rt::TokioIo;
use secrecy::zeroize::Zeroizing;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

pub use hyper::Uri;

/// Microsoft's answers are 2 to 6 KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Name, proxy, TCP and TLS.
    pub connect: Duration,
    /// All of it.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), whole: Duration::from_secs(30) }
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Name not found, refused, reset, closed.
    Network,
    /// Too slow.
    Timeout,
    /// The certificate is not believed: nothing was sent.
    Certificate,
    /// An answer that is not HTTP, or has no end.
    Garbage,
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct HttpError {
    /// The kind.
    pub fault: Fault,
    /// In words, with the host's name. Peer text or the system's.
    pub said: String,
}

impl HttpError {
    fn new(fault: Fault, said: impl Into<String>) -> Self {
        Self { fault, said: said.into() }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET, without a body.
    Get,
    /// POST of a body of this type.
    Post(&'static str),
}

/// An answer as it came, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    headers: HeaderMap,
    /// The body; wiped when it is dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A way to ask.
#[derive(Debug, Clone)]
pub struct Client {
    trust: Trust,
    proxy: Option<Arc<Proxy>>,
    limits: Limits,
}

impl Client {
    /// Believes those of `trust`; goes through the proxy, if there is one, to wherever it stands in between.
    pub fn new(trust: Trust, proxy: Option<Arc<Proxy>>, limits: Limits) -> Self {
        Self { trust, proxy, limits }
    }

    /// Whether it goes the same way and believes the same authorities as the other, as far as settings say.
    pub fn is_same(&self, other: &Self) -> bool {
        self.trust.is_same(&other.trust) && self.proxy == other.proxy
    }

    /// Sends one request and reads the answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ask(
        &self,
        method: Method,
        url: &Uri,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, HttpError> {
        let host = host(url);
        let late = |what: &str, limit: Duration| {
            let limit = humantime::format_duration(limit);
            HttpError::new(Fault::Timeout, format!("{host} {what} within {limit}"))
        };
        let exchange = async {
            let connect = connect::open(url, &self.trust, self.proxy.as_deref());
            let stream = timeout(self.limits.connect, connect)
                .await
                .map_err(|_| late("could not be connected to", self.limits.connect))??;
            exchange(stream, method, url, body).await
        };
        timeout(self.limits.whole, exchange).await.map_err(|_| late("did not answer", self.limits.whole))?
    }
}

/// The host of an address, without the brackets of an IPv6 literal.
fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

async fn exchange(
    stream: Stream,
    method: Method,
    url: &Uri,
    body: Zeroizing<Vec<u8>>,
) -> Result<Answer, HttpError> {
    let broken = |e: hyper::Error| {
        let fault = if e.is_parse() { Fault::Garbage } else { Fault::Network };
        HttpError::new(fault, format!("{}: {e}", host(url)))
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = request(method, url, body)?;
    let talk = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = read(Limited::new(body, MAX_BODY_BYTES), host(url)).await?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    tokio::pin!(talk);
    // The connection has to be driven beside the talk; when it ends first, the rest of the answer is already
    // here.
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => {
            let answer = talk.await;
            match ended {
                Err(e) if answer.is_err() => Err(broken(e)),
                _ => answer,
            }
        }
    }
}

fn request(
    method: Method,
    url: &Uri,
    body: Zeroizing<Vec<u8>>,
) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let request = hyper::Request::builder()
        .uri(path)
        .header(HOST, url.authority().map_or("", |a| a.as_str()))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("mailferry/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    match method {
        Method::Get => request.method("GET").body(Full::default()),
        Method::Post(of_type) => {
            request.method("POST").header(CONTENT_TYPE, of_type).body(Full::new(Bytes::from_owner(body)))
        }
    }
    .map_err(|e| HttpError::new(Fault::Network, e.to_string()))
}

/// Into a buffer that never grows, so that wiping it wipes every copy of ours.
async fn read(mut body: Limited<hyper::body::Incoming>, host: &str) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let mut whole = Zeroizing::new(Vec::with_capacity(MAX_BODY_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            if e.is::<LengthLimitError>() {
                HttpError::new(Fault::Garbage, format!("{host}: the answer is longer than 64 KiB"))
            } else {
                HttpError::new(Fault::Network, format!("{host}: the answer broke off: {e}"))
            }
        })?;
        if let Ok(mut data) = frame.into_data() {
            while data.has_remaining() {
                let n = data.chunk().len();
                whole.extend_from_slice(data.chunk());
                data.advance(n);
            }
        }
    }
    Ok(whole)
}
