//! A symbolic pickle machine: it follows a pickle's opcodes and executes nothing.
//!
//! A pickle is a program for a stack machine. This one keeps exact stack, mark and memo semantics
//! (those of CPython 3.11's `_pickle.c`, protocols 0 to 5), but an import yields a note of its name and a call
//! a note of what would be called with what. Those notes are the [`Trace`].
//!
//! Time is linear in the pickle's bytes; memory is at most a small multiple of them: values lie in
//! one arena and refer to each other by number, so neither depth nor cycles matter.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::bytes::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;
use crate::tensor::Span;

/// A value of a [`Trace`], by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

/// Text of a trace, by its place in the trace's own store or in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Str {
    /// Held in the trace.
    Held {
        /// Offset in the trace's text.
        at: u32,
        /// Length in bytes.
        len: u32,
    },
    /// Too long to hold: the number of its place in the file.
    Long(u32),
}

/// Items of a tuple, by their place in the trace's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items {
    start: u32,
    len: u32,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number of 64 bits.
    Int(i64),
    /// A whole number of more than 64 bits: its little-endian two's complement bytes, or its digits.
    BigInt(Str),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(Str),
    /// Bytes (`bytes`, `bytearray`, and Python 2 strings that are no text); the place of their content.
    Bytes(u32),
    /// A tuple.
    Tuple(Items),
    /// A frozen set.
    FrozenSet(Items),
    /// A list; see [`Trace::contents`].
    List,
    /// A dictionary; its contents are keys and values in turn.
    Dict,
    /// A set.
    Set,
    /// An import: index into [`Trace::globals`].
    Global(u32),
    /// What a call returns: index into [`Trace::calls`].
    Call(u32),
    /// An object that the loader finds by this identifier.
    Persistent(Id),
    /// Data that travels beside the pickle (protocol 5).
    Buffer,
    /// A value beyond the number that is kept.
    Unknown,
}

/// By which opcode an import is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `GLOBAL`: both names stand in the opcode.
    Global,
    /// `STACK_GLOBAL`: the names are taken from the stack.
    Stack,
    /// `INST`: an import with a call.
    Inst,
    /// `EXT1`, `EXT2`, `EXT4`: a number in the registry of `copyreg`, whose meaning the file does not hold.
    Extension(u32),
}

/// An import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Global {
    /// Module; `None` where it is computed by a call or taken from the extension registry.
    pub module: Option<Str>,
    /// Name within the module, dots included; `None` as above.
    pub name: Option<Str>,
    /// Offset of its opcode in the source.
    pub offset: u64,
    /// By which opcode.
    pub via: Via,
}

/// How something is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// `REDUCE`: `callee(*arguments)`.
    Reduce,
    /// `INST`: `callee(*arguments)`, the import included.
    Inst,
    /// `OBJ`: `callee(*arguments)`.
    Obj,
    /// `NEWOBJ`: `callee.__new__(callee, *arguments)`.
    NewObj,
    /// `NEWOBJ_EX`: the same with keyword arguments.
    NewObjEx,
    /// `BUILD`: `callee.__setstate__(arguments)`, or an update of its attributes.
    Build,
    /// `APPEND`, `APPENDS`: `callee.append` or `.extend`, on something else than a list.
    Append,
    /// `SETITEM`, `SETITEMS`: `callee[key] = value`, on something else than a dictionary.
    SetItem,
    /// `ADDITEMS`: `callee.add`, on something else than a set.
    Add,
}

/// A call that unpickling would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// How.
    pub kind: CallKind,
    /// What is called, or for `BUILD` and the item opcodes whose method is.
    pub callee: Id,
    /// The arguments: a tuple nearly always, the state for `BUILD`, a tuple of the items for item opcodes.
    pub arguments: Id,
    /// Keyword arguments of `NEWOBJ_EX`.
    pub keywords: Option<Id>,
    /// Offset of its opcode in the source.
    pub offset: u64,
}

/// Why and where a stream stops making sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the source of the opcode at fault.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
    /// Whether it is only that the source ends.
    pub cut: bool,
}

/// An array whose bytes stand within the stream, as joblib writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlineArray {
    /// The wrapper object that describes it.
    pub wrapper: Id,
    /// Its bytes in the source; empty where its elements are pickled.
    pub span: Span,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    offset: u64,
    value: Value,
}

