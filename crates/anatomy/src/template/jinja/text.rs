//! What Python does with text: its white space, its lines, its way to write a text down.

/// White space of `str.strip` and `str.isspace`: Unicode's and the four separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Where `str.splitlines` breaks.
fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `str.splitlines`.
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((at, found)) = rest.char_indices().find(|(_, c)| is_break(*c)) else {
            lines.push(rest);
            break;
        };
        let mut end = at + found.len_utf8();
        if rest.get(at..).is_some_and(|rest| rest.starts_with("\r\n")) {
            end = at + 2;
        }
        lines.extend(rest.get(..if keep_ends { end } else { at }));
        rest = rest.get(end..).unwrap_or("");
    }
    lines
}

/// Whether `repr` writes a character as it is. The standard library's rule for debug output is the same: everything
/// but control, format, private, unassigned and surrogate characters and separators other than the space.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // A combining character is only escaped where it stands first.
    let mut pair = String::from("a");
    pair.push(c);
    pair.escape_debug().nth(1) == Some(c)
}

/// A text as Python's `repr` writes it.
pub fn repr(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => match u32::from(c) {
                code @ ..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
    out
}

/// A float as Python's `repr` and `str` write it.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_string();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    // The shortest digits that read back as the same number, which both languages choose.
    let shortest = format!("{number:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `str.capitalize`.
pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    title_case(first) + &chars.as_str().to_lowercase()
}

/// A character at the start of a word. The few that have a title form of their own are digraphs.
fn title_case(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_string(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_string(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_string(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_string(),
        'ß' => "Ss".to_string(),
        c => c.to_uppercase().collect(),
    }
}

/// `str.title`: each run of letters begins large.
pub fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        let cased = c.is_lowercase() || c.is_uppercase();
        if within {
            out.extend(c.to_lowercase());
        } else {
            out.push_str(&title_case(c));
        }
        within = cased;
    }
    out
}

/// Escapes for HTML, as MarkupSafe does.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A character of a text, counted from the start, or from the end where negative.
pub fn char_at(text: &str, index: i128) -> Option<&str> {
    let at = if index >= 0 {
        text.char_indices().nth(usize::try_from(index).ok()?)?.0
    } else {
        text.char_indices().nth_back(usize::try_from(-(index + 1)).ok()?)?.0
    };
    let rest = text.get(at..)?;
    rest.get(..rest.chars().next()?.len_utf8())
}
