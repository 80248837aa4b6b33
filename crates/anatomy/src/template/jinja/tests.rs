//! `is`: the tests of Jinja.

use super::ast::Comparison;
use super::expression::Args;
use super::fault::{Result, wrong};
use super::filters;
use super::render::Renderer;
use super::value::Value;

const NAMES: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

/// Whether there is such a test.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Renderer<'_> {
    /// Applies a test.
    pub fn test(&mut self, name: &str, value: Value, args: Args) -> Result<bool> {
        let comparison = match name {
            "==" | "eq" | "equalto" => Some(Comparison::Equal),
            "!=" | "ne" => Some(Comparison::NotEqual),
            ">" | "gt" | "greaterthan" => Some(Comparison::Greater),
            ">=" | "ge" => Some(Comparison::GreaterEqual),
            "<" | "lt" | "lessthan" => Some(Comparison::Less),
            "<=" | "le" => Some(Comparison::LessEqual),
            "in" => Some(Comparison::In),
            _ => None,
        };
        if let Some(comparison) = comparison {
            let [other] = args.bind(name, ["other"], 1)?;
            return self.compare(comparison, &value, &other.unwrap_or(Value::None));
        }
        if name == "sameas" {
            let [other] = args.bind(name, ["other"], 1)?;
            return Ok(same(&value, &other.unwrap_or(Value::None)));
        }
        if name == "divisibleby" {
            let [number] = args.bind(name, ["num"], 1)?;
            return self.remainder_is(value, number.unwrap_or(Value::None), 0);
        }
        args.bind(name, [], 0)?;
        Ok(match name {
            "odd" => self.remainder_is(value, Value::Int(2), 1)?,
            "even" => self.remainder_is(value, Value::Int(2), 0)?,
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.as_float().is_some(),
            "string" => value.as_str().is_some(),
            "escaped" => matches!(value, Value::Markup(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "iterable" => self.is_iterable(&value),
            "callable" => matches!(
                value,
                Value::Function(_)
                    | Value::Method(_)
                    | Value::Macro(_)
                    | Value::Joiner(_)
                    | Value::Loop(_)
                    // Undefined values have the method that fails.
                    | Value::Undefined(_)
            ),
            // What has a length and can be asked for an item.
            "sequence" => {
                value.as_str().is_some()
                    || matches!(
                        value,
                        Value::Undefined(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Range(_)
                    )
            }
            "lower" | "upper" => {
                let text = self.text(&value)?;
                self.budget.text(text.len())?;
                let (mut small, mut large) = (false, false);
                for c in text.chars() {
                    small |= c.is_lowercase();
                    large |= c.is_uppercase();
                }
                if name == "lower" { small && !large } else { large && !small }
            }
            "filter" => value.as_str().is_some_and(filters::exists),
            "test" => value.as_str().is_some_and(exists),
            _ => return wrong(format!("there is no test named '{name}'")),
        })
    }

    fn remainder_is(&mut self, value: Value, by: Value, wanted: i128) -> Result<bool> {
        let rest = self.binary(super::ast::Operator::Modulo, value, by)?;
        rest.equals(&Value::Int(wanted), &mut self.budget)
    }
}

/// Whether two values are one object. Python shares small integers and what a template writes, so equal scalars count.
fn same(a: &Value, b: &Value) -> bool {
    use std::sync::Arc;
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => Arc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Arc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) | (Value::Macro(a), Value::Macro(b)) => a == b,
        _ => false,
    }
}
