//! Tokenizers: read from whichever files hold them, run, and summed up.
//!
//! [`read`] and [`of`] give the whole of it as a [`Tokenizer`], the same for every kind of file; [`summarise`] only
//! counts, for one line of `inspect`.

mod config;
mod facts;
mod gguf;
mod index;
mod lists;
mod llama_cpp;
mod merges;
mod run;
mod scripts;
mod sentencepiece;
mod summary;
mod tekken;
mod tiktoken;
mod tokenizer_json;
mod vocab;
mod words;

use std::collections::BTreeMap;

use foldhash::{HashMap, HashSet};
use serde::Serialize;

use crate::container::Container;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::model::Model;
use crate::probe;
use crate::source::Source;

pub use config::{Configuration, Role, Stated};
pub use facts::{Examples, Facts, Share, Shown, Unreachable, facts};
pub use gguf::GgufSettings;
pub use index::Index;
pub(crate) use index::Joined;
pub(crate) use llama_cpp::{END_OF_GENERATION, knows_pre_tokenizer, pre_tokenizer_adds_bos};
pub use merges::{Merge, Merges};
pub use run::{Encoder, Options, Piece};
pub use sentencepiece::SentencePieceSettings;
pub(crate) use summary::stated_special_tokens;
pub use summary::{Special, TokenizerSummary, of_model, summarise};
pub use tekken::TekkenSettings;

static UNREADABLE: Rule = Rule {
    name: "tokenizer-unreadable",
    severity: Severity::Error,
    why: "A tokenizer's file stops making sense at this place, so the rest of its vocabulary is missing and text \
          cannot be split as the model expects.",
    help: "download the file again",
};
static ENTRY_BROKEN: Rule = Rule {
    name: "tokenizer-entry-invalid",
    severity: Severity::Warning,
    why: "An entry of the vocabulary has an id, a score or a text that no tokenizer can use; it is left out.",
    help: "make the tokenizer's files anew from the original",
};

/// The rules of reading tokenizers.
pub static RULES: &[&Rule] = &[&UNREADABLE, &ENTRY_BROKEN];

/// Entries, merges or added tokens beyond this are not read; the largest vocabularies have half a million.
const MAX_ENTRIES: usize = 1 << 22;

/// A tokenizer, whatever the file that holds it.
#[derive(Debug, Clone, Default)]
pub struct Tokenizer {
    /// What holds it: `tokenizer-json`, `sentencepiece`, `tekken`, `tiktoken`, `vocab-json`, `vocab-txt`, `gguf`.
    pub kind: &'static str,
    /// How it splits words, in lower case: `bpe`, `unigram`, `wordpiece`, …, as in [`TokenizerSummary::model`].
    pub model: String,
    /// Name of the file that holds it.
    pub source: String,
    /// The vocabulary in order of ids; ids may be missing, and damaged files repeat some.
    pub entries: Vec<Entry>,
    /// How the entries' texts are written down.
    pub notation: Notation,
    /// Merges of byte-pair encoding in their order; `None` where the file has no list of them.
    pub merges: Option<Merges>,
    /// Tokens that were added to the vocabulary, with what is known of how they are found in text.
    pub added: Vec<AddedToken>,
    /// What happens to a text first, step by step in words.
    pub normalizer: Vec<String>,
    /// How it is cut into words then.
    pub pre_tokenizer: Vec<String>,
    /// What is put around the ids at last.
    pub post_processor: Vec<String>,
    /// How ids become text again.
    pub decoder: Vec<String>,
    /// Whether bytes that no entry covers have entries of their own (`<0x0A>`, or an alphabet of bytes).
    pub byte_fallback: bool,
    /// Whether words that are entries are taken whole, merges or not.
    pub words_whole: bool,
    /// Where the file has texts cut, in tokens; not applied here.
    pub truncation: Option<u64>,
    /// To how many tokens the file has every text filled up; not applied here.
    pub padding: Option<u64>,
    /// Which token is what, as each file states it: several statements of one role may disagree.
    pub roles: Vec<Role>,
    /// What the files beside it say.
    pub configuration: Configuration,
    /// What only this kind of file has.
    pub details: Details,
    /// What is odd or wrong about the file.
    pub findings: Vec<Finding>,
    /// Ids that only the list of added tokens has, in order: those of its entries that the vocabulary has not.
    pub(crate) appended: Vec<u32>,
    /// The file itself, for those who run it.
    pub(crate) files: Vec<Source>,
}

