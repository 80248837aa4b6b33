//! What an unknown model is most like: by its name, by the keys of its configuration, by the names of its tensors.
//!
//! Nothing is derived from it. It tells a reader with which family to begin, and what that family does not cover.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashSet, HashSetExt};
use rayon::prelude::*;
use serde_json::Value as Json;

use super::family::Family;
use super::matching::{pattern, spellings};
use super::{Atlas, nearest};

/// Stated keys that are looked at; a configuration of more is no model's.
const MOST_KEYS: usize = 2000;
/// Objects inside of objects.
const MAX_DEPTH: usize = 3;
/// Keys and names that a sentence gives.
const SHOWN: usize = 6;
/// Words in the names of keys that decide sizes, where no family reads the key.
const SIZES: [&str; 9] = ["num_", "n_", "_dim", "_size", "heads", "layers", "experts", "rank", "hidden"];

impl Atlas {
    /// In words, which families of the same kind (`gguf/` or not) an unknown one is nearest to: by name, and by the keys
    /// of its configuration, with the keys that the nearest does not read.
    pub(super) fn like(&self, name: &str, config: &Json, gguf: bool) -> String {
        let families = self.of_kind(gguf);
        let mut words = Vec::new();
        let types = families.iter().flat_map(|family| match &family.model_types {
            Some(types) if !gguf => types.iter().map(String::as_str).collect(),
            _ => vec![plain(&family.name)],
        });
        if let Some(near) = nearest(name, types) {
            words.push(format!("the nearest by name is `{near}`"));
        }
        if let Some((near, covered, stated, strange)) = self.by_keys(&families, name, config) {
            let mut line = format!(
                "by keys it is `{}`, which reads {covered} of the {stated} stated keys that decide tensors",
                plain(near)
            );
            if !strange.is_empty() {
                line.push_str(&format!(", but not {}", listed(&strange)));
            }
            words.push(line);
        }
        words.join("; ")
    }

