//! Every `dialogues/*.smtp` is a conversation with a device, played against a session without a socket: consecutive
//! lines of the device in one piece, line by line, and byte by byte. The outcome must be the same.
//!
//! `C: line` the device sends it with CRLF, `C> bytes` as they are (escapes `\r \n \t \\ \xNN`), `C* n bytes` n times.
//! `S: line` the relay's next line, `*` at its end for any rest; `S: <close>`, `<starttls>`, `<pause>`.
//! `M: line` a line of the next queued message: `from`, `to`, `helo`, `protocol`, then its head and content.
//! `! word value` sets the scene or makes something happen: see `Scene::set` and `Scene::happen`.

use mailferry::fact::receive::Fact;
use mailferry::letter::stamp::StampError;
use mailferry::mail::{AccountId, ClientName, QueueId, RelayTime, WallTime};
use mailferry::policy::admission::{Client, Clients, LineEndings};
use mailferry::policy::route::Routes;
use mailferry::queue::{QueueError, Stored};
use mailferry::receive::finished::{Finished, Refusal};
use mailferry::receive::limits::Limits;
use mailferry::receive::session::{Offer, Session, Step, World};
use mailferry::receive::{Auth, Settings};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Pieces {
    Whole,
    Lines,
    Bytes,
}

struct Scene {
    client: Client,
    settings: Settings,
    offer: Offer,
    peer: String,
    queue: Result<(), QueueError>,
    write: Result<(), QueueError>,
}

impl Scene {
    fn new() -> Self {
        let networks = vec!["10.0.5.0/24".parse().unwrap()];
        let client = Client::new(ClientName::new("printers"), networks);
        let routes = Routes { routes: vec![], default: AccountId::new("scanner@contoso.com") };
        let settings = Settings {
            users: vec![("printer".into(), "s3cret".into())],
            ..Settings::new("relay.contoso.local", Clients::default(), routes)
        };
        Self {
            client,
            settings,
            offer: Offer { auth: Auth::Off, starttls: false },
            peer: "10.0.5.7".into(),
            queue: Ok(()),
            write: Ok(()),
        }
    }

    /// Scenery, before or between transactions.
    fn set(&mut self, word: &str, value: &str) -> bool {
        match word {
            "auth" => {
                self.offer.auth = match value {
                    "any" => Auth::Any,
                    "required" => Auth::Required,
                    _ => Auth::Off,
                }
            }
            "starttls" => self.offer.starttls = true,
            "peer" => self.peer = value.into(),
            "network" => self.client.networks = vec![value.parse().unwrap()],
            "line_endings" => self.client.line_endings = LineEndings::Lf,
            "max_message_size" => self.settings.max_message_size_bytes = value.parse().unwrap(),
            "max_recipients" => self.settings.max_recipients = value.parse().unwrap(),
            "messages_per_minute" => self.client.messages_per_minute = Some(value.parse().unwrap()),
            "allowed_recipients" => self.client.allowed_recipients = vec![value.parse().unwrap()],
            "queue" => self.queue = queue_error(value),
            "write" => self.write = queue_error(value),
            _ => return false,
        }
        true
    }

    fn settings(&self) -> Arc<Settings> {
        let clients = Clients::new(vec![self.client.clone()]);
        Arc::new(Settings { clients, ..self.settings.clone() })
    }
}

fn queue_error(word: &str) -> Result<(), QueueError> {
    match word {
        "full" => Err(QueueError::Full("2 MiB left on /secret/path".into())),
        "broken" => Err(QueueError::Broken("I/O error on /secret/path".into())),
        "closed" => Err(QueueError::Closed),
        _ => Ok(()),
    }
}

struct Play {
    scene: Scene,
    settings: Arc<Settings>,
    session: Session,
    limits: Mutex<Limits>,
    now: Instant,
    said: VecDeque<String>,
    queued: VecDeque<String>,
    told: VecDeque<Fact>,
    /// The transcript says what is told, and then all of it.
    tells: bool,
    content: Vec<u8>,
    drafting: bool,
    ids: i64,
}

