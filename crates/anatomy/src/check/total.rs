//! The total size that an index states, against the tensors that it lists.

use serde_json::Value as Json;

use super::index::INDEX_SIZE;
use crate::atlas::Expected;
use crate::dtype::{Class, DType};
use crate::finding::{Finding, Findings};
use crate::names::Role;
use crate::tensor::elements;

/// Numbers in the tensors that an index lists.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// In all whose shape is known.
    elements: u128,
    /// In those of them that may share their numbers with others, which some programs then count once.
    shared: u128,
    /// In those of them that some exports keep in F32 beside 16-bit weights: vectors and routers.
    small: u128,
    /// Columns of the tables of the vocabulary, with how many rows one has.
    vocabulary: (u128, u64),
    /// The most that tables which loaders compute may take, in bytes: neither their shapes nor their types are known.
    tables: u128,
    /// Whether nothing can be said: packed weights, or names of unknown size.
    pub(super) open: bool,
}

impl Sum {
    /// Counts a table that loaders compute.
    pub(super) fn add_table(&mut self, name: &str, config: Option<&Json>) {
        self.tables = self.tables.saturating_add(table_bytes(name, config));
    }

    /// Counts a head that is the embedding.
    pub(super) fn add_tied(&mut self, embedding: &Expected) {
        self.add(embedding);
        self.shared += u128::from(elements(&embedding.shape));
    }

    /// Counts one tensor of a row.
    pub(super) fn add(&mut self, row: &Expected) {
        let count = u128::from(elements(&row.shape));
        // Whole numbers keep their own type, mostly one of 8 bytes.
        if row.integers {
            self.tables = self.tables.saturating_add(count.saturating_mul(8));
            return;
        }
        self.elements += count;
        if row.optional.is_some() {
            self.shared += count;
        }
        if row.shape.len() < 2 || row.buffer || matches!(row.role, Role::Norm | Role::Router) {
            self.small += count;
        }
        if let (Role::Embedding | Role::Head, [rows, columns]) = (row.role, &*row.shape)
            && *rows >= self.vocabulary.1
        {
            let others = if *rows == self.vocabulary.1 { self.vocabulary.0 } else { 0 };
            self.vocabulary = (others + u128::from(*columns), *rows);
        }
    }
}

/// The most bytes of a table of this name.
fn table_bytes(name: &str, config: Option<&Json>) -> u128 {
    let number = |key: &&str| config?.get(*key)?.as_u64();
    let lengths = ["max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_sequence_length"];
    let length = u128::from(lengths.iter().find_map(number).unwrap_or(8192));
    let last = name.rsplit('.').next().unwrap_or(name);
    // A mask has a row for each position; of frequencies there is one for each pair of a head's numbers.
    let numbers = match last {
        "inv_freq" | "original_inv_freq" | "masked_bias" | "num_batches_tracked" => 1 << 10,
        "position_ids" | "token_type_ids" => 2 * length,
        "bias" | "causal_mask" | "attn_mask" | "attention_mask" => length.saturating_mul(length),
        _ => length.saturating_mul(1 << 10),
    };
    numbers.saturating_mul(4)
}

/// Whether the weights of a model are stored packed, by its configuration.
fn is_packed(config: &Json) -> bool {
    let parts = [Some(config), config.get("text_config"), config.get("llm_config")];
    let keys = ["quantization_config", "quantization", "compression_config", "quantization_bit"];
    parts.into_iter().flatten().any(|part| {
        keys.iter().any(|key| part.get(key).is_some_and(|value| !value.is_null() && value.as_u64() != Some(0)))
    })
}

/// The type that a configuration states, for itself or for its language model.
fn stated_type(config: &Json) -> Option<DType> {
    let parts = ["text_config", "llm_config", "language_config"].iter().filter_map(|key| config.get(key));
    let name = [config]
        .into_iter()
        .chain(parts)
        .find_map(|part| ["torch_dtype", "dtype"].iter().find_map(|key| part.get(key)?.as_str()))?;
    DType::named(name.trim_start_matches("torch.")).filter(|dtype| dtype.class() == Class::Float)
}

/// Tells where the stated total is not that of the tensors.
pub(super) fn check(stated: f64, sum: &Sum, names: usize, config: &Json, file: &str, findings: &mut Findings) {
    let mut tell = |message: String| findings.push(Finding::new(&INDEX_SIZE, message).file(file));
    if stated <= 0.0 {
        tell(format!("the index states a total of {stated} bytes, though it lists {names} names"));
        return;
    }
    if sum.open || sum.elements == 0 || is_packed(config) {
        return;
    }
    let Some(dtype) = stated_type(config) else { return };
    let width = u128::from(dtype.block_bytes());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and a float saturates")]
    let total = stated as u128;
    let agrees = |width: u128| {
        [sum.elements, sum.elements - sum.shared.min(sum.elements)].into_iter().any(|elements| {
            let least = elements * width;
            let most = least + sum.small * 4u128.saturating_sub(width) + sum.tables;
            (least..=most).contains(&total)
        })
    };
    if agrees(width) {
        return;
    }
    let ours = sum.elements * width;
    let name = dtype.name();
    let others = [(DType::F32, 4), (DType::BF16, 2), (DType::F64, 8), (DType::F8_E4M3, 1)];
    let other = others.into_iter().find(|(_, other)| *other != width && sum.elements * other == total);
    let off = total.abs_diff(ours);
    let per_row = sum.vocabulary.0 * width;
    let rows = if per_row > 0 && total > ours && off.is_multiple_of(per_row) { off / per_row } else { 0 };
    let padded = u128::from(sum.vocabulary.1) + rows;
    let shown = total;
    if let Some((other, _)) = other {
        let other = other.name();
        tell(format!("the index states {shown} bytes: those of {other}, not of {name} as the configuration says"));
    } else if (1..1024).contains(&rows) && padded.is_multiple_of(64) {
        tell(format!(
            "the index states {shown} bytes, {off} more than the configuration leads to: a vocabulary of {padded} rows \
             instead of {} would explain them",
            sum.vocabulary.1
        ));
    } else {
        let more = if total > ours { "more" } else { "less" };
        tell(format!("the index states {shown} bytes, {off} {more} than the listed tensors have in {name}"));
    }
}
