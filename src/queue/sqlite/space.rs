//! Room on the disk: whether new mail may come, and a reserve for settling what is here.
//!
//! Invariant: new mail stops while there is still room to record what becomes of old mail, and comes again by
//! itself once there is room, on the disk or in the database's own free pages. The last of the room is a really
//! allocated file, the ballast, given up when a settlement finds the disk full and made again later.
//! Must not know: what is written.

use crate::files;
use crate::queue::error::QueueError;
use crate::queue::role::Room;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a row takes besides its content, roughly.
const ROW_BYTES: u64 = 4 << 10;
/// Less than this above `min_free_space`, and free pages are given back at once.
const SHORT_BYTES: u64 = 64 << 20;
/// Enough for some thousand settlements.
pub(super) const BALLAST_BYTES: u64 = 8 << 20;
/// One a message at least, and as many for the database's own files.
const MIN_INODES: u64 = 64;
/// `statvfs` is cheap, but not at every commit.
const FRESH: Duration = Duration::from_secs(1);
/// Giving pages back writes to the log first: never the last of the disk.
const ROOM_TO_TIDY_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    min_free: AtomicU64,
    seen: Mutex<Option<Seen>>,
    /// Bytes in free pages of the database, less what was stored since the last count: new rows go there first.
    reusable: AtomicU64,
    /// The log is as long as it may become, because somebody keeps it from being emptied.
    log_is_full: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    /// All that is free.
    raw: u64,
    /// Behind `min_free`, less what was written since.
    free: u64,
    inodes: bool,
}

