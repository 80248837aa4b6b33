//! LZ4: frames, the legacy frames before them, and blocks.
//!
//! <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md> and `lz4_Block_format.md` beside it. Everything that
//! was unpacked stays in one buffer, so it is its own window. Checksums are read over: a wrong one does not undo what a
//! reader already has.

use std::io::Read;

use super::feed::Feed;
use super::{Fault, Sink};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Unpacked bytes of a legacy block, at most.
const LEGACY_BLOCK: usize = 8 << 20;

/// Unpacks the frame that begins here.
pub(super) fn frame(feed: &mut Feed, out: &mut Sink) -> Result<(), Fault> {
    let magic: [u8; 4] = take(feed)?;
    if magic == LEGACY {
        return legacy(feed, out);
    }
    if magic != MAGIC {
        return Err(broken("no frame begins here"));
    }
    let [flags, sizes] = take(feed)?;
    let has = |bit: u8| flags & 1 << bit != 0;
    if flags >> 6 != 1 {
        return Err(broken("a version of frames that is not known"));
    }
    let block = match sizes >> 4 & 7 {
        size @ 4..=7 => 1usize << (8 + 2 * size),
        _ => return Err(broken("a block size that is not known")),
    };
    let declared = if has(3) { Some(u64::from_le_bytes(take(feed)?)) } else { None };
    if has(0) {
        let _: [u8; 4] = take(feed)?;
        return Err(broken("a dictionary is needed, which the file does not bring along"));
    }
    let [_header_sum] = take(feed)?;
    let start = out.bytes.len();
    loop {
        let size = u32::from_le_bytes(take(feed)?);
        if size == 0 {
            break;
        }
        let packed = read(feed, size & 0x7fff_ffff, block)?;
        // Blocks that do not depend on each other may not reach before themselves.
        let window = if has(5) { out.bytes.len() } else { start };
        if size >> 31 == 1 {
            out.push(&packed)?;
        } else {
            unpack(&packed, window, block, out)?;
        }
        if has(4) {
            let _: [u8; 4] = take(feed)?;
        }
    }
    if has(2) {
        let _: [u8; 4] = take(feed)?;
    }
    let came = (out.bytes.len() - start) as u64;
    match declared.filter(|declared| *declared != came) {
        Some(declared) => Err(Fault::Broken(format!("{came} bytes came out, but {declared} were declared"))),
        None => Ok(()),
    }
}

/// Blocks until the end or until another frame begins.
fn legacy(feed: &mut Feed, out: &mut Sink) -> Result<(), Fault> {
    while !feed.is_empty() {
        let next = feed.peek(4);
        if [&MAGIC, &LEGACY].iter().any(|magic| next == magic.as_slice()) {
            return Ok(());
        }
        let size = u32::from_le_bytes(take(feed)?);
        let packed = read(feed, size, LEGACY_BLOCK + LEGACY_BLOCK / 255 + 16)?;
        let window = out.bytes.len();
        unpack(&packed, window, LEGACY_BLOCK, out)?;
    }
    Ok(())
}

impl Sink {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() as u64 > self.left() {
            return Err(Fault::Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn broken(words: &str) -> Fault {
    Fault::Broken(words.to_string())
}

fn take<const N: usize>(feed: &mut Feed) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    feed.read_exact(&mut bytes).map_err(|error| super::fault(&error))?;
    Ok(bytes)
}

fn read(feed: &mut Feed, size: u32, most: usize) -> Result<Vec<u8>, Fault> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > most {
        return Err(broken("a block that is larger than the frame allows"));
    }
    let mut bytes = vec![0; size];
    feed.read_exact(&mut bytes).map_err(|error| super::fault(&error))?;
    Ok(bytes)
}

/// Unpacks a block of at most `most` bytes; copies reach back to `window` in what is there already.
fn unpack(packed: &[u8], window: usize, most: usize, out: &mut Sink) -> Result<(), Fault> {
    const SHORT: &str = "a block ends within a sequence";
    let start = out.bytes.len();
    let mut rest = packed;
    while let [token, behind @ ..] = rest {
        rest = behind;
        let literals = length(token >> 4, &mut rest).ok_or_else(|| broken(SHORT))?;
        let (text, behind) = rest.split_at_checked(literals).ok_or_else(|| broken(SHORT))?;
        out.push(text)?;
        // The last sequence has literals alone.
        if behind.is_empty() {
            break;
        }
        let (distance, behind) = behind.split_first_chunk::<2>().ok_or_else(|| broken(SHORT))?;
        rest = behind;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let count = 4 + length(token & 15, &mut rest).ok_or_else(|| broken(SHORT))?;
        let end = out.bytes.len();
        if distance == 0 || distance > end - window {
            return Err(broken("a copy from before the first byte"));
        }
        if end - start + count > most {
            return Err(broken("a block unpacks to more than the frame allows"));
        }
        if count as u64 > out.left() {
            return Err(Fault::Full);
        }
        // The copy may overlap what it writes.
        for from in end - distance..end - distance + count {
            let byte = out.bytes.get(from).copied().unwrap_or_default();
            out.bytes.push(byte);
        }
    }
    Ok(())
}

/// A length of four bits, with as many further bytes as they need.
fn length(bits: u8, rest: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(bits);
    if length == 15 {
        loop {
            let (more, behind) = rest.split_first()?;
            *rest = behind;
            length += usize::from(*more);
            if *more != 255 {
                break;
            }
        }
    }
    Some(length)
}
