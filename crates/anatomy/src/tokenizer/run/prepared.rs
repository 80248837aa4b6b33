//! Plain vocabularies as the `tokenizer.json` that transformers makes of them, by the class that the configuration
//! names.

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::{AddedToken, Merges, Tokenizer};

/// Qwen 2's pattern (`Qwen2Converter` of transformers' `convert_slow_tokenizer.py`).
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The JSON text.
pub(super) fn json(tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let settings = match tokenizer.model.as_str() {
        "bpe" => byte_pairs(tokenizer)?,
        "wordpiece" => word_pieces(tokenizer),
        other => {
            let message = format!("a {other} vocabulary does not say how text is cut");
            let help = "put the merges.txt or tokenizer.json of the model beside it";
            return Err(Error::new(ErrorKind::Unsupported, message).help(help));
        }
    };
    serde_json::to_vec(&settings).map_err(|error| Error::malformed(error.to_string()))
}

fn class(tokenizer: &Tokenizer) -> &str {
    let class = tokenizer.configuration.class.as_deref().unwrap_or_default();
    class.strip_suffix("Fast").unwrap_or(class)
}

fn vocabulary(tokenizer: &Tokenizer) -> Value {
    let entries = tokenizer.entries.iter().filter_map(|entry| {
        let text = std::str::from_utf8(&entry.stored).ok()?;
        Some((text.to_string(), Value::from(entry.id)))
    });
    Value::Object(entries.collect())
}

fn added(tokenizer: &Tokenizer, special: &[(&str, Option<u64>)]) -> Value {
    let token = |token: &AddedToken| {
        json!({
            "id": token.id, "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip,
            "rstrip": token.rstrip, "normalized": token.normalized, "special": token.special
        })
    };
    let mut list: Vec<Value> = tokenizer.added.iter().filter(|token| token.id.is_some()).map(token).collect();
    for (content, id) in special {
        let known = tokenizer.added.iter().any(|token| token.content == *content && token.id.is_some());
        if let Some(id) = id.filter(|_| !known) {
            list.push(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            }));
        }
    }
    list.sort_by_key(|token| token.get("id").and_then(Value::as_u64));
    Value::Array(list)
}

/// The tokens of roles that are in the vocabulary.
fn roles(tokenizer: &Tokenizer) -> Vec<(&str, Option<u64>)> {
    let mut list: Vec<(&str, Option<u64>)> =
        tokenizer.roles.iter().filter_map(|role| Some((role.token.as_deref()?, role.id))).collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn role(tokenizer: &Tokenizer, name: &str) -> Option<(String, u64)> {
    tokenizer.role(name).find_map(|role| Some((role.token.clone()?, role.id?)))
}

/// `[first] text [last]`, from the roles that are put round a text.
fn template(first: Option<(String, u64)>, last: Option<(String, u64)>) -> Value {
    let part = |token: &Option<(String, u64)>, kind: u8| {
        token.as_ref().map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": kind}}))
    };
    let sequence = |name: &str, kind: u8| json!({"Sequence": {"id": name, "type_id": kind}});
    let one =
        |name: &str, kind: u8| part(&first, kind).into_iter().chain([sequence(name, kind)]).chain(part(&last, kind));
    let tokens = first
        .iter()
        .chain(&last)
        .map(|(token, id)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]})));
    json!({
        "type": "TemplateProcessing",
        "single": one("A", 0).collect::<Vec<_>>(),
        "pair": one("A", 0).chain(one("B", 1)).collect::<Vec<_>>(),
        "special_tokens": Value::Object(tokens.collect())
    })
}

fn byte_pairs(tokenizer: &Tokenizer) -> Result<Value> {
    let configuration = &tokenizer.configuration;
    let prefix = configuration.add_prefix_space.unwrap_or(false);
    let letters = json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
    let flag = |flag: &Option<crate::tokenizer::Stated<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
    let (mut normalizer, mut cut) = (Value::Null, letters);
    let mut first = role(tokenizer, "bos").filter(|_| flag(&configuration.add_bos));
    let mut last = role(tokenizer, "eos").filter(|_| flag(&configuration.add_eos));
    match class(tokenizer) {
        "" | "GPT2Tokenizer" | "CodeGenTokenizer" | "GPTNeoXTokenizer" | "PreTrainedTokenizer" => {}
        "RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" | "LEDTokenizer" => {
            first = role(tokenizer, "cls").or_else(|| role(tokenizer, "bos"));
            last = role(tokenizer, "sep").or_else(|| role(tokenizer, "eos"));
        }
        "Qwen2Tokenizer" => {
            normalizer = json!({"type": "NFC"});
            cut = json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false, "use_regex": false}
            ]});
        }
        other => {
            let message = format!("how {other} cuts text is not known, so its vocabulary cannot be run");
            let help = "put the tokenizer.json of the model beside it";
            return Err(Error::new(ErrorKind::Unsupported, message).help(help));
        }
    }
    let merges: Vec<Value> =
        tokenizer.merges.iter().flat_map(Merges::iter).map(|merge| json!([merge.left, merge.right])).collect();
    let processor = match (&first, &last) {
        (None, None) => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true})
        }
        _ => template(first, last),
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": added(tokenizer, &roles(tokenizer)),
        "normalizer": normalizer,
        "pre_tokenizer": cut,
        "post_processor": processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary(tokenizer), "merges": merges}
    }))
}

/// BERT's (`BertConverter`).
fn word_pieces(tokenizer: &Tokenizer) -> Value {
    let unknown = role(tokenizer, "unk").map_or_else(|| "[UNK]".to_string(), |(token, _)| token);
    let lower = tokenizer.configuration.lower_case.unwrap_or(true);
    json!({
        "version": "1.0",
        "added_tokens": added(tokenizer, &roles(tokenizer)),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": lower},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template(role(tokenizer, "cls"), role(tokenizer, "sep")),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary(tokenizer)}
    })
}
