//! A vocabulary for itself: each id once, each text once, every byte reachable, scores that are numbers.

use super::shown;
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::{count, thousands};
use crate::tokenizer::{Entry, EntryKind, Index, Notation, Tokenizer};

static EMPTY: Rule = Rule {
    name: "vocabulary-empty",
    severity: Severity::Error,
    why: "The tokenizer has no tokens, so no text can be given to the model.",
    help: "fetch the tokenizer's files again",
};
static ID_TWICE: Rule = Rule {
    name: "token-id-twice",
    severity: Severity::Error,
    why: "Two tokens have the same id, so both become the same row of the embedding, though the model was trained with a \
          row for each; and which of them the id is written as is up to the loader.",
    help: "fetch the tokenizer's files again, or give the tokens back the ids that they were trained with",
};
static TEXT_TWICE: Rule = Rule {
    name: "token-text-twice",
    severity: Severity::Warning,
    why: "Two ids have the same text. Only one of them is ever used for it, and loaders differ in which, so the model \
          may see another row than it was trained with.",
    help: "fetch the tokenizer's files again",
};
static TEXT_REFUSED: Rule = Rule {
    name: "token-text-refused",
    severity: Severity::Error,
    why: "Two ids have the same text. llama.cpp and SentencePiece refuse such a vocabulary, so the model does not load.",
    help: "convert the model again from the original tokenizer",
};
static HOLES: Rule = Rule {
    name: "vocabulary-holes",
    severity: Severity::Note,
    why: "Some ids below the highest belong to no token. The model has rows for them that no text reaches; should it \
          choose one of them, nothing can be written.",
    help: "nothing to do, unless a token is missed",
};
static BYTES_MISSING: Rule = Rule {
    name: "byte-tokens-missing",
    severity: Severity::Warning,
    why: "The tokenizer falls back to single bytes for text that it has no piece for, and some of the 256 bytes have no \
          token. Text with these bytes is lost, becomes the unknown token, or stops the program.",
    help: "fetch the tokenizer's files again, or convert the model again",
};
static SCORES_BROKEN: Rule = Rule {
    name: "token-scores-broken",
    severity: Severity::Error,
    why: "Scores decide which pieces a text is cut into. Where they are no numbers, or all the same, text falls into \
          pieces that the model was not trained with.",
    help: "convert the model again from the original tokenizer",
};
static SCORES_ORDER: Rule = Rule {
    name: "token-scores-out-of-order",
    severity: Severity::Warning,
    why: "Pieces of byte-pair encoding are scored in the order in which they were learnt, one after the other. Where a \
          few break the order, these scores were changed after training, and text is cut in another way than it was.",
    help: "fetch the original tokenizer, unless somebody meant to change it",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] =
    &[&EMPTY, &ID_TWICE, &TEXT_TWICE, &TEXT_REFUSED, &HOLES, &BYTES_MISSING, &SCORES_BROKEN, &SCORES_ORDER];

/// A tokenizer with its tokens by their text.
pub(super) struct Vocabulary<'a> {
    pub tokenizer: &'a Tokenizer,
    pub index: &'a Index<'a>,
}

impl<'a> Vocabulary<'a> {
    pub fn new(index: &'a Index<'a>) -> Self {
        Vocabulary { tokenizer: index.tokenizer, index }
    }

