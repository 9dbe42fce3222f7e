//! docs/errors.md, written from the advice catalogue and the sign-in service's table.
//!
//! Invariant: the page says what the log and the doctor say, in the same words. Pure.

use crate::mail::Place;
use crate::policy::advice::{About, Advice};
use crate::token::refusal::{self, Class, Known};

/// As the page's examples call them.
const ABOUT: About<'_> =
    About { mailbox: "scanner@contoso.com", smart_host: &Place::known("smtp.office365.com", 587) };

const INTRODUCTION: &str = "\
# Errors: what they mean and what to do

Search this page for a part of the text before you. `mailferry status`, the log and `mailferry doctor` say the same
about each, with your own mailbox, tenant and application filled in; here they are `scanner@contoso.com`, `TENANT` and
`CLIENT_ID`. On the relay itself `mailferry explain TEXT` finds the entry without this page: a part of the text, a whole
line of the log, or the name that a message ends with. Nothing is lost while you read: what was accepted stays queued,
or is kept as a dead letter until `mailferry queue retry ID` brings it back.

<!-- Written by `mailferry errors-page` from the catalogue in src/policy/advice. Change it there. -->
";

/// The whole page.
pub fn errors() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "\n## Sending and logging in\n";
    for advice in Advice::ALL {
        let entry = advice.entry();
        section(
            &mut page,
            entry.slug,
            entry.title,
            entry.texts,
            &format!("{}.", capital(entry.meaning)),
            &format!("{}.", entry.blame),
            &advice.remedy(ABOUT),
        );
    }
    page += "\n## Getting a token (OAuth)\n\nThe sign-in service's refusals, by `error` and AADSTS number.\n";
    for known in refusal::known() {
        refused(&mut page, &known);
    }
    page
}

fn refused(page: &mut String, known: &Known) {
    let fill = |text: &str| fill(text, ABOUT.mailbox);
    let remedy: Vec<String> = known.remedy.iter().map(|line| fill(line)).collect();
    let meaning = format!("{}.", capital(&fill(known.meaning)));
    section(page, &known.slug, &title(known), &[], &meaning, &format!("{}.", blame(known.class)), &remedy);
}

/// What leads to this refusal: numbers first, as people search for them.
pub(super) fn title(known: &Known) -> String {
    let numbers: Vec<String> = known.numbers.iter().map(|n| format!("AADSTS{n}")).collect();
    let errors = known.errors.iter().map(|e| (*e).to_owned());
    let texts: Vec<String> = numbers.into_iter().chain(errors).collect();
    if texts.is_empty() { "Any other AADSTS number".to_owned() } else { texts.join(", ") }
}

pub(super) fn blame(class: Class) -> &'static str {
    match class {
        Class::Retry => "the sign-in service; it passes by itself",
        Class::SlowDown => "the application: it asks too often",
        Class::KeepPolling => "nobody: a person has not finished signing in",
        Class::AppConfiguration => "the application's registration, or the account's oauth settings",
        Class::Policy => "a policy of the tenant",
        Class::User => "the user account",
        Class::SignInAgain => "nobody: a person has to sign in again",
    }
}

pub(super) fn fill(text: &str, mailbox: &str) -> String {
    text.replace("{mailbox}", mailbox)
        .replace("{tenant}", "TENANT")
        .replace("{client_id}", "CLIENT_ID")
        .replace("{authority}", "https://login.microsoftonline.com")
        .replace("{scope}", "https://outlook.office365.com/.default")
        .replace("{number}", "NUMBER")
}

fn section(
    page: &mut String,
    slug: &str,
    title: &str,
    texts: &[&str],
    meaning: &str,
    blame: &str,
    remedy: &[String],
) {
    *page += &format!("\n<a id=\"{slug}\"></a>\n\n### {title}\n\n");
    if !texts.is_empty() {
        for text in texts {
            *page += &format!("    {text}\n");
        }
        *page += "\n";
    }
    *page += &format!("{} Blame: {}\n\nWhat to do:\n\n", markdown(meaning), markdown(blame));
    for (i, step) in remedy.iter().enumerate() {
        *page += &format!("{}. {}\n", i + 1, markdown(step));
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Brackets are no tags.
fn markdown(text: &str) -> String {
    text.replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_anchor_is_there_once_and_every_placeholder_is_filled() {
        let page = errors();
        let anchors: Vec<&str> = page.lines().filter(|l| l.starts_with("<a id=")).collect();
        assert_eq!(anchors.iter().collect::<HashSet<_>>().len(), anchors.len());
        assert_eq!(anchors.len(), Advice::ALL.len() + refusal::known().count());
        assert!(!page.contains(['{', '}']), "{page}");
    }
}
