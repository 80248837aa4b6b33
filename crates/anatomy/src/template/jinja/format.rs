//! `'%s' % value` and `'{}'.format(value)`.

use std::sync::Arc;

use super::expression::Args;
use super::fault::{Result, unsupported, wrong};
use super::methods::pad;
use super::render::Renderer;
use super::text;
use super::value::{Value, whole};

/// How a value is to be laid out.
#[derive(Debug, Default, Clone)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    group: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// `pattern % values`
pub fn percent(renderer: &mut Renderer, pattern: &str, values: &Value) -> Result<String> {
    let mut list = match values {
        Value::Tuple(list) => list.items.clone(),
        other => vec![other.clone()],
    }
    .into_iter();
    let mut out = String::new();
    let mut named = false;
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        let mut value = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let Some(end) = closing(inner) else { return wrong("incomplete format key") };
            let Value::Dict(map) = values else { return wrong("format requires a mapping") };
            let key = inner.get(..end).unwrap_or("");
            let Some(found) = map.get(key) else { return wrong(format!("no key '{key}' to format")) };
            value = Some(found.clone());
            named = true;
            rest = inner.get(end + 1..).unwrap_or("");
        }
        let mut next = || match list.next() {
            Some(value) => Ok(value),
            None => wrong("not enough arguments for format string"),
        };
        let mut spec = Spec { align: Some('>'), ..Spec::default() };
        let mut zero = false;
        let mut left = false;
        while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => left = true,
                '+' => spec.sign = Some('+'),
                ' ' => spec.sign = spec.sign.or(Some(' ')),
                '#' => spec.alternate = true,
                _ => zero = true,
            }
            rest = rest.get(1..).unwrap_or("");
        }
        let mut number = |rest: &mut &str| -> Result<usize> {
            if let Some(after) = rest.strip_prefix('*') {
                *rest = after;
                return match next()?.as_int().map(usize::try_from) {
                    Some(Ok(number)) => Ok(number),
                    _ => wrong("* wants a whole number that is not negative"),
                };
            }
            leading_number(rest)
        };
        spec.width = number(&mut rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            spec.precision = Some(number(&mut rest)?);
        }
        rest = rest.trim_start_matches(['h', 'l', 'L']);
        let Some(kind) = rest.chars().next() else { return wrong("incomplete format") };
        rest = rest.get(kind.len_utf8()..).unwrap_or("");
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => next()?,
        };
        let numeric = !matches!(kind, 's' | 'r' | 'a' | 'c');
        if left {
            spec.align = Some('<');
        } else if zero && numeric {
            (spec.align, spec.fill) = (Some('='), Some('0'));
        }
        spec.kind = Some(kind);
        let text = match kind {
            's' => renderer.text(&value)?.to_string(),
            'r' => renderer.repr(&value)?.to_string(),
            'a' => ascii(&renderer.repr(&value)?),
            'c' => match (value.as_str(), value.as_int().map(|code| u32::try_from(code).ok().and_then(char::from_u32)))
            {
                (Some(text), _) if text.chars().count() == 1 => text.to_string(),
                (_, Some(Some(c))) => c.to_string(),
                _ => return wrong("%c requires int or char"),
            },
            'd' | 'i' | 'u' => {
                spec.kind = Some('d');
                let whole_part = match &value {
                    Value::Float(number) => whole(number.trunc()).map(Value::Int),
                    other => other.as_int().map(Value::Int),
                };
                let Some(number) = whole_part else { return number_wanted(kind, &value) };
                out.push_str(&self::number(renderer, &number, &spec)?);
                continue;
            }
            'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let whole_wanted = matches!(kind, 'x' | 'X' | 'o');
                let number =
                    if whole_wanted { value.as_int().map(Value::Int) } else { value.as_float().map(Value::Float) };
                let Some(number) = number else { return number_wanted(kind, &value) };
                out.push_str(&self::number(renderer, &number, &spec)?);
                continue;
            }
            other => return wrong(format!("unsupported format character '{other}'")),
        };
        let text = match spec.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        };
        let text = laid_out(renderer, "", &text, &spec)?;
        renderer.budget.text(out.len() + text.len())?;
        out.push_str(&text);
    }
    out.push_str(rest);
    renderer.budget.text(out.len())?;
    if !named && list.next().is_some() && !is_mapping(values) {
        return wrong("not all arguments converted during string formatting");
    }
    Ok(out)
}

