//! TensorFlow graphs: operators that read or write files, run Python, load libraries or speak to servers.
//!
//! Field numbers from `saved_model.proto`, `meta_graph.proto`, `graph.proto`, `function.proto` and `node_def.proto`. A
//! frozen graph is a `GraphDef` by itself.

use std::collections::BTreeMap;

use super::walk::{Opened, Piece, Scanner};
use crate::bytes::Reader;
use crate::container::protobuf::{Fields, Value, text};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::tensor::Span;

static DANGEROUS: Rule = Rule {
    name: "tensorflow-dangerous-operator",
    severity: Severity::Error,
    why: "The graph has operators that read or write any file, run Python functions, load native libraries or call \
          servers. TensorFlow runs them with all your rights when the model is loaded or called.",
    help: "do not load the model",
};
static READS: Rule = Rule {
    name: "tensorflow-file-operator",
    severity: Severity::Warning,
    why: "The graph has operators that open files or addresses given in the graph, which a model for inference has no \
          need for.",
    help: "look at which files they open (`saved_model_cli show`) before you load the model",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&DANGEROUS, &READS];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&DANGEROUS];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&READS];

#[rustfmt::skip]
const DANGEROUS_OPS: &[&str] = &[
    "ReadFile", "WriteFile", "PyFunc", "PyFuncStateless", "EagerPyFunc", "LoadLibrary", "LoadDataset", "LoadDatasetV2",
    "SaveDataset", "SaveDatasetV2", "DatasetToTFRecord", "DatasetToTFRecordV2", "Rpc", "TryRpc", "RpcCall", "RpcClient",
    "RpcServer", "MatchingFiles", "DeleteFile", "CopyFile", "RenameFile", "ShellExecute", "Exec", "GcsConfigureBlockCache",
    "GcsConfigureCredentials", "ImmutableConst", "FileSystemSetConfiguration", "LoadAndRemapMatrix",
    "GenerateVocabRemapping", "DistributedSave", "RegisterDatasetV2", "XlaCustomCall", "XlaCustomCallV2", "AvroDataset",
    "ExternalDataset",
];
#[rustfmt::skip]
const FILE_OPS: &[&str] = &[
    "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "TFRecordReader", "TFRecordReaderV2",
    "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "LMDBReader", "LMDBDataset", "SqlDataset", "TextLineDataset",
    "TextLineDatasetV2", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2",
    "CSVDataset", "CSVDatasetV2", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset", "CacheDatasetV2",
    "MatchingFilesDataset", "WriteSummary", "WriteGraphSummary", "WriteRawProtoSummary", "CreateSummaryFileWriter",
    "CreateSummaryDbWriter", "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "RegisterDataset", "DataServiceDataset",
    "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4", "BigtableClient", "CollectiveGather",
    "DecodeProtoV2", "EncodeProto", "TfliteSubgraphExecute", "RemoteFusedGraphExecute", "RemoteCall", "ConfigureDistributedTPU",
    // Engines that are native code in the graph.
    "TensorRTEngineOp", "TRTEngineOp",
];
/// What is printed goes to standard error, unless an attribute names a file.
const PRINT: &str = "PrintV2";

/// Nodes that are looked at; the largest graphs have some hundred thousand.
const MAX_NODES: u64 = 8 << 20;
/// Functions and graphs within each other.
const MAX_DEPTH: usize = 8;

/// Looks at a piece that is a graph.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let graph_def = opened.format.id == "unknown" && piece.name().ends_with(".pb");
    if opened.format.id != "tf-savedmodel" && !graph_def {
        return Ok(());
    }
    let mut walk = Walk { reader: Reader::new(&piece.source, 0), found: BTreeMap::new(), nodes: 0 };
    let whole = Fields::of_source(&walk.reader);
    if graph_def {
        walk.graph(whole, 0);
    } else {
        walk.saved_model(whole);
    }
    for (operator, (rule, count, at)) in walk.found {
        let times = if count == 1 { String::new() } else { format!(", {count} times") };
        scanner.report(piece, Finding::new(rule, format!("the operator {operator:?}{times}")).at(at));
    }
    Ok(())
}

struct Walk<'a> {
    reader: Reader<'a>,
    found: BTreeMap<String, (&'static Rule, u64, u64)>,
    nodes: u64,
}

impl Walk<'_> {
    /// The parts of a message that are messages or texts; a fault ends it.
    fn parts(&mut self, mut fields: Fields, each: &mut dyn FnMut(&mut Self, u64, Span)) {
        while let Ok(Some(field)) = fields.next(&mut self.reader) {
            if let Value::Bytes(span) = field.value {
                each(self, field.number, span);
            }
        }
    }

    fn saved_model(&mut self, fields: Fields) {
        self.parts(fields, &mut |walk, number, span| {
            if number == 2 {
                walk.parts(Fields::within(span), &mut |walk, number, span| {
                    if number == 2 {
                        walk.graph(Fields::within(span), 0);
                    }
                });
            }
        });
    }

    /// A `GraphDef`: nodes and a library of functions.
    fn graph(&mut self, fields: Fields, depth: usize) {
        self.parts(fields, &mut |walk, number, span| match number {
            1 => walk.node(span, depth),
            2 => walk.parts(Fields::within(span), &mut |walk, number, span| {
                if number == 1 {
                    walk.parts(Fields::within(span), &mut |walk, number, span| {
                        if number == 3 {
                            walk.node(span, depth);
                        }
                    });
                }
            }),
            _ => {}
        });
    }

    fn node(&mut self, span: Span, depth: usize) {
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return;
        }
        let (mut operator, mut file) = (String::new(), false);
        self.parts(Fields::within(span), &mut |walk, number, span| match number {
            2 => operator = text(&mut walk.reader, span, 256).unwrap_or_default(),
            // Attributes: what is printed may go to `file://…`.
            5 if span.len < 4096 => {
                file |= text(&mut walk.reader, span, 4096).is_some_and(|text| text.contains("file://"));
            }
            _ => {}
        });
        let plain = operator.rsplit('>').next().unwrap_or_default();
        let rule = if plain == PRINT && file { Some(&DANGEROUS) } else { rule(&operator) };
        let Some(rule) = rule else { return };
        let (_, count, _) = self.found.entry(plain.to_string()).or_insert((rule, 0, span.start));
        *count += 1;
    }
}

/// What an operator is, by its name.
pub(super) fn rule(operator: &str) -> Option<&'static Rule> {
    let plain = operator.rsplit('>').next().unwrap_or_default();
    // TensorFlow I/O: files, message queues, databases and the web, unless it only takes formats apart.
    let input = operator.starts_with("IO>")
        && !["Decode", "Encode", "Audio", "Image", "Color"].iter().any(|harmless| plain.starts_with(harmless));
    if DANGEROUS_OPS.contains(&plain) || plain.contains("Kafka") || input {
        Some(&DANGEROUS)
    } else if FILE_OPS.contains(&plain) {
        Some(&READS)
    } else {
        None
    }
}
