//! `tojson`: Python's `json.dumps` with the arguments that transformers lets through.

use super::expression::Args;
use super::fault::{MAX_TEXT, Result, wrong};
use super::render::Renderer;
use super::text;
use super::value::{Key, Value};

struct Writer {
    out: String,
    ascii: bool,
    indent: Option<String>,
    item: String,
    colon: String,
    sort: bool,
}

/// A value as JSON.
pub fn dump(renderer: &mut Renderer, value: &Value, args: Args) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort] = args.bind("tojson", names, 0)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text) | Value::Markup(text)) => Some(text.to_string()),
        Some(other) => match other.as_int() {
            Some(width) => {
                let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
                renderer.budget.text(width)?;
                Some(" ".repeat(width))
            }
            None => return wrong(format!("tojson indents by a number or a text, not '{}'", other.type_name())),
        },
    };
    let (item, colon) = match separators {
        None | Some(Value::None) => ((if indent.is_some() { "," } else { ", " }).to_string(), ": ".to_string()),
        Some(separators) => match renderer.iterate(&separators)?.as_slice() {
            [item, colon] if item.as_str().is_some() && colon.as_str().is_some() => {
                (item.as_str().unwrap_or("").to_string(), colon.as_str().unwrap_or("").to_string())
            }
            _ => return wrong("tojson takes two texts as separators"),
        },
    };
    let mut is_true = |value: Option<Value>| value.is_some_and(|value| renderer.is_true(&value));
    let (ascii, sort) = (is_true(ascii), is_true(sort));
    let mut writer = Writer { out: String::new(), ascii, indent, item, colon, sort };
    writer.value(renderer, value, 0)?;
    Ok(Value::str(writer.out))
}

impl Writer {
    fn value(&mut self, renderer: &mut Renderer, value: &Value, depth: usize) -> Result<()> {
        let before = self.out.len();
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(truth) => self.out.push_str(if *truth { "true" } else { "false" }),
            Value::Int(number) => self.out.push_str(&number.to_string()),
            Value::Float(number) => self.out.push_str(&float(*number)),
            Value::Str(text) | Value::Markup(text) => self.text(text),
            Value::List(list) | Value::Tuple(list) => {
                self.out.push('[');
                for (index, item) in list.items.iter().enumerate() {
                    self.before_item(renderer, index, depth + 1)?;
                    self.value(renderer, item, depth + 1)?;
                }
                self.after_items(renderer, list.items.len(), depth)?;
                self.out.push(']');
            }
            Value::Dict(dict) => {
                self.out.push('{');
                let mut entries: Vec<(&Key, &Value)> = dict.map.iter().collect();
                if self.sort {
                    let keys = entries.iter().map(|(Key(key), _)| key.clone()).collect();
                    let order = super::filters::sorted_places(renderer, keys, false)?;
                    entries = order.into_iter().filter_map(|at| entries.get(at).copied()).collect();
                }
                for (index, (Key(key), value)) in entries.into_iter().enumerate() {
                    self.before_item(renderer, index, depth + 1)?;
                    match key {
                        Value::Str(text) | Value::Markup(text) => self.text(text),
                        Value::None => self.out.push_str("\"null\""),
                        Value::Bool(truth) => self.out.push_str(if *truth { "\"true\"" } else { "\"false\"" }),
                        Value::Int(number) => self.out.push_str(&format!("\"{number}\"")),
                        Value::Float(number) => self.out.push_str(&format!("\"{}\"", float(*number))),
                        other => {
                            let of = other.type_name();
                            return wrong(format!("keys must be str, int, float, bool or None, not {of}"));
                        }
                    }
                    self.out.push_str(&self.colon);
                    self.value(renderer, value, depth + 1)?;
                }
                self.after_items(renderer, dict.map.len(), depth)?;
                self.out.push('}');
            }
            other => return wrong(format!("Object of type {} is not JSON serializable", other.type_name())),
        }
        // Nested values were paid for already; what is added here is at least one more unit.
        let own = if matches!(value, Value::Str(_) | Value::Markup(_)) { self.out.len() - before } else { 8 };
        renderer.budget.text(own)?;
        if self.out.len() > MAX_TEXT {
            renderer.budget.text(self.out.len())?;
        }
        Ok(())
    }

    fn before_item(&mut self, renderer: &mut Renderer, index: usize, depth: usize) -> Result<()> {
        if index > 0 {
            self.out.push_str(&self.item);
        }
        self.new_line(renderer, depth)
    }

    fn after_items(&mut self, renderer: &mut Renderer, count: usize, depth: usize) -> Result<()> {
        if count > 0 { self.new_line(renderer, depth) } else { Ok(()) }
    }

    fn new_line(&mut self, renderer: &mut Renderer, depth: usize) -> Result<()> {
        renderer.budget.text(self.item.len() + self.colon.len())?;
        if let Some(indent) = &self.indent {
            renderer.budget.text(indent.len().saturating_mul(depth))?;
            renderer.budget.text(self.out.len().saturating_add(indent.len() * depth) / 1024)?;
            if self.out.len().saturating_add(indent.len().saturating_mul(depth)) > MAX_TEXT {
                renderer.budget.text(MAX_TEXT + 1)?;
            }
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                c if c < ' ' => self.out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c if self.ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn float(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_string()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_string()
    } else {
        text::float(number)
    }
}
