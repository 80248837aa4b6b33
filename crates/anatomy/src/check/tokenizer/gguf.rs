//! What a conversion to GGUF can lose of a tokenizer (`llama_vocab::impl::load` of llama.cpp's `src/llama-vocab.cpp`).

use std::collections::BTreeSet;

use super::roles::is_marker;
use super::vocabulary::{Vocabulary, more};
use super::{Subject, shown};
use crate::finding::{Finding, Rule, Severity};
use crate::metadata::{Metadata, Value};
use crate::report::units::{count, thousands};
use crate::tokenizer::{Details, END_OF_GENERATION, Entry, EntryKind, GgufSettings, Tokenizer};

static MODEL_UNKNOWN: Rule = Rule {
    name: "gguf-tokenizer-unknown",
    severity: Severity::Error,
    why: "The file names a kind of tokenizer that llama.cpp does not know, so the model does not load.",
    help: "update llama.cpp, or convert the model again",
};
static PRE_MISSING: Rule = Rule {
    name: "gguf-pre-tokenizer-missing",
    severity: Severity::Warning,
    why: "Byte-pair encoding depends on how text is cut into words first, and the file does not say how. llama.cpp takes a \
          default that is no model's own, so numbers, punctuation and some words become other tokens than in training; it \
          warns that quality will be degraded.",
    help: "convert the model again with a current converter, or set `tokenizer.ggml.pre` to the name of its tokenizer",
};
static PRE_UNKNOWN: Rule = Rule {
    name: "gguf-pre-tokenizer-unknown",
    severity: Severity::Error,
    why: "The file names a way of cutting text into words that llama.cpp does not know, as far as is known here; it refuses \
          such a model.",
    help: "update llama.cpp (and this program), or convert the model again",
};
static SCORES_MISSING: Rule = Rule {
    name: "gguf-scores-missing",
    severity: Severity::Error,
    why: "This kind of tokenizer cuts text by the scores of its pieces, and the file has none. All count as equal, so text \
          falls into other pieces than in training.",
    help: "convert the model again from the original tokenizer",
};
static TYPES_MISSING: Rule = Rule {
    name: "gguf-token-types-missing",
    severity: Severity::Warning,
    why: "The file does not say which tokens are marks and which are text. Marks of a chat are then split into pieces of \
          text, and single bytes are written as `<0x0A>`.",
    help: "convert the model again with a current converter",
};
static TOO_SHORT: Rule = Rule {
    name: "gguf-token-lists-too-short",
    severity: Severity::Error,
    why: "Scores or types are fewer than tokens; llama.cpp refuses the file.",
    help: "convert the model again",
};
static TOO_LONG: Rule = Rule {
    name: "gguf-token-lists-too-long",
    severity: Severity::Warning,
    why: "Scores or types are more than tokens: tokens were lost behind the others, or the lists are another model's.",
    help: "convert the model again from the original tokenizer",
};
static MARK_IS_TEXT: Rule = Rule {
    name: "gguf-marker-is-text",
    severity: Severity::Warning,
    why: "A mark of begin, end or chat has the type of ordinary text, so llama.cpp never looks for it in a prompt: it is \
          split into pieces that the model was not trained with.",
    help: "convert the model again, or set the token's type to 3 (control) in `tokenizer.ggml.token_type`",
};
static DEFAULT_IS_TEXT: Rule = Rule {
    name: "gguf-special-default",
    severity: Severity::Warning,
    why: "The file does not say which token begins or ends a text. llama.cpp then takes the id that this kind of tokenizer \
          usually has, which is ordinary text here: prompts begin with it, or generation stops at it.",
    help: "set the id of the token, or `add_bos_token` to false if the model has none",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[
    &MODEL_UNKNOWN,
    &PRE_MISSING,
    &PRE_UNKNOWN,
    &SCORES_MISSING,
    &TYPES_MISSING,
    &TOO_SHORT,
    &TOO_LONG,
    &MARK_IS_TEXT,
    &DEFAULT_IS_TEXT,
];

/// Kinds of tokenizers that llama.cpp knows.
const MODELS: [&str; 9] = ["gpt2", "llama", "bert", "t5", "rwkv", "plamo2", "gemma4", "hybriddna", "whitespace"];
/// The kind of its own tests, which tokenizes nothing.
const TEST: &str = "test";

/// Tokens that llama.cpp ends generation at, by their text; it makes them control tokens, whatever their type.
fn ending() -> impl Iterator<Item = &'static str> {
    END_OF_GENERATION.into_iter().chain(["<|fim_pad|>", "<|file_sep|>"])
}

/// What a GGUF says of its tokenizer.
pub(super) fn settings(tokenizer: &Tokenizer) -> Option<&GgufSettings> {
    match &tokenizer.details {
        Details::Gguf(settings) => Some(settings),
        _ => None,
    }
}

