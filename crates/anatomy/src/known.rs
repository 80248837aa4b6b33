//! Well-known models by their dimensions: of what a fine-tune or a copy was made.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::architecture::Architecture;

/// Dimensions of well-known models, in the order that the file explains.
static TABLE: &str = include_str!("../known-models.toml");

/// A well-known model of the same shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// What differs all the same, such as `vocabulary 128256 there, 128320 here`.
    pub differs: Vec<String>,
}

/// The well-known model of the family that has these layers, widths, heads and experts; its vocabulary may differ.
pub fn find(architecture: &Architecture) -> Option<Known> {
    let table: BTreeMap<String, (String, [u64; 7])> = toml::from_str(TABLE).unwrap_or_default();
    let attention = &architecture.attention;
    let experts = architecture.experts.as_ref().and_then(|experts| experts.count);
    let vocabulary = architecture.vocab_size?;
    let wanted = [
        architecture.layers?,
        architecture.hidden_size?,
        architecture.feed_forward.intermediate_size.unwrap_or(0),
        attention.query_heads.unwrap_or(0),
        attention.kv_heads.unwrap_or(0),
        experts.unwrap_or(0),
    ];
    let same: Vec<(&String, u64)> = table
        .iter()
        .filter(|(_, (family, _))| {
            architecture.family.as_ref() == Some(family) || architecture.candidates.contains(family)
        })
        .filter_map(|(name, (_, [body @ .., words]))| (*body == wanted).then_some((name, *words)))
        .collect();
    let exact = same.iter().find(|(_, words)| *words == vocabulary);
    let (name, words) = exact.or(same.first())?;
    let differs = match *words == vocabulary {
        true => Vec::new(),
        false => vec![format!("vocabulary {words} there, {vocabulary} here")],
    };
    Some(Known { name: (*name).clone(), differs })
}
