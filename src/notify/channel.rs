//! The channels at work: each looks at the list, tells what is due, and remembers what it told.
//!
//! Invariant: a channel that is slow or out of order holds up no other. The address of a webhook is in no log and no
//! error. Must not know: why an incident is one.

use super::Settings;
use super::outbox::{Item, Outbox};
use super::text::{self, Relay};
use crate::fact::{Witness, notify::Fact};
use crate::http::{Client, Limits, Method, Uri};
use crate::letter::report::AdminNotice;
use crate::mail::{AccountId, Mailbox, RelayTime, WallTime};
use crate::policy::incident::{Incident, Severity};
use crate::queue::{self, Clock, Notes, Notice};
use crate::tls::Trust;
use futures_util::future::{BoxFuture, join_all};
use jiff::tz::TimeZone;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The list is looked at this often although nothing rang: counts change without a ring.
const LOOK: Duration = Duration::from_secs(30);
/// A heartbeat that does not come through is tried again after this, and no later than the next one.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(30);

/// How a webhook wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An object for programs.
    #[default]
    Json,
    /// An adaptive card.
    Teams,
    /// A text.
    Slack,
}

/// A `[[notify.webhook]]`.
#[derive(Clone)]
pub struct Webhook {
    /// Its address, which is all that protects it.
    pub url: SecretString,
    /// How it wants to be told.
    pub format: Format,
}

/// `[notify.heartbeat]`.
#[derive(Clone)]
pub struct Heartbeat {
    /// Called while no incident needs anybody; its silence is the alarm.
    pub url: SecretString,
    /// How often.
    pub every: Duration,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Webhook({:?})", self.format)
    }
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heartbeat({:?})", self.every)
    }
}

/// What the rest of the relay is asked.
pub trait Site: Send + Sync + 'static {
    /// How many messages wait, and for how long the oldest.
    fn waiting(&self) -> BoxFuture<'_, (u64, Option<Duration>)>;
    /// An account through which mail gets out now, and the mailbox it writes as.
    fn works(&self) -> BoxFuture<'_, Option<(AccountId, Mailbox)>>;
    /// Whether mail goes to the sandbox.
    fn is_sandbox(&self) -> bool;
}

/// What a notifier works with.
pub struct Notifier {
    /// `[notify]`; replaced on reload.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The open incidents, worst first.
    pub incidents: watch::Receiver<Arc<[Incident]>>,
    /// The rest of the relay.
    pub site: Arc<dyn Site>,
    /// Where mail is put.
    pub outbox: Arc<dyn queue::Outbox>,
    /// Where it is remembered what was told.
    pub notes: Arc<dyn Notes>,
    /// The queue's.
    pub clock: Clock,
    /// Who is told how it went.
    pub witness: Witness,
}

/// Where a channel goes.
#[derive(Clone)]
enum Way {
    Mail,
    Webhook { url: Uri, format: Format },
}

/// One channel.
struct Channel {
    /// As it is called in the log and in `status`.
    name: String,
    /// Under which it is remembered.
    note: String,
    way: Way,
    outbox: Outbox,
}

