//! What the JSON files beside a tokenizer say of it: `tokenizer_config.json`, `special_tokens_map.json`,
//! `added_tokens.json`, `generation_config.json`, `config.json`.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{AddedToken, File, Tokenizer, UNREADABLE, summary};
use crate::finding::Finding;

/// A role of a special token, as one file states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    /// `bos`, `eos`, `unk`, `pad`, `cls`, `sep`, `mask`, `eot`, …
    pub role: &'static str,
    /// Its text: as stated, or that of the stated id.
    pub token: Option<String>,
    /// Its id: as stated, or that of the stated text.
    pub id: Option<u64>,
    /// Whether the file states the id (else the text).
    pub by_id: bool,
    /// Name of the file and key.
    pub stated: String,
}

/// A value with the place that states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stated<T> {
    /// The value.
    pub value: T,
    /// Name of the file and key.
    pub stated: String,
}

/// What the files beside a tokenizer say.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// Class that transformers would use.
    pub class: Option<String>,
    /// Longest text in tokens; those who mean "no limit" write a number of thirty digits, which is none here.
    pub max_length: Option<Stated<u64>>,
    /// Whether a token is put before every text.
    pub add_bos: Option<Stated<bool>>,
    /// Whether one is put behind it.
    pub add_eos: Option<Stated<bool>>,
    /// Whether a blank is put before every text.
    pub add_prefix_space: Option<bool>,
    /// Whether blanks before punctuation are taken out of decoded text.
    pub clean_up_spaces: Option<bool>,
    /// Whether SentencePiece's way with blanks after special tokens is the old one.
    pub legacy: Option<bool>,
    /// Whether text is put into lower case.
    pub lower_case: Option<bool>,
    /// Rows of the embedding that the model's configuration states.
    pub model_vocab_size: Option<Stated<u64>>,
    /// `model_type` of the model's configuration.
    pub model_type: Option<String>,
    added: Vec<AddedToken>,
    /// Places of added tokens without an id, by text: a file lists hundreds of thousands where somebody wants it to.
    unnumbered: HashMap<String, VecDeque<usize>>,
    roles: Vec<Role>,
    findings: Vec<Finding>,
}

/// Roles by their key in configurations of tokenizers; those of generation have `_id` behind it.
const ROLES: [(&str, &str); 7] = summary::ROLES;
/// Configurations longer than this are not read, in bytes.
const MAX: u64 = 16 << 20;

/// Reads those that are there.
pub(super) fn read(files: &[File]) -> Configuration {
    let mut found = Configuration::default();
    let names = [
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "config.json",
        "params.json",
    ];
    for name in names {
        let Some(file) = files.iter().find(|file| summary::base(file.name) == name) else { continue };
        match object(file) {
            Ok(object) => found.take(name, file.name, &object),
            Err(error) => {
                let mut finding = Finding::new(&UNREADABLE, error.message()).file(file.name);
                finding.offset = error.offset();
                found.findings.push(finding);
            }
        }
    }
    found
}

fn object(file: &File) -> crate::Result<Map<String, Value>> {
    if file.source.len() > MAX {
        let message = format!("a configuration of {} bytes; the limit is {MAX}", file.source.len());
        return Err(crate::Error::new(crate::ErrorKind::Limit, message));
    }
    serde_json::from_slice(&file.bytes()?).map_err(|error| crate::Error::malformed(format!("not valid JSON: {error}")))
}

