//! Facts of `dispatch`: what became of messages and accounts.

use super::tally::{Add, Family, Kind, Value};
use super::{in_ms, in_words};
use crate::mail::{AccountId, Place, QueueId};
use crate::policy::advice::{About, Advice};
use crate::policy::breaker::Why;
use std::fmt;
use std::time::Duration;
use tracing::{error, info, warn};

/// A fact, and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whom.
    pub account: AccountId,
    /// Where its mail goes, where that is of interest.
    pub place: Option<Place>,
    /// What.
    pub fact: Fact,
}

/// What happened to an account or one of its messages. Texts are escaped already.
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
    /// A settlement could not be written: the message is kept from being sent again until it is.
    SettlementRefused {
        /// The message.
        id: QueueId,
        /// Why.
        why: String,
        /// For want of space, and not because the disk fails.
        is_full: bool,
    },
    /// A settlement was given up at a stop.
    SettlementLost {
        /// The message.
        id: QueueId,
        /// Why.
        why: String,
    },
    /// The queue cannot be read: nothing of the account is sent meanwhile.
    LeaseFailed {
        /// Why.
        why: String,
    },
    /// The task of the account ended by a defect.
    Stopped,
    /// Mail waits for an account that is not configured.
    Stranded {
        /// So many.
        messages: u64,
    },
    /// At a stop, an answer after the final dot was not waited for any longer.
    DrainAbandoned,
    /// A note for the next start could not be written.
    NoteLost {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// More notices within the hour than anybody reads.
    NoticeWithheld {
        /// About which message.
        id: QueueId,
    },
}

impl Fact {
    /// Whether its words or its advice may name the smart host.
    pub fn names_place(&self) -> bool {
        matches!(
            self,
            Self::Dead { .. } | Self::Held { .. } | Self::Persistent { .. } | Self::StillOut { .. }
        )
    }

    fn advice(&self) -> (Option<Advice>, &[String]) {
        match self {
            Self::Dead { advice, .. } => (*advice, &[]),
            Self::Held { advice, remedy, .. }
            | Self::Persistent { advice, remedy, .. }
            | Self::StillOut { advice, remedy, .. } => (*advice, remedy),
            _ => (None, &[]),
        }
    }
}

static DELIVERIES: Family = Family {
    name: "deliveries_total",
    help: "Attempts of messages that came to an outcome: taken for every recipient, put off, or given up for one.",
    labels: &["account", "outcome"],
    kind: Kind::Counter,
};
static TIME_TO_DELIVERY: Family = Family {
    name: "time_to_delivery_seconds",
    help: "From the 250 to the device until the smart host had the message for every recipient.",
    labels: &["account"],
    kind: Kind::Histogram(&[1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0]),
};
static UNKNOWN_OUTCOMES: Family = Family {
    name: "unknown_outcomes_total",
    help: "Attempts whose outcome after the final dot is unknown; each may become a duplicate.",
    labels: &["account"],
    kind: Kind::Counter,
};
static ACCOUNT_FAILURES: Family = Family {
    name: "account_failures_total",
    help: "Logins and connections that failed.",
    labels: &["account"],
    kind: Kind::Counter,
};

/// Everything that is counted here.
pub(super) static FAMILIES: &[&Family] =
    &[&DELIVERIES, &TIME_TO_DELIVERY, &UNKNOWN_OUTCOMES, &ACCOUNT_FAILURES];

