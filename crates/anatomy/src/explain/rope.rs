//! Rotary position embedding: which wavelengths a model has, and what they say about its context.
//!
//! Pair `i` of `d` rotated numbers turns by `base^(-2i/d)` radians for each token, so it comes round after
//! `2π·base^(2i/d)` tokens. What a pair has not turned through in training is new to the model. Scaling changes the
//! frequencies: the kinds are those of transformers 5.23 (`modeling_rope_utils.py`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::architecture::{Architecture, Config, Keys, whole};
use crate::metadata::{Metadata, Value};

/// What configuration classes take where a configuration states nothing.
static DEFAULTS: &str = include_str!("../../rope-defaults.toml");

/// No head has more numbers than this.
const MAX_DIMENSION: u64 = 1 << 16;

/// Rotary embedding of one kind of layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rope {
    /// Kind of layer, as the configuration calls it; `all` where there is one for all.
    pub layers: String,
    /// Base of the frequencies.
    pub base: f64,
    /// Numbers of a head that are rotated.
    pub dimension: u64,
    /// `default`, `linear`, `dynamic`, `yarn`, `longrope`, `llama3`, `proportional`, `mrope`.
    pub kind: String,
    /// Whether the base is that of the model's class, since the configuration states none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default_base: bool,
    /// How far it stretches positions.
    pub factor: Option<f64>,
    /// What sines and cosines are multiplied by, so scores by its square (`mscale` of YaRN), where that is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// How the rotated pairs are shared between time, height and width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sections: Option<Vec<u64>>,
    /// Rotated pairs.
    pub pairs: u64,
    /// Tokens in which the fastest pair comes round, after scaling.
    pub shortest_wavelength: f64,
    /// Tokens in which the slowest pair comes round, after scaling; `None` where it does not turn.
    pub longest_wavelength: Option<f64>,
    /// Tokens of the training before scaling, where they are stated.
    pub trained_context: Option<u64>,
    /// `trained_context` times `factor`.
    pub scaled_context: Option<u64>,
    /// Tokens that the configuration claims.
    pub claimed_context: Option<u64>,
    /// Pairs that come round at least once within the trained context (the claimed one, where no other is stated), by
    /// the frequencies before scaling.
    pub full_turns: Option<u64>,
    /// Tokens for which the base alone is large enough, by the fit of Men et al., "Base of RoPE Bounds Context Length"
    /// (arXiv 2405.14591): `base = 0.0424 · L^1.628`. A rule of experience.
    pub base_suggests: u64,
}

/// The stated parameters of one kind of layer.
#[derive(Debug, Clone, Default)]
struct Stated {
    layers: String,
    base: Option<f64>,
    kind: String,
    factor: Option<f64>,
    original: Option<u64>,
    partial: Option<f64>,
    low: f64,
    high: f64,
    beta: (f64, f64),
    long: Vec<f64>,
    /// `attention_factor`, and `mscale` with `mscale_all_dim`, as stated.
    attention: Option<f64>,
    mscale: Option<(f64, f64)>,
    /// Whether YaRN's ramp begins and ends at whole pairs.
    whole_pairs: bool,
    default_base: bool,
    sections: Option<Vec<u64>>,
}

