//! What a pickle would run, written as Python: for people, not for Python.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use crate::container::pickle::{Call, CallKind, Global, Id, Str, Trace, Value};
use crate::source::Source;

/// Statements of a program.
const MAX_STATEMENTS: usize = 400;
/// Bytes of a statement.
const MAX_STATEMENT: usize = 600;
/// Bytes of a name.
const MAX_NAME: usize = 200;
/// Bytes of a `bytes` that are written out.
const MAX_BYTES: u64 = 160;
/// Items of a container that are written out, and how deep.
const MAX_ITEMS: usize = 24;
const MAX_DEPTH: usize = 8;

/// Writes values and calls of a trace.
pub(super) struct Writer<'t> {
    trace: &'t Trace,
    /// Where bytes are read to be shown; without it only their number is.
    source: Option<&'t Source>,
    /// Variables that hold values.
    names: HashMap<Id, String>,
}

/// Text that stops growing.
struct Line {
    text: String,
    most: usize,
}

impl Line {
    fn push(&mut self, text: &str) {
        if self.full() {
            return;
        }
        for c in text.chars() {
            if self.text.len() >= self.most {
                self.text.push('…');
                return;
            }
            self.text.push(c);
        }
    }

    fn full(&self) -> bool {
        self.text.len() >= self.most
    }
}

impl<'t> Writer<'t> {
    /// A writer that writes every value where it is used.
    pub(super) fn new(trace: &'t Trace) -> Self {
        Writer { trace, source: None, names: HashMap::new() }
    }

    /// A call in a line of some `most` bytes: `os.system('true')`.
    pub(super) fn call(&self, call: &Call, most: usize) -> String {
        let mut line = Line { text: String::new(), most };
        self.write_call(call, 0, &mut line);
        line.text
    }

    /// A value in a line of some `most` bytes.
    pub(super) fn value(&self, id: Id, most: usize) -> String {
        let mut line = Line { text: String::new(), most };
        self.write(id, 0, &mut line);
        line.text
    }

    fn write_call(&self, call: &Call, depth: usize, line: &mut Line) {
        let items = self.trace.contents(call.arguments);
        match call.kind {
            CallKind::Build => {
                self.write(call.callee, depth + 1, line);
                line.push(".__setstate__(");
                self.write(call.arguments, depth + 1, line);
            }
            CallKind::Append | CallKind::Add => {
                self.write(call.callee, depth + 1, line);
                line.push(match (call.kind, items.len()) {
                    (CallKind::Add, _) => ".update([",
                    (_, 1) => ".append(",
                    _ => ".extend([",
                });
                self.write_items(items, depth, line);
                if call.kind == CallKind::Add || items.len() != 1 {
                    line.push("]");
                }
            }
            CallKind::SetItem => {
                self.write(call.callee, depth + 1, line);
                line.push(".update({");
                self.write_pairs(items, depth, line);
                line.push("}");
            }
            CallKind::Reduce | CallKind::Inst | CallKind::Obj | CallKind::NewObj | CallKind::NewObjEx => {
                self.write(call.callee, depth + 1, line);
                if matches!(call.kind, CallKind::NewObj | CallKind::NewObjEx) {
                    line.push(".__new__(");
                    self.write(call.callee, depth + 1, line);
                    line.push(if items.is_empty() { "" } else { ", " });
                } else {
                    line.push("(");
                }
                match self.trace.value(call.arguments) {
                    Value::Tuple(_) => self.write_items(items, depth, line),
                    _ => {
                        line.push("*");
                        self.write(call.arguments, depth + 1, line);
                    }
                }
                if let Some(keywords) = call.keywords {
                    line.push(", **");
                    self.write(keywords, depth + 1, line);
                }
            }
        }
        line.push(")");
    }

    fn write_items(&self, items: &[Id], depth: usize, line: &mut Line) {
        for (index, item) in items.iter().enumerate() {
            line.push(if index == 0 { "" } else { ", " });
            if index == MAX_ITEMS || line.full() {
                line.push(&format!("… {} more", items.len() - index));
                return;
            }
            self.write(*item, depth + 1, line);
        }
    }

    fn write_pairs(&self, items: &[Id], depth: usize, line: &mut Line) {
        for (index, pair) in items.chunks(2).enumerate() {
            line.push(if index == 0 { "" } else { ", " });
            if index == MAX_ITEMS || line.full() {
                line.push(&format!("… {} more", items.len() / 2 - index));
                return;
            }
            for (part, id) in pair.iter().enumerate() {
                line.push(if part == 0 { "" } else { ": " });
                self.write(*id, depth + 1, line);
            }
        }
    }

