//! An open incident, as `status` says it.
//!
//! Invariant: what anybody may see has no text of a peer and no address in it. Must not know: what opens one.

use super::At;
use crate::policy::incident::{Incident, Kind, Severity};
use serde::{Deserialize, Serialize};

/// One.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentStatus {
    /// Its name, never used again.
    pub id: String,
    /// What is wrong.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// The account, device, place or channel it is about.
    pub subject: String,
    /// When it began.
    pub since: At,
    /// When it ended; of an open one none.
    pub until: Option<At>,
    /// How often it was met, or how many it is about.
    pub count: u64,
    /// What is wrong, one line.
    pub what: String,
    /// What that means.
    pub meaning: String,
    /// What to do, most likely first.
    pub steps: Vec<String>,
    /// The name of its entry for `mailferry explain`; may be empty.
    pub more: String,
}

impl From<Incident> for IncidentStatus {
    fn from(i: Incident) -> Self {
        Self {
            id: i.id,
            kind: i.kind,
            severity: i.severity,
            subject: i.subject,
            since: At(i.since),
            until: i.until.map(At),
            count: i.count,
            what: i.words.what,
            meaning: i.words.meaning,
            steps: i.words.steps,
            more: i.words.more,
        }
    }
}

impl IncidentStatus {
    /// So much as anybody may see.
    pub fn abridged(self) -> Self {
        Self { subject: String::new(), what: in_general(self.kind).to_owned(), steps: vec![], ..self }
    }
}

/// What is wrong, without whom it is about.
fn in_general(kind: Kind) -> &'static str {
    match kind {
        Kind::Sandbox => "SANDBOX: mail goes to the sandbox, and nobody gets it",
        Kind::AccountHeld => "an account cannot send",
        Kind::AccountWaiting => "an account waits until the smart host is ready",
        Kind::PasswordStandsIn => "oauth fails and the password stands in",
        Kind::QueueRefuses => "the queue takes no mail",
        Kind::ConfigurationNotTaken => "the configuration in force is not what is in the file",
        Kind::MessagesGivenUp => "messages were given up",
        Kind::CredentialEnds => "a credential ends soon, or has ended",
        Kind::RecipientsNearLimit => "the day's recipients are nearly used up",
        Kind::MessagesLate => "messages have been waiting for long",
        Kind::DiskLow => "the queue's disk is nearly full",
        Kind::DeviceRefused => "a device is refused",
        Kind::DeviceSilent => "a device has fallen silent",
        Kind::NoticeFailed => "notices do not arrive",
    }
}

/// How bad, in a word or two.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::NeedsYou => "needs you",
        Severity::Waiting => "waiting",
        Severity::Warning => "warning",
        Severity::Information => "information",
    }
}
