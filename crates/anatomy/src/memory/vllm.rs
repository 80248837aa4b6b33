//! vLLM: one pool of blocks on each device, shared by all layers and all sequences.
//!
//! Rules read from vLLM's second engine (`v1/kv_cache_interface.py`, `v1/core/kv_cache_utils.py`, `mamba_utils.py`) as
//! of 2026, and checked against what its users' logs say (`tests/vllm.rs`). A layer asks for pages; a block is a page in each layer of a group. Layers of one
//! kind make one group. Models that mix kinds have groups of equally many layers, so that a block of any group takes
//! the same bytes: pages are made equal, and groups are filled up with layers that do not exist. What is left of
//! `gpu_memory_utilization` after weights and a trial run becomes the pool.

use std::collections::BTreeMap;

use super::{CacheType, Estimate, GIB, Part, Placed, Request, Subject, refused};
use crate::cache::{Layer, Reach, Store};
use crate::error::Result;
use crate::names::Role;
use crate::report::units;

/// Tokens of a block.
const BLOCK: u64 = 16;

/// Tokens of a block of latent attention, as FlashMLA wants it; beside recurrent layers a block is a multiple of it.
const LATENT_BLOCK: u64 = 64;

/// Bytes of a number in the 16-bit types.
const HALF: u64 = 2;

/// What a CUDA context and loaded kernels take of a device. Logs show a third to half a GiB.
const CONTEXT: u64 = GIB / 2;

/// What NCCL and the buffers of all-reduce take besides on each of several devices.
const TALK: u64 = GIB / 2;

/// What the captured CUDA graphs take. Logs show a third of a GiB to one.
const GRAPHS: u64 = GIB * 3 / 4;

/// Bytes that sampling takes for a logit: two copies in single precision, sorted ones, and their 8-byte places.
const SAMPLING: u64 = 24;

/// Tokens up to which latent attention expands the keys of earlier tokens at once.
const EXPANDED: u64 = 64 * 1024;

/// Which tokens of a sequence are in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    All,
    Sliding(u64),
    Chunked(u64),
    /// A state: one page, whatever the context.
    State,
}

/// What one layer keeps on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spec {
    need: Need,
    /// Bytes of one token, or of the state.
    token: u64,
    /// Tokens of a page.
    block: u64,
    /// Bytes of a page.
    page: u64,
}

impl Spec {
    fn new(need: Need, token: u64) -> Self {
        let block = if need == Need::State { 1 } else { BLOCK };
        Spec { need, token, block, page: block.saturating_mul(token) }
    }

    fn with_block(self, block: u64) -> Self {
        Spec { block, page: block.saturating_mul(self.token), ..self }
    }

    /// Pages of one sequence.
    fn pages(&self, tokens: u64, batch: u64) -> u64 {
        let block = self.block.max(1);
        match self.need {
            Need::All => tokens.div_ceil(block),
            // The window need not begin with a block.
            Need::Sliding(window) => {
                window.saturating_sub(1).saturating_add(batch).min(tokens).div_ceil(block).saturating_add(1)
            }
            Need::Chunked(chunk) => chunk.saturating_add(batch).min(tokens).div_ceil(block),
            Need::State => 1,
        }
    }

    /// Whether one more token of a sequence may take more.
    fn grows(&self, tokens: u64, batch: u64) -> bool {
        match self.need {
            Need::All => true,
            Need::Sliding(window) => tokens <= window.saturating_sub(1).saturating_add(batch),
            Need::Chunked(chunk) => tokens <= chunk.saturating_add(batch),
            Need::State => false,
        }
    }
}

/// The pool of blocks that vLLM makes on each device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Tokens of a block, the smallest where groups differ.
    pub block: u64,
    /// Bytes of a block on one device: a page in each layer of a group.
    pub block_bytes: u64,
    /// Groups of layers; each takes blocks of its own for a sequence.
    pub groups: u64,
    /// Layers that do not exist and still get pages.
    pub padding: u64,
    kinds: Vec<(Spec, u64)>,
    batch: u64,
}

