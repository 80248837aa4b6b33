//! vLLM's memory against what its users and documentation published.
//!
//! No GPU is at hand, so each figure is a line of somebody's log, with its source. Memory is logged with two decimals,
//! and blocks are whole: a log's bytes divided by a block's must reach the logged number of blocks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests"
)]

#[allow(dead_code, reason = "tensors and totals are for other tests")]
mod blueprints;

use std::sync::LazyLock;

use anatomy::atlas::Atlas;
use anatomy::memory::vllm::{Pool, pool};
use anatomy::memory::{CacheType, Device, Estimate, GIB, Request, Runtime, Subject, estimate};
use serde_json::{Value as Json, json};

static CASES: LazyLock<Vec<blueprints::Case>> = LazyLock::new(blueprints::cases);

/// A model of the lists, with some of its numbers changed.
fn subject(set: &str, name: &str, changes: &Json) -> Subject {
    let mut config = CASES.iter().find(|case| case.set == set && case.name == name).unwrap().config.clone();
    let inner = match config.get("text_config") {
        Some(_) => config.get_mut("text_config").unwrap(),
        None => &mut config,
    };
    for (key, value) in changes.as_object().unwrap() {
        inner[key] = value.clone();
    }
    let blueprint = Atlas::new().blueprint(&config).unwrap();
    let report = anatomy::report::Blueprint::new("", blueprint.clone(), Some(&config), None, None);
    Subject::planned(&blueprint, report.architecture().clone(), Some(&config), Some("bf16")).unwrap()
}

fn real(name: &str) -> Subject {
    subject("real", name, &json!({}))
}

fn device(gib: f64) -> Device {
    let capacity = (gib * GIB as f64) as u64;
    Device { name: "a card".into(), capacity, bandwidth: None, basis: String::new() }
}

fn request(context: u64, batch: u64, devices: usize) -> Request {
    Request { batch, devices: vec![device(80.0); devices], ..Request::new(Runtime::Vllm, context) }
}

fn asked(subject: &Subject, request: &Request) -> (Pool, Estimate) {
    let estimate = estimate(subject, request).unwrap();
    // The figures of the report are those of the parts and of the devices.
    let parts: u64 = estimate.parts.iter().map(|part| part.bytes).sum();
    assert_eq!(parts, estimate.total());
    let placed: u64 = estimate.placed.iter().map(|placed| placed.used).sum();
    assert_eq!(placed, estimate.total());
    (pool(subject, request).unwrap().unwrap(), estimate)
}

/// Blocks in a logged number of GiB, the least and the most that its two decimals allow.
fn blocks(gib: f64, pool: &Pool) -> (u64, u64) {
    let in_bytes = |gib: f64| (gib * GIB as f64) as u64 / pool.block_bytes;
    (in_bytes(gib - 0.005), in_bytes(gib + 0.005))
}

/// Whether a logged number of blocks is what the logged memory holds.
fn holds(gib: f64, wanted: u64, pool: &Pool) {
    let (least, most) = blocks(gib, pool);
    println!("{gib} GiB: {least} to {most} blocks, logged {wanted}");
    assert!((least..=most).contains(&wanted), "{least} to {most}, not {wanted}");
}

/// Whether so many blocks hold a sequence a logged number of times.
fn times(blocks: u64, tokens: u64, pool: &Pool, logged: f64) {
    let found = blocks as f64 / pool.blocks(tokens) as f64;
    println!("{blocks} blocks: {found:.3} sequences of {tokens}, logged {logged}");
    assert!((found - logged).abs() <= 0.0051, "{found}, not {logged}");
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB as f64
}

/// Llama-3.1-8B on one RTX 3090: <https://github.com/vllm-project/vllm/issues/10517>
#[test]
fn llama_keeps_grouped_heads() {
    let subject = real("Llama-3.1-8B");
    // "Loading model weights took 14.9888 GB", meaning GiB.
    let weights = gib(subject.weight_bytes());
    assert!((weights / 14.9888 - 1.0).abs() < 0.003, "{weights}");
    let mut reached = Vec::new();
    // "kv_cache_size=3.81GiB", "GPU blocks: 1952", "Maximum concurrency for 20000 tokens per request: 1.56x".
    for (context, size, count, concurrency, peak) in
        [(20_000, 3.81, 1952, 1.56, 17.06), (29_000, 2.89, 1478, 0.82, 17.98)]
    {
        let (pool, estimate) = asked(&subject, &request(context, context, 1));
        assert_eq!(pool.block, 16);
        holds(size, count, &pool);
        times(count, context, &pool, concurrency);
        // "peak_torch_memory" of the trial run, which then took the whole context at once.
        let compute = gib(estimate.compute);
        println!("trial run {compute:.2} GiB, logged {:.2}", peak - 14.9888);
        assert!((compute / (peak - 14.9888) - 1.0).abs() < 0.02, "{compute}");
        reached.push(estimate);
    }
    assert_eq!(reached[0].per_token, Some(131_072));
}

