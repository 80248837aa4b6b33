//! The shorter algorithms: BERT's longest matches, RWKV's, and PLaMo-2's best path.

use std::ops::Range;

use super::unicode::{self, BLANK, CONTROL, MARK, PUNCTUATION, SYMBOL};
use super::vocabulary::Vocabulary;
use crate::error::Result;
use crate::tokenizer::run::{Aligned, Trie, Work};
use crate::tokenizer::{EntryKind, GgufSettings, Tokenizer, byte_of_tag, unescape};

/// BERT: words of letters, marks alone, the longest pieces from the left (`llm_tokenizer_wpm_session`).
pub(super) fn wordpiece(
    text: &str,
    pieces: &Trie,
    vocabulary: &Vocabulary,
    settings: &GgufSettings,
    push: &mut impl FnMut(u32, Range<usize>),
) {
    let lowercase = settings.lowercase.unwrap_or(true);
    let strip = settings.strip_accents.unwrap_or(lowercase);
    let mut words: Vec<Aligned> = Vec::new();
    let mut word = Aligned::default();
    for (at, c) in text.char_indices() {
        let source = at..at + c.len_utf8();
        let c = if strip { unicode::decomposed(c) } else { c };
        let flags = unicode::flags(c);
        if flags & BLANK != 0 {
            words.push(std::mem::take(&mut word));
            continue;
        }
        if c == '\0' || c == '\u{fffd}' || flags & CONTROL != 0 || (strip && flags & MARK != 0) {
            continue;
        }
        let alone = flags & PUNCTUATION != 0 || (u32::from(c) < 0x7f && flags & SYMBOL != 0) || is_chinese(c);
        let written = if lowercase { unicode::lower(c) } else { c };
        let mut buffer = [0; 4];
        if alone {
            words.push(std::mem::take(&mut word));
        }
        word.push(written.encode_utf8(&mut buffer).as_bytes(), source);
        if alone {
            words.push(std::mem::take(&mut word));
        }
    }
    words.push(word);
    for word in words.into_iter().filter(|word| !word.bytes.is_empty()) {
        let mut marked = "▁".as_bytes().to_vec();
        marked.extend_from_slice(&word.bytes);
        let mut found = Vec::new();
        let mut at = 0;
        while at < marked.len() {
            let Some((length, id)) = pieces.longest(marked.get(at..).unwrap_or_default()) else {
                found.clear();
                break;
            };
            let end = at + length;
            found.push((id, at.saturating_sub(3)..end.saturating_sub(3)));
            at = end;
        }
        if found.is_empty() {
            found.extend(vocabulary.unk.map(|id| (id, 0..word.bytes.len())));
        }
        for (id, range) in found {
            push(id, word.source(&range));
        }
    }
}

/// BERT's vocabulary.
pub(super) fn wordpiece_trie(tokenizer: &Tokenizer) -> Result<Trie> {
    Trie::new(tokenizer.entries.iter().map(|entry| (&*entry.stored, entry.id)))
}

/// The ranges of the library `tokenizers`, one of which begins later than in Unicode.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f
    )
}

/// RWKV's vocabulary as bytes.
pub(super) fn rwkv_trie(tokenizer: &Tokenizer) -> Result<Trie> {
    let texts: Vec<(Vec<u8>, u32)> =
        tokenizer.entries.iter().map(|entry| (unescape(&entry.stored), entry.id)).collect();
    Trie::new(texts.iter().map(|(text, id)| (text.as_slice(), *id)))
}

/// RWKV: the longest match at each place; what begins no token is unknown.
pub(super) fn rwkv(
    text: &str,
    trie: &Trie,
    vocabulary: &Vocabulary,
    push: &mut impl FnMut(u32, Range<usize>),
) -> Result<()> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        if trie.step(0, *byte).is_none() {
            if let Some(id) = vocabulary.unk {
                push(id, at..at + 1);
            }
            at += 1;
            continue;
        }
        // llama.cpp goes round for ever where a token's first byte is none itself.
        let (length, id) = trie.longest(rest).ok_or_else(|| super::no_byte(*byte))?;
        push(id, at..at + length);
        at += length;
    }
    Ok(())
}

