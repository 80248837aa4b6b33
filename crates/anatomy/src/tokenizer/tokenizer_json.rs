//! `tokenizer.json` of the library `tokenizers`: everything in one file.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::lists::{Each, Pair, Vocabulary};
use super::{
    AddedToken, ENTRY_BROKEN, Entry, EntryKind, File, MAX_ENTRIES, Merges, Notation, Role, Tokenizer,
    words::{self, Stage},
};
use crate::error::Result;

/// Settings longer than this are not taken apart; the longest hold a table for normalising of some 300 KB.
const MAX_SETTINGS: usize = 16 << 20;

pub(super) fn read(file: &File) -> Tokenizer {
    let mut tokenizer = file.tokenizer("tokenizer-json");
    if let Err(error) = read_into(file, &mut tokenizer) {
        tokenizer.unread(&error);
    }
    tokenizer.mark_added();
    tokenizer
}

fn read_into(file: &File, tokenizer: &mut Tokenizer) -> Result<()> {
    let bytes = file.bytes()?;
    let mut whole = Whole::default();
    let mut read = whole.read(&bytes, true);
    if read.is_err() {
        // Once more in one go, which gives what stands before the fault, and its place.
        whole = Whole::default();
        read = whole.read(&bytes, false);
    }
    let Whole { vocabulary, merges, has_merges, added, unknown_token, unknown_id, settings, .. } = whole;
    tokenizer.model = whole.model;
    tokenizer.byte_fallback = whole.byte_fallback;
    tokenizer.words_whole = whole.words_whole;
    tokenizer.truncation = whole.truncation;
    tokenizer.padding = whole.padding;
    tokenizer.entries = vocabulary.list;
    let refused = vocabulary.refused + added.refused + merges.refused;
    tokenizer.merges = has_merges.then_some(merges.list);
    tokenizer.added = added.list;
    tokenizer.added.iter_mut().for_each(|token| token.source.clone_from(&tokenizer.source));
    if tokenizer.model.is_empty() && read.is_err() {
        tokenizer.model = "unknown".to_string();
    } else if tokenizer.model.is_empty() {
        // Files of before 2020 do not name the type; only byte-pair encoding has merges.
        tokenizer.model = if tokenizer.merges.is_some() { "bpe" } else { "wordpiece" }.to_string();
    }
    if refused > 0 {
        tokenizer.problem(
            &ENTRY_BROKEN,
            format!("{refused} entries have ids or texts that no tokenizer can use, or are too many"),
        );
    }
    let [normalizer, pre_tokenizer, post_processor, decoder] = &settings;
    let byte_letters = words::mentions(pre_tokenizer, "ByteLevel")
        || words::mentions(normalizer, "ByteLevel")
        || words::mentions(decoder, "ByteLevel");
    tokenizer.notation = match tokenizer.model.as_str() {
        "wordpiece" => Notation::Continuation,
        "bpe" if byte_letters => Notation::ByteLetters,
        _ if words::mentions(decoder, "Metaspace")
            || words::mentions(pre_tokenizer, "Metaspace")
            || words::mentions(decoder, "ByteFallback")
            || tokenizer.byte_fallback =>
        {
            Notation::Blanks
        }
        _ => Notation::Plain,
    };
    tokenizer.byte_fallback |= byte_letters;
    tokenizer.normalizer = words::steps(normalizer, Stage::Before);
    tokenizer.pre_tokenizer = words::steps(pre_tokenizer, Stage::Before);
    tokenizer.post_processor = words::steps(post_processor, Stage::PostProcessor);
    tokenizer.decoder = words::steps(decoder, Stage::Decoder);
    if unknown_token.is_some() || unknown_id.is_some() {
        let stated = format!("{}: model", file.name);
        let by_id = unknown_token.is_none();
        tokenizer.roles.push(Role { role: "unk", token: unknown_token, id: unknown_id, by_id, stated });
    }
    for entry in &mut tokenizer.entries {
        if tokenizer.notation == Notation::Blanks && super::byte_of_tag(&entry.stored).is_some() {
            entry.kind = EntryKind::Byte;
        }
    }
    read.map_err(|error| super::summary::json_error(file.source, &bytes, &error))
}

/// A list that is read, up to the most that is read of any.
struct List<T> {
    list: Vec<T>,
    /// What cannot be, or is too much.
    refused: u64,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { list: Vec::new(), refused: 0 }
    }
}

impl<T> List<T> {
    fn push(&mut self, element: Option<T>) {
        match element {
            Some(element) if self.list.len() < MAX_ENTRIES => self.list.push(element),
            _ => self.refused += 1,
        }
    }
}

/// Merges that are read.
#[derive(Default)]
struct Pairs {
    list: Merges,
    refused: u64,
}

