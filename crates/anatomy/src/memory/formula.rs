//! Parameters × bytes + cache + one to two GiB, as textbooks have it.
//!
//! The cache is that of every layer at full length, without a runtime's rounding; what it leaves out shows beside the
//! others.

use super::{CacheType, Estimate, GIB, Part, Request, Subject};
use crate::error::Result;
use crate::memory::transformers::spread;

/// The middle of "one to two GiB".
const OVERHEAD: u64 = GIB + GIB / 2;

/// The textbook's sum.
pub(super) fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    let layers = &subject.architecture.cache.layers;
    let size = |kind: Option<CacheType>| kind.map_or(subject.dtype, CacheType::dtype);
    let (keys, values) = (size(request.key_type), size(request.value_type));
    let tokens = request.context.saturating_mul(request.parallel);
    let bits = |dtype: crate::dtype::DType| dtype.bits();
    let average = (bits(keys) + bits(values)) / 16.0;
    let per_layer: u64 = layers.iter().map(crate::cache::Layer::per_token).fold(0, u64::saturating_add);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
    let per_token = (per_layer as f64 * average).ceil() as u64;
    let cache = (!layers.is_empty()).then(|| per_token.saturating_mul(tokens));
    let state = layers.iter().filter(|layer| layer.recurrent).filter_map(|layer| layer.state);
    let state = state
        .map(|state| state.recurrent.saturating_add(state.channels.saturating_mul(state.kernel)))
        .fold(0, u64::saturating_add);
    let state = state.saturating_mul(subject.dtype.block_bytes()).saturating_mul(request.parallel);
    let weights = subject.weight_bytes();
    let mut parts =
        vec![Part { name: "weights", bytes: weights, exact: subject.measured, formula: subject.weights_formula() }];
    if let Some(cache) = cache {
        let formula = format!("{per_token} B per token × {tokens} tokens, windows not honoured");
        parts.push(Part { name: "cache", bytes: cache, exact: false, formula });
    }
    if state > 0 {
        let formula = "recurrent and convolution states".to_string();
        parts.push(Part { name: "state", bytes: state, exact: false, formula });
    }
    let formula = "1 to 2 GiB by rule of thumb".to_string();
    parts.push(Part { name: "overhead", bytes: OVERHEAD, exact: false, formula });
    let mut estimate = Estimate {
        context: request.context,
        weights,
        cache,
        per_token: cache.map(|_| per_token),
        state,
        compute: 0,
        output: 0,
        repack: 0,
        overhead: OVERHEAD,
        parts,
        placed: Vec::new(),
        notes: Vec::new(),
    };
    estimate.placed = spread(subject, request, estimate.total());
    Ok(estimate)
}
