//! The structure of zip archives: which members there are, and where every byte of the archive belongs.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10. Programs disagree about archives whose parts contradict each
//! other (the central directory at the end against the header before each member), and attackers use
//! that. So both are read and compared; the directory decides, as it does in every loader of models.

mod contents;
mod end;

use std::collections::{BTreeMap, HashSet};

pub(crate) use contents::Cursor;
pub use contents::{Contents, check, read_first, read_member, unpack};
use end::{End, TAIL, find_end, other_ends};

use super::{Container, Format};
use crate::bytes::Reader;
use crate::error::Result;
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// Any archive that no more specific format claims.
pub static FORMAT: Format = Format {
    id: "zip",
    name: "zip archive",
    extensions: &["zip", "mar", "whl"],
    use_and_risk: "An archive: what its members do when they are loaded is decided by each of them.",
    probe,
    open,
};

static CUT: Rule = Rule {
    name: "zip-truncated",
    severity: Severity::Error,
    why: "The archive's directory, which stands at its end, is missing or incomplete: the download is incomplete, and \
          no loader opens the file.",
    help: "download the file again and compare its size with the one that the hub states",
};
static DIRECTORY_BROKEN: Rule = Rule {
    name: "zip-directory-broken",
    severity: Severity::Error,
    why: "The archive's directory contradicts itself (counts, sizes, places, signatures), so programs disagree about \
          which members there are.",
    help: "do not use the file: get it from its author again",
};
static HEADERS_DIFFER: Rule = Rule {
    name: "zip-headers-differ",
    severity: Severity::Error,
    why: "A member's own header says something else than the archive's directory. Programs read one or the other, so \
          the file can mean different things to a scanner and to a loader.",
    help: "do not trust the file; get it from its author again",
};
static SEVERAL: Rule = Rule {
    name: "zip-directories-several",
    severity: Severity::Error,
    why: "More than one directory can be found in the archive, depending on how a program looks for it. So the file can \
          mean different things to a scanner and to a loader.",
    help: "do not trust the file; get it from its author again",
};
static MEMBER_OUTSIDE: Rule = Rule {
    name: "zip-member-outside",
    severity: Severity::Error,
    why: "A member's bytes lie beyond the place where they can be, or its header is not where the directory says.",
    help: "download the file again; if it stays so, do not use it",
};
static OVERLAP: Rule = Rule {
    name: "zip-overlap",
    severity: Severity::Error,
    why: "Two members claim the same bytes, as in zip bombs and in files that show different things to different \
          programs.",
    help: "do not use the file",
};
static DUPLICATE: Rule = Rule {
    name: "zip-duplicate-member",
    severity: Severity::Error,
    why: "A member's name stands twice (letter case aside). Some programs take the first, others the last.",
    help: "do not trust the file; get it from its author again",
};
pub(crate) static NAME_UNSAFE: Rule = Rule {
    name: "zip-unsafe-name",
    severity: Severity::Error,
    why: "A member's name leads out of the folder into which the archive is unpacked, so unpacking can overwrite other \
          files.",
    help: "do not unpack the archive",
};
pub(crate) static LINK: Rule = Rule {
    name: "zip-link",
    severity: Severity::Error,
    why: "A member is a symbolic link, as no library writes models: unpacking it, or reading it once unpacked, may \
          reach other files.",
    help: "do not unpack the archive",
};
pub(crate) static ENCRYPTED: Rule = Rule {
    name: "zip-encrypted",
    severity: Severity::Error,
    why: "A member is marked as encrypted. Scanners cannot look into it; some loaders ignore the mark and load it.",
    help: "do not trust the file: no library writes models so",
};
pub(crate) static BOMB: Rule = Rule {
    name: "zip-bomb",
    severity: Severity::Warning,
    why: "A member unpacks to hundreds of times its size, as no weights do: it may be there to fill memory.",
    help: "do not unpack the archive without a limit",
};
static METHOD_UNKNOWN: Rule = Rule {
    name: "zip-method-unknown",
    severity: Severity::Error,
    why: "A member is compressed in a way other than deflate, which the loaders of models do not read.",
    help: "unpack and pack the archive again without compression",
};
static PREFIX: Rule = Rule {
    name: "zip-prefix",
    severity: Severity::Warning,
    why: "Bytes stand before the archive. That is how self-extracting programs are made, and how one file is two \
          things at once.",
    help: "look at what the first bytes are",
};
static SUFFIX: Rule = Rule {
    name: "zip-suffix",
    severity: Severity::Warning,
    why: "Bytes or a comment follow the archive's directory; no library writes models so.",
    help: "look at what the last bytes are",
};
static GAP: Rule = Rule {
    name: "zip-gap",
    severity: Severity::Warning,
    why: "Bytes between members belong to none of them: something may be hidden there.",
    help: "pack the archive again, which leaves them out",
};
static CONTENT_BROKEN: Rule = Rule {
    name: "zip-content-broken",
    severity: Severity::Error,
    why: "A member's bytes do not unpack to what its header promises (size, checksum, deflate stream).",
    help: "download the file again; if it stays so, do not use it",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[
    &CUT,
    &DIRECTORY_BROKEN,
    &HEADERS_DIFFER,
    &SEVERAL,
    &MEMBER_OUTSIDE,
    &OVERLAP,
    &DUPLICATE,
    &NAME_UNSAFE,
    &LINK,
    &ENCRYPTED,
    &BOMB,
    &METHOD_UNKNOWN,
    &PREFIX,
    &SUFFIX,
    &GAP,
    &CONTENT_BROKEN,
];

/// Compression method: none.
pub const STORED: u16 = 0;
/// Compression method: deflate.
pub const DEFLATED: u16 = 8;

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";

const FLAG_ENCRYPTED: u16 = 1;
/// Encrypted, patched, strongly encrypted, with a hidden directory.
const FLAGS_OPAQUE: u16 = 0x2061;
const FLAG_DESCRIPTOR: u16 = 1 << 3;

/// From which unpacked size and ratio on a member counts as a bomb.
const BOMB_SIZE: u64 = 16 << 20;
const BOMB_RATIO: u64 = 200;
/// Bytes of weights that are searched for the next header where the directory is missing.
const RECOVER_BUDGET: u64 = 64 << 20;
/// Members that are listed where the directory is missing.
const RECOVER_MEMBERS: usize = 1 << 20;
/// Bytes of directory that identification looks through; a million members take less.
const LISTING_BUDGET: u64 = 64 << 20;

/// One file within an archive, as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name; bytes that were not UTF-8 are replaced.
    pub name: String,
    /// Compression method ([`STORED`], [`DEFLATED`] or another).
    pub method: u16,
    /// General-purpose flags.
    pub flags: u16,
    /// Declared CRC-32 of the unpacked bytes.
    pub crc: u32,
    /// Declared unpacked size in bytes.
    pub size: u64,
    /// Local header without the filling in its extra field; empty where there is none.
    pub header: Span,
    /// Filling within the local header, by which PyTorch aligns the data.
    pub filling: Span,
    /// Packed bytes.
    pub data: Span,
    /// Record after the data that repeats its sizes; empty where there is none.
    pub descriptor: Span,
    /// Method and packed size that its own header states, where those are others than the directory's.
    pub local: Option<(u16, u64)>,
    /// Whether it is a symbolic link; its bytes are then where it leads.
    pub link: bool,
}

