//! `mailferry queue`: looking at messages and acting on them, however many there are.
//!
//! Invariant: parts are printed as they come and none is kept; what is said to have been done was done, also when
//! the rest was not. Must not know: where the messages are.

use super::export::{Exported, export, prepare};
use super::owner::Owner;
use super::source::Source;
use super::{Acting, Failure, QueueCommand, as_json, exit, out, out_part, print, say};
use crate::control::report::{
    AccountState, Action, ChangeRequest, Changed, Prospect, Select, count, move_hint,
};
use crate::fact::Witness;
use crate::mail::{AccountId, Escaped, QueueId};
use crate::queue::{self, QueueError, Rescued, Settings};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// So many ids are named where they may be many.
const NAMED: usize = 20;

pub(super) async fn run(source: &Source, command: QueueCommand, owner: &Owner) -> Result<(), Failure> {
    match command {
        QueueCommand::List { select, json } => list(source, &select.select()?, &select.ids, json).await,
        QueueCommand::Show { id, json } => {
            let shown = source.show(id).await?;
            out(&if json { as_json(&shown)? } else { print::shown(&shown, &TimeZone::system()) })
        }
        QueueCommand::Retry(acting) => act(source, Action::Retry, &acting).await,
        QueueCommand::Hold(acting) => act(source, Action::Hold, &acting).await,
        QueueCommand::Release(acting) => act(source, Action::Release, &acting).await,
        QueueCommand::Remove(acting) => act(source, Action::Remove, &acting).await,
        QueueCommand::Move { acting, to } => act(source, Action::Move(to), &acting).await,
        QueueCommand::Rescue { .. } => unreachable!("a rescue opens no queue"),
        QueueCommand::Export { select, to } => {
            export_all(source, &select.select()?, &select.ids, &to, owner).await
        }
    }
}

/// What was asked for by its id and has not come up yet, and what came up and cannot be read.
struct Outstanding {
    named: BTreeSet<QueueId>,
    unreadable: Vec<QueueId>,
    without_content: Vec<QueueId>,
}

impl Outstanding {
    fn new(named: &[QueueId]) -> Self {
        Self { named: named.iter().copied().collect(), unreadable: vec![], without_content: vec![] }
    }

    fn came_up(&mut self, id: QueueId) {
        self.named.remove(&id);
    }

    fn has_no_content(&mut self, id: QueueId, why: &Failure) {
        say(&why.message, &why.hint);
        self.without_content.push(id);
    }

    fn cannot_be_read(&mut self, ids: &[QueueId]) {
        ids.iter().for_each(|id| self.came_up(*id));
        self.unreadable.extend(ids);
    }

    /// At the end of a question. What was named and is there was not meant, by another option.
    async fn end(&mut self, source: &Source) -> Result<(), Failure> {
        if !self.named.is_empty() {
            let names = self.named.iter().map(QueueId::to_string).collect::<Vec<_>>().join(",");
            let mut there = source.listing(&Select { ids: names, ..Select::default() }).await?;
            while let Some(part) = there.next().await {
                let part = part?;
                part.messages.iter().for_each(|m| self.came_up(m.id));
                self.cannot_be_read(&part.unreadable);
            }
        }
        if !self.without_content.is_empty() {
            let hint =
                "the others are whole; what is left of these may be in the queue's damaged/ and unclaimed/";
            let what = format!("written without their contents: {}", ids(&self.without_content));
            return Err(Failure::new(exit::IO, what, hint));
        }
        if !self.unreadable.is_empty() {
            let hint = "the others are whole; keep a copy of the queue directory, and see the disk's health";
            return Err(Failure::new(exit::IO, format!("cannot be read: {}", ids(&self.unreadable)), hint));
        }
        if self.named.is_empty() {
            return Ok(());
        }
        let missing: Vec<QueueId> = self.named.iter().copied().collect();
        let hint = "it may have been delivered and forgotten; see: mailferry queue list";
        Err(Failure::new(exit::NO_INPUT, format!("no such message: {}", ids(&missing)), hint))
    }
}