impl Play {
    /// Writes down what was committed, as a transcript shows it.
    fn queue(&mut self, finished: &Finished, trace: &[u8]) {
        let to: Vec<String> = finished.recipients.iter().map(ToString::to_string).collect();
        self.queued.push_back(format!("from {}", finished.reverse_path));
        self.queued.push_back(format!("to {}", to.join(" ")));
        self.queued.push_back(if finished.eight_bit { "8bit" } else { "7bit" }.into());
        let trace = String::from_utf8_lossy(trace).replace("\r\n", " ");
        self.queued.push_back(trace.split_whitespace().collect::<Vec<_>>().join(" "));
        let whole = [finished.head.as_slice(), &self.content].concat();
        let lines = whole.strip_suffix(b"\r\n").expect("a message is whole lines");
        let text = lines.escape_ascii().to_string();
        self.queued.extend(text.split("\\r\\n").map(str::to_owned));
        self.queued.push_back("<end>".into());
    }

    /// Gives bytes to the session and carries out what it asks for, the way `listener` does.
    fn feed(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            let world = World { settings: &self.settings, limits: &self.limits, now: self.now };
            let Some(step) = self.session.advance(&mut input, world) else { break };
            match step {
                Step::Reply(reply) => {
                    // The one `Stored` there is bears its own message's name.
                    let named = QueueId::from_number(self.ids).to_string();
                    let reply = String::from_utf8(reply).unwrap().replace(&stored().id().to_string(), &named);
                    let lines = reply.strip_suffix("\r\n").expect("a reply is whole lines");
                    assert!(!lines.replace("\r\n", "").contains(['\r', '\n']), "{reply:?}");
                    self.said.extend(lines.split("\r\n").map(str::to_owned));
                }
                Step::Tell(fact) => self.told.push_back(fact),
                Step::Pause(_) => self.said.push_back("<pause>".into()),
                Step::Begin { .. } => {
                    self.ids += 1;
                    self.content.clear();
                    self.drafting = self.scene.queue.is_ok();
                    self.session.begun(self.scene.queue.clone().map(|()| QueueId::from_number(self.ids)));
                }
                Step::Content(chunk) => {
                    assert!(self.drafting, "content goes to an open draft");
                    match self.scene.write.clone() {
                        Ok(()) => self.content.extend(chunk),
                        Err(why) => self.session.draft_failed(why),
                    }
                }
                Step::Discard => self.drafting = false,
                Step::Commit(finished) => {
                    assert!(self.drafting, "only an open draft is committed");
                    self.drafting = false;
                    let mut next = self.ids;
                    let intakes = finished.intakes(
                        || {
                            next += 1;
                            QueueId::from_number(next)
                        },
                        WallTime::from_ms(0),
                        RelayTime::from_ms(0),
                    );
                    let outcome = match (intakes, self.scene.queue.clone()) {
                        (Err(StampError::Loop), _) => Err(Refusal::Loop),
                        (Ok(_), Err(why)) => Err(Refusal::Queue(why)),
                        (Ok(intakes), Ok(())) => {
                            self.queue(&finished, &intakes[0].head);
                            Ok(stored())
                        }
                    };
                    self.session.committed(outcome);
                }
                Step::StartTls => {
                    self.said.push_back("<starttls>".into());
                    assert!(input.is_empty(), "plain text behind STARTTLS is dropped");
                    self.session.secured("TLSv1.3 TLS13_AES_128_GCM_SHA256".into());
                }
                Step::Close => self.said.push_back("<close>".into()),
            }
        }
        assert!(input.is_empty(), "everything is taken");
    }

    fn happen(&mut self, word: &str, value: &str) {
        match word {
            "wait" => self.now += Duration::from_secs(value.parse().unwrap()),
            "silence" => {
                let patience = self.session.patience(&self.settings);
                assert_eq!(patience, Duration::from_secs(value.parse().unwrap()), "patience");
                self.session.timed_out();
                self.feed(b"");
            }
            "peer_closes" => {
                self.session.peer_closed();
                self.feed(b"");
            }
            "stop" => {
                self.session.stop();
                self.feed(b"");
            }
            other => panic!("no such direction: {other}"),
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = vec![];
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match (b, b) {
            (b'\\', _) => match bytes.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => panic!("no such escape: \\{}", other as char),
            },
            (b, _) => b,
        });
    }
    out
}

fn matches(pattern: &str, line: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => line.starts_with(start),
        None => line == pattern,
    }
}

