//! What a text means that an admin has before them: a slug, a reply, a line of the log, an AADSTS number.
//!
//! Invariant: a reply is judged by the table that judges the smart host's, at every stage where it can have been said,
//! so what is explained is what happens. Pure. Must not know: how it is printed, what this host's accounts are.

use super::page::{self, capital};
use crate::mail::{Cause, Failure, Place, Reply, Stage};
use crate::policy::advice::{About, Advice, link};
use crate::policy::verdict::{self, Action, Blame, Standing, Verdict, judge, judge_for};
use crate::token::refusal::{self, Known};
use serde::Serialize;

/// One entry of the catalogue, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its name.
    pub slug: String,
    /// A heading.
    pub title: String,
    /// What it means.
    pub meaning: String,
    /// Who can end it.
    pub blame: String,
    /// What to do, in order.
    pub steps: Vec<String>,
    /// Where the text can have been said to lead here; empty: anywhere.
    pub stages: Vec<String>,
    /// What mailferry does about it, where that follows from the text.
    pub then: Option<String>,
    /// Where the documentation has it.
    pub more: String,
}

/// What happens to words that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ByStage {
    /// The code they come with, as a class: `4yz`, `5yz`.
    pub code: String,
    /// Where.
    pub stages: Vec<String>,
    /// What mailferry does.
    pub then: String,
}

/// What a text means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The catalogue knows it.
    pub known: bool,
    /// The entries it can be about, the most likely first.
    pub entries: Vec<Explained>,
    /// What happens to it all the same, where it is not known.
    pub by_stage: Vec<ByStage>,
}

/// In capitals, as everything that an admin has to put in.
const SMART_HOST: Place = Place::known("SMART_HOST", 587);
/// More than the longest reply there is; what stands behind is not looked at.
const MOST_BYTES: usize = 16 << 10;

/// Explains it. `mailbox` is filled in where an entry names one.
pub fn explain(text: &str, mailbox: &str) -> Explanation {
    let text = &text[..text.floor_char_boundary(MOST_BYTES)];
    let entries = look_up(text, mailbox);
    let by_stage = if entries.is_empty() { by_stage(text) } else { vec![] };
    Explanation { known: !entries.is_empty(), entries, by_stage }
}

/// Every entry there is, as slug and heading, in the order of docs/errors.md.
pub fn all() -> Vec<(String, String)> {
    let advice = Advice::ALL.iter().map(|a| (a.entry().slug.to_owned(), a.entry().title.to_owned()));
    advice.chain(refusal::known().map(|known| (known.slug.clone(), page::title(&known)))).collect()
}

/// From what says most to what says least.
fn look_up(text: &str, mailbox: &str) -> Vec<Explained> {
    let of = |found: Vec<Advice>| found.into_iter().map(|a| entry(a, mailbox)).collect::<Vec<_>>();
    let refused = |found: Vec<Known>| found.iter().map(|k| token(k, mailbox)).collect::<Vec<_>>();
    let steps: [&dyn Fn() -> Vec<Explained>; 8] = [
        &|| of(by_slug(text)),
        &|| refused(by_token_slug(text)),
        &|| refused(by_number(text)),
        &|| of(by_phrase(text)),
        &|| by_reply(text, mailbox),
        &|| of(by_meaning(text)),
        &|| refused(by_error(text)),
        &|| of(by_part(text)),
    ];
    steps.iter().map(|step| step()).find(|found| !found.is_empty()).unwrap_or_default()
}

fn entry(advice: Advice, mailbox: &str) -> Explained {
    let entry = advice.entry();
    Explained {
        slug: entry.slug.to_owned(),
        title: entry.title.to_owned(),
        meaning: entry.meaning.to_owned(),
        blame: entry.blame.to_string(),
        steps: advice.remedy(About { mailbox, smart_host: &SMART_HOST }),
        stages: vec![],
        then: None,
        more: link(entry.slug),
    }
}

fn token(known: &Known, mailbox: &str) -> Explained {
    Explained {
        slug: known.slug.clone(),
        title: page::title(known),
        meaning: page::fill(known.meaning, mailbox),
        blame: page::blame(known.class).to_owned(),
        steps: known.remedy.iter().map(|line| page::fill(line, mailbox)).collect(),
        stages: vec![Stage::Token.to_string()],
        then: None,
        more: link(&known.slug),
    }
}