/// Qwen3-30B-A3B on four A10: <https://github.com/vllm-project/vllm/issues/17327>; its coding model, of the same
/// shape: <https://github.com/vllm-project/vllm/issues/34076>
#[test]
fn experts_are_split_and_their_cache_is_small() {
    let changes = json!({
        "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4,
        "moe_intermediate_size": 768, "intermediate_size": 6144,
    });
    let subject = subject("real", "Qwen3-235B-A22B", &changes);
    // "Model loading took 14.2474 GiB" on each of four devices.
    let (_, estimate) = asked(&subject, &request(8192, 2048, 4));
    let on_device = gib(estimate.weights + estimate.repack) / 4.0;
    assert!((on_device / 14.2474 - 1.0).abs() < 0.003, "{on_device}");
    // "GPU KV cache size: 198,784 tokens", "Maximum concurrency for 8,192 tokens per request: 24.27x".
    let (pool, _) = asked(&subject, &request(8192, 2048, 4));
    times(198_784 / 16, 8192, &pool, 24.27);
    // "max seq len (262144), (24.0 GiB KV cache is needed".
    let (pool, estimate) = asked(&subject, &request(262_144, 2048, 1));
    assert_eq!(estimate.cache, Some(24 * GIB));
    // "available KV cache memory (3.18 GiB) ... the estimated maximum model length is 34736".
    let (least, most) = blocks(3.18, &pool);
    let longest = pool.longest(least, 262_144)..=pool.longest(most, 262_144);
    assert!(longest.contains(&34_736), "{longest:?}");
}

/// Qwen3-Coder-480B-A35B: <https://github.com/vllm-project/recipes/pull/12>
#[test]
fn many_layers_need_much() {
    let changes = json!({
        "num_hidden_layers": 62, "hidden_size": 6144, "num_attention_heads": 96, "num_key_value_heads": 8,
        "num_experts": 160, "moe_intermediate_size": 2560, "intermediate_size": 8192,
    });
    let subject = subject("real", "Qwen3-235B-A22B", &changes);
    // "max seq len (262144), (62.00 GiB KV cache is needed", "(48.66 GiB). ... maximum model length is 205728".
    let (pool, estimate) = asked(&subject, &request(262_144, 2048, 1));
    assert_eq!(estimate.cache, Some(62 * GIB));
    let (least, most) = blocks(48.66, &pool);
    let longest = pool.longest(least, 262_144)..=pool.longest(most, 262_144);
    assert!(longest.contains(&205_728), "{longest:?}");
}

/// DeepSeek-V2-Lite: <https://github.com/vllm-project/vllm/issues/15871>
#[test]
fn deepseek_keeps_a_latent() {
    let subject = real("DeepSeek-V2-Lite");
    // "max seq len (32768), (0.95 GiB KV cache is needed".
    let (_, alone) = asked(&subject, &request(32_768, 8192, 1));
    assert_eq!((gib(alone.cache.unwrap()) * 100.0).round(), 95.0);
    // Every device has the whole latent.
    let (_, split) = asked(&subject, &request(32_768, 8192, 2));
    assert_eq!(split.cache.unwrap(), 2 * alone.cache.unwrap());
}

/// gpt-oss-120b: <https://github.com/alvarobartt/hf-mem/issues/60>
#[test]
fn gpt_oss_has_two_groups() {
    let subject = real("gpt-oss-120b");
    let (pool, estimate) = asked(&subject, &request(128, 2048, 1));
    assert_eq!((pool.groups, pool.padding), (2, 0));
    // "36 layers × 2048 = 73,728 bytes/token".
    assert_eq!(estimate.per_token, Some(73_728));
    // "Available KV cache memory: 5.38 GiB", "GPU KV cache size: 78,384 tokens": blocks divided by groups, × 16.
    holds(5.38, 78_384 / 16 * 2, &pool);
    // Past the window only the full layers grow.
    let (_, long) = asked(&subject, &request(65_536, 2048, 1));
    assert_eq!(long.per_token, Some(36_864));
    // 18 layers in full, and a window of 128 with a batch and the block that it begins in.
    assert_eq!(long.cache, Some(18 * 32_768 * (4096 + 136 + 1)));
}

