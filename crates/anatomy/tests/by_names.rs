//! From names and shapes alone: every dimension that they settle, for every causal checkpoint of the reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[allow(dead_code, reason = "totals are for another test")]
mod blueprints;

use anatomy::architecture::{self, Architecture, Evidence, Witness};
use anatomy::names;
use blueprints::{Case, cases};
use serde_json::Value as Json;

/// What names and shapes do not settle, or settle otherwise than the configuration counts.
const OPEN: &[(&str, &str, &str)] = &[
    ("axk2", "heads", "queries are as wide as heads and gates together"),
    ("cpmant", "vocabulary", "prompts are further rows of the embedding, which is the head"),
    ("dots3_note", "heads", "the rotated part of keys has a norm of its own, and layers differ"),
    ("dots3_note_text", "heads", "the rotated part of keys has a norm of its own, and layers differ"),
    ("hrm_text", "layers", "it runs its stacks in circles"),
    ("jetmoe", "heads", "each expert has queries of its own"),
    ("lfm2", "width", "the configuration states a width that the class changes"),
    ("moshi", "width", "the configuration states gate and up-projection together"),
    ("recurrent_gemma", "width", "the configuration states gate and up-projection together"),
];

fn seen(case: &Case) -> Architecture {
    let tensors = case.tensors();
    let parts = names::parse_all(tensors.keys().map(String::as_str));
    let witnesses: Vec<Witness> =
        tensors.iter().zip(parts).map(|((name, shape), part)| (name.as_str(), *shape, part)).collect();
    let mut architecture = architecture::read(&Evidence { config: None, gguf: None, tensors: &witnesses });
    architecture.settle_tied(&witnesses);
    architecture
}

#[test]
fn dimensions_that_shapes_settle_are_right() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases().iter().filter(|case| case.set == "tiny" && !case.name.contains("__")) {
        let config = match case.config.get("text_config") {
            Some(inner) if inner.is_object() => inner,
            _ => &case.config,
        };
        let stated = |keys: &[&str]| keys.iter().find_map(|key| config.get(*key).and_then(Json::as_u64));
        let found = seen(case);
        let attention = &found.attention;
        let mut differ = |what: &str, found: Option<u64>, truth: Option<u64>| {
            let Some(truth) = truth else { return };
            compared += 1;
            if found != Some(truth) && !OPEN.iter().any(|(name, open, _)| *name == case.name && *open == what) {
                wrong.push(format!("{}: {what} is {found:?}, not {truth}", case.name));
            }
        };
        differ("layers", found.layers, stated(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"]));
        differ("hidden", found.hidden_size, stated(&["hidden_size", "n_embd", "d_model"]));
        differ("vocabulary", found.vocab_size, stated(&["vocab_size"]));
        if found.feed_forward.intermediate_size.is_some() {
            let width = stated(&["intermediate_size", "ffn_dim", "dim_ff", "d_ff"]);
            differ("width", found.feed_forward.intermediate_size, width);
        }
        if let Some(experts) = found.experts.as_ref().and_then(|experts| experts.count) {
            let count = stated(&["n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts"]);
            differ("experts", Some(experts), count);
        }
        // A latent has as many key heads as query heads, whatever the configuration repeats.
        let heads = stated(&["num_attention_heads", "n_head", "n_heads"]);
        let either = |settled: Option<u64>, candidates: &[u64]| -> Vec<u64> {
            settled.into_iter().chain(candidates.iter().copied()).collect()
        };
        if let Some(truth) = heads.filter(|_| found.attention.kind.is_some() && attention.kind != Some("none")) {
            let all = either(attention.query_heads, &attention.query_heads_candidates);
            differ("heads", all.iter().copied().find(|heads| *heads == truth), Some(truth));
        }
        let kv = stated(&["num_key_value_heads"]);
        if let Some(truth) = kv.filter(|_| found.attention.kind.is_some() && attention.kind != Some("none")) {
            let all = either(attention.kv_heads, &attention.kv_heads_candidates);
            differ("heads", all.iter().copied().find(|heads| *heads == truth), Some(truth));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 850, "only {compared}");
}

/// Tying shows in that no head is stored, or nothing of it but its bias.
#[test]
fn tied_embeddings_show_in_what_is_stored() {
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.set == "tiny" && !case.name.contains("__")) {
        let Some(tied) = case.config.get("tie_word_embeddings").and_then(Json::as_bool) else { continue };
        let found = seen(case).tied_embeddings;
        // Some libraries' files store a head that the configuration ties; names cannot know.
        if found.map_or(tied, |found| found && !tied) {
            wrong.push(format!("{}: {found:?}, not {tied}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
