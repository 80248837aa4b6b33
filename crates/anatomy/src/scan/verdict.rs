//! From findings to a verdict.

use serde::Serialize;

use super::{
    archive, config, expression, hdf5, hidden, judge, keras, packed, pickle, posing, python, skops, template,
    tensorflow, torchscript, walk,
};
use crate::container::onnx;
use crate::finding::{Finding, Rule, Severity};

/// Whether a file is safe to open; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing that speaks against it.
    Clean,
    /// Broken, or not what its name promises.
    Malformed,
    /// Nobody vouches for what it does.
    Suspicious,
    /// It does what no model needs and attackers do.
    Malicious,
}

/// Rules whose findings are attacks.
static MALICIOUS: &[&[&Rule]] = &[
    judge::MALICIOUS,
    archive::MALICIOUS,
    config::MALICIOUS,
    python::MALICIOUS,
    keras::MALICIOUS,
    skops::MALICIOUS,
    template::MALICIOUS,
    tensorflow::MALICIOUS,
    torchscript::MALICIOUS,
    &[&onnx::EXTERNAL_PATH],
];
/// Rules whose findings nobody vouches for.
static SUSPICIOUS: &[&[&Rule]] = &[
    judge::SUSPICIOUS,
    pickle::SUSPICIOUS,
    archive::SUSPICIOUS,
    packed::SUSPICIOUS,
    hidden::SUSPICIOUS,
    posing::SUSPICIOUS,
    config::SUSPICIOUS,
    python::SUSPICIOUS,
    keras::SUSPICIOUS,
    hdf5::SUSPICIOUS,
    template::SUSPICIOUS,
    tensorflow::SUSPICIOUS,
    torchscript::SUSPICIOUS,
    expression::SUSPICIOUS,
    walk::SUSPICIOUS,
    &[&onnx::EXTERNAL_KEY, &onnx::PYTHON, &onnx::CUSTOM],
];

impl Verdict {
    /// Stable lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Clean => "clean",
            Verdict::Malformed => "malformed",
            Verdict::Suspicious => "suspicious",
            Verdict::Malicious => "malicious",
        }
    }

    /// What a finding of this rule makes of a file.
    pub fn of_rule(rule: &Rule) -> Self {
        let stands_in = |table: &[&[&Rule]]| table.iter().any(|group| group.iter().any(|one| one.name == rule.name));
        if stands_in(MALICIOUS) {
            Verdict::Malicious
        } else if stands_in(SUSPICIOUS) {
            Verdict::Suspicious
        } else if rule.severity == Severity::Error {
            Verdict::Malformed
        } else {
            Verdict::Clean
        }
    }

    /// The worst that the findings say.
    pub fn of(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| Verdict::of_rule(finding.rule)).max().unwrap_or(Verdict::Clean)
    }
}
