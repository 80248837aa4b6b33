//! The architecture as a configuration states it: `config.json` of transformers in its many spellings, or
//! `params.json` of Mistral and Meta.
//!
//! Key names are those of the configuration classes of transformers 4 and 5 and of the repositories that bring their
//! own code.

use serde_json::{Map, Value};

use super::{CONFIG_VALUE_ODD, Facts, Known, key};
use crate::finding::Finding;

/// Keys under which composite models keep the configuration of their language model.
const NESTED: &[&str] = &[
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "vlm_config",
    "decoder",
    "lm_config",
    "language_model_config",
    "text_model_config",
    "llm",
];

/// Levels of nesting that are followed (Qwen-Omni: `thinker_config.text_config`).
const MAX_NESTING: usize = 4;

/// Keys that the language model inherits from the levels around it. The other numbers out there describe towers and
/// projectors.
const INHERITED: &[&str] = &["vocab_size", "tie_word_embeddings", "use_sliding_window", "rope_scaling", "rope_theta"];

const LAYERS: &[&str] = &[
    "num_decoder_layers",
    "decoder_layers",
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_blocks",
    "num_transformer_layers",
];
const HIDDEN: &[&str] = &["hidden_size", "n_embd", "d_model", "dim", "emb_dim", "model_dim", "embedding_dim"];
const VOCAB: &[&str] = &["vocab_size", "padded_vocab_size", "n_vocab", "n_words", "decoder_vocab_size"];
const CONTEXT: &[&str] = &[
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "max_seq_length",
    "max_context_length",
    "model_max_length",
    "n_ctx",
    "context_length",
    "max_target_positions",
];
pub(crate) const QUERY_HEADS: &[&str] = &[
    "decoder_attention_heads",
    "num_decoder_attention_heads",
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_query_heads",
    "attention_heads",
    "num_heads",
];
pub(crate) const KV_HEADS: &[&str] = &[
    "num_key_value_heads",
    "num_kv_heads",
    "n_kv_heads",
    "n_head_kv",
    "attn_config.kv_n_heads",
    "decoder_key_value_heads",
];
const HEAD_DIM: &[&str] =
    &["head_dim", "attention_head_dim", "d_kv", "d_head", "dim_head", "attention_head_size", "kv_channels"];
const INTERMEDIATE: &[&str] = &[
    "dense_intermediate_size",
    "block_ff_dim",
    "intermediate_size_mlp",
    "intermediate_size",
    "ffn_hidden_size",
    "n_inner",
    "decoder_ffn_dim",
    "ffn_dim",
    "d_ff",
    "hidden_dim",
    "ffn_config.ffn_hidden_size",
    "dim_ff",
    "dff",
    "d_inner",
    "feed_forward_size",
];
const EXPERTS: &[&str] = &[
    "n_routed_experts",
    "num_local_experts",
    "num_experts",
    "moe_num_experts",
    "ffn_config.moe_num_experts",
    "moe.num_experts",
    "n_experts",
];
const ACTIVE: &[&str] = &[
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
    "ffn_config.moe_top_k",
    "moe.num_experts_per_tok",
    "num_selected_experts",
];
const SHARED: &[&str] = &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"];
const EXPERT_SIZE: &[&str] = &["moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size"];
const ACTIVATION: &[&str] = &[
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "activation",
    "mlp_hidden_act",
    "ff_activation",
    "ffn_config.ffn_act_fn.name",
    "feed_forward_proj",
];

/// A configuration, seen from its language model.
#[derive(Debug, Clone)]
pub(crate) struct Config<'a> {
    /// The object that describes the language model.
    inner: &'a Map<String, Value>,
    /// The objects around it, nearest first.
    outer: Vec<&'a Map<String, Value>>,
    /// Keys that lead to `inner`, each with a dot behind it.
    path: String,
}