impl Pool {
    /// Blocks that one sequence of so many tokens takes at most.
    pub fn blocks(&self, tokens: u64) -> u64 {
        let each = self.kinds.iter().map(|(spec, groups)| spec.pages(tokens, self.batch).saturating_mul(*groups));
        each.fold(0, u64::saturating_add)
    }

    /// Of these, blocks of recurrent layers.
    pub fn state_blocks(&self) -> u64 {
        self.kinds.iter().filter(|(spec, _)| spec.need == Need::State).map(|(_, groups)| *groups).sum()
    }

    /// Bytes on one device by which a sequence of so many tokens grows with one more.
    fn growth(&self, tokens: u64) -> u64 {
        let growing = self.kinds.iter().filter(|(spec, _)| spec.grows(tokens, self.batch));
        let each = growing.map(|(spec, groups)| self.block_bytes.saturating_mul(*groups).div_ceil(spec.block.max(1)));
        each.fold(0, u64::saturating_add)
    }

    /// Tokens of the longest sequence that so many blocks hold.
    pub fn longest(&self, blocks: u64, most: u64) -> u64 {
        let (mut fits, mut too_long) = (0, most.saturating_add(1));
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            if self.blocks(middle) <= blocks { fits = middle } else { too_long = middle }
        }
        fits
    }
}

/// Devices over which each layer is split, and those over which the layers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    tensor: u64,
    pipeline: u64,
}

impl Split {
    /// Heads must divide evenly among the devices of a layer; what is left over becomes stages.
    fn new(subject: &Subject, request: &Request) -> Self {
        let count = (request.devices.len() as u64).max(1);
        let heads = subject.architecture.attention.query_heads.filter(|heads| *heads > 0);
        let fits = |tensor: u64| count.is_multiple_of(tensor) && heads.is_none_or(|heads| heads.is_multiple_of(tensor));
        let tensor = (1..=count).rev().find(|tensor| fits(*tensor)).unwrap_or(1);
        Split { tensor, pipeline: count / tensor }
    }

    fn devices(self) -> u64 {
        self.tensor.saturating_mul(self.pipeline)
    }
}

/// Bytes of a cached number.
fn element(request: &Request) -> Result<u64> {
    let kind = match (request.key_type, request.value_type) {
        (None, None) => return Ok(HALF),
        (Some(keys), Some(values)) if keys == values => keys,
        _ => return Err(refused("vLLM keeps keys and values in one type", "set both with --kv-type")),
    };
    if kind.is_block() {
        return Err(refused(
            format!("vLLM keeps no cache in {}", kind.name()),
            "take bf16, f16 or fp8, or --runtime llama.cpp",
        ));
    }
    Ok(kind.dtype().block_bytes())
}

/// Whether a family keeps its recurrent state in single precision; others keep it in the type of the model.
fn keeps_f32(subject: &Subject) -> bool {
    let named = subject.architecture.model_type.as_deref().unwrap_or(&subject.family);
    let word = named.replace('-', "_");
    // Gated delta nets from Qwen 3.5 on and Nemotron say so in their configuration; KDA always does.
    ["qwen3_5", "qwen35", "qwen4", "kimi_linear", "kimi_k3", "bailing_moe_v3", "bailingmoe3", "glm5_next", "nemotron_h"]
        .iter()
        .any(|family| word.starts_with(family))
}

/// Bytes of the state of a recurrent layer on one device.
fn state_bytes(layer: &Layer, tensor: u64, single: bool) -> Option<u64> {
    let state = layer.state.filter(|_| layer.recurrent)?;
    let size = if single { 2 * HALF } else { HALF };
    let columns = state.kernel.saturating_sub(1);
    let recurrent = state.recurrent.div_ceil(tensor).saturating_mul(size);
    let convolved = state.channels.div_ceil(tensor).saturating_mul(columns).saturating_add(state.besides);
    Some(recurrent.saturating_add(convolved.saturating_mul(HALF)))
}

