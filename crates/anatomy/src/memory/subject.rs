//! What is to be run: a model's weights, and what its layers are.

use std::collections::BTreeMap;

use super::mixture;
use crate::analysis::Analysis;
use crate::architecture::{Architecture, Keys};
use crate::atlas;
use crate::dtype::DType;
use crate::error::Result;
use crate::finding::Severity;
use crate::metadata::Metadata;
use crate::names::{Role, Stack};

/// One tensor, or the experts of a layer together.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// llama.cpp's name where it is known, else the file's.
    pub name: String,
    /// Dimensions, outermost first; stacked experts have one for the experts.
    pub shape: Vec<u64>,
    /// Element type.
    pub dtype: DType,
    /// Bytes.
    pub bytes: u64,
    /// What it does.
    pub role: Role,
    /// Layer within its stack.
    pub layer: Option<u32>,
}

/// A model as far as memory is concerned.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Sizes, and the table of what each layer keeps.
    pub architecture: Architecture,
    /// llama.cpp's name of the family, where it is known.
    pub family: String,
    /// What is loaded.
    pub weights: Vec<Weight>,
    /// The tensors that follow from the blueprint, by llama.cpp's names: what is computed, and what another precision
    /// would weigh. Empty where the family is not known.
    pub(super) plan: Vec<Weight>,
    /// Learned numbers.
    pub parameters: u64,
    /// Learned numbers that one token uses.
    pub active: Option<u64>,
    /// The 16-bit type of the configuration, in which transformers and vLLM keep caches.
    pub dtype: DType,
    /// Whether the bytes of the weights are those of a file.
    pub measured: bool,
    /// In which types the weights are, in a word.
    pub precision: String,
    /// What is wrong with the files, the first of it: the figures are of what their headers declare.
    pub damage: Option<String>,
    /// Numbers that only metadata or a configuration state.
    pub(super) extra: Extra,
}

/// Numbers beside the architecture's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extra {
    pub(super) residual_streams: u64,
    pub(super) deepstack: u64,
    pub(super) value_size: u64,
    pub(super) indexer_heads: u64,
    pub(super) indexer_size: u64,
    pub(super) top_k: u64,
    pub(super) pooled: u64,
    pub(super) rate: u64,
}

impl Subject {
    /// A model from its files' headers; `blueprint` names its tensors as llama.cpp does where the files do not.
    pub fn measured(analysis: &Analysis, architecture: Architecture, blueprint: Option<&atlas::Blueprint>) -> Self {
        let gguf = analysis.model.gguf().map(|file| &file.container.metadata);
        let rows = analysis.rows.iter().filter(|row| row.part.stack != Stack::Training);
        let mut weights: Vec<Weight> = Vec::with_capacity(analysis.rows.len());
        let mut shared: BTreeMap<(usize, u32), ()> = BTreeMap::new();
        for row in rows {
            // Tensors that share a storage are loaded once.
            let bytes = match row.tensor.storage {
                Some(view) if shared.insert((row.file, view.storage), ()).is_some() => 0,
                _ => row.tensor.bytes,
            };
            weights.push(Weight {
                name: row.tensor.name.to_string(),
                shape: row.logical_shape().to_vec(),
                dtype: row.tensor.dtype,
                bytes,
                role: row.part.role,
                layer: row.part.layer,
            });
        }
        let plan = match (gguf, blueprint) {
            (Some(_), _) => weights.clone(),
            (None, Some(blueprint)) => mixture::rows(blueprint),
            (None, None) => Vec::new(),
        };
        let total = analysis.stored_bytes();
        let counted = weights.iter().map(|weight| weight.bytes).fold(0, u64::saturating_add);
        if counted != total && !weights.is_empty() {
            // Views of one storage: what the table above cannot attribute exactly is put right in the sum.
            if let Some(first) = weights.first_mut() {
                first.bytes = first.bytes.saturating_add(total.saturating_sub(counted));
            }
        }
        let findings = analysis.model.all_findings();
        let mut damage = findings.iter().filter(|finding| finding.rule.severity == Severity::Error);
        let precision = mixture::words(weights.iter().map(|weight| (weight.dtype, weight.bytes)));
        Subject {
            extra: gguf.map(Extra::of_gguf).unwrap_or_default(),
            dtype: half(analysis.model.config.as_ref()),
            parameters: analysis.total(),
            active: None,
            damage: damage.next().map(|finding| finding.message.clone()),
            measured: true,
            family: gguf
                .and_then(|metadata| metadata.text("general.architecture").map(str::to_string))
                .or_else(|| blueprint.and_then(|blueprint| blueprint.gguf.clone()))
                .unwrap_or_default(),
            precision,
            architecture,
            weights,
            plan,
        }
    }