/// The rotary embeddings of a configuration, one for each kind of layer that has its own; empty where there are none.
pub fn of_config(json: &Json, architecture: &Architecture) -> Vec<Rope> {
    let Some(config) = Config::new(json) else { return Vec::new() };
    let own = |json: &Json| json.as_object().cloned();
    let scaling = config.get("rope_scaling").and_then(own).unwrap_or_default();
    let mut all: Vec<Stated> = Vec::new();
    match config.get("rope_parameters").and_then(own) {
        Some(parameters) if parameters.values().any(Json::is_object) => {
            for (layers, parameters) in &parameters {
                if let Some(parameters) = parameters.as_object() {
                    all.push(stated(layers, parameters, &config));
                }
            }
        }
        Some(parameters) => all.push(stated("all", &parameters, &config)),
        None => {
            // The old form: keys beside each other, and for Gemma 3 and ModernBERT a second base for local layers. What
            // they leave out is the class's.
            let class = of_class(&config);
            let nested = class.values().any(Json::is_object);
            let of = |layers: &str| match nested {
                true => class.get(layers).and_then(own).unwrap_or_default(),
                false => class.clone(),
            };
            let local = ["rope_local_base_freq", "local_rope_theta"].iter().find_map(|key| config.get(key)?.as_f64());
            let two = local.is_some() || (nested && class.contains_key("sliding_attention"));
            let name = if two || nested { "full_attention" } else { "all" };
            let global = config.first(BASES).and_then(|(_, base)| base.as_f64());
            let mut keys = of(name);
            // A kind of scaling comes with numbers of its own.
            if scaling.contains_key("rope_type") || scaling.contains_key("type") {
                keys.retain(|key, _| key == "rope_theta" || key == "partial_rotary_factor");
            }
            keys.extend(scaling.clone());
            let stated_base = global.or_else(|| scaling.get("rope_theta")?.as_f64());
            if let Some(base) = stated_base {
                keys.insert("rope_theta".to_string(), base.into());
            }
            if !keys.is_empty() {
                all.push(Stated { default_base: stated_base.is_none(), ..stated(name, &keys, &config) });
            }
            if two {
                let mut keys = of("sliding_attention");
                if let Some(base) = local {
                    keys.insert("rope_theta".to_string(), base.into());
                }
                let other = stated("sliding_attention", &keys, &config);
                all.push(Stated { default_base: local.is_none(), ..other });
            }
        }
    }
    let claimed = architecture.context_length;
    let head = architecture.attention.head_dim;
    let dimension = architecture.rope.as_ref().and_then(|rope| rope.dimension);
    all.into_iter()
        .filter_map(|stated| {
            let head = wide_head(&config, &stated.layers).or(head);
            // Latent attention rotates a part of its own; a fraction counts from the whole head.
            let of_head = stated.partial.zip(head).map(|(part, head)| {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the head
                let part = (head.min(MAX_DIMENSION) as f64 * part.clamp(0.0, 1.0)) as u64;
                part
            });
            let rotated = config.unsigned("qk_rope_head_dim").or(of_head).or(dimension).or(head)?;
            explain(stated, rotated, head, claimed)
        })
        .collect()
}

/// Keys for the one base of a configuration.
const BASES: &[&str] =
    &["rope_theta", "rotary_emb_base", "rotary_embedding_base", "attn_config.rope_theta", "global_rope_theta"];

/// What the class of the language model takes for `rope_parameters`; empty where it is not known, or where the
/// configuration says that positions are not rotated.
fn of_class(config: &Config) -> Map<String, Json> {
    #[derive(Deserialize)]
    struct File {
        defaults: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        parameters: Map<String, Json>,
        model_types: Vec<String>,
    }
    let name = config.text_type();
    let text = format!("{name}_text");
    let file: Option<File> = toml::from_str(DEFAULTS).ok();
    let entry = file.into_iter().flat_map(|file| file.defaults);
    let entry = entry.filter(|_| config.truth("alibi") != Some(true));
    let mut found: Vec<Entry> =
        entry.filter(|entry| entry.model_types.iter().any(|t| t == name || *t == text)).collect();
    found.pop().map(|entry| entry.parameters).unwrap_or_default()
}

/// Size of the heads of one kind of layer, where that kind has its own (Gemma 4).
fn wide_head(config: &Config, layers: &str) -> Option<u64> {
    let own = config.get("per_layer_config").and_then(Json::as_object).and_then(|own| {
        let kinds = config.list("layer_types")?;
        own.iter().find_map(|(layer, own)| {
            let kind = kinds.get(layer.parse::<usize>().ok()?)?.as_str()?;
            (kind == layers).then(|| own.get("head_dim").and_then(whole)).flatten()
        })
    });
    let full = || config.unsigned("global_head_dim").filter(|_| layers == "full_attention");
    own.or_else(full)
}

