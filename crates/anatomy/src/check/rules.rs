//! What the comparison of tensors, or of their names, with a blueprint can find.

use crate::atlas::Expected;
use crate::finding::{Rule, Severity};
use crate::names::Role;

pub(super) static TENSOR_MISSING: Rule = Rule {
    name: "tensor-missing",
    severity: Severity::Error,
    why: "The configuration asks for a tensor that no file holds. Loaders stop, or initialise it at random and say so \
          in a line that is easily missed.",
    help: "fetch the model again, or use the configuration that belongs to these weights",
};
pub(super) static TENSOR_UNEXPECTED: Rule = Rule {
    name: "tensor-unexpected",
    severity: Severity::Error,
    why: "A tensor follows from no number of the configuration, and is none of the things that checkpoints are known to \
          carry beside their weights. Loaders ignore it or stop.",
    help: "use the configuration that belongs to these weights, or remove the tensor",
};
pub(super) static TENSOR_SHAPE: Rule = Rule {
    name: "tensor-shape",
    severity: Severity::Error,
    why: "A tensor has another shape than the configuration gives it, so it cannot be loaded into the model.",
    help: "use the configuration that belongs to these weights",
};
pub(super) static TENSOR_RENAMED: Rule = Rule {
    name: "tensor-renamed",
    severity: Severity::Error,
    why: "A tensor that the configuration asks for is missing, and one that nothing asks for has its shape. Loaders go \
          by names, so both count as wrong.",
    help: "give the tensor its name back, or load with the program that named it so",
};
pub(super) static FAMILY_UNKNOWN: Rule = Rule {
    name: "family-unknown",
    severity: Severity::Note,
    why: "The atlas does not know this family, so the tensors were compared with each other, but not with what the \
          configuration asks for.",
    help: "describe the family in a file and name it with --atlas",
};
pub(super) static CONFIG_IMPOSSIBLE: Rule = Rule {
    name: "config-impossible",
    severity: Severity::Error,
    why: "The numbers of the configuration cannot be true together, so no program can build the model from them.",
    help: "fetch the configuration again, or correct the number",
};
pub(super) static CONFIG_NUMBER_WRONG: Rule = Rule {
    name: "config-number-wrong",
    severity: Severity::Error,
    why: "One number of the configuration is not that of the weights: with another one every tensor fits. Loaders stop, \
          or build the model that the configuration describes and leave weights unused.",
    help: "fetch configuration and weights from the same place and revision, or correct the number",
};
pub(super) static HEAD_STORED_AGAIN: Rule = Rule {
    name: "head-stored-again",
    severity: Severity::Note,
    why: "The configuration says that the output head is the token embedding, and the file holds a head all the same. \
          Loaders ignore it; it takes room.",
    help: "nothing to do; saving the model again leaves it out",
};
pub(super) static TABLES_STORED: Rule = Rule {
    name: "tables-stored",
    severity: Severity::Note,
    why: "The files hold tables that loaders compute themselves (rotary frequencies, causal masks, position ids), as \
          older versions saved them.",
    help: "nothing to do",
};
pub(super) static NAMES_PREFIXED: Rule = Rule {
    name: "names-prefixed",
    severity: Severity::Warning,
    why: "All names differ from those that the configuration leads to by one prefix, which a wrapper of training added \
          or another class of the same model took off. Some loaders undo that, others find nothing.",
    help: "save the model without its wrapper if a loader finds no weights",
};
pub(super) static VOCABULARY_PADDED: Rule = Rule {
    name: "vocabulary-padded",
    severity: Severity::Note,
    why: "The embedding has some rows more than the configuration states, up to a round number that suits the hardware.",
    help: "nothing to do, unless a loader insists on the stated size",
};

/// All of them.
pub(super) const RULES: &[&Rule] = &[
    &TENSOR_MISSING,
    &TENSOR_UNEXPECTED,
    &TENSOR_SHAPE,
    &TENSOR_RENAMED,
    &FAMILY_UNKNOWN,
    &CONFIG_IMPOSSIBLE,
    &CONFIG_NUMBER_WRONG,
    &HEAD_STORED_AGAIN,
    &TABLES_STORED,
    &NAMES_PREFIXED,
    &VOCABULARY_PADDED,
];

/// Whether a missing tensor is a norm, be it one of a tower.
pub(super) fn is_norm(name: &str, row: &Expected) -> bool {
    row.role == Role::Norm
        || (row.shape.len() == 1 && name.rsplit('.').nth(1).is_some_and(|word| word.contains("norm")))
}
