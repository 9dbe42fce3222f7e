//! One of each fact, and of those that are worded in several ways, one of each wording.

use crate::fact::{Fact, daemon, dispatch, notify, queue, receive, submit, token};
use crate::mail::{
    AccountId, Cause, ClientName, Failure, Mailbox, Place, Progress, QueueId, QueuedMessage, Recipient,
    RelayTime, Reply, ReversePath, Stage, State, WallTime,
};
use crate::policy::admission::Standing;
use crate::policy::advice::Advice;
use crate::policy::breaker::Why;
use crate::policy::expiry::Expiry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn id() -> QueueId {
    QueueId::from_number(1_795_435_200_000 << 15)
}

fn account() -> AccountId {
    AccountId::new("scanner@contoso.com")
}

fn address() -> SocketAddr {
    "192.0.2.25:25".parse().unwrap()
}

pub(in crate::fact) fn all() -> Vec<Fact> {
    let mut all = receive();
    all.extend(queue());
    all.extend(token());
    all.extend(submit());
    all.extend(dispatch());
    all.extend(notify());
    all.extend(daemon());
    all
}

fn receive() -> Vec<Fact> {
    use receive::Fact::*;
    let peer: IpAddr = Ipv4Addr::new(10, 0, 5, 7).into();
    let client = ClientName::new("printers");
    let standing = Standing::Device;
    let missing = |lf_dot_lf| EndOfDataMissing { peer, client: client.clone(), raw_bytes: 12, lf_dot_lf };
    let mailbox = |text: &str| -> Mailbox { text.parse().unwrap() };
    let facts = vec![
        Listening { address: address() },
        AcceptFailed { address: address(), why: "Too many open files (os error 24)".into() },
        AcceptRecovered { address: address() },
        Connected { peer, client: Some(client.clone()) },
        TurnedAway { peer, client: None, reply: "421 4.7.0 too many\r\n".into(), hint: ". hint: raise it" },
        RelayRefused { peer, helo: b"NPIF65E56".to_vec() },
        RecipientRefused { peer, client: client.clone(), why: "not an address".into() },
        RateLimited { peer, client: client.clone(), per_minute: 25 },
        UnknownParameters { peer, parameters: vec!["XPRINT=1".into(), "A".into()] },
        Queued {
            id: id(),
            peer,
            client: client.clone(),
            from: ReversePath::Mailbox(mailbox("mfp@contoso.com")),
            to: vec![mailbox("it@contoso.com"), mailbox("hr@contoso.com")],
            size_bytes: 4096,
            helo: b"NPIF65E56".to_vec(),
        },
        DevicesNotKept { why: "the disk is full".into() },
        MessageRefused { peer, client: client.clone(), reply: "552 5.3.4 too large\r\n".into() },
        QueueRefused {
            peer,
            client: client.clone(),
            why: "not enough space".into(),
            unable: receive::Unable::NoSpace,
        },
        missing(false),
        missing(true),
        ClosedInData { peer, client: client.clone(), raw_bytes: 12 },
        TlsOnPlainPort { peer, standing },
        OtherProtocol { peer, standing, protocol: "HTTP" },
        AuthNotOffered { peer, standing },
        AuthInTheClear { peer, standing },
        LoggedIn { peer, user: "printer".into() },
        LoginFailed { peer, standing, user: b"root\r\n".to_vec() },
        HandshakeFailed { peer, standing, why: "received fatal alert".into() },
        TooManyErrors { peer, standing },
    ];
    facts.into_iter().map(Fact::from).collect()
}

