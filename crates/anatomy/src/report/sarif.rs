//! What a scan found as SARIF 2.1.0, which code hosts and security tools read.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>. Rules come along with reason and remedy, so that
//! a viewer needs nothing else. Files are binary: places are byte offsets, members of archives logical locations.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scan::{Scan, ScanEntry};
use crate::finding::{Finding, Rule, Severity};
use crate::scan::Verdict;

/// Where the format is defined.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
const INFORMATION: &str = "https://docs.rs/anatomy";

impl Scan {
    /// The document of `anatomy scan --sarif`.
    pub fn sarif(&self) -> Value {
        let mut rules: BTreeMap<&str, &'static Rule> = BTreeMap::new();
        for finding in self.files.iter().flat_map(|file| &file.findings) {
            rules.insert(finding.rule.name, finding.rule);
        }
        let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(index, name)| (*name, index)).collect();
        let results: Vec<Value> = self
            .files
            .iter()
            .flat_map(|file| file.findings.iter().map(|finding| result(file, finding, index.get(finding.rule.name))))
            .collect();
        let unread: Vec<Value> = self.files.iter().filter_map(unread).collect();
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "anatomy",
                    "version": env!("CARGO_PKG_VERSION"),
                    "informationUri": INFORMATION,
                    "rules": rules.values().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
                }},
                "invocations": [{
                    "executionSuccessful": unread.is_empty(),
                    "toolExecutionNotifications": unread,
                }],
                "artifacts": self.files.iter().map(artifact).collect::<Vec<_>>(),
                "results": results,
                "properties": { "verdict": self.verdict.map(Verdict::as_str) },
            }],
        })
    }
}

fn artifact(file: &ScanEntry) -> Value {
    let mut properties = json!({ "format": file.format });
    if let (Some(verdict), Value::Object(properties)) = (file.verdict, &mut properties) {
        properties.insert("verdict".into(), verdict.as_str().into());
    }
    json!({ "location": { "uri": uri(&file.path) }, "properties": properties })
}

/// Why a file could not be read.
fn unread(file: &ScanEntry) -> Option<Value> {
    let error = file.error.as_ref()?;
    Some(json!({
        "level": "error",
        "message": { "text": error.message },
        "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri(&file.path) } } }],
    }))
}

fn result(file: &ScanEntry, finding: &Finding, index: Option<&usize>) -> Value {
    let verdict = Verdict::of_rule(finding.rule);
    let mut physical = json!({ "artifactLocation": { "uri": uri(&file.path) } });
    // Within a member, the offset is the member's: it is no place in the file.
    if let (Some(offset), None, Value::Object(physical)) = (finding.offset, &finding.member, &mut physical)
        && i64::try_from(offset).is_ok()
    {
        physical.insert("region".into(), json!({ "byteOffset": offset }));
    }
    let mut location = json!({ "physicalLocation": physical });
    let mut logical = Vec::new();
    if let Some(member) = &finding.member {
        logical.push(json!({ "fullyQualifiedName": member, "kind": "member" }));
    }
    if let Some(tensor) = &finding.tensor {
        logical.push(json!({ "fullyQualifiedName": tensor, "kind": "object" }));
    }
    if let (false, Value::Object(location)) = (logical.is_empty(), &mut location) {
        location.insert("logicalLocations".into(), logical.into());
    }
    let member = finding.member.as_deref().unwrap_or_default();
    let offset = finding.offset.map(|offset| offset.to_string()).unwrap_or_default();
    json!({
        "ruleId": finding.rule.name,
        "ruleIndex": index,
        "level": level(finding.rule),
        "message": { "text": finding.message },
        "locations": [location],
        "partialFingerprints": { "place/v2": format!("{}:{member}:{offset}:{}", finding.rule.name, finding.message) },
        "properties": {
            "verdict": verdict.as_str(),
            "member": finding.member,
            "offset": finding.offset,
            "opcode": finding.opcode,
            "tensor": finding.tensor,
        },
    })
}

/// A rule with its reason and remedy.
fn descriptor(rule: &Rule) -> Value {
    let sentence = rule.why.split_inclusive(['.', ':', ';']).next().unwrap_or(rule.why).trim_end_matches([':', ';']);
    json!({
        "id": rule.name,
        "shortDescription": { "text": sentence },
        "fullDescription": { "text": rule.why },
        "help": { "text": format!("What to do: {}.", rule.help), "markdown": format!("**What to do:** {}.", rule.help) },
        "defaultConfiguration": { "level": level(rule) },
        "properties": {
            "tags": ["security", "model"],
            "precision": "high",
            // Code hosts sort by this: from 9 on critical, from 7 high, from 4 medium.
            "security-severity": match (Verdict::of_rule(rule), rule.severity) {
                (Verdict::Malicious, _) => "9.5",
                (Verdict::Suspicious, _) => "7.5",
                (Verdict::Malformed, _) => "5.0",
                (Verdict::Clean, Severity::Note) => "0.0",
                (Verdict::Clean, _) => "3.0",
            },
        },
    })
}

fn level(rule: &Rule) -> &'static str {
    match (Verdict::of_rule(rule), rule.severity) {
        (Verdict::Clean, Severity::Note) => "note",
        (Verdict::Clean, _) => "warning",
        _ => "error",
    }
}

/// A path as a reference: relative paths stay so, absolute ones get `file://`; what may not stand in one is escaped.
fn uri(path: &str) -> String {
    let mut out = String::new();
    let path = if cfg!(windows) { path.replace('\\', "/") } else { path.to_string() };
    // Code hosts know files by their paths from the repository's top.
    let path = path.strip_prefix("./").map(str::to_string).unwrap_or(path);
    if path.starts_with('/') {
        out.push_str("file://");
    } else if path.get(1..2) == Some(":") {
        out.push_str("file:///");
    } else if path.split('/').next().is_some_and(|first| first.contains(':')) {
        // Or the first part would be taken for a scheme.
        out.push_str("./");
    }
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("a b/c#1.pt"), "a%20b/c%231.pt");
        assert_eq!(uri("/m/x.bin"), "file:///m/x.bin");
        assert_eq!(uri("C:/z"), "file:///C:/z");
        assert_eq!(uri("xx:y/z"), "./xx:y/z");
        assert_eq!(uri("\u{fc}\n"), "%C3%BC%0A");
    }
}
