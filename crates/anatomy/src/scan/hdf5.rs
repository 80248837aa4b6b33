//! HDF5: data that is said to lie in other files.
//!
//! A data set may keep its values in files that it names, be put together from data sets of other files, or be a link
//! into another file: whoever loads such weights reads what the file names. Object headers are followed from the root;
//! of their messages only those that name files or other objects are read. Groups with so many links that they lie in
//! a heap are not followed.
//!
//! Source: <https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html>, section IV.

use std::collections::HashSet;

use super::walk::{Opened, Piece, Scanner};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::source::Source;

static EXTERNAL: Rule = Rule {
    name: "hdf5-external-data",
    severity: Severity::Error,
    why: "Data is said to lie in another file: loading the weights reads whatever file of the machine is named there, \
          and what was read can leave with the model (CVE-2026-1669, CVE-2026-12480).",
    help: "do not load the file; ask its author for one that holds its weights itself",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&EXTERNAL];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&EXTERNAL];

/// Objects and blocks of groups that are followed.
const MAX_OBJECTS: usize = 1 << 18;
/// Blocks that one header may go on in, and bytes of one block.
const MAX_BLOCKS: usize = 64;
const MAX_BLOCK: u64 = 1 << 20;

/// Looks at a piece that is HDF5.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if opened.format.id != "hdf5" || piece.hidden {
        return Ok(());
    }
    let mut walk = Walk {
        source: &piece.source,
        base: 0,
        todo: Vec::new(),
        seen: HashSet::new(),
        found: Vec::new(),
        left: piece.source.len().saturating_mul(4).saturating_add(MAX_BLOCK),
    };
    walk.root()?;
    while let Some(at) = walk.todo.pop().filter(|_| walk.left > 0) {
        walk.object(at)?;
    }
    if walk.left == 0 {
        scanner.limit(piece, "the objects of the file lie over each other; not all of them are looked at");
    }
    for (message, at) in walk.found {
        scanner.report(piece, Finding::new(&EXTERNAL, message).at(at));
    }
    Ok(())
}

struct Walk<'a> {
    source: &'a Source,
    /// Where the superblock is: all addresses count from there.
    base: u64,
    todo: Vec<u64>,
    seen: HashSet<u64>,
    found: Vec<(&'static str, u64)>,
    /// Bytes that may still be read: objects that lie over each other would be read again and again.
    left: u64,
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

impl Walk<'_> {
    fn read(&mut self, at: u64, most: u64) -> Result<Vec<u8>> {
        let bytes = self.source.read_up_to(self.base.saturating_add(at), most.min(self.left))?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(bytes)
    }

    fn follow(&mut self, at: Option<u64>) {
        if let Some(at) = at.filter(|at| *at < self.source.len())
            && self.seen.len() < MAX_OBJECTS
            && self.seen.insert(at)
        {
            self.todo.push(at);
        }
    }

    /// The root group's header, as the superblock states it.
    fn root(&mut self) -> Result<()> {
        for base in std::iter::once(0).chain((9..16).map(|power| 1u64 << power)) {
            let block = self.source.read_up_to(base, 96)?;
            if block.starts_with(b"\x89HDF\r\n\x1a\n") {
                self.base = base;
                let place = match block.get(8) {
                    Some(0) => 64,
                    Some(1) => 68,
                    _ => 36,
                };
                self.follow(number(&block, place, 8));
                break;
            }
        }
        Ok(())
    }

    /// An object's header, or a part of the index of an old group.
    fn object(&mut self, at: u64) -> Result<()> {
        let head = self.read(at, 64)?;
        match head.get(..4) {
            Some(b"TREE") => {
                let count = number(&head, 6, 2).unwrap_or(0);
                let block = self.read(at, 32 + 16 * count)?;
                // Keys and children in turn.
                for child in 0..usize::try_from(count).unwrap_or(0) {
                    self.follow(number(&block, 32 + 16 * child, 8));
                }
            }
            Some(b"SNOD") => {
                let count = number(&head, 6, 2).unwrap_or(0);
                let block = self.read(at, 8 + 40 * count)?;
                for entry in 0..usize::try_from(count).unwrap_or(0) {
                    self.follow(number(&block, 16 + 40 * entry, 8));
                }
            }
            Some(b"OHDR") => {
                let flags = head.get(5).copied().unwrap_or(0);
                let width = 1usize << (flags & 3);
                let times = if flags & 0x20 == 0 { 0 } else { 16 };
                let start = 6 + times + if flags & 0x10 == 0 { 0 } else { 4 };
                let len = number(&head, start, width).unwrap_or(0);
                self.messages(at + (start + width) as u64, len, Some(flags))?;
            }
            Some([1, ..]) => self.messages(at + 16, number(&head, 8, 4).unwrap_or(0), None)?,
            _ => {}
        }
        Ok(())
    }

    /// The messages of a header: of the second version where it has flags, else of the first.
    fn messages(&mut self, at: u64, len: u64, flags: Option<u8>) -> Result<()> {
        let mut blocks = vec![(at, len)];
        let mut read = 0;
        while let Some((at, len)) = blocks.pop() {
            read += 1;
            if read > MAX_BLOCKS {
                break;
            }
            let mut block = self.read(at, len.min(MAX_BLOCK))?;
            let mut next = 0;
            // A further block has a signature before its messages and a checksum behind them.
            if block.starts_with(b"OCHK") {
                next = 4;
                block.truncate(block.len() - 4);
            }
            loop {
                let (kind, size, head) = match flags {
                    Some(flags) => {
                        (number(&block, next, 1), number(&block, next + 1, 2), if flags & 4 == 0 { 4 } else { 6 })
                    }
                    None => (number(&block, next, 2), number(&block, next + 2, 2), 8),
                };
                let (Some(kind), Some(size)) = (kind, size.and_then(|size| usize::try_from(size).ok())) else { break };
                let place = at.saturating_add(next as u64);
                let Some(data) = block.get(next + head..next + head + size) else { break };
                next += head + size;
                match kind {
                    6 => self.link(data, place),
                    7 if data.first() == Some(&1) => {
                        self.found.push(("the values of a data set lie in files that it names", place))
                    }
                    8 if matches!(data, [3..=u8::MAX, 3, ..]) => {
                        self.found
                            .push(("a data set is put together from data sets that may lie in other files", place));
                    }
                    0x10 => blocks.extend(number(data, 0, 8).zip(number(data, 8, 8))),
                    0x11 => self.follow(number(data, 0, 8)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A link message.
    fn link(&mut self, data: &[u8], place: u64) {
        let Some(flags) = data.get(1).copied() else { return };
        let typed = flags & 8 != 0;
        let kind = if typed { data.get(2).copied().unwrap_or(0) } else { 0 };
        match kind {
            // What it leads to stands at its end.
            0 => {
                let order = if flags & 4 == 0 { 0 } else { 8 };
                let start = 2 + usize::from(typed) + order + usize::from(flags & 16 != 0);
                let width = 1usize << (flags & 3);
                let name = number(data, start, width).and_then(|len| usize::try_from(len).ok());
                self.follow(name.and_then(|len| number(data, (start + width).checked_add(len)?, 8)));
            }
            64 => self.found.push(("a link leads into another file", place)),
            _ => {}
        }
    }
}