impl Notifier {
    /// Tells until `stop` resolves.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut channels: Vec<Channel> = vec![];
        let mut heart = Heart::default();
        let mut is_new = true;
        loop {
            if std::mem::take(&mut is_new) {
                channels = self.channels().await;
            }
            let told = async {
                self.tell(&mut channels).await;
                self.beat(&mut heart).await;
            };
            tokio::select! {
                () = told => {}
                () = &mut stop => return,
            }
            let now = self.clock.now();
            let next = channels.iter().filter_map(|c| c.outbox.wake_at()).chain(heart.next).min();
            // A millisecond more: the clock counts whole ones.
            let wait = next.map_or(LOOK, |t| t.since(now) + Duration::from_millis(1)).min(LOOK);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.incidents.changed() => if changed.is_err() { return },
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    is_new = true;
                }
                () = &mut stop => return,
            }
        }
    }

    /// The configured channels, each with what it remembers.
    async fn channels(&mut self) -> Vec<Channel> {
        let settings = Arc::clone(&self.settings.borrow_and_update());
        let mut ways: Vec<(String, String, Way)> = vec![];
        if !settings.to.is_empty() {
            ways.push(("mail".to_owned(), "notify/mail".to_owned(), Way::Mail));
        }
        for (n, webhook) in settings.webhooks.iter().enumerate() {
            // Checked with the configuration.
            let Ok(url) = webhook.url.expose_secret().parse::<Uri>() else { continue };
            let digest =
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, webhook.url.expose_secret().as_bytes());
            let short: String = digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
            let way = Way::Webhook { url, format: webhook.format };
            ways.push((format!("webhook {}", n + 1), format!("notify/webhook/{short}"), way));
        }
        let mut channels = vec![];
        for (name, note, way) in ways {
            let kept = self.notes.note(&note).await.ok().flatten();
            let outbox = kept.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
            channels.push(Channel { name, note, way, outbox });
        }
        channels
    }

    async fn tell(&mut self, channels: &mut [Channel]) {
        let open = Arc::clone(&self.incidents.borrow_and_update());
        let (waiting, oldest) = self.site.waiting().await;
        let settings = Arc::clone(&self.settings.borrow());
        let relay =
            Relay { hostname: &settings.hostname, is_sandbox: self.site.is_sandbox(), waiting, oldest };
        let this = &*self;
        join_all(channels.iter_mut().map(|c| this.tell_one(c, &open, &settings, &relay))).await;
    }

    async fn tell_one(
        &self,
        channel: &mut Channel,
        open: &[Incident],
        settings: &Settings,
        relay: &Relay<'_>,
    ) {
        let now = self.clock.now();
        let mut is_other = channel.outbox.look(now, WallTime::now(), open, relay.waiting);
        let due = channel.outbox.due(now);
        if !due.is_empty() {
            is_other = true;
            let told = match &channel.way {
                Way::Mail => self.mail(&due, settings, relay, now).await,
                Way::Webhook { url, format } => post(&due, url, *format, settings, relay).await,
            };
            // A slow channel has taken its time.
            let now = self.clock.now();
            let (name, incidents) = (channel.name.clone(), due.len());
            match told {
                Ok(()) => {
                    channel.outbox.sent(now, &due);
                    self.witness.tell(Fact::Sent { channel: name, incidents });
                }
                Err(said) => {
                    let lasting = channel.outbox.failed(now, fastrand::f64());
                    self.witness.tell(Fact::Failed { channel: name, said, lasting });
                }
            }
        }
        if is_other {
            let json = serde_json::to_string(&channel.outbox).expect("plain numbers and texts");
            if let Err(error) = self.notes.set_note(&channel.note, Some(json)).await {
                self.witness
                    .tell(Fact::NotRemembered { channel: channel.name.clone(), said: error.to_string() });
            }
        }
    }

    /// Through an account that works: the warning that mail is broken is not to go by the mail that is broken.
    async fn mail(
        &self,
        items: &[Item],
        settings: &Settings,
        relay: &Relay<'_>,
        now: RelayTime,
    ) -> Result<(), String> {
        let (account, from) = self.site.works().await.ok_or("no account works at the moment")?;
        let (subject, paragraphs) = text::mail(items, relay, &TimeZone::system());
        let (id, wall) = (self.outbox.next_id(), WallTime::now());
        let written = AdminNotice {
            id,
            subject: &subject,
            paragraphs: &paragraphs,
            hostname: &settings.hostname,
            // Its words say so themselves.
            is_sandbox: false,
            from: &from,
            to: &settings.to,
            now: wall,
        }
        .write();
        let notice = Notice::of_the_relay(
            id,
            account,
            settings.to.clone(),
            (written.head, written.content),
            wall,
            now,
        );
        self.outbox.post(vec![notice]).await.map(drop).map_err(|e| e.to_string())
    }

    /// Says that all is well, while it is.
    async fn beat(&self, heart: &mut Heart) {
        let settings = Arc::clone(&self.settings.borrow());
        let Some(heartbeat) = &settings.heartbeat else {
            heart.next = None;
            return;
        };
        let now = self.clock.now();
        if heart.next.is_some_and(|at| now < at) {
            return;
        }
        let needs_somebody = self.incidents.borrow().iter().any(|i| i.severity == Severity::NeedsYou);
        if needs_somebody {
            heart.next = Some(now + heartbeat.every);
            return;
        }
        let called = match heartbeat.url.expose_secret().parse::<Uri>() {
            Ok(url) => ask(&url, Method::Get, vec![], &settings).await,
            Err(_) => Err("its address is none".to_owned()),
        };
        let (channel, now) = ("heartbeat".to_owned(), self.clock.now());
        match called {
            Ok(()) => {
                (heart.failing_since, heart.next) = (None, Some(now + heartbeat.every));
                self.witness.tell(Fact::Sent { channel, incidents: 0 });
            }
            Err(said) => {
                let lasting = now.since(*heart.failing_since.get_or_insert(now));
                heart.next = Some(now + HEARTBEAT_RETRY.min(heartbeat.every));
                self.witness.tell(Fact::Failed { channel, said, lasting });
            }
        }
    }
}

/// When the heart beats next.
#[derive(Default)]
struct Heart {
    next: Option<RelayTime>,
    failing_since: Option<RelayTime>,
}

async fn post(
    items: &[Item],
    url: &Uri,
    format: Format,
    settings: &Settings,
    relay: &Relay<'_>,
) -> Result<(), String> {
    let value = match format {
        Format::Json => text::for_programs(items, relay),
        Format::Teams => text::for_teams(items, relay, &TimeZone::system()),
        Format::Slack => text::for_slack(items, relay, &TimeZone::system()),
    };
    ask(url, Method::Post("application/json"), value.to_string().into_bytes(), settings).await
}

/// What is said of a failure names the host and no more: the rest of the address is a secret.
async fn ask(url: &Uri, method: Method, body: Vec<u8>, settings: &Settings) -> Result<(), String> {
    let trust = Trust::new(None).map_err(|e| e.to_string())?;
    let client = Client::new(trust, settings.proxy.clone(), Limits::default());
    let answer = client.ask(method, url, Zeroizing::new(body)).await.map_err(|e| e.to_string())?;
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    Err(format!("{} answers {}", url.host().unwrap_or_default(), answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_webhook_is_in_no_debug_output() {
        let url = SecretString::from("https://hooks.example/services/T0/B0/s3cret");
        let settings = Settings {
            webhooks: vec![Webhook { url: url.clone(), format: Format::Slack }],
            heartbeat: Some(Heartbeat { url, every: Duration::from_secs(300) }),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
    }
}
