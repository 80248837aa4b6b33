//! Other ways to write the same numbers, where an export splits or stacks what the model's own class keeps otherwise.
//!
//! Experts are the case that matters: one tensor for each, all of one kind in one tensor, or gate and up in one as well.

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
