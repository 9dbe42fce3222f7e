//! One connection: its socket, its TLS and its time around a `session`.
//!
//! Invariant: a message whose end of data was read is committed whether or not its sender is still there; a peer
//! that may not relay is done with within seconds, and holds up a stop no longer than it takes to say 421; nor does
//! anybody who is not inside a message. Must not know: SMTP beyond the steps of a `Session`, other connections.

use crate::fact::receive::Fact;
use crate::letter::stamp::StampError;
use crate::mail::WallTime;
use crate::policy::admission::Standing;
use crate::queue::{Draft, QueueError, Stored};
use crate::receive::finished::{Finished, Refusal};
use crate::receive::session::{Offer, Session, Step, World};
use crate::receive::settings::{Listen, Settings, Tls};
use crate::receive::shared::{Slot, Stop};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Enough for any command; what an idle device costs.
const COMMAND_BUFFER_BYTES: usize = 1024;
/// The first read of a message, and every one after a read that filled it.
const DATA_BUFFER_BYTES: [usize; 2] = [16 * 1024, 64 * 1024];
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a peer that may not relay: in place of the two above and of `idle_timeout`, and for all it has to say.
const STRANGER_SILENCE: Duration = Duration::from_secs(10);
const STRANGER_TIME: Duration = Duration::from_secs(30);
/// A ClientHello for a plain listener with a certificate is there at once or never; the banner waits no longer.
const CLIENT_HELLO_TIMEOUT: Duration = Duration::from_millis(20);
/// How long the last reply may take to reach a peer that still talks.
const LINGER: Duration = Duration::from_secs(1);

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Given away, to a handshake or to be closed.
    Gone,
}

impl Stream {
    async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read_buf(buffer).await,
            Self::Tls(s) => s.read_buf(buffer).await,
            Self::Gone => Ok(0),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.write_all(bytes).await,
            Self::Tls(s) => {
                s.write_all(bytes).await?;
                s.flush().await
            }
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Closes so that the last reply arrives: a socket closed with unread bytes resets the connection, and the
    /// reply is lost with it.
    async fn close(mut self) {
        let closed = async {
            match &mut self {
                Self::Plain(s) => s.shutdown().await,
                Self::Tls(s) => s.shutdown().await,
                Self::Gone => Ok(()),
            }?;
            let mut rest = Vec::with_capacity(COMMAND_BUFFER_BYTES);
            while self.read(&mut rest).await? > 0 {
                rest.clear();
            }
            io::Result::Ok(())
        };
        let _ = timeout(LINGER, closed).await;
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(tcp: TcpStream, slot: &mut Slot, listen: &Listen, stop: Stop) {
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)));
    let offer =
        Offer { auth: listen.auth, starttls: listen.tls == Tls::StartTls && listen.certificate.is_some() };
    let tls_first = match (&listen.certificate, listen.tls) {
        (None, Tls::Implicit) => return,
        (None, _) => None,
        (Some(config), Tls::Implicit) => Some(config),
        (Some(config), _) => {
            let mut first = [0];
            let peeked = timeout(CLIENT_HELLO_TIMEOUT, tcp.peek(&mut first)).await;
            (matches!(peeked, Ok(Ok(1))) && first == [0x16]).then_some(config)
        }
    };
    let settings = slot.shared.settings.clone();
    let session = Session::new(slot.address, offer, None);
    let mut connection = Connection {
        stream: Stream::Plain(tcp),
        session,
        slot,
        settings,
        stop,
        draft: None,
        deadline: None,
        writable: true,
    };
    if let Some(config) = tls_first {
        let Some(agreed) = connection.handshake(config).await else { return };
        connection.session = Session::new(connection.slot.address, offer, Some(agreed));
    }
    connection.run(listen).await;
}

struct Connection<'a> {
    stream: Stream,
    session: Session,
    slot: &'a mut Slot,
    settings: watch::Receiver<Arc<Settings>>,
    stop: Stop,
    draft: Option<Draft>,
    /// Told to stop: a message may go on until then.
    deadline: Option<Instant>,
    /// A peer that is gone may still have left a whole message.
    writable: bool,
}

