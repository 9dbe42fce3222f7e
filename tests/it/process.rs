//! The real binary as a process: signals, exit codes, the supervisor's protocols, the commands beside it, and what it
//! says to the outside.

use crate::support::daemon::{BINARY, Daemon, run, serve, submit, told};
use crate::support::relay::{Device, PASSWORD, PRX4, Site, mail, subjects, taken, until};
use crate::support::smart_host::{Act, At, SmartHost};
use mailferry::control::report::AccountState;
use mailferry::mail::State;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const REFUSED: &str = "535 5.7.3 Authentication unsuccessful";

#[tokio::test]
async fn a_second_relay_on_the_same_queue_is_told_to_come_later() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let (first, address) = Daemon::start(&site).await;
    let text = std::fs::read_to_string(site.path("mailferry.toml")).unwrap();
    let other = site.path("other.toml");
    std::fs::write(&other, text.replace("control.sock", "other.sock")).unwrap();
    for config in [site.path("mailferry.toml"), other] {
        let mut second = Daemon::spawn(serve(&config));
        assert_eq!(second.ended().await, Some(75));
        second.line("is in use by another process").await;
        second.line("hint: stop the running mailferry first").await;
        assert!(!second.said().contains("listening"), "{}", second.said());
    }
    submit(address, "scan").await;
    taken(&host, 1).await;
    first.terminate().await;
}

#[tokio::test]
async fn a_wrong_configuration_opens_nothing() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.more = "[retry.more]\nsoon = true\n".to_owned();
    let mut daemon = Daemon::spawn(serve(&site.write()));
    assert_eq!(daemon.ended().await, Some(78));
    daemon.line("retry.more").await;
    daemon.line("nothing was opened").await;
    assert!(!site.path("queue").exists() && !site.path("control.sock").exists());
    assert_eq!(host.recorded().connections, 0);
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_on_both_sides_and_nothing_arrives_twice() {
    let host = SmartHost::start().await;
    host.once(At::FinalDot, Act::Wait(Duration::from_millis(300)));
    let site = Site::before(&host);
    let (mut daemon, address) = Daemon::start(&site).await;
    let mut idle = Device::connect(address).await;
    let mut sending = Device::connect(address).await;
    for line in ["MAIL FROM:<copier@contoso.com>", "RCPT TO:<maria@contoso.com>", "DATA"] {
        sending.say(line).await;
    }
    sending.write(&mail("half sent")).await.unwrap();
    submit(address, "in flight").await;
    until("the final dot", async || {
        let recorded = host.recorded();
        recorded.bytes.first().filter(|b| b.ends_with(b"\r\n.\r\n")).map(|_| ())
    })
    .await;

    daemon.signal(Signal::TERM);
    daemon.line("stopping: no new connections").await;
    assert!(sending.say(".").await.starts_with("250 "), "a message on its way is taken");
    assert!(idle.say("NOOP").await.starts_with("421 "));
    assert_eq!(daemon.ended().await, Some(0));
    daemon.line("stopped").await;
    assert_eq!(subjects(&host), ["in flight"]);

    let (daemon, _) = Daemon::start(&site).await;
    let delivered = site.admin().until(2, State::Delivered).await;
    assert!(delivered.iter().all(|m| m.attempts == 0 && !m.outcome_unknown));
    assert_eq!(subjects(&host), ["in flight", "half sent"]);
    daemon.terminate().await;
}

#[tokio::test]
async fn sigkill_loses_nothing_that_was_acknowledged() {
    let host = SmartHost::start().await;
    host.always(At::Auth, Act::say(PRX4));
    let site = Site::before(&host);
    let (mut daemon, address) = Daemon::start(&site).await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let devices: Vec<_> = (0..4)
        .map(|device| {
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                let mut connection = Device::connect(address).await;
                for n in 0.. {
                    let subject = format!("scan {device}-{n}");
                    let sent =
                        connection.try_send("a@contoso.com", &["maria@contoso.com"], &mail(&subject)).await;
                    let Ok(answer) = sent else { return };
                    assert!(answer.starts_with("250 "), "{answer}");
                    acknowledged.lock().unwrap().insert(subject);
                }
            })
        })
        .collect();
    until("some messages", async || (acknowledged.lock().unwrap().len() >= 60).then_some(())).await;
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.ended().await, None);
    for device in devices {
        device.await.unwrap();
    }

    host.behave();
    let (daemon, _) = Daemon::start(&site).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    until("what was acknowledged", async || {
        acknowledged.is_subset(&subjects(&host).into_iter().collect()).then_some(())
    })
    .await;
    site.admin().until(0, State::Queued).await;
    let all = subjects(&host);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "nothing twice");
    // At most the last message of each device was stored and its 250 not heard.
    assert!(all.len() <= acknowledged.len() + 4, "{} of {}", all.len(), acknowledged.len());
    daemon.terminate().await;
}

