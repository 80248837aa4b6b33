//! Lists of tensors as people read them: `layers.{0..31}.self_attn.q_proj.weight`, 32 of them.

use std::fmt::Write;

use foldhash::{HashMap, HashMapExt};

use crate::dtype::DType;

/// Tensors that differ in nothing but the numbers in their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Their common name, with sets of numbers in braces: `{0..31}`, `{0,2..5}`. It stands for exactly its tensors.
    pub pattern: String,
    /// How many they are.
    pub count: usize,
    /// Their common element type.
    pub dtype: DType,
    /// Their common shape.
    pub shape: Vec<u64>,
    /// Index in the list of the first of them.
    pub first: usize,
}

/// Numbers of one name that are collapsed; further ones are kept as they are.
const MOST: usize = 4;

/// The numbers of a name, and its index in the list.
type Member = ([u64; MOST], usize);

/// Brings tensors that differ in nothing but indices together, in the order in which the first of each stands.
///
/// An index is a number that is a word of its own (`layers.0.`, `blocks_0_attn`), not one that is part of a word
/// (`fc1`, `ln_2`).
pub fn collapse(tensors: &[(&str, DType, &[u64])]) -> Vec<Row> {
    let mut patterns: HashMap<Box<str>, usize> = HashMap::new();
    let mut groups: HashMap<(usize, DType, &[u64]), usize> = HashMap::new();
    let mut members: Vec<(Box<str>, usize, Vec<Member>)> = Vec::new();
    let mut pattern = String::new();
    for (index, (name, dtype, shape)) in tensors.iter().enumerate() {
        let (numbers, count) = split(name, &mut pattern);
        let id = match patterns.get(pattern.as_str()) {
            Some(id) => *id,
            None => {
                patterns.insert(pattern.as_str().into(), patterns.len());
                patterns.len() - 1
            }
        };
        let group = *groups.entry((id, *dtype, shape)).or_insert_with(|| {
            members.push((pattern.as_str().into(), count, Vec::new()));
            members.len() - 1
        });
        if let Some((_, _, list)) = members.get_mut(group) {
            list.push((numbers, index));
        }
    }
    let mut rows = Vec::new();
    for (pattern, positions, mut list) in members {
        list.sort_unstable();
        for (sets, count, first) in boxes(&list, 0, positions) {
            if let Some((_, dtype, shape)) = tensors.get(first) {
                rows.push(Row { pattern: fill(&pattern, &sets), count, dtype: *dtype, shape: shape.to_vec(), first });
            }
        }
    }
    rows.sort_by_key(|row| row.first);
    rows
}

/// Writes a name with its indices taken out, each leaving a NUL; gives the indices and how many they are.
fn split(name: &str, pattern: &mut String) -> ([u64; MOST], usize) {
    pattern.clear();
    let mut numbers = [0; MOST];
    let mut count = 0;
    // NUL marks where an index was, so a name that holds one itself is kept as it is.
    if name.contains('\0') {
        pattern.push_str(name);
        return (numbers, count);
    }
    let bytes = name.as_bytes();
    let byte = |at: usize| bytes.get(at).copied();
    let digit = |at: usize| byte(at).is_some_and(|byte| byte.is_ascii_digit());
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        let before = at.checked_sub(1).and_then(byte).unwrap_or(b'.');
        if !digit(at) || !matches!(before, b'.' | b'/' | b'_') {
            at += 1;
            continue;
        }
        let start = at;
        while digit(at) {
            at += 1;
        }
        let alone = matches!((before, byte(at).unwrap_or(b'.')), (b'.' | b'/', b'.' | b'/' | b':') | (b'_', b'_'));
        // A number with leading zeros is not what it would be written back as.
        let exact = at - start == 1 || byte(start) != Some(b'0');
        let number = name.get(start..at).filter(|_| alone && exact).and_then(|digits| digits.parse().ok());
        if let (Some(number), Some(place)) = (number, numbers.get_mut(count)) {
            *place = number;
            count += 1;
            pattern.push_str(name.get(copied..start).unwrap_or_default());
            pattern.push('\0');
            copied = at;
        }
    }
    pattern.push_str(name.get(copied..).unwrap_or_default());
    (numbers, count)
}

/// Splits sorted members into products of index sets: for each its sets, how many members it has, and the first of
/// them. `position` is at most [`MOST`] deep.
fn boxes(list: &[Member], position: usize, positions: usize) -> Vec<(Vec<String>, usize, usize)> {
    if position >= positions {
        // Names that stand twice share all their numbers.
        let first = list.iter().map(|(_, index)| *index).min().unwrap_or_default();
        return vec![(Vec::new(), list.len(), first)];
    }
    let at = |member: &Member| member.0.get(position).copied().unwrap_or_default();
    // Numbers whose remaining indices form the same sets go together.
    let mut same: HashMap<Vec<String>, usize> = HashMap::new();
    let mut merged: Vec<(Vec<String>, Vec<u64>, usize, usize)> = Vec::new();
    for chunk in list.chunk_by(|a, b| at(a) == at(b)) {
        let Some(number) = chunk.first().map(at) else { continue };
        for (sets, count, first) in boxes(chunk, position + 1, positions) {
            let slot = *same.entry(sets).or_insert_with_key(|sets| {
                merged.push((sets.clone(), Vec::new(), 0, usize::MAX));
                merged.len() - 1
            });
            if let Some((_, numbers, total, least)) = merged.get_mut(slot) {
                numbers.push(number);
                *total += count;
                *least = first.min(*least);
            }
        }
    }
    let finish = |(mut sets, numbers, count, first): (Vec<String>, Vec<u64>, usize, usize)| {
        sets.insert(0, set(&numbers));
        (sets, count, first)
    };
    merged.into_iter().map(finish).collect()
}

/// A sorted set of numbers: `7`, `{0..31}`, `{0,2..5}`.
fn set(numbers: &[u64]) -> String {
    let mut text = String::new();
    for run in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        if !text.is_empty() {
            text.push(',');
        }
        // Two neighbours read better apart.
        _ = match run.len() {
            1 => write!(text, "{first}"),
            2 => write!(text, "{first},{last}"),
            _ => write!(text, "{first}..{last}"),
        };
    }
    if numbers.len() > 1 { format!("{{{text}}}") } else { text }
}

/// Puts the sets where the indices were.
fn fill(pattern: &str, sets: &[String]) -> String {
    let mut text = String::with_capacity(pattern.len() + 16);
    let mut sets = sets.iter();
    for (position, piece) in pattern.split('\0').enumerate() {
        if position > 0 {
            text.push_str(sets.next().map_or("\0", String::as_str));
        }
        text.push_str(piece);
    }
    text
}
