//! `queue export`: messages as files, for rescue and for scripts.
//!
//! Invariant: a file is never overwritten, and `ID.json` exists only after `ID.eml` is complete and on the disk.
//! A delivered message has no content any more: only its `ID.json` is written.

use super::owner::Owner;
use super::source::{Source, is_gone};
use super::{Failure, exit};
use crate::control::report::{Message, Shown};
use crate::files;
use crate::mail::State;
use std::io::{self, Write};
use std::path::Path;

/// Makes the directory when it is not there. Where messages go is the admin's, so it is written to as whoever he is.
pub(super) fn prepare(to: &Path, owner: &Owner) -> Result<(), Failure> {
    let made = owner.as_before(|| if to.is_dir() { Ok(()) } else { files::make_directory(to) });
    made.map_err(|e| cannot(to, &e))
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exported {
    Whole,
    /// It was delivered.
    WithoutContent,
    /// It has gone since it was listed, as a running relay goes on meanwhile.
    Gone,
}

/// Writes one message.
pub(super) async fn export(
    source: &Source,
    message: &Message,
    to: &Path,
    owner: &Owner,
) -> Result<Exported, Failure> {
    let eml = to.join(format!("{}.eml", message.id));
    let json = to.join(format!("{}.json", message.id));
    if owner.as_before(|| json.exists()) {
        return Err(cannot(&json, &io::ErrorKind::AlreadyExists.into()));
    }
    let Some(mut shown) = show(source, message).await? else { return Ok(Exported::Gone) };
    let mut without = None;
    if shown.message.state != State::Delivered
        && let Err(failure) = content(source, message, &eml, owner).await
    {
        match show(source, message).await? {
            None if is_gone(&failure) => return Ok(Exported::Gone),
            Some(now) if is_gone(&failure) && now.message.state == State::Delivered => shown = now,
            // Its envelope says at least from whom and for whom it was.
            _ if is_gone(&failure) || failure.code == exit::IO => without = Some(failure),
            _ => return Err(failure),
        }
    }
    let text = super::as_json(&shown)?;
    let made = owner.as_before(|| files::create(&json));
    let written = made.and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.map_err(|e| cannot(&json, &e))?;
    match without {
        None if shown.message.state == State::Delivered => Ok(Exported::WithoutContent),
        None => Ok(Exported::Whole),
        Some(why) => {
            let hint = "see the disk's health; the log has more";
            let what = format!("the content of {} cannot be read: {}", message.id, why.message);
            Err(Failure::new(exit::IO, what, hint))
        }
    }
}

async fn show(source: &Source, message: &Message) -> Result<Option<Shown>, Failure> {
    match source.show(message.id).await {
        Ok(shown) => Ok(Some(shown)),
        Err(failure) if is_gone(&failure) => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn content(source: &Source, message: &Message, eml: &Path, owner: &Owner) -> Result<(), Failure> {
    let made = owner.as_before(|| files::create(eml));
    let mut file = tokio::fs::File::from_std(made.map_err(|e| cannot(eml, &e))?);
    let written = source.body(message.id, &mut file).await;
    let synced = file.sync_all().await.map_err(|e| cannot(eml, &e));
    written.and(synced).inspect_err(|_| {
        // A part must not pass for the whole.
        let _ = owner.as_before(|| std::fs::remove_file(eml));
    })
}

fn cannot(path: &Path, e: &io::Error) -> Failure {
    let hint = match e.kind() {
        io::ErrorKind::AlreadyExists => "nothing is overwritten; choose an empty directory",
        _ => "choose another directory",
    };
    Failure::new(exit::CANNOT_CREATE, format!("cannot write {}: {e}", path.display()), hint)
}
