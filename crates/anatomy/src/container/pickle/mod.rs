//! Pickles: Python's way to save any object, which is a program that runs when the file is loaded.
//!
//! Nothing is executed here: [`run`] follows the program symbolically. This file identifies plain
//! pickles and joblib's, and lists what they import, and the numpy arrays within them.

mod machine;
mod memo;
mod text;
mod trace;
mod walk;

use std::collections::HashSet;

pub use machine::{Loader, run, run_next};
pub use trace::{Call, CallKind, Fault, Global, Id, InlineArray, Items, Str, Trace, Value, Via};
pub use walk::{Visit, entries, is_mapping, walk};

use super::npy::Element;
use super::{Container, Format};
use crate::error::Result;
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::{self, Array, Entry, Metadata};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::{Span, Tensor, checked_elements};

/// A pickle by itself.
pub static FORMAT: Format = Format {
    id: "pickle",
    name: "Python pickle",
    extensions: &["pkl", "pickle", "p", "dill"],
    use_and_risk: "Any Python object. Loading it runs the program that it is: load none that you do not trust.",
    probe,
    open,
};

/// joblib's pickles, with arrays between the opcodes.
pub static JOBLIB: Format = Format {
    id: "joblib",
    name: "joblib pickle",
    extensions: &["joblib"],
    use_and_risk: "scikit-learn models. Loading it runs the pickle within: load none that you do not trust.",
    probe: probe_joblib,
    open: open_joblib,
};

static BROKEN: Rule = Rule {
    name: "pickle-broken",
    severity: Severity::Error,
    why: "The pickle's opcodes make no sense from some place on. Everything before that place still runs when the file \
          is loaded, and attackers use that to hide from scanners.",
    help: "do not load the file; get it from its author again",
};
static CUT: Rule = Rule {
    name: "pickle-truncated",
    severity: Severity::Error,
    why: "The file ends within the pickle: the download is incomplete.",
    help: "download the file again and compare its size with the one that the hub states",
};
static ODD: Rule = Rule {
    name: "pickle-odd",
    severity: Severity::Error,
    why: "The pickle has parts that Python's own pickler never writes and over which loaders stumble, such as frames \
          that promise more than there is, or values left over at its end.",
    help: "do not load the file unless you know what wrote it",
};
static MORE: Rule = Rule {
    name: "pickle-more-streams",
    severity: Severity::Note,
    why: "Another pickle follows the first. Some programs load only the first, others all.",
    help: "look at what each of them imports",
};
static TRAILING: Rule = Rule {
    name: "pickle-trailing-data",
    severity: Severity::Warning,
    why: "Bytes follow the pickle that are none themselves: loaders ignore them, so something may be hidden there.",
    help: "look at what the bytes are",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[&BROKEN, &CUT, &ODD, &MORE, &TRAILING];

/// Bytes to which a deflated pickle is unpacked.
pub const MAX_UNPACKED: u64 = 64 << 20;
/// Pickles in one file that are followed one by one; the bytes of the rest are labelled together.
const MAX_STREAMS: usize = 10_000;
/// Bytes of a name that a program could have.
const MAX_NAME: usize = 1024;
/// Names of imports that the metadata lists.
const MAX_GLOBALS: usize = 256;

/// What joblib or numpy say of an array.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Elements.
    pub element: Element,
    /// Shape.
    pub shape: Vec<u64>,
    /// Whether the first dimension runs fastest.
    pub fortran: bool,
    /// Bytes of its data; `None` for Python objects, which are pickled.
    pub bytes: Option<u64>,
    /// Whether a byte that counts filling stands before the data (joblib since 1.1).
    pub aligned: bool,
}

/// Reads a `numpy.dtype` call with its state.
pub fn numpy_dtype(trace: &Trace, id: Id) -> Option<Element> {
    let call = trace.call(id)?;
    if !trace.is_global(call.callee, "numpy", "dtype") {
        return None;
    }
    let code = trace.text(*trace.contents(call.arguments).first()?)?;
    let state = trace.state(id).map(|state| trace.contents(state)).unwrap_or_default();
    let order = state.get(1).and_then(|order| trace.text(*order)).unwrap_or("|");
    let mut element = Element::parse(&format!("{order}{code}"))?;
    if code.starts_with('V') {
        // Fields may hold objects; the size of a record is in the state.
        let size = state.get(5).and_then(|size| trace.int(*size)).and_then(|size| u64::try_from(size).ok());
        element.bytes = size.unwrap_or(element.bytes);
        let flags = state.get(7).and_then(|flags| trace.int(*flags)).unwrap_or(0);
        element.object = flags & 1 != 0;
    }
    Some(element)
}

