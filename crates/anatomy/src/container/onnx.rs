//! ONNX: a graph of operators with its weights, as one protocol-buffer message.
//!
//! Field numbers are those of `onnx.proto3`, <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>. The message is
//! walked once, in file order; weights are stepped over, wherever they are: initializers, sparse initializers,
//! constants of nodes, and all of these within the branches of `If`, the bodies of `Loop`, and functions.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::protobuf::{Fault, Field, Fields, Value, text};
use super::{Container, External, Format};
use crate::bytes::Reader;
use crate::dtype::DType;
use crate::error::Result;
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::{Entry, Metadata};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::{Span, Tensor, checked_elements};

/// The format.
pub static FORMAT: Format = Format {
    id: "onnx",
    name: "ONNX",
    extensions: &["onnx"],
    use_and_risk: "For ONNX Runtime and other engines: weights together with the graph that computes with them; loading \
                   runs no Python, but weights may be fetched from files that the model names.",
    probe,
    open,
};

static CUT: Rule = Rule {
    name: "onnx-truncated",
    severity: Severity::Error,
    why: "The file ends within the model: the download is incomplete, and no runtime loads it.",
    help: "download the file again and compare its size with the one that the hub states",
};
static BROKEN: Rule = Rule {
    name: "onnx-broken",
    severity: Severity::Error,
    why: "The bytes are not the protocol-buffer message that they should be; what follows the fault within its part \
          of the model cannot be known.",
    help: "download the file again; if it stays so, the file was written wrongly",
};
static DEEP: Rule = Rule {
    name: "onnx-nested-too-deep",
    severity: Severity::Error,
    why: "Graphs are nested deeper than any real model nests them; runtimes refuse that, and the rest is not read.",
    help: "do not trust the file; get it from its author again",
};
static DTYPE_UNKNOWN: Rule = Rule {
    name: "onnx-dtype-unknown",
    severity: Severity::Error,
    why: "A tensor has an element type that the specification does not know, so its size cannot be checked.",
    help: "ask the file's author which program writes this type",
};
static SIZE_MISMATCH: Rule = Rule {
    name: "onnx-size-mismatch",
    severity: Severity::Error,
    why: "A tensor's shape and type ask for another number of bytes than the file stores for it.",
    help: "do not use the file: its tensors cannot be trusted",
};
static DUPLICATE: Rule = Rule {
    name: "onnx-initializer-duplicate",
    severity: Severity::Error,
    why: "A graph has two weights of one name; runtimes disagree about which of them counts.",
    help: "do not trust the file; get it from its author again",
};
pub(crate) static EXTERNAL_PATH: Rule = Rule {
    name: "onnx-external-path",
    severity: Severity::Error,
    why: "Weights are said to lie in a file outside the model's own folder. Runtimes refuse that, since it lets a model \
          read any file of the machine (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187, CVE-2025-51480).",
    help: "do not load the model; ask its author for one with relative paths",
};
static EXTERNAL_INVALID: Rule = Rule {
    name: "onnx-external-invalid",
    severity: Severity::Error,
    why: "A weight is said to lie in another file, but which one or where in it cannot be read.",
    help: "export the model again",
};
pub(crate) static EXTERNAL_KEY: Rule = Rule {
    name: "onnx-external-key-unknown",
    severity: Severity::Error,
    why: "The description of weights in another file has a key beyond location, offset, length and checksum. A reader \
          that takes keys as they come lets the file overwrite its own settings (CVE-2026-34445).",
    help: "do not load the model; export it again",
};
pub(crate) static PYTHON: Rule = Rule {
    name: "onnx-python-operator",
    severity: Severity::Warning,
    why: "An operator hands its input to a Python function of the process that runs the model.",
    help: "find out which function that is before you run the model",
};
pub(crate) static CUSTOM: Rule = Rule {
    name: "onnx-custom-operator",
    severity: Severity::Warning,
    why: "An operator is of a domain that neither ONNX nor its runtimes define, and the model does not define it as a \
          function: running it takes a native library from somewhere, for which nobody vouches.",
    help: "find out which library defines the operator, and whether you trust it",
};
static NO_GRAPH: Rule = Rule {
    name: "onnx-no-graph",
    severity: Severity::Error,
    why: "The model has no graph, so there is nothing to run.",
    help: "export the model again",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[
    &CUT,
    &BROKEN,
    &DEEP,
    &DTYPE_UNKNOWN,
    &SIZE_MISMATCH,
    &DUPLICATE,
    &EXTERNAL_PATH,
    &EXTERNAL_KEY,
    &EXTERNAL_INVALID,
    &PYTHON,
    &CUSTOM,
    &NO_GRAPH,
];

/// Graphs within graphs that are followed. Real models reach three.
const MAX_DEPTH: usize = 24;

/// Constants of nodes with fewer bytes than this are part of the program (axes, shapes, single numbers).
const MIN_CONSTANT: u64 = 256;

/// Dimensions of a tensor; nothing real has more than 8.
const MAX_DIMENSIONS: usize = 64;

/// Inputs and outputs that are kept; more are only counted.
const MAX_PORTS: usize = 10_000;

/// Names and facts are read up to this many bytes; nothing real is longer.
const MAX_NAME: u64 = 4096;

fn probe(head: &Head) -> Option<Match> {
    let mut reader = Reader::new(head.source, 0);
    let mut fields = Fields::of_source(&reader);
    let mut version = None;
    let mut graph = None;
    let mut opset = false;
    let mut producer = String::new();
    // Files have a handful of fields at the top; a model with thousands of functions is known before those.
    for _ in 0..64 {
        let field = match fields.next(&mut reader) {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(fault) if fault.cut && graph.is_some() => break,
            Err(_) => return None,
        };
        match (field.number, field.value) {
            (1, Value::Varint(number)) if (1..=64).contains(&number) => version = Some(number),
            (2, Value::Bytes(span)) => producer = short_text(&mut reader, span)?,
            (3 | 4, Value::Bytes(span)) => drop(short_text(&mut reader, span)?),
            (5, Value::Varint(_)) | (6 | 14 | 20 | 25 | 26, Value::Bytes(_)) => {}
            (7, Value::Bytes(span)) => graph = Some(graph_like(&mut reader, span)?),
            (8, Value::Bytes(_)) => opset = true,
            _ => return None,
        }
        if graph.is_some() && version.is_some() {
            break;
        }
    }
    let version = version?;
    let cut = match graph {
        Some(end) => end > head.len(),
        None if opset => false,
        None => return None,
    };
    let mut evidence = format!("a protocol-buffer message whose first field is the IR version {version}");
    if !producer.is_empty() {
        evidence.push_str(&format!(", made by {producer}"));
    }
    evidence.push_str(if graph.is_some() { ", with a graph in field 7" } else { ", with operator sets in field 8" });
    if cut {
        evidence.push_str(&format!("; the file is cut: it ends at byte {}, within the graph", head.len()));
    }
    Match::new(score::LIKELY + 10, evidence)
}

/// Printable text of a name's length, else nothing.
fn short_text(reader: &mut Reader, span: Span) -> Option<String> {
    if span.len > 1024 {
        return None;
    }
    reader.seek(span.start);
    let text = String::from_utf8(reader.bytes(span.len).ok()?).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Whether the first fields of a graph are as they should be; returns the graph's end.
fn graph_like(reader: &mut Reader, span: Span) -> Option<u64> {
    let mut fields = Fields::within(span);
    for _ in 0..4 {
        match fields.next(reader) {
            Ok(Some(field)) => match (field.number, field.value) {
                (1 | 2 | 5 | 10..=16, Value::Bytes(_)) => {}
                _ => return None,
            },
            Ok(None) => break,
            Err(fault) if fault.cut => break,
            Err(_) => return None,
        }
    }
    Some(span.end())
}

/// The type with this number in `TensorProto.DataType`.
#[rustfmt::skip]
fn dtype(number: u64) -> Option<DType> {
    use DType::*;
    Some(match number {
        1 => F32, 2 => U8, 3 => I8, 4 => U16, 5 => I16, 6 => I32, 7 => I64, 8 => OBJECT, 9 => BOOL, 10 => F16,
        11 => F64, 12 => U32, 13 => U64, 14 => C64, 15 => C128, 16 => BF16,
        17 => F8_E4M3, 18 => F8_E4M3FNUZ, 19 => F8_E5M2, 20 => F8_E5M2FNUZ,
        21 => U4, 22 => I4, 23 => F4, 24 => F8_E8M0, 25 => U2, 26 => I2,
        _ => return None,
    })
}

fn open(source: &Source) -> Result<Container> {
    let mut reader = Reader::new(source, 0);
    let fields = Fields::of_source(&reader);
    let mut model = Model::default();
    model.model(&mut reader, fields);
    Ok(model.finish(source))
}

/// What a walk through the file gathers.
#[derive(Default)]
struct Model {
    draft: Draft,
    /// How far the ledger has been written, and the range that may still grow.
    labelled: u64,
    growing: Option<(u64, Kind, Label)>,
    tensors: Vec<Tensor>,
    external: Vec<External>,
    metadata: Metadata,
    findings: Findings,
    facts: Vec<(&'static str, String)>,
    opsets: Vec<String>,
    operators: HashMap<String, u64>,
    /// Domains of operators besides ONNX's own, with the first operator of each and its place.
    domains: BTreeMap<String, (String, u64)>,
    /// Domains of which the model itself defines functions.
    defined: HashSet<String>,
    nodes: u64,
    functions: u64,
    graphs: u64,
    /// Inputs and outputs of the main graph.
    inputs: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
}

/// The numbers of a tensor as they stand in the file.
#[derive(Default)]
struct Proto {
    name: String,
    dims: Vec<u64>,
    /// Whether the shape cannot be read or has more than [`MAX_DIMENSIONS`].
    odd_shape: bool,
    type_number: u64,
    /// Field of the values and their place, from the first to the last byte.
    values: Option<(u64, Span)>,
    location: u64,
    path: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
    external_odd: bool,
}

impl Proto {
    /// Adds a dimension, unless there are more already than any tensor has.
    fn push_dimension(&mut self, dimension: u64) {
        if self.dims.len() < MAX_DIMENSIONS {
            self.dims.push(dimension);
        } else {
            self.odd_shape = true;
        }
    }
}

impl Model {
    /// Labels everything up to `end` that has no label yet.
    fn label(&mut self, end: u64, kind: Kind, label: impl Into<Label>) {
        if end <= self.labelled {
            return;
        }
        let label = label.into();
        if !matches!(&self.growing, Some((_, grown, words)) if *grown == kind && *words == label) {
            self.close_range();
            self.growing = Some((self.labelled, kind, label));
        }
        self.labelled = end;
    }

    fn close_range(&mut self) {
        if let Some((start, kind, label)) = self.growing.take() {
            self.draft.add(start, self.labelled, kind, label);
        }
    }

    fn fault(&mut self, fault: &Fault) {
        if fault.cut {
            let message = format!("the file ends at byte {}, within the model: {}", fault.at, fault.what);
            self.findings.push(Finding::new(&CUT, message).at(fault.at));
        } else {
            self.findings.push(Finding::new(&BROKEN, fault.what).at(fault.at));
        }
    }

    /// The next field; a fault is reported and ends the message.
    fn next(&mut self, fields: &mut Fields, reader: &mut Reader) -> Option<Field> {
        match fields.next(reader) {
            Ok(field) => field,
            Err(fault) => {
                self.fault(&fault);
                None
            }
        }
    }

    fn model(&mut self, reader: &mut Reader, mut fields: Fields) {
        let mut producer = [String::new(), String::new()];
        let mut has_graph = false;
        while let Some(field) = self.next(&mut fields, reader) {
            let end = fields.offset();
            match (field.number, field.value) {
                (1, Value::Varint(version)) => {
                    self.facts.push(("IR version", version.to_string()));
                    self.label(end, Kind::Magic, "IR version");
                }
                (2 | 3, Value::Bytes(span)) => {
                    let text = self.text(reader, span);
                    if let Some(slot) = producer.get_mut(usize::from(field.number == 3)) {
                        *slot = text;
                    }
                    self.label(end, Kind::Metadata, "producer");
                }
                (4, Value::Bytes(span)) => {
                    let text = self.text(reader, span);
                    if !text.is_empty() {
                        self.facts.push(("domain", text));
                    }
                    self.label(end, Kind::Metadata, "domain");
                }
                (5, Value::Varint(version)) => {
                    self.facts.push(("model version", version.to_string()));
                    self.label(end, Kind::Metadata, "model version");
                }
                (6, Value::Bytes(span)) => {
                    let text = self.text(reader, span);
                    if !text.is_empty() {
                        self.facts.push(("description", text));
                    }
                    self.label(end, Kind::Metadata, "description");
                }
                (7, Value::Bytes(span)) => {
                    has_graph = true;
                    self.label(span.start, Kind::Header, "begin of the graph");
                    self.graph(reader, span, 0);
                    self.label(end, Kind::Unexplained, "rest of a graph that cannot be read");
                }
                (8, Value::Bytes(span)) => {
                    self.opset(reader, span);
                    self.label(end, Kind::Metadata, "operator sets");
                }
                (14, Value::Bytes(span)) => {
                    self.property(reader, span, Span { start: field.start, len: end - field.start });
                    self.label(end, Kind::Metadata, "metadata");
                }
                (20, Value::Bytes(span)) => {
                    self.label(span.start, Kind::Header, "begin of training information");
                    self.training(reader, span);
                    self.label(end, Kind::Metadata, "training information");
                }
                (25, Value::Bytes(span)) => {
                    self.functions += 1;
                    self.label(span.start, Kind::Code, "functions");
                    self.function(reader, span);
                    self.label(end, Kind::Code, "functions");
                }
                (26, Value::Bytes(_)) => self.label(end, Kind::Metadata, "device configuration"),
                _ => self.label(end, Kind::Unexplained, "a field that the specification does not know"),
            }
        }
        if fields.offset() > reader.source().len() {
            let len = reader.source().len();
            self.fault(&Fault { at: len, cut: true, what: "a part of it runs past the end" });
        }
        for (domain, (operator, at)) in std::mem::take(&mut self.domains) {
            if !self.defined.contains(&domain) {
                let message = format!("the operator {operator:?} of the domain {domain:?}");
                self.findings.push(Finding::new(&CUSTOM, message).at(at));
            }
        }
        let producer = producer.join(" ");
        if !producer.trim().is_empty() {
            self.facts.push(("producer", producer.trim().to_string()));
        }
        if !has_graph && self.findings.is_empty() {
            self.findings.push(Finding::new(&NO_GRAPH, "the model has no graph"));
        }
    }

    fn text(&mut self, reader: &mut Reader, span: Span) -> String {
        text(reader, span, MAX_NAME).unwrap_or_default()
    }

    fn opset(&mut self, reader: &mut Reader, span: Span) {
        let (mut domain, mut version) = (String::new(), 0);
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1, Value::Bytes(span)) => domain = self.text(reader, span),
                (2, Value::Varint(number)) => version = number,
                _ => {}
            }
        }
        if domain.is_empty() {
            domain = "ai.onnx".to_string();
        }
        // A hostile file could hold a million.
        if self.opsets.len() < 64 {
            self.opsets.push(format!("{domain} {version}"));
        }
    }

    fn property(&mut self, reader: &mut Reader, span: Span, whole: Span) {
        let (mut key, mut value) = (String::new(), crate::metadata::Value::Text(String::new()));
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1, Value::Bytes(span)) => key = self.text(reader, span),
                (2, Value::Bytes(span)) => {
                    value = if span.len > 1 << 20 {
                        crate::metadata::Value::LongText(span)
                    } else {
                        crate::metadata::Value::Text(text(reader, span, 1 << 20).unwrap_or_default())
                    }
                }
                _ => {}
            }
        }
        self.metadata.push(Entry { key, kind: "string", value, span: whole });
    }

    fn training(&mut self, reader: &mut Reader, span: Span) {
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1 | 2, Value::Bytes(span)) => {
                    self.label(span.start, Kind::Header, "begin of a graph");
                    self.graph(reader, span, 1);
                }
                _ => self.label(fields.offset(), Kind::Metadata, "training information"),
            }
        }
    }

    fn function(&mut self, reader: &mut Reader, span: Span) {
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (7, Value::Bytes(span)) => self.node(reader, span, 1),
                (10, Value::Bytes(span)) if self.defined.len() < 4096 => {
                    let domain = self.text(reader, span);
                    self.defined.insert(domain);
                }
                _ => {}
            }
        }
    }

    fn graph(&mut self, reader: &mut Reader, span: Span, depth: usize) {
        if depth > MAX_DEPTH {
            let message = format!("a graph lies {depth} graphs deep; the limit is {MAX_DEPTH}");
            self.findings.push(Finding::new(&DEEP, message).at(span.start));
            return;
        }
        self.graphs += 1;
        let mut names = HashSet::new();
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            let end = fields.offset();
            let Value::Bytes(span) = field.value else {
                self.label(end, Kind::Unexplained, "a field that the specification does not know");
                continue;
            };
            match field.number {
                1 => {
                    self.node(reader, span, depth);
                    self.label(end, Kind::Code, "nodes of the graph");
                }
                2 => {
                    if depth == 0 {
                        let name = self.text(reader, span);
                        self.facts.push(("graph", name));
                    }
                    self.label(end, Kind::Metadata, "name of the graph");
                }
                5 => {
                    let proto = self.proto(reader, span);
                    self.unique(&mut names, &proto.name, field.start);
                    self.tensor(proto, span, field.start);
                    self.label(end, Kind::Header, "names, types and shapes of weights");
                }
                15 => {
                    self.sparse(reader, span, field.start, String::new(), &mut names);
                    self.label(end, Kind::Header, "names, types and shapes of weights");
                }
                10 => self.label(end, Kind::Metadata, "description"),
                11 | 12 => {
                    if depth == 0 {
                        self.port(reader, span, field.number == 11);
                    }
                    self.label(end, Kind::Metadata, "inputs and outputs");
                }
                13 => self.label(end, Kind::Metadata, "shapes of intermediate values"),
                14 => self.label(end, Kind::Metadata, "quantisation annotations"),
                16 => self.label(end, Kind::Metadata, "metadata"),
                _ => self.label(end, Kind::Unexplained, "a field that the specification does not know"),
            }
        }
    }

    fn unique(&mut self, names: &mut HashSet<String>, name: &str, at: u64) {
        if !name.is_empty() && !names.insert(name.to_string()) {
            let message = format!("the weight {name:?} stands twice in one graph");
            self.findings.push(Finding::new(&DUPLICATE, message).at(at).tensor(name));
        }
    }

    fn node(&mut self, reader: &mut Reader, span: Span, depth: usize) {
        self.nodes += 1;
        let (mut output, mut operator, mut domain) = (String::new(), String::new(), String::new());
        let mut context = None;
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            let Value::Bytes(span) = field.value else { continue };
            match field.number {
                2 if output.is_empty() => output = self.text(reader, span),
                4 => operator = self.text(reader, span),
                5 => {
                    let path = self.attribute(reader, span, &output, depth);
                    context = context.or(path.filter(|path| !stays_inside(path)));
                }
                7 => domain = self.text(reader, span),
                _ => {}
            }
        }
        if let Some(path) = context.filter(|_| operator == "EPContext") {
            let message = format!("a compiled part of the graph is said to lie in {path:?}");
            self.findings.push(Finding::new(&EXTERNAL_PATH, message).at(span.start));
        }
        if matches!(operator.as_str(), "PyOp" | "PythonOp" | "PythonOpGrad") {
            let message = format!("the operator {operator:?} of the domain {domain:?}");
            self.findings.push(Finding::new(&PYTHON, message).at(span.start));
        }
        if !is_known_domain(&domain) && self.domains.len() < 4096 && !self.domains.contains_key(&domain) {
            self.domains.insert(domain, (operator.clone(), span.start));
        }
        if let Some(count) = self.operators.get_mut(&operator) {
            *count += 1;
        } else if self.operators.len() < 4096 && !operator.is_empty() {
            self.operators.insert(operator, 1);
        }
    }

    /// Looks at what lies within an attribute. Returns where a compiled part of the graph lies
    /// (<https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html>): a path, if it is not the part itself.
    fn attribute(&mut self, reader: &mut Reader, span: Span, owner: &str, depth: usize) -> Option<String> {
        let (mut context, mut path) = (false, None);
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            let Value::Bytes(span) = field.value else { continue };
            match field.number {
                1 if span.len == 16 => context = self.text(reader, span) == "ep_cache_context",
                4 if span.len <= MAX_NAME => path = Some(span),
                5 | 10 => self.constant(reader, span, owner, field.start),
                22 | 23 => self.sparse(reader, span, field.start, owner.to_string(), &mut HashSet::new()),
                6 | 11 => {
                    self.label(span.start, Kind::Code, "nodes of the graph");
                    self.graph(reader, span, depth + 1);
                    self.label(span.end(), Kind::Unexplained, "rest of a graph that cannot be read");
                }
                _ => {}
            }
        }
        let path = path.filter(|_| context).and_then(|span| text(reader, span, MAX_NAME));
        path.filter(|path| !path.chars().any(|sign| sign.is_control() && sign != '\0'))
    }

    /// A tensor within a node: a weight where it is large, else a part of the program.
    fn constant(&mut self, reader: &mut Reader, span: Span, owner: &str, start: u64) {
        let mut proto = self.proto(reader, span);
        // What is small may still lie in another file.
        if span.len < MIN_CONSTANT && proto.location != 1 {
            return;
        }
        if !owner.is_empty() {
            proto.name = owner.to_string();
        }
        self.label(start, Kind::Code, "nodes of the graph");
        self.tensor(proto, span, start);
        self.label(span.end(), Kind::Header, "names, types and shapes of constants");
    }

    fn sparse(&mut self, reader: &mut Reader, span: Span, start: u64, owner: String, names: &mut HashSet<String>) {
        let mut name = owner;
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            let Value::Bytes(span) = field.value else { continue };
            // Values come first and carry the name of the whole.
            if !matches!(field.number, 1 | 2) {
                continue;
            }
            let mut proto = self.proto(reader, span);
            if field.number == 1 {
                if name.is_empty() {
                    name.clone_from(&proto.name);
                }
                self.unique(names, &name, start);
                proto.name.clone_from(&name);
            } else {
                proto.name = format!("{name}.indices");
            }
            self.tensor(proto, span, field.start);
        }
    }

    /// Reads the fields of a `TensorProto` without its values.
    fn proto(&mut self, reader: &mut Reader, span: Span) -> Proto {
        let mut proto = Proto::default();
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            let end = fields.offset();
            match (field.number, field.value) {
                (1, Value::Varint(dimension)) => proto.push_dimension(dimension),
                (1, Value::Bytes(span)) => {
                    // Packed: numbers without tags.
                    reader.seek(span.start);
                    while reader.offset() < span.end() && !proto.odd_shape {
                        match packed_number(reader) {
                            Some(dimension) => proto.push_dimension(dimension),
                            None => proto.odd_shape = true,
                        }
                    }
                }
                (2, Value::Varint(number)) => proto.type_number = number,
                (8, Value::Bytes(span)) => proto.name = self.text(reader, span),
                (14, Value::Varint(location)) => proto.location = location,
                (13, Value::Bytes(span)) => self.external_entry(reader, span, &mut proto),
                (4..=7 | 9..=11, value) => {
                    // Unpacked numbers stand one by one with their tags: their place is the run of all of them.
                    let start = match value {
                        Value::Bytes(span) => span.start,
                        _ => field.start,
                    };
                    let first = proto.values.map_or(start, |(_, span)| span.start);
                    proto.values = Some((field.number, Span { start: first, len: end.saturating_sub(first) }));
                }
                _ => {}
            }
        }
        proto
    }

    fn external_entry(&mut self, reader: &mut Reader, span: Span, proto: &mut Proto) {
        let (mut key, mut value) = (String::new(), String::new());
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1, Value::Bytes(span)) => key = self.text(reader, span),
                (2, Value::Bytes(span)) => value = self.text(reader, span),
                _ => {}
            }
        }
        let mut number = |slot: fn(&mut Proto) -> &mut Option<u64>| match value.trim().parse() {
            Ok(number) => *slot(proto) = Some(number),
            Err(_) => proto.external_odd = true,
        };
        match key.as_str() {
            "location" => proto.path = Some(value),
            "offset" => number(|proto| &mut proto.offset),
            "length" => number(|proto| &mut proto.length),
            // `basepath` was one of them in the first drafts.
            "checksum" | "basepath" => {}
            other => {
                let message = format!("the key {other:?}");
                self.findings.push(Finding::new(&EXTERNAL_KEY, message).at(span.start));
            }
        }
    }

    /// Lists a tensor, places it in the ledger, and checks its size.
    fn tensor(&mut self, proto: Proto, whole: Span, at: u64) {
        if whole.len == 0 {
            self.findings.push(Finding::new(&BROKEN, "a weight without name, type and shape").at(at));
            return;
        }
        let known = dtype(proto.type_number);
        let name = proto.name;
        if proto.odd_shape {
            let message =
                format!("the shape of tensor {name:?} cannot be read, or has more than {MAX_DIMENSIONS} dimensions");
            self.findings.push(Finding::new(&BROKEN, message).at(at).tensor(&*name));
        }
        if known.is_none() {
            let message = format!("tensor {name:?} has the unknown type {}", proto.type_number);
            self.findings.push(Finding::new(&DTYPE_UNKNOWN, message).at(at).tensor(&*name));
        }
        let known = known.unwrap_or(DType::UNKNOWN);
        let elements = checked_elements(&proto.dims);
        let need = elements.and_then(|elements| known.bytes(elements));
        let index = self.tensors.len();
        let mut bytes = need.unwrap_or(0);
        let mut span = None;
        if let Some(path) = proto.path.as_ref().filter(|path| !stays_inside(path)) {
            let message = format!("tensor {name:?} is said to lie in {path:?}");
            self.findings.push(Finding::new(&EXTERNAL_PATH, message).at(at).tensor(&*name));
        }
        if proto.location == 1 {
            match proto.path {
                Some(path) if !proto.external_odd => {
                    let place = Span { start: proto.offset.unwrap_or(0), len: proto.length.unwrap_or(bytes) };
                    if need.is_some_and(|need| need != place.len) {
                        let message = format!("tensor {name:?} needs {bytes} bytes, but {} are declared", place.len);
                        self.findings.push(Finding::new(&SIZE_MISMATCH, message).at(at).tensor(&*name));
                    }
                    bytes = place.len;
                    self.external.push(External { path, tensor: index, span: place });
                }
                _ => {
                    let message = format!("tensor {name:?} lies in another file, but its place cannot be read");
                    self.findings.push(Finding::new(&EXTERNAL_INVALID, message).at(at).tensor(&*name));
                }
            }
        } else {
            let (field, place) = proto.values.unwrap_or((9, Span { start: whole.end(), len: 0 }));
            if known != DType::UNKNOWN && !proto.odd_shape && !size_fits(known, field, elements, place.len) {
                let message = match need {
                    Some(need) => format!(
                        "tensor {name:?} needs {need} bytes for {} {:?}, but has {}",
                        known.name(),
                        proto.dims,
                        place.len
                    ),
                    None => format!("the shape {:?} of tensor {name:?} cannot be counted in 64 bits", proto.dims),
                };
                self.findings.push(Finding::new(&SIZE_MISMATCH, message).at(at).tensor(&*name));
            }
            bytes = place.len;
            span = Some(place);
            self.label(place.start, Kind::Header, "names, types and shapes of weights");
            self.label(place.end(), Kind::Tensor, Label::Tensor(index));
        }
        self.tensors.push(Tensor { name, dtype: known, shape: proto.dims, bytes, span, storage: None });
    }

    /// An input or output of the main graph: name, type and shape.
    fn port(&mut self, reader: &mut Reader, span: Span, input: bool) {
        let mut name = String::new();
        let mut shape = String::new();
        let mut fields = Fields::within(span);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1, Value::Bytes(span)) => name = self.text(reader, span),
                (2, Value::Bytes(span)) => shape = self.port_type(reader, span),
                _ => {}
            }
        }
        let list = if input { &mut self.inputs } else { &mut self.outputs };
        if list.len() < MAX_PORTS {
            list.push((name, shape));
        }
    }

    /// `TypeProto` as `F32 [batch, 3]`; sequences, maps and optionals only by their word.
    fn port_type(&mut self, reader: &mut Reader, span: Span) -> String {
        let mut fields = Fields::within(span);
        let mut out = String::new();
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1 | 8, Value::Bytes(span)) => out = self.tensor_type(reader, span),
                (4, _) => out = "sequence".to_string(),
                (5, _) => out = "map".to_string(),
                (9, _) => out = "optional".to_string(),
                _ => {}
            }
        }
        out
    }

    fn tensor_type(&mut self, reader: &mut Reader, span: Span) -> String {
        let mut fields = Fields::within(span);
        let (mut element, mut dims) = ("?", None::<Vec<String>>);
        while let Some(field) = self.next(&mut fields, reader) {
            match (field.number, field.value) {
                (1, Value::Varint(number)) => element = dtype(number).map_or("?", DType::name),
                (2, Value::Bytes(span)) => {
                    let dims = dims.get_or_insert_default();
                    let mut shape = Fields::within(span);
                    while let Some(field) = self.next(&mut shape, reader) {
                        let Some(span) = field.span() else { continue };
                        let mut dimension = Fields::within(span);
                        let mut word = "?".to_string();
                        while let Some(field) = self.next(&mut dimension, reader) {
                            match (field.number, field.value) {
                                (1, Value::Varint(number)) => word = number.to_string(),
                                (2, Value::Bytes(span)) => word = self.text(reader, span),
                                _ => {}
                            }
                        }
                        if dims.len() < 64 {
                            dims.push(word);
                        }
                    }
                }
                _ => {}
            }
        }
        match dims {
            Some(dims) => format!("{element} [{}]", dims.join(", ")),
            None => element.to_string(),
        }
    }

    fn finish(mut self, source: &Source) -> Container {
        let len = source.len();
        self.label(len, Kind::Unexplained, "bytes that are no part of the model");
        self.close_range();
        let mut facts = self.facts;
        if !self.opsets.is_empty() {
            facts.push(("operator sets", self.opsets.join(", ")));
        }
        if self.nodes > 0 {
            let mut operators: Vec<_> = self.operators.into_iter().collect();
            operators.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            let most: Vec<_> = operators.iter().take(6).map(|(name, count)| format!("{count} {name}")).collect();
            let more = if operators.len() > 6 { ", …" } else { "" };
            facts.push(("nodes", format!("{} ({}{more})", self.nodes, most.join(", "))));
        }
        if self.graphs > 1 {
            facts.push(("graphs", format!("{}, all but one within nodes", self.graphs)));
        }
        if self.functions > 0 {
            facts.push(("functions", self.functions.to_string()));
        }
        // Before IR version 4 each weight stood among the inputs as well.
        let weights: HashSet<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        self.inputs.retain(|(name, _)| !weights.contains(name.as_str()));
        for (what, ports) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if !ports.is_empty() {
                let words: Vec<_> = ports.iter().take(16).map(|(name, kind)| format!("{name}: {kind}")).collect();
                let more = if ports.len() > 16 { format!("; and {} more", ports.len() - 16) } else { String::new() };
                facts.push((what, format!("{}{more}", words.join("; "))));
            }
        }
        let mut container = Container::new(&FORMAT, self.draft.finish(len));
        container.facts = facts;
        container.metadata = self.metadata;
        container.tensors = self.tensors;
        container.findings = self.findings.finish();
        container.external = self.external;
        container
    }
}

