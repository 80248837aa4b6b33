//! The table as GGUF metadata states it, with llama.cpp's own rules for what its keys leave open.
//!
//! llama.cpp reads only the keys that its class for an architecture asks for (`src/models`, `load_arch_hparams`), and
//! decides on caches by architecture (`llama_model::create_memory`). The tables here are those decisions: a key that
//! an architecture does not read says nothing.

use super::{Cache, Compressed, Layer, Plan, Reach, SPARSE_RATE, State, Store, plausible};
use crate::architecture::{Architecture, Keys};

/// Encoders, and diffusion models that see all at once: no cache.
#[rustfmt::skip]
const CACHELESS: &[&str] = &[
    "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "eurobert",
    "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1", "clip",
];
/// Architectures all of whose layers are recurrent.
const RECURRENT: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"];
/// Hybrids that mark a recurrent layer by giving it no heads of keys and values.
#[rustfmt::skip]
const HEADLESS: &[&str] = &[
    "jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next",
    "nemotron_h", "nemotron_h_moe",
];
/// Hybrids whose layers with attention come at an interval, the last of each group, and that interval where no key
/// gives it.
const INTERVAL: &[(&str, u64)] =
    &[("qwen3next", 4), ("qwen35", 4), ("qwen35moe", 4), ("qwen4exp", 4), ("minimax-01", 8)];
/// Architectures that keep one latent vector for all heads, if their keys have the sizes of expanded heads: files from
/// before January 2026 do not.
#[rustfmt::skip]
const LATENT: &[&str] = &[
    "bailingmoe3", "deepseek2", "deepseek32", "dots3note", "glm-dsa", "glm5-next", "hy_v4", "kimi-k3", "kimi-linear",
    "mistral4",
];
/// Architectures that read the number of groups of a state-space model.
#[rustfmt::skip]
const GROUPS: &[&str] = &[
    "mamba2", "plamo2", "falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe", "qwen3next", "qwen35", "qwen35moe",
    "qwen4exp",
];

/// Where the window of an architecture comes from.
#[derive(Debug, Clone, Copy)]
enum Window {
    /// The key; without it nothing slides.
    Stated,
    /// The key, or this.
    Or(u64),
    /// This, unless the key is 0.
    Always(u64),
    /// This, where the key is there and not 0.
    Instead(u64),
}

/// Which layers slide, where the key does not list them.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    /// None.
    Listed,
    /// All of a group but the last, so many at a time.
    LastFull(u64),
    /// All of a group but the first.
    FirstFull(u64),
    /// All.
    All,
}

/// Sliding windows by architecture. Phi-3 states one too, and llama.cpp ignores it.
const WINDOWS: &[(&str, Window, Pattern)] = &[
    ("afmoe", Window::Stated, Pattern::LastFull(4)),
    ("cohere2", Window::Stated, Pattern::LastFull(4)),
    ("cohere2moe", Window::Stated, Pattern::FirstFull(4)),
    ("deepseek4", Window::Stated, Pattern::All),
    ("dflash", Window::Stated, Pattern::Listed),
    ("dots3note", Window::Stated, Pattern::Listed),
    ("exaone-moe", Window::Or(128), Pattern::LastFull(4)),
    ("exaone4", Window::Or(4096), Pattern::LastFull(4)),
    ("gemma2", Window::Or(4096), Pattern::LastFull(2)),
    ("gemma3", Window::Stated, Pattern::LastFull(6)),
    ("gemma3n", Window::Stated, Pattern::LastFull(5)),
    ("gemma4", Window::Stated, Pattern::Listed),
    ("gemma4-assistant", Window::Stated, Pattern::Listed),
    ("gpt-oss", Window::Stated, Pattern::LastFull(2)),
    ("granite_swa", Window::Stated, Pattern::Listed),
    ("laguna", Window::Stated, Pattern::FirstFull(4)),
    ("lfm2", Window::Stated, Pattern::All),
    ("llama4", Window::Always(8192), Pattern::LastFull(4)),
    ("maple", Window::Stated, Pattern::Listed),
    ("mellum", Window::Stated, Pattern::LastFull(4)),
    ("mimo2", Window::Stated, Pattern::Listed),
    ("muse-glimmer", Window::Stated, Pattern::LastFull(4)),
    ("olmo2", Window::Stated, Pattern::LastFull(4)),
    ("plamo3", Window::Stated, Pattern::LastFull(8)),
    ("smallthinker", Window::Instead(4096), Pattern::FirstFull(4)),
    ("spark2_5", Window::Stated, Pattern::Listed),
    ("step35", Window::Stated, Pattern::Listed),
];

