//! What sharing keys and values between query heads saves, in parameters and in the cache.

use serde::Serialize;

use crate::architecture::{Architecture, Witness};
use crate::cache::Store;
use crate::names::{Role, Stack};

/// A model beside itself with a key and a value for every query head.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sharing {
    /// Learned numbers that make keys and values.
    pub parameters: Option<u64>,
    /// The same with a key and a value for every query head.
    pub parameters_full: Option<u64>,
    /// Numbers in the cache for each token, over all layers that keep one, whatever their window.
    pub cache_per_token: u64,
    /// The same with a key and a value for every query head.
    pub cache_per_token_full: u64,
    /// Layers that keep a latent in place of keys and values.
    pub latent_layers: usize,
}

/// Compares; `None` where no layer keeps keys and values, or where heads are not known.
pub fn explain(architecture: &Architecture, tensors: &[Witness]) -> Option<Sharing> {
    let layers = &architecture.cache.layers;
    let sum = |number: &dyn Fn(&crate::cache::Layer) -> u64| layers.iter().map(number).fold(0, u64::saturating_add);
    let (kept, full) = (sum(&|layer| layer.per_token()), sum(&|layer| layer.uncompressed));
    if full == 0 {
        return None;
    }
    let latent_layers = layers.iter().filter(|layer| matches!(layer.store, Store::Latent { .. })).count();
    let mut sharing =
        Sharing { cache_per_token: kept, cache_per_token_full: full, latent_layers, ..Sharing::default() };
    // Matrices for keys and values alone show their cost; fused ones do not.
    let (queries, keys) = (architecture.attention.query_heads?, architecture.attention.kv_heads?);
    let made: Vec<u64> = tensors
        .iter()
        .filter(|(_, _, part)| {
            part.role == Role::Attention && part.stack == Stack::Main && matches!(part.component, "key" | "value")
        })
        .map(|(_, shape, _)| crate::tensor::elements(shape))
        .collect();
    if latent_layers == 0 && !made.is_empty() && keys > 0 {
        let own = made.iter().copied().fold(0, u64::saturating_add);
        sharing.parameters = Some(own);
        // Every head's share of the matrices is the same size.
        sharing.parameters_full = (own.is_multiple_of(keys)).then(|| (own / keys).saturating_mul(queries));
    }
    Some(sharing)
}
