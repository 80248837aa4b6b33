//! What can be said of a model's architecture, with the evidence for each number.
//!
//! Three witnesses are heard: the configuration (`config`), the metadata of a GGUF (`gguf`), and the names and
//! shapes of the tensors (`shapes`). Where they contradict each other the shapes are believed, since a runtime
//! would fail on anything else, and a finding keeps both. What nobody states stays unknown.

mod config;
mod gguf;
mod shapes;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use config::{Config, KV_HEADS, QUERY_HEADS, attention_free, latent_rank, whole};
pub(crate) use gguf::Keys;

use crate::cache::{self, Cache};
use crate::finding::{Finding, Rule, Severity};
use crate::metadata::Metadata;
use crate::names::{Part, Role};

static CONFIG_CONTRADICTS_WEIGHTS: Rule = Rule {
    name: "config-contradicts-weights",
    severity: Severity::Warning,
    why: "The configuration states another size than the tensors have. One of them belongs to another model, and \
          loading fails or leaves weights unused.",
    help: "fetch configuration and weights from the same place and revision",
};
static CONFIG_VALUE_ODD: Rule = Rule {
    name: "config-value-odd",
    severity: Severity::Warning,
    why: "A size in the configuration is not the whole number that it must be, so it is ignored.",
    help: "correct the value, or fetch the configuration again",
};

/// The rules of this module.
pub static RULES: &[&Rule] = &[&CONFIG_CONTRADICTS_WEIGHTS, &CONFIG_VALUE_ODD];

/// A tensor as a witness: name, logical shape (outermost dimension first, packed types as the numbers that they
/// stand for), and what the name says.
pub type Witness<'a> = (&'a str, &'a [u64], Part);

/// All that is known about a model before one weight is read.
#[derive(Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// `config.json` or `params.json`.
    pub config: Option<&'a serde_json::Value>,
    /// Metadata of the (first) GGUF.
    pub gguf: Option<&'a Metadata>,
    /// Every tensor of the model, over all of its files.
    pub tensors: &'a [Witness<'a>],
}

/// The architecture; serialises to `architecture` of `anatomy inspect --json`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Architecture {
    /// Family in the field's own word: `model_type` of a configuration, `general.architecture` of a GGUF.
    pub family: Option<String>,
    /// `model_type` of the configuration.
    pub model_type: Option<String>,
    /// Layers of the main stack; of the decoder where there is an encoder too. Next-token-prediction layers do not
    /// count.
    pub layers: Option<u64>,
    /// Width of the residual stream.
    pub hidden_size: Option<u64>,
    /// Rows of the token embedding.
    pub vocab_size: Option<u64>,
    /// Tokens that the model was trained for.
    pub context_length: Option<u64>,
    /// Whether the output head is the token embedding.
    pub tied_embeddings: Option<bool>,
    /// Attention.
    pub attention: Attention,
    /// The feed-forward network of a layer (of a dense one, where some are mixtures).
    pub feed_forward: FeedForward,
    /// The mixture of experts; `None` where there is none, or none is known.
    pub experts: Option<Experts>,
    /// Rotary position embedding; `None` where there is none, or none is known.
    pub rope: Option<Rope>,
    /// Where each number comes from: key of this document → source.
    pub evidence: BTreeMap<&'static str, String>,
    /// Families that names and shapes cannot tell apart. Empty until the atlas fills it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// What each layer keeps of past tokens.
    #[serde(skip)]
    pub cache: Cache,
    /// Where the witnesses contradict each other or make no sense.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// Attention of a model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Attention {
    /// `mha`, `gqa`, `mqa`, `mla`, `linear`, `none` or `hybrid`.
    pub kind: Option<&'static str>,
    /// Heads of queries.
    pub query_heads: Option<u64>,
    /// Heads of keys and values.
    pub kv_heads: Option<u64>,
    /// Numbers in a query or key of one head.
    pub head_dim: Option<u64>,
    /// Tokens that a sliding or chunked layer looks back.
    pub sliding_window: Option<u64>,
    /// Kind of each layer, where they differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_layer: Vec<&'static str>,
    /// Head sizes that the shapes allow, where nothing decides between them or layers differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub head_dim_candidates: Vec<u64>,
    /// Query heads that follow from each of `head_dim_candidates`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_heads_candidates: Vec<u64>,
    /// Key and value heads that follow from each of `head_dim_candidates`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kv_heads_candidates: Vec<u64>,
}

