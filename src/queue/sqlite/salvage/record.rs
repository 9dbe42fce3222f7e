//! The cells of a b-tree page and the values of a record.
//!
//! Invariant: whatever the bytes are, reading ends and stays within the page; what does not fit is `None`.
//! Must not know: tables.

use super::pages::{Number, PAGE, Pages};
use rusqlite::types::Value;

pub(super) const TABLE_LEAF: u8 = 0x0d;
pub(super) const TABLE_INTERIOR: u8 = 0x05;
pub(super) const INDEX_LEAF: u8 = 0x0a;
pub(super) const INDEX_INTERIOR: u8 = 0x02;

/// More than the rows of a queue are, so that a damaged length does not fill the memory.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// A row of a table, or an entry of an index (which a table without rowids is).
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) rowid: Option<i64>,
    /// What could be read, in order; cut where an overflow page is lost.
    pub(super) values: Vec<Value>,
    pub(super) is_whole: bool,
}

/// Where the b-tree's header stands on the page.
fn start(number: Number) -> usize {
    if number == 1 { 100 } else { 0 }
}

pub(super) fn kind(page: &[u8; PAGE], number: Number) -> Option<u8> {
    let kind = page[start(number)];
    matches!(kind, TABLE_LEAF | TABLE_INTERIOR | INDEX_LEAF | INDEX_INTERIOR).then_some(kind)
}

fn half(page: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])))
}

pub(super) fn number(page: &[u8], at: usize) -> Option<Number> {
    Some(u32::from_be_bytes(page.get(at..at + 4)?.try_into().ok()?))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for n in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if n == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Where the cells of a page begin.
pub(super) fn cells(page: &[u8; PAGE], of: Number) -> Option<Vec<usize>> {
    let start = start(of);
    let header = if matches!(page[start], TABLE_INTERIOR | INDEX_INTERIOR) { 12 } else { 8 };
    let count = half(page, start + 3)?;
    let first = start + header;
    (0..count).map(|n| half(page, first + 2 * n).filter(|at| *at >= first && *at < PAGE)).collect()
}

/// The pages below an interior one.
pub(super) fn children(page: &[u8; PAGE], of: Number) -> Option<Vec<Number>> {
    let mut below: Vec<Number> =
        cells(page, of)?.into_iter().map(|at| number(page, at)).collect::<Option<_>>()?;
    below.push(number(page, start(of) + 8)?);
    Some(below)
}

/// A cell that has a record.
pub(super) fn cell(pages: &Pages, page: &[u8; PAGE], kind: u8, mut at: usize) -> Option<Cell> {
    if kind == INDEX_INTERIOR {
        at += 4;
    }
    let len = usize::try_from(varint(page, &mut at)?).ok().filter(|n| *n < MAX_RECORD_BYTES)?;
    let rowid = if kind == TABLE_LEAF { Some(varint(page, &mut at)?.cast_signed()) } else { None };
    let (payload, is_whole) = payload(pages, page, kind, at, len)?;
    let values = values(&payload)?;
    Some(Cell { rowid, values, is_whole })
}

/// So much of a record stands on its page; the rest overflows.
fn local(kind: u8, len: usize) -> usize {
    let most = if kind == TABLE_LEAF { PAGE - 35 } else { (PAGE - 12) * 64 / 255 - 23 };
    let least = (PAGE - 12) * 32 / 255 - 23;
    if len <= most {
        return len;
    }
    let some = least + (len - least) % (PAGE - 4);
    if some <= most { some } else { least }
}

fn payload(pages: &Pages, page: &[u8; PAGE], kind: u8, at: usize, len: usize) -> Option<(Vec<u8>, bool)> {
    let here = local(kind, len);
    let mut payload = page.get(at..at + here)?.to_vec();
    let mut next = if here < len { number(page, at + here)? } else { 0 };
    while payload.len() < len {
        let page = if pages.may_overflow_to(next) { pages.read(next).ok() } else { None };
        let Some(page) = page else { return Some((payload, false)) };
        let rest = (len - payload.len()).min(PAGE - 4);
        payload.extend_from_slice(&page[4..4 + rest]);
        next = number(page.as_slice(), 0)?;
    }
    Some((payload, true))
}

/// The values of a record, as far as its bytes go.
fn values(record: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let header = usize::try_from(varint(record, &mut at)?).ok().filter(|n| *n <= record.len())?;
    let mut values = Vec::new();
    let mut from = header;
    while at < header {
        let kind = varint(record, &mut at)?;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            n => usize::try_from((n - 12) / 2).ok()?,
        };
        let whole = record.get(from..from.checked_add(len)?);
        let bytes = whole.or_else(|| record.get(from..)).unwrap_or_default();
        if whole.is_none() && kind < 12 {
            return Some(values);
        }
        from = from.saturating_add(len);
        values.push(match kind {
            0 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(integer(bytes)),
            7 => Value::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
            n if n % 2 == 0 => Value::Blob(bytes.to_vec()),
            _ => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        });
    }
    Some(values)
}

fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|b| *b >= 0x80) { -1 } else { 0 };
    bytes.iter().fold(sign, |n: i64, b| n << 8 | i64::from(*b))
}
