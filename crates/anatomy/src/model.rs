//! A model: one file, or shards, configuration and tokenizer joined from a folder.

mod index;
mod select;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value as Json;

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Rule, Severity};
use crate::probe::{self, Identity};
use crate::source::Source;
use crate::tensor::Tensor;

pub use index::{WholeIndex, read_index};

static SHARD_MISSING: Rule = Rule {
    name: "shard-missing",
    severity: Severity::Error,
    why: "A part of the model is not there, so its tensors are missing and the model does not load.",
    help: "download the missing file into the same folder",
};
static SHARD_UNREADABLE: Rule = Rule {
    name: "file-unreadable",
    severity: Severity::Error,
    why: "A file that belongs to the model cannot be read, so what it holds is missing from this report.",
    help: "look at the message; download the file again if it is damaged",
};
static INDEX_BROKEN: Rule = Rule {
    name: "index-broken",
    severity: Severity::Error,
    why: "The index that says which shard holds which tensor is not the JSON that it must be; loaders stop there.",
    help: "download the index again, or make it anew from the shards",
};
static INDEX_ESCAPES: Rule = Rule {
    name: "index-path-outside",
    severity: Severity::Error,
    why: "The index names a file outside of its own folder. It is not opened: an index has no reason to do that.",
    help: "do not trust the model; get it from its author again",
};
static CONFIG_BROKEN: Rule = Rule {
    name: "config-broken",
    severity: Severity::Error,
    why: "The configuration is not valid JSON, so loaders cannot build the model.",
    help: "download the configuration again",
};
static SEVERAL_MODELS: Rule = Rule {
    name: "several-models",
    severity: Severity::Note,
    why: "The folder holds the weights more than once (other formats or quantisations); one set is shown.",
    help: "name the file that you want to look at",
};
static TENSOR_TWICE: Rule = Rule {
    name: "tensor-in-two-shards",
    severity: Severity::Error,
    why: "Two shards hold a tensor of the same name; which one counts depends on the loader.",
    help: "make the shards anew from one model",
};

/// The rules of joining files.
pub static RULES: &[&Rule] =
    &[&SHARD_MISSING, &SHARD_UNREADABLE, &INDEX_BROKEN, &INDEX_ESCAPES, &CONFIG_BROKEN, &SEVERAL_MODELS, &TENSOR_TWICE];

/// Configuration files longer than this are not read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// What a file is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// Tensors.
    Weights,
    /// `config.json`, `generation_config.json`, `params.json`, …
    Config,
    /// Vocabulary and rules of tokenization.
    Tokenizer,
    /// Which shard holds which tensor.
    Index,
    /// Chat template.
    Template,
    /// Anything else.
    Other,
}

/// One file of a model, opened.
#[derive(Debug)]
pub struct ModelFile {
    /// Path as the user would write it.
    pub path: String,
    /// Its bytes.
    pub source: Source,
    /// Format, with the reason.
    pub identity: Identity,
    /// What it is to the model.
    pub role: FileRole,
    /// What its reader found.
    pub container: Container,
}

/// A model, joined from its files. Weights come first in `files`, in the order of the shards.
#[derive(Debug)]
pub struct Model {
    /// What was asked for, as the user wrote it.
    pub source: String,
    /// Its files.
    pub files: Vec<ModelFile>,
    /// `config.json` (or Mistral's `params.json`), where there is one.
    pub config: Option<Json>,
    /// Findings of joining; those of reading are with the files' containers.
    pub findings: Vec<Finding>,
}

impl Model {
    /// Opens a file, a folder, an index, or one shard of several (its siblings are found beside it).
    pub fn open(path: &Path) -> Result<Self> {
        let selection = select::select(path)?;
        let mut model =
            Model { source: path.display().to_string(), files: Vec::new(), config: None, findings: selection.findings };
        let opened: Vec<_> = selection.files.into_par_iter().map(|(path, role)| open_file(&path, role)).collect();
        let only = opened.len() == 1;
        let mut unread = crate::Findings::new();
        let mut missing: Vec<String> = Vec::new();
        for file in opened {
            match file {
                Ok(file) => model.files.push(file),
                // One bad file among several must not hide the others.
                Err(error) if only => return Err(error),
                Err(error) => {
                    let file = error.path().unwrap_or_default().to_string();
                    if error.kind() == ErrorKind::NotFound {
                        missing.push(file);
                        continue;
                    }
                    let message = format!("{file}: {}", error.message());
                    let mut finding = Finding::new(&SHARD_UNREADABLE, message).file(file);
                    finding.offset = error.offset();
                    finding.member = error.member().map(str::to_string);
                    unread.push(finding);
                }
            }
        }
        model.findings.extend(missing_shards(&missing));
        model.findings.extend(unread.finish());
        if model.files.is_empty() {
            return Err(
                Error::new(ErrorKind::Unreadable, "none of the model's files can be read").in_file(&*model.source)
            );
        }
        model.read_config();
        model.find_repeated_tensors();
        Ok(model)
    }

    /// The files that hold tensors, each with its container.
    pub fn weights(&self) -> impl Iterator<Item = &ModelFile> {
        self.files.iter().filter(|file| !file.container.tensors.is_empty())
    }

