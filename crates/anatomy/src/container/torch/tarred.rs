//! PyTorch's first form (before 0.2): a tar with the members `sys_info`, `pickle`, `storages`, `tensors`.
//!
//! Source: torch/serialization.py, `_legacy_load`, which still reads it.

use super::legacy::read_storage;
use super::{HIDDEN, Model, PICKLE_BROKEN, STREAM, View};
use crate::bytes::Reader;
use crate::container::pickle::{self, Id, Trace, Value, Visit, walk};
use crate::container::tar::{self, Archive, Member};
use crate::container::{Container, Format};
use crate::error::Result;
use crate::finding::Finding;
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;

/// The format.
pub static FORMAT: Format = Format {
    id: "pytorch-tar",
    name: "PyTorch checkpoint (tar, before 0.2)",
    extensions: &["pt", "pth", "tar"],
    use_and_risk: "For PyTorch. It holds pickles: loading it can run any code, in old versions even with `weights_only`.",
    probe,
    open,
};

const MEMBERS: [&str; 4] = ["sys_info", "pickle", "storages", "tensors"];

fn probe(head: &Head) -> Option<Match> {
    let (names, compressed) = tar::first_members(head)?;
    let found: Vec<&str> =
        names.iter().map(|name| name.trim_start_matches("./")).filter(|name| MEMBERS.contains(name)).collect();
    // A cut file may hold only the first ones.
    if compressed || found.len() < 2 {
        return None;
    }
    let mut evidence = format!("a tar with the members {} of an old PyTorch checkpoint", found.join(", "));
    if found.len() < MEMBERS.len() {
        evidence.push_str("; it is cut: not all four are there");
    }
    Match::new(score::CERTAIN, evidence)
}

fn open(source: &Source) -> Result<Container> {
    let mut archive = tar::read(source)?;
    let mut model = Model::default();
    let mut draft = Draft::new();
    archive.claim_structure(source, &mut draft)?;
    for member in &archive.members {
        let kind = if member.name.ends_with("sys_info") { Kind::Header } else { Kind::Code };
        if !member.name.ends_with("storages") && !member.name.ends_with("tensors") {
            draft.add(member.data.start, member.data.end(), kind, format!("member {}", member.name));
        }
    }
    if let Some(member) = member(&archive, "sys_info") {
        let trace = pickle::run(&source.section(0, member.data.end()), member.data.start)?;
        if !trace.globals.is_empty() || !trace.calls.is_empty() {
            let message = "the writer's system is more than plain values: it imports or calls something";
            model.findings.push(Finding::new(&HIDDEN, message).at(member.data.start).member("sys_info"));
            model.globals.extend(pickle::distinct_globals(&trace));
        }
        if let Some(little) = trace.root.and_then(|root| trace.lookup(root, "little_endian")) {
            let order = if trace.int(little) == Some(0) { "big" } else { "little" };
            model.facts.push(("byte order", order.to_string()));
        }
    }
    read_storages(source, &archive, &mut model, &mut draft)?;
    let views = read_tensors(source, &archive, &mut model, &mut draft)?;
    match member(&archive, "pickle") {
        Some(member) => {
            let part = source.section(0, member.data.end());
            let trace = pickle::run(&part, member.data.start)?;
            model.facts.push(("pickle protocol", trace.protocol.to_string()));
            list_tensors(&trace, views, &mut model);
        }
        None => model.findings.push(Finding::new(&PICKLE_BROKEN, "the member `pickle` is missing")),
    }
    model.place();
    model.claim_storages(&mut draft);
    let mut container = Container::new(&FORMAT, draft.finish(source.len()));
    model.into_container(&mut container, archive.findings);
    Ok(container)
}

fn member<'a>(archive: &'a Archive, name: &str) -> Option<&'a Member> {
    archive.member(name)
}

/// A pickle that says how many records follow.
fn count(source: &Source, at: u64, model: &mut Model, draft: &mut Draft) -> Result<Option<(u64, u64)>> {
    let trace = pickle::run(source, at)?;
    draft.add(at, trace.end, Kind::Header, "pickled count");
    let number = trace.root.filter(|_| trace.fault.is_none()).and_then(|root| super::whole(&trace, root));
    if number.is_none() {
        model.findings.push(Finding::new(&STREAM, "the count of records is no plain number").at(at));
        model.globals.extend(pickle::distinct_globals(&trace));
    }
    Ok(number.map(|number| (number, trace.end)))
}

