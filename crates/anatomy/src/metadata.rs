//! Keys and values that a file states about itself, in the order in which they stand there.

use std::collections::HashMap;

use crate::tensor::Span;

/// A value of any format's metadata, in the few kinds that analyses tell apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing (JSON `null`, Python `None`).
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A negative whole number.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// Text; bytes that were not UTF-8 are replaced, and a finding says so.
    Text(String),
    /// Text too long to hold: where it lies.
    LongText(Span),
    /// A list.
    Array(Array),
}

/// A list within metadata. Vocabularies have half a million entries, so only a part is held.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Type of the elements, in the format's own word: `u32`, `string`, …
    pub element: &'static str,
    /// How many elements the file declares.
    pub len: u64,
    /// Where the elements lie in the file.
    pub span: Span,
    /// The first elements: all of them for short lists, none for long lists of text.
    pub items: Vec<Value>,
}

impl Value {
    /// The number, where it is a whole one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Unsigned(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, of whichever kind.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// True or false.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The list.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Key as stored.
    pub key: String,
    /// Type in the format's own word (`u32`, `string`, `array`).
    pub kind: &'static str,
    /// Value.
    pub value: Value,
    /// Where the whole entry lies, key included; empty where the format gives no place.
    pub span: Span,
}

/// Ordered keys and values. Of a key that stands twice, look-ups see the first; the reader reports the rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Metadata::default()
    }

    /// Adds an entry; returns whether its key was new.
    pub fn push(&mut self, entry: Entry) -> bool {
        let new = !self.index.contains_key(&entry.key);
        if new {
            self.index.insert(entry.key.clone(), self.entries.len());
        }
        self.entries.push(entry);
        new
    }

    /// Gives a key another value, or adds it.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.index.get(key).and_then(|index| self.entries.get_mut(*index)) {
            Some(entry) => entry.value = value,
            None => {
                let span = Span { start: 0, len: 0 };
                self.push(Entry { key: key.to_string(), kind: "", value, span });
            }
        }
    }

    /// Adds a text without a place of its own.
    pub fn push_text(&mut self, key: impl Into<String>, text: impl Into<String>) -> bool {
        let span = Span { start: 0, len: 0 };
        self.push(Entry { key: key.into(), kind: "string", value: Value::Text(text.into()), span })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(*self.index.get(key)?).map(|entry| &entry.value)
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The whole number of a key.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// All entries, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
