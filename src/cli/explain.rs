//! `mailferry explain`: the catalogue of errors, without the network and without the daemon.
//!
//! Invariant: exit code 0 where an entry explains the text, 66 where none does. Must not know: how it is found.

use super::{Failure, as_json, exit, out, say};
use crate::config::{self, Env};
use crate::doctor::explain::{self, Explanation};
use clap::Args;
use std::path::Path;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// For scripts
    #[arg(long)]
    json: bool,
    /// A reply or a part of it, a line of the log, or a name such as prx4; without it, every name there is
    #[arg(value_name = "TEXT|SLUG")]
    text: Vec<String>,
}

pub(super) fn run(args: &Explain, path: Option<&Path>, env: &Env) -> Result<u8, Failure> {
    let text = args.text.join(" ");
    if text.trim().is_empty() {
        return list(args.json).map(|()| 0);
    }
    let explanation = explain::explain(&text, &mailbox(&text, path, env));
    out(&if args.json { as_json(&explanation)? } else { people(&explanation) })?;
    if explanation.known {
        return Ok(0);
    }
    say("no entry explains these words", "mailferry explain, without a text, lists what there is");
    Ok(exit::NO_INPUT)
}

/// Whom the entry is filled in with: the account that the text names, or the only one there is.
fn mailbox(text: &str, path: Option<&Path>, env: &Env) -> String {
    let accounts = config::load_sign_ins(path, env).map(|(accounts, _)| accounts).unwrap_or_default();
    let mailboxes: Vec<String> = accounts.iter().map(|a| a.mailbox.to_string()).collect();
    let named = mailboxes.iter().find(|m| text.to_lowercase().contains(&m.to_lowercase()));
    let only = || mailboxes.first().filter(|_| mailboxes.len() == 1);
    named.or_else(only).cloned().unwrap_or_else(|| "MAILBOX".to_owned())
}

fn list(json: bool) -> Result<(), Failure> {
    let all = explain::all();
    if json {
        let entry = |(slug, title)| serde_json::json!({ "slug": slug, "title": title });
        return out(&as_json(&all.into_iter().map(entry).collect::<Vec<_>>())?);
    }
    out(&all.iter().map(|(slug, title)| format!("{slug:<36} {title}\n")).collect::<String>())
}

fn people(explanation: &Explanation) -> String {
    let mut text = match explanation.entries.len() {
        0 => "nobody here knows these words; what happens all the same:\n".to_owned(),
        1 => String::new(),
        n => format!("it can be one of {n}, the first is the most likely:\n\n"),
    };
    text += &explanation.entries.iter().map(explain::Explained::text).collect::<Vec<_>>().join("\n");
    for row in &explanation.by_stage {
        text += &format!("  {} at {}: {}\n", row.code, row.stages.join(", "), row.then);
    }
    text
}