impl Member {
    /// Place of its bytes in the file, where they stand there as they are.
    pub fn stored(&self) -> Option<Span> {
        let plain = self.method == STORED && self.flags & FLAG_ENCRYPTED == 0 && self.size == self.data.len;
        plain.then_some(self.data)
    }
}

/// An archive's structure.
#[derive(Debug, Default)]
pub struct Archive {
    /// Members in the directory's order.
    pub members: Vec<Member>,
    /// What is odd or wrong.
    pub findings: Findings,
    /// Whether the directory is missing and the members were found one by one.
    pub cut: bool,
    /// The same file read through another directory that a program might find.
    pub others: Vec<Archive>,
    /// Bytes before the archive.
    pub base: u64,
    /// Directory and end records, with their names.
    records: Vec<(Span, &'static str)>,
}

/// What the directory says of a member, before its local header is read.
struct Entry {
    name: Vec<u8>,
    method: u16,
    flags: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
    link: bool,
    at: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

/// Calls `each` for every record of the directory; returns whether all of it could be read.
fn walk_directory(source: &Source, directory: Span, mut each: impl FnMut(Entry)) -> bool {
    let mut reader = Reader::new(source, directory.start);
    let mut step = || -> Result<bool> {
        let at = reader.offset();
        if at.saturating_add(46) > directory.end() {
            return Ok(false);
        }
        let fixed = reader.bytes(46)?;
        if !fixed.starts_with(&CENTRAL) {
            return Ok(false);
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| u64::from(u16_at(&fixed, at)));
        if at + 46 + name + extra + comment > directory.end() {
            return Ok(false);
        }
        let name = reader.bytes(name)?;
        let extra = reader.bytes(extra)?;
        reader.skip(comment)?;
        let mut entry = Entry {
            name,
            flags: u16_at(&fixed, 8),
            method: u16_at(&fixed, 10),
            crc: u32_at(&fixed, 16),
            packed: u64::from(u32_at(&fixed, 20)),
            size: u64::from(u32_at(&fixed, 24)),
            offset: u64::from(u32_at(&fixed, 42)),
            // The upper half of the external attributes holds the Unix mode, where a Unix program wrote them.
            link: fixed.get(5) == Some(&3) && u32_at(&fixed, 38) >> 28 == 0o12,
            at,
        };
        let mut wide = zip64(&extra).chunks_exact(8).map(|bytes| u64_at(bytes, 0));
        for field in [&mut entry.size, &mut entry.packed, &mut entry.offset] {
            if *field == u64::from(u32::MAX) {
                *field = wide.next().unwrap_or(*field);
            }
        }
        each(entry);
        Ok(true)
    };
    while step().unwrap_or(false) {}
    reader.offset() == directory.end()
}

/// The zip64 field among extra fields.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let len = usize::from(u16_at(extra, 2));
        let body = extra.get(4..4 + len).unwrap_or_default();
        if u16_at(extra, 0) == 1 {
            return body;
        }
        extra = extra.get(4 + len..).unwrap_or_default();
    }
    &[]
}

