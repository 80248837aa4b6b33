//! A tokenizer in a line, for `inspect`.
//!
//! Files of 33 MB are streamed through: entries are counted and the few special tokens kept, no tree is built.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::lists::{Each, Vocabulary};
use crate::bytes::Reader;
use crate::container::protobuf::{Fields, Value, text};
use crate::container::sentencepiece::{model_type, piece};
use crate::container::text::rank_line;
use crate::container::{Container, gguf, json};
use crate::error::Result;
use crate::metadata;
use crate::model::Model as LoadedModel;
use crate::probe;
use crate::source::Source;

/// A tokenizer in a few numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TokenizerSummary {
    /// What holds it: `tokenizer-json`, `sentencepiece`, `tekken`, `tiktoken`, `vocab-json`, `vocab-txt`, `gguf`.
    pub kind: &'static str,
    /// How it splits words, in lower case: `bpe`, `unigram`, `wordpiece`, `wordlevel`, `char`, `word`.
    pub model: String,
    /// Distinct ids, added tokens included.
    pub vocab_size: u64,
    /// Merges of byte-pair encoding; `None` where the file has no list of them.
    pub merges: Option<u64>,
    /// Entries of the list of added tokens, whether or not the vocabulary has them too.
    pub added_tokens: u64,
    /// Special tokens by what they are for: `bos`, `eos`, `unk`, `pad`, `cls`, `sep`, `mask`.
    pub special_tokens: BTreeMap<&'static str, Special>,
    /// Whether a chat template comes with it.
    pub chat_template: bool,
    /// The highest id.
    pub max_id: Option<u64>,
    /// Name of the file that holds it.
    pub source: String,
    /// Why it could not be read to its end, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A special token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Special {
    /// Its text.
    pub token: Option<String>,
    /// Its id.
    pub id: Option<u64>,
}

/// Roles of special tokens, with their keys in `tokenizer_config.json` and `special_tokens_map.json`.
pub(super) const ROLES: [(&str, &str); 7] = [
    ("bos", "bos_token"),
    ("eos", "eos_token"),
    ("unk", "unk_token"),
    ("pad", "pad_token"),
    ("cls", "cls_token"),
    ("sep", "sep_token"),
    ("mask", "mask_token"),
];

/// Files larger than this are no tokenizer.
const MAX_FILE: u64 = 1 << 30;

/// Sums up the tokenizer of a model from the files of its directory, each with its name. Files that have nothing to do
/// with a tokenizer are ignored; weights need not be left out, since only first bytes are read of them.
pub fn summarise<'a>(files: impl IntoIterator<Item = (&'a str, &'a Source)>) -> Option<TokenizerSummary> {
    let files = identified(files);
    let named = |ending: &str| files.iter().find(|(name, ..)| base(name) == ending);
    let with_ending =
        |endings: &[&str]| files.iter().find(|(name, ..)| endings.iter().any(|end| base(name).ends_with(end)));

    let (special, configured) = configurations(&files);
    let chat_template = configured || with_ending(&["chat_template.jinja", "chat_template.json"]).is_some();
    let of = |format: &str| files.iter().find(|(_, _, id)| *id == format);
    let mut summary = TokenizerSummary { special_tokens: special, chat_template, ..TokenizerSummary::default() };
    let read = if let Some((name, source, _)) = of("tokenizer-json") {
        summary.kind = "tokenizer-json";
        summary.source = (*name).to_string();
        read_tokenizer_json(source, &mut summary)
    } else if let Some((name, source, _)) = of("tekken") {
        summary.kind = "tekken";
        summary.source = (*name).to_string();
        read_tekken(source, &mut summary)
    } else if let Some((name, source, _)) = of("sentencepiece") {
        summary.kind = "sentencepiece";
        summary.source = (*name).to_string();
        read_sentencepiece(source, &mut summary)
    } else if let Some((name, source, _)) = of("tiktoken") {
        summary.kind = "tiktoken";
        summary.source = (*name).to_string();
        read_tiktoken(source, &mut summary)
    } else if let Some((name, source, _)) =
        named("vocab.json").or_else(|| named("encoder.json")).filter(|f| f.2 == "json")
    {
        summary.kind = "vocab-json";
        summary.source = (*name).to_string();
        let merges = named("merges.txt").or_else(|| named("vocab.bpe")).map(|(_, source, _)| *source);
        read_vocab_json(source, merges, &mut summary)
    } else if let Some((name, source, _)) = named("vocab.txt").filter(|file| file.2 == "text") {
        summary.kind = "vocab-txt";
        summary.source = (*name).to_string();
        read_vocab_txt(source, &mut summary)
    } else {
        return None;
    };
    if let Err(error) = read {
        summary.problem = Some(error.to_string());
    }
    Some(summary)
}

