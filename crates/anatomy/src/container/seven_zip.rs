//! 7z archives: which members there are, and how their bytes are packed.
//!
//! Source: 7zFormat.txt and Methods.txt of the LZMA SDK. The directory stands at the end, often packed itself; members
//! lie one after the other in folders, each of which is unpacked by a chain of coders.

use super::{Container, Format};
use crate::bytes::Reader;
use crate::decode::raw::{self, Coder, Filter};
use crate::decode::{Decoded, Fault, Method};
use crate::error::{Error, Result};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// 7-Zip.
pub static FORMAT: Format = Format {
    id: "7z",
    name: "7-Zip archive",
    extensions: &["7z"],
    use_and_risk: "An archive: what its members do when they are loaded is decided by each of them.",
    probe,
    open,
};

static CUT: Rule = Rule {
    name: "7z-truncated",
    severity: Severity::Error,
    why: "The archive's directory, which stands at its end, is not in the file: the download is incomplete.",
    help: "download the file again and compare its size with the one that the hub states",
};
static BROKEN: Rule = Rule {
    name: "7z-broken",
    severity: Severity::Error,
    why: "The archive's directory contradicts itself or its checksums, so programs disagree about what is in it.",
    help: "do not use the file: get it from its author again",
};
pub(crate) static METHOD: Rule = Rule {
    name: "7z-method-unknown",
    severity: Severity::Error,
    why: "Members are packed in a way that is not read here (encryption, PPMd, BCJ2), so nobody looked into them.",
    help: "unpack the archive in a safe place, and scan what comes out",
};
pub(crate) static NAME_UNSAFE: Rule = Rule {
    name: "7z-unsafe-name",
    severity: Severity::Error,
    why: "A member's name leads out of the folder into which the archive is unpacked, or is a link, so unpacking can \
          overwrite other files.",
    help: "do not unpack the archive",
};
static CONTENT_BROKEN: Rule = Rule {
    name: "7z-content-broken",
    severity: Severity::Error,
    why: "A member's bytes do not unpack to what the directory promises (size, checksum, packed stream).",
    help: "download the file again; if it stays so, do not use it",
};
static TRAILING: Rule = Rule {
    name: "7z-trailing-data",
    severity: Severity::Warning,
    why: "Bytes follow the archive, where programs do not look.",
    help: "look at what the bytes are",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[&CUT, &BROKEN, &METHOD, &NAME_UNSAFE, &CONTENT_BROKEN, &TRAILING];

const MAGIC: &[u8] = b"7z\xbc\xaf\x27\x1c";
/// Bytes of the first header.
const START: u64 = 32;
/// Bytes to which a packed directory is unpacked, and of one that is not packed.
const MAX_DIRECTORY: u64 = 64 << 20;
/// Directories that are packed in each other.
const MAX_LAYERS: usize = 4;
/// Files that are listed.
const MAX_FILES: u64 = 1 << 20;
/// Coders of a folder; 7-Zip itself allows 32.
const MAX_CODERS: u64 = 32;

/// A run of members that are packed together.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// Its packed bytes.
    pub packed: Span,
    /// The chain, the coder that reads the packed bytes first; `None` where a coder is not known.
    chain: Option<Vec<(Coder, u64)>>,
    /// Unpacked size.
    pub size: u64,
    crc: Option<u32>,
}

impl Folder {
    /// Whether all of its coders are known.
    pub fn is_readable(&self) -> bool {
        self.chain.is_some()
    }
}

/// A file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Its folder and place in what that unpacks to; `None` for empty files and directories.
    pub place: Option<(usize, Span)>,
    /// Declared CRC-32.
    pub crc: Option<u32>,
}

