//! The receiver on loopback with a real queue, and devices that talk to it.

pub use super::watched_queue::WatchedQueue;
use jiff::tz::TimeZone;
use mailferry::fact::{Observer, Witness};
use mailferry::mail::WallTime;
use mailferry::mail::{AccountId, ClientName};
use mailferry::policy::admission::{Client, Clients};
use mailferry::policy::route::{Route, Routes};
use mailferry::receive::devices::Devices;
use mailferry::receive::listener::{self, Shared};
use mailferry::receive::{Auth, Listen, Settings, Tls};
use mailferry::tls::server;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub fn settings() -> Settings {
    let networks = vec!["127.0.0.1/32".parse().unwrap()];
    let client = Client::new(ClientName::new("here"), networks);
    let routes = Routes {
        routes: vec![Route {
            account: AccountId::new("partner@contoso.com"),
            senders: vec![],
            recipients: vec!["*@partner.example".parse().unwrap()],
        }],
        default: AccountId::new("scanner@contoso.com"),
    };
    let settings = Settings::new("relay.contoso.local", Clients::new(vec![client]), routes);
    Settings { max_connections_per_client: 600, ..settings }
}

pub struct Relay {
    pub address: SocketAddr,
    pub queue: Arc<WatchedQueue>,
    pub shared: Arc<Shared>,
    pub devices: Arc<Devices>,
    pub settings: watch::Sender<Arc<Settings>>,
    pub stop: watch::Sender<Option<Instant>>,
    pub served: JoinHandle<std::io::Result<()>>,
}

pub async fn relay_with(settings: Settings, queue: impl Future<Output = WatchedQueue>, tls: Tls) -> Relay {
    let socket = listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = socket.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let certificate =
        (tls != Tls::Off).then(|| server::load_or_make(dir.path(), "relay.contoso.local").unwrap().config);
    let listen = Listen { address, tls, auth: Auth::Off, certificate };
    let (settings, told) = watch::channel(Arc::new(settings));
    let (stop, stopped) = watch::channel(None);
    let queue = Arc::new(queue.await);
    let devices = Arc::new(Devices::new(WallTime::now(), TimeZone::system()));
    let witness = Witness::new([Arc::clone(&devices) as Arc<dyn Observer>]);
    let intake = Arc::clone(&queue.watched.intake);
    let shared = Arc::new(Shared::new(told, intake, queue.watched.clock, witness));
    let listen = watch::channel(Arc::new(listen)).1;
    let served = tokio::spawn(listener::serve(socket, listen, Arc::clone(&shared), stopped));
    Relay { address, queue, shared, devices, settings, stop, served }
}

pub async fn relay() -> Relay {
    relay_with(settings(), WatchedQueue::new(), Tls::Off).await
}

pub struct Device<S>(pub S);

/// A connection from an address of the loopback network.
pub async fn from(source: [u8; 4], relay: &Relay) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(relay.address).await.unwrap()
}

/// The client network of `settings`, and 127.0.0.9 beside it.
pub fn also_127_0_0_9() -> Settings {
    let mut more = settings();
    let client = more.clients.all().next().unwrap().clone();
    let networks = vec!["127.0.0.1/32".parse().unwrap(), "127.0.0.9/32".parse().unwrap()];
    more.clients = Clients::new(vec![Client { networks, ..client }]);
    more
}

impl Device<TcpStream> {
    pub async fn connect(relay: &Relay) -> Self {
        let mut device = Self(TcpStream::connect(relay.address).await.unwrap());
        device.hears("220 ").await;
        device
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Device<S> {
    pub async fn says(&mut self, line: &str) {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    /// One reply, whole; it must have come in one read.
    pub async fn hears(&mut self, start: &str) -> String {
        let mut reply = vec![0; 4096];
        let n = timeout(Duration::from_secs(10), self.0.read(&mut reply)).await.expect("a reply").unwrap();
        let reply = String::from_utf8(reply[..n].to_vec()).unwrap();
        assert!(reply.starts_with(start) && reply.ends_with("\r\n"), "{reply:?}, not {start:?}");
        reply
    }

    pub async fn asks(&mut self, line: &str, start: &str) -> String {
        self.says(line).await;
        self.hears(start).await
    }

    pub async fn begins(&mut self, to: &[&str]) {
        self.asks("MAIL FROM:<scanner@contoso.com>", "250 ").await;
        for to in to {
            self.asks(&format!("RCPT TO:<{to}>"), "250 ").await;
        }
        self.asks("DATA", "354 ").await;
    }

    pub async fn is_closed(&mut self) {
        let mut rest = vec![];
        let closed = timeout(Duration::from_secs(10), self.0.read_to_end(&mut rest)).await.expect("closed");
        assert!(rest.is_empty() || closed.is_err(), "{rest:?}");
    }
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
