//! Source to tokens, with the white-space rules that chat templates are written for: `trim_blocks` and
//! `lstrip_blocks` are on, and one newline at the end of the source is dropped.

use std::sync::Arc;

use super::super::TemplateErrorKind;
use super::fault::{Fault, Result, unsupported};
use super::text::is_space;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Text(Arc<str>),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Str(Arc<str>),
    Int(i128),
    Float(f64),
    Sign(&'static str),
    End,
}

impl Token {
    /// The token in the words of an error.
    pub fn describe(&self) -> String {
        match self {
            Token::Text(_) => "template text".to_string(),
            Token::PrintBegin => "{{".to_string(),
            Token::PrintEnd => "}}".to_string(),
            Token::BlockBegin => "{%".to_string(),
            Token::BlockEnd => "%}".to_string(),
            Token::Name(name) => name.to_string(),
            Token::Str(_) => "a text".to_string(),
            Token::Int(number) => number.to_string(),
            Token::Float(number) => number.to_string(),
            Token::Sign(sign) => (*sign).to_string(),
            Token::End => "the end of the template".to_string(),
        }
    }
}

/// All signs, longer ones before those that they begin with.
const SIGNS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// The source with newlines of one kind, which is what tokens count their bytes in.
pub fn unified(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// The tokens of a template, each with the byte where it begins.
pub fn tokens(source: &str) -> Result<Vec<(u32, Token)>> {
    let mut lexer = Lexer {
        rest: source.strip_suffix('\n').unwrap_or(source),
        spot: 0,
        line_starting: true,
        open: Vec::new(),
        tokens: Vec::new(),
    };
    lexer.root()?;
    let spot = lexer.spot;
    lexer.tokens.push((spot, Token::End));
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    /// The byte that `rest` begins at.
    spot: u32,
    /// Whether what was consumed last ended a line.
    line_starting: bool,
    /// Closing brackets that are awaited.
    open: Vec<&'static str>,
    tokens: Vec<(u32, Token)>,
}

impl<'a> Lexer<'a> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Box::new(Fault { kind: TemplateErrorKind::Syntax, message: message.into(), spot: Some(self.spot) }))
    }

    /// Consumes so many bytes.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.spot = self.spot.saturating_add(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        if let Some(last) = taken.chars().next_back() {
            self.line_starting = last == '\n';
        }
        taken
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.spot, token));
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Token::Text(text.into()));
        }
    }

    /// Text, up to each tag.
    fn root(&mut self) -> Result<()> {
        loop {
            // In one pass: a search for each tag would run to the end again and again where one of them never comes.
            let tag = self.rest.match_indices('{').find_map(|(at, _)| {
                let tag = self.rest.get(at..at + 2)?;
                ["{{", "{%", "{#"].into_iter().find(|known| *known == tag).map(|tag| (at, tag))
            });
            let Some((at, tag)) = tag else {
                let text = self.rest;
                self.text(text);
                self.take(text.len());
                return Ok(());
            };
            let raw = self.raw_begin(at);
            let sign = self.rest.get(at + 2..).and_then(|rest| rest.chars().next()).filter(|c| matches!(c, '-' | '+'));
            let text = self.rest.get(..at).unwrap_or("");
            let kept = self.before_tag(text, sign, tag != "{{");
            self.text(kept);
            let begin = self.spot.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            self.take(at + 2 + usize::from(sign.is_some()));
            match (raw, tag) {
                (Some(length), _) => {
                    self.take(length);
                    self.raw()?;
                }
                (None, "{#") => self.comment()?,
                (None, "{%") => {
                    self.push(Token::BlockBegin);
                    self.tag(Token::BlockEnd, begin)?;
                }
                _ => {
                    self.push(Token::PrintBegin);
                    self.tag(Token::PrintEnd, begin)?;
                }
            }
        }
    }

    /// The text before a tag, without what white-space control strips.
    fn before_tag<'b>(&self, text: &'b str, sign: Option<char>, is_block: bool) -> &'b str {
        match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if is_block => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let indent = text.get(line..).unwrap_or("");
                let blank = !indent.is_empty() && indent.chars().all(is_space);
                if blank && (line > 0 || self.line_starting) { text.get(..line).unwrap_or("") } else { text }
            }
            _ => text,
        }
    }

    /// The length of `raw %}` after the sign, if the tag at this place is that.
    fn raw_begin(&self, at: usize) -> Option<usize> {
        let tag = self.rest.get(at..)?.strip_prefix("{%")?;
        let begin = tag.strip_prefix(['-', '+']).unwrap_or(tag);
        let rest = begin.trim_start_matches(is_space).strip_prefix("raw")?.trim_start_matches(is_space);
        let after = match rest.strip_prefix("-%}") {
            Some(after) => after.trim_start_matches(is_space),
            None => rest.strip_prefix("%}")?,
        };
        Some(begin.len() - after.len())
    }

    /// Text up to `endraw`.
    fn raw(&mut self) -> Result<()> {
        let mut from = 0;
        while let Some(at) = self.rest.get(from..).and_then(|rest| rest.find("{%")).map(|at| at + from) {
            from = at + 2;
            let Some(tag) = self.rest.get(from..) else { break };
            let sign = tag.chars().next().filter(|c| matches!(c, '-' | '+'));
            let begin = tag.strip_prefix(['-', '+']).unwrap_or(tag);
            let Some(rest) = begin.trim_start_matches(is_space).strip_prefix("endraw") else { continue };
            let Some(after) = block_end(rest.trim_start_matches(is_space)) else { continue };
            let text = self.before_tag(self.rest.get(..at).unwrap_or(""), sign, true);
            self.text(text);
            self.take(self.rest.len() - after.len());
            return Ok(());
        }
        // Jinja lets it be open where nothing follows.
        if self.rest.is_empty() {
            return Ok(());
        }
        self.fail("a raw block is not closed by {% endraw %}")
    }

    fn comment(&mut self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let Some(at) = self.rest.find("#}") else {
            return self.fail("a comment is not closed by #}");
        };
        let inside = self.rest.get(..at).unwrap_or("");
        let after = self.rest.get(at + 2..).unwrap_or("");
        let after = match inside.chars().next_back() {
            Some('-') => after.trim_start_matches(is_space),
            Some('+') => after,
            _ => after.strip_prefix('\n').unwrap_or(after),
        };
        self.take(self.rest.len() - after.len());
        Ok(())
    }

    /// The tokens within a tag, and its end.
    fn tag(&mut self, end: Token, begin: u32) -> Result<()> {
        self.open.clear();
        loop {
            let space = self.rest.len() - self.rest.trim_start_matches(is_space).len();
            self.take(space);
            if self.open.is_empty() {
                let after = if end == Token::BlockEnd { block_end(self.rest) } else { print_end(self.rest) };
                if let Some(after) = after {
                    self.push(end);
                    self.take(self.rest.len() - after.len());
                    return Ok(());
                }
            }
            let Some(first) = self.rest.chars().next() else {
                self.spot = begin;
                let close = if end == Token::BlockEnd { "%}" } else { "}}" };
                return self.fail(format!("the tag that begins here is not closed by {close}"));
            };
            match first {
                '0'..='9' => self.number()?,
                '\'' | '"' => self.string(first)?,
                '_' => self.name(),
                c if c.is_alphabetic() => self.name(),
                c => {
                    let Some(sign) = SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) else {
                        return self.fail(format!("unexpected character {}", super::text::repr(&c.to_string())));
                    };
                    self.sign(sign)?;
                }
            }
        }
    }

    fn sign(&mut self, sign: &'static str) -> Result<()> {
        match sign {
            "(" => self.open.push(")"),
            "[" => self.open.push("]"),
            "{" => self.open.push("}"),
            ")" | "]" | "}" => match self.open.pop() {
                Some(awaited) if awaited == sign => {}
                Some(awaited) => return self.fail(format!("'{sign}' where '{awaited}' is awaited")),
                None => return self.fail(format!("unexpected '{sign}'")),
            },
            _ => {}
        }
        self.push(Token::Sign(sign));
        self.take(sign.len());
        Ok(())
    }

    fn name(&mut self) {
        let end = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
        let name = self.take(end);
        self.push(Token::Name(name.into()));
    }

    fn number(&mut self) -> Result<()> {
        let after_dot = matches!(self.tokens.last(), Some((_, Token::Sign("."))));
        let float = if after_dot { None } else { float_length(self.rest) };
        if let Some(length) = float {
            let digits = self.take(length).replace('_', "");
            let Ok(number) = digits.parse() else { return self.fail("a number that cannot be read") };
            self.push(Token::Float(number));
            return Ok(());
        }
        let (radix, prefix) = match self.rest.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => (16, 2),
            Some("0o") => (8, 2),
            Some("0b") => (2, 2),
            _ => (10, 0),
        };
        let mut length = prefix + digits(self.rest.get(prefix..).unwrap_or(""), radix, prefix > 0);
        let (radix, prefix) = if length == prefix { (10, 0) } else { (radix, prefix) };
        if prefix == 0 {
            length = digits(self.rest, 10, false);
            // `007` is a zero and then a seven.
            if self.rest.starts_with('0') {
                length = self.rest.bytes().take_while(|byte| matches!(byte, b'0' | b'_')).count();
                length = self.rest.get(..length).unwrap_or("").trim_end_matches('_').len();
            }
        }
        let text = self.take(length).get(prefix..).unwrap_or("").replace('_', "");
        match i128::from_str_radix(&text, radix) {
            Ok(number) => self.push(Token::Int(number)),
            Err(_) => return unsupported(format!("the number {text} is larger than this renderer counts")),
        }
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| match (escaped, *c) {
            (true, _) => {
                escaped = false;
                false
            }
            (false, '\\') => {
                escaped = true;
                false
            }
            (false, c) => c == quote,
        });
        let Some((end, _)) = end else {
            return self.fail("a text in quotes is not closed");
        };
        let inside = self.rest.get(1..end).unwrap_or("");
        match unescape(inside) {
            Ok(text) => self.push(Token::Str(text.into())),
            Err(message) => return self.fail(message),
        }
        self.take(end + 1);
        Ok(())
    }
}

