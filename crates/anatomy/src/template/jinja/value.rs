//! Python's values, as far as templates meet them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use indexmap::IndexMap;

use super::super::TemplateErrorKind;
use super::fault::{Budget, MAX_DEPTH, Result, fault, wrong};
use super::functions::Function;
use super::text;

/// A value. Texts and containers are shared; what can change or refer to itself lives in the renderer's tables and is
/// only numbered here, so that no value is part of itself.
#[derive(Debug, Clone)]
pub enum Value {
    Undefined(Arc<Undefined>),
    None,
    Bool(bool),
    /// Python's integers know no bound; those of templates fit, and what does not is refused.
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// A text that counts as escaped (`|safe`, `|escape`): what is added to it is escaped.
    Markup(Arc<str>),
    List(Arc<List>),
    Tuple(Arc<List>),
    Dict(Arc<Dict>),
    Range(Arc<Range>),
    /// `dict.keys()`, `values()`, `items()`.
    View(View, Arc<Dict>),
    Function(Function),
    /// A method of a value, not yet called.
    Method(Arc<(Value, Arc<str>)>),
    Macro(usize),
    Namespace(usize),
    Loop(usize),
    /// What filters such as `map` and `select` give: it can be walked once, and has no length.
    Iterator(usize),
    Cycler(usize),
    Joiner(usize),
}

/// Where an undefined value comes from: the sentence of the error when it is used.
#[derive(Debug)]
pub enum Undefined {
    Name(Arc<str>),
    Attribute(String, Arc<str>),
    Element(String, String),
    Hint(String),
    /// Access that the sandbox refuses.
    Unsafe(String),
}

/// What a list or tuple holds.
#[derive(Debug)]
pub struct List {
    pub items: Vec<Value>,
    depth: u16,
    /// A pair of `groupby`, which has `grouper` and `list`.
    pub group: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Keys,
    Values,
    Items,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Range {
    pub start: i128,
    pub stop: i128,
    pub step: i128,
    pub len: usize,
}

impl Range {
    pub fn get(&self, index: usize) -> Option<Value> {
        let index = i128::try_from(index).ok().filter(|_| index < self.len)?;
        Some(Value::Int(self.start + self.step * index))
    }
}

/// A dictionary in the order of insertion.
#[derive(Debug, Default)]
pub struct Dict {
    pub map: IndexMap<Key, Value, foldhash::fast::RandomState>,
    depth: u16,
}

impl Dict {
    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: Key, value: Value) -> Result<()> {
        self.depth = self.depth.max(nested(value.depth().max(key.0.depth()))?);
        self.map.insert(key, value);
        Ok(())
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(&KeyText(key))
    }
}

/// A value that can be a key: all but lists and dictionaries. `1`, `1.0` and `True` are the same key.
#[derive(Debug, Clone)]
pub struct Key(pub Value);

struct KeyText<'a>(&'a str);

impl Hash for KeyText<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (2u8, self.0).hash(state);
    }
}

impl indexmap::Equivalent<Key> for KeyText<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        key.0.as_str() == Some(self.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_value(&self.0, state);
    }
}

fn hash_value<H: Hasher>(value: &Value, state: &mut H) {
    if let Some(text) = value.as_str() {
        return (2u8, text).hash(state);
    }
    if let Some(number) = value.as_int() {
        return (1u8, number).hash(state);
    }
    match value {
        Value::Float(number) => match whole(*number) {
            Some(number) => (1u8, number).hash(state),
            None => (3u8, number.to_bits()).hash(state),
        },
        Value::Tuple(list) => list.items.iter().for_each(|item| hash_value(item, state)),
        _ => 0u8.hash(state),
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        same_key(&self.0, &other.0)
    }
}

impl Eq for Key {}

fn same_key(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Tuple(a), Value::Tuple(b)) => {
            a.items.len() == b.items.len() && a.items.iter().zip(&b.items).all(|(a, b)| same_key(a, b))
        }
        (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => true,
        _ => match (left.as_str(), right.as_str()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => left.compare_numbers(right).is_some_and(std::cmp::Ordering::is_eq),
            _ => false,
        },
    }
}

/// The integer that a float is, where it is one.
pub fn whole(number: f64) -> Option<i128> {
    // 2^126 is exact as a float and within the integers that there are.
    #[allow(clippy::cast_possible_truncation)] // checked to be a whole number within range
    (number.fract() == 0.0 && number.abs() < 8.5e37).then_some(number as i128)
}

/// One level deeper, if that is still allowed.
fn nested(depth: u16) -> Result<u16> {
    if depth >= MAX_DEPTH {
        return fault(TemplateErrorKind::Limit, format!("values nest deeper than {MAX_DEPTH} levels"));
    }
    Ok(depth + 1)
}

impl Value {
    pub fn str(text: impl Into<Arc<str>>) -> Value {
        Value::Str(text.into())
    }

    pub fn int(number: usize) -> Value {
        Value::Int(number as i128)
    }

    pub fn undefined(hint: impl Into<String>) -> Value {
        Value::Undefined(Arc::new(Undefined::Hint(hint.into())))
    }

    pub fn list(items: Vec<Value>, budget: &mut Budget) -> Result<Value> {
        Ok(Value::List(Arc::new(List::new(items, budget)?)))
    }

    pub fn tuple(items: Vec<Value>, budget: &mut Budget) -> Result<Value> {
        Ok(Value::Tuple(Arc::new(List::new(items, budget)?)))
    }

