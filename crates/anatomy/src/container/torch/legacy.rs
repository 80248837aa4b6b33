//! PyTorch's stream of pickles (0.2 to 1.5, and since with `_use_new_zipfile_serialization=False`):
//! a magic number, a protocol version, the writer's system, the object, the keys of the storages,
//! then each storage as a count of 8 bytes and its elements (torch/serialization.py, `_legacy_save`).

use super::{HIDDEN, Model, PICKLE_BROKEN, STORAGE_MISSING, STORAGE_SIZE, STREAM};
use crate::container::pickle::{self, Str, Trace, Value};
use crate::container::{Container, Format};
use crate::dtype::DType;
use crate::error::Result;
use crate::finding::{Finding, Findings};
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// The format.
pub static FORMAT: Format = Format {
    id: "pytorch-legacy",
    name: "PyTorch checkpoint (legacy stream)",
    extensions: &["pt", "pth", "bin", "ckpt", "t7"],
    use_and_risk: "For PyTorch. It is a series of pickles: loading it without `weights_only` can run any code.",
    probe,
    open,
};

/// 0x1950a86a20f9469cfc6c, as a pickled integer holds it and as protocol 0 writes it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const MAGIC_DIGITS: &str = "119547037146038801333356";

/// Whether a pickle is the magic number.
fn is_magic(trace: &Trace, source: &Source) -> bool {
    match trace.root.map(|root| trace.value(root)) {
        Some(Value::BigInt(Str::Long(place))) => {
            let span = trace.span(place).filter(|span| span.len == MAGIC.len() as u64);
            span.is_some_and(|span| source.read(span.start..span.end()).is_ok_and(|bytes| bytes == MAGIC))
        }
        Some(Value::BigInt(digits)) => trace.str(digits) == MAGIC_DIGITS,
        _ => false,
    }
}

fn probe(head: &Head) -> Option<Match> {
    // The magic number is the first 14 to 40 bytes, whichever the protocol.
    let first = head.first.get(..64).unwrap_or(&head.first);
    if !first.iter().any(|byte| matches!(byte, 0x8a | 0x8b | b'L')) {
        return None;
    }
    let source = Source::memory("head", first.to_vec());
    let trace = pickle::run(&source, 0).ok()?;
    if trace.fault.is_some() || !is_magic(&trace, &source) {
        return None;
    }
    let mut evidence = "it begins with PyTorch's magic number 0x1950a86a20f9469cfc6c as a pickle".to_string();
    if cut(head.source, trace.end) {
        evidence.push_str(&format!("; it is cut: the file ends at byte {}, within its pickles", head.len()));
    }
    Match::new(score::CERTAIN, evidence)
}

/// Whether the file ends within the four pickles that follow the magic number. The storages are left out:
/// that they are complete is for [`open`] to say.
fn cut(source: &Source, mut at: u64) -> bool {
    let head = source.section(0, 4 << 20);
    for _ in 0..4 {
        match pickle::run(&head, at) {
            Ok(trace) if trace.fault.is_none() => at = trace.end,
            _ => return head.len() == source.len(),
        }
    }
    false
}

fn open(source: &Source) -> Result<Container> {
    let mut model = Model::default();
    let mut draft = Draft::new();
    read_stream(source, &mut model, &mut draft)?;
    model.place();
    model.claim_storages(&mut draft);
    let mut container = Container::new(&FORMAT, draft.finish(source.len()));
    model.into_container(&mut container, Findings::new());
    Ok(container)
}

/// Follows one pickle of the stream; `None` where it breaks off.
fn next(
    source: &Source,
    at: u64,
    what: &'static str,
    kind: Kind,
    model: &mut Model,
    draft: &mut Draft,
) -> Result<Trace> {
    let trace = pickle::run(source, at)?;
    draft.add(at, trace.end, kind, what);
    if let Some(fault) = &trace.fault
        && what != OBJECT
    {
        model.findings.push(Finding::new(&STREAM, format!("{what}: {}", fault.reason)).at(fault.offset));
    }
    if what != OBJECT && (!trace.globals.is_empty() || !trace.calls.is_empty()) {
        let message = format!("{what} is more than a plain value: it imports or calls something");
        model.findings.push(Finding::new(&HIDDEN, message).at(at));
        model.globals.extend(pickle::distinct_globals(&trace));
    }
    Ok(trace)
}

const OBJECT: &str = "pickle of the saved object";

