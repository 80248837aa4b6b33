//! numpy's `.npy` (one array) and `.npz` (a zip of them).
//!
//! Source: numpy/lib/format.py, versions 1.0 to 3.0.

use super::zip::{self, Member, read_member};
use super::{Container, Format, pickle};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::Metadata;
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::{Span, Tensor, checked_elements};

/// One array.
pub static FORMAT: Format = Format {
    id: "npy",
    name: "numpy array",
    extensions: &["npy"],
    use_and_risk: "One array. Loading numbers runs no code; an array of objects is a pickle, which does.",
    probe,
    open,
};

/// Arrays in a zip archive.
pub static NPZ: Format = Format {
    id: "npz",
    name: "numpy arrays (zip)",
    extensions: &["npz"],
    use_and_risk: "Named arrays. Loading numbers runs no code; an array of objects is a pickle, which does.",
    probe: probe_npz,
    open: open_npz,
};

static HEADER: Rule = Rule {
    name: "npy-header-invalid",
    severity: Severity::Error,
    why: "The array's header is not the Python dictionary of type, order and shape that it must be.",
    help: "save the array again with numpy",
};
static OBJECTS: Rule = Rule {
    name: "npy-object-array",
    severity: Severity::Warning,
    why: "The array holds Python objects, so its data is a pickle: loading it runs a program.",
    help: "load it with `allow_pickle=False`, or not at all unless you trust its author",
};
static SIZE: Rule = Rule {
    name: "npy-size-mismatch",
    severity: Severity::Error,
    why: "The array's shape and type ask for another number of bytes than are there: the file is cut, or the header lies.",
    help: "get the file again",
};
static MEMBER: Rule = Rule {
    name: "npz-foreign-member",
    severity: Severity::Warning,
    why: "A member of the archive is no array. numpy hands it out as raw bytes; other programs may unpickle it.",
    help: "look at what the member is",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[&HEADER, &OBJECTS, &SIZE, &MEMBER];

/// First bytes of the format.
pub const MAGIC: [u8; 6] = *b"\x93NUMPY";
/// numpy itself refuses headers beyond 10,000 bytes unless told otherwise.
const MAX_HEADER: u64 = 1 << 20;
/// Bytes of a deflated member that are unpacked for its header.
const MAX_MEMBER_HEAD: u64 = 64 * 1024;

/// numpy's element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Type.
    pub dtype: DType,
    /// Bytes of one element.
    pub bytes: u64,
    /// Whether its bytes stand most significant first.
    pub big_endian: bool,
    /// Whether it is a Python object.
    pub object: bool,
}

impl Element {
    /// Reads a type string such as `<f4`, `|b1`, `>i8`, `<U10` or `|O`.
    pub fn parse(text: &str) -> Option<Self> {
        let (order, code) = match text.chars().next()? {
            order @ ('<' | '>' | '|' | '=') => (order, text.get(1..)?),
            _ => ('=', text),
        };
        let kind = code.chars().next()?;
        let digits: String = code.chars().skip(1).take_while(char::is_ascii_digit).collect();
        let size: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let (dtype, bytes) = match (kind, size) {
            ('b', 1) | ('?', 0) => (DType::BOOL, 1),
            ('i', 1) => (DType::I8, 1),
            ('i', 2) => (DType::I16, 2),
            ('i', 4) => (DType::I32, 4),
            ('i', 8) => (DType::I64, 8),
            ('u', 1) => (DType::U8, 1),
            ('u', 2) => (DType::U16, 2),
            ('u', 4) => (DType::U32, 4),
            ('u', 8) => (DType::U64, 8),
            ('f', 2) => (DType::F16, 2),
            ('f', 4) => (DType::F32, 4),
            ('f', 8) => (DType::F64, 8),
            ('c', 8) => (DType::C64, 8),
            ('c', 16) => (DType::C128, 16),
            ('O', _) => (DType::OBJECT, 8),
            ('U', length) => (DType::OBJECT, length.checked_mul(4)?),
            ('M' | 'm', _) => (DType::I64, 8),
            // Long doubles, byte strings and raw bytes: a size, but no type of ours.
            ('S' | 'a' | 'V' | 'f' | 'c', length) => (DType::OBJECT, length),
            _ => return None,
        };
        Some(Element { dtype, bytes, big_endian: order == '>', object: kind == 'O' })
    }
}

