//! Byte-pair encoding by ranks, as tiktoken and Mistral's Tekken do it: the pair of neighbours that is the earliest
//! piece together is joined first, the left one of equals.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use fancy_regex::{Regex, RegexBuilder};

use super::{Options, Piece, Trie, no_id};
use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::llama_cpp::too_long;
use crate::tokenizer::{Details, Tokenizer};

type Hash = foldhash::fast::RandomState;

/// Ranks, ready to run.
pub(super) struct Ranks {
    pattern: Regex,
    ranks: HashMap<Box<[u8]>, u32, Hash>,
    texts: HashMap<u32, Box<[u8]>, Hash>,
    special: Trie,
    special_ids: HashMap<u32, Box<[u8]>, Hash>,
    bos: Option<u32>,
    eos: Option<u32>,
}

/// Steps back that the pattern may take on one word.
const BACKTRACKS: usize = 10_000_000;

impl Ranks {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let known = crate::tokenizer::tiktoken::known(tokenizer);
        let stated = match &tokenizer.details {
            Details::Ranks { pattern } => pattern.as_deref(),
            Details::Tekken(settings) => settings.pattern.as_deref(),
            _ => None,
        };
        let Some(pattern) = stated.or(known.map(|known| known.pattern)) else {
            let message = "the file holds ranks but not the pattern that cuts words, and its number of ranks is none \
                           that is known";
            let help = "use the tokenizer.json of the model instead";
            return Err(Error::new(ErrorKind::Unsupported, message).help(help));
        };
        let pattern = RegexBuilder::new(pattern)
            .backtrack_limit(BACKTRACKS)
            .build()
            .map_err(|error| Error::new(ErrorKind::Unsupported, format!("the pattern cannot be run: {error}")))?;
        let added: HashMap<u32, &str> =
            tokenizer.added.iter().filter_map(|token| Some((token.id?, token.content.as_str()))).collect();
        let mut ranks = HashMap::default();
        let mut texts = HashMap::default();
        for entry in tokenizer.entries.iter().filter(|entry| !added.contains_key(&entry.id)) {
            ranks.insert(entry.stored.clone(), entry.id);
            texts.insert(entry.id, entry.stored.clone());
        }
        let mut special_ids: HashMap<u32, Box<[u8]>, Hash> = HashMap::default();
        for (id, content) in added {
            special_ids.insert(id, content.as_bytes().into());
        }
        for (id, content) in known.into_iter().flat_map(|known| known.special.iter()) {
            special_ids.entry(*id).or_insert_with(|| content.as_bytes().into());
        }
        let special = Trie::new(special_ids.iter().map(|(id, content)| (&**content, *id)))?;
        let stated = |role: &str| tokenizer.role(role).find_map(|role| u32::try_from(role.id?).ok());
        let puts = |flag: &Option<crate::tokenizer::Stated<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
        let configuration = &tokenizer.configuration;
        // Mistral's own tools put the begin before every text.
        let bos = puts(&configuration.add_bos) || tokenizer.kind == "tekken";
        Ok(Ranks {
            pattern,
            ranks,
            texts,
            special,
            special_ids,
            bos: stated("bos").filter(|_| bos),
            eos: stated("eos").filter(|_| puts(&configuration.add_eos)),
        })
    }

    pub fn encode(&self, text: &str, options: Options) -> Result<Vec<Piece>> {
        let mut out = Vec::new();
        out.extend(self.bos.filter(|_| options.special).map(|id| Piece { id, span: 0..0 }));
        let mut from = 0;
        if options.parse_special {
            let mut at = 0;
            while at < text.len() {
                let rest = text.as_bytes().get(at..).unwrap_or_default();
                match self.special.longest(rest) {
                    Some((length, id)) if length > 0 => {
                        self.encode_text(text, from..at, &mut out)?;
                        out.push(Piece { id, span: at..at + length });
                        at += length;
                        from = at;
                    }
                    _ => at += 1,
                }
            }
        }
        self.encode_text(text, from..text.len(), &mut out)?;
        let end = text.len();
        out.extend(self.eos.filter(|_| options.special).map(|id| Piece { id, span: end..end }));
        Ok(out)
    }

    fn encode_text(&self, text: &str, range: Range<usize>, out: &mut Vec<Piece>) -> Result<()> {
        let base = range.start;
        let piece = text.get(range).unwrap_or_default();
        for found in self.pattern.find_iter(piece) {
            let found = found.map_err(too_long)?;
            self.encode_word(found.as_str().as_bytes(), base + found.start(), out)?;
        }
        Ok(())
    }

    fn encode_word(&self, word: &[u8], base: usize, out: &mut Vec<Piece>) -> Result<()> {
        if let Some(id) = self.ranks.get(word) {
            out.push(Piece { id: *id, span: base..base + word.len() });
            return Ok(());
        }
        // Where the part that begins at a byte ends, and where the part before it begins; 0 for what was joined.
        let mut ends: Vec<usize> = (1..=word.len()).collect();
        let mut befores: Vec<usize> = (0..word.len()).map(|at| at.wrapping_sub(1)).collect();
        let end_of = |ends: &[usize], at: usize| ends.get(at).copied().unwrap_or(0);
        let mut queue = BinaryHeap::new();
        let look = |ends: &[usize], queue: &mut BinaryHeap<Reverse<(u32, usize, usize, usize)>>, left: usize| {
            let right = end_of(ends, left);
            let end = end_of(ends, right);
            if let Some(rank) =
                word.get(left..end).filter(|_| right > 0 && end > 0).and_then(|whole| self.ranks.get(whole))
            {
                queue.push(Reverse((*rank, left, right, end)));
            }
        };
        for left in 0..word.len() {
            look(&ends, &mut queue, left);
        }
        while let Some(Reverse((_, left, right, end))) = queue.pop() {
            if end_of(&ends, left) != right || end_of(&ends, right) != end {
                continue;
            }
            if let Some(slot) = ends.get_mut(left) {
                *slot = end;
            }
            if let Some(slot) = ends.get_mut(right) {
                *slot = 0;
            }
            if let Some(slot) = befores.get_mut(end) {
                *slot = left;
            }
            if let Some(before) = befores.get(left).copied().filter(|before| *before < left) {
                look(&ends, &mut queue, before);
            }
            look(&ends, &mut queue, left);
        }
        let mut at = 0;
        while at < word.len() {
            let end = end_of(&ends, at).max(at + 1);
            let part = word.get(at..end).unwrap_or_default();
            let Some(id) = self.ranks.get(part) else {
                return Err(crate::tokenizer::llama_cpp::no_byte(part.first().copied().unwrap_or_default()));
            };
            out.push(Piece { id: *id, span: base + at..base + end });
            at = end;
        }
        Ok(())
    }

    pub fn decode(&self, ids: &[u32], special: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for id in ids {
            match (self.texts.get(id), self.special_ids.get(id)) {
                (Some(text), _) => out.extend_from_slice(text),
                (None, Some(text)) if special => out.extend_from_slice(text),
                (None, Some(_)) => {}
                (None, None) => return Err(no_id(*id)),
            }
        }
        Ok(out)
    }
}