/// Layers of GLM-5.2 that have an indexer of their own where no key says so: the first two, and every fourth.
fn glm_indexes(index: usize) -> bool {
    index < 2 || index % 4 == 2
}

/// GLM models of shorter contexts than this have an indexer in each layer.
const GLM_SHARES_FROM: u64 = 1 << 20;

pub(crate) fn table(keys: &Keys, architecture: &Architecture) -> Cache {
    let rules = match Rules::new(keys, architecture) {
        Ok(rules) => rules,
        Err(why) => return Cache::unknown(why),
    };
    match (0..rules.count).map(|index| rules.layer(index)).collect() {
        Ok(layers) => Cache { layers, widest_values: rules.widest_values(), ..Cache::default() },
        Err(why) => Cache::unknown(why),
    }
}

/// The keys of a model as llama.cpp reads them.
struct Rules<'k> {
    keys: &'k Keys<'k>,
    architecture: &'k Architecture,
    family: &'k str,
    /// Layers in the file, without those that predict further tokens.
    stored: usize,
    /// Layers that are run, each with a cache of its own.
    count: usize,
    /// Window, and which layers have it.
    window: Option<(Reach, Pattern)>,
    latent: bool,
    /// Layers at the front that keep keys and values of their own.
    own: usize,
}

impl<'k> Rules<'k> {
    fn new(keys: &'k Keys, architecture: &'k Architecture) -> Result<Self, String> {
        let family = keys.family;
        // Of an encoder with a decoder, the longer; a table of the layers' own cycles counts them all.
        let blocks = keys.unsigned("block_count").ok_or("the number of layers is not known")?;
        let stored = plausible(blocks.saturating_sub(keys.next_token_layers()))?;
        let count = match family {
            // The layers are run several times over, and keep something each time.
            "nanbeige" => {
                let loops = keys.unsigned("num_loops").unwrap_or(1).min(1 << 16);
                stored.saturating_mul(usize::try_from(loops).unwrap_or(1)).min(1 << 16)
            }
            // A further layer of one head carries the choice of adapters.
            "graniteswitch" => stored + 1,
            _ => stored,
        };
        let sized = |name| keys.unsigned(name).is_some();
        let shared = keys.unsigned("attention.shared_kv_layers").unwrap_or(0);
        let own = match family {
            // Gemma 3n keeps keys and values in its first 20 layers, whatever their number.
            "gemma3n" => 20.min(count),
            "gemma4" => count.saturating_sub(usize::try_from(shared).unwrap_or(usize::MAX)),
            _ => count,
        };
        let latent =
            LATENT.contains(&family) && sized("attention.key_length_mla") && sized("attention.value_length_mla");
        Ok(Rules { keys, architecture, family, stored, count, window: window(keys, stored), latent, own })
    }

