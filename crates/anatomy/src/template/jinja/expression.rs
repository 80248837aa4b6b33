//! Expressions: what a template computes.

use std::sync::Arc;

use super::ast::{Arguments, Comparison, Expr, ExprKind, FilterCall, Operator};
use super::fault::{Result, wrong};
use super::filters;
use super::render::Renderer;
use super::value::{Dict, Value};

/// The arguments of a call, evaluated.
#[derive(Debug, Default)]
pub struct Args {
    pub positional: Vec<Value>,
    pub keywords: Vec<(Arc<str>, Value)>,
}

impl Args {
    /// Assigns the arguments to parameters, of which the first few are needed.
    pub fn bind<const N: usize>(self, of: &str, names: [&str; N], needed: usize) -> Result<[Option<Value>; N]> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            return wrong(format!("{of} takes at most {N} arguments, and {} are given", self.positional.len()));
        }
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.keywords {
            let slot = names.iter().position(|known| *known == &*name).and_then(|at| bound.get_mut(at));
            match slot {
                None => return wrong(format!("{of} takes no argument named '{name}'")),
                Some(Some(_)) => return wrong(format!("{of} is given '{name}' twice")),
                Some(slot) => *slot = Some(value),
            }
        }
        match bound.iter().take(needed).position(Option::is_none) {
            Some(missing) => wrong(format!("{of} misses its argument '{}'", names.get(missing).unwrap_or(&""))),
            None => Ok(bound),
        }
    }
}

impl<'t> Renderer<'t> {
    /// The value of an expression.
    pub fn eval(&mut self, expr: &'t Expr) -> Result<Value> {
        self.budget.spend(1)?;
        match &expr.kind {
            ExprKind::Const(value) => Ok(value.clone()),
            ExprKind::Name(name) => self.lookup(name),
            _ => self.deeper(|renderer| renderer.eval_deeper(expr)),
        }
    }

