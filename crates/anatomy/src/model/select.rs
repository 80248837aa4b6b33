//! Which files make up the model that the user asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{FileRole, INDEX_BROKEN, INDEX_ESCAPES, SEVERAL_MODELS, beside, index};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::probe::extension;
use crate::source::Source;

/// Files to open, weights first, with their role where their name settles it.
pub(super) struct Selection {
    pub(super) files: Vec<(PathBuf, Option<FileRole>)>,
    pub(super) findings: Vec<Finding>,
}

/// A folder with more entries than this is no model.
const MAX_ENTRIES: usize = 100_000;

/// Finds the files.
pub(super) fn select(path: &Path) -> Result<Selection> {
    let metadata = fs::metadata(path).map_err(|error| Error::io(path.display().to_string(), &error))?;
    if metadata.is_dir() {
        return select_folder(path);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut selection = Selection { files: Vec::new(), findings: Vec::new() };
    if name.ends_with(".index.json") {
        selection.index(path);
        selection.companions(path)?;
    } else if let Some(shard) = Shard::parse(&name) {
        for no in 1..=shard.count {
            selection.files.push((beside(path, &shard.name(no)), Some(FileRole::Weights)));
        }
        selection.companions(path)?;
    } else {
        selection.files.push((path.to_path_buf(), None));
        if is_weights_name(&name) && !name.ends_with(".gguf") {
            selection.companions(path)?;
        }
    }
    Ok(selection)
}

impl Selection {
    /// Adds an index and the shards that it names.
    fn index(&mut self, path: &Path) {
        let shown = path.display().to_string();
        match Source::open(path).and_then(|source| index::read(&source)) {
            Ok(shards) => {
                for shard in shards {
                    let plain =
                        !shard.is_empty() && shard != ".." && shard != "." && !shard.contains(['/', '\\', '\0', ':']);
                    if plain {
                        self.files.push((beside(path, &shard), Some(FileRole::Weights)));
                    } else {
                        let message = format!("the index names {shard:?}, which is not a file beside it");
                        self.findings.push(Finding::new(&INDEX_ESCAPES, message).file(&*shown));
                    }
                }
            }
            Err(error) => {
                let mut finding = Finding::new(&INDEX_BROKEN, error.message()).file(&*shown);
                finding.offset = error.offset();
                self.findings.push(finding);
            }
        }
        self.files.push((path.to_path_buf(), Some(FileRole::Index)));
    }

    /// Adds configuration, tokenizer and template that lie beside `path`.
    fn companions(&mut self, path: &Path) -> Result<()> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        for name in file_names(&folder)? {
            if is_companion_name(&name) {
                self.files.push((beside(path, &name), None));
            }
        }
        self.templates(&folder);
        Ok(())
    }

    /// Adds the further templates, which lie in a folder of their own.
    fn templates(&mut self, folder: &Path) {
        let folder = folder.join("additional_chat_templates");
        // Few models have it.
        for name in file_names(&folder).unwrap_or_default() {
            if name.ends_with(".jinja") {
                self.files.push((folder.join(name), Some(FileRole::Template)));
            }
        }
    }
}

/// Weights that belong together: one file, or shards with or without an index.
#[derive(Default)]
struct Set {
    names: Vec<String>,
    index: Option<String>,
}

fn select_folder(folder: &Path) -> Result<Selection> {
    let names = file_names(folder)?;
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for name in &names {
        if let Some(stem) = name.strip_suffix(".index.json") {
            sets.entry(stem.to_string()).or_default().index = Some(name.clone());
        } else if is_weights_name(name) {
            let key =
                Shard::parse(name).map_or_else(|| name.clone(), |shard| format!("{}{}", shard.stem, shard.suffix));
            sets.entry(key).or_default().names.push(name.clone());
        }
    }
    let mut ranked: Vec<(&String, &Set)> = sets.iter().collect();
    ranked.sort_by_key(|(key, _)| preference(key));
    let mut selection = Selection { files: Vec::new(), findings: Vec::new() };
    let shown = folder.display().to_string();
    if let Some((_, set)) = ranked.first() {
        if let Some(index) = &set.index {
            selection.index(&folder.join(index));
        }
        let no_shards = !selection.files.iter().any(|(_, role)| *role == Some(FileRole::Weights));
        if no_shards {
            let mut shards: Vec<String> = set.names.clone();
            if let Some(shard) = set.names.first().and_then(|name| Shard::parse(name)) {
                shards = (1..=shard.count).map(|no| shard.name(no)).collect();
            }
            let files = shards.iter().map(|name| (folder.join(name), Some(FileRole::Weights)));
            selection.files.splice(0..0, files);
        }
    }
    if ranked.len() > 1 {
        let others: Vec<&str> = ranked.iter().skip(1).take(8).map(|(key, _)| key.as_str()).collect();
        let shown_set = ranked.first().map(|(key, _)| key.as_str()).unwrap_or_default();
        let more = match ranked.len() - 1 - others.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("{shown_set} is shown; not shown: {}{more}", others.join(", "));
        selection.findings.push(Finding::new(&SEVERAL_MODELS, message).file(&*shown));
    }
    for name in &names {
        if is_companion_name(name) {
            selection.files.push((folder.join(name), None));
        }
    }
    selection.templates(folder);
    if selection.files.is_empty() {
        let what = if names.is_empty() { "the folder holds no files" } else { "the folder holds no model files" };
        let help = "name a file or a folder with weights, or use `anatomy identify` to see what is there";
        return Err(Error::new(ErrorKind::NotFound, what).in_file(shown).help(help));
    }
    Ok(selection)
}

