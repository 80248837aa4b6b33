//! The index of a sharded model against its shards.

use foldhash::{HashMap, HashMapExt};

use crate::finding::{Finding, Rule, Severity};
use crate::model::{FileRole, Model, read_index};

static INDEX_STALE: Rule = Rule {
    name: "index-stale",
    severity: Severity::Error,
    why: "The index says that a shard holds a tensor, and the shard does not, so loading by the index fails or leaves \
          the tensor as it was initialised.",
    help: "make the index anew from the shards, or fetch index and shards from the same revision",
};
static INDEX_SILENT: Rule = Rule {
    name: "index-silent",
    severity: Severity::Warning,
    why: "A shard holds a tensor that the index does not name, so a loader that goes by the index never reads it.",
    help: "make the index anew from the shards, or fetch index and shards from the same revision",
};
pub(super) static INDEX_SIZE: Rule = Rule {
    name: "index-total-size",
    severity: Severity::Note,
    why: "The index states another total size than the tensors have. Nothing reads it but progress bars; it shows that \
          the index was made for other files.",
    help: "nothing to do, unless the files are not what they should be",
};

static INDEX_EMPTY: Rule = Rule {
    name: "index-empty",
    severity: Severity::Error,
    why: "The index names no tensor at all, so a loader that goes by it loads nothing.",
    help: "make the index anew from the shards, or fetch it again from where the model comes from",
};

/// The rules of this module.
pub(super) const RULES: &[&Rule] = &[&INDEX_STALE, &INDEX_SILENT, &INDEX_SIZE, &INDEX_EMPTY];

/// Compares each index of the model with the tensors that were read.
pub(super) fn check(model: &Model, findings: &mut Vec<Finding>) {
    let name = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or(path).to_string();
    for file in model.files.iter().filter(|file| file.role == FileRole::Index) {
        // What is no index was reported when the model was opened.
        let Ok(index) = read_index(&file.source) else { continue };
        if index.weight_map.is_empty() {
            findings.push(Finding::new(&INDEX_EMPTY, "the index lists no tensors").file(&*file.path));
        }
        let mut held: HashMap<&str, String> = HashMap::new();
        let mut bytes = 0u64;
        let mut read: Vec<String> = Vec::new();
        for shard in model.weights() {
            read.push(name(&shard.path));
            for tensor in &shard.container.tensors {
                held.insert(&tensor.name, name(&shard.path));
                bytes = bytes.saturating_add(tensor.bytes);
            }
        }
        let mut found = crate::Findings::new();
        let mut named = 0usize;
        for (tensor, shard) in &index.weight_map {
            match held.get(tensor.as_str()) {
                Some(other) if other == shard => named += 1,
                Some(other) => {
                    named += 1;
                    let message = format!("{tensor} is in {other}, not in {shard} as the index says");
                    found.push(Finding::new(&INDEX_STALE, message).file(&*file.path).tensor(tensor));
                }
                // A shard that could not be read is a finding of its own.
                None if !read.contains(shard) => {}
                None => {
                    let message = format!("{tensor} is not in {shard}, nor in any other shard");
                    found.push(Finding::new(&INDEX_STALE, message).file(&*file.path).tensor(tensor));
                }
            }
        }
        if named < held.len() {
            let listed: foldhash::HashSet<&str> = index.weight_map.iter().map(|(tensor, _)| tensor.as_str()).collect();
            let mut silent: Vec<_> = held.iter().filter(|(tensor, _)| !listed.contains(**tensor)).collect();
            silent.sort_unstable();
            for (tensor, shard) in silent {
                let message = format!("{tensor} is in {shard}, but the index does not name it");
                found.push(Finding::new(&INDEX_SILENT, message).file(&*file.path).tensor(*tensor));
            }
        }
        if let Some(stated) = index.total_size.filter(|stated| *stated != bytes as f64 && !model.is_incomplete()) {
            let message = format!("the index states a total of {stated} bytes; the tensors have {bytes}");
            found.push(Finding::new(&INDEX_SIZE, message).file(&*file.path));
        }
        findings.extend(found.finish());
    }
}