/// The header before a member's data.
struct Local {
    name: Vec<u8>,
    method: u16,
    flags: u16,
    crc: u32,
    packed: u64,
    size: u64,
    /// Bytes of the header, filling included.
    len: u64,
    filling: u64,
}

fn read_local(source: &Source, offset: u64) -> Result<Option<Local>> {
    // One read nearly always: names and PyTorch's filling are short.
    let mut bytes = source.read_up_to(offset, 320)?;
    if bytes.len() < 30 || !bytes.starts_with(&LOCAL) {
        return Ok(None);
    }
    let [name, extra] = [26, 28].map(|at| usize::from(u16_at(&bytes, at)));
    let len = 30 + name + extra;
    if bytes.len() < len {
        bytes = source.read_up_to(offset, len as u64)?;
    }
    let (Some(name), Some(extra)) = (bytes.get(30..30 + name), bytes.get(30 + name..len)) else { return Ok(None) };
    let (mut size, mut packed) = (u64::from(u32_at(&bytes, 22)), u64::from(u32_at(&bytes, 18)));
    let wide = zip64(extra);
    if wide.len() >= 16 {
        (size, packed) = (u64_at(wide, 0), u64_at(wide, 8));
    }
    // `FB`: filling of letters Z (caffe2/serialize/inline_container.cc).
    let filling = if extra.starts_with(b"FB") && extra.len() >= 4 { extra.len() as u64 - 4 } else { 0 };
    Ok(Some(Local {
        name: name.to_vec(),
        flags: u16_at(&bytes, 6),
        method: u16_at(&bytes, 8),
        crc: u32_at(&bytes, 14),
        packed,
        size,
        len: len as u64,
        filling,
    }))
}

