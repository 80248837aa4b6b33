//! From names and shapes back to the family: which data files explain every tensor, with sizes that agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use indexmap::IndexMap;
use minijinja::Value;
use rayon::prelude::*;

use super::expression::Code;
use super::family::{Default_, Family, Include, Part};
use super::scope::Scope;
use super::{Atlas, table};
use crate::architecture::Witness;
use crate::names::{Role, Stack};

/// Families inside of families.
const MAX_DEPTH: usize = 3;

/// Names that differ in nothing but numbers.
#[derive(Debug, Default)]
struct Group {
    /// Shapes that they have.
    shapes: BTreeSet<Vec<u64>>,
    /// First numbers of the names: of repeated names, the layers.
    first: BTreeSet<u64>,
}

/// The tensors of a model by pattern.
type Groups = BTreeMap<String, Group>;

/// Replaces each word that is a number by `*`, and the number of words such as `expert_7`; gives the first number.
pub(super) fn pattern(name: &str) -> (String, Option<u64>) {
    let mut out = String::with_capacity(name.len());
    let mut first = None;
    for (index, word) in name.split('.').enumerate() {
        if index > 0 {
            out.push('.');
        }
        match word.parse::<u64>() {
            Ok(number) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                first = first.or(Some(number));
                out.push('*');
            }
            _ => match word.rsplit_once('_') {
                Some((counted @ ("expert" | "shard"), number))
                    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*') =>
                {
                    out.push_str(counted);
                    out.push_str("_*");
                }
                _ => out.push_str(word),
            },
        }
    }
    (out, first)
}

/// The last two words of a pattern, where neither is a number.
fn end(pattern: &str) -> Option<String> {
    let words: Vec<&str> = pattern.rsplit('.').take(2).collect();
    let [last, before] = words.as_slice() else { return None };
    let fixed = |word: &&str| !word.contains('*');
    (fixed(last) && fixed(before)).then(|| format!("{before}.{last}"))
}

impl Atlas {
    /// The families whose files explain every one of these tensors, those that leave least unused first.
    ///
    /// Tables that old checkpoints carry, next-token-prediction layers and adapters are left aside.
    pub fn candidates(&self, tensors: &[Witness]) -> Vec<String> {
        let mut groups = Groups::new();
        for (name, shape, part) in tensors {
            let aside = part.buffer || part.stack == Stack::NextToken || part.stack == Stack::Training;
            if aside || part.role == Role::Adapter {
                continue;
            }
            let (pattern, first) = pattern(name);
            let group = groups.entry(pattern).or_default();
            group.shapes.insert(shape.to_vec());
            group.first.extend(first);
        }
        if groups.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = self.names().filter(|name| !name.starts_with("gguf/")).collect();
        // A look at the ends of names spares most files from being parsed.
        let ends: BTreeSet<String> = groups.keys().filter_map(|name| end(name)).collect();
        let likely = names.par_iter().filter(|name| self.is_changed() || super::may_end(name, &ends));
        let likely: Vec<Arc<Family>> = likely.filter_map(|name| self.family(name).ok()).collect();
        // What is inside of another family may be any.
        let nested = likely.iter().any(|family| !family.include.is_empty());
        let all = names.par_iter().filter(|_| nested).filter_map(|name| self.family(name).ok());
        let all: Vec<Arc<Family>> = all.collect();
        let found = likely.par_iter().filter_map(|family| {
            let unused = Matcher { atlas: self, all: &all }.fits(family, &groups, 0)?;
            Some((unused, family.name.clone()))
        });
        let mut found: Vec<(usize, String)> = found.collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }
}

/// What rows under one condition have in common.
#[derive(Default)]
struct Together {
    present: Option<bool>,
    layers: Option<BTreeSet<u64>>,
}

struct Matcher<'a> {
    atlas: &'a Atlas,
    /// Every family, where one is searched for within another.
    all: &'a [Arc<Family>],
}

