//! The table of a configuration: which kind of attention or state each layer has, family by family where they differ.

use std::collections::HashSet;

use serde_json::Value;

use super::{Cache, Compressed, Layer, Plan, Reach, SPARSE_RATE, State, Store, checked_layers};
use crate::architecture::{Architecture, Config, KV_HEADS, QUERY_HEADS, attention_free, latent_rank, whole};

/// The table as a configuration states it, with sizes from the architecture.
pub(crate) fn table(config: &Config, architecture: &Architecture) -> Cache {
    let prompt = if config.text_type() == "cpmant" { config.unsigned("prompt_length").unwrap_or(32) } else { 0 };
    config_layers(config, architecture).map_or_else(Cache::unknown, |layers| Cache {
        layers,
        prompt,
        ..Cache::default()
    })
}

fn config_layers(config: &Config, architecture: &Architecture) -> Result<Vec<Layer>, String> {
    let count = checked_layers(architecture)?;
    let mut plans = config_plans(config, count)?;
    if config.text_type() == "longcat_flash" {
        // Two attentions in each layer (LongcatFlashDecoderLayer).
        plans = plans.iter().flat_map(|plan| [*plan, *plan]).collect();
    }
    let state = config_state(config, architecture);
    let encoder = config.truth("is_encoder_decoder") == Some(true);
    let shared = config.unsigned("num_kv_shared_layers").and_then(|last| usize::try_from(last).ok()).unwrap_or(0);
    let own = plans.len().saturating_sub(shared);
    let cross = members(config, "cross_attention_layers").unwrap_or_default();
    let sizes = Sizes::of_config(config, architecture);

    let mut layers = Vec::with_capacity(plans.len());
    let mut indexers = 0;
    for (index, plan) in plans.iter().enumerate() {
        let mut layer = Layer { recurrent: plan.recurrent, ..Layer::NOTHING };
        if plan.recurrent {
            layer.state = state.map(|state| with_ngrams(config, architecture, index, state));
        }
        if let Some(own) = own_store(config, architecture, index)? {
            layers.push(own);
            continue;
        }
        if let Some(reach) = plan.attention {
            layer.reach = reach;
            layer.encoder = encoder;
            if index >= own && index > 0 && own > 0 {
                layer.store = Store::Shared;
            } else if cross.contains(&(index as u64)) {
                layer.store = Store::Cross;
            } else {
                let sizes = sizes.for_layer(config, index, reach);
                (layer.store, layer.uncompressed) = sizes.store()?;
                let shared_indexer = config.list("indexer_types").and_then(|types| types.get(index)?.as_str());
                if plan.indexer && shared_indexer != Some("shared") {
                    layer.indexer = indexer(config)?;
                    // The first indexer keeps the three positions of each token for all.
                    let positions = config.get("indexer_compress_ratio").is_some() && indexers == 0;
                    layer.positions = if positions { 3 } else { 0 };
                    indexers += 1;
                }
            }
        }
        layers.push(layer);
    }
    Ok(layers)
}

/// Layers of families that keep something else than keys and values, as transformers 5.23 has them.
fn own_store(config: &Config, architecture: &Architecture, index: usize) -> Result<Option<Layer>, String> {
    let hidden = architecture.hidden_size.ok_or("the width is not known");
    let vector = |size: u64| Store::KeyValue { heads: 1, key: size, value: 0 };
    Ok(match config.text_type() {
        // Hidden states of past tokens (`mems`).
        "xlnet" => Some(Layer { store: vector(hidden?), uncompressed: hidden?, ..Layer::NOTHING }),
        // Hidden states, and for hashed attention the bucket of each head, round and token.
        "reformer" => {
            let hashed = config.list("attn_layers").and_then(|kinds| kinds.get(index)?.as_str()) == Some("lsh");
            let heads = architecture.attention.query_heads.unwrap_or(0);
            let rounds = config.unsigned("num_hashes").unwrap_or(1);
            let positions = if hashed { heads.saturating_mul(rounds) } else { 0 };
            Some(Layer { store: vector(hidden?), uncompressed: hidden?, positions, ..Layer::NOTHING })
        }
        "deepseek_v4" => Some(compressed(config, architecture, index)?),
        _ => None,
    })
}

