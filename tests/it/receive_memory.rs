//! What devices can make the receiver's memory grow to. One test, in a process of its own, so that nothing else grows.

use crate::support::own_process;
use crate::support::receiver::{Device, relay};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn memory_is_bounded_whatever_devices_do() {
    if own_process::told().is_none() {
        let test = "receive_memory::memory_is_bounded_whatever_devices_do";
        return own_process::passes(own_process::command(test, "alone")).await;
    }
    five_hundred_idle_devices_cost_little().await;
    an_endless_line_or_message_needs_no_memory_and_an_end().await;
}

async fn an_endless_line_or_message_needs_no_memory_and_an_end() {
    let relay = relay().await;
    let anonymous = kib("RssAnon:");
    // The program's own pages come in as its code is first run: the same, small, before its size is looked at.
    let mut device = Device::connect(&relay).await;
    device.asks(&"x".repeat(4096), "500 5.5.2").await;
    device.begins(&["it@contoso.com"]).await;
    drop(device);
    let before = kib("VmRSS:");
    let mut device = Device::connect(&relay).await;
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        device.0.write_all(&chunk).await.unwrap();
    }
    device.asks("", "500 5.5.2").await;
    device.begins(&["it@contoso.com"]).await;
    for _ in 0..100 {
        device.0.write_all(&chunk).await.unwrap();
    }
    device.asks("\r\n.", "552 5.3.4").await;
    let grown = kib("VmRSS:").saturating_sub(before);
    assert!(grown < 2 * 1024, "a scan costs a few hundred KiB, whatever its size: {grown} KiB");
    let grown = kib("RssAnon:").saturating_sub(anonymous);
    assert!(grown < 1536, "what devices made it allocate from the start on: {grown} KiB");
    assert_eq!(relay.queue.len(), 0);
}

async fn five_hundred_idle_devices_cost_little() {
    let relay = relay().await;
    let mut devices = vec![Device::connect(&relay).await];
    let before = kib("VmRSS:");
    for _ in 0..500 {
        let mut device = Device::connect(&relay).await;
        device.asks("EHLO printer", "250-").await;
        devices.push(device);
    }
    let each = kib("VmRSS:").saturating_sub(before) / 500;
    // The devices' own ends are in this process, too.
    assert!(each < 12, "{each} KiB each");
}

fn kib(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
