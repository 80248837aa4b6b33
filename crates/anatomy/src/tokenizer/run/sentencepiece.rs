//! SentencePiece's own algorithms: its normaliser, byte-pair and unigram models, and its decoder.
//!
//! From `src/normalizer.cc`, `src/bpe_model.cc`, `src/unigram_model.cc` (`EncodeOptimized`) and
//! `src/sentencepiece_processor.cc` of <https://github.com/google/sentencepiece>, version 0.2.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::scores::merge;
use super::{Aligned, Charsmap, Options, Piece, Trie, Work, character, no_id};
use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::{Details, Entry, EntryKind, SentencePieceSettings, Tokenizer, byte_of_tag};

type Hash = foldhash::fast::RandomState;

/// SentencePiece, ready to run.
pub(super) struct SentencePiece {
    settings: SentencePieceSettings,
    charsmap: Charsmap,
    unigram: bool,
    byte_fallback: bool,
    entries: HashMap<u32, Entry, Hash>,
    /// What text becomes: pieces, user-defined ones, unused ones.
    pieces: HashMap<Box<[u8]>, u32, Hash>,
    trie: Trie,
    user_defined: Trie,
    /// Marks that are found in text where that is asked for.
    marks: Trie,
    bytes: Vec<Option<u32>>,
    unknown: u32,
    least: f32,
    most: f32,
    /// Whether what follows a mark begins with a blank.
    legacy: bool,
    first: Option<u32>,
    last: Option<u32>,
}

/// How much worse than the worst piece what is unknown is (`kUnkPenalty`).
const PENALTY: f32 = 10.0;

