//! safetensors: a length, a JSON header, and the tensors' bytes.
//!
//! Specification: <https://github.com/huggingface/safetensors>, checked against its reference
//! reader. Where that reader refuses a file, this one goes on and reports a finding.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Container, Format, json};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::Metadata;
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::{Span, Tensor, checked_elements};

/// The format.
pub static FORMAT: Format = Format {
    id: "safetensors",
    name: "safetensors",
    extensions: &["safetensors"],
    use_and_risk: "For GPUs: tensors are mapped into memory without a copy, and loading runs no code.",
    probe,
    open,
};

/// Headers longer than this are refused by the reference reader, in bytes.
pub const MAX_HEADER: u64 = 100_000_000;

static HEADER_CUT: Rule = Rule {
    name: "safetensors-header-cut",
    severity: Severity::Error,
    why: "The file ends within its header, so some tensors are not even listed: the download is incomplete.",
    help: "download the file again and compare its size with the one that the hub states",
};
static HEADER_TOO_LONG: Rule = Rule {
    name: "safetensors-header-too-long",
    severity: Severity::Error,
    why: "The header is longer than the 100 MB that the reference reader accepts, so nothing loads it.",
    help: "split the model into shards, or shorten its metadata",
};
static HEADER_BROKEN: Rule = Rule {
    name: "safetensors-header-broken",
    severity: Severity::Error,
    why: "The header is not the JSON object that it must be; what follows the fault cannot be known.",
    help: "download the file again; if it stays so, the file was written wrongly",
};
static HEADER_ODD: Rule = Rule {
    name: "safetensors-header-odd",
    severity: Severity::Warning,
    why: "The header loads, but is not written as the specification asks (first byte `{`, length a multiple of 8, \
          no fields beyond the three), so strict readers may refuse it.",
    help: "save the file again with a current library",
};
static UNALIGNED: Rule = Rule {
    name: "safetensors-unaligned-data",
    severity: Severity::Note,
    why: "Tensor data does not begin at a multiple of 8 bytes. That is allowed, but some programs that map the file \
          read it slower or not at all.",
    help: "save the file again with a current library, which pads its header",
};
static METADATA_INVALID: Rule = Rule {
    name: "safetensors-metadata-invalid",
    severity: Severity::Error,
    why: "`__metadata__` must be one object that maps text to text; the reference reader refuses anything else, and \
          where it stands twice readers disagree about which one counts.",
    help: "rewrite the metadata as strings, once",
};
static METADATA_DUPLICATE: Rule = Rule {
    name: "safetensors-metadata-duplicate",
    severity: Severity::Warning,
    why: "A metadata key stands twice; readers disagree about which value counts.",
    help: "rewrite the metadata with each key once",
};
static TENSOR_INVALID: Rule = Rule {
    name: "safetensors-tensor-invalid",
    severity: Severity::Error,
    why: "A tensor's entry lacks its type, shape or place, or states them in a way that the format does not allow, \
          so it cannot be read and the reference reader refuses the whole file.",
    help: "save the file again with a current library",
};
static TENSOR_DUPLICATE: Rule = Rule {
    name: "safetensors-tensor-duplicate",
    severity: Severity::Error,
    why: "A tensor name stands twice. Readers keep one of the two without a word, and not all of them the same one: \
          the file can mean different things to different programs.",
    help: "do not trust the file; get it from its author again",
};
static DTYPE_UNKNOWN: Rule = Rule {
    name: "safetensors-dtype-unknown",
    severity: Severity::Error,
    why: "A tensor has an element type that the specification does not know, so its size cannot be checked.",
    help: "ask the file's author which library writes this type",
};
static SIZE_MISMATCH: Rule = Rule {
    name: "safetensors-size-mismatch",
    severity: Severity::Error,
    why: "A tensor's shape and type ask for another number of bytes than its place in the file has.",
    help: "do not use the file: its tensors cannot be trusted",
};
static OFFSETS_OUTSIDE: Rule = Rule {
    name: "safetensors-truncated",
    severity: Severity::Error,
    why: "Tensors lie beyond the end of the file: the download is incomplete, or the header lies.",
    help: "download the file again and compare its size with the one that the hub states",
};
static OVERLAP: Rule = Rule {
    name: "safetensors-overlap",
    severity: Severity::Error,
    why: "Two tensors claim the same bytes, which the format forbids: one of them is not what it says.",
    help: "do not use the file: its tensors cannot be trusted",
};
static HOLE: Rule = Rule {
    name: "safetensors-hole",
    severity: Severity::Error,
    why: "Bytes between tensors belong to none of them, which the format forbids: something may be hidden there.",
    help: "save the file again with a current library, which leaves the hole out",
};
static TRAILING: Rule = Rule {
    name: "safetensors-trailing-data",
    severity: Severity::Error,
    why: "Bytes after the last tensor belong to nothing, which the format forbids: something may be hidden there.",
    help: "save the file again with a current library, which leaves them out",
};
static NAME_ODD: Rule = Rule {
    name: "safetensors-name-odd",
    severity: Severity::Warning,
    why: "A tensor's name is empty, longer than 256 bytes, holds control characters, or climbs out of a folder like a \
          path; no program writes such names by itself, and some use names as file names.",
    help: "look at the name with --json before you print it to a terminal",
};

