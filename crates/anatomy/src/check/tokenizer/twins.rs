//! Several tokenizers in one folder, which must be one and the same.

use super::vocabulary::Vocabulary;
use super::{Subject, shown};
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::{count, thousands};
use crate::tokenizer::{Entry, EntryKind, Merges};

static DIFFER: Rule = Rule {
    name: "tokenizer-files-differ",
    severity: Severity::Warning,
    why: "The folder holds the tokenizer twice, for fast and for slow loaders or converters, and some ids are not the same \
          tokens in both. Which one counts depends on the program.",
    help: "make one from the other again, or fetch both from one place and revision",
};
static UNRELATED: Rule = Rule {
    name: "tokenizer-files-unrelated",
    severity: Severity::Error,
    why: "The folder holds two tokenizers that are not of one model: one of them cannot belong to the weights, and every \
          program that goes by it yields nonsense.",
    help: "remove the one that does not belong there, and fetch or make it anew",
};
static MERGES_DIFFER: Rule = Rule {
    name: "merges-differ",
    severity: Severity::Warning,
    why: "Two files list different merges for the same vocabulary, so loaders cut the same text into different pieces.",
    help: "make one from the other again, or fetch both from one place and revision",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&DIFFER, &UNRELATED, &MERGES_DIFFER];

/// Compares each further tokenizer with the one that loaders prefer.
pub(super) fn check(subject: &Subject, findings: &mut Vec<Finding>) {
    let Some((main, others)) = subject.vocabularies.split_first() else { return };
    for other in others.iter().filter(|other| other.is_whole() && main.is_whole()) {
        // Where the file's numbers are not those of the model, only the texts can be compared: that is left out.
        let renumbered =
            subject.is_renumbered() && [main, other].iter().any(|one| one.tokenizer.kind == "sentencepiece");
        if !renumbered {
            compare(main, other, findings);
        }
    }
}

fn compare(main: &Vocabulary, other: &Vocabulary, findings: &mut Vec<Finding>) {
    let (mut same, mut wrong, mut alone) = (0usize, 0usize, 0usize);
    let mut first = None;
    let mut first_alone = None;
    let (one, two) = (main.file(), other.file());
    // Both are in order of ids.
    let mut left = main.tokenizer.entries.iter().peekable();
    let mut right = other.tokenizer.entries.iter().peekable();
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a.id == b.id => {
                if is_same(main, a, other, b) {
                    same += 1;
                } else {
                    wrong += 1;
                    let say = || {
                        format!(
                            "{} is {} in {one}, {} in {two}",
                            thousands(a.id.into()),
                            shown(&a.stored),
                            shown(&b.stored)
                        )
                    };
                    first.get_or_insert_with(say);
                }
                left.next();
                right.next();
            }
            (Some(a), b) if b.is_none_or(|b| a.id < b.id) => {
                if is_text(a) {
                    alone += 1;
                    first_alone.get_or_insert_with(|| {
                        format!("{} {} is in {one} only", thousands(a.id.into()), shown(&a.stored))
                    });
                }
                left.next();
            }
            (_, Some(b)) => {
                if is_text(b) {
                    alone += 1;
                    first_alone.get_or_insert_with(|| {
                        format!("{} {} is in {two} only", thousands(b.id.into()), shown(&b.stored))
                    });
                }
                right.next();
            }
            _ => break,
        }
    }
    let mut find =
        |rule, message: String| findings.push(Finding::new(rule, message).file(other.tokenizer.source.as_str()));
    let tokens = |number: usize| count(number as u64, "id is", "ids are");
    if let Some(first) = first.as_ref().filter(|_| wrong > same) {
        find(&UNRELATED, format!("{} not the same in {one} and {two}: {first}", tokens(wrong)));
        return;
    }
    if let Some(first) = first.or(first_alone) {
        find(&DIFFER, format!("{} not the same in {one} and {two}: {first}", tokens(wrong + alone)));
    }
    if let (Some(ours), Some(theirs)) = (&main.tokenizer.merges, &other.tokenizer.merges) {
        let differs = ours.iter().zip(theirs.iter()).position(|(one, other)| one != other);
        let shorter = (ours.len() != theirs.len()).then(|| ours.len().min(theirs.len()));
        if let Some(place) = differs.or(shorter) {
            let merge = |list: &Merges| match list.get(place) {
                Some(merge) => format!("{:?}", merge.to_string()),
                None => format!("none: there are {}", thousands(list.len() as u64)),
            };
            let (ours, theirs) = (merge(ours), merge(theirs));
            find(&MERGES_DIFFER, format!("merge {place} is {ours} in {one}, {theirs} in {two}"));
        }
    }
}

fn is_text(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Normal | EntryKind::Byte)
}

/// Whether two entries are the same token, whatever their files write it as.
fn is_same(one: &Vocabulary, a: &Entry, other: &Vocabulary, b: &Entry) -> bool {
    // What nobody writes may have any name, but a filler that a converter put there stands for a token that it lost.
    let named = |entry: &Entry| entry.kind != EntryKind::Unused || entry.stored.starts_with(b"[PAD");
    a.stored == b.stored || !named(a) || !named(b) || one.tokenizer.bytes(a) == other.tokenizer.bytes(b)
}