impl Member {
    /// Its bytes among those of its folder, as far as they are there, and what is wrong with them.
    pub fn contents(&self, unpacked: &[u8]) -> (Vec<u8>, Option<Finding>) {
        let span = self.place.map(|(_, span)| span).unwrap_or_default();
        let start = usize::try_from(span.start).unwrap_or(usize::MAX).min(unpacked.len());
        let end = usize::try_from(span.end()).unwrap_or(usize::MAX).min(unpacked.len());
        let bytes = unpacked.get(start..end).unwrap_or_default().to_vec();
        let message = if (bytes.len() as u64) < span.len {
            format!("member {:?} has {} bytes, but only {} come out", self.name, span.len, bytes.len())
        } else {
            match self.crc.filter(|declared| *declared != crc(&bytes)) {
                None => return (bytes, None),
                Some(declared) => format!(
                    "the checksum of member {:?} is {:08x}, but {declared:08x} was declared",
                    self.name,
                    crc(&bytes)
                ),
            }
        };
        (bytes, Some(Finding::new(&CONTENT_BROKEN, message).member(&*self.name)))
    }
}

/// An archive's structure.
#[derive(Debug, Default)]
pub struct Archive {
    /// Runs of packed bytes.
    pub folders: Vec<Folder>,
    /// Files, in the directory's order.
    pub members: Vec<Member>,
    /// What is odd or wrong.
    pub findings: Findings,
    directory: Span,
}

fn probe(head: &Head) -> Option<Match> {
    head.starts_with(MAGIC).then_some(())?;
    let mut evidence = "the first bytes are 37 7a bc af 27 1c, the magic number of 7z".to_string();
    let end = head.u64(12).zip(head.u64(20)).map(|(at, len)| START.saturating_add(at).saturating_add(len));
    if end.is_none_or(|end| end > head.len()) {
        evidence.push_str(&format!("; the file is cut: it ends at byte {}, before its directory does", head.len()));
    }
    Match::new(score::CERTAIN, evidence)
}

fn open(source: &Source) -> Result<Container> {
    let archive = read(source)?;
    let mut draft = Draft::new();
    draft.add(0, 6, Kind::Magic, "magic number");
    draft.add(6, START, Kind::Header, "version, and place of the directory");
    for folder in &archive.folders {
        draft.add(folder.packed.start, folder.packed.end(), Kind::Container, "packed members");
    }
    draft.add(archive.directory.start, archive.directory.end(), Kind::Container, "7z: directory");
    let mut container = Container::new(&FORMAT, draft.finish(source.len()));
    if let [major, minor] = source.read_up_to(6, 2)?.as_slice() {
        container.facts.push(("version", format!("{major}.{minor}")));
    }
    container.facts.push(("members", archive.members.len().to_string()));
    container.findings = archive.findings.finish();
    Ok(container)
}

/// Reads an archive's directory.
pub fn read(source: &Source) -> Result<Archive> {
    let mut archive = Archive::default();
    let mut reader = Reader::new(source, 8);
    let mut start =
        || -> Result<(u32, u64, u64, u32)> { Ok((reader.u32()?, reader.u64()?, reader.u64()?, reader.u32()?)) };
    let Ok((sum, at, len, directory_sum)) = start() else {
        archive.findings.push(Finding::new(&CUT, "the file ends within its first header").at(source.len()));
        return Ok(archive);
    };
    if sum != crc(&source.read_up_to(12, 20)?) {
        archive.findings.push(Finding::new(&BROKEN, "the first header's checksum is wrong").at(8));
    }
    archive.directory = Span { start: START.saturating_add(at), len };
    let end = archive.directory.end();
    if end > source.len() {
        let message = format!("the directory ends at byte {end}, but the file at {}", source.len());
        archive.findings.push(Finding::new(&CUT, message).at(source.len()));
        return Ok(archive);
    }
    if end < source.len() {
        archive
            .findings
            .push(Finding::new(&TRAILING, format!("{} bytes follow the archive", source.len() - end)).at(end));
    }
    if len == 0 {
        return Ok(archive);
    }
    if len > MAX_DIRECTORY {
        archive.findings.push(Finding::new(&BROKEN, format!("a directory of {len} bytes")).at(START + at));
        return Ok(archive);
    }
    let bytes = source.read_up_to(archive.directory.start, len)?;
    if crc(&bytes) != directory_sum {
        archive.findings.push(Finding::new(&BROKEN, "the directory's checksum is wrong").at(archive.directory.start));
    }
    let at = archive.directory.start;
    if let Err(error) = read_directory(source, bytes, &mut archive) {
        if matches!(error.kind(), crate::error::ErrorKind::Unreadable | crate::error::ErrorKind::NotFound) {
            return Err(error);
        }
        archive.findings.push(Finding::new(&BROKEN, error.message()).at(at));
    }
    Ok(archive)
}

