//! Pickles, wherever they stand: at the begin of any piece, one after the other, in each other.

use super::judge::{self, judge};
use super::walk::{Opened, Piece, Scanner};
use super::{Program, explain};
use crate::bytes::Reader;
use crate::container::pickle::{self, Id, Loader, Trace, Value, looks_like_pickle, run_next};
use crate::container::{npy, torch};
use crate::error::Result;
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::ledger::Label;
use crate::source::Source;
use crate::tensor::Span;

static HIDDEN: Rule = Rule {
    name: "pickle-hidden",
    severity: Severity::Error,
    why: "A pickle that imports or calls something stands where none belongs: in a file of another format, or in bytes \
          that nothing explains. A program that finds it there runs it.",
    help: "do not use the file; get it from its author again",
};
static EXPANDS: Rule = Rule {
    name: "pickle-expands",
    severity: Severity::Error,
    why: "The pickle's lists hold each other so often that whoever walks through them is at it for ever: a few hundred \
          bytes stand for more values than a machine can count.",
    help: "do not load the file",
};
static EXHAUSTED: Rule = Rule {
    name: "pickle-too-large",
    severity: Severity::Error,
    why: "The pickle has more parts than are followed, or an array of a form that is not known within it, so something \
          may stand among what was left out.",
    help: "load it only if you trust its author",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&HIDDEN, &EXPANDS, &EXHAUSTED];
/// Of these, those whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&HIDDEN, &EXHAUSTED];

/// Pickles of a legacy checkpoint before its storages.
const LEGACY_STREAMS: usize = 5;
/// Streams of a piece that are looked at; a file of more is a trap.
const MAX_STREAMS: usize = 1 << 20;
/// Values of one pickle that are looked at for being pickles themselves.
const MAX_NESTED: usize = 4096;
/// Values that walking through a pickle may take, and how often each of those that it has.
const MAX_EXPANDED: f32 = 1e8;
const MAX_EXPANSION: f32 = 1e3;

/// Follows the pickles that a piece begins with.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let format = opened.format;
    if *format == pickle::FORMAT || *format == pickle::JOBLIB {
        // joblib's packed files are unpacked by the family of archives.
        let first = piece.source.read_up_to(0, 4096)?;
        if *format == pickle::JOBLIB && !looks_like_pickle(&first, piece.source.len()) {
            return Ok(());
        }
        return streams(scanner, piece, 0, if piece.hidden { Place::Hidden } else { Place::Own });
    }
    if *format == torch::legacy::FORMAT {
        return streams(scanner, piece, 0, Place::Legacy);
    }
    if *format == torch::tarred::FORMAT {
        return between_storages(scanner, piece, opened);
    }
    if *format == npy::FORMAT
        && let Ok(header) = npy::read_header(&piece.source)
    {
        let place = if header.element.object { Place::Own } else { Place::Hidden };
        return streams(scanner, piece, header.data, place);
    }
    streams(scanner, piece, 0, Place::Hidden)
}

/// Where pickles stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where they belong.
    Own,
    /// At the begin of a legacy checkpoint, with storages after them.
    Legacy,
    /// Where none belong: only what runs something is one.
    Hidden,
}

/// Follows the pickles that stand one after the other from `start`.
fn streams(scanner: &mut Scanner, piece: &Piece, start: u64, place: Place) -> Result<()> {
    let source = &piece.source;
    let mut reader = Reader::new(source, start);
    let mut findings = Findings::new();
    let mut nested = Vec::new();
    let mut found = place != Place::Hidden;
    if !found && !may_run(&mut reader)? {
        return Ok(());
    }
    for number in 0..MAX_STREAMS {
        let at = reader.offset();
        let trace = run_next(&mut reader, Loader::Joblib)?;
        let judgement = judge(&trace, scanner.options.policy);
        // Random bytes may call what they find on the stack, but name nothing.
        let runs = judgement.telling && pickle::has_names(&trace);
        if !found {
            if runs {
                found = true;
                let message = "bytes that are no pickle by their place run as one";
                findings.push(Finding::new(&HIDDEN, message).at(at));
            } else if trace.fault.is_some() || trace.end <= at {
                return Ok(());
            } else {
                continue;
            }
        } else if number > 0 {
            // After the last pickle: is this another one?
            let begins = matches!(source.read_up_to(at, 2)?.as_slice(), [0x80, 0..=5]);
            if !runs && !begins && trace.fault.is_some() {
                reader.seek(at);
                break;
            }
            if place == Place::Own {
                findings.push(pickle::another_stream(number + 1, at));
            }
        }
        if trace.exhausted {
            findings.push(Finding::new(&EXHAUSTED, "it has parts that are not followed").at(at));
        }
        if place != Place::Hidden {
            pickle::report_faults(&trace, None, &mut findings);
            if expands(&trace) {
                findings.push(Finding::new(&EXPANDS, "its parts hold each other without bounds").at(at));
            }
        }
        for finding in judgement.findings.finish() {
            findings.push(named(finding, source));
        }
        nested.extend(judgement.nested);
        nested.extend(pickled_bytes(&trace, source));
        as_plain(scanner, piece, &trace, &mut findings)?;
        explain(scanner, piece, &trace);
        let (end, broken) = (trace.end, trace.fault.is_some());
        drop(trace);
        if broken || end <= at || place == Place::Legacy && number + 1 == LEGACY_STREAMS {
            reader.seek(source.len());
            break;
        }
        skip_filling(&mut reader, end)?;
        if reader.remaining() == 0 {
            break;
        }
    }
    if !found {
        return Ok(());
    }
    for finding in findings.finish() {
        scanner.report(piece, finding);
    }
    let rest = reader.offset();
    if rest < source.len() {
        if place == Place::Own {
            scanner.report(piece, pickle::trailing(source.len() - rest, rest));
        }
        scanner.look(&piece.part(rest, source.len() - rest))?;
    }
    nested.sort_unstable_by_key(|span: &Span| (span.start, span.len));
    nested.dedup();
    for span in nested {
        let inner = source.section(span.start, span.len);
        scanner.look(&piece.inner(&format!("pickle at byte {}", piece.base + span.start), inner))?;
    }
    Ok(())
}

