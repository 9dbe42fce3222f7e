//! Peers that may not relay, on real sockets of the loopback network: what they can hold, and for how long.

use crate::support::receiver::{
    Device, Relay, WatchedQueue, also_127_0_0_9, eventually, from, relay_with, settings,
};
use mailferry::receive::Tls;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// 20 addresses, 50 connections each, most of which are turned away.
async fn full_house(relay: &Relay) -> Vec<TcpStream> {
    let mut held = vec![];
    for stranger in 1..=20 {
        for _ in 0..50 {
            held.push(from([127, 0, 1, stranger], relay).await);
        }
    }
    eventually("the strangers' pool is full", || relay.shared.connections() == 32).await;
    held
}

async fn is_served(relay: &Relay) {
    let mut device = Device::connect(relay).await;
    device.begins(&["it@contoso.com"]).await;
    device.asks("Subject: scan\r\n\r\nhi\r\n.", "250 ").await;
    device.asks("QUIT", "221 ").await;
}

async fn stops_within(relay: Relay, time: Duration) {
    let began = Instant::now();
    relay.stop.send(Some(Instant::now() + Duration::from_secs(20))).unwrap();
    timeout(Duration::from_secs(30), relay.served).await.expect("the listener ends").unwrap().unwrap();
    assert!(began.elapsed() < time, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_full_house_of_strangers_takes_no_place_of_a_device() {
    let mut few = settings();
    few.max_connections = 2;
    let relay = relay_with(few, WatchedQueue::new(), Tls::Off).await;
    let mut held = full_house(&relay).await;
    for _ in 0..10 {
        is_served(&relay).await;
    }
    let mut banner = [0; 4];
    for one in &mut held[..4] {
        one.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"220 ", "a few of them are talked to");
    }
    held[4].read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"421 ");
    let mut one_more = Device(from([127, 0, 2, 1], &relay).await);
    one_more.hears("421 4.7.0 too many connections from addresses that may not relay here").await;
    drop(held);
    eventually("they are gone", || relay.shared.connections() == 0).await;
    Device(from([127, 0, 2, 1], &relay).await).hears("220 ").await;
}

#[tokio::test]
async fn a_full_house_of_half_open_handshakes_takes_no_place_of_a_device_either() {
    let relay = relay_with(settings(), WatchedQueue::new(), Tls::StartTls).await;
    let mut held = full_house(&relay).await;
    for one in &mut held {
        // As much of a ClientHello as shows that it is one.
        let _ = one.write_all(b"\x16\x03\x01\x02\x00").await;
    }
    is_served(&relay).await;
}

#[tokio::test]
async fn a_device_has_its_own_number_of_connections_beside_its_neighbours() {
    let mut few = also_127_0_0_9();
    few.max_connections = 6;
    few.max_connections_per_client = 3;
    let relay = relay_with(few, WatchedQueue::new(), Tls::Off).await;
    let mut greedy = vec![];
    for _ in 0..50 {
        greedy.push(from([127, 0, 0, 9], &relay).await);
    }
    eventually("it has what it may have", || relay.shared.connections() == 3).await;
    is_served(&relay).await;
}

/// Reads on until this was said.
async fn heard(peer: &mut TcpStream, words: &str) {
    let mut said = vec![];
    while !String::from_utf8_lossy(&said).contains(words) {
        let n = timeout(Duration::from_secs(20), peer.read_buf(&mut said)).await.expect(words).unwrap();
        assert!(n > 0, "closed before {words}: {}", String::from_utf8_lossy(&said));
    }
}

/// What a peer can leave half done, and how it is left.
#[tokio::test]
async fn nothing_half_done_outside_a_message_holds_up_a_stop() {
    let soon = Duration::from_secs(5);
    for source in [[127, 0, 0, 1], [127, 0, 0, 7]] {
        for (tls, said) in [
            (Tls::Implicit, &b""[..]),
            (Tls::Implicit, b"\x16"),
            (Tls::Implicit, b"\x16\x03\x01\x02\x00\x01"),
            (Tls::StartTls, b"\x16\x03\x01\x02\x00\x01"),
            (Tls::StartTls, b"STARTTLS\r\n"),
            (Tls::Off, b""),
            (Tls::Off, b"MAIL FROM:<a@b>\r\nRCPT"),
            (Tls::Off, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d.example>\r\n"),
        ] {
            let relay = relay_with(settings(), WatchedQueue::new(), tls).await;
            let mut peer = from(source, &relay).await;
            peer.write_all(said).await.unwrap();
            eventually("it is there", || relay.shared.connections() == 1).await;
            if said == b"STARTTLS\r\n" {
                heard(&mut peer, "220 2.0.0 ready for TLS").await;
            }
            stops_within(relay, soon).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_no_stop() {
    let relay = relay_with(settings(), WatchedQueue::new(), Tls::Off).await;
    let mut deaf = TcpStream::connect(relay.address).await.unwrap();
    let commands = "MAIL FROM:<a@b.example>\r\n".repeat(1000);
    // Until the relay takes no more, because nobody takes what it answers.
    while timeout(Duration::from_secs(1), deaf.write_all(commands.as_bytes())).await.is_ok() {}
    stops_within(relay, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_stranger_has_seconds_and_so_has_whom_a_reload_made_one() {
    let relay = relay_with(also_127_0_0_9(), WatchedQueue::new(), Tls::Off).await;
    let mut once_a_device = Device(from([127, 0, 0, 9], &relay).await);
    once_a_device.hears("220 ").await;
    let mut device = Device::connect(&relay).await;
    let mut in_data = Device(from([127, 0, 0, 9], &relay).await);
    in_data.hears("220 ").await;
    in_data.begins(&["it@contoso.com"]).await;
    relay.settings.send(Arc::new(settings())).unwrap();
    let began = Instant::now();
    let mut stranger = Device(from([127, 0, 0, 7], &relay).await);
    stranger.hears("220 ").await;
    let soon = Duration::from_secs(15);
    timeout(soon, heard(&mut stranger.0, "421 4.4.2")).await.expect("the stranger's time is over");
    timeout(soon, heard(&mut once_a_device.0, "421 4.4.2")).await.expect("its time is over, too");
    assert!(began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
    device.asks("NOOP", "250 ").await;
    in_data.asks("Subject: begun before\r\n\r\nhi\r\n.", "250 ").await;
    in_data.asks("MAIL FROM:<a@b.example>", "550 5.7.1").await;
}

#[tokio::test]
async fn a_stranger_whom_a_reload_admits_is_a_device_at_once() {
    let relay = relay_with(settings(), WatchedQueue::new(), Tls::Off).await;
    let mut device = Device(from([127, 0, 0, 9], &relay).await);
    device.hears("220 ").await;
    device.asks("MAIL FROM:<a@b.example>", "550 5.7.1").await;
    let _held = full_house(&relay).await;
    relay.settings.send(Arc::new(also_127_0_0_9())).unwrap();
    device.begins(&["it@contoso.com"]).await;
    device.asks("Subject: scan\r\n\r\nhi\r\n.", "250 ").await;
    // It holds no place of the strangers any more.
    Device(from([127, 0, 2, 1], &relay).await).hears("220 ").await;
}