/// What one pickle would do.
#[derive(Debug, Default)]
pub struct Trace {
    /// Highest protocol that a `PROTO` opcode names; 0 without one.
    pub protocol: u8,
    /// Offset of the first opcode.
    pub start: u64,
    /// One past the last opcode that was understood.
    pub end: u64,
    /// Opcodes that ran.
    pub opcodes: u64,
    /// The object that results; in a broken stream what there was of it.
    pub root: Option<Id>,
    /// Why the stream broke off, if it did.
    pub fault: Option<Fault>,
    /// What CPython would stumble over, though the stream could be followed further.
    pub oddities: Vec<Fault>,
    /// Every import, in order.
    pub globals: Vec<Global>,
    /// Every call, in order.
    pub calls: Vec<Call>,
    /// Every object that is asked for by an identifier, in order.
    pub persistent: Vec<Id>,
    /// Arrays within the stream (joblib).
    pub arrays: Vec<InlineArray>,
    nodes: Vec<Node>,
    text: String,
    spans: Vec<Span>,
    pool: Vec<Id>,
    contents: HashMap<Id, Vec<Id>>,
    state: HashMap<Id, Id>,
}

/// Values that are kept; further ones become [`Value::Unknown`].
const MAX_NODES: usize = 1 << 24;
/// Bytes of text that are held in all.
const MAX_TEXT: usize = 1 << 28;
/// Length of a text that is still held.
const LONG_TEXT: u64 = 64 * 1024;
/// Length of a line of the text protocols.
const MAX_LINE: u64 = 16 << 20;
/// Pickles within joblib's stream that may stand within each other.
const MAX_NESTED: usize = 64;

/// The value that stands for all beyond [`MAX_NODES`].
const UNKNOWN: Id = Id(3);

impl Trace {
    /// What a value is.
    pub fn value(&self, id: Id) -> Value {
        self.nodes.get(id.0 as usize).map_or(Value::Unknown, |node| node.value)
    }

    /// Offset in the source of the opcode that made a value; 0 for `None`, `True` and `False`, which are shared.
    pub fn offset(&self, id: Id) -> u64 {
        self.nodes.get(id.0 as usize).map_or(0, |node| node.offset)
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        self.nodes.len()
    }

    /// Text that is held; empty for one too long.
    pub fn str(&self, text: Str) -> &str {
        match text {
            Str::Held { at, len } => self.text.get(at as usize..at as usize + len as usize).unwrap_or_default(),
            Str::Long(_) => "",
        }
    }

    /// Place in the source of a long text or of bytes.
    pub fn span(&self, index: u32) -> Option<Span> {
        self.spans.get(index as usize).copied()
    }

