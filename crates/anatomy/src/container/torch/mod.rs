//! PyTorch checkpoints: a pickle that describes tensors, and storages that hold their bytes.
//!
//! Sources: torch/serialization.py, torch/_utils.py and torch/storage.py of PyTorch 1.13 and 2.x. What is
//! common to all forms is here: from a pickle's [`Trace`] to named tensors that look into storages. The
//! forms themselves differ in where the storages lie: [`archive`] (zip, since 1.6), [`legacy`] (a
//! stream of pickles) and [`tarred`] (before 0.2).

pub mod archive;
pub mod legacy;
pub mod tarred;

use std::collections::{HashMap, HashSet};

use super::pickle::{self, Id, Trace, Value, Visit, entries, is_mapping, walk};
use crate::dtype::DType;
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::{self, Array, Entry, Metadata};
use crate::tensor::{Span, StorageView, Tensor, checked_elements};

static PICKLE_BROKEN: Rule = Rule {
    name: "torch-pickle-broken",
    severity: Severity::Error,
    why: "The pickle that lists the tensors cannot be followed to its end, so tensors may be missing from the list.",
    help: "download the file again; if it stays so, do not load it",
};
static TENSOR_INVALID: Rule = Rule {
    name: "torch-tensor-invalid",
    severity: Severity::Error,
    why: "A tensor is described in a way that PyTorch does not write, so it cannot be listed.",
    help: "save the checkpoint again with a current PyTorch",
};
static VIEW_OUTSIDE: Rule = Rule {
    name: "torch-view-outside-storage",
    severity: Severity::Error,
    why: "A tensor reaches beyond the storage that it looks into: PyTorch refuses it, other readers may read what lies \
          beyond.",
    help: "do not use the file",
};
static STORAGE_MISSING: Rule = Rule {
    name: "torch-storage-missing",
    severity: Severity::Error,
    why: "The bytes of a storage are not in the file: the download is incomplete, or the file was taken apart.",
    help: "download the file again and compare its size with the one that the hub states",
};
static STORAGE_SIZE: Rule = Rule {
    name: "torch-storage-size",
    severity: Severity::Error,
    why: "A storage holds another number of bytes than the pickle promises.",
    help: "do not use the file: its tensors cannot be trusted",
};
static STORAGE_UNUSED: Rule = Rule {
    name: "torch-storage-unused",
    severity: Severity::Warning,
    why: "A storage in the file belongs to no tensor: it is dead weight, or something is hidden there.",
    help: "load the checkpoint and save it again, which leaves the storage out",
};
static STORAGE_LARGER: Rule = Rule {
    name: "torch-storage-larger",
    severity: Severity::Note,
    why: "The tensors that look into a storage need less than it holds: a slice was saved with the whole of what it \
          was cut from.",
    help: "save `tensor.clone()` instead of the slice",
};
static STORAGE_CONFLICT: Rule = Rule {
    name: "torch-storage-conflict",
    severity: Severity::Warning,
    why: "One storage is described in two ways (element type or size).",
    help: "save the checkpoint again with a current PyTorch",
};
static STRIDED: Rule = Rule {
    name: "torch-not-contiguous",
    severity: Severity::Note,
    why: "A tensor's elements do not stand one after the other in row-major order, so its bytes cannot be taken as \
          they are.",
    help: "save `tensor.contiguous()` if other programs are to read the bytes",
};
static DUPLICATE: Rule = Rule {
    name: "torch-duplicate-name",
    severity: Severity::Warning,
    why: "Two tensors get the same name, because a key stands twice or keys hold dots. Python keeps the last of equal \
          keys.",
    help: "look at the pickle before you trust it",
};
static TOO_LARGE: Rule = Rule {
    name: "torch-structure-too-large",
    severity: Severity::Error,
    why: "The pickled object refers to itself, or to the same parts so often, that listing it all would never end.",
    help: "do not load the file unless you trust its author",
};
static META: Rule = Rule {
    name: "torch-meta-tensor",
    severity: Severity::Warning,
    why: "A tensor was saved from the `meta` device: it has a shape, but no values.",
    help: "load the weights from another file before you save",
};
static STREAM: Rule = Rule {
    name: "torch-stream-broken",
    severity: Severity::Error,
    why: "The stream of pickles and storages that an old checkpoint is breaks off, or has bytes too many.",
    help: "download the file again and compare its size with the one that the hub states",
};
static HIDDEN: Rule = Rule {
    name: "torch-foreign-member",
    severity: Severity::Warning,
    why: "A member of the archive is none that PyTorch writes; `torch.load` ignores it, other programs may not.",
    help: "look at what the member is",
};

