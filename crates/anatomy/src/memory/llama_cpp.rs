//! llama.cpp: caches padded to 256 cells, windows with a cache of their own, states in single precision, and a compute
//! buffer that follows from the graph.
//!
//! Rules read from llama.cpp 0c1e570 (`src/llama-context.cpp`, `llama-kv-cache*.cpp`, `llama-memory-*.cpp`,
//! `llama-graph.cpp`); figures are those of its CPU backend unless devices are given.

use super::graph::{Batch, Network, Numbers, Quirks, values};
use super::{CacheType, Estimate, Flash, Part, Placed, Request, Subject, Weight, refused};
use std::sync::{Arc, Mutex};

use foldhash::HashMap;

use crate::cache::{Compressed, Layer, Reach, State, Store};
use crate::dtype::DType;
use crate::error::Result;
use crate::names::Role;

/// Caches are padded to so many cells.
const PADDING: u64 = 256;

/// What CUDA, ROCm and Vulkan take of a device before anything is allocated: an allowance, not a measurement.
const DEVICE_OVERHEAD: u64 = 512 << 20;
/// What the process itself takes of main memory: code, vocabulary, graphs. An allowance.
const HOST_OVERHEAD: u64 = 150 << 20;

/// Architectures that choose the tokens whose logits are asked for after their last layer (`src/models`).
#[rustfmt::skip]
const LATE_OUTPUTS: &[&str] = &[
    "bailingmoe3", "cohere2moe", "deepseek4", "gemma4", "glm5-next", "gpt-oss", "hrm_text", "hy_v3", "hy_v4", "kimi-k3",
    "mimo2", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next", "step35",
];
/// Those of them that do not hand out the last layer's result for next-token prediction.
const NOT_KEPT: &[&str] = &["deepseek4", "hrm_text", "hy_v4", "kimi-k3"];
/// Architectures whose norms take the mean away (`LLM_NORM` in `src/models`).
#[rustfmt::skip]
const CENTRED: &[&str] = &[
    "bert", "bloom", "codeshell", "cohere2", "command-r", "dbrx", "falcon", "gpt2", "gptneox", "jais", "jais2",
    "jina-bert-v2", "jina-bert-v3", "modern-bert", "mpt", "nemotron", "nomic-bert", "nomic-bert-moe", "olmo", "orion",
    "phi2", "rwkv6", "rwkv7", "stablelm", "starcoder", "starcoder2", "wavtokenizer-dec",
];
/// Architectures that do not rotate queries and keys.
const STILL: &[&str] =
    &["bert", "bloom", "gpt2", "jais", "jamba", "jina-bert-v2", "mpt", "refact", "starcoder", "t5", "t5encoder"];
/// Architectures whose residual is written over by the sum after the feed-forward network.
const RESIDUAL_FIRST: &[&str] = &["jamba", "phi3", "phimoe"];
/// Encoders that llama.cpp makes a cache for, and then does not use it.
const UNUSED_CACHE: &[&str] = &["llama-embed", "t5encoder"];
/// Architectures without flash attention.
const NO_FLASH: &[&str] = &["grok"];

/// Architectures with parts that the graph leaves out (compressed groups, indexers of several sequences): their buffer
/// is taken a sixth larger, which the most wrong of llama.cpp's own logs asks for.
const ROUGH: &[&str] = &["deepseek4", "glm5-next", "kimi-k3", "minimax-m3", "muse-glimmer", "plamo2"];

/// How llama.cpp lays out the cache for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Cells for one sequence (for all of them in a unified cache).
    cells: u64,
    /// Caches beside each other.
    streams: u64,
    keys: CacheType,
    values: CacheType,
    flash: bool,
}