/// A layer of DeepSeek-V4: a window of single tokens, and groups of older ones.
fn compressed(config: &Config, architecture: &Architecture, index: usize) -> Result<Layer, String> {
    let word = config.list("layer_types").and_then(|words| words.get(index)?.as_str());
    let listed = config.list("compress_ratios").and_then(|rates| whole(rates.get(index)?));
    // What the class takes where neither is stated: two heavily compressed layers, then both kinds in turn.
    let sparse = index >= 2 && !index.is_multiple_of(2);
    let word = word.unwrap_or(match listed {
        Some(0) => "sliding_attention",
        Some(SPARSE_RATE) => "compressed_sparse_attention",
        Some(_) => "heavily_compressed_attention",
        None if sparse => "compressed_sparse_attention",
        None => "heavily_compressed_attention",
    });
    let stated = |key: &'static str| config.unsigned(key).filter(|rate| *rate > 0);
    let rate = match word {
        "sliding_attention" => 0,
        "compressed_sparse_attention" => stated("compress_rates.compressed_sparse_attention").unwrap_or(SPARSE_RATE),
        "heavily_compressed_attention" => stated("compress_rates.heavily_compressed_attention").unwrap_or(128),
        other => return Err(format!("a layer is of the unknown kind {other:?}")),
    };
    let overlap = word == "compressed_sparse_attention";
    let head = architecture.attention.head_dim.ok_or("the size of a head is not known")?;
    let indexer = if overlap { config.unsigned("index_head_dim").unwrap_or(128) } else { 0 };
    let window = config.unsigned("sliding_window").filter(|window| *window > 0).unwrap_or(128);
    let query = architecture.attention.query_heads.unwrap_or(0);
    Ok(Layer {
        reach: Reach::Sliding(window),
        store: Store::Compressed(Compressed { head, indexer, rate, overlap }),
        uncompressed: query.saturating_mul(head).saturating_mul(2),
        ..Layer::NOTHING
    })
}

/// A state with the convolution over n-grams that some layers have besides (Qwen4-exp); layers are counted from 1.
fn with_ngrams(config: &Config, architecture: &Architecture, index: usize, state: State) -> State {
    let has = members(config, "ple_layer_ids").is_some_and(|layers| layers.contains(&(index as u64 + 1)));
    if !has {
        return state;
    }
    let number = |key: &'static str, default| config.unsigned(key).unwrap_or(default);
    let size = number("ngram_size", 3);
    let columns = number("ple_conv_kernel_size", 4).saturating_sub(1).saturating_mul(size);
    let width = architecture.hidden_size.unwrap_or(0).saturating_mul(number("hc_count", 1));
    State { besides: width.saturating_mul(columns), integers: size.saturating_sub(1), ..state }
}

/// Head counts and sizes of a layer.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    query: Option<u64>,
    kv: Option<u64>,
    key: Option<u64>,
    value: Option<u64>,
    latent: Option<(u64, u64)>,
    /// Sizes of the keys and values that a latent stands for.
    expanded: Option<(u64, u64)>,
}

impl Sizes {
    fn of_config(config: &Config, architecture: &Architecture) -> Self {
        let attention = &architecture.attention;
        let rank = latent_rank(config);
        let rotated = config.unsigned("qk_rope_head_dim");
        let value = config.unsigned("v_head_dim").filter(|size| *size > 0);
        Sizes {
            query: attention.query_heads,
            kv: attention.kv_heads,
            key: attention.head_dim,
            value: value.or(attention.head_dim),
            latent: rank.zip(rotated),
            expanded: attention.head_dim.zip(value),
        }
    }