/// The rules of these readers.
pub static RULES: &[&Rule] = &[
    &PICKLE_BROKEN,
    &TENSOR_INVALID,
    &VIEW_OUTSIDE,
    &STORAGE_MISSING,
    &STORAGE_SIZE,
    &STORAGE_UNUSED,
    &STORAGE_LARGER,
    &STORAGE_CONFLICT,
    &STRIDED,
    &DUPLICATE,
    &TOO_LARGE,
    &META,
    &STREAM,
    &HIDDEN,
];

/// Keys under which checkpoints keep the model's own weights, the most telling first. The exponential
/// moving average counts as the model only where nothing else does.
const WRAPPERS: [&str; 17] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "model_dict",
    "weights",
    "params",
    "generator",
    "checkpoint",
    "params_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema",
];
/// Scalars of a checkpoint that are kept as metadata.
const MAX_SCALARS: usize = 1000;
/// Length of a text that is kept as metadata, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Dimensions that PyTorch allows.
const MAX_RANK: usize = 64;

/// A run of bytes that tensors look into.
#[derive(Debug)]
struct Storage {
    key: String,
    /// Element type of its class; `None` for storages of plain bytes.
    dtype: Option<DType>,
    /// Bytes that the pickle promises.
    bytes: Option<u64>,
    location: String,
    /// The first tensor that looks into it.
    tensor: Option<usize>,
    /// Bytes that the tensors need.
    needed: u64,
    /// Its bytes in the file, where they stand there as they are.
    span: Option<Span>,
}

/// A tensor as the pickle describes it.
struct View {
    storage: Id,
    dtype: Option<DType>,
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

enum Rebuilt {
    View(View),
    Meta(DType, Vec<u64>),
    /// A tensor that consists of others (sparse, quantised by channel).
    Parts(Option<View>, Vec<(&'static str, Id)>),
    Invalid,
}

/// What the pickles of a checkpoint describe.
#[derive(Default)]
struct Model {
    tensors: Vec<Tensor>,
    /// First byte of each tensor in its storage, and the bytes from there to its last.
    reach: Vec<Option<(u64, u64)>>,
    storages: Vec<Storage>,
    by_key: HashMap<String, u32>,
    metadata: Metadata,
    facts: Vec<(&'static str, String)>,
    globals: Vec<String>,
    findings: Findings,
}

/// The element type that a storage's class stands for.
fn storage_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "DoubleStorage" => DType::F64,
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::BOOL,
        "ComplexFloatStorage" => DType::C64,
        "ComplexDoubleStorage" => DType::C128,
        "QInt8Storage" => DType::QINT8,
        "QUInt8Storage" => DType::QUINT8,
        "QInt32Storage" => DType::QINT32,
        "QUInt4x2Storage" => DType::QUINT4X2,
        "QUInt2x4Storage" => DType::QUINT2X4,
        "Float8_e5m2Storage" => DType::F8_E5M2,
        "Float8_e4m3fnStorage" => DType::F8_E4M3,
        "Float8_e5m2fnuzStorage" => DType::F8_E5M2FNUZ,
        "Float8_e4m3fnuzStorage" => DType::F8_E4M3FNUZ,
        _ => return None,
    })
}

/// The element type of a `torch.dtype`.
fn torch_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "float64" | "double" => DType::F64,
        "float32" | "float" => DType::F32,
        "float16" | "half" => DType::F16,
        "bfloat16" => DType::BF16,
        "int64" | "long" => DType::I64,
        "int32" | "int" => DType::I32,
        "int16" | "short" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "uint16" => DType::U16,
        "uint32" => DType::U32,
        "uint64" => DType::U64,
        "bool" => DType::BOOL,
        "complex32" | "chalf" => DType::C32,
        "complex64" | "cfloat" => DType::C64,
        "complex128" | "cdouble" => DType::C128,
        "qint8" => DType::QINT8,
        "quint8" => DType::QUINT8,
        "qint32" => DType::QINT32,
        "quint4x2" => DType::QUINT4X2,
        "quint2x4" => DType::QUINT2X4,
        "float8_e4m3fn" => DType::F8_E4M3,
        "float8_e5m2" => DType::F8_E5M2,
        "float8_e4m3fnuz" => DType::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => DType::F8_E5M2FNUZ,
        "float8_e8m0fnu" => DType::F8_E8M0,
        "float4_e2m1fn_x2" => DType::F4,
        "uint1" => DType::U1,
        "uint2" => DType::U2,
        "uint4" => DType::U4,
        "int2" => DType::I2,
        "int4" => DType::I4,
        _ => return None,
    })
}