#[tokio::test]
async fn sighup_with_a_bad_file_changes_nothing_and_says_so_and_a_good_one_counts_at_once() {
    let host = SmartHost::start().await;
    host.always(At::Auth, Act::say(REFUSED));
    let mut site = Site::before(&host);
    let (daemon, address) = Daemon::start(&site).await;
    submit(address, "one").await;
    site.admin().until_account_is(AccountState::Held).await;
    host.behave();

    let good = std::mem::replace(&mut site.clients, "[[client]]\nfrm = [\"127.0.0.1\"]\n".to_owned());
    site.write();
    daemon.signal(Signal::HUP);
    let line = daemon.line("configuration not reloaded, the old one goes on: ").await;
    assert!(line.contains("mailferry.toml:"), "{line}");
    daemon.line("did you mean `from`?").await;
    submit(address, "two").await;
    assert_eq!(host.recorded().login_attempts, 1, "a refused reload is no reason to log in");

    site.clients = good;
    site.set_password("the right one");
    site.write();
    daemon.signal(Signal::HUP);
    daemon.line("configuration reloaded").await;
    taken(&host, 2).await;
    assert!(host.recorded().text(2).contains("dGhlIHJpZ2h0IG9uZQ=="));
    daemon.terminate().await;
}

#[tokio::test]
async fn the_supervisor_hears_ready_reloading_stopping_and_a_steady_watchdog() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = serve(&site.write());
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "400000");
    let mut daemon = Daemon::spawn(command);
    let mut heard: Vec<String> = vec![];
    let mut hear = async |words: &str| {
        until(words, async || {
            let mut space = [0; 512];
            while let Ok(n) = socket.recv(&mut space) {
                heard.extend(String::from_utf8_lossy(&space[..n]).lines().map(str::to_owned));
            }
            let found = heard.iter().position(|h| h == words)?;
            heard.drain(..=found);
            Some(())
        })
        .await;
    };
    hear("READY=1").await;
    submit(daemon.listening().await, "scan").await;
    hear("WATCHDOG=1").await;
    hear("WATCHDOG=1").await;
    daemon.signal(Signal::HUP);
    hear("RELOADING=1").await;
    hear("READY=1").await;
    hear("WATCHDOG=1").await;
    daemon.signal(Signal::TERM);
    hear("STOPPING=1").await;
    // A supervisor reads on: a full socket would hold up whoever writes to it.
    let mut space = [0; 512];
    let ended = until("the process's end", async || {
        while socket.recv(&mut space).is_ok() {}
        daemon.child.try_wait().unwrap()
    });
    assert_eq!(ended.await.code(), Some(0));
}

/// As systemd does it: the socket as descriptor 3, and the process's own id in LISTEN_PID.
fn socket_activated(site: &Site, socket: &TcpListener) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&0 </dev/null; exec \"$0\" serve --config \"$1\"";
    command.env_clear().arg("-c").arg(script).arg(BINARY).arg(site.write());
    command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    command
}

#[tokio::test]
async fn a_socket_of_the_supervisor_refuses_nobody_over_a_restart() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    site.listen = socket.local_addr().unwrap();
    let daemon = Daemon::spawn(socket_activated(&site, &socket));
    assert_eq!(daemon.listening().await, site.listen);
    submit(site.listen, "before").await;
    taken(&host, 1).await;
    daemon.terminate().await;

    let address = site.listen;
    let meanwhile = tokio::spawn(async move { submit(address, "meanwhile").await });
    let daemon = Daemon::spawn(socket_activated(&site, &socket));
    meanwhile.await.unwrap();
    taken(&host, 2).await;
    assert_eq!(subjects(&host), ["before", "meanwhile"]);
    daemon.terminate().await;
}

