//! The names of an index against the blueprint, where the shards themselves are not there.
//!
//! Only names are known then: what the configuration leads to must be listed, and what is listed must follow from it,
//! or be what packing and older programs store beside weights.

use foldhash::{HashMap, HashSet};

use super::groups::{self, Beginnings};
use super::layout::{self, PACKED, prefixed};
use super::rules::{HEAD_STORED_AGAIN, NAMES_PREFIXED, TABLES_STORED, TENSOR_MISSING, TENSOR_UNEXPECTED, is_norm};
use super::total::{self, Sum};
use crate::analysis::NORM_MISSING;
use crate::atlas::{Blueprint, Expected};
use crate::finding::{Finding, Findings};
use crate::model::{FileRole, Model, stated_total};
use crate::names::{self, Role, Stack};

/// How the tensors of a blueprint are found in an index.
#[derive(Default)]
struct Placed<'b> {
    /// Places of the names that hold them.
    used: HashSet<usize>,
    /// Their own names.
    known: HashSet<String>,
    missing: Vec<(String, &'b Expected)>,
    sum: Sum,
}

/// Finds each tensor by its name, an alias, what packing makes of it, or another layout.
fn place<'b>(blueprint: &'b Blueprint, names: &HashMap<String, usize>) -> Placed<'b> {
    let stored = |name: &str| {
        let as_packed = |(end, plain): &(&str, &str)| {
            let stem = name.strip_suffix(plain).filter(|_| !plain.is_empty()).or(plain.is_empty().then_some(name))?;
            names.get(&format!("{stem}{end}")).copied()
        };
        let whole = names.get(name).map(|place| (*place, false));
        whole.or_else(|| Some((PACKED.iter().find_map(as_packed)?, true)))
    };
    let mut out = Placed::default();
    for row in &blueprint.tensors {
        for number in 0..row.count {
            let spelled = || std::iter::once(row.name(number)).chain(row.aliases(number));
            if let Some(((place, packed), name)) = spelled().find_map(|name| Some((stored(&name)?, name))) {
                out.used.insert(place);
                out.known.insert(name);
                out.sum.add(row);
                out.sum.open |= packed;
                continue;
            }
            if let Some(parts) =
                spelled().find_map(|name| layout::find(&name, &row.shape, &|name| stored(name).is_some()))
            {
                out.used.extend(parts.iter().filter_map(|name| stored(name)).map(|(place, _)| place));
                out.known.extend(parts);
                out.sum.open = true;
            } else if row.optional.is_none() && !row.shape.contains(&0) {
                out.missing.push((row.name(number), row));
            }
        }
    }
    out
}

