//! What is odd, wrong or dangerous about a file that can be reported all the same.

use std::collections::HashMap;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Odd: some programs will stumble over it.
    Warning,
    /// Broken: the format's own loader refuses it, or what it yields is wrong.
    Error,
}

impl Severity {
    /// Stable lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A kind of finding: a stable name, how bad it is, why it matters, and what to do.
///
/// Each rule is a `static` beside the code that finds it, and stands in [`crate::rules::ALL`], from
/// which `docs/rules.md` is made.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable kebab-case name.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One or two sentences: what it is, and why it matters.
    pub why: &'static str,
    /// What the person in front of it can do.
    pub help: &'static str,
}

impl Rule {
    /// Whether it says that the file ends too early. Such rules are named `…-truncated` or `…-cut`.
    pub fn means_cut(&self) -> bool {
        self.name.ends_with("-truncated") || self.name.ends_with("-cut")
    }
}

/// One occurrence of a [`Rule`], with its place.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule that fired.
    pub rule: &'static Rule,
    /// What was found here, in words, with the numbers.
    pub message: String,
    /// File, as given by the user.
    pub file: Option<String>,
    /// Archive member within the file.
    pub member: Option<String>,
    /// Byte offset in the file, or in the member where one is named.
    pub offset: Option<u64>,
    /// Opcode of a pickle that stands there, by its name in Python's `pickletools`.
    pub opcode: Option<&'static str>,
    /// Tensor that it is about.
    pub tensor: Option<String>,
}

impl Finding {
    /// A finding without a place yet.
    pub fn new(rule: &'static Rule, message: impl Into<String>) -> Self {
        Finding { rule, message: message.into(), file: None, member: None, offset: None, opcode: None, tensor: None }
    }

    /// Sets the byte offset.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Names the tensor.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>) -> Self {
        self.tensor = Some(name.into());
        self
    }

    /// Names the archive member.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>) -> Self {
        self.member = Some(name.into());
        self
    }

    /// Names the file.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Severity of its rule.
    pub fn severity(&self) -> Severity {
        self.rule.severity
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Finding", 8 + usize::from(self.opcode.is_some()))?;
        out.serialize_field("rule", self.rule.name)?;
        out.serialize_field("severity", self.rule.severity.as_str())?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("file", &self.file)?;
        out.serialize_field("member", &self.member)?;
        out.serialize_field("offset", &self.offset)?;
        match self.opcode {
            Some(opcode) => out.serialize_field("opcode", opcode)?,
            None => out.skip_field("opcode")?,
        }
        out.serialize_field("tensor", &self.tensor)?;
        out.serialize_field("help", self.rule.help)?;
        out.end()
    }
}

/// Collects findings while a file is read.
///
/// A hostile header can break one rule a million times: of each rule the first
/// [`Findings::PER_RULE`] are kept, the rest is counted into one closing finding.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    list: Vec<Finding>,
    counts: HashMap<&'static str, u64>,
}

impl Findings {
    /// Occurrences of one rule that are kept one by one.
    pub const PER_RULE: u64 = 20;

    /// An empty collection.
    pub fn new() -> Self {
        Findings::default()
    }

    /// Adds a finding, or counts it where its rule has fired too often.
    pub fn push(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.rule.name).or_default();
        *count += 1;
        if *count <= Self::PER_RULE {
            self.list.push(finding);
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The findings in the order in which they came, each rule's surplus summed up at the end of its own.
    pub fn finish(mut self) -> Vec<Finding> {
        let mut summed: Vec<(usize, Finding)> = Vec::new();
        for (name, count) in &self.counts {
            if *count <= Self::PER_RULE {
                continue;
            }
            let last = self.list.iter().rposition(|finding| finding.rule.name == *name);
            if let Some((position, finding)) = last.and_then(|i| Some((i, self.list.get(i)?))) {
                let more = count - Self::PER_RULE;
                summed.push((position, Finding::new(finding.rule, format!("… and {more} more of this kind"))));
            }
        }
        summed.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        for (position, finding) in summed {
            self.list.insert(position + 1, finding);
        }
        self.list
    }
}
