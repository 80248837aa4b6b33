//! Packed streams: what comes out of gzip, zlib, bzip2, xz, LZMA, Zstandard and LZ4 is a piece of its own.

use super::walk::{Opened, Piece, Scanner};
use crate::decode::{self, Fault, Method};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::source::Source;

static BROKEN: Rule = Rule {
    name: "packed-broken",
    severity: Severity::Error,
    why: "The packed bytes end too early or contradict themselves. What was unpacked before that place was looked at; \
          a loader may have used it too.",
    help: "download the file again; if it stays so, do not use it",
};
static BOMB: Rule = Rule {
    name: "packed-bomb",
    severity: Severity::Warning,
    why: "The bytes unpack to hundreds of times their size, as no weights do: they may be there to fill memory.",
    help: "do not unpack the file without a limit",
};
static TRAILING: Rule = Rule {
    name: "packed-trailing-data",
    severity: Severity::Warning,
    why: "Bytes follow the packed stream that are none themselves: some programs refuse them, others do not look.",
    help: "look at what the bytes are",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&BROKEN, &BOMB, &TRAILING];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&BOMB];

/// From which unpacked size and ratio on a stream counts as a bomb.
const BOMB_SIZE: u64 = 16 << 20;
const BOMB_RATIO: u64 = 200;
/// Bytes that one stream is unpacked to in memory.
const MAX_UNPACKED: u64 = 1 << 30;

/// Unpacks a piece that is a packed stream.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, _opened: &Opened) -> Result<()> {
    let first = piece.source.read_up_to(0, 32)?;
    let (start, method) = match old_joblib(&first) {
        Some(start) => (start, Some(Method::Zlib)),
        None => (0, Method::of(&first)),
    };
    let Some(method) = method else { return Ok(()) };
    let packed = piece.source.section(start, piece.source.len());
    if start == 0 && method.is_weak() && !decode::unpacks(&packed, method)? {
        return Ok(());
    }
    let room = scanner.room().min(MAX_UNPACKED);
    let decoded = decode::decode(&packed, method, room)?;
    let size = decoded.bytes.len() as u64;
    scanner.spend(size);
    match &decoded.fault {
        Some(Fault::Full) => {
            scanner.limit(piece, format!("a {} stream unpacks to more than {room} bytes", method.name()))
        }
        Some(fault) => {
            let message = format!("a {} stream breaks off after {size} bytes: {}", method.name(), fault.words());
            scanner.report(piece, Finding::new(&BROKEN, message).at(start + decoded.used));
        }
        None if decoded.used < packed.len() => {
            let at = start + decoded.used;
            let message = format!("{} bytes follow the {} stream", packed.len() - decoded.used, method.name());
            scanner.report(piece, Finding::new(&TRAILING, message).at(at));
            scanner.look(&piece.part(at, packed.len() - decoded.used))?;
        }
        None => {}
    }
    if size > BOMB_SIZE && size / decoded.used.max(1) > BOMB_RATIO {
        let message = format!("{} bytes unpack to {size}", decoded.used);
        scanner.report(piece, Finding::new(&BOMB, message).at(start));
    }
    if size > 0 {
        let name = inner_name(piece.name(), method);
        scanner.look(&piece.inner(&name, Source::memory(&*name, decoded.bytes)))?;
    }
    Ok(())
}

/// Where the zlib stream of a file by old joblib begins: `ZF`, the length in hexadecimal, filled up with blanks.
fn old_joblib(first: &[u8]) -> Option<u64> {
    let digits = first.strip_prefix(b"ZF0x")?;
    let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b' ').count();
    Some(4 + count as u64)
}

/// The name that remains when the packing's own ending is taken off.
fn inner_name(name: &str, method: Method) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let endings: &[&str] = match method {
        Method::Gzip => &[".gz"],
        Method::Bzip2 => &[".bz2"],
        Method::Xz => &[".xz"],
        Method::Lzma => &[".lzma"],
        Method::Zstd => &[".zst", ".zstd"],
        Method::Lz4 => &[".lz4"],
        Method::Zlib | Method::Deflate => &[".z", ".zlib"],
    };
    match endings.iter().find_map(|ending| base.strip_suffix(ending)) {
        Some(inner) if !inner.is_empty() => inner.to_string(),
        _ => format!("unpacked {}", method.name()),
    }
}
