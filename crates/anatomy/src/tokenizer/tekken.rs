//! Mistral's `tekken.json`: ranks as tiktoken has them, behind a block of special tokens.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::lists::Each;
use super::{
    AddedToken, Details, ENTRY_BROKEN, Entry, EntryKind, File, MAX_ENTRIES, Notation, Role, Tokenizer, base64,
};

/// Tekken's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TekkenSettings {
    /// The regular expression that cuts words.
    pub pattern: Option<String>,
    /// `v3`, `v7`, …
    pub version: Option<String>,
    /// Ids that special tokens take, before the pieces'.
    pub special: u64,
}

/// Special tokens of files that list none (`Tekkenizer.DEPRECATED_SPECIAL_TOKENS` of mistral-common 1.13).
const DEFAULT_SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

#[derive(Deserialize)]
struct Config {
    pattern: Option<String>,
    default_vocab_size: Option<u64>,
    default_num_special_tokens: Option<u64>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct SpecialToken {
    rank: u64,
    token_str: String,
}

#[derive(Default)]
struct Tekken {
    config: Option<Config>,
    pieces: Vec<Entry>,
    special: Option<Vec<SpecialToken>>,
    refused: u64,
}

pub(super) fn read(file: &File) -> Tokenizer {
    let mut tokenizer = file.tokenizer("tekken");
    tokenizer.model = "bpe".to_string();
    tokenizer.notation = Notation::Plain;
    tokenizer.byte_fallback = true;
    let mut found = Tekken::default();
    let read = file.bytes().and_then(|bytes| {
        let read = serde_json::Deserializer::from_slice(&bytes).deserialize_map(&mut found);
        read.map_err(|error| super::summary::json_error(file.source, &bytes, &error))
    });
    if let Err(error) = read {
        tokenizer.unread(&error);
    }
    fill(&mut tokenizer, found);
    tokenizer
}

fn fill(tokenizer: &mut Tokenizer, found: Tekken) {
    let Tekken { config, pieces, special, mut refused } = found;
    let config = config.as_ref();
    let listed = special.as_ref().map_or(DEFAULT_SPECIAL.len(), Vec::len) as u64;
    let reserved = config.and_then(|config| config.default_num_special_tokens).unwrap_or(listed);
    let size = config.and_then(|config| config.default_vocab_size).unwrap_or(u64::MAX);
    let special: Vec<(u64, String)> = match special {
        Some(listed) => listed.into_iter().map(|token| (token.rank, token.token_str)).collect(),
        None => (0..).zip(DEFAULT_SPECIAL.map(str::to_string)).collect(),
    };
    // What is listed is followed by placeholders up to the reserved number.
    let listed = special.len() as u64;
    let most = reserved.min(MAX_ENTRIES as u64);
    let fillers = (listed..most).map(|id| (id, format!("<SPECIAL_{id}>")));
    for (id, content) in special.into_iter().chain(fillers) {
        let Some(id) = u32::try_from(id).ok().filter(|id| u64::from(*id) < reserved) else {
            refused += 1;
            continue;
        };
        let stored = content.as_bytes().into();
        tokenizer.entries.push(Entry { id, stored, score: None, kind: EntryKind::Control });
        let source = tokenizer.source.clone();
        tokenizer.added.push(AddedToken { id: Some(id), content, special: true, source, ..AddedToken::default() });
    }
    for mut piece in pieces {
        // The list may be longer than what is used of it.
        let id = u64::from(piece.id) + reserved;
        if id >= size {
            continue;
        }
        match u32::try_from(id) {
            Ok(id) => {
                piece.id = id;
                tokenizer.entries.push(piece);
            }
            Err(_) => refused += 1,
        }
    }
    if refused > 0 {
        tokenizer
            .problem(&ENTRY_BROKEN, format!("{refused} entries have ids or texts that cannot be, or are too many"));
    }
    let settings = TekkenSettings {
        pattern: config.and_then(|config| config.pattern.clone()),
        version: config.and_then(|config| config.version.clone()),
        special: reserved,
    };
    tokenizer.pre_tokenizer = settings.pattern.iter().map(|pattern| format!("cut by the pattern {pattern}")).collect();
    tokenizer.details = Details::Tekken(settings);
    for (role, token) in [("unk", "<unk>"), ("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>")] {
        let id = tokenizer.added.iter().find(|added| added.content == token).and_then(|added| added.id);
        if let Some(id) = id {
            let stated = format!("{}: special_tokens", tokenizer.source);
            let token = Some(token.to_string());
            tokenizer.roles.push(Role { role, token, id: Some(id.into()), by_id: true, stated });
        }
    }
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
                "vocab" => drop(map.next_value_seed(Each::new(|piece| self.piece(piece)))?),
                "special_tokens" => self.special = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Piece<'a> {
    rank: u64,
    #[serde(borrow)]
    token_bytes: Cow<'a, str>,
}

impl Tekken {
    fn piece(&mut self, Piece { rank, token_bytes }: Piece) {
        match (u32::try_from(rank), base64(token_bytes.as_bytes())) {
            (Ok(id), Some(piece)) if self.pieces.len() < MAX_ENTRIES => {
                self.pieces.push(Entry { id, stored: piece.into(), score: None, kind: EntryKind::Normal });
            }
            _ => self.refused += 1,
        }
    }
}
