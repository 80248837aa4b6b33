//! JSON files of a model directory: configurations, indices of shards, tokenizers, notebooks.
//!
//! They are told apart by their keys, which a small scanner lists from a prefix: it builds no tree, follows no
//! recursion, and what it has seen before a cut or a fault stays seen.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::text::{decode, note_posing};
use super::{Container, Facts, Format};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::ledger::{Draft, Kind};
use crate::metadata::{Entry, Metadata, Value};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

macro_rules! format {
    ($(#[$doc:meta])* $name:ident, $id:literal, $title:literal, $extensions:expr, $kind:expr, $use:literal) => {
        $(#[$doc])*
        pub static $name: Format = Format {
            id: $id,
            name: $title,
            extensions: $extensions,
            use_and_risk: $use,
            probe: |head| probe(head, $id),
            open: |source| open(source, &$name, $kind),
        };
    };
}

format!(
    /// A Jupyter notebook.
    NOTEBOOK, "notebook", "Jupyter notebook", &["ipynb"], Kind::Code,
    "A program with its results: opening shows it, running it runs its author's code."
);
format!(
    /// An index of safetensors shards.
    SAFETENSORS_INDEX, "safetensors-index", "index of safetensors shards", &["json"], Kind::Metadata,
    "Says which of several safetensors files holds which tensor. Reading it runs no code."
);
format!(
    /// An index of PyTorch shards.
    PYTORCH_INDEX, "pytorch-index", "index of PyTorch shards", &["json"], Kind::Metadata,
    "Says which of several PyTorch files holds which tensor. The index is harmless; the files that it names are pickles."
);
format!(
    /// A tokenizer of the library `tokenizers`.
    TOKENIZER, "tokenizer-json", "tokenizer.json", &["json"], Kind::Tokenizer,
    "A complete tokenizer for Hugging Face's `tokenizers`. Loading runs no code."
);
format!(
    /// Mistral's tokenizer.
    TEKKEN, "tekken", "Tekken tokenizer", &["json"], Kind::Tokenizer,
    "Mistral's tokenizer: byte pieces in base64 with their ranks. Loading runs no code."
);
format!(
    /// A configuration.
    CONFIG, "config-json", "model configuration (JSON)", &["json"], Kind::Metadata,
    "Says how a model, its tokenizer or its generation is set up. It runs no code by itself, but `auto_map` in it makes \
     some loaders fetch and run code."
);
format!(
    /// Any other JSON.
    JSON, "json", "JSON", &["json", "jsonl"], Kind::Metadata,
    "Plain data. Reading it runs no code."
);

static CUT: Rule = Rule {
    name: "file-truncated",
    severity: Severity::Error,
    why: "The file ends before its content does: the download is incomplete.",
    help: "download the file again and compare its size with the one that the hub states",
};
static BROKEN: Rule = Rule {
    name: "json-broken",
    severity: Severity::Error,
    why: "The text is not valid JSON, so programs refuse the file.",
    help: "look at the place with an editor; a comma before a closing bracket and comments are the usual causes",
};
static ODD_ENCODING: Rule = Rule {
    name: "json-encoding-odd",
    severity: Severity::Warning,
    why: "The text begins with a byte-order mark or is not UTF-8, which most JSON readers refuse.",
    help: "save the file as UTF-8 without a byte-order mark",
};

/// The rules of these readers.
pub static RULES: &[&Rule] = &[&CUT, &BROKEN, &ODD_ENCODING];

/// The finding for a file of which the end is missing.
pub(super) fn cut(source: &Source, what: &str) -> Finding {
    Finding::new(&CUT, std::format!("{what}: the file ends at byte {}", source.len())).at(source.len())
}

/// Which of the JSON formats a file has.
#[derive(Debug, Clone)]
pub(crate) struct Sort {
    pub id: &'static str,
    pub score: u8,
    pub evidence: String,
    /// What kind of file within the format, in words; empty where there is only one.
    pub kind: &'static str,
}

/// Something that the scanner met: a key or list element no deeper than [`Scan::DEPTH`].
#[derive(Debug)]
struct Seen {
    /// Keys from the top, joined with dots; `[]` for the first element of a list.
    path: String,
    value: Token,
    /// Where the value begins, in the decoded text.
    at: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Object,
    List,
    Text(String),
    /// A number, `true`, `false`, `null`, or Python's `NaN` and `Infinity`.
    Word(String),
}

/// What a pass over the text found.
#[derive(Debug, Default)]
struct Scan {
    seen: Vec<Seen>,
    /// Where the text stops being JSON.
    broken: Option<usize>,
    /// Whether the outermost value is complete.
    complete: bool,
    /// Whether another value follows the first, as in JSON Lines.
    lines: bool,
    /// Whether the outermost value is an object; else it is a list.
    object: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
}

impl Scan {
    const DEPTH: usize = 3;
    /// Members kept of each object below the top.
    const INNER: usize = 24;
    /// Members kept in all, and bytes kept of each value.
    const SEEN: usize = 4_096;
    const TEXT: usize = 256;

    fn of(text: &[u8]) -> Self {
        let mut scan = Scan::default();
        let mut at = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match text.get(at) {
            Some(b'{') => scan.object = true,
            Some(b'[') => {}
            _ => {
                scan.broken = Some(at);
                return scan;
            }
        }
        // Whether each open bracket is an object's, and how many members it has had.
        let mut open: Vec<(bool, usize)> = Vec::new();
        let mut path: Vec<String> = Vec::new();
        let mut expect = Expect::Value;
        let mut key = String::new();
        while let Some(&byte) = text.get(at) {
            if byte.is_ascii_whitespace() {
                at += 1;
                continue;
            }
            if scan.complete {
                scan.lines = matches!(byte, b'{' | b'[');
                if !scan.lines {
                    scan.broken = Some(at);
                }
                return scan;
            }
            let start = at;
            let value = match (byte, expect) {
                (b'"', Expect::Key | Expect::KeyOrEnd) => {
                    let Some(end) = string_end(text, at) else { return scan };
                    key = if open.len() <= Self::DEPTH { quoted(text, at, end) } else { String::new() };
                    at = end;
                    expect = Expect::Colon;
                    continue;
                }
                (b':', Expect::Colon) => {
                    at += 1;
                    expect = Expect::Value;
                    continue;
                }
                (b',', Expect::CommaOrEnd) => {
                    at += 1;
                    expect = if open.last().is_some_and(|(object, _)| *object) { Expect::Key } else { Expect::Value };
                    continue;
                }
                (b'}' | b']', Expect::CommaOrEnd | Expect::KeyOrEnd | Expect::ValueOrEnd) => {
                    if open.pop().is_none_or(|(object, _)| object != (byte == b'}')) {
                        scan.broken = Some(at);
                        return scan;
                    }
                    if open.len() < Self::DEPTH {
                        path.pop();
                    }
                    scan.complete = open.is_empty();
                    at += 1;
                    expect = Expect::CommaOrEnd;
                    continue;
                }
                (b'{', Expect::Value | Expect::ValueOrEnd) => Token::Object,
                (b'[', Expect::Value | Expect::ValueOrEnd) => Token::List,
                (b'"', Expect::Value | Expect::ValueOrEnd) => {
                    let Some(end) = string_end(text, at) else { return scan };
                    at = end;
                    Token::Text(if open.len() <= Self::DEPTH { quoted(text, start, end) } else { String::new() })
                }
                (_, Expect::Value | Expect::ValueOrEnd) => {
                    let rest = text.get(at..).unwrap_or_default();
                    let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
                    let word = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
                    if length == rest.len() {
                        return scan;
                    }
                    let known = matches!(word.as_str(), "true" | "false" | "null" | "NaN" | "Infinity" | "-Infinity");
                    if !known && word.parse::<f64>().is_err() {
                        scan.broken = Some(at);
                        return scan;
                    }
                    at += length;
                    Token::Word(word)
                }
                _ => {
                    scan.broken = Some(at);
                    return scan;
                }
            };
            // A value has begun: note it, and go down where it is a bracket.
            let depth = open.len();
            if let Some((object, members)) = open.last_mut() {
                *members += 1;
                let name = if *object { std::mem::take(&mut key) } else { "[]".to_string() };
                let wanted = if *object { depth == 1 || *members <= Self::INNER } else { *members == 1 };
                if depth <= Self::DEPTH && wanted && scan.seen.len() < Self::SEEN {
                    let mut full = path.join(".");
                    if !full.is_empty() {
                        full.push('.');
                    }
                    full.push_str(&name);
                    scan.seen.push(Seen { path: full, value: value.clone(), at: start });
                }
                if matches!(value, Token::Object | Token::List) && depth < Self::DEPTH {
                    // Members of elements after the first must not pass for members of the first.
                    path.push(if *object || *members == 1 { name } else { "[…]".to_string() });
                }
            }
            expect = match value {
                Token::Object => Expect::KeyOrEnd,
                Token::List => Expect::ValueOrEnd,
                _ => Expect::CommaOrEnd,
            };
            if let Token::Object | Token::List = value {
                at += 1;
                if open.is_empty() {
                    // The outermost bracket has no name; its place in the path keeps the pops even.
                    path.clear();
                }
                open.push((value == Token::Object, 0));
            }
        }
        scan
    }

    fn get(&self, path: &str) -> Option<&Token> {
        self.seen.iter().find(|seen| seen.path == path).map(|seen| &seen.value)
    }

    fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    fn text(&self, path: &str) -> Option<&str> {
        match self.get(path)? {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Keys and values directly below the top.
    fn top(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| !seen.path.contains('.') && seen.path != "[]")
    }
}

/// One past the closing quote of the string that opens at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The text between the quotes, with its escapes where they are valid, cut to [`Scan::TEXT`] bytes.
fn quoted(text: &[u8], start: usize, end: usize) -> String {
    let whole = text.get(start..end).unwrap_or_default();
    if whole.len() <= Scan::TEXT
        && let Ok(text) = serde_json::from_slice(whole)
    {
        return text;
    }
    let inside = whole.get(1..whole.len().min(Scan::TEXT)).unwrap_or_default();
    String::from_utf8_lossy(inside).trim_end_matches('"').to_string()
}

/// How much is read of a JSON file whose first bytes do not decide; tokenizers may begin with a megabyte of added tokens.
const MORE: u64 = 2 << 20;

/// Whether the last bytes that are not blank close a bracket.
fn ends_well(source: &Source) -> Result<bool> {
    let end = source.read_up_to(source.len().saturating_sub(64), 64)?;
    let last = end.iter().rfind(|byte| !byte.is_ascii_whitespace() && **byte != 0);
    Ok(matches!(last, Some(b'}' | b']')))
}

/// Which JSON format it is, worked out once for all of them.
pub(crate) fn sort<'h>(head: &'h Head) -> Option<&'h Sort> {
    head.json
        .get_or_init(|| {
            let first = head.first.iter().find(|byte| byte.is_ascii_graphic())?;
            // Before the brace there may be a byte-order mark, none of whose bytes is graphic.
            matches!(first, b'{' | b'[').then_some(())?;
            let whole = head.len() <= Head::SIZE;
            let mut sorted = classify(&head.first, whole, head.len())?;
            if !whole && sorted.id == "json" {
                let more = head.source.read_up_to(0, MORE).ok()?;
                sorted = classify(&more, head.len() <= MORE, head.len())?;
            }
            if !whole && !ends_well(head.source).unwrap_or(true) && !sorted.evidence.contains(TEXTUAL_CUT) {
                sorted
                    .evidence
                    .push_str(&std::format!("{TEXTUAL_CUT}: it ends at byte {}, within the JSON", head.len()));
            }
            Some(sorted)
        })
        .as_ref()
}

const TEXTUAL_CUT: &str = "; the file is cut";

fn classify(bytes: &[u8], whole: bool, len: u64) -> Option<Sort> {
    let text = decode(bytes)?;
    let scan = Scan::of(text.text.as_bytes());
    let members = scan.top().count();
    if scan.broken.is_some() && (!scan.object || members == 0) {
        return None;
    }
    // A list that is cut or goes on may be anything; what was read of it was right.
    if !scan.object && scan.seen.is_empty() && !scan.complete {
        return None;
    }
    let mut sort = by_keys(&scan);
    if text.encoding != "UTF-8" {
        sort.evidence.push_str(&std::format!(" ({})", text.encoding));
    }
    if let Some(at) = scan.broken {
        sort.evidence.push_str(&std::format!("; it stops being JSON at byte {at} of the text"));
    } else if whole && !scan.complete {
        sort.evidence.push_str(&std::format!("{TEXTUAL_CUT}: it ends at byte {len}, within the JSON"));
    }
    Some(sort)
}

/// Keys by which a configuration is known, and what it configures. The first that is there decides.
const CONFIGURATIONS: &[(&[&str], &str)] = &[
    (&["peft_type"], "adapter configuration"),
    (&["added_tokens_decoder"], "tokenizer configuration"),
    (&["tokenizer_class"], "tokenizer configuration"),
    (&["image_processor_type"], "preprocessor configuration"),
    (&["feature_extractor_type"], "preprocessor configuration"),
    (&["processor_class"], "preprocessor configuration"),
    (&["image_mean", "image_std"], "preprocessor configuration"),
    (&["_class_name"], "diffusers configuration"),
    (&["model_type"], "model configuration"),
    (&["architectures"], "model configuration"),
    (&["dim", "n_layers"], "model configuration (Llama's and Mistral's params.json)"),
    (&["dim", "vocab_size"], "model configuration (Llama's and Mistral's params.json)"),
    (&["hidden_size", "num_hidden_layers"], "model configuration"),
    (&["hidden_size", "num_attention_heads"], "model configuration"),
    (&["n_embd", "n_layer"], "model configuration"),
    (&["d_model", "n_layer"], "model configuration"),
    (&["num_hidden_layers", "num_attention_heads"], "model configuration"),
    (&["text_config"], "model configuration"),
    (&["quant_method"], "quantisation configuration"),
    (&["bits", "group_size"], "quantisation configuration"),
    (&["w_bit", "q_group_size"], "quantisation configuration"),
    (&["transformers_version"], "generation configuration"),
    (&["_from_model_config"], "generation configuration"),
    (&["bos_token_id"], "generation configuration"),
    (&["eos_token_id"], "generation configuration"),
    (&["chat_template"], "chat template"),
    (&["bos_token"], "special tokens"),
    (&["eos_token"], "special tokens"),
    (&["pad_token"], "special tokens"),
    (&["cls_token"], "special tokens"),
    (&["unk_token"], "special tokens"),
    (&["word_embedding_dimension"], "sentence-transformers configuration"),
    (&["max_seq_length", "do_lower_case"], "sentence-transformers configuration"),
    (&["__version__"], "sentence-transformers configuration"),
];

fn by_keys(scan: &Scan) -> Sort {
    let found = |id, score, kind, evidence: &str| Sort { id, score, kind, evidence: evidence.to_string() };
    let certain = score::LIKELY + 5;
    if !scan.object {
        let evidence = if scan.lines { "JSON lists, one after the other" } else { "a JSON list" };
        return found("json", score::PLAUSIBLE + 5, "", evidence);
    }
    if scan.has("cells") && (scan.has("nbformat") || scan.has("cells.[].cell_type")) {
        return found("notebook", certain, "", "JSON with the notebook keys `cells` and `cell_type`");
    }
    if scan.has("itemInfoEntries") && scan.has("rootModelIdentifier") {
        return found(
            "coreml",
            certain,
            "",
            "JSON with the keys `itemInfoEntries` and `rootModelIdentifier`, the \
                                            manifest of a Core ML package",
        );
    }
    if scan.get("weight_map") == Some(&Token::Object) {
        let shards = || {
            scan.seen.iter().filter_map(|seen| match &seen.value {
                Token::Text(file) if seen.path.starts_with("weight_map.") => Some(file.as_str()),
                _ => None,
            })
        };
        if shards().any(|file| file.ends_with(".safetensors")) {
            return found("safetensors-index", certain, "", "JSON whose `weight_map` names safetensors files");
        }
        let pickles = [".bin", ".pt", ".pth", ".ckpt"];
        if shards().any(|file| pickles.iter().any(|ending| file.ends_with(ending))) {
            return found("pytorch-index", certain, "", "JSON whose `weight_map` names PyTorch files");
        }
    }
    if scan.has("vocab.[].token_bytes") || (scan.has("config.default_vocab_size") && scan.has("config.pattern")) {
        return found("tekken", certain, "", "JSON with the keys of Mistral's Tekken: `config` and `vocab` of bytes");
    }
    let model = ["model.vocab", "model.merges", "model.type"].iter().any(|key| scan.has(key));
    let frame = ["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"];
    let frames = frame.iter().filter(|key| scan.has(key)).count();
    if (model && (frames > 0 || scan.has("added_tokens") || scan.has("model.vocab")))
        || (scan.has("added_tokens") && frames > 0)
    {
        return found(
            "tokenizer-json",
            certain,
            "",
            "JSON with the keys of a tokenizer: `model`, `added_tokens` and the like",
        );
    }
    for (keys, kind) in CONFIGURATIONS {
        if keys.iter().all(|key| scan.has(key)) {
            let keys: Vec<_> = keys.iter().map(|key| std::format!("`{key}`")).collect();
            let named = match scan.text("model_type") {
                Some(model_type) if keys.iter().any(|key| key == "`model_type`") => std::format!(" {model_type:?}"),
                _ => String::new(),
            };
            let evidence = std::format!("JSON with {}{named}: a {kind}", keys.join(" and "));
            return found("config-json", score::LIKELY, kind, &evidence);
        }
    }
    let members = scan.top().count();
    let numbered =
        scan.top().filter(|seen| matches!(&seen.value, Token::Word(word) if word.parse::<u64>().is_ok())).count();
    if members >= 100 && numbered == members {
        return found(
            "json",
            score::PLAUSIBLE + 5,
            "vocabulary",
            "JSON that maps pieces of text to numbers: a vocabulary",
        );
    }
    if scan.has("bpe_ranks") {
        return found("json", score::PLAUSIBLE + 5, "tokenizer (ranks)", "JSON with `bpe_ranks`: a tokenizer's ranks");
    }
    let evidence = if scan.lines { "JSON objects, one after the other" } else { "a JSON object" };
    found("json", score::PLAUSIBLE + 5, "", evidence)
}

fn probe(head: &Head, id: &str) -> Option<Match> {
    let sort = sort(head).filter(|sort| sort.id == id)?;
    Match::new(sort.score, sort.evidence.clone())
}

/// Up to this size a JSON file is read whole; of a longer one only the begin, the end, and what streaming gives.
const WHOLE: u64 = 4 << 20;

fn open(source: &Source, format: &'static Format, kind: Kind) -> Result<Container> {
    let len = source.len();
    let head = Head::read(source)?;
    let mut facts = Facts::new();
    let mut findings = Vec::new();
    let mut metadata = Metadata::new();
    if let Some(sort) = sort(&head)
        && !sort.kind.is_empty()
    {
        facts.push(("kind", sort.kind.to_string()));
    }
    if head.starts_with(b"\xef\xbb\xbf") || head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        let message = "the text begins with a byte-order mark".to_string();
        findings.push(Finding::new(&ODD_ENCODING, message).at(0));
    }
    let plain = findings.is_empty();
    if len <= WHOLE {
        let bytes = source.read_up_to(0, WHOLE)?;
        if let Some(text) = decode(&bytes) {
            let scan = Scan::of(text.text.as_bytes());
            if let Some(at) = scan.broken {
                let finding = Finding::new(&BROKEN, "the text stops being JSON here");
                findings.push(if plain { finding.at(at as u64) } else { finding });
            } else if !scan.complete {
                findings.push(cut(source, "the JSON is not complete"));
            }
            if format.id == CONFIG.id {
                for seen in scan.top() {
                    let value = match &seen.value {
                        Token::Text(text) => Value::Text(text.clone()),
                        Token::Word(word) => scalar(word),
                        Token::Object | Token::List => continue,
                    };
                    let span = Span { start: if plain { seen.at as u64 } else { 0 }, len: 0 };
                    metadata.push(Entry { key: seen.path.clone(), kind: "json", value, span });
                }
            }
        }
    } else {
        if !ends_well(source)? {
            findings.push(cut(source, "the JSON is not complete"));
        }
    }
    if format.id == SAFETENSORS_INDEX.id || format.id == PYTORCH_INDEX.id {
        let index = index(source)?;
        facts.push(("tensors", index.tensors.to_string()));
        facts.push(("shards", index.files.len().to_string()));
        facts.extend(index.total_size.map(|size| ("declared size", std::format!("{size} bytes"))));
    }
    let mut draft = Draft::new();
    let label = match kind {
        Kind::Tokenizer => "tokenizer (JSON)",
        Kind::Code => "notebook (JSON)",
        _ => "JSON text",
    };
    draft.add(0, len, kind, label);
    let mut container = Container::new(format, draft.finish(len));
    container.facts = facts;
    container.metadata = metadata;
    container.findings = findings;
    if format.id == JSON.id {
        note_posing(&mut container, source, "JSON text");
    }
    Ok(container)
}

