//! The tensors of a model against the blueprint of its configuration.
//!
//! A difference is told once, and as what it most likely is: one number of the configuration that explains every
//! difference is one finding, not one for each tensor; a missing tensor beside an unknown one of its shape is a renamed
//! one. What checkpoints carry beside their weights (scales, rotary tables, masks, next-token-prediction layers, a tied
//! head stored again) is understood.
//!
//! Of a shard that is missing, the index still tells the names: they are compared like the others, without a shape.

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use serde_json::Value as Json;

use super::Check;
use super::layout::{PACKED, prefixed};
use super::rules::{
    CONFIG_IMPOSSIBLE, CONFIG_NUMBER_WRONG, FAMILY_UNKNOWN, HEAD_STORED_AGAIN, NAMES_PREFIXED, TABLES_STORED,
    TENSOR_MISSING, TENSOR_RENAMED, TENSOR_SHAPE, TENSOR_UNEXPECTED, VOCABULARY_PADDED, is_norm,
};
use crate::analysis::{Analysis, NORM_MISSING};
use crate::atlas::{Atlas, Blueprint, Expected, with_value};
use crate::dtype::Class;
use crate::error::{ErrorKind, Result};
use crate::finding::{Finding, Findings};
use crate::model::Model;
use crate::names::{self, Part, Role, Stack};
use crate::tensor::elements;

/// Blueprints that are built in search of the number that is wrong.
const MOST_TRIALS: usize = 400;
/// Tensors in all of them together.
const MOST_TRIED: usize = 20_000_000;

/// Compares, and adds what was found.
pub(super) fn check(analysis: &Analysis, atlas: &Atlas, check: &mut Check) {
    let model = analysis.model;
    let listed = if model.is_incomplete() { model.listed_names() } else { Vec::new() };
    if analysis.rows.is_empty() && listed.is_empty() {
        check.not_compared = Some("there are no tensors to compare".to_string());
        return;
    }
    if !analysis.rows.is_empty() && analysis.rows.iter().all(|row| row.part.role == Role::Adapter || row.logical.side) {
        check.not_compared = Some("an adapter holds what is added to a model, not the model".to_string());
        return;
    }
    let Some(blueprint) = blueprint(model, None, atlas) else {
        check.not_compared = Some("neither a configuration nor metadata says what should be there".to_string());
        return;
    };
    let blueprint = match blueprint {
        Ok(blueprint) => blueprint,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            check.not_compared = Some(error.message().to_string());
            let names = analysis.rows.iter().filter(|row| row.part.stack != Stack::Training);
            let names = names.map(|row| row.tensor.name.as_str()).chain(listed.iter().map(String::as_str));
            let like = atlas.like_names(names, model.gguf().is_some());
            let words: Vec<&str> =
                [Some(error.message()), error.remedy(), like.as_deref()].into_iter().flatten().collect();
            check.findings.push(Finding::new(&FAMILY_UNKNOWN, words.join("; ")));
            return;
        }
        Err(error) => {
            check.not_compared = Some(error.message().to_string());
            check.findings.push(Finding::new(&CONFIG_IMPOSSIBLE, error.message()));
            return;
        }
    };
    check.family = Some(blueprint.family.clone());
    check.listed = (!listed.is_empty()).then_some(listed.len());
    let mut findings = Findings::new();
    let mut held = Held::new(analysis, &listed);
    if let Some((message, renamed)) = prefixed(&blueprint, &held.names) {
        held.names = renamed;
        findings.push(Finding::new(&NAMES_PREFIXED, message));
    }
    // What is missing from a file that was cut, or from a shard that no index lists, has been said.
    let cut = check.findings.iter().any(|finding| finding.rule.means_cut());
    let partly = listed.is_empty() && (cut || model.is_incomplete());
    let mut differences = compare(&blueprint, &held, partly);
    if differences.are_many()
        && let Some((finding, rest)) = one_number(model, atlas, &blueprint, &held, &differences, partly)
    {
        findings.push(finding);
        differences = rest;
    } else if analysis.rows.is_empty() && !differences.is_a_rename() {
        // Of names alone, layouts, parts and totals tell more than single names do.
        let mut findings = Findings::new();
        check.explained = super::listed::compare(model, &blueprint, &listed, &mut findings);
        check.findings.extend(findings.finish());
        return;
    }
    check.explained = differences.explained;
    tell(&differences, &held, &mut findings);
    check.findings.extend(findings.finish());
}

