//! The architecture against what transformers and llama.cpp themselves make of configurations, metadata and tensors.
//!
//! The data are made by `tools/architecture-data.py`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests, outside of a test function")]

use std::collections::BTreeMap;
use std::io::Read;

use anatomy::architecture::{Architecture, Evidence, active_parameters, read, routed_experts};
use anatomy::cache::{Layer, Reach, Store};
use anatomy::metadata::{Array, Entry, Metadata, Value};
use anatomy::names::parse_all;
use anatomy::tensor::{Span, elements};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const NOWHERE: Span = Span { start: 0, len: 0 };

struct Row {
    id: String,
    source: String,
    config: Option<Json>,
    metadata: Option<Metadata>,
    tensors: Vec<(String, Vec<u64>)>,
    /// Bytes per token in the reference's cache.
    growth: Option<f64>,
    element: u64,
    active: Option<u64>,
}

impl Row {
    fn read(&self, with_declarations: bool, with_tensors: bool) -> Architecture {
        let parts = parse_all(self.tensors.iter().map(|(name, _)| name.as_str()));
        let tensors: Vec<_> = self
            .tensors
            .iter()
            .zip(parts)
            .map(|((name, shape), part)| (name.as_str(), shape.as_slice(), part))
            .collect();
        read(&Evidence {
            config: self.config.as_ref().filter(|_| with_declarations),
            gguf: self.metadata.as_ref().filter(|_| with_declarations),
            tensors: if with_tensors { &tensors } else { &[] },
        })
    }
}

fn metadata_value(json: &Json) -> Value {
    match json {
        Json::Null | Json::Object(_) => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::Unsigned(number),
            (_, Some(number)) => Value::Signed(number),
            _ => Value::Float(number.as_f64().unwrap()),
        },
        Json::Array(items) => Value::Array(Array {
            element: "any",
            len: items.len() as u64,
            span: NOWHERE,
            items: items.iter().map(metadata_value).collect(),
        }),
    }
}

fn metadata(json: &Json) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in json.as_object().unwrap() {
        metadata.push(Entry { key: key.clone(), kind: "any", value: metadata_value(value), span: NOWHERE });
    }
    metadata
}

fn rows() -> Vec<Row> {
    let mut text = String::new();
    let bytes: &[u8] = include_bytes!("data/architecture.jsonl.gz");
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    let row = |line: &str| {
        let json: Json = serde_json::from_str(line).unwrap();
        let shape = |shape: &Json| shape.as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect();
        let tensors = json["tensors"].as_object().into_iter().flatten();
        Row {
            id: json["id"].as_str().unwrap().to_string(),
            source: json["source"].as_str().unwrap().to_string(),
            config: json.get("config").cloned(),
            metadata: json.get("metadata").map(metadata),
            tensors: tensors.map(|(name, sizes)| (name.clone(), shape(sizes))).collect(),
            growth: json["growth"].as_f64(),
            element: json["element"].as_u64().unwrap_or(2),
            active: json["active"].as_u64(),
        }
    };
    text.lines().map(row).collect()
}

/// Bytes per token once every window is full.
fn growth(architecture: &Architecture, element: u64) -> Option<f64> {
    let layers = &architecture.cache.layers;
    // Groups of past tokens grow in steps; the tests of memory compare them.
    if layers.iter().any(|layer| matches!(layer.store, Store::Compressed(_))) {
        return None;
    }
    // llama.cpp stores values beside some indexers' keys, which nobody reads.
    let unread = |layer: &Layer| match layer.store {
        Store::KeyValue { value, .. } if layer.indexer_values && layer.indexer > 0 => value,
        _ => 0,
    };
    let growing = layers.iter().filter(|layer| layer.reach == Reach::All);
    (!layers.is_empty()).then(|| (growing.map(|layer| layer.per_token() + unread(layer)).sum::<u64>() * element) as f64)
}

/// Compares growth over all rows of a source; what differs must be expected.
fn compare_growth(source: &str, unknown: &[&str], other: &[(&str, f64)]) -> usize {
    let mut agree = 0;
    for row in rows().iter().filter(|row| row.source == source) {
        let Some(expected) = row.growth else { continue };
        let id = row.id.as_str();
        match growth(&row.read(true, false), row.element) {
            None => assert!(unknown.contains(&id), "{id} is unknown"),
            Some(found) => match other.iter().find(|(name, _)| *name == id) {
                Some((_, known)) => assert_eq!(found, *known, "{id}"),
                None => {
                    assert_eq!(found, expected, "{id}");
                    agree += 1;
                }
            },
        }
    }
    agree
}