/// What a layer asks for on one device.
fn specs(layer: &Layer, size: u64, tensor: u64, single: bool) -> impl Iterator<Item = Spec> {
    let need = match layer.reach {
        Reach::All => Need::All,
        Reach::Sliding(window) => Need::Sliding(window),
        Reach::Chunked(chunk) => Need::Chunked(chunk),
    };
    let sparse = layer.indexer > 0;
    let (own, older) = match layer.store {
        Store::Nothing | Store::Shared | Store::Cross => (None, None),
        Store::KeyValue { heads, key, value } => {
            // At least one head on each device.
            let heads = if heads == 0 { 0 } else { (heads / tensor).max(1) };
            (Some(Spec::new(need, heads.saturating_mul(key.saturating_add(value)).saturating_mul(size))), None)
        }
        // The latent is the same for all heads, so every device keeps all of it.
        Store::Latent { rank, rotated } if sparse && size == 1 => {
            // Scales in single precision for 128 numbers each, and the rotated part in 16 bits.
            let scales = rank.div_ceil(128).saturating_mul(4);
            let token = rank.saturating_add(scales).saturating_add(rotated.saturating_mul(HALF));
            (Some(Spec::new(need, token)), None)
        }
        Store::Latent { rank, rotated } => {
            (Some(Spec::new(need, rank.saturating_add(rotated).saturating_mul(size))), None)
        }
        Store::Compressed(compressed) => {
            let window = Spec::new(need, compressed.head.saturating_mul(size));
            let growth = compressed.growth();
            (Some(window), (growth > 0).then(|| Spec::new(Need::All, growth.saturating_mul(size))))
        }
    };
    // Keys of an indexer are bytes with a scale in single precision for 128 of them.
    let indexer = sparse
        .then(|| Spec::new(Need::All, layer.indexer.saturating_add(layer.indexer.div_ceil(128).saturating_mul(4))));
    let state = state_bytes(layer, tensor, single).map(|bytes| Spec::new(Need::State, bytes));
    [own, older, indexer, state].into_iter().flatten().filter(|spec| spec.token > 0)
}

/// The pool of a model; `None` where it keeps nothing or where it is not known what.
///
/// # Errors
/// Where vLLM has no cache of the wanted type.
pub fn pool(subject: &Subject, request: &Request) -> Result<Option<Pool>> {
    let size = element(request)?;
    Ok(pool_of(subject, request, size, Split::new(subject, request)))
}

fn pool_of(subject: &Subject, request: &Request, size: u64, split: Split) -> Option<Pool> {
    let single = keeps_f32(subject);
    let layers = &subject.architecture.cache.layers;
    let mut kinds: BTreeMap<Spec, u64> = BTreeMap::new();
    for layer in layers {
        for spec in specs(layer, size, split.tensor, single) {
            *kinds.entry(spec).or_default() += 1;
        }
    }
    let latent = layers.iter().any(|layer| matches!(layer.store, Store::Latent { .. }));
    let sparse = layers.iter().any(|layer| layer.indexer > 0);
    let state = kinds.keys().filter(|spec| spec.need == Need::State).map(|spec| spec.page).max();
    let token = kinds.keys().filter(|spec| spec.need != Need::State).map(|spec| spec.token).max();
    // Pages of attention are made as large as a state, whose pages are filled up to theirs.
    let block = match (state, token) {
        (Some(state), Some(token)) => {
            let step = if latent { LATENT_BLOCK } else { BLOCK };
            state.div_ceil(step.saturating_mul(token)).saturating_mul(step)
        }
        _ if latent || sparse => LATENT_BLOCK,
        _ => BLOCK,
    };
    let mut sized: Vec<(Spec, u64)> = kinds
        .into_iter()
        .map(|(spec, count)| (if spec.need == Need::State { spec } else { spec.with_block(block) }, count))
        .collect();
    let (first, _) = *sized.first()?;
    // The stages of a pipeline hold their part of each group.
    let staged = |layers: u64| layers.div_ceil(split.pipeline);
    if sized.iter().all(|(spec, _)| spec.need == first.need) {
        let pages = sized.iter().map(|(spec, count)| spec.page.saturating_mul(staged(*count)));
        let block_bytes = pages.fold(0, u64::saturating_add);
        let kinds = vec![(first, 1)];
        return Some(Pool { block: first.block, block_bytes, groups: 1, padding: 0, kinds, batch: request.batch });
    }
    let page = sized.iter().map(|(spec, _)| spec.page).max()?;
    for (spec, _) in &mut sized {
        // Smaller pages hold more tokens; what does not divide is filled up.
        if spec.need != Need::State && spec.page > 0 && page.is_multiple_of(spec.page) {
            spec.block = spec.block.saturating_mul(page / spec.page);
        }
        spec.page = page;
    }
    let fewest = sized.iter().map(|(_, count)| *count).min()?;
    let most = sized.iter().map(|(_, count)| *count).max()?;
    // Not much more of one kind than of the other: one group for each.
    let layers_each = if most.saturating_mul(2) < fewest.saturating_mul(3) { most } else { fewest };
    let padding = sized.iter().map(|(_, count)| count.div_ceil(layers_each) * layers_each - count).sum();
    let kinds: Vec<(Spec, u64)> = sized.into_iter().map(|(spec, count)| (spec, count.div_ceil(layers_each))).collect();
    let attention = kinds.iter().filter(|(spec, _)| spec.need != Need::State);
    Some(Pool {
        block: attention.map(|(spec, _)| spec.block).min().unwrap_or(1),
        block_bytes: page.saturating_mul(staged(layers_each)),
        groups: kinds.iter().map(|(_, groups)| *groups).sum(),
        padding,
        kinds,
        batch: request.batch,
    })
}