static SHAPE_ODD: Rule = Rule {
    name: "safetensors-shape-odd",
    severity: Severity::Warning,
    why: "A tensor has more than eight dimensions, which most programs have no room for.",
    help: "get the file from its author again, or save the tensor with fewer dimensions",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[
    &HEADER_CUT,
    &HEADER_TOO_LONG,
    &HEADER_BROKEN,
    &HEADER_ODD,
    &UNALIGNED,
    &METADATA_INVALID,
    &METADATA_DUPLICATE,
    &TENSOR_INVALID,
    &TENSOR_DUPLICATE,
    &DTYPE_UNKNOWN,
    &SIZE_MISMATCH,
    &OFFSETS_OUTSIDE,
    &OVERLAP,
    &HOLE,
    &TRAILING,
    &NAME_ODD,
    &SHAPE_ODD,
];

/// The reference reader refuses entries nested deeper than this, as its JSON library does.
const MAX_DEPTH: usize = 127;
/// More dimensions than any framework has room for.
const MAX_DIMS: usize = 8;
/// Names longer than this are odd, in bytes.
const MAX_NAME: usize = 256;

fn probe(head: &Head) -> Option<Match> {
    let length = head.u64(0)?;
    let rest = head.first.get(8..)?;
    // The specification demands `{` as the first byte; the reference reader allows blanks before it.
    let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let body = rest.get(blanks..)?;
    // No real length fills its upper bytes; text does, so there they must be no text.
    let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let absurd = length > 1 << 40 && head.first.iter().take(8).all(text);
    if length < 2 || absurd || body.first() != Some(&b'{') {
        return None;
    }
    let inside = body.get(1..)?.iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(inside, Some(b'"' | b'}') | None) {
        return None;
    }
    let start = length.saturating_add(8);
    let mut evidence = format!("the first 8 bytes give a header of {length} bytes, and it begins with `{{`");
    if start > head.len() {
        evidence.push_str(&format!("; the file is cut: it ends at byte {}, within the header", head.len()));
    }
    Match::new(score::CERTAIN - 5, evidence)
}

fn open(source: &Source) -> Result<Container> {
    let length = source.read(0..8)?.try_into().map(u64::from_le_bytes);
    let length = length.map_err(|_| Error::malformed("no header length").at(0))?;
    let start = length.saturating_add(8);
    let mut findings = Findings::new();
    if length > MAX_HEADER {
        let message = format!("the header is declared as {length} bytes; the limit is {MAX_HEADER}");
        findings.push(Finding::new(&HEADER_TOO_LONG, message).at(0));
    }
    if start > source.len() {
        let message = format!("the header runs to byte {start}, but the file ends at byte {}", source.len());
        findings.push(Finding::new(&HEADER_CUT, message).at(source.len()));
    }
    let bytes = source.read_up_to(8, length.min(MAX_HEADER))?;
    let complete = bytes.len() as u64 == length;
    let valid = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.len(),
        Err(error) => {
            // A cut may fall within a character; anything else is a fault.
            if complete || error.error_len().is_some() {
                let at = 8 + error.valid_up_to() as u64;
                findings.push(Finding::new(&HEADER_BROKEN, "the header is not UTF-8 text").at(at));
            }
            error.valid_up_to()
        }
    };
    let text = bytes.get(..valid).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default();

    // Room for as many entries as fit at their usual length: growing step by step costs a fifth of the time.
    let likely = (text.len() / 128).min(1 << 17);
    let mut header = Header {
        text,
        whole: false,
        names: HashSet::with_capacity_and_hasher(likely, foldhash::fast::RandomState::default()),
        has_metadata: false,
        tensors: Vec::with_capacity(likely),
        metadata: Metadata::new(),
        before: findings.clone(),
        findings,
    };
    let parsed = if header.read_usual().is_some() {
        Ok(())
    } else {
        header.forget();
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(&mut header).and_then(|()| json.end())
    };
    // Where the JSON stops making sense: behind the whole of it, or at the fault.
    let end = match parsed {
        Ok(()) => text.trim_end().len(),
        Err(error) => {
            let at = json::offset(text.as_bytes(), &error);
            // The end of the text is a fault of its own only where the header was read to its end.
            if complete && valid == bytes.len() || !error.is_eof() {
                header.findings.push(Finding::new(&HEADER_BROKEN, json::words(&error)).at(8 + at as u64));
            }
            if error.is_eof() { text.len() } else { at }
        }
    };
    header.whole = complete && valid == bytes.len() && end == text.trim_end().len();
    if !text.starts_with('{') && text.trim_start().starts_with('{') {
        header.findings.push(Finding::new(&HEADER_ODD, "blanks stand before the header's `{`").at(8));
    }
    Ok(header.finish(source, 8 + end as u64, start))
}

