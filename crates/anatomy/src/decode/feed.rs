//! The packed bytes, one after the other, with the place of the next.

use std::io::{self, BufRead, Read};

use super::{Fault, Method};
use crate::error::Error;
use crate::source::Source;

/// Bytes that are fetched at once.
const CHUNK: u64 = 64 * 1024;

/// A source as decoders want it.
pub(super) struct Feed<'a> {
    source: &'a Source,
    /// Place in the source of the first byte of `buffer`.
    start: u64,
    buffer: Vec<u8>,
    taken: usize,
    failure: Option<Error>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Feed { source, start: 0, buffer: Vec::new(), taken: 0, failure: None }
    }

    /// Place of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.start + self.taken as u64
    }

    /// Continues at a place.
    pub(super) fn seek(&mut self, at: u64) {
        let within = at.checked_sub(self.start).and_then(|step| usize::try_from(step).ok());
        match within.filter(|taken| *taken <= self.buffer.len()) {
            Some(taken) => self.taken = taken,
            None => {
                self.start = at.min(self.source.len());
                self.buffer.clear();
                self.taken = 0;
            }
        }
    }

    /// Whether nothing follows.
    pub(super) fn is_empty(&self) -> bool {
        self.at() >= self.source.len()
    }

    /// Why the source could not be read, if it could not.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// The next bytes, which stay; fewer where the source ends.
    pub(super) fn peek(&mut self, count: usize) -> Vec<u8> {
        self.source.read_up_to(self.at(), count as u64).unwrap_or_else(|error| {
            self.failure = Some(error);
            Vec::new()
        })
    }

    /// Whether another stream of the method follows; steps over the zeros before it.
    pub(super) fn next_is(&mut self, method: Method) -> bool {
        // joblib's zlib streams follow each other closely; the other readers skip zeros between streams.
        let at = if method == Method::Zlib { self.at() } else { self.zeros() };
        let first = self.source.read_up_to(at, 14).unwrap_or_default();
        if Method::of(&first) != Some(method) {
            // Zeros to the end are the filling of a tape or a disk.
            if at == self.source.len() && method != Method::Zlib {
                self.seek(at);
            }
            return false;
        }
        self.seek(at);
        true
    }

    /// Where the zeros that begin here end.
    fn zeros(&self) -> u64 {
        let mut at = self.at();
        loop {
            let block = self.source.read_up_to(at, CHUNK).unwrap_or_default();
            let zeros = block.iter().take_while(|byte| **byte == 0).count();
            at += zeros as u64;
            if zeros < block.len() || block.is_empty() {
                return at;
            }
        }
    }

    /// Steps over a frame that Zstandard and LZ4 are told to skip, where one stands here.
    pub(super) fn skippable(&mut self) -> Option<Result<(), Fault>> {
        let head = self.peek(8);
        let [0x50..=0x5f, 0x2a, 0x4d, 0x18, rest @ ..] = head.as_slice() else { return None };
        let Some(len) = rest.first_chunk::<4>() else { return Some(Err(Fault::Cut)) };
        let end = self.at() + 8 + u64::from(u32::from_le_bytes(*len));
        self.seek(end);
        Some(if end > self.source.len() { Err(Fault::Cut) } else { Ok(()) })
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let count = have.len().min(into.len());
        for (to, from) in into.iter_mut().zip(have) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Feed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.buffer.len() {
            self.start = self.at();
            self.taken = 0;
            self.buffer = match self.source.read_up_to(self.start, CHUNK) {
                Ok(buffer) => buffer,
                Err(error) => {
                    self.failure = Some(error);
                    self.buffer.clear();
                    return Err(io::ErrorKind::Other.into());
                }
            };
        }
        Ok(self.buffer.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.taken = self.taken.saturating_add(amount).min(self.buffer.len());
    }
}
