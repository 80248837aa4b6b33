//! What one layer multiplies, read off the names and shapes of its tensors.

use foldhash::HashMap;

use super::Quirks;
use super::rwkv::Rwkv;
use crate::cache::{Layer, Reach, State, Store};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Whether there is a norm before the attention, and one before the feed-forward network.
    pub(super) norms: (bool, bool),
    /// Whether the sum after attention is normed.
    pub(super) normed_sum: bool,
    pub(super) mixer: Mixer,
    /// A recurrent part beside the attention.
    pub(super) recurrent: Option<Recurrent>,
    pub(super) rwkv: Option<Rwkv>,
    /// Attention to an encoder's output.
    pub(super) cross: Option<Cross>,
    pub(super) feed: Feed,
    /// Whether attention and feed-forward read the same norm.
    pub(super) parallel: bool,
    /// Numbers of an embedding of its own that is added.
    pub(super) per_layer: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mixer {
    None,
    Heads {
        /// Numbers per token of queries with what else their projection gives (gates), keys, values.
        query: u64,
        key: u64,
        value: u64,
        /// One projection for all three.
        fused: bool,
        heads: u64,
        kv_heads: u64,
        key_size: u64,
        value_size: u64,
        window: bool,
        /// Whether the layer stores keys and values of its own.
        stores: bool,
        /// Widths of keys and values as expanded from a latent, and of the latent with the rotated part.
        expanded: Option<(u64, u64)>,
        indexer: Option<Indexer>,
        /// Tokens of each group that older tokens are compressed to, 0 where they are not.
        rate: u64,
    },
    Latent {
        heads: u64,
        query_rank: Option<u64>,
        query: u64,
        rank: u64,
        rotated: u64,
        value: u64,
        window: bool,
        /// Width of a gate on the output.
        gate: u64,
        indexer: Option<Indexer>,
    },
}

/// Widths of the queries, keys and values of attention to an encoder's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cross {
    pub(super) query: u64,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) heads: u64,
}

