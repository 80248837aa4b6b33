//! Values as text: Python's `str` and `repr`.

use std::sync::Arc;

use super::super::TemplateErrorKind;
use super::fault::{MAX_DEPTH, Result, fault, unsupported};
use super::render::Renderer;
use super::text;
use super::value::{Key, Value, View};

impl Renderer<'_> {
    /// `str(value)`
    pub fn text(&mut self, value: &Value) -> Result<Arc<str>> {
        match value {
            Value::Str(text) | Value::Markup(text) => Ok(text.clone()),
            Value::Undefined(_) => Ok("".into()),
            _ => self.repr(value),
        }
    }

    /// `repr(value)`
    pub fn repr(&mut self, value: &Value) -> Result<Arc<str>> {
        let mut out = String::new();
        self.write_repr(value, &mut out, 0)?;
        Ok(out.into())
    }

    fn write_repr(&mut self, value: &Value, out: &mut String, depth: u16) -> Result<()> {
        if depth > MAX_DEPTH {
            return fault(TemplateErrorKind::Limit, "a namespace that holds itself cannot be written");
        }
        self.budget.text(out.len().saturating_sub(1) / 1024 + 8)?;
        if out.len() > super::fault::MAX_TEXT {
            return self.budget.text(out.len());
        }
        match value {
            Value::Undefined(_) => out.push_str("Undefined"),
            Value::None => out.push_str("None"),
            Value::Bool(truth) => out.push_str(if *truth { "True" } else { "False" }),
            Value::Int(number) => out.push_str(&number.to_string()),
            Value::Float(number) => out.push_str(&text::float(*number)),
            Value::Str(of) => {
                self.budget.text(of.len())?;
                out.push_str(&text::repr(of));
            }
            Value::Markup(of) => {
                self.budget.text(of.len())?;
                out.push_str(&format!("Markup({})", text::repr(of)));
            }
            Value::List(list) => self.write_items(&list.items, out, ["[", "]"], depth)?,
            Value::Tuple(list) => {
                let end = if list.items.len() == 1 { ",)" } else { ")" };
                self.write_items(&list.items, out, ["(", end], depth)?;
            }
            Value::Dict(dict) => {
                let entries = dict.map.iter().map(|(Key(key), value)| (key.clone(), value.clone())).collect();
                self.write_entries(entries, out, depth)?;
            }
            Value::View(view, _) => {
                let items = self.iterate(value)?;
                out.push_str(match view {
                    View::Keys => "dict_keys(",
                    View::Values => "dict_values(",
                    View::Items => "dict_items(",
                });
                self.write_items(&items, out, ["[", "]"], depth)?;
                out.push(')');
            }
            Value::Range(range) => {
                out.push_str(&format!("range({}, {}", range.start, range.stop));
                if range.step != 1 {
                    out.push_str(&format!(", {}", range.step));
                }
                out.push(')');
            }
            Value::Namespace(index) => {
                let names = self.namespaces.get(*index).cloned().unwrap_or_default();
                let entries = names.into_iter().map(|(name, value)| (Value::Str(name), value)).collect();
                out.push_str("<Namespace ");
                self.write_entries(entries, out, depth)?;
                out.push('>');
            }
            Value::Macro(index) => match self.macros.get(*index).and_then(|closure| closure.of.name.as_deref()) {
                Some(name) => out.push_str(&format!("<Macro {}>", text::repr(name))),
                None => out.push_str("<Macro 'caller'>"),
            },
            Value::Loop(index) => {
                let index = *index;
                let length = self.loop_length(index)?;
                let turn = self.loop_attribute(index, "index")?.and_then(|turn| turn.as_int()).unwrap_or(0);
                out.push_str(&format!("<LoopContext {turn}/{length}>"));
            }
            Value::Function(super::functions::Function::This) => out.push_str("<TemplateReference None>"),
            Value::Function(_) | Value::Method(_) | Value::Iterator(_) | Value::Cycler(_) | Value::Joiner(_) => {
                let of = value.type_name();
                return unsupported(format!(
                    "a {of} is written: Python would write its address, which is never the same"
                ));
            }
        }
        Ok(())
    }

    fn write_items(&mut self, items: &[Value], out: &mut String, [begin, end]: [&str; 2], depth: u16) -> Result<()> {
        out.push_str(begin);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            self.write_repr(item, out, depth + 1)?;
        }
        out.push_str(end);
        Ok(())
    }

    fn write_entries(&mut self, entries: Vec<(Value, Value)>, out: &mut String, depth: u16) -> Result<()> {
        self.budget.values(entries.len())?;
        out.push('{');
        for (index, (key, value)) in entries.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            self.write_repr(key, out, depth + 1)?;
            out.push_str(": ");
            self.write_repr(value, out, depth + 1)?;
        }
        out.push('}');
        Ok(())
    }
}