impl Space {
    pub(super) fn new(directory: &Path, min_free: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            min_free: AtomicU64::new(min_free),
            seen: Mutex::new(None),
            reusable: AtomicU64::new(0),
            log_is_full: AtomicBool::new(false),
        }
    }

    /// Leaves so much free from now on.
    pub(super) fn set_min_free(&self, bytes: u64) {
        self.min_free.store(bytes, Ordering::Relaxed);
        self.forget();
    }

    fn look(&self) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(s) = *seen
            && s.at.elapsed() < FRESH
        {
            return s;
        }
        // A file system that cannot be asked will say so itself when it is written to.
        let now = rustix::fs::statvfs(&self.directory).map_or(
            Seen { at: Instant::now(), raw: u64::MAX, free: u64::MAX, inodes: true },
            |v| Seen {
                at: Instant::now(),
                raw: v.f_bavail.saturating_mul(v.f_frsize),
                free: v
                    .f_bavail
                    .saturating_mul(v.f_frsize)
                    .saturating_sub(self.min_free.load(Ordering::Relaxed)),
                // btrfs has no fixed number of inodes and says 0.
                inodes: v.f_files == 0 || v.f_favail >= MIN_INODES,
            },
        );
        *seen = Some(now);
        now
    }

    /// For people.
    pub(super) fn room(&self) -> Room {
        Room {
            free_bytes: self.look().raw,
            min_free_bytes: self.min_free.load(Ordering::Relaxed),
            place: self.directory.clone(),
        }
    }

    /// Bytes free for new mail.
    pub(super) fn free(&self) -> u64 {
        let seen = self.look();
        if seen.inodes { seen.free } else { 0 }
    }

    /// Whether `bytes` more of new mail may come, in a file of its own.
    pub(super) fn check(&self, bytes: u64) -> Result<(), QueueError> {
        if self.log_is_full.load(Ordering::Relaxed) {
            return Err(QueueError::Full(
                "the queue's log cannot be emptied while another program has queue.db open".into(),
            ));
        }
        let seen = self.look();
        if !seen.inodes {
            return Err(QueueError::Full("no inodes left".into()));
        }
        if seen.free <= bytes {
            return Err(QueueError::Full(format!(
                "{bytes} bytes are needed and {} are left above min_free_space",
                seen.free
            )));
        }
        Ok(())
    }

    /// Whether `bytes` more of new mail may come as a row, which may find its place in free pages.
    pub(super) fn check_row(&self, bytes: u64) -> Result<(), QueueError> {
        let refused = match self.check(bytes) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let fits = self.reusable.load(Ordering::Relaxed) > bytes + ROW_BYTES && self.may_tidy();
        if fits && !self.log_is_full.load(Ordering::Relaxed) { Ok(()) } else { Err(refused) }
    }

    /// Like `check`, and counts the bytes as written until the next look at the disk.
    pub(super) fn take(&self, bytes: u64) -> Result<(), QueueError> {
        self.check(bytes)?;
        self.count(bytes);
        Ok(())
    }

    /// Like `check_row`, and counts the bytes as written until the next look.
    pub(super) fn take_row(&self, bytes: u64) -> Result<(), QueueError> {
        self.check_row(bytes)?;
        let bytes = bytes + ROW_BYTES;
        let from = |free: u64| Some(free.saturating_sub(bytes));
        let reused = self.reusable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, from);
        if reused.is_ok_and(|free| free < bytes) {
            self.count(bytes);
        }
        Ok(())
    }

    fn count(&self, bytes: u64) {
        if let Some(seen) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            seen.free = seen.free.saturating_sub(bytes);
            seen.raw = seen.raw.saturating_sub(bytes);
        }
    }

    /// New mail has to wait for room, or soon will have to.
    pub(super) fn is_short(&self) -> bool {
        let seen = self.look();
        !seen.inodes || seen.free < SHORT_BYTES
    }

    /// Whether there is room for what giving pages back writes on the way.
    pub(super) fn may_tidy(&self) -> bool {
        self.look().raw > ROOM_TO_TIDY_BYTES
    }

    /// All that is free on the disk, whoever it is meant for.
    pub(super) fn raw_free(&self) -> u64 {
        self.look().raw
    }

    /// What the database could take without growing.
    pub(super) fn set_reusable(&self, bytes: u64) {
        self.reusable.store(bytes, Ordering::Relaxed);
    }

    /// Says whether the log is too long for more mail; whether that is news.
    pub(super) fn set_log_full(&self, is_full: bool) -> bool {
        self.log_is_full.swap(is_full, Ordering::Relaxed) != is_full
    }

    /// What was known of the disk is known no longer.
    pub(super) fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Gives up the reserve; `false` when there was none.
    pub(super) fn release_ballast(&self) -> bool {
        let released = std::fs::remove_file(self.ballast()).is_ok();
        if released {
            // The blocks are free for others only when the removal is on the disk.
            let _ = files::sync_directory(&self.directory);
        }
        released
    }

    /// Makes the reserve when there is room for it.
    pub(super) fn keep_ballast(&self) {
        if self.free() < BALLAST_BYTES || self.ballast().exists() {
            return;
        }
        let Ok(file) = files::create_for_owner(&self.ballast()) else { return };
        if allocate(&file).is_err() {
            let _ = std::fs::remove_file(self.ballast());
        }
    }

    /// Whether even a small write fails for want of room: SQLite does not tell a quota from a broken disk.
    pub(super) fn is_exhausted(&self) -> bool {
        let path = self.directory.join("probe");
        let _ = std::fs::remove_file(&path);
        let wrote = files::create_for_owner(&path)
            .and_then(|mut file| file.write_all(&[1; 64 * 1024]).and_then(|()| file.sync_data()));
        let _ = std::fs::remove_file(&path);
        wrote.is_err_and(|e| is_full(&e))
    }
}

fn allocate(mut file: &std::fs::File) -> io::Result<()> {
    let reserved = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES);
    if reserved == Err(rustix::io::Errno::OPNOTSUPP) {
        for _ in 0..BALLAST_BYTES >> 16 {
            file.write_all(&[0; 1 << 16])?;
        }
        return file.sync_all();
    }
    reserved?;
    file.sync_all()
}

/// Disk, quota or inodes.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
