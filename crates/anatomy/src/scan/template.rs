//! Chat templates, wherever they stand: what they reach for, and what they say that nobody asked for.
//!
//! The tree of the template is looked at ([`crate::template`]); nothing is rendered with what the file brings along.

use super::config::is_yaml;
use super::json::parse;
use super::walk::{Opened, Piece, Scanner};
use super::yaml::scalars;
use crate::container::text::decode;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::metadata::Value;
use crate::template::{INSIDES, LintKind, Template, hidden};

static ESCAPE: Rule = Rule {
    name: "template-reaches-internals",
    severity: Severity::Error,
    why: "The chat template reaches for the insides of Python objects, takes the engine's own functions apart, or calls \
          what runs code. A program that renders it without a sandbox runs that code (CVE-2024-34359, CVE-2026-5760).",
    help: "do not use the template; take the one of the original model",
};
static ENDLESS: Rule = Rule {
    name: "template-endless",
    severity: Severity::Warning,
    why: "The chat template loops or grows without reasonable end: rendering it keeps a server busy or fills its memory.",
    help: "do not use the template; take the one of the original model",
};
static GATED: Rule = Rule {
    name: "template-gated-instruction",
    severity: Severity::Warning,
    why: "The chat template writes sentences of its own only when a user's words match: instructions that lie in wait, \
          and that no test conversation shows.",
    help: "compare the template with the one of the original model",
};
static CONCEALS: Rule = Rule {
    name: "template-conceals",
    severity: Severity::Warning,
    why: "The chat template tells the model to hide what it was told.",
    help: "compare the template with the one of the original model",
};
static LINK: Rule = Rule {
    name: "template-link",
    severity: Severity::Warning,
    why: "The chat template writes a link into the conversation, which the model may pass on to users.",
    help: "compare the template with the one of the original model",
};
static HIDDEN: Rule = Rule {
    name: "template-hidden-text",
    severity: Severity::Warning,
    why: "The chat template holds characters that nobody sees, but that a model reads (tags, zero-width signs, changes of \
          direction).",
    help: "do not use the template; take the one of the original model",
};
static UNREAD: Rule = Rule {
    name: "template-unreadable",
    severity: Severity::Note,
    why: "The chat template cannot be parsed, so it could not be looked into in full.",
    help: "read the template, or take the one of the original model",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&ESCAPE, &ENDLESS, &GATED, &CONCEALS, &LINK, &HIDDEN, &UNREAD];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&ESCAPE];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&ENDLESS, &GATED, &CONCEALS, &LINK, &HIDDEN];

/// Bytes of a template, and of a configuration that is searched for one.
const MAX: u64 = 256 << 20;
/// Templates of one piece.
const MAX_TEMPLATES: usize = 256;

/// Looks at the templates of a piece.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if piece.hidden {
        return Ok(());
    }
    for (name, text, at) in templates(piece, opened)?.into_iter().take(MAX_TEMPLATES) {
        check(scanner, piece, &name, &text, at);
    }
    Ok(())
}

/// Names, texts and places of the templates.
fn templates(piece: &Piece, opened: &Opened) -> Result<Vec<(String, String, Option<u64>)>> {
    let mut found = Vec::new();
    match opened.format.id {
        "gguf" | "llamafile" => {
            let entries = opened.container.iter().flat_map(|container| container.metadata.entries());
            for entry in entries.filter(|entry| entry.key.contains("chat_template")) {
                let text = match &entry.value {
                    Value::Text(text) => text.clone(),
                    Value::LongText(span) => {
                        String::from_utf8_lossy(&piece.source.read_up_to(span.start, span.len.min(MAX))?).into_owned()
                    }
                    _ => continue,
                };
                found.push((entry.key.clone(), text, Some(entry.span.start)));
            }
        }
        "config-json" | "json" | "tokenizer-json" => {
            let bytes = piece.source.read_up_to(0, MAX)?;
            let Some(json) = decode(&bytes).and_then(|text| parse(&text.text)) else { return Ok(found) };
            json.walk(&mut |path, value| {
                let Some(depth) = path.iter().position(|key| *key == "chat_template") else { return };
                // The template itself, one of a list, or one of several by name.
                let named = path.len() > depth + 1 && path.last() == Some(&"name");
                if let (Some(text), false) = (value.text(), named) {
                    found.push((path.join("."), text.to_string(), None));
                }
            });
        }
        "text" | "html" | "python" | "unknown" if is_template(piece.name()) => {
            let bytes = piece.source.read_up_to(0, MAX)?;
            found.push((piece.name().to_string(), String::from_utf8_lossy(&bytes).into_owned(), Some(0)));
        }
        // Programs read templates from any text of that ending (`prompt.template`), if they are ones.
        "text" | "html" | "unknown" if piece.name().ends_with(".template") => {
            let bytes = piece.source.read_up_to(0, MAX)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if text.contains("{{") || text.contains("{%") {
                found.push((piece.name().to_string(), text, Some(0)));
            }
        }
        "text" if is_yaml(piece.name()) => {
            let bytes = piece.source.read_up_to(0, MAX)?;
            let Some(text) = decode(&bytes) else { return Ok(found) };
            scalars(&text.text, &mut |scalar| {
                if scalar.key == "chat_template" && found.len() < MAX_TEMPLATES {
                    found.push((scalar.key.into_owned(), scalar.text.into_owned(), Some(scalar.at)));
                }
            });
        }
        _ => {}
    }
    Ok(found)
}

fn is_template(name: &str) -> bool {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    [".jinja", ".jinja2", ".j2"].iter().any(|ending| base.ends_with(ending)) || base.contains("chat_template")
}

fn check(scanner: &mut Scanner, piece: &Piece, name: &str, text: &str, at: Option<u64>) {
    let mut report = |rule: &'static Rule, message: String| {
        scanner.report(piece, Finding { offset: at, ..Finding::new(rule, message) });
    };
    let lints = match Template::parse(name, text) {
        Ok(template) => template.lint(),
        Err(error) => {
            report(&UNREAD, format!("{name}: {error}"));
            // Another engine may be less strict.
            if let Some(word) = INSIDES.iter().find(|word| text.contains(**word)) {
                report(&ESCAPE, format!("{name} has the word {word:?}"));
            }
            hidden(text).collect()
        }
    };
    for lint in lints {
        let rule = match lint.kind {
            LintKind::InternalAttribute | LintKind::EngineObject | LintKind::CodeCall => &ESCAPE,
            LintKind::Endless => &ENDLESS,
            LintKind::GatedInstruction => &GATED,
            LintKind::Concealment => &CONCEALS,
            LintKind::Link => &LINK,
            LintKind::HiddenText => &HIDDEN,
        };
        report(rule, format!("{name}, line {}: {}", lint.line, lint.detail));
    }
}