/// One entry of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its id, which is the row of the embedding.
    pub id: u32,
    /// Its text as the file writes it; see [`Tokenizer::bytes`].
    pub stored: Box<[u8]>,
    /// Its score, where the algorithm has scores; the rank, where it has ranks.
    pub score: Option<f32>,
    /// What it is there for.
    pub kind: EntryKind,
}

/// What an entry is there for, in SentencePiece's terms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A piece of text.
    #[default]
    Normal,
    /// What stands for text that cannot be encoded.
    Unknown,
    /// A mark that no text becomes: begin, end, padding.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// One byte.
    Byte,
    /// A reserved row.
    Unused,
}

/// A token beyond the trained vocabulary, or one of it that is found in text before anything else happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AddedToken {
    /// Its id.
    pub id: Option<u32>,
    /// Its text.
    pub content: String,
    /// Whether it steers the model rather than being text.
    pub special: bool,
    /// Whether blanks before it are swallowed.
    pub lstrip: bool,
    /// Whether blanks after it are swallowed.
    pub rstrip: bool,
    /// Whether it is looked for in the normalised text.
    pub normalized: bool,
    /// Whether it must not touch letters.
    pub single_word: bool,
    /// Name of the file that says so.
    pub source: String,
}

/// How a vocabulary writes down bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notation {
    /// As they are.
    #[default]
    Plain,
    /// Each byte as a printable letter, as GPT-2 does (`Ġ` is a blank).
    ByteLetters,
    /// `▁` for a blank, `<0x0A>` for a byte.
    Blanks,
    /// `##` before what continues a word.
    Continuation,
    /// `▁` before what begins a word, nothing before what continues it, as llama.cpp writes WordPiece.
    WordBegin,
    /// Escapes as in Python's byte strings (`\n`, `\xff`), as RWKV writes them.
    Escapes,
}

/// What only one kind of file has.
#[derive(Debug, Clone, Default)]
pub enum Details {
    /// Nothing more.
    #[default]
    None,
    /// SentencePiece's settings.
    SentencePiece(Box<SentencePieceSettings>),
    /// Ranks with the pattern that cuts words; `None` where the file has no pattern, as OpenAI's own have none.
    Ranks {
        /// The regular expression.
        pattern: Option<String>,
    },
    /// Tekken's settings.
    Tekken(TekkenSettings),
    /// The keys of a GGUF that llama.cpp looks at.
    Gguf(Box<GgufSettings>),
}

impl Tokenizer {
    /// The bytes that an entry stands for.
    pub fn bytes(&self, entry: &Entry) -> Vec<u8> {
        match entry.kind {
            EntryKind::Normal | EntryKind::Byte | EntryKind::Unused => self.notation.bytes(&entry.stored),
            _ => entry.stored.to_vec(),
        }
    }