/// What counts as a mapping, of which a format may use nothing at all: whatever can be subscripted.
fn is_mapping(values: &Value) -> bool {
    matches!(values, Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_))
}

fn number_wanted<T>(kind: char, value: &Value) -> Result<T> {
    if let Value::Undefined(undefined) = value {
        return undefined.fail();
    }
    wrong(format!("%{kind} format: a number is required, not {}", value.type_name()))
}

/// The end of a key in parentheses, which may have others in it.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1usize;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(at)
    })
}

/// Digits at the front, taken off.
fn leading_number(rest: &mut &str) -> Result<usize> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at_checked(digits).unwrap_or(("", rest));
    *rest = after;
    match number.parse() {
        Ok(number) => Ok(number),
        Err(_) if number.is_empty() => Ok(0),
        Err(_) => wrong("a width that is too large"),
    }
}

fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            _ if c.is_ascii() => out.push(c),
            code @ ..=0xff => out.push_str(&format!("\\x{code:02x}")),
            code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}

/// How the fields of a pattern are numbered: by themselves or by hand.
#[derive(Default)]
struct Numbering {
    next: usize,
    manual: bool,
}

/// `pattern.format(...)`
pub fn braces(renderer: &mut Renderer, pattern: &str, args: &Args) -> Result<String> {
    fields(renderer, pattern, args, &mut Numbering::default(), 3)
}

fn fields(renderer: &mut Renderer, pattern: &str, args: &Args, auto: &mut Numbering, levels: u8) -> Result<String> {
    if levels == 0 {
        return wrong("Max string recursion exceeded");
    }
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(rest.get(..at).unwrap_or(""));
        let (brace, after) = rest.get(at..).and_then(|rest| rest.split_at_checked(1)).unwrap_or(("", ""));
        rest = after;
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        if brace == "}" {
            return wrong("Single '}' encountered in format string");
        }
        let mut open = 1usize;
        let end = rest.char_indices().find_map(|(at, c)| {
            match c {
                '{' => open += 1,
                '}' => open -= 1,
                _ => {}
            }
            (open == 0).then_some(at)
        });
        let Some(end) = end else { return wrong("expected '}' before end of string") };
        let field = rest.get(..end).unwrap_or("");
        rest = rest.get(end + 1..).unwrap_or("");
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = match name.split_once('!') {
            Some((name, conversion)) => (name, Some(conversion)),
            None => (name, None),
        };
        let value = field_value(renderer, name, args, auto)?;
        let spec = fields(renderer, spec, args, auto, levels - 1)?;
        let value = match conversion {
            None => value,
            Some("s") => Value::Str(renderer.text(&value)?),
            Some("r") => Value::Str(renderer.repr(&value)?),
            Some("a") => Value::str(ascii(&renderer.repr(&value)?)),
            Some(other) => return wrong(format!("Unknown conversion specifier '{other}'")),
        };
        let text = formatted(renderer, &value, &spec)?;
        renderer.budget.text(out.len() + text.len())?;
        out.push_str(&text);
    }
    out.push_str(rest);
    renderer.budget.text(out.len())?;
    Ok(out)
}

fn field_value(renderer: &mut Renderer, name: &str, args: &Args, auto: &mut Numbering) -> Result<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut rest) = name.split_at_checked(end).unwrap_or((name, ""));
    let index = if first.is_empty() {
        auto.next += 1;
        Some(auto.next - 1)
    } else {
        let index = first.parse::<usize>().ok();
        auto.manual |= index.is_some();
        index
    };
    if auto.manual && auto.next > 0 {
        return wrong("fields are numbered by hand and by themselves at once");
    }
    let found = match index {
        Some(index) => args.positional.get(index),
        None => args.keywords.iter().find(|(known, _)| **known == *first).map(|(_, value)| value),
    };
    let Some(mut value) = found.cloned() else {
        return wrong(format!("no argument '{first}' to format"));
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name: Arc<str> = after.get(..end).unwrap_or("").into();
            value = renderer.attribute(&value, &name)?;
            rest = after.get(end..).unwrap_or("");
        } else {
            let inner = rest.strip_prefix('[').unwrap_or(rest);
            let Some(end) = inner.find(']') else { return wrong("Missing ']' in format string") };
            let key = inner.get(..end).unwrap_or("");
            let index = key.parse::<i128>().map_or_else(|_| Value::str(key), Value::Int);
            value = renderer.item(&value, &index)?;
            rest = inner.get(end + 1..).unwrap_or("");
        }
    }
    Ok(value)
}