/// Unpacks a folder, to `room` bytes at most. Of a folder whose coders are not known nothing comes.
pub fn unpack(source: &Source, folder: &Folder, room: u64) -> Result<Decoded> {
    let Some(chain) = &folder.chain else {
        return Ok(Decoded { bytes: Vec::new(), used: 0, fault: None });
    };
    let mut current = source.section(folder.packed.start, folder.packed.len);
    let mut fault = (current.len() < folder.packed.len).then_some(Fault::Cut);
    let mut bytes = Vec::new();
    for (index, (coder, size)) in chain.iter().enumerate() {
        let last = index + 1 == chain.len();
        let decoded = raw::unpack(&current, coder, *size, room)?;
        fault = fault.or(decoded.fault);
        bytes = decoded.bytes;
        if !last {
            current = Source::memory(source.name(), std::mem::take(&mut bytes));
        }
    }
    if let (None, Some(declared)) = (&fault, folder.crc)
        && crc(&bytes) != declared
    {
        fault = Some(Fault::Broken(format!("the checksum is {:08x}, but {declared:08x} was declared", crc(&bytes))));
    }
    Ok(Decoded { used: folder.packed.len, bytes, fault })
}

/// The finding for a folder that does not unpack.
pub(crate) fn broken(folder: &Folder, words: &str) -> Finding {
    Finding::new(&CONTENT_BROKEN, format!("members do not unpack: {words}")).at(folder.packed.start)
}

/// The CRC-32 that 7z uses.
pub fn crc(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// What `StreamsInfo` says: folders, and of each the sizes and checksums of the files in it.
#[derive(Default)]
struct Streams {
    folders: Vec<Folder>,
    files: Vec<(usize, Span, Option<u32>)>,
}

fn read_directory(source: &Source, mut bytes: Vec<u8>, archive: &mut Archive) -> Result<()> {
    for _ in 0..MAX_LAYERS {
        let memory = Source::memory("7z directory", std::mem::take(&mut bytes));
        let mut reader = Directory(Reader::new(&memory, 0));
        match reader.0.u8()? {
            1 => return reader.header(source, archive),
            0x17 => {
                let streams = reader.streams(source)?;
                let folder =
                    streams.folders.first().ok_or_else(|| Error::malformed("a packed directory without bytes"))?;
                archive.folders.push(Folder { chain: None, size: 0, ..folder.clone() });
                if folder.chain.is_none() {
                    let message = "the directory is encrypted, or packed in a way that is not read here";
                    archive.findings.push(Finding::new(&METHOD, message).at(folder.packed.start));
                    return Ok(());
                }
                let decoded = unpack(source, folder, MAX_DIRECTORY)?;
                if let Some(fault) = decoded.fault {
                    return Err(Error::malformed(format!(
                        "the packed directory cannot be unpacked: {}",
                        fault.words()
                    )));
                }
                bytes = decoded.bytes;
            }
            other => return Err(Error::malformed(format!("a directory that begins with {other:#04x}"))),
        }
    }
    Err(Error::malformed("directories packed in each other without end"))
}

struct Directory<'a>(Reader<'a>);

