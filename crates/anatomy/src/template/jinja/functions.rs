//! Calls: the functions that every template has, and macros.

use std::sync::Arc;

use super::super::TemplateErrorKind;
use super::expression::Args;
use super::fault::{Result, fault, unsupported, wrong};
use super::methods;
use super::render::Renderer;
use super::value::{Dict, Key, Range, Value};

/// The longest range that Jinja's sandbox makes.
const MAX_RANGE: i128 = 100_000;

/// A function that every template has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
    /// The template itself, which knows nothing but its blocks.
    This,
}

impl Function {
    /// The function of a name.
    pub fn named(name: &str) -> Option<Function> {
        Some(match name {
            "range" => Function::Range,
            "dict" => Function::Dict,
            "namespace" => Function::Namespace,
            "cycler" => Function::Cycler,
            "joiner" => Function::Joiner,
            "lipsum" => Function::Lipsum,
            "raise_exception" => Function::RaiseException,
            "strftime_now" => Function::StrftimeNow,
            "self" => Function::This,
            _ => return None,
        })
    }
}

/// Whether a name is that of a function that every template has.
pub fn is_function(name: &str) -> bool {
    Function::named(name).is_some()
}

impl<'t> Renderer<'t> {
    /// Calls a value.
    pub fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        self.budget.spend(1)?;
        match callee {
            Value::Undefined(undefined) => undefined.fail(),
            Value::Function(function) => self.call_function(*function, args),
            Value::Method(method) => methods::call(self, &method.0, &method.1, args),
            Value::Macro(index) => {
                let spot = self.spot;
                let result = self.deeper(|renderer| renderer.call_macro(*index, args))?;
                self.spot = spot;
                Ok(result)
            }
            Value::Loop(index) => {
                let [over] = args.bind("loop", ["iterable"], 1)?;
                self.loop_again(*index, &over.unwrap_or(Value::None))
            }
            Value::Joiner(index) => {
                args.bind("a joiner", [], 0)?;
                let Some((separator, used)) = self.joiners.get_mut(*index) else { return Ok(Value::None) };
                let first = !std::mem::replace(used, true);
                Ok(if first { Value::str("") } else { Value::Str(separator.clone()) })
            }
            other => wrong(format!("'{}' object is not callable", other.type_name())),
        }
    }

    fn call_function(&mut self, function: Function, args: Args) -> Result<Value> {
        match function {
            Function::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = self.text(&message.unwrap_or(Value::None))?;
                fault(TemplateErrorKind::Raised, &*message)
            }
            Function::StrftimeNow => {
                let [pattern] = args.bind("strftime_now", ["format"], 1)?;
                let pattern = pattern.unwrap_or(Value::None);
                let Some(pattern) = pattern.as_str() else {
                    return wrong(format!("strftime_now takes a text, not '{}'", pattern.type_name()));
                };
                self.budget.text(pattern.len().saturating_mul(16))?;
                super::time::format(pattern, self.now).map(Value::str)
            }
            Function::Range => self.range(args),
            Function::Dict => {
                let dict = self.make_dict("dict", args)?;
                Ok(Value::Dict(Arc::new(dict)))
            }
            Function::Namespace => {
                let dict = self.make_dict("namespace", args)?;
                self.budget.values(4)?;
                self.namespaces.push(Default::default());
                let index = self.namespaces.len() - 1;
                for (Key(key), value) in dict.map {
                    let Some(name) = key.as_str() else {
                        return unsupported("a namespace with an attribute that is no text");
                    };
                    self.set_in_namespace(index, name.into(), value)?;
                }
                Ok(Value::Namespace(index))
            }
            Function::Cycler => {
                if args.positional.is_empty() || !args.keywords.is_empty() {
                    return wrong("a cycler needs items");
                }
                self.budget.values(args.positional.len())?;
                self.cyclers.push((args.positional, 0));
                Ok(Value::Cycler(self.cyclers.len() - 1))
            }
            Function::Joiner => {
                let [separator] = args.bind("joiner", ["sep"], 0)?;
                let separator = self.text(&separator.unwrap_or(Value::str(", ")))?;
                self.budget.values(1)?;
                self.joiners.push((separator, false));
                Ok(Value::Joiner(self.joiners.len() - 1))
            }
            Function::This => wrong("'TemplateReference' object is not callable"),
            Function::Lipsum => unsupported("lipsum writes other text each time"),
        }
    }

    fn range(&mut self, args: Args) -> Result<Value> {
        if !args.keywords.is_empty() || args.positional.is_empty() || args.positional.len() > 3 {
            return wrong("range takes one to three numbers");
        }
        let mut numbers = Vec::with_capacity(3);
        for value in &args.positional {
            match value {
                Value::Undefined(undefined) => return undefined.fail(),
                value => match value.as_int() {
                    Some(number) => numbers.push(number),
                    None => return wrong(format!("range takes whole numbers, not '{}'", value.type_name())),
                },
            }
        }
        let (start, stop, step) = match *numbers.as_slice() {
            [stop] => (0, stop, 1),
            [start, stop] => (start, stop, 1),
            [start, stop, step] => (start, stop, step),
            _ => (0, 0, 1),
        };
        if step == 0 {
            return wrong("range() arg 3 must not be zero");
        }
        let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) }.max(0);
        let size = step.saturating_abs();
        let count = span / size + i128::from(span % size != 0);
        match usize::try_from(count) {
            Ok(len) if count <= MAX_RANGE => Ok(Value::Range(Arc::new(Range { start, stop, step, len }))),
            _ => fault(
                TemplateErrorKind::Limit,
                format!("a range of {count} numbers; Jinja's sandbox makes none of more than {MAX_RANGE}"),
            ),
        }
    }

    /// `dict(...)`: from a mapping or pairs, and names.
    pub fn make_dict(&mut self, of: &str, args: Args) -> Result<Dict> {
        let mut dict = Dict::default();
        if args.positional.len() > 1 {
            return wrong(format!("{of} takes at most one argument without a name"));
        }
        self.budget.values(args.keywords.len())?;
        match args.positional.first() {
            None => {}
            Some(Value::Dict(from)) => {
                self.budget.values(from.map.len() * 2)?;
                for (key, value) in &from.map {
                    dict.insert(key.clone(), value.clone())?;
                }
            }
            Some(Value::Namespace(_)) => return wrong("'Namespace' object is not iterable"),
            Some(pairs) => {
                for pair in self.iterate(pairs)? {
                    let pair = self.iterate(&pair)?;
                    let [key, value] = pair.as_slice() else {
                        return wrong(format!("{of} is given an element that is no pair"));
                    };
                    self.budget.values(4)?;
                    dict.insert(key.clone().key()?, value.clone())?;
                }
            }
        }
        for (name, value) in args.keywords {
            dict.insert(Key(Value::Str(name)), value)?;
        }
        Ok(dict)
    }

    fn call_macro(&mut self, index: usize, args: Args) -> Result<Value> {
        let Some(closure) = self.macros.get(index).copied() else { return Ok(Value::None) };
        let of = closure.of;
        let name = of.name.as_deref().unwrap_or("caller");
        let Args { mut positional, mut keywords } = args;
        let rest = positional.split_off(positional.len().min(of.parameters.len()));
        let explicit_caller = of.parameters.iter().any(|(name, _)| &**name == "caller");
        self.budget.spend(of.parameters.len().saturating_mul(keywords.len() + 1))?;
        let mut bound = Vec::with_capacity(of.parameters.len());
        let mut given = positional.into_iter();
        for (parameter, default) in &of.parameters {
            let value = given.next().or_else(|| {
                let at = keywords.iter().position(|(name, _)| name == parameter)?;
                Some(keywords.remove(at).1)
            });
            bound.push((parameter, default, value));
        }
        let mut caller = None;
        if of.uses.caller && !explicit_caller {
            let at = keywords.iter().position(|(name, _)| &**name == "caller");
            caller = Some(at.map_or(Value::undefined("No caller defined"), |at| keywords.remove(at).1));
        }
        if let Some((unknown, _)) = keywords.first().filter(|_| !of.uses.kwargs) {
            return wrong(format!("macro '{name}' takes no keyword argument '{unknown}'"));
        }
        if !rest.is_empty() && !of.uses.varargs {
            return wrong(format!("macro '{name}' takes not more than {} arguments", of.parameters.len()));
        }
        let text = self.scoped(closure.scope, |renderer| {
            renderer.capture(|renderer| {
                if let Some(caller) = caller {
                    renderer.define(&"caller".into(), caller);
                }
                if of.uses.kwargs {
                    let kwargs = renderer.make_dict("kwargs", Args { positional: Vec::new(), keywords })?;
                    renderer.define(&"kwargs".into(), Value::Dict(Arc::new(kwargs)));
                }
                if of.uses.varargs {
                    let rest = Value::tuple(rest, &mut renderer.budget)?;
                    renderer.define(&"varargs".into(), rest);
                }
                for (parameter, default, value) in bound {
                    let value = match (value, default) {
                        (Some(value), _) => value,
                        (None, Some(default)) => renderer.eval(default)?,
                        (None, None) => Value::undefined(format!("parameter '{parameter}' was not provided")),
                    };
                    renderer.define(parameter, value);
                }
                renderer.block(&of.body).map(drop)
            })
        })?;
        Ok(Value::str(text))
    }
}
