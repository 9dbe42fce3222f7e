//! Facts of `dispatch`: what became of messages and accounts.

use super::Counter;
use crate::mail::{AccountId, Place, QueueId};
use crate::policy::advice::{About, Advice};
use crate::policy::breaker::Why;
use std::time::Duration;
use tracing::{error, info, warn};

/// Messages taken by a smart host for every recipient.
pub static DELIVERED_TOTAL: Counter = Counter::new();
/// Messages put off with an attempt spent.
pub static DEFERRED_TOTAL: Counter = Counter::new();
/// Messages given up for at least one recipient.
pub static DEAD_TOTAL: Counter = Counter::new();
/// Attempts whose outcome after the final dot is unknown; each may become a duplicate.
pub static OUTCOME_UNKNOWN_TOTAL: Counter = Counter::new();
/// Logins and connections that failed.
pub static ACCOUNT_FAILURES_TOTAL: Counter = Counter::new();

/// One fact about an account or one of its messages. Texts are escaped already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The smart host has it for every recipient.
    Delivered {
        /// The message.
        id: QueueId,
        /// The server's words to the end of data.
        said: String,
        /// Since the 250 to the device.
        after: Duration,
    },
    /// The smart host has it for some recipients; the others follow.
    TakenInPart {
        /// The message.
        id: QueueId,
        /// The server's words to the end of data.
        said: String,
        /// Recipients taken.
        taken: u32,
        /// Recipients to follow.
        left: usize,
    },
    /// To be tried again on the message's own schedule.
    Deferred {
        /// The message.
        id: QueueId,
        /// Why.
        said: String,
        /// Until the next attempt.
        retry_in: Duration,
        /// Attempts spent.
        attempts: u32,
    },
    /// Given up for at least one recipient; kept whole.
    Dead {
        /// The message.
        id: QueueId,
        /// Why.
        said: String,
        /// What to do.
        advice: Option<Advice>,
    },
    /// Lost after the final dot: the server may have it; it is sent again.
    OutcomeUnknown {
        /// The message.
        id: QueueId,
        /// What happened.
        said: String,
    },
    /// The account backs off as a whole; messages wait and spend nothing.
    BackingOff {
        /// Why.
        said: String,
        /// Until the next probe.
        retry_in: Duration,
        /// What it means.
        advice: Option<Advice>,
    },
    /// Only an admin ends this.
    Held {
        /// Why.
        said: String,
        /// Until the next probe.
        retry_in: Duration,
        /// What to do.
        advice: Option<Advice>,
        /// What to do in the failure's own words; in place of the advice's.
        remedy: Vec<String>,
    },
    /// A fault that calls itself temporary is probably a setting.
    Persistent {
        /// The latest words.
        said: String,
        /// How long.
        lasting: Duration,
        /// What to do.
        advice: Option<Advice>,
        /// What to do in the failure's own words; in place of the advice's.
        remedy: Vec<String>,
        /// Why it is taken for one.
        why: Why,
    },
    /// An outage lasts.
    StillOut {
        /// The latest words.
        said: String,
        /// How long.
        lasting: Duration,
        /// What it means.
        advice: Option<Advice>,
        /// What to do in the failure's own words; in place of the advice's.
        remedy: Vec<String>,
    },
    /// The account works again.
    Recovered {
        /// How long it did not.
        lasted: Duration,
    },
    /// The server takes fewer connections at once; those that are left go on.
    FewerConnections {
        /// Its words.
        said: String,
        /// So many are left.
        allowed: usize,
    },
    /// A further connection failed while another works: not an outage.
    ExtraConnectionFailed {
        /// Why.
        said: String,
        /// Not tried again before.
        retry_in: Duration,
    },
}

/// Seconds, for people.
fn s(d: Duration) -> String {
    humantime::format_duration(Duration::from_secs(d.as_secs())).to_string()
}