/// `format(value, spec)`
fn formatted(renderer: &mut Renderer, value: &Value, spec: &str) -> Result<String> {
    if spec.is_empty() {
        return Ok(renderer.text(value)?.to_string());
    }
    let spec = parse_spec(spec)?;
    match value {
        Value::Str(text) | Value::Markup(text) => {
            if !matches!(spec.kind, None | Some('s')) || spec.align == Some('=') || spec.sign.is_some() {
                return wrong("a format that is none for a text");
            }
            let cut: String = match spec.precision {
                Some(most) => text.chars().take(most).collect(),
                None => text.to_string(),
            };
            let spec = Spec { align: spec.align.or(Some('<')), ..spec };
            laid_out(renderer, "", &cut, &spec)
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let number = match value {
                Value::Bool(truth) => Value::Int(i128::from(*truth)),
                other => other.clone(),
            };
            number_by_spec(renderer, number, spec)
        }
        other => wrong(format!("unsupported format string passed to {}.__format__", other.type_name())),
    }
}

fn number_by_spec(renderer: &mut Renderer, value: Value, mut spec: Spec) -> Result<String> {
    spec.align = spec.align.or(Some('>'));
    let wants_float = matches!(spec.kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'));
    match (&value, spec.kind) {
        (Value::Int(_), None) => spec.kind = Some('d'),
        (Value::Int(_), Some('d' | 'x' | 'X' | 'o' | 'b')) => {}
        (Value::Int(code), Some('c')) => {
            let Some(c) = u32::try_from(*code).ok().and_then(char::from_u32) else {
                return wrong("%c arg not in range");
            };
            return laid_out(renderer, "", &c.to_string(), &spec);
        }
        (_, _) if wants_float => {}
        (Value::Float(_), None) => {}
        (_, kind) => {
            let (kind, of) = (kind.unwrap_or(' '), value.type_name());
            return wrong(format!("Unknown format code '{kind}' for object of type '{of}'"));
        }
    }
    let value = if wants_float { Value::Float(value.as_float().unwrap_or(0.0)) } else { value };
    number(renderer, &value, &spec)
}

fn parse_spec(text: &str) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut rest = text;
    let mut chars = rest.chars();
    let (first, second) = (chars.next(), chars.next());
    let is_align = |c: Option<char>| c.filter(|c| "<>=^".contains(*c));
    if let (Some(fill), Some(align)) = (first, is_align(second)) {
        (spec.fill, spec.align) = (Some(fill), Some(align));
        rest = rest.get(fill.len_utf8() + 1..).unwrap_or("");
    } else if let Some(align) = is_align(first) {
        spec.align = Some(align);
        rest = rest.get(1..).unwrap_or("");
    }
    let take = |rest: &mut &str, set: &str| {
        let found = rest.chars().next().filter(|c| set.contains(*c))?;
        *rest = rest.get(1..).unwrap_or("");
        Some(found)
    };
    spec.sign = take(&mut rest, "+- ").filter(|sign| *sign != '-');
    spec.alternate = take(&mut rest, "#").is_some();
    if take(&mut rest, "0").is_some() && spec.align.is_none() {
        (spec.fill, spec.align) = (Some('0'), Some('='));
    }
    spec.width = leading_number(&mut rest)?;
    spec.group = take(&mut rest, ",_");
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(leading_number(&mut rest)?);
    }
    spec.kind = take(&mut rest, "sdxXobceEfFgG%");
    if !rest.is_empty() {
        return wrong(format!("Invalid format specifier '{text}'"));
    }
    Ok(spec)
}