impl Matcher<'_> {
    /// How many rows of the family stay unused, where it explains all tensors.
    fn fits(&self, family: &Family, groups: &Groups, depth: usize) -> Option<usize> {
        let mut explained: BTreeSet<&str> = BTreeSet::new();
        let unused = self.explain(family, groups, depth, &|_| false, &mut explained)?;
        groups.keys().all(|name| explained.contains(name.as_str())).then_some(unused)
    }

    /// Marks what the family explains; `None` where something that it must have is missing or has another shape.
    fn explain<'g>(
        &self,
        family: &Family,
        groups: &'g Groups,
        depth: usize,
        left_out: &dyn Fn(&str) -> bool,
        explained: &mut BTreeSet<&'g str>,
    ) -> Option<usize> {
        let mut unused = 0;
        let mut sizes = Sizes::default();
        let mut layered = None;
        // Names of which several rows may speak, in other layers each or by a number of their own: they are explained,
        // but their shapes and layers say nothing of one row.
        let mut spoken: HashMap<String, usize> = HashMap::new();
        for part in family.part.values() {
            for row in &part.rows {
                for name in spellings(family, part, &row.name, &row.more.alias) {
                    *spoken.entry(name).or_default() += 1;
                }
            }
        }
        for part in family.part.values() {
            let loops = part.loops.is_some();
            // Rows under one condition stand or fall together, and in the same layers.
            let mut together: HashMap<(&Option<String>, bool), Together> = HashMap::new();
            for row in &part.rows {
                let mut present = false;
                let mut shared = false;
                let mut layers: BTreeSet<u64> = BTreeSet::new();
                let names = spellings(family, part, &row.name, &row.more.alias);
                if names.first().is_some_and(|name| left_out(name)) {
                    continue;
                }
                for name in names {
                    let Some((key, group)) = groups.get_key_value(&name) else { continue };
                    present = true;
                    explained.insert(key);
                    if spoken.get(&name).is_some_and(|rows| *rows > 1) {
                        shared = true;
                        continue;
                    }
                    for shape in &group.shapes {
                        sizes.hear(&row.shape, shape)?;
                    }
                    let alone = part
                        .each
                        .keys()
                        .chain(row.more.each.keys())
                        .all(|inner| !row.name.contains(&format!("{{{inner}}}")));
                    if loops && alone {
                        layers.extend(&group.first);
                    }
                }
                if !layers.is_empty() {
                    match &mut together.entry((&row.more.when, false)).or_default().layers {
                        Some(others) if *others != layers => return None,
                        Some(_) => {}
                        none => *none = Some(layers),
                    }
                }
                unused += usize::from(!present);
                if row.more.may_lack().is_some() || row.more.buffer || row.more.integers || shared {
                    continue;
                }
                let must = row.more.when.is_none() && part.when.is_none() && !loops;
                if must && !present {
                    return None;
                }
                let inner = part
                    .each
                    .keys()
                    .chain(row.more.each.keys())
                    .any(|inner| row.name.contains(&format!("{{{inner}}}")));
                let all = &mut together.entry((&row.more.when, inner)).or_default().present;
                match all {
                    Some(all) if *all != present => return None,
                    Some(_) => {}
                    None => *all = Some(present),
                }
                if part.loops.as_ref().is_some_and(|loops| loops.contains_key("layer")) {
                    layered = Some(layered.unwrap_or(false) || present);
                }
            }
        }
        // A family of layers without a layer is none.
        if layered == Some(false) {
            return None;
        }
        sizes.agree(family)?;
        for include in family.include.values() {
            unused += self.include(family, include, groups, depth, explained)?;
        }
        Some(unused)
    }

    fn include<'g>(
        &self,
        family: &Family,
        include: &Include,
        groups: &'g Groups,
        depth: usize,
        explained: &mut BTreeSet<&'g str>,
    ) -> Option<usize> {
        if depth >= MAX_DEPTH {
            return None;
        }
        // The names as the inner family has them, with those that they have here.
        let mut inner = Groups::new();
        let mut outer: BTreeMap<String, &'g str> = BTreeMap::new();
        for (name, group) in groups.iter().filter(|(name, _)| !explained.contains(name.as_str())) {
            for spelling in unaliased(family, name) {
                let original = match include.renames.is_empty() {
                    true => Some(spelling),
                    false => include
                        .renames
                        .iter()
                        .filter(|(_, to)| spelling.starts_with(to.as_str()))
                        .max_by_key(|(_, to)| to.len())
                        .and_then(|(from, to)| Some(format!("{from}{}", spelling.strip_prefix(to.as_str())?))),
                };
                if let Some(original) = original {
                    let same = Group { shapes: group.shapes.clone(), first: group.first.clone() };
                    inner.insert(original.clone(), same);
                    outer.insert(original, name);
                }
            }
        }
        let fixed = include.family.as_deref().or(include.any.as_deref()).and_then(|name| self.atlas.family(name).ok());
        let others = if include.family.is_none() { self.all } else { &[] };
        let mut best: Option<(usize, usize, BTreeSet<String>)> = None;
        for family in fixed.iter().chain(others) {
            // What surrounds a language model can be no such surrounding itself.
            if include.family.is_none() && !family.include.is_empty() {
                continue;
            }
            let mut marked = BTreeSet::new();
            let left_out = |name: &str| {
                let renamed =
                    include.renames.iter().find_map(|(from, to)| Some((to, name.strip_prefix(from.as_str())?)));
                let name = renamed.map_or(name.to_string(), |(to, rest)| format!("{to}{rest}"));
                include.without.iter().any(|without| match without.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => name == *without,
                })
            };
            let Some(unused) = self.explain(family, &inner, depth + 1, &left_out, &mut marked) else { continue };
            let marked: BTreeSet<String> = marked.into_iter().map(str::to_string).collect();
            let better = best
                .as_ref()
                .is_none_or(|(count, least, _)| marked.len() > *count || (marked.len() == *count && unused < *least));
            if better && !marked.is_empty() {
                best = Some((marked.len(), unused, marked));
            }
        }
        let conditional = include.when.is_some();
        let Some((_, unused, marked)) = best else { return conditional.then_some(0) };
        explained.extend(marked.iter().filter_map(|name| outer.get(name).copied()));
        Some(unused)
    }
}

