//! The tokenizer that a GGUF carries, and the choice between it and files beside the weights.

use std::collections::BTreeMap;

use super::{Special, TokenizerSummary, summarise};
use crate::container::{Container, gguf};
use crate::metadata::Value;
use crate::model::Model;
use crate::source::Source;

/// Sums up the tokenizer of a model: the one within a GGUF, else from the files beside the weights.
pub fn of_model(model: &Model) -> Option<TokenizerSummary> {
    let within = model.gguf().and_then(|file| from_gguf(&file.path, &file.source, &file.container));
    within.or_else(|| {
        let files = model.files.iter().filter(|file| file.container.tensors.is_empty());
        summarise(files.map(|file| (file.path.as_str(), &file.source)))
    })
}

/// The tokenizer that a GGUF carries (keys of ggml's `docs/gguf.md`).
fn from_gguf(name: &str, source: &Source, container: &Container) -> Option<TokenizerSummary> {
    const IDS: [(&str, &str); 8] = [
        ("bos", "tokenizer.ggml.bos_token_id"),
        ("eos", "tokenizer.ggml.eos_token_id"),
        ("unk", "tokenizer.ggml.unknown_token_id"),
        ("pad", "tokenizer.ggml.padding_token_id"),
        ("cls", "tokenizer.ggml.cls_token_id"),
        // The key is misspelt in llama.cpp itself; newer files spell it right.
        ("sep", "tokenizer.ggml.seperator_token_id"),
        ("sep", "tokenizer.ggml.separator_token_id"),
        ("mask", "tokenizer.ggml.mask_token_id"),
    ];
    let metadata = &container.metadata;
    let model = match metadata.text("tokenizer.ggml.model").filter(|model| !matches!(*model, "none" | "no_vocab"))? {
        "gpt2" => "bpe",
        "llama" => "sentencepiece",
        "bert" => "wordpiece",
        "t5" => "unigram",
        other => other,
    };
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(Value::as_array);
    let count = tokens.map_or(0, |tokens| tokens.len);
    let ids: Vec<(&str, u64)> = IDS.iter().filter_map(|(role, key)| Some((*role, metadata.unsigned(key)?))).collect();
    let wanted: Vec<u64> = ids.iter().map(|(_, id)| *id).collect();
    let texts = tokens.and_then(|tokens| gguf::text_items(source, container, tokens, &wanted).ok()).unwrap_or_default();
    let mut special_tokens = BTreeMap::new();
    for (index, (role, id)) in ids.iter().enumerate() {
        let token = texts.get(index).cloned().flatten();
        special_tokens.insert(*role, Special { token, id: Some(*id) });
    }
    Some(TokenizerSummary {
        kind: "gguf",
        model: model.to_string(),
        vocab_size: count,
        merges: metadata.get("tokenizer.ggml.merges").and_then(Value::as_array).map(|merges| merges.len),
        added_tokens: 0,
        special_tokens,
        chat_template: metadata.get("tokenizer.chat_template").is_some(),
        max_id: count.checked_sub(1),
        source: name.to_string(),
        problem: None,
    })
}
