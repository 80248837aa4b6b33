//! The merges of byte-pair encoding.

use super::MAX_ENTRIES;

/// Merges in the order in which they apply, their pieces one after the other in one text: a list has half a million.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merges {
    text: String,
    /// Where in the text each merge's left piece ends, and where its right one does.
    ends: Vec<(usize, usize)>,
}

/// Two pieces that become one, as the file writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge<'a> {
    /// The left one.
    pub left: &'a str,
    /// The right one.
    pub right: &'a str,
    /// Both, one after the other.
    pub whole: &'a str,
}

impl Merges {
    /// Appends a merge; false where there are as many as are read of any list.
    pub(super) fn push(&mut self, left: &str, right: &str) -> bool {
        if self.ends.len() >= MAX_ENTRIES {
            return false;
        }
        self.text.push_str(left);
        let middle = self.text.len();
        self.text.push_str(right);
        self.ends.push((middle, self.text.len()));
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them.
    pub fn get(&self, place: usize) -> Option<Merge<'_>> {
        let (middle, end) = *self.ends.get(place)?;
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(_, end)| *end);
        let whole = self.text.get(start..end)?;
        let (left, right) = whole.split_at_checked(middle - start)?;
        Some(Merge { left, right, whole })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Merge<'_>> {
        (0..self.len()).filter_map(|place| self.get(place))
    }
}

/// Left pieces with their right ones; of too many the last are left out.
impl<'a> FromIterator<(&'a str, &'a str)> for Merges {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut merges = Merges::default();
        pairs.into_iter().for_each(|(left, right)| {
            merges.push(left, right);
        });
        merges
    }
}

/// As the lists of merges write it.
impl std::fmt::Display for Merge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}", self.left, self.right)
    }
}