/// Values that are bytes and begin as a pickle does: whoever keeps one there loads it.
fn pickled_bytes(trace: &Trace, source: &Source) -> Vec<Span> {
    let bytes = trace.ids().filter_map(|id| match trace.value(id) {
        Value::Bytes(place) => trace.span(place).filter(|span| span.len > 4),
        _ => None,
    });
    let is_pickle =
        |span: &Span| source.read_up_to(span.start, 2).is_ok_and(|first| matches!(first.as_slice(), [0x80, 2..=5]));
    bytes.take(MAX_NESTED).filter(is_pickle).collect()
}

/// The pickles that stand between the storages of PyTorch's first form, where its reader found them. Those with which
/// the members begin are followed as members.
fn between_storages(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let Some(container) = &opened.container else { return Ok(()) };
    let mut reader = Reader::new(&piece.source, 0);
    for range in container.ledger.ranges() {
        match &range.label {
            Label::Text(text) if text.starts_with("pickle of") || text.starts_with("pickled list") => {}
            _ => continue,
        }
        reader.seek(range.start);
        let trace = run_next(&mut reader, Loader::Plain)?;
        for finding in judge(&trace, scanner.options.policy).findings.finish() {
            scanner.report(piece, named(finding, &piece.source));
        }
        explain(scanner, piece, &trace);
    }
    Ok(())
}

/// Whether a pickle that runs something could begin here: most bytes are no opcode that can be the first.
fn may_run(reader: &mut Reader) -> Result<bool> {
    let first = reader.peek()?;
    Ok(first.is_some_and(|first| {
        b"\x80\x95(])}l0cISVFLNKMJGXUTiPBC\x8a\x8b\x8c\x8d\x8e\x8f\x96\x88\x89\x82\x83\x84".contains(&first)
    }))
}

/// What the same bytes do for `pickle.load`, which takes the bytes of joblib's arrays for opcodes.
fn as_plain(scanner: &Scanner, piece: &Piece, trace: &Trace, findings: &mut Findings) -> Result<()> {
    let array = trace.arrays.first().map(|array| array.span.start);
    let Some(first) = array.or_else(|| trace.fault.as_ref().filter(|_| trace.exhausted).map(|fault| fault.offset))
    else {
        return Ok(());
    };
    let plain = run_next(&mut Reader::new(&piece.source, trace.start), Loader::Plain)?;
    let judgement = judge(&plain, scanner.options.policy);
    for finding in judgement.findings.finish() {
        if judge::is_telling(finding.rule) && finding.offset.is_some_and(|offset| offset >= first) {
            findings.push(named(finding, &piece.source));
        }
    }
    Ok(())
}

/// A finding of a judgement with the opcode that stands at its place.
fn named(finding: Finding, source: &Source) -> Finding {
    let first = finding.offset.and_then(|offset| source.read_up_to(offset, 1).ok());
    let opcode = first.and_then(|first| pickle::opcode_name(*first.first()?));
    Finding { opcode, ..finding }
}

/// Goes to where the bytes go on that are no filling: zeros, and the ends of lines that editors add.
fn skip_filling(reader: &mut Reader, end: u64) -> Result<()> {
    reader.seek(end);
    while let Some(byte) = reader.peek()?
        && matches!(byte, 0 | b'\n' | b'\r' | b' ')
    {
        reader.skip(1)?;
    }
    Ok(())
}

/// Whether walking through the object takes far more steps than it has parts.
fn expands(trace: &Trace) -> bool {
    // To double needs a value that is used again.
    if trace.recalls < 16 {
        return false;
    }
    let mut weights: Vec<f32> = Vec::with_capacity(trace.values());
    let mut most = 0f32;
    for id in trace.ids() {
        let weight = match trace.value(id) {
            Value::Tuple(_) | Value::FrozenSet(_) | Value::List | Value::Dict | Value::Set | Value::Call(_) => {
                let weight =
                    |part: &Id| trace.index(*part).and_then(|index| weights.get(index)).copied().unwrap_or(1.0);
                1.0 + trace.contents(id).iter().map(weight).sum::<f32>()
            }
            _ => 1.0,
        };
        most = most.max(weight);
        weights.push(weight);
    }
    // Counts beyond 2^24 are rounded, which does not matter here.
    most > MAX_EXPANDED && most > MAX_EXPANSION * trace.values() as f32
}

fn explain(scanner: &mut Scanner, piece: &Piece, trace: &Trace) {
    if scanner.options.explain && !(trace.calls.is_empty() && trace.globals.is_empty()) {
        scanner.programs.push(Program {
            member: piece.member.clone(),
            offset: piece.base.saturating_add(trace.start),
            text: explain::program(trace, &piece.source),
        });
    }
}