impl Configuration {
    fn take(&mut self, name: &str, path: &str, object: &Map<String, Value>) {
        let stated = |key: &str| format!("{path}: {key}");
        match name {
            "tokenizer_config.json" | "special_tokens_map.json" => {
                for (role, key) in ROLES {
                    if let Some(token) = object.get(key).and_then(text_of) {
                        self.roles.push(Role { role, token: Some(token), id: None, by_id: false, stated: stated(key) });
                    }
                }
                for token in object.values().filter_map(|value| added(value, None, path)) {
                    self.extend(token);
                }
                let lists = ["additional_special_tokens", "extra_special_tokens"];
                for value in lists.iter().filter_map(|key| object.get(*key)?.as_array()).flatten() {
                    let token = text_of(value).map(|content| AddedToken {
                        content,
                        special: true,
                        source: path.to_string(),
                        ..AddedToken::default()
                    });
                    if let Some(token) = added(value, None, path).or(token) {
                        self.push(token);
                    }
                }
                if name == "special_tokens_map.json" {
                    return;
                }
                for (id, value) in object.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
                    if let Some(token) = id.parse().ok().and_then(|id| added(value, Some(id), path)) {
                        self.extend(token);
                    }
                }
                let flag = |key: &str| object.get(key).and_then(Value::as_bool);
                let stated_flag = |key: &str| flag(key).map(|value| Stated { value, stated: stated(key) });
                self.class = object.get("tokenizer_class").and_then(Value::as_str).map(str::to_string);
                self.add_bos = stated_flag("add_bos_token");
                self.add_eos = stated_flag("add_eos_token");
                self.add_prefix_space = flag("add_prefix_space");
                self.clean_up_spaces = flag("clean_up_tokenization_spaces");
                self.legacy = flag("legacy");
                self.lower_case = flag("do_lower_case");
                self.max_length = object.get("model_max_length").and_then(Value::as_u64).and_then(|value| {
                    let limited = value < 1 << 50;
                    limited.then(|| Stated { value, stated: stated("model_max_length") })
                });
            }
            "added_tokens.json" => {
                for (content, id) in object {
                    let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                    self.extend(AddedToken {
                        id,
                        content: content.clone(),
                        source: path.to_string(),
                        ..AddedToken::default()
                    });
                }
            }
            _ => {
                let nested = ["text_config", "llm_config", "language_config"];
                let inner = nested.iter().find_map(|key| object.get(*key)?.as_object());
                let find = |key: &str| object.get(key).or_else(|| inner?.get(key)).filter(|value| !value.is_null());
                for (role, key) in ROLES {
                    let key = format!("{key}_id");
                    let ids: Vec<u64> = match find(&key) {
                        Some(Value::Array(list)) => list.iter().filter_map(Value::as_u64).collect(),
                        Some(value) => value.as_u64().into_iter().collect(),
                        None => Vec::new(),
                    };
                    let state = |id| Role { role, token: None, id: Some(id), by_id: true, stated: stated(&key) };
                    self.roles.extend(ids.into_iter().map(state));
                }
                if name != "generation_config.json" && self.model_vocab_size.is_none() {
                    self.model_vocab_size = find("vocab_size")
                        .and_then(Value::as_u64)
                        .map(|value| Stated { value, stated: stated("vocab_size") });
                    self.model_type = object.get("model_type").and_then(Value::as_str).map(str::to_string);
                }
            }
        }
    }

    /// Adds a token, or what is new of it.
    fn extend(&mut self, token: AddedToken) {
        let places = self.unnumbered.get_mut(&token.content).filter(|places| !places.is_empty());
        let Some(places) = places else { return self.push(token) };
        if token.id.is_some()
            && let Some(known) = places.pop_front().and_then(|place| self.added.get_mut(place))
        {
            *known = token;
        }
    }

    fn push(&mut self, token: AddedToken) {
        if token.id.is_none() {
            self.unnumbered.entry(token.content.clone()).or_default().push_back(self.added.len());
        }
        self.added.push(token);
    }
}

impl Tokenizer {
    /// Takes over what the files beside the tokenizer say.
    pub(super) fn take_configuration(&mut self, configuration: &Configuration) {
        self.configuration = configuration.clone();
        self.findings.extend(std::mem::take(&mut self.configuration.findings));
        // What the configuration states is what loaders follow, so it comes first.
        let own = std::mem::take(&mut self.roles);
        self.roles = std::mem::take(&mut self.configuration.roles);
        self.roles.extend(own);
        let mut known: std::collections::HashSet<&str> =
            self.added.iter().map(|token| token.content.as_str()).collect();
        let mut more = Vec::new();
        for token in &configuration.added {
            // A tokenizer.json is complete in itself; beside the others, this is where added tokens are listed.
            if token.id.is_some() && known.insert(&token.content) {
                more.push(token.clone());
            }
        }
        if self.kind != "tokenizer-json" {
            self.added.extend(more);
            self.mark_added();
        }
        self.configuration.added = Vec::new();
        self.configuration.unnumbered = HashMap::new();
    }
}

/// The text of a token that stands as text or as an object.
fn text_of(value: &Value) -> Option<String> {
    let content = value.as_str().or_else(|| value.get("content")?.as_str());
    content.map(str::to_string)
}

/// A token that stands as an object with its flags.
pub(super) fn added(value: &Value, id: Option<u32>, path: &str) -> Option<AddedToken> {
    let content = value.get("content")?.as_str()?.to_string();
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let id = id.or_else(|| u32::try_from(value.get("id")?.as_u64()?).ok());
    let special = flag("special").unwrap_or(false);
    Some(AddedToken {
        id,
        content,
        special,
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        single_word: flag("single_word").unwrap_or(false),
        source: path.to_string(),
    })
}
