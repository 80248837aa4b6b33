//! llama.cpp: caches padded to 256 cells, windows with a cache of their own, states in single precision, and a compute
//! buffer that follows from the graph.
//!
//! Rules read from llama.cpp 0c1e570 (`src/llama-context.cpp`, `llama-kv-cache*.cpp`, `llama-memory-*.cpp`,
//! `llama-graph.cpp`); figures are those of its CPU backend unless devices are given.

use super::graph::{Batch, Network, Numbers, values};
use super::{CacheType, Estimate, Flash, Part, Placed, Request, Subject, Weight, refused};
use crate::cache::{Compressed, Layer, Reach, State, Store};
use crate::dtype::DType;
use crate::error::Result;
use crate::names::Role;

/// Caches are padded to so many cells.
const PADDING: u64 = 256;

/// What CUDA, ROCm and Vulkan take of a device before anything is allocated: an allowance, not a measurement.
const DEVICE_OVERHEAD: u64 = 400 << 20;
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
/// Architectures without flash attention.
const NO_FLASH: &[&str] = &["grok"];

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
            let Store::KeyValue { heads, key, value } = layer.store else { continue };
            for (kind, size) in [(keys, key), (values, value)] {
                let width = heads.saturating_mul(size);
                if kind.is_block() && width > 0 && !size.is_multiple_of(kind.dtype().block()) {
                    return Err(refused(
                        format!("a head of {size} numbers is not a whole number of {} blocks", kind.name()),
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
            Some(window) if !request.swa_full => window_cells(request, window, self.cells).min(self.cells),
            _ => self.cells,
        }
    }
}

/// Cells of a sliding window: the window of each sequence and one micro-batch.
fn window_cells(request: &Request, window: u64, cells: u64) -> u64 {
    let sequences = if request.kv_unified { request.parallel } else { 1 };
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
    state.recurrent.saturating_add(columns).saturating_mul(4)
}

/// Cache and state of one sequence in a layer that compresses what is older than its window: a cache for the window,
/// one for the groups, and the parts of an unfinished group with their scores in single precision. Each sequence has
/// its own, unified or not.
fn compressed_bytes(compressed: &Compressed, reach: Reach, request: &Request, layout: &Layout) -> (u64, u64) {
    let near = layout.cells_of(request, reach).saturating_mul(row(layout.keys, compressed.head));
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
    let most = layers.iter().map(values).max().unwrap_or(0);
    let each = layers.iter().map(|layer| layer_bytes(layer, request, &layout, most));
    Ok(Some(each.fold((0, 0), |sum, layer| (sum.0.saturating_add(layer.0), sum.1.saturating_add(layer.1)))))
}

/// The network of a subject, built once for many requests.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    network: Option<Network>,
}

impl Plan {
    pub(super) fn new(subject: &Subject) -> Self {
        let architecture = &subject.architecture;
        let layers = &architecture.cache.layers;
        let (Some(hidden), Some(vocab)) = (architecture.hidden_size, architecture.vocab_size) else {
            return Plan { network: None };
        };
        if layers.is_empty() {
            return Plan { network: None };
        }
        let family = subject.family.as_str();
        let numbers = Numbers {
            hidden,
            vocab,
            heads: architecture.attention.query_heads.unwrap_or(0),
            head_size: architecture.attention.head_dim.unwrap_or(0),
            experts_used: architecture.experts.as_ref().and_then(|experts| experts.active).unwrap_or(0),
            per_layer: subject.extra.per_layer,
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
            weighted_inputs: family == "llama4",
        };
        let shapes = subject.shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        Plan { network: Some(Network::new(shapes, layers, &numbers)) }
    }