/// PLaMo-2: the cheapest path over characters, found from the end (`llm_tokenizer_plamo2`).
pub(super) struct Plamo2 {
    pieces: Trie,
    bytes: Vec<Option<u32>>,
}

/// What a piece must be better than.
const INVALID: i64 = -20_000_000;
/// What unknown text costs.
const UNKNOWN: i64 = -10_000_000;

impl Plamo2 {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let mut bytes = vec![None; 256];
        for entry in tokenizer.entries.iter().filter(|entry| entry.kind == EntryKind::Byte) {
            if let Some(slot) = byte_of_tag(&entry.stored).and_then(|byte| bytes.get_mut(usize::from(byte))) {
                *slot = Some(entry.id);
            }
        }
        if let Some(missing) = bytes.iter().position(Option::is_none) {
            return Err(super::no_byte(u8::try_from(missing).unwrap_or_default()));
        }
        let pieces = tokenizer.entries.iter().filter(|entry| entry.kind != EntryKind::Byte);
        Ok(Plamo2 { pieces: Trie::new(pieces.map(|entry| (&*entry.stored, entry.id)))?, bytes })
    }

    pub fn encode(&self, text: &str, vocabulary: &Vocabulary, push: &mut impl FnMut(u32, Range<usize>)) -> Result<()> {
        let skipped = if text.starts_with('\u{feff}') { 3 } else { 0 };
        let bytes = text.as_bytes();
        // Costs by the byte at which a character begins; the others stay out of reach.
        let mut costs = vec![1i64 << 60; bytes.len() + 1];
        let mut steps: Vec<(usize, Option<u32>)> = vec![(0, None); bytes.len() + 1];
        if let Some(last) = costs.last_mut() {
            *last = 0;
        }
        let mut work = Work::of(bytes.len());
        for (at, c) in text.char_indices().rev().filter(|(at, _)| *at >= skipped) {
            let mut best = (1i64 << 60, 0, None);
            work.take(self.pieces.depth(bytes.get(at..).unwrap_or_default()))?;
            let pieces: Vec<(usize, u32)> = self.pieces.prefixes(bytes.get(at..).unwrap_or_default()).collect();
            let pieces = pieces.into_iter().rev().map(|(length, id)| (length, Some(id), whole(vocabulary.score(id))));
            for (length, id, score) in pieces.chain([(c.len_utf8(), None, UNKNOWN)]) {
                let cost = costs.get(at + length).copied().unwrap_or(1 << 60).saturating_sub(score);
                if score > INVALID && text.is_char_boundary(at + length) && cost < best.0 {
                    best = (cost, length, id);
                }
            }
            if let (Some(cost), Some(step)) = (costs.get_mut(at), steps.get_mut(at)) {
                *cost = best.0;
                *step = (best.1, best.2);
            }
        }
        let mut at = skipped;
        while let Some((length, id)) = steps.get(at).copied().filter(|(length, _)| *length > 0) {
            match id {
                Some(id) => push(id, at..at + length),
                None => {
                    for (index, byte) in bytes.get(at..at + length).unwrap_or_default().iter().enumerate() {
                        if let Some(id) = self.bytes.get(usize::from(*byte)).copied().flatten() {
                            push(id, at + index..at + index + 1);
                        }
                    }
                }
            }
            at += length;
        }
        Ok(())
    }
}

/// A score as the table of llama.cpp holds it.
fn whole(score: f32) -> i64 {
    if !score.is_finite() {
        return INVALID;
    }
    // Rounded within 32 bits, as there; what is beyond saturates.
    #[allow(clippy::cast_possible_truncation)]
    let rounded = (f64::from(score) * 1e4).round() as i32;
    rounded.into()
}
