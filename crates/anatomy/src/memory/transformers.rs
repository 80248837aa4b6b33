//! The transformers library: caches that grow with each token, in the element type of the model.
//!
//! Rules read from transformers 5.23 (`cache_utils.py` and the classes' own caches): a sliding layer keeps one token
//! less than its window once that is full, a convolution keeps as many columns as its kernel spans.

use super::{CacheType, Estimate, Part, Placed, Request, Subject, refused};
use crate::cache::{Layer, Store};
use crate::error::Result;

/// What a CUDA context, its libraries and PyTorch's allocator take of a device. An allowance that errs high.
const OVERHEAD: u64 = 1 << 30;

/// Numbers of keys and values of one sequence, numbers of its state, and 8-byte integers beside them.
fn numbers(layer: &Layer, tokens: u64) -> (u64, u64, u64) {
    let kept = match layer.reach.window() {
        Some(window) => tokens.min(window.saturating_sub(1)),
        None => tokens,
    };
    let cache = match layer.store {
        Store::Compressed(compressed) => compressed.numbers(tokens, kept),
        _ => layer.per_token().saturating_mul(kept).saturating_add(layer.indexer.saturating_mul(tokens - kept)),
    };
    let state = layer.state.filter(|_| layer.recurrent).map_or(0, |state| {
        let columns = state.channels.saturating_mul(state.kernel);
        state.recurrent.saturating_add(columns).saturating_add(state.besides)
    });
    let integers = layer.state.filter(|_| layer.recurrent).map_or(0, |state| state.integers);
    (cache, state, integers.saturating_add(layer.positions.saturating_mul(tokens)))
}

fn element(kind: CacheType) -> Result<u64> {
    if kind.is_block() {
        return Err(refused(
            format!("transformers keeps no cache in {}", kind.name()),
            "take f16, bf16, f32 or fp8, or --runtime llama.cpp",
        ));
    }
    Ok(kind.dtype().block_bytes())
}

/// Bytes of caches and states over all sequences; `None` where it is not known what the layers keep.
pub(super) fn cache_bytes(subject: &Subject, request: &Request, tokens: u64) -> Result<Option<(u64, u64)>> {
    let layers = &subject.architecture.cache.layers;
    let size = match (request.key_type, request.value_type) {
        (None, None) => subject.dtype.block_bytes(),
        (Some(keys), Some(values)) if keys == values => element(keys)?,
        _ => {
            return Err(refused("transformers keeps keys and values in one type", "set both with --kv-type"));
        }
    };
    if layers.is_empty() {
        return Ok(None);
    }
    let tokens = tokens.saturating_add(subject.architecture.cache.prompt);
    // xLSTM keeps one offset for all layers.
    let offset = if subject.architecture.model_type.as_deref() == Some("xlstm") { 8u64 } else { 0 };
    let mut sum = (0u64, offset);
    for layer in layers {
        let (cache, state, integers) = numbers(layer, tokens);
        let cache = cache.saturating_mul(size).saturating_add(layer.positions.saturating_mul(tokens).saturating_mul(8));
        let integers = integers.saturating_sub(layer.positions.saturating_mul(tokens)).saturating_mul(8);
        sum.0 = sum.0.saturating_add(cache);
        sum.1 = sum.1.saturating_add(state.saturating_mul(subject.dtype.block_bytes())).saturating_add(integers);
    }
    Ok(Some((sum.0.saturating_mul(request.parallel), sum.1.saturating_mul(request.parallel))))
}

/// Numbers that the widest layer computes for one token.
fn widest(subject: &Subject) -> u64 {
    let architecture = &subject.architecture;
    let hidden = architecture.hidden_size.unwrap_or(0);
    let experts = architecture
        .experts
        .as_ref()
        .map_or(0, |experts| experts.intermediate_size.unwrap_or(0).saturating_mul(experts.active.unwrap_or(1)));
    let wide = architecture.feed_forward.intermediate_size.unwrap_or(0).max(experts);
    // Residual, norm, and gate, up and product of the feed-forward network.
    hidden.saturating_mul(3).saturating_add(wide.saturating_mul(3))
}

