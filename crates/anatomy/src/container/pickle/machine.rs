//! A symbolic pickle machine: it follows a pickle's opcodes and executes nothing.
//!
//! A pickle is a program for a stack machine. This one keeps exact stack, mark and memo semantics
//! (those of CPython 3.11's `_pickle.c`, protocols 0 to 5), but an import yields a note of its name and a call
//! a note of what would be called with what. Those notes are the [`Trace`]. Where CPython's two implementations
//! differ, the machine goes on as the more patient one does.
//!
//! Time is linear in the pickle's bytes; memory is at most some thirty times them.

use std::borrow::Cow;

use super::memo::Memo;
use super::text::{number, unescape, unescape_unicode, utf8};
use super::trace::{
    Call, CallKind, EMPTY, FALSE, Fault, Global, Id, InlineArray, Map, NONE, Str, TRUE, Trace, UNKNOWN, Value, Via,
    index,
};
use crate::bytes::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;
use crate::tensor::Span;

/// Length of a text that is still held.
const LONG_TEXT: u64 = 64 * 1024;
/// Length to which a line of the text protocols is held.
const LONG_LINE: usize = 16 << 20;
/// Pickles within joblib's stream that may stand within each other.
const MAX_NESTED: usize = 64;
/// Calls that are kept.
const MAX_CALLS: usize = 1 << 24;

/// How a loader reads what follows the description of an array in joblib's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// As the array's bytes.
    Joblib,
    /// As the next opcodes, for `pickle.load` knows no such arrays.
    Plain,
}

/// Follows the pickle that begins at `start`. An error only where the source cannot be read; a broken
/// stream yields what ran before the break.
pub fn run(source: &Source, start: u64) -> Result<Trace> {
    run_next(&mut Reader::new(source, start), Loader::Joblib)
}