/// The patterns of a row's names: loops over numbers become `*`, loops over words are written out.
pub(super) fn spellings(family: &Family, part: &Part, name: &str, aliases: &[String]) -> Vec<String> {
    let under = part.under.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for name in std::iter::once(name).chain(aliases.iter().map(String::as_str)) {
        let mut open = vec![String::new()];
        let whole = format!("{under}{name}");
        let mut rest = whole.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (variable, after) = after.split_once('}').unwrap_or((after, ""));
            let loops = part.loops.iter().flat_map(|loops| loops.get(variable)).chain(part.each.get(variable));
            let row = part.rows.iter().filter_map(|row| row.more.each.get(variable));
            let looped = loops.chain(row).next().map(|text| match words(text) {
                Some(words) => Some(words),
                None => Some(texts(family, text, 0)).filter(|texts| !texts.is_empty()),
            });
            let values = match looped {
                Some(words) => words,
                None => Some(texts(family, variable, 0)).filter(|texts| !texts.is_empty()),
            };
            let values = values.unwrap_or_else(|| vec!["*".to_string()]);
            open = open
                .iter()
                .flat_map(|start| values.iter().map(move |value| format!("{start}{before}{value}")))
                .collect();
            rest = after;
        }
        all.extend(open.into_iter().map(|start| pattern(&format!("{start}{rest}")).0));
    }
    let others: Vec<String> = all
        .iter()
        .flat_map(|name| {
            family.aliases.iter().filter_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from.as_str())?)))
        })
        .collect();
    all.extend(others);
    all
}