    /// A model from a blueprint, in an element type or in llama.cpp's mixture of a name (`q4_k_m`).
    ///
    /// # Errors
    /// Where there is no such type or mixture.
    pub fn planned(
        blueprint: &atlas::Blueprint,
        architecture: Architecture,
        config: Option<&serde_json::Value>,
        precision: Option<&str>,
    ) -> Result<Self> {
        let stated = half(config);
        let name = precision.map_or_else(|| stated.name().to_ascii_lowercase(), str::to_ascii_lowercase);
        let family = blueprint.gguf.clone().unwrap_or_default();
        let mut weights = mixture::rows(blueprint);
        mixture::apply(&mut weights, &architecture, &family, &name)?;
        let mut extra = Extra::default();
        if let Some(config) = config {
            extra.of_config(config);
        }
        Ok(Subject {
            parameters: blueprint.total(),
            damage: None,
            active: None,
            dtype: stated,
            measured: false,
            family,
            precision: name,
            extra,
            architecture,
            plan: weights.clone(),
            weights,
        })
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|weight| weight.bytes).fold(0, u64::saturating_add)
    }
}

/// Streams of the residual in Gemma 3n, which no key states.
const ALTERNATING: u64 = 4;

impl Extra {
    fn of_gguf(metadata: &Metadata) -> Self {
        let Some(keys) = Keys::new(metadata) else { return Extra::default() };
        let number = |name: &str| keys.unsigned(name).unwrap_or(0);
        Extra {
            residual_streams: if keys.family == "gemma3n" { ALTERNATING } else { number("hyper_connection.count") },
            deepstack: number("n_deepstack_layers"),
            value_size: number("attention.value_length_mla"),
            indexer_heads: number("attention.indexer.head_count"),
            indexer_size: number("attention.indexer.key_length"),
            top_k: number("attention.indexer.top_k"),
            pooled: number("attention.indexer.kpool"),
            rate: match keys.family {
                "qwen4exp" => (0..1 << 10).filter_map(|layer| keys.of_layer("attention.compress_ratios", layer)).max(),
                _ => None,
            }
            .unwrap_or(0),
        }
    }

    fn of_config(&mut self, config: &serde_json::Value) {
        let text = ["text_config", "llm_config", "language_config"].iter().find_map(|key| config.get(key));
        let number = |key: &str| {
            let value = text.and_then(|text| text.get(key)).or_else(|| config.get(key));
            value.and_then(serde_json::Value::as_u64).unwrap_or(0)
        };
        *self = Extra {
            residual_streams: number("hc_mult").max(number("altup_num_inputs")),
            deepstack: 0,
            value_size: number("v_head_dim"),
            indexer_heads: number("index_n_heads"),
            indexer_size: number("index_head_dim"),
            top_k: number("index_topk"),
            pooled: 0,
            rate: number("indexer_compress_ratio"),
        };
    }
}

/// The 16-bit type that a configuration states.
fn half(config: Option<&serde_json::Value>) -> DType {
    let text = ["text_config", "llm_config", "language_config"];
    let inner = text.iter().find_map(|key| config?.get(key));
    let stated = [config, inner].into_iter().flatten().find_map(|config| {
        ["dtype", "torch_dtype"].iter().find_map(|key| config.get(key)?.as_str()).map(str::to_string)
    });
    let named = stated.and_then(|name| DType::named(name.trim_start_matches("torch.")));
    named.filter(|dtype| matches!(dtype, DType::F16 | DType::BF16 | DType::F32)).unwrap_or(DType::BF16)
}

