//! What a device and an admin get: the whole relay on loopback, from the connection to the smart host's 250.
//!
//!     cargo bench --bench end_to_end -- --seconds 5 [--json]
//!
//! One line for each stage. Relay, devices and smart host share this process and its processors, so the figures are
//! for comparing two builds on one machine, beside the disk's own fdatasync rate of the same run. `TMPDIR` says
//! which disk. Must not know: how the relay does it.

#![allow(clippy::disallowed_methods, reason = "it measures")]
#![allow(clippy::print_stdout, reason = "it is a program, and this is what it is for")]

#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "what the tests use is good enough here"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use mailferry::mail::State;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::relay::{MAILBOX, Running, Site};
use support::smart_host::SmartHost;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

const USAGE: &str = "usage: cargo bench --bench end_to_end -- [--seconds N] [--json]";
const SMALL_BYTES: usize = 4 * 1024;
const SCAN_BYTES: usize = 5 * 1024 * 1024;
/// Queued before the smart host may have them, for each second of a stage.
const BACKLOG_PER_SECOND: u32 = 500;
/// What takes longer is stuck.
const MOST: Duration = Duration::from_secs(3600);

struct Options {
    stage: Duration,
    json: bool,
}

impl Options {
    /// None: this is no benchmark run (`cargo test --benches` passes no `--bench`, criterion's check `--test`).
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut seconds, mut json, mut run) = (3, false, None);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => run = run.or(Some(true)),
                "--test" => run = Some(false),
                "--json" => json = true,
                "--seconds" => {
                    let value = args.next().and_then(|n| n.parse().ok()).filter(|n| (1..=600).contains(n));
                    seconds = value.ok_or("--seconds takes 1 to 600")?;
                }
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok((run == Some(true)).then_some(Self { stage: Duration::from_secs(seconds), json }))
    }
}

