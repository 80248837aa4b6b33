//! Which element type each tensor gets when llama.cpp quantises a model to a name such as `Q4_K_M`.
//!
//! "4 bits" is no size: the output, the values' projection and some of the feed-forward matrices get more bits,
//! depending on their layer, and what does not divide into blocks falls back. Rules read from llama.cpp 0c1e570
//! (`src/llama-quant.cpp`), without an importance matrix.

use super::Weight;
use crate::architecture::Architecture;
use crate::atlas::Blueprint;
use crate::cache::{Layer, Store};
use crate::dtype::{Class, DType};
use crate::error::{Error, ErrorKind, Result};

use DType::{
    F16, F32, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0,
    Q5_1, Q5_K, Q6_K, Q8_0, TQ1_0, TQ2_0,
};

/// A name under which llama.cpp quantises, with the type that most tensors get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixture {
    /// Its name, in the spelling of `llama-quantize`.
    pub name: &'static str,
    base: DType,
}

/// All of them, the smallest first.
#[rustfmt::skip]
pub const ALL: [Mixture; 29] = [
    m("IQ1_S", IQ1_S), m("IQ1_M", IQ1_M), m("TQ1_0", TQ1_0), m("IQ2_XXS", IQ2_XXS), m("TQ2_0", TQ2_0),
    m("IQ2_XS", IQ2_XS), m("IQ2_S", IQ2_XS), m("IQ2_M", IQ2_S), m("Q2_K_S", Q2_K), m("Q2_K", Q2_K),
    m("IQ3_XXS", IQ3_XXS), m("IQ3_XS", IQ3_S), m("Q3_K_S", Q3_K), m("IQ3_S", IQ3_S), m("IQ3_M", IQ3_S),
    m("Q3_K_M", Q3_K), m("Q3_K_L", Q3_K), m("IQ4_XS", IQ4_XS), m("IQ4_NL", IQ4_NL), m("Q4_0", Q4_0),
    m("Q4_K_S", Q4_K), m("Q4_K_M", Q4_K), m("Q4_1", Q4_1), m("Q5_0", Q5_0), m("Q5_K_S", Q5_K), m("Q5_K_M", Q5_K),
    m("Q5_1", Q5_1), m("Q6_K", Q6_K), m("Q8_0", Q8_0),
];

const fn m(name: &'static str, base: DType) -> Mixture {
    Mixture { name, base }
}

impl Mixture {
    /// The mixture of this name, in either case; `q4_k` is what people call `Q4_K_M`.
    pub fn named(name: &str) -> Option<Self> {
        let name = match name.to_ascii_uppercase().as_str() {
            "Q3_K" => "Q3_K_M".to_string(),
            "Q4_K" => "Q4_K_M".to_string(),
            "Q5_K" => "Q5_K_M".to_string(),
            other => other.to_string(),
        };
        ALL.into_iter().find(|mixture| mixture.name == name)
    }

    fn is(self, names: &[&str]) -> bool {
        names.contains(&self.name)
    }
}

/// What a tensor is, as far as its type depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Output,
    Embedding,
    /// Values, or values together with what is projected with them.
    Values,
    Keys,
    Queries,
    AttentionOutput,
    Down,
    Gate,
    Up,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        const KINDS: [(&str, Kind); 9] = [
            ("attn_qkv.weight", Kind::Values),
            ("attn_kv_b.weight", Kind::Values),
            ("attn_v.weight", Kind::Values),
            ("attn_k.weight", Kind::Keys),
            ("attn_q.weight", Kind::Queries),
            ("attn_output.weight", Kind::AttentionOutput),
            ("ffn_up", Kind::Up),
            ("ffn_gate", Kind::Gate),
            ("ffn_down", Kind::Down),
        ];
        match name {
            "output.weight" => Kind::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Kind::Embedding,
            _ => KINDS.iter().find(|(part, _)| name.contains(part)).map_or(Kind::Other, |(_, kind)| *kind),
        }
    }
}