impl Subject {
    /// The same model in one of llama.cpp's mixtures, or in an element type; `None` where its tensors are not known.
    ///
    /// # Errors
    /// Where there is no such type or mixture.
    pub fn with_precision(&self, precision: &str) -> Result<Option<Self>> {
        if self.plan.is_empty() {
            return Ok(None);
        }
        let mut weights = self.plan.clone();
        mixture::apply(&mut weights, &self.architecture, &self.family, precision)?;
        let plain = DType::named(precision).filter(|dtype| matches!(dtype, DType::F16 | DType::BF16 | DType::F32));
        Ok(Some(Subject {
            weights,
            measured: false,
            precision: precision.to_ascii_lowercase(),
            dtype: plain.unwrap_or(self.dtype),
            ..self.clone()
        }))
    }

    /// Visits the model in each of llama.cpp's mixtures, the largest first, until `enough` says so. Ternary ones are left
    /// out: only models that were trained so survive them. Nowhere if its tensors are not known.
    pub(super) fn in_mixtures(&self, mut enough: impl FnMut(&'static str, &Subject) -> bool) {
        if self.plan.is_empty() {
            return;
        }
        let names: Vec<(&str, &[u64])> =
            self.plan.iter().map(|weight| (weight.name.as_str(), weight.shape.as_slice())).collect();
        let tensors = mixture::Tensors::new(&names, &self.architecture, &self.family);
        let useful = mixture::ALL.into_iter().filter(|mixture| !mixture.name.starts_with("TQ"));
        let mut all: Vec<_> = useful.map(|mixture| (mixture, tensors.bytes(mixture))).collect();
        all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let mut subject = Subject { weights: self.plan.clone(), measured: false, ..self.clone() };
        for (mixture, _) in all {
            mixture::weigh(&mut subject.weights, &tensors.types(mixture));
            if enough(mixture.name, &subject) {
                return;
            }
        }
    }

    /// Numbers per token that keys and values can take at most, read off the projections alone: a bound where it is not
    /// known what the layers keep.
    pub fn cache_bound(&self) -> Option<u64> {
        const PROJECTIONS: [&str; 10] = [
            "k_proj.weight",
            "v_proj.weight",
            "attn_k.weight",
            "attn_v.weight",
            "wk.weight",
            "wv.weight",
            "key.weight",
            "value.weight",
            "to_k.weight",
            "to_v.weight",
        ];
        let ends = |weight: &&Weight| PROJECTIONS.iter().any(|end| weight.name.ends_with(end));
        let rows = self.weights.iter().filter(ends).filter_map(|weight| weight.shape.first());
        let sum = rows.fold(0u64, |sum, rows| sum.saturating_add(*rows));
        (sum > 0).then_some(sum)
    }

    /// Layers of the main stack.
    pub fn layer_count(&self) -> usize {
        let table = self.architecture.cache.layers.len();
        let stated = self.architecture.layers.and_then(|layers| usize::try_from(layers).ok()).unwrap_or(0);
        let seen = self.weights.iter().filter_map(|weight| weight.layer).max().map_or(0, |last| last as usize + 1);
        if table > 0 { table } else { stated.min(1 << 16).max(seen.min(1 << 16)) }
    }

    /// Whether the output is the token embedding.
    pub fn is_tied(&self) -> bool {
        !self.weights.iter().any(|weight| weight.role == Role::Head && weight.bytes > 0)
    }

    /// The token embedding.
    pub(super) fn embedding(&self) -> Option<&Weight> {
        let named = |weight: &&Weight| weight.role == Role::Embedding && weight.layer.is_none();
        self.weights.iter().filter(named).max_by_key(|weight| weight.bytes)
    }

    /// How the bytes of the weights come about.
    pub(super) fn weights_formula(&self) -> String {
        if self.measured {
            format!("the tensors of the file, {}", self.precision)
        } else {
            format!("{} parameters in {}", crate::report::units::thousands(self.parameters), self.precision)
        }
    }
}
