//! One byte stream to the smart host, in the clear or in TLS, with its replies read off.
//!
//! Invariant: no byte that was read is lost, whoever stops waiting, and what was said before the stream ended is
//! heard before its end is; no wait is without an end, and a server that drips its reply byte by byte gains at most
//! twice the timeout. Must not know: what is said over it.

use super::reply::{MAX_REPLY_BYTES, ReplyReader};
use crate::mail::{Cause, Reply};
use crate::tls::HandshakeError;
use mail_send::SmtpClient;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const READ_BYTES: usize = 2048;

/// How long to look for a server's last words after it closed the door while we were writing.
const LAST_WORDS: Duration = Duration::from_secs(2);

enum Stream {
    Plain(SmtpClient<TcpStream>),
    Tls(Box<SmtpClient<TlsStream<TcpStream>>>),
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(c) => Pin::new(&mut c.stream).poll_read(cx, buf),
            Self::Tls(c) => Pin::new(&mut c.stream).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(c) => Pin::new(&mut c.stream).poll_write(cx, bytes),
            Self::Tls(c) => Pin::new(&mut c.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(c) => Pin::new(&mut c.stream).poll_flush(cx),
            Self::Tls(c) => Pin::new(&mut c.stream).poll_flush(cx),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(c) => c.stream.shutdown().await,
            Self::Tls(c) => c.stream.shutdown().await,
        }
    }
}

/// Why a write that watches for replies ended early.
pub(super) enum Interrupted {
    /// The server spoke before everything was written.
    Spoke(Reply),
    /// The stream is broken or stuck.
    Broken(Cause),
}

pub(super) struct Channel {
    stream: Stream,
    replies: ReplyReader,
    /// The server's end of the stream was seen.
    ended: bool,
}

impl Channel {
    pub(super) fn new(client: SmtpClient<TcpStream>) -> Self {
        Self { stream: Stream::Plain(client), replies: ReplyReader::new(), ended: false }
    }

    /// Whether everything the server said has been taken.
    pub(super) fn is_silent(&self) -> bool {
        self.replies.is_empty()
    }

    /// Shakes hands for TLS on a silent channel in the clear. Of an error nothing was sent.
    pub(super) async fn into_tls(self, connector: &TlsConnector, host: &str) -> Result<Self, Cause> {
        let client = match self.stream {
            Stream::Plain(client) => client,
            Stream::Tls(_) => return Ok(self),
        };
        let tls = client.into_tls(connector, host).await.map_err(|e| match e {
            mail_send::Error::Tls(e) => match HandshakeError::from(&*e) {
                HandshakeError::Certificate(why) => Cause::Certificate(why),
                HandshakeError::Broken { said, lasts } => Cause::Handshake { said, lasts },
            },
            mail_send::Error::InvalidTLSName => {
                Cause::Certificate("the smart host's name cannot be in a certificate".to_owned())
            }
            mail_send::Error::Timeout => Cause::Timeout,
            // mail-send keeps of an end of the connection only its kind.
            mail_send::Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => closed(),
            mail_send::Error::Io(e) => Cause::Network(e.kind().to_string()),
            other => Cause::Network(other.to_string()),
        })?;
        Ok(Self { stream: Stream::Tls(Box::new(tls)), replies: ReplyReader::new(), ended: false })
    }

    /// Protocol version and cipher suite, as in `TLSv1_3 TLS13_AES_256_GCM_SHA384`; none in the clear.
    pub(super) fn tls(&self) -> Option<String> {
        let Stream::Tls(client) = &self.stream else { return None };
        let session = client.tls_connection();
        let version = session.protocol_version().map_or_else(String::new, |v| format!("{v:?}"));
        let suite =
            session.negotiated_cipher_suite().map_or_else(String::new, |s| format!(" {:?}", s.suite()));
        Some(version + &suite)
    }

