//! Members' bytes, unpacked.

use std::io::Read;

use super::{CONTENT_BROKEN, DEFLATED, Member, STORED};
use crate::decode::raw::{self, Coder};
use crate::decode::{self, Decoded, Fault, Method};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::source::Source;

/// A member's unpacked bytes.
#[derive(Debug)]
pub struct Contents {
    /// The bytes, as far as they could be unpacked.
    pub source: Source,
    /// What was wrong.
    pub fault: Option<Finding>,
}

/// Unpacks bytes that were packed with the method of this number, to `room` bytes at most. `None` for numbers of methods
/// that are not read; LZMA needs the declared size.
pub fn unpack(packed: &Source, method: u16, size: u64, room: u64) -> Result<Option<Decoded>> {
    // APPNOTE.TXT, section 4.4.5.
    let method = match method {
        DEFLATED => Method::Deflate,
        12 => Method::Bzip2,
        14 => return unpack_lzma(packed, size, room),
        20 | 93 => Method::Zstd,
        95 => Method::Xz,
        _ => return Ok(None),
    };
    decode::decode(packed, method, room).map(Some)
}

/// A version, the length of the properties, and the properties stand before the stream (section 5.8.8).
fn unpack_lzma(packed: &Source, size: u64, room: u64) -> Result<Option<Decoded>> {
    let head = packed.read_up_to(0, 9)?;
    let [_, _, 5, 0, properties, dictionary @ ..] = head.as_slice() else {
        let fault = Fault::Broken("the LZMA header is not as it should be".to_string());
        return Ok(Some(Decoded { bytes: Vec::new(), used: 0, fault: Some(fault) }));
    };
    let dictionary = dictionary.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let stream = packed.section(9, packed.len());
    let mut decoded = raw::unpack(&stream, &Coder::Lzma(*properties, dictionary), size, room)?;
    decoded.used += 9;
    Ok(Some(decoded))
}

/// Unpacks a member. One that is stored is read where it lies; one that is packed is unpacked in
/// memory, to `limit` bytes at most, whatever it declares.
pub fn read_member(source: &Source, member: &Member, limit: u64) -> Result<Contents> {
    let raw = source.section(member.data.start, member.data.len);
    let fault = |message: String| Some(Finding::new(&CONTENT_BROKEN, message).member(&*member.name));
    if member.method == STORED {
        let sum = if raw.len() <= limit { checksum(&raw)? } else { member.crc };
        let differs = sum != member.crc && member.crc != 0;
        let fault = if differs { fault(wrong_checksum(sum, member.crc)) } else { None };
        return Ok(Contents { source: raw, fault });
    }
    let error = |kind, message: String| Err(Error::new(kind, message).in_file(source.name()).in_member(&*member.name));
    let Some(decoded) = unpack(&raw, member.method, member.size, limit)? else {
        let message =
            format!("member {:?} is compressed with method {}, which is not read", member.name, member.method);
        return error(ErrorKind::Unsupported, message);
    };
    if decoded.fault == Some(Fault::Full) {
        return error(ErrorKind::Limit, format!("member {:?} unpacks to more than {limit} bytes", member.name));
    }
    let fault = check(member, &decoded);
    Ok(Contents { source: Source::memory(source.name(), decoded.bytes), fault })
}

/// Compares what came out of a packed member with what its header promises.
pub fn check(member: &Member, decoded: &Decoded) -> Option<Finding> {
    let Decoded { bytes, used, fault } = decoded;
    let length = bytes.len() as u64;
    let message = match fault {
        Some(Fault::Full) => return None,
        Some(stopped) => format!("unpacking stops after {length} bytes: {}", stopped.words()),
        None if length != member.size => format!("{length} bytes are unpacked, but {} were declared", member.size),
        None if *used < member.data.len => format!("{} bytes follow the packed ones", member.data.len - used),
        None => {
            let mut sum = flate2::Crc::new();
            sum.update(bytes);
            if sum.sum() == member.crc || member.crc == 0 {
                return None;
            }
            wrong_checksum(sum.sum(), member.crc)
        }
    };
    Some(Finding::new(&CONTENT_BROKEN, message).member(&*member.name))
}

fn wrong_checksum(sum: u32, declared: u32) -> String {
    format!("the checksum is {sum:08x}, but {declared:08x} was declared")
}

fn checksum(source: &Source) -> Result<u32> {
    let mut sum = flate2::Crc::new();
    let mut at = 0;
    while at < source.len() {
        let chunk = source.read_up_to(at, 256 * 1024)?;
        sum.update(&chunk);
        at += chunk.len() as u64;
    }
    Ok(sum.sum())
}

/// The first `most` bytes of a member, unpacked; what comes after is not looked at.
pub fn read_first(source: &Source, member: &Member, most: u64) -> Result<Source> {
    let raw = source.section(member.data.start, member.data.len);
    if member.method == STORED {
        return Ok(raw);
    }
    // A broken stream still gave its first bytes.
    match unpack(&raw, member.method, member.size, most)? {
        Some(decoded) => Ok(Source::memory(source.name(), decoded.bytes)),
        None => read_member(source, member, most).map(|contents| contents.source),
    }
}

/// Sequential reading of a source for decoders.
pub(crate) struct Cursor<'a> {
    pub(crate) source: &'a Source,
    pub(crate) at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.source.read_up_to(self.at, buffer.len() as u64).map_err(std::io::Error::other)?;
        self.at += bytes.len() as u64;
        for (to, from) in buffer.iter_mut().zip(&bytes) {
            *to = *from;
        }
        Ok(bytes.len())
    }
}
