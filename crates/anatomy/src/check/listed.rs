//! The names of an index against the blueprint, where the shards themselves are not there.
//!
//! Only names are known then: what the configuration leads to must be listed, and what is listed must follow from it,
//! or be what packing and older programs store beside weights.

use foldhash::{HashMap, HashSet, HashSetExt};

use super::structure::{HEAD_STORED_AGAIN, PACKED, TABLES_STORED, TENSOR_MISSING, TENSOR_UNEXPECTED, is_norm};
use crate::analysis::NORM_MISSING;
use crate::atlas::Blueprint;
use crate::finding::{Finding, Findings};
use crate::model::{FileRole, Model, read_index};
use crate::names::{self, Role, Stack};

/// Every name that the indexes of the model list.
pub(super) fn names(model: &Model) -> Vec<String> {
    let mut all = Vec::new();
    for file in model.files.iter().filter(|file| file.role == FileRole::Index) {
        if let Ok(index) = read_index(&file.source) {
            all.extend(index.weight_map.into_iter().map(|(name, _)| name));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Compares; gives how many of the names are explained.
pub(super) fn compare(blueprint: &Blueprint, listed: &[String], findings: &mut Findings) -> usize {
    let places: HashMap<&str, usize> = listed.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let packed = |name: &str| {
        let as_packed = |(end, plain): &(&str, &str)| {
            let stem = name.strip_suffix(plain).filter(|_| !plain.is_empty()).or(plain.is_empty().then_some(name))?;
            places.get(format!("{stem}{end}").as_str()).copied()
        };
        places.get(name).copied().or_else(|| PACKED.iter().find_map(as_packed))
    };
    let mut used: HashSet<usize> = HashSet::with_capacity(listed.len());
    let mut known: HashSet<String> = HashSet::with_capacity(listed.len());
    let mut missing = Vec::new();
    for row in &blueprint.tensors {
        for number in 0..row.count {
            let name = row.name(number);
            let found =
                std::iter::once(name.clone()).chain(row.aliases(number)).find_map(|name| Some((packed(&name)?, name)));
            match found {
                Some((place, name)) => {
                    used.insert(place);
                    known.insert(name);
                }
                None if row.optional.is_none() && !row.shape.contains(&0) => missing.push((name, row)),
                None => {}
            }
        }
    }
    missing.sort_by_key(|(name, row)| !is_norm(name, row));
    for (name, row) in missing {
        let rule = if is_norm(&name, row) { &NORM_MISSING } else { &TENSOR_MISSING };
        let message = format!("the index does not list {name} {:?}, which the configuration asks for", row.shape);
        findings.push(Finding::new(rule, message).tensor(name));
    }
    let parts = names::parse_all(listed.iter().map(String::as_str));
    let (mut tables, mut heads) = (Vec::new(), Vec::new());
    for (place, (name, part)) in listed.iter().zip(&parts).enumerate() {
        let aside = part.stack == Stack::NextToken || part.stack == Stack::Training || part.role == Role::Adapter;
        if aside || used.contains(&place) || is_beside(name, &known, &places) {
            used.insert(place);
        } else if part.buffer {
            tables.push(name);
        } else if part.role == Role::Head && name.ends_with("lm_head.weight") {
            heads.push(name);
        } else {
            let message = format!("the index lists {name}, which follows from nothing in the configuration");
            findings.push(Finding::new(&TENSOR_UNEXPECTED, message).tensor(name.as_str()));
        }
    }
    if let Some(first) = heads.first() {
        let message = format!("{first} is listed, though the configuration does not ask for it");
        findings.push(Finding::new(&HEAD_STORED_AGAIN, message).tensor(first.as_str()));
    }
    if let Some(first) = tables.first() {
        let message = match tables.len() {
            1 => format!("{first} is a table that loaders compute themselves"),
            count => format!("{count} tables that loaders compute themselves are listed, the first {first}"),
        };
        findings.push(Finding::new(&TABLES_STORED, message).tensor(first.as_str()));
    }
    used.len() + tables.len() + heads.len()
}

/// Whether a name is that of a scale, a zero point, an order or a bias beside a packed weight that is known.
fn is_beside(name: &str, known: &HashSet<String>, places: &HashMap<&str, usize>) -> bool {
    let Some((stem, last)) = name.rsplit_once('.') else { return false };
    let sides = crate::packing::is_side_word(last) || last.starts_with("bitsandbytes__");
    // GPTQ gives every layer that it packs a bias.
    let bias = last == "bias" && places.contains_key(format!("{stem}.qweight").as_str());
    let stem = stem.strip_suffix(".quant_state").unwrap_or(stem);
    (sides || bias) && (known.contains(stem) || known.contains(&format!("{stem}.weight")))
}