    /// In words, the family whose tensors are named most like these, and names that it does not have; `None` where none
    /// is alike. Of llama.cpp's families with `gguf`, else of the others.
    pub fn like_names<'n>(&self, names: impl IntoIterator<Item = &'n str>, gguf: bool) -> Option<String> {
        // Each pattern with the first name that has it.
        let mut held: BTreeMap<String, &str> = BTreeMap::new();
        for name in names {
            held.entry(pattern(name).0).or_insert(name);
        }
        let families = self.of_kind(gguf);
        let scored = families.par_iter().filter_map(|family| {
            let known = self.patterns(family, gguf, 0);
            let both = held.keys().filter(|name| known.contains(*name)).count();
            // Alike is who explains much and leaves little unused.
            let score = 2.0 * both as f64 / (held.len() + known.len()) as f64;
            (both > 0).then_some((both, score, family, known))
        });
        // Of equals a model of its own counts before the text part of another.
        let own = |family: &Family| (!family.classes.is_empty(), std::cmp::Reverse(family.name.len()));
        let best = scored.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then_with(|| own(a.2).cmp(&own(b.2))));
        let (both, _, family, known) = best?;
        let strange: Vec<&str> =
            held.iter().filter(|(pattern, _)| !known.contains(*pattern)).map(|(_, name)| *name).collect();
        let mut line = format!(
            "by tensor names it is `{}`, which has {both} of {} kinds of names",
            plain(&family.name),
            held.len()
        );
        if !strange.is_empty() {
            line.push_str(&format!(", but not {}", listed(&strange)));
        }
        Some(line)
    }

    fn of_kind(&self, gguf: bool) -> Vec<Arc<Family>> {
        let names: Vec<&str> = self.names().filter(|name| name.starts_with("gguf/") == gguf).collect();
        names.par_iter().filter_map(|name| self.family(name).ok()).collect()
    }

    /// The family whose keys are most like the stated ones: its name, how many of the stated keys that decide tensors
    /// anywhere it reads, how many those are, and those that it does not read.
    fn by_keys<'f>(
        &self,
        families: &'f [Arc<Family>],
        name: &str,
        config: &Json,
    ) -> Option<(&'f str, usize, usize, Vec<String>)> {
        let mut stated = Vec::new();
        flatten(config, "", 0, &mut stated);
        let read: Vec<HashSet<String>> =
            families.par_iter().map(|family| self.keys_of(family, config, "", 0)).collect();
        let by_any: HashSet<&str> = read.iter().flatten().map(String::as_str).collect();
        let decide: Vec<&str> = stated.iter().map(|(key, _)| key.as_str()).filter(|key| by_any.contains(key)).collect();
        let scored = families.iter().zip(&read).filter_map(|(family, read)| {
            let both = decide.iter().filter(|key| read.contains(**key)).count();
            let score = 2.0 * both as f64 / (decide.len() + read.len()) as f64;
            // Of families that cover as much, one that is called alike counts first.
            let alike = strsim::normalized_damerau_levenshtein(name, plain(&family.name));
            let alike = if alike > 0.4 { alike } else { 0.0 };
            (both > 1).then_some((both, alike, score, family, read))
        });
        let best = scored.max_by(|a, b| {
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)).then(b.3.name.cmp(&a.3.name))
        });
        let (both, _, _, family, read) = best?;
        // Keys that no family reads count where they look like sizes; the others are settings of programs.
        let strange = stated.iter().filter(|(key, value)| {
            let size = value.is_u64() && SIZES.iter().any(|word| key.contains(word)) && !key.ends_with("_id");
            !read.contains(key) && (by_any.contains(key.as_str()) || size)
        });
        Some((&family.name, both, decide.len(), strange.map(|(key, _)| key.clone()).collect()))
    }

    /// Dotted paths of the keys that a family reads of a configuration, those of families inside of it included.
    fn keys_of(&self, family: &Family, config: &Json, under: &str, depth: usize) -> HashSet<String> {
        let mut all: HashSet<String> = HashSet::new();
        for (name, key) in &family.keys {
            let paths = std::iter::once(key.path.as_ref().unwrap_or(name)).chain(&key.also);
            all.extend(paths.map(|path| format!("{under}{path}")));
        }
        for include in family.include.values().filter(|_| depth < MAX_DEPTH) {
            let path = include.config.as_deref();
            let inner = path.map_or(Some(config), |path| super::value_at(config, path));
            let stated = inner.and_then(|inner| inner.get("model_type")).and_then(Json::as_str);
            let names = [include.family.as_deref(), stated, include.any.as_deref()];
            let known = names.into_iter().flatten().find_map(|name| self.family(name).ok());
            if let Some(known) = known {
                let under = path.map_or(under.to_string(), |path| format!("{under}{path}."));
                all.extend(self.keys_of(&known, inner.unwrap_or(&Json::Null), &under, depth + 1));
            }
        }
        all
    }

    /// The patterns of all names that a family may have.
    fn patterns(&self, family: &Family, gguf: bool, depth: usize) -> HashSet<String> {
        let mut all = HashSet::new();
        for part in family.part.values() {
            for row in &part.rows {
                all.extend(spellings(family, part, &row.name, &row.more.alias));
            }
        }
        for include in family.include.values().filter(|_| depth < MAX_DEPTH && !gguf) {
            let names = [include.family.as_deref(), include.any.as_deref()];
            let Some(inner) = names.into_iter().flatten().find_map(|name| self.family(name).ok()) else { continue };
            let names = self.patterns(&inner, gguf, depth + 1).into_iter().map(|name| {
                let renamed = include
                    .renames
                    .iter()
                    .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from.as_str())?)));
                renamed.unwrap_or(name)
            });
            all.extend(names);
        }
        all
    }
}

/// The name of a family without its kind.
fn plain(name: &str) -> &str {
    name.strip_prefix("gguf/").unwrap_or(name)
}

/// The dotted paths of a configuration.
fn flatten<'j>(config: &'j Json, under: &str, depth: usize, out: &mut Vec<(String, &'j Json)>) {
    let Some(object) = config.as_object().filter(|_| depth <= MAX_DEPTH) else { return };
    for (key, value) in object {
        if out.len() >= MOST_KEYS {
            return;
        }
        let path = format!("{under}{key}");
        flatten(value, &format!("{path}."), depth + 1, out);
        out.push((path, value));
    }
}

/// The first few of a list, cut where they are long.
fn listed<T: AsRef<str>>(words: &[T]) -> String {
    let cut = |word: &str| word.chars().take(60).collect::<String>();
    let mut text = words.iter().take(SHOWN).map(|word| cut(word.as_ref())).collect::<Vec<_>>().join(", ");
    if words.len() > SHOWN {
        text.push_str(&format!(" and {} more", words.len() - SHOWN));
    }
    text
}