    /// The file that holds it, without its folder.
    pub fn file(&self) -> &'a str {
        super::base(&self.tokenizer.source)
    }

    /// The place of a text's entry.
    pub fn place(&self, text: &[u8]) -> Option<usize> {
        self.index.place(text)
    }

    /// The entry of a text.
    pub fn entry(&self, text: &[u8]) -> Option<&'a Entry> {
        self.tokenizer.entries.get(self.place(text)?)
    }

    /// The entry of an id.
    pub fn with_id(&self, id: u64) -> Option<&'a Entry> {
        self.tokenizer.with_id(u32::try_from(id).ok()?).next()
    }

    /// Whether the file could be read to its end, so that what is missing is missing.
    pub fn is_whole(&self) -> bool {
        self.tokenizer.findings.iter().all(|finding| finding.severity() != Severity::Error)
            && !self.tokenizer.entries.is_empty()
    }

    /// Whether it is only the ranks of a tokenizer whose special tokens stand in a program.
    pub fn lacks_special(&self) -> bool {
        self.tokenizer.kind == "tiktoken" && self.tokenizer.added.is_empty()
    }

    /// How many texts the vocabulary has without what is only added to it.
    pub fn trained(&self) -> usize {
        let is_added = |place: &u32| {
            self.index.at(*place).is_some_and(|entry| self.tokenizer.appended.binary_search(&entry.id).is_ok())
        };
        let again = self.index.again.iter().filter(|(place, _)| !is_added(place)).count();
        self.tokenizer.entries.len().saturating_sub(self.tokenizer.appended.len()).saturating_sub(again)
    }

    /// The highest id.
    pub fn highest(&self) -> Option<u32> {
        self.tokenizer.entries.last().map(|entry| entry.id)
    }

    /// An id with its text, for messages.
    pub fn named(&self, id: u64) -> String {
        match self.with_id(id) {
            Some(entry) => format!("{} {}", thousands(id), shown(&entry.stored)),
            None => format!("{} (no token)", thousands(id)),
        }
    }

    /// Looks for faults of the vocabulary itself.
    pub fn check(&self, findings: &mut Vec<Finding>) {
        let Tokenizer { entries, source, .. } = self.tokenizer;
        let mut find = |rule: &'static Rule, message: String| {
            findings.push(Finding::new(rule, message).file(source.as_str()));
        };
        if entries.is_empty() {
            if self.tokenizer.findings.iter().all(|finding| finding.severity() != Severity::Error) {
                find(&EMPTY, format!("{} has no tokens", self.file()));
            }
            return;
        }
        let pairs = || entries.iter().zip(entries.iter().skip(1));
        let mut same = pairs().filter(|(one, next)| one.id == next.id);
        if let Some((one, next)) = same.next() {
            let (first, second) = (shown(&one.stored), shown(&next.stored));
            let more = more(same.count());
            find(&ID_TWICE, format!("{first} and {second} both have the id {}{more}", thousands(one.id.into())));
        }
        if let Some((again, first)) = self.index.again.first()
            && let (Some(again), Some(first)) = (self.index.at(*again), self.index.at(*first))
        {
            let rule = match self.tokenizer.kind {
                "gguf" | "sentencepiece" => &TEXT_REFUSED,
                _ => &TEXT_TWICE,
            };
            let (one, next) = (thousands(first.id.into()), thousands(again.id.into()));
            let more = more(self.index.again.len() - 1);
            find(rule, format!("{} has the ids {one} and {next}{more}", shown(&again.stored)));
        }
        if self.is_whole() {
            self.holes(&mut find);
            self.bytes(&mut find);
            self.scores(&mut find);
        }
    }

    fn holes(&self, find: &mut impl FnMut(&'static Rule, String)) {
        let entries = &self.tokenizer.entries;
        let before = entries.first().map_or(0, |entry| u64::from(entry.id));
        let mut first = (before > 0).then_some(0);
        let mut holes = before;
        for (one, next) in entries.iter().zip(entries.iter().skip(1)) {
            let gap = u64::from(next.id.saturating_sub(one.id)).saturating_sub(1);
            if gap > 0 {
                first.get_or_insert(u64::from(one.id) + 1);
                holes += gap;
            }
        }
        if let Some(first) = first {
            let ids = count(holes, "id has", "ids have");
            let which = if holes == 1 { "it is" } else { "the first is" };
            let highest = thousands(self.highest().unwrap_or_default().into());
            find(&HOLES, format!("{ids} no token below the highest, {highest}; {which} {}", thousands(first)));
        }
    }

    fn bytes(&self, find: &mut impl FnMut(&'static Rule, String)) {
        let tokenizer = self.tokenizer;
        if !tokenizer.byte_fallback && tokenizer.kind != "gguf" {
            return;
        }
        let missing: Vec<u8> = match tokenizer.notation {
            // Vocabularies that were learnt from text lack the bytes that are in no text: those that UTF-8 never has or
            // only for planes without letters, and control characters.
            Notation::ByteLetters => (0..=255u8)
                .filter(|byte| !matches!(byte, 0..=8 | 11..=12 | 14..=31 | 0x7f | 0xc0 | 0xc1 | 0xf1..=0xff))
                .filter(|byte| {
                    let letter = crate::tokenizer::letter_of_byte(*byte).to_string();
                    self.place(letter.as_bytes()).is_none()
                })
                .collect(),
            Notation::Blanks => (0..=255u8)
                .filter(|byte| self.place(crate::tokenizer::tag_of_byte(*byte).as_bytes()).is_none())
                .collect(),
            Notation::Plain if matches!(tokenizer.kind, "tiktoken" | "tekken") => {
                (0..=255u8).filter(|byte| self.place(&[*byte]).is_none()).collect()
            }
            _ => return,
        };
        // None at all is another way of tokenizing, not a loss.
        if let Some(first) = missing.first().filter(|_| missing.len() < 256) {
            let bytes = count(missing.len() as u64, "byte has", "bytes have");
            let which = if missing.len() == 1 { "it is" } else { "the first is" };
            find(&BYTES_MISSING, format!("{bytes} no token; {which} 0x{first:02X}"));
        }
    }

    fn scores(&self, find: &mut impl FnMut(&'static Rule, String)) {
        let tokenizer = self.tokenizer;
        let scored = matches!(tokenizer.kind, "sentencepiece" | "tokenizer-json")
            || (tokenizer.kind == "gguf" && matches!(tokenizer.model.as_str(), "sentencepiece" | "unigram"));
        if !scored {
            return;
        }
        let entries = || tokenizer.entries.iter().filter_map(|entry| Some((entry, entry.score?)));
        let mut broken = entries().filter(|(_, score)| !score.is_finite());
        if let Some((entry, score)) = broken.next() {
            let more = more(broken.count());
            find(&SCORES_BROKEN, format!("{} {} has the score {score}{more}", entry.id, shown(&entry.stored)));
            return;
        }
        let normal = || entries().filter(|(entry, _)| entry.kind == EntryKind::Normal);
        let first = normal().next().map(|(_, score)| score);
        let number = normal().count();
        if number > 16 && normal().all(|(_, score)| Some(score) == first) {
            find(&SCORES_BROKEN, format!("all {} pieces have the same score", thousands(number as u64)));
            return;
        }
        // Without types, marks cannot be told from pieces, and that is said.
        if super::gguf::settings(tokenizer).is_some_and(|settings| !settings.has_types) {
            return;
        }
        // SentencePiece numbers the pieces of byte-pair encoding as it learns them, the score the number's negative.
        // Runs of blanks were added by hand to many, with scores of their own.
        let is_blank = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| text.chars().all(|c| c == '▁'));
        let learnt = || normal().filter(|(entry, _)| !is_blank(&entry.stored));
        let order = learnt().zip(learnt().skip(1));
        let mut breaks = order.filter(|((_, one), (_, next))| next > one);
        if let Some((_, (entry, _))) = breaks.next() {
            let breaks = breaks.count() + 1;
            if breaks * 100 <= number {
                let pieces = count(breaks as u64, "piece is", "pieces are");
                let what =
                    format!("{pieces} scored higher than the one before, first {} {}", entry.id, shown(&entry.stored));
                find(&SCORES_ORDER, what);
            }
        }
    }
}

/// How many more there are of something, for the end of a message.
pub(super) fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" (and {} more like it)", thousands(count as u64)) }
}