fn queue() -> Vec<Fact> {
    use queue::Fact::*;
    let kept = PathBuf::from("/var/lib/mailferry/damaged/1");
    let error = || "disk I/O error".to_owned();
    let facts = vec![
        Opened { directory: "/var/lib/mailferry".into() },
        Closed,
        Committed,
        TransactionFailed { error: error() },
        SyncFailed { error: error() },
        CheckpointFailed { error: error() },
        GivenUp { why: "3 syncs failed within a minute".into() },
        ContentMissing { id: id(), error: error() },
        ContentDamaged { id: id() },
        OrphansRemoved { count: 2 },
        BallastReleased { size_bytes: 1 << 20 },
        RowUnreadable { id: id(), error: error() },
        Upgraded { from: 1, to: 3 },
        TidyingFailed { error: error() },
        Unclaimed { id: id(), directory: "/var/lib/mailferry/unclaimed".into() },
        LogKept { size_bytes: 64 << 20 },
        SettledBeside { id: id(), error: error() },
        SettledAfterAll { id: id() },
        SettledWithoutRow { id: id() },
        DamageFound { kept: kept.clone() },
        MessageLost { id: id(), kept: kept.clone() },
        Rebuilt { messages: 40, lost: 1, unreadable_pages: 2, kept },
        Reindexed,
        RebuildFailed { error: error() },
        HandOverInterrupted { id: id() },
        UnreadableKept { count: 3 },
        Changed { how: "retried", count: 22 },
    ];
    facts.into_iter().map(Fact::from).collect()
}

fn token() -> Vec<Fact> {
    use token::Fact::*;
    let expiry = Expiry { what: "client secret", at: WallTime::from_ms(20_000 * DAY_MS) };
    let expires = |days: i64| CredentialExpires {
        account: account(),
        client_id: "11111111-2222-3333-4444-555555555555".to_owned(),
        expiry,
        now: WallTime::from_ms((20_000 - days) * DAY_MS),
    };
    let facts = vec![
        Requested { account: account() },
        Fetched { account: account(), good_for: s(3599) },
        Unavailable {
            account: account(),
            said: "no answer in time".into(),
            retry_in: s(10),
            meaning: "it is busy".into(),
        },
        Refused {
            account: account(),
            said: "AADSTS7000215".into(),
            retry_in: s(300),
            meaning: "the secret is wrong".into(),
            remedy: vec!["make a new one".into()],
        },
        Rejected { account: account(), again: true },
        Rejected { account: account(), again: false },
        SignedIn { account: account() },
        expires(7),
        expires(-1),
    ];
    facts.into_iter().map(Fact::from).collect()
}

fn submit() -> Vec<Fact> {
    use submit::Fact::*;
    let host = || "smtp.office365.com".to_owned();
    let facts = vec![
        Connected { host: host(), address: address(), tls: Some("TLSv1.3".into()), signed_in: true },
        TokenAccepted { account: account() },
        TokenChallenged { host: host(), json: b"{\"status\":\"401\"}".to_vec() },
        PasswordStandsIn { account: account(), why: "no token".into(), until: "2026-12-31".parse().unwrap() },
        TransactionTaken { id: id(), recipients: 2, size_bytes: 4096 },
        ClosedByPeer { host: "192.0.2.25:587".into(), cause: Cause::Timeout },
        TransactionFailed { id: id(), failure: Failure::new(Stage::FinalDot, Cause::Timeout) },
    ];
    facts.into_iter().map(Fact::from).collect()
}

