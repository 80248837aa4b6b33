//! The register of all rules; `docs/rules.md` is made from it.

use crate::container;
use crate::finding::Rule;

/// Every rule that can fire, grouped by where it lives.
pub static ALL: &[&[&Rule]] =
    &[crate::architecture::RULES, container::safetensors::RULES, container::gguf::RULES, crate::model::RULES];
