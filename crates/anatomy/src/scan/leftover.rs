//! Bytes that a format does not explain: each run of them is a piece of its own.

use super::walk::{Opened, Piece, Scanner};
use crate::container::pickle;
use crate::error::Result;
use crate::ledger::Kind;

/// Runs of bytes that are looked at; after so many the file itself is broken enough.
const MAX_RUNS: usize = 256;

/// Looks at what the ledger calls unexplained.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let Some(container) = &opened.container else { return Ok(()) };
    // What follows a pickle is looked at where the pickle is followed.
    if *opened.format == pickle::FORMAT || *opened.format == pickle::JOBLIB {
        return Ok(());
    }
    let len = piece.source.len();
    let unexplained = container.ledger.ranges().iter().filter(|range| range.kind == Kind::Unexplained);
    for range in unexplained.take(MAX_RUNS) {
        if range.end - range.start < len {
            scanner.look(&piece.part(range.start, range.end - range.start))?;
        }
    }
    Ok(())
}