/// The record after a member's data: its length and whether it agrees. With or without a signature,
/// with numbers of 4 or 8 bytes: nothing but the numbers themselves tells which.
fn read_descriptor(source: &Source, at: u64, crc: u32, packed: u64, size: u64) -> Result<Option<u64>> {
    let bytes = source.read_up_to(at, 24)?;
    let skip = if bytes.starts_with(&DESCRIPTOR) { 4 } else { 0 };
    let rest = bytes.get(skip..).unwrap_or_default();
    if rest.len() >= 12 && u32_at(rest, 0) == crc {
        if rest.len() >= 20 && u64_at(rest, 4) == packed && u64_at(rest, 12) == size {
            return Ok(Some(skip as u64 + 20));
        }
        if u64::from(u32_at(rest, 4)) == packed && u64::from(u32_at(rest, 8)) == size {
            return Ok(Some(skip as u64 + 12));
        }
    }
    Ok(None)
}

/// Reads an archive's structure, never its members' contents.
pub fn read(source: &Source) -> Result<Archive> {
    let Some(end) = find_end(source, TAIL)? else { return recover(source, &mut |_| None) };
    let others = other_ends(source, &end)?;
    let decoy = end.decoy.then_some(end.end);
    let mut archive = read_whole(source, end)?;
    if let Some(at) = decoy {
        let message = "bytes after the end record look like another one, which some programs take instead";
        archive.findings.push(Finding::new(&DIRECTORY_BROKEN, message).at(at));
    }
    for other in others {
        // The directory of an archive within the archive is a member's own affair.
        let inside = |member: &Member| member.data.start <= other.at && other.at < member.data.end();
        if archive.members.iter().any(inside) {
            continue;
        }
        let at = other.directory.start;
        let other = read_whole(source, other)?;
        if !other.members.is_empty() {
            let message = format!("another directory, of {} members, stands at byte {at}", other.members.len());
            archive.findings.push(Finding::new(&SEVERAL, message).at(at));
            archive.others.push(other);
        }
    }
    Ok(archive)
}

fn read_whole(source: &Source, end: End) -> Result<Archive> {
    let mut archive = Archive { records: end.records, base: end.base, ..Archive::default() };
    let mut entries = Vec::new();
    let complete = walk_directory(source, end.directory, |entry| entries.push(entry));
    if entries.is_empty() && end.count > 0 {
        // Nothing of the directory is there, so the headers before the members are all that is left.
        let message = format!(
            "the end record declares {} members in a directory at byte {}, but none is there",
            end.count, end.directory.start
        );
        let mut archive = recover(source, &mut |_| None)?;
        archive.findings.push(Finding::new(&DIRECTORY_BROKEN, message).at(end.directory.start));
        return Ok(archive);
    }
    if !complete || entries.len() as u64 != end.count {
        let message = format!(
            "the end record declares {} members in {} bytes, but the directory holds {}",
            end.count,
            end.directory.len,
            entries.len()
        );
        archive.findings.push(Finding::new(&DIRECTORY_BROKEN, message).at(end.directory.start));
    }
    archive.records.push((end.directory, "zip: directory"));
    if end.base > 0 {
        let message = format!("{} bytes stand before the archive", end.base);
        archive.findings.push(Finding::new(&PREFIX, message).at(0));
    }
    if end.comment > 0 || end.end < source.len() {
        let message = format!(
            "the archive has a comment of {} bytes, and {} bytes follow it",
            end.comment,
            source.len() - end.end
        );
        archive.findings.push(Finding::new(&SUFFIX, message).at(end.end - end.comment));
    }

    let mut names = HashSet::new();
    for entry in entries {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        check_name(&name, &entry, &mut archive.findings);
        if !names.insert(name.to_lowercase()) {
            let message = format!("the member name {name:?} stands more than once");
            archive.findings.push(Finding::new(&DUPLICATE, message).at(entry.at).member(&*name));
        }
        let member = place(source, &entry, name, &end.directory, end.base, &mut archive.findings)?;
        archive.members.push(member);
    }
    archive.check_places(source, end.base, end.directory.start)?;
    Ok(archive)
}

/// Whether a member's name leads out of the folder into which its archive is unpacked, on any system.
pub(crate) fn escapes(name: &str) -> bool {
    name.starts_with(['/', '\\'])
        || name.get(1..).is_some_and(|rest| rest.starts_with(':'))
        || name.split(['/', '\\']).any(|part| part == "..")
        || name.contains('\0')
}