#[test]
fn caches_grow_as_in_transformers() {
    // DeepSeek-V4 grows by groups. The first indexed layer of Qwen4-exp caches three 8-byte positions per token beside
    // its numbers, and Reformer the buckets of its hashes, which the library's sums include.
    let unknown = ["deepseek_v4"];
    let other = [("qwen4_exp", 656.0), ("qwen4_exp_text", 656.0), ("reformer", 1024.0)];
    assert_eq!(compare_growth("tiny", &unknown, &other), 179);
}

#[test]
fn caches_grow_as_in_llama_cpp() {
    // The chunk of Llama 4 is 8192 tokens, longer than the shorter of the two contexts.
    assert_eq!(compare_growth("gguf", &["deepseek4-moe.gguf"], &[("llama4-moe.gguf", 2048.0)]), 114);
}

#[test]
fn caches_of_well_known_models() {
    let rows = rows();
    let summary = |id: &str| {
        let architecture = rows.iter().find(|row| row.id == id).unwrap().read(true, false);
        let summary = architecture.cache.summary(architecture.context_length);
        (summary.bytes_per_token.unwrap(), summary.savings_vs_mha.unwrap())
    };
    assert_eq!(summary("Llama-3.1-8B"), (131_072, 0.75));
    // 61 layers of 512 + 64 numbers, against 128 heads of 192 + 128.
    assert_eq!(summary("DeepSeek-V3"), (70_272, 1.0 - 576.0 / 40_960.0));
    assert_eq!(summary("deepseek-v3-671b-q4k.gguf"), summary("DeepSeek-V3"));
    // 10 of 62 layers see everything.
    assert_eq!(summary("gemma-3-27b-pt"), (10 * 2 * 16 * 128 * 2, 0.5));
    assert_eq!(summary("gemma3-27b-q4k.gguf"), summary("gemma-3-27b-pt"));
    assert_eq!(summary("gpt-oss-20b"), (12 * 2 * 8 * 64 * 2, 0.875));
    assert_eq!(summary("gpt-oss-20b-mxfp4.gguf"), summary("gpt-oss-20b"));
    assert_eq!(summary("Qwen3-Next-80B-A3B"), (12 * 2 * 2 * 256 * 2, 0.875));
    assert_eq!(summary("Llama-4-Scout-17B-16E"), (12 * 2 * 8 * 128 * 2, 0.8));
    assert_eq!(summary("Kimi-Linear-48B-A3B").0, 7 * 576 * 2);
    assert_eq!(summary("falcon-7b").0, 32 * 2 * 64 * 2);
}

#[test]
fn latent_and_recurrent_layers_have_their_sizes() {
    let rows = rows();
    let cache = |id: &str| rows.iter().find(|row| row.id == id).unwrap().read(true, false).cache;
    assert_eq!(cache("DeepSeek-V3").layers[0].store, Store::Latent { rank: 512, rotated: 64 });
    let state = cache("Qwen3-Next-80B-A3B").layers[0].state.unwrap();
    assert_eq!((state.recurrent, state.channels, state.kernel), (32 * 128 * 128, 8192, 4));
    let state = cache("mamba-2.8b-hf").layers[0].state.unwrap();
    assert_eq!((state.recurrent, state.channels, state.kernel), (5120 * 16, 5120, 4));
    assert_eq!(cache("mamba-2.8b-q4k.gguf").layers[0].state, Some(state));
    assert!(cache("bert-base-uncased").layers.iter().all(|layer| layer.store == Store::Nothing));
}

/// A number of an architecture, by its path in the JSON document.
fn at<'a>(document: &'a Json, path: &str) -> &'a Json {
    document.pointer(path).unwrap_or(&Json::Null)
}