    /// The server's own certificate, DER; none in the clear.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        let Stream::Tls(client) = &self.stream else { return None };
        client.tls_connection().peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// The next reply; a refusal that breaks off counts, and ends the channel.
    ///
    /// # Errors
    /// `Timeout` when nothing came for `patience` or the reply was not whole after twice that; `Network`,
    /// `Unparsable`.
    pub(super) async fn reply(&mut self, patience: Duration) -> Result<Reply, Cause> {
        let deadline = Instant::now() + patience * 2;
        loop {
            if let Some(reply) = self.take_reply()? {
                return Ok(reply);
            }
            let until = deadline.min(Instant::now() + patience);
            if let Err(cause) = timeout_at(until, self.receive()).await.unwrap_or(Err(Cause::Timeout)) {
                return self.refusal_begun().ok_or(cause);
            }
        }
    }

    fn refusal_begun(&mut self) -> Option<Reply> {
        let begun = self.replies.refusal_begun();
        self.ended |= begun.is_some();
        begun
    }

    /// Waits until the server says something that nobody asked for, or closes. Losing interest loses nothing.
    pub(super) async fn disturbance(&mut self) -> Cause {
        loop {
            match self.take_reply() {
                Ok(Some(reply)) => return Cause::Reply(reply),
                Err(cause) => return cause,
                Ok(None) => {}
            }
            if let Err(cause) = self.receive().await {
                return cause;
            }
        }
    }

    /// Writes commands whose answers fit in the socket's buffers, and flushes.
    pub(super) async fn write(&mut self, bytes: &[u8], patience: Duration) -> Result<(), Cause> {
        let mut rest = bytes;
        let mut written = Ok(());
        while !rest.is_empty() {
            match self.progress(patience, |stream, cx| stream.poll_write(cx, rest)).await {
                Ok(n) => rest = &rest[n..],
                Err(cause) => {
                    written = Err(cause);
                    break;
                }
            }
        }
        if written.is_ok() {
            written =
                self.progress(patience, |stream, cx| stream.poll_flush(cx).map_ok(|()| 1)).await.map(|_| ());
        }
        match written {
            // It may have said why before it closed; then that is the reply to what was being written.
            Err(Cause::Network(_)) if self.last_words().await => Ok(()),
            written => written,
        }
    }

    /// Writes a part of the body while listening: a server that has heard enough says so, and would go on saying
    /// it to nobody while we write megabytes. `written` counts what was accepted, also when it ends early.
    pub(super) async fn write_watching(
        &mut self,
        bytes: &[u8],
        written: &mut usize,
        patience: Duration,
    ) -> Result<(), Interrupted> {
        while *written < bytes.len() {
            let rest = &bytes[*written..];
            *written += self.watching(patience, true, |stream, cx| stream.poll_write(cx, rest)).await?;
        }
        Ok(())
    }

    /// Pushes out what TLS still holds, listening as well.
    pub(super) async fn flush_watching(&mut self, patience: Duration) -> Result<(), Interrupted> {
        // Flushed first: an answer that comes after the last byte has left is no interruption.
        while self.watching(patience, false, |stream, cx| stream.poll_flush(cx).map_ok(|()| 1)).await? == 0 {
            if let Some(reply) = self.take_reply().map_err(Interrupted::Broken)? {
                return Err(Interrupted::Spoke(reply));
            }
        }
        Ok(())
    }

