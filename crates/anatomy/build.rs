//! Lists the families of the atlas, so that only the file that is needed is parsed at run time.

use std::fmt::Write as _;
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

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("atlas");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut out = String::from("&[\n");
    for (folder, prefix) in [("", ""), ("gguf", "gguf/")] {
        let mut files: Vec<PathBuf> = std::fs::read_dir(root.join(folder))
            .expect("the atlas is part of the package")
            .map(|entry| entry.expect("a readable folder").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        for path in files {
            family(&mut out, &path, prefix);
        }
    }
    out.push(']');
    let target = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join("families.rs");
    std::fs::write(target, out).expect("the build folder is writable");
}

fn family(out: &mut String, path: &Path, prefix: &str) {
    let stem = path.file_stem().expect("a file").to_str().expect("family names are ASCII").to_string();
    let text = std::fs::read_to_string(path).expect("a readable file");
    let head: Head = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let types = head.model_types.unwrap_or_else(|| vec![stem.clone()]);
    writeln!(
        out,
        "Embedded {{ name: {:?}, model_types: &{types:?}, classes: &{:?}, known_by: &{:?}, text: include_str!({:?}) }},",
        format!("{prefix}{stem}"),
        head.classes,
        head.known_by,
        path.display().to_string(),
    )
    .expect("a string");
}