fn shape(trace: &Trace, id: Id) -> Option<Vec<u64>> {
    let items = trace.contents(id);
    if items.len() > 64 {
        return None;
    }
    items.iter().map(|item| u64::try_from(trace.int(*item)?).ok()).collect()
}

/// The layout of an array in joblib's own form.
pub(super) fn inline_layout(trace: &Trace, state: Id) -> Option<Layout> {
    let shape = shape(trace, trace.lookup(state, "shape")?)?;
    let element = numpy_dtype(trace, trace.lookup(state, "dtype")?)?;
    let size = checked_elements(&shape)?.checked_mul(element.bytes)?;
    let order = trace.lookup(state, "order").and_then(|order| trace.text(order));
    let bytes = (!element.object).then_some(size);
    let aligned = trace.lookup(state, "numpy_array_alignment_bytes").is_some_and(|id| trace.int(id).is_some());
    Some(Layout { element, shape, fortran: order == Some("F"), bytes, aligned })
}

/// An array as numpy pickles it: a call of `_reconstruct`, and a state with type, shape and bytes.
fn numpy_array(trace: &Trace, id: Id) -> Option<(Layout, Option<Span>)> {
    let call = trace.call(id)?;
    let path = trace.path_of(call.callee)?;
    if matches!(&*path, "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer") {
        // Protocol 5: (buffer, type, shape, order).
        let [buffer, dtype, dimensions, order] = trace.contents(call.arguments) else { return None };
        let (element, shape) = (numpy_dtype(trace, *dtype)?, shape(trace, *dimensions)?);
        return Some(described(trace, element, shape, trace.text(*order) == Some("F"), *buffer));
    }
    if !matches!(&*path, "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct") {
        return None;
    }
    let state = trace.contents(trace.state(id)?);
    let shape = shape(trace, *state.get(1)?)?;
    let element = numpy_dtype(trace, *state.get(2)?)?;
    let fortran = trace.int(*state.get(3)?) == Some(1);
    Some(described(trace, element, shape, fortran, *state.get(4)?))
}

/// An array and the place of its bytes, where `data` holds as many as it needs.
fn described(trace: &Trace, element: Element, shape: Vec<u64>, fortran: bool, data: Id) -> (Layout, Option<Span>) {
    let size = checked_elements(&shape).and_then(|elements| elements.checked_mul(element.bytes));
    let span = match trace.value(data) {
        Value::Bytes(place) => trace.span(place).filter(|span| Some(span.len) == size),
        _ => None,
    };
    let bytes = size.filter(|_| !element.object);
    (Layout { element, shape, fortran, bytes, aligned: false }, span)
}

/// What a quick look at the first bytes says of a possible pickle.
struct Sniff {
    score: u8,
    evidence: String,
    joblib: bool,
}

/// Bytes that are followed of a pickle without a protocol header whose first texts are longer than [`Head::SIZE`].
const SNIFF: u64 = 64 << 20;

/// Follows the first bytes of a source as a pickle.
fn sniff(source: &Source, first: &[u8]) -> Option<Sniff> {
    let sniff = sniff_bytes(first, source.len());
    if sniff.is_some() || source.len() <= first.len() as u64 || !may_begin(first) {
        return sniff;
    }
    let trace = run(&Source::memory("head", first.to_vec()), 0).ok()?;
    if trace.fault.is_none_or(|fault| !fault.cut) || trace.opcodes == 0 {
        return None;
    }
    // What fills the first bytes is one long text, or too little to judge by: look further.
    let more = source.section(0, SNIFF);
    judge(&run(&more, 0).ok()?, None, &more, more.len() == source.len())
}

/// Whether a pickle without a protocol header can begin so; most files cannot.
fn may_begin(first: &[u8]) -> bool {
    first.first().is_some_and(|byte| b"(])}l0cISVFLNKMJGXUTiP".contains(byte))
}

/// Pickles without a protocol header are told from text by running them: they must go through to the
/// end, or import and call something on the way.
fn sniff_bytes(first: &[u8], len: u64) -> Option<Sniff> {
    let protocol = match first {
        [0x80, protocol @ 0..=5, ..] => Some(*protocol),
        _ => None,
    };
    if protocol.is_none() && !may_begin(first) {
        return None;
    }
    let source = Source::memory("head", first.to_vec());
    let mut trace = run(&source, 0).ok()?;
    // Streams of next to nothing (`N.`) say nothing either; what follows them may.
    for _ in 0..1000 {
        let next = trace.end;
        if protocol.is_some() || trace.fault.is_some() || trace.opcodes >= 3 || next >= source.len() {
            break;
        }
        trace = run(&source, next).ok()?;
    }
    judge(&trace, protocol, &source, source.len() == len)
}