async fn list(source: &Source, select: &Select, named: &[QueueId], json: bool) -> Result<(), Failure> {
    let zone = TimeZone::system();
    let (mut listing, mut outstanding) = (source.listing(select).await?, Outstanding::new(named));
    let mut is_first = true;
    while let Some(part) = listing.next().await {
        let part = part?;
        outstanding.cannot_be_read(&part.unreadable);
        part.messages.iter().for_each(|m| outstanding.came_up(m.id));
        if part.messages.is_empty() {
            continue;
        }
        let mut text = String::new();
        if json {
            // One array, as if it were written at once.
            for message in &part.messages {
                text += if std::mem::take(&mut is_first) { "[\n  " } else { ",\n  " };
                text += &as_json(message)?.trim_end().replace('\n', "\n  ");
            }
        } else {
            if std::mem::take(&mut is_first) {
                text += &print::list_head();
            }
            text += &print::list(&part.messages, &zone);
        }
        if out_part(&text)?.is_break() {
            return Ok(());
        }
    }
    out(match (json, is_first) {
        (true, true) => "[]\n",
        (true, false) => "\n]\n",
        (false, true) => "no messages\n",
        (false, false) => "",
    })?;
    if is_first {
        tell_unknown(source, select).await?;
    }
    outstanding.end(source).await
}

/// Nothing was found: a name that is no account's and no client's is a slip of the pen.
async fn tell_unknown(source: &Source, select: &Select) -> Result<(), Failure> {
    let tell = |what: &str, name: &str, known: &[String]| {
        if !known.is_empty() && !known.iter().any(|k| k == name) {
            let hint = format!("there are: {}", known.join(", "));
            say(&format!("there is no {what} {}, and no mail of one", Escaped(name.as_bytes())), &hint);
        }
    };
    if let Some(account) = &select.account {
        let known: Vec<String> = source.accounts().await?.iter().map(ToString::to_string).collect();
        tell("account", AccountId::named(account).as_str(), &known);
    }
    if let Some(client) = select.client.as_ref().filter(|c| c.parse::<IpAddr>().is_err()) {
        tell("client", client, &source.clients().await?);
    }
    Ok(())
}

async fn export_all(
    source: &Source,
    select: &Select,
    named: &[QueueId],
    to: &Path,
    owner: &Owner,
) -> Result<(), Failure> {
    prepare(to, owner)?;
    let (mut listing, mut outstanding) = (source.listing(select).await?, Outstanding::new(named));
    let (mut written, mut bare) = (0, 0);
    while let Some(part) = listing.next().await {
        let part = part.map_err(|f| broken_off(written, "written", f))?;
        outstanding.cannot_be_read(&part.unreadable);
        for message in &part.messages {
            outstanding.came_up(message.id);
            match export(source, message, to, owner).await {
                Ok(exported) => {
                    written += u64::from(exported != Exported::Gone);
                    bare += u64::from(exported == Exported::WithoutContent);
                }
                // One that cannot be read is no reason to leave the others behind.
                Err(failure) if failure.code == exit::IO => outstanding.has_no_content(message.id, &failure),
                Err(failure) => return Err(broken_off(written, "written", failure)),
            }
        }
    }
    let kept = match bare {
        0 => String::new(),
        _ => format!(", {bare} of them as .json only, as the content of what was delivered is not kept"),
    };
    out(&format!("{} written to {}{kept}\n", count(written, "message"), to.display()))?;
    if written == 0 {
        tell_unknown(source, select).await?;
    }
    outstanding.end(source).await
}

/// Not by opening the queue, which may be damaged in any way, or in use: by making a sound one of what can be read.
pub(super) async fn rescue(from: &Path, to: &Path) -> Result<(), Failure> {
    let unreadable = |e: QueueError| {
        let hint =
            "name the directory that queue.db is in with --from, and an empty one on a sound disk with --to";
        Failure::new(exit::IO, format!("cannot rescue {}: {e}", from.display()), hint)
    };
    let Rescued { queue: sound, lost } = queue::rescue(from, to).map_err(unreadable)?;
    let settings = Settings { directory: sound.clone(), min_free_space_bytes: 0 };
    crate::logs::warnings();
    let queue = queue::open(&settings, Witness::of_the_log())
        .await
        .map_err(|e| Failure::new(exit::IO, e.to_string(), ""))?;
    let source = Source::Directory { queue, accounts: None };
    let written = export_all(&source, &Select::default(), &[], to, &Owner::nobody_else()).await;
    source.close().await;
    std::fs::remove_dir_all(&sound).map_err(|e| {
        Failure::new(exit::IO, format!("cannot remove {}: {e}", sound.display()), "remove it by hand")
    })?;
    written?;
    if lost.is_empty() {
        return Ok(());
    }
    let what = format!("named somewhere and not to be read: {}", ids(&lost));
    Err(Failure::new(exit::IO, what, "what is left of them is in files named ID.eml and ID.part.eml"))
}

/// A failure in the middle says how far it came.
fn broken_off(done: u64, did: &str, failure: Failure) -> Failure {
    if done == 0 {
        return failure;
    }
    let message = format!("{}: {did}, then: {}", count(done, "message"), failure.message);
    let hint = match failure.hint.as_str() {
        "" => "what is done stays done; say it again for the rest".to_owned(),
        hint => format!("what is done stays done; {hint}"),
    };
    Failure::new(failure.code, message, hint)
}