/// The first 80 characters of a name that may be long.
fn shorten(text: &str) -> &str {
    // Nearly all are short; this is asked for every tensor.
    if text.len() <= 80 {
        return text;
    }
    text.char_indices().nth(80).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A shape in words, without its tail where it is absurdly long.
fn shape_text(shape: &[u64]) -> String {
    match shape.get(..MAX_DIMS) {
        Some(first) if shape.len() > MAX_DIMS => format!("{first:?} and {} more dimensions", shape.len() - MAX_DIMS),
        _ => format!("{shape:?}"),
    }
}

/// How deep arrays and objects are nested in a valid JSON text.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A tensor's entry, as the specification has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Reads an entry in the form in which every library writes it, some times faster than the JSON parser; `None` for any
/// other form. Returns what follows it.
fn usual_entry(json: &str) -> Option<(Entry<'_>, &str)> {
    fn number(text: &str) -> Option<(u64, &str)> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = text.split_at_checked(digits)?;
        // JSON knows no leading zeros.
        if digits > 1 && number.starts_with('0') {
            return None;
        }
        Some((number.parse().ok()?, rest))
    }
    let (dtype, mut rest) = usual_text(json.strip_prefix(r#"{"dtype":"#)?)?;
    let mut shape = Vec::new();
    let mut before = r#","shape":["#;
    while !rest.starts_with(if shape.is_empty() { r#","shape":[]"# } else { "]" }) {
        let (dimension, behind) = number(rest.strip_prefix(before)?)?;
        shape.push(dimension);
        (before, rest) = (",", behind);
    }
    let rest = rest.strip_prefix(if shape.is_empty() { r#","shape":[]"# } else { "]" })?;
    let (from, rest) = number(rest.strip_prefix(r#","data_offsets":["#)?)?;
    let (to, rest) = number(rest.strip_prefix(',')?)?;
    let rest = rest.strip_prefix("]}")?;
    Some((Entry { dtype: Cow::Borrowed(dtype), shape, data_offsets: [from, to] }, rest))
}

/// What a header lists.
enum Item<'a> {
    Metadata(&'a RawValue),
    /// Name, entry, and the text that begins with the entry.
    Tensor(&'a str, Entry<'a>, &'a str),
}

/// Cuts a header's items into parts of about a megabyte, which can be read at the same time.
fn parts(body: &str) -> Vec<&str> {
    const PART: usize = 1 << 20;
    let mut parts = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.get(PART..).and_then(|behind| behind.find("]},\"")) {
        let (part, behind) = rest.split_at(PART + at + 2);
        parts.push(part);
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    parts.push(rest);
    parts
}

/// Reads items in the form in which every library writes them, up to the end of `text`; `None` for any other form.
fn usual_items(text: &str) -> Option<Vec<Item<'_>>> {
    let mut items = Vec::with_capacity(text.len() / 128);
    let mut rest = text;
    loop {
        let (name, behind) = usual_text(rest)?;
        let value = behind.strip_prefix(':')?;
        if name == "__metadata__" {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<&RawValue>();
            items.push(Item::Metadata(values.next()?.ok()?));
            rest = value.get(values.byte_offset()..)?;
        } else {
            let (entry, behind) = usual_entry(value)?;
            items.push(Item::Tensor(name, entry, value));
            rest = behind;
        }
        if rest.is_empty() {
            return Some(items);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// A JSON string without escapes at the begin of `json`, and what follows it.
fn usual_text(json: &str) -> Option<(&str, &str)> {
    let (text, rest) = json.strip_prefix('"')?.split_once('"')?;
    // Without an early end the compiler looks at many bytes at once.
    let plain = text.bytes().fold(true, |all, byte| all & (byte >= 0x20) & (byte != b'\\'));
    plain.then_some((text, rest))
}

/// The same with fields that the specification does not know, which the reference reader steps over.
#[derive(Deserialize)]
struct WideEntry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// What the header holds, gathered while its JSON is read, so that a cut header yields what it can.
struct Header<'a> {
    text: &'a str,
    /// Whether the header was read to its end, so that what no tensor claims is really nobody's.
    whole: bool,
    names: HashSet<Cow<'a, str>, foldhash::fast::RandomState>,
    has_metadata: bool,
    tensors: Vec<Tensor>,
    metadata: Metadata,
    findings: Findings,
    /// What was found before the JSON was looked at.
    before: Findings,
}

/// Keys without escapes are borrowed from the header.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for &mut Header<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some((Key(name), value)) = map.next_entry::<Key, &'de RawValue>()? {
            let at = self.place(value.get());
            if name == "__metadata__" {
                self.read_metadata(value, at);
            } else {
                self.read_entry(name, value, at);
            }
        }
        Ok(())
    }
}

/// `__metadata__`, with keys that stand twice kept as they are.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object of text")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<'de>, M::Error> {
                let mut pairs = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl<'a> Header<'a> {
    /// Where a value stands in the file: it is a part of the header's text.
    fn place(&self, value: &str) -> u64 {
        8 + (value.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize) as u64
    }

    /// Reads a header in the form in which every library writes it; `None` where it deviates, and the JSON parser
    /// must look at it.
    fn read_usual(&mut self) -> Option<()> {
        let text: &'a str = self.text;
        let blank = |c| matches!(c, ' ' | '\t' | '\n' | '\r');
        let body = text.strip_prefix('{')?.trim_end_matches(blank).strip_suffix('}')?;
        // Every part is read in full or the header is not usual, so a cut at the wrong place does no harm.
        let parts: Option<Vec<Vec<Item>>> = parts(body).into_par_iter().map(usual_items).collect();
        for item in parts?.into_iter().flatten() {
            match item {
                Item::Metadata(value) => self.read_metadata(value, self.place(value.get())),
                Item::Tensor(name, entry, place) => self.add(Cow::Borrowed(name), entry, self.place(place)),
            }
        }
        Some(())
    }

    /// Drops what was gathered from the tensors and metadata, to begin anew.
    fn forget(&mut self) {
        self.names.clear();
        self.tensors.clear();
        self.metadata = Metadata::new();
        self.has_metadata = false;
        self.findings = std::mem::take(&mut self.before);
    }

    fn read_metadata(&mut self, value: &'a RawValue, at: u64) {
        if self.has_metadata {
            self.findings.push(Finding::new(&METADATA_INVALID, "`__metadata__` stands more than once").at(at));
        }
        self.has_metadata = true;
        let pairs = match serde_json::from_str::<Pairs>(value.get()) {
            Ok(Pairs(pairs)) => pairs,
            Err(error) => {
                self.findings.push(Finding::new(&METADATA_INVALID, json::words(&error)).at(at));
                return;
            }
        };
        for (key, value) in pairs {
            let at = self.place(value.get());
            match serde_json::from_str::<String>(value.get()) {
                Ok(text) => {
                    if !self.metadata.push_text(&*key, text) {
                        let message = format!("the metadata key {:?} stands more than once", shorten(&key));
                        self.findings.push(Finding::new(&METADATA_DUPLICATE, message).at(at));
                    }
                }
                Err(_) => {
                    let message = format!("the value of the metadata key {:?} is not text", shorten(&key));
                    self.findings.push(Finding::new(&METADATA_INVALID, message).at(at));
                }
            }
        }
    }

    fn read_entry(&mut self, name: Cow<'a, str>, value: &'a RawValue, at: u64) {
        let label = shorten(&name);
        let entry = serde_json::from_str::<Entry>(value.get()).or_else(|strict| {
            let wide = serde_json::from_str::<WideEntry>(value.get())?;
            if depth(value.get()) >= MAX_DEPTH {
                return Err(serde::de::Error::custom(format!("its entry is nested {} deep", depth(value.get()))));
            }
            let message = format!("the entry of tensor {label:?} has {}", shorten(&json::words(&strict)));
            self.findings.push(Finding::new(&HEADER_ODD, message).at(at).tensor(&*name));
            Ok(Entry { dtype: wide.dtype, shape: wide.shape, data_offsets: wide.data_offsets })
        });
        match entry {
            Ok(entry) => self.add(name, entry, at),
            Err::<_, serde_json::Error>(error) => {
                let message = format!("tensor {label:?} cannot be read: {}", shorten(&json::words(&error)));
                self.findings.push(Finding::new(&TENSOR_INVALID, message).at(at).tensor(&*name));
            }
        }
    }

    fn add(&mut self, name: Cow<'a, str>, entry: Entry<'a>, at: u64) {
        let Entry { dtype, shape, data_offsets: [from, to] } = entry;
        let label = shorten(&name);
        // Nearly all names are plain ASCII without slashes, and cost no closer look.
        let usual = |byte: u8| (byte > 0x20) & (byte < 0x7f) & (byte != b'/') & (byte != b'\\');
        let climbs = || name.starts_with('/') || name.split(['/', '\\']).any(|part| part == "..");
        let odd = || climbs() || name.chars().any(char::is_control);
        if name.is_empty()
            || name.len() > MAX_NAME
            || (!name.bytes().fold(true, |all, byte| all & usual(byte)) || name == "..") && odd()
        {
            let message = match name.len() {
                0 => "a tensor has no name".to_string(),
                length => format!("a tensor has an odd name of {length} bytes: {label:?}"),
            };
            self.findings.push(Finding::new(&NAME_ODD, message).at(at).tensor(&*name));
        }
        if from > to {
            let message = format!("tensor {label:?} ends at {to}, before its begin at {from}");
            self.findings.push(Finding::new(&TENSOR_INVALID, message).at(at).tensor(&*name));
            return;
        }
        if shape.len() > MAX_DIMS {
            let message = format!("tensor {label:?} has {} dimensions", shape.len());
            self.findings.push(Finding::new(&SHAPE_ODD, message).at(at).tensor(&*name));
        }
        let known = DType::from_safetensors(&dtype);
        match known {
            None => {
                let message = format!("tensor {label:?} has the unknown type {:?}", shorten(&dtype));
                self.findings.push(Finding::new(&DTYPE_UNKNOWN, message).at(at).tensor(&*name));
            }
            Some(known) => self.check_size(&name, known, &shape, to - from, at),
        }
        if !self.names.insert(name.clone()) {
            let message = format!("the tensor name {label:?} stands more than once");
            self.findings.push(Finding::new(&TENSOR_DUPLICATE, message).at(at).tensor(&*name));
        }
        // Offsets count from the end of the header; `finish` makes them count from the file's begin.
        self.tensors.push(Tensor {
            name: name.into_owned(),
            dtype: known.unwrap_or(DType::UNKNOWN),
            shape,
            bytes: to - from,
            span: Some(Span { start: from, len: to - from }),
            storage: None,
        });
    }

    fn check_size(&mut self, name: &str, dtype: DType, shape: &[u64], have: u64, at: u64) {
        let elements = checked_elements(shape);
        let need = elements.and_then(|elements| dtype.bytes(elements));
        let whole = elements.is_some_and(|elements| elements.is_multiple_of(dtype.block().max(1)));
        let label = shorten(name);
        let message = match need {
            None => {
                let shape = shape_text(shape);
                format!("the shape {shape} of tensor {label:?} has more elements than 64 bits can count")
            }
            Some(need) if need != have => {
                let shape = shape_text(shape);
                format!("tensor {label:?} needs {need} bytes for {} {shape}, but has {have}", dtype.name())
            }
            Some(_) if !whole => format!("tensor {label:?} does not fill its last byte"),
            Some(_) => return,
        };
        self.findings.push(Finding::new(&SIZE_MISMATCH, message).at(at).tensor(name));
    }

    /// Places the tensors in the file and makes the ledger; `text_end` is where the header's JSON ends or breaks
    /// off, `start` where its declared length ends.
    fn finish(mut self, source: &Source, text_end: u64, start: u64) -> Container {
        let len = source.len();
        let mut draft = Draft::new();
        draft.add(0, 8, Kind::Magic, "header length");
        draft.add(8, text_end, Kind::Header, "names, types, shapes and offsets of the tensors (JSON)");
        // Only blanks may follow the JSON; behind a fault anything may hide.
        match self.whole {
            true => draft.add(text_end, start, Kind::Padding, "blanks after the header"),
            false => draft.add(text_end, start, Kind::Unexplained, "what follows the fault in the header"),
        }

        let mut order: Vec<(u64, u64, usize)> = Vec::with_capacity(self.tensors.len());
        for (index, tensor) in self.tensors.iter_mut().enumerate() {
            if let Some(span) = &mut tensor.span {
                span.start = span.start.saturating_add(start);
                order.push((span.start, span.end(), index));
            }
        }
        order.sort_unstable();
        draft.reserve(order.len());
        let mut at = start;
        let mut outside = 0u64;
        for (from, to, index) in &order {
            let (from, to) = (*from, *to);
            draft.add(from, to, Kind::Tensor, Label::Tensor(*index));
            let name = self.tensors.get(*index).map(|tensor| tensor.name.as_str()).unwrap_or_default();
            let label = shorten(name);
            if from > at && self.whole {
                let message = format!("{} bytes before tensor {label:?} belong to no tensor", from - at);
                self.findings.push(Finding::new(&HOLE, message).at(at).tensor(name));
            } else if from < at {
                let message = format!("tensor {label:?} begins {} bytes before the one before it ends", at - from);
                self.findings.push(Finding::new(&OVERLAP, message).at(from).tensor(name));
            }
            outside += u64::from(to > len);
            at = at.max(to);
        }
        if outside > 0 {
            let message = format!(
                "{outside} of {} tensors lie beyond the end of the file: {at} bytes are needed, {len} are there",
                order.len()
            );
            self.findings.push(Finding::new(&OFFSETS_OUTSIDE, message).at(len));
        } else if at < len && self.whole {
            let message = format!("{} bytes follow the last tensor", len - at);
            self.findings.push(Finding::new(&TRAILING, message).at(at));
        }
        if start <= len && !start.is_multiple_of(8) {
            let message = format!("tensor data begins at byte {start}, which is no multiple of 8");
            self.findings.push(Finding::new(&UNALIGNED, message).at(start));
        }
        let mut container = Container::new(&FORMAT, draft.finish(len));
        container.tensors = self.tensors;
        container.metadata = self.metadata;
        container.findings = self.findings.finish();
        container
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn read(bytes: Vec<u8>) -> Container {
        open(&Source::memory("test", bytes)).unwrap()
    }

    fn rules(container: &Container) -> Vec<&'static str> {
        container.findings.iter().map(|finding| finding.rule.name).collect()
    }

    #[test]
    fn reads_a_plain_file() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}} "#;
        let container = read(file(header, &[0; 12]));
        assert_eq!(rules(&container), ["safetensors-unaligned-data"]);
        assert_eq!(container.metadata.text("format"), Some("pt"));
        let tensor = &container.tensors[0];
        assert_eq!((tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice()), ("a", DType::F16, &[2, 3][..]));
        assert_eq!(tensor.span.unwrap().start, 8 + header.len() as u64);
        assert_eq!(container.ledger.total(Kind::Tensor), 12);
        assert_eq!(container.ledger.total(Kind::Unexplained), 0);
    }
}