    /// The entries of an id: one, in a healthy vocabulary.
    pub fn with_id(&self, id: u32) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.id < id);
        self.entries.get(from..).unwrap_or_default().iter().take_while(move |entry| entry.id == id)
    }

    /// The id of a token by its text, added tokens first, as loaders have it.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        let added = self.added.iter().find(|token| token.content == text).and_then(|token| token.id);
        added.or_else(|| self.entries.iter().find(|entry| *entry.stored == *text.as_bytes()).map(|entry| entry.id))
    }

    /// How many distinct ids there are.
    pub fn size(&self) -> usize {
        self.entries.iter().zip(self.entries.iter().skip(1)).filter(|(one, next)| one.id != next.id).count()
            + usize::from(!self.entries.is_empty())
    }

    /// The statements of a role (`bos`, `eos`, …), the one that loaders follow first.
    pub fn role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Role> {
        self.roles.iter().filter(move |stated| stated.role == role)
    }

    /// Puts the entries in order, adds those that only the list of added tokens has, and gives roles their ids.
    fn settle(&mut self) {
        self.entries.sort_by_key(|entry| entry.id);
        let mut appended: BTreeMap<u32, &AddedToken> = BTreeMap::new();
        for token in &self.added {
            if let Some(id) = token.id.filter(|id| self.with_id(*id).next().is_none()) {
                appended.entry(id).or_insert(token);
            }
        }
        let entry = |(id, token): (&u32, &&AddedToken)| {
            let kind = if token.special { EntryKind::Control } else { EntryKind::UserDefined };
            Entry { id: *id, stored: token.content.as_bytes().into(), score: None, kind }
        };
        self.appended = appended.keys().copied().collect();
        let more: Vec<Entry> = appended.iter().map(entry).collect();
        self.entries.extend(more);
        self.entries.sort_by_key(|entry| entry.id);
        let wanted: HashSet<&[u8]> =
            self.roles.iter().filter_map(|role| Some(role.token.as_ref()?.as_bytes())).collect();
        let mut ids: HashMap<&[u8], u32> = HashMap::default();
        for entry in self.entries.iter().filter(|entry| wanted.contains(&*entry.stored)) {
            ids.entry(&entry.stored).or_insert(entry.id);
        }
        for token in self.added.iter().filter(|token| wanted.contains(token.content.as_bytes())) {
            if let Some(id) = token.id {
                ids.insert(token.content.as_bytes(), id);
            }
        }
        for role in &mut self.roles {
            match (&role.token, role.id) {
                (Some(token), None) => role.id = ids.get(token.as_bytes()).copied().map(u64::from),
                (None, Some(id)) => {
                    let from = self.entries.partition_point(|entry| u64::from(entry.id) < id);
                    let entry = self.entries.get(from).filter(|entry| u64::from(entry.id) == id);
                    role.token = entry.map(|entry| String::from_utf8_lossy(&entry.stored).into_owned());
                }
                _ => {}
            }
        }
    }

    /// Marks the entries that the list of added tokens names.
    fn mark_added(&mut self) {
        let added: HashMap<u32, &AddedToken> = self.added.iter().filter_map(|token| Some((token.id?, token))).collect();
        for entry in &mut self.entries {
            if let Some(token) = added.get(&entry.id)
                && *token.content.as_bytes() == *entry.stored
            {
                entry.kind = if token.special { EntryKind::Control } else { EntryKind::UserDefined };
            }
        }
    }

    fn problem(&mut self, rule: &'static Rule, message: impl Into<String>) {
        self.findings.push(Finding::new(rule, message).file(self.source.as_str()));
    }

    /// Notes why the file could not be read to its end.
    fn unread(&mut self, error: &crate::Error) {
        let mut finding = Finding::new(&UNREADABLE, error.message()).file(self.source.as_str());
        finding.offset = error.offset();
        self.findings.push(finding);
    }
}

impl Notation {
    /// The bytes that a stored text stands for.
    pub fn bytes(self, stored: &[u8]) -> Vec<u8> {
        match self {
            Notation::Plain => stored.to_vec(),
            Notation::ByteLetters => match std::str::from_utf8(stored) {
                Ok(text) => match text.chars().map(byte_of_letter).collect() {
                    Some(bytes) => bytes,
                    None => stored.to_vec(),
                },
                Err(_) => stored.to_vec(),
            },
            Notation::Blanks => match byte_of_tag(stored) {
                Some(byte) => vec![byte],
                None => replace(stored, "▁".as_bytes(), b" "),
            },
            Notation::Continuation => stored.strip_prefix(b"##").unwrap_or(stored).to_vec(),
            Notation::WordBegin => stored.strip_prefix("▁".as_bytes()).unwrap_or(stored).to_vec(),
            Notation::Escapes => unescape(stored),
        }
    }
}

/// The byte that a letter of GPT-2's alphabet stands for: printable Latin-1 for itself, letters from U+0100 on for the
/// others in their order (`bytes_to_unicode` of <https://github.com/openai/gpt-2/blob/master/src/encoder.py>).
pub(crate) fn byte_of_letter(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The letter that stands for a byte in GPT-2's alphabet.
pub(crate) fn letter_of_byte(byte: u8) -> char {
    match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=0x20 => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte - 0x7f)).unwrap_or_default(),
        0xad => '\u{143}',
    }
}

