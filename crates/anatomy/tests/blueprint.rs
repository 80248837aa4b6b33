//! The atlas against the reference library: every tensor that a configuration leads to, by name and shape.
//!
//! `data/blueprints/*.jsonl.gz` are made by `tools/make-blueprints.py` from lists that transformers 5.23 wrote: `tiny`
//! (small models of every class, as saved), `flags` (the same with structural flags flipped), `full` (class defaults),
//! `real` (well-known models), `variants` (other sizes, counts and flags than any of these, made by
//! `tools/make-variants.py`, beside small models of what `full` alone has and pairs of two models, by
//! `tools/make-small.py`; those numbered `sN` are the lines of `tools/stated-variants.txt`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

mod blueprints;

use std::collections::BTreeMap;
use std::fmt::Write;

use anatomy::ErrorKind;
use anatomy::architecture::Witness;
use anatomy::atlas::Atlas;
use anatomy::names;
use anatomy::report::Blueprint as Report;
use blueprints::{Case, cases};
use rayon::prelude::*;

/// Lists that no family explains exactly, with the reason; the README's limits and docs/families.md say the same. A
/// list that is explained after all fails the test, so that this stays true.
const GAPS: &[(&str, &str)] = &[
    ("variants/exaone4/3", "heads that do not divide the width are refused; the class rounds down"),
    ("variants/mistral/3", "heads that do not divide the width are refused; the class rounds down"),
    ("variants/nemotron/3", "heads that do not divide the width are refused; the class rounds down"),
    ("variants/mllama/3", "more key-value than query heads: the class builds it and cannot run it"),
    ("variants/qwen2_vl__vlm/3", "more key-value than query heads are refused"),
    ("variants/glm4v_moe__vlm/3", "more key-value than query heads are refused"),
    ("variants/internvl__vlm/0", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/internvl__vlm/1", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/internvl__vlm/2", "a projector of no width is refused"),
    ("variants/internvl__vlm/3", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/qianfan_ocr__vlm/0", "a patch of three dimensions, which the class builds and cannot run"),
    ("variants/qianfan_ocr__vlm/1", "a projector of no width is refused"),
    ("variants/qianfan_ocr__vlm/2", "a projector of no width is refused"),
    ("variants/qianfan_ocr__vlm/3", "a projector of no width is refused"),
    ("variants/voxtral_realtime__seq2seq/3", "more key-value than query heads are refused"),
    ("variants/pp_formulanet__vlm/3", "an image smaller than a patch is refused"),
    ("variants/kimi_k25__vlm/2", "without a query rank the library saves q_proj under a garbled name"),
];

/// Causal checkpoints whose family is not among the candidates that names and shapes give.
const NOT_BY_NAMES: &[&str] = &[];

/// Lists of families that the atlas knows; it must not fall.
const KNOWN: usize = 2840;

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

/// Families whose list of class defaults was made with some keys stated.
const STATED: &[&str] = &[
    "dbrx",
    "dots1",
    "encoder-decoder__seq2seq",
    "glm5_next__vlm",
    "lfm2_moe",
    "nemotron",
    "pi0__vlm",
    "qwen4_exp",
    "qwen4_exp_text",
    "vision-encoder-decoder__vlm",
];

/// The lists of `full` were made of class defaults: a configuration that states none of them leads to the same.
#[test]
fn what_a_configuration_leaves_out_is_as_the_class_has_it() {
    let atlas = Atlas::new();
    let mut all: Vec<Case> = cases();
    all.retain(|case| case.set == "full" && !STATED.contains(&case.name.as_str()));
    for case in &mut all {
        let named = ["model_type", "architectures"].map(|key| (key.to_string(), case.config[key].clone()));
        case.config = named.into_iter().filter(|(_, value)| !value.is_null()).collect();
    }
    let failed: Vec<(String, Vec<String>)> = all
        .par_iter()
        .filter_map(|case| Some((case.id(), differences(&atlas, case)?)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    for (id, lines) in &failed {
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

/// Tables of integers are stored beside the numbers, and are none: the library counts 278,145 learned numbers in
/// DeepSeek-V4's small model, the correction of three routers by six experts comes to them, a table of 320 × 2 does not.
#[test]
fn integer_tables_are_not_parameters() {
    let all = cases();
    let case = all.iter().find(|case| case.id() == "tiny/deepseek_v4").unwrap();
    let report = Report::new("", Atlas::new().blueprint(&case.config).unwrap(), Some(&case.config), None, None);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["parameters"]["total"], 278_145 + 3 * 6);
    assert_eq!(json["parameters"]["buffers"], 3 * 6);
    assert!(case.tensors().keys().any(|name| name.ends_with("gate.tid2eid")));
}

#[test]
fn the_family_is_among_those_that_names_and_shapes_suggest() {
    let atlas = Atlas::new();
    let all = cases();
    // The checkpoints of causal models; composite ones hold towers that their configuration alone describes.
    let causal = all.iter().filter(|case| case.set == "tiny" && !case.name.contains("__"));
    let mut tried = 0;
    let mut failed: Vec<&str> = Vec::new();
    for case in causal {
        let Ok(family) = atlas.of_config(&case.config) else { continue };
        let tensors = case.tensors();
        let parts = names::parse_all(tensors.keys().map(String::as_str));
        let witnesses: Vec<Witness> =
            tensors.iter().zip(parts).map(|((name, shape), part)| (name.as_str(), *shape, part)).collect();
        tried += 1;
        if !atlas.candidates(&witnesses).contains(&family.name) {
            failed.push(&case.name);
        }
    }
    assert!(tried >= 90, "only {tried} have a family");
    assert_eq!(failed, NOT_BY_NAMES);
}

/// For each family how many of its lists in each set are exact, of how many.
fn page() -> String {
    let atlas = Atlas::new();
    let all = cases();
    let outcomes: Vec<(String, &'static str, bool)> = all
        .par_iter()
        .filter_map(|case| {
            let family = atlas.of_config(&case.config).ok()?;
            Some((family.name.clone(), case.set, differences(&atlas, case)?.is_empty()))
        })
        .collect();
    let mut page = String::from(
        "# Families\n\nWhat the atlas knows, one data file each in `crates/anatomy/atlas`. The columns count the lists of \
         tensors that transformers 5.23 wrote and that the family explains exactly, by name and shape, of how many: \
         small models as saved, the same with flags flipped, class defaults, well-known models, and variants of other \
         sizes. A family without figures is a part of others, or was compared with what it names as its source only; \
         those of `gguf/` are fitted to one or two headers of an architecture, most of them of small models, and held to \
         them by `crates/anatomy/tests/gguf.rs`. What is not known of a family stands in the last column. The exceptions have their reasons in \
         `crates/anatomy/tests/blueprint.rs`. A configuration of any other family is refused.\n\nThis page is made from \
         the data: `ANATOMY_WRITE_DOCS=1 cargo test -p anatomy --test blueprint`.\n\n| family | name | small | flags | \
         defaults | real | variants | not known |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut names: Vec<&str> = atlas.names().collect();
    names.sort_unstable();
    for name in names {
        let family = atlas.family(name).unwrap();
        let figures = ["tiny", "flags", "full", "real", "variants"].map(|set| {
            let of: Vec<bool> =
                outcomes.iter().filter(|(n, s, _)| n == name && *s == set).map(|(.., ok)| *ok).collect();
            let exact = of.iter().filter(|ok| **ok).count();
            if of.is_empty() { String::new() } else { format!("{exact} of {}", of.len()) }
        });
        let unknown = family.unknown.as_deref().unwrap_or_default();
        let _ = writeln!(page, "| `{name}` | {} | {} | {unknown} |", family.title, figures.join(" | "));
    }
    page
}

#[test]
fn the_page_of_families_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/families.md");
    if std::env::var_os("ANATOMY_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    let how = "ANATOMY_WRITE_DOCS=1 cargo test -p anatomy --test blueprint";
    assert!(stored == page(), "docs/families.md is out of date: {how}");
}

/// As transformers 5.23 builds the classes with three labels.
#[test]
fn classes_with_another_head_have_theirs() {
    type Head = &'static [(&'static str, &'static [u64])];
    let atlas = Atlas::new();
    let all = cases();
    let classes: [(&str, &str, Head); 7] = [
        ("llama", "LlamaForSequenceClassification", &[("score.weight", &[3, 48])]),
        ("llama", "LlamaForTokenClassification", &[("score.bias", &[3]), ("score.weight", &[3, 48])]),
        ("llama", "LlamaModel", &[]),
        ("llama", "LlamaForQuestionAnswering", &[("qa_outputs.bias", &[2]), ("qa_outputs.weight", &[2, 48])]),
        ("gpt2", "GPT2ForQuestionAnswering", &[("qa_outputs.bias", &[2]), ("qa_outputs.weight", &[2, 64])]),
        ("gpt2", "GPT2ForSequenceClassification", &[("score.weight", &[3, 64])]),
        ("gpt2", "GPT2ForTokenClassification", &[("classifier.bias", &[3]), ("classifier.weight", &[3, 64])]),
    ];
    for (name, class, head) in classes {
        let case = all.iter().find(|case| case.id() == format!("tiny/{name}")).unwrap();
        let mut config = case.config.clone();
        config["architectures"] = serde_json::json!([class]);
        config["id2label"] = serde_json::json!({"0": "bad", "1": "good", "2": "odd"});
        let blueprint = atlas.blueprint(&config).unwrap();
        let mut wanted = case.tensors();
        wanted.retain(|name, _| !name.starts_with("lm_head"));
        if class.ends_with("Model") {
            let bare = |name: String| name.strip_prefix("model.").unwrap_or(&name).to_string();
            wanted = wanted.into_iter().map(|(name, shape)| (bare(name), shape)).collect();
        }
        // The class of Llama is called `transformer` within its model for answers (modeling_llama.py).
        if class.ends_with("Answering") {
            let old =
                |name: String| name.strip_prefix("model.").map(|rest| format!("transformer.{rest}")).unwrap_or(name);
            wanted = wanted.into_iter().map(|(name, shape)| (old(name), shape)).collect();
        }
        wanted.extend(head.iter().map(|(name, shape)| (name.to_string(), *shape)));
        let found: BTreeMap<String, &[u64]> = blueprint.tensors.iter().map(|row| (row.name(0), &*row.shape)).collect();
        assert_eq!(found, wanted, "{class}");
        assert!(blueprint.assumptions.iter().any(|text| text.contains(class)), "{class}");
    }
}
