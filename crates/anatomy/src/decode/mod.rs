//! Packed bytes, unpacked within bounds: gzip, zlib, bzip2, xz, LZMA, Zstandard, LZ4.
//!
//! [`decode`] unpacks all streams of a kind that follow each other, as the readers of models do (joblib, `gzip.open`,
//! `lzma.open`), and says where they end: what stands behind them is another thing. What was unpacked before a fault
//! counts, since a real reader had it too.

mod feed;
mod lz4;
pub(crate) mod raw;

use std::io::{ErrorKind, Read};

use ruzstd::decoding::StreamingDecoder;

use crate::error::Result;
use crate::source::Source;
use feed::Feed;

/// How a stream is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, as joblib writes it.
    Zlib,
    /// Deflate without a frame, RFC 1951.
    Deflate,
    /// bzip2.
    Bzip2,
    /// The container of LZMA2 streams.
    Xz,
    /// The older LZMA file, which Python calls `FORMAT_ALONE`.
    Lzma,
    /// RFC 8878.
    Zstd,
    /// LZ4's frames.
    Lz4,
}

/// Why unpacking stopped before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end within a stream.
    Cut,
    /// The stream contradicts itself.
    Broken(String),
    /// More would come out than there is room for.
    Full,
}

impl Fault {
    /// In words.
    pub fn words(&self) -> &str {
        match self {
            Fault::Cut => "the packed bytes end too early",
            Fault::Broken(words) => words,
            Fault::Full => "more comes out than there is room for",
        }
    }
}

/// What came out.
#[derive(Debug)]
pub struct Decoded {
    /// The unpacked bytes, as far as they could be had.
    pub bytes: Vec<u8>,
    /// How many packed bytes were taken from the source, from its first.
    pub used: u64,
    /// Why there are no more, where that is not the end.
    pub fault: Option<Fault>,
}

/// Memory that a stream may ask for as its dictionary, in KiB: what `xz -9` asks for, four times over. Fixed, so that
/// the same file is always read the same way.
const MEMORY: u32 = 256 << 10;

impl Method {
    /// The method whose streams begin so. [`Method::Deflate`] has no sign; those of zlib and LZMA are weak, so that
    /// other bytes may carry them by chance.
    pub fn of(first: &[u8]) -> Option<Self> {
        Some(match first {
            [0x1f, 0x8b, 8, ..] => Method::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Method::Bzip2,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Method::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Method::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Method::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Method::Lz4,
            // Deflate with a window of 256 bytes to 32 KiB; the check digits of the header are right.
            [0x08 | 0x18 | 0x28 | 0x38 | 0x48 | 0x58 | 0x68 | 0x78, ..] if is_zlib(first) => Method::Zlib,
            _ if is_lzma(first) => Method::Lzma,
            _ => return None,
        })
    }

    /// Whether the sign of the method is so weak that bytes should unpack before it is believed.
    pub fn is_weak(self) -> bool {
        matches!(self, Method::Zlib | Method::Lzma | Method::Deflate)
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Method::Gzip => "gzip",
            Method::Zlib => "zlib",
            Method::Deflate => "deflate",
            Method::Bzip2 => "bzip2",
            Method::Xz => "xz",
            Method::Lzma => "LZMA",
            Method::Zstd => "Zstandard",
            Method::Lz4 => "LZ4",
        }
    }
}

fn is_zlib(first: &[u8]) -> bool {
    // No dictionary is asked for (bit 5), which no file could bring along.
    matches!(first, [method, flags, ..]
        if flags & 0x20 == 0 && (u16::from(*method) * 256 + u16::from(*flags)).is_multiple_of(31))
}

/// Properties that can be, a dictionary that xz's own reader of such files accepts (2^n or 2^n + 2^(n-1), or all), and
/// a length that is unknown or below 256 GiB; the first byte of the data is always 0.
fn is_lzma(first: &[u8]) -> bool {
    let [properties, d0, d1, d2, d3, size @ .., 0] = first.get(..14).unwrap_or_default() else { return false };
    let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]);
    let size = size.first_chunk::<8>().map_or(0, |size| u64::from_le_bytes(*size));
    let top = dictionary.checked_ilog2().map_or(0, |top| 1u32 << top);
    let plain = dictionary == u32::MAX || dictionary == top || dictionary == top + top / 2;
    *properties < 225 && dictionary >= 4096 && plain && (size == u64::MAX || size < 1 << 38)
}

