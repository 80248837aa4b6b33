//! What a template does with a conversation, found by rendering small ones and comparing.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::jinja::ast::{Block, Expr, ExprKind, StatementKind};
use super::{Conversation, Template, TemplateErrorKind};

/// What becomes of a system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemPrompt {
    /// A turn of its own.
    OwnTurn,
    /// Put into the first turn of the user.
    InUserTurn,
    /// The template refuses it.
    Refused,
    /// It is left out without a word.
    Ignored,
}

/// What a template does. What a probe could not find out is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// What becomes of a system prompt.
    pub system: Option<SystemPrompt>,
    /// Whether it says something of its own where no system prompt is given.
    pub default_system: bool,
    /// Whether it tells the model about tools.
    pub tools: bool,
    /// Whether it writes the model's calls of tools.
    pub tool_calls: bool,
    /// Whether it writes what tools answered.
    pub tool_results: bool,
    /// Whether it renders several turns.
    pub multi_turn: bool,
    /// Whether it writes documents.
    pub documents: bool,
    /// Whether it takes content as a list of parts.
    pub parts: bool,
    /// Whether it marks images.
    pub images: bool,
    /// Whether it writes a message's reasoning.
    pub reasoning: bool,
    /// Variables that switch what it writes, such as `enable_thinking`.
    pub switches: Vec<String>,
    /// What it writes to let the model answer.
    pub generation_prompt: Option<String>,
    /// Whether it writes the begin of an answer behind a question even where none is asked for.
    pub always_prompts: bool,
    /// Whether an answer that is begun can be continued.
    pub prefill: bool,
    /// Whether it marks what the model is trained to say (`{% generation %}`).
    pub marks_generation: bool,
    /// What it writes before the first message, if anything: with `bos_token` where that is its variable.
    pub begin: Option<String>,
    /// Whether it writes the text of `bos_token` in front, by the variable or literally.
    pub writes_bos: bool,
    /// What stands between the model's words and the next turn.
    pub turn_end: Option<String>,
    /// What stands after the model's last words.
    pub answer_end: Option<String>,
    /// What stands before the user's words in a later turn.
    pub user_begin: Option<String>,
    /// Texts with the look of special tokens that it wrote in the probes.
    pub special_written: BTreeSet<String>,
    /// Texts with the look of special tokens in its literals.
    pub special_literals: BTreeSet<String>,
    /// Names that it reads and does not define, beyond those that every template is given.
    pub variables: BTreeSet<String>,
    /// Why it could not render even one message of a user.
    pub broken: Option<String>,
}

/// Words that stand in the probes and in no template.
const ASK: &str = "zqaskzq";
const ANSWER: &str = "zqanswerzq";
const AGAIN: &str = "zqagainzq";
const SYSTEM: &str = "zqsystemzq";
const TOOL: &str = "zqtoolzq";
/// Mistral's templates want nine letters and digits.
const ID: &str = "zqcallzq1";
const RESULT: &str = "zqresultzq";
const THOUGHT: &str = "zqthoughtzq";
const DOCUMENT: &str = "zqdocumentzq";
const BOS: &str = "zqboszq";