impl Directory<'_> {
    /// A number of one to nine bytes: the leading ones of the first say how many follow.
    fn number(&mut self) -> Result<u64> {
        let first = self.0.u8()?;
        let more = first.leading_ones();
        let mut low = 0u64;
        for index in 0..more.min(8) {
            low |= u64::from(self.0.u8()?) << (8 * index);
        }
        let high = if more >= 7 { 0 } else { u64::from(first) & ((1 << (7 - more)) - 1) };
        Ok(low | high.checked_shl(8 * more).unwrap_or(0))
    }

    /// A count of things of which each takes at least `bytes` of what is left.
    fn count(&mut self, bytes: u64) -> Result<u64> {
        let count = self.number()?;
        if count > self.0.remaining() / bytes.max(1) {
            return Err(Error::malformed(format!("{count} entries are declared, more than there can be")));
        }
        Ok(count)
    }

    fn bits(&mut self, count: u64) -> Result<Vec<bool>> {
        let bytes = self.0.bytes(count.div_ceil(8))?;
        let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
        Ok(bits.take(usize::try_from(count).unwrap_or(0)).collect())
    }

    /// Which of `count` have a value: all, or those of a list of bits.
    fn defined(&mut self, count: u64) -> Result<Vec<bool>> {
        match self.0.u8()? {
            0 => self.bits(count),
            // Each value takes four bytes.
            _ if count > self.0.remaining() / 4 => Err(Error::malformed("more values are declared than there can be")),
            _ => Ok(vec![true; usize::try_from(count).unwrap_or(0)]),
        }
    }

    fn digests(&mut self, count: u64) -> Result<Vec<Option<u32>>> {
        let defined = self.defined(count)?;
        defined.into_iter().map(|defined| defined.then(|| self.0.u32()).transpose()).collect()
    }

    /// Everything after the first byte of a directory that is not packed.
    fn header(&mut self, source: &Source, archive: &mut Archive) -> Result<()> {
        let mut streams = Streams::default();
        loop {
            match self.number()? {
                0 => break,
                2 => {
                    // Properties of the archive, which nobody writes.
                    while self.number()? != 0 {
                        let size = self.number()?;
                        self.0.skip(size)?;
                    }
                }
                3 => drop(self.streams(source)?),
                4 => streams = self.streams(source)?,
                5 => {
                    self.files(&streams, archive)?;
                }
                other => return Err(Error::malformed(format!("a part {other:#04x} that is not known"))),
            }
        }
        if archive.members.is_empty() && !streams.files.is_empty() {
            return Err(Error::malformed("packed bytes without files"));
        }
        for folder in &streams.folders {
            if folder.packed.end() > archive.directory.start {
                return Err(Error::malformed("packed bytes reach into the directory"));
            }
            if folder.chain.is_none() {
                let message = "members are encrypted, or packed in a way that is not read here";
                archive.findings.push(Finding::new(&METHOD, message).at(folder.packed.start));
            }
        }
        // The folder of the directory itself comes after those of the members.
        archive.folders.splice(0..0, streams.folders);
        Ok(())
    }

    fn streams(&mut self, source: &Source) -> Result<Streams> {
        let mut packed: Vec<Span> = Vec::new();
        let mut streams = Streams::default();
        let mut counted = false;
        loop {
            match self.number()? {
                0 => break,
                6 => {
                    let mut at = START.saturating_add(self.number()?);
                    let count = self.count(1)?;
                    loop {
                        match self.number()? {
                            0 => break,
                            9 => {
                                for _ in 0..count {
                                    let len = self.number()?;
                                    if at.saturating_add(len) > source.len() {
                                        return Err(Error::malformed("packed bytes reach beyond the file"));
                                    }
                                    packed.push(Span { start: at, len });
                                    at += len;
                                }
                            }
                            10 => drop(self.digests(count)?),
                            other => return Err(Error::malformed(format!("a part {other:#04x} among packed streams"))),
                        }
                    }
                }
                7 => streams.folders = self.folders(&packed)?,
                8 => {
                    counted = true;
                    self.substreams(&mut streams)?;
                }
                other => return Err(Error::malformed(format!("a part {other:#04x} among the streams"))),
            }
        }
        if !counted {
            let whole = |(index, folder): (usize, &Folder)| (index, Span { start: 0, len: folder.size }, folder.crc);
            streams.files = streams.folders.iter().enumerate().map(whole).collect();
        }
        Ok(streams)
    }

    fn folders(&mut self, packed: &[Span]) -> Result<Vec<Folder>> {
        if self.number()? != 11 {
            return Err(Error::malformed("folders are missing"));
        }
        let count = self.count(2)?;
        if self.0.u8()? != 0 {
            return Err(Error::malformed("folders are said to be described elsewhere"));
        }
        let mut shapes = Vec::new();
        let mut next = 0;
        for _ in 0..count {
            shapes.push(self.folder(&mut next)?);
        }
        if self.number()? != 12 {
            return Err(Error::malformed("sizes of the folders are missing"));
        }
        let mut folders = Vec::new();
        for shape in shapes {
            let sizes: Vec<u64> = (0..shape.outputs).map(|_| self.number()).collect::<Result<_>>()?;
            folders.push(shape.build(packed, &sizes)?);
        }
        loop {
            match self.number()? {
                0 => return Ok(folders),
                10 => {
                    for (folder, crc) in folders.iter_mut().zip(self.digests(count)?) {
                        folder.crc = crc;
                    }
                }
                other => return Err(Error::malformed(format!("a part {other:#04x} among the folders"))),
            }
        }
    }

    fn folder(&mut self, next: &mut usize) -> Result<Shape> {
        let count = self.number()?;
        if count == 0 || count > MAX_CODERS {
            return Err(Error::malformed(format!("a folder of {count} coders")));
        }
        let (mut inputs, mut outputs) = (0u64, 0u64);
        let mut coders = Vec::new();
        for _ in 0..count {
            let flags = self.0.u8()?;
            let id = self.0.bytes(u64::from(flags & 15))?;
            let (own_inputs, own_outputs) = if flags & 0x10 != 0 { (self.number()?, self.number()?) } else { (1, 1) };
            if own_inputs > MAX_CODERS || own_outputs != 1 {
                return Err(Error::malformed("a coder with more streams than any has"));
            }
            let properties = match flags & 0x20 {
                0 => Vec::new(),
                _ => {
                    let size = self.number()?;
                    self.0.bytes(size)?
                }
            };
            inputs += own_inputs;
            outputs += own_outputs;
            coders.push(if own_inputs == 1 { coder(&id, &properties) } else { None });
        }
        let mut pairs = Vec::new();
        for _ in 1..outputs {
            pairs.push((self.number()?, self.number()?));
        }
        let streams = inputs.checked_sub(outputs - 1).ok_or_else(|| Error::malformed("coders without bytes"))?;
        if streams > 1 {
            for _ in 0..streams {
                self.number()?;
            }
        }
        let first = *next;
        *next += usize::try_from(streams).unwrap_or(usize::MAX);
        Ok(Shape { coders, pairs, outputs, first, streams })
    }

    fn substreams(&mut self, streams: &mut Streams) -> Result<()> {
        let mut counts = vec![1u64; streams.folders.len()];
        let mut id = self.number()?;
        if id == 13 {
            let mut sum = 0u64;
            for count in &mut counts {
                *count = self.number()?;
                sum = sum.saturating_add(*count);
                // All but the last file of a folder have a size of at least a byte here.
                if sum > self.0.source().len().saturating_add(1 << 16) {
                    return Err(Error::malformed("more files than there can be"));
                }
            }
            id = self.number()?;
        }
        let mut unknown = 0;
        for (index, (folder, count)) in streams.folders.iter().zip(&counts).enumerate() {
            let mut at = 0u64;
            for file in 0..*count {
                let left = folder.size.saturating_sub(at);
                let len = match (file + 1 == *count, id) {
                    (true, _) => left,
                    (false, 9) => self.number()?,
                    (false, _) => return Err(Error::malformed("sizes of the files are missing")),
                };
                if len > left {
                    return Err(Error::malformed("files are larger than their folder"));
                }
                let crc = folder.crc.filter(|_| *count == 1);
                unknown += u64::from(crc.is_none());
                streams.files.push((index, Span { start: at, len }, crc));
                at += len;
            }
        }
        if id == 9 {
            id = self.number()?;
        }
        loop {
            match id {
                0 => return Ok(()),
                10 => {
                    let sums = self.digests(unknown)?;
                    let open = streams.files.iter_mut().filter(|(_, _, crc)| crc.is_none());
                    for ((_, _, crc), sum) in open.zip(sums) {
                        *crc = sum;
                    }
                }
                other => return Err(Error::malformed(format!("a part {other:#04x} among the files' sizes"))),
            }
            id = self.number()?;
        }
    }

    fn files(&mut self, streams: &Streams, archive: &mut Archive) -> Result<()> {
        let count = self.number()?;
        if count > MAX_FILES {
            return Err(Error::malformed(format!("{count} files are declared, more than there can be")));
        }
        let size = usize::try_from(count).unwrap_or(0);
        let (mut empty, mut names, mut modes) = (vec![false; size], Vec::new(), Vec::new());
        loop {
            let kind = self.number()?;
            if kind == 0 {
                break;
            }
            let len = self.number()?;
            let end = self.0.offset().checked_add(len).filter(|_| len <= self.0.remaining());
            let end = end.ok_or_else(|| Error::malformed("a property runs past the directory's end"))?;
            match kind {
                14 => empty = self.bits(count)?,
                17 if self.0.u8()? == 0 => names = split_names(&self.0.bytes(end - self.0.offset())?),
                21 => {
                    let defined = self.defined(count)?;
                    if self.0.u8()? == 0 {
                        for defined in defined {
                            modes.push(if defined { self.0.u32()? } else { 0 });
                        }
                    }
                }
                _ => {}
            }
            self.0.seek(end);
        }
        if names.len() != size {
            let message = format!("{count} files are declared, but {} have a name", names.len());
            archive.findings.push(Finding::new(&BROKEN, message).at(archive.directory.start));
        }
        let mut places = streams.files.iter();
        for (index, empty) in empty.iter().enumerate() {
            let name = names.get(index).cloned().unwrap_or_else(|| format!("(file {index} without a name)"));
            // The upper half holds the Unix mode, where a Unix program wrote it.
            let mode = modes.get(index).copied().unwrap_or(0);
            let link = mode & 0x8000 != 0 && mode >> 28 == 0o12;
            if link || super::zip::escapes(&name) {
                let what = if link { "is a symbolic link" } else { "leads out of its folder" };
                let message = format!("member {name:?} {what}");
                archive.findings.push(Finding::new(&NAME_UNSAFE, message).at(archive.directory.start).member(&*name));
            }
            let place = if *empty { None } else { places.next() };
            if !empty && place.is_none() {
                return Err(Error::malformed("more files than packed bytes"));
            }
            let crc = place.and_then(|(_, _, crc)| *crc);
            archive.members.push(Member { name, place: place.map(|(folder, span, _)| (*folder, *span)), crc });
        }
        if places.next().is_some() {
            return Err(Error::malformed("packed bytes that belong to no file"));
        }
        Ok(())
    }
}