/// The byte of an entry such as `<0x0A>`.
pub(crate) fn byte_of_tag(stored: &[u8]) -> Option<u8> {
    let digits = stored.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let plain = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

/// The entry of a byte, as SentencePiece writes it.
pub(crate) fn tag_of_byte(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                out.extend_from_slice(to);
                rest = after;
            }
            None => {
                out.push(*first);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    out
}

/// Undoes the escapes of RWKV's vocabularies, as llama.cpp's `llama_unescape_rwkv_token` does.
pub(crate) fn unescape(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored.len());
    let mut bytes = stored.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let digit = |byte: u8| if byte >= b'a' { byte - b'a' + 10 } else { byte.wrapping_sub(b'0') };
                let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else { break };
                out.push((digit(high) << 4).wrapping_add(digit(low)));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Reads every tokenizer that the files of one directory hold, each file with its name; the one that loaders prefer
/// comes first. Files that have nothing to do with tokenizers are ignored: only first bytes are read of them.
pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a Source)>) -> Vec<Tokenizer> {
    let files: Vec<File> = files
        .into_iter()
        .filter_map(|(name, source)| Some(File { name, source, format: probe::identify(source).ok()?.format.id }))
        .collect();
    let configuration = config::read(&files);
    let of = |format: &'static str| files.iter().filter(move |file| file.format == format);
    let named = |ending: &'static str| files.iter().find(move |file| summary::base(file.name) == ending);
    let mut found = Vec::new();
    found.extend(of("tokenizer-json").map(tokenizer_json::read));
    found.extend(of("tekken").map(tekken::read));
    found.extend(of("sentencepiece").map(sentencepiece::read));
    found.extend(of("tiktoken").map(tiktoken::read));
    found.extend(of("json").filter(|file| tiktoken::is_json(file.source)).map(tiktoken::read_json));
    if let Some(file) = named("vocab.json").or_else(|| named("encoder.json")).filter(|file| file.format == "json") {
        found.push(vocab::read_json(file, named("merges.txt").or_else(|| named("vocab.bpe"))));
    }
    if let Some(file) = named("vocab.txt").filter(|file| file.format == "text") {
        found.push(vocab::read_text(file));
    }
    for tokenizer in &mut found {
        tokenizer.take_configuration(&configuration);
        tokenizer.settle();
    }
    found
}

/// Reads every tokenizer of a model: the one within a GGUF first, then those of the files beside the weights.
pub fn of(model: &Model) -> Vec<Tokenizer> {
    let mut found = Vec::new();
    if let Some(file) = model.gguf() {
        found.extend(gguf::read(&file.path, &file.source, &file.container));
    }
    let files =
        model.files.iter().filter(|file| file.container.tensors.is_empty() && file.container.format.id != "gguf");
    found.extend(read(files.map(|file| (file.path.as_str(), &file.source))));
    found
}

/// Reads the tokenizer that a GGUF carries; `None` where it carries none.
pub fn of_gguf(name: &str, source: &Source, container: &Container) -> Option<Tokenizer> {
    gguf::read(name, source, container)
}

/// A file of a directory, with what its first bytes say it is.
pub(crate) struct File<'a> {
    name: &'a str,
    source: &'a Source,
    format: &'static str,
}

impl File<'_> {
    /// The beginnings of the tokenizer that it holds.
    fn tokenizer(&self, kind: &'static str) -> Tokenizer {
        Tokenizer { kind, source: self.name.to_string(), files: vec![self.source.clone()], ..Tokenizer::default() }
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        summary::whole(self.source)
    }
}

/// Decodes base64 in its plain alphabet, padded or not; `None` for anything else.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let mut held = 0u32;
    let mut bits = 0;
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_for_all_bytes() {
        for byte in 0..=255 {
            assert_eq!(byte_of_letter(letter_of_byte(byte)), Some(byte));
        }
        assert_eq!((letter_of_byte(b' '), letter_of_byte(b'\n'), letter_of_byte(0xad)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(byte_of_letter('\u{144}'), None);
    }

    #[test]
    fn notations_give_bytes() {
        assert_eq!(Notation::ByteLetters.bytes("ĠÃ¶".as_bytes()), " ö".as_bytes());
        assert_eq!(Notation::Blanks.bytes("▁a▁".as_bytes()), b" a ");
        assert_eq!(Notation::Blanks.bytes(b"<0xE2>"), b"\xe2");
        assert_eq!(Notation::Escapes.bytes(b"\\x0a\\\\\\n"), b"\n\\\n");
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64(b"IQ=="), Some(b"!".to_vec()));
        assert_eq!(base64(b"INA="), Some(b" \xd0".to_vec()));
        assert_eq!(base64(b"Zm9v"), Some(b"foo".to_vec()));
        assert_eq!(base64(b"Z"), None);
        assert_eq!(base64(b"Z*=="), None);
    }
}