/// Whether llama.cpp quantises a tensor at all: matrices, but not small or sensitive ones.
#[rustfmt::skip]
fn allowed(name: &str, shape: &[u64], family: &str) -> bool {
    const KEPT: [&str; 33] = [
        "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
        "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
        "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
        "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight",
        "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd",
        "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
    ];
    const KEPT_AUDIO: [&str; 2] = ["a.rvq.codebook", "mm.a.code_embd"];
    const KEPT_GLM5: [&str; 14] = [
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight",
        "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
    ];
    // ggml does not count outer dimensions of 1.
    let dimensions = shape.iter().skip_while(|size| **size <= 1).count();
    let whole = ["position_embd.weight", "token_types.weight"].contains(&name);
    let kept = KEPT.iter().chain(&KEPT_AUDIO).any(|part| name.contains(part))
        || (family == "glm5-next" && KEPT_GLM5.iter().any(|part| name.contains(part)));
    dimensions >= 2 && name.ends_with("weight") && !whole && !kept
}

/// What decides beside a tensor's own name.
struct Model {
    family: String,
    layers: u64,
    /// Query heads for each head of keys and values.
    sharing: u64,
    experts: u64,
    tied: bool,
    /// Tensors that hold values.
    values: u64,
    /// A model that llama.cpp takes for Llama's of 70 B, whose values are worth more bits.
    seventy: bool,
}

/// llama.cpp's names of families whose models of so many layers it calls 70 B.
const SEVENTY: [(&str, u64); 6] =
    [("llama", 80), ("llama-embed", 80), ("deci", 80), ("olmo", 80), ("qwen2", 80), ("jais2", 68)];

/// Query heads for each head of keys and values in the first layer, which stands for all of them.
fn sharing(tensors: &[(&str, &[u64])], architecture: &Architecture, family: &str) -> u64 {
    // Hybrids whose files state one number of heads for all layers; in the others a recurrent layer has none.
    const ONE_NUMBER: [&str; 6] = ["qwen3next", "qwen35", "qwen35moe", "qwen4exp", "falcon-h1", "minimax-01"];
    let attention = &architecture.attention;
    let query = attention.query_heads.unwrap_or(0);
    // A latent that is not expanded counts as one head.
    let latent = tensors.iter().any(|(name, _)| name.ends_with("attn_k_b.weight") || name.ends_with("attn_v_b.weight"));
    let stated = if latent { query } else { query.checked_div(attention.kv_heads.unwrap_or(1)).unwrap_or(0) };
    match architecture.cache.layers.first() {
        Some(first) if first.recurrent && !first.attends() && !ONE_NUMBER.contains(&family) => 0,
        Some(Layer { store: Store::KeyValue { heads, key, value }, uncompressed, .. }) if *uncompressed > 0 => {
            let query = uncompressed.checked_div(key.saturating_add(*value)).unwrap_or(0);
            query.checked_div(*heads).unwrap_or(0)
        }
        _ => stated,
    }
}

/// Number of the layer in a tensor's name, as llama.cpp reads it.
fn layer_of(name: &str) -> Option<u64> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The eighths at both ends, and every third between.
fn more_bits(index: u64, count: u64) -> bool {
    let eighth = count / 8;
    index < eighth || index >= count.saturating_mul(7) / 8 || (index - eighth) % 3 == 2
}

