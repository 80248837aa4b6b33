//! The largest tensors of a computation, as llama.cpp lays it out for one micro-batch.
//!
//! A [`Network`] says what each layer multiplies, read off the names and shapes of a model's tensors; [`buffer`] builds
//! the graph of a micro-batch from it and asks the [allocator](super::allocator) how much it needs. What is smaller
//! than a row of activations is left out. Steps and their order: llama.cpp, `src/llama-graph.cpp` and `src/models`.

mod rwkv;
mod waves;

use foldhash::{HashMap, HashMapExt};

use rwkv::Rwkv;
use waves::Waves;

use super::allocator::{Graph, Id, Shape};
use crate::cache::{Layer, Reach, State, Store};

/// So many layers at the front and at the end are computed, and the first of every other kind: the buffer does not
/// grow with more of the same, but where gaps are depends on what comes before the logits.
const FRONT: usize = 3;
const END: usize = 8;

/// One micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    /// Tokens at once.
    pub(super) tokens: u64,
    /// Sequences that they belong to.
    pub(super) sequences: u64,
    /// Caches that the sequences are spread over: one each, or one for all.
    pub(super) streams: u64,
    /// Tokens whose logits are asked for.
    pub(super) outputs: u64,
    /// Cells of each cache that keeps everything.
    pub(super) cells: u64,
    /// Cells of each cache of a sliding window.
    pub(super) window_cells: u64,
    /// Whether attention is computed without the matrix of scores.
    pub(super) flash: bool,
    /// Bytes of an element of the keys' cache; that of a block type rounded up.
    pub(super) key_element: u64,
    /// Whether keys are of a block type, and are rotated before they are stored.
    pub(super) rotates_keys: bool,
    /// The same for values.
    pub(super) rotates_values: bool,
    /// Whether keys are stored in single precision, which flash attention converts.
    pub(super) single_keys: bool,
    /// The same for values.
    pub(super) single_values: bool,
}

/// What is multiplied from the embedding to the logits.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    hidden: u64,
    /// Numbers that an input embedding has: more than the width where images add some to each layer.
    input: u64,
    vocab: u64,
    /// Numbers of the embedding that each layer has of its own (Gemma 3n, Gemma 4), and those of all layers.
    per_layer: u64,
    all_layers: u64,
    /// Streams of the residual, where there are several (hyper-connections).
    streams: u64,
    /// Numbers of all values of the layer that has most, for their places in a transposed cache.
    values: u64,
    /// Whether the tokens whose logits are asked for are chosen after the last layer, not within it.
    late_outputs: bool,
    /// Whether the last layer's result is handed out beside the logits.
    keeps_last: bool,
    /// Cells that an indexer chooses.
    top_k: u64,
    /// Whether an indexer's keys are pooled.
    pooled: bool,
    /// Cells of a block that an indexer scores at once, 0 where it scores cells.
    rate: u64,
    /// Layers that are left out of `blocks`, but have zeros to unmask with.
    hidden_zeros: usize,
    /// What is only told by the architecture's name.
    quirks: Quirks,
    /// A network of convolutions, instead of layers.
    waves: Option<Waves>,
    blocks: Vec<Block>,
}

