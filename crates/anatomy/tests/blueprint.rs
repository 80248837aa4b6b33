//! The atlas against the reference library: every tensor that a configuration leads to, by name and shape.
//!
//! `data/blueprints/*.jsonl.gz` are made by `tools/make-blueprints.py` from lists that transformers 5.23 wrote: `tiny`
//! (small models of every class, as saved), `flags` (the same with structural flags flipped), `full` (class defaults),
//! `real` (well-known models), `variants` (other sizes, counts and flags than any of these, made by
//! `tools/make-variants.py`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod blueprints;

use std::collections::BTreeMap;

use anatomy::atlas::Atlas;
use anatomy::names;
use anatomy::report::Blueprint as Report;
use blueprints::{Case, cases};
use rayon::prelude::*;

/// Lists that no family explains exactly, with the reason; the README's limits and docs/families.md say the same. A
/// list that is explained after all fails the test, so that this stays true.
const GAPS: &[(&str, &str)] = &[];

/// What differs between a list and its blueprint, a few lines of it.
fn differences(atlas: &Atlas, case: &Case) -> Vec<String> {
    let blueprint = match atlas.blueprint(&case.config) {
        Ok(blueprint) => blueprint,
        Err(error) => return vec![error.to_string()],
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
    lines
}

#[test]
fn every_list_of_the_reference_is_explained_name_by_name() {
    let atlas = Atlas::new();
    let all: Vec<Case> = cases();
    assert!(all.len() > 1000, "the lists are not all there");
    let failed: Vec<(String, Vec<String>)> = all
        .par_iter()
        .map(|case| (case.id(), differences(&atlas, case)))
        .filter(|(id, lines)| lines.is_empty() == GAPS.iter().any(|(gap, _)| gap == id))
        .collect();
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
        let blueprint = atlas.blueprint(&case.config).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(Some(blueprint.total()), case.total, "{}", case.name);
        if let Some(wanted) = case.active {
            let report = Report::new("", blueprint, Some(&case.config), None, None);
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json["parameters"]["active"], wanted, "{}", case.name);
            active += 1;
        }
    }
    assert!(active > 20);
}

#[test]
fn the_grammar_of_names_gives_the_roles_of_the_tables() {
    let atlas = Atlas::new();
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.set == "tiny") {
        let Ok(blueprint) = atlas.blueprint(&case.config) else { continue };
        let rows = &blueprint.tensors;
        let list: Vec<String> = rows.iter().map(|row| row.name(0)).collect();
        let parts = names::parse_all(list.iter().map(String::as_str));
        for ((row, part), name) in rows.iter().zip(parts).zip(&list) {
            if row.role != part.role {
                wrong.push(format!(
                    "{}: {name} is {} in the table, {} in the grammar",
                    case.name,
                    row.role.as_str(),
                    part.role.as_str()
                ));
            }
        }
    }
    wrong.iter().take(60).for_each(|line| println!("{line}"));
    assert!(wrong.is_empty(), "{} names", wrong.len());
}
