//! The lists of the reference library.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value as Json;

/// One configuration with its tensors.
pub struct Case {
    /// `tiny`, `flags`, `full`, `real` or `variants`.
    pub set: &'static str,
    pub name: String,
    pub config: Json,
    pub total: Option<u64>,
    pub active: Option<u64>,
    rows: Vec<(String, Vec<u64>)>,
}

impl Case {
    pub fn id(&self) -> String {
        format!("{}/{}", self.set, self.name)
    }

    /// Every tensor with its shape.
    pub fn tensors(&self) -> BTreeMap<String, &[u64]> {
        let mut all = BTreeMap::new();
        for (pattern, shape) in &self.rows {
            for name in expand(pattern) {
                all.insert(name, shape.as_slice());
            }
        }
        all
    }
}

/// The names that a pattern with sets of numbers in braces stands for.
fn expand(pattern: &str) -> Vec<String> {
    let Some((front, rest)) = pattern.split_once('{') else { return vec![pattern.to_string()] };
    let (set, back) = rest.split_once('}').unwrap();
    let tails = expand(back);
    let numbers = set.split(',').flat_map(|run| {
        let (first, last) = run.split_once("..").unwrap_or((run, run));
        first.parse::<u64>().unwrap()..=last.parse().unwrap()
    });
    numbers.flat_map(|number| tails.iter().map(move |tail| format!("{front}{number}{tail}"))).collect()
}

/// All lists.
pub fn cases() -> Vec<Case> {
    let sets = ["tiny", "flags", "full", "real", "variants"];
    sets.into_iter().flat_map(|set| read(set).into_iter()).collect()
}

fn read(set: &'static str) -> Vec<Case> {
    let path = format!("tests/data/blueprints/{set}.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| {
        let line: Json = serde_json::from_str(line).unwrap();
        Case {
            set,
            name: line["name"].as_str().unwrap().to_string(),
            config: line["config"].clone(),
            total: line["total"].as_u64(),
            active: line["active"]["active_params"].as_u64(),
            rows: serde_json::from_value(line["rows"].clone()).unwrap(),
        }
    });
    lines.collect()
}