/// Habits of an architecture's graph that neither names nor shapes of its tensors show.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quirks {
    /// The experts' inputs are weighted, not their outputs (Llama 4).
    pub(super) weighted_inputs: bool,
    /// Norms take the mean away, which ggml does not do in place.
    pub(super) centred: bool,
    /// Queries and keys are not rotated: positions are learned, or biases of the scores.
    pub(super) still: bool,
    /// The residual is the first term of the sum after the feed-forward network, and is written over.
    pub(super) residual_first: bool,
    /// A copy of the logits has some of them suppressed (Chameleon).
    pub(super) masked_logits: bool,
    /// Scores have a learned bias by distance, and flash attention is not used (T5).
    pub(super) biased_scores: bool,
    /// The embedding is read again after the layers, which are run in cycles (HRM).
    pub(super) cycles: bool,
    /// Tokens that a decoder sees of its encoder (T5).
    pub(super) encoded: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    /// Whether there is a norm before the attention, and one before the feed-forward network.
    norms: (bool, bool),
    /// Whether the sum after attention is normed.
    normed_sum: bool,
    mixer: Mixer,
    /// A recurrent part beside the attention.
    recurrent: Option<Recurrent>,
    rwkv: Option<Rwkv>,
    /// Attention to an encoder's output.
    cross: Option<Cross>,
    feed: Feed,
    /// Whether attention and feed-forward read the same norm.
    parallel: bool,
    /// Numbers of an embedding of its own that is added.
    per_layer: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mixer {
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
struct Cross {
    query: u64,
    key: u64,
    value: u64,
    heads: u64,
}

/// What chooses the tokens that attention may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Indexer {
    /// Numbers in the queries of all its heads; 0 where the choice of an earlier layer is taken.
    width: u64,
    heads: u64,
    /// Whether scores of single heads are never stored.
    fused: bool,
    /// Whether blocks of cells are chosen, for each stream on its own, and only for flash attention (MiniMax-M3).
    blocks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Recurrent {
    /// Width of the first projection.
    wide: u64,
    /// Channels of the convolution.
    channels: u64,
    kernel: u64,
    /// Width of the result.
    inner: u64,
    state: u64,
    /// Copies of the queries and keys at the width of the values (delta nets).
    spread: bool,
    /// Width of each of the two projections that are normed before the scan, 0 where they are not.
    normed: u64,
    /// Heads of linear attention that compares all tokens of a micro-batch with each other (MiniMax-01).
    quadratic: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Feed {
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
struct Dense {
    width: u64,
    gate: Gate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    None,
    Beside,
    /// Gate and up-projection in one matrix.
    Fused,
}

/// Numbers that names and shapes do not show.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub(super) hidden: u64,
    pub(super) vocab: u64,
    pub(super) heads: u64,
    pub(super) head_size: u64,
    pub(super) experts_used: u64,
    pub(super) residual_streams: u64,
    pub(super) deepstack: u64,
    pub(super) value_size: u64,
    pub(super) indexer_heads: u64,
    pub(super) indexer_size: u64,
    pub(super) late_outputs: bool,
    pub(super) quirks: Quirks,
    pub(super) keeps_last: bool,
    pub(super) top_k: u64,
    /// Whether some layer has an indexer.
    pub(super) indexed: bool,
    /// Whether an indexer's keys are pooled (GLM-5-Next).
    pub(super) pooled: bool,
    /// Cells of a block that an indexer scores at once (Qwen 4).
    pub(super) rate: u64,
}

/// Shapes of one layer's tensors by what follows `blk.N.` in their names, outermost dimension first.
type Shapes<'t> = HashMap<&'t str, &'t [u64]>;

impl Network {
    /// From tensors named as llama.cpp names them, and the table of what each layer keeps.
    pub(super) fn new<'t>(
        tensors: impl Iterator<Item = (&'t str, &'t [u64])>,
        layers: &[Layer],
        numbers: &Numbers,
    ) -> Self {
        let mut by_layer: Vec<Shapes> = vec![Shapes::new(); layers.len()];
        let mut others = Shapes::new();
        for (name, shape) in tensors {
            // Of an encoder and a decoder, the decoder's are computed where there is one.
            let name = name.strip_prefix("enc.").or_else(|| name.strip_prefix("dec.")).unwrap_or(name);
            let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
                others.insert(name, shape);
                continue;
            };
            if let Some(shapes) = layer.parse().ok().and_then(|layer: usize| by_layer.get_mut(layer)) {
                shapes.insert(rest, shape);
            }
        }
        let blocks: Vec<Block> =
            layers.iter().zip(&by_layer).map(|(layer, shapes)| Block::new(layer, shapes, numbers)).collect();
        let values = layers.iter().map(values).max().unwrap_or(0);
        let zeros = |blocks: &[Block]| blocks.iter().filter(|block| block.unmasks()).count();
        let all = zeros(&blocks);
        let count = blocks.len() as u64;
        let per_layer = blocks.iter().map(|block| block.per_layer).max().unwrap_or(0);
        let blocks = thin(blocks);
        let hidden_zeros = all - zeros(&blocks).min(all);
        Network {
            hidden: numbers.hidden,
            input: numbers.hidden.saturating_mul(1 + numbers.deepstack),
            vocab: numbers.vocab,
            per_layer,
            all_layers: per_layer.saturating_mul(count),
            streams: numbers.residual_streams.max(1),
            values,
            late_outputs: numbers.late_outputs,
            keeps_last: numbers.keeps_last,
            top_k: numbers.top_k,
            pooled: numbers.pooled,
            rate: numbers.rate,
            hidden_zeros,
            quirks: numbers.quirks,
            waves: Waves::new(&others),
            blocks,
        }
    }

    /// Bytes of the buffer in which one micro-batch is computed.
    pub(super) fn buffer(&self, batch: &Batch) -> u64 {
        let builder = Builder::new(self, batch);
        match &self.waves {
            Some(waves) => builder.waves(waves),
            None => builder.build(),
        }
    }
}

/// Numbers per token of a layer's values.
pub(super) fn values(layer: &Layer) -> u64 {
    match layer.store {
        Store::KeyValue { heads, value, .. } => heads.saturating_mul(value),
        Store::Latent { rank, .. } => rank,
        _ => 0,
    }
}

/// Leaves out layers that only repeat those before them.
fn thin(blocks: Vec<Block>) -> Vec<Block> {
    let count = blocks.len();
    let mut kept: Vec<Block> = Vec::new();
    for (index, block) in blocks.into_iter().enumerate() {
        if index < FRONT || index + END >= count || !kept.contains(&block) {
            kept.push(block);
        }
    }
    kept
}

impl Block {
    /// Whether it unmasks what an indexer chose.
    fn unmasks(&self) -> bool {
        matches!(self.mixer, Mixer::Latent { indexer: Some(_), .. })
    }

