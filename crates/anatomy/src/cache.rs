//! What each layer keeps of past tokens: the table from which every memory figure follows.
//!
//! Computed once, from a configuration or from GGUF metadata. Runtimes allocate differently over the same table, so
//! it counts numbers, not bytes, and knows nothing of padding or paging.

mod config;
mod gguf;

use serde::Serialize;

use crate::architecture::Architecture;

pub(crate) use config::table as from_config;
pub(crate) use gguf::table as from_gguf;

/// Layers beyond this are not tabulated: no model has them, and a hostile configuration may declare 10^18.
const MAX_LAYERS: u64 = 1 << 16;

/// Tokens of a group where an indexer chooses among groups (DeepSeek-V4).
const SPARSE_RATE: u64 = 4;

/// Bytes of one cached number, in the 16-bit types that runtimes use by default.
const BYTES: u64 = 2;

/// Which past tokens a layer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    All,
    /// The last so many.
    Sliding(u64),
    /// Those of the current chunk of so many.
    Chunked(u64),
}

impl Reach {
    /// The most tokens that are kept, where there is a bound.
    pub fn window(self) -> Option<u64> {
        match self {
            Reach::All => None,
            Reach::Sliding(tokens) | Reach::Chunked(tokens) => Some(tokens),
        }
    }
}

/// What a layer keeps of each token within its reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Nothing: no attention, or an encoder that sees all of its input at once.
    Nothing,
    /// A key and a value for each head.
    KeyValue {
        /// Heads of keys and values.
        heads: u64,
        /// Numbers in a key of one head.
        key: u64,
        /// Numbers in a value of one head.
        value: u64,
    },
    /// One compressed vector for all heads (multi-head latent attention), and the rotated part of the key.
    Latent {
        /// Numbers in the compressed vector.
        rank: u64,
        /// Numbers in the rotated part.
        rotated: u64,
    },
    /// Nothing of its own: it reads what an earlier layer keeps.
    Shared,
    /// Keys and values of another sequence (image, encoder), whose length does not follow the text.
    Cross,
    /// One vector for the tokens of a window, and one for each group of older ones (DeepSeek-V4).
    Compressed(Compressed),
}

/// Past tokens in groups, each compressed into one vector that is key and value at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compressed {
    /// Numbers in a vector.
    pub head: u64,
    /// Numbers in the key of the indexer of a group; 0 where there is none.
    pub indexer: u64,
    /// Tokens of a group; 0 where older tokens are not kept at all.
    pub rate: u64,
    /// Whether neighbouring groups overlap, so that the last group's parts are kept for the next.
    pub overlap: bool,
}

impl Compressed {
    /// Numbers that one more token adds on average, rounded up.
    pub fn growth(&self) -> u64 {
        if self.rate == 0 { 0 } else { self.head.saturating_add(self.indexer).div_ceil(self.rate) }
    }

    /// Numbers that are kept after so many tokens, `near` of which are still kept one by one (transformers 5.23,
    /// `models/deepseek_v4`): the groups, the parts of an unfinished one with their gates, and those of the last one.
    pub fn numbers(&self, tokens: u64, near: u64) -> u64 {
        if self.rate == 0 {
            return near.saturating_mul(self.head);
        }
        let rate = self.rate.max(1);
        let width = self.head.saturating_add(self.indexer);
        let twice = if self.overlap { 2 } else { 1 };
        let groups = (tokens / rate).saturating_mul(width);
        let open = (tokens % rate).saturating_mul(2 * twice).saturating_mul(width);
        let last = if self.overlap && tokens >= rate { rate.saturating_mul(2).saturating_mul(width) } else { 0 };
        near.saturating_mul(self.head).saturating_add(groups).saturating_add(open).saturating_add(last)
    }
}

/// What does not grow with the context: numbers of one sequence in one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Numbers in the recurrent state.
    pub recurrent: u64,
    /// Channels of the short convolution before it.
    pub channels: u64,
    /// Tokens that the convolution spans; runtimes keep this many columns, or one fewer.
    pub kernel: u64,
    /// Numbers of further convolutions and shifts, all their columns.
    pub besides: u64,
    /// Whole numbers of 8 bytes beside them, such as the last tokens.
    pub integers: u64,
}

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Which past tokens.
    pub reach: Reach,
    /// What of each.
    pub store: Store,
    /// Further numbers per token: the keys of a sparse-attention indexer.
    pub indexer: u64,
    /// Whether llama.cpp stores values beside the indexer's keys, though nobody reads them (MiniMax-M3).
    pub indexer_values: bool,
    /// Whole numbers of 8 bytes per token: positions that the first indexer keeps for all.
    pub positions: u64,
    /// Whether the layer also, or only, carries a state of fixed size.
    pub recurrent: bool,
    /// That state, where its size is known.
    pub state: Option<State>,
    /// Whether it also attends to an encoder's output, which is cached once.
    pub encoder: bool,
    /// Numbers in a key and a value of one head as llama.cpp reads them off GGUF metadata, whether or not the layer
    /// keeps any: quantised caches are refused by them. 0 where not known.
    pub head: (u64, u64),
    /// Numbers per token that the layer would keep with a full key and value for every query head.
    pub uncompressed: u64,
}

