//! The directory of large contents, and every sync the queue does by itself.
//!
//! Invariant: a file that could not be synced is removed and never synced a second time, because the kernel may
//! have marked its pages clean without writing them; a file has its queue id as its name only once it is whole and
//! synced (`ID.part` before), mode 0600, made only where nothing was before. So only a part is ever removed unseen:
//! a whole content that no row names is moved aside. Must not know: rows.

use super::space::{BALLAST_BYTES, Space, is_full};
use crate::fact::Witness;
use crate::fact::queue::Fact;
use crate::files;
use crate::mail::QueueId;
use crate::queue::error::QueueError;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// So many failures in a row, or within `FAILURE_WINDOW`, are a failed disk and not an accident.
const FAILURES: usize = 3;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Behind the name of a content that is not whole yet.
const PART: &str = ".part";

/// A moment in the order of events (see `sqlite`): where tests stop the world or break the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    BodySync,
    BodySynced,
    DirectorySync,
    DirectorySynced,
    Commit,
    Committed,
    Removed,
}

#[cfg(test)]
type Hook = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

pub(super) struct Disk {
    bodies: PathBuf,
    unclaimed: PathBuf,
    handle: File,
    pub(super) space: Space,
    sync_failures: Mutex<Vec<Instant>>,
    failed: watch::Sender<Option<String>>,
    witness: Witness,
    #[cfg(test)]
    pub(super) hook: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("bodies", &self.bodies).finish_non_exhaustive()
    }
}

impl Disk {
    pub(super) fn open(directory: &Path, min_free: u64, witness: Witness) -> io::Result<Self> {
        let bodies = directory.join("bodies");
        let handle = files::open_or_make_directory(&bodies)?;
        Ok(Self {
            bodies,
            unclaimed: directory.join("unclaimed"),
            handle,
            space: Space::new(directory, min_free),
            sync_failures: Mutex::default(),
            failed: watch::channel(None).0,
            witness,
            #[cfg(test)]
            hook: Mutex::new(None),
        })
    }

    /// Gives up the reserve; `false` when there was none.
    pub(super) fn release_ballast(&self) -> bool {
        let released = self.space.release_ballast();
        if released {
            self.tell(Fact::BallastReleased { size_bytes: BALLAST_BYTES });
        }
        released
    }

    /// To whoever sees what happens in the queue.
    pub(super) fn tell(&self, fact: Fact) {
        self.witness.tell(fact);
    }

    pub(super) fn path(&self, id: QueueId) -> PathBuf {
        self.bodies.join(id.to_string())
    }

    /// Where the content is until it is whole.
    pub(super) fn part(&self, id: QueueId) -> PathBuf {
        self.bodies.join(format!("{id}{PART}"))
    }

    pub(super) fn create(&self, id: QueueId) -> io::Result<File> {
        let path = self.part(id);
        match files::create_for_owner(&path) {
            // Ids are never given twice to rows, so this was left by a draft of a run whose clock was ahead.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&path)?;
                files::create_for_owner(&path)
            }
            other => other,
        }
    }

    /// Makes the content durable, and the same content under each further id. The names are durable only after
    /// `sync_directory`.
    pub(super) fn seal(&self, id: QueueId, file: &File, links: &[QueueId]) -> io::Result<()> {
        let synced = self.reach(Step::BodySync).and_then(|()| file.sync_data());
        if let Err(e) = synced {
            self.sync_failed(&e);
            return Err(e);
        }
        std::fs::rename(self.part(id), self.path(id))?;
        for link in links {
            std::fs::hard_link(self.path(id), self.path(*link))?;
        }
        self.reach(Step::BodySynced)
    }

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        let synced = self.reach(Step::DirectorySync).and_then(|()| self.handle.sync_all());
        if let Err(e) = &synced {
            self.sync_failed(e);
        }
        synced.and_then(|()| self.reach(Step::DirectorySynced))
    }

    /// Removes contents nobody has a row for any more; what remains is removed at the next start.
    pub(super) fn remove(&self, ids: &[QueueId]) {
        for id in ids {
            let _ = std::fs::remove_file(self.path(*id));
        }
        if !ids.is_empty() {
            let _ = self.handle.sync_all();
            let _ = self.reach(Step::Removed);
        }
    }

    /// The ids that have a whole content.
    pub(super) fn ids(&self) -> io::Result<Vec<QueueId>> {
        self.named(|name| name.parse().ok())
    }

    /// Removes what drafts of an earlier run left: never whole, so never acknowledged.
    pub(super) fn remove_parts(&self, first_id: QueueId) -> io::Result<usize> {
        let parts: Vec<QueueId> = self.named(|name| name.strip_suffix(PART)?.parse().ok())?;
        let left = parts.iter().filter(|id| **id < first_id);
        Ok(left.filter(|id| std::fs::remove_file(self.part(**id)).is_ok()).count())
    }

    fn named<T>(&self, of: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
        let names = std::fs::read_dir(&self.bodies)?.filter_map(Result::ok).map(|e| e.file_name());
        Ok(names.filter_map(|n| of(n.to_str()?)).collect())
    }

    /// Where whole contents are kept that no row names.
    pub(super) fn unclaimed(&self) -> &Path {
        &self.unclaimed
    }

    /// Takes a whole content that no row names out of the way of the others, for a person to look at.
    pub(super) fn move_aside(&self, id: QueueId) -> io::Result<()> {
        let handle = files::open_or_make_directory(&self.unclaimed)?;
        std::fs::rename(self.path(id), self.unclaimed.join(id.to_string()))?;
        handle.sync_all()
    }

    fn sync_failed(&self, error: &io::Error) {
        self.tell(Fact::SyncFailed { error: error.to_string() });
        let mut failures = self.sync_failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|at| at.elapsed() < FAILURE_WINDOW);
        failures.push(Instant::now());
        if failures.len() >= FAILURES {
            self.give_up(&format!("{} syncs failed within a minute, the last with: {error}", failures.len()));
        }
    }

    /// Called with the number of transactions that failed in a row.
    pub(super) fn transactions_failed(&self, in_a_row: usize, error: &QueueError) {
        self.tell(Fact::TransactionFailed { error: error.to_string() });
        if in_a_row >= FAILURES {
            self.give_up(&format!("{in_a_row} transactions failed in a row, the last with: {error}"));
        }
    }

    /// From here on `Queue::failed` says why.
    pub(super) fn give_up(&self, why: &str) {
        if self.failed.send_replace(Some(why.to_owned())).is_none() {
            self.tell(Fact::GivenUp { why: why.to_owned() });
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.failed.borrow().is_some()
    }

    pub(super) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    #[cfg(test)]
    pub(super) fn reach(&self, step: Step) -> io::Result<()> {
        self.hook.lock().expect("test").as_mut().map_or(Ok(()), |hook| hook(step))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the tests' version can fail")]
    #[inline]
    pub(super) fn reach(&self, _: Step) -> io::Result<()> {
        Ok(())
    }
}

impl From<io::Error> for QueueError {
    fn from(e: io::Error) -> Self {
        if is_full(&e) { Self::Full(e.to_string()) } else { Self::Broken(e.to_string()) }
    }
}