/// The element type of a value that is a `torch.dtype`.
fn dtype_of(trace: &Trace, id: Id) -> Option<DType> {
    let path = trace.path_of(id)?;
    torch_dtype(path.strip_prefix("torch.")?)
}

/// A `torch.Size`, or the tuple that stands for it.
fn dimensions(trace: &Trace, id: Id) -> Option<Vec<u64>> {
    let tuple = match trace.call(id) {
        Some(call) => *trace.contents(call.arguments).first()?,
        None => id,
    };
    if !matches!(trace.value(tuple), Value::Tuple(_) | Value::List) || trace.contents(tuple).len() > MAX_RANK {
        return None;
    }
    trace.contents(tuple).iter().map(|item| u64::try_from(trace.int(*item)?).ok()).collect()
}

fn whole(trace: &Trace, id: Id) -> Option<u64> {
    u64::try_from(trace.int(id)?).ok()
}

/// What a call rebuilds, where it rebuilds a tensor.
fn rebuild(trace: &Trace, id: Id) -> Option<Rebuilt> {
    let call = trace.call(id)?;
    let mut path = trace.path_of(call.callee)?;
    let mut arguments = trace.contents(call.arguments);
    if matches!(&*path, "torch._tensor._rebuild_from_type_v2" | "torch._tensor._rebuild_from_type") {
        // (function, type, arguments, state): a subclass around an ordinary tensor.
        let (Some(function), Some(inner)) = (arguments.first(), arguments.get(2)) else {
            return Some(Rebuilt::Invalid);
        };
        path = trace.path_of(*function)?;
        arguments = trace.contents(*inner);
    }
    let name = path.strip_prefix("torch._utils.").or_else(|| path.strip_prefix("torch._tensor."))?;
    let view = |dtype: Option<Id>| {
        let [storage, offset, size, stride, ..] = arguments else { return None };
        let dtype = match dtype {
            Some(dtype) => Some(dtype_of(trace, dtype)?),
            None => None,
        };
        let (shape, strides) = (dimensions(trace, *size)?, dimensions(trace, *stride)?);
        let offset = whole(trace, *offset)?;
        (shape.len() == strides.len()).then_some(View { storage: *storage, dtype, offset, shape, strides })
    };
    let valid = |rebuilt: Option<Rebuilt>| Some(rebuilt.unwrap_or(Rebuilt::Invalid));
    match name {
        "_rebuild_tensor" | "_rebuild_tensor_v2" => valid(view(None).map(Rebuilt::View)),
        "_rebuild_tensor_v3" => valid(arguments.get(6).and_then(|dtype| view(Some(*dtype))).map(Rebuilt::View)),
        "_rebuild_qtensor" => {
            let parameters = arguments.get(4).map(|id| trace.contents(*id)).unwrap_or_default();
            let by_channel = parameters.first().and_then(|kind| trace.path_of(*kind));
            let parts = match (by_channel.as_deref(), parameters) {
                (
                    Some("torch.per_channel_affine" | "torch.per_channel_affine_float_qparams"),
                    [_, scales, zeros, ..],
                ) => {
                    vec![("scales", *scales), ("zero_points", *zeros)]
                }
                _ => Vec::new(),
            };
            valid(view(None).map(|view| Rebuilt::Parts(Some(view), parts)))
        }
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => {
            let inner = arguments.get(1).map(|id| trace.contents(*id)).unwrap_or_default();
            valid(match inner {
                [indices, values, _] | [indices, values, _, _] if name == "_rebuild_sparse_tensor" => {
                    Some(Rebuilt::Parts(None, vec![("indices", *indices), ("values", *values)]))
                }
                [rows, columns, values, ..] => Some(Rebuilt::Parts(
                    None,
                    vec![("compressed_indices", *rows), ("plain_indices", *columns), ("values", *values)],
                )),
                _ => None,
            })
        }
        "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
            valid(arguments.first().map(|data| Rebuilt::Parts(None, vec![("", *data)])))
        }
        "_rebuild_meta_tensor_no_storage" => valid(match arguments {
            [dtype, size, ..] => {
                dtype_of(trace, *dtype).zip(dimensions(trace, *size)).map(|(dtype, shape)| Rebuilt::Meta(dtype, shape))
            }
            _ => None,
        }),
        _ => None,
    }
}