/// A number by its kind, with sign, groups and padding.
fn number(renderer: &mut Renderer, value: &Value, spec: &Spec) -> Result<String> {
    let precision = spec.precision.unwrap_or(6);
    renderer.budget.text(precision.saturating_add(400))?;
    let (negative, digits) = match value {
        Value::Int(number) => {
            let size = number.unsigned_abs();
            let digits = match spec.kind {
                Some('x') => format!("{size:x}"),
                Some('X') => format!("{size:X}"),
                Some('o') => format!("{size:o}"),
                Some('b') => format!("{size:b}"),
                _ => size.to_string(),
            };
            // `%.3d` fills with zeros.
            let fill = spec.precision.unwrap_or(0).saturating_sub(digits.len());
            (*number < 0, "0".repeat(fill) + &digits)
        }
        other => {
            let number = other.as_float().unwrap_or(0.0);
            (number.is_sign_negative() && !number.is_nan(), float_digits(number.abs(), precision, spec)?)
        }
    };
    let digits = match spec.group {
        Some(separator) => {
            grouped(&digits, separator, if matches!(spec.kind, Some('x' | 'X' | 'o' | 'b')) { 4 } else { 3 })
        }
        None => digits,
    };
    let sign = if negative { "-".to_string() } else { spec.sign.map(String::from).unwrap_or_default() };
    let prefix = match spec.kind {
        Some(kind @ ('x' | 'X' | 'o' | 'b')) if spec.alternate => format!("{sign}0{kind}"),
        _ => sign,
    };
    if spec.fill == Some('0')
        && spec.align == Some('=')
        && spec.group.is_some()
        && prefix.len() + digits.len() < spec.width
    {
        return unsupported("zeros before a number with separators are not known to this renderer");
    }
    laid_out(renderer, &prefix, &digits, spec)
}

fn float_digits(number: f64, precision: usize, spec: &Spec) -> Result<String> {
    if !number.is_finite() {
        let text = text::float(number);
        return Ok(if spec.kind.is_some_and(char::is_uppercase) { text.to_uppercase() } else { text });
    }
    Ok(match spec.kind {
        Some('f' | 'F') => format!("{number:.precision$}"),
        Some('%') => format!("{:.precision$}%", number * 100.0),
        Some('e') => scientific(&format!("{number:.precision$e}")),
        Some('E') => scientific(&format!("{number:.precision$e}")).to_uppercase(),
        Some(kind @ ('g' | 'G')) => {
            let text = general(number, precision.max(1), spec.alternate);
            if kind == 'G' { text.to_uppercase() } else { text }
        }
        _ => match spec.precision {
            None => text::float(number),
            Some(precision) => {
                let text = general(number, precision.max(1), false);
                if text.contains(['.', 'e']) { text } else { text + ".0" }
            }
        },
    })
}

/// Rust's exponent (`1e5`) as C's (`1e+05`).
fn scientific(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%g`: so many significant digits, without zeros at the end.
fn general(number: f64, significant: usize, keep_zeros: bool) -> String {
    let digits = significant - 1;
    let rounded = format!("{number:.digits$e}");
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') && !keep_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if exponent < -4 || usize::try_from(exponent).is_ok_and(|exponent| exponent >= significant) {
        return scientific(&format!("{}e{exponent}", trimmed(mantissa)));
    }
    let decimals = usize::try_from((digits as i128 - i128::from(exponent)).max(0)).unwrap_or(0);
    trimmed(&format!("{number:.decimals$}"))
}

/// Digits with a separator between groups.
fn grouped(digits: &str, separator: char, size: usize) -> String {
    let end = digits.find(['.', 'e', 'E', '%']).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at_checked(end).unwrap_or((digits, ""));
    let mut out = String::new();
    for (index, c) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(size) {
            out.push(separator);
        }
        out.push(c);
    }
    out + rest
}

/// Fills up to the width.
fn laid_out(renderer: &mut Renderer, prefix: &str, text: &str, spec: &Spec) -> Result<String> {
    let fill = spec.fill.unwrap_or(' ');
    let width = spec.width as i128;
    match spec.align {
        Some('=') => {
            let width = width - prefix.len() as i128;
            Ok(prefix.to_string() + &pad(renderer, text, "rjust", width, fill)?)
        }
        Some('>') => pad(renderer, &format!("{prefix}{text}"), "rjust", width, fill),
        Some('^') => {
            let both = format!("{prefix}{text}");
            let missing = spec.width.saturating_sub(both.chars().count());
            let left = both.chars().count() + missing / 2;
            let half = pad(renderer, &both, "rjust", left as i128, fill)?;
            pad(renderer, &half, "ljust", width, fill)
        }
        _ => pad(renderer, &format!("{prefix}{text}"), "ljust", width, fill),
    }
}
