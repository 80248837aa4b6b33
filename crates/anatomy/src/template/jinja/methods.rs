//! The methods of Python's values.

use std::sync::Arc;

use super::expression::Args;
use super::fault::{Result, unsupported, wrong};
use super::format;
use super::render::Renderer;
use super::text;
use super::value::{Value, View};

/// The methods of texts that are rendered.
const OF_TEXT: [&str; 43] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
];

/// Methods of texts that Python has and this renderer has not.
const OF_TEXT_UNKNOWN: [&str; 3] = ["encode", "maketrans", "translate"];

/// Whether a value has a method.
pub fn exists(of: &Value, name: &str) -> bool {
    match of {
        Value::Str(_) | Value::Markup(_) => {
            OF_TEXT.contains(&name) || OF_TEXT_UNKNOWN.contains(&name) || name == "zfill"
        }
        Value::Dict(_) => matches!(name, "get" | "items" | "keys" | "values" | "copy" | "fromkeys"),
        Value::List(_) => matches!(name, "index" | "count" | "copy"),
        Value::Tuple(_) | Value::Range(_) => matches!(name, "index" | "count"),
        Value::Float(_) => matches!(name, "is_integer" | "hex" | "as_integer_ratio" | "conjugate"),
        Value::Int(_) | Value::Bool(_) => {
            matches!(name, "bit_length" | "bit_count" | "to_bytes" | "as_integer_ratio" | "conjugate")
        }
        Value::Cycler(_) => matches!(name, "next" | "reset"),
        _ => false,
    }
}

/// Whether a method would change the value, which the sandbox does not allow.
pub fn changes(of: &Value, name: &str) -> bool {
    match of {
        Value::Dict(_) => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        Value::List(_) => {
            matches!(name, "append" | "clear" | "pop" | "reverse" | "insert" | "sort" | "extend" | "remove")
        }
        _ => false,
    }
}

/// Calls a method.
pub fn call(renderer: &mut Renderer, of: &Value, name: &str, args: Args) -> Result<Value> {
    match of {
        Value::Str(text) | Value::Markup(text) => of_text(renderer, text, name, args),
        Value::Dict(dict) => match name {
            "get" => {
                let [key, default] = args.bind("get", ["key", "default"], 1)?;
                let found = dict.map.get(&key.unwrap_or(Value::None).key()?).cloned();
                Ok(found.or(default).unwrap_or(Value::None))
            }
            "items" | "keys" | "values" => {
                args.bind(name, [], 0)?;
                let view = match name {
                    "items" => View::Items,
                    "keys" => View::Keys,
                    _ => View::Values,
                };
                Ok(Value::View(view, dict.clone()))
            }
            "copy" => Ok(of.clone()),
            _ => missing(of, name),
        },
        Value::List(list) | Value::Tuple(list) => match name {
            "copy" => Ok(of.clone()),
            "index" | "count" => {
                let [value] = args.bind(name, ["value"], 1)?;
                let value = value.unwrap_or(Value::None);
                let mut count = 0;
                for (index, item) in list.items.iter().enumerate() {
                    if item.equals(&value, &mut renderer.budget)? {
                        if name == "index" {
                            return Ok(Value::int(index));
                        }
                        count += 1;
                    }
                }
                if name == "index" { wrong("the value is not in the list") } else { Ok(Value::int(count)) }
            }
            _ => missing(of, name),
        },
        Value::Float(number) if name == "is_integer" => Ok(Value::Bool(number.fract() == 0.0)),
        Value::Loop(index) => match name {
            "cycle" => renderer.loop_cycle(*index, args.positional),
            _ => renderer.loop_changed(*index, args.positional),
        },
        Value::Cycler(index) => {
            let Some((values, at)) = renderer.cyclers.get_mut(*index) else { return Ok(Value::None) };
            if name == "reset" {
                *at = 0;
                return Ok(Value::None);
            }
            let value = at.checked_rem(values.len()).and_then(|at| values.get(at).cloned());
            *at += 1;
            Ok(value.unwrap_or(Value::None))
        }
        _ => missing(of, name),
    }
}

fn missing<T>(of: &Value, name: &str) -> Result<T> {
    unsupported(format!("the method '{name}' of '{}' is not known to this renderer", of.type_name()))
}

/// A text argument.
fn text_of(value: Option<&Value>, of: &str) -> Result<Arc<str>> {
    match value {
        Some(Value::Str(text) | Value::Markup(text)) => Ok(text.clone()),
        Some(other) => wrong(format!("{of} takes a text, not '{}'", other.type_name())),
        None => wrong(format!("{of} misses an argument")),
    }
}