fn stated(layers: &str, own: &Map<String, Json>, config: &Config) -> Stated {
    let number = |key: &str| own.get(key).and_then(Json::as_f64).filter(|number| number.is_finite() && *number > 0.0);
    let list = |key: &str| own.get(key).and_then(Json::as_array);
    let text = |key: &str| own.get(key).and_then(Json::as_str);
    let outer = |keys: &[&'static str]| config.first(keys).and_then(|(_, value)| value.as_f64());
    let positive = |key: &str| number(key).filter(|number| *number < 1e6);
    let kind = text("rope_type").or_else(|| text("type")).unwrap_or("default");
    let sections = list("mrope_section").map(|list| list.iter().take(8).filter_map(whole).collect());
    Stated {
        layers: layers.chars().take(40).collect(),
        base: number("rope_theta").or_else(|| outer(BASES)),
        kind: match (kind, &sections) {
            ("default", Some(_)) => "mrope".to_string(),
            ("su", _) => "longrope".to_string(),
            (kind, _) => kind.chars().take(40).collect(),
        },
        factor: number("factor"),
        original: own
            .get("original_max_position_embeddings")
            .or_else(|| config.get("original_max_position_embeddings"))
            .and_then(whole),
        partial: number("partial_rotary_factor").or_else(|| outer(&["partial_rotary_factor", "rotary_pct"])),
        low: number("low_freq_factor").unwrap_or(1.0),
        high: number("high_freq_factor").unwrap_or(4.0),
        beta: (number("beta_fast").unwrap_or(32.0), number("beta_slow").unwrap_or(1.0)),
        long: list("long_factor")
            .map(|list| list.iter().take(1 << 16).filter_map(Json::as_f64).collect())
            .unwrap_or_default(),
        attention: positive("attention_factor").or_else(|| positive("long_mscale")),
        mscale: positive("mscale").zip(positive("mscale_all_dim")),
        whole_pairs: own.get("truncate").and_then(Json::as_bool).unwrap_or(true),
        default_base: false,
        sections,
    }
}

/// The rotary embeddings that the metadata of a GGUF state. Frequencies that stand in a tensor (`rope_freqs`) are not
/// read.
pub fn of_gguf(metadata: &Metadata, architecture: &Architecture) -> Vec<Rope> {
    let Some(keys) = Keys::new(metadata) else { return Vec::new() };
    let number = |key: &str| keys.get(key).and_then(Value::as_f64).filter(|number| number.is_finite() && *number > 0.0);
    let dimension = architecture.rope.as_ref().and_then(|rope| rope.dimension);
    let kind = keys.get("rope.scaling.type").and_then(Value::as_str).unwrap_or("none");
    let main = Stated {
        layers: if number("rope.freq_base_swa").is_some() { "full_attention" } else { "all" }.to_string(),
        base: number("rope.freq_base"),
        kind: if kind == "none" { "default".to_string() } else { kind.chars().take(40).collect() },
        factor: number("rope.scaling.factor"),
        original: keys.unsigned("rope.scaling.original_context_length"),
        low: 1.0,
        high: 4.0,
        beta: (32.0, 1.0),
        attention: number("rope.scaling.attn_factor"),
        whole_pairs: true,
        ..Stated::default()
    };
    let local = number("rope.freq_base_swa").map(|base| Stated {
        layers: "sliding_attention".to_string(),
        base: Some(base),
        kind: "default".to_string(),
        ..Stated::default()
    });
    let rotated = keys.unsigned("rope.dimension_count").or(dimension);
    let head = architecture.attention.head_dim;
    std::iter::once(main)
        .chain(local)
        .filter_map(|stated| explain(stated, rotated?, head, architecture.context_length))
        .collect()
}

fn explain(stated: Stated, rotated: u64, head: Option<u64>, claimed: Option<u64>) -> Option<Rope> {
    let base = stated.base.filter(|base| base.is_finite() && *base > 1.0)?;
    if !(2..=MAX_DIMENSION).contains(&rotated) {
        return None;
    }
    let turn = std::f64::consts::TAU;
    let known = matches!(stated.kind.as_str(), "linear" | "yarn" | "llama3" | "longrope" | "dynamic");
    let factor = stated.factor.or_else(|| {
        // Phi-3 and others state both contexts in place of a factor.
        let (claimed, original) = (claimed?, stated.original?);
        (known && original > 0).then(|| claimed as f64 / original as f64)
    });
    let stretch = factor.unwrap_or(1.0);
    // Proportional embedding leaves the slow pairs of the whole head still.
    let proportional = stated.kind == "proportional";
    let whole_head = head.filter(|head| proportional && *head <= MAX_DIMENSION).unwrap_or(rotated);
    let before: Vec<f64> = (0..rotated / 2).map(|pair| base.powf(-2.0 * pair as f64 / whole_head as f64)).collect();
    let original = stated.original.map(|original| original as f64);
    let after: Vec<f64> = before
        .iter()
        .enumerate()
        .map(|(pair, frequency)| match (stated.kind.as_str(), original) {
            ("linear" | "proportional", _) => frequency / stretch,
            ("llama3", Some(original)) => llama3(*frequency, stretch, original, &stated),
            ("yarn", Some(original)) => yarn(*frequency, pair, rotated, base, stretch, original, &stated),
            ("longrope", _) => frequency / stated.long.get(pair).copied().filter(|f| *f > 0.0).unwrap_or(1.0),
            _ => *frequency,
        })
        .collect();
    let trained = match (stated.original, stated.kind.as_str()) {
        (Some(original), _) => Some(original),
        (None, "linear" | "dynamic" | "yarn" | "llama3" | "longrope") => None,
        (None, _) => claimed,
    };
    let window = trained.or(claimed);
    let turns = window.map(|window| before.iter().filter(|f| turn / **f <= window as f64).count() as u64);
    // Both are finite and below 2^63.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let (scaled, suggests) = (
        trained.zip(factor).map(|(trained, factor)| (trained as f64 * factor).min(1e15).round() as u64),
        (base / 0.0424).powf(1.0 / 1.628).min(1e15) as u64,
    );
    let attention_factor = attention_factor(&stated, stretch, original).filter(|factor| (factor - 1.0).abs() > 1e-9);
    Some(Rope {
        layers: stated.layers,
        base,
        dimension: rotated,
        default_base: stated.default_base,
        attention_factor,
        kind: stated.kind,
        factor,
        sections: stated.sections,
        pairs: rotated / 2,
        shortest_wavelength: turn / after.iter().copied().fold(f64::MIN_POSITIVE, f64::max),
        longest_wavelength: after.iter().copied().reduce(f64::min).filter(|slowest| *slowest > 0.0).map(|f| turn / f),
        trained_context: trained,
        scaled_context: scaled,
        claimed_context: claimed,
        full_turns: turns,
        base_suggests: suggests,
    })
}