/// Whether a value is a tensor.
fn is_tensor(trace: &Trace, id: Id) -> bool {
    rebuild(trace, id).is_some()
}

impl Model {
    /// Lists the tensors and scalars of a pickled object. Names of the model's own tensors are plain,
    /// those of optimizers and averages keep the key under which they stand; `prefix` goes before all.
    fn read_object(&mut self, trace: &Trace, prefix: &str) {
        pickle_faults(trace, &mut self.findings);
        for name in pickle::distinct_globals(trace) {
            if !self.globals.contains(&name) {
                self.globals.push(name);
            }
        }
        let Some(root) = trace.root else { return };
        let strip = model_prefix(trace, root);
        let optimizer = strip.is_empty() && is_optimizer(trace, root);
        let rename = |path: &str| match path.strip_prefix(&*strip) {
            Some(plain) if !strip.is_empty() => format!("{prefix}{plain}"),
            _ if optimizer => format!("{prefix}optimizer.{path}"),
            _ => format!("{prefix}{path}"),
        };
        let complete = walk(trace, root, |path, id| {
            if let Some(rebuilt) = rebuild(trace, id) {
                let name = rename(if path.is_empty() { "tensor" } else { path });
                self.add(trace, id, name, rebuilt, 0);
                return Visit::Leave;
            }
            if let Value::Persistent(identifier) = trace.value(id) {
                // A storage saved by itself.
                self.storage(trace, identifier);
            }
            if self.add_scalar(trace, path, id) { Visit::Leave } else { Visit::Into }
        });
        if !complete {
            let message = "the object is nested too deeply, or refers to its parts too often, to be listed in full";
            self.findings.push(Finding::new(&TOO_LARGE, message));
        }
        // Storages that are asked for, but reached from no listed tensor.
        for persistent in &trace.persistent {
            if let Value::Persistent(identifier) = trace.value(*persistent) {
                self.storage(trace, identifier);
            }
        }
    }

    fn add(&mut self, trace: &Trace, id: Id, name: String, rebuilt: Rebuilt, depth: usize) {
        let (view, parts) = match rebuilt {
            Rebuilt::View(view) => (Some(view), Vec::new()),
            Rebuilt::Parts(view, parts) => (view, parts),
            Rebuilt::Meta(dtype, shape) => {
                let message = format!("tensor {name:?} has no values");
                self.findings.push(Finding::new(&META, message).tensor(&*name));
                self.reach.push(None);
                self.tensors.push(Tensor { name, dtype, shape, bytes: 0, span: None, storage: None });
                return;
            }
            Rebuilt::Invalid => {
                let message = format!("tensor {name:?} is described by arguments that make no sense");
                self.findings.push(Finding::new(&TENSOR_INVALID, message).at(trace.offset(id)).tensor(name));
                return;
            }
        };
        for (part, inner) in parts {
            // A parameter within a parameter within a parameter is nothing that PyTorch writes.
            let Some(rebuilt) = rebuild(trace, inner).filter(|_| depth < 4) else { continue };
            let name = if part.is_empty() { name.clone() } else { format!("{name}.{part}") };
            self.add(trace, inner, name, rebuilt, depth + 1);
        }
        if let Some(view) = view {
            self.add_view(trace, id, name, view);
        }
    }

