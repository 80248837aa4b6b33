//! The merges of byte-pair encoding against its vocabulary.

use rayon::prelude::*;

use super::shown;
use super::vocabulary::{Vocabulary, more};
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::{count, thousands};
use crate::tokenizer::{Entry, EntryKind, Merge, Notation};

static TOKEN_MISSING: Rule = Rule {
    name: "merge-token-missing",
    severity: Severity::Error,
    why: "A merge joins pieces, or yields one, that the vocabulary does not have. The library tokenizers refuses such a \
          file; llama.cpp breaks the text into bytes there.",
    help: "fetch vocabulary and merges from the same place and revision",
};
static NONE: Rule = Rule {
    name: "merges-missing",
    severity: Severity::Error,
    why: "Byte-pair encoding without merges never joins two characters: every text becomes single letters, which the \
          model was not trained with. llama.cpp refuses such a file.",
    help: "fetch the merges, or convert the model again from the original tokenizer",
};
static UNMADE: Rule = Rule {
    name: "token-never-merged",
    severity: Severity::Warning,
    why: "No merge leads to a token of the vocabulary, so text is never encoded as it, though the model was trained to see \
          it there. A few lost merges change few words; a list that was cut off changes most.",
    help: "fetch the merges from where the vocabulary comes from",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&TOKEN_MISSING, &NONE, &UNMADE];

/// What the merges of one part of the list do.
#[derive(Default)]
struct Work {
    /// Places of the tokens that they make.
    made: Vec<u32>,
    /// Merges that cannot be, and the first with what it lacks.
    broken: usize,
    first: Option<(usize, String)>,
}

/// Looks for faults of the merges.
pub(super) fn check(vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let tokenizer = vocabulary.tokenizer;
    if tokenizer.model != "bpe" || !vocabulary.is_whole() {
        return;
    }
    let mut find = |rule: &'static Rule, message: String| {
        findings.push(Finding::new(rule, message).file(tokenizer.source.as_str()));
    };
    // Marks are found in the text before it is merged, whether or not the file says that they are marks.
    let long = |entry: &&Entry| {
        let text = entry.kind == EntryKind::Normal && !super::roles::is_marker(&entry.stored);
        text && symbols(entry, tokenizer.notation) > 1
    };
    let merges = match tokenizer.merges.as_deref() {
        Some([]) | None if matches!(tokenizer.kind, "gguf" | "tokenizer-json") => {
            let kimi =
                super::gguf::settings(tokenizer).is_some_and(|settings| settings.pre.as_deref() == Some("kimi-k2"));
            let pieces = tokenizer.entries.iter().filter(long).count();
            if pieces > 0 && !kimi {
                let pieces = count(pieces as u64, "piece", "pieces");
                find(&NONE, format!("there are no merges for {pieces} of several characters"));
            }
            return;
        }
        None => return,
        Some(merges) => merges,
    };
    const PART: usize = 1 << 14;
    let parts: Vec<Work> =
        merges.par_chunks(PART).enumerate().map(|(part, merges)| work(vocabulary, merges, part * PART)).collect();
    let broken: usize = parts.iter().map(|part| part.broken).sum();
    if let Some((place, lacks)) = parts.iter().find_map(|part| part.first.as_ref()) {
        let merge = merges.get(*place).map(|merge| format!("{:?}", format!("{} {}", merge.left, merge.right)));
        let more = more(broken - 1);
        find(&TOKEN_MISSING, format!("merge {place}, {}: {lacks} is no token{more}", merge.unwrap_or_default()));
    }
    let mut made = vec![false; tokenizer.entries.len()];
    // A text that stands twice is one fault, not two.
    let again = vocabulary.again.iter().map(|(place, _)| place);
    for place in parts.iter().flat_map(|part| &part.made).chain(again) {
        if let Some(slot) = usize::try_from(*place).ok().and_then(|place| made.get_mut(place)) {
            *slot = true;
        }
    }
    // Without types, added tokens cannot be told from text, and that is said.
    if super::gguf::settings(tokenizer).is_some_and(|settings| !settings.has_types) {
        return;
    }
    let unmade = tokenizer.entries.iter().zip(&made).filter(|(entry, made)| !**made && long(entry));
    let mut unmade = unmade.map(|(entry, _)| entry);
    if let Some(first) = unmade.next() {
        let number = unmade.count() + 1;
        let tokens = count(number as u64, "token is", "tokens are");
        let which = if number == 1 { "it is" } else { "the first is" };
        let first = format!("{} {}", thousands(first.id.into()), shown(&first.stored));
        find(&UNMADE, format!("{tokens} never made by a merge; {which} {first}"));
    }
}

/// Follows the merges of one part of the list, which begins at `start`.
fn work(vocabulary: &Vocabulary, merges: &[Merge], start: usize) -> Work {
    let mut work = Work { made: Vec::with_capacity(merges.len()), ..Work::default() };
    let mut whole = Vec::new();
    for (place, Merge { left, right }) in (start..).zip(merges) {
        whole.clear();
        whole.extend_from_slice(left.as_bytes());
        whole.extend_from_slice(right.as_bytes());
        let made = vocabulary.place(&whole).or_else(|| {
            // What continues a word may have a prefix that is dropped in joining.
            let right = right.strip_prefix("##")?;
            whole.truncate(left.len());
            whole.extend_from_slice(right.as_bytes());
            vocabulary.place(&whole)
        });
        let lacks = [left, right].into_iter().find(|part| vocabulary.place(part.as_bytes()).is_none());
        let lacks = lacks.map(|part| shown(part.as_bytes())).or_else(|| made.is_none().then(|| shown(&whole)));
        work.made.extend(made.and_then(|made| u32::try_from(made).ok()));
        if let Some(lacks) = lacks {
            work.broken += 1;
            work.first.get_or_insert((place, lacks));
        }
    }
    work
}

/// How many symbols a token's text begins as.
fn symbols(entry: &Entry, notation: Notation) -> usize {
    match std::str::from_utf8(&entry.stored) {
        Ok(text) if notation != Notation::Plain || !text.is_ascii() => text.chars().take(2).count(),
        _ => entry.stored.len().min(2),
    }
}
