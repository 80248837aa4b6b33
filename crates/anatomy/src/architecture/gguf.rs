//! The architecture as the metadata of a GGUF states it.
//!
//! Key names: `gguf-py/gguf/constants.py` and `llama-arch.cpp` of llama.cpp. That program, when it saves a model
//! itself, writes every key that it knows; 0 then means "not there".

use super::config::scaling;
use super::{Facts, Known, key};
use crate::metadata::{Metadata, Value};

/// The keys of one architecture in a GGUF's metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    metadata: &'a Metadata,
    /// `general.architecture`.
    pub(crate) family: &'a str,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(metadata: &'a Metadata) -> Option<Self> {
        Some(Keys { metadata, family: metadata.text("general.architecture")? })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.metadata.get(&format!("{}.{name}", self.family))
    }

    /// A number that is there and not 0.
    pub(crate) fn unsigned(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64().filter(|number| *number != 0)
    }

    /// The value for one layer, of a key that holds one number for all or a list. 0 is a value here.
    pub(crate) fn of_layer(&self, name: &str, layer: usize) -> Option<u64> {
        match self.get(name)? {
            Value::Array(array) => match array.items.get(layer)? {
                Value::Bool(flag) => Some(u64::from(*flag)),
                value => value.as_u64(),
            },
            value => value.as_u64(),
        }
    }

    pub(crate) fn is_list(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Array(_)))
    }

    /// Keys of next-token-prediction layers, which stand at the end of the block count.
    pub(crate) fn next_token_layers(&self) -> u64 {
        self.unsigned("nextn_predict_layers").unwrap_or(0)
    }

    fn source(&self, name: &str) -> String {
        format!("GGUF: {}.{name}", self.family)
    }

    /// A number; of a list the value that all layers share which have one.
    fn number(&self, name: &str) -> Option<Known<u64>> {
        let number = match self.get(name)? {
            Value::Array(array) => {
                let some = array.items.iter().filter_map(Value::as_u64).find(|number| *number != 0)?;
                let alike = |value: &Value| value.as_u64().is_some_and(|number| number == 0 || number == some);
                array.items.iter().all(alike).then_some(some)?
            }
            value => value.as_u64().filter(|number| *number != 0)?,
        };
        Some(Known::new(number, self.source(name)))
    }
}

/// What the metadata says.
pub(super) fn facts(keys: &Keys) -> Facts {
    let family = Known::new(keys.family.to_string(), "GGUF: general.architecture");
    let mut facts = Facts { family: Some(family), ..Facts::default() };
    // The first Qwen's converter wrote gate and up-projection together; Arctic's dense layers are as wide as the
    // hidden size, and the key is about its experts.
    if let Some(width) = keys.number("feed_forward_length") {
        match keys.family {
            "qwen" => facts.set(key::INTERMEDIATE, Some(Known::new(width.value / 2, format!("{} / 2", width.source)))),
            "arctic" => {
                facts.set(key::INTERMEDIATE, keys.number("embedding_length"));
                facts.set(key::EXPERT_SIZE, Some(width));
            }
            _ => {}
        }
    }
    let next = keys.next_token_layers();
    facts.set(
        key::LAYERS,
        keys.number("block_count").map(|blocks| match blocks.value.checked_sub(next) {
            Some(layers) if next > 0 => Known::new(layers, format!("{} − nextn_predict_layers", blocks.source)),
            _ => blocks,
        }),
    );
    for (key, name) in [
        (key::HIDDEN, "embedding_length"),
        (key::VOCAB, "vocab_size"),
        (key::CONTEXT, "context_length"),
        (key::QUERY_HEADS, "attention.head_count"),
        (key::KV_HEADS, "attention.head_count_kv"),
        (key::HEAD_DIM, "attention.key_length_mla"),
        (key::HEAD_DIM, "attention.key_length"),
        (key::INTERMEDIATE, "feed_forward_length"),
        (key::WINDOW, "attention.sliding_window"),
        (key::EXPERTS, "expert_count"),
        (key::ACTIVE, "expert_used_count"),
        (key::SHARED, "expert_shared_count"),
        (key::EXPERT_SIZE, "expert_feed_forward_length"),
        (key::ROPE_DIMENSION, "rope.dimension_count"),
    ] {
        facts.set(key, keys.number(name));
    }
    if let Some(Value::Array(tokens)) = keys.metadata.get("tokenizer.ggml.tokens") {
        facts.set(key::VOCAB, Some(Known::new(tokens.len, "GGUF: length of tokenizer.ggml.tokens")));
    }
    if let Some(query) = facts.number(key::QUERY_HEADS) {
        if keys.get("attention.head_count_kv").is_none() {
            let source = "GGUF: no attention.head_count_kv, hence as many as query heads";
            facts.set(key::KV_HEADS, Some(Known::assumed(query, source)));
        }
        let divides = facts.number(key::HIDDEN).filter(|hidden| hidden.is_multiple_of(query));
        let source = "GGUF: embedding_length / head_count";
        facts.set(key::HEAD_DIM, divides.map(|hidden| Known::assumed(hidden / query, source)));
    }
    // Mixtral and its like have experts and no other feed-forward network.
    if facts.number(key::EXPERTS).is_some() {
        let only = facts.numbers.get(key::INTERMEDIATE).cloned();
        facts.set(key::EXPERT_SIZE, only.map(|only| Known::assumed(only.value, only.source)));
    }
    facts.theta = keys.get("rope.freq_base").and_then(Value::as_f64).filter(|theta| *theta > 0.0).map(|theta| {
        // Single precision in the file: 10000 and 500000 are exact, and printing must not pretend otherwise.
        Known::new(theta, keys.source("rope.freq_base"))
    });
    if facts.theta.is_some() {
        let head = facts.number(key::HEAD_DIM);
        let source = "GGUF: no rope.dimension_count, for which llama.cpp takes the whole head";
        facts.set(key::ROPE_DIMENSION, head.map(|head| Known::assumed(head, source)));
    }
    let factor = keys.get("rope.scaling.factor").and_then(Value::as_f64).filter(|factor| *factor > 0.0);
    let kind = keys.get("rope.scaling.type").and_then(Value::as_str);
    facts.scaling = match (kind, factor) {
        (Some("longrope" | "su"), _) => Some("longrope"),
        (Some(kind), Some(_)) => Some(kind),
        _ => None,
    }
    .and_then(|kind| scaling(kind, factor, keys.unsigned("rope.scaling.original_context_length")))
    .map(|words| Known::new(words, keys.source("rope.scaling.type")));
    facts
}
