//! The vocabulary against the rows of embedding and head.

use super::statements::Statements;
use super::{Subject, Vocabulary, shown};
use crate::analysis::{Analysis, Row};
use crate::finding::{Finding, Rule, Severity};
use crate::names::{Role, Stack};
use crate::report::units::{count, thousands};
use crate::tokenizer::{Entry, EntryKind};

static TOO_FEW: Rule = Rule {
    name: "embedding-rows-too-few",
    severity: Severity::Error,
    why: "A token has an id for which the embedding has no row. A text with this token stops the program, or reads memory \
          that is not the embedding's.",
    help: "use the tokenizer that belongs to these weights; if tokens were added, resize the embedding and save again",
};
static PLACEHOLDER: Rule = Rule {
    name: "placeholder-without-row",
    severity: Severity::Note,
    why: "A token that stands for an image, a sound or the like has an id beyond the embedding. Programs replace it before \
          the embedding is looked up; written in a text that is not treated so, it stops them.",
    help: "nothing to do for a model that takes text only",
};
static PADDED: Rule = Rule {
    name: "embedding-rows-spare",
    severity: Severity::Note,
    why: "The embedding has more rows than the tokenizer has ids: it was made longer up to a round number that suits the \
          hardware, or has room for tokens to come. Nothing uses these rows.",
    help: "nothing to do",
};
static TOO_MANY: Rule = Rule {
    name: "tokenizer-much-smaller",
    severity: Severity::Warning,
    why: "The embedding has far more rows than the tokenizer has ids, more than any padding. The tokenizer is most likely \
          that of another model, and every text would look up the wrong rows.",
    help: "use the tokenizer that belongs to these weights",
};
static GGUF_DIFFERS: Rule = Rule {
    name: "gguf-rows-differ",
    severity: Severity::Error,
    why: "The embedding of a GGUF must have exactly as many rows as the file has tokens. llama.cpp refuses the file \
          otherwise: tokens were lost or added without their rows.",
    help: "convert the model again from the original files",
};
static HEAD_TOO_SHORT: Rule = Rule {
    name: "head-rows-too-few",
    severity: Severity::Warning,
    why: "The output head has no row for tokens that are text or end it, so the model can read them but never write them.",
    help: "use the head that belongs to this tokenizer",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&TOO_FEW, &PLACEHOLDER, &PADDED, &TOO_MANY, &GGUF_DIFFERS, &HEAD_TOO_SHORT];

/// How many rows there are, and who says so.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub embedding: Option<Counted>,
    head: Option<Counted>,
    /// Whether the weights themselves were counted.
    measured: bool,
}

#[derive(Debug)]
pub(super) struct Counted {
    pub rows: u64,
    pub columns: u64,
    /// The tensor, or the key that states the number.
    pub by: String,
}

/// What the rows say of the tokenizer.
pub(super) enum Judged {
    Fits(String),
    Fails(String),
    Unknown(String),
}

impl Rows {
    pub fn of(analysis: &Analysis, statements: &Statements) -> Self {
        let table = |row: &&Row| {
            let whole = row.part.stack == Stack::Main && row.part.layer.is_none() && !row.part.buffer;
            whole && row.logical_shape().len() == 2
        };
        let counted = |row: &Row| match row.logical_shape() {
            [rows, columns] => Some(Counted { rows: *rows, columns: *columns, by: row.tensor.name.clone() }),
            _ => None,
        };
        let tables = || analysis.rows.iter().filter(table);
        let embeddings = || tables().filter(|row| row.part.role == Role::Embedding && row.part.component == "tokens");
        // Embeddings that were cut into parts are not put together here.
        let embedding = embeddings().next().filter(|_| embeddings().count() == 1).and_then(counted);
        let measured = embedding.is_some();
        let embedding = embedding.or_else(|| {
            let rows = statements.vocab_size.filter(|_| embeddings().next().is_none())?;
            Some(Counted { rows, columns: 0, by: "config.json: vocab_size".to_string() })
        });
        let columns = embedding.as_ref().filter(|_| measured).map(|counted| counted.columns);
        let is_head = |row: &&Row| {
            let names = ["lm_head", "embed_out", "output_layer", "output"];
            let words = row.tensor.name.split('.').rev().skip(1);
            row.part.role == Role::Head && words.take(1).any(|word| names.contains(&word))
        };
        let mut heads = tables().filter(is_head).filter_map(counted);
        let head = heads.rfind(|head| Some(head.columns) == columns);
        Rows { embedding, head, measured }
    }
}