/// Files with their names and the ids of their formats.
type Identified<'a> = Vec<(&'a str, &'a Source, &'static str)>;

fn identified<'a>(files: impl IntoIterator<Item = (&'a str, &'a Source)>) -> Identified<'a> {
    let known = |(name, source)| Some((name, source, probe::identify(source).ok()?.format.id));
    files.into_iter().filter_map(known).collect()
}

/// The special tokens that configurations of tokenizers state, and whether they hold a chat template.
fn configurations(files: &Identified) -> (BTreeMap<&'static str, Special>, bool) {
    let mut special = BTreeMap::new();
    let mut chat_template = false;
    for ending in ["tokenizer_config.json", "special_tokens_map.json"] {
        let configuration = files.iter().find(|(name, _, id)| base(name).ends_with(ending) && *id == "config-json");
        if let Some((_, source, _)) = configuration {
            chat_template |= read_configuration(source, &mut special).unwrap_or(false);
        }
    }
    (special, chat_template)
}

/// The special tokens that the files beside a model's weights state; nothing for a GGUF, which states ids.
pub(crate) fn stated_special_tokens(model: &LoadedModel) -> BTreeMap<&'static str, Special> {
    if model.gguf().is_some_and(|file| file.container.metadata.text("tokenizer.ggml.model").is_some()) {
        return BTreeMap::new();
    }
    configurations(&identified(beside(model))).0
}

/// The files of a model that are no weights.
fn beside(model: &LoadedModel) -> impl Iterator<Item = (&str, &Source)> {
    let files = model.files.iter().filter(|file| file.container.tensors.is_empty());
    files.map(|file| (file.path.as_str(), &file.source))
}

pub(super) fn base(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

pub(super) fn whole(source: &Source) -> Result<Vec<u8>> {
    if source.len() > MAX_FILE {
        let message = format!("a tokenizer of {} bytes; the limit is {MAX_FILE}", source.len());
        return Err(crate::Error::new(crate::ErrorKind::Limit, message).in_file(source.name()));
    }
    let bytes = source.read_up_to(0, MAX_FILE)?;
    Ok(match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => rest.to_vec(),
        None => bytes,
    })
}

/// Distinct numbers, in a bit each. Ids beyond any vocabulary are only counted.
#[derive(Default)]
struct Ids {
    bits: Vec<u64>,
    count: u64,
    max: Option<u64>,
}

impl Ids {
    /// No vocabulary has so many; a hostile id must not cost memory.
    const MOST: u64 = 1 << 26;

    fn insert(&mut self, id: u64) {
        self.max = self.max.max(Some(id));
        let Ok(word) = usize::try_from(id / 64) else { return };
        if id >= Self::MOST {
            self.count += 1;
            return;
        }
        if word >= self.bits.len() {
            self.bits.resize((word + 1).next_power_of_two(), 0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            let bit = 1 << (id % 64);
            self.count += u64::from(*bits & bit == 0);
            *bits |= bit;
        }
    }

    fn write(&self, summary: &mut TokenizerSummary) {
        summary.vocab_size = self.count;
        summary.max_id = self.max;
    }
}

/// Where and why the JSON of a file is none, or not that of a tokenizer.
pub(super) fn json_error(source: &Source, text: &[u8], error: &serde_json::Error) -> crate::Error {
    let (message, at) = match error.is_eof() {
        true => ("the file ends here, within the tokenizer".to_string(), text.len()),
        false => (json::words(error), json::offset(text, error)),
    };
    // A mark of the byte order at the begin was taken off.
    let before = source.len().saturating_sub(text.len() as u64);
    crate::Error::malformed(message).at(before + at as u64).in_file(source.name())
}

/// A token that stands as text or as an object with its text in `content`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
    Other(IgnoredAny),
}