#[test]
fn names_and_shapes_alone_agree_with_what_is_declared() {
    // What the tensors really are, where that is another number than the configuration's.
    let differ = [
        // Rows for further tokens (prompts, images, audio padding).
        ("cpmant", "/vocab_size"),
        ("mllama", "/vocab_size"),
        ("moshi", "/vocab_size"),
        ("musicgen", "/vocab_size"),
        ("musicgen_melody", "/vocab_size"),
        // Two layers, which are run many times.
        ("hrm_text", "/layers"),
        // The library's class stores two experts more than the configuration routes to.
        ("longcat_flash", "/experts/count"),
    ];
    // For each number: rows that agree, or are silent.
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in rows().iter().filter(|row| !row.tensors.is_empty()) {
        let seen = serde_json::to_value(row.read(false, true)).unwrap();
        let declared = serde_json::to_value(row.read(true, false)).unwrap();
        for path in [
            "/layers",
            "/hidden_size",
            "/vocab_size",
            "/attention/query_heads",
            "/attention/kv_heads",
            "/attention/head_dim",
            "/feed_forward/intermediate_size",
            "/experts/count",
        ] {
            let (seen_value, declared_value) = (at(&seen, path), at(&declared, path));
            let count = counts.entry(path).or_default();
            if declared_value.is_null() {
                continue;
            }
            if seen_value.is_null() {
                count.1 += 1;
                // What is left open must at least be possible, where head sizes are not as odd as in tiny models.
                let candidates = at(&seen, &format!("{path}_candidates")).as_array();
                let usual = row.source != "tiny";
                assert!(!usual || candidates.is_none_or(|all| all.contains(declared_value)), "{} {path}", row.id);
            } else if !differ.contains(&(row.id.as_str(), path)) {
                assert_eq!(seen_value, declared_value, "{} {path}", row.id);
                count.0 += 1;
            }
        }
    }
    // At least so many agree; the rest is left open, mostly head sizes that rows alone do not tell.
    for (path, least) in [
        ("/layers", 344),
        ("/hidden_size", 344),
        ("/vocab_size", 339),
        ("/attention/query_heads", 115),
        ("/attention/kv_heads", 95),
        ("/attention/head_dim", 115),
        ("/feed_forward/intermediate_size", 260),
        ("/experts/count", 100),
    ] {
        assert!(counts[path].0 >= least, "{path}: {:?}", counts[path]);
    }
}

#[test]
fn tensors_and_declarations_that_belong_together_raise_no_finding() {
    for row in rows().iter().filter(|row| !row.tensors.is_empty() && row.id != "longcat_flash") {
        let findings = row.read(true, true).findings;
        assert!(findings.is_empty(), "{}: {findings:?}", row.id);
    }
}

#[test]
fn every_configuration_is_read() {
    let mut layers = 0;
    for row in rows() {
        let architecture = row.read(true, false);
        assert!(architecture.family.is_some(), "{}", row.id);
        layers += usize::from(architecture.layers.is_some());
    }
    assert!(layers > 600, "{layers}");
}

