//! Which format is it? Decided by content, never by name.
//!
//! Each format looks at the [`Head`] of a file and answers with a [`Match`] or nothing; the highest
//! score wins, the earlier row of [`FORMATS`] on a tie.

use std::cell::OnceCell;

use crate::container::zip::Listing;
use crate::container::{self, Container, Format};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::source::Source;

/// All formats, most specific first.
pub static FORMATS: &[&Format] = &[
    &container::safetensors::FORMAT,
    &container::gguf::FORMAT,
    &container::llamafile::FORMAT,
    &container::torch::archive::FORMAT,
    &container::torch::archive::TORCHSCRIPT,
    &container::torch::legacy::FORMAT,
    &container::torch::tarred::FORMAT,
    &container::npy::FORMAT,
    &container::npy::NPZ,
    &container::tar::NEMO,
    &container::tar::FORMAT,
    &container::keras::FORMAT,
    &container::pickle::JOBLIB,
    &container::pickle::FORMAT,
    &container::zip::FORMAT,
    &container::onnx::FORMAT,
    &container::ggml::FORMAT,
    &container::hdf5::FORMAT,
    &container::flatbuffers::TFLITE,
    &container::flatbuffers::EXECUTORCH,
    &container::flax::FORMAT,
    &container::tensorflow::SAVED_MODEL,
    &container::tensorflow::CHECKPOINT,
    &container::coreml::FORMAT,
    &container::sentencepiece::FORMAT,
    &container::json::NOTEBOOK,
    &container::json::SAFETENSORS_INDEX,
    &container::json::PYTORCH_INDEX,
    &container::json::TOKENIZER,
    &container::json::TEKKEN,
    &container::json::CONFIG,
    &container::json::JSON,
    &container::compressed::GZIP,
    &container::compressed::ZSTD,
    &container::compressed::XZ,
    &container::compressed::BZIP2,
    &container::compressed::LZ4,
    &container::compressed::ZLIB,
    &container::compressed::LZMA,
    &container::seven_zip::FORMAT,
    &container::executable::ELF,
    &container::executable::PE,
    &container::text::GIT_LFS,
    &container::text::HTML,
    &container::text::OPENVINO,
    &container::text::TIKTOKEN,
    &container::text::PYTHON,
    &container::text::TEXT,
    &container::text::EMPTY,
    &container::text::UNKNOWN,
];

/// How sure a probe is.
pub mod score {
    /// A magic number of at least four bytes, or a structure that nothing else has.
    pub const CERTAIN: u8 = 100;
    /// Structure that fits and is checked, without a magic number.
    pub const LIKELY: u8 = 70;
    /// It has the right look, such as text with the right words.
    pub const PLAUSIBLE: u8 = 40;
    /// What is left when nothing else fits.
    pub const FALLBACK: u8 = 5;
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// See [`score`].
    pub score: u8,
    /// A sentence for people that names the bytes that decided it, and says so where the file is cut.
    pub evidence: String,
}

impl Match {
    /// A match with its evidence.
    pub fn new(score: u8, evidence: impl Into<String>) -> Option<Self> {
        Some(Match { score, evidence: evidence.into() })
    }
}

/// What probes look at: the first bytes, and the source for those that must look further.
pub struct Head<'a> {
    /// The source itself, for formats that are known by their end or by a header of declared length.
    pub source: &'a Source,
    /// The first bytes, up to [`Head::SIZE`].
    pub first: Vec<u8>,
    /// What the first bytes are as JSON, found once for all the formats that are JSON.
    pub(crate) json: OnceCell<Option<container::json::Sort>>,
    zip: OnceCell<Option<Listing>>,
}

impl<'a> Head<'a> {
    /// Bytes that every probe gets for free.
    pub const SIZE: u64 = 64 * 1024;

    /// Reads the first bytes.
    pub fn read(source: &'a Source) -> Result<Self> {
        let first = source.read_up_to(0, Self::SIZE)?;
        Ok(Head { source, first, json: OnceCell::new(), zip: OnceCell::new() })
    }