/// Takes the special tokens of a configuration; returns whether it has a chat template.
fn read_configuration(source: &Source, special: &mut BTreeMap<&'static str, Special>) -> Result<bool> {
    struct Configuration<'a>(&'a mut BTreeMap<&'static str, Special>, bool);
    impl<'de> Visitor<'de> for &mut Configuration<'_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a tokenizer's configuration")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if let Some((role, _)) = ROLES.iter().find(|(_, name)| *name == key) {
                    if let Token::Text(token) | Token::Object { content: token } = map.next_value()? {
                        let id = self.0.get(role).and_then(|known| known.id);
                        self.0.entry(role).or_insert(Special { token: Some(token), id });
                    }
                } else if key == "chat_template" {
                    self.1 |= map.next_value::<Option<IgnoredAny>>()?.is_some();
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }
    let bytes = whole(source)?;
    let mut configuration = Configuration(special, false);
    let read = serde_json::Deserializer::from_slice(&bytes).deserialize_map(&mut configuration);
    read.map_err(|error| json_error(source, &bytes, &error))?;
    Ok(configuration.1)
}

fn read_tokenizer_json(source: &Source, summary: &mut TokenizerSummary) -> Result<()> {
    let bytes = whole(source)?;
    let mut found = TokenizerJson { summary, ids: Ids::default(), unknown_id: None };
    let read = serde_json::Deserializer::from_slice(&bytes).deserialize_map(&mut found);
    let TokenizerJson { ids, summary, .. } = found;
    ids.write(summary);
    read.map_err(|error| json_error(source, &bytes, &error))
}

/// `tokenizer.json`, while it is read.
struct TokenizerJson<'a> {
    summary: &'a mut TokenizerSummary,
    ids: Ids,
    unknown_id: Option<u64>,
}

impl TokenizerJson<'_> {
    /// What takes in the vocabulary.
    fn vocabulary<'de>(&mut self) -> impl DeserializeSeed<'de, Value = ()> {
        Vocabulary(|id, piece: &str, _| {
            self.ids.insert(id);
            self.note(piece, id);
        })
    }

    /// Notes the id of a token, where it is a special one.
    fn note(&mut self, token: &str, id: u64) {
        for special in self.summary.special_tokens.values_mut() {
            if special.token.as_deref() == Some(token) {
                special.id = Some(id);
            }
        }
    }
}

impl<'de> Visitor<'de> for &mut TokenizerJson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a tokenizer")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        #[derive(Deserialize)]
        struct Added<'a> {
            id: u64,
            #[serde(borrow)]
            content: Cow<'a, str>,
        }
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "model" => map.next_value_seed(Model(self))?,
                "added_tokens" => {
                    let mut added = |token: Added| {
                        self.summary.added_tokens += 1;
                        self.ids.insert(token.id);
                        self.note(&token.content, token.id);
                    };
                    map.next_value_seed(Each::new(&mut added))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The `model` of a `tokenizer.json`.
struct Model<'a, 'b>(&'a mut TokenizerJson<'b>);

impl<'de> DeserializeSeed<'de> for Model<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Model<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a tokenizer's model")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Model(found) = self;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "type" => found.summary.model = map.next_value::<String>()?.to_ascii_lowercase(),
                "vocab" => map.next_value_seed(found.vocabulary())?,
                "merges" => {
                    let mut count = 0;
                    let listed = map.next_value_seed(Each::new(|_: IgnoredAny| count += 1))?;
                    found.summary.merges = listed.then_some(count);
                }
                "unk_id" => found.unknown_id = map.next_value()?,
                "unk_token" => {
                    let token = map.next_value::<Option<String>>()?;
                    if token.is_some() {
                        found.summary.special_tokens.entry("unk").or_insert(Special { token, id: None });
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if found.summary.model.is_empty() {
            // Files of before 2020 do not name the type; only byte-pair encoding has merges.
            found.summary.model = if found.summary.merges.is_some() { "bpe" } else { "wordpiece" }.to_string();
        }
        if let Some(id) = found.unknown_id {
            found.summary.special_tokens.entry("unk").or_default().id.get_or_insert(id);
        }
        Ok(())
    }
}

fn read_vocab_json(source: &Source, merges: Option<&Source>, summary: &mut TokenizerSummary) -> Result<()> {
    summary.model = if merges.is_some() { "bpe" } else { "wordlevel" }.to_string();
    if let Some(merges) = merges {
        let bytes = whole(merges)?;
        let lines = bytes.split(|byte| *byte == b'\n');
        let count = lines.filter(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"#version")).count();
        summary.merges = Some(count as u64);
    }
    let bytes = whole(source)?;
    let mut found = TokenizerJson { summary, ids: Ids::default(), unknown_id: None };
    let read = found.vocabulary().deserialize(&mut serde_json::Deserializer::from_slice(&bytes));
    let TokenizerJson { ids, summary, .. } = found;
    ids.write(summary);
    read.map_err(|error| json_error(source, &bytes, &error))
}

