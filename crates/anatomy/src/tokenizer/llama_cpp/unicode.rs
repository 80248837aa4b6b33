//! Unicode as llama.cpp knows it: categories of version 15.1 (`src/unicode-data.cpp`), blanks, lower case, and the
//! first letter of a canonical decomposition.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// `\p{N}`
pub(super) const NUMBER: u16 = 0x02;
/// `\p{L}`
pub(super) const LETTER: u16 = 0x04;
/// `\p{M}`
pub(super) const MARK: u16 = 0x10;
/// `\p{P}`
pub(super) const PUNCTUATION: u16 = 0x20;
/// `\p{S}`
pub(super) const SYMBOL: u16 = 0x40;
/// `\p{C}`
pub(super) const CONTROL: u16 = 0x80;
/// `\s`
pub(super) const BLANK: u16 = 0x100;
/// Anything at all: what lies beyond a text has no flag.
pub(super) const THERE: u16 = 0x8000;

/// Last code point of each run of code points with the same category, in order.
static RUNS: LazyLock<Vec<(u32, u16)>> = LazyLock::new(|| {
    let mut runs = Vec::new();
    // Surrogates and private use are `\p{C}` there as well, but what is not assigned is not.
    let classes = [
        (r"\p{N}", NUMBER),
        (r"\p{L}", LETTER),
        (r"\p{M}", MARK),
        (r"\p{P}", PUNCTUATION),
        (r"\p{S}", SYMBOL),
        (r"[\p{Cc}\p{Cf}\p{Co}]", CONTROL),
    ];
    for (class, flag) in classes {
        let pattern = format!(r"[{class}&&\p{{Age=15.1}}]");
        let Ok(parsed) = regex_syntax::parse(&pattern) else { continue };
        match parsed.kind() {
            HirKind::Class(Class::Unicode(class)) => {
                runs.extend(
                    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()), flag)),
                );
            }
            _ => continue,
        }
    }
    runs.sort_unstable();
    let mut ends = Vec::with_capacity(runs.len() * 2);
    let mut next = 0;
    for (start, end, flag) in runs {
        if start > next {
            ends.push((start - 1, 0));
        }
        ends.push((end, flag));
        next = end + 1;
    }
    ends
});

/// Flags of the first code points, which most text consists of.
static FIRST: LazyLock<Vec<u16>> = LazyLock::new(|| (0..0x3000).map(look_up).collect());

fn look_up(code: u32) -> u16 {
    let at = RUNS.partition_point(|(end, _)| *end < code);
    let category = RUNS.get(at).map_or(0, |(_, flag)| *flag);
    let blank = matches!(code, 0x9..=0xd | 0x20 | 0x85 | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000);
    category | THERE | if blank { BLANK } else { 0 }
}

/// The flags of a character.
pub(super) fn flags(c: char) -> u16 {
    let code = u32::from(c);
    let first = usize::try_from(code).ok().and_then(|code| FIRST.get(code));
    first.copied().unwrap_or_else(|| look_up(code))
}

fn assigned(c: char) -> bool {
    flags(c) & !(THERE | BLANK) != 0
}

/// The first letter of the character in lower case.
pub(super) fn lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    if assigned(c) { c.to_lowercase().next().unwrap_or(c) } else { c }
}

/// The first character of the canonical decomposition.
pub(super) fn decomposed(c: char) -> char {
    use unicode_normalization_alignments::UnicodeNormalization;
    if c.is_ascii() || !assigned(c) {
        return c;
    }
    let mut buffer = [0; 4];
    let first = c.encode_utf8(&mut buffer).nfd().next();
    first.map_or(c, |(first, _)| first)
}

/// Whether llama.cpp takes a character for Chinese in Kimi's pattern (`unicode_cpt_is_han`).
pub(super) fn is_han(c: char) -> bool {
    matches!(u32::from(c), 0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2ebef | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}
