//! The connection of one request: straight, or through a proxy, and TLS on it where the address says so.
//!
//! Invariant: TLS is with the host of the address, whoever stands in between. Must not know: requests.

use super::proxy::{self, Proxy};
use super::{Fault, HttpError, Uri, host};
use crate::tls::{HandshakeError, Trust};
use futures_util::future::select_ok;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// RFC 8305 section 5: the next address is tried beside the one that has not answered yet.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
const MAX_ADDRESSES: usize = 8;
/// A proxy's answer to CONNECT has a line and a few headers.
const MAX_PROXY_HEAD_BYTES: usize = 8 * 1024;

/// A connection, in the clear or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects.
pub(super) async fn open(url: &Uri, trust: &Trust, proxy: Option<&Proxy>) -> Result<Stream, HttpError> {
    let host = host(url);
    let is_tls = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    if !is_tls {
        return tcp(host, port).await.map(Stream::Plain);
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| HttpError::new(Fault::Network, format!("{host} is not a host name")))?;
    let tcp = match proxy.filter(|p| p.stands_before(host)) {
        Some(proxy) => through(proxy, host, port).await?,
        None => tcp(host, port).await?,
    };
    let connector =
        trust.connector().await.map_err(|e| HttpError::new(Fault::Certificate, format!("{host}: {e}")))?;
    let tls = connector.connect(name, tcp).await.map_err(|e| {
        // A TLS error travels inside the I/O error.
        let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.map(HandshakeError::from) {
            None => HttpError::new(Fault::Network, format!("{host}: {e}")),
            Some(tls @ HandshakeError::Certificate(_)) => {
                HttpError::new(Fault::Certificate, format!("{host}: certificate not accepted: {tls}"))
            }
            Some(tls) => HttpError::new(Fault::Network, format!("{host}: tls: {tls}")),
        }
    })?;
    Ok(Stream::Tls(Box::new(tls)))
}

/// The first of the host's addresses that answers.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let failed = |e: io::Error| HttpError::new(Fault::Network, format!("{host}: {e}"));
    let found = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
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
        return Err(HttpError::new(Fault::Network, format!("{host} has no address")));
    }
    Ok(select_ok(attempts).await.map_err(failed)?.0)
}

/// A tunnel (RFC 9110 section 9.3.6).
async fn through(proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let (proxy_host, proxy_port) = proxy.address();
    let told = |e: HttpError| HttpError { said: format!("the proxy {}", e.said), ..e };
    let broken = |e: io::Error| HttpError::new(Fault::Network, format!("the proxy {proxy_host}: {e}"));
    let mut stream = tcp(proxy_host, proxy_port).await.map_err(told)?;
    stream.write_all(&proxy.connect(host, port)).await.map_err(broken)?;
    let head = head(&mut stream).await.map_err(broken)?;
    match proxy::status(&head) {
        Some(200..=299) => Ok(stream),
        Some(407) => {
            let said = format!("the proxy {proxy_host} does not take this login (407)");
            Err(HttpError::new(Fault::Network, said))
        }
        Some(status) => {
            let said = format!("the proxy {proxy_host} does not let us through to {host} ({status})");
            Err(HttpError::new(Fault::Network, said))
        }
        None => {
            let said = format!("the proxy {proxy_host} does not speak HTTP");
            Err(HttpError::new(Fault::Garbage, said))
        }
    }
}

/// The proxy's head and not a byte more: what follows is the other host's.
async fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_PROXY_HEAD_BYTES {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(e),
        }
    }
    Ok(head)
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

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
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
