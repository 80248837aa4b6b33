//! `check` on whole checkpoints and on checkpoints with one fault: silence, and exactly the fault.
//!
//! The checkpoints are the reference's lists, written as safetensors headers over sparse files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

#[allow(dead_code, reason = "totals are for another test")]
mod blueprints;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anatomy::analysis::Analysis;
use anatomy::atlas::Atlas;
use anatomy::check::check;
use anatomy::model::Model;
use anatomy::{Severity, names};
use blueprints::{Case, cases};
use rayon::prelude::*;
use serde_json::{Value as Json, json};

type Tensors = BTreeMap<String, Vec<u64>>;
/// Rule and message of each finding.
type Found = Vec<(String, String)>;

/// A file of half-precision tensors whose data is a hole.
fn write_weights(path: &Path, tensors: &Tensors) {
    let mut entries = serde_json::Map::new();
    let mut end = 0u64;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        entries.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = serde_json::to_vec(&entries).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

/// The findings about a directory, as rule and message; those that are only worth knowing left out.
fn findings(directory: &Path, atlas: &Atlas) -> Found {
    let model = Model::open(directory).unwrap();
    let analysis = Analysis::new(&model);
    let found = check(&analysis, atlas).findings;
    let found = found.iter().filter(|finding| finding.severity() >= Severity::Warning);
    found.map(|finding| (finding.rule.name.to_string(), finding.message.to_string())).collect()
}

fn check_one(config: &Json, tensors: &Tensors, atlas: &Atlas) -> Found {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    write_weights(&directory.path().join("model.safetensors"), tensors);
    findings(directory.path(), atlas)
}

fn owned(case: &Case) -> Tensors {
    case.tensors().into_iter().map(|(name, shape)| (name, shape.to_vec())).collect()
}

fn known(atlas: &Atlas, set: &str) -> Vec<Case> {
    cases().into_iter().filter(|case| case.set == set && atlas.of_config(&case.config).is_ok()).collect()
}

#[test]
fn whole_checkpoints_and_models_are_silent() {
    let atlas = Atlas::new();
    let mut loud = String::new();
    for set in ["tiny", "real"] {
        let all = known(&atlas, set);
        assert!(all.len() >= 100);
        let found: Vec<_> = all
            .par_iter()
            .map(|case| (case.id(), check_one(&case.config, &owned(case), &atlas)))
            .filter(|(_, found)| !found.is_empty())
            .collect();
        for (id, found) in found {
            let _ = writeln!(loud, "{id}: {found:?}");
        }
    }
    assert!(loud.is_empty(), "{loud}");
}

/// A tensor in the middle of the language model that a loader needs.
fn middle(tensors: &Tensors, fits: impl Fn(&str, &[u64]) -> bool) -> Option<String> {
    let all: Vec<&String> = tensors.keys().collect();
    let parts = names::parse_all(all.iter().map(|name| name.as_str()));
    let fitting: Vec<&String> = all
        .iter()
        .zip(&parts)
        .filter(|(name, part)| part.layer.is_some() && !part.buffer && fits(name, &tensors[**name]))
        .map(|(name, _)| *name)
        .collect();
    fitting.get(fitting.len() / 2).map(|name| name.to_string())
}

/// What a fault must be told as: the rule, and what the message names.
struct Told {
    rules: &'static [&'static str],
    mentions: String,
}

fn expect(rules: &'static [&'static str], mentions: impl Into<String>) -> Told {
    Told { rules, mentions: mentions.into() }
}

