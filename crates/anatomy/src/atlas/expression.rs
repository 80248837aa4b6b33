//! The expressions of the atlas: minijinja's, over names that are looked up when they are needed.

use std::sync::{Arc, LazyLock};

use minijinja::{Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};

use super::family::Family;
use super::scope::Scope;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_function("divide", divide);
    environment.add_function("ceil_div", |a: i64, b: i64| {
        positive(b).and_then(|b| a.checked_add(b - 1).ok_or_else(overflow).map(|sum| sum.div_euclid(b)))
    });
    environment.add_function("round_up", |a: i64, b: i64| {
        let up =
            positive(b).and_then(|b| a.checked_add(b - 1).ok_or_else(overflow).map(|sum| sum.div_euclid(b) * b))?;
        Ok::<i64, Error>(up)
    });
    environment.add_function("least", |a: i64, b: i64| a.min(b));
    environment.add_function("most", |a: i64, b: i64| a.max(b));
    environment.add_function("primes_sum", primes_sum);
    environment.add_function("counts_before", counts_before);
    environment
});

/// `a / b`, which must be whole.
fn divide(a: i64, b: i64) -> Result<i64, Error> {
    let b = positive(b)?;
    match a % b {
        0 => Ok(a / b),
        _ => Err(Error::new(ErrorKind::InvalidOperation, format!("{a} does not divide by {b}"))),
    }
}

fn positive(number: i64) -> Result<i64, Error> {
    match number {
        1.. => Ok(number),
        _ => Err(Error::new(ErrorKind::InvalidOperation, format!("cannot divide by {number}"))),
    }
}

fn overflow() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a number is too large")
}

/// The sum of `count` primes that follow `start`, after the first `skip` of them.
fn primes_sum(start: i64, skip: i64, count: i64) -> Result<i64, Error> {
    const MOST: i64 = 512;
    let last = skip.checked_add(count).filter(|last| skip >= 0 && count >= 0 && *last <= MOST);
    let (Some(last), Ok(start)) = (last, u32::try_from(start)) else { return Err(overflow()) };
    let primes = (u64::from(start)..).skip(1).filter(|number| is_prime(*number));
    let taken = primes.zip(0..last).filter(|(_, number)| *number >= skip);
    i64::try_from(taken.map(|(prime, _)| prime).sum::<u64>()).map_err(|_| overflow())
}

/// For each item of a list how many before it are `wanted`: a formula that looks back at all layers for each layer would
/// take the square of their number.
fn counts_before(list: &Value, wanted: &Value) -> Result<Value, Error> {
    let mut count = 0usize;
    let counts = list.try_iter()?.map(|item| {
        let before = count;
        count += usize::from(item == *wanted);
        before
    });
    Ok(counts.collect())
}

/// By Miller and Rabin with the bases that are exact below 3.4e12; `number` is a little above 2^32 at most.
fn is_prime(number: u64) -> bool {
    const BASES: [u64; 5] = [2, 3, 5, 7, 11];
    if number < 2 || BASES.iter().any(|base| number.is_multiple_of(*base)) {
        return BASES.contains(&number);
    }
    let power = |base: u64, mut exponent: u64| {
        let (mut result, mut square) = (1u128, u128::from(base));
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * square % u128::from(number);
            }
            square = square * square % u128::from(number);
            exponent >>= 1;
        }
        result
    };
    let twos = (number - 1).trailing_zeros();
    BASES.iter().all(|base| {
        let mut witness = power(*base, (number - 1) >> twos);
        let mut passes = witness == 1;
        for _ in 0..twos {
            passes |= witness == u128::from(number - 1);
            witness = witness * witness % u128::from(number);
        }
        passes
    })
}

/// A compiled expression.
#[derive(Debug)]
pub(super) enum Code {
    /// A number.
    Constant(i64),
    /// One name.
    Name(Box<str>),
    /// Anything else.
    Formula(Box<Expression<'static, 'static>>),
}

impl Code {
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Ok(Code::Constant(number));
        }
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if plain && starts && !matches!(text, "true" | "false" | "none" | "True" | "False" | "None") {
            return Ok(Code::Name(text.into()));
        }
        let expression = ENVIRONMENT.compile_expression_owned(text.to_string())?;
        Ok(Code::Formula(Box::new(expression)))
    }

    /// Its value in a scope.
    pub(super) fn value(&self, scope: &Arc<Scope>) -> Result<Value, Error> {
        match self {
            Code::Constant(number) => Ok(Value::from(*number)),
            Code::Name(name) => scope
                .value(name)?
                .ok_or_else(|| Error::new(ErrorKind::UndefinedError, format!("`{name}` is not defined"))),
            Code::Formula(expression) => expression.eval(Value::from_dyn_object(Arc::clone(scope))),
        }
    }
}

/// What went wrong with an expression of a family, with where it stands.
pub(super) fn failed(family: &Family, place: &str, text: &str, error: &Error) -> crate::Error {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    // A key that is wrong in itself says so; a formula needs its place and its text.
    let itself = detail.starts_with(text) && !detail.contains("depends on itself");
    let message = if itself { detail } else { format!("{place} ({text}): {detail}") };
    crate::Error::malformed(message).help(format!("correct the configuration; the rule is in family {}", family.name))
}

/// An expression of a family; `place` says where it stands.
pub(super) fn compile(family: &Family, place: &str, text: &str) -> crate::Result<Code> {
    Code::new(text).map_err(|error| failed(family, place, text, &error))
}