/// One stage: its name, and figures with their units.
struct Line(String, Vec<(&'static str, f64)>);

impl Line {
    fn print(&self, json: bool) {
        let Self(stage, figures) = self;
        if json {
            let mut object = serde_json::Map::new();
            object.insert("stage".into(), stage.as_str().into());
            object.extend(figures.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
            println!("{}", serde_json::Value::Object(object));
        } else {
            let text: Vec<String> =
                figures.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
            println!("{stage:40} {}", text.join("  "));
        }
    }
}

/// In the order of the sort: half, and 99 of 100, in milliseconds.
fn latencies(mut all: Vec<Duration>) -> [(&'static str, f64); 2] {
    all.sort_unstable();
    let at = |percent: usize| all.get(all.len() * percent / 100).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    [("p50_ms", at(50)), ("p99_ms", at(99))]
}

/// The disk alone: 4 KiB appended and synced, one after the other, on the disk the queue will be on.
fn disk(time: Duration) -> std::io::Result<Line> {
    let mut file = tempfile::NamedTempFile::new()?;
    let block = [b'x'; SMALL_BYTES];
    let mut syncs = vec![];
    let begun = Instant::now();
    while begun.elapsed() < time {
        let before = Instant::now();
        file.write_all(&block)?;
        file.as_file().sync_data()?;
        syncs.push(before.elapsed());
    }
    let rate = per_second(syncs.len(), begun.elapsed());
    Ok(Line("disk: fdatasync of 4 KiB".into(), [vec![("per_s", rate)], latencies(syncs).into()].concat()))
}

fn per_second(count: usize, time: Duration) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from) / time.as_secs_f64()
}

fn runtime() -> Runtime {
    // As many workers as `serve` takes.
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(4));
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().expect("threads can be had")
}

/// A relay whose pace is its own, with a smart host to deliver to, held back until `deliver`.
struct Bench {
    relays: Runtime,
    devices: Runtime,
    running: Running,
    host: SmartHost,
    _site: Site,
}

impl Bench {
    fn start() -> Self {
        let (relays, devices) = (runtime(), runtime());
        let host = devices.block_on(SmartHost::start());
        let mut site = Site::with(format!(
            "[[account]]\nmailbox = \"{MAILBOX}\"\npassword = {{ file = \"password\" }}\nsmarthost = \"{}\"\n\
             ca_file = \"{}\"\nmessages_per_minute = 1000000\nrecipients_per_day = 1000000\nmax_connections = 3\n",
            host.address(),
            SmartHost::ca_file().display(),
        ));
        site.more = "[receive]\nmax_connections_per_client = 100\n".into();
        let running = relays.block_on(site.start());
        let bench = Self { relays, devices, running, host, _site: site };
        bench.set_paused(true);
        bench
    }

    fn set_paused(&self, paused: bool) {
        let done = self.devices.block_on(self.running.admin.0.set_paused(MAILBOX, paused));
        done.expect("the relay answers its admin");
    }

    /// Devices at work at the same time until the time is over or enough was accepted; each message's wait for its
    /// 250, and how long all of it took.
    fn load(
        &self,
        connections: usize,
        bytes: usize,
        time: Duration,
        enough: usize,
    ) -> (Vec<Duration>, Duration) {
        let (address, each) = (self.running.address, enough.div_ceil(connections));
        self.devices.block_on(async {
            let mut ready = vec![];
            for _ in 0..connections {
                ready.push(Device::connect(address).await);
            }
            let begun = Instant::now();
            let work = ready.into_iter().map(|device| tokio::spawn(device.work(bytes, begun + time, each)));
            let mut waits = vec![];
            for device in work.collect::<Vec<_>>() {
                waits.extend(device.await.expect("every message is accepted"));
            }
            (waits, begun.elapsed())
        })
    }

    fn accept(&self, connections: usize, time: Duration) -> Line {
        let (waits, took) = self.load(connections, SMALL_BYTES, time, usize::MAX);
        let rate = ("messages_per_s", per_second(waits.len(), took));
        Line(
            format!("accept 4 KiB, connections: {connections}"),
            [vec![rate], latencies(waits).into()].concat(),
        )
    }

    fn scans(&self, connections: usize, time: Duration) -> Line {
        let (waits, took) = self.load(connections, SCAN_BYTES, time, usize::MAX);
        let rate = ("mb_per_s", per_second(waits.len(), took) * SCAN_BYTES as f64 / 1e6);
        Line(
            format!("accept 5 MiB, connections: {connections}"),
            [vec![rate], latencies(waits).into()].concat(),
        )
    }

    fn deliver(&self, time: Duration) -> Line {
        let backlog = usize::try_from(time.as_secs()).unwrap_or(1) * BACKLOG_PER_SECOND as usize;
        let (waits, _) = self.load(50, SMALL_BYTES, MOST, backlog);
        let begun = Instant::now();
        self.set_paused(false);
        while self.waiting() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let rate = per_second(waits.len(), begun.elapsed());
        let recorded = self.host.recorded();
        assert_eq!(recorded.messages.len(), waits.len(), "each message left once");
        let logins = u32::try_from(recorded.logins).map_or(f64::NAN, f64::from);
        Line("relay 4 KiB to the smart host".into(), vec![("messages_per_s", rate), ("logins", logins)])
    }

    fn waiting(&self) -> u64 {
        let totals =
            self.relays.block_on(self.running.relay.queue().ledger.totals()).expect("the queue is readable");
        totals.iter().filter(|t| matches!(t.state, State::Queued | State::Held)).map(|t| t.messages).sum()
    }

    fn stop(self) {
        self.relays.block_on(self.running.stop());
    }
}

/// A connection that repeats one transaction.
struct Device {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Device {
    async fn connect(relay: SocketAddr) -> Self {
        let stream = TcpStream::connect(relay).await.expect("the relay listens");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        let mut device = Self { stream, heard: vec![] };
        device.hear("220").await;
        device.say(b"EHLO copier\r\n", "250").await;
        device
    }

    /// How long each 250 took, from the last byte handed to the system.
    async fn work(mut self, bytes: usize, until: Instant, enough: usize) -> Vec<Duration> {
        let message = message(bytes);
        let mut waits = vec![];
        while Instant::now() < until && waits.len() < enough {
            self.say(b"MAIL FROM:<scanner@contoso.com>\r\n", "250").await;
            self.say(b"RCPT TO:<maria@contoso.com>\r\n", "250").await;
            self.say(b"DATA\r\n", "354").await;
            self.stream.write_all(&message).await.expect("the connection holds");
            let before = Instant::now();
            self.hear("250").await;
            waits.push(before.elapsed());
        }
        waits
    }

    async fn say(&mut self, line: &[u8], expected: &str) {
        self.stream.write_all(line).await.expect("the connection holds");
        self.hear(expected).await;
    }

    /// One whole reply. Nothing is pipelined, so what is there ends with its last line.
    async fn hear(&mut self, expected: &str) {
        self.heard.clear();
        while !is_whole(&self.heard) {
            let read = self.stream.read_buf(&mut self.heard).await.expect("the connection holds");
            assert!(read > 0, "the relay hung up");
        }
        assert!(self.heard.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&self.heard));
    }
}

fn is_whole(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\r\n") else { return false };
    let last = lines.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    last.get(3) != Some(&b'-')
}

/// A scan of about this size, with the end of its data.
fn message(bytes: usize) -> Vec<u8> {
    let mut out =
        b"From: scanner@contoso.com\r\nTo: maria@contoso.com\r\nSubject: Scan\r\nMIME-Version: 1.0\r\n\
        Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            .to_vec();
    let line = b"JVBERi0xLjQKJcfsj6IKNSAwIG9iago8PC9MZW5ndGggNiAwIFIvRmlsdGVyIC9GbGF0ZURlY29k\r\n";
    while out.len() < bytes {
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// What this process has in memory, from /proc; not a number where there is none.
fn rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |k| k * 1024.0 / 1e6)
}

fn main() {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            std::process::exit(64);
        }
    };
    let (time, print) = (options.stage, |line: Line| line.print(options.json));
    print(disk(time).expect("the disk takes a file"));
    let bench = Bench::start();
    print(Line("memory idle, smart host and all".into(), vec![("rss_mb", rss_mb())]));
    for connections in [1, 10, 50] {
        print(bench.accept(connections, time));
    }
    bench.stop();
    // A fresh queue each: what an earlier stage left behind is no part of the next.
    let bench = Bench::start();
    for connections in [1, 8] {
        print(bench.scans(connections, time));
    }
    bench.stop();
    let bench = Bench::start();
    print(bench.deliver(time));
    bench.stop();
}
