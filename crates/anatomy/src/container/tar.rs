//! tar archives: where each member's bytes are.
//!
//! Source: POSIX.1-2001 (ustar, pax) and the GNU tar manual (long names, base-256 numbers).

use std::collections::HashSet;

use super::{Container, Format, zip};
use crate::error::Result;
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// Any archive that no more specific format claims.
pub static FORMAT: Format = Format {
    id: "tar",
    name: "tar archive",
    extensions: &["tar"],
    use_and_risk: "An archive: what its members do when they are loaded is decided by each of them.",
    probe,
    open,
};

/// NVIDIA NeMo's models: a tar with a configuration and a PyTorch checkpoint.
pub static NEMO: Format = Format {
    id: "nemo",
    name: "NeMo model",
    extensions: &["nemo"],
    use_and_risk: "For NVIDIA NeMo. It holds a PyTorch checkpoint: loading that can run any code.",
    probe: probe_nemo,
    open: open_nemo,
};

static CUT: Rule = Rule {
    name: "tar-truncated",
    severity: Severity::Error,
    why: "The archive ends within a member or without its end marker: the download is incomplete.",
    help: "download the file again and compare its size with the one that the hub states",
};
static HEADER: Rule = Rule {
    name: "tar-header-invalid",
    severity: Severity::Error,
    why: "A member's header has a wrong checksum or numbers that are none, so what follows cannot be known.",
    help: "get the file again",
};
pub(crate) static NAME_UNSAFE: Rule = Rule {
    name: "tar-unsafe-name",
    severity: Severity::Error,
    why: "A member's name, or what it links to, leads out of the folder into which the archive is unpacked, so \
          unpacking can overwrite other files.",
    help: "do not unpack the archive",
};
pub(crate) static SPECIAL: Rule = Rule {
    name: "tar-special-file",
    severity: Severity::Error,
    why: "A member is a device or a pipe, as no model has: reading it may hang or reach hardware.",
    help: "do not unpack the archive",
};
static DUPLICATE: Rule = Rule {
    name: "tar-duplicate-member",
    severity: Severity::Warning,
    why: "A member's name stands twice. Programs that unpack keep the last, programs that search take either.",
    help: "look at both, or get the file from its author again",
};
static TRAILING: Rule = Rule {
    name: "tar-trailing-data",
    severity: Severity::Warning,
    why: "Bytes other than zeros follow the archive's end marker, where programs do not look.",
    help: "look at what the bytes are",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[&CUT, &HEADER, &NAME_UNSAFE, &SPECIAL, &DUPLICATE, &TRAILING];

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Members that are listed.
const MAX_MEMBERS: usize = 1 << 20;
/// Bytes of a long name or of pax records.
const MAX_NAME: u64 = 64 * 1024;
/// Bytes that identification unpacks of a compressed archive, and headers that it looks at.
const PROBE: u64 = 1 << 20;
const PROBE_MEMBERS: usize = 64;

/// One file within an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name; bytes that were not UTF-8 are replaced.
    pub name: String,
    /// Its header blocks, those of long names included.
    pub header: Span,
    /// Declared bytes, which may run past the end of a cut file.
    pub data: Span,
    /// Type flag: `0` a file, `5` a folder, `1` and `2` links.
    pub kind: u8,
    /// What it links to; empty for all else.
    pub link: String,
}

/// An archive's structure.
#[derive(Debug, Default)]
pub struct Archive {
    /// Members in the file's order.
    pub members: Vec<Member>,
    /// What is odd or wrong.
    pub findings: Findings,
    /// Where the end marker begins, if there is one.
    pub end: Option<u64>,
}

/// Whether a block is a header with a right checksum.
fn is_header(block: &[u8]) -> bool {
    let Some(stored) = block.get(148..156).and_then(number) else { return false };
    let sum: u64 = block.iter().take(512).map(|byte| u64::from(*byte)).sum();
    let own: u64 = block.get(148..156).unwrap_or_default().iter().map(|byte| u64::from(*byte)).sum();
    block.len() >= 512 && block.first() != Some(&0) && sum - own + 8 * 32 == stored
}

/// A number in octal digits, or in base 256 where the first bit is set (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        return rest.iter().try_fold(0u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = std::str::from_utf8(field.get(..end)?).ok()?.trim();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

/// Reads the headers of an archive.
pub fn read(source: &Source) -> Result<Archive> {
    read_some(source, MAX_MEMBERS)
}