/// `storages`: a count; for each a pickle of key, place and class, a count of elements, the elements; at
/// the end a pickled list of storages that are parts of others.
fn read_storages(source: &Source, archive: &Archive, model: &mut Model, draft: &mut Draft) -> Result<()> {
    let Some(member) = member(archive, "storages") else {
        model.findings.push(Finding::new(&STREAM, "the member `storages` is missing"));
        return Ok(());
    };
    let part = source.section(0, member.data.end());
    let Some((number, mut at)) = count(&part, member.data.start, model, draft)? else { return Ok(()) };
    for _ in 0..number {
        let trace = pickle::run(&part, at)?;
        draft.add(at, trace.end, Kind::Code, "pickle of a storage's key and type");
        if let Some(fault) = &trace.fault {
            model.findings.push(Finding::new(&STREAM, fault.reason.clone()).at(fault.offset));
            return Ok(());
        }
        let root = trace.root.map(|root| trace.contents(root)).unwrap_or_default();
        let [key, location, class, ..] = root else {
            model.findings.push(Finding::new(&STREAM, "a storage's record is no triple").at(at));
            return Ok(());
        };
        let Some(key) = trace.int(*key).map(|key| key.to_string()).or_else(|| trace.text(*key).map(String::from))
        else {
            model.findings.push(Finding::new(&STREAM, "a storage's key is no number").at(at));
            return Ok(());
        };
        let class = trace.global(*class).and_then(|global| Some(trace.str(global.name?)));
        let dtype = class.and_then(super::storage_dtype);
        // Here the count before the elements is all that says how many there are.
        let head = part.read_up_to(trace.end, 8)?;
        let elements = head.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        let bytes = elements.and_then(|elements| dtype.unwrap_or(crate::dtype::DType::U8).bytes(elements));
        let index = u32::try_from(model.storages.len()).unwrap_or(u32::MAX);
        model.by_key.insert(key.clone(), index);
        model.storages.push(super::Storage {
            key: key.clone(),
            dtype,
            bytes,
            location: trace.text(*location).unwrap_or_default().to_string(),
            tensor: None,
            needed: 0,
            span: None,
        });
        match read_storage(&part, trace.end, &key, model, draft)? {
            Some(end) => at = end,
            None => return Ok(()),
        }
    }
    let views = pickle::run(&part, at)?;
    draft.add(at, views.end, Kind::Header, "pickled list of storages within storages");
    Ok(())
}

/// A tensor of the member `tensors`, by its key.
type Views = std::collections::HashMap<String, (String, View)>;

/// `tensors`: a count; for each a pickle of key, storage and class, then rank, sizes, strides and offset.
fn read_tensors(source: &Source, archive: &Archive, model: &mut Model, draft: &mut Draft) -> Result<Views> {
    let mut views = Views::new();
    let Some(member) = member(archive, "tensors") else { return Ok(views) };
    let part = source.section(0, member.data.end());
    let Some((number, mut at)) = count(&part, member.data.start, model, draft)? else { return Ok(views) };
    for _ in 0..number {
        let trace = pickle::run(&part, at)?;
        draft.add(at, trace.end, Kind::Code, "pickle of a tensor's key, storage and type");
        let record = trace.root.map(|root| trace.contents(root)).unwrap_or_default();
        let (true, [key, storage, ..]) = (trace.fault.is_none(), record) else {
            model.findings.push(Finding::new(&STREAM, "a tensor's record is broken").at(at));
            return Ok(views);
        };
        let name = |id: Id| match trace.value(id) {
            Value::Int(number) => number.to_string(),
            _ => trace.text(id).unwrap_or_default().to_string(),
        };
        let mut reader = Reader::new(&part, trace.end);
        let layout = (|| {
            let rank = u64::from(reader.u32()?);
            reader.skip(4)?;
            let mut numbers = Vec::new();
            if rank > super::MAX_RANK as u64 {
                return Ok(None);
            }
            for _ in 0..rank * 2 + 1 {
                numbers.push(reader.u64()?);
            }
            Ok::<_, crate::Error>(Some(numbers))
        })();
        let Ok(Some(mut numbers)) = layout else {
            model.findings.push(Finding::new(&STREAM, "a tensor's sizes are broken or missing").at(trace.end));
            return Ok(views);
        };
        let offset = numbers.pop().unwrap_or(0);
        let strides = numbers.split_off(numbers.len() / 2);
        draft.add(trace.end, reader.offset(), Kind::Header, "sizes and strides of a tensor");
        at = reader.offset();
        // The persistent identifier of the other forms is not there; the storage is found by its key.
        let storage_key = name(*storage);
        let view = View { storage: *storage, dtype: None, offset, shape: numbers, strides };
        views.insert(name(*key), (storage_key, view));
    }
    Ok(views)
}

/// The object, in which a tensor is a persistent identifier: its key.
fn list_tensors(trace: &Trace, mut views: Views, model: &mut Model) {
    super::pickle_faults(trace, &mut model.findings);
    model.globals.extend(pickle::distinct_globals(trace));
    let Some(root) = trace.root else { return };
    walk(trace, root, |path, id| {
        let key = match trace.value(id) {
            Value::Persistent(identifier) => match trace.value(identifier) {
                Value::Int(number) => number.to_string(),
                _ => trace.text(identifier).unwrap_or_default().to_string(),
            },
            _ => return if model.add_scalar(trace, path, id) { Visit::Leave } else { Visit::Into },
        };
        if let Some((storage, view)) = views.remove(&key)
            && let Some(index) = model.by_key.get(&storage).copied()
        {
            model.add_to_storage(index, 0, path.to_string(), view, trace.offset(id));
        }
        Visit::Leave
    });
}
