//! The register of all rules; `docs/rules.md` is made from it.

use crate::container;
use crate::finding::Rule;

/// Every rule that can fire, grouped by where it lives.
pub static ALL: &[&[&Rule]] = &[
    crate::analysis::RULES,
    crate::architecture::RULES,
    crate::check::STRUCTURE,
    crate::check::INDEX,
    crate::model::RULES,
    crate::report::RULES,
    crate::tokenizer::RULES,
    container::safetensors::RULES,
    container::gguf::RULES,
    container::gguf_checks::RULES,
    container::onnx::RULES,
    container::ggml::RULES,
    container::hdf5::RULES,
    container::json::RULES,
    container::text::RULES,
    container::zip::RULES,
    container::tar::RULES,
    container::seven_zip::RULES,
    container::pickle::RULES,
    container::torch::RULES,
    container::npy::RULES,
    crate::scan::walk::RULES,
    crate::scan::pickle::RULES,
    crate::scan::judge::RULES,
    crate::scan::archive::RULES,
    crate::scan::packed::RULES,
    crate::scan::hidden::RULES,
    crate::scan::config::RULES,
    crate::scan::python::RULES,
    crate::scan::keras::RULES,
    crate::scan::tensorflow::RULES,
    crate::scan::expression::RULES,
    crate::scan::secret::RULES,
    crate::scan::posing::RULES,
];
