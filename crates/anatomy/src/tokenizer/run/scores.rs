//! Merging by scores, as SentencePiece's byte-pair models do it: of all neighbours that are a piece together, those
//! with the best score first, the left ones before the right.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Two neighbours that could become one.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    size: usize,
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

/// One symbol: a part of the text, and its neighbours.
struct Symbol {
    range: Range<usize>,
    before: usize,
    after: usize,
    frozen: bool,
}

/// Cuts a text into characters (invalid bytes alone), merges them, and hands the outcome on in order.
pub(crate) fn score_merge(text: &[u8], lookup: impl Fn(&[u8], usize) -> Option<f32>, each: impl FnMut(Range<usize>)) {
    let mut symbols = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let length = character(text.get(at..).unwrap_or_default());
        symbols.push((at..at + length, false));
        at += length;
    }
    merge(text, symbols, lookup, each);
}

/// Merges symbols of which some are frozen. `lookup` is asked for the score of two neighbours together, and told how long
/// the left one is.
pub(crate) fn merge(
    text: &[u8],
    parts: Vec<(Range<usize>, bool)>,
    lookup: impl Fn(&[u8], usize) -> Option<f32>,
    mut each: impl FnMut(Range<usize>),
) {
    let count = parts.len();
    let mut symbols: Vec<Symbol> = (0..count)
        .zip(parts)
        .map(|(index, (range, frozen))| Symbol { range, before: index.wrapping_sub(1), after: index + 1, frozen })
        .collect();
    let mut queue = BinaryHeap::new();
    let look = |symbols: &[Symbol], queue: &mut BinaryHeap<Pair>, left: usize| {
        let Some(one) = symbols.get(left) else { return };
        let Some(other) = symbols.get(one.after) else { return };
        if one.frozen || other.frozen {
            return;
        }
        let whole = text.get(one.range.start..other.range.end).unwrap_or_default();
        if let Some(score) = lookup(whole, one.range.len()) {
            queue.push(Pair { score, left, right: one.after, size: whole.len() });
        }
    };
    for left in 0..count {
        look(&symbols, &mut queue, left);
    }
    while let Some(Pair { left, right, size, .. }) = queue.pop() {
        let length = |at: usize| symbols.get(at).map_or(0, |symbol: &Symbol| symbol.range.len());
        if length(left) == 0 || length(right) == 0 || length(left) + length(right) != size {
            continue;
        }
        let Some(gone) = symbols.get_mut(right) else { continue };
        let (end, after) = (gone.range.end, gone.after);
        gone.range = end..end;
        let Some(kept) = symbols.get_mut(left) else { continue };
        kept.range.end = end;
        kept.after = after;
        let before = kept.before;
        if let Some(next) = symbols.get_mut(after) {
            next.before = left;
        }
        look(&symbols, &mut queue, before);
        look(&symbols, &mut queue, left);
    }
    for symbol in symbols.into_iter().filter(|symbol| !symbol.range.is_empty()) {
        each(symbol.range);
    }
}

/// Length of the character with which `bytes` begin; 1 for an invalid byte.
pub(crate) fn character(bytes: &[u8]) -> usize {
    let length = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    if bytes.get(..length).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok()) { length } else { 1 }
}