/// What chooses the tokens that attention may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Indexer {
    /// Numbers in the queries of all its heads; 0 where the choice of an earlier layer is taken.
    pub(super) width: u64,
    pub(super) heads: u64,
    /// Whether scores of single heads are never stored.
    pub(super) fused: bool,
    /// Whether blocks of cells are chosen, for each stream on its own, and only for flash attention (MiniMax-M3).
    pub(super) blocks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recurrent {
    /// Width of the first projection.
    pub(super) wide: u64,
    /// Channels of the convolution.
    pub(super) channels: u64,
    pub(super) kernel: u64,
    /// Width of the result.
    pub(super) inner: u64,
    pub(super) state: u64,
    /// Copies of the queries and keys at the width of the values (delta nets).
    pub(super) spread: bool,
    /// Width of each of the two projections that are normed before the scan, 0 where they are not.
    pub(super) normed: u64,
    /// Heads of linear attention that compares all tokens of a micro-batch with each other (MiniMax-01).
    pub(super) quadratic: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Feed {
    None,
    Dense(Dense),
    Experts {
        count: u64,
        used: u64,
        width: u64,
        gated: bool,
        merged: bool,
        biased: bool,
        /// Width at which experts work, where it is not the model's (latent experts).
        latent: u64,
        shared: Option<Dense>,
        /// A dense network beside the experts.
        beside: Option<Dense>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dense {
    pub(super) width: u64,
    pub(super) gate: Gate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    None,
    Beside,
    /// Gate and up-projection in one matrix.
    Fused,
}

/// Numbers that names and shapes do not show.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::memory) struct Numbers {
    pub(in crate::memory) hidden: u64,
    pub(in crate::memory) vocab: u64,
    pub(in crate::memory) heads: u64,
    pub(in crate::memory) head_size: u64,
    pub(in crate::memory) experts_used: u64,
    pub(in crate::memory) residual_streams: u64,
    pub(in crate::memory) deepstack: u64,
    pub(in crate::memory) value_size: u64,
    pub(in crate::memory) indexer_heads: u64,
    pub(in crate::memory) indexer_size: u64,
    pub(in crate::memory) late_outputs: bool,
    pub(in crate::memory) quirks: Quirks,
    pub(in crate::memory) keeps_last: bool,
    pub(in crate::memory) top_k: u64,
    /// Whether some layer has an indexer.
    pub(in crate::memory) indexed: bool,
    /// Whether an indexer's keys are pooled (GLM-5-Next).
    pub(in crate::memory) pooled: bool,
    /// Cells of a block that an indexer scores at once (Qwen 4).
    pub(in crate::memory) rate: u64,
}

/// Shapes of one layer's tensors by what follows `blk.N.` in their names, outermost dimension first.
pub(super) type Shapes<'t> = HashMap<&'t str, &'t [u64]>;

impl Block {
    /// Whether it unmasks what an indexer chose.
    pub(super) fn unmasks(&self) -> bool {
        matches!(self.mixer, Mixer::Latent { indexer: Some(_), .. })
    }

    pub(super) fn new(layer: &Layer, shapes: &Shapes, numbers: &Numbers) -> Self {
        let rows = |name: &str| shapes.get(name).and_then(|shape| shape.first().copied());
        let has = |name: &str| shapes.contains_key(name);
        let window = matches!(layer.reach, Reach::Sliding(_) | Reach::Chunked(_));
        let (heads, width) = (numbers.indexer_heads, numbers.indexer_heads.saturating_mul(numbers.indexer_size));
        let blocks = layer.indexer_values;
        let own = |fused: bool| (layer.indexer > 0).then_some(Indexer { width, heads, fused, blocks });
        let query_rows = rows("attn_q.weight");
        let mixer = match layer.store {
            Store::KeyValue { heads: kv_heads, key: key_size, value: value_size } => {
                let (key, value) = (kv_heads.saturating_mul(key_size), kv_heads.saturating_mul(value_size));
                let fused = rows("attn_qkv.weight");
                let query = query_rows
                    .or(rows("attn_q_b.weight"))
                    .or(fused.map(|rows| rows.saturating_sub(key.saturating_add(value))))
                    .unwrap_or(numbers.heads.saturating_mul(key_size));
                // A gate on the output doubles the queries' projection.
                let output = shapes.get("attn_output.weight").and_then(|shape| shape.last().copied());
                let heads = output.and_then(|width| width.checked_div(value_size)).unwrap_or(numbers.heads).max(1);
                Mixer::Heads {
                    query,
                    key,
                    value,
                    fused: fused.is_some(),
                    heads,
                    kv_heads,
                    key_size,
                    value_size,
                    window,
                    stores: true,
                    expanded: rows("attn_kv_b.weight").zip(rows("attn_kv_a_mqa.weight")),
                    indexer: own(false),
                    rate: 0,
                }
            }
            Store::Latent { rank, rotated } => {
                // A single head leaves no dimension of its own.
                let heads = match shapes.get("attn_k_b.weight") {
                    Some([heads, _, _]) => *heads,
                    Some([_, _]) => 1,
                    _ => numbers.heads.max(1),
                };
                let query = rows("attn_q_b.weight").or(query_rows).unwrap_or(heads.saturating_mul(numbers.head_size));
                let value = shapes.get("attn_v_b.weight").and_then(|shape| shape.iter().rev().nth(1).copied());
                let value = value.unwrap_or(numbers.value_size);
                let gate = rows("attn_gate.weight").unwrap_or(0);
                let chosen =
                    (numbers.indexed && !window).then_some(Indexer { width: 0, heads: 0, fused: true, blocks: false });
                let indexer = own(true).or(chosen);
                let query_rank = rows("attn_q_a.weight");
                Mixer::Latent { heads, query_rank, query, rank, rotated, value, window, gate, indexer }
            }
            Store::Shared => {
                let query = query_rows.unwrap_or(numbers.heads.saturating_mul(numbers.head_size));
                let heads = numbers.heads.max(1);
                Mixer::Heads {
                    query,
                    key: 0,
                    value: 0,
                    fused: false,
                    heads,
                    kv_heads: 1,
                    key_size: query / heads,
                    value_size: query / heads,
                    window,
                    stores: false,
                    expanded: None,
                    indexer: None,
                    rate: 0,
                }
            }
            // Encoders attend without a cache.
            Store::Nothing if !layer.recurrent && (query_rows.is_some() || has("attn_qkv.weight")) => {
                let size = numbers.head_size.max(1);
                let wide = rows("attn_qkv.weight");
                let query = query_rows.unwrap_or(numbers.heads.saturating_mul(size));
                let key = rows("attn_k.weight").or(wide.map(|wide| wide.saturating_sub(query) / 2)).unwrap_or(query);
                Mixer::Heads {
                    query,
                    key,
                    value: key,
                    fused: wide.is_some(),
                    heads: numbers.heads.max(1),
                    kv_heads: (key / size).max(1),
                    key_size: size,
                    value_size: size,
                    window,
                    stores: false,
                    expanded: None,
                    indexer: None,
                    rate: 0,
                }
            }
            Store::Compressed(compressed) => Mixer::Heads {
                query: rows("attn_q_b.weight").or(query_rows).unwrap_or(numbers.heads.saturating_mul(compressed.head)),
                key: compressed.head,
                value: compressed.head,
                fused: false,
                heads: numbers.heads.max(1),
                kv_heads: 1,
                key_size: compressed.head,
                value_size: compressed.head,
                window: true,
                stores: true,
                expanded: None,
                indexer: (compressed.indexer > 0).then_some(Indexer { width, heads, fused: true, blocks: false }),
                rate: compressed.rate,
            },
            Store::Nothing | Store::Cross => Mixer::None,
        };
        let state = layer.state.filter(|_| layer.recurrent);
        let rwkv = state.and_then(|state| Rwkv::new(state.recurrent, shapes));
        let recurrent = state.filter(|_| rwkv.is_none()).map(|state| Recurrent::new(&state, shapes, numbers));
        let feed = Feed::new(shapes, numbers);
        let any = |names: &[&str]| names.iter().any(|name| has(name));
        let before = any(&["ffn_norm.weight", "ffn_pre_norm.weight"]);
        let between = any(&["attn_post_norm.weight", "post_attention_norm.weight"]);
        let after = any(&["ffn_post_norm.weight", "post_ffw_norm.weight", "layer_output_norm.weight"]);
        let normed_sum = has("attn_output_norm.weight") && after;
        let parallel = mixer != Mixer::None && feed != Feed::None && !before && !between && !normed_sum;
        Block {
            // A norm after attention is the one before the feed-forward network, unless that has one of its own behind.
            norms: (!(between || normed_sum) || has("attn_norm.weight"), before || !(after || normed_sum)),
            normed_sum,
            mixer,
            recurrent,
            rwkv,
            cross: rows("cross_attn_q.weight").map(|query| Cross {
                query,
                key: rows("cross_attn_k.weight").unwrap_or(query),
                value: rows("cross_attn_v.weight").unwrap_or(query),
                heads: numbers.heads.max(1),
            }),
            feed,
            parallel,
            per_layer: rows("inp_gate.weight").unwrap_or(0),
        }
    }
}

impl Recurrent {
    pub(super) fn new(state: &State, shapes: &Shapes, numbers: &Numbers) -> Self {
        let rows = |name: &str| shapes.get(name).and_then(|shape| shape.first().copied());
        let columns = |name: &str| shapes.get(name).and_then(|shape| shape.last().copied());
        let delta = ["ssm_beta_alpha.weight", "ssm_beta.weight", "ssm_ba.weight", "attn_gate.weight"];
        let spread = delta.iter().any(|name| shapes.contains_key(name));
        let inner = columns("ssm_out.weight").or(columns("shortconv.out_proj.weight"));
        let inner = inner.or(columns("attn_output.weight")).unwrap_or(state.channels);
        let wide = ["ssm_in.weight", "attn_qkv.weight", "attn_qkvz.weight", "shortconv.in_proj.weight"];
        let wide = wide.iter().find_map(|name| rows(name)).unwrap_or(state.channels);
        let wide = wide.saturating_add(rows("attn_gate.weight").unwrap_or(0));
        let normed = shapes.get("ssm_b_norm.weight").and_then(|shape| shape.last().copied()).unwrap_or(0);
        let linear = state.kernel == 0 && state.recurrent > 0 && shapes.contains_key("attn_qkv.weight");
        let quadratic = if linear { numbers.heads } else { 0 };
        Recurrent {
            wide,
            channels: state.channels,
            kernel: state.kernel,
            inner,
            state: state.recurrent,
            spread,
            normed,
            quadratic,
        }
    }
}

impl Feed {
    pub(super) fn new(shapes: &Shapes, numbers: &Numbers) -> Self {
        let rows = |name: &str| shapes.get(name).and_then(|shape| shape.first().copied());
        let dense = |stem: &str| {
            let up = rows(&format!("ffn_up{stem}.weight"))?;
            let down = shapes.get(format!("ffn_down{stem}.weight").as_str()).and_then(|shape| shape.last().copied());
            let gate = if shapes.contains_key(format!("ffn_gate{stem}.weight").as_str()) {
                Gate::Beside
            } else if down.is_some_and(|down| up == 2 * down) {
                Gate::Fused
            } else {
                Gate::None
            };
            Some(Dense { width: down.unwrap_or(up), gate })
        };
        let experts = shapes.get("ffn_down_exps.weight");
        match experts {
            Some([count, latent, width]) => Feed::Experts {
                count: *count,
                used: numbers.experts_used.min(*count).max(1),
                width: *width,
                gated: shapes.contains_key("ffn_gate_exps.weight") || shapes.contains_key("ffn_gate_up_exps.weight"),
                merged: shapes.contains_key("ffn_gate_up_exps.weight"),
                biased: shapes.contains_key("ffn_down_exps.bias"),
                latent: *latent,
                shared: dense("_shexp"),
                beside: dense(""),
            },
            _ => dense("").map_or(Feed::None, Feed::Dense),
        }
    }
}
