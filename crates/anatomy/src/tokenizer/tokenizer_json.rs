//! `tokenizer.json` of the library `tokenizers`: everything in one file.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{AddedToken, ENTRY_BROKEN, Entry, EntryKind, File, MAX_ENTRIES, Merge, Notation, Role, Tokenizer, words};
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
    let mut whole = Whole {
        tokenizer,
        unknown_token: None,
        unknown_id: None,
        merges: None,
        refused: 0,
        settings: [const { Value::Null }; 4],
    };
    let read = serde_json::Deserializer::from_slice(&bytes).deserialize_map(&mut whole);
    let Whole { tokenizer, unknown_token, unknown_id, merges, refused, settings } = whole;
    tokenizer.merges = merges;
    if tokenizer.model.is_empty() {
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
    tokenizer.normalizer = words::steps(normalizer);
    tokenizer.pre_tokenizer = words::steps(pre_tokenizer);
    tokenizer.post_processor = words::steps(post_processor);
    tokenizer.decoder = words::steps(decoder);
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
    read.map_err(|error| super::summary::json_error(file.source, &error))
}

/// The file, while it is read.
struct Whole<'a> {
    tokenizer: &'a mut Tokenizer,
    unknown_token: Option<String>,
    unknown_id: Option<u64>,
    merges: Option<Vec<Merge>>,
    refused: u64,
    /// Normalizer, pre-tokenizer, post-processor, decoder.
    settings: [Value; 4],
}

impl Whole<'_> {
    fn entry(&mut self, id: u64, text: &str, score: Option<f32>) {
        match u32::try_from(id) {
            Ok(id) if self.tokenizer.entries.len() < MAX_ENTRIES => {
                self.tokenizer.entries.push(Entry {
                    id,
                    stored: text.as_bytes().into(),
                    score,
                    kind: EntryKind::Normal,
                });
            }
            _ => self.refused += 1,
        }
    }
}

impl<'de> Visitor<'de> for &mut Whole<'_> {
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
                "added_tokens" => map.next_value_seed(Added(self))?,
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

struct Added<'a, 'b>(&'a mut Whole<'b>);

impl<'de> DeserializeSeed<'de> for Added<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Added<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of added tokens")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        #[derive(Deserialize)]
        #[serde(default)]
        struct Token {
            id: Option<u64>,
            content: String,
            single_word: bool,
            lstrip: bool,
            rstrip: bool,
            normalized: bool,
            special: bool,
        }
        impl Default for Token {
            fn default() -> Self {
                Token {
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
        while let Some(token) = list.next_element::<Token>()? {
            if self.0.tokenizer.added.len() >= MAX_ENTRIES {
                self.0.refused += 1;
                continue;
            }
            let Token { id, content, single_word, lstrip, rstrip, normalized, special } = token;
            let source = self.0.tokenizer.source.clone();
            let id = id.and_then(|id| u32::try_from(id).ok());
            self.0.refused += u64::from(id.is_none());
            self.0.tokenizer.added.push(AddedToken {
                id,
                content,
                special,
                lstrip,
                rstrip,
                normalized,
                single_word,
                source,
            });
        }
        Ok(())
    }
}

/// The `model`.
struct Model<'a, 'b>(&'a mut Whole<'b>);

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
        let Model(whole) = self;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "type" => whole.tokenizer.model = map.next_value::<String>()?.to_ascii_lowercase(),
                "vocab" => map.next_value_seed(Vocabulary(whole))?,
                "merges" => map.next_value_seed(Merges(whole))?,
                "unk_id" => whole.unknown_id = map.next_value()?,
                "unk_token" => whole.unknown_token = map.next_value()?,
                "byte_fallback" => whole.tokenizer.byte_fallback = map.next_value::<Option<bool>>()?.unwrap_or(false),
                "ignore_merges" => whole.tokenizer.words_whole = map.next_value::<Option<bool>>()?.unwrap_or(false),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A vocabulary: a map from pieces to ids, or a list of pieces with scores.
struct Vocabulary<'a, 'b>(&'a mut Whole<'b>);

impl<'de> DeserializeSeed<'de> for Vocabulary<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Vocabulary<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        while let Some((Key(piece), id)) = map.next_entry::<Key<'de>, u64>()? {
            self.0.entry(id, &piece, None);
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        #[derive(Deserialize)]
        struct Piece<'a>(#[serde(borrow)] Cow<'a, str>, f64);
        let mut id = 0;
        while let Some(Piece(piece, score)) = list.next_element()? {
            // Scores are 32-bit numbers that were written out in decimals.
            #[allow(clippy::cast_possible_truncation)]
            let score = score as f32;
            self.0.entry(id, &piece, Some(score));
            id += 1;
        }
        Ok(())
    }
}

/// Merges: `"a b"` or, since 2024, `["a", "b"]`.
struct Merges<'a, 'b>(&'a mut Whole<'b>);

impl<'de> DeserializeSeed<'de> for Merges<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merges<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Pair(Box<str>, Box<str>),
            Line(String),
        }
        let merges = self.0.merges.get_or_insert_default();
        while let Some(written) = list.next_element()? {
            let merge = match written {
                Written::Pair(left, right) => Some(Merge { left, right }),
                Written::Line(line) => {
                    line.split_once(' ').map(|(left, right)| Merge { left: left.into(), right: right.into() })
                }
            };
            match merge {
                Some(merge) if merges.len() < MAX_ENTRIES => merges.push(merge),
                _ => self.0.refused += 1,
            }
        }
        Ok(())
    }
}
