//! A checked, buffered cursor over a [`Source`].

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;

/// Byte order of multi-byte numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// Reads numbers and strings one after the other, never past the end, and knows where it is.
///
/// Bytes are fetched in chunks, so a header of a few megabytes costs a few reads and one small buffer.
pub struct Reader<'a> {
    source: &'a Source,
    endian: Endian,
    buffer: Vec<u8>,
    /// Offset in the source of `buffer[0]`.
    start: u64,
    /// Position within `buffer`; at most its length.
    at: usize,
    /// How many bytes the next refill fetches.
    chunk: usize,
}

/// How many bytes a refill fetches. Small files and headers fit in one.
const CHUNK: usize = 256 * 1024;

/// How many bytes the first refill after a jump fetches: a walk that steps from tensor to tensor must not read
/// much of each. Every further refill in a row fetches four times as many, up to [`CHUNK`].
const CHUNK_AFTER_JUMP: usize = 4 * 1024;

macro_rules! number {
    ($name:ident, $type:ty) => {
        #[doc = concat!("The next `", stringify!($type), "`, in the reader's byte order.")]
        pub fn $name(&mut self) -> Result<$type> {
            let bytes = self.array()?;
            Ok(match self.endian {
                Endian::Little => <$type>::from_le_bytes(bytes),
                Endian::Big => <$type>::from_be_bytes(bytes),
            })
        }
    };
}

impl<'a> Reader<'a> {
    /// A little-endian reader that begins at `offset`.
    pub fn new(source: &'a Source, offset: u64) -> Self {
        Reader { source, endian: Endian::Little, buffer: Vec::new(), start: offset, at: 0, chunk: CHUNK }
    }

    /// Changes the byte order for what follows.
    pub fn set_endian(&mut self, endian: Endian) {
        self.endian = endian;
    }

    /// Byte order in force.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// Offset in the source of the next byte.
    pub fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Bytes from here to the end of the source.
    pub fn remaining(&self) -> u64 {
        self.source.len().saturating_sub(self.offset())
    }

    /// The source that is read.
    pub fn source(&self) -> &'a Source {
        self.source
    }

    fn ends(&self, wanted: u64) -> Error {
        let message = format!("{wanted} bytes are needed here, but the file ends at byte {}", self.source.len());
        Error::malformed(message).at(self.offset()).in_file(self.source.name())
    }

    /// Makes at least `count` bytes available in the buffer.
    #[cold]
    fn refill(&mut self, count: usize) -> Result<()> {
        let offset = self.offset();
        if count as u64 > self.remaining() {
            return Err(self.ends(count as u64));
        }
        self.buffer = self.source.read_up_to(offset, count.max(self.chunk) as u64)?;
        self.chunk = (self.chunk * 4).min(CHUNK);
        self.start = offset;
        self.at = 0;
        Ok(())
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.buffer.len() - self.at < N {
            self.refill(N)?;
        }
        match self.buffer.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.ends(N as u64)),
        }
    }

    number!(u8, u8);
    number!(u16, u16);
    number!(u32, u32);
    number!(u64, u64);
    number!(i8, i8);
    number!(i16, i16);
    number!(i32, i32);
    number!(i64, i64);
    number!(f32, f32);
    number!(f64, f64);

    /// The next byte without consuming it; `None` at the end.
    pub fn peek(&mut self) -> Result<Option<u8>> {
        if self.remaining() == 0 {
            return Ok(None);
        }
        if self.at == self.buffer.len() {
            self.refill(1)?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// The next `count` bytes. Nothing is allocated when the source does not hold them.
    pub fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        if count > self.remaining() {
            return Err(self.ends(count));
        }
        let size = usize::try_from(count)
            .map_err(|_| Error::new(ErrorKind::Limit, "more bytes than this machine can address").at(self.offset()))?;
        if let Some(bytes) = self.buffer.get(self.at..).and_then(|rest| rest.get(..size)) {
            let bytes = bytes.to_vec();
            self.at += size;
            return Ok(bytes);
        }
        let offset = self.offset();
        let bytes = self.source.read(offset..offset + count)?;
        self.seek(offset + count);
        Ok(bytes)
    }

    /// As [`Reader::bytes`], without a copy where they are in the buffer.
    pub fn borrow(&mut self, count: u64) -> Result<Cow<'_, [u8]>> {
        // Another chunk is fetched anyway, unless they would not fit into one.
        if count > (self.buffer.len() - self.at) as u64 && count <= CHUNK_AFTER_JUMP as u64 && count <= self.remaining()
        {
            self.refill(CHUNK_AFTER_JUMP.min(usize::try_from(count).unwrap_or(CHUNK_AFTER_JUMP)))?;
        }
        match usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count))
            .filter(|end| *end <= self.buffer.len())
        {
            Some(end) => {
                let start = std::mem::replace(&mut self.at, end);
                Ok(Cow::Borrowed(self.buffer.get(start..end).unwrap_or_default()))
            }
            None => self.bytes(count).map(Cow::Owned),
        }
    }

    /// Steps over `count` bytes without reading them; an error where the source ends before.
    #[inline]
    pub fn skip(&mut self, count: u64) -> Result<()> {
        if count <= (self.buffer.len() - self.at) as u64 {
            // The comparison above makes the cast exact.
            #[allow(clippy::cast_possible_truncation)]
            let step = count as usize;
            self.at += step;
            return Ok(());
        }
        if count > self.remaining() {
            return Err(self.ends(count));
        }
        self.seek(self.offset() + count);
        Ok(())
    }

    /// Continues at an absolute offset, which may lie past the end: the next read then fails.
    pub fn seek(&mut self, offset: u64) {
        let within = offset.checked_sub(self.start).and_then(|step| usize::try_from(step).ok());
        match within.filter(|at| *at <= self.buffer.len()) {
            Some(at) => self.at = at,
            None => {
                self.buffer.clear();
                self.start = offset;
                self.at = 0;
                self.chunk = CHUNK_AFTER_JUMP;
            }
        }
    }

    /// The bytes up to and without the next newline, and whether there is one; it is consumed. Of a line longer than
    /// `most` only that many bytes are given.
    pub fn line(&mut self, most: usize) -> Result<(Vec<u8>, bool)> {
        let mut line = Vec::new();
        loop {
            if self.at == self.buffer.len() {
                if self.remaining() == 0 {
                    return Ok((line, false));
                }
                self.refill(1)?;
            }
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(rest.len());
            line.extend_from_slice(rest.get(..taken.min(most - line.len())).unwrap_or_default());
            self.at += taken + usize::from(end.is_some());
            if end.is_some() {
                return Ok((line, true));
            }
        }
    }
}
