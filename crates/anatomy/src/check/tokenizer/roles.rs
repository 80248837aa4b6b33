//! Which token begins, ends, pads: the statements of all files against each other and the vocabulary.

use super::statements::{Place, ROLES, Saying, What};
use super::{Subject, Vocabulary, base, shown};
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::thousands;
use crate::tokenizer::{EntryKind, Role};

static OUTSIDE: Rule = Rule {
    name: "special-id-outside",
    severity: Severity::Error,
    why: "A file names a special token by an id that is beyond the vocabulary. Programs that look up its row stop, and an \
          end that cannot be written never comes.",
    help: "use the configuration that belongs to these weights and tokenizer",
};
static NO_TOKEN: Rule = Rule {
    name: "special-id-without-token",
    severity: Severity::Warning,
    why: "A file names the begin or the end of a text by an id that no token has, so that the tokenizer never puts it \
          there, and the model was most likely not trained with it.",
    help: "use the configuration that belongs to this tokenizer, or correct the id",
};
static IS_TEXT: Rule = Rule {
    name: "special-id-is-text",
    severity: Severity::Warning,
    why: "A file names the begin or the end of a text by the id of ordinary text. The model then begins with this text, or \
          stops where it would write it.",
    help: "correct the id; it most likely comes from another model, or is a default that nobody changed",
};
static EOS_DIFFERS: Rule = Rule {
    name: "eos-differs",
    severity: Severity::Warning,
    why: "The tokenizer ends a text with another token than those that stop generation. Programs that go by the \
          configuration (transformers) do not stop where the tokenizer says that the text ends, and write on.",
    help: "list the tokenizer's end among the ids of `eos_token_id` in generation_config.json, if the model was trained \
           to write it",
};
static IDS_DIFFER: Rule = Rule {
    name: "special-ids-differ",
    severity: Severity::Note,
    why: "Files name different tokens for the same purpose. Which counts depends on the program; it matters where the token \
          is really used: a begin that is put before a text, padding of a batch.",
    help: "nothing to do if the program goes by the right one; else make the files agree",
};
static UNKNOWN_TEXT: Rule = Rule {
    name: "special-token-unknown",
    severity: Severity::Warning,
    why: "A file names a special token by a text that the vocabulary does not have. transformers adds it with the next id \
          that is free, whose row was never trained or does not exist; other programs split it into pieces.",
    help: "name the token that the model was trained with, or use the tokenizer that belongs to this configuration",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&OUTSIDE, &NO_TOKEN, &IS_TEXT, &EOS_DIFFERS, &IDS_DIFFER, &UNKNOWN_TEXT];

/// Compares all statements.
pub(super) fn check(subject: &Subject, findings: &mut Vec<Finding>) {
    let vocabulary = subject.main().filter(|vocabulary| vocabulary.is_whole());
    if let Some(vocabulary) = vocabulary {
        ids(subject, vocabulary, findings);
        texts(subject, vocabulary, findings);
    }
    // Without a vocabulary, the lists of added tokens may tell the ids of texts all the same.
    agreement(subject, vocabulary, findings);
}

/// The file of a statement.
fn file(stated: &str) -> &str {
    stated.rsplit_once(": ").map_or(stated, |(file, _)| file)
}

/// An id that a file states.
struct StatedId<'a> {
    role: &'a str,
    id: u64,
    stated: &'a str,
}

/// All stated ids: those of the configurations, and the tokenizer's own.
fn stated_ids<'a>(subject: &'a Subject, vocabulary: &'a Vocabulary) -> Vec<StatedId<'a>> {
    let of_saying = |saying: &'a Saying| match saying.what {
        What::Id(id) => Some(StatedId { role: saying.role, id, stated: &saying.stated }),
        What::Text(_) => None,
    };
    let configured = subject.statements.sayings.iter().filter_map(of_saying);
    configured
        .chain(own(vocabulary).filter_map(|role| {
            let id = role.id.filter(|_| role.by_id)?;
            Some(StatedId { role: role.role, id, stated: &role.stated })
        }))
        .collect()
}

