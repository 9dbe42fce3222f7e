//! Sockets, TLS and time around `session`.
//!
//! Invariant: an error of `accept` never ends the listener and never spins; above `max_connections` nothing is
//! spawned; a message whose end of data was read is committed whether or not its sender is still there.
//! Must not know: SMTP beyond the steps of a `Session`.

use crate::events::receive as events;
use crate::mail::WallTime;
use crate::queue::{Clock, Draft, Queue, QueueError};
use crate::receive::finished::{Finished, Refusal};
use crate::receive::limits::{Full, Limits, Topic};
use crate::receive::session::{Offer, Session, Step, World};
use crate::receive::settings::{Listen, Settings, Tls};
use crate::receive::stamp::StampError;
use crate::receive::visitors::Visitors;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const BACKLOG: i32 = 4096;
/// Enough for any command; what an idle device costs.
const COMMAND_BUFFER_BYTES: usize = 1024;
/// The first read of a message, and every one after a read that filled it.
const DATA_BUFFER_BYTES: [usize; 2] = [16 * 1024, 64 * 1024];
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A ClientHello for a plain listener with a certificate is there at once or never; the banner waits no longer.
const CLIENT_HELLO_TIMEOUT: Duration = Duration::from_millis(20);
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long the last reply may take to reach a peer that still talks.
const LINGER: Duration = Duration::from_secs(1);

/// What all listeners share.
pub struct Shared {
    /// In force for new transactions; a reload sends new ones.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where messages go.
    pub queue: Arc<dyn Queue>,
    /// The relay's clock.
    pub clock: Clock,
    /// Who came.
    pub visitors: Visitors,
    limits: Mutex<Limits>,
}

impl Shared {
    /// Puts them together, with nobody connected.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, queue: Arc<dyn Queue>, clock: Clock) -> Self {
        let visitors = Visitors::new(WallTime::now());
        Self { settings, queue, clock, visitors, limits: Mutex::default() }
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.limits().connections()
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells listeners to stop: no new connections, 421 for idle sessions, and sessions inside DATA may go on until
/// that moment. `None`: go on.
pub type Stop = watch::Receiver<Option<Instant>>;

/// Opens a listening socket; an IPv6 wildcard takes IPv4, too.
///
/// # Errors
/// The system's: in use, not permitted, no such address.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves a listening socket, opened by `bind` or handed in by the service manager, until told to stop; returns
/// when its last session is over. A connection keeps to the `Listen` it found.
///
/// # Errors
/// The socket is no listening TCP socket.
pub async fn serve(
    listener: std::net::TcpListener,
    listen: watch::Receiver<Arc<Listen>>,
    shared: Arc<Shared>,
    mut stop: Stop,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    events::listening(address);
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let mut backoff = None;
    while stop.borrow().is_none() {
        let accepted = tokio::select! {
            changed = stop.changed() => if changed.is_ok() { continue } else { break },
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if backoff.take().is_some() {
                    events::accept_recovered(address);
                }
                let peer = peer.ip().to_canonical();
                if let Some(slot) = take_slot(&shared, peer, &stream) {
                    let listen = Arc::clone(&listen.borrow());
                    let (stop, alive) = (stop.clone(), alive.clone());
                    tokio::spawn(async move {
                        connection(stream, peer, &listen, &slot.shared, stop).await;
                        drop((slot, alive));
                    });
                }
            }
            // One peer's, gone before it was taken.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => {
                if backoff.is_none() {
                    events::accept_failed(address, &e);
                }
                let wait = backoff.map_or(ACCEPT_BACKOFF.0, |d: Duration| (d * 2).min(ACCEPT_BACKOFF.1));
                backoff = Some(wait);
                tokio::time::sleep(wait).await;
            }
        }
    }
    drop((listener, alive));
    all_gone.recv().await;
    Ok(())
}

/// A counted connection; counted out on drop.
struct Slot {
    shared: Arc<Shared>,
    peer: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.limits().disconnected(self.peer);
    }
}

fn take_slot(shared: &Arc<Shared>, peer: IpAddr, stream: &TcpStream) -> Option<Slot> {
    let (total, per_address) = {
        let settings = shared.settings.borrow();
        let client = settings.clients.admit(peer);
        if let Some(client) = client {
            shared.visitors.came(&client.name, peer, WallTime::now());
        }
        let own = client.and_then(|c| c.max_connections);
        (settings.max_connections, own.unwrap_or(settings.max_connections_per_client))
    };
    let taken = shared.limits().connected(peer, total, per_address);
    match taken {
        Ok(()) => {
            events::connected(peer);
            Some(Slot { shared: Arc::clone(shared), peer })
        }
        Err(full) => {
            turn_away(shared, peer, stream, full);
            None
        }
    }
}