/// A number argument that may be left out.
fn number_of(value: Option<&Value>, of: &str) -> Result<Option<i128>> {
    match value {
        None => Ok(None),
        Some(value) => match value.as_int() {
            Some(number) => Ok(Some(number)),
            None => wrong(format!("{of} takes a whole number, not '{}'", value.type_name())),
        },
    }
}

/// A part of a text between two bounds counted in characters.
fn part<'a>(text: &'a str, start: Option<&Value>, end: Option<&Value>, of: &str) -> Result<(&'a str, usize)> {
    let bound = |value: Option<&Value>| match value {
        None | Some(Value::None) => Ok(None),
        value => number_of(value, of),
    };
    let (start, end) = (bound(start)?, bound(end)?);
    if start.is_none() && end.is_none() {
        return Ok((text, 0));
    }
    let length = text.chars().count() as i128;
    let place =
        |bound: i128| usize::try_from(if bound < 0 { bound + length } else { bound }.clamp(0, length)).unwrap_or(0);
    let (first, last) = (start.map_or(0, place), end.map_or_else(|| place(length), place));
    if start.is_some_and(|start| start > length) || first > last {
        // Beyond the end there is not even an empty text.
        return Ok(("", usize::MAX));
    }
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Ok((text.get(byte(first)..byte(last)).unwrap_or(""), first))
}