fn read_some(source: &Source, most: usize) -> Result<Archive> {
    let mut archive = Archive::default();
    let mut at = 0;
    let mut start = 0;
    let mut long = Pax::default();
    let mut names = HashSet::new();
    while archive.members.len() < most {
        let block = source.read_up_to(at, BLOCK)?;
        if block.len() < 512 {
            let message = format!("the file ends at byte {} without an end marker", source.len());
            archive.findings.push(Finding::new(&CUT, message).at(source.len()));
            break;
        }
        if block.iter().all(|byte| *byte == 0) {
            archive.end = Some(at);
            break;
        }
        let size = block.get(124..136).and_then(number);
        let (true, Some(size)) = (is_header(&block), size) else {
            archive.findings.push(Finding::new(&HEADER, "a block that is no member's header").at(at));
            break;
        };
        let kind = block.get(156).copied().unwrap_or(0);
        let data = at + BLOCK;
        if matches!(kind, b'L' | b'K' | b'x' | b'g') {
            let extra = source.read_up_to(data, size.min(MAX_NAME))?;
            match kind {
                b'L' => long.name = Some(text(&extra)),
                b'K' => long.link = Some(text(&extra)),
                b'x' => long.read(&extra),
                _ => {}
            }
            at = data.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
            continue;
        }
        let Pax { name, link, size: own_size } = std::mem::take(&mut long);
        let size = own_size.unwrap_or(size);
        let name = name.unwrap_or_else(|| {
            let name = text(block.get(..100).unwrap_or_default());
            let prefix = text(block.get(345..500).unwrap_or_default());
            let ustar = block.get(257..263) == Some(b"ustar\0");
            if ustar && !prefix.is_empty() { format!("{prefix}/{name}") } else { name }
        });
        // Only files have data; some writers give folders and links a size all the same.
        let size = if matches!(kind, b'1'..=b'6') { 0 } else { size };
        let link = match kind {
            b'1' | b'2' => link.unwrap_or_else(|| text(block.get(157..257).unwrap_or_default())),
            _ => String::new(),
        };
        archive.check_name(&name, kind, &link, at);
        if kind != b'5' && !names.insert(name.clone()) {
            let message = format!("the member name {name:?} stands more than once");
            archive.findings.push(Finding::new(&DUPLICATE, message).at(at).member(&*name));
        }
        let data = Span { start: data, len: size };
        if data.end() > source.len() {
            let message = format!("member {name:?} ends at byte {}, but the file at {}", data.end(), source.len());
            archive.findings.push(Finding::new(&CUT, message).at(source.len()).member(&*name));
        }
        archive.members.push(Member { name, header: Span { start, len: data.start - start }, data, kind, link });
        at = data.start.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
        start = at;
        if data.end() > source.len() {
            break;
        }
    }
    Ok(archive)
}

/// What stands before a header about the member that follows.
#[derive(Default)]
struct Pax {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl Pax {
    /// Reads pax records (`LENGTH KEY=VALUE\n`).
    fn read(&mut self, records: &[u8]) {
        let mut rest = records;
        while let Some(space) = rest.iter().take(20).position(|byte| *byte == b' ') {
            let length = rest.get(..space).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
            let Some(record) =
                length.filter(|length| *length > space + 1).and_then(|length| rest.get(space + 1..length))
            else {
                break;
            };
            let record = String::from_utf8_lossy(record);
            match record.trim_end_matches('\n').split_once('=') {
                Some(("path", value)) => self.name = Some(value.to_string()),
                Some(("linkpath", value)) => self.link = Some(value.to_string()),
                Some(("size", value)) => self.size = value.parse().ok(),
                _ => {}
            }
            rest = length.and_then(|length| rest.get(length..)).unwrap_or_default();
        }
    }
}

/// Whether a link in `folder` leads out of the archive.
pub(crate) fn link_escapes(name: &str, target: &str, from_root: bool) -> bool {
    if target.starts_with(['/', '\\']) || target.get(1..).is_some_and(|rest| rest.starts_with(':')) {
        return true;
    }
    let folder = if from_root { "" } else { name.rsplit_once('/').map_or("", |(folder, _)| folder) };
    let mut depth = 0u64;
    for part in folder.split('/').chain(target.split(['/', '\\'])) {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

impl Archive {
    fn check_name(&mut self, name: &str, kind: u8, link: &str, at: u64) {
        let message = if zip::escapes(name) {
            format!("member {name:?} leads out of its folder")
        } else if link_escapes(name, link, kind == b'1') {
            format!("member {name:?} is a link to {link:?}, out of its folder")
        } else {
            if matches!(kind, b'3' | b'4' | b'6') {
                let message = format!("member {name:?} is a device or a pipe");
                self.findings.push(Finding::new(&SPECIAL, message).at(at).member(name));
            }
            return;
        };
        self.findings.push(Finding::new(&NAME_UNSAFE, message).at(at).member(name));
    }

    /// The member of this name, with or without `./` before it.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name.trim_start_matches("./") == name)
    }

    /// Claims headers, filling and the end marker.
    pub fn claim_structure(&mut self, source: &Source, draft: &mut Draft) -> Result<()> {
        let len = source.len();
        for member in &self.members {
            let Member { name, header, data, .. } = member;
            draft.add(header.start, header.end(), Kind::Container, format!("tar: header of {name}"));
            let end = data.end().min(len);
            let filled = end.div_ceil(BLOCK).saturating_mul(BLOCK).min(len);
            draft.add(end, filled, Kind::Padding, "tar: filling to a whole block");
        }
        if let Some(end) = self.end {
            // Two blocks of zeros, and as many more as fill the writer's buffer.
            let rest = source.read_up_to(end, 1 << 20)?;
            let zeros = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len()) as u64;
            draft.add(end, end + zeros, Kind::Padding, "tar: end marker and filling");
            if end + zeros < len {
                let message = format!("{} bytes follow the end marker", len - end - zeros);
                self.findings.push(Finding::new(&TRAILING, message).at(end + zeros));
            }
        }
        Ok(())
    }
}

/// The first members' names, of a plain or gzip-compressed archive, and whether it is compressed.
pub fn first_members(head: &Head) -> Option<(Vec<String>, bool)> {
    let names = |source: &Source| {
        let archive = read_some(source, PROBE_MEMBERS).ok()?;
        let names: Vec<String> = archive.members.into_iter().map(|member| member.name).collect();
        (!names.is_empty()).then_some(names)
    };
    if is_header(&head.first) {
        return names(head.source).map(|names| (names, false));
    }
    if !head.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    let bytes = unzip_first(head);
    if !is_header(&bytes) {
        return None;
    }
    names(&Source::memory(head.source.name(), bytes)).map(|names| (names, true))
}

fn unzip_first(head: &Head) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let packed = std::io::BufReader::with_capacity(64 * 1024, zip::Cursor { source: head.source, at: 0 });
    // A stream that breaks off still gave its first bytes.
    let _ = flate2::bufread::GzDecoder::new(packed).take(PROBE).read_to_end(&mut bytes);
    bytes
}

