//! The real binary at its sockets: those a supervisor hands over, those it opens, and what peers that may not relay
//! can make it write into its log.

use crate::support::relay::{Site, until};
use crate::support::smart_host::SmartHost;
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, SockRef, Socket, Type};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const BINARY: &str = env!("CARGO_BIN_EXE_mailferry");

/// A site with these `[[listen]]` sections, for devices at 127.0.0.1 alone; its file.
fn site(host: &SmartHost, listen: &str) -> (Site, std::path::PathBuf) {
    let mut site = Site::before(host);
    site.clients = format!("{listen}[[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1\", \"::1\"]\n");
    let file = site.write();
    // The section that the site writes by itself goes: what is tested is which there are.
    let text = std::fs::read_to_string(&file).unwrap();
    let own = format!("[[listen]]\naddress = \"{}\"\n", site.listen);
    std::fs::write(&file, text.replacen(&own, "", 1)).unwrap();
    (site, file)
}

fn listen(address: SocketAddr, more: &str) -> String {
    format!("[[listen]]\naddress = \"{address}\"\n{more}\n")
}

struct Daemon(Child);

impl Daemon {
    /// As systemd does it: the sockets from descriptor 3 on, and the process's own id in LISTEN_PID.
    fn with(file: &std::path::Path, sockets: &[&OwnedFd], names: &str) -> Self {
        let mut script =
            format!("export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names}; ", sockets.len());
        // Out of the way first: one of them may be descriptor 3 of this process.
        for (i, socket) in sockets.iter().enumerate() {
            script += &format!("exec {}<&{}; ", 60 + i, socket.as_raw_fd());
        }
        for i in 0..sockets.len() {
            script += &format!("exec {}<&{}; ", 3 + i, 60 + i);
        }
        script += "exec \"$0\" serve --config \"$1\"";
        for socket in sockets {
            rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
        }
        let mut command = Command::new("/bin/bash");
        command.env_clear().arg("-c").arg(script).arg(BINARY).arg(file).stdin(Stdio::null());
        let log = std::fs::File::create(file.with_extension("log")).unwrap();
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    async fn started(file: &std::path::Path) -> (Self, Vec<SocketAddr>) {
        let daemon = Self::with(file, &[], "");
        let line = line(file, ", sending as ").await;
        let (_, rest) = line.split_once("listening on ").unwrap();
        let (addresses, _) = rest.split_once(", sending").unwrap();
        (daemon, addresses.split(", ").map(|a| a.parse().unwrap()).collect())
    }

    async fn ended(&mut self) -> Option<i32> {
        until("the process's end", async || self.0.try_wait().unwrap()).await.code()
    }

    async fn terminate(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert_eq!(self.ended().await, Some(0));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(file: &std::path::Path) -> String {
    std::fs::read_to_string(file.with_extension("log")).unwrap_or_default()
}

async fn line(file: &std::path::Path, words: &str) -> String {
    until(words, async || said(file).lines().find(|l| l.contains(words)).map(str::to_owned)).await
}

fn bound(address: &str) -> (OwnedFd, SocketAddr) {
    let socket = TcpListener::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket.into(), address)
}

/// Says lines and hears everything until the other side closes or waits for more.
async fn talk(source: [u8; 4], to: SocketAddr, said: &[u8]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let _ = stream.write_all(said).await;
    let mut heard = vec![];
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await;
    String::from_utf8_lossy(&heard).into_owned()
}

const DEVICE: [u8; 4] = [127, 0, 0, 1];
const MAIL: &[u8] = b"EHLO x\r\nMAIL FROM:<copier@contoso.com>\r\nQUIT\r\n";

#[tokio::test]
async fn sockets_in_any_order_serve_the_listeners_of_their_addresses() {
    let host = SmartHost::start().await;
    let (open, open_at) = bound("127.0.0.1:0");
    // The same port on another address, by which only the whole address can tell them apart.
    let (closed, closed_at) = bound(&format!("127.0.0.2:{}", open_at.port()));
    let users = "[[receive.users]]\nname = \"a\"\npassword = { file = \"password\" }\n";
    let listeners = listen(open_at, "") + &listen(closed_at, "auth = \"required\"");
    for sockets in [[&open, &closed], [&closed, &open]] {
        let (_site, file) = site(&host, &format!("{listeners}{users}"));
        let daemon = Daemon::with(&file, &sockets, "a:b");
        line(&file, ", sending as ").await;
        let heard = talk(DEVICE, open_at, MAIL).await;
        assert!(heard.contains("250 2.1.0 ") && !heard.contains("AUTH"), "{heard}");
        let heard = talk(DEVICE, closed_at, MAIL).await;
        assert!(heard.contains("530 5.7.0 ") && heard.contains("AUTH"), "{heard}");
        daemon.terminate().await;
    }
}

#[tokio::test]
async fn a_socket_that_is_for_no_listener_keeps_the_relay_from_starting() {
    let host = SmartHost::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (right, right_at) = bound("127.0.0.1:0");
    let same_port = right_at.port();
    let unix = UnixListener::bind(directory.path().join("socket")).unwrap().into();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let file = std::fs::File::open("/dev/null").unwrap().into();
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let only_v6 = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    only_v6.set_only_v6(true).unwrap();
    only_v6.bind(&format!("[::]:{same_port}").parse::<SocketAddr>().unwrap().into()).unwrap();
    only_v6.listen(10).unwrap();
    for (socket, words) in [
        (bound(&format!("127.0.0.2:{same_port}")).0, "(b) of the service manager is for no [[listen]]"),
        (bound("127.0.0.1:0").0, "(b) of the service manager is for no [[listen]]"),
        (only_v6.into(), "(b) of the service manager is for no [[listen]]"),
        (unix, "socket number 2 (b) of the service manager is no listening TCP socket"),
        (datagrams, "socket number 2 (b) of the service manager is no listening TCP socket"),
        (file, "socket number 2 (b) of the service manager is no listening TCP socket"),
        (deaf.into(), "socket number 2 (b) of the service manager is no listening TCP socket"),
    ] {
        let (_site, file) = site(&host, &listen(right_at, ""));
        let mut daemon = Daemon::with(&file, &[&right, &socket], "a:b");
        assert_eq!(daemon.ended().await, Some(78), "{}", said(&file));
        let said = said(&file);
        assert!(said.contains(words) && said.contains("\nhint: "), "{said}");
        assert!(!said.contains("listening on"), "{said}");
    }
}

#[tokio::test]
async fn the_wildcard_that_systemd_makes_of_a_bare_port_serves_the_wildcard_of_ipv4() {
    let host = SmartHost::start().await;
    let (socket, at) = bound("[::]:0");
    assert!(!SockRef::from(&socket).only_v6().unwrap());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], at.port()));
    let (_site, file) = site(&host, &listen(everywhere, ""));
    let daemon = Daemon::with(&file, &[&socket], "mailferry.socket");
    line(&file, ", sending as ").await;
    let heard = talk(DEVICE, SocketAddr::from(([127, 0, 0, 1], at.port())), MAIL).await;
    assert!(heard.contains("250 2.1.0 "), "{heard}");
    daemon.terminate().await;

    // Where IPv6 has its own listener, it is not known which of the two IPv4 would come to.
    let both =
        listen(everywhere, "") + &listen(format!("[::]:{}", at.port()).parse().unwrap(), "auth = \"any\"");
    let (_site, file) = site(&host, &both);
    let mut daemon = Daemon::with(&file, &[&socket], "mailferry.socket");
    assert_eq!(daemon.ended().await, Some(78), "{}", said(&file));
    assert!(said(&file).contains("hint: set BindIPv6Only=ipv6-only"), "{}", said(&file));
}

