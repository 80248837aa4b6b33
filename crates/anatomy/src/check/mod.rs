//! Is a model whole and consistent? Everything that its files say of each other is compared.

mod groups;
mod index;
mod layout;
mod listed;
mod rules;
mod structure;
pub mod tokenizer;
mod total;

use crate::analysis::{Analysis, norms_missing};
use crate::architecture::{self, Evidence};
use crate::atlas::Atlas;
use crate::finding::{Finding, Rule};

/// The rules of comparing tensors with a blueprint.
pub static STRUCTURE: &[&Rule] = rules::RULES;
/// The rules of comparing an index with its shards.
pub static INDEX: &[&Rule] = index::RULES;

/// What a check found.
#[derive(Debug, Default)]
pub struct Check {
    /// Family whose blueprint the tensors were compared with.
    pub family: Option<String>,
    /// Why they were compared with none.
    pub not_compared: Option<String>,
    /// Tensors and names of the index that the blueprint explains, with what is stored beside them.
    pub explained: usize,
    /// How many names the index lists, where shards are missing and it was the names that were compared.
    pub listed: Option<usize>,
    /// What is odd or wrong.
    pub findings: Vec<Finding>,
}

/// Checks a model: its files for themselves, the tensors against the blueprint of its configuration, the index against
/// the shards.
pub fn check(analysis: &Analysis, atlas: &Atlas) -> Check {
    let model = analysis.model;
    let mut check = Check { findings: model.all_findings(), ..Check::default() };
    index::check(model, &mut check.findings);
    structure::check(analysis, atlas, &mut check);
    check.findings.extend(tokenizer::verify(analysis).findings);
    if check.family.is_none() {
        // Without a blueprint, layers are compared with each other and sizes with the configuration.
        check.findings.extend(norms_missing(analysis));
        let witnesses: Vec<_> =
            analysis.rows.iter().map(|row| (row.tensor.name.as_str(), row.logical_shape(), row.part)).collect();
        let tensors = if model.is_incomplete() { &[] } else { witnesses.as_slice() };
        let gguf = model.gguf().map(|file| &file.container.metadata);
        check.findings.extend(architecture::read(&Evidence { config: model.config.as_ref(), gguf, tensors }).findings);
    }
    check
}