/// `prx4`, or the whole command or link that names it.
fn slug(text: &str) -> String {
    let last = text.trim().rsplit(['#', ' ']).next().unwrap_or_default();
    let prefixes = ["mailferry explain ", "see: ", "more: ", "docs/errors.md#", "errors.md#"];
    let is_alone = !text.trim().contains(' ') || prefixes.iter().any(|p| text.contains(p));
    if is_alone { last.to_lowercase() } else { String::new() }
}

fn by_slug(text: &str) -> Vec<Advice> {
    let slug = slug(text);
    Advice::ALL.iter().copied().filter(|a| a.entry().slug == slug).collect()
}

fn by_token_slug(text: &str) -> Vec<Known> {
    let slug = slug(text);
    refusal::known().filter(|k| k.slug == slug).collect()
}

/// Every `AADSTS` number in it; one that nobody knows leads to the entry for those.
fn by_number(text: &str) -> Vec<Known> {
    let mut found: Vec<Known> = vec![];
    for (at, _) in text.match_indices("AADSTS") {
        let digits: String = text[at + 6..].chars().take_while(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse::<u32>() else { continue };
        let known =
            refusal::known().find(|k| k.numbers.contains(&number)).or_else(|| refusal::known().last());
        found.extend(known.filter(|k| !found.iter().any(|f| f.slug == k.slug)));
    }
    found
}

/// The `error` of RFC 6749 and RFC 8628: alone, or as `error=invalid_client`.
fn by_error(text: &str) -> Vec<Known> {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let is_named = |e: &&str| e.contains('_') && words.contains(e) || text.trim() == *e;
    refusal::known().filter(|k| k.errors.iter().any(is_named)).collect()
}

/// In lower case, single blanks, and every number as `#`: what is left when times, sizes and addresses differ.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.to_lowercase().split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        let mut in_number = false;
        for c in word.chars() {
            if !c.is_ascii_digit() {
                out.push(c);
            } else if !in_number {
                out.push('#');
            }
            in_number = c.is_ascii_digit();
        }
    }
    out
}

/// An entry's meaning, on a line of its own in the log.
fn by_meaning(text: &str) -> Vec<Advice> {
    Advice::ALL.iter().filter(|a| text.contains(a.meaning())).copied().collect()
}

/// The relay's own words, to a device or in its log.
fn by_phrase(text: &str) -> Vec<Advice> {
    let text = plain(text);
    let says = |phrase: &str| {
        let mut rest = text.as_str();
        plain(phrase).split("...").all(|part| match rest.split_once(part.trim()) {
            Some((_, behind)) => {
                rest = behind;
                true
            }
            None => false,
        })
    };
    let own = |advice: &&Advice| {
        let entry = advice.entry();
        let is_reply =
            |t: &str| t.starts_with(|c: char| c.is_ascii_digit()) && t.as_bytes().get(3) == Some(&b' ');
        let phrases = entry.texts.iter().filter(|t| !is_reply(t));
        phrases.map(|t| t.strip_prefix(TOLD).unwrap_or(t)).any(says)
    };
    Advice::ALL.iter().filter(own).copied().collect()
}

/// Before what the relay says to a device, among the texts of an entry.
const TOLD: &str = "a device is told: ";

/// A part of what the catalogue has as an example: a word or two of it.
fn by_part(text: &str) -> Vec<Advice> {
    let text = plain(text);
    if text.chars().filter(|c| c.is_alphabetic()).count() < 4 {
        return vec![];
    }
    let has = |advice: &&Advice| {
        let entry = advice.entry();
        entry.texts.iter().chain([&entry.title]).any(|t| plain(t).contains(&text))
    };
    Advice::ALL.iter().filter(has).copied().collect()
}

/// A reply within a text, and the stage at which it was said, where the text says so.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    stage: Option<Stage>,
    reply: Option<Reply>,
    words: String,
}

impl Said {
    fn read(text: &str) -> Self {
        let named = Stage::ALL
            .iter()
            .filter_map(|stage| Some((text.find(&format!("{stage}: "))?, *stage)))
            .min_by_key(|(at, _)| *at)
            .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric()));
        let stage = named.map(|(_, stage)| stage);
        let words = named.map_or(text, |(at, stage)| &text[at + stage.to_string().len() + 2..]);
        let words = without_meaning(words).trim().to_owned();
        let reply = code(&words).map(|(at, code)| Reply::new(code, &in_one(&words[at..], code)));
        Self { stage, reply, words }
    }

    /// Every reply it can be: the one that is there, or its words with either class of code.
    fn replies(&self) -> Vec<Reply> {
        match &self.reply {
            Some(reply) => vec![reply.clone()],
            None => [550, 451, 421].iter().map(|code| Reply::new(*code, &self.words)).collect(),
        }
    }

    fn stages(&self) -> Vec<Stage> {
        // No reply is heard while a token is asked for.
        let heard = || Stage::ALL.into_iter().filter(|s| *s != Stage::Token).collect();
        self.stage.map_or_else(heard, |stage| vec![stage])
    }
}