impl SentencePiece {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let Details::SentencePiece(settings) = &tokenizer.details else {
            return Err(Error::new(ErrorKind::Usage, "not a SentencePiece model"));
        };
        let unigram = match tokenizer.model.as_str() {
            "unigram" => true,
            "bpe" => false,
            other => {
                let message = format!("SentencePiece's {other:?} models cannot be run yet");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let charsmap = Charsmap::new(&settings.charsmap);
        let charsmap = charsmap.ok_or_else(|| Error::malformed("the table of replacements is damaged"))?;
        let of =
            |kinds: &'static [EntryKind]| tokenizer.entries.iter().filter(move |entry| kinds.contains(&entry.kind));
        let texts = |kinds| of(kinds).map(|entry| (&*entry.stored, entry.id));
        const PIECES: &[EntryKind] = &[EntryKind::Normal, EntryKind::UserDefined, EntryKind::Unused];
        let mut bytes = vec![None; 256];
        for entry in of(&[EntryKind::Byte]) {
            if let Some(slot) = byte_of_tag(&entry.stored).and_then(|byte| bytes.get_mut(usize::from(byte))) {
                *slot = Some(entry.id);
            }
        }
        let unknown = of(&[EntryKind::Unknown]).next();
        let unknown = unknown.ok_or_else(|| Error::malformed("there is no piece for unknown text"))?.id;
        let scores = || of(&[EntryKind::Normal]).map(|entry| entry.score.unwrap_or(0.0));
        let configuration = &tokenizer.configuration;
        let (first, last) = crate::tokenizer::sentencepiece::round(tokenizer);
        Ok(SentencePiece {
            settings: (**settings).clone(),
            charsmap,
            unigram,
            byte_fallback: tokenizer.byte_fallback,
            entries: tokenizer.entries.iter().map(|entry| (entry.id, entry.clone())).collect(),
            pieces: of(PIECES).map(|entry| (entry.stored.clone(), entry.id)).collect(),
            trie: Trie::new(texts(PIECES))?,
            user_defined: Trie::new(texts(&[EntryKind::UserDefined]))?,
            marks: Trie::new(texts(&[EntryKind::Control, EntryKind::Unknown]))?,
            bytes,
            unknown,
            least: scores().fold(f32::MAX, f32::min),
            most: scores().fold(f32::MIN, f32::max),
            legacy: configuration.legacy.unwrap_or(true),
            first,
            last,
        })
    }

    pub fn encode(&self, text: &str, options: Options) -> Result<Vec<Piece>> {
        let mut out = Vec::new();
        out.extend(self.first.filter(|_| options.special).map(|id| Piece { id, span: 0..0 }));
        let mut from = 0;
        if options.parse_special {
            let mut at = 0;
            while at < text.len() {
                match self.marks.longest(text.as_bytes().get(at..).unwrap_or_default()) {
                    Some((length, id)) if length > 0 => {
                        if from < at {
                            self.encode_text(text, from..at, &mut out)?;
                        }
                        out.push(Piece { id, span: at..at + length });
                        at += length;
                        from = at;
                    }
                    _ => at += 1,
                }
            }
        }
        if from < text.len() {
            self.encode_text(text, from..text.len(), &mut out)?;
        }
        let end = text.len();
        out.extend(self.last.filter(|_| options.special).map(|id| Piece { id, span: end..end }));
        Ok(out)
    }

    fn encode_text(&self, text: &str, range: Range<usize>, out: &mut Vec<Piece>) -> Result<()> {
        let base = range.start;
        let prefix = base == 0 || self.legacy;
        let text = self.normalise(text.get(range).unwrap_or_default(), prefix);
        let mut parts = Vec::new();
        if self.unigram {
            self.best_path(&text.bytes, &mut parts)?;
        } else {
            self.merges(&text.bytes, &mut parts);
        }
        let mut after_unknown = false;
        for (id, range) in parts {
            let source = text.source(&range);
            let span = base + source.start..base + source.end;
            let is_unknown = id == self.unknown;
            if is_unknown && self.byte_fallback {
                for byte in text.bytes.get(range).unwrap_or_default() {
                    let id = self.bytes.get(usize::from(*byte)).copied().flatten();
                    let id = id.ok_or_else(|| crate::tokenizer::llama_cpp::no_byte(*byte))?;
                    out.push(Piece { id, span: span.clone() });
                }
            } else if is_unknown && after_unknown {
                // A run of unknown text is one token.
                if let Some(last) = out.last_mut() {
                    last.span.end = span.end;
                }
            } else {
                out.push(Piece { id, span });
            }
            after_unknown = is_unknown;
        }
        Ok(())
    }

    fn merges(&self, text: &[u8], parts: &mut Vec<(u32, Range<usize>)>) {
        let mut symbols = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = text.get(at..).unwrap_or_default();
            let frozen = self.user_defined.longest(rest).map(|(length, _)| length);
            let length = frozen.unwrap_or_else(|| character(rest));
            symbols.push((at..at + length, frozen.is_some()));
            at += length;
        }
        // Unused pieces are taken apart again into the two that they were last made of.
        let halves = RefCell::new(HashMap::<Box<[u8]>, usize, Hash>::default());
        let lookup = |piece: &[u8], left: usize| {
            let entry = self.entries.get(self.pieces.get(piece)?)?;
            if entry.kind == EntryKind::Unused {
                halves.borrow_mut().insert(piece.into(), left);
            }
            Some(entry.score.unwrap_or(0.0))
        };
        let mut whole = Vec::new();
        merge(text, symbols, lookup, |range| whole.push(range));
        whole.reverse();
        let halves = halves.into_inner();
        while let Some(range) = whole.pop() {
            let piece = text.get(range.clone()).unwrap_or_default();
            let id = self.id(piece);
            let unused = self.entries.get(&id).is_some_and(|entry| entry.kind == EntryKind::Unused);
            match halves.get(piece).filter(|_| unused) {
                Some(left) => whole.extend([range.start + left..range.end, range.start..range.start + left]),
                None => parts.push((id, range)),
            }
        }
    }

    /// The id of a symbol's text.
    fn id(&self, text: &[u8]) -> u32 {
        self.pieces.get(text).copied().unwrap_or(self.unknown)
    }

    fn best_path(&self, text: &[u8], parts: &mut Vec<(u32, Range<usize>)>) -> Result<()> {
        #[derive(Clone, Copy)]
        struct Best {
            id: u32,
            start: usize,
            score: f32,
        }
        let mut best: Vec<Option<Best>> = vec![None; text.len() + 1];
        let unknown_score = self.least - PENALTY;
        let mut at = 0;
        let mut work = Work::of(text.len());
        while at < text.len() {
            let rest = text.get(at..).unwrap_or_default();
            work.take(self.trie.depth(rest))?;
            let here = best.get(at).copied().flatten().map_or(0.0, |best| best.score);
            let length = character(rest);
            let mut offer = |size: usize, id: u32, score: f64| {
                let score = score + f64::from(here);
                if let Some(known) = best.get_mut(at + size)
                    && known.is_none_or(|known| score > known.score.into())
                {
                    // Scores are kept in 32 bits, and compared in 64.
                    #[allow(clippy::cast_possible_truncation)]
                    let score = score as f32;
                    *known = Some(Best { id, start: at, score });
                }
            };
            let mut single = false;
            for (size, id) in self.trie.prefixes(rest) {
                let Some(entry) = self.entries.get(&id).filter(|entry| entry.kind != EntryKind::Unused) else {
                    continue;
                };
                let score = match entry.kind {
                    EntryKind::UserDefined => f64::from(size as f32 * self.most) - 0.1,
                    _ => entry.score.unwrap_or(0.0).into(),
                };
                offer(size, id, score);
                single |= size == length;
            }
            if !single {
                offer(length, self.unknown, unknown_score.into());
            }
            at += length;
        }
        let mut end = text.len();
        while let Some(Best { id, start, .. }) = best.get(end).copied().flatten().filter(|_| end > 0) {
            parts.push((id, start..end));
            end = start;
        }
        parts.reverse();
        Ok(())
    }

