//! What hides where no loader looks: behind the last tensor, between members, in a tensor's bytes, in a text.
//!
//! Weights and texts that merely look like something are no finding: only what begins as a program or an archive does,
//! with more structure than chance gives.

use super::walk::{Opened, Piece, Scanner};
use crate::container::{Container, pickle};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::ledger::{Kind, Label};
use crate::metadata::Value;
use crate::probe;
use crate::source::Source;

static DATA: Rule = Rule {
    name: "scan-hidden-content",
    severity: Severity::Error,
    why: "Bytes to which nothing in the format refers are a program, an archive or a pickle of their own. Loaders do \
          not look there; whoever put them there has another use for them.",
    help: "do not trust the file; save it again with a current library, which leaves the bytes out",
};
static TENSOR: Rule = Rule {
    name: "scan-program-in-tensor",
    severity: Severity::Error,
    why: "A tensor's bytes begin as an executable or an archive. No weights do: the model may be a vehicle for it.",
    help: "do not trust the file; get it from its author again",
};
static TEXT: Rule = Rule {
    name: "scan-program-in-text",
    severity: Severity::Error,
    why: "A text in the metadata is a program, an archive or a pickle written in letters (base64 or hexadecimal), as \
          no library stores there.",
    help: "do not trust the file; get it from its author again",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&DATA, &TENSOR, &TEXT];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&DATA, &TENSOR, &TEXT];

/// Ranges, tensors and texts of one piece that are looked at.
const MAX_RANGES: usize = 4096;
const MAX_TENSORS: usize = 20_000;
const MAX_TEXTS: usize = 4096;
/// Bytes of a tensor that are read; an executable's header is within.
const HEAD: u64 = 1024;
/// Length of a text that is tried as base64 or hexadecimal: shorter ones hold nothing.
const MIN_TEXT: usize = 16;
const MAX_TEXT: usize = 64 << 20;

/// Looks at what a piece does not explain, at how its tensors begin, and at its texts.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let Some(container) = &opened.container else { return Ok(()) };
    look_ranges(scanner, piece, container)?;
    look_tensors(scanner, piece, container)?;
    look_texts(scanner, piece, container)
}

fn look_ranges(scanner: &mut Scanner, piece: &Piece, container: &Container) -> Result<()> {
    let ranges = container.ledger.ranges().iter();
    // A piece of which nothing is explained was looked at as what it is already.
    let hidden = ranges.filter(|range| {
        matches!(range.kind, Kind::Unexplained | Kind::Padding) && (range.start, range.end) != (0, piece.source.len())
    });
    for range in hidden.take(MAX_RANGES) {
        // Zeros fill; what they fill up to is looked at.
        let first = piece.source.read_up_to(range.start, (range.end - range.start).min(64 * 1024))?;
        let Some(zeros) = first.iter().position(|byte| *byte != 0) else { continue };
        let part = piece.part(range.start + zeros as u64, range.end - range.start - zeros as u64);
        let unread = matches!(&range.label, Label::Text(text) if text == "not read by this version");
        if !unread && let Some(what) = program(&part.source)? {
            let message = format!("{} bytes that nothing refers to are {what}", part.source.len());
            scanner.report(piece, Finding::new(&DATA, message).at(range.start + zeros as u64));
        }
        scanner.look(&part)?;
    }
    Ok(())
}

fn look_tensors(scanner: &mut Scanner, piece: &Piece, container: &Container) -> Result<()> {
    for tensor in container.tensors.iter().take(MAX_TENSORS) {
        let Some(span) = tensor.span.filter(|span| span.len >= 4 && span.start < piece.source.len()) else { continue };
        let part = piece.part(span.start, span.len);
        let head = part.source.read_up_to(0, 4)?;
        if !may_be_program(&head) {
            // Some libraries keep pickled state in a tensor of bytes, and load it again.
            if matches!(tensor.dtype.name(), "U8" | "I8") && matches!(head.as_slice(), [0x80, 2..=5, ..]) {
                scanner.look(&part)?;
            }
            continue;
        }
        if let Some(what) = program(&part.source)? {
            let message = format!("the bytes of tensor {:?} are {what}", tensor.name);
            scanner.report(piece, Finding::new(&TENSOR, message).at(span.start).tensor(&*tensor.name));
            scanner.look(&part)?;
        }
    }
    Ok(())
}

