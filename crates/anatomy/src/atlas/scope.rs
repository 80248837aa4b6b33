//! Where the names in expressions are looked up: configuration keys with their defaults, values that follow from them,
//! loop variables. Nothing is computed before it is asked for, so only what a table uses becomes an assumption.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use indexmap::IndexMap;
use minijinja::value::{Object, Serde};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

use super::expression::Code;
use super::family::{Default_, Key};

/// Greatest number that a configuration may state for a size.
const MOST: i64 = 1 << 40;

/// A default that the configuration left to the class.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assumption {
    /// Dotted path of the key.
    pub key: String,
    /// The value, as JSON writes it.
    pub value: String,
    /// The formula, where it is computed.
    pub formula: Option<String>,
}

/// What a name is known to be.
enum State {
    /// Being computed; asked for again, it goes in a circle.
    Busy,
    Known(Value),
    Failed(Arc<str>),
}

/// One level of names.
#[derive(Default)]
pub(super) struct Scope {
    /// Looked up next; the family's scope for a turn of a loop.
    outer: Option<Arc<Scope>>,
    keys: IndexMap<String, Key>,
    lets: IndexMap<String, String>,
    /// The same for a turn of a loop, where they are compiled once for all turns.
    turn: Arc<IndexMap<String, Code>>,
    /// The configuration, and where it stands in the whole.
    config: Json,
    place: String,
    /// Class defaults that the including family changes.
    defaults: IndexMap<String, toml::Value>,
    known: Mutex<HashMap<Box<str>, State>>,
    assumptions: Mutex<Vec<Assumption>>,
    /// Keys of the configuration that were read, with their whole paths.
    read: Mutex<Vec<String>>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.value(key).unwrap_or_else(|error| Some(Value::from(error)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

impl Scope {
    /// The names of a family over its configuration.
    pub(super) fn family(
        keys: IndexMap<String, Key>,
        lets: IndexMap<String, String>,
        config: Json,
        place: String,
        defaults: IndexMap<String, toml::Value>,
    ) -> Self {
        Scope { keys, lets, config, place, defaults, ..Scope::default() }
    }

    /// One turn of a loop.
    pub(super) fn turn(outer: &Arc<Scope>, lets: &Arc<IndexMap<String, Code>>, variables: &[(&str, Value)]) -> Self {
        let scope = Scope { outer: Some(Arc::clone(outer)), turn: Arc::clone(lets), ..Scope::default() };
        for (name, value) in variables {
            scope.set(name, value.clone());
        }
        scope
    }

    /// Fixes a name.
    pub(super) fn set(&self, name: &str, value: Value) {
        lock(&self.known).insert(name.into(), State::Known(value));
    }

    /// The configuration of this level.
    pub(super) fn config(&self) -> &Json {
        &self.config
    }

    /// Where it stands in the whole configuration; empty for the whole.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The defaults that were used.
    pub(super) fn assumptions(&self) -> Vec<Assumption> {
        lock(&self.assumptions).clone()
    }

    /// The keys that were read.
    pub(super) fn keys_read(&self) -> Vec<String> {
        lock(&self.read).clone()
    }

    /// What a name stands for; `None` for a name that stands for nothing.
    pub(super) fn value(self: &Arc<Self>, name: &str) -> Result<Option<Value>, Error> {
        match lock(&self.known).get(name) {
            Some(State::Known(value)) => return Ok(Some(value.clone())),
            Some(State::Failed(message)) => return Err(invalid(&**message)),
            Some(State::Busy) => return Err(invalid(format!("{name} depends on itself"))),
            None => {}
        }
        let compute: Box<dyn Fn() -> Result<Value, Error>> = if let Some(code) = self.turn.get(name) {
            Box::new(move || code.value(self))
        } else if let Some(text) = self.lets.get(name) {
            Box::new(move || Code::new(text)?.value(self))
        } else if let Some(key) = self.keys.get(name) {
            Box::new(move || self.key(name, key))
        } else if name == "config" && self.outer.is_none() {
            Box::new(move || Ok(Value::from(Serde(&self.config))))
        } else {
            return self.outer.as_ref().map_or(Ok(None), |outer| outer.value(name));
        };
        lock(&self.known).insert(name.into(), State::Busy);
        let value = compute();
        let state = match &value {
            Ok(value) => State::Known(value.clone()),
            Err(error) => State::Failed(error.detail().unwrap_or("it cannot be computed").into()),
        };
        lock(&self.known).insert(name.into(), state);
        value.map(Some)
    }

    /// A configuration key: as stated, or its default.
    fn key(self: &Arc<Self>, name: &str, key: &Key) -> Result<Value, Error> {
        let path = key.path.as_deref().unwrap_or(name);
        let paths = || std::iter::once(path).chain(key.also.iter().map(String::as_str));
        let stated =
            paths().find_map(|path| at(&self.config, path).filter(|value| !value.is_null()).map(|v| (path, v)));
        let default = match self.defaults.get(name) {
            Some(value) => Some(Default_::new(value.clone())),
            None => key.default.clone(),
        };
        lock(&self.read).extend(paths().map(|path| self.whole(path)));
        if let Some((path, value)) = stated {
            let like = match (&default, &key.null) {
                (Some(Default_::Literal(value)), _) | (_, Some(Default_::Literal(value))) => Some(value),
                _ => None,
            };
            return checked(&self.whole(path), value, like);
        }
        let null = paths().any(|path| at(&self.config, path).is_some());
        let default = match (null, &key.null, default) {
            (true, Some(value), _) => value.clone(),
            (true, None, Some(Default_::Literal(_))) => return Ok(Value::from(())),
            (_, _, Some(value)) => value,
            (_, _, None) => {
                return Err(invalid(format!("the configuration does not state {}", self.whole(path))));
            }
        };
        let (value, formula) = match default {
            Default_::Literal(value) => (Value::from(Serde(value)), None),
            Default_::Computed(text) => (Code::new(&text)?.value(self)?, Some(text)),
        };
        // A default of nothing says nothing.
        if value.is_none() {
            return Ok(value);
        }
        let shown = serde_json::to_string(&value).unwrap_or_default();
        lock(&self.assumptions).push(Assumption { key: self.whole(path), value: shown, formula });
        Ok(value)
    }

    fn whole(&self, path: &str) -> String {
        if self.place.is_empty() { path.to_string() } else { format!("{}.{path}", self.place) }
    }
}

/// The value at a dotted path.
pub(crate) fn at<'j>(json: &'j Json, path: &str) -> Option<&'j Json> {
    path.split('.').try_fold(json, |value, word| value.as_object()?.get(word))
}

/// The same configuration with another value at a dotted path; objects on the way are made where they are missing.
pub fn with_value(json: &Json, path: &str, value: Json) -> Json {
    let Some((first, rest)) = path.split_once('.') else {
        return with_entry(json, path, value);
    };
    let inner = json.get(first).cloned().unwrap_or_default();
    with_entry(json, first, with_value(&inner, rest, value))
}

fn with_entry(json: &Json, key: &str, value: Json) -> Json {
    let mut object = json.as_object().cloned().unwrap_or_default();
    object.insert(key.to_string(), value);
    Json::Object(object)
}

/// A stated value, where it is of the kind that the class expects.
fn checked(path: &str, value: &Json, like: Option<&toml::Value>) -> Result<Value, Error> {
    let shown = || {
        let text = value.to_string();
        let short: String = text.chars().take(40).collect();
        if short.len() < text.len() { format!("{short}…") } else { text }
    };
    let expected = |kind: &str| Err(invalid(format!("{path} is {}, not {kind}", shown())));
    if let Json::Number(number) = value {
        let whole = number.as_i64().or_else(|| whole(number.as_f64()?));
        let signed = matches!(like, Some(toml::Value::Integer(default)) if *default < 0);
        return match (like, whole) {
            (Some(toml::Value::Boolean(_)), Some(0 | 1)) => Ok(Value::from(whole == Some(1))),
            (Some(toml::Value::Boolean(_)), _) => expected("true or false"),
            (Some(toml::Value::String(_) | toml::Value::Table(_)), _) => expected("what it must be"),
            (_, Some(number)) if number < 0 && !signed => {
                Err(invalid(format!("{path} is {number}, but a size cannot be negative")))
            }
            (_, Some(number)) if number > MOST => Err(invalid(format!("{path} is {number}, beyond any model"))),
            (_, Some(number)) => Ok(Value::from(number)),
            (Some(toml::Value::Integer(_)), None) => expected("a whole number"),
            (_, None) => Ok(Value::from(number.as_f64())),
        };
    }
    match (like, value) {
        (Some(toml::Value::Integer(_)), Json::String(_) | Json::Bool(_) | Json::Object(_)) => expected("a number"),
        (Some(toml::Value::Float(_)), Json::String(_) | Json::Bool(_) | Json::Object(_)) => expected("a number"),
        (Some(toml::Value::Boolean(_)), Json::String(_) | Json::Array(_) | Json::Object(_)) => {
            expected("true or false")
        }
        (Some(toml::Value::Array(_)), Json::String(_) | Json::Bool(_) | Json::Object(_)) => expected("a list"),
        _ => Ok(Value::from(Serde(value))),
    }
}

fn whole(number: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)] // checked to be whole and small
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}
