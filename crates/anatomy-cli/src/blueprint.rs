//! `anatomy blueprint`: which tensors follow from a configuration alone.

use std::path::PathBuf;
use std::process::ExitCode;

use anatomy::atlas::Atlas;
use anatomy::report::Blueprint;
use anatomy::{Error, ErrorKind};
use serde_json::Value as Json;

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
    let path = if args.path.is_dir() { args.path.join("config.json") } else { args.path.clone() };
    let shown = path.display().to_string();
    let bytes = std::fs::read(&path).map_err(|error| Error::io(&*shown, &error))?;
    let config: Json = serde_json::from_slice(&bytes)
        .map_err(|error| Error::malformed(format!("it is not the JSON that it must be: {error}")).in_file(&*shown))?;
    let blueprint = atlas.blueprint(&config).map_err(|error| error.in_file(&*shown))?;
    let report = Blueprint::new(&shown, blueprint, &config);
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width()))?
    }
    Ok(ExitCode::SUCCESS)
}

/// The library's families and those in the files and folders that the user names.
pub fn atlas(paths: &[PathBuf]) -> Result<Atlas, Error> {
    let mut atlas = Atlas::new();
    for path in paths {
        let folder = || Error::new(ErrorKind::Unreadable, "cannot be listed").in_file(path.display().to_string());
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files =
                std::fs::read_dir(path).map_err(|_| folder())?.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
            files.sort();
        }
        for file in files {
            let shown = file.display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|error| Error::io(&*shown, &error))?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            atlas.add(&name, &text).map_err(|error| error.in_file(&*shown))?;
        }
    }
    Ok(atlas)
}
