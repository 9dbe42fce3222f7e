//! Whatever a peer sends, in whatever pieces: replies are whole lines of SMTP, everything is taken, content goes only
//! to an open draft, a message is announced as queued only when it was committed, and a stranger gets no draft.
#![allow(clippy::disallowed_methods, reason = "at the edge")]
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::fact::Witness;
use mailferry::mail::{AccountId, ClientName, Envelope, QueueId, RelayTime, ReversePath, WallTime};
use mailferry::policy::admission::{Client, Clients, LineEndings};
use mailferry::policy::route::Routes;
use mailferry::queue::{self, NewMessage, QueueError, Stored};
use mailferry::receive::finished::Refusal;
use mailferry::receive::limits::Limits;
use mailferry::receive::session::{Offer, Session, Step, World};
use mailferry::receive::{Auth, Settings};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Only a queue makes one, so a real one stores something once.
fn stored() -> Stored {
    static STORED: OnceLock<Stored> = OnceLock::new();
    *STORED.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = queue::Settings { directory: directory.path().join("queue"), min_free_space_bytes: 0 };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let queue = queue::open(&settings, Witness::nobody()).await.expect("a new queue");
            let draft = queue.intake.draft(0).expect("room");
            let intake = NewMessage {
                id: draft.id(),
                account: AccountId::new("scanner@contoso.com"),
                envelope: Envelope {
                    reverse_path: ReversePath::Null,
                    recipients: vec!["it@contoso.com".parse().expect("an address")],
                    client: ClientName::new("printers"),
                    peer: None,
                },
                head: b"\r\n".to_vec(),
                charset: None,
                received_at: WallTime::from_ms(0),
                now: queue.clock.now(),
            };
            let stored = queue.intake.commit(draft, vec![intake]).await.expect("room");
            queue.health.close().await;
            stored[0]
        })
    })
}

fn settings(lf: bool) -> Arc<Settings> {
    let networks = vec!["10.0.5.0/24".parse().expect("a network")];
    let client = Client {
        line_endings: if lf { LineEndings::Lf } else { LineEndings::Crlf },
        ..Client::new(ClientName::new("printers"), networks)
    };
    let routes = Routes { routes: vec![], default: AccountId::new("scanner@contoso.com") };
    Arc::new(Settings {
        max_message_size_bytes: 2000,
        max_recipients: 3,
        max_connections: 10,
        max_connections_per_client: 10,
        users: vec![("printer".into(), "s3cret".into())],
        ..Settings::new("relay.contoso.local", Clients::new(vec![client]), routes)
    })
}

struct Play {
    settings: Arc<Settings>,
    limits: Mutex<Limits>,
    now: Instant,
    session: Session,
    admitted: bool,
    disk_is_full: bool,
    drafting: bool,
    committed: usize,
    queued: usize,
    closed: bool,
}

impl Play {
    fn feed(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            let world = World { settings: &self.settings, limits: &self.limits, now: self.now };
            let Some(step) = self.session.advance(&mut input, world) else { break };
            assert!(!self.closed, "{step:?} behind a close");
            self.perform(step);
        }
        assert!(input.is_empty(), "everything is taken");
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Reply(reply) => {
                let reply = String::from_utf8(reply).expect("replies are text");
                for line in reply.split_inclusive("\r\n") {
                    let line = line.strip_suffix("\r\n").expect("a reply is whole lines");
                    assert!(!line.contains(char::is_control), "{line:?}");
                    assert!(line.len() <= 510, "{line:?}");
                    let (code, rest) = line.split_at(3);
                    assert!(code.parse::<u16>().is_ok_and(|c| (200..600).contains(&c)), "{line:?}");
                    assert!(rest.is_empty() || rest.starts_with([' ', '-']), "{line:?}");
                    self.queued += usize::from(line.contains("queued as"));
                }
                assert_eq!(self.queued, self.committed);
            }
            Step::Tell(fact) => assert!(!fact.to_string().contains(char::is_control), "{fact:?}"),
            Step::Pause(time) => assert!(time <= Duration::from_secs(60)),
            Step::Begin { .. } => {
                assert!(self.admitted, "a stranger gets no draft");
                assert!(!self.drafting);
                self.drafting = !self.disk_is_full;
                let draft = QueueId::from_number(1);
                let full = Err(QueueError::Full("2 MiB left".into()));
                self.session.begun(if self.drafting { Ok(draft) } else { full });
            }
            Step::Content(chunk) => {
                assert!(self.drafting && !chunk.is_empty());
                assert!(!chunk.contains(&0));
            }
            Step::Discard => self.drafting = false,
            Step::Commit(finished) => {
                assert!(std::mem::take(&mut self.drafting), "only an open draft is committed");
                assert!(!finished.recipients.is_empty() && finished.recipients.len() <= 3);
                let next = || QueueId::from_number(2);
                let outcome = match finished.intakes(next, WallTime::from_ms(0), RelayTime::from_ms(0)) {
                    Ok(_) => Ok(stored()),
                    Err(_) => Err(Refusal::Loop),
                };
                self.committed += usize::from(outcome.is_ok());
                self.session.committed(outcome);
            }
            Step::StartTls => self.session.secured("TLSv1.3 TLS13_AES_128_GCM_SHA256".into()),
            Step::Close => self.closed = true,
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [flags, size, bytes @ ..] = input else { return };
    let flag = |n: u8| flags & (1 << n) != 0;
    let auth = match flags & 3 {
        0 => Auth::Required,
        1 => Auth::Any,
        _ => Auth::Off,
    };
    let admitted = !flag(4) || !flag(5);
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, if admitted { 5 } else { 6 }, 7));
    let mut play = Play {
        settings: settings(flag(2)),
        limits: Mutex::default(),
        now: Instant::now(),
        session: Session::new(peer, Offer { auth, starttls: flag(3) }, None),
        admitted,
        disk_is_full: flag(6) && flag(7),
        drafting: false,
        committed: 0,
        queued: 0,
        closed: false,
    };
    for piece in bytes.chunks(usize::from(*size) * 4 + 1) {
        play.feed(piece);
    }
    // Silence may first end a message of a device that never sends a carriage return.
    for _ in 0..2 {
        if play.closed {
            return;
        }
        match bytes.len() % 3 {
            0 => play.session.timed_out(),
            1 => play.session.peer_closed(),
            _ => play.session.stop(),
        }
        play.feed(b"");
    }
    assert!(play.closed || bytes.len() % 3 == 2 && play.session.is_in_data(), "it outlives its end");
});
