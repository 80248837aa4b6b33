//! What follows from a configuration alone.

use serde::Serialize;
use serde_json::Value as Json;

use super::inspect::ByRole;
use crate::architecture::{self, Architecture, Evidence};
use crate::atlas::{self, Expected};
use crate::cache::KvCache;
use crate::metadata::Metadata;
use crate::names::{self, Part, Role};

/// The document of `anatomy blueprint`.
#[derive(Debug, Serialize)]
pub struct Blueprint {
    schema: &'static str,
    source: String,
    family: String,
    title: String,
    parameters: Parameters,
    architecture: Architecture,
    kv_cache: KvCache,
    assumptions: Vec<String>,
    tensors: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Parameters {
    total: u64,
    active: Option<u64>,
    /// Of the total, numbers that are stored but not learned.
    buffers: u64,
    by_role: ByRole,
}

#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    tensor: Expected,
    #[serde(skip_serializing_if = "str::is_empty")]
    component: &'static str,
}

impl Blueprint {
    /// Reads the architecture off a blueprint as if its tensors were a file's.
    pub fn new(source: &str, blueprint: atlas::Blueprint, config: Option<&Json>, gguf: Option<&Metadata>) -> Self {
        let atlas::Blueprint { family, title, tensors, assumptions, .. } = blueprint;
        let mut parts = names::parse_all(tensors.iter().map(|tensor| tensor.name.as_str()));
        for (part, tensor) in parts.iter_mut().zip(&tensors) {
            *part = Part { role: tensor.role, buffer: tensor.buffer, ..*part };
        }
        let due: Vec<_> = tensors
            .iter()
            .zip(&parts)
            .filter(|(tensor, _)| tensor.optional.is_none())
            .map(|(tensor, part)| (tensor.name.as_str(), &*tensor.shape, *part))
            .collect();
        let architecture = architecture::read(&Evidence { config, gguf, tensors: &due });
        let sum = |wanted: &dyn Fn(&Part) -> bool| {
            let shapes =
                due.iter().filter(|(_, _, part)| wanted(part)).map(|(_, shape, _)| crate::tensor::elements(shape));
            shapes.fold(0, u64::saturating_add)
        };
        let total = sum(&|_| true);
        let by_role = ByRole(Role::ALL.iter().map(|role| (*role, sum(&|part| part.role == *role))).collect());
        let buffers = sum(&|part| part.buffer);
        let experts = architecture.experts.as_ref();
        let routed = architecture::routed_experts(&due, experts.and_then(|experts| experts.count));
        let active = match experts.and_then(|experts| experts.active) {
            Some(active) => architecture::active_parameters(total, &routed, active),
            None => routed.is_empty().then_some(total),
        };
        let kv_cache = architecture.cache.summary(architecture.context_length);
        let components: Vec<&'static str> = parts.iter().map(|part| part.component).collect();
        drop(due);
        Blueprint {
            schema: "anatomy.blueprint/1",
            source: source.to_string(),
            family,
            title,
            parameters: Parameters { total, active, buffers, by_role },
            kv_cache,
            architecture,
            assumptions,
            tensors: tensors
                .into_iter()
                .zip(components)
                .map(|(tensor, component)| Entry { tensor, component })
                .collect(),
        }
    }

    /// The blueprint as text.
    pub fn text(&self, _width: usize) -> String {
        format!("{} ({}): {} parameters\n", self.title, self.family, self.parameters.total)
    }
}
