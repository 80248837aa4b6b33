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
    // A latent is made and expanded; a key and a value for every head would each come from the whole width.
    let made_of = |components: &[&str]| -> Vec<u64> {
        let made = tensors.iter().filter(|(_, _, part)| {
            part.role == Role::Attention && part.stack == Stack::Main && components.contains(&part.component)
        });
        made.map(|(_, shape, _)| crate::tensor::elements(shape)).collect()
    };
    if latent_layers > 0 {
        let made = made_of(&["kv_latent_down", "kv_latent_up", "key_latent_up", "value_latent_up"]);
        let width = architecture.hidden_size.filter(|_| !made.is_empty() && latent_layers == attending(layers));
        sharing.parameters = width.map(|_| made.iter().copied().fold(0, u64::saturating_add));
        sharing.parameters_full = width.and_then(|width| width.checked_mul(full));
        return Some(sharing);
    }
    // Matrices for keys and values alone show their cost; fused ones do not.
    let (queries, keys) = (architecture.attention.query_heads?, architecture.attention.kv_heads?);
    let made = made_of(&["key", "value"]);
    if !made.is_empty() && keys > 0 {
        let own = made.iter().copied().fold(0, u64::saturating_add);
        sharing.parameters = Some(own);
        // Every head's share of the matrices is the same size.
        sharing.parameters_full = (own.is_multiple_of(keys)).then(|| (own / keys).saturating_mul(queries));
    }
    Some(sharing)
}

/// Layers that keep keys and values or a latent.
fn attending(layers: &[crate::cache::Layer]) -> usize {
    layers.iter().filter(|layer| layer.uncompressed > 0).count()
}
