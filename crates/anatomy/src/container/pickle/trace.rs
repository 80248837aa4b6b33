//! What following a pickle yields: its values, imports and calls, as plain data.
//!
//! Values lie in one arena and refer to each other by number, so neither depth nor cycles matter.

use std::collections::HashMap;

use crate::tensor::Span;

/// A value of a [`Trace`], by its number. Small whole numbers, which most values are, stand in it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

/// Set where the other bits of an [`Id`] are a whole number.
const IMMEDIATE: u32 = 1 << 31;

impl Id {
    /// A whole number of 31 bits.
    pub(super) fn immediate(number: i64) -> Option<Self> {
        let fits = (-(1 << 30)..1 << 30).contains(&number);
        let bits = i32::try_from(number).ok().filter(|_| fits)?.cast_unsigned();
        Some(Id(bits | IMMEDIATE))
    }

    fn number(self) -> Option<i64> {
        // Shifted out and back in, the sign fills the highest bit.
        (self.0 & IMMEDIATE != 0).then_some(i64::from((self.0 << 1).cast_signed() >> 1))
    }
}

/// Text of a trace, by its place in the trace's own store or in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    pub(super) start: u32,
    pub(super) len: u32,
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

/// Values in pieces that never move, so that growth copies nothing.
#[derive(Debug)]
struct Arena<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Copy> Arena<T> {
    const BITS: u32 = 16;

    fn get(&self, index: usize) -> Option<T> {
        self.chunks.get(index >> Self::BITS)?.get(index & ((1 << Self::BITS) - 1)).copied()
    }

    fn push(&mut self, value: T) {
        match self.chunks.last_mut().filter(|chunk| chunk.len() < 1 << Self::BITS) {
            Some(chunk) => chunk.push(value),
            None => {
                // The first one grows, for most pickles are small.
                let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 64 } else { 1 << Self::BITS });
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
    }
}

/// Runs of equal things, each whole in one piece, that never move.
#[derive(Debug)]
struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new() }
    }
}

impl<T: Copy> Chunks<T> {
    /// Places within a piece have this many bits, so that 32 are enough for all.
    const BITS: u32 = 16;

    /// Keeps a run; its place, or nothing where there is no room.
    fn push(&mut self, run: &[T]) -> Option<u32> {
        let fits = |chunk: &&mut Vec<T>| chunk.len() + run.len() <= 1 << Self::BITS;
        if self.chunks.last_mut().filter(fits).is_none() {
            // The first one grows, for most pickles are small; a run that is longer has a piece of its own.
            let room = if self.chunks.is_empty() { 64 } else { 1 << Self::BITS };
            self.chunks.push(Vec::with_capacity(room.max(run.len())));
        }
        let number = u32::try_from(self.chunks.len() - 1).ok().filter(|number| *number < 1 << (32 - Self::BITS))?;
        let chunk = self.chunks.last_mut()?;
        // A piece that is full begins no further run.
        let at = u32::try_from(chunk.len()).ok().filter(|at| *at < 1 << Self::BITS)?;
        chunk.extend_from_slice(run);
        Some(number << Self::BITS | at)
    }

    fn get(&self, at: u32, len: u32) -> &[T] {
        let chunk = self.chunks.get((at >> Self::BITS) as usize).map(Vec::as_slice).unwrap_or_default();
        let start = (at & ((1 << Self::BITS) - 1)) as usize;
        chunk.get(start..start + len as usize).unwrap_or_default()
    }
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
    /// How often a value was used again, from the memo or by doubling it.
    pub recalls: u64,
    /// Arrays within the stream (joblib).
    pub arrays: Vec<InlineArray>,
    /// Whether there was more than can be kept or followed: calls may stand among what was left out.
    pub exhausted: bool,
    values: Arena<Value>,
    /// Lower half of the offset of each value's opcode; they only grow, so where the upper half changes is in `wraps`.
    offsets: Arena<u32>,
    wraps: Vec<(usize, u64)>,
    texts: Chunks<u8>,
    spans: Vec<Span>,
    pool: Chunks<Id>,
    pub(super) contents: Map<Id, Vec<Id>>,
    pub(super) state: Map<Id, Id>,
}

/// A map whose keys a hostile file may choose, made for speed.
pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Values that are kept; further plain ones become [`Value::Unknown`].
const MAX_VALUES: usize = 1 << 24;
/// Imports, calls and short texts are kept to twice that: what a pickle does must not be pushed out by padding.
const MAX_TELLING: usize = 1 << 25;
/// Bytes of a text that is held.
const MAX_TEXT: usize = 1 << 20;

/// Bytes of a name that a path shows.
const MAX_SHOWN: usize = 512;

/// `None`.
pub(super) const NONE: Id = Id(0);
/// `False`.
pub(super) const FALSE: Id = Id(1);
/// `True`.
pub(super) const TRUE: Id = Id(2);
/// The value that stands for all beyond [`MAX_VALUES`].
pub(super) const UNKNOWN: Id = Id(3);
/// No value at all: no arena is that large.
pub(super) const VACANT: Id = Id(IMMEDIATE - 1);
/// The empty tuple, which all share.
pub(super) const EMPTY: Id = Id(4);

