//! Looking into values: attributes, items, slices, iteration, truth.
//!
//! As in Jinja's sandbox, `a.b` asks for an attribute first and for an item then, `a['b']` the other way round, and
//! neither gives what begins with an underscore or what changes a list or dictionary.

use std::sync::Arc;

use super::fault::{Result, wrong};
use super::methods;
use super::render::Renderer;
use super::text::{self, char_at};
use super::value::{Dict, Key, Undefined, Value, View};

impl Renderer<'_> {
    /// Whether a value counts as true.
    pub fn is_true(&mut self, value: &Value) -> bool {
        match value {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(truth) => *truth,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Str(text) | Value::Markup(text) => !text.is_empty(),
            Value::List(list) | Value::Tuple(list) => !list.items.is_empty(),
            Value::Dict(dict) | Value::View(_, dict) => !dict.map.is_empty(),
            Value::Range(range) => range.len > 0,
            _ => true,
        }
    }

    /// What a loop over a value meets.
    pub fn iterate(&mut self, value: &Value) -> Result<Vec<Value>> {
        let items: Vec<Value> = match value {
            Value::Undefined(_) => Vec::new(),
            Value::Str(text) | Value::Markup(text) => {
                self.budget.values(text.len())?;
                text.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]) as &str)).collect()
            }
            Value::List(list) | Value::Tuple(list) => {
                self.budget.values(list.items.len())?;
                list.items.clone()
            }
            Value::Dict(dict) => return self.view(View::Keys, dict),
            Value::View(view, dict) => return self.view(*view, dict),
            Value::Range(range) => {
                self.budget.values(range.len)?;
                (0..range.len).filter_map(|index| range.get(index)).collect()
            }
            Value::Iterator(index) => {
                let rest = self.iterators.get_mut(*index).map(std::mem::take);
                rest.map(Iterator::collect).unwrap_or_default()
            }
            other => return wrong(format!("'{}' object is not iterable", other.type_name())),
        };
        Ok(items)
    }

    fn view(&mut self, view: View, dict: &Dict) -> Result<Vec<Value>> {
        self.budget.values(dict.map.len())?;
        let mut items = Vec::with_capacity(dict.map.len());
        for (Key(key), value) in &dict.map {
            items.push(match view {
                View::Keys => key.clone(),
                View::Values => value.clone(),
                View::Items => Value::tuple(vec![key.clone(), value.clone()], &mut self.budget)?,
            });
        }
        Ok(items)
    }

    /// How many items a value says that it has.
    pub fn length(&mut self, value: &Value) -> Result<usize> {
        Ok(match value {
            Value::Undefined(_) => 0,
            Value::Str(text) | Value::Markup(text) => {
                self.budget.scan(text.len())?;
                text.chars().count()
            }
            Value::List(list) | Value::Tuple(list) => list.items.len(),
            Value::Dict(dict) | Value::View(_, dict) => dict.map.len(),
            Value::Range(range) => range.len,
            Value::Loop(index) => self.loop_length(*index)?,
            other => return wrong(format!("object of type '{}' has no len()", other.type_name())),
        })
    }

    /// `needle in container`
    pub fn contains(&mut self, container: &Value, needle: &Value) -> Result<bool> {
        if let Some(text) = container.as_str() {
            return match needle.as_str() {
                Some(needle) => {
                    self.budget.scan(text.len().saturating_mul(4))?;
                    Ok(text.contains(needle))
                }
                None => wrong(format!("'in <string>' requires string as left operand, not {}", needle.type_name())),
            };
        }
        if let Value::Dict(dict) | Value::View(View::Keys, dict) = container {
            return Ok(dict.map.contains_key(&needle.clone().key()?));
        }
        if matches!(container, Value::None) || !self.is_iterable(container) {
            return wrong(format!("argument of type '{}' is not iterable", container.type_name()));
        }
        if let Value::List(list) | Value::Tuple(list) = container {
            for item in &list.items {
                if item.equals(needle, &mut self.budget)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        for item in self.iterate(container)? {
            if item.equals(needle, &mut self.budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn is_iterable(&self, value: &Value) -> bool {
        matches!(
            value,
            Value::Undefined(_)
                | Value::Str(_)
                | Value::Markup(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::View(..)
                | Value::Range(_)
                | Value::Iterator(_)
                | Value::Loop(_)
        )
    }

    /// `of.name`
    pub fn attribute(&mut self, of: &Value, name: &Arc<str>) -> Result<Value> {
        self.budget.spend(1)?;
        if let Some(found) = self.own_attribute(of, name)? {
            return Ok(found);
        }
        Ok(match self.own_item(of, &Value::Str(name.clone()))? {
            Some(found) => found,
            None => missing(of, &Value::Str(name.clone())),
        })
    }

    /// `of[index]`
    pub fn item(&mut self, of: &Value, index: &Value) -> Result<Value> {
        self.budget.spend(1)?;
        if let Some(found) = self.own_item(of, index)? {
            return Ok(found);
        }
        if let Value::Str(name) | Value::Markup(name) = index
            && let Some(found) = self.own_attribute(of, name)?
        {
            return Ok(found);
        }
        Ok(missing(of, index))
    }

    /// The attribute that a value has in Python, if any.
    pub fn own_attribute(&mut self, of: &Value, name: &Arc<str>) -> Result<Option<Value>> {
        if let Value::Undefined(undefined) = of {
            return undefined.fail();
        }
        if let Value::Namespace(index) = of
            && let Some(value) = self.namespaces.get(*index).and_then(|names| names.get(name))
        {
            return Ok(Some(value.clone()));
        }
        if is_internal(name) || methods::changes(of, name) {
            let of = of.type_name();
            let message = format!("access to attribute {} of '{of}' object is unsafe.", text::repr(name));
            return Ok(Some(Value::Undefined(Arc::new(Undefined::Unsafe(message)))));
        }
        Ok(match of {
            Value::Loop(index) => self.loop_attribute(*index, name)?,
            Value::Macro(index) => match (self.macros.get(*index), &**name) {
                (Some(closure), "name") => Some(closure.of.name.clone().map_or(Value::None, Value::Str)),
                (Some(closure), "arguments") => {
                    let names = closure.of.parameters.iter().map(|(name, _)| Value::Str(name.clone())).collect();
                    Some(Value::tuple(names, &mut self.budget)?)
                }
                (Some(closure), "catch_kwargs") => Some(Value::Bool(closure.of.uses.kwargs)),
                (Some(closure), "catch_varargs") => Some(Value::Bool(closure.of.uses.varargs)),
                (Some(closure), "caller") => Some(Value::Bool(closure.of.uses.caller)),
                _ => None,
            },
            Value::Cycler(index) if &**name == "current" => {
                let cycler = self.cyclers.get(*index);
                cycler.and_then(|(values, at)| values.get(at.checked_rem(values.len())?).cloned())
            }
            Value::Tuple(list) if list.group && &**name == "grouper" => list.items.first().cloned(),
            Value::Tuple(list) if list.group && &**name == "list" => list.items.get(1).cloned(),
            _ if methods::exists(of, name) => Some(Value::Method(Arc::new((of.clone(), name.clone())))),
            _ => None,
        })
    }

    fn own_item(&mut self, of: &Value, index: &Value) -> Result<Option<Value>> {
        Ok(match of {
            Value::Undefined(undefined) => return undefined.fail(),
            Value::Dict(dict) => match index.clone().key() {
                Ok(key) => dict.map.get(&key).cloned(),
                Err(_) => None,
            },
            Value::List(list) | Value::Tuple(list) => {
                place(index, list.items.len()).and_then(|at| list.items.get(at)).cloned()
            }
            Value::Range(range) => place(index, range.len).and_then(|at| range.get(at)),
            Value::Str(text) | Value::Markup(text) => match index.as_int() {
                Some(at) => {
                    let distance = if at >= 0 { at } else { -at };
                    self.budget.scan(usize::try_from(distance).unwrap_or(usize::MAX).min(text.len()))?;
                    char_at(text, at).map(Value::str)
                }
                None => None,
            },
            _ => None,
        })
    }

    /// `of[start:stop:step]`
    pub fn slice_of(&mut self, of: &Value, [start, stop, step]: [Option<i128>; 3]) -> Result<Value> {
        let step = step.unwrap_or(1);
        if step == 0 {
            return wrong("slice step cannot be zero");
        }
        if let Value::Undefined(undefined) = of {
            return undefined.fail();
        }
        if !(of.as_str().is_some() || matches!(of, Value::List(_) | Value::Tuple(_) | Value::Range(_))) {
            return wrong(match of {
                Value::Dict(_) => "unhashable type: 'slice'".to_string(),
                _ => format!("'{}' object is not subscriptable", of.type_name()),
            });
        }
        let length = self.length(of)? as i128;
        // Python's clamping: negative bounds count from the end, and all are cut to what is there.
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clamp = |bound: i128| {
            let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
            bound.clamp(low, high)
        };
        let start = start.map_or(if step > 0 { low } else { high }, clamp);
        let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
        let span = if step > 0 { stop - start } else { start - stop }.max(0);
        let count =
            usize::try_from((span.saturating_add(step.saturating_abs() - 1)) / step.saturating_abs()).unwrap_or(0);
        self.budget.spend(count / 4 + 1)?;
        let at = |index: usize| usize::try_from(start + step * index as i128).unwrap_or(usize::MAX);
        match of {
            Value::List(list) | Value::Tuple(list) => {
                self.budget.values(count)?;
                let items = (0..count).filter_map(|index| list.items.get(at(index)).cloned()).collect();
                match of {
                    Value::List(_) => Value::list(items, &mut self.budget),
                    _ => Value::tuple(items, &mut self.budget),
                }
            }
            Value::Range(range) => {
                self.budget.values(count)?;
                let items: Vec<Value> = (0..count).filter_map(|index| range.get(at(index))).collect();
                Value::list(items, &mut self.budget)
            }
            _ => {
                let text = of.as_str().unwrap_or("");
                let start = usize::try_from(start).unwrap_or(0);
                if step == 1 {
                    self.budget.text(text.len())?;
                    return Ok(Value::str(text.chars().skip(start).take(count).collect::<String>()));
                }
                self.budget.values(text.len())?;
                let chars: Vec<char> = text.chars().collect();
                Ok(Value::str((0..count).filter_map(|index| chars.get(at(index))).collect::<String>()))
            }
        }
    }
}

/// What a missing attribute or item gives.
fn missing(of: &Value, name: &Value) -> Value {
    let of = match of {
        Value::None => "None".to_string(),
        other => format!("{} object", other.type_name()),
    };
    Value::Undefined(Arc::new(match (name, name.as_int()) {
        (Value::Str(name) | Value::Markup(name), _) => Undefined::Attribute(of, name.clone()),
        (_, Some(number)) => Undefined::Element(of, number.to_string()),
        _ => Undefined::Element(of, format!("of type {}", name.type_name())),
    }))
}

/// Attributes that every object of Python has, and that the sandbox gives to nobody.
fn is_internal(name: &str) -> bool {
    const COMMON: [&str; 24] = [
        "__class__",
        "__init__",
        "__new__",
        "__doc__",
        "__dir__",
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__hash__",
        "__repr__",
        "__str__",
        "__format__",
        "__reduce__",
        "__reduce_ex__",
        "__sizeof__",
        "__getattribute__",
        "__setattr__",
        "__delattr__",
        "__init_subclass__",
        "__subclasshook__",
        "__getstate__",
    ];
    name.starts_with("__") && COMMON.contains(&name)
}

/// The place that an index means in a sequence.
fn place(index: &Value, length: usize) -> Option<usize> {
    let index = index.as_int()?;
    let at = if index < 0 { index.checked_add(length as i128)? } else { index };
    usize::try_from(at).ok().filter(|at| *at < length)
}
