//! The tokenizer that a GGUF carries, as llama.cpp reads it (`llama_vocab::impl::load` of its `src/llama-vocab.cpp`).

use super::{Details, ENTRY_BROKEN, Entry, EntryKind, MAX_ENTRIES, Merges, Notation, Role, Stated, Tokenizer};
use crate::container::{Container, gguf};
use crate::metadata::{Array, Metadata, Value};
use crate::source::Source;

/// The keys of a GGUF that steer its tokenizer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufSettings {
    /// `tokenizer.ggml.model`: `gpt2`, `llama`, `bert`, `t5`, `rwkv`, `plamo2`, `gemma4`, …
    pub model: String,
    /// `tokenizer.ggml.pre`: how byte-pair models cut words.
    pub pre: Option<String>,
    /// `general.architecture`, which some attributes of tokens follow.
    pub architecture: String,
    /// `general.name`, which others follow.
    pub name: String,
    /// Whether a blank is put before the text.
    pub add_space_prefix: Option<bool>,
    /// Whether runs of blanks become one.
    pub remove_extra_whitespaces: Option<bool>,
    /// Whether the begin is put before a text.
    pub add_bos: Option<bool>,
    /// Whether the end is put behind it.
    pub add_eos: Option<bool>,
    /// Whether the separator is.
    pub add_sep: Option<bool>,
    /// Whether text is put into lower case (BERT).
    pub lowercase: Option<bool>,
    /// Whether accents are taken off (BERT).
    pub strip_accents: Option<bool>,
    /// SentencePiece's table of replacements (T5).
    pub charsmap: Vec<u8>,
    /// Whether the file states a type for each token.
    pub has_types: bool,
    /// Whether the file states a score for each token.
    pub has_scores: bool,
}

/// Roles with the keys that state their ids. Of the misspelt separator llama.cpp knows only the misspelling.
const ROLES: [(&str, &str); 20] = [
    ("bos", "bos_token_id"),
    ("eos", "eos_token_id"),
    ("eot", "eot_token_id"),
    ("eom", "eom_token_id"),
    ("unk", "unknown_token_id"),
    ("sep", "seperator_token_id"),
    ("sep", "separator_token_id"),
    ("pad", "padding_token_id"),
    ("cls", "cls_token_id"),
    ("mask", "mask_token_id"),
    ("fim-prefix", "fim_pre_token_id"),
    ("fim-suffix", "fim_suf_token_id"),
    ("fim-middle", "fim_mid_token_id"),
    ("fim-pad", "fim_pad_token_id"),
    ("fim-repository", "fim_rep_token_id"),
    ("fim-file", "fim_sep_token_id"),
    ("fim-prefix", "prefix_token_id"),
    ("fim-suffix", "suffix_token_id"),
    ("fim-middle", "middle_token_id"),
    ("eot", "eog_token_id"),
];

/// Longest table of replacements.
const MAX_CHARSMAP: u64 = 64 << 20;

/// Reads the tokenizer of a GGUF; `None` where it has none.
pub(super) fn read(name: &str, source: &Source, container: &Container) -> Option<Tokenizer> {
    let metadata = &container.metadata;
    let model = metadata.text("tokenizer.ggml.model").filter(|model| !matches!(*model, "none" | "no_vocab"))?;
    let settings = settings(model, metadata, source);
    let mut tokenizer = Tokenizer {
        kind: "gguf",
        model: match model {
            "gpt2" | "gemma4" | "hybriddna" | "whitespace" => "bpe",
            "llama" => "sentencepiece",
            "bert" => "wordpiece",
            "t5" => "unigram",
            other => other,
        }
        .to_string(),
        source: name.to_string(),
        files: vec![source.clone()],
        ..Tokenizer::default()
    };
    if let Err(error) = entries(&mut tokenizer, source, container) {
        tokenizer.unread(&error);
    }
    tokenizer.notation = match model {
        "gpt2" | "hybriddna" => match settings.pre.as_deref() {
            Some("gemma4" | "granite-embed-multi-311m" | "sarvam-moe") => Notation::Blanks,
            Some("whitespace") => Notation::Plain,
            _ => Notation::ByteLetters,
        },
        "gemma4" | "llama" | "t5" => Notation::Blanks,
        "bert" => Notation::WordBegin,
        "rwkv" => Notation::Escapes,
        _ => Notation::Plain,
    };
    let bytes = tokenizer.entries.iter().filter(|entry| entry.kind == EntryKind::Byte).count();
    tokenizer.byte_fallback = bytes >= 256 || tokenizer.notation == Notation::ByteLetters || model == "rwkv";
    for (role, key) in ROLES {
        if let Some(id) = metadata.unsigned(&format!("tokenizer.ggml.{key}")) {
            let stated = format!("{name}: tokenizer.ggml.{key}");
            tokenizer.roles.push(Role { role, token: None, id: Some(id), by_id: true, stated });
        }
    }
    let stated = |value: Option<bool>, key: &str| {
        value.map(|value| Stated { value, stated: format!("{name}: tokenizer.ggml.{key}") })
    };
    tokenizer.configuration.add_bos = stated(settings.add_bos, "add_bos_token");
    tokenizer.configuration.add_eos = stated(settings.add_eos, "add_eos_token");
    tokenizer.configuration.add_prefix_space = settings.add_space_prefix;
    let context = container.metadata.text("general.architecture").map(|name| format!("{name}.context_length"));
    tokenizer.configuration.max_length = context
        .and_then(|key| Some(Stated { value: container.metadata.unsigned(&key)?, stated: format!("{name}: {key}") }));
    tokenizer.pre_tokenizer = match (model, &settings.pre) {
        ("gpt2" | "hybriddna", Some(pre)) => vec![format!("cut as llama.cpp cuts for {pre:?}")],
        ("gpt2" | "hybriddna", None) => vec!["cut by llama.cpp's default, since none is named".to_string()],
        _ => Vec::new(),
    };
    tokenizer.words_whole = super::llama_cpp::words_whole(&settings);
    tokenizer.details = Details::Gguf(Box::new(settings));
    tokenizer.settle();
    Some(tokenizer)
}