/// Gemma-3-4B: <https://github.com/ovg-project/kvcached/issues/215>
#[test]
fn gemma_3_fills_its_groups_up() {
    let changes = json!({
        "num_hidden_layers": 34, "hidden_size": 2560, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "intermediate_size": 10_240, "sliding_window": 1024,
    });
    let (pool, _) = asked(&subject("real", "gemma-3-27b-pt", &changes), &request(3072, 8192, 1));
    // "Add 1 padding layers", "GPU KV cache size: 317,136 tokens", "... for 3,072 tokens per request: 102.78x".
    assert_eq!((pool.groups, pool.padding), (7, 1));
    times(317_136 / 16 * 7, 3072, &pool, 102.78);
}

/// Olmo-3-7B: <https://github.com/vllm-project/vllm/pull/29796>
#[test]
fn a_window_bounds_what_a_sequence_takes() {
    let subject = real("Olmo-3-7B");
    // In one pool 23.73 sequences of 6,144 tokens and 11.12 of 34,048.
    let (pool, _) = asked(&subject, &request(6144, 2048, 1));
    let ratio = pool.blocks(34_048) as f64 / pool.blocks(6144) as f64;
    assert!((ratio / (23.73 / 11.12) - 1.0).abs() < 0.001, "{ratio}");
}

/// Gemma-4-31B: <https://github.com/alvarobartt/hf-mem/pull/61>
#[test]
fn gemma_4_makes_its_pages_equal() {
    let kinds: Vec<&str> =
        (1..=60).map(|layer| if layer % 6 == 0 { "full_attention" } else { "sliding_attention" }).collect();
    let changes = json!({
        "num_hidden_layers": 60, "hidden_size": 5376, "intermediate_size": 21_504, "num_attention_heads": 32,
        "num_key_value_heads": 16, "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 4,
        "attention_k_eq_v": true, "sliding_window": 1024, "layer_types": kinds, "per_layer_config": {},
        "hidden_size_per_layer_input": 0, "vocab_size": 262_144,
    });
    let (pool, _) = asked(&subject("tiny", "gemma4_text", &changes), &request(1, 2048, 1));
    assert_eq!((pool.groups, pool.padding, pool.block), (6, 0, 16));
    // "Available KV cache memory: 24.54 GiB", "GPU KV cache size: 26,800 tokens".
    let (least, most) = blocks(24.54, &pool);
    let tokens = (least / 6 * 16)..=(most / 6 * 16);
    assert!(tokens.contains(&26_800), "{tokens:?}");
    // "983,040" bytes for a token in all layers.
    assert_eq!(pool.block_bytes * pool.groups / pool.block, 983_040);
}

/// Kimi-Linear-48B-A3B on two RTX 3090: <https://github.com/vllm-project/vllm/issues/28228>
#[test]
fn kimi_linear_pages_hold_a_state() {
    let subject = real("Kimi-Linear-48B-A3B");
    let (pool, estimate) = asked(&subject, &request(120_000, 64_000, 2));
    // "Add 1 padding layers", "GPU KV cache size: 75,840 tokens", which is 79 × 960.
    assert_eq!((pool.groups, pool.padding, pool.block), (4, 1, 960));
    // "Available KV cache memory: 2.30 GiB", "Maximum concurrency for 120,000 tokens per request: 2.48x".
    let count = 318;
    assert_eq!(count / 4 * 960, 75_840);
    holds(2.30, count, &pool);
    times(count, 120_000, &pool, 2.48);
    assert_eq!(estimate.state, 2 * 3 * pool.block_bytes);
}

fn qwen_3_5_27b() -> Subject {
    let kinds: Vec<&str> =
        (1..=64).map(|layer| if layer % 4 == 0 { "full_attention" } else { "linear_attention" }).collect();
    let changes = json!({
        "num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 17_408, "num_attention_heads": 24,
        "num_key_value_heads": 4, "head_dim": 256, "linear_num_key_heads": 16, "linear_num_value_heads": 48,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
        "layer_types": kinds, "vocab_size": 248_320,
    });
    subject("tiny", "qwen3_5_text", &changes)
}

