//! Lists the families of the atlas, so that only the file that is needed is parsed at run time.

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
    let head: Head = toml::from_str(&std::fs::read_to_string(path)?)?;
    let types = head.model_types.unwrap_or_else(|| vec![stem.to_string()]);
    let name = format!("{prefix}{stem}");
    let literal = format!(
        "Embedded {{ name: {name:?}, model_types: &{types:?}, classes: &{:?}, known_by: &{:?}, \
         text: include_str!({:?}) }},\n",
        head.classes,
        head.known_by,
        path.display().to_string(),
    );
    Ok((name, literal))
}
