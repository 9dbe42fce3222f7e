use super::observation::{NotTaken, Trouble};
use super::*;
use crate::mail::{AccountId, Place, QueueId};
use crate::policy::advice::Advice;

const DAY_MS: i64 = 86_400_000;

fn at(ms: i64) -> WallTime {
    WallTime::from_ms(ms)
}

fn account() -> AccountId {
    AccountId::new("scanner@contoso.com")
}

fn trouble(advice: Advice) -> Trouble {
    Trouble {
        account: account(),
        smart_host: Place::known("smtp.office365.com", 587),
        said: "the server said so".to_owned(),
        advice: Some(advice),
        remedy: vec![],
    }
}

fn waits(is_setting: bool) -> Observation {
    Observation::AccountWaits { trouble: trouble(Advice::Proxy), is_setting }
}

fn credential(days_left: i64) -> Observation {
    Observation::Credential {
        subject: "scanner@contoso.com client secret".to_owned(),
        what: format!("the client secret ends in {days_left} days"),
        steps: vec![],
        days_left,
    }
}

fn given_up(advice: Advice, messages: u64) -> Observation {
    Observation::GivenUp {
        account: account(),
        smart_host: Place::known("smtp.office365.com", 587),
        advice: Some(advice),
        messages,
        example: Some((QueueId::from_number(7), "550".to_owned())),
    }
}

fn recipients(used: u64) -> Observation {
    Observation::Recipients { account: account(), used, limit: 1000 }
}

fn space(free_mib: u64) -> Observation {
    let directory = "/var/lib/mailferry".into();
    Observation::DiskSpace { free_bytes: free_mib << 20, min_free_bytes: 500 << 20, directory }
}

fn late(hours: Option<u64>) -> Observation {
    Observation::Oldest {
        waiting: hours.map(|h| (Duration::from_secs(h * 3600), 3)),
        warn_after: Duration::from_secs(4 * 3600),
    }
}

fn refused() -> Observation {
    Observation::DeviceRefused {
        address: "10.0.9.9".parse().unwrap(),
        did: "tried to relay and is in no client network".to_owned(),
        steps: vec!["mailferry allow 10.0.9.9 --as printers".to_owned()],
    }
}

fn queue_refused(is_full: bool) -> Observation {
    Observation::QueueRefused { is_full, said: "x".to_owned(), directory: "/var/lib/mailferry".into() }
}

fn silent(since: Option<i64>) -> Observation {
    Observation::DeviceSilence { subject: "printers 10.0.5.7".to_owned(), silent_since: since.map(at) }
}

fn not_taken(why: NotTaken) -> Observation {
    Observation::ConfigurationNotTaken { why, what: "x".to_owned(), step: "y".to_owned() }
}

fn stands_in(days_left: i64) -> Observation {
    Observation::PasswordStandsIn {
        account: account(),
        said: "AADSTS7000222".to_owned(),
        until: "2026-12-31".to_owned(),
        days_left,
    }
}

fn notice(works: bool) -> Observation {
    let channel = "webhook 1".to_owned();
    if works {
        Observation::NoticeDelivered { channel }
    } else {
        Observation::NoticeFailed { channel, said: "timeout".to_owned() }
    }
}

/// What is told, in short: `+` opened, `~` changed, `-` recovered.
fn told(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| {
            let (sign, i) = match change {
                Change::Opened(i) => ('+', i),
                Change::Changed(i) => ('~', i),
                Change::Recovered(i) => ('-', i),
            };
            let name = |v: serde_json::Value| v.as_str().unwrap().to_owned();
            let (kind, severity) =
                (serde_json::to_value(i.kind).unwrap(), serde_json::to_value(i.severity).unwrap());
            format!("{sign}{} {}", name(kind), name(severity))
        })
        .collect()
}

