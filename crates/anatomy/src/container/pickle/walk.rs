//! Walks the object that a pickle describes, by the names under which Python code would reach its parts.

use std::collections::{HashMap, HashSet};

use super::{CallKind, Id, Trace, Value};

/// How deep objects are followed.
const MAX_DEPTH: usize = 128;
/// How often one object is listed when many others refer to it.
const MAX_VISITS: u8 = 16;
/// Bytes of names for each byte of the pickle; beyond that the structure is a trap.
const NAME_FACTOR: u64 = 64;

/// A step from an object to one of its parts.
#[derive(Debug, Clone, Copy)]
enum Step {
    Key(Id),
    Index(usize),
    /// A part that adds nothing to the name (`_parameters` of a module).
    Same,
}

type Frame = (Id, std::vec::IntoIter<(Step, Id)>, usize);

/// What to do at a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Look into it.
    Into,
    /// Leave it at that.
    Leave,
    /// End the walk.
    Stop,
}

/// The parts of a module that its own names leave out (torch/nn/modules/module.py).
const TRANSPARENT: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// Calls `visit` with the dotted name of every value below `root`, in the order of the pickle. Returns
/// whether all was walked that it asked for.
pub fn walk(trace: &Trace, root: Id, mut visit: impl FnMut(&str, Id) -> Visit) -> bool {
    let mut path = String::new();
    let mut complete = true;
    let mut visits: HashMap<Id, u8> = HashMap::new();
    let mut above: HashSet<Id> = HashSet::new();
    let mut budget = (trace.end - trace.start).saturating_mul(NAME_FACTOR).saturating_add(1 << 16);
    // Each object on the way down, its parts still to be seen, and the length of its own name.
    let mut frames: Vec<Frame> = Vec::new();
    if visit("", root) != Visit::Into {
        return true;
    }
    above.insert(root);
    frames.push((root, parts(trace, root).into_iter(), 0));
    while let Some((owner, rest, length)) = frames.last_mut() {
        let Some((step, id)) = rest.next() else {
            above.remove(owner);
            frames.pop();
            continue;
        };
        path.truncate(*length);
        append(trace, &mut path, step);
        let cost = path.len() as u64 + 1;
        if cost > budget {
            return false;
        }
        budget -= cost;
        match visit(&path, id) {
            Visit::Stop => return true,
            Visit::Leave => continue,
            Visit::Into if above.contains(&id) => continue,
            Visit::Into => {}
        }
        let parts = parts(trace, id);
        if parts.is_empty() {
            continue;
        }
        let seen = visits.entry(id).or_default();
        if frames.len() >= MAX_DEPTH || *seen >= MAX_VISITS {
            complete = false;
            continue;
        }
        *seen += 1;
        above.insert(id);
        let length = path.len();
        frames.push((id, parts.into_iter(), length));
    }
    complete
}

fn append(trace: &Trace, path: &mut String, step: Step) {
    let dot = if path.is_empty() { "" } else { "." };
    match step {
        Step::Same => {}
        Step::Index(index) => path.push_str(&format!("{dot}{index}")),
        Step::Key(key) => match trace.value(key) {
            Value::Text(text) => {
                path.push_str(dot);
                path.push_str(trace.str(text));
            }
            Value::Int(number) => path.push_str(&format!("{dot}{number}")),
            Value::Bool(flag) => path.push_str(&format!("{dot}{flag}")),
            Value::Tuple(_) => {
                path.push_str(dot);
                for (index, id) in trace.contents(key).iter().take(8).enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    match trace.value(*id) {
                        Value::Text(text) => path.push_str(&format!("{comma}{}", trace.str(text))),
                        Value::Int(number) => path.push_str(&format!("{comma}{number}")),
                        _ => path.push_str(&format!("{comma}?")),
                    }
                }
            }
            _ => path.push_str(&format!("{dot}?")),
        },
    }
}

/// The parts of a value, each with the step that leads there.
fn parts(trace: &Trace, id: Id) -> Vec<(Step, Id)> {
    let items = |id| trace.contents(id).iter().enumerate().map(|(index, item)| (Step::Index(index), *item)).collect();
    match trace.value(id) {
        Value::List | Value::Tuple(_) => items(id),
        Value::Dict => trace.pairs(id).map(|(key, value)| (Step::Key(key), value)).collect(),
        Value::Call(_) => object_parts(trace, id),
        _ => Vec::new(),
    }
}

fn object_parts(trace: &Trace, id: Id) -> Vec<(Step, Id)> {
    let mut parts: Vec<(Step, Id)> = Vec::new();
    let Some(call) = trace.call(id) else { return parts };
    let arguments = trace.contents(call.arguments);
    let path = trace.path_of(call.callee).unwrap_or_default();
    let dictionary = is_dictionary(&path);
    if dictionary {
        // `OrderedDict([[key, value], …])`, as Python 2 pickles it.
        for pair in arguments.first().map(|list| trace.contents(*list)).unwrap_or_default() {
            if let [key, value] = trace.contents(*pair) {
                parts.push((Step::Key(*key), *value));
            }
        }
    } else if call.kind == CallKind::Reduce && is_transparent(&path) {
        parts.extend(arguments.first().map(|inner| (Step::Same, *inner)));
    }
    if trace.contents(id).len().is_multiple_of(2) {
        parts.extend(trace.pairs(id).map(|(key, value)| (Step::Key(key), value)));
    }
    // Attributes of a state dict (`_metadata`) say nothing of the model.
    if !dictionary && let Some(state) = trace.state(id) {
        let states = match trace.value(state) {
            // `(__dict__, slots)`.
            Value::Tuple(_) => trace.contents(state).to_vec(),
            _ => vec![state],
        };
        for (key, value) in states.into_iter().filter(|id| is_dict(trace, *id)).flat_map(|id| trace.pairs(id)) {
            let transparent = trace.text(key).is_some_and(|key| TRANSPARENT.contains(&key));
            parts.push((if transparent { Step::Same } else { Step::Key(key) }, value));
        }
    }
    parts
}

fn is_dict(trace: &Trace, id: Id) -> bool {
    trace.value(id) == Value::Dict
}

/// Whether a class is a dictionary.
fn is_dictionary(path: &str) -> bool {
    matches!(
        path,
        "collections.OrderedDict"
            | "collections.defaultdict"
            | "builtins.dict"
            | "__builtin__.dict"
            | "__torch__.torch.classes.collections.OrderedDict"
    )
}

/// Whether a call gives back its first argument, as far as names go.
fn is_transparent(path: &str) -> bool {
    matches!(
        path,
        "torch.jit._pickle.restore_type_tag"
            | "builtins.list"
            | "builtins.tuple"
            | "builtins.set"
            | "types.MappingProxyType"
    )
}

/// Whether a value is a dictionary of some kind, whose keys are no attributes of an object.
pub fn is_mapping(trace: &Trace, id: Id) -> bool {
    match trace.value(id) {
        Value::Dict => true,
        Value::Call(_) => {
            let callee = trace.call(id).and_then(|call| trace.path_of(call.callee));
            callee.is_some_and(|path| is_dictionary(&path))
        }
        _ => false,
    }
}

/// The values of a mapping's text keys.
pub fn entries(trace: &Trace, id: Id) -> Vec<(&str, Id)> {
    let keyed = parts(trace, id).into_iter();
    keyed
        .filter_map(|(step, value)| match step {
            Step::Key(key) => Some((trace.text(key)?, value)),
            _ => None,
        })
        .collect()
}
