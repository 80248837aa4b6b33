//! Text that was changed, with the place in the original of every byte.

use std::ops::Range;

/// A text on its way to its pieces.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    /// The text as it is now.
    pub bytes: Vec<u8>,
    /// Of each byte, the part of the original that it comes from.
    from: Vec<(usize, usize)>,
}

impl Aligned {
    /// Adds bytes that come from a part of the original.
    pub fn push(&mut self, bytes: &[u8], source: Range<usize>) {
        self.bytes.extend_from_slice(bytes);
        self.from.resize(self.bytes.len(), (source.start, source.end));
    }

    /// Adds bytes that are still what they were, each with its own place.
    pub fn copy(&mut self, bytes: &[u8], start: usize) {
        self.bytes.extend_from_slice(bytes);
        self.from.extend((start..start + bytes.len()).map(|at| (at, at + 1)));
    }

    /// Takes bytes off the end.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
        self.from.truncate(length);
    }

    /// The part of the original that a part of the text comes from.
    pub fn source(&self, range: &Range<usize>) -> Range<usize> {
        let parts = self.from.get(range.clone()).unwrap_or_default();
        let start = parts.first().map_or(0, |(start, _)| *start);
        let end = parts.iter().map(|(_, end)| *end).max().unwrap_or(start);
        start..end.max(start)
    }

    /// A text with blanks as `▁`, perhaps with one before it.
    pub fn blanks(text: &str, prefix: bool) -> Self {
        let mut aligned = Aligned::default();
        if prefix {
            aligned.push("▁".as_bytes(), 0..0);
        }
        for (at, c) in text.char_indices() {
            let mut buffer = [0; 4];
            match c {
                ' ' => aligned.push("▁".as_bytes(), at..at + 1),
                _ => aligned.copy(c.encode_utf8(&mut buffer).as_bytes(), at),
            }
        }
        aligned
    }
}