fn of_text(renderer: &mut Renderer, this: &Arc<str>, name: &str, args: Args) -> Result<Value> {
    renderer.budget.text(this.len())?;
    let of = name;
    Ok(match name {
        "format" => return format::braces(renderer, this, &args).map(Value::str),
        "format_map" => {
            let [map] = args.bind(of, ["mapping"], 1)?;
            let Some(Value::Dict(map)) = map else { return wrong("format_map takes a mapping") };
            let entries = map.map.iter().filter_map(|(key, value)| Some((key.0.as_str()?.into(), value.clone())));
            let args = Args { positional: Vec::new(), keywords: entries.collect() };
            return format::braces(renderer, this, &args).map(Value::str);
        }
        "split" | "rsplit" => {
            let [separator, most] = args.bind(of, ["sep", "maxsplit"], 0)?;
            let most = number_of(most.as_ref(), of)?.and_then(|most| usize::try_from(most).ok());
            let parts = match separator {
                None | Some(Value::None) => split_space(this, most, of == "rsplit"),
                separator => {
                    let separator = text_of(separator.as_ref(), of)?;
                    if separator.is_empty() {
                        return wrong("empty separator");
                    }
                    split_by(this, &separator, most, of == "rsplit")
                }
            };
            renderer.budget.values(parts.len())?;
            return Value::list(parts.into_iter().map(Value::str).collect(), &mut renderer.budget);
        }
        "splitlines" => {
            let [keep] = args.bind(of, ["keepends"], 0)?;
            let keep = keep.is_some_and(|keep| renderer.is_true(&keep));
            let lines = text::lines(this, keep);
            renderer.budget.values(lines.len())?;
            return Value::list(lines.into_iter().map(Value::str).collect(), &mut renderer.budget);
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(of, ["chars"], 0)?;
            let chars = match chars {
                None | Some(Value::None) => None,
                chars => Some(text_of(chars.as_ref(), of)?),
            };
            let (left, right) = (of != "rstrip", of != "lstrip");
            Value::str(strip(renderer, this, chars.as_deref(), left, right)?)
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = args.bind(of, ["prefix", "start", "end"], 1)?;
            let (part, at) = part(this, start.as_ref(), end.as_ref(), of)?;
            let fits = |affix: &str| {
                at != usize::MAX && if of == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) }
            };
            match affix {
                Some(Value::Tuple(affixes)) => {
                    renderer.budget.values(affixes.items.len())?;
                    let mut any = false;
                    for affix in &affixes.items {
                        any = any || fits(&text_of(Some(affix), of)?);
                    }
                    Value::Bool(any)
                }
                affix => Value::Bool(fits(&text_of(affix.as_ref(), of)?)),
            }
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [needle, start, end] = args.bind(of, ["sub", "start", "end"], 1)?;
            let needle = text_of(needle.as_ref(), of)?;
            let (part, at) = part(this, start.as_ref(), end.as_ref(), of)?;
            if of == "count" {
                let count = if needle.is_empty() { part.chars().count() + 1 } else { part.matches(&*needle).count() };
                return Ok(Value::int(if at == usize::MAX { 0 } else { count }));
            }
            let found = match of {
                _ if at == usize::MAX => None,
                "find" | "index" => part.find(&*needle),
                _ => part.rfind(&*needle),
            };
            match found.and_then(|found| part.get(..found)) {
                Some(before) => Value::int(at + before.chars().count()),
                None if of.ends_with("find") => Value::Int(-1),
                None => return wrong("substring not found"),
            }
        }
        "replace" => {
            let [old, new, most] = args.bind(of, ["old", "new", "count"], 2)?;
            let (old, new) = (text_of(old.as_ref(), of)?, text_of(new.as_ref(), of)?);
            let most = number_of(most.as_ref(), of)?.and_then(|most| usize::try_from(most).ok());
            return replace(renderer, this, &old, &new, most).map(Value::str);
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = args.bind(of, ["affix"], 1)?;
            let affix = text_of(affix.as_ref(), of)?;
            let cut = if of == "removeprefix" { this.strip_prefix(&*affix) } else { this.strip_suffix(&*affix) };
            Value::str(cut.unwrap_or(this))
        }
        "partition" | "rpartition" => {
            let [separator] = args.bind(of, ["sep"], 1)?;
            let separator = text_of(separator.as_ref(), of)?;
            if separator.is_empty() {
                return wrong("empty separator");
            }
            let halves = if of == "partition" { this.split_once(&*separator) } else { this.rsplit_once(&*separator) };
            let parts: [&str; 3] = match halves {
                Some((before, after)) => [before, &separator, after],
                None if of == "partition" => [this, "", ""],
                None => ["", "", this],
            };
            return Value::tuple(parts.map(Value::str).to_vec(), &mut renderer.budget);
        }
        "join" => {
            let [items] = args.bind(of, ["iterable"], 1)?;
            let items = renderer.iterate(&items.unwrap_or(Value::None))?;
            let mut joined = String::new();
            for (index, item) in items.iter().enumerate() {
                let Some(item) = item.as_str() else {
                    let found = item.type_name();
                    return wrong(format!("sequence item {index}: expected str instance, {found} found"));
                };
                renderer.budget.text(joined.len() + this.len() + item.len())?;
                if index > 0 {
                    joined.push_str(this);
                }
                joined.push_str(item);
            }
            Value::str(joined)
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = args.bind(of, ["width", "fillchar"], 1)?;
            let fill = fill.map_or(Ok(" ".into()), |fill| text_of(Some(&fill), of))?;
            let Some(width) = number_of(width.as_ref(), of)? else { return wrong("a width is missing") };
            let mut chars = fill.chars();
            let (Some(fill), None) = (chars.next(), chars.next()) else {
                return wrong("the fill character must be exactly one character long");
            };
            return pad(renderer, this, of, width, fill).map(Value::str);
        }
        "expandtabs" => {
            let [size] = args.bind(of, ["tabsize"], 0)?;
            let size = number_of(size.as_ref(), of)?.unwrap_or(8);
            let size = usize::try_from(size).unwrap_or(0);
            let tabs = this.matches('\t').count();
            renderer.budget.text(this.len().saturating_add(tabs.saturating_mul(size)))?;
            let mut out = String::new();
            let mut column = 0usize;
            for c in this.chars() {
                match c {
                    '\t' => {
                        let fill = column.checked_next_multiple_of(size.max(1)).unwrap_or(column) - column;
                        let fill = if size == 0 {
                            0
                        } else if fill == 0 {
                            size
                        } else {
                            fill
                        };
                        out.extend(std::iter::repeat_n(' ', fill));
                        column += fill;
                    }
                    '\n' | '\r' => {
                        out.push(c);
                        column = 0;
                    }
                    _ => {
                        out.push(c);
                        column += 1;
                    }
                }
            }
            Value::str(out)
        }
        _ if OF_TEXT_UNKNOWN.contains(&name) => {
            return unsupported(format!("the method '{name}' of texts is not known to this renderer"));
        }
        _ => {
            args.bind(of, [], 0)?;
            plain(this, name)
        }
    })
}