fn check_name(name: &str, entry: &Entry, findings: &mut Findings) {
    if escapes(name) {
        let message = format!("member {name:?} leads out of its folder");
        findings.push(Finding::new(&NAME_UNSAFE, message).at(entry.at).member(name));
    }
    if entry.link {
        findings.push(Finding::new(&LINK, format!("member {name:?} is a symbolic link")).at(entry.at).member(name));
    }
    if entry.flags & FLAGS_OPAQUE != 0 {
        let message = format!("member {name:?} is marked as encrypted or patched (flags {:#06x})", entry.flags);
        findings.push(Finding::new(&ENCRYPTED, message).at(entry.at).member(name));
    }
    if entry.size > BOMB_SIZE && entry.size / entry.packed.max(1) > BOMB_RATIO {
        let message = format!("member {name:?} unpacks from {} to {} bytes", entry.packed, entry.size);
        findings.push(Finding::new(&BOMB, message).at(entry.at).member(name));
    }
    if ![STORED, DEFLATED].contains(&entry.method) {
        let message = format!("member {name:?} is compressed with method {}", entry.method);
        findings.push(Finding::new(&METHOD_UNKNOWN, message).at(entry.at).member(name));
    }
}

/// Finds a member's bytes through its local header, and compares the two.
fn place(
    source: &Source,
    entry: &Entry,
    name: String,
    directory: &Span,
    base: u64,
    findings: &mut Findings,
) -> Result<Member> {
    let offset = entry.offset.saturating_add(base);
    let empty = Span { start: offset.min(source.len()), len: 0 };
    let mut member = Member {
        name,
        method: entry.method,
        flags: entry.flags,
        crc: entry.crc,
        size: entry.size,
        header: empty,
        filling: empty,
        data: empty,
        descriptor: empty,
        local: None,
        link: entry.link,
    };
    let name = &member.name;
    let Some(local) = read_local(source, offset)? else {
        let message = format!("the header of member {name:?} is not at byte {offset}, where the directory has it");
        findings.push(Finding::new(&MEMBER_OUTSIDE, message).at(offset).member(name));
        return Ok(member);
    };
    let mut differ = Vec::new();
    let own = String::from_utf8_lossy(&local.name);
    if escapes(&own) && !escapes(name) {
        let message = format!("the header before member {name:?} has the name {own:?}, which leads out of its folder");
        findings.push(Finding::new(&NAME_UNSAFE, message).at(offset).member(name));
    }
    if local.name != entry.name {
        differ.push(format!("the name {:?}", String::from_utf8_lossy(&local.name)));
    }
    if local.method != entry.method {
        differ.push(format!("compression method {} instead of {}", local.method, entry.method));
    }
    if local.flags != entry.flags {
        differ.push(format!("flags {:#06x} instead of {:#06x}", local.flags, entry.flags));
    }
    // Where a record follows the data, the header itself may leave these at 0.
    let later = local.flags & FLAG_DESCRIPTOR != 0;
    for (what, own, central) in [
        ("checksum", u64::from(local.crc), u64::from(entry.crc)),
        ("packed size", local.packed, entry.packed),
        ("size", local.size, entry.size),
    ] {
        if own != central && !(later && own == 0) {
            differ.push(format!("{what} {own} instead of {central}"));
        }
    }
    if !differ.is_empty() {
        let message = format!("the header before member {name:?} has {}", differ.join(", "));
        findings.push(Finding::new(&HEADERS_DIFFER, message).at(offset).member(name));
    }
    let packed = if later && local.packed == 0 { entry.packed } else { local.packed };
    member.local = (local.method != entry.method || packed != entry.packed).then_some((local.method, packed));
    let start = offset + local.len;
    member.header = Span { start: offset, len: local.len - local.filling };
    member.filling = Span { start: start - local.filling, len: local.filling };
    // Data may not reach into the directory, unless it stands after it (as nothing writes it).
    let limit = if start <= directory.start { directory.start } else { source.len() };
    member.data = Span { start, len: entry.packed.min(limit.saturating_sub(start)) };
    member.descriptor = Span { start: member.data.end(), len: 0 };
    if member.data.len < entry.packed {
        let message = format!(
            "member {name:?} has {} bytes from byte {start}, but they can reach only to byte {limit}",
            entry.packed
        );
        findings.push(Finding::new(&MEMBER_OUTSIDE, message).at(start).member(name));
    } else if entry.method == STORED && entry.packed != entry.size && entry.flags & FLAG_ENCRYPTED == 0 {
        let message = format!("member {name:?} is not compressed, but has sizes {} and {}", entry.packed, entry.size);
        findings.push(Finding::new(&HEADERS_DIFFER, message).at(entry.at).member(name));
    }
    if later {
        match read_descriptor(source, member.data.end(), entry.crc, entry.packed, entry.size)? {
            Some(len) => member.descriptor.len = len,
            None => {
                let message = format!("the record after member {name:?} does not repeat the directory's numbers");
                findings.push(Finding::new(&HEADERS_DIFFER, message).at(member.data.end()).member(name));
            }
        }
    }
    Ok(member)
}