fn dispatch() -> Vec<Fact> {
    use dispatch::Fact::*;
    let said = || "451 4.7.0 Temporary server error. PRX4".to_owned();
    let why = || "disk I/O error".to_owned();
    let advice = Some(Advice::Proxy);
    let persistent = |why| Persistent { said: said(), lasting: s(900), advice, remedy: vec![], why };
    let facts = vec![
        Delivered { id: id(), said: "250 2.0.0 OK".into(), after: Duration::from_millis(1500) },
        TakenInPart { id: id(), said: "250 2.0.0 OK".into(), taken: 100, left: 20 },
        Deferred { id: id(), said: said(), retry_in: s(30), attempts: 1 },
        Dead { id: id(), said: "550 5.1.1 unknown".into(), advice: Some(Advice::NoSuchRecipient) },
        Dead { id: id(), said: "550 5.1.1 unknown".into(), advice: None },
        OutcomeUnknown { id: id(), said: "no answer in time".into() },
        BackingOff { said: said(), retry_in: s(5), advice },
        Held {
            said: "535 5.7.139".into(),
            retry_in: s(60),
            advice: Some(Advice::WrongPassword),
            remedy: vec![],
        },
        persistent(Why::NeverWorked),
        persistent(Why::AnotherWorks),
        persistent(Why::TooLong),
        persistent(Why::Seldom),
        StillOut { said: said(), lasting: s(900), advice, remedy: vec!["wait".into()] },
        Recovered { lasted: s(1200) },
        FewerConnections { said: "421 4.3.2".into(), allowed: 2 },
        ExtraConnectionFailed { said: "421 4.3.2".into(), retry_in: s(60) },
        SettlementRefused { id: id(), why: why(), is_full: true },
        SettlementLost { id: id(), why: why() },
        LeaseFailed { why: why() },
        Stopped,
        Stranded { messages: 4 },
        DrainAbandoned,
        NoteLost { name: "breaker/scanner@contoso.com".into(), why: why() },
        NoticeWithheld { id: id() },
    ];
    let told = |fact: dispatch::Fact| {
        let place = fact.names_place().then(|| Place::known("smtp.office365.com", 587));
        dispatch::Told { account: account(), place, fact }.into()
    };
    facts.into_iter().map(told).collect()
}

fn notify() -> Vec<Fact> {
    use notify::Fact::*;
    let channel = || "webhook 1".to_owned();
    let facts = vec![
        Sent { channel: channel(), incidents: 2 },
        Sent { channel: "heartbeat".into(), incidents: 0 },
        Failed { channel: channel(), said: "no answer in time".into(), lasting: s(3600) },
        NotRemembered { channel: channel(), said: "disk I/O error".into() },
    ];
    facts.into_iter().map(Fact::from).collect()
}

fn daemon() -> Vec<Fact> {
    use daemon::Fact::*;
    let at = WallTime::from_ms(1_795_435_200_000);
    let expiry = Expiry { what: "certificate", at: WallTime::from_ms(20_000 * DAY_MS) };
    let recipient = Recipient {
        mailbox: "it@contoso.com".parse().unwrap(),
        progress: Progress::Delivered(Reply::new(250, "OK")),
        deferrals: Default::default(),
    };
    let message = QueuedMessage {
        id: id(),
        account: account(),
        client: ClientName::new("printers"),
        peer: None,
        reverse_path: ReversePath::Null,
        recipients: vec![recipient],
        size_bytes: 4096,
        received_at: at,
        queued_since: RelayTime::default(),
        next_attempt: RelayTime::default(),
        attempts: 1,
        state: State::Dead,
        finished_at: Some(at),
        last_said: "550 5.1.1 unknown".into(),
        outcome_unknown: false,
        charset: None,
    };
    let facts = vec![
        Started { listening: vec![address()], accounts: vec![account()] },
        Stopping,
        Stopped,
        GivenAtStart { keys: vec!["account.password".into()] },
        Reloaded,
        RestartNeeded { keys: vec!["listen.address", "control.socket"] },
        ReloadRefused { problem: "mailferry.toml:3: unknown key".into() },
        ConfigurationChanged { path: "/etc/mailferry/mailferry.toml".into() },
        CertificateTaken { listener: address() },
        CertificateNotTaken { listener: address(), why: "not a certificate".into() },
        CertificateEnds { listener: address(), expiry, now: WallTime::from_ms(19_993 * DAY_MS) },
        DiskFailed { why: "disk I/O error".into() },
        ControlFailed { why: "disk I/O error".into() },
        NotHardened { why: "not permitted".into() },
        Sandboxed { address: address(), queue: "/var/lib/mailferry/sandbox".into() },
        SandboxStopped { error: "not permitted".into() },
        HistoryForgotten { delivered: 17 },
        DeadLettersEnd { count: 2, and_more: true, first: at },
        DeadLetterEnds { message: Box::new(message), sha256: "d53d5fef".into() },
        DeadLetterStays { id: id() },
        DeadLettersEnded { removed: 2, kept: 1 },
        PruneFailed { why: "disk I/O error".into() },
    ];
    facts.into_iter().map(Fact::from).collect()
}
