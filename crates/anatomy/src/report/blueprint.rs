//! What follows from a configuration alone.

use serde::ser::{SerializeSeq, Serializer};
use serde::Serialize;
use serde_json::Value as Json;

use super::inspect::ByRole;
use crate::architecture::{self, Architecture, Evidence};
use crate::atlas::{self, Expected};
use crate::cache::KvCache;
use crate::metadata::Metadata;
use crate::names::{self, Part, Role};
use crate::tensor::elements;

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
    #[serde(serialize_with = "one_by_one")]
    tensors: Vec<Expected>,
}

#[derive(Debug, Serialize)]
struct Parameters {
    total: u64,
    active: Option<u64>,
    /// Of the total, numbers that are stored but not learned.
    buffers: u64,
    by_role: ByRole,
}

/// One tensor.
#[derive(Serialize)]
struct Entry<'e> {
    name: String,
    shape: &'e [u64],
    role: Role,
    layer: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    buffer: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    optional: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gguf: Option<String>,
}

/// Rows of many experts are written tensor by tensor, as they would stand in a file.
fn one_by_one<S: Serializer>(tensors: &[Expected], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(tensors.iter().map(|row| row.count).sum()))?;
    for row in tensors {
        for number in 0..row.count {
            list.serialize_element(&Entry {
                name: row.name(number),
                shape: &row.shape,
                role: row.role,
                layer: row.layer,
                buffer: row.buffer,
                aliases: row.aliases(number),
                optional: row.optional.as_deref(),
                gguf: row.gguf(number),
            })?;
        }
    }
    list.end()
}

impl Blueprint {
    /// Reads the architecture off a blueprint as if its tensors were a file's.
    pub fn new(source: &str, blueprint: atlas::Blueprint, config: Option<&Json>, gguf: Option<&Metadata>) -> Self {
        let atlas::Blueprint { family, title, tensors, assumptions, .. } = blueprint;
        let due: Vec<&Expected> = tensors.iter().filter(|row| row.optional.is_none()).collect();
        // Of many experts, the first and the last say all: how many there are, and their shapes.
        let ends = due.iter().flat_map(|row| {
            let last = (row.count > 1).then(|| row.name(row.count - 1));
            std::iter::once(row.name(0)).chain(last).map(move |name| (name, *row))
        });
        let ends: Vec<(String, &Expected)> = ends.collect();
        let parts = names::parse_all(ends.iter().map(|(name, _)| name.as_str()));
        let witnesses: Vec<_> = ends
            .iter()
            .zip(parts)
            .map(|((name, row), part)| {
                (name.as_str(), &*row.shape, Part { role: row.role, buffer: row.buffer, ..part })
            })
            .collect();
        let architecture = architecture::read(&Evidence { config, gguf, tensors: &witnesses });

        let sum = |wanted: &dyn Fn(&Expected) -> bool| {
            let rows = due.iter().filter(|row| wanted(row));
            rows.map(|row| row.parameters()).fold(0, u64::saturating_add)
        };
        let total = sum(&|_| true);
        let by_role = ByRole(Role::ALL.iter().map(|role| (*role, sum(&|row| row.role == *role))).collect());
        let buffers = sum(&|row| row.buffer);
        let experts = architecture.experts.as_ref();
        let routed: Vec<(u64, u64)> = due
            .iter()
            .filter(|row| row.role == Role::Experts && !row.buffer)
            .map(|row| match row.count as u64 {
                1 => {
                    let stacked = experts.and_then(|experts| experts.count).filter(|count| elements(&row.shape).is_multiple_of(*count));
                    (row.parameters(), stacked.unwrap_or(1))
                }
                count => (row.parameters(), count),
            })
            .collect();
        let active = match experts.and_then(|experts| experts.active) {
            Some(active) => architecture::active_parameters(total, &routed, active),
            None => routed.is_empty().then_some(total),
        };
        let kv_cache = architecture.cache.summary(architecture.context_length);
        Blueprint {
            schema: "anatomy.blueprint/1",
            source: source.to_string(),
            family,
            title,
            parameters: Parameters { total, active, buffers, by_role },
            kv_cache,
            architecture,
            assumptions,
            tensors,
        }
    }

    /// The blueprint as text.
    pub fn text(&self, _width: usize) -> String {
        format!("{} ({}): {} parameters\n", self.title, self.family, self.parameters.total)
    }
}
