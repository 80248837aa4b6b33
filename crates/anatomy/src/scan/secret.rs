//! Access tokens and keys that were left in a file: no danger to whoever opens it, but to whoever wrote it.

use super::walk::{Opened, Piece, Scanner};
use crate::container::text::decode;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static SECRET: Rule = Rule {
    name: "secret-in-file",
    severity: Severity::Warning,
    why: "The text holds what has the form of an access token or private key. Whoever gets the file can use it in its \
          owner's name.",
    help: "if it is yours, revoke it and take it out of the repository's history",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&SECRET];

/// Bytes of a text that are searched.
const MAX: u64 = 16 << 20;

/// A form of secret: its prefix, the least and most signs that follow, which signs these are, whose it is.
struct Form {
    prefix: &'static str,
    least: usize,
    most: usize,
    signs: fn(char) -> bool,
    owner: &'static str,
}

const fn form(prefix: &'static str, least: usize, most: usize, signs: fn(char) -> bool, owner: &'static str) -> Form {
    Form { prefix, least, most, signs, owner }
}

fn word(sign: char) -> bool {
    sign.is_ascii_alphanumeric()
}

fn wide(sign: char) -> bool {
    word(sign) || matches!(sign, '_' | '-')
}

fn upper(sign: char) -> bool {
    sign.is_ascii_uppercase() || sign.is_ascii_digit()
}

static FORMS: &[Form] = &[
    form("hf_", 30, 60, word, "Hugging Face"),
    form("sk-proj-", 40, 300, wide, "OpenAI"),
    form("sk-ant-", 40, 300, wide, "Anthropic"),
    form("sk-or-v1-", 40, 100, word, "OpenRouter"),
    form("ghp_", 36, 36, word, "GitHub"),
    form("gho_", 36, 36, word, "GitHub"),
    form("ghs_", 36, 36, word, "GitHub"),
    form("github_pat_", 60, 100, wide, "GitHub"),
    form("glpat-", 20, 64, wide, "GitLab"),
    form("AKIA", 16, 16, upper, "Amazon"),
    form("ASIA", 16, 16, upper, "Amazon"),
    form("AIza", 35, 35, wide, "Google"),
    form("xoxb-", 20, 200, wide, "Slack"),
    form("xoxp-", 20, 200, wide, "Slack"),
    form("npm_", 36, 36, word, "npm"),
    form("pypi-AgE", 50, 300, wide, "PyPI"),
    form("nvapi-", 40, 100, wide, "NVIDIA"),
    form("r8_", 36, 40, word, "Replicate"),
    form("gsk_", 48, 60, word, "Groq"),
    form("dop_v1_", 64, 64, word, "DigitalOcean"),
    form("sk_live_", 20, 120, word, "Stripe"),
    form("dckr_pat_", 20, 60, wide, "Docker"),
];

/// Searches a piece that is a text people write.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    // Vocabularies have every piece of text there is.
    if !matches!(opened.format.id, "config-json" | "json" | "text" | "python" | "notebook") || piece.hidden {
        return Ok(());
    }
    let bytes = piece.source.read_up_to(0, MAX)?;
    let Some(text) = decode(&bytes) else { return Ok(()) };
    for (at, what) in secrets(&text.text) {
        scanner.report(piece, Finding::new(&SECRET, what).at(at));
    }
    Ok(())
}

/// Where secrets stand, and whose they are; never the secret itself.
fn secrets(text: &str) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for form in FORMS {
        for (at, prefix) in text.match_indices(form.prefix) {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            if before.is_some_and(|sign| word(sign) || sign == '_') {
                continue;
            }
            let rest = text.get(at + prefix.len()..).unwrap_or_default();
            let end = rest.find(|sign| !(form.signs)(sign)).unwrap_or(rest.len());
            let secret = rest.get(..end).unwrap_or_default();
            if (form.least..=form.most).contains(&secret.len()) && is_random(secret) {
                found.push((at as u64, format!("an access token of {} ({}…)", form.owner, form.prefix)));
            }
        }
    }
    for (at, line) in text.match_indices("-----BEGIN ") {
        let rest = text.get(at + line.len()..).unwrap_or_default();
        if rest.split("-----").next().is_some_and(|kind| kind.len() < 40 && kind.ends_with("PRIVATE KEY")) {
            found.push((at as u64, "a private key".to_string()));
        }
    }
    found
}

/// Examples repeat one sign or count upwards; real ones have many different signs.
fn is_random(secret: &str) -> bool {
    let mut seen = std::collections::HashSet::new();
    seen.extend(secret.chars());
    seen.len() >= 10.min(secret.len() / 2)
}
