//! A conversation, and what transformers does to it before the template sees it.
//!
//! The rules are those of `apply_chat_template` and `render_jinja_template` of transformers 5.

use std::sync::Arc;

use jiff::civil::DateTime;
use serde_json::{Map, Value as Json};

use super::TemplateErrorKind;
use super::jinja::Given;
use super::jinja::fault::{Result, fault};
use super::jinja::value::Value;

/// What a template is given to render.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The messages, each an object with at least a role.
    pub messages: Vec<Json>,
    /// Tools as JSON schemas.
    pub tools: Option<Vec<Json>>,
    /// Documents to answer from.
    pub documents: Option<Vec<Json>>,
    /// Whether the text ends where the answer begins.
    pub add_generation_prompt: bool,
    /// The field of the last message that is to be continued, for answers that are begun already.
    pub continue_final_message: Option<String>,
    /// Name of the template to render with, where the model has several.
    pub template: Option<String>,
    /// Further variables: special tokens such as `bos_token`, and switches such as `enable_thinking`.
    pub variables: Map<String, Json>,
    /// The local time that `strftime_now` tells.
    pub now: Option<DateTime>,
}

/// What marks the end of the message that is continued.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The names that a message's reasoning is passed under; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

pub(super) struct Prepared {
    pub given: Given,
    pub continues: Option<Continues>,
}

/// How to cut the text where the last message ends.
pub(super) struct Continues {
    message: String,
}

/// The time of this machine, in its own zone: what `strftime_now` tells in transformers.
pub fn local_time() -> DateTime {
    jiff::Zoned::now().datetime()
}

impl Conversation {
    /// Reads a conversation: a list of messages, or an object that says how to render them, with the names of
    /// `apply_chat_template`'s arguments. What it does not know is a variable for the template.
    pub fn from_json(json: Json) -> std::result::Result<Conversation, String> {
        let mut conversation = Conversation { add_generation_prompt: true, ..Conversation::default() };
        let entries = match json {
            Json::Array(messages) => {
                conversation.messages = messages;
                return Ok(conversation);
            }
            Json::Object(entries) => entries,
            _ => return Err("a conversation is a list of messages, or an object with 'messages'".to_string()),
        };
        let list = |name: &str, value: Json| match value {
            Json::Array(items) => Ok(Some(items)),
            Json::Null => Ok(None),
            _ => Err(format!("'{name}' is to be a list")),
        };
        let truth = |name: &str, value: &Json| value.as_bool().ok_or(format!("'{name}' is to be true or false"));
        let mut messages = None;
        let mut asked = None;
        for (name, value) in entries {
            match name.as_str() {
                "messages" | "conversation" => messages = list(&name, value)?,
                "tools" => conversation.tools = list(&name, value)?,
                "documents" => conversation.documents = list(&name, value)?,
                "add_generation_prompt" => asked = Some(truth(&name, &value)?),
                "continue_final_message" => {
                    conversation.continue_final_message = match value {
                        Json::String(field) if !field.is_empty() => Some(field),
                        value => truth(&name, &value)?.then(|| "content".to_string()),
                    };
                }
                "chat_template" => match value {
                    Json::String(of) => conversation.template = Some(of),
                    Json::Null => {}
                    _ => return Err(format!("'{name}' is to be the name of a template")),
                },
                "chat_template_kwargs" => match value {
                    Json::Object(variables) => conversation.variables.extend(variables),
                    Json::Null => {}
                    _ => return Err(format!("'{name}' is to be an object")),
                },
                _ => drop(conversation.variables.insert(name, value)),
            }
        }
        conversation.messages = messages.ok_or("the conversation has no 'messages'")?;
        conversation.add_generation_prompt = asked.unwrap_or(conversation.continue_final_message.is_none());
        Ok(conversation)
    }

