//! The real binary at its start: what it needs and does not find, whose mail it takes up, and what a command of root's
//! may touch.

use crate::support::daemon::{Daemon, run, serve, submit, told};
use crate::support::relay;
use crate::support::relay::{Site, subjects, taken};
use crate::support::smart_host::{Act, At, SmartHost};
use mailferry::control::report::AccountState;
use mailferry::mail::State;
use rustix::process::Signal;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Output;

const OAUTH: &str = "[account.oauth]\ntenant = \"contoso.com\"\n\
                     client_id = \"11111111-2222-3333-4444-555555555555\"\n";

/// What a file may be in place of what it should be, and whether it may be there later by itself.
const WRONG: [(&str, bool); 6] = [
    ("missing", true),
    // What reading it says is an I/O error.
    ("unreadable", true),
    ("garbage", false),
    ("empty", false),
    ("directory", false),
    ("loop", false),
];

fn spoil(path: &Path, how: &str) {
    let _ = std::fs::remove_file(path);
    match how {
        "missing" => {}
        "unreadable" => symlink("/proc/self/mem", path).unwrap(),
        "garbage" => std::fs::write(path, [0xff, b'\n', 0xfe]).unwrap(),
        "empty" => std::fs::write(path, "").unwrap(),
        "directory" => std::fs::create_dir(path).unwrap(),
        "loop" => symlink(path, path).unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_file_that_may_be_there_later_is_waited_for_and_one_that_is_wrong_is_not() {
    let host = SmartHost::start().await;
    // A pair for everything; an assertion is signed with RSA.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["relay.contoso.local".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    for name in [
        "listen.certificate",
        "listen.key",
        "user",
        "password",
        "ca_file",
        "secret",
        "oauth.ca_file",
        "oauth.certificate",
        "oauth.key",
    ] {
        for (how, may_pass) in WRONG {
            let mut site = Site::before(&host);
            let at = |name: &str| site.path(name).display().to_string();
            let (authority, listen_more) = (
                at("ca_file"),
                format!(
                    "tls = \"starttls\"\nauth = \"required\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
                    at("listen.certificate"),
                    at("listen.key")
                ),
            );
            let oauth = match name {
                "secret" | "oauth.ca_file" => {
                    format!("{OAUTH}secret = {{ file = \"secret\" }}\nca_file = \"oauth.ca_file\"\n")
                }
                "oauth.certificate" | "oauth.key" => {
                    format!("{OAUTH}certificate = \"oauth.certificate\"\nkey = \"oauth.key\"\n")
                }
                _ => String::new(),
            };
            for file in ["listen.certificate", "ca_file", "oauth.ca_file", "oauth.certificate"] {
                std::fs::write(site.path(file), &certificate).unwrap();
            }
            for file in ["listen.key", "oauth.key"] {
                std::fs::write(site.path(file), key.serialize_pem()).unwrap();
            }
            for file in ["user", "secret"] {
                std::fs::write(site.path(file), "hunter2").unwrap();
            }
            site.accounts =
                site.accounts.replace(&SmartHost::ca_file().display().to_string(), &authority) + &oauth;
            site.listen_more = listen_more;
            site.more = "[[receive.users]]\nname = \"copier\"\npassword = { file = \"user\" }\n".to_owned();
            spoil(&site.path(name), how);
            let mut daemon = Daemon::spawn(serve(&site.write()));
            // Not UTF-8 or not PEM; a secret of some bytes may be one.
            let code = if may_pass { 75 } else { 78 };
            assert_eq!(daemon.ended().await, Some(code), "{name}, {how}: {}", daemon.said());
            assert!(!site.path("queue").exists(), "nothing was opened");
        }
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_at_this_moment_is_waited_for() {
    let host = SmartHost::start().await;
    for (how, code) in [
        ("unreadable", 75),
        // The name on the command line is wrong, as far as anybody can tell.
        ("missing", 78),
        ("garbage", 78),
        ("empty", 78),
        ("directory", 78),
        ("loop", 78),
    ] {
        let site = Site::before(&host);
        let config = site.path("mailferry.toml");
        spoil(&config, how);
        let mut daemon = Daemon::spawn(serve(&config));
        assert_eq!(daemon.ended().await, Some(code), "{how}: {}", daemon.said());
    }
}

#[tokio::test]
async fn one_wrong_file_among_those_that_are_not_there_is_still_wrong() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.accounts = site.accounts.replace(&SmartHost::ca_file().display().to_string(), "missing.pem");
    std::fs::write(site.path("password"), "").unwrap();
    let mut daemon = Daemon::spawn(serve(&site.write()));
    assert_eq!(daemon.ended().await, Some(78), "{}", daemon.said());
}

/// The relay's own user in these tests.
const USER: u32 = 12_345;

/// A site whose relay runs as a user of its own, with one small and one large message in its queue; none where only
/// root could make it.
async fn site_of_another_user(host: &SmartHost) -> Option<Site> {
    host.always(At::Auth, Act::say("535 5.7.3 Authentication unsuccessful"));
    let mut site = Site::before(host);
    let directory = site.path("");
    chown(&directory, Some(USER), Some(USER)).ok()?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(site.path("password"), Some(USER), Some(USER)).unwrap();
    std::fs::copy(SmartHost::ca_file(), site.path("ca.pem")).unwrap();
    chown(site.path("ca.pem"), Some(USER), Some(USER)).unwrap();
    site.accounts = site.accounts.replace(&SmartHost::ca_file().display().to_string(), "ca.pem");
    let daemon = Daemon::spawn(as_user(&serve(&site.write())));
    let address = daemon.listening().await;
    submit(address, "small").await;
    let mut device = relay::Device::connect(address).await;
    let large = relay::mail("large")
        + &"A scan of seventy-two bytes a line, which is not worth being looked at.\r\n".repeat(2000);
    assert!(device.send("a@contoso.com", &["maria@contoso.com"], &large).await.starts_with("250 "));
    site.admin().until_account_is(AccountState::Held).await;
    daemon.terminate().await;
    Some(site)
}

/// The binary where that user can come to it.
fn as_user(command: &std::process::Command) -> std::process::Command {
    use std::os::unix::process::CommandExt;
    let mut as_user = std::process::Command::new(command.get_program());
    as_user.env_clear().args(command.get_args()).uid(USER).gid(USER);
    as_user
}

/// What of a file or directory can be changed: what it holds, whose it is, who may use it.
fn state(path: &Path) -> String {
    let found = std::fs::metadata(path).unwrap();
    let mut held: Vec<String> = match found.is_dir() {
        true => std::fs::read_dir(path).unwrap().map(|e| state(&e.unwrap().path())).collect(),
        false => vec![format!("{:?}", std::fs::read(path).unwrap())],
    };
    held.sort();
    format!("{} {} {} {:o} {held:?}", path.display(), found.uid(), found.gid(), found.mode())
}

const COMMANDS: [&[&str]; 9] = [
    &["status"],
    &["queue", "list"],
    &["queue", "hold", "--all"],
    &["queue", "release", "--all"],
    &["queue", "retry", "--all"],
    &["queue", "export", "--to", "EXPORT"],
    &["check"],
    &["doctor"],
    &["queue", "remove", "--all"],
];

#[tokio::test]
async fn a_command_of_roots_does_the_relays_work_and_leaves_it_the_relays_own() {
    let host = SmartHost::start().await;
    let Some(site) = site_of_another_user(&host).await else { return };
    // Where only root can come to.
    let admins = tempfile::tempdir().unwrap();
    let export = admins.path().join("export").display().to_string();
    for arguments in COMMANDS {
        let arguments: Vec<&str> =
            arguments.iter().map(|a| if *a == "EXPORT" { export.as_str() } else { a }).collect();
        let output = run(&site, &arguments).await;
        let code = match arguments[0] {
            "status" => 69,
            "doctor" => 69,
            _ => 0,
        };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("cannot write in"), "{output:?}");
    }
    let exported: Vec<_> =
        std::fs::read_dir(&export).unwrap().map(|e| e.unwrap().metadata().unwrap()).collect();
    assert_eq!(exported.len(), 4);
    assert!(exported.iter().all(|m| m.uid() == 0 && m.mode() & 0o777 == 0o600), "what is exported is root's");
    for entry in walk(&site.path("queue")) {
        assert_eq!(std::fs::symlink_metadata(&entry).unwrap().uid(), USER, "{}", entry.display());
    }
    let daemon = Daemon::spawn(as_user(&serve(&site.path("mailferry.toml"))));
    daemon.listening().await;
    daemon.terminate().await;
}

fn walk(path: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        all.extend(std::fs::read_dir(path).unwrap().flat_map(|e| walk(&e.unwrap().path())));
    }
    all
}