/// What the log says behind the reply: the meaning in brackets, and hints.
fn without_meaning(words: &str) -> &str {
    let meant = Advice::ALL.iter().filter_map(|a| words.find(&format!(" ({}", a.meaning()))).min();
    let end = [meant, words.find(". hint: "), words.find("\nhint: ")].into_iter().flatten().min();
    &words[..end.unwrap_or(words.len())]
}

/// The first `4yz` or `5yz` that stands like one, one with an enhanced status before all others.
fn code(words: &str) -> Option<(usize, u16)> {
    let mut found = None;
    for (at, _) in words.match_indices(['4', '5']) {
        let begins = !words[..at].ends_with(|c: char| c.is_alphanumeric() || ".-#:".contains(c));
        let Some(digits) = words.get(at..at + 3).filter(|_| begins) else { continue };
        let Some(code) = digits.parse::<u16>().ok().filter(|c| *c < 600) else { continue };
        match words[at + 3..].strip_prefix([' ', '-']) {
            Some(rest) if Reply::new(code, rest).status.is_some() => return Some((at, code)),
            Some(_) => found = found.or(Some((at, code))),
            None => {}
        }
    }
    found
}

/// A reply of several lines as `Reply` has it: the code is not repeated.
fn in_one(words: &str, code: u16) -> String {
    let line = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix(&code.to_string()).and_then(|rest| rest.strip_prefix([' ', '-']));
        rest.unwrap_or(line).to_owned()
    };
    words.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// An entry, what follows, and where.
type Found = (Advice, Verdict, Vec<Stage>);

/// What a reply can mean at a stage: by the table, after a token, and as the words of a recipient's own host.
fn verdicts(stage: Stage, reply: &Reply) -> Vec<Verdict> {
    let plain = judge(&Failure::new(stage, Cause::Reply(reply.clone())));
    let of_token = (stage == Stage::Auth && reply.code == 535).then(|| {
        let cause = Cause::TokenRejected { reply: reply.clone(), remedy: vec![] };
        judge(&Failure::new(stage, cause))
    });
    let passed_on = plain.left_to_message(true);
    [Some(plain), of_token, Some(passed_on)].into_iter().flatten().collect()
}

fn add(found: &mut Vec<Found>, stage: Stage, verdict: Verdict) {
    let Some(advice) = verdict.advice else { return };
    let is_same =
        |(a, v, _): &&mut Found| *a == advice && (v.action, v.blame) == (verdict.action, verdict.blame);
    match found.iter_mut().find(is_same) {
        Some((.., stages)) if stages.contains(&stage) => {}
        Some((.., stages)) => stages.push(stage),
        None => found.push((advice, verdict, vec![stage])),
    }
}

/// As the table judges it, wherever it can have been said; of what it knows only by the class of the code, nothing.
fn by_reply(text: &str, mailbox: &str) -> Vec<Explained> {
    let said = Said::read(text);
    let mut found: Vec<Found> = vec![];
    for reply in said.replies() {
        for stage in said.stages().into_iter().filter(|stage| verdict::knows(*stage, &reply)) {
            for verdict in verdicts(stage, &reply) {
                add(&mut found, stage, verdict);
            }
        }
    }
    if let (true, None, Some(stage)) = (found.is_empty(), &said.reply, said.stage) {
        // No reply came at all: the network's words, or ours about it.
        let verdict = judge(&Failure::new(stage, Cause::Network(said.words.clone())));
        add(&mut found, stage, verdict);
    }
    let everywhere = said.stages().len();
    let explained = |(advice, verdict, stages): Found| Explained {
        stages: if stages.len() == everywhere { vec![] } else { words(&stages) },
        then: Some(then(&verdict).to_owned()),
        ..entry(advice, mailbox)
    };
    found.into_iter().map(explained).collect()
}

fn words(stages: &[Stage]) -> Vec<String> {
    stages.iter().map(Stage::to_string).collect()
}