/// What sines and cosines are multiplied by.
fn attention_factor(stated: &Stated, factor: f64, original: Option<f64>) -> Option<f64> {
    let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    match (stated.kind.as_str(), stated.attention, stated.mscale) {
        ("yarn" | "longrope", Some(stated), _) => Some(stated),
        ("yarn", None, Some((own, all))) => Some(mscale(own) / mscale(all)),
        ("yarn", None, None) => Some(mscale(1.0)),
        ("longrope", None, _) if factor > 1.0 => {
            original.filter(|original| *original > 1.0).map(|original| (1.0 + factor.ln() / original.ln()).sqrt())
        }
        _ => None,
    }
}

/// Slow pairs are stretched, fast ones are not, those between in part.
fn llama3(frequency: f64, factor: f64, original: f64, stated: &Stated) -> f64 {
    let wavelength = std::f64::consts::TAU / frequency;
    if wavelength < original / stated.high {
        return frequency;
    }
    if wavelength > original / stated.low || stated.high <= stated.low {
        return frequency / factor;
    }
    let smooth = (original / wavelength - stated.low) / (stated.high - stated.low);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

/// The same by a ramp over the pairs, between those that turn `beta.0` and `beta.1` times in training.
fn yarn(frequency: f64, pair: usize, rotated: u64, base: f64, factor: f64, original: f64, stated: &Stated) -> f64 {
    let dimension = rotated as f64;
    let at = |turns: f64| dimension * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    let (low, high) = (at(stated.beta.0), at(stated.beta.1));
    let (low, high) = if stated.whole_pairs { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dimension - 1.0));
    let high = if high <= low { low + 0.001 } else { high };
    let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
    frequency / factor * ramp + frequency * (1.0 - ramp)
}
