//! Which script a text is written in.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// Scripts in use today, by their names in Unicode.
const NAMES: [&str; 60] = [
    "Latin",
    "Han",
    "Cyrillic",
    "Arabic",
    "Hangul",
    "Hiragana",
    "Katakana",
    "Devanagari",
    "Greek",
    "Hebrew",
    "Thai",
    "Bengali",
    "Tamil",
    "Telugu",
    "Kannada",
    "Malayalam",
    "Gujarati",
    "Gurmukhi",
    "Oriya",
    "Sinhala",
    "Khmer",
    "Lao",
    "Myanmar",
    "Tibetan",
    "Georgian",
    "Armenian",
    "Ethiopic",
    "Mongolian",
    "Cherokee",
    "Canadian_Aboriginal",
    "Bopomofo",
    "Yi",
    "Thaana",
    "Syriac",
    "Javanese",
    "Balinese",
    "Sundanese",
    "Tifinagh",
    "Nko",
    "Vai",
    "Adlam",
    "Ol_Chiki",
    "Meetei_Mayek",
    "Limbu",
    "Lisu",
    "Cham",
    "Tai_Le",
    "New_Tai_Lue",
    "Tai_Tham",
    "Tai_Viet",
    "Braille",
    "Runic",
    "Ogham",
    "Gothic",
    "Coptic",
    "Glagolitic",
    "Deseret",
    "Egyptian_Hieroglyphs",
    "Cuneiform",
    "Tagalog",
];

/// Ranges of code points in order, each with its script.
static RANGES: LazyLock<Vec<(char, char, &str)>> = LazyLock::new(|| {
    let mut ranges = Vec::new();
    for name in NAMES {
        let Ok(parsed) = regex_syntax::parse(&format!(r"\p{{Script={name}}}")) else { continue };
        if let HirKind::Class(Class::Unicode(class)) = parsed.kind() {
            ranges.extend(class.ranges().iter().map(|range| (range.start(), range.end(), name)));
        }
    }
    ranges.sort_unstable();
    ranges
});

/// The script of a text's first letter.
pub(super) fn of(text: &str) -> &'static str {
    match text.chars().find(|c| c.is_alphabetic()) {
        None => "no letters",
        Some('a'..='z' | 'A'..='Z') => "Latin",
        Some(c) => {
            let at = RANGES.partition_point(|(_, end, _)| *end < c);
            let found = RANGES.get(at).filter(|(start, ..)| *start <= c);
            found.map_or("other scripts", |(.., name)| name)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn first_letters_tell() {
        for (text, script) in
            [("Ġhello", "Latin"), (" при", "Cyrillic"), ("12 漢", "Han"), ("!?", "no letters"), ("한", "Hangul")]
        {
            assert_eq!(super::of(text), script, "{text}");
        }
        assert_eq!(
            super::RANGES.iter().map(|(.., name)| name).collect::<std::collections::HashSet<_>>().len(),
            super::NAMES.len()
        );
    }
}