/// The blueprint of a model, with one key of its configuration changed where that is asked for.
fn blueprint(model: &Model, change: Option<(&str, &Json)>, atlas: &Atlas) -> Option<Result<Blueprint>> {
    if let Some(file) = model.gguf() {
        let metadata = &file.container.metadata;
        return match change {
            None => Some(atlas.blueprint_of_gguf(metadata).map(|mut blueprint| {
                let tensors = model.files.iter().flat_map(|file| &file.container.tensors);
                let names = tensors.map(|tensor| tensor.name.as_str());
                blueprint.divide(metadata, names.clone());
                blueprint.settle(names);
                blueprint
            })),
            Some(_) => None,
        };
    }
    let config = model.config.as_ref()?;
    let Some((key, value)) = change else { return Some(atlas.blueprint(config)) };
    let config = with_value(config, key, value.clone());
    Some(atlas.blueprint(&config))
}

/// A tensor that is there, or the name of one that is in a missing shard.
struct Entry<'m> {
    name: &'m str,
    /// Dimensions of the numbers that it stands for, where they are known.
    shape: Option<&'m [u64]>,
    part: Part,
    /// Scales and the like, which stand for no numbers of their own.
    side: bool,
    /// Whole numbers that are no packed weight.
    table: bool,
    /// Only an index tells of it.
    listed: bool,
}

/// What is there.
struct Held<'m> {
    entries: Vec<Entry<'m>>,
    /// Names, and for packed weights the name of what they stand for, with the index of the entry.
    names: HashMap<String, usize>,
}

impl<'m> Held<'m> {
    fn new(analysis: &'m Analysis, listed: &'m [String]) -> Self {
        let mut names = HashMap::with_capacity(analysis.rows.len() + listed.len());
        let mut entries = Vec::with_capacity(analysis.rows.len() + listed.len());
        let mut add = |entry: Entry<'m>, packed: bool| {
            let index = entries.len();
            let plain = |(end, plain): &(&str, &str)| Some(format!("{}{plain}", entry.name.strip_suffix(end)?));
            if let Some(plain) = PACKED.iter().find_map(plain).filter(|_| packed) {
                names.entry(plain).or_insert(index);
            }
            names.insert(entry.name.to_string(), index);
            entries.push(entry);
        };
        let mut read: HashSet<&str> = HashSet::new();
        for row in &analysis.rows {
            let name = row.tensor.name.as_str();
            if !listed.is_empty() {
                read.insert(name);
            }
            if row.part.stack == Stack::Training {
                continue;
            }
            let packed = row.logical.scheme.is_some();
            let entry = Entry {
                name,
                // A packed weight whose shape is not known stands for what was asked for.
                shape: (!packed || row.logical.shape.is_some()).then(|| row.logical_shape()),
                part: row.part,
                side: row.logical.side,
                table: row.tensor.dtype.class() != Class::Float && !packed,
                listed: false,
            };
            add(entry, packed && !row.logical.side);
        }
        let listed: Vec<&str> = listed.iter().map(String::as_str).filter(|name| !read.contains(name)).collect();
        for (name, part) in listed.iter().zip(names::parse_all(listed.iter().copied())) {
            if part.stack != Stack::Training {
                add(Entry { name, shape: None, part, side: false, table: false, listed: true }, true);
            }
        }
        Held { entries, names }
    }

    fn entry(&self, name: &str) -> Option<(usize, &Entry<'m>)> {
        let index = *self.names.get(name)?;
        Some((index, self.entries.get(index)?))
    }

    fn name(&self, index: usize) -> &'m str {
        self.entries.get(index).map(|entry| entry.name).unwrap_or_default()
    }

    /// Whether a name is that of a scale, a zero point or an order beside a weight that follows from the configuration.
    fn is_beside(&self, name: &str, used: &HashSet<usize>) -> bool {
        let Some((stem, last)) = name.rsplit_once('.') else { return false };
        let side = crate::packing::is_side_word(last) || last.starts_with("bitsandbytes__");
        let stem = stem.strip_suffix(".quant_state").unwrap_or(stem);
        let of = |name: &str| self.names.get(name).is_some_and(|index| used.contains(index));
        side && (of(stem) || of(&format!("{stem}.weight")))
    }
}

