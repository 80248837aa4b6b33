//! How much memory a model takes when it runs: weights, what is kept of past tokens, and what a runtime needs besides.
//!
//! Everything starts from one table of what each layer keeps ([`crate::cache`]). Runtimes allocate differently over it,
//! so each is a function of its own: [`llama_cpp`], [`vllm`], [`transformers`], and the textbook's [`formula`]. A
//! figure is exact where the runtime's own rule is known, else an estimate that errs high; each [`Part`] says which.

mod allocator;
pub mod device;
pub mod fit;
pub mod formula;
mod graph;
pub mod llama_cpp;
pub mod mixture;
pub mod subject;
pub mod transformers;
pub mod vllm;

use serde::Serialize;

pub use device::Device;
pub use subject::{Subject, Weight};

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};

/// One GiB.
pub const GIB: u64 = 1 << 30;

/// Contexts beyond this are refused: no model reads four billion tokens.
const MAX_CONTEXT: u64 = 1 << 32;
/// Sequences, and tokens of a batch, beyond this are refused.
const MAX_BATCH: u64 = 1 << 20;

/// A program that runs models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Runtime {
    /// llama.cpp and what is built on it (Ollama, LM Studio).
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// vLLM.
    #[serde(rename = "vllm")]
    Vllm,
    /// The transformers library.
    #[serde(rename = "transformers")]
    Transformers,
    /// Parameters × bytes + cache + an allowance, as textbooks have it.
    #[serde(rename = "formula")]
    Formula,
}

impl Runtime {
    /// Its name, as it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::LlamaCpp => "llama.cpp",
            Runtime::Vllm => "vllm",
            Runtime::Transformers => "transformers",
            Runtime::Formula => "formula",
        }
    }
}

/// Element type of cached keys or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the field's own")]
#[rustfmt::skip]
pub enum CacheType { F32, F16, BF16, Fp8, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, Iq4Nl }

impl CacheType {
    /// All of them, the most precise first.
    pub const ALL: [CacheType; 10] = [
        CacheType::F32,
        CacheType::F16,
        CacheType::BF16,
        CacheType::Fp8,
        CacheType::Q8_0,
        CacheType::Q5_1,
        CacheType::Q5_0,
        CacheType::Q4_1,
        CacheType::Q4_0,
        CacheType::Iq4Nl,
    ];

    /// Its name, as it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::BF16 => "bf16",
            CacheType::Fp8 => "fp8",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q5_1 => "q5_1",
            CacheType::Q5_0 => "q5_0",
            CacheType::Q4_1 => "q4_1",
            CacheType::Q4_0 => "q4_0",
            CacheType::Iq4Nl => "iq4_nl",
        }
    }

    /// The type of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// How its numbers are stored.
    pub fn dtype(self) -> DType {
        match self {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
            CacheType::BF16 => DType::BF16,
            CacheType::Fp8 => DType::F8_E4M3,
            CacheType::Q8_0 => DType::Q8_0,
            CacheType::Q5_1 => DType::Q5_1,
            CacheType::Q5_0 => DType::Q5_0,
            CacheType::Q4_1 => DType::Q4_1,
            CacheType::Q4_0 => DType::Q4_0,
            CacheType::Iq4Nl => DType::IQ4_NL,
        }
    }

    /// Whether numbers stand in blocks with a scale.
    pub fn is_block(self) -> bool {
        self.dtype().block() > 1
    }
}

/// Whether attention is computed without the matrix of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flash {
    /// Yes.
    On,
    /// No.
    Off,
    /// Where the runtime can.
    Auto,
}