    /// The names in the zip archive that this file is; read once for all formats that are archives.
    pub fn zip(&self) -> Option<&Listing> {
        self.zip.get_or_init(|| container::zip::list(self.source, &self.first).ok().flatten()).as_ref()
    }

    /// Length of the whole file in bytes.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Whether the file begins with `magic`.
    pub fn starts_with(&self, magic: &[u8]) -> bool {
        self.first.starts_with(magic)
    }

    /// The bytes at `offset..offset + N` of the first bytes.
    pub fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.first.get(offset..)?.first_chunk::<N>().copied()
    }

    /// A little-endian `u32` within the first bytes.
    pub fn u32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    /// A little-endian `u64` within the first bytes.
    pub fn u64(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }
}

/// A file's format with the reason.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The format.
    pub format: &'static Format,
    /// A sentence that names the bytes that decided it.
    pub evidence: String,
}

impl Identity {
    /// Whether a file of this name promises another format than it has. Names without an extension,
    /// and extensions that promise nothing, never do.
    pub fn misnamed(&self, name: &str) -> bool {
        misnamed(self.format, name)
    }
}

fn misnamed(format: &Format, name: &str) -> bool {
    extension(name).is_some_and(|extension| {
        let promised = |format: &Format| format.extensions.contains(&extension.as_str());
        !promised(format) && FORMATS.iter().any(|format| promised(format))
    })
}

static MISNAMED: Rule = Rule {
    name: "misnamed",
    severity: Severity::Warning,
    why: "The extension promises another format than the bytes have. Programs that go by the name fail, and scanners \
          that go by the name look for the wrong things.",
    help: "rename the file to what it is, and ask why it was named otherwise",
};

/// The rules of telling formats.
pub static RULES: &[&Rule] = &[&MISNAMED];

/// Says that a file of this name promises another format than it has.
pub(crate) fn misnamed_finding(format: &Format, name: &str) -> Option<Finding> {
    // What stands in for a model has a finding that says more, and another name would not help.
    let substitute = matches!(format.id, "git-lfs-pointer" | "html" | "empty" | "unknown" | "text");
    let extension = extension(name).filter(|_| !substitute && misnamed(format, name))?;
    Some(Finding::new(&MISNAMED, format!("the name ends in .{extension}, but the bytes are {}", format.name)))
}

/// The lower-case extension of a path, without the dot.
pub fn extension(name: &str) -> Option<String> {
    let base = name.rsplit(['/', '\\']).next()?;
    let (stem, extension) = base.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

/// Names the format of a source.
pub fn identify(source: &Source) -> Result<Identity> {
    let head = Head::read(source)?;
    let mut best: Option<(u8, Identity)> = None;
    for format in FORMATS {
        if let Some(found) = (format.probe)(&head)
            && best.as_ref().is_none_or(|(score, _)| found.score > *score)
        {
            best = Some((found.score, Identity { format, evidence: found.evidence }));
        }
    }
    match best {
        Some((_, identity)) => Ok(identity),
        // The last rows of the table match anything, so this is reached only if they were removed.
        None => Err(crate::Error::malformed("no format fits").in_file(source.name())),
    }
}

/// Identifies a source and reads its headers.
pub fn open(source: &Source) -> Result<(Identity, Container)> {
    let identity = identify(source)?;
    let container = (identity.format.open)(source).map_err(|error| error.in_file(source.name()))?;
    Ok((identity, container))
}

/// As [`identify`], and says in the evidence where the file is cut: for that the headers are read too.
pub fn identify_with_cut(source: &Source) -> Result<Identity> {
    let mut identity = identify(source)?;
    if identity.evidence.contains("is cut") {
        return Ok(identity);
    }
    if let Ok(container) = (identity.format.open)(source)
        && let Some(finding) = container.findings.iter().find(|finding| finding.rule.means_cut())
    {
        identity.evidence = format!("{}; the file is cut: {}", identity.evidence, finding.message);
    }
    Ok(identity)
}