impl Play {
    /// A line that is not the device's: what was said or queued, or what happens.
    fn check(&mut self, kind: &str, text: &str, line: &str) -> Result<(), String> {
        match kind {
            "S: " => {
                // Pauses are only looked at where the transcript speaks of them.
                while text != "<pause>" && self.said.front().is_some_and(|s| s == "<pause>") {
                    self.said.pop_front();
                }
                match self.said.pop_front() {
                    Some(said) if matches(text, &said) => Ok(()),
                    said => Err(format!("said {said:?}")),
                }
            }
            "F: " => {
                self.tells = true;
                let told = self.told.pop_front();
                match told.as_ref().map(|fact| format!("{}: {fact}", fact.event())) {
                    Some(told) if matches(text, &told) => Ok(()),
                    told => Err(format!("told {told:?}")),
                }
            }
            "M: " | "M:" => match self.queued.pop_front() {
                Some(said) if matches(text, &said) => Ok(()),
                said => Err(format!("queued {said:?}, then {:?}", self.queued)),
            },
            "! " | "!" => unreachable!("three bytes were split off"),
            _ => match line.strip_prefix("! ") {
                Some(direction) => {
                    let (word, value) = direction.split_once(' ').unwrap_or((direction, ""));
                    if self.scene.set(word, value) {
                        self.settings = self.scene.settings();
                    } else {
                        self.happen(word, value);
                    }
                    Ok(())
                }
                None if line.is_empty() || line.starts_with('#') => Ok(()),
                None => Err("not a line of a transcript".into()),
            },
        }
    }
}

/// Plays a transcript; says where it went wrong.
fn play(transcript: &str, pieces: Pieces) -> Result<(), String> {
    let mut scene = Scene::new();
    let mut lines = transcript.lines().enumerate().peekable();
    while let Some((_, line)) = lines.peek() {
        match line.strip_prefix("! ") {
            Some(direction) => {
                let (word, value) = direction.split_once(' ').unwrap_or((direction, ""));
                assert!(scene.set(word, value), "no such scenery: {word}");
            }
            None if line.is_empty() || line.starts_with('#') => {}
            None => break,
        }
        lines.next();
    }
    let session = Session::new(scene.peer.parse().unwrap(), scene.offer, None);
    let banner = String::from_utf8(Session::greeting(&scene.settings)).unwrap();
    let mut play = Play {
        settings: scene.settings(),
        scene,
        session,
        limits: Mutex::default(),
        now: Instant::now(),
        said: VecDeque::from([banner.trim_end().to_owned()]),
        queued: VecDeque::new(),
        told: VecDeque::new(),
        tells: false,
        content: vec![],
        drafting: false,
        ids: 0,
    };
    let mut unsent = vec![];
    for (number, line) in lines {
        let (kind, text) = line.split_at_checked(3).unwrap_or((line, ""));
        let sent = match kind {
            "C: " => [unescape(text), b"\r\n".to_vec()].concat(),
            "C:" => b"\r\n".to_vec(),
            "C> " => unescape(text),
            "C* " => {
                let (count, bytes) = text.split_once(' ').unwrap();
                unescape(bytes).repeat(count.parse().unwrap())
            }
            _ => vec![],
        };
        if kind.starts_with('C') {
            match pieces {
                Pieces::Whole => unsent.extend(sent),
                Pieces::Lines => play.feed(&sent),
                Pieces::Bytes => sent.chunks(1).for_each(|b| play.feed(b)),
            }
            continue;
        }
        if !unsent.is_empty() {
            play.feed(&std::mem::take(&mut unsent));
        }
        if let Err(why) = play.check(kind, text, line) {
            return Err(format!("line {}: {line}\n  {why}", number + 1));
        }
    }
    if !unsent.is_empty() {
        play.feed(&unsent);
    }
    play.said.retain(|s| s != "<pause>");
    if !play.tells {
        play.told.clear();
    }
    if play.said.is_empty() && play.queued.is_empty() && play.told.is_empty() {
        return Ok(());
    }
    Err(format!("at the end: said {:?}, queued {:?}, told {:?}", play.said, play.queued, play.told))
}

