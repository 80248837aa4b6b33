//! Numbers for people: binary units, parameter counts, shares.

/// Bytes in binary units to three significant digits: `16.1 GiB`, `812 B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        // 1023.5 would be printed as 1024.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", three_digits(value))
}

/// A count of learned numbers: `8.03 B`, `134.5 M`, `85,001`.
pub fn parameters(count: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e12, "T"), (1e9, "B"), (1e6, "M")];
    let value = count as f64;
    for (size, unit) in UNITS {
        if value >= size * 0.9995 {
            return format!("{} {unit}", three_digits(value / size));
        }
    }
    thousands(count)
}

/// A count with its thousands apart: `8,030,261,248`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share of a whole in per cent: `70.2 %`. What is not nothing is never shown as 0, and what is
/// not all never as 100.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 || part == 0 {
        return "0 %".to_string();
    }
    if part == whole {
        return "100 %".to_string();
    }
    let share = part as f64 * 100.0 / whole as f64;
    if share < 0.01 {
        "< 0.01 %".to_string()
    } else if share > 99.99 {
        "> 99.99 %".to_string()
    } else if !(1.0..=99.0).contains(&share) {
        format!("{share:.2} %")
    } else {
        format!("{share:.1} %")
    }
}

/// A number to three significant digits.
pub fn three_digits(value: f64) -> String {
    if value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// `1 tensor`, `2 tensors`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// Whether a character steers a terminal, or reorders or hides text on it.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}' | '\u{fff9}'..='\u{fffb}')
}

/// Text of strangers made safe for a terminal: control characters and those that reorder or hide
/// text are shown as escapes.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// At most `width` characters, the middle of a longer text replaced by `…`.
pub fn elide(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_string();
    }
    let keep = width.saturating_sub(1);
    let front = keep.div_ceil(2);
    let back = keep - front;
    let mut out: String = text.chars().take(front).collect();
    out.push('…');
    out.extend(text.chars().skip(count - back));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (98_362_432, "93.8 MiB"),
            (1_048_575, "1.00 MiB"),
            (17_179_869_184, "16.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn shares_do_not_round_to_all_or_nothing() {
        assert_eq!(percent(0, 5), "0 %");
        assert_eq!(percent(1, 1_000_000), "< 0.01 %");
        assert_eq!(percent(999_999, 1_000_000), "> 99.99 %");
        assert_eq!(percent(9_998, 10_000), "99.98 %");
        assert_eq!(percent(702, 1000), "70.2 %");
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(parameters(8_030_261_248), "8.03 B");
        assert_eq!(parameters(134_515_008), "135 M");
        assert_eq!(parameters(85_001), "85,001");
        assert_eq!(parameters(671_026_419_200), "671 B");
        assert_eq!(parameters(999_999_999), "1.00 B");
    }

    #[test]
    fn strangers_text_cannot_steer_a_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(safe("größe → 模型"), "größe → 模型");
    }
}
