//! Keras 3's archive: a zip with `config.json`, `metadata.json` and `model.weights.h5`.
//!
//! Source: keras/src/saving/saving_lib.py.

use super::zip::{self, Archive};
use super::{Container, Format};
use crate::error::Result;
use crate::ledger::Kind;
use crate::probe::{Head, Match};
use crate::source::Source;

/// The format.
pub static FORMAT: Format = Format {
    id: "keras-zip",
    name: "Keras model (zip)",
    extensions: &["keras"],
    use_and_risk: "For Keras 3. Its configuration can hold Python functions (Lambda layers): `safe_mode` refuses those.",
    probe,
    open,
};

/// Bytes of a configuration that are read.
const MAX_JSON: u64 = 16 << 20;

fn probe(head: &Head) -> Option<Match> {
    let listing = head.zip()?;
    let weights = ["model.weights.h5", "model.weights.json"].into_iter().find(|name| listing.has(name));
    let member = match weights {
        Some(weights) => weights,
        None if listing.has("config.json") && listing.has("metadata.json") => "config.json",
        None => return None,
    };
    Match::new(listing.score(), format!("{}, and has the member `{member}` of a Keras model", listing.evidence()))
}

fn open(source: &Source) -> Result<Container> {
    let archive = zip::read(source)?;
    let mut facts = vec![("members", archive.members.len().to_string())];
    if let Some(version) = json(source, &archive, "metadata.json").as_ref().and_then(|json| json.get("keras_version")) {
        facts.push(("keras version", version.as_str().unwrap_or_default().to_string()));
    }
    if let Some(config) = json(source, &archive, "config.json") {
        for (key, fact) in [("class_name", "class"), ("registered_name", "registered name")] {
            if let Some(text) = config.get(key).and_then(|value| value.as_str()) {
                facts.push((fact, text.to_string()));
            }
        }
        if let Some(name) = config.get("config").and_then(|config| config.get("name")).and_then(|name| name.as_str()) {
            facts.push(("name", name.to_string()));
        }
    }
    let weights = |name: &str| name.ends_with(".h5").then_some(Kind::Tensor);
    let mut container = zip::contained(&FORMAT, source, archive, |member| weights(&member.name));
    container.facts = facts;
    Ok(container)
}

/// A JSON member, where it is there and well formed.
fn json(source: &Source, archive: &Archive, name: &str) -> Option<serde_json::Value> {
    let contents = zip::read_member(source, archive.member(name)?, MAX_JSON).ok()?.source;
    let bytes = contents.read_up_to(0, MAX_JSON).ok()?;
    serde_json::from_slice(&bytes).ok()
}
