//! Filters: Jinja's own, with the `tojson` of transformers.

use std::sync::Arc;

use super::expression::Args;
use super::fault::{Result, unsupported, wrong};
use super::render::Renderer;
use super::value::{Dict, Value};
use super::{format, json, methods, select, text};

const NAMES: [&str; 55] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
    "",
];

/// Whether there is such a filter.
pub fn exists(name: &str) -> bool {
    !name.is_empty() && NAMES.contains(&name)
}

/// Applies a filter.
pub fn apply(renderer: &mut Renderer, name: &str, value: Value, args: Args) -> Result<Value> {
    renderer.budget.spend(1)?;
    match name {
        "default" | "d" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"], 0)?;
            let boolean = boolean.is_some_and(|boolean| renderer.is_true(&boolean));
            let replace = value.is_undefined() || (boolean && !renderer.is_true(&value));
            Ok(if replace { default.unwrap_or(Value::str("")) } else { value })
        }
        "tojson" => json::dump(renderer, &value, args),
        "length" | "count" => {
            args.bind(name, [], 0)?;
            renderer.length(&value).map(Value::int)
        }
        "list" => {
            args.bind(name, [], 0)?;
            let items = renderer.iterate(&value)?;
            Value::list(items, &mut renderer.budget)
        }
        "string" => {
            args.bind(name, [], 0)?;
            match value {
                Value::Markup(_) => Ok(value),
                value => renderer.text(&value).map(Value::Str),
            }
        }
        "safe" => Ok(Value::Markup(renderer.text(&value)?)),
        "escape" | "e" => match value {
            Value::Markup(_) => Ok(value),
            value => escaped(renderer, &value).map(|text| Value::Markup(text.into())),
        },
        "forceescape" => escaped(renderer, &value).map(|text| Value::Markup(text.into())),
        "upper" | "lower" | "capitalize" | "title" | "trim" | "center" | "replace" | "indent" | "truncate"
        | "wordcount" | "striptags" | "urlencode" | "format" => of_text(renderer, name, &value, args),
        "int" | "float" | "abs" | "round" | "filesizeformat" | "sum" => of_number(renderer, name, value, args),
        "items" => match &value {
            Value::Undefined(_) => Ok(iterator(renderer, Vec::new())),
            Value::Dict(dict) => {
                let items = renderer.iterate(&Value::View(super::value::View::Items, dict.clone()))?;
                Ok(iterator(renderer, items))
            }
            _ => wrong("Can only get item pairs from a mapping."),
        },
        "attr" => {
            let [attribute] = args.bind(name, ["name"], 1)?;
            let attribute = attribute.unwrap_or(Value::None);
            let Some(attribute) = attribute.as_str() else {
                return wrong("attribute name must be string");
            };
            let attribute: Arc<str> = attribute.into();
            match renderer.own_attribute(&value, &attribute)? {
                Some(found) => Ok(found),
                None => Ok(Value::undefined(format!("'{}' has no attribute '{attribute}'", value.type_name()))),
            }
        }
        "dictsort" => dictsort(renderer, &value, args),
        "xmlattr" => xmlattr(renderer, &value, args),
        "random" => unsupported("random gives something else each time"),
        "urlize" | "wordwrap" | "pprint" => unsupported(format!("the filter '{name}' is not known to this renderer")),
        _ if exists(name) => select::apply(renderer, name, value, args),
        _ => wrong(format!("there is no filter named '{name}'")),
    }
}

/// Values that are handed out one after the other, once.
pub fn iterator(renderer: &mut Renderer, items: Vec<Value>) -> Value {
    renderer.iterators.push(items.into_iter());
    Value::Iterator(renderer.iterators.len() - 1)
}

fn escaped(renderer: &mut Renderer, value: &Value) -> Result<String> {
    let text = renderer.text(value)?;
    renderer.budget.text(text.len().saturating_mul(2))?;
    Ok(text::escape(&text))
}

