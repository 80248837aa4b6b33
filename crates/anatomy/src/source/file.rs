//! Local files, by positioned reads.
//!
//! Headers are read, not mapped: a file that shrinks while it is read gives an error instead of a
//! signal, and no `unsafe` is needed.

use std::io;
use std::path::Path;

use super::ReadAt;

pub(super) struct File {
    file: std::fs::File,
    len: u64,
}

impl File {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe or a device could block for ever, so ask what it is first.
        let metadata = std::fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::Error::other("it is a directory"));
        }
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        Ok(File { file, len })
    }
}

impl ReadAt for File {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = buffer.get_mut(n..).unwrap_or_default();
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
