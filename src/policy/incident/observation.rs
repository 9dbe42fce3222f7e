//! What is observed of the relay, and what each observation says of the incidents: the table's rows in words.
//!
//! Invariant: every kind has an observation that opens it and one that ends it (the sandbox alone stays). Must not
//! know: the list.

use super::{Count, Kind, Says, Severity, Words};
use crate::mail::{AccountId, Place, QueueId, WallTime};
use crate::policy::advice::{About, Advice, Side};
use crate::policy::expiry::expiry_warning;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// In per cent of the day's limit: opens at the first, ends below the second.
const NEAR_LIMIT: (u64, u64) = (80, 70);

/// What somebody saw. Texts are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// An account is held: only a person ends it.
    AccountHeld(Trouble),
    /// An account has been backing off for long, or a setting is the likely cause.
    AccountWaits {
        /// Why.
        trouble: Trouble,
        /// It is probably a setting.
        is_setting: bool,
    },
    /// Mail flows, or a login went through.
    AccountWorks(AccountId),
    /// OAuth failed, and the password was used.
    PasswordStandsIn {
        /// Whose.
        account: AccountId,
        /// Why OAuth failed.
        said: String,
        /// The last day on which it may.
        until: String,
        /// Whole days left, that one counted.
        days_left: i64,
    },
    /// OAuth works.
    OAuthWorks(AccountId),
    /// When a credential ends.
    Credential {
        /// Whose, and what: the incident's subject.
        subject: String,
        /// `the client secret of scanner@contoso.com ends in 5 days, on ...`.
        what: String,
        /// What to do.
        steps: Vec<String>,
        /// Whole days left; negative once it has ended.
        days_left: i64,
    },
    /// How much of the day's recipients is used.
    Recipients {
        /// Whose.
        account: AccountId,
        /// In 24 hours.
        used: u64,
        /// In 24 hours; 0: no limit.
        limit: u64,
    },
    /// How many dead letters of one cause there are.
    GivenUp {
        /// Whose.
        account: AccountId,
        /// Where it leaves.
        smart_host: Place,
        /// The cause, where the catalogue knows it.
        advice: Option<Advice>,
        /// So many; none: it is over.
        messages: u64,
        /// One of them, for its words.
        example: Option<(QueueId, String)>,
    },
    /// The oldest message that waits.
    Oldest {
        /// How long it has been waiting, and how many wait.
        waiting: Option<(Duration, u64)>,
        /// From when on that is late.
        warn_after: Duration,
    },
    /// The queue did not take a message.
    QueueRefused {
        /// For want of space, and not because the disk fails.
        is_full: bool,
        /// Why.
        said: String,
        /// Where it is.
        directory: PathBuf,
    },
    /// The queue took a message.
    QueueTook,
    /// Room on the queue's disk.
    DiskSpace {
        /// Bytes.
        free_bytes: u64,
        /// Bytes that are always left.
        min_free_bytes: u64,
        /// Where it is.
        directory: PathBuf,
    },
    /// An address that may not relay tried to, or a device speaks in a way that cannot work.
    DeviceRefused {
        /// Whose.
        address: IpAddr,
        /// What it did, as the end of a sentence: `tried to relay and is in no client network`.
        did: String,
        /// What to do.
        steps: Vec<String>,
    },
    /// A device may relay, or did.
    DeviceWelcome(IpAddr),
    /// Whether a device has been silent for too long.
    DeviceSilence {
        /// Its client and address, or the client alone.
        subject: String,
        /// Since when, if too long.
        silent_since: Option<WallTime>,
    },
    /// The running relay does not have what is in the file.
    ConfigurationNotTaken {
        /// Which of them: `changed`, `refused`, `restart`.
        why: NotTaken,
        /// In words.
        what: String,
        /// What to do.
        step: String,
    },
    /// It has it.
    ConfigurationTaken(NotTaken),
    /// Mail goes to the sandbox.
    Sandbox,
    /// A channel could not be reached for an hour.
    NoticeFailed {
        /// The channel, without its address.
        channel: String,
        /// Why.
        said: String,
    },
    /// A channel took a notice.
    NoticeDelivered {
        /// The channel.
        channel: String,
    },
}