    /// Bytes of the compute buffer; `None` where the network is not known.
    pub(super) fn compute(&self, subject: &Subject, request: &Request) -> Result<Option<u64>> {
        let layout = Layout::new(subject, request)?;
        let Some(network) = &self.network else { return Ok(None) };
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
        Ok(Some(network.buffer(&Batch {
            tokens,
            sequences: request.parallel.min(tokens),
            streams,
            outputs,
            cells: layout.cells,
            window_cells: window.map_or(layout.cells, |window| layout.cells_of(request, Reach::Sliding(window))),
            flash: layout.flash,
            key_element,
            rotates_keys: rotates(layout.keys) && !latent,
            rotates_values: rotates(layout.values) && !latent,
            single_keys: layout.keys == CacheType::F32,
            single_values: layout.values == CacheType::F32,
        })))
    }
}

/// What llama.cpp takes.
pub(super) fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    with_plan(subject, request, &Plan::new(subject))
}

/// The same with a network that was built before.
pub(super) fn with_plan(subject: &Subject, request: &Request, plan: &Plan) -> Result<Estimate> {
    let layout = Layout::new(subject, request)?;
    let kept = cache_bytes(subject, request)?;
    let compute = plan.compute(subject, request)?;
    let vocab = subject.architecture.vocab_size.unwrap_or(0);
    let output = vocab.saturating_mul(request.parallel).saturating_mul(4);
    let weights = subject.weight_bytes();
    let placement = Placement::new(subject, request, &layout);
    let repack = placement.copied;
    let overhead = HOST_OVERHEAD.saturating_add(DEVICE_OVERHEAD.saturating_mul(request.devices.len() as u64));
    let mut notes = Vec::new();
    if kept.is_none() {
        let why = subject.architecture.cache.unknown.clone();
        notes.push(format!("the cache is not known: {}", why.unwrap_or_else(|| "no layers are described".into())));
    }
    if compute.is_none() {
        notes.push("the compute buffer is not known: sizes of the layers are missing".into());
    }
    let copies = if request.devices.len() > 1 { 2 } else { 1 };
    let compute = compute.unwrap_or(0).saturating_mul(copies);
    let (cache, state) = kept.unzip();
    let state = state.unwrap_or(0);
    let estimate = Estimate {
        context: layout.cells / if request.kv_unified { request.parallel } else { 1 },
        weights,
        cache,
        per_token: cache.map(|_| per_token(subject, request, &layout)),
        state,
        compute,
        output,
        repack,
        overhead,
        parts: parts(subject, request, &layout, weights, cache, state, compute, output, repack, overhead),
        placed: placement.placed(subject, request, &layout, compute, output, overhead),
        notes,
    };
    Ok(estimate)
}

/// Bytes by which one sequence grows with the next token, windows that are full left out.
fn per_token(subject: &Subject, request: &Request, layout: &Layout) -> u64 {
    let layers = &subject.architecture.cache.layers;
    let most = layers.iter().map(values).max().unwrap_or(0);
    let growing = layers.iter().filter(|layer| layout.cells_of(request, layer.reach) >= layout.cells);
    growing.map(|layer| cell(layer, layout, most)).fold(0, u64::saturating_add)
}

