//! The chat template against the vocabulary: its marks are tokens, its turns end what generation ends with.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::statements::{Place, What};
use super::vocabulary::Vocabulary;
use super::{Subject, gguf, shown};
use crate::finding::{Finding, Rule, Severity};
use crate::report::units::count;
use crate::template::{Facts, Template, TemplateErrorKind, Templates};

static BROKEN: Rule = Rule {
    name: "chat-template-broken",
    severity: Severity::Error,
    why: "The chat template is no valid Jinja, so programs that use it stop, or take another one that the model was not \
          trained with.",
    help: "fetch the template again from where the model comes from",
};
static FAILS: Rule = Rule {
    name: "chat-template-fails",
    severity: Severity::Warning,
    why: "The chat template cannot render the simplest conversation, one message of a user.",
    help: "look at the message; give the template the variables that it needs, or fetch it again",
};
static SEVERAL: Rule = Rule {
    name: "chat-templates-differ",
    severity: Severity::Note,
    why: "Files state different chat templates. Which one counts depends on the program.",
    help: "remove the one that is out of date",
};
static MARK_UNKNOWN: Rule = Rule {
    name: "chat-marker-unknown",
    severity: Severity::Warning,
    why: "The chat template writes marks that are no tokens of this vocabulary. They are split into pieces of text that the \
          model was not trained with: most likely the template is that of another family, or added tokens were lost.",
    help: "use the chat template and the tokenizer that belong to these weights",
};
static END_UNKNOWN: Rule = Rule {
    name: "chat-end-not-eos",
    severity: Severity::Warning,
    why: "The chat template ends an answer with a token that does not end generation. The model writes it and goes on, \
          usually with the user's next words.",
    help: "add the token's id to `eos_token_id` in generation_config.json, or make it the end of text of the GGUF",
};
static BOS_TWICE: Rule = Rule {
    name: "bos-twice",
    severity: Severity::Note,
    why: "Chat template and tokenizer both put the begin of text in front. `apply_chat_template` of transformers, vLLM's and \
          llama.cpp's chat leave one of them out; a program that renders the text first and then encodes it with special \
          tokens (training scripts, raw completions) has it twice, which costs quality.",
    help: "encode rendered text without special tokens",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&BROKEN, &FAILS, &SEVERAL, &MARK_UNKNOWN, &END_UNKNOWN, &BOS_TWICE];

/// Looks at the templates that are used.
pub(super) fn check(subject: &Subject, findings: &mut Vec<Finding>) {
    let templates = Templates::of(subject.model);
    let variables = variables(subject);
    let differing = templates.notes.iter().filter(|note| note.contains("different templates"));
    findings.extend(differing.map(|note| Finding::new(&SEVERAL, note.as_str())));
    for stated in templates.stated.iter().filter(|stated| stated.used) {
        let file = stated.place.split(' ').next().unwrap_or_default();
        let mut find = |rule: &'static Rule, message: String| findings.push(Finding::new(rule, message).file(file));
        let name = if stated.name == "default" { String::new() } else { format!("template {:?}: ", stated.name) };
        let template = match Template::parse(&stated.name, &stated.source) {
            Ok(template) => template,
            Err(error) if error.kind == TemplateErrorKind::Syntax => {
                find(&BROKEN, format!("{name}{error}"));
                continue;
            }
            // What this renderer leaves out says nothing of the template.
            Err(_) => continue,
        };
        if stated.name != "default" {
            continue;
        }
        let facts = template.facts(&variables);
        if let Some(broken) = &facts.broken {
            find(&FAILS, broken.lines().next().unwrap_or_default().to_string());
            continue;
        }
        let Some(vocabulary) = subject.main().filter(|vocabulary| vocabulary.is_whole() && !vocabulary.lacks_special())
        else {
            continue;
        };
        marks(subject, vocabulary, &facts, &mut find);
        end(subject, vocabulary, &facts, &mut find);
        let bos = variables.get("bos_token").and_then(|bos| bos.as_str());
        if facts.writes_bos && adds_bos(vocabulary, bos) {
            find(
                &BOS_TWICE,
                format!(
                    "the template writes {}, and the tokenizer puts it in front",
                    shown(bos.unwrap_or_default().as_bytes())
                ),
            );
        }
    }
}

/// The special tokens as the template sees them: as the tokenizer has them, or, without a vocabulary, as its
/// configuration tells them all the same. (Reading the tokenizer's files once more would take longer than all rules.)
fn variables(subject: &Subject) -> Map<String, Value> {
    let mut variables = Map::new();
    let roles = subject.main().map(|vocabulary| vocabulary.tokenizer.roles.as_slice()).unwrap_or_default();
    let of_roles = roles.iter().filter_map(|role| Some((role.role, role.token.as_deref()?)));
    let of_sayings = subject.statements.sayings.iter().filter_map(|saying| match &saying.what {
        What::Text(text) => Some((saying.role, text.as_str())),
        What::Id(_) => None,
    });
    for (role, text) in of_roles.chain(of_sayings) {
        variables.entry(format!("{role}_token")).or_insert_with(|| text.into());
    }
    variables
}

