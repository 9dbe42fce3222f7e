//! The real binary as a process of its own: started, listened to, sent signals; and other commands beside it.

// Included by several test files, none of which uses all of it.

use crate::support::relay::{Device, Site, mail, until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

pub const BINARY: &str = env!("CARGO_BIN_EXE_mailferry");

pub fn serve(config: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("serve").arg("--config").arg(config);
    command
}

/// A running process and everything it has said.
pub struct Daemon {
    pub child: Child,
    pub said: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts it and waits until it accepts mail.
    pub async fn start(site: &Site) -> (Self, SocketAddr) {
        let daemon = Self::spawn(serve(&site.write()));
        let address = daemon.listening().await;
        (daemon, address)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    *said.lock().unwrap() += &(line + "\n");
                }
            });
        }
        Self { child, said }
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits for a line with these words.
    pub async fn line(&self, words: &str) -> String {
        until(words, async || self.said().lines().find(|l| l.contains(words)).map(str::to_owned)).await
    }

    pub async fn listening(&self) -> SocketAddr {
        let line = self.line(", sending as ").await;
        let (_, rest) = line.split_once("listening on ").unwrap();
        rest.split(", ").next().unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code; none when a signal ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        until("the process's end", async || self.child.try_wait().unwrap()).await.code()
    }

    pub async fn terminate(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().await, Some(0), "{}", self.said());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another command of the binary, to its end.
pub async fn run(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.env_clear().args(arguments).arg("--config").arg(site.path("mailferry.toml"));
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The same, which must succeed; what it printed.
pub async fn told(site: &Site, arguments: &[&str]) -> String {
    let output = run(site, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// As a device does it; the relay must take it.
pub async fn submit(relay: SocketAddr, subject: &str) {
    let mut device = Device::connect(relay).await;
    let answer = device.send("copier@contoso.com", &["maria@contoso.com"], &mail(subject)).await;
    assert!(answer.starts_with("250 "), "{answer}");
    device.quit().await;
}
