//! What is said, in the forms that people and programs read: mail, JSON, a card for Teams, a text for Slack. Pure.
//!
//! Invariant: every text of a peer in an incident is escaped already; what a form gives a meaning to (Slack's `<`, `>`
//! and `&`, a card's Markdown) is taken from it here. Must not know: where it goes.

use super::outbox::{Event, Item};
use crate::mail::WallTime;
use crate::policy::incident::Severity;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::time::Duration;

/// In a digest, so many are said in full; of the others there is the number.
const IN_FULL: usize = 10;

/// The relay at the moment of telling.
#[derive(Debug, Clone)]
pub(super) struct Relay<'a> {
    pub(super) hostname: &'a str,
    pub(super) is_sandbox: bool,
    /// How many messages wait.
    pub(super) waiting: u64,
    /// For how long the oldest.
    pub(super) oldest: Option<Duration>,
}

/// One line about one incident.
fn headline(item: &Item) -> String {
    let what = &item.incident.words.what;
    match item.event {
        Event::Recovered => {
            let waited = match item.most_waiting {
                0 => String::new(),
                1 => ", 1 message waited".to_owned(),
                n => format!(", up to {n} messages waited"),
            };
            format!("over after {}{waited}: {what}", in_words(lasted(item)))
        }
        Event::Opened | Event::Changed => what.clone(),
    }
}

fn lasted(item: &Item) -> Duration {
    let until = item.incident.until.unwrap_or(item.incident.last);
    let ms = until.as_ms() - item.incident.since.as_ms();
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// In the largest two units: somebody reads it on a phone.
fn in_words(d: Duration) -> String {
    let s = d.as_secs();
    let (first, second) = match s {
        0..60 => return if s == 1 { "1 second".into() } else { format!("{s} seconds") },
        60..3600 => ((s / 60, "minute"), (0, "")),
        3600..86_400 => ((s / 3600, "hour"), (s % 3600 / 60, "minute")),
        _ => ((s / 86_400, "day"), (s % 86_400 / 3600, "hour")),
    };
    let unit = |(n, unit): (u64, &str)| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    if second.0 == 0 { unit(first) } else { format!("{} {}", unit(first), unit(second)) }
}

/// In the host's zone, with the offset: the admin's watch and the log's lines are compared by it.
fn moment(at: WallTime, zone: &TimeZone) -> String {
    at.timestamp().to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::NeedsYou => "needs you",
        Severity::Waiting => "waiting",
        Severity::Warning => "warning",
        Severity::Information => "information",
    }
}

/// Subject and paragraphs of a mail.
pub(super) fn mail(items: &[Item], relay: &Relay<'_>, zone: &TimeZone) -> (String, Vec<String>) {
    let sandbox = if relay.is_sandbox { "SANDBOX: " } else { "" };
    let subject = match items {
        [item] => format!("{sandbox}{}: {}", relay.hostname, headline(item)),
        items => {
            let over = items.iter().filter(|i| i.event == Event::Recovered).count();
            let open = items.len() - over;
            let text = match (open, over) {
                (open, 0) => format!("{open} things are wrong"),
                (0, over) => format!("{over} things are over"),
                (open, over) => format!("{open} things are wrong, {over} are over"),
            };
            format!("{sandbox}{}: {text}", relay.hostname)
        }
    };
    let mut paragraphs = vec![];
    if relay.is_sandbox {
        paragraphs.push("SANDBOX: this relay's mail goes to the sandbox, and nobody gets it.".to_owned());
    }
    for item in items.iter().take(IN_FULL) {
        let incident = &item.incident;
        paragraphs.push(format!("{} ({})", headline(item), word(incident.severity)));
        let mut since = format!("Since {}", moment(incident.since, zone));
        if let Some(until) = incident.until {
            since = format!("From {} to {}", moment(incident.since, zone), moment(until, zone));
        }
        let times =
            if incident.count > 1 { format!(", met {} times", incident.count) } else { String::new() };
        paragraphs.push(format!("{since}{times}."));
        if item.event != Event::Recovered {
            if !incident.words.meaning.is_empty() {
                paragraphs.push(format!("It means: {}.", incident.words.meaning));
            }
            for (n, step) in incident.words.steps.iter().enumerate() {
                paragraphs.push(format!("{}. {step}", n + 1));
            }
            if !incident.words.more.is_empty() {
                paragraphs.push(format!("More: mailferry explain {}", incident.words.more));
            }
        }
    }
    if items.len() > IN_FULL {
        paragraphs.push(format!("And {} more: mailferry status", items.len() - IN_FULL));
    }
    let oldest = relay.oldest.map(|d| format!(", the oldest for {}", in_words(d))).unwrap_or_default();
    let waiting = relay.waiting;
    paragraphs.push(format!("Messages that wait: {waiting}{oldest}. All of it: mailferry status"));
    (subject, paragraphs)
}