fn read_vocab_txt(source: &Source, summary: &mut TokenizerSummary) -> Result<()> {
    summary.model = "wordpiece".to_string();
    let bytes = whole(source)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let mut count = 0;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for special in summary.special_tokens.values_mut() {
            if special.token.as_deref().is_some_and(|token| token.as_bytes() == line) {
                special.id.get_or_insert(count);
            }
        }
        count += 1;
    }
    summary.vocab_size = count;
    summary.max_id = count.checked_sub(1);
    Ok(())
}

fn read_tiktoken(source: &Source, summary: &mut TokenizerSummary) -> Result<()> {
    summary.model = "bpe".to_string();
    let bytes = whole(source)?;
    let mut ids = Ids::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        match rank_line(line) {
            Some(rank) => ids.insert(rank.into()),
            None if line.is_empty() => {}
            None => summary.problem = Some("a line is not a piece in base64 with its rank".to_string()),
        }
    }
    ids.write(summary);
    Ok(())
}

fn read_tekken(source: &Source, summary: &mut TokenizerSummary) -> Result<()> {
    #[derive(Deserialize)]
    struct Config {
        default_vocab_size: Option<u64>,
        default_num_special_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct SpecialToken {
        rank: u64,
        token_str: String,
    }
    #[derive(Default)]
    struct Tekken {
        config: Option<Config>,
        pieces: u64,
        special: Option<Vec<SpecialToken>>,
    }
    impl<'de> Visitor<'de> for &mut Tekken {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a Tekken tokenizer")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                match &*key {
                    "config" => self.config = map.next_value()?,
                    "vocab" => drop(map.next_value_seed(Each::new(|_: IgnoredAny| self.pieces += 1))?),
                    "special_tokens" => self.special = map.next_value()?,
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(())
        }
    }
    let bytes = whole(source)?;
    let mut found = Tekken::default();
    let read = serde_json::Deserializer::from_slice(&bytes).deserialize_map(&mut found);
    summary.model = "bpe".to_string();
    let special = found.special.unwrap_or_default();
    let config = found.config.as_ref();
    // The list of pieces may be longer than what is used of it; special tokens take the first ids.
    let reserved = config.and_then(|config| config.default_num_special_tokens).unwrap_or(special.len() as u64);
    let most = config.and_then(|config| config.default_vocab_size);
    summary.vocab_size = found.pieces.saturating_add(reserved).min(most.unwrap_or(u64::MAX));
    summary.max_id = summary.vocab_size.checked_sub(1);
    summary.added_tokens = reserved;
    // Files without the list have the same first three.
    for (role, token, id) in [("unk", "<unk>", 0), ("bos", "<s>", 1), ("eos", "</s>", 2), ("pad", "<pad>", u64::MAX)] {
        let listed = special.iter().find(|known| known.token_str == token).map(|known| known.rank);
        let id = listed.or((special.is_empty() && id < 3).then_some(id));
        if id.is_some() {
            summary.special_tokens.insert(role, Special { token: Some(token.to_string()), id });
        }
    }
    read.map_err(|error| json_error(source, &bytes, &error))
}