#[tokio::test]
async fn the_wildcards_of_both_families_listen_side_by_side_by_their_own_rules() {
    let host = SmartHost::start().await;
    let port = bound("127.0.0.1:0").1.port();
    let everywhere = |any: &str| format!("{any}:{port}").parse::<SocketAddr>().unwrap();
    let (_site, file) =
        site(&host, &(listen(everywhere("0.0.0.0"), "auth = \"any\"") + &listen(everywhere("[::]"), "")));
    let (daemon, addresses) = Daemon::started(&file).await;
    assert_eq!(addresses.len(), 2);
    assert!(talk(DEVICE, SocketAddr::from(([127, 0, 0, 1], port)), MAIL).await.contains("AUTH"));
    let mut device = TcpStream::connect(everywhere("[::1]")).await.unwrap();
    device.write_all(MAIL).await.unwrap();
    let mut heard = String::new();
    device.read_to_string(&mut heard).await.unwrap();
    assert!(!heard.contains("AUTH") && heard.contains("250 2.1.0 "), "{heard}");
    daemon.terminate().await;
}

#[tokio::test]
async fn whatever_a_stranger_does_is_one_line_a_minute_with_the_count_of_the_rest() {
    let host = SmartHost::start().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners =
        listen(any, "") + &listen(any, "auth = \"any\"") + &listen(any, "tls = \"starttls\"\nauth = \"any\"");
    let (_site, file) = site(&host, &listeners);
    let (daemon, addresses) = Daemon::started(&file).await;
    let [plain, login, starttls] = addresses[..] else { panic!("{addresses:?}") };
    let errors = "FOO\r\n".repeat(10);
    let doings: [(&str, SocketAddr, &[u8]); 8] = [
        ("relay_refused", plain, b"MAIL FROM:<a@b>\r\nQUIT\r\n"),
        ("tls_on_plain_port", plain, b"\x16\x03\x01\x02\x00"),
        ("other_protocol", plain, b"GET / HTTP/1.1\r\n"),
        ("too_many_errors", plain, errors.as_bytes()),
        ("auth_not_offered", plain, b"AUTH LOGIN\r\nQUIT\r\n"),
        ("login_failed", login, b"AUTH PLAIN AGEAYg==\r\nQUIT\r\n"),
        ("auth_in_the_clear", starttls, b"AUTH PLAIN AGEAYg==\r\nQUIT\r\n"),
        ("handshake_failed", starttls, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"),
    ];
    for (event, address, bytes) in doings {
        for _ in 0..3 {
            let heard = talk([127, 0, 0, 9], address, bytes).await;
            assert!(!heard.contains("421 4.7.0 more than"), "{event}: {heard}");
        }
    }
    let mut held = vec![];
    for _ in 0..40 {
        held.push(TcpSocket::new_v4().unwrap());
        held.last().unwrap().bind("127.0.0.9:0".parse().unwrap()).unwrap();
    }
    let mut open = vec![];
    for socket in held {
        open.push(socket.connect(plain).await.unwrap());
    }
    // The last of them was looked at when it is turned away.
    let mut answer = vec![];
    timeout(Duration::from_secs(10), open.last_mut().unwrap().read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with(b"421 4.7.0 more than 4"), "{}", answer.escape_ascii());
    drop(open);
    daemon.terminate().await;

    let said = said(&file);
    let written = |event: &str| said.matches(&format!("event=\"{event}\"")).count();
    let held_back = |event: &str| {
        let words = format!(" more lines of {event} about 127.0.0.9 were held back");
        let line = said.lines().find(|l| l.contains(&words))?;
        line.split(&words).next()?.split(' ').next_back()?.parse::<u32>().ok()
    };
    for (event, rest) in [
        ("relay_refused", 2),
        ("tls_on_plain_port", 2),
        ("other_protocol", 2),
        ("too_many_errors", 2),
        ("auth_not_offered", 2),
        ("login_failed", 2),
        ("auth_in_the_clear", 2),
        ("handshake_failed", 2),
        ("too_many_connections", 35),
    ] {
        assert_eq!((written(event), held_back(event)), (1, Some(rest)), "{event}\n{said}");
    }
    let foreign = said.lines().filter(|l| l.contains("rustls") || l.contains("WARN rustls")).count();
    assert_eq!(foreign, 0, "the TLS library says nothing beside us: {said}");
}