impl Layout {
    fn new(subject: &Subject, request: &Request) -> Result<Self> {
        let keys = request.key_type.unwrap_or(CacheType::F16);
        let values = request.value_type.unwrap_or(CacheType::F16);
        for kind in [keys, values] {
            if kind == CacheType::Fp8 {
                return Err(refused(
                    "llama.cpp has no fp8 cache",
                    "take q8_0, which is as small, or --runtime vllm, which has fp8",
                ));
            }
        }
        let flash = request.flash != Flash::Off && !NO_FLASH.contains(&subject.family.as_str());
        let layers = &subject.architecture.cache.layers;
        let latent = layers.iter().any(|layer| matches!(layer.store, Store::Latent { .. }));
        if latent && keys != values {
            return Err(refused(
                format!(
                    "latent attention keeps one row for keys and values, so their types must agree: {} and {}",
                    keys.name(),
                    values.name()
                ),
                "set both with --kv-type",
            ));
        }
        // Quantised values cannot be turned round, which attention without flash does.
        if values.is_block() && !flash && !latent {
            return Err(refused(
                format!("values in {} need flash attention", values.name()),
                "leave --flash-attn on, or take f16 for --cache-type-v",
            ));
        }
        for layer in layers {
            // Flash attention reads heads one by one; without it a row of all heads must come out even.
            let (heads, (key, value)) = (if flash { 1 } else { kv_heads(layer) }, head(layer));
            for (kind, size) in [(keys, key.saturating_mul(heads)), (values, value.saturating_mul(heads))] {
                if kind.is_block() && !size.is_multiple_of(kind.dtype().block()) {
                    return Err(refused(
                        format!("{size} numbers of a head are not a whole number of {} blocks", kind.name()),
                        "take f16 or bf16 for the cache",
                    ));
                }
            }
        }
        let total = request.context.saturating_mul(if request.kv_unified { request.parallel } else { 1 });
        let cells = total.min(u64::MAX / 2).next_multiple_of(PADDING);
        Ok(Layout { cells, streams: if request.kv_unified { 1 } else { request.parallel }, keys, values, flash })
    }

    fn cells_of(&self, request: &Request, reach: Reach) -> u64 {
        match reach.window() {
            Some(window) if !request.swa_full => {
                let sequences = if request.kv_unified { request.parallel } else { 1 };
                window_cells(request, window, sequences, self.cells).min(self.cells)
            }
            _ => self.cells,
        }
    }
}

/// Cells of a sliding window: the window of so many sequences and one micro-batch.
fn window_cells(request: &Request, window: u64, sequences: u64, cells: u64) -> u64 {
    let ubatch = request.ubatch.min(request.batch).min(total_cells(request));
    let wanted = window.saturating_mul(sequences).saturating_add(ubatch);
    wanted.min(cells).min(u64::MAX / 2).next_multiple_of(PADDING)
}

/// Cells over all sequences.
fn total_cells(request: &Request) -> u64 {
    let total = if request.kv_unified { request.context.saturating_mul(request.parallel) } else { request.context };
    let padded = total.min(u64::MAX / 2).next_multiple_of(PADDING);
    if request.kv_unified { padded } else { padded.saturating_mul(request.parallel) }
}

/// Numbers in a key and a value of one head of a layer, even of one that keeps none: llama.cpp asks all of them.
fn head(layer: &Layer) -> (u64, u64) {
    match (layer.head, layer.store) {
        ((0, 0), Store::KeyValue { key, value, .. }) => (key, value),
        ((0, 0), Store::Latent { rank, rotated }) => (rank.saturating_add(rotated), rank),
        (stated, _) => stated,
    }
}

fn kv_heads(layer: &Layer) -> u64 {
    match layer.store {
        Store::KeyValue { heads, .. } => heads,
        _ => 1,
    }
}

/// Numbers of the widest values: transposed, those of all layers are as wide.
fn widest_values(subject: &Subject) -> u64 {
    let cache = &subject.architecture.cache;
    cache.layers.iter().map(values).max().unwrap_or(0).max(cache.widest_values)
}

/// Bytes of a row of numbers.
fn row(kind: CacheType, numbers: u64) -> u64 {
    kind.dtype().bytes(numbers).unwrap_or(u64::MAX)
}