/// An account's trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whose.
    pub account: AccountId,
    /// Where.
    pub smart_host: Place,
    /// The server's words, or the system's.
    pub said: String,
    /// What it means.
    pub advice: Option<Advice>,
    /// What to do in the failure's own words; in place of the advice's.
    pub remedy: Vec<String>,
}

/// Why a configuration is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotTaken {
    /// The file is another than the one that was read.
    Changed,
    /// A reload refused it.
    Refused,
    /// Something in it counts after a restart only.
    Restart,
}

impl NotTaken {
    fn subject(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Restart => "restart",
        }
    }
}

impl Trouble {
    fn words(&self, what: String) -> Words {
        let about = About { mailbox: self.account.as_str(), smart_host: &self.smart_host };
        let steps = match self.advice {
            Some(advice) if self.remedy.is_empty() => advice.remedy(about),
            _ => self.remedy.clone(),
        };
        Words {
            what,
            meaning: self.advice.map(Advice::meaning).unwrap_or_default().to_owned(),
            steps,
            more: self.advice.map(|a| a.entry().slug.to_owned()).unwrap_or_default(),
        }
    }
}

fn is(severity: Severity, count: Count, words: Words) -> Says {
    Says::Is { severity, count, words, news: 0 }
}

fn words(what: impl Into<String>, meaning: &str, steps: Vec<String>) -> Words {
    Words { what: what.into(), meaning: meaning.to_owned(), steps, more: String::new() }
}

impl Observation {
    /// What it says, of which incidents.
    pub(super) fn says(&self, now: WallTime) -> Vec<(Kind, String, Says)> {
        match self {
            Self::AccountHeld(trouble) => held(trouble),
            Self::AccountWaits { trouble, is_setting } => vec![waits(trouble, *is_setting)],
            Self::AccountWorks(account) => [Kind::AccountHeld, Kind::AccountWaiting]
                .map(|kind| (kind, account.to_string(), Says::Over))
                .into(),
            Self::PasswordStandsIn { account, said, until, days_left } => {
                vec![stands_in(account, said, until, *days_left)]
            }
            Self::OAuthWorks(account) => vec![(Kind::PasswordStandsIn, account.to_string(), Says::Over)],
            Self::Credential { subject, what, steps, days_left } => {
                vec![(Kind::CredentialEnds, subject.clone(), ends(what, steps, *days_left))]
            }
            Self::Recipients { account, used, limit } => near_limit(account, *used, *limit),
            Self::GivenUp { account, smart_host, advice, messages, example } => {
                vec![given_up(account, smart_host, *advice, *messages, example.as_ref())]
            }
            Self::Oldest { waiting, warn_after } => vec![oldest(*waiting, *warn_after)],
            Self::QueueRefused { is_full, said, directory } => vec![refuses(*is_full, said, directory)],
            Self::QueueTook => vec![(Kind::QueueRefuses, "queue".to_owned(), Says::Over)],
            Self::DiskSpace { free_bytes, min_free_bytes, directory } => {
                vec![space(*free_bytes, *min_free_bytes, directory)]
            }
            Self::DeviceRefused { address, did, steps } => {
                let meaning = "it gets an error for every message, and most devices do not keep them";
                let words = words(format!("{address} {did}"), meaning, steps.clone());
                vec![(Kind::DeviceRefused, address.to_string(), is(Severity::Warning, Count::More, words))]
            }
            Self::DeviceWelcome(address) => vec![(Kind::DeviceRefused, address.to_string(), Says::Over)],
            Self::DeviceSilence { subject, silent_since } => {
                vec![(Kind::DeviceSilent, subject.clone(), silence(subject, *silent_since, now))]
            }
            Self::ConfigurationNotTaken { why, what, step } => {
                let meaning = "the relay goes on with what it read before";
                let words = words(what, meaning, vec![step.clone()]);
                vec![(
                    Kind::ConfigurationNotTaken,
                    why.subject().to_owned(),
                    is(Severity::NeedsYou, Count::More, words),
                )]
            }
            Self::ConfigurationTaken(why) => {
                vec![(Kind::ConfigurationNotTaken, why.subject().to_owned(), Says::Over)]
            }
            Self::Sandbox => vec![(Kind::Sandbox, "sandbox".to_owned(), sandbox())],
            Self::NoticeFailed { channel, said } => {
                let words = words(
                    format!("notices do not arrive by {channel}: {said}"),
                    "who relies on that channel hears nothing",
                    vec!["check its address in [notify], and that this host may reach it".to_owned()],
                );
                vec![(Kind::NoticeFailed, channel.clone(), is(Severity::Warning, Count::More, words))]
            }
            Self::NoticeDelivered { channel } => vec![(Kind::NoticeFailed, channel.clone(), Says::Over)],
        }
    }
}

