//! Who is told of incidents of them: the whole relay, a smart host that fails, and whoever listens.

use crate::support::relay::{MAILBOX, PASSWORD, Site, account, mail, taken, until};
use crate::support::smart_host::{Act, At, SmartHost};
use mailferry::control::report::AccountState;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A web service on loopback that takes what is posted.
struct Listener {
    url: String,
    heard: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
    answer: Arc<Mutex<&'static str>>,
    refused: Arc<Mutex<usize>>,
}

impl Listener {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/s3cret", listener.local_addr().unwrap());
        let (heard, answer): (Arc<Mutex<Vec<_>>>, _) = (Arc::default(), Arc::new(Mutex::new("200 OK")));
        let refused: Arc<Mutex<usize>> = Arc::default();
        let (posts, status, no) = (Arc::clone(&heard), Arc::clone(&answer), Arc::clone(&refused));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (posts, status, no) = (Arc::clone(&posts), Arc::clone(&status), Arc::clone(&no));
                tokio::spawn(async move {
                    let mut raw = Vec::new();
                    let (head, body) = loop {
                        if stream.read_buf(&mut raw).await.unwrap() == 0 {
                            return;
                        }
                        let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
                        let length = head
                            .lines()
                            .filter_map(|l| l.split_once(':'))
                            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                            .map_or(0, |(_, v)| v.trim().parse::<usize>().unwrap());
                        if raw.len() >= end + 4 + length {
                            break (head, raw[end + 4..].to_vec());
                        }
                    };
                    let method = head.split(' ').next().unwrap().to_owned();
                    let value = serde_json::from_slice(&body).unwrap_or_default();
                    let status = *status.lock().unwrap();
                    if status.starts_with('2') {
                        posts.lock().unwrap().push((method, value));
                    } else {
                        *no.lock().unwrap() += 1;
                    }
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, heard, answer, refused }
    }

    fn answers(&self, status: &'static str) {
        *self.answer.lock().unwrap() = status;
    }

    fn refused(&self) -> usize {
        *self.refused.lock().unwrap()
    }

    async fn until(&self, events: &[&str]) {
        until("what is told", async || (self.events() == events).then_some(())).await;
    }

    fn heard(&self) -> Vec<(String, serde_json::Value)> {
        self.heard.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<String> {
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        self.heard()
            .iter()
            .map(|(_, v)| format!("{} {}", text(&v["event"]), text(&v["incident"]["kind"])))
            .collect()
    }
}

const REFUSED: &str = "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.";

fn refuse_logins(host: &SmartHost, times: usize) {
    for _ in 0..times {
        host.script(At::Auth, ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", REFUSED].map(Act::say));
    }
}

#[tokio::test]
async fn a_refused_login_is_told_by_webhook_and_so_is_its_end() {
    let (host, listener) = (SmartHost::start().await, Listener::start().await);
    refuse_logins(&host, 1);
    let mut site = Site::before(&host);
    site.more = format!("[[notify.webhook]]\nurl = \"{}\"\n", listener.url);
    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    listener.until(&["opened account_held"]).await;
    let (method, said) = &listener.heard()[0];
    assert_eq!(method, "POST");
    assert_eq!(said["incident"]["severity"], "needs_you");
    assert!(said["incident"]["what"].as_str().unwrap().contains("cannot send"), "{said}");
    assert!(!said["incident"]["steps"].as_array().unwrap().is_empty(), "{said}");
    assert_eq!(said["queue"]["waiting"], 1);

    relay.admin.0.probe(MAILBOX).await.unwrap();
    taken(&host, 1).await;
    // What opened is told before; the next telling comes a minute later.
    relay.stop().await;
}

#[tokio::test]
async fn what_was_told_is_not_told_again_after_a_restart_and_a_dead_listener_hears_it_when_it_is_back() {
    let (host, listener) = (SmartHost::start().await, Listener::start().await);
    refuse_logins(&host, 5);
    let mut site = Site::before(&host);
    site.more = format!("[[notify.webhook]]\nurl = \"{}\"\n", listener.url);
    listener.answers("503 Service Unavailable");
    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    relay.admin.until_account_is(AccountState::Held).await;
    until("it was tried", async || (listener.refused() > 0).then_some(())).await;
    relay.stop().await;

    listener.answers("200 OK");
    let relay = site.start().await;
    listener.until(&["opened account_held"]).await;
    relay.stop().await;
    let relay = site.start().await;
    relay.admin.until_account_is(AccountState::Held).await;
    relay.stop().await;
    assert_eq!(listener.events(), ["opened account_held"], "told once");
}

#[tokio::test]
async fn the_warning_does_not_go_by_the_mail_that_is_broken() {
    let (sick, well) = (SmartHost::start().await, SmartHost::start().await);
    refuse_logins(&sick, 50);
    let payroll = account("payroll@contoso.com", &well, "senders = [\"payroll@contoso.com\"]\n");
    let mut site = Site::with(account(MAILBOX, &sick, "") + &payroll);
    site.more = "[notify]\nto = [\"it@contoso.com\"]\n".to_owned();
    let relay = site.start().await;
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    taken(&well, 1).await;
    let notice = well.recorded().messages[0].clone();
    assert_eq!(notice.recipients, ["it@contoso.com"]);
    let text = String::from_utf8_lossy(&notice.data).into_owned();
    assert!(text.contains("scanner@contoso.com cannot send"), "{text}");
    assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");
    assert!(!text.contains(PASSWORD));
    relay.stop().await;
}

#[tokio::test]
async fn the_heart_beats_while_nothing_needs_anybody() {
    let (host, listener) = (SmartHost::start().await, Listener::start().await);
    refuse_logins(&host, 50);
    let mut site = Site::before(&host);
    site.more = format!("[notify.heartbeat]\nurl = \"{}\"\nevery = \"10 s\"\n", listener.url);
    let relay = site.start().await;
    until("a beat", async || (listener.heard().len() == 1).then_some(())).await;
    assert_eq!(listener.heard()[0].0, "GET");
    assert!(relay.send(&["maria@contoso.com"], &mail("scan")).await.starts_with("250 "));
    relay.admin.until_account_is(AccountState::Held).await;
    relay.stop().await;
    let relay = site.start().await;
    relay.admin.until_account_is(AccountState::Held).await;
    assert_eq!(listener.heard().len(), 1, "it is held: silence is the alarm");
    relay.stop().await;
}
