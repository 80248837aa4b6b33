//! Is a model whole and consistent?

use std::fmt::Write;

use serde::Serialize;

use super::style::{BOLD, DIM, GREEN, RED, YELLOW, findings, paint, wrap};
use super::units::{count, safe, thousands};
use crate::analysis::Analysis;
use crate::check;
use crate::finding::{Finding, Severity};

/// The document of `anatomy check`.
#[derive(Debug, Serialize)]
pub struct Check {
    schema: &'static str,
    source: String,
    /// Whether nothing is broken: no finding is an error.
    pub ok: bool,
    family: Option<String>,
    /// Why the tensors were not compared with a configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_compared: Option<String>,
    /// Names in the index, where shards are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<usize>,
    tensors: usize,
    /// Tensors that follow from the configuration, in name and shape.
    explained: usize,
    /// What is odd or wrong.
    pub findings: Vec<Finding>,
}

impl Check {
    /// Takes the outcome of a check.
    pub fn new(analysis: &Analysis, check: check::Check) -> Self {
        let check::Check { family, not_compared, explained, listed, findings } = check;
        Check {
            schema: "anatomy.check/1",
            source: analysis.model.source.clone(),
            ok: findings.iter().all(|finding| finding.severity() != Severity::Error),
            family,
            not_compared,
            listed,
            tensors: analysis.rows.len(),
            explained,
            findings,
        }
    }

    /// Verdict first, then what was found, worst first.
    pub fn text(&self, width: usize) -> String {
        let width = width.clamp(40, 120);
        let mut out = String::new();
        let of =
            |severity: Severity| self.findings.iter().filter(|finding| finding.severity() == severity).count() as u64;
        let (errors, warnings, notes) = (of(Severity::Error), of(Severity::Warning), of(Severity::Note));
        let verdict = match (errors, warnings) {
            (0, 0) if self.family.is_none() => paint(YELLOW, "nothing wrong found, but not all was compared"),
            (0, _) if self.family.is_none() => paint(YELLOW, count(warnings, "oddity", "oddities")),
            (0, 0) => paint(GREEN, "✓ whole and consistent"),
            (0, _) => paint(YELLOW, format!("✓ whole, with {}", count(warnings, "oddity", "oddities"))),
            _ => paint(RED, format!("✗ broken: {}", count(errors, "error", "errors"))),
        };
        let name = self.source.trim_end_matches(['/', '\\']);
        let name = safe(name.rsplit(['/', '\\']).next().unwrap_or(name));
        let _ = writeln!(out, "{}  {verdict}", paint(BOLD, name));
        let compared = match (&self.family, &self.not_compared) {
            (Some(family), _) if self.listed.is_some() => format!(
                "{} of {} in the index follow from the configuration, as family {} has them; shapes were not compared \
                 where shards are missing",
                thousands(self.explained as u64),
                count(self.listed.unwrap_or_default() as u64, "name", "names"),
                safe(family)
            ),
            (Some(family), _) => format!(
                "{} of {} follow from the configuration, as family {} has them",
                self.explained.min(self.tensors),
                count(self.tensors as u64, "tensor", "tensors"),
                safe(family)
            ),
            (None, Some(reason)) => format!("tensors not compared with a configuration: {}", safe(reason)),
            (None, None) => String::new(),
        };
        for line in wrap(&compared, width) {
            let _ = writeln!(out, "{}", paint(DIM, line));
        }
        if errors + warnings + notes > 0 {
            let _ = writeln!(out);
            out.push_str(&findings(&self.findings, width));
        }
        out
    }
}
