//! GGUF: llama.cpp's one-file model, with metadata, tokenizer and weights.
//!
//! Specification: `docs/gguf.md` of ggml, and `ggml/src/gguf.cpp` of llama.cpp, whose loader
//! decides what is an error here. Versions 1 to 3, both byte orders.

use std::collections::HashSet;

use super::{Container, Format};
use crate::bytes::{Endian, Reader};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::{Array, Entry, Metadata, Value};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::{Span, Tensor, checked_elements};

/// The format.
pub static FORMAT: Format = Format {
    id: "gguf",
    name: "GGUF",
    extensions: &["gguf"],
    use_and_risk: "For llama.cpp and its relatives, mostly on CPUs and laptops: one file carries weights, tokenizer \
                   and chat template. Loading runs no code, but the chat template is a program that is rendered.",
    probe,
    open,
};

static TRUNCATED: Rule = Rule {
    name: "gguf-truncated",
    severity: Severity::Error,
    why: "The file ends before its header or its tensors do: the download is incomplete, or the header lies.",
    help: "download the file again and compare its size with the one that the hub states",
};
static BROKEN: Rule = Rule {
    name: "gguf-header-broken",
    severity: Severity::Error,
    why: "The header stops making sense here; what follows it cannot be known, and llama.cpp refuses the file.",
    help: "download the file again; if it stays so, the file was written wrongly or is hostile",
};
static VERSION: Rule = Rule {
    name: "gguf-version-unknown",
    severity: Severity::Error,
    why: "The version is none that exists, so the header's layout is unknown.",
    help: "update this tool if the version is newer than 3; else get the file again",
};
static OLD_VERSION: Rule = Rule {
    name: "gguf-version-old",
    severity: Severity::Warning,
    why: "Version 1 of the format was in use for a few days of 2023; today's llama.cpp refuses it.",
    help: "convert the original model again with a current converter",
};
static COUNTS: Rule = Rule {
    name: "gguf-count-impossible",
    severity: Severity::Error,
    why: "The header declares more entries than the file has room for; a careless reader would allocate memory for \
          all of them.",
    help: "do not load the file: it is damaged or hostile",
};
static KEY_DUPLICATE: Rule = Rule {
    name: "gguf-key-duplicate",
    severity: Severity::Error,
    why: "A metadata key stands twice; llama.cpp refuses that, and other readers disagree about which value counts.",
    help: "write the file again with each key once",
};
static KEY_ODD: Rule = Rule {
    name: "gguf-key-odd",
    severity: Severity::Warning,
    why: "A metadata key is longer than 65,535 bytes or not plain text.",
    help: "look at the key with --json before you print it to a terminal",
};
static KEY_EMPTY: Rule = Rule {
    name: "gguf-key-empty",
    severity: Severity::Error,
    why: "A metadata key has no characters; llama.cpp stops at that.",
    help: "write the file again without the entry",
};
static NOT_TEXT: Rule = Rule {
    name: "gguf-text-invalid",
    severity: Severity::Warning,
    why: "A string is not UTF-8, which the specification demands; programs show it differently or fail.",
    help: "write the file again with the value corrected",
};
static BOOL_ODD: Rule = Rule {
    name: "gguf-bool-odd",
    severity: Severity::Warning,
    why: "A truth value is stored as something else than 0 or 1, which is undefined behaviour in C++ readers.",
    help: "write the file again with the value corrected",
};
static NESTED: Rule = Rule {
    name: "gguf-array-nested",
    severity: Severity::Error,
    why: "A metadata value is an array of arrays. The specification allows it, llama.cpp refuses it.",
    help: "flatten the value, or drop the key, before you use the file with llama.cpp",
};
static ALIGNMENT: Rule = Rule {
    name: "gguf-alignment-invalid",
    severity: Severity::Error,
    why: "`general.alignment` must be a power of two, stated as u32; llama.cpp refuses anything else.",
    help: "write the file again with the default alignment of 32",
};
static ALIGNMENT_LARGE: Rule = Rule {
    name: "gguf-alignment-large",
    severity: Severity::Warning,
    why: "Tensors are aligned to more than 1 MiB, which wastes space and leaves room to hide data in the padding.",
    help: "write the file again with the default alignment of 32",
};
static TENSOR_DUPLICATE: Rule = Rule {
    name: "gguf-tensor-duplicate",
    severity: Severity::Error,
    why: "A tensor name stands twice; llama.cpp refuses that.",
    help: "do not trust the file; get it from its author again",
};
static TENSOR_NAME: Rule = Rule {
    name: "gguf-tensor-name-odd",
    severity: Severity::Error,
    why: "A tensor's name is empty, not plain text or longer than the 63 bytes that ggml has room for, so llama.cpp \
          refuses the file.",
    help: "write the file again with shorter names",
};
static TENSOR_SHAPE: Rule = Rule {
    name: "gguf-shape-invalid",
    severity: Severity::Error,
    why: "A tensor has more than four dimensions, or more elements than can be counted, or rows that are no whole \
          number of its type's blocks; llama.cpp refuses the file.",
    help: "do not load the file: it is damaged or hostile",
};
static SHAPE_ODD: Rule = Rule {
    name: "gguf-shape-odd",
    severity: Severity::Warning,
    why: "A tensor has no dimensions or one of length zero. llama.cpp loads it, but no converter writes such a tensor \
          and some readers divide by its size.",
    help: "convert the original model again with a current converter",
};
static TYPE_UNKNOWN: Rule = Rule {
    name: "gguf-type-unknown",
    severity: Severity::Error,
    why: "A tensor's type is none that this tool knows, so its size cannot be checked.",
    help: "update this tool if the type is new in ggml; else get the file again",
};
static TYPE_RETIRED: Rule = Rule {
    name: "gguf-type-retired",
    severity: Severity::Error,
    why: "A tensor has a type that ggml has withdrawn, so today's llama.cpp refuses the file.",
    help: "quantise the original model again (Q4_0 is re-packed at load time now), or use a llama.cpp of that time",
};
static OFFSET: Rule = Rule {
    name: "gguf-offset-invalid",
    severity: Severity::Error,
    why: "A tensor does not begin where the one before it ends, so tensors overlap or leave holes; llama.cpp refuses \
          the file.",
    help: "do not load the file: its tensors cannot be trusted",
};
static PADDING_FILLED: Rule = Rule {
    name: "gguf-padding-filled",
    severity: Severity::Warning,
    why: "The padding between header and tensors is not all zeros, as every writer leaves it: something may be hidden \
          there.",
    help: "write the file again with a current library, which fills padding with zeros",
};
static TRAILING: Rule = Rule {
    name: "gguf-trailing-data",
    severity: Severity::Error,
    why: "Bytes after the last tensor belong to nothing: something may be hidden there.",
    help: "write the file again with a current library, which leaves them out",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[
    &TRUNCATED,
    &BROKEN,
    &VERSION,
    &OLD_VERSION,
    &COUNTS,
    &KEY_DUPLICATE,
    &KEY_ODD,
    &KEY_EMPTY,
    &NOT_TEXT,
    &BOOL_ODD,
    &NESTED,
    &ALIGNMENT,
    &ALIGNMENT_LARGE,
    &TENSOR_DUPLICATE,
    &TENSOR_NAME,
    &TENSOR_SHAPE,
    &SHAPE_ODD,
    &TYPE_UNKNOWN,
    &TYPE_RETIRED,
    &OFFSET,
    &PADDING_FILLED,
    &TRAILING,
];

/// Alignment of tensor data where the file states none, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Texts up to this many bytes are held; longer ones are only placed.
const MAX_TEXT: u64 = 1 << 20;
/// Arrays of numbers up to this length are held whole: per-layer settings, never vocabularies.
const MAX_NUMBERS: u64 = 4096;
/// Arrays of text up to this length are held whole: tags, languages, labels.
const MAX_TEXTS: u64 = 64;
/// Arrays within arrays, at most this deep.
const MAX_DEPTH: u32 = 4;
/// Elements of all arrays that are held, together: a held one takes some 70 bytes, a stored one as few as 1.
const MAX_HELD: u64 = 1 << 18;
/// Metadata entries beyond this are not read; real files have some tens. Without a limit, a sparse file of zeros
/// could declare a billion empty ones.
const MAX_ENTRIES: u64 = 1 << 16;
/// Tensors beyond this are not read; the largest models have some ten thousand.
const MAX_TENSORS: u64 = 1 << 20;
/// Texts in one array; the largest vocabularies have half a million merges.
const MAX_ARRAY_TEXTS: u64 = 1 << 26;
/// Dimensions beyond this are not read, though ggml has room for far fewer.
const MOST_DIMS: u32 = 64;
/// How many bytes of the padding behind the header are looked at.
const MAX_PADDING: u64 = 64 * 1024;
/// llama.cpp's `GGML_MAX_NAME`, the terminating zero included.
const MAX_NAME: usize = 64;
/// llama.cpp's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;

fn probe(head: &Head) -> Option<Match> {
    if !head.starts_with(b"GGUF") {
        // A file that ends within the four letters cannot be told from text that begins so.
        return None;
    }
    let evidence = match head.u32(4).map(byte_order) {
        Some((Endian::Little, version)) => format!("the first 4 bytes are `GGUF`, version {version}"),
        Some((Endian::Big, version)) => format!("the first 4 bytes are `GGUF`, version {version} in big-endian order"),
        None => "the first 4 bytes are `GGUF`; the file is cut: it ends before its version".to_string(),
    };
    Match::new(score::CERTAIN, evidence)
}

/// Versions are small, so a number without low bits was written in the other byte order.
fn byte_order(version: u32) -> (Endian, u32) {
    if version & 0xffff == 0 && version != 0 { (Endian::Big, version.swap_bytes()) } else { (Endian::Little, version) }
}

fn open(source: &Source) -> Result<Container> {
    let mut header = Header {
        reader: Reader::new(source, 4),
        version: 0,
        metadata: Metadata::new(),
        tensors: Vec::new(),
        draft: Draft::new(),
        findings: Findings::new(),
        data_start: None,
        held: 0,
        facts: Vec::new(),
    };
    header.draft.add(0, 4, Kind::Magic, "GGUF");
    if let Err(error) = header.read() {
        // An error of the disk is one; a header that breaks off is a finding.
        if error.kind() != crate::ErrorKind::Malformed {
            return Err(error);
        }
        let at = error.offset().unwrap_or(source.len());
        let cut = error.message().contains("the file ends at byte");
        let rule = if cut { &TRUNCATED } else { &BROKEN };
        header.findings.push(Finding::new(rule, error.message()).at(at));
    }
    Ok(header.finish())
}

/// What is known of the file while its header is read.
struct Header<'a> {
    reader: Reader<'a>,
    version: u32,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    draft: Draft,
    findings: Findings,
    /// Where tensor data begins, once the header is read to its end.
    data_start: Option<u64>,
    /// Array elements that are held so far.
    held: u64,
    facts: Vec<(&'static str, String)>,
}

impl Header<'_> {
    fn read(&mut self) -> Result<()> {
        let (endian, version) = byte_order(self.reader.u32()?);
        self.reader.set_endian(endian);
        self.version = version;
        self.facts.push(("version", version.to_string()));
        self.facts.push(("byte order", if endian == Endian::Big { "big-endian" } else { "little-endian" }.to_string()));
        if !(1..=3).contains(&version) {
            self.findings.push(Finding::new(&VERSION, format!("version {version}")).at(4));
            return Ok(());
        }
        if version == 1 {
            self.findings.push(Finding::new(&OLD_VERSION, "version 1").at(4));
        }
        let tensors = self.count("tensors", if version == 1 { 20 } else { 24 })?;
        let entries = self.count("metadata entries", if version == 1 { 9 } else { 13 })?;
        let counts_end = self.reader.offset();
        self.draft.add(4, counts_end, Kind::Header, "version and counts");
        for _ in 0..entries.min(MAX_ENTRIES) {
            self.read_entry()?;
        }
        if entries > MAX_ENTRIES {
            let message = format!("more than {MAX_ENTRIES} metadata entries; the rest is not read");
            return Err(Error::malformed(message).at(self.reader.offset()));
        }
        let table = self.reader.offset();
        let read = self.read_tensors(tensors);
        self.draft.add(table, self.reader.offset(), Kind::Header, "names, types, shapes and offsets of the tensors");
        let offsets = read?;
        self.place(&offsets)?;
        Ok(())
    }

    /// A count or length: 32 bits in version 1, 64 since.
    fn length(&mut self) -> Result<u64> {
        if self.version == 1 { self.reader.u32().map(u64::from) } else { self.reader.u64() }
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, what: &str, least: u64) -> Result<u64> {
        let at = self.reader.offset();
        let count = self.length()?;
        if count.checked_mul(least).is_none_or(|need| need > self.reader.remaining()) {
            let message = format!("{count} {what} are declared, but only {} bytes follow", self.reader.remaining());
            self.findings.push(Finding::new(&COUNTS, message).at(at));
        }
        Ok(count)
    }

    /// A string of at most [`MAX_TEXT`] bytes; longer ones are stepped over and given by place.
    fn text(&mut self) -> Result<Value> {
        let len = self.length()?;
        let start = self.reader.offset();
        if len > MAX_TEXT {
            self.reader.skip(len)?;
            return Ok(Value::LongText(Span { start, len }));
        }
        let text = String::from_utf8(self.reader.bytes(len)?).unwrap_or_else(|error| {
            self.findings.push(Finding::new(&NOT_TEXT, "a string is not UTF-8").at(start));
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        });
        Ok(Value::Text(text))
    }

    /// A string that must be short, such as a key or a name.
    fn short_text(&mut self, what: &str) -> Result<String> {
        let at = self.reader.offset();
        match self.text()? {
            Value::Text(text) => Ok(text),
            _ => Err(Error::malformed(format!("a {what} of more than {MAX_TEXT} bytes")).at(at)),
        }
    }

    fn read_entry(&mut self) -> Result<()> {
        let start = self.reader.offset();
        let key = self.short_text("metadata key")?;
        if key.is_empty() {
            self.findings.push(Finding::new(&KEY_EMPTY, "a metadata key of 0 bytes").at(start));
        } else if key.len() > 65_535 || key.chars().any(char::is_control) {
            let message = format!("a metadata key of {} bytes: {:?}", key.len(), shorten(&key));
            self.findings.push(Finding::new(&KEY_ODD, message).at(start));
        }
        let at = self.reader.offset();
        let (kind, value) = match self.read_value() {
            Ok(value) => value,
            Err(error) => return Err(error.at(at)),
        };
        let tokenizer = key.starts_with("tokenizer.");
        let label = if tokenizer { Kind::Tokenizer } else { Kind::Metadata };
        self.draft.add(start, self.reader.offset(), label, key.clone());
        let span = Span { start, len: self.reader.offset() - start };
        if !self.metadata.push(Entry { key: key.clone(), kind, value, span }) {
            let message = format!("the metadata key {:?} stands more than once", shorten(&key));
            self.findings.push(Finding::new(&KEY_DUPLICATE, message).at(start));
        }
        Ok(())
    }

    fn read_value(&mut self) -> Result<(&'static str, Value)> {
        let at = self.reader.offset();
        let id = self.reader.u32()?;
        let kind = Type::from_id(id).ok_or_else(|| Error::malformed(format!("unknown value type {id}")).at(at))?;
        let value = if kind == Type::Array { Value::Array(self.read_array(0)?) } else { self.read_scalar(kind)? };
        Ok((kind.name(), value))
    }

    fn read_scalar(&mut self, kind: Type) -> Result<Value> {
        let at = self.reader.offset();
        let signed = |number: i64| u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned);
        Ok(match kind {
            Type::U8 => Value::Unsigned(self.reader.u8()?.into()),
            Type::I8 => signed(self.reader.i8()?.into()),
            Type::U16 => Value::Unsigned(self.reader.u16()?.into()),
            Type::I16 => signed(self.reader.i16()?.into()),
            Type::U32 => Value::Unsigned(self.reader.u32()?.into()),
            Type::I32 => signed(self.reader.i32()?.into()),
            Type::U64 => Value::Unsigned(self.reader.u64()?),
            Type::I64 => signed(self.reader.i64()?),
            Type::F32 => Value::Float(self.reader.f32()?.into()),
            Type::F64 => Value::Float(self.reader.f64()?),
            Type::String => self.text()?,
            Type::Bool => {
                let byte = self.reader.u8()?;
                if byte > 1 {
                    self.findings.push(Finding::new(&BOOL_ODD, format!("a truth value stored as {byte}")).at(at));
                }
                Value::Bool(byte != 0)
            }
            Type::Array => return Err(Error::malformed("an array where a single value is expected").at(at)),
        })
    }

    /// Whether `count` more array elements may be held.
    fn hold(&mut self, count: u64) -> bool {
        let fits = self.held + count <= MAX_HELD;
        self.held += if fits { count } else { 0 };
        fits
    }

    fn read_array(&mut self, depth: u32) -> Result<Array> {
        let at = self.reader.offset();
        let id = self.reader.u32()?;
        let kind = Type::from_id(id).ok_or_else(|| Error::malformed(format!("unknown array type {id}")).at(at))?;
        let len = self.length()?;
        let least = match kind {
            Type::String | Type::Array if self.version == 1 => 4,
            Type::String | Type::Array => 8,
            _ => kind.size(),
        };
        let start = self.reader.offset();
        if len.checked_mul(least).is_none_or(|need| need > self.reader.remaining()) {
            let message = format!(
                "an array of {len} × {} is declared, but the file ends at byte {}",
                kind.name(),
                self.reader.source().len()
            );
            return Err(Error::malformed(message).at(at));
        }
        let mut items = Vec::new();
        match kind {
            Type::Array => {
                if depth == 0 {
                    self.findings.push(Finding::new(&NESTED, "an array of arrays").at(at));
                }
                if depth + 1 >= MAX_DEPTH {
                    return Err(Error::malformed(format!("arrays nested more than {MAX_DEPTH} deep")).at(at));
                }
                for index in 0..len {
                    let inner = self.read_array(depth + 1)?;
                    if index < MAX_TEXTS && self.hold(1) {
                        items.push(Value::Array(inner));
                    }
                }
            }
            Type::String if len > MAX_ARRAY_TEXTS => {
                let message = format!("an array of {len} texts; the limit is {MAX_ARRAY_TEXTS}");
                return Err(Error::malformed(message).at(at));
            }
            Type::String if len <= MAX_TEXTS && self.hold(len) => {
                for _ in 0..len {
                    items.push(self.text()?);
                }
            }
            Type::String => {
                for _ in 0..len {
                    let size = self.length()?;
                    self.reader.skip(size)?;
                }
            }
            _ if len <= MAX_NUMBERS && self.hold(len) => {
                for _ in 0..len {
                    items.push(self.read_scalar(kind)?);
                }
            }
            _ => self.reader.skip(len * kind.size())?,
        }
        Ok(Array { element: kind.name(), len, span: Span { start, len: self.reader.offset() - start }, items })
    }

    /// Reads the tensor table; the tensors' offsets count from the begin of the data.
    fn read_tensors(&mut self, count: u64) -> Result<Vec<u64>> {
        let mut offsets = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..count.min(MAX_TENSORS) {
            let at = self.reader.offset();
            let name = self.short_text("tensor name")?;
            if name.is_empty() || name.len() >= MAX_NAME || name.chars().any(char::is_control) {
                let message = format!("a tensor name of {} bytes: {:?}", name.len(), shorten(&name));
                self.findings.push(Finding::new(&TENSOR_NAME, message).at(at).tensor(shorten(&name)));
            }
            let dims = self.reader.u32()?;
            if dims > MOST_DIMS {
                return Err(Error::malformed(format!("tensor {:?} declares {dims} dimensions", shorten(&name))).at(at));
            }
            let mut shape = Vec::new();
            for _ in 0..dims {
                shape.push(self.length()?);
            }
            // `ne` has the innermost dimension first.
            shape.reverse();
            let type_id = self.reader.u32()?;
            offsets.push(self.reader.u64()?);
            let dtype = DType::from_ggml(type_id);
            match dtype {
                None => {
                    let message = format!("tensor {name:?} has the type {type_id}, which ggml does not define");
                    self.findings.push(Finding::new(&TYPE_UNKNOWN, message).at(at).tensor(&*name));
                }
                Some(dtype) if dtype.retired() => {
                    let message = format!("tensor {name:?} has the withdrawn type {} (id {type_id})", dtype.name());
                    self.findings.push(Finding::new(&TYPE_RETIRED, message).at(at).tensor(&*name));
                }
                Some(_) => {}
            }
            let dtype = dtype.unwrap_or(DType::UNKNOWN);
            let bytes = self.check_shape(&name, dtype, dims, &shape, at);
            if !names.insert(name.clone()) {
                let message = format!("the tensor name {name:?} stands more than once");
                self.findings.push(Finding::new(&TENSOR_DUPLICATE, message).at(at).tensor(&*name));
            }
            self.tensors.push(Tensor { name, dtype, shape, bytes, span: None, storage: None });
        }
        if count > MAX_TENSORS {
            let message = format!("more than {MAX_TENSORS} tensors; the rest is not read");
            return Err(Error::malformed(message).at(self.reader.offset()));
        }
        Ok(offsets)
    }

    /// Bytes of a tensor; 0 where its shape makes no sense.
    fn check_shape(&mut self, name: &str, dtype: DType, dims: u32, shape: &[u64], at: u64) -> u64 {
        let row = shape.last().copied().unwrap_or(1);
        let signed = |dimension: &u64| i64::try_from(*dimension).is_ok();
        let bytes = checked_elements(shape).filter(|_| shape.iter().all(signed)).and_then(|count| dtype.bytes(count));
        let message = if dims > MAX_DIMS {
            format!("tensor {name:?} has {dims} dimensions; ggml has room for {MAX_DIMS}")
        } else if bytes.is_none() && dtype != DType::UNKNOWN {
            format!("the shape {shape:?} of tensor {name:?} has more elements than can be counted")
        } else if !row.is_multiple_of(dtype.block().max(1)) {
            let block = dtype.block();
            format!(
                "tensor {name:?} has rows of {row} numbers, no multiple of the {block} in a block of {}",
                dtype.name()
            )
        } else {
            if dims == 0 || shape.contains(&0) {
                let message = format!("tensor {name:?} has the shape {shape:?}");
                self.findings.push(Finding::new(&SHAPE_ODD, message).at(at).tensor(name));
            }
            return bytes.unwrap_or(0);
        };
        self.findings.push(Finding::new(&TENSOR_SHAPE, message).at(at).tensor(name));
        bytes.unwrap_or(0)
    }

    fn alignment(&mut self) -> u64 {
        let Some(entry) = self.metadata.entries().iter().find(|entry| entry.key == "general.alignment") else {
            return DEFAULT_ALIGNMENT;
        };
        let at = entry.span.start;
        match entry.value.as_u64() {
            Some(value) if value.is_power_of_two() => {
                if entry.kind != "u32" {
                    let message = format!("the alignment is stated as {}, not as u32", entry.kind);
                    self.findings.push(Finding::new(&ALIGNMENT, message).at(at));
                } else if value > 1 << 20 {
                    self.findings.push(Finding::new(&ALIGNMENT_LARGE, format!("an alignment of {value} bytes")).at(at));
                }
                value
            }
            _ => {
                let message = format!("an alignment of {}; {DEFAULT_ALIGNMENT} is assumed", describe(&entry.value));
                self.findings.push(Finding::new(&ALIGNMENT, message).at(at));
                DEFAULT_ALIGNMENT
            }
        }
    }

    /// Gives the tensors their places in the file and checks that they follow each other.
    fn place(&mut self, offsets: &[u64]) -> Result<()> {
        let len = self.reader.source().len();
        let alignment = self.alignment();
        self.facts.push(("alignment", format!("{alignment} bytes")));
        let table_end = self.reader.offset();
        let start = table_end.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        self.data_start = Some(start);
        self.draft.add(table_end, start, Kind::Padding, "alignment");
        let padding = self.reader.source().read_up_to(table_end, (start - table_end).min(MAX_PADDING))?;
        if let Some(filled) = padding.iter().position(|byte| *byte != 0) {
            let message = format!("the padding from byte {table_end} to {start} is not all zeros");
            self.findings.push(Finding::new(&PADDING_FILLED, message).at(table_end + filled as u64));
        }

        // The size of an unknown type can only be guessed from the tensor that follows.
        let mut sorted = offsets.to_vec();
        sorted.sort_unstable();
        let mut expected = Some(0u64);
        let mut end = start;
        let mut outside = 0u64;
        for (index, (tensor, offset)) in self.tensors.iter_mut().zip(offsets).enumerate() {
            if tensor.dtype == DType::UNKNOWN {
                let next = sorted.get(sorted.partition_point(|other| other <= offset)).copied();
                tensor.bytes = next.unwrap_or(len.saturating_sub(start)).saturating_sub(*offset);
            }
            let place = start.saturating_add(*offset);
            if expected.is_some_and(|expected| expected != *offset) {
                let message = match expected {
                    Some(expected) if expected > *offset => {
                        format!(
                            "tensor {:?} begins {} bytes before the ones before it end",
                            tensor.name,
                            expected - offset
                        )
                    }
                    _ if !offset.is_multiple_of(alignment) => {
                        format!(
                            "tensor {:?} begins at {offset}, no multiple of the alignment of {alignment}",
                            tensor.name
                        )
                    }
                    _ => format!("a hole of {} bytes before tensor {:?}", offset - expected.unwrap_or(0), tensor.name),
                };
                self.findings.push(Finding::new(&OFFSET, message).at(place).tensor(&*tensor.name));
            }
            let span = Span { start: place, len: tensor.bytes };
            tensor.span = Some(span);
            self.draft.add(span.start, span.end(), Kind::Tensor, Label::Tensor(index));
            outside += u64::from(span.end() > len);
            end = end.max(span.end());
            // Behind an unknown type nothing is known to be misplaced.
            expected = match tensor.dtype {
                DType::UNKNOWN => None,
                // No tensor can follow one that ends beyond what 64 bits can count.
                _ => {
                    let next = offset.checked_add(tensor.bytes);
                    Some(next.and_then(|next| next.checked_next_multiple_of(alignment)).unwrap_or(u64::MAX))
                }
            };
        }
        if outside > 0 {
            let message = format!(
                "{outside} of {} tensors lie beyond the end of the file: {end} bytes are needed, {len} are there",
                self.tensors.len()
            );
            self.findings.push(Finding::new(&TRUNCATED, message).at(len));
        } else if end.checked_next_multiple_of(alignment).is_some_and(|end| end < len) {
            self.findings.push(Finding::new(&TRAILING, format!("{} bytes follow the last tensor", len - end)).at(end));
        }
        Ok(())
    }

    fn finish(mut self) -> Container {
        let len = self.reader.source().len();
        let alignment = match self.metadata.unsigned("general.alignment") {
            Some(alignment) if alignment.is_power_of_two() => alignment,
            _ => DEFAULT_ALIGNMENT,
        };
        // Only what is smaller than a step of alignment, and ends on one, is padding.
        let data_start = self.data_start;
        let ledger = self.draft.finish_with(len, |start, end| match data_start {
            Some(data) if start >= data && end - start < alignment => {
                match (end == len) || (end - data).is_multiple_of(alignment) {
                    true => (Kind::Padding, "alignment".into()),
                    false => (Kind::Unexplained, "bytes that no tensor claims".into()),
                }
            }
            Some(data) if start < data && end <= data => (Kind::Padding, "alignment".into()),
            Some(_) => (Kind::Unexplained, "bytes that no tensor claims".into()),
            None => (Kind::Unexplained, "what follows the fault in the header".into()),
        });
        if data_start.is_some() {
            super::gguf_checks::check(&self.metadata, self.tensors.len(), &mut self.findings);
        }
        let mut container = Container::new(&FORMAT, ledger);
        self.facts.extend(facts(&self.metadata, self.tensors.len()));
        container.facts = self.facts;
        container.metadata = self.metadata;
        container.tensors = self.tensors;
        container.findings = self.findings.finish();
        container.breaks_off = data_start.is_none();
        container
    }
}

