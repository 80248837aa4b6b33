//! What RoPE, sharing and shares mean, against figures that were worked out apart.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use anatomy::atlas::Atlas;
use anatomy::report::Blueprint as Report;
use serde_json::{Value as Json, json};

fn report(config: &Json) -> Json {
    let blueprint = Atlas::new().blueprint(config).unwrap();
    serde_json::to_value(Report::new("", blueprint, Some(config), None, None)).unwrap()
}

fn close(found: &Json, wanted: f64) {
    let found = found.as_f64().unwrap();
    assert!((found / wanted - 1.0).abs() < 1e-5, "{found}, not {wanted}");
}

fn llama() -> Json {
    json!({
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": false,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}
    })
}

/// Wavelengths and factors are those that transformers 5.23 computes for the same configurations.
#[test]
fn rope_of_well_known_models() {
    let one = |config: &Json| report(config)["positions"][0].clone();
    let rope = one(&llama());
    close(&rope["longest_wavelength"], 20_473_564.9);
    assert_eq!([&rope["full_turns"], &rope["pairs"], &rope["scaled_context"]], [35, 64, 65536]);
    assert!(rope.get("attention_factor").is_none() && rope.get("default_base").is_none());

    // Qwen2.5 with YaRN, as its card describes it.
    let mut qwen = llama();
    qwen["rope_theta"] = json!(1e6);
    qwen["max_position_embeddings"] = json!(32768);
    qwen["rope_scaling"] = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768});
    let rope = one(&qwen);
    close(&rope["longest_wavelength"], 20_253_023.1);
    close(&rope["attention_factor"], 1.138_629_436);
    assert_eq!([&rope["full_turns"], &rope["scaled_context"]], [40, 131_072]);

    // gpt-oss: YaRN whose ramp need not begin at a whole pair.
    let mut oss = llama();
    oss["head_dim"] = json!(64);
    oss["rope_theta"] = json!(150_000.0);
    oss["rope_scaling"] = json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": 4096, "truncate": false});
    let rope = one(&oss);
    close(&rope["longest_wavelength"], 20_781_086.9);
    close(&rope["attention_factor"], 1.346_573_59);
    assert_eq!(rope["full_turns"], 18);

    // Phi-3 states both contexts in place of a factor.
    let mut phi = llama();
    phi["model_type"] = json!("phi3");
    (phi["hidden_size"], phi["num_key_value_heads"]) = (json!(3072), json!(32));
    phi["rope_theta"] = json!(10000.0);
    phi["original_max_position_embeddings"] = json!(4096);
    let long: Vec<f64> = (0..48).map(|pair| 1.0 + 1.3 * f64::from(pair)).collect();
    phi["rope_scaling"] = json!({"type": "longrope", "short_factor": vec![1.0; 48], "long_factor": long});
    let rope = one(&phi);
    close(&rope["longest_wavelength"], 3_220_610.3);
    close(&rope["attention_factor"], 1.190_238_07);
    assert_eq!([&rope["factor"], &rope["full_turns"]], [&json!(32.0), &json!(34)]);

    // DeepSeek-V3: a rotated part of 64, and mscale that cancels out.
    let yarn = json!({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0});
    let mut deepseek = json!({
        "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
        "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256, "num_experts_per_tok": 8,
        "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
        "first_k_dense_replace": 3, "max_position_embeddings": 163840, "rope_theta": 10000.0, "rope_scaling": yarn
    });
    let whole = report(&deepseek);
    let rope = &whole["positions"][0];
    close(&rope["longest_wavelength"], 1_884_689.7);
    assert_eq!([&rope["dimension"], &rope["full_turns"], &rope["scaled_context"]], [64, 23, 163_840]);
    assert!(rope.get("attention_factor").is_none());
    // 61 × (7168 × 576 + 512 × 128 × 256) against 61 × 7168 × 128 × (192 + 128).
    let sharing = &whole["sharing"];
    assert_eq!(sharing["parameters"], 61u64 * (7168 * 576 + 512 * 128 * 256));
    assert_eq!(sharing["parameters_full"], 61u64 * 7168 * 128 * 320);
    assert_eq!([&sharing["cache_per_token"], &sharing["cache_per_token_full"]], [61 * 576, 61 * 128 * 320]);
    deepseek["rope_scaling"]["mscale"] = json!(0.707);
    // (0.1 × 0.707 × ln 40 + 1) / (0.1 × ln 40 + 1)
    close(&one(&deepseek)["attention_factor"], 0.921_042);

    // Qwen2-VL shares the pairs between time, height and width.
    let mut vision = llama();
    vision["rope_scaling"] = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
    let rope = one(&vision);
    assert_eq!((&rope["kind"], &rope["sections"]), (&json!("mrope"), &json!([16, 24, 24])));
}

#[test]
fn layers_of_two_kinds_have_two_bases() {
    // Gemma 3 states neither base; the class has both, and its scaling is for full attention alone.
    let mut gemma = json!({
        "model_type": "gemma3_text", "vocab_size": 1000, "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 131072, "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}
    });
    let positions = report(&gemma)["positions"].clone();
    let of = |kind: &str| positions.as_array().unwrap().iter().find(|rope| rope["layers"] == kind).cloned().unwrap();
    let (full, sliding) = (of("full_attention"), of("sliding_attention"));
    assert_eq!((&full["base"], &full["factor"], &full["default_base"]), (&json!(1e6), &json!(8.0), &json!(true)));
    assert_eq!((&sliding["base"], &sliding["factor"]), (&json!(10000.0), &json!(null)));
    // 2π × 1000000^(254/256) × 8
    close(&full["longest_wavelength"], 45_122_676.8);
    gemma["rope_local_base_freq"] = json!(20000.0);
    gemma["rope_theta"] = json!(500_000.0);
    let positions = report(&gemma)["positions"].clone();
    assert_eq!((&positions[0]["base"], &positions[1]["base"]), (&json!(500_000.0), &json!(20000.0)));
    assert!(positions[0].get("default_base").is_none());

    // Gemma 4: a quarter of a wider head turns in layers of full attention.
    let four = json!({
        "model_type": "gemma4_text", "vocab_size": 1000, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "global_head_dim": 512, "max_position_embeddings": 131072, "sliding_window": 1024,
        "rope_parameters": {
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    });
    let positions = report(&four)["positions"].clone();
    let full = positions.as_array().unwrap().iter().find(|rope| rope["layers"] == "full_attention").unwrap();
    assert_eq!([&full["pairs"], &full["dimension"]], [64, 128]);
    close(&full["longest_wavelength"], 188.253_202);
}

#[test]
fn shares_of_llama_are_those_that_everybody_quotes() {
    let whole = report(&llama());
    let shares = &whole["parameters"]["shares"];
    let percent = |key: &str| (shares[key].as_f64().unwrap() * 1000.0).round() / 10.0;
    assert_eq!([percent("feed_forward"), percent("attention"), percent("embedding_and_head")], [70.2, 16.7, 13.1]);
    assert_eq!(whole["sharing"]["parameters"], 2u64 * 32 * 4096 * 1024);
    assert_eq!(whole["sharing"]["parameters_full"], 2u64 * 32 * 4096 * 4096);
}