/// What differs between a blueprint and the tensors that are there.
#[derive(Default)]
struct Differences<'b> {
    /// Name and shape.
    missing: Vec<(String, &'b Expected)>,
    /// Index of the entry, and what was expected.
    shapes: Vec<(usize, &'b Expected)>,
    /// Indices of entries that nothing explains.
    extra: Vec<usize>,
    /// Indices of entries that are understood, but worth a word.
    tables: Vec<usize>,
    head: Option<usize>,
    padded: Vec<(usize, u64)>,
    /// Entries that follow from the configuration, and what is stored beside them.
    explained: usize,
}

impl Differences<'_> {
    fn count(&self) -> usize {
        self.missing.len() + self.shapes.len() + self.extra.len()
    }

    /// Whether one tensor has another name, and nothing else differs.
    fn is_a_rename(&self) -> bool {
        self.missing.len() == 1 && self.extra.len() == 1 && self.shapes.is_empty()
    }

    /// Whether one number of the configuration may be behind them all.
    fn are_many(&self) -> bool {
        self.count() > 1 || !self.shapes.is_empty()
    }
}

/// `partly`: files are missing, so absent tensors are no news.
fn compare<'b>(blueprint: &'b Blueprint, held: &Held, partly: bool) -> Differences<'b> {
    let mut out = Differences::default();
    let mut used: HashSet<usize> = HashSet::with_capacity(held.entries.len());
    for row in &blueprint.tensors {
        for number in 0..row.count {
            let name = row.name(number);
            let mut found = held.entry(&name);
            if found.is_none() {
                found = row.aliases(number).iter().find_map(|alias| held.entry(alias));
            }
            let Some((index, entry)) = found else {
                // A tensor without elements is not missed by anyone.
                if row.optional.is_none() && !partly && !row.shape.contains(&0) {
                    out.missing.push((name, row));
                }
                continue;
            };
            used.insert(index);
            let flat =
                |shape: &[u64]| row.flat && shape.len() < row.shape.len() && elements(shape) == elements(&row.shape);
            match entry.shape {
                None => out.explained += 1,
                Some(shape) if *shape == *row.shape || flat(shape) || squeezed(shape) == squeezed(&row.shape) => {
                    out.explained += 1;
                }
                Some(shape) => match padding(row, shape) {
                    Some(rows) => {
                        out.explained += 1;
                        out.padded.push((index, rows));
                    }
                    None => out.shapes.push((index, row)),
                },
            }
        }
    }
    let embedding = blueprint.tensors.iter().find(|row| row.role == Role::Embedding && row.shape.len() == 2);
    for (index, entry) in held.entries.iter().enumerate() {
        if used.contains(&index) {
            continue;
        }
        let Entry { name, shape, part, .. } = entry;
        match () {
            () if part.buffer => out.tables.push(index),
            () if entry.side || (entry.listed && held.is_beside(name, &used)) => out.explained += 1,
            () if part.stack == Stack::NextToken || part.role == Role::Adapter => {}
            () if entry.table => out.tables.push(index),
            () if part.role == Role::Head
                && shape.map_or(name.ends_with("lm_head.weight"), |shape| {
                    embedding.is_some_and(|embedding| *embedding.shape == *shape)
                }) =>
            {
                out.head = Some(index);
            }
            // GPTQ gives every layer that it packs a bias.
            () if name
                .strip_suffix(".bias")
                .is_some_and(|base| held.names.contains_key(&format!("{base}.qweight"))) =>
            {
                out.explained += 1;
            }
            () => out.extra.push(index),
        }
    }
    out
}

