//! Facts of `notify`: whether whoever is to be told of an incident was.

use super::count::{Add, Family, Kind, Value};
use super::{in_ms, in_words};
use std::fmt;
use std::time::Duration;
use tracing::{debug, info, warn};

/// One of them; `said` is escaped, and no address of a channel is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A channel took a notice.
    Sent {
        /// Which.
        channel: String,
        /// About so many incidents; 0: a heartbeat.
        incidents: usize,
    },
    /// A channel did not take it; it is tried again.
    Failed {
        /// Which.
        channel: String,
        /// Why.
        said: String,
        /// How long that has been so.
        lasting: Duration,
    },
    /// What was told could not be remembered: after a restart it may be told again.
    NotRemembered {
        /// Which.
        channel: String,
        /// Why.
        said: String,
    },
}

static NOTICES: Family = Family {
    name: "notices_total",
    help: "Notices and heartbeats, by what came of them.",
    labels: &["channel", "result"],
    kind: Kind::Counter,
};

/// Everything that is counted here.
pub(super) static FAMILIES: &[&Family] = &[&NOTICES];

impl Fact {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Sent { incidents: 0, .. } => "heartbeat",
            Self::Sent { .. } => "notice_sent",
            Self::Failed { .. } => "notice_failed",
            Self::NotRemembered { .. } => "notice_not_remembered",
        }
    }

    pub(super) fn is_detail(&self) -> bool {
        matches!(self, Self::Sent { incidents: 0, .. })
    }

    pub(super) fn count(&self, add: Add<'_>) {
        match self {
            Self::Sent { channel, .. } => add(&NOTICES, &[channel, "sent"], Value::More(1)),
            Self::Failed { channel, .. } => add(&NOTICES, &[channel, "failed"], Value::More(1)),
            Self::NotRemembered { .. } => {}
        }
    }

    pub(super) fn log(&self) {
        let event = self.event();
        match self {
            Self::Sent { channel, incidents: 0 } => debug!(event, channel, "{self}"),
            Self::Sent { channel, incidents } => info!(event, channel, incidents, "{self}"),
            Self::Failed { channel, lasting, .. } => {
                warn!(event, channel, lasting_ms = in_ms(*lasting), "{self}");
            }
            Self::NotRemembered { channel, .. } => warn!(event, channel, "{self}"),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { channel, incidents: 0 } => write!(f, "{channel} was called"),
            Self::Sent { channel, incidents: 1 } => write!(f, "1 incident was told by {channel}"),
            Self::Sent { channel, incidents } => write!(f, "{incidents} incidents were told by {channel}"),
            Self::Failed { channel, said, lasting } if lasting.is_zero() => {
                write!(f, "a notice by {channel} did not get through, it is tried again: {said}")
            }
            Self::Failed { channel, said, lasting } => {
                let lasting = in_words(*lasting);
                write!(f, "no notice has got through by {channel} for {lasting}, it is tried again: {said}")
            }
            Self::NotRemembered { channel, said } => {
                write!(f, "what was told by {channel} cannot be remembered, it may be told again: {said}")
            }
        }
    }
}