/// Bytes of one cell of a layer.
fn cell(layer: &Layer, layout: &Layout, most_values: u64) -> u64 {
    let own = match layer.store {
        Store::KeyValue { heads, key, value } => {
            // Turned round, the values of all layers are as wide as the widest.
            let values = if layout.flash { heads.saturating_mul(value) } else { most_values };
            row(layout.keys, heads.saturating_mul(key)).saturating_add(row(layout.values, values))
        }
        Store::Latent { rank, rotated } => row(layout.keys, rank.saturating_add(rotated)),
        Store::Compressed(compressed) => row(layout.keys, compressed.growth()),
        Store::Nothing | Store::Shared | Store::Cross => 0,
    };
    let indexer = if layer.indexer > 0 { row(layout.keys, layer.indexer) } else { 0 };
    // The indexer of attention with heads stores values that nobody reads.
    let unread = match layer.store {
        Store::KeyValue { value, .. } if layer.indexer > 0 && layer.indexer_values => row(layout.values, value),
        _ => 0,
    };
    own.saturating_add(indexer).saturating_add(unread)
}

/// Bytes of one sequence's state in a layer: single precision, the last column of a convolution left out.
fn state_bytes(state: &State) -> u64 {
    let columns = state.kernel.saturating_sub(1).saturating_mul(state.channels);
    state.recurrent.saturating_add(columns).saturating_add(state.besides).saturating_mul(4)
}

/// Cache and state of one sequence in a layer that compresses what is older than its window: a cache for the window,
/// one for the groups, and the parts of an unfinished group with their scores in single precision. Each sequence has
/// its own, unified or not.
fn compressed_bytes(compressed: &Compressed, reach: Reach, request: &Request, layout: &Layout) -> (u64, u64) {
    // Cells for one sequence, even where a unified cache has room for all.
    let near = match reach.window() {
        Some(window) if !request.swa_full => window_cells(request, window, 1, layout.cells).min(layout.cells),
        _ => layout.cells,
    };
    let near = near.saturating_mul(row(layout.keys, compressed.head));
    if compressed.rate == 0 {
        return (near, 0);
    }
    let groups = layout.cells.div_ceil(compressed.rate).max(1).next_multiple_of(PADDING);
    let indexer = if compressed.indexer > 0 { row(layout.keys, compressed.indexer) } else { 0 };
    let cache = groups.saturating_mul(row(layout.keys, compressed.head).saturating_add(indexer));
    let twice = if compressed.overlap { 2 } else { 1 };
    let width = compressed.head.saturating_add(compressed.indexer).saturating_mul(twice);
    let state = width.saturating_mul(compressed.rate).saturating_mul(twice).saturating_mul(2 * 4);
    (near.saturating_add(cache), state)
}

/// Cache and state of one layer.
fn layer_bytes(layer: &Layer, request: &Request, layout: &Layout, most_values: u64) -> (u64, u64) {
    if let Store::Compressed(compressed) = layer.store {
        let (cache, state) = compressed_bytes(&compressed, layer.reach, request, layout);
        return (cache.saturating_mul(request.parallel), state.saturating_mul(request.parallel));
    }
    let cells = layout.cells_of(request, layer.reach).saturating_mul(layout.streams);
    let cache = cell(layer, layout, most_values).saturating_mul(cells);
    let state = layer.state.as_ref().filter(|_| layer.recurrent).map_or(0, state_bytes);
    (cache, state.saturating_mul(request.parallel))
}

/// Bytes of the cache and of the state over all layers; `None` where it is not known what the layers keep.
pub(super) fn cache_bytes(subject: &Subject, request: &Request) -> Result<Option<(u64, u64)>> {
    let layout = Layout::new(subject, request)?;
    let layers = &subject.architecture.cache.layers;
    if layers.is_empty() {
        return Ok(None);
    }
    let most = widest_values(subject);
    let each = layers.iter().map(|layer| layer_bytes(layer, request, &layout, most));
    Ok(Some(each.fold((0, 0), |sum, layer| (sum.0.saturating_add(layer.0), sum.1.saturating_add(layer.1)))))
}