fn may_be_program(head: &[u8]) -> bool {
    const STARTS: [&[u8]; 9] = [
        b"\x7fELF",
        b"MZ",
        b"PK\x03\x04",
        b"\xcf\xfa\xed\xfe",
        b"\xce\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
        b"7z\xbc\xaf",
        b"#!/",
        b"\xfd7zX",
    ];
    STARTS.iter().any(|start| head.starts_with(start))
}

/// What a run of bytes is, where that is a program or an archive beyond doubt.
fn program(source: &Source) -> Result<Option<String>> {
    let first = source.read_up_to(0, HEAD)?;
    let at = |place: usize| first.get(place).copied().unwrap_or(0);
    Ok(Some(match first.as_slice() {
        [0x7f, b'E', b'L', b'F', 1 | 2, 1 | 2, 1, ..] => "an executable (ELF)".to_string(),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, _, 0 | 1, ..] if at(7) <= 2 => "an executable (Mach-O)".to_string(),
        [b'#', b'!', b'/', rest @ ..]
            if rest.iter().take(16).all(|byte| byte.is_ascii_graphic() || *byte == b'\n' || *byte == b' ') =>
        {
            "a script".to_string()
        }
        _ => {
            let identity = probe::identify(source)?;
            match identity.format.id {
                "pe" if identity.evidence.contains("`PE`") => "an executable (PE)".to_string(),
                "pickle" | "joblib" if !calls(source)? => return Ok(None),
                "elf" | "zip" | "pytorch-zip" | "torchscript" | "7z" | "pickle" | "joblib" | "pytorch-legacy"
                | "npz" | "keras-zip" | "tar" | "pytorch-tar" | "nemo" | "gzip" | "xz" | "bzip2" | "python"
                | "gguf" | "safetensors" => {
                    format!("a file of their own ({})", identity.format.name)
                }
                _ => return Ok(None),
            }
        }
    }))
}

/// Whether a pickle imports anything: a few bytes of plain values are no program.
fn calls(source: &Source) -> Result<bool> {
    Ok(!pickle::run(source, 0)?.globals.is_empty())
}

fn look_texts(scanner: &mut Scanner, piece: &Piece, container: &Container) -> Result<()> {
    let texts = container.metadata.entries().iter().filter_map(|entry| match &entry.value {
        Value::Text(text) if (MIN_TEXT..=MAX_TEXT).contains(&text.len()) => Some((&entry.key, text, entry.span.start)),
        _ => None,
    });
    for (key, text, at) in texts.take(MAX_TEXTS) {
        let Some(bytes) = letters(text) else { continue };
        scanner.spend(bytes.len() as u64);
        let name = format!("metadata {key}");
        let source = Source::memory(&*name, bytes);
        if let Some(what) = program(&source)? {
            scanner.report(piece, Finding::new(&TEXT, format!("the text of {key:?} is {what}, in letters")).at(at));
            scanner.look(&piece.inner(&name, source))?;
        }
    }
    Ok(())
}

/// The bytes that a text writes in hexadecimal or base64.
pub(super) fn letters(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let text = text.rsplit_once(";base64,").map_or(text, |(_, data)| data);
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let pairs = text.as_bytes().chunks_exact(2);
        return pairs.map(|pair| Some(digit(*pair.first()?)? * 16 + digit(*pair.last()?)?)).collect();
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' | b'\n' | b'\r' => continue,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or(0));
        }
    }
    Some(bytes)
}
