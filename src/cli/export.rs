//! `queue export`: messages as files, for rescue and for scripts.
//!
//! Invariant: a file is never overwritten, and `ID.json` exists only after `ID.eml` is complete and on the disk.
//! A delivered message has no content any more: only its `ID.json` is written.

use super::owner::Owner;
use super::source::Source;
use super::{Failure, exit};
use crate::control::report::{Message, count};
use crate::files;
use crate::mail::State;
use std::io::{self, Write};
use std::path::Path;

/// Writes the messages; says how many. The first one that cannot be written ends it. Where they go is the admin's, so
/// it is written to as whoever he is.
pub(super) async fn export(
    source: &Source,
    messages: &[Message],
    to: &Path,
    owner: &Owner,
) -> Result<String, Failure> {
    let cannot = |path: &Path, e: &io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::AlreadyExists => "nothing is overwritten; choose an empty directory",
            _ => "choose another directory",
        };
        Failure::new(exit::CANNOT_CREATE, format!("cannot write {}: {e}", path.display()), hint)
    };
    owner
        .as_before(|| if to.is_dir() { Ok(()) } else { files::make_directory(to) })
        .map_err(|e| cannot(to, &e))?;
    let create = |path: &Path| owner.as_before(|| files::create(path)).map_err(|e| cannot(path, &e));
    for message in messages {
        let shown = source.show(message.id).await?;
        let eml = to.join(format!("{}.eml", message.id));
        let json = to.join(format!("{}.json", message.id));
        if owner.as_before(|| json.exists()) {
            return Err(cannot(&json, &io::ErrorKind::AlreadyExists.into()));
        }
        if shown.message.state != State::Delivered {
            let mut file = tokio::fs::File::from_std(create(&eml)?);
            let written = source.body(message.id, &mut file).await;
            let synced = file.sync_all().await.map_err(|e| cannot(&eml, &e));
            if let Err(failure) = written.and(synced) {
                // A part must not pass for the whole.
                let _ = owner.as_before(|| std::fs::remove_file(&eml));
                return Err(failure);
            }
        }
        let text = super::as_json(&shown)?;
        let mut file = create(&json)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| cannot(&json, &e))?;
    }
    let n = u64::try_from(messages.len()).unwrap_or(u64::MAX);
    Ok(format!("{} written to {}\n", count(n, "message"), to.display()))
}