/// Finds members through the headers before them, for an archive whose directory is missing.
///
/// PyTorch leaves the sizes out of these headers; `size_of` may know them (from the pickle), which
/// saves searching the weights for the next header.
pub fn recover(source: &Source, size_of: &mut dyn FnMut(&str) -> Option<u64>) -> Result<Archive> {
    let len = source.len();
    let mut archive = Archive { cut: true, ..Archive::default() };
    let mut budget = RECOVER_BUDGET;
    let mut at = 0;
    while let Some(local) = read_local(source, at)?
        && archive.members.len() < RECOVER_MEMBERS
    {
        let name = String::from_utf8_lossy(&local.name).into_owned();
        let start = at + local.len;
        let later = local.flags & FLAG_DESCRIPTOR != 0;
        let known = if !later || local.packed > 0 {
            Some(local.packed)
        } else {
            size_of(&name).filter(|_| local.method == STORED)
        };
        let (packed, size, next, descriptor) = match known {
            Some(packed) => {
                let end = start.saturating_add(packed).min(len);
                let signed = later && source.read_up_to(end, 4)?.starts_with(&DESCRIPTOR);
                // 8-byte numbers where the next header then follows, else 4-byte numbers.
                let wide = signed && source.read_up_to(end.saturating_add(24), 2)? == b"PK";
                let record = if !signed {
                    0
                } else if wide {
                    24
                } else {
                    16
                };
                (packed, if later { packed } else { local.size }, end.saturating_add(record).min(len), record)
            }
            None => match find_descriptor(source, start, &mut budget)? {
                Some((packed, size, record)) => (packed, size, start + packed + record, record),
                None => (len - start, len - start, len, 0),
            },
        };
        let data = Span { start, len: packed.min(len - start) };
        archive.members.push(Member {
            name,
            method: local.method,
            flags: local.flags,
            crc: local.crc,
            size,
            header: Span { start: at, len: local.len - local.filling },
            filling: Span { start: start - local.filling, len: local.filling },
            data,
            descriptor: Span { start: data.end(), len: descriptor.min(len - data.end()) },
            local: None,
            link: false,
        });
        at = next;
    }
    let message =
        format!("the directory at the archive's end is missing; {} members were found", archive.members.len());
    archive.findings.push(Finding::new(&CUT, message).at(len));
    Ok(archive)
}

/// Looks for the record after data of unknown length: packed size, size, length of the record.
fn find_descriptor(source: &Source, start: u64, budget: &mut u64) -> Result<Option<(u64, u64, u64)>> {
    const CHUNK: u64 = 1 << 20;
    let mut from = start;
    while *budget > 0 {
        let chunk = source.read_up_to(from, CHUNK.min(*budget))?;
        *budget -= chunk.len() as u64;
        for (at, _) in chunk.windows(4).enumerate().filter(|(_, window)| *window == DESCRIPTOR) {
            let place = from + at as u64;
            let record = source.read_up_to(place, 24)?;
            let packed = place - start;
            if record.len() == 24 && u64_at(&record, 8) == packed {
                return Ok(Some((packed, u64_at(&record, 16), 24)));
            }
            if record.len() >= 16 && u64::from(u32_at(&record, 8)) == packed {
                return Ok(Some((packed, u64::from(u32_at(&record, 12)), 16)));
            }
        }
        let taken = chunk.len() as u64;
        if from + taken >= source.len() || taken < 4 {
            return Ok(None);
        }
        from += taken - 3;
    }
    Ok(None)
}

