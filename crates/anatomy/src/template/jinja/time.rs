//! `strftime_now`.

use jiff::civil::DateTime;

use super::fault::{Result, unsupported, wrong};

/// A time by the pattern of C's `strftime`, as in the C locale.
pub fn format(pattern: &str, now: Option<DateTime>) -> Result<String> {
    let Some(now) = now else {
        return unsupported("the template asks for the time, and none was given");
    };
    // What a locale decides, spelled out for C's.
    let mut spelled = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        spelled.push(c);
        if c != '%' {
            continue;
        }
        match chars.next() {
            Some('c') => spelled.push_str("a %b %e %H:%M:%S %Y"),
            Some('x' | 'D') => spelled.push_str("m/%d/%y"),
            Some('X' | 'T') => spelled.push_str("H:%M:%S"),
            Some('r') => spelled.push_str("I:%M:%S %p"),
            Some('R') => spelled.push_str("H:%M"),
            Some('h') => spelled.push('b'),
            Some('f') => {
                // Microseconds; Python's own addition.
                spelled.pop();
                spelled.push_str(&format!("{:06}", now.subsec_nanosecond() / 1000));
            }
            // A time without a zone shows neither its name nor its offset.
            Some('z' | 'Z') => drop(spelled.pop()),
            Some(other) => spelled.push(other),
            None => spelled.push('%'),
        }
    }
    match jiff::fmt::strtime::format(&spelled, now) {
        Ok(text) => Ok(text),
        Err(error) => wrong(format!("strftime_now does not know a part of '{pattern}': {error}")),
    }
}
