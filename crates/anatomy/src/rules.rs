//! The register of all rules; `docs/rules.md` is made from it.

use crate::container;
use crate::finding::Rule;

/// Every rule that can fire, grouped by where it lives.
pub static ALL: &[&[&Rule]] = &[
    container::safetensors::RULES,
    container::zip::RULES,
    container::tar::RULES,
    container::pickle::RULES,
    container::torch::RULES,
    container::npy::RULES,
];