fn settings(model: &str, metadata: &Metadata, source: &Source) -> GgufSettings {
    let flag = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_bool);
    let array = |key: &str| metadata.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_array);
    let text = |key: &str| metadata.text(key).unwrap_or_default().to_string();
    let charsmap = array("precompiled_charsmap").filter(|array| array.span.len <= MAX_CHARSMAP);
    GgufSettings {
        model: model.to_string(),
        pre: metadata.text("tokenizer.ggml.pre").filter(|pre| !pre.is_empty()).map(str::to_string),
        architecture: text("general.architecture"),
        name: text("general.name"),
        add_space_prefix: flag("add_space_prefix"),
        remove_extra_whitespaces: flag("remove_extra_whitespaces"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_sep: flag("add_sep_token"),
        lowercase: flag("normalizer.lowercase"),
        strip_accents: flag("normalizer.strip_accents"),
        charsmap: charsmap.and_then(|array| gguf::byte_items(source, array).ok()).unwrap_or_default(),
        has_types: array("token_type").is_some(),
        has_scores: array("scores").is_some(),
    }
}

fn entries(tokenizer: &mut Tokenizer, source: &Source, container: &Container) -> crate::Result<()> {
    let array = |key: &str| container.metadata.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_array);
    let Some(tokens) = array("tokens") else {
        return Err(crate::Error::malformed("there are no `tokenizer.ggml.tokens`"));
    };
    if tokens.len > MAX_ENTRIES as u64 {
        tokenizer.problem(&ENTRY_BROKEN, format!("{} tokens; more than {MAX_ENTRIES} are not read", tokens.len));
    }
    let mut texts: Vec<Vec<u8>> = Vec::new();
    gguf::each_text(source, container, tokens, MAX_ENTRIES, |text| texts.push(text))?;
    let scores = numbers(array("scores"), source, container)?;
    let types = numbers(array("token_type"), source, container)?;
    for (what, list) in [("scores", &scores), ("types", &types)] {
        if list.as_ref().is_some_and(|list| list.len() < texts.len()) {
            let count = list.as_ref().map_or(0, Vec::len);
            let message = format!("{count} {what} for {} tokens: llama.cpp refuses the file", texts.len());
            tokenizer.problem(&ENTRY_BROKEN, message);
        }
    }
    for (index, text) in texts.into_iter().enumerate() {
        let Ok(id) = u32::try_from(index) else { break };
        // llama.cpp gives nameless tokens a name.
        let stored = if text.is_empty() { format!("[EMPTY_{id}]").into_bytes() } else { text };
        // Scores are stored as 32-bit numbers.
        #[allow(clippy::cast_possible_truncation)]
        let score = scores.as_ref().map(|scores| scores.get(index).copied().unwrap_or_default() as f32);
        let kind = types.as_ref().and_then(|types| types.get(index)).map_or(EntryKind::Normal, |kind| kind_of(*kind));
        tokenizer.entries.push(Entry { id, stored: stored.into(), score, kind });
    }
    if let Some(merges) = array("merges") {
        let mut list = Merges::default();
        gguf::each_text(source, container, merges, MAX_ENTRIES, |text| {
            let text = String::from_utf8_lossy(&text);
            // The first blank but one at the very begin divides.
            let at = text.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
            let (left, right) =
                at.map_or(("", ""), |at| (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()));
            list.push(left, right);
        })?;
        tokenizer.merges = Some(list);
    }
    Ok(())
}

fn numbers(array: Option<&Array>, source: &Source, container: &Container) -> crate::Result<Option<Vec<f64>>> {
    array.map(|array| gguf::number_items(source, container, array, MAX_ENTRIES)).transpose()
}

/// `enum llama_token_type` of llama.h; what is undefined there is treated as llama.cpp treats it: as no text at all.
fn kind_of(kind: f64) -> EntryKind {
    match kind {
        1.0 => EntryKind::Normal,
        2.0 => EntryKind::Unknown,
        3.0 => EntryKind::Control,
        4.0 => EntryKind::UserDefined,
        6.0 => EntryKind::Byte,
        _ => EntryKind::Unused,
    }
}
