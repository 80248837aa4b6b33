//! The `--atlas` option.

use std::path::{Path, PathBuf};

use anatomy::Error;
use anatomy::atlas::Atlas;

/// Families that the user adds.
#[derive(Debug, clap::Args)]
pub struct AtlasArg {
    /// Add a family, or a folder of them, to those that are known
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    atlas: Vec<PathBuf>,
}

impl AtlasArg {
    /// The library's families and those in the files and folders that the user names.
    pub fn open(&self) -> Result<Atlas, Error> {
        let mut atlas = Atlas::new();
        for path in &self.atlas {
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
