//! The whole relay as one component: configured by a file, between devices on TCP and a scripted smart host on TCP
//! and TLS. What needs a process of its own is in `process.rs`.

use crate::support::relay::{Device, MAILBOX, PRX4, Site, account, field, mail, subjects, taken, until};
use crate::support::smart_host;
use crate::support::smart_host::{Act, At, Protection, SmartHost, TestCertificate};
use mailferry::control::report::{AccountState, Action, Select, ToProgress};
use mailferry::mail::State;
use std::time::{Duration, Instant};

const WRONG_PASSWORD: &str =
    "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect. [VI1PR0801CA0078]";

/// The answer to a login comes when user and password were said.
fn refuse_logins(host: &SmartHost, answer: &str, times: usize) {
    for _ in 0..times {
        host.script(At::Auth, ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", answer].map(Act::say));
    }
}

fn content(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    &message[end + 4..]
}

#[tokio::test]
async fn a_message_arrives_whole_and_its_content_leaves_the_disk() {
    let host = SmartHost::start().await;
    let site = Site::before(&host);
    let relay = site.start().await;
    let page = "UmVhbCBzY2FucyBhcmUgYmFzZTY0IGluIGxpbmVzIG9mIHNldmVudHktc2l4IGNoYXJhY3RlcnMu\r\n";
    let large = page.repeat(5 * 1024 * 1024 / page.len());
    for (n, scan) in ["one small page\r\n", large.as_str()].into_iter().enumerate() {
        let text = format!("From: copier@contoso.com\r\nSubject: scan {n}\r\n\r\n{scan}");
        let answer = relay.send(&["maria@contoso.com", "jo@contoso.com"], &text).await;
        assert!(answer.starts_with("250 2.0.0 "), "{answer}");
        taken(&host, n + 1).await;

        let message = &host.recorded().messages[n];
        assert!(message.in_tls);
        assert_eq!(message.recipients, ["maria@contoso.com", "jo@contoso.com"]);
        assert!(content(&message.data) == scan.as_bytes(), "the content is as it was");
        let of = |name| field(&message.data, name).unwrap_or_default();
        assert!(of("Received").contains("127.0.0.1"), "{}", of("Received"));
        assert!(of("Received").contains("by relay.contoso.local"), "{}", of("Received"));
        assert!(!of("Date").is_empty());
        assert!(of("Message-ID").ends_with("@relay.contoso.local>"), "{}", of("Message-ID"));
        assert_eq!(of("Subject"), format!("scan {n}"));
    }
    let recorded = host.recorded();
    assert_eq!((recorded.logins, recorded.connections), (1, 1));
    let history = relay.admin.until(2, State::Delivered).await;
    for row in &history {
        assert_eq!(row.to[0].said, "250 2.0.0 OK <1@x> [Hostname=SMART.HOST]");
        assert_eq!(relay.admin.stored(row.id).await, None);
    }
    until("the scan's file to go", async || (site.bodies() == 0).then_some(())).await;
    relay.stop().await;
}

#[tokio::test]
async fn what_a_device_calls_itself_becomes_the_mailbox_and_replies_still_reach_the_device() {
    let host = SmartHost::start().await;
    let site = Site::with(account(MAILBOX, &host, "send_as = [\"*@sales.contoso.com\"]"));
    let relay = site.start().await;
    let mut device = Device::connect(relay.address).await;
    let rows = [
        ("copier@floor3.local", "Copier <copier@floor3.local>", MAILBOX, Some("copier@floor3.local")),
        ("ann@sales.contoso.com", "ann@sales.contoso.com", "ann@sales.contoso.com", None),
        ("", "copier@floor3.local", MAILBOX, Some("copier@floor3.local")),
    ];
    for (n, (reverse_path, from, sender, reply_to)) in rows.into_iter().enumerate() {
        let text = format!("From: {from}\r\nSubject: scan\r\n\r\nThe scan.\r\n");
        assert!(device.send(reverse_path, &["maria@contoso.com"], &text).await.starts_with("250 "));
        taken(&host, n + 1).await;
        let message = &host.recorded().messages[n];
        assert!(message.mail.starts_with(&format!("<{sender}>")), "{}", message.mail);
        assert!(field(&message.data, "From").unwrap().contains(sender), "{from}");
        let replies = field(&message.data, "Reply-To");
        assert!(
            match (&replies, reply_to) {
                (Some(replies), Some(device)) => replies.contains(device),
                (replies, _) => replies.is_none(),
            },
            "{from}: {replies:?}"
        );
    }
    device.quit().await;
    relay.stop().await;
}

#[tokio::test]
async fn prx4_at_any_stage_costs_the_messages_nothing_and_ends_in_order() {
    let before_the_message = [At::Banner, At::Ehlo, At::StartTls, At::EhloInTls, At::Auth];
    let with_the_message = [At::Mail, At::Rcpt, At::Data, At::FinalDot];
    for stage in before_the_message.iter().chain(&with_the_message) {
        let host = SmartHost::start().await;
        host.always(stage.clone(), Act::say(PRX4));
        let site = Site::with(account(MAILBOX, &host, "max_connections = 1"));
        let relay = site.start().await;
        for n in 1..=4 {
            let answer = relay.send(&["maria@contoso.com"], &mail(&format!("scan {n}"))).await;
            assert!(answer.starts_with("250 "), "{stage:?}: {answer}");
        }
        let is_before = before_the_message.contains(stage);
        until(&format!("probes that fail at {stage:?}"), async || {
            let recorded = host.recorded();
            let begun: usize =
                (1..=recorded.connections).map(|n| recorded.text(n).matches("MAIL FROM:").count()).sum();
            (if is_before { recorded.connections >= 4 } else { begun >= 6 }).then_some(())
        })
        .await;
        assert_eq!(relay.admin.account().await.state, AccountState::BackingOff, "{stage:?}");
        let waiting = relay.admin.list(State::Queued).await;
        assert_eq!(waiting.iter().map(|m| m.attempts).collect::<Vec<_>>(), [0; 4], "{stage:?}");

        host.behave();
        let history = relay.admin.until(4, State::Delivered).await;
        assert!(history.iter().all(|m| m.attempts == 0), "{stage:?}: no attempt was spent");
        let delivered = subjects(&host);
        // The message whose attempt ended the outage may be any; it goes first.
        let (first, others) = delivered.split_first().unwrap();
        let order: Vec<String> = (1..=4).map(|n| format!("scan {n}")).filter(|s| s != first).collect();
        assert_eq!(others, order, "{stage:?}: in order of arrival behind {first}");
        assert!(!is_before || first == "scan 1", "{stage:?}: {first} went first");
        assert_eq!(host.recorded().max_open, 1, "{stage:?}: one probe at a time");
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_told_plainly_and_mended_by_a_reload() {
    let host = SmartHost::start().await;
    refuse_logins(&host, WRONG_PASSWORD, 5);
    let site = Site::before(&host);
    let relay = site.start().await;
    for n in 1..=3 {
        assert!(relay.send(&["maria@contoso.com"], &mail(&format!("scan {n}"))).await.starts_with("250 "));
    }
    relay.admin.until_account_is(AccountState::Held).await;
    let sentence = relay.admin.sentence().await;
    assert!(sentence.starts_with("needs a human: scanner@contoso.com cannot send: AUTH: 535 5.7.139"));
    assert!(
        sentence.ends_with(
            "put the right password for scanner@contoso.com in its password file, then: systemctl reload mailferry (restart, where it is a systemd credential)"
        ),
        "{sentence}"
    );
    let recorded = host.recorded();
    assert_eq!(
        (recorded.login_attempts, recorded.connections),
        (1, 1),
        "Entra locks accounts that are tried often"
    );
    assert_eq!(relay.admin.list(State::Queued).await.len(), 3);

    site.set_password("the right one");
    host.behave();
    relay.relay.reload(&site.settings()).await.unwrap();
    let history = relay.admin.until(3, State::Delivered).await;
    assert!(history.iter().all(|m| m.attempts == 0));
    assert!(host.recorded().text(2).contains("dGhlIHJpZ2h0IG9uZQ=="), "the new password was used");
    assert!(relay.admin.sentence().await.starts_with("all is well"));
    relay.stop().await;
}

#[tokio::test]
async fn an_admin_who_sorts_messages_causes_no_login_and_one_who_retries_does() {
    let host = SmartHost::start().await;
    refuse_logins(&host, WRONG_PASSWORD, 5);
    let site = Site::before(&host);
    let relay = site.start().await;
    for n in 1..=3 {
        assert!(relay.send(&["maria@contoso.com"], &mail(&format!("scan {n}"))).await.starts_with("250 "));
    }
    let held = relay.admin.until_account_is(AccountState::Held).await;
    let ids: Vec<_> = relay.admin.list(State::Queued).await.iter().map(|m| m.id).collect();
    relay.admin.change(Action::Hold, ids[0]).await;
    relay.admin.change(Action::Remove, ids[1]).await;
    assert_eq!(
        relay.admin.account().await.next_probe_at,
        held.next_probe_at,
        "a probe was not brought forward"
    );
    assert_eq!(host.recorded().login_attempts, 1);

    relay.admin.change(Action::Retry, ids[2]).await;
    until("the login that was asked for", async || (host.recorded().login_attempts == 2).then_some(())).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_smart_host_that_cannot_be_trusted_hears_no_secret_and_no_message() {
    let rows = [
        (SmartHost::builder().without("STARTTLS"), "the server does not offer STARTTLS"),
        (
            SmartHost::builder().protection(Protection::None).without("STARTTLS"),
            "the server does not offer STARTTLS",
        ),
        (SmartHost::builder().certificate(TestCertificate::of_a_stranger()), "certificate not accepted"),
        (SmartHost::builder().certificate(TestCertificate::expired()), "certificate not accepted"),
        (
            SmartHost::builder().certificate(TestCertificate::for_names(&["other.example"])),
            "certificate not accepted",
        ),
        (SmartHost::builder().without("AUTH"), "the server offers no AUTH mechanism we speak"),
        (SmartHost::builder().with("AUTH GSSAPI"), "the server offers no AUTH mechanism we speak"),
    ];
    for (builder, reason) in rows {
        let host = builder.start().await;
        let site = Site::before(&host);
        let relay = site.start().await;
        assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
        let account = relay.admin.until_account_is(AccountState::Held).await;
        assert!(account.reason.contains(reason), "{}", account.reason);
        assert!(relay.admin.sentence().await.starts_with("needs a human: "));
        let waiting = relay.admin.list(State::Queued).await;
        assert_eq!((waiting.len(), waiting[0].attempts), (1, 0), "{reason}");
        let recorded = host.recorded();
        assert_eq!(recorded.connections, 1, "{reason}");
        for word in ["AUTH", "MAIL", "RCPT", "DATA", "scan", "HELO "] {
            assert!(!recorded.text(1).contains(word), "{reason}: {}", recorded.text(1));
        }
        relay.stop().await;
    }
}

#[tokio::test]
async fn one_unknown_recipient_is_told_to_sender_and_admin_and_the_other_gets_the_message() {
    let host = SmartHost::start().await;
    let gone = At::RcptTo("gone@contoso.com".to_owned());
    host.always(gone, Act::say("550 5.1.1 RESOLVER.ADR.RecipNotFound; not found"));
    let mut site = Site::before(&host);
    site.more = "[notify]\nto = [\"it@contoso.com\"]\n".to_owned();
    let relay = site.start().await;
    let answer = relay.send(&["maria@contoso.com", "gone@contoso.com"], &mail("contract")).await;
    assert!(answer.starts_with("250 "));
    taken(&host, 3).await;

    let messages = host.recorded().messages;
    assert_eq!(messages[0].recipients, ["maria@contoso.com"]);
    for reader in ["copier@contoso.com", "it@contoso.com"] {
        let notice = messages.iter().find(|m| m.recipients == [reader]).expect("both are told");
        assert!(notice.mail.starts_with("<scanner@contoso.com>"), "{}: no null sender", notice.mail);
        assert!(field(&notice.data, "Content-Type").unwrap().starts_with("multipart/report"));
        assert!(field(&notice.data, "Subject").unwrap().contains("contract"));
        let text = String::from_utf8_lossy(&notice.data).into_owned();
        for part in ["gone@contoso.com", "RESOLVER.ADR.RecipNotFound", "Status: 5.1.1"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("rfc822;maria@contoso.com"), "who got it is not reported: {text}");
    }
    let notices = relay.admin.until(2, State::Delivered).await;
    assert!(notices.iter().all(|m| m.from.is_empty()), "notices are never answered by notices");

    let dead = relay.admin.until(1, State::Dead).await.remove(0);
    assert_eq!(
        dead.to.iter().map(|to| to.progress).collect::<Vec<_>>(),
        [ToProgress::Delivered, ToProgress::Failed]
    );
    assert!(relay.admin.stored(dead.id).await.unwrap().ends_with("\r\n\r\nThe scan.\r\n"), "kept whole");
    assert!(relay.admin.sentence().await.contains("1 message given up"));

    host.behave();
    relay.admin.change(Action::Retry, dead.id).await;
    taken(&host, 4).await;
    let again = host.recorded().messages.pop().unwrap();
    assert_eq!(again.recipients, ["gone@contoso.com"], "maria has it");
    assert_eq!(field(&again.data, "Message-ID"), field(&messages[0].data, "Message-ID"));
    assert_eq!(relay.admin.until(3, State::Delivered).await.len(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn of_a_message_with_a_foreign_sender_only_the_admins_are_told() {
    let host = SmartHost::start().await;
    host.always(At::RcptTo("gone@contoso.com".to_owned()), Act::say("550 5.1.1 not found"));
    let mut site = Site::before(&host);
    site.more = "[notify]\nto = [\"it@contoso.com\"]\n".to_owned();
    let relay = site.start().await;
    let mut device = Device::connect(relay.address).await;
    let answer = device.send("copier@old.example", &["gone@contoso.com"], &mail("contract")).await;
    assert!(answer.starts_with("250 "));
    relay.admin.until(1, State::Dead).await;
    relay.admin.until(1, State::Delivered).await;
    let taken = host.recorded().messages;
    assert_eq!(taken.iter().map(|m| m.recipients.clone()).collect::<Vec<_>>(), [["it@contoso.com"]]);
    device.quit().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_client_of_any_name_is_told_and_a_notice_never_is() {
    for name in ["mailferry", "Mailferry", " mailferry ", "mailferry (the relay)"] {
        let host = SmartHost::start().await;
        for gone in ["gone@contoso.com", "copier@contoso.com", "it@contoso.com"] {
            host.always(At::RcptTo(gone.to_owned()), Act::say("550 5.1.1 not found"));
        }
        let mut site = Site::before(&host);
        site.clients = format!("[[client]]\nname = \"{name}\"\nfrom = [\"127.0.0.1\"]\n");
        site.more = "[notify]\nto = [\"it@contoso.com\"]\n".to_owned();
        let relay = site.start().await;
        assert!(relay.send(&["gone@contoso.com"], &mail("scan")).await.starts_with("250 "));
        // Its own, and the two about it, which nobody takes and which are not answered in their turn.
        let dead = relay.admin.until(3, State::Dead).await;
        let of = |to: &str| dead.iter().filter(|m| m.to[0].address == to && m.from.is_empty()).count();
        assert_eq!((of("copier@contoso.com"), of("it@contoso.com")), (1, 1), "{name}: {dead:?}");
        let by_client = Select { client: Some(name.to_owned()), ..Select::default() };
        let listed = relay.admin.0.list(&by_client).await.unwrap();
        assert!(listed.iter().any(|m| m.to[0].address == "gone@contoso.com"), "{name}");
        relay.stop().await;
        assert!(host.recorded().messages.is_empty());
    }
}

#[tokio::test]
async fn a_recipient_refused_for_good_is_told_of_while_another_is_still_waited_for() {
    let host = SmartHost::start().await;
    host.always(At::RcptTo("gone@contoso.com".to_owned()), Act::say("550 5.1.1 not found"));
    let busy = At::RcptTo("busy@contoso.com".to_owned());
    host.always(busy, Act::say("450 4.2.1 mailbox busy"));
    let mut site = Site::before(&host);
    site.more = "[notify]\nto = [\"it@contoso.com\"]\n".to_owned();
    let relay = site.start().await;
    assert!(relay.send(&["gone@contoso.com", "busy@contoso.com"], &mail("scan")).await.starts_with("250 "));
    taken(&host, 2).await;
    assert_eq!(relay.admin.list(State::Queued).await.len(), 1);
    for notice in host.recorded().messages {
        let text = String::from_utf8_lossy(&notice.data).into_owned();
        assert!(text.contains("Final-Recipient: rfc822; gone@contoso.com"), "{text}");
        assert!(!text.contains("busy@contoso.com"), "{text}");
        assert!(text.contains("still tries other recipients"), "{text}");
    }
    host.behave();
    let dead = relay.admin.until(1, State::Dead).await.remove(0);
    assert_eq!(dead.to[1].progress, ToProgress::Delivered);
    assert_eq!(host.recorded().messages.len(), 3, "nobody is told twice");
    relay.stop().await;
}

#[tokio::test]
async fn a_message_put_off_after_a_long_pause_has_its_own_time_and_its_sender_is_told_once() {
    let host = SmartHost::start().await;
    let busy = At::RcptTo("maria@contoso.com".to_owned());
    host.always(busy, Act::say("450 4.2.1 mailbox busy"));
    let mut site = Site::before(&host);
    site.retry = "delays = [\"100 ms\"]\nwarn_after = \"200 ms\"\nexpire_after = \"1500 ms\"\n".to_owned();
    let relay = site.start().await;
    relay.admin.0.set_paused(MAILBOX, true).await.unwrap();
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    let queued = Instant::now();
    until("the message to be older than is allowed", async || {
        (queued.elapsed() > Duration::from_millis(1700)).then_some(())
    })
    .await;
    relay.admin.0.set_paused(MAILBOX, false).await.unwrap();
    let resumed = Instant::now();
    let tried = until("some attempts", async || {
        let waiting = relay.admin.list(State::Queued).await.into_iter().find(|m| m.attempts >= 4);
        waiting.or_else(|| (resumed.elapsed() > Duration::from_secs(3)).then(|| panic!("it was given up")))
    })
    .await;
    assert!(tried.last_said.contains("mailbox busy"));
    relay.admin.until(1, State::Dead).await;
    assert!(resumed.elapsed() >= Duration::from_millis(1500), "{:?}", resumed.elapsed());
    taken(&host, 2).await;
    let said = |m: &smart_host::Taken| String::from_utf8_lossy(&m.data).into_owned();
    let texts: Vec<String> = host.recorded().messages.iter().map(said).collect();
    assert!(texts[0].contains("Subject: Delayed: scan") && texts[0].contains("450 4.2.1 mailbox busy"));
    assert!(texts[1].contains("Subject: Not delivered: scan"), "{}", texts[1]);
    relay.stop().await;
}

#[tokio::test]
async fn a_sender_that_may_not_be_used_is_a_dead_letter_with_advice_and_is_not_repeated() {
    let host = SmartHost::start().await;
    host.once(
        At::FinalDot,
        Act::say("554 5.2.252 SendAsDenied; scanner@contoso.com not allowed to send as ann@contoso.com"),
    );
    let mut site = Site::before(&host);
    site.more = "[notify]\nto = [\"it@contoso.com\"]\n".to_owned();
    let relay = site.start().await;
    let mut device = Device::connect(relay.address).await;
    // No address that a notice could go to: only the admin is told.
    assert!(device.send("", &["maria@contoso.com"], &mail("first")).await.starts_with("250 "));
    let dead = relay.admin.until(1, State::Dead).await.remove(0);
    assert!(dead.last_said.contains("SendAsDenied"), "{}", dead.last_said);
    taken(&host, 1).await;
    let notice = host.recorded().messages.remove(0);
    assert_eq!(notice.recipients, ["it@contoso.com"]);
    let text = String::from_utf8_lossy(&notice.data).replace("=\r\n", "").replace("\r\n", " ");
    assert!(text.contains("Add-RecipientPermission") && text.contains("queue retry"), "{text}");

    assert!(device.send("", &["maria@contoso.com"], &mail("second")).await.starts_with("250 "));
    taken(&host, 2).await;
    assert_eq!(relay.admin.account().await.state, AccountState::Open, "the account has no fault");
    assert!(!subjects(&host).contains(&"first".to_owned()));
    device.quit().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_message_larger_than_announced_is_a_dead_letter_and_is_not_transferred() {
    let host = SmartHost::builder().with("SIZE 20000").start().await;
    let site = Site::before(&host);
    let relay = site.start().await;
    let scan = mail("large") + &"the same line again and again\r\n".repeat(1000);
    assert!(relay.send(&["maria@contoso.com"], &scan).await.starts_with("250 "));
    let dead = relay.admin.until(1, State::Dead).await.remove(0);
    assert!(dead.last_said.ends_with("bytes are more than the 20000 the server takes"), "{}", dead.last_said);
    // The sender is told over the same connection.
    taken(&host, 1).await;
    let recorded = host.recorded();
    assert_eq!(recorded.messages[0].recipients, ["copier@contoso.com"]);
    assert!(!recorded.text(1).contains("again and again"));
    assert!(relay.admin.stored(dead.id).await.unwrap().contains("again and again"));
    relay.stop().await;
}

#[tokio::test]
async fn client_sender_and_recipient_choose_the_account_and_a_split_message_leaves_through_both() {
    let (own, partners) = (SmartHost::start().await, SmartHost::start().await);
    let conditions = "senders = [\"*@payroll.contoso.com\"]\nrecipient_domains = [\"partner.example\"]";
    let mut site = Site::with(
        account(MAILBOX, &own, "send_as = [\"*@payroll.contoso.com\"]")
            + &account("partners@contoso.com", &partners, conditions),
    );
    site.clients = "[[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1\"]\n\
                    [[client]]\nname = \"hr\"\nfrom = [\"127.0.0.2\"]\naccount = \"partners@contoso.com\"\n"
        .to_owned();
    let relay = site.start().await;
    let (printer, hr) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let (copier, payroll) = ("copier@contoso.com", "slips@payroll.contoso.com");
    let (maria, jo) = ("maria@contoso.com", "jo@partner.example");
    for (own, from, to, subject) in [
        (printer, copier, &[maria][..], "to the default"),
        (hr, copier, &[maria], "by client"),
        (printer, payroll, &[maria], "by sender"),
        (printer, copier, &[jo], "by recipient"),
        (printer, copier, &[maria, jo], "split"),
    ] {
        let mut device = Device::connect_from(own, relay.address).await;
        assert!(device.send(from, to, &mail(subject)).await.starts_with("250 "), "{subject}");
        device.quit().await;
    }
    taken(&own, 2).await;
    taken(&partners, 4).await;
    assert_eq!(relay.admin.until(6, State::Delivered).await.len(), 6);
    let took = |host: &SmartHost| {
        let messages = host.recorded().messages;
        let of = |m: &smart_host::Taken| (field(&m.data, "Subject").unwrap(), m.recipients.join(" "));
        let mut list: Vec<_> = messages.iter().map(of).collect();
        list.sort();
        list
    };
    let rows = |list: &[(&str, &str)]| -> Vec<_> {
        list.iter().map(|(s, to)| ((*s).to_owned(), (*to).to_owned())).collect()
    };
    assert_eq!(took(&own), rows(&[("split", maria), ("to the default", maria)]));
    assert_eq!(
        took(&partners),
        rows(&[("by client", maria), ("by recipient", jo), ("by sender", maria), ("split", jo)])
    );
    for (host, mailbox) in [(&own, MAILBOX), (&partners, "partners@contoso.com")] {
        let sender = format!("<{mailbox}>");
        assert!(host.recorded().messages.iter().all(|m| m.mail.starts_with(&sender)), "{mailbox}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn an_outage_at_one_smart_host_does_not_hold_up_the_other() {
    let (own, partners) = (SmartHost::start().await, SmartHost::start().await);
    partners.always(At::Auth, Act::say(PRX4));
    let conditions = "recipient_domains = [\"partner.example\"]";
    let site =
        Site::with(account(MAILBOX, &own, "") + &account("partners@contoso.com", &partners, conditions));
    let relay = site.start().await;
    assert!(
        relay.send(&["jo@partner.example", "maria@contoso.com"], &mail("both")).await.starts_with("250 ")
    );
    taken(&own, 1).await;
    assert_eq!(relay.admin.until(1, State::Queued).await[0].account, "partners@contoso.com");
    partners.behave();
    taken(&partners, 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn fifty_messages_need_one_login_and_never_more_connections_than_allowed() {
    for allowed in [1, 3] {
        let host = SmartHost::start().await;
        let site = Site::with(account(MAILBOX, &host, &format!("max_connections = {allowed}")));
        let relay = site.start().await;
        let mut device = Device::connect(relay.address).await;
        for n in 0..50 {
            let answer = device.send("a@contoso.com", &["maria@contoso.com"], &mail(&n.to_string())).await;
            assert!(answer.starts_with("250 "), "{answer}");
        }
        relay.admin.until(50, State::Delivered).await;
        let recorded = host.recorded();
        assert_eq!(recorded.messages.len(), 50);
        assert!(recorded.logins <= allowed, "{} logins", recorded.logins);
        assert!(recorded.max_open <= allowed, "{} connections", recorded.max_open);
        let mut subjects = subjects(&host);
        subjects.sort_by_key(|s| s.parse::<u32>().unwrap());
        assert_eq!(subjects, (0..50).map(|n| n.to_string()).collect::<Vec<_>>(), "each once");
        device.quit().await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_432_costs_its_connection_and_the_others_go_on() {
    let host = SmartHost::start().await;
    let site = Site::with(account(MAILBOX, &host, "max_connections = 3"));
    let relay = site.start().await;
    relay.admin.0.set_paused(MAILBOX, true).await.unwrap();
    let mut device = Device::connect(relay.address).await;
    for n in 0..30 {
        let text = mail(&n.to_string());
        assert!(device.send("a@contoso.com", &["maria@contoso.com"], &text).await.starts_with("250 "));
    }
    device.quit().await;
    let too_many = "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded";
    // While three are open the answer to the first is late, so that the second hears it beside others.
    host.script(At::FinalDot, [Act::Wait(Duration::from_millis(300)), Act::say(too_many)]);
    relay.admin.0.set_paused(MAILBOX, false).await.unwrap();
    let resumed = Instant::now();
    let history = relay.admin.until(30, State::Delivered).await;
    assert!(resumed.elapsed() < Duration::from_secs(10), "{:?}: the account did not wait", resumed.elapsed());
    assert!(history.iter().all(|m| m.attempts == 0), "nothing was spent");
    assert_eq!(host.recorded().messages.len(), 30, "each once");
    relay.stop().await;
}

#[tokio::test]
async fn the_next_connection_waits_until_the_smart_host_has_closed_the_last() {
    let host = SmartHost::start().await;
    host.always(At::Quit, Act::SayAndLinger("221 2.0.0 Bye".to_owned(), Duration::from_millis(200)));
    let site = Site::with(account(MAILBOX, &host, "max_connections = 1"));
    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("one")).await.starts_with("250 "));
    taken(&host, 1).await;
    relay.admin.0.set_paused(MAILBOX, true).await.unwrap();
    until("QUIT", async || host.recorded().text(1).contains("QUIT").then_some(())).await;
    relay.admin.0.set_paused(MAILBOX, false).await.unwrap();
    assert!(relay.send(&["maria@contoso.com"], &mail("two")).await.starts_with("250 "));
    taken(&host, 2).await;
    let recorded = host.recorded();
    assert_eq!((recorded.connections, recorded.max_open), (2, 1), "no 432 of our own making");
    relay.stop().await;
}

#[tokio::test]
async fn a_connection_lost_after_the_final_dot_is_recorded_counted_and_tried_again() {
    let host = SmartHost::start().await;
    host.once(At::FinalDot, Act::Close);
    let site = Site::before(&host);
    let relay = site.start().await;
    let count = async || relay.admin.0.status().await.unwrap().counters["outcome_unknown_total"];
    let before = count().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    let delivered = relay.admin.until(1, State::Delivered).await.remove(0);
    assert!(delivered.outcome_unknown);
    assert_eq!(delivered.attempts, 1);
    assert!(count().await > before);
    let tries = relay.admin.show(delivered.id).await.tries;
    assert_eq!(tries.len(), 2, "{tries:?}");
    assert_eq!((host.recorded().messages.len(), host.recorded().connections), (1, 2));
    relay.stop().await;
}

#[tokio::test]
async fn one_message_of_a_client_does_not_wait_for_three_hundred_of_another() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.clients = "[[client]]\nname = \"payroll\"\nfrom = [\"127.0.0.1\"]\n\
                    [[client]]\nname = \"printers\"\nfrom = [\"127.0.0.2\"]\n"
        .to_owned();
    let relay = site.start().await;
    relay.admin.0.set_paused(MAILBOX, true).await.unwrap();
    let mut payroll = Device::connect(relay.address).await;
    for n in 0..300 {
        let slip = mail(&format!("slip {n}"));
        assert!(payroll.send("a@contoso.com", &["maria@contoso.com"], &slip).await.starts_with("250 "));
    }
    let mut printer = Device::connect_from([127, 0, 0, 2], relay.address).await;
    assert!(printer.send("a@contoso.com", &["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    relay.admin.0.set_paused(MAILBOX, false).await.unwrap();
    until("the scan", async || subjects(&host).iter().any(|s| s == "scan").then_some(())).await;
    let place = subjects(&host).iter().position(|s| s == "scan").unwrap();
    assert!(place < 6, "{place} payslips went before the scan");
    payroll.quit().await;
    printer.quit().await;
    relay.stop().await;
}

#[tokio::test]
async fn who_is_no_client_may_not_relay_and_leaves_nothing() {
    let host = SmartHost::start().await;
    let mut site = Site::before(&host);
    site.clients = "[[client]]\nname = \"printers\"\nfrom = [\"127.0.0.1/32\"]\n".to_owned();
    let relay = site.start().await;
    let mut stranger = Device::connect_from([127, 0, 0, 9], relay.address).await;
    let answer = stranger.send("copier@contoso.com", &["maria@contoso.com"], &mail("spam")).await;
    assert_eq!(answer, "550 5.7.1 127.0.0.9 may not relay here");
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    relay.admin.until(1, State::Delivered).await;
    assert_eq!(subjects(&host), ["scan"]);
    stranger.quit().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_no_stalled_smart_host_and_the_message_arrives_after_it() {
    let host = SmartHost::start().await;
    for stage in [At::Banner, At::Auth, At::Mail, At::Data, At::FinalDot] {
        let site = Site::before(&host);
        let relay = site.start().await;
        let before = host.recorded();
        host.always(stage.clone(), Act::Stall);
        assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
        until("the stall", async || (host.recorded().stalls > before.stalls).then_some(())).await;
        let begun = Instant::now();
        relay.relay.stop(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{stage:?}: {:?}", begun.elapsed());

        host.behave();
        let relay = site.start().await;
        let delivered = relay.admin.until(1, State::Delivered).await.remove(0);
        assert_eq!(delivered.outcome_unknown, stage == At::FinalDot, "{stage:?}: whether there is a doubt");
        assert_eq!(host.recorded().messages.len(), before.messages.len() + 1, "{stage:?}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn the_days_recipients_are_counted_over_a_restart() {
    let host = SmartHost::start().await;
    let site = Site::with(account(MAILBOX, &host, "recipients_per_day = 2\nmax_connections = 3"));
    let relay = site.start().await;
    for n in 1..=3 {
        assert!(relay.send(&["maria@contoso.com"], &mail(&format!("scan {n}"))).await.starts_with("250 "));
    }
    relay.admin.until(2, State::Delivered).await;
    relay.stop().await;
    let before = host.recorded();
    assert_eq!(before.messages.len(), 2);

    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan 4")).await.starts_with("250 "));
    let account = relay.admin.account().await;
    assert_eq!((account.recipients_today, account.queued), (2, 2));
    assert_eq!(account.reason, "waiting for its pace: messages a minute or recipients a day");
    assert_eq!((host.recorded().messages.len(), host.recorded().connections), (2, before.connections));
    relay.stop().await;
}

#[tokio::test]
async fn a_message_for_more_than_the_day_has_left_goes_in_part_and_the_rest_is_kept() {
    let host = SmartHost::start().await;
    let site = Site::with(account(MAILBOX, &host, "recipients_per_day = 3"));
    let relay = site.start().await;
    let five = ["a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example"];
    assert!(relay.send(&five, &mail("to many")).await.starts_with("250 "));
    taken(&host, 1).await;
    let waiting = until("the rest", async || {
        relay.admin.list(State::Queued).await.into_iter().find(|m| m.last_said.starts_with("250 "))
    })
    .await;
    let progress: Vec<_> = waiting.to.iter().map(|to| to.progress).collect();
    use ToProgress::{Delivered, Pending};
    assert_eq!(progress, [Delivered, Delivered, Delivered, Pending, Pending]);
    let account = relay.admin.account().await;
    assert_eq!((account.recipients_today, waiting.attempts), (3, 0));
    assert_eq!(account.reason, "waiting for its pace: messages a minute or recipients a day");
    assert_eq!(host.recorded().messages[0].recipients, five[..3]);
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_login_is_remembered_over_a_restart() {
    let host = SmartHost::start().await;
    refuse_logins(&host, WRONG_PASSWORD, 5);
    let site = Site::before(&host);
    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan 1")).await.starts_with("250 "));
    let held = relay.admin.until_account_is(AccountState::Held).await;
    relay.stop().await;

    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan 2")).await.starts_with("250 "));
    let still = relay.admin.account().await;
    assert_eq!((still.state, &still.reason), (AccountState::Held, &held.reason));
    let apart = still.since.unwrap().0.as_ms() - held.since.unwrap().0.as_ms();
    assert!(apart.abs() < 2000, "held since {apart} ms later than before");
    assert!(relay.admin.sentence().await.contains("put the right password"));
    assert_eq!((host.recorded().login_attempts, host.recorded().connections), (1, 1));
    relay.stop().await;
}
