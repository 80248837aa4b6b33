//! Running a tokenizer: text to ids with their places, and back.

mod aligned;
mod bpe_ranks;
mod charsmap;
mod library;
mod prepared;
mod scores;
mod sentencepiece;
mod trie;

use std::ops::Range;

use super::Tokenizer;
use super::llama_cpp::LlamaCpp;
use crate::error::{Error, ErrorKind, Result};

pub(super) use aligned::Aligned;
pub(super) use charsmap::Charsmap;
pub(super) use scores::{character, score_merge};
pub(super) use trie::{Trie, Work};

/// A tokenizer, ready to run.
pub struct Encoder(Algorithm);

enum Algorithm {
    Library(Box<library::Library>),
    SentencePiece(Box<sentencepiece::SentencePiece>),
    Ranks(Box<bpe_ranks::Ranks>),
    LlamaCpp(Box<LlamaCpp>),
}

/// How text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether the tokens that belong round a text (begin, end) are put there.
    pub special: bool,
    /// Whether special tokens that are written in the text count as such.
    pub parse_special: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { special: true, parse_special: true }
    }
}

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its id.
    pub id: u32,
    /// The bytes of the text that it stands for; none where it was put there.
    pub span: Range<usize>,
}

impl Encoder {
    /// Makes a tokenizer ready.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        if let Some(broken) = tokenizer.findings.iter().find(|finding| finding.rule == &super::UNREADABLE) {
            return Err(Error::malformed(broken.message.clone()).in_file(tokenizer.source.as_str()));
        }
        let algorithm = match tokenizer.kind {
            "tokenizer-json" => library::Library::of_file(tokenizer).map(Box::new).map(Algorithm::Library),
            "vocab-json" | "vocab-txt" => {
                let json = prepared::json(tokenizer)?;
                library::Library::new(&json, &tokenizer.model).map(Box::new).map(Algorithm::Library)
            }
            "sentencepiece" => sentencepiece::SentencePiece::new(tokenizer).map(Box::new).map(Algorithm::SentencePiece),
            "tiktoken" | "tekken" => bpe_ranks::Ranks::new(tokenizer).map(Box::new).map(Algorithm::Ranks),
            _ => LlamaCpp::new(tokenizer).map(Box::new).map(Algorithm::LlamaCpp),
        };
        algorithm.map(Encoder).map_err(|error| error.in_file(tokenizer.source.as_str()))
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, options: Options) -> Result<Vec<Piece>> {
        match &self.0 {
            Algorithm::Library(library) => library.encode(text, options),
            Algorithm::SentencePiece(sentencepiece) => sentencepiece.encode(text, options),
            Algorithm::Ranks(ranks) => ranks.encode(text, options),
            Algorithm::LlamaCpp(llama_cpp) => llama_cpp.encode(text, options),
        }
    }

    /// The text of ids, as bytes: a token may be part of a character. Special tokens are written out where `special`.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<Vec<u8>> {
        match &self.0 {
            Algorithm::Library(library) => library.decode(ids, special),
            Algorithm::SentencePiece(sentencepiece) => sentencepiece.decode(ids, special),
            Algorithm::Ranks(ranks) => ranks.decode(ids, special),
            Algorithm::LlamaCpp(llama_cpp) => {
                if let Some(id) = ids.iter().find(|id| llama_cpp.piece(**id).is_none()) {
                    return Err(no_id(*id));
                }
                Ok(llama_cpp.decode(ids, special))
            }
        }
    }
}

/// An id that the vocabulary does not have.
fn no_id(id: u32) -> Error {
    Error::new(ErrorKind::Usage, format!("the vocabulary has no id {id}"))
}