    fn layer(&self, index: usize) -> Result<Layer, String> {
        let plan = self.plan(index);
        let mut layer = Layer { recurrent: plan.recurrent, head: self.head(index), ..Layer::NOTHING };
        if plan.recurrent {
            layer.state = self.state().map(|state| self.with_ngrams(index, state));
        }
        let Some(reach) = plan.attention else { return Ok(layer) };
        layer.reach = reach;
        layer.encoder = self.family == "t5";
        if self.family == "deepseek4" {
            let compressed = self.compressed(index)?;
            layer.store = Store::Compressed(compressed);
            layer.uncompressed = self.query_heads(index).saturating_mul(compressed.head).saturating_mul(2);
        } else if index >= self.own {
            layer.store = Store::Shared;
        } else {
            (layer.store, layer.uncompressed) = self.store(index)?;
            layer.indexer = self.indexer(index);
            layer.indexer_values = self.family == "minimax-m3";
        }
        Ok(layer)
    }

    fn plan(&self, index: usize) -> Plan {
        let attention = Plan::within(if self.slides(index) { self.reach() } else { Reach::All });
        if CACHELESS.contains(&self.family) {
            return Plan::NOTHING;
        }
        if RECURRENT.contains(&self.family) {
            return Plan::RECURRENT;
        }
        if self.family == "falcon-h1" {
            return Plan { recurrent: true, ..attention };
        }
        // Nemotron-H also has layers of feed-forward alone, which no heads mark either, but a width.
        if self.family.starts_with("nemotron_h") && self.keys.of_layer("feed_forward_length", index).unwrap_or(0) > 0 {
            return Plan::NOTHING;
        }
        match () {
            () if self.recurs(index) => Plan::RECURRENT,
            () if self.kv_heads(index) == 0 => Plan::NOTHING,
            () => attention,
        }
    }

    fn recurs(&self, index: usize) -> bool {
        if HEADLESS.contains(&self.family) {
            return self.kv_heads(index) == 0;
        }
        let Some((_, interval)) = INTERVAL.iter().find(|row| row.0 == self.family) else { return false };
        if let Some(stated) = self.keys.of_layer("attention.recurrent_layers", index) {
            return stated == 1;
        }
        let interval = self.keys.unsigned("full_attention_interval").unwrap_or(*interval);
        !(index as u64 + 1).is_multiple_of(interval)
    }

    fn reach(&self) -> Reach {
        self.window.map_or(Reach::All, |(reach, _)| reach)
    }

    fn slides(&self, index: usize) -> bool {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let Some((_, pattern)) = self.window else { return false };
        let place = index as u64;
        // A list that is too short leaves the rest without a window.
        if self.keys.is_list(PATTERN) && !matches!(pattern, Pattern::All) {
            return self.keys.of_layer(PATTERN, index) == Some(1);
        }
        let group = |default: u64| self.keys.of_layer(PATTERN, 0).unwrap_or(default);
        match pattern {
            Pattern::Listed => false,
            Pattern::All => true,
            // In groups of none all slide.
            Pattern::LastFull(default) => match group(default) {
                0 => true,
                group => !(place + 1).is_multiple_of(group),
            },
            Pattern::FirstFull(default) => match group(default) {
                0 => true,
                group => !place.is_multiple_of(group),
            },
        }
    }

    fn query_heads(&self, index: usize) -> u64 {
        self.keys.of_layer("attention.head_count", index).unwrap_or(0)
    }

    fn kv_heads(&self, index: usize) -> u64 {
        if index >= self.stored && self.family == "graniteswitch" {
            return 1;
        }
        // Later turns through the layers are like the first.
        let index = index.checked_rem(self.stored).unwrap_or(index);
        self.keys.of_layer("attention.head_count_kv", index).unwrap_or_else(|| self.query_heads(index))
    }

    /// Numbers in a key and a value of one head, whether or not the layer keeps any.
    fn head(&self, index: usize) -> (u64, u64) {
        // Sizes are those of the first layer: a model without heads has none.
        let first = self.query_heads(0);
        if first == 0 && self.family != "plamo2" {
            return (0, 0);
        }
        let quotient = self.architecture.hidden_size.unwrap_or(0).checked_div(first).unwrap_or(0);
        let of = |name: &str, of_sliding: &str| {
            let sliding = self.keys.unsigned(of_sliding).filter(|_| self.slides(index));
            sliding.or_else(|| self.keys.unsigned(name)).unwrap_or(quotient)
        };
        let value = match self.family {
            "glm5-next" | "kimi-k3" => self.keys.unsigned("attention.kv_lora_rank").unwrap_or(0),
            _ => of("attention.value_length", "attention.value_length_swa"),
        };
        (of("attention.key_length", "attention.key_length_swa"), value)
    }

