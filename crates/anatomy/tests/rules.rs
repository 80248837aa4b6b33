//! The register of rules and the page that is made from it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use anatomy::scan::Verdict;

/// What a rule looks like in the wild, and where it is from.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    example: String,
    source: String,
}

fn examples() -> BTreeMap<String, Example> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rule-examples.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn page() -> String {
    let examples = examples();
    let mut rules: Vec<_> = anatomy::rules::ALL.iter().flat_map(|group| group.iter()).collect();
    rules.sort_by_key(|rule| rule.name);
    let mut page = String::from(
        "# Rules\n\nEvery finding names one of these rules. `error`: the format's own loader refuses the file, or what it \
         yields is wrong. `warning`: some programs will stumble over it. `note`: worth knowing. `anatomy scan` calls a \
         file `malicious` or `suspicious` where a rule says so, else `malformed` where there is an error.\n\nThis page is made \
         from the source: `ANATOMY_WRITE_DOCS=1 cargo test -p anatomy --test rules`.\n",
    );
    for rule in rules {
        let verdict = match Verdict::of_rule(rule) {
            verdict @ (Verdict::Malicious | Verdict::Suspicious) => format!(", {}", verdict.as_str()),
            _ => String::new(),
        };
        let _ = write!(
            page,
            "\n## {}\n\n*{}{verdict}.* {}\n\n**What to do:** {}.\n",
            rule.name,
            rule.severity.as_str(),
            rule.why,
            rule.help
        );
        if let Some(Example { example, source }) = examples.get(rule.name) {
            let _ = write!(page, "\n**Example:** {example}. **Source:** {source}.\n");
        }
    }
    page
}

#[test]
fn rules_are_named_well_and_once() {
    let mut names = HashSet::new();
    for rule in anatomy::rules::ALL.iter().flat_map(|group| group.iter()) {
        assert!(names.insert(rule.name), "{} stands twice", rule.name);
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(rule.name.chars().all(kebab), "{} is not kebab-case", rule.name);
        assert!(rule.why.ends_with('.'), "{}: the reason is a sentence", rule.name);
        assert!(!rule.help.ends_with('.') && !rule.help.is_empty(), "{}: the remedy is a clause", rule.name);
    }
}

#[test]
fn what_makes_a_file_dangerous_has_an_example_and_a_source() {
    let examples = examples();
    let rules: Vec<_> = anatomy::rules::ALL.iter().flat_map(|group| group.iter()).collect();
    for rule in &rules {
        let dangerous = Verdict::of_rule(rule) >= Verdict::Suspicious;
        assert!(!dangerous || examples.contains_key(rule.name), "{} has no example", rule.name);
    }
    for name in examples.keys() {
        assert!(rules.iter().any(|rule| rule.name == name), "there is no rule {name}");
    }
}

#[test]
fn the_page_of_rules_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
    if std::env::var_os("ANATOMY_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    assert!(stored == page(), "docs/rules.md is out of date: ANATOMY_WRITE_DOCS=1 cargo test -p anatomy --test rules");
}
