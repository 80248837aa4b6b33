//! `anatomy blueprint` as scripts and people meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of a test function"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// The command, run in `folder`.
fn anatomy(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anatomy"));
    command.current_dir(folder).stdin(Stdio::null());
    command.args(arguments).output().unwrap()
}

/// The one line of a run that could not be done.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = anatomy(folder, arguments);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// The document of a run that had an answer.
fn document(folder: &Path, arguments: &[&str]) -> Value {
    let output = anatomy(folder, arguments);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A small Qwen2 under the name of nobody.
fn stranger() -> Value {
    json!({
        "model_type": "quen2_plus", "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": false,
        "num_quantum_heads": 3, "bos_token_id": 1, "rms_norm_eps": 1e-6, "use_cache": true
    })
}

/// An index over tensors of these names.
fn index(names: &[&str]) -> String {
    let map: Value = names.iter().map(|name| (name.to_string(), "model-00001-of-00001.safetensors")).collect();
    json!({"metadata": {}, "weight_map": map}).to_string()
}

#[test]
fn an_unknown_family_is_told_by_what_is_nearest_and_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let write = |config: &Value| fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    write(&stranger());
    let line = refusal(folder.path(), &["blueprint", "config.json"]);
    assert!(line.contains("the model family `quen2_plus` is not known"), "{line}");
    assert!(line.contains("by keys it is"), "{line}");
    // What looks like a size and is read by nobody is what differs; settings of programs are not.
    assert!(line.contains("but not num_quantum_heads;"), "{line}");
    assert!(line.contains("--atlas"), "{line}");
    let mut near = stranger();
    near["model_type"] = json!("qwen2_mo");
    write(&near);
    assert!(refusal(folder.path(), &["blueprint", "config.json"]).contains("nearest by name is `qwen2_moe`"));

    // Keys alone tell, where they are those of one family.
    let mixture = json!({
        "model_type": "zzz", "hidden_size": 64, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 1,
        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 128, "intermediate_size": 96, "num_nextn_predict_layers": 1
    });
    write(&mixture);
    let line = refusal(folder.path(), &["blueprint", "config.json"]);
    assert!(line.contains("by keys it is `deepseek_v"), "{line}");
    write(&json!({"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 8}));
    let line = refusal(folder.path(), &["blueprint", "config.json"]);
    assert!(line.contains("does not say which model it is; add its model_type; by keys it is"), "{line}");
    write(&json!({"model_type": "zzz"}));
    assert!(!refusal(folder.path(), &["blueprint", "config.json"]).contains("by keys"));

    // So do the names of the tensors, where an index lies beside.
    write(&stranger());
    let names = [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.v_proj.bias",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.quantum.weight",
        "model.norm.weight",
        "lm_head.weight",
    ];
    fs::write(folder.path().join("model.safetensors.index.json"), index(&names)).unwrap();
    for path in ["config.json", "."] {
        let line = refusal(folder.path(), &["blueprint", path]);
        let told = "by tensor names it is `qwen2`, which has 15 of 16 kinds of names, but not \
                    model.layers.0.mlp.quantum.weight";
        assert!(line.contains(told), "{line}");
    }
    let checked = document(folder.path(), &["check", ".", "--json", "--fail-on", "error"]);
    let found = checked["findings"].as_array().unwrap();
    let unknown = found.iter().find(|finding| finding["rule"] == "family-unknown").unwrap();
    let message = unknown["message"].as_str().unwrap();
    assert!(message.contains("by keys it is") && message.contains("by tensor names it is `qwen2`"), "{message}");
}

/// A GGUF of a small Llama: metadata and no tensor.
fn gguf() -> Vec<u8> {
    let numbers: [(&str, u32); 8] = [
        ("llama.vocab_size", 64),
        ("llama.block_count", 2),
        ("llama.context_length", 128),
        ("llama.embedding_length", 32),
        ("llama.feed_forward_length", 48),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.rope.dimension_count", 8),
    ];
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend((numbers.len() as u64 + 2).to_le_bytes());
    text(&mut file, "general.architecture");
    file.extend(8u32.to_le_bytes());
    text(&mut file, "llama");
    for (key, number) in numbers {
        text(&mut file, key);
        file.extend(4u32.to_le_bytes());
        file.extend(number.to_le_bytes());
    }
    text(&mut file, "tokenizer.ggml.tokens");
    file.extend(9u32.to_le_bytes());
    file.extend(8u32.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    for number in 0..64 {
        text(&mut file, &format!("t{number}"));
    }
    file
}

/// The change of the tensors whose names end so.
fn change<'d>(document: &'d Value, end: &str) -> &'d Value {
    let all = document["changes"]["tensors"].as_array().unwrap();
    let found = all.iter().find(|change| change["name"].as_str().unwrap().ends_with(end));
    found.unwrap_or_else(|| panic!("{end} did not change: {all:?}"))
}

#[test]
fn set_changes_a_gguf() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.gguf"), gguf()).unwrap();
    let set = |assignment: &str| document(folder.path(), &["blueprint", "model.gguf", "--json", "--set", assignment]);
    // With the architecture in front or without it, stated or not.
    for key in ["block_count", "llama.block_count"] {
        let document = set(&format!("{key}=3"));
        assert_eq!(document["architecture"]["layers"], 3, "{key}");
        let norms = change(&document, "attn_norm.weight");
        assert_eq!((&norms["before"]["count"], &norms["after"]["count"]), (&json!(2), &json!(3)), "{key}");
    }
    for key in ["attention.key_length", "llama.attention.key_length"] {
        let document = set(&format!("{key}=16"));
        let query = change(&document, "attn_q.weight");
        assert_eq!(
            (&query["before"]["shape"], &query["after"]["shape"]),
            (&json!([32, 32]), &json!([64, 32])),
            "{key}"
        );
    }
    let refused = |assignment: &str| refusal(folder.path(), &["blueprint", "model.gguf", "--set", assignment]);
    for key in ["blok_count", "llama.blok_count"] {
        let line = refused(&format!("{key}=3"));
        assert!(line.contains(&format!("has a key {key}; did you mean block_count?")), "{line}");
    }
    assert!(refused("num_quantum_heads=3").contains("see the configuration for its keys"));
    assert!(refused("block_count={}").contains("must be a number, a truth or a text"));
    assert!(refused("block_count=-1").contains("cannot be negative"));
    assert!(refused("block_count=99999999").contains("no model has so many"));
    assert!(refused("block_count=ten").contains("block_count"));
}

#[test]
fn set_reaches_into_sub_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "model_type": "gemma3_text", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8
        },
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16, "num_hidden_layers": 1,
            "intermediate_size": 32, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let document = document(
        folder.path(),
        &[
            "blueprint",
            ".",
            "--json",
            "--set",
            "text_config.hidden_size=64",
            "--set",
            "vision_config.num_hidden_layers=3",
        ],
    );
    let embedding = change(&document, "embed_tokens.weight");
    assert_eq!((&embedding["before"]["shape"], &embedding["after"]["shape"]), (&json!([64, 32]), &json!([64, 64])));
    assert_eq!(change(&document, "self_attn.q_proj.weight")["after"]["shape"], json!([32, 64]));
    let set = json!([["text_config.hidden_size", "64"], ["vision_config.num_hidden_layers", "3"]]);
    assert_eq!(document["changes"]["set"], set);
    let refused = |assignment: &str| refusal(folder.path(), &["blueprint", ".", "--set", assignment]);
    // A slip of the pen, the right word at the wrong place, and both at once.
    for key in ["text_config.hiden_size", "hidden_size", "hiden_size", "txt_config.hidden_size"] {
        let line = refused(&format!("{key}=64"));
        assert!(
            line.contains(&format!("has a key {key}; did you mean ")) && line.contains("_config.hidden_size?"),
            "{line}"
        );
    }
    assert!(refused("text_config.hidden_size=-1").contains("text_config.hidden_size is -1"));
    assert!(refused("text_config=5").contains("text_config"));
    assert!(refused("text_config.hidden_size").contains("write KEY=VALUE"));
    assert!(refused(".hidden_size=5").contains("write KEY=VALUE"));
}

