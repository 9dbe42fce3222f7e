//! Reports for people: at most 100 columns, local times.
//!
//! Invariant: nothing is printed that did not come escaped; a hint is one line however long, as a command in it is there
//! to be copied. Must not know: where reports come from.

use crate::control::report::{
    AccountState, At, DeviceList, IncidentStatus, Message, RefusedStatus, Shown, Status, ToProgress, count,
    severity,
};
use crate::mail::{State, without_tag};
use bytesize::ByteSize;
use jiff::tz::TimeZone;

const COLUMNS: usize = 100;
/// Of those who were refused, `status` shows so many.
const MOST_REFUSED: usize = 5;

/// Whether mail flows through an account.
pub(super) fn account_state(state: AccountState) -> &'static str {
    match state {
        AccountState::Open => "open",
        AccountState::BackingOff => "waiting for the smart host",
        AccountState::Held => "needs a human",
        AccountState::Paused => "paused",
    }
}

/// Each account, with why mail does not flow where that was not said above.
fn accounts(s: &Status, is_verbose: bool, zone: &TimeZone) -> String {
    let mut out = String::new();
    if !s.accounts.is_empty() {
        out += "\naccounts\n";
    }
    for a in &s.accounts {
        let state = account_state(a.state);
        let since = a.since.map_or(String::new(), |at| format!(" since {}", time(at, zone)));
        out += &wrapped("  ", &format!("{}: {state}{since}", a.mailbox));
        let is_told = s.needs_human.iter().any(|need| need.account.as_ref() == Some(&a.mailbox));
        if is_verbose && !a.reason.is_empty() {
            out += &wrapped("    ", &a.reason);
        } else if !a.reason.is_empty() && !is_told {
            out += &wrapped("    ", &without_tag(&a.reason));
        }
        if let Some(at) = a.next_probe_at {
            out += &format!("    next try {}\n", time(at, zone));
        }
        let connections = u64::try_from(a.connections).unwrap_or(u64::MAX);
        out += &wrapped(
            "    ",
            &format!(
                "via {}, {}, {} sent in the last minute, {} in 24 hours",
                a.smart_host,
                count(connections, "connection"),
                count(a.sent_last_minute.into(), "message"),
                count(a.recipients_today, "recipient"),
            ),
        );
        let oldest = a.oldest.map_or(String::new(), |at| format!(" (since {})", time(at, zone)));
        out += &format!("    {} waiting{oldest}, {} held, {} dead\n", a.queued, a.held, a.dead);
    }
    out
}

/// How the relay is, the sentence first.
pub(super) fn status(s: &Status, is_verbose: bool, zone: &TimeZone) -> String {
    let mut out = format!("{}\n", s.sentence);
    let is_told = |i: &&IncidentStatus| {
        s.needs_human.iter().any(|need| need.tells(i) || need.what == without_tag(&i.what))
    };
    let incidents: Vec<_> = s.incidents.iter().filter(|i| !is_told(i)).collect();
    if !incidents.is_empty() {
        out += "\nincidents\n";
    }
    for i in incidents {
        out += &wrapped("  ", &format!("{} since {}: {}", severity(i.severity), time(i.since, zone), i.what));
        if let Some(step) = i.steps.first() {
            out += &format!("    hint: {step}\n");
        }
    }
    if !s.needs_human.is_empty() {
        out += "\nneeds a human\n";
        for need in &s.needs_human {
            out += &wrapped("  ", &need.what);
            out += &format!("    hint: {}\n", need.hint);
        }
    }
    out += &accounts(s, is_verbose, zone);
    if !s.clients.is_empty() {
        out += "\nclients\n";
    }
    for c in &s.clients {
        let address = c.address.map_or("-".to_owned(), |a| a.to_string());
        let seen = c.last_seen_at.map_or("never seen".to_owned(), |at| format!("seen {}", time(at, zone)));
        let messages = count(c.messages_total, "message");
        out += &line(&format!("  {:<24} {address:<24} {seen:<22} {messages}", cut(&c.name, 24)));
        if !c.last_problem.is_empty() {
            out += &wrapped("    ", &c.last_problem);
        }
    }
    if !s.refused.is_empty() {
        out += "\nrefused\n";
    }
    for r in s.refused.iter().take(MOST_REFUSED) {
        out += &refused(r, zone);
    }
    if s.refused.len() > MOST_REFUSED {
        out += &format!("  and {} more: mailferry devices\n", s.refused.len() - MOST_REFUSED);
    }
    let q = &s.queue;
    let totals = format!(
        "{} waiting, {} held, {} dead ({}); {} delivered and remembered",
        q.queued,
        q.held,
        q.dead,
        size(q.size_bytes),
        q.delivered
    );
    out += "\nqueue\n";
    out += &wrapped("  ", &totals);
    if s.is_abridged {
        out += "\n";
        out += &wrapped(
            "",
            "this is what anybody may see; all of it is for root and the members of group mailferry",
        );
    }
    out
}

