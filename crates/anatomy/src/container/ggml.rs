//! The llama.cpp files from before GGUF: `ggml` without a version, GGMF, GGJT v1 to v3, and `ggla` adapters.
//!
//! None of them says which family of model it holds. Each family's own loader read its hyperparameters as a run of
//! numbers, its vocabulary and its tensors, so here every known layout is tried, and the first is taken whose numbers
//! make sense, whose vocabulary parses and after which a tensor follows. The layouts are those of the programs of 2023:
//! llama.cpp, the examples of <https://github.com/ggml-org/ggml>, whisper.cpp, bloomz.cpp, ggllm.cpp, rwkv.cpp,
//! bert.cpp and rustformers/llm.
//!
//! Tensors follow each other without an index, so a wrong size would break the walk: that the walk ends at the end of
//! the file proves the sizes, which changed in May 2023 (32-bit scales before GGJT v3 and quantisation version 2).

use super::{Container, Format};
use crate::bytes::Reader;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::{Draft, Kind, Label};
use crate::metadata::{Array, Entry, Metadata, Value};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::{Span, Tensor, checked_elements};

/// The format.
pub static FORMAT: Format = Format {
    id: "ggml",
    name: "GGML (before GGUF)",
    extensions: &["ggml", "ggmlv3", "ggjt"],
    use_and_risk: "For llama.cpp and its kin until August 2023: today's programs refuse it. Loading runs no code.",
    probe,
    open,
};