/// One error in a second or so, however many layers, entries and levels a configuration states.
#[test]
fn hostile_configurations_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = |change: &dyn Fn(&mut Value)| {
        let mut config = stranger();
        config["model_type"] = json!("llama");
        change(&mut config);
        config.to_string()
    };
    let mixture = |layers: u64, experts: u64| {
        json!({"model_type": "qwen3_moe", "num_hidden_layers": layers, "num_experts": experts, "hidden_size": 64})
            .to_string()
    };
    let zamba = |layers: usize| {
        let kinds: Vec<&str> = (0..layers).map(|layer| if layer % 2 == 0 { "mamba" } else { "hybrid" }).collect();
        json!({"model_type": "zamba2", "num_hidden_layers": layers, "layers_block_type": kinds}).to_string()
    };
    let long = json!({"model_type": "nemotron_h", "num_hidden_layers": 100_000,
        "layers_block_type": vec!["mamba"; 100_000]});
    let cases = [
        ("10^18 layers", whole(&|config| config["num_hidden_layers"] = json!(1_000_000_000_000_000_000u64))),
        ("10^30 layers", whole(&|config| config["num_hidden_layers"] = json!(1e30))),
        ("a million layers", whole(&|config| config["num_hidden_layers"] = json!(1_000_000))),
        ("no width", whole(&|config| config["hidden_size"] = json!(0))),
        ("text for a number", whole(&|config| config["hidden_size"] = json!("many"))),
        ("heads that do not divide", whole(&|config| config["num_attention_heads"] = json!(7))),
        ("a million experts", mixture(4, 1_000_000)),
        ("many of both", mixture(100_000, 100_000)),
        ("a layer for each entry", long.to_string()),
        ("uses of uses", zamba(100_000)),
        ("deep", format!("{}1{}", "{\"text_config\":".repeat(200), "}".repeat(200))),
        ("deeper", format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("not JSON", "{".to_string()),
    ];
    for (what, text) in cases {
        fs::write(folder.path().join("config.json"), text).unwrap();
        let start = std::time::Instant::now();
        let line = refusal(folder.path(), &["blueprint", "config.json"]);
        assert!(line.len() < 700, "{what}: {line}");
        // A machine with much to do may take longer; without bounds each would take hours.
        assert!(start.elapsed().as_secs() < 60, "{what}");
    }
    // What is long and no more than that is no model that is refused.
    fs::write(folder.path().join("config.json"), zamba(600)).unwrap();
    let document = document(folder.path(), &["blueprint", "config.json", "--json"]);
    assert_eq!(document["architecture"]["layers"], 600);
}