/// Feed-forward network.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FeedForward {
    /// `swiglu`, `geglu`, `gated` (a gate of unknown activation), `mlp` (two matrices), the activation's name, or
    /// `moe`.
    pub kind: Option<String>,
    /// Width between the matrices.
    pub intermediate_size: Option<u64>,
}

/// Mixture of experts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Experts {
    /// Routed experts of a layer.
    pub count: Option<u64>,
    /// Routed experts that a token uses.
    pub active: Option<u64>,
    /// Shared experts that every token uses.
    pub shared: Option<u64>,
    /// Width between the matrices of one routed expert.
    pub intermediate_size: Option<u64>,
}

/// Rotary position embedding.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: Option<f64>,
    /// Numbers of each head that are rotated.
    pub dimension: Option<u64>,
    /// How positions beyond the original training are reached, in words; `None` for none.
    pub scaling: Option<String>,
}

/// A value with where it comes from.
#[derive(Debug, Clone)]
struct Known<T> {
    value: T,
    source: String,
    /// Whether it only follows from the silence of the witness, so that another may say otherwise.
    assumed: bool,
}

impl<T> Known<T> {
    fn new(value: T, source: impl Into<String>) -> Self {
        Known { value, source: source.into(), assumed: false }
    }

    fn assumed(value: T, source: impl Into<String>) -> Self {
        Known { assumed: true, ..Known::new(value, source) }
    }
}

/// Keys of the numbers that witnesses state, as in [`Architecture::evidence`].
mod key {
    pub const LAYERS: &str = "layers";
    pub const HIDDEN: &str = "hidden_size";
    pub const VOCAB: &str = "vocab_size";
    pub const CONTEXT: &str = "context_length";
    pub const QUERY_HEADS: &str = "attention.query_heads";
    pub const KV_HEADS: &str = "attention.kv_heads";
    pub const HEAD_DIM: &str = "attention.head_dim";
    pub const WINDOW: &str = "attention.sliding_window";
    pub const INTERMEDIATE: &str = "feed_forward.intermediate_size";
    pub const EXPERTS: &str = "experts.count";
    pub const ACTIVE: &str = "experts.active";
    pub const SHARED: &str = "experts.shared";
    pub const EXPERT_SIZE: &str = "experts.intermediate_size";
    pub const ROPE_DIMENSION: &str = "rope.dimension";
}

/// What one witness says.
#[derive(Debug, Default)]
struct Facts {
    family: Option<Known<String>>,
    numbers: BTreeMap<&'static str, Known<u64>>,
    tied: Option<Known<bool>>,
    theta: Option<Known<f64>>,
    scaling: Option<Known<String>>,
    activation: Option<Known<String>>,
    findings: Vec<Finding>,
}

impl Facts {
    fn number(&self, key: &'static str) -> Option<u64> {
        self.numbers.get(key).map(|known| known.value)
    }

    /// Keeps a number unless the key has one already.
    fn set(&mut self, key: &'static str, known: Option<Known<u64>>) {
        if let Some(known) = known {
            self.numbers.entry(key).or_insert(known);
        }
    }

    /// Adds what another witness says where this one is silent.
    fn fill(&mut self, other: Facts) {
        for (key, known) in other.numbers {
            self.numbers.entry(key).or_insert(known);
        }
        self.family = self.family.take().or(other.family);
        self.tied = self.tied.take().or(other.tied);
        self.theta = self.theta.take().or(other.theta);
        self.scaling = self.scaling.take().or(other.scaling);
        self.activation = self.activation.take().or(other.activation);
        self.findings.extend(other.findings);
    }
}

