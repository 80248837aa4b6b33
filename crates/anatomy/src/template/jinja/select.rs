//! Filters over many values: choosing, sorting, grouping.

use std::sync::Arc;

use super::expression::Args;
use super::fault::{Result, wrong};
use super::filters::{self, iterator, sorted_places};
use super::render::Renderer;
use super::value::{List, Value};

/// Applies one of them.
pub fn apply(renderer: &mut Renderer, name: &str, value: Value, args: Args) -> Result<Value> {
    match name {
        "map" => map(renderer, &value, args),
        "select" | "reject" | "selectattr" | "rejectattr" => select(renderer, name, &value, args),
        "join" => {
            let [separator, attribute] = args.bind(name, ["d", "attribute"], 0)?;
            let separator = renderer.text(&separator.unwrap_or(Value::str("")))?;
            let mut joined = String::new();
            for (index, item) in renderer.iterate(&value)?.into_iter().enumerate() {
                let item = at_path(renderer, item, attribute.as_ref())?;
                let text = renderer.text(&item)?;
                renderer.budget.text(separator.len() + text.len())?;
                if joined.len() + separator.len() + text.len() > super::fault::MAX_TEXT {
                    renderer.budget.text(joined.len() + separator.len() + text.len())?;
                }
                if index > 0 {
                    joined.push_str(&separator);
                }
                joined.push_str(&text);
            }
            Ok(Value::str(joined))
        }
        "first" => {
            args.bind(name, [], 0)?;
            let first = match &value {
                Value::Iterator(index) => renderer.iterators.get_mut(*index).and_then(Iterator::next),
                other => renderer.iterate(other)?.into_iter().next(),
            };
            Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")))
        }
        "last" => {
            args.bind(name, [], 0)?;
            if !reversible(&value) {
                return wrong(format!("'{}' object is not reversible", value.type_name()));
            }
            let last = renderer.iterate(&value)?.into_iter().next_back();
            Ok(last.unwrap_or_else(|| Value::undefined("No last item, sequence was empty.")))
        }
        "reverse" => {
            args.bind(name, [], 0)?;
            if let Some(text) = value.as_str() {
                renderer.budget.text(text.len())?;
                return Ok(Value::str(text.chars().rev().collect::<String>()));
            }
            let mut items = renderer.iterate(&value)?;
            items.reverse();
            if reversible(&value) {
                return Ok(iterator(renderer, items));
            }
            Value::list(items, &mut renderer.budget)
        }
        "sort" => {
            let [reverse, sensitive, attribute] = args.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
            let (reverse, sensitive) = (is_true(renderer, reverse), is_true(renderer, sensitive));
            let items = renderer.iterate(&value)?;
            let mut keys = Vec::with_capacity(items.len());
            for item in &items {
                keys.push(sort_key(renderer, item, attribute.as_ref(), sensitive)?);
            }
            let order = sorted_places(renderer, keys, reverse)?;
            let sorted = order.into_iter().filter_map(|at| items.get(at).cloned()).collect();
            Value::list(sorted, &mut renderer.budget)
        }
        "unique" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let sensitive = is_true(renderer, sensitive);
            let mut seen = std::collections::HashSet::new();
            let mut unique = Vec::new();
            for item in renderer.iterate(&value)? {
                let key = at_path(renderer, item.clone(), attribute.as_ref())?;
                let key = if sensitive { key } else { ignore_case(key) };
                renderer.budget.values(2)?;
                if seen.insert(key.key()?) {
                    unique.push(item);
                }
            }
            Ok(iterator(renderer, unique))
        }
        "min" | "max" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let sensitive = is_true(renderer, sensitive);
            let mut best: Option<(Value, Value)> = None;
            for item in renderer.iterate(&value)? {
                let key = at_path(renderer, item.clone(), attribute.as_ref())?;
                let key = if sensitive { key } else { ignore_case(key) };
                let better = match &best {
                    None => true,
                    Some((_, known)) => {
                        let (sign, wanted) = if name == "min" {
                            ("<", std::cmp::Ordering::Less)
                        } else {
                            (">", std::cmp::Ordering::Greater)
                        };
                        key.compare(known, sign, &mut renderer.budget)? == Some(wanted)
                    }
                };
                if better {
                    best = Some((item, key));
                }
            }
            Ok(best.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |(item, _)| item))
        }
        "groupby" => group(renderer, &value, args),
        "batch" => {
            let [size, fill] = args.bind(name, ["linecount", "fill_with"], 1)?;
            let Some(size) = size.as_ref().and_then(Value::as_int) else { return wrong("batch takes a number") };
            let size = usize::try_from(size).unwrap_or(0);
            let mut batches = Vec::new();
            let items = renderer.iterate(&value)?;
            for batch in items.chunks(size.max(1)) {
                let mut batch = batch.to_vec();
                if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
                    renderer.budget.values(size.saturating_sub(batch.len()))?;
                    batch.resize(size.max(batch.len()), fill.clone());
                }
                batches.push(Value::list(batch, &mut renderer.budget)?);
            }
            Ok(iterator(renderer, batches))
        }
        _ => {
            let [count, fill] = args.bind(name, ["slices", "fill_with"], 1)?;
            let count = count.as_ref().and_then(Value::as_int).and_then(|count| usize::try_from(count).ok());
            let items = renderer.iterate(&value)?;
            let Some((count, each)) = count.and_then(|count| Some((count, items.len().checked_div(count)?))) else {
                return wrong("slice takes a number that is not zero");
            };
            renderer.budget.values(count)?;
            let longer = items.len() % count;
            let mut rest = items.into_iter();
            let mut slices = Vec::new();
            for index in 0..count {
                let mut slice: Vec<Value> = rest.by_ref().take(each + usize::from(index < longer)).collect();
                slice.extend(fill.clone().filter(|fill| index >= longer && !matches!(fill, Value::None)));
                slices.push(Value::list(slice, &mut renderer.budget)?);
            }
            Ok(iterator(renderer, slices))
        }
    }
}

