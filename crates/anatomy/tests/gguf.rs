//! The atlas's GGUF families against headers that llama.cpp wrote: small models of each architecture, with everything
//! that its loader may read, and well-known models. Where a name ends in a number or in `-other`, no two sizes of the
//! model are the same, so that a rule which takes one for the other fails; `tools/make-gguf-headers` lets llama.cpp write
//! them. `data/gguf-headers` holds what precedes the tensors' data; `bytes.json` says how long the whole files were.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use anatomy::Severity;
use anatomy::analysis::Analysis;
use anatomy::atlas::Atlas;
use anatomy::check::check;
use anatomy::model::Model;
use flate2::read::GzDecoder;
use rayon::prelude::*;

fn restore(header: &Path, bytes: u64, directory: &Path) -> std::path::PathBuf {
    let mut head = Vec::new();
    GzDecoder::new(File::open(header).unwrap()).read_to_end(&mut head).unwrap();
    let path = directory.join("model.gguf");
    let mut file = File::create(&path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(bytes).unwrap();
    path
}

/// A shape as llama.cpp writes it: it leaves out outermost dimensions of 1.
fn written(shape: &[u64]) -> &[u64] {
    let ones = shape.iter().take_while(|size| **size == 1).count().min(shape.len().saturating_sub(1));
    &shape[ones..]
}

#[test]
fn every_header_is_explained_name_by_name() {
    let atlas = Atlas::new();
    let folder = Path::new("tests/data/gguf-headers");
    let bytes: BTreeMap<String, u64> =
        serde_json::from_str(&fs::read_to_string(folder.join("bytes.json")).unwrap()).unwrap();
    assert!(bytes.len() >= 100, "only {}", bytes.len());
    let mut failed = Vec::new();
    for (name, bytes) in &bytes {
        let directory = tempfile::tempdir().unwrap();
        let path = restore(&folder.join(format!("{name}.gz")), *bytes, directory.path());
        let model = Model::open(&path).unwrap();
        let blueprint = atlas.blueprint_of_gguf(&model.gguf().unwrap().container.metadata).unwrap();
        let analysis = Analysis::new(&model);
        let mut held: BTreeMap<&str, Vec<u64>> =
            analysis.rows.iter().map(|row| (row.tensor.name.as_str(), row.logical_shape().to_vec())).collect();
        let mut wrong = Vec::new();
        for row in &blueprint.tensors {
            for number in 0..row.count {
                let tensor = row.name(number);
                match held.remove(tensor.as_str()) {
                    Some(shape) if written(&shape) == written(&row.shape) => {}
                    Some(shape) => wrong.push(format!("{tensor} is {shape:?}, not {:?}", row.shape)),
                    None if row.optional.is_some() => {}
                    None => wrong.push(format!("{tensor} is not there")),
                }
            }
        }
        // Scales of a packed weight stand beside it whatever the architecture.
        held.retain(|name, _| !name.ends_with(".scale") && !name.ends_with(".input_scale"));
        wrong.extend(held.keys().map(|name| format!("{name} is not explained")));
        if wrong.is_empty() {
            let mut settled = blueprint.clone();
            settled.settle(analysis.rows.iter().map(|row| row.tensor.name.as_str()));
            let due: Vec<String> = settled.tensors.iter().flat_map(|row| (0..row.count).map(|n| row.name(n))).collect();
            let held: HashSet<&str> = analysis.rows.iter().map(|row| row.tensor.name.as_str()).collect();
            wrong.extend(due.iter().filter(|name| !held.contains(name.as_str())).map(|name| format!("{name} is due")));
        }
        if wrong.is_empty() {
            let found = check(&analysis, &atlas).findings;
            let found = found.iter().filter(|finding| finding.severity() >= Severity::Warning);
            wrong.extend(found.map(|finding| format!("{}: {}", finding.rule.name, finding.message)));
        }
        if !wrong.is_empty() {
            failed.push(format!("{name}: {} wrong: {:?}", wrong.len(), wrong.iter().take(4).collect::<Vec<_>>()));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), bytes.len(), failed.join("\n"));
}

/// Jamba's metadata do not say which layers have experts.
#[test]
fn a_header_settles_each_layer_by_itself() {
    let folder = Path::new("tests/data/gguf-headers");
    let bytes: BTreeMap<String, u64> =
        serde_json::from_str(&fs::read_to_string(folder.join("bytes.json")).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = restore(&folder.join("jamba-other.gz"), bytes["jamba-other"], directory.path());
    let model = Model::open(&path).unwrap();
    let mut blueprint = Atlas::new().blueprint_of_gguf(&model.gguf().unwrap().container.metadata).unwrap();
    let parts = |layer: u32| -> &'static [&'static str] {
        match layer % 2 {
            0 => &["ffn_gate", "ffn_up", "ffn_down"],
            _ => &["ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"],
        }
    };
    let optional: Vec<String> =
        blueprint.tensors.iter().filter(|row| row.optional.is_some()).map(|row| row.name(0)).collect();
    let held: Vec<String> =
        (0..6).flat_map(|layer| parts(layer).iter().map(move |part| format!("blk.{layer}.{part}.weight"))).collect();
    blueprint.settle(held.iter().map(String::as_str));
    let settled: HashSet<String> = blueprint.tensors.iter().map(|row| row.name(0)).collect();
    let wanted: Vec<&String> = optional.iter().filter(|name| settled.contains(*name)).collect();
    assert_eq!(wanted.len(), held.len());
    assert!(wanted.iter().all(|name| held.contains(name)), "{wanted:?}");
}

/// What a layer may have or not by itself, by what the names end in and the headers begin with.
const UNMISSED: &[(&str, &str, &str)] = &[
    ("attn_sinks.weight", "", "MiMo-V2 has them where layers look through a window"),
    ("attn_v.weight", "converted-gemma4", "without them keys are values"),
    ("attn_rel_b.weight", "converted-t5-umt5", "two layers, of which the second alone may lack it"),
    ("", "qwen3next-other", "written with both forms of a choice: the other one stands"),
    ("", "hy_v3-moe", "written with both forms of a choice: the other one stands"),
    ("", "mimo2-moe", "written with both forms of a choice: the other one stands"),
    ("", "rwkv6-other", "written with both forms of a choice: the other one stands"),
];

#[test]
fn a_tensor_that_one_layer_lacks_is_missed() {
    let atlas = Atlas::new();
    let folder = Path::new("tests/data/gguf-headers");
    let bytes: BTreeMap<String, u64> =
        serde_json::from_str(&fs::read_to_string(folder.join("bytes.json")).unwrap()).unwrap();
    let star = |name: &str| {
        let words = name.split('.').map(|word| if word.parse::<u64>().is_ok() { "*" } else { word });
        words.collect::<Vec<_>>().join(".")
    };
    let silent: Vec<String> = bytes
        .par_iter()
        .flat_map_iter(|(name, bytes)| {
            let directory = tempfile::tempdir().unwrap();
            let path = restore(&folder.join(format!("{name}.gz")), *bytes, directory.path());
            let mut model = Model::open(&path).unwrap();
            let whole = model.files[0].container.tensors.clone();
            let mut layers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (index, tensor) in whole.iter().enumerate() {
                layers.entry(star(&tensor.name)).or_default().push(index);
            }
            // Scales of a packed weight are read where they are there.
            layers.retain(|pattern, places| {
                places.len() > 1 && !pattern.ends_with(".scale") && !pattern.ends_with(".input_scale")
            });
            let mut silent = Vec::new();
            for (pattern, places) in layers {
                let known = |(end, start, _): &(&str, &str, &str)| pattern.ends_with(end) && name.starts_with(start);
                if UNMISSED.iter().any(known) {
                    continue;
                }
                let mut rest = whole.clone();
                let gone = rest.remove(places[places.len() / 2]);
                model.files[0].container.tensors = rest;
                let found = check(&Analysis::new(&model), &atlas).findings;
                let mut errors = found.iter().filter(|finding| finding.severity() == Severity::Error);
                if !errors.any(|finding| finding.message.contains(&gone.name)) {
                    silent.push(format!("{name}: {}", gone.name));
                }
            }
            silent
        })
        .collect();
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}
