//! `mailferry allow` on the real binary: the device that was refused is taken a moment later, and the file is the admin's
//! still.

use crate::support::daemon::{Daemon, run, told};
use crate::support::relay::{Device, Site};
use crate::support::smart_host::SmartHost;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Output;

fn site(host: &SmartHost) -> Site {
    let mut site = Site::before(host);
    site.clients =
        "# who may send\n[[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1\"] # front desk\n".to_owned();
    site
}

async fn mail_from(address: SocketAddr, host: u8) -> String {
    let mut device = Device::connect_from([127, 0, 0, host], address).await;
    device.say("HELO printer").await;
    device.say("MAIL FROM:<copier@contoso.com>").await
}

fn code(output: &Output) -> (i32, String) {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

#[tokio::test]
async fn a_refused_device_is_allowed_by_the_command_that_the_log_names_and_it_can_be_taken_back() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let (daemon, address) = Daemon::start(&site).await;
    let file = site.path("mailferry.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let is_root = chown(&file, Some(12_345), Some(12_346)).is_ok();
    assert!(mail_from(address, 9).await.starts_with("550 "));
    daemon.line("127.0.0.9 may not relay. hint: if it is yours: mailferry allow 127.0.0.9 --as CLIENT").await;

    let text = told(&site, &["allow", "127.0.0.9", "--as", "printers"]).await;
    assert!(
        text.contains(
            "- from = [\"127.0.0.1\"] # front desk\n+ from = [\"127.0.0.1\", \"127.0.0.9\"] # front desk\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("the running relay has taken it\n"), "{text}");
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(after, before.replace("[\"127.0.0.1\"]", "[\"127.0.0.1\", \"127.0.0.9\"]"));
    for path in [&file, &site.path("mailferry.toml.before")] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o640, "{}", path.display());
        assert!(!is_root || (found.uid(), found.gid()) == (12_345, 12_346), "{}", path.display());
    }
    assert!(mail_from(address, 9).await.starts_with("250 "), "at once");

    // Once more is nothing to do; the file is not touched, and the way back stays.
    let text = told(&site, &["allow", "127.0.0.9", "--as", "printers"]).await;
    assert!(
        text.contains("127.0.0.9 is allowed already, as printers (127.0.0.9); nothing was changed"),
        "{text}"
    );

    told(&site, &["allow", "--undo"]).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert!(mail_from(address, 9).await.starts_with("550 "));
    let (exit, text) = code(&run(&site, &["allow", "--undo"]).await);
    assert_eq!(exit, 66, "{text}");
    assert!(text.contains("there is nothing to take back"), "{text}");
    daemon.terminate().await;
}

#[tokio::test]
async fn a_client_is_made_where_there_is_none_and_overlaps_are_said() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let (daemon, address) = Daemon::start(&site).await;
    let text = told(&site, &["allow", "127.0.1.0/24", "--as", "ups"]).await;
    assert!(text.contains("there was no client ups, so it is made (there are: printers)"), "{text}");
    assert!(text.contains("+ [[client]]\n+ name = \"ups\"\n+ from = [\"127.0.1.0/24\"]\n"), "{text}");
    let mut device = Device::connect_from([127, 0, 1, 7], address).await;
    device.say("HELO ups").await;
    assert!(device.say("MAIL FROM:<ups@contoso.com>").await.starts_with("250 "));
    let text = told(&site, &["allow", "127.0.1.7", "--as", "printers"]).await;
    assert!(
        text.contains(
            "127.0.1.7 was of ups (127.0.1.0/24); it is of printers now, as the longer prefix wins"
        ),
        "{text}"
    );
    let text = told(&site, &["allow", "127.0.0.0/23", "--as", "ups"]).await;
    assert!(text.contains("127.0.0.1 stays with printers"), "{text}");
    daemon.terminate().await;
}

#[tokio::test]
async fn what_was_changed_by_hand_since_is_not_undone_unasked_and_nothing_is_thrown_away() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let file = site.write();
    let before = std::fs::read_to_string(&file).unwrap();
    told(&site, &["allow", "10.0.5.7", "--as", "printers"]).await;
    let edited = std::fs::read_to_string(&file).unwrap() + "# by hand\n";
    std::fs::write(&file, &edited).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    let (exit, text) = code(&run(&site, &["allow", "--undo"]).await);
    assert_eq!(exit, 64, "{text}");
    assert!(text.contains("was changed since"), "{text}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), edited);
    told(&site, &["allow", "--undo", "--yes"]).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(std::fs::read_to_string(site.path("mailferry.toml.undone")).unwrap(), edited);
}

#[tokio::test]
async fn nonsense_is_refused_and_leaves_the_file_as_it_is() {
    let host = SmartHost::start().await;
    let site = site(&host);
    let file = site.write();
    let before = std::fs::read_to_string(&file).unwrap();
    for (arguments, expected, says) in [
        (&["0.0.0.0/0", "--as", "printers"] as &[&str], 64, "lets whole countries relay"),
        (&["::/0", "--as", "printers"], 64, "lets whole countries relay"),
        (&["10.0.5.7/24", "--as", "printers"], 64, "did you mean 10.0.5.0/24, or the address 10.0.5.7?"),
        (&["224.0.0.1", "--as", "printers"], 64, "no device has this address"),
        (&["0.0.0.0", "--as", "printers"], 64, "no device has this address"),
        (&["printer", "--as", "printers"], 64, "neither an address nor a network"),
        (&["10.0.5.7"], 64, "--as"),
        (&["10.0.5.7", "--as", " "], 78, "must be a name"),
    ] {
        let (exit, text) = code(&run(&site, &[&["allow"], arguments].concat()).await);
        assert_eq!(exit, expected, "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }
    assert!(!site.path("mailferry.toml.before").exists());
    // A file that is wrong already is not made wronger.
    std::fs::write(&file, before.replace("hostname", "hostnaem")).unwrap();
    let (exit, text) = code(&run(&site, &["allow", "10.0.5.7", "--as", "printers"]).await);
    assert_eq!(exit, 78, "{text}");
    // With the relay stopped it counts from its start on; who means the world says so.
    std::fs::write(&file, &before).unwrap();
    let (exit, text) = code(&run(&site, &["allow", "0.0.0.0/0", "--as", "world", "--yes"]).await);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("mailferry is not running, so it counts from its start on"), "{text}");
}