/// What an `.npy` header says.
#[derive(Debug, Clone)]
pub struct Header {
    /// Element type; of a structured type its size in bytes, with `OBJECT` as type.
    pub element: Element,
    /// The type as written.
    pub descr: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Whether the first dimension runs fastest.
    pub fortran: bool,
    /// Version of the format.
    pub version: (u8, u8),
    /// Where the data begins.
    pub data: u64,
}

fn probe(head: &Head) -> Option<Match> {
    if !head.starts_with(&MAGIC) {
        return None;
    }
    let mut evidence = "it begins with `\\x93NUMPY`".to_string();
    let cut = match read_header(head.source) {
        Ok(header) => header.need().is_some_and(|need| need > head.len()),
        Err(_) => head.len() < 12,
    };
    if cut {
        evidence.push_str(&format!("; it is cut: the file ends at byte {}", head.len()));
    }
    Match::new(score::CERTAIN, evidence)
}

impl Header {
    /// Bytes of the data.
    fn size(&self) -> Option<u64> {
        checked_elements(&self.shape)?.checked_mul(self.element.bytes)
    }

    /// Length of the whole file.
    fn need(&self) -> Option<u64> {
        if self.element.object { None } else { self.size()?.checked_add(self.data) }
    }
}

/// Reads the header of the array that begins at the source's first byte.
pub fn read_header(source: &Source) -> Result<Header> {
    let prefix = source.read_up_to(0, 12)?;
    let broken = |message: &str, at| Err(Error::malformed(message).at(at).in_file(source.name()));
    let [_, _, _, _, _, _, major, minor, rest @ ..] = prefix.as_slice() else {
        return broken("the file ends within the header", prefix.len() as u64);
    };
    if !prefix.starts_with(&MAGIC) {
        return broken("it does not begin with `\\x93NUMPY`", 0);
    }
    let (start, length) = match (major, rest) {
        (1, [a, b, ..]) => (10, u64::from(u16::from_le_bytes([*a, *b]))),
        (2 | 3, [a, b, c, d]) => (12, u64::from(u32::from_le_bytes([*a, *b, *c, *d]))),
        (1..=3, _) => return broken("the file ends within the header", prefix.len() as u64),
        _ => return broken("a version that numpy does not know", 6),
    };
    if length > MAX_HEADER {
        return broken("a header of more than a mebibyte", 8);
    }
    let bytes = source.read(start..start + length)?;
    let text = String::from_utf8_lossy(&bytes);
    let Some((descr, fortran, shape)) = parse_dictionary(&text) else {
        return broken("the header is no dictionary of descr, fortran_order and shape", start);
    };
    let Some(element) = element_of(&descr) else {
        return broken("the header has a type that numpy does not know", start);
    };
    let data = start + length;
    Ok(Header { element, descr, shape, fortran, version: (*major, *minor), data })
}

/// The type in `descr`: a string, or a list of fields that make a record.
fn element_of(descr: &str) -> Option<Element> {
    let plain = |text: &str| text.trim().trim_matches(['\'', '"']).to_string();
    if !descr.trim_start().starts_with('[') {
        return Element::parse(&plain(descr));
    }
    // Fields: ('name', '<f4') or ('name', '<f4', (3,)).
    let mut record = Element { dtype: DType::OBJECT, bytes: 0, big_endian: false, object: false };
    let mut last = 0u64;
    for part in descr.split('(').skip(1) {
        if part.starts_with(|first: char| first.is_ascii_digit()) {
            // The shape of the field before, which has been counted once.
            let (inside, _) = part.split_once(')')?;
            let dimensions = inside.split(',').map(str::trim).filter(|dimension| !dimension.is_empty());
            let mut count = 1u64;
            for dimension in dimensions {
                count = count.checked_mul(dimension.parse().ok()?)?;
            }
            record.bytes = (record.bytes - last).checked_add(last.checked_mul(count)?)?;
            last = 0;
        } else if let Some(kind) = part.split(['\'', '"']).skip(1).step_by(2).nth(1) {
            let element = Element::parse(kind)?;
            last = element.bytes;
            record.bytes = record.bytes.checked_add(last)?;
            record.object |= element.object;
        }
    }
    Some(record)
}