/// Whether a text can only be meant as one token: marks that some models were trained to read as plain text
/// (`<|user|>` of Zephyr, `[INST]` of Llama 2, tags for tools) do not count.
fn is_token_only(text: &str) -> bool {
    const PLAIN: [&str; 5] = ["<|user|>", "<|assistant|>", "<|system|>", "<|prompter|>", "<|human|>"];
    let barred = (text.starts_with("<|") && text.ends_with("|>")) || (text.starts_with("<｜") && text.ends_with("｜>"));
    let known = [
        "<start_of_turn>",
        "<end_of_turn>",
        "<bos>",
        "<eos>",
        "</s>",
        "<|turn>",
        "<turn|>",
        "<|START_OF_TURN_TOKEN|>",
        "<end_of_utterance>",
        "[gMASK]",
        "[EOT]",
    ];
    (barred && !PLAIN.contains(&text) && !text.contains([' ', '\n'])) || known.contains(&text)
}

fn marks(subject: &Subject, vocabulary: &Vocabulary, facts: &Facts, find: &mut impl FnMut(&'static Rule, String)) {
    let written: BTreeSet<&String> = facts.special_written.iter().filter(|text| is_token_only(text)).collect();
    let is_known = |text: &str| super::roles::id_of(subject, Some(vocabulary), text).is_some();
    let unknown: Vec<&&String> = written.iter().filter(|text| !is_known(text)).collect();
    if let Some(first) = unknown.first() {
        let of = format!("{} of {}", count(unknown.len() as u64, "mark", "marks"), written.len());
        let first = shown(first.as_bytes());
        find(
            &MARK_UNKNOWN,
            format!("{of} that the template writes are no tokens of {}, first {first}", vocabulary.file()),
        );
    }
}

fn end(subject: &Subject, vocabulary: &Vocabulary, facts: &Facts, find: &mut impl FnMut(&'static Rule, String)) {
    // What follows an answer: a token at once, or plain text, which no token could end.
    let ends = [facts.answer_end.as_deref(), facts.turn_end.as_deref()].into_iter().flatten();
    let ends: Vec<&str> = ends.filter_map(first_mark).collect();
    let id = |text: &str| super::roles::id_of(subject, Some(vocabulary), text);
    let ids: Vec<(u64, &str)> = ends.iter().filter_map(|text| Some((id(text)?, *text))).collect();
    let Some((_, text)) = ids.first() else { return };
    let stops = stops(subject, vocabulary);
    if !stops.is_empty() && !ids.iter().any(|(id, _)| stops.contains(id)) {
        let stops = stops.iter().map(|id| vocabulary.named(*id)).collect::<Vec<_>>().join(", ");
        find(
            &END_UNKNOWN,
            format!("the template ends an answer with {}; generation ends with {stops}", shown(text.as_bytes())),
        );
    }
}

/// The mark that a text begins with, blanks aside.
fn first_mark(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let close = match text.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return None,
    };
    text.get(..text.find(close)? + 1)
}

/// The ids that generation ends with.
fn stops(subject: &Subject, vocabulary: &Vocabulary) -> BTreeSet<u64> {
    if vocabulary.tokenizer.kind == "gguf" {
        return gguf::ends(vocabulary);
    }
    let ids = |place| {
        subject.statements.said("eos", place).filter_map(|saying| match saying.what {
            What::Id(id) => Some(id),
            What::Text(_) => None,
        })
    };
    let mut stops: BTreeSet<u64> = ids(Place::Generation).collect();
    if stops.is_empty() {
        stops.extend(ids(Place::Config));
    }
    // Where neither says anything, or is not there, nothing can be said.
    if !stops.is_empty() {
        // Servers add the tokenizer's own; where transformers would miss it, that is a finding of its own.
        let own = vocabulary.tokenizer.role("eos").filter(|role| !role.by_id);
        stops.extend(own.filter_map(|role| role.id));
    }
    stops
}

/// Whether the tokenizer puts the begin in front of a text.
fn adds_bos(vocabulary: &Vocabulary, bos: Option<&str>) -> bool {
    let tokenizer = vocabulary.tokenizer;
    let by_processor = || {
        let bos = bos.filter(|bos| !bos.is_empty());
        bos.is_some_and(|bos| tokenizer.post_processor.iter().any(|step| step.contains(bos)))
    };
    match (&tokenizer.configuration.add_bos, tokenizer.kind) {
        (_, "tokenizer-json") => by_processor(),
        (Some(stated), _) => stated.value,
        (None, "gguf") => gguf::settings(tokenizer).is_some_and(gguf::adds_bos),
        (None, _) => by_processor(),
    }
}
