//! Status and queue over the unix socket: server, client and command line together, on a queue held in memory that
//! has the admin's part of the contract only. (The real one has its own tests.)

use futures_util::future::{BoxFuture, FutureExt, ready};
use mailferry::control::client::{Client, ClientError};
use mailferry::control::report::{
    AccountState, Action, At as Moment, ChangeRequest, DeviceList, Need, RefusedStatus, Select,
};
use mailferry::control::socket::{self, Access};
use mailferry::control::{AccountLive, ClientLive, Live, anybody, api};
use mailferry::fact::Witness;
use mailferry::mail::{
    AccountId, Attempt, ClientName, Mailbox, Place, QueueId, QueuedMessage, Recipient, RelayTime,
    ReversePath, Stage, State, WallTime,
};
use mailferry::policy::advice::Advice;
use mailferry::queue::{
    Body, Change, ChangeStep, Clock, Done, Filter, Finished, Health, Ids, Ledger, Notes, Page, QueueError,
    Room, Total,
};
use predicates::prelude::PredicateBooleanExt;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const CONTENT_BYTES: usize = 300_000;

/// `fails_behind`: what is behind this message cannot be had.
#[derive(Default)]
struct Shelf {
    messages: Mutex<Vec<QueuedMessage>>,
    fails_behind: Arc<Mutex<Option<QueueId>>>,
}

fn done<T: Send + 'static>(value: T) -> Done<T> {
    ready(Ok(value)).boxed()
}

fn not_here<T: Send + 'static>() -> Done<T> {
    ready(Err(QueueError::Closed)).boxed()
}

impl Shelf {
    fn matching(&self, filter: &Filter) -> Vec<QueuedMessage> {
        self.messages.lock().unwrap().iter().filter(|m| filter.names(m)).cloned().collect()
    }

    fn fails(&self, after: Option<QueueId>) -> bool {
        let fails_behind = *self.fails_behind.lock().unwrap();
        fails_behind.is_some_and(|last| after >= Some(last))
    }

    /// Two messages at a time, so that every answer comes in parts.
    fn page(&self, filter: &Filter, after: Option<QueueId>) -> (Vec<QueuedMessage>, Option<QueueId>) {
        let mut found = self.matching(filter);
        found.retain(|m| Some(m.id) > after);
        let has_more = found.len() > 2;
        found.truncate(2);
        let next = found.last().map(|m| m.id).filter(|_| has_more);
        (found, next)
    }
}

impl Ids for Shelf {
    fn next_id(&self) -> QueueId {
        QueueId::from_number(i64::MAX)
    }
}

impl Ledger for Shelf {
    fn list(&self, filter: Filter, after: Option<QueueId>) -> Done<Page> {
        if self.fails(after) {
            return ready(Err(QueueError::Broken("the disk is gone".to_owned()))).boxed();
        }
        let (messages, next) = self.page(&filter, after);
        done(Page { messages, unreadable: vec![], next })
    }
    fn show(&self, id: QueueId) -> Done<Option<(QueuedMessage, Vec<Attempt>)>> {
        let attempt = Attempt {
            at: WallTime::from_ms(0),
            stage: Stage::Auth,
            said: "AUTH: 451 4.7.0 Temporary server error. PRX4".to_owned(),
            host: "127.0.0.1:587".to_owned(),
        };
        let one = Filter { ids: vec![id], ..Filter::default() };
        done(self.matching(&one).pop().map(|m| (m, vec![attempt])))
    }
    fn body(&self, id: QueueId) -> Done<Option<Body>> {
        let one = Filter { ids: vec![id], ..Filter::default() };
        let body = Body::in_memory(b"Subject: scan\r\n\r\n".to_vec(), vec![b'x'; CONTENT_BYTES]);
        done(self.matching(&one).pop().map(|_| body))
    }
    fn change(
        &self,
        filter: Filter,
        change: Change,
        _: RelayTime,
        after: Option<QueueId>,
    ) -> Done<ChangeStep> {
        if self.fails(after) {
            return ready(Err(QueueError::Broken("the disk is gone".to_owned()))).boxed();
        }
        let (found, next) = self.page(&filter, after);
        let changed: Vec<_> = found.into_iter().map(|m| (m.id, m.account)).collect();
        let is_changed = |m: &QueuedMessage| changed.iter().any(|(id, _)| *id == m.id);
        let mut all = self.messages.lock().unwrap();
        for m in all.iter_mut().filter(|m| is_changed(m)) {
            m.state = if change == Change::Hold { State::Held } else { State::Queued };
        }
        if change == Change::Remove {
            all.retain(|m| !is_changed(m));
        }
        done(ChangeStep { changed, next, ..ChangeStep::default() })
    }
    fn totals(&self) -> Done<Vec<Total>> {
        let total = |m: &QueuedMessage| Total {
            account: m.account.clone(),
            state: m.state,
            messages: 1,
            size_bytes: m.size_bytes,
            oldest: Some(m.received_at),
        };
        done(self.messages.lock().unwrap().iter().map(total).collect())
    }
    fn delivered_since(&self, _: &AccountId, since: RelayTime) -> Done<Vec<(RelayTime, u32)>> {
        done(vec![(since, 30), (RelayTime::from_ms(i64::MAX), 12)])
    }
    fn finished(&self, _: State, _: RelayTime, _: Option<Finished>) -> Done<Vec<Finished>> {
        not_here()
    }
    fn prune(&self, _: RelayTime) -> Done<u64> {
        not_here()
    }
}

