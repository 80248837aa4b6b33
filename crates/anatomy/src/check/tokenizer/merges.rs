//! The merges of byte-pair encoding against its vocabulary.

use super::shown;
use super::vocabulary::{Vocabulary, more};
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::{count, thousands};
use crate::tokenizer::{Entry, EntryKind, Joined, Notation};

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
    let holds_merges = matches!(tokenizer.kind, "gguf" | "tokenizer-json");
    let merges = match &tokenizer.merges {
        Some(merges) if !merges.is_empty() || !holds_merges => merges,
        _ if holds_merges => {
            let kimi =
                super::gguf::settings(tokenizer).is_some_and(|settings| settings.pre.as_deref() == Some("kimi-k2"));
            let pieces = tokenizer.entries.iter().filter(long).count();
            if pieces > 0 && !kimi {
                let pieces = count(pieces as u64, "piece", "pieces");
                find(&NONE, format!("there are no merges for {pieces} of several characters"));
            }
            return;
        }
        _ => return,
    };
    let joined = || merges.iter().zip(&vocabulary.index.merges);
    let is_broken = |joined: &Joined| joined.left.is_none() || joined.right.is_none() || joined.whole.is_none();
    let mut broken = joined().enumerate().filter(|(_, (_, joined))| is_broken(joined));
    if let Some((place, (merge, joined))) = broken.next() {
        let lacks = match joined {
            Joined { left: None, .. } => merge.left,
            Joined { right: None, .. } => merge.right,
            _ => merge.whole,
        };
        let (lacks, more) = (shown(lacks.as_bytes()), more(broken.count()));
        find(&TOKEN_MISSING, format!("merge {place}, {:?}: {lacks} is no token{more}", merge.to_string()));
    }
    let mut made = vec![false; tokenizer.entries.len()];
    // A text that stands twice is one fault, not two.
    let again = vocabulary.index.again.iter().map(|(place, _)| *place);
    for place in joined().filter_map(|(_, joined)| joined.whole).chain(again) {
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| made.get_mut(place)) {
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

/// How many symbols a token's text begins as.
fn symbols(entry: &Entry, notation: Notation) -> usize {
    match std::str::from_utf8(&entry.stored) {
        Ok(text) if notation != Notation::Plain || !text.is_ascii() => text.chars().take(2).count(),
        _ => entry.stored.len().min(2),
    }
}