    /// Makes the variables of a rendering.
    pub(super) fn prepare(&self, template: &str) -> Result<Prepared> {
        let refuse = |message: &str| fault(TemplateErrorKind::Conversation, message);
        if self.messages.is_empty() {
            return refuse("an empty conversation: a template renders at least one message");
        }
        if self.continue_final_message.is_some() && self.add_generation_prompt {
            return refuse("a message cannot be continued and followed by a generation prompt at once");
        }
        for (name, items) in [("tool", &self.tools), ("document", &self.documents)] {
            if items.iter().flatten().any(|item| !item.is_object()) {
                return refuse(&format!("each {name} is to be an object"));
            }
        }
        let mut messages = Vec::with_capacity(self.messages.len());
        for message in &self.messages {
            let Json::Object(fields) = message else { return refuse("each message is to be an object") };
            messages.push(normalized(fields));
        }
        let continues = match (&self.continue_final_message, messages.last_mut()) {
            (Some(field), Some(last)) => Some(Continues::mark(last, field, template)?),
            _ => None,
        };
        let messages = Json::Array(messages.into_iter().map(Json::Object).collect());
        let list = |items: &Option<Vec<Json>>| items.clone().map_or(Json::Null, Json::Array);
        let own = [
            ("messages", messages),
            ("tools", list(&self.tools)),
            ("documents", list(&self.documents)),
            ("add_generation_prompt", Json::Bool(self.add_generation_prompt)),
        ];
        let mut names: Vec<(Arc<str>, Value)> = Vec::new();
        let mut input_bytes = 0usize;
        for (name, value) in &self.variables {
            input_bytes = input_bytes.saturating_add(size(value));
            names.push((name.as_str().into(), Value::from_json(value)?));
        }
        for (name, value) in &own {
            input_bytes = input_bytes.saturating_add(size(value));
            names.push(((*name).into(), Value::from_json(value)?));
        }
        Ok(Prepared { given: Given { names, now: self.now, input_bytes, work: None }, continues })
    }
}

/// A message without its empty fields, and with its reasoning under the names that templates know.
fn normalized(fields: &Map<String, Json>) -> Map<String, Json> {
    let kept = fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone()));
    let reasoning = REASONING.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
    let Some(reasoning) = reasoning else { return kept.collect() };
    // `thinking` comes first, unless the message has it at its own place.
    let mut message = Map::new();
    message.insert("thinking".to_string(), reasoning.clone());
    message.extend(kept);
    message.insert("reasoning_content".to_string(), reasoning.clone());
    message
}

/// About how many bytes a value is.
fn size(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len() + 16,
        Json::Array(items) => items.iter().map(size).sum::<usize>() + 16,
        Json::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>() + 16,
        _ => 16,
    }
}

impl Continues {
    /// Marks the end of the last message's field.
    fn mark(last: &mut Map<String, Json>, field: &str, template: &str) -> Result<Continues> {
        let refuse = |message: String| fault(TemplateErrorKind::Conversation, message);
        let Some(continued) = last.get(field).cloned() else {
            return refuse(format!("the last message has no '{field}' to continue"));
        };
        // Reasoning stands under several names; whichever the template reads will do.
        let fields: Vec<&str> = if REASONING.contains(&field) {
            REASONING.iter().copied().filter(|name| last.get(*name) == Some(&continued)).collect()
        } else {
            vec![field]
        };
        if !fields.iter().any(|field| template.contains(field)) {
            return refuse(format!("the template does not use the '{field}' that is to be continued"));
        }
        match continued {
            Json::String(text) => {
                for field in fields {
                    last.insert(field.to_string(), Json::String(format!("{text}{MARK}")));
                }
                Ok(Continues { message: text })
            }
            Json::Array(_) => {
                let parts = last.get_mut(field).and_then(Json::as_array_mut).into_iter().flatten();
                let mut texts = parts.rev().filter_map(|part| part.get_mut("text"));
                let Some(Json::String(text)) = texts.next() else {
                    return refuse("the last message has no text to continue".to_string());
                };
                let message = text.clone();
                text.push_str(MARK);
                Ok(Continues { message })
            }
            _ => refuse(format!("the last message's '{field}' is no text to continue")),
        }
    }

    /// Cuts the text at the mark.
    pub(super) fn cut(&self, text: String) -> Result<String> {
        let refuse = |message: &str| fault(TemplateErrorKind::Conversation, message);
        let trimmed = self.message.trim_matches(super::jinja::is_space);
        let (true, Some(end)) = (text.contains(trimmed), text.rfind(MARK.trim_end())) else {
            return refuse("the template changes or leaves out the message that is to be continued");
        };
        let kept = text.get(..end).unwrap_or("");
        // A template that trims messages would have trimmed this one, too.
        let spaced = text.get(end..).is_some_and(|rest| rest.starts_with(MARK));
        let kept = if spaced { kept } else { kept.trim_end_matches(super::jinja::is_space) };
        Ok(kept.to_string())
    }
}