fn read_sentencepiece(source: &Source, summary: &mut TokenizerSummary) -> Result<()> {
    // Stated after the pieces, so a cut file does not tell.
    summary.model = "unknown".to_string();
    let mut reader = Reader::new(source, 0);
    let mut fields = Fields::of_source(&reader);
    // Defaults of the trainer, see `sentencepiece_model.proto`; a negative id means none.
    let mut ids = [("unk", 0i64, 45, "<unk>"), ("bos", 1, 46, "<s>"), ("eos", 2, 47, "</s>"), ("pad", -1, 48, "<pad>")];
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut texts: Vec<String> = Vec::new();
    loop {
        let field = match fields.next(&mut reader) {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(fault) => {
                summary.problem = Some(format!("{} (byte {})", fault.what, fault.at));
                break;
            }
        };
        match (field.number, field.value) {
            (1, Value::Bytes(span)) => {
                // Special pieces stand at the begin.
                if let Some(piece) = piece(&mut reader, span)
                    && texts.len() < 1024
                {
                    texts.push(text(&mut reader, piece.text, 256).unwrap_or_default());
                }
                summary.vocab_size += 1;
            }
            (2, Value::Bytes(span)) => {
                summary.model = model_type(&mut reader, span).to_string();
                let mut inner = Fields::within(span);
                while let Ok(Some(field)) = inner.next(&mut reader) {
                    for (index, (role, id, name_field, _)) in ids.iter_mut().enumerate() {
                        match field.value {
                            // Whole numbers of 32 bits are stored with their sign extended to 64.
                            Value::Varint(number) if field.number == 40 + index as u64 => *id = number.cast_signed(),
                            Value::Bytes(span) if field.number == *name_field => {
                                names.extend(text(&mut reader, span, 256).map(|name| (*role, name)));
                            }
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    if fields.offset() > source.len() {
        summary.problem = Some(format!("the file ends at byte {}, within the tokenizer", source.len()));
    }
    summary.max_id = summary.vocab_size.checked_sub(1);
    for (role, id, _, default) in ids {
        let Ok(id) = u64::try_from(id) else { continue };
        let stored = usize::try_from(id).ok().and_then(|id| texts.get(id)).filter(|text| !text.is_empty());
        let token = stored.or(names.get(role)).cloned().unwrap_or_else(|| default.to_string());
        if id < summary.vocab_size {
            summary.special_tokens.insert(role, Special { token: Some(token), id: Some(id) });
        }
    }
    Ok(())
}

/// Sums up the tokenizer of a model: the one within a GGUF, else from the files beside the weights.
pub fn of_model(model: &LoadedModel) -> Option<TokenizerSummary> {
    let within = model.gguf().and_then(|file| from_gguf(&file.path, &file.source, &file.container));
    within.or_else(|| summarise(beside(model)))
}

/// The tokenizer that a GGUF carries (keys of ggml's `docs/gguf.md`).
fn from_gguf(name: &str, source: &Source, container: &Container) -> Option<TokenizerSummary> {
    const IDS: [(&str, &str); 8] = [
        ("bos", "tokenizer.ggml.bos_token_id"),
        ("eos", "tokenizer.ggml.eos_token_id"),
        ("unk", "tokenizer.ggml.unknown_token_id"),
        ("pad", "tokenizer.ggml.padding_token_id"),
        ("cls", "tokenizer.ggml.cls_token_id"),
        // The key is misspelt in llama.cpp itself; newer files spell it right.
        ("sep", "tokenizer.ggml.seperator_token_id"),
        ("sep", "tokenizer.ggml.separator_token_id"),
        ("mask", "tokenizer.ggml.mask_token_id"),
    ];
    let metadata = &container.metadata;
    let model = match metadata.text("tokenizer.ggml.model").filter(|model| !matches!(*model, "none" | "no_vocab"))? {
        "gpt2" => "bpe",
        "llama" => "sentencepiece",
        "bert" => "wordpiece",
        "t5" => "unigram",
        other => other,
    };
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(metadata::Value::as_array);
    let count = tokens.map_or(0, |tokens| tokens.len);
    let ids: Vec<(&str, u64)> = IDS.iter().filter_map(|(role, key)| Some((*role, metadata.unsigned(key)?))).collect();
    let wanted: Vec<u64> = ids.iter().map(|(_, id)| *id).collect();
    let texts = tokens.and_then(|tokens| gguf::text_items(source, container, tokens, &wanted).ok()).unwrap_or_default();
    let mut special_tokens = BTreeMap::new();
    for (index, (role, id)) in ids.iter().enumerate() {
        let token = texts.get(index).cloned().flatten();
        special_tokens.insert(*role, Special { token, id: Some(*id) });
    }
    Some(TokenizerSummary {
        kind: "gguf",
        model: model.to_string(),
        vocab_size: count,
        merges: metadata.get("tokenizer.ggml.merges").and_then(metadata::Value::as_array).map(|merges| merges.len),
        added_tokens: 0,
        special_tokens,
        chat_template: metadata.get("tokenizer.chat_template").is_some(),
        max_id: count.checked_sub(1),
        source: name.to_string(),
        problem: None,
    })
}