/// Each row of the table: what opens it, what is no news, what changes it, what ends it.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_kind_opens_changes_and_ends() {
    use Advice::{NoSuchRecipient, SendAs, WrongPassword};
    let held = |advice| Observation::AccountHeld(trouble(advice));
    type Steps = Vec<(Observation, &'static [&'static str])>;
    let rows: Vec<(&str, Steps)> = vec![
        (
            "a refused login",
            vec![
                (held(WrongPassword), &["+account_held needs_you"]),
                (held(WrongPassword), &[]),
                (held(Advice::AccountLocked), &["~account_held needs_you"]),
                (Observation::AccountWorks(account()), &["-account_held needs_you"]),
                (Observation::AccountWorks(account()), &[]),
            ],
        ),
        (
            "an outage that turns out to be a setting",
            vec![
                (waits(false), &["+account_waiting waiting"]),
                (waits(false), &[]),
                (waits(true), &["~account_waiting needs_you"]),
                (Observation::AccountWorks(account()), &["-account_waiting needs_you"]),
            ],
        ),
        (
            "an outage after which the login is refused",
            vec![
                (waits(false), &["+account_waiting waiting"]),
                (held(WrongPassword), &["+account_held needs_you"]),
                (Observation::AccountWorks(account()), &["-account_held needs_you"]),
            ],
        ),
        (
            "the password stands in",
            vec![
                (stands_in(30), &["+password_stands_in needs_you"]),
                (stands_in(29), &[]),
                (Observation::OAuthWorks(account()), &["-password_stands_in needs_you"]),
            ],
        ),
        (
            "a credential ends",
            vec![
                (credential(31), &[]),
                (credential(30), &["+credential_ends warning"]),
                (credential(29), &[]),
                (credential(14), &["~credential_ends warning"]),
                (credential(7), &["~credential_ends needs_you"]),
                (credential(1), &["~credential_ends needs_you"]),
                (credential(0), &[]),
                (credential(-1), &["~credential_ends needs_you"]),
                (credential(365), &["-credential_ends needs_you"]),
            ],
        ),
        (
            "the day's recipients",
            vec![
                (recipients(799), &[]),
                (recipients(800), &["+recipients_near_limit warning"]),
                (recipients(1000), &[]),
                (recipients(700), &[]),
                (recipients(699), &["-recipients_near_limit warning"]),
            ],
        ),
        (
            "dead letters by a setting",
            vec![
                (given_up(SendAs, 1), &["+messages_given_up needs_you"]),
                (given_up(SendAs, 2), &[]),
                (given_up(SendAs, 10), &["~messages_given_up needs_you"]),
                (given_up(SendAs, 9), &[]),
                (given_up(SendAs, 0), &["-messages_given_up needs_you"]),
            ],
        ),
        (
            "a mistyped address",
            vec![
                (given_up(NoSuchRecipient, 1), &["+messages_given_up information"]),
                (given_up(NoSuchRecipient, 0), &["-messages_given_up information"]),
            ],
        ),
        (
            "late mail",
            vec![
                (late(Some(3)), &[]),
                (late(Some(4)), &["+messages_late warning"]),
                (late(Some(9)), &[]),
                (late(None), &["-messages_late warning"]),
            ],
        ),
        (
            "a full disk",
            vec![
                (queue_refused(true), &["+queue_refuses needs_you"]),
                (queue_refused(false), &[]),
                (Observation::QueueTook, &["-queue_refuses needs_you"]),
                (Observation::QueueTook, &[]),
            ],
        ),
        (
            "a disk that fills",
            vec![
                (space(1000), &[]),
                (space(999), &["+disk_low warning"]),
                (space(600), &[]),
                (space(1001), &["-disk_low warning"]),
            ],
        ),
        (
            "a device outside",
            vec![
                (refused(), &["+device_refused warning"]),
                (refused(), &[]),
                (Observation::DeviceWelcome("10.0.9.9".parse().unwrap()), &["-device_refused warning"]),
            ],
        ),
        (
            "a silent device",
            vec![
                (silent(None), &[]),
                (silent(Some(0)), &["+device_silent warning"]),
                (silent(Some(0)), &[]),
                (silent(None), &["-device_silent warning"]),
            ],
        ),
        (
            "a file that is not in force",
            vec![
                (not_taken(NotTaken::Changed), &["+configuration_not_taken needs_you"]),
                (not_taken(NotTaken::Refused), &["+configuration_not_taken needs_you"]),
                (Observation::ConfigurationTaken(NotTaken::Changed), &["-configuration_not_taken needs_you"]),
                (Observation::ConfigurationTaken(NotTaken::Refused), &["-configuration_not_taken needs_you"]),
            ],
        ),
        ("the sandbox", vec![(Observation::Sandbox, &["+sandbox warning"]), (Observation::Sandbox, &[])]),
        (
            "a webhook that is gone",
            vec![
                (notice(false), &["+notice_failed warning"]),
                (notice(false), &[]),
                (notice(true), &["-notice_failed warning"]),
            ],
        ),
    ];
    for (row, steps) in rows {
        let mut incidents = Incidents::default();
        for (n, (observation, right)) in steps.iter().enumerate() {
            let changes = incidents.see(at(i64::try_from(n).unwrap() * 1000), observation);
            assert_eq!(told(&changes), *right, "{row}, step {n}: {observation:?}");
        }
        if row != "the sandbox" {
            assert!(incidents.open().is_empty(), "{row}: {:?}", incidents.open());
        }
    }
}