    /// With what the configuration says of this layer alone: lists with an entry for each layer, other sizes for
    /// sliding or for global layers (MiMo, Inkling; Gemma 4), overrides in `per_layer_config`.
    fn for_layer(mut self, config: &Config, index: usize, reach: Reach) -> Self {
        let listed = |keys: &[&'static str]| {
            let (_, value) = config.first(keys)?;
            value.as_array()?.get(index).and_then(whole)
        };
        self.query = listed(QUERY_HEADS).or(self.query);
        self.kv = listed(KV_HEADS).or(self.kv);
        // Layers with a window have twice the heads of keys and values there.
        let slides = matches!(reach, Reach::Sliding(_));
        if slides && config.text_type() == "mimo_v2_flash" && config.get("swa_num_key_value_heads").is_none() {
            self.kv = self.kv.and_then(|heads| heads.checked_mul(2));
        }
        let mut replace = |query: Option<u64>, kv: Option<u64>, key: Option<u64>, value: Option<u64>| {
            self.query = query.or(self.query);
            self.kv = kv.or(self.kv);
            self.value = value.or(key.filter(|_| config.get("v_head_dim").is_none())).or(self.value);
            self.key = key.or(self.key);
        };
        match reach {
            Reach::All => replace(
                None,
                config
                    .unsigned("num_global_key_value_heads")
                    .filter(|_| config.truth("attention_k_eq_v") == Some(true)),
                config.unsigned("global_head_dim"),
                None,
            ),
            Reach::Sliding(_) | Reach::Chunked(_) => replace(
                config.unsigned("swa_num_attention_heads"),
                config.unsigned("swa_num_key_value_heads"),
                config.unsigned("swa_head_dim"),
                config.unsigned("swa_v_head_dim"),
            ),
        }
        let own = config.get("per_layer_config").and_then(|all| all.get(index.to_string()));
        if let Some(own) = own {
            let number = |key: &str| own.get(key).and_then(whole);
            replace(
                number("num_attention_heads"),
                number("num_key_value_heads"),
                number("head_dim"),
                number("v_head_dim"),
            );
            if let (Some(latent), Some(rank)) = (self.latent.as_mut(), number("kv_lora_rank")) {
                latent.0 = rank;
            }
        }
        self
    }

    fn store(&self) -> Result<(Store, u64), String> {
        if let Some((rank, rotated)) = self.latent {
            let expanded = self.expanded.map_or(0, |(key, value)| key.saturating_add(value));
            let uncompressed = self.query.unwrap_or(0).saturating_mul(expanded);
            return Ok((Store::Latent { rank, rotated }, uncompressed));
        }
        let heads = self.kv.ok_or("the number of key and value heads is not known")?;
        let (key, value) = self.key.zip(self.value).ok_or("the size of a head is not known")?;
        let uncompressed = self.query.unwrap_or(heads).saturating_mul(key.saturating_add(value));
        Ok((Store::KeyValue { heads, key, value }, uncompressed))
    }
}

/// Numbers per token in the keys of a sparse-attention indexer.
fn indexer(config: &Config) -> Result<u64, String> {
    let size = config.unsigned("index_head_dim").or_else(|| config.unsigned("indexer_head_dim"));
    let heads = config.unsigned("indexer_kv_heads").unwrap_or(1);
    size.and_then(|size| size.checked_mul(heads)).ok_or_else(|| "the size of the indexer's keys is not known".into())
}

