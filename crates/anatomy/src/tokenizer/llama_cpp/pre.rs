//! How llama.cpp cuts text into words: each name of `tokenizer.ggml.pre` is a row of `pre-tokenizers.toml`.
//!
//! llama.cpp runs its patterns over a text in which every character beyond ASCII is one stand-in for its category
//! (`unicode_regex_split` of its `src/unicode.cpp`), so that `[^a-z]` covers all letters that are not ASCII; this does
//! the same.

use std::ops::Range;

use fancy_regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::split::{self, Text};
use super::unicode::{BLANK, LETTER, MARK, NUMBER, PUNCTUATION, SYMBOL};
use crate::error::{Error, ErrorKind, Result};

const TABLE: &str = include_str!("../../../pre-tokenizers.toml");

/// What is known of a name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    names: Vec<String>,
    cut: Vec<String>,
    /// Whether words that are tokens are taken apart like others.
    #[serde(default = "yes")]
    pub merges: bool,
    /// Whether blanks before punctuation are taken out of decoded text.
    #[serde(default = "yes")]
    pub clean: bool,
    /// Whether a begin token is the default.
    #[serde(default)]
    pub bos: bool,
    /// Whether a separator is.
    #[serde(default, rename = "sep")]
    _sep: bool,
    /// Whether blanks become `▁` first.
    #[serde(default)]
    pub escape: bool,
    /// Whether each byte becomes a letter.
    #[serde(default = "yes")]
    pub letters: bool,
    /// Whether there is no begin token but a stated one.
    #[serde(default)]
    pub no_bos: bool,
    /// Whether a run of newlines that is a token stays whole.
    #[serde(default)]
    pub newlines: bool,
}

fn yes() -> bool {
    true
}

impl Row {
    /// What is known of a name; a name that is not known is refused, for any other way of cutting gives other ids.
    pub fn of(name: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Table {
            pre: Vec<Row>,
        }
        let table: Table = toml::from_str(TABLE).map_err(|error| Error::malformed(error.message().to_string()))?;
        let row = table.pre.into_iter().find(|row| row.names.iter().any(|known| known == name));
        row.ok_or_else(|| {
            let message =
                format!("the pre-tokenizer {name:?} is not known, so text cannot be cut as the model expects");
            Error::new(ErrorKind::Unsupported, message).help("a newer version may know it")
        })
    }
}

/// Steps that cut a text, each finer than the one before.
pub(super) struct Cutter(Vec<Step>);

enum Step {
    /// A function of llama.cpp's own.
    Custom(fn(&Text, Range<usize>, &mut Vec<usize>)),
    /// A pattern over stand-ins for categories.
    Collapsed(Regex),
    /// A pattern over the characters themselves.
    Wide(Regex),
}

/// Steps back that a pattern may take on one piece of text.
const BACKTRACKS: usize = 10_000_000;

impl Cutter {
    /// The steps of a row.
    pub fn new(row: &Row) -> Result<Self> {
        let step = |pattern: &String| -> Result<Step> {
            Ok(match pattern.as_str() {
                "gpt2" => Step::Custom(split::gpt2),
                "llama3" => Step::Custom(split::llama3),
                "qwen2" => Step::Custom(split::qwen2),
                "qwen35" => Step::Custom(split::qwen35),
                "kimi-k2" => Step::Custom(split::kimi),
                "digits-by-three" => Step::Custom(split::digits_by_three),
                "newlines" => Step::Custom(split::newlines),
                pattern if pattern.contains("\\p{") => Step::Collapsed(regex(&collapsed(pattern))?),
                // Outside of Unicode's terms, `\d` is ASCII.
                pattern => Step::Wide(regex(&pattern.replace("\\d", "[0-9]"))?),
            })
        };
        row.cut.iter().map(step).collect::<Result<_>>().map(Cutter)
    }

    /// Where the words of a text end, counted in characters.
    pub fn cut(&self, text: &Text) -> Result<Vec<usize>> {
        let mut ends = vec![text.len()];
        for step in &self.0 {
            let mut next = Vec::with_capacity(ends.len() * 2);
            let stand_ins = match step {
                Step::Custom(_) => None,
                Step::Collapsed(regex) => Some((regex, Line::new(text, collapse))),
                Step::Wide(regex) => Some((regex, Line::new(text, widen))),
            };
            let mut start = 0;
            for end in ends {
                match (step, &stand_ins) {
                    (Step::Custom(split), _) => split(text, start..end, &mut next),
                    (_, Some((regex, line))) => line.cut(regex, start..end, &mut next)?,
                    (_, None) => next.push(end),
                }
                start = end;
            }
            ends = next;
        }
        Ok(ends)
    }
}

