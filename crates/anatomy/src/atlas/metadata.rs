//! A GGUF's metadata in the shape of a configuration, so that its families read like all others.

use serde_json::{Map, Value as Json};

use crate::metadata::{Metadata, Value};

/// The keys of the architecture without its name in front, nested at their dots; `tokens` is the length of the
/// vocabulary, `token_types` how many kinds of segments it knows, `type` what the file says it is (`model`, `mmproj`,
/// `adapter`).
pub(super) fn config_of(architecture: &str, metadata: &Metadata) -> Json {
    let mut config = Map::new();
    for entry in metadata.entries() {
        let Some(key) = entry.key.strip_prefix(architecture).and_then(|key| key.strip_prefix('.')) else { continue };
        if let Some(value) = json(&entry.value) {
            put(&mut config, key, value);
        }
    }
    if let Some(tokens) = metadata.get("tokenizer.ggml.tokens").and_then(Value::as_array) {
        config.insert("tokens".to_string(), tokens.len.into());
    }
    if let Some(types) = metadata.get("tokenizer.ggml.token_type_count").and_then(json) {
        config.insert("token_types".to_string(), types);
    }
    if let Some(kind) = metadata.text("general.type") {
        config.insert("type".to_string(), kind.into());
    }
    Json::Object(config)
}

/// Of two keys of which one goes through the other, the first counts.
fn put(config: &mut Map<String, Json>, key: &str, value: Json) {
    let Some((first, rest)) = key.split_once('.') else {
        config.entry(key).or_insert(value);
        return;
    };
    if let Json::Object(inner) = config.entry(first).or_insert_with(|| Json::Object(Map::new())) {
        put(inner, rest, value);
    }
}

fn json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Unsigned(number) => (*number).into(),
        Value::Signed(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::LongText(_) => return None,
        // A list that is not held as a whole would be wrong.
        Value::Array(array) if array.items.len() as u64 == array.len => array.items.iter().filter_map(json).collect(),
        Value::Array(_) => return None,
    })
}
