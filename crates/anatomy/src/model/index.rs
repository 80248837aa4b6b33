//! `*.safetensors.index.json` and `pytorch_model.bin.index.json`: which shard holds which tensor.
//!
//! Indexes reach 60 MB and half a million tensors, so the map is streamed and only the names of the
//! shards are kept.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;

/// Indexes longer than this are refused, in bytes.
const MAX_INDEX: u64 = 512 << 20;

/// What an index says.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) weight_map: Shards,
}

/// The distinct shards of a `weight_map`, in the order of their names.
#[derive(Debug)]
pub(super) struct Shards(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShardsVisitor;
        impl<'de> Visitor<'de> for ShardsVisitor {
            type Value = Shards;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object that maps tensor names to file names")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Shards, M::Error> {
                let mut shards = HashSet::new();
                while let Some((IgnoredAny, shard)) = map.next_entry::<IgnoredAny, std::borrow::Cow<str>>()? {
                    if !shards.contains(&*shard) {
                        shards.insert(shard.into_owned());
                    }
                }
                let mut shards: Vec<String> = shards.into_iter().collect();
                shards.sort();
                Ok(Shards(shards))
            }
        }
        deserializer.deserialize_map(ShardsVisitor)
    }
}

/// Reads an index as far as `T` asks for it.
fn parse<T: for<'de> Deserialize<'de>>(source: &Source) -> Result<T> {
    if source.len() > MAX_INDEX {
        let message = format!("an index of {} bytes; the limit is {MAX_INDEX}", source.len());
        return Err(Error::new(ErrorKind::Limit, message).in_file(source.name()));
    }
    let bytes = source.read(0..source.len())?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = match error.classify() {
            serde_json::error::Category::Data => format!("not a weight index: {error}"),
            _ => super::why_not_json(&bytes, &error),
        };
        Error::malformed(message).in_file(source.name())
    })
}

/// Reads the shards' names.
pub(super) fn read(source: &Source) -> Result<Vec<String>> {
    let index: Index = parse(source)?;
    Ok(index.weight_map.0)
}

/// All that an index says, for a comparison with the shards.
#[derive(Debug)]
pub struct WholeIndex {
    /// Tensor and the shard that should hold it, in the index's order.
    pub weight_map: Vec<(String, String)>,
    /// `metadata.total_size` in bytes, where it is a number; some write a fraction.
    pub total_size: Option<f64>,
}

/// Reads an index with the names of all tensors.
///
/// # Errors
/// Where it is longer than any index, or no index.
pub fn read_index(source: &Source) -> Result<WholeIndex> {
    #[derive(Deserialize)]
    struct Whole {
        weight_map: serde_json::Map<String, serde_json::Value>,
        metadata: Option<serde_json::Value>,
    }
    let whole: Whole = parse(source)?;
    let shard = |value: serde_json::Value| value.as_str().unwrap_or_default().to_string();
    Ok(WholeIndex {
        weight_map: whole.weight_map.into_iter().map(|(tensor, value)| (tensor, shard(value))).collect(),
        total_size: whole.metadata.and_then(|metadata| metadata.get("total_size")?.as_f64()),
    })
}

/// The total size that an index states, in bytes, where it states one as a number.
pub fn stated_total(source: &Source) -> Option<f64> {
    #[derive(Deserialize)]
    struct Stated {
        metadata: Option<serde_json::Value>,
    }
    let stated: Stated = parse(source).ok()?;
    stated.metadata?.get("total_size")?.as_f64()
}