impl<'a> Config<'a> {
    /// Finds the language model in a configuration; `None` where that is no JSON object.
    pub(crate) fn new(json: &'a Value) -> Option<Self> {
        let mut config = Config { inner: json.as_object()?, outer: Vec::new(), path: String::new() };
        for _ in 0..MAX_NESTING {
            let nested = NESTED.iter().find_map(|name| Some((name, config.inner.get(*name)?.as_object()?)));
            let Some((name, inner)) = nested else { break };
            config.outer.insert(0, config.inner);
            config.inner = inner;
            config.path = format!("{}{name}.", config.path);
        }
        Some(config)
    }

    /// `model_type` of the whole.
    pub(crate) fn model_type(&self) -> Option<&'a str> {
        let outermost = self.outer.last().copied().unwrap_or(self.inner);
        outermost.get("model_type").or_else(|| self.inner.get("model_type"))?.as_str()
    }

    /// `model_type` of the language model, else of the whole.
    pub(crate) fn text_type(&self) -> &'a str {
        let own = self.inner.get("model_type").and_then(Value::as_str).filter(|name| !name.is_empty());
        own.or_else(|| self.model_type()).unwrap_or("")
    }

    /// The first class of `architectures`, wherever it is said.
    pub(crate) fn class(&self) -> &'a str {
        let classes = std::iter::once(&self.inner).chain(&self.outer).find_map(|scope| scope.get("architectures"));
        classes.and_then(Value::as_array).and_then(|list| list.first()).and_then(Value::as_str).unwrap_or("")
    }

    /// The value of a key (a dot reaches into an object) that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        let reach = |scope: &'a Map<String, Value>| {
            let mut parts = key.split('.');
            let first = scope.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.as_object()?.get(part)).filter(|value| !value.is_null())
        };
        let inherited = || self.outer.iter().find_map(|scope| reach(scope));
        reach(self.inner).or_else(|| INHERITED.contains(&key).then(inherited).flatten())
    }

    /// Whether a key is there, null or not.
    fn mentions(&self, key: &str) -> bool {
        self.inner.contains_key(key)
    }

    pub(crate) fn unsigned(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(whole)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    pub(crate) fn truth(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    pub(crate) fn list(&self, key: &str) -> Option<&'a [Value]> {
        self.get(key)?.as_array().map(Vec::as_slice)
    }

    /// The first of several spellings that is there.
    pub(crate) fn first(&self, keys: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        keys.iter().find_map(|key| Some((*key, self.get(key)?)))
    }

    /// Where a key stands. Meta's and Mistral's own files are told by their name for the width.
    fn source(&self, key: &str) -> String {
        let own = self.inner.contains_key("dim") && !self.inner.contains_key("model_type");
        format!("{}: {}{key}", if own { "params.json" } else { "config.json" }, self.path)
    }

    /// A number under the first spelling that is there: of a list with one entry for each layer the value that all
    /// layers share, without those that have none.
    fn number(&self, keys: &[&'static str], findings: &mut Vec<Finding>) -> Option<Known<u64>> {
        let (key, value) = self.first(keys)?;
        let number = match value {
            Value::Array(list) => {
                let mut values = list.iter().map(whole);
                let some = list.iter().filter_map(whole).find(|number| *number != 0)?;
                values.all(|number| number == Some(some) || number == Some(0)).then_some(some)?
            }
            value => match whole(value) {
                Some(number) => number,
                None => {
                    // Meta's params.json says -1 for a vocabulary that the tokenizer decides.
                    let message = format!("{}{key} is {}, which is no size", self.path, brief(value));
                    findings.push(Finding::new(&CONFIG_VALUE_ODD, message));
                    return None;
                }
            },
        };
        Some(Known::new(number, self.source(key)))
    }
}

/// A whole number that is not negative, also where it was written as `4096.0`.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    /// 2^53, up to which doubles are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        let fits = (0.0..=EXACT).contains(&number) && number.fract() == 0.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, positive and exact, as just tested
        fits.then_some(number as u64)
    })
}

/// A value for a message, cut.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 40;
    match value {
        Value::Object(_) => "an object".to_string(),
        Value::Array(_) => "a list".to_string(),
        value => {
            let text = value.to_string();
            if text.chars().count() > LONGEST { text.chars().take(LONGEST).chain(['…']).collect() } else { text }
        }
    }
}