    fn normalise(&self, text: &str, prefix: bool) -> Aligned {
        let settings = &self.settings;
        let space: &[u8] = if settings.escape_whitespaces { "▁".as_bytes() } else { b" " };
        let bytes = text.as_bytes();
        let mut out = Aligned::default();
        let mut at = 0;
        if settings.remove_extra_whitespaces {
            while at < bytes.len() {
                let (becomes, taken) = self.prefix(bytes.get(at..).unwrap_or_default());
                if becomes != b" " {
                    break;
                }
                at += taken;
            }
            if at >= bytes.len() {
                return out;
            }
        }
        let dummy = settings.add_dummy_prefix && prefix;
        if dummy && !settings.treat_whitespace_as_suffix {
            out.push(space, at..at);
        }
        let mut after_space = settings.remove_extra_whitespaces;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            let (becomes, taken) = self.prefix(rest);
            let copied = rest.get(..taken) == Some(becomes);
            let mut kept = becomes;
            while after_space && let Some(more) = kept.strip_prefix(b" ") {
                kept = more;
            }
            let skipped = becomes.len() - kept.len();
            for (index, byte) in kept.iter().enumerate() {
                let place = at + skipped + index;
                let source = if copied { place..place + 1 } else { at..at + taken };
                if *byte == b' ' { out.push(space, source) } else { out.push(&[*byte], source) }
            }
            if !kept.is_empty() {
                after_space = kept.ends_with(b" ");
            }
            if !settings.remove_extra_whitespaces {
                after_space = false;
            }
            at += taken;
        }
        if settings.remove_extra_whitespaces {
            while out.bytes.ends_with(space) {
                out.truncate(out.bytes.len() - space.len());
            }
        }
        if dummy && settings.treat_whitespace_as_suffix {
            out.push(space, at..at);
        }
        out
    }

    /// What the begin of a text becomes, and how much of it is used up.
    fn prefix<'a>(&'a self, rest: &'a [u8]) -> (&'a [u8], usize) {
        if let Some((length, _)) = self.user_defined.longest(rest) {
            return (rest.get(..length).unwrap_or_default(), length);
        }
        if let Some((taken, becomes)) = self.charsmap.longest(rest) {
            return (becomes, taken);
        }
        let length = character(rest);
        (rest.get(..length).unwrap_or_default(), length)
    }

    pub fn decode(&self, ids: &[u32], special: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut bytes: Vec<u8> = Vec::new();
        let mut begin = true;
        let mut seen = false;
        let settings = &self.settings;
        for id in ids {
            let entry = self.entries.get(id).ok_or_else(|| no_id(*id))?;
            if let Some(byte) = byte_of_tag(&entry.stored).filter(|_| entry.kind == EntryKind::Byte) {
                bytes.push(byte);
                continue;
            }
            out.extend(lossy(&std::mem::take(&mut bytes)));
            if seen || !out.is_empty() {
                begin = false;
            }
            seen = false;
            match entry.kind {
                EntryKind::Control if special => out.extend_from_slice(&entry.stored),
                EntryKind::Control => {}
                EntryKind::Unknown => out.extend_from_slice(settings.unk_surface.as_bytes()),
                _ => {
                    let mut piece: &[u8] = &entry.stored;
                    if begin
                        && (settings.add_dummy_prefix || settings.remove_extra_whitespaces)
                        && let Some(rest) = piece.strip_prefix("▁".as_bytes())
                    {
                        piece = rest;
                        seen = !settings.remove_extra_whitespaces;
                    }
                    out.extend(crate::tokenizer::replace(piece, "▁".as_bytes(), b" "));
                }
            }
        }
        out.extend(lossy(&bytes));
        Ok(out)
    }
}

/// Bytes as text, each invalid one replaced by itself.
fn lossy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let length = character(rest);
        let part = rest.get(..length).unwrap_or_default();
        match std::str::from_utf8(part) {
            Ok(_) => out.extend_from_slice(part),
            Err(_) => out.extend_from_slice("\u{fffd}".as_bytes()),
        }
        at += length;
    }
    out
}
