//! The MODEL argument.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anatomy::model::Model;
use anatomy::{Error, ErrorKind};

/// The model that a command is about.
#[derive(Debug, clap::Args)]
pub struct ModelArg {
    /// A file, a directory that holds a model, an index, or one shard of several
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
}

impl ModelArg {
    /// Opens it.
    pub fn open(&self) -> Result<ManuallyDrop<Model>, Error> {
        // The process ends with its answer: half a million names need not be freed one by one before.
        Model::open(local(&self.path)?).map(ManuallyDrop::new)
    }
}

/// Refuses what looks like a path and is none.
pub fn local(path: &Path) -> Result<&Path, Error> {
    let shown = path.to_string_lossy();
    let refuse = |kind, message: &str, help: &str| Err(Error::new(kind, message).in_file(&*shown).help(help));
    if shown == "-" {
        let message = "a model cannot be read from standard input, since its parts are read out of order";
        return refuse(ErrorKind::Usage, message, "save it to a file first (a file of this name is `./-`)");
    }
    let scheme = shown.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
    if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        let message = "remote models are not read yet";
        return refuse(ErrorKind::Unsupported, message, "download it first and name the local copy");
    }
    Ok(path)
}