fn probe(head: &Head) -> Option<Match> {
    if !is_header(&head.first) {
        // A tar cut within its first header is known by its signature alone.
        let signature = head.first.len() < 512 && head.first.get(257..262) == Some(b"ustar");
        return signature
            .then(|| Match::new(score::LIKELY, "it has `ustar` at byte 257; it is cut: the file ends within a header"))
            .flatten();
    }
    let mut evidence = "its first block is a tar header with a right checksum".to_string();
    let archive = read_some(head.source, PROBE_MEMBERS).ok()?;
    if !archive.findings.is_empty() && archive.end.is_none() && archive.members.len() < PROBE_MEMBERS {
        evidence.push_str("; it is cut or broken: the end marker is missing");
    }
    Match::new(score::CERTAIN - 20, evidence)
}

fn probe_nemo(head: &Head) -> Option<Match> {
    let (names, compressed) = first_members(head)?;
    let is = |suffix: &str| names.iter().any(|name| name.ends_with(suffix));
    let weights = is(".ckpt") || names.iter().any(|name| name.contains("model_weights"));
    // In a compressed archive the weights may come first and hide the rest.
    if !(is("model_config.yaml") && (weights || compressed)) && !(weights && is("model_weights.ckpt")) {
        return None;
    }
    let kind = if compressed { "a gzip-compressed tar" } else { "a tar" };
    Match::new(score::CERTAIN, format!("{kind} with the members of a NeMo model ({})", names.join(", ")))
}

fn open(source: &Source) -> Result<Container> {
    read_as(&FORMAT, source)
}

fn open_nemo(source: &Source) -> Result<Container> {
    if source.read_up_to(0, 2)? == [0x1f, 0x8b] {
        let mut draft = Draft::new();
        draft.add(0, source.len(), Kind::Container, "tar, compressed with gzip");
        let mut container = Container::new(&NEMO, draft.finish(source.len()));
        container.facts.push(("compression", "gzip".to_string()));
        if let Some((names, _)) = first_members(&Head::read(source)?) {
            container.facts.push(("first members", names.join(", ")));
        }
        return Ok(container);
    }
    read_as(&NEMO, source)
}

fn read_as(format: &'static Format, source: &Source) -> Result<Container> {
    let mut archive = read(source)?;
    let mut draft = Draft::new();
    archive.claim_structure(source, &mut draft)?;
    for member in &archive.members {
        let kind = zip::kind_of(&member.name);
        draft.add(member.data.start, member.data.end(), kind, format!("member {}", member.name));
    }
    let mut container = Container::new(format, draft.finish(source.len()));
    container.facts.push(("members", archive.members.len().to_string()));
    container.findings = archive.findings.finish();
    Ok(container)
}