/// The network, and the buffers that were computed already: types of caches and of weights often share one.
#[derive(Debug)]
struct Graphs {
    network: Option<Network>,
    buffers: Mutex<HashMap<Batch, u64>>,
}

/// What is computed once for many requests: the network, and the weights by layer.
#[derive(Debug)]
pub(super) struct Plan {
    graph: Arc<Graphs>,
    /// For each layer its bytes without experts, and those of its experts.
    layers: Vec<(u64, u64)>,
    /// Bytes that stay in main memory: the embedding.
    embedding: u64,
    /// Bytes of what follows the last layer.
    rest: u64,
    /// Bytes that AVX2 processors re-pack.
    repacked: u64,
    /// Bytes of the embedding where it is also the output.
    tied: u64,
    weights: u64,
}

impl Plan {
    pub(super) fn new(subject: &Subject) -> Self {
        Plan::with(Arc::new(Graphs { network: network(subject), buffers: Mutex::default() }), subject)
    }

    /// For the same model with weights in other types, which computes the same.
    pub(super) fn again(&self, subject: &Subject) -> Self {
        Plan::with(Arc::clone(&self.graph), subject)
    }

    fn with(graph: Arc<Graphs>, subject: &Subject) -> Self {
        let mut plan = Plan {
            graph,
            layers: vec![(0, 0); subject.layer_count()],
            embedding: 0,
            rest: 0,
            repacked: 0,
            tied: 0,
            weights: subject.weight_bytes(),
        };
        for weight in &subject.weights {
            let layer = weight.layer.and_then(|layer| plan.layers.get_mut(layer as usize));
            let sum = match (weight.role, layer) {
                (Role::Experts, Some(layer)) => &mut layer.1,
                (_, Some(layer)) => &mut layer.0,
                (Role::Embedding, None) => &mut plan.embedding,
                (_, None) => &mut plan.rest,
            };
            *sum = sum.saturating_add(weight.bytes);
            if repacked(weight) {
                plan.repacked = plan.repacked.saturating_add(weight.bytes);
            }
        }
        if let Some(embedding) = subject.embedding().filter(|_| subject.is_tied()) {
            plan.tied = embedding.bytes;
            // Rows are looked up in one copy and multiplied in another, re-packed one.
            if repackable(embedding) {
                plan.repacked = plan.repacked.saturating_add(embedding.bytes);
            }
        }
        plan
    }

    /// Bytes of the compute buffer; `None` where the network is not known.
    pub(super) fn compute(&self, subject: &Subject, request: &Request) -> Result<Option<u64>> {
        let layout = Layout::new(subject, request)?;
        let Some(network) = &self.graph.network else { return Ok(None) };
        let cacheless =
            subject.architecture.cache.layers.iter().all(|layer| layer.store == Store::Nothing && !layer.recurrent);
        let total = total_cells(request);
        // A causal model takes no more tokens at once than its context holds.
        let batch = request.batch.min(total);
        let tokens = request.ubatch.min(batch).next_multiple_of(request.parallel.max(1));
        let window = subject.architecture.cache.layers.iter().filter_map(|layer| layer.reach.window()).max();
        let key_element = layout.keys.dtype().bytes(1).unwrap_or(4).min(4);
        let head = subject.architecture.attention.head_dim.unwrap_or(0);
        let rotates = |kind: CacheType| kind.is_block() && head.is_multiple_of(64);
        let latent = subject.architecture.cache.layers.iter().any(|layer| matches!(layer.store, Store::Latent { .. }));
        let outputs = if cacheless { tokens } else { tokens.min(batch) };
        let streams = layout.streams.min(tokens).max(1);
        let batch = Batch {
            tokens,
            sequences: request.parallel.min(tokens),
            streams,
            outputs,
            cells: layout.cells,
            window_cells: window.map_or(layout.cells, |window| layout.cells_of(request, Reach::Sliding(window))),
            flash: layout.flash,
            // Only the matrix of scores asks for turned keys.
            key_element: if layout.flash { 0 } else { key_element },
            rotates_keys: rotates(layout.keys) && !latent,
            rotates_values: rotates(layout.values) && !latent,
            single_keys: layout.keys == CacheType::F32,
            single_values: layout.values == CacheType::F32,
        };
        let known = self.graph.buffers.lock().ok().and_then(|known| known.get(&batch).copied());
        if let Some(bytes) = known {
            return Ok(Some(bytes));
        }
        let bytes = network.buffer(&batch);
        let rough = ROUGH.contains(&subject.family.as_str());
        let bytes = if rough { bytes.saturating_add(bytes / 6) } else { bytes };
        if let Ok(mut known) = self.graph.buffers.lock() {
            known.insert(batch, bytes);
        }
        Ok(Some(bytes))
    }
}

