//! What readers yield: once opened, formats no longer differ.
//!
//! Each file of this module knows one format (or a small group that shares its header) and exports
//! one [`Format`] per identifier; [`crate::probe::FORMATS`] lists them all.

pub mod compressed;
pub mod coreml;
pub mod executable;
pub mod flatbuffers;
pub mod flax;
pub mod ggml;
pub mod gguf;
pub(crate) mod gguf_checks;
pub mod hdf5;
pub mod json;
pub mod keras;
pub mod llamafile;
pub mod npy;
pub mod onnx;
pub mod pickle;
pub(crate) mod protobuf;
pub mod safetensors;
pub mod sentencepiece;
pub mod seven_zip;
pub mod tar;
pub mod tensorflow;
pub mod text;
pub mod torch;
pub mod zip;

use crate::error::Result;
use crate::finding::Finding;
use crate::ledger::{Draft, Kind, Ledger};
use crate::metadata::Metadata;
use crate::probe::{Head, Match};
use crate::source::Source;
use crate::tensor::{Span, Tensor};

/// A file format: how it is known, what it is for, how it is opened.
#[derive(Debug)]
pub struct Format {
    /// Stable identifier, as in JSON (`pytorch-zip`).
    pub id: &'static str,
    /// Name for people (`PyTorch checkpoint (zip)`).
    pub name: &'static str,
    /// File extensions, lower-case and without the dot, that promise this format. A file whose
    /// extension promises only other formats is misnamed.
    pub extensions: &'static [&'static str],
    /// One sentence for people: what the format is for and what loading it risks.
    pub use_and_risk: &'static str,
    /// Decides from the first bytes (and for archives the last) whether a file has this format.
    pub probe: fn(&Head) -> Option<Match>,
    /// Reads the headers. Formats that are only identified yield a container without tensors.
    pub open: fn(&Source) -> Result<Container>,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Format {}

/// A file, opened: plain data, the same for every format.
#[derive(Debug)]
pub struct Container {
    /// Its format.
    pub format: &'static Format,
    /// What the header says of the file itself, for people: `("version", "3")`, `("byte order", "big")`,
    /// `("producer", "pytorch 2.1")`, `("kind", "LoRA adapter")`.
    pub facts: Vec<(&'static str, String)>,
    /// Keys and values.
    pub metadata: Metadata,
    /// Tensors in the file's own order.
    pub tensors: Vec<Tensor>,
    /// Every byte of the file.
    pub ledger: Ledger,
    /// What is odd or wrong.
    pub findings: Vec<Finding>,
    /// Tensor bytes that lie in other files (ONNX external data): path relative to this file's
    /// folder, tensor index, place in that file (the whole rest of it where no length is given).
    pub external: Vec<External>,
    /// Whether the header breaks off before its end: there may be more tensors than are listed. Only of formats whose
    /// tensors are listed one by one as they are read (GGUF).
    pub breaks_off: bool,
}

/// Tensor data that a container keeps in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Path as written in the container, relative to its folder; not checked.
    pub path: String,
    /// Index into [`Container::tensors`].
    pub tensor: usize,
    /// Place within the other file.
    pub span: Span,
}

impl Container {
    /// A container of `format` with a ledger and nothing else yet.
    pub fn new(format: &'static Format, ledger: Ledger) -> Self {
        Container {
            format,
            facts: Vec::new(),
            metadata: Metadata::new(),
            tensors: Vec::new(),
            ledger,
            findings: Vec::new(),
            external: Vec::new(),
            breaks_off: false,
        }
    }
}

/// A container of a format that is only identified: `magic` bytes by which it is known, then `header` bytes that its
/// header takes and that were read for the facts, then what this version does not read.
fn identified(format: &'static Format, source: &Source, magic: u64, header: u64, facts: Facts) -> Container {
    let len = source.len();
    let mut draft = Draft::new();
    draft.add(0, magic, Kind::Magic, "magic number");
    draft.add(magic, magic.saturating_add(header), Kind::Header, "header");
    let ledger = draft.finish_with(len, |_, _| (Kind::Unexplained, "not read by this version".into()));
    let mut container = Container::new(format, ledger);
    container.facts = facts;
    container
}

/// What a header says, see [`Container::facts`].
type Facts = Vec<(&'static str, String)>;