    fn depth(&self) -> u16 {
        match self {
            Value::List(list) | Value::Tuple(list) => list.depth,
            Value::Dict(dict) | Value::View(_, dict) => dict.depth,
            Value::Method(method) => method.0.depth(),
            _ => 0,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one: Python's booleans are.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(truth) => Some(i128::from(*truth)),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[allow(clippy::cast_precision_loss)] // as Python does
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            _ => self.as_int().map(|number| number as f64),
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// The name of the type, as Python's errors have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Markup(_) => "Markup",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Range(_) => "range",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Function(Function::This) => "TemplateReference",
            Value::Function(_) => "function",
            Value::Method(_) => "builtin_function_or_method",
            Value::Macro(_) => "Macro",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Iterator(_) => "generator",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
        }
    }

    /// How two numbers compare; nothing where one is no number, or not a number at all.
    pub fn compare_numbers(&self, other: &Value) -> Option<std::cmp::Ordering> {
        match (self.as_int(), other.as_int()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => match (self, other) {
                // Exact where the float is whole, as in Python.
                (Value::Float(a), _) if let (Some(a), Some(b)) = (whole(*a), other.as_int()) => Some(a.cmp(&b)),
                (_, Value::Float(b)) if let (Some(a), Some(b)) = (self.as_int(), whole(*b)) => Some(a.cmp(&b)),
                _ => self.as_float()?.partial_cmp(&other.as_float()?),
            },
        }
    }

    /// This value as a key.
    pub fn key(self) -> Result<Key> {
        fn hashable(value: &Value) -> bool {
            match value {
                Value::Tuple(list) => list.items.iter().all(hashable),
                Value::List(_) | Value::Dict(_) | Value::View(..) => false,
                _ => true,
            }
        }
        if !hashable(&self) {
            return wrong(format!("unhashable type: '{}'", self.type_name()));
        }
        Ok(Key(self))
    }

    /// Equality as Python has it.
    pub fn equals(&self, other: &Value, budget: &mut Budget) -> Result<bool> {
        budget.spend(1)?;
        if let (Some(a), Some(b)) = (self.as_str(), other.as_str()) {
            if a.len() == b.len() {
                budget.scan(a.len())?;
            }
            return Ok(a == b);
        }
        Ok(match (self, other) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                if a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.map.len() != b.map.len() {
                    return Ok(false);
                }
                for (key, value) in &a.map {
                    match b.map.get(key) {
                        Some(other) if value.equals(other, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Range(a), Value::Range(b)) => {
                a.len == b.len && (a.len == 0 || a.start == b.start) && (a.len < 2 || a.step == b.step)
            }
            (Value::Function(a), Value::Function(b)) => a == b,
            (Value::Macro(a), Value::Macro(b))
            | (Value::Namespace(a), Value::Namespace(b))
            | (Value::Loop(a), Value::Loop(b))
            | (Value::Iterator(a), Value::Iterator(b))
            | (Value::Cycler(a), Value::Cycler(b))
            | (Value::Joiner(a), Value::Joiner(b)) => a == b,
            _ => self.compare_numbers(other).is_some_and(std::cmp::Ordering::is_eq),
        })
    }

    /// Order as Python has it; `sign` is for the error.
    pub fn compare(&self, other: &Value, sign: &str, budget: &mut Budget) -> Result<Option<std::cmp::Ordering>> {
        budget.spend(1)?;
        if let (Some(a), Some(b)) = (self.as_str(), other.as_str()) {
            budget.scan(a.len().min(b.len()))?;
            return Ok(Some(a.cmp(b)));
        }
        match (self, other) {
            (Value::Undefined(undefined), _) | (_, Value::Undefined(undefined)) => undefined.fail(),
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, budget)? {
                        return a.compare(b, sign, budget);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            _ if self.as_float().is_some() && other.as_float().is_some() => Ok(self.compare_numbers(other)),
            _ => {
                let (left, right) = (self.type_name(), other.type_name());
                wrong(format!("'{sign}' not supported between instances of '{left}' and '{right}'"))
            }
        }
    }

    /// A value of the conversation.
    pub fn from_json(json: &serde_json::Value) -> Result<Value> {
        use serde_json::Value as Json;
        // The budget already counts the conversation's bytes.
        let free = &mut Budget::new(usize::MAX);
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number.into()),
                (_, Some(number)) => Value::Int(number.into()),
                _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::str(text.as_str()),
            Json::Array(items) => Value::list(items.iter().map(Value::from_json).collect::<Result<_>>()?, free)?,
            Json::Object(entries) => {
                let mut dict = Dict::default();
                for (key, value) in entries {
                    dict.insert(Key(Value::str(key.as_str())), Value::from_json(value)?)?;
                }
                Value::Dict(Arc::new(dict))
            }
        })
    }
}

impl List {
    pub fn new(items: Vec<Value>, budget: &mut Budget) -> Result<List> {
        budget.values(items.len() + 1)?;
        let depth = nested(items.iter().map(Value::depth).max().unwrap_or(0))?;
        Ok(List { items, depth, group: false })
    }
}

impl Undefined {
    /// The error of using it.
    pub fn fail<T>(&self) -> Result<T> {
        let message = match self {
            Undefined::Name(name) => format!("{} is undefined", text::repr(name)),
            Undefined::Attribute(of, name) => format!("'{of}' has no attribute {}", text::repr(name)),
            Undefined::Element(of, name) => format!("{of} has no element {name}"),
            Undefined::Hint(hint) => hint.clone(),
            Undefined::Unsafe(message) => return fault(TemplateErrorKind::Security, message.as_str()),
        };
        fault(TemplateErrorKind::Undefined, message)
    }
}