/// A shape without its dimensions of 1.
fn squeezed(shape: &[u64]) -> Vec<u64> {
    shape.iter().copied().filter(|size| *size != 1).collect()
}

/// How many rows a vocabulary was padded by, where that is what it looks like.
fn padding(expected: &Expected, shape: &[u64]) -> Option<u64> {
    if !matches!(expected.role, Role::Embedding | Role::Head) {
        return None;
    }
    let ([wanted, columns @ ..], [rows, others @ ..]) = (&*expected.shape, shape) else { return None };
    let more = rows.checked_sub(*wanted)?;
    (columns == others && *wanted >= 1000 && more < 1024 && rows.is_multiple_of(64)).then_some(more)
}

/// The numbers of the configuration that, changed alone, explain the differences.
fn one_number<'b>(
    model: &Model,
    atlas: &Atlas,
    blueprint_before: &'b Blueprint,
    held: &Held,
    before: &Differences<'b>,
    partly: bool,
) -> Option<(Finding, Differences<'b>)> {
    let config = model.config.as_ref().filter(|_| model.gguf().is_none())?;
    let budget = MOST_TRIED / blueprint_before.count().max(1);
    let mut trials = MOST_TRIALS.min(budget);
    // Sizes that the tensors have: where shapes differ, and how many layers and experts there are.
    let mut sizes: Vec<u64> = Vec::new();
    let mut ratios: Vec<(u64, u64)> = Vec::new();
    for (index, expected) in &before.shapes {
        let shape = held.entries.get(*index).and_then(|entry| entry.shape).unwrap_or_default();
        for (actual, wanted) in shape.iter().zip(expected.shape.iter()) {
            if actual != wanted {
                sizes.push(*actual);
                ratios.push((*actual, *wanted));
            }
        }
    }
    let most =
        |number: &dyn Fn(&Part) -> Option<u32>| held.entries.iter().filter_map(|entry| number(&entry.part)).max();
    let main = |part: &Part| part.layer.filter(|_| matches!(part.stack, Stack::Main | Stack::Encoder | Stack::Vision));
    sizes.extend(most(&main).map(|layer| u64::from(layer) + 1));
    sizes.extend(most(&|part| part.expert).map(|expert| u64::from(expert) + 1));
    let routers = held.entries.iter().filter(|entry| entry.part.role == Role::Router);
    sizes.extend(routers.filter_map(|entry| entry.shape?.first().copied()));
    sizes.sort_unstable();
    sizes.dedup();
    ratios.sort_unstable();
    ratios.dedup();
    let mut fitting: Vec<(String, Json, Json)> = Vec::new();
    let mut keys = blueprint_before.keys.clone();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let Some(stated) = crate::atlas::value_at(config, &key) else { continue };
        let mut values: Vec<Json> = Vec::new();
        match stated {
            Json::Bool(value) => values.push(Json::Bool(!value)),
            Json::Number(number) => {
                let Some(number) = number.as_u64() else { continue };
                let scaled = ratios.iter().filter_map(|(actual, wanted)| {
                    let product = number.checked_mul(*actual)?;
                    product.is_multiple_of(*wanted).then(|| product / wanted)
                });
                let nearby = [number.checked_add(1), number.checked_sub(1)].into_iter().flatten();
                let mut all: Vec<u64> = scaled.chain(sizes.iter().copied().take(24)).chain(nearby).collect();
                all.retain(|value| *value != number);
                all.sort_unstable();
                all.dedup();
                values.extend(all.into_iter().map(Json::from));
            }
            _ => continue,
        }
        for value in values {
            if trials == 0 {
                break;
            }
            trials -= 1;
            let Some(Ok(other)) = blueprint(model, Some((&key, &value)), atlas) else { continue };
            if compare(&other, held, partly).count() == 0 {
                fitting.push((key, stated.clone(), value));
                break;
            }
        }
    }
    let (key, stated, value) = fitting.first()?;
    let mut message = format!("{key} is {stated} in the configuration, but the tensors are those of {value}");
    for (key, stated, value) in fitting.iter().skip(1).take(2) {
        message.push_str(&format!(" (or {key} is {stated} and should be {value})"));
    }
    let count = before.count();
    let fit = if count == 1 { "tensor does" } else { "tensors do" };
    message.push_str(&format!("; {count} {fit} not fit as it stands"));
    let finding = Finding::new(&CONFIG_NUMBER_WRONG, message);
    // Under the right number nothing differs; what is odd all the same was found already.
    let rest = Differences {
        tables: before.tables.clone(),
        head: before.head,
        explained: held.entries.len(),
        ..Differences::default()
    };
    Some((finding, rest))
}

