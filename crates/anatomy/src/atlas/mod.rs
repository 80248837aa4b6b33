//! The atlas of model families: from a configuration to every tensor's name and shape.
//!
//! One family is one data file in `crates/anatomy/atlas`; `README.md` there explains its language. Nothing in this
//! module knows a family.

mod blueprint;
mod class;
mod expression;
mod family;
mod matching;
mod metadata;
mod scope;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

pub use blueprint::{Blueprint, Expected};
pub use family::Family;
pub(crate) use scope::at as value_at;
pub use scope::with_value;

use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Metadata;

/// A family that is part of this library.
struct Embedded {
    /// Name of its file without the ending; `gguf/…` for what llama.cpp writes.
    name: &'static str,
    model_types: &'static [&'static str],
    classes: &'static [&'static str],
    known_by: &'static [&'static str],
    text: &'static str,
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// Families may build on one another this often.
const MAX_BASES: usize = 16;

/// All families that are known: those of the library, and those that the user adds.
#[derive(Debug, Clone, Default)]
pub struct Atlas {
    added: BTreeMap<String, Family>,
}

impl Atlas {
    /// The families of this library.
    pub fn new() -> Self {
        Atlas::default()
    }

    /// Adds a family, or puts one in place of the library's of the same name.
    ///
    /// # Errors
    /// Where the text is not a family.
    pub fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let family = Family::read(name, text)?;
        self.added.insert(name.to_string(), family);
        Ok(())
    }

    /// Names of all families, those of llama.cpp's own under `gguf/`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let embedded = EMBEDDED.iter().map(|family| family.name).filter(|name| !self.added.contains_key(*name));
        self.added.keys().map(String::as_str).chain(embedded)
    }

    /// A family by its name, with what it takes over from others.
    ///
    /// # Errors
    /// Where there is none, or its file is wrong.
    pub fn family(&self, name: &str) -> Result<Arc<Family>> {
        let mut chain: Vec<Family> = Vec::new();
        let mut next = Some(name.to_string());
        while let Some(name) = next {
            if chain.len() > MAX_BASES {
                return Err(Error::malformed(format!("family {name} extends itself")));
            }
            let family = match self.added.get(&name) {
                // A user's family may extend the library's of the same name.
                Some(family) if chain.iter().all(|other| other.name != name) => family.clone(),
                _ => match EMBEDDED.binary_search_by(|family| family.name.cmp(&name)) {
                    Ok(index) => match EMBEDDED.get(index) {
                        Some(family) => Family::read(family.name, family.text)?,
                        None => return Err(unknown(&name)),
                    },
                    Err(_) => return Err(unknown(&name)),
                },
            };
            next = family.extends.clone();
            chain.push(family);
        }
        let mut chain = chain.into_iter().rev();
        let base = chain.next().unwrap_or_default();
        Ok(Arc::new(chain.fold(base, |base, family| family.over(&base))))
    }

    /// The family of a configuration: by its `model_type` and class, else by its class, else by its keys.
    ///
    /// # Errors
    /// Where no family fits; the nearest are named.
    pub fn of_config(&self, config: &Json) -> Result<Arc<Family>> {
        if !config.is_object() {
            return Err(Error::malformed("the configuration is not a JSON object"));
        }
        if let Some(model_type) = config.get("model_type").and_then(Json::as_str) {
            return self.of_model_type(model_type, config);
        }
        let class = class_of(config);
        let by_class = self.heads().find(|head| head.classes.contains(&class));
        let known =
            |head: &Head| !head.known_by.is_empty() && head.known_by.iter().all(|key| scope::at(config, key).is_some());
        match by_class.or_else(|| self.heads().find(known)) {
            Some(head) => self.family(head.name),
            None => Err(Error::new(ErrorKind::Unsupported, "the configuration does not say which model it is")
                .help("add its model_type")),
        }
    }

    /// The family of a `model_type`; where several share it, the class of `config` decides.
    pub(crate) fn of_model_type(&self, model_type: &str, config: &Json) -> Result<Arc<Family>> {
        let class = class_of(config);
        let typed: Vec<Head> = self.heads().filter(|head| head.model_types.contains(&model_type)).collect();
        let fits = |head: &&Head| head.classes.contains(&class);
        let found = typed.iter().find(fits).or_else(|| typed.iter().find(|head| head.name == model_type));
        match found.or(typed.first()) {
            Some(head) => self.family(head.name),
            None => Err(self.unknown_type(model_type, class)),
        }
    }

    /// A `model_type` that no family has, with what may have been meant.
    fn unknown_type(&self, model_type: &str, class: &str) -> Error {
        let heads: Vec<Head> = self.heads().collect();
        let by_class = heads.iter().find(|head| head.classes.contains(&class));
        let near = nearest(model_type, heads.iter().flat_map(|head| head.model_types.iter().copied()));
        let help = match (by_class, near) {
            (Some(head), _) => {
                let name = head.name;
                format!("its class {class} is that of family {name}: if it is one, try --set model_type={name}")
            }
            (None, Some(near)) => {
                format!("the nearest by name is `{near}`; see docs/families.md for all, or add one with --atlas")
            }
            (None, None) => "see docs/families.md for all, or describe it in a file and name it with --atlas".into(),
        };
        let shown: String = model_type.chars().take(60).collect();
        Error::new(ErrorKind::Unsupported, format!("the model family `{shown}` is not known")).help(help)
    }

    /// Everything that follows from a configuration.
    ///
    /// # Errors
    /// Where the family is unknown, or the configuration makes no sense.
    pub fn blueprint(&self, config: &Json) -> Result<Blueprint> {
        let family = self.of_config(config)?;
        blueprint::build(self, &family, config)
    }

    /// The family by which llama.cpp wrote a GGUF, and its keys in the shape of a configuration.
    ///
    /// # Errors
    /// Where the file names no architecture, or an unknown one.
    pub fn of_gguf(&self, metadata: &Metadata) -> Result<(Arc<Family>, Json)> {
        let Some(architecture) = metadata.text("general.architecture") else {
            return Err(Error::new(ErrorKind::Unsupported, "the GGUF does not name its architecture")
                .help("its key general.architecture is missing"));
        };
        let family = self.family(&format!("gguf/{architecture}")).map_err(|_| unknown(architecture))?;
        Ok((family, metadata::config_of(architecture, metadata)))
    }

    /// Everything that follows from the metadata of a GGUF.
    ///
    /// # Errors
    /// As [`Atlas::of_gguf`], and where the metadata make no sense.
    pub fn blueprint_of_gguf(&self, metadata: &Metadata) -> Result<Blueprint> {
        let (family, config) = self.of_gguf(metadata)?;
        blueprint::build(self, &family, &config)
    }

    fn heads(&self) -> impl Iterator<Item = Head<'_>> {
        let added = self.added.values().map(|family| Head {
            name: &family.name,
            model_types: match &family.model_types {
                Some(types) => types.iter().map(String::as_str).collect(),
                None => vec![family.name.as_str()],
            },
            classes: family.classes.iter().map(String::as_str).collect(),
            known_by: family.known_by.iter().map(String::as_str).collect(),
        });
        let embedded = EMBEDDED.iter().filter(|family| !family.name.starts_with("gguf/")).map(|family| Head {
            name: family.name,
            model_types: family.model_types.to_vec(),
            classes: family.classes.to_vec(),
            known_by: family.known_by.to_vec(),
        });
        added.chain(embedded)
    }
}

/// By what a configuration finds a family.
struct Head<'a> {
    name: &'a str,
    model_types: Vec<&'a str>,
    classes: Vec<&'a str>,
    known_by: Vec<&'a str>,
}

fn class_of(config: &Json) -> &str {
    config.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str).unwrap_or_default()
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the model family `{name}` is not known"))
        .help("see docs/families.md for those that are, or describe it in a file and name it with --atlas")
}

/// Of some words the one that was probably meant; `None` where none is near.
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = words.map(|other| (strsim::normalized_damerau_levenshtein(word, other), other));
    scored.filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

/// A name with a star for each of its numbers.
pub(crate) fn without_numbers(name: &str) -> String {
    matching::pattern(name).0
}