impl Connection<'_> {
    async fn run(mut self, listen: &Listen) {
        let banner = Session::greeting(&self.settings.borrow());
        self.write(&banner).await;
        let mut buffer = Vec::with_capacity(COMMAND_BUFFER_BYTES);
        loop {
            if self.settings.has_changed().unwrap_or(false) {
                let new = Arc::clone(&self.settings.borrow_and_update());
                self.slot.judge(&new);
            }
            let settings = Arc::clone(&self.settings.borrow());
            let mut input = buffer.as_slice();
            while let Some(step) = self.advance(&mut input, &settings) {
                if self.carry_out(step, listen).await.is_break() {
                    return;
                }
            }
            resize(&mut buffer, self.session.is_in_data());
            if self.wait(&mut buffer, &settings).await.is_break() {
                return;
            }
        }
    }

    fn advance(&mut self, input: &mut &[u8], settings: &Arc<Settings>) -> Option<Step> {
        let shared = &self.slot.shared;
        let world = World { settings, limits: &shared.limits, now: Instant::now() };
        self.session.advance(input, world)
    }

    async fn carry_out(&mut self, step: Step, listen: &Listen) -> ControlFlow<()> {
        match step {
            Step::Reply(bytes) => self.write(&bytes).await,
            Step::Tell(fact) => self.slot.shared.witness.tell(fact),
            Step::Pause(time) => {
                tokio::select! {
                    () = sleep(time) => {}
                    _ = self.stop.wait_for(Option::is_some), if self.deadline.is_none() => {}
                }
            }
            Step::Begin { expected_bytes } => match self.slot.shared.intake.draft(expected_bytes) {
                Ok(begun) => {
                    self.session.begun(Ok(begun.id()));
                    self.draft = Some(begun);
                }
                Err(why) => self.session.begun(Err(why)),
            },
            Step::Content(bytes) => {
                if let Some(open) = &mut self.draft
                    && let Err(why) = open.write(&bytes).await
                {
                    self.draft = None;
                    self.session.draft_failed(why);
                }
            }
            Step::Discard => self.draft = None,
            Step::Commit(finished) => {
                let outcome = self.commit(&finished).await;
                // The session has the other one, and gives away what is in it.
                drop(finished);
                self.session.committed(outcome);
            }
            Step::StartTls => {
                let Some(config) = &listen.certificate else { return ControlFlow::Break(()) };
                let Some(agreed) = self.handshake(config).await else { return ControlFlow::Break(()) };
                self.session.secured(agreed);
            }
            Step::Close => {
                std::mem::replace(&mut self.stream, Stream::Gone).close().await;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Waits for what comes next: bytes, silence, the peer's end, a stop, or new settings.
    async fn wait(&mut self, buffer: &mut Vec<u8>, settings: &Settings) -> ControlFlow<()> {
        let mut patience = self.session.patience(settings);
        if self.slot.standing == Standing::Stranger && !self.session.is_in_data() {
            patience = strangers_patience(patience, self.slot.since.elapsed());
        }
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.write(b"421 4.3.2 shutting down, nothing was queued\r\n").await;
                return ControlFlow::Break(());
            }
            patience = patience.min(left);
        }
        tokio::select! {
            read = timeout(patience, self.stream.read(buffer)) => match read {
                Ok(Ok(1..)) => {}
                Ok(_) => self.session.peer_closed(),
                Err(_) if self.deadline.is_some_and(|d| d <= Instant::now()) => {}
                Err(_) => self.session.timed_out(),
            },
            stopped = self.stop.wait_for(Option::is_some), if self.deadline.is_none() => {
                self.deadline = Some(stopped.ok().and_then(|at| *at).unwrap_or_else(Instant::now));
                self.session.stop();
            }
            // Perhaps it may relay from now on, or no longer.
            Ok(()) = self.settings.changed() => self.settings.mark_changed(),
        }
        ControlFlow::Continue(())
    }

    async fn write(&mut self, bytes: &[u8]) {
        if !self.writable {
            return;
        }
        let is_in_data = self.session.is_in_data();
        let limit = if self.slot.standing == Standing::Stranger { STRANGER_SILENCE } else { WRITE_TIMEOUT };
        self.writable = tokio::select! {
            biased;
            written = timeout(limit, self.stream.write(bytes)) => matches!(written, Ok(Ok(()))),
            () = given_up(&mut self.stop, is_in_data) => false,
        };
    }

    /// A handshake, and what it agreed on. A stop ends it: nobody is inside a message yet.
    async fn handshake(&mut self, config: &Arc<rustls::ServerConfig>) -> Option<String> {
        let Stream::Plain(tcp) = std::mem::replace(&mut self.stream, Stream::Gone) else { return None };
        let limit =
            if self.slot.standing == Standing::Stranger { STRANGER_SILENCE } else { HANDSHAKE_TIMEOUT };
        let accepted = tokio::select! {
            accepted = timeout(limit, Box::pin(TlsAcceptor::from(Arc::clone(config)).accept(tcp))) => accepted,
            _ = self.stop.wait_for(Option::is_some) => return None,
        };
        match accepted.map_err(io::Error::from).flatten() {
            Ok(stream) => {
                let (_, connection) = stream.get_ref();
                let version = match connection.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                    _ => "TLSv1.2",
                };
                let suite = connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str());
                let agreed = format!("{version} {}", suite.unwrap_or("unknown"));
                self.stream = Stream::Tls(Box::new(stream));
                Some(agreed)
            }
            Err(why) => {
                let Slot { address: peer, standing, .. } = *self.slot;
                self.slot.shared.witness.tell(Fact::HandshakeFailed { peer, standing, why: why.to_string() });
                None
            }
        }
    }

    async fn commit(&mut self, finished: &Finished) -> Result<Stored, Refusal> {
        let broken = |what: &str| Refusal::Queue(QueueError::Broken(what.into()));
        let draft = self.draft.take().ok_or_else(|| broken("the draft is gone"))?;
        let shared = &self.slot.shared;
        let intakes = finished
            .intakes(|| shared.intake.next_id(), WallTime::now(), shared.clock.now())
            .map_err(|StampError::Loop| Refusal::Loop)?;
        let stored = shared.intake.commit(draft, intakes).await.map_err(Refusal::Queue)?;
        stored.first().copied().ok_or_else(|| broken("nothing was stored"))
    }
}

