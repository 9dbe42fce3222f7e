//! The steps of this host: configuration, files, queue directory, the relay, its listeners, and messages to look for.
//!
//! Invariant: what is opened is closed again; the one file written is removed at once. Must not know: accounts.

use super::report::{CONFIGURATION, Finding, Patient, Report, Step};
use crate::config::{About, Place, Problem, Settings};
use crate::control::client::{Client, ClientError};
use crate::control::report::count;
use crate::files;
use crate::mail::Escaped;
use crate::policy::advice::Advice;
use crate::queue;
use crate::receive::{Listen, Tls};
use bytesize::ByteSize;
use std::fs::Metadata;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Our own listener answers at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// Beyond this a message costs a device a wait it notices; a disk that takes longer is overloaded or dying.
const SLOW_SYNC: Duration = Duration::from_millis(200);
const SYNCS: usize = 5;
/// What our banner ends with.
const OUR_BANNER: &str = "ESMTP mailferry";

fn finding(advice: Advice) -> Finding {
    Patient::default().finding(advice)
}

/// A right configuration, with what is hardly meant like that.
pub(super) fn configuration(settings: &Settings, report: &mut Report) {
    let n = |n: usize, what: &str| count(u64::try_from(n).unwrap_or(u64::MAX), what);
    let said = format!(
        "{}, {}, {}",
        n(settings.listen.len(), "listener"),
        n(settings.receive.clients.all().count(), "client"),
        n(settings.accounts.len(), "account")
    );
    report.push(Step::ok(CONFIGURATION, said));
    for problem in settings.warnings.iter().filter(|p| !is_about_a_file(p)) {
        report.push(told(Step::warning, problem, Advice::DoubtfulConfiguration));
    }
}

/// Each problem of a wrong one.
pub(super) fn misconfiguration(problems: &[Problem], report: &mut Report) {
    for problem in problems {
        report.push(told(Step::failed, problem, Advice::Configuration));
    }
}

fn told(step: impl Fn(String, String, Finding) -> Step, problem: &Problem, advice: Advice) -> Step {
    let name = if advice == Advice::FilesOpen { "files" } else { CONFIGURATION };
    let place = match &problem.place {
        Place::File(path) => path.display().to_string(),
        other => other.to_string(),
    };
    let said = [place.as_str(), problem.key.as_str(), problem.what.as_str()];
    let said = said.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(": ");
    let step = step(name.to_owned(), said, finding(advice));
    match &problem.hint {
        Some(hint) => step.with_remedy(vec![hint.clone()]),
        None => step,
    }
}

/// The configuration has looked at the modes of what it read.
fn is_about_a_file(problem: &Problem) -> bool {
    problem.about == About::OpenFile
}

/// Secrets that others can read.
pub(super) fn files(settings: &Settings, report: &mut Report) {
    let open: Vec<&Problem> = settings.warnings.iter().filter(|p| is_about_a_file(p)).collect();
    if open.is_empty() {
        report.push(Step::ok("files", "secrets and certificates can be read, by nobody else"));
    }
    for problem in open {
        report.push(told(Step::warning, problem, Advice::FilesOpen));
    }
}

/// The queue's directory: whose, how much room, how fast.
pub(super) async fn queue(queue: &queue::Settings, report: &mut Report) {
    let directory = queue.directory.as_path();
    let name = "queue directory";
    let shown = shown(directory);
    let bad = |what: String| Step::failed(name, what, finding(Advice::QueueDirectory));
    let metadata = match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return report.push(bad(format!("{shown} is not a directory"))),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let said = format!("{shown} is not there yet; the relay makes it at its first start");
            return report.push(Step::warning(name, said, finding(Advice::QueueDirectory)).with_remedy(
                vec!["under systemd, StateDirectory= makes it: systemctl start mailferry".to_owned()],
            ));
        }
        Err(e) => return report.push(bad(format!("{shown}: {}", words(&e)))),
    };
    report.push(mode(directory, &metadata));
    report.push(space(directory, queue.min_free_space_bytes));
    let path = directory.to_owned();
    let synced = tokio::task::spawn_blocking(move || time_syncs(&path)).await.map_err(io::Error::other);
    report.push(match synced.and_then(|timed| timed) {
        Err(e) => bad(format!("cannot write in {shown}: {}", words(&e))),
        Ok((median, worst)) => {
            let said = format!("a small file takes {} ms, at worst {} ms", ms(median), ms(worst));
            if median > SLOW_SYNC {
                Step::warning("fsync", said, finding(Advice::QueueDirectory)).with_remedy(vec![
                    "every message waits for this: is the disk overloaded or failing? journalctl -k, smartctl -a"
                        .to_owned(),
                ])
            } else {
                Step::ok("fsync", said)
            }
        }
    });
}

fn mode(directory: &Path, metadata: &Metadata) -> Step {
    let (name, shown) = ("queue directory", shown(directory));
    let (mode, owner) = (metadata.permissions().mode() & 0o7777, metadata.uid());
    let said = format!("{shown}, mode {mode:o}, of user {owner}");
    if mode & 0o077 != 0 {
        let step = Step::warning(name, format!("{said}: open to others"), finding(Advice::FilesOpen));
        return step.with_remedy(vec![format!("chmod 700 {shown}")]);
    }
    let me = rustix::process::geteuid();
    if !me.is_root() && me.as_raw() != owner {
        let said = format!("{said}: not this user's");
        return Step::failed(name, said, finding(Advice::QueueDirectory)).with_remedy(vec![format!(
            "run this as root, or as the user of the service; or: chown -R mailferry: {shown}"
        )]);
    }
    Step::ok(name, said)
}

