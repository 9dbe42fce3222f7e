//! One POST to the sign-in service.
//!
//! Invariant: TLS is verified by the system's roots (and the CA file, if any) before a byte is sent; no
//! redirect is followed; an answer is read up to `MAX_BODY_BYTES` and within the limits of time. One
//! connection a request: there is about one an hour. Must not know: what the body says.

use super::SettingsError;
use super::response::{self, Fault, Problem};
use crate::files;
use crate::mail::WallTime;
use crate::tls::{HandshakeError, Trust, TrustError};
use bytes::{Buf, Bytes};
use futures_util::future::select_ok;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, RETRY_AFTER, USER_AGENT,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::zeroize::Zeroizing;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Microsoft's answers are 2 to 6 KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// RFC 8305 section 5: the next address is tried beside the one that has not answered yet.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
const MAX_ADDRESSES: usize = 8;

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// All of it.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), whole: Duration::from_secs(30) }
    }
}

/// A way to ask.
#[derive(Debug)]
pub(super) struct Endpoint {
    trust: Trust,
    limits: Limits,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// The server's clock.
    pub(super) date: Option<WallTime>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Endpoint {
    pub(super) fn new(ca_file: Option<&Path>, limits: Limits) -> Result<Self, SettingsError> {
        let wrong = |problem: String| {
            SettingsError::new(
                "ca_file",
                problem,
                "a PEM file with the certificates of the authorities to trust",
            )
        };
        let trust = Trust::besides_the_system(ca_file).map_err(|e| {
            let may_pass = matches!(&e, TrustError::Unreadable { why, .. } if files::may_pass(why));
            SettingsError { may_pass, ..wrong(e.to_string()) }
        })?;
        Ok(Self { trust, limits })
    }

    /// Whether it believes the same authorities as the other, as far as settings say whom.
    pub(super) fn trusts_as(&self, other: &Self) -> bool {
        self.trust.is_same(&other.trust)
    }

    /// Sends a form and reads the answer, whatever its status.
    pub(super) async fn post(&self, url: &hyper::Uri, form: Zeroizing<Vec<u8>>) -> Result<Answer, Problem> {
        let late = |what: &str, limit: Duration| {
            let host = url.host().unwrap_or_default();
            Problem::unavailable(
                Fault::Timeout,
                format!("{host} {what} within {}", humantime::format_duration(limit)),
            )
        };
        let exchange = async {
            let stream = timeout(self.limits.connect, self.connect(url))
                .await
                .map_err(|_| late("could not be connected to", self.limits.connect))??;
            exchange(stream, url, form).await
        };
        timeout(self.limits.whole, exchange).await.map_err(|_| late("did not answer", self.limits.whole))?
    }

    async fn connect(&self, url: &hyper::Uri) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Problem> {
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let failed = |e: std::io::Error| Problem::unavailable(Fault::Network, format!("{host}: {e}"));
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Problem::unavailable(Fault::Network, format!("{host} is not a host name")))?;
        let found = tokio::net::lookup_host((host, url.port_u16().unwrap_or(443))).await.map_err(failed)?;
        let attempts: Vec<_> = in_turns(found.collect())
            .into_iter()
            .enumerate()
            .map(|(i, address)| {
                Box::pin(async move {
                    tokio::time::sleep(NEXT_ADDRESS_AFTER * u32::try_from(i).unwrap_or(u32::MAX)).await;
                    TcpStream::connect(address).await
                })
            })
            .collect();
        if attempts.is_empty() {
            return Err(Problem::unavailable(Fault::Network, format!("{host} has no address")));
        }
        let (tcp, _) = select_ok(attempts).await.map_err(failed)?;
        let connector = self
            .trust
            .connector()
            .await
            .map_err(|e| Problem::unavailable(Fault::Certificate, format!("{host}: {e}")))?;
        connector.connect(name, tcp).await.map_err(|e| {
            // A TLS error travels inside the I/O error.
            let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let Some(tls) = tls.map(HandshakeError::from) else { return failed(e) };
            let not_believed = matches!(tls, HandshakeError::Certificate(_));
            let fault = if not_believed { Fault::Certificate } else { Fault::Network };
            Problem::unavailable(fault, format!("{host}: tls: {tls}"))
        })
    }
}

/// The system's order, families taking turns, so that a dead IPv6 route costs a quarter of a second.
fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut out = Vec::new();
    while out.len() < MAX_ADDRESSES {
        let before = out.len();
        out.extend(first.next());
        out.extend(second.next());
        if out.len() == before {
            break;
        }
    }
    out
}

async fn exchange(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    url: &hyper::Uri,
    form: Zeroizing<Vec<u8>>,
) -> Result<Answer, Problem> {
    let broken = |e: hyper::Error| {
        let fault = if e.is_parse() { Fault::Garbage } else { Fault::Network };
        let host = url.host().unwrap_or_default();
        Problem::unavailable(fault, format!("{host}: {e}"))
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let request = hyper::Request::post(path)
        .header(HOST, url.authority().map_or("", |a| a.as_str()))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("mailferry/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from_owner(form)))
        .map_err(|e| Problem::unavailable(Fault::Network, e.to_string()))?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = read(Limited::new(body, MAX_BODY_BYTES)).await?;
        let now = WallTime::now();
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: text(&head.headers, &RETRY_AFTER).and_then(|v| response::retry_after(v, now)),
            date: text(&head.headers, &DATE).and_then(response::http_date),
            body,
        })
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

/// Into a buffer that never grows, so that wiping it wipes every copy of ours.
async fn read(mut body: Limited<hyper::body::Incoming>) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let mut whole = Zeroizing::new(Vec::with_capacity(MAX_BODY_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            if e.is::<LengthLimitError>() {
                Problem::unavailable(Fault::Garbage, "the token endpoint's answer is longer than 64 KiB")
            } else {
                Problem::unavailable(Fault::Network, format!("the answer broke off: {e}"))
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

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let a = |s: &str| s.parse::<SocketAddr>().unwrap();
        let found = vec![a("[::1]:443"), a("[::2]:443"), a("[::3]:443"), a("10.0.0.1:443")];
        let turns = in_turns(found);
        assert_eq!(turns, [a("[::1]:443"), a("10.0.0.1:443"), a("[::2]:443"), a("[::3]:443")]);
        assert!(in_turns(Vec::new()).is_empty());
        assert!(in_turns(vec![a("10.0.0.1:443"); 40]).len() <= MAX_ADDRESSES);
    }
}