fn of_text(renderer: &mut Renderer, name: &str, value: &Value, args: Args) -> Result<Value> {
    let this = renderer.text(value)?;
    renderer.budget.text(this.len())?;
    let text_of = |value: Option<Value>, renderer: &mut Renderer| match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => renderer.text(&value).map(Some),
    };
    Ok(Value::str(match name {
        "upper" => {
            args.bind(name, [], 0)?;
            this.to_uppercase()
        }
        "lower" => {
            args.bind(name, [], 0)?;
            this.to_lowercase()
        }
        "capitalize" => {
            args.bind(name, [], 0)?;
            text::capitalize(&this)
        }
        "title" => {
            args.bind(name, [], 0)?;
            title(&this)
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"], 0)?;
            let chars = match chars {
                None | Some(Value::None) => None,
                Some(Value::Str(chars) | Value::Markup(chars)) => Some(chars),
                Some(other) => return wrong(format!("strip arg must be None or str, not {}", other.type_name())),
            };
            methods::strip(renderer, &this, chars.as_deref(), true, true)?.to_string()
        }
        "center" => {
            let [width] = args.bind(name, ["width"], 0)?;
            let Some(width) = width.unwrap_or(Value::Int(80)).as_int() else {
                return wrong("center takes a whole number");
            };
            methods::pad(renderer, &this, name, width, ' ')?
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            let (old, new) = (renderer.text(&old)?, renderer.text(&new)?);
            let most = count.and_then(|count| count.as_int()).and_then(|count| usize::try_from(count).ok());
            methods::replace(renderer, &this, &old, &new, most)?
        }
        "indent" => {
            let [width, first, blank] = args.bind(name, ["width", "first", "blank"], 0)?;
            if value.as_str().is_none() {
                // Jinja adds a newline to it, which only a text takes.
                return renderer.binary(super::ast::Operator::Add, value.clone(), Value::str("\n"));
            }
            let indent = match width.unwrap_or(Value::Int(4)) {
                Value::Str(text) | Value::Markup(text) => text,
                other => match other.as_int() {
                    Some(width) => {
                        let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
                        renderer.budget.text(width)?;
                        " ".repeat(width).into()
                    }
                    None => return wrong(format!("indent takes a number or a text, not '{}'", other.type_name())),
                },
            };
            let mut is_true = |value: Option<Value>| value.is_some_and(|value| renderer.is_true(&value));
            let (first, blank) = (is_true(first), is_true(blank));
            // A newline at the end makes the last line one of its own.
            let ended = format!("{this}\n");
            let lines = text::lines(&ended, false);
            renderer.budget.text(this.len().saturating_add(lines.len().saturating_mul(indent.len() + 1)))?;
            let mut out = String::new();
            for (index, line) in lines.into_iter().enumerate() {
                if index > 0 {
                    out.push('\n');
                }
                if (index > 0 && (blank || !line.is_empty())) || (index == 0 && first) {
                    out.push_str(&indent);
                }
                out.push_str(line);
            }
            out
        }
        "truncate" => {
            let [length, kill, end, leeway] = args.bind(name, ["length", "killwords", "end", "leeway"], 0)?;
            let length = length.unwrap_or(Value::Int(255)).as_int().unwrap_or(255);
            let leeway = leeway.unwrap_or(Value::Int(5)).as_int().unwrap_or(5);
            let kill = kill.is_some_and(|kill| renderer.is_true(&kill));
            let end = text_of(end, renderer)?.unwrap_or("...".into());
            let chars = this.chars().count() as i128;
            if chars <= length.saturating_add(leeway) {
                return Ok(Value::Str(this));
            }
            let Ok(keep) = usize::try_from(length - end.chars().count() as i128) else {
                return wrong("truncate to less than the end that is added");
            };
            let kept: String = this.chars().take(keep).collect();
            let kept = if kill { &*kept } else { kept.rsplit_once(' ').map_or(&*kept, |(before, _)| before) };
            kept.to_string() + &end
        }
        "wordcount" => {
            let words = this.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|word| !word.is_empty());
            return Ok(Value::int(words.count()));
        }
        "striptags" => strip_tags(&this),
        "urlencode" => {
            if matches!(value, Value::Dict(_) | Value::List(_) | Value::Tuple(_)) {
                return unsupported("urlencode of a list or mapping is not known to this renderer");
            }
            renderer.budget.text(this.len().saturating_mul(3))?;
            let mut out = String::new();
            for byte in this.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                        out.push(char::from(byte));
                    }
                    _ => out.push_str(&format!("%{byte:02X}")),
                }
            }
            out
        }
        _ => {
            if !args.positional.is_empty() && !args.keywords.is_empty() {
                return wrong("can't handle positional and keyword arguments at the same time");
            }
            let values = if args.keywords.is_empty() {
                Value::tuple(args.positional, &mut renderer.budget)?
            } else {
                Value::Dict(Arc::new(renderer.make_dict(name, args)?))
            };
            return format::percent(renderer, &this, &values).map(Value::str);
        }
    }))
}

/// Jinja's own title case: each word begins large and goes on small.
fn title(text: &str) -> String {
    let is_gap = |c: char| c == '-' || text::is_space(c) || "({[<".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        if is_gap(c) || !begins {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        begins = is_gap(c);
    }
    out
}