/// What the tokenizer's own file states.
fn own<'a>(vocabulary: &'a Vocabulary) -> impl Iterator<Item = &'a Role> {
    let tokenizer = vocabulary.tokenizer;
    tokenizer.roles.iter().filter(|role| role.stated.starts_with(&tokenizer.source))
}

fn ids(subject: &Subject, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let tokenizer = vocabulary.tokenizer;
    let highest = vocabulary.highest().map_or(0, u64::from);
    let rows = subject.rows.embedding.as_ref().map(|embedding| embedding.rows);
    let lists = &subject.statements.lists;
    let listed = |id: u64| lists.iter().flat_map(|list| &list.tokens).any(|token| token.id == id);
    let named_by_text = |id: u64| tokenizer.roles.iter().any(|role| !role.by_id && role.id == Some(id));
    for StatedId { role, id, stated } in stated_ids(subject, vocabulary) {
        let mut find = |rule, message: String| findings.push(Finding::new(rule, message).file(file(stated)));
        let entry = vocabulary.with_id(id);
        let is_configured = !tokenizer.source.starts_with(file(stated));
        match entry {
            None if rows.is_none_or(|rows| id >= rows) && id > highest => {
                let rows = match rows {
                    Some(rows) => format!("there are {} rows", thousands(rows)),
                    None => format!("the highest id is {}", thousands(highest)),
                };
                find(&OUTSIDE, format!("{} is {}, but {rows}", base(stated), thousands(id)));
            }
            None if vocabulary.lacks_special() || !matches!(role, "bos" | "eos") || listed(id) => {}
            None => find(&NO_TOKEN, format!("{} is {}, an id that no token has", base(stated), thousands(id))),
            Some(entry) if matches!(role, "bos" | "eos") => {
                let text = entry.kind == EntryKind::Normal && !is_marker(&entry.stored);
                let plain = text || entry.kind == EntryKind::Byte;
                // The ids of a renumbered model are those of another list.
                let other = is_configured && tokenizer.kind == "sentencepiece" && subject.is_renumbered();
                if plain && !named_by_text(id) && !other {
                    find(&IS_TEXT, format!("{} is {}, which is text", base(stated), vocabulary.named(id)));
                }
            }
            Some(_) => {}
        }
    }
}

/// Whether a text looks like a mark and not like something that people write: in brackets, or of one letter.
pub(super) fn is_marker(text: &[u8]) -> bool {
    let text = text.strip_prefix("▁".as_bytes()).unwrap_or(text);
    let within = |open: u8, close: u8| text.first() == Some(&open) && text.last() == Some(&close);
    text.len() > 2 && (within(b'<', b'>') || within(b'[', b']'))
}

fn texts(subject: &Subject, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    if vocabulary.lacks_special() {
        return;
    }
    let mut told: Vec<(&str, &str)> = Vec::new();
    for saying in &subject.statements.sayings {
        let What::Text(text) = &saying.what else { continue };
        if !matches!(saying.role, "bos" | "eos" | "pad") || text.is_empty() || told.contains(&(saying.role, text)) {
            continue;
        }
        if id_of(subject, Some(vocabulary), text).is_none() {
            told.push((saying.role, text));
            let message =
                format!("{} is {}, which {} does not have", saying.stated, shown(text.as_bytes()), vocabulary.file());
            findings.push(Finding::new(&UNKNOWN_TEXT, message).file(file(&saying.stated)));
        }
    }
}

/// The id of a text, by the vocabulary or by a list of added tokens.
pub(super) fn id_of(subject: &Subject, vocabulary: Option<&Vocabulary>, text: &str) -> Option<u64> {
    let listed = || subject.statements.lists.iter().flat_map(|list| &list.tokens).find(|token| token.content == text);
    match vocabulary.and_then(|vocabulary| vocabulary.entry(text.as_bytes())) {
        // SentencePiece's own file does not know the numbers of a renumbered model.
        Some(entry)
            if !(subject.is_renumbered() && vocabulary.is_some_and(|v| v.tokenizer.kind == "sentencepiece")) =>
        {
            Some(entry.id.into())
        }
        _ => listed().map(|token| token.id),
    }
}