/// How a model is to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// By which program.
    pub runtime: Runtime,
    /// Tokens of one sequence.
    pub context: u64,
    /// Sequences at once.
    pub parallel: u64,
    /// Tokens of a batch (llama.cpp: `--batch-size`; vLLM: `max_num_batched_tokens`).
    pub batch: u64,
    /// Tokens that are computed at once (llama.cpp: `--ubatch-size`).
    pub ubatch: u64,
    /// Type of cached keys; `None` is the runtime's default.
    pub key_type: Option<CacheType>,
    /// Type of cached values; `None` is the runtime's default.
    pub value_type: Option<CacheType>,
    /// Flash attention.
    pub flash: Flash,
    /// Sliding windows get a cache of the whole context (llama.cpp: `--swa-full`).
    pub swa_full: bool,
    /// One cache for all sequences (llama.cpp: `--kv-unified`).
    pub kv_unified: bool,
    /// Layers on the devices, the output counting as one more; `None` is all.
    pub gpu_layers: Option<u64>,
    /// Experts stay in main memory (llama.cpp: `--cpu-moe`).
    pub cpu_moe: bool,
    /// Devices; empty for the processor and main memory.
    pub devices: Vec<Device>,
    /// Share of a device's memory that vLLM takes (`gpu_memory_utilization`).
    pub utilization: f64,
}

impl Request {
    /// A runtime's own defaults.
    pub fn new(runtime: Runtime, context: u64) -> Self {
        Request {
            runtime,
            context,
            parallel: 1,
            batch: 2048,
            ubatch: 512,
            key_type: None,
            value_type: None,
            flash: Flash::Auto,
            swa_full: false,
            kv_unified: false,
            gpu_layers: None,
            cpu_moe: false,
            devices: Vec::new(),
            utilization: 0.9,
        }
    }
}

/// One term of the sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// What it is for.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// Whether the runtime allocates exactly so much; else it is an estimate.
    pub exact: bool,
    /// The formula with this model's numbers in it.
    pub formula: String,
}

/// What a model takes under a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Tokens of one sequence that fit into the cache; runtimes round up.
    pub context: u64,
    /// Bytes of the weights, each tensor once.
    pub weights: u64,
    /// Bytes of keys and values over all sequences; `None` where it is not known what the layers keep.
    pub cache: Option<u64>,
    /// Bytes by which one sequence grows with one more token.
    pub per_token: Option<u64>,
    /// Bytes that do not grow with the context: recurrent and convolution states.
    pub state: u64,
    /// Bytes of intermediate results.
    pub compute: u64,
    /// Bytes of the logits that are handed out.
    pub output: u64,
    /// Bytes that the runtime copies besides: re-packed blocks, a tied embedding on another device.
    pub repack: u64,
    /// Allowance for framework and driver, in bytes.
    pub overhead: u64,
    /// The terms, each with its formula.
    pub parts: Vec<Part>,
    /// What each device holds, main memory last.
    pub placed: Vec<Placed>,
    /// What is worth knowing about these figures.
    pub notes: Vec<String>,
}

/// What one device holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Index into [`Request::devices`]; `None` is main memory.
    pub device: Option<usize>,
    /// Bytes on it.
    pub used: u64,
    /// Layers on it.
    pub layers: u64,
}

impl Estimate {
    /// Sum of all terms, the cache counted as far as it is known.
    pub fn total(&self) -> u64 {
        let terms =
            [self.weights, self.cache.unwrap_or(0), self.state, self.compute, self.output, self.repack, self.overhead];
        terms.into_iter().fold(0, u64::saturating_add)
    }
}

/// What a model takes under a request.
///
/// # Errors
/// Where the runtime refuses the settings, as it would itself.
pub fn estimate(subject: &Subject, request: &Request) -> Result<Estimate> {
    if request.parallel == 0 || request.ubatch == 0 || request.batch == 0 {
        return Err(refused("sequences and batches hold at least one token", "ask for 1 or more"));
    }
    if request.context == 0 {
        return Err(refused("a context of no tokens", "ask for at least one"));
    }
    if request.context > MAX_CONTEXT {
        return Err(refused(format!("a context of {} tokens is beyond any model", request.context), "ask for less"));
    }
    if request.parallel.max(request.batch).max(request.ubatch) > MAX_BATCH {
        return Err(refused("so many sequences, or tokens at once, are beyond any machine", "ask for fewer"));
    }
    match request.runtime {
        Runtime::LlamaCpp => llama_cpp::estimate(subject, request),
        Runtime::Vllm => vllm::estimate(subject, request),
        Runtime::Transformers => transformers::estimate(subject, request),
        Runtime::Formula => formula::estimate(subject, request),
    }
}

fn refused(message: impl Into<String>, help: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message).help(help)
}