#[tokio::test]
async fn the_admins_commands_do_the_same_beside_the_daemon_and_without_it() {
    let host = SmartHost::start().await;
    host.always(At::Auth, Act::say(REFUSED));
    let site = Site::before(&host);
    for is_running in [true, false] {
        let (daemon, address) = Daemon::start(&site).await;
        for n in 1..=3 {
            submit(address, &format!("scan {n}")).await;
        }
        site.admin().until_account_is(AccountState::Held).await;
        let daemon = if is_running {
            Some(daemon)
        } else {
            daemon.terminate().await;
            None
        };

        let list = async |state: &str| -> Vec<String> {
            let json = told(&site, &["queue", "list", "--state", state, "--json"]).await;
            let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
            rows.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
        };
        let ids = list("queued").await;
        let [first, second, third] = ids.as_slice() else { panic!("{ids:?}") };
        assert!(told(&site, &["queue", "show", first]).await.starts_with(&format!("{first}: queued\n")));
        assert_eq!(told(&site, &["queue", "hold", first, second]).await, "2 messages: held\n");
        assert_eq!(list("held").await, [first.clone(), second.clone()]);
        assert_eq!(told(&site, &["queue", "release", second]).await, "1 message: released\n");
        assert_eq!(list("queued").await, [second.clone(), third.clone()]);
        let when = if is_running { "to be tried now" } else { "to be tried when mailferry runs" };
        assert_eq!(told(&site, &["queue", "retry", third]).await, format!("1 message: {when}\n"));
        let directory = site.path(if is_running { "beside" } else { "without" });
        let to = directory.display().to_string();
        assert_eq!(
            told(&site, &["queue", "export", "--state", "held", "--to", &to]).await,
            format!("1 message written to {to}\n")
        );
        let eml = std::fs::read_to_string(directory.join(format!("{first}.eml"))).unwrap();
        assert!(eml.contains("Subject: scan 1\r\n") && eml.ends_with("\r\n\r\nThe scan.\r\n"), "{eml}");
        assert!(directory.join(format!("{first}.json")).exists());
        until("nothing in flight", async || {
            run(&site, &["queue", "remove", "--all"]).await.status.success().then_some(())
        })
        .await;
        until("an empty queue", async || {
            told(&site, &["queue", "remove", "--all"]).await;
            (list("queued").await.is_empty() && list("held").await.is_empty()).then_some(())
        })
        .await;
        assert_eq!(run(&site, &["queue", "show", first]).await.status.code(), Some(66));

        let status = run(&site, &["status"]).await;
        let text = String::from_utf8(status.stdout).unwrap();
        if let Some(daemon) = daemon {
            assert_eq!(status.status.code(), Some(0));
            assert!(
                text.starts_with("needs a human: scanner@contoso.com cannot send: AUTH: 535 5.7.3"),
                "{text}"
            );
            daemon.terminate().await;
        } else {
            assert_eq!(status.status.code(), Some(69));
            assert!(text.starts_with("mailferry is not running: 0 messages waiting"), "{text}");
        }
    }
    assert!(host.recorded().messages.is_empty());
}

#[tokio::test]
async fn no_secret_is_ever_said() {
    let host = SmartHost::start().await;
    let answers = ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", REFUSED];
    host.script(At::Auth, answers.map(Act::say));
    let mut site = Site::before(&host);
    site.listen_more = "auth = \"any\"\n".to_owned();
    let mut command = serve(&site.write());
    command.env("MAILFERRY_LOG", "trace");
    let daemon = Daemon::spawn(command);
    let address = daemon.listening().await;
    let mut device = Device::connect(address).await;
    // user "copier", password "panel-secret-7"
    let answer = device.say("AUTH PLAIN AGNvcGllcgBwYW5lbC1zZWNyZXQtNw==").await;
    assert!(answer.starts_with("235 "), "{answer}");
    device.send("copier@contoso.com", &["maria@contoso.com"], &mail("scan")).await;
    device.quit().await;
    site.admin().until_account_is(AccountState::Held).await;
    let id = site.admin().list(State::Queued).await[0].id.to_string();
    let mut said = String::new();
    for arguments in [&["status"] as &[&str], &["status", "--json"], &["queue", "show", &id], &["check"]] {
        said += &told(&site, arguments).await;
    }
    let pid = daemon.child.id();
    said += &std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.line("configuration reloaded").await;
    taken(&host, 1).await;
    let log = Arc::clone(&daemon.said);
    daemon.terminate().await;
    said += &log.lock().unwrap();

    assert!(said.contains("535 5.7.3") && said.contains("delivered"), "there is something to search");
    // The password, and what AUTH LOGIN, AUTH PLAIN and the device say in its place.
    for secret in [
        PASSWORD,
        "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==",
        "panel-secret-7",
        "AGNvcGllcgBwYW5lbC1zZWNyZXQtNw==",
        "cGFuZWwtc2VjcmV0LTc=",
    ] {
        let line = said.lines().find(|l| l.contains(secret));
        assert_eq!(line, None, "{secret} was said");
    }
}