#[test]
fn the_worst_stands_first_and_a_mistyped_address_never_hides_an_outage() {
    let mut incidents = Incidents::default();
    for (n, observation) in [
        given_up(Advice::NoSuchRecipient, 40),
        space(600),
        waits(false),
        Observation::Sandbox,
        given_up(Advice::SendAs, 1),
        queue_refused(true),
    ]
    .iter()
    .enumerate()
    {
        incidents.see(at(i64::try_from(n).unwrap()), observation);
    }
    let order: Vec<_> = incidents.open().iter().map(|i| (i.kind, i.severity)).collect();
    assert_eq!(
        order,
        [
            (Kind::Sandbox, Severity::Warning),
            (Kind::MessagesGivenUp, Severity::NeedsYou),
            (Kind::QueueRefuses, Severity::NeedsYou),
            (Kind::AccountWaiting, Severity::Waiting),
            (Kind::DiskLow, Severity::Warning),
            (Kind::MessagesGivenUp, Severity::Information),
        ]
    );
    assert_eq!(incidents.worst(), Some(Severity::NeedsYou));
}

#[test]
fn what_turns_worse_began_when_the_better_did() {
    let mut incidents = Incidents::default();
    incidents.see(at(1000), &waits(false));
    incidents.see(at(9000), &Observation::AccountHeld(trouble(Advice::WrongPassword)));
    assert_eq!((incidents.open().len(), incidents.open()[0].since), (1, at(1000)));
    let over = incidents.see(at(20_000), &Observation::AccountWorks(account()));
    assert_eq!((over[0].incident().since, over[0].incident().until), (at(1000), Some(at(20_000))));
}

#[test]
fn a_refused_device_is_forgotten_after_a_week_or_when_a_person_has_seen_it() {
    let mut incidents = Incidents::default();
    incidents.see(at(0), &refused());
    incidents.see(at(DAY_MS), &refused());
    assert_eq!(incidents.open()[0].count, 2);
    assert!(incidents.tick(at(8 * DAY_MS - 1)).is_empty());
    assert_eq!(told(&incidents.tick(at(8 * DAY_MS))), ["-device_refused warning"]);

    incidents.see(at(9 * DAY_MS), &refused());
    let id = incidents.open()[0].id.clone();
    assert!(incidents.mark_as_seen(at(9 * DAY_MS), &id).is_some());
    assert!(incidents.open().is_empty());
    assert_eq!(
        told(&incidents.see(at(10 * DAY_MS), &refused())),
        ["+device_refused warning"],
        "it came again"
    );
}

#[test]
fn dead_letters_that_were_seen_come_back_only_when_there_are_more() {
    let mut incidents = Incidents::default();
    incidents.see(at(0), &given_up(Advice::SendAs, 3));
    let id = incidents.open()[0].id.clone();
    assert!(incidents.mark_as_seen(at(1), &id).is_some());
    assert!(incidents.see(at(2), &given_up(Advice::SendAs, 3)).is_empty());
    assert!(incidents.see(at(3), &given_up(Advice::SendAs, 2)).is_empty());
    assert_eq!(told(&incidents.see(at(4), &given_up(Advice::SendAs, 3))), ["+messages_given_up needs_you"]);

    incidents.see(at(5), &waits(false));
    let id = incidents.open().iter().find(|i| i.kind == Kind::AccountWaiting).unwrap().id.clone();
    assert!(incidents.mark_as_seen(at(6), &id).is_none(), "looking at an outage does not end it");
}

#[test]
fn a_scan_of_the_network_makes_no_endless_list() {
    let mut incidents = Incidents::default();
    for n in 0..10_000_u32 {
        let address = std::net::IpAddr::V4(n.into());
        incidents.see(
            at(n.into()),
            &Observation::DeviceRefused { address, did: "knocked".to_owned(), steps: vec![] },
        );
    }
    assert_eq!(incidents.open().len(), MAX_OF_A_KIND);
}

#[test]
fn the_list_is_the_same_after_a_restart() {
    let mut incidents = Incidents::default();
    for observation in [waits(true), refused(), given_up(Advice::SendAs, 3), credential(14)] {
        incidents.see(at(5), &observation);
    }
    let json = serde_json::to_string(&incidents).unwrap();
    let mut again: Incidents = serde_json::from_str(&json).unwrap();
    assert_eq!(again, incidents);
    assert!(again.see(at(6), &credential(13)).is_empty(), "what was told is not told again");
}

#[test]
fn what_is_about_an_account_that_is_gone_ends_with_it() {
    let mut incidents = Incidents::default();
    incidents.see(at(0), &waits(true));
    incidents.see(at(0), &space(600));
    let gone = incidents.forget(at(1), |kind, subject| {
        matches!(kind, Kind::AccountHeld | Kind::AccountWaiting) && subject == "scanner@contoso.com"
    });
    assert_eq!(told(&gone), ["-account_waiting needs_you"]);
    assert_eq!(incidents.open().len(), 1);
}
