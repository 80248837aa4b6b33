//! What a pickle remembers.

use super::trace::{Id, Map, VACANT};

/// What the memo opcodes keep: indices are small and dense, unless the pickle is hostile.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Id>,
    sparse: Map<u64, Id>,
    /// How many entries there are.
    pub(super) len: u64,
}

impl Memo {
    /// What is kept at an index.
    pub(super) fn get(&self, index: u64) -> Option<Id> {
        let dense = usize::try_from(index).ok().and_then(|index| self.dense.get(index).copied());
        dense.filter(|id| *id != VACANT).or_else(|| self.sparse.get(&index).copied())
    }

    /// Keeps a value at an index.
    pub(super) fn set(&mut self, index: u64, id: Id) {
        let room = self.dense.len() * 2 + 256;
        let before = match usize::try_from(index).ok().filter(|index| *index < room) {
            Some(index) => {
                if index >= self.dense.len() {
                    self.dense.resize(index + 1, VACANT);
                }
                let before = self.dense.get_mut(index).map(|entry| std::mem::replace(entry, id));
                let sparse = || if self.sparse.is_empty() { None } else { self.sparse.remove(&(index as u64)) };
                before.filter(|id| *id != VACANT).or_else(sparse)
            }
            None => self.sparse.insert(index, id),
        };
        self.len += u64::from(before.is_none());
    }
}