    /// All tensors in order of their files, each with the index of its file.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &Tensor)> {
        let numbered = self.files.iter().enumerate();
        numbered.flat_map(|(index, file)| file.container.tensors.iter().map(move |tensor| (index, tensor)))
    }

    /// All findings: those of joining first, then those of each file, with its path.
    pub fn all_findings(&self) -> Vec<Finding> {
        let mut all = self.findings.clone();
        for file in &self.files {
            let named = |finding: &Finding| Finding {
                file: Some(finding.file.clone().unwrap_or_else(|| file.path.clone())),
                ..finding.clone()
            };
            all.extend(file.container.findings.iter().map(named));
        }
        all
    }

    /// Whether a file that belongs to the model is missing or cannot be read.
    pub fn is_incomplete(&self) -> bool {
        self.findings.iter().any(|finding| [SHARD_MISSING.name, SHARD_UNREADABLE.name].contains(&finding.rule.name))
    }

    /// Every name that the indexes of the model list, in order.
    pub fn listed_names(&self) -> Vec<String> {
        let indexes = self.files.iter().filter(|file| file.role == FileRole::Index);
        // What is no index was reported when the model was opened.
        let read = indexes.filter_map(|file| read_index(&file.source).ok());
        let mut all: Vec<String> = read.flat_map(|index| index.weight_map.into_iter().map(|(name, _)| name)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The GGUF metadata, where the model is a GGUF. Of a split one, the first part carries them.
    pub fn gguf(&self) -> Option<&ModelFile> {
        self.files.iter().find(|file| file.container.format.id == "gguf" && file.role == FileRole::Weights)
    }

    fn read_config(&mut self) {
        let name = |file: &ModelFile| file.path.rsplit(['/', '\\']).next().unwrap_or_default().to_string();
        let wanted = ["config.json", "params.json"];
        let found = wanted.iter().find_map(|wanted| self.files.iter().find(|file| name(file) == *wanted));
        // A configuration may also be the very file that was asked for, under whatever name.
        let found = found.or_else(|| self.files.first().filter(|file| file.identity.format.id == "config-json"));
        let Some(file) = found else { return };
        match read_json(&file.source) {
            Ok(config) => self.config = Some(config),
            Err(error) => {
                let mut finding = Finding::new(&CONFIG_BROKEN, error.message()).file(&*file.path);
                finding.offset = error.offset();
                self.findings.push(finding);
            }
        }
    }

    fn find_repeated_tensors(&mut self) {
        if self.weights().count() < 2 {
            return;
        }
        let count = self.tensors().count();
        let hasher = foldhash::fast::RandomState::default();
        let mut seen = std::collections::HashMap::with_capacity_and_hasher(count, hasher);
        let mut findings = crate::Findings::new();
        for (index, tensor) in self.tensors() {
            if let Some(first) = seen.insert(tensor.name.as_str(), index)
                && first != index
            {
                let path = |index: usize| self.files.get(index).map(|file| file.path.as_str()).unwrap_or_default();
                let message = format!("tensor {:?} is in {} and in {}", tensor.name, path(first), path(index));
                findings.push(Finding::new(&TENSOR_TWICE, message).file(path(index)).tensor(&*tensor.name));
            }
        }
        self.findings.extend(findings.finish());
    }
}

/// One finding for all files that are not there: a line each would hide everything else.
fn missing_shards(paths: &[String]) -> Option<Finding> {
    const SHOWN: usize = 3;
    let first = paths.first()?;
    let message = match paths.len() {
        1 => format!("{first} is missing: its tensors are not in this report"),
        count => {
            let names = paths.iter().map(|path| path.rsplit(['/', '\\']).next().unwrap_or(path));
            let mut names = names.take(SHOWN).collect::<Vec<_>>().join(", ");
            if count > SHOWN {
                names.push_str(&format!(" and {} more", count - SHOWN));
            }
            format!("{count} files are missing ({names}): their tensors are not in this report")
        }
    };
    Some(Finding::new(&SHARD_MISSING, message).file(first.as_str()))
}

fn open_file(path: &Path, role: Option<FileRole>) -> Result<ModelFile> {
    let source = Source::open(path)?;
    let (identity, container) = probe::open(&source)?;
    let path = source.name().to_string();
    let role = role.unwrap_or_else(|| role_of(&path, &identity, &container));
    Ok(ModelFile { path, source, identity, role, container })
}

/// What a file of this name and content is to a model.
fn role_of(path: &str, identity: &Identity, container: &Container) -> FileRole {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    if !container.tensors.is_empty() {
        return FileRole::Weights;
    }
    match identity.format.id {
        "safetensors-index" | "pytorch-index" => FileRole::Index,
        "sentencepiece" | "tokenizer-json" | "tekken" | "tiktoken" => FileRole::Tokenizer,
        _ if name.contains("chat_template") || name.ends_with(".jinja") => FileRole::Template,
        _ if select::is_tokenizer_name(&name) => FileRole::Tokenizer,
        "config-json" => FileRole::Config,
        "gguf" | "ggml" | "safetensors" | "pytorch-zip" | "pytorch-legacy" | "pytorch-tar" | "torchscript" | "onnx"
        | "npy" | "npz" | "hdf5" | "tflite" | "pickle" | "flax-msgpack" | "keras-zip" | "nemo" | "llamafile"
        | "executorch" | "coreml" | "tf-savedmodel" | "tf-checkpoint" | "git-lfs-pointer" => FileRole::Weights,
        "json" if name.ends_with("config.json") => FileRole::Config,
        _ => FileRole::Other,
    }
}

/// A JSON file as a tree, bounded in size; serde_json bounds the depth.
pub fn read_json(source: &Source) -> Result<Json> {
    if source.len() > MAX_CONFIG {
        let message = format!("a configuration of {} bytes; the limit is {MAX_CONFIG}", source.len());
        return Err(Error::new(ErrorKind::Limit, message).in_file(source.name()));
    }
    let bytes = source.read(0..source.len())?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|error| {
        let message = format!("not valid JSON: {error}");
        Error::malformed(message).in_file(source.name())
    })
}

/// A path beside another one.
fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().map(|folder| folder.join(name)).unwrap_or_else(|| PathBuf::from(name))
}
