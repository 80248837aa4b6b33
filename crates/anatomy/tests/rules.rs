//! The register of rules and the page that is made from it.

use std::collections::HashSet;
use std::fmt::Write;

fn page() -> String {
    let mut rules: Vec<_> = anatomy::rules::ALL.iter().flat_map(|group| group.iter()).collect();
    rules.sort_by_key(|rule| rule.name);
    let mut page = String::from(
        "# Rules\n\nEvery finding names one of these rules. `error`: the format's own loader refuses the file, or what it \
         yields is wrong. `warning`: some programs will stumble over it. `note`: worth knowing.\n\nThis page is made \
         from the source: `ANATOMY_WRITE_DOCS=1 cargo test -p anatomy --test rules`.\n",
    );
    for rule in rules {
        let _ = write!(
            page,
            "\n## {}\n\n*{}.* {}\n\n**What to do:** {}.\n",
            rule.name,
            rule.severity.as_str(),
            rule.why,
            rule.help
        );
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
fn the_page_of_rules_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
    if std::env::var_os("ANATOMY_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    assert!(stored == page(), "docs/rules.md is out of date: ANATOMY_WRITE_DOCS=1 cargo test -p anatomy --test rules");
}
