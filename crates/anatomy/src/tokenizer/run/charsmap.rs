//! SentencePiece's table of replacements: a double array of prefixes (Darts-clone), and the texts that they become.
//!
//! Layout from `src/normalizer.cc` of <https://github.com/google/sentencepiece>: the array's length in bytes, the
//! array, then the texts, each ended by a zero.

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    texts: Vec<u8>,
}

/// Prefixes are a few characters long; a damaged table must not be followed for ever.
const MAX_PREFIX: usize = 1024;

impl Charsmap {
    /// Reads a table; an empty or broken one replaces nothing.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Charsmap::default());
        }
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length % 4 != 0 || length >= rest.len() {
            return None;
        }
        let (array, texts) = rest.split_at(length);
        let units = array.chunks_exact(4).map(|unit| unit.try_into().map_or(0, u32::from_le_bytes)).collect();
        Some(Charsmap { units, texts: texts.to_vec() })
    }

    /// The longest prefix of `bytes` that is replaced: its length, and what it becomes.
    pub fn longest(&self, bytes: &[u8]) -> Option<(usize, &[u8])> {
        let unit = |at: usize| self.units.get(at).copied();
        let offset = |unit: u32| usize::try_from((unit >> 10) << ((unit & (1 << 9)) >> 6)).unwrap_or(usize::MAX);
        let mut at = offset(unit(0)?);
        let mut found = None;
        for (index, byte) in bytes.iter().enumerate().take(MAX_PREFIX) {
            if *byte == 0 {
                break;
            }
            at ^= usize::from(*byte);
            let Some(here) = unit(at).filter(|unit| unit & (1 << 31 | 0xff) == u32::from(*byte)) else { break };
            at ^= offset(here);
            if here >> 8 & 1 == 1 {
                found = Some((index + 1, unit(at)? & !(1 << 31)));
            }
        }
        let (length, place) = found?;
        let text = self.texts.get(usize::try_from(place).ok()?..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        Some((length, text.get(..end)?))
    }
}