/// Decides from a trace of `source`, which is the `whole` file or its first part.
fn judge(trace: &Trace, protocol: Option<u8>, source: &Source, whole: bool) -> Option<Sniff> {
    // Text that happens to run to a full stop goes on as text; a second pickle makes sense as one.
    let text_follows = trace.end < source.len()
        && trace.calls.is_empty()
        && source.read_up_to(trace.end, 1).is_ok_and(|next| next.iter().all(|byte| (9..127).contains(byte)))
        && run(source, trace.end).is_ok_and(|next| next.fault.is_some_and(|fault| !fault.cut));
    let cut = trace.fault.as_ref().is_some_and(|fault| fault.cut);
    let names = |global: &Global| {
        [global.module, global.name].iter().all(|part| part.is_none_or(|part| is_identifier(trace.str(part))))
    };
    // Of a cut file the last name may be cut too.
    let told = trace.globals.len().saturating_sub(usize::from(cut));
    let sane = trace.globals.iter().take(told).all(names);
    let joblib = trace.globals.iter().any(|global| {
        let text = |part: Option<Str>| part.map(|part| trace.str(part)).unwrap_or_default();
        text(global.module) == "joblib.numpy_pickle" && text(global.name).ends_with("ArrayWrapper")
    });
    let what = match (protocol, trace.fault.is_some()) {
        (Some(protocol), _) if trace.opcodes >= 2 || cut => {
            format!("it begins with the opcode PROTO {protocol}, and opcodes follow")
        }
        (None, false) if sane && trace.opcodes >= 3 && !text_follows => {
            "it runs through as a pickle without a protocol header".into()
        }
        (None, true)
            if sane
                && !trace.globals.is_empty()
                && (!trace.calls.is_empty() || trace.opcodes > if cut { 5 } else { 16 }) =>
        {
            format!("its first {} opcodes make sense as a pickle without a protocol header", trace.opcodes)
        }
        (None, true) if sane && cut && !whole && trace.opcodes > 1000 => {
            format!("its first {} opcodes make sense as a pickle without a protocol header", trace.opcodes)
        }
        _ => return None,
    };
    let mut evidence = what;
    match &trace.fault {
        Some(_) if cut && whole => {
            let len = source.len();
            evidence.push_str(&format!("; it is cut: the file ends at byte {len}, before the STOP opcode"));
        }
        Some(fault) if !cut => {
            evidence.push_str(&format!("; it is broken at byte {}: {}", fault.offset, fault.reason));
        }
        _ => {}
    }
    let score = if protocol.is_some() { score::LIKELY } else { score::PLAUSIBLE + 5 };
    Some(Sniff { score, evidence, joblib })
}

/// Whether a trace imports something by a name that a program could have.
pub fn has_names(trace: &Trace) -> bool {
    trace.globals.iter().any(|global| {
        [global.module, global.name].iter().all(|part| part.is_some_and(|part| is_identifier(trace.str(part))))
    })
}

/// Whether a name could be a Python module or attribute.
fn is_identifier(name: &str) -> bool {
    let head = name.chars().next().filter(|_| name.len() <= MAX_NAME);
    head.is_some_and(|head| head.is_alphabetic() || head == '_' || head == '<')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '<' | '>' | '-'))
}

/// Whether bytes that begin another file's member or tail look like a pickle.
pub fn looks_like_pickle(first: &[u8], len: u64) -> bool {
    sniff_bytes(first, len).is_some()
}

fn probe(head: &Head) -> Option<Match> {
    let sniff = sniff(head.source, &head.first).filter(|sniff| !sniff.joblib)?;
    Match::new(sniff.score, sniff.evidence)
}

fn probe_joblib(head: &Head) -> Option<Match> {
    if let Some(sniff) = sniff_bytes(&head.first, head.len()).filter(|sniff| sniff.joblib) {
        let evidence = format!("{}; it imports joblib.numpy_pickle", sniff.evidence);
        return Match::new(sniff.score, evidence);
    }
    // joblib before 0.10: `ZF`, the length in hexadecimal, a zlib stream.
    if head.starts_with(b"ZF0x") {
        return Match::new(score::LIKELY, "it begins with `ZF0x`, as old joblib's compressed files do");
    }
    let (method, inner) = unpack_first(&head.first)?;
    let sniff = sniff_bytes(&inner, u64::MAX)?;
    // A pickle in a zlib stream is joblib's; gzip is used for anything.
    (sniff.joblib || method == "zlib")
        .then(|| Match::new(score::LIKELY, format!("a {method} stream, and within it {}", sniff.evidence)))
        .flatten()
}

