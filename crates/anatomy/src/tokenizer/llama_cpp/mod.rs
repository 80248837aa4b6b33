//! A GGUF's tokenizer, run as llama.cpp runs it: its own algorithms, not those of the library that the model came
//! with, since they differ in places and these ids are what a GGUF is used with.
//!
//! From `src/llama-vocab.cpp` of llama.cpp (`llama_vocab::impl`), as of the autumn of 2026.

mod bpe;
mod decode;
mod pre;
mod split;

mod unicode;
mod unigram;
mod vocabulary;
mod words;

use std::borrow::Cow;
use std::ops::Range;

use super::GgufSettings;
use super::run::{Aligned, Options, Piece, Trie, score_merge};
use super::{Details, Tokenizer};
use crate::error::{Error, ErrorKind, Result};
use vocabulary::{CONTROL, LSTRIP, RSTRIP, UNKNOWN, Vocabulary};

pub(super) use pre::too_long;
pub(crate) use vocabulary::END_OF_GENERATION;

/// Whether text can be cut into words as llama.cpp cuts it for this name.
pub(crate) fn knows_pre_tokenizer(name: &str) -> bool {
    pre::Row::of(name).is_ok()
}

/// Whether llama.cpp puts the begin before a text for this name, where the file does not say.
pub(crate) fn pre_tokenizer_adds_bos(name: &str) -> bool {
    pre::Row::of(name).is_ok_and(|row| row.bos)
}

/// A GGUF's tokenizer, ready to run.
pub(super) struct LlamaCpp {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    settings: Box<GgufSettings>,
}

enum Algorithm {
    /// Merges by rank.
    Bpe(bpe::Bpe),
    /// SentencePiece's merges by score.
    Scores,
    /// BERT's longest matches.
    WordPiece(Trie),
    /// SentencePiece's best path.
    Unigram(unigram::Unigram),
    /// Longest matches over bytes.
    Rwkv(Trie),
    /// Best path over characters.
    Plamo2(words::Plamo2),
}

/// A text between special tokens, or one of these.
pub(super) enum Fragment {
    Text(Range<usize>),
    Token(u32, Range<usize>),
}