/// Bytes of the weights on the fullest device.
fn weights_on_device(subject: &Subject, split: Split) -> u64 {
    let heads = subject.architecture.attention.kv_heads.unwrap_or(split.tensor).max(1);
    let (mut whole, mut cut) = (0u64, 0u64);
    for weight in &subject.weights {
        let vector = weight.shape.iter().filter(|size| **size > 1).count() < 2;
        // The first of two projections with a low rank is small, and every device has it.
        let lowered = ["q_a_proj", "kv_a_proj", "attn_q_a", "attn_kv_a"].iter().any(|part| weight.name.contains(part));
        let values = ["k_proj.weight", "v_proj.weight", "attn_k.weight", "attn_v.weight"]
            .iter()
            .any(|end| weight.name.ends_with(end));
        if vector || lowered || matches!(weight.role, Role::Norm | Role::Router | Role::Adapter) {
            whole = whole.saturating_add(weight.bytes);
        } else if values && weight.role == Role::Attention {
            cut = cut.saturating_add(weight.bytes.div_ceil(heads.min(split.tensor)).saturating_mul(split.tensor));
        } else {
            cut = cut.saturating_add(weight.bytes);
        }
    }
    whole.saturating_add(cut.div_ceil(split.tensor)).div_ceil(split.pipeline)
}

/// Numbers that the widest layer computes for one token of a batch on one device, and the widest attention alone.
fn widest(subject: &Subject, tensor: u64) -> (u64, u64) {
    let architecture = &subject.architecture;
    let hidden = architecture.hidden_size.unwrap_or(0);
    let inner = architecture.feed_forward.intermediate_size.unwrap_or(0).div_ceil(tensor);
    // Gate and up together, and their product.
    let dense = inner.saturating_mul(3);
    let experts = architecture.experts.as_ref().map_or(0, |experts| {
        let inner = experts.intermediate_size.unwrap_or(0).div_ceil(tensor);
        // The two products of an expert share one buffer, as large as the larger needs.
        let each = inner.saturating_mul(2).max(hidden).saturating_add(inner);
        experts.active.unwrap_or(1).saturating_mul(each)
    });
    let expanded = architecture.cache.layers.iter().map(|layer| layer.uncompressed).max().unwrap_or(0);
    let attention = expanded.div_ceil(tensor);
    // The residual, its norm, and a result.
    (dense.max(experts).max(attention.saturating_mul(2)).saturating_add(hidden.saturating_mul(3)), attention)
}