async fn act(source: &Source, action: Action, acting: &Acting) -> Result<(), Failure> {
    let select = acting.select.select()?;
    if select.is_everything() && !acting.all {
        let hint = "name them by id, --state, --account, --client, --address or --since, or say --all";
        return Err(Failure::new(exit::USAGE, "which messages?", hint));
    }
    let mut outstanding = Outstanding::new(&acting.select.ids);
    let (mut changed, mut being_sent, mut prospects) = (0, vec![], vec![]);
    let request = ChangeRequest { select: select.clone(), action: action.clone(), all: acting.all };
    let mut changing = source.changing(&request).await?;
    while let Some(part) = changing.next().await {
        let mut part: Changed = part.map_err(|f| broken_off(changed, did(&action), f))?;
        changed += u64::try_from(part.ids.len()).unwrap_or(u64::MAX);
        part.ids.iter().for_each(|id| outstanding.came_up(*id));
        being_sent.append(&mut part.being_sent);
        prospects.append(&mut part.prospects);
        outstanding.cannot_be_read(&part.unreadable);
    }
    let accounts = match prospects.iter().any(|p: &Prospect| p.state.is_none()) {
        true => source.accounts().await?,
        false => vec![],
    };
    let told = tell(&action, changed, &prospects, source.is_running(), &accounts);
    told.lines.iter().try_for_each(|line| out(line))?;
    told.notes.iter().for_each(|(what, hint)| say(what, hint));
    being_sent.retain(|id| !outstanding.named.contains(id));
    if !being_sent.is_empty() {
        let hint = "they are settled in a moment; say it again for what is left then";
        say(&format!("not changed, as they are being sent at this moment: {}", ids(&being_sent)), hint);
    }
    if changed == 0 {
        tell_unknown(source, &select).await?;
    }
    let left: Vec<QueueId> = outstanding.named.iter().copied().collect();
    outstanding.end(source).await?;
    if !left.is_empty() {
        let hint =
            "it is being sent at this moment, or its state does not allow it; see: mailferry queue show";
        return Err(Failure::new(exit::TRY_LATER, format!("not changed: {}", ids(&left)), hint));
    }
    told.ended
}

fn did(action: &Action) -> &'static str {
    match action {
        Action::Retry => "due",
        Action::Hold => "held",
        Action::Release => "released",
        Action::Remove => "removed",
        Action::Move(_) => "moved",
    }
}

/// What is said about a change.
struct Telling {
    lines: Vec<String>,
    /// Each with what to do about it.
    notes: Vec<(String, String)>,
    ended: Result<(), Failure>,
}

/// `accounts` are those that mail can be given to.
fn tell(
    action: &Action,
    changed: u64,
    prospects: &[Prospect],
    is_running: bool,
    accounts: &[AccountId],
) -> Telling {
    let mut telling = Telling { lines: vec![], notes: vec![], ended: Ok(()) };
    match action {
        Action::Retry => retried(&mut telling, changed, prospects, is_running, accounts),
        _ => {
            let to = match action {
                Action::Move(to) => format!(" to {}", AccountId::named(to)),
                _ => String::new(),
            };
            telling.lines.push(format!("{}: {}{to}\n", count(changed, "message"), did(action)));
            for p in prospects {
                telling.notes.extend(obstacle(p, accounts));
            }
        }
    }
    telling
}

/// Only what somebody sends is said to be tried.
fn retried(
    telling: &mut Telling,
    changed: u64,
    prospects: &[Prospect],
    is_running: bool,
    accounts: &[AccountId],
) {
    let (mut now, mut told) = (0, 0);
    for p in prospects {
        let (n, account) = (count(p.messages, "message"), &p.account);
        told += p.messages;
        match (p.state, obstacle(p, accounts)) {
            (None, Some((what, hint))) => {
                telling.lines.push(format!("{n}: not tried, as nobody sends for {account}\n"));
                telling.ended = Err(Failure::new(exit::NO_INPUT, what, hint));
            }
            (Some(AccountState::Paused), note) => {
                telling.lines.push(format!("{n}: to be tried when {account} is no longer paused\n"));
                telling.notes.extend(note);
            }
            (Some(AccountState::Open), _) if !p.reason.is_empty() && is_running => {
                telling.lines.push(format!("{n}: to be tried in turn: {account} is {}\n", p.reason));
            }
            (_, note) => {
                now += p.messages;
                telling.notes.extend(note);
            }
        }
    }
    now += changed.saturating_sub(told);
    if changed == 0 {
        telling.lines.push("0 messages: none to be tried\n".to_owned());
    }
    if now > 0 {
        let when = if is_running { "to be tried now" } else { "to be tried when mailferry runs" };
        telling.lines.insert(0, format!("{}: {when}\n", count(now, "message")));
    }
}

