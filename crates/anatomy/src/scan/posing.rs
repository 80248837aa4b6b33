//! Programs under a model's name, or within a model.

use super::walk::{Opened, Piece, Scanner};
use crate::container::text;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static POSING: Rule = Rule {
    name: "scan-program-as-model",
    severity: Severity::Error,
    why: "The name promises a model, but the file is a program. Whoever runs, maps or loads it as native code runs what \
          its author put in.",
    help: "delete the file",
};
static WITHIN: Rule = Rule {
    name: "scan-program-in-archive",
    severity: Severity::Warning,
    why: "An archive holds an executable, a native library or compiled Python. Weights need none; formats that bring their own code run \
          it when they are loaded.",
    help: "find out what it is for before you load the archive",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&POSING, &WITHIN];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&POSING, &WITHIN];

/// Looks whether a piece is a program where a model is promised.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if piece.hidden {
        return Ok(());
    }
    let first = piece.source.read_up_to(0, 64)?;
    let native = match opened.format.id {
        "elf" | "pe" => true,
        "unknown" | "text" => is_macho(&first) || is_bytecode(&first) || first.starts_with(b"#!/"),
        _ => false,
    };
    let source = matches!(opened.format.id, "python" | "notebook");
    match &piece.member {
        None if (native || source) && text::promises_model(piece.source.name()) => {
            let message = format!("{} under the name of a model", opened.format.name);
            scanner.report(piece, Finding::new(&POSING, message).at(0));
        }
        Some(_) if native => {
            scanner.report(piece, Finding::new(&WITHIN, format!("{} within an archive", opened.format.name)).at(0));
        }
        _ => {}
    }
    Ok(())
}

/// Compiled Python (`.pyc`), which imports run without its source.
fn is_bytecode(first: &[u8]) -> bool {
    matches!(first, [_, 0x0c | 0x0d, 0x0d, 0x0a, 0..=3, 0, 0, 0, ..])
}

fn is_macho(first: &[u8]) -> bool {
    matches!(first, [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..])
}