impl Archive {
    /// Overlaps between members, and bytes that belong to none.
    fn check_places(&mut self, source: &Source, base: u64, directory: u64) -> Result<()> {
        let mut order: Vec<(u64, u64, usize)> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.header.len > 0)
            .map(|(index, member)| (member.header.start, member.descriptor.end(), index))
            .collect();
        order.sort_unstable();
        let mut at = base;
        let mut gaps = Vec::new();
        for (start, end, index) in order {
            if start < at {
                let name = self.members.get(index).map(|member| member.name.clone()).unwrap_or_default();
                let message = format!("member {name:?} begins {} bytes before the one before it ends", at - start);
                self.findings.push(Finding::new(&OVERLAP, message).at(start).member(name));
            } else if start > at {
                gaps.push((at, start));
            }
            at = at.max(end);
        }
        if at < directory && !self.members.is_empty() {
            gaps.push((at, directory));
        }
        for (start, end) in gaps {
            // Zeros by which some programs align members explain themselves.
            let filling = end - start < 4096 && source.read(start..end)?.iter().all(|byte| *byte == 0);
            if filling {
                self.records.push((Span { start, len: end - start }, "zeros between members"));
            } else {
                let message = format!("{} bytes between members belong to none of them", end - start);
                self.findings.push(Finding::new(&GAP, message).at(start));
            }
        }
        Ok(())
    }

    /// The first member of this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Claims everything that belongs to the archive itself.
    pub fn claim_structure(&self, draft: &mut Draft) {
        for (span, name) in &self.records {
            let kind = if *name == "zeros between members" { Kind::Padding } else { Kind::Container };
            draft.add(span.start, span.end(), kind, *name);
        }
        for member in &self.members {
            let Member { name, header, filling, descriptor, .. } = member;
            draft.add(header.start, header.end(), Kind::Container, format!("zip: header of {name}"));
            draft.add(filling.start, filling.end(), Kind::Padding, "zip: filling that aligns the data");
            draft.add(descriptor.start, descriptor.end(), Kind::Container, "zip: sizes and checksum after the data");
        }
    }
}

/// The names in an archive, for identification.
#[derive(Debug, Default)]
pub struct Listing {
    /// Member names in the directory's order.
    pub names: Vec<String>,
    /// Whether the directory at the end is missing, so that these are only the first members.
    pub cut: bool,
    /// Whether the file begins with an archive's first bytes.
    pub at_start: bool,
}

impl Listing {
    /// The folder (with its `/`, or empty) that holds `file`, where the archive has such a member.
    pub fn folder_of(&self, file: &str) -> Option<&str> {
        self.names.iter().find_map(|name| {
            let folder = name.strip_suffix(file)?;
            (folder.is_empty() || folder.ends_with('/')).then_some(folder)
        })
    }

    /// Whether some member has this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|member| member == name)
    }

    /// A score for a zip format: one that begins elsewhere may be another thing first.
    pub fn score(&self) -> u8 {
        if self.at_start { score::CERTAIN } else { score::PLAUSIBLE }
    }

    /// Words on where the archive was seen, for evidence.
    pub fn evidence(&self) -> &'static str {
        match (self.at_start, self.cut) {
            (true, false) => "it begins with the zip signature `PK\\x03\\x04`",
            (true, true) => {
                "it begins with the zip signature `PK\\x03\\x04`, but is cut: the directory at its end is missing"
            }
            _ => "it ends with a zip directory (`PK\\x05\\x06`), though it does not begin as an archive",
        }
    }
}

/// Whether some program finds an archive in the file: by its first bytes, or by a directory at its end.
pub fn is_archive(source: &Source) -> Result<bool> {
    let first = source.read_up_to(0, 4)?;
    if first.starts_with(&LOCAL) || first.starts_with(&END) {
        return Ok(true);
    }
    let Some(end) = find_end(source, TAIL)? else { return Ok(false) };
    Ok(end.count > 0 && source.read_up_to(end.directory.start, 4)?.starts_with(&CENTRAL))
}

