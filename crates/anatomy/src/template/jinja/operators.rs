//! Arithmetic as Python has it.

use super::ast::Operator;
use super::fault::{Result, unsupported, wrong};
use super::format;
use super::render::Renderer;
use super::text;
use super::value::Value;

impl Renderer<'_> {
    /// An operator between two values.
    pub fn binary(&mut self, operator: Operator, left: Value, right: Value) -> Result<Value> {
        // A text formats whatever it is given, undefined values too.
        if operator == Operator::Modulo
            && let Some(pattern) = left.as_str()
        {
            let pattern = pattern.to_string();
            return format::percent(self, &pattern, &right).map(Value::str);
        }
        if let Value::Undefined(undefined) = &left {
            return undefined.fail();
        }
        if let Value::Undefined(undefined) = &right {
            return undefined.fail();
        }
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
            return integers(operator, a, b);
        }
        if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
            return floats(operator, a, b);
        }
        match (operator, &left, &right) {
            (Operator::Add, Value::List(a), Value::List(b)) => {
                self.budget.values(a.items.len() + b.items.len())?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                Value::list(items, &mut self.budget)
            }
            (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => {
                self.budget.values(a.items.len() + b.items.len())?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                Value::tuple(items, &mut self.budget)
            }
            (Operator::Add, ..) if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) => {
                self.budget.text(a.len() + b.len())?;
                Ok(match (&left, &right) {
                    (Value::Markup(_), Value::Markup(_)) => Value::Markup([a, b].concat().into()),
                    (Value::Markup(_), _) => Value::Markup([a, &text::escape(b)].concat().into()),
                    (_, Value::Markup(_)) => Value::Markup([&text::escape(a), b].concat().into()),
                    _ => Value::str([a, b].concat()),
                })
            }
            (Operator::Multiply, of, times) | (Operator::Multiply, times, of)
                if times.as_int().is_some()
                    && (of.as_str().is_some() || matches!(of, Value::List(_) | Value::Tuple(_))) =>
            {
                let times = usize::try_from(times.as_int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
                self.repeat(of, times)
            }
            _ => {
                let (sign, left, right) = (operator.sign(), left.type_name(), right.type_name());
                wrong(format!("unsupported operand types for {sign}: '{left}' and '{right}'"))
            }
        }
    }

    fn repeat(&mut self, of: &Value, times: usize) -> Result<Value> {
        if let Some(text) = of.as_str() {
            self.budget.text(text.len().saturating_mul(times))?;
            return Ok(Value::str(text.repeat(times)));
        }
        let (Value::List(list) | Value::Tuple(list)) = of else { return Ok(Value::None) };
        let count = list.items.len().saturating_mul(times);
        self.budget.values(count)?;
        let items = list.items.iter().cycle().take(count).cloned().collect();
        match of {
            Value::List(_) => Value::list(items, &mut self.budget),
            _ => Value::tuple(items, &mut self.budget),
        }
    }
}

fn integers(operator: Operator, a: i128, b: i128) -> Result<Value> {
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => return floats_of(a, b),
        Operator::FloorDivide | Operator::Modulo if b == 0 => return wrong("integer division or modulo by zero"),
        // Python rounds down, and the remainder has the divisor's sign.
        Operator::FloorDivide => a.checked_div_euclid(b).map(|q| if b < 0 && a.rem_euclid(b) != 0 { q - 1 } else { q }),
        Operator::Modulo => a.checked_rem_euclid(b).map(|r| if b < 0 && r != 0 { r + b } else { r }),
        Operator::Power if b < 0 => return floats(operator, to_float(a), to_float(b)),
        Operator::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    match result {
        Some(number) => Ok(Value::Int(number)),
        None => unsupported("an integer grows larger than this renderer counts"),
    }
}

fn floats_of(a: i128, b: i128) -> Result<Value> {
    floats(Operator::Divide, to_float(a), to_float(b))
}

#[allow(clippy::cast_precision_loss)] // as Python does
fn to_float(number: i128) -> f64 {
    number as f64
}

fn floats(operator: Operator, a: f64, b: f64) -> Result<Value> {
    let divides = matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo);
    if divides && b == 0.0 {
        return wrong("division by zero");
    }
    let modulo = |a: f64, b: f64| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
            rest + b
        } else {
            rest.abs().copysign(if rest == 0.0 { b } else { rest })
        }
    };
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Modulo => modulo(a, b),
        Operator::FloorDivide => ((a - modulo(a, b)) / b).round(),
        Operator::Power => {
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return wrong("the result is too large");
            }
            if power.is_nan() && !a.is_nan() && !b.is_nan() {
                return unsupported("complex numbers are not known to this renderer");
            }
            power
        }
    }))
}