fn agreement(subject: &Subject, vocabulary: Option<&Vocabulary>, findings: &mut Vec<Finding>) {
    let statements = subject.statements;
    let named = |id: u64| match vocabulary {
        Some(vocabulary) => vocabulary.named(id),
        None => {
            let mut listed = statements.lists.iter().flat_map(|list| &list.tokens);
            match listed.find(|token| token.id == id) {
                Some(token) => format!("{} {}", thousands(id), shown(token.content.as_bytes())),
                None => thousands(id),
            }
        }
    };
    for role in ROLES {
        // What the tokenizer goes by: its configuration, or what its own file says.
        let by_text = [Place::TokenizerConfig, Place::SpecialMap].into_iter().find_map(|place| {
            let saying = statements.said(role, place).next()?;
            let What::Text(text) = &saying.what else { return None };
            Some((id_of(subject, vocabulary, text)?, saying.stated.as_str()))
        });
        let says_nothing = !statements.sayings.iter().any(|saying| matches!(saying.what, What::Text(_)));
        let own = vocabulary.filter(|_| says_nothing && !subject.is_renumbered()).and_then(|vocabulary| {
            let role = own(vocabulary).find(|stated| stated.role == role)?;
            Some((role.id?, role.stated.as_str()))
        });
        if let Some((id, stated)) = by_text.or(own) {
            against_configuration(subject, role, id, stated, &named, findings);
        }
        let gguf = vocabulary.filter(|vocabulary| vocabulary.tokenizer.kind == "gguf");
        let within = gguf.and_then(|gguf| gguf.tokenizer.role(role).find(|stated| stated.by_id && stated.id.is_some()));
        if let (Some((id, stated)), Some(within)) = (by_text, within)
            && within.id != Some(id)
        {
            let rule = if role == "eos" { &EOS_DIFFERS } else { &IDS_DIFFER };
            let other = named(within.id.unwrap_or_default());
            let message = format!("{} is {}, {} is {other}", base(stated), named(id), base(&within.stated));
            findings.push(Finding::new(rule, message).file(file(&within.stated)));
        }
        between_texts(subject, vocabulary, role, findings);
    }
}

/// A role as the tokenizer has it, against the ids of configuration and generation.
fn against_configuration(
    subject: &Subject,
    role: &'static str,
    id: u64,
    stated: &str,
    named: &impl Fn(u64) -> String,
    findings: &mut Vec<Finding>,
) {
    let ids = |place| {
        let ids = subject.statements.said(role, place).filter_map(|saying| match saying.what {
            What::Id(id) => Some((id, saying.stated.as_str())),
            What::Text(_) => None,
        });
        ids.collect::<Vec<_>>()
    };
    // Generation goes by its own file, and by the model's where that says nothing.
    let generation = ids(Place::Generation);
    let followed = if generation.is_empty() { ids(Place::Config) } else { generation };
    let Some((_, by)) = followed.first() else { return };
    if followed.iter().any(|(other, _)| *other == id) {
        return;
    }
    let others = followed.iter().map(|(other, _)| named(*other)).collect::<Vec<_>>().join(", ");
    let rule = if role == "eos" { &EOS_DIFFERS } else { &IDS_DIFFER };
    let message = format!("{} is {}, {by} is {others}", base(stated), named(id));
    findings.push(Finding::new(rule, message).file(file(by)));
}

/// The texts of a role in the tokenizer's two configurations.
fn between_texts(subject: &Subject, vocabulary: Option<&Vocabulary>, role: &'static str, findings: &mut Vec<Finding>) {
    let text = |place| subject.statements.said(role, place).next();
    let (Some(one), Some(other)) = (text(Place::TokenizerConfig), text(Place::SpecialMap)) else { return };
    let (What::Text(first), What::Text(second)) = (&one.what, &other.what) else { return };
    if first == second {
        return;
    }
    let id = |text| id_of(subject, vocabulary, text);
    // A token may be known by two texts, with and without its blank.
    if id(first).is_some() && id(first) == id(second) {
        return;
    }
    let message =
        format!("{} is {}, {} is {}", one.stated, shown(first.as_bytes()), other.stated, shown(second.as_bytes()));
    findings.push(Finding::new(&IDS_DIFFER, message).file(file(&other.stated)));
}