fn space(directory: &Path, min_free: u64) -> Step {
    let seen = match rustix::fs::statvfs(directory) {
        Ok(seen) => seen,
        Err(e) => return Step::skipped("space", words(&e.into())),
    };
    let free = seen.f_bavail.saturating_mul(seen.f_frsize);
    // btrfs has no fixed number of inodes and says 0.
    let inodes = if seen.f_files == 0 { "no limit of".to_owned() } else { seen.f_favail.to_string() };
    let least = ByteSize(min_free);
    let said = format!("{} free, {least} are kept free (min_free_space); {inodes} inodes", ByteSize(free));
    if free <= min_free || (seen.f_files > 0 && seen.f_favail < 64) {
        Step::failed("space", said, finding(Advice::QueueDirectory))
    } else if free / 2 <= min_free || (seen.f_files > 0 && seen.f_favail < 10_000) {
        Step::warning("space", said, finding(Advice::QueueDirectory))
    } else {
        Step::ok("space", said)
    }
}

/// Median and worst time of a small write with its sync, as a commit does.
fn time_syncs(directory: &Path) -> io::Result<(Duration, Duration)> {
    let path = directory.join(format!("doctor-{}", std::process::id()));
    let mut file = files::create(&path)?;
    let mut timed = || -> io::Result<Duration> {
        let started = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(started.elapsed())
    };
    let times: io::Result<Vec<Duration>> = (0..SYNCS).map(|_| timed()).collect();
    std::fs::remove_file(&path)?;
    let mut times = times?;
    times.sort();
    Ok((times[SYNCS / 2], times[SYNCS - 1]))
}

/// Before all else: a relay whose mail nobody gets.
pub(super) async fn sandbox(socket: &Path, report: &mut Report) {
    if Client::new(socket).status().await.is_ok_and(|status| status.is_sandbox) {
        report.begin_sandbox();
    }
}

/// Whether the relay runs; none when that cannot be seen.
pub(super) async fn relay(socket: &Path, report: &mut Report) -> Option<bool> {
    match Client::new(socket).status().await {
        Ok(status) => {
            report
                .push(Step::ok("relay", format!("running, version {}: {}", status.version, status.sentence)));
            Some(true)
        }
        Err(ClientError::NotRunning) => {
            let said = format!("not running: nobody listens at {}", shown(socket));
            report.push(Step::warning("relay", said, finding(Advice::NotRunning)));
            Some(false)
        }
        Err(e) => {
            let why = Escaped(e.to_string().as_bytes()).to_string();
            report.push(Step::skipped("relay", format!("{why}; root and the group mailferry may ask it")));
            None
        }
    }
}

/// Where a device's mail would come in.
pub(super) async fn listener(listen: &Listen, running: Option<bool>, report: &mut Report) {
    let name = format!("listener {}", listen.address);
    let taken = |said: String| Step::failed(name.clone(), said, finding(Advice::ListenerTaken));
    let (running, unknown) = (running.unwrap_or(true), running.is_none());
    report.push(match timeout(PATIENCE, TcpStream::connect(reachable(listen.address))).await {
        Ok(Ok(stream)) if listen.tls == Tls::Implicit => {
            drop(stream);
            if running {
                Step::ok(name, "somebody listens; it speaks TLS at once, so its banner was not read")
            } else {
                taken("another program listens there".to_owned())
            }
        }
        Ok(Ok(stream)) => match banner(stream).await {
            Some(said) if said.contains(OUR_BANNER) && running => Step::ok(name, format!("our own: {said}")),
            Some(said) if said.contains(OUR_BANNER) => {
                taken(format!("another mailferry answers there: {said}"))
            }
            Some(said) => taken(format!("another program answers there: {said}")),
            None => taken("another program listens there and says nothing".to_owned()),
        },
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused && unknown => {
            Step::skipped(name, "nobody listens there; whether the relay runs could not be seen")
        }
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused && running => {
            taken("the relay runs, and does not listen there".to_owned())
        }
        Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => {
            match std::net::TcpListener::bind(listen.address) {
                Ok(_) => Step::ok(name, "free"),
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    Step::ok(name, "free; the service's unit may take it, this user may not")
                }
                Err(e) => taken(words(&e)),
            }
        }
        Ok(Err(e)) => taken(words(&e)),
        Err(_) => taken("nobody answers".to_owned()),
    });
}

/// Where a listener on every address is reached from here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn banner(mut stream: TcpStream) -> Option<String> {
    let mut said = [0; 256];
    let n = timeout(PATIENCE, stream.read(&mut said)).await.ok()?.ok().filter(|n| *n > 0)?;
    // Whether it hears that matters to nobody.
    let _ = stream.write_all(b"QUIT\r\n").await;
    let line = said[..n].split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    Some(Escaped(line).to_string())
}

fn shown(path: &Path) -> String {
    Escaped(path.display().to_string().as_bytes()).to_string()
}

fn words(e: &io::Error) -> String {
    e.to_string().to_lowercase()
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