/// The three entries of the header: a Python dictionary literal as numpy writes it.
fn parse_dictionary(text: &str) -> Option<(String, bool, Vec<u64>)> {
    let after = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'")).or_else(|| text.split_once(&format!("\"{key}\"")))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let fortran = after("fortran_order")?;
    let fortran = match (fortran.starts_with("True"), fortran.starts_with("False")) {
        (true, _) => true,
        (_, true) => false,
        _ => return None,
    };
    let (inside, _) = after("shape")?.strip_prefix('(')?.split_once(')')?;
    let mut shape = Vec::new();
    for dimension in inside.split(',').map(str::trim).filter(|dimension| !dimension.is_empty()) {
        if shape.len() >= 64 {
            return None;
        }
        shape.push(dimension.trim_end_matches('L').parse().ok()?);
    }
    let descr = after("descr")?;
    let descr = match descr.chars().next()? {
        '[' => {
            let (inside, _) = descr.rsplit_once(']')?;
            // The list ends before the next key of the dictionary.
            let end = [inside.find("'fortran_order'"), inside.find("'shape'")].into_iter().flatten().min();
            inside.get(..end.unwrap_or(inside.len()))?.to_string()
        }
        quote @ ('\'' | '"') => descr.get(1..)?.split_once(quote)?.0.to_string(),
        _ => return None,
    };
    Some((descr, fortran, shape))
}

fn open(source: &Source) -> Result<Container> {
    let len = source.len();
    let mut draft = Draft::new();
    let mut findings = Findings::new();
    draft.add(0, 6, Kind::Magic, "\\x93NUMPY");
    let header = match read_header(source) {
        Ok(header) => header,
        Err(error) => {
            findings.push(Finding::new(&HEADER, error.message()).at(error.offset().unwrap_or(0)));
            let mut container = Container::new(&FORMAT, draft.finish(len));
            container.findings = findings.finish();
            return Ok(container);
        }
    };
    draft.add(6, header.data, Kind::Header, "type, order and shape of the array");
    let tensor = tensor_of("array", &header, Span { start: header.data, len: len - header.data }, None, &mut findings);
    let mut metadata = Metadata::new();
    if header.element.object {
        draft.add(header.data, len, Kind::Code, "pickled objects");
        let trace = pickle::run(source, header.data)?;
        pickle::report_faults(&trace, None, &mut findings);
        pickle::push_globals(&mut metadata, pickle::distinct_globals(&trace));
    } else if let Some(span) = tensor.span {
        draft.add(span.start, span.end(), Kind::Tensor, Label::Tensor(0));
    }
    let mut container = Container::new(&FORMAT, draft.finish(len));
    container.facts = facts(&header);
    container.tensors = vec![tensor];
    container.metadata = metadata;
    container.findings = findings.finish();
    Ok(container)
}

fn facts(header: &Header) -> Vec<(&'static str, String)> {
    let mut facts = vec![("version", format!("{}.{}", header.version.0, header.version.1))];
    facts.push(("type", header.descr.clone()));
    if header.fortran {
        facts.push(("order", "Fortran: the first dimension runs fastest".to_string()));
    }
    if header.element.big_endian {
        facts.push(("byte order", "big".to_string()));
    }
    facts
}

/// The array as a tensor; `room` is where its data can be.
fn tensor_of(name: &str, header: &Header, room: Span, member: Option<&str>, findings: &mut Findings) -> Tensor {
    let place = |finding: Finding| match member {
        Some(member) => finding.member(member),
        None => finding.at(room.start),
    };
    let size = header.size();
    let mut span = None;
    if header.element.object {
        let message = format!("array {name:?} of type {:?} holds pickled objects", header.descr);
        findings.push(place(Finding::new(&OBJECTS, message).tensor(name)));
    } else if size == Some(room.len) {
        span = Some(room);
    } else {
        let need = size.map_or("more than 64 bits can count".to_string(), |size| size.to_string());
        let message = format!("array {name:?} needs {need} bytes for its shape, but {} are there", room.len);
        findings.push(place(Finding::new(&SIZE, message).tensor(name)));
        span = size.map(|size| Span { start: room.start, len: size });
    }
    let bytes = if header.element.object { 0 } else { size.unwrap_or(u64::MAX) };
    Tensor { name: name.into(), dtype: header.element.dtype, shape: header.shape.clone(), bytes, span, storage: None }
}