/// A folder before its sizes are known.
struct Shape {
    coders: Vec<Option<Coder>>,
    /// Which input takes which output.
    pairs: Vec<(u64, u64)>,
    outputs: u64,
    /// The first of its packed streams, and how many there are.
    first: usize,
    streams: u64,
}

impl Shape {
    fn build(self, packed: &[Span], sizes: &[u64]) -> Result<Folder> {
        let packed = *packed.get(self.first).ok_or_else(|| Error::malformed("a folder without packed bytes"))?;
        // From the coder that nobody feeds on, back to the one that reads the packed bytes. Each coder of a chain has
        // one input, so its number is that of its output.
        let is_bound = |output: u64| self.pairs.iter().any(|(_, from)| *from == output);
        let last = (0..self.outputs).find(|output| !is_bound(*output));
        let last = last.ok_or_else(|| Error::malformed("coders that feed on each other in a ring"))?;
        let size_of = |output: u64| usize::try_from(output).ok().and_then(|at| sizes.get(at)).copied().unwrap_or(0);
        let mut chain = Vec::new();
        let mut at = Some(last);
        while let Some(output) = at.filter(|_| chain.len() <= self.coders.len()) {
            let coder = usize::try_from(output).ok().and_then(|index| self.coders.get(index)).cloned().flatten();
            chain.push(coder.map(|coder| (coder, size_of(output))));
            at = self.pairs.iter().find(|(input, _)| *input == output).map(|(_, from)| *from);
        }
        if chain.len() > self.coders.len() {
            return Err(Error::malformed("coders that feed on each other in a ring"));
        }
        chain.reverse();
        let whole = self.streams == 1 && chain.len() == self.coders.len();
        let chain = chain.into_iter().collect::<Option<Vec<_>>>().filter(|_| whole);
        Ok(Folder { packed, chain, size: size_of(last), crc: None })
    }
}