impl Layer {
    /// A layer that keeps nothing.
    const NOTHING: Layer = Layer {
        reach: Reach::All,
        store: Store::Nothing,
        indexer: 0,
        indexer_values: false,
        positions: 0,
        recurrent: false,
        state: None,
        encoder: false,
        head: (0, 0),
        uncompressed: 0,
    };

    /// Numbers that the layer keeps for each token within its reach; saturates.
    pub fn per_token(&self) -> u64 {
        let own = match self.store {
            Store::Nothing | Store::Shared | Store::Cross => 0,
            Store::KeyValue { heads, key, value } => heads.saturating_mul(key.saturating_add(value)),
            Store::Latent { rank, rotated } => rank.saturating_add(rotated),
            Store::Compressed(compressed) => compressed.growth(),
        };
        own.saturating_add(self.indexer)
    }

    /// Whether there is attention in it, whoever keeps the keys.
    pub fn attends(&self) -> bool {
        self.store != Store::Nothing
    }

    /// Its kind in a word, as in `attention.per_layer`.
    pub fn word(&self) -> &'static str {
        match (self.store, self.reach, self.recurrent) {
            (Store::Nothing, _, true) => "recurrent",
            (Store::Nothing, _, false) => "none",
            (Store::Shared, _, _) => "shared",
            (Store::Cross, _, _) => "cross",
            (Store::Compressed(_), _, _) => "compressed",
            (_, Reach::Chunked(_), _) => "chunked",
            (_, Reach::Sliding(_), false) => "sliding",
            (_, Reach::Sliding(_), true) => "sliding+recurrent",
            (Store::Latent { .. }, _, _) => "latent",
            (Store::KeyValue { .. }, _, true) => "full+recurrent",
            (Store::KeyValue { .. }, _, false) => "full",
        }
    }
}

/// The table, or why there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    /// Every layer that can hold a cache, in order; next-token-prediction layers are left out. Empty where unknown.
    pub layers: Vec<Layer>,
    /// Tokens that the model itself puts before each sequence.
    pub prompt: u64,
    /// Numbers of the values of the widest layer in GGUF metadata, layers that keep none of their own included: in a
    /// transposed cache all are as wide. 0 where not known.
    pub widest_values: u64,
    /// Why nothing is known.
    pub unknown: Option<String>,
}

/// `kv_cache` of `anatomy inspect --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct KvCache {
    /// Bytes by which one sequence grows with each token at the end of the trained context, in a 16-bit type.
    pub bytes_per_token: Option<u64>,
    /// Which part is saved against the same model with a key and a value for every query head.
    pub savings_vs_mha: Option<f64>,
    /// Why the figures are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Cache {
    /// No table, and why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Cache { unknown: Some(reason.into()), ..Cache::default() }
    }

    /// The table in two numbers. A layer whose window is shorter than the context has stopped growing.
    pub fn summary(&self, context: Option<u64>) -> KvCache {
        if self.layers.is_empty() {
            return KvCache { unknown: self.unknown.clone(), ..KvCache::default() };
        }
        let (mut growth, mut kept, mut uncompressed) = (0u64, 0u128, 0u128);
        for layer in &self.layers {
            let per_token = layer.per_token();
            let grows = matches!(layer.store, Store::Compressed(_))
                || layer.reach.window().is_none_or(|window| context.is_some_and(|context| context <= window));
            if grows {
                growth = growth.saturating_add(per_token);
            }
            kept += u128::from(per_token);
            uncompressed += u128::from(layer.uncompressed);
        }
        KvCache {
            bytes_per_token: growth.checked_mul(BYTES),
            savings_vs_mha: (uncompressed > 0).then(|| 1.0 - kept as f64 / uncompressed as f64),
            unknown: None,
        }
    }
}

/// What a layer does, before its sizes are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    attention: Option<Reach>,
    recurrent: bool,
    indexer: bool,
}

impl Plan {
    const FULL: Plan = Plan { attention: Some(Reach::All), recurrent: false, indexer: false };
    const RECURRENT: Plan = Plan { attention: None, recurrent: true, indexer: false };
    const BOTH: Plan = Plan { attention: Some(Reach::All), recurrent: true, indexer: false };
    const NOTHING: Plan = Plan { attention: None, recurrent: false, indexer: false };

    fn within(reach: Reach) -> Plan {
        Plan { attention: Some(reach), ..Plan::FULL }
    }
}

fn checked_layers(architecture: &Architecture) -> Result<usize, String> {
    plausible(architecture.layers.ok_or("the number of layers is not known")?)
}

fn plausible(layers: u64) -> Result<usize, String> {
    if layers == 0 || layers > MAX_LAYERS {
        return Err(format!("{layers} layers are not plausible"));
    }
    usize::try_from(layers).map_err(|error| error.to_string())
}
