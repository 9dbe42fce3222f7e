//! Signals at every moment of the real binary's life: only a stop ends it, and it ends it in order.

use crate::support::daemon::{BINARY, Daemon, serve, submit};
use crate::support::relay::{Device, Site, subjects, taken, until};
use crate::support::smart_host::{Act, At, SmartHost};
use futures_util::future::join_all;
use mailferry::mail::State;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Whatever is sent by mistake, and the one that means something.
const NO_STOP: [Signal; 7] =
    [Signal::HUP, Signal::USR1, Signal::USR2, Signal::ALARM, Signal::PIPE, Signal::IO, Signal::XFSZ];
const STOPS: [Signal; 2] = [Signal::TERM, Signal::INT];

/// A named pipe in place of a file: who reads it waits for us.
fn pipe(path: &Path) {
    let _ = std::fs::remove_file(path);
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Opens the pipe for writing, which is when somebody has come to read it.
async fn somebody_reads(path: &Path) -> File {
    let path: PathBuf = path.to_owned();
    tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(path)).await.unwrap().unwrap()
}

/// Says the pid's ready moment by the supervisor's socket.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn of(site: &Site, command: &mut Command) -> Self {
        let path = site.path("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        command.env("NOTIFY_SOCKET", path);
        Self(socket)
    }

    /// The next message that begins so.
    async fn hears(&self, words: &str) -> String {
        until(words, async || {
            let mut space = [0; 512];
            let n = self.0.recv(&mut space).ok()?;
            Some(String::from_utf8_lossy(&space[..n]).into_owned()).filter(|said| said.starts_with(words))
        })
        .await
    }
}

#[tokio::test]
async fn no_signal_at_the_moment_of_readiness_ends_it_and_sighup_reloads() {
    let host = SmartHost::start().await;
    for signal in NO_STOP {
        let site = Site::before(&host);
        let mut command = serve(&site.write());
        let supervisor = Supervisor::of(&site, &mut command);
        let mut daemon = Daemon::spawn(command);
        supervisor.hears("READY=1").await;
        daemon.signal(signal);
        if signal == Signal::HUP {
            let said = supervisor.hears("RELOADING=1").await;
            assert!(said.contains("\nMONOTONIC_USEC="), "as Type=notify-reload wants it: {said}");
            supervisor.hears("READY=1").await;
            daemon.line("configuration reloaded").await;
        }
        submit(daemon.listening().await, "scan").await;
        assert_eq!(daemon.child.try_wait().unwrap(), None, "{signal:?}");
        daemon.terminate().await;
    }
}

#[tokio::test]
async fn a_signal_while_the_configuration_is_read_is_kept_and_a_stop_is_heard_at_once() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let config = site.write();
    let text = std::fs::read_to_string(&config).unwrap();
    pipe(&config);

    for stop in STOPS {
        let mut daemon = Daemon::spawn(serve(&config));
        let reading = somebody_reads(&config).await;
        daemon.signal(stop);
        assert_eq!(daemon.ended().await, Some(0), "{stop:?}: {}", daemon.said());
        drop(reading);
        assert!(!site.path("queue").exists(), "nothing was opened");
    }

    let daemon = Daemon::spawn(serve(&config));
    let mut reading = somebody_reads(&config).await;
    NO_STOP.iter().for_each(|s| daemon.signal(*s));
    std::fs::remove_file(&config).unwrap();
    site.write();
    reading.write_all(text.as_bytes()).unwrap();
    drop(reading);
    // The hangup has not been forgotten.
    daemon.line("configuration reloaded").await;
    daemon.terminate().await;
}

#[tokio::test]
async fn a_signal_while_the_queue_is_opened_is_kept_and_a_stop_is_heard_at_once() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    Daemon::start(&site).await.0.terminate().await;
    for stop in STOPS {
        let database = rusqlite::Connection::open(site.path("queue/queue.db")).unwrap();
        database.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
        let mut daemon = Daemon::spawn(serve(&site.write()));
        until("the queue's lock", async || {
            File::open(site.path("queue/lock")).unwrap().try_lock().is_err().then_some(())
        })
        .await;
        NO_STOP.iter().for_each(|s| daemon.signal(*s));
        daemon.signal(stop);
        assert_eq!(daemon.ended().await, Some(0), "{stop:?}: {}", daemon.said());
        assert!(!daemon.said().contains("listening"), "{}", daemon.said());
    }
    let (daemon, address) = Daemon::start(&site).await;
    submit(address, "scan").await;
    taken(&host, 1).await;
    daemon.terminate().await;
}

#[tokio::test]
async fn a_stop_during_a_reload_is_heard_at_once() {
    let host = SmartHost::start().await;
    for stop in STOPS {
        let site = Site::before(&host);
        let (mut daemon, address) = Daemon::start(&site).await;
        submit(address, "scan").await;
        let config = site.path("mailferry.toml");
        pipe(&config);
        daemon.signal(Signal::HUP);
        let _reading = somebody_reads(&config).await;
        submit(address, "while it reads").await;
        daemon.signal(stop);
        assert_eq!(daemon.ended().await, Some(0), "{stop:?}: {}", daemon.said());
        daemon.line("stopped").await;
        assert!(!daemon.said().contains("reloaded"), "{}", daemon.said());
    }
}

#[tokio::test]
async fn nothing_sent_while_it_stops_breaks_off_the_stop_or_takes_it_back() {
    let host = SmartHost::start().await;
    host.once(At::FinalDot, Act::Wait(Duration::from_millis(500)));
    let site = Site::before(&host);
    let (mut daemon, address) = Daemon::start(&site).await;
    let mut idle = Device::connect(address).await;
    submit(address, "in flight").await;
    until("the final dot", async || {
        let recorded = host.recorded();
        recorded.bytes.first().filter(|b| b.ends_with(b"\r\n.\r\n")).map(|_| ())
    })
    .await;
    daemon.signal(Signal::TERM);
    daemon.line("stopping: no new connections").await;
    for signal in NO_STOP.into_iter().chain(STOPS) {
        daemon.signal(signal);
    }
    until("421", async || idle.say("NOOP").await.starts_with("421 ").then_some(())).await;
    assert_eq!(daemon.ended().await, Some(0), "{}", daemon.said());
    daemon.line("stopped").await;
    assert!(!daemon.said().contains("reloaded"), "{}", daemon.said());

    let (daemon, _) = Daemon::start(&site).await;
    site.admin().until(1, State::Delivered).await;
    assert_eq!(subjects(&host), ["in flight"]);
    daemon.terminate().await;
}

#[tokio::test]
async fn the_demo_outlives_every_signal_but_a_stop_and_leaves_nothing_behind() {
    // It tells its story in its own time, so both at once.
    join_all(STOPS.map(|stop| async move {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new(BINARY);
        command.env_clear().env("TMPDIR", scratch.path()).args(["demo", "--once"]);
        let mut demo = Daemon::spawn(command);
        demo.line("Three devices send mail").await;
        NO_STOP.iter().for_each(|s| demo.signal(*s));
        demo.line("falls ill").await;
        assert_eq!(demo.child.try_wait().unwrap(), None);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
        demo.signal(stop);
        assert_eq!(demo.ended().await, Some(1), "the story was not told to its end: {}", demo.said());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }))
    .await;
}