/// What the configuration says.
pub(super) fn facts(config: &Config) -> Facts {
    let mut facts = Facts::default();
    let mut odd = Vec::new();
    let plain: [(&'static str, &[&'static str]); 9] = [
        (key::LAYERS, LAYERS),
        (key::HIDDEN, HIDDEN),
        (key::VOCAB, VOCAB),
        (key::CONTEXT, CONTEXT),
        (key::QUERY_HEADS, QUERY_HEADS),
        (key::KV_HEADS, KV_HEADS),
        (key::HEAD_DIM, HEAD_DIM),
        (key::INTERMEDIATE, INTERMEDIATE),
        (key::WINDOW, &["sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size"]),
    ];
    heads(config, &mut facts);
    facts.set(key::INTERMEDIATE, derived_width(config));
    // Nemotron-H says only what each layer is.
    if config.first(LAYERS).is_none() {
        facts.set(key::LAYERS, listed_layers(config));
    }
    for (key, spellings) in plain {
        let known = config.number(spellings, &mut odd).filter(|known| known.value > 0);
        // An attention-free model counts other things in heads.
        let other = matches!(key, key::QUERY_HEADS | key::KV_HEADS | key::HEAD_DIM) && attention_free(config);
        if !other {
            facts.set(key, known);
        }
    }
    derived_heads(config, &mut facts);
    if config.mentions("n_inner") && config.get("n_inner").is_none() {
        let four = facts.number(key::HIDDEN).and_then(|hidden| hidden.checked_mul(4));
        facts.set(key::INTERMEDIATE, four.map(|size| Known::assumed(size, "config.json: n_inner is null: 4 × n_embd")));
    }
    experts(config, &mut facts, &mut odd);
    rope(config, &mut facts);
    if let Some(name) = config.model_type() {
        facts.family = Some(Known::new(name.to_string(), "config.json: model_type"));
    }
    if let Some((key, value)) = config.first(&["tie_word_embeddings", "tie_embedding"]) {
        facts.tied = value.as_bool().map(|tied| Known::new(tied, config.source(key)));
    }
    if let Some((key, value)) = config.first(ACTIVATION) {
        facts.activation = value.as_str().map(|name| Known::new(name.to_string(), config.source(key)));
    }
    facts.findings = odd;
    facts
}

/// Width of the feed-forward network where the class computes it from what the configuration says.
fn derived_width(config: &Config) -> Option<Known<u64>> {
    let (key, value) = config.first(INTERMEDIATE)?;
    let stated = whole(value)?;
    match config.text_type() {
        // Gate and up-projection share the width.
        "recurrent_gemma" | "moshi" => Some(Known::new(stated / 2, format!("{} / 2", config.source(key)))),
        // Lfm2MLP: two thirds, times a factor, up to the next multiple.
        family if family.starts_with("lfm2") && config.truth("block_auto_adjust_ff_dim") == Some(true) => {
            let factor = config.get("block_ffn_dim_multiplier").and_then(Value::as_f64).unwrap_or(1.0);
            let multiple = config.unsigned("block_multiple_of").filter(|multiple| *multiple > 0).unwrap_or(1);
            let scaled = stated.checked_mul(2)? as f64 / 3.0;
            let width = whole(&Value::from((scaled.floor() * factor).floor()))?.checked_next_multiple_of(multiple)?;
            Some(Known::new(width, format!("{} with block_auto_adjust_ff_dim", config.source(key))))
        }
        _ => None,
    }
}

/// The number of layers, from what lists one entry for each.
fn listed_layers(config: &Config) -> Option<Known<u64>> {
    let (key, value) = config.first(&["layers_block_type", "layer_types", "hybrid_override_pattern"])?;
    let length = match value {
        Value::Array(list) => list.len(),
        value => value.as_str()?.chars().count(),
    };
    Some(Known::new(u64::try_from(length).ok()?, format!("{}, counted", config.source(key))))
}

/// Whether the model has no attention, so that its `num_heads` and `head_dim` are those of a state space.
pub(crate) fn attention_free(config: &Config) -> bool {
    let family = config.text_type();
    matches!(family, "mamba" | "mamba2" | "falcon_mamba" | "xlstm") || family.starts_with("rwkv")
}