/// What follows the end of a block tag, which swallows one newline.
fn block_end(rest: &str) -> Option<&str> {
    if let Some(after) = rest.strip_prefix("+%}") {
        return Some(after);
    }
    if let Some(after) = rest.strip_prefix("-%}") {
        return Some(after.trim_start_matches(is_space));
    }
    let after = rest.strip_prefix("%}")?;
    Some(after.strip_prefix('\n').unwrap_or(after))
}

fn print_end(rest: &str) -> Option<&str> {
    match rest.strip_prefix("-}}") {
        Some(after) => Some(after.trim_start_matches(is_space)),
        None => rest.strip_prefix("}}"),
    }
}

/// The length of digits with single underscores between them.
fn digits(text: &str, radix: u32, underscore_first: bool) -> usize {
    let mut end = 0;
    let mut before_underscore = underscore_first;
    for (at, c) in text.char_indices() {
        if c.is_ascii() && c.is_digit(radix) {
            end = at + 1;
            before_underscore = true;
        } else if c == '_' && before_underscore {
            before_underscore = false;
        } else {
            break;
        }
    }
    end
}

/// The length of a float: digits with a fraction, an exponent or both.
fn float_length(text: &str) -> Option<usize> {
    let mut length = digits(text, 10, false);
    let fraction = text.get(length..)?.strip_prefix('.').map_or(0, |rest| digits(rest, 10, false));
    if fraction > 0 {
        length += 1 + fraction;
    }
    let exponent = text.get(length..)?.strip_prefix(['e', 'E']).map_or(0, |rest| {
        let signed = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        match digits(signed, 10, false) {
            0 => 0,
            count => 1 + rest.len() - signed.len() + count,
        }
    });
    (fraction > 0 || exponent > 0).then_some(length + exponent)
}