impl Notes for Shelf {
    fn note(&self, _: &str) -> Done<Option<String>> {
        done(None)
    }
    fn set_note(&self, _: &str, _: Option<String>) -> Done<()> {
        not_here()
    }
}

impl Health for Shelf {
    fn left_behind(&self) -> Vec<String> {
        vec![]
    }
    fn refusal(&self) -> Option<QueueError> {
        None
    }
    fn room(&self) -> Option<Room> {
        None
    }
    fn set_min_free_space(&self, _: u64) {}
    fn failed(&self) -> BoxFuture<'static, String> {
        std::future::pending().boxed()
    }
    fn close(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

#[derive(Default)]
struct Crew {
    paused: Mutex<bool>,
    clients: Mutex<Vec<ClientLive>>,
    devices: Mutex<DeviceList>,
    troubled: Mutex<Option<AccountLive>>,
    probes: AtomicUsize,
}

impl Live for Crew {
    fn configured(&self) -> Vec<AccountId> {
        vec![AccountId::new("scanner@contoso.com")]
    }
    fn accounts(&self) -> BoxFuture<'_, Vec<AccountLive>> {
        let paused = *self.paused.lock().unwrap();
        if let Some(live) = self.troubled.lock().unwrap().clone() {
            return Box::pin(ready(vec![live]));
        }
        Box::pin(std::future::ready(vec![AccountLive {
            account: AccountId::new("scanner@contoso.com"),
            smart_host: Place::known("smtp.office365.com", 587),
            state: if paused { AccountState::Paused } else { AccountState::Open },
            reason: String::new(),
            hint: None,
            advice: None,
            warnings: vec![],
            since: None,
            next_probe_at: None,
            connections: 1,
            sent_last_minute: 2,
        }]))
    }
    fn clients(&self) -> Vec<ClientLive> {
        self.clients.lock().unwrap().clone()
    }
    fn devices(&self) -> DeviceList {
        self.devices.lock().unwrap().clone()
    }
    fn on_disk(&self) -> BoxFuture<'_, Vec<Need>> {
        let what = "the last reload was refused: notify.to: secret-person@fabrikam is no address".to_owned();
        let is_troubled = self.troubled.lock().unwrap().is_some();
        let need = Need { what, hint: "secret-person@fabrikam.com?".to_owned(), account: None, kind: None };
        ready(if is_troubled { vec![need] } else { vec![] }).boxed()
    }
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        ready(Ok(vec![])).boxed()
    }
    fn name_device(&self, _: IpAddr, _: &str) -> bool {
        false
    }
    fn device_seen(&self, _: IpAddr) -> bool {
        false
    }
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        [("messages_accepted_total", 3)].into()
    }
    fn pause(&self, account: &AccountId) -> bool {
        *self.paused.lock().unwrap() = true;
        account.as_str() == "scanner@contoso.com"
    }
    fn probe(&self, account: &AccountId) -> bool {
        self.probes.fetch_add(1, Ordering::SeqCst);
        account.as_str() == "scanner@contoso.com"
    }

    fn resume(&self, account: &AccountId) -> bool {
        *self.paused.lock().unwrap() = false;
        account.as_str() == "scanner@contoso.com"
    }
}

