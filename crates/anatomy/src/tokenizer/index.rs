//! A vocabulary by its texts, with its merges looked up in it once for everybody who follows them.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::ops::Range;

use foldhash::fast::RandomState;
use rayon::prelude::*;

use super::{Entry, Merge, Merges, Tokenizer};

/// A tokenizer with its entries by their text.
#[derive(Debug)]
pub struct Index<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Places in the entries, by text: the first of several.
    places: HashMap<&'a [u8], u32, RandomState>,
    /// Places of entries whose text another one has already, with the other's.
    pub(crate) again: Vec<(u32, u32)>,
    /// What each merge joins and yields.
    pub(crate) merges: Vec<Joined>,
}

/// Places in the entries of a merge's pieces and of what they become; `None` where the vocabulary has no such text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joined {
    pub left: Option<u32>,
    pub right: Option<u32>,
    pub whole: Option<u32>,
}

impl<'a> Index<'a> {
    /// Looks every text up once.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let mut places = HashMap::with_capacity_and_hasher(tokenizer.entries.len(), RandomState::default());
        let mut again = Vec::new();
        for (place, entry) in (0u32..).zip(&tokenizer.entries) {
            match places.entry(&*entry.stored) {
                Vacant(free) => {
                    free.insert(place);
                }
                Occupied(taken) => again.push((place, *taken.get())),
            }
        }
        let mut index = Index { tokenizer, places, again, merges: Vec::new() };
        const PART: usize = 1 << 13;
        if let Some(merges) = &tokenizer.merges {
            let starts: Vec<usize> = (0..merges.len()).step_by(PART).collect();
            let part = |start: &usize| index.joined(merges, *start..merges.len().min(start + PART));
            let parts: Vec<Vec<Joined>> = starts.par_iter().map(part).collect();
            index.merges = parts.concat();
        }
        index
    }

    fn joined(&self, merges: &Merges, places: Range<usize>) -> Vec<Joined> {
        // Vocabularies are mostly numbered as they were learnt, so that what a merge yields follows what the one
        // before it yielded.
        let mut next = 0;
        let mut whole = |text: &str| {
            let follows = self.tokenizer.entries.get(next).is_some_and(|entry| *entry.stored == *text.as_bytes());
            let place = if follows && self.again.is_empty() { Some(next) } else { self.place(text.as_bytes()) };
            next = place.map_or(next, |place| place + 1);
            place
        };
        let number = |place: Option<usize>| place.and_then(|place| u32::try_from(place).ok());
        let joined = |merge: Merge| Joined {
            left: number(self.place(merge.left.as_bytes())),
            right: number(self.place(merge.right.as_bytes())),
            whole: number(whole(merge.whole).or_else(|| {
                // What continues a word may have a prefix that is dropped in joining.
                let right = merge.right.strip_prefix("##")?;
                self.place([merge.left, right].concat().as_bytes())
            })),
        };
        places.filter_map(|place| merges.get(place)).map(joined).collect()
    }

    /// The place of a text's entry.
    pub(crate) fn place(&self, text: &[u8]) -> Option<usize> {
        self.places.get(text).and_then(|place| usize::try_from(*place).ok())
    }

    /// The entry at a place.
    pub(crate) fn at(&self, place: u32) -> Option<&'a Entry> {
        self.tokenizer.entries.get(usize::try_from(place).ok()?)
    }
}