#[test]
fn every_dialogue_goes_as_written_in_any_split_of_reads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut played = 0;
    let mut wrong = String::new();
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "smtp")) {
        let file = std::fs::read_to_string(path).unwrap();
        // Several conversations in one file, each under a title.
        for dialogue in file.split("\n== ").skip(1) {
            let (title, transcript) = dialogue.split_once('\n').unwrap();
            for pieces in [Pieces::Whole, Pieces::Lines, Pieces::Bytes] {
                if let Err(why) = play(transcript, pieces) {
                    let name = path.file_stem().unwrap().to_string_lossy();
                    writeln!(wrong, "{name}: {title} ({pieces:?})\n  {why}").unwrap();
                }
            }
            played += 1;
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(played > 40, "only {played} dialogues were found");
}

#[test]
fn a_transcript_that_does_not_go_as_written_fails() {
    for wrong in [
        "S: 220 *\nC: NOOP\nS: 251 *\n",
        "S: 220 *\nC: NOOP\n",
        "S: 220 *\nC: NOOP\nS: 250 *\nS: 250 *\n",
        "S: 220 *\nC: QUIT\nS: 221 *\n",
        "S: 220 *\nC: AUTH LOGIN\nF: login_failed: *\nS: 502 *\n",
        "S: 220 *\nC: NOOP\nF: auth_not_offered: *\nS: 250 *\n",
        "S: 220 *\nC: AUTH LOGIN\nC: AUTH LOGIN\nF: auth_not_offered: *\nS: 502 *\nS: 502 *\n",
    ] {
        assert!(play(wrong, Pieces::Whole).is_err(), "{wrong}");
    }
}

/// What is buffered behind an end of data may only be QUIT, RSET, NOOP or MAIL; this depends on what arrives
/// together, so it is no transcript.
#[test]
fn behind_an_end_of_data_only_quit_rset_noop_and_mail_are_buffered() {
    let begin =
        "S: 220 *\nC: MAIL FROM:<a@b>\nS: 250 *\nC: RCPT TO:<c@d.example>\nS: 250 *\nC: DATA\nS: 354 *\n";
    let message = "C: Subject: x\nC:\nC: hi\nC: .\n";
    let queued =
        "M: from <a@b>\nM: to c@d.example\nM: 7bit\nM: Received: *\nM: Subject: x\nM:\nM: hi\nM: <end>\n";
    for (command, answer) in [
        ("QUIT", "S: 221 *\nS: <close>\n"),
        ("RSET", "S: 250 2.0.0 *\n"),
        ("NOOP", "S: 250 2.0.0 *\n"),
        ("MAIL FROM:<e@f>\nC: RCPT TO:<g@h>", "S: 250 2.1.0 *\nS: 250 2.1.5 *\n"),
        ("EHLO evil", "S: 503 5.5.1 *\nS: <close>\n"),
        ("RCPT TO:<g@h>", "S: 503 5.5.1 *\nS: <close>\n"),
        ("Subject: smuggled", "S: 503 5.5.1 *\nS: <close>\n"),
    ] {
        let transcript = format!("{begin}{message}C: {command}\nS: 250 2.0.0 queued as *\n{answer}{queued}");
        play(&transcript, Pieces::Whole).unwrap();
    }
}

/// Only a queue makes one, so a real one stores something once; whose name it bears does not matter here.
fn stored() -> Stored {
    use crate::support::queue::{open, scan};
    static STORED: std::sync::OnceLock<Stored> = std::sync::OnceLock::new();
    *STORED.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let queue = open(directory.path()).await;
            let draft = queue.intake.draft(0).unwrap();
            let scan = scan(draft.id());
            let stored = queue.intake.commit(draft, vec![scan]).await.unwrap();
            queue.health.close().await;
            stored[0]
        })
    })
}

/// As above: it is what arrives in one piece with STARTTLS that is dropped.
#[test]
fn what_was_slipped_in_behind_starttls_is_dropped() {
    let slipped = "! starttls\nS: 220 *\nC: STARTTLS\nC: MAIL FROM:<evil@x.example>\n";
    play(
        &format!("{slipped}S: 220 2.0.0 *\nS: <starttls>\nC: RCPT TO:<a@b>\nS: 503 5.5.1 *\n"),
        Pieces::Whole,
    )
    .unwrap();
}
