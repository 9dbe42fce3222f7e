//! `queue export`: messages as files, for rescue and for scripts.
//!
//! Invariant: a file is never overwritten, and `ID.json` exists only after `ID.eml` is complete and on the disk.
//! A delivered message has no content any more: only its `ID.json` is written.

use super::source::Source;
use super::{Failure, exit};
use crate::control::report::{Message, count};
use crate::mail::State;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes the messages; says how many. The first one that cannot be written ends it.
pub(super) async fn export(source: &Source, messages: &[Message], to: &Path) -> Result<String, Failure> {
    let cannot = |path: &Path, e: &io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::AlreadyExists => "nothing is overwritten; choose an empty directory",
            _ => "choose another directory",
        };
        Failure::new(exit::CANNOT_CREATE, format!("cannot write {}: {e}", path.display()), hint)
    };
    if !to.is_dir() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to);
        made.map_err(|e| cannot(to, &e))?;
    }
    for message in messages {
        let shown = source.show(message.id).await?;
        let eml = to.join(format!("{}.eml", message.id));
        let json = to.join(format!("{}.json", message.id));
        if json.exists() {
            return Err(cannot(&json, &io::ErrorKind::AlreadyExists.into()));
        }
        if shown.message.state != State::Delivered {
            let mut file = tokio::fs::File::from_std(create(&eml).map_err(|e| cannot(&eml, &e))?);
            let written = source.body(message.id, &mut file).await;
            let synced = file.sync_all().await.map_err(|e| cannot(&eml, &e));
            if let Err(failure) = written.and(synced) {
                // A part must not pass for the whole.
                let _ = std::fs::remove_file(&eml);
                return Err(failure);
            }
        }
        let text = super::as_json(&shown)?;
        let written =
            create(&json).and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
        written.map_err(|e| cannot(&json, &e))?;
    }
    let n = u64::try_from(messages.len()).unwrap_or(u64::MAX);
    Ok(format!("{} written to {}\n", count(n, "message"), to.display()))
}

fn create(path: &Path) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