/// Hears all witnesses.
pub fn read(evidence: &Evidence) -> Architecture {
    let config = evidence.config.and_then(Config::new);
    let keys = evidence.gguf.and_then(Keys::new);
    // A GGUF describes its own tensors; a configuration beside it describes what it was made from.
    let mut facts = Facts::default();
    if let Some(keys) = &keys {
        facts.fill(gguf::facts(keys));
    }
    if let Some(config) = &config {
        facts.fill(config::facts(config));
    }
    let seen = shapes::look(evidence.tensors);
    let measured = shapes::facts(&seen, &facts);
    prefer_measured(&mut facts, measured);

    let mut architecture = Architecture {
        model_type: config.as_ref().and_then(Config::model_type).map(str::to_string),
        tied_embeddings: None,
        ..Architecture::default()
    };
    fill_in(&mut architecture, &facts);
    if architecture.attention.head_dim.is_none() || architecture.attention.query_heads.is_none() {
        shapes::head_candidates(&seen, &mut architecture.attention);
    }
    tied(&mut architecture, &facts, &seen, keys.is_some());
    feed_forward_kind(&mut architecture, &facts, &seen, keys.is_some());

    architecture.cache = match (&keys, &config) {
        (Some(keys), _) => cache::from_gguf(keys, &architecture),
        (None, Some(config)) => cache::from_config(config, &architecture),
        (None, None) => Cache::unknown("neither a configuration nor metadata says what each layer keeps"),
    };
    let latent = seen.latent
        || keys.is_some_and(|keys| keys.unsigned("attention.kv_lora_rank").is_some())
        || config.as_ref().is_some_and(|config| latent_rank(config).is_some());
    attention_kind(&mut architecture, &seen, latent);
    architecture.findings = facts.findings;
    architecture
}

impl Architecture {
    /// Settles by the names of all tensors of a model, where there is nothing else to go by, whether the head is the
    /// embedding.
    pub fn settle_tied(&mut self, tensors: &[Witness]) {
        if self.tied_embeddings.is_none()
            && let Some(source) = shapes::tied_by_names(tensors)
        {
            self.tied_embeddings = Some(true);
            self.evidence.insert("tied_embeddings", source);
        }
    }

    /// Takes base and dimension of the rotary embedding from the model's class where no witness states a base.
    pub fn settle_rope(&mut self, base: f64, dimension: u64) {
        let rope = self.rope.get_or_insert(Rope { theta: None, dimension: None, scaling: None });
        if rope.theta.is_some() {
            return;
        }
        rope.theta = Some(base);
        self.evidence.insert("rope.theta", "default of the model's class".to_string());
        if rope.dimension.is_none() {
            rope.dimension = Some(dimension);
            self.evidence.insert("rope.dimension", "default of the model's class".to_string());
        }
    }
}

/// Replaces declared sizes by measured ones, with a finding where they differ.
fn prefer_measured(facts: &mut Facts, measured: Facts) {
    let family = facts.family.as_ref().map_or("", |known| known.value.as_str());
    let repeats = matches!(family, "albert" | "hrm_text");
    for (key, known) in measured.numbers {
        match facts.numbers.get_mut(key) {
            Some(declared) if declared.value != known.value => {
                // Padding rows for the hardware is common practice, and the tokenizer's business.
                let padded = key == key::VOCAB && known.value > declared.value;
                // Albert runs one layer many times, and so does HRM with its stacks.
                let repeated =
                    key == key::LAYERS && known.value > 0 && declared.value.is_multiple_of(known.value) && repeats;
                if repeated {
                    continue;
                }
                if !padded && !declared.assumed {
                    let message = format!(
                        "{key} is {} by {}, but {} by {}",
                        declared.value, declared.source, known.value, known.source
                    );
                    facts.findings.push(Finding::new(&CONFIG_CONTRADICTS_WEIGHTS, message));
                }
                *declared = known;
            }
            Some(_) => {}
            None => {
                facts.numbers.insert(key, known);
            }
        }
    }
    facts.scaling = facts.scaling.take().or(measured.scaling);
}