impl Told {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self.fact {
            Fact::Delivered { .. } => "delivered",
            Fact::TakenInPart { .. } => "taken_in_part",
            Fact::Deferred { .. } => "deferred",
            Fact::Dead { .. } => "dead_letter",
            Fact::OutcomeUnknown { .. } => "outcome_unknown",
            Fact::BackingOff { .. } => "account_backing_off",
            Fact::Held { .. } => "account_held",
            Fact::Persistent { .. } => "account_misconfigured",
            Fact::StillOut { .. } => "account_waiting",
            Fact::Recovered { .. } => "account_recovered",
            Fact::FewerConnections { .. } => "fewer_connections",
            Fact::ExtraConnectionFailed { .. } => "extra_connection_failed",
            Fact::SettlementRefused { .. } => "settlement_refused",
            Fact::SettlementLost { .. } => "settlement_lost",
            Fact::LeaseFailed { .. } => "lease_failed",
            Fact::Stopped => "account_stopped",
            Fact::Stranded { .. } => "stranded",
            Fact::DrainAbandoned => "drain_abandoned",
            Fact::NoteLost { .. } => "note_lost",
            Fact::NoticeWithheld { .. } => "notice_withheld",
        }
    }

    pub(super) fn hints(&self) -> Vec<String> {
        let (advice, remedy) = self.fact.advice();
        let (Some(advice), Some(place)) = (advice, &self.place) else { return vec![] };
        let about = About { mailbox: self.account.as_str(), smart_host: place };
        let steps = if remedy.is_empty() { advice.remedy(about) } else { remedy.to_vec() };
        let mut lines = vec![format!("meaning: {}", advice.meaning())];
        lines.extend(steps.into_iter().map(|step| format!("hint: {step}")));
        lines.push(format!("more: {}", advice.command()));
        lines
    }

    pub(super) fn count(&self, add: Add<'_>) {
        let account = self.account.as_str();
        match &self.fact {
            Fact::Delivered { after, .. } => {
                add(&DELIVERIES, &[account, "delivered"], Value::More(1));
                add(&TIME_TO_DELIVERY, &[account], Value::Took(*after));
            }
            Fact::Deferred { .. } => add(&DELIVERIES, &[account, "deferred"], Value::More(1)),
            Fact::Dead { .. } => add(&DELIVERIES, &[account, "dead"], Value::More(1)),
            Fact::OutcomeUnknown { .. } => add(&UNKNOWN_OUTCOMES, &[account], Value::More(1)),
            Fact::BackingOff { .. } | Fact::Held { .. } | Fact::ExtraConnectionFailed { .. } => {
                add(&ACCOUNT_FAILURES, &[account], Value::More(1));
            }
            Fact::TakenInPart { .. }
            | Fact::Persistent { .. }
            | Fact::StillOut { .. }
            | Fact::Recovered { .. }
            | Fact::FewerConnections { .. }
            | Fact::SettlementRefused { .. }
            | Fact::SettlementLost { .. }
            | Fact::LeaseFailed { .. }
            | Fact::Stopped
            | Fact::Stranded { .. }
            | Fact::DrainAbandoned
            | Fact::NoteLost { .. }
            | Fact::NoticeWithheld { .. } => {}
        }
    }

    pub(super) fn log(&self) {
        let (event, account) = (self.event(), &self.account);
        match &self.fact {
            Fact::Delivered { id, after, .. } => {
                info!(event, %id, %account, after_ms = in_ms(*after), "{self}");
            }
            Fact::TakenInPart { id, taken, left, .. } => {
                info!(event, %id, %account, taken, left, "{self}");
            }
            Fact::Deferred { id, attempts, retry_in, .. } => {
                info!(event, %id, %account, attempts, retry_in_ms = in_ms(*retry_in), "{self}");
            }
            Fact::Dead { id, .. } | Fact::OutcomeUnknown { id, .. } | Fact::NoticeWithheld { id } => {
                warn!(event, %id, %account, "{self}");
            }
            Fact::BackingOff { retry_in, .. } => {
                warn!(event, %account, retry_in_ms = in_ms(*retry_in), "{self}");
            }
            Fact::Held { retry_in, .. } => {
                error!(event, %account, retry_in_ms = in_ms(*retry_in), "{self}");
            }
            Fact::Persistent { lasting, .. } => {
                error!(event, %account, lasting_ms = in_ms(*lasting), "{self}");
            }
            Fact::StillOut { lasting, .. } => {
                warn!(event, %account, lasting_ms = in_ms(*lasting), "{self}");
            }
            Fact::Recovered { lasted } => info!(event, %account, lasted_ms = in_ms(*lasted), "{self}"),
            Fact::FewerConnections { allowed, .. } => info!(event, %account, allowed, "{self}"),
            Fact::ExtraConnectionFailed { retry_in, .. } => {
                info!(event, %account, retry_in_ms = in_ms(*retry_in), "{self}");
            }
            Fact::SettlementRefused { id, .. } | Fact::SettlementLost { id, .. } => {
                error!(event, %id, %account, "{self}");
            }
            Fact::LeaseFailed { .. } | Fact::Stopped => error!(event, %account, "{self}"),
            Fact::Stranded { messages } => warn!(event, %account, messages, "{self}"),
            Fact::DrainAbandoned => warn!(event, %account, "{self}"),
            Fact::NoteLost { name, .. } => warn!(event, name, "{self}"),
        }
        for line in self.hints() {
            warn!(event = "hint", account = account.as_str(), "{line}");
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = &self.account;
        match &self.fact {
            Fact::Delivered { id, said, .. } => write!(f, "{id} delivered: {said}"),
            Fact::TakenInPart { id, said, taken, left } => {
                write!(f, "{id} taken for {taken} recipients, {left} follow: {said}")
            }
            Fact::Deferred { id, said, retry_in, .. } => {
                write!(f, "{id} deferred, next attempt in {}: {said}", in_words(*retry_in))
            }
            Fact::Dead { id, said, .. } => write!(f, "{id} given up and kept as a dead letter: {said}"),
            Fact::OutcomeUnknown { id, said } => write!(
                f,
                "{id} was sent but not confirmed ({said}); it will be sent again and may arrive twice"
            ),
            Fact::BackingOff { said, retry_in, advice } => {
                let meaning = advice.map(Advice::meaning).unwrap_or_default();
                write!(f, "{account} backs off, next probe in {}: {said} ({meaning})", in_words(*retry_in))
            }
            Fact::Held { said, retry_in, .. } => {
                write!(f, "{account} is held, next probe in {}: {said}", in_words(*retry_in))
            }
            Fact::Persistent { said, lasting, why, .. } => write!(
                f,
                "{account} {}: this is probably a setting, not a temporary error: {said}",
                Because(*why, *lasting)
            ),
            Fact::StillOut { said, lasting, .. } => {
                write!(f, "{account} has been waiting for {}, all mail is kept: {said}", in_words(*lasting))
            }
            Fact::Recovered { lasted } => write!(f, "{account} works again after {}", in_words(*lasted)),
            Fact::FewerConnections { said, allowed } => {
                write!(f, "{account}: too many connections at once, going on with {allowed}: {said}")
            }
            Fact::ExtraConnectionFailed { said, .. } => {
                write!(f, "{account}: a further connection failed, the others go on: {said}")
            }
            Fact::SettlementRefused { id, why, .. } => {
                write!(f, "{id}: what became of it cannot be written yet: {why}")
            }
            Fact::SettlementLost { id, why } => write!(
                f,
                "{id}: what became of it is not on the disk ({why}); the next start sends it again, and it may arrive \
                 twice"
            ),
            Fact::LeaseFailed { why } => write!(f, "cannot take mail of {account} from the queue: {why}"),
            Fact::Stopped => write!(
                f,
                "{account} stopped sending by a defect of mailferry, what is queued is safe. hint: restart it and report \
                 the lines above"
            ),
            Fact::Stranded { messages } => write!(
                f,
                "{messages} messages for {account}, which is no account: nobody will send them. hint: configure it again, \
                 or give its mail to another: mailferry queue move --account {account} --to MAILBOX"
            ),
            Fact::DrainAbandoned => write!(
                f,
                "{account} still waits for an answer at the end of the stop; what it is sending may arrive twice"
            ),
            Fact::NoteLost { name, why } => write!(f, "cannot remember {name}: {why}"),
            Fact::NoticeWithheld { id } => {
                write!(f, "{id}: too many notices within the hour, this one is not mailed")
            }
        }
    }
}

/// Why a fault that lasts so long already is taken for a setting.
struct Because(Why, Duration);

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = in_words(self.1);
        match self.0 {
            Why::NeverWorked => f.write_str("has never worked with these settings"),
            Why::AnotherWorks => {
                write!(f, "has failed for {lasting} and another mailbox works at the same server")
            }
            Why::TooLong => {
                write!(f, "has failed for {lasting} and a passing fault would have passed by now")
            }
            Why::Seldom => f.write_str("has met a fault that seldom passes by itself"),
        }
    }
}