    fn add_view(&mut self, trace: &Trace, id: Id, name: String, view: View) {
        let storage = match trace.value(view.storage) {
            Value::Persistent(identifier) => self.storage(trace, identifier),
            _ => None,
        };
        let Some((storage, base)) = storage else {
            let message = format!("tensor {name:?} looks into something that is no storage");
            self.findings.push(Finding::new(&TENSOR_INVALID, message).at(trace.offset(id)).tensor(name));
            return;
        };
        self.add_to_storage(storage, base, name, view, trace.offset(id));
    }

    /// Adds a tensor that looks into a known storage; `base` is the element at which a view of it begins,
    /// `at` the place in the pickle for findings.
    fn add_to_storage(&mut self, storage: u32, base: u64, name: String, view: View, at: u64) {
        let index = self.tensors.len();
        let Some(entry) = self.storages.get_mut(storage as usize) else { return };
        let dtype = view.dtype.or(entry.dtype).unwrap_or(DType::U8);
        let elements = checked_elements(&view.shape);
        let bytes = elements.and_then(|elements| dtype.bytes(elements));
        let offset = view.offset.saturating_add(base);
        let extent = extent(&view);
        let start = dtype.bytes(offset);
        let end = extent.and_then(|extent| dtype.bytes(offset.checked_add(extent)?));
        let reach = start.zip(end).map(|(start, end)| (start, end - start));
        let have = entry.bytes;
        match (bytes, reach, have) {
            (Some(_), Some((start, len)), Some(have)) if len == 0 || start.saturating_add(len) <= have => {}
            (Some(_), Some((start, len)), Some(have)) => {
                let message = format!(
                    "tensor {name:?} needs bytes {start} to {} of storage {:?}, which has {have}",
                    start.saturating_add(len),
                    entry.key
                );
                self.findings.push(Finding::new(&VIEW_OUTSIDE, message).at(at).tensor(&*name));
            }
            _ => {
                let message = format!("tensor {name:?} has more elements than 64 bits can count, or no known size");
                self.findings.push(Finding::new(&TENSOR_INVALID, message).at(at).tensor(&*name));
            }
        }
        if !is_contiguous(&view) {
            let message = format!("tensor {name:?} has shape {:?} with strides {:?}", view.shape, view.strides);
            self.findings.push(Finding::new(&STRIDED, message).at(at).tensor(&*name));
        }
        entry.tensor.get_or_insert(index);
        entry.needed =
            entry.needed.max(reach.map_or(0, |(start, len)| if len == 0 { 0 } else { start.saturating_add(len) }));
        self.reach.push(reach);
        self.tensors.push(Tensor {
            name,
            dtype,
            shape: view.shape,
            bytes: bytes.unwrap_or(u64::MAX),
            span: None,
            storage: Some(StorageView { storage, offset, extent: extent.unwrap_or(u64::MAX) }),
        });
    }