/// What the metadata say of the file as a whole.
fn facts(metadata: &Metadata, tensors: usize) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let architecture = metadata.text("general.architecture");
    let kind = match (metadata.text("general.type"), architecture) {
        (Some("adapter"), _) => match metadata.text("adapter.type") {
            Some("lora") | None => "LoRA adapter: a change to a model, not a model".to_string(),
            Some(other) => format!("adapter ({other}): a change to a model, not a model"),
        },
        (Some("imatrix"), _) | (_, Some("imatrix")) => {
            "importance matrix: statistics for quantising a model, not a model".to_string()
        }
        (Some("mmproj"), _) | (_, Some("clip")) => {
            "multimodal projector (mmproj): a vision or audio tower to be used beside a model".to_string()
        }
        (_, Some("controlvector")) => "control vector: a steering direction to be added to a model".to_string(),
        _ if tensors == 0 && metadata.get("tokenizer.ggml.tokens").is_some() => {
            "vocabulary only: a tokenizer without weights".to_string()
        }
        _ if tensors == 0 => "metadata only: no weights".to_string(),
        _ => "model".to_string(),
    };
    facts.push(("kind", kind));
    if let Some(name) = metadata.text("general.name") {
        facts.push(("name", name.to_string()));
    }
    if let Some(file_type) = metadata.unsigned("general.file_type") {
        match file_type_name(file_type) {
            Some(name) => facts.push(("quantisation", name.to_string())),
            None => facts.push(("quantisation", format!("file type {file_type}, unknown to this version"))),
        }
    }
    if let (Some(count), no) = (metadata.unsigned("split.count"), metadata.unsigned("split.no").unwrap_or(0))
        && count > 1
    {
        facts.push(("split", format!("{} of {count}", no.saturating_add(1))));
    }
    facts
}

