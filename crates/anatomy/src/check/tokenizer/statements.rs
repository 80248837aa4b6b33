//! What the JSON files beside a tokenizer state, each statement with its place. The tokenizer's own value joins them as
//! loaders do; here they stay apart, to be compared.

use serde_json::{Map, Value};

use crate::model::Model;

/// Configurations longer than this are not read, in bytes.
const MAX: u64 = 16 << 20;
/// Roles of special tokens that files agree or disagree about.
pub(super) const ROLES: [&str; 7] = ["bos", "eos", "pad", "unk", "cls", "sep", "mask"];

/// The file that states something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Config,
    Generation,
    TokenizerConfig,
    SpecialMap,
}

/// A role of a special token, as one file states it.
#[derive(Debug)]
pub(super) struct Saying {
    pub role: &'static str,
    pub place: Place,
    /// File and key, as findings name them.
    pub stated: String,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Id(u64),
    Text(String),
}

/// A list of added tokens.
#[derive(Debug)]
pub(super) struct List {
    /// File and key, as findings name them.
    pub stated: &'static str,
    pub tokens: Vec<Listed>,
}

#[derive(Debug)]
pub(super) struct Listed {
    pub id: u64,
    pub content: String,
    /// Whether it is special, where the list says.
    pub special: Option<bool>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub sayings: Vec<Saying>,
    pub lists: Vec<List>,
    /// `tokenizer_class`.
    pub class: Option<String>,
    /// `model_type` of the configuration.
    pub model_type: Option<String>,
    /// Rows that the configuration states.
    pub vocab_size: Option<u64>,
    /// Longest text that the tokenizer's configuration states, where it is a number that means something.
    pub max_length: Option<u64>,
    /// Ids that the configuration names as places of images, sounds and the like.
    pub placeholders: Vec<u64>,
    /// Where the tokenizer says that it comes from.
    pub tokenizer_from: Option<String>,
    /// Where the configuration says that the model comes from.
    pub model_from: Option<String>,
}

impl Statements {
    /// Reads the files of a model.
    pub fn of(model: &Model) -> Self {
        let mut found = Statements::default();
        for (name, place) in [
            ("config.json", Place::Config),
            ("generation_config.json", Place::Generation),
            ("tokenizer_config.json", Place::TokenizerConfig),
            ("special_tokens_map.json", Place::SpecialMap),
        ] {
            let Some(object) = object(model, name) else { continue };
            match place {
                Place::Config => found.config(&object),
                Place::Generation => found.ids(name, place, &object),
                _ => found.texts(name, place, &object),
            }
        }
        if let Some(object) = object(model, "added_tokens.json") {
            let tokens = object
                .into_iter()
                .filter_map(|(content, id)| Some(Listed { id: id.as_u64()?, content, special: None }))
                .collect();
            found.lists.push(List { stated: "added_tokens.json", tokens });
        }
        found
    }

    fn config(&mut self, object: &Map<String, Value>) {
        self.ids("config.json", Place::Config, object);
        let inner = inner(object);
        let find = |key: &str| object.get(key).or_else(|| inner?.get(key));
        self.vocab_size = find("vocab_size").and_then(Value::as_u64);
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_string);
        self.model_type = text("model_type");
        self.model_from = text("_name_or_path");
        let named = |key: &str| {
            // `image_token_id`, `image_token_index`, `audio_token_id`, `video_token_id`, `boi_token_index`, …
            let end = key.ends_with("_token_id") || key.ends_with("_token_index");
            end && !ROLES.iter().any(|role| key.strip_suffix("_token_id") == Some(*role))
        };
        let ids = object.iter().filter(|(key, _)| named(key)).filter_map(|(_, value)| value.as_u64());
        self.placeholders.extend(ids);
    }

    fn ids(&mut self, file: &str, place: Place, object: &Map<String, Value>) {
        let inner = inner(object);
        for role in ROLES {
            let key = format!("{role}_token_id");
            let here = object.get(&key).filter(|value| !value.is_null()).map(|value| (value, format!("{file}: {key}")));
            let value = here.or_else(|| Some((inner?.get(&key)?, format!("{file}: {key} (within)"))));
            let Some((value, stated)) = value else { continue };
            let ids: Vec<u64> = match value {
                Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
                value => value.as_u64().into_iter().collect(),
            };
            let say = |id| Saying { role, place, stated: stated.clone(), what: What::Id(id) };
            self.sayings.extend(ids.into_iter().map(say));
        }
    }

    fn texts(&mut self, file: &str, place: Place, object: &Map<String, Value>) {
        for role in ROLES {
            let key = format!("{role}_token");
            if let Some(text) = object.get(&key).and_then(text_of) {
                let stated = format!("{file}: {key}");
                self.sayings.push(Saying { role, place, stated, what: What::Text(text) });
            }
        }
        if place != Place::TokenizerConfig {
            return;
        }
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_string);
        self.class = text("tokenizer_class");
        self.tokenizer_from = text("name_or_path");
        // Those who mean "no limit" write the largest number that they can.
        self.max_length = object.get("model_max_length").and_then(Value::as_u64).filter(|length| *length < 1 << 40);
        if let Some(listed) = object.get("added_tokens_decoder").and_then(Value::as_object) {
            let token = |(id, value): (&String, &Value)| {
                let special = value.get("special").and_then(Value::as_bool);
                Some(Listed { id: id.parse().ok()?, content: text_of(value)?, special })
            };
            let tokens = listed.iter().filter_map(token).collect();
            self.lists.push(List { stated: "tokenizer_config.json: added_tokens_decoder", tokens });
        }
    }

    /// The statements of a role in a file.
    pub fn said<'a>(&'a self, role: &'a str, place: Place) -> impl Iterator<Item = &'a Saying> {
        self.sayings.iter().filter(move |saying| saying.role == role && saying.place == place)
    }
}

/// The configuration of the language model within another one.
fn inner(object: &Map<String, Value>) -> Option<&Map<String, Value>> {
    ["text_config", "llm_config", "language_config"].iter().find_map(|key| object.get(*key)?.as_object())
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
}

fn object(model: &Model, name: &str) -> Option<Map<String, Value>> {
    let base = |path: &str| path.rsplit(['/', '\\']).next() == Some(name);
    let file = model.files.iter().find(|file| base(&file.path) && file.source.len() <= MAX)?;
    let bytes = file.source.read(0..file.source.len()).ok()?;
    serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).ok()
}
