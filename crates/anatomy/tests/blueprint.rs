//! The atlas against the reference library: every tensor that a configuration leads to, by name and shape.
//!
//! `data/blueprints/*.jsonl.gz` are made by `tools/make-blueprints.py` from lists that transformers 5.23 wrote: `tiny`
//! (small models of every class, as saved), `flags` (the same with structural flags flipped), `full` (class defaults),
//! `real` (well-known models), `variants` (other sizes, counts and flags than any of these, made by
//! `tools/make-variants.py`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

mod blueprints;

use std::collections::BTreeMap;

use anatomy::ErrorKind;
use anatomy::atlas::Atlas;
use anatomy::report::Blueprint as Report;
use blueprints::{Case, cases};
use rayon::prelude::*;

/// Lists that no family explains exactly, with the reason; the README's limits and docs/families.md say the same. A
/// list that is explained after all fails the test, so that this stays true.
const GAPS: &[(&str, &str)] = &[
    ("variants/deepseek_v3/1", "shared experts of no width, which no model has, are refused"),
    ("variants/exaone4/3", "heads that do not divide the width are refused; the class rounds down"),
    ("variants/mistral/3", "heads that do not divide the width are refused; the class rounds down"),
    ("variants/nemotron/3", "heads that do not divide the width are refused; the class rounds down"),
    ("variants/mllama/3", "more key-value than query heads: the class builds it and cannot run it"),
    ("variants/glm4v_moe__vlm/3", "more key-value than query heads are refused"),
    ("variants/internvl__vlm/0", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/internvl__vlm/1", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/internvl__vlm/2", "a projector of no width is refused"),
    ("variants/internvl__vlm/3", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/kimi_k25__vlm/2", "without a query rank the library saves q_proj under a garbled name"),
    ("variants/mistral_large4__vlm/0", "shared experts of no width, which no model has, are refused"),
    ("variants/mistral_large4__vlm/1", "shared experts of no width, which no model has, are refused"),
];

/// Lists of families that the atlas knows; it must not fall.
const KNOWN: usize = 1339;

/// What differs between a list and its blueprint; `None` where the family is not described yet.
fn differences(atlas: &Atlas, case: &Case) -> Option<Vec<String>> {
    let blueprint = match atlas.blueprint(&case.config) {
        Ok(blueprint) => blueprint,
        Err(error) if error.kind() == ErrorKind::Unsupported => return None,
        Err(error) => return Some(vec![error.to_string()]),
    };
    let mut wanted: BTreeMap<String, &[u64]> = case.tensors();
    let mut lines = Vec::new();
    for row in &blueprint.tensors {
        for number in 0..row.count {
            let names = std::iter::once(row.name(number)).chain(row.aliases(number));
            let found = names.into_iter().find_map(|name| Some((wanted.remove(&name)?, name)));
            match found {
                Some((shape, _)) if *shape == *row.shape => {}
                Some((shape, name)) => lines.push(format!("{name} is {:?}, not {shape:?}", row.shape)),
                None if row.optional.is_some() => {}
                None => lines.push(format!("{} {:?} is one too many", row.name(number), row.shape)),
            }
        }
    }
    lines.extend(wanted.iter().map(|(name, shape)| format!("{name} {shape:?} is missing")));
    Some(lines)
}

#[test]
fn every_list_of_the_reference_is_explained_name_by_name() {
    let atlas = Atlas::new();
    let all: Vec<Case> = cases();
    assert!(all.len() > 1000, "the lists are not all there");
    let compared: Vec<(String, Vec<String>)> =
        all.par_iter().filter_map(|case| Some((case.id(), differences(&atlas, case)?))).collect();
    assert!(compared.len() >= KNOWN, "only {} lists have a family", compared.len());
    let failed: Vec<(String, Vec<String>)> =
        compared.into_iter().filter(|(id, lines)| lines.is_empty() == GAPS.iter().any(|(gap, _)| gap == id)).collect();
    for (id, lines) in failed.iter().take(40) {
        println!("{id}: {} differ", lines.len());
        lines.iter().take(4).for_each(|line| println!("    {line}"));
    }
    assert!(failed.is_empty(), "{} of {} lists", failed.len(), all.len());
}

#[test]
fn totals_and_active_parameters_of_well_known_models_are_exact() {
    let atlas = Atlas::new();
    let mut active = 0;
    for case in cases().iter().filter(|case| case.set == "real") {
        let blueprint = match atlas.blueprint(&case.config) {
            Ok(blueprint) => blueprint,
            Err(error) if error.kind() == ErrorKind::Unsupported => continue,
            Err(error) => panic!("{}: {error}", case.name),
        };
        assert_eq!(Some(blueprint.total()), case.total, "{}", case.name);
        if let Some(wanted) = case.active {
            let report = Report::new("", blueprint, Some(&case.config), None, None);
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json["parameters"]["active"], wanted, "{}", case.name);
            active += 1;
        }
    }
    assert!(active > 5);
}