/// What each layer does. The most explicit key wins; families whose classes fill in a pattern come last.
fn config_plans(config: &Config, count: usize) -> Result<Vec<Plan>, String> {
    let family = config.text_type();
    let all = |plan: Plan| Ok(vec![plan; count]);
    if is_encoder(config) {
        return all(Plan::NOTHING);
    }
    if attention_free(config) {
        return all(Plan::RECURRENT);
    }
    if matches!(family, "xlnet" | "reformer" | "deepseek_v4") {
        return all(Plan::FULL);
    }
    if matches!(family, "transfo-xl" | "minicpm_sala" | "hymba" | "phi4flash") {
        return Err(format!("{family} keeps past tokens in a way of its own"));
    }
    if family == "falcon_h1" {
        return all(Plan::BOTH);
    }
    let window = Window::of(config)?;
    let indexed = config.get("index_head_dim").is_some() || config.get("indexer_head_dim").is_some();
    let per_layer = |plan: &dyn Fn(usize) -> Plan| Ok((0..count).map(plan).collect());

    if let Some(words) = layer_words(config) {
        let repeats = config.get("block_types").is_some();
        if words.is_empty() || (words.len() < count && !repeats) {
            return Err(format!("{} kinds of layers are listed for {count} layers", words.len()));
        }
        return words.iter().cycle().take(count).map(|word| word_plan(word, family, &window, indexed)).collect();
    }
    if let Some(letters) = config.text("hybrid_override_pattern") {
        if letters.chars().count() < count {
            return Err("hybrid_override_pattern is shorter than the number of layers".into());
        }
        return letters
            .chars()
            .take(count)
            .map(|letter| match letter {
                'M' => Ok(Plan::RECURRENT),
                '*' => Ok(Plan::FULL),
                '-' | 'E' => Ok(Plan::NOTHING),
                other => Err(format!("hybrid_override_pattern has the unknown letter {other:?}")),
            })
            .collect();
    }
    let full_or_recurrent =
        |full: &dyn Fn(usize) -> bool| per_layer(&|layer| if full(layer) { Plan::FULL } else { Plan::RECURRENT });
    if let Some(kinds) = indices(config, "attn_type_list").filter(|kinds| kinds.len() >= count) {
        return full_or_recurrent(&|layer| kinds.get(layer) == Some(&1));
    }
    for key in ["attn_layer_indices", "full_attn_idxs"] {
        if let Some(full) = members(config, key) {
            return full_or_recurrent(&|layer| full.contains(&(layer as u64)));
        }
    }
    if let Some(both) = members(config, "hybrid_layer_ids") {
        return per_layer(&|layer| if both.contains(&(layer as u64)) { Plan::BOTH } else { Plan::RECURRENT });
    }
    // Kimi Linear counts layers from 1.
    if let Some(full) = members(config, "linear_attn_config.full_attn_layers") {
        return full_or_recurrent(&|layer| full.contains(&(layer as u64 + 1)));
    }
    if let Some(period) = config.unsigned("full_attention_interval").filter(|period| *period > 0) {
        return full_or_recurrent(&|layer| (layer as u64 + 1).is_multiple_of(period));
    }
    if let Some(period) = config.unsigned("attn_layer_period").filter(|period| *period > 0) {
        let offset = config.unsigned("attn_layer_offset").unwrap_or(0);
        return full_or_recurrent(&|layer| layer as u64 % period == offset % period);
    }
    const SIGNS: &[&str] = &[
        "mamba_d_state",
        "mamba_expand",
        "ssm_state_size",
        "ssm_cfg",
        "linear_num_value_heads",
        "linear_attn_config",
        "conv_L_cache",
        "lru_width",
        "layer_group_size",
        "rnn_state_size",
    ];
    if let Some(sign) = SIGNS.iter().find(|sign| config.get(sign).is_some()) {
        return Err(format!("{sign} tells of recurrent layers, but not which they are"));
    }
    if indexed {
        return all(Plan { indexer: true, ..Plan::FULL });
    }

    // Windows.
    let Some(reach) = window.reach else { return all(Plan::FULL) };
    let mixed = |sliding: &dyn Fn(u64) -> bool| {
        per_layer(&|layer| if sliding(layer as u64) { Plan::within(reach) } else { Plan::FULL })
    };
    if let Reach::Chunked(_) = reach {
        // Llama 4: layers without rotation see everything; by default every fourth.
        return match indices(config, "no_rope_layers").filter(|rope| rope.len() >= count) {
            Some(rope) => mixed(&|layer| usize::try_from(layer).is_ok_and(|layer| rope.get(layer) != Some(&0))),
            None => {
                let period = config.unsigned("no_rope_layer_interval").filter(|period| *period > 0).unwrap_or(4);
                mixed(&|layer| !(layer + 1).is_multiple_of(period))
            }
        };
    }
    if let Some(pattern) = config.text("sliding_window_pattern") {
        // EXAONE 4: a word such as LLLG, repeated.
        let letters: Vec<char> = pattern.chars().take(count).collect();
        let known = !letters.is_empty() && letters.iter().all(|letter| matches!(letter, 'L' | 'G'));
        if !known {
            return Err("sliding_window_pattern is not understood".into());
        }
        let last = count as u64 - 1;
        return mixed(&|layer| {
            let place = usize::try_from(layer).map_or(0, |layer| layer % letters.len());
            layer != last && letters.get(place) == Some(&'L')
        });
    }
    const PERIOD: &[&str] = &["sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers"];
    let period = config.first(PERIOD).and_then(|(_, value)| whole(value));
    // Defaults of the configuration classes, for files that leave the key out.
    let period = period.or(match family {
        "gemma2" | "gpt_oss" | "vaultgemma" => Some(2),
        "gemma3" | "gemma3_text" => Some(6),
        "gemma3n" | "gemma3n_text" => Some(5),
        "cohere2" | "olmo3" | "afmoe" => Some(4),
        _ => None,
    });
    if let Some(period) = period.filter(|period| *period > 0) {
        return mixed(&|layer| !(layer + 1).is_multiple_of(period));
    }
    // Qwen 2 and 3: the first layers keep everything.
    if let Some(first) = config.unsigned("max_window_layers").filter(|_| config.truth("use_sliding_window").is_some()) {
        return mixed(&|layer| layer >= first);
    }
    all(Plan::within(reach))
}

