//! Chat templates of a model, and a conversation as one of them writes it.

use serde::Serialize;

use super::page::{INDENT, Page};
use super::style::{DIM, RESET, YELLOW, wrap};
use super::units::{elide, safe};
use crate::model::Model;
use crate::template::{Facts, Lint, Rendered, Template, Templates, special_tokens};

/// What the chat templates of a model do.
#[derive(Debug, Default, Serialize)]
pub struct ChatTemplates {
    pub(super) templates: Vec<ChatTemplate>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ChatTemplate {
    name: String,
    place: String,
    /// Whether transformers (for a GGUF, llama.cpp) uses it, or asks another place first.
    used: bool,
    /// Why it cannot be read.
    error: Option<String>,
    facts: Option<Facts>,
    lint: Vec<Lint>,
}

impl ChatTemplates {
    /// Reads and probes them all.
    pub fn new(model: &Model) -> Self {
        let found = Templates::of(model);
        let variables = special_tokens(model);
        let templates = found.stated.into_iter().map(|stated| {
            let parsed = Template::parse(&stated.name, &stated.source);
            ChatTemplate {
                name: stated.name,
                place: stated.place,
                used: stated.used,
                error: parsed.as_ref().err().map(ToString::to_string),
                facts: parsed.as_ref().ok().map(|template| template.facts(&variables)),
                lint: parsed.map(|template| template.lint()).unwrap_or_default(),
            }
        });
        ChatTemplates { templates: templates.collect(), notes: found.notes }
    }

    pub(super) fn draw(&self, page: &mut Page) {
        if self.templates.is_empty() {
            page.section("template", "no chat template");
        }
        for (index, template) in self.templates.iter().enumerate() {
            let used = if template.used { "" } else { ", not used" };
            let title = format!("{} in {}{used}", safe(&elide(&template.name, 40)), safe(&template.place));
            if index == 0 {
                page.section("template", &title)
            } else {
                page.more("{}", &title)
            }
            if let Some(error) = &template.error {
                under(page, YELLOW, &elide(error, 300));
            }
            for sentence in template.facts.iter().filter(|_| template.used).flat_map(Facts::sentences) {
                under(page, DIM, &elide(&sentence, 200));
            }
            for lint in &template.lint {
                under(page, YELLOW, &elide(&format!("line {}: {}", lint.line, lint.detail), 200));
            }
        }
        for note in &self.notes {
            page.more(&format!("{YELLOW}{{}}{RESET}"), &safe(&elide(note, 300)));
        }
    }
}

/// Text in two columns from where a section's lines begin.
fn under(page: &mut Page, style: &str, text: &str) {
    for line in wrap(&safe(text), page.width.saturating_sub(INDENT + 2)) {
        page.row(&format!("  {style}{line}{RESET}"));
    }
}

/// A conversation as a model's template writes it.
#[derive(Debug, Serialize)]
pub struct Chat {
    schema: &'static str,
    /// The text.
    pub text: String,
    /// Its ids; none where the model has no tokenizer that can be run.
    ids: Option<Vec<u32>>,
    /// Bytes of the text that the model is trained to say, where the template marks them.
    generation: Vec<std::ops::Range<usize>>,
}

impl Chat {
    /// The text with its ids.
    pub fn new(rendered: Rendered, ids: Option<Vec<u32>>) -> Self {
        Chat { schema: "anatomy.tokenizer/1", text: rendered.text, ids, generation: rendered.generation }
    }
}