/// Name of a value of `general.file_type` (llama.h, `enum llama_ftype`), which says which mixture the
/// weights were quantised to. Not to be mixed up with the ids of tensor types.
#[rustfmt::skip]
pub fn file_type_name(id: u64) -> Option<&'static str> {
    Some(match id {
        0 => "F32", 1 => "F16", 2 => "Q4_0", 3 => "Q4_1", 4 => "Q4_1 (some F16)", 5 => "Q4_2 (withdrawn)",
        6 => "Q4_3 (withdrawn)", 7 => "Q8_0", 8 => "Q5_0", 9 => "Q5_1", 10 => "Q2_K", 11 => "Q3_K_S", 12 => "Q3_K_M",
        13 => "Q3_K_L", 14 => "Q4_K_S", 15 => "Q4_K_M", 16 => "Q5_K_S", 17 => "Q5_K_M", 18 => "Q6_K", 19 => "IQ2_XXS",
        20 => "IQ2_XS", 21 => "Q2_K_S", 22 => "IQ3_XS", 23 => "IQ3_XXS", 24 => "IQ1_S", 25 => "IQ4_NL", 26 => "IQ3_S",
        27 => "IQ3_M", 28 => "IQ2_S", 29 => "IQ2_M", 30 => "IQ4_XS", 31 => "IQ1_M", 32 => "BF16",
        33 => "Q4_0_4_4 (withdrawn)", 34 => "Q4_0_4_8 (withdrawn)", 35 => "Q4_0_8_8 (withdrawn)", 36 => "TQ1_0",
        37 => "TQ2_0", 38 => "MXFP4 (mixture of experts)", 39 => "NVFP4", 1024 => "guessed by the converter",
        _ => return None,
    })
}

