//! Which messages are in the smart host's hands at this moment: handed over, and the answer not yet recorded.
//!
//! Invariant: a message stands here from before its end of data is written until its outcome is durable, so what a
//! crash interrupts is known at the next start as of unknown outcome. Nothing is synced: a killed process leaves what
//! it wrote with the system; a power cut may not, and then the duplicate is not known to be one. The first places are
//! on the disk before they are needed, so that a disk that fills up costs no record. Must not know: what became of them.

use crate::files;
use crate::mail::QueueId;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(super) const NAME: &str = "handovers";
const PLACE: usize = 8;
/// A block of most file systems: 512 messages on their way at once. An account has a few connections.
const RESERVED: usize = 4096;

pub(super) struct HandOvers {
    file: File,
    places: Mutex<Vec<Option<QueueId>>>,
}

impl HandOvers {
    /// Also returns those that an earlier run began and did not end; `forget` them once that is recorded.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Vec<QueueId>)> {
        let mut file = files::open_or_create(&directory.join(NAME))?;
        let mut bytes = Vec::new();
        (&mut file).take(1 << 20).read_to_end(&mut bytes)?;
        let numbers =
            bytes.chunks_exact(PLACE).map(|place| i64::from_le_bytes(place.try_into().expect("8 bytes")));
        let begun = numbers.filter(|n| *n > 0).map(QueueId::from_number).collect();
        reserve(&file, bytes.len());
        Ok((Self { file, places: Mutex::default() }, begun))
    }

    /// What an earlier run left is recorded.
    pub(super) fn forget(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        reserve(&self.file, 0);
        self.file.sync_all()
    }

    /// The end of data is about to be written.
    pub(super) fn begin(&self, id: QueueId) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        if free == places.len() {
            places.push(None);
        }
        places[free] = Some(id);
        self.write(free, id.number());
    }

    /// Its outcome is durable, or it was not handed over after all.
    pub(super) fn end(&self, id: QueueId) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        for (n, place) in places.iter_mut().enumerate().filter(|(_, place)| **place == Some(id)) {
            *place = None;
            self.write(n, 0);
        }
    }

    /// A disk that was full at the start costs the record, not the message.
    fn write(&self, place: usize, number: i64) {
        let _ = self.file.write_all_at(&number.to_le_bytes(), (place * PLACE) as u64);
    }
}

/// Behind what is there. On a disk that is full already there is no room, and the start goes on.
fn reserve(file: &File, there: usize) {
    let _ = file.write_all_at(&[0; RESERVED][there.min(RESERVED)..], there as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_was_begun_and_not_ended_is_known_at_the_next_start() {
        let tmp = tempfile::tempdir().unwrap();
        let id = QueueId::from_number;
        let (hand_overs, begun) = HandOvers::open(tmp.path()).unwrap();
        assert_eq!(begun, []);
        for n in 1..=3 {
            hand_overs.begin(id(n));
        }
        hand_overs.end(id(2));
        hand_overs.begin(id(4));
        hand_overs.end(id(9));
        let (hand_overs, begun) = HandOvers::open(tmp.path()).unwrap();
        assert_eq!(begun, [id(1), id(4), id(3)]);
        hand_overs.forget().unwrap();
        assert_eq!(HandOvers::open(tmp.path()).unwrap().1, []);
    }

    #[test]
    fn a_disk_that_fills_up_later_has_the_places_already() {
        let tmp = tempfile::tempdir().unwrap();
        let on_disk = || std::fs::metadata(tmp.path().join(NAME)).unwrap();
        let is_reserved =
            || on_disk().len() == RESERVED as u64 && on_disk().blocks() * 512 >= on_disk().len();
        let (hand_overs, _) = HandOvers::open(tmp.path()).unwrap();
        assert!(is_reserved());
        (1..).take(RESERVED / PLACE).for_each(|n| hand_overs.begin(QueueId::from_number(n)));
        assert!(is_reserved());
        let (hand_overs, begun) = HandOvers::open(tmp.path()).unwrap();
        assert_eq!(begun.len(), RESERVED / PLACE);
        hand_overs.forget().unwrap();
        assert!(is_reserved());
    }
}