impl Template {
    /// What the template does; `variables` are the model's special tokens.
    pub fn facts(&self, variables: &Map<String, Json>) -> Facts {
        let probe = Probe { template: self, variables };
        let user = json!({"role": "user", "content": ASK});
        let answer = json!({"role": "assistant", "content": ANSWER});
        let again = json!({"role": "user", "content": AGAIN});
        let one = probe.try_text(json!({"messages": [user], "add_generation_prompt": false}));
        let broken = one.as_ref().err().cloned();
        let one = one.ok();
        let open = probe.text(json!({"messages": [user]}));
        let turns = probe.text(json!({"messages": [user, answer, again], "add_generation_prompt": false}));
        let ended = probe.text(json!({"messages": [user, answer], "add_generation_prompt": false}));
        let has = |text: &Option<String>, word: &str| text.as_ref().is_some_and(|text| text.contains(word));

        let generation_prompt = match (&one, &open) {
            (Some(one), Some(open)) => open.strip_prefix(one.as_str()).filter(|prompt| !prompt.is_empty()),
            _ => None,
        };
        // What stands between a question and its answer stands there already when only the question is given.
        let asked = one.as_deref().and_then(|text| text.split_once(ASK)).map(|(_, after)| after);
        let opened = ended.as_deref().and_then(|text| part(text, ASK, ANSWER));
        let always_prompts =
            generation_prompt.is_none() && opened.is_some_and(|opened| opened.len() > 1) && opened == asked;
        let between = turns.as_deref().and_then(|text| part(text, ANSWER, AGAIN));
        let after = ended.as_deref().and_then(|text| text.split_once(ANSWER)).map(|(_, after)| after);
        let before = one.as_deref().and_then(|text| text.split_once(ASK)).map(|(before, _)| before);
        // A turn begins alike wherever it stands.
        let user_begin = match (between, before) {
            (Some(between), Some(before)) => {
                let same = whole_marks(common_suffix(between, before));
                let end = after.map_or("", |after| common_prefix(after, same));
                same.strip_prefix(end.trim_end_matches(|c| !matches!(c, '>' | ']' | '\n'))).unwrap_or(same)
            }
            _ => "",
        };
        let turn_end = between.map(|between| between.strip_suffix(user_begin).unwrap_or(between));
        let begin = before.map(|before| before.strip_suffix(user_begin).unwrap_or(before));
        let (system, with_system) = probe.system(&user, user_begin);
        let mut special_written = BTreeSet::new();
        for text in [&one, &open, &turns, &ended, &with_system].into_iter().flatten() {
            special_in(text, &mut special_written);
        }
        let mut special_literals = BTreeSet::new();
        let mut variables_read = BTreeSet::new();
        read_block(&self.body, &mut special_literals, &mut variables_read);
        let undeclared = undeclared(self, variables_read);
        let bos = variables.get("bos_token").and_then(Json::as_str).filter(|bos| !bos.is_empty());
        let marked = probe.text(json!({"messages": [user], "bos_token": BOS}));
        let writes_bos = marked.as_ref().is_some_and(|text| text.starts_with(BOS))
            || bos.is_some_and(|bos| one.as_ref().is_some_and(|text| text.starts_with(bos)));
        let (tools, tool_calls, tool_results) = probe.tools(&user);
        Facts {
            system,
            default_system: begin.is_some_and(|begin| says_something(begin, bos)),
            tools,
            tool_calls,
            tool_results,
            multi_turn: [ASK, ANSWER, AGAIN].into_iter().all(|word| has(&turns, word)),
            documents: has(
                &probe.text(json!({"messages": [user], "documents": [{"title": DOCUMENT, "text": DOCUMENT, "content": DOCUMENT}]})),
                DOCUMENT,
            ),
            parts: probe.parts().is_some(),
            images: probe.images(),
            reasoning: has(
                &probe.text(json!({"messages": [user, {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}],
                    "add_generation_prompt": false})),
                THOUGHT,
            ),
            switches: probe.switches(&user, &undeclared),
            generation_prompt: generation_prompt.map(str::to_string),
            always_prompts,
            prefill: probe
                .text(json!({"messages": [user, answer], "continue_final_message": true}))
                .is_some_and(|text| text.ends_with(ANSWER)),
            marks_generation: any_generation(&self.body),
            begin: some_text(begin),
            writes_bos,
            turn_end: some_text(turn_end),
            answer_end: some_text(after),
            user_begin: some_text(Some(user_begin)),
            special_written,
            special_literals,
            variables: undeclared,
            broken,
        }
    }
}

impl Facts {
    /// The facts in words, for people.
    pub fn sentences(&self) -> Vec<String> {
        if let Some(broken) = &self.broken {
            return vec![format!("does not render a single message: {broken}")];
        }
        let mut sentences = Vec::new();
        let system = match self.system {
            Some(SystemPrompt::OwnTurn) => "a turn of its own",
            Some(SystemPrompt::InUserTurn) => "put into the user's first turn",
            Some(SystemPrompt::Refused) => "refused",
            Some(SystemPrompt::Ignored) => "left out without a word",
            None => "fails",
        };
        let default = if self.default_system { ", with a text of the template's own where none is given" } else { "" };
        sentences.push(format!("system prompt: {system}{default}"));
        let abilities = [
            (self.tools, "tools"),
            (self.tool_calls, "calls"),
            (self.tool_results, "results"),
            (self.documents, "documents"),
            (self.images, "images"),
            (self.reasoning, "reasoning"),
        ];
        let able: Vec<&str> = abilities.iter().filter(|(able, _)| *able).map(|(_, what)| *what).collect();
        if !able.is_empty() {
            sentences.push(format!("writes {}", able.join(", ")));
        }
        if !self.multi_turn {
            sentences.push("does not render several turns".to_string());
        }
        if !self.switches.is_empty() {
            sentences.push(format!("switched by {}", self.switches.join(", ")));
        }
        if self.writes_bos {
            sentences.push("writes the token of the beginning itself".to_string());
        }
        // Where the next answer's begin is always written, it is no end of this one.
        let end = match (&self.answer_end, &self.turn_end) {
            (Some(after), Some(turn)) if self.always_prompts && after.starts_with(turn.as_str()) => Some(turn),
            (after, _) => after.as_ref(),
        };
        sentences.push(format!("an answer ends with {}", end.map_or("nothing".to_string(), |end| format!("{end:?}"))));
        sentences.push(match &self.generation_prompt {
            Some(prompt) => format!("lets the model answer with {prompt:?}"),
            None if self.always_prompts => {
                "writes what lets the model answer whether it is asked to or not".to_string()
            }
            None => "has no prompt for the answer".to_string(),
        });
        if !self.prefill {
            sentences.push("does not keep an answer that is begun".to_string());
        }
        sentences
    }
}