impl Fact {
    /// Logs and counts it.
    pub fn tell(&self, account: &AccountId, smart_host: &Place) {
        let about = About { mailbox: account.as_str(), smart_host };
        match self {
            Self::Delivered { id, said, after } => {
                DELIVERED_TOTAL.add(1);
                info!(event = "delivered", %id, %account, after_ms = ms(*after), "{id} delivered: {said}");
            }
            Self::TakenInPart { id, said, taken, left } => {
                info!(event = "taken_in_part", %id, %account, taken, left,
                    "{id} taken for {taken} recipients, {left} follow: {said}");
            }
            Self::Deferred { id, said, retry_in, attempts } => {
                DEFERRED_TOTAL.add(1);
                info!(event = "deferred", %id, %account, attempts, retry_in_ms = ms(*retry_in),
                    "{id} deferred, next attempt in {}: {said}", s(*retry_in));
            }
            Self::Dead { id, said, advice } => {
                DEAD_TOTAL.add(1);
                warn!(event = "dead_letter", %id, %account, "{id} given up and kept as a dead letter: {said}");
                hints(*advice, &[], about);
            }
            Self::OutcomeUnknown { id, said } => {
                OUTCOME_UNKNOWN_TOTAL.add(1);
                warn!(event = "outcome_unknown", %id, %account,
                    "{id} was sent but not confirmed ({said}); it will be sent again and may arrive twice");
            }
            Self::BackingOff { said, retry_in, advice } => {
                ACCOUNT_FAILURES_TOTAL.add(1);
                let meaning = advice.map(Advice::meaning).unwrap_or_default();
                warn!(event = "account_backing_off", %account, retry_in_ms = ms(*retry_in),
                    "{account} backs off, next probe in {}: {said} ({meaning})", s(*retry_in));
            }
            Self::Held { said, retry_in, advice, remedy } => {
                ACCOUNT_FAILURES_TOTAL.add(1);
                error!(event = "account_held", %account, retry_in_ms = ms(*retry_in),
                    "{account} is held, next probe in {}: {said}", s(*retry_in));
                hints(*advice, remedy, about);
            }
            Self::Persistent { said, lasting, advice, remedy, why } => {
                let why = match why {
                    Why::NeverWorked => "has never worked with these settings".to_owned(),
                    Why::AnotherWorks => {
                        format!("has failed for {} and another mailbox works at the same server", s(*lasting))
                    }
                    Why::TooLong => {
                        format!("has failed for {} and a passing fault would have passed by now", s(*lasting))
                    }
                    Why::Seldom => "has met a fault that seldom passes by itself".to_owned(),
                };
                error!(event = "account_misconfigured", %account, lasting_ms = ms(*lasting),
                    "{account} {why}: this is probably a setting, not a temporary error: {said}");
                hints(*advice, remedy, about);
            }
            Self::StillOut { said, lasting, advice, remedy } => {
                warn!(event = "account_waiting", %account, lasting_ms = ms(*lasting),
                    "{account} has been waiting for {}, all mail is kept: {said}", s(*lasting));
                hints(*advice, remedy, about);
            }
            Self::Recovered { lasted } => {
                info!(event = "account_recovered", %account, lasted_ms = ms(*lasted),
                    "{account} works again after {}", s(*lasted));
            }
            Self::FewerConnections { said, allowed } => {
                info!(event = "fewer_connections", %account, allowed,
                    "{account}: too many connections at once, going on with {allowed}: {said}");
            }
            Self::ExtraConnectionFailed { said, retry_in } => {
                ACCOUNT_FAILURES_TOTAL.add(1);
                info!(event = "extra_connection_failed", %account, retry_in_ms = ms(*retry_in),
                    "{account}: a further connection failed, the others go on: {said}");
            }
        }
    }
}

fn hints(advice: Option<Advice>, remedy: &[String], about: About<'_>) {
    if let Some(advice) = advice {
        warn!(event = "hint", account = about.mailbox, "meaning: {}", advice.meaning());
        let lines = if remedy.is_empty() { advice.remedy(about) } else { remedy.to_vec() };
        for line in lines {
            warn!(event = "hint", account = about.mailbox, "hint: {line}");
        }
        warn!(event = "hint", account = about.mailbox, "more: {}", advice.command());
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A settlement could not be written: the message is kept from being sent again until it is.
pub fn settlement_refused(id: QueueId, account: &AccountId, why: &str) {
    error!(event = "settlement_refused", %id, %account, "{id}: what became of it cannot be written yet: {why}");
}

/// OAuth failed and the password was used in its place.
pub fn password_stands_in(account: &AccountId, why: &str, until: &str) {
    warn!(event = "password_stands_in", %account, until,
        "{account}: OAuth failed ({why}); the password stands in until {until}; hint: mend OAuth before that day");
}

/// A settlement was given up at a stop.
pub fn settlement_lost(id: QueueId, account: &AccountId, why: &str) {
    error!(event = "settlement_lost", %id, %account,
        "{id}: what became of it is not on the disk ({why}); the next start sends it again, and it may arrive twice");
}

/// The queue cannot be read: nothing of the account is sent meanwhile.
pub fn lease_failed(account: &AccountId, why: &str) {
    error!(event = "lease_failed", %account, "cannot take mail of {account} from the queue: {why}");
}

/// The task of an account ended by a defect.
pub fn account_stopped(account: &AccountId) {
    error!(event = "account_stopped", %account,
        "{account} stopped sending by a defect of mailferry, what is queued is safe. hint: restart it and report the lines above");
}

/// Mail waits for an account that is not configured.
pub fn stranded(account: &AccountId, messages: u64) {
    warn!(event = "stranded", %account, messages,
        "{messages} messages for {account}, which is no account: nobody will send them. hint: configure it again, or give its mail to another: mailferry queue move --account {account} --to MAILBOX");
}

/// At a stop, an answer after the final dot was not waited for any longer.
pub fn drain_abandoned(account: &AccountId) {
    warn!(event = "drain_abandoned", %account,
        "{account} still waits for an answer at the end of the stop; what it is sending may arrive twice");
}

/// A note for the next start could not be written.
pub fn note_lost(name: &str, why: &str) {
    warn!(event = "note_lost", name, "cannot remember {name}: {why}");
}

/// More notices within the hour than anybody reads.
pub fn notice_withheld(id: QueueId, account: &AccountId) {
    warn!(event = "notice_withheld", %id, %account, "{id}: too many notices within the hour, this one is not mailed");
}