fn probe_npz(head: &Head) -> Option<Match> {
    let listing = head.zip()?;
    let arrays = listing.names.iter().filter(|name| name.ends_with(".npy")).count();
    if arrays == 0 || arrays * 2 <= listing.names.len() {
        return None;
    }
    Match::new(listing.score(), format!("{}, and {arrays} of its members end in `.npy`", listing.evidence()))
}

fn open_npz(source: &Source) -> Result<Container> {
    let archive = zip::read(source)?;
    let mut findings = Findings::new();
    let mut draft = Draft::new();
    let mut tensors = Vec::new();
    let mut globals = Vec::new();
    archive.claim_structure(&mut draft);
    for member in &archive.members {
        for name in read_array(source, member, &mut draft, &mut tensors, &mut findings)? {
            if globals.len() < 256 && !globals.contains(&name) {
                globals.push(name);
            }
        }
    }
    let mut container = Container::new(&NPZ, draft.finish(source.len()));
    container.facts.push(("members", archive.members.len().to_string()));
    container.tensors = tensors;
    pickle::push_globals(&mut container.metadata, globals);
    container.findings = archive.findings.finish();
    container.findings.extend(findings.finish());
    Ok(container)
}

/// Lists one member; what its pickle imports, where it has one.
fn read_array(
    source: &Source,
    member: &Member,
    draft: &mut Draft,
    tensors: &mut Vec<Tensor>,
    findings: &mut Findings,
) -> Result<Vec<String>> {
    let data = member.data;
    let name = member.name.strip_suffix(".npy").unwrap_or(&member.name);
    // Of a deflated member only the first bytes are unpacked.
    let first = match zip::read_first(source, member, MAX_MEMBER_HEAD) {
        Ok(first) => first,
        Err(error) => {
            findings.push(Finding::new(&MEMBER, error.message()).member(&*member.name));
            draft.add(data.start, data.end(), Kind::Unexplained, format!("member {}", member.name));
            return Ok(Vec::new());
        }
    };
    if !member.name.ends_with(".npy") || !first.read_up_to(0, 6)?.starts_with(&MAGIC) {
        let message = format!("member {:?} is no array", member.name);
        findings.push(Finding::new(&MEMBER, message).member(&*member.name));
        draft.add(data.start, data.end(), zip::kind_of(&member.name), format!("member {}", member.name));
        return Ok(Vec::new());
    }
    let header = match read_header(&first) {
        Ok(header) => header,
        Err(error) => {
            let finding = Finding::new(&HEADER, error.message()).at(error.offset().unwrap_or(0));
            findings.push(finding.member(&*member.name));
            draft.add(data.start, data.end(), Kind::Unexplained, format!("member {}", member.name));
            return Ok(Vec::new());
        }
    };
    let stored = member.stored();
    let room = match stored {
        Some(span) => Span { start: span.start + header.data, len: span.len.saturating_sub(header.data) },
        None => Span { start: 0, len: member.size.saturating_sub(header.data) },
    };
    let mut tensor = tensor_of(name, &header, room, Some(&member.name), findings);
    if stored.is_none() {
        tensor.span = None;
    }
    let kind = if header.element.object { Kind::Code } else { Kind::Tensor };
    if stored.is_some() {
        draft.add(data.start, data.start + header.data, Kind::Header, format!("npy header of {name}"));
        draft.add(room.start, room.end(), kind, Label::Tensor(tensors.len()));
    } else {
        draft.add(data.start, data.end(), kind, Label::Tensor(tensors.len()));
    }
    let mut globals = Vec::new();
    if header.element.object
        && let Ok(contents) = read_member(source, member, pickle::MAX_UNPACKED)
    {
        let trace = pickle::run(&contents.source, header.data)?;
        pickle::report_faults(&trace, Some(&member.name), findings);
        globals = pickle::distinct_globals(&trace);
    }
    tensors.push(tensor);
    Ok(globals)
}
