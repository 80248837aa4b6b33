//! Regular expressions in tokenizers that some texts keep busy for ever.
//!
//! Tokenizers run expressions in engines that go back and try again (Oniguruma, fancy-regex, Python's). A repeated group
//! whose parts can share out the same text in many ways then takes time that grows exponentially with the text.

use super::code::shorten;
use super::json::{Json, parse};
use super::walk::{Opened, Piece, Scanner};
use crate::container::text::decode;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static HOSTILE: Rule = Rule {
    name: "tokenizer-hostile-expression",
    severity: Severity::Warning,
    why: "A regular expression of the tokenizer repeats a group that itself repeats the same text: a short input can keep \
          the tokenizer busy for hours.",
    help: "do not serve the model; replace the expression by one without repetitions in each other",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&HOSTILE];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&HOSTILE];

/// Bytes of a tokenizer that are read.
const MAX: u64 = 256 << 20;
/// From this number on a repetition counts as one without end.
const MANY: u64 = 64;
/// Groups within each other that are followed.
const MAX_DEPTH: usize = 64;

/// Looks at a piece that is a tokenizer.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    if !matches!(opened.format.id, "tokenizer-json" | "tekken") {
        return Ok(());
    }
    let bytes = scanner.read(piece, MAX)?;
    let Some(json) = decode(&bytes).and_then(|text| parse(&text.text)) else { return Ok(()) };
    let mut found = Vec::new();
    for (key, part) in parts(&json) {
        part.walk(&mut |path, value| {
            if let (Some("Regex" | "pattern"), Some(expression)) = (path.last().copied(), value.text())
                && is_hostile(expression)
            {
                found.push(format!("the expression {:?} of the {key}", shorten(expression)));
            }
        });
    }
    for message in found {
        scanner.report(piece, Finding::new(&HOSTILE, message));
    }
    Ok(())
}

/// The parts of a tokenizer that have expressions: all but its vocabulary.
fn parts(json: &Json) -> Vec<(&str, &Json)> {
    match json {
        Json::Object(members) => members
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "model" | "added_tokens" | "vocab" | "special_tokens"))
            .map(|(key, value)| (key.as_str(), value))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether some group is repeated without end in which one part alone, itself repeated without end, can make up all.
pub(super) fn is_hostile(expression: &str) -> bool {
    let mut parser = Parser { rest: expression, hostile: false };
    while !parser.rest.is_empty() {
        parser.alternatives(0);
        // A bracket too many.
        parser.rest = parser.rest.strip_prefix(')').unwrap_or_default();
    }
    parser.hostile
}

/// What a sequence of parts can do.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Whether it can be empty.
    empty: bool,
    /// Whether a part that is repeated without end can make up the whole of it.
    elastic: bool,
}

struct Parser<'a> {
    rest: &'a str,
    hostile: bool,
}

