//! Is a file safe to open?
//!
//! [`scan`] looks at a file and at everything within it (`walk.rs`): each piece is identified by its bytes, read
//! by its reader, and shown to every rule family of `walk::LOOKS`. Nothing of it is executed. What the families
//! find becomes a [`Verdict`] (`verdict.rs`). One rule family is one file.

pub(crate) mod archive;
mod arguments;
mod code;
pub(crate) mod config;
mod explain;
pub(crate) mod expression;
pub(crate) mod hdf5;
pub(crate) mod hidden;
mod json;
pub(crate) mod judge;
pub(crate) mod keras;
mod name;
pub(crate) mod packed;
pub(crate) mod pickle;
mod policy;
pub(crate) mod posing;
pub(crate) mod python;
pub(crate) mod secret;
pub(crate) mod skops;
pub(crate) mod template;
pub(crate) mod tensorflow;
pub(crate) mod torchscript;
mod verdict;
pub(crate) mod walk;
mod yaml;

use serde::Serialize;

use crate::container::Format;
use crate::error::Result;
use crate::finding::Finding;
use crate::source::Source;

pub use policy::Policy;
pub use verdict::Verdict;

/// How a scan goes.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What imports and calls are good for.
    pub policy: &'a Policy,
    /// Whether to write out what would run.
    pub explain: bool,
}

/// What loading a piece of a file would run, written out as Python.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// Archive member within the file.
    pub member: Option<String>,
    /// Offset of its first byte in the file, or in the member where one is named.
    pub offset: u64,
    /// The program.
    pub text: String,
}

/// What was found in a file.
#[derive(Debug, Clone)]
pub struct FileScan {
    /// Path as given.
    pub path: String,
    /// Its format.
    pub format: &'static Format,
    /// Whether it is safe to open.
    pub verdict: Verdict,
    /// What is odd, wrong or dangerous.
    pub findings: Vec<Finding>,
    /// What would run; only where it is asked for.
    pub programs: Vec<Program>,
}

/// Scans a file and everything within it. An error only where it cannot be read.
pub fn scan(source: &Source, options: Options) -> Result<FileScan> {
    let mut scanner = walk::Scanner::new(options, source.len());
    let format = scanner.look(&walk::Piece::file(source.clone()))?;
    let findings = scanner.findings.finish();
    let verdict = Verdict::of(&findings);
    Ok(FileScan { path: source.name().to_string(), format, verdict, findings, programs: scanner.programs })
}