/// The first bytes within a zlib or gzip stream.
fn unpack_first(first: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    use std::io::Read;
    let zlib = matches!(first, [0x78, flags, ..] if (0x7800 + u16::from(*flags)).is_multiple_of(31));
    let mut bytes = Vec::new();
    // A stream that breaks off still gave its first bytes.
    let method = if zlib {
        let _ = flate2::bufread::ZlibDecoder::new(first).take(Head::SIZE).read_to_end(&mut bytes);
        "zlib"
    } else if first.starts_with(&[0x1f, 0x8b]) {
        let _ = flate2::bufread::GzDecoder::new(first).take(Head::SIZE).read_to_end(&mut bytes);
        "gzip"
    } else {
        return None;
    };
    (bytes.len() >= 2).then_some((method, bytes))
}

/// The first [`MAX_UNPACKED`] bytes of a compressed pickle.
fn unpack(source: &Source, method: &str) -> Source {
    use std::io::Read;
    // Old joblib: `ZF`, the length in hexadecimal filled up with blanks, then the stream (whose first byte is `x`).
    let head = source.read_up_to(0, 64).unwrap_or_default();
    let start = head
        .strip_prefix(b"ZF0x")
        .map_or(0, |rest| 4 + rest.iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b' ').count() as u64);
    let packed = std::io::BufReader::with_capacity(64 * 1024, super::zip::Cursor { source, at: start });
    let mut bytes = Vec::new();
    // A stream that breaks off still gave its first bytes.
    let _ = match method {
        "gzip" => flate2::bufread::GzDecoder::new(packed).take(MAX_UNPACKED).read_to_end(&mut bytes),
        _ => flate2::bufread::ZlibDecoder::new(packed).take(MAX_UNPACKED).read_to_end(&mut bytes),
    };
    Source::memory(source.name(), bytes)
}

fn open(source: &Source) -> Result<Container> {
    read(&FORMAT, source)
}

fn open_joblib(source: &Source) -> Result<Container> {
    let first = source.read_up_to(0, Head::SIZE)?;
    let packed = if first.starts_with(b"ZF0x") { Some("zlib") } else { unpack_first(&first).map(|(method, _)| method) };
    if let Some(method) = packed {
        let mut draft = Draft::new();
        draft.add(0, source.len(), Kind::Code, format!("pickle, compressed with {method}"));
        let mut container = Container::new(&JOBLIB, draft.finish(source.len()));
        container.facts.push(("compression", method.to_string()));
        let inner = read(&JOBLIB, &unpack(source, method))?;
        container.facts.extend(inner.facts);
        container.metadata = inner.metadata;
        container.findings = inner.findings;
        // Its arrays have no place in the compressed file.
        container.tensors = inner.tensors;
        for tensor in &mut container.tensors {
            tensor.span = None;
        }
        return Ok(container);
    }
    read(&JOBLIB, source)
}

/// The name in Python's `pickletools` of an opcode that imports, calls or fills something.
pub fn opcode_name(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        b'c' => "GLOBAL",
        0x93 => "STACK_GLOBAL",
        b'i' => "INST",
        b'o' => "OBJ",
        b'R' => "REDUCE",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        b'b' => "BUILD",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        b'a' => "APPEND",
        b'e' => "APPENDS",
        b's' => "SETITEM",
        b'u' => "SETITEMS",
        0x90 => "ADDITEMS",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        _ => return None,
    })
}

/// What a stream's fault is as a finding.
pub fn fault_finding(fault: &Fault) -> Finding {
    let rule = if fault.cut { &CUT } else { &BROKEN };
    Finding::new(rule, fault.reason.clone()).at(fault.offset)
}

/// Reports what is wrong with a trace.
pub fn report_faults(trace: &Trace, member: Option<&str>, findings: &mut Findings) {
    let odd = trace.oddities.iter().map(|fault| Finding::new(&ODD, fault.reason.clone()).at(fault.offset));
    for finding in trace.fault.iter().map(fault_finding).chain(odd) {
        findings.push(match member {
            Some(member) => finding.member(member),
            None => finding,
        });
    }
}