fn id(n: i64) -> QueueId {
    QueueId::from_number(1_795_435_200_000 << 21 | n)
}

fn message(n: i64, state: State, client: &str) -> QueuedMessage {
    let to: Mailbox = "maria@contoso.com".parse().unwrap();
    QueuedMessage {
        id: id(n),
        account: AccountId::new("scanner@contoso.com"),
        client: ClientName::new(client),
        peer: None,
        reverse_path: ReversePath::Null,
        recipients: vec![Recipient::pending(to)],
        size_bytes: 100,
        received_at: WallTime::from_ms(1_795_435_200_000),
        queued_since: RelayTime::from_ms(0),
        next_attempt: RelayTime::from_ms(0),
        attempts: 0,
        state,
        finished_at: None,
        last_said: String::new(),
        outcome_unknown: false,
        charset: None,
    }
}

/// A relay on a socket in a directory of its own, for as long as this lives.
struct Running {
    relay: api::Relay,
    dir: tempfile::TempDir,
    crew: Arc<Crew>,
    fails_behind: Arc<Mutex<Option<QueueId>>>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let messages = vec![
            message(1, State::Queued, "printers"),
            message(2, State::Dead, "printers"),
            message(3, State::Queued, "front desk & co"),
        ];
        let crew = Arc::new(Crew::default());
        let shelf = Arc::new(Shelf { messages: Mutex::new(messages), ..Shelf::default() });
        let fails_behind = Arc::clone(&shelf.fails_behind);
        let relay = api::Relay {
            ledger: Arc::clone(&shelf) as _,
            notes: Arc::clone(&shelf) as _,
            health: shelf,
            clock: Clock::new(RelayTime::default(), Instant::now()),
            live: Arc::clone(&crew) as Arc<dyn Live>,
            started_at: WallTime::now(),
            is_sandbox: false,
            witness: Witness::nobody(),
        };
        let socket = dir.path().join("run/control.sock");
        let listener = {
            let _guard = runtime.enter();
            socket::bind(&socket, Access::Group).unwrap()
        };
        runtime.spawn(api::serve(listener, relay.clone(), std::future::pending()));
        let status = {
            let _guard = runtime.enter();
            socket::bind(&dir.path().join("run/status.sock"), Access::Anybody).unwrap()
        };
        runtime.spawn(anybody::serve(status, relay.clone(), std::future::pending()));
        std::fs::write(dir.path().join("mailferry.toml"), "[control]\nsocket = \"run/control.sock\"\n")
            .unwrap();
        Self { relay, dir, crew, fails_behind, runtime }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    fn status_socket(&self) -> PathBuf {
        self.dir.path().join("run/status.sock")
    }

    /// Says it to the status socket, byte by byte as it stands, and hears all there is to hear.
    fn anybody_says(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.status_socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn anybody_asks(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.anybody_says(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
        ));
        (answer[9..12].parse().unwrap(), answer)
    }

