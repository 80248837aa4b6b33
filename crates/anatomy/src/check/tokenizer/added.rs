//! Added tokens: the ids that loaders give them, and the lists of several files.

use foldhash::{HashMap, HashMapExt};

use super::vocabulary::{Vocabulary, more};
use super::{Subject, shown};
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::{count, thousands};

static MOVES: Rule = Rule {
    name: "added-token-moves",
    severity: Severity::Error,
    why: "The library tokenizers numbers added tokens itself: those that the vocabulary has keep its id, the others follow \
          behind the number of its entries, in the order of the list. The ids that the file states are other ones, so the \
          tokens look up rows that they were not trained with.",
    help: "restore the vocabulary that the tokens were added to, and the order of their list",
};
static DISAGREE: Rule = Rule {
    name: "added-tokens-disagree",
    severity: Severity::Warning,
    why: "Two files give a token different ids, or an id different tokens. Which one counts depends on the program; in the \
          other, the token looks up a row that it was not trained with.",
    help: "make the lists agree: fetch the tokenizer's files from one place and revision",
};
static ONE_SIDED: Rule = Rule {
    name: "added-token-only-listed",
    severity: Severity::Warning,
    why: "A file lists an added token that tokenizer.json lacks. transformers adds it when it loads; programs that read \
          tokenizer.json alone split it into pieces.",
    help: "save the tokenizer again, so that all of its files have the token",
};
static FLAGS: Rule = Rule {
    name: "added-token-flags-differ",
    severity: Severity::Note,
    why: "Files disagree whether a token is special, which decides whether decoding leaves it out.",
    help: "nothing to do, unless marks show up in the text or are missed there",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&MOVES, &DISAGREE, &ONE_SIDED, &FLAGS];

/// Compares the lists.
pub(super) fn check(subject: &Subject, findings: &mut Vec<Finding>) {
    for vocabulary in subject.vocabularies.iter().filter(|vocabulary| vocabulary.tokenizer.kind == "tokenizer-json") {
        moves(vocabulary, findings);
    }
    let main = subject.main().filter(|vocabulary| vocabulary.is_whole() && vocabulary.tokenizer.kind != "gguf");
    if let Some(vocabulary) = main {
        against_vocabulary(subject, vocabulary, findings);
    }
    between(subject, findings);
}

/// The ids that the library gives to the added tokens of a `tokenizer.json`, against those that the file states.
fn moves(vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let tokenizer = vocabulary.tokenizer;
    if !vocabulary.is_whole() {
        return;
    }
    let is_added_only = |id: u32| tokenizer.appended.binary_search(&id).is_ok();
    let Ok(mut next) = u32::try_from(vocabulary.trained()) else { return };
    let mut given: HashMap<&str, u32> = HashMap::new();
    let mut moved = Vec::new();
    for token in tokenizer.added.iter().filter(|token| !token.content.is_empty()) {
        let trained = vocabulary.entry(token.content.as_bytes()).filter(|entry| !is_added_only(entry.id));
        let id = trained.map(|entry| entry.id).unwrap_or_else(|| {
            *given.entry(&token.content).or_insert_with(|| {
                next += 1;
                next - 1
            })
        });
        if let Some(stated) = token.id.filter(|stated| *stated != id) {
            moved.push((token, stated, id));
        }
    }
    if let Some((token, stated, id)) = moved.first() {
        let (stated, id) = (thousands((*stated).into()), thousands((*id).into()));
        let more = more(moved.len() - 1);
        let message =
            format!("{} is listed with the id {stated}, but gets {id}{more}", shown(token.content.as_bytes()));
        findings.push(Finding::new(&MOVES, message).file(tokenizer.source.as_str()));
    }
}

/// The lists beside a tokenizer against its vocabulary.
fn against_vocabulary(subject: &Subject, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let tokenizer = vocabulary.tokenizer;
    if tokenizer.kind == "sentencepiece" && subject.is_renumbered() || vocabulary.lacks_special() {
        return;
    }
    let special: HashMap<&str, bool> =
        tokenizer.added.iter().map(|token| (token.content.as_str(), token.special)).collect();
    for list in &subject.statements.lists {
        let mut wrong = Vec::new();
        let mut absent = Vec::new();
        let mut flags = Vec::new();
        for token in &list.tokens {
            let by_text = vocabulary.entry(token.content.as_bytes()).map(|entry| u64::from(entry.id));
            match by_text {
                Some(id) if id == token.id => {}
                Some(id) => wrong.push((token, format!("{} in {}", thousands(id), vocabulary.file()))),
                None => match vocabulary.with_id(token.id) {
                    Some(_) => wrong.push((token, format!("{} in {}", vocabulary.named(token.id), vocabulary.file()))),
                    None if tokenizer.kind == "tokenizer-json" => absent.push(token),
                    None => {}
                },
            }
            let known = special.get(token.content.as_str()).filter(|_| tokenizer.kind == "tokenizer-json");
            if token.special.is_some_and(|flag| known.is_some_and(|known| *known != flag)) {
                flags.push(token);
            }
        }
        let mut find = |rule, message: String| {
            findings.push(Finding::new(rule, message).file(list.stated.split(": ").next().unwrap_or(list.stated)));
        };
        if let Some((token, instead)) = wrong.first() {
            let more = more(wrong.len() - 1);
            let (text, id) = (shown(token.content.as_bytes()), thousands(token.id));
            find(&DISAGREE, format!("{}: {text} has the id {id}; it is {instead}{more}", list.stated));
        }
        if let Some(token) = absent.first() {
            let more = more(absent.len() - 1);
            let (text, id) = (shown(token.content.as_bytes()), thousands(token.id));
            find(&ONE_SIDED, format!("{}: {text} ({id}) is not in {}{more}", list.stated, vocabulary.file()));
        }
        if let Some(token) = flags.first() {
            let tokens = count(flags.len() as u64, "token", "tokens");
            let text = shown(token.content.as_bytes());
            find(
                &FLAGS,
                format!(
                    "{} and {} disagree whether {tokens} are special, first {text}",
                    list.stated,
                    vocabulary.file()
                ),
            );
        }
    }
}

/// The lists against each other.
fn between(subject: &Subject, findings: &mut Vec<Finding>) {
    let [one, other, ..] = subject.statements.lists.as_slice() else { return };
    let by_text: HashMap<&str, u64> = one.tokens.iter().map(|token| (token.content.as_str(), token.id)).collect();
    let by_id: HashMap<u64, &str> = one.tokens.iter().map(|token| (token.id, token.content.as_str())).collect();
    let mut wrong = other.tokens.iter().filter_map(|token| match by_text.get(token.content.as_str()) {
        Some(id) if *id == token.id => None,
        Some(id) => Some((token, thousands(*id))),
        None => {
            let text = by_id.get(&token.id)?;
            Some((token, format!("{} {}", thousands(token.id), shown(text.as_bytes()))))
        }
    });
    if let Some((token, instead)) = wrong.next() {
        let more = more(wrong.count());
        let (text, id) = (shown(token.content.as_bytes()), thousands(token.id));
        let message = format!("{}: {text} has the id {id}; {} has {instead}{more}", other.stated, one.stated);
        findings.push(Finding::new(&DISAGREE, message).file(other.stated));
    }
}