/// What happens to words that nobody knows, by stage and class of code.
fn by_stage(text: &str) -> Vec<ByStage> {
    let said = Said::read(text);
    let mut rows: Vec<(String, Vec<Stage>, String)> = vec![];
    for reply in said.replies().into_iter().filter(|r| said.reply.is_some() || r.code != 421) {
        let code = format!("{}yz", reply.code / 100);
        for stage in said.stages() {
            let failure = Failure::new(stage, Cause::Reply(reply.clone()));
            let never = judge_for(&failure, Standing { has_worked: false, ..Standing::GOOD });
            let verdict = judge(&failure);
            let mut what = then(&verdict).to_owned();
            if never.action != verdict.action {
                what +=
                    &format!("; as long as nothing ever went through with these settings: {}", then(&never));
            }
            match rows.iter_mut().find(|(c, _, w)| *c == code && *w == what) {
                Some((_, stages, _)) => stages.push(stage),
                None => rows.push((code.clone(), vec![stage], what)),
            }
        }
    }
    let row =
        |(code, stages, then): (String, Vec<Stage>, String)| ByStage { code, stages: words(&stages), then };
    rows.into_iter().map(row).collect()
}

/// What a verdict comes to, for people.
fn then(verdict: &Verdict) -> &'static str {
    match (verdict.action, verdict.blame) {
        (Action::Hold, _) => {
            "the account is held: all its mail waits, and a login is tried rarely, until you mend it"
        }
        (Action::Pause, _) => {
            "the account pauses for a moment and goes on with less at once; nothing is given up"
        }
        (Action::Retry, Blame::Account | Blame::Tenant) => {
            "the account waits as a whole and is tried again by itself; nothing is given up"
        }
        (Action::Retry, Blame::Session) => "the message is sent again on a new connection",
        (Action::Retry, Blame::Recipient) => {
            "the recipient is tried again by itself, and given up after expire_after"
        }
        (Action::Retry, Blame::Message | Blame::Sender) => {
            "the message is tried again by itself, and given up after expire_after"
        }
        (Action::Bounce, Blame::Recipient) => {
            "the recipient is given up, the others get the message; it is kept, and you are told"
        }
        (Action::Bounce, _) => "the message is given up and kept as a dead letter, and you are told",
    }
}

