//! The vocabulary with llama.cpp's defaults, and the attributes that it gives tokens by their names.

use std::collections::HashMap;

use super::pre::Row;
use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::{EntryKind, GgufSettings, Tokenizer};

/// `LLAMA_TOKEN_ATTR_UNKNOWN`
pub(super) const UNKNOWN: u8 = 1;
/// `LLAMA_TOKEN_ATTR_NORMAL`
pub(super) const NORMAL: u8 = 2;
/// `LLAMA_TOKEN_ATTR_CONTROL`
pub(super) const CONTROL: u8 = 4;
/// `LLAMA_TOKEN_ATTR_USER_DEFINED`
pub(super) const USER_DEFINED: u8 = 8;
/// `LLAMA_TOKEN_ATTR_BYTE`
pub(super) const BYTE: u8 = 16;
/// `LLAMA_TOKEN_ATTR_LSTRIP`
pub(super) const LSTRIP: u8 = 32;
/// `LLAMA_TOKEN_ATTR_RSTRIP`
pub(super) const RSTRIP: u8 = 64;

type Hash = foldhash::fast::RandomState;

/// The vocabulary as llama.cpp holds it.
pub(super) struct Vocabulary {
    texts: Vec<Box<[u8]>>,
    scores: Vec<f32>,
    attributes: Vec<u8>,
    ids: HashMap<Box<[u8]>, u32, Hash>,
    /// Tokens that are found in text before anything else, the longest first.
    pub special: Vec<u32>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub sep: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_space_prefix: bool,
    pub remove_extra_whitespaces: bool,
    /// Whether decoding takes out blanks before punctuation.
    pub clean_spaces: bool,
    /// Whether `▁` stands for a blank.
    pub escape: bool,
    /// The row of the pre-tokenizer, where there is one.
    pub pre: Option<Row>,
}