#[tokio::test]
async fn a_command_of_roots_follows_no_link_that_the_relays_user_has_laid() {
    let host = SmartHost::start().await;
    let Some(site) = site_of_another_user(&host).await else { return };
    let large = std::fs::read_dir(site.path("queue/bodies")).unwrap().next().unwrap().unwrap();
    let (large, bytes) = (large.file_name().into_string().unwrap(), large.metadata().unwrap().len());
    let pristine = site.path("pristine");
    copy(&site.path("queue"), &pristine);

    let (body, body_new) = (format!("bodies/{large}"), "bodies".to_owned());
    let names = [
        "lock",
        "queue.db",
        "queue.db-wal",
        "queue.db-shm",
        "queue.db-journal",
        "ballast",
        "probe",
        "tls",
        "oauth-scanner@contoso.com.json",
        "oauth-scanner@contoso.com.new",
        "sandbox",
        &body,
        &body_new,
    ];
    for name in names {
        let is_directory = ["tls", "sandbox", "bodies"].contains(&name);
        for target in if is_directory { ["directory", "nowhere"] } else { ["file", "nowhere"] } {
            let roots = tempfile::tempdir().unwrap();
            std::fs::set_permissions(roots.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::create_dir(roots.path().join("directory")).unwrap();
            std::fs::write(roots.path().join("directory").join(&large), "root's own").unwrap();
            let secret = "root's own secret\n".repeat(usize::try_from(bytes).unwrap() / 18 + 1);
            std::fs::write(roots.path().join("file"), &secret.as_bytes()[..usize::try_from(bytes).unwrap()])
                .unwrap();
            std::fs::set_permissions(roots.path().join("file"), std::fs::Permissions::from_mode(0o600))
                .unwrap();
            let before = state(roots.path());

            let queue = site.path("queue");
            std::fs::remove_dir_all(&queue).unwrap();
            copy(&pristine, &queue);
            let laid = queue.join(name);
            if laid.is_dir() {
                std::fs::remove_dir_all(&laid).unwrap();
            } else {
                let _ = std::fs::remove_file(&laid);
            }
            symlink(roots.path().join(target), &laid).unwrap();
            std::os::unix::fs::lchown(&laid, Some(USER), Some(USER)).unwrap();

            let admins = tempfile::tempdir().unwrap();
            let export = admins.path().join("export");
            for arguments in [COMMANDS[0], COMMANDS[1], COMMANDS[4], COMMANDS[5], COMMANDS[8]] {
                let export = export.display().to_string();
                let arguments: Vec<&str> =
                    arguments.iter().map(|a| if *a == "EXPORT" { export.as_str() } else { a }).collect();
                let Output { stdout, .. } = run(&site, &arguments).await;
                assert!(
                    !String::from_utf8_lossy(&stdout).contains("root's own"),
                    "{name} {target} {arguments:?}"
                );
            }
            assert_eq!(state(roots.path()), before, "{name} -> {target}");
            for entry in walk(admins.path()).into_iter().filter(|p| p.is_file()) {
                let told = std::fs::read_to_string(&entry).unwrap();
                assert!(!told.contains("root's own"), "{name} -> {target}: {}", entry.display());
            }
        }
    }
}

/// With its owner.
fn copy(from: &Path, to: &Path) {
    let found = std::fs::metadata(from).unwrap();
    if found.is_dir() {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
    chown(to, Some(found.uid()), Some(found.gid())).unwrap();
}

/// What is waiting in the real queue, with the relay stopped.
async fn waiting(site: &Site) -> usize {
    let rows: serde_json::Value =
        serde_json::from_str(&told(site, &["queue", "list", "--state", "queued", "--json"]).await).unwrap();
    rows.as_array().unwrap().len()
}

fn sandboxed(site: &Site) -> std::process::Command {
    let mut command = serve(&site.path("mailferry.toml"));
    command.arg("--sandbox");
    command
}

#[tokio::test]
async fn the_sandbox_leaves_real_mail_alone_and_real_mail_never_meets_the_sandboxs() {
    let host = SmartHost::start().await;
    host.always(At::Auth, Act::say("535 5.7.3 Authentication unsuccessful"));
    let site = Site::before(&host);
    let (daemon, address) = Daemon::start(&site).await;
    submit(address, "real").await;
    site.admin().until_account_is(AccountState::Held).await;
    daemon.terminate().await;

    let daemon = Daemon::spawn(sandboxed(&site));
    let address = daemon.listening().await;
    submit(address, "for trying out").await;
    site.admin().until(1, State::Delivered).await;
    let status = told(&site, &["status"]).await;
    assert!(status.starts_with("SANDBOX, mail goes to a stand-in and to nobody else; "), "{status}");
    assert!(told(&site, &["status", "--json"]).await.contains("\"is_sandbox\": true"));
    daemon.terminate().await;
    assert_eq!(waiting(&site).await, 1);

    host.behave();
    let (daemon, _) = Daemon::start(&site).await;
    told(&site, &["queue", "retry", "--all"]).await;
    taken(&host, 1).await;
    site.admin().until(0, State::Queued).await;
    assert!(told(&site, &["status"]).await.starts_with("all is well"));
    daemon.terminate().await;
    assert_eq!(subjects(&host), ["real"]);
}

#[tokio::test]
async fn a_queue_is_for_the_sandbox_or_for_the_world_and_never_changes_sides() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    // The sandbox's queue, where it was made and where it was taken to.
    let mut daemon = Daemon::spawn(sandboxed({
        site.write();
        &site
    }));
    daemon.listening().await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    std::fs::rename(site.path("queue/sandbox"), site.path("taken along")).unwrap();
    let refused = "its mail is for no smart host";
    for directory in ["taken along", "queue/sandbox"] {
        if directory == "queue/sandbox" {
            std::fs::rename(site.path("taken along"), site.path(directory)).unwrap();
        }
        let config = site.write();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("\"queue\"", &format!("\"{directory}\""))).unwrap();
        let mut daemon = Daemon::spawn(serve(&config));
        assert_eq!(daemon.ended().await, Some(78), "{directory}: {}", daemon.said());
        daemon.line(refused).await;
        assert!(!daemon.said().contains("listening"), "{}", daemon.said());
    }

    // A real one, taken to where the sandbox has its own.
    std::fs::remove_dir_all(site.path("queue")).unwrap();
    host.always(At::Auth, Act::say("535 5.7.3 Authentication unsuccessful"));
    let (daemon, address) = Daemon::start(&site).await;
    submit(address, "real").await;
    site.admin().until_account_is(AccountState::Held).await;
    daemon.terminate().await;
    std::fs::rename(site.path("queue"), site.path("real")).unwrap();
    std::fs::create_dir(site.path("queue")).unwrap();
    std::fs::rename(site.path("real"), site.path("queue/sandbox")).unwrap();
    let mut daemon = Daemon::spawn(sandboxed(&site));
    assert_eq!(daemon.ended().await, Some(78), "{}", daemon.said());
    daemon.line("holds mail that serve --sandbox has not taken").await;
    assert!(!daemon.said().contains("listening"), "{}", daemon.said());
    std::fs::rename(site.path("queue/sandbox"), site.path("real")).unwrap();
    site.more = String::new();
    std::fs::remove_dir_all(site.path("queue")).unwrap();
    std::fs::rename(site.path("real"), site.path("queue")).unwrap();
    assert_eq!(waiting(&site).await, 1);
    assert!(host.recorded().messages.is_empty());
}

