//! SentencePiece: a vocabulary with scores and the rules of its normaliser, as one protocol-buffer message.
//!
//! Field numbers from `sentencepiece_model.proto` of <https://github.com/google/sentencepiece>.

use super::protobuf::{Fields, Value, text};
use super::{Container, Facts, Format};
use crate::bytes::Reader;
use crate::error::Result;
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, score};
use crate::source::Source;
use crate::tensor::Span;

/// The format.
pub static FORMAT: Format = Format {
    id: "sentencepiece",
    name: "SentencePiece tokenizer",
    // `.model` is also used for other things, so it promises nothing.
    extensions: &["spm"],
    use_and_risk: "A tokenizer: text pieces with scores. Loading runs no code.",
    probe,
    open,
};

/// A piece; its score and type are checked, not kept.
pub(crate) struct Piece {
    pub text: Span,
}

/// Reads a piece strictly. `None` where it cannot be one.
pub(crate) fn piece(reader: &mut Reader, span: Span) -> Option<Piece> {
    let mut fields = Fields::within(span);
    let mut piece = None;
    loop {
        let field = match fields.next(reader) {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(fault) if fault.cut && piece.is_some() => break,
            Err(_) => return None,
        };
        match (field.number, field.value) {
            (1, Value::Bytes(span)) if span.len <= 4096 => piece = Some(span),
            (2, Value::Fixed32(_)) => {}
            (3, Value::Varint(number)) if number <= 64 => {}
            // Extensions may use the numbers from 200 on.
            (200.., _) => {}
            _ => return None,
        }
    }
    Some(Piece { text: piece? })
}

/// Pieces that are looked into; the rest is only stepped over, to see whether the file is cut.
const ENOUGH: u32 = 64;

fn probe(head: &Head) -> Option<Match> {
    head.starts_with(b"\x0a").then_some(())?;
    let mut reader = Reader::new(head.source, 0);
    let mut fields = Fields::of_source(&reader);
    let mut pieces = 0u32;
    let mut scored = 0u32;
    let mut cut = false;
    loop {
        let field = match fields.next(&mut reader) {
            Ok(Some(field)) => field,
            Ok(None) => break,
            // A vocabulary that was right so far is damaged, not another format.
            Err(_) if pieces >= ENOUGH => break,
            Err(fault) if fault.cut => {
                cut = true;
                break;
            }
            Err(_) => return None,
        };
        match (field.number, field.value) {
            (1, Value::Bytes(span)) => {
                if span.end() > head.len() {
                    cut = true;
                    break;
                }
                if pieces >= ENOUGH {
                    continue;
                }
                let piece = piece(&mut reader, span)?;
                text(&mut reader, piece.text, 4096)?;
                // A piece is longer than its text and tag by its score or its type.
                scored += u32::from(span.end() > piece.text.end());
                pieces += 1;
            }
            (2..=5, Value::Bytes(_)) if pieces > 0 => cut |= fields.offset() > head.len(),
            _ if pieces >= ENOUGH => break,
            _ => return None,
        }
    }
    (pieces >= 3 && scored >= pieces - 1).then_some(())?;
    let cut = if cut { "; the file is cut" } else { "" };
    Match::new(score::LIKELY + 10, format!("a protocol-buffer message that begins with text pieces and scores{cut}"))
}

fn open(source: &Source) -> Result<Container> {
    let mut reader = Reader::new(source, 0);
    let mut fields = Fields::of_source(&reader);
    let mut draft = Draft::new();
    let mut pieces = 0u64;
    let mut facts = Facts::new();
    let mut pieces_end = 0;
    while let Ok(Some(field)) = fields.next(&mut reader) {
        let end = fields.offset();
        match (field.number, field.value) {
            (1, _) => {
                pieces += 1;
                if pieces_end == field.start {
                    pieces_end = end;
                } else {
                    draft.add(field.start, end, Kind::Tokenizer, "pieces with their scores");
                }
            }
            (2, Value::Bytes(span)) => {
                if facts.is_empty() {
                    facts.push(("model", model_type(&mut reader, span).to_string()));
                }
                draft.add(field.start, end, Kind::Tokenizer, "how the vocabulary was trained");
            }
            (3 | 5, Value::Bytes(_)) => draft.add(field.start, end, Kind::Tokenizer, "rules of the normaliser"),
            (4, _) => draft.add(field.start, end, Kind::Tokenizer, "samples for a self-test"),
            _ => {}
        }
    }
    draft.add(0, pieces_end, Kind::Tokenizer, "pieces with their scores");
    facts.insert(0, ("pieces", pieces.to_string()));
    let mut container = Container::new(&FORMAT, draft.finish(source.len()));
    if fields.offset() != source.len() {
        container.findings.push(super::json::cut(source, "the message is not complete"));
    }
    container.facts = facts;
    Ok(container)
}

/// `TrainerSpec.model_type`, field 3.
pub(crate) fn model_type(reader: &mut Reader, span: Span) -> &'static str {
    let mut fields = Fields::within(span);
    while let Ok(Some(field)) = fields.next(reader) {
        if let (3, Value::Varint(number)) = (field.number, field.value) {
            return match number {
                1 => "unigram",
                2 => "bpe",
                3 => "word",
                4 => "char",
                _ => "unknown",
            };
        }
    }
    "unigram"
}