/// Unpacks the streams that begin at the source's first byte, to `room` bytes at most.
pub fn decode(source: &Source, method: Method, room: u64) -> Result<Decoded> {
    let mut feed = Feed::new(source);
    let mut out = Sink { bytes: Vec::new(), room };
    let mut fault = None;
    while fault.is_none() {
        let start = feed.at();
        fault = stream(&mut feed, method, &mut out).err();
        if let Some(error) = feed.failure() {
            return Err(error);
        }
        // The next stream may follow at once, and in all but zlib after zeros.
        if fault.is_some() || feed.at() == start || !feed.next_is(method) {
            break;
        }
    }
    Ok(Decoded { bytes: out.bytes, used: feed.at(), fault })
}

/// Whether bytes that begin so unpack at all: for methods with a weak sign.
pub fn unpacks(source: &Source, method: Method) -> Result<bool> {
    let decoded = decode(source, method, 4096)?;
    Ok(match decoded.fault {
        None => !decoded.bytes.is_empty(),
        Some(Fault::Full) => true,
        Some(_) => decoded.bytes.len() >= 64,
    })
}

/// Unpacked bytes with a bound.
pub(crate) struct Sink {
    pub(crate) bytes: Vec<u8>,
    pub(crate) room: u64,
}

impl Sink {
    /// How many more bytes fit.
    pub(crate) fn left(&self) -> u64 {
        self.room.saturating_sub(self.bytes.len() as u64)
    }

    /// Takes what a reader gives.
    pub(crate) fn take(&mut self, reader: &mut dyn Read) -> std::result::Result<(), Fault> {
        let mut block = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let fits = usize::try_from(self.left()).unwrap_or(usize::MAX).min(count);
                    self.bytes.extend_from_slice(block.get(..fits).unwrap_or_default());
                    if fits < count {
                        return Err(Fault::Full);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(fault(&error)),
            }
        }
    }
}

/// What a decoder's complaint means.
pub(crate) fn fault(error: &std::io::Error) -> Fault {
    match error.kind() {
        ErrorKind::UnexpectedEof => Fault::Cut,
        ErrorKind::OutOfMemory => Fault::Full,
        _ => Fault::Broken(error.to_string()),
    }
}

fn stream(feed: &mut Feed, method: Method, out: &mut Sink) -> std::result::Result<(), Fault> {
    match method {
        Method::Gzip => out.take(&mut flate2::bufread::GzDecoder::new(feed)),
        Method::Zlib => out.take(&mut flate2::bufread::ZlibDecoder::new(feed)),
        Method::Deflate => out.take(&mut flate2::bufread::DeflateDecoder::new(feed)),
        Method::Bzip2 => out.take(&mut bzip2::bufread::BzDecoder::new(feed)),
        Method::Xz => out.take(&mut lzma_rust2::XzReader::new_mem_limit(feed, false, MEMORY)),
        Method::Lzma => {
            let start = feed.at();
            let mut reader = lzma_rust2::LzmaReader::new_mem_limit(&mut *feed, MEMORY, None).map_err(|e| fault(&e))?;
            let outcome = out.take(&mut reader);
            let unused = reader.into_parts().1.len() as u64;
            feed.seek(feed.at().saturating_sub(unused).max(start));
            outcome
        }
        Method::Zstd => zstd(feed, out),
        Method::Lz4 => lz4::frame(feed, out),
    }
}

fn zstd(feed: &mut Feed, out: &mut Sink) -> std::result::Result<(), Fault> {
    if let Some(skipped) = feed.skippable() {
        return skipped;
    }
    let mut decoder = StreamingDecoder::new(feed).map_err(|error| Fault::Broken(error.to_string()))?;
    out.take(&mut decoder).map_err(|fault| match fault {
        // The decoder wraps the end of its input in words of its own.
        Fault::Broken(_) if decoder.get_ref().is_empty() => Fault::Cut,
        other => other,
    })?;
    let sums = (decoder.decoder.get_checksum_from_data(), decoder.decoder.get_calculated_checksum());
    match sums {
        (Some(declared), Some(sum)) if declared != sum => {
            Err(Fault::Broken(format!("the checksum is {sum:08x}, but {declared:08x} was declared")))
        }
        _ => Ok(()),
    }
}
