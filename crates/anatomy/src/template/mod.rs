//! Chat templates: found, rendered as transformers renders them, and judged.
//!
//! A template is a small program that turns a conversation into the text that a model was trained on. It comes with the
//! model, so it is as little to be trusted as the rest of it: rendering is bounded in time, memory and output, and
//! reaches nothing outside of the conversation.

mod conversation;
mod error;
mod facts;
mod find;
mod jinja;
mod lint;

use std::ops::Range;

pub use conversation::{Conversation, local_time};
pub use error::{Place, TemplateError, TemplateErrorKind};
pub use facts::{Facts, SystemPrompt};
pub use find::{StatedTemplate, Templates, special_tokens};
pub(crate) use lint::INSIDES;
pub use lint::{Lint, LintKind, hidden};

use jiff::civil::DateTime;
use jinja::ast::Block;

/// The largest template that is read; real ones have up to some 50 kB.
const MAX_SOURCE: usize = 4 << 20;

/// The time that templates are told while they are probed.
const NOON: DateTime = DateTime::constant(2024, 7, 5, 12, 0, 0, 0);

/// Work that a probe of one line may take, some hundred times what real templates need.
const PROBE_WORK: u64 = 2_000_000;

/// A chat template that was read.
#[derive(Debug)]
pub struct Template {
    name: String,
    source: String,
    body: Block,
}

/// A conversation as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text to be tokenized, without adding special tokens.
    pub text: String,
    /// The bytes of the text that `{% generation %}` blocks wrote: what a model is trained to say. As in transformers,
    /// they are counted from where the output stood, so that blocks within macros are placed wrong.
    pub generation: Vec<Range<usize>>,
}

impl Template {
    /// Reads a template; the name is for its errors.
    pub fn parse(name: &str, source: &str) -> Result<Template, TemplateError> {
        let source = jinja::unified(source);
        let fail = |fault| TemplateError::new(name, &source, fault);
        if source.len() > MAX_SOURCE {
            let message = format!("a template of {} bytes; the limit is {MAX_SOURCE}", source.len());
            return Err(fail(jinja::fault::Fault { kind: TemplateErrorKind::Limit, message, spot: None }));
        }
        let body = jinja::parse(&source).map_err(|fault| fail(*fault))?;
        Ok(Template { name: name.to_string(), source, body })
    }

    /// What its errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation as `apply_chat_template` of transformers 5 does.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, TemplateError> {
        self.render_within(conversation, None)
    }

    /// Renders with less work than a rendering is allowed.
    fn render_within(&self, conversation: &Conversation, work: Option<u64>) -> Result<Rendered, TemplateError> {
        let fail = |fault: Box<jinja::fault::Fault>| TemplateError::new(&self.name, &self.source, *fault);
        let mut prepared = conversation.prepare(&self.source).map_err(fail)?;
        prepared.given.work = work;
        let output = jinja::render(&self.body, prepared.given).map_err(fail)?;
        let text = match &prepared.continues {
            Some(continues) => continues.cut(output.text).map_err(fail)?,
            None => output.text,
        };
        Ok(Rendered { text, generation: output.generation })
    }
}
