//! TensorFlow: SavedModel (`saved_model.pb`) and checkpoints (`.index` tables and the `checkpoint` text).
//!
//! Field numbers from TensorFlow's `saved_model.proto` and `meta_graph.proto`; the table's footer from
//! `tensorflow/core/lib/io/format.h`.

use super::protobuf::{Fields, Value, text};
use super::{Container, Facts, Format, identified};
use crate::bytes::Reader;
use crate::error::Result;
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// SavedModel.
pub static SAVED_MODEL: Format = Format {
    id: "tf-savedmodel",
    name: "TensorFlow SavedModel",
    extensions: &["pb"],
    use_and_risk: "For TensorFlow: the graph, with its weights in the folder `variables`. A graph can read and write \
                   files, so loading one is running a program.",
    probe: probe_saved_model,
    open: open_saved_model,
};

/// Checkpoint.
pub static CHECKPOINT: Format = Format {
    id: "tf-checkpoint",
    name: "TensorFlow checkpoint",
    extensions: &["index"],
    use_and_risk: "For TensorFlow: the table of a checkpoint's tensors, whose numbers lie in the `.data-…` files beside \
                   it. Loading runs no code.",
    probe: probe_checkpoint,
    open: open_checkpoint,
};

struct Graph {
    tags: Vec<String>,
    version: String,
    cut: bool,
}

/// A schema version of 1, then graphs whose first part is a `MetaInfoDef` or a `GraphDef`.
fn saved_model(source: &Source) -> Option<Graph> {
    let mut reader = Reader::new(source, 0);
    let mut fields = Fields::of_source(&reader);
    let schema = fields.next(&mut reader).ok()??;
    matches!((schema.number, schema.value), (1, Value::Varint(1))).then_some(())?;
    let graph = fields.next(&mut reader).ok()??;
    let span = graph.span().filter(|_| graph.number == 2)?;
    let mut found = Graph { tags: Vec::new(), version: String::new(), cut: span.end() > source.len() };
    let mut parts = Fields::within(span);
    let mut known = false;
    for _ in 0..16 {
        let part = match parts.next(&mut reader) {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(fault) if fault.cut => break,
            Err(_) => return None,
        };
        match (part.number, part.value) {
            (1, Value::Bytes(span)) => known |= info(&mut reader, span, &mut found)?,
            (2, Value::Bytes(span)) => known |= graph_def(&mut reader, span),
            (3..=7, Value::Bytes(_)) => {}
            _ => return None,
        }
    }
    known.then_some(found)
}

/// `MetaInfoDef`: tags and the version of TensorFlow. `None` where it cannot be one.
fn info(reader: &mut Reader, span: Span, found: &mut Graph) -> Option<bool> {
    let mut fields = Fields::within(span);
    loop {
        let field = match fields.next(reader) {
            Ok(Some(field)) => field,
            Ok(None) => return Some(!found.tags.is_empty() || !found.version.is_empty()),
            Err(fault) if fault.cut => return Some(!found.tags.is_empty()),
            Err(_) => return None,
        };
        match (field.number, field.value) {
            (4, Value::Bytes(span)) if found.tags.len() < 16 => found.tags.push(text(reader, span, 256)?),
            (5, Value::Bytes(span)) => found.version = text(reader, span, 256)?,
            (1..=4 | 6 | 8, Value::Bytes(_)) | (7, Value::Varint(_)) => {}
            _ => return None,
        }
    }
}

/// Whether the first part is a node with a name and an operator.
fn graph_def(reader: &mut Reader, span: Span) -> bool {
    let Ok(Some(node)) = Fields::within(span).next(reader) else { return false };
    let Some(span) = node.span().filter(|_| node.number == 1) else { return false };
    let mut fields = Fields::within(span);
    [1, 2].iter().all(|number| {
        fields.next(reader).is_ok_and(|field| field.is_some_and(|f| f.number == *number && f.span().is_some()))
    })
}

fn probe_saved_model(head: &Head) -> Option<Match> {
    head.starts_with(b"\x08\x01\x12").then_some(())?;
    let graph = saved_model(head.source)?;
    let cut = if graph.cut { format!("; the file is cut: it ends at byte {}", head.len()) } else { String::new() };
    Match::new(
        score::CERTAIN - 10,
        format!("a protocol-buffer message of schema version 1 with a TensorFlow graph{cut}"),
    )
}

fn open_saved_model(source: &Source) -> Result<Container> {
    let mut facts = Facts::new();
    if let Some(graph) = saved_model(source) {
        facts.push(("tags", graph.tags.join(", ")));
        facts.push(("made by", format!("TensorFlow {}", graph.version)));
    }
    Ok(identified(&SAVED_MODEL, source, 2, 0, facts))
}

/// The last eight bytes of a table, 0xdb4775248b80fb57.
const TABLE_MAGIC: [u8; 8] = [0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb];
const FOOTER: u64 = 48;

fn is_table(source: &Source) -> bool {
    let start = source.len().checked_sub(8).filter(|_| source.len() >= FOOTER);
    start.is_some_and(|start| source.read_up_to(start, 8).is_ok_and(|bytes| bytes == TABLE_MAGIC))
}

fn probe_checkpoint(head: &Head) -> Option<Match> {
    if is_table(head.source) {
        return Match::new(
            score::CERTAIN - 5,
            "the last 8 bytes are 57 fb 80 8b 24 75 47 db, the magic number of TensorFlow's tables",
        );
    }
    head.starts_with(b"model_checkpoint_path: \"").then_some(())?;
    Match::new(score::CERTAIN - 5, "the text begins with `model_checkpoint_path: \"`")
}

fn open_checkpoint(source: &Source) -> Result<Container> {
    let len = source.len();
    let mut draft = Draft::new();
    let mut facts = Facts::new();
    if is_table(source) {
        draft.add(len - 8, len, Kind::Magic, "magic number");
        draft.add(len - FOOTER, len - 8, Kind::Header, "footer: places of the table's indices");
        facts.push(("kind", "table of the tensors".to_string()));
    } else {
        let head = source.read_up_to(0, 4096)?;
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let path = String::from_utf8_lossy(line).split('"').nth(1).unwrap_or_default().to_string();
        facts.push(("kind", "text that names the latest checkpoint".to_string()));
        facts.push(("latest", path));
        draft.add(0, len, Kind::Metadata, "names of the checkpoints");
    }
    let ledger = draft.finish_with(len, |_, _| (Kind::Unexplained, "not read by this version".into()));
    let mut container = Container::new(&CHECKPOINT, ledger);
    container.facts = facts;
    Ok(container)
}