/// Compares; gives how many of the names are explained.
pub(super) fn compare(model: &Model, blueprint: &Blueprint, listed: &[String], findings: &mut Findings) -> usize {
    // What was fine-tuned with adapters lies one word deeper.
    let mut plain: Vec<String> = listed.iter().map(|name| without_wrapper(name)).collect();
    let mut names: HashMap<String, usize> =
        plain.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
    let mut placed = place(blueprint, &names);
    if placed.missing.len() > placed.used.len()
        && let Some((message, renamed)) = prefixed(blueprint, &names)
    {
        findings.push(Finding::new(&NAMES_PREFIXED, message));
        for (name, place) in &renamed {
            if let Some(plain) = plain.get_mut(*place) {
                plain.clone_from(name);
            }
        }
        names = renamed;
        placed = place(blueprint, &names);
    }
    let Placed { mut used, known, missing, mut sum } = placed;
    tell_missing(&missing, &plain, findings);
    let parts = names::parse_all(plain.iter().map(String::as_str));
    let (mut tables, mut heads, mut strange) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (name, part)) in plain.iter().zip(&parts).enumerate() {
        let aside = part.stack == Stack::NextToken || part.stack == Stack::Training || part.role == Role::Adapter;
        if used.contains(&place) {
            continue;
        }
        if aside || is_beside(name, &known, &names) {
            used.insert(place);
            sum.open = true;
        } else if part.buffer {
            tables.push(name);
        } else if part.role == Role::Head && TIED_HEADS.iter().any(|head| name.ends_with(head)) {
            heads.push(name);
        } else {
            strange.push(name.as_str());
        }
    }
    for name in &tables {
        sum.add_table(name, model.config.as_ref());
    }
    sum.open |= !strange.is_empty();
    if !strange.is_empty() {
        let rows = blueprint.tensors.iter().flat_map(|row| (0..row.count).map(|number| row.name(number)));
        let rows: Vec<String> = rows.chain(known.iter().cloned()).collect();
        let beginnings = Beginnings::of(rows.iter().map(String::as_str));
        for group in groups::group(&strange, &beginnings) {
            let follows = if group.members.len() == 1 { "which follows" } else { "which follow" };
            let message = format!("the index lists {}, {follows} from nothing in the configuration", group.words());
            findings.push(Finding::new(&TENSOR_UNEXPECTED, message).tensor(group.first));
        }
    }
    if let Some(first) = heads.first() {
        let message = format!("{first} is listed, though the configuration does not ask for it");
        findings.push(Finding::new(&HEAD_STORED_AGAIN, message).tensor(first.as_str()));
        // It is the embedding.
        let embedding = blueprint.tensors.iter().find(|row| row.role == Role::Embedding && row.shape.len() == 2);
        match embedding.filter(|_| heads.len() == 1) {
            Some(row) => sum.add_tied(row),
            None => sum.open = true,
        }
    }
    if let Some(first) = tables.first() {
        let message = match tables.len() {
            1 => format!("{first} is a table that loaders compute themselves"),
            count => format!("{count} tables that loaders compute themselves are listed, the first {first}"),
        };
        findings.push(Finding::new(&TABLES_STORED, message).tensor(first.as_str()));
    }
    let mut indexes = model.files.iter().filter(|file| file.role == FileRole::Index);
    if let (Some(file), None, Some(config)) = (indexes.next(), indexes.next(), &model.config)
        && let Some(stated) = stated_total(&file.source)
    {
        total::check(stated, &sum, listed.len(), config, &file.path, findings);
    }
    used.len() + tables.len() + heads.len()
}

/// Endings of the names of heads that are the embedding, stored again.
const TIED_HEADS: [&str; 4] =
    ["lm_head.weight", "predictions.decoder.weight", "predictions.decoder.bias", "lm_head.decoder.weight"];

/// A name without the words in which adapters wrap a module.
fn without_wrapper(name: &str) -> String {
    let inner = name.strip_prefix("base_model.model.").unwrap_or(name);
    inner.replace(".base_layer.", ".").replace(".original_module.", ".")
}

/// Tells what is not listed, norms first: a whole part at once.
fn tell_missing(missing: &[(String, &Expected)], listed: &[String], findings: &mut Findings) {
    if missing.is_empty() {
        return;
    }
    let beginnings = Beginnings::of(listed.iter().map(String::as_str));
    let wanted: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let norm = |index: &usize| missing.get(*index).is_some_and(|(name, row)| is_norm(name, row));
    let mut groups = groups::group(&wanted, &beginnings);
    groups.sort_by_key(|group| !group.members.iter().all(norm));
    for group in groups {
        let rule = if group.members.iter().all(norm) { &NORM_MISSING } else { &TENSOR_MISSING };
        let shape = group.members.first().and_then(|index| missing.get(*index)).map(|(_, row)| &row.shape);
        let shape = shape.filter(|_| group.members.len() == 1).map(|shape| format!(" {shape:?}")).unwrap_or_default();
        let message = format!("the index does not list {}{shape}, which the configuration asks for", group.words());
        findings.push(Finding::new(rule, message).tensor(group.first));
    }
}

/// Whether a name is that of a scale, a zero point, an order or a bias beside a packed weight that is known.
fn is_beside(name: &str, known: &HashSet<String>, places: &HashMap<String, usize>) -> bool {
    let Some((stem, last)) = name.rsplit_once('.') else { return false };
    if crate::packing::is_cache_scale(last) {
        return true;
    }
    let sides = crate::packing::is_side_word(last) || last.starts_with("bitsandbytes__");
    // GPTQ gives every layer that it packs a bias.
    let bias = last == "bias" && places.contains_key(&format!("{stem}.qweight"));
    let stem = stem.strip_suffix(".quant_state").unwrap_or(stem);
    (sides || bias) && (known.contains(stem) || known.contains(&format!("{stem}.weight")))
}