/// `place` counts the tensors of the kind before this one.
fn chosen(mixture: Mixture, kind: Kind, columns: u64, layer: u64, place: u64, model: &Model) -> DType {
    let base = mixture.base;
    let falcon = model.family == "falcon";
    let tiny = mixture.is(&["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"]);
    let wider = mixture.is(&["IQ2_S", "IQ2_M"]);
    let eight = model.experts == 8;
    let eighth = model.layers / 8;
    if kind == Kind::Output || (model.tied && kind == Kind::Embedding) {
        if falcon || !columns.is_multiple_of(base.block().max(1)) {
            return Q8_0;
        }
        return match mixture.name {
            "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ2_M" | "IQ3_XXS" => Q5_K,
            "Q8_0" => Q8_0,
            _ => Q6_K,
        };
    }
    match kind {
        Kind::Embedding => match mixture.name {
            "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" => Q2_K,
            "IQ2_S" | "IQ2_M" | "IQ3_XXS" => IQ3_S,
            "TQ1_0" | "TQ2_0" => Q4_K,
            _ => base,
        },
        Kind::Values if tiny => match (model.sharing >= 4 || model.experts >= 4, wider) {
            (true, _) => Q4_K,
            (false, true) => IQ3_S,
            (false, false) => Q2_K,
        },
        Kind::Keys if tiny && eight => Q4_K,
        Kind::Down if tiny && place < eighth => {
            if wider {
                IQ3_S
            } else {
                Q2_K
            }
        }
        Kind::AttentionOutput if tiny => match mixture.name {
            _ if eight => Q5_K,
            "IQ1_S" | "IQ1_M" => IQ2_XXS,
            "IQ2_S" | "IQ2_M" => IQ3_S,
            _ => base,
        },
        _ if tiny => base,
        Kind::Values => {
            let shared = model.sharing >= 4;
            let found = match mixture.name {
                "Q2_K" => {
                    if shared {
                        Q4_K
                    } else {
                        Q3_K
                    }
                }
                "Q2_K_S" if shared => Q4_K,
                "IQ3_XXS" => {
                    if shared {
                        Q4_K
                    } else {
                        IQ3_S
                    }
                }
                "IQ3_XS" | "IQ3_S" if shared => Q4_K,
                "IQ3_M" => Q4_K,
                "Q3_K_M" => {
                    if place < 2 {
                        Q5_K
                    } else {
                        Q4_K
                    }
                }
                "Q3_K_L" => Q5_K,
                "IQ4_NL" | "IQ4_XS" if shared => Q5_K,
                "Q4_K_M" | "Q5_K_M" if more_bits(place, model.values) => Q6_K,
                "Q4_K_S" if place < 4 => Q5_K,
                _ => base,
            };
            match found {
                _ if eight => Q8_0,
                Q3_K | Q4_K if model.seventy => Q5_K,
                found => found,
            }
        }
        Kind::Keys if eight => Q8_0,
        Kind::Keys | Kind::Queries => match mixture.name {
            "IQ3_XS" => IQ3_XXS,
            "IQ3_XXS" => IQ2_S,
            _ => base,
        },
        Kind::Down => {
            let index = if model.experts > 1 { layer } else { place };
            let more = more_bits(index, model.layers);
            match mixture.name {
                "Q2_K" => Q3_K,
                "Q2_K_S" if index < eighth => Q4_K,
                "IQ3_XXS" => {
                    if index < eighth {
                        Q4_K
                    } else {
                        Q3_K
                    }
                }
                "Q3_K_M" if index < model.layers / 16 => Q5_K,
                "Q3_K_M" if !falcon || more => Q4_K,
                "IQ3_M" if index < eighth || (eight && more) => Q4_K,
                "Q3_K_L" => {
                    if falcon {
                        Q4_K
                    } else {
                        Q5_K
                    }
                }
                "Q4_K_M" if falcon && index < model.layers / 16 => Q6_K,
                "Q4_K_M" if more => {
                    if falcon {
                        Q5_K
                    } else {
                        Q6_K
                    }
                }
                "IQ4_NL" | "IQ4_XS" if index < eighth => Q5_K,
                "Q5_K_M" if more => Q6_K,
                "Q4_K_S" if !falcon && index < eighth => Q5_K,
                _ => base,
            }
        }
        Kind::AttentionOutput if falcon => {
            if mixture.name == "Q3_K_L" {
                Q4_K
            } else {
                base
            }
        }
        Kind::AttentionOutput if eight => {
            let more = mixture.is(&[
                "Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M",
                "IQ4_XS",
            ]);
            if more { Q5_K } else { base }
        }
        Kind::AttentionOutput => match mixture.name {
            "Q2_K" => Q3_K,
            "IQ3_XXS" => IQ3_S,
            "Q3_K_M" | "IQ3_M" => Q4_K,
            "Q3_K_L" => Q5_K,
            _ => base,
        },
        Kind::Gate | Kind::Up if mixture.name == "IQ3_XS" => {
            let index = if model.experts > 1 { layer } else { place };
            if index >= eighth && index < model.layers.saturating_mul(7) / 8 { IQ3_XXS } else { base }
        }
        _ => base,
    }
}