/// A quoted text with Python's escapes; what is no escape stays as it is.
fn unescape(text: &str) -> std::result::Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_string());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        let Some(c) = rest.chars().next() else {
            return Err("\\ at the end of a text".to_string());
        };
        rest = rest.get(c.len_utf8()..).unwrap_or("");
        let code = |length: usize, name: &str| {
            let found = rest.get(..length).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let code = found.and_then(|hex| u32::from_str_radix(hex, 16).ok());
            code.and_then(char::from_u32).ok_or_else(|| format!("a broken \\{name} escape, or one of no character"))
        };
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'x' | 'u' | 'U' => {
                let length = match c {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                out.push(code(length, &c.to_string())?);
                rest = rest.get(length..).unwrap_or("");
            }
            'N' => return Err("\\N escapes are not known to this renderer".to_string()),
            '0'..='7' => {
                let length = rest.bytes().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let octal = format!("{c}{}", rest.get(..length).unwrap_or(""));
                out.extend(u32::from_str_radix(&octal, 8).ok().and_then(char::from_u32));
                rest = rest.get(length..).unwrap_or("");
            }
            c if c.is_ascii() => out.extend(['\\', c]),
            // Jinja turns it into an escape of its own before it looks, so that two backslashes meet.
            c => match u32::from(c) {
                code @ ..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push_str(rest);
    Ok(out)
}
