//! How a model grows with each number of its configuration.

use serde::Serialize;
use serde_json::Value as Json;

use crate::atlas::{Atlas, Blueprint, value_at, with_value};
use crate::error::Result;

/// How parameters follow one number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Growth {
    /// Dotted path of the key.
    pub key: String,
    /// Its value.
    pub value: u64,
    /// Parameters with twice the value, over parameters as they are.
    pub doubled: f64,
    /// `linear`, `quadratic`, or `other` (a number that also divides, or decides which layers there are).
    pub order: &'static str,
}

/// Doubles and triples each number of a configuration that tensors depend on; those that change nothing are left out.
/// Numbers that cannot be doubled alone (heads that must divide something) are left out too.
///
/// # Errors
/// Where the configuration leads to no blueprint.
pub fn explain(atlas: &Atlas, config: &Json) -> Result<Vec<Growth>> {
    let blueprint = atlas.blueprint(config)?;
    let once = blueprint.total();
    let mut keys = blueprint.keys;
    keys.sort_unstable();
    keys.dedup();
    let mut list = Vec::new();
    for key in keys {
        let Some(value) = value_at(config, &key).and_then(Json::as_u64).filter(|value| *value > 0) else { continue };
        let times = |factor: u64| -> Option<u64> {
            let other = with_value(config, &key, Json::from(value.checked_mul(factor)?));
            atlas.blueprint(&other).ok().as_ref().map(Blueprint::total)
        };
        let (Some(twice), Some(thrice)) = (times(2), times(3)) else { continue };
        if twice == once || once == 0 {
            continue;
        }
        let [one, two, three] = [once, twice, thrice].map(i128::from);
        // A straight line rises by the same step twice; a parabola's steps differ. Two steps cannot tell a parabola
        // from anything higher, and no family has a cubic.
        let order = match (two - one, three - two) {
            (first, second) if first == second => "linear",
            (first, second) if second > first && first > 0 => "quadratic",
            _ => "other",
        };
        list.push(Growth { key, value, doubled: twice as f64 / once as f64, order });
    }
    list.sort_by(|a, b| b.doubled.total_cmp(&a.doubled));
    Ok(list)
}