/// The finding that another pickle begins at `at`, the `number`th.
pub fn another_stream(number: usize, at: u64) -> Finding {
    Finding::new(&MORE, format!("pickle {number} begins here")).at(at)
}

/// The finding that `bytes` follow from `at` which are no pickle.
pub fn trailing(bytes: u64, at: u64) -> Finding {
    Finding::new(&TRAILING, format!("{bytes} bytes follow the pickle")).at(at)
}

/// The distinct imports of a trace in the order in which they come.
pub fn distinct_globals(trace: &Trace) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for global in &trace.globals {
        let path = trace.path(global);
        if seen.len() < MAX_GLOBALS && seen.insert(path.clone()) {
            names.push(path);
        }
    }
    names
}

/// Adds the imports to a file's metadata.
pub fn push_globals(metadata: &mut Metadata, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let span = Span { start: 0, len: 0 };
    let len = names.len() as u64;
    let items = names.into_iter().map(metadata::Value::Text).collect();
    let value = metadata::Value::Array(Array { element: "string", len, span, items });
    metadata.push(Entry { key: "pickle.globals".into(), kind: "array", value, span });
}

fn read(format: &'static Format, source: &Source) -> Result<Container> {
    let len = source.len();
    let mut draft = Draft::new();
    let mut findings = Findings::new();
    let mut tensors = Vec::new();
    let mut protocols = (u8::MAX, 0);
    let mut names = Vec::new();
    let mut at = 0;
    let mut streams = 0;
    while at < len && streams < MAX_STREAMS {
        let first = source.read_up_to(at, 4096)?;
        if streams > 0 {
            if !looks_like_pickle(&first, len - at) {
                findings.push(trailing(len - at, at));
                break;
            }
            findings.push(another_stream(streams + 1, at));
        }
        let trace = run(source, at)?;
        streams += 1;
        protocols = (protocols.0.min(trace.protocol), protocols.1.max(trace.protocol));
        report_faults(&trace, None, &mut findings);
        let room = MAX_GLOBALS.saturating_sub(names.len());
        names.extend(distinct_globals(&trace).into_iter().take(room));
        let known = tensors.len();
        list_arrays(&trace, &mut tensors);
        // Arrays lie within the stream, which surrounds them.
        let mut code = at;
        let new = tensors.iter().enumerate().skip(known);
        for (index, span) in new.filter_map(|(index, tensor)| Some((index, tensor.span?))) {
            if span.start >= code {
                draft.add(code, span.start, Kind::Code, "pickle");
                draft.add(span.start, span.end(), Kind::Tensor, Label::Tensor(index));
                code = span.end();
            }
        }
        draft.add(code, trace.end, Kind::Code, "pickle");
        if trace.fault.is_some() || trace.end <= at {
            break;
        }
        at = trace.end;
    }
    let mut container = Container::new(format, draft.finish(len));
    let protocol = if protocols.0 == protocols.1 { protocols.0.to_string() } else { format!("up to {}", protocols.1) };
    container.facts.push(("pickle protocol", protocol));
    if streams > 1 {
        container.facts.push(("pickles", streams.to_string()));
    }
    push_globals(&mut container.metadata, names);
    container.tensors = tensors;
    container.findings = findings.finish();
    Ok(container)
}

/// The numpy arrays of a pickle as tensors, in the order of their bytes.
fn list_arrays(trace: &Trace, tensors: &mut Vec<Tensor>) {
    let Some(root) = trace.root else { return };
    let inline: std::collections::HashMap<Id, Span> =
        trace.arrays.iter().map(|array| (array.wrapper, array.span)).collect();
    let from = tensors.len();
    walk(trace, root, |path, id| {
        let found = match inline.get(&id) {
            Some(span) => trace.state(id).and_then(|state| Some((inline_layout(trace, state)?, Some(*span)))),
            None => numpy_array(trace, id),
        };
        let Some((layout, span)) = found else { return Visit::Into };
        let name = if path.is_empty() { "array".to_string() } else { path.to_string() };
        let span = span.filter(|_| layout.bytes.is_some());
        let bytes = layout.bytes.unwrap_or(0);
        tensors.push(Tensor { name, dtype: layout.element.dtype, shape: layout.shape, bytes, span, storage: None });
        Visit::Leave
    });
    if let Some(new) = tensors.get_mut(from..) {
        new.sort_by_key(|tensor| tensor.span.map_or(u64::MAX, |span| span.start));
    }
}