/// A number as an index; saturates, and the arenas never grow that far.
pub(super) fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Trace {
    /// A trace of nothing yet.
    pub(super) fn new(start: u64) -> Self {
        let mut trace = Trace { start, ..Trace::default() };
        let empty = Value::Tuple(Items { start: 0, len: 0 });
        for value in [Value::None, Value::Bool(false), Value::Bool(true), Value::Unknown, empty] {
            trace.values.push(value);
            trace.offsets.push(0);
        }
        trace
    }

    /// Keeps a value, as far as there is room.
    pub(super) fn keep(&mut self, offset: u64, value: Value) -> Id {
        if let Value::Int(number) = value
            && let Some(id) = Id::immediate(number)
        {
            return id;
        }
        let telling = matches!(value, Value::Global(_) | Value::Call(_) | Value::Text(Str::Held { .. }));
        if self.values.len >= if telling { MAX_TELLING } else { MAX_VALUES } {
            self.exhausted = true;
            return UNKNOWN;
        }
        let high = offset >> 32;
        if high != self.wraps.last().map_or(0, |(_, high)| *high) {
            self.wraps.push((self.values.len, high));
        }
        self.values.push(value);
        self.offsets.push(u32::try_from(offset & u64::from(u32::MAX)).unwrap_or(u32::MAX));
        Id(index(self.values.len - 1))
    }

    /// Keeps a tuple.
    pub(super) fn keep_tuple(&mut self, offset: u64, items: &[Id]) -> Id {
        if items.is_empty() {
            return EMPTY;
        }
        let Some(start) = self.pool.push(items) else {
            self.exhausted = true;
            return UNKNOWN;
        };
        self.keep(offset, Value::Tuple(Items { start, len: index(items.len()) }))
    }

    /// Keeps text; nothing where there is no room.
    pub(super) fn hold(&mut self, text: &str) -> Option<Str> {
        let at = self.texts.push(text.as_bytes()).filter(|_| text.len() <= MAX_TEXT)?;
        Some(Str::Held { at, len: index(text.len()) })
    }

    /// Keeps a place in the source.
    pub(super) fn place(&mut self, span: Span) -> u32 {
        self.spans.push(span);
        index(self.spans.len() - 1)
    }

    /// What a value is.
    pub fn value(&self, id: Id) -> Value {
        match id.number() {
            Some(number) => Value::Int(number),
            None => self.values.get(id.0 as usize).unwrap_or(Value::Unknown),
        }
    }

    /// Offset in the source of the opcode that made a value; 0 for `None`, `True`, `False`, `()` and small whole
    /// numbers, which are shared.
    pub fn offset(&self, id: Id) -> u64 {
        let index = id.0 as usize;
        let wraps = self.wraps.partition_point(|(first, _)| *first <= index);
        let high = wraps.checked_sub(1).and_then(|last| self.wraps.get(last)).map_or(0, |(_, high)| *high);
        self.offsets.get(index).map_or(0, |low| high << 32 | u64::from(low))
    }

    /// How many values there are, small whole numbers aside.
    pub fn values(&self) -> usize {
        self.values.len
    }

    /// Place of a value among [`Trace::ids`]; nothing for small whole numbers.
    pub fn index(&self, id: Id) -> Option<usize> {
        id.number().is_none().then_some(id.0 as usize)
    }

    /// Every value that stands in another: in a tuple, container, state or identifier.
    pub fn used(&self) -> impl Iterator<Item = Id> {
        let contents = self.contents.values().flatten();
        let identifiers = self.persistent.iter().filter_map(|id| match self.value(*id) {
            Value::Persistent(identifier) => Some(identifier),
            _ => None,
        });
        self.pool.chunks.iter().flatten().chain(contents).chain(self.state.values()).copied().chain(identifiers)
    }

    /// All values, small whole numbers aside, in the order in which they were made.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        (0..index(self.values.len)).map(Id)
    }

    /// Text that is held; empty for one too long.
    pub fn str(&self, text: Str) -> &str {
        match text {
            // It was text when it was kept.
            Str::Held { at, len } => std::str::from_utf8(self.texts.get(at, len)).unwrap_or_default(),
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
            Value::Tuple(items) | Value::FrozenSet(items) => self.pool.get(items.start, items.len),
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

    /// `module.name` of an import, `?` for what cannot be known; of names longer than any that exists the begin.
    pub fn path(&self, global: &Global) -> String {
        if let Via::Extension(code) = global.via {
            return format!("copyreg extension {code}");
        }
        let part = |text: Option<Str>| text.map_or("?", |text| begin(self.str(text)));
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

/// The begin of a name; all of it, nearly always.
fn begin(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_SHOWN)).unwrap_or_default()
}