/// Text without tags and comments, its white space made single.
fn strip_tags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let tail = rest.get(at..).unwrap_or("");
        let end = if tail.starts_with("<!--") {
            tail.find("-->").map(|end| end + 3)
        } else {
            tail.find('>').map(|end| end + 1)
        };
        let Some(end) = end else { break };
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = tail.get(end..).unwrap_or("");
    }
    out.push_str(rest);
    out.split(text::is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn of_number(renderer: &mut Renderer, name: &str, value: Value, args: Args) -> Result<Value> {
    match name {
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"], 0)?;
            let base = base.and_then(|base| base.as_int()).and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
            if let Value::Undefined(undefined) = &value {
                return undefined.fail();
            }
            let number = match value.as_str() {
                Some(text) => parse_int(text, base)
                    .or_else(|| parse_float(text).and_then(|number| super::value::whole(number.trunc()))),
                None => match &value {
                    Value::Float(number) => super::value::whole(number.trunc()),
                    value => value.as_int(),
                },
            };
            Ok(number.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
        }
        "float" => {
            let [default] = args.bind(name, ["default"], 0)?;
            if let Value::Undefined(undefined) = &value {
                return undefined.fail();
            }
            let number = match value.as_str() {
                Some(text) => parse_float(text),
                None => value.as_float(),
            };
            Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "abs" => {
            args.bind(name, [], 0)?;
            match (&value, value.as_int()) {
                (Value::Float(number), _) => Ok(Value::Float(number.abs())),
                (_, Some(number)) => Ok(Value::Int(number.saturating_abs())),
                _ => wrong(format!("bad operand type for abs(): '{}'", value.type_name())),
            }
        }
        "round" => {
            let [precision, method] = args.bind(name, ["precision", "method"], 0)?;
            round(renderer, &value, precision, method)
        }
        "sum" => {
            let [attribute, start] = args.bind(name, ["attribute", "start"], 0)?;
            let mut total = start.unwrap_or(Value::Int(0));
            if total.as_str().is_some() {
                return wrong("sum() can't sum strings");
            }
            for item in renderer.iterate(&value)? {
                let item = match &attribute {
                    None | Some(Value::None) => item,
                    Some(attribute) => select::path(renderer, &item, attribute, None)?,
                };
                total = renderer.binary(super::ast::Operator::Add, total, item)?;
            }
            Ok(total)
        }
        _ => {
            let [binary] = args.bind(name, ["binary"], 0)?;
            let base = if binary.is_some_and(|binary| renderer.is_true(&binary)) { 1024.0 } else { 1000.0 };
            let bytes = match value.as_str() {
                Some(text) => parse_float(text),
                None => value.as_float(),
            };
            let Some(bytes) = bytes else { return wrong("filesizeformat takes a number") };
            if bytes == 1.0 {
                return Ok(Value::str("1 Byte"));
            }
            if bytes < base {
                return Ok(Value::str(format!("{:.0} Bytes", bytes.trunc())));
            }
            let infix = if base == 1024.0 { "i" } else { "" };
            let mut size = bytes / base;
            let letters = if base == 1024.0 { "KMGTPEZY" } else { "kMGTPEZY" };
            let mut letters = letters.chars().peekable();
            while let Some(letter) = letters.next() {
                if size < base || letters.peek().is_none() {
                    return Ok(Value::str(format!("{size:.1} {letter}{infix}B")));
                }
                size /= base;
            }
            Ok(value)
        }
    }
}

/// Rounds as Python does: halves to even, at the decimal digit that the number really has.
fn round(renderer: &mut Renderer, value: &Value, precision: Option<Value>, method: Option<Value>) -> Result<Value> {
    let precision = precision.unwrap_or(Value::Int(0));
    let method = renderer.text(&method.unwrap_or(Value::str("common")))?;
    let Some(digits) = precision.as_int().and_then(|digits| i32::try_from(digits).ok()) else {
        return wrong("round takes a whole number of digits");
    };
    if let Value::Undefined(undefined) = value {
        return undefined.fail();
    }
    let Some(number) = value.as_float() else {
        return wrong(format!("type {} doesn't define __round__ method", value.type_name()));
    };
    let scale = 10f64.powi(digits);
    match &*method {
        "common" => match value.as_int() {
            Some(number) if digits >= 0 => Ok(Value::Int(number)),
            Some(_) => unsupported("rounding whole numbers to tens is not known to this renderer"),
            None if digits < 0 => Ok(Value::Float((number * scale).round_ties_even() / scale)),
            None if !number.is_finite() => Ok(Value::Float(number)),
            None => {
                let places = usize::try_from(digits).unwrap_or(0).min(400);
                let rounded = format!("{number:.places$}");
                Ok(Value::Float(rounded.parse().unwrap_or(number)))
            }
        },
        "ceil" | "floor" => {
            let scaled = number * scale;
            let whole = if &*method == "ceil" { scaled.ceil() } else { scaled.floor() };
            Ok(Value::Float(whole / scale))
        }
        _ => wrong("method must be common, ceil or floor"),
    }
}

/// `int(text, base)`
fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(text::is_space);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(digits);
    let fits =
        digits.starts_with(|c: char| c.is_ascii_alphanumeric()) && !digits.contains("__") && !digits.ends_with('_');
    let joined = digits.replace('_', "");
    (fits && (2..=36).contains(&base)).then(|| i128::from_str_radix(&format!("{sign}{joined}"), base).ok())?
}

/// `float(text)`
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(text::is_space);
    let inner = !text.contains("__") && !text.starts_with('_') && !text.ends_with('_');
    inner.then(|| text.replace('_', "").parse().ok())?
}

