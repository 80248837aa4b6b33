//! Pickles, wherever they stand.

use super::walk::{Opened, Piece, Scanner};
use crate::container::pickle;
use crate::error::Result;
use crate::finding::{Findings, Rule};

/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[];
/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[];

/// Follows the pickles that a piece begins with.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, _opened: &Opened) -> Result<()> {
    let trace = pickle::run(&piece.source, 0)?;
    let mut findings = Findings::new();
    if trace.opcodes > 3 {
        pickle::report_faults(&trace, None, &mut findings);
    }
    for finding in findings.finish() {
        scanner.report(piece, finding);
    }
    Ok(())
}
