//! Replies of smart hosts and of the sign-in service, as they were met: each leads to an action that is right, and to
//! advice that says what to do. Rows are in tests/replies/; `action` names what is right, the best first.

use mailferry::mail::{Cause, Failure, Place, Reply, Stage};
use mailferry::policy::advice::{About, Advice};
use mailferry::policy::verdict::{Action, Blame, Standing, Verdict, judge_for};
use mailferry::submit::smtp::reply::ReplyReader;
use mailferry::token::refusal::{self, Class, Refusal};
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    stage: String,
    reply: String,
    action: Vec<String>,
    /// The account logs in.
    #[serde(default = "yes")]
    login: bool,
    #[serde(default)]
    oauth: bool,
    /// Must be in the advice.
    says: Vec<String>,
    /// Must not be in the advice.
    #[serde(default)]
    never_says: Vec<String>,
}

fn yes() -> bool {
    true
}

fn rows(file: &str) -> Vec<Row> {
    let path = format!("{}/tests/replies/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{path}: {e}: {l}"))).collect()
}

fn stage(name: &str) -> Stage {
    match name {
        "connect" => Stage::Connect,
        "EHLO" => Stage::Ehlo,
        "STARTTLS" => Stage::Tls,
        "AUTH" => Stage::Auth,
        "MAIL" => Stage::Mail,
        "RCPT" => Stage::Rcpt,
        "DATA" => Stage::Data,
        "end of data" => Stage::FinalDot,
        other => panic!("{other}"),
    }
}

fn failure(row: &Row) -> Failure {
    let mut reader = ReplyReader::new();
    reader.feed(format!("{}\r\n", row.reply).as_bytes());
    let cause = match reader.reply() {
        Ok(reply) => {
            let reply: Reply = reply.expect("a whole reply");
            if row.oauth && reply.code == 535 {
                Cause::TokenRejected { reply, remedy: vec![] }
            } else {
                Cause::Reply(reply)
            }
        }
        Err(no_reply) => Cause::Unparsable(no_reply.to_string()),
    };
    Failure::new(stage(&row.stage), cause)
}

fn action(verdict: &Verdict) -> &'static str {
    match (verdict.action, verdict.blame) {
        (Action::Bounce, Blame::Sender) => "bounce-sender",
        (Action::Bounce, Blame::Recipient) => "bounce-recipient",
        (Action::Bounce, _) => "bounce-message",
        (Action::Hold, _) => "hold-account",
        (Action::Pause, _) => "pause-account",
        (Action::Retry, Blame::Account | Blame::Tenant) => "retry-account",
        (Action::Retry, Blame::Session) => "reconnect",
        (Action::Retry, Blame::Recipient) => "retry-recipient",
        (Action::Retry, _) => "retry-message",
    }
}

fn advice(advice: Option<Advice>) -> String {
    let about = About { mailbox: "scanner@contoso.example", smart_host: &Place::known("mail.example", 587) };
    advice.map_or(String::new(), |a| format!("{}\n{}", a.meaning(), a.remedy(about).join("\n")))
}

/// What is amiss with the advice for one reply.
fn amiss(row: &Row, advice: &str) -> Vec<String> {
    let says = |words: &String| advice.to_lowercase().contains(&words.to_lowercase());
    let missing = row.says.iter().filter(|w| !says(w)).map(|w| format!("does not say {w:?}"));
    missing.chain(row.never_says.iter().filter(|w| says(w)).map(|w| format!("says {w:?}"))).collect()
}

fn misses(file: &str, standing: impl Fn(&Row) -> Standing) -> Vec<String> {
    let mut misses = vec![];
    for row in rows(file) {
        let verdict = judge_for(&failure(&row), standing(&row));
        let mut wrong = amiss(&row, &advice(verdict.advice));
        if !row.action.iter().any(|a| a == action(&verdict)) {
            wrong.push(format!("{} in place of {:?}", action(&verdict), row.action));
        }
        if verdict.action == Action::Hold && advice(verdict.advice).contains("nothing: mailferry waits") {
            wrong.push("holds for a person, and tells them to do nothing".into());
        }
        if !wrong.is_empty() {
            let reply = row.reply.replace("\r\n", " / ");
            misses.push(format!("{}: {reply}\n    {:?}: {}", row.stage, verdict.advice, wrong.join("; ")));
        }
    }
    misses
}

#[test]
fn each_reply_leads_to_a_right_action_and_to_advice_that_can_be_carried_out() {
    for has_worked in [true, false] {
        for file in ["exchange-online", "other-hosts", "wordings"] {
            let misses = misses(file, |row| Standing { has_login: row.login, has_worked });
            assert!(misses.is_empty(), "{file}, {} misses:\n{}", misses.len(), misses.join("\n"));
        }
    }
}

#[test]
fn each_refusal_of_the_sign_in_service_leads_to_a_right_action_and_advice() {
    let mut misses = vec![];
    for row in rows("sign-in") {
        let after = |mark: &str, end: char| {
            row.reply.split_once(mark).map_or("", |(_, rest)| rest.split(end).next().unwrap())
        };
        let number = after("AADSTS", ':').parse().ok();
        let refused = Refusal::new(after("error=", ' '), number, "");
        let action = match refused.class() {
            Class::Retry | Class::SlowDown | Class::KeepPolling => "retry-account",
            _ => "hold-account",
        };
        let known = refusal::known().find(|k| k.slug == refused.slug()).unwrap();
        let mut wrong = amiss(&row, &format!("{}\n{}", known.meaning, known.remedy.join("\n")));
        if !row.action.iter().any(|a| a == action) {
            wrong.push(format!("{action} in place of {:?}", row.action));
        }
        if !wrong.is_empty() {
            misses.push(format!("{}\n    {}: {}", row.reply, refused.slug(), wrong.join("; ")));
        }
    }
    assert!(misses.is_empty(), "{} misses:\n{}", misses.len(), misses.join("\n"));
}