/// Copies the numbers to their places, and their sources to the evidence.
fn fill_in(out: &mut Architecture, facts: &Facts) {
    for (key, known) in &facts.numbers {
        out.evidence.insert(key, known.source.clone());
    }
    if let Some(family) = &facts.family {
        out.family = Some(family.value.clone());
        out.evidence.insert("family", family.source.clone());
    }
    out.layers = facts.number(key::LAYERS);
    out.hidden_size = facts.number(key::HIDDEN);
    out.vocab_size = facts.number(key::VOCAB);
    out.context_length = facts.number(key::CONTEXT);
    out.attention.query_heads = facts.number(key::QUERY_HEADS);
    out.attention.kv_heads = facts.number(key::KV_HEADS);
    out.attention.head_dim = facts.number(key::HEAD_DIM);
    out.attention.sliding_window = facts.number(key::WINDOW);
    out.feed_forward.intermediate_size = facts.number(key::INTERMEDIATE);
    if facts.number(key::EXPERTS).is_some() {
        out.experts = Some(Experts {
            count: facts.number(key::EXPERTS),
            active: facts.number(key::ACTIVE),
            shared: facts.number(key::SHARED),
            intermediate_size: facts.number(key::EXPERT_SIZE),
        });
    } else {
        for key in [key::ACTIVE, key::SHARED, key::EXPERT_SIZE] {
            out.evidence.remove(key);
        }
    }
    let rope = Rope {
        theta: facts.theta.as_ref().map(|theta| theta.value),
        dimension: facts.number(key::ROPE_DIMENSION),
        scaling: facts.scaling.as_ref().map(|scaling| scaling.value.clone()),
    };
    if rope != Rope::default() {
        out.rope = Some(rope);
        if let Some(theta) = &facts.theta {
            out.evidence.insert("rope.theta", theta.source.clone());
        }
        if let Some(scaling) = &facts.scaling {
            out.evidence.insert("rope.scaling", scaling.source.clone());
        }
    }
}

/// A head in the file is a head of its own, unless the configuration ties it; without one, llama.cpp uses the
/// embedding, and other loaders do what the configuration says.
fn tied(out: &mut Architecture, facts: &Facts, seen: &shapes::Seen, gguf: bool) {
    let declared = facts.tied.as_ref();
    let (value, source) = match (seen.head, seen.embedding.is_some(), declared) {
        (Some(head), _, Some(known)) if known.value => {
            (true, format!("{}, though the file stores {head} as well", known.source))
        }
        (Some(head), _, _) => (false, format!("tensor {head}")),
        (None, true, _) if gguf => (true, "no output.weight, for which llama.cpp takes token_embd.weight".to_string()),
        (None, _, Some(known)) => (known.value, known.source.clone()),
        (None, _, None) => return,
    };
    out.tied_embeddings = Some(value);
    out.evidence.insert("tied_embeddings", source);
}

/// Architectures of GGUF whose gate is a SiLU (llama.cpp, `src/models`), by how they begin.
#[rustfmt::skip]
const SILU_GATED: &[&str] = &[
    "baichuan", "chatglm", "cohere2", "command-r", "deepseek", "exaone", "falcon-h1", "glm4", "granite", "hunyuan",
    "internlm2", "lfm2", "llama", "minicpm", "mistral", "olmo", "orion", "phi3", "qwen", "seed_oss", "smollm3",
    "stablelm", "xverse",
];

fn feed_forward_kind(out: &mut Architecture, facts: &Facts, seen: &shapes::Seen, gguf: bool) {
    let activation = facts.activation.as_ref().map(|known| known.value.as_str());
    let gemma = out.family.as_deref().is_some_and(|family| family.starts_with("gemma"));
    // A GGUF does not name the activation; these families have always had this one.
    let by_family = |family: &str| SILU_GATED.iter().any(|known| family.starts_with(known));
    let silu = match activation {
        Some(name) => matches!(name, "silu" | "swish" | "swiglu"),
        None => gguf && out.family.as_deref().is_some_and(by_family),
    };
    let gelu = activation.is_some_and(|name| name.starts_with("gelu") || name == "geglu");
    let (kind, why) = if out.experts.is_some() {
        ("moe".to_string(), None)
    } else if seen.gated == Some(true) {
        let kind = if silu {
            "swiglu".to_string()
        } else if gelu || gemma {
            "geglu".to_string()
        } else {
            activation.map_or("gated".to_string(), |name| format!("gated {name}"))
        };
        (kind, Some("a gate beside the up-projection"))
    } else if seen.gated == Some(false) {
        (activation.unwrap_or("mlp").to_string(), Some("an up-projection without a gate"))
    } else if silu {
        ("swiglu".to_string(), None)
    } else if gelu && gemma {
        ("geglu".to_string(), None)
    } else if let Some(name) = activation {
        (name.to_string(), None)
    } else {
        return;
    };
    let mut sources: Vec<String> = Vec::new();
    if kind == "moe" {
        sources.extend(out.evidence.get(key::EXPERTS).cloned());
    } else {
        sources.extend(facts.activation.as_ref().map(|known| known.source.clone()));
        sources.extend(why.map(str::to_string));
    }
    out.feed_forward.kind = Some(kind);
    out.evidence.insert("feed_forward.kind", sources.join("; "));
}

