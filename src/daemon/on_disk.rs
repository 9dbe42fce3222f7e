//! Whether the running relay has what its files say: the configuration, and the certificates of its listeners.
//!
//! Invariant: a certificate that was renewed is taken by itself once its two files fit and have rested from one look to
//! the next, so never half-written; a changed configuration is told and never taken unasked. Must not know: how a room
//! takes anything.

use super::listeners::InForce;
use crate::config::{FileRead, ListenerCertificate, Settings};
use crate::control::report::Need;
use crate::fact::Witness;
use crate::fact::daemon::Fact;
use crate::mail::WallTime;
use crate::policy::expiry::{Expiry, expiry_warning};
use crate::policy::incident::Kind;
use crate::tls::server::{CertificateError, Content, Files};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Between two looks at the certificates.
const EVERY: Duration = Duration::from_secs(60);
/// Whoever asks for the status more often is told what was seen a moment ago.
const FRESH: Duration = Duration::from_secs(1);
/// A disk that does not answer must not keep the rest of the status.
const PATIENCE: Duration = Duration::from_secs(2);

/// The files, and what was seen of them.
pub(super) struct OnDisk {
    listeners: InForce,
    witness: Witness,
    /// Never held while a file is read: a status asks for it on the runtime's threads.
    seen: Mutex<Seen>,
    /// Who looks. On a disk that does not answer there is one who waits, and not one more for every status.
    looking: Mutex<()>,
}

struct Seen {
    /// As it is in force.
    file: FileRead,
    looked_at: Option<Instant>,
    certificates: Vec<Watched>,
    /// The file that a reload refused, and why. Gone when it was edited since then: that may have mended it.
    refused: Option<(Option<FileRead>, Need)>,
    is_changed: bool,
    /// The keys whose new values wait for a start.
    waiting: Vec<&'static str>,
}

/// A certificate in force.
struct Watched {
    in_force: ListenerCertificate,
    /// What was seen last, if that is something else; and what is wrong with it.
    next: Option<(Content, Option<String>)>,
    told_days: Option<u16>,
}

impl OnDisk {
    pub(super) fn new(settings: &Settings, listeners: InForce, witness: Witness) -> Self {
        let seen = Seen {
            file: settings.file.clone(),
            looked_at: None,
            certificates: settings.certificates.iter().cloned().map(Watched::new).collect(),
            refused: None,
            is_changed: false,
            waiting: vec![],
        };
        Self { listeners, witness, seen: Mutex::new(seen), looking: Mutex::default() }
    }

