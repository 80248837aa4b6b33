//! Names that promise a model where there is none.

use super::walk::{Opened, Piece, Scanner};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::probe;

static NO_MODEL: Rule = Rule {
    name: "scan-no-model",
    severity: Severity::Error,
    why: "The name promises a model, but the bytes are none: the file is empty, a pointer to a file that was not \
          downloaded, an error page, or something unknown.",
    help: "download the file again; of a pointer, with `git lfs pull`",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&NO_MODEL];

/// Formats of which a name that promises a model must not be.
const NO_MODELS: [&str; 6] = ["empty", "git-lfs-pointer", "html", "unknown", "zip", "text"];
/// Formats whose names promise no model.
const NOT_PROMISED: [&str; 20] = [
    "zip",
    "tar",
    "gzip",
    "zstd",
    "xz",
    "bzip2",
    "7z",
    "html",
    "text",
    "python",
    "json",
    "config-json",
    "notebook",
    "elf",
    "pe",
    "tokenizer-json",
    "tekken",
    "tiktoken",
    "empty",
    "unknown",
];

/// Compares what the name promises with what is there.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if !NO_MODELS.contains(&opened.format.id) {
        return Ok(());
    }
    let Some(extension) = probe::extension(&piece.name) else { return Ok(()) };
    let promised = |format: &&crate::container::Format| {
        !NOT_PROMISED.contains(&format.id) && format.extensions.contains(&extension.as_str())
    };
    if let Some(format) = probe::FORMATS.iter().copied().find(promised) {
        let message = format!("`.{extension}` promises {}, but this is: {}", format.name, opened.format.name);
        scanner.report(piece, Finding::new(&NO_MODEL, message));
    }
    Ok(())
}