#[tokio::test]
async fn a_reload_lets_nothing_out_of_the_sandbox() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.write();
    let daemon = Daemon::spawn(sandboxed(&site));
    let address = daemon.listening().await;
    submit(address, "one").await;
    site.admin().until(1, State::Delivered).await;

    // A new account for everything, another password, another directory.
    site.set_password("another");
    let first = site.accounts.clone();
    site.accounts += &relay::account("copier@contoso.com", &host, "senders = [\"copier@contoso.com\"]\n");
    let config = site.write();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"queue\"", "\"another\"")).unwrap();
    daemon.signal(Signal::HUP);
    let said = daemon.line("configuration reloaded").await;
    assert!(said.contains(": queue.directory "), "{said}");
    submit(address, "two").await;
    site.admin().until(2, State::Delivered).await;
    assert!(site.admin().sentence().await.starts_with("SANDBOX"));
    assert!(!site.path("another").exists());

    // A bad file changes nothing of that.
    site.accounts = "[[account]]\n".to_owned() + &first;
    site.write();
    daemon.signal(Signal::HUP);
    daemon.line("configuration not reloaded").await;
    submit(address, "three").await;
    site.admin().until(3, State::Delivered).await;
    daemon.terminate().await;
    assert_eq!(host.recorded().connections, 0, "nothing left this machine");
}