/// Head counts where a family has its own way to say them.
fn heads(config: &Config, facts: &mut Facts) {
    let query = config.first(QUERY_HEADS).and_then(|(_, value)| whole(value));
    let kv = match config.text_type() {
        // FalconConfig: `num_kv_heads` counts only with the new decoder; else one head for all, or as many as queries.
        "falcon" | "RefinedWeb" | "RefinedWebModel" if config.truth("new_decoder_architecture") != Some(true) => {
            let multi = config.truth("multi_query").unwrap_or(true);
            let heads = if multi { Some(1) } else { query };
            heads.map(|heads| (heads, "config.json: multi_query"))
        }
        "gpt_bigcode" => {
            let heads = if config.truth("multi_query").unwrap_or(true) { Some(1) } else { query };
            heads.map(|heads| (heads, "config.json: multi_query"))
        }
        "chatglm" if config.truth("multi_query_attention") == Some(true) => {
            config.unsigned("multi_query_group_num").map(|heads| (heads, "config.json: multi_query_group_num"))
        }
        _ => None,
    };
    facts.set(key::KV_HEADS, kv.map(|(heads, source)| Known::assumed(heads, source)));
    // Latent attention: the queries and keys that scores are made of have a part with and a part without rotation.
    let latent = config.get("kv_lora_rank").is_some();
    let parts = config.unsigned("qk_nope_head_dim").zip(config.unsigned("qk_rope_head_dim"));
    if let (true, Some((plain, rotated))) = (latent, parts) {
        let size = plain.checked_add(rotated);
        let source = "config.json: qk_nope_head_dim + qk_rope_head_dim";
        facts.set(key::HEAD_DIM, size.map(|size| Known::new(size, source)));
        facts.set(key::ROPE_DIMENSION, Some(Known::new(rotated, "config.json: qk_rope_head_dim")));
    }
}

/// Numbers that follow from others when their own key is absent.
fn derived_heads(config: &Config, facts: &mut Facts) {
    if attention_free(config) {
        return;
    }
    let Some(query) = facts.number(key::QUERY_HEADS) else { return };
    let silent = config.first(KV_HEADS).is_none();
    if silent {
        facts.set(
            key::KV_HEADS,
            Some(Known::assumed(query, "config.json: no key for key/value heads, hence as many as query heads")),
        );
    }
    let quotient = facts.number(key::HIDDEN).filter(|hidden| query > 0 && hidden.is_multiple_of(query));
    if config.first(HEAD_DIM).is_none() {
        let source = "config.json: hidden size / attention heads";
        facts.set(key::HEAD_DIM, quotient.map(|hidden| Known::assumed(hidden / query, source)));
    }
}

fn experts(config: &Config, facts: &mut Facts, odd: &mut Vec<Finding>) {
    // Families that share their class with a dense sibling say 0 or 1.
    let Some(count) = config.number(EXPERTS, odd).filter(|count| count.value > 1) else { return };
    if config.truth("enable_moe_block") == Some(false) {
        return;
    }
    facts.set(key::EXPERTS, Some(count));
    facts.set(key::ACTIVE, config.number(ACTIVE, odd).filter(|active| active.value > 0));
    let own_size = ["shared_expert_intermediate_size", "shared_intermediate_size", "shared_experts_intermediate_size"];
    facts.set(key::SHARED, config.number(SHARED, odd));
    for size in own_size {
        let one = config.unsigned(size).filter(|size| *size > 0).map(|_| Known::new(1, config.source(size)));
        facts.set(key::SHARED, one);
    }
    let width = config.number(EXPERT_SIZE, odd).or_else(|| {
        // A list (one width for language, one for vision experts) begins with that of language.
        let (key, value) = config.first(EXPERT_SIZE)?;
        Some(Known::new(whole(value.as_array()?.first()?)?, config.source(key)))
    });
    // Llama 4 calls the width of its dense layers by another name.
    let width = width.or_else(|| {
        config.get("intermediate_size_mlp")?;
        config.number(&["intermediate_size"], odd)
    });
    // Without a key of its own, the only width that is stated is that of the experts.
    let only = config.first(EXPERT_SIZE).is_none().then(|| facts.numbers.get(key::INTERMEDIATE).cloned()).flatten();
    facts.set(key::EXPERT_SIZE, width.or(only.map(|only| Known::assumed(only.value, only.source))));
}