    /// Numbers of the values of the layer that has most, whether it is run or not: transposed, all are as wide.
    fn widest_values(&self) -> u64 {
        let next = usize::try_from(self.keys.next_token_layers()).unwrap_or(0).min(1 << 10);
        if self.latent {
            return 0;
        }
        let all = 0..self.count.saturating_add(next);
        all.map(|index| self.kv_heads(index).saturating_mul(self.head(index).1)).max().unwrap_or(0)
    }

    fn store(&self, index: usize) -> Result<(Store, u64), String> {
        let slides = self.slides(index);
        let size = |name: &str, of_sliding: &str| {
            self.keys.unsigned(of_sliding).filter(|_| slides).or_else(|| self.keys.unsigned(name))
        };
        let query = self.query_heads(index);
        let heads = self.kv_heads(index);
        let (key, value) = self.head(index);
        if key == 0 {
            return Err("the size of a head is not known".into());
        }
        if self.latent {
            let rank = size("attention.kv_lora_rank", "attention.kv_lora_rank_swa").unwrap_or(0);
            let rotated = key.checked_sub(rank).ok_or("the latent key is shorter than its rank")?;
            let full = size("attention.key_length_mla", "attention.key_length_mla_swa").unwrap_or(0);
            let full =
                full.saturating_add(size("attention.value_length_mla", "attention.value_length_mla_swa").unwrap_or(0));
            return Ok((Store::Latent { rank, rotated }, query.saturating_mul(full)));
        }
        let uncompressed = query.max(heads).saturating_mul(key.saturating_add(value));
        Ok((Store::KeyValue { heads, key, value }, uncompressed))
    }

    /// Numbers in the key of the layer's indexer, 0 where it has none.
    fn indexer(&self, index: usize) -> u64 {
        let keys = self.keys;
        let size = keys.unsigned("attention.indexer.key_length").unwrap_or(0);
        let listed = |default: bool| keys.of_layer("attention.indexer.types", index).map_or(default, |kind| kind == 1);
        let long = || self.architecture.context_length.is_some_and(|context| context >= GLM_SHARES_FROM);
        let has = match self.family {
            "deepseek32" | "qwen4exp" => true,
            "minimax-m3" => index as u64 >= keys.unsigned("leading_dense_block_count").unwrap_or(0),
            "glm-dsa" => listed(!long() || glm_indexes(index)),
            "glm5-next" => listed(true),
            "hy_v4" => keys.unsigned("attention.indexer.top_k").is_some() && listed(false),
            "dots3note" => listed(false),
            _ => false,
        };
        match self.family {
            _ if !has => 0,
            // Pooled keys are kept beside what they are pooled from and its gate.
            "glm5-next" => size.saturating_mul(3),
            // The cache of indexers only changes the size of keys that do not slide.
            "dots3note" if self.slides(index) => self.head(index).0,
            _ => size,
        }
    }

    /// How a layer of DeepSeek-V4 compresses what is older than its window.
    fn compressed(&self, index: usize) -> Result<Compressed, String> {
        let head = self.head(index).0;
        if head == 0 {
            return Err("the size of a head is not known".into());
        }
        let rate = self.keys.of_layer("attention.compress_ratios", index).unwrap_or(0);
        // Other rates than these two are not cached.
        let rate = if [SPARSE_RATE, 128].contains(&rate) { rate } else { 0 };
        let sparse = rate == SPARSE_RATE;
        let indexer = if sparse { self.keys.unsigned("attention.indexer.key_length").unwrap_or(0) } else { 0 };
        Ok(Compressed { head, indexer, rate, overlap: sparse })
    }