    /// The storage of a persistent identifier `("storage", class, key, location, elements, view)`, with the
    /// element at which a view (of the legacy form) begins.
    fn storage(&mut self, trace: &Trace, identifier: Id) -> Option<(u32, u64)> {
        let [kind, class, key, location, elements, rest @ ..] = trace.contents(identifier) else { return None };
        if trace.text(*kind) != Some("storage") {
            return None;
        }
        let class = trace.global(*class)?;
        let class = trace.str(class.name?);
        let dtype = storage_dtype(class);
        let key = match trace.value(*key) {
            Value::Text(text) => trace.str(text).to_string(),
            Value::Int(number) => number.to_string(),
            _ => return None,
        };
        let elements = whole(trace, *elements);
        // Storages without a type (`UntypedStorage`) are counted in bytes.
        let bytes = elements.and_then(|elements| dtype.unwrap_or(DType::U8).bytes(elements));
        let base =
            rest.first().map(|view| trace.contents(*view)).and_then(|view| whole(trace, *view.get(1)?)).unwrap_or(0);
        if let Some(index) = self.by_key.get(&key) {
            if let Some(known) = self.storages.get(*index as usize)
                && (known.dtype != dtype || known.bytes != bytes)
            {
                let message = format!("storage {key:?} is described in two ways");
                self.findings.push(Finding::new(&STORAGE_CONFLICT, message).at(trace.offset(identifier)));
            }
            return Some((*index, base));
        }
        let index = u32::try_from(self.storages.len()).ok()?;
        let location = trace.text(*location).unwrap_or_default().to_string();
        self.by_key.insert(key.clone(), index);
        self.storages.push(Storage { key, dtype, bytes, location, tensor: None, needed: 0, span: None });
        Some((index, base))
    }

    /// Keeps a scalar, or a list of them, as metadata; whether the value needs no further look.
    fn add_scalar(&mut self, trace: &Trace, path: &str, id: Id) -> bool {
        if path.is_empty() {
            return false;
        }
        let value = match trace.value(id) {
            Value::List | Value::Tuple(_) => {
                let items = trace.contents(id);
                if items.is_empty() || !items.iter().all(|item| scalar(trace, *item).is_some()) {
                    return items.is_empty();
                }
                let span = Span { start: 0, len: 0 };
                let first = items.iter().take(16).filter_map(|item| scalar(trace, *item)).map(|(_, value)| value);
                let items = Array { element: "object", len: items.len() as u64, span, items: first.collect() };
                Some(("array", metadata::Value::Array(items)))
            }
            _ => scalar(trace, id),
        };
        let Some((kind, value)) = value else { return false };
        if self.metadata.entries().len() < MAX_SCALARS && path.len() < MAX_TEXT {
            self.metadata.push(Entry { key: path.to_string(), kind, value, span: Span { start: 0, len: 0 } });
        }
        true
    }

    /// Places tensors within their storages, once these have been found in the file.
    fn place(&mut self) {
        let mut names = HashSet::new();
        for (tensor, reach) in self.tensors.iter_mut().zip(&self.reach) {
            if !names.insert(tensor.name.as_str()) {
                let message = format!("the name {:?} stands for more than one tensor", tensor.name);
                self.findings.push(Finding::new(&DUPLICATE, message).tensor(&*tensor.name));
            }
            let storage = tensor.storage.and_then(|view| self.storages.get(view.storage as usize));
            let (Some(span), Some((start, len))) = (storage.and_then(|storage| storage.span), reach) else { continue };
            tensor.span = Some(Span { start: span.start.saturating_add(*start), len: *len });
        }
        for storage in &self.storages {
            let name = storage.tensor.and_then(|index| self.tensors.get(index)).map(|tensor| tensor.name.as_str());
            let at = storage.span.map_or(0, |span| span.start);
            match (name, storage.bytes) {
                (None, bytes) => {
                    let message =
                        format!("storage {:?} ({} bytes) belongs to no tensor", storage.key, bytes.unwrap_or(0));
                    self.findings.push(Finding::new(&STORAGE_UNUSED, message).at(at));
                }
                (Some(name), Some(bytes)) if storage.needed < bytes => {
                    let message = format!(
                        "storage {:?} has {bytes} bytes, but its tensors reach only to byte {}",
                        storage.key, storage.needed
                    );
                    self.findings.push(Finding::new(&STORAGE_LARGER, message).at(at).tensor(name));
                }
                _ => {}
            }
        }
        let mut places: Vec<&str> = Vec::new();
        for storage in &self.storages {
            if storage.location != "cpu" && !places.contains(&&*storage.location) && places.len() < 16 {
                places.push(&storage.location);
            }
        }
        if !places.is_empty() {
            self.facts.push(("saved from device", places.join(", ")));
        }
    }