/// As [`run`], from where the reader is; it is left after the last opcode.
pub fn run_next(reader: &mut Reader, loader: Loader) -> Result<Trace> {
    let end = reader.source().len();
    let trace = Trace::new(reader.offset());
    let (stack, marks, memo, outer) = (Vec::new(), Vec::new(), Memo::default(), Vec::new());
    let mut machine =
        Machine { reader, trace, stack, marks, memo, outer, loader, partial: false, long_names: Map::default() };
    loop {
        let offset = machine.reader.offset();
        let (reason, cut) = match machine.step(offset) {
            Ok(false) => continue,
            Ok(true) => return Ok(machine.trace),
            Err(Stop::Fault(_) | Stop::Words(_)) if machine.partial => (Cow::Borrowed(ENDS), true),
            Err(Stop::Fault(reason)) => (Cow::Borrowed(reason), false),
            Err(Stop::Words(reason)) => (Cow::Owned(reason), false),
            Err(Stop::Source(error)) if error.kind() == ErrorKind::Malformed => match machine.reader.remaining() {
                0 => (Cow::Borrowed(ENDS), true),
                _ => (Cow::Owned(error.message().to_string()), true),
            },
            Err(Stop::Source(error)) => return Err(error),
        };
        machine.trace.fault = Some(Fault { offset, reason: reason.into_owned(), cut });
        machine.trace.end = if cut { end } else { offset };
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

const ENDS: &str = "the file ends before the pickle does";
const UNDERFLOW: Stop = Stop::Fault("an opcode takes more from the stack than is there");

/// A pickle that waits until one within its stream has ended (joblib).
struct Outer {
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Memo,
}

struct Machine<'r, 'a> {
    reader: &'r mut Reader<'a>,
    trace: Trace,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Memo,
    outer: Vec<Outer>,
    loader: Loader,
    /// Whether the file ended within a line.
    partial: bool,
    /// What stands for names that are too long to be any.
    long_names: Map<u32, Str>,
}

impl Machine<'_, '_> {
    fn push(&mut self, offset: u64, value: Value) {
        let id = self.trace.keep(offset, value);
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

    /// The number of the place of `len` bytes from here, which are stepped over.
    fn skip(&mut self, len: u64) -> Step<u32> {
        let span = Span { start: self.reader.offset(), len };
        self.reader.skip(len)?;
        Ok(self.trace.place(span))
    }

    /// Text of declared length.
    fn text(&mut self, len: u64) -> Step<Str> {
        if len > LONG_TEXT {
            return Ok(Str::Long(self.skip(len)?));
        }
        let start = self.reader.offset();
        let bytes = self.reader.borrow(len)?;
        let text = utf8(&bytes).ok_or(Stop::Fault("text that is not UTF-8"))?;
        Ok(match self.trace.hold(&text) {
            Some(held) => held,
            None => Str::Long(self.trace.place(Span { start, len })),
        })
    }

    /// A line of the text protocols. Of one that is longer than any that a program writes only the first part is kept.
    fn line(&mut self) -> Step<Vec<u8>> {
        let (mut line, whole) = self.reader.line(LONG_LINE)?;
        if !whole {
            // CPython's Python code goes on with what there is, but for the last byte, which it takes for the newline.
            line.pop();
            self.partial = true;
        }
        Ok(line)
    }

    /// A Python 2 string: text where it can be.
    fn string(&mut self, offset: u64, bytes: &[u8], start: u64) {
        let held = std::str::from_utf8(bytes).ok().and_then(|text| self.trace.hold(text));
        let value = match held {
            Some(text) => Value::Text(text),
            None => Value::Bytes(self.trace.place(Span { start, len: bytes.len() as u64 })),
        };
        self.push(offset, value);
    }

    /// A name of an import: a line of the text protocols.
    fn name_line(&mut self) -> Step<Option<Str>> {
        let line = self.line()?;
        let text = utf8(&line).ok_or(Stop::Fault("a name that is not UTF-8"))?;
        Ok(self.trace.hold(&text))
    }

    fn import(&mut self, offset: u64, module: Option<Str>, name: Option<Str>, via: Via) -> Id {
        self.trace.globals.push(Global { module, name, offset, via });
        let index = index(self.trace.globals.len() - 1);
        self.trace.keep(offset, Value::Global(index))
    }

    /// A name that `STACK_GLOBAL` takes from the stack; `None` where a call computes it.
    fn stack_name(&mut self) -> Step<Option<Str>> {
        let id = self.pop()?;
        match self.trace.value(id) {
            Value::Text(Str::Long(place)) if self.long_names.contains_key(&place) => {
                Ok(self.long_names.get(&place).copied())
            }
            Value::Text(Str::Long(place)) => {
                // Its begin is enough to show; nothing that long is a name that a program wrote.
                let span = self.trace.span(place).unwrap_or(Span { start: 0, len: 0 });
                let bytes = self.reader.source().read_up_to(span.start, span.len.min(4096))?;
                let name = self.trace.hold(&String::from_utf8_lossy(&bytes));
                self.long_names.extend(name.map(|name| (place, name)));
                Ok(name)
            }
            Value::Text(text) => Ok(Some(text)),
            // What a call returns, or what the file does not hold, may be text when it runs.
            Value::Call(_) | Value::Persistent(_) | Value::Global(_) | Value::Unknown => Ok(None),
            _ => Err(Stop::Fault("STACK_GLOBAL takes something else than text for a name")),
        }
    }

    fn note(&mut self, kind: CallKind, callee: Id, arguments: Id, keywords: Option<Id>, offset: u64) -> u32 {
        if self.trace.calls.len() >= MAX_CALLS {
            self.trace.exhausted = true;
            return u32::MAX;
        }
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
            let arguments = self.trace.keep_tuple(offset, items);
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

    fn remember(&mut self, offset: u64, index: u64) -> Step<()> {
        let top = self.top()?;
        if index > self.reader.source().len() {
            self.odd(offset, format!("memo entry {index}, for which Python needs more memory than there is"));
        }
        self.memo.set(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Step<()> {
        let id = self.memo.get(index);
        let id = id.ok_or_else(|| Stop::Words(format!("memo entry {index} is asked for, but was never made")))?;
        self.stack.push(id);
        self.trace.recalls += 1;
        Ok(())
    }

    /// A number in decimal digits, as the memo opcodes of the text protocols have it.
    fn index_line(&mut self) -> Step<u64> {
        let line = self.line()?;
        let text = number(&line).replace('_', "");
        let index = text.parse::<i64>().ok().and_then(|index| u64::try_from(index).ok());
        index.ok_or(Stop::Fault("a memo index that is not a number"))
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
        let text = number(&line);
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
            self.trace.hold(&digits).map_or(Value::Unknown, Value::BigInt)
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
                self.trace.recalls += 1;
            }
            b'p' => {
                let index = self.index_line()?;
                self.remember(offset, index)?;
            }
            b'q' => {
                let index = self.reader.u8()?;
                self.remember(offset, u64::from(index))?;
            }
            b'r' => {
                let index = self.reader.u32()?;
                self.remember(offset, u64::from(index))?;
            }
            0x94 => self.remember(offset, self.memo.len)?,
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
            b'N' => self.stack.push(NONE),
            0x89 => self.stack.push(FALSE),
            0x88 => self.stack.push(TRUE),
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
                let number = number(&line).replace('_', "").parse().ok();
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
                let text = match self.trace.hold(&text) {
                    Some(held) => held,
                    None => Str::Long(self.trace.place(Span { start, len: line.len() as u64 })),
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
            0x97 => {
                self.odd(offset, "data that must travel beside the pickle, which a file does not".into());
                self.push(offset, Value::Buffer);
            }
            0x98 => {
                self.top()?;
            }

            // Containers.
            b']' => self.push(offset, Value::List),
            b'}' => self.push(offset, Value::Dict),
            0x8f => self.push(offset, Value::Set),
            b')' => self.stack.push(EMPTY),
            b't' => {
                let items = self.pop_items()?;
                let id = self.trace.keep_tuple(offset, &items);
                self.stack.push(id);
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let at = self.stack.len().checked_sub(count).filter(|at| *at >= self.fence()).ok_or(UNDERFLOW)?;
                let items = self.stack.split_off(at);
                let id = self.trace.keep_tuple(offset, &items);
                self.stack.push(id);
            }
            0x91 => {
                let items = self.pop_items()?;
                let id = self.trace.keep_tuple(offset, &items);
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
                let id = self.trace.keep(offset, if opcode == b'l' { Value::List } else { Value::Dict });
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
                // Python's own code sets the pairs one by one before it stumbles.
                let (pairs, rest) = items.split_at(items.len() / 2 * 2);
                self.put_items(offset, pairs, CallKind::SetItem, Value::Dict)?;
                if !rest.is_empty() {
                    return Err(Stop::Fault("an odd number of items for a dictionary"));
                }
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
                // Python's own code imports before it looks for the mark.
                let callee = self.import(offset, module, name, Via::Inst);
                let items = self.pop_items()?;
                let arguments = self.trace.keep_tuple(offset, &items);
                self.call(CallKind::Inst, callee, arguments, None, offset);
            }
            b'o' => {
                let items = self.pop_items()?;
                let Some((callee, items)) = items.split_first() else { return Err(UNDERFLOW) };
                let arguments = self.trace.keep_tuple(offset, items);
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
                let held = self.trace.hold(&text).map_or(Value::Unknown, Value::Text);
                let id = self.trace.keep(offset, held);
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
                    if !self.stack.is_empty() || !self.marks.is_empty() {
                        let left = self.stack.len() + self.marks.len();
                        self.odd(offset, format!("{left} values or marks are left over at the end"));
                    }
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
        let id = self.trace.keep(offset, Value::Persistent(id));
        self.trace.persistent.push(id);
        self.stack.push(id);
    }

    /// joblib writes an array's bytes into the stream, right after the `BUILD` of its wrapper
    /// (joblib/numpy_pickle.py, `NumpyArrayWrapper.read_array`).
    fn inline_array(&mut self, wrapper: Id, state: Id) -> Step<()> {
        let Some(callee) = self.trace.call(wrapper).map(|call| call.callee) else { return Ok(()) };
        if self.loader == Loader::Plain || !self.trace.is_global(callee, "joblib.numpy_pickle", "NumpyArrayWrapper") {
            return Ok(());
        }
        let Some(layout) = super::inline_layout(&self.trace, state) else {
            self.trace.exhausted = true;
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
