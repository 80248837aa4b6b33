//! Byte-pair encoding by ranks of merges, word by word (`llm_tokenizer_bpe_session`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::pre::Cutter;
use super::split::Text;
use super::unicode;
use super::vocabulary::Vocabulary;
use crate::error::Result;
use crate::tokenizer::{GgufSettings, Merges, Tokenizer, letter_of_byte, tag_of_byte};

type Hash = foldhash::fast::RandomState;

/// Byte-pair encoding, ready to run.
pub(super) struct Bpe {
    cutter: Cutter,
    /// What each text that takes part in merges is numbered as.
    symbols: HashMap<Box<str>, u32, Hash>,
    /// The rank of two symbols, and what they become.
    merges: HashMap<(u32, u32), (u32, u32), Hash>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// DNA between tags is cut into sixes.
    Dna,
    /// Blanks only divide words.
    Blanks,
}

/// A text's number where it takes part in no merge.
const NONE: u32 = u32::MAX;

impl Bpe {
    pub fn new(tokenizer: &Tokenizer, settings: &GgufSettings, vocabulary: &mut Vocabulary) -> Result<Self> {
        let row = vocabulary.pre.as_ref();
        let cutter = row.map_or_else(|| Cutter::new(&super::pre::Row::of("default")?), Cutter::new)?;
        if tokenizer.merges.is_none() && settings.pre.as_deref() != Some("kimi-k2") {
            let message = "the file has no merges, without which llama.cpp does not load it";
            return Err(crate::Error::new(crate::ErrorKind::Unsupported, message));
        }
        let mut symbols: HashMap<Box<str>, u32, Hash> = HashMap::default();
        let mut number = |text: &str| {
            let next = u32::try_from(symbols.len()).unwrap_or(NONE);
            match symbols.get(text) {
                Some(known) => *known,
                None => {
                    symbols.insert(text.into(), next);
                    next
                }
            }
        };
        let mut merges = HashMap::default();
        for (rank, merge) in (0u32..).zip(tokenizer.merges.iter().flat_map(Merges::iter)) {
            let pair = (number(merge.left), number(merge.right));
            let whole = number(merge.whole);
            // The first of two counts.
            merges.entry(pair).or_insert((rank, whole));
        }
        let kind = match settings.model.as_str() {
            "hybriddna" => Kind::Dna,
            "whitespace" => Kind::Blanks,
            _ => Kind::Plain,
        };
        Ok(Bpe { cutter, symbols, merges, kind })
    }

    pub fn encode(&self, text: &str, vocabulary: &Vocabulary, push: &mut impl FnMut(u32, Range<usize>)) -> Result<()> {
        match self.kind {
            Kind::Plain => self.run(text, 0, vocabulary, push),
            Kind::Blanks => {
                let mut from = 0;
                for (at, c) in text.char_indices() {
                    if unicode::flags(c) & unicode::BLANK != 0 {
                        self.run(text.get(from..at).unwrap_or_default(), from, vocabulary, push)?;
                        from = at + c.len_utf8();
                    }
                }
                self.run(text.get(from..).unwrap_or_default(), from, vocabulary, push)
            }
            Kind::Dna => self.dna(text, vocabulary, push),
        }
    }

    /// Words of a text that begins at `base`.
    fn run(
        &self,
        text: &str,
        base: usize,
        vocabulary: &Vocabulary,
        push: &mut impl FnMut(u32, Range<usize>),
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let row = vocabulary.pre.as_ref();
        let letters = row.is_none_or(|row| row.letters);
        let escaped = if vocabulary.escape { super::escape(text) } else { text.into() };
        let ends = self.cutter.cut(&Text::new(&escaped))?;
        // The place in the text as it was: each `▁` that was a blank is two bytes shorter there.
        let mut source = base;
        let mut original = text.chars();
        let mut chars = escaped.chars();
        let mut start = 0;
        let mut word = Word::default();
        for end in ends {
            word.clear(source);
            for c in chars.by_ref().take(end - start) {
                let width = original.next().map_or(0, char::len_utf8);
                if letters {
                    let mut buffer = [0; 4];
                    let bytes = c.encode_utf8(&mut buffer).as_bytes();
                    for (index, byte) in bytes.iter().enumerate() {
                        let last = index + 1 == bytes.len();
                        word.push(letter_of_byte(*byte), source + if last { width } else { index + 1 });
                    }
                } else {
                    word.push(c, source + width);
                }
                source += width;
            }
            start = end;
            let whole = match row {
                Some(row) if !row.merges => true,
                Some(row) if row.newlines => word.text.bytes().all(|byte| byte == b'\n'),
                _ => false,
            };
            match vocabulary.id(word.text.as_bytes()).filter(|_| whole) {
                Some(id) => push(id, word.span(0..word.text.len())),
                None => self.merge(&word, letters, vocabulary, push),
            }
        }
        Ok(())
    }