/// The texts that a name of `[let]` or `[turn]` may become: those that stand in it, and in the names that it mentions.
fn texts(family: &Family, name: &str, depth: usize) -> Vec<String> {
    let formula = family.lets.get(name).or_else(|| family.turn.get(name));
    let Some(formula) = formula.filter(|_| depth < MAX_DEPTH) else { return Vec::new() };
    let pieces: Vec<&str> = formula.split('\'').collect();
    let mut all: Vec<String> = pieces.iter().skip(1).step_by(2).map(|text| text.to_string()).collect();
    let words = pieces.iter().step_by(2).flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    all.extend(words.flat_map(|word| texts(family, word, depth + 1)));
    all.sort_unstable();
    all.dedup();
    all
}

/// A name as it may be spelt, and as the family spells it.
fn unaliased(family: &Family, name: &str) -> Vec<String> {
    let back = family.aliases.iter().filter(|(_, to)| !to.is_empty());
    let back = back.filter_map(|(from, to)| Some(format!("{from}{}", name.strip_prefix(to.as_str())?)));
    std::iter::once(name.to_string()).chain(back).collect()
}

/// The items of a written list of words.
fn words(text: &str) -> Option<Vec<String>> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let items = inside.split(',').map(|item| item.trim().trim_matches(['\'', '"']).to_string());
    Some(
        items.map(|item| if item.bytes().all(|byte| byte.is_ascii_digit()) { "*".to_string() } else { item }).collect(),
    )
}

/// What shapes say about keys.
#[derive(Default)]
struct Sizes {
    /// Values of keys that are a dimension by themselves.
    known: HashMap<String, BTreeSet<u64>>,
    /// Everything that was heard: dimension and size.
    heard: Vec<(String, u64)>,
}

impl Sizes {
    /// `None` where the shape has another number of dimensions.
    fn hear(&mut self, wanted: &str, shape: &[u64]) -> Option<()> {
        let wanted: Vec<&str> = table::dimensions(wanted).collect();
        if wanted.len() != shape.len() {
            // A single element is saved with one dimension by some and with none by others.
            return (shape.iter().product::<u64>() == 1 && wanted.len() <= 1).then_some(());
        }
        for (text, size) in wanted.into_iter().zip(shape) {
            if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                self.known.entry(text.to_string()).or_default().insert(*size);
            }
            self.heard.push((text.to_string(), *size));
        }
        Some(())
    }

    /// Whether one value for each key explains every dimension.
    fn agree(&self, family: &Family) -> Option<()> {
        let varies = |name: &str| {
            let list =
                |key: &super::family::Key| matches!(&key.default, Some(Default_::Literal(toml::Value::Array(_))));
            family.turn.contains_key(name)
                || family.part.values().any(|part| part.lets.contains_key(name))
                || family.keys.get(name).is_some_and(list)
        };
        let scope = Scope::family(
            IndexMap::new(),
            family.lets.clone(),
            serde_json::Value::Null,
            String::new(),
            IndexMap::new(),
        );
        for (name, values) in &self.known {
            let first = values.first()?;
            if let Ok(number) = name.parse::<u64>() {
                if values.len() > 1 || number != *first {
                    return None;
                }
                continue;
            }
            if varies(name) {
                continue;
            }
            if values.len() > 1 {
                return None;
            }
            scope.set(name, Value::from(*first));
        }
        let scope = Arc::new(scope);
        // Formulas of which every key is known must give what is there; others say nothing.
        for (text, size) in &self.heard {
            let Ok(code) = Code::new(text) else { continue };
            let Ok(value) = code.value(&scope) else { continue };
            if varies(text) {
                continue;
            }
            if i64::try_from(value).is_ok_and(|value| u64::try_from(value) != Ok(*size)) {
                return None;
            }
        }
        Some(())
    }
}
