//! Types of tensors under llama.cpp's mixtures, against llama.cpp's own quantiser.
//!
//! `data/mixture.json.gz` is made by `tools/make-mixture-data.py`: for headers in `data/gguf-headers` the type that
//! `llama-quantize --dry-run` gives each tensor under each of its mixtures.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

#[allow(dead_code, reason = "tensors and totals are for other tests")]
mod blueprints;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};

use anatomy::analysis::Analysis;
use anatomy::architecture::{Architecture, Evidence, read};
use anatomy::atlas::Atlas;
use anatomy::dtype::DType;
use anatomy::memory::Subject;
use anatomy::memory::mixture::{ALL, Mixture, types};
use anatomy::model::Model;
use flate2::read::GzDecoder;
use rayon::prelude::*;
use serde_json::Value as Json;

fn unpacked(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Lengths of the models of which only the headers are there.
fn sizes() -> BTreeMap<String, u64> {
    let read = |path: &str| -> BTreeMap<String, u64> {
        serde_json::from_str(&fs::read_to_string(format!("tests/data/{path}")).unwrap()).unwrap()
    };
    let mut sizes = read("gguf-headers/bytes.json");
    sizes.extend(read("memory/headers.json"));
    sizes
}

fn subject(name: &str, bytes: u64) -> Subject {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let mut file = File::create(&path).unwrap();
    file.write_all(&unpacked(&format!("tests/data/gguf-headers/{name}.gz"))).unwrap();
    file.set_len(bytes).unwrap();
    let model = Model::open(&path).unwrap();
    let analysis = Analysis::new(&model);
    let witnesses: Vec<_> =
        analysis.rows.iter().map(|row| (row.tensor.name.as_str(), row.logical_shape(), row.part)).collect();
    let gguf = model.gguf().map(|file| &file.container.metadata);
    let architecture = read(&Evidence { config: None, gguf, tensors: &witnesses });
    Subject::measured(&analysis, architecture, None)
}

#[test]
fn types_are_those_of_llama_cpp() {
    let path = std::env::var("ANATOMY_MIXTURE").unwrap_or("tests/data/mixture.json.gz".into());
    let data: Json = serde_json::from_slice(&unpacked(&path)).unwrap();
    let names: Vec<DType> =
        data["types"].as_array().unwrap().iter().map(|name| DType::named(name.as_str().unwrap()).unwrap()).collect();
    let models: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_value(data["models"].clone()).unwrap();
    let sizes = sizes();
    let results: Vec<(usize, Vec<String>)> = models
        .par_iter()
        .map(|(name, mixtures)| {
            let subject = subject(name, sizes[name]);
            let layer = |name: &str| -> Option<u32> { name.strip_prefix("blk.")?.split('.').next()?.parse().ok() };
            let mut tensors: Vec<(&str, &[u64])> =
                subject.weights.iter().map(|weight| (weight.name.as_str(), weight.shape.as_slice())).collect();
            // As the letters stand.
            tensors.sort_by_cached_key(|(name, _)| (layer(name), *name));
            let (mut right, mut wrong) = (0, Vec::new());
            for (mixture, letters) in mixtures {
                let found = types(Mixture::named(mixture).unwrap(), &tensors, &subject.architecture, &subject.family);
                assert_eq!(found.len(), letters.len(), "{name}");
                for ((found, letter), (tensor, shape)) in found.iter().zip(letters.bytes()).zip(&tensors) {
                    let wanted = if letter == b'.' { DType::F32 } else { names[usize::from(letter - b'a')] };
                    if *found == wanted {
                        right += 1;
                    } else {
                        wrong.push(format!("{name} {mixture} {tensor} {shape:?}: {found:?}, not {wanted:?}"));
                    }
                }
            }
            (right, wrong)
        })
        .collect();
    let right: usize = results.iter().map(|(right, _)| right).sum();
    for (_, lines) in results.iter().filter(|(_, lines)| !lines.is_empty()) {
        println!("{} wrong, {}", lines.len(), lines[0]);
    }
    let wrong: usize = results.iter().map(|(_, lines)| lines.len()).sum();
    println!("{} models, {right} types right, {wrong} wrong", models.len());
    assert!(models.len() >= 30 && models.values().all(|mixtures| mixtures.len() == ALL.len()));
    assert_eq!(wrong, 0);
}

/// A Llama of one layer as llama-quantize really wrote it.
#[test]
fn a_file_of_one_layer() {
    use DType::{IQ3_S, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
    let names = [
        "output.weight",
        "token_embd.weight",
        "blk.0.attn_k.weight",
        "blk.0.attn_output.weight",
        "blk.0.attn_q.weight",
        "blk.0.attn_v.weight",
        "blk.0.ffn_down.weight",
        "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight",
    ];
    let shape: &[u64] = &[256, 256];
    let tensors: Vec<(&str, &[u64])> = names.iter().map(|name| (*name, shape)).collect();
    let mut architecture = Architecture { layers: Some(1), ..Architecture::default() };
    architecture.attention.query_heads = Some(4);
    architecture.attention.kv_heads = Some(2);
    let rows = [
        ("IQ3_M", [Q6_K, IQ3_S, IQ3_S, Q4_K, IQ3_S, Q4_K, IQ3_S, IQ3_S, IQ3_S]),
        ("Q2_K", [Q6_K, Q2_K, Q2_K, Q3_K, Q2_K, Q3_K, Q3_K, Q2_K, Q2_K]),
        ("Q3_K_L", [Q6_K, Q3_K, Q3_K, Q5_K, Q3_K, Q5_K, Q5_K, Q3_K, Q3_K]),
        ("Q3_K_M", [Q6_K, Q3_K, Q3_K, Q4_K, Q3_K, Q5_K, Q4_K, Q3_K, Q3_K]),
        ("Q4_K_M", [Q6_K, Q4_K, Q4_K, Q4_K, Q4_K, Q6_K, Q6_K, Q4_K, Q4_K]),
        ("Q5_K_M", [Q6_K, Q5_K, Q5_K, Q5_K, Q5_K, Q6_K, Q6_K, Q5_K, Q5_K]),
    ];
    for (name, wanted) in rows {
        let found = types(Mixture::named(name).unwrap(), &tensors, &architecture, "llama");
        assert_eq!(found, wanted, "{name}");
    }
}

/// Llama 3 8B from a configuration alone: as large as `llama-quantize --dry-run` says, in MiB.
#[test]
fn a_planned_llama_is_as_large_as_a_file() {
    let cases = blueprints::cases();
    let case = cases.iter().find(|case| case.set == "real" && case.name == "Llama-3.1-8B").unwrap();
    let blueprint = Atlas::new().blueprint(&case.config).unwrap();
    let report = anatomy::report::Blueprint::new("", blueprint.clone(), Some(&case.config), None, None);
    let rows = [
        ("q2_k", 3024.38),
        ("q3_k_s", 3487.27),
        ("q3_k_m", 3825.27),
        ("q3_k_l", 4114.27),
        ("q4_0", 4437.80),
        ("q4_1", 4885.12),
        ("q4_k_s", 4467.80),
        ("q4_k_m", 4685.30),
        ("q5_0", 5332.43),
        ("q5_1", 5779.74),
        ("q5_k_s", 5332.43),
        ("q5_k_m", 5459.93),
        ("q6_k", 6282.97),
        ("q8_0", 8137.64),
    ];
    for (name, wanted) in rows {
        let architecture = report.architecture().clone();
        let subject = Subject::planned(&blueprint, architecture, Some(&case.config), Some(name)).unwrap();
        let found = subject.weight_bytes() as f64 / 1_048_576.0;
        assert!((found - wanted).abs() < 0.0051, "{name}: {found}, not {wanted}");
    }
}

#[test]
fn names_are_those_of_llama_quantize() {
    assert_eq!(Mixture::named("q4_k").unwrap().name, "Q4_K_M");
    assert_eq!(Mixture::named("iq2_xxs").unwrap().name, "IQ2_XXS");
    assert!(Mixture::named("q4_k_xl").is_none());
    assert!(ALL.iter().all(|mixture| Mixture::named(mixture.name) == Some(*mixture)));
}

#[test]
fn nonsense_does_no_harm() {
    let tensors: [(&str, &[u64]); 7] = [
        ("blk.18446744073709551615.attn_v.weight", &[u64::MAX, u64::MAX]),
        ("blk..ffn_down.weight", &[]),
        ("blk.99999999999999999999999.ffn_down.weight", &[2, 3]),
        ("weight", &[0, 0]),
        ("", &[1]),
        ("output.weight", &[5, 0]),
        ("token_embd.weight", &[7, 1]),
    ];
    let mut architecture = Architecture { layers: Some(u64::MAX), ..Architecture::default() };
    architecture.attention.kv_heads = Some(0);
    for mixture in ALL {
        assert_eq!(types(mixture, &tensors, &architecture, "llama").len(), tensors.len());
    }
}