/// What vLLM's trial run reaches beyond the weights, on one device: a batch, or sampling for all sequences.
fn trial(subject: &Subject, request: &Request, split: Split) -> (u64, String) {
    let (wide, attention) = widest(subject, split.tensor);
    let latents = subject.architecture.cache.layers.iter().filter_map(|layer| match layer.store {
        Store::Latent { rank, rotated } => Some(rank.saturating_add(rotated)),
        _ => None,
    });
    // Keys and values of earlier tokens of latent attention, as they are expanded for the next part of a prompt.
    let earlier = latents.max().map_or(0, |latent| {
        let pages = request.parallel.saturating_mul(4 * BLOCK);
        let tokens = request.context.saturating_mul(8).max(pages).min(EXPANDED);
        tokens.saturating_mul(latent.saturating_add(attention)).saturating_mul(HALF)
    });
    let batch = wide.saturating_mul(request.batch).saturating_mul(HALF).saturating_add(earlier);
    let vocab = subject.architecture.vocab_size.unwrap_or(0);
    let sampling = vocab.saturating_mul(request.parallel).saturating_mul(SAMPLING);
    if batch >= sampling {
        let besides = if earlier > 0 { format!(" + {earlier} B of expanded keys and values") } else { String::new() };
        (batch, format!("{} tokens × {wide} numbers of the widest layer × 2 B{besides}", request.batch))
    } else {
        (sampling, format!("{} × {vocab} logits × {SAMPLING} B while sampling", sequences(request)))
    }
}

fn sequences(request: &Request) -> String {
    units::count(request.parallel, "sequence", "sequences")
}

/// What vLLM takes.
pub(super) fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    let size = element(request)?;
    let split = Split::new(subject, request);
    let devices = split.devices();
    let architecture = &subject.architecture;
    let pool = pool_of(subject, request, size, split);
    let known = !architecture.cache.layers.is_empty();
    let over = if devices > 1 { format!(" × {devices} devices") } else { String::new() };

    let weights = subject.weight_bytes();
    let on_device = weights_on_device(subject, split);
    let repack = on_device.saturating_mul(devices).saturating_sub(weights);
    // What comes of rounding is no copy.
    let (repack, rounding) = if repack < devices { (0, repack) } else { (repack, 0) };
    let mut parts =
        vec![Part { name: "weights", bytes: weights, exact: subject.measured, formula: subject.weights_formula() }];
    if repack > 0 {
        let formula = format!("what each of {devices} devices has for itself: norms, routers, shared projections");
        parts.push(Part { name: "copies", bytes: repack, exact: false, formula });
    }
    let compressed = architecture.cache.layers.iter().any(|layer| matches!(layer.store, Store::Compressed(_)));
    let (mut cache, mut state) = (known.then_some(0), 0);
    if let Some(pool) = &pool {
        let all = devices.saturating_mul(request.parallel).saturating_mul(pool.block_bytes);
        let states = pool.state_blocks();
        let blocks = pool.blocks(request.context) - states;
        cache = Some(blocks.saturating_mul(all));
        state = states.saturating_mul(all);
        if blocks > 0 {
            let kind = request.key_type.map_or("16 bits", CacheType::name);
            let formula = format!(
                "{} × {blocks} blocks of {} tokens in {kind} × {} B{over}",
                sequences(request),
                pool.block,
                pool.block_bytes
            );
            parts.push(Part { name: "cache", bytes: blocks.saturating_mul(all), exact: !compressed, formula });
        }
        if states > 0 {
            let formula = format!("{} × {states} blocks × {} B{over}", sequences(request), pool.block_bytes);
            parts.push(Part { name: "state", bytes: state, exact: true, formula });
        }
    }
    let (compute, formula) = trial(subject, request, split);
    parts.push(Part {
        name: "compute",
        bytes: compute.saturating_mul(devices),
        exact: false,
        formula: format!("{formula}{over}"),
    });
    let vocab = architecture.vocab_size.unwrap_or(0);
    let output = vocab.saturating_mul(request.parallel).saturating_mul(4);
    let formula = format!("{} × {vocab} logits × 4 B{over}", sequences(request));
    parts.push(Part { name: "output", bytes: output.saturating_mul(devices), exact: false, formula });
    let context = if devices > 1 { CONTEXT + TALK } else { CONTEXT };
    let formula = format!("allowance for CUDA{}{over}", if devices > 1 { " and NCCL" } else { "" });
    parts.push(Part { name: "context", bytes: context.saturating_mul(devices), exact: false, formula });
    let formula = format!("allowance for captured CUDA graphs{over}");
    parts.push(Part { name: "graphs", bytes: GRAPHS.saturating_mul(devices), exact: false, formula });

    let fixed = [on_device, compute, output, context, GRAPHS].into_iter().fold(0, u64::saturating_add);
    let kept = cache.unwrap_or(0).saturating_add(state) / devices;
    let used = fixed.saturating_add(kept);
    let layers = (subject.layer_count() as u64).div_ceil(split.pipeline);
    let mut placed: Vec<Placed> = if request.devices.is_empty() {
        vec![Placed { device: None, used, layers }]
    } else {
        (0..request.devices.len()).map(|index| Placed { device: Some(index), used, layers }).collect()
    };
    if let Some(last) = placed.last_mut() {
        last.used = last.used.saturating_sub(rounding);
    }
    let rounded = pool.as_ref().filter(|pool| pool.kinds.iter().any(|(spec, _)| spec.need == Need::All));
    let notes = notes(subject, request, split, pool.as_ref(), fixed);
    Ok(Estimate {
        context: rounded
            .and_then(|pool| request.context.checked_next_multiple_of(pool.block))
            .unwrap_or(request.context),
        weights,
        cache,
        per_token: known.then(|| pool.as_ref().map_or(0, |pool| pool.growth(request.context).saturating_mul(devices))),
        state,
        compute: compute.saturating_mul(devices),
        output: output.saturating_mul(devices),
        repack,
        overhead: context.saturating_add(GRAPHS).saturating_mul(devices),
        parts,
        placed,
        notes,
    })
}