/// Looks for what got lost.
pub(super) fn check(subject: &Subject, findings: &mut Vec<Finding>) {
    let Some(vocabulary) = subject.main() else { return };
    let Some(settings) = settings(vocabulary.tokenizer) else { return };
    let Some(file) = subject.model.gguf() else { return };
    let metadata = &file.container.metadata;
    let model = settings.model.as_str();
    let mut find = |rule: &'static Rule, message: String| {
        findings.push(Finding::new(rule, message).file(file.path.as_str()));
    };
    if model == TEST {
        return;
    }
    if !MODELS.contains(&model) {
        find(&MODEL_UNKNOWN, format!("tokenizer.ggml.model is {}", shown(model.as_bytes())));
        return;
    }
    let cut = matches!(model, "gpt2" | "hybriddna" | "whitespace");
    match settings.pre.as_deref() {
        Some(pre) if cut && !crate::tokenizer::knows_pre_tokenizer(pre) => {
            find(&PRE_UNKNOWN, format!("tokenizer.ggml.pre is {}", shown(pre.as_bytes())));
        }
        None if cut => find(&PRE_MISSING, "there is no tokenizer.ggml.pre".to_string()),
        Some("default") if cut => find(&PRE_MISSING, "tokenizer.ggml.pre is \"default\"".to_string()),
        _ => {}
    }
    if matches!(model, "llama" | "t5" | "plamo2") && !settings.has_scores {
        find(&SCORES_MISSING, "there are no tokenizer.ggml.scores".to_string());
    }
    if !settings.has_types {
        find(&TYPES_MISSING, "there are no tokenizer.ggml.token_type".to_string());
    }
    lengths(metadata, &mut find);
    if vocabulary.is_whole() {
        marks(vocabulary, settings, metadata, &mut find);
        defaults(vocabulary, settings, &mut find);
    }
}

fn lengths(metadata: &Metadata, find: &mut impl FnMut(&'static Rule, String)) {
    let length =
        |key: &str| metadata.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_array).map(|list| list.len);
    let Some(tokens) = length("tokens") else { return };
    for (key, what) in [("scores", "score"), ("token_type", "type")] {
        let Some(number) = length(key).filter(|number| *number != tokens) else { continue };
        let rule = if number < tokens { &TOO_SHORT } else { &TOO_LONG };
        let (list, tokens) = (count(number, what, &format!("{what}s")), count(tokens, "token", "tokens"));
        find(rule, format!("tokenizer.ggml.{key} has {list} for {tokens}"));
    }
}

/// Marks that are typed as text.
fn marks(
    vocabulary: &Vocabulary,
    settings: &GgufSettings,
    metadata: &Metadata,
    find: &mut impl FnMut(&'static Rule, String),
) {
    if !settings.has_types {
        return;
    }
    let template = metadata.text("tokenizer.chat_template").unwrap_or_default();
    let roles = ["bos", "eos", "eot", "eom"];
    let is_role = |entry: &Entry| {
        let mut roles = vocabulary.tokenizer.roles.iter().filter(|role| roles.contains(&role.role));
        roles.any(|role| role.id == Some(entry.id.into()))
    };
    let is_wrong = |entry: &&Entry| {
        let written = || std::str::from_utf8(&entry.stored).is_ok_and(|text| template.contains(text));
        let kept = !ending().any(|text| text.as_bytes() == &*entry.stored);
        entry.kind == EntryKind::Normal
            && kept
            && is_marker(&entry.stored)
            && (is_role(entry) || is_chat(&entry.stored, &written))
    };
    let mut wrong = vocabulary.tokenizer.entries.iter().filter(is_wrong);
    if let Some(first) = wrong.next() {
        let more = more(wrong.count());
        find(&MARK_IS_TEXT, format!("{} has the type of text{more}", vocabulary.named(first.id.into())));
    }
}

/// Whether a text is a mark that the chat template writes. What looks like a tag of a markup language is often both.
fn is_chat(text: &[u8], written: &impl Fn() -> bool) -> bool {
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let barred = [&b"|"[..], "｜".as_bytes()].iter().any(|bar| inner.starts_with(bar) || inner.ends_with(bar));
    let turn = [&b"start_of_turn"[..], b"end_of_turn", b"INST", b"/INST", b"s", b"/s", b"bos", b"eos"].contains(&inner);
    (barred || turn) && written()
}

/// Whether llama.cpp puts the begin before a text.
pub(super) fn adds_bos(settings: &GgufSettings) -> bool {
    settings.add_bos.unwrap_or_else(|| match settings.model.as_str() {
        "llama" | "bert" | "gemma4" => true,
        "gpt2" => settings.pre.as_deref().is_some_and(crate::tokenizer::pre_tokenizer_adds_bos),
        _ => false,
    })
}

/// The ids that llama.cpp ends generation at: the stated ones, and tokens that it knows by their text.
pub(super) fn ends(vocabulary: &Vocabulary) -> BTreeSet<u64> {
    let by_text = ending().filter_map(|text| Some(u64::from(vocabulary.entry(text.as_bytes())?.id)));
    let roles = vocabulary.tokenizer.roles.iter();
    let stated = roles.filter(|role| matches!(role.role, "eos" | "eot" | "eom")).filter_map(|role| role.id);
    by_text.chain(stated).collect()
}

/// Ids that llama.cpp takes where none is stated.
fn defaults(vocabulary: &Vocabulary, settings: &GgufSettings, find: &mut impl FnMut(&'static Rule, String)) {
    let (bos, eos) = match settings.model.as_str() {
        "gpt2" => (Some(11), Some(11)),
        "llama" => (Some(1), Some(2)),
        _ => return,
    };
    let adds_bos = adds_bos(settings);
    let stated = |role: &str| vocabulary.tokenizer.role(role).next().is_some();
    let none = matches!(settings.pre.as_deref(), Some("glm4" | "chatglm-bpe"));
    for (role, id, matters) in [("bos", bos, adds_bos && !none), ("eos", eos, true)] {
        let Some(id) = id.filter(|_| matters && !stated(role)) else { continue };
        let entry = vocabulary.with_id(id);
        if entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Normal | EntryKind::Byte)) {
            let named = vocabulary.named(id);
            find(&DEFAULT_IS_TEXT, format!("there is no tokenizer.ggml.{role}_token_id; the default is {named}"));
        } else if entry.is_none() {
            find(
                &DEFAULT_IS_TEXT,
                format!("there is no tokenizer.ggml.{role}_token_id; the default, {}, is no token", thousands(id)),
            );
        }
    }
}
