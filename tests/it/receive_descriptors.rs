//! A process without free file descriptors. One test, in a process of its own.

use crate::support::own_process;
use crate::support::receiver::{Device, relay};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::time::Duration;
use tokio::net::TcpStream;

#[tokio::test]
async fn without_descriptors_the_listener_waits_and_then_goes_on() {
    if own_process::told().is_none() {
        let test = "receive_descriptors::without_descriptors_the_listener_waits_and_then_goes_on";
        return own_process::passes(own_process::command(test, "alone")).await;
    }
    let limit = Rlimit { current: Some(100), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    let relay = relay().await;
    // The queue's threads are still busy with their start: until nothing comes free any more.
    let mut hoard: Vec<File> = Vec::new();
    let mut quiet = 0;
    while quiet < 10 {
        let before = hoard.len();
        hoard.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
        quiet = if hoard.len() == before { quiet + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One for the device's end, none for the listener's.
    hoard.pop();
    let waiting = std::net::TcpStream::connect(relay.address).unwrap();
    let spent = cpu_time();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cpu_time() - spent < Duration::from_millis(100), "the listener does not spin");
    assert_eq!(relay.shared.connections(), 0, "there is no descriptor for it");
    assert!(!relay.served.is_finished());
    drop(hoard);
    waiting.set_nonblocking(true).unwrap();
    Device(TcpStream::from_std(waiting).unwrap()).hears("220 ").await;
    Device::connect(&relay).await.asks("NOOP", "250 ").await;
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
