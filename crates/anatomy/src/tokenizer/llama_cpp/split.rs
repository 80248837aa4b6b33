//! The patterns that llama.cpp does not leave to a regular expression (`unicode_regex_split_custom` of its
//! `src/unicode.cpp`), with the places where its functions differ from their patterns.

use std::ops::Range;

use super::unicode::{self, BLANK, LETTER, MARK, NUMBER};

/// A text as characters with their flags.
pub(super) struct Text {
    chars: Vec<(char, u16)>,
}

impl Text {
    pub fn new(text: &str) -> Self {
        Text { chars: text.chars().map(|c| (c, unicode::flags(c))).collect() }
    }

    /// Characters.
    pub fn len(&self) -> usize {
        self.chars.len()
    }

    pub fn chars(&self) -> impl Iterator<Item = (char, u16)> {
        self.chars.iter().copied()
    }
}

/// A piece of a text: beyond its ends there is nothing.
struct Piece<'a> {
    text: &'a Text,
    range: Range<usize>,
    ends: &'a mut Vec<usize>,
    last: usize,
}

impl<'a> Piece<'a> {
    fn new(text: &'a Text, range: Range<usize>, ends: &'a mut Vec<usize>) -> Self {
        let last = range.start;
        Piece { text, range, ends, last }
    }

    fn get(&self, at: usize) -> Option<char> {
        self.range.contains(&at).then(|| self.text.chars.get(at).map(|(c, _)| *c))?
    }

    /// The flags of a character; none beyond the ends.
    fn flags(&self, at: usize) -> u16 {
        self.range.contains(&at).then(|| self.text.chars.get(at).map(|(_, flags)| *flags)).flatten().unwrap_or(0)
    }

    fn is(&self, at: usize, flags: u16) -> bool {
        self.flags(at) & flags != 0
    }

    fn is_newline(&self, at: usize) -> bool {
        matches!(self.get(at), Some('\r' | '\n'))
    }

    /// Ends a word.
    fn end(&mut self, at: usize) {
        if at > self.last {
            self.ends.push(at);
            self.last = at;
        }
    }

    /// The end of an English contraction that begins at `at`.
    fn contraction(&self, at: usize, lower: fn(char) -> char) -> Option<usize> {
        if self.get(at) != Some('\'') {
            return None;
        }
        let next = lower(self.get(at + 1)?);
        if matches!(next, 's' | 't' | 'm' | 'd') {
            return Some(at + 2);
        }
        let third = lower(self.get(at + 2)?);
        matches!((next, third), ('r', 'e') | ('v', 'e') | ('l', 'l')).then_some(at + 3)
    }

    /// The end of a run of characters that have none of these flags, and are there.
    fn run_without(&self, mut at: usize, flags: u16) -> usize {
        while self.flags(at) != 0 && !self.is(at, flags) {
            at += 1;
        }
        at
    }

    fn run_with(&self, mut at: usize, flags: u16) -> usize {
        while self.is(at, flags) {
            at += 1;
        }
        at
    }

    fn newlines(&self, mut at: usize) -> usize {
        while self.is_newline(at) {
            at += 1;
        }
        at
    }