/// Who sends, and who was refused.
pub(super) fn devices(list: &DeviceList, zone: &TimeZone) -> String {
    let mut out = String::new();
    if list.devices.is_empty() {
        out += "no device has come yet\n";
    }
    for d in &list.devices {
        let called = if d.name.is_empty() { d.helo.as_str() } else { d.name.as_str() };
        let (address, called, client) = (d.address.to_string(), cut(called, 24), cut(&d.client, 16));
        out += &line(&format!(
            "{address:<24} {called:<24} {client:<16} seen {}, {} today",
            time(d.last_seen_at, zone),
            d.messages_today
        ));
        if !d.last_problem.is_empty() {
            out += &wrapped("    ", &d.last_problem);
        }
    }
    if !list.refused.is_empty() {
        out += "\nrefused\n";
    }
    for r in &list.refused {
        out += &refused(r, zone);
    }
    out
}

fn refused(r: &RefusedStatus, zone: &TimeZone) -> String {
    let called = if r.helo.is_empty() { String::new() } else { format!(" ({})", r.helo) };
    let (times, last) = (count(r.count, "time"), time(r.last_seen_at, zone));
    let seen = if r.is_seen { "; marked as seen" } else { "" };
    let mut out = wrapped("  ", &format!("{}{called} {}: {times}, last {last}{seen}", r.address, r.did));
    if !r.is_seen {
        out += &wrapped("    ", &format!("hint: {}", r.hint));
    }
    out
}

/// What stands over a list.
pub(super) fn list_head() -> String {
    line(&format!("{:<13}  {:<9}  {:<16}  {:>9}  from > to", "id", "state", "received", "size"))
}

/// A line a message, and its latest word below it.
pub(super) fn list(messages: &[Message], zone: &TimeZone) -> String {
    let mut out = String::new();
    for m in messages {
        let first = m.to.first().map_or("", |to| to.address.as_str());
        let more = if m.to.len() > 1 { format!(" +{}", m.to.len() - 1) } else { String::new() };
        let room = 41 - more.len();
        let from = if m.from.len() + first.len() > room { cut(&m.from, 18) } else { m.from.clone() };
        let path = cut(&format!("<{from}> > {first}"), room + 4);
        let (id, received) = (m.id, time(m.received_at, zone));
        let state = state(m.state);
        out += &line(&format!("{id}  {state:<9}  {received:<16}  {:>9}  {path}{more}", size(m.size_bytes)));
        if !m.last_said.is_empty() && m.state != State::Delivered {
            out += &line(&format!("               {}", m.last_said));
        }
    }
    out
}