/// A type whose blocks divide a row, where the wanted one's do not.
fn fitting(wanted: DType, columns: u64) -> DType {
    if wanted.block() == 0 || columns.is_multiple_of(wanted.block()) {
        return wanted;
    }
    let smaller = match wanted {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
        Q2_K | Q3_K | TQ1_0 | TQ2_0 => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    };
    if columns.is_multiple_of(smaller.block()) { smaller } else { F16 }
}

/// What decides a tensor's type, read off its name once for all mixtures.
struct Prepared {
    /// Place in the list that was given.
    index: usize,
    /// `None` where the tensor is never quantised.
    kind: Option<Kind>,
    /// Never below 8 bits.
    careful: bool,
    columns: u64,
    rows: u64,
    layer: u64,
}

/// A model's tensors, ready to be weighed in any mixture.
pub(super) struct Tensors {
    /// By layer and name: llama.cpp counts as it goes through them so.
    tensors: Vec<Prepared>,
    model: Model,
}

impl Tensors {
    /// `tensors` are llama.cpp's names and shapes, outermost dimension first.
    pub(super) fn new(tensors: &[(&str, &[u64])], architecture: &Architecture, family: &str) -> Self {
        let highest = tensors.iter().filter_map(|(name, _)| layer_of(name)).max();
        let highest = highest.map_or(0, |last| last.saturating_add(1));
        let layers = architecture.layers.unwrap_or(0).max(highest);
        let sharing = sharing(tensors, architecture, family);
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_cached_key(|index| tensors.get(*index).map(|(name, _)| (layer_of(name), *name)));
        let sorted = order.into_iter().filter_map(|index| Some((index, tensors.get(index)?)));
        let prepared = sorted.map(|(index, (name, shape))| {
            let columns = shape.last().copied().unwrap_or(0);
            Prepared {
                index,
                kind: allowed(name, shape, family).then(|| Kind::of(name)),
                careful: family == "glm5-next"
                    && ["attn_q_a", "attn_q_b", "nextn.eh_proj"].iter().any(|part| name.contains(part)),
                columns,
                rows: crate::tensor::elements(shape).checked_div(columns).unwrap_or(0),
                layer: layer_of(name).unwrap_or(0),
            }
        });
        let model = Model {
            family: family.to_string(),
            layers,
            sharing,
            experts: architecture.experts.as_ref().and_then(|experts| experts.count).unwrap_or(0),
            tied: !tensors.iter().any(|(name, _)| *name == "output.weight"),
            values: tensors.iter().filter(|(name, _)| Kind::of(name) == Kind::Values).count() as u64,
            seventy: SEVENTY.contains(&(family, layers)) && (!family.starts_with("llama") || sharing > 1),
        };
        Tensors { tensors: prepared.collect(), model }
    }

    /// The type of each tensor under a mixture, by layer and name. What is not quantised counts as single precision.
    fn chosen(&self, mixture: Mixture) -> impl Iterator<Item = (&Prepared, DType)> {
        let (mut values, mut downs, mut gates, mut ups) = (0u64, 0u64, 0u64, 0u64);
        self.tensors.iter().map(move |tensor| {
            let Some(kind) = tensor.kind else { return (tensor, F32) };
            if tensor.careful {
                return (tensor, fitting(Q8_0, tensor.columns));
            }
            let mut uncounted = 0;
            let place = match kind {
                Kind::Values => &mut values,
                Kind::Gate => &mut gates,
                Kind::Up => &mut ups,
                Kind::Down => &mut downs,
                _ => &mut uncounted,
            };
            let dtype = chosen(mixture, kind, tensor.columns, tensor.layer, *place, &self.model);
            *place += 1;
            (tensor, fitting(dtype, tensor.columns))
        })
    }

