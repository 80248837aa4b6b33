//! What every byte range of a model's files is for.

use std::fmt::Write;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::style::{BOLD, CYAN, DIM, RED, bar, paint};
use super::units::{bytes, elide, percent, safe, thousands};
use crate::finding::Finding;
use crate::ledger::{Kind, Label, Ledger};
use crate::model::{Model, ModelFile};

/// The document of `anatomy bytes`.
#[derive(Debug, Serialize)]
pub struct Bytes<'m> {
    schema: &'static str,
    source: &'m str,
    files: Vec<FileBytes<'m>>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct FileBytes<'m> {
    path: &'m str,
    bytes: u64,
    format: &'static str,
    #[serde(serialize_with = "ranges")]
    ranges: &'m ModelFile,
}

#[derive(Serialize)]
struct RangeRow<'m> {
    start: u64,
    end: u64,
    kind: &'static str,
    label: &'m str,
}

fn ranges<S: Serializer>(file: &&ModelFile, serializer: S) -> Result<S::Ok, S::Error> {
    let ranges = file.container.ledger.ranges();
    let mut seq = serializer.serialize_seq(Some(ranges.len()))?;
    for range in ranges {
        let label = label(file, &range.label);
        seq.serialize_element(&RangeRow { start: range.start, end: range.end, kind: range.kind.as_str(), label })?;
    }
    seq.end()
}

fn label<'m>(file: &'m ModelFile, label: &'m Label) -> &'m str {
    match label {
        Label::Text(text) => text,
        Label::Tensor(index) => file.container.tensors.get(*index).map(|tensor| tensor.name.as_str()).unwrap_or("?"),
    }
}

impl<'m> Bytes<'m> {
    /// The ledgers of a model's files.
    pub fn new(model: &'m Model) -> Self {
        let files = model.files.iter().map(|file| FileBytes {
            path: &file.path,
            bytes: file.source.len(),
            format: file.container.format.id,
            ranges: file,
        });
        Bytes {
            schema: "anatomy.bytes/1",
            source: &model.source,
            files: files.collect(),
            findings: model.all_findings(),
        }
    }

    /// For each file a bar per kind, then its ranges; runs of the same kind are summed up unless `all`.
    pub fn text(&self, width: usize, all: bool) -> String {
        let mut out = String::new();
        for file in &self.files {
            let ledger = &file.ranges.container.ledger;
            let _ = writeln!(out, "{}  {}", paint(BOLD, safe(file.path)), bytes(file.bytes));
            totals(&mut out, ledger, width);
            let _ = writeln!(out);
            table(&mut out, file, width, all);
            let _ = writeln!(out);
        }
        if !self.findings.is_empty() {
            out.push_str(&super::style::findings(&self.findings, width));
        }
        out
    }
}

const KINDS: [Kind; 9] = [
    Kind::Tensor,
    Kind::Tokenizer,
    Kind::Metadata,
    Kind::Header,
    Kind::Magic,
    Kind::Code,
    Kind::Container,
    Kind::Padding,
    Kind::Unexplained,
];

fn totals(out: &mut String, ledger: &Ledger, width: usize) {
    let cells = width.saturating_sub(44).clamp(8, 60);
    for kind in KINDS {
        let total = ledger.total(kind);
        if total == 0 {
            continue;
        }
        let share = total as f64 / ledger.len().max(1) as f64;
        let style = if kind == Kind::Unexplained { RED } else { CYAN };
        let _ = writeln!(
            out,
            "  {:<12}{} {:>10} {:>17}",
            kind.as_str(),
            paint(style, bar(share, cells)),
            percent(total, ledger.len()),
            thousands(total)
        );
    }
}

/// Rows shown of a long run of ranges of one kind before it is summed up.
const SHOWN: usize = 2;

fn table(out: &mut String, file: &FileBytes, width: usize, all: bool) {
    let ranges = file.ranges.container.ledger.ranges();
    let digits = thousands(file.bytes).len().max(5);
    let room = width.saturating_sub(digits * 2 + 19).max(16);
    let _ =
        writeln!(out, "  {}", paint(DIM, format!("{:>digits$}  {:>digits$}  {:<11}  what", "start", "bytes", "kind")));
    let mut at = 0;
    while let Some(first) = ranges.get(at) {
        // In archives, headers and filling stand between the tensors: together they are the body.
        let body = |kind: Kind| matches!(kind, Kind::Tensor | Kind::Padding | Kind::Container);
        let alike = |kind: Kind| kind == first.kind || (body(first.kind) && body(kind));
        let run = ranges.iter().skip(at).take_while(|range| alike(range.kind)).count();
        let shown = if all || run <= SHOWN * 2 + 1 { run } else { SHOWN };
        let mut row = |start: u64, size: u64, kind: &str, text: &str| {
            let text = elide(&safe(text), room);
            let _ = writeln!(out, "  {:>digits$}  {:>digits$}  {kind:<11}  {text}", thousands(start), thousands(size));
        };
        for range in ranges.iter().skip(at).take(shown) {
            row(range.start, range.end - range.start, range.kind.as_str(), label(file.ranges, &range.label));
        }
        if shown < run {
            let rest: Vec<_> = ranges.iter().skip(at + shown).take(run - shown - 1).collect();
            if let (Some(from), Some(to)) = (rest.first(), rest.last()) {
                let text = format!("… {} more like these (--all shows each)", thousands(rest.len() as u64));
                let same = rest.iter().all(|range| range.kind == from.kind);
                row(from.start, to.end - from.start, if same { from.kind.as_str() } else { "several" }, &text);
            }
            if let Some(last) = ranges.get(at + run - 1) {
                row(last.start, last.end - last.start, last.kind.as_str(), label(file.ranges, &last.label));
            }
        }
        at += run;
    }
}
