//! What can be read of a queue database whatever is wrong with it.
//!
//! Invariant: every row whose own bytes are sound is found, though the pages that lead to it are not: a page is
//! believed by what stands on it and by the map of pages (which says what is free: rows that were deleted long ago
//! must not come back as mail). Nothing is written. Must not know: what is done with the rows.
//!
//! The tables' rows are told apart by their shapes, so that neither the first page nor the schema is needed.

mod pages;
mod record;

use super::schema::DATABASE;
use super::store::log_file;
use crate::mail::QueueId;
use pages::{Number, PAGE, Pages};
use record::{Cell, INDEX_INTERIOR, TABLE_INTERIOR, TABLE_LEAF};
use rusqlite::types::Value;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Entries on a page of the map.
const MAPPED: Number = 819;
/// SQLite never uses the page at this byte.
const LOCK_PAGE: Number = 0x4000_0000 / 4096 + 1;

/// What the map says a page is.
const ROOT: u8 = 1;
const FREE: u8 = 2;
const TREE: u8 = 5;

/// A row, by its table.
#[derive(Debug)]
pub(super) enum Row {
    /// All columns, as stored; columns of later versions are missing.
    Message(QueueId, Vec<Value>),
    /// Head, content, digest.
    Body(QueueId, Vec<Value>),
    /// A body of which an overflow page is lost: as far as it could be read.
    PartOfBody(QueueId, Vec<Value>),
    Attempt(Vec<Value>),
    Note(Vec<Value>),
    /// Recipients delivered in a step of time.
    Delivered(Vec<Value>),
    /// The account's virtual time, and the turns of its flows.
    Served(Vec<Value>),
    Turn(Vec<Value>),
    Clock(Vec<Value>),
    /// An index names this message.
    Named(QueueId),
}

/// How many pages are not what they should be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Soundness {
    /// The disk does not give them back.
    pub(super) unreadable: usize,
    /// What stands there is not what was written.
    pub(super) damaged: usize,
}

/// A damaged queue.
pub(super) struct Salvage {
    pages: Pages,
    live: Vec<bool>,
    /// No tree can be followed from its root.
    is_rootless: bool,
}

impl Salvage {
    /// Opens the database of a queue's directory, or one that was moved out of it.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut pages = Pages::open(&directory.join(DATABASE), &log_file(directory))?;
        pages.kinds = map(&pages);
        let live = live(&pages);
        let is_rootless = roots(&pages).is_empty();
        Ok(Self { pages, live, is_rootless })
    }

    /// Whether SQLite finds in the log what is in it: no header or frame is damaged that committed mail stands behind.
    pub(super) fn log_is_sound(&self) -> bool {
        self.pages.damaged_frames == 0 && self.pages.unreadable_frames == 0
    }

    /// Whether nothing is seen to be wrong: neither with the pages nor with how many SQLite believes there are.
    pub(super) fn is_sound(&self) -> bool {
        self.log_is_sound() && self.pages.is_counted && self.rows(|_| {}) == Soundness::default()
    }

    /// Frames of the log that the disk does not give back.
    pub(super) fn unreadable_frames(&self) -> usize {
        self.pages.unreadable_frames
    }

    /// Gives every row that can be read, in no order; returns what could not be.
    pub(super) fn rows(&self, mut give: impl FnMut(Row)) -> Soundness {
        self.of((1..=self.pages.count).filter(|n| self.live[*n as usize]), &mut give)
    }

    /// The same, and then what stands on pages of which nothing says whether they are still in use, where both the map
    /// and the first page are lost.
    pub(super) fn rows_and_guesses(&self, mut give: impl FnMut(Row, bool)) -> Soundness {
        let found = self.rows(|row| give(row, false));
        let guesses = (1..=self.pages.count)
            .filter(|n| self.is_rootless && !self.live[*n as usize] && self.pages.kinds[*n as usize] == 0);
        self.of(guesses, &mut |row| give(row, true));
        found
    }

    fn of(&self, pages: impl Iterator<Item = Number>, give: &mut dyn FnMut(Row)) -> Soundness {
        let mut found = Soundness::default();
        for number in pages {
            let Ok(page) = self.pages.read(number) else {
                found.unreadable += 1;
                continue;
            };
            let (Some(kind), Some(cells)) = (record::kind(&page, number), record::cells(&page, number))
            else {
                found.damaged += 1;
                continue;
            };
            if kind == TABLE_INTERIOR {
                continue;
            }
            let mut is_sound = true;
            for at in cells {
                match record::cell(&self.pages, &page, kind, at) {
                    Some(cell) => {
                        is_sound = is_sound && cell.is_whole;
                        if let Some(row) = classify(cell) {
                            give(row);
                        }
                    }
                    None => is_sound = false,
                }
            }
            found.damaged += usize::from(!is_sound);
        }
        found
    }
}

