//! Prints what the library reads of each file, one JSON document a line: for scripts in `tools/` that
//! compare it with the reference libraries, and for looking at it.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anatomy::ledger::{Kind, Label};
use anatomy::{probe, source::Source};
use serde_json::{Value, json};

fn describe(path: &str) -> anatomy::Result<Value> {
    let source = Source::open(Path::new(path))?;
    let started = Instant::now();
    let (identity, container) = probe::open(&source)?;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let tensors: Vec<Value> = container
        .tensors
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape, "bytes": tensor.bytes,
                "start": tensor.span.map(|span| span.start), "len": tensor.span.map(|span| span.len),
                "storage": tensor.storage.map(|view| (view.storage, view.offset, view.extent)),
            })
        })
        .collect();
    let mut end = 0;
    let exact = container.ledger.ranges().iter().all(|range| {
        let follows = range.start == end && range.end > range.start;
        end = range.end;
        follows
    });
    let metadata: Vec<String> =
        container.metadata.entries().iter().map(|entry| format!("{} = {:?}", entry.key, entry.value)).collect();
    let external: Vec<Value> =
        container.external.iter().map(|ext| json!([ext.path, ext.tensor, ext.span.start, ext.span.len])).collect();
    let label = |label: &Label| match label {
        Label::Text(text) => text.to_string(),
        Label::Tensor(index) => format!("#{index}"),
    };
    let ranges: Vec<Value> = container
        .ledger
        .ranges()
        .iter()
        .map(|range| json!([range.start, range.end, range.kind.as_str(), label(&range.label)]))
        .collect();
    let unexplained = container.ledger.total(Kind::Unexplained);
    Ok(json!({
        "path": path, "format": identity.format.id, "evidence": identity.evidence, "micros": micros,
        "facts": container.facts, "metadata": metadata, "external": external, "ranges": ranges, "tensors": tensors, "findings": container.findings,
        "ledger_exact": exact && end == source.len(), "unexplained": unexplained,
    }))
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for path in std::env::args().skip(1) {
        let line = describe(&path).unwrap_or_else(|error| json!({"path": path, "error": error.to_string()}));
        writeln!(out, "{line}")?;
    }
    Ok(())
}
