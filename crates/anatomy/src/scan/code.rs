//! What a dotted name is good for that a configuration, a source text or a graph calls.

use super::policy::{Policy, Standing};

/// How much a name says against the file that calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Danger {
    /// Builds plain values, or a class of a well-known framework.
    None,
    /// Nobody vouches for it.
    Unknown,
    /// Runs code, or leads there.
    High,
}

/// Looks up `package.module.name`.
pub(super) fn danger(policy: &Policy, dotted: &str) -> Danger {
    let dotted = dotted.trim();
    let (module, name) = dotted.rsplit_once('.').unwrap_or(("builtins", dotted));
    match policy.standing(&policy.canonical(module, name)) {
        Standing::Dangerous => Danger::High,
        Standing::Checked(check) if check.is_narrow() => Danger::High,
        Standing::Harmless | Standing::Known { .. } | Standing::Reference | Standing::Checked(_) => Danger::None,
        Standing::Standard | Standing::Unknown { .. } => Danger::Unknown,
    }
}

/// A text for a message: one line, not too long.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