impl Explained {
    /// For people: heading, then what it means and what to do.
    pub fn text(&self) -> String {
        let mut out =
            format!("{}\n  means: {} (blame: {})\n", capital(&self.title), self.meaning, self.blame);
        if !self.stages.is_empty() {
            out += &format!("  said at: {}\n", self.stages.join(", "));
        }
        if let Some(then) = &self.then {
            out += &format!("  then: {then}\n");
        }
        for step in &self.steps {
            out += &format!("  do: {step}\n");
        }
        out + &format!("  more: {}\n", self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slugs(text: &str) -> Vec<String> {
        explain(text, "MAILBOX").entries.into_iter().map(|e| e.slug).collect()
    }

    #[test]
    fn whatever_an_admin_has_before_them_leads_to_the_entry() {
        for (text, expected) in [
            // A slug, as a message names it.
            ("prx4", "prx4"),
            ("PRX4", "prx4"),
            ("mailferry explain wrong-password", "wrong-password"),
            ("docs/errors.md#send-as", "send-as"),
            ("aadsts7000215", "aadsts7000215"),
            ("invalid-client", "invalid-client"),
            // A reply, alone, with its stage, in a line of the log, of several lines.
            ("451 4.7.0 Temporary server error. Please try again later. PRX4", "prx4"),
            (
                "Nov 26 15:30:00 relay mailferry[451]: scanner@contoso.com backs off, next probe in 5 s: AUTH: 451 4.7.0 \
                 Temporary server error. Please try again later. PRX4 (exchange online could not set up the mailbox's \
                 session; usually it passes by itself, and when it stays it is a setting of the mailbox)",
                "prx4",
            ),
            (
                "AUTH: 535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
                "wrong-password",
            ),
            (
                "{\"event\":\"account_held\",\"message\":\"scanner@contoso.com is held, next probe in 60 s: AUTH: 535 \
                 5.7.139 Authentication unsuccessful, the user credentials were incorrect.\"}",
                "wrong-password",
            ),
            (
                "534-5.7.9 Application-specific password required.\n534 5.7.9 https://support.example",
                "app-password",
            ),
            ("RCPT TO: 550 5.1.1 <jo@contoso.com> user unknown", "no-such-recipient"),
            ("550 5.1.10 RESOLVER.ADR.RecipientNotFound", "no-such-recipient"),
            (
                "end of data: 554 5.2.252 SendAsDenied; a@b.example not allowed to send as c@b.example",
                "send-as",
            ),
            // The code alone is not always copied.
            ("Relay access denied", "relay-denied"),
            // No reply at all.
            ("connecting: Connection refused (os error 111)", "unreachable"),
            ("AUTH: no answer in time", "unreachable"),
            ("STARTTLS: certificate not accepted: it expired on 2031-01-09T12:00:00Z", "certificate"),
            // The sign-in service.
            ("AADSTS7000215", "aadsts7000215"),
            (
                "getting a token: no access token: invalid_client: AADSTS7000222: The secret expired.",
                "aadsts7000222",
            ),
            ("AADSTS50034: The user account does not exist", "aadsts50034"),
            ("AADSTS123456789", "aadsts"),
            ("HTTP 400 error=consent_required", "aadsts65001"),
            // The relay's own words, to a device and in the log.
            ("550 5.7.1 10.20.30.40 may not relay here", "device-refused"),
            ("10.0.9.9 may not relay (3 more before, held back). hint: add it", "device-refused"),
            ("552 5.3.4 message exceeds 36700160 bytes", "device-too-large"),
            ("451 4.7.1 more than 30 messages a minute, try again in 12 seconds", "device-too-much"),
            ("device 10.0.5.9 speaks TLS on a plain port", "device-tls"),
            ("this host's clock is 7 min behind the sign-in service's", "clock"),
            ("cannot listen on 192.0.2.7:587: Address already in use (os error 98)", "listener-taken"),
            ("the configuration has 3 problems; nothing was opened", "configuration"),
            ("scanner@contoso.com: meaning: the user name or password is wrong", "wrong-password"),
        ] {
            assert_eq!(slugs(text).first().map(String::as_str), Some(expected), "{text}");
        }
    }

    #[test]
    fn every_example_and_every_slug_of_the_catalogue_is_explained_by_its_own_entry() {
        for advice in Advice::ALL {
            let slug = advice.entry().slug;
            assert_eq!(slugs(slug), [slug]);
            assert_eq!(slugs(&advice.command()), [slug]);
            for text in advice.entry().texts {
                assert!(
                    slugs(text).iter().any(|s| s == slug),
                    "{text:?} leads to {:?}, not {slug}",
                    slugs(text)
                );
            }
        }
        for known in refusal::known() {
            assert_eq!(slugs(&known.slug), [known.slug.as_str()]);
        }
    }

    #[test]
    fn one_reply_that_means_this_here_and_that_there_lists_both_with_where() {
        let found = explain("552 5.2.2 mailbox full", "MAILBOX");
        let said: Vec<_> = found.entries.iter().map(|e| (e.slug.as_str(), e.stages.join(", "))).collect();
        assert!(said.contains(&("recipient-full", "RCPT TO".to_owned())), "{said:?}");
        assert!(said.contains(&("mailbox-full", "MAIL FROM, DATA, end of data".to_owned())), "{said:?}");
        // Where the line says where, nothing is guessed.
        assert_eq!(slugs("RCPT TO: 552 5.2.2 mailbox full"), ["recipient-full"]);
    }

    #[test]
    fn words_that_nobody_knows_say_what_happens_to_them() {
        let found = explain("550 5.9.9 Blurb", "MAILBOX");
        assert!(!found.known);
        let at = |stage: &str| {
            let row = found.by_stage.iter().find(|r| r.stages.iter().any(|s| s == stage));
            row.unwrap_or_else(|| panic!("{stage}: {found:?}")).then.clone()
        };
        assert!(at("connecting").starts_with("the account is held"), "{}", at("connecting"));
        assert!(at("RCPT TO").starts_with("the recipient is given up"), "{}", at("RCPT TO"));
        assert!(at("RCPT TO").contains("nothing ever went through with these settings: the account is held"));
        assert!(found.by_stage.iter().all(|r| r.code == "5yz"));
        let found = explain("blurb", "MAILBOX");
        let codes: Vec<_> = found.by_stage.iter().map(|r| r.code.as_str()).collect();
        assert!(!found.known && codes.contains(&"4yz") && codes.contains(&"5yz"), "{codes:?}");
    }

    #[test]
    fn a_text_made_to_break_it_does_not() {
        for text in [
            "",
            " ",
            "4",
            "45",
            "5é5 x",
            "451",
            "451 ",
            "AADSTS",
            "AADSTS99999999999999",
            "RCPT TO: ",
            "#",
            "é 550 é",
        ] {
            let _ = explain(text, "MAILBOX");
        }
        let _ = explain(&"550 5.7.1 ".repeat(20_000), "MAILBOX");
        let _ = explain(&"AADSTS".repeat(20_000), "MAILBOX");
    }
}
