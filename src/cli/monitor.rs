//! `status --check`: the relay in one line, as monitoring systems want it.
//!
//! Invariant: one line, always, also when nothing can be told; the exit code is the monitor's. Must not know: how the
//! relay is asked.

use crate::control::report::{Status, level};
use crate::mail::WallTime;
use crate::policy::incident::Severity;
use clap::ValueEnum;

/// Who reads the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Nagios, Icinga, Naemon: text, then performance data
    Nagios,
    /// Checkmk: a local check
    Checkmk,
    /// Zabbix: JSON in one line, for dependent items
    Zabbix,
}

/// The plugins' states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl State {
    fn of(status: &Status) -> Self {
        match level(status) {
            Severity::Information => Self::Ok,
            Severity::Warning | Severity::Waiting => Self::Warning,
            Severity::NeedsYou => Self::Critical,
        }
    }

    /// The exit code, and the number in the line.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The line of a relay that answered, or of its queue when it does not run.
pub(super) fn line(status: &Status, format: Format, now: WallTime) -> (State, String) {
    let state = State::of(status);
    let (queued, dead) = (status.queue.queued, status.queue.dead);
    let oldest = status.queue.oldest.map_or(0, |at| (now.as_ms() - at.0.as_ms()).max(0) / 1000);
    let (word, code, text) = (state.word(), state.code(), plain(&status.sentence));
    let line = match format {
        Format::Nagios => {
            format!("MAILFERRY {word} - {text} | queued={queued} oldest={oldest}s dead={dead}")
        }
        Format::Checkmk => format!("{code} mailferry queued={queued}|oldest={oldest}|dead={dead} {text}"),
        Format::Zabbix => serde_json::json!({
            "state": code,
            "text": status.sentence,
            "running": status.running,
            "queued": queued,
            "oldest_seconds": oldest,
            "held": status.queue.held,
            "dead": dead,
            "incidents": status.incidents,
        })
        .to_string(),
    };
    (state, line + "\n")
}

/// The same when there is nothing to count: `why` it cannot be told, or that the relay does not run.
pub(super) fn line_without(state: State, why: &str, format: Format) -> String {
    let (word, code, text) = (state.word(), state.code(), plain(why));
    match format {
        Format::Nagios => format!("MAILFERRY {word} - {text}\n"),
        Format::Checkmk => format!("{code} mailferry - {text}\n"),
        Format::Zabbix => format!("{}\n", serde_json::json!({ "state": code, "text": why })),
    }
}

/// A bar begins performance data, and a line ends the text.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '|' || c.is_control() { '/' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{At, IncidentStatus, QueueStatus};
    use crate::policy::incident::Kind;
    use std::collections::BTreeMap;

    fn status(is_running: bool, worst: Option<Severity>) -> Status {
        let incident = |severity| IncidentStatus {
            id: "i1".to_owned(),
            kind: Kind::AccountWaiting,
            severity,
            subject: "scanner@contoso.com".to_owned(),
            since: At(WallTime::from_ms(0)),
            until: None,
            count: 1,
            what: "busy".to_owned(),
            meaning: String::new(),
            steps: vec![],
            more: String::new(),
        };
        Status {
            running: is_running,
            version: "1".to_owned(),
            started_at: None,
            is_sandbox: false,
            is_abridged: false,
            sentence: "how | it is".to_owned(),
            incidents: worst.map(incident).into_iter().collect(),
            needs_human: vec![],
            accounts: vec![],
            clients: vec![],
            refused: vec![],
            queue: QueueStatus {
                queued: 22,
                oldest: Some(At(WallTime::from_ms(20_000))),
                ..QueueStatus::default()
            },
            counters: BTreeMap::new(),
        }
    }

    #[test]
    fn a_monitor_hears_the_worst_in_one_line() {
        use Severity::{Information, NeedsYou, Waiting, Warning};
        let now = WallTime::from_ms(500_000);
        let figures = "queued=22 oldest=480s dead=0";
        for (is_running, worst, code, word) in [
            (true, None, 0, "OK"),
            (true, Some(Information), 0, "OK"),
            (true, Some(Warning), 1, "WARNING"),
            (true, Some(Waiting), 1, "WARNING"),
            (true, Some(NeedsYou), 2, "CRITICAL"),
            (false, None, 2, "CRITICAL"),
        ] {
            let status = status(is_running, worst);
            let (state, nagios) = line(&status, Format::Nagios, now);
            assert_eq!(state.code(), code);
            assert_eq!(nagios, format!("MAILFERRY {word} - how / it is | {figures}\n"));
            let (_, checkmk) = line(&status, Format::Checkmk, now);
            assert_eq!(checkmk, format!("{code} mailferry queued=22|oldest=480|dead=0 how / it is\n"));
            let (_, zabbix) = line(&status, Format::Zabbix, now);
            let json: serde_json::Value = serde_json::from_str(zabbix.trim_end()).unwrap();
            assert_eq!((&json["state"], &json["oldest_seconds"]), (&code.into(), &480.into()));
            assert!(!zabbix.trim_end().contains('\n'));
        }
        let mut status = status(true, None);
        status.is_sandbox = true;
        assert_eq!(line(&status, Format::Nagios, now).0, State::Warning, "nobody gets that mail");
    }

    #[test]
    fn what_cannot_be_told_is_a_line_too() {
        let said = |format| line_without(State::Unknown, "two\nlines", format);
        assert_eq!(said(Format::Nagios), "MAILFERRY UNKNOWN - two/lines\n");
        assert_eq!(said(Format::Checkmk), "3 mailferry - two/lines\n");
        assert_eq!(said(Format::Zabbix), "{\"state\":3,\"text\":\"two\\nlines\"}\n");
    }
}