    fn cli(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        let config = self.dir.path().join("mailferry.toml");
        let mut command = assert_cmd::Command::cargo_bin("mailferry").unwrap();
        command.env_clear().env("TZ", "UTC").args(args).arg("--config").arg(config).assert()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn all(action: Action, select: Select) -> ChangeRequest {
    ChangeRequest { select, action, all: false }
}

#[test]
fn the_socket_is_for_the_group_only_and_a_stale_one_is_replaced() {
    let running = Running::new();
    assert_eq!((mode(&running.socket()), mode(running.socket().parent().unwrap())), (0o660, 0o755));

    let _guard = running.runtime.enter();
    let taken = socket::bind(&running.socket(), Access::Group).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse, "a live socket is nobody else's");

    let stale = running.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    socket::bind(&stale, Access::Group).unwrap();

    let file = running.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(socket::bind(&file, Access::Group).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn client_and_server_understand_each_other() {
    let running = Running::new();
    let client = Client::new(&running.socket());
    running.runtime.block_on(async {
        let status = client.status().await.unwrap();
        assert_eq!(
            (status.queue.queued, status.queue.dead, status.counters["messages_accepted_total"]),
            (2, 1, 3)
        );
        assert_eq!((status.accounts[0].recipients_today, status.accounts[0].recipients_last_hour), (42, 12));
        assert!(status.sentence.starts_with("needs a human: 1 message given up"), "{}", status.sentence);

        let of = |name: &str| Select { client: Some(name.to_owned()), ..Select::default() };
        let listed = client.list(&of("front desk & co")).await.unwrap();
        assert_eq!(listed.iter().map(|m| m.id).collect::<Vec<_>>(), [id(3)]);
        assert!(listed[0].next_attempt_at.is_some());

        let shown = client.show(id(1)).await.unwrap();
        assert_eq!((shown.message.id, shown.tries.len()), (id(1), 1));
        assert!(matches!(client.show(id(9)).await, Err(ClientError::NotFound(_))));

        let mut body = vec![];
        client.body(id(1), &mut body).await.unwrap();
        assert!(body.starts_with(b"Subject: scan\r\n\r\nxxx"));
        assert_eq!(body.len(), 17 + CONTENT_BYTES);

        let refused = client.change(&all(Action::Remove, Select::default())).await;
        assert!(matches!(refused, Err(ClientError::Refused(_))), "an empty selection removes nothing");
        let changed = client.change(&all(Action::Hold, of("printers"))).await.unwrap();
        assert_eq!(changed.ids, [id(1), id(2)]);
        assert_eq!(running.crew.probes.load(Ordering::SeqCst), 0, "nobody asked for a try");
        client.change(&all(Action::Retry, of("printers"))).await.unwrap();
        assert_eq!(running.crew.probes.load(Ordering::SeqCst), 1);

        client.set_paused("Scanner@contoso.com", true).await.unwrap();
        assert_eq!(client.status().await.unwrap().accounts[0].state, AccountState::Paused);
        client.set_paused("scanner@contoso.com", false).await.unwrap();
        assert!(matches!(client.set_paused("who@contoso.com", true).await, Err(ClientError::NotFound(_))));
    });
}

#[test]
fn an_admin_lists_acts_and_exports() {
    let running = Running::new();
    let (one, nine) = (id(1).to_string(), id(9).to_string());
    running.cli(&["queue", "list", "--state", "dead"]).code(0).stdout(format!(
        "id             state      received               size  from > to\n\
             {}  dead       2026-11-23 12:00      100 B  <> > maria@contoso.com\n",
        id(2)
    ));
    running.cli(&["queue", "list", &nine]).code(66);
    running.cli(&["queue", "show", &nine]).code(66).stderr("no such message\n");
    running
        .cli(&["queue", "show", &one, "--json"])
        .code(0)
        .stdout(predicates::str::contains("\"stage\": \"auth\""));
    running.cli(&["queue", "remove"]).code(64).stderr(
        "which messages?\nhint: name them by id, --state, --account, --client, --address or --since, or say --all\n",
    );
    running.cli(&["queue", "hold", &one]).code(0).stdout("1 message: held\n");
    running.cli(&["queue", "hold", &nine]).code(66);

    let to = running.dir.path().join("rescue");
    let to_text = to.display().to_string();
    running.cli(&["queue", "export", "--state", "dead", "--to", &to_text]).code(0);
    let eml = to.join(format!("{}.eml", id(2)));
    assert_eq!(std::fs::metadata(&eml).unwrap().len(), 17 + CONTENT_BYTES as u64);
    assert_eq!((mode(&eml), mode(&eml.with_extension("json")), mode(&to)), (0o600, 0o600, 0o700));
    running
        .cli(&["queue", "export", &id(2).to_string(), "--to", &to_text])
        .code(73)
        .stderr(predicates::str::contains("nothing is overwritten"));

    running.cli(&["queue", "remove", "--all"]).code(0).stdout("3 messages: removed\n");
    running.cli(&["queue", "list", "--json"]).code(0).stdout("[]\n");
}

#[test]
fn status_begins_with_the_sentence() {
    let running = Running::new();
    running
        .cli(&["status"])
        .code(0)
        .stdout(predicates::str::starts_with("needs a human: 1 message given up; 2 messages waiting;"));
    running.cli(&["account", "pause", "scanner@contoso.com"]).code(0);
    running.cli(&["status", "--json"]).code(0).stdout(predicates::str::contains("\"state\": \"paused\""));
}

#[test]
fn an_answer_that_breaks_off_says_how_far_it_came() {
    let running = Running::new();
    *running.fails_behind.lock().unwrap() = Some(id(2));
    let is_whole = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    let output = running.cli(&["queue", "list", "--json"]).code(75).get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(&id(2).to_string()) && !is_whole(&text),
        "a part must not pass for the whole: {text}"
    );
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "the queue cannot write: the disk is gone\nhint: see the log: journalctl -u mailferry\n"
    );
    running.cli(&["queue", "hold", "--all"]).code(75).stdout("").stderr(
        "2 messages: held, then: the queue cannot write: the disk is gone\n\
         hint: what is done stays done; see the log: journalctl -u mailferry\n",
    );
    let to = running.dir.path().join("rescue");
    running
        .cli(&["queue", "export", "--to", to.to_str().unwrap()])
        .code(75)
        .stderr(predicates::str::starts_with("2 messages: written, then: the queue cannot write"));
    *running.fails_behind.lock().unwrap() = None;
    let held = running.runtime.block_on(async {
        let held = Select { state: Some(State::Held), ..Select::default() };
        Client::new(&running.socket()).list(&held).await.unwrap()
    });
    assert_eq!(held.iter().map(|m| m.id).collect::<Vec<_>>(), [id(1), id(2)], "what is done is done");
}

#[test]
fn a_list_in_parts_is_one_json_array_all_the_same() {
    let running = Running::new();
    let output = running.cli(&["queue", "list", "--json"]).code(0).get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<mailferry::control::report::Message> = serde_json::from_str(&text).unwrap();
    assert_eq!(listed.iter().map(|m| m.id).collect::<Vec<_>>(), [id(1), id(2), id(3)]);
    assert_eq!(text, serde_json::to_string_pretty(&listed).unwrap() + "\n", "as if it were written at once");
}

#[test]
fn on_the_status_socket_nothing_can_be_changed_and_no_message_seen() {
    let running = Running::new();
    assert_eq!(mode(&running.status_socket()), 0o666);
    // Every route there is, read from where they are made, so that none is forgotten.
    let source = include_str!("../../src/control/api.rs");
    let routes: Vec<&str> = source
        .split(".route(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|route| *route != "/status")
        .collect();
    assert!(routes.len() >= 5 && routes.contains(&"/queue/change"), "{routes:?}");
    for route in routes {
        let path = route
            .replace("{id}", &id(1).to_string())
            .replace("{mailbox}", "scanner@contoso.com")
            .replace("{action}", "pause")
            .replace("{address}", "10.0.5.7");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let (code, answer) = running.anybody_asks(method, &path);
            assert_eq!(code, 404, "{method} {path}: {answer}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(running.anybody_asks(method, "/status").0, 405);
    }
    let changed = running.runtime.block_on(running.relay.ledger.list(Filter::default(), None)).unwrap();
    assert_eq!(changed.messages.len(), 2, "a page as it was");
    assert!(!*running.crew.paused.lock().unwrap() && running.crew.probes.load(Ordering::SeqCst) == 0);
}

#[test]
fn what_anybody_may_see_has_no_address_of_a_person_and_no_word_of_a_peer() {
    let running = Running::new();
    let at = |ms| Some(WallTime::from_ms(ms));
    let device = |address: &str, seen| ClientLive {
        name: "printers".to_owned(),
        address: Some(address.parse().unwrap()),
        last_seen_at: at(seen),
        messages_total: 2,
        last_problem: "550 5.1.3 <secret-person@fabrikam.com> is no address, said HELO-OF-MARIA".to_owned(),
        is_silent: seen == 1000,
    };
    *running.crew.clients.lock().unwrap() = vec![device("10.0.5.7", 1000), device("10.0.5.8", 2000)];
    *running.crew.troubled.lock().unwrap() = Some(AccountLive {
        account: AccountId::new("scanner@contoso.com"),
        smart_host: Place::known("smtp.office365.com", 587),
        state: AccountState::Held,
        reason: "RCPT TO: 550 5.7.64 TenantAttribution; jo.doe of <secret-person@fabrikam.com>".to_owned(),
        advice: Some(Advice::Connector),
        hint: Some("give secret-person@fabrikam.com a right".to_owned()),
        warnings: vec![],
        since: at(5),
        next_probe_at: None,
        connections: 0,
        sent_last_minute: 0,
    });
    let moment = Moment(WallTime::from_ms(5));
    running.crew.devices.lock().unwrap().refused.push(RefusedStatus {
        address: "10.0.5.99".parse().unwrap(),
        helo: "HELO-OF-MARIA".to_owned(),
        did: "wanted to send".to_owned(),
        first_seen_at: moment,
        last_seen_at: moment,
        count: 1,
        is_seen: false,
        hint: "mailferry allow 10.0.5.99".to_owned(),
    });
    let (code, answer) = running.anybody_asks("GET", "/status");
    assert_eq!(code, 200);
    assert!(answer.contains("the last reload was refused\""), "{answer}");
    for secret in ["maria", "MARIA", "secret-person", "fabrikam", "jo.doe", "10.0.5.", "HELO", "Subject"] {
        assert!(!answer.contains(secret), "{secret}: {answer}");
    }
    let status = running.runtime.block_on(Client::new(&running.status_socket()).status()).unwrap();
    assert!(status.is_abridged && status.running);
    assert_eq!(status.accounts[0].reason, Advice::Connector.meaning());
    assert_eq!(status.needs_human[0].hint, format!("see: {}", Advice::Connector.command()));
    assert_eq!(status.clients.len(), 1);
    let clients = &status.clients[0];
    assert_eq!((clients.messages_total, clients.is_silent, clients.address), (4, true, None));
    assert_eq!(clients.last_seen_at.map(|a| a.0), at(2000));
    // Who may open the control socket sees it all.
    let whole = running.runtime.block_on(Client::new(&running.socket()).status()).unwrap();
    assert!(!whole.is_abridged && whole.clients.len() == 2 && whole.accounts[0].reason.contains("jo.doe"));
}

#[test]
fn a_stranger_who_holds_connections_keeps_neither_the_admin_nor_the_next_stranger_out() {
    let running = Running::new();
    // More than anybody may hold; what is beyond is closed at once.
    let mut held: Vec<UnixStream> =
        (0..200).map(|_| UnixStream::connect(running.status_socket()).unwrap()).collect();
    let control = running.runtime.block_on(Client::new(&running.socket()).status());
    assert!(control.is_ok(), "the control socket is another one");
    let closed = |s: &mut UnixStream| {
        s.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        matches!(s.read(&mut [0]), Ok(0))
    };
    let open = loop {
        // Whoever was not let in is closed as soon as it was accepted.
        let open = held.iter_mut().filter_map(|s| (!closed(s)).then_some(())).count();
        if open <= 4 {
            break open;
        }
    };
    assert_eq!(open, 4);
    drop(held);
    // A question that does not end is not read for ever.
    let long = "x".repeat(1 << 20);
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut stream = UnixStream::connect(running.status_socket()).unwrap();
        stream.write_all(format!("GET /status HTTP/1.1\r\nlong: {long}").as_bytes()).is_err()
    }));
    assert!(answer.unwrap(), "broken off");
    assert_eq!(running.anybody_asks("GET", "/status").0, 200);
}

#[test]
fn status_takes_the_socket_it_may() {
    // Root may open any socket: as somebody else, if we can.
    let running = Running::new();
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(running.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("mailferry"));
        command.uid(65534).gid(65534);
        command
            .env_clear()
            .args(["status", "--json", "--config"])
            .arg(running.dir.path().join("mailferry.toml"));
        let output = command.output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(json["is_abridged"], true);
        command = std::process::Command::new(assert_cmd::cargo::cargo_bin("mailferry"));
        command.uid(65534).gid(65534);
        command
            .env_clear()
            .args(["queue", "list", "--config"])
            .arg(running.dir.path().join("mailferry.toml"));
        assert_eq!(command.output().unwrap().status.code(), Some(77), "the queue is not for everybody");
    }
    running.cli(&["status"]).code(0).stdout(predicates::str::contains("what anybody may see").not());
}