/// Which set of weights a folder is taken to be about: what loaders prefer.
fn preference(key: &str) -> (u8, String) {
    let name = key.to_ascii_lowercase();
    let extension = extension(&name).unwrap_or_default();
    let rank = match extension.as_str() {
        _ if name.contains("adapter") => 6,
        "safetensors" if name.starts_with("model") => 0,
        "safetensors" => 1,
        // A projector or importance matrix beside a model is not the model.
        "gguf" if name.contains("mmproj") || name.contains("imatrix") => 7,
        "gguf" => 2,
        "bin" | "pt" | "pth" if name.starts_with("pytorch_model") || name.starts_with("consolidated") => 3,
        "bin" if name.starts_with("training_args") || name.starts_with("optimizer") => 8,
        "bin" | "pt" | "pth" | "ckpt" => 4,
        _ => 5,
    };
    (rank, name)
}

/// Names of the regular files of a folder, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>> {
    let fail = |error: &std::io::Error| Error::io(folder.display().to_string(), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| fail(&error))?.take(MAX_ENTRIES) {
        let entry = entry.map_err(|error| fail(&error))?;
        if fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

fn is_weights_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("training_args") || lower.starts_with("optimizer") || lower.starts_with("scheduler") {
        return false;
    }
    let weights = [
        "safetensors",
        "gguf",
        "bin",
        "pt",
        "pth",
        "ckpt",
        "onnx",
        "npz",
        "ggml",
        "jit",
        "h5",
        "keras",
        "tflite",
        "msgpack",
        "nemo",
        "pte",
        "llamafile",
    ];
    extension(&lower).is_some_and(|extension| weights.contains(&extension.as_str()))
}

/// Whether a file of this (lower-case) name belongs to a tokenizer.
pub(super) fn is_tokenizer_name(name: &str) -> bool {
    matches!(
        name,
        "tokenizer.json"
            | "tokenizer_config.json"
            | "special_tokens_map.json"
            | "added_tokens.json"
            | "vocab.json"
            | "merges.txt"
            | "vocab.txt"
            | "tokenizer.model"
            | "spiece.model"
            | "sentencepiece.bpe.model"
            | "tekken.json"
            | "encoder.json"
            | "vocab.bpe"
    ) || name.starts_with("tokenizer.model")
        || name.ends_with(".tiktoken")
}

/// Whether a file of this name says something about the weights beside it.
fn is_companion_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    is_tokenizer_name(&lower)
        || matches!(
            lower.as_str(),
            "config.json"
                | "params.json"
                | "generation_config.json"
                | "adapter_config.json"
                | "preprocessor_config.json"
                | "processor_config.json"
                | "quantize_config.json"
                | "quant_config.json"
                | "hf_quant_config.json"
                | "chat_template.json"
                | "chat_template.jinja"
        )
}

/// One of several files that are numbered `stem-00002-of-00005.suffix`.
#[derive(Debug, PartialEq, Eq)]
struct Shard {
    stem: String,
    suffix: String,
    count: u32,
    digits: usize,
}

impl Shard {
    /// More shards than any model has; larger counts are taken for a plain name.
    const MAX: u32 = 10_000;

    fn parse(name: &str) -> Option<Self> {
        let (front, suffix) = name.rsplit_once('.')?;
        let (front, count) = front.rsplit_once("-of-")?;
        let (stem, no) = front.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(count) || !digits(no) || count.len() != no.len() {
            return None;
        }
        let total: u32 = count.parse().ok()?;
        let no: u32 = no.parse().ok()?;
        if total == 0 || total > Self::MAX || no == 0 || no > total {
            return None;
        }
        let suffix = format!(".{suffix}");
        Some(Shard { stem: stem.to_string(), suffix, count: total, digits: count.len() })
    }

    fn name(&self, no: u32) -> String {
        let Shard { stem, suffix, count, digits } = self;
        format!("{stem}-{no:0digits$}-of-{count:0digits$}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_named_as_hubs_name_them() {
        let shard = Shard::parse("model-00002-of-00005.safetensors").unwrap();
        assert_eq!(shard.name(5), "model-00005-of-00005.safetensors");
        let split = Shard::parse("big-q4_k_m-00001-of-00003.gguf").unwrap();
        assert_eq!(split.name(3), "big-q4_k_m-00003-of-00003.gguf");
    }

    #[test]
    fn other_names_are_no_shards() {
        for name in ["model.safetensors", "a-1-of-x.bin", "a-00009-of-00005.bin", "a-0-of-1.gguf", "one-of-a-kind.pt"] {
            assert_eq!(Shard::parse(name), None, "{name}");
        }
    }
}
