//! What is wrong and lasts, as an admin sees it: one list, over restarts, until it is over.

use crate::support::relay::{Admin, Device, Site, mail, until};
use crate::support::smart_host::{Act, At, SmartHost};
use mailferry::control::report::IncidentStatus;
use mailferry::mail::State;
use mailferry::policy::incident::{Kind, Severity};

const WRONG_PASSWORD: &str = "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.";

async fn incidents(admin: &Admin) -> Vec<IncidentStatus> {
    admin.0.status().await.unwrap().incidents
}

/// Waits until exactly these are open, worst first.
async fn until_open(admin: &Admin, kinds: &[Kind]) -> Vec<IncidentStatus> {
    until(&format!("{kinds:?}"), async || {
        let open = incidents(admin).await;
        open.iter().map(|i| i.kind).eq(kinds.iter().copied()).then_some(open)
    })
    .await
}

#[tokio::test]
async fn a_held_account_is_one_incident_over_a_restart_until_mail_flows() {
    let host = SmartHost::start().await;
    for _ in 0..5 {
        host.script(At::Auth, ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", WRONG_PASSWORD].map(Act::say));
    }
    let site = Site::before(&host);
    let relay = site.start().await;
    assert_eq!(incidents(&relay.admin).await, [], "all is well");
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    let open = until_open(&relay.admin, &[Kind::AccountHeld]).await;
    let held = &open[0];
    let status = relay.admin.0.status().await.unwrap();
    assert_eq!(status.needs_human.len(), 1, "its need and its incident are the same: {status:?}");
    assert_eq!((held.severity, held.subject.as_str()), (Severity::NeedsYou, "scanner@contoso.com"));
    assert!(held.what.starts_with("scanner@contoso.com cannot send: AUTH: 535 5.7.139"), "{}", held.what);
    assert!(
        held.steps.iter().any(|s| s == "once it is mended: mailferry account resume scanner@contoso.com")
    );
    assert_eq!((held.more.as_str(), held.until), ("wrong-password", None));
    relay.stop().await;

    let relay = site.start().await;
    let again = until_open(&relay.admin, &[Kind::AccountHeld]).await;
    assert_eq!((&again[0].id, again[0].since), (&held.id, held.since), "the same one");
    host.behave();
    relay.relay.reload(&site.settings()).await.unwrap();
    relay.admin.until(1, State::Delivered).await;
    until_open(&relay.admin, &[]).await;
    relay.stop().await;
    let relay = site.start().await;
    assert_eq!(incidents(&relay.admin).await, [], "and it stays so");
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_device_is_an_incident_with_its_address_until_its_mail_is_taken() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let relay = site.start().await;
    let mut device = Device::connect(relay.address).await;
    assert!(device.say("MAIL FROM:<mfp@contoso.com> SIZE=99999999999").await.starts_with("552 "));
    let open = until_open(&relay.admin, &[Kind::DeviceRefused]).await;
    assert_eq!((open[0].severity, open[0].subject.as_str()), (Severity::Warning, "127.0.0.1"));
    assert!(open[0].what.contains("552 5.3.4 message exceeds"), "{}", open[0].what);
    device.quit().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    until_open(&relay.admin, &[]).await;
    relay.stop().await;
}

#[tokio::test]
async fn dead_letters_of_one_cause_are_one_incident_that_a_removal_ends() {
    let host = SmartHost::start().await;
    host.script(At::Rcpt, [Act::say("550 5.1.1 no such mailbox")]);
    let site = Site::before(&host);
    let relay = site.start().await;
    assert!(relay.send(&["maira@contoso.com"], &mail("scan")).await.starts_with("250 "));
    relay.admin.until(1, State::Dead).await;
    relay.stop().await;
    // A start looks at once.
    let relay = site.start().await;
    let open = until_open(&relay.admin, &[Kind::MessagesGivenUp]).await;
    assert_eq!((open[0].severity, open[0].count), (Severity::Information, 1), "the address was wrong");
    assert!(relay.admin.sentence().await.starts_with("all is well"), "a mistyped address needs nobody here");
    relay.stop().await;
}