    fn eval_deeper(&mut self, expr: &'t Expr) -> Result<Value> {
        match &expr.kind {
            ExprKind::Const(value) => Ok(value.clone()),
            ExprKind::Name(name) => self.lookup(name),
            ExprKind::Tuple(items) => {
                let items = self.eval_all(items)?;
                Value::tuple(items, &mut self.budget)
            }
            ExprKind::List(items) => {
                let items = self.eval_all(items)?;
                Value::list(items, &mut self.budget)
            }
            ExprKind::Dict(pairs) => self.dict(pairs),
            ExprKind::Condition { test, then, otherwise } => {
                if self.truth(test)? {
                    return self.eval(then);
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::undefined("an if within an expression is false and has no else")),
                }
            }
            ExprKind::And(left, right) => {
                let left = self.eval(left)?;
                if self.is_true(&left) { self.eval(right) } else { Ok(left) }
            }
            ExprKind::Or(left, right) => {
                let left = self.eval(left)?;
                if self.is_true(&left) { Ok(left) } else { self.eval(right) }
            }
            ExprKind::Not(of) => Ok(Value::Bool(!self.truth(of)?)),
            ExprKind::Compare(first, rest) => self.comparison(expr.spot, first, rest),
            ExprKind::Binary(operator, left, right) => {
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                self.spot = expr.spot;
                self.binary(*operator, left, right)
            }
            ExprKind::Concat(parts) => self.concat(parts),
            ExprKind::Negative(of) | ExprKind::Positive(of) => {
                let negative = matches!(expr.kind, ExprKind::Negative(_));
                let value = self.eval(of)?;
                self.sign(negative, &value)
            }
            ExprKind::Attribute(of, name) => {
                let of = self.eval(of)?;
                self.spot = expr.spot;
                self.attribute(&of, name)
            }
            ExprKind::Item(of, index) => {
                let of = self.eval(of)?;
                let index = self.eval(index)?;
                self.spot = expr.spot;
                self.item(&of, &index)
            }
            ExprKind::Slice(of, parts) => self.slice(of, parts),
            ExprKind::Call(..) => self.call_with(expr, None),
            ExprKind::Filter(of, call) => {
                let value = self.eval(of)?;
                self.filter(value, call)
            }
            ExprKind::Test(of, call) => {
                let value = self.eval(of)?;
                let args = self.arguments(&call.arguments)?;
                self.spot = call.spot;
                self.test(&call.name, value, args).map(Value::Bool)
            }
        }
    }

    fn eval_all(&mut self, items: &'t [Expr]) -> Result<Vec<Value>> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn dict(&mut self, pairs: &'t [(Expr, Expr)]) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            let key = self.eval(key)?.key()?;
            let value = self.eval(value)?;
            self.budget.values(4)?;
            dict.insert(key, value)?;
        }
        Ok(Value::Dict(Arc::new(dict)))
    }

    fn comparison(&mut self, spot: u32, first: &'t Expr, rest: &'t [(Comparison, Expr)]) -> Result<Value> {
        let mut left = self.eval(first)?;
        for (comparison, right) in rest {
            let right = self.eval(right)?;
            self.spot = spot;
            if !self.compare(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// One comparison of two values.
    pub fn compare(&mut self, comparison: Comparison, left: &Value, right: &Value) -> Result<bool> {
        let order = |renderer: &mut Self| left.compare(right, comparison.sign(), &mut renderer.budget);
        Ok(match comparison {
            Comparison::Equal => left.equals(right, &mut self.budget)?,
            Comparison::NotEqual => !left.equals(right, &mut self.budget)?,
            Comparison::Less => order(self)?.is_some_and(std::cmp::Ordering::is_lt),
            Comparison::LessEqual => order(self)?.is_some_and(std::cmp::Ordering::is_le),
            Comparison::Greater => order(self)?.is_some_and(std::cmp::Ordering::is_gt),
            Comparison::GreaterEqual => order(self)?.is_some_and(std::cmp::Ordering::is_ge),
            Comparison::In => self.contains(right, left)?,
            Comparison::NotIn => !self.contains(right, left)?,
        })
    }

    /// `~`: everything as text.
    fn concat(&mut self, parts: &'t [Expr]) -> Result<Value> {
        let mut joined = String::new();
        for value in self.eval_all(parts)? {
            let part = self.text(&value)?;
            self.budget.text(joined.len() + part.len())?;
            joined.push_str(&part);
        }
        Ok(Value::str(joined))
    }

    fn sign(&mut self, negative: bool, value: &Value) -> Result<Value> {
        match value {
            Value::Undefined(undefined) => undefined.fail(),
            Value::Float(number) => Ok(Value::Float(if negative { -number } else { *number })),
            _ => match value.as_int() {
                Some(number) if negative => self.binary(Operator::Subtract, Value::Int(0), Value::Int(number)),
                Some(number) => Ok(Value::Int(number)),
                None => wrong(format!("bad operand type for a sign: '{}'", value.type_name())),
            },
        }
    }

    fn slice(&mut self, slice: &'t Expr, parts: &'t [Option<Box<Expr>>; 3]) -> Result<Value> {
        let of = self.eval(slice)?;
        let mut bounds = [None, None, None];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            if let Some(part) = part {
                *bound = match self.eval(part)? {
                    Value::None => None,
                    value => match value.as_int() {
                        Some(number) => Some(number),
                        None => return wrong("slice indices must be integers or None"),
                    },
                };
            }
        }
        // Jinja works constants out beforehand, as it looks up items: what has no parts gives nothing.
        let constant = matches!(slice.kind, ExprKind::Const(_) | ExprKind::Dict(_));
        match self.slice_of(&of, bounds) {
            Err(_) if constant => Ok(Value::undefined(format!("'{}' object is not subscriptable", of.type_name()))),
            result => result,
        }
    }

    /// Evaluates the arguments of a call.
    pub fn arguments(&mut self, arguments: &'t Arguments) -> Result<Args> {
        let mut args = Args { positional: self.eval_all(&arguments.positional)?, keywords: Vec::new() };
        for (name, value) in &arguments.keywords {
            let value = self.eval(value)?;
            self.budget.spend(args.keywords.len())?;
            if args.keywords.iter().any(|(known, _)| known == name) {
                return wrong(format!("the argument '{name}' is given twice"));
            }
            args.keywords.push((name.clone(), value));
        }
        if let Some(rest) = &arguments.rest {
            let rest = self.eval(rest)?;
            args.positional.extend(self.iterate(&rest)?);
        }
        if let Some(rest) = &arguments.keyword_rest {
            let Value::Dict(dict) = self.eval(rest)? else {
                return wrong("what follows ** must be a mapping");
            };
            self.budget.values(dict.map.len().saturating_mul(arguments.keywords.len() + 1))?;
            for (key, value) in &dict.map {
                let Some(name) = key.0.as_str() else { return wrong("names of arguments must be texts") };
                if arguments.keywords.iter().any(|(known, _)| **known == *name) {
                    return wrong(format!("the argument '{name}' is given twice"));
                }
                args.keywords.push((name.into(), value.clone()));
            }
        }
        Ok(args)
    }

    /// Evaluates a call; a call block hands its body over as `caller`.
    pub fn call_with(&mut self, call: &'t Expr, caller: Option<Value>) -> Result<Value> {
        let ExprKind::Call(callee, arguments) = &call.kind else { return self.eval(call) };
        let callee = self.eval(callee)?;
        let mut args = self.arguments(arguments)?;
        args.keywords.extend(caller.map(|caller| ("caller".into(), caller)));
        self.spot = call.spot;
        self.call(&callee, args)
    }

    /// Applies a filter with its arguments.
    pub fn filter(&mut self, value: Value, call: &'t FilterCall) -> Result<Value> {
        let args = self.arguments(&call.arguments)?;
        self.spot = call.spot;
        filters::apply(self, &call.name, value, args)
    }
}
