//! YAML's scalars as loaders see them: which key has which text, in whatever way the two are written.
//!
//! No tree is built. Keys and values may be plain, quoted with escapes, or blocks; stand in `{…}`, behind `?`, on lines
//! of their own, or be aliases of what has an anchor elsewhere: each comes out as the same pair. That is all that a
//! look for names needs. One pass, and nothing is kept but anchors.
//!
//! Source: <https://yaml.org/spec/1.2.2/>, chapters 6 to 8; where it and PyYAML's scanner differ, PyYAML counts.

use std::borrow::Cow;
use std::collections::HashMap;

/// Anchored texts that are kept, and their bytes: names are meant, and no more is worth following.
const MAX_ANCHORS: usize = 4096;
const MAX_ANCHORED: usize = 1024;

/// A scalar that is no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scalar<'a> {
    /// Its key; empty where it has none, as in lists.
    pub key: Cow<'a, str>,
    /// Its text.
    pub text: Cow<'a, str>,
    /// Where it begins.
    pub at: u64,
    /// Whether it only repeats, for another key, what an anchor names.
    pub alias: bool,
}

/// Calls `each` for all scalars that are no keys, in their order.
pub(super) fn scalars<'a>(text: &'a str, each: &mut dyn FnMut(Scalar<'a>)) {
    let mut reader = Reader {
        text,
        at: 0,
        line: 0,
        indent: -1,
        flow: 0,
        anchor: None,
        anchors: HashMap::new(),
        key: Cow::Borrowed(""),
        last: None,
        each,
    };
    while reader.step() {}
    reader.flush();
}

struct Reader<'a, 'f> {
    text: &'a str,
    at: usize,
    /// Where the line begins.
    line: usize,
    /// Column of the key or dash that the next value belongs to; -1 for a whole document.
    indent: i64,
    /// Brackets that are open.
    flow: u32,
    /// The anchor of the scalar that comes next.
    anchor: Option<&'a str>,
    anchors: HashMap<&'a str, Cow<'a, str>>,
    /// The key of the scalar that comes next.
    key: Cow<'a, str>,
    /// A scalar of which it is not known yet whether it is a key, and its column.
    last: Option<(Scalar<'a>, i64)>,
    each: &'f mut dyn FnMut(Scalar<'a>),
}

