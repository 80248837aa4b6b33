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
mod name;
mod nearest;
mod scope;
mod settle;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

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
    /// Its file, as JSON.
    json: &'static str,
    /// What matching looks at before a file is parsed: see `build.rs`.
    extends: Option<&'static str>,
    drop: &'static [&'static str],
    parts: &'static [&'static str],
    aliases: &'static [(&'static str, &'static str)],
    includes: bool,
    /// Last two words of the names of its rows; `open` where some depend on the configuration.
    ends: &'static [&'static str],
    open: bool,
    /// Of parts the ends of names that every model of the family has.
    must: &'static [(&'static str, &'static str)],
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// The library's families with what they take over from others; each is read once.
static WHOLE: LazyLock<Vec<OnceLock<Arc<Family>>>> =
    LazyLock::new(|| EMBEDDED.iter().map(|_| OnceLock::new()).collect());

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

    /// Whether the user brought any family: others may be built on it.
    fn is_changed(&self) -> bool {
        !self.added.is_empty()
    }

    /// A family by its name, with what it takes over from others.
    ///
    /// # Errors
    /// Where there is none, or its file is wrong.
    pub fn family(&self, name: &str) -> Result<Arc<Family>> {
        if self.added.is_empty() {
            return embedded(name, 0);
        }
        let mut chain: Vec<Family> = Vec::new();
        let mut next = Some(name.to_string());
        while let Some(name) = next {
            if chain.len() > MAX_BASES {
                return Err(Error::malformed(format!("family {name} extends itself")));
            }
            let family = match self.added.get(&name) {
                // A user's family may extend the library's of the same name.
                Some(family) if chain.iter().all(|other| other.name != name) => family.clone(),
                _ => match place(&name).and_then(|place| EMBEDDED.get(place)) {
                    Some(family) => Family::read_json(family.name, family.json)?,
                    None => return Err(unknown(&name)),
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
            None => {
                let like = self.like("", config, false);
                let like = if like.is_empty() { like } else { format!("; {like}") };
                Err(Error::new(ErrorKind::Unsupported, "the configuration does not say which model it is")
                    .help(format!("add its model_type{like}")))
            }
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
            None => Err(self.unknown_type(model_type, class, config)),
        }
    }

    /// A `model_type` that no family has, with what is nearest.
    fn unknown_type(&self, model_type: &str, class: &str, config: &Json) -> Error {
        let by_class = self.heads().find(|head| head.classes.contains(&class));
        let help = match by_class {
            Some(head) => {
                let name = head.name;
                format!("its class {class} is that of family {name}: if it is one, try --set model_type={name}")
            }
            None => help(&self.like(model_type, config, false)),
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
        let mut blueprint = blueprint::build(self, &family, config)?;
        if let Some(assumption) = class::fit(&mut blueprint.tensors, &family, config) {
            blueprint.assumptions.insert(0, assumption);
        }
        Ok(blueprint)
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
        let config = metadata::config_of(architecture, metadata);
        let family = self.family(&format!("gguf/{architecture}")).map_err(|_| {
            let shown: String = architecture.chars().take(60).collect();
            Error::new(ErrorKind::Unsupported, format!("the GGUF architecture `{shown}` is not known"))
                .help(help(&self.like(architecture, &config, true)))
        })?;
        Ok((family, config))
    }

    /// Everything that follows from the metadata of a GGUF.
    ///
    /// # Errors
    /// As [`Atlas::of_gguf`], and where the metadata make no sense.
    pub fn blueprint_of_gguf(&self, metadata: &Metadata) -> Result<Blueprint> {
        let (family, config) = self.of_gguf(metadata)?;
        let mut blueprint = blueprint::build(self, &family, &config)?;
        blueprint.drop_leading_ones();
        Ok(blueprint)
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

/// Whether a family of the library may have written a model whose names end so. `true` is no promise.
fn may_end(name: &str, held: &std::collections::BTreeSet<String>) -> bool {
    let mut chain: Vec<&Embedded> = Vec::new();
    let mut next = Some(name);
    while let Some(file) = next.and_then(|name| EMBEDDED.get(place(name)?)) {
        if chain.len() > MAX_BASES {
            return true;
        }
        chain.push(file);
        next = file.extends;
    }
    // What stands before the last word may be written in another way.
    let last = |prefix: &str| prefix.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_string();
    let aliases: Vec<(String, String)> =
        chain.iter().flat_map(|file| file.aliases).map(|(from, to)| (last(from), last(to))).collect();
    let first = |end: &str| end.split('.').next().unwrap_or_default().to_string();
    let without = |held: &String| {
        let known = chain.iter().any(|file| file.ends.binary_search(&held.as_str()).is_ok());
        !known && aliases.iter().all(|(_, to)| *to != first(held))
    };
    if chain.iter().all(|file| !file.includes && !file.open) && held.iter().any(without) {
        return false;
    }
    let mut changed: Vec<&str> = Vec::new();
    for (place, file) in chain.iter().enumerate() {
        // Only parts that stand as this file has them: neither laid over another file's nor covered by one.
        let bases = chain.get(place + 1..).unwrap_or_default();
        let own = |part: &str| !changed.contains(&part) && bases.iter().all(|base| !base.parts.contains(&part));
        let due = file.must.iter().filter(|(part, _)| own(part));
        for (_, end) in due {
            if !held.contains(*end) && aliases.iter().all(|(from, _)| *from != first(end)) {
                return false;
            }
        }
        changed.extend(file.parts.iter().chain(file.drop));
    }
    true
}

/// Where a family of the library is listed.
fn place(name: &str) -> Option<usize> {
    EMBEDDED.binary_search_by(|family| family.name.cmp(name)).ok()
}

/// A family of the library, with what it takes over from others.
fn embedded(name: &str, bases: usize) -> Result<Arc<Family>> {
    let found = place(name).and_then(|place| Some((EMBEDDED.get(place)?, WHOLE.get(place)?)));
    let Some((file, whole)) = found else { return Err(unknown(name)) };
    if let Some(family) = whole.get() {
        return Ok(Arc::clone(family));
    }
    if bases > MAX_BASES {
        return Err(Error::malformed(format!("family {name} extends itself")));
    }
    let family = Family::read_json(file.name, file.json)?;
    let family = match &family.extends {
        Some(base) => {
            let base = embedded(base, bases + 1)?;
            family.over(&base)
        }
        None => family,
    };
    Ok(Arc::clone(whole.get_or_init(|| Arc::new(family))))
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
    Error::new(ErrorKind::Unsupported, format!("the model family `{name}` is not known")).help(help(""))
}

/// What can be done about an unknown family, after what it is like.
fn help(like: &str) -> String {
    let help = "see docs/families.md for all families, or describe this one in a file and name it with --atlas";
    if like.is_empty() { help.to_string() } else { format!("{like}; {help}") }
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