    /// One step of writing, or of listening when writing cannot go on; 0 for the latter.
    async fn watching(
        &mut self,
        patience: Duration,
        listen_first: bool,
        mut poll: impl FnMut(&mut Stream, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Result<usize, Interrupted> {
        if listen_first && let Some(reply) = self.take_reply().map_err(Interrupted::Broken)? {
            return Err(Interrupted::Spoke(reply));
        }
        let (replies, stream) = (&mut self.replies, &mut self.stream);
        let step = poll_fn(|cx| {
            if listen_first && let Poll::Ready(heard) = poll_receive(stream, replies, cx) {
                return Poll::Ready(heard.map(|()| 0));
            }
            match poll(stream, cx) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(closed())),
                Poll::Ready(Ok(n)) => Poll::Ready(Ok(n)),
                Poll::Ready(Err(e)) => Poll::Ready(Err(network(&e))),
                Poll::Pending if listen_first => Poll::Pending,
                Poll::Pending => poll_receive(stream, replies, cx).map_ok(|()| 0),
            }
        });
        match timeout(patience, step).await {
            Ok(Ok(n)) => Ok(n),
            Ok(Err(cause)) => Err(self.last_reply(cause).await),
            Err(_) => Err(Interrupted::Broken(Cause::Timeout)),
        }
    }

    /// Closes our half, then waits for the server to close its own.
    pub(super) async fn close(&mut self) {
        // Whatever comes of it, the end is waited for.
        let _ = self.stream.shutdown().await;
        while self.receive().await.is_ok() {
            // Nobody reads it any more, and what is no reply would pile up.
            self.replies = ReplyReader::new();
        }
    }

    async fn progress(
        &mut self,
        patience: Duration,
        mut poll: impl FnMut(&mut Stream, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Result<usize, Cause> {
        match timeout(patience, poll_fn(|cx| poll(&mut self.stream, cx))).await {
            Ok(Ok(0)) => Err(closed()),
            Ok(Ok(n)) => Ok(n),
            Ok(Err(e)) => Err(network(&e)),
            Err(_) => Err(Cause::Timeout),
        }
    }

    /// Reads once. Cancelling it loses nothing: what was read is fed before anything is awaited again.
    async fn receive(&mut self) -> Result<(), Cause> {
        if self.ended {
            return Err(closed());
        }
        let (replies, stream) = (&mut self.replies, &mut self.stream);
        let got = poll_fn(|cx| poll_receive(stream, replies, cx)).await;
        self.ended |= got.is_err();
        got
    }

    fn take_reply(&mut self) -> Result<Option<Reply>, Cause> {
        self.replies.reply().or_else(|e| {
            let begun = self.refusal_begun();
            if begun.is_some() { Ok(begun) } else { Err(Cause::Unparsable(e.to_string())) }
        })
    }

    async fn last_words(&mut self) -> bool {
        let listen = async {
            let mut reads = MAX_REPLY_BYTES / READ_BYTES;
            while reads > 0 && self.receive().await.is_ok() {
                reads -= 1;
            }
        };
        let _ = timeout(LAST_WORDS, listen).await;
        !self.is_silent()
    }

    async fn last_reply(&mut self, cause: Cause) -> Interrupted {
        if !matches!(cause, Cause::Network(_)) || !self.last_words().await {
            return Interrupted::Broken(cause);
        }
        match self.take_reply().ok().flatten().or_else(|| self.refusal_begun()) {
            Some(reply) => Interrupted::Spoke(reply),
            None => Interrupted::Broken(cause),
        }
    }
}

fn poll_receive(
    stream: &mut Stream,
    replies: &mut ReplyReader,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Cause>> {
    let mut space = [0; READ_BYTES];
    let mut buf = ReadBuf::new(&mut space);
    match ready!(stream.poll_read(cx, &mut buf)) {
        Ok(()) if buf.filled().is_empty() => Poll::Ready(Err(closed())),
        Ok(()) => {
            replies.feed(buf.filled());
            Poll::Ready(Ok(()))
        }
        Err(e) => Poll::Ready(Err(network(&e))),
    }
}

fn closed() -> Cause {
    Cause::Network("the server closed the connection".to_owned())
}

fn network(e: &io::Error) -> Cause {
    // rustls tells an end without close_notify at length; SMTP servers do that every day.
    if e.kind() == io::ErrorKind::UnexpectedEof { closed() } else { Cause::Network(e.to_string()) }
}