impl LlamaCpp {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let Details::Gguf(settings) = &tokenizer.details else {
            return Err(Error::new(ErrorKind::Usage, "not a GGUF's tokenizer"));
        };
        let mut vocabulary = Vocabulary::new(tokenizer, settings)?;
        let algorithm = match settings.model.as_str() {
            "gpt2" | "gemma4" | "hybriddna" | "whitespace" => {
                Algorithm::Bpe(bpe::Bpe::new(tokenizer, settings, &mut vocabulary)?)
            }
            "llama" => Algorithm::Scores,
            "bert" => Algorithm::WordPiece(words::wordpiece_trie(tokenizer)?),
            "t5" => Algorithm::Unigram(unigram::Unigram::new(tokenizer, &settings.charsmap)?),
            "rwkv" => Algorithm::Rwkv(words::rwkv_trie(tokenizer)?),
            "plamo2" => Algorithm::Plamo2(words::Plamo2::new(tokenizer)?),
            other => {
                let message = format!("the tokenizer model {other:?} is none that llama.cpp knows");
                return Err(Error::new(ErrorKind::Unsupported, message).help("a newer version may know it"));
            }
        };
        Ok(LlamaCpp { vocabulary, algorithm, settings: settings.clone() })
    }

    /// `llama_tokenize`
    pub fn encode(&self, text: &str, options: Options) -> Result<Vec<Piece>> {
        let fragments = self.partition(text, options.parse_special);
        let vocabulary = &self.vocabulary;
        let mut out = Vec::new();
        let end = text.len();
        let (first, last) = match &self.algorithm {
            Algorithm::WordPiece(_) => (Some(vocabulary.bos), Some(vocabulary.sep)),
            Algorithm::Rwkv(_) | Algorithm::Plamo2(_) => (None, None),
            _ => (vocabulary.add_bos.then_some(vocabulary.bos), self.ends().then_some(vocabulary.eos)),
        };
        let around = |token: Option<Option<u32>>, what: &str| match token.filter(|_| options.special) {
            Some(None) => {
                let message = format!("the tokenizer puts {what} token round a text, but the file names none");
                Err(Error::new(ErrorKind::Unsupported, message).help("encode without special tokens"))
            }
            token => Ok(token.flatten()),
        };
        let first = around(first, "a begin")?;
        let last = around(last, "an end")?;
        out.extend(first.map(|id| Piece { id, span: 0..0 }));
        let mut after_special = true;
        for fragment in fragments {
            match fragment {
                Fragment::Token(id, span) => {
                    out.push(Piece { id, span });
                    after_special = true;
                }
                Fragment::Text(span) => {
                    self.encode_text(text, span, after_special, &mut out)?;
                    after_special = false;
                }
            }
        }
        out.extend(last.map(|id| Piece { id, span: end..end }));
        Ok(out)
    }

    fn ends(&self) -> bool {
        self.vocabulary.add_eos
    }

    fn encode_text(&self, text: &str, span: Range<usize>, after_special: bool, out: &mut Vec<Piece>) -> Result<()> {
        let vocabulary = &self.vocabulary;
        let raw = text.get(span.clone()).unwrap_or_default();
        let base = span.start;
        let mut push = |id: u32, span: Range<usize>| {
            out.push(Piece { id, span: base + span.start..base + span.end });
        };
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(raw, vocabulary, &mut push),
            Algorithm::Scores => {
                let aligned = Aligned::blanks(raw, vocabulary.add_space_prefix && after_special);
                let id = |piece: &[u8]| vocabulary.id(piece);
                let mut failure = None;
                let lookup = |piece: &[u8], _| id(piece).map(|id| vocabulary.score(id));
                score_merge(&aligned.bytes, lookup, |range| {
                    let piece = aligned.bytes.get(range.clone()).unwrap_or_default();
                    let source = aligned.source(&range);
                    match id(piece) {
                        Some(id) => push(id, source),
                        None => {
                            for byte in piece {
                                match vocabulary.byte(*byte) {
                                    Some(id) => push(id, source.clone()),
                                    None => failure = Some(*byte),
                                }
                            }
                        }
                    }
                });
                match failure {
                    Some(byte) => Err(no_byte(byte)),
                    None => Ok(()),
                }
            }
            Algorithm::WordPiece(pieces) => {
                words::wordpiece(raw, pieces, vocabulary, &self.settings, &mut push);
                Ok(())
            }
            Algorithm::Unigram(unigram) => unigram.encode(raw, vocabulary, &mut push),
            Algorithm::Rwkv(trie) => words::rwkv(raw, trie, vocabulary, &mut push),
            Algorithm::Plamo2(plamo2) => plamo2.encode(raw, vocabulary, &mut push),
        }
    }

    /// Cuts out special tokens, the longest first (`tokenizer_st_partition`).
    fn partition(&self, text: &str, parse_special: bool) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if text.is_empty() {
            return fragments;
        }
        fragments.push(Fragment::Text(0..text.len()));
        let bytes = text.as_bytes();
        let pairs = Pairs::new(bytes);
        for id in &self.vocabulary.special {
            let attributes = self.vocabulary.attributes(*id);
            if !parse_special && attributes & (CONTROL | UNKNOWN) != 0 {
                continue;
            }
            let token = self.vocabulary.text(*id);
            if !pairs.may_hold(token) {
                continue;
            }
            let finder = memchr::memmem::Finder::new(token);
            if finder.find(bytes).is_none() {
                continue;
            }
            let mut next = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                let Fragment::Text(range) = fragment else {
                    next.push(fragment);
                    continue;
                };
                let mut from = range.start;
                while let Some(at) = bytes.get(from..range.end).and_then(|rest| finder.find(rest)) {
                    let start = from + at;
                    let end = start + token.len();
                    let mut before = start;
                    if attributes & LSTRIP != 0 {
                        before -= blanks(bytes.get(from..start).unwrap_or_default().iter().rev());
                    }
                    if before > from {
                        next.push(Fragment::Text(from..before));
                    }
                    next.push(Fragment::Token(*id, start..end));
                    from = end;
                    if attributes & RSTRIP != 0 {
                        from += blanks(bytes.get(end..range.end).unwrap_or_default().iter());
                    }
                }
                if from < range.end {
                    next.push(Fragment::Text(from..range.end));
                }
            }
            fragments = next;
        }
        fragments
    }

    /// The text of an id, as bytes.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        self.decode_one(id, true)
    }
}

/// Whether words that are tokens are taken whole, by the name of the pre-tokenizer.
pub(super) fn words_whole(settings: &GgufSettings) -> bool {
    settings.pre.as_deref().is_some_and(|name| pre::Row::of(name).is_ok_and(|row| !row.merges))
}

fn blanks<'a>(bytes: impl Iterator<Item = &'a u8>) -> usize {
    bytes.take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count()
}

pub(super) fn no_byte(byte: u8) -> Error {
    let message = format!("the vocabulary has no entry for the byte 0x{byte:02x} of this text");
    Error::new(ErrorKind::Unsupported, message).help("the vocabulary is damaged: some entries of bytes are missing")
}

/// Which pairs of bytes a text has: most special tokens are ruled out by their first.
struct Pairs(Vec<u64>);

impl Pairs {
    fn new(bytes: &[u8]) -> Self {
        let mut pairs = vec![0; 1024];
        for (first, second) in bytes.iter().zip(bytes.iter().skip(1)) {
            let pair = usize::from(*first) << 8 | usize::from(*second);
            if let Some(word) = pairs.get_mut(pair / 64) {
                *word |= 1 << (pair % 64);
            }
        }
        Pairs(pairs)
    }

    fn may_hold(&self, token: &[u8]) -> bool {
        let [first, second, ..] = token else { return !token.is_empty() };
        let pair = usize::from(*first) << 8 | usize::from(*second);
        self.0.get(pair / 64).is_some_and(|word| word >> (pair % 64) & 1 == 1)
    }
}

/// Blanks as `▁`.
fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(' ') { text.replace(' ', "▁").into() } else { text.into() }
}
