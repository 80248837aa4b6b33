//! JSON as Python and its like read it, and as they might: both values of a key that stands twice are there.
//!
//! It takes `NaN`, control characters in texts and whatever else some reader lets pass, and keeps what came before a
//! fault: a scanner that is stricter than the loader is blind.

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    /// `null`, a number, or another bare word: no name of anything.
    Word,
    /// `true` or `false`.
    Bool(bool),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Keys and values in their order, none left out.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All values of a key.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Json> {
        let members = match self {
            Json::Object(members) => members.as_slice(),
            _ => &[],
        };
        members.iter().filter(move |(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text of a key, the last if it stands twice, as Python takes it.
    pub(super) fn get_text<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).last().and_then(Json::text)
    }

    /// Calls `each` for the value and everything within it, with the keys that lead there.
    pub(super) fn walk<'a>(&'a self, each: &mut dyn FnMut(&[&'a str], &'a Json)) {
        fn go<'a>(value: &'a Json, path: &mut Vec<&'a str>, each: &mut dyn FnMut(&[&'a str], &'a Json)) {
            each(path, value);
            match value {
                Json::List(items) => items.iter().for_each(|item| go(item, path, each)),
                Json::Object(members) => {
                    for (key, value) in members {
                        path.push(key);
                        go(value, path, each);
                        path.pop();
                    }
                }
                _ => {}
            }
        }
        go(self, &mut Vec::new(), each);
    }
}

/// Brackets within each other that are followed; Python itself stops at a thousand.
const MAX_DEPTH: usize = 512;

/// Values that are kept; the largest tokenizers have a third. Numbers in lists are not kept, and do not count.
const MAX_VALUES: u32 = 8 << 20;

/// Reads the value that a text begins with; what follows a fault is left out.
pub(super) fn parse(text: &str) -> Option<Json> {
    parse_some(text).map(|parsed| parsed.json)
}

/// What came out of a text.
pub(super) struct Parsed {
    /// The value.
    pub json: Json,
    /// Bytes that it takes.
    pub used: usize,
    /// Whether it has more parts than are kept.
    pub too_much: bool,
}

/// As [`parse`], and says how far it came.
pub(super) fn parse_some(text: &str) -> Option<Parsed> {
    let mut parser = Parser { rest: text, broken: false, room: MAX_VALUES };
    parser.blanks();
    matches!(parser.rest.chars().next(), Some('{' | '[')).then(|| {
        let json = parser.value(0);
        Parsed { json, used: text.len() - parser.rest.len(), too_much: parser.room == 0 }
    })
}

struct Parser<'a> {
    rest: &'a str,
    broken: bool,
    /// Values that may still come.
    room: u32,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    }

    fn eat(&mut self, sign: char) -> bool {
        self.blanks();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Json {
        self.blanks();
        self.broken |= self.room == 0;
        match self.rest.chars().next() {
            Some('{' | '[') if depth >= MAX_DEPTH => {
                self.broken = true;
                Json::Word
            }
            Some('{') => {
                self.eat('{');
                let mut members = Vec::new();
                while !self.broken && !self.eat('}') {
                    self.blanks();
                    if !self.rest.starts_with('"') {
                        self.broken = true;
                        break;
                    }
                    let key = self.string();
                    self.broken |= !self.eat(':');
                    if !self.broken {
                        let value = self.value(depth + 1);
                        self.room = self.room.saturating_sub(1);
                        members.push((key, value));
                    }
                    self.eat(',');
                }
                Json::Object(members)
            }
            Some('[') => {
                self.eat('[');
                let mut items = Vec::new();
                while !self.broken && !self.eat(']') {
                    let item = self.value(depth + 1);
                    if !matches!(item, Json::Word | Json::Bool(_)) {
                        self.room = self.room.saturating_sub(1);
                        items.push(item);
                    }
                    self.eat(',');
                }
                Json::List(items)
            }
            Some('"') => Json::Text(self.string()),
            _ => {
                let end =
                    self.rest.find(|c: char| c.is_whitespace() || ",]}:\"{[".contains(c)).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.broken |= word.is_empty();
                self.rest = rest;
                match word {
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    _ => Json::Word,
                }
            }
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.rest.strip_prefix('"').unwrap_or(self.rest);
        loop {
            let end = rest.find(['"', '\\']).unwrap_or(rest.len());
            let (plain, behind) = rest.split_at(end);
            text.push_str(plain);
            let mut signs = behind.chars();
            match (signs.next(), signs.next()) {
                (Some('\\'), Some('u')) => {
                    let (unit, behind) = unit(signs.as_str());
                    rest = behind;
                    match (unit, rest.strip_prefix("\\u").map(self::unit)) {
                        (Some(high @ 0xd800..0xdc00), Some((Some(low @ 0xdc00..0xe000), behind))) => {
                            let pair = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                            text.push(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
                            rest = behind;
                        }
                        (unit, _) => text.push(unit.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)),
                    }
                }
                (Some('\\'), Some(escaped)) => {
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        other => other,
                    });
                    rest = signs.as_str();
                }
                (Some('"'), next) => {
                    self.rest = behind.get(1..).unwrap_or_default();
                    let _ = next;
                    return text;
                }
                _ => {
                    self.broken = true;
                    self.rest = "";
                    return text;
                }
            }
        }
    }
}

/// Four hexadecimal digits, and what follows.
fn unit(text: &str) -> (Option<u32>, &str) {
    match text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(unit) => (Some(unit), text.get(4..).unwrap_or_default()),
        None => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_values_of_a_key_are_there_and_what_python_reads_is_read() {
        let json =
            parse("\u{feff}{\"a\": NaN, \"\\u0061\": [-Infinity, \"\\ud83d\\ude00\u{1}\"], \"b\": {\"c\": true}} x")
                .unwrap();
        assert_eq!(json.all("a").count(), 2);
        assert_eq!(json.all("a").last(), Some(&Json::List(vec![Json::Text("\u{1f600}\u{1}".into())])));
        let mut paths = Vec::new();
        json.walk(&mut |path, _| paths.push(path.join(".")));
        assert_eq!(paths, ["", "a", "a", "a", "b", "b.c"]);
    }

    #[test]
    fn what_comes_before_a_fault_counts() {
        let json = parse("{\"auto_map\": {\"x\": \"a--b\"}, oops").unwrap();
        assert_eq!(json.all("auto_map").count(), 1);
        assert!(parse(&"[".repeat(100_000)).is_some());
        assert_eq!(parse("plain"), None);
    }
}