/// What is multiplied; `None` where sizes are missing.
fn network(subject: &Subject) -> Option<Network> {
    let architecture = &subject.architecture;
    let mut layers = architecture.cache.layers.clone();
    if UNUSED_CACHE.contains(&subject.family.as_str()) {
        for layer in &mut layers {
            layer.store = Store::Nothing;
        }
    }
    let (Some(hidden), Some(vocab)) = (architecture.hidden_size, architecture.vocab_size) else {
        return None;
    };
    if layers.is_empty() {
        return None;
    }
    let family = subject.family.as_str();
    let numbers = Numbers {
        hidden,
        vocab,
        heads: architecture.attention.query_heads.unwrap_or(0),
        head_size: architecture.attention.head_dim.unwrap_or(0),
        experts_used: architecture.experts.as_ref().and_then(|experts| experts.active).unwrap_or(0),
        residual_streams: subject.extra.residual_streams,
        deepstack: subject.extra.deepstack,
        value_size: subject.extra.value_size,
        indexer_heads: subject.extra.indexer_heads,
        indexer_size: subject.extra.indexer_size,
        late_outputs: LATE_OUTPUTS.contains(&family),
        keeps_last: LATE_OUTPUTS.contains(&family) && !NOT_KEPT.contains(&family),
        top_k: subject.extra.top_k,
        indexed: layers.iter().any(|layer| layer.indexer > 0),
        pooled: subject.extra.pooled > 0,
        rate: if family == "qwen4exp" { subject.extra.rate } else { 0 },
        quirks: Quirks {
            weighted_inputs: family == "llama4",
            centred: CENTRED.contains(&family),
            still: STILL.contains(&family),
            residual_first: RESIDUAL_FIRST.contains(&family),
            masked_logits: family == "chameleon",
            cycles: family == "hrm_text",
            biased_scores: matches!(family, "t5" | "t5encoder"),
            encoded: if family == "t5" { architecture.context_length.unwrap_or(0) } else { 0 },
        },
    };
    let shapes = subject.plan.iter().map(|weight| (weight.name.as_str(), weight.shape.as_slice()));
    Some(Network::new(shapes, &layers, &numbers))
}

/// What llama.cpp takes.
pub(super) fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    let layout = Layout::new(subject, request)?;
    let mut estimate = with_plan(subject, request, &Plan::new(subject))?;
    estimate.parts = parts(subject, request, &layout, &estimate);
    if estimate.cache.is_none() {
        let why = subject.architecture.cache.unknown.clone();
        let why = why.unwrap_or_else(|| "no layers are described".into());
        estimate.notes.push(format!("the cache is not known: {why}"));
    }
    if estimate.compute == 0 {
        estimate.notes.push("the compute buffer is not known: sizes of the layers are missing".into());
    }
    if !subject.family.is_empty() && subject.plan.is_empty() {
        estimate.notes.push("the tensors of this family are not known to llama.cpp by name".into());
    }
    Ok(estimate)
}