struct Probe<'a> {
    template: &'a Template,
    variables: &'a Map<String, Json>,
}

impl Probe<'_> {
    fn try_text(&self, conversation: Json) -> Result<String, String> {
        let mut conversation = Conversation::from_json(conversation)?;
        for (name, value) in self.variables {
            conversation.variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        conversation.now = Some(super::NOON);
        let rendered = self.template.render_within(&conversation, Some(super::PROBE_WORK));
        rendered.map(|rendered| rendered.text).map_err(|error| error.to_string())
    }

    fn text(&self, conversation: Json) -> Option<String> {
        self.try_text(conversation).ok()
    }

    /// What becomes of a system prompt, and the text with it.
    fn system(&self, user: &Json, user_begin: &str) -> (Option<SystemPrompt>, Option<String>) {
        let given = json!({"messages": [{"role": "system", "content": SYSTEM}, user], "add_generation_prompt": false});
        let Ok(mut conversation) = Conversation::from_json(given) else { return (None, None) };
        conversation.variables.extend(self.variables.clone());
        conversation.now = Some(super::NOON);
        let text = match self.template.render_within(&conversation, Some(super::PROBE_WORK)) {
            Ok(rendered) => rendered.text,
            Err(error) => return ((error.kind == TemplateErrorKind::Raised).then_some(SystemPrompt::Refused), None),
        };
        let system = match (text.split_once(SYSTEM), user_begin.trim()) {
            (None, _) => SystemPrompt::Ignored,
            // The user's turn begins before the system prompt, not after it.
            (Some((before, after)), turn) if !turn.is_empty() => {
                let within = before.contains(turn) && !after.split(ASK).next().unwrap_or("").contains(turn);
                if within { SystemPrompt::InUserTurn } else { SystemPrompt::OwnTurn }
            }
            (Some(_), _) => SystemPrompt::OwnTurn,
        };
        (Some(system), Some(text))
    }

    /// Whether tools, calls and results are written.
    fn tools(&self, user: &Json) -> (bool, bool, bool) {
        let function = json!({"name": TOOL, "description": "d", "parameters": {"type": "object", "properties": {}}});
        let tools = json!([{"type": "function", "function": function}]);
        let told = self.text(json!({"messages": [user], "tools": tools})).is_some_and(|text| text.contains(TOOL));
        let mut calls = false;
        let mut results = false;
        // Some templates want arguments as an object, some as the text of one.
        for arguments in [json!({"a": 1}), json!("{\"a\": 1}")] {
            let call = json!({"type": "function", "id": ID, "function": {"name": TOOL, "arguments": arguments}});
            let called = json!({"role": "assistant", "content": "", "tool_calls": [call]});
            let result = json!({"role": "tool", "name": TOOL, "tool_call_id": ID, "content": RESULT});
            for tools in [Json::Null, tools.clone()] {
                let with = |messages: Json| json!({"messages": messages, "tools": tools});
                // Without the call, the name may come from the list of tools.
                let count =
                    |text: Option<String>| text.map_or(0, |text| text.matches(TOOL).count() + text.matches(ID).count());
                let listed = count(self.text(with(json!([user]))));
                calls |= count(self.text(with(json!([user, called])))) > listed;
                results |= self.text(with(json!([user, called, result]))).is_some_and(|text| text.contains(RESULT));
            }
        }
        (told, calls, results)
    }

    /// The text of content as a list of parts, if it is not written as Python would write a list.
    fn parts(&self) -> Option<String> {
        let text = self.text(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}]}))?;
        (text.contains(ASK) && !text.contains("'text'") && !text.contains("\"text\"")).then_some(text)
    }

    fn images(&self) -> bool {
        let content = json!([{"type": "image", "image": "i.png"}, {"type": "text", "text": ASK}]);
        let with = self.text(json!({"messages": [{"role": "user", "content": content}]}));
        match (self.parts(), with) {
            (Some(without), Some(with)) => with != without && with.contains(ASK) && !with.contains("'image'"),
            _ => false,
        }
    }

    /// Variables that change what is written.
    fn switches(&self, user: &Json, undeclared: &BTreeSet<String>) -> Vec<String> {
        const OWN: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];
        let mut switches = Vec::new();
        for name in undeclared.iter().filter(|name| !OWN.contains(&name.as_str()) && !name.ends_with("_token")).take(32)
        {
            let mut seen = BTreeSet::new();
            for value in [json!(true), json!(false), json!("low"), json!("high")] {
                let mut given = json!({"messages": [user]});
                if let Some(fields) = given.as_object_mut() {
                    fields.insert(name.clone(), value);
                }
                // What only repeats the value is no switch.
                seen.extend(
                    self.text(given).map(|text| {
                        text.replace("True", "").replace("False", "").replace("low", "").replace("high", "")
                    }),
                );
            }
            if seen.len() > 1 {
                switches.push(name.clone());
            }
        }
        switches
    }
}