/// Why the mail of an account does not leave at once, and what to do.
fn obstacle(p: &Prospect, accounts: &[AccountId]) -> Option<(String, String)> {
    let account = &p.account;
    match p.state {
        None => Some((
            format!("there is no account {account}: nobody will send its mail"),
            format!("configure it again, or {}", move_hint(account, accounts)),
        )),
        Some(AccountState::Paused) => Some((
            format!("{account} is paused"),
            format!("send again with: mailferry account resume {account}"),
        )),
        Some(AccountState::Held) => Some((
            format!("{account} cannot send: {}", p.reason),
            "one message is tried, and the others follow when that works; see: mailferry status".to_owned(),
        )),
        Some(AccountState::BackingOff) => Some((
            format!("{account} waits for the smart host: {}", p.reason),
            "one message is tried, and the others follow when that works".to_owned(),
        )),
        Some(AccountState::Open) => None,
    }
}

fn ids(ids: &[QueueId]) -> String {
    let named = ids.iter().take(NAMED).map(QueueId::to_string).collect::<Vec<_>>().join(" ");
    match ids.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prospect(account: &str, state: Option<AccountState>, reason: &str) -> Prospect {
        Prospect { account: account.to_owned(), messages: 2, state, reason: reason.to_owned() }
    }

    #[test]
    fn only_what_somebody_sends_is_said_to_be_tried_now() {
        use AccountState::{BackingOff, Held, Open, Paused};
        let accounts = [AccountId::new("new@contoso.com")];
        let pace = "waiting for its pace: messages a minute or recipients a day";
        let running = true;
        for (state, reason, is_running, line, what, hint) in [
            (Some(Open), "", running, "2 messages: to be tried now\n", "", ""),
            (Some(Open), "", !running, "2 messages: to be tried when mailferry runs\n", "", ""),
            (
                Some(Open),
                pace,
                running,
                "2 messages: to be tried in turn: a@contoso.com is waiting for its pace: messages a minute or recipients a day\n",
                "",
                "",
            ),
            (
                Some(BackingOff),
                "AUTH: 451 PRX4",
                running,
                "2 messages: to be tried now\n",
                "a@contoso.com waits for the smart host: AUTH: 451 PRX4",
                "one message is tried, and the others follow when that works",
            ),
            (
                Some(Held),
                "AUTH: 535 no",
                running,
                "2 messages: to be tried now\n",
                "a@contoso.com cannot send: AUTH: 535 no",
                "one message is tried, and the others follow when that works; see: mailferry status",
            ),
            (
                Some(Paused),
                "",
                running,
                "2 messages: to be tried when a@contoso.com is no longer paused\n",
                "a@contoso.com is paused",
                "send again with: mailferry account resume a@contoso.com",
            ),
            (
                None,
                "",
                running,
                "2 messages: not tried, as nobody sends for a@contoso.com\n",
                "there is no account a@contoso.com: nobody will send its mail",
                "configure it again, or give its mail to another: mailferry queue move --account a@contoso.com --to new@contoso.com",
            ),
        ] {
            let prospects = [prospect("a@contoso.com", state, reason)];
            let told = tell(&Action::Retry, 2, &prospects, is_running, &accounts);
            assert_eq!(told.lines, [line]);
            let note = told.notes.into_iter().next().or(told.ended.err().map(|f| (f.message, f.hint)));
            assert_eq!(note.unwrap_or_default(), (what.to_owned(), hint.to_owned()), "{line}");
        }
        let two = [prospect("a@contoso.com", Some(Open), ""), prospect("b@contoso.com", None, "")];
        let told = tell(&Action::Retry, 4, &two, true, &accounts);
        assert_eq!(
            told.lines,
            ["2 messages: to be tried now\n", "2 messages: not tried, as nobody sends for b@contoso.com\n"]
        );
        assert_eq!(told.ended.unwrap_err().code, exit::NO_INPUT);
        let nothing = tell(&Action::Retry, 0, &[], true, &accounts);
        assert_eq!(nothing.lines, ["0 messages: none to be tried\n"]);
        let unknown = tell(&Action::Retry, 3, &[], false, &[]);
        assert_eq!(unknown.lines, ["3 messages: to be tried when mailferry runs\n"]);
    }
}