fn regex(pattern: &str) -> Result<Regex> {
    let built = RegexBuilder::new(pattern).backtrack_limit(BACKTRACKS).build();
    built.map_err(|error| Error::new(ErrorKind::Unsupported, format!("a pattern cannot be run: {error}")))
}

/// A text with one stand-in a character.
struct Line {
    text: String,
    /// Where each character begins in it.
    at: Vec<usize>,
}

impl Line {
    fn new(text: &Text, stand_in: fn(char, u16) -> char) -> Self {
        let mut line = Line { text: String::with_capacity(text.len()), at: Vec::with_capacity(text.len() + 1) };
        for (c, flags) in text.chars() {
            line.at.push(line.text.len());
            line.text.push(stand_in(c, flags));
        }
        line.at.push(line.text.len());
        line
    }

    /// Cuts the characters of `range` at the matches of a pattern, which sees nothing beyond them.
    fn cut(&self, regex: &Regex, range: Range<usize>, ends: &mut Vec<usize>) -> Result<()> {
        let (Some(from), Some(to)) = (self.at.get(range.start), self.at.get(range.end)) else { return Ok(()) };
        let piece = self.text.get(*from..*to).unwrap_or_default();
        let mut last = range.start;
        let mut push = |byte: usize| {
            let end = self.at.partition_point(|at| *at < from + byte);
            if end > last {
                ends.push(end);
                last = end;
            }
        };
        for found in regex.find_iter(piece) {
            let found = found.map_err(too_long)?;
            push(found.start());
            push(found.end());
        }
        push(piece.len());
        Ok(())
    }
}

/// What a pattern that gives up means.
pub(crate) fn too_long(error: fancy_regex::Error) -> Error {
    let message = format!("the tokenizer's pattern takes too many steps on this text: {error}");
    Error::new(ErrorKind::Limit, message).help("the pattern is hostile, or the text is one enormous word")
}

/// Stand-ins of number, letter, punctuation, mark, symbol, and of all else.
const STAND_INS: [(u16, char, &str); 5] = [
    (NUMBER, '\u{d1}', "0-9"),
    (LETTER, '\u{d2}', "A-Za-z"),
    (PUNCTUATION, '\u{d3}', r"!-#%-*,-/:-;?-@\[-\]_\{\}"),
    (MARK, '\u{d4}', ""),
    (SYMBOL, '\u{d5}', r"\$\+<->\^`\|\~"),
];

fn collapse(c: char, flags: u16) -> char {
    if c.is_ascii() {
        return c;
    }
    if flags & BLANK != 0 {
        return '\u{b}';
    }
    let found = STAND_INS.iter().find(|(flag, ..)| flags & flag != 0);
    found.map_or('\u{d0}', |(_, stand_in, _)| *stand_in)
}

fn widen(c: char, flags: u16) -> char {
    if !c.is_ascii() && flags & BLANK != 0 { '\u{b}' } else { c }
}

/// A pattern with its categories replaced by their stand-ins; all sorts of letters are one.
fn collapsed(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() * 2);
    let mut inside = false;
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let category = rest.strip_prefix("\\p{").and_then(|name| name.split_once('}'));
        if let Some((name, after)) = category {
            let flag = match name.chars().next() {
                Some('N') => NUMBER,
                Some('L') => LETTER,
                Some('P') => PUNCTUATION,
                Some('M') => MARK,
                _ => SYMBOL,
            };
            let stand_in = STAND_INS.iter().find(|(known, ..)| *known == flag);
            let (_, letter, ascii) = stand_in.copied().unwrap_or_default();
            match inside {
                true => out.extend([letter.to_string().as_str(), ascii]),
                false => out.push_str(&format!("[{letter}{ascii}]")),
            }
            rest = after;
            continue;
        }
        let step = if c == '\\' { 1 + rest.chars().nth(1).map_or(0, char::len_utf8) } else { c.len_utf8() };
        match c {
            // A bracket within brackets is a letter to std::regex, and the begin of more brackets here.
            '[' if inside => out.push('\\'),
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        let (taken, after) = rest.split_at(step.min(rest.len()));
        out.push_str(taken);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_run() {
        #[derive(Deserialize)]
        struct Table {
            pre: Vec<Row>,
        }
        let table: Table = toml::from_str(TABLE).unwrap();
        let mut names: Vec<String> = table.pre.iter().flat_map(|row| row.names.clone()).collect();
        for row in &table.pre {
            let cutter = Cutter::new(row).unwrap();
            let text = Text::new("It's 12345 größer\u{3000}als नमस्ते!\n\n  x");
            assert_eq!(cutter.cut(&text).unwrap().last(), Some(&text.len()), "{:?}", row.names);
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands twice");
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = Row::of("no-such-thing").unwrap_err();
        assert!(error.message().contains("\"no-such-thing\" is not known"));
    }
}