    fn new(layer: &Layer, shapes: &Shapes, numbers: &Numbers) -> Self {
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
    fn new(state: &State, shapes: &Shapes, numbers: &Numbers) -> Self {
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
    fn new(shapes: &Shapes, numbers: &Numbers) -> Self {
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

/// What attention of one kind is told beside its queries: where keys and values go, and what may be seen.
#[derive(Debug, Clone, Copy)]
struct Places {
    keys: Id,
    values: Id,
    mask: Id,
    cells: u64,
}

/// What scores are mixed with.
#[derive(Debug, Clone, Copy)]
struct Values {
    /// Keys that are not in the cache.
    key: Option<Id>,
    /// Values that had to be turned.
    values: Option<Id>,
    /// Numbers of a head.
    size: u64,
    /// Numbers of the latent that they are expanded from.
    expanded: Option<u64>,
}

/// The graph of one micro-batch in the making.
struct Builder<'n> {
    network: &'n Network,
    batch: &'n Batch,
    graph: Graph,
    words: Id,
    positions: Id,
    rotation: Option<Id>,
    /// For layers that see everything, and for those that slide. Inputs take memory from the first layer that reads
    /// them, in that order.
    full: Option<Places>,
    sliding: Option<Places>,
    outputs: Option<Id>,
    /// Values of the first layer, which later ones mix in (RWKV 7).
    first_value: Option<Id>,
    /// Distances of positions, by which biases of scores are looked up.
    distances: Option<Id>,
    /// An encoder's output, and which of it may be seen.
    encoded: Option<(Id, Id)>,
    /// What indexers may see.
    choosing: Option<Id>,
    /// Distances between tokens, by which linear attention decays.
    decays: Option<Id>,
}

impl<'n> Builder<'n> {
    fn new(network: &'n Network, batch: &'n Batch) -> Self {
        let mut graph = Graph::default();
        let list = |length: u64| Shape { element: 4, size: [length, 1, 1] };
        let words = graph.input(list(batch.tokens));
        graph.input(Shape::f32([network.input, batch.tokens, 1]));
        let positions = graph.input(list(batch.tokens));
        let chosen = if network.top_k == 0 { batch.cells } else { batch.cells.min(network.top_k) };
        for _ in 0..network.hidden_zeros.min(1 << 12) {
            graph.input(Shape::f32([chosen, batch.tokens, 1]));
        }
        Builder {
            network,
            batch,
            graph,
            words,
            positions,
            rotation: None,
            full: None,
            sliding: None,
            outputs: None,
            first_value: None,
            distances: None,
            encoded: None,
            choosing: None,
            decays: None,
        }
    }

    fn places(&mut self, window: bool, stores: bool) -> Places {
        let known = if window { self.sliding } else { self.full };
        if let Some(places) = known {
            return places;
        }
        let batch = self.batch;
        let tokens = batch.tokens;
        let list = |length: u64| Shape { element: 8, size: [length, 1, 1] };
        let keys = self.graph.input(list(tokens));
        let transposed = if batch.flash { 1 } else { self.network.values.max(1) };
        let values = self.graph.input(list(if stores { tokens.saturating_mul(transposed) } else { 1 }));
        let cells = match (stores || self.network.values > 0, window) {
            (false, _) => tokens,
            (true, true) => batch.window_cells,
            (true, false) => batch.cells,
        };
        // Half precision for flash attention; each stream has the tokens of its own sequences.
        let element = if batch.flash { 2 } else { 4 };
        let mask = Shape { element, size: [cells, tokens / batch.streams.max(1), batch.streams] };
        let places = Places { keys, values, mask: self.graph.input(mask), cells };
        *(if window { &mut self.sliding } else { &mut self.full }) = Some(places);
        places
    }

    fn rotation(&mut self) -> Id {
        match self.rotation {
            Some(matrix) => matrix,
            None => {
                let matrix = self.graph.input(Shape::f32([64, 64, 1]));
                self.rotation = Some(matrix);
                matrix
            }
        }
    }

    /// The tokens whose logits are asked for, of a result for all.
    fn chosen(&mut self, of: Id) -> Id {
        let list = Shape { element: 4, size: [self.batch.outputs, 1, 1] };
        let outputs = match self.outputs {
            Some(outputs) => outputs,
            None => self.graph.input(list),
        };
        self.outputs = Some(outputs);
        self.graph.result(Shape::f32([self.network.hidden, self.batch.outputs, 1]), &[of, outputs])
    }

    fn rows(&self, width: u64) -> Shape {
        Shape::f32([width, self.batch.tokens, 1])
    }

    fn heads(&self, size: u64, heads: u64) -> Shape {
        Shape::f32([size, heads, self.batch.tokens])
    }

    fn build(mut self) -> u64 {
        let hidden = self.network.hidden;
        let shape = self.rows(hidden);
        let mut stream = self.graph.result(shape, &[self.words]);
        self.graph.expand(stream);
        let per_layer = (self.network.per_layer > 0).then(|| {
            let shape = self.rows(self.network.all_layers);
            let looked_up = self.graph.result(shape, &[self.words]);
            let looked_up = self.graph.view(looked_up, shape.size);
            let own = self.graph.result(shape, &[looked_up]);
            self.graph.expand(own);
            let projected = self.graph.result(shape, &[stream]);
            let parts = self.graph.view(projected, shape.size);
            let normed = self.graph.result(shape, &[parts]);
            let sum = self.graph.in_place(&[normed, own]);
            self.graph.result(shape, &[sum])
        });
        // Numbers that images add to layers stand behind the embedding, zeros for text.
        let wide = (self.network.input > hidden).then(|| {
            let wide = self.graph.result(self.rows(self.network.input), &[stream]);
            stream = self.graph.view(wide, [hidden, self.batch.tokens, 1]);
            wide
        });
        if self.network.streams > 1 {
            let shape = Shape::f32([hidden, self.network.streams, self.batch.tokens]);
            stream = self.graph.result(shape, &[stream]);
            self.graph.expand(stream);
        }
        let start = stream;
        let last = self.network.blocks.len().saturating_sub(1);
        for (index, block) in self.network.blocks.iter().enumerate() {
            stream = self.block(block, stream, index == last, per_layer);
            if let Some(wide) = wide.filter(|_| (index as u64) < (self.network.input / hidden.max(1)).saturating_sub(1))
            {
                let part = self.graph.view(wide, [hidden, self.batch.tokens, 1]);
                stream = self.graph.in_place(&[stream, part]);
                self.graph.expand(stream);
            }
        }
        if self.network.streams > 1 {
            stream = self.graph.result(shape, &[stream]);
        }
        if self.network.quirks.cycles {
            stream = self.graph.in_place(&[stream, start]);
        }
        if self.network.keeps_last {
            self.graph.keep(stream);
        }
        if self.network.late_outputs {
            stream = self.chosen(stream);
        }
        let scaled = self.norm(stream);
        let shape = Shape::f32([self.network.vocab, self.batch.outputs, 1]);
        let mut logits = self.graph.result(shape, &[scaled]);
        if self.network.quirks.masked_logits {
            logits = self.graph.result(shape, &[logits]);
        }
        self.graph.expand(logits);
        self.graph.buffer()
    }

    fn block(&mut self, block: &Block, stream: Id, last: bool, per_layer: Option<Id>) -> Id {
        let hidden = self.rows(self.network.hidden);
        // With several residual streams the layer works on their mixture, and gives to all of them.
        let many = self.network.streams > 1;
        let input = if many { self.graph.result(hidden, &[stream]) } else { stream };
        let normed = if block.norms.0 { self.norm(input) } else { input };
        let mut mixed = match &block.mixer {
            Mixer::None => None,
            Mixer::Heads { .. } => Some(self.attention(&block.mixer, normed)),
            Mixer::Latent { .. } => Some(self.latent(&block.mixer, normed)),
        };
        if let Some(recurrent) = &block.recurrent {
            let other = self.recurrent(recurrent, normed);
            mixed = Some(match mixed {
                Some(attention) => self.graph.in_place(&[attention, other]),
                None => other,
            });
        }
        if let Some(rwkv) = &block.rwkv {
            mixed = Some(self.time_mix(rwkv, normed));
        }
        let mut residual = if many { stream } else { input };
        let mut entry = normed;
        let mut beside = None;
        if let Some(mut output) = mixed {
            if last && !many && !self.network.late_outputs {
                output = self.chosen(output);
                residual = self.chosen(residual);
            }
            if many {
                let wide = self.graph.shape(stream);
                residual = self.graph.result(wide, &[output, stream]);
                entry = residual;
            } else if block.parallel {
                beside = Some(output);
            } else {
                residual = self.graph.in_place(&[output, residual]);
                if block.normed_sum {
                    residual = self.norm(residual);
                }
                entry = residual;
            }
        }
        if let Some(cross) = &block.cross {
            let output = self.cross(cross, residual);
            residual = self.graph.in_place(&[output, residual]);
            entry = residual;
        }
        let channels = block.rwkv.as_ref().filter(|rwkv| rwkv.has_channel_mix());
        let mut stream = match &block.feed {
            Feed::None if channels.is_some() => {
                let input = self.norm(entry);
                let output = channels.map_or(input, |rwkv| self.channel_mix(rwkv, normed, input));
                self.graph.in_place(&[output, residual])
            }
            Feed::None => residual,
            feed => {
                let input = if many { self.graph.result(hidden, &[entry]) } else { entry };
                let input = if block.parallel || !block.norms.1 { input } else { self.norm(input) };
                if let Some(attention) = beside {
                    self.graph.expand(attention);
                }
                let mut output = self.feed(feed, input);
                if let Some(attention) = beside {
                    output = self.graph.in_place(&[output, attention]);
                }
                if many {
                    let wide = self.graph.shape(residual);
                    self.graph.result(wide, &[output, residual])
                } else if self.network.quirks.residual_first {
                    self.graph.in_place(&[residual, output])
                } else {
                    self.graph.in_place(&[output, residual])
                }
            }
        };
        if block.normed_sum {
            stream = self.norm(stream);
        }
        if let (width @ 1.., Some(embeddings)) = (block.per_layer, per_layer) {
            let part = self.graph.view(embeddings, [width, self.batch.tokens, 1]);
            let gated = self.graph.result(self.rows(width), &[stream]);
            let projected = self.graph.result(hidden, &[gated, part]);
            stream = self.graph.in_place(&[projected, stream]);
        }
        self.graph.expand(stream);
        stream
    }

    fn norm(&mut self, input: Id) -> Id {
        let normed = if self.network.quirks.centred {
            self.graph.result(self.graph.shape(input), &[input])
        } else {
            self.graph.in_place(&[input])
        };
        self.graph.in_place(&[normed])
    }

    fn attention(&mut self, mixer: &Mixer, input: Id) -> Id {
        let Mixer::Heads {
            query,
            key,
            value,
            fused,
            heads,
            kv_heads,
            key_size,
            value_size,
            window,
            stores,
            expanded,
            indexer,
            rate,
        } = *mixer
        else {
            return input;
        };
        let tokens = self.batch.tokens;
        let (mut q, mut k, mut v);
        if fused {
            let shape = self.rows(query.saturating_add(key).saturating_add(value));
            let all = self.graph.result(shape, &[input]);
            let part = |graph: &mut Graph, size, heads| {
                let view = graph.view(all, [size, heads, tokens]);
                (view, Shape::f32([size, heads, tokens]))
            };
            let still = self.network.quirks.still;
            let (view, shape) = part(&mut self.graph, key_size, heads);
            q = if still { view } else { self.graph.result(shape, &[view, self.positions]) };
            let (view, shape) = part(&mut self.graph, key_size, kv_heads);
            k = if still { view } else { self.graph.result(shape, &[view, self.positions]) };
            v = part(&mut self.graph, value_size, kv_heads).0;
        } else {
            let project = |graph: &mut Graph, width: u64, size: u64| {
                let flat = graph.result(Shape::f32([width, tokens, 1]), &[input]);
                graph.view(flat, [size, width.checked_div(size).unwrap_or(1), tokens])
            };
            q = project(&mut self.graph, query, key_size);
            if query > heads.saturating_mul(key_size) {
                // The half that gates the output stays until then.
                let part = self.graph.view(q, [key_size, heads, tokens]);
                q = self.graph.result(self.heads(key_size, heads), &[part]);
            }
            let still = self.network.quirks.still;
            let turn = |graph: &mut Graph, of| if still { of } else { graph.in_place(&[of, self.positions]) };
            q = turn(&mut self.graph, q);
            k = project(&mut self.graph, key.max(1), key_size);
            k = turn(&mut self.graph, k);
            v = project(&mut self.graph, value.max(1), value_size);
        }
        if let Some((both, latent)) = expanded {
            let compressed = self.graph.result(self.rows(latent), &[input]);
            let straight = self.graph.result(self.rows(both), &[compressed]);
            let part = self.graph.view(straight, [value_size, kv_heads, tokens]);
            v = self.graph.result(self.heads(value_size, kv_heads), &[part]);
            let part = self.graph.view(straight, [value_size, kv_heads, tokens]);
            let turned = self.graph.view(compressed, [1, 1, tokens]);
            k = self.graph.result(self.heads(key_size, kv_heads), &[part, turned]);
        }
        if self.batch.rotates_keys {
            let by = self.rotation();
            q = self.graph.result(self.graph.shape(q), &[q, by]);
            k = self.graph.result(self.graph.shape(k), &[k, by]);
        }
        if self.batch.rotates_values {
            let by = self.rotation();
            v = self.graph.result(self.graph.shape(v), &[v, by]);
        }
        self.graph.expand(q);
        let cached = stores || self.network.values > 0;
        let places = self.places(window, stores);
        if stores {
            self.graph.expand(v);
            self.graph.expand(k);
            for (tensor, place) in [(k, places.keys), (v, places.values)] {
                let whole = self.graph.view(tensor, self.graph.shape(tensor).size);
                let stored = self.graph.sink(&[whole, place]);
                self.graph.expand(stored);
            }
        } else if !cached {
            self.graph.expand(k);
            self.graph.expand(v);
        }
        let mut cells = places.cells;
        let mask = match rate {
            0 => self.indexed(indexer, input, places.mask, cells),
            _ => {
                cells = cells.saturating_add(self.groups(rate));
                self.grouped(rate, key_size, indexer, input, places)
            }
        };
        let turned = self.graph.view(q, [key_size, tokens, heads]);
        let mut sources = vec![turned, mask];
        let output = if self.batch.flash && !self.network.quirks.biased_scores {
            let streams = self.batch.streams;
            for (single, width, own) in [(self.batch.single_keys, key, k), (self.batch.single_values, value, v)] {
                let half = Shape { element: 2, size: [width, cells, streams] };
                if !cached {
                    let own = self.graph.view(own, self.graph.shape(own).size);
                    sources.push(self.graph.result(half, &[own]));
                } else if single {
                    sources.push(self.graph.result(half, &[]));
                }
            }
            let attended = self.graph.result(self.heads(value_size, heads), &sources);
            self.graph.view(attended, [value_size.saturating_mul(heads), tokens, 1])
        } else {
            // Values that are not in the cache are turned first, as are those that were cached for flash attention.
            let (key, values) = if !cached {
                let part = self.graph.view(v, self.graph.shape(v).size);
                (Some(k), Some(self.graph.result(self.graph.shape(v), &[part])))
            } else if self.batch.flash {
                let turned = Shape { element: 2, size: [value, cells, self.batch.streams] };
                (None, Some(self.graph.result(turned, &[])))
            } else {
                (None, None)
            };
            self.scores(turned, mask, cells, heads, Values { key, values, size: value_size, expanded: None })
        };
        self.graph.expand(output);
        let output = if self.batch.rotates_values {
            let by = self.rotation();
            self.graph.result(self.graph.shape(output), &[output, by])
        } else {
            output
        };
        self.graph.result(self.rows(self.network.hidden), &[output])
    }

    /// Attention to what an encoder gave for each of its tokens, of which nothing is cached.
    fn cross(&mut self, cross: &Cross, input: Id) -> Id {
        let tokens = self.batch.tokens;
        let cells = self.network.quirks.encoded;
        let input = self.norm(input);
        let (encoded, mask) = match self.encoded {
            Some(inputs) => inputs,
            None => {
                let element = if self.batch.flash { 2 } else { 4 };
                let encoded = self.graph.input(Shape::f32([self.network.hidden, cells, 1]));
                (encoded, self.graph.input(Shape { element, size: [cells, tokens, 1] }))
            }
        };
        self.encoded = Some((encoded, mask));
        let query = self.graph.result(self.rows(cross.query), &[input]);
        let [key, value] =
            [cross.key, cross.value].map(|width| self.graph.result(Shape::f32([width, cells, 1]), &[encoded]));
        for tensor in [query, key, value] {
            self.graph.expand(tensor);
        }
        let size = cross.value.checked_div(cross.heads).unwrap_or(0);
        let output = if self.batch.flash {
            let mut sources = vec![query, mask];
            for (tensor, width) in [(key, cross.key), (value, cross.value)] {
                let part = self.graph.view(tensor, self.graph.shape(tensor).size);
                sources.push(self.graph.result(Shape { element: 2, size: [width, cells, 1] }, &[part]));
            }
            self.graph.result(self.heads(size, cross.heads), &sources)
        } else {
            let part = self.graph.view(value, self.graph.shape(value).size);
            let turned = self.graph.result(self.graph.shape(value), &[part]);
            // Biases by distance are those of self-attention.
            let scores = self.graph.result(Shape::f32([cells, tokens, cross.heads]), &[key, query]);
            let scores = self.graph.in_place(&[scores, mask]);
            let mixed = self.graph.result(Shape::f32([size, tokens, cross.heads]), &[turned, scores]);
            let mixed = self.graph.view(mixed, [size, cross.heads, tokens]);
            self.graph.result(self.rows(cross.value), &[mixed])
        };
        self.graph.expand(output);
        let output = self.graph.view(output, [cross.value, tokens, 1]);
        self.graph.result(self.rows(self.network.hidden), &[output])
    }

    /// Attention with the whole matrix of scores.
    fn scores(&mut self, query: Id, mask: Id, cells: u64, heads: u64, values: Values) -> Id {
        let tokens = self.batch.tokens;
        let shape = Shape::f32([cells, tokens, heads]);
        let sources: Vec<Id> = [values.key, Some(query)].into_iter().flatten().collect();
        let mut scores = self.graph.result(shape, &sources);
        if self.network.quirks.biased_scores {
            let distances = self.distances(cells);
            let biases = self.graph.result(shape, &[distances]);
            let biases = self.graph.view(biases, shape.size);
            let biases = self.graph.result(shape, &[biases]);
            scores = self.graph.in_place(&[scores, biases]);
        }
        let scores = self.graph.in_place(&[scores, mask]);
        let sources: Vec<Id> = [values.values, Some(scores)].into_iter().flatten().collect();
        let width = values.expanded.unwrap_or(values.size);
        let mut mixed = self.graph.result(Shape::f32([width, tokens, heads]), &sources);
        if values.expanded.is_some() {
            mixed = self.graph.result(Shape::f32([values.size, tokens, heads]), &[mixed]);
        }
        let turned = self.graph.view(mixed, [values.size, heads, tokens]);
        self.graph.result(self.rows(values.size.saturating_mul(heads)), &[turned])
    }

    /// Where the distance of each token to each cell is written, in the order of the inputs.
    fn distances(&mut self, cells: u64) -> Id {
        let distances = match self.distances {
            Some(distances) => distances,
            None => self.graph.input(Shape { element: 4, size: [cells, self.batch.tokens, 1] }),
        };
        self.distances = Some(distances);
        distances
    }

    /// Groups of older tokens in a cache.
    fn groups(&self, rate: u64) -> u64 {
        (self.batch.cells / rate.max(1)).max(256)
    }

    /// Sparse attention: an indexer scores all cells, and the best of them unmask. Layers without an indexer of their
    /// own unmask what an earlier one chose.
    fn indexed(&mut self, indexer: Option<Indexer>, input: Id, mask: Id, cells: u64) -> Id {
        let Some(indexer) = indexer else { return mask };
        // Blocks are not chosen where sequences lie mixed in one cache.
        let apart = self.batch.sequences == 1 || self.batch.streams > 1;
        if indexer.blocks && !(self.batch.flash && apart) {
            return mask;
        }
        let tokens = if indexer.blocks { self.batch.tokens / self.batch.streams.max(1) } else { self.batch.tokens };
        let all = Shape::f32([cells, tokens, 1]);
        let order = (indexer.width > 0).then(|| {
            let query = self.graph.result(self.rows(indexer.width), &[input]);
            let query = self.graph.result(self.rows(indexer.width), &[query]);
            let scores = if indexer.fused {
                let own = match self.choosing {
                    Some(own) => own,
                    None => self.graph.input(Shape { element: 2, ..all }),
                };
                self.choosing = Some(own);
                self.graph.result(all, &[query, own])
            } else if self.network.rate > 0 {
                self.blocks_scored(indexer, query, mask, cells)
            } else {
                let each = Shape::f32([cells, tokens, indexer.heads]);
                let scores = self.graph.result(each, &[query]);
                let turned = self.graph.result(each, &[scores]);
                self.graph.result(all, &[turned, mask])
            };
            let scores = if self.network.pooled { self.graph.result(all, &[scores]) } else { scores };
            let order = self.graph.result(all, &[scores]);
            // Without flash attention the mask comes after the scores.
            if self.batch.flash {
                self.graph.expand(order);
            }
            order
        });
        let empty = self.graph.result(self.graph.shape(mask), &[mask]);
        let zeros = self.graph.input(self.zeros(cells));
        let zeros = self.graph.in_place(&[zeros]);
        let written = self.graph.sink(&[zeros]);
        self.graph.expand(written);
        let view = self.graph.view(empty, self.graph.shape(mask).size);
        let sources: Vec<Id> = [Some(view), Some(mask), order].into_iter().flatten().collect();
        let sum = self.graph.result(self.graph.shape(mask), &sources);
        if self.batch.flash {
            self.graph.expand(sum);
        }
        sum
    }

    /// Scores of blocks of cells, which each cell of a block takes over (Qwen 4).
    fn blocks_scored(&mut self, indexer: Indexer, query: Id, mask: Id, cells: u64) -> Id {
        let tokens = self.batch.tokens;
        let blocks = cells.div_ceil(self.network.rate.max(1));
        let all = Shape::f32([cells, tokens, 1]);
        let each = self.graph.result(Shape::f32([blocks, tokens, indexer.heads]), &[query]);
        let each = self.graph.in_place(&[each]);
        let one = Shape::f32([blocks, tokens, 1]);
        let part = self.graph.view(each, one.size);
        let sum = self.graph.result(one, &[part]);
        let part = self.graph.view(each, one.size);
        let sum = self.graph.in_place(&[sum, part]);
        let turned = self.graph.view(sum, one.size);
        let turned = self.graph.result(one, &[turned]);
        let spread = self.graph.result(all, &[turned]);
        let spread = self.graph.view(spread, all.size);
        let back = self.graph.result(all, &[spread]);
        let mask = if self.batch.flash { self.graph.result(all, &[mask]) } else { mask };
        self.graph.in_place(&[back, mask])
    }

    /// Attention to single tokens of a window and to groups of older ones: keys of both are joined, with masks of
    /// their own for groups.
    fn grouped(&mut self, rate: u64, size: u64, indexer: Option<Indexer>, input: Id, places: Places) -> Id {
        let tokens = self.batch.tokens;
        let groups = self.groups(rate);
        let mask = Shape { element: 2, size: [groups, tokens, 1] };
        let seen = self.graph.input(mask);
        let own = self.graph.input(mask);
        let mut sources = vec![places.mask, seen];
        if let Some(indexer) = indexer {
            let query = self.graph.result(self.rows(indexer.width), &[input]);
            let query = self.graph.result(self.rows(indexer.width), &[query]);
            let scores = self.graph.result(Shape::f32([groups, tokens, 1]), &[query, own]);
            sources.push(self.graph.result(Shape::f32([groups, tokens, 1]), &[scores]));
        }
        let keys = Shape { element: 2, size: [size, places.cells.saturating_add(groups), self.batch.streams] };
        sources.push(self.graph.result(keys, &[]));
        let joined = Shape { element: 2, size: [places.cells.saturating_add(groups), tokens, 1] };
        let joined = self.graph.result(joined, &sources);
        self.graph.expand(joined);
        joined
    }

    /// What unmasks the cells that an indexer chose: each layer has its own, all through the run.
    fn zeros(&self, cells: u64) -> Shape {
        let chosen = if self.network.top_k == 0 { cells } else { cells.min(self.network.top_k) };
        Shape::f32([chosen, self.batch.tokens, 1])
    }

    fn latent(&mut self, mixer: &Mixer, input: Id) -> Id {
        let Mixer::Latent { heads, query_rank, query, rank, rotated, value, window, gate, indexer } = *mixer else {
            return input;
        };
        let tokens = self.batch.tokens;
        let size = query.checked_div(heads).unwrap_or(0);
        let straight = size.saturating_sub(rotated);
        let source = match query_rank {
            Some(rank) => {
                let down = self.graph.result(self.rows(rank), &[input]);
                self.norm(down)
            }
            None => input,
        };
        let q = self.graph.result(self.rows(query), &[source]);
        let compressed = self.graph.result(self.rows(rank.saturating_add(rotated)), &[input]);
        let rope = |graph: &mut Graph, of: Id, heads: u64, positions: Id| {
            let part = graph.view(of, [rotated, heads, tokens]);
            graph.result(Shape::f32([rotated, heads, tokens]), &[part, positions])
        };
        let turned_query = rope(&mut self.graph, q, heads, self.positions);
        let rest = self.graph.view(q, [straight, tokens, heads]);
        let absorbed = self.graph.result(Shape::f32([rank, tokens, heads]), &[rest]);
        let absorbed = self.graph.view(absorbed, [rank, heads, tokens]);
        let full = self.graph.result(self.heads(rank.saturating_add(rotated), heads), &[absorbed, turned_query]);
        self.graph.expand(full);
        let part = self.graph.view(compressed, [rank, tokens, 1]);
        let latent = self.graph.result(self.rows(rank), &[part]);
        let latent = self.graph.in_place(&[latent]);
        self.graph.expand(latent);
        let turned_key = rope(&mut self.graph, compressed, 1, self.positions);
        let key = self.graph.result(self.rows(rank.saturating_add(rotated)), &[latent, turned_key]);
        self.graph.expand(key);
        let places = self.places(window, true);
        let stored = self.graph.sink(&[key, places.keys]);
        self.graph.expand(stored);
        let cells = places.cells;
        let mask = self.indexed(indexer, source, places.mask, cells);
        // Gated attention turns its queries once more, and the gate waits for the output.
        let full = match gate {
            0 => full,
            _ => {
                let copy = self.graph.result(self.graph.shape(full), &[full, input]);
                self.graph.result(self.graph.shape(full), &[copy, full])
            }
        };
        let turned = self.graph.view(full, [rank.saturating_add(rotated), tokens, heads]);
        let output = if self.batch.flash {
            let mut sources = vec![turned, mask];
            if self.batch.single_keys {
                for width in [rank.saturating_add(rotated), rank] {
                    let half = Shape { element: 2, size: [width, cells, self.batch.streams] };
                    sources.push(self.graph.result(half, &[]));
                }
            }
            let attended = self.graph.result(self.heads(rank, heads), &sources);
            let attended = self.graph.view(attended, [rank, tokens, heads]);
            let expanded = self.graph.result(Shape::f32([value, tokens, heads]), &[attended]);
            let expanded = self.graph.view(expanded, [value, heads, tokens]);
            self.graph.result(self.rows(value.saturating_mul(heads)), &[expanded])
        } else {
            // Values that are a part of the keys are turned first.
            let part = Shape { element: self.batch.key_element, size: [rank, cells, self.batch.streams] };
            let values = self.graph.result(part, &[]);
            self.scores(
                turned,
                mask,
                cells,
                heads,
                Values { key: None, values: Some(values), size: value, expanded: Some(rank) },
            )
        };
        self.graph.expand(output);
        self.graph.result(self.rows(self.network.hidden), &[output])
    }

    fn recurrent(&mut self, recurrent: &Recurrent, input: Id) -> Id {
        let tokens = self.batch.tokens;
        let sequences = self.batch.sequences;
        let wide = self.graph.result(self.rows(recurrent.wide), &[input]);
        let mut inner = self.graph.view(wide, [recurrent.inner, tokens, 1]);
        if recurrent.kernel > 0 {
            let columns = tokens.saturating_add(sequences.saturating_mul(recurrent.kernel.saturating_sub(1)));
            let old = Shape::f32([recurrent.channels, recurrent.kernel.saturating_sub(1), sequences]);
            let old = self.graph.result(old, &[]);
            let joined = self.graph.result(Shape::f32([columns, recurrent.channels, 1]), &[old, inner]);
            let kept = self.graph.view(joined, [recurrent.kernel, recurrent.channels, 1]);
            let kept = self.graph.sink(&[kept]);
            self.graph.expand(kept);
            let convolved = self.graph.result(self.rows(recurrent.channels), &[joined]);
            inner = self.graph.in_place(&[convolved]);
        }
        let gate = self.graph.view(wide, [recurrent.inner, tokens, 1]);
        if recurrent.quadratic > 0 {
            return self.linear(recurrent, wide);
        }
        if recurrent.state == 0 {
            let product = self.graph.result(self.rows(recurrent.inner), &[inner, gate]);
            return self.graph.result(self.rows(self.network.hidden), &[product]);
        }
        let state = recurrent.state.saturating_mul(sequences);
        let output = if recurrent.spread {
            let old = self.graph.result(Shape::f32([state, 1, 1]), &[]);
            let part = self.graph.view(inner, [recurrent.inner, tokens, 1]);
            let queries = self.graph.result(self.rows(recurrent.inner), &[part]);
            let keys = self.graph.result(self.rows(recurrent.inner), &[part]);
            let shape = Shape::f32([recurrent.inner.saturating_mul(tokens).saturating_add(state), 1, 1]);
            self.graph.result(shape, &[queries, keys, part, old])
        } else {
            let mut sources = vec![inner];
            if recurrent.normed > 0 {
                let both = self.graph.result(self.rows(recurrent.normed.saturating_mul(3)), &[inner]);
                for _ in 0..2 {
                    let part = self.graph.view(both, [recurrent.normed, tokens, 1]);
                    sources.push(self.graph.result(self.rows(recurrent.normed), &[part]));
                }
            }
            let step = self.graph.result(self.rows(recurrent.inner), &[inner]);
            sources.push(self.graph.in_place(&[step]));
            let shape = Shape::f32([recurrent.inner.saturating_mul(tokens).saturating_add(state), 1, 1]);
            self.graph.result(shape, &sources)
        };
        let kept = self.graph.view(output, [state, 1, 1]);
        let kept = self.graph.sink(&[kept]);
        self.graph.expand(kept);
        let values = self.graph.view(output, [recurrent.inner, tokens, 1]);
        let skipped = self.graph.result(self.rows(recurrent.inner), &[inner]);
        let sum = self.graph.in_place(&[skipped, values]);
        let gate = self.graph.result(self.rows(recurrent.inner), &[gate]);
        let product = self.graph.result(self.rows(recurrent.inner), &[gate, sum]);
        self.graph.result(self.rows(self.network.hidden), &[product])
    }

    /// Linear attention with the decay between all tokens of a sequence in a micro-batch.
    fn linear(&mut self, recurrent: &Recurrent, all: Id) -> Id {
        let tokens = self.batch.tokens;
        let sequences = self.batch.sequences.max(1);
        let each = tokens / sequences;
        let square = Shape::f32([each, each, recurrent.quadratic.saturating_mul(sequences)]);
        let distances = match self.decays {
            Some(distances) => distances,
            None => self.graph.input(square),
        };
        self.decays = Some(distances);
        let activated = self.graph.in_place(&[all]);
        let part = self.graph.view(activated, [recurrent.inner, tokens, 1]);
        let queries = self.graph.result(self.rows(recurrent.inner), &[part]);
        let earlier = self.graph.result(self.rows(recurrent.inner), &[queries]);
        let scores = self.graph.result(square, &[part]);
        let decay = self.graph.result(square, &[distances]);
        let scores = self.graph.in_place(&[scores, decay]);
        let turned = self.graph.result(self.rows(recurrent.inner), &[part]);
        let mixed = self.graph.result(self.rows(recurrent.inner), &[turned, scores]);
        let sum = self.graph.in_place(&[earlier, mixed]);
        self.graph.expand(sum);
        self.graph.result(self.rows(self.network.hidden), &[sum, activated])
    }

    fn dense(&mut self, dense: Dense, input: Id) -> Id {
        let shape = self.rows(dense.width);
        let inner = match dense.gate {
            Gate::None => {
                let up = self.graph.result(shape, &[input]);
                self.graph.in_place(&[up])
            }
            Gate::Beside => {
                let gate = self.graph.result(shape, &[input]);
                let up = self.graph.result(shape, &[input]);
                self.graph.result(shape, &[gate, up])
            }
            Gate::Fused => {
                let both = self.graph.result(self.rows(dense.width.saturating_mul(2)), &[input]);
                self.graph.result(shape, &[both])
            }
        };
        self.graph.result(self.rows(self.network.hidden), &[inner])
    }

    fn feed(&mut self, feed: &Feed, input: Id) -> Id {
        match feed {
            Feed::None => input,
            Feed::Dense(dense) => self.dense(*dense, input),
            Feed::Experts { count, used, width, gated, merged, biased, latent, shared, beside } => {
                let tokens = self.batch.tokens;
                let logits = self.graph.result(self.rows(*count), &[input]);
                let probabilities = self.graph.in_place(&[logits]);
                let order = self.graph.result(self.rows(*count), &[probabilities]);
                let chosen = self.graph.view(order, [*used, tokens, 1]);
                let weights = self.graph.result(self.rows(*used), &[probabilities, chosen]);
                let weights = self.graph.in_place(&[weights]);
                self.graph.expand(weights);
                let entry = if *latent == self.network.hidden {
                    input
                } else {
                    self.graph.result(self.rows(*latent), &[input])
                };
                let entry = if self.network.quirks.weighted_inputs {
                    let repeated = self.graph.result(self.heads(*latent, *used), &[entry]);
                    self.graph.in_place(&[repeated, weights])
                } else {
                    entry
                };
                let shape = self.heads(*width, *used);
                let project = |builder: &mut Self, shape: Shape, from: Id| {
                    let result = builder.graph.result(shape, &[from, chosen]);
                    if *biased { builder.graph.in_place(&[result]) } else { result }
                };
                let inner = if *merged {
                    let both = project(self, self.heads(width.saturating_mul(2), *used), entry);
                    self.graph.result(shape, &[both])
                } else if *gated {
                    let gate = project(self, shape, entry);
                    let up = project(self, shape, entry);
                    self.graph.result(shape, &[gate, up])
                } else {
                    let up = project(self, shape, entry);
                    self.graph.in_place(&[up])
                };
                let down = project(self, self.heads(*latent, *used), inner);
                let weighted =
                    if self.network.quirks.weighted_inputs { down } else { self.graph.in_place(&[down, weights]) };
                self.graph.expand(weighted);
                let views: Vec<Id> =
                    (0..(*used).min(256)).map(|_| self.graph.view(weighted, [*latent, tokens, 1])).collect();
                for view in &views {
                    self.graph.expand(*view);
                }
                let mut sum = self.graph.result(self.rows(*latent), views.get(..2).unwrap_or(&views));
                self.graph.expand(sum);
                for view in views.iter().skip(2) {
                    sum = self.graph.in_place(&[sum, *view]);
                    self.graph.expand(sum);
                }
                if *latent != self.network.hidden {
                    sum = self.graph.result(self.rows(self.network.hidden), &[sum]);
                }
                for dense in [shared, beside].into_iter().flatten() {
                    let other = self.dense(*dense, input);
                    sum = self.graph.in_place(&[sum, other]);
                }
                sum
            }
        }
    }
}