/// Says 421 without waiting for anything: an empty send buffer takes it.
fn turn_away(shared: &Shared, peer: IpAddr, stream: &TcpStream, full: Full) {
    let reply = full.reply();
    let told = !shared.limits().tell(peer, Topic::Full, Instant::now());
    events::too_many_connections(peer, &reply, told);
    let socket = SockRef::from(stream);
    let _ = socket.send(reply.as_bytes());
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read_buf(buffer).await,
            Self::Tls(s) => s.read_buf(buffer).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = async {
            match self {
                Self::Plain(s) => s.write_all(bytes).await,
                Self::Tls(s) => {
                    s.write_all(bytes).await?;
                    s.flush().await
                }
            }
        };
        timeout(WRITE_TIMEOUT, written).await.map_err(io::Error::from)?
    }

    /// Closes so that the last reply arrives: a socket closed with unread bytes resets the connection, and the
    /// reply is lost with it.
    async fn close(mut self) {
        let closed = async {
            match &mut self {
                Self::Plain(s) => s.shutdown().await,
                Self::Tls(s) => s.shutdown().await,
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

/// A handshake, and what it agreed on.
async fn handshake(
    stream: TcpStream,
    peer: IpAddr,
    config: &Arc<rustls::ServerConfig>,
) -> Option<(Stream, String)> {
    let accepted =
        timeout(HANDSHAKE_TIMEOUT, Box::pin(TlsAcceptor::from(Arc::clone(config)).accept(stream))).await;
    match accepted.map_err(io::Error::from).flatten() {
        Ok(stream) => {
            let (_, connection) = stream.get_ref();
            let version = match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            };
            let suite = connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str());
            let agreed = format!("{version} {}", suite.unwrap_or("unknown"));
            Some((Stream::Tls(Box::new(stream)), agreed))
        }
        Err(why) => {
            events::handshake_failed(peer, &why);
            None
        }
    }
}

async fn connection(tcp: TcpStream, peer: IpAddr, listen: &Listen, shared: &Shared, mut stop: Stop) {
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
    let (mut stream, tls) = match tls_first {
        Some(config) => match handshake(tcp, peer, config).await {
            Some((stream, agreed)) => (stream, Some(agreed)),
            None => return,
        },
        None => (Stream::Plain(tcp), None),
    };
    let mut session = Session::new(peer, offer, tls);
    let banner = Session::greeting(&shared.settings.borrow());
    // A peer that is gone may still have left a whole message.
    let mut writable = stream.write(&banner).await.is_ok();
    let mut buffer = Vec::with_capacity(COMMAND_BUFFER_BYTES);
    let mut draft: Option<Draft> = None;
    let mut deadline = None;
    loop {
        let mut input = buffer.as_slice();
        let settings = Arc::clone(&shared.settings.borrow());
        loop {
            let world = World { settings: &settings, limits: &shared.limits, now: Instant::now() };
            let Some(step) = session.advance(&mut input, world) else { break };
            if let Some((client, problem)) = session.take_problem() {
                shared.visitors.failed(&client, peer, WallTime::now(), problem);
            }
            match step {
                Step::Reply(bytes) => writable = writable && stream.write(&bytes).await.is_ok(),
                Step::Pause(time) => {
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        _ = stop.wait_for(Option::is_some), if deadline.is_none() => {}
                    }
                }
                Step::Begin { expected_bytes } => match shared.queue.draft(expected_bytes) {
                    Ok(begun) => {
                        session.begun(Ok(begun.id()));
                        draft = Some(begun);
                    }
                    Err(why) => session.begun(Err(why)),
                },
                Step::Content(bytes) => {
                    if let Some(open) = &mut draft
                        && let Err(why) = open.write(&bytes).await
                    {
                        draft = None;
                        session.draft_failed(why);
                    }
                }
                Step::Discard => draft = None,
                Step::Commit(finished) => {
                    let outcome = commit(shared, draft.take(), &finished).await;
                    let client = &finished.client.name;
                    match &outcome {
                        Ok(_) => shared.visitors.sent(client, peer, WallTime::now()),
                        Err(why) => shared.visitors.failed(client, peer, WallTime::now(), why.words()),
                    }
                    session.committed(outcome);
                }
                Step::StartTls => {
                    let (Stream::Plain(tcp), Some(config)) = (stream, &listen.certificate) else { return };
                    let Some((secured, agreed)) = handshake(tcp, peer, config).await else { return };
                    stream = secured;
                    session.secured(agreed);
                }
                Step::Close => return stream.close().await,
            }
        }

        let wanted = match (session.is_in_data(), buffer.capacity()) {
            (false, _) => COMMAND_BUFFER_BYTES,
            (true, had) if had >= DATA_BUFFER_BYTES[0] && buffer.len() == had => DATA_BUFFER_BYTES[1],
            (true, had) => had.max(DATA_BUFFER_BYTES[0]),
        };
        buffer.clear();
        if buffer.capacity() != wanted {
            buffer = Vec::with_capacity(wanted);
        }
        let mut patience = session.patience(&settings);
        if let Some(deadline) = deadline {
            let left = Instant::saturating_duration_since(&deadline, Instant::now());
            if left.is_zero() {
                let _ = stream.write(b"421 4.3.2 shutting down, nothing was queued\r\n").await;
                return;
            }
            patience = patience.min(left);
        }
        let read = tokio::select! {
            read = timeout(patience, stream.read(&mut buffer)) => read,
            stopped = stop.wait_for(Option::is_some), if deadline.is_none() => {
                deadline = Some(stopped.ok().and_then(|at| *at).unwrap_or_else(Instant::now));
                session.stop();
                continue;
            }
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(_) => session.peer_closed(),
            Err(_) if deadline.is_some_and(|d| d <= Instant::now()) => {}
            Err(_) => session.timed_out(),
        }
    }
}

async fn commit(
    shared: &Shared,
    draft: Option<Draft>,
    finished: &Finished,
) -> Result<crate::queue::Stored, Refusal> {
    let broken = |what: &str| Refusal::Queue(QueueError::Broken(what.into()));
    let draft = draft.ok_or_else(|| broken("the draft is gone"))?;
    let intakes = finished
        .intakes(|| shared.queue.next_id(), WallTime::now(), shared.clock.now())
        .map_err(|StampError::Loop| Refusal::Loop)?;
    let stored = shared.queue.commit(draft, intakes).await.map_err(Refusal::Queue)?;
    stored.first().copied().ok_or_else(|| broken("nothing was stored"))
}
