//! Prints what the library reads from each file, one JSON document a line: the raw material of the checks in `tools/`.

use std::path::Path;

use anatomy::ledger::Label;
use anatomy::source::Source;
use serde_json::json;

#[allow(clippy::print_stdout)]
fn main() {
    for path in std::env::args().skip(1) {
        let opened = Source::open(Path::new(&path)).and_then(|source| anatomy::probe::open(&source));
        let document = match opened {
            Err(error) => json!({"path": path, "error": error.to_string()}),
            Ok((identity, container)) => json!({
                "path": path,
                "format": identity.format.id,
                "evidence": identity.evidence,
                "facts": container.facts,
                "tensors": container.tensors.iter().map(|tensor| json!({
                    "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape, "bytes": tensor.bytes,
                    "start": tensor.span.map(|span| span.start), "len": tensor.span.map(|span| span.len),
                })).collect::<Vec<_>>(),
                "metadata": container.metadata.entries().iter().map(|entry| json!([entry.key, format!("{:?}", entry.value)]))
                    .collect::<Vec<_>>(),
                "ranges": container.ledger.ranges().iter().map(|range| json!([range.start, range.end, range.kind.as_str(),
                    match &range.label { Label::Text(text) => text.to_string(), Label::Tensor(index) => format!("#{index}") }]))
                    .collect::<Vec<_>>(),
                "external": container.external.iter().map(|e| json!([e.path, e.tensor, e.span.start, e.span.len])).collect::<Vec<_>>(),
                "findings": container.findings,
            }),
        };
        println!("{document}");
    }
}