/// All about one message.
pub(super) fn shown(s: &Shown, zone: &TimeZone) -> String {
    let m = &s.message;
    let mut out = format!("{}: {}\n", m.id, state(m.state));
    let peer = m.peer.map_or(String::new(), |p| format!(" ({p})"));
    out += &wrapped("  ", &format!("from     <{}>, {}{peer}", m.from, m.client));
    out += &wrapped("  ", &format!("through  {}", m.account));
    out += &format!("  received {}, {}\n", time(m.received_at, zone), size(m.size_bytes));
    if let Some(at) = m.next_attempt_at {
        out += &format!(
            "  next try {}, {} so far\n",
            time(at, zone),
            count(m.attempts.into(), "failed attempt")
        );
    }
    if let Some(at) = m.finished_at {
        out += &format!("  finished {}, {}\n", time(at, zone), count(m.attempts.into(), "failed attempt"));
    }
    if m.outcome_unknown {
        out += "  an attempt broke off at the very end: a recipient may have it twice\n";
    }
    out += "\nrecipients\n";
    for to in &m.to {
        let progress = match to.progress {
            ToProgress::Pending => "waiting",
            ToProgress::Delivered => "delivered",
            ToProgress::Failed => "given up",
        };
        out += &wrapped("  ", &format!("{}: {progress}", to.address));
        if !to.said.is_empty() {
            out += &wrapped("    ", &to.said);
        }
    }
    if !s.tries.is_empty() {
        out += "\nattempts\n";
    }
    for t in &s.tries {
        out += &format!("  {} at {}, {}\n", time(t.at, zone), t.host, t.stage);
        out += &wrapped("    ", &t.said);
    }
    out
}

fn state(state: State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Held => "held",
        State::Dead => "dead",
        State::Delivered => "delivered",
    }
}

fn time(at: At, zone: &TimeZone) -> String {
    at.0.timestamp().to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn line(text: &str) -> String {
    cut(text.trim_end(), COLUMNS) + "\n"
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(3)).collect::<String>() + "..."
}