impl Vocabulary {
    pub fn new(tokenizer: &Tokenizer, settings: &GgufSettings) -> Result<Self> {
        let mut ids = HashMap::with_capacity_and_hasher(tokenizer.entries.len(), Hash::default());
        for entry in &tokenizer.entries {
            if ids.insert(entry.stored.clone(), entry.id).is_some() {
                let text = String::from_utf8_lossy(&entry.stored).into_owned();
                let message = format!("the token {text:?} stands twice in the vocabulary; llama.cpp stops there");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        let attribute = |kind| match kind {
            EntryKind::Normal => NORMAL,
            EntryKind::Unknown => UNKNOWN,
            EntryKind::Control => CONTROL,
            EntryKind::UserDefined => USER_DEFINED,
            EntryKind::Byte => BYTE,
            EntryKind::Unused => 0,
        };
        let mut vocabulary = Vocabulary {
            texts: tokenizer.entries.iter().map(|entry| entry.stored.clone()).collect(),
            scores: tokenizer.entries.iter().map(|entry| entry.score.unwrap_or(0.0)).collect(),
            attributes: tokenizer.entries.iter().map(|entry| attribute(entry.kind)).collect(),
            ids,
            special: Vec::new(),
            bos: None,
            eos: None,
            unk: None,
            sep: None,
            add_bos: false,
            add_eos: false,
            add_space_prefix: false,
            remove_extra_whitespaces: settings.remove_extra_whitespaces.unwrap_or(false),
            clean_spaces: false,
            escape: true,
            pre: None,
        };
        vocabulary.defaults(tokenizer, settings)?;
        vocabulary.find_special();
        vocabulary.set_strips(settings);
        Ok(vocabulary)
    }

    /// Defaults of each model, then what the file states.
    fn defaults(&mut self, tokenizer: &Tokenizer, settings: &GgufSettings) -> Result<()> {
        match settings.model.as_str() {
            "llama" => {
                (self.bos, self.eos, self.unk) = (Some(1), Some(2), Some(0));
                (self.add_bos, self.add_space_prefix) = (true, true);
            }
            "bert" => {
                (self.bos, self.unk, self.sep) = (Some(101), Some(100), Some(102));
                (self.add_bos, self.clean_spaces) = (true, true);
            }
            "t5" => {
                (self.eos, self.unk, self.add_eos) = (Some(1), Some(2), true);
            }
            "plamo2" => (self.bos, self.eos, self.unk) = (Some(1), Some(2), Some(0)),
            "rwkv" => {}
            _ => {
                let gemma = settings.model == "gemma4";
                let name = if gemma { "gemma4" } else { settings.pre.as_deref().unwrap_or("default") };
                let row = Row::of(name)?;
                if !gemma {
                    (self.bos, self.eos) = (Some(11), Some(11));
                }
                if row.no_bos {
                    self.bos = None;
                }
                self.add_bos = row.bos;
                self.clean_spaces = row.clean;
                self.escape = row.escape;
                self.pre = Some(row);
            }
        }
        self.add_space_prefix = settings.add_space_prefix.unwrap_or(self.add_space_prefix);
        let count = self.texts.len() as u64;
        let within = |id: u64| u32::try_from(id).ok().filter(|_| id < count);
        // Of one role, the last key that llama.cpp knows counts; it does not know the separator spelt right.
        let stated = |role: &str| {
            let known = tokenizer.role(role).filter(|stated| !stated.stated.ends_with("separator_token_id"));
            known.filter_map(|stated| within(stated.id?)).last()
        };
        for (role, slot) in
            [("bos", &mut self.bos), ("eos", &mut self.eos), ("unk", &mut self.unk), ("sep", &mut self.sep)]
        {
            *slot = stated(role).or(slot.filter(|id| u64::from(*id) < count));
        }
        self.add_bos = settings.add_bos.unwrap_or(self.add_bos);
        self.add_eos = settings.add_eos.unwrap_or(self.add_eos);
        // Files of Gemma 4 that say otherwise were made wrongly (llama.cpp, pull request 21500).
        self.add_bos |= self.pre.as_ref().is_some_and(|row| row.newlines);
        let mut fim: Vec<(&str, bool)> = Vec::new();
        for (role, _) in FILL_IN {
            fim.push((role, stated(role).is_some()));
        }
        let eom = stated("eom").is_some();
        self.name_control(&fim, eom);
        Ok(())
    }

    /// Tokens of well-known names are marks, whatever the file says.
    fn name_control(&mut self, fill_in: &[(&str, bool)], eom: bool) {
        for (role, names) in FILL_IN {
            if fill_in.iter().any(|(known, stated)| *known == role && *stated) {
                continue;
            }
            // Of several, llama.cpp marks the one that its hash table holds first; real vocabularies have one.
            if let Some(id) = names.iter().find_map(|name| self.id(name.as_bytes())) {
                self.mark(id, CONTROL);
            }
        }
        if !eom && let Some(id) = self.id(b"<|eom_id|>") {
            self.mark(id, CONTROL);
        }
        for id in END_OF_GENERATION.iter().filter_map(|name| self.id(name.as_bytes())).collect::<Vec<_>>() {
            self.mark(id, CONTROL);
        }
        for name in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
            if let Some(id) = self.id(name.as_bytes()) {
                self.set(id, USER_DEFINED);
            }
        }
        let has = |name: &str| self.id(name.as_bytes()).is_some();
        let call = has("<|call|>") || has("<|calls|>");
        let harmony = call && (has("<|return|>") || has("<|flush|>"));
        let plamo = self.eos.is_some_and(|eos| self.text(eos) == b"<|plamo:eos|>");
        let ends_otherwise = has("<|tool_response>") || plamo;
        if let Some(id) = self.id(b"<|end|>").filter(|_| harmony) {
            self.set(id, USER_DEFINED);
        }
        if let Some(id) = self.id(b"</s>").filter(|_| ends_otherwise) {
            self.set(id, NORMAL);
        }
    }

    fn find_special(&mut self) {
        let ids = (0u32..).zip(&self.attributes);
        let special = ids.filter(|(_, attribute)| **attribute & (CONTROL | USER_DEFINED | UNKNOWN) != 0);
        let mut special: Vec<u32> = special.map(|(id, _)| id).collect();
        special.sort_by_key(|id| std::cmp::Reverse(self.text(*id).len()));
        self.special = special;
    }

    /// Attributes that files do not state, by the names of models.
    fn set_strips(&mut self, settings: &GgufSettings) {
        let pre = settings.pre.as_deref().unwrap_or_default();
        let name = settings.name.to_ascii_lowercase();
        let any = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
            || any(&settings.architecture, &["nomic-bert-moe", "jina-bert-v3"])
        {
            if let Some(id) = self.id(b"<mask>") {
                self.mark(id, LSTRIP);
            }
        } else if any(&name, &["phi-3", "phi3"]) {
            for id in self.special.clone().into_iter().chain(self.id(b"</s>")) {
                self.mark(id, RSTRIP);
            }
            for token in ["<unk>", "<s>", "<|endoftext|>"] {
                if let Some(id) = self.id(token.as_bytes()) {
                    self.set(id, self.attributes(id) & !RSTRIP);
                }
            }
        } else if any(&name, &["modern-bert"])
            && let Some(id) = self.id(b"[MASK]")
        {
            self.mark(id, LSTRIP);
        }
    }

    fn mark(&mut self, id: u32, attribute: u8) {
        self.set(id, self.attributes(id) | attribute);
    }

    fn set(&mut self, id: u32, attributes: u8) {
        if let Some(slot) = usize::try_from(id).ok().and_then(|id| self.attributes.get_mut(id)) {
            *slot = attributes;
        }
    }

    /// The id of a text.
    pub fn id(&self, text: &[u8]) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// The text of an id.
    pub fn text(&self, id: u32) -> &[u8] {
        usize::try_from(id).ok().and_then(|id| self.texts.get(id)).map_or(&[], |text| text)
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    pub fn score(&self, id: u32) -> f32 {
        usize::try_from(id).ok().and_then(|id| self.scores.get(id)).copied().unwrap_or(0.0)
    }

    pub fn attributes(&self, id: u32) -> u8 {
        usize::try_from(id).ok().and_then(|id| self.attributes.get(id)).copied().unwrap_or(0)
    }

    /// The entry of a byte, as SentencePiece's vocabularies have it.
    pub fn byte(&self, byte: u8) -> Option<u32> {
        self.id(crate::tokenizer::tag_of_byte(byte).as_bytes()).or_else(|| self.id(&[byte]))
    }
}

/// Marks for filling in, by role.
const FILL_IN: [(&str, &[&str]); 6] = [
    (
        "fim-prefix",
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        "fim-suffix",
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        "fim-middle",
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    ("fim-pad", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("fim-repository", &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("fim-file", &["<|file_sep|>"]),
];

/// Tokens after which llama.cpp stops; those that end a turn are among them.
pub(crate) const END_OF_GENERATION: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
