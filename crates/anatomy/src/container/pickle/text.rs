//! Text and numbers as the opcodes of pickles write them.

use std::borrow::Cow;

/// Text in UTF-8, lone surrogates (which Python's pickle lets pass) replaced.
pub(super) fn utf8(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let mut at = match std::str::from_utf8(bytes) {
        Ok(text) => return Some(Cow::Borrowed(text)),
        Err(error) => error.valid_up_to(),
    };
    loop {
        let surrogate =
            matches!(bytes.get(at..at + 3), Some([0xed, 0xa0..=0xbf, third]) if (0x80..=0xbf).contains(third));
        if !surrogate {
            return None;
        }
        at += 3;
        match std::str::from_utf8(bytes.get(at..)?) {
            Ok(_) => return Some(Cow::Owned(String::from_utf8_lossy(bytes).into_owned())),
            Err(error) => at += error.valid_up_to(),
        }
    }
}

/// The bytes of a Python string literal's inside.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'\n' => {}
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b't' => bytes.push(b'\t'),
            b'n' => bytes.push(b'\n'),
            b'v' => bytes.push(11),
            b'f' => bytes.push(12),
            b'r' => bytes.push(b'\r'),
            quoted @ (b'\\' | b'\'' | b'"') => bytes.push(quoted),
            b'x' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            first @ b'0'..=b'7' => {
                let mut number = u32::from(first - b'0');
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|byte| matches!(byte, b'0'..=b'7')) else { break };
                    number = number * 8 + u32::from(digit - b'0');
                }
                bytes.push(u8::try_from(number & 0xff).ok()?);
            }
            other => bytes.extend([b'\\', other]),
        }
    }
    Some(bytes)
}

/// Text in Python's `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn unescape_unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        if digits == 0 {
            text.push(char::from(*byte));
            // A doubled backslash keeps what follows from being an escape.
            if byte == &b'\\' && line.get(at + 1) == Some(&b'\\') {
                text.push('\\');
                at += 1;
            }
            at += 1;
            continue;
        }
        let code = std::str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
        let code = u32::from_str_radix(code, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        at += 2 + digits;
    }
    Some(text)
}

/// What CPython's C code takes of a line that holds a number: it stops at a NUL byte, whatever follows.
pub(super) fn number(line: &[u8]) -> &str {
    let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
    // Python counts some control characters as blanks.
    let blank = |c: char| c.is_ascii_whitespace() || matches!(c, '\x0b' | '\x1c'..='\x1f');
    std::str::from_utf8(line.get(..end).unwrap_or_default()).unwrap_or_default().trim_matches(blank)
}
