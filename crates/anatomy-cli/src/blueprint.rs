//! `anatomy blueprint`: which tensors follow from a configuration alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anatomy::atlas::Atlas;
use anatomy::metadata::Metadata;
use anatomy::model::{Model, read_json};
use anatomy::report::Blueprint;
use anatomy::source::Source;
use anatomy::{Error, ErrorKind};
use serde_json::Value as Json;

use crate::model::local;
use crate::output::{Failure, Output};

/// Which tensors, shapes and parameter counts follow from a configuration alone
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A config.json, a params.json, a GGUF, or a directory or model that holds one
    #[arg(value_name = "CONFIG", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// Add a family, or a folder of them, to those that are known
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    atlas: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let atlas = atlas(&args.atlas)?;
    let shown = args.path.display().to_string();
    let report = match configuration(&args.path)? {
        Configuration::Json(config) => {
            let blueprint = atlas.blueprint(&config).map_err(|error| error.in_file(&*shown))?;
            Blueprint::new(&shown, blueprint, Some(&config), None)
        }
        Configuration::Gguf(metadata) => {
            let blueprint = atlas.blueprint_of_gguf(&metadata).map_err(|error| error.in_file(&*shown))?;
            Blueprint::new(&shown, blueprint, None, Some(&metadata))
        }
    };
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width()))?
    }
    Ok(ExitCode::SUCCESS)
}

/// From what a blueprint follows.
enum Configuration {
    Json(Json),
    Gguf(Metadata),
}

/// The configuration that a path stands for.
fn configuration(path: &Path) -> Result<Configuration, Error> {
    let path = local(path)?;
    // The weights beside a configuration need not be opened.
    for name in ["config.json", "params.json"] {
        let inside = path.join(name);
        if inside.is_file() {
            return read_json(&Source::open(&inside)?).map(Configuration::Json);
        }
    }
    let model = Model::open(path)?;
    if let Some(config) = model.config {
        return Ok(Configuration::Json(config));
    }
    if let Some(file) = model.files.into_iter().find(|file| file.container.format.id == "gguf") {
        return Ok(Configuration::Gguf(file.container.metadata));
    }
    // A file of another name that was meant as a configuration fails with the reason why it is none.
    let source = Source::open(path)?;
    if source.len() > 0 && source.read(0..1)?.as_slice() == b"{" {
        return read_json(&source).map(Configuration::Json);
    }
    Err(Error::new(ErrorKind::Unsupported, "neither a configuration nor a GGUF is there")
        .in_file(path.display().to_string())
        .help("name a config.json, a params.json, a GGUF, or a folder that holds one"))
}

/// The library's families and those in the files and folders that the user names.
pub fn atlas(paths: &[PathBuf]) -> Result<Atlas, Error> {
    let mut atlas = Atlas::new();
    for path in paths {
        if !path.is_dir() {
            add(&mut atlas, "", path)?;
            continue;
        }
        for (folder, prefix) in [(path.clone(), ""), (path.join("gguf"), "gguf/")] {
            if !prefix.is_empty() && !folder.is_dir() {
                continue;
            }
            let shown = folder.display().to_string();
            let entries = std::fs::read_dir(&folder).map_err(|error| Error::io(&*shown, &error))?;
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
            files.sort();
            files.iter().try_for_each(|file| add(&mut atlas, prefix, file))?;
        }
    }
    Ok(atlas)
}

fn add(atlas: &mut Atlas, prefix: &str, file: &Path) -> Result<(), Error> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| Error::io(&*shown, &error))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    // A family of llama.cpp's own is known by the folder that it is in.
    let inside = file.parent().and_then(|folder| folder.file_name()).is_some_and(|folder| folder == "gguf");
    let prefix = if inside { "gguf/" } else { prefix };
    atlas.add(&format!("{prefix}{name}"), &text).map_err(|error| error.in_file(&*shown))
}