/// Whole words on as many lines as it takes; a word longer than a line stays whole, it may be a command to copy.
fn wrapped(indent: &str, text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column == 0 {
            out += indent;
            column = indent.len();
        } else if column + 1 + length > COLUMNS {
            out += "\n";
            out += indent;
            column = indent.len();
        } else {
            out += " ";
            column += 1;
        }
        out += word;
        column += length;
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{AccountStatus, ClientStatus, Need, QueueStatus, To, Try};
    use crate::mail::{Place, QueueId, Stage, WallTime};
    use std::collections::BTreeMap;

    fn at(minutes: i64) -> At {
        At(WallTime::from_ms(1_795_435_200_000 + minutes * 60_000))
    }

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(9))
    }

    fn message() -> Message {
        Message {
            id: QueueId::from_number(1_795_435_200_000 << 21),
            state: State::Queued,
            account: "scanner@contoso.com".to_owned(),
            client: "printers".to_owned(),
            peer: Some("10.0.5.7".parse().unwrap()),
            from: "copier-on-the-third-floor@contoso.com".to_owned(),
            to: ["maria@contoso.com", "jo@contoso.com"]
                .map(|a| To { address: a.to_owned(), progress: ToProgress::Pending, said: String::new() })
                .into(),
            size_bytes: 1_300_000,
            received_at: at(0),
            next_attempt_at: Some(at(5)),
            attempts: 1,
            finished_at: None,
            last_said: "RCPT TO: 452 4.3.1 Insufficient system resources ".repeat(3),
            outcome_unknown: false,
        }
    }

    #[test]
    fn a_list_fits_in_100_columns_and_tells_local_time() {
        let text = list_head() + &list(&[message()], &zone());
        insta::assert_snapshot!(text, @r"
        id             state      received               size  from > to
        38G88VZ000000  queued     2026-11-23 21:00    1.2 MiB  <copier-on-the-t...> > maria@contoso.com +1
                       RCPT TO: 452 4.3.1 Insufficient system resources RCPT TO: 452 4.3.1 Insufficient s...
        ");
        assert!(text.lines().all(|l| l.chars().count() <= COLUMNS));
    }

    #[test]
    fn a_message_is_shown_with_its_attempts() {
        let tries = vec![Try {
            at: at(1),
            stage: Stage::Rcpt,
            said: "RCPT TO: 452 4.3.1 Insufficient system resources".to_owned(),
            host: "52.98.1.2:587".to_owned(),
        }];
        insta::assert_snapshot!(shown(&Shown { message: message(), tries }, &zone()), @r"
        38G88VZ000000: queued
          from     <copier-on-the-third-floor@contoso.com>, printers (10.0.5.7)
          through  scanner@contoso.com
          received 2026-11-23 21:00, 1.2 MiB
          next try 2026-11-23 21:05, 1 failed attempt so far

        recipients
          maria@contoso.com: waiting
          jo@contoso.com: waiting

        attempts
          2026-11-23 21:01 at 52.98.1.2:587, RCPT TO
            RCPT TO: 452 4.3.1 Insufficient system resources
        ");
    }

    #[test]
    fn a_status_begins_with_the_sentence() {
        let account = AccountStatus {
            mailbox: "scanner@contoso.com".to_owned(),
            smart_host: Place::known("smtp.office365.com", 587),
            state: AccountState::Held,
            reason: "AUTH: 535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.".to_owned(),
            since: Some(at(-60)),
            next_probe_at: Some(at(5)),
            connections: 0,
            sent_last_minute: 1,
            recipients_last_hour: 12,
            recipients_today: 340,
            queued: 3,
            dead: 0,
            held: 0,
            oldest: Some(at(-61)),
        };
        let client = |name: &str, address: Option<&str>| ClientStatus {
            name: name.to_owned(),
            address: address.map(|a| a.parse().unwrap()),
            last_seen_at: address.map(|_| at(-2)),
            messages_total: 45,
            last_problem: String::new(),
            is_silent: false,
        };
        let status = Status {
            is_abridged: false,
            refused: vec![],
            running: true,
            version: "0.1.0".to_owned(),
            started_at: Some(at(-90)),
            is_sandbox: false,
            sentence: "needs a human: scanner@contoso.com cannot send; 3 messages waiting; allow SMTP AUTH"
                .to_owned(),
            incidents: vec![],
            needs_human: vec![Need {
                what: "scanner@contoso.com cannot send: AUTH: 535 5.7.139 Authentication unsuccessful, \
                       SmtpClientAuthentication is disabled for the Mailbox."
                    .to_owned(),
                hint: "Set-CASMailbox -Identity scanner@contoso.com -SmtpClientAuthenticationDisabled $false"
                    .to_owned(),
                account: Some("scanner@contoso.com".to_owned()),
                kind: None,
            }],
            accounts: vec![account],
            clients: vec![client("printers", Some("10.0.5.7")), client("payroll server", None)],
            queue: QueueStatus { queued: 3, size_bytes: 4096, delivered: 1200, ..QueueStatus::default() },
            counters: BTreeMap::new(),
        };
        let text = super::status(&status, false, &zone());
        insta::assert_snapshot!(text, @r"
        needs a human: scanner@contoso.com cannot send; 3 messages waiting; allow SMTP AUTH

        needs a human
          scanner@contoso.com cannot send: AUTH: 535 5.7.139 Authentication unsuccessful,
          SmtpClientAuthentication is disabled for the Mailbox.
            hint: Set-CASMailbox -Identity scanner@contoso.com -SmtpClientAuthenticationDisabled $false

        accounts
          scanner@contoso.com: needs a human since 2026-11-23 20:00
            next try 2026-11-23 21:05
            via smtp.office365.com:587, 0 connections, 1 message sent in the last minute, 340 recipients in
            24 hours
            3 waiting (since 2026-11-23 19:59), 0 held, 0 dead

        clients
          printers                 10.0.5.7                 seen 2026-11-23 20:58  45 messages
          payroll server           -                        never seen             45 messages

        queue
          3 waiting, 0 held, 0 dead (4.0 KiB); 1200 delivered and remembered
        ");
        assert!(text.lines().all(|l| l.chars().count() <= COLUMNS));
    }

    #[test]
    fn long_lines_break_between_words_and_commands_stay_whole() {
        let long = "x".repeat(120);
        assert_eq!(wrapped("  ", &format!("run {long} now")), format!("  run\n  {long}\n  now\n"));
    }
}