/// Encoders and embedding models see their whole input at once.
fn is_encoder(config: &Config) -> bool {
    const FAMILIES: &[&str] = &[
        "albert",
        "bert",
        "big_bird",
        "camembert",
        "canine",
        "convbert",
        "data2vec-text",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "ernie_m",
        "esm",
        "eurobert",
        "flaubert",
        "fnet",
        "funnel",
        "ibert",
        "jina_bert",
        "layoutlm",
        "longformer",
        "luke",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "mpnet",
        "mra",
        "neobert",
        "new",
        "nezha",
        "nomic_bert",
        "nystromformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "splinter",
        "squeezebert",
        "tapas",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
        "yoso",
    ];
    let decodes = config.truth("is_decoder") == Some(true) || config.class().ends_with("ForCausalLM");
    !decodes && (config.class().ends_with("ForMaskedLM") || FAMILIES.contains(&config.text_type()))
}

/// How far sliding or chunked layers look back.
struct Window {
    reach: Option<Reach>,
}

impl Window {
    fn of(config: &Config) -> Result<Self, String> {
        let number = |keys: &[&'static str]| match config.first(keys) {
            None => Ok(None),
            Some((key, value)) => match whole(value) {
                Some(tokens) => Ok(Some(tokens).filter(|tokens| *tokens > 0)),
                None => Err(format!("{key} is no number of tokens")),
            },
        };
        let off = config.truth("use_sliding_window") == Some(false);
        let sliding = number(&["sliding_window", "sliding_window_size", "attention_window_size", "local_attention"])?;
        let chunk = number(&["attention_chunk_size"])?;
        let reach = sliding.filter(|_| !off).map(Reach::Sliding).or(chunk.map(Reach::Chunked));
        Ok(Window { reach })
    }
}