/// `52 sliding layers × 1023 tokens × 8192 B + 10 full layers × 131072 tokens × 8192 B`.
fn cache_formula(subject: &Subject, request: &Request) -> String {
    let cache = &subject.architecture.cache;
    let size = request.key_type.map_or(subject.dtype, CacheType::dtype).block_bytes();
    let tokens = request.context.saturating_add(cache.prompt);
    let mut groups: Vec<(&'static str, u64, String)> = Vec::new();
    for layer in &cache.layers {
        let (numbers, _, _) = numbers(layer, tokens);
        let each =
            numbers.saturating_mul(size).saturating_add(layer.positions.saturating_mul(tokens).saturating_mul(8));
        let per_token = layer.per_token().saturating_mul(size);
        let what = match each.checked_div(per_token) {
            _ if each == 0 => continue,
            Some(kept) if kept.checked_mul(per_token) == Some(each) => format!("{kept} tokens × {per_token} B"),
            _ => format!("{each} B"),
        };
        let word = layer.word();
        match groups.iter_mut().find(|group| group.0 == word && group.2 == what) {
            Some(group) => group.1 += 1,
            None => groups.push((word, 1, what)),
        }
    }
    let terms: Vec<String> =
        groups.iter().map(|(word, count, what)| format!("{count} {word} layers × {what}")).collect();
    let sum = terms.join(" + ");
    match request.parallel {
        1 => sum,
        sequences if terms.len() > 1 => format!("{sequences} × ({sum})"),
        sequences => format!("{sequences} × {sum}"),
    }
}

/// What transformers takes.
pub(super) fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    let kept = cache_bytes(subject, request, request.context)?;
    let before = cache_bytes(subject, request, request.context.saturating_sub(1))?;
    let per_token = kept.zip(before).map(|(now, before)| (now.0 - before.0.min(now.0)) / request.parallel);
    let (cache, state) = kept.unzip();
    let state = state.unwrap_or(0);
    let size = subject.dtype.block_bytes();
    let weights = subject.weight_bytes();
    let tokens = request.context.saturating_mul(request.parallel);
    // Intermediate results of the widest layer while a prompt is read, which grows with the prompt.
    let compute = widest(subject).saturating_mul(tokens).saturating_mul(size);
    let vocab = subject.architecture.vocab_size.unwrap_or(0);
    let output = vocab.saturating_mul(request.parallel).saturating_mul(4);
    let mut parts =
        vec![Part { name: "weights", bytes: weights, exact: subject.measured, formula: subject.weights_formula() }];
    if let Some(cache) = cache.filter(|cache| *cache > 0) {
        parts.push(Part { name: "cache", bytes: cache, exact: true, formula: cache_formula(subject, request) });
    }
    if state > 0 {
        let recurrent = subject.architecture.cache.layers.iter().filter(|layer| layer.recurrent).count();
        let formula = format!("{recurrent} recurrent layers in {}, whatever the context", subject.dtype.name());
        parts.push(Part { name: "state", bytes: state, exact: true, formula });
    }
    let formula =
        format!("{tokens} tokens of a prompt at once × {} numbers of the widest layer × {size} B", widest(subject));
    parts.push(Part { name: "compute", bytes: compute, exact: false, formula });
    let formula = format!("{vocab} logits × 4 B for each sequence");
    parts.push(Part { name: "output", bytes: output, exact: true, formula });
    let formula = match request.devices.is_empty() {
        true => "allowance for Python, PyTorch and its libraries".to_string(),
        false => "allowance for CUDA, its libraries and PyTorch".to_string(),
    };
    parts.push(Part { name: "overhead", bytes: OVERHEAD, exact: false, formula });
    let mut estimate = Estimate {
        context: request.context,
        weights,
        cache,
        per_token,
        state,
        compute,
        output,
        repack: 0,
        overhead: OVERHEAD,
        parts,
        placed: Vec::new(),
        notes: Vec::new(),
    };
    if let (None, Some(why)) = (cache, &subject.architecture.cache.unknown) {
        estimate.notes.push(format!("the cache is not known: {why}"));
    }
    estimate.placed = spread(subject, request, estimate.total());
    Ok(estimate)
}

/// Everything on the devices, in proportion to their memory; in main memory where there are none.
pub(super) fn spread(subject: &Subject, request: &Request, total: u64) -> Vec<Placed> {
    let layers = subject.layer_count() as u64;
    if request.devices.is_empty() {
        return vec![Placed { device: None, used: total, layers }];
    }
    let capacity: u64 = request.devices.iter().map(|device| device.capacity).fold(0, u64::saturating_add);
    let share = |amount: u64, device: u64| {
        let part = u128::from(amount) * u128::from(device) / u128::from(capacity.max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let devices = request.devices.iter().enumerate();
    let mut placed: Vec<Placed> = devices
        .map(|(index, device)| Placed {
            device: Some(index),
            used: share(total, device.capacity),
            layers: share(layers, device.capacity),
        })
        .collect();
    let (used, counted) = placed.iter().fold((0, 0), |sum, one| (sum.0 + one.used, sum.1 + one.layers));
    if let Some(last) = placed.last_mut() {
        last.used = last.used.saturating_add(total.saturating_sub(used));
        last.layers = last.layers.saturating_add(layers.saturating_sub(counted));
    }
    placed
}