    /// Labels the storages, each as one range named by its first tensor.
    fn claim_storages(&self, draft: &mut Draft) {
        for storage in &self.storages {
            if let Some(span) = storage.span {
                let label = match storage.tensor {
                    Some(index) => Label::Tensor(index),
                    None => format!("storage {} of no tensor", storage.key).into(),
                };
                let kind = if storage.tensor.is_some() { Kind::Tensor } else { Kind::Unexplained };
                draft.add(span.start, span.end(), kind, label);
            }
        }
    }

    /// Hands over what was read.
    fn into_container(mut self, container: &mut super::Container, archive: Findings) {
        pickle::push_globals(&mut self.metadata, self.globals);
        container.tensors = self.tensors;
        container.metadata = self.metadata;
        container.facts = self.facts;
        container.findings = archive.finish();
        container.findings.extend(self.findings.finish());
    }
}

fn pickle_faults(trace: &Trace, findings: &mut Findings) {
    if let Some(fault) = &trace.fault {
        findings.push(Finding::new(&PICKLE_BROKEN, fault.reason.clone()).at(fault.offset));
    }
}

fn scalar(trace: &Trace, id: Id) -> Option<(&'static str, metadata::Value)> {
    Some(match trace.value(id) {
        Value::None => ("none", metadata::Value::Null),
        Value::Bool(flag) => ("bool", metadata::Value::Bool(flag)),
        Value::Int(number) => match u64::try_from(number) {
            Ok(number) => ("int", metadata::Value::Unsigned(number)),
            Err(_) => ("int", metadata::Value::Signed(number)),
        },
        Value::Float(number) => ("float", metadata::Value::Float(number)),
        Value::Text(pickle::Str::Long(place)) => ("str", metadata::Value::LongText(trace.span(place)?)),
        Value::Text(text) => ("str", metadata::Value::Text(trace.str(text).to_string())),
        // `torch.float16` as a setting.
        Value::Global(_) => {
            let path = trace.path_of(id)?;
            torch_dtype(path.strip_prefix("torch.")?)?;
            ("dtype", metadata::Value::Text(path))
        }
        _ => return None,
    })
}

/// Elements from the first to the last that a view reaches.
fn extent(view: &View) -> Option<u64> {
    if view.shape.contains(&0) {
        return Some(0);
    }
    let steps = view.shape.iter().zip(&view.strides);
    steps.into_iter().try_fold(1u64, |sum, (dimension, stride)| sum.checked_add((dimension - 1).checked_mul(*stride)?))
}

fn is_contiguous(view: &View) -> bool {
    let mut expected = 1u64;
    if view.shape.contains(&0) {
        return true;
    }
    for (dimension, stride) in view.shape.iter().zip(&view.strides).rev() {
        if *dimension != 1 && *stride != expected {
            return false;
        }
        expected = expected.saturating_mul(*dimension);
    }
    true
}

/// The path below which a checkpoint keeps the model's own tensors (`state_dict.`), or nothing where the
/// object is the model itself.
fn model_prefix(trace: &Trace, root: Id) -> String {
    let mut prefix = String::new();
    let mut current = root;
    for _ in 0..3 {
        if !is_mapping(trace, current) {
            break;
        }
        let parts = entries(trace, current);
        if parts.iter().any(|(_, id)| is_tensor(trace, *id)) {
            break;
        }
        let holds = |id: Id| {
            let mut found = false;
            walk(trace, id, |_, id| {
                found = is_tensor(trace, id);
                if found { Visit::Stop } else { Visit::Into }
            });
            found
        };
        let mut named = WRAPPERS.iter().filter_map(|name| parts.iter().find(|(key, _)| key == name));
        let Some((key, inner)) = named.find(|(_, id)| !is_tensor(trace, *id) && holds(*id)) else { break };
        prefix.push_str(key);
        prefix.push('.');
        current = *inner;
    }
    prefix
}

/// Whether a checkpoint is an optimizer's own.
fn is_optimizer(trace: &Trace, root: Id) -> bool {
    let parts = entries(trace, root);
    ["state", "param_groups"].iter().all(|name| parts.iter().any(|(key, _)| key == name))
}