#[test]
fn active_parameters_are_counted_exactly() {
    let mut checked = 0;
    for row in rows().iter().filter(|row| row.active.is_some()) {
        let parts = parse_all(row.tensors.iter().map(|(name, _)| name.as_str()));
        let tensors: Vec<_> = row
            .tensors
            .iter()
            .zip(parts)
            .map(|((name, shape), part)| (name.as_str(), shape.as_slice(), part))
            .collect();
        let total = tensors.iter().map(|(_, shape, _)| elements(shape)).sum();
        let experts = row.read(true, true).experts.unwrap();
        let routed = routed_experts(&tensors, experts.count);
        assert_eq!(active_parameters(total, &routed, experts.active.unwrap()), row.active, "{}", row.id);
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
    assert_eq!(active_parameters(100, &[(0, 0)], 1), None);
    assert_eq!(active_parameters(u64::MAX, &[(u64::MAX - 1, 2)], u64::MAX), Some(u64::MAX));
    assert_eq!(active_parameters(1, &[(100, 2)], 1), None);
}

fn of_config(config: &Json) -> Architecture {
    read(&Evidence { config: Some(config), ..Evidence::default() })
}

#[test]
fn rope_in_its_old_and_new_forms() {
    let rope = |config: Json| of_config(&config).rope.unwrap();
    let sizes = json!({"hidden_size": 4096, "num_attention_heads": 32});
    let with = |more: Json| {
        let mut config = sizes.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let old = rope(with(json!({"rope_theta": 500000.0, "rope_scaling":
        {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}})));
    assert_eq!((old.theta, old.dimension), (Some(500_000.0), Some(128)));
    assert_eq!(old.scaling.as_deref(), Some("llama3, factor 8, from 8192 tokens"));
    let new = rope(with(json!({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0,
        "original_max_position_embeddings": 8192}})));
    assert_eq!(new, old);
    let kinds = rope(with(json!({"rope_parameters": {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0, "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}})));
    assert_eq!(
        (kinds.theta, kinds.dimension, kinds.scaling.as_deref()),
        (Some(1e6), Some(32), Some("linear, factor 8"))
    );
    assert_eq!(rope(with(json!({"rotary_pct": 0.25, "rotary_emb_base": 10000}))).dimension, Some(32));
    assert_eq!(rope(with(json!({"rope_theta": 1e4, "rope_scaling": {"type": "default"}}))).scaling, None);
    assert_eq!(of_config(&sizes).rope, None);
}

#[test]
fn windows_are_on_and_off_as_the_keys_say() {
    let words = |config: Json| {
        let cache = of_config(&config).cache;
        cache.layers.iter().map(|layer| layer.word()).collect::<Vec<_>>()
    };
    let with = |more: Json| {
        let mut config =
            json!({"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "sliding_window": 16});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    assert_eq!(words(with(json!({}))), ["sliding"; 4]);
    assert_eq!(words(with(json!({"sliding_window": null}))), ["full"; 4]);
    assert_eq!(words(with(json!({"use_sliding_window": false}))), ["full"; 4]);
    let qwen = json!({"use_sliding_window": true, "max_window_layers": 3});
    assert_eq!(words(with(qwen)), ["full", "full", "full", "sliding"]);
    assert_eq!(words(with(json!({"sliding_window_pattern": 2}))), ["sliding", "full", "sliding", "full"]);
    assert_eq!(words(with(json!({"model_type": "gemma2"}))), ["sliding", "full", "sliding", "full"]);
    assert_eq!(words(with(json!({"sliding_window_pattern": "LG"}))), ["sliding", "full", "sliding", "full"]);
    let shared = json!({"num_kv_shared_layers": 1});
    assert_eq!(words(with(shared)), ["sliding", "sliding", "sliding", "shared"]);
    let listed = json!({"layer_types": ["mamba", "hybrid", "moe", "chunked_attention"]});
    assert_eq!(words(with(listed)), ["recurrent", "full+recurrent", "none", "sliding"]);
}

#[test]
fn deepseek_without_latent_attention_keeps_keys_and_values() {
    // DeepSeek-OCR's language model: the keys of latent attention are there, and say that it is off.
    let architecture = of_config(&json!({"model_type": "deepseek_vl_v2", "language_config": {"num_hidden_layers": 12,
        "hidden_size": 1280, "num_attention_heads": 10, "num_key_value_heads": 10, "use_mla": false,
        "kv_lora_rank": null, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0}}));
    assert_eq!(architecture.attention.kind, Some("mha"));
    assert_eq!(architecture.cache.summary(None).bytes_per_token, Some(12 * 10 * (128 + 128) * 2));
}

#[test]
fn mistral_and_meta_have_keys_of_their_own() {
    let architecture =
        of_config(&json!({"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32,
        "n_kv_heads": 8, "rope_theta": 1e6, "vocab_size": 32768, "moe": {"num_experts_per_tok": 2, "num_experts": 8}}));
    assert_eq!((architecture.layers, architecture.hidden_size), (Some(32), Some(4096)));
    assert_eq!(architecture.experts.as_ref().map(|experts| (experts.count, experts.active)), Some((Some(8), Some(2))));
    assert_eq!(architecture.evidence["layers"], "params.json: n_layers");
    assert_eq!(architecture.cache.summary(None).bytes_per_token, Some(131_072));
}

#[test]
fn a_layer_of_unknown_kind_makes_the_cache_unknown() {
    let config = json!({"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
        "layer_types": ["full_attention", "telepathy"]});
    let architecture = of_config(&config);
    let summary = architecture.cache.summary(architecture.context_length);
    assert_eq!((summary.bytes_per_token, summary.savings_vs_mha), (None, None));
    assert!(summary.unknown.unwrap().contains("telepathy"));
}

#[test]
fn measured_sizes_win_and_the_contradiction_is_found() {
    let row = rows().into_iter().find(|row| row.id == "Llama-3.1-8B").unwrap();
    let mut wrong = row.config.clone().unwrap();
    wrong["num_hidden_layers"] = json!(40);
    wrong["num_key_value_heads"] = json!(16);
    let row = Row { config: Some(wrong), ..row };
    let architecture = row.read(true, true);
    assert_eq!((architecture.layers, architecture.attention.kv_heads), (Some(32), Some(8)));
    let rules: Vec<_> = architecture.findings.iter().map(|finding| finding.rule.name).collect();
    assert_eq!(rules, ["config-contradicts-weights"; 2]);
    assert_eq!(architecture.cache.summary(Some(8192)).bytes_per_token, Some(131_072));
}

#[test]
fn shapes_alone_give_candidates_or_what_a_norm_settles() {
    let plain: [(&str, &[u64]); 4] = [
        ("model.embed_tokens.weight", &[1000, 4096]),
        ("model.norm.weight", &[4096]),
        ("model.layers.0.self_attn.q_proj.weight", &[4096, 4096]),
        ("model.layers.0.self_attn.k_proj.weight", &[1024, 4096]),
    ];
    let look = |tensors: &[(&str, &[u64])]| {
        let parts = parse_all(tensors.iter().map(|(name, _)| *name));
        let tensors: Vec<_> = tensors.iter().zip(parts).map(|((name, shape), part)| (*name, *shape, part)).collect();
        read(&Evidence { tensors: &tensors, ..Evidence::default() })
    };
    let open = look(&plain);
    assert_eq!(open.attention.head_dim, None);
    assert_eq!(open.attention.kind, Some("gqa"));
    let both = |size: u64| {
        let place = open.attention.head_dim_candidates.iter().position(|candidate| *candidate == size).unwrap();
        (open.attention.query_heads_candidates[place], open.attention.kv_heads_candidates[place])
    };
    assert_eq!((both(64), both(128)), ((64, 16), (32, 8)));
    let mut settled = plain.to_vec();
    settled.push(("model.layers.0.self_attn.q_norm.weight", &[128]));
    settled.push(("model.layers.0.self_attn.k_norm.weight", &[128]));
    let settled = look(&settled);
    let attention = &settled.attention;
    assert_eq!((attention.query_heads, attention.kv_heads, attention.head_dim), (Some(32), Some(8), Some(128)));
    assert!(attention.head_dim_candidates.is_empty());
}

#[test]
fn huge_and_senseless_numbers_are_survived() {
    let million: Vec<u64> = (0..1_000_000).collect();
    let deep = (0..100).fold(json!(1), |inner, _| json!({"text_config": inner}));
    for config in [
        json!(null),
        json!([]),
        json!("config"),
        deep,
        json!({"num_hidden_layers": 1_000_000_000_000_000_000u64, "hidden_size": u64::MAX, "num_attention_heads": u64::MAX}),
        json!({"num_hidden_layers": 65536, "hidden_size": u64::MAX, "num_attention_heads": 1, "kv_lora_rank": u64::MAX,
            "qk_rope_head_dim": u64::MAX, "qk_nope_head_dim": u64::MAX, "v_head_dim": u64::MAX, "rope_theta": 1e308}),
        json!({"num_hidden_layers": -3, "hidden_size": 0.5, "num_attention_heads": "eight", "vocab_size": {}}),
        json!({"num_hidden_layers": 1e300, "num_attention_heads": 0, "hidden_size": 0, "n_inner": null}),
        json!({"num_hidden_layers": 4, "layer_types": million, "num_attention_heads": million, "hidden_size": million}),
        json!({"num_hidden_layers": 65536, "attn_layer_indices": million, "cross_attention_layers": million,
            "num_attention_heads": million, "hidden_size": 64, "head_dim": 4, "sliding_window": 1}),
        json!({"num_hidden_layers": 4, "block_types": [], "sliding_window": -1}),
        json!({"num_hidden_layers": 4, "sliding_window_pattern": "", "sliding_window": 1}),
        json!({"num_hidden_layers": 4, "hybrid_override_pattern": "é*", "num_kv_shared_layers": u64::MAX}),
        json!({"num_hidden_layers": 4, "attn_layer_period": 0, "full_attention_interval": 0, "mamba_d_state": 1}),
        json!({"num_hidden_layers": 4, "model_type": "minimax", "hidden_size": 4, "num_attention_heads": u64::MAX,
            "head_dim": u64::MAX, "layer_types": ["linear_attention", "full_attention", "conv", "hybrid"]}),
        json!({"rope_parameters": {"full_attention": 3, "rope_theta": "x"}, "rope_scaling": {"type": 1}}),
    ] {
        let architecture = of_config(&config);
        let _ = architecture.cache.summary(architecture.context_length);
        serde_json::to_string(&architecture).unwrap();
    }
    let odd = of_config(&json!({"num_hidden_layers": -3, "hidden_size": "wide"}));
    assert!(odd.layers.is_none() && odd.findings.len() == 2);
}

#[test]
fn a_gguf_may_lie_too() {
    let lists: Vec<u64> = vec![0; 100_000];
    for json in [
        json!({"general.architecture": "llama", "llama.block_count": u64::MAX, "llama.nextn_predict_layers": 1}),
        json!({"general.architecture": "llama", "llama.block_count": 2, "llama.nextn_predict_layers": u64::MAX}),
        json!({"general.architecture": "", ".block_count": 5}),
        json!({"general.architecture": "gemma3", "gemma3.block_count": 4, "gemma3.attention.head_count": lists,
            "gemma3.attention.head_count_kv": [], "gemma3.attention.sliding_window": 1, "gemma3.embedding_length": 3,
            "gemma3.attention.sliding_window_pattern": 0}),
        json!({"general.architecture": "deepseek2", "deepseek2.block_count": 4, "deepseek2.attention.key_length": 1,
            "deepseek2.attention.kv_lora_rank": u64::MAX, "deepseek2.attention.key_length_mla": u64::MAX,
            "deepseek2.attention.value_length_mla": u64::MAX, "deepseek2.attention.head_count": u64::MAX}),
        json!({"general.architecture": "rwkv7", "rwkv7.block_count": 4, "rwkv7.embedding_length": u64::MAX,
            "rwkv7.wkv.head_size": u64::MAX, "rwkv7.token_shift_count": u64::MAX}),
        json!({"general.architecture": "llama", "llama.rope.freq_base": f64::MAX, "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": -1.0}),
    ] {
        let metadata = metadata(&json);
        let architecture = read(&Evidence { gguf: Some(&metadata), ..Evidence::default() });
        let _ = architecture.cache.summary(architecture.context_length);
        serde_json::to_string(&architecture).unwrap();
    }
}

/// Any value that JSON can hold, sizes at the edges among them.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        prop_oneof![Just(0u64), Just(1), Just(2), Just(64), Just(u64::MAX), 0u64..100].prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        prop_oneof![Just("full_attention"), Just("mamba"), Just("LLLG"), Just("M*-E"), Just("llama")]
            .prop_map(Json::from),
    ];
    leaf.prop_recursive(2, 12, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map("[0-9]|rope_theta|rope_type|factor|head_dim|num_experts", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn configurations_with_any_values_are_survived(seed in any::<prop::sample::Index>(), changes in
        prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..6))
    {
        static ROWS: std::sync::LazyLock<Vec<Row>> = std::sync::LazyLock::new(rows);
        let configs: Vec<&Json> = ROWS.iter().filter_map(|row| row.config.as_ref()).collect();
        let mut config = (*seed.get(&configs)).clone();
        let object = config.as_object_mut().unwrap();
        for (place, value) in changes {
            let key = object.keys().nth(place.index(object.len())).unwrap().clone();
            object.insert(key, value);
        }
        let architecture = of_config(&config);
        let summary = architecture.cache.summary(architecture.context_length);
        prop_assert!(summary.savings_vs_mha.is_none_or(|saved| saved.is_finite()));
        serde_json::to_string(&architecture).unwrap();
    }

    #[test]
    fn tensors_of_any_shape_are_survived(changes in
        prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(
            prop_oneof![Just(0u64), Just(1), Just(u64::MAX), 0u64..200], 0..4)), 1..40), seed in any::<prop::sample::Index>())
    {
        static ROWS: std::sync::LazyLock<Vec<Row>> =
            std::sync::LazyLock::new(|| rows().into_iter().filter(|row| (1..300).contains(&row.tensors.len())).collect());
        let row = seed.get(&ROWS);
        let mut tensors = row.tensors.clone();
        for (place, shape) in changes {
            let at = place.index(tensors.len());
            tensors[at].1 = shape;
        }
        let parts = parse_all(tensors.iter().map(|(name, _)| name.as_str()));
        let witnesses: Vec<_> =
            tensors.iter().zip(parts).map(|((name, shape), part)| (name.as_str(), shape.as_slice(), part)).collect();
        for config in [row.config.as_ref(), None] {
            let architecture = read(&Evidence { config, gguf: row.metadata.as_ref(), tensors: &witnesses });
            serde_json::to_string(&architecture).unwrap();
        }
        let _ = routed_experts(&witnesses, Some(3));
    }
}