/// How long to wait for the next bytes of a peer that has been a stranger for so long, however busily it talks.
fn strangers_patience(of_devices: Duration, since: Duration) -> Duration {
    of_devices.min(STRANGER_SILENCE).min(STRANGER_TIME.saturating_sub(since))
}

/// When nobody waits any longer for a peer that does not read: after a stop, at the end of a message's time, or soon.
async fn given_up(stop: &mut Stop, is_in_data: bool) {
    let told = stop.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    let left = told.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
    sleep(if is_in_data { left.max(LINGER) } else { LINGER }).await;
}

/// Empties the buffer, and gives it the size that the next read should have.
fn resize(buffer: &mut Vec<u8>, is_in_data: bool) {
    let wanted = match (is_in_data, buffer.capacity()) {
        (false, _) => COMMAND_BUFFER_BYTES,
        (true, had) if had >= DATA_BUFFER_BYTES[0] && buffer.len() == had => DATA_BUFFER_BYTES[1],
        (true, had) => had.max(DATA_BUFFER_BYTES[0]),
    };
    buffer.clear();
    if buffer.capacity() != wanted {
        *buffer = Vec::with_capacity(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_that_sends_a_byte_now_and_then_is_done_with_in_time_nevertheless() {
        let seconds = Duration::from_secs;
        for (of_devices, since, patience) in
            [(600, 0, 10), (600, 15, 10), (600, 25, 5), (600, 30, 0), (600, 99, 0), (3, 0, 3)]
        {
            assert_eq!(strangers_patience(seconds(of_devices), seconds(since)), seconds(patience));
        }
    }
}