/// Each kind of fault for one checkpoint: what it is called, the findings, and what they must be.
fn faults(case: &Case, atlas: &Atlas) -> Vec<(&'static str, Found, Told)> {
    let whole = owned(case);
    let config = &case.config;
    let total = atlas.blueprint(config).unwrap().total();
    let mut all = Vec::new();
    let weight = |name: &str, _: &[u64]| !name.ends_with("bias");
    if let Some(name) = middle(&whole, weight) {
        let mut dropped = whole.clone();
        dropped.remove(&name);
        all.push((
            "dropped",
            check_one(config, &dropped, atlas),
            expect(&["tensor-missing", "norm-missing"], name.as_str()),
        ));
        let mut renamed = dropped.clone();
        renamed.insert(format!("{name}_was_renamed"), whole[&name].clone());
        all.push(("renamed", check_one(config, &renamed, atlas), expect(&["tensor-renamed"], name.as_str())));
        let mut doubled = whole.clone();
        doubled.insert(format!("{name}_copy"), whole[&name].clone());
        let copy = format!("{name}_copy");
        all.push(("duplicated", check_one(config, &doubled, atlas), expect(&["tensor-unexpected"], copy)));
    }
    if let Some(name) = middle(&whole, |_, shape| shape.len() == 2 && shape[0] != shape[1]) {
        let mut transposed = whole.clone();
        transposed.get_mut(&name).unwrap().reverse();
        all.push(("transposed", check_one(config, &transposed, atlas), expect(&["tensor-shape"], name)));
    }
    if let Some(norm) =
        middle(&whole, |name, shape| name.contains("norm") && name.ends_with("weight") && shape.len() == 1)
    {
        let mut without = whole.clone();
        without.remove(&norm);
        all.push(("norm dropped", check_one(config, &without, atlas), expect(&["norm-missing"], norm)));
    }
    for key in ["vocab_size", "text_config.vocab_size"] {
        let Some(size) = config.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Json::as_u64) else {
            continue;
        };
        let changed = anatomy::atlas::with_value(config, key, json!(size + 3));
        if atlas.blueprint(&changed).is_ok_and(|other| other.total() != total) {
            all.push(("number changed", check_one(&changed, &whole, atlas), expect(&["config-number-wrong"], key)));
            break;
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let half = whole.keys().nth(whole.len() / 2).unwrap();
    let (first, second): (Tensors, Tensors) = whole.clone().into_iter().partition(|(name, _)| name < half);
    write_weights(&directory.path().join("model-00001-of-00002.safetensors"), &first);
    let place = |name: &String| format!("model-{:05}-of-00002.safetensors", 1 + u8::from(second.contains_key(name)));
    let map: BTreeMap<&String, String> = whole.keys().map(|name| (name, place(name))).collect();
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(directory.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let missing = expect(&["shard-missing"], "model-00002-of-00002.safetensors");
    all.push(("shard removed", findings(directory.path(), atlas), missing));
    all
}

#[test]
fn one_fault_is_told_as_what_it_is() {
    let atlas = Atlas::new();
    let causal: Vec<Case> = known(&atlas, "tiny").into_iter().filter(|case| !case.name.contains("__")).collect();
    assert!(causal.len() >= 180, "only {}", causal.len());
    let wrong: Vec<String> = causal
        .par_iter()
        .flat_map_iter(|case| {
            let all = faults(case, &atlas).into_iter();
            all.filter_map(move |(kind, found, told)| {
                let right = matches!(found.as_slice(), [(rule, message)]
                    if told.rules.contains(&rule.as_str()) && message.contains(&told.mentions));
                (!right).then(|| format!("{} {kind} ({}): {found:?}", case.name, told.mentions))
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Rules and what they speak of, for a folder that holds an index and no shard.
fn listed(config: &Json, names: &[String], atlas: &Atlas) -> Vec<(String, String)> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let map: BTreeMap<&String, &str> = names.iter().map(|name| (name, "model-00001-of-00001.safetensors")).collect();
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(directory.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let model = Model::open(directory.path()).unwrap();
    let analysis = Analysis::new(&model);
    let found = check(&analysis, atlas).findings.into_iter().filter(|finding| finding.rule.name != "shard-missing");
    found
        .map(|finding| (finding.rule.name.to_string(), finding.tensor.map(|name| name.to_string()).unwrap_or_default()))
        .collect()
}

#[test]
fn names_of_an_index_are_compared_where_shards_are_missing() {
    let atlas = Atlas::new();
    let case = known(&atlas, "tiny").into_iter().find(|case| case.name == "llama").unwrap();
    let whole: Vec<String> = case.tensors().into_keys().collect();
    assert_eq!(listed(&case.config, &whole, &atlas), []);
    let one = |rule: &str, name: &str| vec![(rule.to_string(), name.to_string())];
    let without = |gone: &str| whole.iter().filter(|name| *name != gone).cloned().collect::<Vec<_>>();
    let with = |added: &str| whole.iter().cloned().chain([added.to_string()]).collect::<Vec<_>>();
    let (norm, query) = ("model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight");
    assert_eq!(listed(&case.config, &without(norm), &atlas), one("norm-missing", norm));
    assert_eq!(listed(&case.config, &without(query), &atlas), one("tensor-missing", query));
    // A bias belongs beside a packed weight, not beside this one; a head of labels is no language model's.
    for stranger in ["model.layers.0.self_attn.q_proj.bias", "score.weight", "model.layers.7.mlp.up_proj.weight"] {
        assert_eq!(listed(&case.config, &with(stranger), &atlas), one("tensor-unexpected", stranger));
    }
    // A name like a missing one, and a number that explains all that differs, are told as what they are.
    let renamed: Vec<String> = without(query).into_iter().chain([format!("{query}_old")]).collect();
    assert_eq!(listed(&case.config, &renamed, &atlas), one("tensor-renamed", &format!("{query}_old")));
    let mut deeper = case.config.clone();
    deeper["num_hidden_layers"] = json!(deeper["num_hidden_layers"].as_u64().unwrap() + 1);
    assert_eq!(listed(&deeper, &whole, &atlas), one("config-number-wrong", ""));
    let mut tied = case.config.clone();
    tied["tie_word_embeddings"] = json!(true);
    assert_eq!(listed(&tied, &whole, &atlas), one("head-stored-again", "lm_head.weight"));
    let packed: Vec<String> = whole
        .iter()
        .flat_map(|name| match name.strip_suffix("_proj.weight") {
            Some(stem) => {
                ["qweight", "qzeros", "scales", "g_idx", "bias"].map(|end| format!("{stem}_proj.{end}")).to_vec()
            }
            None => vec![name.clone()],
        })
        .collect();
    assert_eq!(listed(&case.config, &packed, &atlas), []);
}

#[test]
fn missing_shards_are_one_line_and_the_rest_is_compared() {
    let atlas = Atlas::new();
    let case = known(&atlas, "tiny").into_iter().find(|case| case.name == "llama").unwrap();
    let whole = owned(&case);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), case.config.to_string()).unwrap();
    // The first shard holds the first few, the others are not there; one tensor has another shape, and one is in none.
    let names: Vec<&String> = whole.keys().collect();
    let mut first: Tensors = whole.iter().take(4).map(|(name, shape)| (name.clone(), shape.clone())).collect();
    let odd = names[1].clone();
    first.insert(odd.clone(), vec![7, 5]);
    let gone = names[names.len() - 2].clone();
    let shard = |place: usize| format!("model-{:05}-of-00007.safetensors", if place < 4 { 1 } else { 2 + place % 6 });
    let map: BTreeMap<&String, String> = names
        .iter()
        .enumerate()
        .filter(|(_, name)| ***name != gone)
        .map(|(place, name)| (*name, shard(place)))
        .collect();
    let index = json!({"metadata": {}, "weight_map": map});
    write_weights(&directory.path().join(shard(0)), &first);
    fs::write(directory.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let found = findings(directory.path(), &atlas);
    let told = |rule: &str| found.iter().filter(|(name, _)| name == rule).map(|(_, text)| text).collect::<Vec<_>>();
    let missing = told("shard-missing");
    assert_eq!(missing.len(), 1, "{found:?}");
    assert!(missing[0].starts_with("6 files are missing (model-00002-of-00007.safetensors, "), "{missing:?}");
    assert!(missing[0].contains(" and 3 more)"), "{missing:?}");
    assert!(told("tensor-shape")[0].starts_with(&format!("{odd} is [7, 5], not ")), "{found:?}");
    let absent = [told("tensor-missing"), told("norm-missing")].concat();
    assert!(absent.len() == 1 && absent[0].starts_with(&gone), "{found:?}");
    assert_eq!(found.len(), 3, "{found:?}");
}