/// The kinds of layers in words, under any of their keys.
fn layer_words<'a>(config: &Config<'a>) -> Option<Vec<&'a str>> {
    const WORDS: &[&str] = &["layer_types", "layers_block_type", "block_types"];
    let words = WORDS.iter().find_map(|key| config.list(key))?;
    words.iter().map(Value::as_str).collect()
}

fn word_plan(word: &str, family: &str, window: &Window, indexed: bool) -> Result<Plan, String> {
    let windowed = |recurrent: bool| match window.reach {
        Some(reach) => Ok(Plan { recurrent, ..Plan::within(reach) }),
        None => Err(format!("a layer is {word}, but no window is given")),
    };
    match word {
        // RecurrentGemma's attention is local; no other family says so little.
        "attention" if family == "recurrent_gemma" => windowed(false),
        "full_attention" | "attention" | "full" | "global_attention" | "global" => Ok(Plan::FULL),
        "indexed_attention" => Ok(Plan { indexer: indexed, ..Plan::FULL }),
        "sliding_attention" | "sliding_window_attention" | "sliding" | "chunked_attention" | "local_attention" => {
            windowed(false)
        }
        "hybrid_sliding" => windowed(true),
        "linear_attention" | "mamba" | "mamba2" | "recurrent" | "conv" | "m" | "kda" => Ok(Plan::RECURRENT),
        "hybrid" => Ok(Plan::BOTH),
        "moe" | "mlp" | "dense" | "feed_forward" => Ok(Plan::NOTHING),
        other => Err(format!("a layer is of the unknown kind {:?}", other.chars().take(40).collect::<String>())),
    }
}

/// A list of whole numbers; `None` where anything else is in it.
fn indices(config: &Config, key: &str) -> Option<Vec<u64>> {
    config.list(key)?.iter().map(whole).collect()
}

/// The same as a set, for lists that name layers: a hostile one is long, and asked for every layer.
fn members(config: &Config, key: &str) -> Option<HashSet<u64>> {
    config.list(key)?.iter().map(whole).collect()
}