    /// The type of each tensor under a mixture, in the order given.
    pub(super) fn types(&self, mixture: Mixture) -> Vec<DType> {
        let mut types = vec![F32; self.tensors.len()];
        for (tensor, dtype) in self.chosen(mixture) {
            if let Some(slot) = types.get_mut(tensor.index) {
                *slot = dtype;
            }
        }
        types
    }

    /// Bytes of all tensors under a mixture.
    pub(super) fn bytes(&self, mixture: Mixture) -> u64 {
        let each = self.chosen(mixture);
        each.map(|(tensor, dtype)| tensor.rows.saturating_mul(dtype.bytes(tensor.columns).unwrap_or(0)))
            .fold(0, u64::saturating_add)
    }
}

/// Types of tensors under a mixture, in the order given: llama.cpp's names and shapes, outermost dimension first.
pub fn types(mixture: Mixture, tensors: &[(&str, &[u64])], architecture: &Architecture, family: &str) -> Vec<DType> {
    Tensors::new(tensors, architecture, family).types(mixture)
}

/// The tensors of a blueprint, experts of a layer together, without a type.
pub(super) fn rows(blueprint: &Blueprint) -> Vec<Weight> {
    let due = blueprint.tensors.iter().filter(|row| row.optional.is_none());
    due.map(|row| {
        let mut shape = row.shape.to_vec();
        if row.count > 1 {
            shape.insert(0, row.count as u64);
        }
        // A tensor without a name of llama.cpp's is counted as one of the many.
        let name = row.gguf(0).unwrap_or_else(|| row.pattern());
        Weight { name, shape, dtype: F32, bytes: 0, role: row.role, layer: row.layer }
    })
    .collect()
}

/// Gives weights the types and bytes of an element type (`bf16`, `f8_e4m3`) or mixture (`q4_k_m`).
pub(super) fn apply(weights: &mut [Weight], architecture: &Architecture, family: &str, precision: &str) -> Result<()> {
    if let Some(mixture) = Mixture::named(precision) {
        let tensors: Vec<(&str, &[u64])> =
            weights.iter().map(|weight| (weight.name.as_str(), weight.shape.as_slice())).collect();
        let types = types(mixture, &tensors, architecture, family);
        weigh(weights, &types);
    } else {
        let known = DType::named(precision).filter(|dtype| dtype.block() > 0 && dtype.class() != Class::Other);
        let Some(dtype) = known else {
            let message = format!("no element type or mixture is called {precision}");
            let help = "some are bf16, f16, f8_e4m3, q8_0, q6_k, q5_k_m, q4_k_m, iq4_xs, q3_k_m, q2_k";
            return Err(Error::new(ErrorKind::Usage, message).help(help));
        };
        weigh(weights, &vec![dtype; weights.len()]);
    }
    Ok(())
}

/// Gives each weight its type, and the bytes that it then takes.
pub(super) fn weigh(weights: &mut [Weight], types: &[DType]) {
    for (weight, dtype) in weights.iter_mut().zip(types) {
        let columns = weight.shape.last().copied().unwrap_or(1);
        let rows = crate::tensor::elements(&weight.shape).checked_div(columns).unwrap_or(0);
        weight.dtype = *dtype;
        weight.bytes = rows.saturating_mul(dtype.bytes(columns).unwrap_or(0));
    }
}

/// The types of weights in words, the one with most bytes first: `Q4_K, Q6_K, F32`.
pub(super) fn words(weights: impl Iterator<Item = (DType, u64)>) -> String {
    let mut sums: Vec<(DType, u64)> = Vec::new();
    for (dtype, bytes) in weights {
        match sums.iter_mut().find(|sum| sum.0 == dtype) {
            Some(sum) => sum.1 = sum.1.saturating_add(bytes),
            None => sums.push((dtype, bytes)),
        }
    }
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.1));
    let names: Vec<&str> = sums.iter().take(3).map(|sum| sum.0.name()).collect();
    names.join(", ")
}