/// Text items of an array at the wanted positions, read from the file by one walk over the array.
///
/// `container` must be the GGUF that the array comes from. Items that are not there are `None`.
pub fn text_items(
    source: &Source,
    container: &Container,
    array: &Array,
    wanted: &[u64],
) -> Result<Vec<Option<String>>> {
    let mut found = vec![None; wanted.len()];
    let (Some(last), "string") = (wanted.iter().max(), array.element) else {
        return Ok(found);
    };
    let (mut reader, short) = items(source, container, array);
    for index in 0..array.len.min(last.saturating_add(1)) {
        let len = if short { reader.u32()?.into() } else { reader.u64()? };
        if wanted.contains(&index) && len <= MAX_TEXT {
            let text = String::from_utf8_lossy(&reader.bytes(len)?).into_owned();
            for (slot, _) in found.iter_mut().zip(wanted).filter(|(_, position)| **position == index) {
                *slot = Some(text.clone());
            }
        } else {
            reader.skip(len)?;
        }
    }
    Ok(found)
}

/// A reader at the first item of an array, and whether lengths have 32 bits.
fn items<'a>(source: &'a Source, container: &Container, array: &Array) -> (Reader<'a>, bool) {
    let fact = |name| container.facts.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let mut reader = Reader::new(source, array.span.start);
    if fact("byte order") == Some("big-endian") {
        reader.set_endian(Endian::Big);
    }
    (reader, fact("version") == Some("1"))
}

