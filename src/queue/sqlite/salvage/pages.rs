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
    /// There are as many as the log says.
    pub(super) is_counted: bool,
    /// What the map says each page is; 0 where the map is lost.
    pub(super) kinds: Vec<u8>,
    /// Frames of the log that are not what was written, with sound ones behind them.
    pub(super) damaged_frames: usize,
    /// Frames that the disk does not give back.
    pub(super) unreadable_frames: usize,
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
    unreadable: usize,
}

/// A transaction of the log, and how many frames are missing from it.
#[derive(Default)]
struct Part {
    frames: HashMap<Number, u64>,
    missing: usize,
}

/// What the frames of a log have in common, and how their sums are made.
#[derive(Clone, Copy)]
struct Generation {
    salts: [u8; 8],
    is_big_endian: bool,
}

impl Generation {
    /// Of the header; or, where that is damaged, of the first frames.
    fn of(file: &File) -> Option<(Self, Option<Sum>)> {
        let mut header = [0; LOG_HEADER];
        let is_read = file.read_exact_at(&mut header, 0).is_ok();
        let is_big_endian = word(&header, 0) & 1 == 1;
        let sum = Sum(0, 0).over(&header[..24], is_big_endian);
        let written = Sum(word(&header, 24), word(&header, 28));
        if is_read && word(&header, 0) & !1 == MAGIC && sum == written {
            let salts = header[16..24].try_into().expect("8 bytes");
            return Some((Self { salts, is_big_endian }, Some(sum)));
        }
        // The page that the header was on may have taken the first frame along. Not further: behind the end there may
        // be frames of before the log began anew.
        (0..=1).find_map(|n| Self::of_frames(file, n)).map(|generation| (generation, None))
    }

    /// Of this frame and the next, if they fit together.
    fn of_frames(file: &File, n: usize) -> Option<Self> {
        let (mut first, mut second) = (vec![0; FRAME], vec![0; FRAME]);
        file.read_exact_at(&mut first, (LOG_HEADER + n * FRAME) as u64).ok()?;
        file.read_exact_at(&mut second, (LOG_HEADER + (n + 1) * FRAME) as u64).ok()?;
        let salts = first[8..16].try_into().expect("8 bytes");
        [cfg!(target_endian = "big"), cfg!(target_endian = "little")].into_iter().find_map(|is_big_endian| {
            let generation = Self { salts, is_big_endian };
            let sum = Sum(word(&first, 16), word(&first, 20));
            (word(&first, 0) != 0 && generation.fits(&second, Some(sum))).then_some(generation)
        })
    }

    fn fits(&self, frame: &[u8], sum: Option<Sum>) -> bool {
        let written = Sum(word(frame, 16), word(frame, 20));
        let over =
            |s: Sum| s.over(&frame[..8], self.is_big_endian).over(&frame[FRAME_HEADER..], self.is_big_endian);
        frame[8..16] == self.salts && sum.is_none_or(|s| over(s) == written)
    }
}

impl Log {
    fn read(file: &File) -> Self {
        let mut log = Self::default();
        let len = file.metadata().map_or(0, |m| m.len());
        let Some((generation, mut sum)) = Generation::of(file) else { return log };
        if sum.is_none() {
            // SQLite takes the whole log for nothing.
            log.damaged += 1;
        }
        let mut part = Part::default();
        // A transaction with a hole in it. The log is synced before the next one is begun, so a hole with another
        // transaction behind it is damage; one at the very end is a write that a crash cut short.
        let mut held: Option<Part> = None;
        let mut frame = vec![0; FRAME];
        let mut at = LOG_HEADER as u64;
        while at + FRAME as u64 <= len {
            let here = at;
            at += FRAME as u64;
            if let Err(e) = file.read_exact_at(&mut frame, here) {
                // What it would have said of the next one is lost along with it.
                log.unreadable += usize::from(e.kind() != io::ErrorKind::UnexpectedEof);
                (part.missing, sum) = (part.missing + 1, None);
                continue;
            }
            let is_sound = generation.fits(&frame, sum);
            // A changed page leaves the sum in its frame's header right for the next one.
            let salts_fit = frame[8..16] == generation.salts;
            sum = salts_fit.then(|| Sum(word(&frame, 16), word(&frame, 20)));
            if !is_sound {
                part.missing += 1;
                continue;
            }
            part.frames.insert(word(&frame, 0), here + FRAME_HEADER as u64);
            let count = word(&frame, 4);
            if count == 0 {
                continue;
            }
            if let Some(held) = held.take() {
                log.frames.extend(held.frames);
                log.damaged += held.missing;
            }
            let whole = std::mem::take(&mut part);
            if whole.missing > 0 {
                held = Some(whole);
            } else {
                log.frames.extend(whole.frames);
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
        let Log { frames, count, damaged, unreadable } = log.as_ref().map(Log::read).unwrap_or_default();
        let len = Number::try_from(database.metadata()?.len() / PAGE as u64).unwrap_or(Number::MAX);
        // What SQLite wrote upon damage may name any number of pages; there are no more than these.
        let most = len.saturating_add(Number::try_from(frames.len()).unwrap_or(Number::MAX));
        let is_counted = count.is_none_or(|n| n <= most);
        let count = count.unwrap_or(len).min(most);
        Ok(Self {
            database,
            log,
            frames,
            count,
            kinds: Vec::new(),
            is_counted,
            damaged_frames: damaged,
            unreadable_frames: unreadable,
        })
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