    /// The text of a value, where it is text that is held.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text @ Str::Held { .. }) => Some(self.str(text)),
            _ => None,
        }
    }

    /// The whole number of a value.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.value(id) {
            Value::Int(number) => Some(number),
            Value::Bool(flag) => Some(i64::from(flag)),
            _ => None,
        }
    }

    /// The items of a tuple or list; for a dictionary keys and values in turn; for any other object what
    /// the item opcodes put into it.
    pub fn contents(&self, id: Id) -> &[Id] {
        match self.value(id) {
            Value::Tuple(items) | Value::FrozenSet(items) => {
                self.pool.get(items.start as usize..(items.start + items.len) as usize).unwrap_or_default()
            }
            _ => self.contents.get(&id).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    /// Keys and values of a dictionary.
    pub fn pairs(&self, id: Id) -> impl Iterator<Item = (Id, Id)> {
        self.contents(id).chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
    }

    /// The value of a text key in a dictionary; of a key that stands twice the last, as in Python.
    pub fn lookup(&self, id: Id, key: &str) -> Option<Id> {
        self.pairs(id).filter(|(name, _)| self.text(*name) == Some(key)).last().map(|(_, value)| value)
    }

    /// The state that the last `BUILD` gave to an object.
    pub fn state(&self, id: Id) -> Option<Id> {
        self.state.get(&id).copied()
    }

    /// The call that made a value.
    pub fn call(&self, id: Id) -> Option<&Call> {
        match self.value(id) {
            Value::Call(index) => self.calls.get(index as usize),
            _ => None,
        }
    }

    /// The import that a value is.
    pub fn global(&self, id: Id) -> Option<&Global> {
        match self.value(id) {
            Value::Global(index) => self.globals.get(index as usize),
            _ => None,
        }
    }

    /// `module.name` of an import, `?` for what cannot be known.
    pub fn path(&self, global: &Global) -> String {
        if let Via::Extension(code) = global.via {
            return format!("copyreg extension {code}");
        }
        let part = |text: Option<Str>| text.map_or("?", |text| self.str(text));
        format!("{}.{}", part(global.module), part(global.name))
    }

    /// `module.name` of what a value is, where it is an import.
    pub fn path_of(&self, id: Id) -> Option<String> {
        self.global(id).map(|global| self.path(global))
    }

    /// Whether a value is the import of `module.name`.
    pub fn is_global(&self, id: Id, module: &str, name: &str) -> bool {
        let equal = |text: Option<Str>, to: &str| text.is_some_and(|text| self.str(text) == to);
        self.global(id).is_some_and(|global| equal(global.module, module) && equal(global.name, name))
    }
}

/// Follows the pickle that begins at `start`. An error only where the source cannot be read; a broken
/// stream yields what ran before the break.
pub fn run(source: &Source, start: u64) -> Result<Trace> {
    let mut machine = Machine {
        reader: Reader::new(source, start),
        trace: Trace { start, ..Trace::default() },
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        outer: Vec::new(),
    };
    for value in [Value::None, Value::Bool(false), Value::Bool(true), Value::Unknown] {
        machine.trace.nodes.push(Node { offset: 0, value });
    }
    loop {
        let offset = machine.reader.offset();
        let (reason, cut) = match machine.step(offset) {
            Ok(false) => continue,
            Ok(true) => return Ok(machine.trace),
            Err(Stop::Fault(reason)) => (Cow::Borrowed(reason), false),
            Err(Stop::Words(reason)) => (Cow::Owned(reason), false),
            Err(Stop::Source(error)) if error.kind() == ErrorKind::Malformed => match machine.reader.remaining() {
                0 => (Cow::Borrowed("the file ends before the pickle does"), true),
                _ => (Cow::Owned(error.message().to_string()), true),
            },
            Err(Stop::Source(error)) => return Err(error),
        };
        machine.trace.fault = Some(Fault { offset, reason: reason.into_owned(), cut });
        machine.trace.end = if cut { source.len() } else { offset };
        machine.salvage();
        return Ok(machine.trace);
    }
}

/// Why a step fails.
enum Stop {
    Fault(&'static str),
    Words(String),
    Source(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Source(error)
    }
}

type Step<T> = Result<T, Stop>;

const UNDERFLOW: Stop = Stop::Fault("an opcode takes more from the stack than is there");

/// A pickle that waits until one within its stream has ended (joblib).
struct Outer {
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

struct Machine<'a> {
    reader: Reader<'a>,
    trace: Trace,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    outer: Vec<Outer>,
}

/// A number as an index; saturates, and the arenas never grow that far.
fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Machine<'_> {
    fn node(&mut self, offset: u64, value: Value) -> Id {
        if self.trace.nodes.len() >= MAX_NODES {
            return UNKNOWN;
        }
        self.trace.nodes.push(Node { offset, value });
        Id(index(self.trace.nodes.len() - 1))
    }

    fn push(&mut self, offset: u64, value: Value) {
        let id = self.node(offset, value);
        self.stack.push(id);
    }

    /// Where the part of the stack begins that opcodes may take from.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.fence() {
            return Err(UNDERFLOW);
        }
        self.stack.pop().ok_or(UNDERFLOW)
    }

    fn top(&self) -> Step<Id> {
        if self.stack.len() <= self.fence() {
            return Err(UNDERFLOW);
        }
        self.stack.last().copied().ok_or(UNDERFLOW)
    }

    fn pop_mark(&mut self) -> Step<usize> {
        self.marks.pop().ok_or(Stop::Fault("an opcode looks for a mark, and there is none"))
    }

    /// Takes everything above the last mark off the stack.
    fn pop_items(&mut self) -> Step<Vec<Id>> {
        let mark = self.pop_mark()?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn tuple(&mut self, offset: u64, items: &[Id]) -> Id {
        let start = self.trace.pool.len();
        if start + items.len() > u32::MAX as usize || self.trace.nodes.len() >= MAX_NODES {
            return UNKNOWN;
        }
        self.trace.pool.extend_from_slice(items);
        self.node(offset, Value::Tuple(Items { start: index(start), len: index(items.len()) }))
    }

    fn hold(&mut self, text: &str) -> Option<Str> {
        let at = self.trace.text.len();
        if at + text.len() > MAX_TEXT {
            return None;
        }
        self.trace.text.push_str(text);
        Some(Str::Held { at: index(at), len: index(text.len()) })
    }

    fn place(&mut self, span: Span) -> u32 {
        self.trace.spans.push(span);
        index(self.trace.spans.len() - 1)
    }

    /// The number of the place of `len` bytes from here, which are stepped over.
    fn skip(&mut self, len: u64) -> Step<u32> {
        let span = Span { start: self.reader.offset(), len };
        self.reader.skip(len)?;
        Ok(self.place(span))
    }

    /// Text of declared length.
    fn text(&mut self, len: u64) -> Step<Str> {
        if len > LONG_TEXT {
            return Ok(Str::Long(self.skip(len)?));
        }
        let start = self.reader.offset();
        let bytes = self.reader.bytes(len)?;
        let text = utf8(&bytes).ok_or(Stop::Fault("text that is not UTF-8"))?;
        Ok(match self.hold(&text) {
            Some(held) => held,
            None => Str::Long(self.place(Span { start, len })),
        })
    }

    fn line(&mut self) -> Step<Vec<u8>> {
        Ok(self.reader.line(MAX_LINE)?)
    }

    /// A Python 2 string: text where it can be.
    fn string(&mut self, offset: u64, bytes: &[u8], start: u64) {
        let held = std::str::from_utf8(bytes).ok().and_then(|text| self.hold(text));
        let value = match held {
            Some(text) => Value::Text(text),
            None => Value::Bytes(self.place(Span { start, len: bytes.len() as u64 })),
        };
        self.push(offset, value);
    }

    /// A name of an import: a line of the text protocols.
    fn name_line(&mut self) -> Step<Option<Str>> {
        let line = self.line()?;
        let text = utf8(&line).ok_or(Stop::Fault("a name that is not UTF-8"))?;
        Ok(self.hold(&text))
    }

    fn import(&mut self, offset: u64, module: Option<Str>, name: Option<Str>, via: Via) -> Id {
        self.trace.globals.push(Global { module, name, offset, via });
        let index = index(self.trace.globals.len() - 1);
        self.node(offset, Value::Global(index))
    }

    /// A name that `STACK_GLOBAL` takes from the stack; `None` where a call computes it.
    fn stack_name(&mut self) -> Step<Option<Str>> {
        let id = self.pop()?;
        match self.trace.value(id) {
            Value::Text(Str::Long(place)) => {
                // Its begin is enough to show; nothing that long is a name that a program wrote.
                let span = self.trace.span(place).unwrap_or(Span { start: 0, len: 0 });
                let bytes = self.reader.source().read_up_to(span.start, span.len.min(4096))?;
                Ok(self.hold(&String::from_utf8_lossy(&bytes)))
            }
            Value::Text(text) => Ok(Some(text)),
            // What a call returns, or what the file does not hold, may be text when it runs.
            Value::Call(_) | Value::Persistent(_) | Value::Global(_) | Value::Unknown => Ok(None),
            _ => Err(Stop::Fault("STACK_GLOBAL takes something else than text for a name")),
        }
    }

    fn note(&mut self, kind: CallKind, callee: Id, arguments: Id, keywords: Option<Id>, offset: u64) -> u32 {
        self.trace.calls.push(Call { kind, callee, arguments, keywords, offset });
        index(self.trace.calls.len() - 1)
    }

    fn call(&mut self, kind: CallKind, callee: Id, arguments: Id, keywords: Option<Id>, offset: u64) {
        let index = self.note(kind, callee, arguments, keywords, offset);
        self.push(offset, Value::Call(index));
    }

    /// Puts items into the object on top of the stack; a call where that is no plain container.
    fn put_items(&mut self, offset: u64, items: &[Id], kind: CallKind, plain: Value) -> Step<()> {
        let target = self.top()?;
        if self.trace.value(target) != plain && !items.is_empty() {
            let arguments = self.tuple(offset, items);
            self.note(kind, target, arguments, None, offset);
        }
        if !items.is_empty() && target != UNKNOWN {
            self.trace.contents.entry(target).or_default().extend_from_slice(items);
        }
        Ok(())
    }

    fn odd(&mut self, offset: u64, reason: String) {
        if self.trace.oddities.len() < 20 {
            self.trace.oddities.push(Fault { offset, reason, cut: false });
        }
    }

    fn remember(&mut self, index: u64) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Step<()> {
        let id = self.memo.get(&index).copied();
        let id = id.ok_or_else(|| Stop::Words(format!("memo entry {index} is asked for, but was never made")))?;
        self.stack.push(id);
        Ok(())
    }

    /// A number in decimal digits, as the memo opcodes of the text protocols have it.
    fn index_line(&mut self) -> Step<u64> {
        let line = self.line()?;
        let text = std::str::from_utf8(&line).ok().map(str::trim);
        text.and_then(|text| text.parse().ok()).ok_or(Stop::Fault("a memo index that is not a number"))
    }

    fn long(&mut self, offset: u64, len: u64) -> Step<()> {
        if len > 8 {
            let place = self.skip(len)?;
            self.push(offset, Value::BigInt(Str::Long(place)));
            return Ok(());
        }
        let bytes = self.reader.bytes(len)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        for (to, from) in wide.iter_mut().zip(&bytes) {
            *to = *from;
        }
        self.push(offset, Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    /// A number in text: `I` and `L` lines.
    fn number_line(&mut self, offset: u64, long: bool) -> Step<()> {
        let line = self.line()?;
        let text = std::str::from_utf8(&line).map(str::trim).unwrap_or_default();
        let text = if long { text.strip_suffix(['L', 'l']).unwrap_or(text) } else { text };
        let digits = text.trim_start_matches(['-', '+']);
        let value = if !long && matches!(&*line, b"00" | b"01") {
            Value::Bool(text == "01")
        } else if let Ok(number) = text.parse() {
            Value::Int(number)
        } else if let Some(number) = digits.strip_prefix("0x").and_then(|hex| i64::from_str_radix(hex, 16).ok()) {
            Value::Int(if text.starts_with('-') { number.wrapping_neg() } else { number })
        } else if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let digits = text.to_string();
            self.hold(&digits).map_or(Value::Unknown, Value::BigInt)
        } else {
            return Err(Stop::Fault("a number that is none"));
        };
        self.push(offset, value);
        Ok(())
    }

    /// One opcode; whether it was the last.
    fn step(&mut self, offset: u64) -> Step<bool> {
        let opcode = self.reader.u8()?;
        match opcode {
            // Stack, marks and memo.
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_items()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'p' => {
                let index = self.index_line()?;
                self.remember(index)?;
            }
            b'q' => {
                let index = self.reader.u8()?;
                self.remember(u64::from(index))?;
            }
            b'r' => {
                let index = self.reader.u32()?;
                self.remember(u64::from(index))?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => {
                let index = self.index_line()?;
                self.recall(index)?;
            }
            b'h' => {
                let index = self.reader.u8()?;
                self.recall(u64::from(index))?;
            }
            b'j' => {
                let index = self.reader.u32()?;
                self.recall(u64::from(index))?;
            }

            // Plain values.
            b'N' => self.stack.push(Id(0)),
            0x89 => self.stack.push(Id(1)),
            0x88 => self.stack.push(Id(2)),
            b'I' => self.number_line(offset, false)?,
            b'L' => self.number_line(offset, true)?,
            b'J' => {
                let number = self.reader.i32()?;
                self.push(offset, Value::Int(i64::from(number)));
            }
            b'K' => {
                let number = self.reader.u8()?;
                self.push(offset, Value::Int(i64::from(number)));
            }
            b'M' => {
                let number = self.reader.u16()?;
                self.push(offset, Value::Int(i64::from(number)));
            }
            0x8a => {
                let len = self.reader.u8()?;
                self.long(offset, u64::from(len))?;
            }
            0x8b => {
                let len = self.reader.i32()?;
                let len = u64::try_from(len).map_err(|_| Stop::Fault("a number of negative length"))?;
                self.long(offset, len)?;
            }
            b'F' => {
                let line = self.line()?;
                let number = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok());
                self.push(offset, Value::Float(number.ok_or(Stop::Fault("a number that is none"))?));
            }
            b'G' => {
                let bits = self.reader.u64()?;
                self.push(offset, Value::Float(f64::from_bits(bits.swap_bytes())));
            }
            b'S' => {
                let start = self.reader.offset();
                let line = self.line()?;
                let line = line.trim_ascii();
                let quote = line.first().filter(|quote| matches!(quote, b'\'' | b'"'));
                let inner = match quote {
                    Some(quote) if line.len() >= 2 && line.last() == Some(quote) => line.get(1..line.len() - 1),
                    _ => None,
                };
                let inner = inner.ok_or(Stop::Fault("a string without its quotes"))?;
                let bytes = unescape(inner).ok_or(Stop::Fault("a string with a broken escape"))?;
                self.string(offset, &bytes, start);
            }
            b'T' => {
                let len = self.reader.i32()?;
                let len = u64::try_from(len).map_err(|_| Stop::Fault("a string of negative length"))?;
                self.binstring(offset, len)?;
            }
            b'U' => {
                let len = self.reader.u8()?;
                self.binstring(offset, u64::from(len))?;
            }
            b'V' => {
                let start = self.reader.offset();
                let line = self.line()?;
                let text = unescape_unicode(&line).ok_or(Stop::Fault("text with a broken escape"))?;
                let text = match self.hold(&text) {
                    Some(held) => held,
                    None => Str::Long(self.place(Span { start, len: line.len() as u64 })),
                };
                self.push(offset, Value::Text(text));
            }
            b'X' | 0x8c | 0x8d => {
                let len = self.length(opcode)?;
                let text = self.text(len)?;
                self.push(offset, Value::Text(text));
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let len = self.length(opcode)?;
                let place = self.skip(len)?;
                self.push(offset, Value::Bytes(place));
            }
            0x97 => self.push(offset, Value::Buffer),
            0x98 => {
                self.top()?;
            }

            // Containers.
            b']' => self.push(offset, Value::List),
            b'}' => self.push(offset, Value::Dict),
            0x8f => self.push(offset, Value::Set),
            b')' => {
                let id = self.tuple(offset, &[]);
                self.stack.push(id);
            }
            b't' => {
                let items = self.pop_items()?;
                let id = self.tuple(offset, &items);
                self.stack.push(id);
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let at = self.stack.len().checked_sub(count).filter(|at| *at >= self.fence()).ok_or(UNDERFLOW)?;
                let items = self.stack.split_off(at);
                let id = self.tuple(offset, &items);
                self.stack.push(id);
            }
            0x91 => {
                let items = self.pop_items()?;
                let id = self.tuple(offset, &items);
                let set = match self.trace.value(id) {
                    Value::Tuple(items) => Value::FrozenSet(items),
                    other => other,
                };
                self.push(offset, set);
            }
            b'l' | b'd' => {
                let items = self.pop_items()?;
                if opcode == b'd' && items.len() % 2 == 1 {
                    return Err(Stop::Fault("an odd number of items for a dictionary"));
                }
                let id = self.node(offset, if opcode == b'l' { Value::List } else { Value::Dict });
                if !items.is_empty() && id != UNKNOWN {
                    self.trace.contents.insert(id, items);
                }
                self.stack.push(id);
            }
            b'a' => {
                let item = self.pop()?;
                self.put_items(offset, &[item], CallKind::Append, Value::List)?;
            }
            b'e' => {
                let items = self.pop_items()?;
                self.put_items(offset, &items, CallKind::Append, Value::List)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.put_items(offset, &[key, value], CallKind::SetItem, Value::Dict)?;
            }
            b'u' => {
                let items = self.pop_items()?;
                if items.len() % 2 == 1 {
                    return Err(Stop::Fault("an odd number of items for a dictionary"));
                }
                self.put_items(offset, &items, CallKind::SetItem, Value::Dict)?;
            }
            0x90 => {
                let items = self.pop_items()?;
                self.put_items(offset, &items, CallKind::Add, Value::Set)?;
            }

            // Imports and calls.
            b'c' => {
                let module = self.name_line()?;
                let name = self.name_line()?;
                let id = self.import(offset, module, name, Via::Global);
                self.stack.push(id);
            }
            0x93 => {
                let name = self.stack_name()?;
                let module = self.stack_name()?;
                let id = self.import(offset, module, name, Via::Stack);
                self.stack.push(id);
            }
            0x82..=0x84 => {
                let code = match opcode {
                    0x82 => u32::from(self.reader.u8()?),
                    0x83 => u32::from(self.reader.u16()?),
                    _ => self.reader.u32()?,
                };
                if code == 0 || code > u32::MAX >> 1 {
                    return Err(Stop::Fault("an extension code that is not positive"));
                }
                let id = self.import(offset, None, None, Via::Extension(code));
                self.stack.push(id);
            }
            b'i' => {
                let module = self.name_line()?;
                let name = self.name_line()?;
                let items = self.pop_items()?;
                let callee = self.import(offset, module, name, Via::Inst);
                let arguments = self.tuple(offset, &items);
                self.call(CallKind::Inst, callee, arguments, None, offset);
            }
            b'o' => {
                let items = self.pop_items()?;
                let Some((callee, items)) = items.split_first() else { return Err(UNDERFLOW) };
                let arguments = self.tuple(offset, items);
                self.call(CallKind::Obj, *callee, arguments, None, offset);
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callee = self.pop()?;
                let kind = if opcode == b'R' { CallKind::Reduce } else { CallKind::NewObj };
                self.call(kind, callee, arguments, None, offset);
            }
            0x92 => {
                let keywords = self.pop()?;
                let arguments = self.pop()?;
                let callee = self.pop()?;
                self.call(CallKind::NewObjEx, callee, arguments, Some(keywords), offset);
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                self.note(CallKind::Build, target, state, None, offset);
                if target != UNKNOWN {
                    self.trace.state.insert(target, state);
                }
                self.inline_array(target, state)?;
            }
            b'P' => {
                let line = self.line()?;
                let text = utf8(&line).ok_or(Stop::Fault("an identifier that is not text"))?;
                let held = self.hold(&text).map_or(Value::Unknown, Value::Text);
                let id = self.node(offset, held);
                self.ask(offset, id);
            }
            b'Q' => {
                let id = self.pop()?;
                self.ask(offset, id);
            }

            // The stream itself.
            0x80 => {
                let protocol = self.reader.u8()?;
                if protocol > 5 {
                    return Err(Stop::Words(format!("protocol {protocol}, which no Python knows")));
                }
                self.trace.protocol = self.trace.protocol.max(protocol);
            }
            0x95 => {
                let len = self.reader.u64()?;
                if len > self.reader.remaining() {
                    let there = self.reader.remaining();
                    self.odd(offset, format!("a frame of {len} bytes, of which {there} are there"));
                }
            }
            b'.' => {
                let root = self.pop()?;
                self.trace.opcodes += 1;
                let Some(outer) = self.outer.pop() else {
                    self.trace.root = Some(root);
                    self.trace.end = self.reader.offset();
                    return Ok(true);
                };
                (self.stack, self.marks, self.memo) = (outer.stack, outer.marks, outer.memo);
                return Ok(false);
            }
            _ => return Err(Stop::Words(format!("byte {opcode:#04x} is no opcode"))),
        }
        self.trace.opcodes += 1;
        Ok(false)
    }

    /// Length that precedes text or bytes, as wide as the opcode has it.
    fn length(&mut self, opcode: u8) -> Step<u64> {
        Ok(match opcode {
            b'C' | 0x8c => u64::from(self.reader.u8()?),
            b'X' | b'B' => u64::from(self.reader.u32()?),
            _ => self.reader.u64()?,
        })
    }

    fn binstring(&mut self, offset: u64, len: u64) -> Step<()> {
        if len > LONG_TEXT {
            let place = self.skip(len)?;
            self.push(offset, Value::Bytes(place));
            return Ok(());
        }
        let start = self.reader.offset();
        let bytes = self.reader.bytes(len)?;
        self.string(offset, &bytes, start);
        Ok(())
    }

    fn ask(&mut self, offset: u64, id: Id) {
        let id = self.node(offset, Value::Persistent(id));
        self.trace.persistent.push(id);
        self.stack.push(id);
    }

    /// joblib writes an array's bytes into the stream, right after the `BUILD` of its wrapper
    /// (joblib/numpy_pickle.py, `NumpyArrayWrapper.read_array`).
    fn inline_array(&mut self, wrapper: Id, state: Id) -> Step<()> {
        let Some(callee) = self.trace.call(wrapper).map(|call| call.callee) else { return Ok(()) };
        if !self.trace.is_global(callee, "joblib.numpy_pickle", "NumpyArrayWrapper") {
            return Ok(());
        }
        let Some(layout) = super::inline_layout(&self.trace, state) else {
            return Err(Stop::Fault("an array in joblib's form whose type or shape cannot be read"));
        };
        let Some(size) = layout.bytes else {
            // Objects: a pickle of its own follows, then this one goes on.
            if self.outer.len() >= MAX_NESTED {
                return Err(Stop::Fault("too many pickles within each other"));
            }
            self.trace.arrays.push(InlineArray { wrapper, span: Span { start: self.reader.offset(), len: 0 } });
            self.outer.push(Outer {
                stack: std::mem::take(&mut self.stack),
                marks: std::mem::take(&mut self.marks),
                memo: std::mem::take(&mut self.memo),
            });
            return Ok(());
        };
        if layout.aligned {
            let filling = self.reader.u8()?;
            if filling != 0xff {
                self.reader.skip(u64::from(filling))?;
            }
        }
        let span = Span { start: self.reader.offset(), len: size };
        self.trace.arrays.push(InlineArray { wrapper, span });
        self.reader.skip(size)?;
        Ok(())
    }

    /// Puts what a broken stream left on the stack where it was meant to go, so that a cut state dict
    /// still lists its first tensors.
    fn salvage(&mut self) {
        if let Some(first) = self.outer.drain(..).next() {
            (self.stack, self.marks) = (first.stack, first.marks);
        }
        while let Some(mark) = self.marks.pop() {
            let mut items = self.stack.split_off(mark.min(self.stack.len()));
            let Some(target) = self.stack.last().copied() else {
                // Items of an outermost tuple or `(`-built container.
                self.stack = items;
                continue;
            };
            if self.trace.value(target) != Value::List && items.len() % 2 == 1 {
                items.pop();
            }
            if matches!(self.trace.value(target), Value::List | Value::Dict | Value::Set | Value::Call(_)) {
                self.trace.contents.entry(target).or_default().extend(items);
            }
        }
        self.trace.root = self.stack.first().copied();
    }
}

/// Text in UTF-8, lone surrogates (which Python's pickle lets pass) replaced.
fn utf8(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let Err(error) = std::str::from_utf8(bytes) else { return Some(String::from_utf8_lossy(bytes)) };
    let mut at = error.valid_up_to();
    loop {
        let surrogate =
            matches!(bytes.get(at..at + 3), Some([0xed, 0xa0..=0xbf, third]) if (0x80..=0xbf).contains(third));
        if !surrogate {
            return None;
        }
        at += 3;
        match std::str::from_utf8(bytes.get(at..)?) {
            Ok(_) => return Some(Cow::Owned(String::from_utf8_lossy(bytes).into_owned())),
            Err(error) => at += error.valid_up_to(),
        }
    }
}

/// The bytes of a Python string literal's inside.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'\n' => {}
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b't' => bytes.push(b'\t'),
            b'n' => bytes.push(b'\n'),
            b'v' => bytes.push(11),
            b'f' => bytes.push(12),
            b'r' => bytes.push(b'\r'),
            quoted @ (b'\\' | b'\'' | b'"') => bytes.push(quoted),
            b'x' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            first @ b'0'..=b'7' => {
                let mut number = u32::from(first - b'0');
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|byte| matches!(byte, b'0'..=b'7')) else { break };
                    number = number * 8 + u32::from(digit - b'0');
                }
                bytes.push(u8::try_from(number & 0xff).ok()?);
            }
            other => bytes.extend([b'\\', other]),
        }
    }
    Some(bytes)
}

/// Text in Python's `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
fn unescape_unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        if digits == 0 {
            text.push(char::from(*byte));
            // A doubled backslash keeps what follows from being an escape.
            if byte == &b'\\' && line.get(at + 1) == Some(&b'\\') {
                text.push('\\');
                at += 1;
            }
            at += 1;
            continue;
        }
        let code = std::str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
        let code = u32::from_str_radix(code, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        at += 2 + digits;
    }
    Some(text)
}
