//! Where an archive's directory is: the record at the end, and what else could pass for it.

use super::{CENTRAL, END, END64, LOCATOR64, u16_at, u32_at, u64_at};
use crate::error::Result;
use crate::source::Source;
use crate::tensor::Span;

/// Bytes at the end that hold the record with the longest comment.
pub(super) const TAIL: u64 = 22 + 65_535;
/// Directories besides the first that are looked at.
const MAX_OTHERS: usize = 8;

/// Where the directory is.
pub(super) struct End {
    pub(super) directory: Span,
    /// Members that the end record declares.
    pub(super) count: u64,
    /// Bytes before the archive, which its own offsets do not count.
    pub(super) base: u64,
    pub(super) records: Vec<(Span, &'static str)>,
    /// First byte after the end record and its comment.
    pub(super) end: u64,
    pub(super) comment: u64,
    /// Place of the record itself.
    pub(super) at: u64,
    /// Whether a signature after it could be taken for the record, though nothing fits it.
    pub(super) decoy: bool,
}

impl End {
    /// Whether a directory stands where the record says.
    fn fits(&self, source: &Source) -> Result<bool> {
        let begins = || Ok(source.read_up_to(self.directory.start, 4)?.starts_with(&CENTRAL));
        Ok(self.directory.end() <= self.at && (self.count == 0 || begins()?))
    }
}

/// Finds the end record; `most` bytes at the end of the source are searched for it.
pub(super) fn find_end(source: &Source, most: u64) -> Result<Option<End>> {
    let mut fallback = None;
    // Backwards, as loaders do. A record whose directory fits wins over one that is only a signature.
    for (at, record) in records(&source.read_up_to(source.len().saturating_sub(most), most)?) {
        let at = source.len().saturating_sub(most) + at as u64;
        let mut end = read_end(source, at, record, true)?;
        if end.fits(source)? {
            end.decoy = fallback.is_some();
            return Ok(Some(end));
        }
        fallback.get_or_insert(end);
    }
    Ok(fallback)
}

/// Directories that other programs may find instead of `chosen`: through an earlier record, by leaving zip64 numbers
/// aside, or by taking offsets from the file's first byte whatever stands before the archive.
pub(super) fn other_ends(source: &Source, chosen: &End) -> Result<Vec<End>> {
    let mut others: Vec<End> = Vec::new();
    let start = source.len().saturating_sub(TAIL);
    for (at, record) in records(&source.read_up_to(start, TAIL)?) {
        let at = start + at as u64;
        for wide in [true, false] {
            let end = read_end(source, at, record, wide)?;
            let unmoved = Span { start: end.directory.start - end.base, len: end.directory.len };
            let unmoved = End { base: 0, directory: unmoved, records: Vec::new(), ..end };
            for end in [end, unmoved] {
                let known =
                    std::iter::once(chosen).chain(&others).any(|other| other.directory.start == end.directory.start);
                if !known && end.count > 0 && others.len() < MAX_OTHERS && end.fits(source)? {
                    others.push(end);
                }
            }
        }
    }
    Ok(others)
}

/// Places of end records in the last bytes of a file, the last first.
fn records(tail: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let places = (0..tail.len().saturating_sub(21)).rev();
    places.filter_map(|at| Some((at, tail.get(at..).filter(|rest| rest.starts_with(&END))?)))
}

/// Reads a record and, if `wide`, the one of zip64 before it.
fn read_end(source: &Source, at: u64, record: &[u8], wide: bool) -> Result<End> {
    let mut count = u64::from(u16_at(record, 10));
    let mut size = u64::from(u32_at(record, 12));
    let mut offset = u64::from(u32_at(record, 16));
    let comment = u64::from(u16_at(record, 20)).min(source.len() - at - 22);
    let mut records = vec![(Span { start: at, len: 22 + comment }, "zip: end of the directory")];
    let mut before = at;
    let locator =
        at.checked_sub(20).filter(|_| wide).map(|start| source.read(start..at)).transpose()?.unwrap_or_default();
    if locator.starts_with(&LOCATOR64) {
        // Bytes before the archive shift the record, so look right before the locator too.
        let places = [u64_at(&locator, 8), at.saturating_sub(76)];
        for place in places {
            let wide = source.read_up_to(place, 56)?;
            if wide.starts_with(&END64) && wide.len() == 56 && place < at {
                count = u64_at(&wide, 32);
                size = u64_at(&wide, 40);
                offset = u64_at(&wide, 48);
                before = place;
                let len = u64_at(&wide, 4).saturating_add(12).min(at - 20 - place.min(at - 20));
                records.push((Span { start: place, len }, "zip64: end of the directory"));
                records.push((Span { start: at - 20, len: 20 }, "zip64: place of the end record"));
                break;
            }
        }
    }
    // The directory ends where its end record begins; what its offset lacks stands before the archive.
    let base = before.checked_sub(size).and_then(|start| start.checked_sub(offset)).unwrap_or(0);
    let directory = Span { start: offset.saturating_add(base), len: size };
    Ok(End { directory, count, base, records, end: at + 22 + comment, comment, at, decoy: false })
}