    fn write(&self, id: Id, depth: usize, line: &mut Line) {
        if line.full() {
            return;
        }
        if let Some(name) = self.names.get(&id) {
            return line.push(name);
        }
        if depth > MAX_DEPTH {
            return line.push("…");
        }
        let items = || self.trace.contents(id);
        match self.trace.value(id) {
            Value::None => line.push("None"),
            Value::Bool(true) => line.push("True"),
            Value::Bool(false) => line.push("False"),
            Value::Int(number) => line.push(&number.to_string()),
            Value::BigInt(Str::Long(_)) => line.push("whole_number"),
            Value::BigInt(digits) => line.push(self.trace.str(digits)),
            Value::Float(number) => line.push(&format!("{number:?}")),
            Value::Text(Str::Long(place)) => {
                let bytes = self.trace.span(place).map_or(0, |span| span.len);
                line.push(&format!("<text of {bytes} bytes>"));
            }
            Value::Text(text) => quote(self.trace.str(text), line),
            Value::Bytes(place) => {
                let span = self.trace.span(place).unwrap_or_default();
                // A file that cannot be read any more is shown like one that is not asked.
                let first = self.source.and_then(|source| source.read_up_to(span.start, span.len.min(MAX_BYTES)).ok());
                match first.filter(|first| !first.is_empty()) {
                    Some(first) => {
                        line.push(&format!("b'{}'", first.escape_ascii()));
                        if first.len() as u64 != span.len {
                            line.push(&format!("… ({} bytes)", span.len));
                        }
                    }
                    None => line.push(&format!("<{} bytes>", span.len)),
                }
            }
            Value::Tuple(_) => {
                line.push("(");
                self.write_items(items(), depth, line);
                line.push(if items().len() == 1 { ",)" } else { ")" });
            }
            Value::List => {
                line.push("[");
                self.write_items(items(), depth, line);
                line.push("]");
            }
            Value::Dict => {
                line.push("{");
                self.write_pairs(items(), depth, line);
                line.push("}");
            }
            Value::Set | Value::FrozenSet(_) => {
                let frozen = self.trace.value(id) != Value::Set;
                line.push(if frozen { "frozenset({" } else { "{" });
                self.write_items(items(), depth, line);
                line.push(if frozen { "})" } else { "}" });
            }
            Value::Global(_) => {
                let path = self.trace.path_of(id).unwrap_or_default();
                for (index, part) in path.split(|c: char| c.is_control()).enumerate() {
                    line.push(if index == 0 { "" } else { "�" });
                    line.push(part);
                }
            }
            Value::Call(_) => match self.trace.call(id) {
                Some(call) => self.write_call(call, depth, line),
                None => line.push("unknown"),
            },
            Value::Persistent(inner) => {
                line.push("persistent_load(");
                self.write(inner, depth + 1, line);
                line.push(")");
            }
            Value::Buffer => line.push("buffer"),
            Value::Unknown => line.push("unknown"),
        }
    }
}

/// Text as Python writes it.
fn quote(text: &str, line: &mut Line) {
    line.push("'");
    for c in text.chars() {
        match c {
            '\'' => line.push("\\'"),
            '\\' => line.push("\\\\"),
            '\n' => line.push("\\n"),
            '\r' => line.push("\\r"),
            '\t' => line.push("\\t"),
            c if c.is_control() => line.push(&format!("\\x{:02x}", u32::from(c))),
            c => line.push(c.encode_utf8(&mut [0; 4])),
        }
        if line.full() {
            return;
        }
    }
    line.push("'");
}

/// The whole program of a pickle: imports, calls with what they return in variables, and the result.
pub(super) fn program(trace: &Trace, source: &Source) -> String {
    let mut writer = Writer { source: Some(source), ..Writer::new(trace) };
    let mut out = String::new();
    let mut imported = HashSet::new();
    for import in distinct(trace).map(|global| import(trace, global)) {
        if imported.insert(import.clone()) {
            let _ = writeln!(out, "{import}");
        }
    }
    // What a call returns, by the number of the call.
    let made = |id: Id| match trace.value(id) {
        Value::Call(index) => Some(index),
        _ => None,
    };
    let results: HashMap<u32, Id> = trace.ids().filter_map(|id| Some((made(id)?, id))).collect();
    for (number, call) in trace.calls.iter().enumerate() {
        if number == MAX_STATEMENTS {
            let _ = writeln!(out, "# … and {} more calls", trace.calls.len() - number);
            break;
        }
        let text = writer.call(call, MAX_STATEMENT);
        match u32::try_from(number).ok().and_then(|number| results.get(&number)) {
            Some(id) => {
                let name = format!("_{number}");
                let _ = writeln!(out, "{name} = {text}");
                writer.names.insert(*id, name);
            }
            None => _ = writeln!(out, "{text}"),
        }
    }
    match (&trace.fault, trace.root) {
        (Some(fault), _) => _ = writeln!(out, "# here the pickle breaks: {}", fault.reason),
        (None, Some(root)) => _ = writeln!(out, "result = {}", writer.value(root, MAX_STATEMENT)),
        (None, None) => {}
    }
    out
}

/// The first import of each name.
fn distinct(trace: &Trace) -> impl Iterator<Item = &Global> {
    let mut seen = HashSet::new();
    trace.globals.iter().filter(move |global| seen.insert(trace.path(global))).take(MAX_STATEMENTS)
}

/// The import of what a name lies in, as the program names it in full.
fn import(trace: &Trace, global: &Global) -> String {
    let (Some(module), Some(_)) = (global.module, global.name) else {
        return format!("# takes {}", trace.path(global));
    };
    let mut line = Line { text: String::new(), most: MAX_NAME };
    line.push(&begin(trace.str(module)).replace(|c: char| c.is_control(), "�"));
    format!("import {}", line.text)
}

/// What of a name is looked at for being shown.
fn begin(name: &str) -> &str {
    name.get(..name.floor_char_boundary(2 * MAX_NAME)).unwrap_or_default()
}
