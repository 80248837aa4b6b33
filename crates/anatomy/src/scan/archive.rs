//! Archives: every member is a piece, whatever its name, and whatever two programs may make of it.
//!
//! Where the parts of an archive contradict each other, each reading is looked at: another loader may have it.

use std::collections::HashSet;

use super::walk::{Opened, Piece, Scanner};
use crate::container::zip::{self, Member};
use crate::container::{seven_zip, tar, torch};
use crate::decode::{Decoded, Fault};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::ledger::{Kind, Label};
use crate::tensor::Span;

static POLYGLOT: Rule = Rule {
    name: "scan-polyglot",
    severity: Severity::Error,
    why: "The file is of one format by its first bytes and an archive by its last: two programs read two different \
          things from it, which is how a harmless face hides another.",
    help: "do not trust the file; get it from its author again",
};
static LINK: Rule = Rule {
    name: "scan-archive-link",
    severity: Severity::Error,
    why: "A member of the archive is a symbolic link that leads out of its folder, so that unpacking or reading it \
          reaches other files of the machine.",
    help: "do not unpack the archive",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&POLYGLOT, &LINK];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&LINK, &zip::NAME_UNSAFE, &tar::NAME_UNSAFE, &seven_zip::NAME_UNSAFE];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] =
    &[&POLYGLOT, &zip::BOMB, &zip::LINK, &zip::ENCRYPTED, &tar::SPECIAL, &seven_zip::METHOD];

/// Bytes of a link's target.
const MAX_LINK: u64 = 4096;

/// Looks into an archive.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    match opened.format.id {
        "tar" | "pytorch-tar" => return look_tar(scanner, piece),
        // A compressed one is looked into when it is unpacked.
        "nemo" if !piece.source.read_up_to(0, 2)?.starts_with(&[0x1f, 0x8b]) => return look_tar(scanner, piece),
        "7z" => return look_seven_zip(scanner, piece),
        _ => {}
    }
    if zip::is_archive(&piece.source)? {
        look_zip(scanner, piece, opened)?;
    }
    Ok(())
}

fn look_zip(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let archive = zip::read(&piece.source)?;
    let is_zip = ["zip", "pytorch-zip", "torchscript", "npz", "keras-zip", "llamafile"].contains(&opened.format.id);
    if !is_zip {
        let message = format!("{} by its first bytes, and a zip archive by its last", opened.format.name);
        scanner.report(piece, Finding::new(&POLYGLOT, message).at(archive.base));
        for finding in archive.findings.finish() {
            scanner.report(piece, finding);
        }
    } else if archive.base > 0 && opened.format.id != "llamafile" {
        // What stands before the archive is what a program sees that reads from the first byte.
        scanner.look(&piece.part(0, archive.base))?;
    }
    let mut seen = 0u64;
    let mut known = HashSet::new();
    for member in archive.members.iter().chain(archive.others.iter().flat_map(|other| &other.members)) {
        if member.data.len == 0 || member.local.is_none() && is_weights(opened, member.data) {
            continue;
        }
        if member.link {
            look_link(scanner, piece, member)?;
        }
        // Members that lie over each other are work without end for a few bytes.
        seen = seen.saturating_add(member.data.len);
        if seen > piece.source.len() {
            scanner.spend(member.data.len);
        }
        if scanner.room() == 0 {
            scanner.limit(piece, "members lie over each other so often that the rest is not looked at");
            return Ok(());
        }
        let declared = (member.method, member.data.len);
        for (method, len) in std::iter::once(declared).chain(member.local) {
            if !known.insert((member.data.start, method, len)) {
                continue;
            }
            look_member(scanner, piece, member, method, len)?;
        }
    }
    Ok(())
}

/// Whether the checkpoint's own reader knows these bytes as the weights of a tensor, which no loader unpickles.
fn is_weights(opened: &Opened, span: Span) -> bool {
    let torch = [&torch::archive::FORMAT, &torch::archive::TORCHSCRIPT].contains(&opened.format);
    let Some(container) = opened.container.as_ref().filter(|_| torch) else { return false };
    let ranges = container.ledger.ranges();
    let at = ranges.partition_point(|range| range.end <= span.start);
    ranges.get(at).is_some_and(|range| {
        range.kind == Kind::Tensor
            && range.start == span.start
            && match &range.label {
                Label::Tensor(_) => true,
                Label::Text(text) => text.starts_with("compressed storage"),
            }
    })
}