fn attention_kind(out: &mut Architecture, seen: &shapes::Seen, latent: bool) {
    let heads = match (out.attention.query_heads, out.attention.kv_heads) {
        (Some(query), Some(kv)) if query == kv => Some("mha"),
        (Some(_), Some(1)) => Some("mqa"),
        (Some(_), Some(_)) => Some("gqa"),
        _ => seen.sharing(),
    };
    if out.cache.layers.is_empty() {
        out.attention.kind = match (seen.recurrent, seen.attends()) {
            (true, true) => Some("hybrid"),
            (true, false) => None,
            (false, _) if latent => Some("mla"),
            (false, _) => heads,
        };
        return;
    }
    let words: Vec<&'static str> = out.cache.layers.iter().map(cache::Layer::word).collect();
    let any = |test: fn(&cache::Layer) -> bool| out.cache.layers.iter().any(test);
    let attends = any(|layer| layer.attends());
    out.attention.kind = if attends && any(|layer| layer.recurrent) {
        Some("hybrid")
    } else if latent {
        Some("mla")
    } else if attends {
        heads
    } else if any(|layer| layer.recurrent) {
        // A selective state space has no attention at all; the rest are linear forms of it.
        Some(if out.family.as_deref().is_some_and(|family| family.contains("mamba")) { "none" } else { "linear" })
    } else {
        // Encoders attend to everything and keep nothing.
        heads
    };
    if words.iter().any(|word| Some(word) != words.first()) {
        out.attention.per_layer = words;
    }
    if let Some(window) = out.cache.layers.iter().find_map(|layer| layer.reach.window()) {
        out.attention.sliding_window = Some(window);
    } else {
        out.attention.sliding_window = None;
        out.evidence.remove(key::WINDOW);
    }
}

/// Parameters that one token uses: all but the routed experts that it is not sent to. `None` where the number of
/// experts in use is not known, or the sums do not divide.
///
/// `routed` holds, for each layer with routed experts, all of their numbers and how many experts they are.
pub fn active_parameters(total: u64, routed: &[(u64, u64)], active: u64) -> Option<u64> {
    let mut idle: u64 = 0;
    for (parameters, count) in routed {
        if *count == 0 {
            return None;
        }
        let one = parameters.checked_div(*count).filter(|one| one.checked_mul(*count) == Some(*parameters))?;
        idle = idle.checked_add(one.checked_mul(count.saturating_sub(active))?)?;
    }
    total.checked_sub(idle)
}

/// For each layer, the numbers in its routed experts and how many experts these are: counted one by one where each
/// has tensors of its own, else the first dimension of stacked ones (of `declared` where that is given and divides).
pub fn routed_experts(tensors: &[Witness], declared: Option<u64>) -> Vec<(u64, u64)> {
    #[derive(Default)]
    struct Layer {
        parameters: u64,
        highest: Option<u32>,
        stacked: Option<u64>,
    }
    let mut layers: BTreeMap<_, Layer> = BTreeMap::new();
    for (_, shape, part) in tensors {
        if part.role != Role::Experts || part.buffer {
            continue;
        }
        let layer = layers.entry((part.stack, part.layer)).or_default();
        layer.parameters = layer.parameters.saturating_add(crate::tensor::elements(shape));
        match part.expert {
            Some(expert) => layer.highest = layer.highest.max(Some(expert)),
            None if shape.len() >= 2 => layer.stacked = layer.stacked.or(shape.first().copied()),
            None => {}
        }
    }
    let divides = |parameters: u64, count: &u64| *count > 0 && parameters.is_multiple_of(*count);
    layers
        .into_values()
        .filter_map(|layer| {
            let own = layer.highest.map(|highest| u64::from(highest) + 1);
            let count = own.or(declared.filter(|count| divides(layer.parameters, count))).or(layer.stacked)?;
            Some((layer.parameters, count))
        })
        .collect()
}