    /// Looks after the certificates until `stop` resolves.
    pub(super) async fn watch(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    let this = Arc::clone(&self);
                    // Off the runtime's threads; a stop does not wait for it.
                    let look = tokio::task::spawn_blocking(move || this.look(WallTime::now()));
                    tokio::select! {
                        _ = look => {}
                        () = &mut stop => return,
                    }
                }
                () = &mut stop => return,
            }
        }
    }

    /// Whether one of these is new and cannot be shown, as its listener's address is new, too.
    pub(super) fn has_to_wait(&self, new: &[ListenerCertificate]) -> bool {
        let seen = self.seen();
        let is_shown = |c: &ListenerCertificate| {
            seen.certificates.iter().any(|w| w.in_force.pair.content == c.pair.content)
        };
        new.iter().any(|c| !self.listeners.listens_on(c.listener) && !is_shown(c))
    }

    /// A configuration was taken, but for these keys.
    pub(super) fn taken(&self, new: &Settings, waiting: &[&'static str]) {
        let mut seen = self.seen();
        seen.file = new.file.clone();
        (seen.refused, seen.is_changed, seen.waiting) = (None, false, waiting.to_vec());
        // Where an address was changed, the old one goes on with its certificate, which is still looked after.
        seen.certificates.retain(|w| !new.listen.iter().any(|l| l.address == w.in_force.listener));
        for certificate in &new.certificates {
            if self.listeners.listens_on(certificate.listener) {
                seen.certificates.push(Watched::new(certificate.clone()));
            }
        }
    }

    /// A configuration was not taken.
    pub(super) fn refused(&self, problem: &str, hint: Option<&str>) {
        let file = self.seen().file.clone();
        let now = file.again().ok();
        let need = Need {
            what: format!("the last reload was refused, and the relay goes on as before: {problem}"),
            hint: format!(
                "{}, then: systemctl reload mailferry",
                hint.filter(|h| !h.is_empty()).unwrap_or("mend it")
            ),
            account: None,
            kind: Some(Kind::ConfigurationNotTaken),
        };
        self.seen().refused = Some((now, need));
    }

    /// Compares the configuration, and takes certificates that were renewed.
    pub(super) fn look(&self, now: WallTime) {
        self.look_at_the_file();
        let certificates: Vec<ListenerCertificate> =
            self.seen().certificates.iter().map(|w| w.in_force.clone()).collect();
        for certificate in certificates {
            let read = Files::read(&certificate.certificate, &certificate.key);
            let mut seen = self.seen();
            let is_it = |w: &&mut Watched| {
                let at = &w.in_force;
                at.listener == certificate.listener
                    && (&at.certificate, &at.key) == (&certificate.certificate, &certificate.key)
            };
            if let Some(watched) = seen.certificates.iter_mut().find(is_it) {
                self.look_at(watched, read, now);
            }
        }
    }

    fn look_at_the_file(&self) {
        let _alone = match self.looking.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let in_force = self.seen().file.clone();
        // One that cannot be read is no configuration that somebody wants to be taken.
        let current = in_force.again().ok();
        let mut seen = self.seen();
        if seen.file != in_force {
            return; // Another was taken meanwhile.
        }
        let is_other = current.as_ref().is_some_and(|now| *now != seen.file);
        let is_news = is_other && !seen.is_changed;
        if seen.refused.as_ref().is_some_and(|(refused, _)| *refused != current) {
            seen.refused = None;
        }
        (seen.is_changed, seen.looked_at) = (is_other, Some(Instant::now()));
        if is_news && seen.refused.is_none() {
            self.witness.tell(Fact::ConfigurationChanged { path: seen.file.path.clone() });
        }
    }

    fn look_at(&self, watched: &mut Watched, read: Result<Files, CertificateError>, now: WallTime) {
        let listener = watched.in_force.listener;
        match read {
            Ok(files) if files.content() == watched.in_force.pair.content => watched.next = None,
            Ok(files) => {
                let has_rested =
                    watched.next.as_ref().is_some_and(|(content, _)| *content == files.content());
                let is_told = watched.next.as_ref().is_some_and(|(_, why)| why.is_some());
                match files.pair() {
                    Ok(pair) if has_rested => {
                        self.listeners.show(listener, &pair.config);
                        watched.in_force.pair = pair;
                        (watched.next, watched.told_days) = (None, None);
                        self.witness.tell(Fact::CertificateTaken { listener });
                    }
                    Err(error) if has_rested && !is_told => {
                        let why = error.to_string();
                        self.witness.tell(Fact::CertificateNotTaken { listener, why: why.clone() });
                        watched.next = Some((files.content(), Some(why)));
                    }
                    _ if has_rested => {}
                    // It may be half-written: what rests until the next look is whole.
                    _ => watched.next = Some((files.content(), None)),
                }
            }
            // In the middle of being replaced, or on a disk that is away; what is shown stays good.
            Err(_) => {}
        }
        let Some(expiry) = watched.expiry() else { return };
        if let Some(due) = expiry_warning(expiry.days_left(now), watched.told_days) {
            watched.told_days = Some(due);
            self.witness.tell(Fact::CertificateEnds { listener, expiry, now });
        }
    }

    /// What a human has to do, as far as it shows in the files.
    pub(super) async fn needs(self: Arc<Self>) -> Vec<Need> {
        let is_fresh = self.seen().looked_at.is_some_and(|at| at.elapsed() < FRESH);
        if !is_fresh {
            let this = Arc::clone(&self);
            let look = tokio::task::spawn_blocking(move || this.look_at_the_file());
            let _ = tokio::time::timeout(PATIENCE, look).await;
        }
        self.seen().needs(WallTime::now())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new(in_force: ListenerCertificate) -> Self {
        Self { in_force, next: None, told_days: None }
    }

    fn expiry(&self) -> Option<Expiry> {
        let at = WallTime::from_ms(self.in_force.pair.ends_at_ms?);
        Some(Expiry { what: "certificate", at })
    }
}

impl Seen {
    fn needs(&self, now: WallTime) -> Vec<Need> {
        let need = |kind, what: String, hint: &str| {
            let kind = Some(kind);
            Need { what, hint: hint.to_owned(), account: None, kind }
        };
        let mut needs = vec![];
        let path = self.file.path.display();
        match &self.refused {
            Some((_, need)) => needs.push(need.clone()),
            None if self.is_changed => needs.push(need(
                Kind::ConfigurationNotTaken,
                format!("{path} was changed and is not loaded"),
                "mailferry check, then: systemctl reload mailferry",
            )),
            None => {}
        }
        if !self.waiting.is_empty() {
            needs.push(need(
                Kind::ConfigurationNotTaken,
                format!("new values in {path} count only after a restart: {}", self.waiting.join(", ")),
                "systemctl restart mailferry",
            ));
        }
        for watched in &self.certificates {
            let listener = watched.in_force.listener;
            if let Some((_, Some(why))) = &watched.next {
                needs.push(need(
                    Kind::CredentialEnds,
                    format!("the renewed certificate of listener {listener} is of no use, the one before is shown: {why}"),
                    "put both files in order; they are taken by themselves within two minutes",
                ));
            }
            let ends = watched.expiry().filter(|e| expiry_warning(e.days_left(now), None).is_some());
            needs.extend(
                ends.map(|expiry| need(Kind::CredentialEnds, expiry.words(&in_words(listener), now), RENEW)),
            );
        }
        needs
    }
}

const RENEW: &str = "renew it; files that are replaced are taken by themselves within two minutes";

/// Whose certificate it is.
pub(super) fn in_words(listener: SocketAddr) -> String {
    format!("listener {listener}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Env};
    use crate::fact::Recorder;
    use std::path::Path;

    const FILE: &str = r#"
hostname = "relay.contoso.local"
[[listen]]
address = "127.0.0.1:2465"
tls = "implicit"
certificate = "relay.crt"
key = "relay.key"
[[client]]
name = "printers"
from = ["10.0.5.0/24"]
[[account]]
mailbox = "scanner@contoso.com"
password = { file = "password" }
"#;

    struct Site {
        directory: tempfile::TempDir,
        on_disk: Arc<OnDisk>,
        told: Arc<Recorder>,
    }

    impl Site {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (told, witness) = Recorder::new();
            std::fs::write(directory.path().join("password"), "x").unwrap();
            std::fs::write(directory.path().join("mailferry.toml"), FILE).unwrap();
            renew(directory.path(), 2036);
            let settings = load(directory.path());
            let listeners = InForce::of(settings.listen.clone());
            Self { on_disk: Arc::new(OnDisk::new(&settings, listeners, witness)), directory, told }
        }

        fn write(&self, name: &str, text: &[u8]) {
            std::fs::write(self.directory.path().join(name), text).unwrap();
        }

        fn needs(&self) -> Vec<String> {
            self.on_disk.seen().needs(day(0)).into_iter().map(|n| n.what).collect()
        }

        fn events(&self) -> Vec<&'static str> {
            self.told.take().iter().map(crate::fact::Fact::event).collect()
        }
    }

    fn load(directory: &Path) -> Settings {
        config::load(&directory.join("mailferry.toml"), &Env::new()).unwrap()
    }

    /// So many days after the first of 2030.
    fn day(days: i64) -> WallTime {
        WallTime::from_ms((21_915 + days) * 86_400_000)
    }

    /// A pair that ends with this year.
    fn renew(directory: &Path, year: i32) {
        let mut params = rcgen::CertificateParams::new(vec!["relay.contoso.local".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 10);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.join("relay.crt"), certificate.pem()).unwrap();
        std::fs::write(directory.join("relay.key"), key.serialize_pem()).unwrap();
    }

    fn is_same(a: &[Option<Arc<rustls::ServerConfig>>], b: &[Option<Arc<rustls::ServerConfig>>]) -> bool {
        a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap()))
    }

    #[test]
    fn a_renewed_pair_is_taken_by_itself_once_it_is_whole_and_rests() {
        let site = Site::new();
        let (shown, look) = (|| site.on_disk.listeners.shown(), || site.on_disk.look(day(0)));
        let first = shown();
        look();
        look();
        assert!(is_same(&shown(), &first));

        // The certificate is there, its key not yet, for a whole minute and more.
        let old_key = std::fs::read(site.directory.path().join("relay.key")).unwrap();
        renew(site.directory.path(), 2037);
        let new_key = std::fs::read(site.directory.path().join("relay.key")).unwrap();
        site.write("relay.key", &old_key);
        for _ in 0..3 {
            look();
        }
        assert!(is_same(&shown(), &first));
        assert_eq!(site.events(), ["listener_certificate_not_taken"], "told once");
        assert!(site.needs()[0].contains("the renewed certificate of listener 127.0.0.1:2465 is of no use"));

        site.write("relay.key", &new_key);
        look();
        assert!(is_same(&shown(), &first), "it may be written at this moment");
        look();
        assert!(!is_same(&shown(), &first));
        assert_eq!(site.events().last(), Some(&"listener_certificate_taken"));
        assert!(site.needs().is_empty());

        // Gone for a moment, as some programs replace a file.
        let second = shown();
        std::fs::remove_file(site.directory.path().join("relay.crt")).unwrap();
        look();
        assert!(is_same(&shown(), &second) && site.needs().is_empty());
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_at_each_step_until_there_is_another() {
        let site = Site::new();
        renew(site.directory.path(), 2030);
        site.on_disk.look(day(-300));
        site.on_disk.look(day(-300));
        for days in -40..0 {
            site.on_disk.look(day(days));
        }
        assert_eq!(
            site.events(),
            ["listener_certificate_taken", "listener_certificate_ends", "listener_certificate_ends"]
        );
        assert_eq!(
            site.needs(),
            ["the certificate of listener 127.0.0.1:2465 expires in 9 days, on 2030-01-10T00:00:00Z"]
        );
        renew(site.directory.path(), 2031);
        site.on_disk.look(day(0));
        site.on_disk.look(day(0));
        assert!(site.needs().is_empty());
    }

    #[test]
    fn a_file_that_was_changed_is_told_until_it_is_taken_or_as_before() {
        let site = Site::new();
        let look = || site.on_disk.look(day(0));
        look();
        assert!(site.needs().is_empty());
        site.write("mailferry.toml", format!("{FILE}# new\n").as_bytes());
        look();
        look();
        assert!(
            site.needs()[0].ends_with("mailferry.toml was changed and is not loaded"),
            "{:?}",
            site.needs()
        );
        assert_eq!(site.events(), ["configuration_changed"], "told once");
        site.write("mailferry.toml", FILE.as_bytes());
        look();
        assert!(site.needs().is_empty());

        site.write("mailferry.toml", format!("{FILE}oops\n").as_bytes());
        look();
        site.on_disk.refused("mailferry.toml:14: expected `=`", None);
        look();
        let refused =
            "the last reload was refused, and the relay goes on as before: mailferry.toml:14: expected `=`";
        assert_eq!(site.needs(), [refused], "one cause, one line");
        site.write("mailferry.toml", format!("{FILE}# mended\n").as_bytes());
        look();
        assert!(site.needs()[0].ends_with("was changed and is not loaded"));
        site.on_disk.taken(&load(site.directory.path()), &["listen.address"]);
        look();
        assert!(
            site.needs()[0].ends_with("count only after a restart: listen.address"),
            "{:?}",
            site.needs()
        );
        assert_eq!(site.needs().len(), 1);
    }

    #[test]
    fn a_file_that_does_not_answer_holds_up_one_who_looks_and_no_status() {
        let site = Site::new();
        let file = site.directory.path().join("mailferry.toml");
        std::fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        std::thread::scope(|s| {
            s.spawn(|| site.on_disk.look(day(0)));
            // Opens only when the other has: from here on that one reads.
            let writer = std::fs::File::options().write(true).open(&file).unwrap();
            assert!(site.on_disk.seen.try_lock().is_ok());
            site.on_disk.look_at_the_file();
            assert!(site.needs().is_empty());
            drop(writer);
        });
    }

    #[test]
    fn a_listener_that_waits_for_a_restart_keeps_the_certificate_it_shows_looked_after() {
        let site = Site::new();
        renew(site.directory.path(), 2037);
        let new =
            FILE.replace("2465", "3465").replace("relay.crt", "other.crt").replace("relay.key", "other.key");
        for (from, to) in [("relay.crt", "other.crt"), ("relay.key", "other.key")] {
            std::fs::copy(site.directory.path().join(from), site.directory.path().join(to)).unwrap();
        }
        site.write("mailferry.toml", new.as_bytes());
        assert!(site.on_disk.has_to_wait(&load(site.directory.path()).certificates));
        site.write("mailferry.toml", FILE.replace("2465", "3465").as_bytes());
        assert!(
            site.on_disk.has_to_wait(&load(site.directory.path()).certificates),
            "the files were renewed, too"
        );
        site.write("mailferry.toml", new.as_bytes());
        site.on_disk.taken(&load(site.directory.path()), &["listen.address", "listen.certificate"]);
        let before = site.on_disk.listeners.shown();
        site.on_disk.look(day(0));
        site.on_disk.look(day(0));
        assert!(!is_same(&site.on_disk.listeners.shown(), &before), "it still takes what its own files hold");
    }
}
