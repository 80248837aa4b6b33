//! Whether what a GGUF's metadata say can be true: checks between values, where the reader has each by itself.

use crate::finding::{Finding, Findings, Rule, Severity};
use crate::metadata::{Metadata, Value};

static ARCHITECTURE: Rule = Rule {
    name: "gguf-architecture-missing",
    severity: Severity::Note,
    why: "The metadata do not say which architecture the tensors belong to, without which llama.cpp loads no model; some \
          other programs write such files for themselves.",
    help: "use the program that wrote the file, or convert the model again",
};
static SPLIT: Rule = Rule {
    name: "gguf-split-inconsistent",
    severity: Severity::Warning,
    why: "The file says that it is a part which cannot be among as many parts as it names; llama.cpp refuses it.",
    help: "download all parts again, or split the model again with `llama-gguf-split`",
};
static VOCABULARY: Rule = Rule {
    name: "gguf-vocabulary-inconsistent",
    severity: Severity::Warning,
    why: "Lists that must have one entry for each token have different lengths: programs that trust one of them read \
          beyond the end of another.",
    help: "convert the model again from its original files",
};
static TOKEN: Rule = Rule {
    name: "gguf-token-out-of-range",
    severity: Severity::Warning,
    why: "A special token's number is beyond the vocabulary, so that programs which look it up read beyond its end.",
    help: "convert the model again from its original files",
};

/// The rules of these checks.
pub static RULES: &[&Rule] = &[&ARCHITECTURE, &SPLIT, &VOCABULARY, &TOKEN];

/// Checks the metadata of a file with `tensors` tensors.
pub(super) fn check(metadata: &Metadata, tensors: usize, findings: &mut Findings) {
    let place =
        |key: &str| metadata.entries().iter().find(|entry| entry.key == key).map_or(0, |entry| entry.span.start);
    if tensors > 0 && metadata.text("general.architecture").is_none() {
        findings.push(Finding::new(&ARCHITECTURE, "`general.architecture` is missing"));
    }
    if let (Some(number), Some(count)) = (metadata.unsigned("split.no"), metadata.unsigned("split.count"))
        && number >= count.max(1)
    {
        let message = format!("it is part {number}, counted from 0, of {count}");
        findings.push(Finding::new(&SPLIT, message).at(place("split.no")));
    }
    let length = |key: &str| metadata.get(key).and_then(Value::as_array).map(|array| array.len);
    let Some(tokens) = length("tokenizer.ggml.tokens") else { return };
    for key in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
        if let Some(other) = length(key).filter(|other| *other != tokens) {
            let message = format!("{tokens} tokens, but {other} entries in `{key}`");
            findings.push(Finding::new(&VOCABULARY, message).at(place(key)));
        }
    }
    for entry in metadata.entries() {
        let id = entry.key.strip_prefix("tokenizer.ggml.").is_some_and(|key| key.ends_with("token_id"));
        // All bits set stands for none.
        let number = entry.value.as_u64().filter(|number| id && *number != u64::from(u32::MAX));
        if let Some(number) = number.filter(|number| *number >= tokens) {
            let message = format!("`{}` is {number}, but there are {tokens} tokens", entry.key);
            findings.push(Finding::new(&TOKEN, message).at(entry.span.start));
        }
    }
}
