//! A family as its data file states it. `atlas/README.md` explains the file to its authors.

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::Error as _;

use crate::error::{Error, Result};
use crate::names::Role;

/// One family of models: which configuration keys it reads, and which tensors follow from them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Name of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    /// What people call it.
    #[serde(default)]
    pub title: String,
    /// Where its facts come from.
    #[serde(default)]
    pub source: String,
    /// Family from which keys and parts are taken over.
    #[serde(default)]
    pub extends: Option<String>,
    /// Values of `model_type` that mean this family; its own name unless stated.
    #[serde(default)]
    pub model_types: Option<Vec<String>>,
    /// Values of `architectures` that mean this family, where several share a `model_type` or none is stated.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Keys that, all present, mean this family in a configuration without `model_type`.
    #[serde(default)]
    pub known_by: Vec<String>,
    /// The architecture that llama.cpp knows it by.
    #[serde(default)]
    pub gguf: Option<String>,
    /// What is not known of it, in a sentence for the table of families.
    #[serde(default)]
    pub unknown: Option<String>,
    /// Pairs of prefixes: some checkpoints write the second where this file writes the first.
    #[serde(default)]
    pub aliases: Vec<(String, String)>,
    /// Parts and includes of the extended family that this one does not have.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Configuration keys that the tables below use.
    #[serde(default)]
    pub keys: IndexMap<String, Key>,
    /// Values that follow from keys.
    #[serde(default, rename = "let")]
    pub lets: IndexMap<String, String>,
    /// Values for one turn of any loop, such as the kind of the layer.
    #[serde(default)]
    pub turn: IndexMap<String, String>,
    /// What must hold for the keys: sentence → expression.
    #[serde(default)]
    pub requires: IndexMap<String, String>,
    /// Other families inside of this one: towers, the language model behind them.
    #[serde(default)]
    pub include: IndexMap<String, Include>,
    /// Tables of tensors.
    #[serde(default)]
    pub part: IndexMap<String, Part>,
}

/// A configuration key.
#[derive(Debug, Clone, Default)]
pub struct Key {
    /// Dotted path in the configuration, where it is not the name.
    pub path: Option<String>,
    /// Other spellings of the key, tried in turn.
    pub also: Vec<String>,
    /// What holds where the configuration says nothing; without it the key is required.
    pub default: Option<Default_>,
    /// What holds where the configuration says `null`; without it `null` stays `none` under a plain default and means
    /// the default under a computed one.
    pub null: Option<Default_>,
}

/// A value that a configuration leaves out.
#[derive(Debug, Clone)]
pub enum Default_ {
    /// A constant of the upstream class.
    Literal(toml::Value),
    /// Computed from other keys; written with a leading `=`.
    Computed(String),
}

impl Default_ {
    pub(super) fn new(value: toml::Value) -> Self {
        match &value {
            toml::Value::String(text) => match text.strip_prefix('=') {
                Some(expression) => Default_::Computed(expression.trim().to_string()),
                None => Default_::Literal(value),
            },
            _ => Default_::Literal(value),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            key: Option<String>,
            #[serde(default)]
            also: Vec<String>,
            default: Option<toml::Value>,
            null: Option<toml::Value>,
        }
        match toml::Value::deserialize(deserializer)? {
            value @ toml::Value::Table(_) => {
                let long: Long = value.try_into().map_err(D::Error::custom)?;
                Ok(Key {
                    path: long.key,
                    also: long.also,
                    default: long.default.map(Default_::new),
                    null: long.null.map(Default_::new),
                })
            }
            value => Ok(Key { default: Some(Default_::new(value)), ..Key::default() }),
        }
    }
}

/// Another family inside of this one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Include {
    /// Dotted path of its configuration; the whole configuration unless stated.
    #[serde(default)]
    pub config: Option<String>,
    /// Always this family.
    #[serde(default)]
    pub family: Option<String>,
    /// The family of the inner `model_type`; this one where none is stated.
    #[serde(default)]
    pub any: Option<String>,
    /// Condition.
    #[serde(default, rename = "if")]
    pub when: Option<String>,
    /// Prefixes of the inner names and what they become here; the first that fits counts.
    #[serde(default, rename = "as")]
    pub renames: Vec<(String, String)>,
    /// Inner names (after renaming) that are not here; a final `*` means all that begin so.
    #[serde(default)]
    pub without: Vec<String>,
    /// Role of all of its tensors.
    #[serde(default)]
    pub role: Option<Word>,
    /// Class defaults of the inner keys that differ here.
    #[serde(default)]
    pub defaults: IndexMap<String, toml::Value>,
    /// Inner keys that are set from here: key → expression.
    #[serde(default)]
    pub set: IndexMap<String, String>,
}

/// A table of tensors, once or in a loop.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What precedes every name of the table.
    #[serde(default)]
    pub under: Option<String>,
    /// What precedes every GGUF name of the table.
    #[serde(default)]
    pub gguf: Option<String>,
    /// Loops: variable → count or list.
    #[serde(default, rename = "for")]
    pub loops: Option<IndexMap<String, String>>,
    /// Loops of those names that mention the variable, such as `{expert}`; shapes do not depend on them.
    #[serde(default)]
    pub each: IndexMap<String, String>,
    /// Values for one turn of this loop.
    #[serde(default, rename = "let")]
    pub lets: IndexMap<String, String>,
    /// Condition on keys and loop variables.
    #[serde(default, rename = "if")]
    pub when: Option<String>,
    /// Rows of the extended family that are not here.
    #[serde(default)]
    pub without: Vec<String>,
    /// The table.
    #[serde(default)]
    pub rows: Vec<Row>,
}