fn is_true(renderer: &mut Renderer, value: Option<Value>) -> bool {
    value.is_some_and(|value| renderer.is_true(&value))
}

fn reversible(value: &Value) -> bool {
    !matches!(value, Value::Iterator(_) | Value::Undefined(_) | Value::Namespace(_) | Value::Loop(_))
}

/// A key that does not tell cases apart.
pub fn ignore_case(value: Value) -> Value {
    match value.as_str() {
        Some(text) => Value::str(text.to_lowercase()),
        None => value,
    }
}

/// What a path such as `function.name` or `0` leads to.
pub fn path(renderer: &mut Renderer, value: &Value, path: &Value, default: Option<&Value>) -> Result<Value> {
    let mut found = value.clone();
    let parts: Vec<Value> = match path.as_str() {
        Some(path) => path
            .split('.')
            .map(|part| match part.parse::<i128>() {
                Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Value::Int(index),
                _ => Value::str(part),
            })
            .collect(),
        None => vec![path.clone()],
    };
    for part in parts {
        found = renderer.item(&found, &part)?;
        if let (true, Some(default)) = (found.is_undefined(), default) {
            found = default.clone();
        }
    }
    Ok(found)
}

fn at_path(renderer: &mut Renderer, item: Value, attribute: Option<&Value>) -> Result<Value> {
    match attribute {
        None | Some(Value::None) => Ok(item),
        Some(attribute) => path(renderer, &item, attribute, None),
    }
}

/// What an item is sorted by: one value or, for `a,b`, several.
fn sort_key(renderer: &mut Renderer, item: &Value, attribute: Option<&Value>, sensitive: bool) -> Result<Value> {
    let attributes: Vec<Option<Value>> = match attribute {
        Some(Value::Str(names) | Value::Markup(names)) => names.split(',').map(|name| Some(Value::str(name))).collect(),
        other => vec![other.cloned()],
    };
    let mut keys = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let key = at_path(renderer, item.clone(), attribute.as_ref())?;
        keys.push(if sensitive { key } else { ignore_case(key) });
    }
    Value::list(keys, &mut renderer.budget)
}