/// Methods without arguments.
fn plain(this: &str, name: &str) -> Value {
    let all = |test: fn(char) -> bool| Value::Bool(!this.is_empty() && this.chars().all(test));
    match name {
        "lower" => Value::str(this.to_lowercase()),
        "upper" => Value::str(this.to_uppercase()),
        "casefold" => Value::str(this.to_lowercase().replace('ß', "ss").replace('ς', "σ")),
        "capitalize" => Value::str(text::capitalize(this)),
        "title" => Value::str(text::title(this)),
        "swapcase" => Value::str(
            this.chars()
                .flat_map(|c| {
                    let swapped: String =
                        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
                    swapped.chars().collect::<Vec<_>>()
                })
                .collect::<String>(),
        ),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => Value::Bool(this.is_ascii()),
        "isdecimal" | "isdigit" => all(|c| c.is_ascii_digit() || (!c.is_ascii() && is_digit(c))),
        "isnumeric" => all(char::is_numeric),
        "isspace" => all(text::is_space),
        "isprintable" => Value::Bool(this.chars().all(text::is_printable)),
        "isidentifier" => {
            let mut chars = this.chars();
            let first = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Value::Bool(first && chars.all(|c| c == '_' || c.is_alphanumeric()))
        }
        "islower" => Value::Bool(this.chars().any(char::is_lowercase) && !this.chars().any(char::is_uppercase)),
        "isupper" => Value::Bool(this.chars().any(char::is_uppercase) && !this.chars().any(char::is_lowercase)),
        _ => {
            // istitle: letters that can be large are so exactly where they do not follow a letter.
            let mut within = false;
            let mut any = false;
            for c in this.chars() {
                if c.is_uppercase() && within || c.is_lowercase() && !within {
                    return Value::Bool(false);
                }
                within = c.is_uppercase() || c.is_lowercase();
                any = any || within;
            }
            Value::Bool(any)
        }
    }
}

/// Decimal digits beyond ASCII stand in runs of ten; those that are met are in the blocks of scripts.
fn is_digit(c: char) -> bool {
    const ZEROS: [u32; 24] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
        0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0xff10,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&u32::from(c)))
}

/// `strip` and its halves.
pub fn strip<'a>(
    renderer: &mut Renderer,
    this: &'a str,
    chars: Option<&str>,
    left: bool,
    right: bool,
) -> Result<&'a str> {
    let Some(chars) = chars else {
        let this = if left { this.trim_start_matches(text::is_space) } else { this };
        return Ok(if right { this.trim_end_matches(text::is_space) } else { this });
    };
    renderer.budget.scan(this.len().saturating_mul(chars.len()))?;
    let this = if left { this.trim_start_matches(|c| chars.contains(c)) } else { this };
    Ok(if right { this.trim_end_matches(|c| chars.contains(c)) } else { this })
}

/// `replace`: an empty text to be replaced stands between all characters.
pub fn replace(renderer: &mut Renderer, this: &str, old: &str, new: &str, most: Option<usize>) -> Result<String> {
    let most = most.unwrap_or(usize::MAX);
    let count = if old.is_empty() { this.chars().count() + 1 } else { this.matches(old).count() }.min(most);
    renderer.budget.text(this.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(this.replacen(old, new, most))
}

/// `center`, `ljust`, `rjust`, `zfill`.
pub fn pad(renderer: &mut Renderer, this: &str, how: &str, width: i128, fill: char) -> Result<String> {
    let length = this.chars().count();
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    let missing = width.saturating_sub(length);
    renderer.budget.text(this.len().saturating_add(missing.saturating_mul(fill.len_utf8())))?;
    let fills = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(match how {
        "ljust" => this.to_string() + &fills(missing),
        "rjust" => fills(missing) + this,
        "zfill" => {
            let (sign, digits) = match this.strip_prefix(['+', '-']) {
                Some(digits) => (this.get(..1).unwrap_or(""), digits),
                None => ("", this),
            };
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        _ => {
            // CPython puts the odd one left where both the gap and the width are odd.
            let left = missing / 2 + (missing & width & 1);
            fills(left) + this + &fills(missing - left)
        }
    })
}

fn split_by<'a>(this: &'a str, separator: &str, most: Option<usize>, from_right: bool) -> Vec<&'a str> {
    match (most, from_right) {
        (None, _) => this.split(separator).collect(),
        (Some(most), false) => this.splitn(most.saturating_add(1), separator).collect(),
        (Some(most), true) => {
            let mut parts: Vec<_> = this.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
    }
}

/// Splits at runs of white space, which do not count at the ends.
fn split_space(this: &str, most: Option<usize>, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = this;
    loop {
        rest = if from_right { rest.trim_end_matches(text::is_space) } else { rest.trim_start_matches(text::is_space) };
        if rest.is_empty() {
            break;
        }
        if most.is_some_and(|most| parts.len() >= most) {
            // Its other end keeps its white space, as in CPython.
            parts.push(rest);
            break;
        }
        let halves = if from_right {
            rest.char_indices().rfind(|(_, c)| text::is_space(*c)).map(|(at, c)| (at, at + c.len_utf8()))
        } else {
            rest.char_indices().find(|(_, c)| text::is_space(*c)).map(|(at, c)| (at, at + c.len_utf8()))
        };
        let Some((end, begin)) = halves else {
            parts.push(rest);
            break;
        };
        let (before, after) = (rest.get(..end).unwrap_or(""), rest.get(begin..).unwrap_or(""));
        if from_right {
            parts.push(after);
            rest = before;
        } else {
            parts.push(before);
            rest = after;
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}
