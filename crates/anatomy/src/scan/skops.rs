//! skops archives: `schema.json` names what is imported and called to build a scikit-learn model.
//!
//! Source: skops/io/_general.py. Each node has a loader, which takes `__module__` and `__class__`, or what stands in
//! `content`, and imports, gets or calls it. What a reader is asked to trust is computed from other fields than what is
//! called (CVE-2025-54412, CVE-2025-54413), so every name counts here.

use super::code::{Danger, danger, shorten};
use super::json::{Json, parse};
use super::policy::Policy;
use super::walk::{Opened, Piece, Scanner};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static NODE: Rule = Rule {
    name: "skops-dangerous-node",
    severity: Severity::Error,
    why: "The model's description names a function that runs code or commands, or leads to one; skops imports and calls \
          it, in some versions without asking whether it is trusted (CVE-2025-54412, CVE-2025-54413).",
    help: "do not load the model",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&NODE];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&NODE];

/// Bytes of a description.
const MAX: u64 = 256 << 20;

/// Looks at a piece that describes a model.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let base = piece.name().rsplit(['/', '\\']).next().unwrap_or_default();
    if base != "schema.json" || !matches!(opened.format.id, "json" | "config-json") {
        return Ok(());
    }
    let text = scanner.read(piece, MAX)?;
    let Some(json) = parse(&String::from_utf8_lossy(&text)) else { return Ok(()) };
    let mut findings = Vec::new();
    let policy = scanner.options.policy;
    json.walk(&mut |_, node| {
        // Each of several values counts: readers disagree about which one is taken.
        for loader in node.all("__loader__").filter_map(Json::text) {
            findings.extend(names(loader, node).iter().filter_map(|name| check(loader, name, policy)));
        }
    });
    for finding in findings {
        scanner.report(piece, finding);
    }
    Ok(())
}

/// What a node's loader imports.
fn names(loader: &str, node: &Json) -> Vec<String> {
    let text = |of: &Json, key: &str| of.get_text(key).unwrap_or_default().to_string();
    let class = text(node, "__class__");
    let mut names = vec![match loader {
        // It takes the function from `operator`, whatever the module is said to be.
        "OperatorFuncNode" => format!("operator.{class}"),
        _ => format!("{}.{class}", text(node, "__module__")),
    }];
    for content in node.all("content") {
        match loader {
            "FunctionNode" => names.push(format!("{}.{}", text(content, "module_path"), text(content, "function"))),
            "MethodNode" => {
                for object in content.all("obj") {
                    let of = format!("{}.{}", text(object, "__module__"), text(object, "__class__"));
                    names.push(format!("{of}.{}", text(content, "func")));
                }
            }
            _ => {}
        }
    }
    names
}

fn check(loader: &str, name: &str, policy: &Policy) -> Option<Finding> {
    (danger(policy, name) == Danger::High).then(|| {
        let message = format!("a node of the loader {:?} names {:?}", shorten(loader), shorten(name));
        Finding::new(&NODE, message)
    })
}