    fn merge(&self, word: &Word, letters: bool, vocabulary: &Vocabulary, push: &mut impl FnMut(u32, Range<usize>)) {
        struct Symbol {
            range: Range<usize>,
            number: u32,
            before: usize,
            after: usize,
        }
        const END: usize = usize::MAX;
        let mut symbols: Vec<Symbol> = Vec::new();
        let count = word.text.chars().count();
        for (index, (at, c)) in word.text.char_indices().enumerate() {
            let range = at..at + c.len_utf8();
            let number = word.text.get(range.clone()).and_then(|text| self.symbols.get(text)).copied().unwrap_or(NONE);
            let after = if index + 1 == count { END } else { index + 1 };
            symbols.push(Symbol { range, number, before: index.wrapping_sub(1), after });
        }
        let mut queue = BinaryHeap::new();
        let look = |symbols: &[Symbol], queue: &mut BinaryHeap<_>, left: usize| {
            let pair = symbols.get(left).and_then(|one| Some((one, one.after, symbols.get(one.after)?)));
            if let Some((one, right, other)) = pair
                && let Some((rank, whole)) = self.merges.get(&(one.number, other.number))
            {
                queue.push(Reverse((*rank, left, right, one.number, other.number, *whole)));
            }
        };
        for left in 0..symbols.len() {
            look(&symbols, &mut queue, left);
        }
        while let Some(Reverse((_, left, right, one, other, whole))) = queue.pop() {
            // What has changed since it was queued is outdated.
            let current = |at: usize, number: u32| {
                symbols.get(at).is_some_and(|symbol| symbol.number == number && !symbol.range.is_empty())
            };
            if !current(left, one) || !current(right, other) || symbols.get(left).is_none_or(|s| s.after != right) {
                continue;
            }
            let Some(gone) = symbols.get_mut(right) else { continue };
            let (end, after) = (gone.range.end, gone.after);
            gone.range = end..end;
            let Some(kept) = symbols.get_mut(left) else { continue };
            kept.range.end = end;
            kept.number = whole;
            kept.after = after;
            let before = kept.before;
            if let Some(next) = symbols.get_mut(after) {
                next.before = left;
            }
            if before < symbols.len() {
                look(&symbols, &mut queue, before);
            }
            look(&symbols, &mut queue, left);
        }
        for symbol in symbols.iter().filter(|symbol| !symbol.range.is_empty()) {
            let text = word.text.get(symbol.range.clone()).unwrap_or_default();
            let span = word.span(symbol.range.clone());
            if let Some(id) = vocabulary.id(text.as_bytes()) {
                push(id, span);
                continue;
            }
            // Bytes without an entry are dropped.
            for byte in text.bytes() {
                let id = if letters { vocabulary.id(&[byte]) } else { vocabulary.id(tag_of_byte(byte).as_bytes()) };
                if let Some(id) = id {
                    push(id, span.clone());
                }
            }
        }
    }

    /// DNA between tags, in sixes, the last filled up with `A` (`llm_tokenizer_hybriddna_session`).
    fn dna(&self, text: &str, vocabulary: &Vocabulary, push: &mut impl FnMut(u32, Range<usize>)) -> Result<()> {
        const OPEN: &str = "<dna>";
        const CLOSE: &str = "</dna>";
        let ids = (vocabulary.id(OPEN.as_bytes()), vocabulary.id(CLOSE.as_bytes()), vocabulary.id(b"<oov>"));
        let (Some(open), Some(close), Some(unknown)) = ids else { return self.run(text, 0, vocabulary, push) };
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find(OPEN)) {
            let start = at + found;
            self.run(text.get(at..start).unwrap_or_default(), at, vocabulary, push)?;
            push(open, start..start + OPEN.len());
            let from = start + OPEN.len();
            let rest = text.get(from..).unwrap_or_default();
            let end = rest.find(CLOSE);
            let inner = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default().as_bytes();
            for (index, six) in inner.chunks(6).enumerate() {
                let mut token = six.to_ascii_uppercase();
                token.resize(6, b'A');
                token.extend("\u{e000}".bytes());
                let place = from + index * 6;
                push(vocabulary.id(&token).unwrap_or(unknown), place..place + six.len());
            }
            at = from + inner.len();
            if end.is_none() {
                return Ok(());
            }
            push(close, at..at + CLOSE.len());
            at += CLOSE.len();
        }
        self.run(text.get(at..).unwrap_or_default(), at, vocabulary, push)
    }
}

/// A word as merges see it, with the place of each of its characters in the text.
#[derive(Default)]
struct Word {
    text: String,
    /// Where each byte of it ends in the text; the first number is where it begins.
    ends: Vec<usize>,
}

impl Word {
    fn clear(&mut self, start: usize) {
        self.text.clear();
        self.ends.clear();
        self.ends.push(start);
    }

    fn push(&mut self, c: char, end: usize) {
        self.text.push(c);
        self.ends.resize(self.text.len() + 1, end);
    }

    fn span(&self, range: Range<usize>) -> Range<usize> {
        let place = |at: usize| self.ends.get(at).copied().unwrap_or_default();
        place(range.start)..place(range.end)
    }
}