fn classify(cell: Cell) -> Option<Row> {
    use Value::{Blob, Integer, Null, Text};
    let Cell { rowid, values, is_whole } = cell;
    if let Some(id) = rowid {
        let id = QueueId::from_number(id);
        return match values.as_slice() {
            [Null, Text(_), Integer(_), Integer(_), Integer(_), ..] if is_whole && values.len() >= 18 => {
                Some(Row::Message(id, values))
            }
            [Null, Blob(_), Blob(_) | Null, ..] if is_whole => Some(Row::Body(id, values)),
            [Null, Blob(_), ..] => Some(Row::PartOfBody(id, values)),
            [Null, Integer(_), Integer(_), Integer(_)] => Some(Row::Clock(values)),
            _ => None,
        };
    }
    if !is_whole {
        return None;
    }
    match values.as_slice() {
        [Integer(_), Integer(_), Text(_)] => Some(Row::Attempt(values)),
        [Text(_), Text(_)] => Some(Row::Note(values)),
        // A step of time is far above a state; `total` is counted anew.
        [Text(_), Integer(step), Integer(_), Integer(_)] if *step > 3 => Some(Row::Delivered(values)),
        [Text(_), Text(_), Text(_), Integer(_)] => Some(Row::Turn(values)),
        [Text(_), Integer(_)] => Some(Row::Served(values)),
        [Text(_), Integer(_), Integer(id)] => Some(Row::Named(QueueId::from_number(*id))),
        _ => None,
    }
}

/// The page of the map that speaks of this one.
fn map_of(number: Number) -> Number {
    let map = (number - 2) / (MAPPED + 1) * (MAPPED + 1) + 2;
    if map == LOCK_PAGE { map + 1 } else { map }
}

/// What the map says of each page; 0 where it cannot be read or is damaged.
fn map(pages: &Pages) -> Vec<u8> {
    let mut kinds = vec![0; pages.count as usize + 1];
    let mut map: Option<(Number, Option<pages::Page>)> = None;
    for number in (3..=pages.count).filter(|n| *n != LOCK_PAGE) {
        let at = map_of(number);
        if number == at {
            continue;
        }
        if map.as_ref().is_none_or(|(known, _)| *known != at) {
            map = Some((at, pages.read(at).ok().filter(|page| is_map(page, at, pages.count))));
        }
        if let Some((_, Some(page))) = &map {
            kinds[number as usize] = page[5 * (number - at - 1) as usize];
        }
    }
    kinds
}

/// Which pages are part of a b-tree: by the map, and by the trees where the map is lost.
fn live(pages: &Pages) -> Vec<bool> {
    let mut live: Vec<bool> = pages.kinds.iter().map(|kind| matches!(*kind, ROOT | TREE)).collect();
    if pages.count >= 1 {
        live[1] = true;
    }
    let is_page = |n: &Number| *n != map_of(*n) && *n != LOCK_PAGE;
    let unmapped: BTreeSet<Number> =
        (3..=pages.count).filter(|n| pages.kinds[*n as usize] == 0).filter(is_page).collect();
    if !unmapped.is_empty() {
        walk(pages, &mut live, &unmapped);
    }
    live
}

fn is_map(page: &[u8; PAGE], at: Number, count: Number) -> bool {
    let mapped = MAPPED.min(count.saturating_sub(at));
    (0..mapped).all(|n| at + 1 + n == LOCK_PAGE || (ROOT..=TREE).contains(&page[5 * n as usize]))
        && (0..mapped as usize).all(|n| page[5 * n] != FREE || page[5 * n + 1..5 * n + 5] == [0; 4])
}

/// Follows the trees from the roots that the first page names and from every interior page that is known to be one.
fn walk(pages: &Pages, live: &mut [bool], unmapped: &BTreeSet<Number>) {
    let mut to_visit: Vec<Number> = (1..=pages.count).filter(|n| live[*n as usize]).collect();
    to_visit.extend(roots(pages));
    while let Some(number) = to_visit.pop() {
        if unmapped.contains(&number) {
            if live[number as usize] {
                continue;
            }
            live[number as usize] = true;
        }
        let Ok(page) = pages.read(number) else { continue };
        if matches!(record::kind(&page, number), Some(TABLE_INTERIOR | INDEX_INTERIOR)) {
            let below = record::children(&page, number).unwrap_or_default();
            // A page the map knows has been or will be visited by itself.
            to_visit.extend(below.into_iter().filter(|n| unmapped.contains(n)));
        }
    }
}

/// Where the first page says that the trees begin.
fn roots(pages: &Pages) -> Vec<Number> {
    let Ok(first) = pages.read(1) else { return Vec::new() };
    let cells = match record::kind(&first, 1) {
        Some(TABLE_LEAF) => record::cells(&first, 1).unwrap_or_default(),
        _ => return Vec::new(),
    };
    let root = |at| match record::cell(pages, &first, TABLE_LEAF, at)?.values.get(3) {
        Some(Value::Integer(root)) => Number::try_from(*root).ok().filter(|n| *n > 0),
        _ => None,
    };
    cells.into_iter().filter_map(root).collect()
}
