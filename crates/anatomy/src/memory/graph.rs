//! The largest tensors of a computation, as llama.cpp lays it out for one micro-batch.
//!
//! A [`Network`] says what each layer multiplies, read off the names and shapes of a model's tensors; [`buffer`] builds
//! the graph of a micro-batch from it and asks the [allocator](super::allocator) how much it needs. What is smaller
//! than a row of activations is left out. Steps and their order: llama.cpp, `src/llama-graph.cpp` and `src/models`.

mod attention;
mod blocks;
mod feed;
mod recurrent;
mod rwkv;
mod waves;

use foldhash::HashMapExt;

pub(super) use blocks::Numbers;
use blocks::{Block, Feed, Mixer, Shapes};
use waves::Waves;

use super::allocator::{Graph, Id, Shape};
use crate::cache::{Layer, Store};

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
}