/// The coder of an identifier (Methods.txt).
fn coder(id: &[u8], properties: &[u8]) -> Option<Coder> {
    Some(match (id, properties) {
        ([0], _) => Coder::Copy,
        ([3, 1, 1], [properties, dictionary @ ..]) => {
            Coder::Lzma(*properties, u32::from_le_bytes(*dictionary.first_chunk()?))
        }
        ([0x21], [size, ..]) => Coder::Lzma2(match size {
            // Two bits of mantissa: 2^n or 3 * 2^(n-1), from 4 KiB on.
            0..40 => (2 | u32::from(size & 1)) << (size / 2 + 11),
            40 => u32::MAX,
            _ => return None,
        }),
        ([4, 1, 8], _) => Coder::Framed(Method::Deflate),
        ([4, 2, 2], _) => Coder::Framed(Method::Bzip2),
        ([4, 0xf7, 0x11, 1], _) => Coder::Framed(Method::Zstd),
        ([4, 0xf7, 0x11, 4], _) => Coder::Framed(Method::Lz4),
        ([3], [distance, ..]) => Coder::Filter(Filter::Delta(u32::from(*distance) + 1)),
        ([4] | [3, 3, 1, 3], _) => Coder::Filter(Filter::X86),
        ([5] | [3, 3, 2, 5], _) => Coder::Filter(Filter::PowerPc),
        ([6] | [3, 3, 4, 1], _) => Coder::Filter(Filter::Ia64),
        ([7] | [3, 3, 5, 1], _) => Coder::Filter(Filter::Arm),
        ([8] | [3, 3, 7, 1], _) => Coder::Filter(Filter::ArmThumb),
        ([9] | [3, 3, 8, 5], _) => Coder::Filter(Filter::Sparc),
        ([0xa], _) => Coder::Filter(Filter::Arm64),
        ([0xb], _) => Coder::Filter(Filter::RiscV),
        _ => return None,
    })
}

/// Names in UTF-16, each ended by a zero.
fn split_names(bytes: &[u8]) -> Vec<String> {
    let units: Vec<u16> =
        bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?))).collect();
    let mut names: Vec<String> = units.split(|unit| *unit == 0).map(String::from_utf16_lossy).collect();
    names.pop();
    names
}