/// Qwen3.5-27B: <https://github.com/vllm-project/vllm/issues/40691>; with an fp8 cache on two devices a model of the
/// same shape: <https://github.com/mitchross/talos-argocd-proxmox/pull/1995>
#[test]
fn qwen_3_5_pages_hold_a_state() {
    let subject = qwen_3_5_27b();
    let (pool, _) = asked(&subject, &request(32_768, 16_384, 1));
    // "GPU KV cache size: 290,864 tokens", which is 371 × 784; "... 32,768 tokens per request: 33.04x".
    assert_eq!((pool.groups, pool.block), (4, 784));
    assert_eq!(290_864 % pool.block, 0);
    times(290_864 / pool.block * 4 + 3, 32_768, &pool, 33.04);
    // "One 262144-token request needs ceil(262144/1568) = 168 blocks"; "302,921 tokens", "2.31x" for 131,072.
    let fp8 = Some(CacheType::Fp8);
    let small = Request { key_type: fp8, value_type: fp8, ..request(131_072, 8192, 2) };
    let (pool, _) = asked(&subject, &small);
    assert_eq!(pool.block, 1568);
    assert_eq!(pool.blocks(262_144), 168 + 3);
}

/// fp8 halves what a token takes: <https://github.com/vllm-project/vllm/issues/25350> has 230,528 tokens in 10.55 GiB
/// for a model of 48 layers with four heads of 128.
#[test]
fn fp8_halves_the_pages() {
    let changes = json!({
        "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4,
        "moe_intermediate_size": 768, "intermediate_size": 6144,
    });
    let subject = subject("real", "Qwen3-235B-A22B", &changes);
    let fp8 = Some(CacheType::Fp8);
    let (pool, _) = asked(&subject, &Request { key_type: fp8, value_type: fp8, ..request(100_000, 2048, 1) });
    holds(10.55, 230_528 / 16, &pool);
    times(230_528 / 16, 100_000, &pool, 2.31);
}

#[test]
fn what_vllm_has_not_is_refused() {
    let subject = real("Llama-3.2-1B");
    let with = |keys, values| Request { key_type: keys, value_type: values, ..Request::new(Runtime::Vllm, 4096) };
    let (q8, fp8) = (Some(CacheType::Q8_0), Some(CacheType::Fp8));
    let error = estimate(&subject, &with(q8, q8)).unwrap_err();
    assert!(error.to_string().contains("q8_0"), "{error}");
    assert!(estimate(&subject, &with(fp8, None)).is_err());
    assert!(estimate(&subject, &with(fp8, fp8)).is_ok());
}

#[test]
fn the_notes_say_what_a_card_holds() {
    let subject = real("Llama-3.1-8B");
    let with =
        |context, gib| Request { devices: vec![device(gib)], utilization: 0.9, ..Request::new(Runtime::Vllm, context) };
    let enough = estimate(&subject, &with(8192, 23.58)).unwrap();
    let text = enough.notes.join("\n");
    assert!(enough.notes[0].starts_with("an estimate") && text.contains("sequences of 8192 tokens"), "{text}");
    let little = estimate(&subject, &with(131_072, 23.58)).unwrap();
    assert!(little.notes.iter().any(|note| note.contains("would refuse")), "{:?}", little.notes);
    // Heads that do not divide make stages.
    let three = estimate(&subject, &request(8192, 2048, 3)).unwrap();
    assert!(three.notes.iter().any(|note| note.contains("3 stages")), "{:?}", three.notes);
    assert_eq!(three.placed.len(), 3);
}

#[test]
fn encoders_and_recurrent_models() {
    // An encoder keeps nothing.
    let bert = real("bert-base-uncased");
    let request = request(512, 2048, 1);
    assert_eq!(pool(&bert, &request).unwrap(), None);
    assert_eq!(estimate(&bert, &request).unwrap().cache, Some(0));
    // A recurrent model keeps the same at any length: 64 layers of 5120 × 16 and three columns, 16 bits each.
    let mamba = real("mamba-2.8b-hf");
    let short = estimate(&mamba, &request).unwrap();
    assert_eq!((short.cache, short.per_token), (Some(0), Some(0)));
    assert_eq!(short.state, 64 * (5120 * 16 + 5120 * 3) * 2);
}

#[test]
fn nonsense_does_no_harm() {
    let mut subject = real("gemma-3-27b-pt");
    let endless = Request { parallel: u64::MAX, batch: u64::MAX, ..request(u64::MAX, 1, 7) };
    assert!(estimate(&subject, &endless).is_err());
    let huge = Request { parallel: 1 << 20, batch: 1 << 20, ..request(1 << 32, 1, 7) };
    assert!(estimate(&subject, &huge).is_ok());
    subject.architecture.attention.query_heads = Some(0);
    subject.architecture.attention.kv_heads = Some(0);
    assert!(estimate(&subject, &huge).is_ok());
    subject.architecture.cache.layers.clear();
    assert_eq!(estimate(&subject, &huge).unwrap().cache, None);
}