fn map(renderer: &mut Renderer, value: &Value, mut args: Args) -> Result<Value> {
    if !renderer.is_true(value) {
        return Ok(iterator(renderer, Vec::new()));
    }
    let items = renderer.iterate(value)?;
    let mut mapped = Vec::with_capacity(items.len());
    let mut taken = |name: &str| {
        let at = args.keywords.iter().position(|(known, _)| &**known == name)?;
        Some(args.keywords.remove(at).1)
    };
    if args.positional.is_empty()
        && let Some(attribute) = taken("attribute")
    {
        let default = taken("default").filter(|default| !matches!(default, Value::None));
        if let Some((unknown, _)) = args.keywords.first() {
            return wrong(format!("Unexpected keyword argument '{unknown}'"));
        }
        for item in items {
            mapped.push(path(renderer, &item, &attribute, default.as_ref())?);
        }
        return Ok(iterator(renderer, mapped));
    }
    let mut positional = args.positional.into_iter();
    let Some(filter) = positional.next() else { return wrong("map requires a filter argument") };
    let Some(filter) = filter.as_str() else { return wrong("map takes the name of a filter") };
    let rest: Vec<Value> = positional.collect();
    for item in items {
        renderer.budget.values(rest.len() + args.keywords.len())?;
        let args = Args { positional: rest.clone(), keywords: args.keywords.clone() };
        let filter: Arc<str> = filter.into();
        mapped.push(renderer.deeper(|renderer| filters::apply(renderer, &filter, item, args))?);
    }
    Ok(iterator(renderer, mapped))
}

fn select(renderer: &mut Renderer, name: &str, value: &Value, args: Args) -> Result<Value> {
    if !renderer.is_true(value) {
        return Ok(iterator(renderer, Vec::new()));
    }
    let wanted = name.starts_with("select");
    let mut positional = args.positional.into_iter();
    let attribute = if name.ends_with("attr") {
        match positional.next() {
            Some(attribute) => Some(attribute),
            None => return wrong("Missing parameter for attribute name"),
        }
    } else {
        None
    };
    let test = positional.next();
    let rest: Vec<Value> = positional.collect();
    let mut chosen = Vec::new();
    for item in renderer.iterate(value)? {
        let subject = at_path(renderer, item.clone(), attribute.as_ref())?;
        let passes = match &test {
            None => renderer.is_true(&subject),
            Some(test) => {
                let Some(test) = test.as_str() else { return wrong("a test is named by a text") };
                renderer.budget.values(rest.len() + args.keywords.len())?;
                let args = Args { positional: rest.clone(), keywords: args.keywords.clone() };
                renderer.test(test, subject, args)?
            }
        };
        if passes == wanted {
            chosen.push(item);
        }
    }
    Ok(iterator(renderer, chosen))
}

fn group(renderer: &mut Renderer, value: &Value, args: Args) -> Result<Value> {
    let [attribute, default, sensitive] = args.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let attribute = attribute.unwrap_or(Value::None);
    let sensitive = is_true(renderer, sensitive);
    let default = default.filter(|default| !matches!(default, Value::None));
    let items = renderer.iterate(value)?;
    let mut keys = Vec::with_capacity(items.len());
    for item in &items {
        let key = path(renderer, item, &attribute, default.as_ref())?;
        keys.push((if sensitive { key.clone() } else { ignore_case(key.clone()) }, key));
    }
    let order = sorted_places(renderer, keys.iter().map(|(key, _)| key.clone()).collect(), false)?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for at in order {
        let (Some(item), Some((key, shown))) = (items.get(at), keys.get(at)) else { continue };
        match groups.last_mut() {
            Some((known, _, members)) if known.equals(key, &mut renderer.budget)? => members.push(item.clone()),
            _ => groups.push((key.clone(), shown.clone(), vec![item.clone()])),
        }
    }
    let mut pairs = Vec::with_capacity(groups.len());
    for (_, shown, members) in groups {
        let members = Value::list(members, &mut renderer.budget)?;
        let mut pair = List::new(vec![shown, members], &mut renderer.budget)?;
        pair.group = true;
        pairs.push(Value::Tuple(Arc::new(pair)));
    }
    Value::list(pairs, &mut renderer.budget)
}