fn read_stream(source: &Source, model: &mut Model, draft: &mut Draft) -> Result<()> {
    let len = source.len();
    let magic = next(source, 0, "pickle of the magic number", Kind::Magic, model, draft)?;
    if magic.fault.is_some() {
        return Ok(());
    }
    let protocol = next(source, magic.end, "pickle of the protocol version", Kind::Header, model, draft)?;
    if protocol.fault.is_some() {
        return Ok(());
    }
    if let Some(version) = protocol.root.and_then(|root| protocol.int(root)) {
        model.facts.push(("protocol version", version.to_string()));
    }
    let system = next(source, protocol.end, "pickle of the writer's system", Kind::Header, model, draft)?;
    if let Some(little) = system.root.and_then(|root| system.lookup(root, "little_endian")) {
        let order = if system.int(little) == Some(0) { "big" } else { "little" };
        model.facts.push(("byte order", order.to_string()));
    }
    if system.fault.is_some() {
        return Ok(());
    }
    let object = next(source, system.end, OBJECT, Kind::Code, model, draft)?;
    model.facts.push(("pickle protocol", object.protocol.to_string()));
    model.read_object(&object, "");
    if object.fault.is_some() {
        return Ok(());
    }
    let keys = next(source, object.end, "pickle of the storage keys", Kind::Header, model, draft)?;
    let list = keys.root.map(|root| keys.contents(root)).unwrap_or_default();
    let mut at = keys.end;
    for key in list {
        let key = match keys.value(*key) {
            Value::Text(text) => keys.str(text).to_string(),
            Value::Int(number) => number.to_string(),
            _ => {
                model
                    .findings
                    .push(Finding::new(&PICKLE_BROKEN, "a storage key that is no text").at(keys.offset(*key)));
                return Ok(());
            }
        };
        match read_storage(source, at, &key, model, draft)? {
            Some(end) => at = end,
            None => return Ok(()),
        }
    }
    report_missing(source, model);
    if at < len && keys.fault.is_none() {
        let message = format!("{} bytes follow the last storage", len - at);
        model.findings.push(Finding::new(&STREAM, message).at(at));
    }
    Ok(())
}

/// One storage: a count of elements in 8 bytes, then the elements. Where the next begins; `None` where that
/// cannot be known.
pub(super) fn read_storage(
    source: &Source,
    at: u64,
    key: &str,
    model: &mut Model,
    draft: &mut Draft,
) -> Result<Option<u64>> {
    let len = source.len();
    let index = model.by_key.get(key).copied();
    let Some(storage) = index.and_then(|index| model.storages.get_mut(index as usize)) else {
        let message = format!("storage {key:?} follows, but the pickle does not say of which type it is");
        model.findings.push(Finding::new(&STREAM, message).at(at));
        return Ok(None);
    };
    let count = source.read_up_to(at, 8)?;
    draft.add(at, at.saturating_add(8).min(len), Kind::Container, "element count of a storage");
    let Some(count) = count.first_chunk::<8>() else {
        report_missing(source, model);
        return Ok(None);
    };
    let dtype = storage.dtype.unwrap_or(DType::U8);
    let need = storage.bytes;
    // Big-endian writers store the count in their own order.
    let counts = [u64::from_le_bytes(*count), u64::from_be_bytes(*count)];
    let sizes = counts.map(|count| dtype.bytes(count));
    let size = if sizes.contains(&need) { need } else { sizes.first().copied().flatten() };
    let start = at + 8;
    if size != need {
        let message = format!(
            "storage {key:?} should have {} bytes, but it counts {} elements",
            need.unwrap_or(0),
            u64::from_le_bytes(*count)
        );
        model.findings.push(Finding::new(&STORAGE_SIZE, message).at(at));
    }
    let Some(size) = size else { return Ok(None) };
    storage.span = Some(Span { start, len: size });
    if start.saturating_add(size) > len {
        report_missing(source, model);
        return Ok(None);
    }
    Ok(Some(start + size))
}

/// Storages that the file does not hold to their end.
fn report_missing(source: &Source, model: &mut Model) {
    let len = source.len();
    let missing = model.storages.iter().filter(|storage| storage.span.is_none_or(|span| span.end() > len)).count();
    if missing > 0 {
        let message = format!("{missing} of {} storages are not, or not wholly, in the file", model.storages.len());
        model.findings.push(Finding::new(&STORAGE_MISSING, message).at(len));
    }
}