fn notes(subject: &Subject, request: &Request, split: Split, pool: Option<&Pool>, fixed: u64) -> Vec<String> {
    let cache = &subject.architecture.cache;
    let mut notes = vec![
        "an estimate: pages of the cache follow vLLM's rules, the rest was not measured on a GPU and errs high"
            .to_string(),
    ];
    if let (true, Some(why)) = (cache.layers.is_empty(), &cache.unknown) {
        notes.push(format!("the cache is not known: {why}"));
    }
    if split.pipeline > 1 {
        notes.push(format!(
            "the heads do not divide among {} devices: each layer is split over {}, and the layers over {} stages",
            split.devices(),
            split.tensor,
            split.pipeline
        ));
    }
    if cache.layers.iter().any(|layer| layer.encoder || layer.store == Store::Cross) {
        notes.push("keys and values of an encoder's output are not counted".to_string());
    }
    if cache.layers.iter().any(|layer| layer.recurrent && layer.state.is_none()) {
        notes.push("the size of the recurrent states is not known: they are not counted".to_string());
    }
    let Some(pool) = pool else { return notes };
    if pool.padding > 0 {
        notes.push(format!(
            "groups of layers are filled up with {}, which take pages as well",
            units::count(pool.padding, "layer", "layers")
        ));
    }
    if pool
        .kinds
        .iter()
        .any(|(spec, _)| matches!(spec.need, Need::Sliding(_)) && !spec.grows(request.context, pool.batch))
    {
        notes.push(format!(
            "where vLLM schedules a batch ahead, windows keep up to {} more tokens of each sequence",
            request.batch
        ));
    }
    let Some(least) = request.devices.iter().map(|device| device.capacity).min() else { return notes };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
    let budget = (least as f64 * request.utilization) as u64;
    let left = budget.saturating_sub(fixed);
    let blocks = left.checked_div(pool.block_bytes).unwrap_or(0);
    let each = pool.blocks(request.context).max(1);
    let (total, room) = (units::bytes(least), units::bytes(left));
    let share = format!("{} of {total} leave {room} of each device for the cache", request.utilization);
    let sequences = blocks as f64 / each as f64;
    if blocks >= each {
        let tokens = u128::from(blocks) * u128::from(request.context) / u128::from(each);
        let tokens = units::thousands(u64::try_from(tokens).unwrap_or(u64::MAX));
        notes.push(format!("{share}: {tokens} tokens, {sequences:.2} sequences of {} tokens", request.context));
    } else {
        let longest = pool.longest(blocks, request.context);
        notes.push(format!(
            "{share}: too little for a sequence of {} tokens, which vLLM would refuse; {longest} would fit",
            request.context
        ));
    }
    notes
}
