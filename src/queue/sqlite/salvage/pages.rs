//! The pages of a database as its last committed transaction left them, read without SQLite.
//!
//! Invariant: a page comes from the log where a committed frame there has it, else from the file; a frame that was
//! changed on the disk costs that frame only, while SQLite would drop everything behind it. Nothing is written.
//! Must not know: what is on a page.
//!
//! The formats are those of <https://www.sqlite.org/fileformat2.html>.

use crate::files;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Ours are all made with this.
pub(super) const PAGE: usize = 4096;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + PAGE;
/// So many unsound frames in a row are the end: what the log held before it began anew.
const SUSPECTS: usize = 64;
const MAGIC: u32 = 0x377f_0682;

/// What the map calls the pages that records overflow to.
const OVERFLOW_FIRST: u8 = 3;
const OVERFLOW: u8 = 4;

pub(super) type Page = Box<[u8; PAGE]>;

/// A page number, from 1.
pub(super) type Number = u32;

pub(super) struct Pages {
    database: File,
    log: Option<File>,
    frames: HashMap<Number, u64>,
    /// How many pages there are.
    pub(super) count: Number,
    /// What the map says each page is; 0 where the map is lost.
    pub(super) kinds: Vec<u8>,
    /// Frames of the log that are not what was written, with sound ones behind them.
    pub(super) damaged_frames: usize,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The log's running checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn over(self, bytes: &[u8], is_big_endian: bool) -> Self {
        let Self(mut a, mut b) = self;
        for pair in bytes.chunks_exact(8) {
            let (first, second) = pair.split_at(4);
            let read = |w: &[u8]| {
                let w = [w[0], w[1], w[2], w[3]];
                if is_big_endian { u32::from_be_bytes(w) } else { u32::from_le_bytes(w) }
            };
            a = a.wrapping_add(read(first)).wrapping_add(b);
            b = b.wrapping_add(read(second)).wrapping_add(a);
        }
        Self(a, b)
    }
}

/// What a log holds, whole transactions only.
#[derive(Default)]
struct Log {
    frames: HashMap<Number, u64>,
    count: Option<Number>,
    damaged: usize,
}

impl Log {
    fn read(file: &File) -> Self {
        let mut log = Self::default();
        let mut header = [0; LOG_HEADER];
        if file.read_exact_at(&mut header, 0).is_err() || word(&header, 0) & !1 != MAGIC {
            return log;
        }
        let is_big_endian = word(&header, 0) & 1 == 1;
        let mut sum = Some(Sum(0, 0).over(&header[..24], is_big_endian));
        if sum != Some(Sum(word(&header, 24), word(&header, 28))) {
            return log;
        }
        let len = file.metadata().map_or(0, |m| m.len());
        let (mut pending, mut suspects) = (HashMap::new(), 0);
        // A transaction with a hole in it. The log is synced before the next one is begun, so a hole with another
        // transaction behind it is damage; one at the very end is a write that a crash cut short.
        let mut held: Option<(HashMap<Number, u64>, Number, usize)> = None;
        let mut frame = vec![0; FRAME];
        let mut at = LOG_HEADER as u64;
        while at + FRAME as u64 <= len && suspects <= SUSPECTS {
            let here = at;
            at += FRAME as u64;
            if file.read_exact_at(&mut frame, here).is_err() {
                // What it would have said of the next one is lost along with it.
                (suspects, sum) = (suspects + 1, None);
                continue;
            }
            let salts_fit = frame[8..16] == header[16..24];
            let written = Sum(word(&frame, 16), word(&frame, 20));
            let is_sound = salts_fit
                && sum.is_none_or(|s| {
                    s.over(&frame[..8], is_big_endian).over(&frame[FRAME_HEADER..], is_big_endian) == written
                });
            // A changed page leaves the sum in its frame's header right for the next one.
            sum = salts_fit.then_some(written);
            if !is_sound {
                suspects += 1;
                continue;
            }
            pending.insert(word(&frame, 0), here + FRAME_HEADER as u64);
            let count = word(&frame, 4);
            if count == 0 {
                continue;
            }
            if let Some((frames, _, damaged)) = held.take() {
                log.frames.extend(frames);
                log.damaged += damaged;
            }
            if suspects > 0 {
                held = Some((std::mem::take(&mut pending), count, std::mem::take(&mut suspects)));
            } else {
                log.frames.extend(pending.drain());
                log.count = Some(count);
            }
        }
        log
    }
}

impl Pages {
    pub(super) fn open(database: &Path, log: &Path) -> io::Result<Self> {
        let database = files::open(database)?;
        let log = files::open(log).ok();
        let Log { frames, count, damaged } = log.as_ref().map(Log::read).unwrap_or_default();
        let len = Number::try_from(database.metadata()?.len() / PAGE as u64).unwrap_or(Number::MAX);
        // What SQLite wrote upon damage may name any number of pages; there are no more than these.
        let most = len.saturating_add(Number::try_from(frames.len()).unwrap_or(Number::MAX));
        let count = count.unwrap_or(len).min(most);
        Ok(Self { database, log, frames, count, kinds: Vec::new(), damaged_frames: damaged })
    }

    /// Whether a record may go on there: a damaged pointer leads anywhere.
    pub(super) fn may_overflow_to(&self, number: Number) -> bool {
        self.kinds.get(number as usize).is_none_or(|kind| matches!(*kind, 0 | OVERFLOW_FIRST | OVERFLOW))
    }

    /// The page, or the disk's error.
    pub(super) fn read(&self, number: Number) -> io::Result<Page> {
        let mut page = Box::new([0; PAGE]);
        match (self.frames.get(&number), &self.log) {
            (Some(at), Some(log)) => log.read_exact_at(page.as_mut_slice(), *at)?,
            _ if number == 0 || number > self.count => return Err(io::ErrorKind::NotFound.into()),
            _ => self.database.read_exact_at(page.as_mut_slice(), u64::from(number - 1) * PAGE as u64)?,
        }
        Ok(page)
    }
}
