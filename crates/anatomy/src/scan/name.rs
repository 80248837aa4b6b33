//! Names that promise a model where there is none. Most readers say so themselves; of an archive it is only known
//! here that nothing but the name makes it a model.

use super::walk::{Opened, Piece, Scanner};
use crate::container::{text, zip};
use crate::error::Result;
use crate::probe::misnamed_finding;

/// Compares what a file's name promises with what is there.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if piece.depth == 0
        && let Some(finding) = misnamed_finding(opened.format, piece.source.name())
    {
        scanner.report(piece, finding);
    }
    let other_archive = *opened.format == zip::FORMAT && piece.depth == 0;
    if let Some(finding) = text::posing(piece.source.name(), "an archive of other files").filter(|_| other_archive) {
        scanner.report(piece, finding);
    }
    Ok(())
}