fn some_text(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_string)
}

/// A text without the rest of a mark that it begins within.
fn whole_marks(text: &str) -> &str {
    match (text.find('>'), text.find('<')) {
        (Some(end), open) if open.is_none_or(|open| end < open) => text.get(end + 1..).unwrap_or(""),
        _ => text,
    }
}

/// The part of a text between two words.
fn part<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(from)?;
    after.split_once(to).map(|(between, _)| between)
}

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    a.get(..same).unwrap_or("")
}

fn common_suffix<'a>(a: &'a str, b: &str) -> &'a str {
    let same: usize = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    a.get(a.len() - same..).unwrap_or("")
}

/// Whether there are words in what stands before the first message, apart from marks.
fn says_something(begin: &str, bos: Option<&str>) -> bool {
    let begin = bos.map_or(begin.to_string(), |bos| begin.replace(bos, ""));
    let mut marks = BTreeSet::new();
    special_in(&begin, &mut marks);
    let plain = marks.iter().fold(begin, |text, mark| text.replace(mark.as_str(), " "));
    plain.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count() >= 3
}

/// Adds the texts that look like special tokens: short ones in angle or square brackets, without blanks.
fn special_in(text: &str, found: &mut BTreeSet<String>) {
    const LONGEST: usize = 64;
    for (at, open) in text.char_indices().filter(|(_, c)| matches!(c, '<' | '[')) {
        let close = if open == '<' { '>' } else { ']' };
        let rest = text.get(at..).unwrap_or("");
        let end =
            rest.char_indices().skip(1).take(LONGEST).find(|(_, c)| *c == close || *c == open || c.is_whitespace());
        let Some((end, c)) = end.filter(|(_, c)| *c == close) else { continue };
        let token = rest.get(..end + c.len_utf8()).unwrap_or("");
        let inside = rest.get(1..end).unwrap_or("");
        let plausible = match open {
            '<' => !inside.is_empty() && !inside.contains("zq"),
            _ => inside.len() > 2 && inside.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '_' | '/')),
        };
        if plausible {
            found.insert(token.to_string());
        }
    }
}

/// Collects literals and names.
fn read_block(block: &Block, special: &mut BTreeSet<String>, names: &mut BTreeSet<String>) {
    for statement in block {
        if let StatementKind::Text(text) = &statement.kind {
            special_in(text, special);
        }
        statement.expressions().into_iter().for_each(|expr| read_expression(expr, special, names));
        statement.blocks().into_iter().for_each(|block| read_block(block, special, names));
    }
}

fn read_expression(expr: &Expr, special: &mut BTreeSet<String>, names: &mut BTreeSet<String>) {
    match &expr.kind {
        ExprKind::Const(value) => special_in(value.as_str().unwrap_or(""), special),
        ExprKind::Name(name) => drop(names.insert(name.to_string())),
        _ => {}
    }
    expr.children().into_iter().for_each(|child| read_expression(child, special, names));
}

fn any_generation(block: &Block) -> bool {
    block.iter().any(|statement| {
        matches!(statement.kind, StatementKind::Generation { .. }) || statement.blocks().into_iter().any(any_generation)
    })
}

/// The names that nobody but the caller defines.
fn undeclared(template: &Template, names: BTreeSet<String>) -> BTreeSet<String> {
    let defined = super::lint::defined_names(template);
    let known =
        |name: &str| super::jinja::is_function(name) || matches!(name, "loop" | "caller" | "varargs" | "kwargs");
    names.into_iter().filter(|name| !known(name) && !defined.contains(name.as_str())).collect()
}