/// For programs. One is an object; several are a digest.
pub(super) fn for_programs(items: &[Item], relay: &Relay<'_>) -> Value {
    let around = |mut value: Value| {
        value["relay"] = json!({"hostname": relay.hostname, "version": env!("CARGO_PKG_VERSION"), "sandbox": relay.is_sandbox});
        value["queue"] =
            json!({"waiting": relay.waiting, "oldest_seconds": relay.oldest.map_or(0, |d| d.as_secs())});
        value
    };
    match items {
        [item] => around(one(item)),
        items => around(json!({
            "event": "digest",
            "incidents": items.iter().map(one).collect::<Vec<_>>(),
        })),
    }
}

fn one(item: &Item) -> Value {
    let event = match item.event {
        Event::Opened => "opened",
        Event::Changed => "changed",
        Event::Recovered => "recovered",
    };
    let i = &item.incident;
    let mut incident = json!({
        "id": i.id,
        "kind": i.kind,
        "severity": i.severity,
        "subject": i.subject,
        "since": i.since.to_string(),
        "until": i.until.map(|t| t.to_string()),
        "count": i.count,
        "what": i.words.what,
        "meaning": i.words.meaning,
        "steps": i.words.steps,
        "more": i.words.more,
    });
    if item.event == Event::Recovered {
        incident["lasted_seconds"] = lasted(item).as_secs().into();
        incident["most_waiting"] = item.most_waiting.into();
    }
    json!({"event": event, "incident": incident})
}

/// A message with an adaptive card, as Teams' workflows take it.
pub(super) fn for_teams(items: &[Item], relay: &Relay<'_>, zone: &TimeZone) -> Value {
    let (subject, paragraphs) = mail(items, relay, zone);
    let block = |text: &str, is_title: bool| {
        let mut block = json!({"type": "TextBlock", "text": without_markdown(text), "wrap": true});
        if is_title {
            block["weight"] = "Bolder".into();
            block["size"] = "Medium".into();
        }
        block
    };
    let body: Vec<Value> =
        std::iter::once(block(&subject, true)).chain(paragraphs.iter().map(|p| block(p, false))).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
            },
        }],
    })
}

