//! Core ML: `.mlmodel` as one protocol-buffer message, and the `Manifest.json` of an `.mlpackage`.
//!
//! Field numbers from `Model.proto` of <https://github.com/apple/coremltools>.

use super::protobuf::{Fields, Value};
use super::{Container, Facts, Format, identified, json};
use crate::bytes::Reader;
use crate::error::Result;
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// The format.
pub static FORMAT: Format = Format {
    id: "coreml",
    name: "Core ML",
    extensions: &["mlmodel"],
    use_and_risk: "For Apple's devices: a model with its weights, or a package of both. Custom layers call the app's code; \
                   loading by itself runs none.",
    probe,
    open,
};

/// The field that holds the model, by number.
const KINDS: &[(u64, &str)] = &[
    (200, "pipeline classifier"),
    (201, "pipeline regressor"),
    (202, "pipeline"),
    (300, "generalized linear regressor"),
    (301, "support vector regressor"),
    (302, "tree ensemble regressor"),
    (303, "neural network regressor"),
    (304, "Bayesian probit regressor"),
    (400, "generalized linear classifier"),
    (401, "support vector classifier"),
    (402, "tree ensemble classifier"),
    (403, "neural network classifier"),
    (404, "k-nearest-neighbours classifier"),
    (500, "neural network"),
    (501, "item similarity recommender"),
    (502, "ML program"),
    (555, "custom model"),
    (556, "linked model"),
    (600, "one-hot encoder"),
    (601, "imputer"),
    (602, "feature vectorizer"),
    (603, "dictionary vectorizer"),
    (604, "scaler"),
    (606, "categorical mapping"),
    (607, "normalizer"),
    (609, "array feature extractor"),
    (610, "non-maximum suppression"),
    (900, "identity"),
    (2000, "text classifier"),
    (2001, "word tagger"),
    (2002, "vision feature print"),
    (2003, "sound analysis"),
    (2004, "gazetteer"),
    (2005, "word embedding"),
    (2006, "audio feature print"),
    (3000, "serialized model"),
];

struct Model {
    version: u64,
    kind: Option<&'static str>,
    cut: bool,
}

fn model(source: &Source) -> Option<Model> {
    let mut reader = Reader::new(source, 0);
    let mut fields = Fields::of_source(&reader);
    let first = fields.next(&mut reader).ok()??;
    let version = match (first.number, first.value) {
        (1, Value::Varint(version)) if (1..=64).contains(&version) => version,
        _ => return None,
    };
    let second = fields.next(&mut reader).ok()??;
    let span = second.span().filter(|_| second.number == 2)?;
    let described = description(&mut reader, span)?;
    let mut kind = None;
    for _ in 0..8 {
        match fields.next(&mut reader) {
            Ok(Some(field)) => match (field.number, field.value) {
                (10, Value::Varint(_)) => {}
                (number, Value::Bytes(_)) => kind = Some(KINDS.iter().find(|(known, _)| *known == number)?.1),
                _ => return None,
            },
            Ok(None) => break,
            Err(fault) if fault.cut => break,
            Err(_) => return None,
        }
    }
    let cut = fields.offset() > source.len();
    // Without the model itself, its description must name an input, which no other format does at this place.
    (kind.is_some() || (cut && described)).then_some(Model { version, kind, cut })
}

/// Whether it describes features; `None` where it cannot be a description.
fn description(reader: &mut Reader, span: Span) -> Option<bool> {
    let mut fields = Fields::within(span);
    let mut named = false;
    for _ in 0..16 {
        let field = match fields.next(reader) {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(fault) if fault.cut => break,
            Err(_) => return None,
        };
        match (field.number, field.value) {
            (1 | 10, Value::Bytes(span)) => {
                let mut inner = Fields::within(span);
                let name = inner.next(reader).ok().flatten().is_some_and(|f| f.number == 1 && f.span().is_some());
                let rest = inner.next(reader).ok().flatten().is_some_and(|f| matches!(f.number, 2 | 3));
                named |= name && rest;
            }
            (11..=13 | 20..=22 | 50 | 51 | 100, Value::Bytes(_)) => {}
            _ => return None,
        }
    }
    Some(named)
}

fn probe(head: &Head) -> Option<Match> {
    if let Some(sort) = json::sort(head).filter(|sort| sort.id == "coreml") {
        return Match::new(score::LIKELY, sort.evidence.clone());
    }
    head.starts_with(b"\x08").then_some(())?;
    let model = model(head.source)?;
    let kind = model.kind.map(|kind| format!(" and a {kind}")).unwrap_or_default();
    let cut = if model.cut { format!("; the file is cut: it ends at byte {}", head.len()) } else { String::new() };
    let version = model.version;
    Match::new(
        score::CERTAIN - 15,
        format!("a protocol-buffer message with specification version {version}, a description{kind}{cut}"),
    )
}

fn open(source: &Source) -> Result<Container> {
    let mut facts = Facts::new();
    if let Some(model) = model(source) {
        facts.push(("specification version", model.version.to_string()));
        facts.extend(model.kind.map(|kind| ("kind", kind.to_string())));
        return Ok(identified(&FORMAT, source, 2, 0, facts));
    }
    facts.push(("kind", "manifest of a package".to_string()));
    let mut draft = Draft::new();
    draft.add(0, source.len(), Kind::Metadata, "manifest (JSON)");
    let mut container = Container::new(&FORMAT, draft.finish(source.len()));
    container.facts = facts;
    Ok(container)
}