    /// State of one recurrent layer (`llama_hparams::n_embd_r` and `n_embd_s`).
    fn state(&self) -> Option<State> {
        let keys = self.keys;
        let hidden = self.architecture.hidden_size?;
        let heads = self.query_heads(0);
        let square = |size: u64| heads.checked_mul(size)?.checked_mul(size);
        match self.family {
            "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7" => {
                let head = keys.unsigned("wkv.head_size")?;
                let shifts = keys.unsigned("token_shift_count").unwrap_or(2);
                let recurrent = hidden.checked_mul(head)?;
                Some(State { recurrent, channels: hidden, kernel: shifts.checked_add(1)?, ..State::default() })
            }
            "lfm2" | "lfm2moe" => {
                Some(State { channels: hidden, kernel: keys.unsigned("shortconv.l_cache")?, ..State::default() })
            }
            "kimi-linear" | "kimi-k3" | "bailingmoe3" | "glm5-next" => {
                let size = keys.unsigned("kda.head_dim")?;
                let channels = heads.checked_mul(size)?.checked_mul(3)?;
                let kernel = keys.unsigned("ssm.conv_kernel").unwrap_or(4);
                Some(State { recurrent: square(size)?, channels, kernel, ..State::default() })
            }
            "minimax-01" => Some(State { recurrent: square(self.head(0).0)?, ..State::default() }),
            _ => {
                let inner = keys.unsigned("ssm.inner_size")?;
                let states = keys.unsigned("ssm.state_size")?;
                let groups = keys.unsigned("ssm.group_count").filter(|_| GROUPS.contains(&self.family)).unwrap_or(0);
                let shared = groups.checked_mul(states)?.checked_mul(2)?;
                Some(State {
                    recurrent: inner.checked_mul(states)?,
                    channels: inner.checked_add(shared)?,
                    kernel: keys.unsigned("ssm.conv_kernel")?,
                    ..State::default()
                })
            }
        }
    }

    /// The layer that adds embeddings of n-grams keeps the last columns of their convolution (Qwen 4).
    fn with_ngrams(&self, index: usize, state: State) -> State {
        let keys = self.keys;
        // llama.cpp takes a list of one layer only.
        if self.family != "qwen4exp" || keys.of_layer("ple.layers", 0) != Some(index as u64) {
            return state;
        }
        let number = |name: &str| keys.unsigned(name).unwrap_or(0);
        let columns = number("ple.conv_kernel").saturating_sub(1).saturating_mul(number("ple.ngram_size"));
        let width = number("hyper_connection.count").saturating_mul(self.architecture.hidden_size.unwrap_or(0));
        State { besides: columns.saturating_mul(width), ..state }
    }
}

/// The window of an architecture.
fn window(keys: &Keys, layers: usize) -> Option<(Reach, Pattern)> {
    const WINDOW: &str = "attention.sliding_window";
    let stated = keys.of_layer(WINDOW, 0);
    let Some((family, window, pattern)) = WINDOWS.iter().find(|row| row.0 == keys.family) else {
        // An architecture of a later llama.cpp: what a list says is meant.
        let listed = keys.is_list("attention.sliding_window_pattern");
        return stated.filter(|window| listed && *window > 0).map(|window| (Reach::Sliding(window), Pattern::Listed));
    };
    let tokens = match window {
        Window::Stated => stated.filter(|window| *window > 0)?,
        Window::Or(tokens) => stated.unwrap_or(*tokens),
        Window::Always(tokens) => (stated != Some(0)).then_some(*tokens)?,
        Window::Instead(tokens) => stated.filter(|window| *window > 0).map(|_| *tokens)?,
    };
    match *family {
        // Only the 32 B model slides, which is told by its layers.
        "exaone4" if layers != 64 => None,
        "llama4" => Some((Reach::Chunked(tokens), *pattern)),
        _ => Some((Reach::Sliding(tokens), *pattern)),
    }
}
