//! Where bytes come from: random access to a file, to memory, or to a part of either.
//!
//! Readers ask a [`Source`] for the header bytes that they need and for nothing else; weights are
//! never touched unless an analysis of their values asks for them.

mod file;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Random access to a run of bytes of known length.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes that begin at `offset`; fails if they are not all there.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A part of another source, with offsets of its own.
struct Section {
    whole: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl ReadAt for Section {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.whole.read_exact_at(buffer, self.start + offset)
    }
}

/// A named run of bytes; cheap to clone.
#[derive(Clone)]
pub struct Source {
    name: Arc<str>,
    bytes: Arc<dyn ReadAt>,
    len: u64,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.name, self.len)
    }
}

impl Source {
    /// Opens a local file; its name is the path as given.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = file::File::open(path).map_err(|error| Error::io(&*name, &error))?;
        Ok(Source::new(name, Arc::new(file)))
    }

    /// Bytes that are in memory already, such as an unpacked archive member.
    pub fn memory(name: impl Into<Arc<str>>, bytes: Vec<u8>) -> Self {
        Source::new(name, Arc::new(bytes))
    }

    /// Any other origin of bytes.
    pub fn new(name: impl Into<Arc<str>>, bytes: Arc<dyn ReadAt>) -> Self {
        let len = bytes.len();
        Source { name: name.into(), bytes, len }
    }

    /// The `len` bytes from `start` as a source of its own; clipped to what is there.
    #[must_use]
    pub fn section(&self, start: u64, len: u64) -> Self {
        let start = start.min(self.len);
        let len = len.min(self.len - start);
        Source { name: self.name.clone(), bytes: Arc::new(Section { whole: self.bytes.clone(), start, len }), len }
    }

    /// The same bytes under another name.
    #[must_use]
    pub fn named(&self, name: impl Into<Arc<str>>) -> Self {
        Source { name: name.into(), ..self.clone() }
    }

    /// Path or other name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buffer` from `offset`; an error if the source ends before.
    pub fn read_into(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let wanted = buffer.len() as u64;
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            let message = format!("{wanted} bytes are needed here, but the file ends at byte {}", self.len);
            return Err(Error::malformed(message).at(offset).in_file(self.name()));
        }
        self.bytes.read_exact_at(buffer, offset).map_err(|error| Error::io(self.name(), &error).at(offset))
    }

    /// The bytes of `range`, which must lie within the source: nothing is allocated for what is not there.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let wanted = range.end.saturating_sub(range.start);
        if range.end > self.len {
            let message = format!("{wanted} bytes are needed here, but the file ends at byte {}", self.len);
            return Err(Error::malformed(message).at(range.start).in_file(self.name()));
        }
        let size = usize::try_from(wanted)
            .map_err(|_| Error::malformed("more bytes than this machine can address").at(range.start))?;
        let mut buffer = vec![0; size];
        self.read_into(&mut buffer, range.start)?;
        Ok(buffer)
    }

    /// Up to `most` bytes from `offset`: fewer where the source ends before.
    pub fn read_up_to(&self, offset: u64, most: u64) -> Result<Vec<u8>> {
        let start = offset.min(self.len);
        self.read(start..start.saturating_add(most).min(self.len))
    }
}