/// Rotary embedding, in the old form (`rope_theta` with `rope_scaling`) and the new (`rope_parameters`, which may
/// differ by kind of layer: then that of the full layers counts).
fn rope(config: &Config, facts: &mut Facts) {
    const KINDS: &[&str] = &["full_attention", "indexed_attention", "hybrid", "main", "sliding_attention"];
    let parameters = config.get("rope_parameters").and_then(Value::as_object).map(|all| {
        let of_kind = KINDS.iter().find_map(|kind| Some((*kind, all.get(*kind)?.as_object()?)));
        of_kind.map_or((String::new(), all), |(kind, own)| (format!("{kind}."), own))
    });
    let in_parameters = |name: &'static str| {
        let (prefix, own) = parameters.as_ref()?;
        let value = own.get(name).filter(|value| !value.is_null())?;
        Some((format!("config.json: {}rope_parameters.{prefix}{name}", config.path), value))
    };
    let old = |names: &[&'static str]| config.first(names).map(|(key, value)| (config.source(key), value));

    let theta = in_parameters("rope_theta")
        .or_else(|| old(&["rope_theta", "rotary_emb_base", "rotary_embedding_base", "attn_config.rope_theta"]));
    facts.theta = theta.and_then(|(source, value)| {
        Some(Known::new(value.as_f64().filter(|theta| theta.is_finite() && *theta > 0.0)?, source))
    });

    let stated = old(&["rotary_dim"]).and_then(|(source, value)| Some(Known::new(whole(value)?, source)));
    facts.set(key::ROPE_DIMENSION, stated);
    if facts.theta.is_some() || config.get("rotary_pct").is_some() {
        let part = in_parameters("partial_rotary_factor").or_else(|| old(&["partial_rotary_factor", "rotary_pct"]));
        let head = facts.number(key::HEAD_DIM);
        let dimension = match part {
            Some((source, value)) => value.as_f64().zip(head).and_then(|(part, head)| {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and head, as filtered
                let rotated = Some(part)
                    .filter(|part| (0.0..=1.0).contains(part) && head < 1 << 32)
                    .map(|part| (head as f64 * part) as u64)?;
                Some(Known::new(rotated, format!("{source} × head size")))
            }),
            None => head.map(|head| Known::assumed(head, "the whole head: no key for a part of it")),
        };
        facts.set(key::ROPE_DIMENSION, dimension);
    }

    let old_scaling = config.get("rope_scaling").and_then(Value::as_object).map(|own| ("rope_scaling".into(), own));
    let new_scaling = parameters.as_ref().map(|(prefix, own)| {
        (format!("rope_parameters.{}", prefix.trim_end_matches('.')).trim_end_matches('.').to_string(), *own)
    });
    facts.scaling = old_scaling.or(new_scaling).and_then(|(name, own): (String, _)| {
        let kind = own.get("rope_type").or_else(|| own.get("type"))?.as_str()?;
        let words = scaling(
            kind,
            own.get("factor").and_then(Value::as_f64),
            own.get("original_max_position_embeddings").and_then(whole),
        )?;
        Some(Known::new(words, format!("config.json: {}{name}", config.path)))
    });
}

/// Scaling in words; `None` for the kinds that scale nothing.
pub(super) fn scaling(kind: &str, factor: Option<f64>, original: Option<u64>) -> Option<String> {
    if matches!(kind, "default" | "none" | "mrope" | "") {
        return None;
    }
    let mut words: String = kind.chars().take(40).collect();
    if let Some(factor) = factor.filter(|factor| factor.is_finite() && *factor > 0.0) {
        words.push_str(&format!(", factor {factor}"));
    }
    if let Some(original) = original {
        words.push_str(&format!(", from {original} tokens"));
    }
    Some(words)
}