impl<'a> Reader<'a, '_> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn column(&self, at: usize) -> i64 {
        i64::try_from(at.saturating_sub(self.line)).unwrap_or(i64::MAX)
    }

    /// Whether nothing but blanks stands before on the line.
    fn first(&self) -> bool {
        self.text.get(self.line..self.at).is_some_and(|before| before.bytes().all(|byte| byte == b' '))
    }

    /// What came last was a value.
    fn flush(&mut self) {
        if let Some((scalar, _)) = self.last.take() {
            (self.each)(scalar);
        }
    }

    /// Neither a text nor what stands between a key and its value.
    fn separator(&mut self) {
        self.flush();
        self.key = Cow::Borrowed("");
        self.anchor = None;
    }

    fn scalar(&mut self, text: Cow<'a, str>, start: usize) {
        self.named(text, start, false);
    }

    fn named(&mut self, text: Cow<'a, str>, start: usize, alias: bool) {
        self.flush();
        if let Some(name) = self.anchor.take()
            && text.len() <= MAX_ANCHORED
            && self.anchors.len() < MAX_ANCHORS
        {
            self.anchors.insert(name, text.clone());
        }
        let key = std::mem::take(&mut self.key);
        self.last = Some((Scalar { key, text, at: start as u64, alias }, self.column(start)));
    }

    /// Reads one token; false at the end.
    fn step(&mut self) -> bool {
        let rest = self.rest();
        let mut signs = rest.chars();
        let Some(sign) = signs.next() else { return false };
        let next = signs.next();
        // What makes `-`, `?` and `:` more than a letter.
        let apart = next.is_none_or(|next| next.is_whitespace() || self.flow > 0 && ",[]{}".contains(next));
        let start = self.at;
        match sign {
            '\n' => {
                self.at += 1;
                self.line = self.at;
                return true;
            }
            '-' | '.'
                if self.at == self.line
                    && (rest.starts_with("---") || rest.starts_with("..."))
                    && rest.get(3..).is_none_or(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) =>
            {
                self.separator();
                (self.flow, self.indent) = (0, -1);
                self.at += 3;
                return true;
            }
            '#' => return self.skip_line(),
            '%' if self.at == self.line && self.flow == 0 => return self.skip_line(),
            _ if sign.is_whitespace() || sign == '\u{feff}' => {
                self.at += sign.len_utf8();
                return true;
            }
            _ => {}
        }
        match sign {
            '-' | '?' if apart => {
                self.separator();
                if self.flow == 0 {
                    self.indent = self.column(start);
                }
                self.at += 1;
            }
            ':' if apart || self.flow > 0 => self.colon(),
            '{' | '[' => {
                self.separator();
                self.flow = self.flow.saturating_add(1);
                self.at += 1;
            }
            '}' | ']' => {
                self.separator();
                self.flow = self.flow.saturating_sub(1);
                self.at += 1;
            }
            ',' => {
                self.separator();
                self.at += 1;
            }
            '!' | '&' | '*' => self.property(sign),
            '|' | '>' if self.flow == 0 => self.block(sign == '>'),
            '"' => {
                let text = self.double();
                self.scalar(text, start);
            }
            '\'' => {
                let text = self.single();
                self.scalar(text, start);
            }
            _ => {
                let text = self.plain();
                self.scalar(text, start);
            }
        }
        true
    }

    fn skip_line(&mut self) -> bool {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        true
    }

    /// What came last was a key.
    fn colon(&mut self) {
        let (key, column) = self.last.take().map_or((Cow::Borrowed(""), None), |(last, at)| (last.text, Some(at)));
        self.key = key;
        if self.flow == 0 {
            self.indent = if self.first() { self.column(self.at) } else { column.unwrap_or(self.indent) };
        }
        self.at += 1;
    }

    /// A tag, an anchor or an alias.
    fn property(&mut self, sign: char) {
        let start = self.at;
        let rest = self.rest();
        let verbatim = rest.starts_with("!<");
        let end = rest
            .find(|sign: char| sign.is_whitespace() || self.flow > 0 && !verbatim && ",[]{}".contains(sign))
            .unwrap_or(rest.len());
        let name = rest.get(1..end).unwrap_or_default();
        self.at += end.max(1);
        match sign {
            '&' => self.anchor = Some(name),
            '*' => {
                // `*name:` is how some write a key.
                let known = self.anchors.get(name).or_else(|| self.anchors.get(name.trim_end_matches(':')));
                let text = known.cloned().unwrap_or_default();
                self.named(text, start, true);
                if name.ends_with(':') {
                    self.at -= 1;
                }
            }
            _ => {}
        }
    }

    /// The end of a plain scalar's part in a line, from where it stands.
    fn plain_end(&self, rest: &str) -> usize {
        let mut before = ' ';
        let mut signs = rest.char_indices().peekable();
        while let Some((at, sign)) = signs.next() {
            let next = signs.peek().map(|(_, sign)| *sign);
            let ends = match sign {
                '\n' => true,
                '#' => at > 0 && before.is_whitespace(),
                ':' => next.is_none_or(|next| next.is_whitespace() || self.flow > 0 && ",[]{}".contains(next)),
                ',' | '[' | ']' | '{' | '}' => self.flow > 0,
                _ => false,
            };
            if ends {
                return at;
            }
            before = sign;
        }
        rest.len()
    }

    fn plain(&mut self) -> Cow<'a, str> {
        let rest = self.rest();
        // At least one sign, so that it always goes on.
        let end = self.plain_end(rest).max(rest.chars().next().map_or(0, char::len_utf8));
        let mut text = Cow::Borrowed(rest.get(..end).unwrap_or_default().trim_end());
        self.at += end;
        // Lines that are indented further go on with it, unless they are pairs themselves.
        while self.flow == 0 && self.rest().starts_with('\n') {
            let rest = self.rest();
            let line = rest.get(1..).unwrap_or_default();
            let blanks = line.len() - line.trim_start_matches(' ').len();
            let inner = line.get(blanks..).unwrap_or_default();
            let end = self.plain_end(inner);
            let part = inner.get(..end).unwrap_or_default();
            let pair = inner.get(end..).is_some_and(|behind| behind.starts_with(':'));
            let further = i64::try_from(blanks).is_ok_and(|blanks| blanks > self.indent);
            let marker = blanks == 0 && (part.starts_with("---") || part.starts_with("..."));
            if pair || !further || marker || inner.starts_with('#') || part.trim().is_empty() {
                break;
            }
            text.to_mut().push(' ');
            text.to_mut().push_str(part.trim());
            self.line = self.at + 1;
            self.at += 1 + blanks + end;
        }
        text
    }

    fn single(&mut self) -> Cow<'a, str> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = self.rest();
            let end = rest.find(['\'', '\n']).unwrap_or(rest.len());
            text.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
            match rest.get(end..) {
                Some(behind) if behind.starts_with("''") => {
                    text.push('\'');
                    self.at += 2;
                }
                Some(behind) if behind.starts_with('\n') => self.fold(&mut text),
                _ => break,
            }
        }
        self.at = (self.at + 1).min(self.text.len());
        text.into()
    }

    fn double(&mut self) -> Cow<'a, str> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = self.rest();
            let end = rest.find(['"', '\\', '\n']).unwrap_or(rest.len());
            text.push_str(rest.get(..end).unwrap_or_default());
            self.at += end;
            match rest.get(end..).and_then(|behind| behind.chars().next()) {
                Some('\\') => self.escape(&mut text),
                Some('\n') => self.fold(&mut text),
                _ => break,
            }
        }
        self.at = (self.at + 1).min(self.text.len());
        text.into()
    }

    /// The end of a line within quotes: a blank, or a line's end where a line is empty.
    fn fold(&mut self, text: &mut String) {
        text.truncate(text.trim_end_matches([' ', '\t', '\r']).len());
        let rest = self.rest();
        let blanks = rest.len() - rest.trim_start().len();
        let breaks = rest.get(..blanks).unwrap_or_default().matches('\n').count();
        text.push_str(if breaks > 1 { "\n" } else { " " });
        self.next_line(blanks);
    }

    /// Goes on behind so many blanks, in which lines end.
    fn next_line(&mut self, blanks: usize) {
        let ended = self.rest().get(..blanks).and_then(|blanks| blanks.rfind('\n'));
        self.line = ended.map_or(self.line, |ended| self.at + ended + 1);
        self.at += blanks;
    }

    fn escape(&mut self, text: &mut String) {
        let rest = self.rest().get(1..).unwrap_or_default();
        let Some(sign) = rest.chars().next() else {
            self.at += 1;
            return;
        };
        let digits = match sign {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if sign == '\n' || rest.starts_with("\r\n") {
            self.at += 1;
            return self.next_line(rest.len() - rest.trim_start().len());
        }
        self.at += 1 + sign.len_utf8();
        if let Some(digits) = rest.get(1..=digits).filter(|_| digits > 0) {
            let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
            text.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            self.at += digits.len();
            return;
        }
        text.push(match sign {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            other => other,
        });
    }

    /// `|` or `>` and the lines below that are indented further.
    fn block(&mut self, folded: bool) {
        let start = self.at;
        let head = self.rest();
        let header = head.get(..head.find('\n').unwrap_or(head.len())).unwrap_or_default();
        let given = header.split('#').next().and_then(|header| header.chars().find_map(|sign| sign.to_digit(10)));
        let least = self.indent.max(0);
        let mut content = given.map(|given| least.saturating_add(i64::from(given)));
        self.skip_line();
        let mut text = String::new();
        while self.rest().starts_with('\n') {
            let line = self.rest().get(1..).unwrap_or_default();
            let end = line.find('\n').unwrap_or(line.len());
            let line = line.get(..end).unwrap_or_default();
            let blanks = i64::try_from(line.len() - line.trim_start_matches(' ').len()).unwrap_or(i64::MAX);
            let empty = line.trim().is_empty();
            if !empty {
                // The first line says how far the others are indented.
                let content = *content.get_or_insert_with(|| blanks.max(self.indent + 1));
                if blanks < content {
                    break;
                }
                text.push_str(usize::try_from(content).ok().and_then(|at| line.get(at..)).unwrap_or_default());
            }
            text.push(if folded { ' ' } else { '\n' });
            self.line = self.at + 1;
            self.at += 1 + end;
        }
        text.truncate(text.trim_end().len());
        self.scalar(text.into(), start);
        // What follows begins a line, so it is no part of this one.
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        scalars(text, &mut |scalar| found.push((scalar.key.into_owned(), scalar.text.into_owned())));
        found
    }

    fn pair(key: &str, text: &str) -> (String, String) {
        (key.to_string(), text.to_string())
    }

    #[test]
    fn one_pair_in_all_of_its_spellings() {
        for text in [
            "m:\n  k: v",
            "m: {k: v}",
            "m: {'k':v, }",
            "{\"k\":v}",
            "? k\n: v",
            "m:\n  \"\\u006b\": 'v' # why",
            "k:\n  v\n",
            "- k: v",
            "- - k: !!str v",
            "--- # first\nk: &a \"\\x76\"",
            "k: |-\n  v",
            "m:\n- k: >\n    v\n",
            "k: |2\n  v",
            "k : \"\\\n   v\"",
            "%YAML 1.1\n---\n!!str k: v\r\n",
        ] {
            assert_eq!(pairs(text), [pair("k", "v")], "{text:?}");
        }
    }

    #[test]
    fn aliases_stand_for_what_they_name() {
        assert_eq!(pairs("x: &v w\nk: *v"), [pair("x", "w"), pair("k", "w")]);
        assert_eq!(pairs("x: &k w\n*k : v"), [pair("x", "w"), pair("w", "v")]);
        assert_eq!(pairs("x: &s {k: v}\nm:\n  <<: *s"), [pair("k", "v"), pair("<<", "")]);
    }

    #[test]
    fn texts_of_several_lines_and_what_follows_them() {
        assert_eq!(pairs("k: a\n  b\nl: c"), [pair("k", "a b"), pair("l", "c")]);
        assert_eq!(pairs("k: |\n  a: b\n   c\n\nl: d"), [pair("k", "a: b\n c"), pair("l", "d")]);
        assert_eq!(pairs("- k: |\n  l: d"), [pair("k", ""), pair("l", "d")]);
        assert_eq!(pairs("k: 'it''s\n  so'\nl: [a, b]"), [pair("k", "it's so"), pair("", "a"), pair("", "b")]);
    }

    #[test]
    fn nothing_takes_long_or_panics() {
        for piece in ["[", "{a:", "- ", "? ", "\"\\", "'", "|\n", "a: |\n ", "&a ", "*a ", "!", "\u{feff}é: ", "a\n "]
        {
            pairs(&piece.repeat(20_000));
        }
    }
}
