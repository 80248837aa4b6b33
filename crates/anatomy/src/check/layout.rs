//! Other ways to write the same numbers, where an export splits, stacks, packs or names what the class keeps otherwise.
//!
//! Experts are the case that matters: one tensor for each, all of one kind in one tensor, or gate and up in one as well.

use foldhash::{HashMap, HashMapExt};

use crate::atlas::Blueprint;

/// Words under which MLX stacks the experts.
const STACKS: [&str; 2] = ["switch_mlp", "experts.switch_glu"];

/// The projections that Mixtral numbers.
const NUMBERED: [(&str, &str); 3] = [("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")];

/// Names, all of them stored, that together stand for the tensor of this name.
pub(super) fn find(name: &str, shape: &[u64], stored: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    let all = |parts: Vec<String>| parts.iter().all(|part| stored(part)).then_some(parts);
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let Some((base, last)) = stem.rsplit_once(".experts.") else {
        // MLX multiplies the latent projection into queries and outputs.
        let base = stem.strip_suffix(".kv_b_proj")?;
        return all(vec![format!("{base}.embed_q.weight"), format!("{base}.unembed_out.weight")]);
    };
    let in_stacks = |words: &[&str]| {
        let names = |stack: &&str| words.iter().map(|word| format!("{base}.{stack}.{word}.weight")).collect();
        STACKS.iter().map(names).find_map(all)
    };
    let (words, whole): (&[&str], _) = match last.split_once('.') {
        None if last == "gate_up_proj" => (&["gate_proj", "up_proj"], None),
        None if last == "down_proj" => (&["down_proj"], None),
        Some((number, word)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            match NUMBERED.iter().find(|(short, long)| [*short, *long].contains(&word))?.1 {
                "gate_proj" => (&["gate_proj"], Some("gate_up_proj")),
                "up_proj" => (&["up_proj"], Some("gate_up_proj")),
                _ => (&["down_proj"], Some("down_proj")),
            }
        }
        _ => return None,
    };
    if let Some(found) = in_stacks(words) {
        return Some(found);
    }
    if let Some(whole) = whole {
        return all(vec![format!("{base}.experts.{whole}")]);
    }
    let mut found = Vec::new();
    // No more is built than is there.
    for expert in 0..*shape.first()? {
        for word in words {
            found.push(Some(format!("{base}.experts.{expert}.{word}.weight")).filter(|name| stored(name))?);
        }
    }
    Some(found).filter(|found| !found.is_empty())
}

/// Words that end the name of a packed weight, and what ends the name of what it stands for.
pub(super) const PACKED: [(&str, &str); 10] = [
    (".qweight", ".weight"),
    (".weight_packed", ".weight"),
    (".weight_quantized", ".weight"),
    (".W_q", ".weight"),
    ("_blocks", ""),
    (".codes", ".weight"),
    (".weight._data", ".weight"),
    (".base_layer.weight", ".weight"),
    (".q_weight", ".weight"),
    (".trellis", ".weight"),
];

/// Where all names differ by one prefix: in words, and the names as the blueprint has them.
pub(super) fn prefixed(
    blueprint: &Blueprint,
    names: &HashMap<String, usize>,
) -> Option<(String, HashMap<String, usize>)> {
    let sample: Vec<String> =
        blueprint.tensors.iter().filter(|row| row.optional.is_none()).map(|row| row.name(0)).take(400).collect();
    let known = |name: &String| names.contains_key(name);
    if sample.is_empty() || sample.iter().filter(|name| known(name)).count() * 2 > sample.len() {
        return None;
    }
    // Longest common ends, by the last words of names.
    let mut votes: HashMap<(String, bool), usize> = HashMap::new();
    let first = sample.iter().find(|name| name.contains(".0.")).or(sample.first())?;
    for actual in names.keys() {
        if let Some(prefix) = actual.strip_suffix(first.as_str()).filter(|prefix| prefix.ends_with('.')) {
            votes.insert((prefix.to_string(), true), 0);
        } else if let Some(prefix) = first.strip_suffix(actual.as_str()).filter(|prefix| prefix.ends_with('.')) {
            votes.insert((prefix.to_string(), false), 0);
        }
    }
    for ((prefix, added), count) in &mut votes {
        let as_held = |name: &String| match added {
            true => Some(format!("{prefix}{name}")),
            false => Some(name.strip_prefix(prefix.as_str()).unwrap_or(name).to_string()),
        };
        *count = sample.iter().filter_map(as_held).filter(known).count();
    }
    let ((prefix, added), count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    if count * 10 < sample.len() * 9 {
        return None;
    }
    let renamed = names.iter().map(|(name, index)| match added {
        true => (name.strip_prefix(prefix.as_str()).unwrap_or(name).to_string(), *index),
        false if sample.contains(name) => (name.clone(), *index),
        false => (format!("{prefix}{name}"), *index),
    });
    let message = match added {
        true => format!("all names begin with {prefix:?}, which the model's own class does not write"),
        false => format!("all names lack {prefix:?}, with which the model's own class writes them"),
    };
    Some((message, renamed.collect()))
}