/// Differences as findings, the worst first.
fn tell(differences: &Differences, held: &Held, findings: &mut Findings) {
    let mut extra: Vec<usize> = differences.extra.clone();
    let name = |index: usize| held.name(index);
    let shape_of = |index: usize| held.entries.get(index).and_then(|entry| entry.shape);
    let mut missing: Vec<&(String, &Expected)> = differences.missing.iter().collect();
    missing.sort_by_key(|(wanted, row)| !is_norm(wanted, row));
    let mut absent = Vec::new();
    for (wanted, row) in missing {
        let same_shape = |index: &usize| shape_of(*index).is_none_or(|shape| *shape == *row.shape);
        let alike: Vec<usize> = extra.iter().copied().filter(same_shape).take(1000).collect();
        let best = match alike.as_slice() {
            [] => None,
            [one] if extra.len() == 1 && shape_of(*one).is_some() => Some(name(*one)),
            _ => crate::atlas::nearest(wanted, alike.iter().map(|index| name(*index))),
        };
        match best.and_then(|best| extra.iter().position(|index| name(*index) == best)) {
            Some(place) => {
                let index = extra.remove(place);
                let found = name(index).to_string();
                let alike = if shape_of(index).is_some() { "has its shape" } else { "has a name like it" };
                let message = format!("{wanted} is missing, and {found}, which nothing asks for, {alike}");
                findings.push(Finding::new(&TENSOR_RENAMED, message).tensor(found));
            }
            None => absent.push((wanted, row)),
        }
    }
    for (wanted, row) in absent {
        let rule = if is_norm(wanted, row) { &NORM_MISSING } else { &TENSOR_MISSING };
        let mut message = format!("{wanted} {:?} is missing", row.shape);
        if row.role == Role::Head {
            message.push_str(", unless the head is meant to be the embedding (tie_word_embeddings)");
        }
        findings.push(Finding::new(rule, message).tensor(wanted.as_str()));
    }
    for (index, expected) in &differences.shapes {
        let Some(shape) = shape_of(*index) else { continue };
        let mut sorted = (shape.to_vec(), expected.shape.to_vec());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        let transposed = if sorted.0 == sorted.1 { ": it was transposed" } else { "" };
        let message = format!("{} is {shape:?}, not {:?}{transposed}", name(*index), expected.shape);
        findings.push(Finding::new(&TENSOR_SHAPE, message).tensor(name(*index)));
    }
    for index in extra {
        let shape = shape_of(index).map(|shape| format!(" {shape:?}")).unwrap_or_default();
        let message = format!("{}{shape} follows from nothing in the configuration", name(index));
        findings.push(Finding::new(&TENSOR_UNEXPECTED, message).tensor(name(index)));
    }
    if let Some(index) = differences.head {
        let message = format!("{} is stored, though the head is the embedding", name(index));
        findings.push(Finding::new(&HEAD_STORED_AGAIN, message).tensor(name(index)));
    }
    if let Some(first) = differences.tables.first() {
        let message = match differences.tables.len() {
            1 => format!("{} is a table that loaders compute themselves", name(*first)),
            count => format!("{count} tables that loaders compute themselves are stored, the first {}", name(*first)),
        };
        findings.push(Finding::new(&TABLES_STORED, message).tensor(name(*first)));
    }
    if let Some((index, more)) = differences.padded.first() {
        let message = format!("{} has {more} rows more than the stated vocabulary, up to a round number", name(*index));
        findings.push(Finding::new(&VOCABULARY_PADDED, message).tensor(name(*index)));
    }
}