fn held(trouble: &Trouble) -> Vec<(Kind, String, Says)> {
    let account = trouble.account.to_string();
    let mut words = trouble.words(format!("{account} cannot send: {}", trouble.said));
    words.steps.push(format!("once it is mended: mailferry account resume {account}"));
    vec![
        (Kind::AccountWaiting, account.clone(), Says::GivesWay),
        (Kind::AccountHeld, account, is(Severity::NeedsYou, Count::More, words)),
    ]
}

fn waits(trouble: &Trouble, is_setting: bool) -> (Kind, String, Says) {
    let account = trouble.account.to_string();
    let (severity, what) = if is_setting {
        (Severity::NeedsYou, format!("{account} cannot send, and it is probably a setting: {}", trouble.said))
    } else {
        (Severity::Waiting, format!("{account} waits until the smart host is ready: {}", trouble.said))
    };
    (Kind::AccountWaiting, account, is(severity, Count::More, trouble.words(what)))
}

fn stands_in(account: &AccountId, said: &str, until: &str, days_left: i64) -> (Kind, String, Says) {
    let left = match days_left {
        ..=0 => "today is its last day".to_owned(),
        1 => "1 day is left".to_owned(),
        days => format!("{days} days are left"),
    };
    let words = words(
        format!("{account}: oauth fails and the password stands in until {until}, {left}: {said}"),
        "mail goes out until that day, and not a day longer",
        vec![format!("find out why: mailferry doctor --account {account}")],
    );
    (Kind::PasswordStandsIn, account.to_string(), is(Severity::NeedsYou, Count::More, words))
}

fn ends(what: &str, steps: &[String], days_left: i64) -> Says {
    let Some(due) = expiry_warning(days_left, None) else { return Says::Over };
    let severity = if days_left <= 7 { Severity::NeedsYou } else { Severity::Warning };
    let meaning = "from then on the relay keeps this mailbox's mail and cannot send it";
    let words = words(what, meaning, steps.to_vec());
    // Each of the steps ahead is told, and the end itself.
    let news = if days_left < 0 { u64::MAX } else { u64::from(u16::MAX - due) };
    Says::Is { severity, count: Count::More, words, news }
}

fn near_limit(account: &AccountId, used: u64, limit: u64) -> Vec<(Kind, String, Says)> {
    let percent = (used * 100).checked_div(limit).unwrap_or(0);
    let says = if percent >= NEAR_LIMIT.0 {
        let words = words(
            format!("{account} has written to {used} recipients in 24 hours, of {limit}"),
            "at the limit the mail waits until there is room again",
            vec![
                "give a part of the mail to another mailbox: senders or recipient_domains of a further [[account]]"
                    .to_owned(),
            ],
        );
        is(Severity::Warning, Count::Now(used), words)
    } else if percent < NEAR_LIMIT.1 {
        Says::Over
    } else {
        return vec![];
    };
    vec![(Kind::RecipientsNearLimit, account.to_string(), says)]
}