/// Lists an archive's names from its directory alone; `None` where the source is no zip archive.
///
/// Probes use [`Head::zip`], which asks once.
pub fn list(source: &Source, first: &[u8]) -> Result<Option<Listing>> {
    let at_start = first.starts_with(&LOCAL) || first.starts_with(&END);
    // Without the signature in front only an archive that ends exactly with the file is looked for.
    let Some(end) = find_end(source, if at_start { TAIL } else { 22 })? else {
        if !first.starts_with(&LOCAL) {
            return Ok(None);
        }
        let names = first_names(source)?;
        return Ok(Some(Listing { names, cut: true, at_start }));
    };
    let mut names = Vec::new();
    let span = Span { start: end.directory.start, len: end.directory.len.min(LISTING_BUDGET) };
    walk_directory(source, span, |entry| names.push(String::from_utf8_lossy(&entry.name).into_owned()));
    if names.is_empty() && end.count > 0 {
        if !at_start {
            return Ok(None);
        }
        let names = first_names(source)?;
        return Ok(Some(Listing { names, cut: true, at_start }));
    }
    Ok(Some(Listing { names, cut: false, at_start }))
}

/// Names of the members whose headers lie in the first megabytes.
fn first_names(source: &Source) -> Result<Vec<String>> {
    let archive = recover(&source.section(0, 4 << 20), &mut |_| None)?;
    let mut names: Vec<String> = archive.members.into_iter().map(|member| member.name).collect();
    if names.is_empty() {
        // Cut within the first header: what there is of its name.
        let head = source.read_up_to(0, 30 + 256)?;
        let len = usize::from(u16_at(&head, 26)).min(head.len().saturating_sub(30));
        names.extend(head.get(30..30 + len).map(|name| String::from_utf8_lossy(name).into_owned()));
    }
    Ok(names)
}

fn probe(head: &Head) -> Option<Match> {
    let listing = head.zip()?;
    Match::new(listing.score() - 20, format!("{} ({} members)", listing.evidence(), listing.names.len()))
}

fn open(source: &Source) -> Result<Container> {
    let archive = read(source)?;
    let facts = vec![("members", archive.members.len().to_string())];
    let mut container = contained(&FORMAT, source, archive, |_| None);
    container.facts = facts;
    Ok(container)
}

/// A container with an archive's structure in its ledger, each member labelled by `explain`, or as a
/// member by its name.
pub fn contained(
    format: &'static Format,
    source: &Source,
    archive: Archive,
    explain: impl Fn(&Member) -> Option<Kind>,
) -> Container {
    let mut draft = Draft::new();
    archive.claim_structure(&mut draft);
    for member in &archive.members {
        let kind = explain(member).unwrap_or_else(|| kind_of(&member.name));
        draft.add(member.data.start, member.data.end(), kind, format!("member {}", member.name));
    }
    let mut container = Container::new(format, draft.finish(source.len()));
    container.findings = archive.findings.finish();
    container
}

/// What a member of an archive is for, by the name that its own format gives it.
pub fn kind_of(name: &str) -> Kind {
    let last = name.rsplit('/').next().unwrap_or(name);
    let extension = last.rsplit_once('.').map_or("", |(_, extension)| extension);
    if last.starts_with("tokenizer") || matches!(last, "vocab.txt" | "vocab.json" | "merges.txt") {
        return Kind::Tokenizer;
    }
    match extension {
        "py" | "pkl" | "pickle" | "debug_pkl" | "so" | "dll" | "sh" | "js" => Kind::Code,
        "json" | "yaml" | "yml" | "txt" | "toml" | "md" => Kind::Metadata,
        "h5" | "safetensors" | "npy" | "bin" | "pt" | "pth" | "ckpt" | "onnx" => Kind::Tensor,
        _ => Kind::Metadata,
    }
}

/// Members by name, for look-ups in archives with very many; of a name that stands twice the last, as
/// the loaders of models take it.
pub fn by_name(members: &[Member]) -> BTreeMap<&str, usize> {
    members.iter().enumerate().map(|(index, member)| (member.name.as_str(), index)).collect()
}