/// Hands the first `most` texts of an array to a function, in their order, whether or not they are UTF-8.
pub(crate) fn each_text(
    source: &Source,
    container: &Container,
    array: &Array,
    most: usize,
    mut each: impl FnMut(Vec<u8>),
) -> Result<()> {
    if array.element != "string" {
        let message = format!("an array of {} where texts are expected", array.element);
        return Err(Error::malformed(message).at(array.span.start));
    }
    let (mut reader, short) = items(source, container, array);
    for _ in 0..array.len.min(most as u64) {
        let len = if short { reader.u32()?.into() } else { reader.u64()? };
        each(reader.bytes(len)?);
    }
    Ok(())
}

/// The first `most` numbers of an array, of whichever type; not one of texts or arrays.
pub(crate) fn number_items(source: &Source, container: &Container, array: &Array, most: usize) -> Result<Vec<f64>> {
    let (mut reader, _) = items(source, container, array);
    let count = array.len.min(most as u64);
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(match array.element {
            "u8" | "bool" => reader.u8()?.into(),
            "i8" => reader.i8()?.into(),
            "u16" => reader.u16()?.into(),
            "i16" => reader.i16()?.into(),
            "u32" => reader.u32()?.into(),
            "i32" => reader.i32()?.into(),
            "f32" => reader.f32()?.into(),
            "f64" => reader.f64()?,
            "u64" => reader.u64()? as f64,
            "i64" => reader.i64()? as f64,
            other => {
                let message = format!("an array of {other} where numbers are expected");
                return Err(Error::malformed(message).at(array.span.start));
            }
        });
    }
    Ok(numbers)
}

