//! What an admin does with the real binary to messages in every state: the same beside a running relay and without it.

use crate::support::queue::scan;
use crate::support::relay::{MAILBOX, Site, account, subjects, taken, until};
use crate::support::smart_host::{Act, At, SmartHost};
use mailferry::fact::Witness;
use mailferry::mail::{
    AccountId, Attempt, Cause, ClientName, Envelope, Failure, Progress, QueueId, Recipient, RelayTime, Reply,
    ReversePath, Stage, State, WallTime,
};
use mailferry::queue::{
    self, Change, Destination, Filter, Listing, NewMessage, Next, Notice, Queue, Settings, Settlement,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

const BINARY: &str = env!("CARGO_BIN_EXE_mailferry");
const SCANS: &str = MAILBOX;
const ARCHIVE: &str = "archive@contoso.com";
const GONE: &str = "gone@contoso.com";
const STATES: [State; 4] = [State::Queued, State::Held, State::Dead, State::Delivered];

/// One message as it is put into the queue.
#[derive(Debug, Clone, Copy)]
struct Put {
    account: &'static str,
    client: &'static str,
    peer: &'static str,
    from: &'static str,
    to: &'static str,
    state: State,
    /// 23 November 2026, so many hours into the day.
    hour: i64,
}

const PRINTER: Put = Put {
    account: SCANS,
    client: "printers",
    peer: "10.0.5.7",
    from: "copier@contoso.com",
    to: "anna@contoso.com",
    state: State::Queued,
    hour: 0,
};
const NAS: Put = Put {
    account: ARCHIVE,
    client: "nas",
    peer: "2001:db8::7",
    from: "nas@contoso.com",
    to: "Bert@Example.net",
    state: State::Queued,
    hour: 0,
};

async fn open(site: &Site) -> Queue {
    let settings = Settings { directory: site.path("queue"), min_free_space_bytes: 0 };
    until("the queue", async || queue::open(&settings, Witness::nobody()).await.ok()).await
}

/// Stores the messages in this order, each with the state it is to have; the subject is its place.
async fn fill(site: &Site, puts: &[Put]) -> Vec<QueueId> {
    let queue = open(site).await;
    let mut ids = vec![];
    for (n, put) in puts.iter().enumerate() {
        let id = queue.intake.next_id();
        let message = NewMessage {
            account: AccountId::new(put.account),
            envelope: Envelope {
                reverse_path: ReversePath::Mailbox(put.from.parse().unwrap()),
                recipients: vec![put.to.parse().unwrap()],
                client: ClientName::new(put.client),
                peer: Some(put.peer.parse().unwrap()),
            },
            head: format!(
                "Subject: {n}

"
            )
            .into_bytes(),
            received_at: WallTime::from_ms(1_795_392_000_000 + put.hour * 3_600_000),
            ..scan(id)
        };
        queue.outbox.post(vec![Notice { message, content: b"The scan.\r\n".to_vec() }]).await.unwrap();
        bring(&queue, id, put).await;
        ids.push(id);
    }
    queue.health.close().await;
    ids
}

async fn bring(queue: &Queue, id: QueueId, put: &Put) {
    let one = Filter { ids: vec![id], ..Filter::default() };
    let (progress, to) = match put.state {
        State::Queued => return,
        State::Held => {
            queue.ledger.change(one, Change::Hold, RelayTime::default(), None).await.unwrap();
            return;
        }
        State::Dead => {
            let no =
                Failure::new(Stage::Rcpt, Cause::Reply(Reply::new(550, "5.1.1 no zoe@contoso.com here")));
            (Progress::Failed(no), Destination::Dead)
        }
        State::Delivered => (Progress::Delivered(Reply::new(250, "2.0.0 OK")), Destination::Delivered),
    };
    let account = AccountId::new(put.account);
    let owned = queue.ownership.own(&account).await.unwrap();
    let mut others = vec![];
    let lease = loop {
        match queue.outbox.lease(&owned, RelayTime::default(), others.clone()).await.unwrap() {
            Next::Message(lease) if lease.message.id == id => break lease,
            Next::Message(lease) => others.push(lease.message.id),
            other => panic!("{other:?}"),
        }
    };
    let of = |r: &Recipient| Recipient { progress: progress.clone(), ..r.clone() };
    let settlement = Settlement {
        now: RelayTime::default(),
        recipients: lease.message.recipients.iter().map(of).collect(),
        attempts: 1,
        to,
        attempt: Some(Attempt {
            at: WallTime::from_ms(0),
            stage: Stage::Rcpt,
            said: "RCPT TO: 550 5.1.1 no zoe@contoso.com here".into(),
            host: "192.0.2.1".into(),
        }),
        outcome_unknown: false,
        notices: vec![],
    };
    queue.outbox.settle(lease, settlement).await.map_err(|(_, e)| e).unwrap();
}

/// What an account's admin has paused stays as it is put.
async fn pause(site: &Site, accounts: &[&str]) {
    let queue = open(site).await;
    for account in accounts {
        queue.notes.set_note(&format!("paused/{account}"), Some("paused".into())).await.unwrap();
    }
    queue.health.close().await;
}

async fn run(site: &Site, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(BINARY);
    command.env_clear().env("TZ", "UTC").args(arguments).arg("--config").arg(site.path("mailferry.toml"));
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// Its exit code and what it said to both sides.
async fn said(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let output = run(site, arguments).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn listed(site: &Site, filter: &[&str]) -> Vec<serde_json::Value> {
    let (code, stdout, stderr) = said(site, &[&["queue", "list", "--json"], filter].concat()).await;
    let slip =
        if filter.contains(&"nobody@contoso.com") { "there is no account nobody@contoso.com" } else { "" };
    assert!(
        code == 0 && stderr.starts_with(slip) && stderr.is_empty() == slip.is_empty(),
        "{filter:?}: {stderr}"
    );
    serde_json::from_str(&stdout).unwrap()
}

/// State and account of everything there is, by its id.
async fn everything(queue: &Queue) -> BTreeMap<QueueId, (State, String)> {
    let mut listing = Listing::new(Arc::clone(&queue.ledger), Filter::default());
    let mut all = BTreeMap::new();
    while let Some(page) = listing.next().await {
        all.extend(page.unwrap().messages.into_iter().map(|m| (m.id, (m.state, m.account.to_string()))));
    }
    all
}

async fn everything_stored(site: &Site) -> BTreeMap<QueueId, (State, String)> {
    let queue = open(site).await;
    let all = everything(&queue).await;
    queue.health.close().await;
    all
}

fn site(host: &SmartHost, accounts: &[&str]) -> Site {
    let site = Site::with(accounts.iter().map(|a| account(a, host, &default_of(a, accounts))).collect());
    site.write();
    site
}

/// Of several accounts, one may be without conditions.
fn default_of(account: &str, accounts: &[&str]) -> String {
    if account == accounts[0] { String::new() } else { format!("senders = [\"only-{account}\"]\n") }
}

/// All of a closed queue with small contents.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("queue.db"), to.join("queue.db")).unwrap();
}

/// Two messages in every state, four hours apart and interleaved, so that what is meant is never the oldest only.
fn in_every_state() -> Vec<Put> {
    let pair = |(n, state)| {
        let hour = i64::try_from(n).unwrap() * 4;
        [Put { state, hour, ..PRINTER }, Put { state, hour: hour + 1, ..NAS }]
    };
    STATES.into_iter().enumerate().flat_map(pair).collect()
}

/// The filter as it is typed, and which of `in_every_state` it means, in words of its own.
type Meant = fn(usize, &Put) -> bool;
const FILTERS: &[(&[&str], Meant)] = &[
    (&[], |_, _| true),
    (&["--state", "queued"], |_, p| p.state == State::Queued),
    (&["--state", "held"], |_, p| p.state == State::Held),
    (&["--state", "dead"], |_, p| p.state == State::Dead),
    (&["--state", "delivered"], |_, p| p.state == State::Delivered),
    (&["--account", ARCHIVE], |_, p| p.account == ARCHIVE),
    (&["--account", "Archive@CONTOSO.com"], |_, p| p.account == ARCHIVE),
    (&["--account", "nobody@contoso.com"], |_, _| false),
    (&["--client", "nas"], |_, p| p.client == "nas"),
    (&["--client", "10.0.5.7"], |_, p| p.client == "printers"),
    (&["--client", "2001:0db8:0::0:7"], |_, p| p.client == "nas"),
    (&["--address", "bert@example.net"], |_, p| p.client == "nas"),
    (&["--address", "BERT"], |_, p| p.client == "nas"),
    (&["--address", "copier@"], |_, p| p.client == "printers"),
    (&["--address", "<Bert@example.NET>"], |_, p| p.client == "nas"),
    (&["--address", "contoso"], |_, _| true),
    (&["--address", "zoe@contoso.com"], |_, _| false),
    (&["--since", "2026-11-23T05:00:00Z"], |_, p| p.hour >= 5),
    (&["--since", "2026-11-24"], |_, _| false),
    (&["--address", "bert", "--state", "dead"], |_, p| p.client == "nas" && p.state == State::Dead),
    (&["--address", "bert", "--account", SCANS], |_, _| false),
    (&["--client", "nas", "--since", "2026-11-23T05:00:00Z", "--address", "bert"], |_, p| {
        p.client == "nas" && p.hour >= 5
    }),
];

/// Every filter by itself, and some with a limit: it counts what is meant, and not what is looked at.
fn cases() -> Vec<(Vec<String>, Meant, usize)> {
    let mut cases = vec![];
    for (filter, meant) in FILTERS {
        let is_limited = filter.is_empty() || filter.contains(&"BERT") || filter.contains(&"dead");
        for limit in if is_limited { [0_usize, 1, 3].as_slice() } else { [0].as_slice() } {
            let mut filter: Vec<String> = filter.iter().map(ToString::to_string).collect();
            if *limit > 0 {
                filter.extend(["--limit".to_owned(), limit.to_string()]);
            }
            cases.push((filter, *meant, *limit));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_filter_finds_what_it_names_in_every_state_running_and_stopped() {
    let host = SmartHost::start().await;
    let site = site(&host, &[SCANS, ARCHIVE]);
    let puts = in_every_state();
    let ids = fill(&site, &puts).await;
    pause(&site, &[SCANS, ARCHIVE]).await;
    for is_running in [true, false] {
        let relay = if is_running { Some(site.start().await) } else { None };
        for (filter, meant, limit) in cases() {
            let named = |(n, put): &(usize, &Put)| meant(*n, put);
            let meant = puts.iter().enumerate().filter(named);
            let most = if limit == 0 { usize::MAX } else { limit };
            let expected: Vec<String> = meant.take(most).map(|(n, _)| ids[n].to_string()).collect();
            let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
            let found = listed(&site, &filter).await;
            let found: Vec<_> = found.iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect();
            assert_eq!(found, expected, "list {filter:?}, running: {is_running}");

            let to = tempfile::tempdir().unwrap();
            let to_text = to.path().display().to_string();
            let arguments = [&["queue", "export", "--to", &to_text], filter.as_slice()].concat();
            let (code, stdout, stderr) = said(&site, &arguments).await;
            let files = std::fs::read_dir(to.path()).unwrap().map(|e| e.unwrap().file_name());
            let mut files: Vec<_> =
                files.filter_map(|f| Some(f.to_str()?.strip_suffix(".json")?.to_owned())).collect();
            files.sort();
            assert_eq!((code, files), (0, expected), "export {filter:?}: {stdout}{stderr}");
        }
        let [first, last] = [ids[0], ids[7]].map(|id| id.to_string());
        let found = listed(&site, &[&last, &first, "--address", "bert"]).await;
        assert_eq!(found.len(), 1, "ids and an address together, running: {is_running}");
        if let Some(relay) = relay {
            relay.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_filter_means_the_same_to_every_change_running_and_stopped() {
    let host = SmartHost::start().await;
    let first = site(&host, &[SCANS, ARCHIVE]);
    let puts = in_every_state();
    let ids = fill(&first, &puts).await;
    pause(&first, &[SCANS, ARCHIVE]).await;
    let before = everything_stored(&first).await;
    // What each change is to whom, and what it leaves.
    type Becomes = fn(&Put, &[&str]) -> Option<Option<(State, &'static str)>>;
    let changes: [(&[&str], Becomes); 5] = [
        (&["retry"], |p, _| {
            matches!(p.state, State::Queued | State::Dead).then_some(Some((State::Queued, p.account)))
        }),
        (&["hold"], |p, _| (p.state == State::Queued).then_some(Some((State::Held, p.account)))),
        (&["release"], |p, _| (p.state == State::Held).then_some(Some((State::Queued, p.account)))),
        (&["remove"], |p, filter| {
            (p.state != State::Delivered || filter.contains(&"delivered")).then_some(None)
        }),
        (&["move", "--to", ARCHIVE], |p, _| {
            (p.state != State::Delivered && p.account != ARCHIVE).then_some(Some((p.state, ARCHIVE)))
        }),
    ];
    for is_running in [true, false] {
        // Beside a relay two of them will do: its part is the same for all, and each case needs one of its own.
        for (change, becomes) in
            changes.into_iter().filter(|(c, _)| !is_running || ["hold", "move"].contains(&c[0]))
        {
            for (filter, meant, limit) in cases() {
                let site = site(&host, &[SCANS, ARCHIVE]);
                copy(&first.path("queue"), &site.path("queue"));
                let relay = if is_running { Some(site.start().await) } else { None };
                let mut arguments = vec!["queue"];
                arguments.extend(change);
                let mut filter: Vec<&str> = filter.iter().map(String::as_str).collect();
                if filter.is_empty() || filter[0] == "--limit" {
                    filter.insert(0, "--all");
                }
                arguments.extend(&filter);
                let mut expected = before.clone();
                let mut changed = 0;
                for (n, put) in puts.iter().enumerate().filter(|(n, put)| meant(*n, put)) {
                    let Some(after) = becomes(put, &filter).filter(|_| limit == 0 || changed < limit) else {
                        continue;
                    };
                    changed += 1;
                    match after {
                        Some((state, account)) => {
                            expected.insert(ids[n], (state, account.to_owned()));
                        }
                        None => drop(expected.remove(&ids[n])),
                    }
                }
                let (code, stdout, stderr) = said(&site, &arguments).await;
                assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
                let counted: usize =
                    stdout.lines().map(|l| l.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
                assert_eq!(counted, changed, "{arguments:?}, running: {is_running}: {stdout}");
                let after = match relay {
                    Some(relay) => {
                        let after = everything(relay.relay.queue()).await;
                        relay.stop().await;
                        after
                    }
                    None => everything_stored(&site).await,
                };
                assert_eq!(after, expected, "{arguments:?}, running: {is_running}");
            }
        }
    }
}

#[tokio::test]
async fn an_option_without_a_value_names_nothing_and_changes_nothing() {
    let host = SmartHost::start().await;
    let site = site(&host, &[SCANS]);
    fill(&site, &[PRINTER]).await;
    // As `--address "$UNSET"` is.
    for option in ["--address", "--client", "--account"] {
        for command in ["remove", "hold", "list"] {
            let (code, _, stderr) = said(&site, &["queue", command, option, ""]).await;
            assert_eq!(code, 64, "{command} {option}: {stderr}");
        }
    }
    assert_eq!(everything_stored(&site).await.len(), 1);
}

#[tokio::test]
async fn mail_of_an_account_that_is_gone_is_told_and_moved_running_and_stopped() {
    for is_running in [true, false] {
        let host = SmartHost::start().await;
        let site = site(&host, &[SCANS]);
        let gone = |state| Put { account: GONE, state, ..PRINTER };
        let puts = [gone(State::Queued), gone(State::Held), gone(State::Dead), gone(State::Delivered)];
        let ids = fill(&site, &puts).await;
        let relay = if is_running { Some(site.start().await) } else { None };

        let (_, status, _) = said(&site, &["status"]).await;
        let command = "mailferry queue move --account gone@contoso.com --to scanner@contoso.com";
        let status = status.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(status.contains("2 messages for gone@contoso.com, which is no account"), "{status}");
        assert!(status.contains(command), "{status}");

        for retried in [ids[0], ids[2]] {
            let (code, stdout, stderr) = said(&site, &["queue", "retry", &retried.to_string()]).await;
            assert_eq!(code, 66);
            assert_eq!(stdout, "1 message: not tried, as nobody sends for gone@contoso.com\n");
            assert!(stderr.starts_with("there is no account gone@contoso.com: nobody will send"), "{stderr}");
            assert!(stderr.contains(command), "{stderr}");
        }
        for to in ["nobody@contoso.com", GONE] {
            let (code, _, stderr) = said(&site, &["queue", "move", "--account", GONE, "--to", to]).await;
            let expected =
                format!("there is no account {to}; accounts go by their mailbox: scanner@contoso.com\n");
            assert_eq!((code, stderr), (66, expected), "running: {is_running}");
        }

        let (code, stdout, stderr) =
            said(&site, &["queue", "move", "--account", "Gone@Contoso.com", "--to", "SCANNER@contoso.com"])
                .await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert_eq!(stdout, "3 messages: moved to scanner@contoso.com\n");
        let relay = match relay {
            Some(relay) => relay,
            None => site.start().await,
        };
        taken(&host, 2).await;
        assert_eq!(subjects(&host), ["0", "2"], "in order of arrival");
        relay.admin.until(1, State::Held).await;
        let all = everything(relay.relay.queue()).await;
        assert_eq!(all[&ids[1]], (State::Held, SCANS.to_owned()));
        assert_eq!(all[&ids[3]], (State::Delivered, GONE.to_owned()), "history stays");
        let (_, status, _) = said(&site, &["status"]).await;
        assert!(!status.contains("gone@contoso.com"), "{status}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn mail_that_waits_for_a_person_is_not_said_to_be_tried_now() {
    let host = SmartHost::start().await;
    host.always(At::Auth, Act::say("535 5.7.3 Authentication unsuccessful"));
    let site = site(&host, &[SCANS, ARCHIVE]);
    let puts = [PRINTER, NAS, Put { account: GONE, ..PRINTER }];
    let ids = fill(&site, &puts).await;
    pause(&site, &[ARCHIVE]).await;
    let paused = "1 message: to be tried when archive@contoso.com is no longer paused\n";
    let nobody = "1 message: not tried, as nobody sends for gone@contoso.com\n";

    let (code, stdout, stderr) = said(&site, &["queue", "retry", "--all"]).await;
    assert_eq!((code, stdout), (66, format!("1 message: to be tried when mailferry runs\n{paused}{nobody}")));
    assert!(stderr.contains("mailferry account resume archive@contoso.com"), "{stderr}");

    let relay = site.start().await;
    until("a refused login", async || {
        let status = relay.admin.0.status().await.unwrap();
        (status.accounts[0].state == mailferry::control::report::AccountState::Held).then_some(())
    })
    .await;
    let (code, stdout, stderr) = said(&site, &["queue", "retry", "--all"]).await;
    assert_eq!((code, stdout), (66, format!("1 message: to be tried now\n{paused}{nobody}")));
    assert!(stderr.contains("scanner@contoso.com cannot send: AUTH: 535 5.7.3"), "{stderr}");
    assert!(stderr.contains("one message is tried"), "{stderr}");
    let (code, stdout, stderr) = said(&site, &["queue", "hold", &ids[2].to_string()]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "1 message: held\n", ""));
    let (code, stdout, stderr) = said(&site, &["queue", "release", &ids[2].to_string()]).await;
    assert_eq!((code, stdout.as_str()), (0, "1 message: released\n"));
    assert!(stderr.contains("queue move --account gone@contoso.com --to MAILBOX"), "{stderr}");
    relay.stop().await;
}

fn serve(site: &Site) -> std::process::Command {
    let mut command = std::process::Command::new(BINARY);
    command.env_clear().arg("serve").arg("--config").arg(site.path("mailferry.toml"));
    command
}

#[tokio::test]
async fn a_dead_letter_ends_by_keep_dead_told_ahead_and_leaves_its_digest_in_the_log() {
    let host = SmartHost::start().await;
    let mut site = site(&host, &[SCANS]);
    site.queue_more = "keep_dead = \"2 s\"\n".to_owned();
    site.write();
    let dead = Put { state: State::Dead, ..PRINTER };
    let ids = fill(&site, &[dead, Put { state: State::Held, ..NAS }]).await;
    let to = site.path("rescue");
    let (code, ..) = said(&site, &["queue", "export", "--state", "dead", "--to", to.to_str().unwrap()]).await;
    assert_eq!(code, 0);
    let eml = std::fs::read(to.join(format!("{}.eml", ids[0]))).unwrap();
    let digest: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &eml)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();

    let log = site.path("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut daemon = serve(&site).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let line = |words: &'static str| {
        let log = log.clone();
        async move {
            until(words, async || {
                std::fs::read_to_string(&log).unwrap().lines().find(|l| l.contains(words)).map(str::to_owned)
            })
            .await
        }
    };
    line("1 dead letters will be removed for good, as keep_dead says").await;
    let (_, status, _) = said(&site, &["status"]).await;
    assert!(status.contains("1 dead letter will be removed for good, as keep_dead says"), "{status}");
    let removed = line("removed for good, given up at").await;
    for part in [&ids[0].to_string(), &digest, "copier@contoso.com", "anna@contoso.com"] {
        assert!(removed.contains(part), "{part}: {removed}");
    }
    until("the dead letter's end", async || {
        listed(&site, &["--state", "dead"]).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(listed(&site, &["--state", "held"]).await.len(), 1, "and nothing else ends");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[tokio::test]
async fn a_wall_clock_that_was_or_is_wrong_ends_nothing() {
    let host = SmartHost::start().await;
    let mut site = site(&host, &[SCANS]);
    site.queue_more = "keep_dead = \"30 days\"\nkeep_history = \"30 days\"\n".to_owned();
    site.write();
    let put = |state| Put { state, ..PRINTER };
    fill(&site, &[put(State::Dead), put(State::Delivered)]).await;
    // Given up and delivered in 1970, by a clock without a battery; and the last run's was a century ahead.
    let conn = rusqlite::Connection::open(site.path("queue").join("queue.db")).unwrap();
    conn.execute_batch("UPDATE message SET finished_at = 1; UPDATE clock SET wall_ms = 4951152000000")
        .unwrap();
    drop(conn);
    for _ in 0..2 {
        let relay = site.start().await;
        let status = relay.admin.0.status().await.unwrap();
        assert_eq!(status.queue.dead, 1, "{}", status.sentence);
        relay.stop().await;
    }
    let states: Vec<State> = everything_stored(&site).await.into_values().map(|(state, _)| state).collect();
    assert_eq!(states, [State::Dead, State::Delivered]);
}

#[tokio::test]
async fn what_is_being_sent_is_passed_over_and_named() {
    let host = SmartHost::start().await;
    host.always(At::FinalDot, Act::Stall);
    let mut site = site(&host, &[SCANS, ARCHIVE]);
    // One at a time; the next is ready beside it.
    site.accounts =
        site.accounts.replacen("messages_per_minute", "max_connections = 1\nmessages_per_minute", 1);
    let ids = fill(&site, &[PRINTER; 6]).await.iter().map(QueueId::to_string).collect::<Vec<_>>();
    let relay = site.start().await;
    until("a message at the smart host", async || (host.recorded().stalls == 1).then_some(())).await;
    let mut left = 6;
    for (command, did) in [
        (
            ["move", "--account", SCANS, "--to", ARCHIVE, "--limit", "1"].as_slice(),
            "moved to archive@contoso.com",
        ),
        (&["hold", "--account", SCANS, "--limit", "2"], "held"),
        (&["remove", "--account", SCANS], "removed"),
    ] {
        let (code, stdout, stderr) = said(&site, &[&["queue"], command].concat()).await;
        let (note, hint) = stderr.split_once("\nhint: ").unwrap();
        let named = note.strip_prefix("not changed, as they are being sent at this moment: ").unwrap();
        assert!(named.starts_with(&ids[0]) && hint.contains("say it again"), "{stderr}");
        let changed: usize = stdout.split(' ').next().unwrap().parse().unwrap();
        assert!(code == 0 && stdout.trim_end().ends_with(did), "{command:?}: {stdout}");
        left = if did == "removed" {
            assert_eq!(
                changed + named.split(' ').count(),
                left,
                "each is changed or named: {stdout}{stderr}"
            );
            named.split(' ').count()
        } else {
            left - usize::from(did.starts_with("moved"))
        };
    }
    let (code, stdout, stderr) = said(&site, &["queue", "remove", &ids[0]]).await;
    assert_eq!((code, stdout.as_str()), (75, "0 messages: removed\n"));
    assert!(stderr.starts_with(&format!("not changed: {}\n", ids[0])), "{stderr}");
    assert_eq!(listed(&site, &["--account", SCANS]).await.len(), left);
    drop(relay);
}

#[tokio::test]
async fn a_name_that_nothing_goes_by_is_told_and_not_taken_for_an_empty_queue() {
    let host = SmartHost::start().await;
    let site = site(&host, &[SCANS]);
    fill(&site, &[Put { state: State::Dead, ..PRINTER }]).await;
    let relay = site.start().await;
    for (option, name, slip) in [
        ("--client", "pritners", "there is no client pritners, and no mail of one\nhint: there are: "),
        (
            "--account",
            "nobody@contoso.com",
            "there is no account nobody@contoso.com, and no mail of one\nhint: ",
        ),
        ("--client", "10.9.9.9", ""),
        // No client any more, but there is mail of it.
        ("--client", "printers", ""),
    ] {
        let (code, _, stderr) = said(&site, &["queue", "list", option, name]).await;
        assert_eq!(code, 0, "{name}");
        assert!(stderr.starts_with(slip) && stderr.is_empty() == slip.is_empty(), "{name}: {stderr}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn an_export_says_which_contents_are_not_kept() {
    let host = SmartHost::start().await;
    let site = site(&host, &[SCANS]);
    fill(&site, &[PRINTER, Put { state: State::Delivered, ..PRINTER }]).await;
    let to = site.path("rescue").display().to_string();
    let (code, stdout, stderr) = said(&site, &["queue", "export", "--to", &to]).await;
    let expected = format!(
        "2 messages written to {to}, 1 of them as .json only, as the content of what was delivered is not kept\n"
    );
    assert_eq!((code, stdout, stderr.as_str()), (0, expected, ""));
}