/// Looks at a member's bytes as one of its headers has them.
fn look_member(scanner: &mut Scanner, piece: &Piece, member: &Member, method: u16, len: u64) -> Result<()> {
    let raw = piece.source.section(member.data.start, len);
    let declared = method == member.method && len == member.data.len;
    match zip::unpack(&raw, method, member.size, scanner.room())? {
        Some(decoded) => {
            if let Some(fault) = zip::check(member, &decoded).filter(|_| declared) {
                scanner.report(piece, fault);
            }
            look_decoded(scanner, piece, &member.name, decoded, &raw, declared)
        }
        None => {
            if declared
                && let Some(fault) = zip::read_member(&piece.source, member, u64::MAX).ok().and_then(|it| it.fault)
            {
                scanner.report(piece, fault);
            }
            // Stored, or packed in a way that is not read here: then what a program sees that ignores the method.
            scanner.look(&piece.inner(&member.name, raw)).map(drop)
        }
    }
}

/// Looks at unpacked bytes, and at what stands behind the packed ones.
fn look_decoded(
    scanner: &mut Scanner,
    piece: &Piece,
    name: &str,
    decoded: Decoded,
    raw: &crate::source::Source,
    declared: bool,
) -> Result<()> {
    let Decoded { bytes, used, fault } = decoded;
    scanner.spend(bytes.len() as u64);
    if fault == Some(Fault::Full) {
        scanner.limit(piece, format!("member {name:?} unpacks to more than there is room for"));
    }
    let nothing = bytes.is_empty();
    let inner = piece.inner(name, crate::source::Source::memory(name, bytes));
    if !nothing {
        scanner.look(&inner)?;
    }
    if declared && fault.is_none() && used < raw.len() {
        scanner.look(&piece.inner(name, raw.section(used, raw.len() - used)))?;
    }
    if fault.is_some_and(|fault| fault != Fault::Full) && nothing {
        // Not packed at all, whatever the method says.
        scanner.look(&piece.inner(name, raw.clone()))?;
    }
    Ok(())
}

fn look_link(scanner: &mut Scanner, piece: &Piece, member: &Member) -> Result<()> {
    let Ok(contents) = zip::read_first(&piece.source, member, MAX_LINK) else { return Ok(()) };
    let target = String::from_utf8_lossy(&contents.read_up_to(0, MAX_LINK)?).into_owned();
    if tar::link_escapes(&member.name, &target, false) {
        let message = format!("member {:?} is a link to {target:?}", member.name);
        scanner.report(piece, Finding::new(&LINK, message).member(&*member.name));
    }
    Ok(())
}

fn look_tar(scanner: &mut Scanner, piece: &Piece) -> Result<()> {
    let archive = tar::read(&piece.source)?;
    for member in archive.members.iter().filter(|member| member.data.len > 0) {
        let source = piece.source.section(member.data.start, member.data.len);
        scanner.look(&piece.inner(&member.name, source))?;
    }
    Ok(())
}

fn look_seven_zip(scanner: &mut Scanner, piece: &Piece) -> Result<()> {
    let archive = seven_zip::read(&piece.source)?;
    for (index, folder) in archive.folders.iter().enumerate() {
        let mut members =
            archive.members.iter().filter(|member| member.place.is_some_and(|(at, _)| at == index)).peekable();
        if members.peek().is_none() || !folder.is_readable() {
            continue;
        }
        let decoded = seven_zip::unpack(&piece.source, folder, scanner.room())?;
        scanner.spend(decoded.bytes.len() as u64);
        match &decoded.fault {
            Some(Fault::Full) => scanner.limit(piece, "members unpack to more than there is room for"),
            Some(fault) => scanner.report(piece, seven_zip::broken(folder, fault.words())),
            None => {}
        }
        for member in members {
            let (bytes, fault) = member.contents(&decoded.bytes);
            if let Some(fault) = fault.filter(|_| decoded.fault.is_none()) {
                scanner.report(piece, fault);
            }
            scanner.look(&piece.inner(&member.name, crate::source::Source::memory(&*member.name, bytes)))?;
        }
    }
    Ok(())
}