/// The bytes of an array of single bytes.
pub(crate) fn byte_items(source: &Source, array: &Array) -> Result<Vec<u8>> {
    match array.element {
        "u8" | "i8" => source.read(array.span.start..array.span.end()),
        other => Err(Error::malformed(format!("an array of {other} where bytes are expected")).at(array.span.start)),
    }
}

/// The first 80 characters of a name that may be long.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

fn describe(value: &Value) -> String {
    match value {
        Value::Unsigned(number) => number.to_string(),
        Value::Signed(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => "a value that is no number".to_string(),
    }
}

/// Types of metadata values, in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Type {
    fn from_id(id: u32) -> Option<Self> {
        use Type::*;
        const TYPES: [Type; 13] = [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        TYPES.get(usize::try_from(id).ok()?).copied()
    }

    fn name(self) -> &'static str {
        match self {
            Type::U8 => "u8",
            Type::I8 => "i8",
            Type::U16 => "u16",
            Type::I16 => "i16",
            Type::U32 => "u32",
            Type::I32 => "i32",
            Type::F32 => "f32",
            Type::Bool => "bool",
            Type::String => "string",
            Type::Array => "array",
            Type::U64 => "u64",
            Type::I64 => "i64",
            Type::F64 => "f64",
        }
    }

    /// Bytes of a single value; 0 where that varies.
    fn size(self) -> u64 {
        match self {
            Type::U8 | Type::I8 | Type::Bool => 1,
            Type::U16 | Type::I16 => 2,
            Type::U32 | Type::I32 | Type::F32 => 4,
            Type::U64 | Type::I64 | Type::F64 => 8,
            Type::String | Type::Array => 0,
        }
    }
}