fn dictsort(renderer: &mut Renderer, value: &Value, args: Args) -> Result<Value> {
    let [sensitive, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
    let sensitive = sensitive.is_some_and(|value| renderer.is_true(&value));
    let reverse = reverse.is_some_and(|value| renderer.is_true(&value));
    let by = renderer.text(&by.unwrap_or(Value::str("key")))?;
    let Value::Dict(dict) = value else {
        if let Value::Undefined(undefined) = value {
            return undefined.fail();
        }
        return wrong(format!("'{}' object has no attribute 'items'", value.type_name()));
    };
    let keys = match &*by {
        "key" => dict.map.keys().map(|key| key.0.clone()).collect::<Vec<_>>(),
        "value" => dict.map.values().cloned().collect(),
        _ => return wrong("You can only sort by either \"key\" or \"value\""),
    };
    let keys = keys.into_iter().map(|key| if sensitive { key } else { select::ignore_case(key) }).collect();
    let order = sorted_places(renderer, keys, reverse)?;
    let pairs = pairs(renderer, dict)?;
    let sorted = order.into_iter().filter_map(|at| pairs.get(at).cloned()).collect();
    Value::list(sorted, &mut renderer.budget)
}

fn pairs(renderer: &mut Renderer, dict: &Arc<Dict>) -> Result<Vec<Value>> {
    renderer.iterate(&Value::View(super::value::View::Items, dict.clone()))
}

fn xmlattr(renderer: &mut Renderer, value: &Value, args: Args) -> Result<Value> {
    let [space] = args.bind("xmlattr", ["autospace"], 0)?;
    let space = space.is_none_or(|space| renderer.is_true(&space));
    let Value::Dict(dict) = value else {
        return wrong(format!("'{}' object has no attribute 'items'", value.type_name()));
    };
    let mut parts = Vec::new();
    for (key, value) in &dict.map {
        if matches!(value, Value::None | Value::Undefined(_)) {
            continue;
        }
        let key = renderer.text(&key.0)?;
        if key.contains([' ', '\t', '\n', '\r', '\x0b', '\x0c', '/', '>', '=']) {
            return wrong(format!("Invalid character in attribute name: {}", text::repr(&key)));
        }
        let value = renderer.text(value)?;
        renderer.budget.text((key.len() + value.len()) * 2)?;
        parts.push(format!("{}=\"{}\"", text::escape(&key), text::escape(&value)));
    }
    let joined = parts.join(" ");
    Ok(Value::str(if space && !joined.is_empty() { format!(" {joined}") } else { joined }))
}

/// The order of keys: a merge sort, since comparing may fail, and what compares may be no order at all.
pub fn sorted_places(renderer: &mut Renderer, keys: Vec<Value>, reverse: bool) -> Result<Vec<usize>> {
    renderer.budget.values(keys.len().saturating_mul(2))?;
    let mut places: Vec<usize> = (0..keys.len()).collect();
    let mut width = 1;
    while width < places.len() {
        let mut merged = Vec::with_capacity(places.len());
        for run in places.chunks(width * 2) {
            let (left, right) = run.split_at_checked(width).unwrap_or((run, &[]));
            let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                let (Some(x), Some(y)) = (keys.get(**a), keys.get(**b)) else { break };
                // Stable either way: equal keys stay in their order.
                let order = if reverse {
                    x.compare(y, "<", &mut renderer.budget)?.is_some_and(std::cmp::Ordering::is_lt)
                } else {
                    y.compare(x, "<", &mut renderer.budget)?.is_some_and(std::cmp::Ordering::is_lt)
                };
                merged.extend(if order { right.next() } else { left.next() });
            }
            merged.extend(left);
            merged.extend(right);
        }
        places = merged;
        width *= 2;
    }
    Ok(places)
}
