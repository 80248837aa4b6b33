//! Archives: every member is a piece, whatever its name.

use super::walk::{Opened, Piece, Scanner};
use crate::container::zip::{self, Member};
use crate::container::{tar, torch};
use crate::error::{ErrorKind, Result};
use crate::finding::Rule;
use crate::ledger::{Kind, Label};
use crate::tensor::Span;

/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[];

/// Looks into an archive.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if matches!(opened.format.id, "tar" | "nemo" | "pytorch-tar") {
        return look_tar(scanner, piece);
    }
    let first = piece.source.read_up_to(0, 4)?;
    match zip::list(&piece.source, &first)? {
        Some(_) => look_zip(scanner, piece, opened),
        None => Ok(()),
    }
}

fn look_zip(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let archive = zip::read(&piece.source)?;
    for member in &archive.members {
        if member.data.len == 0 || is_weights(opened, member.data) {
            continue;
        }
        if let Some(inner) = unpack(scanner, piece, member)? {
            scanner.look(&inner)?;
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

/// A member's bytes, as far as the room allows.
fn unpack(scanner: &mut Scanner, piece: &Piece, member: &Member) -> Result<Option<Piece>> {
    match zip::read_member(&piece.source, member, scanner.room()) {
        Ok(contents) => {
            if member.method != zip::STORED {
                scanner.spend(contents.source.len());
            }
            if let Some(fault) = contents.fault {
                scanner.report(piece, fault);
            }
            Ok(Some(piece.inner(&member.name, contents.source)))
        }
        Err(error) if error.kind() == ErrorKind::Limit => {
            scanner.limit(piece, error.message());
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

fn look_tar(scanner: &mut Scanner, piece: &Piece) -> Result<()> {
    let archive = tar::read(&piece.source)?;
    for member in &archive.members {
        let source = piece.source.section(member.data.start, member.data.len);
        scanner.look(&piece.inner(&member.name, source))?;
    }
    Ok(())
}
