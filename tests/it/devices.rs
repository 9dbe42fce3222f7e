//! Who came and who was refused, over restarts, in the commands and in `status`.

use crate::support::daemon::{Daemon, run, told};
use crate::support::relay::{Device, Running, Site, mail, until};
use crate::support::smart_host::SmartHost;
use mailferry::control::report::DeviceList;

/// Only one address of the loopback may relay; a test comes from the others, too.
fn site(host: &SmartHost) -> Site {
    let mut site = Site::before(host);
    site.clients = "[[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1\"]\n".to_owned();
    site
}

/// What a stranger hears at MAIL.
async fn knock(running: &Running, from: u8, helo: &str) -> String {
    let mut device = Device::connect_from([127, 0, 0, from], running.address).await;
    device.say(&format!("HELO {helo}")).await;
    device.say("MAIL FROM:<copier@contoso.com>").await
}

async fn devices(running: &Running) -> DeviceList {
    running.admin.0.devices().await.unwrap()
}

#[tokio::test]
async fn devices_and_strangers_are_remembered_over_a_restart_with_their_names() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let running = site.start().await;
    assert!(running.send(&["maria@contoso.com"], &mail("one")).await.starts_with("250 "));
    assert!(running.send(&["maria@contoso.com"], &mail("two")).await.starts_with("250 "));
    assert!(knock(&running, 9, "NPIF65E56").await.starts_with("550 5.7.1 127.0.0.9 may not relay"));
    let client = &running.admin.0;
    client.name_device("127.0.0.1".parse().unwrap(), "front desk").await.unwrap();
    assert!(client.name_device("127.0.0.77".parse().unwrap(), "nobody").await.is_err());
    let before = devices(&running).await;
    running.stop().await;

    let running = site.start().await;
    let after = devices(&running).await;
    assert_eq!(after, before);
    let [device] = &after.devices[..] else { panic!("{after:?}") };
    assert_eq!(
        (device.name.as_str(), device.client.as_str(), device.messages_today),
        ("front desk", "printers", 2)
    );
    assert!(!device.helo.is_empty());
    let [stranger] = &after.refused[..] else { panic!("{after:?}") };
    assert_eq!((stranger.helo.as_str(), stranger.count, stranger.is_seen), ("NPIF65E56", 1, false));
    assert_eq!(
        stranger.hint,
        "mailferry allow 127.0.0.9 --as CLIENT, if it is yours; else: mailferry devices seen 127.0.0.9"
    );
    let status = running.admin.0.status().await.unwrap();
    assert_eq!(status.refused.len(), 1);
    running.admin.0.device_seen("127.0.0.9".parse().unwrap()).await.unwrap();
    assert!(running.admin.0.status().await.unwrap().refused.is_empty(), "nothing asks about it any more");
    // With the daemon stopped the same is said, and can be done.
    running.stop().await;
    let text = told(&site, &["devices"]).await;
    assert!(text.contains("front desk") && text.contains("marked as seen"), "{text}");
    told(&site, &["devices", "name", "127.0.0.1", ""]).await;
    let json: DeviceList = serde_json::from_str(&told(&site, &["devices", "--json"]).await).unwrap();
    assert_eq!(json.devices[0].name, "");
    let unknown = run(&site, &["devices", "seen", "127.0.0.10"]).await;
    assert_eq!(unknown.status.code(), Some(66));
}

#[tokio::test]
async fn strangers_with_garbage_names_by_the_thousand_hide_no_device_and_forge_no_line() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let running = site.start().await;
    assert!(running.send(&["maria@contoso.com"], &mail("one")).await.starts_with("250 "));
    let garbage = "x\x1b[2J\u{202e}".repeat(60);
    for n in 2..=250 {
        knock(&running, n, &garbage).await;
    }
    for n in [2, 2, 2] {
        knock(&running, n, &garbage).await;
    }
    let list = devices(&running).await;
    assert_eq!((list.devices.len(), list.refused.len()), (1, 249));
    assert!(
        list.refused.iter().all(|r| r.helo.chars().count() <= 67 && !r.helo.contains(['\x1b', '\u{202e}']))
    );
    assert_eq!((list.refused[0].address, list.refused[0].count), ("127.0.0.2".parse().unwrap(), 4));
    let status = told(&site, &["status"]).await;
    assert!(status.contains("and 244 more: mailferry devices"), "{status}");
    assert!(status.lines().all(|l| l.chars().count() <= 200), "{status}");
    running.stop().await;
}

#[tokio::test]
async fn what_was_seen_of_devices_survives_a_kill_within_seconds() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let (mut daemon, address) = Daemon::start(&site).await;
    crate::support::daemon::submit(address, "one").await;
    // Written within some seconds, of which nobody waits.
    let kept = async || {
        let uri = format!("file:{}?mode=ro", site.path("queue/queue.db").display());
        let open = rusqlite::Connection::open_with_flags(
            uri,
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI,
        );
        let row = open.and_then(|c| {
            c.query_row("SELECT count(*) FROM note WHERE name LIKE 'devices/%'", [], |r| r.get::<_, i64>(0))
        });
        row.ok().filter(|n| *n > 0)
    };
    until("a note of devices", kept).await;
    daemon.child.kill().unwrap();
    daemon.ended().await;
    let list: DeviceList = serde_json::from_str(&told(&site, &["devices", "--json"]).await).unwrap();
    assert_eq!(list.devices[0].messages_today, 1);
}
