//! A trie over bytes, for the longest matches of vocabularies.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};

type Hash = foldhash::fast::RandomState;

/// Texts by their bytes, each with a value.
#[derive(Default)]
pub(crate) struct Trie {
    /// The node behind a node and a byte.
    steps: HashMap<(u32, u8), u32, Hash>,
    values: Vec<Option<u32>>,
}

/// Bytes of all texts together; the largest vocabularies have some 3 MB.
const MAX_BYTES: usize = 64 << 20;

impl Trie {
    /// A trie of texts with values; the later of two equal texts counts.
    pub fn new<'a>(texts: impl IntoIterator<Item = (&'a [u8], u32)>) -> Result<Self> {
        let mut trie = Trie { steps: HashMap::default(), values: vec![None] };
        let mut bytes = 0usize;
        for (text, value) in texts {
            bytes = bytes.saturating_add(text.len());
            if bytes > MAX_BYTES {
                let message = format!("the vocabulary has more than {MAX_BYTES} bytes of text");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let mut node = 0;
            for byte in text {
                let next = u32::try_from(trie.values.len()).unwrap_or(u32::MAX);
                node = match trie.steps.entry((node, *byte)) {
                    std::collections::hash_map::Entry::Occupied(known) => *known.get(),
                    std::collections::hash_map::Entry::Vacant(free) => {
                        trie.values.push(None);
                        *free.insert(next)
                    }
                };
            }
            if let Some(slot) = usize::try_from(node).ok().and_then(|node| trie.values.get_mut(node)) {
                *slot = Some(value);
            }
        }
        Ok(trie)
    }

    /// The node behind `node` and a byte; the first node is 0.
    pub fn step(&self, node: u32, byte: u8) -> Option<u32> {
        self.steps.get(&(node, byte)).copied()
    }

    /// The value at a node.
    pub fn value(&self, node: u32) -> Option<u32> {
        usize::try_from(node).ok().and_then(|node| self.values.get(node)).copied().flatten()
    }

    /// All texts with which `bytes` begins, the shortest first: length and value.
    pub fn prefixes<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut node = Some(0);
        let steps = (1..).zip(bytes).map_while(move |(length, byte)| {
            node = self.step(node?, *byte);
            node.map(|node| (length, self.value(node)))
        });
        steps.filter_map(|(length, value)| Some((length, value?)))
    }

    /// The longest text with which `bytes` begins.
    pub fn longest(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        self.prefixes(bytes).last()
    }

    /// How far `bytes` can be followed, whether or not a text ends there.
    pub fn depth(&self, bytes: &[u8]) -> usize {
        let mut node = 0;
        let steps = bytes.iter().map_while(|byte| {
            node = self.step(node, *byte)?;
            Some(())
        });
        steps.count()
    }
}

/// Steps that a text may take through a trie: pieces as long as the text itself would make it square.
pub(crate) struct Work(usize);

impl Work {
    /// Far more than any real vocabulary needs for a text of so many bytes: its longest pieces have some 128.
    pub fn of(text: usize) -> Self {
        Work(text.saturating_mul(256).saturating_add(1 << 20))
    }

    /// Takes steps; an error where none are left.
    pub fn take(&mut self, steps: usize) -> Result<()> {
        let left = self.0.checked_sub(steps);
        self.0 = left.ok_or_else(|| {
            let message = "the vocabulary's pieces are so long that this text takes too many steps";
            Error::new(ErrorKind::Limit, message)
        })?;
        Ok(())
    }
}