/// Compares the tokenizer that loaders prefer with the rows.
pub(super) fn check(subject: &Subject, findings: &mut Vec<Finding>) -> Judged {
    let Some(vocabulary) = subject.main() else { return Judged::Unknown("there is no tokenizer".to_string()) };
    let unknown = |why: &str| Judged::Unknown(why.to_string());
    let Some(embedding) = &subject.rows.embedding else {
        return unknown("no embedding is stored, and no configuration states its rows");
    };
    if !vocabulary.is_whole() {
        return unknown("the tokenizer could not be read to its end");
    }
    if vocabulary.lacks_special() {
        return unknown("the file holds only the ranks of the tokenizer: its special tokens stand in a program");
    }
    if vocabulary.tokenizer.kind == "sentencepiece" && subject.is_renumbered() {
        return unknown("the model numbers its tokens otherwise than the tokenizer's file");
    }
    let Some(highest) = vocabulary.highest().map(u64::from) else { return unknown("the tokenizer has no tokens") };
    let source = &vocabulary.tokenizer.source;
    let (rows, by) = (embedding.rows, &embedding.by);
    let have = format!("{by} {} {}", if subject.rows.measured { "has" } else { "states" }, count(rows, "row", "rows"));
    let mut find = |rule: &'static Rule, message: String| {
        findings.push(Finding::new(rule, message).file(source.as_str()));
    };
    let tokens = vocabulary.tokenizer.size() as u64;
    if vocabulary.tokenizer.kind == "gguf" && subject.rows.measured {
        if rows != tokens {
            let message = format!("{have}, the file has {}", count(tokens, "token", "tokens"));
            find(&GGUF_DIFFERS, message.clone());
            return Judged::Fails(message);
        }
        return Judged::Fits(format!("{have}, as many as the file has tokens"));
    }
    let beyond: Vec<&Entry> = vocabulary.tokenizer.entries.iter().filter(|entry| u64::from(entry.id) >= rows).collect();
    let (placeholders, others): (Vec<&Entry>, Vec<&Entry>) =
        beyond.into_iter().partition(|entry| is_placeholder(entry, subject, vocabulary));
    if let Some(first) = others.first() {
        let more = super::vocabulary::more(others.len() - 1);
        let message = format!("{have}, but {} has the id {}{more}", shown(&first.stored), thousands(first.id.into()));
        find(&TOO_FEW, message.clone());
        return Judged::Fails(message);
    }
    if let Some(first) = placeholders.first() {
        let more = super::vocabulary::more(placeholders.len() - 1);
        find(
            &PLACEHOLDER,
            format!("{have}, and {} has the id {}{more}", shown(&first.stored), thousands(first.id.into())),
        );
    }
    head(subject, vocabulary, &mut find);
    let spare = rows.saturating_sub(highest.saturating_add(1));
    if spare == 0 {
        return Judged::Fits(format!("{have}, one for each id"));
    }
    let message = format!("{have}, {} beyond the last token, {}", thousands(spare), vocabulary.named(highest));
    // Padding is to a multiple of some hundreds; rooms for codes of sounds are some thousands.
    if spare >= 1024 && spare.saturating_mul(4) > highest {
        find(&TOO_MANY, message.clone());
        return Judged::Fails(message);
    }
    let round = (1..=12).rev().map(|power| 1u64 << power).find(|step| rows.is_multiple_of(*step));
    let round = round.filter(|step| *step > spare && *step >= 8).map(|step| format!(" (a multiple of {step})"));
    find(&PADDED, format!("{message}{}", round.unwrap_or_default()));
    Judged::Fits(format!("{have}, enough for the {} ids", thousands(tokens)))
}

/// Tokens that the head has no row for.
fn head(subject: &Subject, vocabulary: &Vocabulary, find: &mut impl FnMut(&'static Rule, String)) {
    let Some(head) = &subject.rows.head else { return };
    let ends: Vec<u64> = vocabulary.tokenizer.role("eos").filter_map(|role| role.id).collect();
    let wanted = |entry: &&Entry| {
        let text = matches!(entry.kind, EntryKind::Normal | EntryKind::Byte);
        u64::from(entry.id) >= head.rows && (text || ends.contains(&entry.id.into()))
    };
    let mut missing = vocabulary.tokenizer.entries.iter().filter(wanted);
    if let Some(first) = missing.next() {
        let more = super::vocabulary::more(missing.count());
        let rows = count(head.rows, "row", "rows");
        find(
            &HEAD_TOO_SHORT,
            format!(
                "{} has {rows}, but {} has the id {}{more}",
                head.by,
                shown(&first.stored),
                thousands(first.id.into())
            ),
        );
    }
}

/// Whether a token stands for something that is no text: the configuration names it, or its own name says so.
fn is_placeholder(entry: &Entry, subject: &Subject, vocabulary: &Vocabulary) -> bool {
    if subject.statements.placeholders.contains(&u64::from(entry.id)) {
        return true;
    }
    let added = entry.kind != EntryKind::Normal && entry.kind != EntryKind::Byte;
    let text = String::from_utf8_lossy(&entry.stored).to_ascii_lowercase();
    let words = ["image", "img", "video", "audio", "vision", "speech", "sound", "patch", "frame"];
    let role = vocabulary.tokenizer.roles.iter().any(|role| role.id == Some(entry.id.into()));
    added && !role && words.iter().any(|word| text.contains(word))
}
