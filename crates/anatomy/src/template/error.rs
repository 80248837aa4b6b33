//! What goes wrong with a template, in words.

use std::fmt;

use super::jinja::fault::Fault;

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateErrorKind {
    /// The template cannot be read.
    Syntax,
    /// It uses something that is not there.
    Undefined,
    /// It does with values what they do not allow.
    Operation,
    /// It reaches for what the sandbox does not give.
    Security,
    /// It works longer, writes more or nests deeper than is allowed.
    Limit,
    /// It refuses the conversation with a message of its own (`raise_exception`).
    Raised,
    /// It uses a part of Jinja that this renderer leaves out.
    Unsupported,
    /// The conversation is none that transformers would render.
    Conversation,
}

/// An error of reading or rendering a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The template's name.
    pub template: String,
    /// What kind of error it is.
    pub kind: TemplateErrorKind,
    /// What is wrong; for [`TemplateErrorKind::Raised`], what the template says of the conversation.
    pub message: String,
    /// Where in the template, if it is one place.
    pub place: Option<Place>,
}

/// A place in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The line's text; of a long line the part around the place.
    pub text: String,
}

/// Characters of a line that are shown before and after the place of an error.
const AROUND: usize = 36;

impl TemplateError {
    pub(super) fn new(template: &str, source: &str, fault: Fault) -> Self {
        // What the conversation lacks is no fault of a place in the template.
        let place = (fault.kind != TemplateErrorKind::Conversation).then_some(fault.spot).flatten();
        TemplateError {
            template: template.to_string(),
            kind: fault.kind,
            message: fault.message,
            place: place.and_then(|spot| Place::of(source, spot)),
        }
    }
}

impl Place {
    /// The place of a byte.
    pub(super) fn of(source: &str, spot: u32) -> Option<Place> {
        let at = source.floor_char_boundary(usize::try_from(spot).ok()?);
        let (before, after) = source.split_at_checked(at)?;
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let left = before.get(begin..)?;
        let right = after.lines().next().unwrap_or("");
        let (left_count, right_count) = (left.chars().count(), right.chars().count());
        let mut text = String::new();
        if left_count > AROUND {
            text.push('…');
        }
        text.extend(left.chars().skip(left_count.saturating_sub(AROUND)));
        text.extend(right.chars().take(AROUND));
        if right_count > AROUND {
            text.push('…');
        }
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some(Place { line, column: left_count + 1, text: text.trim().to_string() })
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.kind, &self.place) {
            (TemplateErrorKind::Raised, _) => {
                write!(f, "the chat template '{}' refuses the conversation: {}", self.template, self.message)
            }
            (TemplateErrorKind::Conversation, _) => f.write_str(&self.message),
            (_, Some(Place { line, text, .. })) => {
                write!(f, "chat template '{}', line {line}: {}\n  {line} | {text}", self.template, self.message)
            }
            (_, None) => write!(f, "chat template '{}': {}", self.template, self.message),
        }
    }
}

impl std::error::Error for TemplateError {}