/// The same without words, with what was computed before.
pub(super) fn with_plan(subject: &Subject, request: &Request, plan: &Plan) -> Result<Estimate> {
    let mut estimate = sums(subject, request, plan)?;
    let layout = Layout::new(subject, request)?;
    estimate.placed = Placement::new(plan, request).placed(subject, request, &layout, plan, &estimate);
    Ok(estimate)
}

/// The terms alone, without what each device holds.
pub(super) fn sums(subject: &Subject, request: &Request, plan: &Plan) -> Result<Estimate> {
    let layout = Layout::new(subject, request)?;
    let kept = cache_bytes(subject, request)?;
    // Several devices work on different micro-batches at once, each with its own buffer.
    let copies = if request.devices.len() > 1 { 2 } else { 1 };
    let compute = plan.compute(subject, request)?.unwrap_or(0).saturating_mul(copies);
    let vocab = subject.architecture.vocab_size.unwrap_or(0);
    let (cache, state) = kept.unzip();
    Ok(Estimate {
        context: layout.cells / if request.kv_unified { request.parallel } else { 1 },
        weights: plan.weights,
        cache,
        per_token: cache.map(|_| per_token(subject, request, &layout)),
        state: state.unwrap_or(0),
        compute,
        output: vocab.saturating_mul(request.parallel).saturating_mul(4),
        repack: Placement::new(plan, request).copied,
        overhead: HOST_OVERHEAD.saturating_add(DEVICE_OVERHEAD.saturating_mul(request.devices.len() as u64)),
        parts: Vec::new(),
        placed: Vec::new(),
        notes: Vec::new(),
    })
}

/// Bytes by which one sequence grows with the next token, windows that are full left out.
fn per_token(subject: &Subject, request: &Request, layout: &Layout) -> u64 {
    let layers = &subject.architecture.cache.layers;
    let most = widest_values(subject);
    let grows = |layer: &&Layer| {
        matches!(layer.store, Store::Compressed(_)) || layout.cells_of(request, layer.reach) >= layout.cells
    };
    layers.iter().filter(grows).map(|layer| cell(layer, layout, most)).fold(0, u64::saturating_add)
}

fn parts(subject: &Subject, request: &Request, layout: &Layout, estimate: &Estimate) -> Vec<Part> {
    let cpu = request.devices.is_empty();
    let weights = subject.weights_formula();
    let mut parts = vec![Part { name: "weights", bytes: estimate.weights, exact: subject.measured, formula: weights }];
    let mut add = |name, bytes: u64, exact, formula: String| {
        if bytes > 0 {
            parts.push(Part { name, bytes, exact, formula });
        }
    };
    add("cache", estimate.cache.unwrap_or(0), true, cache_formula(subject, request, layout));
    let recurrent = subject.architecture.cache.layers.iter().filter(|layer| layer.recurrent).count();
    let formula = match recurrent {
        0 => "unfinished groups of past tokens, in F32".to_string(),
        count => format!("{count} recurrent layers × {} in F32, whatever the context", sequences(request.parallel)),
    };
    add("state", estimate.state, true, formula);
    let tokens = request.ubatch.min(request.batch).min(total_cells(request));
    let what = if layout.flash { "flash attention" } else { "with the matrix of scores" };
    let how = if cpu { "as the CPU backend lays them out" } else { "as on the CPU; other backends differ" };
    let vocab = subject.architecture.vocab_size.unwrap_or(0);
    let logits = tokens.saturating_mul(vocab).saturating_mul(4);
    // Logits of all tokens are asked for at most, and live with the result of the last layer.
    let largest = match logits <= estimate.compute && logits > 0 {
        true => format!(", of it {tokens} × {vocab} logits × 4 B"),
        false => String::new(),
    };
    let more =
        if ROUGH.contains(&subject.family.as_str()) { "; a sixth more for parts that are not modelled" } else { "" };
    add("compute", estimate.compute, false, format!("{tokens} tokens at once{largest}; {what}, {how}{more}"));
    add("output", estimate.output, true, format!("{} × {vocab} logits × 4 B", sequences(request.parallel)));
    let formula = match cpu {
        true => "blocks re-packed for AVX2, beside the mapped file, whose pages the system may then drop".to_string(),
        false => "the tied embedding again, as output on the device".to_string(),
    };
    add("copies", estimate.repack, !cpu, formula);
    let formula = match request.devices.len() {
        0 => "allowance for the process itself".to_string(),
        1 => "allowance: 150 MiB for the process, 512 MiB for driver and context on the device".to_string(),
        count => {
            format!("allowance: 150 MiB for the process, 512 MiB for driver and context on each of {count} devices")
        }
    };
    add("overhead", estimate.overhead, false, formula);
    parts
}