fn given_up(
    account: &AccountId,
    smart_host: &Place,
    advice: Option<Advice>,
    messages: u64,
    example: Option<&(QueueId, String)>,
) -> (Kind, String, Says) {
    let slug = advice.map_or("unknown", |a| a.entry().slug);
    let subject = format!("{account} {slug}");
    if messages == 0 {
        return (Kind::MessagesGivenUp, subject, Says::Over);
    }
    // One mistyped address is the sender's to mend, and must not stand beside an outage.
    let is_only_the_address =
        matches!(advice, Some(Advice::NoSuchRecipient | Advice::RecipientFull | Advice::ForeignHost));
    let severity = if is_only_the_address { Severity::Information } else { Severity::NeedsYou };
    let many = if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") };
    let why = match (advice, example) {
        (Some(advice), _) => advice.entry().meaning.to_owned(),
        (None, Some((_, said))) => said.clone(),
        (None, None) => "the reason is with each".to_owned(),
    };
    let about = About { mailbox: account.as_str(), smart_host };
    let mut steps = advice.map(|a| a.remedy(about)).unwrap_or_default();
    if let Some((id, _)) = example {
        steps.push(format!("look at one: mailferry queue show {id}"));
    }
    let whose = advice.map(|a| a.entry().blame);
    if whose != Some(Side::Message) {
        steps.push(format!("once it is mended: mailferry queue retry --reason {slug}"));
    }
    let words = Words {
        what: format!("{many} given up for {account}: {why}"),
        meaning: "they are kept whole until somebody retries or removes them".to_owned(),
        steps,
        more: advice.map(|a| a.entry().slug.to_owned()).unwrap_or_default(),
    };
    // One more is no news; ten times as many are.
    let says = Says::Is { severity, count: Count::Now(messages), words, news: messages.ilog10().into() };
    (Kind::MessagesGivenUp, subject, says)
}

fn oldest(waiting: Option<(Duration, u64)>, warn_after: Duration) -> (Kind, String, Says) {
    let says = match waiting {
        Some((age, messages)) if age >= warn_after => {
            let many = if messages == 1 { "1 waits".to_owned() } else { format!("{messages} wait") };
            let age = humantime::format_duration(Duration::from_secs(age.as_secs() / 60 * 60));
            let words = words(
                format!("the oldest message has been waiting for {age}, {many}"),
                "nothing is lost; somebody may be waiting for it",
                vec!["see why each waits: mailferry queue list --state queued".to_owned()],
            );
            is(Severity::Warning, Count::Now(messages), words)
        }
        _ => Says::Over,
    };
    (Kind::MessagesLate, "queue".to_owned(), says)
}

fn refuses(is_full: bool, said: &str, directory: &std::path::Path) -> (Kind, String, Says) {
    let directory = directory.display();
    let step = if is_full {
        format!("make room: df -h {directory}; du -xsh {directory}/..")
    } else {
        format!(
            "check the disk under {directory}: journalctl -k, smartctl; see journalctl -u mailferry -g queue_"
        )
    };
    let words = words(
        format!("the queue takes no mail: {said}"),
        "devices are told to try again later, and most of them do not",
        vec![step],
    );
    (Kind::QueueRefuses, "queue".to_owned(), is(Severity::NeedsYou, Count::More, words))
}

fn space(free_bytes: u64, min_free_bytes: u64, directory: &std::path::Path) -> (Kind, String, Says) {
    let says = if free_bytes >= min_free_bytes.saturating_mul(2) {
        Says::Over
    } else {
        let mib = |bytes: u64| bytes >> 20;
        let words = words(
            format!(
                "{} MiB are free under {}, and below {} no mail is taken",
                mib(free_bytes),
                directory.display(),
                mib(min_free_bytes)
            ),
            "at the limit devices are told to try again later, and most of them do not",
            vec![format!("make room: df -h {}", directory.display())],
        );
        is(Severity::Warning, Count::More, words)
    };
    (Kind::DiskLow, "queue".to_owned(), says)
}

fn silence(subject: &str, silent_since: Option<WallTime>, now: WallTime) -> Says {
    let Some(since) = silent_since else { return Says::Over };
    let hours = (now.as_ms() - since.as_ms()).max(0) / 3_600_000;
    let long = match (hours / 24, hours) {
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    };
    let words = words(
        format!("{subject} has sent nothing for {long}"),
        "it may be off, or set to another server",
        vec!["send a test from its panel, and see: mailferry devices".to_owned()],
    );
    is(Severity::Warning, Count::More, words)
}

fn sandbox() -> Says {
    let words = words(
        "SANDBOX: mail goes to the sandbox, and nobody gets it",
        "that is for trying out",
        vec!["for real mail, start it without --sandbox".to_owned()],
    );
    is(Severity::Warning, Count::More, words)
}