#[allow(clippy::too_many_arguments, reason = "the terms of one sum")]
fn parts(
    subject: &Subject,
    request: &Request,
    layout: &Layout,
    weights: u64,
    cache: Option<u64>,
    state: u64,
    compute: u64,
    output: u64,
    repack: u64,
    overhead: u64,
) -> Vec<Part> {
    let mut parts =
        vec![Part { name: "weights", bytes: weights, exact: subject.measured, formula: subject.weights_formula() }];
    if let Some(cache) = cache {
        let formula = cache_formula(subject, request, layout);
        parts.push(Part { name: "cache", bytes: cache, exact: true, formula });
    }
    if state > 0 {
        let count = subject.architecture.cache.layers.iter().filter(|layer| layer.recurrent).count();
        let formula =
            format!("{count} recurrent layers × {} in F32, whatever the context", sequences(request.parallel));
        parts.push(Part { name: "state", bytes: state, exact: true, formula });
    }
    let tokens = request.ubatch.min(request.batch);
    let what = if layout.flash { "flash attention" } else { "with the matrix of scores" };
    let cpu = request.devices.is_empty();
    let formula = match cpu {
        true => format!("intermediate results of {tokens} tokens at once, {what}; within 10 % on the CPU"),
        false => {
            format!("intermediate results of {tokens} tokens at once, {what}; as on the CPU, other backends differ")
        }
    };
    parts.push(Part { name: "compute", bytes: compute, exact: false, formula });
    let vocab = subject.architecture.vocab_size.unwrap_or(0);
    let formula = format!("{} × {vocab} logits × 4 B", sequences(request.parallel));
    parts.push(Part { name: "output", bytes: output, exact: true, formula });
    if repack > 0 {
        let formula = match cpu {
            true => "block types that AVX2 processors re-pack, beside the mapped file".to_string(),
            false => "the tied embedding, once in main memory and once as output on the device".to_string(),
        };
        parts.push(Part { name: "copies", bytes: repack, exact: !cpu, formula });
    }
    let formula = match request.devices.len() {
        0 => "allowance for the process itself".to_string(),
        devices => format!("allowance: 150 MiB for the process, 400 MiB for the driver on each of {devices} devices"),
    };
    parts.push(Part { name: "overhead", bytes: overhead, exact: false, formula });
    parts
}

fn sequences(count: u64) -> String {
    if count == 1 { "1 sequence".to_string() } else { format!("{count} sequences") }
}

/// `10 full × 8192 + 52 sliding × 1536 cells × (2048 × 2 B + 2048 × 2 B)`.
fn cache_formula(subject: &Subject, request: &Request, layout: &Layout) -> String {
    let layers = &subject.architecture.cache.layers;
    let most = layers.iter().map(values).max().unwrap_or(0);
    let mut groups: Vec<(String, u64, u64, u64)> = Vec::new();
    for layer in layers {
        let bytes = cell(layer, layout, most);
        if bytes == 0 {
            continue;
        }
        let cells = layout.cells_of(request, layer.reach);
        let word = layer.word().to_string();
        match groups.iter_mut().find(|group| group.0 == word && group.2 == cells && group.3 == bytes) {
            Some(group) => group.1 += 1,
            None => groups.push((word, 1, cells, bytes)),
        }
    }
    if groups.is_empty() {
        return "no layer keeps past tokens".to_string();
    }
    let terms: Vec<String> = groups
        .iter()
        .map(|(word, count, cells, bytes)| format!("{count} {word} layers × {cells} cells × {bytes} B"))
        .collect();
    let sum = terms.join(" + ");
    match layout.streams {
        1 => sum,
        streams if terms.len() > 1 => format!("{streams} × ({sum})"),
        streams => format!("{streams} × {sum}"),
    }
}

/// Where the weights are.
struct Placement {
    /// For each layer its device; `None` is main memory.
    layers: Vec<Option<usize>>,
    /// Where the output is.
    output: Option<usize>,
    /// Bytes that are held twice.
    copied: u64,
}

impl Placement {
    fn new(subject: &Subject, request: &Request, layout: &Layout) -> Self {
        let count = subject.layer_count();
        let mut layers = vec![None; count];
        let mut output = None;
        let _ = layout;
        if !request.devices.is_empty() {
            // The last layers are offloaded first; the output counts as one more.
            let wanted = request.gpu_layers.unwrap_or(u64::MAX).min(count as u64 + 1);
            let first = (count as u64 + 1).saturating_sub(wanted);
            let capacity: u64 = request.devices.iter().map(|device| device.capacity).fold(0, u64::saturating_add);
            let mut shares = Vec::new();
            let mut sum = 0.0;
            for device in &request.devices {
                sum += device.capacity as f64 / capacity.max(1) as f64;
                shares.push(sum);
            }
            let device_of = |place: u64| {
                let share = (place - first) as f64 / wanted.max(1) as f64;
                shares.iter().position(|end| share < *end).unwrap_or(shares.len().saturating_sub(1))
            };
            for place in first..=count as u64 {
                let device = Some(device_of(place));
                match usize::try_from(place).ok().and_then(|place| layers.get_mut(place)) {
                    Some(layer) => *layer = device,
                    None => output = device,
                }
            }
        }
        let copied = match request.devices.is_empty() {
            true => {
                let blocks = subject.weights.iter().filter(|weight| repacked(weight)).map(|weight| weight.bytes);
                // Rows of a tied embedding are looked up in one copy and multiplied in another, re-packed one.
                let tied =
                    if subject.is_tied() { subject.embedding().filter(|weight| repackable(weight)) } else { None };
                blocks.sum::<u64>().saturating_add(tied.map_or(0, |weight| weight.bytes))
            }
            false if output.is_some() && subject.is_tied() => subject.embedding().map_or(0, |weight| weight.bytes),
            false => 0,
        };
        Placement { layers, output, copied }
    }

