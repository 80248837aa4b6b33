//! Names of tensors with variables in them, filled in loop by loop.

use std::sync::Arc;

use super::expression::{Code, failed};
use super::family::Family;
use super::scope::Scope;
use crate::error::Result;

/// A name with `{variables}`.
pub(super) struct Template {
    /// Texts and, after each but the last, a variable.
    pub(super) pieces: Vec<(String, Option<String>)>,
}

impl Template {
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (variable, after) = after.split_once('}').unwrap_or((after, ""));
            pieces.push((before.to_string(), Some(variable.to_string())));
            rest = after;
        }
        pieces.push((rest.to_string(), None));
        Template { pieces }
    }

    pub(super) fn mentions(&self, variable: &str) -> bool {
        self.pieces.iter().any(|(_, name)| name.as_deref() == Some(variable))
    }
}

/// A name in which only the variables of inner loops are still open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// Texts and, after each but the last, the loop whose value stands there.
    pub(super) pieces: Vec<(String, Option<usize>)>,
    /// Room that a name needs, about.
    pub(super) len: usize,
}

impl Name {
    pub(super) fn new(
        family: &Family,
        before: &str,
        template: &Template,
        scope: &Arc<Scope>,
        loops: &[(&str, Code, &str)],
    ) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut text = before.to_string();
        for (piece, variable) in &template.pieces {
            text.push_str(piece);
            let Some(variable) = variable else { continue };
            match loops.iter().position(|(name, ..)| name == variable) {
                Some(index) => pieces.push((std::mem::take(&mut text), Some(index))),
                None => {
                    let value = Code::Name(variable.as_str().into()).value(scope);
                    text.push_str(&value.map_err(|error| failed(family, piece, variable, &error))?.to_string());
                }
            }
        }
        pieces.push((text, None));
        let len = pieces.iter().map(|(text, _)| text.len() + 4).sum();
        Ok(Name { pieces, len })
    }

    /// The same name with another beginning, where it begins so.
    pub(super) fn with_prefix(&self, from: &str, to: &str) -> Option<Name> {
        let (first, rest) = self.pieces.split_first()?;
        let text = format!("{to}{}", first.0.strip_prefix(from)?);
        let pieces = std::iter::once((text, first.1)).chain(rest.iter().cloned()).collect();
        Some(Name { pieces, len: self.len + to.len() })
    }

    /// The same name with the first of these beginnings that it has exchanged.
    pub(super) fn renamed(self, beginnings: &[(String, String)]) -> Name {
        beginnings.iter().find_map(|(from, to)| self.with_prefix(from, to)).unwrap_or(self)
    }

    /// The name in one turn of the inner loops, of which the last turns fastest.
    pub(super) fn at(&self, turn: usize, inner: &[Vec<String>]) -> String {
        let mut name = String::with_capacity(self.len);
        for (text, index) in &self.pieces {
            name.push_str(text);
            let Some(index) = index else { continue };
            let faster = inner.iter().skip(index + 1).map(Vec::len).product::<usize>().max(1);
            let values = inner.get(*index).map(Vec::as_slice).unwrap_or_default();
            if let Some(value) = values.get(turn / faster % values.len().max(1)) {
                name.push_str(value);
            }
        }
        name
    }
}