impl Parser<'_> {
    /// Alternatives up to the closing bracket, which stays.
    fn alternatives(&mut self, depth: usize) -> Shape {
        let mut whole = Shape::default();
        let mut texts: Vec<&str> = Vec::new();
        let mut overlap = false;
        loop {
            let before = self.rest;
            let shape = self.sequence(depth);
            let text = before.get(..before.len() - self.rest.len()).unwrap_or_default();
            overlap |= depth > 0
                && texts.iter().any(|other| !text.is_empty() && (other.starts_with(text) || text.starts_with(other)));
            if texts.len() < 64 {
                texts.push(text);
            }
            whole.empty |= shape.empty;
            whole.elastic |= shape.elastic;
            match self.rest.strip_prefix('|') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        // `(a|a)`, `(a|ab)`: one text, two ways.
        whole.elastic |= overlap && texts.iter().any(|text| texts.iter().filter(|other| *other == text).count() > 1);
        whole
    }

    fn sequence(&mut self, depth: usize) -> Shape {
        // How many parts cannot be empty, and whether one of these, or one beside which all can be empty, is elastic.
        let (mut solid, mut solid_elastic, mut loose_elastic) = (0u32, false, false);
        while let Some(sign) = self.rest.chars().next().filter(|sign| !matches!(sign, ')' | '|')) {
            let mut part = Shape::default();
            match sign {
                '(' => part = self.group(depth),
                '[' => self.class(),
                '\\' => self.escape(),
                // Places take no text.
                '^' | '$' => {
                    self.step(1);
                    continue;
                }
                _ => self.step(1),
            }
            let (least, most) = self.repetition();
            let endless = most.is_none_or(|most| most >= MANY);
            if endless && part.elastic {
                self.hostile = true;
            }
            let elastic = endless || part.elastic;
            if least == 0 || part.empty {
                loose_elastic |= elastic;
            } else {
                solid += 1;
                solid_elastic |= elastic;
            }
        }
        let elastic = match solid {
            0 => loose_elastic,
            1 => solid_elastic,
            _ => false,
        };
        Shape { empty: solid == 0, elastic }
    }

    fn group(&mut self, depth: usize) -> Shape {
        self.step(1);
        let mut look_around = false;
        if self.rest.starts_with('?') {
            look_around = ["?=", "?!", "?<=", "?<!"].iter().any(|look| self.rest.starts_with(look));
            let atomic = self.rest.starts_with("?>");
            let end = self.rest.find([':', '=', '!', '>', ')']).map_or(self.rest.len(), |end| {
                end + usize::from(!self.rest.get(end..).unwrap_or_default().starts_with(')'))
            });
            self.rest = self.rest.get(end..).unwrap_or_default();
            if atomic {
                // What it has matched it does not give back.
                self.inner(depth);
                return Shape::default();
            }
        }
        let shape = self.inner(depth);
        // What looks ahead or back takes no text.
        if look_around { Shape { empty: true, elastic: false } } else { shape }
    }

    fn inner(&mut self, depth: usize) -> Shape {
        if depth >= MAX_DEPTH {
            self.hostile = true;
            self.rest = "";
            return Shape::default();
        }
        let shape = self.alternatives(depth + 1);
        self.rest = self.rest.strip_prefix(')').unwrap_or(self.rest);
        shape
    }

    fn class(&mut self) {
        self.step(1);
        self.rest = self.rest.strip_prefix('^').unwrap_or(self.rest);
        // A closing bracket that comes first stands for itself.
        self.rest = self.rest.strip_prefix(']').unwrap_or(self.rest);
        let mut depth = 1;
        while let Some(sign) = self.rest.chars().next() {
            match sign {
                '\\' => {
                    self.escape();
                    continue;
                }
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            self.step(1);
            if depth == 0 {
                return;
            }
        }
    }

    fn escape(&mut self) {
        let mut signs = self.rest.chars();
        signs.next();
        let sign = signs.next();
        let rest = signs.as_str();
        // `\p{L}`, `\x{1F600}`.
        self.rest = match (sign, rest.strip_prefix('{')) {
            (Some('p' | 'P' | 'x' | 'u' | 'k' | 'g'), Some(name)) => name.split_once('}').map_or("", |(_, rest)| rest),
            _ => rest,
        };
    }

    /// The least and most times that what stands before is repeated.
    fn repetition(&mut self) -> (u64, Option<u64>) {
        let bounds = match self.rest.chars().next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let Some((inside, _)) = self.rest.get(1..).and_then(|rest| rest.split_once('}')) else {
                    return (1, Some(1));
                };
                let (least, most) =
                    inside.split_once(',').map_or((inside, Some(inside)), |(least, most)| (least, Some(most)));
                let number = |text: &str| text.trim().parse::<u64>().ok();
                let (Some(least), most) =
                    (number(least).or(inside.starts_with(',').then_some(0)), most.and_then(number))
                else {
                    return (1, Some(1));
                };
                self.rest = self.rest.get(inside.len() + 2..).unwrap_or_default();
                self.modifier();
                return (least, most);
            }
            _ => return (1, Some(1)),
        };
        self.step(1);
        if self.modifier() {
            // Possessive: gives nothing back.
            return (bounds.0, Some(1));
        }
        bounds
    }

    /// `?` after a repetition makes it lazy, `+` possessive; tells whether it was the latter.
    fn modifier(&mut self) -> bool {
        match self.rest.chars().next() {
            Some('?') => {
                self.step(1);
                false
            }
            Some('+') => {
                self.step(1);
                true
            }
            _ => false,
        }
    }

    fn step(&mut self, count: usize) {
        let mut signs = self.rest.chars();
        for _ in 0..count {
            signs.next();
        }
        self.rest = signs.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_in_each_other_are_hostile() {
        for expression in [
            "(a+)+",
            "(a*)*b",
            "(?:\\w+\\s?)*$",
            "(.*)*",
            "((a|b)+)+",
            "(a|a)*",
            "([a-z]+)*!",
            "(?:(?:x+x?)+y?)+",
            "(\\p{L}+ ?){2,}",
            "(?i:(\\d+)+)",
            "(a{1,1000})+",
        ] {
            assert!(is_hostile(expression), "{expression}");
        }
    }

    #[test]
    fn what_tokenizers_use_is_not() {
        for expression in [
            "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
            "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t)?",
            "(?=(\\d{3})+(?!\\d))",
            "(?:[a-z]+-)*[a-z]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+",
            "(?>a+)+",
            "(?:\\r\\n|\\n)+",
            "(ab|cd)*",
            "\\s?[^(\\s|[.,!?…。，、।۔،])]+",
            "(\\d{3})*",
        ] {
            assert!(!is_hostile(expression), "{expression}");
        }
    }
}