impl Pairs {
    /// What takes them in.
    fn seed<'de>(&mut self) -> impl DeserializeSeed<'de, Value = bool> {
        Each::new(|Pair(merge): Pair<'de>| {
            let taken = merge.is_some_and(|(left, right)| self.list.push(&left, &right));
            self.refused += u64::from(!taken);
        })
    }
}

/// The file, while it is read.
#[derive(Default)]
struct Whole<'de> {
    model: String,
    byte_fallback: bool,
    words_whole: bool,
    vocabulary: List<Entry>,
    merges: Pairs,
    has_merges: bool,
    added: List<AddedToken>,
    unknown_token: Option<String>,
    unknown_id: Option<u64>,
    truncation: Option<u64>,
    padding: Option<u64>,
    /// Normalizer, pre-tokenizer, post-processor, decoder.
    settings: [Value; 4],
    /// Whether the two long lists are put aside, to be read at the same time.
    apart: bool,
    aside: [Option<&'de RawValue>; 2],
}

impl<'de> Whole<'de> {
    fn read(&mut self, bytes: &'de [u8], apart: bool) -> serde_json::Result<()> {
        self.apart = apart;
        // To check all of a text at once is faster than string by string.
        match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::Deserializer::from_str(text).deserialize_map(&mut *self)?,
            Err(_) => serde_json::Deserializer::from_slice(bytes).deserialize_map(&mut *self)?,
        }
        let [vocabulary, merges] = self.aside;
        let (vocabulary, merges) = rayon::join(
            || vocabulary.map_or(Ok(()), |raw| self.vocabulary.seed().deserialize(raw)),
            || merges.map_or(Ok(false), |raw| self.merges.seed().deserialize(raw)),
        );
        self.has_merges |= merges?;
        vocabulary
    }
}

impl List<Entry> {
    /// What takes them in.
    fn seed<'de>(&mut self) -> impl DeserializeSeed<'de, Value = ()> {
        Vocabulary(|id, text: &str, score| {
            let entry = |id| Entry { id, stored: text.as_bytes().into(), score, kind: EntryKind::Normal };
            self.push(u32::try_from(id).ok().map(entry));
        })
    }
}

impl<'de> Visitor<'de> for &mut Whole<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a tokenizer")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let place =
                ["normalizer", "pre_tokenizer", "post_processor", "decoder"].iter().position(|name| *name == key);
            match &*key {
                "model" => map.next_value_seed(Model(self))?,
                "added_tokens" => drop(map.next_value_seed(Each::new(|token| self.added.added(token)))?),
                "truncation" => {
                    let cut: Option<Truncation> = map.next_value()?;
                    self.truncation = cut.and_then(|cut| cut.max_length);
                }
                "padding" => {
                    // `{"strategy": {"Fixed": 128}}`, or `"BatchLongest"`, which fills up to the longest of several.
                    let fill: Value = map.next_value()?;
                    self.padding = fill.pointer("/strategy/Fixed").and_then(Value::as_u64);
                }
                _ if place.is_some() => {
                    let raw: &RawValue = map.next_value()?;
                    if let Some(slot) = place.and_then(|place| self.settings.get_mut(place))
                        && raw.get().len() <= MAX_SETTINGS
                    {
                        *slot = serde_json::from_str(raw.get()).unwrap_or_default();
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The `truncation`.
#[derive(Deserialize)]
struct Truncation {
    max_length: Option<u64>,
}

/// A token of the list of added ones.
#[derive(Deserialize)]
#[serde(default)]
struct Added {
    id: Option<u64>,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

impl Default for Added {
    fn default() -> Self {
        Added {
            id: None,
            content: String::new(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: true,
            special: false,
        }
    }
}

impl List<AddedToken> {
    fn added(&mut self, token: Added) {
        let Added { id, content, single_word, lstrip, rstrip, normalized, special } = token;
        let id = id.and_then(|id| u32::try_from(id).ok());
        self.refused += u64::from(id.is_none());
        let source = String::new();
        self.push(Some(AddedToken { id, content, special, lstrip, rstrip, normalized, single_word, source }));
    }
}

/// The `model`.
struct Model<'a, 'de>(&'a mut Whole<'de>);

impl<'de> DeserializeSeed<'de> for Model<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Model<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a tokenizer's model")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Model(whole) = self;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "type" => whole.model = map.next_value::<String>()?.to_ascii_lowercase(),
                "vocab" if whole.apart => whole.aside[0] = Some(map.next_value()?),
                "merges" if whole.apart => whole.aside[1] = Some(map.next_value()?),
                "vocab" => map.next_value_seed(whole.vocabulary.seed())?,
                "merges" => whole.has_merges = map.next_value_seed(whole.merges.seed())?,
                "unk_id" => whole.unknown_id = map.next_value()?,
                "unk_token" => whole.unknown_token = map.next_value()?,
                "byte_fallback" => whole.byte_fallback = map.next_value::<Option<bool>>()?.unwrap_or(false),
                "ignore_merges" => whole.words_whole = map.next_value::<Option<bool>>()?.unwrap_or(false),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