    fn placed(
        &self,
        subject: &Subject,
        request: &Request,
        layout: &Layout,
        compute: u64,
        output: u64,
        overhead: u64,
    ) -> Vec<Placed> {
        let mut used = vec![0u64; request.devices.len() + 1];
        let mut layers = vec![0u64; request.devices.len() + 1];
        let host = request.devices.len();
        let index = |device: Option<usize>| device.unwrap_or(host);
        let add = |used: &mut Vec<u64>, at: usize, bytes: u64| {
            if let Some(slot) = used.get_mut(at) {
                *slot = slot.saturating_add(bytes);
            }
        };
        for weight in &subject.weights {
            let place = weight.layer.and_then(|layer| self.layers.get(layer as usize).copied());
            let at = match (weight.role, place) {
                (Role::Experts, _) if request.cpu_moe => host,
                (_, Some(place)) => index(place),
                (Role::Embedding, None) => host,
                (_, None) => index(self.output),
            };
            add(&mut used, at, weight.bytes);
        }
        for device in &self.layers {
            add(&mut layers, index(*device), 1);
        }
        let table = &subject.architecture.cache.layers;
        let most = table.iter().map(values).max().unwrap_or(0);
        for (number, layer) in table.iter().enumerate() {
            let (cache, state) = layer_bytes(layer, request, layout, most);
            let place = self.layers.get(number).copied().flatten();
            add(&mut used, index(place), cache.saturating_add(state));
        }
        let tied = subject.is_tied() && self.output.is_some();
        if request.devices.is_empty() {
            add(&mut used, host, self.copied);
        } else if tied {
            add(&mut used, index(self.output), self.copied);
        }
        // Every device that has layers computes; main memory then keeps only what is handed over.
        let computing: Vec<usize> = (0..host).filter(|at| layers.get(*at).is_some_and(|count| *count > 0)).collect();
        match computing.as_slice() {
            [] => add(&mut used, host, compute),
            devices => {
                for device in devices {
                    add(&mut used, *device, compute / if request.devices.len() > 1 { 2 } else { 1 });
                }
                if layers.get(host).is_some_and(|count| *count > 0) || request.cpu_moe {
                    add(&mut used, host, compute);
                }
            }
        }
        add(&mut used, host, output);
        let device_overhead = if request.devices.is_empty() { 0 } else { DEVICE_OVERHEAD };
        for device in 0..host {
            add(&mut used, device, device_overhead);
        }
        add(&mut used, host, overhead.saturating_sub(device_overhead.saturating_mul(host as u64)));
        let rows = used.into_iter().zip(layers).enumerate();
        rows.map(|(at, (used, layers))| Placed { device: (at < host).then_some(at), used, layers }).collect()
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
        assert_eq!(window_cells(&request, 1024, 8192), 1536);
        request.parallel = 4;
        request.context = 2048;
        assert_eq!(window_cells(&request, 1024, 2048), 1536);
        request.kv_unified = true;
        assert_eq!(window_cells(&request, 1024, 8192), 4608);
    }
}
