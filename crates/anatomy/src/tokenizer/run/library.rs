//! A `tokenizer.json`, run by the library `tokenizers` that it is made for.
//!
//! Only cutting by patterns is done here: the library takes a pattern that gives up for one that ends, and would go on
//! with wrong ids.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::RwLock;

use fancy_regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizedString, NormalizerWrapper, Offsets, PostProcessorWrapper,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior, TokenizerImpl,
};

use super::{Options, Piece, no_id};
use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::{Tokenizer, summary};

type Inner = TokenizerImpl<ModelWrapper, NormalizerWrapper, Cutter, PostProcessorWrapper, DecoderWrapper>;

/// The library's tokenizer, ready to run.
pub(super) struct Library {
    inner: RwLock<Inner>,
}

/// Steps back that a pattern may take on one text.
const BACKTRACKS: usize = 10_000_000;

impl Library {
    /// The tokenizer of a `tokenizer.json`.
    pub fn of_file(tokenizer: &Tokenizer) -> Result<Self> {
        let source = tokenizer.files.first();
        let source = source.ok_or_else(|| Error::new(ErrorKind::Usage, "the tokenizer has no file"))?;
        Library::new(&summary::whole(source)?, &tokenizer.model)
    }

    /// The tokenizer that a JSON text describes.
    pub fn new(json: &[u8], model: &str) -> Result<Self> {
        let read = guarded(|| Inner::from_bytes(json))?;
        let mut inner = read.map_err(|error| {
            let message = format!("the library `tokenizers` does not take this {model} tokenizer: {error}");
            Error::new(ErrorKind::Unsupported, message)
        })?;
        // What a file says of cutting and filling up is for batches of one training, not for a text.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::malformed(error.to_string()))?;
        Ok(Library { inner: RwLock::new(inner) })
    }

    pub fn encode(&self, text: &str, options: Options) -> Result<Vec<Piece>> {
        let literal = !options.parse_special;
        let lock = |_| Error::malformed("an earlier text stopped the tokenizer");
        if self.inner.read().map_err(|_| lock(()))?.get_encode_special_tokens() != literal {
            self.inner.write().map_err(|_| lock(()))?.set_encode_special_tokens(literal);
        }
        let inner = self.inner.read().map_err(|_| lock(()))?;
        let encoding = guarded(|| inner.encode(text, options.special))?.map_err(|error| failed(&error))?;
        let pieces = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(pieces.map(|(id, (start, end))| Piece { id: *id, span: *start..*end }).collect())
    }

    pub fn decode(&self, ids: &[u32], special: bool) -> Result<Vec<u8>> {
        let inner = self.inner.read().map_err(|_| Error::malformed("an earlier text stopped the tokenizer"))?;
        if let Some(id) = ids.iter().find(|id| inner.id_to_token(**id).is_none()) {
            return Err(no_id(*id));
        }
        let text = guarded(|| inner.decode(ids, !special))?.map_err(|error| failed(&error))?;
        Ok(text.into_bytes())
    }
}

/// Runs the library, which stops at some damaged files with a panic.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T> {
    let run = catch_unwind(AssertUnwindSafe(run));
    run.map_err(|_| {
        Error::malformed("the library `tokenizers` stopped at this tokenizer or text with a fault of its own")
    })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn failed(error: &Failure) -> Error {
    match error.downcast_ref::<Error>() {
        Some(error) => error.clone(),
        None => Error::malformed(format!("the text cannot be tokenized: {error}")),
    }
}

/// A step that cuts text.
enum Cutter {
    Pattern { regex: Regex, behaviour: SplitDelimiterBehavior, invert: bool },
    Bytes { prefix: bool, regex: Option<Regex> },
    Other(PreTokenizerWrapper),
    Steps(Vec<Cutter>),
}

/// GPT-2's pattern.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

impl<'de> Deserialize<'de> for Cutter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cutter::new(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Cutter {
    fn new(step: Value) -> Result<Self, String> {
        let flag = |key: &str, default: bool| step.get(key).and_then(Value::as_bool).unwrap_or(default);
        Ok(match step.get("type").and_then(Value::as_str) {
            Some("Sequence") => {
                let steps = step.get("pretokenizers").and_then(Value::as_array).cloned().unwrap_or_default();
                Cutter::Steps(steps.into_iter().map(Cutter::new).collect::<Result<_, _>>()?)
            }
            Some("Split") => {
                let pattern = step.get("pattern");
                let literal = pattern.and_then(|pattern| pattern.get("String")?.as_str());
                let written = pattern.and_then(|pattern| pattern.get("Regex")?.as_str()).map(str::to_string);
                let written = written.or(literal.map(|text| fancy_regex::escape(text).into_owned()));
                let behaviour = step.get("behavior").cloned().unwrap_or_default();
                Cutter::Pattern {
                    regex: regex(&written.ok_or("a step that cuts has no pattern")?)?,
                    behaviour: serde_json::from_value(behaviour).map_err(|error| error.to_string())?,
                    invert: flag("invert", false),
                }
            }
            Some("ByteLevel") => {
                let regex = flag("use_regex", true).then(|| regex(GPT2)).transpose()?;
                Cutter::Bytes { prefix: flag("add_prefix_space", true), regex }
            }
            _ => Cutter::Other(serde_json::from_value(step).map_err(|error| error.to_string())?),
        })
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).backtrack_limit(BACKTRACKS).build().map_err(|error| error.to_string())
}

impl PreTokenizer for Cutter {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            Cutter::Steps(steps) => steps.iter().try_for_each(|step| step.pre_tokenize(text)),
            Cutter::Other(step) => step.pre_tokenize(text),
            Cutter::Pattern { regex, behaviour, invert } => {
                text.split(|_, piece| cut(&piece, regex, *behaviour, *invert))
            }
            Cutter::Bytes { prefix, regex } => {
                text.split(|_, mut piece| {
                    if *prefix && !piece.get().starts_with(' ') {
                        piece.prepend(" ");
                    }
                    match regex {
                        Some(regex) => cut(&piece, regex, SplitDelimiterBehavior::Isolated, false),
                        None => Ok(vec![piece]),
                    }
                })?;
                ByteLevel::new(false, true, false).pre_tokenize(text)
            }
        }
    }
}

fn cut(
    piece: &NormalizedString,
    regex: &Regex,
    behaviour: SplitDelimiterBehavior,
    invert: bool,
) -> tokenizers::Result<Vec<NormalizedString>> {
    let pattern = Matches(regex);
    if invert { piece.split(Invert(pattern), behaviour) } else { piece.split(pattern, behaviour) }
}

/// Matches of a pattern, or the error with which it gave up.
struct Matches<'a>(&'a Regex);

impl Pattern for Matches<'_> {
    fn find_matches(&self, text: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if text.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let mut out = Vec::new();
        let mut last = 0;
        for found in self.0.find_iter(text) {
            let found = found.map_err(crate::tokenizer::llama_cpp::too_long)?;
            if found.start() > last {
                out.push(((last, found.start()), false));
            }
            out.push(((found.start(), found.end()), true));
            last = found.end();
        }
        if last < text.len() {
            out.push(((last, text.len()), false));
        }
        Ok(out)
    }
}