/// Whether so many bytes in that field can hold the tensor. Packed varints take 1 to 10 bytes each.
fn size_fits(dtype: DType, field: u64, elements: Option<u64>, bytes: u64) -> bool {
    let Some(elements) = elements else { return false };
    let exact = |size: u64| elements.checked_mul(size) == Some(bytes);
    match field {
        // An unpacked number has its tag beside it, hence the second form.
        4 if dtype == DType::C64 => exact(8),
        4 => exact(4) || exact(5),
        10 if dtype == DType::C128 => exact(16),
        10 => exact(8) || exact(9),
        5 | 7 | 11 => {
            let numbers = if dtype.block() > 1 { elements.div_ceil(dtype.block()) } else { elements };
            bytes >= numbers && bytes <= numbers.saturating_mul(11)
        }
        6 => true,
        _ => dtype.bytes(elements) == Some(bytes) || dtype == DType::OBJECT,
    }
}

/// Whether a path stays within the folder that it is relative to.
fn stays_inside(path: &str) -> bool {
    // A drive, or an address as `file://…`.
    let scheme = path
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.chars().all(|sign| sign.is_ascii_alphanumeric() || "+-.".contains(sign)));
    // Programs in C take a path to end where a zero stands.
    let zero = path.contains('\0');
    !path.starts_with(['/', '\\', '~']) && !scheme && !zero && !path.split(['/', '\\']).any(|part| part == "..")
}

/// Whether a domain of operators is ONNX's, a runtime's, or an exporter's for functions that it writes out.
fn is_known_domain(domain: &str) -> bool {
    const KNOWN: &[&str] = &["ai.onnx", "com.microsoft", "com.ms", "org.pytorch", "pkg", "org.tensorflow"];
    domain.is_empty()
        || KNOWN
            .iter()
            .any(|known| domain.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

fn packed_number(reader: &mut Reader) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = reader.u8().ok()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
