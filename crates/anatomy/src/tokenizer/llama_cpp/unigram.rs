//! SentencePiece's best path by scores (`llm_tokenizer_ugm_session`).

use std::ops::Range;

use super::vocabulary::{USER_DEFINED, Vocabulary};
use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::run::{Aligned, Charsmap, Trie, Work, character};
use crate::tokenizer::{EntryKind, Tokenizer};

/// A unigram model, ready to run.
pub(super) struct Unigram {
    pieces: Trie,
    user_defined: Trie,
    charsmap: Charsmap,
    unknown_score: f32,
}

/// How much worse than the worst piece what is unknown is.
const PENALTY: f32 = 10.0;

impl Unigram {
    pub fn new(tokenizer: &Tokenizer, charsmap: &[u8]) -> Result<Self> {
        let of =
            |kinds: &'static [EntryKind]| tokenizer.entries.iter().filter(move |entry| kinds.contains(&entry.kind));
        let texts = |kinds| of(kinds).map(|entry| (&*entry.stored, entry.id));
        let scores = of(&[EntryKind::Normal]).map(|entry| entry.score.unwrap_or(0.0));
        let least = scores.fold(f32::MAX, f32::min);
        let charsmap = Charsmap::new(charsmap).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the table of replacements is damaged; llama.cpp stops there")
        })?;
        Ok(Unigram {
            // What the file leaves undefined is no text, though it is called unused here.
            pieces: Trie::new(texts(&[EntryKind::Normal, EntryKind::UserDefined, EntryKind::Unused]))?,
            user_defined: Trie::new(texts(&[EntryKind::UserDefined]))?,
            charsmap,
            unknown_score: least - PENALTY,
        })
    }

    pub fn encode(&self, text: &str, vocabulary: &Vocabulary, push: &mut impl FnMut(u32, Range<usize>)) -> Result<()> {
        let text = self.normalise(text, vocabulary);
        if text.bytes.is_empty() {
            return Ok(());
        }
        let Some(unknown) = vocabulary.unk else {
            return Err(Error::new(ErrorKind::Unsupported, "the file names no token for unknown text"));
        };
        #[derive(Clone, Copy)]
        struct Best {
            id: u32,
            start: usize,
            score: f64,
        }
        let length = text.bytes.len();
        let mut best = vec![Best { id: unknown, start: 0, score: -f64::MAX }; length + 1];
        if let Some(first) = best.first_mut() {
            first.score = 0.0;
        }
        let mut at = 0;
        let mut work = Work::of(length);
        while at < length {
            let rest = text.bytes.get(at..).unwrap_or_default();
            work.take(self.pieces.depth(rest))?;
            let character = character(rest);
            let here = best.get(at).map_or(-f64::MAX, |best| best.score);
            let mut offer = |size: usize, id: u32, score: f64| {
                if let Some(known) = best.get_mut(at + size)
                    && here + score > known.score
                {
                    *known = Best { id, start: at, score: here + score };
                }
            };
            let mut single = false;
            for (size, id) in self.pieces.prefixes(rest) {
                single |= size == character;
                let user_defined = vocabulary.attributes(id) & USER_DEFINED != 0;
                offer(size, id, if user_defined { 0.0 } else { vocabulary.score(id).into() });
            }
            if !single {
                offer(character, unknown, self.unknown_score.into());
            }
            at += character;
        }
        let mut path: Vec<(u32, Range<usize>)> = Vec::new();
        let mut end = length;
        while let Some(Best { id, start, .. }) = best.get(end).copied().filter(|_| end > 0) {
            match path.last_mut() {
                // A run of unknown text is one token.
                Some((last, range)) if *last == unknown && id == unknown => range.start = start,
                _ => path.push((id, start..end)),
            }
            end = start;
        }
        for (id, range) in path.into_iter().rev() {
            push(id, text.source(&range));
        }
        Ok(())
    }

    fn normalise(&self, text: &str, vocabulary: &Vocabulary) -> Aligned {
        let space = "▁".as_bytes();
        let merge = vocabulary.remove_extra_whitespaces;
        let mut out = Aligned::default();
        let mut prepended = false;
        let mut within = false;
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            let (piece, taken) = self.prefix(rest);
            let source = at..at + taken;
            // Bytes that are what they were keep their own places.
            let copied = rest.get(..taken) == Some(piece);
            for (index, byte) in piece.iter().enumerate() {
                let source = if copied { at + index..at + index + 1 } else { source.clone() };
                if *byte != b' ' {
                    if !within {
                        within = true;
                        if (vocabulary.add_space_prefix && !prepended) || merge {
                            out.push(space, source.start..source.start);
                            prepended = true;
                        }
                    }
                    out.push(&[*byte], source);
                } else {
                    within = false;
                    if !merge {
                        out.push(space, source);
                    }
                }
            }
            at += taken;
        }
        out
    }

    /// What the begin of a text becomes, and how much of it is used up.
    fn prefix<'a>(&'a self, rest: &'a [u8]) -> (&'a [u8], usize) {
        let user_defined = self.user_defined.depth(rest);
        if user_defined > 0 {
            return (rest.get(..user_defined).unwrap_or_default(), user_defined);
        }
        if let Some((taken, becomes)) = self.charsmap.longest(rest) {
            return (becomes, taken);
        }
        let taken = character(rest);
        (rest.get(..taken).unwrap_or_default(), taken)
    }
}