fn scalar(word: &str) -> Value {
    match word {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match (word.parse::<u64>(), word.parse::<i64>()) {
            (Ok(number), _) => Value::Unsigned(number),
            (_, Ok(number)) => Value::Signed(number),
            _ => Value::Float(word.parse().unwrap_or(f64::NAN)),
        },
    }
}

/// What an index of shards says in sum.
#[derive(Default)]
struct Index {
    tensors: u64,
    files: BTreeSet<String>,
    total_size: Option<u64>,
}

/// Reads an index without keeping its half million names. What comes before a fault counts.
fn index(source: &Source) -> Result<Index> {
    let bytes = source.read_up_to(0, source.len())?;
    let mut found = Index::default();
    let text = decode(&bytes);
    let text = text.as_ref().map_or("", |text| &text.text);
    let mut json = serde_json::Deserializer::from_str(text);
    // A fault has been reported where the whole text was scanned.
    drop(json.deserialize_map(&mut found));
    Ok(found)
}

impl<'de> Visitor<'de> for &mut Index {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an index of shards")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        #[derive(serde::Deserialize)]
        struct Declared {
            #[serde(default)]
            total_size: Option<serde_json::Value>,
        }
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*key {
                "metadata" => {
                    let declared: Option<Declared> = map.next_value()?;
                    let size = declared.and_then(|declared| declared.total_size);
                    // Some programs write it as a float.
                    self.total_size = size
                        .and_then(|size| size.as_u64().or_else(|| size.to_string().split('.').next()?.parse().ok()));
                }
                "weight_map" => map.next_value_seed(WeightMap(self))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct WeightMap<'a>(&'a mut Index);

impl<'de> serde::de::DeserializeSeed<'de> for WeightMap<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a map from tensors to files")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        while let Some((_, file)) = map.next_entry::<IgnoredAny, std::borrow::Cow<'de, str>>()? {
            self.0.tensors += 1;
            if !self.0.files.contains(&*file) {
                self.0.files.insert(file.into_owned());
            }
        }
        Ok(())
    }
}

/// The words of a JSON error without its line and column, which mean nothing in a text of one line.
pub(crate) fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map(|(words, _)| words.to_string()).unwrap_or(text)
}

/// Byte offset within `text` of a JSON error, which counts lines and columns from 1.
pub(crate) fn offset(text: &[u8], error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}