/// A card reads links and emphasis; a server's words are neither.
fn without_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '_' | '[' | ']' | '`' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A text as Slack takes it.
pub(super) fn for_slack(items: &[Item], relay: &Relay<'_>, zone: &TimeZone) -> Value {
    let (subject, paragraphs) = mail(items, relay, zone);
    // Its own rule for text that is to be taken as it stands.
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({"text": format!("*{}*\n{}", plain(&subject).replace('*', ""), plain(&paragraphs.join("\n")))})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{AccountId, Place};
    use crate::policy::advice::Advice;
    use crate::policy::incident::{Incidents, Observation, Trouble};

    fn item(event: Event) -> Item {
        let mut incidents = Incidents::default();
        let trouble = Trouble {
            account: AccountId::new("scanner@contoso.com"),
            smart_host: Place::known("smtp.office365.com", 587),
            said: "451 4.7.0 <b>*PRX4*</b> & more".to_owned(),
            advice: Some(Advice::Proxy),
            remedy: vec!["do this".to_owned()],
        };
        let at = WallTime::from_ms(1_795_435_200_000);
        incidents.see(at, &Observation::AccountWaits { trouble, is_setting: true });
        let mut incident = incidents.open()[0].clone();
        if event == Event::Recovered {
            incident.until = Some(WallTime::from_ms(at.as_ms() + 3_900_000));
        }
        Item { event, incident, most_waiting: 22 }
    }

    fn relay() -> Relay<'static> {
        let oldest = Some(Duration::from_secs(480));
        Relay { hostname: "relay.contoso.local", is_sandbox: false, waiting: 22, oldest }
    }

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(1))
    }

    #[test]
    fn a_mail_says_what_since_when_and_what_to_do() {
        let (subject, paragraphs) = mail(&[item(Event::Opened)], &relay(), &zone());
        assert!(subject.starts_with("relay.contoso.local: scanner@contoso.com cannot send"), "{subject}");
        let text = paragraphs.join("\n");
        for part in [
            "Since 2026-11-23 13:00 +01:00",
            "1. do this",
            "mailferry explain ",
            "Messages that wait: 22, the oldest for 8 minutes",
        ] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }

    #[test]
    fn the_end_says_how_long_it_was_and_how_many_waited() {
        let (subject, paragraphs) = mail(&[item(Event::Recovered)], &relay(), &zone());
        assert!(subject.contains("over after 1 hour 5 minutes, up to 22 messages waited: "), "{subject}");
        assert!(!paragraphs.join("\n").contains("do this"));
        let value = for_programs(&[item(Event::Recovered)], &relay());
        assert_eq!(value["incident"]["lasted_seconds"], 3900);
        assert_eq!(value["incident"]["most_waiting"], 22);
        assert_eq!(value["incident"]["until"], "2026-11-23T13:05:00Z");
    }

    #[test]
    fn programs_get_one_or_a_digest() {
        let value = for_programs(&[item(Event::Opened)], &relay());
        assert_eq!(value["event"], "opened");
        assert_eq!(value["incident"]["kind"], "account_waiting");
        assert_eq!(value["incident"]["severity"], "needs_you");
        assert_eq!(value["incident"]["since"], "2026-11-23T12:00:00Z");
        assert_eq!(value["relay"]["hostname"], "relay.contoso.local");
        assert_eq!(value["queue"], json!({"waiting": 22, "oldest_seconds": 480}));
        let value = for_programs(&[item(Event::Opened), item(Event::Recovered)], &relay());
        assert_eq!((&value["event"], value["incidents"].as_array().unwrap().len()), (&json!("digest"), 2));
        assert_eq!(value["incidents"][1]["event"], "recovered");
    }

    #[test]
    fn a_servers_words_are_no_markup() {
        let card = for_teams(&[item(Event::Opened)], &relay(), &zone());
        let title = card["attachments"][0]["content"]["body"][0]["text"].as_str().unwrap();
        assert!(title.contains("\\*PRX4\\*"), "{title}");
        let text = for_slack(&[item(Event::Opened)], &relay(), &zone());
        let text = text["text"].as_str().unwrap();
        assert!(text.contains("&lt;b&gt;") && text.contains("&amp; more") && !text.contains("<b>"), "{text}");
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let items: Vec<Item> = (0..40).map(|_| item(Event::Opened)).collect();
        let (subject, paragraphs) = mail(&items, &relay(), &zone());
        assert_eq!(subject, "relay.contoso.local: 40 things are wrong");
        assert!(paragraphs.iter().any(|p| p == "And 30 more: mailferry status"));
        let sandbox = Relay { is_sandbox: true, ..relay() };
        let (subject, paragraphs) = mail(&items, &sandbox, &zone());
        assert!(subject.starts_with("SANDBOX: ") && paragraphs[0].starts_with("SANDBOX: "));
    }

    #[test]
    fn a_time_is_said_in_two_units() {
        for (seconds, said) in [
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3599, "59 minutes"),
            (3600, "1 hour"),
            (7260, "2 hours 1 minute"),
            (86_400, "1 day"),
            (180_000, "2 days 2 hours"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), said);
        }
    }
}