    /// The end of a word of blanks that begins at `at`: those before a word leave it the last one.
    fn blanks(&self, at: usize, newlines_first: bool) -> Option<usize> {
        let end = self.run_with(at, BLANK);
        if newlines_first && let Some(newline) = (at..end).rev().find(|at| self.is_newline(*at)) {
            return Some(newline + 1);
        }
        match end - at {
            0 => None,
            1 => Some(end),
            _ if self.get(end).is_some() => Some(end - 1),
            _ => Some(end),
        }
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    let mut piece = Piece::new(text, range.clone(), ends);
    let mut at = range.start;
    while at < range.end {
        if let Some(end) = piece.contraction(at, |c| c) {
            at = end;
            piece.end(at);
            continue;
        }
        let first = at + usize::from(piece.get(at) == Some(' '));
        let run = [LETTER, NUMBER].into_iter().find(|flag| piece.is(first, *flag));
        at = if let Some(flag) = run {
            piece.run_with(first, flag)
        } else if piece.flags(first) != 0 && !piece.is(first, BLANK) {
            piece.run_without(first, BLANK | LETTER | NUMBER)
        } else {
            piece.blanks(at, false).unwrap_or(at + 1)
        };
        piece.end(at);
    }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn llama3(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    modern(text, range, ends, LETTER, 3);
}

/// As Llama 3, but each digit is a word.
pub(super) fn qwen2(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    modern(text, range, ends, LETTER, 1);
}

/// As Qwen 2, but marks are as letters.
pub(super) fn qwen35(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    modern(text, range, ends, LETTER | MARK, 1);
}

fn modern(text: &Text, range: Range<usize>, ends: &mut Vec<usize>, letters: u16, digits: usize) {
    let mut piece = Piece::new(text, range.clone(), ends);
    let mut at = range.start;
    while at < range.end {
        if let Some(end) = piece.contraction(at, unicode::lower) {
            at = end;
            piece.end(at);
            continue;
        }
        let opens = !piece.is_newline(at) && !piece.is(at, NUMBER);
        if opens && (piece.is(at, letters) || piece.is(at + 1, letters)) {
            at = piece.run_with(at + 1, letters);
        } else if piece.is(at, NUMBER) {
            at = (at..at + digits).take_while(|at| piece.is(*at, NUMBER)).count() + at;
        } else {
            at = marks_or_blanks(&piece, at, letters);
        }
        piece.end(at);
    }
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn marks_or_blanks(piece: &Piece, at: usize, letters: u16) -> usize {
    let blank = piece.get(at) == Some(' ');
    let first = at + usize::from(blank);
    // A blank at the very end counts as one of the first alternative there; the outcome is the same.
    if !piece.is(first, BLANK | letters | NUMBER) {
        let end = piece.run_without(first, BLANK | letters | NUMBER);
        return piece.newlines(end).max(at + 1);
    }
    piece.blanks(at, true).unwrap_or(at + 1)
}

/// Kimi K2's: Chinese characters in words of their own, contractions within words.
pub(super) fn kimi(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    let mut piece = Piece::new(text, range.clone(), ends);
    let han = |piece: &Piece, at: usize| piece.get(at).is_some_and(unicode::is_han);
    let letter = |piece: &Piece, at: usize| piece.is(at, LETTER) && !han(piece, at);
    let mut at = range.start;
    while at < range.end {
        if han(&piece, at) {
            while han(&piece, at) {
                at += 1;
            }
            piece.end(at);
            continue;
        }
        let leads = !piece.is_newline(at) && !piece.is(at, LETTER | NUMBER);
        if letter(&piece, at) || (leads && letter(&piece, at + 1)) {
            at += usize::from(leads);
            while letter(&piece, at) {
                at += 1;
            }
            at = piece.contraction(at, unicode::lower).unwrap_or(at);
        } else if piece.is(at, NUMBER) {
            at = (at..at + 3).take_while(|at| piece.is(*at, NUMBER)).count() + at;
        } else {
            let first = at + usize::from(piece.get(at) == Some(' '));
            if piece.flags(first) != 0 && !piece.is(first, BLANK | LETTER | NUMBER) {
                at = piece.newlines(piece.run_without(first, BLANK | LETTER | NUMBER));
            } else {
                at = piece.blanks(at, true).unwrap_or(at + 1);
            }
        }
        piece.end(at);
    }
}

/// Digits in threes counted from the right; all between them is left as it is.
pub(super) fn digits_by_three(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    let mut piece = Piece::new(text, range.clone(), ends);
    let mut at = range.start;
    while at < range.end {
        let end = piece.run_with(at, NUMBER);
        if end == at {
            at += 1;
            continue;
        }
        // What stands before the digits is not cut off: the first word ends behind the first digits.
        let mut cut = at + (end - at) % 3;
        if cut == at {
            cut = at + 3;
        }
        while cut <= end {
            piece.end(cut);
            cut += 3;
        }
        at = end;
    }
    piece.end(range.end);
}

/// `[^\n]+|[\n]+`
pub(super) fn newlines(text: &Text, range: Range<usize>, ends: &mut Vec<usize>) {
    let mut piece = Piece::new(text, range.clone(), ends);
    for at in range.clone() {
        if at > range.start && (piece.get(at) == Some('\n')) != (piece.get(at - 1) == Some('\n')) {
            piece.end(at);
        }
    }
    piece.end(range.end);
}