/// Size of the recurrent state of one layer, from the configuration classes of transformers.
fn config_state(config: &Config, architecture: &Architecture) -> Option<State> {
    let any = |keys: &[&'static str]| config.first(keys).and_then(|(_, value)| whole(value));
    let hidden = architecture.hidden_size?;
    let family = config.text_type();
    // Inkling: a short convolution on keys, on values, and on what attention and feed-forward read.
    if family.starts_with("inkling") {
        let heads = architecture.attention.kv_heads?.checked_mul(architecture.attention.head_dim?)?;
        let channels = heads.checked_add(hidden)?.checked_mul(2)?;
        return Some(State { channels, kernel: any(&["conv_kernel_size", "sconv_kernel_size"])?, ..State::default() });
    }
    // Zaya: a convolution over queries and keys together, and half of the values of the token before.
    if let Some(times) = any(&["cca_time0"]).zip(any(&["cca_time1"])) {
        let attention = &architecture.attention;
        let (size, kv) = (attention.head_dim?, attention.kv_heads?);
        let channels = attention.query_heads?.checked_add(kv)?.checked_mul(size)?;
        let kernel = times.0.saturating_sub(1).checked_add(times.1.saturating_sub(1))?;
        return Some(State { recurrent: kv.checked_mul(size)? / 2, channels, kernel, ..State::default() });
    }
    // xLSTM: matrix, normaliser and maximum of each head. Its one offset is counted with the first layer.
    if family == "xlstm" {
        let heads = any(&["num_heads"])?;
        let factor = |key: &'static str, default: f64| config.get(key).and_then(Value::as_f64).unwrap_or(default);
        let rounded = |factor: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
            let width = (hidden as f64 * factor) as u64;
            width.checked_add(63).map(|width| width / 64 * 64)?.checked_div(heads)
        };
        let (key, value) = (rounded(factor("qk_dim_factor", 0.5))?, rounded(factor("v_dim_factor", 1.0))?);
        let recurrent = key.checked_mul(value)?.checked_add(key)?.checked_add(1)?.checked_mul(heads)?;
        return Some(State { recurrent, ..State::default() });
    }
    // Gated delta net (Qwen3-Next and its heirs).
    if let Some(values) = any(&["linear_num_value_heads"]) {
        let (keys, key, value) =
            (any(&["linear_num_key_heads"])?, any(&["linear_key_head_dim"])?, any(&["linear_value_head_dim"])?);
        return Some(State {
            recurrent: values.checked_mul(key)?.checked_mul(value)?,
            channels: keys.checked_mul(key)?.checked_mul(2)?.checked_add(values.checked_mul(value)?)?,
            kernel: any(&["linear_conv_kernel_dim"])?,
            ..State::default()
        });
    }
    // Kimi delta attention.
    if let Some(heads) = any(&["linear_attn_config.num_heads", "linear_num_heads"]) {
        let size = any(&["linear_attn_config.head_dim", "linear_head_dim"])?;
        let width = heads.checked_mul(size)?;
        let kernel = any(&["linear_attn_config.short_conv_kernel_size", "linear_conv_kernel_dim"])?;
        return Some(State {
            recurrent: width.checked_mul(size)?,
            channels: width.checked_mul(3)?,
            kernel,
            ..State::default()
        });
    }
    if let Some(kernel) = any(&["conv_L_cache"]) {
        return Some(State { recurrent: 0, channels: hidden, kernel, ..State::default() });
    }
    if let Some(width) = any(&["lru_width"]) {
        return Some(State {
            recurrent: width,
            channels: width,
            kernel: any(&["conv1d_width"])?.saturating_sub(1),
            ..State::default()
        });
    }
    if family == "rwkv" {
        return Some(State { recurrent: hidden.checked_mul(5)?, channels: 0, kernel: 0, ..State::default() });
    }
    if family == "minimax" || family == "minimax_text_01" {
        let (heads, size) = (architecture.attention.query_heads?, architecture.attention.head_dim?);
        return Some(State {
            recurrent: heads.checked_mul(size)?.checked_mul(size)?,
            channels: 0,
            kernel: 0,
            ..State::default()
        });
    }
    let states = any(&["mamba_d_state", "ssm_state_size", "state_size"])?;
    let kernel = any(&["mamba_d_conv", "conv_kernel"])?;
    let expand = any(&["mamba_expand", "expand"]);
    let inner = any(&["mamba_d_ssm"]).or_else(|| hidden.checked_mul(expand?));
    let heads = any(&["mamba_n_heads", "mamba_num_heads", "n_mamba_heads"])
        .or_else(|| (family == "mamba2").then(|| any(&["num_heads"])).flatten());
    let size = any(&["mamba_d_head", "mamba_head_dim", "mamba_headdim"])
        .or_else(|| (family == "mamba2").then(|| any(&["head_dim"])).flatten());
    let groups = any(&["mamba_n_groups", "n_groups", "mamba_ngroups"]);
    match (heads, size, groups) {
        // Mamba 2: one state for each head, groups of shared projections beside the convolution.
        (Some(heads), size, Some(groups)) => {
            let width = match size {
                Some(size) => heads.checked_mul(size)?,
                None => inner?,
            };
            let shared = groups.checked_mul(states)?.checked_mul(2)?;
            Some(State {
                recurrent: width.checked_mul(states)?,
                channels: width.checked_add(shared)?,
                kernel,
                ..State::default()
            })
        }
        // Mamba 1, also with heads (Zamba).
        _ => {
            let stated = (family == "mamba" || family == "falcon_mamba").then(|| any(&["intermediate_size"])).flatten();
            let inner = stated.or(inner)?;
            Some(State { recurrent: inner.checked_mul(states)?, channels: inner, kernel, ..State::default() })
        }
    }
}
