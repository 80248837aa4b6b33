//! Lists the families of the atlas, so that only the file that is needed is parsed at run time; as JSON, which is parsed
//! many times faster than TOML.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The part of a family's file by which a configuration finds it.
#[derive(Deserialize)]
struct Head {
    model_types: Option<Vec<String>>,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    known_by: Vec<String>,
    extends: Option<String>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    aliases: Vec<(String, String)>,
    #[serde(default)]
    include: toml::Table,
    #[serde(default)]
    part: BTreeMap<String, Part>,
}

/// What the index takes from a table of tensors.
#[derive(Deserialize)]
struct Part {
    under: Option<String>,
    #[serde(rename = "for")]
    loops: Option<toml::Value>,
    #[serde(rename = "if")]
    when: Option<String>,
    #[serde(default)]
    rows: Vec<Vec<toml::Value>>,
}

/// Ends of names: what tells at a glance that a family cannot have written a model.
#[derive(Default)]
struct Ends {
    /// Ends of all names, and whether some are not known before a configuration is.
    all: BTreeSet<String>,
    open: bool,
    /// Parts with the ends of names that every model of the family has.
    must: BTreeSet<(String, String)>,
}

impl Ends {
    fn of(head: &Head) -> Self {
        let mut ends = Ends::default();
        for (id, part) in &head.part {
            for row in &part.rows {
                let Some(name) = row.first().and_then(toml::Value::as_str) else { continue };
                let more = row.last().and_then(toml::Value::as_table);
                let aliases = more.and_then(|more| more.get("alias")).and_then(toml::Value::as_array);
                for name in std::iter::once(name).chain(aliases.into_iter().flatten().filter_map(|name| name.as_str()))
                {
                    match end(part, name) {
                        Some(end) => _ = ends.all.insert(end),
                        None => ends.open = true,
                    }
                }
                let plain = part.loops.is_none() && part.when.is_none() && more.is_none();
                if let Some(end) = end(part, name).filter(|_| plain) {
                    ends.must.insert((id.clone(), end));
                }
            }
        }
        ends
    }
}

/// The last two words of a name, where they are the same for every model.
fn end(part: &Part, name: &str) -> Option<String> {
    let whole = format!("{}{name}", part.under.as_deref().unwrap_or_default());
    // What precedes the names of a table may come from the extended family.
    if part.under.is_none() && !name.contains('.') {
        return None;
    }
    let words: Vec<&str> = whole.rsplit('.').take(2).collect();
    let [last, before] = words.as_slice() else { return None };
    let number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let fixed = |word: &&str| !word.contains(['{', '}', '*']) && !number(word) && !word.starts_with("expert_");
    (fixed(last) && fixed(before)).then(|| format!("{before}.{last}"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("atlas");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut families = Vec::new();
    for (folder, prefix) in [("", ""), ("gguf", "gguf/")] {
        for entry in std::fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                families.push(family(&path, prefix).map_err(|error| format!("{}: {error}", path.display()))?);
            }
        }
    }
    // By name, for a binary search.
    families.sort();
    let out: String = families.into_iter().map(|(_, literal)| literal).collect();
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("families.rs"), format!("&[\n{out}]"))?;
    Ok(())
}

/// The name of a family, and what is known of it as a Rust literal.
fn family(path: &Path, prefix: &str) -> Result<(String, String), Box<dyn Error>> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or("its name is not text")?;
    let table: toml::Table = toml::from_str(&std::fs::read_to_string(path)?)?;
    let json = serde_json::to_string(&table)?;
    let head: Head = table.try_into()?;
    let types = head.model_types.clone().unwrap_or_else(|| vec![stem.to_string()]);
    let name = format!("{prefix}{stem}");
    let Ends { all, open, must } = Ends::of(&head);
    let parts: Vec<&String> = head.part.keys().collect();
    let all: Vec<String> = all.into_iter().collect();
    let must: Vec<(String, String)> = must.into_iter().collect();
    let literal = format!(
        "Embedded {{ name: {name:?}, model_types: &{types:?}, classes: &{:?}, known_by: &{:?}, \
         json: {json:?}, extends: {:?}, drop: &{:?}, parts: &{parts:?}, aliases: &{:?}, includes: {}, ends: &{all:?}, \
         open: {open}, must: &{must:?} }},\n",
        head.classes,
        head.known_by,
        head.extends,
        head.drop,
        head.aliases,
        !head.include.is_empty(),
    );
    Ok((name, literal))
}