static CUT: Rule = Rule {
    name: "ggml-truncated",
    severity: Severity::Error,
    why: "The file ends before its last tensor does: the download is incomplete, and no program loads it.",
    help: "download the file again and compare its size with the one that the hub states",
};
static FAMILY_UNKNOWN: Rule = Rule {
    name: "ggml-family-unknown",
    severity: Severity::Warning,
    why: "The format does not say which family of model it holds, and the numbers after the magic fit none of the \
          known layouts, so vocabulary and tensors cannot be found.",
    help: "look for the program that wrote the file, and convert it from the original weights to GGUF instead",
};
static TENSOR_INVALID: Rule = Rule {
    name: "ggml-tensor-invalid",
    severity: Severity::Error,
    why: "Where a tensor should begin there is none. Tensors follow each other without an index, so nothing after this \
          place can be found.",
    help: "download the file again; if it stays so, it was written by a program with a layout of its own",
};
static VERSION_UNKNOWN: Rule = Rule {
    name: "ggml-version-unknown",
    severity: Severity::Warning,
    why: "The version is none that llama.cpp ever wrote; the file is read as the nearest one.",
    help: "convert the model from its original weights to GGUF",
};
static BLOCKS_ODD: Rule = Rule {
    name: "ggml-block-size-odd",
    severity: Severity::Warning,
    why: "The quantised blocks have another size than this version of the format has, as the walk through the tensors \
          shows; programs that trust the version misread them.",
    help: "convert the model from its original weights to GGUF",
};
static OBSOLETE: Rule = Rule {
    name: "ggml-obsolete",
    severity: Severity::Note,
    why: "The format was replaced by GGUF in August 2023, and current programs refuse it.",
    help: "convert it with llama.cpp's convert_llama_ggml_to_gguf.py, or better, get a GGUF of the same model",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[&CUT, &FAMILY_UNKNOWN, &TENSOR_INVALID, &VERSION_UNKNOWN, &BLOCKS_ODD, &OBSOLETE];

/// Vocabularies, tensor names and words that are larger than this are no model's.
const MAX_VOCABULARY: u32 = 4 << 20;
const MAX_WORD: u32 = 1 << 16;
const MAX_NAME: u32 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Magic {
    /// `ggml` without a version.
    Plain,
    /// `ggmf`.
    Ggmf(u32),
    /// `ggjt`, whose tensor data is aligned to 32 bytes.
    Ggjt(u32),
    /// `ggla`, a LoRA adapter, aligned as well.
    Ggla(u32),
}

impl Magic {
    /// The magic number is written as a little-endian number, so its letters stand in reverse.
    fn read(first: [u8; 4], version: Option<u32>) -> Option<Self> {
        match &first {
            b"lmgg" => Some(Magic::Plain),
            b"fmgg" => Some(Magic::Ggmf(version.unwrap_or(0))),
            b"tjgg" => Some(Magic::Ggjt(version.unwrap_or(0))),
            b"algg" => Some(Magic::Ggla(version.unwrap_or(0))),
            _ => None,
        }
    }

    fn name(self) -> String {
        match self {
            Magic::Plain => "ggml, without a version".to_string(),
            Magic::Ggmf(version) => format!("GGMF v{version}"),
            Magic::Ggjt(version) => format!("GGJT v{version}"),
            Magic::Ggla(version) => format!("ggla v{version}"),
        }
    }

    /// Bytes of magic and version.
    fn size(self) -> u64 {
        if self == Magic::Plain { 4 } else { 8 }
    }

    fn aligned(self) -> bool {
        matches!(self, Magic::Ggjt(_) | Magic::Ggla(_))
    }
}

fn probe(head: &Head) -> Option<Match> {
    let magic = Magic::read(head.array(0)?, head.u32(4))?;
    let stored = String::from_utf8_lossy(head.first.get(..4)?).into_owned();
    let mut evidence = format!("the first 4 bytes are `{stored}`: {}", magic.name());
    // The walk costs one small read for each tensor.
    if let Ok(container) = open(head.source)
        && let Some(cut) = container.findings.iter().find(|finding| finding.rule == &CUT)
    {
        evidence.push_str(&format!("; the file is cut: {}", cut.message));
    }
    Match::new(score::CERTAIN, evidence)
}

/// How a family's numbers stand after the magic.
struct Layout {
    family: &'static str,
    /// Hyperparameters in order; those that begin with `f:` are floats.
    numbers: &'static [&'static str],
    vocabulary: Vocabulary,
    /// A name that the first tensors must have a part of; empty where any will do.
    tensors: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Vocabulary {
    /// `n_vocab` words; each with a score in GGMF and GGJT.
    Words,
    /// The same, with scores whatever the version.
    Scored,
    /// A count of its own, then the words.
    Counted,
    /// Mel filters, a count, the words.
    Whisper,
    /// None at all.
    None,
}

/// More demanding layouts come first: those with more numbers and a count that must agree.
const LAYOUTS: &[Layout] = &[
    Layout {
        family: "whisper",
        numbers: &[
            "n_vocab",
            "n_audio_ctx",
            "n_audio_state",
            "n_audio_head",
            "n_audio_layer",
            "n_text_ctx",
            "n_text_state",
            "n_text_head",
            "n_text_layer",
            "n_mels",
            "ftype",
        ],
        vocabulary: Vocabulary::Whisper,
        tensors: &["encoder.", "decoder."],
    },
    Layout {
        family: "gpt-j",
        numbers: &["n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_rot", "ftype"],
        vocabulary: Vocabulary::Counted,
        tensors: &["transformer."],
    },
    Layout {
        family: "gpt-2",
        numbers: &["n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "ftype"],
        vocabulary: Vocabulary::Counted,
        tensors: &["model/", "transformer."],
    },
    Layout {
        family: "mpt",
        numbers: &[
            "d_model",
            "max_seq_len",
            "n_heads",
            "n_layers",
            "n_vocab",
            "f:alibi_bias_max",
            "f:clip_qkv",
            "ftype",
        ],
        vocabulary: Vocabulary::Words,
        tensors: &["transformer."],
    },
    Layout {
        family: "gpt-neox",
        numbers: &["n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_rot", "par_res", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["gpt_neox.", "embed_out."],
    },
    Layout {
        family: "gpt-neox",
        numbers: &["n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_rot", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["gpt_neox.", "embed_out."],
    },
    Layout {
        family: "llama",
        numbers: &["n_vocab", "n_embd", "n_mult", "n_head", "n_layer", "n_rot", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["tok_embeddings.", "norm.", "output.", "layers."],
    },
    Layout {
        family: "falcon",
        numbers: &["n_vocab", "n_embd", "n_head", "n_head_kv", "n_layer", "n_falcon_type", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["transformer.", "lm_head."],
    },
    Layout {
        family: "falcon",
        numbers: &["n_vocab", "n_embd", "n_head", "n_head_kv", "n_layer", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["transformer.", "lm_head."],
    },
    Layout {
        family: "bert",
        numbers: &["n_vocab", "n_max_tokens", "n_embd", "n_intermediate", "n_head", "n_layer", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["embeddings.", "encoder."],
    },
    Layout {
        family: "replit",
        numbers: &["d_model", "max_seq_len", "n_heads", "n_layers", "n_vocab", "ftype"],
        vocabulary: Vocabulary::Scored,
        tensors: &["transformer."],
    },
    Layout {
        family: "bloom",
        numbers: &["n_vocab", "n_embd", "n_mult", "n_head", "n_layer", "ftype"],
        vocabulary: Vocabulary::Words,
        tensors: &["tok_embeddings.", "norm.", "output", "layers."],
    },
    Layout {
        family: "rwkv",
        numbers: &["n_vocab", "n_embd", "n_layer", "ftype"],
        vocabulary: Vocabulary::None,
        tensors: &["emb.", "blocks.", "ln_out.", "head."],
    },
];

/// What a layout found.
struct Reading {
    layout: &'static Layout,
    values: Vec<u32>,
    /// Where numbers, mel filters and vocabulary end.
    numbers_end: u64,
    filters_end: u64,
    words_end: u64,
    words: u32,
    scores: bool,
    code_model: bool,
    /// Whether a tensor follows, or the file is cut before it could.
    proven: bool,
}

impl Reading {
    fn value(&self, name: &str) -> Option<u32> {
        let position = self.layout.numbers.iter().position(|number| *number == name)?;
        self.values.get(position).copied()
    }
}

/// Whether the numbers can be a model's at all.
fn sensible(name: &str, value: u32) -> bool {
    match name {
        "n_vocab" => (1..=MAX_VOCABULARY).contains(&value),
        "ftype" => value % 1000 <= 40 && value / 1000 <= 3,
        "n_layer" | "n_layers" | "n_head" | "n_heads" | "n_audio_layer" | "n_text_layer" | "n_audio_head"
        | "n_text_head" | "n_head_kv" => (1..=1024).contains(&value),
        "n_embd" | "d_model" | "n_audio_state" | "n_text_state" | "n_intermediate" => (1..=1 << 18).contains(&value),
        "n_mult" => (1..=1 << 16).contains(&value),
        "n_rot" => value <= 1 << 12,
        "par_res" => value <= 1,
        "n_falcon_type" => matches!(value, 7 | 40 | 180),
        "n_ctx" | "max_seq_len" | "n_max_tokens" | "n_audio_ctx" | "n_text_ctx" => (1..=1 << 24).contains(&value),
        "n_mels" => (1..=1024).contains(&value),
        "f:alibi_bias_max" | "f:clip_qkv" => {
            let number = f32::from_bits(value);
            number == 0.0 || (1e-3..=1e6).contains(&number)
        }
        _ => true,
    }
}

fn read_layout(reader: &mut Reader, magic: Magic, layout: &'static Layout, scores: bool) -> Option<Reading> {
    reader.seek(magic.size());
    let mut values = Vec::with_capacity(layout.numbers.len());
    for name in layout.numbers {
        let value = reader.u32().ok()?;
        if !sensible(name, value) {
            return None;
        }
        values.push(value);
    }
    let numbers_end = reader.offset();
    let mut reading = Reading {
        layout,
        values,
        numbers_end,
        filters_end: numbers_end,
        words_end: numbers_end,
        words: 0,
        scores,
        code_model: false,
        proven: false,
    };
    let width = reading.value("n_embd").or_else(|| reading.value("d_model")).or_else(|| reading.value("n_text_state"));
    let heads = reading.value("n_head").or_else(|| reading.value("n_heads")).or_else(|| reading.value("n_text_head"));
    if heads.is_some_and(|heads| width.is_some_and(|width| width % heads != 0)) {
        return None;
    }
    let vocabulary = reading.value("n_vocab")?;
    let cut = |reader: &Reader| reader.remaining() < 4;
    if layout.vocabulary == Vocabulary::Whisper {
        if let (Ok(mels), Ok(bins)) = (reader.u32(), reader.u32()) {
            if Some(mels) != reading.value("n_mels") || !(1..=1 << 16).contains(&bins) {
                return None;
            }
            let size = u64::from(mels) * u64::from(bins) * 4;
            reading.filters_end = reader.offset() + size;
            if reader.skip(size).is_err() {
                reader.seek(reader.source().len());
            }
        } else {
            reader.seek(reader.source().len());
        }
        reading.filters_end = reading.filters_end.max(reader.offset());
    }
    let count = match layout.vocabulary {
        Vocabulary::None => 0,
        Vocabulary::Words | Vocabulary::Scored => vocabulary,
        Vocabulary::Counted | Vocabulary::Whisper if cut(reader) => 0,
        Vocabulary::Counted => match reader.u32().ok()? {
            count if count == vocabulary => count,
            _ => return None,
        },
        // Whisper's vocabulary leaves its special tokens out.
        Vocabulary::Whisper => match reader.u32().ok()? {
            count if (1..=vocabulary).contains(&count) => count,
            _ => return None,
        },
    };
    reading.words_end = reader.offset();
    for _ in 0..count {
        if cut(reader) {
            break;
        }
        let length = reader.u32().ok()?;
        if length > MAX_WORD {
            return None;
        }
        if u64::from(length) > reader.remaining() {
            reader.seek(reader.source().len());
            break;
        }
        if (8..=16).contains(&length) {
            let word = reader.bytes(u64::from(length)).ok()?;
            reading.code_model |= word.starts_with(b"<fim_") || word.starts_with(b"<fim-");
        } else {
            reader.skip(u64::from(length)).ok()?;
        }
        if scores && reader.skip(4).is_err() {
            reader.seek(reader.source().len());
            break;
        }
        reading.words += 1;
        reading.words_end = reader.offset();
    }
    if cut(reader) {
        reading.words_end = reader.source().len();
        return Some(reading);
    }
    match TensorInfo::read(reader) {
        Info::Tensor(info) => {
            let fits = layout.tensors.iter().any(|prefix| info.name.starts_with(prefix));
            reading.proven = true;
            fits.then_some(reading)
        }
        Info::Cut => Some(reading),
        Info::End | Info::Broken(_) => None,
    }
}

/// What stands before a tensor's data.
struct TensorInfo {
    id: u32,
    dtype: Option<DType>,
    /// Outermost first, so the reverse of what is stored.
    shape: Vec<u64>,
    name: String,
}

enum Info {
    Tensor(TensorInfo),
    End,
    Cut,
    Broken(&'static str),
}

impl TensorInfo {
    fn read(reader: &mut Reader) -> Info {
        if reader.remaining() == 0 {
            return Info::End;
        }
        let (Ok(dimensions), Ok(name), Ok(id)) = (reader.u32(), reader.u32(), reader.u32()) else {
            return Info::Cut;
        };
        if dimensions > 4 {
            return Info::Broken("more than 4 dimensions");
        }
        if name == 0 || name > MAX_NAME {
            return Info::Broken("a name of no sensible length");
        }
        if id > 255 {
            return Info::Broken("a type of no sensible number");
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            match reader.u32() {
                Ok(0) => return Info::Broken("a dimension of 0"),
                Ok(dimension) => shape.push(u64::from(dimension)),
                Err(_) => return Info::Cut,
            }
        }
        shape.reverse();
        let Ok(name) = reader.bytes(u64::from(name)) else { return Info::Cut };
        match String::from_utf8(name) {
            Ok(name) if !name.chars().any(char::is_control) => {
                Info::Tensor(TensorInfo { id, dtype: DType::from_ggml(id), shape, name })
            }
            _ => Info::Broken("a name that is no text"),
        }
    }

    /// Bytes of its data, where type and shape are known. `wide`: with the 32-bit scales of before GGJT v3.
    fn bytes(&self, wide: bool) -> Option<u64> {
        let dtype = self.dtype?;
        let elements = checked_elements(&self.shape)?;
        match (wide, dtype) {
            (true, DType::Q4_0) => elements.div_ceil(32).checked_mul(20),
            (true, DType::Q4_1) => elements.div_ceil(32).checked_mul(24),
            (true, DType::Q8_0) => elements.div_ceil(32).checked_mul(36),
            _ => dtype.bytes(elements),
        }
    }
}

/// A walk from tensor to tensor.
struct Walk {
    tensors: Vec<Tensor>,
    /// Where each tensor's description begins and ends.
    infos: Vec<Span>,
    /// What ended it, if not the end of the file.
    fault: Option<(u64, Fault)>,
}

enum Fault {
    Cut(String),
    Broken(String),
}

fn walk(reader: &mut Reader, start: u64, aligned: bool, wide: bool) -> Walk {
    let len = reader.source().len();
    let mut walk = Walk { tensors: Vec::new(), infos: Vec::new(), fault: None };
    reader.seek(start);
    loop {
        let at = reader.offset();
        let info = match TensorInfo::read(reader) {
            Info::Tensor(info) => info,
            Info::End => return walk,
            Info::Cut => {
                walk.fault = Some((at, Fault::Cut(format!("the file ends at byte {len}, where a tensor begins"))));
                return walk;
            }
            Info::Broken(what) => {
                let message = format!("after {} tensors there is no tensor but {what}", walk.tensors.len());
                walk.fault = Some((at, Fault::Broken(message)));
                return walk;
            }
        };
        let described = reader.offset();
        let data = if aligned { described.next_multiple_of(32) } else { described };
        let Some(bytes) = info.bytes(wide) else {
            let message = format!("tensor {:?} has the unknown type {} or too large a shape", info.name, info.id);
            walk.fault = Some((at, Fault::Broken(message)));
            return walk;
        };
        let span = Span { start: data, len: bytes };
        walk.infos.push(Span { start: at, len: described - at });
        let cut = span.end() > len;
        if cut {
            let message =
                format!("tensor {:?} runs to byte {}, but the file ends at byte {len}", info.name, span.end());
            walk.fault = Some((len, Fault::Cut(message)));
        }
        walk.tensors.push(Tensor {
            name: info.name,
            dtype: info.dtype.unwrap_or(DType::UNKNOWN),
            shape: info.shape,
            bytes,
            span: Some(span),
            storage: None,
        });
        if cut {
            return walk;
        }
        reader.seek(span.end());
    }
}

/// Names of the file types (`ftype % 1000`) in use before GGUF.
#[rustfmt::skip]
fn file_type(number: u32) -> Option<&'static str> {
    const NAMES: [&str; 19] = [
        "F32", "F16", "Q4_0", "Q4_1", "Q4_1, some F16", "Q4_2", "Q4_3", "Q8_0", "Q5_0", "Q5_1",
        "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
    ];
    NAMES.get(usize::try_from(number).ok()?).copied()
}

fn open(source: &Source) -> Result<Container> {
    let mut reader = Reader::new(source, 0);
    let first = source.read_up_to(0, 4)?.try_into().map_err(|_| Error::malformed("no magic").at(0))?;
    reader.seek(4);
    let magic = Magic::read(first, reader.u32().ok());
    let magic = magic.ok_or_else(|| Error::malformed("no GGML magic").at(0))?;
    let len = source.len();
    let mut draft = Draft::new();
    let mut findings = Findings::new();
    let mut facts = vec![("version", magic.name())];
    let mut metadata = Metadata::new();
    draft.add(0, magic.size(), Kind::Magic, "magic and version");
    if !matches!(magic, Magic::Plain | Magic::Ggmf(1 | 100 | 101) | Magic::Ggjt(1..=3) | Magic::Ggla(1)) {
        findings.push(Finding::new(&VERSION_UNKNOWN, format!("this is {}", magic.name())).at(4));
    }
    findings.push(Finding::new(&OBSOLETE, format!("this is {}", magic.name())).at(0));

    if let Magic::Ggla(_) = magic {
        facts.push(("kind", "LoRA adapter".to_string()));
        reader.seek(8);
        for key in ["r", "lora_alpha"] {
            if let Ok(value) = reader.u32() {
                let span = Span { start: reader.offset() - 4, len: 4 };
                metadata.push(Entry { key: key.to_string(), kind: "u32", value: Value::Unsigned(value.into()), span });
            }
        }
        draft.add(8, 16, Kind::Metadata, "rank and scale of the adapter");
        if len < 16 {
            findings.push(Finding::new(&CUT, format!("the file ends at byte {len}, within its header")).at(len));
        }
        let walked = walk(&mut reader, 16.min(len), true, false);
        return Ok(finish(source, draft, findings, facts, metadata, Some(walked)));
    }

    let scored = magic != Magic::Plain;
    let mut found: Option<Reading> = None;
    for layout in LAYOUTS {
        let rwkv = matches!(magic, Magic::Ggmf(100 | 101));
        if rwkv != (layout.vocabulary == Vocabulary::None) {
            continue;
        }
        let first_choice =
            layout.vocabulary == Vocabulary::Scored || (scored && layout.vocabulary == Vocabulary::Words);
        for scores in [first_choice, !first_choice] {
            // Only the conversions to GGJT by rustformers/llm are in doubt about scores.
            if scores != first_choice && !scored {
                continue;
            }
            if let Some(reading) = read_layout(&mut reader, magic, layout, scores)
                && found.as_ref().is_none_or(|found| reading.proven && !found.proven)
            {
                found = Some(reading);
            }
        }
        if found.as_ref().is_some_and(|found| found.proven) {
            break;
        }
    }
    let Some(reading) = found else {
        if len < magic.size() + 8 * 4 {
            findings.push(Finding::new(&CUT, format!("the file ends at byte {len}, within its header")).at(len));
        } else {
            let message = "the numbers after the magic fit no known family of models";
            findings.push(Finding::new(&FAMILY_UNKNOWN, message).at(magic.size()));
        }
        reader.seek(magic.size());
        let words: Vec<String> = (0..8).map_while(|_| reader.u32().ok()).map(|word| word.to_string()).collect();
        facts.push(("family", "unknown".to_string()));
        facts.push(("first numbers", words.join(", ")));
        return Ok(finish(source, draft, findings, facts, metadata, None));
    };

    let family = match reading.layout.family {
        // StarCoder's conversion makes it a GPT-2 in all but its vocabulary.
        "gpt-2" if reading.code_model => "starcoder",
        family => family,
    };
    facts.push(("family", if reading.proven { family.to_string() } else { format!("perhaps {family}") }));
    for (index, (name, value)) in reading.layout.numbers.iter().zip(&reading.values).enumerate() {
        let span = Span { start: magic.size() + index as u64 * 4, len: 4 };
        let (key, kind, value) = match name.strip_prefix("f:") {
            Some(name) => (name, "f32", Value::Float(f32::from_bits(*value).into())),
            None => (*name, "u32", Value::Unsigned((*value).into())),
        };
        metadata.push(Entry { key: key.to_string(), kind, value, span });
    }
    let ftype = reading.value("ftype").unwrap_or(0);
    let named = file_type(ftype % 1000).map_or_else(|| format!("unknown ({})", ftype % 1000), str::to_string);
    facts.push(("file type", named));
    facts.push(("quantisation version", (ftype / 1000).to_string()));
    draft.add(magic.size(), reading.numbers_end, Kind::Metadata, "hyperparameters");
    draft.add(reading.numbers_end, reading.filters_end, Kind::Metadata, "mel filter bank");
    let what = if reading.scores { "vocabulary with scores" } else { "vocabulary" };
    draft.add(reading.filters_end, reading.words_end, Kind::Tokenizer, what);
    if reading.words > 0 {
        facts.push(("vocabulary", format!("{} words", reading.words)));
        let span = Span { start: reading.filters_end, len: reading.words_end.saturating_sub(reading.filters_end) };
        let words = Array { element: "string", len: reading.words.into(), span, items: Vec::new() };
        metadata.push(Entry { key: "vocabulary".to_string(), kind: "array", value: Value::Array(words), span });
    }
    if !reading.proven {
        let message = format!("the file ends at byte {len}, before its first tensor");
        findings.push(Finding::new(&CUT, message).at(len));
        draft.add(reading.words_end, len, Kind::Header, "begin of a tensor's description");
        return Ok(finish(source, draft, findings, facts, metadata, None));
    }

    let wide = match magic {
        Magic::Ggjt(version) => version < 3,
        Magic::Ggmf(_) => ftype / 1000 < 2,
        Magic::Plain | Magic::Ggla(_) => ftype / 1000 < 2,
    };
    let mut walked = walk(&mut reader, reading.words_end, magic.aligned(), wide);
    if matches!(walked.fault, Some((_, Fault::Broken(_)))) {
        let other = walk(&mut reader, reading.words_end, magic.aligned(), !wide);
        // Only a walk that gets through proves other sizes.
        if !matches!(other.fault, Some((_, Fault::Broken(_)))) {
            let message = format!(
                "blocks of Q4_0, Q4_1 and Q8_0 have {}-bit scales, which {} does not have",
                if wide { 16 } else { 32 },
                magic.name()
            );
            findings.push(Finding::new(&BLOCKS_ODD, message).at(reading.words_end));
            walked = other;
        }
    }
    let blocks = |tensor: &&Tensor| matches!(tensor.dtype, DType::Q4_0 | DType::Q4_1 | DType::Q8_0);
    if let Some(tensor) = walked.tensors.iter().find(blocks)
        && tensor.dtype.bytes(tensor.elements()) != Some(tensor.bytes)
    {
        let size = tensor.bytes / tensor.elements().div_ceil(32).max(1);
        facts.push(("blocks", format!("with 32-bit scales: {size} bytes for 32 numbers of {}", tensor.dtype.name())));
    }
    Ok(finish(source, draft, findings, facts, metadata, Some(walked)))
}

fn finish(
    source: &Source,
    mut draft: Draft,
    mut findings: Findings,
    facts: Vec<(&'static str, String)>,
    metadata: Metadata,
    walked: Option<Walk>,
) -> Container {
    let len = source.len();
    let mut tensors = Vec::new();
    if let Some(walked) = walked {
        for (index, (tensor, info)) in walked.tensors.iter().zip(&walked.infos).enumerate() {
            draft.add(info.start, info.end(), Kind::Header, "name, type and shape of a tensor");
            if let Some(span) = tensor.span {
                draft.add(info.end(), span.start, Kind::Padding, "alignment to 32 bytes");
                draft.add(span.start, span.end(), Kind::Tensor, Label::Tensor(index));
            }
        }
        match walked.fault {
            Some((at, Fault::Cut(message))) => {
                if at < len {
                    draft.add(at, len, Kind::Header, "begin of a tensor's description");
                }
                findings.push(Finding::new(&CUT, message).at(at));
            }
            Some((at, Fault::Broken(message))) => findings.push(Finding::new(&TENSOR_INVALID, message).at(at)),
            None => {}
        }
        tensors = walked.tensors;
    }
    let mut container = Container::new(&FORMAT, draft.finish(len));
    container.facts = facts;
    container.metadata = metadata;
    container.tensors = tensors;
    container.findings = findings.finish();
    container
}