/// One line of a table: `[name, shape, role, gguf name, { … }]`, the last two left out where there is nothing to say.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name, with `{variables}`.
    pub name: String,
    /// Dimensions, outermost first, separated by commas.
    pub shape: String,
    /// What the tensor does.
    pub role: Role,
    /// Name in a GGUF.
    pub gguf: Option<String>,
    /// The rest.
    pub more: More,
}

/// What few rows have.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct More {
    /// Condition.
    #[serde(default, rename = "if")]
    pub when: Option<String>,
    /// Why checkpoints of the family may leave it out.
    #[serde(default)]
    pub optional: Option<String>,
    /// What the configuration does not tell and the names in a header do: all turns have it, or none.
    #[serde(default)]
    pub held: Option<String>,
    /// Of what is `held`, the forms that exclude each other to which it belongs: each turn has one of them.
    #[serde(default)]
    pub form: Vec<String>,
    /// Other names of the same tensor; relative to the part.
    #[serde(default)]
    pub alias: Vec<String>,
    /// Stored, but not learned.
    #[serde(default)]
    pub buffer: bool,
    /// Holds integers (places, counts): stored, and never counted as parameters.
    #[serde(default)]
    pub integers: bool,
    /// May have a dimension of zero, as the library writes it for a part that the configuration sizes to nothing.
    #[serde(default)]
    pub empty: bool,
    /// May be stored with fewer dimensions of the same product.
    #[serde(default)]
    pub flat: bool,
    /// Loops of this row.
    #[serde(default)]
    pub each: IndexMap<String, String>,
}

impl More {
    /// Why a checkpoint may do without it.
    pub fn may_lack(&self) -> Option<&str> {
        self.optional.as_deref().or(self.held.as_deref())
    }
}

/// A role, written as in `parameters.by_role`.
#[derive(Debug, Clone, Copy)]
pub struct Word(pub Role);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        role(&word).map(Word).ok_or_else(|| D::Error::custom(format!("`{word}` is no role")))
    }
}

fn role(word: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == word)
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut texts = Vec::new();
        let mut more = More::default();
        for value in Vec::<toml::Value>::deserialize(deserializer)? {
            match value {
                toml::Value::String(text) => texts.push(text),
                table @ toml::Value::Table(_) => more = table.try_into().map_err(D::Error::custom)?,
                other => return Err(D::Error::custom(format!("a row holds texts and one table, not {other:?}"))),
            }
        }
        let mut texts = texts.into_iter();
        let (Some(name), Some(shape), Some(word)) = (texts.next(), texts.next(), texts.next()) else {
            return Err(D::Error::custom("a row is [name, shape, role], with a GGUF name and a table after it"));
        };
        let role = role(&word).ok_or_else(|| D::Error::custom(format!("{name}: `{word}` is no role")))?;
        let gguf = texts.next().filter(|text| !text.is_empty());
        match texts.next() {
            Some(extra) => Err(D::Error::custom(format!("{name}: `{extra}` is one text too many"))),
            None => Ok(Row { name, shape, role, gguf, more }),
        }
    }
}

impl Family {
    /// Reads a data file; `name` is the file's, without the ending.
    ///
    /// # Errors
    /// With line and column where the file is not TOML or has a field that families do not have.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        let family: Family =
            toml::from_str(text).map_err(|error| Error::malformed(format!("family {name}: {}", one_line(&error))))?;
        Ok(Family { name: name.to_string(), ..family })
    }

    /// Reads a file of the library, which the build wrote as JSON.
    pub(super) fn read_json(name: &str, json: &str) -> Result<Self> {
        let family: Family =
            serde_json::from_str(json).map_err(|error| Error::malformed(format!("family {name}: {error}")))?;
        Ok(Family { name: name.to_string(), ..family })
    }

    /// Takes over from `base` what this family does not state itself.
    #[must_use]
    pub(super) fn over(self, base: &Family) -> Self {
        let mut merged = base.clone();
        for name in &self.drop {
            merged.part.shift_remove(name);
            merged.include.shift_remove(name);
        }
        merged.keys.extend(self.keys);
        merged.lets.extend(self.lets);
        merged.turn.extend(self.turn);
        merged.requires.extend(self.requires);
        merged.include.extend(self.include);
        for (name, part) in self.part {
            match merged.part.get_mut(&name) {
                Some(base) => base.overlay(part),
                None => _ = merged.part.insert(name, part),
            }
        }
        Family {
            name: self.name,
            title: self.title,
            source: self.source,
            extends: self.extends,
            model_types: self.model_types,
            classes: self.classes,
            known_by: self.known_by,
            gguf: self.gguf.or(merged.gguf),
            unknown: self.unknown,
            aliases: if self.aliases.is_empty() { merged.aliases } else { self.aliases },
            drop: Vec::new(),
            ..merged
        }
    }
}

impl Part {
    fn overlay(&mut self, other: Part) {
        self.rows.retain(|row| !other.without.contains(&row.name));
        self.under = other.under.or(self.under.take());
        self.gguf = other.gguf.or(self.gguf.take());
        self.loops = other.loops.or(self.loops.take());
        self.when = other.when.or(self.when.take());
        self.each.extend(other.each);
        self.lets.extend(other.lets);
        // Rows of a name replace the rows of that name, where the first of them stood.
        for row in &other.rows {
            let Some(first) = self.rows.iter().position(|old| old.name == row.name) else { continue };
            self.rows.retain(|old| old.name != row.name);
            let same: Vec<Row> = other.rows.iter().filter(|new| new.name == row.name).cloned().collect();
            self.rows.splice(first..first, same);
        }
        let known: Vec<String> = self.rows.iter().map(|row| row.name.clone()).collect();
        self.rows.extend(other.rows.into_iter().filter(|row| !known.contains(&row.name)));
    }
}

/// The parser's explanation of several lines, in one.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}