fn sequences(count: u64) -> String {
    if count == 1 { "1 sequence".to_string() } else { format!("{count} sequences") }
}

/// `10 full layers × 8192 cells × 8192 B + 52 sliding layers × 1536 cells × 8192 B`.
fn cache_formula(subject: &Subject, request: &Request, layout: &Layout) -> String {
    let layers = &subject.architecture.cache.layers;
    let most = widest_values(subject);
    let mut groups: Vec<(&'static str, u64, u64, u64)> = Vec::new();
    for layer in layers {
        let bytes = match layer.store {
            Store::Compressed(compressed) => {
                // Cells of the window and of the groups differ: shown together.
                compressed_bytes(&compressed, layer.reach, request, layout).0
            }
            _ => cell(layer, layout, most),
        };
        if bytes == 0 {
            continue;
        }
        let compressed = matches!(layer.store, Store::Compressed(_));
        let cells = if compressed { 1 } else { layout.cells_of(request, layer.reach) };
        let word = layer.word();
        match groups.iter_mut().find(|group| group.0 == word && group.2 == cells && group.3 == bytes) {
            Some(group) => group.1 += 1,
            None => groups.push((word, 1, cells, bytes)),
        }
    }
    if groups.is_empty() {
        return "no layer keeps past tokens".to_string();
    }
    let term = |(word, count, cells, bytes): &(&str, u64, u64, u64)| match cells {
        1 => format!("{count} {word} layers × {bytes} B"),
        _ => format!("{count} {word} layers × {cells} cells × {bytes} B"),
    };
    let terms: Vec<String> = groups.iter().map(term).collect();
    let sum = terms.join(" + ");
    match layout.streams {
        1 => sum,
        streams if terms.len() > 1 => format!("{streams} × ({sum})"),
        streams => format!("{streams} × {sum}"),
    }
}

/// Where the layers are.
struct Placement {
    /// For each layer its device; `None` is main memory.
    layers: Vec<Option<usize>>,
    /// Where the output is.
    output: Option<usize>,
    /// Bytes that are held twice.
    copied: u64,
}

impl Placement {
    fn new(plan: &Plan, request: &Request) -> Self {
        let count = plan.layers.len();
        let mut layers = vec![None; count];
        let mut output = None;
        if !request.devices.is_empty() {
            // The last layers are offloaded first; the output counts as one more.
            let wanted = request.gpu_layers.unwrap_or(u64::MAX).min(count as u64 + 1);
            let first = (count as u64 + 1).saturating_sub(wanted);
            let capacity: u64 = request.devices.iter().map(|device| device.capacity).fold(0, u64::saturating_add);
            let mut sum = 0.0;
            let ends: Vec<f64> = request
                .devices
                .iter()
                .map(|device| {
                    sum += device.capacity as f64 / capacity.max(1) as f64;
                    sum
                })
                .collect();
            for place in first..=count as u64 {
                let share = (place - first) as f64 / wanted.max(1) as f64;
                let last = ends.len().saturating_sub(1);
                let device = ends.iter().position(|end| share < *end).unwrap_or(last);
                match usize::try_from(place).ok().and_then(|place| layers.get_mut(place)) {
                    Some(layer) => *layer = Some(device),
                    None => output = Some(device),
                }
            }
        }
        let copied = match (request.devices.is_empty(), output) {
            (true, _) => plan.repacked,
            (false, Some(_)) => plan.tied,
            (false, None) => 0,
        };
        Placement { layers, output, copied }
    }

    fn placed(
        &self,
        subject: &Subject,
        request: &Request,
        layout: &Layout,
        plan: &Plan,
        estimate: &Estimate,
    ) -> Vec<Placed> {
        let host = request.devices.len();
        let mut placed: Vec<Placed> =
            (0..=host).map(|at| Placed { device: (at < host).then_some(at), used: 0, layers: 0 }).collect();
        let mut add = |device: Option<usize>, bytes: u64, layers: u64| {
            if let Some(place) = placed.get_mut(device.unwrap_or(host)) {
                place.used = place.used.saturating_add(bytes);
                place.layers += layers;
            }
        };
        let table = &subject.architecture.cache.layers;
        let most = widest_values(subject);
        let mut used = vec![false; host + 1];
        for (number, (device, (rest, experts))) in self.layers.iter().zip(&plan.layers).enumerate() {
            let kept = table.get(number).map_or((0, 0), |layer| layer_bytes(layer, request, layout, most));
            add(*device, rest.saturating_add(kept.0).saturating_add(kept.1), 1);
            add(if request.cpu_moe { None } else { *device }, *experts, 0);
            if let Some(flag) = used.get_mut(device.unwrap_or(host)) {
                *flag = true;
            }
        }
        add(None, plan.embedding, 0);
        add(self.output, plan.rest, 0);
        match self.output {
            // On the processor the mapped pages of what was re-packed can be dropped; the copy takes their place.
            None if host == 0 => {}
            output => add(output, self.copied, 0),
        }
        // Whoever has layers computes.
        let each = estimate.compute / if host > 1 { 2 } else { 1 };
        let on_host = request.cpu_moe || host == 0 || used.get(host).copied().unwrap_or(false);
        for device in 0..host {
            if used.get(device).copied().unwrap_or(false) || self.output == Some(device) {
                add(Some(device), if host > 1 { each.saturating_mul(2) } else { each }, 0);
            }
            add(Some(device), DEVICE_OVERHEAD, 0);
        }
        if on_host {
            add(None, each, 0);
        }
        add(None, estimate.output.saturating_add(HOST_OVERHEAD), 0);
        placed
    }
}

/// Whether llama.cpp re-packs a tensor on a processor with AVX2 (`ggml/src/ggml-cpu/repack.cpp`). Rows of an embedding
/// are looked up, which a re-packed tensor cannot do.
fn repacked(weight: &Weight) -> bool {
    weight.role != Role::Embedding && repackable(weight)
}

fn repackable(weight: &Weight) -> bool {
    let kind = matches!(weight.dtype, DType::Q4_0 | DType::Q4_K | DType::Q2_K | DType::IQ4_NL | DType::MXFP4);
    let rows = weight.shape.len().checked_sub(2).and_then(|index| weight.shape.get(index));
    kind && rows.is_some_and(|rows| rows.is_multiple_of(8)) && !weight.name.ends_with(".bias")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Runtime;

    #[test]
    fn windows_hold_each_sequence_and_a_batch() {
        // Gemma 3 with a window of 1024, as llama.cpp's log has it.
        let mut request = Request::new(Runtime::LlamaCpp, 8192);
        assert_eq!(window_cells(&request, 1024, 1, 8192), 1536);
        request.parallel = 4;
        request.context = 2048;
        assert_eq!(window_cells(&request, 1024, 1, 2048), 1536);
        request.kv_unified = true;
        assert_eq!(window_cells(&request, 1024, 4, 8192), 4608);
    }
}
